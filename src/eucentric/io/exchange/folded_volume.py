"""Deformation of the specimen for formats that know deformed images only, and how far it misses."""

from dataclasses import replace

import numpy as np
import torch

from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import combined
from eucentric.io.exchange.loss_sizes import specimen_corners
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.typing import FloatArray

_UNTOLD = 0.02  # A
_PLACES = (5, 9, 9)  # z, y, x in the specimen, for measuring


def specimen_places(geometry: SeriesGeometry) -> FloatArray:
    """(n, 3) A: places evenly over the specimen's box, that of the images and the thickness where no size is known."""
    half = specimen_corners(geometry).max(axis=0)
    if geometry.series.thickness_angstrom is not None:
        half[2] = min(half[2], 0.5 * geometry.series.thickness_angstrom)
    lines = [np.linspace(-1.0, 1.0, n) * edge for n, edge in zip(_PLACES, half[::-1], strict=True)]
    return np.stack(np.meshgrid(*lines, indexing="ij")[::-1], axis=-1).reshape(-1, 3)


def deformation_rms_angstrom(geometry: SeriesGeometry) -> float:
    """How far the specimen's places move, root mean square; 0 where it does not deform."""
    if geometry.volume is None:
        return 0.0
    return _rms(geometry.volume.along(specimen_places(geometry), geometry.series.middle_doses))


def folded(geometry: SeriesGeometry) -> tuple[SeriesGeometry, tuple[str, ...]]:
    """The series with its specimen's deformation as images show it at mid-height, and a sentence on what that misses.

    Raises
    ------
    InputError : a deformed specimen in a series that is not aligned or has no doses
    """
    series, volume = geometry.series, geometry.volume
    if volume is None:
        return geometry, ()
    tilts = TiltGeometry.from_poses(series.poses)
    fold = volume.folded(tilts, series.middle_doses, series.image_shape, series.pixel_size_angstrom)
    places = specimen_places(geometry)
    shown = tilts.project(places)[..., :2]
    moved = volume.along(places, series.middle_doses)
    exact = np.einsum("tij,tnj->tni", tilts.image_matrices, moved)
    half = 0.5 * np.array(series.image_shape[::-1]) * series.pixel_size_angstrom
    away = []
    for tilt, (at, true) in enumerate(zip(shown, exact, strict=True)):
        inside = np.all(np.abs(at) < half, axis=1)
        away.append(fold.at(tilt, torch.from_numpy(np.ascontiguousarray(at[inside]))).numpy() - true[inside])
    missed = _rms(np.concatenate(away))
    told = replace(geometry, warp=combined(geometry.warp, fold), volume=None)
    if missed < _UNTOLD:
        return told, ()
    return told, (
        f"{series.name}: the deformation of the specimen ({deformation_rms_angstrom(geometry):.2f} A rms) is held as images show it "
        f"at mid-height; over the whole specimen that is {missed:.2f} A rms off.",
    )


def _rms(vectors: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(np.square(vectors), axis=-1)))) if vectors.size else 0.0
