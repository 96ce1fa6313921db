"""Commands that mend things, ready to be copied into a shell."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from eucentric.io.movies import has_ending

NEW_PROJECT = "PROJECT"
"""Stands for a project that is not there yet: as it is, the name of a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCommand:
    """What `eucentric import` is to be called with to make a project as it is, but for what is changed."""

    project: str
    frames: tuple[str, ...] = ()
    """Folders, files or patterns."""
    mdocs: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    gain: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    """Further options with their values."""

    def having(self, **options: float | str) -> Self:
        """With some options set: `tilt_axis=85.0`."""
        changed = {name.replace("_", "-"): _shown(value) for name, value in options.items()}
        kept = {name: value for name, value in self.options if name not in changed}
        return replace(self, options=tuple((kept | changed).items()))

    @property
    def text(self) -> str:
        """The command."""
        words = ["eucentric", "import", self.project]
        for name, values in (("frames", self.frames), ("mdoc", self.mdocs), ("stack", self.stacks)):
            if values:
                words += [f"--{name}", *values]
        if self.gain is not None:
            words += ["--gain", self.gain]
        for name, value in self.options:
            words += [f"--{name}", value]
        return " ".join(shlex.quote(word) for word in words)

    def then_run(self) -> str:
        """Import, then run."""
        return f"{self.text} && {run_command(self.project)}"


def run_command(project: str, *more: str) -> str:
    """`eucentric run` on a project."""
    return " ".join(shlex.quote(word) for word in ("eucentric", "run", project, *more))


def command(*words: str) -> str:
    """A command of these words, quoted where a shell needs it."""
    return " ".join(shlex.quote(word) for word in words)


def pattern_of(paths: Sequence[Path], *, own: bool = False) -> tuple[str, ...]:
    """The shortest that means these files: their folder, or a pattern of their common beginning; else all names.

    Parameters
    ----------
    own : nothing but these, so that a folder with other series will not do
    """
    found: list[str] = []
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for folder, members in folders.items():
        wanted = set(members)
        endings = tuple({p.suffix.lower() for p in members})
        alike = {p for p in _files(folder) if has_ending(p, endings)}
        if len(members) == 1:
            found.append(str(members[0]))
        elif alike <= wanted or (not own and len(alike) <= 20 * len(wanted)):
            found.append(str(folder))
        else:
            start = _beginning([p.name for p in members])
            found.append(str(folder / f"{start}*{members[0].suffix}") if start else str(folder))
    return tuple(found)


def _beginning(names: Sequence[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def _files(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_file()]
    except OSError:
        return []


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
