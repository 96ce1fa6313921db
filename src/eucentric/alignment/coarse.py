"""A first geometry of a tilt series: tilt axis, slope of the specimen and all shifts, from neighbouring images."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.fit_plane import FLAT_DEG, AxisSearch, SlopeFit, fit_slope, search_axis
from eucentric.alignment.neighbour_graph import (
    NeighbourShifts,
    align_neighbours,
    in_axis_frame,
    in_camera_frame,
)
from eucentric.alignment.pair_correlation import CoarseImages, SpecimenPlane
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

__all__ = [
    "CoarseAlignment",
    "PairShift",
    "align_coarsely",
    "coarse_shifts",
    "find_axis",
    "in_axis_frame",
    "in_camera_frame",
    "neighbour_shifts",
]

_SIDE = 256
"""Pixels along the image at most: finer sampling adds time, and nothing to shifts known to a tenth of a pixel."""
_TRUSTED_DEG = 2.0
"""A given axis this near to what the images show is kept: both are known no better."""
_FAR_DEG = 5.0
_STEEP_DEG = 12.0
_SURE_DEG = 5.0
_KNOWN_DEG = 3.0
"""How well a pre-tilt from elsewhere is known: illumination that drifts moves one from intensities by so much."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseAlignment:
    """First geometry of a series, and how far it can be trusted."""

    geometry: TiltGeometry
    neighbours: NeighbourShifts
    axis_search: AxisSearch
    slope: SlopeFit
    """The plane in which the images agree best; where a specimen is thick, that of its strongest features."""
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairShift:
    """Displacement between two tilts in the frame of the tilt axis."""

    low: int
    """The tilt nearer to zero."""
    high: int
    """The other one, stretched across the axis by cos(low) / cos(high) before it was compared."""
    shift_px: tuple[float, float]
    """(x across, y along the axis): content of `low` against the stretched content of `high`."""
    contrast: float


def align_coarsely(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    pixel_size: float,
    *,
    axis_deg: float | None,
    coarse_pixel_angstrom: float = 12.0,
    low_pass_angstrom: float = 40.0,
    high_pass_angstrom: float = 600.0,
    max_shift_fraction: float = 0.3,
    depth_angstrom: float = 600.0,
    pre_tilt_deg: float | None = None,
) -> CoarseAlignment:
    """Tilt axis, slope of the specimen and shifts of all tilts, from scratch.

    The axis is found in the images whatever was given; a given one is kept where the images agree or show nothing.
    Shifts are found for a flat specimen, then the slope of it, then shifts again.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, dark tilts left out
    tilt_angles_deg : (tilt,), as the stage gave them
    pixel_size : A
    axis_deg : rlnTomoZRot as the microscope gave it, or None. An axis and its opposite fit equally well, and so do all
        angles with the wrong sign: the one nearer to `axis_deg` is returned, without it the one from -90 to 90
    coarse_pixel_angstrom : A, sampling; coarser for wide fields
    max_shift_fraction : of the image's shorter side, largest displacement between neighbours
    depth_angstrom : A, rms height of the specimen
    pre_tilt_deg : slope of the specimen about the axis where it is known, as from its intensities; None if not

    Raises
    ------
    ShapeError, InputError : images and angles that do not fit together, fewer than three tilts
    """
    tilts = checked_tilts(images, tilt_angles_deg)
    coarse = _prepared(images, pixel_size, coarse_pixel_angstrom, low_pass_angstrom, high_pass_angstrom)
    caveats: list[str] = []
    search = _search(coarse, tilts, max_shift_fraction)
    axis = _chosen_axis(search, axis_deg, caveats)
    neighbours, slope = _shifts_and_slope(
        coarse, tilts, axis, max_shift_fraction=max_shift_fraction, depth=depth_angstrom, pre_tilt_deg=pre_tilt_deg
    )
    _judge(neighbours, slope, tilts, caveats)
    return CoarseAlignment(
        geometry=neighbours.geometry, neighbours=neighbours, axis_search=search, slope=slope, caveats=tuple(caveats)
    )


