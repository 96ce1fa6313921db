"""One frame a thread: no step waits for a core that something else has taken."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


class Workers:
    """Threads that give torch one thread each; on a GPU, and where torch has one thread, there is none but the caller."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None
        self._before = torch.get_num_threads()

    def __enter__(self) -> "Workers":
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(self._before)

    def each(self, work: Callable[[Given], Made], items: Iterator[Given] | Sequence[Given]) -> Iterator[Made]:
        """Results in order; `items` are drawn by the caller's thread, few ahead of the results."""
        if self._pool is None:
            yield from map(work, items)
            return
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(self._pool.submit(work, item))
            if len(waiting) >= self.count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def rows(self, work: Callable[[slice], None], count: int, block: int = 128) -> None:
        """Call `work` for blocks of rows; each is one thread's, so that sums keep their order."""
        for _ in self.each(work, [slice(start, min(start + block, count)) for start in range(0, count, block)]):
            pass


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: many small steps gain nothing from a second one, and stall where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
