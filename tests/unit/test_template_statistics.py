"""Cut-offs and q-values of picks."""

import numpy as np
import pytest
from scipy.stats import norm

from eucentric.errors import InputError
from eucentric.picking.false_discovery import chance_level, q_values, win_places
from eucentric.picking.find_peaks import greedy, local_maxima, top_hat_region


@pytest.mark.parametrize("tests", [1e3, 5e11])
def test_the_chance_level_is_passed_once(tests):
    assert tests * norm.sf(chance_level(tests)) == pytest.approx(1.0, rel=1e-6)


def test_published_chance_levels():
    assert 6.9 <= chance_level(5e11) <= 7.3  # theta of whole searches as published with pytom


@pytest.mark.parametrize("tests", [0.0, -1.0])
def test_no_tests_no_level(tests):
    with pytest.raises(InputError, match="expected positive"):
        chance_level(tests)


def test_claimed_false_discovery_is_true_on_average():
    rng = np.random.default_rng(5)
    claimed, real = 0.1, []
    for _ in range(200):
        noise, decoys = rng.normal(size=300), rng.normal(size=300)
        scores = np.concatenate([noise, rng.normal(4.0, 1.0, 100)])
        false = np.arange(400) < 300
        kept = q_values(scores, decoys) <= claimed
        real.append(false[kept].mean() if kept.any() else 0.0)
    assert 0.6 * claimed < np.mean(real) < 1.1 * claimed


def test_pure_noise_gives_no_picks_at_five_percent():
    rng = np.random.default_rng(6)
    with_picks = [bool((q_values(rng.normal(size=200), rng.normal(size=200)) <= 0.05).any()) for _ in range(100)]
    assert np.mean(with_picks) <= 0.02


def test_q_values_rise_as_scores_fall_and_know_no_picks():
    scores = np.array([1.0, 9.0, 5.0, 5.0])
    values = q_values(scores, np.array([5.0, 0.5]))
    np.testing.assert_allclose(values, [0.5, 0.5, 0.5, 0.5])
    values = q_values(np.arange(100.0), np.array([-1.0]))
    np.testing.assert_allclose(values, 0.01)
    assert q_values(np.zeros(0), np.zeros(3)).shape == (0,)


def test_each_place_goes_to_the_best():
    places = np.array([[0.0, 0, 0], [50.0, 0, 0], [200.0, 0, 0]])
    scores = np.array([3.0, 4.0, 1.0])
    np.testing.assert_array_equal(win_places(places, scores, np.array([30.0, 30.0, 30.0])), [1, 2])
    np.testing.assert_array_equal(greedy(places, scores, 60.0), [1, 2])
    assert len(greedy(np.zeros((0, 3)), np.zeros(0), 5.0)) == 0


def test_peaks_and_the_top_hat_tell_sharp_from_broad():
    import torch

    rng = np.random.default_rng(1)
    z, y, x = np.mgrid[:24, :24, :24]
    broad = 30.0 * np.exp(-((z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2) / 200.0)
    scores = torch.from_numpy((broad + 0.05 * rng.normal(size=broad.shape)).astype(np.float32))
    scores[5, 6, 7] += 10.0
    places, values = local_maxima(scores, 6.0, 1.0)
    assert [5, 6, 7] in places.tolist()
    assert (np.diff(values) <= 0).all()
    hat, level = top_hat_region(scores)
    assert torch.nonzero(hat > 2 * level).tolist() == [[5, 6, 7]]
