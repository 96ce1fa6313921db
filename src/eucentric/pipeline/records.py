"""The record of an item in a stage: what was done with what, and the mark that it is whole.

A record is written after all files of its item. An item without a record, or whose record has another fingerprint
than the settings and inputs of today give, is done again.
"""

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

from eucentric import __version__
from eucentric.io.atomic import write_text_atomic
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.settings import Exclusion
from eucentric.typing import PathLike

COLLECTIVE = "__all__"
"""Stands for the name of the tilt series in the record of a collective stage."""
RECORD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file as it was when it was read."""

    path: str
    """Relative to the project's folder."""
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One item in one stage."""

    stage: str
    series: str
    outcome: Literal["done", "failed"]
    fingerprint: str
    """Of all that decides the result: stage version, settings, seed, exclusions, and the fingerprint upstream."""
    upstream: str
    stage_version: int
    parameters: dict[str, Any]
    project: dict[str, Any]
    """Project settings that the stage uses."""
    seed: int
    exclusions: tuple[dict[str, Any], ...] = ()
    message: str | None = None
    """Why the item failed."""
    traceback: str | None = None
    """Of an unexpected error."""
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[str, ...] = ()
    """Files of the item, relative to the project's folder."""
    table_digest: str | None = None
    """Of the item's tables as the stage wrote them: tells whether they were changed by hand since."""
    metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    device: str = "cpu"
    host: str = ""
    started: str = ""
    ended: str = ""
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    record_version: int = RECORD_VERSION

    @property
    def is_done(self) -> bool:
        return self.outcome == "done"

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        values["metrics"] = {k: v if v is not None and math.isfinite(v) else None for k, v in self.metrics.items()}
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError where the text is no record."""
        values = json.loads(text)
        if values["record_version"] != RECORD_VERSION:
            raise ValueError(f"record version {values['record_version']}")
        values["inputs"] = tuple(InputFile(**f) for f in values["inputs"])
        for name in ("outputs", "caveats", "exclusions"):
            values[name] = tuple(values[name])
        return cls(**values)


def _plain(value: Any) -> Any:
    """Numpy numbers as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a record cannot hold {type(value).__name__}")


def record_path(stage_folder: Path, series: str) -> Path:
    """The item's record, written after everything else of it."""
    return stage_folder / "records" / f"{series}.json"


def row_path(stage_folder: Path, series: str) -> Path:
    """The item's own one-row tilt-series set, from which later stages read it."""
    return stage_folder / "records" / f"{series}.star"


def variant_folders(root: PathLike, stage: str) -> list[str]:
    """Folders of a project that hold results of a stage beside the usual ones, in order of name.

    Those that `--output` asked for, and of a stage whose results have names those below its own folder.
    """
    place = Path(root)
    found = [f"{stage}/{p.parent.name}" for p in sorted((place / stage).glob("*/records")) if p.is_dir()]
    for file in sorted(place.glob("*/run.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if file.parent.name != stage and json.loads(file.read_text(encoding="utf-8")).get("stage") == stage:
                found.append(file.parent.name)
    return found


def read_record(stage_folder: PathLike, series: str) -> Record | None:
    """The record of an item; None where there is none, or one that is damaged or of another version."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return Record.from_json(record_path(Path(stage_folder), series).read_text(encoding="utf-8"))
    return None


def read_records(stage_folder: PathLike) -> dict[str, Record]:
    """All readable records of a stage by the name of the tilt series, that of a collective stage aside."""
    names = sorted(p.stem for p in (Path(stage_folder) / "records").glob("*.json") if p.stem != COLLECTIVE)
    return {name: record for name in names if (record := read_record(stage_folder, name)) is not None}


def write_record(stage_folder: Path, record: Record) -> None:
    """Write or replace the record of an item, whole."""
    write_text_atomic(record_path(stage_folder, record.series), record.to_json())


def now() -> str:
    """The time, for people of any zone."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def software_versions() -> dict[str, str]:
    """Versions of the programs that a result depends on."""
    found = {"eucentric": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "numba"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def fingerprint(
    *,
    stage: str,
    stage_version: int,
    parameters: dict[str, Any],
    project: dict[str, Any],
    seed: int,
    upstream: str,
    exclusions: Sequence[dict[str, Any]],
) -> str:
    """A digest of everything that decides an item's result; workers, devices and file places do not."""
    parts = [stage, stage_version, parameters, project, seed, upstream, list(exclusions)]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def exclusions_of(exclusions: Iterable[Exclusion], series: str) -> tuple[dict[str, Any], ...]:
    """The tilts of one series that are left out, in an order of their own."""
    own = [e.model_dump(mode="json") for e in exclusions if e.series == series and e.angle is not None]
    return tuple(sorted(own, key=lambda e: (e["angle"], -1 if e["acquisition"] is None else e["acquisition"])))


def excluded_series(exclusions: Iterable[Exclusion]) -> dict[str, str]:
    """Why, of each tilt series that is left out as a whole."""
    return {e.series: e.reason for e in exclusions if e.angle is None}


def without_excluded(series: TiltSeries, exclusions: Sequence[dict[str, Any]]) -> TiltSeries:
    """The series less the tilts that its user left out; those already gone are passed over."""
    reasons: dict[int, str] = {}
    for entry in exclusions:
        for i, tilt in enumerate(series.tilts):
            same_order = entry["acquisition"] is None or entry["acquisition"] == tilt.acquisition
            if same_order and abs(tilt.nominal_tilt_deg - entry["angle"]) < 0.01:
                reasons[i] = entry["reason"]
    return series.without(reasons) if reasons else series


def stat_files(names: Iterable[str], root: Path, before: Iterable[InputFile] = ()) -> tuple[InputFile, ...]:
    """Size and time of input files. One that is gone keeps those of an earlier record: raw data may be archived."""
    known = {f.path: f for f in before}
    found = []
    for name in names:
        try:
            stat = (root / name).stat()
        except OSError:
            found.append(known.get(name, InputFile(path=name, size=-1, mtime_ns=0)))
            continue
        found.append(InputFile(path=name, size=stat.st_size, mtime_ns=stat.st_mtime_ns))
    return tuple(found)


def input_names(series: TiltSeries) -> list[str]:
    """Files that the tilts of an imported series were recorded in."""
    names: dict[str, None] = {}
    for tilt in series.tilts:
        for path in (tilt.movie, tilt.image):
            if path is not None:
                number, at, rest = path.partition("@")
                names[rest if at and number.isdigit() else path] = None
    return list(names)


def table_digest(stage_folder: Path, series: str) -> str | None:
    """A digest of the tables of one series in a stage; None where there are none."""
    digest, found = hashlib.sha256(), False
    for ending in ("", "_excluded", "_motion"):
        path = stage_folder / "tilt_series" / f"{series}{ending}.star"
        if path.is_file():
            found = True
            digest.update(ending.encode() + path.read_bytes())
    return digest.hexdigest()[:32] if found else None
