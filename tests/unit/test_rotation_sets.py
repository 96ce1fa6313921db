"""Sets of rotations cover SO(3), with and without symmetry."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.geometry.rotations import Rotation
from eucentric.geometry.so3 import covering_radius_deg, local_rotations, sample_rotations, symmetric_angle_deg
from eucentric.geometry.symmetry import symmetry_rotations


@pytest.mark.parametrize(("group", "order"), [("C1", 1), ("c7", 7), ("D7", 14), ("T", 12), ("O", 24), ("I", 60)])
def test_a_group_is_closed_and_has_its_order(group, order):
    rotations = symmetry_rotations(group)
    assert len(rotations) == order
    np.testing.assert_allclose(rotations[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 1, 3, 3)
    nearest = np.abs(products - rotations).max(axis=(2, 3)).min(axis=1)
    assert nearest.max() < 1e-9


@pytest.mark.parametrize("group", ["C", "D0", "K", "C-1", ""])
def test_an_unknown_symmetry_is_told(group):
    with pytest.raises(InputError, match="expected C or D with a number"):
        symmetry_rotations(group)


@pytest.mark.parametrize(("step", "group"), [(20.0, "C1"), (12.0, "C1"), (12.0, "C2"), (12.0, "D7"), (12.0, "O")])
def test_every_rotation_is_near_one_of_the_set(step, group):
    rotations = sample_rotations(step, group)
    radius = covering_radius_deg(rotations, np.random.default_rng(3), symmetry=group, probes=5000)
    assert radius <= 1.1 * step
    expected = 8.0 * np.pi**2 / np.deg2rad(step) ** 3 / len(symmetry_rotations(group))
    assert len(rotations) == pytest.approx(expected, rel=0.05)


def test_the_set_is_even():
    """The mean of a matrix over SO(3) is zero, and of the square of an entry 1/3."""
    rotations = sample_rotations(15.0)
    assert np.abs(rotations.mean(0)).max() < 0.01
    np.testing.assert_allclose((rotations**2).mean(0), 1.0 / 3.0, atol=0.01)


def test_local_rotations_are_small_and_begin_with_none():
    rotations = local_rotations(10.0, 5.0)
    angles = Rotation(rotations).angle_to_deg(Rotation(np.broadcast_to(np.eye(3), rotations.shape).copy()))
    assert angles[0] == pytest.approx(0.0, abs=1e-5)
    assert angles.max() <= 10.0 + 1e-6
    assert len(rotations) == 33


def test_orientations_that_symmetry_makes_alike_are_no_distance_apart():
    turns = Rotation.random(20, np.random.default_rng(0)).matrices
    group = symmetry_rotations("D3")
    np.testing.assert_allclose(symmetric_angle_deg(turns @ group[4], turns, "D3"), 0.0, atol=1e-5)
    assert symmetric_angle_deg(turns @ group[4], turns, "C1").min() > 100.0


@pytest.mark.parametrize("step", [0.1, 90.0])
def test_a_step_that_makes_no_sense_is_told(step):
    with pytest.raises(InputError, match="angular step"):
        sample_rotations(step)
