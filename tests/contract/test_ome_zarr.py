"""OME-Zarr: metadata by the specification, pyramid by arithmetic, pieces by another decoder; damage and full disks."""

import errno
import json
import os
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from eucentric.errors import BackendError, FormatError, InputError, ProcessingError, ShapeError
from eucentric.io import (
    OmeZarrSlabWriter,
    read_ome_zarr,
    read_ome_zarr_header,
    validate_ome_zarr,
    write_ome_zarr,
)


def ramps(shape):
    """Linear along every axis with its own slope: a mean of neighbours is the value at the mean place."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return (z * 40.0 + y * 7.0 + x).astype("f4")


def slabwise(path, array, sizes, *rest, **options):
    with OmeZarrSlabWriter(path, array.shape, *rest, **options) as writer:
        start = 0
        for size in sizes:
            writer.write(array[start : start + size])
            start += size


def metadata(path):
    return json.loads((Path(path) / "zarr.json").read_text())


def shard_by_hand(folder, index, per_axis, chunk, dtype):
    """Chunks of one shard by the text of the Zarr 3 specification: index of (offset, length) and checksum at the end."""
    raw = (folder / "c" / "/".join(map(str, index))).read_bytes()
    count = int(np.prod(per_axis))
    table = np.frombuffer(raw[-16 * count - 4 : -4], "<u8").reshape(*per_axis, 2)
    out = np.zeros(np.multiply(per_axis, chunk), dtype)
    for place in np.ndindex(*per_axis):
        start, length = (int(v) for v in table[place])
        if start == 2**64 - 1:  # beyond the end of the array
            continue
        values = imagecodecs.blosc_decode(raw[start : start + length - 4])  # a checksum of 4 bytes ends each chunk
        corner = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunk, strict=True))
        out[corner] = np.frombuffer(values, dtype).reshape(chunk)
    return out


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "<f4"), ("float16", "<f2")])
def test_pieces_are_what_the_zarr_specification_says(tmp_path, dtype, kind):
    array = np.random.default_rng(4).normal(size=(7, 20, 11)).astype("f4")
    write_ome_zarr(tmp_path / "a.zarr", array, 2.0, dtype, chunk=4)
    # 4 chunks of 4 share a file along y, 3 chunks of 4 along x.
    got = np.block(
        [
            [[shard_by_hand(tmp_path / "a.zarr" / "0", (z, y, 0), (1, 4, 3), (4, 4, 4), kind)] for y in range(2)]
            for z in range(2)
        ]
    )
    np.testing.assert_array_equal(got[:7, :20, :11], array.astype(kind))


def test_metadata_are_those_of_ome_zarr_0_5(tmp_path):
    write_ome_zarr(tmp_path / "cell.ome.zarr", ramps((9, 20, 35)), (1.5, 2.0, 3.0), labels=["CTF corrected"], chunk=8)
    attributes = metadata(tmp_path / "cell.ome.zarr")["attributes"]
    assert attributes["ome"]["version"] == "0.5"
    (image,) = attributes["ome"]["multiscales"]
    assert image["name"] == "cell"
    assert image["type"] == "mean"
    assert image["axes"] == [{"name": n, "type": "space", "unit": "angstrom"} for n in "zyx"]
    assert [d["path"] for d in image["datasets"]] == ["0", "1", "2", "3"]
    for level, dataset in enumerate(image["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [3.0 * 2**level, 2.0 * 2**level, 1.5 * 2**level]}
        # Voxel 0 of a level covers 2**level fine voxels from 0: its centre is at their mean place.
        middle = float(np.mean(np.arange(2**level)))
        assert translation == {"type": "translation", "translation": [3.0 * middle, 2.0 * middle, 1.5 * middle]}
        array = metadata(tmp_path / "cell.ome.zarr" / dataset["path"])
        assert array["dimension_names"] == ["z", "y", "x"]
        assert array["node_type"] == "array"
        assert array["zarr_format"] == 3
    header = read_ome_zarr_header(tmp_path / "cell.ome.zarr", 1)
    assert header.voxel_size_angstrom == (3.0, 4.0, 6.0)
    assert header.first_voxel_angstrom == (0.75, 1.0, 1.5)
    assert header.level_shapes == ((9, 20, 35), (5, 10, 18), (3, 5, 9), (2, 3, 5))
    assert header.labels == ("CTF corrected",)
    assert validate_ome_zarr(tmp_path / "cell.ome.zarr") == []


@pytest.mark.parametrize(
    ("shape", "slab"), [((16, 32, 24), 100), ((7, 33, 18), 3), ((1, 20, 9), 1), ((34, 1, 5), 5), ((9, 8, 17), 1)]
)
def test_every_level_shows_the_same_place_of_the_specimen(tmp_path, shape, slab):
    array = ramps(shape)
    counts = [min(slab, shape[0] - start) for start in range(0, shape[0], slab)]
    slabwise(tmp_path / "a.zarr", array, counts, (2.0, 3.0, 5.0), chunk=8)
    np.testing.assert_array_equal(read_ome_zarr(tmp_path / "a.zarr")[0], array)
    levels = len(read_ome_zarr_header(tmp_path / "a.zarr").level_shapes)
    assert levels == 1 + int(np.ceil(np.log2(max(shape) / 8)))
    for level in range(1, levels):
        got, header = read_ome_zarr(tmp_path / "a.zarr", level)
        assert got.shape == tuple(-(-n // 2**level) for n in shape)
        # The value at the place that the metadata give for each voxel lying wholly in the volume.
        whole = [max(n // 2**level, 1 if n == 1 else 0) for n in shape]
        places = [
            (first + size * np.arange(n)) / voxel
            for first, size, voxel, n in zip(
                header.first_voxel_angstrom[::-1], header.voxel_size_angstrom[::-1], (5.0, 3.0, 2.0), whole, strict=True
            )
        ]
        z, y, x = np.meshgrid(*places, indexing="ij")
        np.testing.assert_allclose(got[: whole[0], : whole[1], : whole[2]], z * 40 + y * 7 + x, rtol=1e-6)


def test_an_odd_end_is_the_mean_of_what_is_there(tmp_path):
    array = np.random.default_rng(3).normal(size=(5, 9, 3)).astype("f4")
    write_ome_zarr(tmp_path / "a.zarr", array, 1.0, chunk=4)
    got, _ = read_ome_zarr(tmp_path / "a.zarr", 1)
    for place in np.ndindex(got.shape):
        cell = array[tuple(slice(2 * i, 2 * i + 2) for i in place)]
        assert got[place] == pytest.approx(float(cell.mean()), abs=1e-6)


def test_slabs_of_any_thickness_give_the_same_files(tmp_path):
    array = np.random.default_rng(5).normal(size=(23, 12, 10)).astype("f4")
    write_ome_zarr(tmp_path / "whole.zarr", array, 1.0, "int8", limits=(-2.0, 2.0), chunk=4)
    slabwise(tmp_path / "slabs.zarr", array, [1, 4, 2, 9, 7], 1.0, "int8", limits=(-2.0, 2.0), chunk=4)
    names = sorted(p.relative_to(tmp_path / "whole.zarr") for p in (tmp_path / "whole.zarr").rglob("*") if p.is_file())
    assert len(names) == 17  # 6 + 3 + 2 + 1 layers of pieces, 4 + 1 descriptions
    for name in names:
        if name != Path("zarr.json"):
            assert (tmp_path / "whole.zarr" / name).read_bytes() == (tmp_path / "slabs.zarr" / name).read_bytes()


def test_int8_gives_true_values_back_and_counts_what_was_clipped(tmp_path):
    array = np.random.default_rng(6).normal(10.0, 2.0, (6, 20, 20)).astype("f4")
    write_ome_zarr(tmp_path / "a.zarr", array, 1.0, "int8", limits=(5.0, 14.0), chunk=8)
    got, header = read_ome_zarr(tmp_path / "a.zarr")
    step = 9.0 / 254
    np.testing.assert_allclose(got, np.clip(array, 5.0, 14.0), atol=step / 2 * 1.001)
    outside = np.count_nonzero((array < 5.0 - step / 2) | (array > 14.0 + step / 2))
    assert header.clipped == outside > 0
    assert header.dtype == np.int8
    stored, _ = read_ome_zarr(tmp_path / "a.zarr", as_stored=True)
    assert stored.dtype == np.int8
    assert (stored.min(), stored.max()) == (-127, 127)
    np.testing.assert_allclose(stored * np.float32(header.scale) + np.float32(header.offset), got, rtol=1e-6)
    # The mean of eight true values, rounded once; clipping of single values does not enter.
    coarse, _ = read_ome_zarr(tmp_path / "a.zarr", 1)
    means = array.reshape(3, 2, 10, 2, 10, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse, np.clip(means, 5.0, 14.0), atol=step / 2 * 1.001)


@pytest.mark.parametrize("factor", [1e7, 1.0, 1e-9])
def test_float16_keeps_its_precision_outside_its_range_by_a_recorded_scale(tmp_path, factor):
    array = np.random.default_rng(2).normal(0.0, 1.0, (11, 9, 10)).astype("f4") * np.float32(factor)
    array[:5] *= np.float32(1e-4)
    array[5, 3, 3] = 3e5 * factor  # the scale must be raised after planes were written and others wait
    slabwise(tmp_path / "a.zarr", array, [3, 2, 3, 3], 1.0, "float16", chunk=4)
    got, header = read_ome_zarr(tmp_path / "a.zarr")
    np.testing.assert_allclose(got, array, rtol=2**-10, atol=2**-23 * header.scale)
    assert float(np.abs(array).max()) / header.scale <= 65504
    coarse, header = read_ome_zarr(tmp_path / "a.zarr", 1)
    padded = np.pad(array, ((0, 1), (0, 1), (0, 0)), mode="edge")
    means = padded.reshape(6, 2, 5, 2, 5, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse, means, rtol=2**-10, atol=2**-22 * header.scale + 1e-6 * factor)


def test_a_volume_of_zeros_and_one_smaller_than_a_chunk(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", np.zeros((3, 4, 5), "f4"), 1.0, "float16")
    got, header = read_ome_zarr(tmp_path / "a.zarr")
    assert not got.any()
    assert header.level_shapes == ((3, 4, 5),)
    assert validate_ome_zarr(tmp_path / "a.zarr") == []


def test_nothing_appears_before_the_image_is_complete(tmp_path):
    path = tmp_path / "deep" / "a.zarr"
    write_ome_zarr(path, ramps((2, 3, 4)), 1.0)

    def write_a_part():
        with OmeZarrSlabWriter(path, (3, 2, 2), 1.0) as writer:
            writer.write(np.zeros((1, 2, 2)))
            np.testing.assert_array_equal(read_ome_zarr(path)[0], ramps((2, 3, 4)))

    with pytest.raises(ShapeError, match="after 1 of 3"):
        write_a_part()
    np.testing.assert_array_equal(read_ome_zarr(path)[0], ramps((2, 3, 4)))
    assert list(path.parent.iterdir()) == [path]
    write_ome_zarr(path, ramps((4, 3, 2)), 1.0)
    assert read_ome_zarr_header(path).shape == (4, 3, 2)
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), OmeZarrSlabWriter(tmp_path / "a.zarr", (3, 2, 2), 1.0):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="other files"):
        write_ome_zarr(tmp_path / "a.zarr", ramps((2, 2, 2)), 1.0)
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "x"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("after", [0, 9])
def test_a_full_disk_is_told_in_words_and_leaves_nothing(tmp_path, monkeypatch, after):
    calls = []
    real = LocalStore.set

    async def fail(self, key, value, *rest, **options):
        calls.append(key)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await real(self, key, value, *rest, **options)

    monkeypatch.setattr(LocalStore, "set", fail)
    with pytest.raises(BackendError, match="full"):
        write_ome_zarr(tmp_path / "a.zarr", ramps((20, 20, 20)), 1.0, chunk=4)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_none_can_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_ome_zarr(tmp_path / "file" / "a.zarr", ramps((2, 2, 2)), 1.0)
    with pytest.raises(InputError, match="cannot be written"):
        write_ome_zarr(tmp_path / "file", ramps((2, 2, 2)), 1.0)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dtype": "int8"}, InputError, "needs limits"),
        ({"dtype": "float16", "limits": (0, 1)}, InputError, "belong to int8"),
        ({"dtype": "int8", "limits": (1, 1)}, InputError, "lower one first"),
        ({"dtype": "int16"}, InputError, "int16"),
        ({"chunk": 1}, InputError, "Chunks"),
        ({"voxel_size_angstrom": -1.0}, InputError, "voxel size"),
        ({"shape": (0, 2, 2)}, ShapeError, "positive sizes"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, options, error, words):
    given = {"shape": (2, 2, 2), "voxel_size_angstrom": 1.0} | options
    with pytest.raises(error, match=words):
        OmeZarrSlabWriter(tmp_path / "a.zarr", **given)


def test_wrong_slabs_and_values_are_refused(tmp_path):
    with pytest.raises(ShapeError), OmeZarrSlabWriter(tmp_path / "a.zarr", (3, 2, 2), 1.0) as writer:
        writer.write(np.zeros((4, 2, 2)))
    with pytest.raises(ShapeError), OmeZarrSlabWriter(tmp_path / "a.zarr", (3, 2, 2), 1.0) as writer:
        writer.write(np.zeros((1, 2, 3)))
    with pytest.raises(ProcessingError, match="1 values"):
        write_ome_zarr(tmp_path / "a.zarr", np.array([[[1.0, np.nan]]]), 1.0)
    with pytest.raises(ShapeError):
        write_ome_zarr(tmp_path / "a.zarr", np.zeros((2, 2)), 1.0)
    assert list(tmp_path.iterdir()) == []


def written(tmp_path):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, np.random.default_rng(0).normal(size=(8, 16, 16)).astype("f4"), 2.0, chunk=4)
    return path


@pytest.mark.parametrize("damage", ["short", "bytes", "lost"])
def test_damage_is_found(tmp_path, damage):
    path = written(tmp_path)
    piece = path / "0" / "c" / "1" / "0" / "0"
    raw = piece.read_bytes()
    if damage == "short":
        piece.write_bytes(raw[:-40])
    elif damage == "bytes":
        piece.write_bytes(raw[:300] + bytes(20) + raw[320:])
    else:
        piece.unlink()
    with pytest.raises(FormatError, match="lacks 1" if damage == "lost" else "damaged"):
        read_ome_zarr(path)
    assert [f.severity for f in validate_ome_zarr(path)][:1] == ["error"]
    read_ome_zarr(path, 1)


def test_what_is_not_an_image_is_refused_in_words(tmp_path):
    path = written(tmp_path)
    with pytest.raises(InputError, match="levels 0 to 2"):
        read_ome_zarr(path, 3)
    with pytest.raises(InputError, match="does not exist"):
        read_ome_zarr(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="is a file"):
        read_ome_zarr(path / "zarr.json")
    for place in (path / "0", path / "0" / "c"):
        with pytest.raises(FormatError, match="not an OME-Zarr image"):
            read_ome_zarr(place)
    (path / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="not an OME-Zarr image"):
        read_ome_zarr(path)
    assert [f.severity for f in validate_ome_zarr(path)] == ["error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image["axes"].reverse(), "axes"),
        (lambda image: image["datasets"][0].update(path="7"), "7"),
        (lambda image: image["datasets"][0].update(coordinateTransformations=[{"type": "affine"}]), "affine"),
        (lambda image: image.pop("axes"), "axes"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, change, words):
    path = written(tmp_path)
    content = metadata(path)
    change(content["attributes"]["ome"]["multiscales"][0])
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=words):
        read_ome_zarr(path)


def test_images_of_other_programs(tmp_path):
    """Version 0.4 with Zarr 2 and nanometres, a transformation of the whole image, absent chunks of zeros."""
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    array = group.create_array("s0", shape=(4, 6, 8), chunks=(2, 3, 4), dtype="<i2")
    array[2:] = ramps((2, 6, 8))
    steps = [{"type": "scale", "scale": [1.0, 2.0, 3.0]}, {"type": "translation", "translation": [10.0, 20.0, 30.0]}]
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [{"path": "s0", "coordinateTransformations": steps}],
            "coordinateTransformations": [{"type": "scale", "scale": [0.1, 0.1, 0.1]}],
        }
    ]
    got, header = read_ome_zarr(tmp_path / "b.zarr")
    np.testing.assert_array_equal(got[2:], ramps((2, 6, 8)))
    assert not got[:2].any()
    assert header.voxel_size_angstrom == pytest.approx((3.0, 2.0, 1.0))
    assert header.first_voxel_angstrom == pytest.approx((30.0, 20.0, 10.0))
    assert header.version == "0.4"
    assert validate_ome_zarr(tmp_path / "b.zarr") == []
    shutil.rmtree(tmp_path / "b.zarr" / "s0")
    with pytest.raises(FormatError, match="s0"):
        read_ome_zarr(tmp_path / "b.zarr")


def test_odd_images_are_reported(tmp_path):
    path = written(tmp_path)
    content = metadata(path)
    image = content["attributes"]["ome"]["multiscales"][0]
    for axis in image["axes"]:
        del axis["unit"]
    image["datasets"].reverse()
    content["attributes"]["ome"]["version"] = "9"
    (path / "zarr.json").write_text(json.dumps(content))
    level = metadata(path / "2")
    del level["dimension_names"]
    (path / "2" / "zarr.json").write_text(json.dumps(level))
    texts = " ".join(f.text for f in validate_ome_zarr(path))
    for words in ("version `9`", "no unit of length", "ever coarser", "does not name its dimensions"):
        assert words in texts
    assert read_ome_zarr_header(path).voxel_size_angstrom is None
