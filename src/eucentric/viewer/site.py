"""What all requests share: the project, the rules, templates, threads and what was read."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader

from eucentric import __version__
from eucentric.report.environment import page_environment
from eucentric.viewer.security import Guard
from eucentric.viewer.volumes import ChunkCache, Kind, Volume, open_volume

_THREADS = 4
_MOST_OPEN = 64
_RECENT_SECONDS = 3.0
_T = TypeVar("_T")


@dataclass(kw_only=True)
class Site:
    """A project that is being shown."""

    root: Path
    """The project's folder, resolved."""
    guard: Guard = field(default_factory=Guard)
    port: int = 0
    """Known once the server listens."""
    executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "viewer"))
    chunks: ChunkCache = field(default_factory=ChunkCache)
    _open: OrderedDict[tuple[object, ...], Any] = field(default_factory=OrderedDict, repr=False)
    _recent: dict[tuple[object, ...], tuple[float, Any]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cookie(self) -> str:
        """Its name: cookies know no ports, and several viewers may be open."""
        return f"eucentric_{self.port}"

    @cached_property
    def _templates(self) -> Environment:
        return page_environment(PackageLoader("eucentric.viewer"))

    def render(self, template: str, **values: Any) -> str:
        """A page; every value is escaped."""
        return self._templates.get_template(template).render(project=self.root.name, version=__version__, **values)

    def opened(self, path: Path, read: Callable[[], _T], *more: object) -> _T:
        """What `read` makes of a file, kept until the file is replaced or others were asked for since.

        Parameters
        ----------
        path : of the project
        read : called where it is not held
        more : what it was read for, where one file is read in several ways
        """
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns, *more)
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                held: _T = self._open[key]
                return held
        made = read()
        with self._lock:
            self._open[key] = made
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return made

    def volume(self, path: Path, kind: Kind) -> Volume:
        """A volume of the project, opened once; errors as `open_volume`."""
        return self.opened(path, lambda: open_volume(path, kind, self.chunks), kind)

    def recent(self, make: Callable[[], _T], *key: object) -> _T:
        """What `make` gave some seconds ago at most: listing the project for every chunk would take longer than the chunk."""
        now = time.monotonic()
        with self._lock:
            held = self._recent.get(key)
        if held is not None and now - held[0] < _RECENT_SECONDS:
            value: _T = held[1]
            return value
        made = make()
        with self._lock:
            if len(self._recent) >= _MOST_OPEN:
                self._recent.clear()
            self._recent[key] = (now, made)
        return made

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
