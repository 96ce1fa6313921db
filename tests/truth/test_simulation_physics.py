"""The simulator against the physics it claims, each formula written out anew: losses, rings, nodes, noise, waves."""

import math

import numpy as np
import pytest
import torch

from eucentric.compute import seeded_generator
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.simulation import (
    Acquisition,
    Body,
    SimulatedSeries,
    SimulationParams,
    Species,
    form_frames,
    procedural_macromolecule,
)

WAVELENGTH = 0.0196875  # A at 300 kV
SIGMA = 6.526e-4  # rad / (V A) at 300 kV
CS = 2.7e7  # A
CONTRAST = 0.07
EMPTY = {"vesicles": 0, "beads": 0, "particles_per_species": (0, 0), "hot_pixels": 0, "dead_pixels": 0}
STILL = SimulationParams(
    ice_noise=0.0, deformation_angstrom=0.0, drift_angstrom=0.0, doming_angstrom=0.0, stage_jitter_angstrom=0.0,
    tilt_error_deg=0.0, mtf_at_nyquist=1.0, b_factor=0.0, astigmatism_angstrom=0.0, defocus_jitter_angstrom=0.0,
    illumination_mrad=0.0, energy_spread_ev=0.0, high_tension_ppm=0.0, lens_current_ppm=0.0, frames=1,
    tilt_min_deg=0.0, tilt_max_deg=0.0, **EMPTY,
)  # fmt: skip


def acquire(params, geometry=None):
    geometry = TiltGeometry.build(0.0) if geometry is None else geometry
    count = len(geometry)
    return Acquisition(
        nominal_tilts_deg=geometry.y_tilt_deg,
        order=np.arange(count),
        geometry=geometry,
        defocus_u_angstrom=np.full(count, params.defocus_angstrom),
        defocus_v_angstrom=np.full(count, params.defocus_angstrom),
        motion_angstrom=np.zeros((count, params.frames, 2)),
        deformation=np.zeros((3, 6)),
    )


def body(points, weights, centres=((0.0, 0.0, 0.0),), rotation=None, fades=False):
    return Body(
        points_angstrom=np.asarray(points, dtype=float).reshape(-1, 3),
        weights=np.asarray(weights, dtype=float),
        rotations=np.repeat(np.eye(3)[None] if rotation is None else rotation[None], len(centres), axis=0),
        centres_angstrom=np.asarray(centres, dtype=float),
        fades=fades,
    )


def image_of(bodies, params, course=None, seed=1):
    frames = form_frames(bodies, acquire(params) if course is None else course, params, 0, seeded_generator(seed))
    return frames[0].double().numpy()


def frequencies(shape, pixel):
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0], pixel), np.fft.fftfreq(shape[1], pixel), indexing="ij")
    return fy, fx, np.hypot(fy, fx)


def chi(k, defocus):
    """Without the amplitude contrast."""
    return math.pi * WAVELENGTH * k**2 * (defocus - 0.5 * WAVELENGTH**2 * CS * k**2)


def power_of(image):
    rows, columns = image.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    spectrum = np.fft.fft2((image / image.mean() - 1.0) * window)
    return np.abs(spectrum) ** 2 / (window**2).sum()


@pytest.mark.parametrize(
    ("formation", "quantum_efficiency", "step"),
    [("weak-phase", 1.0, 12.0), ("weak-phase", 0.8, 12.0), ("multislice", 1.0, 30.0)],
)
def test_logarithm_of_counts_is_a_line_over_the_path(formation, quantum_efficiency, step):
    params = STILL.replace(
        tilt_min_deg=-60.0, tilt_max_deg=60.0, tilt_step_deg=step, image_size_px=(192, 192), thickness_angstrom=1400.0,
        inelastic_path_angstrom=2800.0, ice_noise=0.8, gain_variation=0.0, dqe_at_zero=quantum_efficiency,
        formation=formation, slice_angstrom=200.0,
    )  # fmt: skip
    series = SimulatedSeries.build(params)
    means = [series.movie(t).mean() for t in range(round(120.0 / step) + 1)]
    inverse = 1.0 / np.cos(np.radians(np.arange(-60.0, 61.0, step)))
    slope, start = np.polyfit(inverse, np.log(means), 1)
    assert slope == pytest.approx(-1400.0 / 2800.0, rel=0.02)
    assert start == pytest.approx(math.log(3.0 * 25.0 * quantum_efficiency), abs=0.02)
    assert np.abs(np.log(means) - start - slope * inverse).max() < 0.01  # 36 864 pixels of 28 counts: 0.1%


