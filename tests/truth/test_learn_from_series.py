"""Figures of a tilting stage from aligned series of a known stage, whose formulas stand here."""

import math
from dataclasses import replace

import numpy as np
import pytest

from eucentric.acquisition.advise import advise_series, advise_session
from eucentric.acquisition.judge_series import judge_series
from eucentric.acquisition.measure_track import estimate_image_shift, record_series
from eucentric.errors import InputError
from eucentric.models import CtfFit, ExcludedTilt, FrameShifts, Specimen, Tilt, TiltPose, TiltSeries

AXIS_DEG = 84.0
X0, Z0, AXIS, Y0 = 4000.0, 14000.0, -1500.0, 800.0  # A
TURN_DEG, SCALE = 37.0, 1.06  # of the image shift


def dose_symmetric(step=3.0, most=60.0):
    out, angle = [0.0], step
    while angle <= most:
        out += [angle, -angle]
        angle += step
    return np.array(out)


def grouped(step=3.0, size=2, most=60.0):
    up, out = list(np.arange(step, most + 1e-6, step)), [0.0]
    down = [-a for a in up]
    while up or down:
        for side in (up, down):
            out += side[:size]
            del side[:size]
    return np.array(out)


def a_series(
    tilts=None,
    *,
    follow=None,
    backlash=0.0,
    mirror=False,
    noise=20.0,
    hand=-1.0,
    focus="lens",
    seed=3,
    name="TS_01",
    **fields,
):
    """A series of a stage with an eucentric error.

    follow : None: no image shift in the file; "none": it did not move; "well": it follows with random errors; "rough": it follows
        a rough path that the errors are small against
    focus : "lens": defocus is brought back to its target, the lens says by how much; "fixed": never; "silent": as lens, unsaid
    """
    rng = np.random.default_rng(seed)
    tilts = grouped() if tilts is None else tilts
    t = np.deg2rad(tilts)
    direction = np.sign(np.diff(tilts, prepend=tilts[0]))
    across = X0 * np.cos(t) + Z0 * np.sin(t) + AXIS + backlash / 2 * direction + noise * rng.standard_normal(len(t))
    along = Y0 + noise * rng.standard_normal(len(t))
    height = Z0 * np.cos(t) - X0 * np.sin(t)
    turn = np.deg2rad(AXIS_DEG)  # the camera sees the frame of the axis turned by rlnTomoZRot
    place = np.stack(
        [np.cos(turn) * across - np.sin(turn) * along, np.sin(turn) * across + np.cos(turn) * along], axis=1
    )
    angle = np.deg2rad(TURN_DEG)
    matrix = 1e4 * SCALE * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirror:
        matrix = matrix @ np.diag([1.0, -1.0])
    shifts = np.full((len(t), 2), np.nan)
    seen = place
    if follow == "none":
        shifts = np.tile([0.3, -0.2], (len(t), 1))
    elif follow in ("well", "rough"):
        wanted = place + (250.0 if follow == "well" else 30.0) * rng.standard_normal(place.shape)
        if follow == "rough":  # the microscope measures a rough path well, so that what it left tells nothing of it
            place = place + 400.0 * rng.standard_normal(place.shape)
            wanted = place + 30.0 * rng.standard_normal(place.shape)
        shifts = -(wanted @ np.linalg.inv(matrix).T)
        seen = place + shifts @ matrix.T
    lens = {"lens": -height * hand, "silent": -height * hand, "fixed": np.zeros(len(t))}[focus]
    defocus = 30000.0 + hand * height + lens + 60.0 * rng.standard_normal(len(t))
    made = []
    for i, tilt in enumerate(tilts):
        made.append(
            Tilt(
                nominal_tilt_deg=float(tilt), acquisition=i, dose=3.0, pre_exposure=3.0 * i, time_s=60.0 * i, exposure_s=1.0,
                nominal_defocus_angstrom=30000.0,
                shown_defocus_angstrom=None if focus == "silent" else float(-22000.0 + lens[i]),
                image_shift_um=None if follow is None else (float(shifts[i, 0]), float(shifts[i, 1])),
                pose=TiltPose(
                    y_tilt_deg=float(tilt), z_rot_deg=AXIS_DEG, x_shift_angstrom=float(seen[i, 0]),
                    y_shift_angstrom=float(seen[i, 1]), sigma_angstrom=5.0,
                ),
                ctf=CtfFit(
                    defocus_u_angstrom=defocus[i] + 100.0, defocus_v_angstrom=defocus[i] - 100.0, defocus_sigma_angstrom=60.0
                ),
            )
        )  # fmt: skip
    return TiltSeries.sorted(
        made, **({"name": name, "pixel_size_angstrom": 2.0, "image_shape": (3000, 4000), "hand": hand} | fields)
    )


