"""`eucentric refine` on a small project whose series and particles are known."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.averaging.half_sets import SUBSET
from eucentric.cli.main import run
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.star import read_star_text
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models import ParticleSet
from eucentric.pipeline.executors import InProcess
from eucentric.pipeline.extract_series import open_particles
from eucentric.pipeline.images import read_deformation
from eucentric.pipeline.refine_maps import sum_species
from eucentric.pipeline.refine_species import open_species
from eucentric.pipeline.store import ItemStore
from eucentric.refinement.leave_out import parts_of_halves
from refinement_scene import blob_places, imaged, rms, scattered, seen, seen_with, tilt_series, with_poses

pytestmark = pytest.mark.slow  # a minute and a half of one core together
BOX, EACH, SHIFT = 48, 16, 4.0
FAST = ("--rounds", "1", "--steps", "2", "--folds", "4", "--image-grids", "2", "--volume-grids", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def scenes():
    blobs = blob_places()
    out = []
    for number, name in enumerate(("TS_A", "TS_B")):
        series = tilt_series(name, step=12.0, dose=6.0, seed=number)
        places, turns = scattered(EACH, seed=20 + number)
        out.append(imaged(series, places, turns, blobs, noise=0.7, seed=number))
    return out


@pytest.fixture(scope="module")
def project(tmp_path_factory, scenes):
    """Two series, the second with shifts that are wrong by 4 A in each tilt, and the average of their particles."""
    root = tmp_path_factory.mktemp("refining")
    (root / "eucentric.toml").write_text("")
    (root / "images").mkdir()
    rng = np.random.default_rng(3)
    tables, lists = [], []
    for number, scene in enumerate(scenes):
        tilts = []
        for t, (tilt, image) in enumerate(zip(scene.series.tilts, scene.images, strict=True)):
            path = f"images/{scene.series.name}_{t}.mrc"
            write_mrc(root / path, image.numpy(), scene.series.pixel_size_angstrom, is_volume=False)
            tilts.append((tilt, path))
        series = scene.series.with_tilts([replace(t, image=p) for t, p in tilts])
        wrong = number * rng.normal(0.0, SHIFT / np.sqrt(2.0), (2, len(tilts)))
        tables.append(with_poses(series, x_shift_angstrom=wrong[0], y_shift_angstrom=wrong[1]))
        lists.append(ParticleSet.build(series.name, scene.positions, rotations=scene.rotations))
    (root / "ctf").mkdir()
    write_tilt_series_set(root / "ctf" / "tilt_series.star", tables, root)
    (root / "pick" / "blobs").mkdir(parents=True)
    write_particles(root / "pick" / "blobs" / "particles.star", ParticleSet.concatenate(lists), "relion5")
    assert average(root, root / "pick" / "blobs" / "particles.star", "blobs") == 0
    return root


def average(root, particles, name, *more):
    output = ["--output", str(root / "average" / name), "--device", "cpu"]
    return run(["average", str(particles), "--box-size", str(BOX), *output, *more])


def refine(root, *words, name="all", settings=FAST):
    return run(["refine", *words, "--output", str(root / "refine" / name), *settings])


@pytest.fixture(scope="module")
def refined(project):
    assert refine(project, str(project / "average" / "blobs")) == 0
    return project / "refine" / "all"


def place_error(project, table, list_file, scene):
    """A, rms over images of how far particles are from where they truly are seen."""
    series = next(s for s in read_tilt_series_set(table, project) if s.name == scene.series.name)
    particles = read_particles(list_file)
    own = particles.positions_angstrom[particles.tomograms == series.name]
    deformation = read_deformation(series, ItemStore(project, "", series.name))
    return rms(seen_with(series, deformation, own)[0] - seen(scene.series, scene.positions)[0])


def test_wrong_shifts_are_found_and_right_ones_stay(project, refined, scenes):
    before = project / "ctf" / "tilt_series.star", project / "average" / "blobs" / "particles.star"
    after = refined / "tilt_series.star", refined / "blobs" / "particles.star"
    wrong = [place_error(project, *before, scene) for scene in scenes]
    left = [place_error(project, *after, scene) for scene in scenes]
    assert wrong[1] == pytest.approx(SHIFT / np.sqrt(2.0), rel=0.4)
    assert left[1] < 0.5 * wrong[1]
    assert left[0] < 1.0
    record = json.loads((refined / "refine.json").read_text())
    groups = {g["family"]: g for g in record["series"]["TS_B"]["groups"]}
    assert groups["shifts"]["accepted"]
    assert groups["shifts"]["gain"] > 2.0 * groups["shifts"]["sigma"]
    assert record["species"]["blobs"]["area_after"] > record["species"]["blobs"]["area_before"]
    assert record["history"][-1]["accepted"]


def test_results_are_whole_and_can_be_gone_on_from(project, refined, tmp_path):
    assert {"map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "average.json"} <= {
        p.name for p in (refined / "blobs").iterdir()
    }
    assert read_star_text(refined / "rounds" / "000" / "fsc_blobs.star")
    with np.load(refined / "signal" / "TS_A.npz") as signal:
        assert signal["contrast"].shape == (11, len(signal["frequency"]))
    before = read_particles(project / "average" / "blobs" / "particles.star").columns[SUBSET]
    np.testing.assert_array_equal(read_particles(refined / "blobs" / "particles.star").columns[SUBSET], before)
    again = average(
        project, refined / "blobs" / "particles.star", "again", "--series", str(refined / "tilt_series.star")
    )
    assert again == 0
    ours, theirs = (
        read_mrc(place / "map.mrc")[0].ravel() for place in (refined / "blobs", project / "average" / "again")
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


def test_the_documented_ways_on_lead_to_their_ends(project, refined, scenes, tmp_path):
    """Tomograms, picks, boxes, images, averages, a further refinement and export, without naming series where none need be."""
    table, blobs = refined / "tilt_series.star", refined / "blobs"
    size = ("--pixel-size-angstrom", "20", "--thickness-angstrom", "1200", "--no-half-volumes", "--device", "cpu")
    assert run(["reconstruct", str(table), "--output", "reconstruct_refined", "--method", "wbp", *size]) == 0
    search = ("--coarse-step-deg", "20", "--fine-step-deg", "10", "--coarse-voxel-angstrom", "20", "--workers", "1")
    tomograms = str(project / "reconstruct_refined" / "tilt_series.star")
    assert run(["pick", tomograms, "--template", str(blobs / "map.mrc"), "--name", "again", *search]) == 0
    picks = read_particles(project / "pick" / "again" / "particles.star")
    for scene in scenes:
        own = picks.positions_angstrom[picks.tomograms == scene.series.name]
        away = np.linalg.norm(own[:, None] - scene.positions, axis=2)
        # within a voxel; some of 16 in a noise that leaves 11 images to tell them by
        assert (away.min(axis=0) < 20.0).mean() > 0.6, scene.series.name
    assert average(project, project / "pick" / "again" / "particles.star", "picked") == 0
    made = json.loads((project / "average" / "picked" / "average.json").read_text())
    assert made["table"] == str(table)
    where = ("--series", "TS_A", "--positions", str(blobs / "particles.star"), "--box-size", "32")
    assert run(["boxes", str(table), *where, "--output", str(tmp_path / "boxes"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "boxes").glob("*.mrc"))) == EACH
    cut = ("--output", str(tmp_path / "images"), "--box-size", "32", "--device", "cpu")
    assert run(["extract", str(blobs / "particles.star"), *cut]) == 0
    assert read_star_text(tmp_path / "images" / "optimisation_set.star")[""]["rlnTomoTomogramsFile"] == [str(table)]
    assert refine(project, str(blobs), name="again") == 0
    again = project / "refine" / "again"
    left = [place_error(project, again / "tilt_series.star", again / "blobs" / "particles.star", s) for s in scenes]
    assert max(left) < 1.5
    for program in ("relion5", "warp", "imod"):
        words = ("--series", "refine/again/tilt_series.star")
        assert run(["export", str(project), str(tmp_path / program), "--to", program, *words]) == 0


def test_the_same_command_does_nothing_twice_and_others_results_are_kept(project, refined, capsys):
    state = refined / "rounds" / "001" / "state.json"
    written = state.stat().st_mtime_ns
    assert refine(project, str(project / "average" / "blobs")) == 0
    assert state.stat().st_mtime_ns == written
    capsys.readouterr()
    assert refine(project, str(project / "average" / "blobs"), settings=("--rounds", "2", "--device", "cpu")) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_maps_of_the_wrong_hand_are_named(project, capsys):
    place = project / "average" / "mirrored"
    shutil.copytree(project / "average" / "blobs", place)
    for name in ("half1.mrc", "half2.mrc", "map.mrc"):
        volume, header = read_mrc(place / name)
        write_mrc(place / name, np.roll(np.array(volume)[:, :, ::-1], 1, axis=2).copy(), header.voxel_size_angstrom[0])
    assert refine(project, str(place), name="mirrored") == 2
    assert "wrong hand" in capsys.readouterr().err


def test_three_particles_are_too_few(project, capsys):
    whole = read_particles(project / "average" / "blobs" / "particles.star")
    few = whole.select(np.array([0, 1, 2])).with_column(SUBSET, np.array([1.0, 2.0, 1.0]))
    write_particles(project / "three.star", few, "relion5")
    table = str(project / "ctf" / "tilt_series.star")
    assert average(project, project / "three.star", "three", "--series", table) == 0
    assert refine(project, str(project / "average" / "three"), name="three") == 2
    assert "3 particles were given" in capsys.readouterr().err


def test_output_outside_of_the_project_is_refused(project, tmp_path, capsys):
    code = run(["refine", str(project / "average" / "blobs"), "--output", str(tmp_path / "out"), *FAST])
    assert code == 2
    assert "outside" in capsys.readouterr().err


def test_a_folder_without_an_average_is_refused(project, capsys):
    assert refine(project, str(project / "pick"), name="none") == 2
    assert "eucentric average" in capsys.readouterr().err


def test_series_shared_among_workers_come_out_the_same(project, refined):
    words = (str(project / "average" / "blobs"), "--workers", "2")
    assert refine(project, *words, name="two") == 0
    ours, theirs = (read_particles(project / "refine" / name / "blobs" / "particles.star") for name in ("two", "all"))
    np.testing.assert_allclose(ours.positions_angstrom, theirs.positions_angstrom, atol=0.02)


@pytest.mark.parametrize("workers", [3, 10, 23])
def test_sums_do_not_depend_on_how_parts_are_shared(project, workers):
    (species,), table = open_species([project / "average" / "blobs"], None)
    job = open_particles(species.folder / "particles.star", species.extract, table=table, device=torch.device("cpu"))
    part = parts_of_halves(species.halves, 5)
    one, many = InProcess(), InProcess()
    many.slots = workers
    whole, shared = (sum_species(job, species.average, part, 5, e).sums for e in (one, many))
    np.testing.assert_array_equal(shared.tilts_used, whole.tilts_used)
    for ours, theirs in zip(shared.sums, whole.sums, strict=True):
        assert ours.images == theirs.images
        scale = float(theirs.data.abs().max())
        torch.testing.assert_close(ours.data / scale, theirs.data / scale, atol=1e-5, rtol=0.0)


def test_a_series_that_has_no_particles_cannot_be_named(project, capsys):
    assert refine(project, str(project / "average" / "blobs"), "--only", "TS_C", name="none") == 2
    assert "TS_A" in capsys.readouterr().err
