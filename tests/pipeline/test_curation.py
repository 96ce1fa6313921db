"""Edits of a project: what they write, what is refused, undo, and the log that keeps all."""

import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from curated_project import PICKS, with_tomograms, write_picks
from toy_stages import TOYS

from eucentric.errors import BackendError, FormatError, InputError
from eucentric.io.relion_particles import read_relion_particles
from eucentric.io.star import read_star_text
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.pipeline.curation_kinds import KINDS, edit_of
from eucentric.pipeline.curation_log import read_log
from eucentric.pipeline.curation_picks import AddPick, DeletePick, MovePick
from eucentric.pipeline.curation_ratings import RateTomogram, read_ratings
from eucentric.pipeline.curation_session import Curation, lists_in_use
from eucentric.pipeline.curation_tilts import ExcludeSeries, ExcludeTilt, IncludeSeries, IncludeTilt
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import COLLECTIVE
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.status import project_status
from eucentric.pipeline.store import StageStore
from eucentric.report.params import ReportParams

LIST = {"tomogram": "TS_01", "picks": "seven"}


@pytest.fixture
def curation(tmp_path):
    root = with_tomograms(tmp_path / "project")
    write_picks(root)
    return Curation(root, "ana", stages=TOYS)


def rows_of(root, name="seven"):
    table = read_star_text(root / "pick" / name / "particles_curated.star")["particles"]
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def places_of(root, name="seven"):
    found = read_relion_particles(root / "pick" / name / "particles_curated.star")
    return {str(n): tuple(p) for n, p in zip(found.texts["rlnTomoParticleName"], found.positions_angstrom, strict=True)}


def test_a_list_with_edits_stands_beside_the_original_with_all_its_columns(curation):
    path = curation.root / "pick" / "seven" / "particles.star"
    original, before = path.read_bytes(), read_star_text(path)
    added = curation.do(AddPick(**LIST, position=(12.5, -7.25, 61.0)))
    curation.do(DeletePick(**LIST, pick="TS_01/1"))
    done = curation.do(MovePick(**LIST, pick="TS_01/2", position=(60.5, -60.25, 5.0)))
    assert path.read_bytes() == original
    assert done.written == (path.with_name("particles_curated.star"),)
    rows = {r["rlnTomoParticleName"]: r for r in rows_of(curation.root)}
    table = before["particles"]
    kept = {label: values[2] for label, values in table.items()}
    assert rows["TS_01/3"] == kept | {"eucCurated": "picked"}
    moved = {label: values[1] for label, values in table.items()}
    where = ("60.5", "-60.25", "5.0")
    for axis, value in zip("XYZ", where, strict=True):
        moved[f"rlnCenteredCoordinate{axis}Angst"] = value
    assert rows["TS_01/2"] == moved | {"eucCurated": "moved"}
    new = rows[added.meant.pick]
    assert (new["rlnAngleRot"], new["rlnAutopickFigureOfMerit"], new["rlnOpticsGroup"]) == ("0.0", None, "1")
    assert list(rows) == ["TS_01/2", "TS_01/3", "TS_02/1", "TS_01/c1"]
    assert read_star_text(path.with_name("particles_curated.star"))["optics"] == before["optics"]
    assert places_of(curation.root)["TS_01/c1"] == (12.5, -7.25, 61.0)


def test_a_moved_pick_keeps_its_refined_offset(tmp_path):
    root = with_tomograms(tmp_path / "project")
    write_picks(root, extra={"rlnOriginXAngst": [3.0] * 4, "rlnOriginYAngst": [0.0] * 4, "rlnOriginZAngst": [-1.0] * 4})
    own = Curation(root, "ana", stages=TOYS)
    own.do(MovePick(**LIST, pick="TS_01/1", position=(-90.0, 20.0, 30.0)))
    assert np.allclose(places_of(root)["TS_01/1"], (-90.0, 20.0, 30.0))  # where the particle is: coordinate less origin
    assert float(rows_of(root)[0]["rlnCenteredCoordinateXAngst"]) == pytest.approx(-87.0)


