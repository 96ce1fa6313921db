"""Masks that turn with the template: deviations of their own, the fast way against the plain one, elongated particles."""

import numpy as np
import pytest
import torch

from eucentric.compute.device import products_type
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import Rotation
from eucentric.io.mrc import write_mrc
from eucentric.optics.atoms import density_from_points
from eucentric.picking.params import MatchParams
from eucentric.picking.rotated_templates import FourierTemplate, RowBasis, TemplateRows
from eucentric.picking.search_masks import SearchMask, ellipsoid_mask, with_given_mask, with_search_mask
from eucentric.picking.search_volume import search_volume
from eucentric.picking.templates import Template
from eucentric.pipeline.pick_templates import read_templates

VOXEL, SIDE = 12.0, 24

ROUNDING = torch.finfo(products_type("cpu")).eps  # of scores that are mixed from patterns


@pytest.fixture(scope="module")
def rod():
    """A rod of 200 x 50 x 50 A, with order along it."""
    rng = np.random.default_rng(2)
    points = rng.uniform(-1, 1, (120, 3)) * (95.0, 22.0, 22.0)
    density = density_from_points(points, rng.uniform(400, 1200, len(points)), (SIDE,) * 3, VOXEL, b_factor=2000.0)
    return Template(name="rod", density=density, voxel_size_angstrom=VOXEL, diameter_angstrom=215.0)


