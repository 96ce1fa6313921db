"""What was planted in a tilt series comes back: angles, shifts, defocus, astigmatism, magnification, deformation; and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from eucentric.geometry import Deformation
from eucentric.refinement.params import RefineParams
from refinement_scene import (
    angle_errors_deg,
    astigmatism_of,
    bending,
    blob_places,
    camera_of,
    imaged,
    perturbed,
    place_errors,
    refined,
    rms,
    scattered,
    seen_with,
    tilt_series,
    with_defocus,
    with_poses,
)

COUNT, STEP_DEG = 30, 8.0
OFFSET, BY_TILT, ASTIGMATISM = 500.0, 400.0, (250.0, -180.0)
MAGNIFIED = 0.005


@pytest.fixture(scope="module")
def scene():
    series = tilt_series(step=STEP_DEG)
    return imaged(series, *scattered(COUNT), blob_places())


def _wrong(series):
    """A start as alignment and CTF estimation may leave it."""
    rng = np.random.default_rng(3)
    n = len(series.tilts)
    # even, of that root mean square: an image that is off by more than half of the finest detail settles in a wrong place
    angles = {name: rng.uniform(-0.52, 0.52, n) for name in ("y_tilt_deg", "z_rot_deg", "x_tilt_deg")}
    shifts = {name: rng.uniform(-5.2, 5.2, n) for name in ("x_shift_angstrom", "y_shift_angstrom")}
    every_other = MAGNIFIED * (np.arange(n) % 2 - 0.5)
    start = with_poses(series, **angles, **shifts, magnification=every_other)
    return with_defocus(start, OFFSET + rng.normal(0.0, BY_TILT, n), ASTIGMATISM)


@pytest.fixture(scope="module")
def recovered(scene):
    start, particles = _wrong(scene.series), perturbed(scene, 2.0, 1.0)
    groups = ("poses", "shifts", "axis", "angles", "magnification", "defocus", "astigmatism")
    return start, particles, refined(scene, start, particles, RefineParams(groups=groups, steps=6))


def _found(done):
    state = done.state
    return state.series, state.deformation, state.particles[0].positions_angstrom


def _unexplained_shifts(found, scene):
    """(tilt, 2) mean errors of places, without a move of the whole specimen: nothing tells that from a move of all particles."""
    errors = place_errors(found, scene).mean(1)
    design = np.concatenate([p.magnification * camera_of(p)[:2] for p in scene.series.poses])
    common = np.linalg.lstsq(design, errors.reshape(-1), rcond=None)[0]
    return (errors.reshape(-1) - design @ common).reshape(-1, 2)


def test_particles_are_placed_right_in_every_image(scene, recovered):
    start, (positions, _), done = recovered
    before = rms(place_errors((start, Deformation(), positions), scene))
    after = rms(place_errors(_found(done), scene))
    print(f"places {before:.2f} > {after:.2f} A")
    assert before > 3.5
    assert after < 1.2


def test_angles_of_the_stage_come_back(scene, recovered):
    start, _, done = recovered
    before, after = (angle_errors_deg(s, scene.series) for s in (start, done.state.series))
    print("angles x, y, z", [f"{rms(before[:, i]):.3f} > {rms(after[:, i]):.3f}" for i in range(3)])
    assert rms(before) > 0.25
    assert rms(after) < 0.1
    assert (np.sqrt(np.square(after).mean(0)) < 0.1).all()


def test_shifts_come_back(scene, recovered):
    start, (positions, _), done = recovered
    before = rms(_unexplained_shifts((start, Deformation(), positions), scene))
    after = rms(_unexplained_shifts(_found(done), scene))
    print(f"shifts {before:.2f} > {after:.2f} A")
    assert before > 2.5
    assert after < 0.6


def _defocus_errors(series, truth):
    return np.array(
        [a.ctf.defocus_angstrom - b.ctf.defocus_angstrom for a, b in zip(series.tilts, truth.tilts, strict=True)]
    )


def test_defocus_comes_back_for_the_series_and_each_tilt(scene, recovered):
    start, _, done = recovered
    before, after = (_defocus_errors(s, scene.series) for s in (start, done.state.series))
    print(f"defocus mean {before.mean():.0f} > {after.mean():.0f} A, by tilt {before.std():.0f} > {after.std():.0f} A")
    assert abs(after.mean()) < 150.0
    assert after.std() < 0.6 * before.std()


def test_astigmatism_comes_back(scene, recovered):
    _, _, done = recovered
    error = np.mean(
        [
            astigmatism_of(a.ctf) - astigmatism_of(b.ctf)
            for a, b in zip(done.state.series.tilts, scene.series.tilts, strict=True)
        ],
        axis=0,
    )
    print("astigmatism", ASTIGMATISM, ">", error)
    assert np.abs(error).max() < 100.0


def _scales(series):
    return np.array([p.magnification for p in series.poses])


def test_magnification_of_every_other_tilt_comes_back(scene, recovered):
    start, _, done = recovered
    before, after = (_scales(s) / _scales(scene.series) for s in (start, done.state.series))
    odd = np.arange(len(after)) % 2 == 1
    difference = after[odd].mean() - after[~odd].mean()
    print(f"magnification {100 * np.ptp(before):.2f} > {100 * difference:.3f} %, rms {100 * after.std():.3f} %")
    assert abs(difference) < 0.001
    assert after.std() < 0.0015


def test_deviations_that_are_told_are_those_of_the_errors(scene, recovered):
    """Within two fifths: there are as many unknowns as tilts, and what is not observable is taken out of the errors."""
    _, _, done = recovered
    kept = {k.family: k for k in done.memory.kept}
    told = rms(kept["angles"].sigma)
    error = rms(angle_errors_deg(done.state.series, scene.series))
    print(f"angles: told {told:.3f}, true {error:.3f} degrees")
    assert 0.5 < error / told < 1.6


@pytest.mark.slow
def test_nothing_planted_nothing_found(scene):
    """Groups that are kept by chance change next to nothing, and images are predicted as well as before."""
    particles = perturbed(scene, 0.5, 0.3)
    done = refined(scene, scene.series, particles, RefineParams(image_grids=(2,), volume_grids=(2,)))
    for trial in done.memory.trials:
        if trial.accepted:
            print(trial.name, trial.gain, trial.sigma, trial.rms, trial.median_sigma)
            assert trial.rms < 3.0 * trial.median_sigma, trial.name
    before = rms(place_errors((scene.series, Deformation(), particles[0]), scene))
    after = rms(place_errors(_found(done), scene))
    print(f"places {before:.2f} > {after:.2f} A")
    assert after < max(1.15 * before, 0.6)


@pytest.mark.slow
def test_deformation_of_the_specimen_is_followed():
    series = tilt_series(step=STEP_DEG)
    scene = imaged(series, *scattered(COUNT), blob_places(), moved=bending)
    positions, rotations = perturbed(scene, 2.0, 1.0)
    # alignment and picking saw the specimen as it is on the average
    positions = positions + np.mean([bending(scene.positions, d) for d in series.middle_doses], axis=0)
    params = RefineParams(groups=("poses", "shifts", "volume-warp"), volume_grids=(2, 3))
    done = refined(scene, series, (positions, rotations), params)
    before = rms(place_errors((series, Deformation(), positions), scene))
    after = rms(place_errors(_found(done), scene))
    print(f"places {before:.2f} > {after:.2f} A", [(t.name, t.accepted, t.gain) for t in done.memory.trials])
    assert done.state.deformation.volume is not None
    assert after < 0.5 * before


def test_aberrations_that_all_series_share_are_told(scene):
    """Equations for beam tilt and trefoil, whose true values are not those of the table."""
    optics = replace(scene.series.optics, beam_tilt_mrad=(5.0, -4.0))
    tilted = imaged(scene.series.replace(optics=optics), scene.positions, scene.rotations, scene.blobs)
    particles = perturbed(scene, 0.5, 0.3)
    done = refined(tilted, scene.series, particles, RefineParams(groups=("poses", "shifts", "beam-tilt"), steps=1))
    equations = done.optics["beam tilt"]
    found = equations.solve(np.eye(2) / 10.0**2, np.zeros(2))
    sigma = equations.deviations(np.eye(2) / 10.0**2)
    print("beam tilt", found, "+-", sigma)
    assert (np.abs(found - [5.0, -4.0]) < 3.0 * sigma).all()
    assert (sigma < 1.2).all()


def test_a_species_of_60_angstrom_says_nothing_of_the_contrast_transfer(scene):
    particles = perturbed(scene, 2.0, 1.0)
    params = RefineParams(groups=("poses", "shifts", "defocus", "astigmatism"), steps=1)
    done = refined(scene, scene.series, particles, params, resolution_angstrom=60.0)
    refused = {t.family: t for t in done.memory.trials if t.family in ("defocus", "defocus by tilt", "astigmatism")}
    assert len(refused) == 3
    for trial in refused.values():
        assert not trial.accepted
        assert f"no species resolves {params.transfer_angstrom:g} A; the best has 60.0 A" in trial.reason
    assert _defocus_errors(done.state.series, scene.series) == pytest.approx(0.0)


def test_of_five_particles_none_is_held_out_and_only_poses_follow(scene):
    places, turns = perturbed(scene, 2.0, 1.0)
    params = RefineParams(groups=("poses", "shifts", "defocus", "beam-tilt"), steps=1)
    done = refined(scene, scene.series, (places[:5], turns[:5]), params)
    assert not done.memory.kept
    for trial in done.memory.trials:
        assert "5 particles in this series" in trial.reason
    assert {t.family for t in done.memory.trials} >= {"shifts", "defocus"}
    # equations of all series add up, however few particles one has
    assert {len(e.matrices) for e in done.optics.values()} == {params.folds}
    moved = np.linalg.norm(_found(done)[2] - scene.positions[:5], axis=1)
    assert np.median(moved) < np.median(np.linalg.norm(places[:5] - scene.positions[:5], axis=1))


def test_a_series_without_ctf_is_refined_in_its_geometry(scene):
    flat = scene.series.with_tilts([replace(t, ctf=None) for t in scene.series.tilts])
    rng = np.random.default_rng(4)
    n = len(flat.tilts)
    start = with_poses(flat, x_shift_angstrom=rng.normal(0, 3.0, n), y_shift_angstrom=rng.normal(0, 3.0, n))
    particles = perturbed(scene, 1.0, 1.0)
    groups = ("poses", "shifts", "defocus", "astigmatism")
    # coarse detail, which defocus leaves alone; protein dark
    done = refined(scene, start, particles, RefineParams(groups=groups), resolution_angstrom=24.0, ctf=False)
    shifts = next(t for t in done.memory.trials if t.family == "shifts")
    assert shifts.accepted
    found = _found(done)
    errors = seen_with(found[0], found[1], found[2])[0] - seen_with(flat, Deformation(), scene.positions)[0]
    before = seen_with(start, Deformation(), particles[0])[0] - seen_with(flat, Deformation(), scene.positions)[0]
    print(f"places {rms(before):.2f} > {rms(errors):.2f} A", [(t.family, t.reason) for t in done.memory.trials])
    assert rms(errors) < 0.9 * rms(before)
    assert all(t.ctf is None for t in done.state.series.tilts)
    told = {t.family: t for t in done.memory.trials}
    assert "contrast transfer" in told["defocus"].reason
