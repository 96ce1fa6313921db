"""`eucentric export`: what other programs find in the folder shows every point where its own tables say."""

import json
from pathlib import Path

import numpy as np
import pytest
from exchange_project import PIXEL, PLACES, SIZE_XY, make_project

from eucentric.evaluation.geometry_difference import compare_geometry, seen_points
from eucentric.io import read_mrc, read_particles, read_tilt_series_set
from eucentric.io.exchange.formats import read_geometry
from eucentric.io.exchange.records import Given
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.export.project import PROGRAMS

GEOMETRY = {
    "relion5": "tilt_series.star",
    "relion4": "tomograms.star",
    "warp": ".",
    "imod": "TS_01",
    "aretomo": "TS_01.aln",
    "eman2": ".",
    "emclarity": ".",
    "dynamo": ".",
}
"""Where a program finds the alignment in its folder."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def test_every_program_of_the_help_can_be_exported_to(program):
    text = program("export", "--help")[1]
    assert all(name in text for name in PROGRAMS)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_folders_are_made_with_words(project, program, tmp_path, name):
    code, out, _ = program("export", project, tmp_path / "out", "--to", name, "--json")
    assert code == 0
    told = json.loads(out.splitlines()[-1])
    assert told["series"] == ["TS_01", "TS_02"]
    assert told["next"]
    assert all(Path(f).exists() for f in told["files"])
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert all(step in readme for step in told["next"])
    assert all(loss in readme for loss in told["losses"])
    links = [f for f in map(Path, told["files"]) if f.is_symlink()]
    assert all(f.resolve().is_file() for f in links)


@pytest.mark.parametrize("name", sorted(GEOMETRY))
def test_images_show_points_where_the_tables_of_the_folder_say(project, program, tmp_path, name):
    out = tmp_path / "out"
    assert program("export", project, out, "--to", name, "--copy")[0] == 0
    given = Given(pixel_size_angstrom=PIXEL, image_shape=SIZE_XY[::-1])
    _, found = read_geometry(out / GEOMETRY[name], given, name)
    back = next(g for g in found if g.series.name == "TS_01")
    ours = next(
        s for s in read_tilt_series_set(project / "reconstruct" / "tilt_series.star", project) if s.name == "TS_01"
    )
    apart = compare_geometry(ours, back.series, second_warp=back.warp)
    assert apart.position_px < 0.1
    assert apart.tilts_missing == 0
    shown = 0
    for i, (tilt, places) in enumerate(
        zip(back.series.tilts, seen_points(back.series, back.warp, PLACES), strict=True), 1
    ):
        # Dynamo's files name no stack: it has the name of the series
        section, _, path = (tilt.image or (f"{i}@TS_01.st" if name == "dynamo" else "")).rpartition("@")
        assert path, (name, "no image is named")
        file = Path(path) if Path(path).is_absolute() else out / path
        picture = read_mrc(file)[0][int(section) - 1 if section else 0]
        for x, y in np.round(places[:, :2]).astype(int):
            around = picture[y - 3 : y + 4, x - 3 : x + 4]
            if around.shape == (7, 7) and around.min() < -0.5:
                least = np.array(np.unravel_index(around.argmin(), around.shape)) - 3
                assert np.abs(least).max() <= 2  # blobs may overlap
                shown += 1
    assert shown >= 15


@pytest.mark.parametrize(
    ("name", "file", "form"),
    [
        ("relion5", "particles_pick_blobs.star", "relion5"),
        ("relion4", "particles_pick_blobs.star", "relion4"),
        ("warp", "particles_pick_blobs_10.00Apx.star", "warp"),
        ("imod", "particles/pick_blobs/TS_01.mod", "imod"),
        ("dynamo", "pick_blobs.tbl", "dynamo"),
        ("stopgap", "lists/pick_blobs_motl_1.star", "stopgap"),
    ],
)
def test_particles_lie_where_the_tomogram_shows_them(project, program, tmp_path, name, file, form):
    out = tmp_path / "out"
    assert program("export", project, out, "--to", name)[0] == 0
    voxels = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(36, 32, 20))
    pixels = TomogramFrame(voxel_size_angstrom=PIXEL, size_xyz=(72, 64, 40))
    frames = TomogramFrames(default=pixels if form in ("relion4", "relion5") else voxels)
    back = read_particles(out / file, frames, form)
    own = back.in_tomogram("TS_01")
    np.testing.assert_allclose(own.positions_angstrom, PLACES, atol=0.02)
    source = read_particles(project / "pick" / "blobs" / "particles.star").in_tomogram("TS_01")
    np.testing.assert_allclose(own.rotations, source.rotations, atol=2e-4)


def test_one_bad_series_stops_no_other_and_is_told(program, tmp_path):
    root = make_project(tmp_path / "project")
    next((root / "motion" / "images" / "TS_02").glob("*_002.mrc")).unlink()
    code, out, _ = program("export", root, tmp_path / "out", "--to", "relion5")
    assert code == 1
    assert "TS_02 was left out" in out
    assert (tmp_path / "out" / "tilt_series" / "TS_01.star").is_file()
    assert not (tmp_path / "out" / "tilt_series" / "TS_02.star").exists()
    assert "TS_02 was left out" in (tmp_path / "out" / "README.txt").read_text()


def test_nothing_that_is_there_is_lost(project, program, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    code, _, err = program("export", project, out, "--to", "imod")
    assert (code, "--overwrite" in err) == (2, True)
    assert program("export", project, out, "--to", "imod", "--overwrite")[0] == 0
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--to", "excel"), "There is no program `excel`"), (("--to", "imod", "--only", "XX*"), "of such a name")],
)
def test_wrong_wishes_are_told(project, program, tmp_path, arguments, words):
    code, _, err = program("export", project, tmp_path / "out", *arguments)
    assert code == 2
    assert words in err


def test_a_folder_that_is_no_project_is_told(program, tmp_path):
    code, _, err = program("export", tmp_path, tmp_path / "out", "--to", "imod")
    assert code == 2
    assert "is no project" in err


def test_a_project_without_alignment_is_told(program, tmp_path):
    root = make_project(tmp_path / "project")
    table = root / "reconstruct" / "tilt_series" / "TS_01.star"
    for name in ("TS_01", "TS_02"):
        table = root / "reconstruct" / "tilt_series" / f"{name}.star"
        table.write_text(table.read_text().replace("_rlnTomoYTilt", "_rlnOther"))
    code, _, err = program("export", root, tmp_path / "out", "--to", "warp")
    assert code == 2
    assert "eucentric align" in err


@pytest.mark.parametrize("name", sorted(set(GEOMETRY) - {"emclarity", "dynamo"}))
def test_a_folder_comes_back_as_a_project(project, program, tmp_path, name):
    out, new = tmp_path / "out", tmp_path / "new"
    assert program("export", project, out, "--to", name)[0] == 0
    place = out / "TS_01" if name == "imod" else out / "TS_01.aln" if name == "aretomo" else out
    code, text, err = program("import", new, "--from", name, place, "--voltage", 300, "--pixel-size", PIXEL)
    assert code == 0, (text, err)
    ours = read_tilt_series_set(project / "reconstruct" / "tilt_series.star", project)[0]
    back = read_tilt_series_set(new / "import" / "tilt_series.star", new)[0]
    assert compare_geometry(ours, back).position_px < 0.1
    assert "method" in (new / "eucentric.toml").read_text()
    images = [new / (t.image or "").rpartition("@")[2] for t in back.tilts]
    assert all(path.is_file() for path in images)
    assert (new / "import" / "ctf" / "TS_01.star").is_file()


def test_particle_lists_come_along(project, program, tmp_path):
    out, new = tmp_path / "out", tmp_path / "new"
    assert program("export", project, out, "--to", "relion5")[0] == 0
    code, text, _ = program("import", new, "--from", "relion5", out)
    assert code == 0
    assert "particles" in text
    (listed,) = (new / "pick").glob("*/particles.star")
    back = read_particles(listed).in_tomogram("TS_02")
    np.testing.assert_allclose(back.positions_angstrom, PLACES, atol=0.01)


def test_foreign_tables_without_images_say_what_to_do(project, program, tmp_path):
    out = tmp_path / "out"
    assert program("export", project, out, "--to", "relion5")[0] == 0
    for image in (out / "tilt_images").rglob("*.mrc"):
        image.unlink()
    code, _, err = program("import", tmp_path / "new", "--from", "relion5", out, "--image-size", *SIZE_XY)
    assert code == 2
    assert "--stack" in err
