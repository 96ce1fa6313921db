"""Registration by landmarks: known transforms, of either hand, with noise, wrong pairs, and too little to go by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import InputError
from eucentric.fitting.landmarks import fewest_landmarks, fit_landmarks, unknowns
from eucentric.fitting.match_points import match_points
from eucentric.geometry.affine import Affine

KINDS = ("rigid", "similarity", "affine")


def random_transform(generator, dimensions, kind, mirrored):
    """By QR and a stretch: nothing that the fit uses."""
    q, r = np.linalg.qr(generator.normal(size=(dimensions, dimensions)))
    q = q * np.sign(np.diag(r))
    if (np.linalg.det(q) < 0) != mirrored:
        q[:, 0] *= -1
    size = 1.0 if kind == "rigid" else generator.uniform(0.4, 2.5)
    stretch = np.eye(dimensions)
    if kind == "affine":
        stretch += 0.15 * generator.normal(size=(dimensions, dimensions)) / dimensions
    return Affine(matrix=size * q @ stretch, offset=generator.normal(0, 5e4, dimensions))


def landmarks(generator, transform, count, noise=0.0, span=1e5):
    moving = generator.uniform(-span, span, (count, len(transform.offset)))
    return moving, transform(moving) + generator.normal(0, noise, moving.shape) if noise else transform(moving)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    dimensions=st.sampled_from([2, 3]),
    kind=st.sampled_from(KINDS),
    mirrored=st.booleans(),
    more=st.integers(1, 4),
)
def test_exact_landmarks_give_the_transform_and_its_hand(seed, dimensions, kind, mirrored, more):
    generator = np.random.default_rng(seed)
    truth = random_transform(generator, dimensions, kind, mirrored)
    fit = fit_landmarks(*landmarks(generator, truth, fewest_landmarks(kind, dimensions) + more), kind)
    np.testing.assert_allclose(fit.transform.matrix, truth.matrix, atol=1e-7)
    np.testing.assert_allclose(fit.transform.offset, truth.offset, atol=1e-2)
    assert (fit.transform.is_mirrored, fit.hand_known) == (mirrored, True)
    assert fit.used.all()
    assert fit.rms < 1e-3


@pytest.mark.parametrize(("dimensions", "mirrored"), [(2, True), (3, False)])
@pytest.mark.parametrize("kind", KINDS)
def test_noisy_landmarks_are_as_good_as_they_say(dimensions, kind, mirrored):
    """Over many draws: the spread of residuals, of left-out errors and at a place in between is the one predicted."""
    generator = np.random.default_rng([5, dimensions, len(kind), mirrored])
    noise, count, draws = 300.0, 9, 25
    sigmas, ratios, left_out, wrong = [], [], [], 0
    for _ in range(draws):
        truth = random_transform(generator, dimensions, kind, mirrored)
        moving, fixed = landmarks(generator, truth, count, noise)
        fit = fit_landmarks(moving, fixed, kind)
        assert fit.transform.is_mirrored == mirrored
        wrong += int((~fit.used).sum())
        place = generator.uniform(-1e5, 1e5, (1, dimensions))
        away = np.linalg.norm(fit.transform(place) - truth(place))
        sigmas.append(fit.sigma**2)
        ratios.append((away / fit.sigma_at(place)[0]) ** 2)
        left_out.append((fit.left_out_errors**2).mean())
    # 6 to 21 free numbers in each of 25 draws: a spread of at most 6%; squares of 2 or 3 coordinates over an estimate: 25%
    assert np.sqrt(np.mean(sigmas)) == pytest.approx(noise, rel=0.15)
    assert 0.5 < np.mean(ratios) < 1.9
    # the error of a landmark that is left out is its own and that of the transform
    least = noise**2 * dimensions
    assert least < np.mean(left_out) < least * (1 + 3.0 * unknowns(kind, dimensions) / (count - 1))
    assert wrong <= 1


@pytest.mark.parametrize("kind", ["similarity", "affine"])
@pytest.mark.parametrize(("count", "bad"), [(7, 1), (12, 3), (40, 12)])
def test_wrong_landmarks_are_named_and_left_out(kind, count, bad):
    for seed in range(3):
        generator = np.random.default_rng([count, bad, seed])
        truth = random_transform(generator, 2, kind, mirrored=True)
        moving, fixed = landmarks(generator, truth, count, 200.0)
        chosen = generator.choice(count, bad, replace=False)
        angle = generator.uniform(0, 2 * np.pi, bad)
        fixed[chosen] += 3e4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        fit = fit_landmarks(moving, fixed, kind)
        assert set(np.flatnonzero(~fit.used)) == set(chosen)
        assert fit.transform.is_mirrored
        np.testing.assert_allclose(np.linalg.norm(fit.errors[chosen], axis=1), 3e4, rtol=0.1)
        np.testing.assert_allclose(fit.left_out_errors[chosen], np.linalg.norm(fit.errors[chosen], axis=1), rtol=1e-9)


def test_landmarks_that_were_exchanged_are_named():
    generator = np.random.default_rng(8)
    truth = random_transform(generator, 2, "similarity", mirrored=False)
    moving, fixed = landmarks(generator, truth, 9, 100.0)
    fixed[[2, 6]] = fixed[[6, 2]]
    assert np.flatnonzero(~fit_landmarks(moving, fixed).used).tolist() == [2, 6]


def test_the_error_without_a_landmark_is_that_of_the_others_alone():
    generator = np.random.default_rng(3)
    truth = random_transform(generator, 3, "similarity", mirrored=False)
    moving, fixed = landmarks(generator, truth, 8, 300.0)
    fit = fit_landmarks(moving, fixed)
    for i in range(8):
        rest = np.arange(8) != i
        alone = fit_landmarks(moving[rest], fixed[rest])
        assert fit.left_out_errors[i] == pytest.approx(np.linalg.norm(alone.transform(moving[i : i + 1]) - fixed[i]))
    assert fit.left_out_rms > fit.rms


def test_a_hand_that_landmarks_do_not_tell_is_not_claimed():
    generator = np.random.default_rng(4)
    flat = np.concatenate([generator.uniform(-1e5, 1e5, (7, 2)), np.zeros((7, 1))], axis=1)
    truth = random_transform(generator, 3, "similarity", mirrored=False)
    fit = fit_landmarks(flat, truth(flat))
    assert not fit.hand_known
    assert not fit.transform.is_mirrored
    np.testing.assert_allclose(fit.transform.matrix, truth.matrix, atol=1e-9)
    line = np.stack([np.linspace(0, 1e5, 6), np.linspace(0, 2e4, 6)], axis=1)
    line[:, 1] += generator.normal(0, 30, 6)  # as good as a line, to the landmarks' errors
    turned = line @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + generator.normal(0, 100, line.shape)
    assert not fit_landmarks(line, turned).hand_known


@pytest.mark.parametrize("kind", KINDS)
def test_a_hand_that_is_given_is_kept(kind):
    generator = np.random.default_rng(6)
    truth = random_transform(generator, 2, kind, mirrored=True)
    moving, fixed = landmarks(generator, truth, 7, 100.0)
    assert fit_landmarks(moving, fixed, kind, mirror="yes").transform.is_mirrored
    if kind == "affine":
        with pytest.raises(InputError, match="is mirrored, against what was asked for"):
            fit_landmarks(moving, fixed, kind, mirror="no")
    else:
        plain = fit_landmarks(moving, fixed, kind, mirror="no")
        assert not plain.transform.is_mirrored
        assert plain.rms > 50 * 100.0


def test_what_does_not_determine_a_transform_is_refused():
    square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    with pytest.raises(
        InputError, match=r"2 landmarks were given; a transform that is similarity in 2 dimensions needs 3"
    ):
        fit_landmarks(square[:2], square[:2])
    with pytest.raises(InputError, match=r"3 landmarks were given; a transform that is affine .* needs 4"):
        fit_landmarks(square[:3], square[:3], "affine")
    with pytest.raises(InputError, match="target lie on one place"):
        fit_landmarks(square, np.ones((4, 2)))
    with pytest.raises(InputError, match="is registered lie on one line"):
        fit_landmarks(square[[0, 1, 0, 1]] * 3, square, "affine")
    solid = np.random.default_rng(1).normal(size=(6, 3))
    with pytest.raises(InputError, match="lie on one plane"):
        fit_landmarks(solid * [1, 1, 0], solid, "affine")
    with pytest.raises(InputError, match="not a number"):
        fit_landmarks(square * np.nan, square)
    with pytest.raises(InputError, match="expected pairs"):
        fit_landmarks(square, square[:3])


def test_affine_maps_follow_one_another_and_back():
    generator = np.random.default_rng(7)
    first, second = (random_transform(generator, 3, "affine", mirrored=m) for m in (False, True))
    points = generator.normal(size=(5, 3))
    np.testing.assert_allclose(second.after(first)(points), second(first(points)))
    np.testing.assert_allclose(first.inverse(first(points)), points, atol=1e-9)
    turn = Affine(matrix=2.5 * np.array([[0.6, -0.8], [0.8, 0.6]]), offset=np.zeros(2))
    assert turn.scale == pytest.approx(2.5)
    assert turn.angle_deg == pytest.approx(np.degrees(np.arctan2(0.8, 0.6)))


def test_beads_seen_in_both_images_make_a_registration_finer():
    generator = np.random.default_rng(12)
    truth = random_transform(generator, 2, "similarity", mirrored=True)
    beads = generator.uniform(-1e5, 1e5, (60, 2))
    fixed = truth(beads) + generator.normal(0, 60, beads.shape)
    clicked = fit_landmarks(beads[:4] + generator.normal(0, 1500, (4, 2)), fixed[:4])
    # of each image a quarter of the beads is missing, and some things are no beads; the order is another
    seen_a = np.concatenate([beads[:50], generator.uniform(-1e5, 1e5, (6, 2))])
    order = generator.permutation(56)
    seen_b = np.concatenate([fixed[10:], generator.uniform(fixed.min(0), fixed.max(0), (6, 2))])
    found = match_points(clicked, seen_a[order], seen_b, reach=8e3 * truth.scale)
    corners = np.array([[-1e5, -1e5], [1e5, 1e5], [-1e5, 1e5]])
    before, after = (np.linalg.norm(f.transform(corners) - truth(corners), axis=1).max() for f in (clicked, found.fit))
    assert after < 0.1 * before
    assert after < 100  # 40 pairs of 60 A
    true_pairs = {(int(np.flatnonzero(order == i)[0]), i - 10) for i in range(10, 50)}
    used = {tuple(pair) for pair in found.pairs[found.fit.used].tolist()}
    assert len(used & true_pairs) >= 38
    assert len(used - true_pairs) <= 1


def test_beads_that_are_nowhere_near_are_told():
    generator = np.random.default_rng(13)
    places = generator.uniform(-1e5, 1e5, (8, 2))
    fit = fit_landmarks(places, places)
    with pytest.raises(InputError, match="Only 0 of 8 and 8 points lie within 100 A"):
        match_points(fit, places, places + 5e5, reach=100.0)
