"""The commands of the tutorial, taken from its page: all are understood, and those that can be run here are run."""

import json
import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from eucentric.cli.main import make_app
from eucentric.cli.main import run as run_command
from eucentric.pipeline.scoring import score_project

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "movies-to-map.md"


def commands(language: str) -> list[str]:
    """Commands of the program in the page's blocks of one language, each on one line."""
    found, block = [], None
    for line in PAGE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            block = line.removeprefix("```") if block is None else None
        elif block == language and line.startswith("eucentric "):
            found.append(re.sub(r"\s+", " ", line.strip()))
    return found


def test_every_command_of_the_page_is_understood():
    executed, real = commands("sh"), commands("")
    assert len(executed) >= 10
    assert {line.split()[1] for line in real} == {"import", "motion", "run", "reconstruct", "pick", "average", "refine"}
    for line in (*executed, *real):
        make_app().parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    with pytest.raises(CycloptsError):
        make_app().parse_args(["run", "project", "--until-then", "ctf"], exit_on_error=False, print_error=False)


@pytest.mark.slow
def test_the_page_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = {}
    # as it stands: with fewer particles or tilts, how many are found is left to chance
    for line in commands("sh"):
        code = run_command(shlex.split(line)[1:])
        told[line] = capsys.readouterr().out
        assert code == 0, f"{line}\n{told[line]}"
    figures = {
        r.metric: r.value for r in score_project(tmp_path / "project", [tmp_path / "session" / "TS_01_truth.json"])
    }
    assert figures["alignment rms"] < 6.8  # a pixel
    assert figures["hand right"] == 1
    scored = next(out for line, out in told.items() if line.startswith("eucentric particles score"))
    precision = float(next(row for row in scored.splitlines() if row.split()[:1] == ["all"]).split()[4])
    assert precision >= 0.6
    average = json.loads((tmp_path / "project" / "average" / "large" / "average.json").read_text())
    assert average["particles"] >= 6
    assert average["resolution_angstrom"] < 50
    assert "average-large.html" in (tmp_path / "project" / "report" / "index.html").read_text()
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("picks.png", "surface.png"))
