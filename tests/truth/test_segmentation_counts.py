"""Objects per parent and spatial statistics: right counts, right p-values, chance told from order."""

import numpy as np
import pytest
from scipy.stats import kstest, poisson

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry import (
    MaskRegion,
    SurfaceRegion,
    assign_parents,
    level_surface,
    nearest_neighbour_statistics,
    pair_statistics,
    ripley_table,
    spaced_points,
    stoichiometry_table,
)
from eucentric.segmentation.geometry.count_objects import poisson_interval

VOXEL = 10.0
BOX = MaskRegion(mask=np.ones((30, 40, 40), dtype=bool), voxel_size_angstrom=VOXEL)


@pytest.fixture(scope="module")
def virions():
    """Two balls of 100 A, 260 A apart."""
    z, y, x = (a - n // 2 for a, n in zip(np.mgrid[:30, :30, :60], (30, 30, 60), strict=True))
    return {
        k: level_surface(10.0 - np.sqrt((x - s * 13.0) ** 2 + y**2 + z**2), VOXEL, 0.0) for k, s in ((2, -1), (5, 1))
    }


def test_spikes_are_counted_on_their_virion(virions):
    rng = np.random.default_rng(0)
    spikes = [spaced_points(v, 60.0, rng, offset_angstrom=20.0).positions_angstrom for v in virions.values()]
    lost = np.array([[0.0, 140.0, 140.0]])
    inside = np.array([[-130.0, 0.0, 75.0]])
    found = assign_parents(np.concatenate([*spikes, lost, inside]), virions, 30.0)
    assert found.labels.tolist() == [2] * len(spikes[0]) + [5] * len(spikes[1]) + [0, 2]
    np.testing.assert_allclose(found.distance_angstrom[: len(spikes[0])], 20.0, atol=0.5)
    assert found.distance_angstrom[-1] == pytest.approx(-25.0, abs=0.5)
    outside = assign_parents(inside, virions, 30.0, outside_only=True)
    assert outside.labels.tolist() == [0]
    # between the two either could claim it
    middle = assign_parents([[-5.0, 0.0, 0.0]], virions, 40.0)
    assert middle.labels.tolist() == [2]
    assert middle.doubtful.tolist() == [True]
    kinds = ["spike"] * (len(found.labels) - 1) + ["core"]
    table = stoichiometry_table(found, virions, kinds=kinds)
    assert list(zip(table["label"].tolist(), table["kind"].tolist(), table["count"].tolist(), strict=True)) == [
        (2, "core", 1), (2, "spike", len(spikes[0])), (5, "core", 0), (5, "spike", len(spikes[1])),
    ]  # fmt: skip
    np.testing.assert_allclose(table["density_per_angstrom2"] * 4 * np.pi * 1e4, table["count"], rtol=0.01)
    assert (table["count_low"] <= table["count"]).all()
    assert (table["count_high"] > table["count"]).all()


@pytest.mark.parametrize("mean", [0.7, 4.0, 20.0])
def test_intervals_hold_the_mean_as_often_as_they_say(mean):
    low, high = poisson_interval(np.arange(200), 0.9)
    inside = (low <= mean) & (mean <= high)
    assert poisson.pmf(np.arange(200), mean)[inside].sum() >= 0.9
    # Garwood's table, 95%: a count of 3
    np.testing.assert_allclose(np.ravel(poisson_interval(np.array([3]), 0.95)), [0.6187, 8.7673], atol=1e-4)


def test_p_values_are_even_where_there_is_only_chance(virions):
    rng = np.random.default_rng(11)
    regions = (BOX, SurfaceRegion(surface=virions[2]))
    near, pairs = [], []
    for k in range(80):
        region = regions[k % 2]
        places = region.sample(25, rng)
        near.append(nearest_neighbour_statistics(places, region, rng, controls=19).p_value)
        pairs.append(pair_statistics(places, region, [30.0, 60.0, 90.0], rng, controls=19).p_value)
    for values in (near, pairs):
        steps = np.round(np.array(values) * 20)
        assert steps.min() >= 1  # never 0
        # each of twentieths as likely: even within a twentieth, so test the values spread over it
        spread = (steps - rng.uniform(size=len(steps))) / 20
        assert kstest(spread, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["mask", "surface"])
def test_clusters_and_order_are_told_from_chance(kind, virions):
    rng = np.random.default_rng(5)
    region = BOX if kind == "mask" else SurfaceRegion(surface=virions[2])
    seeds = region.sample(8, rng)
    if kind == "mask":
        seeds = 0.8 * seeds
        clustered = (seeds[:, None] + rng.normal(0, 6.0, (8, 5, 3))).reshape(-1, 3)
        even = np.stack(np.meshgrid(*[np.arange(-120.0, 121.0, 60.0)] * 3), axis=-1).reshape(-1, 3)
    else:
        cloud = region.sample(4000, rng)
        clustered = np.concatenate([cloud[np.argsort(np.linalg.norm(cloud - s, axis=1))[:60:12]] for s in seeds])
        even = spaced_points(virions[2], 40.0, rng).positions_angstrom
    for places, closer in ((clustered, True), (even, False)):
        found = nearest_neighbour_statistics(places, region, rng, controls=99)
        assert found.p_value == pytest.approx(0.01)
        assert (found.ratio < 0.8) == closer
        curve = pair_statistics(places, region, [20.0, 35.0, 60.0, 90.0], rng, controls=99)
        assert curve.p_value <= 0.02
        assert (curve.observed[1] > curve.control_high[1]) if closer else (curve.observed[1] < curve.control_low[1])
        assert (curve.pair_correlation[0] > 1.5) == closer


def test_the_size_of_objects_does_not_count_as_keeping_apart():
    rng = np.random.default_rng(7)
    places = BOX.sample(1, rng)
    while len(places) < 150:
        new = BOX.sample(1, rng)
        if np.linalg.norm(places - new, axis=1).min() > 40.0:
            places = np.concatenate([places, new])
    plain = nearest_neighbour_statistics(places, BOX, rng, controls=39)
    sized = nearest_neighbour_statistics(places, BOX, rng, controls=39, least_distance_angstrom=40.0)
    assert plain.p_value == pytest.approx(1 / 40)
    assert sized.p_value > 0.05
    assert sized.ratio == pytest.approx(1.0, abs=0.05)
    with pytest.raises(InputError, match="could not be placed"):
        nearest_neighbour_statistics(places, BOX, rng, controls=19, least_distance_angstrom=150.0)


def test_objects_near_others_are_told_from_chance():
    rng = np.random.default_rng(9)
    others = 0.8 * BOX.sample(12, rng)
    beside = others + rng.normal(0, 8.0, (12, 3))
    assert nearest_neighbour_statistics(beside, BOX, rng, others_angstrom=others, controls=99).p_value <= 0.02
    assert pair_statistics(beside, BOX, [20.0, 40.0], rng, others_angstrom=others, controls=99).p_value <= 0.02
    one = nearest_neighbour_statistics(others[:1] + 3.0, BOX, rng, others_angstrom=others, controls=99)
    np.testing.assert_allclose(one.nearest_angstrom, 3.0 * np.sqrt(3.0))


def test_ripley_is_corrected_for_the_edges_of_any_mask():
    rng = np.random.default_rng(3)
    z, y, x = (a - n // 2 for a, n in zip(np.mgrid[:24, :60, :60], (24, 60, 60), strict=True))
    odd = MaskRegion(mask=(np.abs(z) < 8) & (np.hypot(x, y) < 26) & ~((x > 0) & (y > 0)), voxel_size_angstrom=VOXEL)
    ends = np.array([40.0, 80.0, 120.0])
    found = [ripley_table(odd.sample(300, rng), odd, ends) for _ in range(12)]
    k = np.array([t["ripley_k_angstrom3"] for t in found])
    g = np.array([t["pair_correlation"] for t in found])
    # five standard errors of the mean over repeats, about 2%
    np.testing.assert_allclose(k.mean(0), 4 / 3 * np.pi * ends**3, rtol=0.06)
    np.testing.assert_allclose(g.mean(0), 1.0, atol=0.06)
    assert np.abs(np.mean([t["ripley_l_minus_r_angstrom"] for t in found], axis=0)).max() < 2.0
    # without correction the thin mask would lose more than that
    volume = odd.size
    plain = np.mean([t["pairs"].cumsum() * 2 * volume / 300**2 for t in found], axis=0)
    assert (plain[2] < 0.8 * k.mean(0)[2]).all()


def test_wrong_inputs_are_named(virions):
    rng = np.random.default_rng(0)
    places = BOX.sample(10, rng)
    for call, words in (
        (lambda: assign_parents(places, {}, 10.0), "Parents"),
        (lambda: assign_parents(places, virions, 0.0), "limit"),
        (lambda: nearest_neighbour_statistics(places[:1], BOX, rng), "objects"),
        (lambda: nearest_neighbour_statistics(places, BOX, rng, controls=5), "controls"),
        (lambda: nearest_neighbour_statistics(places + 1e4, BOX, rng), "outside of the mask"),
        (lambda: pair_statistics(places, BOX, [30.0, 20.0], rng), "rise"),
        (lambda: MaskRegion(mask=np.zeros((4, 4, 4), dtype=bool), voxel_size_angstrom=8.0), "empty"),
        (lambda: MaskRegion(mask=np.ones((4, 4, 4), dtype=bool), voxel_size_angstrom=0.0), "voxel size"),
        (lambda: nearest_neighbour_statistics(places, BOX, rng, others_angstrom=np.zeros((0, 3))), "other objects"),
    ):
        with pytest.raises(InputError, match=words):
            call()
    with pytest.raises(ShapeError):
        nearest_neighbour_statistics(places[:, :2], BOX, rng)
    with pytest.raises(ShapeError):
        stoichiometry_table(assign_parents(places, virions, 9.0), virions, kinds=["a"])
    empty = stoichiometry_table(assign_parents(places[:0], virions, 9.0), virions)
    assert empty["count"].tolist() == [0, 0]
    assert empty["count_low"].tolist() == [0.0, 0.0]
