"""Orders, doses and faults of series that were written down image by image."""

import dataclasses
import re

import numpy as np
import pytest

from eucentric.acquisition import fit_scheme
from eucentric.acquisition.fit_scheme import find_lattice, fit_schemes
from eucentric.acquisition.order_records import ImageFacts
from eucentric.acquisition.recover_order import as_part, recover_order
from eucentric.acquisition.split_series import find_restarts, split_series
from eucentric.models.tilt_scheme import TiltScheme

SHORT = TiltScheme(min_deg=-24, max_deg=24)


def series(angles, *, dose=3.0, minute=0.0, **more):
    return [
        ImageFacts(angle_deg=float(a), time_s=60.0 * (minute + i), dose=dose, prior_dose=dose * i, **more)
        for i, a in enumerate(angles)
    ]


def changed(images, **values):
    return [dataclasses.replace(i, **values) for i in images]


def by_angle(images):
    return sorted(images, key=lambda i: i.angle_deg)


def kinds(got):
    return {f.kind for f in got.faults}


def test_hagens_groups_hold_the_first_image():
    """Hagen, Wan & Briggs (2017): 0, 3, -3, -6, 6, 9, -9, -12."""
    made = TiltScheme(group_size=2, start_in_first_group=True).angles_in_order()
    assert made[:8].tolist() == [0, 3, -3, -6, 6, 9, -9, -12]
    assert sorted(made) == sorted(TiltScheme().angles_in_order())


def test_sides_are_not_exchanged():
    for side in ("positive", "negative"):
        scheme = SHORT.replace(first_side=side, group_size=3)
        got = recover_order(by_angle(series(scheme.angles_in_order())))
        assert got.scheme.first_side == side
        np.testing.assert_allclose(got.scheme.angles_in_order(), scheme.angles_in_order())


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("PriorRecordDose", {"time_s": None}),
        ("names", {"time_s": None, "prior_dose": None}),
    ],
)
def test_any_one_witness_is_enough(source, values):
    images = [
        dataclasses.replace(image, name_time_s=100.0 * i, **values)
        for i, image in enumerate(series(SHORT.angles_in_order()))
    ]
    if source == "PriorRecordDose":
        images = changed(images, name_time_s=None)
    got = recover_order(by_angle(images))
    assert got.status == "told"
    assert source in got.source
    assert got.scheme.replace(total_dose=120) == SHORT
    np.testing.assert_allclose(got.dose.before[list(got.order)], 3.0 * np.arange(17))


def test_a_file_that_is_listed_as_a_scheme_takes_it_needs_no_times():
    images = changed(series(SHORT.angles_in_order()), time_s=None, prior_dose=None)
    got = recover_order(images)
    assert got.status == "told"
    assert got.source == "order in the file"
    assert got.confidence < recover_order(series(SHORT.angles_in_order())).confidence


def test_a_sorted_file_tells_nothing():
    images = by_angle(changed(series(SHORT.angles_in_order()), time_s=None, prior_dose=None))
    for listed in (images, images[::-1]):
        got = recover_order(listed)
        assert got.status == "unknown"
        assert got.order is None
        assert len(got.alternatives) > 10


def test_some_dates_and_the_scheme_tell_the_rest():
    images = series(SHORT.angles_in_order())
    images = [
        dataclasses.replace(x, prior_dose=None, time_s=None if i in (4, 9) else x.time_s) for i, x in enumerate(images)
    ]
    got = recover_order(by_angle(images))
    assert got.status == "told"
    np.testing.assert_allclose([by_angle(images)[i].angle_deg for i in got.order], SHORT.angles_in_order())


def test_dates_of_a_copy_are_no_witness():
    """All alike, as a program writes them that converts a file."""
    images = by_angle(changed(series(SHORT.angles_in_order()), time_s=5.0, prior_dose=None))
    assert recover_order(images).status == "unknown"


def test_dates_against_doses_before_are_told():
    images = series(SHORT.angles_in_order())
    wrong = [dataclasses.replace(x, prior_dose=images[-1 - i].prior_dose) for i, x in enumerate(images)]
    got = recover_order(wrong)
    assert "conflict" in kinds(got)
    np.testing.assert_allclose([wrong[i].angle_deg for i in got.order], SHORT.angles_in_order())


def test_a_title_that_is_wrong_is_told():
    got = recover_order(series(SHORT.angles_in_order()), {"bidir": -20.0})
    assert got.status == "told"
    assert got.scheme.order == "dose-symmetric"
    assert "title" in kinds(got)
    assert [e.agrees for e in got.evidence if e.source == "title"] == [False]


