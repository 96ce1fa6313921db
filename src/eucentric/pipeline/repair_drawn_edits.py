"""Drawing points, filaments and surfaces in tomograms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_series, require_text
from eucentric.pipeline.repair_drawn_files import Drawn, Shape, filament_of, surface_of, write_drawn
from eucentric.pipeline.repair_placed import Carrier, Line, PlacedEdit, require_inside


class Draw(PlacedEdit):
    """Draw a group of points, a filament or a surface, or draw one anew."""

    kind: Literal["draw"] = "draw"
    shape: Shape = Field(description="point, filament or surface")
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=500)] = Field(
        description="A from the specimen centre: one line of points; of a surface a contour in each slice"
    )
    closed: bool = Field(
        default=False, description="of a surface: the last point of each contour is joined to its first"
    )
    label: str = Field(default="", description="what it is, in words")
    number: int | None = Field(default=None, ge=1, description="of what is drawn anew; a new one where none")

    @property
    def scope(self) -> str:
        """`drawn/<series>`."""
        return f"drawn/{self.series}"

    def words(self) -> str:
        """What was drawn."""
        count = sum(len(line) for line in self.lines)
        named = f" ({self.label})" if self.label else ""
        return f"drew {self.shape} {self.number}{named} in {self.series}, {count} {'point' if count == 1 else 'points'} in all"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Inside of the tomogram, and enough of it to be what it is called."""
        edit, frame = self.placed(place)
        edit = edit.replace(
            label=require_text(self.label, "label", 60), number=place.number if self.number is None else self.number
        )
        for line in self.lines:
            require_inside(np.array(line), frame.grid, self.shape)
        if self.shape != "surface" and len(self.lines) > 1:
            raise InputError(f"A {self.shape} is one line; {len(self.lines)} were given. Draw each on its own.")
        if self.closed and self.shape != "surface":
            raise InputError("Only contours of surfaces are closed.")
        before = drawings_of(self.series, place.done).get(edit.number or 0)
        if self.number is not None and before is None:
            raise InputError(f"{self.series} has no drawing {self.number}.")
        drawn = edit.drawn(Carrier(place, self.series))
        if drawn.shape == "filament":
            filament_of(drawn, 1)
        if drawn.shape == "surface" and drawn.whole:
            surface_of(drawn)
        return edit, {} if before is None else before.model_dump(mode="json", include={"lines", "closed", "label"})

    def drawn(self, carry: Carrier) -> Drawn:
        """In the frame of the present tomogram."""
        assert self.number is not None
        return Drawn(
            series=self.series,
            number=self.number,
            shape=self.shape,
            label=self.label,
            lines_angstrom=tuple(carry(self.frame, np.array(line)) for line in self.lines),
            closed=self.closed,
            voxel_angstrom=carry.frame.grid.voxel_size_angstrom,
        )

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write all that is drawn in the project."""
        del entry, undone
        return write_drawn(place.root, everything_drawn(place))


class DeleteDrawing(Edit):
    """Delete what was drawn."""

    kind: Literal["delete-drawing"] = "delete-drawing"
    series: str = Field(description="name of the tilt series")
    number: int = Field(ge=1, description="of the drawing")

    @property
    def scope(self) -> str:
        """`drawn/<series>`."""
        return f"drawn/{self.series}"

    def words(self) -> str:
        """The drawing."""
        return f"deleted drawing {self.number} of {self.series}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must be there."""
        require_series(place.root, self.series)
        before = drawings_of(self.series, place.done).get(self.number)
        if before is None:
            raise InputError(f"{self.series} has no drawing {self.number}.")
        return self, {"shape": before.shape, "points": sum(len(line) for line in before.lines)}

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write all that is drawn in the project."""
        del entry, undone
        return write_drawn(place.root, everything_drawn(place))


DRAWN_EDITS: tuple[type[Edit], ...] = (Draw, DeleteDrawing)


def drawings_of(series: str, done: Iterable[Entry]) -> dict[int, Draw]:
    """Drawings in force of one series, by number."""
    found: dict[int, Draw] = {}
    for entry in done:
        edit = entry.edit
        if isinstance(edit, Draw) and edit.series == series and edit.number is not None:
            found[edit.number] = edit
        elif isinstance(edit, DeleteDrawing) and edit.series == series:
            found.pop(edit.number, None)
    return found


def everything_drawn(place: Workplace) -> list[Drawn]:
    """Drawings in force of all series, each in the frame of its present tomogram."""
    names = sorted({e.edit.series for e in place.done if isinstance(e.edit, Draw)})
    return [d for name in names for d in drawn_in(place, name)]


def drawn_in(place: Workplace, series: str) -> list[Drawn]:
    """Drawings in force of one series, in the frame of its present tomogram."""
    edits = drawings_of(series, place.done)
    if not edits:
        return []
    carry = Carrier(place, series)
    return [edits[number].drawn(carry) for number in sorted(edits)]
