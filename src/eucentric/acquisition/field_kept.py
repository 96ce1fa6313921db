"""How much of the field of the untilted image the other images of a series show too."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.measure_track import pose_matrices
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import TiltPose
from eucentric.typing import FloatArray

_POINTS = 48  # along each side of the field
_MOST = 0.9  # of the images
_STEEPEST_DEG = 85.0  # a plane seen from its edge has no field


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldKept:
    """Fractions of the field of the image nearest to zero tilt, of points in the plane of the specimen."""

    by_all: float
    """That every image shows."""
    by_most: float
    """That 90% of the images show."""
    by_image: FloatArray
    """(n,), that each image shows."""


def field_kept(
    poses: Sequence[TiltPose], extent_angstrom: tuple[float, float], specimen: Specimen | None = None
) -> FieldKept:
    """Follow the points of the untilted field through a series.

    Parameters
    ----------
    poses : (n)
    extent_angstrom : x and y, of the images
    specimen : the plane in which points lie; without it, that of the specimen centre
    """
    turns = pose_matrices(poses)
    shifts = np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for p in poses])
    half = np.asarray(extent_angstrom) / 2.0
    normal, height = _plane(specimen)
    untilted = int(np.argmin([abs(p.y_tilt_deg) for p in poses]))
    places = np.stack(
        np.meshgrid(*((np.arange(_POINTS) + 0.5) / _POINTS * 2.0 - 1.0,) * 2, indexing="ij"), axis=-1
    ).reshape(-1, 2)
    points = _on_plane(places * half - shifts[untilted], turns[untilted], normal, height)
    seen = np.einsum("nij,pj->npi", turns[:, :2], points) + shifts[:, None]
    inside = (np.abs(seen) <= half * (1.0 + 1e-9)).all(axis=2)
    return FieldKept(
        by_all=float(inside.all(axis=0).mean()),
        by_most=float((inside.mean(axis=0) >= _MOST).mean()),
        by_image=np.asarray(inside.mean(axis=1)),
    )


def _plane(specimen: Specimen | None) -> tuple[FloatArray, float]:
    """Normal, and height at x = y = 0; level where that is not known or would stand on its edge."""
    tilts = (0.0, 0.0) if specimen is None else (specimen.x_tilt_deg, specimen.y_tilt_deg)
    height = 0.0 if specimen is None or not np.isfinite(specimen.z_angstrom) else specimen.z_angstrom
    if not np.isfinite(tilts).all() or max(abs(t) for t in tilts) > _STEEPEST_DEG:
        return np.array([0.0, 0.0, 1.0]), height
    x, y = np.deg2rad(tilts)
    return np.array([np.sin(y) * np.cos(x), -np.sin(x), np.cos(y) * np.cos(x)]), height


def _on_plane(places: FloatArray, turn: FloatArray, normal: FloatArray, height: float) -> FloatArray:
    """(p, 3) points of the plane that are seen at places (p, 2) of an image whose shift is 0."""
    start = places @ turn[:2]  # the points of these rays at the camera's height 0
    along = turn[2]
    reach = (height * normal[2] - start @ normal) / float(along @ normal)
    return np.asarray(start + reach[:, None] * along)
