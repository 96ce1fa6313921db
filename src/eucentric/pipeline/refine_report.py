"""The refinements of a project, read for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import EucentricError, FormatError
from eucentric.figures.overview import Correlation
from eucentric.geometry import Deformation, VolumeWarp
from eucentric.io.curves import read_curves
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.io.warps import read_deformation
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.average_report import read_fsc, read_object
from eucentric.pipeline.half_maps import RECORD as AVERAGE
from eucentric.pipeline.refine_files import RECORD
from eucentric.pipeline.refine_state import STATE, TABLE, is_shared
from eucentric.refinement.results import GroupTrial, KeptChange
from eucentric.report.refinement_sections import RefinedSeriesFiles, RefinementFiles, group_words
from eucentric.typing import FloatArray

FOLDER = "refine"
_ROUNDS = "rounds"
_CURVE = "rlnFourierShellCorrelationCorrected"
_PLACES = 7
"""Along each edge of the field, where displacements are told."""
_TRACK_DOSES = 61
_TRACKED = {
    "middle": (0.0, 0.0), "left below": (-0.33, -0.33), "right below": (0.33, -0.33), "left above": (-0.33, 0.33),
    "right above": (0.33, 0.33),
}  # fmt: skip
"""Places in parts of the field from the middle, x and y."""
_CHANGED = 1e-3  # A, below which a field is as it was: tables are rounded


def refine_folders(root: Path) -> list[Path]:
    """Folders of refinements in a project, finished or not."""
    found = {p.parent for p in (root / FOLDER).glob(f"*/{RECORD}")}
    found |= {p.parents[2] for p in (root / FOLDER).glob(f"*/{_ROUNDS}/000/{STATE}")}
    return sorted(found)


def refine_mark(folder: Path) -> tuple[str, int, int]:
    """What tells whether a refinement changed: its record, or the state of its last round, is written last."""
    last = folder / RECORD if (folder / RECORD).is_file() else _states(folder)[-1]
    stat = last.stat()
    return f"{FOLDER}/{folder.name}", stat.st_size, stat.st_mtime_ns


def refinement_settings(root: Path) -> dict[str, list[Mapping[str, Any]]]:
    """What finished refinements of a project kept, in words, for the methods text; nothing where there are none."""
    found: list[Mapping[str, Any]] = []
    for folder in refine_folders(root):
        record = read_object(folder / RECORD)
        if record:
            parts = [_trials(one) for one in _objects(record.get("series")).values()]
            found.append({"kept": [group_words(t.family) for part in parts for t in part if t.accepted]})
    return {"refine": found} if found else {}


def refined_averages(folder: Path) -> list[Path]:
    """Folders of the averages that a refinement made, one for each species."""
    species = _objects(read_object(folder / RECORD).get("species"))
    return [folder / name for name in species if (folder / name / AVERAGE).is_file()]


def read_refinement(folder: Path, root: Path) -> RefinementFiles:
    """What there is of a refinement; what cannot be read is left out and told of.

    Parameters
    ----------
    root : of the project, that paths in its tables begin at
    """
    notes: list[str] = []
    record = read_object(folder / RECORD)
    state = _last_state(folder)
    series_figures = _objects(record.get("series")) or _objects(state.get("memory"))
    history = [h for h in (record or state).get("history", ()) if isinstance(h, Mapping) and "number" in h]
    last = folder / _ROUNDS / f"{int(state.get('number', 0)):03d}"
    after = _table(folder if (folder / TABLE).is_file() else last, root, notes)
    before = _table(folder / _ROUNDS / "000", root, notes)
    if not record:
        series_figures = _with_failures(series_figures, history)
    species = _objects(record.get("species")) or _species_so_far(history)
    return RefinementFiles(
        name=folder.name,
        finished=bool(record),
        history=history,
        species=species,
        correlations={name: _correlations(folder, last, name, one, notes) for name, one in species.items()},
        series=tuple(
            _series(name, figures, before.get(name), after.get(name), folder, root)
            for name, figures in series_figures.items()
        ),
        caveats=(*(str(c) for c in record.get("caveats", ())), *notes),
    )


def _states(folder: Path) -> list[Path]:
    """Marks of whole rounds, in their order."""
    return sorted((folder / _ROUNDS).glob(f"[0-9][0-9][0-9]/{STATE}"))


def _last_state(folder: Path) -> Mapping[str, Any]:
    """Of the last round that came to its end; one that has not been judged bears no mark of its settings."""
    found = (read_object(path) for path in reversed(_states(folder)))
    return next((state for state in found if state.get("fingerprint")), {})


def _objects(values: Any) -> dict[str, Mapping[str, Any]]:
    """The objects among the values of one."""
    if not isinstance(values, Mapping):
        return {}
    return {str(name): one for name, one in values.items() if isinstance(one, Mapping)}


def _with_failures(
    memory: Mapping[str, Mapping[str, Any]], history: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """What rounds remember of series, with the failures and counts that they tell of."""
    out = dict(memory)
    for entry in history:
        for name, figures in _objects(entry.get("series")).items():
            out[name] = {"failure": None, **out.get(name, {}), **figures}
    return out


def _species_so_far(history: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Figures of species from the rounds that were kept."""
    kept = [_objects(entry.get("species")) for entry in history if entry.get("accepted", True)]
    if not kept:
        return {}
    return {
        name: {
            "particles": first.get("particles"),
            "resolution_before": first.get("resolution_angstrom"),
            "resolution_after": kept[-1].get(name, {}).get("resolution_angstrom"),
        }
        for name, first in kept[0].items()
    }


