"""The record of particles: what it refuses, and that nothing gets lost or changed by copying."""

import numpy as np
import pytest

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import Rotation
from eucentric.models import ParticleSet


def some(n: int, seed: int = 0, name: str = "TS_01") -> ParticleSet:
    rng = np.random.default_rng(seed)
    return ParticleSet.build(
        name,
        rng.uniform(-500, 500, (n, 3)),
        rotations=Rotation.random(n, rng).matrices,
        scores=rng.uniform(size=n),
        kinds=[f"k{i % 2}" for i in range(n)],
        columns={"eucQValue": rng.uniform(size=n)},
    )


def test_selecting_takes_the_same_rows_of_every_array():
    whole = some(6)
    part = whole.select([4, 1])
    for name in ("tomograms", "positions_angstrom", "rotations", "scores", "kinds"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[4, 1]])
    np.testing.assert_array_equal(part.columns["eucQValue"], whole.columns["eucQValue"][[4, 1]])
    assert len(whole.select([])) == 0
    with pytest.raises(ShapeError, match="one a row"):
        whole.select([True, False])


def test_joining_keeps_order_and_fills_missing_columns():
    a, b = some(2), some(3, 1, "a longer name").without_column("eucQValue").with_column("x", 2.0)
    both = ParticleSet.concatenate([a, b])
    assert both.tomogram_names == ("TS_01", "a longer name")
    assert both.columns["x"].tolist()[2:] == [2.0] * 3
    assert np.isnan(both.columns["eucQValue"][2:]).all()
    np.testing.assert_array_equal(both.in_tomogram("TS_01").positions_angstrom, a.positions_angstrom)
    assert len(ParticleSet.concatenate([])) == 0


def test_the_best_score_is_first_and_none_is_last():
    ranked = some(4).with_scores([0.1, np.nan, 0.9, 0.5]).by_score()
    assert ranked.scores.tolist()[:3] == [0.9, 0.5, 0.1]
    assert np.isnan(ranked.scores[3])


def test_the_arrays_cannot_be_written_to_and_are_not_the_givers():
    mine = np.zeros((2, 3))
    held = ParticleSet.build("a", mine)
    mine += 7.0
    assert not held.positions_angstrom.any()
    with pytest.raises(ValueError, match="read-only"):
        held.positions_angstrom[0, 0] = 1.0
    with pytest.raises(TypeError):
        held.columns["x"] = np.zeros(2)  # type: ignore[index]


def test_bare_points_are_known_as_such():
    assert not ParticleSet.build("a", np.zeros((2, 3))).oriented
    assert some(2).oriented
    assert not ParticleSet.empty().oriented


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions_angstrom": [[0.0, np.nan, 0.0], [0.0, 0.0, 0.0]]}, "position.*row 1"),
        ({"rotations": np.array([np.eye(3), np.diag([1.0, 1.0, -1.0])])}, "mirrored.*row 2"),
        ({"rotations": np.array([2 * np.eye(3), np.eye(3)])}, "stretched"),
        ({"rotations": np.full((2, 3, 3), np.nan)}, "NaN"),
        ({"scores": [np.inf, 0.0]}, "infinite score"),
        ({"tomograms": ["a", ""]}, "no name"),
        ({"scores": [1.0, 2.0, 3.0]}, "shape"),
        ({"columns": {"x": [1.0]}}, "`x`"),
        ({"positions_angstrom": np.zeros((2, 2))}, "shape"),
    ],
)
def test_what_is_no_particle_is_refused(changes, message):
    given = {"tomograms": ["a", "b"], "positions_angstrom": np.zeros((2, 3)), **changes}
    with pytest.raises(InputError, match=message):
        ParticleSet.build(given.pop("tomograms"), given.pop("positions_angstrom"), **given)
