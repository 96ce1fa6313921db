"""Curating a project: edits are checked, logged and written to its files; undo and redo."""

import contextlib
import getpass
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.curation_base import FOLDER, Edit, Entry, Workplace
from eucentric.pipeline.curation_kinds import KIND_OF
from eucentric.pipeline.curation_log import Log, append_entry, log_lock, read_log
from eucentric.pipeline.curation_pick_table import CURATED, ORIGINAL, PICKS, list_names
from eucentric.pipeline.curation_picks import edited_lists, write_picks
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.records import now
from eucentric.pipeline.stage import AnyStage
from eucentric.pipeline.steps import find_project
from eucentric.typing import PathLike

_SETTLED = "settled.json"
"""The number of the last entry whose files are written: later ones are made good after a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curated:
    """What became of an edit."""

    entry: Entry
    meant: Edit
    """The edit that was done, undone or redone."""
    written: tuple[Path, ...]


class Curation:
    """Edits of one project.

    Parameters
    ----------
    root : the project
    user : name for the log; that of the system's user where None
    stages : of the plan; those of the product where None

    Raises
    ------
    InputError : not a project
    """

    def __init__(self, root: PathLike, user: str | None = None, stages: Sequence[AnyStage] | None = None) -> None:
        self.root = find_project(Path(root))
        self.user = user or user_name()
        self._stages = stages

    def log(self) -> Log:
        """The log as it is now; errors as `read_log`."""
        return read_log(self.root)

    def history(self) -> list[dict[str, Any]]:
        """Every entry for people, as JSON: number, time, user, action, kind, words, and whether it is in force."""
        log = self.log()
        in_force = {e.number for e in log.done}
        edits = {e.number: e.edit for e in log.entries if e.edit is not None}
        said = {"edit": "", "undo": "undid: ", "redo": "did again: "}
        found = []
        for entry in log.entries:
            edit = edits.get(entry.number if entry.of is None else entry.of)
            words = f"an edit whose line {entry.of} is damaged" if edit is None else edit.words()
            found.append(
                {
                    "number": entry.number,
                    "time": entry.time,
                    "user": entry.user,
                    "action": entry.action,
                    "of": entry.of,
                    "kind": None if edit is None else KIND_OF[type(edit)],
                    "scope": None if edit is None else edit.scope,
                    "words": f"{said[entry.action]}{words}",
                    "in_force": entry.action != "edit" or entry.number in in_force,
                }
            )
        return found

    def do(self, edit: Edit) -> Curated:
        """Check, log and write an edit.

        Raises
        ------
        InputError : it cannot be done, or another command is writing to the project
        BackendError : the disk is full
        """
        with self._writing(lambda _: edit) as log:
            place = self._place(log)
            settled, before = edit.checked(place)
            entry = Entry(
                number=log.next_number, time=now(), user=self.user, action="edit", edit=settled, before=before
            )
            return self._append(log, entry, entry)

    def undo(self, scopes: Sequence[str] | None = None) -> Curated:
        """Take back the latest edit in force, of some scopes or of all; errors as `do`."""
        return self._reverse("undo", scopes)

    def redo(self, scopes: Sequence[str] | None = None) -> Curated:
        """Bring again the edit that was taken back last; errors as `do`."""
        return self._reverse("redo", scopes)

    def settle(self) -> tuple[Path, ...]:
        """Make good what a crash left: files of the last entries, and edited lists whose original is newer; errors as `do`."""
        written: list[Path] = []
        with log_lock(self.root):
            log = self.log()
            written += self._settle(log)
            for name in edited_lists(log.done):
                written += [] if _is_fresh(self.root, name) else write_picks(self.root, name, log.done)
        return tuple(written)

    def _reverse(self, action: str, scopes: Sequence[str] | None) -> Curated:
        def meant(log: Log) -> Entry:
            found = log.undoable(scopes) if action == "undo" else log.redoable(scopes)
            if found is None:
                raise InputError(f"There is nothing to {action}.")
            return found

        with self._writing(lambda log: meant(log).edit) as log:
            of = meant(log)
            entry = Entry(
                number=log.next_number,
                time=now(),
                user=self.user,
                action="undo" if action == "undo" else "redo",
                of=of.number,
            )
            return self._append(log, entry, of)

    @contextlib.contextmanager
    def _writing(self, about: Callable[[Log], Edit | None]) -> Iterator[Log]:
        """The log, under the locks that an edit needs, after what a crash left is made good."""
        with log_lock(self.root):
            log = self.log()
            edit = about(log)
            with contextlib.ExitStack() as stack:
                if edit is not None and edit.changes_plan:
                    stack.enter_context(ProjectLock(self.root, "curate"))
                self._settle(log, locked=edit is not None and edit.changes_plan)
                yield log

    def _place(self, log: Log) -> Workplace:
        return Workplace(root=self.root, number=log.next_number, done=log.done, stages=self._stages)

    def _append(self, log: Log, entry: Entry, meant: Entry) -> Curated:
        after = append_entry(self.root, log, entry)
        assert meant.edit is not None
        written = meant.edit.settle(self._place(after), meant, undone=entry.action == "undo")
        self._note(entry.number)
        return Curated(entry=entry, meant=meant.edit, written=tuple(written))

    def _settle(self, log: Log, locked: bool = False) -> list[Path]:
        last = _settled(self.root)
        late = [e for e in log.entries if e.number > last]
        if not late:
            return []
        edits = {e.number: e for e in log.entries if e.edit is not None}
        written: list[Path] = []
        place = self._place(log)
        with contextlib.ExitStack() as stack:
            meant = [(e, e if e.action == "edit" else edits.get(e.of or 0)) for e in late]
            if not locked and any(m is not None and m.edit is not None and m.edit.changes_plan for _, m in meant):
                stack.enter_context(ProjectLock(self.root, "curate"))
            for entry, one in meant:
                if one is not None and one.edit is not None:
                    written += one.edit.settle(place, one, undone=entry.action == "undo")
        self._note(max(e.number for e in late))
        return written

    def _note(self, number: int) -> None:
        write_text_atomic(self.root / FOLDER / _SETTLED, json.dumps({"entry": number}) + "\n")


def _settled(root: Path) -> int:
    try:
        return int(json.loads((root / FOLDER / _SETTLED).read_text(encoding="utf-8"))["entry"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _is_fresh(root: Path, name: str) -> bool:
    """Whether an edited list is there and newer than its original."""
    original, curated = (root / PICKS / name / file for file in (ORIGINAL, CURATED))
    if not curated.is_file():
        return False
    return not original.is_file() or original.stat().st_mtime_ns <= curated.stat().st_mtime_ns


def lists_in_use(root: Path) -> dict[str, Path]:
    """Lists of picks of a project by name: the edited one where there are edits, made anew where its original changed.

    Raises
    ------
    EucentricError : what a crash left cannot be made good, or the log cannot be read
    """
    log = read_log(root)
    late = any(e.number > _settled(root) for e in log.entries)
    if late or not all(_is_fresh(root, name) for name in edited_lists(log.done)):
        Curation(root).settle()
    found = {name: [root / PICKS / name / file for file in (CURATED, ORIGINAL)] for name in list_names(root)}
    return {name: next(p for p in paths if p.is_file()) for name, paths in found.items()}


def user_name() -> str:
    """Of the system's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in some containers
        return f"user {os.getuid()}"
