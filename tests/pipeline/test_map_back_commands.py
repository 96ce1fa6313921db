"""`eucentric map-back`, `eucentric project-map` and `eucentric helix` on files: places, hand, centre, and what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.averaging.place_maps import place_copies
from eucentric.averaging.project_views import project_views, view_angles
from eucentric.cli.main import run
from eucentric.errors import InputError, ShapeError
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.star import read_star
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.simulation import asymmetric_phantom

VOXEL, N = 5.0, 40
PHANTOM = asymmetric_phantom(70.0)
FRAME = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(64, 50, 32))


def poses(count=3):
    rng = np.random.default_rng(2)
    places = np.array([[-150.0, -80.0, 20.0], [130.0, 60.0, -35.0], [-3.0, 111.0, 0.0]])[:count]
    return places, Rotation.random(count, rng).matrices


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A map, a list of oriented particles and a tomogram that is empty but for its size."""
    root = tmp_path_factory.mktemp("scene")
    write_mrc(root / "map.mrc", PHANTOM.volume((N, N, N), VOXEL).numpy(), VOXEL)
    places, turns = poses()
    particles = ParticleSet.build("T1", places, rotations=turns, kinds=["a", "b", "a"])
    write_particles(root / "list.star", particles, "relion5")
    write_particles(root / "bare.star", ParticleSet.build("T1", places), "relion5")
    write_mrc(root / "T1.mrc", np.random.default_rng(0).normal(size=FRAME.size_xyz[::-1]).astype(np.float32), 10.0)
    return root


