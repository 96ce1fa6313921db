"""How many cores this process may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch

from eucentric.errors import InputError

_WORTH_SHARING = 4_000_000


def thread_count() -> int:
    """Cores that this process may run on."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return max(1, os.cpu_count() or 1)


def set_threads(count: int) -> None:
    """Let torch and numba use `count` threads each; neither respects the other's limit, so both are set."""
    if count < 1:
        raise InputError(f"{count} threads were asked for; expected at least 1.")
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, int(numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]


@contextmanager
def threads_for(pixels: int) -> Iterator[None]:
    """One torch thread while images of fewer than 4 million pixels are worked on, as many as before for larger ones.

    Handing a small FFT to a second thread costs more than it saves, and on a machine whose cores are taken it stalls the
    whole step.
    """
    before = torch.get_num_threads()
    if pixels < _WORTH_SHARING:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
