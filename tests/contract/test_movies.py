"""TIFF and MRC movies and gain references: row order, types, compression, damage, reading in parts."""

import bz2
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import movie_header, open_movie, read_gain, read_movie, write_mrc, write_tiff_movie
from eucentric.io.movies import MOVIE_ENDINGS, MRC_ENDINGS


def frames_of(dtype, count=4, shape=(6, 9)):
    return np.random.default_rng(3).integers(0, 200, (count, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_the_top_row_of_a_tiff_becomes_the_last_one(tmp_path, dtype, compression, bigtiff):
    stored = frames_of(dtype)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stored, compression=compression, bigtiff=bigtiff, photometric="minisblack", metadata=None)
    got, header = read_movie(path)
    np.testing.assert_array_equal(got, stored[:, ::-1])
    assert got.dtype == stored.dtype
    assert header == movie_header(path)
    assert (header.frame_count, header.shape, header.dtype) == (4, (6, 9), np.dtype(dtype))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_of_a_big_endian_file_and_of_single_writes(tmp_path, byteorder):
    stored = frames_of("u2", 3)
    path = tmp_path / "m.tiff"
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:
        for frame in stored:
            writer.write(frame, contiguous=False, rowsperstrip=2, metadata=None)
    np.testing.assert_array_equal(read_movie(path)[0], stored[:, ::-1])


@pytest.mark.parametrize("compression", ["zlib", "lzw", None])
def test_written_movies_are_stored_top_row_first(tmp_path, compression):
    frames = frames_of("u1", 3)
    write_tiff_movie(tmp_path / "m.tif", frames, compression=compression)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), frames[:, ::-1])
    np.testing.assert_array_equal(read_movie(tmp_path / "m.tif")[0], frames)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_truncated_movie_says_after_which_frame(tmp_path, metadata):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as writer:
        for frame in frames_of("u1", 4, (64, 64)):
            writer.write(frame, contiguous=False, metadata=metadata)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        offsets = [page.dataoffsets[0] for page in tif.pages]
    path.write_bytes(whole[: offsets[2] + 100])  # in the middle of frame 3
    for read in (movie_header, read_movie):
        with pytest.raises(FormatError, match=rf"ends after frame 2( of 4)? \(the file is {offsets[2] + 100:,} bytes"):
            read(path)
    path.write_bytes(whole[:6])
    with pytest.raises(FormatError, match=r"frame 0|not a TIFF"):
        movie_header(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.99])
def test_any_cut_through_a_written_movie_is_noticed(tmp_path, kept):
    path = tmp_path / "m.tif"
    write_tiff_movie(path, np.random.default_rng(1).integers(0, 255, (4, 64, 64)).astype("u1"))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(FormatError, match="ends after frame"):
        read_movie(path)


def test_damaged_pixels_name_the_frame(tmp_path):
    path = tmp_path / "m.tif"
    write_tiff_movie(path, np.random.default_rng(1).integers(0, 255, (3, 64, 64)).astype("u1"))
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[1].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[place : place + 64] = bytes(64)
    path.write_bytes(raw)
    with pytest.raises(FormatError, match="Frame 2 of 3"):
        read_movie(path)


def test_frames_of_two_sizes_and_colours_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        writer.write(np.zeros((4, 5), "u1"), metadata=None)
        writer.write(np.zeros((4, 6), "u1"), metadata=None)
    with pytest.raises(FormatError, match="Frame 2"):
        movie_header(tmp_path / "m.tif")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 3), "u1"), photometric="rgb")
    with pytest.raises(FormatError, match="colour"):
        read_movie(tmp_path / "rgb.tif")


@pytest.mark.parametrize("raw", [b"", b"not a picture at all", b"II*\0\xff\xff\xff\xff"])
def test_what_is_no_tiff_is_refused(tmp_path, raw):
    (tmp_path / "m.tif").write_bytes(raw)
    with pytest.raises(FormatError):
        read_movie(tmp_path / "m.tif")


def test_unknown_endings_and_missing_files(tmp_path):
    (tmp_path / "m.png").write_bytes(b"II*\0")
    with pytest.raises(FormatError, match="kind"):
        movie_header(tmp_path / "m.png")
    with pytest.raises(InputError, match="does not exist"):
        movie_header(tmp_path / "m.tif")


