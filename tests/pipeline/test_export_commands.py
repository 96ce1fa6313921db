"""`eucentric export`: what other programs find in the folder shows every point where its own tables say."""

import itertools
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exchange_project import PIXEL, PLACES, SIZE_XY, make_project

from eucentric.errors import InputError
from eucentric.evaluation.geometry_difference import compare_geometry, seen_points
from eucentric.io import read_mrc, read_particles, read_tilt_series_set, write_mrc, write_tilt_series_set
from eucentric.io.aretomo import read_aretomo
from eucentric.io.copick_project import read_copick_project
from eucentric.io.exchange.formats import read_geometry
from eucentric.io.exchange.records import Given
from eucentric.io.star import read_star_text, write_star
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.export import eman2
from eucentric.pipeline.export import project as export_project_module
from eucentric.pipeline.export.project import PROGRAMS
from eucentric.pipeline.label_files import read_labels
from eucentric.pipeline.records import Record, write_record

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


@pytest.mark.parametrize("name", ["copick", "zarr", "chimerax", "dynamo", "stopgap"])
def test_finished_tomograms_come_back_with_their_particles(project, program, tmp_path, name):
    out, new = tmp_path / "out", tmp_path / "new"
    assert program("export", project, out, "--to", name)[0] == 0
    code, text, err = program("import", new, "--from", name, out)
    assert code == 0, (text, err)
    assert "finished tomograms" in text
    series = read_tilt_series_set(new / "import" / "tilt_series.star", new)
    assert [s.name for s in series] == ["TS_01", "TS_02"]
    ours = read_mrc(project / "reconstruct" / "tomograms" / "TS_02.mrc")[0]
    np.testing.assert_allclose(read_mrc(new / series[1].tomogram.path)[0], ours, atol=1e-6)
    lists = list((new / "pick").glob("*/particles.star"))
    assert len(lists) == (name != "zarr")
    for path in lists:
        back = read_particles(path).in_tomogram("TS_02").positions_angstrom
        apart = np.linalg.norm(back[:, None] - PLACES[None], axis=2)
        assert apart.min(axis=0).max() < 0.02


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


TOMOGRAMS_NEEDED = ("chimerax", "copick", "dynamo", "stopgap", "zarr")
TOMOGRAMS_EXTRA = ("eman2", "emclarity", "imod", "relion5")


def exported(program, project, out, name, *more):
    """The program's exit code and what it tells of an export."""
    code, text, err = program("export", project, out, "--to", name, "--json", *more)
    return code, json.loads(text.splitlines()[-1]) if code < 2 else err


@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, "missing") for name in (*TOMOGRAMS_NEEDED, *TOMOGRAMS_EXTRA, "warp")), ("zarr", "cut"), ("imod", "cut")],
)
def test_one_bad_tomogram_stops_no_other_series(program, tmp_path, name, damage):
    root, out = make_project(tmp_path / "project"), tmp_path / "out"
    tomogram = root / "reconstruct" / "tomograms" / "TS_02.mrc"
    content = tomogram.read_bytes()
    tomogram.unlink()
    if damage == "cut":
        tomogram.write_bytes(content[:2000])
    code, told = exported(program, root, out, name)
    readme = (out / "README.txt").read_text()
    if name in TOMOGRAMS_NEEDED:
        assert (code, told["series"]) == (1, ["TS_01"])
        assert "its tomogram" in told["failed"]["TS_02"]
        assert "TS_02 was left out: its tomogram" in readme
    else:
        assert (code, told["series"]) == (0, ["TS_01", "TS_02"])
        assert ("TS_02 goes without its tomogram" in readme) == (name in TOMOGRAMS_EXTRA)
    assert all(Path(f).exists() for f in told["files"])
    placed = [f for f in told["files"] if "tomograms" in Path(f).parts and f.endswith(".mrc")]
    assert len(placed) == {"warp": 0, "copick": 0, "zarr": 0}.get(name, 1)


