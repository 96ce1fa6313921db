"""Tilt-series tables: refusals in words, tables of other programs, stale files."""

import dataclasses

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io import labels as own_labels
from eucentric.io import (
    read_star,
    read_star_text,
    read_tilt_series,
    read_tilt_series_set,
    relative_path,
    tilt_series_names,
    validate_star,
    write_mrc,
    write_star,
    write_tilt_series_set,
)
from eucentric.models import ExcludedTilt, FrameShifts, Optics, Tilt, TiltSeries


def a_series(name="TS_01", **changes):
    motion = FrameShifts(shifts_angstrom=np.array([[3.0, 0.0], [0.0, 4.0]]), sigma_angstrom=np.array([0.1, 0.2]))
    tilts = [
        Tilt(
            nominal_tilt_deg=a,
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            movie=f"m{i}.tif",
            frame_count=2,
            motion=motion,
        )
        for i, a in enumerate([0.0, 3.0, -3.0])
    ]
    fields = {"name": name, "pixel_size_angstrom": 2.0, "image_shape": (10, 20)} | changes
    return TiltSeries.sorted(tilts, **fields)


def test_labels_are_relion_s_or_begin_with_euc(tmp_path):
    write_tilt_series_set(tmp_path / "motion/tilt_series.star", [a_series()], tmp_path)
    table = read_star_text(tmp_path / "motion/tilt_series/TS_01.star")["TS_01"]
    assert {"rlnMicrographMovieName", "rlnTomoNominalStageTiltAngle", "rlnMicrographPreExposure"} <= set(table)
    top = read_star_text(tmp_path / "motion/tilt_series.star")["global"]
    own = [label for label in (*table, *top) if not label.startswith("rln")]
    assert own
    assert set(own) <= set(own_labels.MEANINGS)
    assert top["rlnTomoTiltSeriesStarFile"] == ["motion/tilt_series/TS_01.star"]
    # From the first frame (3, 0) to the second (0, 4): 5 A.
    assert table["rlnAccumMotionTotal"] == ["5.0"] * 3
    assert table["rlnTomoNominalStageTiltAngle"] == ["-3.0", "0.0", "3.0"]


def test_what_is_not_known_of_the_signal_is_not_written(tmp_path):
    place = tmp_path / "refine/tilt_series.star"
    write_tilt_series_set(place, [a_series()], tmp_path)
    columns = {*read_star_text(place)["global"], *read_star_text(place.parent / "tilt_series/TS_01.star")["TS_01"]}
    assert not columns & {"rlnCtfScalefactor", "rlnCtfBfactor", "rlnBeamTiltX", "eucTrefoilY"}
    one = a_series()
    known = [
        dataclasses.replace(t, signal_scale=0.5 + i, b_factor_angstrom2=-20.0 * i) for i, t in enumerate(one.tilts)
    ]
    write_tilt_series_set(
        place,
        [one.with_tilts(known).replace(optics=Optics(beam_tilt_mrad=(0.0, 0.3))), a_series(name="TS_02")],
        tmp_path,
    )
    first, second = read_tilt_series_set(place, tmp_path)
    assert [t.signal_scale for t in first.tilts] == [0.5, 1.5, 2.5]
    assert [t.b_factor_angstrom2 for t in first.tilts] == [0.0, -20.0, -40.0]
    assert first.optics == Optics(beam_tilt_mrad=(0.0, 0.3))
    assert second.optics == Optics()
    assert [t.signal_scale for t in second.tilts] == [1.0] * 3
    assert read_star_text(place)["global"]["rlnOpticsGroupName"] == ["opticsGroup1", "opticsGroup2"]


def test_relion_s_cosines_of_the_tilt_are_not_taken_for_measurements(tmp_path):
    place = tmp_path / "tomograms.star"
    angles = np.array([-50.0, 0.0, 50.0])
    for scales, kept in ((np.cos(np.deg2rad(angles)), [1.0] * 3), ([0.9, 1.0, 0.4], [0.9, 1.0, 0.4])):
        table = {
            "rlnTomoNominalStageTiltAngle": angles.tolist(),
            "rlnMicrographPreExposure": [3.0, 0.0, 6.0],
            "rlnCtfScalefactor": [round(float(s), 6) for s in scales],
        }
        write_star(tmp_path / "TS_01.star", {"TS_01": table})
        top = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesStarFile": ["TS_01.star"]}
        sizes = {"rlnTomoTiltSeriesPixelSize": [2.0], "rlnTomoSizeX": [90], "rlnTomoSizeY": [80]}
        write_star(place, {"global": top | sizes})
        assert [t.signal_scale for t in read_tilt_series_set(place, tmp_path)[0].tilts] == kept


