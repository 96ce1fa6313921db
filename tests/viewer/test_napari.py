"""Layers of napari: where they lie, and what becomes of edits. napari itself is only needed for the last tests."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_project import NAMES, PLACES_XYZ_ANGSTROM, SHAPE_ZYX, VOXEL_ANGSTROM, make_picks

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import read_mrc, read_mrc_header, write_mrc
from eucentric.io.ome_zarr_writer import write_ome_zarr
from eucentric.io.particles import read_particles
from eucentric.io.relion_particles import write_relion_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.curation_session import Curation, lists_in_use
from eucentric.viewer import napari_plugin
from eucentric.viewer.napari_layers import OWN, ROW, project_layers, series_layers
from eucentric.viewer.napari_saving import (
    edited_points,
    save_into_project,
    save_labels,
    save_new_points,
    save_points,
)

HAS_NAPARI = importlib.util.find_spec("napari") is not None
needs_napari = pytest.mark.skipif(not HAS_NAPARI, reason="napari is not installed: pip install eucentric[napari]")
LIST = "pick/both/particles.star"


def layer(layers, kind, words=""):
    (found,) = [one for one in layers if one[2] == kind and words in one[1]["name"]]
    return found


def world(index_zyx, attributes):
    return np.asarray(index_zyx) * attributes["scale"] + attributes["translate"]


def test_picks_lie_on_what_they_show_and_volumes_over_each_other(project):
    (project / "segment" / "labels").mkdir(parents=True)
    coarse = np.zeros((12, 24, 32), np.int16)
    coarse[7, 14, 24] = 3  # 2 x 20 A along z, 2 along y, 8 along x from the middle
    write_mrc(project / "segment" / "labels" / "TS_01.mrc", coarse, 20.0, "int16")
    layers = series_layers(project, "TS_01")
    volume, about, _ = layer(layers, "image")
    places, points, _ = layer(layers, "points")
    np.testing.assert_allclose(places[:, ::-1], PLACES_XYZ_ANGSTROM)
    # the middle of what is dark about each place, found without the frame's own functions
    for place in places:
        low = np.round((place - about["translate"]) / about["scale"]).astype(int) - 4
        dark = -np.minimum(np.asarray(volume)[tuple(slice(a, a + 9) for a in low)] + 0.2, 0.0)
        middle = low + np.array([np.average(grid, weights=dark) for grid in np.indices(dark.shape)])
        np.testing.assert_allclose(world(middle, about), place, atol=0.2 * VOXEL_ANGSTROM)
    labels, drawn, _ = layer(layers, "labels")
    np.testing.assert_allclose(world(np.argwhere(labels)[0], drawn), [20.0, 40.0, 160.0])
    assert labels.dtype == np.int32
    assert points["features"]["kind"].tolist() == ["ribosome", "ribosome", "proteasome"]
    np.testing.assert_allclose(points["features"]["score"], [0.9, 0.5, 0.2])
    np.testing.assert_array_equal(points["features"][ROW], [0, 1, 2])
    assert len(set(points["face_color"])) == 2


def test_vectors_point_along_the_particles(project):
    (vectors, _, _) = layer(series_layers(project, "TS_02"), "vectors")
    # third column of RELION's Rz(-psi) Ry(-tilt) Rz(-rot): where the z axis of the reference points to
    tilt, psi = np.radians([30.0, 60.0, 110.0]), np.radians([50.0, -20.0, 5.0])
    expected = np.stack([np.cos(tilt), np.sin(tilt) * np.sin(psi), -np.sin(tilt) * np.cos(psi)], axis=1)
    lengths = np.linalg.norm(vectors[:, 1], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:, 1] / lengths, expected, atol=1e-6)
    np.testing.assert_allclose(vectors[:, 0, ::-1], PLACES_XYZ_ANGSTROM)


def test_a_surface_lies_in_the_same_frame(project):
    folder = project / "segment" / "meshes"
    folder.mkdir(parents=True)
    (folder / "TS_01_membrane.obj").write_text("v 10 20 30\nv 40 20 30\nv 10 50 35\nf 1 2 3\n")
    vertices, faces, values = layer(series_layers(project, "TS_01"), "surface")[0]
    np.testing.assert_allclose(vertices, [[30, 20, 10], [30, 20, 40], [35, 50, 10]])
    assert (faces.tolist(), len(values)) == ([[0, 1, 2]], 3)


def test_an_ome_zarr_pyramid_has_the_place_of_its_finest_level(project):
    path = project / "reconstruct" / "tomograms" / "TS_01_extra.ome.zarr"
    volume = np.random.default_rng(3).normal(size=(96, 130, 140)).astype(np.float32)
    write_ome_zarr(path, volume, 5.0)
    data, about, kind = layer(napari_plugin.get_reader(str(path))(str(path)), "image")
    assert (kind, about["multiscale"]) == ("image", True)
    assert [tuple(a.shape) for a in data][:2] == [(96, 130, 140), (48, 65, 70)]
    np.testing.assert_allclose(world((48, 65, 70), about), 0.0)


def test_scaled_numbers_of_a_volume_are_true(tmp_path):
    path = tmp_path / "TS_01.mrc"
    write_mrc(path, np.linspace(-3, 3, 8 * 8 * 8).reshape(8, 8, 8), 4.0, "int8")
    data, about, _ = napari_plugin.get_reader(str(path))(str(path))[0]
    assert abs(float(np.min(data)) + 3) < 0.05
    assert about["contrast_limits"][0] < -2.5
    assert about["metadata"][OWN]["series"] == "TS_01"


def test_a_project_shows_its_first_series(project):
    layers = project_layers(project)
    shown = [one[1]["name"] for one in layers if one[1]["visible"]]
    assert shown
    assert all(name.startswith("TS_01") for name in shown)
    assert {one[1]["name"].split()[0] for one in layers} == set(NAMES)


def test_what_the_reader_takes(project, tmp_path):
    assert napari_plugin.get_reader(str(tmp_path)) is None
    assert napari_plugin.get_reader([str(project)]) is None
    assert napari_plugin.get_reader(str(tmp_path / "notes.txt")) is None
    assert len(napari_plugin.get_reader(str(project))(str(project))) == len(project_layers(project))
    path = project / LIST
    assert [one[2] for one in napari_plugin.get_reader(str(path))(str(path))] == ["points", "vectors"] * 2


def test_what_cannot_be_shown_is_told(project, tmp_path):
    with pytest.raises(InputError, match="has no tilt series called TS_09"):
        series_layers(project, "TS_09")
    path = tmp_path / "empty.star"
    write_relion_particles(path, ParticleSet.empty())
    with pytest.raises(InputError, match="holds no particle"):
        napari_plugin.get_reader(str(path))(str(path))
    bare = tmp_path / "bare.mrc"
    write_mrc(bare, np.ones((4, 4, 4)), 4.0)
    bytes_of = bytearray(bare.read_bytes())
    bytes_of[40:52] = bytes(12)  # its cell
    bare.write_bytes(bytes_of)
    with pytest.raises(FormatError, match="does not tell its voxel size"):
        napari_plugin.get_reader(str(bare))(str(bare))


def points_of(project, series="TS_01"):
    data, attributes, _ = layer(series_layers(project, series), "points")
    return data, {**attributes, "features": dict(attributes["features"])}


def rows_of(attributes, rows):
    return {name: np.asarray(values)[rows] for name, values in attributes["features"].items()}


def test_saved_points_keep_what_is_known_of_them(project, tmp_path):
    source = make_picks().with_column("rlnLogLikeliContribution", np.arange(6.0))
    write_relion_particles(project / LIST, source)
    data, about = points_of(project)
    moved = data + np.array([[0, 0, 0], [0, 0, 0], [5.0, -2.0, 1.0]])
    places = np.concatenate([moved[[2, 0]], [[1.0, 2.0, 3.0]]])  # the second was deleted, one added
    features = rows_of(about, [2, 0, 0])
    features[ROW] = np.array([2, 0, -1])
    features["kind"] = np.array(["proteasome", "ribosome", "new"], dtype=object)
    about["features"] = features
    save_points(tmp_path / "saved.star", places, about)
    saved, before = read_particles(tmp_path / "saved.star"), read_particles(project / LIST)
    assert saved.tomograms.tolist() == ["TS_01", "TS_01", "TS_02", "TS_02", "TS_02", "TS_01"]
    kept = before.select([0, 2, 3, 4, 5])
    np.testing.assert_allclose(saved.rotations[:5], kept.rotations, atol=1e-6)
    np.testing.assert_allclose(saved.scores[:5], kept.scores)
    np.testing.assert_allclose(saved.columns["rlnLogLikeliContribution"][:5], [0, 2, 3, 4, 5])
    assert saved.kinds.tolist() == [*kept.kinds.tolist(), "new"]
    shift = np.zeros((5, 3))
    shift[1] = [1.0, -2.0, 5.0]  # x, y, z
    np.testing.assert_allclose(saved.positions_angstrom[:5], kept.positions_angstrom + shift, atol=1e-4)
    np.testing.assert_allclose(saved.positions_angstrom[5], [3.0, 2.0, 1.0])
    assert np.isnan(saved.scores[5])


def test_a_point_copied_with_its_features_is_an_added_one(project):
    data, about = points_of(project)
    about["features"] = rows_of(about, [0, 1, 2, 1])  # napari gives a new point the features of the one selected
    edited = edited_points(np.concatenate([data, data[1:2] + 30.0]), about)
    assert edited.kept.tolist() == [0, 1, 2]
    assert not edited.is_moved.any()
    assert edited.deleted.size == 0
    np.testing.assert_allclose(edited.added_positions, [data[1, ::-1] + 30.0])


def test_points_in_voxels_of_a_layer_count_by_its_scale_and_place(project):
    data, about = points_of(project)
    scale, first = np.full(3, VOXEL_ANGSTROM), -(np.array(SHAPE_ZYX) // 2) * VOXEL_ANGSTROM
    edited = edited_points((data - first) / scale, {**about, "scale": scale, "translate": first})
    assert not edited.is_moved.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {}}, "are from no list"),
        ({"rotate": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])}, "has `rotate` set"),
        ({"affine": np.diag([2.0, 1, 1, 1])}, "has `affine` set"),
    ],
)
def test_points_that_cannot_be_placed_are_refused(project, tmp_path, change, words):
    data, about = points_of(project)
    with pytest.raises(InputError, match=words):
        save_points(tmp_path / "saved.star", data, {**about, **change})
    assert not (tmp_path / "saved.star").exists()


def test_points_of_other_shapes_names_and_lists_are_refused(project, tmp_path):
    data, about = points_of(project)
    with pytest.raises(InputError, match="expected three coordinates"):
        save_points(tmp_path / "saved.star", data[:, :2], about)
    with pytest.raises(InputError, match="is no STAR file"):
        save_points(tmp_path / "saved.csv", data, about)
    other = {**about, "features": {ROW: np.array([0, 1, 4])}}
    with pytest.raises(InputError, match="names particles that are not of TS_01"):
        save_points(tmp_path / "saved.star", data, other)
    write_relion_particles(project / LIST, make_picks().select([0, 1, 3]))
    with pytest.raises(InputError, match="was changed since it was opened"):
        save_points(tmp_path / "saved.star", data, about)


def test_edits_kept_in_the_project_can_be_undone(project):
    data, about = points_of(project)
    about["features"] = rows_of(about, [0, 1, 1])
    about["features"][ROW] = np.array([0, 1, -1])
    places = np.array([data[0], data[1] + [0, 0, 15.0], [50.0, -60.0, 70.0]])
    edits = save_into_project(places, about)
    assert [e.kind for e in edits] == ["delete-pick", "move-pick", "add-pick"]
    path = lists_in_use(project)["both"]
    assert path.name == "particles_curated.star"
    saved = read_particles(path)
    mine = saved.in_tomogram("TS_01").positions_angstrom
    before = read_particles(project / LIST)
    expected = [before.positions_angstrom[0], before.positions_angstrom[1] + [15.0, 0, 0], [70.0, -60.0, 50.0]]
    np.testing.assert_allclose(mine, expected, atol=1e-3)
    np.testing.assert_allclose(saved.in_tomogram("TS_02").positions_angstrom, before.positions_angstrom[3:], atol=1e-3)
    # opened again, they are there, and saving changes nothing
    again, opened = points_of(project)
    np.testing.assert_allclose(again[:, ::-1], mine, atol=1e-3)
    assert save_into_project(again, opened) == []
    for _ in edits:
        Curation(project).undo()
    np.testing.assert_allclose(points_of(project)[0], data, atol=1e-3)


def test_edits_of_other_lists_are_not_kept_in_a_project(project, tmp_path):
    path = tmp_path / "list.star"
    write_relion_particles(path, make_picks())
    data, about, _ = layer(napari_plugin.get_reader(str(path))(str(path)), "points", "TS_01")
    with pytest.raises(InputError, match="is not a list of picks of a project"):
        save_into_project(data, about)


def test_points_made_in_napari_become_a_list(tmp_path):
    places = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    save_new_points(tmp_path / "mine.star", places, {"scale": (10, 10, 10), "translate": (-5, 0, 5)}, "TS_07")
    saved = read_particles(tmp_path / "mine.star")
    np.testing.assert_allclose(saved.positions_angstrom, [[35, 20, 5], [65, 50, 35]])
    assert set(saved.tomograms.tolist()) == {"TS_07"}
    with pytest.raises(InputError, match="holds no point"):
        save_new_points(tmp_path / "none.star", np.zeros((0, 3)), {}, "TS_07")


@pytest.mark.parametrize(("highest", "mode"), [(5, 1), (70_000, 2)])
def test_labels_come_back_where_they_were_drawn(project, tmp_path, highest, mode):
    about = layer(series_layers(project, "TS_01"), "image")[1]
    labels, attributes = napari_plugin.labels_over(
        SHAPE_ZYX, "TS_01", about["scale"], about["translate"], about["metadata"]
    )
    labels[3, 30, 50] = highest
    (project / "segment" / "labels").mkdir(parents=True)
    path = project / "segment" / "labels" / "TS_01.mrc"
    assert napari_plugin.write_labels(str(path), labels, attributes) == [str(path)]
    header = read_mrc_header(path)
    assert (header.mode, header.voxel_size_angstrom) == (mode, (VOXEL_ANGSTROM,) * 3)
    np.testing.assert_array_equal(np.asarray(read_mrc(path)[0]), labels)
    shown, again, _ = layer(series_layers(project, "TS_01"), "labels")
    np.testing.assert_array_equal(shown, labels)
    assert again["translate"] == attributes["translate"]


@pytest.mark.parametrize(
    ("shape", "change", "words"),
    [
        ((8, 8), {}, "expected a volume"),
        ((8, 8, 8), {"scale": (10, 10, 5)}, "expected cubes"),
        ((8, 8, 8), {"scale": None}, "expected cubes"),
        ((8, 8, 8), {"translate": (0, 0, 0)}, "do not lie where a tomogram of their size does"),
    ],
)
def test_labels_without_a_place_are_refused(tmp_path, shape, change, words):
    attributes = {"scale": (10, 10, 10), "translate": (-40, -40, -40), **change}
    with pytest.raises(InputError, match=words):
        save_labels(tmp_path / "labels.mrc", np.zeros(shape, int), attributes)
    with pytest.raises(InputError, match="is no MRC file"):
        save_labels(tmp_path / "labels.tif", np.zeros((8, 8, 8), int), attributes)


def test_the_manifest_names_what_is_there():
    (point,) = importlib.metadata.entry_points(group="napari.manifest", name="eucentric")
    module, _, name = point.value.partition(":")
    place = Path(importlib.util.find_spec(module).origin).parent / name
    manifest = yaml.safe_load(place.read_text())
    commands = {c["id"]: c["python_name"] for c in manifest["contributions"]["commands"]}
    for target in commands.values():
        assert callable(getattr(napari_plugin, target.partition(":")[2]))
    used = [one["command"] for kind in ("readers", "writers", "widgets") for one in manifest["contributions"][kind]]
    assert sorted(used) == sorted(commands)


@needs_napari
@pytest.mark.filterwarnings("ignore")  # those of napari's own
def test_napari_takes_the_manifest():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("eucentric")
    manifest.validate_imports()
    assert [w.display_name for w in manifest.contributions.widgets]


@needs_napari
@pytest.mark.filterwarnings("ignore")  # those of napari's own
def test_napari_makes_layers_of_a_project_and_gives_them_back(project, tmp_path):
    from napari.components import ViewerModel
    from napari.layers import Layer

    viewer = ViewerModel()
    for data, attributes, kind in project_layers(project):
        viewer.add_layer(Layer.create(data, attributes, kind))
    points = viewer.layers["TS_01 pick/both"]
    image = next(one for one in viewer.layers if one._type_string == "image")
    np.testing.assert_allclose(points.data_to_world(points.data[0])[::-1], PLACES_XYZ_ANGSTROM[0])
    np.testing.assert_allclose(image.data_to_world(np.array(SHAPE_ZYX) // 2), 0.0)
    points.add([10.0, 20.0, 30.0])
    points.selected_data = {1}
    points.remove_selected()
    path, state, _ = points.as_layer_data_tuple()
    napari_plugin.write_points(str(tmp_path / "saved"), path, state)
    saved = read_particles(tmp_path / "saved.star").in_tomogram("TS_01")
    np.testing.assert_allclose(
        saved.positions_angstrom, [PLACES_XYZ_ANGSTROM[0], PLACES_XYZ_ANGSTROM[2], [30.0, 20.0, 10.0]], atol=1e-3
    )
    np.testing.assert_allclose(saved.rotations[1], make_picks().rotations[2], atol=1e-6)
    said = napari_plugin.save_picks(points)
    assert said == "2 edits kept."
    labels, about, kind = napari_plugin.new_labels(image)
    drawn = Layer.create(labels, about, kind)
    drawn.data[2, 3, 4] = 1
    data, state, _ = drawn.as_layer_data_tuple()
    napari_plugin.write_labels(str(tmp_path / "labels.mrc"), data, state)
    assert np.argwhere(read_mrc(tmp_path / "labels.mrc")[0]).tolist() == [[2, 3, 4]]
