"""Template matching on planted particles."""

import numpy as np
import pytest
import torch

from eucentric.compute.device import products_type
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import Rotation
from eucentric.geometry.so3 import sample_rotations, symmetric_angle_deg
from eucentric.picking.fit_places import Level
from eucentric.picking.masks import ball_mask, check_mask, shape_mask
from eucentric.picking.match_templates import fine_voxel_size, match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.rotated_templates import FourierTemplate, RowBasis, TemplateRows
from eucentric.picking.search_volume import PatternMaps, search_volume
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template, sphere_template, template_from_map
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.simulation.species import procedural_macromolecule

VOXEL = 12.0
PARAMS = MatchParams(coarse_step_deg=18.0, fine_step_deg=4.0, coarse_voxel_angstrom=12.0, most_particles=12)

ROUNDING = torch.finfo(products_type("cpu")).eps  # of scores that are mixed from patterns


@pytest.fixture(scope="module")
def species():
    return procedural_macromolecule(700.0)


def template_of(species, **fields):
    density = species.volume((24, 24, 24), VOXEL)
    return Template(
        name="it",
        density=density,
        voxel_size_angstrom=VOXEL,
        diameter_angstrom=2.0 * species.radius_angstrom,
        **fields,
    )


def planted(species, shape=(32, 72, 72), *, noise=1.0, seed=0):
    """Particles, dark, in white noise as a whole range of tilts shows them; their places in A and their rotations."""
    rng = np.random.default_rng(seed)
    volume = noise * rng.normal(size=shape)
    places = np.array([[-22, -20, 1], [20, -18, -2], [0, 20, 2]]) * VOXEL + rng.uniform(-6, 6, (3, 3))
    rotations = Rotation.random(3, rng).matrices
    scale = float(species.volume((24, 24, 24), VOXEL).std())
    for place, rotation in zip(places, rotations, strict=True):
        whole = np.round(place / VOXEL).astype(int)
        turned = type(species)(
            name="turned",
            mass_kda=species.mass_kda,
            points_angstrom=species.points_angstrom @ rotation.T + (place - whole * VOXEL),
            weights=species.weights,
        )
        box = turned.volume((24, 24, 24), VOXEL).numpy() / scale
        corner = whole[::-1] + np.array(shape) // 2 - 12
        source = tuple(slice(max(0, -c), min(24, n - c)) for c, n in zip(corner, shape, strict=True))
        target = tuple(slice(max(0, c), min(n, c + 24)) for c, n in zip(corner, shape, strict=True))
        volume[target] -= box[source]
    return torch.from_numpy(volume.astype(np.float32)), places, rotations


@pytest.fixture(scope="module")
def found(species):
    volume, places, rotations = planted(species)
    result = match_templates(volume, VOXEL, [template_of(species)], TomogramTransfer.of_wedge(-80, 80), PARAMS)
    return result, places, rotations


@pytest.mark.slow
def test_particles_are_found_where_and_as_they_lie(found):
    result, places, rotations = found
    best = result.positions_angstrom[:3]
    distance = np.linalg.norm(best[:, None] - places, axis=2)
    assert sorted(distance.argmin(1)) == [0, 1, 2]
    assert distance.min(1).max() < 0.5 * VOXEL
    angles = symmetric_angle_deg(result.rotations[:3], rotations[distance.argmin(1)])
    assert np.median(angles) < 4.0
    assert angles.max() < 8.0
    assert result.scores[2] > result.cutoff > 0
    assert len(result.scores) < 4 or result.scores[2] > 1.3 * result.scores[3]


@pytest.mark.slow
def test_the_mirror_image_scores_lower(species, found):
    volume, _, _ = planted(species)
    params = PARAMS.replace(decoys="none")
    mirrored = match_templates(
        volume, VOXEL, [template_of(species).mirrored()], TomogramTransfer.of_wedge(-80, 80), params
    )
    assert mirrored.scores[:3].max() < 0.9 * found[0].scores[:3].min()


def test_noise_alone_gives_no_picks(species):
    volume = torch.randn((24, 48, 48), generator=torch.Generator().manual_seed(2))
    params = PARAMS.replace(coarse_step_deg=25.0)
    result = match_templates(volume, VOXEL, [template_of(species)], TomogramTransfer.of_wedge(-60, 60), params)
    assert not result.kept.any()


