"""Leaving out single tilts by hand, kept in the plan and honoured by every stage."""

from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.tilt_series import Tilt
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.settings import Exclusion
from eucentric.pipeline.stage import AnyStage
from eucentric.pipeline.steps import IMPORT_TABLE, find_project
from eucentric.typing import PathLike

_NEAR_DEG = 0.5


def exclude_tilt(
    root: PathLike,
    series: str,
    angle: float,
    reason: str | None = None,
    acquisition: int | None = None,
    undo: bool = False,
    stages: tuple[AnyStage, ...] | None = None,
) -> Exclusion:
    """Leave one tilt out of all later work, or take it back.

    Parameters
    ----------
    angle : degrees, nominal; the nearest tilt within 0.5 degrees is meant
    reason : why, in words
    acquisition : order of acquisition from 0, where two tilts have the same angle
    undo : take the tilt back

    Returns
    -------
    Exclusion : as written to the plan, or as removed from it

    Raises
    ------
    InputError : no such series or tilt, two tilts at that angle, or (`undo`) one that was not left out
    """
    place = find_project(Path(root))
    found = read_tilt_series(place / IMPORT_TABLE, series, place)
    tilt = _tilt(series, found.tilts, angle, acquisition)
    with ProjectLock(place, "exclude"):
        plan = Plan.load(place, stages)
        same = [e for e in plan.exclusions if e.series == series and _is_of(e, tilt)]
        others = tuple(e for e in plan.exclusions if e not in same)
        if undo:
            if not same:
                raise InputError(f"The tilt of {series} at {tilt.nominal_tilt_deg:g} degrees was not left out.")
            plan.with_exclusions(others)
            return same[0]
        entry = Exclusion(
            series=series,
            angle=tilt.nominal_tilt_deg,
            acquisition=tilt.acquisition,
            reason=reason or Exclusion.model_fields["reason"].default,
        )
        plan.with_exclusions((*others, entry))
        return entry


def _is_of(entry: Exclusion, tilt: Tilt) -> bool:
    same_order = entry.acquisition is None or entry.acquisition == tilt.acquisition
    return same_order and abs(entry.angle - tilt.nominal_tilt_deg) < 0.01


def _tilt(series: str, tilts: tuple[Tilt, ...], angle: float, acquisition: int | None) -> Tilt:
    near = [t for t in tilts if abs(t.nominal_tilt_deg - angle) <= _NEAR_DEG]
    if acquisition is not None:
        near = [t for t in near if t.acquisition == acquisition]
    if not near:
        angles = ", ".join(f"{t.nominal_tilt_deg:g}" for t in tilts)
        raise InputError(f"{series} has no tilt within {_NEAR_DEG} degrees of {angle:g}. Its tilts are at {angles}.")
    closest = min(abs(t.nominal_tilt_deg - angle) for t in near)
    best = [t for t in near if abs(t.nominal_tilt_deg - angle) - closest < 0.01]
    if len(best) > 1:
        orders = ", ".join(str(t.acquisition) for t in best)
        raise InputError(
            f"{series} has {len(best)} tilts at {best[0].nominal_tilt_deg:g} degrees, taken as numbers {orders}. "
            "Say which with --acquisition."
        )
    return best[0]
