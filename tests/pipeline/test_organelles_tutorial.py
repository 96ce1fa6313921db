"""The commands of the page on organelles: all are understood, and a smaller cell is taken through them."""

import json
import re
import shlex
from pathlib import Path

import pytest

from eucentric.cli.main import make_app
from eucentric.cli.main import run as run_command

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "organelles.md"
SMALLER = {
    "image_size_px = [320, 320]": "image_size_px = [224, 224]",
    "tilt_step_deg = 4": "tilt_step_deg = 6",
    "dose_per_tilt = 4": "dose_per_tilt = 6",
    "count = 2": "count = 1",
    "--steps 300": "--steps 120 --width 8 --patch-size 32",
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
    assert set(dice) == {"mitochondrion", "vesicle", "ribosome"}
    assert dice["mitochondrion"] > 0.5
    numbered = list(told.values())[-1]
    assert (tmp_path / numbered["objects"]).is_file()
    assert "mitochondrion" in (tmp_path / numbered["objects"]).read_text()
