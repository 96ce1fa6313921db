"""How many cores this process may use."""

import os

import numba
import torch

from eucentric.errors import InputError


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
    numba.set_num_threads(min(count, int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined])  # type: ignore[attr-defined]
