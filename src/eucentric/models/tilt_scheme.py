"""The order in which a tilt series is recorded, and the dose that each image gets.

Words and rules are those of SerialEM's dose-symmetric dialog [1]_: angles at which something changes are relative to the
angle at which the series starts, groups are the images taken one after the other on one side.

References
----------
.. [1] SerialEM help, "Dose Symmetric Tilt Series Parameters Dialog"; Hagen, Wan & Briggs, J. Struct. Biol. 197 (2017) 191.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from eucentric.models.settings import Frozen
from eucentric.typing import FloatArray

TiltOrder = Literal["continuous", "bidirectional", "dose-symmetric"]
Side = Literal["positive", "negative"]
MOST_DOSE = 1e5
"""e/A^2 of a whole series: ice bubbles after some hundreds, and even what is dry is gone by then."""
_SLACK_DEG = 1e-6  # sums of steps such as 0.1 are not exact


class TiltScheme(Frozen):
    """Angles, their order, and how the dose is split."""

    order: TiltOrder = Field(
        default="dose-symmetric",
        description="continuous: from one end to the other; bidirectional: from the start to "
        "one end, then to the other; dose-symmetric: side by side, so that low tilts come first",
    )
    start_deg: float = Field(
        default=0.0,
        description="degrees; where the series starts: minus the pre-tilt of a lamella; a continuous one starts at an end",
    )
    step_deg: float = Field(default=3.0, gt=0, le=90, description="degrees")
    min_deg: float = Field(default=-60.0, description="degrees; lowest angle")
    max_deg: float = Field(default=60.0, description="degrees; highest angle")
    first_side: Side = Field(default="positive", description="where the series goes from its start")
    group_size: int = Field(default=1, ge=1, description="images on one side before a dose-symmetric series turns")
    start_in_first_group: bool = Field(
        default=False,
        description="the first image counts in the first group, as Hagen's script has it: 0, 3, -3, -6, 6, 9 in groups of 2",
    )
    group_growth: int = Field(default=0, ge=0, description="images by which groups grow; 0: they do not")
    group_growth_beyond_deg: float = Field(
        default=0.0, ge=0, description="degrees from the start, from which on groups are larger"
    )
    group_growth_every_deg: float = Field(
        default=0.0, ge=0, description="degrees after which groups grow by as much again; 0: only once"
    )
    one_sided_beyond_deg: float | None = Field(
        default=None,
        gt=0,
        description="degrees from the start, from which on one side is run to its end, then the other",
    )
    total_dose: float = Field(default=120.0, gt=0, le=MOST_DOSE, description="e/A^2 of the whole series")
    start_dose: float | None = Field(
        default=None, gt=0, description="e/A^2 of the first image, of hybrid dose schemes; the others share the rest"
    )
    dose_split: Literal["even", "inverse-cosine"] = Field(
        default="even",
        description="inverse-cosine: dose by 1/cos of the stage's angle, for a longer path through a level specimen",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TiltScheme":
        if self.max_deg < self.min_deg:
            raise ValueError("max_deg lies below min_deg")
        if not self.min_deg - _SLACK_DEG <= self.start_deg <= self.max_deg + _SLACK_DEG:
            raise ValueError("start_deg lies outside min_deg and max_deg")
        if max(abs(self.min_deg), abs(self.max_deg)) >= 90:
            raise ValueError("min_deg and max_deg must lie within -90 and 90 degrees")
        if self.start_dose is not None and self.start_dose >= self.total_dose:
            raise ValueError("start_dose leaves nothing of total_dose for the other images")
        return self

    def angles_in_order(self) -> FloatArray:
        """(tilt,), degrees, in the order in which the images are taken; they lie whole steps from `start_deg`."""
        up = _steps(self.max_deg - self.start_deg, self.step_deg)
        down = _steps(self.start_deg - self.min_deg, self.step_deg)
        above, below = self.start_deg + self.step_deg * up, self.start_deg - self.step_deg * down
        first, second = (above, below) if self.first_side == "positive" else (below, above)
        if self.order == "continuous":
            rising = self.first_side == "positive"
            if not len(above) or not len(below):  # a start at an end says which
                rising = not len(below)
            return np.concatenate([below[::-1], [self.start_deg], above])[:: 1 if rising else -1]
        if self.order == "bidirectional":
            return np.concatenate([[self.start_deg], first, second])
        sides = (first.tolist(), second.tolist())
        taken = int(self.start_in_first_group)
        return np.array([self.start_deg, *alternate(sides, self._group_size, self._is_one_sided, taken=taken)])

    def doses_in_order(self) -> FloatArray:
        """(tilt,), e/A^2 of each image, in the order in which they are taken; they sum to `total_dose`."""
        angles = self.angles_in_order()
        weights = np.ones(len(angles))
        if self.dose_split == "inverse-cosine":
            weights = 1.0 / np.cos(np.deg2rad(angles))
        if self.start_dose is None or len(angles) == 1:
            return np.asarray(self.total_dose * weights / weights.sum())
        rest = (self.total_dose - self.start_dose) * weights / weights[1:].sum()
        rest[0] = self.start_dose
        return np.asarray(rest)

    def _group_size(self, angle: float) -> int:
        """Of a group whose first image lies at an angle."""
        beyond = abs(angle - self.start_deg) - self.group_growth_beyond_deg
        if not self.group_growth or beyond < -_SLACK_DEG:
            return self.group_size
        every = max(self.group_growth_every_deg, _SLACK_DEG)
        again = math.floor((beyond + _SLACK_DEG) / every) if self.group_growth_every_deg else 0
        return self.group_size + self.group_growth * (1 + again)

    def _is_one_sided(self, angle: float) -> bool:
        limit = self.one_sided_beyond_deg
        return limit is not None and abs(angle - self.start_deg) >= limit - _SLACK_DEG


def alternate(
    sides: tuple[Sequence[float], Sequence[float]],
    group_size: Callable[[float], int],
    is_one_sided: Callable[[float], bool] = lambda _: False,
    *,
    taken: int = 0,
) -> Iterator[float]:
    """Angles of a dose-symmetric series after its first image, in order of acquisition.

    Parameters
    ----------
    sides : angles of the side that is gone to first, and of the other, each by growing distance from the start
    group_size : images in a group, by the angle of its first image
    is_one_sided : whether an angle is so far out that sides alternate no more. The group that reaches it is finished,
        then its side is run to its end, then the other.
    taken : images by which the first group is shorter
    """
    waiting = [list(sides[0]), list(sides[1])]
    side = 0
    while waiting[0] or waiting[1]:
        here = waiting[side]
        count = max(group_size(here[0]) - taken, 0) if here else 0
        taken = 0
        if not waiting[1 - side]:
            count = len(here)
        group, waiting[side] = here[:count], here[count:]
        yield from group
        if group and is_one_sided(group[-1]):
            yield from waiting[side]
            yield from waiting[1 - side]
            return
        side = 1 - side


def _steps(span: float, step: float) -> FloatArray:
    """1, 2, ... up to as many steps as the span holds."""
    return np.arange(1, math.floor(span / step + _SLACK_DEG) + 1, dtype=np.float64)
