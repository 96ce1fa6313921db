"""Surfaces of labels and what they measure: on balls, tubes, rings, saddles and sheets whose answers are formulas."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from skimage.measure import marching_cubes as other_marching_cubes

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry import (
    Surface,
    bending,
    contact_sites,
    decimate_surface,
    enclosed_volume,
    facing,
    fit_ball,
    is_closed,
    label_surface,
    label_surfaces,
    level_surface,
    marching_cubes,
    membrane_thickness,
    middle_surface,
    nearest_places,
    particle_distance_table,
    smooth_surface,
    spaced_points,
    split_pieces,
    surface_area,
    surface_curvatures,
    surface_distance_table,
    surface_table,
    vertex_distances,
    vertex_normals,
    vertex_table,
)
from eucentric.segmentation.geometry.measures import contact_table
from eucentric.segmentation.geometry.surfaces import edges_of, joined, vertex_areas

VOXEL = 8.0


def grid(z: int, y: int, x: int) -> tuple[np.ndarray, ...]:
    """z, y, x of each voxel from voxel n // 2."""
    return tuple(a - n // 2 for a, n in zip(np.mgrid[:z, :y, :x], (z, y, x), strict=True))


def ball_labels(radius: float, size: int, centre=(0.3, -0.2, 0.1)) -> np.ndarray:
    z, y, x = grid(size, size, size)
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2


@pytest.fixture(scope="module")
def ball() -> Surface:
    """Of radius 20 voxels."""
    return label_surface(ball_labels(20.0, 50), VOXEL)


def test_marching_cubes_closes_any_volume_and_agrees_with_another_program():
    rng = np.random.default_rng(1)
    noise = np.full((14, 15, 16), -9.0)
    noise[1:-1, 1:-1, 1:-1] = rng.normal(size=(12, 13, 14))  # every case of a cell occurs
    rough = Surface.of(*marching_cubes(noise, 0.0))
    assert is_closed(rough)
    assert (edges_of(rough.faces)[1] == 2).all()
    assert enclosed_volume(rough) > 0
    smooth = np.pad(gaussian_filter(rng.normal(size=(24, 25, 26)), 2.0), 1, constant_values=-1.0)
    ours = Surface.of(*marching_cubes(smooth, 0.01))
    vertices, faces, _, _ = other_marching_cubes(smooth, 0.01)
    theirs = Surface.of(vertices[:, ::-1], faces)
    # the two cut saddles differently
    assert surface_area(ours) == pytest.approx(surface_area(theirs), rel=5e-3)
    assert enclosed_volume(ours) == pytest.approx(abs(enclosed_volume(theirs)), rel=5e-3)


@pytest.mark.parametrize("radius", [10.0, 20.0])
def test_a_ball_has_the_area_volume_and_place_of_one(radius):
    centre = np.array([2.3, -1.2, 0.4])
    surface = label_surface(ball_labels(radius, int(2 * radius) + 11, centre), VOXEL)
    assert is_closed(surface)
    r = radius * VOXEL
    assert surface_area(surface) == pytest.approx(4 * np.pi * r**2, rel=0.01)
    assert enclosed_volume(surface) == pytest.approx(4 / 3 * np.pi * r**3, rel=0.01)
    found, fitted, misfit = fit_ball(surface)
    np.testing.assert_allclose(found, centre * VOXEL, atol=0.05 * VOXEL)
    assert fitted == pytest.approx(r, rel=0.005)
    assert misfit < 0.15 * VOXEL
    away = surface.vertices_angstrom - centre * VOXEL
    assert (np.einsum("ni,ni->n", vertex_normals(surface), away) > 0).all()


def test_the_surface_of_a_score_lies_where_its_values_say():
    z, y, x = grid(40, 42, 44)
    distance = np.sqrt((x - 0.2) ** 2 + y**2 + z**2)
    surface = level_surface(15.0 - distance, VOXEL, 1.5)
    gap = np.linalg.norm(surface.vertices_angstrom - [0.2 * VOXEL, 0, 0], axis=1)
    np.testing.assert_allclose(gap, 13.5 * VOXEL, atol=0.02 * VOXEL)
    assert enclosed_volume(surface) > 0


def test_labels_at_the_faces_of_the_volume_stay_open_unless_asked_for():
    labels = np.zeros((20, 24, 24), dtype=np.uint8)
    labels[:8, 6:18, 6:18] = 3
    open_, shut = (label_surface(labels, VOXEL, label=3, close_at_faces=c) for c in (False, True))
    assert not is_closed(open_)
    assert is_closed(shut)
    assert np.isnan(enclosed_volume(open_))
    assert enclosed_volume(shut) == pytest.approx(8 * 144 * VOXEL**3, rel=0.06)  # corners are rounded
    # a sheet through the whole volume: its two faces
    z, _, _ = grid(20, 24, 24)
    sheet = label_surface(np.abs(z) < 3, VOXEL)
    assert surface_area(sheet) == pytest.approx(2 * (23 * VOXEL) ** 2, rel=2e-3)  # corners of the rim give a little
    assert len(split_pieces(sheet)) == 2


def test_every_label_has_its_surface_where_it_would_be_alone():
    labels = np.zeros((30, 40, 50), dtype=np.int16)
    z, y, x = grid(30, 40, 50)
    labels[(x + 10) ** 2 + y**2 + z**2 < 64] = 2
    labels[(x - 12) ** 2 + (y - 3) ** 2 + z**2 < 36] = 5
    labels[0, 0, 0] = 7  # dust
    found = label_surfaces(labels, VOXEL)
    assert list(found) == [2, 5]
    for label, surface in found.items():
        alone = label_surface(labels, VOXEL, label=label)
        np.testing.assert_allclose(surface.vertices_angstrom, alone.vertices_angstrom, atol=1e-9)
        np.testing.assert_array_equal(surface.faces, alone.faces)


def test_smoothing_moves_no_plane_and_keeps_rims_and_decimation_keeps_shape(ball):
    z, _, _ = grid(12, 14, 16)
    flat = level_surface(-z.astype(np.float64), VOXEL, -0.25)
    smooth = smooth_surface(flat, 15)
    np.testing.assert_allclose(smooth.vertices_angstrom[:, 2], 0.25 * VOXEL, atol=1e-9)
    assert surface_area(smooth) == pytest.approx(surface_area(flat), rel=0.01)
    for surface, rel in ((ball, 0.01), (smooth, 0.01)):
        fewer = decimate_surface(surface, len(surface.faces) // 8)
        assert len(fewer.faces) < 0.14 * len(surface.faces)
        assert is_closed(fewer) == is_closed(surface)
        assert surface_area(fewer) == pytest.approx(surface_area(surface), rel=rel)
    assert enclosed_volume(decimate_surface(ball, 2000)) == pytest.approx(enclosed_volume(ball), rel=0.01)


@pytest.mark.parametrize("radius", [12.0, 22.0])
def test_the_middle_of_a_shell_is_found_to_a_tenth_of_a_voxel_and_closed(radius):
    size = int(2 * radius) + 16
    z, y, x = grid(size, size, size)
    shell = np.abs(np.sqrt((x - 0.3) ** 2 + (y + 0.2) ** 2 + z**2) - radius) < 2.4
    surface = middle_surface(shell, VOXEL)
    assert is_closed(surface)
    gap = np.linalg.norm(surface.vertices_angstrom - np.array([0.3, -0.2, 0.0]) * VOXEL, axis=1) / VOXEL
    assert abs(gap.mean() - radius) < 0.05
    assert gap.std() < 0.1
    assert surface_area(surface) == pytest.approx(4 * np.pi * (radius * VOXEL) ** 2, rel=0.01)
    # of an open shell only the part that is there
    part = middle_surface(shell & (z < 0.5 * radius), VOXEL)
    assert not is_closed(part)
    assert surface_area(part) == pytest.approx(3 * np.pi * (radius * VOXEL) ** 2, rel=0.06)
    assert np.mean(np.einsum("ni,ni->n", vertex_normals(part), part.vertices_angstrom) > 0) > 0.97
    # and of a score without any threshold of its own
    score = np.exp(-0.5 * ((np.sqrt((x - 0.3) ** 2 + (y + 0.2) ** 2 + z**2) - radius) / 1.5) ** 2)
    by_score = middle_surface(score > 0.3, VOXEL, score=score)
    assert fit_ball(by_score)[1] / VOXEL == pytest.approx(radius, abs=0.2)


def test_a_disc_keeps_its_rim():
    z, y, x = grid(24, 70, 70)
    surface = middle_surface((np.abs(z) < 2.5) & (np.hypot(x, y) < 28), VOXEL)
    assert np.abs(surface.vertices_angstrom[:, 2]).max() < 0.1 * VOXEL
    assert surface_area(surface) == pytest.approx(np.pi * (28 * VOXEL) ** 2, rel=0.03)


def test_curvatures_of_ball_tube_ring_and_saddle():
    def middle(values: np.ndarray, use: np.ndarray) -> float:
        assert np.isfinite(values[use]).all()
        return float(np.average(values[use]))

    ball = label_surface(ball_labels(24.0, 58), VOXEL)
    found = surface_curvatures(ball, 10.0 * VOXEL)
    every = np.ones(len(ball.vertices_angstrom), dtype=bool)
    r = 24 * VOXEL
    assert middle(found.mean_per_angstrom, every) * r == pytest.approx(1.0, abs=0.02)
    assert middle(found.gaussian_per_angstrom2, every) * r**2 == pytest.approx(1.0, abs=0.02)
    assert np.quantile(np.abs(found.mean_per_angstrom * r - 1.0), 0.68) < 0.05
    assert bending(ball, found) == pytest.approx(8 * np.pi, rel=0.05)
    # inside out the signs of the curvatures turn
    inside = surface_curvatures(ball.turned_over(), 10.0 * VOXEL)
    np.testing.assert_allclose(inside.mean_per_angstrom, -found.mean_per_angstrom, atol=1e-3 / r)

    z, y, x = grid(44, 44, 40)
    tube = level_surface(15.0 - np.hypot(y - 0.2, z), VOXEL, 0.0)
    found = surface_curvatures(tube, 6.0 * VOXEL)
    inner = np.abs(tube.vertices_angstrom[:, 0]) < 12 * VOXEL
    assert middle(found.principal_1_per_angstrom, inner) * 15 * VOXEL == pytest.approx(1.0, abs=0.02)
    assert np.abs(found.principal_2_per_angstrom[inner]).max() * 15 * VOXEL < 0.03
    assert np.abs(found.direction_1[inner, 0]).max() < 0.05

    z, y, x = grid(34, 88, 88)
    around = np.hypot(x, y) - 28.0
    ring = level_surface(12.0 - np.hypot(around, z), VOXEL, 0.0)
    found = surface_curvatures(ring, 5.0 * VOXEL)
    v = ring.vertices_angstrom / VOXEL
    angle = np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]) - 28.0)
    true = np.cos(angle) / (28.0 + 12.0 * np.cos(angle))
    np.testing.assert_allclose(found.principal_2_per_angstrom * VOXEL, true, atol=0.05 / 12)
    np.testing.assert_allclose(found.principal_1_per_angstrom * VOXEL, 1 / 12, rtol=0.05)
    # Gauss and Bonnet: the integral over a ring is 0, in units of that over a ball
    total = vertex_areas(ring) @ found.gaussian_per_angstrom2 / (4 * np.pi)
    assert abs(total) < 0.01
    assert surface_table({1: ring})["handles"].tolist() == [1]

    z, y, x = grid(40, 48, 48)
    saddle = level_surface((x**2 - y**2) / (2 * 25.0) - z, VOXEL, 0.0)
    found = surface_curvatures(saddle, 6.0 * VOXEL)
    near = np.linalg.norm(saddle.vertices_angstrom, axis=1) < 3 * VOXEL
    assert near.sum() > 20
    assert middle(found.mean_per_angstrom, near) * 25 * VOXEL == pytest.approx(0.0, abs=0.03)
    assert middle(found.gaussian_per_angstrom2, near) * (25 * VOXEL) ** 2 == pytest.approx(-1.0, abs=0.06)


