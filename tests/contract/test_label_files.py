"""Labels in every format: the same numbers at the same places, on content that is unlike its mirror images."""

import json

import numpy as np
import pytest
import tifffile
import zarr

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import read_imod_model, write_ome_zarr
from eucentric.io.imod_models import write_imod_model
from eucentric.io.mrc import read_mrc_header, write_mrc
from eucentric.pipeline.label_files import (
    labels_of_contours,
    need_labels,
    read_labels,
    read_mask,
    volume_grid,
    write_labels,
)
from eucentric.signal.painted_labels import fill_polygon
from eucentric.signal.slice_outlines import trace_outlines

SHAPE = (9, 20, 31)


@pytest.fixture
def labels():
    """A ring with an island in its hole, a bar at a corner, and specks; no two axes or ends are alike."""
    out = np.zeros(SHAPE, dtype=np.int32)
    z, y, x = np.indices(SHAPE)
    away = np.hypot(y - 8, x - 10)
    out[(away < 7) & (z > 1) & (z < 6)] = 1
    out[(away < 4) & (z > 1) & (z < 6)] = 0
    out[(away < 2) & (z > 1) & (z < 5)] = 1
    out[7:, 16:, 25:] = 3
    out[0, 0, 30] = 3
    out[3, 18, 1:20] = 7
    return out


@pytest.mark.parametrize("name", ["a.mrc", "a.tif", "a.zarr", "a.mod"])
def test_every_format_keeps_numbers_and_places(tmp_path, labels, name):
    write_labels(tmp_path / name, labels, 8.5)
    got, voxel = read_labels(tmp_path / name)
    np.testing.assert_array_equal(got, labels)
    assert got.dtype == np.int32
    assert voxel == (None if name == "a.tif" else 8.5)


def test_large_numbers_stay_exact(tmp_path, labels):
    for most in (300, 40_000, 70_000):
        many = np.where(labels == 7, most, labels)
        for name in ("a.mrc", "a.tif", "a.zarr"):
            write_labels(tmp_path / f"{most}{name}", many, 4.0)
            np.testing.assert_array_equal(read_labels(tmp_path / f"{most}{name}")[0], many)
    assert read_mrc_header(tmp_path / "300a.mrc").mode == 1
    assert read_mrc_header(tmp_path / "40000a.mrc").mode == 2
    with pytest.raises(InputError, match="holds up to"):
        write_labels(tmp_path / "b.mrc", np.where(labels == 7, 2**24 + 1, labels), 4.0)


def test_pages_of_tiff_are_arrays_as_napari_has_them(tmp_path, labels):
    write_labels(tmp_path / "a.tif", labels, 8.0)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)
    tifffile.imwrite(tmp_path / "b.tif", labels.astype("i8"), compression="zlib")
    np.testing.assert_array_equal(read_labels(tmp_path / "b.tif")[0], labels)


def test_ome_zarr_says_that_it_holds_labels(tmp_path):
    labels = np.zeros((70, 130, 90), dtype=np.int32)
    labels[10:40, 60:, 7:30] = 5
    write_labels(tmp_path / "a.ome.zarr", labels, 10.0)
    ome = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    assert "image-label" in ome
    datasets = ome["multiscales"][0]["datasets"]
    for k, one in enumerate(datasets):
        array = zarr.open_array(tmp_path / "a.ome.zarr" / one["path"], mode="r")
        np.testing.assert_array_equal(array[...], labels[:: 2**k, :: 2**k, :: 2**k])
        assert one["coordinateTransformations"] == [{"type": "scale", "scale": [10.0 * 2**k] * 3}]
    assert len(datasets) == 3


