"""The equations of a tilting stage against the geometry of tilt series and the field's formulas."""

import numpy as np
import pytest

from eucentric.acquisition import PositionPredictor, PredictionParams
from eucentric.acquisition.stage_model import Layout, design, known_part, moves, run_out_rows
from eucentric.errors import InputError

TILTS = np.arange(-60.0, 61.0, 7.5)


def places(x: float, height: float, offset: float, tilts: np.ndarray) -> np.ndarray:
    """(n, 3) by the equations, nothing but geometry."""
    layout = Layout(4)
    state = np.zeros(layout.size)
    state[layout.geometry.start : layout.geometry.start + 2] = offset, height
    return np.array([design(layout, t, 1.0, 0.0, (x, 0.0)) @ state + known_part(t, (x, 0.0)) for t in tilts])


def test_a_point_turns_about_the_tilt_axis():
    x, height, offset = 12000.0, -7000.0, 1500.0
    got = places(x, height, offset, TILTS)
    for tilt, place in zip(np.deg2rad(TILTS), got, strict=True):
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])  # Ry
        expected = turn @ (x - offset, height) + (offset, 0.0)
        np.testing.assert_allclose(place[[0, 2]], expected, atol=1e-8)


def test_steps_are_those_of_the_eucentric_offset_formulas():
    """Eisenstein 2023: with their shift along -x, n0 = offset - X and z0 = height; their focus is changed by minus dF."""
    x, height, offset = 3000.0, 9000.0, -2500.0
    got = places(x, height, offset, TILTS)
    n0, z0 = offset - x, height
    sine, cosine = np.diff(np.sin(np.deg2rad(TILTS))), np.diff(np.cos(np.deg2rad(TILTS)))
    np.testing.assert_allclose(-np.diff(got[:, 0]), n0 * cosine - z0 * sine, atol=1e-8)
    np.testing.assert_allclose(np.diff(got[:, 2]), z0 * cosine + n0 * sine, atol=1e-8)


def test_run_out_is_nothing_at_zero_degrees():
    rows = run_out_rows(np.array([0.0, 90.0]), 2)
    np.testing.assert_allclose(rows, [[0, 0, 0, 0], [-1, -2, 1, 0]], atol=1e-12)


def test_direction_and_size_of_moves():
    directions, moved = moves(np.array([0.0, 3.0, -3.0, -3.0, 57.0]))
    assert directions.tolist() == [0, 1, -1, -1, 1]
    assert moved.tolist() == [0, 0.05, -0.1, 0, 1]


def test_a_pretilted_plane_seen_at_minus_the_pretilt_is_flat():
    """Targets on a lamella of 12 degrees, placed in an image at -12 degrees, lie at one height there."""
    predictor = PositionPredictor(PredictionParams(pretilt_deg=12.0))
    predictor.add_target("A")
    predictor.add_target("B", (40000.0, 0.0), seen_at_deg=-12.0)
    a, b = predictor.predict(-12.0, "A"), predictor.predict(-12.0, "B")
    assert b.position_angstrom[0] - a.position_angstrom[0] == pytest.approx(40000.0, abs=1e-6)
    assert b.height_angstrom - a.height_angstrom == pytest.approx(0.0, abs=1e-6)
    # at 48 degrees the flat plane has turned by 60: cos 60 of its length, and sin 60 lower
    a, b = predictor.predict(48.0, "A"), predictor.predict(48.0, "B")
    assert b.position_angstrom[0] - a.position_angstrom[0] == pytest.approx(20000.0, abs=1e-6)
    assert b.height_angstrom - a.height_angstrom == pytest.approx(-40000.0 * np.sin(np.deg2rad(60)), abs=1e-6)


@pytest.mark.parametrize("hand", [-1, 1])
def test_focus_follows_height_by_the_hand(hand):
    predictor = PositionPredictor(PredictionParams(hand=hand))
    predictor.update(0.0, (0.0, 0.0), height_angstrom=0.0, height_sigma_angstrom=10.0)
    predictor.update(3.0, (0.0, 0.0), height_angstrom=5000.0, height_sigma_angstrom=10.0)
    said = predictor.predict(3.0)
    assert said.height_angstrom > 4500
    assert said.focus_change_angstrom == hand * said.height_angstrom


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p.predict(85.0), "beyond the stage"),
        (lambda p: p.predict(float("nan")), "not a number"),
        (lambda p: p.update(3.0, (float("inf"), 0.0)), "expected two numbers"),
        (lambda p: p.update(3.0, (0.0, 0.0), height_angstrom=float("nan")), "height measured"),
        (lambda p: p.update(3.0), "neither a position nor a height"),
        (lambda p: p.update(3.0, (0.0, 0.0), sigma_angstrom=0.0), "standard deviation"),
        (lambda p: p.update(3.0, (0.0, 0.0), time_s=-5.0), "lies before"),
        (lambda p: p.predict(3.0, "B"), "no target B"),
        (lambda p: p.add_target("target"), "already"),
        (lambda p: p.add_target("C", (float("nan"), 0.0)), "expected two numbers"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(call, words):
    predictor = PositionPredictor()
    predictor.update(0.0, (0.0, 0.0))
    before = predictor.describe()
    with pytest.raises(InputError, match=words):
        call(predictor)
    assert predictor.describe() == before
