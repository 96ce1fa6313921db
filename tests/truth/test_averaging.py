"""Particles cut from images and averaged: against a phantom whose projections are written down, with a CTF written here."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.correlate_maps import correlate_halves, crossing_angstrom, resolution_against_truth
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.particle_images import ParticleImages, prepare_series
from eucentric.averaging.soft_mask import ball_mask, soft_mask
from eucentric.averaging.solve_average import solve_average
from eucentric.averaging.tilt_images import noise_power, sampling_for
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier import frequency_grid
from eucentric.geometry import ImageWarp, Rotation, TiltGeometry
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.models import CtfFit, Optics, ParticleSet, Tilt, TiltPose, TiltSeries
from eucentric.projection import turned_mean
from eucentric.simulation import asymmetric_phantom

PIXEL, BOX, SHAPE = 6.0, 48, (200, 210)
PHANTOM = asymmetric_phantom(80.0)
OPTICS = Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1)
TILTS = np.arange(-50.0, 51.0, 10.0)
LEVEL = 40.0
STRENGTH = 1e-3  # contrast for each A of the phantom's density


def _series(*, hand=-1.0, pre=0.0, astigmatism=600.0):
    rng = np.random.default_rng(3)
    tilts = [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=i,
            dose=3.0 if pre else 0.0,
            pre_exposure=pre * i,
            pose=TiltPose(
                y_tilt_deg=float(a),
                z_rot_deg=84.0,
                x_tilt_deg=2.0,
                x_shift_angstrom=rng.normal(0, 20),
                y_shift_angstrom=rng.normal(0, 20),
            ),
            ctf=CtfFit(
                defocus_u_angstrom=18000.0 + 100.0 * i + astigmatism,
                defocus_v_angstrom=18000.0 + 100.0 * i,
                astigmatism_angle_deg=20.0,
            ),
        )
        for i, a in enumerate(TILTS)
    ]
    return TiltSeries(
        name="T", pixel_size_angstrom=PIXEL, image_shape=SHAPE, tilts=tuple(tilts), optics=OPTICS, hand=hand
    )


def _transfer(fit, defocus_change, shape, pixel):
    """-sin chi, written out."""
    ky, kx = np.fft.fftfreq(shape[0], pixel)[:, None], np.fft.rfftfreq(shape[1], pixel)
    k2, angle = kx**2 + ky**2, np.arctan2(ky, kx)
    mean = 0.5 * (fit.defocus_u_angstrom + fit.defocus_v_angstrom) + defocus_change
    half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
    z = mean + half * np.cos(2.0 * (angle - math.radians(fit.astigmatism_angle_deg)))
    wave = OPTICS.wavelength_angstrom
    chi = math.pi * wave * k2 * z - 0.5 * math.pi * 2.7e7 * wave**3 * k2**2 + math.asin(0.1)
    return -np.sin(chi)


def _images(series, particles, rotations, *, noise=0.0):
    """Counts: every particle with the CTF of its own height."""
    geometry = TiltGeometry.from_poses(series.poses)
    contrast = np.zeros((len(series.tilts), *SHAPE))
    for place, turn in zip(particles, rotations, strict=True):
        seen = PHANTOM.transformed(turn, place).project(geometry, SHAPE, PIXEL, dtype=torch.float64).numpy()
        heights = geometry.project(place)[:, 2]
        for t, tilt in enumerate(series.tilts):
            transfer = _transfer(tilt.ctf, series.hand * heights[t], SHAPE, PIXEL)
            contrast[t] += STRENGTH * np.fft.irfft2(np.fft.rfft2(seen[t]) * transfer, s=SHAPE)
    contrast += noise * np.random.default_rng(5).standard_normal(contrast.shape)
    return torch.from_numpy(LEVEL * (1.0 + contrast)).float()


def _particles(count=12, seed=1, reach=430.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 1.0, (count, 3)) * [reach, reach, 500.0], Rotation.random(count, rng).matrices


def _sums(source, places, rotations, rows=slice(None)):
    sums = FourierSums.empty(source.params.box_size, source.pixel_size_angstrom)
    batch = source.particles(places[rows])
    sums.add(batch, rotations[rows])
    return sums


def _band_error(got, truth, voxel, finest):
    frequency = np.linalg.norm(np.meshgrid(*[np.fft.fftfreq(got.shape[0], voxel)] * 3, indexing="ij"), axis=0)
    keep = (frequency < 1.0 / finest) & (frequency > 1.0 / 150.0)
    a, b = np.fft.fftn(got)[keep], np.fft.fftn(truth)[keep]
    gain = (a * b.conj()).real.sum() / (np.abs(b) ** 2).sum()
    return gain, np.sqrt((np.abs(a - b) ** 2).sum() / (np.abs(b) ** 2).sum())


@pytest.fixture(scope="module")
def scene():
    series = _series()
    places, rotations = _particles()
    return series, places, rotations, _images(series, places, rotations, noise=1e-4)


@pytest.mark.parametrize(("pixel", "box"), [(PIXEL, BOX), (8.1, 40)])
def test_average_is_the_phantom_in_place_hand_and_scale(scene, pixel, box):
    series, places, rotations, images = scene
    params = ExtractParams(box_size=box, pixel_size_angstrom=pixel, tilt_weights="none")
    source = prepare_series(images, series, params)
    assert source.pixel_size_angstrom == pytest.approx(pixel, rel=1e-5)
    volume = solve_average(*_sums(source, places, rotations).finished()).numpy()
    truth = STRENGTH * PHANTOM.volume((box,) * 3, pixel).numpy()
    # particles overlap in projection, and each sees the others as noise: a quarter of the amplitude is left of them
    gain, error = _band_error(volume, truth, pixel, 30.0)
    assert gain == pytest.approx(1.0, abs=0.08)
    assert error < 0.3
    mirrored = STRENGTH * PHANTOM.mirrored().volume((box,) * 3, pixel).numpy()
    assert _band_error(volume, mirrored, pixel, 30.0)[1] > 2.0 * error


def _all_round():
    tilts = np.arange(-90.0, 90.0, 4.0)
    base = _series()
    return base.with_tilts(()).replace(
        tilts=tuple(
            Tilt(
                nominal_tilt_deg=float(a),
                acquisition=i,
                dose=0.0,
                pre_exposure=0.0,
                pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=10.0),
                ctf=CtfFit(defocus_u_angstrom=9000.0 + 500.0 * (i % 9), defocus_v_angstrom=9000.0 + 500.0 * (i % 9)),
            )
            for i, a in enumerate(tilts)
        )
    )


def test_one_particle_alone_in_all_directions_is_true_to_a_few_percent():
    series = _all_round()
    place, turn = np.array([[40.0, -33.0, 21.0]]), Rotation.from_relion([30.0], [60.0], [-20.0]).matrices
    # nothing but the particle is in these images, and no noise: nothing tells what power is usual
    params = ExtractParams(box_size=BOX, tilt_weights="none", image_weights=False)
    source = prepare_series(_images(series, place, turn), series, params)
    volume = solve_average(*_sums(source, place, turn).finished()).numpy()
    gain, error = _band_error(volume, STRENGTH * PHANTOM.volume((BOX,) * 3, PIXEL).numpy(), PIXEL, 26.0)
    # the samples' weights are smoothed over a box, and 45 slices are all there are
    assert gain == pytest.approx(1.0, abs=0.05)
    assert error < 0.15


BEAM_TILT, TREFOIL = (350.0, -250.0), (3e4, -2e4)  # far more than a microscope has: these pixels are coarse


def _signal(series, *, scaled=False, faded=False, tilted=False, trefoil=False):
    """The series with what is known of its signal, and by what that multiplies the transform of each image."""
    steep = np.abs(series.nominal_tilts_deg) / 90.0
    scale = 1.0 - (0.9 if scaled else 0.0) * steep
    b = (4000.0 if faded else 0.0) * steep
    known = [
        replace(tilt, signal_scale=float(s), b_factor_angstrom2=float(f))
        for tilt, s, f in zip(series.tilts, scale, b, strict=True)
    ]
    optics = replace(
        OPTICS,
        beam_tilt_mrad=BEAM_TILT if tilted else (0.0, 0.0),
        trefoil_rad_angstrom3=TREFOIL if trefoil else (0.0, 0.0),
    )
    ky, kx = np.fft.fftfreq(SHAPE[0], PIXEL)[:, None], np.fft.rfftfreq(SHAPE[1], PIXEL)
    k2 = kx**2 + ky**2
    across = 1e-3 * (kx * optics.beam_tilt_mrad[0] + ky * optics.beam_tilt_mrad[1])
    psi = -2.0 * math.pi * 2.7e7 * OPTICS.wavelength_angstrom**2 * k2 * across
    cube = (kx + 1j * ky) ** 3
    psi = psi + optics.trefoil_rad_angstrom3[0] * cube.real + optics.trefoil_rad_angstrom3[1] * cube.imag
    gains = scale[:, None, None] * np.exp(-0.25 * b[:, None, None] * k2 + 1j * psi)
    return series.with_tilts(known).replace(optics=optics), gains


@pytest.fixture(scope="module")
def alone():
    """Particles each alone in its images, where nothing tells what power is usual."""
    series = _series()
    places, rotations = _particles(12, reach=100.0)
    stacks = [_images(series, places[[i]], rotations[[i]]) for i in range(len(places))]
    return series, places, rotations, [torch.fft.rfft2(stack / LEVEL - 1.0) for stack in stacks]


@pytest.mark.parametrize("what", ["scaled", "faded", "tilted", "trefoil"])
def test_what_is_known_of_the_signal_is_taken_into_account(alone, what):
    plain, places, rotations, spectra = alone
    known, gains = _signal(plain, **{what: True})
    stacks = [LEVEL * (1.0 + torch.fft.irfft2(s * torch.from_numpy(gains).to(s), s=SHAPE)) for s in spectra]
    params = ExtractParams(box_size=BOX, tilt_weights="none", image_weights=False)
    truth = STRENGTH * PHANTOM.volume((BOX,) * 3, PIXEL).numpy()
    found = []
    for series in (known, plain):
        sums = FourierSums.empty(BOX, PIXEL)
        for i, stack in enumerate(stacks):
            sums = sums + _sums(prepare_series(stack, series, params), places, rotations, [i])
        found.append(_band_error(solve_average(*sums.finished()).numpy(), truth, PIXEL, 26.0))
    assert found[0][0] == pytest.approx(1.0, abs=0.05)
    assert found[0][1] < 0.15
    assert found[1][1] > 1.3 * found[0][1], found


def test_the_signal_counts_only_where_ctf_or_damage_do_and_phases_only_with_the_ctf():
    known, _ = _signal(_all_round(), scaled=True, faded=True, tilted=True)
    images = torch.from_numpy(np.random.default_rng(0).normal(LEVEL, 1.0, (len(known.tilts), *SHAPE))).float()
    alike = ExtractParams(box_size=BOX, tilt_weights="none", ctf=False, dose_weighting=False)
    source = prepare_series(images, known, alike)
    assert source.back is None
    assert bool((source.envelope == 1.0).all())
    damaged = prepare_series(images, known, alike.replace(dose_weighting=True))
    assert damaged.back is None
    np.testing.assert_allclose(damaged.envelope[:, 0, 0], [t.signal_scale for t in known.tilts], rtol=1e-6)
    assert prepare_series(images, known, alike.replace(ctf=True)).back is not None


def test_windows_that_are_added_have_their_transforms_again():
    known, _ = _signal(_all_round(), tilted=True)
    source = prepare_series(torch.full((len(known.tilts), *SHAPE), LEVEL), known, ExtractParams(box_size=BOX))
    m, tilts, pixels = source.window_size, np.array([3, 20]), np.array([[101.3, 88.8], [95.0, 120.4]])
    fy, fx = torch.fft.fftfreq(m)[:, None], torch.fft.rfftfreq(m)
    blob = torch.exp(-150.0 * (fy.square() + fx.square())).to(torch.complex64).expand(2, -1, -1)
    empty = torch.zeros_like(source.images)
    source.add_windows(empty, blob, tilts, pixels)
    got = source.spectra(tilts, pixels, of=empty)
    assert float((got - blob).abs().max()) < 0.01
    assert not empty[[0, 4, 21]].any()


def test_public_parts_make_up_the_data(scene):
    series, places, _, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, padding=1))
    batch, seen = source.particles(places[:1]), source.project(places[:1])
    tilts = batch.tilt
    pixels, heights = seen.pixels[tilts, 0], seen.heights_angstrom[tilts, 0]
    transfer = -torch.sin(source.chi(tilts, heights)) * source.envelope[tilts]
    torch.testing.assert_close(
        batch.weight,
        transfer.square() * source.inverse_noise[tilts] * source.shares(tilts, pixels),
        rtol=1e-4,
        atol=1e-3,
    )
    free = prepare_series(images, series, ExtractParams(box_size=BOX, ctf=False, image_weights=False))
    assert bool((free.shares(tilts, pixels) == 1.0).all())
    assert bool((free.chi(tilts, heights).sin() == 1.0).all())


def test_the_hand_of_defocus_counts():
    series = _series().replace(tilts=_series().tilts[4:7])
    turn = Rotation.from_relion([30.0], [60.0], [-20.0]).matrices
    place = np.array([[0.0, 0.0, 2500.0]])
    images = _images(series, place, turn)
    geometry = TiltGeometry.from_poses(series.poses)
    centred = geometry.replace(shifts_angstrom=np.zeros((3, 2)))
    seen = PHANTOM.transformed(turn[0]).project(centred, (BOX, BOX), PIXEL)
    model = torch.fft.rfft2(torch.fft.ifftshift(seen, dim=(1, 2)))
    frequency = torch.hypot(torch.fft.fftfreq(BOX, PIXEL)[:, None], torch.fft.rfftfreq(BOX, PIXEL))
    band = (frequency > 1.0 / 30.0) & (frequency < 1.0 / 18.0)
    likeness = []
    for hand in (-1.0, 1.0):
        source = prepare_series(images, series.replace(hand=hand), ExtractParams(box_size=BOX, tilt_weights="none"))
        batch = source.particles(place)
        score = (batch.data.conj() * model).real[:, band].sum()
        norm = (batch.data.abs().square() / batch.weight.clamp_min(1e-9))[:, band].sum()
        likeness.append(float(score / (norm * (batch.weight * model.abs().square())[:, band].sum()).sqrt()))
    assert likeness[0] > 0.995
    assert likeness[1] < 0.95


def test_moved_images_are_those_cut_at_the_other_place(scene):
    series, places, _, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, tilt_weights="none", padding=1, ctf=False))
    shift = np.array([[5.0, -4.0, 3.0]])
    moved = source.particles(places[:1]).moved(shift).data
    cut = source.particles(places[:1] + shift).data
    # other pixels come in at the edges of the window; the middle of the images is the same
    a, b = (torch.fft.fftshift(torch.fft.irfft2(d), dim=(1, 2))[:, 12:36, 12:36] for d in (moved, cut))
    assert float((a - b).norm() / b.norm()) < 0.02


def test_the_deformation_of_the_images_is_followed(scene):
    series, places, _rotations, images = scene
    displaced = np.zeros((len(series.tilts), 2, 2, 2))
    displaced[..., 0], displaced[..., 1] = 12.0, -18.0  # two and three pixels
    warp = ImageWarp.build(displaced, SHAPE, PIXEL)
    moved = torch.roll(images, (-3, 2), dims=(1, 2))
    params = ExtractParams(box_size=BOX, tilt_weights="none")
    straight = prepare_series(images, series, params).particles(places[:3])
    bent = prepare_series(moved, series, params, warp=warp).particles(places[:3])
    assert float((straight.data - bent.data).norm() / straight.data.norm()) < 0.05


def test_sums_of_parts_are_the_sum_of_all_and_symmetry_makes_copies_alike(scene):
    series, places, rotations, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX))
    whole = _sums(source, places, rotations)
    parts = _sums(source, places, rotations, slice(0, 9)) + _sums(source, places, rotations, slice(9, None))
    torch.testing.assert_close(parts.data, whole.data, rtol=1e-4, atol=1e-4 * float(whole.data.abs().max()))
    assert parts.images == whole.images
    group = symmetry_rotations("D2")
    volume = solve_average(*whole.finished(group))
    # D2 with its axes along x, y and z maps voxels onto voxels
    turned = torch.roll(volume.flip((0, 1)), (1, 1), (0, 1))
    assert float((turned - volume).norm() / volume.norm()) < 2e-3
    with pytest.raises(ShapeError, match="cannot be added"):
        whole + FourierSums.empty(32, PIXEL)


def test_symmetry_on_the_grid_equals_copies_inserted_one_by_one(scene):
    series, places, rotations, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, tilt_weights="none"))
    batch = source.particles(places[:4])
    group = symmetry_rotations("C3")
    once = FourierSums.empty(BOX, PIXEL)
    once.add(batch, rotations[:4])
    copies = FourierSums.empty(BOX, PIXEL)
    for g in group:
        copies.add(batch, rotations[:4] @ g)
    inside = frequency_grid((BOX,) * 3, 1.0) < 0.4  # what lies beyond Nyquist's ball is not in every copy, and leaks
    for a, b in zip(once.finished(group), copies.finished(), strict=True):
        assert float((a - b)[inside].abs().norm() / b[inside].abs().norm()) < 0.01


def test_tilts_and_particles_that_do_not_count(scene):
    series, places, _rotations, images = scene
    places = np.concatenate([places[:2], [[5000.0, 0.0, 0.0]]])
    batch = prepare_series(images, series, ExtractParams(box_size=BOX)).particles(places)
    assert batch.count == 3
    assert not (batch.particle == 2).any()
    steep = prepare_series(images, series, ExtractParams(box_size=BOX, max_tilt_deg=31.0))
    assert len(steep.series.tilts) == 7
    dosed = _series(pre=3.0)
    early = prepare_series(images, dosed, ExtractParams(box_size=BOX, max_dose=12.0))
    assert [t.acquisition for t in early.series.tilts] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="No tilt of T is left"):
        prepare_series(images, dosed, ExtractParams(box_size=BOX, max_dose=1.0))


def test_damage_lowers_what_late_images_say(scene):
    series, places, _, images = scene
    batch = prepare_series(images, _series(pre=6.0), ExtractParams(box_size=BOX, tilt_weights="none")).particles(
        places[:1]
    )
    ring = batch.weight[:, 0, 18:22].mean(1)
    plain = prepare_series(images, series, ExtractParams(box_size=BOX, tilt_weights="none")).particles(places[:1])
    share = ring / plain.weight[:, 0, 18:22].mean(1)
    assert (np.diff(share.numpy()) < 0).all()


def test_noise_is_measured_and_an_empty_image_does_not_rule():
    images = torch.from_numpy(np.random.default_rng(2).normal(0.0, [[[2.0]], [[3.0]], [[0.0]]], (3, 160, 160))).float()
    power = noise_power(images, 64)
    # the median of a few windows lies a little below the mean
    assert power[0].mean() == pytest.approx(4.0, rel=0.1)
    assert power[1].mean() == pytest.approx(9.0, rel=0.1)
    assert (power[2] > 0.009 * power[0]).all()


@pytest.mark.parametrize(("shape", "size"), [((60, 64), 96), ((60, 60), 48), ((94, 206), 96), ((17, 15), 32)])
def test_noise_of_small_images_does_not_jump_from_shell_to_shell(shape, size):
    rng = np.random.default_rng(6)
    images = torch.from_numpy(rng.normal(0.0, 3.0, (4, *shape))).float()
    curves = noise_power(images, size)
    assert curves.shape == (4, size // 2)
    # three windows along the shorter edge; two of them, or shells without a sample, jumped by factors of two and more
    steps = (curves[:, 2:] / curves[:, 1:-1]).log().abs()
    assert float(steps.max()) < 0.35
    assert float(curves[:, size // 8 :].mean()) == pytest.approx(9.0, rel=0.15)


def test_noise_that_falls_with_frequency_keeps_its_fall():
    rng = np.random.default_rng(7)
    shape, size = (96, 96), 64
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    amplitude = 1.0 / np.sqrt(0.02 + frequency)
    images = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(40, *shape))) * amplitude, s=shape)
    found = noise_power(torch.from_numpy(images).float(), size).double().log().mean(0).exp().numpy()
    middles = (np.arange(size // 2) + 0.5) / size
    ratio = found * (0.02 + middles)
    # each window has lost its mean, and with it some of the coarsest detail
    assert (np.abs(ratio[3:] - 1.0) < 0.15).all()
    assert (np.abs(ratio[1:] - 1.0) < 0.4).all()


def test_missing_optics_and_finer_pixels_are_refused(scene):
    series, _, _, images = scene
    with pytest.raises(InputError, match="nothing finer"):
        prepare_series(images, series, ExtractParams(box_size=BOX, pixel_size_angstrom=3.0))
    blind = series.with_tilts(
        [t.__class__(**{n: getattr(t, n) for n in t.__slots__} | {"ctf": None}) for t in series.tilts]
    )
    with pytest.raises(InputError, match="not known"):
        prepare_series(images, blind, ExtractParams(box_size=BOX))
    with pytest.raises(ShapeError, match="were given for"):
        prepare_series(images[:3], series, ExtractParams(box_size=BOX))
    assert sampling_for((768, 768), 4.0, 4.0) == ((768, 768), (768, 768))


# symmetry, by another way


@pytest.mark.parametrize("group", ["C1", "C3", "T"])
def test_mean_over_rotations_is_the_mean_of_turned_phantoms(group):
    n, voxel = 48, 4.2
    turns = symmetry_rotations(group)
    got = turned_mean(PHANTOM.volume((n,) * 3, voxel), turns)
    truth = sum(PHANTOM.transformed(g.T).volume((n,) * 3, voxel) for g in turns) / len(turns)
    assert float((got - truth).norm() / truth.norm()) < 2e-3
    slow = turned_mean(PHANTOM.volume((n,) * 3, voxel, dtype=torch.float64), turns)
    assert float((got - slow).norm() / truth.norm()) < 5e-4


def test_mean_over_rotations_refuses_other_shapes():
    with pytest.raises(ShapeError, match="cube"):
        turned_mean(torch.zeros(8, 8, 10), np.eye(3)[None])


# halves


def _set(positions, **columns):
    return ParticleSet.build("T", positions, columns=columns)


def test_neighbours_share_a_half_and_halves_are_of_one_size():
    rng = np.random.default_rng(4)
    lone = rng.uniform(-5000.0, 5000.0, (60, 3))
    places = np.concatenate([lone, lone + rng.normal(0.0, 10.0, lone.shape)])
    halves = assign_halves(_set(places), 80.0)
    assert (halves[:60] == halves[60:]).all()
    assert abs(int((halves == 1).sum()) - 60) <= 2
    assert (assign_halves(_set(places), 80.0) == halves).all()


def test_a_lattice_is_cut_not_left_to_one_half():
    grid = np.stack(np.meshgrid(*[np.arange(8) * 50.0] * 2, [0.0], indexing="ij"), -1).reshape(-1, 3)
    halves = assign_halves(_set(grid), 60.0)
    assert abs(int((halves == 1).sum()) - 32) <= 16
    links = [(i, j) for i in range(64) for j in range(i) if np.linalg.norm(grid[i] - grid[j]) < 60.0]
    torn = sum(halves[i] != halves[j] for i, j in links)
    assert torn < 0.4 * len(links)


def test_given_halves_are_kept_and_missing_ones_refused():
    places = np.zeros((4, 3))
    assert assign_halves(_set(places, rlnRandomSubset=[1, 2, 2, 1]), 10.0).tolist() == [1, 2, 2, 1]
    with pytest.raises(InputError, match="2 of 4 particles have no half"):
        assign_halves(_set(places, rlnRandomSubset=[1, np.nan, 2, 0]), 10.0)
    with pytest.raises(InputError, match="All particles are in half 1"):
        assign_halves(_set(places, rlnRandomSubset=[1, 1, 1, 1]), 10.0)
    with pytest.raises(InputError, match="1 particle was given"):
        assign_halves(_set(places[:1]), 10.0)


# resolution


def test_noise_alone_has_no_resolution_and_a_tight_mask_adds_none():
    n, voxel = 48, 4.0
    generator = torch.Generator().manual_seed(1)
    line = torch.arange(n) - n // 2
    fall = torch.exp(-0.5 * (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2) / 36.0)
    blob = 12.0 * fall
    halves = [blob + torch.randn((n,) * 3, generator=generator) for _ in range(2)]
    tight = (fall > 0.3).float()
    found = correlate_halves(halves[0], halves[1], voxel, tight)
    assert found.masked[20:].mean() > 0.1
    assert abs(found.corrected[20:].mean()) < 0.08
    noise = correlate_halves(halves[0] - blob, halves[1] - blob, voxel, ball_mask(n, voxel, 90.0, 20.0))
    assert noise.resolution_angstrom > 40.0


def test_correlation_is_what_signal_and_noise_say():
    n, voxel = 64, 4.0
    generator = torch.Generator().manual_seed(2)
    signal = torch.randn((n,) * 3, generator=generator)
    one, two = (signal + 0.7 * torch.randn((n,) * 3, generator=generator) for _ in range(2))
    found = correlate_halves(one, two, voxel, torch.ones((n,) * 3))
    expected = 1.0 / (1.0 + 0.49)
    assert np.abs(found.unmasked[10:30] - expected).max() < 0.03
    resolution, _, curve = resolution_against_truth(one, signal, voxel)
    assert np.abs(curve[10:30] - math.sqrt(expected)).max() < 0.03
    assert resolution == pytest.approx(8.0, rel=0.05)


def test_crossings_lie_between_shells():
    frequency, curve = np.array([0.01, 0.02, 0.03, 0.04]), np.array([1.0, 0.9, 0.5, 0.1])
    assert crossing_angstrom(frequency, curve, 0.5 + 1e-9) == pytest.approx(1.0 / 0.03, rel=1e-3)
    assert crossing_angstrom(frequency, curve, 0.3) == pytest.approx(1.0 / 0.035)
    assert crossing_angstrom(frequency, curve, 0.05) == pytest.approx(25.0)
    assert math.isinf(crossing_angstrom(frequency, np.array([1.0, 0.0, 0.0, 0.0]), 0.143))


def test_filter_of_known_correlation_is_the_least_error():
    n = 32
    generator = torch.Generator().manual_seed(3)
    data = torch.fft.rfftn(torch.randn((n,) * 3, generator=generator))
    weight = torch.full(data.shape, 2.0)
    volume = solve_average(data, weight, correlation=torch.full((n // 2,), 0.8))
    inside = torch.fft.rfftn(torch.fft.ifftshift(volume))[3, 4, 5]
    # B / (W + W (1 - C) / C) = C B / W
    assert complex(inside) == pytest.approx(0.8 * complex(data[3, 4, 5]) / 2.0, rel=1e-4)


def test_mask_holds_the_particle_and_little_else():
    n, voxel = 48, 6.0
    volume = PHANTOM.volume((n,) * 3, voxel) + 0.02 * torch.randn((n,) * 3, generator=torch.Generator().manual_seed(1))
    mask = soft_mask(volume, voxel, low_pass_angstrom=30.0)
    inside = PHANTOM.volume((n,) * 3, voxel) > 0.2
    assert float(mask[inside].min()) > 0.9
    assert float(mask.mean()) < 0.35
    assert float(mask.max()) <= 1.0
    assert float(mask.min()) >= 0.0
    with pytest.raises(ProcessingError, match="no structure"):
        soft_mask(torch.zeros((n,) * 3), voxel, low_pass_angstrom=30.0)
    with pytest.raises(InputError, match="does not fit into a box"):
        ball_mask(32, 4.0, 120.0, 20.0)


def test_averages_of_halves_agree_as_far_as_they_are_true(scene):
    series, places, rotations, _ = scene
    images = _images(series, places, rotations, noise=0.003)
    source = prepare_series(images, series, ExtractParams(box_size=BOX))
    halves = np.array([1, 2] * 6)
    batch = source.particles(places)
    sums = []
    for half in (1, 2):
        own = FourierSums.empty(BOX, PIXEL)
        own.add(batch, rotations, (halves == half).astype(float))
        sums.append(own)
    seen = np.bincount(batch.particle, minlength=batch.count)
    result = average_halves((sums[0], sums[1]), AverageParams(), halves=halves, tilts_used=seen)
    truth = PHANTOM.volume((BOX,) * 3, PIXEL)
    true_resolution, _, curve = resolution_against_truth(result.volume, truth, PIXEL, result.mask)
    assert (curve[1:9] > 0.9).all()
    assert 0.8 < result.correlation.resolution_angstrom / true_resolution < 1.3
    empty = FourierSums.empty(BOX, PIXEL)
    with pytest.raises(InputError, match="No image shows a particle of half 2"):
        average_halves((sums[0], empty), AverageParams(), halves=halves, tilts_used=seen)
    with pytest.raises(InputError, match="does not fit"):
        average_halves((sums[0], sums[1]), AverageParams(mask_diameter_angstrom=280.0), halves=halves, tilts_used=seen)


def test_what_noise_has_in_common_in_all_tilts_does_not_reach_the_map(scene):
    series, places, turns, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, image_weights=False))
    batch = source.particles(places[:3])
    common = source.noise.parts[1]
    assert float((batch.common - common).abs().max()) == 0.0
    relative = source.noise.parts[0][:, :: source.params.padding, :: source.params.padding]
    torch.testing.assert_close(relative * common, source.inverse_noise[:, ::2, ::2])
    steep = torch.linspace(1.0, 30.0, BOX // 2 + 1)[None, None] * (common > 0)
    steeper = replace(batch, data=batch.data * steep, weight=batch.weight * steep, common=common * steep)
    sums = [FourierSums.empty(BOX, source.pixel_size_angstrom) for _ in range(2)]
    sums[0].add(batch, turns[:3])
    sums[1].add(steeper, turns[:3])
    torch.testing.assert_close(sums[1].data, sums[0].data, rtol=1e-3, atol=1e-4 * float(sums[0].data.abs().max()))
    torch.testing.assert_close(sums[1].weight, sums[0].weight, rtol=1e-3, atol=1e-4 * float(sums[0].weight.abs().max()))


def test_batches_put_together_are_those_cut_together(scene):
    series, places, _rotations, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=32))
    joined = ParticleImages.joined([source.particles(places[:2]), source.particles(places[2:5])])
    together = source.particles(places[:5])
    assert joined.particle.tolist() == together.particle.tolist()
    torch.testing.assert_close(joined.data, together.data)
    with pytest.raises(ShapeError, match="NaN"):
        FourierSums.empty(32, PIXEL).add(together, np.full((5, 3, 3), np.nan))
