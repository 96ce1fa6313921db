"""Runs readers on damaged files, in a process of its own: `runner.py RESULTS FROM TO NAME...`.

A line of JSON for each reader goes to RESULTS: what failed, with the seed. Before each file its reader and seed go to RESULTS.at,
so that a process that dies tells where. A reader may take 5 s of the processor and half a gigabyte beyond what the program holds;
warnings are errors.
"""

import faulthandler
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "agreement")]

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # its own takes a gigabyte of addresses at a time
SECONDS = 5.0
MEMORY_BYTES = 2**29
_STUCK_S = 60.0
_MOST_TOLD = 5
_MEMORY_DISK = "/dev/shm"


class TooSlow(BaseException):
    """A reader took longer than it may; no reader catches it."""


def _too_slow(*_: Any) -> None:
    raise TooSlow


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, resource.RLIM_INFINITY))


def try_reader(sample: Any, seeds: range, at: int) -> list[dict[str, Any]]:
    """What failed: the seed, what was done to the file and what came of it."""
    from mutations import mutated

    from eucentric.errors import EucentricError

    failures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=_MEMORY_DISK if Path(_MEMORY_DISK).is_dir() else None) as folder:
        made = Path(folder) / "whole"
        made.mkdir()
        main = sample.make(made)
        files = sorted(p for p in made.rglob("*") if p.is_file() and p.stat().st_size)
        whole = {p: p.read_bytes() for p in files}
        sample.read(main)  # the sample itself is good, and what is imported late is there
        _limit_memory()
        for seed in seeds:
            file = files[seed % len(files)]
            how, data = mutated(whole[file], seed)
            os.pwrite(at, f"{sample.name} {seed}".ljust(80).encode(), 0)
            file.write_bytes(data)
            said = ""
            faulthandler.dump_traceback_later(_STUCK_S, exit=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                sample.read(main)
            except EucentricError:
                pass
            except TooSlow:
                said = f"took more than {SECONDS:g} s: {traceback.format_exc().splitlines()[-3].strip()}"
            except BaseException as error:  # noqa: BLE001
                last = traceback.extract_tb(error.__traceback__)
                ours = [f for f in last if "/eucentric/" in f.filename] or list(last)
                said = f"{type(error).__name__}: {str(error)[:150]} ({Path(ours[-1].filename).name}:{ours[-1].lineno})"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.cancel_dump_traceback_later()
            file.write_bytes(whole[file])
            if said:
                failures.append({"seed": seed, "how": how, "file": file.name, "said": said})
        left = {p for p in made.rglob("*") if p.is_file() and p.stat().st_size} - set(whole)
        failures += [{"seed": None, "how": "any", "file": p.name, "said": "left a file behind"} for p in left]
        gc.collect()
        shutil.rmtree(made)
    return failures


def main() -> None:
    """As the module says."""
    results, first, last, *names = sys.argv[1:]
    from samples import samples

    every = samples()
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, _too_slow)
    faulthandler.enable()
    at = os.open(f"{results}.at", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    for name in names:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.pwrite(at, f"{name} start".ljust(80).encode(), 0)
        began = time.process_time()
        try:
            failures = try_reader(every[name], range(int(first), int(last)), at)
        except Exception:  # noqa: BLE001
            failures = [{"seed": None, "how": "none", "file": "", "said": traceback.format_exc()[-1500:]}]
        took = round(time.process_time() - began, 2)
        with Path(results).open("a") as file:
            file.write(
                json.dumps({"name": name, "count": len(failures), "seconds": took, "failures": failures[:_MOST_TOLD]})
                + "\n"
            )


if __name__ == "__main__":
    main()
