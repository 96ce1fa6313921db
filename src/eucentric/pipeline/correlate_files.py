"""`eucentric correlate`: a light-microscope image registered to a tomogram or grid map by landmarks, on disk."""

import io
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.figures.correlative import Placed, correlative_overlay
from eucentric.fitting.landmarks import LandmarkFit, fit_landmarks
from eucentric.fitting.match_points import match_points
from eucentric.geometry.affine import Affine
from eucentric.io.atomic import make_folder, write_bytes_atomic, write_text_atomic
from eucentric.io.landmark_files import LandmarkPairs, read_landmarks, read_points, write_landmarks
from eucentric.io.mrc import write_mrc
from eucentric.pipeline import records
from eucentric.pipeline.correlate_params import CorrelateParams
from eucentric.pipeline.correlate_record import caveats_of, registration_values, write_correlate_record
from eucentric.pipeline.correlate_source import FOLDER, RECORD, CorrelateInputs, Source, open_source
from eucentric.pipeline.correlate_target import Grid, Target, map_target, tomogram_target
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.signal.resample_affine import resample_affine
from eucentric.typing import FloatArray

LANDMARKS = "landmarks.star"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FINER = 4
_REACH = 4.0
_MOST_VOXELS = 2**29
_PICTURE_PX = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrelateMade:
    """What was written, and how good it is. Lengths are A."""

    folder: Path
    files: tuple[Path, ...]
    about: dict[str, Any]
    """As `registration.json` holds it."""