@pytest.mark.parametrize("formation", ["weak-phase", "multislice"])
def test_thon_rings_are_where_theory_puts_them(formation):
    params = STILL.replace(
        pixel_size_angstrom=3.0, image_size_px=(384, 384), defocus_angstrom=15000.0, thickness_angstrom=150.0,
        ice_noise=1.0, formation=formation, depth_step_angstrom=50.0, slice_angstrom=50.0,
    )  # fmt: skip
    rng = np.random.default_rng(8)
    particle = procedural_macromolecule(60.0).coarse(3.0)
    centres = np.column_stack([rng.uniform(-650, 650, (60, 2)), np.zeros(60)])
    protein = body(particle.points_angstrom, particle.weights, centres)
    power = power_of(image_of([protein], params))
    # at focus a phase plate of 90 degrees shows the specimen itself
    plain = acquire(params.replace(defocus_angstrom=0.0))
    plain.phase_shift_deg[:] = 90.0 - math.degrees(math.asin(CONTRAST))
    specimen = power_of(image_of([protein], params, plain))
    _, _, k = frequencies((384, 384), 3.0)
    found = []
    for order in (1, 2, 3, 4, 5):
        # between two maxima: sin^2 times the specimen, stretched by a factor to be found
        near = np.abs(chi(k, 15000.0) + math.asin(CONTRAST) - order * math.pi) < 0.5 * math.pi
        misfits = []
        stretches = np.arange(0.96, 1.0401, 0.002)
        for stretch in stretches:
            ring = np.sin(chi(k[near] / stretch, 15000.0) + math.asin(CONTRAST)) ** 2
            model = np.stack([np.ones(near.sum()), ring * specimen[near]], axis=1)
            misfits.append(np.linalg.lstsq(model, power[near], rcond=None)[1][0])
        found.append(stretches[int(np.argmin(misfits))])
    np.testing.assert_allclose(found, 1.0, atol=0.01)


@pytest.mark.parametrize("formation", ["weak-phase", "multislice"])
def test_nodes_of_a_thick_film_are_where_theory_puts_them(formation):
    thickness = 1600.0
    params = STILL.replace(
        pixel_size_angstrom=2.0, image_size_px=(448, 448), defocus_angstrom=20000.0, thickness_angstrom=thickness,
        ice_noise=1.0, formation=formation, depth_step_angstrom=100.0, slice_angstrom=100.0,
    )  # fmt: skip
    power = power_of(image_of([], params))
    _, _, k = frequencies((448, 448), 2.0)
    modulation = -np.cos(2.0 * (chi(k, 20000.0) + math.asin(CONTRAST)))
    node = math.sqrt(1.0 / (WAVELENGTH * thickness))  # power: 1 - sinc(lambda k^2 t) cos(2 chi)

    def visibility(frequency):
        ring = np.abs(k - frequency) < 0.015
        return np.cov(power[ring], modulation[ring])[0, 1] / modulation[ring].var() / power[ring].mean()

    trials = np.arange(0.75, 1.26, 0.05) * node
    strength = np.array([visibility(f) for f in trials])
    crossing = int(np.flatnonzero((strength[:-1] > 0) & (strength[1:] <= 0))[0])
    part = strength[crossing] / (strength[crossing] - strength[crossing + 1])
    assert trials[crossing] + part * (trials[1] - trials[0]) == pytest.approx(node, rel=0.05)
    # and the power is that of water's density: 0.0311 molecules of 145.7 V A^3 in A^3, structure factor 0.063
    expected = 4.0 * SIGMA**2 * 0.5 * 0.0311 * 145.7**2 * 0.063 * thickness / 2.0**2
    middle = (k > 0.1) & (k < 0.2)
    assert power[middle].mean() == pytest.approx(expected, rel=0.04)  # some 15 000 independent values: 1%


