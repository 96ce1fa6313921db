"""Import: every kind of input, and everything that can be wrong with it, told in words."""

import dataclasses
import datetime as dt
import json

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal

from eucentric.errors import InputError
from eucentric.io import (
    Mdoc,
    MdocSection,
    read_dm,
    read_mrc,
    read_tilt_series_set,
    read_truth,
    write_angles,
    write_mdoc,
    write_mrc,
    write_tiff_movie,
)
from eucentric.models import Optics
from eucentric.pipeline.importing import plan_import, write_import

SHAPE = (12, 16)
ANGLES = (0.0, 3.0, -3.0, 6.0, -6.0)


def movie_name(series, order, angle, ending="tif"):
    return f"{series}_{order:03d}_{angle:.1f}.{ending}"


class Session:
    """A folder as a microscope leaves it."""

    def __init__(self, folder):
        self.frames, self.mdocs, self.root = folder / "frames", folder / "mdocs", folder / "project"
        for place in (self.frames, self.mdocs):
            place.mkdir()

    def movie(self, name, frames=3, shape=SHAPE):
        write_tiff_movie(self.frames / name, np.ones((frames, *shape), dtype=np.uint8))

    def section(self, index, angle, name, **changes):
        fields = {
            "label": str(index),
            "tilt_angle_deg": angle + 0.01,
            "exposure_dose": 3.0,
            "prior_record_dose": 3.0 * index,
            "pixel_spacing_angstrom": 2.0,
            "rotation_angle_deg": 175.0,
            "target_defocus_um": -3.5,
            "sub_frame_path": f"D:\\data\\frames\\{name}",
            "frame_count": 3,
            "date_time": dt.datetime(2026, 1, 1, 10, index, 0),
        }
        return MdocSection(**(fields | changes))

    def series(self, name="TS_01", angles=ANGLES, movies=True, change=None, **mdoc_fields):
        sections = []
        for index, angle in enumerate(angles):
            file_name = movie_name(name, index, angle)
            if movies:
                self.movie(file_name)
            section = self.section(index, angle, file_name)
            sections.append(change(index, section) if change is not None else section)
        fields = {
            "titles": ("Tilt axis angle = 85.0, binning = 1",),
            "voltage_kv": 300.0,
            "image_size": SHAPE[::-1],
        } | mdoc_fields
        write_mdoc(self.mdocs / f"{name}.mdoc", Mdoc(sections=tuple(s for s in sections if s is not None), **fields))

    def plan(self, **options):
        return plan_import([self.frames], [self.mdocs], **options)


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def texts(plan, severity=None, series=None):
    return [f.text for f in plan.findings if severity in (None, f.severity) and series in (None, f.series)]


def replace(section, **changes):
    return dataclasses.replace(section, **changes)


def test_movies_and_mdoc(session):
    session.series()
    plan = session.plan()
    assert plan.findings == ()
    (one,) = plan.series
    assert one.name == "TS_01"
    assert_allclose(one.nominal_tilts_deg, np.sort(ANGLES) + 0.01)
    assert [t.acquisition for t in one.tilts] == [4, 2, 0, 1, 3]
    assert_allclose(one.pre_exposures, [12, 6, 0, 3, 9])
    assert_allclose(one.doses, 3.0)
    assert (one.pixel_size_angstrom, one.image_shape, one.hand, one.volume_size_px) == (2.0, SHAPE, -1.0, None)
    assert {t.nominal_axis_deg for t in one.tilts} == {85.0}
    assert {t.nominal_defocus_angstrom for t in one.tilts} == {35000.0}
    assert {t.frame_count for t in one.tilts} == {3}


def test_what_is_written_is_relative_to_the_project_and_comes_back(session):
    session.series()
    table = write_import(session.root, session.plan())
    assert table == session.root / "import/tilt_series.star"
    (one,) = read_tilt_series_set(table, session.root)
    assert one.tilts[0].movie == f"../frames/{movie_name('TS_01', 4, -6.0)}"
    assert (session.root / one.tilts[0].movie).is_file()
    assert json.loads((session.root / "import/findings.json").read_text())["findings"] == []


