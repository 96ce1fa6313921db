"""Frames of one continuous movie given to tilts, against movies whose steps are known."""

import itertools
import math

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ProcessingError
from eucentric.motion import assign_frames
from eucentric.motion.dwell_chain import best_runs, follow_chain
from eucentric.simulation import RapidTiltParams, simulate_rapid_tilt_movie

SMALL = RapidTiltParams(
    shape=(176, 192),
    pixel_size=5.0,
    angles_deg=(0.0, 3.0, 6.0, 9.0, 12.0, 15.0),
    frames_per_tilt=12,
    contrast=0.09,
    small_jump_every=3,
    seed=3,
)


def assigned(movie, params, **options):
    return assign_frames(lambda i: movie.frames[i].float(), len(movie.frames), params.pixel_size, **options)


def wrong_and_lost(found, movie):
    """Frames given to another tilt than theirs or to one though of none; frames of a tilt that were dropped."""
    truth = movie.tilt.numpy()
    return int(((found.tilt >= 0) & (found.tilt != truth)).sum()), int(((found.tilt < 0) & (truth >= 0)).sum())


@pytest.fixture(scope="module")
def small():
    return simulate_rapid_tilt_movie(SMALL)


@pytest.fixture(scope="module")
def found_small(small):
    """With the number of tilts known, and not; and what was asked for and told on the way."""
    asked, told = [], []

    def frame(i):
        asked.append(i)
        return small.frames[i].float()

    known = assign_frames(frame, len(small.frames), SMALL.pixel_size, tilt_count=6, progress=told.append)
    return {6: known, None: assigned(small, SMALL), "asked": asked, "told": told}


@pytest.mark.parametrize("count", [6, None])
def test_every_frame_goes_to_its_tilt_or_is_dropped(small, found_small, count):
    found = found_small[count]
    assert len(found.ranges) == 6
    wrong, lost = wrong_and_lost(found, small)
    assert wrong == 0
    assert lost <= 3
    for i, (start, stop) in enumerate(found.ranges):
        assert (found.tilt[start:stop] == i).all()
        assert (found.probability[start:stop] > 0.9).all()


def test_displacements_within_a_tilt_have_the_right_sign_and_axes(small, found_small):
    found = found_small[6]
    errors = {name: [] for name in ("right", "turned", "exchanged")}
    for start, stop in found.ranges:
        true = small.displacement[start:stop].numpy()
        true = true - true.mean(0)
        estimate = found.displacement_angstrom[start:stop]
        for name, one in (("right", true), ("turned", -true), ("exchanged", true[:, ::-1])):
            errors[name].append(np.square(estimate - one).mean())
    rms = {name: math.sqrt(np.mean(values)) for name, values in errors.items()}
    # a frame of 2 electrons a pixel against eleven others: within a third of a pixel
    assert rms["right"] < SMALL.pixel_size / 3
    assert rms["turned"] > 2 * rms["right"]
    assert rms["exchanged"] > 1.5 * rms["right"]
    assert np.isnan(found.displacement_angstrom[found.tilt < 0]).all()


def test_a_blanked_beam_marks_the_steps():
    params = SMALL.model_copy(update={"blanked": True, "lead_in": 4, "frames_per_tilt": 8, "contrast": 0.08})
    movie = simulate_rapid_tilt_movie(params)
    # the beam opens in the midst of a frame
    first = int((movie.tilt >= 0).nonzero()[0])
    movie.frames[first] //= 2
    found = assigned(movie, params, tilt_count=6)
    wrong, lost = wrong_and_lost(found, movie)
    assert wrong == 0
    assert lost <= 5
    dark = movie.doses.numpy() == 0
    dark[first] = True
    assert (found.dark == dark).all()
    assert found.ranges[0][0] == first + 1


def test_a_pattern_of_the_camera_does_not_join_tilts(small):
    pattern = torch.rand(SMALL.shape, generator=torch.Generator().manual_seed(2)) * 0.2 + 0.9
    found = assign_frames(
        lambda i: small.frames[i].float() * pattern, len(small.frames), SMALL.pixel_size, tilt_count=6
    )
    wrong, lost = wrong_and_lost(found, small)
    assert wrong == 0
    assert lost <= 4


