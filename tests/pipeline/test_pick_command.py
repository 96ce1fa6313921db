"""`eucentric pick` on files."""

import json

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.io.mrc import write_mrc


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "TS_09.mrc"
    write_mrc(path, np.random.default_rng(0).normal(size=(24, 40, 40)).astype(np.float32), 14.0)
    return path


def test_noise_without_its_series_needs_a_wedge_and_gives_an_empty_table(tomogram, tmp_path, capsys):
    command = ["pick", str(tomogram), "--template", "sphere:120", "--coarse-voxel-angstrom", "14"]
    assert run(command) == 2
    assert "--tilts -60 60" in capsys.readouterr().err
    assert run([*command, "--tilts", "-60", "60", "--score-volumes", "--json"]) == 0
    told = capsys.readouterr().out
    assert "given by hand (-60 to 60 degrees" in told
    assert "Nothing was found in TS_09" in told
    result = json.loads(told.splitlines()[-1])
    assert result["counts"] == {"TS_09": 0}
    folder = tmp_path / "pick" / "sphere_120"
    assert (folder / "particles.star").is_file()
    assert (folder / "scores" / "TS_09_sphere_120.mrc").is_file()
    assert json.loads((folder / "run.json").read_text())["tomograms"]["TS_09"]["picks"] == 0
    assert run([*command, "--tilts", "-60", "60"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "more", "words"),
    [
        ("sphere:big", [], "such as sphere:120"),
        ("sphere:2000", [], "wide and the tomogram only"),
        ("sphere:20", [], "Check its pixel size"),
        ("thing.txt", [], "PDB or mmCIF"),
        ("none.pdb", [], "does not exist"),
        ("sphere:120", ["--tilts", "60", "-60"], "the lower one first"),
    ],
)
def test_wrong_input_is_told(tomogram, capsys, template, more, words):
    wedge = [] if "--tilts" in more else ["--tilts", "-60", "60"]
    assert run(["pick", str(tomogram), "--template", template, *wedge, *more]) == 2
    assert words in capsys.readouterr().err


def test_templates_of_one_name_are_told(tomogram, capsys):
    command = ["pick", str(tomogram), "--template", "sphere:120", "sphere:120.0", "--tilts", "-60", "60"]
    assert run(command) == 2
    assert "Two templates are called sphere_120" in capsys.readouterr().err


def test_an_empty_mask_is_told(tomogram, tmp_path, capsys):
    mask = tmp_path / "mask.mrc"
    write_mrc(mask, np.zeros((24, 40, 40), dtype=np.float32), 14.0)
    command = ["pick", str(tomogram), "--template", "sphere:120", "--tilts", "-60", "60", "--mask", str(mask)]
    assert run(command) == 2
    assert "is empty" in capsys.readouterr().err


def test_a_project_without_tomograms_is_told(project, tmp_path, capsys):
    (project / "eucentric.toml").unlink()  # that of other stages
    assert run(["pick", str(project), "--template", "sphere:120"]) == 2
    assert "eucentric reconstruct" in capsys.readouterr().err
    assert run(["pick", str(tmp_path), "--template", "sphere:120"]) == 2
    assert "is not a project" in capsys.readouterr().err
