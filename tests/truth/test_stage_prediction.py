"""Prediction of simulated stages, whose run-out is made otherwise than the prediction supposes."""

from dataclasses import replace

import numpy as np
import pytest

from eucentric.acquisition import GoniometerModel, PositionPredictor, PredictionParams, learn_goniometer, replay
from eucentric.acquisition.goniometer import FEWEST_TILTS
from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.simulation.stage import StageParams, draw_stage, measured_track, run_series

ANGLES = TiltScheme().angles_in_order()
TRAINING = 3
STILL = StageParams(
    run_out_angstrom=0, kink_angstrom_per_deg=0, ripple_angstrom=0, backlash_angstrom=0, play_deg=0, relaxation_angstrom=0,
    drift_angstrom_per_s=0, drift_walk_angstrom=0, axis_error_deg=0, noise_angstrom=0,
)  # fmt: skip


def series(stage, rng, angles=ANGLES, height=500.0, **more):
    true = run_series(stage, angles, rng, **more)
    return true, measured_track(true.tracks[0], rng, position_sigma_angstrom=30.0, height_sigma_angstrom=height)


def all_three(track):
    return np.column_stack([track.position_angstrom, track.height_angstrom])


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


@pytest.fixture(scope="module")
def ten_stages():
    """Of each of ten stages one series: true places, and the prediction of every tilt."""
    out = []
    for seed in range(10):
        rng = np.random.default_rng(900 + seed)
        true, measured = series(draw_stage(rng), rng)
        out.append((true, measured, replay(measured)))
    return out


def test_errors_one_tilt_ahead(ten_stages):
    """The best linear prediction of such stages errs by 17 nm in a component: the stage itself misses by 10."""
    off = np.concatenate([(all_three(t.tracks[0]) - r.predicted_angstrom)[TRAINING:] for t, _, r in ten_stages])
    assert rms(off[:, :2]) < 210
    assert rms(off[:, 2]) < 600
    last = np.concatenate([all_three(m)[TRAINING:] - all_three(m)[TRAINING - 2 : -2] for _, m, _ in ten_stages])
    assert rms(off[:, :2]) < 0.5 * rms(last[:, :2])  # the neighbour on the same side, two images ago


def test_expected_errors_are_those_made(ten_stages):
    off = np.concatenate([(all_three(t.tracks[0]) - r.predicted_angstrom)[TRAINING:] for t, _, r in ten_stages])
    ratios = off / np.concatenate([r.sigma_angstrom[TRAINING:] for _, _, r in ten_stages])
    assert 0.75 < rms(ratios[:, :2]) < 1.3
    assert 0.7 < rms(ratios[:, 2]) < 1.4


def test_tracking_is_asked_for_where_little_is_known(ten_stages):
    early = np.mean([any(r.tracking[1:TRAINING]) for _, _, r in ten_stages])
    late = np.mean([np.mean(r.tracking[TRAINING:]) for _, _, r in ten_stages])
    assert early == 1.0
    assert late <= 0.2
    assert not any(any(r.rejected) for _, _, r in ten_stages)


def test_a_stage_without_faults_is_predicted_by_its_geometry():
    """What is left is the prior's doubt whether run-out is 0: far below the 2 um that the point moves."""
    rng = np.random.default_rng(4)
    stage = draw_stage(rng, STILL.replace(eucentric_angstrom=20000.0))
    true, measured = series(stage, rng, height=50.0)
    done = replay(measured, PredictionParams(run_out_angstrom=10.0, backlash_angstrom=10.0, stage_noise_angstrom=10.0))
    off = (all_three(true.tracks[0]) - done.predicted_angstrom)[8:]
    assert np.ptp(true.smooth[0][:, 0]) > 5000
    assert np.abs(off).max() < 120  # 4 sd of a correlation at 60 degrees


def test_ten_series_teach_the_eleventh():
    plain, taught, rest, taught_rest = [], [], [], []
    for seed in range(2):
        rng = np.random.default_rng(300 + seed)
        stage = draw_stage(rng)
        model = learn_goniometer([series(stage, rng)[1] for _ in range(10)])
        assert model.series_count == 10
        assert not model.left_out
        true, measured = series(stage, rng)
        for said, left, given in ((plain, rest, None), (taught, taught_rest, model)):
            said.append((true.smooth[0] - replay(measured, None, given).predicted_angstrom)[TRAINING:])
            predictor = PositionPredictor(None, given)
            for i in range(9):
                predictor.update(ANGLES[i], measured.position_angstrom[i], height_angstrom=measured.height_angstrom[i])
            far = [predictor.predict(t) for t in ANGLES[9:]]
            left.append(true.smooth[0][9:] - [[*s.position_angstrom, s.height_angstrom] for s in far])
    assert rms(np.concatenate(taught)) < 0.75 * rms(np.concatenate(plain))
    assert rms(np.concatenate(taught_rest)) < 0.5 * rms(np.concatenate(rest))


