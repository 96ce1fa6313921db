"""What `eucentric status` says of runs that go on, that crashed and that ended, and how long they still take."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_stages
from disturbances import hold_when, read_only, started
from rich.console import Console
from toy_stages import TOYS, make_project

from eucentric.cli import status_command
from eucentric.errors import InputError
from eucentric.pipeline.lock import LOCK_FILE, ProjectLock, lock_holder
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.progress import RunProgress
from eucentric.pipeline.results_beside import commands_at_work
from eucentric.pipeline.run_note import NOTE_FILE, RunningItem, RunNote, read_run_note
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.status import project_status
from eucentric.pipeline.steps import project_steps
from eucentric.pipeline.summary import RunInterrupted
from eucentric.pipeline.time_left import StageTimes, left_of_run, left_to_do

SCRIPT = str(Path(toy_stages.__file__))


@pytest.fixture
def toys(monkeypatch):
    """The program with the toy stages."""
    monkeypatch.setattr("eucentric.pipeline.status.all_stages", lambda: TOYS)


def is_in(root, stage, series):
    note = read_run_note(root)
    return note is not None and any((i.stage, i.series) == (stage, series) for i in note.running)


def test_a_run_that_goes_on_says_what_it_does_and_one_that_is_killed_is_told(tmp_path, environment, program, toys):
    root = make_project(tmp_path / "project", chosen={"first": {"delay": 0.05}})
    with started([SCRIPT, str(root), "--workers", "1"], environment) as process:
        hold_when(lambda: is_in(root, "first", "TS_02"), process)
        found = project_status(root, TOYS)
        assert found.is_running
        assert (found.holder.pid, found.holder.command) == (process.pid, "run")
        states = {s.name: s.states for s in found.series}
        assert states["TS_01"]["first"] == "done"
        assert states["TS_02"] == {"first": "running", "second": "waiting"}
        assert states["TS_03"] == {"first": "waiting", "second": "waiting"}
        (now,) = found.now
        assert (now.stage, now.series) == ("first", "TS_02")
        assert found.left.seconds > 0
        assert found.left.unmeasured == ("count",)
        code, out, _ = program("status", root)
        assert code == 0
        assert f"Running: `eucentric run`, process {process.pid}" in out
        assert "TS_02, first:" in out
        assert "count was never timed here" in out
        process.kill()
        process.wait()
    found = project_status(root, TOYS)
    assert (found.is_running, found.holder.state) == (False, "gone")
    assert {s.name: s.states["first"] for s in found.series}["TS_02"] == "waiting"
    code, out, _ = program("status", root, "--json")
    assert code == 1
    assert "ended without a word at TS_02 in first" in out
    told = json.loads(out.splitlines()[-1])
    assert (told["running"], told["holder"]["state"]) == (False, "gone")
    run_project(root, device="cpu", workers=1, stages=TOYS)
    found = project_status(root, TOYS)
    assert (found.holder, found.now, found.left.seconds) == (None, (), 0)
    assert not (root / NOTE_FILE).exists()


def test_a_run_that_is_stopped_by_ctrl_c_leaves_no_note(project):
    class Stops(RunProgress):
        def item_progress(self, stage, series, fraction, text):
            assert is_in(project, "first", "TS_01")
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted):
        run_project(project, device="cpu", workers=1, stages=TOYS, progress=Stops())
    found = project_status(project, TOYS)
    assert (found.holder, found.now) == (None, ())
    assert not (project / NOTE_FILE).exists()


def test_the_note_of_a_run_is_kept_to_date(project):
    seen = []

    class Looks(RunProgress):
        def refresh(self):
            seen.append(read_run_note(project))

    run_project(project, device="cpu", workers=1, stages=TOYS, progress=Looks())
    notes = [n for n in seen if n is not None]
    assert notes[0].folders == {"first": "first", "second": "second", "count": "count"}
    assert notes[0].pending == {"first": 3, "second": 3, "count": 0}
    assert (notes[0].pid, notes[0].host, notes[0].slots) == (os.getpid(), socket.gethostname(), 1)
    assert {(i.stage, i.series) for n in notes for i in n.running} >= {("first", "TS_01"), ("second", "TS_03")}
    assert notes[-1].ended["first"] == 3


def test_a_run_goes_on_where_its_note_cannot_be_written(project, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eucentric.pipeline.run_note.write_text_atomic", full)
    assert run_project(project, device="cpu", workers=1, stages=TOYS).exit_code == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "running": [3]}'])
def test_a_note_that_is_none_is_passed_over(project, text):
    (project / NOTE_FILE).write_text(text)
    assert read_run_note(project) is None
    with ProjectLock(project, "run"):
        found = project_status(project, TOYS)
    assert found.is_running
    assert found.now == ()


def test_a_note_of_another_process_is_not_that_of_the_holder(project):
    note = {**NOTE, "pid": os.getpid() + 1, "host": socket.gethostname()}
    (project / NOTE_FILE).write_text(json.dumps({"version": 1, **note, "running": []}))
    with ProjectLock(project, "run"):
        assert project_status(project, TOYS).left is None


def test_looking_hinders_no_run_and_changes_nothing(project):
    run_project(project, device="cpu", workers=1, stages=TOYS)
    before = {p: p.stat().st_mtime_ns for p in project.rglob("*")}
    assert lock_holder(project) is None
    project_status(project, TOYS)
    assert {p: p.stat().st_mtime_ns for p in project.rglob("*")} == before
    script = f"""
