"""Leaving out tilts and whole tilt series, and taking them back: entries `[[exclude]]` of `eucentric.toml`."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from eucentric.errors import InputError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.tilt_series import Tilt
from eucentric.pipeline.curation_base import Before, Edit, Entry, Workplace, require_series, require_text
from eucentric.pipeline.plan import PLAN_FILE, Plan, read_exclusions
from eucentric.pipeline.settings import Exclusion
from eucentric.pipeline.steps import IMPORT_TABLE

_NEAR_DEG = 0.5
_SAME_DEG = 0.01
_BY_HAND = str(Exclusion.model_fields["reason"].default)


class _OfPlan(Edit):
    """An edit of the list of exclusions; `before` holds the entries about the same tilt or series."""

    changes_plan: ClassVar[bool] = True

    @abstractmethod
    def meant(self, entry: Exclusion) -> bool:
        """Whether an entry of the plan is about the same tilt or series."""

    @abstractmethod
    def wanted(self) -> tuple[Exclusion, ...]:
        """Entries that the plan holds after the edit."""

    def now(self, place: Workplace) -> list[dict[str, Any]]:
        """What the plan holds about it."""
        found = read_exclusions(place.root)
        return [e.model_dump(mode="json", exclude_none=True) for e in found if self.meant(e)]

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write the plan."""
        plan = Plan.load(place.root, place.stages)
        before = (entry.before or {}).get("exclusions", [])
        kept = tuple(Exclusion.model_validate(e) for e in before) if undone else self.wanted()
        others = tuple(e for e in plan.exclusions if not self.meant(e))
        if (*others, *kept) != plan.exclusions:
            plan.with_exclusions((*others, *kept))
        return [place.root / PLAN_FILE]


class _OfTilt(_OfPlan):
    series: str = Field(description="name of the tilt series")
    angle: float = Field(ge=-180, le=180, description="degrees, nominal; the nearest tilt within 0.5 is meant")
    acquisition: int | None = Field(
        default=None, ge=0, description="order of acquisition from 0; tells equal angles apart"
    )

    @property
    def scope(self) -> str:
        """`tilts/<series>`."""
        return f"tilts/{self.series}"

    def meant(self, entry: Exclusion) -> bool:
        """By angle, and by order where both have it."""
        orders = {entry.acquisition, self.acquisition} - {None}
        return (
            entry.series == self.series
            and entry.angle is not None
            and len(orders) < 2
            and abs(entry.angle - self.angle) < _SAME_DEG
        )

    def found(self, place: Workplace) -> Self:
        """The edit with the angle and the order that its tilt has."""
        tilts = read_tilt_series(place.root / IMPORT_TABLE, self.series, place.root).tilts
        tilt = _tilt(self.series, tilts, self.angle, self.acquisition)
        return self.replace(angle=tilt.nominal_tilt_deg, acquisition=tilt.acquisition)


class ExcludeTilt(_OfTilt):
    """Leave a tilt out of all later work."""

    kind: Literal["exclude-tilt"] = "exclude-tilt"
    reason: str = Field(default=_BY_HAND, description="why, in words")

    def words(self) -> str:
        """The tilt and the reason."""
        return f"left out the tilt of {self.series} at {self.angle:g} degrees: {self.reason}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """A tilt that is left out already may get another reason."""
        edit = self.found(place).replace(reason=require_text(self.reason, "reason") or _BY_HAND)
        now = edit.now(place)
        if [e.get("reason", _BY_HAND) for e in now] == [edit.reason]:
            raise InputError(
                f"The tilt of {edit.series} at {edit.angle:g} degrees is left out already, for the same reason."
            )
        return edit, {"exclusions": now}

    def wanted(self) -> tuple[Exclusion, ...]:
        """One entry."""
        return (Exclusion(series=self.series, angle=self.angle, acquisition=self.acquisition, reason=self.reason),)


class IncludeTilt(_OfTilt):
    """Take back a tilt that was left out."""

    kind: Literal["include-tilt"] = "include-tilt"

    def words(self) -> str:
        """The tilt."""
        return f"took back the tilt of {self.series} at {self.angle:g} degrees"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must have been left out by hand."""
        edit = self.found(place)
        now = edit.now(place)
        if not now:
            raise InputError(f"The tilt of {edit.series} at {edit.angle:g} degrees was not left out.")
        return edit, {"exclusions": now}

    def wanted(self) -> tuple[Exclusion, ...]:
        """None."""
        return ()


class _OfSeries(_OfPlan):
    series: str = Field(description="name of the tilt series")

    @property
    def scope(self) -> str:
        """`series/<series>`."""
        return f"series/{self.series}"

    def meant(self, entry: Exclusion) -> bool:
        """Entries without an angle."""
        return entry.series == self.series and entry.angle is None


class ExcludeSeries(_OfSeries):
    """Leave a whole tilt series out of all later work."""

    kind: Literal["exclude-series"] = "exclude-series"
    reason: str = Field(default=_BY_HAND, description="why, in words")

    def words(self) -> str:
        """The series and the reason."""
        return f"left out the tilt series {self.series}: {self.reason}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """A series that is left out already may get another reason."""
        require_series(place.root, self.series)
        edit = self.replace(reason=require_text(self.reason, "reason") or _BY_HAND)
        now = edit.now(place)
        if [e.get("reason", _BY_HAND) for e in now] == [edit.reason]:
            raise InputError(f"{edit.series} is left out already, for the same reason.")
        return edit, {"exclusions": now}

    def wanted(self) -> tuple[Exclusion, ...]:
        """One entry without angle."""
        return (Exclusion(series=self.series, reason=self.reason),)


class IncludeSeries(_OfSeries):
    """Take back a tilt series that was left out."""

    kind: Literal["include-series"] = "include-series"

    def words(self) -> str:
        """The series."""
        return f"took back the tilt series {self.series}"

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """It must have been left out."""
        require_series(place.root, self.series)
        now = self.now(place)
        if not now:
            raise InputError(f"{self.series} was not left out.")
        return self, {"exclusions": now}

    def wanted(self) -> tuple[Exclusion, ...]:
        """None."""
        return ()


def _tilt(series: str, tilts: tuple[Tilt, ...], angle: float, acquisition: int | None) -> Tilt:
    near = [t for t in tilts if abs(t.nominal_tilt_deg - angle) <= _NEAR_DEG]
    if acquisition is not None:
        near = [t for t in near if t.acquisition == acquisition]
    if not near:
        angles = ", ".join(f"{t.nominal_tilt_deg:g}" for t in tilts)
        raise InputError(f"{series} has no tilt within {_NEAR_DEG} degrees of {angle:g}. Its tilts are at {angles}.")
    closest = min(abs(t.nominal_tilt_deg - angle) for t in near)
    best = [t for t in near if abs(t.nominal_tilt_deg - angle) - closest < _SAME_DEG]
    if len(best) > 1:
        orders = ", ".join(str(t.acquisition) for t in best)
        raise InputError(
            f"{series} has {len(best)} tilts at {best[0].nominal_tilt_deg:g} degrees, taken as numbers {orders}. "
            "Say which with --acquisition."
        )
    return best[0]