def rows_of(template, rotations, shape):
    masked = with_search_mask(template, MatchParams(mask_shape=shape))
    mask = SearchMask.build(masked, MatchParams(), masked.density)
    reader = FourierTemplate.build(masked, mask.side)
    flat = torch.ones(mask.side, mask.side, mask.side // 2 + 1)
    return TemplateRows.build(reader, rotations, flat, mask.ball, mask.at if mask.turns else None)


def test_masks_follow_the_shape_and_turn_with_it(rod):
    ball = SearchMask.build(rod, MatchParams(), rod.density)
    assert not ball.turns
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x onto y
    for shape in ("own", "ellipsoid"):
        masked = with_search_mask(rod, MatchParams(mask_shape=shape))
        mask = SearchMask.build(masked, MatchParams(), rod.density)
        assert float(mask.ball.sum()) > 3.0 * float(mask.one(np.eye(3)).sum())
        middle = mask.side // 2
        turned = mask.one(quarter)
        assert (
            float(mask.one(np.eye(3))[middle, middle, middle + 6])
            > 0.8
            > 0.2
            > float(turned[middle, middle, middle + 6])
        )
        assert float(turned[middle, middle + 6, middle]) > 0.8


def test_deviations_are_those_under_the_turned_mask(rod):
    volume = torch.randn((20, 26, 28), generator=torch.Generator().manual_seed(1)) * torch.linspace(1, 3, 28)
    rows = rows_of(rod, Rotation.random(3, np.random.default_rng(0)).matrices, "own")
    found = search_volume(volume, rows, with_index=True)
    side, place = rows.mask.shape[0], (10, 14, 15)
    padded = torch.nn.functional.pad(volume, (side // 2, side) * 3)
    patch = padded[tuple(slice(p, p + side) for p in place)].reshape(-1)[rows.voxels]
    scores = []
    for row, mask in zip(rows.rows, rows.masks, strict=True):
        deviation = ((mask * patch.square()).sum() - (mask * patch).sum() ** 2).sqrt()
        scores.append(float(row @ patch / deviation))
    assert float(found.best[place]) == pytest.approx(max(scores), abs=1e-3)
    assert float(found.mean_square[place]) == pytest.approx(np.mean(np.square(scores)), abs=1e-3)
    assert int(found.index[place]) == int(np.argmax(scores))


def test_mixing_of_turning_masks_equals_the_plain_way_and_tiles_the_whole(rod):
    volume = torch.randn((18, 30, 26), generator=torch.Generator().manual_seed(5)) * torch.linspace(1, 2, 26)
    rows = rows_of(rod, Rotation.random(40, np.random.default_rng(4)).matrices, "ellipsoid")
    plain = search_volume(volume, rows)
    basis = RowBasis.build(rows.rows, part=0.999999)
    exact = search_volume(volume, rows, basis, RowBasis.build(rows.masks, part=0.999999, unit=False))
    torch.testing.assert_close(exact.best, plain.best, atol=2e-2, rtol=ROUNDING)
    torch.testing.assert_close(exact.mean_square, plain.mean_square, atol=2e-2, rtol=ROUNDING)
    few = RowBasis.build(rows.masks, part=0.99, unit=False)
    assert len(few.patterns) < 0.9 * len(rows.rows)
    rough = search_volume(volume, rows, basis, few)
    inside = (slice(6, -6), slice(8, -8), slice(8, -8))
    ratio = rough.best[inside] / plain.best[inside]
    assert float((ratio - 1.0).abs().mean()) < 0.01
    tiled = search_volume(volume, rows, basis, few, tile=(18, 15, 26))
    torch.testing.assert_close(tiled.best, rough.best, atol=2e-2, rtol=ROUNDING)
    some = rows.of(slice(0, 6))
    whole, tiled = search_volume(volume, some), search_volume(volume, some, tile=(18, 15, 26))
    torch.testing.assert_close(tiled.best, whole.best, atol=1e-4, rtol=1e-4)


def test_an_elongated_particle_among_others_scores_better_under_its_own_mask(rod):
    rotation = Rotation.random(1, np.random.default_rng(7)).matrices
    reader = FourierTemplate.build(rod, SIDE)
    copy = reader.rotated(rotation)
    particle = reader.boxes(copy)[0]
    # as in tomograms, noise exceeds the particle's own density
    volume = 0.6 * float(particle.max()) * torch.randn((SIDE + 16,) * 3, generator=torch.Generator().manual_seed(8))
    middle = slice(8, 8 + SIDE)
    volume[middle, middle, middle] += particle
    # something dense side by side with it, as a membrane: inside the ball, outside of the rod
    for sign in (-1.0, 1.0):
        beside = torch.from_numpy(sign * 95.0 / VOXEL * rotation[:, :, 1]).float()
        volume[middle, middle, middle] += 10.0 * reader.boxes(copy, beside)[0]
    place = (8 + SIDE // 2,) * 3
    best = {
        shape: float(search_volume(volume, rows_of(rod, rotation, shape)).best[place])
        for shape in ("ball", "own", "ellipsoid")
    }
    assert best["own"] > 1.2 * best["ball"]
    assert best["ellipsoid"] > 1.1 * best["ball"]


def test_a_given_mask_is_checked(rod):
    good = ellipsoid_mask(rod.density, VOXEL, margin_angstrom=10.0, edge_angstrom=24.0)
    assert with_given_mask(rod, good).mask is not None
    with pytest.raises(ShapeError, match="expected the same"):
        with_given_mask(rod, good[1:])
    with pytest.raises(InputError, match="empty"):
        with_given_mask(rod, torch.zeros_like(good))
    with pytest.raises(InputError, match="of the density of rod; expected at least 50%"):
        with_given_mask(rod, 1.0 - good)
    with pytest.raises(InputError, match="expected 0 to 1"):
        with_given_mask(rod, good - 0.5)


def test_mirror_images_and_other_voxels_keep_the_mask(rod):
    masked = with_search_mask(rod, MatchParams(mask_shape="own"))
    assert masked.mask is not None
    finer = masked.resampled(8.0)
    assert finer.mask is not None
    assert finer.mask.shape == finer.density.shape
    volume, expected = float(finer.mask.sum()) * 8.0**3, float(masked.mask.sum()) * VOXEL**3
    assert volume == pytest.approx(expected, rel=0.05)
    twice = masked.mirrored().mirrored()
    torch.testing.assert_close(twice.mask, masked.mask)
    assert with_search_mask(rod, MatchParams(mask_shape="ball")).mask is None


def test_a_mask_file_comes_with_its_template(rod, tmp_path):
    write_mrc(tmp_path / "rod.mrc", rod.density.numpy(), VOXEL, "float32")
    mask = ellipsoid_mask(rod.density, VOXEL, margin_angstrom=10.0, edge_angstrom=24.0)
    write_mrc(tmp_path / "mask.mrc", mask.numpy(), VOXEL, "float32")
    names = [str(tmp_path / "rod.mrc")], [str(tmp_path / "mask.mrc")]
    (template,) = read_templates(names[0], voxel_size=10.0, masks=names[1])
    assert template.mask is not None
    assert template.mask.shape == template.density.shape
    assert float(template.mask.sum()) * 10.0**3 == pytest.approx(float(mask.sum()) * VOXEL**3, rel=0.05)
    assert read_templates(names[0], voxel_size=10.0)[0].mask is None
    with pytest.raises(InputError, match="2 template masks were given for 1 templates"):
        read_templates(names[0], voxel_size=10.0, masks=names[1] * 2)
