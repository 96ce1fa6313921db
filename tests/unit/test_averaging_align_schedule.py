"""What one iteration tells the next."""

import math

import pytest

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.iterate_schedule import Round, box_for, is_settled, next_search, pixel_size_for


def rounds(*values: tuple[float, float, float, float]) -> list[Round]:
    """A start, and rounds of resolution, pixel size, change in degrees and in A."""
    start = (40.0, 8.0, math.inf, math.inf)
    return [
        Round(
            number=i,
            pixel_size_angstrom=pixel,
            resolution_angstrom=resolution,
            low_pass_angstrom=40.0,
            change_deg=turned,
            change_angstrom=moved,
            score=10.0,
        )
        for i, (resolution, pixel, turned, moved) in enumerate([start, *values])
    ]


def test_pixels_hold_the_detail_and_half_as_much_again():
    assert pixel_size_for(40.0, 2.0, 2.0) == 12.0
    assert pixel_size_for(12.0, 2.0, 2.0) == 4.0
    assert pixel_size_for(3.0, 2.0, 2.0) == 2.0
    # never finer than what is asked for, nor than the images
    assert pixel_size_for(6.0, 2.0, 4.0) == 4.0
    assert pixel_size_for(6.0, 4.0, 2.0) == 4.0


def test_boxes_span_the_same_edge():
    for pixel in (2.0, 3.0, 4.0, 8.0):
        box = box_for(384.0, pixel)
        assert box % 2 == 0
        assert 384.0 <= box * pixel < 384.0 * 1.2


def test_searches_narrow_with_what_moved():
    params = IterateParams(search="local", reach_deg=20.0, shift_angstrom=16.0)
    first = next_search(params, rounds(), 8.0)
    assert (first.search, first.reach_deg, first.shift_angstrom) == ("local", 20.0, 16.0)
    later = next_search(params, rounds((20.0, 8.0, 1.5, 2.0)), 8.0)
    assert (later.reach_deg, later.shift_angstrom) == (7.5, 10.0)
    still = next_search(params, rounds((20.0, 8.0, 0.1, 0.1)), 8.0)
    assert (still.reach_deg, still.shift_angstrom) == (4.0, 8.0)


def test_all_orientations_are_searched_twice_then_those_nearby():
    params = IterateParams(search="global")
    assert next_search(params, rounds((30.0, 8.0, 90.0, 5.0)), 8.0).search == "global"
    assert next_search(params, rounds((30.0, 8.0, 90.0, 5.0), (20.0, 8.0, 3.0, 1.0)), 8.0).search == "local"


@pytest.mark.parametrize(
    ("done", "settled"),
    [
        ([(30.0, 8.0, 5.0, 3.0), (20.0, 4.0, 2.0, 2.0)], False),
        ([(30.0, 8.0, 5.0, 3.0), (20.0, 4.0, 2.0, 2.0), (15.0, 4.0, 1.0, 1.0), (14.0, 4.0, 0.8, 1.0)], False),
        ([(30.0, 8.0, 5.0, 3.0), (14.0, 4.0, 2.0, 2.0), (14.0, 4.0, 1.0, 1.1), (14.0, 4.0, 0.8, 1.1)], True),
        # poses stand still
        ([(30.0, 8.0, 5.0, 3.0), (20.0, 4.0, 2.0, 2.0), (15.0, 4.0, 0.6, 0.9), (14.0, 4.0, 0.3, 0.3)], True),
        # pixels still stand in the way
        ([(12.0, 8.0, 5.0, 3.0), (12.0, 8.0, 2.0, 2.0), (12.0, 8.0, 1.0, 0.9), (12.0, 8.0, 0.3, 0.3)], False),
    ],
)
def test_iterations_end_when_nothing_gets_better(done, settled):
    assert is_settled(IterateParams(), rounds(*done), 4.0) is settled


def test_iterations_end_at_their_number():
    assert is_settled(IterateParams(max_iterations=1), rounds((20.0, 8.0, 5.0, 5.0)), 4.0)


def test_rounds_go_through_json():
    for one in rounds((20.0, 8.0, 5.0, 5.0)):
        assert Round.from_json(one.as_json()) == one
