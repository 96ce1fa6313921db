"""What the browser is sent: volumes whose files do not exist, annotations and meshes, against the numbers they stand for."""

import json

import numpy as np
import pytest
import zarr
from small_project import PLACES_XYZ_ANGSTROM, blob_volume, make_picks, make_project

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import write_mrc
from eucentric.io.ome_zarr import read_ome_zarr
from eucentric.io.ome_zarr_writer import write_ome_zarr
from eucentric.models.particles import ParticleSet
from eucentric.viewer import annotations, pictures, surfaces, tilts_images
from eucentric.viewer.project_view import mesh_files, pick_files, volume_files
from eucentric.viewer.scene import pick_layers
from eucentric.viewer.site import Site
from eucentric.viewer.tomogram_page import make_scene
from eucentric.viewer.volume_handlers import array_metadata, chunk_bytes, image_metadata
from eucentric.viewer.volumes import CHUNK, ChunkCache, halved, open_volume

SHAPE = (70, 131, 65)
VOXEL = 7.5


def noise(shape=SHAPE):
    return np.random.default_rng(3).normal(10.0, 4.0, shape).astype(np.float32)


def downloaded(volume, folder):
    """All that is served of a volume as files, for other readers."""
    (folder / "zarr.json").parent.mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(image_metadata(volume)))
    for i, level in enumerate(volume.levels):
        for place in np.ndindex(*level.chunk_counts):
            path = folder.joinpath(str(i), "c", *map(str, place))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chunk_bytes(volume, i, *place))
        (folder / str(i) / "zarr.json").write_text(json.dumps(array_metadata(volume, i)))
    return folder


