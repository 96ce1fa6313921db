"""Surfaces through contours of bodies that are known everywhere."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.picking.drawn_surfaces import surface_through_contours
from eucentric.picking.pick_geometry import mesh_points


def circle(radius, z, middle=(0.0, 0.0), count=9, start=0.0, sense=1.0):
    angle = start + sense * 2 * np.pi * np.arange(count) / count
    return np.stack([middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle), np.full(count, z)], 1)


def test_a_vesicle_from_circles_drawn_anyhow():
    heights = (-300.0, -200.0, -100.0, 0.0, 100.0, 200.0, 300.0)
    rings = [
        circle(np.sqrt(500.0**2 - z**2), z, start=1.3 * i, sense=(-1.0) ** i, count=10 + i)
        for i, z in enumerate(heights)
    ]
    surface = surface_through_contours(rings[::-1], 40.0, closed=True)
    away = np.linalg.norm(surface.vertices_angstrom, axis=1)
    assert np.abs(away - 500.0).max() < 6.0  # the chord of 100 A would sag by 2.5, the cubic through four slices less
    found = mesh_points(surface.vertices_angstrom, surface.faces, 60.0, np.random.default_rng(0))
    outwards = found.points / np.linalg.norm(found.points, axis=1, keepdims=True)
    assert np.einsum("ni,ni->n", outwards, found.rotations[:, :, 2]).min() > 0.97


def test_a_leaning_tube_turns_outwards_in_any_axis():
    for axis in range(3):
        rings = [
            np.roll(circle(120.0, z, middle=(0.5 * z, -0.3 * z), start=z), axis + 1, axis=1) for z in (0.0, 90.0, 200.0)
        ]
        surface = surface_through_contours(rings, 25.0, closed=True)
        a, b, c = (surface.vertices_angstrom[surface.faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        middle = (a + b + c) / 3.0
        height = middle[:, axis]
        axis_line = np.roll(np.stack([0.5 * height, -0.3 * height, height], 1), axis + 1, axis=1)
        assert (np.einsum("ni,ni->n", normal, middle - axis_line) > 0).all()


def test_an_open_sheet_is_followed_and_its_contours_are_kept():
    def bent(z, back=False):
        x = np.linspace(-400.0, 400.0, 8)
        line = np.stack([x, 0.0005 * x**2 + 0.2 * z, np.full(8, z)], 1)
        return line[::-1] if back else line

    surface = surface_through_contours([bent(0.0), bent(80.0, back=True), bent(160.0)], 20.0)
    x, y, z = surface.vertices_angstrom.T
    assert np.abs(y - (0.0005 * x**2 + 0.2 * z)).max() < 1.0
    for height in (0.0, 80.0, 160.0):
        assert np.isclose(z, height).sum() > 30


@pytest.mark.parametrize(
    ("contours", "closed", "words"),
    [
        ([circle(10, 0)], True, "two slices or more"),
        ([circle(10, 0), circle(20, 0)], True, "lie in one slice"),
        ([circle(10, 0)[:2], circle(10, 20)], True, "three different points"),
        ([circle(10, 0)[:1], circle(10, 20)], False, "two different points"),
    ],
)
def test_contours_that_make_no_surface_are_refused(contours, closed, words):
    with pytest.raises(InputError, match=words):
        surface_through_contours(contours, 5.0, closed=closed)
