"""`eucentric export --series`: refined series go out with all that was found, or with words on what is lost."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange_project import PLACES, make_project

from eucentric.geometry.volume_warp import Deformation, VolumeWarp
from eucentric.io import read_tilt_series_set, write_tilt_series_set
from eucentric.io.star import read_star_text
from eucentric.io.warps import write_deformation
from eucentric.pipeline.export.project import PROGRAMS


def refined_project(root: Path) -> Path:
    """The project with `refine/a`: specimens that deform, images of different signal, and a list of particles."""
    make_project(root)
    every = read_tilt_series_set(root / "reconstruct" / "tilt_series.star", root)
    volume = VolumeWarp.build(np.reshape([0.0, 0, 0, 3, -2, 1], (2, 1, 1, 1, 3)), [0.0, 12.0], (200, 320, 360))
    out = []
    for one in every:
        file = f"refine/a/warps/{one.name}.npz"
        write_deformation(root / file, Deformation(volume=volume), one)
        tilts = [replace(t, signal_scale=0.9, b_factor_angstrom2=5.0) for t in one.tilts]
        optics = replace(one.optics, beam_tilt_mrad=(0.2, 0.1))
        out.append(one.with_tilts(tilts).replace(warp=file, tomogram=None, optics=optics))
    write_tilt_series_set(root / "refine" / "a" / "tilt_series.star", out, root)
    (root / "refine" / "a" / "blobs").mkdir()
    shutil.copy(root / "pick" / "blobs" / "particles.star", root / "refine" / "a" / "blobs" / "particles.star")
    return root


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_refined_series_are_handed_on_with_their_particles(program, tmp_path, name):
    root = refined_project(tmp_path / "project")
    code, out, _ = program(
        "export", root, tmp_path / "out", "--to", name, "--series", "refine/a/tilt_series.star", "--json"
    )
    assert code == 0
    told = json.loads(out.splitlines()[-1])
    assert told["series"] == ["TS_01", "TS_02"]
    losses = " ".join(told["losses"])
    if name == "relion5":
        named = read_star_text(tmp_path / "out" / "optimisation_set_refine_a_blobs.star")[""]
        assert named["rlnTomoTrajectoriesFile"] == ["motion_refine_a_blobs.star"]
        moved = read_star_text(tmp_path / "out" / "motion_refine_a_blobs.star")
        assert len(moved) == 1 + 2 * len(PLACES)
        # in the middle of the last image the specimen had received 13.5 e/A2, past the last knot
        assert float(moved["TS_02/1"]["rlnOriginXAngst"][-1]) == pytest.approx(3.0)
        optics = read_star_text(tmp_path / "out" / "particles_refine_a_blobs.star")["optics"]
        assert optics["rlnOddZernike"][0].count(",") == 5
        assert "motion_*.star" in losses
    else:
        assert "Beam tilt and trefoil" in losses
    if name in ("imod", "eman2", "aretomo"):
        assert "Signal and B factor" in losses
    if name not in ("chimerax", "copick", "zarr"):
        assert any("refine_a_blobs" in f for f in told["files"]) or name in ("aretomo", "emclarity", "eman2")


@pytest.mark.parametrize("table", ["refine/b/tilt_series.star", "/etc/hostname"])
def test_a_table_outside_of_the_project_is_refused(program, tmp_path, table):
    project = make_project(tmp_path / "project")
    code, _, err = program("export", project, tmp_path / "out", "--to", "imod", "--series", table)
    assert code == 2
    assert "is no table of tilt series in the project" in err
