"""Edits of things that lie in a tomogram: what they share."""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.curation_base import Edit, Workplace, require_series
from eucentric.pipeline.repair_frames import (
    DrawingFrame,
    FrameMotion,
    current_frame,
    keep_frame,
    motion_between,
    read_frame,
)
from eucentric.typing import FloatArray

Position: TypeAlias = tuple[float, float, float]
Line: TypeAlias = Annotated[tuple[Position, ...], Field(min_length=1, max_length=5000)]


class PlacedEdit(Edit):
    """An edit with places in a tomogram, in A from the specimen centre; `frame` tells of which of its reconstructions."""

    series: str = Field(description="name of the tilt series")
    frame: str | None = Field(
        default=None, pattern="^[0-9a-f]{12}$", description="of the tomogram that the places are seen in; filled in"
    )

    def placed(self, place: Workplace) -> tuple[Self, DrawingFrame]:
        """The edit with the frame of the present tomogram, which is kept.

        Raises
        ------
        InputError : no such series, no tomogram, or places that were seen in another tomogram than there is now
        """
        require_series(place.root, self.series)
        frame = current_frame(place.root, self.series)
        if self.frame is not None and self.frame != frame.key:
            raise InputError(
                f"The tomogram of {self.series} was made anew since the page was opened. Load the page again."
            )
        return self.replace(frame=keep_frame(place.root, self.series, frame)), frame


class Carrier:
    """Carries places from the frames that they were set in to the present one; each motion is found once."""

    def __init__(self, place: Workplace, series: str) -> None:
        self._root, self.series = place.root, series
        self.frame = current_frame(place.root, series)
        self._motions: dict[str, FrameMotion] = {}

    def __call__(self, key: str | None, points: FloatArray) -> FloatArray:
        if key is None or key == self.frame.key:
            return np.asarray(points, dtype=np.float64)
        if key not in self._motions:
            self._motions[key] = motion_between(read_frame(self._root, self.series, key), self.frame, self.series)
        return self._motions[key](points)


def require_inside(points: FloatArray, grid: TomogramFrame, what: str) -> None:
    """InputError where a place lies more than a voxel outside of the tomogram, or is none."""
    index = grid.to_index(points)
    if not np.isfinite(index).all() or (index < -1.0).any() or (index > np.array(grid.size_xyz)).any():
        raise InputError(f"A place of the {what} lies outside of the tomogram.")