def test_few_images_leave_several_schemes():
    got = recover_order(series([0, 3, -3]))
    assert got.status == "told"
    assert got.scheme_confidence < 0.9
    offered = [got.scheme, *(a.scheme for a in got.alternatives)]
    # 0, 3, -3 may go on with 6, or with -6
    assert {(1, False), (2, True)} <= {(s.group_size, s.start_in_first_group) for s in offered if s is not None}
    two = recover_order(series([0, 3]))
    assert two.order == (0, 1)
    assert two.scheme is None
    assert "too few" in two.words
    assert len(two.alternatives) > 2


def test_an_order_of_no_scheme_is_kept_without_one():
    angles = np.random.default_rng(3).permutation(np.arange(-30, 31, 3)).astype(float)
    got = recover_order(series(angles))
    assert got.status == "told"
    assert got.order == tuple(range(21))
    assert got.scheme is None
    assert "no scheme" in got.words


def test_one_image_out_of_place_is_named():
    angles = SHORT.angles_in_order().tolist()
    angles.insert(12, angles.pop(5))
    got = recover_order(series(angles))
    assert got.scheme.replace(total_dose=120) == SHORT
    assert any(f"{TiltScheme().angles_in_order()[5]:.1f}" in f.text for f in got.faults if f.kind == "conflict")


def test_a_fine_step_is_found_over_a_long_series():
    """Gaps of 1 degree deviate by a tenth of it, a median gap by 0.02: 60 steps on it would be an image out."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        angles = np.arange(-60.0, 61.0) + rng.normal(0, 0.07, 121) + 0.02
        lattice = find_lattice(np.delete(angles, rng.choice(121, 5, replace=False)))
        assert (lattice.step_deg, lattice.zero_deg % 1.0) == (1.0, 0.0)


def test_unequal_steps_are_no_lattice():
    """Saxton's steps shrink with the cosine."""
    angles = np.rad2deg(np.arcsin(np.linspace(0, 0.85, 20)))
    assert find_lattice(angles) is None
    assert fit_schemes(angles) == ()
    assert recover_order(series(angles)).order == tuple(range(20))


# --- dose ---------------------------------------------------------------------------------------------------------


def test_a_boosted_first_image_is_seen():
    images = series(SHORT.angles_in_order(), dose=2.0)
    images[0] = dataclasses.replace(images[0], dose=20.0)
    images = [dataclasses.replace(x, prior_dose=0.0 if i == 0 else 20.0 + 2.0 * (i - 1)) for i, x in enumerate(images)]
    got = recover_order(by_angle(images))
    assert got.scheme.start_dose == 20.0
    np.testing.assert_allclose(got.scheme.doses_in_order(), [20.0] + [2.0] * 16)
    assert got.dose.confidence > 0.95


def test_inverse_cosine_doses_are_seen():
    scheme = SHORT.replace(dose_split="inverse-cosine", total_dose=60.0, min_deg=-57, max_deg=57)
    doses = scheme.doses_in_order()
    images = [
        ImageFacts(angle_deg=float(a), time_s=60.0 * i, dose=float(d))
        for i, (a, d) in enumerate(zip(scheme.angles_in_order(), doses, strict=True))
    ]
    got = recover_order(by_angle(images))
    assert got.scheme.dose_split == "inverse-cosine"
    np.testing.assert_allclose(got.scheme.doses_in_order(), doses, rtol=1e-4)


def test_doses_of_frames_and_growth_of_the_count_stand_in():
    images = series(SHORT.angles_in_order())
    frames = recover_order(changed(images, dose=0.0, prior_dose=None, frame_dose=2.5))
    assert frames.dose.source == "doses of frames"
    np.testing.assert_allclose(frames.dose.before, 2.5 * np.arange(17))
    count = recover_order(changed(images, dose=0.0))
    assert count.dose.source == "growth of PriorRecordDose"
    np.testing.assert_allclose(count.dose.doses, 3.0)


def test_a_count_that_disagrees_with_the_doses_is_told():
    images = [dataclasses.replace(x, dose=4.0) for x in series(SHORT.angles_in_order())]
    got = recover_order(images)
    assert got.dose.confidence <= 0.5
    assert any(re.search(r"0\.75 times", f.text) for f in got.faults if f.kind == "dose")


def test_a_count_that_falls_along_the_order_is_not_used():
    images = by_angle(series(SHORT.angles_in_order()))
    images = [dataclasses.replace(x, prior_dose=3.0 * i) for i, x in enumerate(images)]
    got = recover_order(images)
    assert got.source == "dates"
    np.testing.assert_allclose(got.dose.before[list(got.order)], 3.0 * np.arange(17))
    assert got.dose.confidence <= 0.5
    (fault,) = [f for f in got.faults if f.kind == "dose"]
    assert "falls 8 times" in fault.text
    unknown = recover_order(changed(images, dose=None))
    assert np.isnan(unknown.dose.before).all()
    assert any("is unknown" in f.text for f in unknown.faults)