def test_noise_and_unfit_movies_are_refused():
    noise = torch.poisson(torch.full((40, 64, 64), 2.0), generator=torch.Generator().manual_seed(1))
    with pytest.raises(ProcessingError, match="--frame-table"):
        assign_frames(lambda i: noise[i], 40, 5.0)
    with pytest.raises(InputError, match="too few for 30 tilts"):
        assign_frames(lambda i: noise[i], 40, 5.0, tilt_count=30)
    with pytest.raises(InputError, match="Frame 8 of 40"):
        assign_frames(lambda i: noise[i] if i != 7 else noise[i, :60], 40, 5.0)
    with pytest.raises(InputError, match="at least 32 x 32"):
        assign_frames(lambda i: noise[i, :20], 40, 5.0)
    with pytest.raises(ProcessingError, match="are alike"):
        assign_frames(lambda i: torch.ones(64, 64), 40, 5.0)
    with pytest.raises(ProcessingError, match="frames are lit"):
        assign_frames(lambda i: noise[i] if i < 5 else 0 * noise[i], 40, 5.0, tilt_count=3)


def test_frames_are_asked_for_once_and_in_order(small, found_small):
    assert found_small["asked"] == list(range(len(small.frames)))
    assert found_small["told"][-1] == 1.0


@pytest.mark.parametrize("wanted", [1, 2, 3, None])
def test_the_best_runs_are_those_of_an_exhaustive_search(wanted):
    generator = np.random.default_rng(4)
    count, lags, fewest = 11, 3, 2
    odds = generator.normal(0.5, 3.0, (lags, count))
    price = math.log(20.0)

    def score(a, b):
        pairs = [(i, i + lag) for lag in range(1, lags + 1) for i in range(a, b - lag)]
        return sum(odds[j - i - 1, i] for i, j in pairs) - (price if wanted is None else 0.0)

    best, best_score = [], -math.inf if wanted else 0.0
    for number in range(1, 5) if wanted is None else [wanted]:
        for cuts in itertools.combinations_with_replacement(range(count + 1), 2 * number):
            runs = list(zip(cuts[::2], cuts[1::2], strict=True))
            if all(b - a >= fewest for a, b in runs) and (total := sum(score(a, b) for a, b in runs)) > best_score:
                best, best_score = runs, total
    assert best_runs(odds, fewest, wanted) == best


def test_the_chain_keeps_its_order_and_knows_what_it_does_not_know():
    whole = np.full((9, 2), -20.0)
    whole[:4, 0] = 10.0
    whole[5:, 1] = 10.0
    mixed = np.zeros((9, 3))
    dwell, probability = follow_chain(whole, mixed, np.zeros(9, dtype=bool))
    assert dwell.tolist() == [0] * 4 + [-1] + [1] * 4
    assert (probability[dwell >= 0] > 0.999).all()
    # a frame that suits the second tilt as well as the first, at their border, is of either with 1/2
    whole[4] = 10.0
    whole[4, 1] = 10.0
    dwell, probability = follow_chain(whole, mixed, np.zeros(9, dtype=bool))
    assert probability[4] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_rapid_series_of_41_tilts_with_24_frames(seed):
    params = RapidTiltParams(seed=seed)
    movie = simulate_rapid_tilt_movie(params)
    assert len(params.angles_deg) == 41
    assert params.frames_per_tilt == 24
    assert params.dose_per_frame == 0.1
    found = assigned(movie, params, tilt_count=41 if seed % 2 else None)
    wrong, lost = wrong_and_lost(found, movie)
    assert len(found.ranges) == 41
    assert wrong == 0
    assert lost < 0.04 * len(movie.frames)


@pytest.mark.slow
def test_steps_of_one_degree_that_hardly_move_a_thin_specimen():
    angles = tuple(float(a) for a in range(-10, 11))
    params = RapidTiltParams(angles_deg=angles, thickness=400.0, small_jump_every=2, seed=5)
    movie = simulate_rapid_tilt_movie(params)
    found = assigned(movie, params, tilt_count=21)
    wrong, lost = wrong_and_lost(found, movie)
    assert wrong == 0
    assert lost < 0.04 * len(movie.frames)