@pytest.mark.parametrize(
    ("half", "words"),
    [
        ("motion/images/TS_02/TS_02_002_a.mrc", "of its images"),
        ("reconstruct/tomograms/TS_02_b.mrc", "of its tomogram"),
    ],
)
def test_a_missing_half_is_left_out_and_told(program, tmp_path, half, words):
    root, out = make_project(tmp_path / "project", halves=True), tmp_path / "out"
    (root / half).unlink()
    code, told = exported(program, root, out, "relion5")
    assert (code, told["series"]) == (0, ["TS_01", "TS_02"])
    assert re.search(rf"TS_02 goes without the .*{words}", (out / "README.txt").read_text())
    tables = (out / "tilt_series" / "TS_02.star").read_text() + (out / "tomograms.star").read_text()
    assert Path(half).name not in tables


def test_an_image_of_another_size_stops_no_other_series(program, tmp_path):
    root = make_project(tmp_path / "project")
    write_mrc(root / "motion/images/TS_02/TS_02_001.mrc", np.zeros((10, 12), np.float32), PIXEL, is_volume=False)
    code, told = exported(program, root, tmp_path / "out", "imod")
    assert (code, told["series"]) == (1, ["TS_01"])
    assert "12 x 10 pixels; expected 72 x 64" in told["failed"]["TS_02"]


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_on_the_way_leaves_nothing_that_blocks_the_next_try(project, program, tmp_path, monkeypatch, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def fails(*_):
        assert "incomplete" in (out / "README.txt").read_text()
        raise InputError("The disk went away.")

    with monkeypatch.context() as patch:
        patch.setattr(export_project_module, "write_readme", fails)
        assert program("export", project, out, "--to", "imod")[0] == 2
    assert out.exists() == there
    assert not there or not list(out.iterdir())
    assert program("export", project, out, "--to", "imod")[0] == 0


def test_an_export_that_was_killed_is_made_again(project, program, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if there had been no time
        patch.setattr(export_project_module, "write_readme", lambda *_: 1 / 0)
        program("export", project, out, "--to", "imod")
    assert "incomplete" in (out / "README.txt").read_text()
    assert (out / "TS_01" / "TS_01.st").is_file()
    assert program("export", project, out, "--to", "imod")[0] == 0
    assert "incomplete" not in (out / "README.txt").read_text()
    assert program("export", project, out, "--to", "imod")[0] == 2


STUB = """#!/bin/sh
{ printf '%s\\0' "$(basename "$0")" "$PWD" "$@"; printf '\\1\\0'; } >> "$LOG"
"""
COMMANDS = (
    "relion", "relion_tomo_subtomo", "relion_tomo_reconstruct_tomogram", "WarpTools", "submfg", "3dmod", "AreTomo3", "AreTomo2",
    "emClarity", "e2tomogram.py", "e2projectmanager.py", "copick", "napari", "eucentric", "chimerax", "stopgap_parser.sh",
)  # fmt: skip
MADE = {"--o", "--output", "--output_star", "-OutMrc", "param_name"}
"""Options whose file the command makes."""
ENDINGS = (".mrc", ".star", ".com", ".mod", ".aln", ".cxc", ".json", ".zarr", ".settings", ".tomostar", ".st")


def run_steps(steps, out, tmp_path):
    """(command, folder, words) of each command that the steps run in a shell."""
    tools, log = tmp_path / "tools" / "bin", tmp_path / "log"
    tools.mkdir(parents=True)
    for name in COMMANDS:
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    surroundings = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "LOG": str(log),
        "STOPGAPHOME": str(tools.parent),
    }
    script = "set -e\n" + "\n".join(s.removesuffix(" &") for s in steps)
    subprocess.run(["bash", "-c", script], cwd=out, env=surroundings, check=True, capture_output=True)
    runs = [r.strip("\0").split("\0") for r in log.read_text().split("\1") if r.strip("\0")]
    return [(command, Path(folder), words) for command, folder, *words in runs]


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"dynamo"}))
def test_every_file_of_the_next_commands_is_there(project, program, tmp_path, monkeypatch, name):
    monkeypatch.setattr(eman2, "_LEAST", 60)
    out = tmp_path / "out"
    steps = exported(program, project, out, name)[1]["next"]
    runs = run_steps(steps, out, tmp_path)
    assert runs
    made, looked = set(), 0
    for command, folder, words in runs:
        for before, word in zip(["", *words], words, strict=False):
            if before in MADE:
                made.add(word)
            elif before == "--extension":
                assert list((out / "tomostar").glob(word))
            elif word.endswith(ENDINGS) and word not in made:
                place = folder / "lists" if before in ("motl_name", "wedgelist_name") else folder
                assert (place / word).exists(), (command, word)
                looked += 1
            elif before in ("--folder_data", "--folder_processing", "tomodir"):
                assert (folder / word).is_dir()
    assert looked >= (name not in ("emclarity",))


