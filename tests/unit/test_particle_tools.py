"""Tools on tables of particles: laws by hypothesis, and small cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import InputError, ShapeError
from eucentric.evaluation.pick_errors import score_picks
from eucentric.geometry import ImageWarp, Rotation, rotation_y, rotation_z
from eucentric.models import CtfFit, ParticleSet, Specimen, Tilt, TiltPose, TiltSeries
from eucentric.models.particle_matching import (
    MATCH_DISTANCE,
    dedupe_particles,
    intersect_particles,
    match_particles,
    merge_particles,
    subtract_particles,
)
from eucentric.models.particle_projection import project_particles
from eucentric.models.particle_selection import (
    distance_to_mask,
    distance_to_points,
    has_neighbours,
    height_in_specimen,
    in_volume,
)
from eucentric.models.tomogram_frames import TomogramFrame


def crowd(seed: int, n: int, tomograms: int = 2) -> ParticleSet:
    rng = np.random.default_rng(seed)
    return ParticleSet.build(
        [f"T{i}" for i in rng.integers(0, tomograms, n)],
        rng.uniform(-100, 100, (n, 3)),
        scores=np.where(rng.uniform(size=n) < 0.1, np.nan, rng.uniform(size=n)),
        kinds=[f"k{i}" for i in rng.integers(0, 2, n)],
    )


def gaps(a: ParticleSet, b: ParticleSet) -> np.ndarray:
    """All distances, infinite between tomograms."""
    d = np.linalg.norm(a.positions_angstrom[:, None] - b.positions_angstrom[None], axis=-1)
    return np.where(a.tomograms[:, None] == b.tomograms[None], d, np.inf)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 60), distance=st.floats(5, 120))
def test_after_deduping_all_are_apart_and_what_went_had_a_better_neighbour(seed, n, distance):
    whole = crowd(seed, n).with_column("row", np.arange(n))
    kept = dedupe_particles(whole, distance)
    apart = gaps(kept, kept)
    np.fill_diagonal(apart, np.inf)
    assert (apart >= distance).all()
    gone = whole.select(~np.isin(np.arange(n), kept.columns["row"]))
    rank = np.nan_to_num(kept.scores, nan=-1.0)
    for one, near in zip(np.nan_to_num(gone.scores, nan=-1.0), gaps(gone, kept) < distance, strict=True):
        assert rank[near].max() >= one
    again = dedupe_particles(kept, distance)
    assert again.columns["row"].tolist() == kept.columns["row"].tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 40), m=st.integers(0, 40), distance=st.floats(5, 120))
def test_matches_are_one_to_one_near_and_leave_no_pair_unmatched(seed, n, m, distance):
    a, b = crowd(seed, n), crowd(seed + 1, m)
    pairs = match_particles(a, b, distance)
    assert len(set(pairs.first)) == len(set(pairs.second)) == len(pairs.first)
    d = gaps(a, b)
    np.testing.assert_allclose(d[pairs.first, pairs.second], pairs.distances_angstrom)
    assert (pairs.distances_angstrom <= distance).all()
    free_a, free_b = np.delete(np.arange(n), pairs.first), np.delete(np.arange(m), pairs.second)
    assert (d[np.ix_(free_a, free_b)] > distance).all()
    both, rest = intersect_particles(a, b, distance), subtract_particles(a, b, distance)
    assert len(both) + len(rest) == n


def test_what_survives_an_intersection():
    a = ParticleSet.build("t", [[0, 0, 0], [50, 0, 0]], scores=[0.9, 0.1])
    b = ParticleSet.build("t", [[52, 0, 0], [3, 0, 0], [200, 0, 0]], scores=[0.5, 0.5, 0.5])
    assert intersect_particles(a, b, 5).positions_angstrom[:, 0].tolist() == [0, 50]
    assert intersect_particles(a, b, 5, keep="second").positions_angstrom[:, 0].tolist() == [52, 3]
    best = intersect_particles(a, b, 5, keep="best")
    assert best.positions_angstrom[:, 0].tolist() == [0, 52]
    assert best.columns[MATCH_DISTANCE].tolist() == [3, 2]
    assert len(intersect_particles(a, b, 2.5)) == 1
    with pytest.raises(InputError, match="keep"):
        intersect_particles(a, b, 5, keep="all")


def test_merging_by_score_by_order_and_by_kind():
    a = ParticleSet.build("t", [[0, 0, 0]], scores=[0.1], kinds="a")
    b = ParticleSet.build("t", [[1, 0, 0]], scores=[0.9], kinds="b")
    assert len(merge_particles([a, b])) == 2
    assert merge_particles([a, b], 5).kinds.tolist() == ["b"]
    assert merge_particles([a, b], 5, keep="first").kinds.tolist() == ["a"]
    assert len(merge_particles([a, b], 5, same_kind=True)) == 2
    with pytest.raises(InputError, match="positive"):
        merge_particles([a, b], 0.0)
    with pytest.raises(InputError, match="best"):
        dedupe_particles(a, 5, keep="worst")


FRAME = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(20, 16, 12))


def test_a_mask_selects_by_the_nearest_voxel():
    mask = np.zeros((12, 16, 20))
    mask[6, 8, 10] = 1  # the centre
    places = np.array([[4.0, -4.0, 4.0], [6.0, 0.0, 0.0], [1e4, 0.0, 0.0]])
    assert in_volume(places, mask, FRAME).tolist() == [True, False, False]
    with pytest.raises(ShapeError):
        in_volume(places, mask.T, FRAME)


def test_distance_to_the_border_of_a_slab():
    """A region of x >= voxel 12 has its border at voxel 11.5, which is 15 A from the centre."""
    mask = np.zeros((12, 16, 20))
    mask[:, :, 12:] = 1
    x = np.array([-60.0, 10.0, 20.0, 70.0, 190.0])
    places = np.stack([x, 0 * x, 0 * x], axis=1)
    np.testing.assert_allclose(distance_to_mask(places, mask, FRAME)[:4], 15.0 - x[:4], atol=1e-4)
    assert distance_to_points(places, places[:1])[1] == 70.0
    for wrong in (np.zeros_like(mask), np.ones_like(mask)):
        with pytest.raises(InputError, match="border"):
            distance_to_mask(places, wrong, FRAME)


def test_height_above_an_inclined_specimen():
    specimen = Specimen(thickness_angstrom=1000.0, y_tilt_deg=30.0, z_angstrom=40.0)
    normal = rotation_y(30.0) @ [0, 0, 1.0]
    in_plane = rotation_y(30.0) @ [5.0, 7.0, 0]
    points = np.stack([[0, 0, 40] + 12.0 * normal + in_plane, [0, 0, 40] - 3.0 * normal])
    np.testing.assert_allclose(height_in_specimen(points, specimen), [12.0, -3.0], atol=1e-9)


def test_neighbours_of_a_lattice_are_counted_with_their_directions():
    x, y = np.meshgrid(np.arange(5) * 10.0, np.arange(5) * 10.0)
    lattice = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    whole = ParticleSet.build("t", np.concatenate([lattice, [[300.0, 0, 0]]]))
    assert has_neighbours(whole, 11.0, 4).sum() == 9
    assert has_neighbours(whole, 11.0, 2).sum() == 25
    turned = np.broadcast_to(np.eye(3), (26, 3, 3)).copy()
    turned[12] = rotation_y(40.0)
    assert has_neighbours(whole.with_rotations(turned), 11.0, 4, max_angle_deg=30).sum() == 4
    with pytest.raises(InputError):
        has_neighbours(whole, 0.0, 1)


def series() -> TiltSeries:
    tilts = [
        Tilt(
            nominal_tilt_deg=a,
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=a, z_rot_deg=0.0, x_shift_angstrom=5.0),
            ctf=CtfFit(defocus_u_angstrom=30000.0, defocus_v_angstrom=29000.0),
        )
        for i, a in enumerate((-30.0, 0.0, 90.0))
    ]
    return TiltSeries(name="t", pixel_size_angstrom=2.0, image_shape=(80, 100), tilts=tuple(tilts))


def test_particles_in_tilt_images():
    seen = project_particles(np.array([[10.0, 4.0, 20.0]]), series())
    np.testing.assert_allclose(seen.pixels[1, 0], [50 + 7.5, 40 + 2])
    np.testing.assert_allclose(seen.pixels[2, 0], [50 + 12.5, 42], atol=1e-9)  # Ry takes z to x
    np.testing.assert_allclose(
        seen.defocus_u_angstrom[:, 0], 30000.0 - np.array([10 * 0.5 + 20 * np.cos(np.pi / 6), 20, -10])
    )
    assert seen.tilts_seen.tolist() == [3]
    bent = ImageWarp.build(np.full((3, 1, 1, 2), [6.0, -2.0]), (80, 100), 2.0)
    np.testing.assert_allclose(
        project_particles(np.array([[10.0, 4.0, 20.0]]), series(), bent).pixels - seen.pixels, [[[3.0, -1.0]]] * 3
    )


def test_visibility_ends_at_the_edge_less_the_margin():
    edge = (np.array([99.5, 40.0]) - [50, 40]) * 2.0 - [5.0, 0.0]
    places = np.array([[edge[0] - 0.1, 0, 0], [edge[0] + 0.1, 0, 0]])
    assert project_particles(places, series()).visible[1].tolist() == [True, False]
    assert project_particles(places, series(), margin_angstrom=1.0).visible[1].tolist() == [False, False]


def test_scores_of_picks_worked_out_by_hand():
    truth = ParticleSet.build("t", [[0, 0, 0], [100, 0, 0], [200, 0, 0], [300, 0, 0]], kinds=["a", "a", "b", "b"])
    picks = ParticleSet.build(
        ["t", "t", "t", "t", "elsewhere"],
        [[3, 0, 0], [104, 0, 0], [200, 0, 0], [900, 0, 0], [0, 0, 0]],
        kinds=["a", "b", "b", "b", "a"],
    )
    a, b, every = score_picks(picks, truth, 10.0)
    assert (a.precision, a.recall, a.truths) == (1.0, 0.5, 2)
    assert (b.precision, b.recall) == (1 / 3, 0.5)
    assert (every.matched, every.picks, every.f1) == (2, 4, 0.5)
    assert np.isnan(every.median_angle_deg)
    (any_kind,) = score_picks(picks, truth, 10.0, by_kind=False)
    assert any_kind.matched == 3
    assert any_kind.position_rms_angstrom == pytest.approx(np.sqrt((9 + 16) / 3))
    only = score_picks(picks, truth, 10.0, required=np.array([False, True, True, True]))[-1]
    assert (only.matched, only.picks, only.truths) == (1, 3, 3)
    nothing = score_picks(ParticleSet.empty(), truth, 10.0)[-1]
    assert nothing.f1 == 0.0
    assert np.isnan(nothing.precision)


def test_angles_are_judged_with_the_symmetry_of_the_particle():
    true = Rotation.random(20, np.random.default_rng(1)).matrices
    truth = ParticleSet.build("t", np.arange(60.0).reshape(20, 3) * 100, rotations=true, kinds="c4")
    picks = truth.with_rotations(true @ rotation_z(93.0))
    group = rotation_z(90.0 * np.arange(4))
    assert score_picks(picks, truth, 5.0, symmetries={"c4": group})[0].median_angle_deg == pytest.approx(3.0)
    assert score_picks(picks, truth, 5.0)[0].median_angle_deg == pytest.approx(93.0)
