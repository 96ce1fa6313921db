"""Filters of tomograms against volumes that are known, against plain loops, and tile by tile against whole."""

import itertools
import math

import pytest
import torch

from eucentric.denoising.choose_filter import prepare_filter
from eucentric.denoising.deconvolve_volume import deconvolution_gain, deconvolve_volume
from eucentric.denoising.diffuse_volume import diffuse_volume
from eucentric.denoising.estimate_noise import estimate_noise
from eucentric.denoising.filter_bilateral import bilateral_filter, bilateral_halo, guide_of
from eucentric.denoising.filter_median import median_filter
from eucentric.denoising.filter_nonlocal import nonlocal_means
from eucentric.denoising.params import DenoiseParams
from eucentric.denoising.shrink_wavelets import shrink_wavelets, wavelet_halo
from eucentric.denoising.smooth_gaussian import choose_gaussian_sigma, gaussian_filter
from eucentric.errors import InputError, ShapeError
from eucentric.models import Optics
from eucentric.optics import ctf_1d
from eucentric.signal.symmetric_tensors import eigenvectors_of, extreme_eigenvalues
from eucentric.signal.tiles import filter_volume, mirrored

SHAPE = (26, 30, 33)
METHODS = ("gaussian", "median", "bilateral", "nad", "nlm", "wavelet")
STEP_EPS = 200 * torch.finfo(torch.float32).eps  # hundreds of sums of values near one


def noise(shape=SHAPE, seed=0, sigma=1.0):
    return sigma * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scene(shape=SHAPE):
    """A dark ball and a dark sheet on a flat ground."""
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - n // 2 for n in shape), indexing="ij")
    ball = (z**2 + y**2 + (x + 6) ** 2) < 25
    sheet = (x - 8).abs() < 1.6
    return -2.0 * (ball | sheet).float()


def halves_of(clean, sigma=1.0):
    """On the scale of reconstructions: their sum is the volume."""
    parts = [0.5 * clean + noise(tuple(clean.shape), seed, sigma / math.sqrt(2.0)) for seed in (1, 2)]
    return parts[0] + parts[1], parts[0], parts[1]


def applied(method, volume, found, **settings):
    made = prepare_filter(DenoiseParams(method=method, **settings), 10.0, found)
    return made.whole(volume) if made.whole else filter_volume(volume, made.kernel, made.halo)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_noise_of_a_volume_is_found_from_halves_of_either_scale(scale):
    total, one, two = halves_of(scene(), 1.3)
    found = estimate_noise(scale * total, one, two)
    assert found.from_halves
    count = total.numel()
    assert abs(found.sigma / (scale * 1.3) - 1.0) < 4.0 / math.sqrt(2 * count)  # four standard errors
    torch.testing.assert_close(found.block, scale * total)


def test_without_halves_the_noise_is_that_of_the_finest_detail():
    volume = 30.0 * scene().mean() + noise((40, 40, 40), 3, 0.7)
    found = estimate_noise(volume, generator=torch.Generator().manual_seed(0))
    assert not found.from_halves
    assert abs(found.sigma / 0.7 - 1.0) < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_filters_come_nearer_to_the_truth_and_keep_the_mean(method):
    clean = scene((32, 36, 40))
    volume, one, two = halves_of(clean, 1.5)
    found = estimate_noise(volume, one, two)
    out = applied(method, volume, found)
    assert out.shape == volume.shape
    assert torch.isfinite(out).all()
    assert float((out - clean).square().mean()) < 0.4 * float((volume - clean).square().mean())
    assert abs(float(out.mean() - volume.mean())) < 0.05 * float(volume.std())
    inside = clean < 0
    assert float(out[inside].mean()) < 0.5 * float(clean[inside].mean())  # what is there is still there


@pytest.mark.parametrize("method", ["bilateral", "nad", "nlm", "wavelet"])
def test_a_flat_ground_loses_its_noise_and_a_weaker_setting_keeps_more(method):
    volume, one, two = halves_of(torch.zeros(28, 28, 28))
    found = estimate_noise(volume, one, two)
    left = float(applied(method, volume, found).std())
    weaker = float(applied(method, volume, found, strength=0.3).std())
    assert left < 0.35
    assert weaker > 1.2 * left


@pytest.mark.parametrize("method", ["median", "bilateral", "nlm", "wavelet"])
def test_tiles_equal_the_whole(method):
    volume, one, two = halves_of(scene())
    settings = {"scales": 2, "search_radius": 2}
    made = prepare_filter(DenoiseParams(method=method, **settings), 10.0, estimate_noise(volume, one, two))
    whole = filter_volume(volume, made.kernel, made.halo, (99, 99, 99))
    tiled = filter_volume(volume, made.kernel, made.halo, (7, 11, 13))
    torch.testing.assert_close(tiled, whole, atol=STEP_EPS, rtol=0)


