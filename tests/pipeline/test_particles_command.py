"""`eucentric particles`: what its commands write and say."""

import json

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.geometry import Rotation
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.star import read_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import ParticleSet, Tilt, TiltPose, TiltSeries


@pytest.fixture
def lists(tmp_path):
    """Two lists that share two of three particles, 4 A apart."""
    rng = np.random.default_rng(3)
    places = np.array([[0.0, 0, 0], [100, 0, 40], [0, 100, -40]])
    turns = Rotation.random(3, rng).matrices
    first = ParticleSet.build("TS_01", places, rotations=turns, scores=[0.9, 0.8, 0.7], kinds=["a", "a", "b"])
    second = first.with_positions(places + np.diag([4.0, 4.0, 400.0])).with_scores([0.5, 0.95, 0.6])
    for name, one in (("a", first), ("b", second)):
        write_particles(tmp_path / f"{name}.star", one, "relion5")
    return tmp_path


def table_of_series(folder):
    tilts = [
        Tilt(nominal_tilt_deg=a, acquisition=i, dose=3, pre_exposure=3 * i, pose=TiltPose(y_tilt_deg=a, z_rot_deg=0))
        for i, a in enumerate((-60.0, 0.0, 60.0))
    ]
    series = TiltSeries(name="TS_01", pixel_size_angstrom=4.0, image_shape=(64, 64), tilts=tuple(tilts))
    path = folder / "align" / "tilt_series.star"
    (folder / "eucentric.toml").write_text("")
    write_tilt_series_set(path, [series], folder)
    return path


def test_combining_lists(lists, capsys):
    both = [str(lists / "a.star"), str(lists / "b.star")]
    out = str(lists / "out.star")
    assert run(["particles", "merge", *both, "--distance", "10", "--output", out]) == 0
    assert sorted(read_particles(out).scores) == [0.6, 0.7, 0.9, 0.95]
    assert run(["particles", "intersect", *both, "--distance", "10", "--output", out, "--overwrite"]) == 0
    assert read_particles(out).columns["eucMatchDistanceAngst"].tolist() == [4.0, 4.0]
    assert run(["particles", "subtract", *both, "--distance", "10", "--output", out, "--overwrite", "--json"]) == 0
    assert read_particles(out).kinds.tolist() == ["b"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "exit_code": 0,
        "particles": 1,
        "of": 3,
        "output": out,
    }
    assert run(["particles", "dedupe", both[0], "--distance", "150", "--output", out, "--overwrite"]) == 0
    assert read_particles(out).scores.tolist() == [0.9]


def test_there_and_back_through_another_program(lists, capsys):
    size = ["--tomogram-size", "100", "90", "80", "--pixel-size", "8"]
    assert run(["particles", "convert", str(lists / "a.star"), str(lists / "a.tbl"), "--to", "dynamo", *size]) == 0
    assert run(["particles", "convert", str(lists / "a.tbl"), str(lists / "back.star"), *size]) == 0
    a, back = read_particles(lists / "a.star"), read_particles(lists / "back.star")
    np.testing.assert_allclose(back.positions_angstrom, a.positions_angstrom, atol=1e-4)
    assert np.max(Rotation(back.rotations).angle_to_deg(Rotation(a.rotations))) < 1e-3
    assert run(["particles", "convert", str(lists / "a.star"), str(lists / "models"), "--to", "imod", *size]) == 0
    assert (lists / "models" / "TS_01.mod").is_file()
    assert "3 particles of 1 tomograms" in capsys.readouterr().out


def test_selecting(lists):
    out, mask = str(lists / "out.star"), np.zeros((20, 40, 40), np.float32)
    mask[:, :, 25:] = 1  # x > 45 A at 10 A per voxel
    write_mrc(lists / "mask.mrc", mask, 10.0)
    series = str(table_of_series(lists))

    def kept(*options: str) -> list[float]:
        assert run(["particles", "select", str(lists / "a.star"), "--output", out, "--overwrite", *options]) == 0
        return read_particles(out).scores.tolist()

    assert kept("--kind", "b") == [0.7]
    assert kept("--min-score", "0.75", "--tomogram", "TS*") == [0.9, 0.8]
    assert kept("--best", "1") == [0.9, 0.7]
    assert kept("--slab", "-50", "10") == [0.9, 0.7]
    assert kept("--mask", str(lists / "mask.mrc")) == [0.8]
    assert kept("--mask-distance", "0", "50", "--mask", str(lists / "mask.mrc")) == [0.9, 0.7]
    assert kept("--neighbours", "2", "--neighbour-distance", "150") == [0.9]
    assert kept("--series", series, "--min-tilts", "2", "--radius", "30") == [0.9, 0.8]