def test_a_count_that_is_set_to_zero_once_is_joined():
    images = series(SHORT.angles_in_order())
    images = images[:9] + [dataclasses.replace(x, prior_dose=x.prior_dose - 27.0) for x in images[9:]]
    got = recover_order(images)
    assert got.dose.before_source == "PriorRecordDose"
    np.testing.assert_allclose(got.dose.before, 3.0 * np.arange(17))


def test_an_image_that_the_file_lacks_is_found_by_its_dose():
    whole = series(SHORT.angles_in_order())
    lost = [x for x in whole if x.angle_deg != 9]
    got = recover_order(by_angle(lost))
    assert got.missing_deg == (9,)
    assert {"dose", "missing"} <= kinds(got)
    outermost = [x for x in whole if x.angle_deg != 24]
    got = recover_order(by_angle(outermost))
    assert got.missing_deg == (24,)
    assert got.scheme.max_deg == 24


def test_what_the_camera_counted_is_no_dose():
    images = changed(
        series(SHORT.angles_in_order()), dose=0.0, prior_dose=None, dose_rate=8.0, exposure_s=2.0, pixel_angstrom=2.0
    )
    got = recover_order(images)
    assert np.isnan(got.dose.doses).all()
    assert got.dose.source == "unknown"
    assert got.dose.at_least == pytest.approx(4.0)


# --- restarted ----------------------------------------------------------------------------------------------------


def test_a_restarted_series_counts_the_dose_of_what_it_repeats():
    order = SHORT.angles_in_order()
    images = series(order[:7]) + series(order, minute=30.0)  # the count begins anew with the second
    rng = np.random.default_rng(0)
    listed = rng.permutation(len(images))
    got = recover_order([images[i] for i in listed])
    sequence = [int(listed[i]) for i in got.order]
    assert sequence == list(range(24))
    assert {"restart"} <= kinds(got)
    assert [len(p.images) for p in got.parts] == [7, 17]
    assert sorted(int(listed[i]) for i in got.replaced) == list(range(7))
    assert got.scheme.replace(total_dose=120) == SHORT
    assert all(p.scheme is not None and p.scheme.order == "dose-symmetric" for p in got.parts)
    # 7 images of 3 e/A2 came before the second beginning
    np.testing.assert_allclose(got.dose.before[list(got.order)], 3.0 * np.arange(24))
    assert any("begins anew with the restart" in f.text for f in got.faults)
    assert any("23.0 min" in f.text or "24.0 min" in f.text for f in got.faults if f.kind == "restart")


def test_a_series_taken_up_again_two_tilts_back():
    order = SHORT.angles_in_order().tolist()
    angles = order[:9] + order[7:]
    images = changed(series(angles), prior_dose=None)
    got = recover_order(images)
    assert len(got.parts) == 2
    assert got.replaced == (7, 8)
    assert got.scheme.replace(total_dose=120) == SHORT
    np.testing.assert_allclose(got.dose.before, 3.0 * np.arange(19))


def test_one_image_twice_is_no_restart():
    order = SHORT.angles_in_order().tolist()
    angles = [*order[:6], order[5], *order[6:]]
    got = recover_order(series(angles))
    assert got.parts == ()
    assert got.replaced == (5,)
    assert "double" in kinds(got)
    assert got.scheme.replace(total_dose=120) == SHORT
    assert find_restarts([0, 1, 2, 2, 3]) == []
    assert find_restarts([0, 1, 2, 0, 1, 2]) == [3]


def test_a_pause_is_told():
    images = series(SHORT.angles_in_order())
    late = [dataclasses.replace(x, time_s=x.time_s + 3600.0 * (i > 8)) for i, x in enumerate(images)]
    assert "pause" in kinds(recover_order(late))
    assert "pause" not in kinds(recover_order(images))


# --- interleaved --------------------------------------------------------------------------------------------------


def mixed(first, second):
    return [image for pair in zip(first, second, strict=True) for image in pair]


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ({"navigator_label": "4"}, {"navigator_label": "7"}, "navigator labels"),
        ({"root": "TS_01"}, {"root": "TS_02"}, "names of movies"),
        ({"stage_um": (10.0, -20.0)}, {"stage_um": (14.0, -20.0)}, "stage positions"),
        ({"shift_um": (0.1, 0.2)}, {"shift_um": (0.1, 3.2)}, "image shifts"),
    ],
)
def test_two_series_mixed_are_told_apart(one, other, how):
    angles = SHORT.angles_in_order()
    split = split_series(mixed(series(angles, **one), series(angles, **other)))
    assert split.groups == (tuple(range(0, 34, 2)), tuple(range(1, 34, 2)))
    assert how in split.how
    assert 0.7 < split.confidence < 0.99


