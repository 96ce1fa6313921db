"""The wedge filled by constraints, against a phantom that is known, and the nearest volume that agrees against its definition."""

import functools
import math

import pytest
import torch

from eucentric.denoising.constrained import ConstrainedParams, Filled, constrained_bytes, fill_constrained
from eucentric.denoising.constrained.fill_constrained import _agreement
from eucentric.denoising.constrained.primal_dual import _raise_slopes, _transposed
from eucentric.denoising.sampled_region import sampled_region
from eucentric.errors import InputError, ShapeError

SHAPE = (32, 36, 40)
SPHERE = (-7.0, -9.0)  # y, x of its centre, in the middle of z
FAST = ConstrainedParams(matter="dark", iterations=20, coarse_iterations=30)


def distances(shape=SHAPE):
    return torch.meshgrid(*(torch.arange(n, dtype=torch.float32) - n // 2 for n in shape), indexing="ij")


def noise(shape=SHAPE, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filtered(volume, gain):
    return torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=volume.shape)


@functools.cache
def phantom():
    """A dark ball, a vesicle and blobs of unequal axes."""
    z, y, x = distances()
    matter = torch.sigmoid(-2.0 * ((z**2 + (y - SPHERE[0]) ** 2 + (x - SPHERE[1]) ** 2).sqrt() - 5.0))
    vesicle = (z**2 + (y - 7) ** 2 + (x - 8) ** 2).sqrt() - 8.0
    matter = matter + torch.sigmoid(-2.0 * (vesicle.abs() - 1.3))
    for dz, dy, dx, a, b, c in ((10, -11, 9, 2, 4, 3), (-10, 9, -12, 4, 2, 3)):
        d = (((z - dz) / a) ** 2 + ((y - dy) / b) ** 2 + ((x - dx) / c) ** 2).sqrt() - 1.0
        matter = matter + torch.sigmoid(4.0 * -d)
    return -matter


@functools.cache
def scene(sigma=0.35):
    """Truth, what 60 degrees on either side see of it, the region of these, and the noise in what they see."""
    region = (sampled_region(SHAPE, [-60.0, 60.0]) > 0.5).float()
    seen = filtered(sigma * noise(), region)
    return phantom(), filtered(phantom(), region) + seen, region, seen


@functools.cache
def answer(hard=True):
    _, volume, region, seen = scene()
    return fill_constrained(volume, region, FAST.replace(hard_data=hard), float(seen.std()))


def correlation(a, b, weight):
    """Over samples of the transform coarser than 10 voxels, where `weight` is 1."""
    k2 = sum(f**2 for f in torch.meshgrid(*(torch.fft.fftfreq(n) for n in SHAPE), indexing="ij"))[
        ..., : SHAPE[2] // 2 + 1
    ]
    pick = (weight > 0.5) & (k2 < 0.1**2) & (k2 > 0)
    u, v = torch.fft.rfftn(a)[pick], torch.fft.rfftn(b)[pick]
    power = (u.abs().square().sum() * v.abs().square().sum()).sqrt()
    return float((u * v.conj()).real.sum() / power.clamp(min=1e-12))


def width(line, ground):
    """Voxels, of a dark dip at the middle, at half of its depth below the ground."""
    half = 0.5 * float(ground - line.min())
    middle = len(line) // 2
    ends = []
    for side in (line.flip(0)[len(line) - 1 - middle :], line[middle:]):
        side = side - line.min()
        at = int((side > half).nonzero()[0])
        ends.append(at - 1 + (half - float(side[at - 1])) / float(side[at] - side[at - 1]))
    return sum(ends)


def elongation(volume):
    """Width of the ball along z over that along y, of lines through its middle 3 x 3."""
    z, y, x = (n // 2 + int(c) for n, c in zip(SHAPE, (0.0, *SPHERE), strict=True))
    along_z = volume[:, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))[z - 12 : z + 13]
    along_y = volume[z - 1 : z + 2, :, x - 1 : x + 2].mean((0, 2))[y - 10 : y + 11]
    ground = volume.median()
    return width(along_z, ground) / width(along_y, ground)


def test_the_wedge_holds_the_specimen_where_the_input_held_nothing():
    truth, volume, region, _ = scene()
    filled = answer().volume
    assert filled.shape == volume.shape
    assert correlation(volume, truth, 1.0 - region) < 0.05
    assert correlation(filled, truth, 1.0 - region) > 0.6
    assert correlation(filled, truth, region) > correlation(volume, truth, region) - 1e-4


def test_a_ball_is_round_again():
    truth, volume, _, _ = scene()
    assert elongation(truth) == pytest.approx(1.0, abs=0.05)
    assert elongation(volume) > 1.1
    assert elongation(answer().volume) < 1.0 + 0.5 * (elongation(volume) - 1.0)


def test_measured_samples_are_those_of_the_input_with_hard_data_and_denoised_without():
    truth, volume, region, _ = scene()
    before, after = (torch.fft.rfftn(v)[region > 0.5] for v in (volume, answer().volume))
    torch.testing.assert_close(after, before, atol=1e-4 * float(before.abs().max()), rtol=0)
    soft = answer(hard=False).volume
    assert float((filtered(soft, region) - volume).std()) > 0.1 * float(volume.std())
    assert float((soft - truth).square().mean()) < float((answer().volume - truth).square().mean())


def test_the_answer_is_of_one_contrast_and_agrees_with_the_data_as_closely_as_their_noise():
    _, volume, region, seen = scene()
    done = answer(hard=False)
    over = (done.volume - done.background).clamp(min=0.0)
    assert float(over.square().mean().sqrt()) < 0.02 * float(volume.std())
    assert done.record[-1].residual <= 1.0 + 1e-6
    left = filtered(volume - done.volume, region)
    assert float(left.std() / seen.std()) == pytest.approx(1.0, abs=0.1)
    variations = [step.total_variation for step in done.record if step.level == 1]
    assert variations[-1] < variations[0] or variations[-1] < 0.2
    assert done.record[-1].change < done.record[0].change


def test_bright_matter_is_the_mirror_of_dark_matter():
    _, volume, region, seen = scene()
    bright = fill_constrained(-volume, region, FAST.replace(matter="bright"), float(seen.std()))
    torch.testing.assert_close(-bright.volume, answer().volume, atol=1e-2 * float(volume.std()), rtol=0)


def test_a_known_transfer_fills_more_than_an_unknown_one():
    """Signs flipped, weak at low frequency and with a zero inside of the band: rings of the other contrast around matter."""
    truth, _, region, seen = scene()

    def transfer(k):
        return torch.sin(0.08 + 22.0 * k**2).abs()

    k2 = sum(f**2 for f in torch.meshgrid(*(torch.fft.fftfreq(n) for n in SHAPE), indexing="ij"))[
        ..., : SHAPE[2] // 2 + 1
    ]
    volume = filtered(truth, region * transfer(k2.sqrt())) + 0.2 * seen
    sigma = 0.2 * float(seen.std())
    free = 1.0 - region
    without = correlation(fill_constrained(volume, region, FAST, sigma).volume, truth, free)
    with_it = correlation(fill_constrained(volume, region, FAST, sigma, transfer=transfer).volume, truth, free)
    assert with_it > 0.5
    assert with_it > without


def test_one_contrast_is_taken_for_granted_only_where_the_transfer_is_known():
    _, volume, region, seen = scene()
    sigma, few = float(seen.std()), FAST.replace(iterations=10, coarse_iterations=0)
    made = {
        (matter, known): fill_constrained(
            volume, region, few.replace(matter=matter), sigma, transfer=torch.ones_like if known else None
        ).volume
        for matter, known in (("auto", False), ("both", False), ("auto", True), ("dark", True))
    }
    assert torch.equal(made["auto", False], made["both", False])
    assert torch.equal(made["auto", True], made["dark", True])
    assert not torch.equal(made["auto", True], made["auto", False])


def test_a_support_keeps_the_answer_flat_outside():
    _, volume, region, seen = scene()
    z, _, _ = distances()
    mask = (z.abs() < 13).float()
    done = fill_constrained(volume, region, FAST.replace(hard_data=False), float(seen.std()), mask)
    without = answer(hard=False).volume
    assert float(done.volume[mask < 0.5].std()) < 0.5 * float(without[mask < 0.5].std())


def test_noise_is_measured_where_it_is_not_given_and_weighed_by_its_spectrum():
    _, volume, region, seen = scene()
    assert fill_constrained(
        volume, region, FAST.replace(iterations=1, coarse_iterations=0)
    ).noise_sigma == pytest.approx(float(seen.std()), rel=0.05)
    soft = FAST.replace(hard_data=False)
    shaped = fill_constrained(volume, region, soft, float(seen.std()), noise_sample=filtered(noise(seed=3), region))
    # white noise told twice over
    assert float((shaped.volume - answer(hard=False).volume).std()) < 0.25 * float(volume.std())


def test_steps_are_told_as_they_are_recorded():
    _, volume, region, seen = scene()
    told = []
    few = ConstrainedParams(iterations=2, coarse_iterations=1)
    done = fill_constrained(volume, region, few, float(seen.std()), on_progress=told.append)
    assert isinstance(done, Filled)
    assert tuple(told) == done.record
    assert [(step.level, step.iteration) for step in told] == [(2, 1), (1, 1), (1, 2)]
    assert not done.converged


def test_it_stops_once_nothing_changes():
    _, volume, region, seen = scene()
    settings = ConstrainedParams(iterations=60, least_change=0.05, coarse_iterations=0)
    done = fill_constrained(volume, region, settings, float(seen.std()))
    assert done.converged
    assert len(done.record) < 60


@pytest.mark.parametrize("with_transfer", [False, True])
def test_the_nearest_volume_that_agrees_meets_each_shell_and_is_stationary(with_transfer):
    _, volume, region, seen = scene()
    transfer = (lambda k: 0.3 + k) if with_transfer else None
    agreement = _agreement(volume / seen.std(), region > 0.5, None, 1.5, transfer, FAST, SHAPE)
    far = torch.fft.rfftn(3.0 * noise(seed=7))
    near = far.clone()
    agreement.nearest(near)
    left = agreement.misfit(near)
    told = agreement.budget > 0
    assert (left[told] <= agreement.budget[told] * (1 + 1e-4)).all()
    # the change is along the gradient of the misfit of its shell: one positive number, m, for all of its samples
    gain = agreement.transfer[agreement.shell]
    slope = gain * (agreement.data - gain * near)
    for shell in (3, 9, 15):
        pick = (agreement.shell == shell) & agreement.measured
        ratio = (near - far)[pick] / slope[pick]
        assert float(ratio.imag.abs().max()) < 2e-2 * float(ratio.real.mean())
        assert float(ratio.real.std()) < 1e-2 * float(ratio.real.mean())
    assert torch.equal(near[~agreement.measured], far[~agreement.measured])


def test_the_divergence_is_the_transpose_of_the_slopes():
    volume, fields = noise((18, 7, 9)), torch.stack([noise((18, 7, 9), s) for s in (1, 2, 3)]) * 1e-4
    slopes = torch.zeros(3, 18, 7, 9)
    _raise_slopes(slopes, volume * 1e-3, 1.0)  # short ones are not cut
    assert float((slopes * fields).sum()) == pytest.approx(
        float((volume * 1e-3 * _transposed(fields)).sum()), rel=1e-3, abs=1e-9
    )


def test_wrong_input_is_told():
    _, volume, region, _ = scene()
    spoilt = volume.clone()
    spoilt[3, 4, 5] = math.nan
    for bad in (spoilt, torch.full(SHAPE, 2.0)):
        with pytest.raises(InputError, match=r"not numbers|constant"):
            fill_constrained(bad, region, FAST)
    with pytest.raises(ShapeError, match="mask"):
        fill_constrained(volume, region, FAST, 1.0, torch.ones(8, 9, 10))
    with pytest.raises(InputError, match="mask is empty"):
        fill_constrained(volume, region, FAST, 1.0, torch.zeros(SHAPE))
    with pytest.raises(InputError, match="no wedge"):
        fill_constrained(volume, torch.ones_like(region), FAST, 1.0)
    with pytest.raises(InputError, match="empty"):
        fill_constrained(volume, torch.zeros_like(region), FAST, 1.0)
    with pytest.raises(ShapeError, match="rfftn"):
        fill_constrained(volume, region[:, :, :-1], FAST, 1.0)
    with pytest.raises(ShapeError, match="sizes"):
        fill_constrained(volume[:4], region[:4], FAST, 1.0)
    with pytest.raises(InputError, match="above 0"):
        fill_constrained(volume, region, FAST, -1.0)


def test_memory_grows_with_the_volume():
    assert constrained_bytes((128, 384, 384)) < 2 * 2**30
    assert constrained_bytes((128, 384, 384)) > 12 * 4 * 128 * 384 * 384
