"""What there is to see in a project."""

from pathlib import Path

from eucentric.io.tilt_series import tilt_series_names
from eucentric.pipeline.steps import IMPORT_TABLE


def series_names(root: Path) -> list[str]:
    """All series of the project."""
    table = root / IMPORT_TABLE
    return tilt_series_names(table) if table.is_file() else []
