"""`eucentric acquisition predict`: a conversation in lines."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import eucentric
from eucentric.acquisition import PositionPredictor, PredictionParams, learn_goniometer
from eucentric.cli.main import run
from eucentric.errors import FormatError, InputError
from eucentric.io.goniometer_files import write_goniometer
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.prediction_session import HEADER, PredictionSession
from eucentric.simulation.stage import draw_stage, run_series

START = ("target A 0 0", "target B 2 -1.5 at 3", "spot F 0 3", "measured 0 0 0 A height 0 time 0")


@pytest.fixture(scope="module")
def goniometer():
    rng = np.random.default_rng(1)
    tracks = run_series(draw_stage(rng), TiltScheme(step_deg=10).angles_in_order(), rng).tracks
    return learn_goniometer(tracks, params=PredictionParams(harmonics=3))


def words(answer):
    """Numbers of an answer to `predict`, by name."""
    parts = answer.split()
    return {
        "shift": (float(parts[1]), float(parts[2])),
        "focus": float(parts[4]),
        "sigma": tuple(float(p) for p in parts[6:9]),
        "track": parts[10],
        "way": parts[12],
        "target": parts[14],
    }


@pytest.mark.parametrize(
    ("option", "value", "count"),
    [("--harmonics", "5", "learned with 3"), ("--stage-noise-angstrom", "50", "learned with")],
)
def test_what_a_goniometer_brings_is_not_replaced_unsaid(goniometer, tmp_path, capsys, option, value, count):
    path = tmp_path / "stage.json"
    write_goniometer(path, goniometer.to_dict())
    arguments = ["acquisition", "predict", "--goniometer", str(path), "--pretilt-deg", "10"]
    assert run([*arguments, option, value]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{option} {value} was given with a goniometer that was {count}" in said
    assert f"Leave {option} out" in said
    for settings in (PredictionParams(pretilt_deg=10), PredictionParams(harmonics=3)):  # nothing of it, or the same
        assert PredictionSession(settings, goniometer).answer("measured 0 0 0") == "ok"


def test_answers_are_those_of_the_predictor():
    session = PredictionSession(PredictionParams(pretilt_deg=10))
    told = PositionPredictor(PredictionParams(pretilt_deg=10))
    told.add_target("A")
    told.add_target("B", (20000.0, -15000.0), seen_at_deg=3.0)
    told.add_target("F", (0.0, 30000.0), on_axis=True)
    told.update(0.0, (0.0, 0.0), target="A", height_angstrom=0.0, time_s=0.0)
    told.update(3.0, (512.0, -31.0), target="A", sigma_angstrom=40.0, time_s=65.0)
    told.update(3.0, None, target="F", height_angstrom=-900.0, height_sigma_angstrom=300.0)
    for line in (
        *START,
        "measured 3 0.0512 -0.0031 A sigma 0.004 time 65",
        "height 3 -0.09 F height-sigma 0.03",
    ):
        assert session.answer(line) == "ok"
    said, expected = words(session.answer("predict 6 B time 130")), told.predict(6.0, "B", time_s=130.0)
    assert said["shift"] == pytest.approx(expected.position_angstrom / 1e4, abs=6e-5)
    assert said["focus"] == pytest.approx(-expected.height_angstrom / 1e4, abs=6e-5)
    assert said["sigma"] == pytest.approx(
        [*expected.position_sigma_angstrom / 1e4, expected.focus_sigma_angstrom / 1e4], abs=6e-5
    )
    assert (said["track"], said["target"]) == ("yes" if expected.track_now else "no", "B")
    assert said["way"] == expected.way.replace(" ", "-")


def test_a_residual_is_counted_from_the_prediction():
    one, other = PredictionSession(), PredictionSession()
    for session in (one, other):
        for line in (*START, "measured 3 0.05 0.01", "measured -3 -0.06 -0.01"):
            session.answer(line)
    x, y = words(one.answer("predict 6"))["shift"]
    assert one.answer("residual 0.010 -0.004 A") == "ok"
    other.answer(f"measured 6 {x + 0.010:.6f} {y - 0.004:.6f} A")
    assert words(one.answer("predict 9"))["shift"] == pytest.approx(words(other.answer("predict 9"))["shift"], abs=3e-4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("turn 3", "not known"),
        ("predict", "Expected 1 number"),
        ("predict three", "three"),
        ("predict 91", "beyond the stage"),
        ("predict 3 C", "no target C"),
        ("predict 3 A time", "not understood"),
        ("predict 3 A sigma 5", "of: time"),
        ("predict 3 A time 65 time 70", "each once"),
        ("target D 0 0 sigma 5 height 3", "of: at"),
        ("target time 0 0", "another name"),
        ("measured 3 0.05 0 A at 60", "not understood"),
        ("measured 3 0.05 0 A height-sigma 0.1", "there is no `height`"),
        ("height 3 0.1 A sigma 0.1", "of: time, height-sigma"),
        ("state A", "Nothing is expected"),
        ("measured 3 0.1 inf", "`inf` is not a number"),
        ("measured 3 0.1 0 A time 1e300", "not a number that can be used"),
        ("measured 3 0.1 12000", "1.2e+04 um is longer"),
        ("measured 3 0.1 0 A sigma 5e4", "5e+04 um is longer"),
        ("measured 3 0.1", "Expected 3 numbers"),
        ("measured 3 nan 0", "`nan` is not a number"),
        ("measured 3 0 0 A weight 3", "not understood"),
        ("measured 3 0 0 A time -9", "lies before"),
        ("residual 0.1 0.1 B", "Say `predict` first"),
        ("target A 1 1", "already"),
        ("target C 1", "Expected a name"),
        ("save", "name of a file"),
        ("save /proc/none/x.json", "cannot be written"),
    ],
)
def test_what_is_wrong_is_answered_and_nothing_changes(line, said):
    session = PredictionSession()
    for start in START:
        session.answer(start)
    before = session.answer("state"), session.answer("predict 3 A")
    answer = session.answer(line)
    assert answer.startswith("error ")
    assert said in answer
    assert "\n" not in answer
    assert (session.answer("state"), session.answer("predict 3 A")) == before


def test_measurements_finer_than_any_image_tells_are_used_as_far_as_they_go():
    session = PredictionSession()
    for line in ("target A 0 0", *["measured 0 0 0 A sigma 1e-200 height 0 height-sigma 1e-200"] * 3):
        assert session.answer(line) == "ok"
    for tilt in (3, -3, 6, -6):
        assert session.answer(f"measured {tilt} 0.0{abs(tilt)} 0 A sigma 1e-160") == "ok"
    assert all(np.isfinite(words(session.answer("predict 9"))["sigma"]))


@pytest.mark.parametrize("change", [{"run_out_angstrom": 1e300}, {"drift_decay_s": 1e-300}, {"tilt_time_s": 1e300}])
def test_settings_that_no_stage_has_are_refused(change):
    with pytest.raises(ValidationError):
        PredictionParams(**change)


def test_a_wrong_peak_is_rejected_with_a_word():
    session = PredictionSession()
    for line in (
        "measured 0 0 0",
        "measured 3 0.05 0",
        "measured -3 -0.05 0",
        "measured 6 0.1 0",
        "measured -6 -0.1 0",
    ):
        assert session.answer(line) == "ok"
    assert session.answer("measured 9 3.15 0").startswith("rejected x is ")
    assert session.answer("measured -9 -0.15 0") == "ok"


def test_a_series_is_taken_up_after_a_crash(tmp_path):
    file = tmp_path / "TS_01.json"
    first = PredictionSession(PredictionParams(pretilt_deg=-11.0), state_file=file)
    for line in (*START, "measured 3 0.05 0.01", "measured -3 -0.06 -0.01", "predict 6"):
        first.answer(line)
    first.answer("residual 0.01 0.002")
    second = PredictionSession(state_file=file)
    assert second.greeting == f"{HEADER}; 7 lines taken up, with the settings saved with them and no goniometer"
    for line in ("state", "predict 9 A", "predict 9 B"):
        assert second.answer(line) == first.answer(line)
    first.answer(f"save {tmp_path / 'copy.json'}")
    assert json.loads((tmp_path / "copy.json").read_text()) == json.loads(file.read_text())


def test_predictions_and_wrong_lines_leave_no_target_behind(tmp_path):
    """What is not saved may change nothing: the series taken up would differ."""
    file = tmp_path / "TS_01.json"
    first = PredictionSession(state_file=file)
    assert first.answer("predict 95").startswith("error")
    assert first.answer("predict 0").endswith("target target")
    assert first.answer("measured 95 0 0").startswith("error")
    assert first.answer("state").endswith("targets none")
    for line in ("target A 1 0", "measured 0 1 0", "measured 3 1.05 0"):
        assert first.answer(line) == "ok"
    assert first.answer("state").endswith("targets A")
    second = PredictionSession(state_file=file)
    for line in ("state", "predict 6"):
        assert second.answer(line) == first.answer(line)


def test_without_a_target_the_first_prediction_can_be_followed(tmp_path):
    file = tmp_path / "TS_01.json"
    first = PredictionSession(state_file=file)
    first.answer("predict 0")
    assert first.answer("residual 0.01 0.002") == "ok"
    assert PredictionSession(state_file=file).answer("predict 3") == first.answer("predict 3")


def test_a_residual_does_not_move_the_stage_back():
    session = PredictionSession()
    for line in (*START, "predict 6 A", "measured 9 0.05 0 A"):
        session.answer(line)
    before = session.answer("state")
    assert "since the stage moved" in session.answer("residual 0.001 0.001 A")
    session.answer("predict 12 A")
    session.answer("predict 15 B")
    assert session.answer("residual 0.001 0.001 A").startswith("error")  # the stage goes to 15 next
    assert session.answer("state") == before
    session.answer("predict 9 A")
    session.answer("predict 12 B")
    assert session.answer("residual 0.001 0.001 A") == "ok"  # of the present angle


def test_a_state_file_that_cannot_be_written_is_told_at_the_start(tmp_path):
    for file in ("/proc/nothing/s.json", tmp_path):
        with pytest.raises((InputError, FormatError)) as caught:
            PredictionSession(state_file=file)
        assert "output" not in str(caught.value)
    with pytest.raises(InputError, match=r"takes no new files there. Give another file with --state"):
        PredictionSession(state_file="/proc/nothing/s.json")


def test_what_is_taken_but_not_saved_is_said(tmp_path):
    file = tmp_path / "folder" / "s.json"
    session = PredictionSession(state_file=file)
    assert session.answer("target A 0 0") == "ok"
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file where the folder was")
    answer = session.answer("measured 0 0 0")
    assert answer.startswith(f"ok not saved: `{file}` cannot be written: ")
    assert session.answer("state").startswith("state tilt 0.00")
    file.parent.unlink()
    assert session.answer("measured 3 0.05 0") == "ok"
    assert json.loads(file.read_text())["lines"] == ["target A 0 0", "measured 0 0 0", "measured 3 0.05 0"]


def test_other_settings_than_those_saved_are_refused(tmp_path, goniometer):
    file = tmp_path / "s.json"
    PredictionSession(PredictionParams(pretilt_deg=3), state_file=file)  # nothing was said to it yet
    first = PredictionSession(PredictionParams(pretilt_deg=10), goniometer, file)
    assert first.greeting == HEADER
    first.answer("measured 0 0 0")
    again = PredictionSession(PredictionParams(pretilt_deg=10), goniometer, file)
    assert again.greeting.endswith("1 lines taken up, with the settings saved with them and a goniometer")
    assert (
        again.answer("predict 3") == PredictionSession(state_file=file).answer("predict 3") == first.answer("predict 3")
    )
    with pytest.raises(InputError, match=r"pretilt_deg 10.0 is saved, 12.0 given"):
        PredictionSession(PredictionParams(pretilt_deg=12), state_file=file)
    with pytest.raises(InputError, match="another goniometer is saved"):
        PredictionSession(None, replace(goniometer, series_count=9), file)


def test_a_damaged_goniometer_in_a_state_names_its_file(tmp_path, goniometer):
    file = tmp_path / "s.json"
    PredictionSession(None, goniometer, file).answer("measured 0 0 0")
    stored = json.loads(file.read_text())
    for model in (stored["goniometer"] | {"covariance": [[1.0]]}, {}, [], "krios"):
        file.write_text(json.dumps(stored | {"goniometer": model}))
        with pytest.raises(FormatError, match=r"The goniometer in `.*s\.json` is damaged .*Begin anew"):
            PredictionSession(state_file=file)


def test_a_damaged_state_is_refused(tmp_path):
    file = tmp_path / "TS_01.json"
    PredictionSession(state_file=file).answer("target A 0 0")
    stored = json.loads(file.read_text())
    for change, said in (({"lines": ["fly 3"]}, "cannot be taken up"), ({"params": {"hand": 3}}, "not a whole state")):
        file.write_text(json.dumps(stored | change))
        with pytest.raises(FormatError, match=said):
            PredictionSession(state_file=file)


def test_the_command_answers_each_line_at_once(tmp_path):
    """A script waits for the answer before it says more: nothing may stay in a buffer."""
    environment = os.environ | {"PYTHONPATH": str(Path(eucentric.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-m", "eucentric", "acquisition", "predict", "--state", str(tmp_path / "s.json")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().decode().strip() == HEADER
        for line, start in (
            (b"target A 0 0", "ok"),
            (b"\xff\xfe", "error"),
            (b"", "ok"),
            (b"predict 0", "shift 0.0000"),
        ):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().decode().startswith(start)
        process.stdin.write(b"quit\n")
        process.stdin.close()
        assert process.wait(timeout=30) == 0
