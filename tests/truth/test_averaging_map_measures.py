"""Sharpening, resolution by direction and by place: against maps whose fall, noise and gaps are written down."""

import math

import numpy as np
import pytest
import torch

from eucentric.averaging.correlate_maps import correlate_halves
from eucentric.averaging.directional_fsc import correlate_directions, correlate_measured, half_sphere, measure_sampling
from eucentric.averaging.local_resolution import _agreement, _noise, band_centres, estimate_local_resolution
from eucentric.averaging.map_params import DirectionParams, LocalResolutionParams, SharpenParams
from eucentric.averaging.results import HalfMapCorrelation
from eucentric.averaging.sharpening import detector_gain, fit_guinier, sharpen_map
from eucentric.errors import InputError, ShapeError
from eucentric.fourier import frequency_grid, frequency_vectors, soft_edge
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.projection import turned_mean

N, VOXEL = 64, 2.0
SHAPE = (N, N, N)
FREQUENCY = frequency_grid(SHAPE, VOXEL)
PARAMS = SharpenParams()


def _white(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _filtered(volume, curve):
    return torch.fft.irfftn(torch.fft.rfftn(volume) * curve, s=SHAPE)


def _ball(radius, edge=4.0):
    line = torch.arange(N, dtype=torch.float32) - N // 2
    distance = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return soft_edge(distance, radius, radius + edge)


def _halves_with_snr(signal_to_noise, seed=0):
    """White noise of power one, and a white signal of that power at every frequency."""
    signal = _filtered(_white(seed), torch.sqrt(signal_to_noise))
    return [signal + _white(seed + 1 + i) for i in range(2)]


@pytest.mark.parametrize("b_factor", [120.0, 300.0])
def test_the_b_factor_of_a_map_is_found_and_undone(b_factor):
    fall = torch.exp(-0.25 * b_factor * FREQUENCY**2)
    source = _white(1)
    noise = 0.02
    halves = [_filtered(source, fall) + noise * _white(i) for i in (2, 3)]
    correlation = correlate_halves(halves[0], halves[1], VOXEL, _ball(26.0))
    assert correlation.resolution_angstrom < 7.5
    made = sharpen_map(halves[0], halves[1], VOXEL, correlation, PARAMS, mask=_ball(26.0))
    assert made.fitted
    assert not made.caveats
    # four deviations of the fit, and what masking and the width of shells change: a tenth
    assert abs(made.b_factor - b_factor) < 4.0 * made.guinier.sigma + 0.1 * b_factor
    spectrum = torch.fft.rfftn(made.volume).abs() / torch.fft.rfftn(source).abs()
    places = [(detail < a) & (detail > b) for detail in (1.0 / FREQUENCY,) for a, b in ((20.0, 14.0), (9.5, 8.5))]
    coarse, fine = (spectrum[place].median() for place in places)
    assert float(fine / coarse) == pytest.approx(1.0, abs=0.2)
    # nothing beyond the resolution
    beyond = (FREQUENCY - 1.0 / made.low_pass_angstrom) * N * VOXEL > 3.0
    assert float(torch.fft.rfftn(made.volume)[beyond].abs().max()) < 1e-2


def test_no_b_factor_is_made_up_for_a_coarse_map_or_a_level_one():
    coarse = _halves_with_snr(torch.exp(-((FREQUENCY * 18.0) ** 4)) * 20.0)
    correlation = correlate_halves(coarse[0], coarse[1], VOXEL, _ball(26.0))
    assert correlation.resolution_angstrom > 10.0
    made = sharpen_map(coarse[0], coarse[1], VOXEL, correlation, PARAMS)
    assert (made.b_factor, made.fitted) == (0.0, False)
    assert math.isnan(made.guinier.b_factor)
    assert "too low to fit" in made.caveats[0]
    given = sharpen_map(coarse[0], coarse[1], VOXEL, correlation, PARAMS.replace(b_factor=200.0))
    ratio = torch.fft.rfftn(given.volume).abs() / torch.fft.rfftn(made.volume).abs().clamp_min(1e-9)
    ring = (FREQUENCY > 0.049) & (FREQUENCY < 0.051)
    assert float(ratio[ring].median()) == pytest.approx(math.exp(50.0 * 0.05**2), rel=0.02)
    level = _halves_with_snr(torch.full_like(FREQUENCY, 10.0))
    curve = correlate_halves(level[0], level[1], VOXEL, _ball(26.0))
    flat = sharpen_map(level[0], level[1], VOXEL, curve, PARAMS, mask=_ball(26.0))
    assert abs(flat.guinier.b_factor) < 4.0 * flat.guinier.sigma + 1.0
    assert flat.b_factor == 0.0 or flat.guinier.b_factor > 2.0 * flat.guinier.sigma


def test_a_detectors_transfer_is_divided_out():
    place = np.linspace(0.0, 0.5, 51)
    table = (place, 1.0 - place)
    halves = _halves_with_snr(torch.full_like(FREQUENCY, 100.0))
    correlation = correlate_halves(halves[0], halves[1], VOXEL, _ball(26.0))
    chosen = PARAMS.replace(b_factor=0.0, mtf_pixel_size_angstrom=1.5)
    plain = sharpen_map(halves[0], halves[1], VOXEL, correlation, chosen)
    divided = sharpen_map(halves[0], halves[1], VOXEL, correlation, chosen, mtf=table)
    ring = (FREQUENCY > 0.199) & (FREQUENCY < 0.201)
    ratio = torch.fft.rfftn(divided.volume)[ring].abs() / torch.fft.rfftn(plain.volume)[ring].abs()
    # 0.2 1/A in pixels of 1.5 A is 0.3 1/pixel
    assert float(ratio.median()) == pytest.approx(1.0 / 0.7, rel=0.02)
    with pytest.raises(InputError, match="mtf-pixel-size"):
        detector_gain(np.array([0.1, 0.2]), table, 4.0, 5.0)


def test_guinier_fit_takes_only_its_stretch():
    frequency = (np.arange(64) + 0.5) / 256.0
    amplitude = 5.0 * np.exp(-0.25 * 80.0 * frequency**2)
    amplitude[frequency < 0.1] *= 7.0
    fit = fit_guinier(frequency, amplitude, 10.0, 5.0)
    assert fit.b_factor == pytest.approx(80.0, rel=1e-9)
    assert fit.offset == pytest.approx(math.log(5.0), rel=1e-9)
    assert fit.fitted.sum() == ((frequency >= 0.1) & (frequency <= 0.2)).sum()
    assert math.isnan(fit_guinier(frequency, amplitude, 10.0, 9.5).b_factor)


def test_curves_and_maps_that_do_not_belong_together_are_refused():
    half = torch.zeros(SHAPE)
    curve = np.ones(7)
    wrong = HalfMapCorrelation(
        frequency=curve, unmasked=curve, masked=curve, randomised=curve, corrected=curve, randomised_from=math.inf,
        resolution_angstrom=5.0,
    )  # fmt: skip
    with pytest.raises(ShapeError, match="belong together"):
        sharpen_map(half, half, VOXEL, wrong, PARAMS)
    with pytest.raises(ShapeError, match="same size"):
        correlate_directions(half, torch.zeros((32,) * 3), VOXEL, DirectionParams())
    with pytest.raises(ShapeError, match="weights"):
        correlate_measured(half, half, torch.ones(SHAPE))
    with pytest.raises(ShapeError, match="same cube"):
        estimate_local_resolution(half, half, torch.ones((8,) * 3), VOXEL, LocalResolutionParams())
    with pytest.raises(InputError, match="mask is empty"):
        estimate_local_resolution(half, half, half, VOXEL, LocalResolutionParams())
    with pytest.raises(InputError, match="coarsest detail"):
        band_centres(N, VOXEL, 500.0)


def test_directions_cover_half_the_sphere_evenly():
    found = half_sphere(500)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-12)
    assert found[:, 2].min() > 0
    # equal bands of z have equal areas
    counts, _ = np.histogram(found[:, 2], bins=5, range=(0.0, 1.0))
    assert np.ptp(counts) <= 2
    assert np.abs(found[:, :2].mean(axis=0)).max() < 0.02


