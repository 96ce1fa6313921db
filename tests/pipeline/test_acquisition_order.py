"""Orders of series from files: the command, and what import does where dates and doses do not tell."""

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.errors import InputError
from eucentric.io import Mdoc, MdocSection, write_angles, write_mdoc, write_mrc, write_tiff_movie
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.acquisition_orders import recover_orders
from eucentric.pipeline.image_facts import name_facts
from eucentric.pipeline.importing import plan_import
from eucentric.pipeline.scheme_words import SchemeWords

SCHEME = TiltScheme(min_deg=-18, max_deg=18, group_size=2)
START = dt.datetime(2026, 1, 1, 10)


def sections(scheme=SCHEME, *, name="TS_01", minute=0, first=0, dose=3.0, stage="10.0 -20.0", label="4"):
    return [
        MdocSection(
            label=str(i),
            tilt_angle_deg=float(angle) + 0.01,
            exposure_dose=dose,
            prior_record_dose=dose * i,
            pixel_spacing_angstrom=2.0,
            rotation_angle_deg=175.0,
            sub_frame_path=f"D:\\frames\\{name}_{first + i:03d}_{angle:.1f}.tif",
            frame_count=2,
            date_time=START + dt.timedelta(minutes=minute + i),
            extra={"StagePosition": stage, "NavigatorLabel": label},
        )
        for i, angle in enumerate(scheme.angles_in_order())
    ]


def untold(some):
    """As programs leave an mdoc that sort and strip it."""
    plain = [replace(s, date_time=None, prior_record_dose=None, sub_frame_path=None, extra={}) for s in some]
    return [replace(s, label=str(i)) for i, s in enumerate(sorted(plain, key=lambda s: s.tilt_angle_deg))]


def write(path, some, title="Tilt axis angle = 85.0, binning = 1"):
    write_mdoc(path, Mdoc(sections=tuple(some), titles=(title,), voltage_kv=300.0))
    return path


def write_stack(folder, some, title="Tilt axis angle = 85.0, binning = 1"):
    stack = np.random.default_rng(1).normal(size=(len(some), 12, 16)).astype(np.float32)
    write_mrc(folder / "TS_01.mrc", stack, 2.0, is_volume=False)
    write(folder / "TS_01.mrc.mdoc", some, title)
    return folder / "TS_01.mrc"


def write_movies(folder, some):
    for section in some:
        write_tiff_movie(folder / section.movie_name, np.ones((2, 12, 16), dtype=np.uint8))


def texts(plan, severity=None):
    return [f.text for f in plan.findings if severity in (None, f.severity)]


def taken(series):
    return [round(t.nominal_tilt_deg) for t in sorted(series.tilts, key=lambda t: t.acquisition)]