def test_options_go_before_the_files(session):
    session.series()
    (one,) = session.plan(
        voltage_kv=200.0,
        pixel_size=1.5,
        dose_per_tilt=2.0,
        tilt_axis_deg=-10.0,
        spherical_aberration=2.0,
        amplitude_contrast=0.1,
    ).series
    assert one.optics == Optics(voltage_kv=200.0, spherical_aberration_mm=2.0, amplitude_contrast=0.1)
    assert one.pixel_size_angstrom == 1.5
    assert_allclose(one.pre_exposures, [8, 4, 0, 2, 6])
    assert {t.nominal_axis_deg for t in one.tilts} == {-10.0}
    assert session.plan(scanning=True).series[0].optics is None


def test_a_movie_that_is_missing_or_in_no_mdoc(session):
    session.series()
    (session.frames / movie_name("TS_01", 3, 6.0)).unlink()
    session.movie("stray_000_0.0.tif")
    plan = session.plan()
    (one,) = plan.series
    assert len(one.tilts) == 4
    assert [e.tilt.nominal_tilt_deg for e in one.excluded] == [6.01]
    assert "not among the frames" in one.excluded[0].reason
    assert any("TS_01_003_6.0.tif (6.0 degrees)" in t for t in texts(plan, "warning", "TS_01"))
    assert any("in no mdoc" in t and "stray_000_0.0.tif" in t for t in texts(plan, "warning"))
    # The dose of the missing image was given to the specimen all the same.
    assert_allclose(one.pre_exposures, [12, 6, 0, 3])
    write_import(session.root, plan)
    assert len(read_tilt_series_set(session.root / "import/tilt_series.star", session.root)[0].excluded) == 1


def test_a_truncated_movie_is_left_out_with_its_byte_counts(session):
    session.series()
    path = session.frames / movie_name("TS_01", 1, 3.0)
    path.write_bytes(path.read_bytes()[:-60])
    plan = session.plan()
    assert len(plan.series[0].tilts) == 4
    assert "ends after frame" in plan.series[0].excluded[0].reason
    assert any("bytes" in t for t in texts(plan, "warning"))


def test_no_voltage_is_assumed_and_said(session):
    session.series(voltage_kv=None)
    plan = session.plan()
    assert plan.series[0].optics.voltage_kv == 300.0
    assert any("voltage of TS_01" in t and "300 kV is assumed" in t for t in texts(plan, "warning"))
    assert texts(session.plan(voltage_kv=300.0)) == []


def test_two_tilts_at_one_angle_keep_the_last(session):
    session.series(angles=(0.0, 3.0, -3.0, 3.04))
    plan = session.plan()
    (one,) = plan.series
    assert [t.nominal_tilt_deg for t in one.tilts] == pytest.approx([-2.99, 0.01, 3.05])
    assert [e.tilt.acquisition for e in one.excluded] == [1]
    assert any("two images at 3.0 degrees" in t and "taken last, is kept" in t for t in texts(plan, "warning"))
    assert one.tilts[-1].pre_exposure == 9.0


def test_order_comes_from_dates_else_doses_else_the_list(session):
    def shuffled(index, section):
        return replace(section, date_time=dt.datetime(2026, 1, 1, 10, 30 - index), prior_record_dose=None)

    session.series(change=shuffled)
    assert [t.acquisition for t in session.plan().series[0].tilts] == [0, 2, 4, 3, 1]
    session.series(change=lambda i, s: replace(s, date_time=None, prior_record_dose=30.0 - i))
    plan = session.plan()
    assert [t.acquisition for t in plan.series[0].tilts] == [0, 2, 4, 3, 1]
    assert any("PriorRecordDose" in t for t in texts(plan, "note"))
    session.series(change=lambda i, s: replace(s, date_time=None, prior_record_dose=None))
    plan = session.plan()
    assert [t.acquisition for t in plan.series[0].tilts] == [4, 2, 0, 1, 3]
    assert any("order" in t for t in texts(plan, "warning"))


