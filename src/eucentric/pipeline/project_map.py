"""`eucentric project-map`: a map for other programs, and its projections as templates for picking."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eucentric.averaging.iterate_average import on_voxels
from eucentric.averaging.project_views import project_views, view_angles
from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.rotations import Rotation
from eucentric.io.atomic import make_folder
from eucentric.io.mrc import write_mrc
from eucentric.io.star import write_star
from eucentric.pipeline.half_maps import read_about
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace

STACK, TABLE, MODEL = "templates.mrcs", "templates.star", "initial_model.mrc"
_WHITE = "protein white, voxel n // 2 is the centre, hand as in the map it is of"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedMap:
    """What was written."""

    stack: Path
    table: Path
    model: Path
    views: int
    box_size: int
    pixel_size_angstrom: float


def project_map_files(
    target: Path,
    output: Path,
    *,
    device: torch.device,
    step_deg: float = 30.0,
    symmetry: str | None = None,
    pixel_size: float | None = None,
    box_size: int | None = None,
    low_pass_angstrom: float = 20.0,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> ProjectedMap:
    """Write a map as a start for other programs, and its projections from all sides with their angles.

    Parameters
    ----------
    target : folder of an average, or a map, protein bright
    step_deg : between neighbouring views
    symmetry : of the map; that of the average's record, or C1, where None
    pixel_size : A, of what is written; that of the map where None
    box_size : pixels, even; what spans the map's box where None
    low_pass_angstrom : detail of what is written; 0 leaves all

    Raises
    ------
    InputError : no such map, one that is no cube, or files in the way
    """
    source = target / "map.mrc" if target.is_dir() else target
    paths = [output / name for name in (STACK, TABLE, MODEL)]
    refuse_to_replace(paths, [source], overwrite)
    volume, voxel = read_volume(source, voxel_size, device)
    if len(set(volume.shape)) != 1:
        found = " x ".join(map(str, volume.shape))
        raise InputError(f"The map `{source}` has {found} voxels; expected a cube with the particle in its middle.")
    if not bool(torch.isfinite(volume).all()) or float(volume.std()) == 0.0:
        raise InputError(f"The map `{source}` is empty, or holds values that are no numbers.")
    pixel = pixel_size or voxel
    if not pixel > 0 or (box_size is not None and (box_size < 8 or box_size % 2)):
        raise InputError(
            f"A pixel size of {pixel:g} A and boxes of {box_size} pixels were given; expected an even 8 or more."
        )
    size = box_size or 2 * round(0.5 * volume.shape[0] * voxel / pixel)
    settings = read_about(target).get("average") if target.is_dir() else None
    group = symmetry or (settings.get("symmetry") if isinstance(settings, dict) else None) or "C1"
    angles = view_angles(step_deg, group)
    small = on_voxels(volume, voxel, pixel, size)
    if low_pass_angstrom > 0:
        grid = frequency_grid(tuple(small.shape), pixel, device=small.device)
        kept = band_pass(grid, low_pass_angstrom=max(low_pass_angstrom, 2.0 * pixel))
        small = torch.fft.irfftn(torch.fft.rfftn(small) * kept, s=small.shape)
    line = torch.arange(size, dtype=small.dtype, device=small.device) - size // 2
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    small = small * soft_edge(radius, 0.5 * size - 3.0, 0.5 * size - 1.0)
    images = project_views(small, Rotation.from_relion(*angles.T).matrices, pixel).cpu().numpy()
    make_folder(output)
    write_mrc(paths[0], images.astype(np.float32), pixel, labels=(_WHITE,), is_volume=False)
    write_mrc(paths[2], small.cpu().numpy().astype(np.float32), pixel, labels=(_WHITE,))
    write_star(
        paths[1],
        {
            "optics": {
                "rlnOpticsGroup": [1],
                "rlnOpticsGroupName": ["opticsGroup1"],
                "rlnImagePixelSize": [pixel],
                "rlnImageSize": [size],
                "rlnImageDimensionality": [2],
            },
            "particles": {
                "rlnImageName": [f"{i + 1:06d}@{STACK}" for i in range(len(images))],
                "rlnAngleRot": angles[:, 0].tolist(),
                "rlnAngleTilt": angles[:, 1].tolist(),
                "rlnAnglePsi": angles[:, 2].tolist(),
                "rlnOpticsGroup": [1] * len(images),
            },
        },
    )
    return ProjectedMap(
        stack=paths[0], table=paths[1], model=paths[2], views=len(images), box_size=size, pixel_size_angstrom=pixel
    )