def test_curvature_is_right_to_5_percent_on_a_noisy_surface(ball):
    rng = np.random.default_rng(3)
    noisy = ball.moved(ball.vertices_angstrom + 0.3 * VOXEL * rng.normal(size=ball.vertices_angstrom.shape))
    found = surface_curvatures(noisy, 10.0 * VOXEL).mean_per_angstrom * 20 * VOXEL
    assert np.mean(found) == pytest.approx(1.0, abs=0.02)
    assert np.quantile(np.abs(found - 1.0), 0.68) < 0.05


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.3, 3.0))
def test_motion_leaves_measures_and_size_scales_them(ball, seed, scale):
    rng = np.random.default_rng(seed)
    turn, move = Rotation.random(random_state=seed), rng.normal(0, 1000, 3)
    small = decimate_surface(ball, 1500)
    moved = small.moved(scale * turn.apply(small.vertices_angstrom) + move)
    assert surface_area(moved) == pytest.approx(scale**2 * surface_area(small), rel=1e-9)
    assert enclosed_volume(moved) == pytest.approx(scale**3 * enclosed_volume(small), rel=1e-9)
    places = rng.normal(0, 150, (20, 3))
    before = nearest_places(small, places)
    after = nearest_places(moved, scale * turn.apply(places) + move)
    np.testing.assert_allclose(after.signed_angstrom, scale * before.signed_angstrom, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(fit_ball(moved)[1], scale * fit_ball(small)[1], rtol=1e-7)
    np.testing.assert_allclose(
        bending(moved, surface_curvatures(moved, 80.0 * scale)),
        bending(small, surface_curvatures(small, 80.0)),
        rtol=0.05,
    )  # the cubes of the average lie otherwise


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_nearest_place_is_nearer_than_any_point_of_the_surface(ball, seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-250, 250, (15, 3))
    found = nearest_places(ball, places)
    share = rng.dirichlet([1, 1, 1], len(ball.faces))
    points = np.einsum("nk,nki->ni", share, ball.vertices_angstrom[ball.faces])
    other = np.linalg.norm(points[None] - places[:, None], axis=2).min(axis=1)
    assert (found.distance_angstrom <= other + 1e-9).all()
    assert (other - found.distance_angstrom < VOXEL).all()
    np.testing.assert_allclose(np.linalg.norm(places - found.positions_angstrom, axis=1), found.distance_angstrom)
    out = np.linalg.norm(places - np.array([0.3, -0.2, 0.1]) * VOXEL, axis=1) - 20 * VOXEL
    np.testing.assert_allclose(found.signed_angstrom, out, atol=0.4 * VOXEL)


def test_points_for_picking_are_even_and_face_outwards(ball):
    found = spaced_points(ball, 40.0, np.random.default_rng(0), offset_angstrom=12.0)
    centre = np.array([0.3, -0.2, 0.1]) * VOXEL
    away = found.positions_angstrom - centre
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), 20 * VOXEL + 12, atol=0.6 * VOXEL)
    assert (np.einsum("ni,ni->n", found.normals, away / np.linalg.norm(away, axis=1, keepdims=True)) > 0.95).all()
    flat = found.positions_angstrom - 12.0 * found.normals
    gap = np.linalg.norm(flat[None] - flat[:, None], axis=2) + 1e9 * np.eye(len(flat))
    assert gap.min() >= 40.0 * (1 - 1e-6)
    assert np.median(gap.min(axis=1)) < 60.0


