"""Where targets, focus spots and tracking spots may lie so that no beam falls on a field that is still to be recorded."""

from collections.abc import Sequence

import numpy as np

from eucentric.acquisition.group_targets import group_targets
from eucentric.acquisition.plane_shapes import inside_polygon, polygon_contains, polygons_touch
from eucentric.acquisition.stray_beams import Beams, smallest_move, stray_beams
from eucentric.acquisition.target_geometry import ViewingGeometry, field_seen, viewing_geometry
from eucentric.acquisition.target_params import TargetParams
from eucentric.acquisition.target_results import Conflict, PlacedTarget, TargetPlan
from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import FloatArray

_SPOT_STEP = 250.0  # A along the axis: a quarter of the usual margin


def place_targets(
    names: Sequence[str],
    stage_angstrom: FloatArray,
    scheme: TiltScheme,
    params: TargetParams,
    *,
    area_angstrom: FloatArray | None = None,
    bars_angstrom: Sequence[FloatArray] = (),
) -> TargetPlan:
    """Group and order targets, find their focus and tracking spots, and check every beam against every field at every tilt.

    Targets stay where they are: what is in conflict is told, with the smallest move that resolves it.

    Parameters
    ----------
    names : of the targets, each once
    stage_angstrom : (target, 2), A, on the stage
    area_angstrom : (vertex, 2), outline in which fields and spots must lie, such as the edge of a lamella or grid square
    bars_angstrom : outlines (vertex, 2) that they must not touch

    Raises
    ------
    InputError : no targets, names that repeat, places that are no numbers, an angle beyond the stage
    """
    stage = _checked_places(names, stage_angstrom)
    view = viewing_geometry(scheme, params)
    places = stage @ view.axis_of_stage.T
    groups = group_targets(places, view, params.image_shift_limit_angstrom)
    order = [i for group in groups for i in group]
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    places, sorted_names = places[order], [names[i] for i in order]
    first_of_group = places[[int(np.argmax(group_of == g)) for g in group_of]]
    area = None if area_angstrom is None else np.asarray(area_angstrom) @ view.axis_of_stage.T
    bars = [np.asarray(bar) @ view.axis_of_stage.T for bar in bars_angstrom]
    spots = _spots(places, group_of, view, params, area, bars)
    beams = Beams(places=places, groups=group_of, focus=spots[0], tracking=spots[1])
    stray = stray_beams(beams, view, params)
    seen, kept, lit = field_seen(view, params)
    shifts = np.linalg.norm(np.einsum("kab,tb->tka", view.to_image, places - first_of_group), axis=-1)
    targets = tuple(
        PlacedTarget(
            name=name,
            stage_angstrom=stage[order[i]],
            group=int(group_of[i]),
            order=i,
            focus_stage_angstrom=_on_stage(spots[0][i], view),
            tracking_stage_angstrom=_on_stage(spots[1][i], view),
            image_shift_angstrom=shifts[i],
            stray_part=stray.parts[i],
            stray_dose=stray.doses_before[i],
            pre_exposed_fraction=stray.doses_before[i] / view.doses.sum(),
        )
        for i, name in enumerate(sorted_names)
    )
    conflicts = [
        *_of_beams(sorted_names, beams, stray.pairs, view, params, area, bars),
        *_of_places(sorted_names, places, spots, group_of, view, params, area, bars),
        *_of_fields(kept, lit, params),
    ]
    return TargetPlan(
        targets=targets, conflicts=tuple(conflicts), view=view, params=params,
        field_seen=seen, field_kept=kept, field_lit=lit,
    )  # fmt: skip


