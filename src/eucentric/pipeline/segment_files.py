"""Membranes of one tomogram, from file to files."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.io.atomic import make_folder
from eucentric.io.mrc import read_mrc_header, write_mrc
from eucentric.io.particles import write_particles
from eucentric.pipeline.apply_segmenter_files import read_segmenter
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.label_files import read_mask, write_labels
from eucentric.pipeline.learned_files import specimen_region
from eucentric.pipeline.reprojecting import read_volume
from eucentric.pipeline.segment_outputs import LABELS, MEASURES, MESHES, POINTS, SCORES
from eucentric.pipeline.surface_files import write_surface_files, write_table
from eucentric.pipeline.surface_params import SurfaceParams
from eucentric.segmentation.learned.segmenter import Segmenter
from eucentric.segmentation.membranes.learned_membranes import learned_membranes
from eucentric.segmentation.membranes.segment_membranes import segment_membranes
from eucentric.segmentation.membranes.sheets import Membranes
from eucentric.segmentation.stage_params import SegmentParams

_MOST_LABELS = 32767  # that int16 holds
_BORDER_PX = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSource:
    """A tomogram to be segmented."""

    tomogram: TomogramFile
    voxel_size_angstrom: float | None = None
    """In place of the header's."""
    half1: Path | None = None
    half2: Path | None = None
    """Half volumes, whose difference tells the noise to the method without training."""
    protect: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentedFile:
    """What was made of a tomogram."""

    written: tuple[Path, ...]
    figures: dict[str, float] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()


def segment_file(
    source: SegmentSource,
    place: Callable[..., Path],
    params: SegmentParams,
    model: str,
    *,
    device: torch.device,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> SegmentedFile:
    """Find the membranes of a tomogram; write labels, scores, meshes, oriented points and measures.

    Parameters
    ----------
    place : parts of a name to a path in the folder of results, as `ItemStore.output`
    model : file of the network, or `shipped`

    Raises
    ------
    InputError, FormatError : what was given cannot be used; the words name it
    """
    tell = on_progress or (lambda _: None)
    volume, voxel = read_volume(source.tomogram.path, source.voxel_size_angstrom, device, option="--pixel-size")
    counted = _counted(source, volume, voxel, params)
    name = source.tomogram.name
    tell(0.05)
    try:
        if params.method == "network":
            found = learned_membranes(
                volume, voxel, Segmenter.of_model(read_segmenter(model), device), params, counted=counted
            )
        else:
            noise = _noise(source, device)
            found = segment_membranes(volume, voxel, params.votes(seed), noise=noise, counted=counted)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    tell(0.8)
    caveats: tuple[str, ...] = ()
    if not len(found.areas_angstrom2):
        caveats = (
            f"No membrane was found in {name}. Check the contrast and the voxel size, or lower the threshold and the least area.",
        )
    marked = found.labels.cpu().numpy()
    if len(found.areas_angstrom2) > _MOST_LABELS:
        raise InputError(f"{name}: more than {_MOST_LABELS} pieces were found. Raise --min-area-angstrom2.")
    labels, score = place(LABELS, f"{name}.mrc"), place(SCORES, f"{name}.mrc")
    write_labels(labels, marked, voxel)
    write_mrc(score, found.score.cpu().numpy(), voxel, "float16")
    points, measures = place(POINTS, f"{name}.star"), place(MEASURES, f"{name}.csv")
    written: tuple[Path, ...] = (labels, score, measures)
    if marked.any():
        surfaces = write_surface_files(
            marked,
            voxel,
            place(MESHES, name).parent,
            name,
            SurfaceParams(
                format=params.meshes,
                spacing_angstrom=params.point_spacing_angstrom,
                contrast=params.contrast,
                seed=seed,
            ),
            tomogram=volume.cpu().numpy(),
        )
        write_particles(points, surfaces.points, "relion5")
        write_table(measures, surfaces.table)
        written = (*written, points, *surfaces.meshes)
        for number, why in surfaces.passed_over.items():
            caveats += (f"Membrane {number} of {name} has no mesh: {why}",)
    else:
        write_table(measures, {"label": np.zeros(0, dtype=np.int64)})
    tell(1.0)
    return SegmentedFile(
        written=written,
        figures=_figures(found, marked),
        caveats=caveats,
    )


def segment_to_folder(
    source: SegmentSource, folder: Path, params: SegmentParams, *, device: torch.device
) -> SegmentedFile:
    """As :func:`segment_file`, of one tomogram that belongs to no project."""

    def place(*parts: str) -> Path:
        path = folder.joinpath(*parts)
        make_folder(path.parent)
        return path

    made = segment_file(source, place, params, params.model, device=device)
    # what another run left of more membranes
    name = source.tomogram.name
    meshes = [path for path in (folder / MESHES).glob("*.*") if re.fullmatch(re.escape(name) + r"(_\d+)?", path.stem)]
    for old in {*meshes, folder / POINTS / f"{name}.star"} - set(made.written):
        old.unlink(missing_ok=True)
    return made


def _figures(found: Membranes, labels: np.ndarray) -> dict[str, float]:
    sheets = float(len(found.areas_angstrom2))
    size = np.array(labels.shape[::-1])
    edge = (found.places_px < _BORDER_PX) | (found.places_px > size - 1 - _BORDER_PX)
    return {
        "sheets": sheets,
        "membrane_area_um2": float(found.areas_angstrom2.sum()) * 1e-8,
        "largest_sheet_um2": float(found.areas_angstrom2.max(initial=0.0)) * 1e-8,
        "labelled_percent": 100.0 * float((labels > 0).mean()),
        "mean_score": float(found.score.cpu().numpy()[labels > 0].mean()) if sheets else float("nan"),
        "seen_percent": 100.0 * float(found.seen.mean()) if sheets else float("nan"),
        "at_border_percent": 100.0 * float(edge.any(axis=1).mean()) if sheets else float("nan"),
    }


def _counted(
    source: SegmentSource, volume: Tensor, voxel: float, params: SegmentParams
) -> Bool[Tensor, "z y x"] | None:
    """Where membranes may be; None for everywhere."""
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    region = specimen_region(source.tomogram, shape, voxel) if params.specimen_only else None
    if source.protect is not None:
        protected = torch.from_numpy(read_mask(source.protect, source.tomogram.name, shape))
        if bool(protected.all()):
            raise InputError(f"The mask `{source.protect}` protects every voxel: nothing is left to look at.")
        region = ~protected if region is None else region & ~protected
    if region is None or bool(region.all()):
        return None
    return region.to(volume.device)


def _noise(source: SegmentSource, device: torch.device) -> Tensor | None:
    """Half the difference of the halves; None without them."""
    if source.half1 is None or source.half2 is None:
        return None
    shapes = [read_mrc_header(path).shape for path in (source.half1, source.half2, source.tomogram.path)]
    if len(set(shapes)) > 1:
        raise ShapeError(
            f"The halves have shapes {shapes[0]} and {shapes[1]}, and the tomogram {shapes[2]}; expected the same (z, y, x)."
        )
    halves = [read_volume(half, source.voxel_size_angstrom or 1.0, device)[0] for half in (source.half1, source.half2)]
    return halves[0].sub_(halves[1]).mul_(0.5)
