"""One tilt series through one stage, wherever it runs: read, run, move into place, record."""

import contextlib
import hashlib
import resource
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eucentric.compute.device import resolve_device
from eucentric.errors import EucentricError
from eucentric.io.atomic import writing_error
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline import records
from eucentric.pipeline.records import InputFile, Record
from eucentric.pipeline.series_tables import deformation_mark, series_content
from eucentric.pipeline.settings import ProjectSettings
from eucentric.pipeline.stage import ItemStage
from eucentric.pipeline.store import ItemStore, ProgressReport, StageStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemTask:
    """Everything needed to process one tilt series in one stage, in this process or another."""

    stage: type[ItemStage]
    series: str
    root: str
    folder: str
    """Folder of the stage, relative to `root`."""
    source: str
    """The tilt-series set that holds the item, relative to `root`."""
    params: Frozen
    project: ProjectSettings
    exclusions: tuple[dict[str, Any], ...]
    upstream: str
    inputs: tuple[InputFile, ...]
    device: str

    @property
    def parameters(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    @property
    def project_values(self) -> dict[str, Any]:
        return project_values(self.stage.uses, self.project, Path(self.root))

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_with(self.exclusions)

    def fingerprint_with(self, exclusions: tuple[dict[str, Any], ...]) -> str:
        """The fingerprint if these tilts had been left out."""
        return records.fingerprint(
            stage=self.stage.name,
            stage_version=self.stage.version,
            parameters=self.parameters,
            project=self.project_values,
            seed=self.project.seed,
            upstream=self.upstream,
            exclusions=exclusions,
        )

    def is_current(self, record: Record | None) -> bool:
        """Whether a record of this item is of the same settings and inputs, so that nothing needs to be done."""
        if record is None or not record.is_done:
            return False
        if not records.row_path(Path(self.root) / self.folder, self.series).is_file():
            return False
        if record.fingerprint == self.fingerprint:
            return True
        fewer = all(e in self.exclusions for e in record.exclusions)
        return (
            self.stage.tilts_are_independent
            and fewer
            and record.fingerprint == self.fingerprint_with(record.exclusions)
        )


def project_values(names: Iterable[str], project: ProjectSettings, root: Path) -> dict[str, Any]:
    """Project settings that a stage uses; a file with its size and time, since its content decides."""
    values: dict[str, Any] = {}
    for name in names:
        value = getattr(project, name)
        if isinstance(value, str) and (root / value).is_file():
            stat = (root / value).stat()
            values[name] = {"path": value, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        else:
            values[name] = value
    return values


def upstream_of(
    table: Path, series: str, root: Path, before: Iterable[InputFile] = ()
) -> tuple[str, tuple[InputFile, ...]]:
    """Fingerprint of what a stage reads for one series, and the files behind it where no stage made it.

    Parameters
    ----------
    table : the tilt-series set that holds the series
    before : the files as an earlier record has them; stands in for files that have since been archived
    """
    is_row = table.parent.name == "records"
    folder = table.parent.parent if is_row else table.parent
    record = records.read_record(folder, series)
    if record is not None and record.is_done:
        digest = records.table_digest(folder, series)
        if digest != record.table_digest:
            return _digest(f"{record.fingerprint} changed by hand {digest}"), ()
        row = records.row_path(folder, series)
        if not is_row and row.is_file():
            content = series_content(read_tilt_series(table, series, root))
            if content != series_content(read_tilt_series(row, series, root)):
                return _digest(f"{record.fingerprint} changed by hand {content}"), ()
        return record.fingerprint, ()
    imported = read_tilt_series(table, series, root)
    files = records.stat_files(records.input_names(imported), root, before)
    # Where a file lies is no part of it: a project may be moved.
    seen = [(Path(f.path).name, f.size, f.mtime_ns) for f in files]
    bare = [replace(t, movie=_file_name(t.movie), image=_file_name(t.image)) for t in imported.tilts]
    bent = deformation_mark(imported, root)
    return _digest(series_content(imported.with_tilts(bare)) + repr(seen) + bent), files


def upstream_with(upstream: str, stage: type[ItemStage], series: str, params: Frozen, root: Path) -> str:
    """The fingerprint upstream, with the state of the files of the user's that a stage reads besides."""
    files = records.stat_files([str(path) for path in stage().reads(series, params, root)], root)
    return _digest(upstream + repr([(f.size, f.mtime_ns) for f in files])) if files else upstream


def item_mark(upstream: str, series: TiltSeries) -> str:
    """Fingerprint of what a collective stage made of one series: it changes with the result, not with the others'."""
    return _digest(upstream + series_content(series))


def _file_name(path: str | None) -> str | None:
    return None if path is None else path.rpartition("/")[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class PeakMemory:
    """Largest memory of this process, and of its GPU, since the start of the block."""

    def __enter__(self) -> "PeakMemory":
        # Without this (a kernel that forbids it) the peak is that of the process since its start.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def bytes(self) -> int:
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 + gpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) + gpu


def failed_record(
    task: ItemTask, message: str, *, trace: str | None = None, started: str = "", seconds: float = 0.0
) -> Record:
    """The record of an item that did not come through; files of an earlier result are named, to be replaced later."""
    before = records.read_record(Path(task.root) / task.folder, task.series)
    return Record(
        stage=task.stage.name,
        series=task.series,
        outcome="failed",
        fingerprint=task.fingerprint,
        upstream=task.upstream,
        stage_version=task.stage.version,
        parameters=task.parameters,
        project=task.project_values,
        seed=task.project.seed,
        exclusions=task.exclusions,
        message=message,
        traceback=trace,
        inputs=task.inputs,
        outputs=() if before is None else before.outputs,
        device=task.device,
        host=socket.gethostname(),
        started=started or records.now(),
        ended=records.now(),
        seconds=round(seconds, 3),
        versions=records.software_versions(),
    )


def write_failed_record(task: ItemTask, record: Record) -> Record:
    """Write the record of a failure; where even that cannot be written, the failure stands in the summary alone."""
    with contextlib.suppress(EucentricError, OSError):
        records.write_record(Path(task.root) / task.folder, record)
    return record


def process_item(task: ItemTask, on_progress: ProgressReport | None = None) -> Record:
    """Run one stage on one tilt series and record the outcome. No error of the stage leaves this function."""
    started, clock = records.now(), time.perf_counter()
    store = ItemStore(task.root, task.folder, task.series, project=task.project, staged=True, on_progress=on_progress)
    trace = None
    try:
        with PeakMemory() as peak:
            return _process(task, store, started, clock, peak)
    except EucentricError as error:
        message = str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        message = (
            f"The memory of {task.device} did not suffice for {task.stage.name} of {task.series} ({str(error)[:120]}). "
            "Use fewer --workers, a larger output pixel size, or a machine with more memory."
        )
    except OSError as error:
        message, trace = _words_for(error, task), traceback.format_exc()
    except Exception as error:  # noqa: BLE001 - whatever a stage does, the other series go on; the record keeps where
        message, trace = _unexpected(error, task), traceback.format_exc()
    finally:
        store.discard()
    record = failed_record(task, message, trace=trace, started=started, seconds=time.perf_counter() - clock)
    return write_failed_record(task, record)


def _words_for(error: OSError, task: ItemTask) -> str:
    path = Path(task.root) / task.folder if error.filename is None else Path(str(error.filename))
    meant = writing_error(error, path)
    if meant is not None:
        return str(meant)
    return f"A file could not be used in {task.stage.name} of {task.series}: {error}. Check the disk and the path."


def _unexpected(error: Exception, task: ItemTask) -> str:
    return (
        f"{task.stage.name} of {task.series} stopped at an error that nobody foresaw: {type(error).__name__}: "
        f"{str(error)[:300]}. Run again with --debug to see where, and report it."
    )


def _process(task: ItemTask, store: ItemStore, started: str, clock: float, peak: PeakMemory) -> Record:
    root = Path(task.root)
    store.prepare()
    series = read_tilt_series(root / task.source, task.series, root)
    series = records.without_excluded(series, task.exclusions)
    device = resolve_device(task.device)
    outcome = task.stage().run(series, task.params, store, device)
    table = f"{task.folder}/tilt_series.star"
    write_tilt_series_set(store.copy_root / table, [outcome.series], store.copy_root)
    (store.copy_root / table).replace(store.output("records", f"{task.series}.star"))
    folder = root / task.folder
    outputs = replace_results(store, folder, task.series)
    record = Record(
        stage=task.stage.name,
        series=task.series,
        outcome="done",
        fingerprint=task.fingerprint,
        upstream=task.upstream,
        stage_version=task.stage.version,
        parameters=task.parameters,
        project=task.project_values,
        seed=task.project.seed,
        exclusions=task.exclusions,
        inputs=task.inputs,
        outputs=outputs,
        table_digest=records.table_digest(folder, task.series),
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        caveats=tuple(outcome.caveats),
        device=str(device),
        host=socket.gethostname(),
        started=started,
        ended=records.now(),
        seconds=round(time.perf_counter() - clock, 3),
        peak_memory_bytes=peak.bytes,
        versions=records.software_versions(),
    )
    records.write_record(folder, record)
    return record


def replace_results(store: ItemStore | StageStore, folder: Path, name: str) -> tuple[str, ...]:
    """Put finished files in the place of those of an earlier result; their names. The caller writes the record next."""
    outputs = store.staged_files()
    before = records.read_record(folder, name)
    # From here to the new record there is none: a process killed in between leaves the item to be done again.
    records.record_path(folder, name).unlink(missing_ok=True)
    store.move_into_place(outputs)
    for gone in set(() if before is None else before.outputs) - set(outputs):
        (store.root / gone).unlink(missing_ok=True)
    return tuple(outputs)
