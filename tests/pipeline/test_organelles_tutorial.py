"""The commands of the page on organelles: all are understood, and a smaller cell is taken through them."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from eucentric.cli.main import make_app
from eucentric.cli.main import run as run_command

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "organelles.md"
SMALLER = {
    "image_size_px = [320, 320]": "image_size_px = [300, 300]",
    "tilt_step_deg = 4": "tilt_step_deg = 6",
    "dose_per_tilt = 4": "dose_per_tilt = 6",
    "--steps 200": "--steps 120",
}
"""What is made smaller, so that the page takes two minutes."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line.strip()) for line in lines if line.startswith("eucentric ")]


def test_every_command_of_the_page_is_understood():
    lines = commands("\n".join(blocks("sh")))
    assert [line.split()[1] for line in lines] == [
        "simulate",
        "import",
        "run",
        "reconstruct",
        "segment",
        "segment",
        "segment",
        "segment",
    ]
    for line in lines:
        make_app().parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.slow
def test_the_page_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (scene,), text = blocks("toml"), "\n".join(commands("\n".join(blocks("sh"))))
    for usual, small in SMALLER.items():
        assert usual in scene + text
        scene, text = scene.replace(usual, small), text.replace(usual, small)
    (tmp_path / "cell.toml").write_text(scene, encoding="utf-8")
    told = {}
    for line in text.splitlines():
        code = run_command([*shlex.split(line)[1:], "--json"])
        out = capsys.readouterr().out
        assert code == 0, f"{line}\n{out}"
        told[line] = json.loads(out.splitlines()[-1])
    applied = next(values for values in told.values() if values.get("dice"))
    dice = applied["dice"]["TS_01"]
    assert set(dice) == {"membrane", "ribosome"}
    assert dice["membrane"] > 0.5
    with (tmp_path / "project" / "segment" / "objects" / "objects.csv").open() as file:
        pieces = [row for row in csv.DictReader(file) if row["class"] == "membrane"]
    assert len(pieces) >= 3
    middles = [np.array([float(row[f"centre_{a}_angstrom"]) for a in "xyz"]) for row in pieces[:2]]
    assert np.linalg.norm(middles[0] - middles[1]) < 120.0  # the two membranes of the mitochondrion
    assert len(list((tmp_path / "surfaces" / "meshes").glob("*.ply"))) >= 3
