"""MRC: every mode, both byte orders, odd headers, damage; writing against an independent reader."""

import bz2
import errno
import gzip
import io
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from eucentric.errors import BackendError, FormatError, InputError, ProcessingError, ShapeError
from eucentric.io import MrcSlabWriter, read_mrc, read_mrc_header, remove_partial_files, validate_mrc, write_mrc
from eucentric.io import atomic as atomic_module

TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def scene(shape, dtype="f4"):
    """Different along every axis, so that a transposed or flipped reading cannot pass."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return (z * 31 + y * 7 + x).astype(dtype)


def handmade(array, mode, order="<", **changes):
    """An MRC file from the format's description, byte by byte."""
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder(order))
    nz, ny, nx = array.shape
    numbers = {
        "nx": nx,
        "ny": ny,
        "nz": nz,
        "mode": mode,
        "mx": nx,
        "my": ny,
        "mz": nz,
        "mapc": 1,
        "mapr": 2,
        "maps": 3,
    }
    for name, value in numbers.items():
        header[name] = value
    header["cella"] = (nx * 2.0, ny * 2.0, nz * 2.0)
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    for name, value in changes.items():
        header[name] = value
    return header.tobytes()


@pytest.mark.parametrize("mode", sorted(TYPES))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 4), (3, 1, 2)])
def test_every_mode_and_byte_order_is_read(tmp_path, mode, order, shape):
    array = scene(shape, TYPES[mode])
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(array, mode, order) + array.astype(order + TYPES[mode]).tobytes())
    got, header = read_mrc(path)
    np.testing.assert_array_equal(got, array)
    assert header.voxel_size_angstrom == (2.0, 2.0, 2.0)
    assert header.big_endian is (order == ">")
    assert header.findings == ()
    assert isinstance(got, np.memmap)


@pytest.mark.parametrize("columns", [4, 5])
def test_four_bit_rows_start_on_a_byte_and_the_left_pixel_is_in_the_low_half(tmp_path, columns):
    values = (np.arange(2 * 3 * columns).reshape(2, 3, columns) * 5 % 16).astype("u1")
    padded = np.pad(values, ((0, 0), (0, 0), (0, columns % 2)))
    packed = padded[..., 0::2] | padded[..., 1::2] << 4
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(values, 101) + packed.tobytes())
    np.testing.assert_array_equal(read_mrc(path)[0], values)


@pytest.mark.parametrize(("changes", "unsigned"), [({}, False), ({"dmin": 3, "dmax": 201.0}, True)])
def test_bytes_are_signed_unless_the_header_tells_otherwise(tmp_path, changes, unsigned):
    array = scene((1, 2, 3), "u1") + np.uint8(195)
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(array, 0, **changes) + array.tobytes())
    assert read_mrc(path)[0].max() == (int(array.max()) if unsigned else int(array.view("i1").max()))


@pytest.mark.parametrize(("flags", "unsigned"), [(0, True), (1, False)])
def test_the_stamp_of_imod_tells_the_sign_of_bytes(tmp_path, flags, unsigned):
    raw = bytearray(handmade(scene((1, 2, 3)), 0))
    raw[152:160] = np.array([1146047817, flags], dtype="<i4").tobytes()
    path = tmp_path / "a.mrc"
    path.write_bytes(bytes(raw) + np.full(6, 200, dtype="u1").tobytes())
    assert read_mrc(path)[0][0, 0, 0] == (200 if unsigned else -56)


def test_permuted_axes_are_turned_to_z_y_x(tmp_path):
    array = scene((2, 3, 5))
    stored = array.transpose(2, 1, 0)  # sections along x, rows along y, columns along z
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(stored, 2, mapc=3, mapr=2, maps=1) + np.ascontiguousarray(stored).tobytes())
    got, header = read_mrc(path)
    np.testing.assert_array_equal(got, array)
    assert header.shape == (2, 3, 5)
    rolled = np.ascontiguousarray(array.transpose(1, 2, 0))  # sections along y, rows along x, columns along z
    path.write_bytes(handmade(rolled, 2, mapc=3, mapr=1, maps=2) + rolled.tobytes())
    np.testing.assert_array_equal(read_mrc(path)[0], array)