def test_an_added_pick_of_a_surface_looks_as_its_nearest_neighbour_does(tmp_path):
    root = with_tomograms(tmp_path / "project")
    write_picks(root, extra={"rlnAngleTiltPrior": [90.0] * 4, "rlnAnglePsiPrior": [0.0] * 4})
    own = Curation(root, "ana", stages=TOYS)
    own.do(AddPick(**LIST, position=(60.0, -60.0, 10.0)))
    row = rows_of(root)[-1]
    assert (row["rlnAngleRot"], row["rlnAngleTiltPrior"]) == ("10.0", "90.0")
    assert read_relion_particles(root / "pick" / "seven" / "particles_curated.star").positions_angstrom.shape == (5, 3)


def test_undo_and_redo_are_entries_of_the_log_and_give_back_what_was(curation):
    curation.do(DeletePick(**LIST, pick="TS_01/1"))
    with_one_less = rows_of(curation.root)
    curation.do(MovePick(**LIST, pick="TS_01/2", position=(0.0, 0.0, 9.0)))
    assert curation.undo().meant.kind == "move-pick"
    assert rows_of(curation.root) == with_one_less
    assert curation.redo().meant.position == (0.0, 0.0, 9.0)
    assert places_of(curation.root)["TS_01/2"] == (0.0, 0.0, 9.0)
    curation.undo()
    curation.undo()
    assert not (curation.root / "pick" / "seven" / "particles_curated.star").exists()
    with pytest.raises(InputError, match="nothing to undo"):
        curation.undo()
    assert curation.redo().meant.kind == "delete-pick"
    curation.do(DeletePick(**LIST, pick="TS_01/3"))
    with pytest.raises(InputError, match="nothing to redo"):  # a new edit ends it
        curation.redo()
    log = curation.log()
    assert [e.action for e in log.entries] == ["edit", "edit", "undo", "redo", "undo", "undo", "redo", "edit"]
    assert [e.number for e in log.entries] == list(range(1, 9))
    assert {e.user for e in log.entries} == {"ana"}
    assert all(e.time.endswith("+00:00") for e in log.entries)
    assert log.entries[0].before == {"position": list(PICKS["TS_01"][0])}


def test_undo_of_one_page_leaves_the_edits_of_another(curation):
    curation.do(RateTomogram(tomogram="TS_01", rating=2))
    curation.do(DeletePick(tomogram="TS_02", picks="seven", pick="TS_02/1"))
    assert curation.undo(["rating/TS_01"]).meant.kind == "rate-tomogram"
    assert len(rows_of(curation.root)) == 3
    with pytest.raises(InputError, match="nothing to undo"):
        curation.undo(["rating/TS_01"])
    assert curation.redo(["rating/TS_01"]).meant.rating == 2


def test_tilts_and_series_are_left_out_and_taken_back(curation):
    curation.do(ExcludeTilt(series="TS_01", angle=-6.2, reason="ice"))
    curation.do(ExcludeSeries(series="TS_02", reason="broken lamella"))
    curation.do(ExcludeTilt(series="TS_01", angle=-6, reason="ice, and a crack"))
    assert [(e.series, e.angle, e.acquisition, e.reason) for e in Plan.load(curation.root, TOYS).exclusions] == [
        ("TS_02", None, None, "broken lamella"),
        ("TS_01", -6.0, 0, "ice, and a crack"),
    ]
    curation.undo()
    assert [e.reason for e in Plan.load(curation.root, TOYS).exclusions] == ["broken lamella", "ice"]
    curation.do(IncludeTilt(series="TS_01", angle=-6))
    curation.do(IncludeSeries(series="TS_02"))
    assert Plan.load(curation.root, TOYS).exclusions == ()
    curation.undo()
    assert [e.series for e in Plan.load(curation.root, TOYS).exclusions] == ["TS_02"]


