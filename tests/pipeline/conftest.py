"""Makes the modules beside the tests importable, here and in the processes that tests start."""

import os
import sys
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
for _folder in (_HERE, str(Path(__file__).parent.parent / "contract")):
    if _folder not in sys.path:
        sys.path.insert(0, _folder)


@pytest.fixture
def project(tmp_path):
    from toy_stages import make_project

    return make_project(tmp_path / "project")


@pytest.fixture
def program(capsys):
    """Runs the program; gives exit code, output and errors."""
    from eucentric.cli import main

    def call(*arguments):
        code = main.run([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def environment():
    """For processes of a test's own."""
    return {**os.environ, "PYTHONPATH": _HERE, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Tests do not outlive a power cut: what the system holds in memory is enough for them."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
