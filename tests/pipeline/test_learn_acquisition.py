"""`eucentric acquisition learn`: files, the goniometer model, and series that cannot be judged."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.errors import FormatError, InputError
from eucentric.io import read_tilt_series_set, write_tilt_series_set
from eucentric.io.mdoc import Mdoc, MdocSection
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.import_drafts import Draft, DraftTilt, ImportOptions, finish_series
from eucentric.pipeline.import_mdocs import MdocSeries, MovieIndex, draft_from_mdoc
from eucentric.pipeline.judge_acquisition import recording_fingerprint
from eucentric.pipeline.learn_acquisition import learn_from_projects
from eucentric.pipeline.records import Record, now, row_path, write_record

TILTS = [0.0] + [s * a for a in range(4, 61, 4) for s in (1.0, -1.0)]


def a_series(name, *, shift=(0.1, 0.2), height=8000.0, seed=0):
    """Of a stage that the microscope did not follow: at tilt t the specimen is seen height sin(t) across an axis along y."""
    rng = np.random.default_rng(seed)
    tilts = [
        Tilt(
            nominal_tilt_deg=a, acquisition=i, dose=3.0, pre_exposure=3.0 * i, movie=f"{name}_{i}.tif", time_s=50.0 * i,
            image_shift_um=shift, exposure_s=1.0,
            pose=TiltPose(
                y_tilt_deg=a, z_rot_deg=0.0, x_shift_angstrom=height * np.sin(np.deg2rad(a)) + 30 * rng.standard_normal(),
                y_shift_angstrom=30 * rng.standard_normal(), sigma_angstrom=5.0,
            ),
        )
        for i, a in enumerate(TILTS)
    ]  # fmt: skip
    return TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=2.0, image_shape=(4000, 4000))


def a_project(root, series, failed=()):
    for one in series:
        write_tilt_series_set(row_path(root / "align", one.name), [one], root)
    for name, outcome in [(one.name, "done") for one in series] + [(n, "failed") for n in failed]:
        record = Record(
            stage="align", series=name, outcome=outcome, fingerprint="a", upstream="b", stage_version=1, parameters={}, project={},
            seed=0, device="cpu", started=now(), ended=now(), seconds=1.0, message=None if outcome == "done" else "no features",
        )  # fmt: skip
        write_record(root / "align", record)
    return root


def test_figures_and_advice_are_written(tmp_path):
    root = a_project(tmp_path / "p", [a_series("TS_01"), a_series("TS_02", seed=1)])
    (project,), news = learn_from_projects([root])
    assert news is None
    rows = list(csv.DictReader((root / "acquisition/series.csv").read_text().splitlines()))
    assert [r["series"] for r in rows] == ["TS_01", "TS_02"]
    for row in rows:
        assert row["tracking"] == "none"
        assert (
            abs(float(row["eucentric_height_angstrom"]) - 8000)
            < 4 * float(row["eucentric_height_angstrom_sigma"])
            < 400
        )
        assert row["defocus_error_angstrom"] == ""
    record = json.loads((root / "acquisition/TS_01.json").read_text())
    assert record["track"]["tilts_deg"] == TILTS
    assert record["track"]["times_s"][2] == 100.0
    assert any(a["topic"] == "eucentric height" for a in record["advice"])
    assert "Eucentric height (2 of 2 series; median 0.8 um" in (root / "acquisition/advice.txt").read_text()
    assert project.session


def test_one_bad_series_never_stops_the_others(tmp_path, capsys):
    short = a_series("TS_02")
    root = a_project(tmp_path / "p", [a_series("TS_01"), short.with_tilts(short.tilts[:3])], failed=["TS_03"])
    damaged = a_series("TS_04")
    a_project(root, [damaged])
    row_path(root / "align", "TS_04").write_text("nothing")
    assert run(["acquisition", "learn", str(root)]) == 1
    told = capsys.readouterr().out
    assert "TS_02: not judged. TS_02 has 3 tilts" in told
    assert "TS_03: not judged. Its alignment failed." in told
    assert "TS_04: not judged." in told
    assert "TS_01:\n" in told
    assert json.loads((root / "acquisition/TS_03.json").read_text()) == {
        "name": "TS_03",
        "problem": "Its alignment failed.",
    }


def test_a_series_is_learned_once(tmp_path):
    root = a_project(tmp_path / "p", [a_series("TS_01"), a_series("TS_02", seed=1)])
    model = tmp_path / "stage.json"
    _, first = learn_from_projects([root], model)
    assert (first.added, first.model.series_count) == (("TS_01", "TS_02"), 2)
    again = a_series("TS_01")  # aligned anew: other shifts, the same recording
    moved = [replace(t, pose=replace(t.pose, x_shift_angstrom=t.pose.x_shift_angstrom + 40.0)) for t in again.tilts]
    assert recording_fingerprint(again.with_tilts(moved)) == recording_fingerprint(again)
    assert recording_fingerprint(again.without({3: "dark"})) == recording_fingerprint(again)
    a_project(root, [again.with_tilts(moved), a_series("TS_03", seed=2), a_series("TS_04", shift=None)])
    _, second = learn_from_projects([root], model)
    assert second.added == ("TS_03",)
    assert second.known == ("TS_01", "TS_02")
    assert "not known" in second.passed_over["TS_04"]
    assert second.model.series_count == 3
    assert json.loads(model.read_text())["learned"].keys() == {
        recording_fingerprint(a_series(n, seed=s)) for n, s in (("TS_01", 0), ("TS_02", 1), ("TS_03", 2))
    }
    assert "1 series added" in second.sentence


def table_of(root):
    return {r["series"]: r for r in csv.DictReader((root / "acquisition/series.csv").read_text().splitlines())}


def test_one_series_learned_anew_keeps_the_others_in_the_tables(tmp_path):
    root = a_project(tmp_path / "p", [a_series("TS_01"), a_series("TS_02", seed=1), a_series("TS_03", seed=2)])
    learn_from_projects([root], only=["TS_01"])
    assert table_of(root).keys() == {"TS_01"}
    first = table_of(root)["TS_01"]
    (project,), _ = learn_from_projects([root], only=["TS_02"])
    assert [one.name for one in project.series] == ["TS_02"]
    assert table_of(root).keys() == {"TS_01", "TS_02"}
    assert table_of(root)["TS_01"] == first
    advice = (root / "acquisition/advice.txt").read_text()
    assert "(2 of 2 series" in advice
    assert "\nTS_01:\n" in advice
    assert "\nTS_02:\n" in advice
    assert "TS_03" not in advice


def test_predictions_are_judged_by_the_model_from_before_the_series(tmp_path):
    from eucentric.acquisition.measure_track import measure_track, record_series
    from eucentric.acquisition.replay_track import replay

    root = a_project(tmp_path / "p", [a_series("TS_01")])
    model = tmp_path / "stage.json"
    _, news = learn_from_projects([root], model)
    alone = table_of(root)["TS_01"]
    assert alone["prediction_series"] == "0"
    assert alone["prediction_error_height_angstrom"] == ""  # no defocus was fitted
    second = a_series("TS_02", seed=1)
    a_project(root, [second, a_series("TS_04", shift=None)])
    learn_from_projects([root], model)
    helped = table_of(root)["TS_02"]
    again = replay(measure_track(record_series(second)).track, goniometer=news.model)
    error = (again.measured_angstrom - again.predicted_angstrom)[4:, :2]
    for name, expected in zip(("across", "along"), np.sqrt((error**2).mean(axis=0)), strict=True):
        assert float(helped[f"prediction_error_{name}_angstrom"]) == pytest.approx(expected, rel=1e-4)
        assert 15 < expected < 200  # noise of 30 A, and what prediction adds
    assert helped["prediction_series"] == "1"
    assert table_of(root)["TS_01"] == alone  # known to the model by now
    assert table_of(root)["TS_04"]["prediction_error_across_angstrom"] == ""  # places are not those of the stage
    learn_from_projects([root], model)
    assert table_of(root)["TS_02"] == helped
    (root / "acquisition/TS_02.json").write_text("{")
    learn_from_projects([root], model)  # what was found then is lost: without a model, which knows the series
    assert table_of(root)["TS_02"]["prediction_series"] == "0"


def test_series_that_disagree_are_not_added(tmp_path):
    good = [a_series(f"TS_{i}", seed=i) for i in range(5)]
    odd = a_series("TS_9", seed=9)  # wrong places: jumps of a micrometre at every tilt
    jumps = 10000.0 * np.random.default_rng(1).standard_normal(len(odd.tilts))
    wild = [
        replace(t, pose=replace(t.pose, x_shift_angstrom=t.pose.x_shift_angstrom + d))
        for t, d in zip(odd.tilts, jumps, strict=True)
    ]
    root = a_project(tmp_path / "p", [*good, odd.with_tilts(wild)])
    model = tmp_path / "stage.json"
    _, news = learn_from_projects([root], model)
    assert news.added == tuple(one.name for one in good)
    assert dict(news.passed_over) == {"TS_9": "does not agree with the others"}
    assert news.model.left_out == ("TS_9",)
    values = json.loads(model.read_text())
    assert values["learned"].keys() == {recording_fingerprint(one) for one in good}
    assert "5 series added" in news.sentence
    assert "1 passed over (TS_9: does not agree with the others). It knows 5 series." in news.sentence
    a_project(root, [odd])  # aligned well at last
    _, news = learn_from_projects([root], model)
    assert (news.added, news.model.left_out) == (("TS_9",), ())


def test_series_of_one_name_in_two_projects_are_kept_apart(tmp_path, capsys):
    short = [a_series("TS_01", seed=s) for s in (3, 4)]
    short = [one.with_tilts(one.tilts[::6]) for one in short]  # too few to learn from
    monday = a_project(tmp_path / "monday", [short[0], a_series("TS_02"), a_series("TS_03", shift=None)])
    tuesday = a_project(
        tmp_path / "tuesday", [short[1], a_series("TS_02", shift=(0.3, 0.1), seed=1), a_series("TS_04", seed=2)]
    )
    model = tmp_path / "stage.json"
    assert run(["acquisition", "learn", str(monday), str(tuesday), "--goniometer", str(model), "--json"]) == 0
    shown = capsys.readouterr().out
    news = json.loads(shown.splitlines()[-1])["goniometer"]
    assert news["passed_over"] == {
        "TS_01 of monday": "too few tilts",
        "TS_03": "what the microscope did to follow the specimen is not known",
        "TS_01 of tuesday": "too few tilts",
    }
    assert news["added"] == ["TS_02 of monday", "TS_02 of tuesday", "TS_04"]
    assert "3 passed over (TS_01 of monday, TS_01 of tuesday: too few tilts; TS_03: " in shown
    assert sorted(json.loads(model.read_text())["learned"].values()) == news["added"]
    _, again = learn_from_projects([monday, tuesday], model)
    assert again.known == tuple(news["added"])
    moved = tmp_path / "other" / "monday"  # folders of one name
    a_project(moved, [short[1]])
    _, third = learn_from_projects([monday, moved], model)
    assert [name for name in third.passed_over if name.startswith("TS_01")] == [
        f"TS_01 of {monday}", f"TS_01 of {moved}",
    ]  # fmt: skip
    _, twice = learn_from_projects([monday, monday], model)  # one project, not two
    assert list(twice.passed_over) == ["TS_01", "TS_03"]


def test_a_stage_that_was_changed_is_told(tmp_path):
    """Series that all disagree with what was learned before leave the model as it is, and say what to do."""
    model = tmp_path / "stage.json"
    learn_from_projects([a_project(tmp_path / "p", [a_series(f"TS_{i}", seed=i) for i in range(5)])], model)
    changed = a_series("TS_9", seed=9)
    wave = 8000.0 * np.sin(np.deg2rad(3.0 * np.array([t.nominal_tilt_deg for t in changed.tilts])))
    bent = [
        replace(t, pose=replace(t.pose, y_shift_angstrom=t.pose.y_shift_angstrom + d))
        for t, d in zip(changed.tilts, wave, strict=True)
    ]
    _, news = learn_from_projects([a_project(tmp_path / "q", [changed.with_tilts(bent)])], model)
    assert (news.added, news.model.series_count) == ((), 5)
    assert "begin a new file" in news.sentence
    assert json.loads(model.read_text())["series_count"] == 5


def test_a_series_left_out_beside_a_good_one_of_its_name_is_named(tmp_path):
    good = a_project(tmp_path / "good", [a_series(f"TS_{i}", seed=i) for i in range(5)])
    odd = a_series("TS_1", shift=(0.3, 0.1), seed=9)
    jumps = 10000.0 * np.random.default_rng(1).standard_normal(len(odd.tilts))
    wild = [
        replace(t, pose=replace(t.pose, x_shift_angstrom=t.pose.x_shift_angstrom + d))
        for t, d in zip(odd.tilts, jumps, strict=True)
    ]
    bad = a_project(tmp_path / "bad", [odd.with_tilts(wild)])
    _, news = learn_from_projects([good, bad], tmp_path / "stage.json")
    assert dict(news.passed_over) == {"TS_1 of bad": "does not agree with the others"}
    assert news.model.left_out == ("TS_1 of bad",)
    assert "TS_1 of good" in news.added


def test_a_series_beyond_the_stage_does_not_stop_the_model(tmp_path):
    steep = a_series("TS_02", seed=1)
    steep = steep.with_tilts([replace(t, nominal_tilt_deg=t.nominal_tilt_deg * 1.6) for t in steep.tilts])
    root = a_project(tmp_path / "p", [a_series("TS_01"), steep])
    _, news = learn_from_projects([root], tmp_path / "stage.json")
    assert (news.added, dict(news.passed_over)) == (("TS_01",), {"TS_02": "an angle beyond 90 degrees"})
    assert "TS_02: an angle beyond 90 degrees" in news.sentence


def test_refusals_in_words(tmp_path, capsys):
    with pytest.raises(InputError, match="There is no project"):
        learn_from_projects([tmp_path / "none"])
    with pytest.raises(InputError, match="No project was given"):
        learn_from_projects([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has been aligned\. Run"):
        learn_from_projects([tmp_path / "empty"])
    root = a_project(tmp_path / "p", [a_series("TS_01")])
    with pytest.raises(InputError, match="TS_9"):
        learn_from_projects([root], only=["TS_9"])
    other = tmp_path / "other.json"
    other.write_text('{"kind": "shopping"}')
    with pytest.raises(FormatError, match="shopping"):
        learn_from_projects([root], other)
    assert run(["acquisition", "learn", str(tmp_path / "none")]) == 2
    assert "There is no project" in capsys.readouterr().err


def test_json_of_the_command(tmp_path, capsys):
    root = a_project(tmp_path / "p", [a_series("TS_01")])
    assert run(["acquisition", "learn", str(root), "--goniometer", str(tmp_path / "g.json"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert values["projects"][0]["series"][0]["figures"]["eucentric_height_angstrom"]["value"] == pytest.approx(
        8000, rel=0.02
    )
    assert values["goniometer"]["added"] == ["TS_01"]


def test_image_shift_times_and_focus_go_from_the_mdoc_to_every_table(tmp_path):
    moments = ["21-Nov-26  10:00:30", "21-Nov-26  10:00:00", "21-Nov-26  10:02:00"]
    from eucentric.io.mdoc import parse_date_time

    sections = tuple(
        MdocSection(
            label=str(i), tilt_angle_deg=a, image_shift_um=(0.1 * i, -0.2), defocus_um=-4.2 + 0.1 * i, target_defocus_um=-4.0,
            exposure_time_s=0.8, date_time=parse_date_time(moments[i]), sub_frame_path=f"C:\\{i}.tif",
        )
        for i, a in enumerate([3.0, 0.0, -3.0])
    )  # fmt: skip
    source = MdocSeries(name="a", mdoc=Mdoc(sections=sections, pixel_spacing_angstrom=2.0), paths=[tmp_path / "a.mdoc"])
    draft = draft_from_mdoc(source, MovieIndex([tmp_path / f"{i}.tif" for i in range(3)]), None, None)
    for tilt in draft.tilts:
        tilt.shape = (10, 10)
    series = finish_series(draft, ImportOptions())
    assert [t.time_s for t in series.tilts] == [120.0, 0.0, 30.0]
    assert [t.acquisition for t in series.tilts] == [2, 0, 1]
    write_tilt_series_set(tmp_path / "import/tilt_series.star", [series], tmp_path)
    (back,) = read_tilt_series_set(tmp_path / "import/tilt_series.star", tmp_path)
    assert [t.image_shift_um for t in back.tilts] == [(0.2, -0.2), (0.1, -0.2), (0.0, -0.2)]
    assert [t.exposure_s for t in back.tilts] == [0.8] * 3
    np.testing.assert_allclose([t.shown_defocus_angstrom for t in back.tilts], [40000.0, 41000.0, 42000.0])
    np.testing.assert_allclose([t.nominal_defocus_angstrom for t in back.tilts], 40000.0)
    assert [t.time_s for t in back.tilts] == [120.0, 0.0, 30.0]


def test_what_files_do_not_say_is_none(tmp_path):
    draft = Draft(name="a", pixel_size_angstrom=2.0, tilts=[
        DraftTilt(angle_deg=a, label=str(a), position=i, shape=(10, 10)) for i, a in enumerate([0.0, 3.0])
    ])  # fmt: skip
    series = finish_series(draft, ImportOptions())
    write_tilt_series_set(tmp_path / "import/tilt_series.star", [series], tmp_path)
    text = (tmp_path / "import/tilt_series/a.star").read_text()
    assert "eucImageShift" not in text
    assert "eucTimeSeconds" not in text
    (back,) = read_tilt_series_set(tmp_path / "import/tilt_series.star", tmp_path)
    for tilt in (*series.tilts, *back.tilts):
        assert (tilt.image_shift_um, tilt.time_s, tilt.exposure_s, tilt.shown_defocus_angstrom) == (None,) * 4
