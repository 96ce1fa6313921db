"""Weighted back-projection against analytic densities: accuracy, aliases, exact weights, true SIRT iterations."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.projection import back_project, cosine_weights, project
from eucentric.reconstruction import ReconstructParams, reconstruct_volume
from eucentric.simulation import Phantom

VOXEL = 8.0


def _phantom(seed, count, half_widths, sigma, *, neutral):
    """Blobs in a box of half widths (x, y, z), sizes in voxels; `neutral` ones sum to nothing."""
    random = np.random.default_rng(seed)
    positions = random.uniform(-1.0, 1.0, (count, 3)) * np.array(half_widths) * VOXEL
    weights = random.normal(size=count) if neutral else 0.5 + random.random(count)
    sigmas = np.broadcast_to(np.asarray(sigma) * VOXEL, (count,)).copy()
    if neutral:
        weights -= (weights * sigmas**3).sum() / (sigmas**3).sum()
    return Phantom(positions_angstrom=positions, weights=weights, sigmas_angstrom=sigmas)


def _reconstruct(images, geometry, shape, pixel=VOXEL, params=None, **options):
    params = params or ReconstructParams()
    return reconstruct_volume(
        images, geometry, pixel_size=pixel, volume_shape=shape, voxel_size=VOXEL, params=params, **options
    )


def _frequencies(shape):
    axes = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
    kz, ky, kx = np.meshgrid(*axes, indexing="ij")
    return kz, ky, kx, 2.0 * np.sqrt(kx**2 + ky**2 + kz**2)


def _compare(volume, phantom, inside):
    """Relative error, gain and correlation of Fourier samples."""
    got = torch.fft.rfftn(volume).numpy()[inside]
    truth = torch.fft.rfftn(phantom.volume(tuple(volume.shape), VOXEL)).numpy()[inside]
    power, product = (abs(truth) ** 2).sum(), (got * truth.conj()).real.sum()
    error = np.sqrt((abs(got - truth) ** 2).sum() / power)
    return error, product / power, product / np.sqrt((abs(got) ** 2).sum() * power)


@pytest.mark.parametrize(("axis", "pixel"), [(84.3, 8.0), (-40.0, 8.0), (3.0, 5.0)])
def test_fine_detail_is_true_to_three_percent_and_its_amplitude_to_two(axis, pixel):
    # 151 views sample an object 40 voxels wide up to Nyquist; the mean and what is coarser than 10 voxels feels the taper
    phantom = _phantom(0, 30, (14, 14, 14), 0.85, neutral=True)
    tilts = np.arange(151) * (180.0 / 151) - 90.0
    shifts = np.random.default_rng(1).normal(0.0, 20.0, (151, 2))
    geometry = TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shifts)
    side = int(100 * 8.0 / pixel)
    volume = _reconstruct(phantom.project(geometry, (side, side + 3), pixel), geometry, (64, 65, 66), pixel)
    radius = _frequencies(volume.shape)[3]
    for low, high in ((0.05, 0.3), (0.3, 0.5), (0.5, 0.7)):
        error, gain, _ = _compare(volume, phantom, (radius >= low) & (radius < high))
        assert error < 0.03, (low, high)
        assert gain == pytest.approx(1.0, abs=0.02)


def _full_width(line):
    """Full width at half maximum, from the samples around it on a hundredfold finer grid."""
    n = len(line)
    fine = np.fft.irfft(np.fft.rfft(line), 100 * n)
    above = np.flatnonzero(fine > 0.5 * fine.max())
    return len(above) / 100.0


@pytest.mark.parametrize("axis", [84.3, 30.0])
def test_a_blob_is_not_broadened(axis):
    # two voxels wide at half maximum; what is added in quadrature is the point spread
    sigma = 2.0 / np.sqrt(8.0 * np.log(2.0))
    blob = Phantom(
        positions_angstrom=np.array([[32.0, -48.0, 16.0], [-64.0, 40.0, -88.0]]),
        weights=np.array([1.0, -1.0]),
        sigmas_angstrom=np.full(2, sigma * VOXEL),
    )
    geometry = TiltGeometry.build(np.arange(-90.0, 90.0, 1.5), z_rot_deg=axis)
    volume = _reconstruct(blob.project(geometry, (96, 96), VOXEL), geometry, (64, 64, 64)).numpy()
    z, y, x = np.unravel_index(volume.argmax(), volume.shape)
    assert (z, y, x) == (34, 26, 36)
    for line in (volume[z, y], volume[z, :, x], volume[:, y, x]):
        assert np.sqrt(max(0.0, _full_width(line) ** 2 - 4.0)) < 1.0


@pytest.mark.parametrize("supersampling", [1, 2, 4])
def test_aliases_of_the_two_tap_reads_are_what_the_spacing_leaves(supersampling):
    # one view of a wave at 0.8 Nyquist fills one place of the kx-kz plane; linear reads make copies, P cycles per voxel
    # apart along x, of amplitude (f / (P - f))^2 and (f / (P + f))^2
    tilt, k = 30.0, 0.4
    columns = np.arange(400) - 200
    wave = np.broadcast_to(np.cos(2.0 * np.pi * k * columns), (1, 24, 400)).copy()
    params = ReconstructParams(filter="none", supersampling=supersampling)
    volume = _reconstruct(torch.from_numpy(wave).float(), TiltGeometry.build([tilt]), (96, 8, 128), params=params)
    plane = volume[:, 4] * torch.hann_window(96)[:, None] * torch.hann_window(128)
    power = torch.fft.rfft2(plane).abs().numpy()
    kz, kx = np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(128)
    f = k * np.cos(np.deg2rad(tilt))
    main = np.hypot(kx - f, kz - k * np.sin(np.deg2rad(tilt))) < 0.06
    assert np.unravel_index(power.argmax(), power.shape)[1] == pytest.approx(f * 128, abs=1)
    phases = 2 * supersampling
    expected = (f / (phases - f)) ** 2
    assert power[~main].max() / power.max() == pytest.approx(expected, rel=0.3, abs=6e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_exact_weights_beat_the_ramp_where_angles_are_uneven(seed):
    random = np.random.default_rng(seed)
    tilts = np.sort(random.uniform(-60.0, 60.0, 41))
    geometry = TiltGeometry.build(tilts)
    phantom = _phantom(seed, 100, (50, 10, 21), 1.2, neutral=True)
    images, shape = phantom.project(geometry, (32, 200), VOXEL), (64, 32, 128)
    kz, _, kx, radius = _frequencies(shape)
    inside = (np.abs(kz) < np.tan(np.deg2rad(tilts.max())) * np.abs(kx)) & (radius < 0.7)
    figures = {}
    for name in ("ramp", "exact"):
        volume = _reconstruct(
            images, geometry, shape, params=ReconstructParams(filter=name), specimen_thickness=48 * VOXEL
        )
        figures[name] = _compare(volume, phantom, inside)
    assert figures["exact"][0] < 0.95 * figures["ramp"][0]
    assert figures["exact"][2] > figures["ramp"][2]


def _sirt(images, tilts, shape, steps):
    """The iteration itself: x += C A^T R (b - A x)."""
    rows = project(torch.ones(shape), tilts, images.shape[1:])
    columns = back_project(torch.ones_like(images), tilts, shape)
    inverse_rows = torch.where(rows > 1e-3 * rows.max(), 1.0 / rows.clamp(min=1e-6), 0.0)
    x, kept = torch.zeros(shape), {}
    for n in range(1, max(steps) + 1):
        residual = inverse_rows * (images - project(x, tilts, images.shape[1:]))
        x = x + back_project(residual, tilts, shape) / columns.clamp(min=1e-6)
        if n in steps:
            kept[n] = x
    return kept


def test_the_sirt_like_filter_equals_iterations():
    tilts, shape = np.arange(-60.0, 61.0, 3.0), (64, 40, 128)
    geometry = TiltGeometry.build(tilts)
    sigmas = np.repeat([1.0, 2.0], 30)
    phantom = _phantom(3, 60, (44, 14, 22), sigmas, neutral=True)
    images = phantom.project(geometry, (40, 200), VOXEL)
    window = torch.hann_window(64)[:, None, None] * torch.hann_window(40)[:, None] * torch.hann_window(128)
    kz, _, kx, radius = _frequencies(shape)
    recorded = np.abs(kz) < np.tan(np.deg2rad(60.0)) * np.abs(kx)
    truth = _sirt(images / VOXEL, tilts, shape, (1, 5, 20))
    for n, x in truth.items():
        volume = _reconstruct(images, geometry, shape, params=ReconstructParams(sirt_like_iterations=n))
        inner = (slice(8, -8), slice(4, -4), slice(12, -12))
        correlation = np.corrcoef(volume[inner].numpy().ravel(), x[inner].numpy().ravel())[0, 1]
        assert correlation > 0.99, n
        got, expected = (abs(torch.fft.rfftn(v * window).numpy()) ** 2 for v in (volume, x))
        for low in np.arange(0.0, 0.8, 0.1):
            shell = recorded & (radius >= low) & (radius < low + 0.1)
            assert np.sqrt(got[shell].sum() / expected[shell].sum()) == pytest.approx(1.0, abs=0.05), (n, low)


def test_few_iterations_are_not_many():
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 3.0))
    phantom = _phantom(4, 30, (20, 7, 12), 1.0, neutral=True)
    images, shape = phantom.project(geometry, (24, 120), VOXEL), (40, 24, 64)
    truth = phantom.volume(shape, VOXEL)
    gains = []
    for n in (1, 5, 20, 400):
        volume = _reconstruct(images, geometry, shape, params=ReconstructParams(sirt_like_iterations=n))
        gains.append(float((volume * truth).sum() / truth.square().sum()))
    assert gains == sorted(gains)
    assert gains[0] < 0.2 * gains[-1]


def test_a_filter_reaches_beyond_the_image_as_far_as_the_volume():
    # the ramp of a ridge far away is -m / (2 pi^2 u^2), m its integral along the line; the two make no mean
    left, right, sigma = -90.0, 70.0, 20.0
    u = (np.arange(60) - 30) * VOXEL
    line = np.exp(-0.5 * ((u - left) / sigma) ** 2) - np.exp(-0.5 * ((u - right) / sigma) ** 2)
    images = torch.from_numpy(np.broadcast_to(line, (1, 240, 60)).copy()).float()
    volume = _reconstruct(images, TiltGeometry.build([0.0]), (4, 8, 200))
    u = (np.arange(200) - 100) * VOXEL
    mass = sigma * np.sqrt(2.0 * np.pi)
    expected = -mass * (1.0 / (u - left) ** 2 - 1.0 / (u - right) ** 2) / (2.0 * np.pi**2)
    # the image ends 30 voxels from the centre; one view alone stands for one radian
    for far in (u > 36 * VOXEL, u < -36 * VOXEL):
        np.testing.assert_allclose(
            volume[2, 4].numpy()[far], expected[far], rtol=0.04, atol=0.02 * abs(expected[far]).max()
        )


def test_weights_of_tilts():
    geometry = TiltGeometry.build([-40.0, 0.0, 40.0])
    images = _phantom(5, 10, (14, 7, 8), 1.5, neutral=True).project(geometry, (24, 60), VOXEL)
    shape = (24, 24, 40)
    one_by_one = [_reconstruct(images, geometry, shape, tilt_weights=np.eye(3)[t]) for t in range(3)]
    weights = cosine_weights(geometry.y_tilt_deg)
    np.testing.assert_allclose(weights / weights[1], np.cos(np.deg2rad([40.0, 0.0, 40.0])))
    together = _reconstruct(images, geometry, shape, tilt_weights=weights)
    expected = sum(w * v for w, v in zip(weights, one_by_one, strict=True))
    torch.testing.assert_close(together, expected.float(), rtol=0, atol=1e-5 * float(expected.abs().max()))
    with pytest.raises(ShapeError, match="3 tilts and weights"):
        _reconstruct(images, geometry, shape, tilt_weights=[1.0, 2.0])
    with pytest.raises(InputError, match="tilt weights"):
        _reconstruct(images, geometry, shape, tilt_weights=[1.0, -1.0, 1.0])