def test_dynamo_finds_the_files_of_its_commands(project, program, tmp_path):
    out = tmp_path / "out"
    steps = [s for s in exported(program, project, out, "dynamo")[1]["next"] if not s.startswith("%")]
    assert steps[0] == "dcm -create catalogue -fromvll tomograms.vll"
    crop, numbers, table, folder, box = steps[1].split()
    assert (crop, box) == ("dtcrop", "32")
    assert (out / numbers).is_file()
    assert (out / table).is_file()
    assert not (out / folder).exists()
    named = [line.split("\t")[1] for line in (out / numbers).read_text().splitlines()]
    listed = [line for line in (out / "tomograms.vll").read_text().splitlines() if line.endswith(".mrc")]
    assert named == listed == ["tomograms/TS_01.mrc", "tomograms/TS_02.mrc"]


def test_commands_go_on_with_the_alignments_of_the_folder(project, program, tmp_path, monkeypatch):
    monkeypatch.setattr(eman2, "_LEAST", 60)
    for name in ("aretomo", "eman2", "imod", "emclarity"):
        steps = exported(program, project, tmp_path / name, name)[1]["next"]
        (tmp_path / "t" / name).mkdir(parents=True)
        runs = run_steps(steps, tmp_path / name, tmp_path / "t" / name)
        told = [(command, folder.name, " ".join(words)) for command, folder, words in runs]
        if name == "aretomo":
            three = [words for command, _, words in told if command == "AreTomo3"]
            assert [w.split()[1] for w in three] == ["./TS_01.mrc", "./TS_02.mrc"]
            assert all("-Cmd 2 -PixSize 5 -kV 300 -Cs 2.7 -VolZ 40 -AtBin 2 " in w for w in three)
            two = [words for command, _, words in told if command == "AreTomo2"]
            assert all("-Align 0" in w and f"-AlnFile TS_0{i}_from0.aln" in w for i, w in enumerate(two, 1))
            ours, from_0 = (read_aretomo(tmp_path / name / f"TS_02{e}.aln") for e in ("", "_from0"))
            np.testing.assert_array_equal(from_0.sections, ours.sections)
            lines = [s.split() for s in (tmp_path / name / "TS_02_from0.aln").read_text().splitlines()]
            assert [w[0] for w in lines if w[0] != "#" and len(w) == 10] == ["0", "1", "2", "3", "4"]
            np.testing.assert_allclose(from_0.shifts_px, ours.shifts_px)
        elif name == "eman2":
            options = "--load --niter=0,0,0,0 --patchtrack=0 --tltkeep=1.0 --outsize=1k --clipz=40"
            assert [w for c, _, w in told if c == "e2tomogram.py"] == [
                f"tiltseries/TS_0{i}.mrc {options}" for i in (1, 2)
            ]
        elif name == "imod":
            assert [(c, f) for c, f, _ in told] == [("submfg", "TS_01"), ("submfg", "TS_02"), ("3dmod", "imod")]
        else:
            assert [w for _, _, w in told] == ["ctf estimate param.m TS_01", "ctf estimate param.m TS_02"]


def test_eman2_is_not_asked_for_what_it_refuses(project, program, tmp_path):
    steps = exported(program, project, tmp_path / "out", "eman2")[1]["next"]
    assert not any(s.startswith("e2tomogram.py") or "do e2tomogram" in s for s in steps)
    assert any("512 pixels or less" in s and "TS_01, TS_02" in s for s in steps)


@pytest.mark.parametrize(
    ("side", "voxel", "words"),
    [
        (1000, 10.0, "--outsize=1k --clipz=300"),
        (2000, 10.0, "--outsize=1k --clipz=150"),
        (2000, 5.0, "--outsize=2k --clipz=300"),
        (4000, 10.0, "--outsize=2k --clipz=150"),
        (4092, 20.0, "--outsize=1k --clipz=76"),
        (5760, 40.0, "--outsize=1k --clipz=38"),
    ],
)
def test_sizes_of_eman2_are_the_nearest_to_the_tomogram(project, side, voxel, words):
    series = read_tilt_series_set(project / "reconstruct" / "tilt_series.star", project)[0]
    tomogram = replace(series.tomogram, voxel_size_angstrom=voxel)
    large = series.replace(image_shape=(side, side + 8), volume_size_px=(side, side, 300), tomogram=tomogram)
    assert eman2._sizes(large) == words


