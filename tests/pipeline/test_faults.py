"""What goes wrong around a run: killed processes, interruption, a second writer, disks, damaged files."""

import os
import signal

import psutil
import pytest
import toy_stages
from disturbances import enlarge, interrupt_when, small_disk, wait_for
from disturbances import started as started_python
from toy_stages import TOYS, make_project, results

from eucentric.errors import FormatError, InputError
from eucentric.pipeline import work
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record, record_path
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.store import ItemStore

SLOWLY = {"first": {"delay": 0.25}}


def run(root, **options):
    return run_project(root, device="cpu", stages=TOYS, **{"workers": 1, **options})


def counts(summary):
    return {name: (t.processed, t.unchanged, t.failed) for name, t in summary.stages.items()}


def started(root, environment, *arguments):
    return started_python([toy_stages.__file__, str(root), *arguments], environment)


def in_the_middle(root):
    """The first series is whole in the first stage, and a later one under way."""
    under_way = root.glob("first/.unfinished/*/first/images/TS_0[23]/*.mrc")
    return (root / "first" / "records" / "TS_01.json").is_file() and any(under_way)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("undisturbed") / "project", chosen=SLOWLY)
    assert run(root).exit_code == 0
    return results(root)


@pytest.fixture
def slow_project(tmp_path):
    return make_project(tmp_path / "project", chosen=SLOWLY)


