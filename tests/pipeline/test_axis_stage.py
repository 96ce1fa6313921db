"""The tilt axis of a data set: who is aligned again, who is left alone, and what is done again afterwards."""

import dataclasses

import numpy as np
import pytest
from toy_stages import ANGLES

from eucentric.alignment.params import AlignParams
from eucentric.errors import ProcessingError
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.pipeline import aligning
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.stages import axis as axis_stage
from eucentric.pipeline.stages.axis import ShareAxis

OWN = {"TS_01": 84.02, "TS_02": 83.98, "TS_03": 84.0, "TS_04": 85.0}


class Aligned(ItemStage):
    """Poses with an axis that stands in this file; one series is uncertain of its own."""

    name, params, version, after = "align", AlignParams, 1, "import"

    def run(self, series, params, store, device):
        turn = OWN[series.name]
        poses = [TiltPose(y_tilt_deg=t.nominal_tilt_deg, z_rot_deg=turn, x_shift_angstrom=7.0) for t in series.tilts]
        sigma = 0.5 if series.name == "TS_04" else 0.02
        metrics = {"tilt_axis_deg": turn, "tilt_axis_sigma_deg": sigma}
        return Outcome(series=aligning.with_poses(series, poses), metrics=metrics)


class NoParams(Frozen):
    """None."""


class After(ItemStage):
    """Pass on what the axis stage left."""

    name, params, version, after = "after", NoParams, 1, "axis"

    def run(self, series, params, store, device):
        return Outcome(series=series)


STAGES = (Aligned, ShareAxis, After)


def write_project(root, names):
    series = []
    if not (root / "image.mrc").exists():
        write_mrc(root / "image.mrc", np.ones((8, 8), np.float32), 4.0, "float32", is_volume=False)
    for name in names:
        tilts = tuple(
            Tilt(
                nominal_tilt_deg=a,
                acquisition=i,
                dose=3.0,
                pre_exposure=3.0 * i,
                nominal_axis_deg=84.3,
                image="image.mrc",
            )
            for i, a in enumerate(ANGLES)
        )
        series.append(TiltSeries(name=name, pixel_size_angstrom=4.0, image_shape=(8, 8), tilts=tilts))
    write_tilt_series_set(root / "import" / "tilt_series.star", series, root)
    Plan.write_default(root, {}, STAGES)


@pytest.fixture
def asked(monkeypatch):
    """Which series were aligned again, about which axis; the second alignment keeps the axis and marks the shifts."""
    calls = []

    def again(series, images, params, *, axis_deg, tracks=None, progress=None):
        assert tracks is None
        calls.append((series.name, axis_deg, params.axis_search_deg, params.start))
        poses = [dataclasses.replace(p, x_shift_angstrom=9.0) for p in series.poses]
        return aligning.Aligned(
            series=aligning.with_poses(series, poses),
            metrics={"tilt_axis_deg": axis_deg},
            curves={"tilt_deg": np.zeros(1)},
        )

    monkeypatch.setattr(axis_stage, "align_series", again)
    return calls


def go(root):
    return run_project(root, device="cpu", stages=STAGES, workers=1)


def test_only_the_series_that_the_others_correct_is_aligned_again(tmp_path, asked):
    write_project(tmp_path, OWN)
    assert go(tmp_path).exit_code == 0
    assert [(name, search, start) for name, _, search, start in asked] == [("TS_04", 0.0, "imported")]
    assert asked[0][1] == pytest.approx(84.0, abs=0.1)
    turned = read_tilt_series(tmp_path / "after/tilt_series.star", "TS_04", tmp_path).poses[0]
    assert turned.z_rot_deg == pytest.approx(84.0, abs=0.1)
    assert turned.x_shift_angstrom == 9.0
    kept = read_tilt_series(tmp_path / "after/tilt_series.star", "TS_01", tmp_path).poses[0]
    assert (kept.z_rot_deg, kept.x_shift_angstrom) == (84.02, 7.0)
    assert "turned from 85.00 to 84.0" in read_record(tmp_path / "axis", "TS_04").caveats[0]
    assert (tmp_path / "axis/curves/TS_04.npz").is_file()


def test_a_new_series_does_not_redo_what_comes_after_for_the_others(tmp_path, asked):
    write_project(tmp_path, list(OWN)[:3])
    go(tmp_path)
    write_project(tmp_path, OWN)
    tally = go(tmp_path).stages["after"]
    assert (tally.processed, tally.unchanged) == (1, 3)


def test_a_series_that_cannot_be_aligned_again_stays_as_it_was(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ProcessingError("The images match nothing.")

    monkeypatch.setattr(axis_stage, "align_series", fails)
    write_project(tmp_path, OWN)
    assert go(tmp_path).exit_code == 0
    assert read_tilt_series(tmp_path / "after/tilt_series.star", "TS_04", tmp_path).poses[0].z_rot_deg == 85.0
    assert "match nothing" in read_record(tmp_path / "axis", "TS_04").caveats[0]


def test_two_series_overrule_nobody_and_the_stage_may_be_passed_over(tmp_path, asked):
    write_project(tmp_path, ["TS_03", "TS_04"])
    run_stage(tmp_path, "align", device="cpu", stages=STAGES, workers=1)
    assert run_stage(tmp_path, "after", device="cpu", stages=STAGES, workers=1).exit_code == 0
    go(tmp_path)
    assert asked == []
