"""Local motion and the sums that undo it, against known displacements."""

import math

import numpy as np
import pytest
import torch

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.fourier import exposure_weights, fourier_crop, frequency_grid
from eucentric.motion import MotionParams
from eucentric.motion.band_spectra import FrameSource, transform_frames
from eucentric.motion.estimate_motion import estimate_shifts
from eucentric.motion.local_motion import estimate_local_motion, grid_for_dose
from eucentric.motion.motion_field import MotionField, spline_basis
from eucentric.motion.sum_frames import DoseWeights, make_sums
from eucentric.simulation.moving_frames import MovingScene, record_moving_frames

PIXEL = 2.0


def field(frames: int, size: float = 6.0) -> MotionField:
    generator = seeded_generator(4)
    coefficients = size * torch.randn(4, 5, 6, 2, generator=generator, dtype=torch.float64)
    return MotionField(
        coefficients=coefficients, times=torch.linspace(0.1, 0.9, frames), extent_angstrom=(190.0, 240.0)
    )


def blobs(shape: tuple[int, int], moved) -> torch.Tensor:
    """Round blobs, each evaluated at its displaced place; `moved` maps (n, 2) places to their displacement, A."""
    rng = np.random.default_rng(3)
    places = torch.from_numpy(rng.uniform(-0.4, 0.4, (90, 2)) * np.array(shape[::-1]) * PIXEL)
    places = places + moved(places)
    y, x = ((torch.arange(n, dtype=torch.float64) - n // 2) * PIXEL for n in shape)
    inside = torch.exp(-((x - places[:, :1]) ** 2) / 72.0), torch.exp(-((y - places[:, 1:]) ** 2) / 72.0)
    return torch.einsum("px,py->yx", *inside)


def test_the_spline_holds_straight_lines_and_sums_to_one():
    place = torch.linspace(0, 1, 23, dtype=torch.float64)
    basis = spline_basis(place, 7)
    assert torch.allclose(basis.sum(1), torch.ones(23, dtype=torch.float64))
    # coefficients on a line give that line: knot k of 4 intervals has coefficient index k + 1
    assert torch.allclose(basis @ ((torch.arange(7, dtype=torch.float64) - 1) / 4), place)


def test_a_field_is_read_at_the_right_place_and_frame():
    f = field(5)
    y, x = torch.tensor([-150.0, 20.0], dtype=torch.float64), torch.tensor([-200.0, 10.0, 130.0], dtype=torch.float64)
    grid = f.at(3, y, x)
    places = torch.stack([x.repeat(2, 1), y[:, None].repeat(1, 3)], dim=-1)
    assert torch.allclose(grid, f.at_places(3, places))
    assert not torch.allclose(grid, f.at(2, y, x), atol=0.1)
    with pytest.raises(ShapeError, match="coefficients of a motion field"):
        MotionField(coefficients=torch.zeros(2, 5, 5, 2), times=torch.zeros(3), extent_angstrom=(1.0, 1.0))


@pytest.mark.parametrize("shape", [(190, 240), (191, 243)])
def test_sums_undo_shift_field_and_magnification_in_one_read(shape):
    f = field(3)
    shifts = torch.tensor([[5.0, -3.3], [0.4, 7.1], [-6.0, 1.0]], dtype=torch.float64)
    matrix = np.array([[1.012, 0.004], [-0.003, 0.991]])
    m = torch.from_numpy(matrix)
    frames = torch.stack(
        [blobs(shape, lambda p, i=i: p @ m.T - p + shifts[i] + f.at_places(i, p @ m.T)) for i in range(3)]
    )
    still = 3 * blobs(shape, torch.zeros_like)
    padded, _ = transform_frames(frames.float(), PIXEL)
    sums = make_sums(padded, shifts, field=f, magnification=matrix)
    inside = (slice(12, -12), slice(12, -12))
    error = float((sums.total - still)[inside].std() / still[inside].std())
    # a blob is moved but not stretched by the field: some tenths of an A over its width
    assert error < 0.04
    assert torch.allclose(sums.total, sums.even + sums.odd)
    turned = MotionField(coefficients=f.coefficients.flip(-1), times=f.times, extent_angstrom=f.extent_angstrom)
    mirrored = MotionField(coefficients=f.coefficients.flip(1), times=f.times, extent_angstrom=f.extent_angstrom)
    for wrong in (
        {"field": turned, "magnification": matrix},
        {"field": mirrored, "magnification": matrix},
        {"field": f, "magnification": matrix.T},
        {"field": f, "magnification": np.linalg.inv(matrix)},
        {"field": f},
    ):
        other = make_sums(padded, shifts, **wrong).total
        assert float((other - still)[inside].std() / still[inside].std()) > 1.8 * error
    assert float((make_sums(padded, -shifts, field=f, magnification=matrix).total - still)[inside].std()) > 0.3


def test_white_noise_stays_white_on_both_roads():
    noise = torch.randn(6, 240, 256, generator=seeded_generator(8))
    shifts = 7.0 * torch.randn(6, 2, generator=seeded_generator(9), dtype=torch.float64)
    padded, _ = transform_frames(noise, PIXEL)
    for given in (None, field(6)):
        total = make_sums(padded, shifts, field=given).total[20:-20, 20:-20]
        power = torch.fft.rfft2(total).abs() ** 2 / total.numel() / 6
        radius = frequency_grid(total.shape, 1.0)
        rings = [float(power[(radius > a) & (radius <= a + 0.1)].mean()) for a in (0.05, 0.15, 0.25, 0.35, 0.4)]
        assert rings == pytest.approx([1.0] * 5, abs=0.06)


def test_dose_weights_match_the_direct_formula_whatever_the_road():
    frames = torch.randn(9, 96, 108, generator=seeded_generator(2))
    doses = tuple(float(v) for v in np.linspace(0.3, 5.0, 9))
    weights = DoseWeights(doses=doses, pre_exposure=7.0, voltage_kv=200.0)
    padded, _ = transform_frames(frames, PIXEL)
    nothing = torch.zeros(9, 2, dtype=torch.float64)
    weighted = make_sums(padded, nothing, dose_weights=weights).dose_weighted
    grid = frequency_grid(padded.shape, PIXEL, dtype=torch.float64)
    middle = np.cumsum(doses) - 0.5 * np.array(doses) + 7.0
    factors = [exposure_weights(grid, float(e), voltage_kv=200.0) for e in middle]
    norm = sum(d * w**2 for d, w in zip(doses, factors, strict=True)) / sum(doses)
    spectra = [torch.fft.rfft2(padded.padded(i).double()) * w for i, w in enumerate(factors)]
    expected = torch.fft.irfft2(sum(spectra) / norm.sqrt(), s=padded.shape)
    top, left = padded.offset
    expected = expected[top : top + 96, left : left + 108] + float(padded.means.sum())
    assert float((weighted - expected).abs().max()) < 2e-3
    # and with the other interpolation, at rest
    still = MotionField(coefficients=torch.zeros(1, 1, 1, 2), times=torch.zeros(9), extent_angstrom=(96.0, 108.0))
    read = make_sums(padded, nothing, dose_weights=weights, field=still).dose_weighted
    assert float((read - expected)[8:-8, 8:-8].abs().max()) < 5e-3


@pytest.mark.parametrize(
    ("shape", "out"), [((200, 240), (100, 120)), ((180, 156), (120, 104)), ((202, 150), (101, 75))]
)
def test_sums_sampled_more_coarsely_are_the_cropped_sums(shape, out):
    frames = torch.stack([blobs(shape, lambda p, i=i: torch.zeros_like(p) + 3.0 * i) for i in range(3)]).float() + 4.0
    shifts = 3.0 * torch.arange(3, dtype=torch.float64)[:, None].repeat(1, 2)
    padded, _ = transform_frames(frames, PIXEL, out_shape=out)
    small = make_sums(padded, shifts, out_shape=out).total
    expected = fourier_crop(3 * blobs(shape, torch.zeros_like) + 12.0, out)
    assert small.shape == out
    inside = (slice(12, -12), slice(12, -12))
    assert float((small - expected)[inside].abs().max()) < 0.02 * float(expected.std())
    still = MotionField(coefficients=torch.zeros(1, 1, 1, 2), times=torch.zeros(3), extent_angstrom=(96.0, 108.0))
    read = make_sums(padded, shifts, field=still, out_shape=out).total
    # what is mirrored at the border after the read is the sum, not each frame
    assert float((read - expected)[inside].abs().max()) < 0.03 * float(expected.std())


def test_the_power_spectrum_of_groups_is_that_of_noise_and_of_a_wave():
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    wave = torch.cos(2 * math.pi * (0.25 * x + 0.125 * y))
    frames = torch.randn(4, 256, 256, generator=seeded_generator(5)) + wave
    padded, _ = transform_frames(frames, PIXEL)
    power = make_sums(padded, torch.zeros(4, 2), power_groups=[0, 0, 1, 1], power_size=64).power
    assert power is not None
    assert power.shape == (64, 33)
    # two groups of two frames: noise 4, the wave at x = 16 and y = 8 of 64
    assert float(power.median()) == pytest.approx(4.0, rel=0.1)
    assert divmod(int(power.argmax()), 33) == (8, 16)


def test_streamed_frames_give_the_same_sums():
    frames = torch.rand(5, 80, 90, generator=seeded_generator(6))
    asked: list[int] = []

    def frame(i: int) -> torch.Tensor:
        asked.append(i)
        return frames[i]

    source = FrameSource(count=5, image_shape=(80, 90), frame=frame, device=torch.device("cpu"))
    padded, _ = transform_frames(source, PIXEL, keep_bytes=0)
    shifts = torch.randn(5, 2, generator=seeded_generator(7), dtype=torch.float64)
    streamed = make_sums(padded, shifts, used=[True, False, True, True, True])
    kept, _ = transform_frames(frames, PIXEL)
    assert padded.kept is None
    assert torch.equal(streamed.total, make_sums(kept, shifts, used=[True, False, True, True, True]).total)
    again = make_sums(kept, shifts, release=True)
    assert kept.kept == [None] * 5
    assert torch.equal(again.odd, make_sums(kept, shifts).odd)
    assert asked == [0, 1, 2, 3, 4, 0, 2, 3, 4]
    with pytest.raises(ShapeError, match="4 shifts were given for 5 frames"):
        make_sums(kept, shifts[:4])
    with pytest.raises(InputError, match="No frame is left"):
        make_sums(kept, shifts, used=[False] * 5)


def displacement(result, movie) -> np.ndarray:
    places = torch.from_numpy(movie.places)
    moved = []
    for f, shift in enumerate(result.shifts_angstrom):
        here = torch.zeros(places.shape, dtype=torch.float64) + shift
        moved.append(here if result.field is None else here + result.field.at_places(f, places))
    stacked = torch.stack(moved).numpy()
    return stacked - stacked.mean(0)


def rms(v: np.ndarray) -> float:
    return float(np.sqrt((v**2).sum(-1).mean()))


def test_doming_is_found_with_the_right_sign_and_axes():
    scene = MovingScene(
        image_shape=(512, 640),
        pixel_size=3.0,
        frames=8,
        dose=16.0,
        coverage=0.8,
        doming=12.0,
        local=3.0,
        correlation_length=1500.0,
    )
    movie = record_moving_frames(scene, 2)
    padded, coarse = transform_frames(movie.frames, 3.0)
    whole = estimate_shifts(coarse, MotionParams())
    local = estimate_local_motion(coarse, whole, MotionParams(), doses=torch.from_numpy(movie.doses))
    assert local.local is not None
    assert local.local.accepted
    assert local.field is not None
    before, after = (rms(displacement(r, movie) - movie.displacement) for r in (whole, local))
    assert after < 0.5 * before
    # what remains is about what is claimed
    assert after < 2.0 * math.sqrt(2) * float(local.sigma_angstrom.mean())
    part = displacement(local, movie) - displacement(local, movie).mean((1, 2), keepdims=True)
    true = movie.displacement - movie.displacement.mean((1, 2), keepdims=True)
    for wrong in (-part, part[..., ::-1], part[:, ::-1], part[:, :, ::-1]):
        assert rms(wrong - true) > 2 * rms(part - true)
    inside = (slice(20, -20), slice(20, -20))
    likeness = [
        np.corrcoef(s.total[inside].flatten(), movie.clean[inside].flatten())[0, 1]
        for s in (make_sums(padded, whole.shifts_angstrom), make_sums(padded, local.shifts_angstrom, field=local.field))
    ]
    assert likeness[1] > likeness[0]


def test_no_field_is_taken_where_there_is_none():
    scene = MovingScene(image_shape=(384, 448), pixel_size=4.0, frames=6, dose=3.0, coverage=0.6, doming=0.0, local=0.0)
    movie = record_moving_frames(scene, 5)
    _, coarse = transform_frames(movie.frames, 4.0)
    whole = estimate_shifts(coarse, MotionParams())
    local = estimate_local_motion(coarse, whole, MotionParams(), doses=torch.from_numpy(movie.doses))
    if local.field is not None:  # then it is small
        error = [rms(displacement(r, movie) - movie.displacement) for r in (whole, local)]
        assert error[1] < error[0] + 0.1
    assert grid_for_dose(3.0, 10) == (1, 1, 1)
    assert grid_for_dose(15.0, 10) == (4, 4, 2)
