"""Runs in processes of their own that tests disturb, and disks that are small or closed to writing."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest


@contextlib.contextmanager
def started(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Python with some arguments in a process of its own, gone at the end with all of its children."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # tests that were started in the background of a shell would hand down that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in [*children, psutil.Process(process.pid)] if process.poll() is None else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(timeout=20)
        process.stdout.close()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Return as soon as a condition holds; fails where the process ends before, or takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "the run did not come that far"
        time.sleep(0.005)


def _mount(*arguments: str) -> None:
    done = os.geteuid() == 0 and subprocess.run(["mount", *arguments], check=False, capture_output=True)
    if not done or done.returncode:
        pytest.skip("disks can only be mounted by root")


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """A disk of its own, in memory, with options of `mount`; the test is skipped where it cannot be mounted."""
    place.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def enlarge(place: Path, size: str) -> None:
    """Give a small disk another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A folder with its content, closed to writing; the test is skipped where it cannot be mounted."""
    _mount("--bind", str(place), str(place))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def hold_when(condition, process) -> None:
    """Stop a process (SIGSTOP) where a condition holds: on a busy machine it would else be over before one acts."""
    while True:
        wait_for(condition, process)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, process)
        if condition():
            return
        process.send_signal(signal.SIGCONT)


def interrupt_when(condition, process, how: signal.Signals) -> None:
    """Send a signal to a process where a condition holds."""
    hold_when(condition, process)
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)