def test_resolution_by_direction_is_that_of_the_noise():
    kz = frequency_vectors(SHAPE, VOXEL)[0]
    along = kz**2 / (FREQUENCY**2).clamp_min(1e-9)
    # signal over noise falls through 1/6, a correlation of 1/7, at 12 A along z and at 7 A across
    crossing = 1.0 / torch.sqrt(along * 12.0**2 + (1.0 - along) * 7.0**2)
    halves = _halves_with_snr(torch.exp((crossing - FREQUENCY).clamp(max=0.1) * 120.0) / 6.0)
    cones = correlate_directions(halves[0], halves[1], VOXEL, DirectionParams())
    angle = np.degrees(np.arccos(cones.directions[:, 2]))
    # the cone of 20 degrees blurs, and holds few samples along z
    assert np.median(cones.resolution_angstrom[angle < 20]) == pytest.approx(12.0, rel=0.15)
    assert np.median(cones.resolution_angstrom[angle > 75]) == pytest.approx(7.1, rel=0.05)
    assert 1.4 < cones.anisotropy < 2.1
    even = _halves_with_snr(torch.exp((1 / 8.0 - FREQUENCY) * 120.0) / 6.0, seed=5)
    alike = correlate_directions(even[0], even[1], VOXEL, DirectionParams())
    assert np.median(alike.resolution_angstrom) == pytest.approx(8.0, rel=0.05)
    assert alike.anisotropy < 1.25


