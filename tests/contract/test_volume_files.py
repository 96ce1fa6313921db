"""Volumes from every format to every other: the same voxels at the same places, sizes and origins kept or the loss told."""

import subprocess
import sys

import emfile
import mrcfile
import numpy as np
import pytest
import tifffile
from mrcfile.dtypes import HEADER_DTYPE

from eucentric.errors import EucentricError, FormatError, InputError, ProcessingError
from eucentric.io.mrc import MrcSlabWriter, read_mrc, write_mrc
from eucentric.io.ome_zarr import read_ome_zarr
from eucentric.io.tiff import read_tiff_layout
from eucentric.io.volumes import is_volume_file, open_volume, read_volume, volume_format, write_volume
from eucentric.pipeline.convert_volume import convert_volume

SHAPE = (7, 6, 5)
VOXEL = (4.0, 4.0, 4.0)
ORIGIN = (-30.0, 12.5, 8.0)
WRITTEN = ("a.mrc", "a.rec", "a.map", "a.em", "a.zarr", "a.tif", "a.hdf", "a.am")


def scene(dtype=np.float32):
    """Different along every axis and in every voxel, so that no turned or mirrored one passes."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return (z * 31 + y * 5 + x).astype(dtype)


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("source", WRITTEN)
def test_every_pair_of_formats_keeps_voxels_and_tells_what_it_loses(tmp_path, source, target):
    (tmp_path / "in").mkdir()
    one, two = tmp_path / "in" / source, tmp_path / target
    write_volume(one, scene(), VOXEL, origin_angstrom=ORIGIN)
    done = convert_volume(one, two, voxel_size_angstrom=4.0 if source == "a.em" else None)
    array, info = read_volume(two)
    np.testing.assert_array_equal(array, scene())
    assert info.shape == SHAPE
    if target == "a.em":
        assert info.voxel_size_angstrom is None
        assert any("4 A was lost" in note for note in done.notes)
    else:
        assert info.voxel_size_angstrom == pytest.approx(VOXEL)
    had_origin = source not in ("a.em", "a.tif")
    if target in ("a.em", "a.tif"):
        assert any("origin" in note for note in done.notes) is had_origin
    else:
        assert info.origin_angstrom == pytest.approx(ORIGIN if had_origin else (0, 0, 0))


def test_what_independent_readers_see(tmp_path):
    """Rows, sections and sizes in the libraries of other people."""
    write_mrc(tmp_path / "a.mrc", scene(), 4.0, origin_angstrom=ORIGIN)
    for name in ("b.tif", "b.em", "b.mrc"):
        convert_volume(tmp_path / "a.mrc", tmp_path / name)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), scene())
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.imagej_metadata["unit"] == "nm"
        assert tif.imagej_metadata["spacing"] == pytest.approx(0.4)
        pixels, per_nm = tif.pages.first.tags["XResolution"].value
        assert per_nm / pixels == pytest.approx(0.4)
    np.testing.assert_array_equal(emfile.read(tmp_path / "b.em")[1], scene())
    with mrcfile.open(tmp_path / "b.mrc") as other:
        np.testing.assert_array_equal(other.data, scene())
        assert [float(other.header.origin[a]) for a in "xyz"] == list(ORIGIN)


@pytest.mark.parametrize(("mode", "kind"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
@pytest.mark.parametrize("target", ["b.mrc", "b.zarr", "b.tif"])
def test_every_mode_of_mrc_keeps_its_values_exactly(tmp_path, mode, kind, target):
    values = scene(kind) if mode != 6 else scene("u2") + np.uint16(60000)
    if mode == 0:
        values = (scene() % 256 - 128).astype("i1")  # -128 too, which the bytes of this project leave out
    with mrcfile.new(tmp_path / "a.mrc", data=values) as file:
        file.voxel_size = 3.0
    done = convert_volume(tmp_path / "a.mrc", tmp_path / target)
    got, info = read_volume(tmp_path / target)
    np.testing.assert_array_equal(got.astype(np.float64), values.astype(np.float64))
    assert info.voxel_size_angstrom == pytest.approx((3.0, 3.0, 3.0))
    if target == "b.mrc":
        assert done.dtype == {0: "int16", 1: "int16", 2: "float32", 6: "float32", 12: "float16"}[mode]


@pytest.mark.parametrize("target", ["b.mrc", "b.zarr"])
def test_scaled_bytes_stay_the_same_bytes(tmp_path, target):
    rng = np.random.default_rng(0)
    write_mrc(tmp_path / "a.mrc", rng.normal(1e5, 300, SHAPE), 4.0, "int8", limits=(99000.0, 101000.0))
    before, header = read_mrc(tmp_path / "a.mrc", as_stored=True)
    done = convert_volume(tmp_path / "a.mrc", tmp_path / target)
    assert done.dtype == "int8"
    after, info = read_volume(tmp_path / target, as_stored=True)
    np.testing.assert_array_equal(after, before)
    assert info.scale == pytest.approx(header.scale, rel=1e-6)
    assert info.offset == pytest.approx(header.offset, rel=1e-6)


@pytest.mark.parametrize("target", ["b.mrc", "b.zarr"])
def test_int8_on_request_reaches_four_deviations_and_float16_rounds(tmp_path, target):
    values = np.random.default_rng(0).normal(10.0, 2.0, (20, 30, 30)).astype(np.float32)
    values[0, 0, 0] = 1e4  # a hot voxel must not take the range
    write_mrc(tmp_path / "a.mrc", values, 4.0)
    convert_volume(tmp_path / "a.mrc", tmp_path / target, dtype="int8")
    got, _ = read_volume(tmp_path / target)
    reach = values.mean(dtype="f8") + 4 * values.std(dtype="f8")
    keep = values < reach
    assert not keep.all()
    step = (reach - values.min()) / 254
    np.testing.assert_allclose(got[keep], values[keep], atol=0.51 * step)
    convert_volume(tmp_path / "a.mrc", tmp_path / target, dtype="float16")
    got, _ = read_volume(tmp_path / target)
    np.testing.assert_allclose(got, values, rtol=2**-11)


def test_labels_of_ome_zarr_become_whole_numbers_and_back(tmp_path):
    numbers = (scene() % 5).astype(np.uint8)
    write_volume(tmp_path / "a.zarr", numbers, 4.0, is_labels=True)
    convert_volume(tmp_path / "a.zarr", tmp_path / "b.mrc")
    got, header = read_mrc(tmp_path / "b.mrc")
    np.testing.assert_array_equal(got, numbers)
    assert header.mode == 1
    for name in ("c.am", "c.tif"):
        convert_volume(tmp_path / "a.zarr", tmp_path / name)
        got, info = read_volume(tmp_path / name)
        np.testing.assert_array_equal(got, numbers)
        assert got.dtype.kind == "u"
        assert info.is_labels is (name == "c.am")


@pytest.mark.parametrize("kind", ["float16", "int8", "uint8", "uint16", "float32"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "zlib"}, {"compression": "lzw"}])
def test_tiff_volumes_of_any_kind_are_read(tmp_path, kind, options):
    values = (scene() % 100).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **options)
    got, info = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(got, values)
    assert info.voxel_size_angstrom is None


def test_a_stack_of_imagej_with_one_header_has_all_its_sections(tmp_path):
    """ImageJ writes stacks past 4 GB so, and tifffile small ones too where they lie in one piece."""
    tifffile.imwrite(tmp_path / "a.tif", scene(), imagej=True, metadata={"axes": "ZYX", "unit": "angstrom", "spacing": 3.5},
                     resolution=(0.5, 0.5))  # fmt: skip
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages[0]
        end = page.offset + 2 + 12 * len(page.tags)
    raw[end : end + 4] = bytes(4)  # no further page
    (tmp_path / "b.tif").write_bytes(bytes(raw))
    assert read_tiff_layout(tmp_path / "b.tif").page_count == 1
    for name in ("a.tif", "b.tif"):
        got, info = read_volume(tmp_path / name)
        np.testing.assert_array_equal(got, scene())
        assert info.voxel_size_angstrom == pytest.approx((2.0, 2.0, 3.5))


def test_several_channels_are_no_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 3, 6, 5), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(FormatError, match="3 C"):
        read_volume(tmp_path / "a.tif")


def raw_mrc(values, **changes):
    header = np.zeros((), dtype=HEADER_DTYPE)
    nz, ny, nx = values.shape
    numbers = {"nx": nx, "ny": ny, "nz": nz, "mode": 2, "mx": nx, "my": ny, "mz": nz, "mapc": 1, "mapr": 2, "maps": 3}
    for name, value in numbers.items():
        header[name] = value
    header["cella"], header["map"], header["machst"] = (nx * 2.0, ny * 2.0, nz * 2.0), b"MAP ", (68, 68, 0, 0)
    for name, value in changes.items():
        header[name] = value
    return bytearray(header.tobytes()) + values.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("changes", "flags", "expected"),
    [
        ({"origin": (10, 20, 30)}, None, (10, 20, 30)),
        ({"origin": (10, 20, 30)}, 0, (-10, -20, -30)),  # IMOD before MRC2014 wrote the other sign
        ({"origin": (10, 20, 30)}, 4, (10, 20, 30)),
        ({"origin": (10, 20, 30), "nversion": 20140}, 0, (10, 20, 30)),
        ({"nxstart": -3, "nystart": 2, "nzstart": 5}, None, (-6, 4, 10)),
        ({"nxstart": -3, "origin": (1, 0, 0)}, None, (1, 0, 0)),
        ({"origin": (np.nan, 0, 0)}, None, (0, 0, 0)),
    ],
)
def test_the_origin_has_the_sign_of_mrc2014(tmp_path, changes, flags, expected):
    raw = raw_mrc(scene(), **changes)
    if flags is not None:
        raw[152:160] = np.array([1146047817, flags], "<i4").tobytes()
    (tmp_path / "a.mrc").write_bytes(raw)
    assert read_volume(tmp_path / "a.mrc")[1].origin_angstrom == expected
    convert_volume(tmp_path / "a.mrc", tmp_path / "b.zarr")
    assert read_ome_zarr(tmp_path / "b.zarr")[1].first_voxel_angstrom == pytest.approx(expected)


def test_stacks_stay_stacks_and_turned_axes_and_packed_files_are_read(tmp_path):
    write_mrc(tmp_path / "a.st", scene(), 4.0, is_volume=False)
    convert_volume(tmp_path / "a.st", tmp_path / "b.mrc")
    assert not read_mrc(tmp_path / "b.mrc")[1].is_volume
    write_mrc(tmp_path / "v.mrc", scene(), 4.0)
    convert_volume(tmp_path / "v.mrc", tmp_path / "v.st")
    assert not read_mrc(tmp_path / "v.st")[1].is_volume
    turned = np.ascontiguousarray(scene().transpose(2, 1, 0))
    (tmp_path / "t.mrc").write_bytes(raw_mrc(turned, mapc=3, mapr=2, maps=1))
    convert_volume(tmp_path / "t.mrc", tmp_path / "u.mrc")
    np.testing.assert_array_equal(read_mrc(tmp_path / "u.mrc")[0], scene())


def test_slabs_are_what_the_whole_is(tmp_path):
    write_mrc(tmp_path / "a.mrc", scene(), 4.0, "int8")
    convert_volume(tmp_path / "a.mrc", tmp_path / "a.zarr")
    for name in ("a.mrc", "a.zarr"):
        volume = open_volume(tmp_path / name)
        parts = [volume.read_stored(i, min(i + 2, 7)) for i in range(0, 7, 2)]
        np.testing.assert_array_equal(np.concatenate(parts), read_volume(tmp_path / name, as_stored=True)[0])


def test_what_cannot_be_is_refused_in_words(tmp_path):
    write_mrc(tmp_path / "a.mrc", scene(), 4.0)
    write_volume(tmp_path / "a.em", scene(), 4.0)
    for source, target, options, words in (
        ("none.mrc", "b.mrc", {}, "does not exist"),
        ("a.mrc", "a.mrc", {}, "source itself"),
        ("a.mrc", "b.dm4", {}, "only read"),
        ("a.mrc", "b.mrc.gz", {}, "only read"),
        ("a.mrc", "b.xyz", {}, "no volume that is known"),
        ("a.mrc", "b.em", {"dtype": "int8"}, "cannot hold int8"),
        ("a.mrc", "b.mrc", {"dtype": "float64"}, "cannot hold float64"),
        ("a.mrc", "b.mrc", {"dtype": "float32", "limits": (0.0, 1.0)}, "belong to int8"),
        ("a.em", "b.mrc", {}, "voxel size"),
        ("a.mrc", "b.mrc", {"voxel_size_angstrom": -1.0}, "voxel size"),
    ):
        with pytest.raises(EucentricError, match=words):
            convert_volume(tmp_path / source, tmp_path / target, **options)
    broken = scene()
    broken[3, 2, 1] = np.nan
    (tmp_path / "n.mrc").write_bytes(raw_mrc(broken))
    for name in ("b.mrc", "b.zarr"):
        for dtype in (None, "int8"):
            with pytest.raises(ProcessingError, match="not numbers"):
                convert_volume(tmp_path / "n.mrc", tmp_path / name, dtype=dtype)
            assert not (tmp_path / name).exists()
    with pytest.raises(InputError, match="whole numbers"):
        write_volume(tmp_path / "l.zarr", scene() + 0.5, 4.0, is_labels=True)


def test_volumes_are_known_by_their_names(tmp_path):
    assert volume_format("A.MRC.gz") == "mrc"
    assert volume_format("x.ome.zarr") == "zarr"
    assert not is_volume_file(tmp_path / "none.mrc")
    assert not is_volume_file(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    assert not is_volume_file(tmp_path / "a.txt")
    write_volume(tmp_path / "z.zarr", scene(), 4.0)
    assert is_volume_file(tmp_path / "z.zarr")
    (tmp_path / "z.zarr").rename(tmp_path / "plain")
    assert is_volume_file(tmp_path / "plain")
    np.testing.assert_array_equal(read_volume(tmp_path / "plain")[0], scene())


@pytest.mark.slow
def test_a_large_volume_passes_through_little_memory(tmp_path):
    """4 times as many sections need no more: what is held is counted in planes."""
    script = (
        "import resource, sys, torch, zarr\n"
        "from eucentric.pipeline.convert_volume import convert_volume\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "convert_volume(sys.argv[1], sys.argv[2], dtype=sys.argv[3])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024)\n"
    )
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(1, 1024, 1024)).astype(np.float32)
    with MrcSlabWriter(tmp_path / "a.mrc", (192, 1024, 1024), 4.0) as writer:
        for _ in range(192):
            writer.write(plane)
    for target, dtype in (("b.mrc", "float32"), ("b.mrc", "int8"), ("b.zarr", "float16")):
        command = [sys.executable, "-c", script, str(tmp_path / "a.mrc"), str(tmp_path / target), dtype]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert float(done.stdout) < 500.0
