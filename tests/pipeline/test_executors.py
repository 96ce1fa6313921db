"""Executors, progress and what they promise."""

import contextlib
import importlib.util
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from toy_stages import TOYS, make_project, results

from eucentric.errors import BackendError, InputError
from eucentric.pipeline.executors import DaskExecutor, InProcess, make_executor
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.progress import BarProgress, LineProgress, RunProgress, duration
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.stage import ItemStage, Outcome


def threads_here(item):
    import numba
    import torch

    return item, os.getpid(), torch.get_num_threads(), numba.get_num_threads(), os.environ["OMP_NUM_THREADS"]


@pytest.mark.slow
def test_workers_share_the_cores_and_leave_this_process_as_it_was(monkeypatch, environment):
    script = (
        "import os, json\nfrom test_executors import threads_here\n"
        "from eucentric.compute.threads import thread_count\n"
        "from eucentric.pipeline.executors import DaskExecutor\n"
        "from eucentric.pipeline import executors\n"
        "if __name__ == '__main__':\n"
        "    executors.thread_count = lambda: 6\n"  # the share that workers are told at their start
        "    executor = DaskExecutor('local', 2)\n"
        "    found = executor.map(threads_here, range(6))\n"
        "    executor.close()\n"
        "    print(json.dumps([found, os.getpid(), thread_count(), os.environ.get('OMP_NUM_THREADS')]))\n"
    )
    environment.pop("OMP_NUM_THREADS")
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    import json

    found, here, cores, variable = json.loads(done.stdout)
    share = max(1, cores // 2)
    assert [item for item, *_ in found] == list(range(6))  # in order
    assert len({pid for _, pid, *_ in found}) == 2
    assert here not in {pid for _, pid, *_ in found}
    assert {(t, n, e) for _, _, t, n, e in found} == {(share, share, "3")}
    assert variable is None


@contextlib.contextmanager
def scheduler(environment, threads):
    """A scheduler and two workers, started as a user would."""
    address = "tcp://127.0.0.1:18786"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "18786"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", threads, "--nworkers", "2"]
    options = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([*dask, "--no-dashboard"], **options),
        subprocess.Popen([*worker, "--no-dashboard"], **options),
    ]
    try:
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster's own clean-up
def test_a_running_cluster_is_joined_and_outlives_the_run(tmp_path, environment):
    reference = make_project(tmp_path / "reference")
    run_project(reference, device="cpu", workers=1, stages=TOYS)
    with scheduler(environment, "1") as address:
        for name in ("a", "b"):
            root = make_project(tmp_path / name)
            summary = run_project(root, cluster=address, device="cpu", stages=TOYS)
            assert summary.exit_code == 0, summary.lines()
            assert results(root) == results(reference)
            assert (root / "TS_01.pid").read_text() != str(os.getpid())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_that_run_two_items_at_a_time_are_refused(environment):
    with scheduler(environment, "2") as address, pytest.raises(InputError, match="Start workers with --nthreads 1"):
        make_executor(address, None, 1)


def test_no_cluster_at_an_address_is_said(monkeypatch):
    from eucentric.pipeline import executors

    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.3)
    with pytest.raises(BackendError, match=r"No Dask worker answered at `tcp://127\.0\.0\.1:9`"):
        make_executor("tcp://127.0.0.1:9", None, 1)


@pytest.mark.skipif(importlib.util.find_spec("dask_jobqueue") is not None, reason="dask-jobqueue is installed")
def test_slurm_without_its_package_says_what_to_install():
    executor = make_executor("slurm", 4, 1)
    with pytest.raises(BackendError, match=r"pip install 'eucentric\[slurm\]'"):
        executor.map(len, ["a"])