def assert_told(figure, truth, largest_sigma):
    assert figure.sigma < largest_sigma
    assert abs(figure.value - truth) < 4.0 * figure.sigma


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_eucentric_error_of_a_stage_that_was_not_followed(hand):
    judged = judge_series(a_series(follow="none", focus="fixed", hand=hand))
    fit = judged.eucentric
    assert (judged.measured.tracking, judged.measured.focusing) == ("none", "none")
    assert_told(fit.height, Z0, 60.0)
    assert_told(fit.distance, X0, 100.0)
    assert_told(fit.axis_offset, AXIS, 100.0)
    np.testing.assert_allclose(judged.measured.track.position_angstrom[0], [X0 + AXIS, Y0], atol=100.0)
    # the height of the path begins with 0 at tilt 0
    t = np.deg2rad(judged.recording.tilts_deg)
    np.testing.assert_allclose(
        judged.measured.track.height_angstrom, Z0 * (np.cos(t) - 1) - X0 * np.sin(t), atol=6 * 60.0 * math.sqrt(2)
    )


def test_poses_that_count_angles_the_other_way_tell_the_same():
    plain = a_series(follow="none", focus="fixed")
    # z mirrored: x = x0 cos(-t) + (-z0) sin(-t), and a height that counts the other way
    turned = [replace(t, pose=replace(t.pose, y_tilt_deg=-t.pose.y_tilt_deg)) for t in plain.tilts]
    other = judge_series(plain.with_tilts(turned).replace(hand=-plain.hand))
    np.testing.assert_allclose(
        [other.eucentric.height.value, other.eucentric.distance.value],
        [(fit := judge_series(plain).eucentric).height.value, fit.distance.value],
    )
    lamella = Specimen(pre_tilt_y_deg=9.0, pre_tilt_y_sigma_deg=0.3)
    assert judge_series(plain.with_tilts(turned).replace(specimen=lamella)).start_tilt_deg == 9.0


def test_heights_alone_tell_where_the_lens_is_known_and_the_image_shift_is_not():
    judged = judge_series(a_series(follow="rough", focus="lens"))
    assert (judged.measured.tracking, judged.measured.focusing) == ("residual", "corrected")
    assert not judged.eucentric.by_position
    assert_told(judged.eucentric.height, Z0, 300.0)
    assert_told(judged.eucentric.distance, X0, 200.0)
    assert not judged.eucentric.axis_offset.is_known


@pytest.mark.parametrize("mirror", [False, True])
def test_image_shift_is_found_from_what_a_smooth_path_does_not_explain(mirror):
    series = [a_series(follow="well", mirror=mirror, seed=s, name=f"TS_{s}") for s in range(2)]
    recordings = [record_series(one) for one in series]
    found = estimate_image_shift(recordings)
    assert found is not None
    assert found.mirrored is mirror
    angle = np.deg2rad(TURN_DEG)
    truth = 1e4 * SCALE * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    truth = truth @ np.diag([1.0, -1.0]) if mirror else truth
    assert np.abs(found.matrix - truth).max() < 5 * found.sigma_angstrom + 0.01 * 1e4  # errors in what it explains with
    assert abs(found.scale - SCALE) < 0.03
    judged = judge_series(series[0], found)
    assert judged.measured.tracking == "corrected"
    assert_told(judged.eucentric.height, Z0, 200.0)
    assert_told(judged.eucentric.axis_offset, AXIS, 250.0)
    assert abs(judged.eucentric.backlash_along.value) < 4 * judged.eucentric.backlash_along.sigma
    t = np.deg2rad(judged.recording.tilts_deg)
    across = X0 * np.cos(t) + Z0 * np.sin(t)
    path = judged.measured.track.position_angstrom
    np.testing.assert_allclose(path[:, 0] - path[0, 0], across - across[0], atol=0.03 * np.ptp(across))


