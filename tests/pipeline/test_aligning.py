"""What alignment makes of a series, beside its images."""

import dataclasses

import numpy as np
import pytest

from eucentric.ctf.results import ThicknessFit
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.aligning import centred_on_specimen
from eucentric.pipeline.stages.ctf import _with_nodes


def a_series(specimen):
    tilts = [
        Tilt(
            nominal_tilt_deg=a,
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=a, z_rot_deg=84.0, x_tilt_deg=2.0, x_shift_angstrom=5.0 * i, magnification=1.01),
        )
        for i, a in enumerate((-40.0, 0.0, 40.0))
    ]
    return TiltSeries.sorted(tilts, name="A", pixel_size_angstrom=4.0, image_shape=(64, 64), specimen=specimen)


def test_the_middle_of_the_specimen_becomes_the_origin_and_no_image_position_changes():
    before = a_series(Specimen(thickness_angstrom=900.0, z_angstrom=150.0, z_sigma_angstrom=10.0))
    after = centred_on_specimen(before)
    points = np.random.default_rng(0).uniform(-300.0, 300.0, (5, 3))
    seen = TiltGeometry.from_poses(before.poses).project(points + np.array([0.0, 0.0, 150.0]))[..., :2]
    assert TiltGeometry.from_poses(after.poses).project(points)[..., :2] == pytest.approx(seen, abs=1e-9)
    assert after.specimen == dataclasses.replace(before.specimen, z_angstrom=0.0)


@pytest.mark.parametrize("specimen", [None, Specimen(thickness_angstrom=900.0)])
def test_a_height_that_is_not_known_moves_nothing(specimen):
    before = a_series(specimen)
    assert centred_on_specimen(before) is before


def nodes(thickness, determined=True):
    return ThicknessFit(
        thickness_angstrom=thickness,
        sigma_angstrom=50.0,
        determined=determined,
        likeliest_angstrom=thickness,
        smallest_visible_angstrom=600.0,
        evidence=20.0,
        trials_angstrom=np.zeros(1),
        log_likelihood=np.zeros(1),
    )


def test_the_thickness_by_nodes_joins_the_others_and_is_told_of_where_it_differs():
    known = Specimen(thickness_angstrom=900.0, thickness_sigma_angstrom=60.0)
    same, words = _with_nodes(known, nodes(1000.0))
    assert (same.ctf_thickness_angstrom, same.thickness_angstrom, words) == (1000.0, 900.0, ())
    assert "1500 A thick" in _with_nodes(known, nodes(1500.0))[1][0]
    assert _with_nodes(known, nodes(1500.0, determined=False)) == (known, ())
    assert _with_nodes(None, nodes(1200.0))[0].thickness_angstrom == 1200.0