def test_labels_join_an_image(tmp_path, labels):
    image = tmp_path / "TS_01.ome.zarr"
    density = np.random.default_rng(3).normal(size=SHAPE).astype("f4")
    write_ome_zarr(image, density, 12.0)
    write_labels(image / "labels" / "membranes", labels, 12.0)
    np.testing.assert_array_equal(read_labels(image)[0], labels)
    write_labels(image / "labels" / "ribosomes", labels * 2, 12.0)
    write_labels(image / "labels" / "ribosomes", labels * 3, 12.0)
    group = json.loads((image / "labels" / "zarr.json").read_text())["attributes"]["ome"]
    assert group["labels"] == ["membranes", "ribosomes"]
    source = json.loads((image / "labels" / "ribosomes" / "zarr.json").read_text())["attributes"]["ome"]["image-label"]
    assert source["source"]["image"] == "../../"
    with pytest.raises(InputError, match="holds 2 labels: membranes, ribosomes"):
        read_labels(image)
    got, voxel = read_labels(image / "labels" / "ribosomes")
    np.testing.assert_array_equal(got, labels * 3)
    assert voxel == 12.0
    with pytest.raises(ShapeError, match="the image"):
        write_labels(image / "labels" / "other", labels[1:], 12.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (17, 24)])
def test_outlines_filled_again_give_the_mask(share, shape):
    mask = np.random.default_rng(5).random(shape) < share
    lines = trace_outlines(mask)
    again = np.zeros(shape, dtype=bool)
    for line in lines:
        again ^= fill_polygon(shape, line)
    np.testing.assert_array_equal(again, mask)


def test_outlines_leave_out_points_on_straight_lines():
    mask = np.zeros((12, 30), dtype=bool)
    mask[3:9, 4:25] = True
    (line,) = trace_outlines(mask)
    assert len(line) == 8
    np.testing.assert_array_equal(line.min(0), [3.5, 2.5])
    np.testing.assert_array_equal(line.max(0), [24.5, 8.5])


def test_contours_are_where_imod_has_them(tmp_path):
    labels = np.zeros((6, 10, 12), dtype=np.int32)
    labels[4, 2:4, 7:10] = 1
    write_labels(tmp_path / "a.mod", labels, 5.0)
    model = read_imod_model(tmp_path / "a.mod")
    assert model.image_size == (12, 10, 6)
    assert model.closed == ((True,),)
    contour = model.objects[0][0]
    # pixel i of a model reaches from i to i + 1, sections are counted from 0
    np.testing.assert_array_equal(contour.min(0), [7.0, 2.0, 4.0])
    np.testing.assert_array_equal(contour.max(0), [10.0, 4.0, 4.0])


def test_drawn_contours_are_filled_and_their_sections_told(tmp_path):
    square = np.array([[2, 3], [9, 3], [9, 8], [2, 8]], dtype=np.float64)
    inner = np.array([[4, 5], [6, 5], [6, 7], [4, 7]], dtype=np.float64)
    beside = square + np.array([5.0, 1.0])

    def at(points, z):
        return np.concatenate([points, np.full((len(points), 1), float(z))], axis=1)

    objects = [[at(square, 5), at(inner, 5)], [at(square, 2), at(beside, 2)], []]
    write_imod_model(tmp_path / "a.mod", objects, (20, 15, 8), 6.0, ["vesicle", "label 9"], closed=True)
    got, sections = labels_of_contours(read_imod_model(tmp_path / "a.mod"), (8, 15, 20))
    assert sections == (2, 5)
    expected = np.zeros((8, 15, 20), dtype=np.int32)
    expected[5, 3:8, 2:9] = 1
    expected[5, 5:7, 4:6] = 0
    expected[2, 3:8, 2:9] = 9
    expected[2, 4:9, 7:14] = 9
    np.testing.assert_array_equal(got, expected)


def test_open_contours_are_lines(tmp_path):
    line = np.array([[2.5, 3.5, 4.0], [12.5, 3.5, 4.0]])
    write_imod_model(tmp_path / "a.mod", [[line]], (20, 15, 8), 6.0)
    got, sections = labels_of_contours(read_imod_model(tmp_path / "a.mod"), (8, 15, 20))
    assert sections == (4,)
    assert set(np.unique(got[4, 3, 2:13])) == {1}
    assert got.sum() == 11


