"""Shifts of all tilts from the places of beads alone: the first step when a start may be far off."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tracks import Indices, Tracks
from eucentric.signal.bead_links import BeadLinker
from eucentric.typing import FloatArray

BoolArray = NDArray[np.bool_]

_DISTANCES = (1, 2, 3)
_FEWEST = 3
_SHARE = 0.3
_ROUNDS = 30
_MATCH_ROUNDS = 6
_FIRST_TOLERANCE = 1.5  # radii: beads are rarely nearer to each other, and a start is rarely better
_LAST_TOLERANCE = 0.7
_CLEARLY_MORE = 1.03
_CENTRE_SIGMA = 0.01  # of the radius: how well a detection is centred


def register_beads(
    places_angstrom: Sequence[FloatArray], start: TiltGeometry, *, width_angstrom: float, reach_angstrom: float
) -> TiltGeometry:
    """Correct the shifts of a geometry so that the beads of near tilts lie on each other.

    Beads of one tilt are carried to another as points of the plane through the specimen's centre; all differences to
    the beads there vote, and the displacement with the most votes is taken (a point-set registration that needs no
    correspondences [1]_). All pairs up to three tilts apart are then solved together by least absolute deviations. What
    remains is what the heights of the beads do: a few bead radii at most, and smooth along the series.

    Parameters
    ----------
    places_angstrom : for each tilt (bead, 2), x and y from the image centre
    start : angles are taken from it, and shifts where beads do not tell
    width_angstrom : of a vote: the radius of a bead
    reach_angstrom : largest displacement between two tilts

    References
    ----------
    .. [1] Han et al., J. Struct. Biol. 192:403 (2015), doi:10.1016/j.jsb.2015.09.015
    """
    count = len(start)
    flat = start.image_matrices[:, :, :2]
    rows: list[tuple[int, int, FloatArray, FloatArray]] = []
    for step in _DISTANCES:
        for first in range(count - step):
            second = first + step
            carry = flat[second] @ np.linalg.inv(flat[first])
            move = _displacement(
                (places_angstrom[first] - start.shifts_angstrom[first]) @ carry.T,
                places_angstrom[second] - start.shifts_angstrom[second],
                width_angstrom,
                reach_angstrom,
            )
            if move is not None:
                rows.append((first, second, carry, move))
    still = int(np.abs(start.y_tilt_deg).argmin())
    correction = _solve(rows, count, still, width_angstrom, reach_angstrom)
    return start.replace(shifts_angstrom=start.shifts_angstrom + correction)


def _displacement(one: FloatArray, two: FloatArray, width: float, reach: float) -> FloatArray | None:
    """What most of `one` must be moved by to fall on `two`; none where too few agree."""
    if len(one) < _FEWEST or len(two) < _FEWEST:
        return None
    moves = (two[None] - one[:, None]).reshape(-1, 2)
    moves = moves[np.hypot(*moves.T) <= reach]
    if len(moves) == 0:
        return None
    apart = np.hypot(*(moves[:, None] - moves[None]).transpose(2, 0, 1))
    votes = np.exp(-0.5 * (apart / width) ** 2).sum(axis=1)
    best = moves[int(votes.argmax())]
    if votes.max() < max(_FEWEST, _SHARE * min(len(one), len(two))):
        return None
    for _ in range(3):
        weights = np.exp(-0.5 * ((moves - best) ** 2).sum(axis=1) / width**2)
        best = (weights[:, None] * moves).sum(axis=0) / weights.sum()
    return np.asarray(best)


def _solve(
    rows: list[tuple[int, int, FloatArray, FloatArray]], count: int, still: int, width: float, reach: float
) -> FloatArray:
    """(tilt, 2) corrections by least absolute deviations; tilts that no pair reaches stay."""
    design = np.zeros((2 * len(rows) + 2 * count, 2 * count))
    target = np.zeros(len(design))
    for row, (first, second, carry, move) in enumerate(rows):
        at = slice(2 * row, 2 * row + 2)
        design[at, 2 * second : 2 * second + 2] = np.eye(2)
        design[at, 2 * first : 2 * first + 2] = -carry
        target[at] = move
    held = np.full(2 * count, width / reach)
    held[2 * still : 2 * still + 2] = 100.0
    base = np.ones(2 * len(rows))
    design[2 * len(rows) :] = np.diag(held * 1e-2)
    solution = np.zeros(2 * count)
    for _ in range(_ROUNDS):
        scale = np.concatenate([base, np.ones(2 * count)])
        solution = np.linalg.lstsq(design * scale[:, None], target * scale, rcond=None)[0]
        left = np.abs(design @ solution - target)[: 2 * len(rows)]
        base = 1.0 / np.sqrt(np.maximum(left, 0.02 * width) / (0.02 * width))
    return solution.reshape(count, 2)


class _Adjusted(Protocol):
    @property
    def geometry(self) -> TiltGeometry: ...
    @property
    def points(self) -> Indices: ...
    @property
    def points_angstrom(self) -> FloatArray: ...


def match_beads_in_rounds(
    places_px: Sequence[FloatArray],
    start: TiltGeometry,
    *,
    pixel_size: float,
    image_shape: tuple[int, int],
    radius_px: float,
    reach_fraction: float,
    solve: Callable[[Tracks, TiltGeometry], _Adjusted],
) -> TiltGeometry:
    """Geometry under which detections join to points, from a start that may be far off.

    Parameters
    ----------
    places_px : for each tilt (bead, 2), x and y
    start : geometry of the same tilts
    pixel_size : A
    image_shape : (y, x)
    radius_px : of a bead
    reach_fraction : part of the image by which near tilts may be displaced
    solve : adjustment of tracks (observations of one standard deviation), from a geometry

    Returns
    -------
    the geometry; the start where nothing could be joined
    """
    centre = np.array([image_shape[1] // 2, image_shape[0] // 2])
    places = [(place - centre) * pixel_size for place in places_px]
    reach, radius = reach_fraction * min(image_shape) * pixel_size, radius_px * pixel_size

    def linked(geometry: TiltGeometry, tolerance: float) -> Tracks:
        _, owners = BeadLinker(geometry, pixel_size, image_shape, tolerance * radius_px).link(places_px)
        return Tracks.build(
            np.concatenate([owner[owner >= 0] for owner in owners]),
            np.concatenate([np.full(int((owner >= 0).sum()), tilt) for tilt, owner in enumerate(owners)]),
            np.concatenate([place[owner >= 0] for place, owner in zip(places, owners, strict=True)]),
            sigma_angstrom=_CENTRE_SIGMA * radius,
        )

    voted = register_beads(places, start, width_angstrom=radius, reach_angstrom=reach)
    current, tracks = start, linked(start, _FIRST_TOLERANCE)
    other = linked(voted, _FIRST_TOLERANCE)
    if len(other) > _CLEARLY_MORE * len(tracks):
        current, tracks = voted, other
    most = 0
    for _ in range(_MATCH_ROUNDS):
        if len(tracks) <= most:
            break
        most = len(tracks)
        adjusted = solve(tracks, current)
        current = _recovered(places, tracks, adjusted, radius, reach)
        tracks = linked(current, _FIRST_TOLERANCE)
    if not len(tracks):
        return start
    return solve(linked(current, _LAST_TOLERANCE), current).geometry


def _recovered(
    places: Sequence[FloatArray], tracks: Tracks, adjusted: _Adjusted, radius: float, reach: float
) -> TiltGeometry:
    """The adjusted geometry, tilts that hang on nothing moved to where their detections lie on points of the others."""
    geometry = adjusted.geometry
    tilts, points = _held_together(tracks, adjusted.points, len(geometry))
    projected = geometry.project(adjusted.points_angstrom[points])[..., :2]
    shifts = geometry.shifts_angstrom.copy()
    for tilt, place in enumerate(places):
        move = _displacement(projected[tilt], place, 0.5 * radius, reach)
        if move is None or np.hypot(*move) < radius:
            continue
        before, after = (_met(projected[tilt] + by, place, radius) for by in (np.zeros(2), move))
        if after > before or (after == before and not tilts[tilt]):
            shifts[tilt] += move
    return geometry.replace(shifts_angstrom=shifts)


def _met(points: FloatArray, places: FloatArray, radius: float) -> int:
    """How many places have a point near."""
    apart = np.hypot(*(places[:, None] - points[None]).transpose(2, 0, 1))
    return int((apart.min(axis=1) <= radius).sum())


def _held_together(tracks: Tracks, names: Indices, count: int) -> tuple[BoolArray, BoolArray]:
    """Which tilts (tilt,) and points (point,) hang together: three points a tilt, three tilts a point.

    A series may fall into parts whose shifts are each right and wrong against each other, held by one or two points that
    were joined by mistake. The part around the tilt with the most points is taken.
    """
    seen = np.zeros((count, len(names)), dtype=bool)
    seen[tracks.tilts, np.searchsorted(names, tracks.points)] = True
    tilts = np.zeros(count, dtype=bool)
    tilts[int(seen.sum(axis=1).argmax())] = True
    points = np.asarray(seen[tilts].any(axis=0))
    while True:
        more = seen[:, points].sum(axis=1) >= _FEWEST
        joined = np.asarray(seen[more].sum(axis=0) >= _FEWEST)
        if (more == tilts).all() and (joined == points).all():
            return tilts, points
        if not (more & ~tilts).any() and not (joined & ~points).any():
            return tilts, points
        tilts, points = tilts | more, points | joined
