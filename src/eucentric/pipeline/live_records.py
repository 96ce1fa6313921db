"""What a session that follows a microscope keeps in its project: the folder and settings, and a record a series."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.live_params import LiveParams
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.pipeline.steps import IMPORT_TABLE

LIVE_FOLDER = "live"
_SESSION = "session.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecord:
    """One tilt series of a session: what was done with which files."""

    series: str
    outcome: Literal["taken", "done", "failed", "refused"]
    """`taken`: imported, and its processing began; `refused`: it could not be imported."""
    files: dict[str, tuple[int, int]]
    """Size and time (ns) of its files when they were taken, by their path in the folder."""
    message: str = ""
    without: tuple[str, ...] = ()
    """Movies that were missing or could not be read."""
    recorded: float = 0.0
    """s since the epoch, when its last file was written."""
    taken: float = 0.0
    """s since the epoch, when its import began."""
    finished: float = 0.0
    seconds: float = 0.0
    """s of processing, its part of those processed together."""

    @property
    def is_final(self) -> bool:
        """Whether nothing is to be done while the files stay as they are."""
        return self.outcome != "taken"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError where the text is no record."""
        values = json.loads(text)
        if values.pop("version") != _VERSION:
            raise ValueError("another version")
        values["files"] = {name: (int(size), int(time)) for name, (size, time) in values["files"].items()}
        values["without"] = tuple(values["without"])
        return cls(**values)


def read_live_records(root: Path) -> dict[str, LiveRecord]:
    """Records of a project by series; one that is damaged is passed over, and its series looked at anew."""
    found = {}
    for path in sorted((root / LIVE_FOLDER / "records").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = LiveRecord.from_json(path.read_text(encoding="utf-8"))
            found[record.series] = record
    return found


def write_live_record(root: Path, record: LiveRecord) -> None:
    """Write or replace the record of a series, whole."""
    values = {"version": _VERSION, **dataclasses.asdict(record)}
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_text_atomic(root / LIVE_FOLDER / "records" / f"{record.series}.json", text)


def session_settings(root: Path, watched: Path, chosen: Mapping[str, Any], *, adopt: bool) -> LiveParams:
    """The settings of a session: those kept in its project, and over them those given now. Nothing is written.

    Parameters
    ----------
    root : the project's folder, there or not
    watched : the microscope's folder, whole
    chosen : settings given now
    adopt : go on with a project that has followed another folder, or was made by an import

    Raises
    ------
    InputError : the project is of other files, or the folder is none of ours
    FormatError : the file of the session is damaged
    """
    path = root / LIVE_FOLDER / _SESSION
    before = _read_session(path)
    kept = {} if before is None else before["settings"]
    if not adopt:
        _check_belongs(root, watched, None if before is None else str(before["watched"]))
    try:
        return LiveParams.model_validate({**kept, **chosen})
    except ValidationError as error:
        raise FormatError(f"`{path}` holds settings that do not fit: remove it, and give them again.") from error


def keep_session(root: Path, watched: Path, params: LiveParams) -> None:
    """Keep the folder and the settings that are not defaults, for the next start."""
    settings = params.model_dump(mode="json", exclude_defaults=True)
    values = {"version": _VERSION, "watched": str(watched), "settings": settings}
    write_text_atomic(root / LIVE_FOLDER / _SESSION, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _read_session(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] != _VERSION:
            raise ValueError("another version")
        return {"watched": values["watched"], "settings": dict(values["settings"])}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"`{path}` cannot be read ({error}). Remove it, and start again with --adopt and the session's settings."
        ) from error


def _check_belongs(root: Path, watched: Path, before: str | None) -> None:
    if before is not None and before != str(watched):
        raise InputError(
            f"`{root}` is the project of another session: it follows `{before}`, not `{watched}`. "
            "Name another --project, or add --adopt if that folder was moved or this one goes on where it ended."
        )
    if before is None and (root / IMPORT_TABLE).is_file():
        raise InputError(
            f"`{root}` was made by `eucentric import` from other files. Name another --project, or add --adopt to let the series "
            f"of `{watched}` join it."
        )
    others = [p.name for p in root.iterdir() if p.name != LIVE_FOLDER] if root.is_dir() else []
    if before is None and others and not (root / PLAN_FILE).is_file():
        raise InputError(
            f"`{root}` holds files and is no project. Name a new folder with --project, or add --adopt to use this one."
        )
