"""Painting labels in slices of tomograms, and naming them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_text
from eucentric.pipeline.repair_frames import DrawingFrame, motion_between, read_frame
from eucentric.pipeline.repair_label_files import (
    AXES,
    MOST,
    BrushStroke,
    LabelVoxels,
    carried,
    paint,
    write_label_names,
    write_labels,
)
from eucentric.pipeline.repair_paths import label_file, label_names_file
from eucentric.pipeline.repair_placed import Carrier, Line, PlacedEdit, require_inside


class PaintStroke(PlacedEdit):
    """Paint, or erase, along a line in one slice with a round brush."""

    kind: Literal["paint"] = "paint"
    label: int = Field(ge=1, le=MOST, description="number of the label")
    axis: Literal["x", "y", "z"] = Field(default="z", description="the slice is across it")
    points: Line = Field(description="A: x, y and z from the specimen centre, all in one slice")
    radius: float = Field(gt=0, description="A, of the brush")
    erase: bool = Field(default=False, description="take the label away")
    fill: bool = Field(default=False, description="also what the line, closed, goes around")

    @property
    def scope(self) -> str:
        """`labels/<series>`."""
        return f"labels/{self.series}"

    def words(self) -> str:
        """The label and the slice."""
        at = self.points[0][AXES.index(self.axis)]
        verb = "erased" if self.erase else "painted"
        return f"{verb} label {self.label} of {self.series} at {self.axis} {at:.0f} A"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """All in one slice of the tomogram."""
        edit, frame = self.placed(place)
        points = np.array(self.points)
        require_inside(points, frame.grid, "stroke")
        if np.ptp(points[:, AXES.index(self.axis)]) > 0.5 * frame.grid.voxel_size_angstrom:
            raise InputError(f"The stroke runs through several slices across {self.axis}; expected one slice.")
        if self.radius > 0.5 * max(frame.grid.size_xyz) * frame.grid.voxel_size_angstrom:
            raise InputError(f"A brush of {self.radius:.0f} A is larger than the tomogram.")
        return edit, {}

    def stroke(self) -> BrushStroke:
        """In its own frame."""
        return BrushStroke(
            label=self.label,
            axis=self.axis,
            points_angstrom=np.array(self.points),
            radius_angstrom=self.radius,
            erase=self.erase,
            fill=self.fill,
        )

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the labels of the series."""
        del entry, undone
        strokes = strokes_of(self.series, place.done)
        path = label_file(place.root, self.series)
        voxels, frame = painted(place, self.series) if strokes else (None, None)
        if voxels is None or frame is None or not voxels.any():
            path.unlink(missing_ok=True)
            return []
        return [write_labels(place.root, self.series, voxels, frame)]


class NameLabel(Edit):
    """Say what the number of a label means, in all series."""

    kind: Literal["name-label"] = "name-label"
    label: int = Field(ge=1, le=MOST, description="number of the label")
    name: str = Field(description="what it means, in words")

    @property
    def scope(self) -> str:
        """`label-names`."""
        return "label-names"

    def words(self) -> str:
        """The number and the name."""
        return f"named label {self.label} {self.name}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """A name that no other label has."""
        name = require_text(self.name, "name", 60)
        if not name:
            raise InputError("A label needs a name.")
        known = label_names(place.done)
        other = next((n for n, text in known.items() if text == name and n != self.label), None)
        if other is not None:
            raise InputError(f"Label {other} is called {name} already.")
        if known.get(self.label) == name:
            raise InputError(f"Label {self.label} is called {name} already.")
        return self.replace(name=name), {"name": known.get(self.label)}

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the names."""
        del entry, undone
        names = label_names(place.done)
        if not names:
            label_names_file(place.root).unlink(missing_ok=True)
            return []
        return [write_label_names(place.root, names)]


LABEL_EDITS: tuple[type[Edit], ...] = (PaintStroke, NameLabel)


def strokes_of(series: str, done: Iterable[Entry]) -> list[PaintStroke]:
    """Strokes in force of one series, in their order."""
    return [e.edit for e in done if isinstance(e.edit, PaintStroke) and e.edit.series == series]


def label_names(done: Iterable[Entry]) -> dict[int, str]:
    """Names in force, by number."""
    return {e.edit.label: e.edit.name for e in done if isinstance(e.edit, NameLabel)}


def painted(place: Workplace, series: str) -> tuple[LabelVoxels, DrawingFrame]:
    """Labels of a series on the grid of its present tomogram.

    Strokes of one frame are painted in it; what was painted before is carried to the next.
    """
    now = Carrier(place, series).frame
    voxels: LabelVoxels | None = None
    before: DrawingFrame | None = None
    for key, strokes in groupby(strokes_of(series, place.done), key=lambda s: s.frame):
        frame = now if key is None or key == now.key else read_frame(place.root, series, key)
        if voxels is not None and before is not None and before.key != frame.key:
            voxels = carried(voxels, before.grid, frame.grid, motion_between(frame, before, series))
        voxels, before = paint(frame, [s.stroke() for s in strokes], voxels), frame
    if voxels is None or before is None:
        x, y, z = now.grid.size_xyz
        return np.zeros((z, y, x), dtype=np.uint8), now
    if before.key != now.key:
        voxels = carried(voxels, before.grid, now.grid, motion_between(now, before, series))
    return voxels, now