def test_the_learned_run_out_is_the_stage_s():
    """But for what height and offset do, which is no stage's: fitted away from the truth too."""
    rng = np.random.default_rng(77)
    stage = draw_stage(rng)
    model = learn_goniometer([series(stage, rng, height=300.0)[1] for _ in range(12)])
    tilts = np.linspace(-57, 57, 39)
    t = np.deg2rad(tilts)
    off = (stage.run_out(tilts) - model.at(tilts)).T.ravel()
    zero = np.zeros_like(t)
    free = np.column_stack(
        [
            np.concatenate([np.cos(t), zero, -np.sin(t)]),
            np.concatenate([np.sin(t), zero, np.cos(t)]),
            *(np.concatenate([np.full_like(t, float(i == axis)) for i in range(3)]) for axis in range(3)),
            np.concatenate([zero, np.cos(t), zero]),
            np.concatenate([zero, np.sin(t), zero]),
            *(
                np.concatenate([np.sign(t) * (i == axis) for i in range(3)]) for axis in range(3)
            ),  # backlash of this order
            *(
                np.concatenate([t * (i == axis) for i in range(3)]) for axis in range(3)
            ),  # relaxation, in proportion to moves
        ]
    )
    left = off - free @ np.linalg.lstsq(free, off, rcond=None)[0]
    assert rms(left) < 100  # of 3000; kinks and ripples of 20 A are in no harmonic
    back = GoniometerModel.from_dict(model.to_dict())
    np.testing.assert_array_equal(back.at(tilts), model.at(tilts))
    np.testing.assert_array_equal(back.sigma_at(tilts), model.sigma_at(tilts))


def test_learning_in_two_sessions_is_learning_at_once():
    rng = np.random.default_rng(5)
    stage = draw_stage(rng)
    tracks = [series(stage, rng)[1] for _ in range(6)]
    at_once = learn_goniometer(tracks)
    in_turn = learn_goniometer(tracks[3:], learn_goniometer(tracks[:3]))
    assert in_turn.series_count == 6
    tilts = np.linspace(-60, 60, 25)
    apart = np.abs(in_turn.at(tilts) - at_once.at(tilts))
    assert (apart < 2.0 * at_once.sigma_at(tilts) + 10.0).all()
    assert (in_turn.sigma_at(tilts)[[0, -1]] < learn_goniometer(tracks[:2]).sigma_at(tilts)[[0, -1]]).all()


def test_a_bad_series_is_left_out_by_name():
    rng = np.random.default_rng(6)
    stage = draw_stage(rng)
    tracks = [series(stage, rng, name=f"TS_{i}")[1] for i in range(6)]
    wrong = replace(tracks[2], position_angstrom=tracks[2].position_angstrom + rng.normal(0, 3000, (len(ANGLES), 2)))
    model = learn_goniometer([*tracks[:2], wrong, *tracks[3:]])
    assert model.left_out == ("TS_2",)
    assert model.series_count == 5


def mirrored(track, _):
    return replace(track, position_angstrom=track.position_angstrom * (-1.0, 1.0))


def with_angles_of_the_other_sign(track, _):
    return replace(track, tilts_deg=-track.tilts_deg)


def of_another_stage(track, other):
    return replace(other, name=track.name)


def of_wrong_peaks(track, _):
    jumps = np.random.default_rng(3).normal(0.0, 1000.0, track.position_angstrom.shape)
    return replace(track, position_angstrom=track.position_angstrom + jumps)


FAULTS = [mirrored, with_angles_of_the_other_sign, of_another_stage, of_wrong_peaks]


def session(seed, count):
    """Tracks of a stage, and one of another."""
    rng = np.random.default_rng(seed)
    stage, wrong = draw_stage(rng), draw_stage(rng)
    return [series(stage, rng, name=f"TS_{i}")[1] for i in range(count)], series(wrong, rng)[1]