def test_series_that_differ_get_settings_of_warp_of_their_own(program, tmp_path):
    root, out = make_project(tmp_path / "project"), tmp_path / "out"
    table = root / "reconstruct" / "tilt_series.star"
    one, two = read_tilt_series_set(table, root)
    tilts = [replace(t, dose=2.0) for t in two.tilts]
    tomogram = replace(two.tomogram, voxel_size_angstrom=8.0)
    write_tilt_series_set(
        table, [one, two.replace(tilts=tuple(tilts), volume_size_px=(72, 64, 20), tomogram=tomogram)], root
    )
    steps = exported(program, root, out, "warp")[1]["next"]
    runs = [words for _, _, words in run_steps(steps, out, tmp_path)]
    found = [dict(itertools.pairwise(w)) for w in runs]
    made = [(f["--output"], f["--exposure"], f["--tomo_dimensions"]) for f in found if "--output" in f]
    assert made == [("warp_tiltseries_1.settings", "3", "72x64x40"), ("warp_tiltseries_2.settings", "2", "72x64x20")]
    asked = [
        (w[0], f["--settings"][-10], f["--input_data"], f.get("--coords_angpix"), f.get("--input_star"))
        for w, f in zip(runs, found, strict=True)
        if "--settings" in f
    ]
    assert asked == [
        ("ts_reconstruct", "1", "tomostar/TS_01.tomostar", None, None),
        ("ts_export_particles", "1", "tomostar/TS_01.tomostar", "10", "particles_pick_blobs_10.00Apx.star"),
        ("ts_reconstruct", "2", "tomostar/TS_02.tomostar", None, None),
        ("ts_export_particles", "2", "tomostar/TS_02.tomostar", "8", "particles_pick_blobs_8.00Apx.star"),
    ]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_copy_may_be_moved(program, tmp_path, name):
    root, out, moved = make_project(tmp_path / "project"), tmp_path / "out", tmp_path / "elsewhere" / "there"
    assert program("export", root, out, "--to", name, "--copy")[0] == 0
    readme = (out / "README.txt").read_text()
    assert str(out) not in readme
    moved.parent.mkdir()
    out.rename(moved)
    texts = {f: f.read_bytes() for f in moved.rglob("*") if f.is_file() and f.name != "README.txt"}
    frames = f"{root}/frames/".encode()  # movies stay in the project
    holds = {f.name for f, content in texts.items() if str(tmp_path).encode() in content.replace(frames, b"")}
    assert holds == ({"copick_config.json"} if name == "copick" else set())
    assert any(frames in content for content in texts.values()) == ("Movies" in readme) == (name == "relion5")
    assert ("overlay_root" in readme) == (name == "copick")
    assert not any(f.is_symlink() for f in moved.rglob("*"))


@pytest.mark.parametrize("name", ["chimerax", "dynamo", "stopgap"])
def test_a_copy_that_was_moved_is_read(program, tmp_path, name):
    root, out, moved, new = make_project(tmp_path / "project"), tmp_path / "out", tmp_path / "moved", tmp_path / "new"
    assert program("export", root, out, "--to", name, "--copy")[0] == 0
    out.rename(moved)
    shutil.rmtree(root)
    assert program("import", new, "--from", name, moved)[0] == 0
    series = read_tilt_series_set(new / "import" / "tilt_series.star", new)
    assert [s.name for s in series] == ["TS_01", "TS_02"]
    if name == "chimerax":
        named = re.findall(r'open (?:tomo )?"([^"]+)"', "".join(f.read_text() for f in moved.glob("*.cxc")))
        assert len(named) == 8
        assert all((moved / n).is_file() and not Path(n).is_absolute() for n in named)


