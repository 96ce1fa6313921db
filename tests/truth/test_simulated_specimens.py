"""Specimens and acquisitions of the simulator: chirality, packing, order of tilts, repeatability."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.spatial.distance import cdist

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import Rotation, rotation_z
from eucentric.simulation import (
    SimulatedSeries,
    SimulationParams,
    Specimen,
    plan_acquisition,
    procedural_macromolecule,
    species_from_atoms,
    tilt_scheme,
)
from eucentric.simulation.image_formation import saturated
from eucentric.simulation.matter import bead_points, vesicle_points

SMALL = SimulationParams(
    image_size_px=(96, 80),
    frames=2,
    tilt_step_deg=30.0,
    vesicles=1,
    vesicle_radius_angstrom=(100, 150),
    stage_jitter_angstrom=20.0,
)


def normalised(volume):
    v = volume - volume.mean()
    return v / v.norm()


@pytest.mark.parametrize("mass", [300.0, 900.0, 2600.0, 4000.0])
def test_macromolecules_have_the_mass_and_density_of_protein(mass):
    species = procedural_macromolecule(mass)
    assert len(species.points_angstrom) * 0.110 == pytest.approx(mass, rel=0.01)
    np.testing.assert_allclose(species.points_angstrom.mean(0), 0.0, atol=1e-9)
    # a residue has 143 A^3: a box of 12 A, where it is filled, holds 12
    _, counts = np.unique(np.floor(species.points_angstrom / 12.0), axis=0, return_counts=True)
    assert 10 <= np.percentile(counts, 90) <= 15


@pytest.mark.parametrize("mass", [300.0, 900.0, 1500.0, 2600.0, 4000.0])
def test_macromolecules_have_a_hand_and_no_symmetry(mass):
    species = procedural_macromolecule(mass)
    # any symmetry maps principal axes onto themselves: in their frame only changes of sign could be one
    _, axes = np.linalg.eigh(np.cov(species.points_angstrom.T))
    local = species.points_angstrom @ axes
    box, edge = 40, 2.4 * species.radius_angstrom / 40
    reference = None
    for signs in itertools.product((1, -1), repeat=3):
        index = np.clip(np.floor(local * signs / edge + box // 2).astype(int), 0, box - 1)
        volume = np.zeros((box, box, box), dtype=np.float32)
        np.add.at(volume, tuple(index.T), species.weights)
        smooth = torch.nn.functional.avg_pool3d(torch.from_numpy(volume)[None], 3, 1, 1)[0]
        if reference is None:
            reference = normalised(smooth)
        else:
            assert float((normalised(smooth) * reference).sum()) < 0.85  # a symmetric one of 13 A detail would give 1


def test_helices_are_right_handed():
    points = procedural_macromolecule(300.0).points_angstrom
    # successive residues of one helix: rise 1.5 A, turn 100 degrees, so the triple product of steps is positive
    steps = np.diff(points, axis=0)
    near = np.linalg.norm(steps, axis=1) < 4.0
    chain = near[:-2] & near[1:-1] & near[2:]
    triple = np.einsum("ij,ij->i", steps[:-2], np.cross(steps[1:-1], steps[2:]))[chain]
    assert len(triple) > 500
    assert (triple > 0).mean() > 0.95


def test_coarse_points_keep_the_density():
    species = procedural_macromolecule(300.0)
    coarse = species.coarse(6.0)
    assert len(coarse.points_angstrom) < 0.8 * len(species.points_angstrom)
    assert coarse.weights.sum() == pytest.approx(species.weights.sum())
    a, b = (normalised(s.volume((40, 40, 40), 6.0, b_factor=1000.0)) for s in (species, coarse))
    assert float((a * b).sum()) > 0.995


def test_species_of_atoms_is_centred_and_weighted_by_occupancy():
    atoms = [[10.0, 0.0, 0.0], [14.0, 2.0, 0.0], [12.0, 4.0, 6.0]]
    species = species_from_atoms(atoms, ["C", "N", "H"], name="three", occupancies=[1.0, 0.5, 1.0])
    whole = species_from_atoms(atoms, ["C", "N", "H"], name="three")
    np.testing.assert_allclose(species.points_angstrom, np.array(atoms) - [12.0, 2.0, 2.0])
    np.testing.assert_allclose(species.weights / whole.weights, [1.0, 0.5, 1.0])
    with pytest.raises(ShapeError, match="three"):
        species_from_atoms(atoms, ["C"], name="three")
    with pytest.raises(InputError, match="kDa"):
        procedural_macromolecule(1.0)


def test_nothing_overlaps_and_everything_lies_in_the_ice():
    params = SimulationParams(particles_per_species=(30, 60), vesicles=1)
    species = [procedural_macromolecule(m) for m in (2600.0, 900.0)]
    specimen = Specimen.build(params, species, np.random.default_rng(8))
    radii = np.array([s.radius_angstrom for s in species])[specimen.kinds]
    gaps = cdist(specimen.positions_angstrom, specimen.positions_angstrom) - radii[:, None] - radii
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > 0
    assert (np.abs(specimen.positions_angstrom[:, 2]) + radii <= 550.0).all()
    assert (cdist(specimen.beads, specimen.positions_angstrom) > 50.0 + radii).all()
    for x, y, z, radius in specimen.vesicles:
        distance = np.linalg.norm(specimen.positions_angstrom - (x, y, z), axis=1)
        assert (np.abs(distance - radius) > radii + 20.0).all()
    # as dense around the field of view as in it
    inside = (np.abs(specimen.positions_angstrom[:, :2]) < 1200.0).all(1)
    assert inside.sum() == pytest.approx(90, abs=35)
    assert (np.bincount(specimen.kinds) > [30, 60]).all()
    assert specimen.half_extent_angstrom[0] > 1.7 * 1200.0


def test_too_much_is_refused():
    rng = np.random.default_rng(1)
    large = procedural_macromolecule(2600.0)
    with pytest.raises(ProcessingError, match="No room"):
        Specimen.build(SMALL.replace(particles_per_species=(60,), vesicles=0), [large], rng)
    with pytest.raises(InputError, match="does not fit"):
        Specimen.build(SMALL.replace(particles_per_species=(1,), thickness_angstrom=200.0, vesicles=0), [large], rng)
    with pytest.raises(InputError, match="no vesicle"):
        Specimen.build(SMALL.replace(particles_per_species=(1,), thickness_angstrom=150.0), [large], rng)
    with pytest.raises(InputError, match="one number for each"):
        Specimen.build(SMALL, [large], rng)
    with pytest.raises(InputError, match="blocked"):
        plan_acquisition(SMALL.replace(blocked_tilts=(5,)), rng)


def test_vesicle_has_two_leaflets_and_gold_its_mass():
    vesicle = np.array([30.0, -20.0, 10.0, 300.0])
    points, weights = vesicle_points(vesicle, 5.0, np.random.default_rng(2))
    radius = np.linalg.norm(points - vesicle[:3], axis=1)
    profile, edges = np.histogram(radius, np.arange(262.5, 340.0, 5.0), weights=weights)
    middle = 0.5 * (edges[1:] + edges[:-1])
    assert profile[np.abs(middle - 318.5).argmin()] > 0
    assert profile[np.abs(middle - 281.5).argmin()] > 0
    assert profile[np.abs(middle - 300.0).argmin()] <= 0
    np.testing.assert_allclose(points.mean(0), vesicle[:3], atol=2.0)
    gold, volts = bead_points(100.0, 4.0)
    assert np.linalg.norm(gold, axis=1).max() <= 50.0
    assert volts.sum() / (np.pi / 6 * 1e6) == pytest.approx(25.4, abs=0.1)  # gold stands 30 V high, ice 4.5 V


def test_images_stay_positive_and_linear_where_contrast_is_weak():
    contrast = torch.linspace(-4.0, 1.0, 501, dtype=torch.float64)
    got = saturated(contrast)
    assert (got > 0).all()
    assert (got.diff() > 0).all()
    weak = contrast >= -0.5
    torch.testing.assert_close(got[weak], 1.0 + contrast[weak])


@pytest.mark.parametrize(
    ("scheme", "order"),
    [
        ("dose-symmetric", [0, 20, -20, 40, -40, -60]),
        ("bidirectional", [0, 20, 40, -20, -40, -60]),
        ("continuous", [-60, -40, -20, 0, 20, 40]),
    ],
)
def test_order_of_tilts(scheme, order):
    params = SimulationParams(tilt_min_deg=-60.0, tilt_max_deg=40.0, tilt_step_deg=20.0, scheme=scheme)
    nominal, acquisition = tilt_scheme(params)
    np.testing.assert_allclose(nominal, [-60, -40, -20, 0, 20, 40])
    np.testing.assert_allclose(nominal[np.argsort(acquisition)], order)


def test_acquisition_has_the_errors_asked_for():
    params = SimulationParams(
        tilt_step_deg=0.5,
        tilt_offset_deg=7.0,
        x_tilt_deg=-3.0,
        stage_jitter_angstrom=100.0,
        frames=8,
        doming_angstrom=0.0,
    )
    acquisition = plan_acquisition(params, np.random.default_rng(5))
    np.testing.assert_allclose((acquisition.geometry.y_tilt_deg - acquisition.nominal_tilts_deg).mean(), 7.0, atol=0.02)
    assert (acquisition.geometry.x_tilt_deg == -3.0).all()
    assert 60.0 < acquisition.geometry.shifts_angstrom.std() < 140.0
    np.testing.assert_allclose(acquisition.motion_angstrom.mean(1), 0.0, atol=1e-9)
    steps = np.linalg.norm(np.diff(acquisition.motion_angstrom, axis=1), axis=2).mean(0)
    assert steps[0] > 2.0 * steps[-1]  # drift dies away
    np.testing.assert_allclose(acquisition.defocus_u_angstrom - acquisition.defocus_v_angstrom, 400.0)


def test_doming_is_seen_across_the_tilt_axis_of_tilted_images_only():
    params = SimulationParams(tilt_step_deg=60.0, drift_angstrom=0.0, doming_angstrom=40.0, tilt_error_deg=0.0)
    low, middle, high = plan_acquisition(params, np.random.default_rng(5)).motion_angstrom
    np.testing.assert_allclose(middle, 0.0, atol=1e-9)
    across = rotation_z(params.tilt_axis_deg)[:2, 0]
    for motion, side in ((low, -1), (high, 1)):  # the top of the specimen moves along +x where it is tilted up
        rise = motion[-1] - motion[0]
        assert side * rise @ across > 5.0
        assert abs(rise[0] * across[1] - rise[1] * across[0]) < 1e-9


def test_same_seed_same_movie():
    params = SMALL.replace(particles_per_species=(2, 2))
    first, again = (SimulatedSeries.build(params) for _ in range(2))
    movie = first.movie(3)
    assert (movie == again.movie(3)).all()
    assert (first.movie(3) == movie).all()  # nothing is kept from one call to the next
    for other in (SimulatedSeries.build(params, series=1), SimulatedSeries.build(params.replace(seed=2))):
        assert (other.movie(3) != movie).any()
        assert not np.allclose(other.acquisition.geometry.shifts_angstrom, first.acquisition.geometry.shifts_angstrom)
    # series of one data set share a camera
    assert (SimulatedSeries.build(params, series=1).detector.gain == first.detector.gain).all()
    assert Rotation(first.specimen.rotations).inverse.compose(
        Rotation(first.specimen.rotations)
    ).matrices == pytest.approx(np.broadcast_to(np.eye(3), first.specimen.rotations.shape))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tilt_min_deg": 10.0, "tilt_max_deg": -10.0},
        {"image_size_px": (16, 64)},
        {"macromolecules_kda": (1.0,)},
        {"particles_per_species": (-1, 2)},
        {"vesicle_radius_angstrom": (300.0, 200.0)},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValidationError):
        SimulationParams(**wrong)
