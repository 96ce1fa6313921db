"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


def shared_data_folder() -> Path:
    """Where the shared test data lie: `EUCENTRIC_SHARED_DATA`, or `../shared/data` beside the project."""
    return Path(os.environ.get("EUCENTRIC_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; the test is skipped, counted and with a reason, where it is absent."""
    folder = shared_data_folder()
    if not (folder / "practice").is_dir():
        pytest.skip(f"shared test data not found at {folder}; set EUCENTRIC_SHARED_DATA")
    return folder
