"""The one geometry against truth written by an independent simulator."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eucentric.geometry import Rotation, TiltGeometry, rigid_fit, rotation_x, rotation_y, rotation_z
from eucentric.geometry.grids import angstrom_to_pixel, pixel_to_angstrom


def test_elementary_rotations_are_right_handed():
    np.testing.assert_allclose(rotation_z(90.0) @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(rotation_x(90.0) @ (0, 1, 0), (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(rotation_y(90.0) @ (0, 0, 1), (1, 0, 0), atol=1e-12)


@pytest.mark.parametrize("name", ["TS_01", "TS_02", "TS_03"])
def test_projection_is_that_of_the_practice_truth(shared_data, name):
    truth = json.loads((shared_data / "practice" / f"{name}_truth.json").read_text())
    geometry = TiltGeometry.build(
        truth["true_tilt"], z_rot_deg=truth["spec"]["axis"], shifts_angstrom=np.array(truth["shifts"])
    )
    np.testing.assert_allclose(geometry.matrices, np.array(truth["R"]), atol=1e-9)
    point = np.array(truth["positions"][0])
    expected = np.array(truth["R"]) @ point
    expected[:, :2] += np.array(truth["shifts"])
    np.testing.assert_allclose(geometry.project(point), expected, atol=1e-6)


def test_practice_rotations_survive_relion_angles(shared_data):
    truth = json.loads((shared_data / "practice" / "TS_01_truth.json").read_text())
    rotation = Rotation(np.array(truth["rotations"]))
    again = Rotation.from_relion(*rotation.as_relion())
    np.testing.assert_allclose(again.matrices, rotation.matrices, atol=1e-9)


@given(rot=st.floats(-180, 180), tilt=st.sampled_from([0.0, 180.0, 1e-3, 37.0, 90.0, 179.9]), psi=st.floats(-180, 180))
def test_relion_angles_round_trip_also_at_the_poles(rot, tilt, psi):
    rotation = Rotation.from_relion(rot, tilt, psi)
    third = (np.sin(np.deg2rad(tilt)) * np.cos(np.deg2rad(rot)), np.sin(np.deg2rad(tilt)) * np.sin(np.deg2rad(rot)))
    np.testing.assert_allclose(rotation.matrices[2, :2], third, atol=1e-12)
    again = Rotation.from_relion(*rotation.as_relion())
    np.testing.assert_allclose(again.matrices, rotation.matrices, atol=1e-6)


@given(n=st.tuples(st.integers(1, 40), st.integers(1, 41), st.integers(1, 42)), pixel=st.floats(0.5, 20))
def test_pixels_and_angstrom_are_inverse_and_the_centre_is_n_half(n, pixel):
    centre = (n[2] // 2, n[1] // 2, n[0] // 2)
    np.testing.assert_allclose(pixel_to_angstrom(centre, n, pixel), 0.0, atol=1e-12)
    there = pixel_to_angstrom((1.5, -2.0, 7.25), n, pixel)
    np.testing.assert_allclose(angstrom_to_pixel(there, n, pixel), (1.5, -2.0, 7.25), atol=1e-9)


def test_rigid_fit_recovers_a_motion_and_never_mirrors():
    generator = np.random.default_rng(3)
    points = generator.normal(size=(20, 3))
    rotation = Rotation.random(1, generator).matrices[0]
    found, shift = rigid_fit(points, points @ rotation.T + (1, 2, 3))
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(shift, (1, 2, 3), atol=1e-9)
    mirrored, _ = rigid_fit(points, points * (1, 1, -1))
    assert np.linalg.det(mirrored) == pytest.approx(1.0)