def test_ratings_are_a_table(curation):
    curation.do(RateTomogram(tomogram="TS_02", rating=4, note="thin"))
    curation.do(RateTomogram(tomogram="TS_01", rating=0))
    path = curation.root / "curation" / "tomograms.star"
    assert read_star_text(path)["tomograms"] == {
        "rlnTomoName": ["TS_01", "TS_02"],
        "eucRating": ["0", "4"],
        "eucNote": [None, "thin"],
    }
    assert read_ratings(path) == {"TS_01": 0, "TS_02": 4}
    curation.undo()
    curation.undo()
    assert not path.exists()
    with pytest.raises(InputError, match="no tomogram is rated"):
        read_ratings(path)
    path.write_text("data_tomograms\n\nloop_\n_rlnTomoName\n_eucRating\nTS_01 7\n")
    with pytest.raises(FormatError, match="a whole number from 0 to 5"):
        read_ratings(path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (ExcludeTilt(series="TS_09", angle=3), "has no tilt series called TS_09"),
        (ExcludeTilt(series="TS_01", angle=40), "no tilt within 0.5 degrees of 40. Its tilts are at -6, -3, 0, 3"),
        (IncludeTilt(series="TS_01", angle=3), "was not left out"),
        (ExcludeSeries(series="TS_9"), "no tilt series called `TS_9`"),
        (IncludeSeries(series="TS_01"), "TS_01 was not left out"),
        (RateTomogram(tomogram="TS_7", rating=3), "no tilt series called `TS_7`"),
        (
            AddPick(**LIST, position=(300.0, 0.0, 0.0)),
            r"outside of the tomogram of TS_01, which is x -200 to 190, y -160",
        ),
        (
            AddPick(**LIST, position=(50.0, -60.0, 0.0)),
            r"has a pick at 50.5, -60.2, 0.0 A already \(TS_01/2\), 0.6 A away",
        ),
        (AddPick(tomogram="TS_03", picks="seven", position=(0.0, 0.0, 0.0)), "TS_03 has no tomogram"),
        (AddPick(tomogram="TS_01", picks="../up", position=(0.0, 0.0, 0.0)), "cannot be the name of a list"),
        (DeletePick(**LIST, pick="TS_01/9"), "has no pick TS_01/9 in TS_01; it has 3 there"),
        (DeletePick(tomogram="TS_02", picks="seven", pick="TS_01/1"), "has no pick TS_01/1 in TS_02"),
        (DeletePick(tomogram="TS_01", picks="nine", pick="TS_01/1"), "no list of picks called `nine`"),
        (MovePick(**LIST, pick="TS_01/1", position=(-100.0, 20.0, 30.0)), "lies at -100.0, 20.0, 30.0 A already"),
        (MovePick(**LIST, pick="TS_01/1", position=(50.5, -60.0, 0.0)), "has a pick at"),
        (MovePick(**LIST, pick="TS_01/1", position=(0.0, 0.0, 1e6)), "outside of the tomogram"),
        (ExcludeSeries(series="TS_01", reason="x" * 501), "reason is too long"),
    ],
)
def test_what_cannot_be_done_is_said_and_not_logged(curation, edit, words):
    with pytest.raises(InputError, match=words):
        curation.do(edit)
    assert read_log(curation.root).entries == ()


def test_the_same_twice_is_said(curation):
    for edit in (
        ExcludeTilt(series="TS_01", angle=0),
        ExcludeSeries(series="TS_01"),
        RateTomogram(tomogram="TS_01", rating=3),
    ):
        curation.do(edit)
        with pytest.raises(InputError, match="already"):
            curation.do(edit)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"kind": "exclude-tilts", "series": "TS_01"},
            "no kind of edit called `exclude-tilts`. Did you mean `exclude-tilt`?",
        ),
        ([], "An edit was expected"),
        ({"kind": "add-pick", **LIST, "position": [0.0, float("nan"), 0.0]}, "a finite number"),
        ({"kind": "add-pick", **LIST, "position": [0.0, 0.0]}, "`position` is missing|expected"),
        ({"kind": "rate-tomogram", "tomogram": "TS_01", "rating": 6}, "a number of at most 5"),
        ({"kind": "exclude-tilt", "series": "TS_01"}, "`angle` is missing"),
        ({"kind": "exclude-series", "series": "TS_01", "shell": "rm"}, "no setting called `shell`"),
    ],
)
def test_an_edit_that_does_not_fit_is_explained(values, words):
    with pytest.raises(InputError, match=words):
        edit_of(values)