def test_image_shift_that_cannot_be_told_is_not_used():
    assert estimate_image_shift([record_series(a_series(follow="rough"))]) is None
    assert estimate_image_shift([record_series(a_series())]) is None
    assert estimate_image_shift([record_series(a_series(follow="none"))]) is None
    assert estimate_image_shift([]) is None


def test_what_tracking_left_is_not_called_the_stage():
    judged = judge_series(a_series(focus="silent"))  # no image shift in the file
    assert (judged.measured.tracking, judged.measured.focusing) == ("unknown", "unknown")
    (advice,) = [one for one in advise_series(judged) if one.topic == "eucentric height"]
    assert "own tracking left" in advice.found
    assert "above" not in advice.found


def test_backlash_is_told_where_the_stage_turns_often():
    judged = judge_series(a_series(follow="none", focus="fixed", backlash=1200.0))
    assert_told(judged.eucentric.backlash_across, 1200.0, 60.0)
    assert abs(judged.eucentric.backlash_along.value) < 4 * judged.eucentric.backlash_along.sigma
    assert {one.topic for one in advise_series(judged)} >= {"backlash", "eucentric height"}
    once = np.concatenate([np.arange(0, 61, 3.0), np.arange(-3, -61, -3.0)])
    assert not judge_series(
        a_series(once, follow="none", focus="fixed", backlash=1200.0)
    ).eucentric.backlash_across.is_known


def test_direction_counts_images_that_were_left_out():
    whole = a_series(grouped(size=1), follow="none")
    gone = whole.without({0: "dark"})  # the last image taken but one is at 60, this one at -60
    np.testing.assert_array_equal(record_series(gone).direction, record_series(whole).direction[:-1])
    after = whole.without({i: "dark" for i, t in enumerate(whole.tilts) if t.acquisition == 2})
    assert record_series(after).direction[2] == 1.0  # from -3, which was left out, up to 6


def test_height_is_that_of_the_middle_of_the_specimen():
    flat = a_series(follow="none", focus="fixed")
    raised = flat.replace(specimen=Specimen(z_angstrom=3000.0))
    assert_told(judge_series(raised).eucentric.height, Z0 + 3000.0, 60.0)


def test_advice_says_how_far_above_and_what_to_do():
    (advice,) = [
        a for a in advise_series(judge_series(a_series(follow="none", focus="fixed"))) if a.topic == "eucentric height"
    ]
    assert "off by 1.4 um" in advice.found
    assert "above the tilt axis" in advice.found
    assert advice.remedy.startswith("Lower the stage by 1.4 um")
    assert "1.2 um sideways at 60 degrees" in advice.cost  # 1.4 sin 60
    assert "defocus 0.7 um" in advice.cost  # 1.4 (1 - cos 60)
    # a hand of +1 counts heights the other way: +z is then away from the source
    (other,) = [
        a
        for a in advise_series(judge_series(a_series(follow="none", focus="fixed", hand=1.0)))
        if a.topic == "eucentric height"
    ]
    assert other.remedy.startswith("Raise the stage")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_axis_is_set_by_its_own_offset_not_by_the_distance_of_the_target(monkeypatch, sign):
    monkeypatch.setitem(globals(), "Z0", 0.0)
    monkeypatch.setitem(globals(), "X0", 30000.0 * sign)
    monkeypatch.setitem(globals(), "AXIS", 0.0)
    told = {a.topic: a for a in advise_series(judge_series(a_series(follow="none", focus="fixed")))}
    assert "tilt axis" not in told
    assert told["off-axis target"].found.startswith("The target lay 3.0 um")
    assert not any("offset of the tilt axis" in a.text for a in told.values())
    monkeypatch.setitem(globals(), "AXIS", -30000.0 * sign)  # now the axis is off, and the target seen at the centre
    told = {a.topic: a for a in advise_series(judge_series(a_series(follow="none", focus="fixed")))}
    assert "off-axis target" not in told
    assert told["tilt axis"].remedy.startswith(
        f"Set the offset of the tilt axis on the microscope to {-3.0 * sign:+.2f} um"
    )
    assert told["tilt axis"].value == pytest.approx(-30000.0 * sign, abs=300.0)
    # the same with a constant image shift as long as it: the camera may have been moved, not the axis
    still = a_series(follow="none", focus="fixed")
    moved = still.with_tilts([replace(t, image_shift_um=(3.0, 0.0)) for t in still.tilts])
    assert "off-axis target" in {a.topic for a in advise_series(judge_series(moved))}
    assert "tilt axis" not in {a.topic for a in advise_series(judge_series(moved))}


