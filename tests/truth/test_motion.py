"""Motion correction against known displacements."""

import json

import numpy as np
import pytest
import torch

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.evaluation import motion_error
from eucentric.io import read_gain, read_movie
from eucentric.motion import MotionParams, correct_frames, dose_weighted_sum, estimate_motion, sum_frames

PIXEL = 3.0
TRUE = np.array([[4.0, -6.5], [1.5, -1.0], [-2.0, 2.5], [-3.5, 5.0], [0.2, 0.1]])


def scene(shape: tuple[int, int], shift: np.ndarray) -> torch.Tensor:
    """Soft blobs at fixed places, displaced by `shift` in A: evaluated, not interpolated."""
    generator = np.random.default_rng(5)
    y, x = ((np.arange(n) - n // 2) * PIXEL for n in shape)
    image = np.zeros(shape)
    for at, weight in zip(generator.uniform(-260, 260, (200, 2)), generator.uniform(0.5, 1.5, 200), strict=True):
        dx, dy = x - at[0] - shift[0], y - at[1] - shift[1]
        image -= weight * np.exp(-(dx[None] ** 2 + dy[:, None] ** 2) / (2 * 7.0**2))
    return torch.from_numpy(image)


def movie(shape: tuple[int, int], counts: float, contrast: float) -> torch.Tensor:
    generator = seeded_generator(7)
    means = torch.stack([counts * (1 + contrast * scene(shape, s)) for s in TRUE]).clamp(min=0)
    return torch.poisson(means, generator=generator).float()


@pytest.mark.parametrize("shape", [(160, 160), (150, 171)])
def test_known_displacements_are_recovered_within_the_claimed_error(shape):
    result = estimate_motion(movie(shape, 12.0, 0.15), PIXEL, MotionParams())
    error = motion_error(result.shifts_angstrom.numpy(), TRUE)
    claimed = float(result.sigma_angstrom.mean()) * np.sqrt(2)
    assert error < 3 * claimed
    assert claimed < 1.0
    # the same numbers with a sign turned, or x and y exchanged, are far off
    for wrong in (-TRUE, TRUE[:, ::-1]):
        assert motion_error(result.shifts_angstrom.numpy(), wrong) > 5 * error


def test_the_sum_undoes_the_displacement():
    shape = (120, 131)
    frames = torch.stack([scene(shape, s) for s in TRUE])
    total = sum_frames(frames, torch.from_numpy(TRUE), PIXEL)
    still = scene(shape, np.zeros(2)) * len(TRUE)
    inside = (slice(10, -10), slice(10, -10))
    # what is left is the mirrored border's leakage
    right = float((total - still)[inside].abs().max())
    assert right < 0.02 * float(still.abs().max())
    for wrong in (-TRUE, TRUE[:, ::-1].copy(), 0 * TRUE):
        other = sum_frames(frames, torch.from_numpy(wrong), PIXEL)
        assert float((other - still)[inside].abs().max()) > 2 * right


def test_dose_weighting_keeps_white_noise_white_and_fades_late_detail():
    noise = torch.randn(4, 96, 96, generator=seeded_generator(3))
    shifts = torch.zeros(4, 2, dtype=torch.float64)
    weighted = dose_weighted_sum(noise, shifts, 3.0, dose=3.0, pre_exposure=100.0, voltage_kv=300.0)
    assert float(weighted.std()) == pytest.approx(2.0, rel=0.05)


def test_a_single_frame_has_no_motion():
    result = estimate_motion(movie((96, 96), 10.0, 0.1)[:1], PIXEL, MotionParams())
    assert result.shifts_angstrom.tolist() == [[0.0, 0.0]]


def test_defects_are_found_and_filled_and_the_gain_is_applied():
    generator = seeded_generator(11)
    frames = torch.poisson(torch.full((4, 100, 90), 9.0), generator=generator)
    gain = 1.0 + 0.1 * torch.randn(100, 90, generator=generator)
    frames = frames / gain
    hot = torch.tensor([[3, 4], [50, 60], [51, 60], [99, 0]])
    frames[:, hot[:, 0], hot[:, 1]] = 255.0
    gain[20, :] = 0.0
    gain[40, 40] = torch.nan
    result = correct_frames(frames, gain, defect_sigma=6.0, generator=generator)
    expected = torch.zeros(100, 90, dtype=torch.bool)
    expected[hot[:, 0], hot[:, 1]] = True
    expected[20] = True
    expected[40, 40] = True
    assert torch.equal(result.defects, expected)
    filled = result.frames[:, expected]
    assert bool(torch.isfinite(result.frames).all())
    assert float(filled.mean()) == pytest.approx(9.0, rel=0.1)
    assert float(filled.std()) == pytest.approx(3.0, rel=0.2)  # Poisson noise, not a smooth patch


def test_a_half_blocked_image_does_not_look_defective():
    generator = seeded_generator(12)
    means = torch.full((4, 64, 64), 8.0)
    means[:, :, :40] = 0.02
    result = correct_frames(torch.poisson(means, generator=generator), None, defect_sigma=6.0, generator=generator)
    assert int(result.defects.sum()) < 100  # the edge of the shadow, at most


def test_bad_input_is_named():
    with pytest.raises(ShapeError, match="gain reference is 8 x 9"):
        correct_frames(torch.ones(2, 9, 9), torch.ones(9, 8), defect_sigma=6, generator=seeded_generator(0))
    broken = torch.ones(3, 64, 64)
    broken[1, 2, 3] = torch.nan
    with pytest.raises(InputError, match="Frame 2 holds values"):
        correct_frames(broken, None, defect_sigma=6, generator=seeded_generator(0))
    with pytest.raises(ShapeError, match="at least 32 x 32"):
        estimate_motion(torch.ones(3, 8, 8), 2.0, MotionParams())


@pytest.mark.parametrize("tilt", [0, 20, 34])
def test_practice_movies_come_within_half_an_angstrom(shared_data, tilt):
    folder = shared_data / "practice"
    truth = json.loads((folder / "TS_03_truth.json").read_text())
    frames = torch.from_numpy(np.array(read_movie(folder / "frames" / truth["names"][tilt])[0])).float()
    gain = torch.from_numpy(np.array(read_gain(folder / "gain.mrc")))
    corrected = correct_frames(frames, gain, defect_sigma=6.0, generator=seeded_generator(0))
    result = estimate_motion(corrected.frames, 4.0, MotionParams())
    assert motion_error(result.shifts_angstrom.numpy(), np.array(truth["motion"][tilt])) < 0.5
    assert int(corrected.defects.sum()) == 40