def test_open_sheets_face_the_side_that_is_asked_for():
    z, _, _ = grid(12, 30, 30)
    sheet = level_surface(-z.astype(np.float64), VOXEL, 0.25)
    for toward, sign in (([0, 0, 1], 1), ([0, 0, -1], -1)):
        turned = facing(sheet, toward_direction=toward)
        assert (np.sign(vertex_normals(turned)[:, 2]) == sign).all()
        turned = facing(sheet, toward_point=500.0 * np.array(toward))
        assert (np.sign(vertex_normals(turned)[:, 2]) == sign).all()
    # a closed one faces outwards whatever is asked for
    closed = label_surface(ball_labels(8.0, 24), VOXEL)
    assert enclosed_volume(facing(closed.turned_over(), toward_direction=[0, 0, 1])) > 0
    # the inner wall of a shell stays turned into the lumen
    shell = label_surface(ball_labels(12.0, 32) & ~ball_labels(8.0, 32), VOXEL)
    whole = enclosed_volume(facing(shell.turned_over()))
    assert whole == pytest.approx(4 / 3 * np.pi * (12**3 - 8**3) * VOXEL**3, rel=0.02)
    with pytest.raises(InputError):
        facing(sheet, toward_point=[0, 0, 1], toward_direction=[0, 0, 1])


