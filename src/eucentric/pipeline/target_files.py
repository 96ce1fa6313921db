"""Targets from a navigator file, and back into one: reads, places, writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.acquisition.place_targets import fill_area, place_targets
from eucentric.acquisition.target_params import TargetParams
from eucentric.acquisition.target_results import TargetPlan
from eucentric.errors import InputError
from eucentric.figures.acquisition_targets import targets_on_stage
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.navigator import Navigator, NavigatorItem, new_item, read_navigator, write_navigator
from eucentric.io.pacetomo import targets_file_name, write_targets_file
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.target_map import TargetMap, find_map, map_picture, registration_of
from eucentric.pipeline.training_file import figure_png
from eucentric.typing import FloatArray

_UM = 1e4  # A
_GREEN, _BLUE, _YELLOW, _MAGENTA = 1, 2, 3, 4
_BESIDE = {
    "F": ("point", re.compile(r"focus of (.+)")),
    "K": ("point", re.compile(r"tracking of (.+)")),
    "B": ("polygon", re.compile(r"beam of (.+) at \S+ degrees")),
}
"""What is put beside each target: end of its label, kind, and note."""
_OWN_NOTE = re.compile(r"target \d+")
_FILE_NOTE = re.compile(r"\S+_tgts\.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSource:
    """Where targets come from: exactly one of the last four, or the navigator's items that are set to be acquired."""

    navigator: Path
    map_label: str
    """Of a map of the navigator; or the mdoc file of a montage."""
    points: tuple[str, ...] = ()
    """Labels of points."""
    fill: str | None = None
    """Label of a polygon to be filled with targets."""
    stage_um: tuple[tuple[float, float], ...] = ()
    pixels: tuple[tuple[float, float], ...] = ()
    """Of the map's image: x to the right and y up from its lower left corner, as 3dmod shows them."""
    area: str | None = None
    """Label of the polygon in which fields and spots must lie."""
    bars: tuple[str, ...] = ()
    """Labels of polygons to be kept off."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetFiles:
    """What was made."""

    plan: TargetPlan
    navigator: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def place_target_files(
    source: TargetSource,
    output: Path,
    scheme: TiltScheme,
    params: TargetParams,
    *,
    picture: Path | None = None,
    pacetomo: str | None = None,
    overwrite: bool = False,
) -> TargetFiles:
    """Place targets, and write the navigator with them, their spots and the outlines of their beams.

    Parameters
    ----------
    output : navigator to be made; it may be the one that was read only with `overwrite`
    pacetomo : root name of targets files, one for each group, written beside the navigator

    Raises
    ------
    InputError : no such map, point or polygon; items without or of another registration; a file that exists
    FormatError : a damaged navigator
    """
    navigator = read_navigator(source.navigator)
    named = [label for label in (*source.points, source.fill, source.area, *source.bars) if label is not None]
    the_map = find_map(navigator, source.map_label, source.navigator, named)
    registration = the_map.registration
    area = None if source.area is None else _outline(navigator, source.area, registration)
    bars = [_outline(navigator, label, registration) for label in source.bars]
    names, stage_um, taken = _targets(navigator, the_map, source, scheme, params, bars)
    if source.fill is not None and area is None:
        area = _outline(navigator, source.fill, registration)
    plan = place_targets(
        names,
        stage_um * _UM,
        scheme,
        params,
        area_angstrom=None if area is None else area * _UM,
        bars_angstrom=[bar * _UM for bar in bars],
    )
    roots = _roots(pacetomo, plan.group_count)
    beside = [output.parent / targets_file_name(root) for root in roots]
    for path in [output, *beside, *([picture] if picture else [])]:
        if path.exists() and not overwrite:
            raise InputError(f"`{path}` exists. Give --overwrite to replace it, or another name.")
    made = [output]
    write_navigator(output, _with_plan(navigator, the_map, plan, taken, roots))
    for group, root in enumerate(roots):
        mine = np.array([t.stage_angstrom for t in plan.targets if t.group == group]) / _UM
        made.append(write_targets_file(output.parent, root, mine))
    if picture is not None:
        shown = map_picture(the_map)
        title = f"{len(plan.targets)} targets on {the_map.label}"
        figure = targets_on_stage(plan, shown, area_um=area, bars_um=bars, title=title)
        write_bytes_atomic(picture, figure_png(figure))
        made.append(picture)
    return TargetFiles(plan=plan, navigator=output, files=tuple(made), notes=_notes(the_map, plan, stage_um))


def _roots(name: str | None, groups: int) -> list[str]:
    if name is None:
        return []
    return [name if groups == 1 else f"{name}_{group + 1:02d}" for group in range(groups)]


def _same_registration(item: NavigatorItem, registration: int) -> NavigatorItem:
    if registration_of(item) != registration:
        raise InputError(
            f"Item `{item.label}` has registration {item.registration}, the map {registration}. "
            "Transform the items in SerialEM, or choose a map of the same registration."
        )
    return item


def _outline(navigator: Navigator, label: str, registration: int) -> FloatArray:
    item = _same_registration(navigator.item(label), registration)
    points = item.points_um
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    if item.kind != "polygon" or len(points) < 3:
        what = f"polygon of {len(points)} corners" if item.kind == "polygon" else item.kind
        raise InputError(f"Item `{label}` is a {what}; expected a polygon of three or more. Draw one in SerialEM.")
    return points


def _targets(
    navigator: Navigator,
    the_map: TargetMap,
    source: TargetSource,
    scheme: TiltScheme,
    params: TargetParams,
    bars: Sequence[FloatArray],
) -> tuple[list[str], FloatArray, dict[str, NavigatorItem]]:
    """Names, (target, 2) um, and the items of the navigator that are the targets themselves."""
    given = [bool(source.points), source.fill is not None, bool(source.stage_um), bool(source.pixels)]
    if sum(given) > 1:
        raise InputError("Targets were given in several ways. Give one of --points, --fill, --stage and --pixels.")
    registration = the_map.registration
    places: FloatArray
    if source.fill is not None:
        outline = _outline(navigator, source.fill, registration) * _UM
        places = fill_area(outline, scheme, params, [bar * _UM for bar in bars]) / _UM
    elif source.stage_um:
        places = np.array(source.stage_um, dtype=np.float64)
    elif source.pixels:
        frame = the_map.frame
        pixels = np.array(source.pixels, dtype=np.float64)
        if (pixels < 0).any() or (pixels > np.array(frame.size)).any():
            raise InputError(
                f"A pixel lies outside map `{the_map.label}`, which is {frame.size[0]:.0f} x {frame.size[1]:.0f} pixels. "
                "Give x and y from its lower left corner."
            )
        places = frame.to_stage(pixels)
    else:
        items = _picked(navigator, the_map, source.points)
        places = np.array([_same_registration(item, registration).stage_um[:2] for item in items])
        labels = [item.label for item in items]
        return labels, places, dict(zip(labels, items, strict=True))
    used = {item.label for item in navigator.items}
    prefix = next(p for p in ("T", *(f"T{n}-" for n in range(1, 1000))) if not any(u.startswith(p) for u in used))
    return [f"{prefix}{n + 1:02d}" for n in range(len(places))], places, {}


def _picked(navigator: Navigator, the_map: TargetMap, labels: Sequence[str]) -> list[NavigatorItem]:
    if labels:
        items = [navigator.item(label) for label in labels]
        wrong = [item for item in items if item.kind != "point"]
        if wrong:
            raise InputError(
                f"Item `{wrong[0].label}` is a {wrong[0].kind}; expected a point. Use --fill for polygons."
            )
        return items
    on_map = [i for i in navigator.items if i.kind == "point" and the_map.has(i)]
    items = [item for item in on_map if item.is_to_acquire]
    # of a targets file the first of a group alone is acquired; the others are targets too
    groups = {item.group_id for item in items if _FILE_NOTE.fullmatch(item.note)} - {None}
    items = [item for item in on_map if item.is_to_acquire or item.group_id in groups]
    if not items:
        raise InputError(
            f"The navigator has no points set to be acquired on map `{the_map.label}`. "
            "Set some in SerialEM, or give --points, --fill, --stage or --pixels."
        )
    return items


def _with_plan(
    navigator: Navigator,
    the_map: TargetMap,
    plan: TargetPlan,
    taken: dict[str, NavigatorItem],
    roots: Sequence[str],
) -> Navigator:
    """Targets that were items get group, note and acquire flag; spots of an earlier run go, and all else is added at the end."""
    navigator = _without_spots(navigator, the_map, {target.name for target in plan.targets})
    ids = iter(navigator.free_ids(plan.group_count + 6 * len(plan.targets)))
    groups = [next(ids) for _ in range(plan.group_count)]
    z = the_map.stage_z_um
    changed: dict[str, NavigatorItem] = {}
    added: list[NavigatorItem] = []
    used = {item.label for item in navigator.items}
    firsts = {group: min(t.order for t in plan.targets if t.group == group) for group in range(plan.group_count)}
    for target in plan.targets:
        is_first = target.order == firsts[target.group]
        note = targets_file_name(roots[target.group]) if roots and is_first else f"target {target.order + 1}"
        # PACEtomo acquires at the first of a group alone, and shifts the beam to the others
        acquire = is_first or not roots
        group = groups[target.group]
        if target.name in taken:
            item = taken[target.name]
            stale = not item.note or _OWN_NOTE.fullmatch(item.note) or (roots and _FILE_NOTE.fullmatch(item.note))
            kept_note = note if stale or (roots and is_first) else item.note
            changed[target.name] = item.with_entries(
                GroupID=str(group), Note=kept_note, Acquire="1" if acquire else "0"
            )
        else:
            added.append(
                _item(target.name, target.stage_angstrom, z, the_map, next(ids), _GREEN, note, group, acquire=acquire)
            )
        for suffix, place, color in (
            ("F", target.focus_stage_angstrom, _YELLOW),
            ("K", target.tracking_stage_angstrom, _BLUE),
        ):
            if place is not None:
                words = f"{'focus' if suffix == 'F' else 'tracking'} of {target.name}"
                added.append(
                    _item(_free_label(used, f"{target.name}{suffix}"), place, z, the_map, next(ids), color, words, None)
                )
        beam = plan.view.footprint(plan.view.steepest, plan.params.beam_diameter_angstrom, 32)
        outline = plan.stage_outline(beam, target.stage_angstrom) / _UM
        angle = plan.view.tilts_deg[plan.view.steepest]
        added.append(
            new_item(
                _free_label(used, f"{target.name}B"), "polygon", outline, z, registration=the_map.registration, map_id=next(ids),
                color=_MAGENTA, note=f"beam of {target.name} at {angle:g} degrees", drawn_on=the_map.map_id,
            )
        )  # fmt: skip
    kept = tuple(changed.get(i.label, i) if i is taken.get(i.label) else i for i in navigator.items)
    return replace(navigator, items=(*kept, *added))


def _without_spots(navigator: Navigator, the_map: TargetMap, names: set[str]) -> Navigator:
    """Without spots and beams that an earlier run put beside these targets, or beside points that are no longer there."""
    points = {item.label for item in navigator.items if item.kind == "point"}

    def is_stale(item: NavigatorItem) -> bool:
        for suffix, (kind, words) in _BESIDE.items():
            note = words.fullmatch(item.note)
            if note is not None and item.kind == kind and item.drawn_on == the_map.map_id:
                name = note.group(1)
                is_ours = re.fullmatch(re.escape(name) + suffix + r"\d*", item.label) is not None
                return is_ours and (name in names or name not in points)
        return False

    return replace(navigator, items=tuple(item for item in navigator.items if not is_stale(item)))


def _free_label(used: set[str], wanted: str) -> str:
    label = next(text for text in (wanted, *(f"{wanted}{n}" for n in range(2, len(used) + 3))) if text not in used)
    used.add(label)
    return label


def _item(
    label: str,
    place: FloatArray,
    z: float,
    the_map: TargetMap,
    map_id: int,
    color: int,
    note: str,
    group: int | None,
    *,
    acquire: bool = False,
) -> NavigatorItem:
    return new_item(
        label, "point", place / _UM, z, registration=the_map.registration, map_id=map_id, color=color, note=note,
        acquire=acquire, group_id=group, drawn_on=the_map.map_id,
    )  # fmt: skip


def _notes(the_map: TargetMap, plan: TargetPlan, stage_um: FloatArray) -> tuple[str, ...]:
    notes = []
    tilt = the_map.tilt_deg
    if tilt is not None and abs(tilt) > 1:
        notes.append(
            f"Map {the_map.label} was taken at {tilt:g} degrees: places on a pre-tilted specimen differ a little."
        )
    if the_map.montages > 1:
        notes.append(f"{the_map.label} holds {the_map.montages} montages; the targets lie on the first.")
    if the_map.residual_um is not None:
        notes.append(
            f"Stage positions of the pieces of {the_map.label} are {the_map.residual_um:.2f} um (r.m.s.) from its frame."
        )
    outside = int((~the_map.holds(stage_um)).sum())
    if outside:
        notes.append(f"{outside} of {len(stage_um)} targets lie outside map {the_map.label}.")
    if plan.group_count > 1:
        notes.append(f"{plan.group_count} stage positions: image shift does not reach all targets from one.")
    return tuple(notes)
