"""Scenes of `eucentric map-back` in glTF, their colours, and what comes back from ArtiaX."""

import json
import struct

import numpy as np
import pandas as pd
import pytest
import starfile
import trimesh
from scipy.ndimage import map_coordinates

from eucentric.averaging.surface_mesh import surface_mesh
from eucentric.cli.main import run
from eucentric.errors import InputError, ShapeError
from eucentric.geometry import Rotation
from eucentric.io.gltf import GltfCopy, GltfMesh, write_gltf
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.pipeline.scene_colors import particle_colors
from eucentric.simulation import asymmetric_phantom

VOXEL, N = 5.0, 40
PHANTOM = asymmetric_phantom(70.0)
FRAME = TomogramFrame(voxel_size_angstrom=5.0, size_xyz=(97, 80, 55))
PLACES = np.array([[-115.0, -80.0, 20.0], [130.0, 60.0, -25.0], [-3.0, 101.0, 0.0], [10.0, -12.0, 3.0]])
TURNS = Rotation.random(4, np.random.default_rng(2)).matrices


@pytest.fixture(scope="module")
def back(tmp_path_factory):
    """The files of a map put back in one tomogram with three particles, and one in another."""
    root = tmp_path_factory.mktemp("scene")
    volume = PHANTOM.volume((N, N, N), VOXEL).numpy()
    write_mrc(root / "map.mrc", volume, VOXEL)
    write_mrc(root / "local.mrc", 10.0 + np.indices((N, N, N))[0].astype(np.float32) / 10.0, VOXEL)
    particles = ParticleSet.build(
        ["001", "T2", "001", "001"], PLACES[[0, 3, 1, 2]], rotations=TURNS[[0, 3, 1, 2]], kinds=["a", "a", "b", "a"],
        scores=[1.0, 2.0, np.nan, 4.0], columns={"eucQValue": [0.1, 0.2, 0.3, 0.4]}, texts={"rlnImageName": list("wxyz")},
    )  # fmt: skip
    write_particles(root / "list.star", particles, "relion5")
    sized = ["--tomogram-size", *map(str, FRAME.size_xyz), "--voxel-size", "5"]
    command = ["map-back", str(root / "list.star"), "--map", str(root / "map.mrc"), *sized]
    assert run([*command, "--output", str(root / "out")]) == 0
    return root, command


