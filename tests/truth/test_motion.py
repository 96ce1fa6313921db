"""Motion correction against known displacements."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.evaluation import motion_error
from eucentric.io import read_gain, read_movie
from eucentric.models import FrameShifts
from eucentric.motion import MotionParams, correct_movie, dose_weighted_sum, estimate_motion, sum_frames
from eucentric.motion.motion_quality import motion_quality
from eucentric.motion.results import MotionResult, RejectedFrame
from eucentric.motion.series_prior import MotionPrior, series_prior

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
    result = correct_movie(frames, gain, defect_sigma=6.0, generator=generator)
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
    result = correct_movie(torch.poisson(means, generator=generator), None, defect_sigma=6.0, generator=generator)
    assert int(result.defects.sum()) < 100  # the edge of the shadow, at most


def test_bad_input_is_named():
    with pytest.raises(ShapeError, match="gain reference is 8 x 9"):
        correct_movie(torch.ones(2, 9, 9), torch.ones(9, 8), defect_sigma=6, generator=seeded_generator(0))
    broken = torch.ones(3, 64, 64)
    broken[1, 2, 3] = torch.nan
    with pytest.raises(InputError, match="Frame 2 holds values"):
        correct_movie(broken, None, defect_sigma=6, generator=seeded_generator(0))
    with pytest.raises(ShapeError, match="at least 32 x 32"):
        estimate_motion(torch.ones(3, 8, 8), 2.0, MotionParams())


def test_bad_frames_are_named_and_do_not_spoil_the_rest():
    shape = (160, 160)
    good = movie(shape, 12.0, 0.15)
    other = torch.poisson(torch.full(shape, 12.0), generator=seeded_generator(21))
    alone = estimate_motion(good, PIXEL, MotionParams()).shifts_angstrom
    for where, bad in ((1, torch.zeros(shape)), (2, torch.full(shape, 255.0)), (3, other), (0, 40.0 * other)):
        frames = torch.cat([good[:where], bad[None], good[where:]])
        result = estimate_motion(frames, PIXEL, MotionParams())
        assert [r.frame for r in result.rejected] == [where]
        assert result.used.tolist() == [i != where for i in range(6)]
        assert "detail" in result.rejected[0].reason
        kept = result.shifts_angstrom[result.used]
        assert motion_error(kept.numpy(), TRUE) < motion_error(alone.numpy(), TRUE) + 0.05
        # the frame that is left out moves with its neighbours
        near = result.shifts_angstrom[[max(where - 1, 0), min(where + 1, 5)]]
        low, high = near.min(0).values - 1e-6, near.max(0).values + 1e-6
        assert where == 0 or bool(
            ((result.shifts_angstrom[where] >= low) & (result.shifts_angstrom[where] <= high)).all()
        )


def test_a_frame_that_jumped_is_found_where_it_is():
    true = np.concatenate([TRUE[:2], [[45.0, -38.0]], TRUE[3:]])
    generator = seeded_generator(7)
    means = torch.stack([12.0 * (1 + 0.15 * scene((192, 200), s)) for s in true]).clamp(min=0)
    result = estimate_motion(torch.poisson(means, generator=generator).float(), PIXEL, MotionParams())
    assert motion_error(result.shifts_angstrom.numpy(), true) < 0.8
    assert not result.rejected


def test_unequal_doses_weigh_frames_by_what_they_hold():
    shape, doses = (160, 150), [1.0, 1.0, 6.0, 0.5, 3.0]
    means = torch.stack([12.0 * d * (1 + 0.15 * scene(shape, s)) for s, d in zip(TRUE, doses, strict=True)]).clamp(
        min=0
    )
    frames = torch.poisson(means, generator=seeded_generator(9)).float()
    result = estimate_motion(frames, PIXEL, MotionParams(), doses=doses)
    assert motion_error(result.shifts_angstrom.numpy(), TRUE) < 3 * np.sqrt(2) * float(result.sigma_angstrom.mean())
    assert int(result.sigma_angstrom.argmin()) == 2
    assert not result.rejected
    with pytest.raises(InputError, match="4 doses were given for 5 frames"):
        estimate_motion(frames, PIXEL, MotionParams(), doses=doses[:4])


def test_frames_that_tell_nothing_stay_where_they_are():
    noise = torch.poisson(torch.full((6, 128, 140), 0.3), generator=seeded_generator(13))
    result = estimate_motion(noise, PIXEL, MotionParams())
    assert float(result.shifts_angstrom.abs().max()) < 0.3
    assert result.confidence < 0.5


def test_many_short_frames_are_aligned_in_groups_and_smoothly():
    count = 60
    time = torch.linspace(0, 1, count, dtype=torch.float64)
    true = torch.stack([14.0 * (1 - torch.exp(-3 * time)), -9.0 * time], dim=1).numpy()
    means = torch.stack([1.2 * (1 + 0.15 * scene((160, 160), s)) for s in true]).clamp(min=0)
    frames = torch.poisson(means, generator=seeded_generator(15)).float()
    result = estimate_motion(frames, PIXEL, MotionParams())
    assert len(result.shifts_angstrom) == count
    assert motion_error(result.shifts_angstrom.numpy(), true) < 1.0


def settled(amplitude: np.ndarray, count: int = 6) -> np.ndarray:
    time = (np.arange(count) + 0.5) / count
    moved = (1 - np.exp(-time / 0.3))[:, None] * amplitude
    return moved - moved.mean(0)


def test_the_series_prior_is_what_the_other_tilts_did():
    rng = np.random.default_rng(4)
    centre = np.eye(6) - 1 / 6
    others = []
    for _ in range(20):
        shifts = settled(np.array([8.0, -5.0]) + rng.normal(size=2)) + centre @ rng.normal(scale=0.3, size=(6, 2))
        others.append(
            MotionResult(
                shifts_angstrom=torch.from_numpy(shifts),
                sigma_angstrom=torch.full((6,), 0.3),
                frequency=torch.zeros(1),
                frame_correlation=torch.zeros(1),
                free_shifts_angstrom=torch.from_numpy(shifts),
                free_covariance=torch.from_numpy(0.09 * centre),
            )
        )
    prior = series_prior(others)
    assert prior is not None
    expected = settled(np.array([8.0, -5.0]))
    assert motion_error(prior.mean_angstrom.numpy(), expected) < 0.5
    # a movie's own amplitude may differ by about one A, its rest by little
    covariance = torch.linalg.pinv(prior.precision).numpy()
    along = settled(np.array([1.0, 0.0]))[:, 0]
    along /= np.linalg.norm(along)
    spread = np.sqrt(along @ covariance @ along) / np.linalg.norm(settled(np.array([1.0, 0.0]))[:, 0])
    assert 0.6 < spread < 1.8
    assert np.trace(covariance) - along @ covariance @ along < 1.5
    assert series_prior(others[:3]) is None
    short = replace(others[0], free_shifts_angstrom=torch.zeros(4, 2), free_covariance=torch.eye(4))
    with pytest.raises(ShapeError, match="same number"):
        series_prior([*others, short])


def test_a_prior_holds_a_movie_that_tells_nothing():
    noise = torch.poisson(torch.full((6, 128, 140), 0.3), generator=seeded_generator(13))
    mean = torch.from_numpy(settled(np.array([8.0, -5.0])))
    prior = MotionPrior(mean_angstrom=mean, precision=10.0 * (torch.eye(6, dtype=torch.float64) - 1 / 6))
    result = estimate_motion(noise, PIXEL, MotionParams(), prior=prior)
    assert motion_error(result.shifts_angstrom.numpy(), mean.numpy()) < 0.3


def test_quality_figures_of_a_known_path():
    shifts = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 6.0], [3.0, 6.0]], dtype=torch.float64)
    result = MotionResult(
        shifts_angstrom=shifts - shifts.mean(0),
        sigma_angstrom=torch.tensor([0.1, 0.2, 0.2, 0.1]),
        frequency=torch.zeros(1),
        frame_correlation=torch.zeros(1),
        rejected=(RejectedFrame(frame=3, reason="it is dark"),),
    )
    quality = motion_quality(result, torch.full((4,), 1.5))
    assert quality.total_angstrom == pytest.approx(7.0)
    path = FrameShifts(shifts_angstrom=shifts.numpy(), sigma_angstrom=np.zeros(4))
    assert path.early_and_late_angstrom(6.0) == pytest.approx(
        (5.0, 2.0)
    )  # frames 1 and 2 end at 3 e/A2, frame 3 at 4.5
    assert path.early_and_late_angstrom(6.0, 60.0)[0] == 0.0
    assert np.isnan(path.early_and_late_angstrom(0.0)).all()
    assert quality.sigma_angstrom == pytest.approx(np.sqrt(0.03))
    # 5 A within one frame at the start, spread evenly
    assert float(quality.blur_angstrom[0]) == pytest.approx(5 / np.sqrt(12))
    assert float(quality.blur_angstrom[3]) == pytest.approx(0.0)
    assert quality.suspicious == ("frame 4 was left out: it is dark",)


@pytest.mark.parametrize("tilt", [0, 20, 34])
def test_practice_movies_come_within_half_an_angstrom(shared_data, tilt):
    folder = shared_data / "practice"
    truth = json.loads((folder / "TS_03_truth.json").read_text())
    frames = torch.from_numpy(np.array(read_movie(folder / "frames" / truth["names"][tilt])[0])).float()
    gain = torch.from_numpy(np.array(read_gain(folder / "gain.mrc")))
    corrected = correct_movie(frames, gain, defect_sigma=6.0, generator=seeded_generator(0))
    result = estimate_motion(corrected.frames, 4.0, MotionParams())
    assert motion_error(result.shifts_angstrom.numpy(), np.array(truth["motion"][tilt])) < 0.5
    assert int(corrected.defects.sum()) == 40
