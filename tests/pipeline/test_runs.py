"""What a run does, skips and redoes."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest
from toy_stages import TOYS, Count, First, Second, make_project, results

from eucentric.errors import InputError
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series, read_tilt_series_set
from eucentric.pipeline.exclude import exclude_tilt
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record, read_records
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.status import project_status
from eucentric.pipeline.store import ItemStore, StageStore


def run(root, **options):
    return run_project(root, device="cpu", stages=TOYS, **{"workers": 1, **options})


def counts(summary):
    return {name: (t.processed, t.unchanged, t.failed) for name, t in summary.stages.items()}


def test_all_series_go_through_all_stages(project):
    summary = run(project)
    assert counts(summary) == {"first": (3, 0, 0), "second": (3, 0, 0), "count": (1, 0, 0)}
    assert summary.exit_code == 0
    table = read_tilt_series_set(project / "second" / "tilt_series.star", project)
    assert [s.name for s in table] == ["TS_01", "TS_02", "TS_03"]
    assert [p.y_tilt_deg for p in table[1].poses] == [-5.5, -2.5, 0.5, 3.5]
    image, _ = read_mrc(project / table[2].tilts[1].image)
    assert image[0, 5, 7] == 31.0  # the number in the third series' second movie
    page = json.loads((project / "count" / "index.json").read_text())
    assert page == {"title": "All series", "series": {"TS_01": 4, "TS_02": 4, "TS_03": 4}, "failed": {}}
    assert not list(project.rglob(".unfinished"))


def test_a_second_run_does_nothing_and_changes_no_file(project):
    run(project)
    before = {p: p.stat().st_mtime_ns for p in project.rglob("*") if p.is_file() and p.name != ".eucentric.lock"}
    summary = run(project)
    assert counts(summary) == {"first": (0, 3, 0), "second": (0, 3, 0), "count": (0, 1, 0)}
    after = {p: p.stat().st_mtime_ns for p in project.rglob("*") if p.is_file() and p.name != ".eucentric.lock"}
    assert after == before


def test_a_record_tells_what_was_done_with_what(project):
    run(project)
    record = read_record(project / "first", "TS_02")
    assert record.parameters == {"scale": 1.0, "delay": 0.0, "label": None}
    assert [f.path for f in record.inputs] == [f"frames/TS_02_{i}.txt" for i in range(4)]
    assert record.inputs[0].size == (project / "frames" / "TS_02_0.txt").stat().st_size
    assert record.metrics == {"mean": 1.0, "odd": None}  # JSON has no NaN
    assert record.caveats == ("a toy",)
    assert {"eucentric", "torch", "numpy", "python"} <= set(record.versions)
    assert record.peak_memory_bytes > 1e6
    assert all((project / name).is_file() for name in record.outputs)
    assert read_record(project / "second", "TS_02").upstream == record.fingerprint


def test_a_changed_setting_redoes_its_stage_and_those_after_it(project):
    run(project)
    Plan.load(project, TOYS).save("second", {"offset": 1.0})
    summary = run(project)
    assert counts(summary) == {"first": (0, 3, 0), "second": (3, 0, 0), "count": (1, 0, 0)}
    assert [str(c) for c in summary.changes] == ["[second] offset: 0.5 -> 1.0"]
    series = read_tilt_series(project / "second" / "tilt_series.star", "TS_01", project)
    assert series.poses[0].y_tilt_deg == -5.0
    Plan.load(project, TOYS).save("first", {"scale": 2.0})
    assert counts(run(project)) == {"first": (3, 0, 0), "second": (3, 0, 0), "count": (1, 0, 0)}


@pytest.mark.parametrize("change", ["content", "table", "gain", "version", "seed"])
def test_changed_inputs_redo_what_they_decide(project, change, monkeypatch):
    (project / "gain.mrc").write_bytes(b"old")
    Plan.load(project, TOYS).save("project", {"gain": "gain.mrc"})
    run(project)
    expected = {"first": (3, 0, 0), "second": (3, 0, 0), "count": (1, 0, 0)}
    if change == "content":
        (project / "frames" / "TS_03_2.txt").write_text("77.5")
        expected = {"first": (1, 2, 0), "second": (1, 2, 0), "count": (1, 0, 0)}
    elif change == "table":
        path = project / "import" / "tilt_series" / "TS_01.star"
        path.write_text(path.read_text().replace("3.1", "3.2"))
        expected = {"first": (1, 2, 0), "second": (1, 2, 0), "count": (1, 0, 0)}
    elif change == "gain":
        (project / "gain.mrc").write_bytes(b"newer")
    elif change == "version":
        monkeypatch.setattr(First, "version", 2)
    else:
        Plan.load(project, TOYS).save("project", {"seed": 5})
    assert counts(run(project)) == expected


def test_workers_device_place_and_archived_movies_redo_nothing(project, tmp_path):
    run(project)
    for movie in (project / "frames").glob("TS_01*"):
        movie.unlink()
    moved = project.rename(tmp_path / "elsewhere")
    assert counts(run(moved)) == {"first": (0, 3, 0), "second": (0, 3, 0), "count": (0, 1, 0)}


def test_a_table_changed_by_hand_is_kept_and_redoes_what_follows(project):
    run(project)
    path = project / "first" / "tilt_series" / "TS_02.star"
    path.write_text(path.read_text().replace("-6.0", "-6.5"))
    assert counts(run(project)) == {"first": (0, 3, 0), "second": (1, 2, 0), "count": (1, 0, 0)}
    series = read_tilt_series(project / "second" / "tilt_series.star", "TS_02", project)
    assert series.poses[0].y_tilt_deg == -6.0
    assert counts(run(project))["second"] == (0, 3, 0)


def test_one_bad_series_of_three_is_an_outcome(project):
    (project / "frames" / "TS_02_1.txt").write_text("truncated")
    summary = run(project)
    assert counts(summary) == {"first": (2, 0, 1), "second": (2, 0, 0), "count": (1, 0, 0)}
    assert summary.exit_code == 1
    (failure,) = summary.failures
    message = "`frames/TS_02_1.txt` ends after frame 2 of 4. Copy it again."
    assert (failure.series, failure.stage, failure.message) == ("TS_02", "first", message)
    names = [s.name for s in read_tilt_series_set(project / "first" / "tilt_series.star", project)]
    assert names == ["TS_01", "TS_03"]
    assert json.loads((project / "count" / "index.json").read_text())["failed"] == {"TS_02": message}
    assert json.loads((project / "first" / "run.json").read_text())["items"]["TS_02"]["message"] == message
    assert [s.states for s in project_status(project, TOYS).series][1] == {"first": "failed", "second": "waiting"}
    # mended: only it is done
    (project / "frames" / "TS_02_1.txt").write_text("21")
    assert counts(run(project)) == {"first": (1, 2, 0), "second": (1, 2, 0), "count": (1, 0, 0)}
    reference = make_project(project.parent / "reference")
    run(reference)
    assert results(project) == results(reference)


def test_an_unexpected_error_is_an_outcome_too_and_keeps_its_traceback(project):
    (project / "frames" / "TS_01_0.txt").write_text("surprise")
    summary = run(project)
    assert counts(summary)["first"] == (2, 0, 1)
    assert "ZeroDivisionError: nobody thought of this" in summary.failures[0].message
    assert "toy_stages.py" in summary.failures[0].traceback


def test_a_failed_stage_leaves_the_files_of_the_earlier_result_whole(project):
    run(project)
    image = project / "first" / "images" / "TS_02" / "tilt_0.mrc"
    before = image.read_bytes()
    (project / "frames" / "TS_02_3.txt").write_text("truncated")  # found only after the first images were made
    assert run(project).exit_code == 1
    assert image.read_bytes() == before


def test_files_that_a_new_result_no_longer_has_go(project):
    run(project)
    images = project / "first" / "images" / "TS_01"
    assert len(list(images.iterdir())) == 4
    exclude_tilt(project, "TS_01", 3.2, reason="a crack", stages=TOYS)
    Plan.load(project, TOYS).save("first", {"scale": 3.0})
    run(project)
    assert len(list(images.iterdir())) == 3


def test_an_excluded_tilt_is_left_out_of_all_later_work(project):
    run(project)
    entry = exclude_tilt(project, "TS_01", 3.2, reason="a crack", stages=TOYS)
    assert (entry.angle, entry.acquisition) == (3.0, 3)
    # first treats tilts one by one, so its result stands
    assert counts(run(project)) == {"first": (0, 3, 0), "second": (1, 2, 0), "count": (1, 0, 0)}
    series = read_tilt_series(project / "second" / "tilt_series.star", "TS_01", project)
    assert [t.nominal_tilt_deg for t in series.tilts] == [-6.0, -3.0, 0.0]
    assert [(e.tilt.nominal_tilt_deg, e.reason) for e in series.excluded] == [(3.0, "a crack")]
    assert (project / "second" / "volumes" / "TS_01.txt").read_text() == "3 tilts\n"
    assert json.loads((project / "count" / "index.json").read_text())["series"]["TS_01"] == 3
    exclude_tilt(project, "TS_01", 3.0, undo=True, stages=TOYS)
    assert counts(run(project))["second"] == (1, 2, 0)
    assert (project / "second" / "volumes" / "TS_01.txt").read_text() == "4 tilts\n"


def test_a_tilt_that_cannot_be_told_is_not_excluded(project):
    with pytest.raises(InputError, match=r"no tilt within 0.5 degrees of 7"):
        exclude_tilt(project, "TS_01", 7, stages=TOYS)
    with pytest.raises(InputError, match="has no tilt series called TS_09"):
        exclude_tilt(project, "TS_09", 3, stages=TOYS)
    with pytest.raises(InputError, match="was not left out"):
        exclude_tilt(project, "TS_01", 3, undo=True, stages=TOYS)


def test_only_until_and_overwrite(project):
    assert counts(run(project, only=["*_02"], until="first")) == {"first": (1, 0, 0)}
    assert counts(run(project, only=["TS_03"])) == {"first": (1, 0, 0), "second": (1, 0, 0), "count": (1, 0, 0)}
    names = [s.name for s in read_tilt_series_set(project / "first" / "tilt_series.star", project)]
    assert names == ["TS_02", "TS_03"]
    assert counts(run(project)) == {"first": (1, 2, 0), "second": (2, 1, 0), "count": (1, 0, 0)}
    assert counts(run(project, only=["TS_01"], overwrite=True))["second"] == (1, 0, 0)
    with pytest.raises(InputError, match="Did you mean `TS_01`"):
        run(project, only=["TS_1"])
    with pytest.raises(InputError, match=r"no stage called `secnd`\. Did you mean `second`"):
        run(project, until="secnd")


def test_a_stage_alone_keeps_variants_beside_each_other(project):
    run(project)
    table = project / "first" / "tilt_series.star"
    summary = run_stage(table, "second", {"offset": 2.0}, "second_2", device="cpu", workers=1, stages=TOYS)
    assert counts(summary) == {"second": (3, 0, 0)}
    series = read_tilt_series(project / "second_2" / "tilt_series.star", "TS_01", project)
    assert series.poses[0].y_tilt_deg == -4.0
    assert Plan.load(project, TOYS).params("second").offset == 0.5
    assert counts(run(project))["second"] == (0, 3, 0)
    # in the stage's own folder the settings become those of the project
    run_stage(project, "second", {"offset": 3.0}, device="cpu", workers=1, stages=TOYS)
    assert Plan.load(project, TOYS).params("second").offset == 3.0
    assert counts(run(project)) == {"first": (0, 3, 0), "second": (0, 3, 0), "count": (1, 0, 0)}
    # a collective stage alone
    assert counts(run_stage(project, "count", {"title": "Other"}, device="cpu", stages=TOYS)) == {"count": (1, 0, 0)}
    assert json.loads((project / "count" / "index.json").read_text())["title"] == "Other"


def test_a_row_changed_by_hand_is_honoured_by_a_stage_alone(project):
    run(project)
    table = project / "first" / "tilt_series.star"
    assert counts(run_stage(table, "second", output="v", device="cpu", workers=1, stages=TOYS))["second"] == (3, 0, 0)
    assert counts(run_stage(table, "second", output="v", device="cpu", workers=1, stages=TOYS))["second"] == (0, 3, 0)
    table.write_text(table.read_text().replace(" -1.0 ", " 1.0 "))
    assert counts(run_stage(table, "second", output="v", device="cpu", workers=1, stages=TOYS))["second"] == (3, 0, 0)
    assert read_tilt_series(project / "v" / "tilt_series.star", "TS_01", project).hand == 1.0


def test_stages_that_cannot_start_say_why(project, tmp_path):
    with pytest.raises(InputError, match=r"reads the results of first.*Run `eucentric first"):
        run_stage(project, "second", device="cpu", stages=TOYS)
    with pytest.raises(InputError, match="is not a project"):
        run_project(tmp_path, stages=TOYS)
    with pytest.raises(InputError, match="does not exist"):
        run_project(tmp_path / "nowhere", stages=TOYS)
    run(project)
    with pytest.raises(InputError, match="outside"):
        run_stage(project, "second", output="../other", device="cpu", stages=TOYS)
    with pytest.raises(InputError, match="is the folder that is read from"):
        run_stage(project / "first" / "tilt_series.star", "second", output="first", device="cpu", stages=TOYS)


def test_memory_bounds_how_many_run_side_by_side(project, monkeypatch):
    from eucentric.pipeline import executors

    monkeypatch.setattr(executors, "thread_count", lambda: 8)
    free = executors.psutil.virtual_memory().available
    assert executors.choose_workers(12, [1000], "cpu") == 8
    assert executors.choose_workers(3, [1000], "cpu") == 3
    assert executors.choose_workers(12, [1000, int(free * 0.3)], "cpu") == 2
    assert executors.choose_workers(12, [free * 4], "cpu") == 1
    assert executors.choose_workers(12, [], "cuda:0") == 1


def test_stores_write_where_they_say(tmp_path):
    store = ItemStore(tmp_path, "motion", "TS_01")
    name = store.write_image("TS_01_000", np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), 2.5)
    assert name == "motion/images/TS_01/TS_01_000.mrc"
    array, header = read_mrc(store.resolve(name))
    assert array.dtype == np.float16
    assert math.isclose(header.pixel_size_angstrom, 2.5)
    assert store.resolve(f"3@{name}") == tmp_path / name
    assert store.resolve("/data/a@b.mrc").as_posix() == "/data/a@b.mrc"
    path = store.output("tomograms", "TS_01.mrc")
    assert path == tmp_path / "motion" / "tomograms" / "TS_01.mrc"
    assert store.relative(path) == "motion/tomograms/TS_01.mrc"
    assert store.write_arrays(shifts=np.ones(3)) == "motion/curves/TS_01.npz"
    assert StageStore(tmp_path, "report", "x").write_arrays("all", a=np.ones(2)) == "report/all.npz"
    with pytest.raises(InputError, match="inside the folder"):
        store.output("..", "x")
    assert store.seed == ItemStore(tmp_path, "ctf", "TS_01").seed != ItemStore(tmp_path, "ctf", "TS_02").seed


def test_the_unfinished_copy_stands_for_the_project(tmp_path):
    (tmp_path / "motion").mkdir()
    (tmp_path / "motion" / "old.txt").write_text("old")
    store = ItemStore(tmp_path, "motion", "TS_01", staged=True)
    store.prepare()
    path = store.output("new.txt")
    path.write_text("new")
    assert store.relative(path) == "motion/new.txt"
    assert store.resolve("motion/new.txt").read_text() == "new"
    assert store.resolve("motion/old.txt").read_text() == "old"
    assert not (tmp_path / "motion" / "new.txt").exists()
    store.move_into_place(store.staged_files())
    assert (tmp_path / "motion" / "new.txt").read_text() == "new"


def test_stages_of_different_optics_get_groups_of_their_own(tmp_path):
    from eucentric.io.star import read_star_text
    from eucentric.io.tilt_series import write_tilt_series_set

    root = make_project(tmp_path / "p")
    every = read_tilt_series_set(root / "import" / "tilt_series.star", root)
    other = dataclasses.replace(every[1], optics=None, thickness_angstrom=1500.0)
    write_tilt_series_set(root / "import" / "tilt_series.star", [every[0], other, every[2]], root)
    run(root)
    rows = read_star_text(root / "second" / "tilt_series.star")["global"]
    assert rows["rlnOpticsGroupName"] == ["opticsGroup1", "opticsGroup2", "opticsGroup1"]
    again = read_tilt_series_set(root / "second" / "tilt_series.star", root)
    assert [s.optics is None for s in again] == [False, True, False]
    assert [s.thickness_angstrom for s in again] == [None, 1500.0, None]


class Doubtful(ItemStage):
    name, params, version, after = "first", First.params, 1, "import"

    def run(self, series, params, store, device):
        raise OSError(28, os.strerror(28), str(store.output("x")))


class Roomy(Doubtful):
    def run(self, series, params, store, device):
        raise MemoryError

    def peak_bytes(self, series, params):
        return 1


def test_errors_of_the_machine_have_words(project):
    (project / "eucentric.toml").unlink()  # it has tables of other stages
    summary = run_project(project, stages=[Doubtful], device="cpu", workers=1)
    assert "is full" in summary.failures[0].message
    summary = run_project(project, stages=[Roomy], device="cpu", workers=1)
    assert "The memory of cpu did not suffice" in summary.failures[0].message
    assert not list(project.rglob(".unfinished"))


def test_without_any_item_only_stages_that_can_run(project):
    for movie in (project / "frames").glob("*_0.txt"):
        movie.write_text("truncated")
    summary = run(project)
    assert counts(summary) == {"first": (0, 0, 3), "second": (0, 0, 0), "count": (1, 0, 0)}
    assert set(json.loads((project / "count" / "index.json").read_text())["failed"]) == {"TS_01", "TS_02", "TS_03"}
    assert not (project / "first" / "tilt_series.star").exists()
    assert read_records(project / "second") == {}


def test_toys_are_stages():
    assert [s.name for s in TOYS] == ["first", "second", "count"]
    assert issubclass(Second, ItemStage)
    assert not issubclass(Count, ItemStage)
    with pytest.raises(TypeError):
        ItemStage()
    assert Outcome(series=None).caveats == ()