def test_scoring_and_projecting(lists, capsys):
    arguments = ["particles", "score", str(lists / "a.star"), "--truth", str(lists / "b.star"), "--distance", "10"]
    assert run([*arguments, "--json", "--symmetry", "a=C2", "C1"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]
    assert [s["kind"] for s in scores] == ["a", "b", ""]
    assert scores[2]["f1"] == pytest.approx(2 / 3)
    assert run([*arguments, "--truth-kinds", "a=x", "b=a", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]
    assert [s["kind"] for s in scores] == ["a", "x", ""]
    assert scores[2]["matched"] == 0
    assert run([*arguments, "--truth-kinds", "30S"]) == 2
    assert "0=30S" in capsys.readouterr().err
    assert run([*arguments, "--truth-kinds", "7=a"]) == 2
    assert "There are: a, b" in capsys.readouterr().err
    assert scores[1]["median_angle_deg"] is None
    out = lists / "seen.star"
    series = str(table_of_series(lists))
    assert run(["particles", "project", str(lists / "a.star"), "--series", series, "--output", str(out)]) == 0
    table = read_star(out)["particles"]
    assert len(table) == 9
    assert table["rlnCoordinateX"][3] == 32.0  # the first particle at tilt 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dedupe", "a.star", "--output", "a.star", "--distance", "5"], "exists"),
        (["dedupe", "none.star", "--output", "o.star", "--distance", "5"], "does not exist"),
        (["dedupe", "empty.star", "--output", "o.star", "--distance", "5"], "no particle"),
        (["dedupe", "a.star", "--output", "o.star", "--distance", "-5"], "positive"),
        (["merge", "a.star", "--output", "o.star"], "two lists"),
        (["convert", "a.star", "o.tbl", "--to", "dynamo"], "--tomograms"),
        (["convert", "a.star", "o.x", "--to", "spider"], "no format"),
        (["convert", "a.star", "o.tbl", "--to", "dynamo", "--pixel-size", "4"], "together"),
        (["convert", "two.star", "o.em", "--to", "em", "--tomograms", "grids.star"], "8, 10 A"),
        (["select", "a.star", "--output", "o.star", "--max-q-value", "0.05"], "q-values"),
        (["select", "a.star", "--output", "o.star", "--min-tilts", "5"], "--series"),
        (["select", "a.star", "--output", "o.star", "--neighbours", "3"], "--neighbour-distance"),
        (["score", "a.star", "--truth", "b.star", "--distance", "9", "--symmetry", "X9"], "symmetry"),
        (["select", "a.star", "--output", "o.star", "--kind", "c"], "There are: a, b"),
        (["score", "a.star", "--truth", "b.star", "--distance", "9", "--symmetry", "c=C2"], "truth is of a, b"),
        (
            ["score", "a.star", "--truth", "b.star", "--distance", "9", "--truth-kinds", "a=0", "b=1"],
            "--truth-kinds 0=NAME, or give --any-kind",
        ),
    ],
)
def test_what_cannot_be_done_is_told(arguments, message, lists, monkeypatch, capsys):
    monkeypatch.chdir(lists)
    write_particles("empty.star", ParticleSet.empty(), "relion5")
    write_particles("two.star", ParticleSet.build(["T1", "T2"], np.zeros((2, 3))), "relion5")
    rows = "T1 60 60 20 8\nT2 60 60 20 10\n"
    labels = "".join(
        f"_{n}\n" for n in ("rlnTomoName", *(f"rlnTomoSize{a}" for a in "XYZ"), "rlnTomoTiltSeriesPixelSize")
    )
    (lists / "grids.star").write_text(f"data_global\n\nloop_\n{labels}{rows}\n")
    assert run(["particles", *arguments]) == 2
    assert message in capsys.readouterr().err