def test_every_kind_of_edit_survives_the_log(curation):
    edits = [
        ExcludeTilt(series="TS_01", angle=3, reason="ünter <b>Eis</b>"),
        IncludeTilt(series="TS_01", angle=3),
        ExcludeSeries(series="TS_02"),
        IncludeSeries(series="TS_02"),
        AddPick(**LIST, position=(1.0, 2.0, 3.0)),
        MovePick(**LIST, pick="TS_01/c5", position=(11.0, 2.0, 3.0)),
        DeletePick(**LIST, pick="TS_01/c5"),
        RateTomogram(tomogram="TS_01", rating=5),
    ]
    assert {e.kind for e in edits} <= set(KINDS)  # other modules have kinds of their own
    made = [curation.do(e).meant for e in edits]
    assert [e.edit for e in read_log(curation.root).done] == made
    assert all(e.words() for e in made)


def test_a_list_may_be_begun_by_hand_and_an_empty_one_filled(curation):
    curation.do(AddPick(tomogram="TS_01", picks="mine", position=(1.0, 2.0, 3.0)))
    assert lists_in_use(curation.root)["mine"].name == "particles_curated.star"
    assert places_of(curation.root, "mine") == {"TS_01/c1": (1.0, 2.0, 3.0)}
    empty = curation.root / "pick" / "none" / "particles.star"
    empty.parent.mkdir()
    head = "\n".join(f"_{n}" for n in ("rlnTomoName", *(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")))
    empty.write_text(f"data_particles\n\nloop_\n{head}\n")
    curation.do(AddPick(tomogram="TS_01", picks="none", position=(4.0, 2.0, 3.0)))
    assert places_of(curation.root, "none") == {"TS_01/c2": (4.0, 2.0, 3.0)}
    empty.write_text("\n")
    with pytest.raises(FormatError, match="is empty"):
        curation.do(AddPick(tomogram="TS_01", picks="none", position=(60.0, 2.0, 3.0)))


def test_all_picks_may_be_deleted(curation):
    for name in ("TS_01/1", "TS_01/2", "TS_01/3"):
        curation.do(DeletePick(**LIST, pick=name))
    assert [r["rlnTomoName"] for r in rows_of(curation.root)] == ["TS_02"]
    curation.do(DeletePick(tomogram="TS_02", picks="seven", pick="TS_02/1"))
    text = (curation.root / "pick" / "seven" / "particles_curated.star").read_text()
    assert "_rlnTomoName" in text
    assert "TS_0" not in text
    assert len(curation.undo().written) == 1
    assert len(rows_of(curation.root)) == 1


def test_a_list_in_pixels_is_not_edited(curation):
    path = curation.root / "pick" / "seven" / "particles.star"
    path.write_text("data_particles\n\nloop_\n_rlnTomoName\n_rlnCoordinateX\nTS_01 3\n")
    with pytest.raises(FormatError, match="Convert it first"):
        curation.do(DeletePick(**LIST, pick="TS_01/1"))


def test_edits_follow_picks_of_a_list_that_was_made_anew(curation):
    curation.do(DeletePick(**LIST, pick="TS_01/1"))
    curation.do(MovePick(**LIST, pick="TS_01/3", position=(140.0, 100.0, -80.0)))
    new = {"TS_01": [(5.0, 5.0, 5.0), PICKS["TS_01"][0], PICKS["TS_01"][1]], "TS_02": [(0.0, 0.0, 0.0)]}
    path = write_picks(curation.root, picks=new)
    os.utime(path, ns=(2**61, 2**61))  # later than the list with edits, whatever the clock of the disk
    lists_in_use(curation.root)
    # the pick that was deleted has another number now; the one that was moved is gone
    assert [r["rlnTomoParticleName"] for r in rows_of(curation.root)] == ["TS_01/1", "TS_01/3", "TS_02/1"]


def test_a_torn_last_line_is_told_and_passed_over(curation):
    curation.do(RateTomogram(tomogram="TS_01", rating=2))
    path = curation.root / "curation" / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 2, "time": "2026-')
    log = curation.log()
    assert (len(log.entries), log.damaged, log.ends_torn) == (1, (2,), True)
    curation.do(RateTomogram(tomogram="TS_01", rating=3))
    log = curation.log()
    assert [e.number for e in log.entries] == [1, 3]
    assert log.damaged == (2,)
    assert not log.ends_torn
    assert path.read_bytes().startswith(whole)
    assert read_ratings(curation.root / "curation" / "tomograms.star") == {"TS_01": 3}


def test_an_entry_of_a_later_version_is_not_passed_over(curation):
    curation.do(RateTomogram(tomogram="TS_01", rating=2))
    path = curation.root / "curation" / "log.jsonl"
    line = json.loads(path.read_text())
    for change in ({"action": "vote"}, {"edit": {"kind": "paint-label"}}):
        path.write_text(json.dumps(line | change) + "\n")
        with pytest.raises(FormatError, match=r"Line 1 of .* does not know"):
            curation.log()


def test_files_that_a_crash_left_behind_the_log_are_made_good(curation, monkeypatch):
    for edit in (ExcludeTilt(series="TS_01", angle=3, reason="ice"), DeletePick(**LIST, pick="TS_01/1")):
        with monkeypatch.context() as broken:
            broken.setattr(type(edit), "settle", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                curation.do(edit)
    assert not (curation.root / "pick" / "seven" / "particles_curated.star").exists()
    curation.settle()
    assert [e.reason for e in Plan.load(curation.root, TOYS).exclusions] == ["ice"]
    assert len(rows_of(curation.root)) == 3
    Plan.load(curation.root, TOYS).with_exclusions(())  # by hand, later: it stays
    curation.settle()
    assert Plan.load(curation.root, TOYS).exclusions == ()


def test_a_full_disk_leaves_no_half_line(curation, monkeypatch):
    curation.do(RateTomogram(tomogram="TS_01", rating=2))
    path = curation.root / "curation" / "log.jsonl"
    before, write = path.read_bytes(), os.write
    with monkeypatch.context() as full:
        full.setattr(
            os, "write", lambda d, data: write(d, data[:5]) if data.startswith(b'{"number"') else write(d, data)
        )
        with pytest.raises(BackendError, match="is full"):
            curation.do(RateTomogram(tomogram="TS_01", rating=3))
    assert path.read_bytes() == before


def test_no_plan_is_changed_while_a_run_goes_on_but_picks_are(curation):
    with ProjectLock(curation.root, "run"):
        for edit in (ExcludeTilt(series="TS_01", angle=3), ExcludeSeries(series="TS_01")):
            with pytest.raises(InputError, match="is being written to by `eucentric run`"):
                curation.do(edit)
        assert read_log(curation.root).entries == ()
        curation.do(DeletePick(**LIST, pick="TS_01/1"))
        curation.do(RateTomogram(tomogram="TS_01", rating=1))
    assert len(rows_of(curation.root)) == 3


def _rate_often(root, user, tomogram):
    own = Curation(root, user, stages=TOYS)
    for i in range(6):
        own.do(RateTomogram(tomogram=tomogram, rating=i % 6, note=f"{user} {i}"))
        own.do(ExcludeTilt(series=tomogram, angle=0, reason=f"{user} {i}"))


def test_two_writers_lose_no_edit(curation):
    start = multiprocessing.get_context("fork")
    writers = [
        start.Process(target=_rate_often, args=(curation.root, user, tomogram))
        for user, tomogram in (("ana", "TS_01"), ("ben", "TS_02"))
    ]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0, 0]
    log = read_log(curation.root)
    assert [e.number for e in log.entries] == list(range(1, 25))
    for user in ("ana", "ben"):
        notes = [e.edit.note for e in log.entries if e.user == user and isinstance(e.edit, RateTomogram)]
        assert notes == [f"{user} {i}" for i in range(6)]
    assert sorted(e.reason for e in Plan.load(curation.root, TOYS).exclusions) == ["ana 5", "ben 5"]


def run(root):
    return run_project(root, stages=TOYS, workers=1, device="cpu")


def listed(root, stage):
    return tilt_series_names(root / stage / "tilt_series.star")


def test_a_series_that_is_left_out_is_passed_over_and_comes_back_without_work(project):
    run(project)
    own = Curation(project, "ana", stages=TOYS)
    own.do(ExcludeSeries(series="TS_02", reason="broken lamella"))
    summary = run(project)
    assert summary.left_out == {"TS_02": "broken lamella"}
    assert "TS_02 is left out by hand: broken lamella" in summary.lines()
    assert summary.stages["first"].processed == summary.stages["second"].processed == 0
    assert listed(project, "first") == listed(project, "second") == ["TS_01", "TS_03"]
    assert set(json.loads((project / "count" / "index.json").read_text())["series"]) == {"TS_01", "TS_03"}
    status = {s.name: s for s in project_status(project, TOYS).series}
    assert set(status["TS_02"].states.values()) == {"left out"}
    assert status["TS_02"].messages == ("left out by hand: broken lamella",)
    assert set(status["TS_01"].states.values()) == {"done"}
    own.do(IncludeSeries(series="TS_02"))
    summary = run(project)
    assert summary.left_out == {}
    assert summary.stages["second"].unchanged == 3
    assert listed(project, "second") == ["TS_01", "TS_02", "TS_03"]
    assert len(json.loads((project / "count" / "index.json").read_text())["series"]) == 3


def test_one_stage_alone_passes_over_what_is_left_out_too(project):
    run(project)
    Curation(project, "ana", stages=TOYS).do(ExcludeSeries(series="TS_01"))
    summary = run_stage(project, "second", stages=TOYS, workers=1, device="cpu", overwrite=True)
    assert summary.stages["second"].processed == 2
    assert listed(project, "second") == ["TS_02", "TS_03"]


def test_a_tilt_that_comes_back_is_in_what_is_made_from_it(project):
    own = Curation(project, "ana", stages=TOYS)
    own.do(ExcludeTilt(series="TS_01", angle=0, reason="ice"))
    run(project)
    assert len(read_tilt_series(project / "second" / "tilt_series.star", "TS_01", project).tilts) == 3
    own.undo()
    assert run(project).stages["second"].processed == 1
    assert len(read_tilt_series(project / "second" / "tilt_series.star", "TS_01", project).tilts) == 4


def test_the_report_says_which_series_are_left_out_and_why(project):
    run(project)
    Curation(project, "ana", stages=TOYS).do(ExcludeSeries(series="TS_02", reason="ice <b>thick</b>"))
    items = [read_tilt_series(project / "import" / "tilt_series.star", n, project) for n in ("TS_01", "TS_03")]
    store = StageStore(project, "report", COLLECTIVE)
    WriteReport().run(items, ReportParams(), store, None, None)
    page, own = ((project / "report" / f).read_text() for f in ("index.html", "TS_02.html"))
    row = page[page.index("TS_02.html") :]
    assert "<td>left out</td>" in row[: row.index("</tr>")]
    assert "ice &lt;b&gt;thick&lt;/b&gt;" in row[: row.index("</tr>")]
    assert "Left out by hand: ice &lt;b&gt;thick&lt;/b&gt;" in own
    assert WriteReport.also_reads(project) == (("TS_02: ice <b>thick</b>", 0, 0),)


_WRITER = """
import sys
from pathlib import Path
from toy_stages import TOYS
from eucentric.pipeline.curation_ratings import RateTomogram
from eucentric.pipeline.curation_session import Curation
own = Curation(Path(sys.argv[1]), "ana", stages=TOYS)
for i in range(100000):
    own.do(RateTomogram(tomogram="TS_01", rating=i % 6, note=f"{i}"))
    print(i, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_loses_nothing_that_it_said(curation, environment):
    for least in (3, 11, 24):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(curation.root)], env=environment, stdout=subprocess.PIPE, text=True
        )
        with writer.stdout:
            said = [int(writer.stdout.readline()) for _ in range(least)]
            writer.kill()
            said += [int(line) for line in writer.stdout.read().splitlines()]
        writer.wait()
        log = curation.log()
        notes = [int(e.edit.note) for e in log.entries if e.edit.note.isdecimal()]
        assert notes[-1] in (said[-1], said[-1] + 1)  # the last may be written and not yet said
        curation.do(RateTomogram(tomogram="TS_01", rating=5, note=f"after {least}"))
        assert read_ratings(curation.root / "curation" / "tomograms.star") == {"TS_01": 5}
        numbers = [e.number for e in curation.log().entries]
        assert numbers == sorted(set(numbers))