def test_no_dose_is_asked_for(session):
    session.series(change=lambda i, s: replace(s, exposure_dose=0.0, prior_record_dose=0.0))
    plan = session.plan()
    assert_allclose(plan.series[0].doses, 0.0)
    assert any("--dose" in t for t in texts(plan, "warning"))
    session.series(
        change=lambda i, s: replace(s, exposure_dose=0.0, frame_doses=((0.5, 2), (1.0, 1)), prior_record_dose=None)
    )
    assert_allclose(session.plan().series[0].doses, 2.0)


def test_the_axis_comes_from_the_rotation_angle_where_no_title_tells_it(session):
    session.series(titles=())
    plan = session.plan()
    assert {t.nominal_axis_deg for t in plan.series[0].tilts} == {85.0}
    assert any("RotationAngle - 90" in t for t in texts(plan, "note"))
    session.series(titles=(), change=lambda i, s: replace(s, rotation_angle_deg=None))
    plan = session.plan()
    assert {t.nominal_axis_deg for t in plan.series[0].tilts} == {None}
    assert any("--tilt-axis" in t for t in texts(plan, "warning"))


def test_one_bad_series_of_three_stops_no_other(session):
    session.series("TS_01")
    session.series("TS_02", change=lambda i, s: replace(s, tilt_angle_deg=None))
    session.series("TS_03", angles=(0.0, 3.0))
    for index, angle in enumerate((0.0, 3.0)):
        path = session.frames / movie_name("TS_03", index, angle)
        if index:
            path.unlink()
    session.series("TS_04", change=lambda i, s: replace(s, pixel_spacing_angstrom=0.0))
    (session.mdocs / "TS_05.mdoc").write_text("[ZValue = 0]\nTiltAngle = steep\n")
    plan = session.plan()
    assert [s.name for s in plan.series] == ["TS_01"]
    assert plan.left_out == ("TS_05", "TS_02", "TS_03", "TS_04")
    assert "holds no tilt angles" in texts(plan, "error", "TS_02")[0]
    assert "1 image that can be used, of 2" in texts(plan, "error", "TS_03")[0]
    assert "--pixel-size" in texts(plan, "error", "TS_04")[0]
    assert "Line 2" in texts(plan, "error", "TS_05")[0]
    assert [s.name for s in session.plan(pixel_size=2.0).series] == ["TS_01", "TS_04"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda s: s.series(angles=(0.0,)), "1 image that can be used"),
        (lambda s: s.series(movies=False) or s.movie("other_000_0.0.tif"), "no image that can be used"),
        (lambda s: s.series(change=lambda i, x: replace(x, sub_frame_path=None)), "names no movie"),
        (lambda s: s.series(angles=(3.0, 3.01, 3.02)), "1 image that can be used"),
    ],
)
def test_an_only_series_that_is_bad_is_refused(session, build, words):
    build(session)
    with pytest.raises(InputError, match=words):
        session.plan()


def test_nothing_to_import(session):
    with pytest.raises(InputError, match="holds no movie"):
        session.plan()
    with pytest.raises(InputError, match="Nothing was found"):
        plan_import()
    with pytest.raises(InputError, match="no_such"):
        plan_import([session.frames / "no_such*.tif"])


def test_odd_movies_are_left_out_and_frame_counts_told(session):
    session.series()
    session.movie(movie_name("TS_01", 3, 6.0), shape=(16, 16))
    session.movie(movie_name("TS_01", 0, 0.0), frames=5)
    plan = session.plan()
    assert len(plan.series[0].tilts) == 4
    assert any("16 x 16 pixels, the others 16 x 12" in t for t in texts(plan, "warning"))
    assert any("has 3 frames; the file has 5" in t for t in texts(plan, "warning"))
    assert any("different numbers of frames" in t for t in texts(plan, "note"))
    assert sorted(t.frame_count for t in plan.series[0].tilts) == [3, 3, 3, 5]


def test_differences_between_series_are_told(session):
    session.series("A")
    session.series("B", voltage_kv=200.0, change=lambda i, s: replace(s, pixel_spacing_angstrom=1.0))
    found = texts(session.plan(), "warning")
    assert any("voltage differs" in t and "200" in t for t in found)
    assert any("pixel size differs" in t for t in found)


