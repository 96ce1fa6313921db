"""`eucentric initial-model` and `eucentric symmetry` on a small project of their own, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from test_averaging_align_auto import PIXEL, particle
from test_averaging_align_auto import project as project

from eucentric.averaging.params import ExtractParams
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.extract_series import open_particles
from eucentric.pipeline.initial_model_files import remove_stale

FEW = ("--diameter-angstrom", 180, "--starts", 2, "--iterations", 6, "--rounds", 2, "--no-ctf", "--no-dose-weighting",
       "--shift-angstrom", 8, "--low-pass-angstrom", 36, "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def made(project):
    from eucentric.cli.main import run

    code = run([str(v) for v in ("initial-model", project / "bare.star", "--output", project / "start", *FEW)])
    assert code == 0
    return project / "start"


def test_a_list_without_orientations_becomes_a_map_with_poses(project, made):
    found, true = read_particles(made / "particles.star"), read_particles(project / "true.star")
    assert len(found) == 20
    assert found.oriented
    assert {"rlnRandomSubset", "eucPoseSigmaDeg"} <= set(found.columns)
    assert np.median(np.linalg.norm(found.positions_angstrom - true.positions_angstrom, axis=1)) < 12.0
    volume, header = read_mrc(made / "map.mrc")
    assert header.voxel_size_angstrom[0] == pytest.approx(12.0, abs=0.01)
    assert volume.max() > 3.0 * volume.std()
    told = json.loads((made / "initial_model.json").read_text())
    assert told["particles"] == 20
    assert len(told["held_out_evidence"]) == 2


def test_nothing_is_done_twice_and_nothing_replaced_unasked(program, project, made):
    before = (made / "map.mrc").stat().st_mtime_ns
    code, out, _ = program("initial-model", project / "bare.star", "--output", made, *FEW, "--json")
    assert code == 0
    assert "holds it already" in out
    assert json.loads(out.splitlines()[-1])["particles"] == 20
    assert (made / "map.mrc").stat().st_mtime_ns == before
    code, _, err = program("initial-model", project / "bare.star", "--output", made, *FEW, "--seed", 3)
    assert code == 2
    assert "--overwrite" in err


@pytest.fixture
def beyond(project):
    """The list with two particles more, far outside of the field."""
    inside = read_particles(project / "bare.star")
    outside = ParticleSet.build("TS_01", np.array([[9000.0, 0.0, 0.0], [0.0, -9000.0, 0.0]]))
    write_particles(project / "beyond.star", ParticleSet.concatenate([inside, outside]), "relion5")
    return project / "beyond.star"


def test_particles_that_are_not_seen_are_told_of(project, beyond):
    table, cpu = project / "ctf" / "tilt_series.star", torch.device("cpu")
    whole = {"box_size": 16, "ctf": False, "dose_weighting": False}
    job = open_particles(beyond, ExtractParams(**whole), table=table, device=cpu)
    assert len(job) == 20
    assert job.caveats() == ("2 particles of the list are seen in no image and were left out.",)
    assert open_particles(project / "bare.star", ExtractParams(**whole), table=table, device=cpu).caveats() == ()


@pytest.mark.slow
def test_a_map_of_a_run_before_goes_where_classes_are_made_in_its_place(program, project, beyond):
    given = ("initial-model", beyond, *FEW, "--output", project / "again")
    code, out, err = program(*given)
    assert code == 0, err
    assert "2 particles of the list are seen in no image" in out
    code, _, err = program(*given, "--classes", 2, "--overwrite")
    assert code == 0, err
    assert (project / "again" / "particles.star").exists()
    assert not (project / "again" / "map.mrc").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bare.star"], "diameter"),
        (["bare.star", "--diameter-angstrom", "-5"], "diameter"),
        (
            ["bare.star", "--diameter-angstrom", "180", "--low-pass-angstrom", "12", "--no-ctf"],
            "--low-pass-angstrom 24",
        ),
        (["true.star", "--diameter-angstrom", "180", "--kind", "ribosome", "--no-ctf"], "no particle of kind ribosome"),
        (["bare.star", "--diameter-angstrom", "180"], "contrast transfer"),
        (["three.star", "--diameter-angstrom", "180", "--no-ctf", "--no-dose-weighting"], "3 particles are seen"),
        (["missing.star", "--diameter-angstrom", "180"], "does not exist"),
        (["true.star", "--diameter-angstrom", "180", "--classes", "0"], "classes"),
        (
            ["true.star", "--diameter-angstrom", "180", "--no-ctf", "--no-dose-weighting", "--classes", "3"],
            "3 maps at once need 24 at least",
        ),
        (
            ["true.star", "--diameter-angstrom", "180", "--no-ctf", "--classes", "2", "--random-conical-tilt"],
            "Leave out --random-conical-tilt",
        ),
    ],
)
def test_wrong_input_is_told_in_words(program, project, arguments, words):
    write_particles(project / "three.star", read_particles(project / "true.star").select(np.arange(3)), "relion5")
    series = ("--series", project / "ctf" / "tilt_series.star")
    code, _, err = program("initial-model", project / arguments[0], "--output", project / "no", *arguments[1:], *series)
    assert code == 2
    assert words in err
    assert not (project / "no" / "map.mrc").exists()


def test_what_an_earlier_run_left_is_taken_away(tmp_path):
    for name in ("map.mrc", "class_1/map.mrc", "class_2/particles.star", "class_2/fsc.star", "class_2/own.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    remove_stale(tmp_path, [tmp_path / "class_1" / "map.mrc", tmp_path / "class_2" / "particles.star"])
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["class_1/map.mrc", "class_2/own.txt", "class_2/particles.star"]


@pytest.mark.slow
def test_several_maps_at_once_have_a_folder_each(program, project):
    given = ("initial-model", project / "true.star", *FEW, "--classes", 2, "--output", project / "classes", "--json")
    code, out, err = program(*given)
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert sum(one["particles"] for one in told["classes"]) == told["particles"] == 20
    assert sum(one["share"] for one in told["classes"]) == pytest.approx(1.0)
    assert f"Class 1: {told['classes'][0]['particles']} particles" in out
    assert -1.0 <= told["agreement_of_starts"] <= 1.0
    # the list holds one kind, a series and no defocus: whatever came of it, nothing else can be told by the classes
    assert {one["name"] for one in told["relations"]} <= {
        "the angle to the beam",
        "the number of images",
        "the defocus",
    }
    found = read_particles(project / "classes" / "particles.star")
    true = read_particles(project / "true.star")
    assert len(found) == 20
    # in the order of the list
    assert np.linalg.norm(found.positions_angstrom - true.positions_angstrom, axis=1).max() < 30.0
    for one in told["classes"]:
        rows = found.kinds == str(one["class"])
        assert rows.sum() == one["particles"]
        own = np.stack([found.columns[f"eucClassProbability{k}"] for k in (1, 2)], axis=1)[rows]
        assert own.sum(1) == pytest.approx(1.0, abs=1e-3)
        assert (own.argmax(1) + 1 == one["class"]).all()
        assert (one["folder"] is None) == any("none was made" in words for words in one["caveats"])
        if one["folder"] is not None:
            folder = project / "classes" / one["folder"]
            assert read_mrc(folder / "half1.mrc")[0].std() > 0
            assert len(read_particles(folder / "particles.star")) == one["particles"]
            assert json.loads((folder / "initial_model.json").read_text())["particles"] == one["particles"]
    code, out, _ = program(*given)
    assert code == 0
    assert "holds it already" in out


@pytest.mark.slow
def test_random_conical_tilt_tells_the_faces(program, project):
    given = ("initial-model", project / "bare.star", *FEW, "--random-conical-tilt")
    code, out, err = program(*given, "--faces", 2, "--output", project / "conical", "--json")
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert told["initial_model"]["random_conical_tilt"]
    shown = told["start_particles"]
    assert 1 <= len(shown) <= 2
    assert sum(shown) <= 16  # a fifth of twenty is held out
    assert f"{'+'.join(map(str, shown))} particles in {len(shown)} face" in out
    code, _, err = program(*given, "--faces", 0, "--output", project / "none")
    assert code == 2
    assert "faces" in err


@pytest.fixture
def twins(tmp_path):
    """Half maps of two copies of a particle about an axis along y, and poses that refer to them."""
    volume = particle() + particle().flip((0, 2)).roll((1, 1), (0, 2))
    generator = torch.Generator().manual_seed(0)
    for name in ("half1", "half2"):
        noisy = volume + 0.2 * float(volume.std()) * torch.randn(volume.shape, generator=generator)
        write_mrc(tmp_path / f"{name}.mrc", noisy.numpy(), PIXEL, "float32")
    turns = np.stack([np.eye(3), np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])])
    write_particles(tmp_path / "particles.star", ParticleSet.build("T", np.zeros((2, 3)), rotations=turns), "relion5")
    return tmp_path


def test_maps_and_poses_are_turned_into_the_frame_of_the_group(program, twins):
    code, out, err = program(
        "symmetry", twins, "--max-order", 3, "--no-cubic", "--low-pass-angstrom", 32, "--device", "cpu", "--json"
    )
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert told["group"] == "C2"
    assert "C2: the highest point group" in out
    turn = np.array(told["rotation"])
    assert abs(turn[1, 2]) > np.cos(np.deg2rad(2.0))  # z of the group lies along y
    volume = read_mrc(twins / "symmetry" / "map.mrc")[0]
    about_z = np.roll(volume[:, ::-1, ::-1], (1, 1), (1, 2))
    assert np.corrcoef(volume.ravel(), about_z.ravel())[0, 1] > 0.95
    before, after = (read_particles(p / "particles.star") for p in (twins, twins / "symmetry"))
    np.testing.assert_allclose(after.rotations, before.rotations @ turn, atol=1e-4)
    moved = before.rotations @ np.array(told["centre_angstrom"])
    np.testing.assert_allclose(after.positions_angstrom, moved, atol=0.01)
    code, _, err = program("symmetry", twins, "--max-order", 2, "--no-cubic")
    assert code == 2
    assert "exists already" in err


def test_symmetry_of_wrong_input_is_refused(program, twins):
    code, _, err = program("symmetry", twins / "half1.mrc")
    assert code == 2
    assert "--half2" in err
    (twins / "average.json").write_text('{"average": {"symmetry": "D7"}}')
    code, _, err = program("symmetry", twins)
    assert code == 2
    assert "made with the symmetry D7" in err
    (twins / "average.json").unlink()
    write_particles(twins / "bare.star", ParticleSet.build("T", np.zeros((2, 3))), "relion5")
    code, _, err = program("symmetry", twins, "--particles", twins / "bare.star")
    assert code == 2
    assert "no orientations" in err
    code, _, err = program("symmetry", twins, "--likeness", 2)
    assert code == 2
    assert "likeness" in err