def fill_area(
    area_angstrom: FloatArray, scheme: TiltScheme, params: TargetParams, bars_angstrom: Sequence[FloatArray] = ()
) -> FloatArray:
    """(target, 2), A, on the stage: as many targets in rows along the tilt axis as an outline holds without conflict.

    The spacing across the axis lets no beam reach a field at any tilt; along it there is room for a focus and a tracking spot
    between two targets where each has its own.

    Parameters
    ----------
    area_angstrom : (vertex, 2), outline
    bars_angstrom : outlines (vertex, 2) that fields must not touch

    Raises
    ------
    InputError : fewer than three corners, or an area too small for one field
    """
    outline = np.asarray(area_angstrom, dtype=np.float64)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3:
        raise InputError(f"An area of shape {outline.shape} has no inside; expected at least three corners x, y.")
    view = viewing_geometry(scheme, params)
    corners = outline @ view.axis_of_stage.T
    bars = [np.asarray(bar) @ view.axis_of_stage.T for bar in bars_angstrom]
    radius = 0.5 * params.beam_diameter_angstrom + params.margin_angstrom
    spacing = view.extent(radius)
    if params.spots == "each":
        spacing[1] = max(spacing[1], 2 * (float(view.extent(_spot_radius(params))[1]) + _SPOT_STEP))
    low, high = corners.min(axis=0), corners.max(axis=0)
    best = np.empty((0, 2))

    def is_clear(field: FloatArray) -> bool:
        return polygon_contains(corners, field) and not any(polygons_touch(bar, field) for bar in bars)

    for phase in np.ndindex(6, 6):
        start = low + spacing * np.array(phase) / 6
        across, along = (np.arange(start[a], high[a], spacing[a]) for a in (0, 1))
        grid = np.stack(np.meshgrid(across, along, indexing="ij"), axis=-1).reshape(-1, 2)
        grid = grid[inside_polygon(corners, grid[:, None] + view.field).all(axis=1)]
        inside = [place for place in grid if is_clear(view.field + place)] if len(grid) > len(best) else []
        if len(inside) > len(best):
            best = np.array(inside)
    if not len(best):
        raise InputError(
            f"The area holds not one whole field of view{' clear of the bars' if bars else ''}. Give a larger area, or targets one "
            "by one to see what they lose."
        )
    return np.asarray(best @ view.axis_of_stage)


def _checked_places(names: Sequence[str], stage: FloatArray) -> FloatArray:
    places = np.atleast_2d(np.asarray(stage, dtype=np.float64))
    if not len(names) or places.shape != (len(names), 2) or not np.isfinite(places).all():
        raise InputError(
            f"{len(names)} targets have places of shape {places.shape}; expected numbers x and y for each."
        )
    if len(set(names)) != len(names):
        raise InputError("Two targets have the same name. Give each its own.")
    return places


def _spot_radius(params: TargetParams) -> float:
    return 0.5 * (params.spot_diameter_angstrom or params.beam_diameter_angstrom) + params.margin_angstrom


def _spots(
    places: FloatArray,
    groups: np.ndarray,
    view: ViewingGeometry,
    params: TargetParams,
    area: FloatArray | None,
    bars: Sequence[FloatArray],
) -> tuple[FloatArray, FloatArray]:
    """(target, 2) of focus and of tracking, NaN where there is none: nearest clear places, on the two sides if possible.

    No focus beam reaches what is tracked, whosever it is. Row by row along the axis, so that neighbours can share a focus
    spot or a tracking spot where there is room for one alone.
    """
    focus, tracking = np.full(places.shape, np.nan), np.full(places.shape, np.nan)
    steps = np.arange(_SPOT_STEP, params.spot_reach_angstrom + 0.5 * _SPOT_STEP, _SPOT_STEP)
    offsets = np.stack([steps, -steps], axis=1).reshape(-1)  # nearest first, the positive side before the other
    radius = _spot_radius(params)
    reach = view.extent(radius) + np.array([0.0, params.spot_reach_angstrom])

    def apart(candidates: FloatArray, others: FloatArray) -> np.ndarray:
        clear = np.ones(len(candidates), dtype=bool)
        for other in others[(np.abs(others - place) <= reach).all(axis=1)]:  # no number is near
            clear[clear] = view.reaches(candidates[clear] - other, radius) >= 0
        return clear

    for i in np.lexsort((places[:, 0], places[:, 1])):
        if params.spots == "group" and i and groups[i] == groups[i - 1]:
            continue
        place = places[i]
        candidates = place + np.column_stack([np.zeros_like(offsets), offsets])
        clear = apart(candidates, places)
        if area is not None:
            clear &= inside_polygon(area, candidates)
        for bar in bars:
            clear &= ~inside_polygon(bar, candidates)
        free, candidates = offsets[clear], candidates[clear]
        for_focus, for_tracking = free[apart(candidates, tracking)], free[apart(candidates, focus)]
        found = _two_sides(for_focus, for_tracking)
        if found is None and len(for_focus):  # both on one side
            beyond = np.column_stack([np.zeros_like(for_tracking), for_tracking - for_focus[0]])
            beyond_free = for_tracking[view.reaches(beyond, radius) >= 0]
            found = (for_focus[0], beyond_free[0] if len(beyond_free) else np.nan)
        if found is not None:
            focus[i] = place + np.array([0.0, found[0]])
            tracking[i] = place + np.array([0.0, found[1]]) if np.isfinite(found[1]) else np.nan
    return focus, tracking