def test_super_resolution_movies_have_finer_pixels(session):
    session.series(image_size=(8, 6))
    plan = session.plan()
    assert plan.series[0].pixel_size_angstrom == 1.0
    assert any("2 times the size" in t for t in texts(plan, "warning"))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((16, 12), None),
        ((24, 32), None),
        ((32, 24), None),
        ((12, 17), "No turn or flip"),
        ((36, 48), "nor twice"),
        (SHAPE, None),
    ],
)
def test_a_gain_reference_of_the_wrong_size(session, shape, words):
    session.series()
    gain = session.mdocs / "gain.mrc"
    write_mrc(gain, np.ones(shape, np.float32), 2.0)
    if words is None:
        assert session.plan(gain=gain).gain == gain
        return
    with pytest.raises(InputError, match=words):
        session.plan(gain=gain)


def test_movies_with_one_mdoc_each(session):
    for index, angle in enumerate(ANGLES):
        name = movie_name("TS_7", index, angle)
        session.movie(name)
        section = session.section(index, angle, name, kind="FrameSet", label="0")
        write_mdoc(session.mdocs / f"{name}.mdoc", Mdoc(sections=(section,), voltage_kv=300.0))
    plan = session.plan()
    assert [s.name for s in plan.series] == ["TS_7"]
    assert [t.acquisition for t in plan.series[0].tilts] == [4, 2, 0, 1, 3]
    # Beside a mdoc of the series, those of its images say nothing new.
    session.series("TS_7", movies=False)
    plan = session.plan()
    assert [len(s.tilts) for s in plan.series] == [5]
    assert any("repeat" in t for t in texts(plan, "note"))


@pytest.mark.parametrize(
    ("names", "series", "orders"),
    [
        ([f"TS_01_{i:03d}_{a:.1f}.tif" for i, a in enumerate(ANGLES)], "TS_01", [4, 2, 0, 1, 3]),
        (
            [f"Position_1_{i + 1:03d}_{a:.2f}_20230101_1010{i}_fractions.tiff" for i, a in enumerate(ANGLES)],
            "Position_1",
            None,
        ),
        ([f"Position_1_2_{i + 1:03d}[{a:.2f}]_fractions.tiff" for i, a in enumerate(ANGLES)], "Position_1_2", None),
        ([f"23jan01a_00012tomo_{i:03d}_{a:.1f}.frames.mrc" for i, a in enumerate(ANGLES)], "23jan01a_00012tomo", None),
        ([f"tomo200528_107_{a:.1f}_May31_00.{12 + i}.25.tif" for i, a in enumerate(ANGLES)], "tomo200528_107", None),
        ([f"grid_ts_1_{5 * i + 2:03d}_{a:.1f}.tif" for i, a in enumerate(ANGLES)], "grid_ts_1", None),
    ],
)
def test_movies_without_mdoc_by_the_usual_names(session, names, series, orders):
    for name in names:
        if name.endswith("mrc"):
            write_mrc(session.frames / name, np.ones((3, *SHAPE)), 2.0, is_volume=False)
        else:
            session.movie(name)
    plan = plan_import([session.frames], pixel_size=2.0, dose_per_tilt=3.0, tilt_axis_deg=85.0, voltage_kv=300)
    assert [s.name for s in plan.series] == [series]
    assert_allclose(plan.series[0].nominal_tilts_deg, np.sort(ANGLES))
    assert [t.acquisition for t in plan.series[0].tilts] == [4, 2, 0, 1, 3]
    assert plan.findings == ()


def test_movies_by_a_pattern_of_the_user(session):
    for index, angle in enumerate(ANGLES):
        session.movie(f"{index}-cell_{angle:+.0f}deg_x{index * 7}.tif")
    options = {"pixel_size": 2.0, "dose_per_tilt": 1.0}
    with pytest.raises(InputError, match="--pattern"):
        plan_import([session.frames], **options)
    (one,) = plan_import([session.frames], pattern="{order}-{series}_{tilt}deg_{any}", **options).series
    assert one.name == "cell"
    assert [t.acquisition for t in one.tilts] == [4, 2, 0, 1, 3]
    with pytest.raises(InputError, match="pattern"):
        plan_import([session.frames], pattern="{series}_{angle}", **options)