def test_nothing_is_said_of_an_axis_that_only_heights_tell_of():
    topics = {a.topic for a in advise_series(judge_series(a_series(follow="rough", focus="lens")))}
    assert "off-axis target" in topics
    assert "tilt axis" not in topics


def test_a_good_series_gets_no_advice(monkeypatch):
    for name in ("X0", "Z0", "AXIS", "Y0"):
        monkeypatch.setitem(globals(), name, 0.0)
    good = a_series(
        grouped(size=1), follow="none", focus="fixed", specimen=Specimen(pre_tilt_y_deg=0.5, pre_tilt_y_sigma_deg=0.4)
    )
    assert advise_series(judge_series(good)) == ()
    assert advise_session([(), ()]) == ()


def test_a_lamella_wants_another_start():
    level = Specimen(pre_tilt_y_deg=9.0, pre_tilt_y_sigma_deg=0.3, mean_free_paths=0.9)
    judged = judge_series(a_series(follow="none", specimen=level))
    (start,) = [a for a in advise_series(judged) if a.topic == "start angle"]
    assert start.remedy.startswith("Start at -9 degrees, and tilt from -69 to 51")
    # 2 mean free paths: cos = 0.45, 63.3 degrees from level
    np.testing.assert_allclose(judged.steepest_deg, [-9 - 63.26, -9 + 63.26], atol=0.01)
    (steep,) = [a for a in advise_series(judged) if a.topic == "steep tilts"]
    assert steep.value == 2  # 57 and 60
    unsure = Specimen(pre_tilt_y_deg=9.0, pre_tilt_y_sigma_deg=6.0)
    assert "start angle" not in {a.topic for a in advise_series(judge_series(a_series(follow="none", specimen=unsure)))}


def test_a_range_about_level_is_right_wherever_it_starts():
    level = Specimen(pre_tilt_y_deg=9.0, pre_tilt_y_sigma_deg=0.3)

    def told(tilts):
        advice = advise_series(judge_series(a_series(np.array(tilts), follow="none", specimen=level)))
        return {a.topic: a for a in advice if a.topic in ("start angle", "tilt range")}

    assert told(np.arange(-69, 52, 3.0)) == {}
    assert told([*np.arange(-9, 52, 3.0), *np.arange(-12, -70, -3.0)]) == {}
    assert told([*np.arange(0, 52, 3.0), *np.arange(-3, -70, -3.0)]) == {}  # bidirectional
    assert told(grouped() - 9.0) == {}
    about_zero = told(np.arange(-60, 61, 3.0))
    assert about_zero.keys() == {"tilt range"}
    assert about_zero["tilt range"].remedy == "Tilt from -69 to 51 as far as the stage goes"
    assert about_zero["tilt range"].found.endswith("the series ran over -60 to 60")
    assert "2.8 thicknesses, not 2.0" in about_zero["tilt range"].cost  # 1 / cos 69, 1 / cos 60
    late = told([0.0, *(grouped() - 9.0)[(grouped() != 9.0)]])  # the right range, by turns, from 0 on
    assert late.keys() == {"start angle"}
    assert "thicknesses" not in late["start angle"].cost