def find_axis(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    pixel_size: float,
    *,
    coarse_pixel_angstrom: float = 12.0,
    low_pass_angstrom: float = 40.0,
    high_pass_angstrom: float = 600.0,
    max_shift_fraction: float = 0.3,
) -> AxisSearch:
    """The tilt axis alone, as the images show it, whatever was said of it; parameters and errors as :func:`align_coarsely`."""
    tilts = checked_tilts(images, tilt_angles_deg)
    coarse = _prepared(images, pixel_size, coarse_pixel_angstrom, low_pass_angstrom, high_pass_angstrom)
    return _search(coarse, tilts, max_shift_fraction)


def coarse_shifts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    axis_deg: float,
    pixel_size: float,
    *,
    low_pass_angstrom: float = 40.0,
    high_pass_angstrom: float = 600.0,
    max_shift_fraction: float = 0.3,
    depth_angstrom: float = 600.0,
    pre_tilt_deg: float | None = None,
) -> TiltGeometry:
    """Shifts of all tilts at once for a known tilt axis, from the graph of neighbours; see :func:`align_coarsely`."""
    tilts = checked_tilts(images, tilt_angles_deg)
    coarse = _prepared(images, pixel_size, pixel_size, low_pass_angstrom, high_pass_angstrom)
    found, _ = _shifts_and_slope(
        coarse, tilts, axis_deg, max_shift_fraction=max_shift_fraction, depth=depth_angstrom, pre_tilt_deg=pre_tilt_deg
    )
    return found.geometry


def neighbour_shifts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    axis_deg: float,
    pixel_size: float,
    *,
    low_pass_angstrom: float,
    high_pass_angstrom: float,
    max_shift_fraction: float,
    distances: tuple[int, ...] = (1, 2),
) -> list[PairShift]:
    """Displacements of every tilt against its next neighbours, for a flat specimen.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle
    distances : how many tilts apart the partners of a pair are
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    coarse = _prepared(images, pixel_size, pixel_size, low_pass_angstrom, high_pass_angstrom)
    found = align_neighbours(
        coarse,
        tilts,
        SpecimenPlane(axis_deg=axis_deg),
        max_shift_fraction=max_shift_fraction,
        distances=distances,
        depth=0.0,
    )
    pairs, shifts = found.pairs, found.assumed_angstrom
    whole = pairs.displacement + shifts[pairs.low] - (pairs.back @ shifts[pairs.high][..., None])[..., 0]
    return [
        PairShift(
            low=int(pairs.low[p]),
            high=int(pairs.high[p]),
            shift_px=(float(whole[p, 0] / pixel_size), float(whole[p, 1] / pixel_size)),
            contrast=float(pairs.contrast[p]),
        )
        for p in range(len(pairs))
    ]


def checked_tilts(images: Tensor, tilt_angles_deg: ArrayLike) -> FloatArray:
    """(tilt,) angles of images that can be aligned.

    Raises
    ------
    ShapeError, InputError : images and angles that do not fit together, fewer than three, values that are not finite
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    if images.ndim != 3 or tilts.shape != (len(images),):
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} and {tilts.size} angles were given; expected one each."
        )
    if len(tilts) < 3:
        raise InputError(f"Only {len(tilts)} tilts are left; expected at least three to align a tilt series.")
    if not bool(torch.isfinite(images.sum((-2, -1))).all()):
        raise InputError("An image holds values that are not numbers (NaN or infinity). Make its sum of frames again.")
    return tilts


def _prepared(
    images: Tensor, pixel_size: float, coarse_pixel: float, low_pass: float, high_pass: float
) -> CoarseImages:
    field = min(images.shape[1:]) * pixel_size
    pixel = max(pixel_size, min(coarse_pixel, field / 96), max(images.shape[1:]) * pixel_size / _SIDE)
    return CoarseImages(
        images, pixel_size, pixel, low_pass=max(low_pass, 3.3 * pixel), high_pass=min(high_pass, field / 3)
    )


