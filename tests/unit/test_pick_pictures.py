"""Pictures of picks: slices lie in the particle's own frame, layers and views where they say, directions as the beam comes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.picking.candidates import Candidates
from eucentric.picking.pick_pictures import choose_for_gallery, score_views, slices_in_frame, tomogram_slabs
from eucentric.picking.stage_params import PickParams

VOXEL, DIAMETER = 6.0, 100.0


def random_rotations(count, seed=0):
    made = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, 3, 3)))[0]
    return made * np.sign(np.linalg.det(made))[:, None, None]


def blobs(shape, centres_angstrom, sigma=14.0):
    """Gaussians at points (n, 3), x, y, z from the voxel n // 2."""
    z, y, x = (VOXEL * (np.arange(n) - n // 2) for n in shape)
    out = np.zeros(shape)
    for cx, cy, cz in centres_angstrom:
        square = ((z - cz) ** 2)[:, None, None] + ((y - cy) ** 2)[:, None] + (x - cx) ** 2
        out += np.exp(-0.5 * square / sigma**2)
    return torch.from_numpy(out.astype(np.float32))


@pytest.mark.parametrize("shape", [(44, 60, 52), (45, 61, 53)])
def test_slices_show_the_particle_in_its_own_frame(shape):
    """A particle of three unlike arms, turned and moved, gives the slices of the particle itself."""
    arms = np.array([[30.0, 0.0, 0.0], [0.0, 22.0, 0.0], [0.0, 0.0, -34.0]])
    (rotation,) = random_rotations(1)
    position = np.array([20.0, -33.0, 11.0])
    turned = blobs(shape, arms @ rotation.T + position)
    found = slices_in_frame(turned, VOXEL, position, rotation, DIAMETER)
    own = slices_in_frame(blobs((48, 48, 48), arms), VOXEL, np.zeros(3), np.eye(3), DIAMETER)
    # cubic splines of Gaussians of 2.3 voxels err by less than a hundredth
    np.testing.assert_allclose(found, own, atol=0.02)
    # xy shows the arm along x to the right of the middle and the arm along y above it
    middle = own.shape[1] // 2
    step = 1.6 * DIAMETER / own.shape[1]
    assert own[0][middle, middle + round(30 / step)] > 0.6
    assert own[0][middle + round(22 / step), middle] > 0.6
    assert own[1][middle - round(34 / step), middle] > 0.6
    assert own[2][middle - round(34 / step), middle] > 0.6


def test_layers_cover_what_was_searched():
    volume = torch.zeros(40, 30, 30)
    volume[12:20] = 1.0
    region = torch.zeros(40, 30, 30, dtype=torch.bool)
    region[12:28, 5:25] = True
    slabs = tomogram_slabs(volume + 0.01 * torch.rand(volume.shape), VOXEL, region, 8 * VOXEL)
    assert len(slabs.images) == 2
    np.testing.assert_allclose(slabs.edges_angstrom, (np.array([12, 20, 28]) - 20.5) * VOXEL)
    assert slabs.pixel_angstrom == VOXEL


def test_views_of_scores_hold_their_maxima_and_what_was_not_searched():
    scores = torch.full((5, 6, 7), float("nan"))
    scores[1:4, 2:5, 1:6] = 1.0
    scores[2, 3, 4] = 9.0
    top, side, ends = score_views(scores)
    assert ends.tolist() == [1.0, 9.0]
    assert top[3, 4] == side[2, 4] == 255
    assert top[0].max() == side[0].max() == 0
    assert (top[2:5, 1:6] >= 1).all()


def test_the_gallery_takes_the_best_the_worst_and_the_nearest_miss_once():
    found = SimpleNamespace(
        score=np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]),
        template=np.array([0, 0, 1, 0, 0, 0, 0]),
        kept=np.array([1, 1, 1, 1, 0, 0, 0], dtype=bool),
    )
    rows, groups = choose_for_gallery(found, 0, 2)
    assert rows.tolist() == [0, 1, 3, 4, 5]
    assert groups.tolist() == [0, 0, 1, 2, 2]


def kept_candidates(rotations, symmetry, frame):
    count = len(rotations)
    values = {
        "kinds": np.array(["a"]),
        "symmetries": np.array([symmetry]),
        "diameter_angstrom": np.array([100.0]),
        "symmetry_frame": frame[None],
        "oriented": np.array([True]),
        "cutoff": np.array([5.0]),
        "position_angstrom": np.zeros((count, 3)),
        "rotation": rotations,
        "score": np.arange(count),
        "q_value": np.zeros(count),
        "margin": np.zeros(count),
        "template": np.zeros(count, dtype=int),
        "kept": np.ones(count, dtype=bool),
        "decoy_score": np.zeros(0),
        "decoy_margin": np.zeros(0),
        "decoy_template": np.zeros(0, dtype=int),
    }
    candidates = Candidates.from_arrays(values)
    assert candidates is not None
    assert Candidates.from_arrays({k: v for k, v in values.items() if k != "kept"}) is None
    return candidates


def test_views_are_alike_for_orientations_that_look_alike():
    """Any choice among a particle's equal orientations gives the same set of directions, and the beam is one of them."""
    group, (frame,) = symmetry_rotations("D3"), random_rotations(1, seed=4)
    rotations = random_rotations(5, seed=2)
    own = frame @ group @ frame.T
    other = rotations @ own[[3, 1, 5, 0, 2]]
    views = [kept_candidates(r, "D3", frame).beam_directions(0) for r in (rotations, other)]
    assert views[0].shape == (5 * len(group), 3)
    ordered = [v[np.lexsort(v.round(6).T)] for v in views]
    np.testing.assert_allclose(ordered[0], ordered[1], atol=1e-5)
    np.testing.assert_allclose(
        kept_candidates(rotations, "C1", np.eye(3)).beam_directions(0),
        np.swapaxes(rotations, 1, 2) @ [0.0, 0.0, 1.0],
        atol=1e-12,
    )


def test_names_of_folders():
    assert PickParams(templates=("a/4v4r.pdb.gz",)).folder_name == "4v4r"
    assert PickParams(templates=("sphere:120.5",)).folder_name == "sphere_120"
    assert PickParams(templates=("a b(1).mrc",), name="best").folder_name == "best"
    assert PickParams(templates=("a b(1).mrc",)).folder_name == "a_b_1_"
