"""Membranes answer to layered templates, and are told from particles by a piece of membrane that competes."""

import numpy as np
import pytest
import torch

from eucentric.geometry.rotations import rotation_y
from eucentric.picking.foreign_places import membrane_patches
from eucentric.picking.match_templates import match_templates
from eucentric.picking.overlap import Solid, apart
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
    patch, *bent = membrane_patches(barrel())
    line = patch.density[:, SIDE // 2, SIDE // 2]
    heights = (torch.arange(SIDE) - SIDE // 2) * VOXEL
    assert abs(int(heights[line.argmax()])) == 20
    torch.testing.assert_close(line[1:], line[1:].flip(0))
    assert float(patch.density[SIDE // 2 + 2, SIDE // 2].amin()) == 0.0
    for other in bent:
        torch.testing.assert_close(other.density[:, SIDE // 2, SIDE // 2], line)
        # 50 A from the middle the layers of a vesicle of 300 A lie 4 A lower
        beside = other.density[:, SIDE // 2, SIDE // 2 + 5]
        assert float((beside * heights).sum() / beside.sum()) < -1.0
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


def test_a_pick_within_a_better_one_goes():
    density = torch.zeros(20, 20, 20)
    density[8:13, 8:13, 4:17] = 1.0  # 50 x 50 x 130 A, along x
    solid = Solid.of_template(
        Template(name="rod", density=density, voxel_size_angstrom=VOXEL, diameter_angstrom=150.0, symmetry="D2")
    )
    kinds, turns = np.zeros(2, dtype=np.int64), np.repeat(np.eye(3)[None], 2, axis=0)

    def kept(shift, turn, solids):
        poses = np.stack([turns[0], turn])
        return len(apart(np.array([np.zeros(3), shift]), poses, kinds, solids))

    assert kept((0.0, 80.0, 0.0), np.eye(3), [solid]) == 2
    assert kept((0.0, 25.0, 0.0), np.eye(3), [solid]) == 1
    assert kept((90.0, 0.0, 0.0), np.eye(3), [solid]) == 1  # a shifted copy, end in end
    assert kept((100.0, 0.0, 0.0), rotation_y(90.0), [solid]) == 2  # standing across the end
    assert kept((0.0, 0.0, 60.0), rotation_y(90.0), [solid]) == 1
    assert kept((0.0, 25.0, 0.0), np.eye(3), [None]) == 2
    assert len(apart(np.zeros((0, 3)), turns[:0], kinds[:0], [solid])) == 0
