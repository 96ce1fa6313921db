"""Light-microscope images that were registered to tomograms, as layers of the viewer."""

from pathlib import Path

from eucentric.pipeline.correlate_source import FOLDER, RECORD

LIGHT = "Light: "
"""How the titles of such layers begin."""
LIGHT_COLOUR = "#f0e442"


def correlative_folders(root: Path) -> list[Path]:
    """Folders of the project's registrations, in order of name: in each `SERIES_CHANNEL.mrc` lies in the frame of that series."""
    return sorted(p.parent for p in (root / FOLDER).glob(f"*/{RECORD}"))
