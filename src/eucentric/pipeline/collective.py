"""One collective stage over all its tilt series: read, run, move into place, record."""

import hashlib
import json
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace

from eucentric.compute.device import resolve_device
from eucentric.errors import EucentricError
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.pipeline import records
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.records import COLLECTIVE, Record
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage
from eucentric.pipeline.steps import Step, TaskMaker
from eucentric.pipeline.store import StageStore
from eucentric.pipeline.tables import write_global_table
from eucentric.pipeline.work import PeakMemory, item_mark, project_values, replace_results


def run_collective(
    maker: TaskMaker, step: Step, names: Sequence[str], earlier: Sequence[str], executor: Executor
) -> Record | None:
    """Run a collective stage and record the outcome; None where it is current, or has nothing to do.

    Parameters
    ----------
    names : the tilt series that came through the stage before
    earlier : folders of the stages before, whose failures a stage that runs without items tells of
    """
    stage = step.stage
    assert issubclass(stage, CollectiveStage)
    if not names and not stage.runs_without_items:
        return None
    draft = _draft(maker, step, stage, names, earlier if stage.runs_without_items else ())
    before = records.read_record(step.path, COLLECTIVE)
    if not maker.overwrite and before is not None and before.is_done and before.fingerprint == draft.fingerprint:
        return None
    clock = time.perf_counter()
    store = StageStore(maker.root, step.folder, COLLECTIVE, project=maker.project, staged=True)
    trace = None
    try:
        with PeakMemory() as peak:
            store.prepare()
            items = [
                records.without_excluded(
                    read_tilt_series(maker.root / step.table(n), n, maker.root), maker.exclusions.get(n, ())
                )
                for n in names
            ]
            outcome = stage().run(items, step.params, store, executor, resolve_device(maker.device))
            return _finish(maker, step, store, outcome, replace(draft, peak_memory_bytes=peak.bytes), clock)
    except (EucentricError, OSError) as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - the results of all items are there; the record keeps where it stopped
        trace = traceback.format_exc()
        message = (
            f"{stage.name} stopped at an error that nobody foresaw: {type(error).__name__}: {str(error)[:300]}. "
            "Run again with --debug to see where, and report it."
        )
    finally:
        store.discard()
    failed = replace(
        draft,
        outcome="failed",
        message=message,
        traceback=trace,
        ended=records.now(),
        seconds=round(time.perf_counter() - clock, 3),
        outputs=() if before is None else before.outputs,
    )
    records.write_record(step.path, failed)
    return failed


def _draft(
    maker: TaskMaker, step: Step, kind: type[CollectiveStage], names: Sequence[str], earlier: Sequence[str]
) -> Record:
    upstreams = [(name, maker.upstream(step, name)[0]) for name in names]
    failures = [
        (folder, name, record.message)
        for folder in earlier
        for name, record in records.read_records(maker.root / folder).items()
        if not record.is_done
    ]
    variants = [
        (folder, name, record.fingerprint)
        for stage in kind.shows_variants_of
        for folder in records.variant_folders(maker.root, stage)
        for name, record in records.read_records(maker.root / folder).items()
    ]
    also = kind.also_reads(maker.root)
    upstream = hashlib.sha256(json.dumps([upstreams, failures, [*variants, *also]]).encode()).hexdigest()[:32]
    exclusions = tuple(e for name in names for e in maker.exclusions.get(name, ()))
    parameters = step.params.model_dump(mode="json")
    project = project_values(step.stage.uses, maker.project, maker.root)
    mark = records.fingerprint(
        stage=step.stage.name,
        stage_version=step.stage.version,
        parameters=parameters,
        project=project,
        seed=maker.project.seed,
        upstream=upstream,
        exclusions=exclusions,
    )
    return Record(
        stage=step.stage.name,
        series=COLLECTIVE,
        outcome="done",
        fingerprint=mark,
        upstream=upstream,
        stage_version=step.stage.version,
        parameters=parameters,
        project=project,
        seed=maker.project.seed,
        exclusions=exclusions,
        device=maker.device,
        host=socket.gethostname(),
        started=records.now(),
        versions=records.software_versions(),
    )


def _finish(
    maker: TaskMaker, step: Step, store: StageStore, outcome: CollectiveOutcome, draft: Record, clock: float
) -> Record:
    items = outcome.items or ()
    # what comes after is done again only for the series that changed, not for all because one was added
    marks = {s.name: item_mark(maker.upstream(step, s.name)[0], s) for s in items}
    for series in items:
        table = f"{step.folder}/tilt_series.star"
        write_tilt_series_set(store.copy_root / table, [series], store.copy_root)
        (store.copy_root / table).replace(store.output("records", f"{series.name}.star"))
    outputs = replace_results(store, step.path, COLLECTIVE)
    record = replace(
        draft,
        outputs=outputs,
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        caveats=tuple(outcome.caveats),
        ended=records.now(),
        seconds=round(time.perf_counter() - clock, 3),
    )
    for series in items:
        digest = records.table_digest(step.path, series.name)
        row = replace(
            record,
            series=series.name,
            outputs=(),
            table_digest=digest,
            fingerprint=marks[series.name],
            metrics={**outcome.item_metrics.get(series.name, {})},
            caveats=outcome.item_caveats.get(series.name, ()),
        )
        records.write_record(step.path, row)
    if items:
        write_global_table(step.path, [s.name for s in items])
    records.write_record(step.path, record)
    return record