def test_the_executor_fits_the_work():
    assert isinstance(make_executor("local", None, 1), InProcess)
    assert isinstance(make_executor("local", 1, 8), InProcess)
    many = make_executor("local", None, 3)  # starts no process before its first item
    assert isinstance(many, DaskExecutor)
    assert many.slots == 3
    many.close()
    assert InProcess().map(len, ["a", "bc"]) == [1, 2]
    for workers, cluster in ((0, "local"), (None, "nowhere")):
        with pytest.raises(InputError):
            make_executor(cluster, workers, 1)


class Heard(RunProgress):
    def __init__(self):
        super().__init__()
        self.events = []

    def item_progress(self, stage, series, fraction, text):
        super().item_progress(stage, series, fraction, text)
        self.events.append((stage, series, fraction, text, self.done))

    def note(self, text):
        self.events.append(text)


def test_progress_follows_items_and_hears_of_failures(project):
    (project / "frames" / "TS_02_2.txt").write_text("truncated")
    heard = Heard()
    run_project(project, device="cpu", workers=1, stages=TOYS, progress=heard)
    own = [e for e in heard.events if e[:2] == ("first", "TS_01")]
    assert [e[2] for e in own] == [0.25, 0.5, 0.75, 1.0]
    assert [e[3] for e in own] == ["summing"] * 4
    assert own[1][4] == pytest.approx(0.5)
    assert any(isinstance(e, str) and e.startswith("FAILED TS_02, first:") for e in heard.events)
    assert heard.total == 6
    assert heard.done == 6
    assert heard.seconds_left == 0.0
    Plan.load(project, TOYS).save("first", {"scale": 4.0})
    heard = Heard()
    run_project(project, device="cpu", workers=1, stages=TOYS, progress=heard)
    assert "Changed since the last run: [first] scale: 1.0 -> 4.0" in heard.events


def test_the_estimate_weighs_stages_by_their_own_durations():
    progress = RunProgress()
    progress.begin({"quick": 4, "slow": 4}, slots=2)
    assert progress.seconds_left is None
    progress.item_started("quick", "a")
    progress.item_ended("quick", "a", 10.0)
    progress.item_started("slow", "a")
    progress.item_ended("slow", "a", 100.0)
    assert progress.seconds_left == pytest.approx((3 * 10 + 3 * 100) / 2)
    progress.item_started("slow", "b")
    progress.item_progress("slow", "b", 0.5, "iteration 3")
    assert progress.seconds_left == pytest.approx((3 * 10 + 2.5 * 100) / 2)
    assert progress.done == pytest.approx(2.5)
    assert progress.describe() == "b slow iteration 3"
    assert [duration(s) for s in (40, 600, 7200)] == ["40 s", "10 min", "2.0 h"]


def test_a_log_gets_a_line_a_minute():
    now = [0.0]
    text = io.StringIO()
    progress = LineProgress(Console(file=text, width=200), clock=lambda: now[0])
    progress.begin({"align": 600}, slots=1)
    for i in range(300):
        progress.item_started("align", f"TS_{i}")
        now[0] += 1.0
        progress.item_ended("align", f"TS_{i}", 1.0)
    lines = text.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("60.0 of 600 done after 60 s, about 9 min left")


def test_a_terminal_gets_a_bar():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with BarProgress(console) as progress:
        progress.begin({"align": 2}, slots=1)
        progress.item_started("align", "TS_[1]")
        progress.item_ended("align", "TS_[1]", 30.0)
        progress.note("a note")
    assert "a note" in text.getvalue()
    assert "about 30 s left" in text.getvalue()


class Elsewhere(ItemStage):
    name, params, version, after = "first", TOYS[0].params, 1, "import"

    def run(self, series, params, store, device):
        return Outcome(series=series, metrics={"gpu": float(device.type == "cuda")})


def test_a_device_that_is_not_there_is_refused_before_any_work(project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    (project / "eucentric.toml").unlink()
    with pytest.raises(BackendError, match="no CUDA GPU"):
        run_project(project, device="cuda", stages=[Elsewhere])
    assert not (project / "first").exists()
