"""Contrast transfer undone: images written down with the CTF at every scatterer's own height, and what is made of them."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier import fourier_shell_correlation, frequency_vectors
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import ctf_1d, ctf_2d
from eucentric.reconstruction import (
    ReconstructParams,
    SpectralRatio,
    Stopping,
    correct_ctf,
    estimate_signal_to_noise,
    invert_ctf,
    reconstruct_volume,
)
from eucentric.reconstruction.signal_to_noise import assumed_signal_to_noise

OPTICS = Optics(voltage_kv=30.0, spherical_aberration_mm=0.01, amplitude_contrast=0.1)
PIXEL = 1.5
SIGMA = 0.9  # A, of the scatterers
VOLUME = (24, 64, 110)
IMAGE = (100, 140)
TILTS = np.arange(-60.0, 61.0, 6.0)
HAND = -1.0
GEOMETRY = TiltGeometry.build(
    TILTS, z_rot_deg=25.0, shifts_angstrom=np.stack([np.linspace(-6, 6, len(TILTS)), np.linspace(4, -3, len(TILTS))], 1)
)
FITS = tuple(
    CtfFit(
        defocus_u_angstrom=800.0 + 30.0 * (t % 5), defocus_v_angstrom=700.0 + 30.0 * (t % 5), astigmatism_angle_deg=40.0
    )
    for t in range(len(TILTS))
)
MEAN = 50.0


def _images(points, weights, geometry, fits, hand, shape=IMAGE):
    """Line integrals of Gaussian blobs, each with the CTF of its height, as a dark specimen is recorded."""
    camera = geometry.project(points)
    fy, fx = np.fft.fftfreq(shape[0], PIXEL)[:, None], np.fft.rfftfreq(shape[1], PIXEL)[None]
    envelope = np.exp(-2.0 * (math.pi * SIGMA) ** 2 * (fx**2 + fy**2)) * (2.0 * math.pi) ** 1.5 * SIGMA**3 / PIXEL**2
    out = torch.zeros((len(geometry), *shape))
    for t, fit in enumerate(fits):
        spectrum = 0.0
        for (x, y, z), weight in zip(camera[t], weights, strict=True):
            phase = np.exp(-2j * math.pi * (fx * (x + PIXEL * (shape[1] // 2)) + fy * (y + PIXEL * (shape[0] // 2))))
            change = hand * z
            ctf = ctf_2d(
                shape,
                PIXEL,
                fit.defocus_u_angstrom + change,
                fit.defocus_v_angstrom + change,
                fit.astigmatism_angle_deg,
                OPTICS,
            )
            spectrum = spectrum + weight * envelope * phase * ctf.numpy()
        out[t] = torch.from_numpy(np.fft.irfft2(spectrum, s=shape))
    return out


def _points(count=45, seed=11):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, 3)) * [70.0, 36.0, 13.0], 0.5 + rng.random(count)


@cache
def _series():
    """Images of a dark specimen over a mean, with noise, as even and odd halves; and the truth."""
    points, weights = _points()
    contrast = _images(points, weights, GEOMETRY, FITS, HAND)
    noise = 5.0 * contrast.std()
    generator = torch.Generator().manual_seed(1)
    halves = [
        0.5 * MEAN * (1.0 + contrast) + MEAN * noise * math.sqrt(0.5) * torch.randn(contrast.shape, generator=generator)
        for _ in range(2)
    ]
    axes = [(np.arange(n) - n // 2) * PIXEL for n in VOLUME]
    truth = np.zeros(VOLUME)
    for (x, y, z), weight in zip(points, weights, strict=True):
        lines = [np.exp(-0.5 * ((axis - at) / SIGMA) ** 2) for axis, at in zip(axes, (z, y, x), strict=True)]
        truth -= weight * np.einsum("z,y,x->zyx", *lines)
    return halves, MEAN * (1.0 + contrast), torch.from_numpy(MEAN * truth).float()


def _sampled(shape=VOLUME):
    kz, ky, kx = frequency_vectors(shape, PIXEL)
    return ((kz.abs() <= math.tan(math.radians(60.0)) * kx.abs()) & (ky.abs() < 1.0)).float()


def _agreement(volume, truth):
    """Fourier shell correlation with the truth where it is sampled, up to 0.9 Nyquist."""
    _, curve = fourier_shell_correlation(volume - volume.mean(), truth - truth.mean(), PIXEL, mask=_sampled())
    return curve[2 : int(0.9 * len(curve))]


def _invert(images, ratio, geometry=GEOMETRY, **changes):
    options = {"fits": FITS, "hand": HAND, "stopping": Stopping(iterations=4), **changes}
    return invert_ctf(
        images,
        geometry,
        pixel_size=PIXEL,
        volume_shape=VOLUME,
        voxel_size=PIXEL,
        optics=OPTICS,
        signal_to_noise=ratio,
        **options,
    )


def _weighted(images, mode, hand=HAND, **changes):
    corrected = correct_ctf(
        images, GEOMETRY, pixel_size=PIXEL, fits=FITS, optics=OPTICS, hand=hand, mode=mode, **changes
    )
    return reconstruct_volume(
        corrected,
        GEOMETRY,
        pixel_size=PIXEL,
        volume_shape=VOLUME,
        voxel_size=PIXEL,
        params=ReconstructParams(dose_weighting=False),
    )


@cache
def _ratio():
    even, odd = _series()[0]
    return estimate_signal_to_noise(even, odd, pixel_size=PIXEL, fits=FITS, optics=OPTICS)


def test_the_inversion_beats_flipped_phases():
    halves, _, truth = _series()
    whole = halves[0] + halves[1]
    volume = _invert(whole, _ratio())
    found = _agreement(volume, truth)
    flipped = _agreement(_weighted(whole, "flip"), truth)
    assert float(found.mean()) > 1.03 * float(flipped.mean())
    # no shell is lost for the others
    assert bool((found > 0.9 * flipped)[flipped > 0.2].all()), (found / flipped, flipped)
    # dark as recorded: neither inverted nor shifted
    assert np.corrcoef(volume.flatten(), truth.flatten())[0, 1] > 0.3
    for wrong in (truth.roll(1, 0), truth.roll(1, 1), truth.roll(1, 2), truth.flip(0).roll(1, 0)):
        assert float(_agreement(volume, wrong).mean()) < float(found.mean()) - 0.05


def test_the_hand_the_sign_of_tilts_and_the_height_matter():
    _, clean, truth = _series()
    generous = SpectralRatio(frequency=np.array([0.01, 0.5]), ratio=np.array([10.0, 10.0]))

    def score(**changes):
        return float(_agreement(_invert(clean, generous, **changes), truth).mean())

    right = score()
    flat = score(by_height=False)
    assert flat < right - 0.005
    assert score(hand=-HAND) < flat - 0.01
    turned = tuple(
        CtfFit(
            defocus_u_angstrom=f.defocus_u_angstrom,
            defocus_v_angstrom=f.defocus_v_angstrom,
            astigmatism_angle_deg=-50.0,
        )
        for f in FITS
    )
    assert score(fits=turned) < right - 0.05
    for changed in (
        GEOMETRY.replace(y_tilt_deg=-GEOMETRY.y_tilt_deg),
        GEOMETRY.replace(z_rot_deg=GEOMETRY.z_rot_deg + 180.0),
        GEOMETRY.replace(shifts_angstrom=-GEOMETRY.shifts_angstrom),
    ):
        assert score(geometry=changed) < right - 0.1


@pytest.mark.slow
def test_without_noise_the_density_comes_back():
    _, clean, truth = _series()
    generous = SpectralRatio(frequency=np.array([0.01, 0.5]), ratio=np.array([100.0, 100.0]))
    volume = _invert(clean, generous, stopping=Stopping(iterations=25))
    curve = _agreement(volume, truth)
    assert float(curve[3:].min()) > 0.8
    assert float(curve.mean()) > 0.9
    # the amplitude too, where it is sampled: between the coarsest shells, which no CTF shows, and the finest
    inside = _sampled()
    ky, kx = (f[0] for f in frequency_vectors(VOLUME, PIXEL)[1:])
    band = ((kx**2 + ky**2).sqrt() > 0.06) & ((kx**2 + ky**2).sqrt() < 0.22)
    plane = torch.fft.rfft2(volume.sum(0))[band], torch.fft.rfft2(truth.sum(0))[band]
    assert inside[0].any()
    gain = float((plane[0] * plane[1].conj()).real.sum() / plane[1].abs().square().sum())
    assert gain == pytest.approx(1.0, abs=0.12)


@pytest.mark.slow
def test_halves_sum_to_the_whole():
    halves, _, _ = _series()
    whole = _invert(halves[0] + halves[1], _ratio(), stopping=Stopping(iterations=12))
    converged = [_invert(half, _ratio(), stopping=Stopping(iterations=12)) for half in halves]
    assert float((sum(converged) - whole).norm() / whole.norm()) < 0.01


@pytest.mark.slow
def test_few_iterations_are_enough():
    halves, _, truth = _series()
    whole = halves[0] + halves[1]
    end = _agreement(_invert(whole, _ratio(), stopping=Stopping(iterations=12)), truth).mean()
    five = _agreement(_invert(whole, _ratio(), stopping=Stopping(iterations=5)), truth).mean()
    assert float(five) > 0.98 * float(end)


def test_images_that_show_nothing_are_refused():
    images = torch.full((len(TILTS), *IMAGE), 7.0)
    with pytest.raises(ProcessingError, match="all zero"):
        _invert(images, _ratio())
    with pytest.raises(ShapeError, match="CTF fits"):
        _invert(images, _ratio(), fits=FITS[1:])
    steep = GEOMETRY.replace(y_tilt_deg=GEOMETRY.y_tilt_deg * 1.5)
    with pytest.raises(InputError, match="--max-tilt-deg"):
        _invert(images, _ratio(), geometry=steep)


@pytest.mark.parametrize("thickness", [None, 72.0])
def test_one_image_is_divided_as_by_wiener(thickness):
    """The formula of the filter: C S/N / (C^2 S/N + 1) for a section as thick as the specimen."""
    fit, ratio, shape = CtfFit(defocus_u_angstrom=150.0, defocus_v_angstrom=150.0), 3.0, (90, 96)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.exp(-0.5 * ((y - 45) ** 2 + (x - 48) ** 2) / 7.0**2)
    image = torch.from_numpy(MEAN * (1.0 + 0.1 * inside * np.random.default_rng(0).normal(size=shape))).float()[None]
    volume = invert_ctf(
        image,
        TiltGeometry.build([0.0]),
        pixel_size=PIXEL,
        volume_shape=(24, *shape),
        voxel_size=PIXEL,
        fits=(fit,),
        optics=OPTICS,
        hand=HAND,
        signal_to_noise=SpectralRatio(frequency=np.array([0.01, 0.5]), ratio=np.array([ratio, ratio])),
        stopping=Stopping(iterations=30),
        specimen_angstrom=thickness,
        by_height=False,
    )
    transfer = -ctf_2d(shape, PIXEL, 150.0, 150.0, 0.0, OPTICS)
    fine = frequency_vectors(shape, PIXEL)
    kept = (fine[0] ** 2 + fine[1] ** 2).sqrt() < 0.85 * 0.5 / PIXEL
    part = 24 * PIXEL / (thickness or 24 * PIXEL)
    spectrum = torch.fft.rfft2(image[0] - image.mean())
    expected = part * ratio * transfer * spectrum / (part * ratio * transfer**2 + 1.0)
    found = torch.fft.rfft2(PIXEL * volume.sum(0))
    assert float((found - expected)[kept].abs().square().sum().sqrt()) < 0.05 * float(expected[kept].norm())


# how much of the images is specimen


@pytest.mark.parametrize("exposed", [False, True])
def test_the_ratio_of_signal_and_noise_is_found(exposed):
    shape, pixel, tilts = (256, 250), 5.0, 15
    optics = Optics()
    fits = tuple(
        CtfFit(defocus_u_angstrom=20000.0 + 700.0 * t, defocus_v_angstrom=19000.0 + 700.0 * t) for t in range(tilts)
    )
    exposures = np.linspace(2.0, 20.0, tilts) if exposed else None
    rng = np.random.default_rng(8)
    fy, fx = frequency_vectors(shape, pixel)
    k = (fy**2 + fx**2).sqrt()
    true_ratio = 6.0 / (1.0 + (k / 0.03) ** 2)
    halves = [torch.empty((tilts, *shape)) for _ in range(2)]
    noise, mean = 0.02, 80.0
    for t, fit in enumerate(fits):
        ctf = ctf_2d(shape, pixel, fit.defocus_u_angstrom, fit.defocus_v_angstrom, 0.0, optics)
        if exposed:
            # Grant & Grigorieff (2015), at 300 kV
            ctf = ctf * torch.exp(-0.5 * exposures[t] / (0.24499 * k.clamp(min=1e-4) ** -1.6649 + 2.8141))
        white = torch.from_numpy(rng.normal(size=shape)).float()
        # noise of the sum has the power of `noise` squared; the specimen that of the ratio times it
        signal = torch.fft.irfft2(torch.fft.rfft2(noise * white) * true_ratio.sqrt() * ctf, s=shape)
        for half in halves:
            own = torch.from_numpy(rng.normal(size=shape)).float() * noise * math.sqrt(0.5)
            half[t] = mean * (0.5 * (1.0 + signal) + own)
    found = estimate_signal_to_noise(*halves, pixel_size=pixel, fits=fits, optics=optics, exposures=exposures)
    assert np.all(np.diff(found.frequency) > 0)
    assert found.frequency[0] < 0.005
    assert found.frequency[-1] == pytest.approx(0.1, rel=0.02)
    middle = (found.frequency > 0.015) & (found.frequency < 0.09)
    expected = 6.0 / (1.0 + (found.frequency / 0.03) ** 2)
    off = np.log(found.ratio / expected)[middle]
    assert abs(off.mean()) < math.log(1.08)
    assert np.abs(off).max() < math.log(1.2)
    # the unit of the images does not count
    other = estimate_signal_to_noise(
        *(1e3 * h for h in halves), pixel_size=pixel, fits=fits, optics=optics, exposures=exposures
    )
    np.testing.assert_allclose(other.ratio, found.ratio, rtol=1e-3)


def test_a_ratio_is_read_between_bands_and_held_at_its_ends():
    ratio = SpectralRatio(frequency=np.array([0.1, 0.2]), ratio=np.array([1.0, 100.0]))
    np.testing.assert_allclose(ratio.at(torch.tensor([0.0, 0.1, 0.15, 0.2, 9.0])), [1, 1, 10, 100, 100], rtol=1e-6)
    one, two = assumed_signal_to_noise(3.0), assumed_signal_to_noise(6.0)
    assert one.at(torch.tensor([0.025])).item() == pytest.approx(1.0, rel=0.05)
    inner = (one.ratio > 0.011) & (two.ratio < 99.0)
    np.testing.assert_allclose(two.ratio[inner], 2.0 * one.ratio[inner])
    with pytest.raises(ShapeError, match="2 CTF fits"):
        estimate_signal_to_noise(torch.ones(3, 8, 8), torch.ones(3, 8, 8), pixel_size=1, fits=FITS[:2], optics=OPTICS)


# images corrected before anything else


@pytest.mark.parametrize("shape", [(64, 72), (63, 71)])
@pytest.mark.parametrize("mode", ["flip", "wiener", "multiply"])
def test_without_tilt_a_correction_is_a_plain_filter(mode, shape):
    inner = torch.randn((1, shape[0] - 20, shape[1] - 20), generator=torch.Generator().manual_seed(0))
    # nothing at the edges, so that it does not matter how the image goes on beyond them
    images = torch.nn.functional.pad(inner - inner.mean(), (10, 10, 10, 10)) + 30.0
    geometry = TiltGeometry.build([0.0], z_rot_deg=50.0, shifts_angstrom=[[20.0, 5.0]])
    fit = CtfFit(defocus_u_angstrom=450.0, defocus_v_angstrom=350.0, astigmatism_angle_deg=30.0, phase_shift_deg=20.0)
    found = correct_ctf(images, geometry, pixel_size=PIXEL, fits=(fit,), optics=OPTICS, hand=HAND, mode=mode)
    size = (192, 200)
    ctf = -ctf_2d(size, PIXEL, 450.0, 350.0, 30.0, OPTICS, 20.0)
    gain = {"flip": torch.sign(ctf), "multiply": ctf, "wiener": ctf / (ctf**2 + 1.0)}[mode]
    mean = images.mean()
    expected = torch.fft.irfft2(torch.fft.rfft2(images[0] - mean, s=size) * gain, s=size)[: shape[0], : shape[1]] + mean
    tolerance = {"flip": 0.25, "wiener": 0.08, "multiply": 0.06}[mode]  # the jumps of signs reach far, and wrap around
    assert float((found[0] - expected).std() / expected.std()) < tolerance
    assert float(found.mean()) == pytest.approx(float(mean), rel=0.01)


@pytest.mark.parametrize("x_tilt", [0.0, 8.0])
def test_a_correction_follows_the_height(x_tilt):
    geometry = TiltGeometry.build(
        [-58.0, 45.0], z_rot_deg=[20.0, 20.0], x_tilt_deg=x_tilt, shifts_angstrom=[[12.0, -9.0], [-6.0, 15.0]]
    )
    fits = FITS[:2]
    points, weights = _points(25)
    flat = points * [1.0, 1.0, 0.0]
    images = _images(flat, weights, geometry, fits, HAND)
    # once more through the CTF of every point
    camera = geometry.project(flat)

    def twice(seen):
        fy, fx = np.fft.fftfreq(IMAGE[0], PIXEL)[:, None], np.fft.rfftfreq(IMAGE[1], PIXEL)[None]
        k = np.hypot(fx, fy)
        envelope = np.exp(-2.0 * (math.pi * SIGMA * k) ** 2) * (2.0 * math.pi) ** 1.5 * SIGMA**3 / PIXEL**2
        out = torch.zeros((2, *IMAGE))
        for t, fit in enumerate(fits):
            spectrum = 0.0
            for (x, y, z), weight in zip(seen[t], weights, strict=True):
                at = fx * (x + PIXEL * (IMAGE[1] // 2)) + fy * (y + PIXEL * (IMAGE[0] // 2))
                ctf = ctf_2d(IMAGE, PIXEL, fit.defocus_u_angstrom - z, fit.defocus_v_angstrom - z, 40.0, OPTICS).numpy()
                spectrum = spectrum - weight * envelope * np.exp(-2j * math.pi * at) * ctf**2
            out[t] = torch.from_numpy(np.fft.irfft2(spectrum, s=IMAGE))
        return out

    def correct(seen, **changes):
        options = {"geometry": geometry, "hand": HAND, "defocus_tolerance_angstrom": 4.0, **changes}
        where = options.pop("geometry")
        return correct_ctf(seen, where, pixel_size=PIXEL, fits=fits, optics=OPTICS, mode="multiply", **options)

    def error(found, expected):
        inner = (..., slice(12, -12), slice(12, -12))
        return float((found - expected)[inner].norm() / expected[inner].norm())

    expected = twice(camera)
    # pixels beside a point take the correction of their own height: a part of the defocus of a few A that the PSF spans
    right = error(correct(images), expected)
    assert right < 0.15
    assert error(correct(images, hand=-HAND), expected) > right + 0.2
    assert error(correct(images, by_height=False), expected) > right + 0.05
    mirrored = geometry.replace(y_tilt_deg=-geometry.y_tilt_deg, x_tilt_deg=-geometry.x_tilt_deg)
    assert error(correct(images, geometry=mirrored), expected) > right + 0.2
    if x_tilt:
        assert error(correct(images, geometry=geometry.replace(x_tilt_deg=0.0 * geometry.x_tilt_deg)), expected) > right
    # another depth
    raised = flat + np.array([0.0, 0.0, 45.0])
    seen = geometry.project(raised)
    images, expected = _images(raised, weights, geometry, fits, HAND), twice(seen)
    right = error(correct(images, depth_angstrom=45.0), expected)
    assert right < 0.15
    assert error(correct(images), expected) > right + 0.1
    assert error(correct(images, depth_angstrom=-45.0), expected) > error(correct(images), expected)


def test_flipped_images_are_dark_and_wrong_numbers_refused():
    geometry = TiltGeometry.build([0.0])
    images = _images(np.zeros((1, 3)), [1.0], geometry, FITS[:1], HAND) + 5.0
    found = correct_ctf(images, geometry, pixel_size=PIXEL, fits=FITS[:1], optics=OPTICS, hand=HAND, mode="flip")[0]
    assert divmod(int(found.argmin()), IMAGE[1]) == (IMAGE[0] // 2, IMAGE[1] // 2)
    with pytest.raises(ShapeError, match="2 CTF fits"):
        correct_ctf(images, geometry, pixel_size=PIXEL, fits=FITS[:2], optics=OPTICS, hand=HAND, mode="flip")
    with pytest.raises(InputError, match="--max-tilt-deg"):
        correct_ctf(
            images, TiltGeometry.build([88.0]), pixel_size=PIXEL, fits=FITS[:1], optics=OPTICS, hand=HAND, mode="flip"
        )
    spherical = ctf_1d(torch.tensor([0.0]), FITS[0].defocus_angstrom, OPTICS)
    assert float(spherical) == pytest.approx(-0.1)