def test_stacks_with_angle_files(tmp_path):
    stack = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    write_mrc(tmp_path / "TS_9.st", stack, 2.5, is_volume=False)
    with pytest.raises(InputError, match=r"TS_9.rawtlt"):
        plan_import(stacks=[tmp_path])
    write_angles(tmp_path / "TS_9.rawtlt", np.array([3.0, 0.0, -3.0, 6.0]))
    plan = plan_import(stacks=[tmp_path], dose_per_tilt=2.0)
    (one,) = plan.series
    assert any("order" in t for t in texts(plan, "warning"))
    assert one.pixel_size_angstrom == 2.5
    assert [t.image.partition("@")[0] for t in one.tilts] == ["3", "2", "1", "4"]
    table = write_import(tmp_path / "project", plan)
    assert read_tilt_series_set(table, tmp_path / "project")[0].tilts[0].image == "3@../TS_9.st"
    write_angles(tmp_path / "TS_9.rawtlt", np.array([3.0, 0.0]))
    with pytest.raises(InputError, match="holds 4 images, but the list of angles gives 2"):
        plan_import(stacks=[tmp_path])
    (stepped,) = plan_import(stacks=[tmp_path], tilt_steps=(-6.0, 4.0)).series
    assert_allclose(stepped.nominal_tilts_deg, [-6, -2, 2, 6])


def test_order_and_dose_in_the_columns_of_an_angle_file(tmp_path):
    write_mrc(tmp_path / "TS_9.mrc", np.ones((3, *SHAPE)), 2.5, is_volume=False)
    (tmp_path / "my.tlt").write_text("-3 2 1.5\n0 0 1.0\n3 1 2.0\n")
    (one,) = plan_import(stacks=[tmp_path / "TS_9.mrc"], angle_files=[tmp_path / "my.tlt"]).series
    assert [t.acquisition for t in one.tilts] == [2, 0, 1]
    assert_allclose(one.pre_exposures, [3.0, 0.0, 1.0])


def test_stacks_with_an_mdoc(session, tmp_path):
    write_mrc(tmp_path / "TS_9.mrc", np.ones((5, *SHAPE)), 2.5, is_volume=False)
    session.series("TS_9", movies=False)
    plan = plan_import(stacks=[tmp_path / "TS_9.mrc"], mdocs=[session.mdocs])
    (one,) = plan.series
    assert [t.acquisition for t in one.tilts] == [4, 2, 0, 1, 3]
    assert [t.image.partition("@")[0] for t in one.tilts] == ["5", "3", "1", "2", "4"]
    assert one.tilts[0].nominal_axis_deg == 85.0
    assert texts(plan) == []


