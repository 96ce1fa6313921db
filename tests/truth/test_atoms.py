"""Atoms to potential against sums written out in real space and scattering factors from another source."""

import gemmi
import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.optics.atoms import (
    ICE_VOLTS,
    VOLT_SQUARE_ANGSTROM,
    atom_potentials,
    density_from_atoms,
    density_from_points,
    interaction_parameter,
)


@pytest.mark.parametrize(("voltage", "expected"), [(300.0, 6.526e-4), (200.0, 7.288e-4), (100.0, 9.244e-4)])
def test_interaction_parameter_is_the_published_one(voltage, expected):
    assert interaction_parameter(voltage) == pytest.approx(expected, rel=3e-4)  # the tables give four digits


@pytest.mark.parametrize("element", ["H", "C", "N", "O", "P", "S", "Mg", "Zn", "Fe", "Au"])
def test_integrals_agree_with_scattering_factors_of_gemmi(element):
    factors = gemmi.Element(element).c4322
    others = ["H", element]  # a hydrogen present: nothing is added on average
    assert atom_potentials(others, solvent_volts=0.0)[1] == pytest.approx(47.878 * sum(factors.a), rel=1e-5)


def test_protein_stands_about_three_volts_above_ice():
    # a mean residue: C 4.9, N 1.35, O 1.48, S 0.04 (and 7.8 H), of about 138 A^3; published contrasts are 2.5 to 3.5 V
    elements = ["C"] * 490 + ["N"] * 135 + ["O"] * 148 + ["S"] * 4
    assert 2.5 < atom_potentials(elements).sum() / (100 * 138.0) < 3.5


@pytest.mark.parametrize("shape", [(20, 24, 27), (25, 20, 22)])
def test_potential_is_the_sum_of_the_atoms_gaussians(shape):
    b, voxel = 200.0, 1.5
    atoms = np.array([[1.3, -2.2, 4.1], [5.0, 3.3, -6.2], [-4.4, 0.0, 1.0]])
    elements = ["C", "P", "H"]
    z, y, x = np.meshgrid(*[(np.arange(n) - n // 2) * voxel for n in shape], indexing="ij")
    expected = np.zeros(shape)
    for place, element in zip(atoms, elements, strict=True):
        r2 = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        factors = gemmi.Element(element).c4322
        for a, width in zip(factors.a, factors.b, strict=True):
            total = width + b
            expected += VOLT_SQUARE_ANGSTROM * a * (4 * np.pi / total) ** 1.5 * np.exp(-4 * np.pi**2 * r2 / total)
    got = density_from_atoms(atoms, elements, shape, voxel, b_factor=b, solvent_volts=0.0).numpy()
    # at Nyquist, 1/3 A^-1, amplitudes are down to exp(-200/36) = 0.004: what is cut off is 0.1% along each axis
    np.testing.assert_allclose(got, expected, atol=0.004 * expected.max())


def test_integral_and_centre_of_one_atom():
    voxel = 2.0
    volume = density_from_atoms([[4.0, -6.0, 2.0]], ["S"], (32, 30, 28), voxel, b_factor=200.0)
    assert float(volume.sum()) * voxel**3 == pytest.approx(atom_potentials(["S"])[0], rel=1e-5)
    assert np.unravel_index(int(volume.argmax()), volume.shape) == (16 + 1, 15 - 3, 14 + 2)


def test_water_displaced_lowers_the_potential():
    vacuum = density_from_atoms([[0.0, 0.0, 0.0]], ["C"], (24, 24, 24), 2.0, solvent_volts=0.0)
    water = density_from_atoms([[0.0, 0.0, 0.0]], ["C"], (24, 24, 24), 2.0, solvent_volts=ICE_VOLTS)
    assert float((vacuum - water).sum()) * 8.0 == pytest.approx(ICE_VOLTS * (16.44 + 1.2 * 5.15), rel=1e-5)


def test_weighted_points_add_up_to_gaussians():
    b, voxel = 300.0, 2.0
    points, weights = np.array([[4.4, -3.0, 1.7], [-6.1, 5.2, -3.3]]), np.array([2.0, -0.7])
    z, y, x = np.meshgrid(*[(np.arange(n) - n // 2) * voxel for n in (21, 24, 20)], indexing="ij")
    expected = np.zeros(z.shape)
    for place, weight in zip(points, weights, strict=True):
        r2 = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
        expected += weight * (4 * np.pi / b) ** 1.5 * np.exp(-4 * np.pi**2 * r2 / b)
    got = density_from_points(points, weights, z.shape, voxel, b_factor=b).numpy()
    np.testing.assert_allclose(got, expected, atol=0.01 * expected.max())  # exp(-300 / 64) = 0.01 is left at Nyquist


def test_bad_atoms_are_refused():
    with pytest.raises(InputError, match="XX"):
        atom_potentials(["C", "Xx"])
    with pytest.raises(InputError, match="outside the box"):
        density_from_atoms([[100.0, 0.0, 0.0]], ["C"], (16, 16, 16), 2.0)
    with pytest.raises(ShapeError, match="positions"):
        density_from_atoms([[0.0, 0.0, 0.0]], ["C", "N"], (16, 16, 16), 2.0)


def test_no_atoms_make_an_empty_box():
    assert torch.equal(density_from_atoms(np.zeros((0, 3)), [], (8, 8, 8), 2.0), torch.zeros(8, 8, 8))
