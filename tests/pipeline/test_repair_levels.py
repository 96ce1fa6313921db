"""Faces that a person marked: carried with the frame, levelled as told, and used by the next run."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eucentric.errors import FormatError, InputError
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import Tomogram
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.levelling import SpecimenFindings, level_by
from eucentric.pipeline.repair_frames import frame_of, keep_frame, motion_between, poses_frame, read_frame
from eucentric.pipeline.repair_level_files import MarkedFaces, level_as_marked, read_faces, write_faces
from eucentric.reconstruction import SpecimenSlab

GRID = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(100, 90, 60))
PLACES = np.array([[-380.0, -300.0], [400.0, -250.0], [50.0, 380.0], [-200.0, 200.0]])


def a_series(specimen=None):
    tilts = tuple(
        Tilt(
            nominal_tilt_deg=float(tilt),
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=float(tilt), z_rot_deg=84.0, x_shift_angstrom=11.0 * i, y_shift_angstrom=-7.0),
            ctf=CtfFit(defocus_u_angstrom=30100.0, defocus_v_angstrom=29900.0),
        )
        for i, tilt in enumerate(np.arange(-60.0, 61.0, 10.0))
    )
    return TiltSeries(
        name="TS",
        pixel_size_angstrom=10.0,
        image_shape=(90, 100),
        tilts=tilts,
        optics=Optics(),
        hand=-1.0,
        specimen=specimen,
        tomogram=Tomogram(path="x.mrc", voxel_size_angstrom=10.0, shape_zyx=(60, 90, 100)),
    )


def a_slab(x_tilt=3.0, y_tilt=-8.0, z=60.0, thickness=500.0):
    unknown = dict.fromkeys(
        ("x_tilt_sigma_deg", "y_tilt_sigma_deg", "z_sigma_angstrom", "thickness_sigma_angstrom", "score", "contrast"),
        0.0,
    )
    return SpecimenSlab(
        found=True, x_tilt_deg=x_tilt, y_tilt_deg=y_tilt, z_angstrom=z, thickness_angstrom=thickness, **unknown
    )


def points_on(slab, side):
    normal = slab.rotation[:, 2]
    anchor = slab.centre_angstrom + side * 0.5 * slab.thickness_angstrom * normal
    heights = anchor[2] - (PLACES - anchor[:2]) @ normal[:2] / normal[2]
    return np.column_stack([PLACES, heights])


def marked(slab, series):
    return MarkedFaces(top_angstrom=points_on(slab, 1), bottom_angstrom=points_on(slab, -1), frame=frame_of(series))


def levelled(series, slab):
    found = SpecimenFindings(
        specimen=Specimen(
            thickness_angstrom=slab.thickness_angstrom,
            x_tilt_deg=slab.x_tilt_deg,
            y_tilt_deg=slab.y_tilt_deg,
            z_angstrom=slab.z_angstrom,
        ),
        slab=slab,
        metrics={},
        caveats=(),
    )
    return level_by(series, found, as_told=True)


def test_a_frame_that_was_turned_and_moved_carries_points_along():
    before = a_series()
    slab = a_slab()
    after = levelled(before, slab)
    motion = motion_between(frame_of(after), frame_of(before), "TS")
    points = np.random.default_rng(0).uniform(-300, 300, (20, 3))
    assert_allclose(motion(points), points @ slab.rotation.T + slab.centre_angstrom, atol=1e-6)
    assert motion.rms_angstrom < 1e-6
    back = motion_between(frame_of(before), frame_of(after), "TS")
    assert_allclose(back(motion(points)), points, atol=1e-6)


def test_frames_of_other_tilts_are_refused_and_few_common_ones_suffice():
    series = a_series()
    first, last = (frame_of(series.with_tilts(series.tilts[part])) for part in (slice(0, 5), slice(5, None)))
    with pytest.raises(InputError, match="no tilt in common"):
        motion_between(first, last, "TS")
    motion = motion_between(first, frame_of(series), "TS")
    assert_allclose(motion([[1.0, 2.0, 3.0]]), [[1.0, 2.0, 3.0]], atol=1e-6)


def test_frames_and_faces_come_back_from_their_files(tmp_path):
    frame = frame_of(a_series())
    key = keep_frame(tmp_path, "TS", frame)
    again = read_frame(tmp_path, "TS", key)
    assert again.key == key == frame.key
    faces = marked(a_slab(), a_series())
    path = write_faces(tmp_path, "TS", faces)
    found = read_faces(tmp_path, "TS")
    assert_allclose(found.top_angstrom, faces.top_angstrom)
    assert_allclose(found.bottom_angstrom, faces.bottom_angstrom)
    assert found.frame.key == key
    assert read_faces(tmp_path, "TS_02") is None
    path.write_text(path.read_text().replace("bottom", "side"))
    with pytest.raises(FormatError, match="neither top nor bottom"):
        read_faces(tmp_path, "TS")
    path.write_text("data_other\n\nloop_\n_a #1\n1\n")
    with pytest.raises(FormatError, match="does not hold the faces"):
        read_faces(tmp_path, "TS")
    with pytest.raises(InputError, match="is gone"):
        read_frame(tmp_path, "TS", "0" * 12)


@pytest.mark.parametrize("slab", [a_slab(), a_slab(0.3, 0.2, -40.0, 777.0)])
def test_the_series_is_level_and_as_thick_as_told_in_whatever_frame_it_was_marked(slab):
    series = a_series()
    for shown in (series, levelled(series, a_slab(-2.0, 5.0, 30.0, 600.0))):
        motion = motion_between(frame_of(series), frame_of(shown), "TS")
        faces = MarkedFaces(
            top_angstrom=motion(points_on(slab, 1)), bottom_angstrom=motion(points_on(slab, -1)), frame=frame_of(shown)
        )
        after, metrics, caveats = level_as_marked(series, faces, poses_frame(series, GRID))
        assert after.thickness_angstrom == pytest.approx(slab.thickness_angstrom, abs=1e-6)
        assert metrics["levels_by_hand"] == 8
        assert "set by hand (8 points" in caveats[0]
        flat = motion_between(frame_of(series), frame_of(after), "TS")
        assert_allclose(flat(points_on(slab, 1))[:, 2], 0.5 * slab.thickness_angstrom, atol=1e-4)
        assert_allclose(flat(points_on(slab, -1))[:, 2], -0.5 * slab.thickness_angstrom, atol=1e-4)
        assert (after.specimen.x_tilt_deg, after.specimen.z_angstrom) == pytest.approx((0.0, 0.0), abs=1e-6)
        seen = TiltGeometry.from_poses(series.poses).project([[1.0, 2.0, 3.0]])[..., :2]
        again = TiltGeometry.from_poses(after.poses).project(flat([[1.0, 2.0, 3.0]]))[..., :2]
        assert_allclose(again, seen, atol=1e-4)


def test_what_the_marks_do_not_tell_is_said():
    series = a_series(Specimen(thickness_angstrom=400.0, x_tilt_deg=4.0, y_tilt_deg=-6.0))
    faces = MarkedFaces(
        top_angstrom=np.array([[0, 0, 300.0]]), bottom_angstrom=np.array([[0, 0, -100.0]]), frame=frame_of(series)
    )
    after, metrics, caveats = level_as_marked(series, faces, poses_frame(series, GRID))
    assert (metrics["inclination_x_deg"], metrics["inclination_y_deg"]) == pytest.approx((4.0, -6.0))
    assert "kept as it was measured" in caveats[1]
    assert after.specimen.x_tilt_deg == pytest.approx(0.0)