def test_a_run_killed_in_the_middle_is_finished_by_the_next(slow_project, environment, undisturbed):
    root = slow_project
    with started(root, environment, "--workers", "1") as process:
        interrupt_when(lambda: in_the_middle(root), process, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert list(root.rglob(".unfinished"))
    assert not (root / "first" / "images" / "TS_03").exists()  # nothing half done stands under its name
    summary = run(root)
    assert counts(summary)["first"][1] >= 1
    assert sum(counts(summary)["first"]) == 3
    assert summary.exit_code == 0
    assert results(root) == undisturbed
    assert not list(root.rglob(".unfinished"))


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interruption_ends_in_order_and_says_how_to_go_on(slow_project, environment, undisturbed, how):
    root = slow_project
    with started(root, environment, "--workers", "1") as process:
        interrupt_when(lambda: in_the_middle(root), process, how)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "is kept" in output
    assert "Run the same command again to go on." in output
    assert "Traceback" not in output
    assert not list(root.rglob(".unfinished"))
    assert "TS_01" in (root / "first" / "tilt_series.star").read_text()
    assert run(root).exit_code == 0
    assert results(root) == undisturbed


class Killed(BaseException):
    """Stands for the end of the process: nothing but clean-up by the system follows."""


@pytest.mark.parametrize("moment", ["before moving", "while moving", "before the record"])
def test_no_moment_leaves_a_record_that_does_not_match_its_files(tmp_path, monkeypatch, moment):
    root = make_project(tmp_path / "project")
    run(root)
    reference = results(root)
    Plan.load(root, TOYS).save("first", {"scale": 2.0})
    move, write = ItemStore.move_into_place, work.records.write_record

    def interrupted_move(store, files):
        if moment == "while moving":
            for name in files[:3]:
                (store.copy_root / name).replace(store.root / name)
        if moment != "before the record":
            raise Killed
        move(store, files)

    def interrupted_write(folder, record):
        if moment == "before the record":
            raise Killed
        write(folder, record)

    monkeypatch.setattr(ItemStore, "move_into_place", interrupted_move)
    monkeypatch.setattr(work.records, "write_record", interrupted_write)
    with pytest.raises(Killed):
        run(root)
    monkeypatch.undo()
    # back to the settings of before: what lies there is of neither, and must not pass for done
    Plan.load(root, TOYS).save("first", {"scale": 1.0})
    assert run(root).exit_code == 0
    assert results(root) == reference


def test_a_damaged_record_counts_as_none(project):
    run(project)
    record_path(project / "first", "TS_02").write_text('{"stage": "fir')
    assert counts(run(project)) == {"first": (1, 2, 0), "second": (0, 3, 0), "count": (0, 1, 0)}


def test_a_project_has_one_writer_at_a_time(project, environment):
    with ProjectLock(project, "align"):
        with pytest.raises(InputError, match=rf"being written to by `eucentric align`, process {os.getpid()} on "):
            run(project)
        with started(project, environment) as process:
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"process {os.getpid()}" in output
    assert run(project).exit_code == 0


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(project):
    (project / "second").write_text("a file where a folder should be")
    with pytest.raises(InputError, match=r"cannot be written.*Choose a folder that you may write to"):
        run(project)
    assert not list((project / "first").glob("records/*"))


def test_a_table_that_cannot_be_read_is_said(project):
    (project / "import" / "tilt_series" / "TS_02.star").write_text("data_x\n\nloop_\n_a #1\n_b #2\n1\n")
    summary = run(project)
    assert counts(summary)["first"] == (2, 0, 1)
    assert "TS_02.star` is not a STAR file" in summary.failures[0].message
    assert read_record(project / "first", "TS_02").outcome == "failed"
    (project / "import" / "tilt_series.star").write_text("nonsense")
    with pytest.raises(FormatError, match="is not a STAR file"):
        run(project)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(tmp_path):
    root = make_project(tmp_path / "project")
    with small_disk(root / "first", "size=100k"):
        summary = run(root)
        assert summary.exit_code == 1
        assert counts(summary)["first"][2] >= 1
        assert all("is full" in f.message for f in summary.failures)
        assert "Free some space" in summary.failures[0].message
        assert not list(root.rglob(".unfinished"))
        enlarge(root / "first", "10m")
        assert run(root).exit_code == 0
        reference = make_project(tmp_path / "reference")
        run(reference)
        assert results(root) == results(reference)


def test_a_read_only_disk_is_refused_before_any_work(tmp_path):
    root = make_project(tmp_path / "project")
    with small_disk(root / "first", "ro"), pytest.raises(InputError, match="read-only file system"):
        run(root)


@pytest.mark.slow
def test_workers_give_the_result_of_one_process(slow_project, environment, undisturbed):
    with started(slow_project, environment, "--workers", "2") as process:
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert results(slow_project) == undisturbed
    pids = {(slow_project / f"TS_0{i}.pid").read_text() for i in (1, 2, 3)}
    assert len(pids) == 2
    assert str(process.pid) not in pids


@pytest.mark.slow
def test_a_killed_worker_costs_its_item_a_retry(slow_project, environment, undisturbed):
    root = slow_project
    with started(root, environment, "--workers", "2") as process:
        wait_for(lambda: any(root.glob("first/.unfinished/TS_02/first/images/TS_02/*.mrc")), process)
        os.kill(int((root / "TS_02.pid").read_text()), signal.SIGKILL)
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert results(root) == undisturbed


@pytest.mark.slow
def test_an_item_that_kills_its_worker_again_and_again_fails_alone(tmp_path, environment):
    root = make_project(tmp_path / "project", chosen={"first": {"label": "die TS_02"}})
    with started(root, environment, "--workers", "2") as process:
        output, _ = process.communicate(timeout=400)  # only against a hang: machines are slow at times
    assert process.returncode == 1, output
    assert "was killed 3 times" in read_record(root / "first", "TS_02").message
    assert read_record(root / "second", "TS_01").is_done
    assert read_record(root / "second", "TS_03").is_done


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_do_not_outlive_the_run(slow_project, environment, undisturbed, how):
    root = slow_project
    with started(root, environment, "--workers", "2") as process:
        wait_for(lambda: any(root.glob("first/.unfinished/TS_02/first/images/TS_02/*.mrc")), process)
        children = psutil.Process(process.pid).children(recursive=True)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        output, _ = process.communicate(timeout=30)
        assert process.returncode == (130 if how == signal.SIGINT else -how), output
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive
    assert run(root).exit_code == 0
    assert results(root) == undisturbed