def _search(coarse: CoarseImages, tilts: FloatArray, max_shift_fraction: float) -> AxisSearch:
    flat = np.zeros(len(tilts))
    still = align_neighbours(
        coarse,
        flat,
        SpecimenPlane(axis_deg=0.0),
        max_shift_fraction=max_shift_fraction,
        distances=(1, 2),
        depth=0.0,
        passes=1,
    )
    return search_axis(coarse, still.shifts_angstrom, reach=_edge_movement(coarse, tilts))


def _edge_movement(coarse: CoarseImages, tilts: FloatArray) -> float:
    """A by which the edge of an image moves against its centre from one tilt to the next but one, at a tenth of the field."""
    field = min(coarse.shape) * coarse.pixel_size
    widths = np.cos(np.deg2rad(np.clip(tilts, -75.0, 75.0)))
    ratio = np.maximum(widths[2:], widths[:-2]) / np.minimum(widths[2:], widths[:-2])
    largest = float(ratio.max()) - 1.0 if len(ratio) else 0.0
    return float(np.clip(0.5 * largest * field, 2.0 * coarse.low_pass, 0.1 * field))


def _chosen_axis(search: AxisSearch, given: float | None, caveats: list[str]) -> float:
    if given is None:
        if search.sigma_deg > _SURE_DEG:
            caveats.append(
                "No tilt axis was given, and the images show too little to find it. Give --tilt-axis at import."
            )
        return search.best_deg
    if search.sigma_deg > _SURE_DEG:
        return given
    nearer = given + (search.best_deg - given + 90.0) % 180.0 - 90.0
    apart = abs(nearer - given)
    if apart <= max(_TRUSTED_DEG, 2.0 * search.sigma_deg):
        return given
    if apart > _FAR_DEG:
        caveats.append(
            f"The given tilt axis of {given:.1f} degrees does not fit the images, which show {nearer:.1f} degrees "
            f"(standard deviation {search.sigma_deg:.1f}); that was used. Check the tilt axis in the mdoc."
        )
    return nearer


def _shifts_and_slope(
    coarse: CoarseImages,
    tilts: FloatArray,
    axis: float,
    *,
    max_shift_fraction: float,
    depth: float,
    pre_tilt_deg: float | None,
) -> tuple[NeighbourShifts, SlopeFit]:
    expected = (pre_tilt_deg or 0.0, 0.0)
    sigma = (FLAT_DEG if pre_tilt_deg is None else _KNOWN_DEG, FLAT_DEG)
    plane = SpecimenPlane(axis_deg=axis, pre_tilt_deg=expected[0])
    reach = max(1.5 * coarse.low_pass, 6.0 * coarse.pixel_size)
    found = align_neighbours(coarse, tilts, plane, max_shift_fraction=max_shift_fraction, depth=depth, passes=1)
    slope = fit_slope(
        coarse,
        tilts,
        plane,
        found.shifts_angstrom,
        reach=reach,
        depth=depth,
        expected_deg=expected,
        expected_sigma_deg=sigma,
    )
    found = align_neighbours(
        coarse,
        tilts,
        slope.plane,
        max_shift_fraction=max_shift_fraction,
        depth=depth,
        start_angstrom=found.shifts_angstrom,
        passes=2,
    )
    return found, slope


def _judge(found: NeighbourShifts, slope: SlopeFit, tilts: FloatArray, caveats: list[str]) -> None:
    loose = np.flatnonzero(~found.linked)
    if len(loose) == len(tilts):
        caveats.append(
            "No image matches its neighbours better than noise would: the shifts are the stage's own. The series shows "
            "nothing to align by, or the order of its tilts is wrong."
        )
        return
    if len(loose):
        names = ", ".join(f"{tilts[i]:.1f}" for i in loose)
        caveats.append(
            f"The images at {names} degrees match no neighbour; their shifts are a guess between neighbours."
        )
    pre, sigma = slope.plane.pre_tilt_deg, float(slope.sigma_deg[0])
    if abs(pre) - 2.0 * sigma > _STEEP_DEG:
        caveats.append(
            f"At a stage angle of zero the specimen looks tilted by {pre:.0f} degrees (standard deviation {sigma:.0f}) about "
            "the tilt axis: a lamella, or angles with a constant offset."
        )