def test_contours_of_another_image_or_across_sections_are_refused(tmp_path):
    across = np.array([[2.0, 3.0, 1.0], [9.0, 3.0, 4.0], [9.0, 8.0, 6.0]])
    write_imod_model(tmp_path / "a.mod", [[across]], (20, 15, 8), 6.0, closed=True)
    model = read_imod_model(tmp_path / "a.mod")
    with pytest.raises(InputError, match="in one section along z"):
        labels_of_contours(model, (8, 15, 20))
    with pytest.raises(ShapeError, match="drawn on an image of 20 x 15 x 8"):
        labels_of_contours(model, (8, 20, 15))


def test_the_tomogram_decides_shape_and_voxel_size(tmp_path, labels):
    write_mrc(tmp_path / "tomogram.mrc", np.zeros(SHAPE, "f4"), 7.5)
    write_labels(tmp_path / "a.tif", labels, 1.0)
    assert read_labels(tmp_path / "a.tif", like=tmp_path / "tomogram.mrc")[1] == 7.5
    write_labels(tmp_path / "one.mrc", labels, 1.0)
    assert read_labels(tmp_path / "one.mrc", like=tmp_path / "tomogram.mrc")[1] == 7.5
    write_labels(tmp_path / "other.mrc", labels, 10.0)
    with pytest.raises(InputError, match="are 10 A wide"):
        read_labels(tmp_path / "other.mrc", like=tmp_path / "tomogram.mrc")
    write_labels(tmp_path / "cut.mrc", labels[:, :-1], 7.5)
    with pytest.raises(ShapeError, match=r"shape \(9, 19, 31\) and the tomogram"):
        read_labels(tmp_path / "cut.mrc", like=tmp_path / "tomogram.mrc")
    assert volume_grid(tmp_path / "tomogram.mrc") == (SHAPE, 7.5)


def test_what_is_no_label_is_refused(tmp_path, labels):
    for name, values in (("half", labels * 0.5), ("negative", labels - 1.0), ("nan", labels * 1.0)):
        if name == "nan":
            values = np.where(labels == 7, -5.0, values)
        write_mrc(tmp_path / f"{name}.mrc", values.astype("f4"), 5.0)
        with pytest.raises(InputError, match="whole numbers from 0"):
            read_labels(tmp_path / f"{name}.mrc")
    with pytest.raises(InputError, match="does not exist"):
        read_labels(tmp_path / "none.mrc")
    with pytest.raises(FormatError, match="no format of labels"):
        write_labels(tmp_path / "a.png", labels, 5.0)
    with pytest.raises(InputError, match="every voxel is 0"):
        need_labels(np.zeros(SHAPE, np.int32), tmp_path / "a.mrc")
    with pytest.raises(InputError, match="is full"):
        need_labels(np.ones(SHAPE, np.int32), tmp_path / "a.mrc")


def test_a_header_of_one_angstrom_is_what_programs_write_that_do_not_know(tmp_path, labels):
    write_labels(tmp_path / "one.mrc", labels, 1.0)
    assert read_labels(tmp_path / "one.mrc")[1] is None


def test_masks_are_above_zero_and_of_their_tomogram(tmp_path, labels):
    soft = 0.3 * (labels > 0).astype(np.float32)
    write_mrc(tmp_path / "TS_01.mrc", soft, 8.0)
    for mask in (tmp_path, tmp_path / "TS_01.mrc"):
        assert (read_mask(mask, "TS_01", labels.shape) == (labels > 0)).all()
    with pytest.raises(InputError, match="does not exist"):
        read_mask(tmp_path, "TS_02", labels.shape)
    with pytest.raises(ShapeError, match="expected the same"):
        read_mask(tmp_path, "TS_01", (3, 4, 5))
