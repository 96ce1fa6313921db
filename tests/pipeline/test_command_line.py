"""The program: its options, words and exit codes. Toy stages stand in for those of the product."""

import json
import subprocess
import sys
import types
from typing import Literal, get_args, get_origin

import pytest
import toy_stages
from toy_stages import make_project

from eucentric.cli import main, settings_models
from eucentric.cli.setting_groups import GROUPS, grouped_settings
from eucentric.errors import InputError
from eucentric.pipeline import plan, stages
from eucentric.pipeline.plan import Plan
from eucentric.reconstruction.params import ReconstructParams

ENTRIES = (
    stages.StageEntry("first", "First", "toy_stages:FirstParams", "Make images."),
    stages.StageEntry("second", "Second", "toy_stages:SecondParams", "Give poses."),
    stages.StageEntry("count", "Count", "toy_stages:CountParams", "Count."),
)


@pytest.fixture
def program(monkeypatch, capsys):
    """Runs the program; gives exit code, output and errors."""
    from eucentric.cli import stage_commands

    for place in (stages, main, settings_models, stage_commands):
        monkeypatch.setattr(place, "STAGES", ENTRIES)
    for entry in ENTRIES:
        module = types.ModuleType(f"eucentric.pipeline.stages.{entry.name}")
        setattr(module, entry.kind, getattr(toy_stages, entry.kind))
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def call(*arguments):
        code = main.run([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


def test_help_is_quick_because_it_loads_nothing_heavy():
    script = (
        "import sys\nfrom eucentric.cli.main import run\nrun(['--help'])\n"
        "heavy = {'torch', 'pandas', 'numba', 'pydantic', 'scipy', 'numpy', 'distributed'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("import", "run", "motion", "align", "ctf", "reconstruct", "report", "status", "exclude", "validate"):
        assert f" {name} " in done.stdout


def test_a_project_from_run_to_status(program, project):
    code, out, err = program("run", project, "--workers", "1", "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    assert "first: 3 done" in out
    told = json.loads(out.splitlines()[-1])
    assert told["exit_code"] == 0
    assert told["stages"]["second"]["processed"] == 3
    code, out, _ = program("status", project, "--json")
    assert code == 0
    told = json.loads(out.splitlines()[-1])
    assert [s["states"] for s in told["series"]] == [{"first": "done", "second": "done"}] * 3
    assert "TS_01, first: a toy" in out
    Plan.load(project, toy_stages.TOYS).save("second", {"offset": 9.0})
    _, out, _ = program("status", project, "--json")
    assert "Changed since the last run: [second] offset: 0.5 -> 9.0" in out
    assert json.loads(out.splitlines()[-1])["series"][0]["states"] == {"first": "done", "second": "outdated"}


def test_a_failed_series_gives_exit_code_1_and_its_reason(program, project):
    (project / "frames" / "TS_02_1.txt").write_text("surprise")
    code, out, err = program("run", project, "--workers", "1", "--device", "cpu")
    assert code == 1
    assert "FAILED TS_02, first: first of TS_02 stopped at an error that nobody foresaw: ZeroDivisionError" in out
    assert "Traceback" not in out + err
    code, out, err = program("run", project, "--workers", "1", "--device", "cpu", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert program("status", project)[0] == 1


def test_options_of_a_stage_are_its_settings(program, project):
    program("run", project, "--workers", "1", "--device", "cpu", "--until", "first")
    code, out, _ = program("second", "--help")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    assert "--offset FLOAT degrees, added to every angle [default: 0.5]" in words
    assert "--output" in words
    assert "--only" in words
    code, out, _ = program("second", project, "--offset", "2", "--device", "cpu", "--only", "TS_01", "TS_03")
    assert code == 0
    assert "second: 2 done" in out
    assert Plan.load(project, toy_stages.TOYS).chosen["second"] == {"offset": 2.0}
    # an option that is not given keeps the value of the plan
    code, _, _ = program("second", project, "--delay", "0.01", "--device", "cpu", "--only", "TS_01")
    assert Plan.load(project, toy_stages.TOYS).chosen["second"] == {"offset": 2.0, "delay": 0.01}
    code, _, _ = program("second", project / "first" / "tilt_series.star", "--offset", "3", "--output", "v2")
    assert code == 0
    assert (project / "v2" / "tilt_series.star").is_file()
    assert Plan.load(project, toy_stages.TOYS).params("second").offset == 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["first", "PROJECT", "--scale", "-2"], "`--scale` is `-2` in the command; expected a number greater than 0"),
        (["first", "PROJECT", "--scael", "2"], "Did you mean --scale"),
        (["frist", "PROJECT"], 'Did you mean "first"'),
        (["run", "PROJECT/nowhere"], "does not exist"),
        (["run", "PROJECT", "--workers", "0"], "--workers is 0; expected at least 1"),
        (["run", "PROJECT", "--workers", "x"], "--workers"),
        (["run", "PROJECT", "--device", "gpu"], "The device `gpu` is unknown"),
        (["run", "PROJECT", "--cluster", "sulrm"], "--cluster is `sulrm`; expected local, slurm or an address"),
        (["run", "PROJECT", "--only", "TS_07"], "no tilt series called `TS_07`"),
        (["run", "PROJECT", "--until", "frist"], "Did you mean `first`"),
        (["exclude", "PROJECT", "TS_01", "7"], "no tilt within 0.5 degrees"),
    ],
)
def test_wrong_input_gives_exit_code_2_and_help(program, project, arguments, words):
    code, out, err = program(*(a.replace("PROJECT", str(project)) for a in arguments))
    assert code == 2
    assert words in err
    assert "Traceback" not in out + err
    assert "pydantic" not in err


def test_errors_are_readable_for_machines_too(program, tmp_path):
    code, out, _ = program("run", tmp_path, "--json")
    told = json.loads(out.splitlines()[-1])
    assert (code, told["exit_code"]) == (2, 2)
    assert "is not a project" in told["error"]
    code, _, err = program("run", tmp_path, "--debug")
    assert code == 2
    assert "Traceback" in err


def test_a_tilt_is_excluded_by_a_command(program, project):
    code, out, _ = program("exclude", project, "TS_01", "-6", "--reason", "ice")
    assert code == 0
    assert "Left out the tilt of TS_01 at -6 degrees: ice." in out
    (entry,) = Plan.load(project, toy_stages.TOYS).exclusions
    assert (entry.series, entry.angle, entry.acquisition, entry.reason) == ("TS_01", -6.0, 0, "ice")
    assert "Took back" in program("exclude", project, "TS_01", "-6", "--undo")[1]
    assert Plan.load(project, toy_stages.TOYS).exclusions == ()


def test_files_are_validated(program, project, tmp_path):
    program("run", project, "--workers", "1", "--device", "cpu", "--until", "first")
    image = project / "first" / "images" / "TS_01" / "tilt_0.mrc"
    good = project / "first" / "tilt_series.star"
    code, out, _ = program("validate", image, good, project / "eucentric.toml")
    assert code == 0
    assert out.count("nothing to object to") == 3
    cut = tmp_path / "cut.mrc"
    cut.write_bytes(image.read_bytes()[:-10])
    odd = tmp_path / "odd.xyz"
    odd.write_text("?")
    code, out, _ = program("validate", cut, odd, "--json")
    assert code == 1
    told = json.loads(out.splitlines()[-1])["files"]
    assert "ends after section" in told[str(cut)][0]["text"]
    assert "cannot be checked" in told[str(odd)][0]["text"]


def test_movies_become_a_project(program, tmp_path, monkeypatch):
    import numpy as np

    from eucentric.io.movies import write_tiff_movie

    frames = tmp_path / "frames"
    frames.mkdir()
    for i, angle in enumerate((-3, 0, 3)):
        write_tiff_movie(frames / f"TS_01_{i:03d}_{angle}.0.tif", np.full((2, 16, 16), 5, dtype=np.uint8))
    gain = tmp_path / "gain.mrc"
    from eucentric.io.mrc import write_mrc

    write_mrc(gain, np.ones((16, 16), dtype=np.float32), 2.0)
    root = tmp_path / "project"
    options = ["--frames", frames, "--gain", gain, "--pixel-size", "2", "--dose", "3", "--json"]
    code, out, err = program("import", root, *options)
    assert code == 0, err
    assert "1 tilt series with 3 tilts" in out
    assert "300 kV is assumed" in out
    assert json.loads(out.splitlines()[-1])["series"] == ["TS_01"]
    assert plan.Plan.load(root, toy_stages.TOYS).project.gain == "../gain.mrc"
    code, _, err = program("import", tmp_path / "other", "--frames", tmp_path / "nothing")
    assert code == 2
    assert "nothing" in err
    assert not (tmp_path / "other").exists()


def test_projects_made_by_the_toys_are_small(tmp_path):
    assert sum(1 for _ in make_project(tmp_path / "p").rglob("*.txt")) == 12


def test_a_reconstruction_is_chosen_by_what_it_is_for(capsys):
    assert main.run(["reconstruct", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--for CHOICE what the volume is for" in words
    assert "choices: view, picking, averaging, segmentation" in words
    assert "--purpose" not in words
    headings = (
        "What for, and how",
        "The volume",
        "The images",
        "Contrast transfer",
        "Weights of",
        "Files",
        "How to run",
    )
    places = [words.index(f" {heading} ") for heading in headings]
    assert places == sorted(places)
    assert " Settings " not in words  # every setting has a heading


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "viewing"], "`--for` is `viewing` in the command; expected one of `view`, `picking`"),
        (["--purpose", "view"], "Unknown option: --purpose"),
        (["--fro", "view"], "Did you mean --for? See"),
        (["--pixel-size-angstrom", "-3"], "`--pixel-size-angstrom` is `-3` in the command; expected a number greater"),
    ],
)
def test_faults_name_the_options_of_a_reconstruction(capsys, arguments, words):
    assert main.run(["reconstruct", "project", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_purpose_is_written_to_the_plan_by_its_own_name(tmp_path, project, capsys):
    """The file speaks of `purpose`: only on the command line it reads `--for`."""
    chosen = {}

    def run_stage(target, stage, changes, output, **options):
        chosen.update({"stage": stage, **changes})
        raise InputError("that is all")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eucentric.pipeline.runner.run_stage", run_stage)
        assert main.run(["reconstruct", str(project), "--for", "averaging", "--ctf-correction", "none"]) == 2
    assert chosen == {"stage": "reconstruct", "purpose": "averaging", "ctf_correction": "none"}
    assert "that is all" in capsys.readouterr().err


@pytest.mark.parametrize("stage", list(GROUPS))
def test_every_setting_stands_under_one_heading_and_keeps_its_limits(stage):
    entry = next(e for e in stages.STAGES if e.name == stage)
    model = stages.load_settings(entry)
    named = [name for names in GROUPS[stage].values() for name in names]
    assert sorted(named) == sorted(model.model_fields)
    grouped = grouped_settings(model, GROUPS[stage])
    assert issubclass(grouped, model)
    assert grouped().model_dump() == model().model_dump()
    for name, field in model.model_fields.items():
        assert [m for m in grouped.model_fields[name].metadata if m in field.metadata] == field.metadata


@pytest.mark.parametrize(
    ("settings", "known", "expected"),
    [
        ({}, (True, True), ("ctf", "none")),
        ({}, (True, False), ("wbp", "none")),
        ({}, (False, True), ("wbp", "none")),
        ({"purpose": "view"}, (True, False), ("ctf", "none")),
        ({"purpose": "picking"}, (False, True), ("wbp", "none")),
        ({"purpose": "averaging"}, (True, True), ("wbp", "flip")),
        ({"purpose": "averaging"}, (False, True), ("wbp", "none")),
        ({"purpose": "averaging", "ctf_correction": "multiply"}, (True, True), ("wbp", "multiply")),
        ({"purpose": "averaging", "ctf_correction": "none"}, (True, True), ("wbp", "none")),
        ({"purpose": "segmentation", "method": "tv"}, (True, True), ("tv", "flip")),
        ({"method": "ctf"}, (False, False), ("ctf", "none")),
    ],
)
def test_a_purpose_sets_what_is_left_to_it(settings, known, expected):
    params = ReconstructParams(**settings)
    used = params.resolved(has_ctf=known[0], has_halves=known[1])
    assert (used.method, used.ctf_correction) == expected
    # what a record or a copy holds says the same
    again = ReconstructParams.model_validate(params.model_dump()).resolved(has_ctf=known[0], has_halves=known[1])
    assert (again.method, again.ctf_correction) == expected


def test_every_choice_of_every_setting_is_taken_from_the_command_line():
    """Words are what a command line gives; each choice of each setting must be one."""
    for entry in stages.STAGES:
        model = stages.load_settings(entry)
        for name, field in model.model_fields.items():
            if get_origin(field.annotation) is Literal:
                for choice in get_args(field.annotation):
                    assert model.model_validate({name: str(choice)}).model_dump()[name] == choice