def _correlations(
    folder: Path, last: Path, name: str, figures: Mapping[str, Any], notes: list[str]
) -> tuple[Correlation, ...]:
    """Before and after; those whose curves are there."""
    places = {"before": folder / _ROUNDS / "000" / f"fsc_{name}.star", "after": folder / name / "fsc.star"}
    if not places["after"].is_file():
        places["after"] = last / f"fsc_{name}.star"
    out = []
    for when, place in places.items():
        columns = read_fsc(place, notes) if place.is_file() else {}
        if columns.keys() >= {"rlnResolution", _CURVE}:
            reached = figures.get(f"resolution_{when}")
            out.append(
                Correlation(
                    name=when,
                    frequency=columns["rlnResolution"],
                    curve=columns[_CURVE],
                    resolution_angstrom=float("nan") if reached is None else float(reached),
                )
            )
    return tuple(out)


def _table(folder: Path, root: Path, notes: list[str]) -> dict[str, TiltSeries]:
    try:
        return {s.name: s for s in read_tilt_series_set(folder / TABLE, root)}
    except (EucentricError, OSError) as error:
        notes.append(f"The tilt series in `{folder.name}` are not shown: {error}")
        return {}


def _series(
    name: str,
    figures: Mapping[str, Any],
    before: TiltSeries | None,
    after: TiltSeries | None,
    folder: Path,
    root: Path,
) -> RefinedSeriesFiles:
    notes: list[str] = []
    if after is not None and not after.tilts:
        notes.append("The table of its tilts is empty.")
        after = None
    tilts, doses = (np.zeros(0), np.zeros(0)) if after is None else (after.nominal_tilts_deg, after.middle_doses)
    extent, fields = (1.0, 1.0), _Fields()
    if after is not None:
        height, width = (n * after.pixel_size_angstrom for n in after.image_shape)
        extent = width, height
        fields = _fields(before, after, _grid(extent), root, notes)
    failure = figures.get("failure")
    return RefinedSeriesFiles(
        name=name,
        shared=is_shared(name),
        failure=None if failure is None else str(failure),
        images=figures.get("images"),
        trials=tuple(_trials(figures)),
        kept=_kept(figures),
        tilts_deg=tilts,
        doses=doses,
        signal_scale=np.array([] if after is None else [t.signal_scale for t in after.tilts]),
        b_factor_angstrom2=np.array([] if after is None else [t.b_factor_angstrom2 for t in after.tilts]),
        extent_angstrom=extent,
        places_angstrom=_grid(extent),
        image_change_angstrom=fields.image_change,
        motion_angstrom=fields.motion,
        track_doses=fields.track_doses,
        tracks_angstrom=fields.tracks,
        signal=_signal(folder / "signal" / f"{name}.npz", notes),
        notes=tuple(notes),
    )