def test_inclination_is_told_in_the_sense_of_the_stage():
    level = Specimen(pre_tilt_y_deg=9.0, pre_tilt_y_sigma_deg=0.3)
    plain = a_series(follow="none", specimen=level)
    turned = plain.with_tilts([replace(t, pose=replace(t.pose, y_tilt_deg=-t.pose.y_tilt_deg)) for t in plain.tilts])
    for one, inclined, start in ((plain, "+9.0", "-9"), (turned, "-9.0", "9")):
        (advice,) = [a for a in advise_series(judge_series(one)) if a.topic == "start angle"]
        assert advice.found.startswith(f"The specimen is inclined by {inclined} ")
        assert advice.remedy.startswith(f"Start at {start} degrees")


def test_field_kept_is_that_of_the_shifts():
    tilts = np.array([-40.0, -20.0, 0.0, 20.0, 40.0])
    made = [
        Tilt(
            nominal_tilt_deg=a, acquisition=i, dose=3.0, pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=a, z_rot_deg=0.0, x_shift_angstrom=0.0, y_shift_angstrom=600.0 if a == 40.0 else 0.0),
        )
        for i, a in enumerate(tilts)
    ]  # fmt: skip
    series = TiltSeries.sorted(made, name="a", pixel_size_angstrom=2.0, image_shape=(1500, 1000))
    kept = judge_series(series).field
    assert kept.by_all == pytest.approx(0.8, abs=0.02)  # 600 of 3000 A leave at the top
    np.testing.assert_allclose(kept.by_image, [1, 1, 1, 1, 0.8], atol=0.02)
    assert kept.by_most == pytest.approx(0.8, abs=0.02)  # 4 of 5 are fewer than nine in ten
    # along x the field narrows with the cosine, so that a shift of 400 A costs nothing at 40 degrees
    aside = [
        Tilt(
            nominal_tilt_deg=t.nominal_tilt_deg, acquisition=t.acquisition, dose=3.0, pre_exposure=t.pre_exposure,
            pose=TiltPose(y_tilt_deg=t.nominal_tilt_deg, z_rot_deg=0.0, x_shift_angstrom=220.0 if t.nominal_tilt_deg == 40 else 0.0),
        )
        for t in made
    ]  # fmt: skip
    assert judge_series(series.with_tilts(aside)).field.by_all == pytest.approx(1.0)


def with_motion(series, tau, start, *, late=0.0, frames=10, sigma=0.2, seed=0):
    """Movies of 1 s whose frames moved as a stage settles: speed start exp(-t / tau) + late, in a random direction."""
    rng = np.random.default_rng(seed)
    time = (np.arange(frames * 50) + 0.5) / (frames * 50)
    out = []
    for tilt in series.tilts:
        angle = rng.uniform(0, 2 * np.pi)
        gone = start * tau * (1 - np.exp(-time / tau)) + late * time
        path = gone.reshape(frames, 50).mean(axis=1)[:, None] * [np.cos(angle), np.sin(angle)]
        path = path - path.mean(axis=0) + sigma * rng.standard_normal((frames, 2))
        motion = FrameShifts(shifts_angstrom=path, sigma_angstrom=np.full(frames, sigma))
        out.append(
            tilt.__class__(**{f: getattr(tilt, f) for f in tilt.__dataclass_fields__ if f != "motion"}, motion=motion)
        )
    return series.with_tilts(out)


def test_settling_is_measured_and_the_wait_follows():
    series = with_motion(a_series(follow="none"), tau=0.8, start=60.0)
    motion = judge_series(series).motion
    assert abs(motion.settling_s.value - 0.8) < 4 * motion.settling_s.sigma
    assert motion.settling_s.sigma < 0.2
    assert motion.start_speed == pytest.approx(60.0, rel=0.05)
    assert motion.harmless_speed == pytest.approx(0.25 * 4.0 / 0.1)  # a quarter of 2 pixels in a frame of 0.1 s
    assert motion.wait_s == pytest.approx(0.8 * math.log(60.0 / 10.0), rel=0.15)
    (advice,) = [a for a in advise_series(judge_series(series)) if a.topic == "settling"]
    assert advice.remedy == "Settle 1 s longer after tilting"


