"""Where what people set by hand between stages lies in a project."""

from pathlib import Path

FOLDER = "curation"


def track_file(root: Path, series: str) -> Path:
    """Tracks as people corrected them: the alignment takes them instead of its own."""
    return root / FOLDER / "tracks" / f"{series}.star"


def found_track_file(root: Path, series: str) -> Path:
    """Tracks as they were found, which corrections start from."""
    return root / FOLDER / "tracks" / f"{series}_found.star"


def levels_file(root: Path, series: str) -> Path:
    """Faces of the specimen as people marked them: the reconstruction takes them instead of what it measures."""
    return root / FOLDER / "levels" / f"{series}.star"


def label_file(root: Path, series: str) -> Path:
    """Painted labels, on the grid of the tomogram."""
    return root / FOLDER / "labels" / f"{series}.mrc"


def label_names_file(root: Path) -> Path:
    """What the numbers in painted labels mean."""
    return root / FOLDER / "labels" / "labels.star"


def drawn_folder(root: Path) -> Path:
    """Points, filaments and surfaces that were drawn."""
    return root / FOLDER / "drawn"


def frame_file(root: Path, series: str, key: str) -> Path:
    """A frame in which something was drawn."""
    return root / FOLDER / "frames" / f"{series}_{key}.star"
