"""Shifts of all tilts at once from the graph of displacements between neighbours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from eucentric.alignment.pair_correlation import (
    CoarseImages,
    PairShifts,
    SpecimenPlane,
    find_displacements,
    neighbour_pairs,
    refine_displacements,
)
from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

_ROUNDS = 30
_CHANCE = 0.02
"""Odds that noise alone makes a peak that is believed."""
_STAGE = 0.15
"""Rms error of the stage in parts of the field: what is assumed where the images do not tell."""
_HEIGHT = 0.1
"""Of the specimen's rms height, by how much the height that dominates a pair may differ from that of the next."""
_FAR_SIDE = 128
"""Pixels along the image in the search for far displacements."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeighbourShifts:
    """What neighbours tell of a series."""

    geometry: TiltGeometry
    shifts_angstrom: FloatArray
    """(tilt, 2) across and along the axis."""
    assumed_angstrom: FloatArray
    """(tilt, 2): the shifts beyond which `pairs` were measured."""
    sigma_angstrom: FloatArray
    """(tilt, 2) standard deviation of the shifts across and along the axis against the rest."""
    pairs: PairShifts
    """What was measured last."""
    believed: np.ndarray
    """(pair,) bool: the peak is not chance, and the other pairs agree."""
    linked: np.ndarray
    """(tilt,) bool: believed pairs tie the tilt to most others; else its shift is a guess from its neighbours."""
    plane: SpecimenPlane


def align_neighbours(
    images: CoarseImages,
    tilt_angles_deg: ArrayLike,
    plane: SpecimenPlane,
    *,
    max_shift_fraction: float = 0.3,
    distances: tuple[int, ...] = (1, 2, 3),
    depth: float = 600.0,
    start_angstrom: FloatArray | None = None,
    passes: int = 3,
) -> NeighbourShifts:
    """Shifts of all tilts from the graph of neighbours.

    Every pair gives two linear equations in the shifts of its tilts; all are solved together by robust least squares, so
    that a wrong pair is outvoted instead of displacing all tilts beyond it. Pairs are first compared with room
    around them, at a low sampling, then in the area that both show: with even weights, and with those that the measured
    coherence gives each frequency.

    Parameters
    ----------
    plane : tilt axis and pre-tilt assumed
    max_shift_fraction : of the image's shorter side: largest displacement between neighbours
    distances : how many tilts apart the partners of a pair are
    depth : A, rms height of the specimen
    start_angstrom : (tilt, 2) shifts in the frame of the axis to start from; the far search is then left out
    passes : comparisons of the area that both images show, at least one
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    pairs = neighbour_pairs(tilts, plane, distances)
    field = min(images.shape) * images.pixel_size
    stage = _STAGE * field
    far_pixel = max(images.pixel_size, max(images.shape) * images.pixel_size / _FAR_SIDE)
    if start_angstrom is None:
        found = find_displacements(images, tilts, plane, pairs, reach=max_shift_fraction * field, pixel_size=far_pixel)
        shifts, trust = solve_shifts(found, np.zeros((len(tilts), 2)), stage, tolerance=far_pixel)
    else:
        shifts = np.array(start_angstrom, dtype=np.float64)
    coherence = None
    for turn in range(passes):
        # half as far each time: a right answer moves little
        reach = max(3.0 * far_pixel * 0.5**turn, images.low_pass)
        assumed = shifts
        found, coherence = refine_displacements(
            images, tilts, plane, pairs, assumed, reach=reach, depth=depth, coherence=coherence
        )
        shifts, trust = solve_shifts(
            found,
            assumed,
            stage,
            tolerance=0.1 * images.pixel_size,
            height=_HEIGHT * depth,
            places=np.pi * (2.0 * max_shift_fraction * field / images.low_pass) ** 2,
        )
    return NeighbourShifts(
        geometry=in_camera_frame(tilts, plane.axis_deg, shifts),
        shifts_angstrom=shifts,
        assumed_angstrom=assumed,
        sigma_angstrom=_sigma(found, trust, len(tilts), stage),
        pairs=found,
        believed=trust,
        linked=_main_group(found, trust, len(tilts)),
        plane=plane,
    )


