"""`eucentric import --from`: positions of particles stay true whatever the grid of their list."""

from dataclasses import replace

import numpy as np
import pytest
from exchange_project import PIXEL, PLACES, make_project

from eucentric.io import read_particles, read_tilt_series_set, write_particles, write_tilt_series_set
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("name", ["relion5", "relion4", "warp", "imod", "eman2"])
def test_particles_lie_where_they_lay(project, program, tmp_path, name):
    out, new = tmp_path / "out", tmp_path / "new"
    assert program("export", project, out, "--to", name)[0] == 0
    code, text, err = program("import", new, "--from", name, out, "--voltage", 300, "--pixel-size", PIXEL)
    assert code == 0, (text, err)
    lists = sorted((new / "pick").glob("*/particles.star"))
    assert len(lists) == 1, (lists, text)
    for tomogram in ("TS_01", "TS_02"):
        back = read_particles(lists[0]).in_tomogram(tomogram).positions_angstrom
        apart = np.linalg.norm(back[:, None] - PLACES[None], axis=2)
        assert len(back) == len(PLACES)
        assert apart.min(axis=0).max() < 0.05


def test_models_of_all_series_are_one_list_with_its_name(project, program, tmp_path):
    assert program("export", project, tmp_path / "out", "--to", "imod")[0] == 0
    assert program("import", tmp_path / "new", "--from", "imod", tmp_path / "out", "--voltage", 300)[0] == 0
    assert [p.parent.name for p in (tmp_path / "new" / "pick").glob("*/particles.star")] == ["pick_blobs"]


def test_voxels_of_a_tomogram_that_is_not_there_are_not_guessed(project, program, tmp_path):
    out = tmp_path / "out"
    assert program("export", project, out, "--to", "imod")[0] == 0
    picks = read_particles(project / "pick" / "blobs" / "particles.star")
    voxels = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(36, 32, 20)))
    write_particles(out / "mine.tbl", picks, "dynamo", voxels)
    assert program("import", tmp_path / "with", "--from", "imod", out, "--voltage", 300)[0] == 0
    mine = read_particles(tmp_path / "with" / "pick" / "mine" / "particles.star").in_tomogram("TS_01")
    np.testing.assert_allclose(mine.positions_angstrom, PLACES, atol=0.02)
    for path in (out / "tomograms").iterdir():
        path.unlink()
    code, text, _ = program("import", tmp_path / "without", "--from", "imod", out, "--voltage", 300)
    assert code == 0
    assert "eucentric particles convert" in text
    assert not (tmp_path / "without" / "pick" / "mine").exists()
    # models say themselves how large their voxels are
    assert (tmp_path / "without" / "pick" / "pick_blobs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "foo", "."), "copick"),
        (("--from", "relion5", ".", "--frames", "x.tif"), "--alignment"),
        (("--from", "zarr", ".", "--particles", "x.star"), "convert the list"),
        (("--from", "relion5", "nowhere"), "does not exist"),
    ],
)
def test_wrong_wishes_are_told(program, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = program("import", tmp_path / "new", *arguments)
    assert (code, words in err) == (2, True), err


def test_halves_of_images_come_along_by_paths_from_the_project(program, tmp_path):
    root = make_project(tmp_path / "project", ("TS_01",))
    (series,) = read_tilt_series_set(root / "reconstruct" / "tilt_series.star", root)
    tilts = [replace(t, image_even=t.image, image_odd=t.image) for t in series.tilts]
    write_tilt_series_set(root / "reconstruct" / "tilt_series.star", [series.with_tilts(tilts)], root)
    assert program("export", root, tmp_path / "out", "--to", "relion5")[0] == 0
    assert program("import", tmp_path / "new", "--from", "relion5", tmp_path / "out")[0] == 0
    (back,) = read_tilt_series_set(tmp_path / "new" / "import" / "tilt_series.star", tmp_path / "new")
    assert back.has_halves
    for tilt in back.tilts:
        for name in (tilt.image, tilt.image_even, tilt.image_odd):
            assert not name.startswith("/")
            assert (tmp_path / "new" / name).is_file()