import time
from eucentric.pipeline.lock import lock_holder
for _ in range(150):
    lock_holder({str(project)!r})
    time.sleep(0.001)
"""
    (project / LOCK_FILE).write_text('{"pid": 1, "host": "h", "since": "2026-01-01T00:00:00+00:00", "command": "run"}')
    with subprocess.Popen([sys.executable, "-c", script]) as looks:
        while looks.poll() is None:
            with ProjectLock(project, "run"):
                pass
    assert looks.returncode == 0


def test_the_holder_of_a_lock(project, monkeypatch):
    assert lock_holder(project / "nowhere") is None
    with ProjectLock(project, "align"):
        assert (lock_holder(project).state, lock_holder(project).command) == ("running", "align")
        with pytest.raises(InputError, match="being written to by `eucentric align`"):
            ProjectLock(project, "run").__enter__()
    assert lock_holder(project) is None
    note = {"pid": 2**22 + 1, "host": socket.gethostname(), "since": "2026-01-01T00:00:00+00:00", "command": "run"}
    (project / LOCK_FILE).write_text(json.dumps(note))
    assert lock_holder(project).state == "gone"
    (project / LOCK_FILE).write_text(json.dumps({**note, "host": "elsewhere.example"}))
    assert lock_holder(project).state == "elsewhere"
    # a network folder without locks: only the process can be asked
    monkeypatch.setattr("eucentric.pipeline.lock._is_held", lambda descriptor: None)
    assert lock_holder(project).state == "elsewhere"
    (project / LOCK_FILE).write_text(json.dumps(note))
    assert lock_holder(project).state == "gone"
    (project / LOCK_FILE).write_text(json.dumps({**note, "pid": os.getpid()}))
    assert lock_holder(project).state == "running"


def test_a_project_that_may_only_be_read_can_be_looked_at(project):
    run_project(project, device="cpu", workers=1, stages=TOYS)
    with read_only(project):
        assert project_status(project, TOYS).series[0].states["second"] == "done"


NOTE = {
    "pid": 1,
    "host": "h",
    "started": 0.0,
    "updated": 0.0,
    "device": "cpu",
    "slots": 1,
    "folders": {},
    "pending": {},
    "ended": {},
}


def left(project, times, now, **values):
    steps = project_steps(project, Plan.load(project, TOYS))
    return left_of_run(RunNote(**{**NOTE, **values}), steps, StageTimes(seconds=times), now)


def test_time_left_is_the_work_that_is_left(project):
    times = {"first": 100.0, "second": 10.0, "count": 5.0}
    item = RunningItem(stage="first", series="TS_01", started=1000.0)
    # 70 s of the running one, two more in first, three in second, then all together
    counted = left(project, times, 1030.0, pending={"first": 3, "second": 3, "count": 0}, running=(item,))
    assert counted.seconds == pytest.approx(70 + 200 + 30 + 5)
    assert counted.unmeasured == ()
    # two workers share the series; a third would have nothing to do once two are left
    two = left(project, times, 1030.0, pending={"first": 3, "second": 3, "count": 0}, running=(item,), slots=2)
    assert two.seconds == pytest.approx(300 / 2 + 5)
    many = left(project, times, 1030.0, pending={"first": 1, "second": 1}, running=(item,), slots=8)
    assert many.seconds == pytest.approx(70 + 10)
    # the stage over all series alone, then done
    assert left(project, times, 1030.0, pending={"first": 0, "second": 0, "count": 0}).seconds == 5
    assert left(project, times, 1030.0, pending={"count": 0}, ended={"count": 1}).seconds == 0


def test_an_item_that_says_how_far_it_is_is_measured_by_itself(project):
    item = RunningItem(stage="first", series="TS_01", started=1000.0, fraction=0.25)
    # never timed before: 30 s for a quarter
    told = left(project, {}, 1030.0, pending={"first": 1}, running=(item,))
    assert (told.seconds, told.unmeasured) == (pytest.approx(90.0), ())
    slow = left(project, {"first": 20.0}, 1030.0, pending={"first": 1}, running=(item,))
    assert slow.seconds == pytest.approx(90.0)


def test_stages_that_were_never_timed_are_named_not_guessed(project):
    item = RunningItem(stage="first", series="TS_01", started=1000.0)
    told = left(project, {"second": 10.0}, 1030.0, pending={"first": 2, "second": 2, "count": 0}, running=(item,))
    assert told.unmeasured == ("first", "count")
    assert told.seconds == 20
    assert left_to_do({"first": 2, "second": 3, "count": 0}, StageTimes(seconds={"second": 10.0})).seconds == 30


def set_seconds(project, stage, values, **changes):
    for name, seconds in values.items():
        path = project / stage / "records" / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds, **changes}))


def test_times_are_the_medians_of_records_like_the_run(project):
    run_project(project, device="cpu", workers=1, stages=TOYS)
    steps = project_steps(project, Plan.load(project, TOYS))
    set_seconds(project, "first", {"TS_01": 10.0, "TS_02": 14.0, "TS_03": 400.0})
    assert StageTimes.of(steps, {}, "cpu").seconds["first"] == 14.0
    # of one that ran on a GPU, and of one with other settings
    set_seconds(project, "first", {"TS_01": 1.0}, device="cuda:0")
    assert StageTimes.of(steps, {}, "cpu").seconds["first"] == (14.0 + 400.0) / 2
    set_seconds(project, "first", {"TS_03": 400.0}, parameters={"scale": 3.0})
    assert StageTimes.of(steps, {}, "cpu").seconds["first"] == 14.0
    assert StageTimes.of(steps, {}, "cuda:0").seconds["first"] == 1.0
    # a variant that was never timed takes as long as the stage's own
    assert StageTimes.of(steps, {"first": "elsewhere"}, "cpu").seconds["first"] == 14.0
    set_seconds(project, "first", dict.fromkeys(("TS_01", "TS_02", "TS_03"), 1.0), outcome="failed")
    assert "first" not in StageTimes.of(steps, {}, "cpu").seconds


def test_what_a_run_would_find_is_told_with_its_time(project, program, toys):
    _, out, _ = program("status", project)
    assert "would find work that was never timed here" in out
    run_project(project, device="cpu", workers=1, stages=TOYS)
    _, out, _ = program("status", project)
    assert "Nothing is running, and every stage is done." in out
    assert "count: done" in out
    set_seconds(project, "second", dict.fromkeys(("TS_01", "TS_02", "TS_03"), 40.0))
    Plan.load(project, TOYS).save("second", {"offset": 2.0})
    _, out, _ = program("status", project)
    assert "would find about 2 min of work, one series at a time" in out


def at_a_terminal(monkeypatch, height=40):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=110, height=height)
    monkeypatch.setattr(status_command, "Console", lambda file: console)
    return shown


def test_watching_at_a_terminal_ends_cleanly_with_ctrl_c(project, program, toys, monkeypatch):
    shown = at_a_terminal(monkeypatch)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status_command.time, "sleep", sleep)
    with ProjectLock(project, "run"):
        code, _, err = program("status", project, "--watch", "--interval", "0.5")
    assert (code, err) == (0, "")
    assert looks == [0.5] * 3
    screen = shown.getvalue()
    assert screen.count("\x1b[?1049h") == screen.count("\x1b[?1049l") == 1  # the screen before is given back
    assert "Running: `eucentric run`" in screen
    assert "Traceback" not in screen


def test_a_screen_too_low_for_all_series_counts_the_rest(tmp_path):
    from eucentric.cli.status_view import live_view

    root = make_project(tmp_path / "p", names=[f"TS_{i:02d}" for i in range(30)])
    (root / "frames" / "TS_20_1.txt").write_text("truncated")
    run_project(root, device="cpu", workers=1, stages=TOYS, only=["TS_20"])
    console = Console(file=io.StringIO(), width=110, height=20)
    console.print(live_view(project_status(root, TOYS), 20))
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= 20
    text = "\n".join(lines)
    assert "TS_20" in text  # what failed comes first
    assert " more" in text


def test_watching_for_a_log_writes_lines_until_nothing_runs(project, program, toys, monkeypatch):
    lock = ProjectLock(project, "run")
    lock.__enter__()
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] >= 130:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(status_command.time, "sleep", sleep)
    monkeypatch.setattr(status_command.time, "monotonic", lambda: clock[0])
    code, out, _ = program("status", project, "--watch", "--interval", "10")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4  # at 0, 60 and 120 s, and at the end
    assert all(line.startswith("first 0/3, second 0/3. Running: `eucentric run`") for line in lines[:3])
    assert "Nothing is running" in lines[3]


def test_an_interval_that_is_none(project, program, toys):
    code, _, err = program("status", project, "--watch", "--interval", "0")
    assert code == 2
    assert "expected 0.1 to 3600" in err


def test_commands_on_particles_are_seen_by_their_files(project, tmp_path):
    (tmp_path / "eucentric").write_text("import time\ntime.sleep(60)\n")
    listed = project / "pick" / "particles.star"
    calls = {
        "average": ["average", str(listed)],
        "extract": ["extract", "pick/particles.star", f"--output={tmp_path}"],
        "classify": ["classify", str(tmp_path / "others" / "particles.star")],
        "status": ["status", str(project)],
    }
    running = {
        name: subprocess.Popen([sys.executable, str(tmp_path / "eucentric"), *words], cwd=project)
        for name, words in calls.items()
    }
    try:
        end = time.monotonic() + 20
        while len(found := commands_at_work(project)) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert {c.name: c.pid for c in found} == {n: running[n].pid for n in ("average", "extract")}
        assert [c.name for c in commands_at_work(project, [running["average"].pid])] == ["extract"]
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert commands_at_work(project) == ()