def test_diffusion_in_tiles_equals_the_whole():
    volume, one, two = halves_of(scene())
    sample = estimate_noise(volume, one, two).sample
    whole = diffuse_volume(volume, sample, iterations=3, tile=(99, 99, 99))
    tiled = diffuse_volume(volume, sample, iterations=3, tile=(9, 10, 14))
    torch.testing.assert_close(tiled, whole, atol=STEP_EPS, rtol=0)


def test_mirrors_repeat_beyond_small_axes():
    assert mirrored(-4, 7, 3).tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert mirrored(-2, 3, 1).tolist() == [0] * 5


def test_gaussian_is_the_gaussian_of_a_point():
    volume = torch.zeros(33, 40, 47)
    volume[16, 20, 23] = 1.0
    out = gaussian_filter(volume, 24.0, 12.0)
    z, y, x = torch.meshgrid(*(torch.arange(n) - n // 2 for n in volume.shape), indexing="ij")
    expected = torch.exp(-(z**2 + y**2 + x**2) / 8.0) / (2.0 * math.pi * 4.0) ** 1.5
    torch.testing.assert_close(out, expected.float(), atol=2e-6, rtol=0)  # beyond Nyquist it holds 2e-9 of its power


def test_the_chosen_gaussian_is_the_best_of_those_around_it():
    clean = gaussian_filter(noise((32, 48, 48), 5, 10.0), 30.0, 10.0)
    volume, one, two = halves_of(clean, 0.8)
    found = estimate_noise(volume, one, two)
    sigma = choose_gaussian_sigma(volume, found.sample, 10.0)
    errors = [float((gaussian_filter(volume, sigma * f, 10.0) - clean).square().mean()) for f in (0.7, 1.0, 1.4)]
    assert errors[1] == min(errors)


def test_median_is_that_of_each_cube():
    block = noise((6, 7, 8))
    out = median_filter(block, 3)
    for z, y, x in itertools.product(range(4), range(5), range(6)):
        assert out[z, y, x] == block[z : z + 3, y : y + 3, x : x + 3].reshape(-1).median()


def test_bilateral_is_the_plain_sum_over_neighbours():
    sigma, spread = 0.8, 0.5
    reach, halo = 2, bilateral_halo(0.8)
    block = noise((2 * halo + 1,) * 3)
    guide, place = guide_of(block), halo - 3
    total = weight = 0.0
    for z, y, x in itertools.product(range(-reach, reach + 1), repeat=3):
        d2 = z * z + y * y + x * x
        if d2 > reach * reach:
            continue
        unlike = float(guide[place + z, place + y, place + x] - guide[place, place, place])
        w = math.exp(-d2 / (2 * sigma**2) - unlike**2 / (2 * spread**2))
        total, weight = total + w * float(block[halo + z, halo + y, halo + x]), weight + w
    assert float(bilateral_filter(block, sigma, spread)) == pytest.approx(total / weight, rel=1e-4)


def test_nonlocal_means_is_the_plain_sum_over_patches():
    block, sigma, decay, halo = noise((7, 7, 7)), 0.6, 0.9, 3
    patch = lambda z, y, x: block[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]  # noqa: E731
    total, weights = 0.0, []
    for o in itertools.product(range(-2, 3), repeat=3):
        if o == (0, 0, 0):
            continue
        place = [halo + v for v in o]
        apart = float((patch(*place) - patch(halo, halo, halo)).square().mean())
        weights.append(math.exp(-max(apart - 2 * sigma**2, 0.0) / decay**2))
        total += weights[-1] * float(block[tuple(place)])
    total += max(weights) * float(block[halo, halo, halo])
    out = nonlocal_means(block, sigma, decay, search_radius=2, patch_radius=1)
    assert float(out) == pytest.approx(total / (sum(weights) + max(weights)), rel=1e-4)


def test_wavelets_without_noise_give_the_volume_back():
    block = noise((60, 58, 57))
    halo = wavelet_halo(3)
    out = shrink_wavelets(block, [0.0, 0.0, 0.0])
    torch.testing.assert_close(out, block[halo:-halo, halo:-halo, halo:-halo], atol=1e-5, rtol=0)


def test_eigenvalues_and_vectors_are_those_of_linear_algebra():
    root = noise((50, 3, 3), 4).double()
    matrices = root @ root.mT
    six = torch.stack([matrices[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])
    largest, smallest = extreme_eigenvalues(six)
    values, vectors = torch.linalg.eigh(matrices)
    torch.testing.assert_close(largest, values[:, 2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(smallest, values[:, 0], rtol=1e-6, atol=1e-9)
    same = (eigenvectors_of(six, smallest) * vectors[:, :, 0].T).sum(0).abs()
    torch.testing.assert_close(same, torch.ones_like(same), atol=1e-5, rtol=0)


def test_diffusion_keeps_an_edge_that_a_gaussian_of_the_same_time_blurs():
    clean = -3.0 * (torch.arange(32) >= 16).float().expand(24, 24, 32)
    volume, one, two = halves_of(clean.contiguous(), 0.4)
    out = applied("nad", volume, estimate_noise(volume, one, two))
    smooth = gaussian_filter(volume, 20.0, 10.0)
    rise = [float((v[:, :, 17] - v[:, :, 14]).mean()) for v in (out, smooth)]
    assert rise[0] < 1.3 * rise[1] < 0
    assert float(out[:, :, 2:12].std()) < 0.15


def test_deconvolution_is_the_published_filter():
    optics, k = Optics(), torch.linspace(0.0, 0.06, 50)
    c = -ctf_1d(k, 35000.0, optics)
    signal = torch.exp(-200.0 * 1.2 * k) * 10.0**2.4
    signal *= 1.0 - (torch.cos(math.pi * (k * 800.0).clamp(max=1.0)) / 2.0 + 0.5)
    gain = deconvolution_gain(k, optics, 35000.0, strength=0.8, falloff=1.2, high_pass_angstrom=800.0)
    expected = c / (c * c + 1.0 / signal.clamp(min=1e-30))
    torch.testing.assert_close(gain, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("transfer", ["uncorrected", "flipped", "multiplied"])
def test_deconvolution_brings_back_what_the_transfer_took(transfer):
    clean = scene((48, 48, 48))
    frequency = torch.fft.fftfreq(48, 8.0)
    k = (frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + torch.fft.rfftfreq(48, 8.0) ** 2).sqrt()
    c = -ctf_1d(k, 30000.0, Optics())
    c = {"uncorrected": c, "flipped": c.abs(), "multiplied": c * c}[transfer]
    seen = torch.fft.irfftn(torch.fft.rfftn(clean) * c, s=clean.shape)
    out = deconvolve_volume(seen, 8.0, Optics(), 30000.0, transfer=transfer)
    before, after = (float(torch.corrcoef(torch.stack([v.reshape(-1), clean.reshape(-1)]))[0, 1]) for v in (seen, out))
    assert after > before + 0.1


def test_a_corrected_volume_is_only_weakened_where_noise_rules():
    k = torch.linspace(0.001, 0.06, 50)
    gain = deconvolution_gain(k, Optics(), 30000.0, transfer="corrected", high_pass_angstrom=800.0)
    assert ((gain >= 0) & (gain < 1)).all()


def test_bad_halves_are_refused():
    volume, one, two = halves_of(scene())
    with pytest.raises(InputError, match="identical"):
        estimate_noise(2 * one, one, one.clone())
    with pytest.raises(ShapeError, match="expected the same"):
        estimate_noise(volume, one[1:], two[1:])
    with pytest.raises(InputError, match="without the other"):
        estimate_noise(volume, one)
    with pytest.raises(InputError, match="do not add up"):
        estimate_noise(noise(SHAPE, 9), one, two)


@pytest.mark.parametrize("halves", [True, False])
def test_a_constant_slab_does_not_hide_the_noise(halves):
    volume, one, two = halves_of(torch.zeros(30, 30, 30), 0.9)
    for part in (volume, one, two):
        part[:14] = 0.0
    found = estimate_noise(volume, one, two) if halves else estimate_noise(volume)
    assert abs(found.sigma / 0.9 - 1.0) < 0.06


def test_a_constant_volume_is_refused():
    with pytest.raises(InputError, match="constant"):
        estimate_noise(torch.ones(SHAPE))


def test_missing_defocus_and_even_cubes_are_refused():
    with pytest.raises(InputError, match="defocus"):
        prepare_filter(DenoiseParams(method="deconvolve"), 10.0, None)
    with pytest.raises(ValueError, match="odd"):
        DenoiseParams(median_size=4)
    with pytest.raises(InputError, match="--transfer"):
        deconvolution_gain(torch.zeros(2), Optics(), 1.0, transfer="auto", high_pass_angstrom=800.0)