@pytest.mark.parametrize(
    "changes", [{"signal_scale": -0.1}, {"signal_scale": float("nan")}, {"b_factor_angstrom2": float("inf")}]
)
def test_a_signal_that_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError, match="signal scale"):
        Tilt(nominal_tilt_deg=0.0, acquisition=0, dose=1.0, pre_exposure=0.0, **changes)
    with pytest.raises(InputError, match="beam tilt"):
        Optics(beam_tilt_mrad=(float("nan"), 0.0))


def test_nominal_defocus_is_in_micrometres_and_negative_for_underfocus(tmp_path):
    one = a_series()
    tilt = Tilt(nominal_tilt_deg=0, acquisition=0, dose=1, pre_exposure=0, nominal_defocus_angstrom=35000.0)
    write_tilt_series_set(tmp_path / "import/tilt_series.star", [one.replace(tilts=(tilt,))], tmp_path)
    assert read_star(tmp_path / "import/tilt_series/TS_01.star")["TS_01"]["rlnTomoNominalDefocus"].tolist() == [-3.5]
    assert (
        read_tilt_series(tmp_path / "import/tilt_series.star", "TS_01", tmp_path).tilts[0].nominal_defocus_angstrom
        == 35000.0
    )


def test_tables_of_an_earlier_run_go_when_nothing_names_them(tmp_path):
    table = tmp_path / "align/tilt_series.star"
    one = a_series()
    gone = one.replace(excluded=(ExcludedTilt(tilt=one.tilts[0], reason="dark"),), tilts=one.tilts[1:])
    write_tilt_series_set(table, [gone], tmp_path)
    assert sorted(p.name for p in (tmp_path / "align/tilt_series").iterdir()) == [
        "TS_01.star",
        "TS_01_excluded.star",
        "TS_01_motion.star",
    ]
    assert read_tilt_series_set(table, tmp_path)[0].excluded[0].reason == "dark"
    bare = tuple(Tilt(nominal_tilt_deg=a, acquisition=i, dose=0, pre_exposure=0) for i, a in enumerate([1.0, 2.0]))
    write_tilt_series_set(table, [one.replace(tilts=bare)], tmp_path)
    assert [p.name for p in (tmp_path / "align/tilt_series").iterdir()] == ["TS_01.star"]
    assert read_tilt_series_set(table, tmp_path)[0].excluded == ()


def test_a_removed_row_leaves_the_motion_of_the_others_in_place(tmp_path):
    table = tmp_path / "motion/tilt_series.star"
    one = a_series()
    shifts = [FrameShifts(shifts_angstrom=np.full((2, 2), float(i)), sigma_angstrom=np.ones(2)) for i in range(3)]
    tilts = tuple(dataclasses.replace(t, motion=shifts[t.acquisition]) for t in one.tilts)
    write_tilt_series_set(table, [one.replace(tilts=tilts)], tmp_path)
    path = tmp_path / "motion/tilt_series/TS_01.star"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "m0.tif" not in line))
    got = read_tilt_series(table, "TS_01", tmp_path)
    assert [t.motion.shifts_angstrom[0, 0] for t in got.tilts] == [2.0, 1.0]