@pytest.mark.parametrize(
    ("changes", "extra", "words"),
    [
        ({"map": b""}, b"", "MAP"),
        ({"nlabl": 7}, b"", "labels"),
        ({"mapc": 0, "mapr": 0, "maps": 0}, b"", "axes"),
        ({"cella": (0, 0, 0)}, b"", "pixel size"),
        ({"mx": 0, "my": 0}, b"", "pixel size"),
        ({"nsymbt": -5}, b"", "extended header"),
        ({}, bytes(7), "after its last voxel"),
    ],
)
def test_odd_headers_are_read_and_reported(tmp_path, changes, extra, words):
    array = scene((2, 3, 4))
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(array, 2, **changes) + array.tobytes() + extra)
    got, header = read_mrc(path)
    np.testing.assert_array_equal(got, array)
    assert [f for f in header.findings if words in f.text]
    assert validate_mrc(path) == list(header.findings)
    if words == "pixel size":
        assert header.voxel_size_angstrom is None
        assert header.pixel_size_angstrom is None


def test_an_extended_header_is_skipped(tmp_path):
    array = scene((2, 3, 4))
    path = tmp_path / "a.mrc"
    path.write_bytes(handmade(array, 2, nsymbt=160) + bytes(range(160)) + array.tobytes())
    np.testing.assert_array_equal(read_mrc(path)[0], array)


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_compressed_files_are_read(tmp_path, ending):
    array = scene((2, 3, 4))
    raw = handmade(array, 2) + array.tobytes()
    path = tmp_path / f"a.mrc{ending}"
    path.write_bytes(gzip.compress(raw) if ending == ".gz" else bz2.compress(raw))
    np.testing.assert_array_equal(read_mrc(path)[0], array)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"damaged|ends after"):
        read_mrc(path)


def test_a_truncated_file_says_after_which_section_with_both_byte_counts(tmp_path):
    array = scene((4, 10, 10))
    path = tmp_path / "a.mrc"
    path.write_bytes((handmade(array, 2) + array.tobytes())[: 1024 + 2 * 400 + 13])
    with pytest.raises(FormatError, match=r"after section 2 of 4 \(the file is 1,837 bytes; its header says 2,624\)"):
        read_mrc_header(path)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "header of 1,024"),
        (bytes(2000), "positive sizes"),
        (handmade(scene((1, 2, 2)), 9), "mode 9"),
        (handmade(scene((1, 2, 2)), 2, nx=-4), "-4"),
        (handmade(scene((1, 2, 2)), 4) + bytes(99), "complex"),
        (handmade(scene((1, 2, 2)), 2, nsymbt=10**8) + bytes(4), "extended header"),
    ],
)
def test_nonsense_is_refused_in_words(tmp_path, raw, words):
    path = tmp_path / "a.mrc"
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=words):
        read_mrc(path)
    assert [f.severity for f in validate_mrc(path)] == ["error"]


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_mrc(tmp_path / "none.mrc")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("is_volume", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 7, 2), (4, 5)])
def test_written_files_are_valid_for_an_independent_reader(tmp_path, dtype, is_volume, shape):
    array = np.random.default_rng(1).normal(3.0, 2.0, shape).astype(np.float32)
    path = tmp_path / "deep" / "a.mrc"
    write_mrc(path, array, (1.5, 1.5, 2.5), dtype, labels=["primary sum, not dose weighted"], is_volume=is_volume)
    stack = np.atleast_3d(array) if array.ndim == 3 else array[None]
    assert mrcfile.validate(path, print_file=io.StringIO())
    with mrcfile.open(path) as other:
        np.testing.assert_allclose(
            other.data.reshape(stack.shape), stack, rtol=0 if dtype == "float32" else 2**-11, atol=1e-7
        )
        # Statistics in single precision of values stored with 11 bits at least.
        assert float(other.header.dmean) == pytest.approx(float(array.mean()), abs=2e-3)
        assert float(other.header.rms) == pytest.approx(float(array.std()), abs=2e-3)
        assert float(other.header.dmin) == pytest.approx(float(array.min()), rel=2**-11)
        assert float(other.header.dmax) == pytest.approx(float(array.max()), rel=2**-11)
        assert float(other.voxel_size.x) == pytest.approx(1.5)
    got, header = read_mrc(path)
    assert header.voxel_size_angstrom == (1.5, 1.5, 2.5)
    assert header.is_volume is is_volume
    assert header.labels == ("Eucentric", "primary sum, not dose weighted")
    assert header.findings == ()
    assert not got.flags.writeable