def solve_shifts(
    pairs: PairShifts,
    assumed: FloatArray,
    stage: float,
    *,
    tolerance: float,
    height: float = 0.0,
    places: float = 1.0,
) -> tuple[FloatArray, np.ndarray]:
    """Shifts (tilt, 2) in the frame of the axis from displacements found beyond assumed ones, and which pairs are believed.

    Cauchy's loss by reweighting. What the pairs leave open stays at the stage's own position, or between its neighbours.

    Parameters
    ----------
    assumed : (tilt, 2) A
    stage : A, expected error of the stage
    tolerance : A, error of a pair beyond the noise
    height : A, by how much the height that dominates may differ from pair to pair
    places : how many places were open to each tilt before: the pairs of a tilt together must outdo what chance finds there
    """
    count = len(assumed)
    surprise = np.clip(-log_ndtr(-pairs.contrast) - np.log(pairs.reach / _CHANCE), 0.0, None)
    surprise = _beyond_chance(pairs, surprise, places, count)
    quality = surprise / (1.0 + surprise)
    scatter = np.linalg.inv(pairs.information + 1e-9 / stage**2 * np.eye(2)) + tolerance**2 * np.eye(2)
    scatter[:, 0, 0] += (height * pairs.parallax) ** 2
    whiten = np.linalg.cholesky(np.linalg.inv(scatter)).transpose(0, 2, 1)
    rows = np.zeros((len(pairs), 2, count, 2))
    index = np.arange(len(pairs))
    rows[index, :, pairs.low] = whiten
    rows[index, :, pairs.high] -= whiten @ pairs.back
    design = rows.reshape(len(pairs), 2, 2 * count)
    # displacements of the assumed shifts are added, so that the prior holds the shifts and not their last change
    whole = pairs.displacement + assumed[pairs.low] - (pairs.back @ assumed[pairs.high][..., None])[..., 0]
    target = (whiten @ whole[..., None])[..., 0]
    prior = _stage_prior(count, stage)
    weights = quality.copy()
    solution = assumed.reshape(-1)
    residual = np.zeros(len(pairs))
    scale = 1.0
    for turn in range(_ROUNDS):
        root = np.sqrt(weights)[:, None, None]
        weighted = (design * root).reshape(-1, 2 * count)
        solution = np.linalg.solve(
            weighted.T @ weighted + prior.T @ prior, weighted.T @ (target * root[..., 0]).reshape(-1)
        )
        residual = np.linalg.norm(design @ solution - target, axis=1)
        used = residual[quality > 0]
        scale = max(1.0, 1.4826 * float(np.median(used)) if used.size else 1.0)
        # wide at first, so that a good pair far from a bad first answer still counts
        width = scale * max(1.0, 30.0 * 0.7**turn)
        weights = quality / (1.0 + (residual / (2.0 * width)) ** 2)
    return solution.reshape(count, 2), (quality > 0) & (residual < 5.0 * scale)


def _beyond_chance(pairs: PairShifts, surprise: FloatArray, places: float, count: int) -> FloatArray:
    """Surprise (pair,) in natural logarithms of odds, zero for the pairs of a tilt that chance explains all together.

    The highest of many places was looked at again nearby, where its peak is no news.
    """
    out = surprise.copy()
    needed = np.log(max(1.0, places / float(pairs.reach.min())))
    for _ in range(count):
        total = np.bincount(pairs.low, out, count) + np.bincount(pairs.high, out, count)
        weak = (total > 0) & (total < needed)
        if not weak.any():
            break
        out[weak[pairs.low] | weak[pairs.high]] = 0.0
    return out


def _main_group(pairs: PairShifts, trust: np.ndarray, count: int) -> np.ndarray:
    """(tilt,) bool: the largest group that believed pairs hold together; no tilt where no pair is believed."""
    group = np.arange(count)
    for _ in range(count):
        before = group.copy()
        for low, high in zip(pairs.low[trust], pairs.high[trust], strict=True):
            group[[low, high]] = min(group[low], group[high])
        if (group == before).all():
            break
    members = np.bincount(group, minlength=count)
    return np.asarray((group == members.argmax()) & bool(trust.any()))


def _stage_prior(count: int, stage: float) -> FloatArray:
    """Rows that hold shifts near the stage's positions and neighbours near each other, both weakly."""
    own = np.eye(count) / (10.0 * stage)
    step = (np.eye(count) - np.eye(count, k=1))[:-1] / (3.0 * stage)
    return np.asarray(np.kron(np.concatenate([own, step]), np.eye(2)))


def _sigma(pairs: PairShifts, trust: np.ndarray, count: int, stage: float) -> FloatArray:
    """Standard deviation (tilt, 2) of every shift when the mean shift is known."""
    normal = np.zeros((count, 2, count, 2))
    for p in np.flatnonzero(trust):
        low, high, info, back = pairs.low[p], pairs.high[p], pairs.information[p], pairs.back[p]
        normal[low, :, low] += info
        normal[high, :, high] += back.T @ info @ back
        normal[low, :, high] -= info @ back
        normal[high, :, low] -= (info @ back).T
    prior = _stage_prior(count, stage)
    full = normal.reshape(2 * count, 2 * count) + prior.T @ prior
    centre = np.kron(np.eye(count) - 1.0 / count, np.eye(2))
    covariance = centre @ np.linalg.inv(full) @ centre.T
    return np.asarray(np.sqrt(np.maximum(np.diag(covariance), 0.0)).reshape(count, 2))


def in_camera_frame(tilts_deg: FloatArray, axis_deg: float, shifts: FloatArray) -> TiltGeometry:
    """Geometry from shifts (tilt, 2) in A across and along the tilt axis."""
    turn = np.deg2rad(axis_deg)
    c, s = np.cos(turn), np.sin(turn)
    camera = shifts @ np.array([[c, s], [-s, c]])
    return TiltGeometry.build(tilts_deg, z_rot_deg=axis_deg, shifts_angstrom=camera)


def in_axis_frame(geometry: TiltGeometry) -> FloatArray:
    """Shifts (tilt, 2) in A across and along the tilt axis; the inverse of :func:`in_camera_frame`."""
    turn = np.deg2rad(geometry.z_rot_deg)
    c, s = np.cos(turn), np.sin(turn)
    x, y = geometry.shifts_angstrom.T
    return np.stack([c * x + s * y, -s * x + c * y], axis=1)
