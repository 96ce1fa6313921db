"""A project's own plan, carried over to the project of its twin."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eucentric.errors import EucentricError
from eucentric.io.tilt_series import relative_path
from eucentric.pipeline import records
from eucentric.pipeline.plan import Plan

_FILES = {
    "pick": ("templates", "template_masks"),
    "denoise": ("model",),
    "fill-wedge": ("model",),
    "segment": ("model",),
}
"""Settings by stage that name files of no single specimen."""
_OWN = {
    "motion": ("gain_orientation", "gain_operation", "dark_orientation", "magnification"),
    "align": ("tracks",),
    "pick": ("mask", "tilts_deg"),
    "segment": ("protect",),
}
"""Settings that belong to the recorded specimen or its camera's files."""
_GIVEN: dict[str, dict[str, tuple[str, ...]]] = {
    "align": {"method": ("none",), "start": ("imported",)},
    "ctf": {"method": ("imported", "refine")},
}
"""Values that take over another program's results."""
_LAST = "reconstruct"  # of a project that has only been imported


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedPlan:
    """What a twin is to be run with."""

    chosen: dict[str, dict[str, Any]]
    """Settings by table."""
    until: str
    """The last stage."""
    pick: dict[str, Any]
    """Complete settings of picking; empty where nothing is picked."""
    told: tuple[str, ...]


def carried_plan(root: Path, series: str, twin: Path) -> CarriedPlan:
    """The settings and stages of a project, as its twin can use them.

    Parameters
    ----------
    root : the project's folder
    series : whose results tell which stages were run
    twin : folder that the twin's project will have; files are named from it

    Raises
    ------
    InputError, FormatError : a plan that cannot be read
    """
    plan = Plan.load(root)
    chosen = {stage: dict(values) for stage, values in plan.chosen.items()}
    told = []
    for stage, names in _OWN.items():
        for name in names:
            if chosen.get(stage, {}).pop(name, None) not in (None, "auto", "as-stored"):
                told.append(f"[{stage}] {name} is of the recorded specimen or camera; the twin does without.")
    for stage, settings in _GIVEN.items():
        for name, values in settings.items():
            if chosen.get(stage, {}).get(name) in values:
                value = chosen[stage].pop(name)
                told.append(
                    f'[{stage}] {name} = "{value}" keeps results of another program; the twin is processed with the default.'
                )
    for stage, names in _FILES.items():
        for name in names:
            if name in chosen.get(stage, {}):
                chosen[stage][name] = _moved(chosen[stage][name], root, twin)
    chosen["project"] = {"seed": plan.project.seed}
    until = _furthest(root, plan, series)
    if plan.exclusions:
        told.append(
            f"{len(plan.exclusions)} entries of [[exclude]] name recorded tilts; the twin keeps all of its own."
        )
    pick = plan.with_changes("pick", chosen.get("pick", {})).params("pick").model_dump() if until == "pick" else {}
    return CarriedPlan(chosen=chosen, until=until, pick=pick, told=tuple(told))


def default_plan(pick: Mapping[str, Any]) -> CarriedPlan:
    """Defaults, with tomograms made for picking; for a session that has not begun.

    Parameters
    ----------
    pick : settings of picking; empty where nothing is to be picked
    """
    chosen: dict[str, dict[str, Any]] = {"reconstruct": {"purpose": "picking"}}
    if not pick:
        return CarriedPlan(chosen=chosen, until=_LAST, pick={}, told=())
    chosen["pick"] = dict(pick)
    return CarriedPlan(chosen=chosen, until="pick", pick=dict(pick), told=())


def write_twin_plan(twin: Path, carried: CarriedPlan, gain: Path) -> None:
    """Write the plan of the twin's project; errors as `Plan.write_default`."""
    chosen = {**carried.chosen, "project": {**carried.chosen.get("project", {}), "gain": relative_path(gain, twin)}}
    Plan.write_default(twin, chosen)


def _furthest(root: Path, plan: Plan, series: str) -> str:
    """The last stage that has done the series; what picks where the plan says so but nothing was run yet."""
    done = []
    for stage in plan.stages:
        try:
            params = plan.params(stage)
            if stage.waits_for(params) is not None or not stage.joins_runs(params) or stage.name == "report":
                continue
            record = records.read_record(root / stage.folder(params), series)
        except EucentricError:
            continue
        if record is not None and record.is_done:
            done.append(stage.name)
    if done:
        return done[-1]
    return "pick" if plan.params("pick").templates else _LAST


def _moved(value: Any, root: Path, twin: Path) -> Any:
    if isinstance(value, list | tuple):
        return [_moved(one, root, twin) for one in value]
    if isinstance(value, str) and not Path(value).is_absolute() and (root / value).is_file():
        return relative_path(root / value, twin)
    return value
