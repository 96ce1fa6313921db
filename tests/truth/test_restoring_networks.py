"""Networks that restore tomograms: losses, halves, weights of shells, turns, and trainings, against what is known of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eucentric.denoising.learned.half_volumes import Places, prepare_halves
from eucentric.denoising.learned.losses import spectral_losses, squared_loss
from eucentric.denoising.learned.params import RestorerTraining, RestorerUse, WedgeTraining
from eucentric.denoising.learned.restore_volume import restore_volume
from eucentric.denoising.learned.restorer import Restorer, restorer_of
from eucentric.denoising.learned.standardise import measure_scale
from eucentric.denoising.learned.train_restorer import (
    _Filling,
    noise_like,
    train_restorer,
    turned,
)
from eucentric.denoising.learned.weigh_shells import apply_weights, shell_index, weigh_shells
from eucentric.denoising.sampled_region import sampled_region, sampled_region_of
from eucentric.errors import InputError, ShapeError
from eucentric.fourier import fourier_shell_correlation
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.models import Optics
from eucentric.networks import UNet, UNetParams
from eucentric.networks.train_network import initialise
from eucentric.pipeline.recorded_transfer import TomogramContrast
from eucentric.pipeline.restore_files import read_restorer_model

CPU = torch.device("cpu")
SHAPES = [(16, 16, 16), (12, 20, 15), (9, 14, 24)]
TILTS = TiltGeometry.build([-50.0, 60.0])


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def radius(shape):
    z, y, x = (torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1]), torch.fft.rfftfreq(shape[2]))
    return (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).sqrt()


def through(volume, transfer):
    return torch.fft.irfftn(torch.fft.rfftn(volume) * transfer, s=volume.shape)


def field(shape, fall, seed=0):
    """A random signal whose amplitude falls as exp(-k / fall), so that its power in every shell is known."""
    return through(noise(shape, seed), 3.0 * torch.exp(-radius(shape) / fall))


def halves_of(signal, seed=0):
    return signal + noise(signal.shape, 1000 + seed), signal + noise(signal.shape, 2000 + seed)


def fsc(one, two):
    return fourier_shell_correlation(one, two, 1.0)[1]


# losses


@pytest.mark.parametrize("shape", SHAPES)
def test_both_losses_are_least_at_the_clean_volume_though_the_target_is_noisy(shape):
    clean = field(shape, 0.2)
    targets = torch.stack([clean + 2.0 * noise(shape, n) for n in range(1, 61)])
    pattern = noise(shape, 99)
    every = torch.ones(1, shape[0], shape[1], shape[2] // 2 + 1)

    def both(found):
        many = found.expand(len(targets), *shape)
        return float(squared_loss(many, targets)), float(spectral_losses(many, targets, every)[0])

    best = both(clean)
    others = [clean + 0.5 * pattern, clean.roll(1, 0), clean.flip(2), clean - 0.5 * clean.roll(2, 1)]
    for other in others:
        assert all(a < b for a, b in zip(best, both(other), strict=True))
    # the correlation alone does not tell how strong things are, squared differences do
    for factor in (0.6, 1.5):
        scaled = both(factor * clean)
        assert best[0] < scaled[0]
        assert scaled[1] == pytest.approx(best[1], abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectral_loss_is_0_of_one_volume_and_1_of_unrelated_ones(shape):
    every = torch.ones(1, shape[0], shape[1], shape[2] // 2 + 1)
    one = torch.stack([noise(shape, n) for n in range(16)])
    two = torch.stack([noise(shape, n) for n in range(20, 36)])
    # shells of a single sample come near the floor, a millionth of the strongest shell
    assert float(spectral_losses(one, 3.0 * one, every)[0]) == pytest.approx(0.0, abs=2e-3)
    assert float(spectral_losses(one, -one, every)[0]) == pytest.approx(2.0, abs=2e-3)
    # some 200 samples of the lowest shells of all 16 volumes, and thousands of the others
    assert float(spectral_losses(one, two, every)[0]) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("shape", [(16, 16, 16), (12, 20, 15)])
def test_each_weighting_sees_its_own_part_of_fourier_space(shape):
    region = (sampled_region(shape, [-50.0, 60.0]) > 0.5).float()
    kept, other = noise(shape, 1), noise(shape, 2)
    found = through(kept, region) + through(other, 1.0 - region)
    inside, outside = spectral_losses(found[None], kept[None], region[None], 1.0 - region[None])
    assert float(inside) == pytest.approx(0.0, abs=0.02)
    assert float(outside) > 0.7


# scale


def test_gold_does_not_move_the_scale():
    plain = 4.0 + 2.0 * noise((32, 32, 32))
    gold = plain.clone()
    gold[10:15, 10:15, 10:15], gold[20:24, 3:8, 20:25] = -400.0, -300.0
    scale, with_gold = measure_scale(plain), measure_scale(gold)
    assert scale.middle == pytest.approx(4.0, abs=0.05)
    assert scale.spread == pytest.approx(2.0, rel=0.02)
    assert with_gold.middle == pytest.approx(scale.middle, abs=0.04)
    assert with_gold.spread == pytest.approx(scale.spread, rel=0.02)
    torch.testing.assert_close(scale.undo(scale.apply(gold)), gold, rtol=1e-5, atol=1e-4)


def test_scales_of_volumes_that_lack_numbers_or_contrast():
    volume = 4.0 + 2.0 * noise((24, 24, 24))
    volume[:, :5], volume[0] = math.nan, math.inf
    assert measure_scale(volume).spread == pytest.approx(2.0, rel=0.05)
    masked = torch.zeros(20, 20, 20)
    masked[:5] = noise((5, 20, 20))  # three quarters are alike
    assert measure_scale(masked).spread == pytest.approx(0.5, rel=0.1)
    for empty, words in ((torch.full((8, 8, 8), 3.0), "alike"), (torch.full((8, 8, 8), math.nan), "not one number")):
        with pytest.raises(InputError, match=words):
            measure_scale(empty)


# halves


def prepared(shape=(32, 80, 48), *, change=None, mask=None, seed=0):
    one, two = halves_of(field(shape, 0.2, seed), seed)
    if change is not None:
        change(one, two)
    return prepare_halves(one, two, name="T", voxel_size_angstrom=10.0, geometry=TILTS, mask=mask)


def test_halves_that_share_their_noise_are_refused():
    one, two = halves_of(field((24, 24, 24), 0.2))

    def refused(a, b, words, kind=InputError):
        with pytest.raises(kind, match=words):
            prepare_halves(a, b, name="T", voxel_size_angstrom=10.0, geometry=TILTS)

    refused(one, one.clone(), "the same volume")
    refused(one, one + 0.1 * two, "share their noise")
    refused(one, one + 0.1 * noise((24, 24, 24), 7), "share their noise")  # a correlation of 0.997
    gap = one.clone()
    gap[:4] = math.nan
    refused(gap, one, "the same volume")
    refused(one, two[:20], "24 x 24 x 24 and 24 x 24 x 20", ShapeError)
    refused(torch.full_like(one, math.nan), two, "not one number")
    refused(one, torch.zeros_like(one), "Half 2 of T has one value")
    with pytest.raises(ShapeError, match="mask of T"):
        prepare_halves(one, two, name="T", voxel_size_angstrom=1.0, geometry=TILTS, mask=torch.ones(3, 3, 3) > 0)


def test_halves_come_at_the_scale_of_their_noise_and_finite():
    def border(one, two):
        one[:, :6] = math.nan
        two[:, :, -3:] = math.inf
        one *= 7.0
        two *= 7.0

    found = prepared(change=border)
    joined = torch.cat([half[found.valid] for half in found.halves])
    assert float(joined.median()) == pytest.approx(0.0, abs=0.05)
    assert float(joined.std()) == pytest.approx(1.0, abs=0.1)
    assert all(half.isfinite().all() for half in found.halves)
    assert not found.valid[:, :6].any()
    assert not found.valid[:, :, -3:].any()


def drawn(places, count=300, seed=1):
    return places.draw(np.random.default_rng(seed), count)


def share_of(places, place, allowed):
    where = tuple(slice(c, c + n) for c, n in zip(place.corner, places.size, strict=True))
    return float(allowed[where].float().mean())


def test_patches_come_from_what_was_measured_and_the_mask_allows():
    def gaps(one, two):
        one[:, :, :20] = math.nan  # x
        one[:, 40:56], two[:, 40:56] = 0.5, 0.5  # equal in both

    mask = torch.zeros(32, 128, 96, dtype=torch.bool)
    mask[:, :, :70] = True
    volume = prepared((32, 128, 96), change=gaps, mask=mask)
    places = Places([volume], 16, 0.15, 8)
    assert places.size == (16, 16, 16)
    chosen = [*drawn(places), *places.judging(50)]
    assert all(share_of(places, place, volume.valid) >= 0.6 for place in chosen)
    middles = np.array([np.array(p.corner) + 8 for p in chosen])
    assert middles[:, 2].min() >= 20
    assert middles[:, 2].max() <= 70
    assert not ((middles[:, 1] > 42) & (middles[:, 1] < 54)).any()
    assert middles[:, 1].min() < 40  # both sides of the slab are used
    assert middles[:, 1].max() > 56


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.tuples(st.integers(16, 40), st.integers(32, 150), st.integers(16, 60)),
    size=st.sampled_from([16, 24, 32]),
    held_out=st.floats(0.05, 0.5),
    multiple=st.sampled_from([1, 4, 8]),
)
@example(sizes=(16, 58, 16), size=32, held_out=0.5, multiple=1)
def test_what_judges_is_never_learned_from(sizes, size, held_out, multiple):
    volume = prepared(sizes)
    places = Places([volume], size, held_out, multiple)
    learned = max(place.corner[1] + places.size[1] for place in drawn(places))
    judged = places.judging(100)
    assert judged
    assert learned <= min(place.corner[1] for place in judged)
    for place in [*drawn(places, 50), *judged]:
        one, two = places.cut(place)
        assert one.shape == two.shape == places.size
        assert all(n % multiple == 0 for n in one.shape)


def test_when_the_end_was_not_measured_what_judges_is_from_the_last_that_was():
    def gap(one, two):
        del two
        one[:, 70:] = math.nan

    places = Places([prepared((24, 120, 24), change=gap)], 16, 0.15, 8)
    judged = places.judging(100)
    assert judged
    assert max(p.corner[1] + places.size[1] for p in drawn(places)) <= min(p.corner[1] for p in judged)


def test_thin_volumes_are_learned_from_and_too_thin_ones_refused():
    assert Places([prepared((24, 80, 64))], 64, 0.15, 8).size == (24, 40, 64)
    with pytest.raises(InputError, match=r"thinnest tomogram is 12 voxels; networks need 16"):
        Places([prepared(), prepared((12, 80, 64))], 32, 0.15, 8)
    nowhere = torch.zeros(32, 80, 48, dtype=torch.bool)
    with pytest.raises(InputError, match="mask"):
        Places([prepared(mask=nowhere)], 32, 0.15, 8)


def test_half_of_the_patches_are_where_both_halves_show_matter():
    shape = (32, 128, 128)
    signal = torch.zeros(shape)
    signal[8:24, 16:32, 16:32] = -6.0
    one, two = halves_of(signal)
    places = Places([prepare_halves(one, two, name="T", voxel_size_angstrom=10.0, geometry=TILTS)], 16, 0.15, 8)

    def near(corner):
        return 0 <= corner[1] < 32 and 0 <= corner[2] < 32

    part = np.mean([near(p.corner) for p in drawn(places, 1000)])
    by_area = np.mean([near((0, y, x)) for y in range(0, 93, 4) for x in range(0, 113, 4)])
    assert by_area < 0.12
    assert 0.45 < part < 0.7


# weights of shells

WIDE = (48, 64, 64)


def known_weights(frequencies, fall, pattern=None):
    """Network and raw weight that are best for f = s + p and halves s + n, from the powers of s, n and p."""
    signal, half_noise = 9.0 * np.exp(-2.0 * frequencies / fall), 0.5
    if pattern is None:
        return None, signal / (signal + half_noise)
    ff, fh, hh = signal + pattern, signal, signal + half_noise
    below = ff * hh - fh**2
    return signal * half_noise / below, signal * pattern / below


def measured_of(shape):
    return sampled_region(shape, [-60.0, 60.0])


def test_a_network_that_is_a_gain_alone_is_made_a_wiener_filter():
    fall = 0.15
    halves = halves_of(field(WIDE, fall))
    found = weigh_shells((0.5 * halves[0], 0.5 * halves[1]), halves, measured_of(WIDE))
    _, wiener = known_weights(found.frequencies, fall)
    near = (found.frequencies > 0.05) & (wiener > 0.15)
    assert near.sum() > 30
    np.testing.assert_allclose((0.5 * found.network + found.raw)[near], wiener[near], atol=0.12)
    assert (0.5 * found.network + found.raw)[wiener < 0.002].max(initial=0.0) < 0.1


def test_what_a_network_made_up_fades_as_much_as_it_is_made_up():
    fall, amplitude = 0.3, 1.0
    signal = field(WIDE, fall)
    halves = halves_of(signal)
    pattern = amplitude * noise(WIDE, 77)
    weights = []
    for part in (0.0, 1.0):
        output = signal + part * pattern
        weights.append(weigh_shells((output, output), halves, measured_of(WIDE)))
    near = (weights[0].frequencies > 0.06) & (weights[0].frequencies < 0.45)
    # the truth itself; where halves are nearly that, too, the two are hardly told apart, but their sum is known
    assert weights[0].network[near].min() > 0.75
    np.testing.assert_allclose((weights[0].network + weights[0].raw)[near], 1.0, atol=0.06)
    network, raw = known_weights(weights[1].frequencies, fall, pattern=amplitude**2)
    np.testing.assert_allclose(weights[1].network[near], network[near], atol=0.12)
    np.testing.assert_allclose(weights[1].raw[near], raw[near], atol=0.12)
    assert (weights[1].network[near] < weights[0].network[near] - 0.2).all()


def test_detail_that_a_network_drops_comes_back_and_no_shell_gets_worse():
    signal = field(WIDE, 0.3)
    halves = halves_of(signal)
    low = (radius(WIDE) < 0.2).float()
    outputs = tuple(through(signal, low) + 0.3 * through(noise(WIDE, n), low) for n in (5, 6))
    found = weigh_shells(outputs, halves, measured_of(WIDE))
    below, beyond = (found.frequencies > 0.05) & (found.frequencies < 0.17), found.frequencies > 0.24
    # 0.92 and 0.08 by their powers, less surely told apart than their sum
    assert found.network[below].min() > 0.7
    np.testing.assert_allclose((found.network + found.raw)[below], 1.0, atol=0.06)
    _, wiener = known_weights(found.frequencies, 0.3)
    np.testing.assert_allclose(found.raw[beyond], wiener[beyond], atol=0.12)
    mean, raw = 0.5 * (outputs[0] + outputs[1]), 0.5 * (halves[0] + halves[1])
    joined = apply_weights(mean, found.network) + apply_weights(raw, found.raw)
    with_truth = [fsc(volume, signal) for volume in (joined, mean, raw)]
    best = torch.maximum(with_truth[1], with_truth[2])[1:-1]
    assert float((with_truth[0][1:-1] - best).min()) > -0.02
    assert float(with_truth[0][6:-1].mean()) > float(
        best[5:].mean()
    )  # better than the better of both, where both know something


def test_shells_in_which_the_halves_have_nothing_in_common_are_emptied():
    halves = noise(WIDE, 1), noise(WIDE, 2)
    outputs = noise(WIDE, 3), noise(WIDE, 4)
    found = weigh_shells(outputs, halves, measured_of(WIDE))
    assert np.mean(found.network + found.raw) < 0.05


def test_weights_are_applied_in_their_shells():
    frequencies = (np.arange(64) + 0.5) / 128
    volume = noise((20, 31, 24))
    out = apply_weights(volume, np.exp(-frequencies / 0.2).astype(np.float32))
    gain = (torch.fft.rfftn(out).abs() / torch.fft.rfftn(volume).abs()).reshape(-1)
    k = radius((20, 31, 24)).reshape(-1)
    inner = (k > 0.01) & (k < 0.49)
    torch.testing.assert_close(gain[inner], torch.exp(-k[inner] / 0.2), rtol=0.01, atol=1e-3)


# turns


def blobs(shape, middles, sigma=2.5):
    """Gaussian blobs at points x, y, z from voxel n // 2."""
    z, y, x = torch.meshgrid(*(torch.arange(n) - n // 2 for n in shape), indexing="ij")
    out = torch.zeros(shape)
    for weight, (px, py, pz) in enumerate(middles, 1):
        out += weight * torch.exp(-((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) / (2 * sigma**2))
    return out


MIDDLES = np.array([[7.0, 0.0, 0.0], [0.0, 6.0, 1.0], [-2.0, -1.0, 8.0], [3.0, -6.0, -4.0]])


@pytest.mark.parametrize("shape", [(40, 44, 48), (41, 40, 43)])
@pytest.mark.parametrize("size", [24, 25])
def test_a_turned_cube_is_the_phantom_with_its_points_turned(shape, size):
    turns = Rotation.random(3, np.random.default_rng(3)).matrices
    found = turned(blobs(shape, MIDDLES)[None], torch.from_numpy(turns).float(), size)
    for volume, turn in zip(found, turns, strict=True):
        assert np.linalg.det(turn) == pytest.approx(1.0)
        expected = blobs((size,) * 3, MIDDLES @ turn.T)
        # linear interpolation dulls peaks of sigma 2.5 by 3 / 8 / 2.5^2 = 6% at most
        assert float((volume - expected).abs().max()) < 0.08 * float(expected.max())
        for wrong in (turn.T, -turn):  # the inverse, and the mirrored
            other = blobs((size,) * 3, MIDDLES @ wrong.T)
            assert float((volume - other).norm()) > 5.0 * float((volume - expected).norm())


def test_the_identity_leaves_the_middle_as_it_is():
    volume = noise((30, 33, 36))
    found = turned(volume[None], torch.eye(3)[None], 20)[0]
    torch.testing.assert_close(found, volume[5:25, 6:26, 8:28], atol=2e-5, rtol=0)


def test_a_turned_tomogram_has_its_power_where_its_region_is_said_to_be():
    """Noise with a wedge: a turn that is the wrong way round puts power into the turned wedge."""
    size, side = 40, 72
    window = torch.hann_window(size, periodic=False)
    window = window[:, None, None] * window[:, None] * window
    cube = through(noise((side,) * 3), sampled_region_of(TILTS, (side,) * 3))
    ring = (radius((size,) * 3) > 0.12) & (radius((size,) * 3) < 0.35)
    turns = Rotation.random(4, np.random.default_rng(8)).matrices
    found = turned(cube[None], torch.from_numpy(turns).float(), size)

    def outside(volume, turn):
        region = sampled_region_of(TILTS, (size,) * 3, rotation=turn, thickness=float(side))
        power = torch.fft.rfftn(volume * window).abs().square()
        return float(power[ring & (region < 0.01)].mean() / power[ring & (region > 0.99)].mean())

    right, wrong, plain = (
        np.array([outside(volume, matrix) for volume, matrix in zip(found, matrices, strict=True)])
        for matrices in (turns, np.swapaxes(turns, 1, 2), np.tile(np.eye(3), (len(turns), 1, 1)))
    )
    assert right.max() < 0.08  # what leaks through the window
    assert (wrong > 1.5 * right).all()  # some turns there and back leave the wedge nearly where it is
    assert wrong.mean() > 0.4
    assert plain.mean() > 0.4


# filling


def known_contrast(transfer):
    return TomogramContrast(optics=Optics(), defocus_angstrom=30000.0, phase_shift_deg=0.0, transfer=transfer)


@pytest.fixture(scope="module")
def filling():
    # y is twice as long, as a part of it is held out
    volume = prepared((32, 80, 40))
    contrast = known_contrast("flipped").relative(10.0)
    return _Filling([volume], WedgeTraining(patch_size=16, batch_size=2), (contrast,), 8, 3)


def test_a_lesson_of_filling_has_the_shapes_of_its_patches(filling):
    batch = filling.batch(5)
    half = (16, 16, 9)
    assert batch["cube"].shape == batch["other"].shape == (1, 32, 32, 32)
    assert batch["measured"].shape == (32, 32, 17)
    assert batch["wedge"].shape == (1, *half)
    assert batch["turned"].shape == (2, *half)
    assert batch["turns"].shape == (2, 3, 3)
    assert batch["contrast"].shape == (1, *half)
    for turn, region in zip(batch["turns"].numpy(), batch["turned"], strict=True):
        expected = sampled_region_of(TILTS, (16,) * 3, rotation=turn, thickness=32.0)
        torch.testing.assert_close(region, expected, atol=1e-3, rtol=0)
    again, other = filling.batch(5), filling.batch(6)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["turns"], other["turns"])


class Oracle(torch.nn.Module):
    """Says the other half turned as it was, or otherwise, through no contrast."""

    def __init__(self, batch, turns):
        super().__init__()
        self.batch, self.turns = batch, turns

    def forward(self, volumes):
        if volumes.shape[2] != 16:
            return volumes
        return turned(self.batch["other"], self.turns, 16)[:, None]


def test_the_loss_of_filling_is_least_where_the_turned_other_half_is_told(filling):
    batch = {**filling.batch(1)}
    batch["contrast"] = torch.ones_like(batch["contrast"])
    right = float(filling.loss(Oracle(batch, batch["turns"]), batch))
    wrong = float(filling.loss(Oracle(batch, batch["turns"].transpose(1, 2)), batch))
    assert math.isfinite(right)
    assert right < 0.7 * wrong
    network = UNet(UNetParams(width=3, levels=2, normalise=False))
    initialise(network, 2)
    loss = filling.loss(network, batch)
    assert math.isfinite(float(loss.detach()))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in network.parameters())


def test_filling_leaves_what_was_measured_as_it_is_and_noise_in_the_wedge(filling):
    batch = filling.batch(2)
    network = UNet(UNetParams(width=2, levels=1, normalise=False))
    for value in network.parameters():
        torch.nn.init.zeros_(value)
    with torch.no_grad():
        filled = filling._filled(network, batch)
    region = batch["measured"]
    before, after = (torch.fft.rfftn(v[0]) for v in (batch["cube"], filled))
    sure = region == 1.0
    torch.testing.assert_close(after[sure], before[sure], atol=2e-2, rtol=1e-3)
    # the network says 0: all that fills the wedge is noise of one half, with a spread of 1 in `halves_of`
    expected = (batch["cube"] - batch["other"]).var() / 2.0
    power = after[(region == 0.0) & (radius((32,) * 3) < 0.45)].abs().square().mean() / 32**3
    assert float(power) == pytest.approx(float(expected), rel=0.1)


def test_noise_like_has_the_power_of_the_sample_by_frequency():
    shape = (40, 36, 44)
    falling = torch.exp(-radius(shape) / 0.2)
    region = (sampled_region(shape, [-60.0, 60.0]) > 0.5).float()
    sample = through(noise(shape, 3), falling * region)
    made = torch.stack([noise_like(sample[None], region, torch.Generator().manual_seed(n))[0] for n in range(10)])
    index = shell_index(shape, CPU)
    known = (region > 0.99).reshape(-1)
    for low, high in ((4, 10), (20, 26), (40, 46), (55, 60)):
        ring = (index >= low) & (index < high)
        found = float(made.reshape(10, -1)[:, ring].abs().square().mean())
        expected = float(torch.fft.rfftn(sample).reshape(-1)[ring & known].abs().square().mean())
        assert found == pytest.approx(expected, rel=0.15)
    inside, outside = (made[:, r].abs().square().mean() for r in (region > 0.99, region < 0.01))
    assert float(outside) > 0.2 * float(inside)  # in the wedge, too
    assert not torch.equal(made[0], made[1])


@pytest.mark.parametrize("transfer", ["uncorrected", "flipped", "multiplied"])
def test_relative_contrast_is_the_transfer_over_one_that_keeps_its_first_peak(transfer):
    defocus, voxel, shape = 30000.0, 8.0, (20, 15, 24)
    made = known_contrast(transfer).relative(voxel)(shape)
    assert made.shape == (20, 15, 13)

    def expected(k):
        # 300 kV: 0.019687 A; 2.7 mm; 7% amplitude contrast; the first peak of the sine is 1
        phase = math.pi * 0.019687 * k**2 * (defocus - 0.5 * 2.7e7 * 0.019687**2 * k**2) + math.asin(0.07)
        seen = math.sin(phase)
        flat = seen if phase < 0.5 * math.pi else 1.0
        return {"uncorrected": seen, "flipped": abs(seen), "multiplied": seen**2}[transfer] / flat

    places = [(0, 0, 0), (0, 0, 2), (3, 0, 0), (0, -4, 2), (-9, 6, 11), (1, 2, 3)]
    for z, y, x in places:
        k = math.sqrt((z / 20) ** 2 + (y / 15) ** 2 + (x / 24) ** 2) / voxel
        assert float(made[z, y, x]) == pytest.approx(expected(k), abs=0.02)
    assert float(made[0, 0, 2]) > 0.05
    assert (float(made.min()) < -0.9) == (transfer == "uncorrected")


# trainings and their use


def small_network(seed=1, levels=2):
    network = UNet(UNetParams(width=4, levels=levels, normalise=False))
    initialise(network, seed)
    return Restorer(network=network.eval(), voxel_range_angstrom=(8.0, 12.0))


def region_of(shape):
    return sampled_region_of(TILTS, shape)


@pytest.mark.slow
def test_noise_to_noise_lowers_the_error_without_ever_seeing_the_truth():
    shape = (32, 64, 48)
    signal = field(shape, 0.08)
    signal = 1.0 * signal / signal.std()
    one, two = halves_of(signal)
    volume = prepare_halves(one, two, name="T", voxel_size_angstrom=10.0, geometry=TILTS)
    params = RestorerTraining(
        steps=60, batch_size=2, patch_size=16, learning_rate=1e-2, checkpoint_steps=20, averaging=0.9
    )
    made = train_restorer([volume], params, CPU, start=small_network(), seed=2)
    assert made.bettered
    assert made.model.settings["voxel_size_angstrom"] == [8.0, 12.5]
    restorer = restorer_of(made.model, "denoise", "m")
    found = restore_volume(restorer, (one, two), RestorerUse(weigh_shells=False), measured=region_of)
    raw = 0.5 * (one + two)

    def error(volume):
        return float((volume - signal).square().mean())

    assert error(raw) == pytest.approx(0.5, rel=0.05)
    assert error(found.volume) < 0.5 * error(raw)
    weighed = restore_volume(restorer, (one, two), RestorerUse(), measured=region_of)
    assert error(weighed.volume) < 0.5 * error(raw)


def test_a_restored_tomogram_has_the_numbers_of_the_raw_one():
    """With a network that gives back what it is given: scale and level, mirrors, and the sampled region as it was."""

    def detail(seed):  # finer than Nyquist nothing but the network's grid is looked for, and taken away
        return through(noise((24, 26, 31), seed), (radius((24, 26, 31)) < 0.46).float())

    volume = 300.0 + 50.0 * detail(0)
    same = identity()
    alone = restore_volume(same, (volume,), RestorerUse(mirrors=True), measured=region_of, half=False)
    torch.testing.assert_close(alone.volume, volume, rtol=1e-4, atol=1e-2)
    assert alone.weights is None
    signal = 100.0 * detail(3)
    one, two = (signal + 30.0 * detail(seed) for seed in (1, 2))
    plain = restore_volume(same, (one, two), RestorerUse(weigh_shells=False), measured=region_of, half=False)
    torch.testing.assert_close(plain.volume, 0.5 * (one + two), rtol=1e-4, atol=2e-2)
    kept = restore_volume(small_network(), (one, two), RestorerUse(), measured=region_of, keep_measured=True)
    sure = region_of(signal.shape) == 1.0
    waves = [torch.fft.rfftn(v - v.mean())[sure] for v in (kept.volume, 0.5 * (one + two))]
    assert float((waves[0] - waves[1]).norm() / waves[1].norm()) < 1e-4


def identity():
    """SiLU(x) - SiLU(-x) = x: a network that changes nothing."""
    network = UNet(UNetParams(width=2, levels=1, normalise=False))
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        first, second = network.down[0][0], network.down[0][2]
        first.weight[:, 0, 1, 1, 1] = torch.tensor([1.0, -1.0])
        second.weight[:, :, 1, 1, 1] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        network.head.weight[0, :, 0, 0, 0] = torch.tensor([1.0, -1.0])
    return Restorer(network=network.eval(), voxel_range_angstrom=(8.0, 12.0))


@pytest.fixture(scope="module")
def shipped():
    return restorer_of(read_restorer_model("shipped"), "denoise", "shipped")


def _specimen(shape=(32, 64, 40)):
    """Dark blobs in noise, through a wedge."""
    rng = np.random.default_rng(4)
    middles = rng.uniform(-0.45, 0.45, (12, 3)) * np.array(shape)[::-1]
    signal = through(-blobs(shape, middles, 2.2).clamp_max(4.0), region_of(shape))
    signal = 0.7 * signal / signal.std()
    grain = [through(noise(shape, n), region_of(shape)) for n in (11, 12)]
    return signal, signal + grain[0], signal + grain[1]


def test_bfloat16_gives_what_float32_gives(shipped):
    signal, one, two = _specimen((24, 48, 40))
    areas = []
    for half in (True, False):
        found = restore_volume(shipped, (one, two), RestorerUse(weigh_shells=False), measured=region_of, half=half)
        areas.append(float(fsc(found.volume, signal)[1:].clamp_min(0.0).sum()))
    assert areas[0] == pytest.approx(areas[1], rel=0.005)


@pytest.mark.slow
def test_the_general_network_denoises_and_learning_from_it_makes_nothing_worse(shipped):
    signal, one, two = _specimen()
    volume = prepare_halves(one, two, name="T", voxel_size_angstrom=10.0, geometry=TILTS)
    params = RestorerTraining(steps=8, batch_size=1, patch_size=32, checkpoint_steps=4, learning_rate=1e-3)
    made = train_restorer([volume], params, CPU, start=shipped, seed=2)
    assert min(value for _, value in made.checks) <= made.checks[0][1]

    def error(restorer):
        found = restore_volume(restorer, (one, two), RestorerUse(weigh_shells=False), measured=region_of)
        return float((found.volume - signal).square().mean())

    raw = float((0.5 * (one + two) - signal).square().mean())
    general, tuned = error(shipped), error(restorer_of(made.model, "denoise", "m"))
    assert general < raw
    assert tuned < 1.02 * general
