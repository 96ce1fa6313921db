"""Membranes answer to layered templates, and are told from particles by a piece of membrane that competes."""

import numpy as np
import pytest
import torch

from eucentric.picking.foreign_places import membrane_patch
from eucentric.picking.match_templates import match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.templates import Template
from eucentric.picking.tomogram_transfer import TomogramTransfer

VOXEL, SIDE = 10.0, 20


def barrel():
    """Two rings of six balls with the spacing of a membrane's layers, 120 A wide."""
    z, y, x = np.meshgrid(*[(np.arange(SIDE) - SIDE // 2) * VOXEL] * 3, indexing="ij")
    density = np.zeros((SIDE,) * 3)
    for height in (-20.0, 20.0):
        for turn in np.deg2rad(60.0 * np.arange(6)):
            away = (x - 42 * np.cos(turn)) ** 2 + (y - 42 * np.sin(turn)) ** 2 + (z - height) ** 2
            density += np.exp(-0.5 * away / 9.0**2)
    return Template(
        name="barrel",
        density=torch.from_numpy(density).float(),
        voxel_size_angstrom=VOXEL,
        diameter_angstrom=130.0,
        symmetry="D6",
    )


def test_a_piece_of_membrane_is_two_layers_across_its_normal():
    patch = membrane_patch(barrel())
    line = patch.density[:, SIDE // 2, SIDE // 2]
    heights = (torch.arange(SIDE) - SIDE // 2) * VOXEL
    assert abs(int(heights[line.argmax()])) == 20
    torch.testing.assert_close(line[1:], line[1:].flip(0))
    assert float(patch.density[SIDE // 2 + 2, SIDE // 2].amin()) == 0.0
    assert float((line * heights.abs()).sum() / line.sum()) == pytest.approx(19.0, abs=2.0)


@pytest.mark.parametrize("leave", [True, False])
def test_nothing_is_picked_on_a_membrane(leave):
    template, rng = barrel(), np.random.default_rng(3)
    volume = rng.normal(size=(28, 56, 64))
    x = (np.arange(64) - 32) * VOXEL
    sheet = sum(np.exp(-0.5 * ((x + 120.0 + side) / 7.0) ** 2) for side in (-19.0, 19.0))
    volume -= 2.5 * sheet
    volume[4:24, 18:38, 38:58] -= 6.0 * template.density.numpy()  # about x = 160, y = 0, z = 0
    params = MatchParams(
        coarse_step_deg=20.0, fine_step_deg=6.0, coarse_voxel_angstrom=10.0, decoys="none", leave_membranes=leave
    )
    found = match_templates(
        torch.from_numpy(volume).float(), VOXEL, [template], TomogramTransfer.of_wedge(-60.0, 60.0), params
    )
    at = found.positions_angstrom[found.kept]
    assert (np.linalg.norm(at - (160.0, 0.0, 0.0), axis=1) < 15.0).sum() == 1
    assert (np.abs(at[:, 0] + 120.0) < 50.0).any() != leave
