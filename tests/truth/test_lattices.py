"""Lattices of particles: flat, around a tube, in a row and with a symmetry; what was taken out is put back."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.geometry import Rotation, rotation_y, rotation_z
from eucentric.models import ParticleSet
from eucentric.picking.complete_lattice import VOTES, complete_lattice, fit_lattice
from eucentric.picking.pick_geometry import filament_points
from eucentric.picking.turn_by_neighbours import ORDER, turn_by_neighbours


def sheet(n: int = 8, spacing: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """A hexagonal sheet turned anyhow in space."""
    turn = Rotation.random(1, np.random.default_rng(4)).matrices[0]
    i, j = np.meshgrid(np.arange(n), np.arange(n))
    flat = np.stack([(i + 0.5 * j).ravel(), (np.sqrt(3) / 2 * j).ravel(), 0.0 * i.ravel()], axis=1) * spacing
    return flat @ turn.T, np.broadcast_to(turn, (n * n, 3, 3)).copy()


def recovered(whole: ParticleSet, out: np.ndarray, **options) -> None:
    """Takes some particles out, and finds those again: to 5 A and 3 degrees, and none in wrong places."""
    symmetry = options.pop("symmetry", None)
    keep = ~np.isin(np.arange(len(whole)), out)
    lattice = fit_lattice(whole.select(keep), 130.0, symmetry=symmetry)
    got = complete_lattice(whole.select(keep), lattice, tolerance_angstrom=30.0, symmetry=symmetry, **options)
    new = got.select(got.columns[VOTES] > 0)
    gap = np.linalg.norm(new.positions_angstrom[:, None] - whole.positions_angstrom[out][None], axis=-1)
    assert gap.min(axis=0).max() < 5.0
    match = gap.argmin(axis=0)
    group = np.eye(3)[None] if symmetry is None else symmetry
    alike = whole.rotations[out][:, None] @ group[None]
    angle = Rotation(new.rotations[match][:, None]).angle_to_deg(Rotation(alike)).min(axis=1)
    assert angle.max() < 3.0
    inner = np.linalg.norm(got.positions_angstrom[:, None] - got.positions_angstrom[None], axis=-1)
    np.fill_diagonal(inner, np.inf)
    assert inner.min() > 80.0  # nothing was put beside a particle that is there
    assert np.isnan(new.scores).all()


def test_a_sheet_has_six_neighbours_and_gets_its_holes_filled():
    places, turns = sheet()
    noisy = places + np.random.default_rng(0).normal(0, 2.0, places.shape)
    whole = ParticleSet.build("t", noisy, rotations=turns)
    lattice = fit_lattice(whole, 130.0)
    assert len(lattice.offsets_angstrom) == 6
    np.testing.assert_allclose(np.linalg.norm(lattice.offsets_angstrom, axis=1), 100.0, atol=2.0)
    np.testing.assert_allclose(lattice.turns, np.broadcast_to(np.eye(3), (6, 3, 3)), atol=1e-9)
    recovered(whole, np.array([18, 27, 28, 45]), votes=3)


def test_subunits_known_but_for_a_sixfold_turn():
    places, turns = sheet()
    spin = rotation_z(60.0 * np.random.default_rng(1).integers(0, 6, len(turns)))
    group = rotation_z(60.0 * np.arange(6))
    recovered(ParticleSet.build("t", places, rotations=turns @ spin), np.array([18, 27, 45]), votes=3, symmetry=group)


def test_a_lattice_around_a_tube():
    """Thirteen around a straight filament, rise 100: neighbours are turned against each other."""
    got = filament_points([[0, 0, 0], [0, 0, 900.0]], 100.0, radius_angstrom=220.0, around=13, twist_deg=5.0)
    recovered(ParticleSet.build("t", got.points, rotations=got.rotations), np.array([40, 41, 70]), votes=3)


def test_a_row_is_closed_from_both_its_sides():
    turns = rotation_y(3.0 * np.arange(12))
    bent = np.cumsum(turns[:, :, 0] * 100.0, axis=0)
    recovered(ParticleSet.build("t", bent, rotations=turns), np.array([5]), votes=2, rounds=1)


def test_what_is_no_lattice():
    rng = np.random.default_rng(2)
    loose = ParticleSet.build("t", rng.uniform(-2000, 2000, (60, 3)), rotations=Rotation.random(60, rng).matrices)
    with pytest.raises(InputError, match="no lattice"):
        fit_lattice(loose, 130.0)
    with pytest.raises(InputError, match="orientations"):
        fit_lattice(ParticleSet.build("t", np.zeros((3, 3))), 130.0)
    with pytest.raises(InputError, match="positive"):
        fit_lattice(loose, 0.0)


def test_turns_are_found_from_the_neighbours_where_only_normals_are_known():
    places, turns = sheet()
    rng = np.random.default_rng(5)
    noisy = places + rng.normal(0, 3.0, places.shape)
    spun = turns @ rotation_z(rng.uniform(0, 360, len(turns)))
    got = turn_by_neighbours(ParticleSet.build("t", noisy, rotations=spun), 130.0, 6)
    np.testing.assert_allclose(got.directions, turns[:, :, 2], atol=1e-12)
    alike = turns[:, None] @ rotation_z(60.0 * np.arange(6))[None]
    error = Rotation(got.rotations[:, None]).angle_to_deg(Rotation(alike)).min(axis=1)
    assert np.median(error) < 2.0  # 3 A of 100 A to either end of six bonds: 1 degree
    assert error.max() < 8.0  # corners have two or three neighbours
    assert got.columns[ORDER].min() > 0.8
    whole = got.with_positions(places).with_rotations(got.rotations)
    recovered(whole, np.array([18, 27, 45]), votes=3, symmetry=rotation_z(60.0 * np.arange(6)))


def test_turns_that_cannot_be_found():
    places, turns = sheet(4)
    with pytest.raises(InputError, match="larger distance"):
        turn_by_neighbours(ParticleSet.build("t", places, rotations=turns), 50.0, 6)
    with pytest.raises(InputError, match="normals"):
        turn_by_neighbours(ParticleSet.build("t", places), 130.0, 6)
    with pytest.raises(InputError, match="2 folds"):
        turn_by_neighbours(ParticleSet.build("t", places, rotations=turns), 130.0, 1)
