"""A tilt scheme laid out image by image."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """Images in the order in which they are taken; arrays (tilt,)."""

    scheme: TiltScheme
    """That it follows, with the dose of these images alone."""
    angles_deg: FloatArray
    """Of the stage."""
    doses: FloatArray
    """e/A^2 in each image."""
    pre_exposures: FloatArray
    """e/A^2 before each image."""
    inclinations_deg: FloatArray
    """Between the beam and the specimen's normal: stage angle and pre-tilt."""
    second_axis: bool = False
    """Of images about an axis across the first, which come after it."""

    def __len__(self) -> int:
        return len(self.angles_deg)

    @property
    def turns(self) -> int:
        """How often the stage changes its direction."""
        directions = [b > a for a, b in pairwise(self.angles_deg.tolist())]
        return sum(a != b for a, b in pairwise(directions))

    @property
    def travel_deg(self) -> float:
        """Degrees that the stage moves in all."""
        return float(np.abs(np.diff(self.angles_deg)).sum())

    @property
    def spacings_deg(self) -> FloatArray:
        """(tilt,), the range of angles that each image stands for: half way to its neighbours on both sides."""
        rank = np.argsort(self.angles_deg)
        ascending = self.angles_deg[rank]
        if len(ascending) == 1:
            return np.array([1.0])
        gaps = np.diff(ascending)
        own = np.concatenate([[gaps[0]], 0.5 * (gaps[1:] + gaps[:-1]), [gaps[-1]]])
        spacing = np.empty(len(own))
        spacing[rank] = own
        return spacing


def lay_out(
    scheme: TiltScheme, *, pretilt_deg: float = 0.0, stage_limit_deg: float = 70.0, axes: int = 1
) -> list[Schedule]:
    """The images of a series; two schedules, each with half the dose, where there are two axes.

    A pre-tilt about the first axis lies along the second, so that the second series is as wide, but starts at 0.

    Raises
    ------
    InputError : an angle beyond the stage, or a specimen seen edge on
    """
    angles = scheme.angles_in_order()
    beyond = angles[np.abs(angles) > stage_limit_deg + 1e-6]
    if len(beyond):
        raise InputError(
            f"The scheme goes to {beyond[np.argmax(np.abs(beyond))]:g} degrees; the stage goes to {stage_limit_deg:g}. "
            "Give a smaller range, or --stage-limit-deg where the stage goes further."
        )
    steepest = float(np.abs(angles + pretilt_deg).max())
    if steepest > 80.0:
        raise InputError(
            f"With a pre-tilt of {pretilt_deg:g} degrees the specimen would be tilted by {steepest:g} degrees, and beams pass it "
            "along its length. Give a range that ends before 80 degrees from the specimen's own plane."
        )
    share = {"total_dose": scheme.total_dose / axes}
    if scheme.start_dose is not None:
        share["start_dose"] = scheme.start_dose / axes
    schemes = [scheme.replace(**share) if axes > 1 else scheme]
    if axes > 1:
        reach = min(0.5 * (scheme.max_deg - scheme.min_deg), stage_limit_deg)
        schemes.append(schemes[0].replace(start_deg=0.0, min_deg=-reach, max_deg=reach))
    schedules: list[Schedule] = []
    for number, one in enumerate(schemes):
        doses, stage = one.doses_in_order(), one.angles_in_order()
        schedules.append(
            Schedule(
                scheme=one,
                angles_deg=stage,
                doses=doses,
                pre_exposures=np.cumsum(doses) - doses + number * one.total_dose,
                inclinations_deg=stage + (0.0 if number else pretilt_deg),
                second_axis=number > 0,
            )
        )
    return schedules
