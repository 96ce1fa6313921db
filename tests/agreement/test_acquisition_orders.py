"""Order, scheme and dose of every mdoc among the shared files, against what was worked out from each by hand.

What each file says, and why:

- 017, 018 (one session, listed by angle): dates and PriorRecordDose both begin 8, 10, 12, 6, 4, 14, 16, 2, 0: from 8 degrees (as the
  title's dosym = 8.0 says) in groups of two, positive first, by 2 degrees. Every image got 2.23843 e/A2, and the count grows by as
  much, but for one place: after 66 degrees it grows by twice that. There the scheme has 68 degrees, which the file lacks; with it the
  series spans 60 degrees on both sides of 8. The numbers in the movies' names count angles, not time.
- tilt_series: dates, numbers in names and the order of the file agree on 0, 3, -3, -6, 6, 9, -9, -12: groups of two of which the
  first image is one. ExposureDose = 0 means unknown, and nothing else tells a dose.
- frame_set_multiple: one movie of 20 exposures at 33 degrees. The count of dose is the sum of doses (0, 7.66184, 15.3237, ...);
  one angle is no tilt series.
- frame_set_single, TS_019_0046_56.0: one image each. The first has no count, so what came before it is not known.
- montages: no tilt series.
- practice: 3 e/A2 an image. TS_01 alternates by one image to 60 degrees, TS_03 to 51; TS_02 runs 0 to 60, then -3 to -60.
"""

import dataclasses

import numpy as np
import pytest

from eucentric.acquisition.recover_dose import recover_dose
from eucentric.acquisition.recover_order import recover_order
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.acquisition_orders import recover_orders
from eucentric.pipeline.image_facts import mdoc_facts


def only(path):
    (found,) = recover_orders([path])
    return found


def taken(found):
    return [round(found.sections[i].tilt_angle_deg) for i in found.recovered.order]


@pytest.mark.parametrize("name", ["mdoc/017.mdoc", "mdoc/018.mdoc", "session_TS_018/018.mdoc"])
def test_a_session_listed_by_angle(shared_data, name):
    found = only(shared_data / "formats" / name)
    got = found.recovered
    assert got.status == "told"
    assert got.confidence > 0.99
    assert taken(found)[:9] == [8, 10, 12, 6, 4, 14, 16, 2, 0]
    assert taken(found)[-5:] == [-46, -48, 66, -50, -52]
    scheme = got.scheme
    assert (scheme.order, scheme.start_deg, scheme.step_deg, scheme.first_side) == ("dose-symmetric", 8, 2, "positive")
    assert (scheme.group_size, scheme.group_growth, scheme.start_in_first_group) == (2, 0, False)
    assert (scheme.min_deg, scheme.max_deg) == (-52, 68)
    assert got.missing_deg == (68,)
    np.testing.assert_allclose(got.dose.doses, 2.23843)
    assert got.dose.before_source == "PriorRecordDose"
    first, last = got.order[0], got.order[-1]
    assert (got.dose.before[first], got.dose.before[last]) == (0.0728312, 134.379)
    # 61 images with that at 68 degrees
    assert scheme.total_dose == pytest.approx(61 * 2.23843, rel=1e-4)
    assert {e.source for e in got.evidence if e.agrees} >= {"dates", "doses before (PriorRecordDose)", "title"}
    assert [e.agrees for e in got.evidence if e.source.startswith("numbers")] == [False]


def test_groups_that_the_first_image_belongs_to(shared_data):
    found = only(shared_data / "formats" / "mdoc" / "tilt_series.mdoc")
    got = found.recovered
    assert got.status == "told"
    assert got.order == tuple(range(41))
    assert got.scheme == TiltScheme(group_size=2, start_in_first_group=True)
    np.testing.assert_allclose(got.scheme.angles_in_order(), taken(found))
    assert got.dose.source == "unknown"
    assert got.dose.before_source == "unknown"
    assert np.isnan(got.dose.before).all()
    assert not got.faults


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("TS_01", TiltScheme(total_dose=123.0)),
        ("TS_02", TiltScheme(order="bidirectional", total_dose=123.0)),
        ("TS_03", TiltScheme(min_deg=-51, max_deg=51, total_dose=105.0)),
    ],
)
def test_practice(shared_data, name, scheme):
    got = only(shared_data / "practice" / f"{name}.mdoc").recovered
    assert got.status == "told"
    assert got.order == tuple(range(len(got.order)))
    assert got.scheme == scheme
    np.testing.assert_allclose(got.dose.before, 3.0 * np.arange(len(got.order)))
    assert got.dose.confidence > 0.95
    assert not got.faults


def test_files_that_hold_no_series(shared_data):
    folder = shared_data / "formats" / "mdoc"
    found = {name: only(folder / f"{name}.mdoc") for name in (
        "frame_set_multiple", "frame_set_single", "TS_019_0046_56.0.mrc", "montage_section", "montage_section_multiple",
    )}  # fmt: skip
    exposures = found["frame_set_multiple"].recovered
    assert exposures.order == tuple(range(20))
    assert exposures.scheme is None
    assert exposures.words == "one angle alone"
    assert exposures.dose.before[[0, 1, 19]].tolist() == [0.0, 7.66184, 145.817]
    assert exposures.dose.confidence > 0.95  # the count is the sum of the doses
    for name, dose, before in (("frame_set_single", 7.65892, np.nan), ("TS_019_0046_56.0.mrc", 2.23843, 103.041)):
        got = found[name].recovered
        assert (got.status, got.scheme) == ("unknown", None)
        assert got.dose.doses.tolist() == [dose]
        np.testing.assert_equal(got.dose.before, [before])
    for name in ("montage_section", "montage_section_multiple"):
        assert found[name].recovered is None
        assert "montage" in found[name].problem


def test_what_the_camera_counts_is_less_than_the_dose(shared_data):
    """Electrons behind the specimen are no dose: in files that tell both they are a half of it."""
    found = only(shared_data / "formats" / "mdoc" / "018.mdoc")
    facts = [dataclasses.replace(f, dose=0.0, frame_dose=None) for f in mdoc_facts(found.sections)]
    dose = recover_dose(facts, None)
    assert np.isnan(dose.doses).all()
    assert dose.at_least == pytest.approx(6.99207 * 0.759969 / 1.971**2, rel=1e-3)
    assert dose.at_least < 0.7 * 2.23843


def test_an_mdoc_without_times_is_not_guessed_silently(shared_data):
    """018 as a file that lists angles alone: with its title a guess that is told, without it none."""
    found = only(shared_data / "formats" / "mdoc" / "018.mdoc")
    bare = [dataclasses.replace(f, time_s=None, prior_dose=None) for f in mdoc_facts(found.sections)]
    guess = recover_order(bare, {"dosym": 8.0})
    assert guess.status == "guess"
    assert guess.confidence < 0.5
    offered = [guess.scheme, *(a.scheme for a in guess.alternatives)]
    assert all(s.order == "dose-symmetric" and s.start_deg == 8 for s in offered)
    truth = [(s.group_size, s.first_side, s.start_in_first_group) for s in offered]
    assert (2, "positive", False) in truth
    unknown = recover_order(bare)
    assert unknown.order is None
    assert unknown.scheme is None
    assert {a.scheme.order for a in unknown.alternatives} == {"dose-symmetric", "bidirectional", "continuous"}