def test_noise_where_nothing_was_measured_does_not_count():
    kz, _, kx = frequency_vectors(SHAPE, VOXEL)
    wedge = (kz.abs() * math.tan(math.radians(30.0)) > kx.abs()).expand(FREQUENCY.shape)
    weights = torch.where(wedge, torch.full_like(FREQUENCY, 1e-6), torch.ones_like(FREQUENCY))
    halves = _halves_with_snr(torch.full_like(FREQUENCY, 4.0), seed=3)
    bad = [
        _filtered(h, (~wedge).float()) + 3.0 * _filtered(_white(20 + i), wedge.float()) for i, h in enumerate(halves)
    ]
    plain = correlate_halves(bad[0], bad[1], VOXEL, torch.ones(SHAPE)).unmasked
    measured = correlate_measured(bad[0], bad[1], weights)
    # 4 / (1 + 4) where it was measured; with the wedge 4 * 2 / (5 * 2 + 9) at best
    assert measured[8:].mean() == pytest.approx(0.8, abs=0.01)
    assert plain[8:].mean() < 0.6
    sampling = measure_sampling(weights, VOXEL, 8.0, DirectionParams())
    assert sampling.unmeasured == pytest.approx(1 / 3, abs=0.02)
    # as even as can be, less the third that is missing
    assert sampling.efficiency == pytest.approx(2 / 3, abs=0.02)
    assert sampling.density.max() == pytest.approx(1.5, abs=0.02)
    assert sampling.density[sampling.directions[:, 2] > 0.97].max() < 0.3
    full = measure_sampling(torch.ones_like(FREQUENCY), VOXEL, 8.0, DirectionParams())
    assert (full.efficiency, full.unmeasured) == (pytest.approx(1.0), 0.0)


def test_local_resolution_follows_noise_that_changes_from_place_to_place():
    line = (torch.arange(N) - N // 2).float()
    amplitude = 1.0 + 3.0 * torch.sigmoid(line / 1.5)[None, None, :]
    # signal over noise 1/6 at 7 A where noise has the amplitude 1; 16 times less where it has 4
    slope = 45.0
    signal = _filtered(_white(0), torch.exp(0.5 * (1 / 7.0 - FREQUENCY) * slope) / math.sqrt(6.0))
    halves = [signal + amplitude * _white(i) for i in (1, 2)]
    mask = _ball(24.0)
    made = estimate_local_resolution(halves[0], halves[1], mask, VOXEL, LocalResolutionParams())
    coarse = 1.0 / (1 / 7.0 - math.log(16.0) / slope)
    sides = [made.resolution_angstrom[24:40, 24:40, x : x + 6].median().item() for x in (10, 48)]
    assert sides[0] == pytest.approx(7.0, rel=0.12)
    assert sides[1] == pytest.approx(coarse, rel=0.2)
    low, middle, high = made.percentiles(5, 50, 95)
    assert 5.5 < low < middle < high < 20.0
    # each voxel outside has the value of one inside
    assert float(made.resolution_angstrom.max()) <= float(made.resolution_angstrom[made.inside].max())
    # filtered by place, the map is nearer to the signal than the mean of its halves, and than its own coarse half alone
    mean = 0.5 * (halves[0] + halves[1])
    errors = [float((mask * (v - signal)).square().sum()) for v in (mean, made.filtered)]
    assert errors[1] < 0.5 * errors[0]
    inside = mask > 0.9
    assert (
        np.corrcoef(made.filtered[inside], signal[inside])[0, 1]
        > np.corrcoef(mean[inside], signal[inside])[0, 1] + 0.03
    )


@pytest.mark.parametrize("symmetry", ["C1", "D7"])
def test_noise_rarely_passes_for_detail_in_any_band(symmetry):
    group = symmetry_rotations(symmetry)
    halves = [turned_mean(_white(i), group) for i in (31, 32)] if len(group) > 1 else [_white(31), _white(32)]
    mask = _ball(24.0)
    passed, fields = [], _noise(N, halves[0], 0, group)
    for centre in band_centres(N, VOXEL)[3:]:
        found, chance = _agreement(halves[0], halves[1], mask, fields, VOXEL, centre, 3.0)
        level = torch.tanh(2.326 * chance).clamp(min=0.143)
        passed.append(float((found > level)[mask > 0.05].float().mean()))
    # one in a hundred, and the scatter of some tens of independent windows
    assert np.mean(passed) < 0.03
    nothing = estimate_local_resolution(halves[0], halves[1], mask, VOXEL, LocalResolutionParams(), symmetry=group)
    assert nothing.percentiles(5)[0] > 20.0