def test_marks_that_agree_are_surer_and_those_that_do_not_are_not():
    angles = SHORT.angles_in_order()
    marks = {"navigator_label": "4", "root": "TS_01"}, {"navigator_label": "7", "root": "TS_02"}
    assert split_series(mixed(*(series(angles, **m) for m in marks))).confidence > 0.99
    images = mixed(*(series(angles, **m) for m in marks))
    torn = [dataclasses.replace(x, navigator_label="4" if (i + i // 8) % 2 else "7") for i, x in enumerate(images)]
    assert split_series(torn).confidence < 0.9


def test_a_stage_that_moved_within_a_series_does_not_part_it():
    images = series(SHORT.angles_in_order())
    moved = [dataclasses.replace(x, stage_um=(10.0 + 3.0 * (i > 8), -20.0)) for i, x in enumerate(images)]
    assert len(split_series(moved).groups) == 1


def test_mixed_series_that_nothing_tells_apart_are_doubted():
    angles = SHORT.angles_in_order()
    split = split_series(mixed(series(angles), series(angles)))
    assert len(split.groups) == 2
    assert split.confidence <= 0.5


def test_a_needle_that_turns_all_the_way_has_no_scheme():
    got = recover_order(series(np.arange(-90.0, 91.0, 2.0)))
    assert got.status == "told"
    assert got.scheme is None


def test_few_images_in_the_order_of_a_scheme_may_be_so_by_chance():
    images = changed(series([3, 0, -3, 6]), time_s=None, prior_dose=None)
    assert recover_order(images).status == "guess"


def test_what_is_found_of_a_part_is_as_sure_as_the_part():
    found = recover_order(series(SHORT.angles_in_order()))
    assert (found.status, found.confidence) == ("told", 0.999)
    part = as_part(found, 0.95)
    assert (part.status, part.order, part.scheme) == ("told", found.order, found.scheme)
    assert (part.confidence, part.scheme_confidence) == (0.949, 0.949)
    assert part.dose.confidence == pytest.approx(0.95 * found.dose.confidence, abs=1e-3)
    assert as_part(found, 0.9).status == "guess"  # 0.899: less than the 90% of what is told
    listed = recover_order(by_angle(changed(series(SHORT.angles_in_order()), time_s=None, prior_dose=None)))
    half = as_part(listed, 0.5)
    assert (half.status, half.order) == ("unknown", None)
    assert half.alternatives[0].probability == pytest.approx(0.5 * listed.alternatives[0].probability, abs=1e-4)


def test_one_odd_angle_makes_no_finer_steps():
    angles = [*range(-60, 61, 3)]
    angles.insert(18, -9.65)
    assert find_lattice(angles) is None
    got = recover_order(series(angles))
    assert got.scheme is None
    assert got.missing_deg == ()


def test_angles_taken_twice_are_named_where_steps_are_unequal():
    got = recover_order(series([0.0, 4.2, 4.2, -4.2, 9.7, -9.7, 17.1]))
    assert got.replaced == (1,)


@pytest.mark.parametrize(
    "angles",
    [(-50, 50), (-80, 0.0, 80, 0.0), (1e300, 3, 6, -3), (-400, 3, 6, 400), (-60, -30, 0, 30, 29.688, 30, 60)],
)
def test_angles_of_no_scheme_are_put_in_order_all_the_same(angles):
    got = recover_order(series(angles))
    assert got.order == tuple(range(len(angles)))


@pytest.mark.parametrize(
    ("doses", "known"),
    [
        ([1e-7] * 7, True),
        ([1e20, 1, 1, 1, 1, 1, 1], False),
        ([9e4, *[1e-12] * 6], True),
        ([1e300] * 7, False),
        ([2e4] * 7, True),
    ],
)
def test_doses_that_no_specimen_gets(doses, known):
    images = [
        dataclasses.replace(image, dose=dose, prior_dose=float(sum(doses[:i])))
        for i, (image, dose) in enumerate(zip(series([0, 3, -3, 6, -6, 9, -9]), doses, strict=True))
    ]
    got = recover_order(images)
    assert got.scheme.order == "dose-symmetric"
    assert np.isfinite(got.dose.doses).all() == known


def test_one_image_out_of_place_is_not_looked_for_in_every_way(monkeypatch):
    looked = []
    plain = fit_scheme._first_difference
    monkeypatch.setattr(fit_scheme, "_first_difference", lambda *a: looked.append(1) or plain(*a))
    angles = [*range(-60, 61, 2)]
    for place, repeated in ((20, 10), (40, 50)):
        assert fit_schemes([*angles[:place], repeated, *angles[place:]])
    assert len(looked) < 10_000
