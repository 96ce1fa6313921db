"""Tracks of a series as a table that can be corrected: `curation/tracks/<series>.star`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from eucentric.errors import InputError
from eucentric.io.atomic import atomic_path
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.tracks import read_tracks, read_tracks_by_hand, write_tracks
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.models.tracks import Tracks
from eucentric.pipeline.records import read_record, row_path
from eucentric.pipeline.repair_paths import found_track_file, track_file
from eucentric.typing import FloatArray

_STAGES = ("axis", "align")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Where a point is seen in an image."""

    position_angstrom: tuple[float, float]
    """x and y from the image centre, y up."""
    covariance: tuple[float, float, float]
    """xx, xy and yy, A^2."""
    by_hand: bool = False


TrackTable: TypeAlias = Mapping[tuple[int, int], Observation]
"""By point and acquisition."""


def recorded_tilts(root: Path, series: str) -> tuple[TiltSeries, list[Tilt]]:
    """The series as the alignment read it, and all its tilts, left-out ones included, in ascending angle.

    Raises
    ------
    InputError : no such series
    """
    for stage in ("align", "motion", "import"):
        row = row_path(root / stage, series)
        table = row if row.is_file() else root / stage / "tilt_series.star"
        if table.is_file():
            found = read_tilt_series(table, series, root)
            every = [*found.tilts, *(e.tilt for e in found.excluded)]
            return found, sorted(every, key=lambda t: (t.nominal_tilt_deg, t.acquisition))
    raise InputError(f"{series} has no tilts to track points in. Import it first.")


def latest_tracks(root: Path, series: str) -> Path | None:
    """Tracks that the present alignment was fitted to; None where it needed none."""
    return next((p for s in _STAGES if (p := root / s / "tracks" / f"{series}.star").is_file()), None)


def keep_found_tracks(root: Path, series: str, *, edited: bool) -> None:
    """Keep the tracks of the present alignment, which corrections start from.

    Parameters
    ----------
    edited : corrections are in force; then what they started from stays
    """
    kept = found_track_file(root, series)
    record = read_record(root / "align", series)
    corrected = record is not None and "tracks_by_hand" in record.metrics
    if kept.is_file() and (edited or corrected):
        return
    source = latest_tracks(root, series)
    if source is None:
        kept.unlink(missing_ok=True)
        return
    with atomic_path(kept) as temporary:
        shutil.copyfile(source, temporary)


def found_tracks(root: Path, series: str) -> dict[tuple[int, int], Observation]:
    """What corrections start from; empty where nothing was tracked. Errors as `read_track_table`."""
    path = found_track_file(root, series)
    return read_track_table(path, recorded_tilts(root, series)[1]) if path.is_file() else {}


def read_track_table(path: Path, tilts: list[Tilt]) -> dict[tuple[int, int], Observation]:
    """A table of tracks, with its marks.

    Raises
    ------
    InputError, FormatError : as `eucentric.io.tracks.read_tracks`
    """
    acquisitions = [t.acquisition for t in tilts]
    tracks, marks = read_tracks(path, acquisitions), read_tracks_by_hand(path)
    table = {}
    for i in range(len(tracks)):
        key = int(tracks.points[i]), acquisitions[tracks.tilts[i]]
        x, y = tracks.positions_angstrom[i].tolist()
        (xx, xy), (_, yy) = tracks.covariance[i].tolist()
        table[key] = Observation(position_angstrom=(x, y), covariance=(xx, xy, yy), by_hand=key in marks)
    return table


def write_track_table(root: Path, series: str, table: TrackTable) -> Path:
    """Write the corrected tracks of a series."""
    tilts = recorded_tilts(root, series)[1]
    where = {t.acquisition: i for i, t in enumerate(tilts)}
    rows = [(key, row) for key, row in table.items() if key[1] in where]
    covariance = np.array([[[c[0], c[1]], [c[1], c[2]]] for c in (row.covariance for _, row in rows)]).reshape(-1, 2, 2)
    tracks = Tracks.build(
        [point for (point, _), _ in rows],
        [where[acquisition] for (_, acquisition), _ in rows],
        np.array([row.position_angstrom for _, row in rows]).reshape(-1, 2),
        covariance=covariance,
    )
    path = track_file(root, series)
    hand = np.array([row.by_hand for _, row in rows], dtype=bool)
    write_tracks(path, tracks, [t.acquisition for t in tilts], [t.image or "" for t in tilts], by_hand=hand)
    return path


def marked(position: tuple[float, float], sigma: float) -> Observation:
    """A point that a person set, known to `sigma` A in x and y."""
    return Observation(position_angstrom=position, covariance=(sigma**2, 0.0, sigma**2), by_hand=True)


def split(table: TrackTable, point: int, new: int, acquisitions: set[int]) -> dict[tuple[int, int], Observation]:
    """Some tilts of a point as a point of their own."""
    return {(new if p == point and a in acquisitions else p, a): row for (p, a), row in table.items()}


def joined(table: TrackTable, point: int, other: int) -> dict[tuple[int, int], Observation]:
    """Two points as one; where both are seen that of `point` counts, set by hand where it is."""
    kept = {key: row for key, row in table.items() if key[0] != other}
    moved = {(point, a): row for (p, a), row in table.items() if p == other and (point, a) not in kept}
    return kept | {key: replace(row) for key, row in moved.items()}


def positions(table: TrackTable, acquisition: int) -> dict[int, FloatArray]:
    """Places of all points in one image, A from its centre."""
    return {p: np.array(row.position_angstrom) for (p, a), row in table.items() if a == acquisition}