@pytest.mark.parametrize(
    ("kind", "limits", "tolerance"), [("float32", None, 0.0), ("float16", None, 0.02), ("int8", (-20.0, 40.0), 0.3)]
)
def test_another_reader_finds_the_volume_with_its_size_and_place(tmp_path, kind, limits, tolerance):
    true = noise()
    write_mrc(tmp_path / "a.mrc", true, VOXEL, kind, limits=limits)
    folder = downloaded(open_volume(tmp_path / "a.mrc", "image", ChunkCache()), tmp_path / "served.zarr")
    array, header = read_ome_zarr(folder)
    np.testing.assert_allclose(array, true, atol=tolerance)
    assert header.voxel_size_angstrom == pytest.approx((VOXEL,) * 3)
    # voxel n // 2 lies at 0: the specimen centre
    assert header.first_voxel_angstrom == pytest.approx([-(n // 2) * VOXEL for n in SHAPE[::-1]])
    assert header.level_shapes == (SHAPE, (35, 66, 33), (18, 33, 17))


def test_coarser_levels_are_means_where_their_voxels_lie(tmp_path):
    # a plane of values: at its own place a mean of neighbours equals the plane, whatever the level
    z, y, x = (((np.arange(n) - n // 2) * VOXEL) for n in SHAPE)
    plane = (0.01 * x + 0.02 * y[:, None] + 0.03 * z[:, None, None]).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", plane, VOXEL)
    folder = downloaded(open_volume(tmp_path / "a.mrc", "image", ChunkCache()), tmp_path / "served.zarr")
    for level in (1, 2):
        array, header = read_ome_zarr(folder, level)
        index = [np.arange(n // 2 - 1) for n in array.shape]  # less the last, which may be one voxel alone
        kz, ky, kx = (
            first + np.asarray(i) * voxel
            for first, i, voxel in zip(
                header.first_voxel_angstrom[::-1], index, header.voxel_size_angstrom[::-1], strict=True
            )
        )
        expected = 0.01 * kx + 0.02 * ky[:, None] + 0.03 * kz[:, None, None]
        np.testing.assert_allclose(array[np.ix_(*index)], expected, atol=1e-4)


def test_levels_of_ome_zarr_are_read_from_its_files_and_equal_ours(tmp_path):
    true = noise()
    write_ome_zarr(tmp_path / "a.ome.zarr", true, VOXEL)
    write_mrc(tmp_path / "a.mrc", true, VOXEL)
    stored = open_volume(tmp_path / "a.ome.zarr", "image", ChunkCache())
    made = open_volume(tmp_path / "a.mrc", "image", ChunkCache())
    assert len(stored.arrays) == len(stored.levels) == 3
    assert image_metadata(stored) == image_metadata(made)
    for level in range(3):
        np.testing.assert_allclose(stored.chunk(level, 0, 0, 0), made.chunk(level, 0, 0, 0), rtol=1e-5)


def test_labels_stay_whole_numbers_and_thin_ones_do_not_vanish(tmp_path):
    labels = np.zeros(SHAPE, np.float32)
    labels[:, 64, :] = 300
    write_mrc(tmp_path / "a.mrc", labels, VOXEL, "int16")
    volume = open_volume(tmp_path / "a.mrc", "labels", ChunkCache())
    assert volume.dtype == np.uint32
    assert set(np.unique(volume.chunk(2, 0, 0, 0))) == {0, 300}
    assert (volume.chunk(2, 0, 0, 0)[:18, 16, :17] == 300).all()


def test_a_chunk_past_the_end_is_no_chunk(tmp_path):
    write_mrc(tmp_path / "a.mrc", noise(), VOXEL)
    volume = open_volume(tmp_path / "a.mrc", "image", ChunkCache())
    edge = volume.chunk(0, 1, 2, 1)
    assert edge.shape == (CHUNK,) * 3
    assert (edge[6:] == 0).all()
    for place in ((0, 2, 0, 0), (0, 0, 3, 0), (3, 0, 0, 0), (-1, 0, 0, 0), (0, 0, -1, 0)):
        with pytest.raises(IndexError):
            volume.chunk(*place)


def test_memory_for_chunks_is_bounded_and_what_is_used_stays():
    cache, made = ChunkCache(most_bytes=4000), []

    def make(n):
        return lambda: made.append(n) or np.zeros(250, np.float32)

    for n in (0, 1, 2, 3, 0, 4, 0, 5):
        cache.get(("one", (n, 0, 0, 0)), make(n))
    assert cache.bytes <= 4000
    assert made == [0, 1, 2, 3, 4, 5]


def test_halving_keeps_a_last_odd_one():
    block = np.arange(5, dtype=np.float32)[None, None]
    np.testing.assert_array_equal(halved(block, "image")[0, 0], [0.5, 2.5, 4.0])
    np.testing.assert_array_equal(halved(block.astype(np.uint32), "labels")[0, 0], [1, 3, 4])


def test_volumes_that_cannot_be_placed_are_told_of(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_volume(tmp_path / "none.mrc", "image", ChunkCache())
    write_mrc(tmp_path / "a.mrc", noise((4, 4, 4)), 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[40:52] = bytes(12)  # cell lengths
    (tmp_path / "a.mrc").write_bytes(raw)
    with pytest.raises(FormatError, match="does not tell its voxel size"):
        open_volume(tmp_path / "a.mrc", "image", ChunkCache())
    zarr.create_group(tmp_path / "b.zarr")
    with pytest.raises(FormatError, match="not an OME-Zarr"):
        open_volume(tmp_path / "b.zarr", "image", ChunkCache())


def test_limits_hold_nearly_all_and_ignore_what_is_no_number(tmp_path):
    values = noise()
    values[40, 60, 30] = 1e6
    write_mrc(tmp_path / "a.mrc", values, VOXEL)
    low, high = open_volume(tmp_path / "a.mrc", "image", ChunkCache()).limits()
    assert low == pytest.approx(10 - 2.75 * 4, abs=1.0)  # 0.3 percent of a normal distribution
    assert high == pytest.approx(10 + 2.75 * 4, abs=1.0)


def test_limits_of_a_volume_that_is_mostly_empty_are_of_what_it_holds(tmp_path):
    values = np.zeros(SHAPE, np.float32)
    values[30:33, 60:70, 30:40] = np.linspace(0.1, 5.0, 300).reshape(3, 10, 10)
    write_mrc(tmp_path / "a.mrc", np.roll(values, -3, axis=0) + values, VOXEL)
    assert open_volume(tmp_path / "a.mrc", "image", ChunkCache()).limits() == pytest.approx((0.0, 5.0), abs=1.7)
    write_mrc(tmp_path / "a.mrc", np.zeros(SHAPE, np.float32), VOXEL)
    assert open_volume(tmp_path / "a.mrc", "image", ChunkCache()).limits() == (0.0, 1.0)


def test_points_hold_place_score_row_and_colour_of_their_kind():
    picks = make_picks(("TS_01",))
    info = annotations.annotation_info(picks, "points")
    data = annotations.all_annotations(picks, "points")
    assert [p["type"] for p in info["properties"]] == ["float32", "uint32", "rgb", "rgb"]
    size = 12 + 4 + 4 + 3 + 3 + 2  # to a multiple of four
    assert len(data) == 8 + 3 * (size + 8)
    assert int.from_bytes(data[:8], "little") == 3
    for row in range(3):
        one = data[8 + row * size : 8 + (row + 1) * size]
        assert one == annotations.one_annotation(picks, "points", row)
        np.testing.assert_allclose(np.frombuffer(one[:12], "<f4"), PLACES_XYZ_ANGSTROM[row])
        assert np.frombuffer(one[12:16], "<f4")[0] == pytest.approx(picks.scores[row])
        assert int.from_bytes(one[16:20], "little") == row + 1
        assert one[20:23] == bytes.fromhex({"ribosome": "56b4e9", "proteasome": "e69f00"}[picks.kinds[row]])
    assert np.frombuffer(data[-24:], "<u8").tolist() == [0, 1, 2]
    assert (np.array(info["lower_bound"]) < PLACES_XYZ_ANGSTROM.min(0)).all()
    assert (np.array(info["upper_bound"]) > PLACES_XYZ_ANGSTROM.max(0)).all()


def test_axes_start_at_the_particle_and_point_where_its_z_and_x_do():
    picks = make_picks(("TS_01",))
    made, numbers = annotations.records(picks, "axes")
    assert numbers.tolist() == list(range(6))
    along = made["place"][:, 3:] - made["place"][:, :3]
    np.testing.assert_allclose(made["place"][::2, :3], PLACES_XYZ_ANGSTROM, rtol=1e-5)
    np.testing.assert_allclose(
        along[::2] / np.linalg.norm(along[::2], axis=1, keepdims=True), picks.rotations[:, :, 2], atol=1e-5
    )
    np.testing.assert_allclose(
        along[1::2] / np.linalg.norm(along[1::2], axis=1, keepdims=True), picks.rotations[:, :, 0], atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(along[1::2], axis=1) / np.linalg.norm(along[::2], axis=1), 0.5, rtol=1e-5)


def test_no_particles_are_an_empty_layer():
    none = ParticleSet.empty()
    assert annotations.all_annotations(none, "points") == bytes(8)
    assert annotations.annotation_info(none, "axes")["spatial"][0]["limit"] == 1


def test_the_slider_of_scores_leaves_out_nobody_from_the_start():
    for scores in ([24.712523, 49.699149], [np.nan, np.nan], [-3e-9, 2e-9], [5.0, 5.0]):
        picks = ParticleSet.build("TS_01", np.eye(3)[:2], scores=scores)
        shader = pick_layers(pick_file(), picks, "http://x/", True)[0]["shader"]
        least = float(shader.partition("default=")[2].partition("default=")[2].partition(")")[0])
        assert (np.nan_to_num(scores).astype(np.float32) >= least).all()


def pick_file():
    from pathlib import Path

    from eucentric.viewer.project_view import PickFile

    return PickFile(key="p", title="p", path=Path("p"), average=None)


def test_copies_of_a_surface_lie_at_their_particles_turned_as_they_are():
    picks = make_picks(("TS_01",)).select([0, 2])
    corners = np.array([[0.0, 0, 0], [10.0, 0, 0], [0, 20.0, 0], [0, 0, 30.0]])
    data = surfaces.copies_mesh(corners, np.array([[0, 1, 2], [0, 1, 3]]), picks)
    assert int.from_bytes(data[:4], "little") == 8
    points = 10 * np.frombuffer(data[4 : 4 + 8 * 12], "<f4").reshape(8, 3)  # nm
    np.testing.assert_allclose(points[0], PLACES_XYZ_ANGSTROM[0], atol=1e-3)
    np.testing.assert_allclose(points[7] - points[4], 30 * picks.rotations[1][:, 2], atol=1e-3)
    assert np.frombuffer(data[4 + 8 * 12 :], "<u4").reshape(-1, 3).tolist() == [
        [0, 1, 2],
        [0, 1, 3],
        [4, 5, 6],
        [4, 5, 7],
    ]


def test_the_surface_of_an_average_is_where_its_density_is(tmp_path):
    z, y, x = (np.mgrid[:32, :32, :32] - 16) * 5.0
    write_mrc(tmp_path / "map.mrc", np.exp(-((x - 25) ** 2 + (y + 15) ** 2 + z**2) / 800).astype(np.float32), 5.0)
    vertices, triangles, level = surfaces.map_surface(tmp_path / "map.mrc", 3)
    assert 0 < level < 1
    assert len(triangles) > 50
    np.testing.assert_allclose(vertices.mean(axis=0), [25, -15, 0], atol=3)


def test_the_project_lists_what_belongs_to_a_series(tmp_path):
    root = make_project(tmp_path / "p", ("TS_1", "TS_1_2"))
    for folder in ("denoise/tomograms", "segment/labels", "segment/meshes", "back"):
        (root / folder).mkdir(parents=True)
    for name in ("denoise/tomograms/TS_1", "segment/labels/TS_1_membranes", "back/TS_1", "back/TS_1_2"):
        write_mrc(root / f"{name}.mrc", blob_volume(), 10.0)
    (root / "back" / "TS_1.cxc").touch()
    (root / "segment" / "meshes" / "TS_1_2.ply").touch()
    found = [(v.key, v.kind) for v in volume_files(root, "TS_1")]
    assert found == [
        ("tomogram", "image"),
        ("denoise", "image"),
        ("labels-membranes", "labels"),
        ("mapped-back-back", "image"),
    ]
    assert [v.title for v in volume_files(root, "TS_1_2")] == ["Tomogram", "Mapped back: back"]
    assert not mesh_files(root, "TS_1")
    assert [m.title for m in mesh_files(root, "TS_1_2")] == ["Surface"]
    assert [p.title for p in pick_files(root)] == ["pick/both"]


def test_the_scene_has_one_tomogram_shown_and_steps_of_its_voxels(tmp_path):
    root = make_project(tmp_path / "p", ("TS_01",))
    write_mrc(root / "reconstruct" / "tomograms" / "TS_01_other.mrc", blob_volume(), 10.0)
    site = Site(root=root.resolve())
    state = make_scene(site, "TS_01", "http://h", (100.0, -50.0, 20.0))
    site.close()
    assert state["position"] == pytest.approx([10.0, -5.0, 2.0])
    assert state["dimensions"]["x"] == [pytest.approx(10e-10), "m"]
    shown = [layer["name"] for layer in state["layers"] if layer["type"] == "image" and layer["visible"]]
    assert shown == ["Tomogram"]
    assert all(layer["source"].partition("://")[2].startswith("http://h/") for layer in state["layers"])


def test_slices_have_the_particle_in_their_middle_also_at_an_edge(tmp_path):
    write_mrc(tmp_path / "a.mrc", blob_volume(), 10.0)
    volume = open_volume(tmp_path / "a.mrc", "image", ChunkCache())
    for place in PLACES_XYZ_ANGSTROM:
        for plane in ("xy", "xz", "yz"):
            cut = pictures.slice_through(volume, place, 150.0, plane)
            assert cut.shape == (31, 31)
            weight = np.clip(-np.nan_to_num(cut) - 0.3, 0, None)[5:26, 5:26]
            y, x = np.mgrid[:21, :21] - 10
            middle = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            np.testing.assert_allclose(middle, 0, atol=0.25)


def test_cut_outs_of_tilts_have_the_particle_in_their_middle(tmp_path):
    from eucentric.viewer.project_view import read_series

    root = make_project(tmp_path / "p", ("TS_01",)).resolve()
    series = read_series(root, "TS_01")
    for place in PLACES_XYZ_ANGSTROM:
        pixels, visible = tilts_images.places_in_tilts(root, series, place)
        for tilt in np.flatnonzero(visible):
            cut = tilts_images.tilt_cut_out(root, series.tilts[tilt], pixels[tilt], 4)
            y, x = np.mgrid[:9, :9] - 4
            weight = np.clip(-np.nan_to_num(cut) - 0.2, 0, None)
            middle = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            assert np.abs(middle).max() < 0.8  # half a pixel of rounding, and noise
