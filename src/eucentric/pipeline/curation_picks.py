"""Adding, deleting and moving picks: `pick/<name>/particles_curated.star` beside the original, which stays as it is."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_series
from eucentric.pipeline.curation_pick_table import (
    CURATED,
    PICKS,
    Folded,
    Pick,
    PickChange,
    fold,
    list_names,
    read_pick_table,
    require_list_name,
    write_curated,
)
from eucentric.pipeline.explain import unknown_name

Position: TypeAlias = tuple[float, float, float]
_TABLE = "reconstruct/tilt_series.star"


class _OfPick(Edit):
    tomogram: str = Field(description="name of the tilt series")
    picks: str = Field(description="name of the list of picks: the folder below `pick`")

    @property
    def scope(self) -> str:
        """`picks/<list>/<tomogram>`."""
        return f"picks/{self.picks}/{self.tomogram}"

    @abstractmethod
    def change(self, entry: Entry) -> PickChange:
        """What the edit does to the list."""

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the list with its edits; without any, only the original is left."""
        del entry, undone
        return write_picks(place.root, self.picks, place.done)


class AddPick(_OfPick):
    """Add a pick. It has no orientation, but in lists along surfaces and filaments that of its nearest neighbour."""

    kind: Literal["add-pick"] = "add-pick"
    position: Position = Field(description="A: x, y and z from the specimen centre")
    pick: str | None = Field(default=None, description="its name; made where none")

    def words(self) -> str:
        """The list and the place."""
        return f"added a pick to {self.picks} in {self.tomogram} at {_place(self.position)}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Inside of the tomogram, and not where there is one."""
        require_list_name(self.picks)
        frame = tomogram_frame(place.root, self.tomogram)
        _require_inside(self.position, frame, self.tomogram)
        _require_apart(self, self.position, None, frame, picks_of(place.root, self.picks, place.done))
        return self.replace(pick=f"{self.tomogram}/c{place.number}"), {}

    def change(self, entry: Entry) -> PickChange:
        """One pick more."""
        return PickChange(
            number=entry.number,
            action="add",
            tomogram=self.tomogram,
            pick=str(self.pick),
            position=self.position,
            before=None,
        )


class DeletePick(_OfPick):
    """Delete a pick."""

    kind: Literal["delete-pick"] = "delete-pick"
    pick: str = Field(description="its name, rlnTomoParticleName")

    def words(self) -> str:
        """The list and the pick."""
        return f"deleted {self.pick} of {self.picks} in {self.tomogram}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must be there."""
        found = _require_pick(self, place)
        return self, {"position": list(found.position)}

    def change(self, entry: Entry) -> PickChange:
        """One pick less."""
        return PickChange(
            number=entry.number,
            action="delete",
            tomogram=self.tomogram,
            pick=self.pick,
            position=None,
            before=_before(entry),
        )


class MovePick(_OfPick):
    """Move a pick; all else of it stays."""

    kind: Literal["move-pick"] = "move-pick"
    pick: str = Field(description="its name, rlnTomoParticleName")
    position: Position = Field(description="A: x, y and z from the specimen centre")

    def words(self) -> str:
        """The list, the pick and the place."""
        return f"moved {self.pick} of {self.picks} in {self.tomogram} to {_place(self.position)}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Inside of the tomogram, and not where another one is."""
        found = _require_pick(self, place)
        frame = tomogram_frame(place.root, self.tomogram)
        _require_inside(self.position, frame, self.tomogram)
        if found.position == self.position:
            raise InputError(f"{self.pick} of {self.picks} lies at {_place(self.position)} already.")
        _require_apart(self, self.position, self.pick, frame, picks_of(place.root, self.picks, place.done))
        return self, {"position": list(found.position)}

    def change(self, entry: Entry) -> PickChange:
        """The same pick elsewhere."""
        return PickChange(
            number=entry.number,
            action="move",
            tomogram=self.tomogram,
            pick=self.pick,
            position=self.position,
            before=_before(entry),
        )