def test_a_tiff_stack_is_converted_with_y_up(tmp_path):
    stored = np.random.default_rng(1).integers(0, 99, (3, *SHAPE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="minisblack")
    plan = plan_import(stacks=[tmp_path / "x.tif"], tilt_steps=(-2, 2), pixel_size=3.0)
    (one,) = read_tilt_series_set(write_import(tmp_path / "p", plan), tmp_path / "p")
    number, _, place = one.tilts[0].image.partition("@")
    got, header = read_mrc(tmp_path / "p" / place)
    assert number == "1"
    assert_array_equal(got, stored[:, ::-1])
    assert header.pixel_size_angstrom == 3.0


def test_an_exposure_before_the_series(session):
    session.series("TS_01")
    session.series("TS_011")
    image = session.frames / "TS_01_survey.tif"
    session.movie(image.name)
    plan = session.plan(pre_exposure_images=[image], pre_exposure_dose=7.0)
    first, second = plan.series
    assert_allclose(first.pre_exposures, [19, 13, 7, 10, 16])
    assert_allclose(second.pre_exposures, [12, 6, 0, 3, 9])
    assert plan.pre_exposure_images == (("TS_01", image.resolve(), 7.0),)
    assert [t for t in texts(plan) if "no mdoc" in t] == []
    write_import(session.root, plan)
    report = json.loads((session.root / "import/findings.json").read_text())
    assert report["pre_exposure_images"] == [{"series": "TS_01", "image": "../frames/TS_01_survey.tif", "dose": 7.0}]
    both = session.plan(pre_exposure_dose=2.0, exclude=["TS_011"])
    assert_allclose(both.series[0].pre_exposures, [14, 8, 2, 5, 11])
    with pytest.raises(InputError, match="without their dose"):
        session.plan(pre_exposure_images=[image])


def test_series_can_be_left_out(session):
    session.series("A_1")
    session.series("B_1")
    plan = session.plan(exclude=["B*"])
    assert [s.name for s in plan.series] == ["A_1"]
    assert texts(plan) == ["Left out as asked (--exclude)."]


def test_finished_tomograms(tmp_path):
    for name in ("cell.mrc", "cell_half1.mrc", "cell_half2.mrc"):
        write_mrc(tmp_path / name, np.ones((3, 5, 7)), 10.0)
    plan = plan_import(tomograms=[tmp_path])
    (one,) = read_tilt_series_set(write_import(tmp_path / "p", plan), tmp_path / "p")
    assert one.tilts == ()
    assert one.tomogram.path == "../cell.mrc"
    assert (one.tomogram.half1, one.tomogram.half2) == ("../cell_half1.mrc", "../cell_half2.mrc")
    assert one.tomogram.shape_zyx == (3, 5, 7)
    assert one.tomogram.voxel_size_angstrom == 10.0


@pytest.mark.parametrize("option", [{"pixel_size": 0.0}, {"voltage_kv": -3.0}, {"dose_per_tilt": -1.0}])
def test_options_that_make_no_sense(session, option):
    session.series()
    with pytest.raises(InputError, match="given is"):
        session.plan(**option)


def test_practice_data(shared_data, tmp_path):
    folder = shared_data / "practice"
    plan = plan_import([folder / "frames"], [folder], gain=folder / "gain.mrc")
    assert [s.name for s in plan.series] == ["TS_01", "TS_02", "TS_03"]
    assert texts(plan) == [
        "No file tells the voltage of TS_01, TS_02, TS_03: 300 kV is assumed. Give --voltage if that is wrong."
    ]
    series = read_tilt_series_set(write_import(tmp_path, plan), tmp_path)
    for one in series:
        truth = read_truth(folder / f"{one.name}_truth.json")
        assert [t.acquisition for t in one.tilts] == truth.acquisition.tolist()
        assert [t.movie.rpartition("/")[2] for t in one.tilts] == list(truth.movie_names)
        assert_allclose(one.nominal_tilts_deg, truth.nominal_tilts_deg, atol=0.02)
        assert_allclose(one.pre_exposures, truth.acquisition * truth.dose)
        assert one.tilts[0].nominal_axis_deg == truth.nominal_axis_deg
        assert one.image_shape == truth.image_shape
        assert all((tmp_path / t.movie).is_file() for t in one.tilts)


def test_the_scanned_needle(shared_data, tmp_path):
    path = shared_data / "real/needle_haadf/HAADF.dm3"
    plan = plan_import(stacks=[path])
    (one,) = read_tilt_series_set(write_import(tmp_path, plan), tmp_path)
    assert one.optics is None
    assert one.pixel_size_angstrom == pytest.approx(180.0, rel=1e-3)
    assert_allclose(one.nominal_tilts_deg, np.arange(-90, 91, 2))
    assert_array_equal(read_mrc(tmp_path / "import/stacks/HAADF.mrc")[0], read_dm(path)[0])
    assert_allclose(plan_import(stacks=[path], tilt_steps=(-45, 1)).series[0].nominal_tilts_deg, np.arange(-45, 46))


def test_mdocs_of_other_microscopes(shared_data):
    folder = shared_data / "formats/mdoc"
    with pytest.raises(InputError, match="no image that can be used"):
        plan_import([shared_data / "practice/frames/TS_02*"], [folder / "017.mdoc"])
    with pytest.raises(InputError, match="is not among the frames"):
        plan_import([shared_data / "practice/frames"], [folder / "frame_set_multiple.mdoc"])
    with pytest.raises(InputError, match="Nothing was found"):
        plan_import([shared_data / "practice/frames"], [folder / "montage_section.mdoc"])
