"""Tables of the frames of tilts, and SerialEM's description of tilt series within one exposure."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io import (
    FrameRange,
    Mdoc,
    MdocSection,
    is_frame_series,
    mdoc_frame_series,
    place_in_movie,
    read_frame_table,
    read_mdoc,
    read_saved_frames,
    write_frame_table,
)


def written(tmp_path, text, name="frames.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "0 1 12 3.5\n3.0 14 25 3.5\n",
        "tilt,first,last,dose\n0,1,12,3.5\n3.0,14,25,3.5\n",
        "# made by hand\n\n  0;1;12;3.5  # the first\n3.0\t14\t25\t3.5",
    ],
)
def test_a_table_counts_frames_from_one_and_includes_the_last(tmp_path, text):
    one, two = read_frame_table(written(tmp_path, text))
    assert one == FrameRange(tilt_deg=0.0, frames=(0, 12), dose=3.5)
    assert two == FrameRange(tilt_deg=3.0, frames=(13, 25), dose=3.5)


def test_tables_without_dose_or_frames(tmp_path):
    assert read_frame_table(written(tmp_path, "-3 1 2\n0 3 4\n"))[1] == FrameRange(tilt_deg=0.0, frames=(2, 4))
    angles = read_frame_table(written(tmp_path, "-3.02\n0.00\n3.05\n", "movie.rawtlt"))
    assert [a.tilt_deg for a in angles] == [-3.02, 0.0, 3.05]
    assert all(a.frames is None for a in angles)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1 12\n3 12 20\n", "Line 2 .* gives frames 12 to 20 .* frames up to 12 belong to the one at 0"),
        ("0 11 20\n3 1 12\n", "frames up to 12 belong to the one at 3"),
        ("0 5 4\n", "no frames: 5 to 4"),
        ("0 0 4\n", "counted from 1"),
        ("0 1.5 4\n", "whole numbers"),
        ("0 1 4\n3 5\n", "Line 2 .* expected tilt angle, first frame, last frame"),
        ("0 1 4\n3 five 8\n", "Line 2"),
        ("0 1 4\n3\n", "for some tilts and none for others"),
        ("99 1 4\n", "-90 to 90"),
        ("0 1 4 -2\n", "dose of -2"),
        ("0 1 nan\n", "Line 1"),
        ("# nothing\n", "no line"),
    ],
)
def test_wrong_tables_are_refused_in_words(tmp_path, text, words):
    with pytest.raises(FormatError, match=words):
        read_frame_table(written(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_frame_table(tmp_path / "none.csv")


def test_tables_return_as_written(tmp_path):
    ranges = (FrameRange(tilt_deg=-60.0, frames=(2, 9), dose=0.75), FrameRange(tilt_deg=3.01, frames=(10, 11)))
    write_frame_table(tmp_path / "t.txt", ranges)
    assert read_frame_table(tmp_path / "t.txt") == ranges
    with pytest.raises(InputError, match="not known"):
        write_frame_table(tmp_path / "t.txt", [FrameRange(tilt_deg=0.0)])


def test_serialem_frame_series(shared_data):
    mdoc = read_mdoc(shared_data / "formats/mdoc/frame_set_multiple.mdoc")
    assert is_frame_series(mdoc)
    ranges = mdoc_frame_series(mdoc, "x")
    assert len(ranges) == 20
    assert ranges[0] == FrameRange(tilt_deg=33.0, frames=(0, 12), dose=7.66184, prior_dose=0.0)
    assert ranges[9].frames == (199, 211)
    # twelve frames of the dose that the file gives a frame
    assert ranges[0].dose / 12 == pytest.approx(mdoc.sections[0].frame_doses[0][0], rel=1e-3)
    for name in ("frame_set_single.mdoc", "017.mdoc", "tilt_series.mdoc"):
        assert not is_frame_series(read_mdoc(shared_data / "formats/mdoc" / name))


def test_other_shapes_of_frame_series():
    angles = (0.0, 3.0, -3.0)
    each = [MdocSection(label=str(i), tilt_angle_deg=a, sub_frame_path="D:\\x\\m.tif") for i, a in enumerate(angles)]
    assert is_frame_series(Mdoc(sections=tuple(each)))
    assert [r.tilt_deg for r in mdoc_frame_series(Mdoc(sections=tuple(each)), "m")] == list(angles)
    other = [MdocSection(label=str(i), tilt_angle_deg=a, sub_frame_path=f"{i}.tif") for i, a in enumerate(angles)]
    assert not is_frame_series(Mdoc(sections=tuple(other)))
    bare = [MdocSection(kind="FrameSet", sub_frame_path="m.tif"), MdocSection(tilt_angle_deg=1.0)]
    bare.append(MdocSection(label="1", tilt_angle_deg=2.0, extra={"FrameTSStartEndFrames": "12 4"}))
    with pytest.raises(FormatError, match="12 4"):
        mdoc_frame_series(Mdoc(sections=tuple(bare)), "m")


def test_saved_frames_place_tilts_in_the_movie(tmp_path):
    # the beam opens at frame 7 of the exposure; frames 12 to 16 and 22 to 30 are dark and not saved
    saved = [*range(7, 12), *range(17, 22), *range(31, 36)]
    path = written(tmp_path, "\n".join(map(str, saved)) + "\n", "m_saved.txt")
    numbers = read_saved_frames(path)
    assert numbers.tolist() == saved
    ranges = [FrameRange(tilt_deg=a, frames=f) for a, f in ((0, (0, 5)), (3, (10, 15)), (6, (17, 20)), (9, (24, 29)))]
    placed = place_in_movie(ranges, numbers)
    assert [r.frames for r in placed] == [(0, 5), (5, 10), None, (10, 15)]
    # times are rounded: a frame beyond the end of its tilt by one is still its own
    early = [FrameRange(tilt_deg=0, frames=(0, 4)), FrameRange(tilt_deg=3, frames=(11, 15))]
    assert [r.frames for r in place_in_movie(early, np.array([7, 8, 9, 10, 11, 17, 18, 19, 20, 21]))] == [
        (0, 5),
        (5, 10),
    ]


@pytest.mark.parametrize("text", ["3\nx\n", "3\n2\n", ""])
def test_wrong_lists_of_saved_frames(tmp_path, text):
    with pytest.raises(FormatError):
        read_saved_frames(written(tmp_path, text, "s.txt"))
