"""A microscope's folder as it fills: which files are there, since when each is as it is, and which can be read."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from eucentric.errors import EucentricError
from eucentric.io.movies import MOVIE_ENDINGS, movie_header

MDOC_ENDING = ".mdoc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One file as it was seen last."""

    size: int
    mtime_ns: int
    first: float
    """s, when it was first seen as it is."""
    changed: float
    """s, when it was changed: as the file says, but not later than it was seen so."""


class FolderWatch:
    """The files below a folder that belong to tilt series, looked at again and again.

    Parameters
    ----------
    folder : looked through with all folders in it; hidden files and folders are passed over
    left_out : files and folders that are not looked at, such as the project
    settle_seconds : s that a file must stay as it is
    clock : seconds since the epoch
    """

    def __init__(
        self, folder: Path, left_out: Iterable[Path], settle_seconds: float, clock: Callable[[], float]
    ) -> None:
        self.folder = folder
        self.files: dict[Path, Seen] = {}
        self.problem: str | None = None
        """Why the folder could not be listed at the last look; what was known before then still stands."""
        self.last_change = clock()
        """s, when the last look was that showed something new."""
        self._left_out = set(left_out)
        self._settle = settle_seconds
        self._clock = clock
        self._readable: dict[Path, tuple[int, int, int | None, str | None]] = {}

    def look(self) -> None:
        """List the folder."""
        now = self._clock()
        try:
            found = dict(self._listed())
        except OSError as error:
            self.problem = f"`{self.folder}` cannot be listed at present: {error.strerror or error}."
            return
        self.problem = None
        before, self.files = self.files, {}
        for path, (size, mtime_ns) in found.items():
            known = before.get(path)
            if known is not None and (known.size, known.mtime_ns) == (size, mtime_ns):
                self.files[path] = known
                continue
            changed = now if known is not None else min(now, mtime_ns * 1e-9)
            self.files[path] = Seen(size=size, mtime_ns=mtime_ns, first=now, changed=changed)
            self.last_change = now

    def _listed(self) -> Iterable[tuple[Path, tuple[int, int]]]:
        def fail(error: OSError) -> None:
            if Path(error.filename) == self.folder:  # a folder within may be gone by now, or not ours to read
                raise error

        for place, folders, names in os.walk(self.folder, onerror=fail):
            here = Path(place)
            folders[:] = sorted(f for f in folders if not f.startswith(".") and here / f not in self._left_out)
            for name in sorted(names):
                path = here / name
                if name.startswith(".") or not name.lower().endswith((*MOVIE_ENDINGS, MDOC_ENDING)):
                    continue
                if path in self._left_out:
                    continue
                try:
                    stat = path.stat()
                except OSError:  # gone since it was listed
                    continue
                yield path, (stat.st_size, stat.st_mtime_ns)

    def is_settled(self, path: Path) -> bool:
        """Whether a file holds something and has stayed as it is for long enough."""
        seen = self.files.get(path)
        return seen is not None and seen.size > 0 and self._clock() - seen.first >= self._settle

    @property
    def mdocs(self) -> list[Path]:
        """Mdoc files, settled or not, that hold something."""
        return [p for p, seen in self.files.items() if p.name.lower().endswith(MDOC_ENDING) and seen.size > 0]

    @property
    def movies(self) -> list[Path]:
        """Movies, settled or not."""
        return [p for p in self.files if not p.name.lower().endswith(MDOC_ENDING)]

    def fault_of(self, movie: Path, frame_count: int | None) -> str | None:
        """Why a movie cannot be used, in words; None where it is whole. Its header is read once while it stays as it is.

        Parameters
        ----------
        movie : one of `files`
        frame_count : frames that its mdoc tells of; None where it tells nothing
        """
        seen = self.files[movie]
        known = self._readable.get(movie)
        if known is None or known[:2] != (seen.size, seen.mtime_ns):
            count, words = None, None
            try:
                header = movie_header(movie)
                count = header.sensor_frame_count or header.frame_count
            except (EucentricError, OSError) as error:
                words = str(error)
            known = (seen.size, seen.mtime_ns, count, words)
            self._readable[movie] = known
        _, _, count, words = known
        if words is None and frame_count is not None and count is not None and count < frame_count:
            return f"`{movie.name}` has {count} of the {frame_count} frames that its mdoc tells of."
        return words
