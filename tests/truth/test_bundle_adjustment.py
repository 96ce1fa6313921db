"""Bundle adjustment against known geometries, deformations, gross errors and moving points."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eucentric.alignment.bundle_adjustment import BundleResult, adjust_bundle
from eucentric.alignment.bundle_deformation import exponential_course, spline_courses
from eucentric.alignment.bundle_model import BundleModel, BundlePriors
from eucentric.alignment.bundle_problem import TrackSet
from eucentric.errors import InputError
from eucentric.evaluation.alignment_error import alignment_error
from eucentric.geometry import TiltGeometry
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.models.tracks import Tracks

SHAPE, PIXEL = (750, 800), 4.0
TILTS = 3.0 * np.arange(-13, 14)
SIGMA = 0.8
RIGID = BundleModel(tilt_angles="each")


def series(
    *, points: int = 12, seed: int = 0, axis: float = 83.0, noise: float = SIGMA, tilt_errors: float = 0.1
) -> tuple[TiltGeometry, TiltGeometry, Tracks, np.ndarray]:
    """True geometry, what the microscope says, tracks of all points in all tilts, and the points."""
    rng = np.random.default_rng(seed)
    errors = tilt_errors * rng.normal(size=len(TILTS))
    true = TiltGeometry.build(
        TILTS + errors - errors.mean(), z_rot_deg=axis, shifts_angstrom=rng.normal(0, 60, (len(TILTS), 2))
    )
    start = TiltGeometry.build(
        TILTS, z_rot_deg=axis - 2.0, shifts_angstrom=true.shifts_angstrom + rng.normal(0, 20, (len(TILTS), 2))
    )
    where = rng.uniform(-1.0, 1.0, (points, 3)) * (1300.0, 1200.0, 400.0)
    seen = true.project(where)[..., :2] + noise * rng.normal(size=(len(TILTS), points, 2))
    tilt, point = (a.ravel() for a in np.meshgrid(np.arange(len(TILTS)), np.arange(points), indexing="ij"))
    return true, start, Tracks.build(point, tilt, seen[tilt, point], sigma_angstrom=SIGMA), where


def adjusted(tracks: Tracks, start: TiltGeometry, model: BundleModel | None = RIGID, **more) -> BundleResult:
    return adjust_bundle(tracks, start, image_shape=SHAPE, pixel_size=PIXEL, model=model, **more)


def differences(found: TiltGeometry, true: TiltGeometry, tilts: np.ndarray | None = None) -> np.ndarray:
    """(tilt, point, 2), A, after the best motion of the specimen as a whole."""
    where = np.random.default_rng(9).uniform(-1.0, 1.0, (200, 3)) * (1100.0, 1100.0, 300.0)
    pick = np.arange(len(true)) if tilts is None else tilts
    goal = true.project(where)[pick][..., :2]
    matrices = found.image_matrices[pick]
    off = goal - np.einsum("tij,pj->tpi", matrices, where) - found.shifts_angstrom[pick][:, None]
    # small rotation w and translation d: M (w x p + d)
    cross = np.stack([np.cross(axis, where) for axis in np.eye(3)], axis=2)
    design = np.concatenate(
        [np.einsum("tij,pjk->tpik", matrices, cross), np.broadcast_to(matrices[:, None], (len(pick), 200, 2, 3))],
        axis=3,
    )
    best = np.linalg.lstsq(design.reshape(-1, 6), off.ravel(), rcond=None)[0]
    return off - design @ best


def test_derivatives_are_those_of_the_prediction():
    _, _, tracks, where = series(points=5)
    model = BundleModel(
        axis="spline",
        tilt_angles="each",
        x_tilt="spline",
        magnification="groups",
        deformation_order=3,
        deformation_course="spline",
    )
    priors = BundlePriors(tilt_deg=0.1, x_tilt_deg=0.2, shift_angstrom=1500.0, deformation_angstrom=30.0)
    start = TiltGeometry.build(TILTS, z_rot_deg=81.0, x_tilt_deg=4.0, shifts_angstrom=30.0, magnification=1.02)
    data = TrackSet.build(tracks, start, np.arange(27.0), priors, half_field=1600.0, floor_angstrom=0.04)
    problem = data.problem(model)
    rng = np.random.default_rng(1)
    common = 0.3 * problem.structure.prior_sigma * rng.normal(size=problem.structure.unknowns)
    linear = problem.linearise(common, where)
    np.testing.assert_allclose(linear.residuals, problem.residuals(common, where))
    change = 1e-5 * problem.structure.prior_sigma * rng.normal(size=len(common))
    moved = 1e-3 * rng.normal(size=where.shape)
    numeric = problem.residuals(common - change, where - moved) - problem.residuals(common + change, where + moved)
    local = (problem.structure.spread @ change)[tracks.tilts]
    analytic = np.einsum("oik,ok->oi", linear.by_group, local) + np.einsum(
        "oij,oj->oi", linear.by_point, moved[tracks.points]
    )
    np.testing.assert_allclose(0.5 * numeric, analytic, rtol=1e-5, atol=1e-7)


def test_prediction_is_that_of_the_geometry():
    true, _, tracks, where = series(points=4, noise=0.0)
    priors = BundlePriors(tilt_deg=0.1, x_tilt_deg=0.2, shift_angstrom=1500.0, deformation_angstrom=30.0)
    data = TrackSet.build(tracks, true, np.arange(27.0), priors, half_field=1600.0, floor_angstrom=0.04)
    problem = data.problem(BundleModel())
    predicted = problem.predicted(np.zeros(problem.structure.unknowns), where)
    np.testing.assert_allclose(predicted, true.project(where)[tracks.tilts, tracks.points, :2], atol=1e-9)
    np.testing.assert_allclose(data.start_points(), where, rtol=1e-3, atol=0.5)  # a wide prior pulls a little


@pytest.mark.parametrize("axis", [83.0, -4.6, 176.0])
def test_rigid_geometry_is_found_within_its_standard_deviations(axis):
    true, start, tracks, _ = series(axis=axis)
    found = adjusted(tracks, start)
    assert abs(found.geometry.z_rot_deg[0] - axis) < 4 * found.axis_sigma_deg[0]
    assert found.axis_sigma_deg[0] < 0.03
    tilts = found.geometry.y_tilt_deg - true.y_tilt_deg
    assert np.abs(tilts / found.tilt_sigma_deg).max() < 4.0
    assert 0.8 < found.variance_factor < 1.25
    assert np.sqrt((differences(found.geometry, true) ** 2).sum(2).mean()) < 1.2 * SIGMA
    assert found.warp is None
    assert not len(found.moved)
    assert not found.caveats
    # the answer stays where the start was: that is within its own errors
    assert np.abs(np.median(found.geometry.shifts_angstrom - start.shifts_angstrom, axis=0)).max() < 15.0
    np.testing.assert_array_equal(found.points, np.arange(12))
    turned = found.geometry.project(found.points_angstrom)[tracks.tilts, tracks.points, :2]
    np.testing.assert_allclose(tracks.positions_angstrom - turned, found.residuals_angstrom, atol=1e-6)


def test_standard_deviations_of_shifts_are_honest():
    scaled = []
    for seed in range(6):
        true, start, tracks, _ = series(seed=seed, tilt_errors=0.0)
        found = adjusted(tracks, start, BundleModel())
        off = found.geometry.shifts_angstrom - true.shifts_angstrom
        slide = true.image_matrices.reshape(-1, 3)
        left = off.ravel() - slide @ np.linalg.lstsq(slide, off.ravel(), rcond=None)[0]
        scaled.append(left / found.shift_sigma_angstrom.ravel())
    assert 0.85 < np.std(scaled) < 1.15  # 6 x 54 numbers: 4% by chance


def test_gross_errors_are_named_and_do_no_harm():
    true, start, tracks, _ = series()
    rng = np.random.default_rng(3)
    gross = rng.permutation(len(tracks))[:50]
    places = tracks.positions_angstrom.copy()
    angle = rng.uniform(0, 2 * np.pi, 50)
    places[gross] += rng.uniform(12, 170, 50)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = adjusted(replace(tracks, positions_angstrom=places), start)
    assert set(gross) <= set(found.outliers)
    assert len(set(found.outliers) - set(gross)) < 5
    assert np.sqrt((differences(found.geometry, true) ** 2).sum(2).mean()) < 1.4 * SIGMA
    assert (found.weights[gross] == 0.0).all()


def test_leave_one_out_errors_are_those_of_fits_without_the_observation():
    _, start, tracks, _ = series(points=6, tilt_errors=0.0)
    model = BundleModel()
    found = adjusted(tracks, start, model, down_weight_moved=False)
    for row in (0, 40, 99, 161):
        others = np.setdiff1d(np.arange(len(tracks)), [row])
        again = adjusted(tracks.take(others), start, model, down_weight_moved=False)
        seen = again.geometry.project(again.points_angstrom[tracks.points[row]])[tracks.tilts[row], :2]
        # weights and variance factor change a little with the observation
        np.testing.assert_allclose(tracks.positions_angstrom[row] - seen, found.leave_one_out_angstrom[row], atol=0.12)


def test_a_point_that_moves_is_flagged_and_counts_less():
    true, start, tracks, _ = series()
    places = tracks.positions_angstrom.copy()
    mine = tracks.points == 4
    places[mine] += np.linspace(0.0, 40.0, len(TILTS))[:, None] * (0.6, -0.8)
    slid = replace(tracks, positions_angstrom=places)
    found = adjusted(slid, start)
    assert found.moved.tolist() == [4]
    assert "4" in " ".join(found.caveats)
    assert found.weights[mine].max() < 0.3
    assert np.sqrt((differences(found.geometry, true) ** 2).sum(2).mean()) < 1.4 * SIGMA
    named_only = adjusted(slid, start, down_weight_moved=False)
    assert named_only.moved.tolist() == [4]
    assert named_only.weights[mine].max() > 0.5


def test_observations_count_by_their_covariance():
    true, start, tracks, _ = series()
    rng = np.random.default_rng(5)
    poor = np.arange(len(tracks)) % 2 == 0
    stretched = np.where(poor[:, None, None], np.diag([400.0, SIGMA**2]), tracks.covariance)
    places = tracks.positions_angstrom + np.where(poor, 20.0 * rng.normal(size=len(tracks)), 0.0)[:, None] * (1.0, 0.0)
    found = adjusted(replace(tracks, positions_angstrom=places, covariance=stretched), start)
    assert np.sqrt((differences(found.geometry, true) ** 2).sum(2).mean()) < 1.7 * SIGMA
    assert len(found.outliers) < 8


@pytest.mark.parametrize("course", ["exponential", "spline"])
def test_deformation_of_the_specimen_becomes_fields_over_the_images(course):
    true, start, tracks, where = series(points=40, tilt_errors=0.0)
    order = np.argsort(np.abs(TILTS), kind="stable")
    doses = np.empty(len(TILTS))
    doses[order] = 3.0 * np.arange(len(TILTS))
    u, v = where[:, 0] / 1600.0, where[:, 1] / 1600.0
    bend = np.stack([9.0 * u - 6.0 * u * v, 8.0 * v * v - 5.0 * u, 12.0 * u * u - 9.0 * v + 7.0 * u * v], axis=1)
    moved = where + 2.0 * (1.0 - np.exp(-doses / 30.0))[:, None, None] * bend
    exact = np.einsum("tij,tpj->tpi", true.image_matrices, moved) + true.shifts_angstrom[:, None]
    noise = SIGMA * np.random.default_rng(2).normal(size=exact.shape)
    tracks = replace(tracks, positions_angstrom=(exact + noise)[tracks.tilts, tracks.points])
    model = BundleModel(deformation_order=2, deformation_course=course)
    found = adjusted(tracks, start, model, doses=doses)
    rigid = adjusted(tracks, start, BundleModel(), doses=doses)
    assert found.warp is not None
    assert rigid.variance_factor > 2 * found.variance_factor
    assert found.variance_factor < 1.3
    places = found.geometry.project(found.points_angstrom)[..., :2]
    warped = np.stack([p + found.warp.at(t, torch.from_numpy(p)).numpy() for t, p in enumerate(places)])
    plain = rigid.geometry.project(rigid.points_angstrom)[..., :2]
    inside = (np.abs(exact) < 1400.0).all(2)
    error = np.sqrt(((warped - exact)[inside] ** 2).sum(1).mean())
    # one field over the image stands for all heights, so points off the plane keep part of the bend's slope
    assert error < 1.0
    assert error < 0.5 * np.sqrt(((plain - exact)[inside] ** 2).sum(1).mean())
    np.testing.assert_allclose(found.rigid_geometry.z_rot_deg, rigid.geometry.z_rot_deg, atol=0.01)


def test_courses_have_no_static_part():
    doses = np.random.default_rng(0).permutation(3.0 * np.arange(41))
    for courses in (exponential_course(doses, 30.0), spline_courses(doses, 4)):
        np.testing.assert_allclose(courses.mean(0), 0.0, atol=1e-12)
    assert spline_courses(doses, 5).shape == (41, 4)
    assert np.linalg.matrix_rank(spline_courses(doses, 5)) == 4
    early, late = exponential_course(doses, 30.0)[[doses.argmin(), doses.argmax()], 0]
    assert late - early == pytest.approx(1.0 - np.exp(-120.0 / 30.0))


def test_models_are_chosen_on_held_out_points():
    true, start, tracks, where = series(points=14)
    drifting = true.replace(z_rot_deg=true.z_rot_deg + 0.5 * (TILTS / 39.0) ** 2)
    places = drifting.project(where)[tracks.tilts, tracks.points, :2]
    places = places + SIGMA * np.random.default_rng(4).normal(size=places.shape)
    straight = adjusted(tracks, start, None, doses=3.0 * np.arange(len(TILTS)))
    bent = adjusted(replace(tracks, positions_angstrom=places), start, None)
    assert straight.model.axis == "one"
    assert straight.model.magnification == "fixed"
    assert bent.model.axis == "spline"
    assert np.abs(bent.geometry.z_rot_deg - drifting.z_rot_deg).max() < 0.06
    for found in (straight, bent):
        assert [row.model for row in found.tried if row.chosen] == [found.model]
        errors = {row.model: row.held_out_angstrom for row in found.tried}
        assert errors[found.model] == pytest.approx(SIGMA, rel=0.25)
        assert errors[found.model] <= 1.05 * min(errors.values())
    assert adjusted(tracks, start, None, hold_axis=True).geometry.z_rot_deg.tolist() == start.z_rot_deg.tolist()


def test_few_points_and_few_observations():
    true, start, tracks, _ = series()
    # tilt 5 sees one point, tilt 9 none, point 7 is seen once and point 8 twice
    kept = ~((tracks.tilts == 5) & (tracks.points != 0)) & (tracks.tilts != 9)
    kept &= ~((tracks.points == 7) & (tracks.tilts != 3)) & ~((tracks.points == 8) & ~np.isin(tracks.tilts, (0, 20)))
    found = adjusted(tracks.take(kept), start)
    others = np.setdiff1d(np.arange(len(TILTS)), [9])
    assert np.sqrt((differences(found.geometry, true, others) ** 2).sum(2).mean()) < 1.5 * SIGMA
    np.testing.assert_allclose(found.geometry.shifts_angstrom[9], start.shifts_angstrom[9], atol=1e-6)
    assert found.shift_sigma_angstrom[9].min() > 500.0
    assert f"{TILTS[9]:.1f}" in found.caveats[0]
    three = adjusted(tracks.take(tracks.points < 3), start, None)
    assert np.sqrt((differences(three.geometry, true) ** 2).sum(2).mean()) < 4 * SIGMA
    assert "Only 3 points" in " ".join(three.caveats)
    one = adjusted(tracks.take(np.arange(1)), start, None)
    assert np.isfinite(one.geometry.shifts_angstrom).all()
    three_tilts = adjusted(tracks.take(np.isin(tracks.tilts, (3, 13, 22))), start, None)
    assert np.abs(differences(three_tilts.geometry, true, np.array([3, 13, 22]))).max() < 5 * SIGMA


def test_bad_input_is_named():
    _, start, tracks, _ = series(points=4)
    with pytest.raises(InputError, match="no observations"):
        adjusted(tracks.take(np.zeros(0, np.int64)), start)
    with pytest.raises(InputError, match="name tilts"):
        adjusted(tracks, start[:20])
    with pytest.raises(InputError, match="Doses"):
        adjusted(tracks, start, doses=np.arange(4))
    with pytest.raises(InputError, match="must be positive"):
        adjusted(tracks, start, tilt_prior_deg=0.0)


def practice_beads(shared_data: Path, seed: int) -> tuple[TiltTruth, list[int], BundleResult]:
    truth = read_truth(shared_data / "practice" / "TS_02_truth.json")
    rng = np.random.default_rng(seed)
    kept = [t for t in range(len(truth.nominal_tilts_deg)) if t not in truth.bad_tilts]
    seen = truth.camera_positions(truth.beads)[kept][..., :2]
    tilt, bead = np.nonzero((np.abs(seen) < 0.5 * 768 * 4.0 - 40.0).all(2))
    noisy = seen[tilt, bead] + 0.7 * rng.normal(size=(len(tilt), 2))
    shifts = truth.shifts_angstrom[kept] + rng.normal(0, 20, (len(kept), 2))
    start = TiltGeometry.build(truth.nominal_tilts_deg[kept], z_rot_deg=truth.nominal_axis_deg, shifts_angstrom=shifts)
    return (
        truth,
        kept,
        adjust_bundle(
            Tracks.build(bead, tilt, noisy, sigma_angstrom=0.7),
            start,
            image_shape=truth.image_shape,
            pixel_size=truth.pixel_size_angstrom,
            doses=truth.acquisition[kept] * truth.dose,
        ),
    )


def test_axis_of_the_practice_series_from_its_beads(shared_data: Path):
    truth, _, found = practice_beads(shared_data, 0)
    assert abs(found.geometry.z_rot_deg[0] - truth.tilt_axis_deg) < 0.06
    assert found.model.deformation_order == 2
    assert found.leave_one_out_rms_angstrom < 1.3  # 0.99 A are the noise of the observations themselves


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_beads_of_the_practice_series(shared_data: Path, seed):
    truth, kept, found = practice_beads(shared_data, seed)
    assert alignment_error(truth, kept, found.rigid_geometry).rms_angstrom < 2.0
    assert alignment_error(truth, kept, found.geometry, warp=found.warp).rms_angstrom < 0.9


@pytest.mark.slow
def test_sixty_tilts_of_three_hundred_points_take_two_seconds():
    rng = np.random.default_rng(0)
    tilts = np.linspace(-59.0, 59.0, 60)
    true = TiltGeometry.build(tilts, z_rot_deg=85.0, shifts_angstrom=rng.normal(0, 50, (60, 2)))
    places = true.project(rng.uniform(-1, 1, (300, 3)) * (1500.0, 1500.0, 600.0))[..., :2]
    tilt, point = (a.ravel() for a in np.meshgrid(np.arange(60), np.arange(300), indexing="ij"))
    tracks = Tracks.build(point, tilt, places[tilt, point] + 2.0 * rng.normal(size=(18000, 2)), sigma_angstrom=2.0)
    model = BundleModel(tilt_angles="each", deformation_order=2)
    began = time.process_time()
    found = adjust_bundle(
        tracks,
        TiltGeometry.build(tilts, z_rot_deg=84.0),
        image_shape=(1000, 1000),
        pixel_size=4.0,
        doses=2.0 * np.arange(60),
        model=model,
    )
    assert time.process_time() - began < 4.0  # 1.7 s on one quiet core
    assert abs(found.geometry.z_rot_deg[0] - 85.0) < 0.02
