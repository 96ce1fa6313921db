"""One movie that holds a whole tilt series, from the files of a microscope to the first table."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eucentric.cli.main import run
from eucentric.errors import InputError
from eucentric.io import (
    FrameRange,
    Mdoc,
    MdocSection,
    read_tilt_series_set,
    write_frame_table,
    write_mdoc,
    write_mrc,
    write_tiff_movie,
)
from eucentric.pipeline.importing import plan_import, write_import
from eucentric.simulation import RapidTiltParams, simulate_rapid_tilt_movie

ANGLES = (0.0, 3.0, -3.0, 6.0, -6.0)
LENGTH, STEP, DOSE = 5, 3, 0.25
SPANS = tuple((k * (LENGTH + STEP), k * (LENGTH + STEP) + LENGTH) for k in range(len(ANGLES)))
"""In frames of the exposure."""


class Session:
    """A folder with one movie and its mdoc."""

    def __init__(self, folder):
        self.folder, self.project = folder, folder / "project"
        self.movie, self.mdoc = folder / "lamella_1.tif", folder / "lamella_1.mdoc"

    def write_movie(self, frames):
        write_tiff_movie(self.movie, np.ones((frames, 40, 48), dtype=np.uint8))

    def write_mdoc(self, frame_count, spans=SPANS, **changes):
        top = {
            "kind": "FrameSet",
            "sub_frame_path": "X:\\data\\lamella_1.tif",
            "frame_count": frame_count,
            "frame_doses": ((DOSE, frame_count),),
            "exposure_dose": 99.0,
            "pixel_spacing_angstrom": 5.0,
            "rotation_angle_deg": 178.0,
            "target_defocus_um": -4.0,
            "tilt_angle_deg": 0.01,
        }
        sections = [MdocSection(**(top | changes))]
        for k, angle in enumerate(ANGLES):
            extra = {} if spans is None else {"FrameTSStartEndFrames": f"{spans[k][0]} {spans[k][1]}"}
            dose = {} if spans is None else {"exposure_dose": DOSE * LENGTH, "prior_record_dose": DOSE * LENGTH * k}
            sections.append(MdocSection(label=str(k), tilt_angle_deg=angle, extra=extra, **dose))
        write_mdoc(self.mdoc, Mdoc(sections=tuple(sections), titles=("SerialEM: camera",), voltage_kv=300.0))

    def plan(self, **options):
        return plan_import([self.movie], [self.mdoc], **options)

    def imported(self, **options):
        plan = self.plan(**options)
        (one,) = read_tilt_series_set(write_import(self.project, plan), self.project)
        return one, plan


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def by_time(series):
    return sorted(series.tilts, key=lambda t: t.acquisition)


def texts(plan):
    return " ".join(f.text for f in plan.findings)


def test_all_frames_of_the_exposure_are_in_the_movie(session):
    session.write_movie(SPANS[-1][1])
    session.write_mdoc(SPANS[-1][1])
    one, plan = session.imported()
    assert one.name == "lamella_1"
    assert_allclose(one.nominal_tilts_deg, sorted(ANGLES))
    tilts = by_time(one)
    assert [t.nominal_tilt_deg for t in tilts] == list(ANGLES)
    assert [t.frames for t in tilts] == list(SPANS)
    assert {t.movie for t in tilts} == {"../lamella_1.tif"}
    assert all(t.frame_count == LENGTH for t in tilts)
    assert all(t.nominal_axis_deg == pytest.approx(88.0) for t in tilts)
    assert all(t.nominal_defocus_angstrom == pytest.approx(40000.0) for t in tilts)
    assert_allclose([t.dose for t in tilts], DOSE * LENGTH)
    # the mdoc gives times of the open beam: between tilts it is shut
    assert_allclose([t.pre_exposure for t in tilts], DOSE * LENGTH * np.arange(5))
    assert one.pixel_size_angstrom == 5.0
    assert one.image_shape == (40, 48)
    assert plan.left_out == ()


def test_frames_that_were_not_saved_are_counted_by_the_list(session):
    saved = [20 + f for span in SPANS for f in range(*span)]
    session.write_movie(len(saved))
    session.write_mdoc(len(saved))
    (session.folder / "lamella_1_saved.txt").write_text("\n".join(map(str, saved)) + "\n")
    one, _ = session.imported()
    assert [t.frames for t in by_time(one)] == [(k * LENGTH, (k + 1) * LENGTH) for k in range(5)]
    assert_allclose([t.pre_exposure for t in by_time(one)], DOSE * LENGTH * np.arange(5))


def test_a_table_goes_before_the_mdoc_and_idle_frames_expose_the_specimen(session):
    session.write_movie(45)
    session.write_mdoc(45)
    ranges = [FrameRange(tilt_deg=a, frames=(2 + 8 * k, 8 + 8 * k)) for k, a in enumerate(ANGLES)]
    write_frame_table(session.folder / "lamella_1.csv", ranges)
    one, plan = session.imported(frame_tables=[session.folder / "lamella_1.csv"])
    tilts = by_time(one)
    assert [t.frames for t in tilts] == [r.frames for r in ranges]
    assert_allclose([t.dose for t in tilts], 6 * DOSE)
    assert_allclose([t.pre_exposure for t in tilts], DOSE * np.array([2, 10, 18, 26, 34]))
    assert "15 of 45 frames" in texts(plan)
    assert "3.75 e/A2, counts" in texts(plan)


def test_a_table_is_enough(session):
    session.write_movie(40)
    ranges = [FrameRange(tilt_deg=a, frames=(8 * k, 8 * k + 6), dose=3.0) for k, a in enumerate(ANGLES)]
    table = session.folder / "t.txt"
    write_frame_table(table, ranges)
    plan = plan_import([session.movie], frame_tables=[table], pixel_size=4.0, pre_exposure_dose=2.0)
    (one,) = plan.series
    assert_allclose([t.dose for t in by_time(one)], 3.0)
    # two frames of the moving stage with the dose of the others come between
    assert_allclose([t.pre_exposure for t in by_time(one)], 2.0 + 4.0 * np.arange(5))
    # the user's own dose of a tilt goes before that of the table
    (one,) = plan_import([session.movie], frame_tables=[table], pixel_size=4.0, dose_per_tilt=6.0).series
    assert_allclose([t.dose for t in by_time(one)], 6.0)
    assert_allclose([t.pre_exposure for t in by_time(one)], 8.0 * np.arange(5))


def test_a_movie_shorter_than_its_table_is_refused(session):
    session.write_movie(20)
    ranges = [FrameRange(tilt_deg=a, frames=(8 * k, 8 * k + 6)) for k, a in enumerate(ANGLES)]
    write_frame_table(session.folder / "t.txt", ranges)
    with pytest.raises(InputError, match=r"frames up to 38 to tilts, and `lamella_1.tif` has 20"):
        plan_import([session.movie], frame_tables=[session.folder / "t.txt"], pixel_size=4.0)


def test_what_cannot_be_told_is_refused_with_a_way_out(session):
    session.write_movie(60)
    session.write_mdoc(60)
    with pytest.raises(InputError, match=r"could not be found in the movie.*--frame-table"):
        session.plan()
    session.write_mdoc(60, sub_frame_path="X:\\other.tif")
    with pytest.raises(InputError, match=r"`other.tif` of lamella_1, named in .* is not among the frames"):
        session.plan()


@pytest.fixture(scope="module")
def rapid():
    params = RapidTiltParams(
        shape=(160, 160),
        pixel_size=5.0,
        angles_deg=ANGLES,
        frames_per_tilt=10,
        contrast=0.09,
        seed=4,
        small_jump_every=0,
    )
    return params, simulate_rapid_tilt_movie(params)


@pytest.mark.parametrize("ending", ["tif", "mrc"])
def test_frames_are_found_in_the_movie_where_no_file_tells(session, rapid, ending):
    _, movie = rapid
    session.movie = session.folder / f"lamella_1.{ending}"
    if ending == "tif":
        write_tiff_movie(session.movie, movie.frames.numpy())
    else:
        write_mrc(session.movie, movie.frames.numpy().astype(np.float32), 5.0, is_volume=False)
    session.write_mdoc(len(movie.frames), spans=None, frame_doses=((0.1, len(movie.frames)),))
    one, plan = session.imported()
    truth = movie.tilt.numpy()
    tilts = by_time(one)
    assert [t.nominal_tilt_deg for t in tilts] == list(ANGLES)
    for k, tilt in enumerate(tilts):
        start, stop = tilt.frames
        assert (truth[start:stop] == k).all()
        assert stop - start >= 8
        assert tilt.dose == pytest.approx(0.1 * (stop - start))
        # frames of the moving stage expose the specimen too
        assert tilt.pre_exposure == pytest.approx(0.1 * start)
    assert "were found in `lamella_1." in texts(plan)
    assert any(f.severity == "warning" and "--frame-table" in f.text for f in plan.findings)


def test_the_command_makes_a_project(session, rapid, capsys):
    _, movie = rapid
    write_tiff_movie(session.movie, movie.frames.numpy())
    table = session.folder / "lamella_1.rawtlt"
    table.write_text("".join(f"{a:.2f}\n" for a in ANGLES))
    arguments = ["import", str(session.project), "--frames", str(session.movie), "--frame-table", str(table)]
    code = run([*arguments, "--pixel-size", "5", "--dose", "1", "--tilt-axis", "0"])
    assert code == 0
    assert "1 tilt series with 5 tilts" in capsys.readouterr().out
    (one,) = read_tilt_series_set(session.project / "import" / "tilt_series.star", session.project)
    assert [t.nominal_tilt_deg for t in by_time(one)] == list(ANGLES)
    assert all(t.frames is not None for t in one.tilts)


def test_tables_go_to_movies_by_name(session):
    ranges = [FrameRange(tilt_deg=a, frames=(8 * k, 8 * k + 6)) for k, a in enumerate(ANGLES)]
    later = [FrameRange(tilt_deg=a, frames=(8 * k + 1, 8 * k + 7)) for k, a in enumerate(ANGLES)]
    for name in ("lamella_1", "lamella_10", "lamella_2"):
        write_tiff_movie(session.folder / f"{name}.tif", np.ones((40, 40, 48), dtype=np.uint8))
    write_frame_table(session.folder / "lamella_1_frames.csv", ranges)
    write_frame_table(session.folder / "lamella_10.csv", later)
    plan = plan_import([session.folder / "*.tif"], frame_tables=[session.folder / "*.csv"], pixel_size=4.0)
    frames = {s.name: [t.frames for t in by_time(s)] for s in plan.series}
    assert frames == {"lamella_1": [r.frames for r in ranges], "lamella_10": [r.frames for r in later]}
    assert "`lamella_2.tif` has no frame table of its name" in texts(plan)
