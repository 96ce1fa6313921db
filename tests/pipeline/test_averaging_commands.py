"""`eucentric extract` and `eucentric average` on a small project whose particles are known."""

import json

import numpy as np
import pytest
import torch

from eucentric.cli.main import run
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.star import read_star_text, write_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Optics, ParticleSet, Tilt, TiltPose, TiltSeries
from eucentric.simulation import asymmetric_phantom

PIXEL, SHAPE, BOX = 8.0, (120, 128), 32
PHANTOM = asymmetric_phantom(80.0)
PLAIN = ("--no-ctf", "--no-dose-weighting", "--tilt-weights", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two series of seven tilts without CTF, six particles in each, protein dark."""
    root = tmp_path_factory.mktemp("averaging")
    (root / "eucentric.toml").write_text("")
    rng = np.random.default_rng(1)
    all_series, sets = [], []
    for name, pixel in (("A", PIXEL), ("B", PIXEL * 1.25)):
        shape = (SHAPE[0], SHAPE[1]) if name == "A" else (96, 104)
        tilts = [
            Tilt(
                nominal_tilt_deg=float(a), acquisition=i, dose=3.0, pre_exposure=3.0 * i, image=f"images/{name}_{i}.mrc",
                pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=5.0, x_shift_angstrom=9.0),
            )
            for i, a in enumerate(np.arange(-60.0, 61.0, 20.0))
        ]  # fmt: skip
        series = TiltSeries(
            name=name, pixel_size_angstrom=pixel, image_shape=shape, tilts=tuple(tilts), optics=Optics()
        )
        places = rng.uniform(-1.0, 1.0, (6, 3)) * [280.0, 280.0, 100.0]
        turns = Rotation.random(6, rng).matrices
        geometry = TiltGeometry.from_poses(series.poses)
        images = torch.zeros((len(tilts), *shape))
        for place, turn in zip(places, turns, strict=True):
            images -= 1e-3 * PHANTOM.transformed(turn, place).project(geometry, shape, pixel)
        for tilt, image in zip(
            tilts, images + 0.002 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1)), strict=True
        ):
            (root / "images").mkdir(exist_ok=True)
            write_mrc(root / str(tilt.image), (30.0 * (1.0 + image)).numpy(), pixel, is_volume=False)
        all_series.append(series)
        sets.append(ParticleSet.build(name, places, rotations=turns))
    (root / "ctf").mkdir()
    write_tilt_series_set(root / "ctf" / "tilt_series.star", all_series, root)
    (root / "pick" / "phantom").mkdir(parents=True)
    write_relion_particles(root / "pick" / "phantom" / "particles.star", ParticleSet.concatenate(sets))
    return root


def _list(project, particles, name="other.star"):
    path = project / name
    write_relion_particles(path, particles)
    return path


def _particles(project):
    return read_particles(project / "pick" / "phantom" / "particles.star")


def test_average_of_a_project_is_the_phantom(project, tmp_path, capsys):
    output = tmp_path / "average"
    assert run(["average", str(project), "--output", str(output), "--box-size", str(BOX), "--json", *PLAIN]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["particles"] == 12
    volume, header = read_mrc(output / "map.mrc")
    # series of two pixel sizes meet at the coarser one
    assert header.voxel_size_angstrom[0] == pytest.approx(10.0, rel=1e-4)
    truth = PHANTOM.volume((BOX,) * 3, 10.0).numpy()
    assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.75
    mirrored = PHANTOM.mirrored().volume((BOX,) * 3, 10.0).numpy()
    assert np.corrcoef(volume.ravel(), mirrored.ravel())[0, 1] < 0.6
    halves = read_mrc(output / "half1.mrc")[0] + read_mrc(output / "half2.mrc")[0]
    assert np.corrcoef(halves.ravel(), truth.ravel())[0, 1] > 0.6
    particles = read_particles(output / "particles.star")
    assert set(particles.columns["rlnRandomSubset"]) == {1.0, 2.0}
    assert particles.columns["eucTiltsUsed"].max() == 7
    curve = read_star_text(output / "fsc.star")
    assert float(curve["general"]["rlnFinalResolution"][0]) == pytest.approx(told["resolution_angstrom"], rel=1e-6)
    # a list with halves gives the same map again
    again = tmp_path / "again"
    listed = ["average", str(output / "particles.star"), "--series", str(project / "ctf" / "tilt_series.star")]
    assert run([*listed, "--output", str(again), "--box-size", str(BOX), *PLAIN]) == 0
    np.testing.assert_allclose(
        read_mrc(again / "half1.mrc")[0], read_mrc(output / "half1.mrc")[0], atol=1e-4 * volume.max()
    )
    # the same again is there already, something else would be in its way
    made = (again / "map.mrc").stat().st_mtime_ns
    capsys.readouterr()
    assert run([*listed, "--output", str(again), "--box-size", str(BOX), *PLAIN]) == 0
    assert "holds it already" in capsys.readouterr().out
    assert (again / "map.mrc").stat().st_mtime_ns == made
    record = json.loads((again / "records" / "__all__.json").read_text())
    assert (record["stage"], record["outcome"], record["metrics"]["particles"]) == ("average", "done", 12.0)
    assert record["parameters"]["extract"]["box_size"] == BOX
    assert json.loads((again / "run.json").read_text())["inputs"][0] == str(output / "particles.star")
    assert run([*listed, "--output", str(again), "--box-size", str(BOX), "--seed", "3", *PLAIN]) == 2
    assert "exists already" in capsys.readouterr().err
    (again / "half2.mrc").unlink()
    assert run([*listed, "--output", str(again), "--box-size", str(BOX), "--overwrite", *PLAIN]) == 0
    assert (again / "half2.mrc").exists()


def test_stacks_are_the_projections_of_their_particles(project, tmp_path, capsys):
    output = tmp_path / "stacks"
    command = ["extract", str(project), "--output", str(output), "--box-size", str(BOX), "--no-float16", *PLAIN]
    assert run(command) == 0
    tables = read_star_text(output / "particles.star")
    assert tables["general"]["rlnTomoSubTomosAre2DStacks"] == ["1"]
    assert tables["optics"]["rlnImageDimensionality"] == ["2", "2"]
    assert [float(v) for v in tables["optics"]["rlnImagePixelSize"]] == pytest.approx([10.0, 10.0], rel=1e-4)
    listed = tables["particles"]
    particles = _particles(project)
    shown = 0
    for row in range(len(particles)):
        stack = read_mrc(listed["rlnImageName"][row])[0]
        flags = json.loads(listed["rlnTomoVisibleFrames"][row])
        assert len(flags) == 7
        assert len(stack) == sum(flags)
        shown += len(stack)
    assert shown > 60
    # the first image of the first particle, seen alone by its middle
    row, tilt = 0, int(np.flatnonzero(json.loads(listed["rlnTomoVisibleFrames"][0]))[0])
    angles = np.arange(-60.0, 61.0, 20.0)
    truth = PHANTOM.transformed(particles.rotations[row]).project(
        TiltGeometry.build([angles[tilt]], z_rot_deg=5.0), (BOX, BOX), 10.0
    )[0].numpy()  # fmt: skip
    image = read_mrc(listed["rlnImageName"][0])[0][0]
    middle = slice(8, 24)
    assert np.corrcoef(image[middle, middle].ravel(), truth[middle, middle].ravel())[0, 1] > 0.7
    optimisation = read_star_text(output / "optimisation_set.star")[""]
    assert optimisation["rlnTomoParticlesFile"] == [str(output / "particles.star")]
    made = (output / "particles.star").stat().st_mtime_ns
    capsys.readouterr()
    assert run(command) == 0
    assert f"Kept 12 particles from {shown} images" in capsys.readouterr().out
    assert (output / "particles.star").stat().st_mtime_ns == made
    assert run([*command, "--no-premultiplied"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(("form", "ending"), [("boxes", "box.mrc"), ("pseudo-subtomograms", "data.mrc")])
def test_volumes_of_single_particles_are_in_the_frame_of_the_specimen(project, tmp_path, form, ending):
    output = tmp_path / form
    one = _list(project, _particles(project).select([0, 7]), f"{form}.star")
    assert run(["extract", str(one), "--output", str(output), "--form", form, "--box-size", str(BOX), *PLAIN]) == 0
    volume = read_mrc(output / "Subtomograms" / "A" / f"1_{ending}")[0]
    turned = PHANTOM.transformed(_particles(project).rotations[0]).volume((BOX,) * 3, 10.0).numpy()
    middle = (slice(8, 24),) * 3
    assert np.corrcoef(volume[middle].ravel(), turned[middle].ravel())[0, 1] > 0.45
    if form == "pseudo-subtomograms":
        weights = read_mrc(output / "Subtomograms" / "A" / "1_weights.mrc")[0]
        assert weights.shape == (2 * BOX, BOX, BOX // 2 + 1)
        assert weights[0, 0, 0] > 0.8 * weights[:BOX].max()
        assert (weights >= 0).all()


def _refused(capsys, *command):
    assert run([str(part) for part in command]) == 2
    return capsys.readouterr().err


def test_bad_particles_get_words_that_help(project, tmp_path, capsys):
    particles = _particles(project)
    base = ("--output", tmp_path / "none", "--box-size", BOX, *PLAIN)
    alone = _list(project, particles.select([0]), "alone.star")
    assert "1 particle was given" in _refused(capsys, "average", alone, *base)
    outside = _list(project, particles.with_positions(particles.positions_angstrom + 9e4), "outside.star")
    assert "outside the field" in _refused(capsys, "average", outside, *base)
    unknown = _list(project, particles.with_tomograms("C"), "unknown.star")
    assert "has no series C" in _refused(capsys, "average", unknown, *base)
    some = _list(project, particles.with_column("rlnRandomSubset", [1.0, np.nan] * 6), "some.star")
    assert "have no half" in _refused(capsys, "average", some, *base)
    nan = project / "nan.star"
    columns = {f"rlnCenteredCoordinate{a}Angst": [0.0, 10.0] for a in "XYZ"}
    write_star(nan, {"particles": {"rlnTomoName": ["A", "A"], **columns, "rlnAngleRot": [0.0, "nan"]}})
    assert "NaN" in _refused(capsys, "average", nan, *base)
    lone = tmp_path / "lone.star"
    write_relion_particles(lone, particles)
    assert "--series" in _refused(capsys, "average", lone, *base)


def test_bad_settings_get_words_that_help(project, tmp_path, capsys):
    base = ("average", project, "--output", tmp_path / "none")
    assert "not known" in _refused(capsys, *base, "--box-size", BOX, "--device", "cpu")
    tight = _refused(capsys, *base, "--box-size", BOX, "--mask-diameter-angstrom", 400, *PLAIN)
    assert "does not fit into a box" in tight
    assert "nothing finer" in _refused(capsys, *base, "--box-size", BOX, "--pixel-size-angstrom", 4, *PLAIN)
    assert "symmetry `X9`" in _refused(capsys, *base, "--box-size", BOX, "--symmetry", "X9", *PLAIN)
    write_mrc(tmp_path / "mask.mrc", np.ones((16, 16, 16), np.float32), 10.0)
    masked = _refused(capsys, *base, "--box-size", BOX, "--mask", tmp_path / "mask.mrc", *PLAIN)
    assert "16 x 16 x 16 voxels" in masked
    odd = _refused(capsys, *base, "--box-size", 33, *PLAIN)
    assert "`--box-size` is `33`" in odd
    assert "pydantic" not in odd


@pytest.mark.parametrize("command", ["extract", "average"])
def test_particles_outside_of_the_field_are_told_of(project, tmp_path, capsys, command):
    outside = ParticleSet.build("A", np.array([[9000.0, 0.0, 0.0]]), rotations=np.eye(3)[None])
    listing = _list(project, ParticleSet.concatenate([_particles(project), outside]), "beyond.star")
    # the second time the folder holds them already
    for _ in range(2):
        assert run([command, str(listing), "--output", str(tmp_path / "out"), "--box-size", str(BOX), *PLAIN]) == 0
        assert "1 particle of the list is seen in no image and was left out." in capsys.readouterr().out