def parts_of(path):
    """The tree and the buffer of a .glb."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert (size % 4, kind) == (0, b"JSON")
    tree = json.loads(data[20 : 20 + size])
    length, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    return tree, data[28 + size : 28 + size + length]


def test_surfaces_of_a_scene_lie_where_the_volume_has_its_level(back):
    root, _ = back
    scene = trimesh.load(root / "out" / "001.glb")
    whole = scene.to_geometry()
    made, _ = read_mrc(root / "out" / "001.mrc")
    tree, _ = parts_of(root / "out" / "001.glb")
    assert len([n for n in tree["nodes"] if "mesh" in n]) == 3
    # the level: read where the triangles of the map itself lie
    volume = PHANTOM.volume((N, N, N), VOXEL).numpy()
    own = np.asarray(next(iter(scene.geometry.values())).vertices)
    level = np.median(map_coordinates(volume, (own[:, ::-1] / VOXEL + N // 2).T, order=3))
    index = np.asarray(whole.vertices)[:, ::-1].T / 5.0
    slope = np.linalg.norm([map_coordinates(g, index, order=1) for g in np.gradient(made)], axis=0)
    away = np.abs(map_coordinates(made, index, order=3) - level) / slope
    assert np.percentile(away, 99) < 1.0  # voxels
    # a mirror image, or particles turned the other way round, would lie elsewhere
    mirrored = index.copy()
    mirrored[2] = made.shape[2] - 1 - mirrored[2]
    assert np.median(map_coordinates(made, mirrored, order=1)) < 0.1 * level
    assert whole.volume > 0.0  # triangles look outwards
    solid = (made > level).sum() * 5.0**3
    assert whole.volume == pytest.approx(solid, rel=0.2)


def test_a_scene_is_what_the_specification_asks(back):
    tree, data = parts_of(back[0] / "out" / "001.glb")
    assert tree["asset"] == {**tree["asset"], "version": "2.0", "extras": {"unit": "angstrom", "up": "z"}}
    assert tree["buffers"] == [{"byteLength": len(data)}]
    width = {5126: 4, 5125: 4, 5121: 1}
    for accessor in tree["accessors"]:
        view = tree["bufferViews"][accessor["bufferView"]]
        part = width[accessor["componentType"]] * {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == part * accessor["count"]
        assert view["byteOffset"] + view["byteLength"] <= len(data)
    assert len({p["attributes"]["POSITION"] for m in tree["meshes"] for p in m["primitives"]}) == 1  # stored once
    (primitive,) = tree["meshes"][0]["primitives"]
    position = tree["accessors"][primitive["attributes"]["POSITION"]]
    start = tree["bufferViews"][position["bufferView"]]["byteOffset"]
    vertices = np.frombuffer(data, "<f4", 3 * position["count"], start).reshape(-1, 3)
    assert position["min"] == [float(v) for v in vertices.min(axis=0)]
    assert position["max"] == [float(v) for v in vertices.max(axis=0)]
    index = tree["accessors"][primitive["indices"]]
    numbers = np.frombuffer(data, "<u4", index["count"], tree["bufferViews"][index["bufferView"]]["byteOffset"])
    assert numbers.max() < len(vertices)
    normal = tree["accessors"][primitive["attributes"]["NORMAL"]]
    normals = np.frombuffer(data, "<f4", 3 * normal["count"], tree["bufferViews"][normal["bufferView"]]["byteOffset"])
    np.testing.assert_allclose(np.linalg.norm(normals.reshape(-1, 3), axis=1), 1.0, atol=1e-5)
    for node in tree["nodes"][1:]:
        assert np.linalg.norm(node["rotation"]) == pytest.approx(1.0, abs=1e-6)
    # classes by Okabe and Ito's colours, in linear light
    assert dict(map(tuple, tree["scenes"][0]["extras"]["legend"])) == {"a": "#e69f00", "b": "#56b4e9"}
    first = tree["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"]
    np.testing.assert_allclose(first, [0.7913, 0.3467, 0.0, 1.0], atol=1e-3)
    assert [n["extras"]["row"] for n in tree["nodes"][1:]] == [1, 3, 4]
    assert (back[0] / "out" / "legend.csv").read_text().splitlines() == ['"class",colour', '"a",#e69f00', '"b",#56b4e9']


def test_colours_by_score_and_by_local_resolution(back):
    root, command = back
    assert run([*command, "--colour-by", "score", "--surfaces", "--output", str(root / "score")]) == 0
    tree, _ = parts_of(root / "score" / "001.glb")
    assert len(tree["materials"]) == 3  # two scores, and one particle without
    assert "not known" in (root / "score" / "legend.csv").read_text()
    assert "key #440154" in (root / "score" / "001.cxc").read_text()
    local = ["--colour-by", "resolution", "--local-resolution", str(root / "local.mrc"), "--surfaces"]
    assert run([*command, *local, "--output", str(root / "local")]) == 0
    mesh = next(iter(trimesh.load(root / "local" / "T2.glb").geometry.values()))
    height = np.asarray(mesh.vertices)[:, 2]
    green = np.asarray(mesh.visual.vertex_attributes["color"])[:, 1]
    assert np.corrcoef(height, green)[0, 1] < -0.9  # finer is brighter, and finer is lower here
    assert "color sample #1.1 map #2" in (root / "local" / "T2.cxc").read_text()
    numbers = particle_colors(read_particles(root / "list.star"), "eucQValue")
    assert len(set(numbers.colors)) == 4


def test_a_large_surface_is_made_simpler_and_stays_in_place():
    volume = PHANTOM.volume((64, 64, 64), 3.0).numpy()
    level = 0.3 * float(volume.max())
    fine, simple = (surface_mesh(volume, 3.0, level, most_triangles=n) for n in (100000, 800))
    assert len(simple.triangles) <= 800 < len(fine.triangles)
    for mesh in (fine, simple):
        solid = trimesh.Trimesh(mesh.vertices_angstrom, mesh.triangles, process=False)
        assert solid.is_watertight
        assert solid.is_winding_consistent
        # whole voxels count too much of a thin body, chords cut its corners
        assert 0.75 < solid.volume / (float((volume > level).sum()) * 27.0) < 1.0
        index = mesh.vertices_angstrom[:, ::-1].T / 3.0 + 32
        slope = np.linalg.norm([map_coordinates(g, index, order=1) for g in np.gradient(volume)], axis=0)
        assert np.percentile(np.abs(map_coordinates(volume, index, order=1) - level) / slope, 99) < 0.5
    dusty = volume.copy()
    dusty[3, 3, 3] = 2.0 * level
    assert np.abs(surface_mesh(dusty, 3.0, level).vertices_angstrom).max() < 80.0


def as_artiax_saves(source, target, change):
    """Numbers of the list as ArtiaX's reader and writer leave them; `change` edits its table."""
    blocks = starfile.read(source, always_dict=True)
    name = next(k for k, v in blocks.items() if "rlnCoordinateZ" in v)
    table = blocks.pop(name)
    # positions and shifts in A, as the scene has them, and back; angles by way of float32 matrices
    for axis in "XYZ":
        table[f"rlnCoordinate{axis}"] = (table[f"rlnCoordinate{axis}"] * 5.0).astype(np.float32) / 5.0
    angles = [f"rlnAngle{n}" for n in ("Rot", "Tilt", "Psi")]
    matrices = Rotation.from_relion(*(table[a].to_numpy() for a in angles)).matrices.astype(np.float32)
    for column, values in zip(angles, Rotation(matrices.astype(np.float64)).as_relion(), strict=True):
        table[column] = values
    table = change(table).select_dtypes("number")
    starfile.write({**blocks, name: table}, target, overwrite=True)


