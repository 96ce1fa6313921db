"""`eucentric pick-geometry trace` and `wall`: what they write, and what they say to input they cannot use."""

import numpy as np

from eucentric.cli.main import run
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models import ParticleSet


def rod(path) -> None:
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (16, 24, 60)), indexing="ij")
    volume = np.random.default_rng(0).normal(0, 0.3, x.shape) - (np.hypot(z - 1, y + 3) < 3)
    write_mrc(path, volume.astype(np.float32), 10.0)


def test_a_solid_rod_is_traced_and_its_list_feeds_filaments(tmp_path, capsys):
    rod(tmp_path / "TS_01.mrc")
    out = tmp_path / "axis.star"
    command = ["pick-geometry", "trace", str(tmp_path / "TS_01.mrc"), "--diameter", "60", "--output", str(out)]
    assert run(command) == 0
    assert "a filament of" in capsys.readouterr().out
    got = read_particles(out)
    np.testing.assert_allclose(got.positions_angstrom[:, 1:], [[-30.0, 10.0]] * len(got), atol=5.0)
    assert np.abs(got.directions[:, 0]).min() > 0.99
    assert run(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    dense = ["pick-geometry", "filaments", str(out), "--spacing", "28", "--output", str(tmp_path / "actin.star")]
    assert run(dense) == 0
    assert len(read_particles(tmp_path / "actin.star")) > len(got)
    wrong = [*command, "--contrast", "bright", "--overwrite"]
    assert run(wrong) == 0
    assert "No filament was found" in capsys.readouterr().out


def test_walls_that_cannot_be_picked(tmp_path, capsys):
    rod(tmp_path / "TS_01.mrc")
    points = np.stack([np.linspace(-280, 280, 9), np.full(9, -30.0), np.full(9, 10.0)], axis=1)
    tube = {"rlnHelicalTubeID": 1.0}
    write_particles(tmp_path / "axis.star", ParticleSet.build("TS_01", points, columns=tube), "relion5")
    write_particles(tmp_path / "bare.star", ParticleSet.build("TS_01", points), "relion5")
    write_particles(tmp_path / "far.star", ParticleSet.build("TS_02", points, columns=tube), "relion5")

    def wall(axes: str) -> int:
        command = ["pick-geometry", "wall", str(tmp_path / "TS_01.mrc"), str(tmp_path / axes)]
        return run([*command, "--diameter", "100", "--output", str(tmp_path / "w.star"), "--overwrite"])

    assert wall("axis.star") == 1
    assert "no layer line" in capsys.readouterr().out
    assert wall("bare.star") == 2
    assert "pick-geometry trace" in capsys.readouterr().err
    assert wall("far.star") == 2
    assert "TS_02" in capsys.readouterr().err
