"""Where a stage reads and writes, so that its own code knows no folder layout.

Stages write to an unfinished copy of their folder; the runner moves it into place when the item is whole.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.io.atomic import atomic_path, make_folder
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import relative_path
from eucentric.pipeline.records import Record, read_records
from eucentric.pipeline.settings import ProjectSettings
from eucentric.typing import PathLike

UNFINISHED = ".unfinished"
ProgressReport = Callable[[float, str], None]


class _Store:
    def __init__(
        self,
        root: PathLike,
        stage_folder: str,
        name: str,
        *,
        project: ProjectSettings | None = None,
        staged: bool = False,
        on_progress: ProgressReport | None = None,
    ) -> None:
        self.root = Path(root).resolve()
        """The project's folder, which paths in tables are relative to."""
        self.stage_folder = stage_folder
        self.name = name
        self.project = project or ProjectSettings()
        self._on_progress = on_progress
        # The unfinished copy repeats the layout of the project, so that paths relative to it are those of the project.
        self._copy = self.root / stage_folder / UNFINISHED / name if staged else self.root

    @property
    def seed(self) -> int:
        """Seed of this item, fixed by the project's seed and the item's name, not by the order of work."""
        digest = hashlib.sha256(f"{self.project.seed} {self.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def resolve(self, relative: str) -> Path:
        """The file that a record's path means: from the project's folder, or absolute; of `3@stack.mrc` the stack."""
        number, at, rest = relative.partition("@")
        path = Path(rest if at and number.isdigit() else relative)
        if path.is_absolute():
            return path
        staged = self._copy / path
        return staged if staged.exists() else self.root / path

    def relative(self, path: PathLike) -> str:
        """A path as records and tables hold it: relative to the project's folder, with `/`."""
        place = Path(path)
        inside = place.is_relative_to(self._copy)
        return place.relative_to(self._copy).as_posix() if inside else relative_path(place, self.root)

    def output(self, *parts: str) -> Path:
        """A path to write to, `<project>/<stage>/<parts>`; its folders are made.

        While the item runs the path lies in the stage's unfinished copy: use `relative` for what goes into records.

        Raises
        ------
        InputError : the folder may not be written to, or the parts lead out of the stage's folder
        BackendError : the disk is full
        """
        if not parts or any(Path(p).is_absolute() or ".." in Path(p).parts for p in parts):
            raise InputError(f"`{'/'.join(parts)}` does not name a file inside the folder of a stage.")
        path = self._copy.joinpath(self.stage_folder, *parts)
        make_folder(path.parent)
        return path

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the item is, 0 to 1, and what is being done."""
        if self._on_progress is not None:
            self._on_progress(min(max(fraction, 0.0), 1.0), text)

    def save_arrays(self, path: Path, arrays: dict[str, Any]) -> str:
        """Write arrays to a path from `output`; its relative path."""
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **arrays)
        return self.relative(path)

    def prepare(self) -> None:
        """Start with an empty unfinished copy."""
        self.discard()
        make_folder(self._copy)

    def discard(self) -> None:
        """Remove the unfinished copy."""
        if self._copy != self.root:
            shutil.rmtree(self._copy, ignore_errors=True)

    @property
    def copy_root(self) -> Path:
        """The folder that stands for the project's while the item runs."""
        return self._copy

    def staged_files(self) -> list[str]:
        """Files written so far, relative to the project's folder."""
        return sorted(p.relative_to(self._copy).as_posix() for p in self._copy.rglob("*") if p.is_file())

    def move_into_place(self, files: list[str]) -> None:
        """Rename finished files over the project's."""
        for name in files:
            target = self.root / name
            make_folder(target.parent)
            (self._copy / name).replace(target)
        self.discard()


class ItemStore(_Store):
    """Files of one tilt series in one stage.

    Parameters
    ----------
    root : the project's folder
    stage_folder : folder of the stage, relative to `root`
    name : name of the tilt series
    """

    def write_image(self, name: str, array: NDArray[Any], pixel_size: float, float16: bool = True) -> str:
        """Write an image (y, x) or stack (n, y, x) to `<stage>/images/<series>/<name>.mrc`; its relative path."""
        path = self.output("images", self.name, f"{name}.mrc")
        write_mrc(path, array, pixel_size, "float16" if float16 else "float32", is_volume=False)
        return self.relative(path)

    def write_arrays(self, name: str = "curves", **arrays: Any) -> str:
        """Write report material to `<stage>/<name>/<series>.npz`; its relative path."""
        return self.save_arrays(self.output(name, f"{self.name}.npz"), arrays)


class StageStore(_Store):
    """Files of a collective stage."""

    def records(self, stage: str) -> dict[str, Record]:
        """What a stage recorded for each tilt series, failed ones too."""
        return read_records(self.root / stage)

    def write_arrays(self, name: str, **arrays: Any) -> str:
        """Write arrays to `<stage>/<name>.npz`; its relative path."""
        return self.save_arrays(self.output(f"{name}.npz"), arrays)