@pytest.mark.parametrize("factor", [1e7, 1.0, 1e-9])
def test_float16_keeps_its_precision_outside_its_range_by_a_recorded_scale(tmp_path, factor):
    array = np.random.default_rng(2).normal(0.0, 1.0, (6, 5, 4)).astype(np.float32) * np.float32(factor)
    array[:2] *= np.float32(1e-3)  # the scale must be raised after sections were written
    path = tmp_path / "a.mrc"
    with MrcSlabWriter(path, (6, 5, 4), 1.0, "float16") as writer:
        for start in range(0, 6, 2):
            writer.write(array[start : start + 2])
    with mrcfile.open(path) as other:  # the statistics are those of the stored values
        stored = other.data.astype(np.float64)
        found = [float(other.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
        np.testing.assert_allclose(found, [stored.min(), stored.max(), stored.mean(), stored.std()], rtol=1e-6)
    got, header = read_mrc(path)
    # float16 rounds to 2**-11 of a value; far below the largest, to its smallest step at that scale.
    np.testing.assert_allclose(got, array, rtol=2**-11, atol=2**-24 * header.scale)
    assert header.scale == (1.0 if factor == 1.0 else header.scale)
    assert (header.scale != 1.0) is (factor != 1.0)
    assert float(np.abs(array).max()) / header.scale < 65504


def raw_header(path):
    """Words of the header by their numbers in the MRC2014 table, without any library."""
    raw = path.read_bytes()[:1024]
    whole, real = np.frombuffer(raw, "<i4"), np.frombuffer(raw, "<f4")
    return raw, lambda word: int(whole[word - 1]), lambda word: float(real[word - 1])


@pytest.mark.parametrize(("dtype", "mode"), [("float32", 2), ("float16", 12), ("int8", 0)])
@pytest.mark.parametrize("is_volume", [True, False])
def test_the_header_is_that_of_mrc2014(tmp_path, dtype, mode, is_volume):
    path = tmp_path / "a.mrc"
    # Small values: the checker of mrcfile adds squares of float16 in float16, which ends at 65504.
    write_mrc(path, scene((4, 3, 5)) / 64, (1.5, 2.0, 2.5), dtype, is_volume=is_volume)
    raw, whole, real = raw_header(path)
    assert [whole(n) for n in (1, 2, 3)] == [5, 3, 4]
    assert whole(4) == mode
    assert [whole(n) for n in (5, 6, 7)] == [0, 0, 0]
    depth = 4 if is_volume else 1
    assert [whole(n) for n in (8, 9, 10)] == [5, 3, depth]
    assert [real(n) for n in range(11, 17)] == [7.5, 6.0, 2.5 * depth, 90.0, 90.0, 90.0]
    assert [whole(n) for n in (17, 18, 19)] == [1, 2, 3]
    assert whole(23) == (1 if is_volume else 0)
    assert whole(24) == 0
    assert whole(28) == 20141
    assert [real(n) for n in (50, 51, 52)] == [0.0, 0.0, 0.0]
    assert raw[208:212] == b"MAP "
    assert raw[212:216] == bytes([0x44, 0x44, 0, 0])
    assert raw[152:156] != np.int32(1146047817).tobytes()  # no program's own mark
    stored = np.frombuffer(path.read_bytes()[1024:], {0: "i1", 2: "<f4", 12: "<f2"}[mode]).astype("f8")
    expected = [stored.min(), stored.max(), stored.mean(), stored.std()]
    np.testing.assert_allclose([real(n) for n in (20, 21, 22, 55)], expected, rtol=1e-6)
    assert whole(56) == (2 if dtype == "int8" else 1)
    assert mrcfile.validate(path, print_file=io.StringIO())


def test_int8_gives_true_values_back_and_says_how(tmp_path):
    array = np.random.default_rng(3).normal(100.0, 20.0, (6, 30, 20)).astype(np.float32)
    path = tmp_path / "a.mrc"
    with MrcSlabWriter(path, (6, 30, 20), 2.0, "int8", labels=["x"] * 12, limits=(60.0, 150.0)) as writer:
        writer.write(array[:4])
        writer.write(array[4:])
    step = 90.0 / 254
    with mrcfile.open(path) as other:
        assert other.data.dtype == np.int8
        assert (other.data.min(), other.data.max()) == (-127, 127)
        labels = [str(text) for text in other.get_labels()]
    # What the label says, read by hand.
    (said,) = [text for text in labels if "true value" in text]
    scale, offset = (float(v) for v in said.split("stored value * ")[1].split(" + "))
    assert scale == pytest.approx(step, rel=1e-8)
    assert offset == 105.0
    (clipped,) = [int(text.rsplit(": ")[-1]) for text in labels if "clipped" in text]
    assert clipped == np.count_nonzero((array < 60.0 - step / 2) | (array > 150.0 + step / 2)) > 0
    got, header = read_mrc(path)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.clip(array, 60.0, 150.0), atol=step / 2 * 1.001)
    assert (header.scale, header.offset) == (scale, offset)
    assert not header.unsigned_bytes
    stored, _ = read_mrc(path, as_stored=True)
    assert isinstance(stored, np.memmap)
    np.testing.assert_allclose(stored * np.float32(scale) + np.float32(offset), got, rtol=1e-6)


@pytest.mark.parametrize("low", [-5.0, 0.0, 7.0])
def test_int8_without_limits_covers_all_values(tmp_path, low):
    array = np.linspace(low, low + 12.0, 60, dtype=np.float32).reshape(3, 4, 5)
    write_mrc(tmp_path / "a.mrc", array, 1.0, "int8")
    got, header = read_mrc(tmp_path / "a.mrc")
    np.testing.assert_allclose(got, array, atol=6.0 / 127 / 2 * 1.001)
    assert len(header.labels) == 2
    write_mrc(tmp_path / "b.mrc", np.full((2, 2), low), 1.0, "int8")
    np.testing.assert_allclose(read_mrc(tmp_path / "b.mrc")[0], low, rtol=1e-6)
    # A copy in another type carries no trace of the bytes.
    write_mrc(tmp_path / "c.mrc", got, 1.0, labels=header.labels)
    np.testing.assert_array_equal(read_mrc(tmp_path / "c.mrc")[0], got)


@pytest.mark.parametrize(
    ("dtype", "limits", "words"),
    [
        ("int8", None, "needs limits"),
        ("int8", (2.0, 1.0), "lower one first"),
        ("int8", (0.0, float("nan")), "lower one first"),
        ("float32", (0.0, 1.0), "belong to int8"),
        ("int16", (0.0, 1.0), "int16"),
        ("int32", None, "int32"),
    ],
)
def test_number_types_and_limits_that_do_not_fit_are_refused(tmp_path, dtype, limits, words):
    with pytest.raises(InputError, match=words):
        MrcSlabWriter(tmp_path / "a.mrc", (2, 2, 2), 1.0, dtype, limits=limits)


def test_int16_holds_whole_numbers_as_they_are(tmp_path):
    array = np.array([[[0, 1, -32768], [32767, 300, -7]]], dtype=np.int32)
    write_mrc(tmp_path / "a.mrc", array, 4.0, "int16")
    with mrcfile.open(tmp_path / "a.mrc") as other:
        assert other.data.dtype == np.int16
        np.testing.assert_array_equal(other.data, array)
    got, header = read_mrc(tmp_path / "a.mrc", as_stored=True)
    assert header.mode == 1
    np.testing.assert_array_equal(got, array)
    for wrong in (0.5, 32768.0):
        with pytest.raises(ProcessingError, match="whole numbers"):
            write_mrc(tmp_path / "b.mrc", np.full((1, 2, 2), wrong), 4.0, "int16")
    assert not (tmp_path / "b.mrc").exists()


def test_slabs_give_the_same_bytes_as_the_whole(tmp_path):
    array = scene((5, 4, 3))
    write_mrc(tmp_path / "whole.mrc", array, 2.0)
    with MrcSlabWriter(tmp_path / "slabs.mrc", (5, 4, 3), 2.0) as writer:
        writer.write(array[:3])
        writer.write(array[3])
        writer.write(array[4:])
    assert (tmp_path / "whole.mrc").read_bytes() == (tmp_path / "slabs.mrc").read_bytes()


def test_nothing_appears_before_the_file_is_complete(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"old")

    def write_a_part():
        with MrcSlabWriter(path, (3, 2, 2), 1.0) as writer:
            writer.write(np.zeros((1, 2, 2)))
            assert path.read_bytes() == b"old"

    with pytest.raises(ShapeError, match="after 1 of 3"):
        write_a_part()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_values_that_are_not_numbers_are_refused(tmp_path):
    array = scene((2, 3, 4))
    array[1, 2, 3] = np.nan
    with pytest.raises(ProcessingError, match="1 values"):
        write_mrc(tmp_path / "a.mrc", array, 1.0)
    path = tmp_path / "b.mrc"
    path.write_bytes(handmade(array, 2) + array.tobytes())
    assert [f.severity for f in validate_mrc(path)] == ["error"]


@pytest.mark.parametrize("voxel", [0.0, -1.0, float("nan"), (1.0, 2.0)])
def test_a_voxel_size_that_is_none_is_refused(tmp_path, voxel):
    with pytest.raises(InputError, match="voxel size"):
        write_mrc(tmp_path / "a.mrc", np.zeros((2, 2)), voxel)


def test_wrong_slabs_are_refused(tmp_path):
    with pytest.raises(ShapeError), MrcSlabWriter(tmp_path / "a.mrc", (3, 2, 2), 1.0) as writer:
        writer.write(np.zeros((4, 2, 2)))
    with pytest.raises(ShapeError), MrcSlabWriter(tmp_path / "a.mrc", (3, 2, 2), 1.0) as writer:
        writer.write(np.zeros((1, 2, 3)))
    with pytest.raises(ShapeError):
        write_mrc(tmp_path / "a.mrc", np.zeros(5), 1.0)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, BackendError, "full"),
        (errno.EROFS, InputError, "cannot be written"),
        (errno.EACCES, InputError, "written"),
    ],
)
def test_a_failing_disk_is_told_in_words_and_leaves_nothing(tmp_path, monkeypatch, code, kind, words):
    def fail(path):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic_module, "_sync", fail)
    with pytest.raises(kind, match=words):
        write_mrc(tmp_path / "a.mrc", np.zeros((2, 2)), 1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_while_writing_slabs(tmp_path):
    def write_to_a_full_disk():
        with MrcSlabWriter(tmp_path / "a.mrc", (64, 64, 64), 1.0) as writer:
            writer._file.close()
            writer._file = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115
            writer.write(np.ones((64, 64, 64)))

    with pytest.raises(BackendError, match="full"):
        write_to_a_full_disk()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_a_file_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_mrc(tmp_path / "file" / "a.mrc", np.zeros((2, 2)), 1.0)


def test_what_a_killed_process_left_is_removed(tmp_path):
    context = atomic_module.atomic_path(tmp_path / "sub" / "a.mrc")
    context.__enter__().write_bytes(b"half")
    (tmp_path / "b.mrc").write_bytes(b"whole")
    assert remove_partial_files(tmp_path) == 1
    assert [p.name for p in tmp_path.rglob("*.mrc")] == ["b.mrc"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files, such as /proc")
@pytest.mark.parametrize("name", ["/proc/x.star", "/proc/folder/x.star"])
def test_a_folder_of_the_system_that_takes_no_files_is_told(name):
    with pytest.raises(InputError, match=r"takes no new files in the folder `/proc`.*--output"):
        atomic_module.write_text_atomic(name, "text")


def test_a_block_that_writes_nothing_stays_an_error_of_the_program(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_module.atomic_path(tmp_path / "a.star"):
        pass