def test_mrc_movies_keep_their_rows(tmp_path):
    frames = frames_of("f4")
    write_mrc(tmp_path / "m.mrc", frames, 1.2, is_volume=False)
    got, header = read_movie(tmp_path / "m.mrc")
    np.testing.assert_array_equal(got, frames)
    assert header.frame_count == 4
    assert header.pixel_size_angstrom == pytest.approx(1.2)


def packed_mrc(path, frames, packing):
    """An MRC movie, packed as its ending says."""
    plain = path.with_name("plain.mrc")
    write_mrc(plain, frames, 1.2, is_volume=False)
    path.write_bytes({"gz": gzip.compress, "bz2": bz2.compress}[packing](plain.read_bytes()))


def four_bit_mrc(path, frames, mode, *, label=b"", imod_flags=0):
    """Two values a byte, the left one in the low half: mode 101, or bytes of half the width."""
    count, rows, columns = frames.shape
    header = bytearray(1024)
    width = columns if mode == 101 else columns // 2
    struct.pack_into("<10i", header, 0, width, rows, count, mode, 0, 0, 0, width, rows, 1)
    struct.pack_into("<3f", header, 40, width * 1.5, rows * 1.5, 1.5)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    if imod_flags:
        struct.pack_into("<2i", header, 152, 1146047817, imod_flags)
    header[208:216] = b"MAP \x44\x44\0\0"
    struct.pack_into("<i", header, 220, bool(label))
    header[224 : 224 + len(label)] = label
    padded = np.pad(frames, ((0, 0), (0, 0), (0, columns % 2)))
    path.write_bytes(bytes(header) + (padded[..., 0::2] | padded[..., 1::2] << 4).tobytes())


def every_kind(folder):
    """A movie of 7 frames in each kind of file, and the frames."""
    frames = frames_of("u1", 7, (12, 16)) % 16
    write_tiff_movie(folder / "zlib.tif", frames)
    write_tiff_movie(folder / "lzw.TIFF", frames, compression="lzw", bigtiff=True)
    write_tiff_movie(folder / "words.tif", frames.astype(np.uint16), compression=None)
    write_mrc(folder / "float.mrc", frames, 1.2, is_volume=False)
    write_mrc(folder / "half.mrcs", frames, 1.2, "float16", is_volume=False)
    packed_mrc(folder / "a.mrc.gz", frames, "gz")
    packed_mrc(folder / "a.mrcs.bz2", frames, "bz2")
    four_bit_mrc(folder / "nibbles.mrc", frames, 101)
    four_bit_mrc(folder / "flagged.mrc", frames, 0, imod_flags=16)
    four_bit_mrc(folder / "labelled.st", frames, 0, label=b"SerialEMCCD: Dose fractionated image, 4 bits packed")
    (folder / "plain.mrc").unlink()
    return frames


def test_every_kind_of_movie_is_read_in_any_parts(tmp_path):
    frames = every_kind(tmp_path)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 10
    for path in paths:
        header = movie_header(path)
        assert (header.frame_count, header.shape) == (7, (12, 16)), path
        for threads in (1, 2):
            with open_movie(path, threads=threads) as movie:
                assert movie.header == header
                for start, stop in ((0, 7), (5, 7), (2, 3), (0, 1), (3, 7)):  # forward and back
                    got = movie.read(start, stop)
                    np.testing.assert_array_equal(got, frames[start:stop], err_msg=str(path))
                    assert got.dtype == header.dtype
                    assert got.dtype.isnative
                    assert got.flags.writeable
                    assert got.flags.c_contiguous
                for count in (1, 3, 7, 100):
                    blocks = list(movie.blocks(count))
                    assert [start for start, _ in blocks] == list(range(0, 7, count))
                    np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), frames)


def test_frames_that_a_movie_does_not_have_are_refused(tmp_path):
    every_kind(tmp_path)
    for path in tmp_path.iterdir():
        with open_movie(path) as movie:
            for start, stop in ((0, 8), (7, 8), (-1, 2), (3, 3), (4, 2)):
                with pytest.raises(ShapeError, match="which has 7"):
                    movie.read(start, stop)
            with pytest.raises(ShapeError, match="blocks of 0"):
                next(movie.blocks(0))