def small_search():
    species = procedural_macromolecule(700.0)
    template = template_of(species)
    side = 24
    mask = ball_mask((side,) * 3, VOXEL, 0.5 * template.diameter_angstrom, edge_angstrom=12.0)
    rows = TemplateRows.build(
        FourierTemplate.build(template, side), sample_rotations(40.0), torch.ones(side, side, side // 2 + 1), mask
    )
    volume = torch.randn((21, 40, 33), generator=torch.Generator().manual_seed(0))
    return volume, rows


def test_the_fast_search_equals_one_correlation_for_each_orientation():
    volume, rows = small_search()
    plain = search_volume(volume, rows, with_index=True)
    fast = search_volume(volume, rows, RowBasis.build(rows.rows, part=0.999999), with_index=True)
    torch.testing.assert_close(fast.best, plain.best, atol=2e-2, rtol=ROUNDING)
    torch.testing.assert_close(fast.mean_square, plain.mean_square, atol=2e-2, rtol=ROUNDING)
    assert float((fast.index == plain.index).float().mean()) > 0.98


@pytest.mark.parametrize("limit", [2**30, 0])
def test_a_second_search_reads_what_the_first_one_kept(limit):
    volume, rows = small_search()
    basis = RowBasis.build(rows.rows, part=0.8)
    region = torch.zeros(volume.shape, dtype=torch.bool)
    region[6:20, 4:, 8:25] = True
    near = region & (torch.rand(volume.shape, generator=torch.Generator().manual_seed(1)) > 0.7)
    maps = PatternMaps(limit_bytes=limit)
    few = slice(0, None, 8)
    search_volume(volume, rows.of(few), basis.of(few), region=region, tile=(8, 40, 10), maps=maps)
    assert bool(maps.parts) == (limit > 0)
    again = search_volume(volume, rows, basis, region=near, maps=maps)
    anew = search_volume(volume, rows, basis, region=near)
    torch.testing.assert_close(again.best, anew.best, atol=2e-2, rtol=ROUNDING)
    torch.testing.assert_close(again.mean_square, anew.mean_square, atol=2e-2, rtol=ROUNDING)


@pytest.mark.parametrize("fast", [False, True])
def test_tiles_give_what_the_whole_gives(fast):
    volume, rows = small_search()
    basis = RowBasis.build(rows.rows, part=0.8) if fast else None
    whole = search_volume(volume, rows, basis)
    tiled = search_volume(volume, rows, basis, tile=(21, 16, 20))
    # sums of some 5,000 products in single precision, mixed as the device multiplies fastest
    close = {"atol": 2e-2, "rtol": ROUNDING} if fast else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(tiled.best, whole.best, **close)
    torch.testing.assert_close(tiled.mean_square, whole.mean_square, **close)


def test_scores_are_standard_deviations_in_white_noise():
    _, rows = small_search()
    square = search_volume(torch.randn((40, 60, 60), generator=torch.Generator().manual_seed(4)), rows).mean_square
    middle = square[12:-12, 12:-12, 12:-12]
    assert float(middle.mean()) == pytest.approx(1.0, abs=0.1)


def test_a_rotated_copy_is_the_density_turned(species):
    turn = Rotation.random(1, np.random.default_rng(8)).matrices
    density = species.volume((24, 24, 24), VOXEL, b_factor=4000.0)
    template = Template(name="it", density=density, voxel_size_angstrom=VOXEL, diameter_angstrom=220.0)
    flat = torch.ones(24, 24, 13)
    mask = torch.ones(24, 24, 24)
    rows = TemplateRows.build(FourierTemplate.build(template, 24), turn, flat, mask)
    turned = type(species)(
        name="t", mass_kda=1.0, points_angstrom=species.points_angstrom @ turn[0].T, weights=species.weights
    ).volume((24, 24, 24), VOXEL, b_factor=4000.0)
    got, expected = rows.rows[0], turned.reshape(-1) - turned.mean()
    assert float(got @ expected / expected.norm()) > 0.99


def test_axes_of_symmetry_are_found_wherever_they_lie():
    rng = np.random.default_rng(3)
    from eucentric.geometry.symmetry import symmetry_rotations

    points = rng.normal(size=(40, 3)) * (25.0, 12.0, 30.0) + (55.0, 10.0, 25.0)
    group = symmetry_rotations("D3")
    own = Rotation.random(1, rng).matrices[0]
    every = np.concatenate([points @ g.T for g in group]) @ own.T
    from eucentric.optics.atoms import density_from_points

    density = density_from_points(every, np.full(len(every), 900.0), (40,) * 3, 8.0, b_factor=800.0)
    template = Template(name="d", density=density, voxel_size_angstrom=8.0, diameter_angstrom=240.0, symmetry="D3")
    frame = symmetry_frame(template)
    # the axes are those of the points, up to what leaves the set of all axes as it is
    tilt = np.rad2deg(np.arccos(min(1.0, abs(float(frame[:, 2] @ own[:, 2])))))
    assert tilt < 2.0
    wrong = Template(name="d", density=density, voxel_size_angstrom=8.0, diameter_angstrom=240.0, symmetry="O")
    with pytest.raises(InputError, match="does not have the symmetry O"):
        symmetry_frame(wrong)


def test_a_map_becomes_a_template_in_its_middle(species):
    density = species.volume((48, 48, 48), 8.0)
    moved = torch.roll(density, (3, -2, 4), (0, 1, 2)) + 5.0
    template = template_from_map(moved, name="m", volume_voxel_size=8.0, voxel_size=VOXEL)
    plain = template_from_map(density, name="m", volume_voxel_size=8.0, voxel_size=VOXEL)
    a, b = template.density, plain.density
    assert float((a * b).sum() / (a.norm() * b.norm())) > 0.98
    assert template.diameter_angstrom == pytest.approx(plain.diameter_angstrom, rel=0.1)


def test_bad_templates_are_told(species):
    density = species.volume((36, 36, 36), 8.0)
    with pytest.raises(InputError, match="dark protein"):
        template_from_map(-density, name="m", volume_voxel_size=8.0, voxel_size=VOXEL)
    with pytest.raises(InputError, match="one value only"):
        template_from_map(torch.ones(20, 20, 20), name="m", volume_voxel_size=8.0, voxel_size=VOXEL)
    with pytest.raises(InputError, match="Check its pixel size"):
        template_from_map(density, name="m", volume_voxel_size=0.8, voxel_size=VOXEL)
    with pytest.raises(InputError, match="wide and the tomogram only"):
        match_templates(
            torch.randn(16, 16, 16), VOXEL, [template_of(species)], TomogramTransfer.of_wedge(-60, 60), PARAMS
        )
    with pytest.raises(InputError, match="No voxel is left"):
        match_templates(
            torch.randn(32, 40, 40),
            VOXEL,
            [template_of(species)],
            TomogramTransfer.of_wedge(-60, 60),
            PARAMS,
            region=torch.zeros(32, 40, 40, dtype=torch.bool),
        )
    with pytest.raises(InputError, match="the lower one first"):
        TomogramTransfer.of_wedge(60, -60)


def test_masks_are_checked():
    mask = ball_mask((20, 20, 20), 10.0, (60.0, 40.0, 30.0), edge_angstrom=10.0)
    assert mask[10, 10, 15] == 1.0
    assert mask[15, 10, 10] == 0.0
    with pytest.raises(InputError, match="larger than the box"):
        ball_mask((20, 20, 20), 10.0, 100.0, edge_angstrom=20.0)
    with pytest.raises(InputError, match="empty"):
        check_mask(torch.zeros(8, 8, 8))
    with pytest.raises(InputError, match="expected 0 to 1"):
        check_mask(torch.full((8, 8, 8), 2.0))
    with pytest.raises(ShapeError, match="expected the same"):
        check_mask(mask, (8, 8, 8))
    ball = sphere_template(80.0, voxel_size=10.0)
    own = shape_mask(ball.density, 10.0, margin_angstrom=10.0, edge_angstrom=10.0)
    assert float(own.sum()) > float((ball.density > 0.5).sum())
    with pytest.raises(InputError, match="larger than its box"):
        shape_mask(ball.density, 10.0, margin_angstrom=60.0, edge_angstrom=10.0)


def test_places_are_right_where_refinement_works_on_voxels_that_are_no_cubes():
    shape, voxel, at = (54, 96, 96), 4.0, np.array([60.0, -72.0, 64.0])  # 27 voxels of 8 A are rounded to 28 or 26
    params = MatchParams(coarse_step_deg=30.0, fine_step_deg=20.0, leave_membranes=False, edge_angstrom=0.0)
    template = sphere_template(90.0, voxel_size=voxel)
    assert fine_voxel_size([template], voxel, params) == pytest.approx(8.0)
    grids = np.meshgrid(*[(np.arange(n) - n // 2) * voxel for n in shape], indexing="ij")
    distance = np.sqrt(sum((g - p) ** 2 for g, p in zip(grids, at[::-1], strict=True)))
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(rng.normal(size=shape) - 3.0 / (1.0 + np.exp((distance - 45.0) / 3.0))).float()
    level = Level.build(volume, voxel, 8.0, TomogramTransfer.of_wedge(-80, 80), torch.ones(shape, dtype=torch.bool))
    assert level.spacing[0] != pytest.approx(level.spacing[2], rel=0.03)
    np.testing.assert_allclose(level.from_cubes(level.on_cubes(at[None])), at[None])
    found = match_templates(volume, voxel, [template], TomogramTransfer.of_wedge(-80, 80), params)
    assert np.linalg.norm(found.positions_angstrom[0] - at) < 1.5


@pytest.mark.parametrize("place", [(20, 41, 41), (7, 0, 79)])
def test_a_mask_of_one_voxel_is_still_one_where_the_search_takes_fewer_voxels(place):
    shape, voxel = (41, 80, 80), 4.0
    region = torch.zeros(shape, dtype=torch.bool)
    region[place] = True
    volume = torch.from_numpy(np.random.default_rng(1).normal(size=shape)).float()
    wedge = TomogramTransfer.of_wedge(-60, 60)
    level = Level.build(volume, voxel, 16.0, wedge, region)
    left = level.region.nonzero().numpy()
    assert len(left) == 1
    middle = np.array(level.volume.shape) // 2
    gap = (left[0] - middle) * level.spacing - (np.array(place) - np.array(shape) // 2) * voxel
    assert (np.abs(gap) <= 0.5 * level.spacing + voxel).all()  # the last voxels of a side fall to the last of fewer
    found = match_templates(volume, voxel, [sphere_template(90.0, voxel_size=voxel)], wedge, PARAMS, region=region)
    assert not found.kept.any()