def _trials(figures: Mapping[str, Any]) -> list[GroupTrial]:
    """Groups that were tried; those of another version that cannot be told are left out."""
    out = []
    for one in figures.get("groups", figures.get("trials", ())):
        try:
            out.append(GroupTrial.from_json(one))
        except (TypeError, AttributeError):
            continue
    return out


def _kept(figures: Mapping[str, Any]) -> dict[str, KeptChange]:
    out = {}
    for one in figures.get("kept", ()):
        try:
            kept = KeptChange.from_json(one)
        except (KeyError, TypeError, ValueError):
            continue
        out[kept.family] = kept
    return out


def _signal(path: Path, notes: list[str]) -> Mapping[str, NDArray[Any]]:
    try:
        return read_curves(path)
    except FormatError as error:
        notes.append(f"What each image contributes is not shown: {error}")
        return {}


def _grid(extent_angstrom: tuple[float, float]) -> FloatArray:
    """(place, 2), x and y over the field."""
    line = np.linspace(-0.5, 0.5, _PLACES)
    out: FloatArray = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2) * np.array(extent_angstrom)
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fields:
    """Displacements as :class:`RefinedSeriesFiles` has them."""

    image_change: FloatArray | None = None
    motion: FloatArray | None = None
    track_doses: FloatArray = field(default_factory=lambda: np.zeros(0))
    tracks: Mapping[str, FloatArray] = field(default_factory=dict)


def _fields(before: TiltSeries | None, after: TiltSeries, places: FloatArray, root: Path, notes: list[str]) -> _Fields:
    try:
        new = _deformation(after.warp, after, root)
        # the images are those of after, in its order
        old = _deformation(None if before is None else before.warp, after, root)
    except (EucentricError, OSError) as error:
        notes.append(f"The motion is not shown: {error}")
        return _Fields()
    change = _bending(new, len(after.tilts), places) - _bending(old, len(after.tilts), places)
    fields = _Fields(image_change=change if before is not None and np.abs(change).max(initial=0.0) > _CHANGED else None)
    if new.volume is None or not np.isfinite(after.middle_doses).all():
        return fields
    extent = 2.0 * np.abs(places).max(axis=0)
    spots = np.array(list(_TRACKED.values())) * extent
    doses = np.linspace(after.middle_doses.min(), after.middle_doses.max(), _TRACK_DOSES)
    tracks = _moved(new.volume, spots, doses, after.middle_doses)
    return replace(
        fields,
        motion=_moved(new.volume, places, after.middle_doses, after.middle_doses),
        track_doses=doses,
        tracks={name: tracks[:, i] for i, name in enumerate(_TRACKED)},
    )


def _deformation(warp: str | None, series: TiltSeries, root: Path) -> Deformation:
    return Deformation() if warp is None else read_deformation(root / warp, series)


def _bending(deformation: Deformation, tilts: int, places: FloatArray) -> FloatArray:
    """(tilt, place, 2), of the images."""
    warp = deformation.image
    if warp is None:
        return np.zeros((tilts, len(places), 2))
    return np.asarray(warp.weights(places) @ warp.displacement_angstrom.reshape(tilts, -1, 2))


def _moved(warp: VolumeWarp, places: FloatArray, doses: FloatArray, imaged: FloatArray) -> FloatArray:
    """(dose, place, 3) at mid-height, less the mean over the doses of the images, which is where the particles are."""
    points = np.concatenate([places, np.zeros((len(places), 1))], axis=1)
    out: FloatArray = warp.along(points, doses) - warp.along(points, imaged).mean(axis=0)
    return out