@pytest.mark.parametrize(("thick", "width", "noise"), [(40.0, 10.0, 0.0), (40.0, 10.0, 0.4), (32.0, 12.0, 0.2)])
def test_thickness_is_found_finer_than_a_voxel(thick, width, noise):
    z, y, x = grid(68, 68, 68)
    r = np.sqrt((x - 0.3) ** 2 + y**2 + z**2) * VOXEL
    radius = 24 * VOXEL
    matter = np.exp(-0.5 * ((r - radius - thick / 2) / width) ** 2) + np.exp(
        -0.5 * ((r - radius + thick / 2) / width) ** 2
    )
    volume = 3.0 - matter + noise * np.random.default_rng(0).normal(size=r.shape)
    surface = middle_surface(np.abs(r - radius) < 20.0, VOXEL)
    found = membrane_thickness(volume, VOXEL, surface, radius_angstrom=90.0)
    good = np.isfinite(found.thickness_angstrom)
    assert good.mean() > 0.95
    assert np.mean(found.thickness_angstrom[good]) == pytest.approx(
        thick, abs=0.6
    )  # linear reading blurs by a fifth of a voxel
    # and the stated error is of the size of the true one
    if noise:
        spread = np.std(found.thickness_angstrom[good])
        assert 0.4 * spread < np.median(found.sigma_angstrom[good]) < 2.5 * spread
    np.testing.assert_allclose(np.nanmean(found.leaflet_ratio), 1.0, atol=0.1)
    bright = membrane_thickness(-volume, VOXEL, surface, radius_angstrom=90.0, dark=False)
    np.testing.assert_allclose(bright.thickness_angstrom, found.thickness_angstrom, atol=1e-2)


