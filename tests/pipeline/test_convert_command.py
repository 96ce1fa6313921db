"""`eucentric convert`: tilt series, particles and volumes to other formats, told in words and checked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange_project import PIXEL, PLACES, SIZE_XY, make_project

from eucentric.evaluation.geometry_difference import compare_geometry
from eucentric.io import read_mrc, read_particles, write_mrc, write_particles
from eucentric.io.exchange.formats import GEOMETRY_FORMATS, read_geometry
from eucentric.io.exchange.records import Given
from eucentric.io.particle_words import PARTICLE_WORDS
from eucentric.io.particles import PARTICLE_FORMATS, READ_ONLY
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline import convert as module
from eucentric.pipeline import convert_checks as checks
from eucentric.pipeline.convert_checks import tomogram_slices

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
    assert compare_geometry(ours.series, back.series).position_px < 0.1


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


def test_the_picture_shows_the_slice_the_particles_lie_in(project):
    tomogram = project / "reconstruct" / "tomograms" / "TS_01.mrc"
    volume = read_mrc(tomogram)[0]
    slices = tomogram_slices(tomogram, PLACES[1:2])
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(36, 32, 20))
    x, y, z = np.round(frame.to_index(PLACES[1])).astype(int)
    np.testing.assert_allclose(slices.pictures[0], volume[z], atol=1e-6)
    np.testing.assert_allclose(slices.pictures[1], volume[:, y], atol=1e-6)
    assert slices.pictures[0][y, x] < -0.5


@pytest.mark.parametrize("name", ["imod", "copick", "portal"])
def test_lists_that_are_written_in_another_order_are_compared_one_by_one(project, program, tmp_path, name):
    source = read_particles(project / "pick" / "blobs" / "particles.star").with_kinds(["b", "a", "b", "a", "c"])
    write_particles(tmp_path / "mixed.star", source, "relion5")
    tomogram = project / "reconstruct" / "tomograms" / "TS_01.mrc"
    arguments = ("--to", name, "--tomograms", tomogram, "--check")
    code, out, err = program("convert", tmp_path / "mixed.star", tmp_path / "out", *arguments)
    assert code == 0, (out, err)


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


@pytest.mark.parametrize("mine", ["TS_01.xf", "tilt.com", "TS_01.tlt"])
def test_nothing_is_replaced_unasked(table, program, tmp_path, mine):
    (tmp_path / mine).write_text("mine")
    code, _, err = program("convert", table, tmp_path / "TS_01.xf")
    assert (code, mine in err, "--overwrite" in err) == (2, True, True)
    assert [p.name for p in tmp_path.iterdir()] == [mine]
    assert (tmp_path / mine).read_text() == "mine"
    assert program("convert", table, tmp_path / "TS_01.xf", "--overwrite")[0] == 0
    assert (tmp_path / mine).read_text() != "mine"


def test_two_tables_in_one_folder_do_not_share_their_series(table, program, tmp_path):
    assert program("convert", table, tmp_path / "a.star")[0] == 0
    before = (tmp_path / "tilt_series" / "TS_01.star").read_text()
    code, _, err = program("convert", table, tmp_path / "b.star")
    assert (code, "tilt_series/TS_01.star" in err) == (2, True)
    assert (tmp_path / "tilt_series" / "TS_01.star").read_text() == before


def test_volumes_and_lists_are_not_replaced_either(project, program, tmp_path):
    tomogram, picks = project / "reconstruct" / "tomograms" / "TS_01.mrc", project / "pick" / "blobs" / "particles.star"
    assert program("convert", tomogram, tmp_path / "v.zarr")[0] == 0
    assert "--overwrite" in program("convert", tomogram, tmp_path / "v.zarr")[2]
    assert program("convert", tomogram, tmp_path / "v.zarr", "--overwrite")[0] == 0
    to = (tmp_path / "p.tbl", "--tomograms", tomogram)
    assert program("convert", picks, *to)[0] == 0
    assert "--overwrite" in program("convert", picks, *to)[2]


def test_defocus_that_is_wrong_fails_the_check(table, program, tmp_path, monkeypatch):
    original = checks.read_back

    def shifted(*arguments):
        back = original(*arguments)
        tilts = [
            replace(t, ctf=replace(t.ctf, defocus_u_angstrom=t.ctf.defocus_u_angstrom + 50.0))
            for t in back.series.tilts
        ]
        return replace(back, series=back.series.with_tilts(tilts))

    assert program("convert", table, tmp_path / "a.aln", "--check")[0] == 0
    monkeypatch.setattr(checks, "read_back", shifted)
    assert program("convert", table, tmp_path / "b.aln", "--check")[0] == 1


def test_a_format_without_hand_is_not_said_to_keep_it(table, program, tmp_path):
    _, out, _ = program("convert", table, tmp_path / "out", "--to", "protomo", "--check")
    assert "the format holds no hand" in out
    assert "hand kept" not in out


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [("a.xf", ("--dtype", "int8"), "--dtype is of volumes"), ("a.tbl", (), "holds tilt series")],
)
def test_what_does_not_apply_is_refused(table, program, tmp_path, target, options, words):
    code, _, err = program("convert", table, tmp_path / target, *options)
    assert (code, words in err) == (2, True), err


def test_a_check_of_a_volume_is_not_asked_for_a_format(project, program, tmp_path):
    tomogram = project / "reconstruct" / "tomograms" / "TS_01.mrc"
    code, _, err = program("convert", tomogram, tmp_path / "v.em", "--to", "relion5")
    assert (code, "leave --to out" in err) == (2, True)


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