def correlate_files(
    root: Path, name: str, inputs: CorrelateInputs, params: CorrelateParams, *, overwrite: bool = False
) -> CorrelateMade:
    """Register an image and write it in the frame of its target, with the figures of the registration.

    Parameters
    ----------
    root : the project
    name : of the registration; its folder is `correlate/NAME`

    Raises
    ------
    InputError : no or two targets, too few landmarks, pixel sizes that are not known, images that do not meet, files in the way
    FormatError : files that are not what they should be
    """
    started, clock = records.now(), time.perf_counter()
    if not _NAME.fullmatch(name):
        raise InputError(
            f"`{name}` cannot be a name of a registration; expected letters, digits, `_`, `-` and `.` only."
        )
    folder = root / FOLDER / name
    target = _target(root, inputs)
    source = open_source(root, inputs, params)
    pairs = read_landmarks(inputs.landmarks)
    caveats: list[str] = []
    d = _dimensions(pairs, source, target, caveats)
    fit = fit_landmarks(
        source.places(pairs.moving)[:, :d],
        target.places(pairs.fixed, params.target_units)[:, :d],
        params.kind,
        mirror=params.mirror,
    )
    final, beads = _refined(fit, inputs, params, source, target, d)
    whole = final.transform if source.before is None else final.transform.after(source.before)
    files = [folder / f"{target.name}_{channel}.mrc" for channel in source.image.channels]
    pictures = [folder / f"overlay_{channel}.png" for channel in source.image.channels]
    outputs = [*files, *pictures, folder / LANDMARKS, folder / RECORD]
    given = [
        p for p in (inputs.landmarks, source.path, inputs.fluorescence_beads, inputs.target_beads) if p is not None
    ]
    refuse_to_replace(outputs, given, overwrite)
    caveats += caveats_of(fit, final, pairs)
    grid = target.grid(_voxel(params, source, target, whole))
    volumes = [_resampled(source, channel, whole, grid, target) for channel in range(len(files))]
    background = target.picture()
    make_folder(folder)
    for volume, file, picture, channel in zip(volumes, files, pictures, source.image.channels, strict=True):
        write_mrc(file, volume, grid.voxel, labels=[f"fluorescence registered by {int(final.used.sum())} landmarks"])
        written = Placed(values=volume.max(axis=0), extent=grid.extent())
        light = _light_picture(source, source.image.channels.index(channel), whole, written, _places_of(fit)[:, :2])
        _draw(picture, background, light, fit, final, pairs.names, f"{name}, {channel}")
    left = np.linalg.norm(fit.errors, axis=1)
    write_landmarks(folder / LANDMARKS, pairs, fit.used.tolist(), left, fit.left_out_errors)
    about = registration_values(name, target, source, params, fit, final, whole, beads, pairs, grid, caveats)
    write_text_atomic(folder / RECORD, json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_correlate_record(root, folder, params, about, given, outputs, started, clock)
    return CorrelateMade(folder=folder, files=tuple(files), about=about)


def _target(root: Path, inputs: CorrelateInputs) -> Target:
    if (inputs.series is None) == (inputs.map_file is None):
        raise InputError("Give one target: --series NAME for the tomogram of a series, or --map FILE for a grid map.")
    if inputs.series is not None:
        return tomogram_target(root, inputs.series)
    assert inputs.map_file is not None
    return map_target(inputs.map_file, inputs.map_pixel_size)


def _dimensions(pairs: LandmarkPairs, source: Source, target: Target, caveats: list[str]) -> int:
    """3 where both images have depth and all landmarks tell it."""
    told = min(pairs.moving.shape[1], pairs.fixed.shape[1])
    deep = source.size_xyz[2] > 1 and not target.is_map and source.before is None
    if told == 3 and deep:
        if not source.spacing[2]:
            raise InputError(
                f"`{source.path}` does not tell the step between its sections. Give it with --step-angstrom."
            )
        return 3
    if max(pairs.moving.shape[1], pairs.fixed.shape[1]) == 3:
        caveats.append("Landmarks were used without their z: it is not known in both images.")
    if source.size_xyz[2] > 1:
        caveats.append(
            "The stack was projected (brightest section), since landmarks do not tell its depth in the target."
        )
    return 2


def _refined(
    fit: LandmarkFit, inputs: CorrelateInputs, params: CorrelateParams, source: Source, target: Target, d: int
) -> tuple[LandmarkFit, dict[str, Any] | None]:
    """The registration by beads of both images, where they are given."""
    if inputs.fluorescence_beads is None and inputs.target_beads is None:
        return fit, None
    if inputs.fluorescence_beads is None or inputs.target_beads is None:
        raise InputError("Beads are needed of both images: --fluorescence-beads FILE and --target-beads FILE.")
    moving = source.places(_points(inputs.fluorescence_beads, d))
    fixed = target.places(_points(inputs.target_beads, d), params.target_units)
    reach = params.bead_reach_angstrom or _REACH * fit.left_out_rms
    found = match_points(fit, moving, fixed, reach)
    about = {
        "fluorescence": len(moving),
        "target": len(fixed),
        "pairs": int(found.fit.used.sum()),
        "reach_angstrom": reach,
        "rms_angstrom": found.fit.rms,
        "left_out_rms_angstrom": found.fit.left_out_rms,
    }
    return found.fit, about


def _points(path: Path, d: int) -> FloatArray:
    points = read_points(path)
    if points.shape[1] < d:
        raise InputError(f"`{path}` has no column z, but the images are registered in three dimensions.")
    return points[:, :d]


def _voxel(params: CorrelateParams, source: Source, target: Target, whole: Affine) -> float:
    voxel = params.voxel_size_angstrom or max(target.voxel, float(source.spacing[0]) * whole.scale / _FINER)
    count = int(np.prod(target.grid(voxel).shape_zyx, dtype=np.int64))
    if count > _MOST_VOXELS:
        raise InputError(f"Voxels of {voxel:g} A make {count:,} of them. Give a larger --voxel-size-angstrom.")
    return voxel


def _resampled(source: Source, channel: int, whole: Affine, grid: Grid, target: Target) -> NDArray[np.float32]:
    """(z, y, x) on the grid; an image without depth is the same in all sections."""
    values = source.image.values[channel]
    if len(whole.offset) == 3:
        volume, inside = resample_affine(values, source.spacing, whole, grid.shape_zyx, grid.voxel, grid.first)
    else:
        plane = values.max(axis=0)
        flat, inside = resample_affine(plane, source.spacing[:2], whole, grid.shape_zyx[1:], grid.voxel, grid.first[:2])
        volume = np.repeat(flat[None], grid.shape_zyx[0], axis=0)
    if not inside.any():
        raise InputError(
            f"By the landmarks `{source.path.name}` does not reach {target.name} anywhere. "
            "Check which columns are of which image, and their units (--target-units)."
        )
    return volume


def _light_picture(source: Source, channel: int, whole: Affine, volume: Placed, around: FloatArray) -> Placed:
    """The channel over all that a picture shows; of a registration in space only what was written."""
    if len(whole.offset) == 3:
        return volume
    left, right, bottom, top = volume.extent
    low = np.minimum(around.min(axis=0), [left, bottom])
    high = np.maximum(around.max(axis=0), [right, top])
    step = float((high - low).max()) / _PICTURE_PX
    columns, rows = (int(n) for n in np.ceil((high - low) / step))
    plane = source.image.values[channel].max(axis=0)
    shown, _ = resample_affine(plane, source.spacing[:2], whole, (rows, columns), step, low + 0.5 * step)
    return Placed(values=shown, extent=(low[0], low[0] + columns * step, low[1], low[1] + rows * step))


def _draw(
    path: Path,
    background: Placed,
    light: Placed,
    fit: LandmarkFit,
    final: LandmarkFit,
    names: tuple[str, ...],
    title: str,
) -> None:
    mapped = final.transform(fit.moving)[:, :2]
    figure = correlative_overlay(background, light, names, _places_of(fit)[:, :2], mapped, fit.used, title=title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_bytes_atomic(path, buffer.getvalue())


def _places_of(fit: LandmarkFit) -> FloatArray:
    """(landmark, d) A, in the target."""
    return np.asarray(fit.transform(fit.moving) + fit.errors)