def test_leaflets_that_data_do_not_tell_apart_have_no_thickness():
    z = grid(30, 40, 40)[0]
    one = np.exp(-0.5 * (z * VOXEL / 20.0) ** 2)  # one peak
    surface = level_surface(-z.astype(np.float64), VOXEL, 0.2)
    found = membrane_thickness(-one, VOXEL, surface, radius_angstrom=100.0)
    assert np.isnan(found.thickness_angstrom).all()
    noise = np.random.default_rng(1).normal(size=one.shape)
    assert np.isfinite(membrane_thickness(noise, VOXEL, surface, radius_angstrom=60.0).thickness_angstrom).mean() < 0.2
    with pytest.raises(InputError, match="no contrast"):
        membrane_thickness(np.ones_like(one), VOXEL, surface, radius_angstrom=100.0)


def test_contact_of_two_balls_is_the_cap_that_geometry_says():
    z, y, x = grid(60, 60, 60)
    apart, radius = 26.0, 12.0
    balls = [level_surface(radius - np.sqrt((x - s * apart / 2) ** 2 + y**2 + z**2), VOXEL, 0.0) for s in (-1, 1)]
    limit = 4.0
    found = contact_sites(balls[0], balls[1], limit * VOXEL)
    # points of a ball nearer than radius + limit to the other's centre: a cap
    cosine = (apart**2 + radius**2 - (radius + limit) ** 2) / (2 * apart * radius)
    assert found.area_angstrom2 == pytest.approx([2 * np.pi * radius**2 * (1 - cosine) * VOXEL**2], rel=0.02)
    assert found.least_distance_angstrom == pytest.approx([(apart - 2 * radius) * VOXEL], rel=0.02)
    np.testing.assert_allclose(found.centres_angstrom[0, 1:], 0.0, atol=0.1 * VOXEL)
    table = contact_table({1: balls[0], 4: balls[1]}, limit * VOXEL)
    assert table["label"].tolist() == [1, 4]
    assert table["other_label"].tolist() == [4, 1]
    np.testing.assert_allclose(table["area_angstrom2"][0], table["area_angstrom2"][1], rtol=0.01)
    assert len(contact_sites(balls[0], balls[1], 1.0 * VOXEL).area_angstrom2) == 0
    gaps = surface_distance_table({1: balls[0], 4: balls[1]})
    np.testing.assert_allclose(gaps["least_distance_angstrom"], 2 * VOXEL, rtol=0.02)
    np.testing.assert_allclose(gaps["greatest_distance_angstrom"], 26 * VOXEL, rtol=0.01)
    # two balls beside one make two sites
    third = joined([balls[1], balls[1].moved(balls[1].vertices_angstrom * [-1, 1, 1] - [apart * VOXEL, 0, 0])])
    assert len(contact_sites(balls[0], third, limit * VOXEL).area_angstrom2) == 2


