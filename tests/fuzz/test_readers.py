"""No reader answers a damaged file with anything but success or an error in words: no traceback, no warning, no hang, no memory.

Which readers: `samples.py`. What is done to files: `mutations.py`. The readers run in two processes of their own (`runner.py`),
which tell the seed of each failure: `python tests/fuzz/runner.py OUT SEED SEED+1 NAME` runs one again.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mutations import is_text, mutated
from samples import Sample, samples

from eucentric.errors import FormatError

HERE = Path(__file__).parent
NAMES = sorted(samples())
FAST, SLOW = 40, 2000
PROCESSES = 2


def run_readers(folder, names, first, last):
    """What came of each reader; a process that dies is told, and the readers after it go on in another."""
    found = {}
    left = list(names)
    while left:
        out = folder / f"{left[0]}.{len(left)}.json"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / "runner.py"), str(out), str(first), str(last), *left]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        rows = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
        found |= {row["name"]: row for row in rows}
        left = left[len(rows) :]
        if left:  # it died within this reader
            at = Path(f"{out}.at")
            where = at.read_text().strip() if at.is_file() else "before the first file"
            found[left[0]] = {"count": 1, "failures": [{"said": f"died at `{where}`: {done.stderr[-1500:]}"}]}
            left = left[1:]
    return found


def outcomes(folder, first, last):
    shares = [NAMES[i::PROCESSES] for i in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        parts = pool.map(lambda share: run_readers(folder, share, first, last), shares)
        return {name: row for part in parts for name, row in part.items()}


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("fast"), 0, FAST)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("slow"), FAST, FAST + SLOW)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused_in_words(fast, name):
    assert fast[name]["failures"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_are_read_or_refused_in_words(slow, name):
    assert slow[name]["failures"] == []


def test_mutations_are_the_same_for_a_seed_and_differ_from_the_whole():
    text, binary = b"".join(b"%d 2.5 abc\n" % i for i in range(30)), bytes(range(256)) * 8
    assert is_text(text)
    assert not is_text(binary)
    for data in (text, binary):
        made = [mutated(data, seed)[1] for seed in range(200)]
        assert made == [mutated(data, seed)[1] for seed in range(200)]
        assert sum(m != data for m in made) > 180
        assert len(set(made)) > 150
        assert max(map(len, made)) < 2**20


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise ZeroDivisionError('x')", "ZeroDivisionError"),
        ("import warnings; warnings.warn('odd')", "UserWarning"),
        ("\nwhile True: pass", "took more than"),
        ("bytearray(2**31)", "MemoryError"),
    ],
)
def test_the_runner_notices(tmp_path, fault, words):
    """What the runner is for: each kind of failure is told with its seed."""
    import runner

    script = (
        "import os, signal, sys, json, warnings\n"
        f"sys.path[:0] = [{str(HERE)!r}]\n"
        "import runner\n"
        "from samples import Sample\n"
        "def make(folder):\n"
        "    (folder / 'a.txt').write_text('1 2 3\\n')\n"
        "    return folder / 'a.txt'\n"
        "def read(path):\n"
        "    if path.read_text(errors='replace') == '1 2 3\\n': return\n"
        f"    exec({fault!r})\n"
        "runner.SECONDS = 0.2\n"
        "warnings.simplefilter('error')\n"
        "signal.signal(signal.SIGPROF, runner._too_slow)\n"
        f"at = os.open({str(tmp_path / 'at')!r}, os.O_CREAT | os.O_RDWR)\n"
        "print(json.dumps(runner.try_reader(Sample(name='a', make=make, read=read), range(3), at)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failures = json.loads(done.stdout)
    assert failures
    assert all(words in failure["said"] for failure in failures)
    assert runner.MEMORY_BYTES < 2**30


def test_every_reader_of_io_has_a_sample():
    """A new reader comes with a sample, or with a reason why none."""
    import re

    source = (HERE / "samples.py").read_text() + (HERE / "samples_exchange.py").read_text()
    without = {
        "read_ctffind_table", "read_imod_defocus", "read_warp_ctf", "read_ctf_star",  # through read_ctf_estimates
        "read_relion_particles", "read_motive_list", "read_stopgap", "read_dynamo_table", "read_pytom_xml", "read_pytom_star",
        "read_imod_particles", "read_copick", "read_eman2_particles", "read_plain_particles",  # through read_particles
        "read_mrc_header", "read_ome_zarr_header", "read_tiff_layout", "read_movie", "read_unpacked", "read_star_text",
        "read_page_chain", "read_tilt_series", "read_eer_metadata",  # through the whole file
        "read_volume_info", "read_star_columns", "read_hdf_header", "read_hdf_headers",
    }  # fmt: skip
    readers = {}
    for file in (HERE.parents[1] / "src" / "eucentric" / "io").glob("*.py"):
        for name in re.findall(r"^def (read_\w+)\(", file.read_text(), flags=re.MULTILINE):
            readers[name] = file.name
    missing = {name: file for name, file in readers.items() if name not in source and name not in without}
    assert missing == {}


def test_a_sample_that_is_refused_in_words_is_no_failure(tmp_path):
    import runner

    def refuse(path):
        if path.read_bytes() != b"whole":
            raise FormatError("x")

    def make(folder):
        (folder / "a").write_bytes(b"whole")
        return folder / "a"

    # run here: without limits of memory, which would stay
    before = runner._limit_memory
    runner._limit_memory = lambda: None
    try:
        at = os.open(tmp_path / "at", os.O_CREAT | os.O_RDWR)
        assert runner.try_reader(Sample(name="a", make=make, read=refuse), range(5), at) == []
    finally:
        runner._limit_memory = before