def test_maps_lie_where_their_particles_are(scene, capsys):
    out = scene / "back"
    command = [
        "map-back",
        str(scene / "list.star"),
        "--map",
        str(scene / "map.mrc"),
        "--tomograms",
        str(scene / "T1.mrc"),
    ]
    assert run([*command, "--output", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["volumes"][0]["particles"] == 3
    made, header = read_mrc(out / "T1.mrc")
    assert header.voxel_size_angstrom == (10.0, 10.0, 10.0)
    assert made.shape == FRAME.size_xyz[::-1]
    places, turns = poses()
    wanted = sum(
        PHANTOM.transformed(t, p).volume(FRAME.size_xyz[::-1], 10.0).numpy() for p, t in zip(places, turns, strict=True)
    )
    # voxels of 10 A are coarse for blobs of 4 to 7 A: the mirror image differs by far more
    assert np.corrcoef(made.ravel(), wanted.ravel())[0, 1] > 0.97
    mirrored = sum(
        PHANTOM.mirrored().transformed(t, p).volume(FRAME.size_xyz[::-1], 10.0).numpy()
        for p, t in zip(places, turns, strict=True)
    )
    assert np.corrcoef(made.ravel(), mirrored.ravel())[0, 1] < 0.9
    scene_text = (out / "T1.cxc").read_text()
    assert str((out / "T1.mrc").resolve()) in scene_text
    assert str((scene / "T1.mrc").resolve()) in scene_text
    assert run([*command, "--output", str(out)]) == 2  # files in the way
    assert "--overwrite" in capsys.readouterr().err


def test_labels_and_surfaces(scene):
    out = scene / "labels"
    assert run(
        ["map-back", str(scene / "list.star"), "--map", str(scene / "map.mrc"), "--tomograms", str(scene / "T1.mrc"),
         "--form", "labels", "--kind", "a", "--surfaces", "--output", str(out)]
    ) == 0  # fmt: skip
    made, _ = read_mrc(out / "T1.mrc")
    assert set(np.unique(made)) == {0, 1, 2}
    places, turns = poses()
    for number, row in ((1, 0), (2, 2)):
        middle = np.argwhere(made == number)[:, ::-1].mean(axis=0)
        assert np.linalg.norm(FRAME.to_angstrom(middle) - places[row]) < 40.0
    text = (out / "T1.cxc").read_text()
    lines = [line for line in text.splitlines() if line.startswith("view matrix")]
    assert len(lines) == 2
    matrix = np.array(lines[1].split(",", 1)[1].split(","), dtype=float).reshape(3, 4)
    np.testing.assert_allclose(matrix[:, :3], turns[2], atol=1e-5)
    # ChimeraX counts A from the first voxel, in the map and in the tomogram
    centre = matrix @ [N // 2 * VOXEL, N // 2 * VOXEL, N // 2 * VOXEL, 1.0]
    np.testing.assert_allclose(centre, (places[2] / 10.0 + np.array(FRAME.size_xyz) // 2) * 10.0, atol=1e-4)


def test_an_average_is_put_back_with_its_own_mask(scene, tmp_path, capsys):
    folder = tmp_path / "average"
    folder.mkdir()
    for name in ("map.mrc",):
        (folder / name).write_bytes((scene / name).read_bytes())
    (folder / "particles.star").write_bytes((scene / "list.star").read_bytes())
    mask = np.zeros((N, N, N), np.float32)
    write_mrc(folder / "mask.mrc", mask, VOXEL)
    sized = ["--tomogram-size", "64", "50", "32", "--voxel-size", "10"]
    assert run(["map-back", str(folder), *sized, "--output", str(tmp_path / "o")]) == 2
    assert "leaves nothing" in capsys.readouterr().err
    mask[N // 2 :] = 1.0
    write_mrc(folder / "mask.mrc", mask, VOXEL)
    assert run(["map-back", str(folder), *sized, "--output", str(tmp_path / "o")]) == 0
    whole, part = read_mrc(scene / "back" / "T1.mrc")[0], read_mrc(tmp_path / "o" / "T1.mrc")[0]
    share = float(
        (PHANTOM.volume((N, N, N), VOXEL).numpy() * mask).sum() / PHANTOM.volume((N, N, N), VOXEL).numpy().sum()
    )
    assert part.sum() / whole.sum() == pytest.approx(share, abs=0.02)


@settings(max_examples=15, deadline=None)
@given(shift=st.tuples(*[st.integers(-6, 6)] * 3))
def test_a_copy_moved_by_whole_voxels_is_the_same_copy(shift):
    source = PHANTOM.volume((24, 24, 24), 10.0)
    turn = Rotation.random(1, np.random.default_rng(0)).matrices
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(40, 40, 40))
    first = place_copies(source, frame, np.array([[2.0, -3.0, 4.0]]), turn)
    moved = place_copies(source, frame, np.array([[2.0, -3.0, 4.0]]) + 10.0 * np.array(shift), turn)
    np.testing.assert_allclose(moved, np.roll(first, shift[::-1], axis=(0, 1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list.star"], "--map"),
        (["bare.star", "--map", "map.mrc"], "no orientations"),
        (["list.star", "--map", "map.mrc"], "lies in no project"),
        (["list.star", "--map", "map.mrc", "--kind", "x"], "no particle of kind x"),
        (["list.star", "--map", "T1.mrc"], "expected a cube"),
        (["list.star", "--map", "map.mrc", "--tomogram-size", "9", "9", "9"], "--voxel-size"),
        (["list.star", "--map", "map.mrc", "--tomograms", "map.mrc"], "no tomogram of T1"),
        (["list.star", "--map", "map.mrc", "--mask", "T1.mrc", "--tomograms", "T1.mrc"], "another size"),
    ],
)
def test_map_back_refuses(scene, tmp_path, capsys, arguments, words):
    given = [str(scene / a) if a.endswith((".star", ".mrc")) else a for a in arguments]
    assert run(["map-back", *given, "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_copies_that_cannot_be_placed():
    with pytest.raises(ShapeError, match="expected a cube"):
        place_copies(torch.zeros(8, 8, 9), FRAME, np.zeros((1, 3)), np.eye(3)[None])
    with pytest.raises(InputError, match="1 to 32767"):
        place_copies(
            torch.zeros(8, 8, 8), FRAME, np.zeros((1, 3)), np.eye(3)[None], level=0.5, labels=np.array([40000])
        )


def test_projections_are_those_of_the_scene_at_their_angles(scene, capsys):
    out = scene / "views"
    command = ["project-map", str(scene / "map.mrc"), "--step", "60", "--low-pass", "0", "--output", str(out)]
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    stack, header = read_mrc(out / "templates.mrcs")
    assert (header.is_volume, header.voxel_size_angstrom[0]) == (False, VOXEL)
    table = read_star(out / "templates.star")
    particles, optics = table["particles"], table["optics"]
    assert len(stack) == told["views"] == len(particles["rlnAngleRot"])
    assert float(optics["rlnImagePixelSize"][0]) == VOXEL
    flat = TiltGeometry.build([0.0])
    for i in (0, len(stack) // 2, len(stack) - 1):
        angles = [float(particles[f"rlnAngle{name}"][i]) for name in ("Rot", "Tilt", "Psi")]
        turn = Rotation.from_relion(*angles).matrices.reshape(3, 3)
        wanted = PHANTOM.transformed(turn).project(flat, (N, N), VOXEL)[0].numpy()
        assert np.linalg.norm(stack[i] - wanted) < 0.02 * np.linalg.norm(wanted)
    model, model_header = read_mrc(out / "initial_model.mrc")
    assert model_header.voxel_size_angstrom == (VOXEL,) * 3
    np.testing.assert_allclose(model, PHANTOM.volume((N, N, N), VOXEL).numpy(), atol=0.02 * float(model.max()))
    assert run([*command, "--pixel-size", "8", "--box-size", "32", "--overwrite"]) == 0
    coarse, header = read_mrc(out / "templates.mrcs")
    assert coarse.shape[1:] == (32, 32)
    assert header.voxel_size_angstrom[0] == 8.0


@pytest.mark.parametrize("group", ["C1", "C7", "D7", "O"])
def test_views_cover_the_sphere_once_for_each_symmetry(group):
    angles = view_angles(20.0, group)
    rows = Rotation.from_relion(*angles.T).matrices[:, 2]
    alike = np.einsum("gji,nj->gni", symmetry_rotations(group), rows).reshape(-1, 3)
    probes = np.random.default_rng(1).normal(size=(200, 3))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    assert np.rad2deg(np.arccos((probes @ alike.T).max(axis=1))).max() < 25.0
    assert len(angles) == pytest.approx(len(view_angles(20.0)) / len(symmetry_rotations(group)), rel=0.5, abs=2)


def test_project_map_refuses(scene, tmp_path, capsys):
    def refused(words, *arguments):
        assert run(["project-map", *arguments, "--output", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err

    refused("expected a cube", str(scene / "T1.mrc"))
    refused("3 to 90", str(scene / "map.mrc"), "--step", "1")
    refused("even 8 or more", str(scene / "map.mrc"), "--box-size", "33")
    write_mrc(scene / "empty.mrc", np.zeros((16, 16, 16), np.float32), 4.0)
    refused("is empty", str(scene / "empty.mrc"))
    with pytest.raises(ShapeError, match="even size"):
        project_views(torch.zeros(9, 9, 9), np.eye(3)[None], 1.0)


def test_a_helix_is_found_from_the_command_line(tmp_path, capsys):
    line = (np.arange(44) - 22) * 8.0
    out = np.zeros((44,) * 3)
    for k in range(-14, 15):
        a = np.deg2rad(-55.0 * k)
        for radius, up, height in ((90.0, 0.0, 1.0), (70.0, 12.0, 0.7)):
            x, y, z = radius * np.cos(a), radius * np.sin(a), 18.0 * k + up
            out += height * np.einsum("z,y,x->zyx", *(np.exp(-0.5 * ((line - c) / 11.0) ** 2) for c in (z, y, x)))
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_mrc(tmp_path / f"{name}.mrc", (out + out.std() * rng.normal(size=out.shape)).astype(np.float32), 8.0)
    halves = [str(tmp_path / "a.mrc"), "--half2", str(tmp_path / "b.mrc")]
    made = tmp_path / "helix.mrc"
    assert run(["helix", *halves, "--output", str(made), "--json"]) == 0
    captured = capsys.readouterr().out
    assert "left-handed" in captured
    told = json.loads(captured.splitlines()[-1])
    assert told["rise_angstrom"] == pytest.approx(18.0, abs=0.05)
    assert told["twist_deg"] == pytest.approx(-55.0, abs=0.05)
    imposed, header = read_mrc(made)
    inside = np.hypot(line[:, None], line) < 150.0
    assert header.voxel_size_angstrom[0] == 8.0
    assert (
        np.corrcoef(imposed[:, inside].ravel(), out[:, inside].ravel())[0, 1] > 0.95
    )  # five units at least, noise of 0.7 in their mean
    near = ["--rise-angstrom", "17.5", "--twist-deg", "-54.5"]
    assert run(["helix", halves[0], *near, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rise_angstrom"] == pytest.approx(18.0, abs=0.1)
    assert told["sigma_rise_angstrom"] is None
    assert run(["helix", *halves, "--output", str(made)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    write_mrc(tmp_path / "flat.mrc", np.zeros((8, 9, 8), np.float32), 8.0)
    assert run(["helix", str(tmp_path / "flat.mrc")]) == 2
    assert "cube of even size" in capsys.readouterr().err
    assert run(["helix", *halves, "--symmetry", "T"]) == 2
    assert "Cn or Dn" in capsys.readouterr().err
