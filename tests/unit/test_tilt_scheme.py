"""Orders of tilts against what SerialEM's help says of its own, and laws of any scheme."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError

from eucentric.models import TiltScheme


def order(**settings):
    return TiltScheme(**settings).angles_in_order().tolist()


def test_groups_as_in_the_help_of_serialem():
    """`with a size of 2, images would be taken at angles 0, -2, -4, +2, +4, -6, -8, 6, 8`."""
    got = order(step_deg=2, min_deg=-8, max_deg=8, group_size=2, first_side="negative")
    assert got == [0, -2, -4, 2, 4, -6, -8, 6, 8]


def test_groups_grow_where_the_help_says():
    """`with an initial angle of 10 and an entry of 15 the groups would begin to increase at -5 and 25 degrees`."""
    got = order(start_deg=10, step_deg=5, min_deg=-30, max_deg=50, group_growth=1, group_growth_beyond_deg=15)
    assert got == [10, 15, 5, 20, 0, 25, 30, -5, -10, 35, 40, -15, -20, 45, 50, -25, -30]


def test_groups_grow_again_after_so_many_degrees():
    got = order(
        step_deg=10, min_deg=-60, max_deg=60, group_growth=1, group_growth_beyond_deg=20, group_growth_every_deg=20
    )
    assert got == [0, 10, -10, 20, 30, -20, -30, 40, 50, 60, -40, -50, -60]


def test_a_side_is_run_to_its_end_after_the_group_that_reaches_the_limit():
    got = order(step_deg=10, min_deg=-60, max_deg=60, group_size=2, one_sided_beyond_deg=30)
    assert got == [0, 10, 20, -10, -20, 30, 40, 50, 60, -30, -40, -50, -60]


def test_other_orders():
    ends = {"step_deg": 10, "min_deg": -20, "max_deg": 30}
    assert order(order="continuous", **ends) == [-20, -10, 0, 10, 20, 30]
    assert order(order="continuous", first_side="negative", **ends) == [30, 20, 10, 0, -10, -20]
    assert order(order="bidirectional", **ends) == [0, 10, 20, 30, -10, -20]
    assert order(order="bidirectional", start_deg=-10, first_side="negative", **ends) == [-10, -20, 0, 10, 20, 30]


def test_a_hybrid_scheme_gives_the_first_image_its_own_dose():
    doses = TiltScheme(step_deg=30, total_dose=100, start_dose=20).doses_in_order()
    assert_allclose(doses, [20, 20, 20, 20, 20])
    doses = TiltScheme(step_deg=30, total_dose=100, start_dose=60).doses_in_order()
    assert_allclose(doses, [60, 10, 10, 10, 10])


def test_dose_by_the_cosine():
    scheme = TiltScheme(step_deg=60, total_dose=100, dose_split="inverse-cosine")
    assert_allclose(scheme.angles_in_order(), [0, 60, -60])
    assert_allclose(scheme.doses_in_order(), [20, 40, 40])


@given(
    kind=st.sampled_from(["continuous", "bidirectional", "dose-symmetric"]),
    start=st.integers(-20, 20),
    step=st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0, 0.1 + 0.2]),
    low=st.integers(-66, -21),
    high=st.integers(21, 66),
    side=st.sampled_from(["positive", "negative"]),
    group=st.integers(1, 6),
    growth=st.integers(0, 3),
    beyond=st.floats(0, 70),
    every=st.floats(0, 30),
    one_sided=st.none() | st.floats(1, 70),
    first=st.none() | st.floats(1, 20),
)
def test_every_angle_once_within_the_range_and_all_dose_spent(
    kind, start, step, low, high, side, group, growth, beyond, every, one_sided, first
):
    scheme = TiltScheme(
        order=kind,
        start_deg=start,
        step_deg=step,
        min_deg=low,
        max_deg=high,
        first_side=side,
        group_size=group,
        group_growth=growth,
        group_growth_beyond_deg=beyond,
        group_growth_every_deg=every,
        one_sided_beyond_deg=one_sided,
        start_dose=first,
    )
    angles = scheme.angles_in_order()
    steps = np.sort((angles - start) / step)
    assert_allclose(steps, np.arange(round(steps[0]), round(steps[-1]) + 1), atol=1e-9)
    assert low - 1e-6 <= angles.min() < low + step + 1e-6
    assert high - step - 1e-6 < angles.max() <= high + 1e-6
    assert_allclose(scheme.doses_in_order().sum(), scheme.total_dose)
    if kind != "continuous":
        assert angles[0] == start
        sides = {"positive": angles > start, "negative": angles < start}
        assert sides[side][1] or not sides[side].any()
        for on_side in (angles[angles > start], -angles[angles < start]):  # outwards on each side
            assert (np.diff(on_side) > 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_deg": 10.0, "max_deg": -10.0}, "below min_deg"),
        ({"start_deg": 70.0}, "start_deg lies outside"),
        ({"max_deg": 90.0}, "within -90 and 90"),
        ({"start_dose": 120.0}, "leaves nothing"),
        ({"total_dose": 0.0}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        TiltScheme(**settings)
