"""Marking the faces of a specimen: points on its top and bottom, which the next reconstruction levels by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_series
from eucentric.pipeline.repair_level_files import MarkedFaces, write_faces
from eucentric.pipeline.repair_paths import levels_file
from eucentric.pipeline.repair_placed import Carrier, PlacedEdit, Position, require_inside
from eucentric.typing import FloatArray

Face = Literal["top", "bottom"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FacePoint:
    """A mark, in the frame that it was set in."""

    number: int
    face: Face
    position_angstrom: Position
    frame: str | None


class SetFacePoint(PlacedEdit):
    """Mark a point on a face of the specimen, or move a mark."""

    for_next_run: ClassVar[bool] = True
    kind: Literal["set-face-point"] = "set-face-point"
    face: Face = Field(description="top (larger z) or bottom")
    position: Position = Field(description="A: x, y and z from the specimen centre")
    number: int | None = Field(default=None, ge=1, description="of the mark to be moved; a new one where none")

    @property
    def scope(self) -> str:
        """`levels/<series>`."""
        return f"levels/{self.series}"

    def words(self) -> str:
        """The face and the place."""
        at = ", ".join(f"{v:.0f}" for v in self.position)
        return f"marked the {self.face} of the specimen of {self.series} at {at} A"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Inside of the tomogram, the top above the bottom."""
        edit, frame = self.placed(place)
        require_inside(np.array([self.position]), frame.grid, "mark")
        marks = face_points(self.series, place.done)
        if self.number is not None and self.number not in marks:
            raise InputError(f"{self.series} has no mark {self.number} on its specimen.")
        before = {} if self.number is None else {"position": list(marks[self.number].position_angstrom)}
        edit = edit.replace(number=place.number if self.number is None else self.number)
        faces = _faces(edit.applied(marks), Carrier(place, self.series))
        if faces is not None:
            faces.slab()
        return edit, before

    def applied(self, marks: dict[int, FacePoint]) -> dict[int, FacePoint]:
        """One more, or elsewhere."""
        assert self.number is not None
        mark = FacePoint(number=self.number, face=self.face, position_angstrom=self.position, frame=self.frame)
        return marks | {self.number: mark}

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the faces, where both are marked."""
        del entry, undone
        return _write(place, self.series)


class DeleteFacePoint(Edit):
    """Take a mark off a face of the specimen."""

    for_next_run: ClassVar[bool] = True
    kind: Literal["delete-face-point"] = "delete-face-point"
    series: str = Field(description="name of the tilt series")
    number: int = Field(ge=1, description="of the mark")

    @property
    def scope(self) -> str:
        """`levels/<series>`."""
        return f"levels/{self.series}"

    def words(self) -> str:
        """The mark."""
        return f"took mark {self.number} off the specimen of {self.series}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must be there."""
        require_series(place.root, self.series)
        marks = face_points(self.series, place.done)
        if self.number not in marks:
            raise InputError(f"{self.series} has no mark {self.number} on its specimen.")
        mark = marks[self.number]
        return self, {"face": mark.face, "position": list(mark.position_angstrom)}

    def applied(self, marks: dict[int, FacePoint]) -> dict[int, FacePoint]:
        """One less."""
        return {number: mark for number, mark in marks.items() if number != self.number}

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the faces, where both are marked."""
        del entry, undone
        return _write(place, self.series)


LEVEL_EDITS: tuple[type[Edit], ...] = (SetFacePoint, DeleteFacePoint)


def face_points(series: str, done: Iterable[Entry]) -> dict[int, FacePoint]:
    """Marks in force, by number."""
    marks: dict[int, FacePoint] = {}
    for entry in done:
        if isinstance(entry.edit, SetFacePoint | DeleteFacePoint) and entry.edit.series == series:
            marks = entry.edit.applied(marks)
    return marks


def marked_faces(place: Workplace, series: str) -> MarkedFaces | None:
    """Marks in force in the frame of the present tomogram; None where a face has none."""
    marks = face_points(series, place.done)
    return _faces(marks, Carrier(place, series)) if marks else None


def _faces(marks: dict[int, FacePoint], carry: Carrier) -> MarkedFaces | None:
    sides: dict[str, list[FloatArray]] = {"top": [], "bottom": []}
    for mark in marks.values():
        sides[mark.face].append(carry(mark.frame, np.array([mark.position_angstrom])))
    if not all(sides.values()):
        return None
    return MarkedFaces(
        top_angstrom=np.concatenate(sides["top"]), bottom_angstrom=np.concatenate(sides["bottom"]), frame=carry.frame
    )


def _write(place: Workplace, series: str) -> list[Path]:
    faces = marked_faces(place, series)
    if faces is None:
        levels_file(place.root, series).unlink(missing_ok=True)
        return []
    return [write_faces(place.root, series, faces)]
