r"""The scheme that shows most for a goal, by a search over its settings, and why.

For averaging, the effective dose at the wanted resolution is made as large as can be among schemes whose tomograms are
within a tenth of the best for finding particles: without that, everything would be spent at low tilts. For membranes and cells
the information of the tomogram is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from eucentric.acquisition.information import finding_information, goal_information
from eucentric.acquisition.plan_params import ExpectationParams
from eucentric.acquisition.schedule import Schedule, lay_out
from eucentric.errors import InputError
from eucentric.models.settings import Frozen
from eucentric.models.tilt_scheme import MOST_DOSE, TiltScheme

_FIND_SHARE = 0.9
"""Of the best tomogram for finding particles, that a scheme for averaging must keep."""
_ALIKE = 0.997
"""Schemes that show so much of the best one's are as good: the quickest of them is taken."""
_SWEEPS = 6

Orders = tuple[dict[str, Any], ...]
_ORDERS: Orders = (
    {"order": "dose-symmetric", "group_size": 1},
    {"order": "dose-symmetric", "group_size": 2},
    {"order": "dose-symmetric", "group_size": 3},
    {"order": "bidirectional"},
    {"order": "continuous"},
)
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
_REACHES = (36.0, 39.0, 42.0, 45.0, 48.0, 51.0, 54.0, 57.0, 60.0, 63.0, 66.0, 69.0)
_START_DOSES = (2.0, 3.0, 5.0)
"""Times the even share, of a hybrid scheme's first image."""


