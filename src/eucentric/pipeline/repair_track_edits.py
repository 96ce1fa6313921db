"""Corrections of tracks: points moved, added and deleted, tracks deleted, split and joined."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_series
from eucentric.pipeline.repair_paths import track_file
from eucentric.pipeline.repair_track_files import (
    Observation,
    found_tracks,
    joined,
    keep_found_tracks,
    marked,
    recorded_tilts,
    split,
    write_track_table,
)

Table: TypeAlias = dict[tuple[int, int], Observation]


class _OfTracks(Edit):
    for_next_run: ClassVar[bool] = True
    series: str = Field(description="name of the tilt series")

    @property
    def scope(self) -> str:
        """`tracks/<series>`."""
        return f"tracks/{self.series}"

    @abstractmethod
    def applied(self, table: Table) -> Table:
        """The table after it."""

    def table(self, place: Workplace) -> Table:
        """The table before it; what was found is kept first."""
        require_series(place.root, self.series)
        keep_found_tracks(place.root, self.series, edited=bool(place.of(self.scope)))
        return corrected_tracks(place.root, self.series, place.done)

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the corrected tracks; without corrections there are none."""
        del entry, undone
        if not place.of(self.scope):
            track_file(place.root, self.series).unlink(missing_ok=True)
            return []
        table = corrected_tracks(place.root, self.series, place.done)
        return [write_track_table(place.root, self.series, table)]

    def _angle(self, place: Workplace, acquisition: int) -> float:
        tilts = recorded_tilts(place.root, self.series)[1]
        found = next((t for t in tilts if t.acquisition == acquisition), None)
        if found is None:
            raise InputError(f"{self.series} has no image that was taken as number {acquisition}.")
        return found.nominal_tilt_deg


def corrected_tracks(root: Path, series: str, done: Iterable[Entry]) -> Table:
    """Tracks of a series with all corrections in force, by point and acquisition; errors as `found_tracks`."""
    table = found_tracks(root, series)
    for entry in done:
        if isinstance(entry.edit, _OfTracks) and entry.edit.series == series:
            table = entry.edit.applied(table)
    return table


def _require(table: Table, point: int, series: str, acquisition: int | None = None) -> Observation | None:
    """The observation, where an acquisition is given; InputError where there is none."""
    if all(p != point for p, _ in table):
        raise InputError(f"{series} has no track of a point {point}.")
    if acquisition is None:
        return None
    found = table.get((point, acquisition))
    if found is None:
        raise InputError(
            f"Point {point} of {series} is not tracked in the image that was taken as number {acquisition}."
        )
    return found


def _new(table: Table) -> int:
    return max((p for p, _ in table), default=-1) + 1


class SetTrackPoint(_OfTracks):
    """Put a point where it is seen in an image: moved, added to a track, or the first of a new bead."""

    kind: Literal["set-track-point"] = "set-track-point"
    acquisition: int = Field(ge=0, description="order of acquisition of the image, from 0")
    position: tuple[float, float] = Field(description="A: x and y from the image centre, y up")
    point: int | None = Field(default=None, ge=0, description="the track; a new one where none")
    sigma: float | None = Field(
        default=None, gt=0, description="A: how well it was set; one pixel of the image where none"
    )

    def words(self) -> str:
        """The point and the place."""
        at = ", ".join(f"{v:.0f}" for v in self.position)
        return f"set point {self.point} of {self.series} in image {self.acquisition} at {at} A"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Inside of the image."""
        table = self.table(place)
        self._angle(place, self.acquisition)
        series = recorded_tilts(place.root, self.series)[0]
        rows, columns = series.image_shape
        x, y = (v / series.pixel_size_angstrom for v in self.position)
        if abs(x) > 0.5 * columns or abs(y) > 0.5 * rows:
            raise InputError(f"A point at {x:.0f}, {y:.0f} pixels from the centre lies outside of the image.")
        if self.point is not None:
            _require(table, self.point, self.series)
        before = None if self.point is None else table.get((self.point, self.acquisition))
        edit = self.replace(
            point=_new(table) if self.point is None else self.point, sigma=self.sigma or series.pixel_size_angstrom
        )
        return edit, _position(before)

    def applied(self, table: Table) -> Table:
        """One observation more, or elsewhere."""
        assert self.point is not None
        assert self.sigma is not None
        return table | {(self.point, self.acquisition): marked(self.position, self.sigma)}


class DeleteTrackPoint(_OfTracks):
    """Delete a point in one image."""

    kind: Literal["delete-track-point"] = "delete-track-point"
    acquisition: int = Field(ge=0, description="order of acquisition of the image, from 0")
    point: int = Field(ge=0, description="the track")

    def words(self) -> str:
        """The point and the image."""
        return f"deleted point {self.point} of {self.series} in image {self.acquisition}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must be there, and not be all."""
        table = self.table(place)
        before = _require(table, self.point, self.series, self.acquisition)
        _require_more(self.applied(table), self.series)
        return self, _position(before)

    def applied(self, table: Table) -> Table:
        """One observation less."""
        return {key: row for key, row in table.items() if key != (self.point, self.acquisition)}