@pytest.mark.parametrize("quantum_efficiency", [1.0, 0.5])
def test_matched_filter_finds_what_the_formula_allows(quantum_efficiency):
    params = STILL.replace(
        image_size_px=(128, 128), pixel_size_angstrom=4.0, defocus_angstrom=20000.0, thickness_angstrom=500.0,
        dqe_at_zero=quantum_efficiency, mtf_at_nyquist=0.6, b_factor=150.0,
    )  # fmt: skip
    particle = procedural_macromolecule(250.0).coarse(6.0)
    expected = torch.from_numpy(image_of([body(particle.points_angstrom, particle.weights)], params))
    # of a particle that is known, with counts N and contrast c: sum (N c)^2 / N; its transform by a direct sum
    fy, fx, k = frequencies((128, 128), 4.0)
    rows = np.exp(-2j * np.pi * np.outer(fy[:, 0], particle.points_angstrom[:, 1])) * particle.weights
    total = rows @ np.exp(-2j * np.pi * np.outer(particle.points_angstrom[:, 0], fx[0]))
    transfer = -np.sin(chi(k, 20000.0) + math.asin(CONTRAST)) * np.exp(-0.25 * 150.0 * k**2) * 0.6 ** ((k * 8.0) ** 2)
    contrast = 2.0 * SIGMA * np.abs(total * transfer) / 16.0
    counts = quantum_efficiency * 3.0 * 16.0 * math.exp(-500.0 / 3000.0)
    theory = math.sqrt(counts * (contrast**2).sum() / 128**2)
    template = expected - expected.mean()
    noise = seeded_generator(5)
    scores = torch.stack([(torch.poisson(expected, generator=noise) * template).sum() for _ in range(600)])
    empty = torch.full_like(expected, float(expected.mean()))
    without = torch.stack([(torch.poisson(empty, generator=noise) * template).sum() for _ in range(600)])
    measured = float((scores.mean() - without.mean()) / without.std())
    assert theory > 5.0
    assert measured == pytest.approx(theory, rel=0.09)  # 600 draws: 3% sd of the noise's width


@pytest.mark.parametrize("seed", [None, 4])
def test_an_image_holds_the_central_slice_of_its_box(seed):
    params = STILL.replace(
        image_size_px=(96, 96), pixel_size_angstrom=4.0, defocus_angstrom=8000.0, thickness_angstrom=400.0,
        depth_step_angstrom=40.0, b_factor=200.0,
    )  # fmt: skip
    particle = procedural_macromolecule(120.0)
    turn = np.eye(3) if seed is None else Rotation.random(1, np.random.default_rng(seed)).matrices[0]
    image = image_of([body(particle.points_angstrom, particle.weights, rotation=turn)], params)
    turned = Species(
        name="x", mass_kda=120.0, points_angstrom=particle.points_angstrom @ turn.T, weights=particle.weights
    )
    box = turned.volume((96, 96, 96), 4.0, b_factor=200.0).double().numpy()
    central = np.fft.fftn(np.fft.ifftshift(box))[0] * 4.0  # V A, summed along the beam
    _, _, k = frequencies((96, 96), 4.0)
    contrast = image / (3.0 * 16.0 * math.exp(-400.0 / 3000.0)) - 1.0
    found = np.fft.fft2(np.fft.ifftshift(contrast))
    expected = -2.0 * SIGMA * np.sin(chi(k, 8000.0) + math.asin(CONTRAST)) * central
    band = (k > 0) & (k < 0.08)  # the particle's depth changes the defocus: 50 A shift chi by 0.02 at 12 A
    assert np.abs(found - expected)[band].max() < 0.01 * np.abs(expected)[band].max()


