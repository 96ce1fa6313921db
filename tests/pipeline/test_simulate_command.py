"""The commands that simulate and score: their words, their files, and what becomes of wrong input."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import toy_stages

from eucentric.cli import demo_command
from eucentric.io.movies import read_movie
from eucentric.io.truth import read_truth
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.stages.pick import PickTemplates
from eucentric.pipeline.summary import Failure, RunSummary, StageTally
from eucentric.simulation import SimulatedSeries, SimulationParams

TINY = SimulationParams(
    seed=7,
    image_size_px=(80, 64),
    frames=2,
    tilt_step_deg=60.0,
    macromolecules_kda=(300.0,),
    particles_per_species=(1,),
    beads=1,
    vesicles=0,
)
OPTIONS = [
    *("--seed", "7", "--image-size-px", "80", "64", "--frames", "2", "--tilt-step-deg", "60"),
    *("--macromolecules-kda", "300", "--particles-per-species", "1", "--beads", "1", "--vesicles", "0"),
]
ROWS = [
    types.SimpleNamespace(series="TS_01", metric="motion error", value=1.23456, unit="A", note="rms over [3] frames"),
    types.SimpleNamespace(series="TS_01", metric="hand", value=float("nan"), unit="", note=""),
]


@pytest.fixture
def scored(monkeypatch):
    """Scores that need no results; gives what was asked for."""
    asked = []

    def score_project(root, truth_files):
        asked.append((root, truth_files))
        return ROWS

    monkeypatch.setattr("eucentric.pipeline.scoring.score_project", score_project)
    return asked


def test_options_reach_the_simulator(program, tmp_path):
    folder = tmp_path / "data"
    code, out, err = program("simulate", folder, "--series", "2", *OPTIONS, "--json")
    assert code == 0, err
    assert "2 tilt series with 6 movies" in out
    assert f"eucentric import PROJECT --frames {folder / 'frames'} --mdoc {folder} --gain {folder / 'gain.mrc'}" in out
    told = json.loads(out.splitlines()[-1])
    assert told["series"] == ["TS_01", "TS_02"]
    assert told["truth"] == [str(folder / f"TS_0{n}_truth.json") for n in (1, 2)]
    assert len(list((folder / "frames").glob("*.tif"))) == told["movies"] == 6
    truth = read_truth(folder / "TS_02_truth.json")
    frames, _ = read_movie(folder / "frames" / truth.movie_names[0])
    np.testing.assert_array_equal(frames, SimulatedSeries.build(TINY, series=1).movie(0))


def test_files_are_not_replaced_unasked(program, tmp_path):
    own = tmp_path / "gain.mrc"
    own.write_bytes(b"mine")
    code, _, err = program("simulate", tmp_path, *OPTIONS)
    assert code == 2
    assert "holds files already" in err
    assert own.read_bytes() == b"mine"
    assert program("simulate", tmp_path, *OPTIONS, "--overwrite")[0] == 0
    assert own.stat().st_size > 80 * 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "NEW", "--frames", "0"], "`--frames` is `0` in the command; expected a number of at least 1"),
        (["simulate", "NEW", "--image-size-px", "20", "20"], "image_size_px is below 32 pixels"),
        (["simulate", "NEW", "--scheme", "random"], "expected one of `dose-symmetric`"),
        (["simulate", "NEW", "--sead", "2"], "Did you mean --seed"),
        (["simulate", "NEW", "--series", "0"], "at least 1"),
        (["simulate", "NEW", "--structure", "nothing.pdb"], "nothing.pdb"),
        (["simulate", "NEW", "--structure"], "--structure is without a file"),
        (["simulate"], "FOLDER"),
        (["score", "PROJECT"], "--truth"),
        (["score", "NEW", "--truth", "PROJECT"], "does not exist"),
        (["score", "PROJECT", "--truth", "PROJECT"], "holds no file `*_truth.json`"),
        (["score", "PROJECT", "--truth", "NEW/TS_01_truth.json"], "given as --truth, does not exist"),
        (["demo", "PROJECT/.."], "holds other files than those of this demo"),
    ],
)
def test_wrong_input_gives_exit_code_2_and_help(program, project, arguments, words):
    new = project.parent / "new"
    (project.parent / "data").mkdir()
    (project.parent / "data" / "notes.txt").write_text("mine")
    code, out, err = program(*(a.replace("PROJECT", str(project)).replace("NEW", str(new)) for a in arguments))
    assert code == 2
    assert words in err
    assert "Traceback" not in out + err
    assert not new.exists()


def test_scores_are_shown_and_told_to_machines(program, project, scored, tmp_path):
    truth = [tmp_path / "truth" / f"TS_0{n}_truth.json" for n in (1, 2)]
    truth[0].parent.mkdir()
    for path in truth:
        path.write_text("{}")
    code, out, err = program("score", project, "--truth", truth[1], truth[0].parent, "--json")
    assert (code, err) == (0, "")
    assert scored == [(project, [truth[1], truth[0]])]
    (line,) = [text for text in out.splitlines() if "motion error" in text and not text.startswith("{")]
    assert line.split() == ["TS_01", "motion", "error", "1.235", "A", "rms", "over", "[3]", "frames"]
    told = json.loads(out.splitlines()[-1])
    assert told["scores"][0] == vars(ROWS[0])
    assert told["scores"][1]["value"] is None


def test_a_demo_simulates_once_and_ends_with_scores(program, scored, monkeypatch, tmp_path):
    failures = []

    def run_project(root, **_):
        assert (root / "import" / "tilt_series.star").is_file()
        assert 'gain = "../data/gain.mrc"' in (root / "eucentric.toml").read_text()
        return RunSummary(root=root, stages={"first": StageTally(processed=1)}, failures=failures)

    monkeypatch.setattr(demo_command, "demo_settings", lambda short: TINY.replace(seed=8) if short else TINY)
    monkeypatch.setattr("eucentric.pipeline.runner.run_project", run_project)
    monkeypatch.setattr("eucentric.pipeline.plan.all_stages", lambda: (*toy_stages.TOYS, PickTemplates))
    folder = tmp_path / "demo"
    code, out, err = program("demo", folder, "--json")
    assert code == 0, err
    assert "Simulated 3 movies" in out
    assert "motion error" in out
    told = json.loads(out.splitlines()[-1])
    assert told["scores"][0]["value"] == ROWS[0].value
    assert told["report"] is None
    assert scored == [(folder / "project", [folder / "data" / "TS_01_truth.json"])]
    chosen = Plan.load(folder / "project").params("pick")
    maps = [(folder / "project" / path).resolve() for path in chosen.templates]
    sizes = {path.resolve(): path.stat().st_size for path in (folder / "data" / "references").glob("*.mrc")}
    assert [sizes[path] for path in maps] == [max(sizes.values())]
    Plan.load(folder / "project").save("pick", {"coarse_step_deg": 12.0})

    movie = next((folder / "data" / "frames").iterdir())
    before = movie.stat().st_mtime_ns
    report = folder / "project" / "report" / "index.html"
    report.parent.mkdir()
    report.write_text("report")
    code, out, err = program("demo", folder)
    assert (code, movie.stat().st_mtime_ns) == (0, before)
    assert f"The report is `{report}`." in out
    assert Plan.load(folder / "project").params("pick").coarse_step_deg == 12.0
    code, _, err = program("demo", folder, "--short")
    assert code == 2
    assert "goes on with --short" in err

    failures.append(Failure(stage="first", series="TS_01", message="too dark"))
    (folder / "data" / "TS_01_truth.json").unlink()  # as where the simulation was stopped
    code, out, _ = program("demo", folder)
    assert code == 1
    assert "Simulated 3 movies" in out
    assert f"Not scored. What is done is: eucentric score {folder / 'project'} --truth {folder / 'data'}" in out


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "eucentric", "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