class SearchParams(Frozen):
    """What a proposal may use, and how long things take."""

    max_total_dose: float = Field(
        default=120.0, gt=0, le=MOST_DOSE, description="e/A^2; more always adds coarse detail, until ice bubbles"
    )
    least_dose_per_image: float = Field(
        default=2.0, gt=0, description="e/A^2; fainter images align and fit their defocus badly"
    )
    stage_limit_deg: float = Field(
        default=66.0, gt=0, lt=90, description="degrees; beyond it holder and grid bars are in the way"
    )
    least_range_deg: float = Field(
        default=120.0,
        ge=0,
        lt=180,
        description="degrees, as far as the stage reaches on both sides of the start; in narrower ones neighbours merge",
    )
    hybrid: bool = Field(default=False, description="also try more dose for the first image")
    dose_rate: float = Field(default=3.0, ge=1e-3, le=1e5, description="e/A^2/s on the specimen")
    seconds_per_image: float = Field(
        default=6.0, ge=0, le=1e4, description="s; settling, tracking and writing of each image"
    )
    seconds_per_turn: float = Field(
        default=4.0, ge=0, le=1e4, description="s; to take up backlash where the stage turns round"
    )
    stage_deg_per_s: float = Field(default=3.0, ge=1e-3, description="degrees/s; speed of tilting")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedScheme:
    """A scheme and what it is worth."""

    scheme: TiltScheme
    value: float
    """See `goal_information`."""
    finding: float
    """See `finding_information`; equal to `value` where a tomogram is the goal."""
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The chosen scheme, others beside it, and reasons in words."""

    best: RatedScheme
    others: tuple[RatedScheme, ...]
    """The same angles and dose in other orders, the best first."""
    reasons: tuple[str, ...]
    tried: int


def duration_s(schedules: Sequence[Schedule], search: SearchParams) -> float:
    """Seconds that a series takes."""
    return sum(
        float(s.doses.sum()) / search.dose_rate
        + len(s) * search.seconds_per_image
        + s.turns * search.seconds_per_turn
        + s.travel_deg / search.stage_deg_per_s
        for s in schedules
    )


def rate(scheme: TiltScheme, params: ExpectationParams, search: SearchParams, *, axes: int = 1) -> RatedScheme:
    """Value of one scheme.

    Raises
    ------
    InputError : as :func:`lay_out`
    """
    schedules = lay_out(scheme, pretilt_deg=params.pretilt_deg, stage_limit_deg=search.stage_limit_deg, axes=axes)
    value = goal_information(schedules, params)
    return RatedScheme(
        scheme=scheme,
        value=value,
        finding=finding_information(schedules, params) if params.goal == "averaging" else value,
        duration_s=duration_s(schedules, search),
    )


def allowed(scheme: TiltScheme, search: SearchParams, *, axes: int = 1) -> bool:
    """Whether every image gets enough dose, the stage reaches every angle, and the range is as wide as is asked for."""
    angles = scheme.angles_in_order()
    reached = 2.0 * (search.stage_limit_deg - abs(scheme.start_deg))  # on both sides alike
    widest = 2.0 * scheme.step_deg * np.floor(0.5 * min(search.least_range_deg, reached) / scheme.step_deg + 1e-6)
    return bool(
        scheme.doses_in_order().min() / axes >= search.least_dose_per_image - 1e-9
        and np.abs(angles).max() <= search.stage_limit_deg + 1e-6
        and np.ptp(angles) >= widest - 1e-6
    )


def propose_scheme(
    params: ExpectationParams, search: SearchParams, fixed: Mapping[str, Any] | None = None, *, axes: int = 1
) -> Proposal:
    """The best scheme for a goal.

    Each setting is varied in turn with the others kept, from several starts, until none improves; settings of `TiltScheme` in
    `fixed` stay as they are.

    Raises
    ------
    InputError : membranes or cells without a thickness, or fixed settings that leave no scheme
    """
    if params.goal != "averaging" and params.thickness_angstrom is None:
        raise InputError(
            f"A tomogram of {params.goal} is planned, but the thickness of the specimen was not given. Give --thickness-angstrom, "
            "such as 2000 for a lamella of 200 nm."
        )
    least = search.least_dose_per_image
    while True:
        try:
            finder, best = _best(params, search.replace(least_dose_per_image=least), dict(fixed or {}), axes)
            break
        except _NoSchemeError as error:
            if least > 1e-3 * search.least_dose_per_image:
                least *= 0.9  # no more is left for each image: then that is told
                continue
            raise InputError(
                f"No scheme fits what was given within {search.stage_limit_deg:g} degrees of the stage. Give a smaller range, or "
                "--stage-limit-deg where the stage goes further."
            ) from error
    others = sorted(finder.other_orders(best), key=lambda r: -r.value)
    return Proposal(
        best=best, others=tuple(others), reasons=_reasons(best, others, params, search, axes), tried=len(finder.rated)
    )


class _NoSchemeError(Exception):
    """Nothing is allowed."""


def _best(
    params: ExpectationParams, search: SearchParams, fixed: dict[str, Any], axes: int
) -> "tuple[_Search, RatedScheme]":
    finder = _Search(params, search, fixed, axes)
    if params.goal == "averaging":
        finder.floor = _FIND_SHARE * finder.run(by_finding=True).finding
    return finder, finder.quickest_of_alike(finder.run(by_finding=False))


class _Search:
    """Schemes already rated, and the walk from one to the next."""

    def __init__(self, params: ExpectationParams, search: SearchParams, fixed: dict[str, Any], axes: int) -> None:
        self.params, self.search, self.fixed, self.axes = params, search, fixed, axes
        self.rated: dict[TiltScheme, RatedScheme | None] = {}
        self.floor = 0.0
        """Least `finding` of a scheme for averaging."""

    def run(self, *, by_finding: bool) -> RatedScheme:
        found = [r for start in self._starts() if (r := self._climb(start, by_finding=by_finding)) is not None]
        if not found:
            raise _NoSchemeError
        return max(found, key=lambda r: self._score(r, by_finding=by_finding))

    def quickest_of_alike(self, best: RatedScheme) -> RatedScheme:
        least = _ALIKE * self._score(best, by_finding=False)
        alike = [r for r in self.other_orders(best) if self._score(r, by_finding=False) >= least]
        return min([best, *alike], key=lambda r: r.duration_s)

    def other_orders(self, best: RatedScheme) -> list[RatedScheme]:
        """The same angles and dose, in all orders."""
        rated = (self._rate(best.scheme, change) for change in _ORDERS)
        own = best.scheme.angles_in_order().tolist()
        return [r for r in rated if r is not None and r.scheme.angles_in_order().tolist() != own]

    def _starts(self) -> list[TiltScheme]:
        start = self._start_angle()
        ends = self._range(start, 60.0, 3.0)
        common = {"start_deg": start, "step_deg": 3.0, "total_dose": self.search.max_total_dose, **ends}
        starts = [self._made(common | order) for order in (_ORDERS[0], _ORDERS[3])]
        return [s for s in starts if s is not None]

    def _start_angle(self) -> float:
        """Minus the pre-tilt, on a whole degree: where the specimen faces the beam."""
        return float(
            np.clip(-round(self.params.pretilt_deg), -self.search.stage_limit_deg, self.search.stage_limit_deg)
        )

    def _range(self, start: float, reach: float, step: float) -> dict[str, float]:
        """Ends as far from the start on both sides, in whole steps, as stage and reach let them."""
        limit = self.search.stage_limit_deg
        up = np.floor(min(reach, limit - start) / step + 1e-6) * step
        down = np.floor(min(reach, limit + start) / step + 1e-6) * step
        return {"min_deg": float(start - down), "max_deg": float(start + up)}

    def _moves(self, now: TiltScheme) -> list[list[dict[str, Any]]]:
        """Changes, one list for each setting that is varied."""
        even = now.total_dose / len(now.angles_in_order())
        return [
            list(_ORDERS),
            [{"first_side": s} for s in ("positive", "negative")],
            [
                {"step_deg": s, **self._range(now.start_deg, r, s)}  # both at once: more images need less range
                for s in _STEPS
                for r in _REACHES
            ],
            [{"total_dose": f * self.search.max_total_dose} for f in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)],
            # of a specimen that does not lie level, the cosine of the stage's angle is not that of its own
            [{"dose_split": s} for s in ("even", "inverse-cosine") if s == "even" or not self.params.pretilt_deg],
            [{"start_dose": None}, *({"start_dose": f * even} for f in _START_DOSES if self.search.hybrid)],
        ]

    def _climb(self, start: TiltScheme, *, by_finding: bool) -> RatedScheme | None:
        best = self._rate(start, {})
        now = start
        for _ in range(_SWEEPS):
            before = best
            for choices in self._moves(now):
                for change in choices:
                    rated = self._rate(now, change)
                    if rated is not None and (
                        best is None
                        or self._score(rated, by_finding=by_finding) > self._score(best, by_finding=by_finding)
                    ):
                        best = rated
                now = now if best is None else best.scheme
            if best is before:
                break
        return best

    def _score(self, rated: RatedScheme, *, by_finding: bool) -> float:
        if by_finding:
            return rated.finding
        short = min(1.0, rated.finding / self.floor) if self.floor else 1.0
        return float(rated.value * short**8)

    def _made(self, settings: Mapping[str, Any]) -> TiltScheme | None:
        try:
            return TiltScheme.model_validate({**settings, **self.fixed})
        except ValidationError:
            return None

    def _rate(self, scheme: TiltScheme, change: Mapping[str, Any]) -> RatedScheme | None:
        settings = scheme.model_dump() | dict(change)
        made = self._made(settings)
        if made is None:
            return None
        if made not in self.rated:
            try:
                fits = allowed(made, self.search, axes=self.axes)
                self.rated[made] = rate(made, self.params, self.search, axes=self.axes) if fits else None
            except InputError:
                self.rated[made] = None
        return self.rated[made]


def order_words(scheme: TiltScheme) -> str:
    """The order of a scheme in words."""
    if scheme.order != "dose-symmetric":
        return scheme.order
    words = "dose-symmetric" if scheme.group_size == 1 else f"dose-symmetric in groups of {scheme.group_size}"
    if scheme.start_in_first_group:
        words += ", the first image counted in the first group"
    if scheme.group_growth:
        words += f" that grow by {scheme.group_growth}"
    if scheme.one_sided_beyond_deg is not None:
        words += f", one-sided beyond {scheme.one_sided_beyond_deg:g} degrees"
    return words


def _reasons(
    best: RatedScheme, others: Sequence[RatedScheme], params: ExpectationParams, search: SearchParams, axes: int
) -> tuple[str, ...]:
    scheme = best.scheme
    angles = scheme.angles_in_order()
    count = len(angles)
    aim = (
        f"detail at {params.resolution_angstrom:g} A of particles in random directions"
        if params.goal == "averaging"
        else f"the tomogram of {params.goal} {params.thickness:g} A thick"
    )
    words = [
        f"{count} images from {angles.min():g} to {angles.max():g} degrees by {scheme.step_deg:g}, {order_words(scheme)} from "
        f"{angles[0]:g}, show most of {aim} for {scheme.total_dose:g} e/A2."
    ]
    for other in others:
        gain = best.value / other.value - 1.0 if other.value > 0 else np.inf
        if abs(gain) < 1.0 - _ALIKE:
            slower = other.duration_s - best.duration_s
            words.append(f"{order_words(other.scheme).capitalize()} shows as much and takes {slower:+.0f} s.")
        elif gain > 0:
            words.append(f"{order_words(other.scheme).capitalize()} shows {100 * gain / (1 + gain):.1f}% less.")
    if params.pretilt_deg and abs(scheme.start_deg + params.pretilt_deg) <= 0.5:
        words.append(
            f"It starts at {scheme.start_deg:g} degrees, where a specimen with a pre-tilt of {params.pretilt_deg:g} degrees faces the "
            "beam: the thinnest path gets the first dose."
        )
    if params.goal == "averaging":
        words.append(
            "Detail this fine is lost with the first dose, so that order and range matter more than the total; the rest of the dose "
            "is for finding and aligning the particles."
        )
    each = float(scheme.doses_in_order().min()) / axes
    if each < search.least_dose_per_image - 1e-9:
        words.append(
            f"Each image gets {each:.2g} e/A2, below the {search.least_dose_per_image:g} that alignment and CTF "
            "need: give more dose, or a larger step."
        )
    elif each < 1.15 * search.least_dose_per_image:
        words.append(
            f"More images would fill the transform better, but each gets {each:.2g} e/A2 now, "
            f"near the {search.least_dose_per_image:g} that alignment and CTF need."
        )
    return tuple(words)
