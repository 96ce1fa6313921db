"""Aberrations of series from one microscope and from several, and the names of their optics groups."""

from dataclasses import replace

import numpy as np
import pytest

from eucentric.io.star import read_star_text
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models import Optics, ParticleSet, groups_of_optics
from eucentric.pipeline.refine_optics import optics_apart, with_optics
from eucentric.pipeline.refine_state import ALL_SERIES, RoundState
from eucentric.pipeline.refine_work import SeriesDone
from eucentric.refinement.normal_equations import FoldedEquations
from eucentric.refinement.params import RefineParams
from eucentric.refinement.refine_series import SeriesRefinement
from eucentric.refinement.results import SeriesMemory, TiltSignal
from eucentric.refinement.unknowns import SeriesState
from refinement_scene import tilt_series

PARAMS = RefineParams()
TRUE = {"TS_A": (1.0, -0.5), "TS_B": (1.0, -0.5), "TS_C": (-0.8, 0.6), "TS_D": (0.0, 0.0)}
"""Beam tilt in mrad of each series that particles show, x and y; that of the last is as it is told."""


def _series(optics):
    """TS_A to TS_D, of the optics given by name, or the usual ones."""
    return tuple(
        tilt_series(name, step=30.0).replace(**{"optics": Optics(), **optics.get(name, {})}) for name in sorted(TRUE)
    )


def _state(series):
    every = ParticleSet.concatenate([ParticleSet.build(s.name, np.zeros((1, 3))) for s in series])
    return RoundState(
        number=0,
        series=series,
        deformations={},
        particles={"blobs": every},
        memory={},
        groups=dict(zip((s.name for s in series), groups_of_optics(series), strict=True)),
        history=(),
    )


def _done(series, seed):
    """What particles say of the beam tilt of a series: that it is the true one, each set with noise of a tenth of it."""
    rng = np.random.default_rng(seed)
    left = np.array(TRUE[series.name]) - series.optics.beam_tilt_mrad
    matrices = np.tile(100.0 * np.eye(2), (PARAMS.folds, 1, 1))
    rights = 100.0 * left + rng.normal(0.0, 10.0, (PARAMS.folds, 2))
    refinement = SeriesRefinement(
        state=SeriesState(series=series, deformation=None, particles=()),
        memory=SeriesMemory(),
        log_likelihood=(0.0,),
        images=1,
        signal=TiltSignal(frequency=np.zeros(1), contrast=np.zeros((1, 1)), sigma=np.zeros((1, 1))),
        optics={"beam tilt": FoldedEquations(matrices=matrices, rights=rights)},
    )
    return SeriesDone(name=series.name, species=(), refinement=refinement)


def _refined(state, only=None):
    return with_optics(state, [_done(s, i) for i, s in enumerate(state.series) if only in (None, s.name)], PARAMS)


@pytest.mark.parametrize(
    "apart",
    [{"optics_group": "krios 2"}, {"pixel_size_angstrom": 5.2}, {"optics": Optics(spherical_aberration_mm=0.01)}],
    ids=["name", "pixel size", "Cs"],
)
def test_each_microscope_gets_its_own_beam_tilt(apart):
    state = _state(_series({"TS_C": apart, "TS_D": {"optics": Optics(voltage_kv=200.0)}}))
    first = _refined(state)
    after = _refined(first)
    for one in after.series:
        assert one.optics.beam_tilt_mrad == pytest.approx(TRUE[one.name], abs=0.05), one.name
    assert after.series[0].optics == after.series[1].optics
    assert {n: len(own) for n, own in after.shared.items()} == dict.fromkeys(after.memory, 1) | {
        next(n for n, own in after.shared.items() if "TS_A" in own): 2
    }
    # the second time groups are those of the beginning, though their beam tilts differ by now
    assert list(after.memory) == list(first.memory)
    told = optics_apart(PARAMS, after)[0]
    assert "TS_A, TS_B" in told
    assert optics_apart(PARAMS.replace(groups=("shifts",)), after) == []


def test_one_microscope_has_one_set():
    state = _state(_series({}))
    after = _refined(state)
    assert list(after.memory) == [ALL_SERIES]
    assert len({s.optics for s in after.series}) == 1
    mean = np.mean([*TRUE.values()], axis=0)
    assert after.series[0].optics.beam_tilt_mrad == pytest.approx(tuple(mean), abs=0.1)
    assert optics_apart(PARAMS, after) == []


def test_series_left_out_keep_their_optics():
    after = _refined(_state(_series({})), only="TS_A")
    assert after.series[0].optics.beam_tilt_mrad == pytest.approx(TRUE["TS_A"], abs=0.1)
    assert {s.optics for s in after.series[1:]} == {Optics()}


def test_names_of_groups_survive_a_table(tmp_path):
    krios = {"optics_group": "krios"}
    series = _series({"TS_A": krios, "TS_B": krios | {"optics": Optics(voltage_kv=200.0)}, "TS_D": krios})
    write_tilt_series_set(tmp_path / "tilt_series.star", series, tmp_path)
    names = read_star_text(tmp_path / "tilt_series.star")["global"]["rlnOpticsGroupName"]
    assert names == ["krios", "krios_2", "opticsGroup1", "krios"]
    again = read_tilt_series_set(tmp_path / "tilt_series.star", tmp_path)
    assert [s.optics_group for s in again] == ["krios", "krios_2", None, "krios"]
    write_tilt_series_set(tmp_path / "tilt_series.star", again, tmp_path)
    assert read_star_text(tmp_path / "tilt_series.star")["global"]["rlnOpticsGroupName"] == names
    # what tables count by themselves keeps no series apart
    assert groups_of_optics([replace(s, optics_group=None) for s in series]) == (
        "opticsGroup1",
        "opticsGroup2",
        "opticsGroup1",
        "opticsGroup1",
    )
