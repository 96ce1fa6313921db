"""The specimen on voxels: its potential against direct sums, its labels and distances against what was placed."""

import numpy as np
import pytest

from eucentric.errors import ShapeError
from eucentric.geometry import Rotation
from eucentric.simulation import Body, SimulatedSeries, SimulationParams
from eucentric.simulation.label_volume import SpecimenLabels
from eucentric.simulation.potential_volume import potential_slab

SHAPE, VOXEL = (40, 44, 50), 7.0


@pytest.fixture(scope="module")
def bodies():
    rng = np.random.default_rng(4)
    return [
        Body(
            points_angstrom=rng.normal(scale=20.0, size=(30, 3)),
            weights=rng.uniform(100.0, 900.0, 30),
            rotations=Rotation.random(2, rng).matrices,
            centres_angstrom=np.array([[-40.0, 25.0, 5.0], [52.0, -13.0, -30.0]]),
            fades=fades,
        )
        for fades in (True, False)
    ]


def test_potential_has_the_transform_of_its_points(bodies):
    """Frequencies that the filter keeps whole against the sum over points; the integral is the sum of weights."""
    volume = potential_slab(bodies, SHAPE, VOXEL, 0, SHAPE[0])
    places = np.concatenate(
        [np.einsum("bij,nj->bni", b.rotations, b.points_angstrom) + b.centres_angstrom[:, None] for b in bodies]
    ).reshape(-1, 3)
    weights = np.concatenate([np.tile(b.weights, 2) for b in bodies])
    assert volume.sum() * VOXEL**3 == pytest.approx(weights.sum(), rel=1e-3)
    coordinates = [(np.arange(n) - n // 2) * VOXEL for n in SHAPE]
    for wave in ((0.02, 0.0, 0.0), (0.0, 0.031, 0.0), (0.01, -0.02, 0.025), (0.03, 0.03, -0.03)):  # x, y, z in 1/A
        phases = [np.exp(-2j * np.pi * k * c) for k, c in zip(wave[::-1], coordinates, strict=True)]
        found = np.einsum("zyx,z,y,x->", volume, *phases) * VOXEL**3
        expected = (weights * np.exp(-2j * np.pi * places @ wave)).sum()
        assert abs(found - expected) < 0.01 * weights.sum()


def test_potential_in_pieces_is_the_whole(bodies):
    whole = potential_slab(bodies, SHAPE, VOXEL, 0, SHAPE[0])
    pieces = np.concatenate([potential_slab(bodies, SHAPE, VOXEL, first, 8) for first in range(0, SHAPE[0], 8)])
    np.testing.assert_allclose(pieces, whole, atol=1e-3 * np.abs(whole).max())
    with pytest.raises(ShapeError):
        potential_slab(bodies, SHAPE, VOXEL, 36, 8)


@pytest.fixture(scope="module")
def labelled():
    params = SimulationParams(
        seed=2,
        image_size_px=(120, 120),
        particles_per_species=(3, 3),
        beads=3,
        thickness_angstrom=1000.0,
        tilt_max_deg=0.0,
        stage_jitter_angstrom=0.0,
        vesicle_radius_angstrom=(150.0, 200.0),
        tilt_min_deg=0.0,
    )
    specimen = SimulatedSeries.build(params).specimen
    shape = (104, 90, 92)
    labels = SpecimenLabels(specimen, shape, 10.0)
    distance, owner = labels.membrane_distance(0, 104, 100.0)
    return specimen, labels, distance, *labels.labels(0, 104, distance, owner)


def positions(shape, voxel):
    return np.meshgrid(*[(np.arange(n) - n // 2) * voxel for n in shape], indexing="ij")


def test_distance_to_a_sphere(labelled):
    specimen, _, distance, _, _ = labelled
    z, y, x = positions(distance.shape, 10.0)
    cx, cy, cz, radius = specimen.vesicles[0]
    expected = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - radius
    assert expected.min() < -100  # the middle lies deeper than what is told
    np.testing.assert_allclose(distance, np.clip(expected, -100, 100), atol=1.0)


def test_labels_lie_where_things_were_placed(labelled):
    specimen, labels, distance, kinds, which = labelled
    names, numbers = labels.table.classes, labels.table.instances
    assert names == ("nothing", *(s.name for s in specimen.species), "vesicle", "bead")
    z, y, x = positions(kinds.shape, 10.0)
    seen = 0
    for number, place in enumerate(specimen.positions_angstrom):
        species = specimen.species[specimen.kinds[number]]
        room = [0.5 * n * 10.0 - species.radius_angstrom - 10.0 for n in kinds.shape[::-1]]
        inside = which == numbers["particles"][0] + number
        assert set(kinds[inside]) <= {specimen.kinds[number] + 1}
        if (np.abs(place) < room).all():
            seen += 1
            # 1.21 A^3 a dalton, counted in voxels of 1000 A^3
            assert inside.sum() == pytest.approx(1.21 * species.mass_kda, rel=0.05)
            points = species.points_angstrom @ specimen.rotations[number].T + place
            middle = [axis[inside].mean() for axis in (x, y, z)]
            np.testing.assert_allclose(middle, points.mean(0), atol=5.0)
            index = np.rint(points[:, ::-1] / 10.0).astype(int) + np.array(kinds.shape) // 2
            assert (which[tuple(index.T)] == number + 1).mean() > 0.8
    assert seen >= 3
    membrane = kinds == names.index("vesicle")
    assert membrane.any()
    assert (np.abs(distance[membrane]) <= specimen.membranes[0].half_angstrom).all()
    beads = [n for n, bead in enumerate(specimen.beads) if (np.abs(bead) < (400.0, 390.0, 460.0)).all()]
    for number in beads:
        ball = which == numbers["beads"][0] + number
        assert ball.sum() == pytest.approx(np.pi / 6 * 100.0**3 / 1e3, rel=0.05)
    assert beads


def test_labels_in_pieces_are_the_whole(labelled):
    _, labels, distance, kinds, which = labelled
    pieces = []
    for first in range(0, 104, 20):
        count = min(20, 104 - first)
        part, owner = labels.membrane_distance(first, count, 100.0)
        np.testing.assert_allclose(part, distance[first : first + count], atol=1e-3)
        pieces.append(labels.labels(first, count, part, owner))
    np.testing.assert_array_equal(np.concatenate([p[0] for p in pieces]), kinds)
    np.testing.assert_array_equal(np.concatenate([p[1] for p in pieces]), which)