def test_the_command_tells_scheme_dose_and_evidence(tmp_path, capsys):
    write(tmp_path / "TS_01.mdoc", sorted(sections(), key=lambda s: s.tilt_angle_deg))
    assert run(["acquisition", "order", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr().out
    assert "dose-symmetric from 0 degrees, up first, -18 to 18 in steps of 3 degrees, groups of 2" in shown
    assert "told by dates and doses before" in shown
    (one,) = json.loads(shown.splitlines()[-1])["series"]
    assert one["status"] == "told"
    assert [round(one["angles_deg"][i]) for i in one["order"]] == SCHEME.angles_in_order().tolist()
    assert one["dose"]["before"][one["order"][-1]] == 36.0


def test_the_command_lists_what_fits_where_nothing_tells(tmp_path, capsys):
    write(tmp_path / "TS_01.mdoc", untold(sections()))
    assert run(["acquisition", "order", str(tmp_path / "TS_01.mdoc")]) == 0
    shown = capsys.readouterr().out
    assert "unknown: the file does not tell" in shown
    assert "more schemes that fit the angles" in shown
    assert "--scheme" in shown


def test_each_wording_of_an_alternative_stands_once(tmp_path, capsys):
    """Three images may be the beginning of groups of any size, up or down: what is not seen makes no second line."""
    write(tmp_path / "TS_01.mdoc", sections()[:3])
    assert run(["acquisition", "order", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (one,) = json.loads(shown[-1])["series"]
    words = [other["words"] for other in one["alternatives"]]
    assert words[:2] == [
        "continuous, rising, 0 to 6 in steps of 3 degrees",
        "dose-symmetric from 0 degrees, up first, 0 to 6 in steps of 3 degrees, one image a side",
    ]
    assert len(set(words)) == len(words)
    assert len([line for line in shown if line.startswith("  or ")]) == len(words)
    # two of them were half of it each: nothing of their probability is lost
    assert 0.95 < sum(other["probability"] for other in one["alternatives"]) <= 1.0


def test_the_command_without_files_or_with_a_damaged_one(tmp_path, capsys):
    assert run(["acquisition", "order"]) == 2
    assert run(["acquisition", "order", str(tmp_path / "none.mdoc")]) == 2
    (tmp_path / "bad.mdoc").write_text("[ZValue = 0]\nTiltAngle = much\n")
    capsys.readouterr()
    assert run(["acquisition", "order", str(tmp_path / "bad.mdoc")]) == 1
    assert "Line 2" in capsys.readouterr().out
    (tmp_path / "bad.mdoc").rename(tmp_path / "montage.mdoc")  # whatever it is called
    assert run(["acquisition", "order", str(tmp_path / "montage.mdoc")]) == 1
    (tmp_path / "map.mdoc").write_text("Montage = 1\n[ZValue = 0]\nTiltAngle = 0\n[ZValue = 1]\nTiltAngle = 0\n")
    assert run(["acquisition", "order", str(tmp_path / "map.mdoc")]) == 0


def test_a_log_with_a_restarted_series(tmp_path):
    parts = [*sections()[:6], *sections(minute=40, first=6)]
    some = sorted((replace(s, label=str(i)) for i, s in enumerate(parts)), key=lambda s: s.tilt_angle_deg)
    write(tmp_path / "TS_01.mdoc", some)
    (found,) = recover_orders([tmp_path])
    got = found.recovered
    assert [round(found.sections[i].tilt_angle_deg) for i in got.order][:8] == [0, 3, 6, -3, -6, 9, 0, 3]
    assert len(got.parts) == 2
    assert len(got.replaced) == 6
    write_movies(tmp_path, parts)
    plan = plan_import([tmp_path / "*.tif"], [tmp_path])
    (one,) = plan.series
    assert len(one.tilts) == 13
    assert len(one.excluded) == 6
    assert taken(one) == SCHEME.angles_in_order().tolist()
    # six images of 3 e/A2 were taken before the second beginning, where the count of the microscope began anew
    doses = [t.pre_exposure for t in sorted(one.tilts, key=lambda t: t.acquisition)]
    np.testing.assert_allclose(doses, 18.0 + 3.0 * np.arange(13))
    assert any("begun again after 6 images" in t for t in texts(plan, "warning"))


def test_two_series_mixed_in_one_mdoc(tmp_path):
    pair = sections(name="TS_01"), sections(name="TS_02", stage="14.0 -20.0", label="7", minute=60)
    some = [s for two in zip(*pair, strict=True) for s in two]
    write(tmp_path / "both.mdoc", [replace(s, label=str(i)) for i, s in enumerate(some)])
    found = recover_orders([tmp_path])
    assert [f.name for f in found] == ["both_TS_01", "both_TS_02"]
    for one in found:
        assert one.recovered.status == "told"
        assert one.recovered.scheme.group_size == 2
        assert any(f.kind == "interleaved" and "navigator labels" in f.text for f in one.recovered.faults)
    write_movies(tmp_path, some)
    plan = plan_import([tmp_path / "*.tif"], [tmp_path])
    assert [s.name for s in plan.series] == ["both_TS_01", "both_TS_02"]
    assert [len(s.tilts) for s in plan.series] == [13, 13]
    assert any("2 series mixed" in t for t in texts(plan, "warning"))


def mixed(tmp_path, **other):
    """Two series by turns in one mdoc, of which the second differs in what is given."""
    pair = sections(), sections(minute=60, **other)
    some = [s for two in zip(*pair, strict=True) for s in two]
    return write(tmp_path / "both.mdoc", [replace(s, label=str(i)) for i, s in enumerate(some)])


def series_in_json(capsys, path):
    assert run(["acquisition", "order", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["series"]


def test_how_sure_a_split_is_multiplies_how_sure_its_parts_are(tmp_path, capsys):
    for one in series_in_json(capsys, mixed(tmp_path, name="TS_02")):  # names alone tell them apart: 95%
        assert one["split"] == {"series": 2, "by": "names of movies", "confidence": 0.95, "done": True}
        assert one["status"] == "told"
        assert one["confidence"] == pytest.approx(0.95 * 0.999, abs=1e-3)
        assert one["scheme_confidence"] == pytest.approx(0.95 * 0.999, abs=1e-3)
        assert one["dose"]["confidence"] == pytest.approx(0.95 * 0.99, abs=2e-3)
    path = mixed(tmp_path, name="TS_02", stage="14.0 -20.0", label="7")  # and labels and places
    assert {one["split"]["confidence"] for one in series_in_json(capsys, path)} == {0.999}
    assert {one["confidence"] for one in series_in_json(capsys, path)} == {0.998}
    write(tmp_path / "both.mdoc", sections())
    (one,) = series_in_json(capsys, path)
    assert (one["split"], one["confidence"]) == (None, 0.999)


def test_two_series_in_a_folder_of_mdocs_of_single_images(tmp_path):
    for one in (sections(name="a"), sections(name="b", minute=1)):
        for section in one:
            write(tmp_path / f"{section.movie_name}.mdoc", [replace(section, kind="FrameSet", label="0")])
    found = recover_orders([tmp_path])
    assert [f.name for f in found] == ["a", "b"]
    assert all(f.recovered.scheme.replace(total_dose=120.0) == SCHEME for f in found)


def test_one_name_used_for_two_series(tmp_path):
    """A folder in which a second series of the same name was recorded at another place."""
    for tag, one in (("x", sections()), ("y", sections(stage="14.0 -20.0", label="7", minute=30))):
        for section in one:
            write(tmp_path / f"{tag}_{section.movie_name}.mdoc", [replace(section, kind="FrameSet", label="0")])
    found = recover_orders([tmp_path])
    assert [f.name for f in found] == ["TS_01_4", "TS_01_7"]
    assert all(f.recovered.scheme.group_size == 2 for f in found)


def test_import_guesses_by_the_title_and_says_so(tmp_path):
    path = write_stack(tmp_path, untold(sections()), "Tilt axis angle = 85.0, binning = 1 dosym = 0.0")
    plan = plan_import(stacks=[path])
    order = taken(plan.series[0])
    assert order[0] == 0
    assert sorted(abs(a) for a in order[1:5]) in ([3, 3, 6, 6],)
    (said,) = [t for t in texts(plan, "warning") if "guessed" in t]
    assert "sure" in said
    assert "It could also be" in said
    assert "--scheme" in said


def test_import_does_not_choose_where_nothing_tells(tmp_path):
    path = write_stack(tmp_path, untold(sections()))
    plan = plan_import(stacks=[path])
    assert taken(plan.series[0]) == sorted(SCHEME.angles_in_order().tolist())
    (said,) = [t for t in texts(plan, "warning") if "listed" in t]
    assert "bidirectional" in said or "dose-symmetric" in said
    assert "--scheme" in said


def test_the_users_scheme_goes_before_all(tmp_path):
    path = write_stack(tmp_path, untold(sections()))
    plan = plan_import(stacks=[path], scheme="dose-symmetric group=2 first=down")
    expected = SCHEME.replace(first_side="negative").angles_in_order()
    assert taken(plan.series[0]) == expected.tolist()
    assert not [t for t in texts(plan, "warning") if "order" in t]
    path = write_stack(tmp_path, [replace(s, label=str(i)) for i, s in enumerate(sections())])
    plan = plan_import(stacks=[path], scheme="bidirectional start=0")
    assert taken(plan.series[0])[:3] == [0, 3, 6]
    assert taken(plan.series[0])[7] == -3
    assert any("another order than the scheme given" in t for t in texts(plan, "warning"))


def test_a_scheme_by_the_command_line(tmp_path, capsys):
    path = write_stack(tmp_path, untold(sections()))
    arguments = ["import", str(tmp_path / "project"), "--stack", str(path), "--scheme"]
    assert run([*arguments, "dose-symmetric start=1"]) == 2
    assert "is no angle of the scheme" in capsys.readouterr().err
    assert run([*arguments, "dose-symmetrical"]) == 2
    assert "Expected continuous" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "Expected continuous"),
        ("spiral", "Expected continuous"),
        ("dose-symmetric groups=2", "`groups=2`, which is not known"),
        ("dose-symmetric group=two", "`group=two`"),
        ("dose-symmetric group=0", "group_size"),
        ("bidirectional first=left", "`first=left`"),
        ("continuous start=100", "outside"),
    ],
)
def test_schemes_that_cannot_be(text, match):
    with pytest.raises(InputError, match=match):
        SchemeWords.parse(text)


def test_a_scheme_that_lacks_the_angles():
    words = SchemeWords.parse("dose-symmetric start=1")
    with pytest.raises(InputError, match="is no angle of the scheme"):
        words.order_of([-6.0, -3.0, 0.0, 3.0, 6.0])
    with pytest.raises(InputError, match="does not go with angles"):
        SchemeWords.parse("continuous start=12 first=down").for_angles([-89.0, 0.0, 89.0])
    with pytest.raises(InputError, match="no common step"):
        SchemeWords.parse("continuous").order_of(np.rad2deg(np.arcsin(np.linspace(0, 0.85, 20))).tolist())


def test_times_in_names():
    names = [f"s_mmm_{n:05d}_{a:.1f}_{stamp}.tif" for n, a, stamp in (
        (993, 33.0, "Oct08_07.39.05"), (994, 36.0, "Oct08_07.39.35"), (995, 30.0, "Oct08_07.40.46"),
    )]  # fmt: skip
    found = name_facts(names)
    assert [f.number for f in found] == [993, 994, 995]
    assert {f.root for f in found} == {"s_mmm"}
    assert np.diff([f.time_s for f in found]).tolist() == [30.0, 71.0]
    over = name_facts(["a_001_0.0_Dec31_23.59.50.tif", "a_002_3.0_Jan01_00.00.20.tif"])
    assert over[1].time_s - over[0].time_s == 30.0
    assert name_facts(["a_001_0.0_Xyz31_23.59.50.tif"])[0].time_s is None


def test_angles_from_a_list_with_an_order(tmp_path):
    stack = np.ones((4, 12, 16), dtype=np.float32)
    write_mrc(tmp_path / "TS_9.st", stack, 2.5, is_volume=False)
    write_angles(tmp_path / "TS_9.rawtlt", np.array([-3.0, 0.0, 3.0, 6.0]))
    plan = plan_import(stacks=[tmp_path], dose_per_tilt=2.0, scheme="continuous first=down")
    assert taken(plan.series[0]) == [6, 3, 0, -3]


def test_import_does_not_sort_by_dates_that_are_all_the_same(tmp_path):
    """As a copy writes them: the order of the angles must not pass for that of time."""
    same = [replace(s, date_time=START, label=str(i)) for i, s in enumerate(untold(sections()))]
    plan = plan_import(stacks=[write_stack(tmp_path, same)])
    assert any("Neither dates nor doses tell the order" in t for t in texts(plan, "warning"))
    counted = sorted(sections(), key=lambda s: s.tilt_angle_deg)
    plan = plan_import(stacks=[write_stack(tmp_path, [replace(s, date_time=START) for s in counted])])
    assert taken(plan.series[0]) == SCHEME.angles_in_order().tolist()
    assert any("have the same date" in t for t in texts(plan, "note"))


def test_negative_doses_are_unknown(tmp_path, capsys):
    some = [replace(s, prior_record_dose=None) for s in sections(dose=-3.0)]
    write(tmp_path / "TS_01.mdoc", some)
    assert run(["acquisition", "order", str(tmp_path / "TS_01.mdoc")]) == 0
    assert "dose        unknown" in capsys.readouterr().out
    plan = plan_import(stacks=[write_stack(tmp_path, some)])
    assert {(t.dose, t.pre_exposure) for t in plan.series[0].tilts} == {(0.0, 0.0)}
    assert any("The dose of the images is not known" in t for t in texts(plan, "warning"))


def test_import_says_where_dates_and_counted_doses_contradict(tmp_path):
    """A count that rises with the angle is not mixed with the order of the dates."""
    some = sorted(sections(), key=lambda s: s.tilt_angle_deg)
    some = [replace(s, prior_record_dose=3.0 * i, label=str(i)) for i, s in enumerate(some)]
    plan = plan_import(stacks=[write_stack(tmp_path, some)])
    tilts = sorted(plan.series[0].tilts, key=lambda t: t.acquisition)
    assert taken(plan.series[0]) == SCHEME.angles_in_order().tolist()
    np.testing.assert_allclose([t.pre_exposure for t in tilts], 3.0 * np.arange(13))
    said = texts(plan, "warning")
    assert any("PriorRecordDose) tell another order" in t for t in said)
    assert any("PriorRecordDose falls" in t and "not used" in t for t in said)


def test_import_does_not_follow_a_clock_that_was_set_back(tmp_path):
    some = [
        replace(s, date_time=s.date_time - dt.timedelta(hours=i >= 7), label=str(i)) for i, s in enumerate(sections())
    ]
    plan = plan_import(stacks=[write_stack(tmp_path, some)])
    tilts = sorted(plan.series[0].tilts, key=lambda t: t.acquisition)
    assert taken(plan.series[0]) == SCHEME.angles_in_order().tolist()
    np.testing.assert_allclose([t.pre_exposure for t in tilts], 3.0 * np.arange(13))
    said = texts(plan, "warning")
    assert any("The dates tell another order" in t for t in said)
    assert any("put in the order of doses before (PriorRecordDose)" in t for t in said)


def test_two_images_an_angle_are_not_parted_unasked(tmp_path):
    twice = [replace(s, date_time=s.date_time + dt.timedelta(seconds=20 * k)) for s in sections() for k in (0, 1)]
    write(tmp_path / "TS_01.mdoc", [replace(s, label=str(i)) for i, s in enumerate(twice)])
    (one,) = recover_orders([tmp_path])
    assert len(one.sections) == 26
    assert any(f.kind == "interleaved" and "taken as one" in f.text for f in one.recovered.faults)
    assert (one.to_dict()["split"]["confidence"], one.to_dict()["split"]["done"]) == (0.5, False)
    assert one.recovered.confidence == 0.999  # the order in time, of whichever series


def cut_off(path, within):
    """The file as it is where a copy broke off after a line of the last section."""
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("[ZValue"))
    end = next(i for i in range(last, len(lines)) if lines[i].startswith(within))
    path.write_text("".join(lines[: end + 1]))
    return path


def test_a_file_that_is_cut_off_in_its_last_section_is_told(tmp_path, capsys):
    path = cut_off(write(tmp_path / "TS_01.mdoc", sections()), "ExposureDose")
    assert run(["acquisition", "order", str(path), "--json"]) == 0
    shown = capsys.readouterr().out
    (one,) = json.loads(shown.splitlines()[-1])["series"]
    (said,) = [fault["text"] for fault in one["faults"] if fault["kind"] == "cut off"]
    assert said in shown
    assert "[ZValue = 12]" in said
    assert "lacks PriorRecordDose and 7 more that all others have" in said
    assert "Its image at -18.0 degrees is used with what is left. Copy the file again." in said
    assert len(one["angles_deg"]) == 13
    write_movies(tmp_path, sections())
    plan = plan_import([tmp_path / "*.tif"], [path])
    assert said in texts(plan, "warning")
    (left,) = plan.series[0].excluded  # it named its movie further down
    assert left.reason == "the mdoc names no movie for it"


def test_an_image_that_is_lost_where_a_file_is_cut_off_is_told(tmp_path):
    path = cut_off(write(tmp_path / "TS_01.mdoc", sections()), "[ZValue")
    (found,) = recover_orders([path])
    (said,) = [fault.text for fault in found.recovered.faults if fault.kind == "cut off"]
    assert "Its image has no angle and is left out. Copy the file again." in said
    assert len(found.sections) == 12
    write_movies(tmp_path, sections())
    assert said in texts(plan_import([tmp_path / "*.tif"], [path]), "warning")


def test_the_mdoc_of_a_stack_that_is_cut_off_is_told(tmp_path):
    stack = write_stack(tmp_path, sections())
    cut_off(tmp_path / "TS_01.mrc.mdoc", "PriorRecordDose")
    plan = plan_import(stacks=[stack])
    assert len(plan.series[0].tilts) == 13
    assert any("is used with what is left" in t for t in texts(plan, "warning"))
    cut_off(tmp_path / "TS_01.mrc.mdoc", "[ZValue")
    with pytest.raises(InputError, match=r"Section 12 .* has no tilt angle; .*cut off in its last section"):
        plan_import(stacks=[stack])