@pytest.mark.parametrize("seed", [100, 104])
@pytest.mark.parametrize("fault", FAULTS)
def test_two_bad_series_of_ten_do_not_hide_each_other(fault, seed):
    tracks, other = session(seed, 10)
    good = [track for i, track in enumerate(tracks) if i not in (2, 7)]
    model = learn_goniometer([fault(track, other) if i in (2, 7) else track for i, track in enumerate(tracks)])
    assert model.left_out == ("TS_2", "TS_7")
    # rounds end before the last digit; one A is a hundredth of what the stage misses at random
    np.testing.assert_allclose(model.at(ANGLES), learn_goniometer(good).at(ANGLES), atol=1.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_series_alone_is_known_beside_those_learned_before(fault):
    tracks, other = session(100, 9)
    before = learn_goniometer(tracks[:8])
    same = learn_goniometer([fault(tracks[8], other)], before)
    assert (same.left_out, same.series_count) == (("TS_8",), 8)
    np.testing.assert_array_equal(same.coefficients_angstrom, before.coefficients_angstrom)
    more = learn_goniometer(tracks[8:], before)
    assert (more.left_out, more.series_count) == ((), 9)


@pytest.mark.parametrize("share", [0.03, 0.3])
def test_series_of_a_stage_that_repeats_badly_are_not_left_out(share):
    rng = np.random.default_rng(8)
    stage = draw_stage(rng, StageParams(repeat_share=share))
    model = learn_goniometer([series(stage, rng, name=f"TS_{i}")[1] for i in range(8)])
    assert (model.left_out, model.series_count) == ((), 8)


def test_series_beyond_the_stage_stop_no_others():
    """One beyond the limit of predictions teaches too; one beyond 90 degrees is left out by name."""
    rng = np.random.default_rng(6)
    stage = draw_stage(rng)
    angles = np.arange(0.0, 61.0, 5.0)
    tracks = [series(stage, rng, angles=angles, name=f"TS_{i}")[1] for i in range(4)]
    steep = replace(tracks[1], tilts_deg=tracks[1].tilts_deg * 82.0 / 60.0)
    wrong = replace(tracks[2], tilts_deg=tracks[2].tilts_deg * 182.0 / 60.0)
    model = learn_goniometer([tracks[0], steep, wrong], params=PredictionParams(harmonics=3))
    assert (model.left_out, model.series_count) == (("TS_2",), 2)
    with pytest.raises(InputError, match="within 90 degrees"):
        learn_goniometer([wrong])


def test_too_short_series_teach_nothing():
    rng = np.random.default_rng(6)
    _, short = series(draw_stage(rng), rng, angles=ANGLES[: FEWEST_TILTS - 1])
    with pytest.raises(InputError, match="fewest"):
        learn_goniometer([short])


def test_a_wrong_correlation_peak_is_rejected_and_a_jump_believed():
    rng = np.random.default_rng(12)
    _, measured = series(draw_stage(rng), rng)
    places = measured.position_angstrom.copy()
    places[20] += (4000.0, -3000.0)
    places[30:] += (5000.0, 5000.0)
    done = replay(replace(measured, position_angstrom=places))
    assert [i for i, bad in enumerate(done.rejected) if bad] == [20, 30]
    assert np.abs(done.error_angstrom[34:, :2]).max() < 1000


def test_a_step_in_height_takes_nothing_from_positions():
    """A refocus shifts every later height: the first is not believed, the second is, and positions go on throughout."""
    rng = np.random.default_rng(12)
    _, measured = series(draw_stage(rng), rng)
    plain = replay(measured)
    heights = measured.height_angstrom.copy()
    heights[5:] += 30000.0
    done = replay(replace(measured, height_angstrom=heights))
    assert not any(done.rejected)
    assert rms(done.error_angstrom[7:, :2]) < 1.3 * rms(plain.error_angstrom[7:, :2])
    assert rms(done.error_angstrom[9:, 2]) < 2.0 * rms(plain.error_angstrom[9:, 2])
    predictor = PositionPredictor()
    said = [
        predictor.update(tilt, place, height_angstrom=height).word
        for tilt, place, height in zip(measured.tilts_deg, measured.position_angstrom, heights, strict=True)
    ]
    assert "taken for a wrong height" in said[5]
    assert "heights start anew" in said[6]
    assert not any(said[:5] + said[7:])


def test_a_wrong_peak_leaves_the_height_of_its_focus():
    rng = np.random.default_rng(12)
    _, measured = series(draw_stage(rng), rng)
    predictor = PositionPredictor()
    for i in range(6):
        predictor.update(ANGLES[i], measured.position_angstrom[i], height_angstrom=measured.height_angstrom[i])
    before = predictor.predict(ANGLES[6])
    wrong = measured.position_angstrom[6] + (9000.0, 0.0)
    assert not predictor.update(ANGLES[6], wrong, height_angstrom=measured.height_angstrom[6]).accepted
    after = predictor.predict(ANGLES[6])
    assert after.focus_sigma_angstrom < before.focus_sigma_angstrom
    assert np.abs(after.position_angstrom - before.position_angstrom).max() < 100


def test_a_rejected_tracking_exposure_is_asked_for_again():
    rng = np.random.default_rng(3)
    _, measured = series(draw_stage(rng), rng)
    predictor = PositionPredictor(PredictionParams(position_tolerance_angstrom=1.0))
    predictor.add_target("T")
    predictor.add_target("F", (0.0, 30000.0), on_axis=True)
    for i in range(5):
        place = measured.position_angstrom[i]
        predictor.update(ANGLES[i], place, target="T")
        predictor.update(ANGLES[i], place + np.array([0.0, 30000.0]), target="F")
    spot = predictor.predict(ANGLES[5], "F").position_angstrom
    assert not predictor.update(ANGLES[5], spot + np.array([20000.0, 0.0]), target="F").accepted
    assert predictor.predict(ANGLES[5], "T").track_now
    assert predictor.update(ANGLES[5], spot, target="F").accepted
    assert not predictor.predict(ANGLES[5], "T").track_now


def test_a_prediction_or_a_wrong_measurement_makes_no_target():
    predictor = PositionPredictor()
    assert predictor.predict(3.0).target == "target"
    assert predictor.predict(3.0).position_angstrom == pytest.approx([0.0, 0.0])
    for wrong in ({"tilt_deg": 95.0, "position_angstrom": (0, 0)}, {"tilt_deg": 0.0}):
        with pytest.raises(InputError):
            predictor.update(**wrong)
    assert predictor.targets == ()
    predictor.update(0.0, (0.0, 0.0))
    assert predictor.targets == ("target",)


def test_a_repeated_angle_is_the_same_place():
    """Noise of the stage stays until it moves: a second look at the angle is predicted to the error of the first."""
    rng = np.random.default_rng(3)
    _, measured = series(draw_stage(rng), rng)
    predictor = PositionPredictor()
    for tilt, place in zip(measured.tilts_deg[:6], measured.position_angstrom[:6], strict=True):
        predictor.update(tilt, place, sigma_angstrom=30.0)
    again = predictor.predict(measured.tilts_deg[5])
    assert again.position_sigma_angstrom.max() < 31
    np.testing.assert_allclose(again.position_angstrom, measured.position_angstrom[5], atol=90)
    assert predictor.predict(measured.tilts_deg[6]).position_sigma_angstrom.min() > 100


def test_a_tracking_exposure_on_the_axis_serves_the_targets():
    """What the stage missed at this angle is seen at the spot; that way is then the best and is named."""
    places = ((0.0, 0.0), (0.0, 30000.0))
    before, after, ways = [], [], set()
    for seed in range(3):
        rng = np.random.default_rng(40 + seed)
        true = run_series(draw_stage(rng), ANGLES[:25], rng, places_angstrom=places)
        target, spot = (
            measured_track(t, rng, position_sigma_angstrom=30.0, height_sigma_angstrom=300.0) for t in true.tracks
        )
        predictor = PositionPredictor()
        predictor.add_target("T")
        predictor.add_target("F", places[1], on_axis=True)
        for i, tilt in enumerate(ANGLES[:25]):
            first = predictor.predict(tilt, "T")
            predictor.update(tilt, spot.position_angstrom[i], target="F", height_angstrom=spot.height_angstrom[i])
            second = predictor.predict(tilt, "T")
            assert not second.track_now  # it has just been done
            if i >= 10:
                before.append(first.position_angstrom - true.tracks[0].position_angstrom[i])
                after.append(second.position_angstrom - true.tracks[0].position_angstrom[i])
                ways.add(second.way)
            predictor.update(tilt, target.position_angstrom[i], target="T")
    assert ways == {"focus positions"}
    assert rms(after) < 0.5 * rms(before)