def test_even_drift_is_no_settling():
    motion = judge_series(with_motion(a_series(follow="none"), tau=0.5, start=0.0, late=15.0)).motion
    assert not motion.settling_s.is_known
    assert motion.late.value == pytest.approx(15.0, abs=0.3)
    assert motion.early.value == pytest.approx(15.0, abs=0.3)
    still = judge_series(with_motion(a_series(follow="none"), tau=0.5, start=0.0)).motion
    assert not still.settling_s.is_known
    assert still.late.value < 1.0


def test_defocus_error_and_its_slope():
    judged = judge_series(a_series(follow="none", focus="fixed"))
    error = judged.defocus
    # 30000 - height - 30000, with height = Z0 cos - X0 sin
    t = np.deg2rad(judged.recording.tilts_deg)
    expected = -(Z0 * np.cos(t) - X0 * np.sin(t))
    assert error.mean.value == pytest.approx(expected.mean(), abs=60.0)
    slope = np.polyfit(judged.recording.tilts_deg, expected, 1)[0]
    assert slope > 0
    assert error.slope_per_deg.value == pytest.approx(slope, abs=4.0)
    assert {"defocus", "focus slope"} <= {a.topic for a in advise_series(judged)}
    assert "focus slope" not in {a.topic for a in advise_series(judge_series(a_series(follow="none", focus="lens")))}


@pytest.mark.parametrize(("height", "words"), [(9000.0, "farther from"), (-9000.0, "nearer to")])
def test_focus_is_to_be_moved_the_right_way(monkeypatch, height, words):
    for name, value in (("X0", 0.0), ("Z0", height)):
        monkeypatch.setitem(globals(), name, value)
    judged = judge_series(a_series(follow="none", focus="fixed"))  # of hand -1: the higher, the less underfocus
    (advice,) = [a for a in advise_series(judged) if a.topic == "defocus"]
    mean = 0.9 * np.cos(np.deg2rad(judged.recording.tilts_deg)).mean()
    assert advice.remedy == f"Focus {mean:.1f} um {words} focus"


def test_low_tilts_late_cost_information():
    climbing = judge_series(a_series(np.arange(-60, 61, 3.0), follow="none"))
    assert climbing.dose_order.level_dose == 60.0
    # information at 4 A of 3 e/A^2 steps, by Grant & Grigorieff's critical exposure
    critical = 0.24499 * 4.0**1.6649 + 2.8141
    off = np.abs(np.arange(-60, 61, 3.0))
    left = np.exp(-(3.0 * np.arange(41) + 1.5) / critical)
    best = np.exp(-(3.0 * np.argsort(np.argsort(off, kind="stable")) + 1.5) / critical)
    ratio = (left * np.cos(np.deg2rad(off))).sum() / (best * np.cos(np.deg2rad(off))).sum()
    assert climbing.dose_order.part_left == pytest.approx(ratio, rel=1e-3)
    assert "dose order" in {a.topic for a in advise_series(climbing)}
    plain = a_series(dose_symmetric(), follow="none")
    assert judge_series(plain).dose_order.part_left == pytest.approx(1.0, abs=1e-6)
    absurd = plain.replace(tilts=tuple(replace(tilt, dose=1e9) for tilt in plain.tilts))
    assert judge_series(absurd).dose_order is None


