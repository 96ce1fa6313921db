"""Laws: what a scheme takes is recovered from its times, and is among what is offered without them."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eucentric.acquisition.fit_scheme import order_by_scheme
from eucentric.acquisition.order_records import ImageFacts
from eucentric.acquisition.recover_order import recover_order
from eucentric.models.tilt_scheme import TiltScheme

_LAWS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def schemes(draw, *, simple=False):
    step = draw(st.sampled_from([1.5, 2.0, 3.0, 5.0]))
    start = draw(st.integers(-4, 4)) * step
    up, down = draw(st.integers(6, 13)), draw(st.integers(6, 13))
    if simple:
        up = down
    order = draw(st.sampled_from(["continuous", "bidirectional", "dose-symmetric"]))
    common = {
        "order": order, "step_deg": step, "start_deg": start, "min_deg": start - down * step, "max_deg": start + up * step,
        "first_side": draw(st.sampled_from(["positive", "negative"])),
    }  # fmt: skip
    if order == "dose-symmetric":
        common["group_size"] = draw(st.integers(1, 4))
        common["start_in_first_group"] = common["group_size"] > 1 and draw(st.booleans())
        if not simple:
            kind = draw(st.sampled_from(["plain", "growing", "one side"]))
            if kind == "growing":
                common |= {
                    "group_growth": draw(st.integers(1, 2)),
                    "group_growth_beyond_deg": step * draw(st.integers(1, 5)),
                }
            if kind == "one side":
                common["one_sided_beyond_deg"] = step * draw(st.integers(3, 5))
    return TiltScheme(**common)


def facts(scheme, seed, *, timed=True, dose=2.0):
    """Images in a shuffled file, or in one sorted by angle, from a stage that stops some hundredths of a degree away."""
    rng = np.random.default_rng(seed)
    angles = scheme.angles_in_order() + rng.normal(0, 0.02, len(scheme.angles_in_order()))
    listed = rng.permutation(len(angles)) if timed else np.argsort(angles)
    images = [
        ImageFacts(angle_deg=float(angles[i]), dose=dose, time_s=1000.0 + 30.0 * i if timed else None) for i in listed
    ]
    return images, listed


@given(scheme=schemes(), seed=st.integers(0, 2**31))
@_LAWS
def test_a_scheme_comes_back_from_its_times(scheme, seed):
    images, listed = facts(scheme, seed)
    got = recover_order(images)
    assert [int(listed[i]) for i in got.order] == list(range(len(images)))
    assert got.status == "told"
    np.testing.assert_allclose(got.scheme.angles_in_order(), scheme.angles_in_order(), atol=1e-6)
    np.testing.assert_allclose(got.dose.before[list(got.order)], 2.0 * np.arange(len(images)))


@given(scheme=schemes(), seed=st.integers(0, 2**31), lost=st.integers(1, 3))
@_LAWS
def test_missing_images_change_neither_order_nor_scheme(scheme, seed, lost):
    images, listed = facts(scheme, seed)
    rng = np.random.default_rng(seed)
    # what lies at the ends, or begins the series, leaves no trace that an angle is missing
    inner = [
        i for i, image in enumerate(images)
        if listed[i] > 2 and scheme.min_deg + 1 < image.angle_deg < scheme.max_deg - 1
    ]  # fmt: skip
    gone = set(rng.choice(inner, lost, replace=False).tolist())
    kept = [i for i in range(len(images)) if i not in gone]
    got = recover_order([images[i] for i in kept])
    order = [int(listed[kept[i]]) for i in got.order]
    assert order == sorted(order)
    assert got.scheme is not None
    angles = [images[i].angle_deg for i in np.argsort(listed) if i not in gone]
    assert order_by_scheme(angles, got.scheme) == list(range(len(kept)))


@given(scheme=schemes(simple=True), seed=st.integers(0, 2**31))
@_LAWS
def test_without_times_the_truth_is_offered_and_nothing_chosen(scheme, seed):
    images, _ = facts(scheme, seed, timed=False)
    got = recover_order(images)
    assert (got.status, got.order, got.scheme) == ("unknown", None, None)
    assert got.confidence < 0.5
    offered = [a.scheme.angles_in_order() for a in got.alternatives]
    assert any(np.allclose(o, scheme.angles_in_order(), atol=1e-6) for o in offered)
    assert sum(a.probability for a in got.alternatives) < 1
    assert np.isnan(got.dose.before).all()


@given(scheme=schemes(simple=True), seed=st.integers(0, 2**31))
@_LAWS
def test_a_title_narrows_what_is_offered(scheme, seed):
    if scheme.order == "continuous":
        return
    images, _ = facts(scheme, seed, timed=False)
    tag = {"dose-symmetric": "dosym", "bidirectional": "bidir"}[scheme.order]
    got = recover_order(images, {tag: scheme.start_deg})
    assert got.status == "guess"
    assert got.confidence < 0.6
    offered = [got.scheme, *(a.scheme for a in got.alternatives)]
    assert {(s.order, s.start_deg) for s in offered} == {(scheme.order, scheme.start_deg)}
    assert any(np.allclose(s.angles_in_order(), scheme.angles_in_order(), atol=1e-6) for s in offered)