def test_endings_of_movies_are_endings_of_what_can_be_read():
    mrc = {ending for ending in MOVIE_ENDINGS if ".mrc" in ending or ".st" in ending}
    assert mrc <= set(MRC_ENDINGS)
    assert {".mrc", ".mrc.gz", ".mrc.bz2", ".mrcs.bz2", ".st.gz"} <= mrc
    assert set(MOVIE_ENDINGS) - mrc == {".tif", ".tiff", ".eer"}


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_a_packed_movie_is_never_held_as_a_whole(tmp_path, packing):
    frames = np.repeat(np.arange(64, dtype=np.float32), 128 * 128).reshape(64, 128, 128)
    packed_mrc(tmp_path / f"m.mrc.{packing}", frames, packing)
    tracemalloc.start()
    try:
        header = movie_header(tmp_path / f"m.mrc.{packing}")
        with open_movie(tmp_path / f"m.mrc.{packing}") as movie:
            means = [float(block.mean()) for _, block in movie.blocks(1)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.frame_count == 64
    assert means == list(range(64))
    assert peak < frames.nbytes / 2  # the decoder's own buffers and four frames of 64


@pytest.mark.parametrize("packing", ["gz", "bz2"])
def test_a_packed_movie_that_ends_early_says_after_which_frame(tmp_path, packing):
    frames = np.random.default_rng(2).normal(0, 1, (5, 400, 400)).astype(np.float32)
    write_mrc(tmp_path / "plain.mrc", frames, 1.2, is_volume=False)
    raw = (tmp_path / "plain.mrc").read_bytes()
    pack = {"gz": gzip.compress, "bz2": bz2.compress}[packing]
    path = tmp_path / f"m.mrc.{packing}"
    path.write_bytes(pack(raw[: 1024 + 3 * 640000 + 77]))  # packed after it was cut
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames[:3])
        for start, stop in ((2, 5), (4, 5), (3, 4)):
            with pytest.raises(FormatError, match=rf"m\.mrc\.{packing}` ends after frame 3 of 5"):
                movie.read(start, stop)
        np.testing.assert_array_equal(movie.read(1, 2), frames[1:2])
    whole = pack(raw)
    path.write_bytes(whole[: len(whole) // 2])  # cut after it was packed
    with pytest.raises(FormatError, match=r"ends after frame [012] of 5"):
        read_movie(path)
    spoiled = bytearray(whole)
    spoiled[-500_000] ^= 255
    path.write_bytes(spoiled)
    with pytest.raises(FormatError, match=rf"m\.mrc\.{packing}` is damaged after frame \d of 5"):
        read_movie(path)
    path.write_bytes(b"this is not packed at all, whatever its name says")
    with pytest.raises(FormatError, match="damaged compressed file"):
        movie_header(path)


def test_an_mrc_movie_that_ends_early_says_after_which_frame(tmp_path):
    write_mrc(tmp_path / "m.mrc", frames_of("f4", 4, (10, 10)), 1.2, is_volume=False)
    raw = (tmp_path / "m.mrc").read_bytes()
    (tmp_path / "m.mrc").write_bytes(raw[: 1024 + 2 * 400 + 13])
    for read in (movie_header, read_movie):
        with pytest.raises(FormatError, match=r"m\.mrc` ends after frame 2 of 4 \(the file is 1,837 bytes"):
            read(tmp_path / "m.mrc")
    for raw in (b"", b"short", bytes(2000)):
        (tmp_path / "m.mrc").write_bytes(raw)
        with pytest.raises(FormatError, match=r"m\.mrc"):
            movie_header(tmp_path / "m.mrc")


def test_a_file_that_shrinks_while_it_is_read_says_so(tmp_path):
    write_mrc(tmp_path / "m.mrc", frames_of("f4", 4, (10, 10)), 1.2, is_volume=False)
    with open_movie(tmp_path / "m.mrc") as movie:
        (tmp_path / "m.mrc").write_bytes((tmp_path / "m.mrc").read_bytes()[: 1024 + 2 * 400 + 13])
        with pytest.raises(FormatError, match="ends after frame 2 of 4"):
            movie.read(0, 4)


def test_numbers_of_other_machines_and_scaled_numbers_come_as_native_ones(tmp_path):
    frames = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 7
    header = bytearray(1024)
    struct.pack_into(">10i", header, 0, 4, 3, 2, 1, 0, 0, 0, 4, 3, 2)
    struct.pack_into(">3i", header, 64, 1, 2, 3)
    (tmp_path / "m.mrc").write_bytes(bytes(header) + frames.astype(">i2").tobytes())
    got, head = read_movie(tmp_path / "m.mrc")
    np.testing.assert_array_equal(got, frames)
    assert got.dtype == head.dtype == np.int16
    large = np.full((2, 3, 4), 1e6, dtype=np.float32)
    write_mrc(tmp_path / "m.mrc", large, 1.2, "float16", is_volume=False)  # stored divided by a power of two
    got, head = read_movie(tmp_path / "m.mrc")
    np.testing.assert_allclose(got, large, rtol=2**-11)
    assert got.dtype == head.dtype == np.float32


def test_odd_numbers_of_columns_fill_the_last_byte_half(tmp_path):
    frames = frames_of("u1", 3, (5, 7)) % 16
    four_bit_mrc(tmp_path / "m.mrc", frames, 101)
    np.testing.assert_array_equal(read_movie(tmp_path / "m.mrc")[0], frames)


def test_four_bits_a_sample_follow_the_order_of_tiff(tmp_path):
    stored = frames_of("u1", 1, (6, 8))[0] % 16
    tifffile.imwrite(
        tmp_path / "m.tif", stored[:, 0::2] << 4 | stored[:, 1::2], photometric="minisblack", metadata=None
    )
    with tifffile.TiffFile(tmp_path / "m.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageWidth"].overwrite(8)
        tif.pages[0].tags["BitsPerSample"].overwrite(4)
    got, header = read_movie(tmp_path / "m.tif")
    np.testing.assert_array_equal(got[0], stored[::-1])
    assert (header.shape, header.dtype) == ((6, 8), np.uint8)


@pytest.mark.parametrize(("wide", "high"), [(7676, 7420), (8184, 11520)])
def test_super_resolution_frames_packed_into_bytes_are_known_by_their_size(tmp_path, wide, high):
    left = (np.arange(high) % 16).astype(np.uint8)[:, None]
    right = (left + (np.arange(wide // 2) % 7).astype(np.uint8)) % 16
    stored = left | right << 4  # the left one in the low half
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", metadata=None)
    assert (movie_header(path).shape, movie_header(path).dtype) == ((high, wide), np.uint8)
    frame = read_movie(path)[0][0]
    np.testing.assert_array_equal(frame[:, 0::2], np.broadcast_to(left, right.shape)[::-1])
    np.testing.assert_array_equal(frame[:, 1::2], right[::-1])
    tifffile.imwrite(path, stored[:-3], photometric="minisblack", metadata=None)  # another size is as it is
    assert movie_header(path).shape == (high - 3, wide // 2)


def test_a_gain_reference_follows_the_row_rule_of_its_own_type(tmp_path):
    gain = np.random.default_rng(5).normal(1.0, 0.1, (6, 9)).astype(np.float32)
    write_mrc(tmp_path / "g.mrc", gain, 1.0)
    tifffile.imwrite(tmp_path / "g.tif", gain[::-1])
    (tmp_path / "g.gain").write_bytes((tmp_path / "g.tif").read_bytes())
    for ending in ("mrc", "tif", "gain"):
        got = read_gain(tmp_path / f"g.{ending}")
        np.testing.assert_array_equal(got, gain)
        assert got.dtype == np.float32


def test_unfit_gain_references_are_refused(tmp_path):
    write_mrc(tmp_path / "two.mrc", np.zeros((2, 3, 4)), 1.0)
    with pytest.raises(ShapeError, match="2 images"):
        read_gain(tmp_path / "two.mrc")
    broken = np.ones((3, 4), np.float32)
    broken[1, 1] = np.inf
    tifffile.imwrite(tmp_path / "inf.tif", broken)
    with pytest.raises(FormatError, match="1 values"):
        read_gain(tmp_path / "inf.tif")
    with pytest.raises(FormatError, match="kind"):
        read_gain(tmp_path / "g.png")
