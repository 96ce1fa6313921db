"""What trust kernels say of stand-ins for networks whose faults are known."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.denoising import gaussian_filter
from eucentric.denoising.trust import (
    AVERAGE_RAW_DATA,
    apply_turned,
    check_invention,
    estimate_uncertainty,
    find_grid_artefacts,
    find_seams,
    measure_half_agreement,
    turns_keeping_wedge,
)
from eucentric.denoising.trust.block_spectra import (
    all_samples,
    hann_window,
    jackknife,
    lowest_around,
    place_blocks,
    region_outside,
    windowed_transform,
)
from eucentric.denoising.trust.invented_power import _turned
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_grid, frequency_vectors

SHAPE = (48, 96, 112)
VOXEL = 10.0


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(shape=SHAPE, seed=0, sigma=1.0):
    return sigma * torch.randn(shape, generator=seeded(seed))


def wedge(largest=60.0, smallest=-60.0):
    """Tilts from smallest to largest about y, with edges one sample soft."""

    def on(shape):
        kz, _, kx = frequency_vectors(shape, 1.0)
        span = max(shape)
        over = torch.minimum(
            kx * math.tan(math.radians(largest)) - kz, kz - kx * math.tan(math.radians(smallest))
        ).expand(*shape[:2], shape[2] // 2 + 1)
        return (0.5 + over * span).clamp(0.0, 1.0)

    return on


def everything(shape):
    return torch.ones(*shape[:2], shape[2] // 2 + 1)


def through(volume, gain):
    return torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=volume.shape)


def specimen(shape=SHAPE, seed=7):
    """Random detail whose power falls as that of specimens, 1 sd."""
    k = frequency_grid(shape, VOXEL)
    out = through(noise(shape, seed), torch.exp(-((k * 35.0) ** 2)) / (k * 200.0 + 1.0) * (k < 1 / 24.0))
    return out / out.std()


def recorded(clean, sigma=0.5, measured=None, seed=1):
    """Two halves with noise of that deviation each, without what was not measured."""
    halves = [clean + noise(tuple(clean.shape), seed + i, sigma) for i in (0, 1)]
    return halves if measured is None else [through(h, measured(tuple(h.shape))) for h in halves]


# blocks


@pytest.mark.parametrize("shape", [(40, 65, 130), (20, 96, 97)])
def test_blocks_lie_inside_and_cover_the_volume(shape):
    seen = torch.zeros(shape)
    for block in place_blocks(shape, 32, None):
        part = seen[block]
        assert tuple(part.shape) == tuple(min(32, n) for n in shape)
        part += 1
    assert float((seen > 0).float().mean()) > 0.75
    assert len(place_blocks(shape, 32, 3, generator=seeded())) == 3


@settings(max_examples=6, deadline=None)
@given(last=st.sampled_from([6, 7, 8]), seed=st.integers(0, 1000))
def test_least_neighbours_of_a_half_transform_are_those_of_the_whole(last, seed):
    whole = torch.fft.fftn(torch.randn((6, 5, last), generator=seeded(seed))).abs()
    half = whole[..., : last // 2 + 1]
    torch.testing.assert_close(all_samples(half, last), whole)
    expected = whole
    for axis in range(3):
        expected = torch.minimum(expected, torch.minimum(expected.roll(1, axis), expected.roll(-1, axis)))
    torch.testing.assert_close(lowest_around(half, last), expected[..., : last // 2 + 1])


@pytest.mark.parametrize("shape", [(8, 6, 10), (7, 8, 9), (6, 6, 6)])
def test_what_is_measured_turns_with_the_volume(shape):
    volume = noise(shape)
    before = torch.fft.rfftn(volume).abs()
    after = torch.fft.rfftn(torch.rot90(volume, 1, (0, 2))).abs()
    torch.testing.assert_close(_turned(before, shape[2]), after, atol=1e-4, rtol=0)


def test_nothing_leaks_through_the_window_into_a_region_less_its_rim():
    gone = wedge()((32, 32, 32))
    gone = torch.where(gone < 0.9, torch.zeros_like(gone), gone)
    seen = windowed_transform(through(noise((32, 32, 32)), gone)).abs()
    outside = region_outside(gone, 32)
    assert outside.sum() > 500
    assert float((seen * outside).max()) < 1e-4 * float(seen.max())
    assert abs(float(hann_window((32, 30, 27)).square().mean()) - 1.0) < 1e-5


def test_jackknife_of_a_mean_is_its_standard_error():
    parts = torch.stack([noise((12, 5), 3).double(), torch.ones(12, 5, dtype=torch.float64)], dim=1)
    mean, sigma = jackknife(parts, lambda q: q[0] / q[1])
    torch.testing.assert_close(mean, parts[:, 0].mean(0))
    torch.testing.assert_close(sigma, parts[:, 0].std(0) / math.sqrt(12))


# agreement of halves


def agreement(f, h, measured=everything, block=48):
    return measure_half_agreement(*f, *h, measured, VOXEL, block=block)


def test_raw_halves_keep_all_signal_and_all_noise():
    clean = specimen()
    h = recorded(clean)
    found = agreement(h, h)
    k = (found.frequency > 1 / 250.0) & (found.frequency < 1 / 35.0)
    torch.testing.assert_close(found.kept[k], torch.ones_like(found.kept[k]), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.noise_kept[k], torch.ones_like(found.kept[k]), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.unsupported[k], found.raw_unsupported[k], atol=1e-9, rtol=0)
    assert float(found.added[k].abs().max()) < 0.02  # halves of unlike noise power in a shell
    assert found.raw_angstrom == found.output_angstrom
    assert torch.isnan(found.wedge).all()


def test_a_filter_keeps_its_gain_of_signal_and_noise_and_adds_nothing():
    h = recorded(specimen())
    gain = torch.exp(-((frequency_grid(SHAPE, VOXEL) * 30.0) ** 2))
    found = agreement([through(v, gain) for v in h], h)
    k = (found.frequency > 1 / 200.0) & (found.frequency < 1 / 35.0)
    expected = torch.exp(-((found.frequency * 30.0) ** 2))[k]
    assert float((found.kept[k] - expected).abs().max()) < 0.03  # the gain falls within a shell
    assert float((found.noise_kept[k] - expected).abs().max()) < 0.05
    assert float(found.added[k].abs().max()) < 0.03


def test_eaten_signal_and_added_power_are_found_without_the_truth():
    clean = specimen()
    h = recorded(clean)
    k = frequency_grid(SHAPE, VOXEL)
    eaten = torch.where((k > 1 / 70.0) & (k < 1 / 45.0), 0.4, 1.0)
    painted = through(noise(seed=50, sigma=2.0), ((k > 1 / 45.0) & (k < 1 / 35.0)).float())
    f = [through(clean, eaten) + painted + 0.2 * (v - clean) for v in h]
    found = agreement(f, h)
    middle = (found.frequency > 1 / 62.0) & (found.frequency < 1 / 48.0)
    assert float((found.kept[middle] - 0.4).abs().max()) < 0.02
    fine = (found.frequency > 1 / 42.0) & (found.frequency < 1 / 37.0)
    assert float(found.added[fine].min()) > 0.3
    assert float(found.added[(found.frequency > 1 / 250.0) & (found.frequency < 1 / 80.0)].max()) < 0.1
    # both halves are painted alike: their agreement is perfect, and says nothing
    assert float(found.output[fine].min()) > 0.95 > float(found.truth[fine].max()) + 0.1


def test_correlation_with_truth_and_error_are_those_that_the_truth_gives():
    clean = specimen()
    h = recorded(clean)
    f = [gaussian_filter(v, 12.0, VOXEL) for v in h]
    found = agreement(f, h)
    blocks = place_blocks(SHAPE, 48, None)
    k = (found.frequency > 1 / 200.0) & (found.frequency < 1 / 40.0)
    sums = torch.zeros(4, len(found.frequency), dtype=torch.float64)
    index = torch.clamp((frequency_grid((48, 48, 48), 1.0) * 48 + 1e-9).floor().long(), max=24)
    for place, v in itertools.product(blocks, f):
        a, s = windowed_transform(v[place]), windowed_transform(clean[place])
        for i, q in enumerate((a.abs() ** 2, s.abs() ** 2, (a * s.conj()).real, (a - s).abs() ** 2)):
            weight = torch.full((25,), 2.0)
            weight[0] = weight[-1] = 1.0
            for shell in range(24):
                sums[i, shell] += float((q * weight)[index == shell].sum())
    truth = sums[2] / (sums[0] * sums[1]).sqrt()
    assert float((found.truth - truth)[k].abs().max()) < 0.05
    error = sums[3] / sums[1]
    assert float(((found.error - error) / (error + 0.1))[k].abs().max()) < 0.2


def test_agreement_inside_the_wedge_and_its_power():
    clean = specimen()
    h = recorded(clean, measured=wedge())
    alone = agreement(h, h, wedge())
    filled = agreement([v + through(clean, 1.0 - wedge()(SHAPE)) for v in h], h, wedge())
    k = (filled.frequency > 1 / 110.0) & (filled.frequency < 1 / 40.0)
    assert float(filled.wedge[k].min()) > 0.95
    assert float(alone.wedge_power[k].max()) < 0.05
    assert 0.5 < float(filled.wedge_power[k].mean()) < 1.2
    assert filled.wedge_angstrom < 40.0


def test_agreement_refuses_what_tells_nothing():
    h = recorded(specimen())
    with pytest.raises(InputError, match="identical"):
        agreement(h, [h[0], h[0].clone()])
    with pytest.raises(ShapeError, match="one \\(z, y, x\\) shape"):
        agreement(h, [h[0], h[1][1:]])
    with pytest.raises(ShapeError, match="came back"):
        agreement(h, h, lambda shape: torch.ones(shape))


# uncertainty


def test_sigma_of_a_linear_filter_is_what_noise_makes_of_it():
    shape, sigma = (48, 48, 48), 0.8
    k = frequency_grid(shape, 1.0)
    gain = torch.exp(-((k * 4.0) ** 2))
    clean = specimen(shape)
    f = [through(clean + noise(shape, i, sigma), gain) for i in (1, 2)]
    found = estimate_uncertainty([(f[0], f[1])])
    of_mean = sigma * float(all_samples(gain, 48).square().mean().sqrt()) / math.sqrt(2.0)
    assert abs(float(found.sigma.square().mean().sqrt()) / of_mean - 1.0) < 0.04
    assert float((found.sigma / of_mean).std()) < 0.25
    off = (found.mean - through(clean, gain)) / found.sigma
    assert abs(float(off.square().mean().sqrt()) - 1.0) < 0.08  # calibrated against the filtered truth
    assert float(found.turn_sigma.max()) == 0.0


def test_sigma_follows_noise_that_differs_from_place_to_place():
    shape = (32, 32, 64)
    strength = torch.where(torch.arange(64) < 32, 0.2, 1.0)
    found = estimate_uncertainty([(noise(shape, 1) * strength, noise(shape, 2) * strength)])
    assert float(found.sigma[..., 8:24].mean()) == pytest.approx(0.2 / math.sqrt(2.0), rel=0.03)
    assert float(found.sigma[..., 40:56].mean()) == pytest.approx(1.0 / math.sqrt(2.0), rel=0.03)


def test_variances_of_halves_of_turns_and_of_both_add_up():
    shape, turns = (48, 48, 48), 8
    a, b, c = 0.5, 0.7, 0.9
    halves = [noise(shape, i, a) for i in (1, 2)]
    alike = [noise(shape, 10 + t, b) for t in range(turns)]
    pairs = [tuple(halves[i] + alike[t] + noise(shape, 100 + 2 * t + i, c) for i in (0, 1)) for t in range(turns)]
    found = estimate_uncertainty(iter(pairs), window=4.0)
    truth = math.sqrt(a**2 / 2 + b**2 / turns + c**2 / (2 * turns))
    assert float(found.mean.std()) == pytest.approx(truth, rel=0.02)
    assert float(found.sigma.square().mean().sqrt()) == pytest.approx(truth, rel=0.02)
    assert float(found.turn_sigma.square().mean().sqrt()) == pytest.approx(b / math.sqrt(turns), rel=0.06)
    assert found.pairs == turns


def test_turns_that_keep_the_wedge():
    assert len(turns_keeping_wedge(wedge())) == 8
    assert turns_keeping_wedge(wedge(60.0, -30.0)) == ((), (1,), (0, 2), (0, 1, 2))


@given(axes=st.sampled_from(list(itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(4)))))
@settings(max_examples=8, deadline=None)
def test_turns_are_undone_and_even_filters_do_not_see_them(axes):
    volume = noise((16, 17, 18))
    torch.testing.assert_close(apply_turned(lambda v: v, volume, axes), volume)
    smooth = gaussian_filter(volume, 15.0, VOXEL)
    turned = apply_turned(lambda v: gaussian_filter(v, 15.0, VOXEL), volume, axes)
    torch.testing.assert_close(turned, smooth, atol=1e-5, rtol=0)
    odd = apply_turned(lambda v: v.roll(1, 0), volume, axes)
    assert (0 in axes) == (not torch.equal(odd, volume.roll(1, 0)))


# invention


def oracle(clean, extra=None):
    """Finds the block in the truth and gives it back, whole."""
    turned = torch.rot90(clean, 1, (0, 2)).contiguous()
    spectra = {False: torch.fft.rfftn(clean), True: torch.fft.rfftn(turned)}

    def apply(block):
        best = (-math.inf, None)
        for is_turned, source in ((False, clean), (True, turned)):
            if any(b > n for b, n in zip(block.shape, source.shape, strict=True)):
                continue
            centred = torch.fft.rfftn(block - block.mean(), s=source.shape)
            scores = torch.fft.irfftn(spectra[is_turned] * centred.conj(), s=source.shape)
            z, y, x = (int(v) for v in torch.unravel_index(scores.argmax(), scores.shape))
            cut = source[z : z + block.shape[0], y : y + block.shape[1], x : x + block.shape[2]]
            if float(scores.max()) > best[0] and cut.shape == block.shape:
                best = float(scores.max()), cut
        return best[1] if extra is None else best[1] + extra(block)

    return apply


def membranes(block):
    """Sheets across the beam that nobody measured, at places that depend on the block."""
    z = torch.arange(block.shape[0])[:, None, None]
    place = int(block.abs().sum() * 1000) % 7
    sheet = torch.exp(-0.5 * ((z - 8 - place) % 12 - 6.0) ** 2 / 1.5**2)
    wave = noise((1, *block.shape[1:]), place)
    return block - 4.0 * sheet * (1.0 + 0.3 * wave)


BANDS = ((200.0, 60.0), (60.0, 40.0))
CLEAN = specimen((64, 128, 144))
HALVES = recorded(CLEAN, 0.5, wedge())


def check(apply, **changed):
    given = {"block": 48, "count": 6, "bands_angstrom": BANDS, "generator": seeded(4)} | changed
    return check_invention(apply, *HALVES, wedge(), VOXEL, **given)


@pytest.mark.parametrize("withheld_deg", [None, 20.0])
def test_the_oracle_passes_and_the_liars_are_caught(withheld_deg):
    true = check(oracle(CLEAN), withheld_deg=withheld_deg)
    sure = 1 if withheld_deg else 0  # the outermost tilts are thinner than a sample at low frequency
    assert float(true.invented[sure:].max()) < 0.1
    assert float((true.recovered[sure:] - 1.0).abs().max()) < 0.1
    assert not any("invented" in line for line in true.caveats)
    lies = [lambda b: b + noise(tuple(b.shape), int(b.abs().sum() * 100) % 1000)]
    # sheets across the beam lie in the middle of the wedge alone
    for lie in lies + [membranes] * (withheld_deg is None):
        found = check(lie, withheld_deg=withheld_deg)
        told = found.filled > 0.1
        assert bool(told.any())
        assert float(found.invented[told].min()) > 0.8
        assert any("is invented" in line for line in found.caveats)


def test_half_truths_are_measured():
    """Signal and as much power of noise: half is supported; the correlation is that of their sum with the signal."""
    k = frequency_grid((48, 48, 48), VOXEL)
    shape_of_it = (torch.exp(-((k * 35.0) ** 2)) / (k * 200.0 + 1.0)) / (
        torch.exp(-((frequency_grid(tuple(CLEAN.shape), VOXEL) * 35.0) ** 2))
        / (frequency_grid(tuple(CLEAN.shape), VOXEL) * 200.0 + 1.0)
    ).square().mean().sqrt()
    extra = lambda b: through(noise(tuple(b.shape), int(b.abs().sum() * 100) % 1000), shape_of_it)  # noqa: E731
    found = check(oracle(CLEAN, extra))
    assert float(((found.invented - 0.5) / found.invented_sigma).abs().max()) < 4.0
    assert float((found.invented - 0.5).abs().max()) < 0.12
    assert float((found.filled - 2.0).abs().max()) < 0.5


def test_what_fills_nothing_invents_nothing():
    found = check(lambda b: gaussian_filter(b, 8.0, VOXEL))
    assert float(found.filled.max()) < 0.02
    assert not any("is invented" in line for line in found.caveats)
    found = check(lambda b: b)
    assert torch.isnan(found.invented).all()
    assert float((found.kept - 1.0).abs().max()) < 0.1
    assert found.caveats == (AVERAGE_RAW_DATA,)


def test_caveats_speak_of_raw_data_lost_signal_and_bands_without_any():
    found = check(lambda b: 0.5 * b, bands_angstrom=((200.0, 60.0), (23.0, 20.5)))
    assert found.caveats[0] == AVERAGE_RAW_DATA
    assert sum("of the measured signal" in line for line in found.caveats) == 1
    assert abs(float(found.kept[0]) - 0.5) < 0.03
    assert any("no signal to check by" in line for line in found.caveats)
    assert math.isnan(float(found.filled[1]))


def test_the_check_refuses_what_it_cannot_check():
    with pytest.raises(InputError, match="All of Fourier space"):
        check_invention(lambda b: b, *HALVES, everything, VOXEL, generator=seeded())
    with pytest.raises(InputError, match="can be withheld"):
        check(lambda b: b, withheld_deg=1.0, block=16)
    with pytest.raises(ShapeError, match="same shape"):
        check(lambda b: b[1:])
    with pytest.raises(InputError, match="coarse, fine"):
        check(lambda b: b, bands_angstrom=((40.0, 60.0),))


# patterns and seams


def board(shape, period, axes):
    """A pattern of mean 0 and deviation 1 that repeats after `period` voxels along these axes."""
    out = torch.ones(shape)
    for axis in axes:
        index = torch.arange(shape[axis])
        line = torch.where(index % period < period // 2, 1.0, -1.0)
        out = out * line.reshape([-1 if a == axis else 1 for a in range(3)])
    return out


@pytest.mark.parametrize("sigma", [0.0, 10.0, 30.0])
def test_no_pattern_in_noise_or_in_filtered_noise(sigma):
    raw = noise((64, 96, 96)) + specimen((64, 96, 96), 90)
    out = gaussian_filter(raw, sigma, VOXEL) if sigma else raw.clone()
    for control in (raw, noise((64, 96, 96), 60)):
        assert find_grid_artefacts(out, control).largest_z < 5.0
    assert find_seams(out, raw).largest_z < 5.0


@pytest.mark.parametrize(("period", "axes"), [(2, "zyx"), (2, "x"), (4, "y"), (8, "z"), (8, "yx"), (4, "zyx")])
def test_planted_patterns_of_one_percent_are_found(period, axes):
    raw = noise((64, 128, 128)) + specimen((64, 128, 128))
    out = gaussian_filter(raw, 12.0, VOXEL)
    out += 0.01 * out.std() * board(out.shape, period, ["zyx".index(a) for a in axes])
    found = find_grid_artefacts(out, raw)
    assert found.patterns
    strongest = found.patterns[0]
    assert (strongest.period_voxels, strongest.axes) == (period, axes)
    assert 0.003 < strongest.share < 0.012  # square waves of longer periods have their power at several frequencies
    assert strongest.kind == "added"
    assert len(found.caveats) == len(found.patterns)


def test_a_network_that_multiplies_by_a_checkerboard_is_found():
    raw = noise((64, 128, 128)) + specimen((64, 128, 128))
    out = gaussian_filter(raw, 12.0, VOXEL) * (1.0 + 0.02 * board(raw.shape, 2, (0, 1, 2)))
    (found,) = find_grid_artefacts(out, raw).patterns
    assert (found.period_voxels, found.axes, found.kind) == (2, "zyx", "multiplied")
    assert 0.01 < found.share < 0.04


@pytest.mark.parametrize(("period", "amplitude"), [(4.0, 0.1), (8.0, 1.0)])
def test_a_lattice_of_the_specimen_is_no_artefact(period, amplitude):
    lattice = amplitude * torch.cos(2 * math.pi / period * torch.arange(128)).expand(64, 128, 128)
    raw = noise((64, 128, 128)) + specimen((64, 128, 128)) + lattice
    for out in (raw, gaussian_filter(raw, 8.0, VOXEL), 0.05 * gaussian_filter(raw, 12.0, VOXEL) + 0.6 * lattice):
        found = find_grid_artefacts(out, raw)
        assert found.patterns == (), (found.patterns, found.largest_z)
    if amplitude == 1.0:  # another raw volume does not explain it
        assert find_grid_artefacts(raw, noise((64, 128, 128), 5)).patterns


def tiles_of(shape, stride, step):
    """Each tile with its own offset."""
    counts = [-(-n // stride) for n in shape]
    out = step * torch.randn(counts, generator=seeded(11))
    for axis, n in enumerate(shape):
        out = out.repeat_interleave(stride, axis).narrow(axis, 0, n)
    return out


@pytest.mark.parametrize("stride", [16, 24])
def test_seams_between_tiles_are_found_with_their_period(stride):
    raw = noise((64, 160, 160)) + specimen((64, 160, 160))
    clean = gaussian_filter(raw, 30.0, VOXEL)
    out = clean + tiles_of(clean.shape, stride, 0.01 * float(clean.std()))
    found = find_seams(out, raw).seams
    assert {s.axis for s in found} & {"y", "x"}
    for seam in found:
        assert seam.period_voxels == stride
        assert seam.first_plane % stride == 0
        assert 0.01 < seam.share < 0.02  # a step is the difference of two offsets
    told = find_seams(out, raw, stride=stride)
    assert len(told.seams) >= len(found)
    assert "tiles do not fit" in told.caveats[0]
    assert find_seams(clean, raw, stride=stride).seams == ()


def test_layers_of_the_specimen_are_no_seams():
    layers = 2.0 * (torch.arange(160) % 20 == 0).float().expand(64, 160, 160)
    raw = noise((64, 160, 160)) + specimen((64, 160, 160)) + layers
    out = gaussian_filter(raw, 8.0, VOXEL)
    assert find_seams(out, raw).seams == ()
    assert [(s.axis, s.period_voxels, s.first_plane) for s in find_seams(out, raw - layers).seams] == [("x", 20, 20)]


def test_constant_outputs_and_short_strides_are_refused():
    raw = noise((32, 32, 32))
    for find in (find_grid_artefacts, find_seams):
        with pytest.raises(InputError, match="constant"):
            find(torch.zeros_like(raw), raw)
    with pytest.raises(InputError, match="stride of 4"):
        find_seams(raw, raw, stride=4)