def test_edits_made_in_artiax_come_back(back, tmp_path, capsys):
    root, _ = back
    source, edited = root / "out" / "001_artiax.star", tmp_path / "edited.star"
    new_turn = Rotation.from_relion(10.0, 20.0, 30.0).matrices.reshape(3, 3)

    def change(table):
        table.loc[0, "rlnCoordinateX"] += 4.0  # 20 A
        table.loc[1, "rlnOriginY"] = 2.0  # RELION takes origins off
        table.loc[1, ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]] = (10.0, 20.0, 30.0)
        added = dict.fromkeys(table.columns, 0.0) | {
            "rlnCoordinateX": 48.0,
            "rlnCoordinateY": 41.0,
            "rlnCoordinateZ": 27.0,
        }
        return pd.concat([table.drop(index=2), pd.DataFrame([added | {"rlnClassNumber": 2.0}])])

    as_artiax_saves(source, edited, change)
    made = tmp_path / "new.star"
    assert run(["particles", "take-edits", str(root / "list.star"), str(edited), "--output", str(made), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["deleted"], told["moved"], told["turned"], told["added"]) == (1, 2, 1, 1)
    before, after = read_particles(root / "list.star"), read_particles(made)
    assert after.tomograms.tolist() == ["001", "T2", "001", "001"]
    assert after.texts["rlnImageName"].tolist() == ["w", "x", "y", ""]
    np.testing.assert_allclose(after.columns["eucQValue"][:3], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(after.positions_angstrom[0], before.positions_angstrom[0] + [20.0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(after.positions_angstrom[1], before.positions_angstrom[1], atol=1e-9)
    np.testing.assert_allclose(after.positions_angstrom[2], before.positions_angstrom[2] - [0, 10.0, 0], atol=1e-3)
    np.testing.assert_allclose(after.rotations[2], new_turn, atol=1e-6)
    np.testing.assert_allclose(after.rotations[0], before.rotations[0], atol=1e-9)
    np.testing.assert_allclose(after.positions_angstrom[3], [0.0, 5.0, 0.0], atol=1e-9)  # 97 // 2 = 48, counted from 0
    assert after.kinds.tolist() == ["a", "a", "b", "b"]


def test_nothing_edited_is_nothing_changed(back, tmp_path, capsys):
    root, _ = back
    as_artiax_saves(root / "out" / "001_artiax.star", tmp_path / "same.star", lambda table: table)
    made = tmp_path / "new.star"
    assert (
        run(["particles", "take-edits", str(root / "list.star"), str(tmp_path / "same.star"), "--output", str(made)])
        == 0
    )
    assert "0 deleted, 0 moved, 0 turned, 0 added" in capsys.readouterr().out
    before, after = read_particles(root / "list.star"), read_particles(made)
    np.testing.assert_array_equal(before.positions_angstrom, after.positions_angstrom)
    np.testing.assert_allclose(before.rotations, after.rotations, atol=1e-9)


def test_edits_that_do_not_belong_are_refused(back, tmp_path, capsys):
    root, _ = back
    listed, source = root / "list.star", root / "out" / "001_artiax.star"

    def refused(words, original, *edited):
        assert (
            run(["particles", "take-edits", str(original), *map(str, edited), "--output", str(tmp_path / "n.star")])
            == 2
        )
        assert words in capsys.readouterr().err
        assert not (tmp_path / "n.star").exists()

    refused("Name the lists", listed)
    refused("does not say where", listed, listed)
    refused("does not exist", listed, tmp_path / "none.star")
    refused("the same particles", listed, source, source)
    other = read_particles(listed)
    write_particles(tmp_path / "moved.star", other.with_positions(other.positions_angstrom + 1.0), "relion5")
    refused("another list", tmp_path / "moved.star", source)
    write_particles(tmp_path / "short.star", other.select([0]), "relion5")
    refused("another list", tmp_path / "short.star", source)
    as_artiax_saves(source, tmp_path / "row.star", lambda t: t.assign(eucParticle=[1, 2, 3]))
    refused("not given to ArtiaX", listed, tmp_path / "row.star")
    as_artiax_saves(source, tmp_path / "nan.star", lambda t: t.assign(rlnCoordinateX=np.nan))
    refused("not a number", listed, tmp_path / "nan.star")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--colour-by", "taste"], "no column `taste`"),
        (["--colour-by", "resolution"], "--local-resolution FILE"),
        (["--colour-by", "resolution", "--local-resolution", "none.mrc"], "does not exist"),
        (["--triangles", "3"], "Ask for 100"),
        (["--level", "1e9"], "No surface lies"),
    ],
)
def test_scenes_that_cannot_be_made(back, tmp_path, capsys, arguments, words):
    _, command = back
    assert run([*command, *arguments, "--output", str(tmp_path / "o")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_meshes_that_cannot_be_written(tmp_path):
    corners = np.eye(3)
    mesh = GltfMesh(vertices=corners, normals=corners, triangles=np.array([[0, 1, 3]]))
    with pytest.raises(ShapeError, match="does not have"):
        write_gltf(tmp_path / "a.glb", [mesh], [], name="n", generator="g")
    whole = GltfMesh(vertices=corners, normals=corners, triangles=np.array([[0, 1, 2]]))
    copy = GltfCopy(mesh=1, rotation=np.eye(3), position=np.zeros(3), color=(0.0, 0.0, 0.0), name="c")
    with pytest.raises(ShapeError, match="needs one copy"):
        write_gltf(tmp_path / "a.glb", [whole], [copy], name="n", generator="g")
    with pytest.raises(ShapeError, match="expected \\(z, y, x\\)"):
        surface_mesh(np.zeros((4, 4)), 1.0, 0.5)
    with pytest.raises(InputError, match="no scores"):
        particle_colors(ParticleSet.build("T", np.zeros((1, 3))), "score")