class DeleteTrack(_OfTracks):
    """Delete a point in all images."""

    kind: Literal["delete-track"] = "delete-track"
    point: int = Field(ge=0, description="the track")

    def words(self) -> str:
        """The point."""
        return f"deleted the track of point {self.point} of {self.series}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must be there, and not be all."""
        table = self.table(place)
        _require(table, self.point, self.series)
        _require_more(self.applied(table), self.series)
        return self, {"images": sum(p == self.point for p, _ in table)}

    def applied(self, table: Table) -> Table:
        """One point less."""
        return {key: row for key, row in table.items() if key[0] != self.point}


class SplitTrack(_OfTracks):
    """Make what a track follows from one image on, towards larger angles, a point of its own: it jumped to something else."""

    kind: Literal["split-track"] = "split-track"
    acquisition: int = Field(ge=0, description="order of acquisition of the first image of the new track, from 0")
    point: int = Field(ge=0, description="the track")
    new: int | None = Field(default=None, ge=0, description="number of the new track; chosen where none")
    images: tuple[int, ...] = Field(default=(), description="of the new track, by order of acquisition; filled in")

    def words(self) -> str:
        """Both tracks."""
        return f"split point {self.point} of {self.series} at image {self.acquisition}: the rest is point {self.new}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Both parts must hold an image."""
        table = self.table(place)
        self._angle(place, self.acquisition)
        _require(table, self.point, self.series)
        order = [t.acquisition for t in recorded_tilts(place.root, self.series)[1]]
        seen = [a for a in order if (self.point, a) in table]
        later = tuple(a for a in seen if order.index(a) >= order.index(self.acquisition))
        if not later or len(later) == len(seen):
            raise InputError(f"All of point {self.point} lies on one side of that image; there is nothing to split.")
        return self.replace(new=_new(table), images=later), {}

    def applied(self, table: Table) -> Table:
        """One point more."""
        assert self.new is not None
        return split(table, self.point, self.new, set(self.images))


class JoinTracks(_OfTracks):
    """Make two tracks one: both follow the same thing. Where both are seen that of `point` counts."""

    kind: Literal["join-tracks"] = "join-tracks"
    point: int = Field(ge=0, description="the track that stays")
    other: int = Field(ge=0, description="the track that becomes part of it")

    def words(self) -> str:
        """Both tracks."""
        return f"joined point {self.other} of {self.series} to point {self.point}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Two tracks that are there."""
        table = self.table(place)
        if self.point == self.other:
            raise InputError("A track cannot be joined to itself.")
        for one in (self.point, self.other):
            _require(table, one, self.series)
        return self, {}

    def applied(self, table: Table) -> Table:
        """One point less."""
        return joined(table, self.point, self.other)


TRACK_EDITS: tuple[type[Edit], ...] = (SetTrackPoint, DeleteTrackPoint, DeleteTrack, SplitTrack, JoinTracks)


def _position(row: Observation | None) -> dict[str, Any]:
    return {} if row is None else {"position": list(row.position_angstrom), "by_hand": row.by_hand}


def _require_more(table: Table, series: str) -> None:
    if not table:
        raise InputError(
            f"That is the last point of {series}. To have points tracked anew, undo the corrections instead."
        )
