"""`eucentric pick-geometry`: from files of spheres, segmentations, meshes and filaments to oriented particles."""

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.geometry import rotation_y
from eucentric.io.imod_models import write_imod_model
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.star import read_star
from eucentric.models import ParticleSet


def test_spheres_from_text_and_from_centres(tmp_path):
    (tmp_path / "v.txt").write_text("100 0 0 200\n-300 50 20 150\n")
    out = str(tmp_path / "o.star")
    options = ["--spacing", "60", "--output", out]
    assert run(["pick-geometry", "spheres", str(tmp_path / "v.txt"), "--tomogram", "TS_01", *options]) == 0
    got = read_particles(out)
    first = got.select(got.columns["eucInstance"] == 1)
    away = first.positions_angstrom - [100, 0, 0]
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), 200.0, atol=1e-6)
    np.testing.assert_allclose(first.directions, away / 200.0, atol=1e-6)
    assert set(read_star(out)["particles"]["rlnAngleTiltPrior"]) == {90}
    write_particles(tmp_path / "c.star", ParticleSet.build("TS_02", [[0, 0, 0]]), "relion5")
    again = ["pick-geometry", "spheres", str(tmp_path / "c.star"), "--radius", "100", *options, "--overwrite"]
    assert run(again) == 0
    assert read_particles(out).tomogram_names == ("TS_02",)


def test_a_segmentation_and_a_mesh(tmp_path):
    block = np.zeros((20, 40, 40), np.float32)
    block[:10] = 1  # below the centre: up to z = -0.5 voxel
    write_mrc(tmp_path / "TS_01.mrc", block, 10.0)
    out = str(tmp_path / "o.star")
    assert run(["pick-geometry", "surface", str(tmp_path / "TS_01.mrc"), "--spacing", "50", "--output", out]) == 0
    got = read_particles(out)
    np.testing.assert_allclose(got.positions_angstrom[:, 2], -5.0, atol=0.5)
    np.testing.assert_allclose(got.directions, [[0, 0, 1.0]] * len(got), atol=1e-3)
    assert len(got) > 20
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 300 0 0\nv 0 300 0\nf 1 2 3\n")
    mesh = ["pick-geometry", "surface", str(tmp_path / "m.obj"), "--spacing", "50", "--output", out, "--overwrite"]
    assert run([*mesh, "--tomogram", "TS_09"]) == 0
    assert np.abs(read_particles(out).positions_angstrom[:, 2]).max() < 1e-9


def test_filaments_drawn_in_a_model(tmp_path):
    contour = np.array([[10.5, 20.5, 5.0], [30.5, 20.5, 5.0], [50.5, 20.5, 5.0]])
    write_imod_model(tmp_path / "TS_01.mod", [[contour]], (64, 40, 10), 10.0)
    out = str(tmp_path / "o.star")
    options = ["--spacing", "40", "--output", out, "--overwrite"]
    assert run(["pick-geometry", "filaments", str(tmp_path / "TS_01.mod"), *options]) == 0
    got = read_particles(out)
    np.testing.assert_allclose(got.positions_angstrom[0], [-220.0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(got.directions, [[1.0, 0, 0]] * 11, atol=1e-6)
    assert got.columns["rlnHelicalTrackLengthAngst"][-1] == pytest.approx(400.0)
    around = ["--radius", "110", "--around", "13", "--twist", "-27.7"]
    (tmp_path / "axis.star").write_bytes((tmp_path / "o.star").read_bytes())
    assert run(["pick-geometry", "filaments", str(tmp_path / "axis.star"), *options, *around]) == 0
    tube = read_particles(out)
    assert len(tube) == 13 * 11
    np.testing.assert_allclose(np.linalg.norm(tube.positions_angstrom[:, 1:], axis=1), 110.0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spheres", "v.txt", "--spacing", "9"], "--tomogram"),
        (["spheres", "c.star", "--spacing", "9"], "--radius"),
        (["spheres", "none.txt", "--spacing", "9", "--tomogram", "a"], "does not exist"),
        (["spheres", "v.txt", "--spacing", "-9", "--tomogram", "a"], "positive"),
        (["surface", "m.obj", "--spacing", "9"], "--tomogram"),
        (["filaments", "c.star", "--spacing", "9"], "rlnHelicalTubeID"),
    ],
)
def test_what_is_missing_is_told(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.txt").write_text("0 0 0 50\n")
    (tmp_path / "m.obj").write_text("")
    write_particles("c.star", ParticleSet.build("TS_02", [[0, 0, 0]]), "relion5")
    assert run(["pick-geometry", *arguments, "--output", "o.star"]) == 2
    assert message in capsys.readouterr().err


def test_a_hole_in_a_row_is_filled(tmp_path, capsys):
    row = np.stack([np.arange(9) * 80.0, np.zeros(9), np.zeros(9)], axis=1)
    turns = np.broadcast_to(rotation_y(90.0), (8, 3, 3))
    write_particles(tmp_path / "r.star", ParticleSet.build("a", np.delete(row, 4, axis=0), rotations=turns), "relion5")
    out = tmp_path / "o.star"
    complete = ["particles", "complete", str(tmp_path / "r.star"), "--distance", "100", "--output", str(out)]
    assert run(complete) == 0
    assert "1 were missing" in capsys.readouterr().out
    got = read_particles(out)
    np.testing.assert_allclose(got.positions_angstrom[-1], row[4], atol=1e-4)
    assert got.columns["eucLatticeVotes"][-1] == 2
