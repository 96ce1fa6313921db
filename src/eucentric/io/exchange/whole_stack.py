"""The stack that other programs keep beside their tables: every image, left-out ones too, by ascending angle."""

from dataclasses import dataclass, replace

import numpy as np

from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.exchange.loss_sizes import pose_loss
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.typing import FloatArray

_STEEP = 0.05  # cosine: a plane that is seen edge on has no height under the middle of an image


@dataclass(frozen=True, slots=True, kw_only=True)
class StackView:
    """One image of the stack."""

    tilt: Tilt
    used: int | None
    """Its place in `series.tilts`; None of an excluded tilt."""


def whole_stack(series: TiltSeries) -> tuple[StackView, ...]:
    """Tilts and excluded tilts, by ascending angle, then by order of acquisition."""
    every = [StackView(tilt=t, used=i) for i, t in enumerate(series.tilts)]
    every += [StackView(tilt=e.tilt, used=None) for e in series.excluded]
    return tuple(sorted(every, key=lambda v: (v.tilt.nominal_tilt_deg, v.tilt.acquisition)))


def need_poses(series: TiltSeries, program: str) -> tuple[TiltPose, ...]:
    """Poses of all tilts; InputError where one is missing."""
    poses = tuple(t.pose for t in series.tilts if t.pose is not None)
    if not poses or len(poses) < len(series.tilts):
        raise InputError(
            f"{series.name} has no alignment, which {program} needs. Give an alignment of it, or write a format of CTF tables."
        )
    return poses


def poses_of_stack(series: TiltSeries, stack: tuple[StackView, ...], program: str) -> list[TiltPose]:
    """A pose for every image; an excluded tilt without one gets that of its neighbour in angle, tilted as far as it is itself."""
    poses = need_poses(series, program)
    nominal = series.nominal_tilts_deg
    out = []
    for view in stack:
        if view.used is not None:
            out.append(poses[view.used])
        elif view.tilt.pose is not None:
            out.append(view.tilt.pose)
        else:
            near = int(np.argmin(np.abs(nominal - view.tilt.nominal_tilt_deg)))
            away = view.tilt.nominal_tilt_deg - nominal[near]
            out.append(replace(poses[near], y_tilt_deg=poses[near].y_tilt_deg + float(away)))
    return out


def rank_in_time(stack: tuple[StackView, ...]) -> list[int]:
    """For each image, how many were taken before it."""
    order = sorted(range(len(stack)), key=lambda i: (stack[i].tilt.acquisition, stack[i].tilt.nominal_tilt_deg))
    rank = [0] * len(stack)
    for place, i in enumerate(order):
        rank[i] = place
    return rank


def _heights(poses: tuple[TiltPose, ...]) -> FloatArray:
    """(tilt,): camera height in A at which the specimen plane z = 0 lies under the middle of each image."""
    geometry = TiltGeometry.from_poses(poses)
    normal = geometry.matrices[:, :, 2]
    middle = -geometry.shifts_angstrom / geometry.magnification[:, None]
    steep = np.abs(normal[:, 2]) < _STEEP
    heights: FloatArray = -(normal[:, :2] * middle).sum(axis=1) / np.where(steep, 1.0, normal[:, 2])
    return np.where(steep, 0.0, heights)


def moved_fit(fit: CtfFit | None, change: float) -> CtfFit | None:
    """A fit of a place whose defocus is larger by `change` in A."""
    if fit is None:
        return None
    return replace(
        fit,
        defocus_u_angstrom=fit.defocus_u_angstrom + change,
        defocus_v_angstrom=fit.defocus_v_angstrom + change,
    )


def fits_at_image_middle(series: TiltSeries) -> list[CtfFit | None]:
    """CTF of each tilt where most programs tell it: of the specimen plane under the middle of the image."""
    poses = tuple(t.pose for t in series.tilts if t.pose is not None)
    if len(poses) < len(series.tilts) or not poses:
        return [t.ctf for t in series.tilts]
    changes = series.hand * _heights(poses)
    return [moved_fit(t.ctf, float(c)) for t, c in zip(series.tilts, changes, strict=True)]


def with_fits_at_specimen_centre(series: TiltSeries) -> TiltSeries:
    """The series whose CTFs were told of the middles of its images; unchanged where it has no poses."""
    poses = tuple(t.pose for t in series.tilts if t.pose is not None)
    if len(poses) < len(series.tilts) or not poses:
        return series
    changes = -series.hand * _heights(poses)
    return series.with_tilts(
        [replace(t, ctf=moved_fit(t.ctf, float(c))) for t, c in zip(series.tilts, changes, strict=True)]
    )


def image_grid(image_shape: tuple[int, int], pixel_size_angstrom: float, count: int) -> FloatArray:
    """(count^2, 2): places (x, y) in A from our centre, spread evenly over an image from edge to edge."""
    ny, nx = image_shape
    x = (np.linspace(0, nx - 1, count) - nx // 2) * pixel_size_angstrom
    y = (np.linspace(0, ny - 1, count) - ny // 2) * pixel_size_angstrom
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def rms(values: FloatArray) -> float:
    """Root mean square length of vectors (..., 2)."""
    return float(np.sqrt((values**2).sum(axis=-1).mean()))


def x_tilt_and_magnification_losses(geometry: SeriesGeometry, *, magnification: bool) -> list[str]:
    """Sentences on tilts about x, and where told on differing magnification, that are lost."""
    poses = geometry.series.poses
    tilt = max(abs(p.x_tilt_deg) for p in poses)
    losses = pose_loss(geometry, f"tilts about x (up to {tilt:.2f} degrees) are left out", x_tilt_deg=0.0)
    if magnification:
        away = 100 * max(abs(p.magnification - 1.0) for p in poses)
        words = f"the magnification of each image (up to {away:.2f}% from 1) is left out"
        losses += pose_loss(geometry, words, magnification=1.0)
    return losses
