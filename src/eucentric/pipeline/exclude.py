"""Leaving out single tilts by hand, kept in the plan and honoured by every stage."""

from pathlib import Path

from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.curation_tilts import ExcludeTilt, IncludeTilt
from eucentric.pipeline.settings import Exclusion
from eucentric.pipeline.stage import AnyStage
from eucentric.typing import PathLike


def exclude_tilt(
    root: PathLike,
    series: str,
    angle: float,
    reason: str | None = None,
    acquisition: int | None = None,
    undo: bool = False,
    stages: tuple[AnyStage, ...] | None = None,
) -> Exclusion:
    """Leave one tilt out of all later work, or take it back; noted in the log of curation.

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
    InputError : no such series or tilt, two tilts at that angle, one that is left out for the same reason already, or (`undo`)
        one that was not left out
    """
    curation = Curation(Path(root), stages=stages)
    if undo:
        done = curation.do(IncludeTilt(series=series, angle=angle, acquisition=acquisition))
        return Exclusion.model_validate((done.entry.before or {})["exclusions"][0])
    wanted = ExcludeTilt(series=series, angle=angle, acquisition=acquisition)
    made = curation.do(wanted if reason is None else wanted.replace(reason=reason)).meant
    assert isinstance(made, ExcludeTilt)
    return made.wanted()[0]
