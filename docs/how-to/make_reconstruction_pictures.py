"""Make the pictures of `choose-a-reconstruction.md`: one simulated tilt series, reconstructed in every way.

    python docs/how-to/make_reconstruction_pictures.py WORK_FOLDER

The work folder holds movies and project; what is there already is not done again. It takes a few minutes.
"""

import sys
from pathlib import Path

import numpy as np

from eucentric.cli.main import run
from eucentric.io.mrc import read_mrc
from eucentric.io.png import central_range, write_png

PICTURES = Path(__file__).parent / "pictures"
WAYS = {
    "wbp": ("--method", "wbp"),
    "wbp-flip": ("--for", "averaging"),
    "sirt-like": ("--method", "sirt-like"),
    "sirt-like-flip": ("--for", "segmentation"),
    "sirt": ("--method", "sirt"),
    "cgls": ("--method", "cgls"),
    "tv": ("--method", "tv"),
    "ctf": ("--for", "view"),
}
SIDE = 150  # voxels along x and y
GAP = 3  # white pixels between the slices
PLANES = 3  # averaged: what is seen through a slice of 30 A
WHITE = 0.3  # percent of the voxels that are cut at either end of the greys


def make_project(folder: Path) -> Path:
    """A tilt series as the demo's, with more in it, taken up to the CTF."""
    data, project = folder / "data", folder / "project"
    if not any(data.glob("*_truth.json")):
        specimen = ["--particles-per-species", "20", "40", "--vesicles", "2", "--beads", "2", "--frames", "2"]
        call("simulate", data, "--image-size-px", "400", "400", "--seed", "4", *specimen, "--overwrite")
    if not project.is_dir():
        call("import", project, "--frames", data / "frames", "--mdoc", data, "--gain", data / "gain.mrc")
    call("run", project, "--until", "ctf")
    return project


def call(*words: str | Path) -> None:
    """Run the program; end where it fails."""
    code = run([str(word) for word in words])
    if code:
        sys.exit(code)


def slices(volume: np.ndarray) -> np.ndarray:
    """The central slice across z above the one across y, with the greys of the first."""
    z, y, x = volume.shape
    across_z, across_y = central_range(z, PLANES), central_range(y, PLANES)
    rows, columns = (slice((n - SIDE) // 2, (n - SIDE) // 2 + SIDE) for n in (y, x))
    top = volume[across_z, rows, columns].mean(axis=0)
    bottom = volume[:, across_y, columns].mean(axis=1)
    low, high = np.percentile(top, [WHITE, 100.0 - WHITE])
    parts = [np.clip((part - low) / (high - low), 0.0, 1.0) for part in (bottom, top)]
    return np.concatenate([parts[0], np.ones((GAP, SIDE)), parts[1]])  # the first row is drawn at the bottom


def main() -> None:
    """Reconstruct in every way, and write the pictures."""
    project = make_project(Path(sys.argv[1]))
    common = ["--pixel-size-angstrom", "10", "--thickness-angstrom", "1500", "--no-half-volumes"]
    for name, words in WAYS.items():
        call("reconstruct", project, "--output", f"by_{name}", *common, *words)
        (path,) = (project / f"by_{name}" / "tomograms").glob("*.mrc")
        write_png(PICTURES / f"reconstructed-by-{name}.png", slices(read_mrc(path)[0].astype(np.float32)), percentile=0)


if __name__ == "__main__":
    main()