def test_what_relion_does_not_store_is_worked_out(tmp_path):
    write_star(
        tmp_path / "t.star",
        {
            "TS_1": {
                "rlnTomoNominalStageTiltAngle": [-3.0, 0.0, 3.0],
                "rlnMicrographPreExposure": [4.0, 0.0, 2.0],
                "rlnMicrographName": ["i.mrc"] * 3,
            }
        },
    )
    top = {
        "rlnTomoName": ["TS_1"],
        "rlnTomoTiltSeriesStarFile": ["t.star"],
        "rlnVoltage": [300],
        "rlnTomoTiltSeriesPixelSize": [2.0],
    }
    write_star(tmp_path / "set.star", {"global": top})
    write_mrc(tmp_path / "i.mrc", np.zeros((6, 8)), 2.0)
    got = read_tilt_series_set(tmp_path / "set.star", tmp_path)[0]
    assert [t.acquisition for t in got.tilts] == [2, 0, 1]
    assert [t.dose for t in got.tilts] == [2.0] * 3
    assert got.image_shape == (6, 8)
    assert got.hand == -1.0
    assert tilt_series_names(tmp_path / "set.star") == ["TS_1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no star file\n", "no `data_` block"),
        ("data_other\n\nloop_\n_rlnA #1\n1\n", "no `data_global`"),
        ("data_global\n\nloop_\n_rlnTomoName #1\nTS_1\n", "rlnTomoTiltSeriesStarFile"),
        ("data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\nTS_1 gone.star\n", "was found neither"),
        ("data_global\n\nloop_\n_a #1\n_b #2\n1 2 3\n4 5\n6 7 8 9\n", "not a STAR file"),
    ],
)
def test_unreadable_sets_are_refused_in_words(tmp_path, text, words):
    (tmp_path / "s.star").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_tilt_series_set(tmp_path / "s.star", tmp_path)
    # A repaired file of the same name is read anew.
    write_star(tmp_path / "s.star", {"global": {"rlnA": [1]}})
    assert read_star(tmp_path / "s.star")["global"]["rlnA"].tolist() == [1]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"rlnTomoProjX": ["[1,0,0,0]"]}, "RELION-4"),
        ({"rlnTomoNominalStageTiltAngle": ["steep"], "rlnMicrographPreExposure": [0.0]}, "`steep`"),
        ({"rlnMicrographPreExposure": [0.0]}, "no value"),
    ],
)
def test_unreadable_tilts_are_refused_in_words(tmp_path, table, words):
    write_star(tmp_path / "t.star", {"TS_1": table})
    top = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesStarFile": ["t.star"], "rlnTomoTiltSeriesPixelSize": [2.0]}
    write_star(tmp_path / "set.star", {"global": top})
    with pytest.raises(FormatError, match=words):
        read_tilt_series_set(tmp_path / "set.star", tmp_path)


def test_binary_and_missing_files(tmp_path):
    (tmp_path / "b.star").write_bytes(bytes(range(256)))
    with pytest.raises(FormatError):
        read_star(tmp_path / "b.star")
    with pytest.raises(InputError, match="does not exist"):
        read_star(tmp_path / "none.star")
    assert [f.severity for f in validate_star(tmp_path / "b.star")] == ["error"]
    write_star(tmp_path / "e.star", {"x": {"rlnA": []}})
    assert [f.severity for f in validate_star(tmp_path / "e.star")] == ["warning"]


def test_names_that_cannot_name_files_or_stand_twice(tmp_path):
    for name in ("", "a b", "../x", "nan", "it's"):
        with pytest.raises(InputError, match="name of a tilt series"):
            write_tilt_series_set(tmp_path / "i/t.star", [a_series(name)], tmp_path)
    with pytest.raises(InputError, match="Two tilt series"):
        write_tilt_series_set(tmp_path / "i/t.star", [a_series(), a_series()], tmp_path)
    with pytest.raises(InputError, match="no tilt series"):
        write_tilt_series_set(tmp_path / "i/t.star", [], tmp_path)
    with pytest.raises(InputError, match="unequal"):
        write_star(tmp_path / "t.star", {"x": {"a": [1], "b": []}})
    with pytest.raises(InputError, match="cannot hold"):
        write_star(tmp_path / "t.star", {"x": {"a": [[1]]}})
    write_tilt_series_set(tmp_path / "i/t.star", [a_series()], tmp_path)
    with pytest.raises(InputError, match="no tilt series called TS_7"):
        read_tilt_series(tmp_path / "i/t.star", "TS_7", tmp_path)


def test_two_images_of_one_acquisition_index_cannot_keep_their_motion_apart(tmp_path):
    one = a_series()
    same = tuple(dataclasses.replace(t, acquisition=0) for t in one.tilts)
    with pytest.raises(InputError, match="acquisition index"):
        write_tilt_series_set(tmp_path / "i/t.star", [one.replace(tilts=same)], tmp_path)


def test_paths_are_relative_with_slashes(tmp_path):
    assert relative_path(tmp_path / "a" / "b.mrc", tmp_path) == "a/b.mrc"
    assert relative_path(tmp_path / "b.mrc", tmp_path / "p") == "../b.mrc"
