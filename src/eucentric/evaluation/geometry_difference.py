"""How far two descriptions of one tilt series lie apart: where they see the points of a phantom, and what CTFs they give them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.typing import FloatArray

_FAR_DEG = 1.0
# No plane holds them, and no turn or mirror brings them onto each other: fractions of half the field, and of half the depth.
_PHANTOM = np.array(
    [
        [0.0, 0.0, 0.0], [0.7, 0.1, 0.6], [-0.5, 0.65, 0.2], [0.45, -0.6, -0.8], [-0.65, -0.3, 0.9], [0.2, 0.7, -0.5],
        [-0.1, -0.7, 0.4], [0.6, 0.5, -1.0], [-0.7, 0.2, -0.3], [0.3, -0.2, 1.0],
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenPhantom:
    """Where two descriptions see the points, for the tilts that both have."""

    tilts_deg: FloatArray
    """(tilt,) of the first."""
    first_px: FloatArray
    """(tilt, point, 2): x and y, counted from 0."""
    second_px: FloatArray
    image_shape: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeometryDifference:
    """Largest differences over tilts and points."""

    position_px: float
    """Distance of the images of a point; NaN where either has no poses."""
    position_rms_px: float
    angle_deg: float
    """Between the rotations from specimen to camera; an error beside the position."""
    defocus_angstrom: float
    """At the specimen centre, of U and V; NaN where either has no CTFs."""
    depth_defocus_angstrom: float
    """Of what the height of a point adds; a hand that is turned shows here."""
    hand_kept: bool
    tilts_missing: int
    """Tilts of the first that the second lacks."""
    seen: SeenPhantom | None


def phantom_points(series: TiltSeries) -> FloatArray:
    """(10, 3) A: points in the middle seven tenths of the field, and in a third of its width of depth or the specimen's thickness."""
    y, x = np.array(series.image_shape) * series.pixel_size_angstrom
    depth = series.thickness_angstrom or min(x, y) / 3.0
    return np.asarray(_PHANTOM * np.array([x, y, depth]) / 2.0)


def seen_points(series: TiltSeries, warp: ImageWarp | None, points: FloatArray) -> FloatArray:
    """(tilt, point, 3): pixels from 0 and height towards the camera's z in A, local deformation included.

    Raises
    ------
    InputError : a series without poses
    """
    camera = TiltGeometry.from_poses(series.poses).project(points)
    if warp is not None:
        for t, c in enumerate(camera):
            c[:, :2] += warp.at(t, torch.from_numpy(np.ascontiguousarray(c[:, :2]))).numpy()
    camera[..., :2] = camera[..., :2] / series.pixel_size_angstrom + np.array(series.image_shape[::-1]) // 2
    return camera


def compare_geometry(
    first: TiltSeries, second: TiltSeries, *, first_warp: ImageWarp | None = None, second_warp: ImageWarp | None = None
) -> GeometryDifference:
    """Differences of two descriptions of one series; tilts are brought together by their angles.

    Raises
    ------
    InputError : images of different shape or no tilt in common
    """
    if first.image_shape != second.image_shape:
        raise InputError(
            f"The images of {first.name} have {first.image_shape[::-1]} pixels in one description and {second.image_shape[::-1]} in "
            "the other. They cannot be compared."
        )
    posed = all(t.pose is not None for t in (*first.tilts, *second.tilts))
    a, b = _pairs(first, second, posed)
    fits = [(first.tilts[i].ctf, second.tilts[j].ctf) for i, j in zip(a, b, strict=True)]
    both = [(f, s) for f, s in fits if f is not None and s is not None]
    nothing = float("nan")
    position = rms = angle = depth = nothing
    seen = None
    if posed:
        points = phantom_points(first)
        at_first = seen_points(first, first_warp, points)[a]
        at_second = seen_points(second, second_warp, points)[b]
        away = np.linalg.norm(at_first[..., :2] - at_second[..., :2], axis=-1)
        position, rms = float(away.max()), float(np.sqrt(np.mean(away**2)))
        depth = float(np.abs(first.hand * at_first[..., 2] - second.hand * at_second[..., 2]).max())
        turn = np.einsum(
            "tij,tij->t",
            TiltGeometry.from_poses(first.poses).matrices[a],
            TiltGeometry.from_poses(second.poses).matrices[b],
        )
        angle = float(np.degrees(np.arccos(np.clip((turn - 1.0) / 2.0, -1.0, 1.0))).max())
        seen = SeenPhantom(
            tilts_deg=_angles(first, posed)[a],
            first_px=at_first[..., :2],
            second_px=at_second[..., :2],
            image_shape=first.image_shape,
        )
    return GeometryDifference(
        position_px=position,
        position_rms_px=rms,
        angle_deg=angle,
        defocus_angstrom=max((_defocus_apart(f, s) for f, s in both), default=nothing),
        depth_defocus_angstrom=depth,
        hand_kept=first.hand == second.hand,
        tilts_missing=len(first.tilts) - len(a),
        seen=seen,
    )


def _defocus_apart(first: CtfFit, second: CtfFit) -> float:
    """The largest difference of defocus in any direction of the image, A."""

    def spread(fit: CtfFit) -> complex:
        half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
        return complex(half * np.exp(2j * np.deg2rad(fit.astigmatism_angle_deg)))

    return float(abs(first.defocus_angstrom - second.defocus_angstrom) + abs(spread(first) - spread(second)))


def _angles(series: TiltSeries, posed: bool) -> FloatArray:
    return np.array([p.y_tilt_deg for p in series.poses]) if posed else series.nominal_tilts_deg


def _pairs(first: TiltSeries, second: TiltSeries, posed: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    away = np.abs(_angles(first, posed)[:, None] - _angles(second, posed)[None, :])
    rows, columns = linear_sum_assignment(away)
    near = away[rows, columns] < _FAR_DEG
    if not near.any() and not posed and len(first.tilts) == len(second.tilts):
        return np.arange(len(rows)), np.arange(len(rows))  # tables of CTFs list refined angles, or none
    if not near.any():
        raise InputError(f"The two descriptions of {first.name} have no tilt in common.")
    return rows[near], columns[near]
