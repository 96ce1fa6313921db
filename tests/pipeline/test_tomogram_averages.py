"""Averages of particles in tomograms without tilt series: reprojected, cut and averaged; with real microtubules."""

import json

import numpy as np
import pytest
import tifffile
import torch

from eucentric.averaging.place_maps import place_copies
from eucentric.cli.main import run
from eucentric.geometry import Rotation
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.tilt_series import tilt_series_names
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.projection.cylinder import Cylinders
from eucentric.simulation import asymmetric_phantom

VOXEL, BOX = 8.0, 36
FRAME = TomogramFrame(voxel_size_angstrom=VOXEL, size_xyz=(128, 132, 40))


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory):
    """Twelve particles, dark, with their list."""
    root = tmp_path_factory.mktemp("tomogram")
    places = np.array([[x, y, 0.1 * x - 20.0] for x in (-330.0, -10.0, 310.0) for y in (-350.0, -90.0, 150.0, 380.0)])
    turns = Rotation.random(12, np.random.default_rng(4)).matrices
    phantom = asymmetric_phantom(100.0).volume((BOX, BOX, BOX), VOXEL)
    placed = -place_copies(phantom, FRAME, places, turns)
    placed += 0.02 * placed.std() * np.random.default_rng(5).normal(size=placed.shape).astype(np.float32)
    write_mrc(root / "T1.mrc", placed, VOXEL)
    write_mrc(root / "bright.mrc", -placed, VOXEL)
    write_particles(root / "list.star", ParticleSet.build("T1", places, rotations=turns), "relion5")
    (root / "eucentric.toml").write_text("")
    return root, phantom.numpy()


def test_particles_in_a_tomogram_alone_are_averaged(tomogram):
    root, phantom = tomogram
    table = root / "seen" / "tilt_series.star"
    tilts = ["--tilts", "-60", "60", "4"]
    assert run(["reproject", str(root / "T1.mrc"), *tilts, "--table", str(table), "--output", str(root / "s.mrc")]) == 0
    seen, _ = read_mrc(root / "s.mrc")
    assert 0.5 < seen.min() < seen.max() < 1.5
    assert seen.mean() == pytest.approx(1.0, abs=0.01)
    assert run(
        ["average", str(root / "list.star"), "--series", str(table), "--no-ctf", "--no-dose-weighting", "--tilt-weights", "none",
         "--box-size", str(BOX), "--mask-diameter-angstrom", "190", "--output", str(root / "average")]
    ) == 0  # fmt: skip
    made, header = read_mrc(root / "average" / "map.mrc")
    assert header.voxel_size_angstrom[0] == pytest.approx(VOXEL)
    assert np.corrcoef(made.ravel(), phantom.ravel())[0, 1] > 0.9  # bright, in place
    assert np.corrcoef(made.ravel(), phantom[::-1].ravel())[0, 1] < 0.7  # and of the right hand
    # a second tomogram is added, and takes no other's place unasked
    other = [str(root / "bright.mrc"), *tilts, "--table", str(table), "--output", str(root / "b.mrc")]
    assert run(["reproject", *other, "--contrast", "bright"]) == 0
    assert list(tilt_series_names(table)) == ["T1", "bright"]
    np.testing.assert_allclose(read_mrc(root / "b.mrc")[0], seen, atol=1e-5)


def test_tables_that_cannot_be_made(tomogram, capsys):
    root, _ = tomogram
    tilts = ["--tilts", "-60", "60", "20"]
    target = [str(root / "T1.mrc"), *tilts, "--output", str(root / "x.mrc")]
    assert run(["reproject", *target, "--table", str(root / "x.txt")]) == 2
    assert "tilt_series.star" in capsys.readouterr().err
    table = root / "twice" / "tilt_series.star"
    assert run(["reproject", *target, "--table", str(table)]) == 0
    again = [*target[:-1], str(root / "y.mrc"), "--table", str(table)]
    assert run(["reproject", *again]) == 2
    assert "has a series T1 already" in capsys.readouterr().err
    write_mrc(root / "empty.mrc", np.zeros((8, 16, 16), np.float32), VOXEL)
    assert (
        run(
            [
                "reproject",
                str(root / "empty.mrc"),
                *tilts,
                "--output",
                str(root / "e.mrc"),
                "--table",
                str(root / "e.star"),
            ]
        )
        == 2
    )
    assert "is empty" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "weights"), [("13pf", 13, "none"), ("13pf", 13, "noise"), ("14pf", 14, "noise")]
)
def test_real_microtubules_become_tubes_with_protofilaments(shared_data, tmp_path, monkeypatch, name, number, weights):
    """One microtubule in a tomogram: the average shows its protofilaments all around, and tubulin every 4 nm."""
    monkeypatch.chdir(tmp_path)
    volume = tifffile.imread(shared_data / "real" / "microtubules" / f"{name}_MT.tif").astype(np.float32)
    write_mrc(tmp_path / "mt.mrc", volume, 10.52)
    tube = ["--diameter", "250", "--wall", "45", "--contrast", "bright"]
    assert run(["pick-geometry", "trace", "mt.mrc", *tube, "--output", "axis.star"]) == 0
    assert run(["pick-geometry", "filaments", "axis.star", "--spacing", "40.9", "--output", "picks.star"]) == 0
    table = ["--table", "seen/tilt_series.star", "--contrast", "bright"]
    assert run(["reproject", "mt.mrc", "--tilts", "-60", "60", "2", *table, "--output", "stack.mrc"]) == 0
    # the lattice of textbooks, not that of this tomogram: three starts, left-handed
    rise, twist = 3 * 40.9 / number, {13: -27.69, 14: -25.76}[number]
    helix = [
        "--helical-rise-angstrom",
        f"{rise}",
        "--helical-twist-deg",
        f"{twist}",
        "--helical-outer-radius-angstrom",
        "140",
    ]
    assert run(
        ["average", "picks.star", "--series", "seen/tilt_series.star", "--no-ctf", "--no-dose-weighting", "--tilt-weights", weights,
         "--box-size", "48", *helix, "--output", "average"]
    ) == 0  # fmt: skip
    told = json.loads((tmp_path / "average" / "average.json").read_text())["helix"]
    assert told["deviations"] > 4.0
    assert told["rise_angstrom"] * number / 3 == pytest.approx(40.9, rel=0.015)
    assert told["twist_deg"] == pytest.approx(twist, abs=0.15)
    made, _ = read_mrc(tmp_path / "average" / "map.mrc")
    cylinders = Cylinders.of(torch.from_numpy(np.array(made)), 10.52)
    radii = cylinders.radii_angstrom
    profile = np.einsum("zrt->r", cylinders.values)
    assert 95.0 < radii[profile.argmax()] < 130.0  # a tube
    wall = cylinders.values[:, (radii > 95) & (radii < 130)].mean(axis=1)
    power = np.abs(np.fft.fft2(wall - wall.mean())) ** 2
    around = power[0, 1:25]
    assert int(around.argmax()) + 1 == number
    along = power[2 : len(wall) // 2, :].sum(axis=1)
    repeat = len(wall) * 10.52 / (2 + int(along.argmax()))
    assert repeat == pytest.approx(40.9, rel=0.06)  # twelve repeats in a box: a half of one