@pytest.mark.parametrize("dark_image", [True, False])
def test_warp_finds_an_image_for_every_row(program, tmp_path, dark_image):
    root, out = make_project(tmp_path / "project", dark_image=dark_image), tmp_path / "out"
    told = exported(program, root, out, "warp")[1]
    for name in ("TS_01", "TS_02"):
        (table,) = read_star_text(out / "tomostar" / f"{name}.tomostar").values()
        movies = [Path(m) for m in table["wrpMovieName"]]
        assert len(movies) == 5 + dark_image
        assert all((out / "tomostar" / m.parent / "average" / m.name).is_file() for m in movies)
        xml = (out / "warp_tiltseries" / f"{name}.xml").read_text()
        assert ("False" in xml.split("<UseTilt>")[1].split("</UseTilt>")[0]) == dark_image
        words = [loss for loss in told["losses"] if name in loss and "excluded" in loss]
        assert len(words) == 1
        assert ("UseTilt False" in words[0]) == dark_image
        assert ("have no image" in words[0]) != dark_image


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dynamo", "pick_blobs: The kinds blob became the numbers 1"),
        ("stopgap", "pick_blobs: The kinds blob became the numbers 1"),
        ("warp", "pick_blobs: The kinds (blob) are left out"),
        ("eman2", "pick_blobs: The orientations of 10 particles are left out"),
        ("chimerax", "numbers for kinds: 1 is blob"),
        ("relion5", None),
        ("imod", None),
    ],
)
def test_what_lists_lose_is_told(project, program, tmp_path, name, words):
    losses = exported(program, project, tmp_path / "out", name)[1]["losses"]
    about = [loss for loss in losses if "kinds" in loss or "orientations" in loss]
    assert len(about) == (words is not None)
    assert words is None or words in about[0]


@pytest.mark.parametrize("name", ["relion5", "relion4", "warp", "imod", "zarr"])
def test_halves_that_are_left_out_are_told_once(program, tmp_path, name):
    root = make_project(tmp_path / "project", halves=True)
    losses = exported(program, root, tmp_path / "out", name)[1]["losses"]
    told = [loss for loss in losses if "halves" in loss]
    assert len(told) == (name != "relion5")
    assert all(("images" in loss) == PROGRAMS[name].needs.images and "tomograms" in loss for loss in told)


def test_a_project_without_halves_loses_none(project, program, tmp_path):
    assert not any("halves" in loss for loss in exported(program, project, tmp_path / "out", "imod")[1]["losses"])


@pytest.mark.parametrize("made_by", ["stage", "others", "names"])
def test_segmentations_of_copick_are_called_what_they_are(program, tmp_path, made_by):
    root, out = make_project(tmp_path / "project"), tmp_path / "out"
    labels = np.zeros((20, 32, 36), np.int16)
    labels[3], labels[7, 4:9], labels[11, 2:4] = 1, 2, 5
    write_mrc(root / "segment" / "labels" / "TS_01.mrc", labels, 10.0, "int16")
    if made_by == "stage":
        record = Record(
            stage="segment", series="TS_01", outcome="done", fingerprint="", upstream="", stage_version=1, parameters={},
            project={}, seed=0, outputs=("segment/labels/TS_01.mrc",),
        )  # fmt: skip
        write_record(root / "segment", record)
    elif made_by == "names":
        names = {"eucLabelNumber": [1, 2, 5, 9], "eucLabelName": ["outer_membrane", "actin", "outer_membrane", "none"]}
        write_star(root / "segment" / "labels" / "labels.star", {"labels": names})
    told = exported(program, root, out, "copick")[1]
    found = read_copick_project(out)
    run = next(r for r in found.runs if r.name == "TS_01")
    volumes = {v.name: read_labels(v.path)[0] for v in run.segmentations}
    wanted = {
        "stage": {"membrane": labels > 0},
        "others": {"segmentation": labels > 0},
        "names": {"outer-membrane": np.isin(labels, (1, 5)), "actin": labels == 2},
    }[made_by]
    assert set(volumes) == set(wanted) == {o.name for o in found.objects if not o.is_particle}
    for name, inside in wanted.items():
        np.testing.assert_array_equal(volumes[name], inside)
    assert any("3 numbered pieces" in loss for loss in told["losses"]) == (made_by != "names")


@pytest.mark.parametrize("name", ["dynamo", "stopgap"])
def test_files_of_tomogram_names_are_explained(project, program, tmp_path, name):
    out = tmp_path / "out"
    assert program("export", project, out, "--to", name)[0] == 0
    assert list(out.rglob("*_tomograms.doc"))
    assert "_tomograms.doc" in (out / "README.txt").read_text()
