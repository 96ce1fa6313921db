"""`eucentric convert`: tilt series, particles and volumes to other formats, told in words and checked."""

import json
from pathlib import Path

import numpy as np
import pytest
from exchange_project import PIXEL, PLACES, SIZE_XY, make_project

from eucentric.io import read_mrc, read_particles, write_mrc
from eucentric.io.exchange.formats import GEOMETRY_FORMATS, read_geometry
from eucentric.io.exchange.records import Given
from eucentric.io.particle_words import PARTICLE_WORDS
from eucentric.io.particles import PARTICLE_FORMATS, READ_ONLY
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline import convert as module

SIZE = ("--image-size", *SIZE_XY)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"), ("TS_01",))


@pytest.fixture
def table(project):
    return project / "reconstruct" / "tilt_series.star"


def test_a_series_goes_to_imod_and_back(table, program, tmp_path):
    code, out, err = program("convert", table, tmp_path / "TS_01.xf", "--check", "--json")
    assert code == 0, err
    for word in ("origin:", "unit:", "hand:", "angles:", "From RELION-5", "To IMOD"):
        assert word in out
    told = json.loads(out.splitlines()[-1])
    assert "hand kept" in told["checks"][0]
    (picture,) = map(Path, told["pictures"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, err = program("convert", tmp_path / "TS_01.xf", tmp_path / "back.star", *SIZE, "--pixel-size", PIXEL)
    assert code == 0, err
    given = Given(image_shape=SIZE_XY[::-1])
    (ours,) = read_geometry(table, given)[1]
    (back,) = read_geometry(tmp_path / "back.star", given)[1]
    assert module.compare_geometry(ours.series, back.series).position_px < 0.1


def test_losses_are_told_and_fail_the_check(table, program, tmp_path):
    code, out, _ = program("convert", table, tmp_path / "lists", "--to", "stopgap", "--check")
    assert "loss: TS_01: the tilt axis" in out
    assert code == 1


def test_particles_go_to_dynamo_over_a_tomogram(project, program, tmp_path):
    picks, tomogram = project / "pick" / "blobs" / "particles.star", project / "reconstruct" / "tomograms" / "TS_01.mrc"
    code, out, err = program("convert", picks, tmp_path / "picks.tbl", "--tomograms", tomogram, "--check", "--json")
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert "0.000 A apart" in told["checks"][0]
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(36, 32, 20))
    back = read_particles(tmp_path / "picks.tbl", TomogramFrames(default=frame))
    np.testing.assert_allclose(back.positions_angstrom, PLACES, atol=0.01)


def test_a_check_that_finds_another_list_fails(project, program, tmp_path, monkeypatch):
    picks = project / "pick" / "blobs" / "particles.star"
    moved = read_particles(picks).with_positions(PLACES + 5.0)
    monkeypatch.setattr(module, "read_list", lambda *_: moved)
    tomogram = project / "reconstruct" / "tomograms" / "TS_01.mrc"
    code, out, _ = program("convert", picks, tmp_path / "picks.tbl", "--tomograms", tomogram, "--check")
    assert code == 1
    assert "8.660 A apart" in out


@pytest.mark.parametrize("ending", [".zarr", ".em", ".tif", ".hdf"])
def test_volumes_go_to_other_formats(program, tmp_path, ending):
    volume = np.random.default_rng(1).normal(size=(7, 9, 11)).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", volume, 7.5)
    code, out, err = program("convert", tmp_path / "a.mrc", tmp_path / f"b{ending}", "--check")
    assert code == 0, err
    assert "7.5 x 7.5 x 7.5 A" in out
    again = ("--pixel-size", 7.5) if ending == ".em" else ()  # EM files keep none, which is told
    assert ("7.5 A was lost" in out) == bool(again)
    assert program("convert", tmp_path / f"b{ending}", tmp_path / "c.mrc", *again)[0] == 0
    back, header = read_mrc(tmp_path / "c.mrc")
    np.testing.assert_allclose(np.asarray(back, dtype=np.float32), volume, atol=1e-6)
    assert header.voxel_size_angstrom == pytest.approx((7.5,) * 3, abs=1e-3)


def test_nothing_is_replaced_unasked(table, program, tmp_path):
    (tmp_path / "TS_01.xf").write_text("mine")
    code, _, err = program("convert", table, tmp_path / "TS_01.xf")
    assert code == 2
    assert "--overwrite" in err
    assert (tmp_path / "TS_01.xf").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xyz", "1 2 3\n", "Say what is meant"),
        ("a.ORSObject", "x", "Dragonfly"),
        ("missing.star", None, "does not exist"),
        ("a.star", "data_\n\nloop_\n_rlnSomething #1\n1\n", "Say what is meant"),
    ],
)
def test_what_cannot_be_converted_is_told(program, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    code, _, err = program("convert", tmp_path / name, tmp_path / "out.xf")
    assert code == 2
    assert words in err


def test_a_target_that_tells_no_format_is_asked_about(table, program, tmp_path):
    code, _, err = program("convert", table, tmp_path / "somewhere")
    assert code == 2
    assert "--to" in err


def test_the_help_names_every_format(program):
    text = program("convert", "--help")[1].replace("-\n", "-")
    missing = [n for n in (*GEOMETRY_FORMATS, *(set(PARTICLE_FORMATS) - READ_ONLY)) if n not in text]
    assert missing == []


def test_every_particle_format_has_words():
    assert set(PARTICLE_WORDS) == set(PARTICLE_FORMATS)
