"""Slabs of known height and pitch, back from points on their faces."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.geometry import rotation_x, rotation_y
from eucentric.reconstruction.slab_from_points import slab_from_points


def faces(x_tilt, y_tilt, z, thickness, places=((-800, -700), (900, -500), (100, 850)), noise=0.0):
    """Points on both faces straight above and below some places."""
    normal = (rotation_y(y_tilt) @ rotation_x(x_tilt))[:, 2]
    generator = np.random.default_rng(3)
    out = []
    for side in (0.5, -0.5):
        anchor = np.array([0.0, 0.0, z]) + side * thickness * normal
        heights = [
            anchor[2] - (normal[0] * (x - anchor[0]) + normal[1] * (y - anchor[1])) / normal[2] for x, y in places
        ]
        out.append(np.array([(*p, h + noise * generator.normal()) for p, h in zip(places, heights, strict=True)]))
    return out


@pytest.mark.parametrize(("x_tilt", "y_tilt"), [(0.0, 0.0), (3.0, -9.0), (-12.0, 18.0)])
def test_height_pitch_and_thickness_come_back(x_tilt, y_tilt):
    found = slab_from_points(*faces(x_tilt, y_tilt, 137.0, 1450.0), sigma_angstrom=5.0)
    slab = found.slab
    got = slab.x_tilt_deg, slab.y_tilt_deg, slab.z_angstrom, slab.thickness_angstrom
    assert got == pytest.approx((x_tilt, y_tilt, 137.0, 1450.0), abs=1e-6)
    assert found.pitched == (True, True)
    assert found.wedge_deg == 0
    assert found.rms_angstrom < 1e-6


def test_two_lines_in_slices_across_each_other_are_enough():
    places = ((-900, 0), (900, 0), (0, -800), (0, 800))
    top, bottom = faces(4.0, -6.0, -50.0, 900.0, places)
    slab = slab_from_points(top, bottom[:1], sigma_angstrom=5.0).slab
    assert (slab.x_tilt_deg, slab.y_tilt_deg, slab.thickness_angstrom) == pytest.approx((4.0, -6.0, 900.0), abs=1e-6)


def test_what_points_do_not_tell_stays_as_it_was_given():
    top, bottom = faces(2.5, -7.0, 40.0, 800.0, ((-900, 0), (900, 0)))
    found = slab_from_points(top, bottom, sigma_angstrom=5.0, x_tilt_deg=2.5, y_tilt_deg=1.0)
    assert found.pitched == (True, False)
    assert (found.slab.x_tilt_deg, found.slab.y_tilt_deg) == pytest.approx((2.5, -7.0), abs=0.05)
    single = slab_from_points([[0, 0, 300]], [[100, 50, -500]], sigma_angstrom=5.0, y_tilt_deg=0.0)
    assert single.pitched == (False, False)
    assert (single.slab.z_angstrom, single.slab.thickness_angstrom) == pytest.approx((-100.0, 800.0))


def test_errors_are_as_large_as_the_scatter_says():
    generator = np.random.default_rng(0)
    places = generator.uniform(-1000, 1000, (12, 2))
    truth = np.array([4.0, -6.0, 20.0, 1200.0])
    off = []
    for seed in range(200):
        top, bottom = faces(*truth, [tuple(p) for p in places])
        noise = np.random.default_rng(seed).normal(0.0, 40.0, (2, 12))
        top[:, 2] += noise[0]
        bottom[:, 2] += noise[1]
        s = slab_from_points(top, bottom, sigma_angstrom=4.0).slab
        sigma = s.x_tilt_sigma_deg, s.y_tilt_sigma_deg, s.z_sigma_angstrom, s.thickness_sigma_angstrom
        off.append((np.array([s.x_tilt_deg, s.y_tilt_deg, s.z_angstrom, s.thickness_angstrom]) - truth) / sigma)
    # 200 draws know a standard deviation to 5 percent, and the scatter of 24 points is known to 15
    assert np.std(off, axis=0) == pytest.approx(np.ones(4), abs=0.3)


def test_a_wedge_is_told():
    top = faces(0.0, 4.0, 0.0, 1200.0)[0]
    bottom = faces(0.0, -4.0, 0.0, 1200.0)[1]
    found = slab_from_points(top, bottom, sigma_angstrom=5.0)
    assert found.wedge_deg == pytest.approx(8.0, abs=0.1)
    half = 0.5 * found.slab.thickness_angstrom
    heights = (
        np.concatenate([top, bottom]) @ found.slab.rotation[:, 2] - found.slab.z_angstrom * found.slab.rotation[2, 2]
    )
    assert (heights.max(), heights.min()) == pytest.approx((half, -half), abs=1e-6)


@pytest.mark.parametrize(
    ("top", "bottom", "words"),
    [
        (np.zeros((0, 3)), [[0, 0, -5]], "No point is on the top"),
        ([[0, 0, 5]], np.zeros((0, 3)), "No point is on the bottom"),
        ([[0, 0, -5]], [[0, 0, 5]], "lies 10 A below its bottom"),
        ([[0, 0, np.inf]], [[0, 0, 5]], "is no place"),
    ],
)
def test_marks_that_make_no_slab_are_refused(top, bottom, words):
    with pytest.raises(InputError, match=words):
        slab_from_points(top, bottom, sigma_angstrom=5.0)
