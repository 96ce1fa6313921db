"""Shapes between painted slices against solids whose every slice is known."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.signal.painted_labels import (
    Stroke,
    fill_between,
    interpolate_masks,
    painted_slices,
    signed_distance,
    stroke_mask,
)

Z, Y, X = np.meshgrid(np.arange(61.0), np.arange(80.0), np.arange(90.0), indexing="ij")


def dice(one, two):
    return 2.0 * (one & two).sum() / (one.sum() + two.sum())


def filled(solid, every, start=0):
    """The solid again, from each so many of its slices."""
    there = np.flatnonzero(solid.any((1, 2)))
    painted = {int(z): solid[z] for z in there[start::every]} | {int(there[-1]): solid[there[-1]]}
    out = np.zeros_like(solid)
    for z, mask in fill_between(painted).items():
        out[z] = mask
    return out


@pytest.mark.parametrize(("every", "least"), [(4, 0.985), (8, 0.955)])
def test_a_ball_comes_back_from_some_of_its_slices(every, least):
    ball = (X - 40.3) ** 2 + (Y - 37.6) ** 2 + (Z - 30.2) ** 2 <= 24.0**2
    assert dice(filled(ball, every), ball) > least


@pytest.mark.parametrize(("lean_deg", "every"), [(30.0, 10), (60.0, 10), (70.0, 8)])
def test_a_leaning_rod_is_followed_where_its_slices_do_not_meet(lean_deg, every):
    way = np.array([np.sin(np.deg2rad(lean_deg)), 0.3, np.cos(np.deg2rad(lean_deg))])
    way /= np.linalg.norm(way)
    offset = np.stack([X - 45.0, Y - 40.0, Z - 30.0], -1)
    along = offset @ way
    rod = ((offset**2).sum(-1) - along**2 <= 6.0**2) & (np.abs(Z - 30.0) <= 12)
    assert dice(filled(rod, every), rod) > 0.97


def test_two_things_stay_two_and_one_that_ends_does_not_spread():
    one, two = np.zeros((2, 60, 60), dtype=bool)
    one[10:20, 10:20] = two[12:22, 14:24] = True
    one[40:50, 40:50] = True  # has no other in the next slice
    (between,) = interpolate_masks(one, two, 2, [1])
    expected = np.zeros_like(one)
    expected[11:21, 12:22] = True
    assert np.array_equal(between, expected)
    assert not interpolate_masks(one, two, 200, [100])[0].any()  # far beyond what their widths can tell


def test_a_stroke_covers_what_lies_within_its_radius():
    stroke = Stroke(slice_index=3, places=np.array([[10.0, 20.0], [30.5, 8.0]]), radius=3.3)
    mask, box = stroke_mask((40, 50), stroke)
    whole = np.zeros((40, 50), dtype=bool)
    whole[box] = mask
    y, x = np.mgrid[:40, :50]
    t = np.linspace(0.0, 1.0, 4001)[:, None]
    line = (1 - t) * stroke.places[0] + t * stroke.places[1]
    away = np.array([np.hypot(line[:, 0] - b, line[:, 1] - a).min() for a, b in zip(y.ravel(), x.ravel(), strict=True)])
    assert np.array_equal(whole, (away <= 3.3).reshape(40, 50))
    outside = Stroke(slice_index=0, places=np.array([[-50.0, 4.0]]), radius=2.0)
    assert not stroke_mask((40, 50), outside)[0].any()


def test_filling_erasing_and_mending_an_interpolated_slice():
    ring = [[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]
    around = [Stroke(slice_index=z, places=np.array(ring), radius=0.5, fill=True) for z in (0, 10)]
    hole = Stroke(slice_index=5, places=np.array([[20.0, 20.0]]), radius=4.0, erase=True)
    painted = painted_slices((40, 40), [*around, hole])
    assert sorted(painted) == [0, 5, 10]
    assert painted[0][10:31, 10:31].all()
    assert painted[0].sum() == 21**2
    assert painted[0].sum() - painted[5].sum() == np.hypot(*np.mgrid[-4:5, -4:5]).__le__(4.0).sum()
    alone = painted_slices((40, 40), [Stroke(slice_index=5, places=np.array([[20.0, 20.0]]), radius=2.0)])
    assert list(alone) == [5]


@pytest.mark.parametrize(("places", "radius"), [([[1.0, np.nan]], 2.0), ([[1.0, 2.0]], 0.0), (np.zeros((0, 2)), 2.0)])
def test_a_stroke_that_is_none_is_refused(places, radius):
    with pytest.raises(InputError, match="cannot be painted"):
        stroke_mask((8, 8), Stroke(slice_index=0, places=np.array(places), radius=radius))


def test_signed_distance_is_zero_half_a_voxel_beside_the_outline():
    mask = np.zeros((9, 9), dtype=bool)
    mask[:, 4:] = True
    assert signed_distance(mask)[0].tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert (signed_distance(np.ones((3, 3))) > 0).all()
    assert (signed_distance(np.zeros((3, 3))) < 0).all()
