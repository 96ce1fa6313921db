"""Lists and maps of defective pixels of other programs."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import read_defects, write_defects, write_mrc, write_tiff_movie

SERIALEM = """# camera 0
CameraSizeX 40
CameraSizeY 30
RotationAndFlip 0
WasScaled 0
K2Type 1
UsableArea 1 2 28 0
PartialBadColumn 20 2 5 9
PartialBadRow 12 1 30 33
BadPixels 10 3 11 4
BadPixels 12 29
BadColumns 25 26
BadRows 17
NotYetKnown 5
"""


def serialem_by_hand() -> np.ndarray:
    """The list above, row 0 at the top."""
    top = np.zeros((30, 40), dtype=bool)
    top[0] = True  # usable from row 1
    top[29] = True  # to row 28
    top[:, :2] = True  # from column 2 to the last
    top[5:10, 20:22] = True
    top[12, 30:34] = True
    top[3, 10] = top[4, 11] = top[29, 12] = True
    top[:, 25:27] = True
    top[17] = True
    return top


def test_rectangles_count_from_the_lowest_row(tmp_path):
    place = tmp_path / "defects.txt"
    place.write_text("3 1 2 4\n\n  10 8 5 1 \n")
    found = read_defects(place, (12, 16))
    expected = np.zeros((12, 16), dtype=bool)
    expected[1:5, 3:5] = True
    expected[8, 10:15] = True
    assert np.array_equal(found, expected)
    assert np.array_equal(read_defects(place, (24, 32), scale=2), np.kron(expected, np.ones((2, 2))) > 0)


def test_a_serialem_list_counts_from_the_top(tmp_path):
    place = tmp_path / "defects_CAM0.txt"
    place.write_text(SERIALEM)
    top = serialem_by_hand()
    assert np.array_equal(read_defects(place, (30, 40)), top[::-1])
    # super-resolution frames, and frames of binned pixels
    assert np.array_equal(read_defects(place, (60, 80)), np.kron(top[::-1], np.ones((2, 2))) > 0)
    assert np.array_equal(read_defects(place, (15, 20)), top[::-1].reshape(15, 2, 20, 2).any((1, 3)))


def test_single_pixels_of_a_scaled_serialem_list_are_two_wide(tmp_path):
    place = tmp_path / "defects.txt"
    place.write_text("CameraSizeX 40\nCameraSizeY 30\nWasScaled 1\nBadPixels 10 4\nBadColumns 20 21\n")
    expected = np.zeros((30, 40), dtype=bool)
    expected[4:6, 10:12] = True
    expected[:, 20:22] = True
    assert np.array_equal(read_defects(place, (30, 40)), expected[::-1])


def test_maps_follow_the_rows_of_their_type(tmp_path):
    mask = np.zeros((18, 20), dtype=np.uint8)
    mask[2, 3:7], mask[15, 1] = 1, 255
    write_tiff_movie(tmp_path / "map.tif", mask)
    write_mrc(tmp_path / "map.mrc", mask.astype(np.float32), 1.0)
    for name in ("map.tif", "map.mrc"):
        assert np.array_equal(read_defects(tmp_path / name, (18, 20)), mask > 0)
        assert read_defects(tmp_path / name, (36, 40)).sum() == 4 * 5
    import tifffile

    # row 0 of the file is the highest y
    assert np.array_equal(tifffile.imread(tmp_path / "map.tif").reshape(18, 20)[::-1], mask)


def test_a_map_written_as_rectangles_is_read_back(tmp_path):
    mask = np.random.default_rng(1).random((31, 17)) < 0.2
    mask[:, 5] = True
    write_defects(tmp_path / "out.txt", mask)
    assert np.array_equal(read_defects(tmp_path / "out.txt", mask.shape), mask)
    assert "5 0 1 31\n" in (tmp_path / "out.txt").read_text()


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("1 2 3\n", FormatError, "Line 1 of .* expected four numbers"),
        ("1 2 3 4\nx y w h\n", FormatError, "Line 2 of .* whole numbers"),
        ("1.5 2 3 4\n", FormatError, "whole numbers"),
        ("1 2 -3 4\n", FormatError, "expected four numbers"),
        ("500 700 3 4\n600 1 2 2\n", ShapeError, "2 of 2 rectangles .* lie outside"),
        ("CameraSizeX 40\nBadPixels 1 2\n", FormatError, "CameraSizeX and CameraSizeY"),
        ("CameraSizeX 40\nCameraSizeY 30\nBadPixels 1 2 3\n", FormatError, "Line 3"),
        ("CameraSizeX 41\nCameraSizeY 30\nBadPixels 1 2\n", ShapeError, "41 x 30 .* 40 x 30"),
        ("CameraSizeX 0\nCameraSizeY 30\nBadPixels 1 2\n", FormatError, "camera's size"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, error, says):
    place = tmp_path / "defects.txt"
    place.write_text(text)
    with pytest.raises(error, match=says):
        read_defects(place, (30, 40))


def test_missing_files_and_wrong_scales_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_defects(tmp_path / "none.txt", (30, 40))
    (tmp_path / "list.txt").write_text("1 2 3 4\n")
    with pytest.raises(InputError, match="scaled by 3"):
        read_defects(tmp_path / "list.txt", (30, 40), scale=3)
    (tmp_path / "serialem.txt").write_text("CameraSizeX 20\nCameraSizeY 15\n")
    with pytest.raises(InputError, match="2 times smaller"):
        read_defects(tmp_path / "serialem.txt", (30, 40), scale=4)
    write_mrc(tmp_path / "two.mrc", np.zeros((2, 30, 40), np.float32), 1.0)
    with pytest.raises(ShapeError, match="holds 2 images"):
        read_defects(tmp_path / "two.mrc", (30, 40))
