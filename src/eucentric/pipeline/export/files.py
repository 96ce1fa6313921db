"""Placing the files of an export: stacks, links or copies of what a project holds, and the words that go with them."""

import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eucentric.errors import InputError
from eucentric.io.atomic import atomic_path, make_folder, write_text_atomic
from eucentric.io.exchange.records import Written
from eucentric.io.particles import particle_losses
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries

How = Literal["link", "copy"]
README = "README.txt"
_INCOMPLETE = "This export is incomplete"


@dataclass(kw_only=True)
class Exported:
    """What an export made, as it grows."""

    folder: Path
    how: How = "link"
    files: list[Path] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """Commands to type next, in order; lines beginning with # explain."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files of the folder."""

    def add(self, *files: Path) -> None:
        self.files += files

    def written(self, made: Written) -> None:
        """Take over what a writer of tilt series made."""
        self.files += made.files
        self.losses += made.losses

    def lost_of(self, name: str, particles: ParticleSet, form: str, path: Path | None = None) -> None:
        """Tell what a list of particles loses in a format."""
        self.losses += [f"{name}: {text}" for text in particle_losses(particles, form, path=path)]

    def place(self, source: str | Path, target: Path) -> Path:
        """Bring a file of the project to a place in the export; the place.

        Raises
        ------
        InputError : no such file
        """
        path = Path(source)
        if not path.is_file():
            raise InputError(
                f"`{path}`, which the project's tables name, is not there. Run the project again, or put the file back."
            )
        make_folder(target.parent)
        if target.is_symlink() or target.exists():
            target.unlink()
        if self.how == "link":
            with suppress(OSError):  # a disk that knows no links gets a copy
                target.symlink_to(os.path.relpath(path, target.parent.resolve()))
        if not target.exists():
            target.unlink(missing_ok=True)
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
        self.files.append(target)
        return target


def for_each(names: Sequence[str], command: str) -> str:
    """A line for the shell that does the same with each name, which stands where `{}` does."""
    if len(names) == 1:
        return command.replace("{}", shlex.quote(names[0]))
    repeated = command.replace("{}", '"$s"')
    return f"for s in {' '.join(map(shlex.quote, names))}; do {repeated}; done"


def begin_readme(folder: Path) -> None:
    """Mark a folder as one that is being made: a later export may write into it if this one does not come to its end."""
    text = f"{_INCOMPLETE}: it was stopped, or is still running. Export into this folder again.\n"
    write_text_atomic(folder / README, text)


def is_incomplete(folder: Path) -> bool:
    """Whether an export into the folder was begun and not finished."""
    try:
        return (folder / README).read_text(encoding="utf-8", errors="replace").startswith(_INCOMPLETE)
    except OSError:
        return False


def need_images(series: TiltSeries, program: str) -> None:
    """Refuse a series whose images are not summed yet.

    Raises
    ------
    InputError : a tilt without image
    """
    if any(t.image is None for t in series.tilts):
        raise InputError(
            f"{series.name} has movies and no images yet, which {program} needs. Run `eucentric motion`, or leave it out with --only."
        )


def write_readme(exported: Exported, title: str, project: Path, about: Sequence[str], notes: Sequence[str]) -> None:
    """What the folder holds, the next commands, what was lost, and conventions, in words."""
    lines = [f"{title}", "=" * len(title), "", f"Exported by Eucentric from {project}.", "", *about, ""]
    lines += ["Next", "----", *exported.steps, ""]
    lines += ["What this format cannot hold", "----------------------------"]
    lines += [f"- {loss}" for loss in dict.fromkeys(exported.losses)] or ["Nothing of these series is lost."]
    if notes:
        lines += ["", "Notes", "-----", *(f"- {note}" for note in notes)]
    write_text_atomic(exported.folder / README, "\n".join(lines) + "\n")
    exported.add(exported.folder / README)
