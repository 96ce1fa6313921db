"""Dose that fields get from beams meant for other places, and how far a target must move to escape them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.plane_shapes import (
    disc_area_in_polygon,
    distance_to_polygon,
    polygon_contains,
    polygons_touch,
)  # fmt: skip
from eucentric.acquisition.target_geometry import ViewingGeometry
from eucentric.acquisition.target_params import TargetParams
from eucentric.typing import FloatArray

_DIRECTIONS = 360
_RINGS = 200
_HALVINGS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beams:
    """Places in the frame of the tilt axis, A, in order of acquisition; NaN where there is no spot."""

    places: FloatArray
    """(target, 2)."""
    groups: np.ndarray
    """(target,), rising."""
    focus: FloatArray
    tracking: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrayBeams:
    """What beams do to fields that are not theirs."""

    parts: FloatArray
    """(target, tilt), largest part of the field that another beam covers."""
    doses_before: FloatArray
    """(target, tilt), e/A^2, mean over the field, before its image at this tilt."""
    pairs: tuple[tuple[int, int, str, tuple[float, ...], float], ...]
    """Harmed, harming, `beam` or `spot`, angles at which the margin is not kept, part of a series' dose given in all."""


def stray_beams(beams: Beams, view: ViewingGeometry, params: TargetParams) -> StrayBeams:
    """Cover every field with every beam of another target, and with spots of its own and others, at every tilt.

    Groups are recorded one after the other; within a group each tilt is taken of all targets, in their order, before the next.
    """
    count, tilts = len(beams.places), len(view.tilts_deg)
    parts, before = np.zeros((count, tilts)), np.zeros((count, tilts))
    pairs: list[tuple[int, int, str, tuple[float, ...], float]] = []
    shapes = view.fields_in_images
    radius = 0.5 * params.beam_diameter_angstrom
    spot_radius = 0.5 * (params.spot_diameter_angstrom or params.beam_diameter_angstrom)
    sources = [("beam", beams.places, radius, 1), ("spot", beams.focus, spot_radius, 0)]
    sources.append(("spot", beams.tracking, spot_radius, 0))
    spot_doses = np.full(tilts, params.spot_dose)
    for kind, places, size, image in sources:
        reach = view.extent(size + params.margin_angstrom)
        for harming in np.flatnonzero(np.isfinite(places).all(axis=1)):
            offsets = places[harming] - beams.places
            for harmed in np.flatnonzero((np.abs(offsets) <= reach).all(axis=1)).tolist():
                if image and harmed == harming:
                    continue
                seen = view.to_image @ offsets[harmed]
                near = distance_to_polygon(shapes, seen) < size + params.margin_angstrom - 1e-6
                if not near.any():
                    continue
                area = disc_area_in_polygon(shapes, seen, size)
                covered = area / _areas(shapes)
                doses = covered * (view.doses if image else spot_doses)
                parts[harmed] = np.maximum(parts[harmed], covered)
                before[harmed] += _before(doses, harmed, int(harming), beams.groups, is_spot=not image)
                angles = tuple(sorted(float(a) for a in view.tilts_deg[near]))
                pairs.append((harmed, int(harming), kind, angles, float(doses.sum() / view.doses.sum())))
    return StrayBeams(parts=parts, doses_before=before, pairs=tuple(sorted(pairs, key=lambda p: p[:3])))


def smallest_move(
    target: int,
    beams: Beams,
    view: ViewingGeometry,
    params: TargetParams,
    area: FloatArray | None = None,
    bars: Sequence[FloatArray] = (),
) -> FloatArray | None:
    """(2,) A, in the frame of the axis: the shortest way to a place where no beam of or on this target does harm.

    Spots give way to fields, so they are not looked at: they are chosen anew where the target then lies. Found on rings in
    steps of a degree, then to less than 1 A along the best directions. None beyond twenty beam diameters.
    """
    others = np.delete(np.arange(len(beams.places)), target)
    radius = 0.5 * params.beam_diameter_angstrom + params.margin_angstrom
    reach = view.extent(radius)

    def free(places: FloatArray) -> np.ndarray:
        clear = np.ones(len(places), dtype=bool)
        low, high = places.min(axis=0), places.max(axis=0)
        for other in beams.places[others]:  # fields are alike and symmetric: one check serves for both ways
            if ((other < low - reach) | (other > high + reach)).any():
                continue
            clear[clear] = view.reaches(places[clear] - other, radius) >= 0
        for i in np.flatnonzero(clear):
            field = view.field + places[i]
            inside = area is None or polygon_contains(area, field)
            clear[i] = inside and not any(polygons_touch(bar, field) for bar in bars)
        return clear

    turn = np.linspace(0.0, 2.0 * np.pi, _DIRECTIONS, endpoint=False)
    unit = np.column_stack([np.cos(turn), np.sin(turn)])
    start, step = beams.places[target], 0.1 * params.beam_diameter_angstrom
    if free(start[None])[0]:
        return np.zeros(2)
    for ring in range(1, _RINGS + 1):
        good = np.flatnonzero(free(start + ring * step * unit))
        if not len(good):
            continue
        low, high = np.full(len(good), (ring - 1) * step), np.full(len(good), ring * step)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            clear = free(start + middle[:, None] * unit[good])
            low, high = np.where(clear, low, middle), np.where(clear, middle, high)
        best = int(np.argmin(high))
        return np.asarray(high[best] * unit[good[best]])
    return None


def _before(doses: FloatArray, harmed: int, harming: int, groups: np.ndarray, *, is_spot: bool) -> FloatArray:
    """(tilt,), what was given before each image of the harmed target is taken."""
    if groups[harming] < groups[harmed]:
        return np.full(len(doses), doses.sum())
    if groups[harming] > groups[harmed]:
        return np.zeros(len(doses))
    at_this_tilt = harming < harmed or (is_spot and harming == harmed)
    given = np.cumsum(doses)
    return np.asarray(given if at_this_tilt else given - doses)


def _areas(shapes: FloatArray) -> FloatArray:
    after = np.roll(shapes, -1, axis=-2)
    crossed = shapes[..., 0] * after[..., 1] - shapes[..., 1] * after[..., 0]
    return np.asarray(0.5 * np.abs(crossed.sum(-1)))