@pytest.mark.parametrize("tilt", [0.0, 50.0])
def test_multislice_tends_to_weak_phase_as_the_specimen_weakens(tilt):
    params = STILL.replace(
        image_size_px=(128, 128), pixel_size_angstrom=3.0, thickness_angstrom=300.0, depth_step_angstrom=50.0,
        b_factor=200.0,
    )  # fmt: skip
    course = acquire(params, TiltGeometry.build(tilt, z_rot_deg=84.0))
    particle = procedural_macromolecule(300.0).coarse(2.0)
    centres = [(0.0, 0.0, 0.0), (60.0, 100.0, 50.0), (-90.0, -80.0, -60.0)]
    band = frequencies((128, 128), 3.0)[2]
    band = (band > 0.01) & (band < 0.14)
    window = np.hanning(128)[:, None] * np.hanning(128)
    apart = []
    for weakness in (1.0, 0.1, 0.01):
        bodies = [body(particle.points_angstrom, weakness * particle.weights, centres)]
        weak = image_of(bodies, params, course)
        strong = image_of(bodies, params.replace(formation="multislice"), course)
        weak, strong = (np.fft.fft2((i / i.mean() - 1.0) * window)[band] for i in (weak, strong))
        apart.append(np.linalg.norm(strong - weak) / np.linalg.norm(weak))
    assert apart[0] > 0.05  # of a whole particle they are told apart
    assert apart[1] == pytest.approx(0.1 * apart[0], rel=0.4)  # what weak phase leaves out is quadratic
    assert apart[2] < 0.01


@pytest.mark.parametrize("hand", [-1, 1])
def test_multislice_is_the_wave_that_passes_two_strong_phase_objects(hand):
    pixel, shape, blur = 3.0, (160, 160), 600.0
    params = STILL.replace(
        image_size_px=shape, pixel_size_angstrom=pixel, thickness_angstrom=1000.0, b_factor=blur, hand=hand,
        defocus_angstrom=12000.0, formation="multislice", slice_angstrom=50.0,
    )  # fmt: skip
    weights, places = (1e5, -7e4), ((30.0, -12.0, 400.0), (-12.0, 24.0, -400.0))
    image = image_of([body((0, 0, 0), [w], [p]) for w, p in zip(weights, places, strict=True)], params)
    # on a grid twice as wide and twice as fine
    wide, fine = 640, 0.5 * pixel
    fy, fx, k = frequencies((wide, wide), fine)
    alpha = math.asin(CONTRAST)
    waves = []
    for weight, (x, y, _) in zip(weights, places, strict=True):
        transform = weight / fine**2 * np.exp(-0.25 * blur * k**2 - 2j * np.pi * (fx * x + fy * y))
        waves.append(np.exp(1j * SIGMA * np.fft.ifft2(transform).real * np.exp(1j * alpha)))
    assert np.abs(waves[0].imag).max() > 0.8  # no weak phase object
    if hand > 0:  # what has less underfocus is met first
        waves.reverse()
    flight = np.exp(-1j * math.pi * WAVELENGTH * k**2 * 800.0)
    passed = np.fft.ifft2(np.fft.fft2(waves[0]) * flight) * waves[1]
    seen = np.fft.ifft2(np.fft.fft2(passed) * np.exp(1j * chi(k, 12000.0 + 400.0)))
    expected = np.fft.fftshift(np.abs(seen) ** 2)[160:480:2, 160:480:2]
    found = image / (3.0 * pixel**2 * math.exp(-1000.0 / 3000.0))
    assert np.ptp(expected) > 0.4
    assert np.abs(found - expected).max() < 0.03 * np.ptp(expected)
    backwards = np.fft.ifft2(np.fft.fft2(waves[1]) * flight) * waves[0]
    other = np.fft.ifft2(np.fft.fft2(backwards) * np.exp(1j * chi(k, 12000.0 + 400.0)))
    other = np.fft.fftshift(np.abs(other) ** 2)[160:480:2, 160:480:2]
    assert np.abs(found - other).max() > 0.06 * np.ptp(expected)
