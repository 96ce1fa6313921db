"""Learned picking on disk: what all its commands read and write."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import read_mrc
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.networks.model_file import Model, model_from_bytes
from eucentric.networks.prepare_volume import PreparedVolume, prepare_volume
from eucentric.picking.learned.calibrate import Calibration
from eucentric.picking.learned.params import PickerClass
from eucentric.picking.learned.train_picker import PURPOSE
from eucentric.pipeline.blob_files import TomogramFile, find_tomograms, slab_region
from eucentric.pipeline.curation_lists import not_left_out
from eucentric.pipeline.particle_files import Grids, read_list
from eucentric.pipeline.reprojecting import read_volume
from eucentric.pipeline.shipped_model import SHIPPED, read_model_bytes

_PACKAGE = "eucentric.picking.learned"
_SHIPPED_FILE = "object_picker.model"
_ABOVE_SPECIMEN = 100.0  # A beyond the estimated faces of the specimen that are still looked at


def read_model(model: str) -> Model:
    """The model of a file, or the one that comes with the program.

    Raises
    ------
    InputError : no such file
    FormatError : something else than a picker's model
    """
    raw, name = read_model_bytes(model, _PACKAGE, _SHIPPED_FILE, "eucentric pick train")
    return model_from_bytes(raw, name, purpose=PURPOSE)


def shipped_bytes() -> bytes:
    """The file of the model that comes with the program, read when it is asked for."""
    return read_model_bytes(SHIPPED, _PACKAGE, _SHIPPED_FILE, "eucentric pick train")[0]


def classes_of(model: Model) -> tuple[tuple[PickerClass, ...], tuple[Calibration, ...]]:
    """What a picker knows.

    Raises
    ------
    FormatError : settings of another kind of model
    """
    try:
        classes = tuple(PickerClass.model_validate(c) for c in model.settings["classes"])
        calibrations = tuple(Calibration(**c) for c in model.settings["calibrations"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("The model lacks its classes or their calibration. Train it again.") from error
    return classes, calibrations


def tomograms_to_use(target: Path, only: Sequence[str] | None) -> list[TomogramFile]:
    """Tomograms of a project, table or file, by names with wildcards; of a project less the series that are left out by hand.

    Raises
    ------
    InputError : none of that name
    """
    found = not_left_out(find_tomograms(target), target)
    if not only:
        return found
    chosen = [one for one in found if any(fnmatchcase(one.name, pattern) for pattern in only)]
    if not chosen:
        raise InputError(
            f"No tomogram is called {' or '.join(only)}. There are: {', '.join(one.name for one in found)}."
        )
    return chosen


def read_prepared(
    one: TomogramFile,
    voxel_size: float,
    device: torch.device,
    *,
    mask: Path | None = None,
    pixel_size: float | None = None,
) -> PreparedVolume:
    """A tomogram as a network sees it, its region the specimen where that is known, and the mask where one is given.

    Parameters
    ----------
    voxel_size : A, of the network
    mask : volume of the tomogram's shape, or a folder with `<tomogram>.mrc` for each
    pixel_size : A per voxel, of a tomogram whose header holds none

    Raises
    ------
    InputError : as :func:`prepare_volume`; a mask of another shape
    """
    volume, voxel = read_volume(one.path, pixel_size, device)
    z, y, x = volume.shape
    region = specimen_region(one, (z, y, x), voxel)
    if mask is not None:
        file = mask / f"{one.name}.mrc" if mask.is_dir() else mask
        given = np.array(read_mrc(file)[0])
        if given.shape != (z, y, x):
            raise InputError(
                f"The mask `{file}` has shape {given.shape} and the tomogram {(z, y, x)}; expected the same."
            )
        if not (given > 0).any():
            raise InputError(f"The mask `{file}` is empty: no voxel is above 0. Check its threshold.")
        region &= torch.from_numpy(given > 0)
    try:
        return prepare_volume(volume, voxel, voxel_size, region.to(device))
    except InputError as error:
        raise InputError(f"{one.name}: {error}") from error


def specimen_region(one: TomogramFile, shape: tuple[int, int, int], voxel_size: float) -> Bool[Tensor, "z y x"]:
    """Where the specimen may be: between its faces, where these are known, and some way beyond."""
    specimen = one.specimen
    if specimen is None or not np.isfinite(specimen.thickness_angstrom):
        return torch.ones(shape, dtype=torch.bool)
    sigma = specimen.thickness_sigma_angstrom
    half = 0.5 * specimen.thickness_angstrom + (sigma if np.isfinite(sigma) else 0.0) + _ABOVE_SPECIMEN
    frame = TomogramFrame(voxel_size_angstrom=voxel_size, size_xyz=(shape[2], shape[1], shape[0]))
    return torch.from_numpy(slab_region(frame, -half, half, specimen))


def grids_of(target: Path) -> Grids:
    """The tomograms of a project, table or file, for lists in their voxels."""
    table = target / "reconstruct" / "tilt_series.star" if target.is_dir() else target
    return Grids(tomograms=table if table.is_file() else None)


def example_particles(
    target: Path, place: tuple[float, float, float] | None, tomogram: str | None, file: Path | None
) -> ParticleSet | None:
    """Examples from one place or from a list; None where neither is given.

    Raises
    ------
    InputError : both, or a place in one of several tomograms that is not named
    """
    if place is not None and file is not None:
        raise InputError("Give either --like X Y Z or --examples FILE.")
    if file is not None:
        return read_list(file, grids_of(target))
    if place is None:
        return None
    names = [one.name for one in find_tomograms(target)]
    if tomogram is None and len(names) > 1:
        raise InputError(f"Give --tomogram with the one that the example lies in: {', '.join(names)}.")
    if tomogram is not None and tomogram not in names:
        raise InputError(f"No tomogram is called {tomogram}. There are: {', '.join(names)}.")
    return ParticleSet.build(tomogram or names[0], [place])