def test_tables_have_units_in_their_names_and_fit_csv(ball):
    open_ = level_surface(-grid(8, 12, 12)[0].astype(np.float64), VOXEL, 0.2)
    table = surface_table({3: ball, 9: open_}, curvature_radius_angstrom=80.0)
    assert all(len(c) == 2 for c in table.values())
    assert table["label"].tolist() == [3, 9]
    assert table["closed"].tolist() == [1, 0]
    assert np.isnan(table["enclosed_volume_angstrom3"][1])
    assert table["sphericity"][0] == pytest.approx(1.0, abs=0.01)
    assert table["equivalent_radius_angstrom"][0] == pytest.approx(160.0, rel=0.005)
    assert table["mean_curvature_per_angstrom"][0] == pytest.approx(1 / 160.0, rel=0.03)
    assert table["bending_energy_over_rigidity"][0] == pytest.approx(8 * np.pi, rel=0.06)
    rows = vertex_table(ball, curvatures=surface_curvatures(ball, 80.0), gap_angstrom=vertex_distances(ball, open_))
    assert {len(c) for c in rows.values()} == {len(ball.vertices_angstrom)}
    with pytest.raises(InputError, match="gap"):
        vertex_table(ball, gap=np.zeros(3))
    centre = np.array([0.3, -0.2, 0.1]) * VOXEL
    near = particle_distance_table(
        {3: ball}, centre + np.array([[200.0, 0, 0], [0, -100.0, 0]]), [[1, 0, 0], [1, 0, 0]]
    )
    np.testing.assert_allclose(near["signed_distance_angstrom"], [40.0, -60.0], atol=3.0)
    np.testing.assert_allclose(near["angle_to_normal_deg"], [0.0, 90.0], atol=12.0)


@pytest.mark.parametrize(("labels", "words"), [
    (np.zeros((8, 8, 8), dtype=np.uint8), "empty"),
    (np.ones((8, 8, 8), dtype=np.uint8), "fills the whole"),
    (np.pad(np.ones((1, 1, 1), dtype=np.uint8), 4), "1 voxel;"),
])  # fmt: skip
def test_labels_without_a_surface_are_named(labels, words):
    with pytest.raises(InputError, match=words):
        label_surface(labels, VOXEL)
    if words != "1 voxel;":
        with pytest.raises(InputError, match="no sheet"):
            middle_surface(labels > 0, VOXEL)
    assert words == "fills the whole" or label_surfaces(labels, VOXEL) == {}


@pytest.mark.parametrize("voxel", [None, 0.0, -2.0, np.nan])
def test_a_missing_pixel_size_is_named(voxel):
    labels = ball_labels(4.0, 12)
    for call in (
        lambda: label_surface(labels, voxel),
        lambda: level_surface(labels.astype(float), voxel, 0.5),
        lambda: middle_surface(labels, voxel),
        lambda: label_surfaces(labels.astype(np.uint8), voxel),
    ):
        with pytest.raises(InputError, match="voxel size"):
            call()


def test_wrong_shapes_and_values_are_named(ball):
    with pytest.raises(ShapeError):
        label_surface(np.zeros((4, 4), dtype=np.uint8), VOXEL)
    with pytest.raises(InputError, match="whole numbers"):
        label_surface(np.zeros((4, 4, 4), dtype=np.float32), VOXEL)
    with pytest.raises(InputError, match="level"):
        level_surface(np.random.default_rng(0).normal(size=(6, 6, 6)), VOXEL, 99.0)
    with pytest.raises(InputError, match="NaN"):
        level_surface(np.where(np.eye(6)[None] > 0, np.nan, np.zeros((6, 6, 6))), VOXEL, 0.5)
    with pytest.raises(ShapeError):
        Surface.of(np.zeros((3, 3)), [[0, 1, 7]])
    empty = Surface.of(np.zeros((0, 3)), np.zeros((0, 3)))
    for call in (
        lambda: nearest_places(empty, np.zeros((1, 3))),
        lambda: surface_curvatures(empty, 10.0),
        lambda: spaced_points(empty, 10.0, np.random.default_rng(0)),
        lambda: surface_curvatures(ball, -1.0),
        lambda: spaced_points(ball, 0.0, np.random.default_rng(0)),
        lambda: spaced_points(ball, 1e-3, np.random.default_rng(0)),
        lambda: contact_sites(ball, ball, 0.0),
        lambda: nearest_places(ball, np.full((1, 3), np.nan)),
    ):
        with pytest.raises(InputError):
            call()


def test_radii_of_the_practice_vesicles_come_out_of_their_labels(shared_data):
    truth = json.loads((shared_data / "practice" / "TS_01_truth.json").read_text())
    size, voxel = (88, 184, 184), 16.0
    z, y, x = (a * voxel for a in grid(*size))
    labels = np.zeros(size, dtype=np.uint8)
    for number, (centre, radius) in enumerate(truth["vesicles"], start=1):
        far = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        labels[np.abs(far - radius) < 36.0] = number
    for number, (centre, radius) in enumerate(truth["vesicles"], start=1):
        surface = middle_surface(labels == number, voxel)
        found, fitted, _ = fit_ball(surface)
        assert fitted == pytest.approx(radius, rel=0.003)
        np.testing.assert_allclose(found, centre, atol=1.0)
