"""TIFF and MRC movies and gain references: row order, types, compression, damage."""

import numpy as np
import pytest
import tifffile

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import movie_header, read_gain, read_movie, write_mrc, write_tiff_movie


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
    (tmp_path / "m.eer").write_bytes(b"II*\0")
    with pytest.raises(FormatError, match="kind"):
        movie_header(tmp_path / "m.eer")
    with pytest.raises(InputError, match="does not exist"):
        movie_header(tmp_path / "m.tif")


def test_mrc_movies_keep_their_rows(tmp_path):
    frames = frames_of("f4")
    write_mrc(tmp_path / "m.mrc", frames, 1.2, is_volume=False)
    got, header = read_movie(tmp_path / "m.mrc")
    np.testing.assert_array_equal(got, frames)
    assert header.frame_count == 4
    assert header.pixel_size_angstrom == pytest.approx(1.2)


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
