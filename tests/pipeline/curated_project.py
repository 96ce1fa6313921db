"""A small project with tomograms and a list of picks, for tests of curation."""

import dataclasses
from pathlib import Path

import numpy as np
from toy_stages import make_project

from eucentric.io.mrc import write_mrc
from eucentric.io.star import write_star
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models.tilt_series import Tomogram

VOXEL = 10.0
SHAPE_ZYX = (20, 32, 40)
PICKS = {
    "TS_01": [(-100.0, 20.0, 30.0), (50.5, -60.25, 0.0), (150.0, 100.0, -80.0)],
    "TS_02": [(0.0, 0.0, 0.0)],
}


def with_tomograms(root: Path, names=("TS_01", "TS_02")) -> Path:
    """Tomograms of noise for some series of a toy project."""
    make_project(root)
    every = []
    for number, series in enumerate(read_tilt_series_set(root / "import" / "tilt_series.star", root)):
        if series.name not in names:
            continue
        path = root / "reconstruct" / "tomograms" / f"{series.name}.mrc"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(size=SHAPE_ZYX).astype(np.float32)
        write_mrc(path, noise, VOXEL, "float32")
        tomogram = Tomogram(
            path=f"reconstruct/tomograms/{series.name}.mrc",
            voxel_size_angstrom=VOXEL,
            shape_zyx=SHAPE_ZYX,
        )
        every.append(dataclasses.replace(series, tomogram=tomogram, volume_size_px=SHAPE_ZYX[::-1]))
    write_tilt_series_set(root / "reconstruct" / "tilt_series.star", every, root)
    return root


def write_picks(root: Path, name="seven", picks=None, extra=None) -> Path:
    """A list of picks as picking writes it, with a column of its own."""
    rows = [(tomogram, i, xyz) for tomogram, places in (picks or PICKS).items() for i, xyz in enumerate(places, 1)]
    table = {
        "rlnTomoName": [r[0] for r in rows],
        "rlnTomoParticleName": [f"{r[0]}/{r[1]}" for r in rows],
        "rlnAutopickFigureOfMerit": [9.125 - i for i in range(len(rows))],
        "ownRemark": [f"pick {i}" for i in range(len(rows))],
        **{f"rlnCenteredCoordinate{a}Angst": [r[2][k] for r in rows] for k, a in enumerate("XYZ")},
        "rlnAngleRot": [10.0 * i for i in range(len(rows))],
        "rlnAngleTilt": [20.0] * len(rows),
        "rlnAnglePsi": [-30.0] * len(rows),
        "rlnOpticsGroup": [1] * len(rows),
        **(extra or {}),
    }
    optics = {"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["opticsGroup1"], "rlnTomoTiltSeriesPixelSize": [4.0]}
    path = root / "pick" / name / "particles.star"
    write_star(path, {"optics": optics, "particles": table})
    return path