def test_what_is_not_known_is_left_out():
    bare = [
        Tilt(
            nominal_tilt_deg=a, acquisition=i, dose=0.0, pre_exposure=0.0,
            pose=TiltPose(y_tilt_deg=a, z_rot_deg=AXIS_DEG, x_shift_angstrom=3.0 * i),
        )
        for i, a in enumerate([0.0, 10.0, -10.0, 20.0, -20.0])
    ]  # fmt: skip
    series = TiltSeries.sorted(bare, name="bare", pixel_size_angstrom=2.0, image_shape=(1000, 1000))
    judged = judge_series(series)
    assert (judged.motion, judged.defocus, judged.dose_order) == (None, None, None)
    assert not judged.pre_tilt.is_known
    assert np.isnan(judged.drift_per_minute[0].value)
    assert np.isnan(judged.measured.track.height_angstrom).all()
    assert not {a.topic for a in advise_series(judged)} & {
        "defocus",
        "settling",
        "start angle",
        "steep tilts",
        "dose order",
    }


def test_refusals_in_words():
    series = a_series()
    with pytest.raises(InputError, match="4 tilts that can be used"):
        judge_series(series.with_tilts(series.tilts[:4]))
    unposed = [
        Tilt(nominal_tilt_deg=t.nominal_tilt_deg, acquisition=t.acquisition, dose=1, pre_exposure=0)
        for t in series.tilts
    ]
    with pytest.raises(InputError, match="has not been aligned"):
        judge_series(series.with_tilts(unposed))


def test_a_session_shares_its_advice():
    series = [a_series(follow="none", focus="fixed", seed=s, name=f"TS_{s}") for s in range(3)]
    words = advise_session([advise_series(judge_series(one)) for one in series])
    (height,) = [w for w in words if w.startswith("Eucentric height")]
    assert "(3 of 3 series; median 1.4 um" in height
    assert "Lower the stage" in height


def session_of(monkeypatch, topic, heights=None, levels=None):
    """What a session of these heights (A), or inclinations (degrees), is told of a topic."""
    monkeypatch.setitem(globals(), "X0", 0.0)
    advice = []
    for i, value in enumerate(heights or levels):
        monkeypatch.setitem(globals(), "Z0", value if heights else 0.0)
        level = None if heights else Specimen(pre_tilt_y_deg=-value, pre_tilt_y_sigma_deg=0.3)
        advice.append(advise_series(judge_series(a_series(follow="none", focus="fixed", seed=i, specimen=level))))
    (words,) = [w for w in advise_session(advice) if w.startswith(topic)]
    return words


def test_a_session_gets_a_direction_only_where_most_series_share_it(monkeypatch):
    words = session_of(monkeypatch, "Eucentric height", heights=[15000.0, -14000.0, 16000.0, -15500.0])
    assert "(4 of 4 series" in words
    assert words.endswith("It varies from series to series. Run the eucentric routine at each target.")
    words = session_of(monkeypatch, "Eucentric height", heights=[-15000.0, -14000.0, -16000.0, 4000.0])
    assert "Raise the stage by 1." in words
    words = session_of(monkeypatch, "Eucentric height", heights=[15000.0, 14000.0, 10.0, 0.0])  # the others lie well
    assert "Not most series share it. Run the eucentric" in words
    assert session_of(monkeypatch, "Start angle", levels=[-9.0, 12.0]).endswith("Choose a start for each target.")
    assert "Start at -9 degrees" in session_of(monkeypatch, "Start angle", levels=[-9.0, -9.0])


def test_blocked_tilts_are_named():
    series = a_series(follow="none")
    gone = series.replace(
        tilts=series.tilts[1:], excluded=(ExcludedTilt(tilt=series.tilts[0], reason="dark: blocked by a bar."),)
    )
    (advice,) = [a for a in advise_series(judge_series(gone)) if a.topic == "blocked tilts"]
    assert advice.found == "1 image left out, at -60 degrees (dark: blocked by a bar)"
    assert advice.cost.startswith("2% of the dose")
    assert advice.remedy.startswith("End at -57 and 60 degrees")
    more = (*gone.excluded, ExcludedTilt(tilt=series.tilts[-1], reason="drifted"))
    told = advise_series(judge_series(gone.replace(tilts=series.tilts[1:-1], excluded=more)))
    (advice,) = [a for a in told if a.topic == "blocked tilts"]
    assert advice.found == "2 images left out, at -60, 60 degrees (at -60: dark: blocked by a bar)"