def _two_sides(for_focus: FloatArray, for_tracking: FloatArray) -> tuple[float, float] | None:
    """Offsets of focus and tracking on the two sides of a target, the nearest in all; None where a side has no place."""
    pairs = []
    for side in (1.0, -1.0):
        ones, others = for_focus[np.sign(for_focus) == side], for_tracking[np.sign(for_tracking) == -side]
        if len(ones) and len(others):
            pairs.append((float(ones[0]), float(others[0])))
    return min(pairs, key=lambda pair: (abs(pair[0]) + abs(pair[1]), abs(pair[0])), default=None)


def _of_beams(
    names: Sequence[str],
    beams: Beams,
    pairs: Sequence[tuple[int, int, str, tuple[float, ...], float]],
    view: ViewingGeometry,
    params: TargetParams,
    area: FloatArray | None,
    bars: Sequence[FloatArray],
) -> list[Conflict]:
    moves: dict[int, FloatArray | None] = {}
    conflicts = []
    for harmed, harming, kind, tilts, fraction in pairs:
        later = max(harmed, harming)
        if later not in moves:
            found = smallest_move(later, beams, view, params, area, bars)
            moves[later] = None if found is None else found @ view.axis_of_stage
        move = moves[later]
        conflicts.append(
            Conflict(
                kind="beam" if kind == "beam" else "spot",
                target=names[harmed],
                other=names[harming],
                tilts_deg=tilts,
                dose_fraction=fraction,
                moved=names[later],
                move_stage_angstrom=None if move is None else (float(move[0]), float(move[1])),
            )
        )
    return conflicts


def _of_places(
    names: Sequence[str],
    places: FloatArray,
    spots: tuple[FloatArray, FloatArray],
    groups: np.ndarray,
    view: ViewingGeometry,
    params: TargetParams,
    area: FloatArray | None,
    bars: Sequence[FloatArray],
) -> list[Conflict]:
    conflicts = []
    for i, name in enumerate(names):
        wanted = params.spots == "each" or i == 0 or groups[i] != groups[i - 1]
        missing = sum(bool(np.isnan(kind[i]).any()) for kind in spots)
        if wanted and missing:
            conflicts.append(Conflict(kind="no spot", target=name, part=missing / 2))
        field = view.field + places[i]
        if area is not None and not polygon_contains(area, field):
            conflicts.append(Conflict(kind="edge", target=name))
        if any(polygons_touch(bar, field) for bar in bars):
            conflicts.append(Conflict(kind="bar", target=name))
    return conflicts


def _of_fields(kept: float, lit: float, params: TargetParams) -> list[Conflict]:
    conflicts = []
    if kept < params.least_field_kept:
        conflicts.append(Conflict(kind="field", target="", part=kept))
    if lit < 1.0 and params.beam_diameter_angstrom < _diagonal(params):
        conflicts.append(Conflict(kind="beam size", target="", part=lit))
    return conflicts


def _diagonal(params: TargetParams) -> float:
    return float(np.hypot(*params.camera_pixels) * params.pixel_size_angstrom)


def _on_stage(place: FloatArray, view: ViewingGeometry) -> FloatArray | None:
    return None if np.isnan(place).any() else np.asarray(place @ view.axis_of_stage)
