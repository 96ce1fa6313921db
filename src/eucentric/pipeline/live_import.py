"""One more tilt series for a project that is there."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eucentric.io.findings import Finding
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.importing import ImportPlan, write_import
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.plan import PLAN_FILE, Plan
from eucentric.pipeline.stage import AnyStage
from eucentric.pipeline.steps import IMPORT_TABLE


def add_to_project(root: Path, plans: Sequence[ImportPlan], stages: Sequence[AnyStage] | None = None) -> None:
    """Add what was found to the imported tables of a project, or make it; series of the same name are replaced.

    Parameters
    ----------
    root : the project's folder
    plans : of new series, all with the same gain
    stages : that the plan of the project has tables of; None for those of the product

    Raises
    ------
    InputError : the project is being written to, or may not be; its tables cannot be read
    BackendError : the disk is full
    """
    with ProjectLock(root, "live"):
        _save_references(root, plans[0], stages)
        write_import(root, _merged(root, plans))


def _save_references(root: Path, plan: ImportPlan, stages: Sequence[AnyStage] | None) -> None:
    """The gain in the plan of the project, which is made where it is missing."""
    given = {name: path for name, path in plan.references(root).items() if path is not None}
    if not (root / PLAN_FILE).is_file():
        Plan.write_default(root, {"project": given} if given else {}, stages)
        return
    before = Plan.load(root, stages)
    changed = {name: path for name, path in given.items() if path != getattr(before.project, name)}
    if changed:
        before.save("project", changed)


def _merged(root: Path, plans: Sequence[ImportPlan]) -> ImportPlan:
    """All that the project has and the new, as one import."""
    table = root / IMPORT_TABLE
    series = {s.name: _absolute(s, root) for s in (read_tilt_series_set(table, root) if table.is_file() else ())}
    series.update((s.name, s) for plan in plans for s in plan.series)
    new = {s.name for plan in plans for s in plan.series}
    before = _told(root)
    findings = [Finding(**f) for f in before.get("findings", []) if f["series"] not in new]
    findings += [f for plan in plans for f in plan.findings]
    exposures = before.get("pre_exposure_images", [])
    return replace(
        plans[0],
        series=tuple(series.values()),
        findings=tuple(dict.fromkeys(findings)),
        left_out=tuple(name for name in before.get("left_out", []) if name not in new),
        pre_exposure_images=tuple((e["series"], (root / e["image"]).resolve(), e["dose"]) for e in exposures),
    )


def _told(root: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((root / "import" / "findings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it only tells; the series stand in their tables
        return {}
    return told


def _absolute(series: TiltSeries, root: Path) -> TiltSeries:
    """The series with whole paths, as an import plan holds them."""

    def path(text: str | None) -> str | None:
        if text is None:
            return None
        number, at, place = text.rpartition("@")
        return f"{number}{at}{(root / place).resolve().as_posix()}"

    def moved(tilt: Tilt) -> Tilt:
        return replace(tilt, movie=path(tilt.movie), image=path(tilt.image))

    tomogram = series.tomogram
    if tomogram is not None:
        whole = path(tomogram.path) or ""
        tomogram = replace(tomogram, path=whole, half1=path(tomogram.half1), half2=path(tomogram.half2))
    return series.replace(
        tilts=tuple(moved(t) for t in series.tilts),
        excluded=tuple(replace(e, tilt=moved(e.tilt)) for e in series.excluded),
        tomogram=tomogram,
    )
