"""What a person decides about a project by looking at it, as records: edits, and the entries of the log that keep them.

An edit changes one thing. Edits of one `scope` depend on each other and are undone in the reverse of their order; edits of
different scopes do not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

from eucentric.errors import InputError
from eucentric.io.tilt_series import tilt_series_names
from eucentric.models.settings import Frozen
from eucentric.pipeline.explain import unknown_name
from eucentric.pipeline.stage import AnyStage
from eucentric.pipeline.steps import IMPORT_TABLE

FOLDER = "curation"
Before: TypeAlias = Mapping[str, Any]
"""What an edit replaces, as JSON: enough to put it back."""


class Edit(Frozen):
    """One decision. Each kind is a class with a `kind` of its own, listed in `curation_kinds`."""

    changes_plan: ClassVar[bool] = False
    """Whether it is written to `eucentric.toml`: no such edit is taken while another command holds the project."""

    for_next_run: ClassVar[bool] = False
    """Whether stages use it when they are run again, beside what the plan says."""

    @property
    def waits_for_run(self) -> bool:
        """Whether results do not follow it before the next run."""
        return self.changes_plan or self.for_next_run

    @property
    @abstractmethod
    def scope(self) -> str:
        """What the edit is about; a kind of thing first, then its names, such as `tilts/TS_01`."""

    @abstractmethod
    def words(self) -> str:
        """The edit for people."""

    @abstractmethod
    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """The edit with all that it left open decided, and what it replaces.

        Raises
        ------
        InputError : it cannot be done: an unknown name, a number that does not fit, a thing that is so already
        """

    @abstractmethod
    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Bring the files of the project into agreement, after the edit was done or undone; what was written.

        Called again after a crash: a second call changes nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log."""

    number: int
    """From 1."""
    time: str
    """UTC, ISO 8601."""
    user: str
    action: Literal["edit", "undo", "redo"]
    edit: Edit | None = None
    before: Before | None = None
    """Of an edit: what it replaced."""
    of: int | None = None
    """Of an undo or redo: the entry that is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What an edit is checked against."""

    root: Path
    number: int
    """Of the entry that is being made."""
    done: tuple[Entry, ...]
    """Edits in force, in order."""
    stages: Sequence[AnyStage] | None = None
    """Of the plan; those of the product where None."""

    def of(self, scope: str) -> list[Entry]:
        """Edits in force about one thing."""
        return [e for e in self.done if e.edit is not None and e.edit.scope == scope]

    def last(self, scope: str) -> Edit | None:
        """The latest edit in force about one thing."""
        own = self.of(scope)
        return own[-1].edit if own else None


def require_series(root: Path, name: str) -> str:
    """The name, where it is a tilt series of the project.

    Raises
    ------
    InputError : it is none
    """
    known = tilt_series_names(root / IMPORT_TABLE)
    if name not in known:
        raise unknown_name(name, known, "tilt series", f"`{root}`")
    return name


def require_text(text: str, what: str, most: int = 500) -> str:
    """A text on one line.

    Raises
    ------
    InputError : it is too long, or holds characters that are not printed
    """
    plain = " ".join(text.split())
    if len(plain) > most or not plain.isprintable():
        raise InputError(f"The {what} is too long or holds characters that cannot be printed; expected {most} at most.")
    return plain
