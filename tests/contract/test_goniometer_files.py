"""Files of goniometer models and of predictions under way."""

import json

import numpy as np
import pytest

from eucentric.acquisition import GoniometerModel, learn_goniometer
from eucentric.acquisition.params import PredictionParams
from eucentric.errors import FormatError, InputError
from eucentric.io.goniometer_files import read_goniometer, write_goniometer, write_prediction_state
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.simulation.stage import draw_stage, run_series


@pytest.fixture(scope="module")
def model():
    import numpy as np

    rng = np.random.default_rng(1)
    true = run_series(draw_stage(rng), TiltScheme(step_deg=10).angles_in_order(), rng)
    return learn_goniometer(true.tracks, params=PredictionParams(harmonics=3))


def test_a_model_is_read_as_it_was_written(tmp_path, model):
    path = tmp_path / "krios.json"
    write_goniometer(path, model.to_dict())
    back = GoniometerModel.from_dict(read_goniometer(path))
    assert back.to_dict() == model.to_dict()
    assert set(json.loads(path.read_text())) > {"kind", "version", "harmonics", "covariance", "series_count"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "version 99"),
        ({"version": None}, "version None"),
        ({"kind": "something"}, "not an eucentric goniometer"),
    ],
)
def test_another_version_or_kind_is_refused(tmp_path, model, change, words):
    path = tmp_path / "krios.json"
    write_goniometer(path, model.to_dict())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match=words):
        read_goniometer(path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\udcff", '"a"', "[" * 100000])
def test_damaged_files_are_refused(tmp_path, text):
    path = tmp_path / "krios.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError):
        read_goniometer(path)


def test_a_state_is_no_model_and_no_file_is_none(tmp_path):
    write_prediction_state(tmp_path / "state.json", {})
    with pytest.raises(FormatError, match="stage prediction"):
        read_goniometer(tmp_path / "state.json")
    with pytest.raises(InputError, match="no file"):
        read_goniometer(tmp_path / "none.json")


def test_a_model_of_more_harmonics_than_are_predicted_is_refused(model):
    size = 6 * 41 + 3
    finer = {
        "coefficients_angstrom": np.zeros((3, 82)),
        "covariance": np.eye(size),
        "prior_sigma_angstrom": np.ones(size),
    }
    with pytest.raises(InputError, match="41 harmonics"):
        GoniometerModel.from_dict(model.to_dict() | finer | {"harmonics": 41})


@pytest.mark.parametrize(
    "change",
    [
        {"covariance": [[1.0]]},
        {"harmonics": 4},
        {"stage_noise_angstrom": -1.0},
        {"stage_noise_angstrom": 1e300},
        {"series_count": "many"},
        {"backlash_angstrom": [0.0, float("nan"), 0.0]},
    ],
)
def test_numbers_that_do_not_fit_are_refused(model, change):
    with pytest.raises(InputError, match="Learn it again"):
        GoniometerModel.from_dict(model.to_dict() | change)
    with pytest.raises(InputError, match="incomplete"):
        GoniometerModel.from_dict({k: v for k, v in model.to_dict().items() if k not in change})