def _before(entry: Entry) -> Position:
    x, y, z = (entry.before or {})["position"]
    return float(x), float(y), float(z)


def _place(position: Position) -> str:
    return "{:.1f}, {:.1f}, {:.1f} A".format(*position)


def tomogram_frame(root: Path, name: str) -> TomogramFrame:
    """The grid of a tomogram of the project.

    Raises
    ------
    InputError : no such series, or one without a tomogram
    """
    require_series(root, name)
    table = root / _TABLE
    there = table.is_file() and name in tilt_series_names(table)
    tomogram = read_tilt_series(table, name, root).tomogram if there else None
    if tomogram is None:
        raise InputError(f"{name} has no tomogram that picks could lie in. Run `eucentric reconstruct {root}` first.")
    z, y, x = tomogram.shape_zyx
    return TomogramFrame(voxel_size_angstrom=tomogram.voxel_size_angstrom, size_xyz=(x, y, z))


def picks_of(root: Path, name: str, done: Iterable[Entry]) -> Folded:
    """A list of picks with its edits; errors as `read_pick_table`."""
    return fold(read_pick_table(root, name), _changes(name, done))


def _changes(name: str, done: Iterable[Entry]) -> list[PickChange]:
    return [e.edit.change(e) for e in done if isinstance(e.edit, _OfPick) and e.edit.picks == name]


def edited_lists(done: Iterable[Entry]) -> list[str]:
    """Lists that have edits in force."""
    return sorted({e.edit.picks for e in done if isinstance(e.edit, _OfPick)})


def write_picks(root: Path, name: str, done: Iterable[Entry]) -> list[Path]:
    """Write a list with its edits, or remove the edited list where no edit is in force; what was written."""
    changes = _changes(name, done)
    path = root / PICKS / require_list_name(name) / CURATED
    if not changes:
        path.unlink(missing_ok=True)
        return []
    table = read_pick_table(root, name)
    return [write_curated(root, name, table, fold(table, changes))]


def _require_pick(edit: DeletePick | MovePick, place: Workplace) -> Pick:
    require_series(place.root, edit.tomogram)
    known = list_names(place.root)
    if edit.picks not in known:
        raise unknown_name(edit.picks, known, "list of picks", f"`{place.root}`")
    here = picks_of(place.root, edit.picks, place.done).in_tomogram(edit.tomogram)
    found = next((p for p in here if p.name == edit.pick), None)
    if found is None:
        raise InputError(
            f"The list {edit.picks} has no pick {edit.pick} in {edit.tomogram}; it has {len(here)} there. "
            "It may have been deleted, or the list made anew."
        )
    return found


def _require_inside(position: Position, frame: TomogramFrame, tomogram: str) -> None:
    if not all(math.isfinite(v) for v in position):
        raise InputError(f"A coordinate of {position} is not a number; expected x, y and z in A.")
    index = frame.to_index(position)
    if (index < -0.5).any() or (index > np.array(frame.size_xyz) - 0.5).any():
        low, high = (frame.to_angstrom(i) for i in ((0, 0, 0), np.array(frame.size_xyz) - 1))
        ranges = ", ".join(f"{a} {b:g} to {c:g}" for a, b, c in zip("xyz", low, high, strict=True))
        raise InputError(f"{_place(position)} lies outside of the tomogram of {tomogram}, which is {ranges} A.")


def _require_apart(edit: _OfPick, position: Position, moved: str | None, frame: TomogramFrame, folded: Folded) -> None:
    """Two picks of a list less than a voxel apart are one."""
    for pick in folded.in_tomogram(edit.tomogram):
        apart = math.dist(pick.position, position)
        if pick.name != moved and apart < frame.voxel_size_angstrom:
            raise InputError(
                f"{edit.picks} has a pick at {_place(pick.position)} already ({pick.name}), {apart:.1f} A away: less than a voxel."
            )
