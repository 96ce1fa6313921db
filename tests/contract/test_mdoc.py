"""Mdoc files: fields, dates, dialects, bad lines, and writing."""

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eucentric.errors import FormatError, InputError
from eucentric.io import Mdoc, MdocSection, merge_mdocs, read_mdoc, validate_mdoc, write_mdoc
from eucentric.io.mdoc import parse_date_time

TEXT = """PixelSpacing = 1.971
Voltage = 200
ImageFile = TS_1.mrc
ImageSize = 4096 2048
DataMode = 1

[T = SerialEM: somewhere                06-Jun-23  23:19:47    ]

[T =     Tilt axis angle = -86.7, binning = 1  spot = 5  camera = 1 dosym = 8.0]

[ZValue = 3]
TiltAngle = -52.0064
ExposureDose = 2.2
PriorRecordDose = 134.379
PixelSpacing = 1.972
RotationAngle = 3.3
TargetDefocus = -3
Defocus = 2.25
ImageShift = -0.07 0.64
SubFramePath = \\\\server\\x\\TS_1_003_-52.0.tif
NumSubFrames = 10
FrameDosesAndNumber = 0.02 3  0.03 7
DateTime = 06-Jun-23  23:19:46
Oddity = a = b

[ZValue = 4]
TiltAngle = -49
SubFramePath = /data/frames/TS_1_004_-49.0.tif
DateTime = 07-Jun-2023 00:00:01
"""


def write(tmp_path, text, newline="\n"):
    path = tmp_path / "a.mdoc"
    path.write_bytes(text.replace("\n", newline).encode())
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_field_is_read(tmp_path, newline):
    mdoc = read_mdoc(write(tmp_path, TEXT, newline))
    assert (mdoc.voltage_kv, mdoc.pixel_spacing_angstrom, mdoc.image_size) == (200.0, 1.971, (4096, 2048))
    assert mdoc.tilt_axis_angle_deg == -86.7
    assert mdoc.scheme == {"dosym": 8.0}
    assert mdoc.extra == {"DataMode": "1"}
    first, second = mdoc.sections
    assert first == MdocSection(
        kind="ZValue",
        label="3",
        line=11,
        tilt_angle_deg=-52.0064,
        exposure_dose=2.2,
        prior_record_dose=134.379,
        pixel_spacing_angstrom=1.972,
        rotation_angle_deg=3.3,
        target_defocus_um=-3.0,
        defocus_um=2.25,
        image_shift_um=(-0.07, 0.64),
        sub_frame_path="\\\\server\\x\\TS_1_003_-52.0.tif",
        frame_count=10,
        frame_doses=((0.02, 3), (0.03, 7)),
        date_time=dt.datetime(2023, 6, 6, 23, 19, 46),
        extra={"Oddity": "a = b"},
    )
    assert first.z_value == 3
    assert first.movie_name == "TS_1_003_-52.0.tif"
    assert second.movie_name == "TS_1_004_-49.0.tif"
    assert second.date_time == dt.datetime(2023, 6, 7, 0, 0, 1)
    assert second.exposure_dose is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01-Jan-26  10:00:05", dt.datetime(2026, 1, 1, 10, 0, 5)),
        ("1-Dec-2021 9:00:05", dt.datetime(2021, 12, 1, 9, 0, 5)),
        ("30-Nov-95  15:21:38", dt.datetime(1995, 11, 30, 15, 21, 38)),
        ("2023-06-06 23:19:46", dt.datetime(2023, 6, 6, 23, 19, 46)),
        ("31-Feb-23  10:00:00", None),
        ("05-Mai-23  10:00:00", None),
        ("yesterday", None),
    ],
)
def test_dates(text, expected):
    assert parse_date_time(text) == expected


def test_an_unknown_date_is_kept_as_text_and_reported(tmp_path):
    path = write(tmp_path, TEXT.replace("06-Jun-23  23:19:46", "6. Juni 2023"))
    assert read_mdoc(path).sections[0].date_time is None
    assert read_mdoc(path).sections[0].extra["DateTime"] == "6. Juni 2023"
    assert [f for f in validate_mdoc(path) if "dates" in f.text]


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("TiltAngle = -52.0064", "TiltAngle = steep"), 12, "TiltAngle = steep"),
        (("TiltAngle = -52.0064", "TiltAngle = nan"), 12, "expected a number"),
        (("Voltage = 200", "Voltage 200"), 2, "Key = value"),
        (("[ZValue = 4]", "[ZValue = 4"), 26, "Section"),
        (("ImageShift = -0.07 0.64", "ImageShift = 1 2 3"), 19, "ImageShift"),
        (("FrameDosesAndNumber = 0.02 3  0.03 7", "FrameDosesAndNumber = 0.02 3  0.03"), 22, "FrameDoses"),
    ],
)
def test_a_bad_line_is_named(tmp_path, change, line, words):
    assert change[0] in TEXT
    with pytest.raises(FormatError, match=f"Line {line} of .*{words}"):
        read_mdoc(write(tmp_path, TEXT.replace(*change)))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "b.mdoc").write_bytes(b"II*\0\0\0")
    with pytest.raises(FormatError, match="not a text file"):
        read_mdoc(tmp_path / "b.mdoc")
    with pytest.raises(FormatError, match="section"):
        read_mdoc(write(tmp_path, "Voltage = 300\n"))
    with pytest.raises(InputError, match="does not exist"):
        read_mdoc(tmp_path / "c.mdoc")
    assert [f.severity for f in validate_mdoc(tmp_path / "c.mdoc")] == ["error"]


def test_sections_without_angle_or_voltage_are_reported(tmp_path):
    path = write(tmp_path, "[ZValue = 0]\nDefocus = 1\n")
    assert [f.severity for f in validate_mdoc(path)] == ["error", "warning"]


def test_frame_sets_of_single_images_merge_into_one(tmp_path):
    single = "T = Tilt axis angle = 80.5, binning = 1\nVoltage = 300\n\n[FrameSet = 0]\nTiltAngle = {}\n"
    parts = [read_mdoc(write(tmp_path, single.format(angle))) for angle in (3, -3)]
    merged = merge_mdocs(parts)
    assert [s.tilt_angle_deg for s in merged.sections] == [3.0, -3.0]
    assert merged.voltage_kv == 300.0
    assert merged.tilt_axis_angle_deg == 80.5
    with pytest.raises(InputError):
        merge_mdocs([])


numbers = st.floats(-1e4, 1e4).map(lambda v: float(f"{v:.6g}"))
sections = st.builds(
    MdocSection,
    label=st.integers(0, 200).map(str),
    tilt_angle_deg=numbers,
    exposure_dose=st.none() | numbers,
    image_shift_um=st.none() | st.tuples(numbers, numbers),
    frame_count=st.none() | st.integers(1, 99),
    frame_doses=st.lists(st.tuples(numbers, st.integers(1, 9)), max_size=3).map(tuple),
    sub_frame_path=st.none() | st.sampled_from(["D:\\frames\\a b_001_3.0.tif", "/x/y.mrc"]),
    date_time=st.none()
    | st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2069, 12, 31)).map(lambda d: d.replace(microsecond=0)),
    extra=st.dictionaries(st.sampled_from(["SpotSize", "Note"]), st.sampled_from(["8", "a = b c"])),
)


@given(
    mdoc=st.builds(
        Mdoc,
        sections=st.lists(sections, min_size=1, max_size=4).map(tuple),
        titles=st.just(("SerialEM: x", "Tilt axis angle = 85.0, binning = 1 bidir = -21")),
        voltage_kv=st.none() | st.just(300.0),
        pixel_spacing_angstrom=st.none() | st.just(1.35),
        image_size=st.none() | st.just((10, 20)),
    )
)
def test_what_is_written_is_read(tmp_path_factory, mdoc):
    path = tmp_path_factory.mktemp("mdoc") / "a.mdoc"
    write_mdoc(path, mdoc)
    again = read_mdoc(path)
    without_lines = tuple(dataclasses.replace(s, line=0) for s in again.sections)
    assert dataclasses.replace(again, sections=without_lines) == mdoc


SECTION = """[ZValue = {}]
TiltAngle = {}.25
ExposureDose = 2.5
DateTime = 06-Jun-23  23:19:46
"""
WHOLE = "PixelSpacing = 2\n\n" + "\n".join(SECTION.format(i, 3 * i) for i in range(4))


@pytest.mark.parametrize(
    ("ending", "lost", "angle", "dose"),
    [
        ("[ZValue = 4]\n", ("TiltAngle", "ExposureDose", "DateTime"), None, None),
        ("[ZValue = 4]", ("TiltAngle", "ExposureDose", "DateTime"), None, None),
        ("[ZValue = 4]\nTiltAngle = 12.25\n", ("ExposureDose", "DateTime"), 12.25, None),
        # the end of the number may be lost as well: 1 may have been 12.25
        ("[ZValue = 4]\nTiltAngle = 1", ("TiltAngle", "ExposureDose", "DateTime"), None, None),
        ("[ZValue = 4]\nTiltAngle = -", ("TiltAngle", "ExposureDose", "DateTime"), None, None),
        ("[ZValue = 4]\nTiltAngle = 12.25\nExposureDose = 2.", ("ExposureDose", "DateTime"), 12.25, None),
        ("[ZValue = 4]\nTiltAngle = 12.25\nExposureDose = 2.5\n", ("DateTime",), 12.25, 2.5),
    ],
)
def test_a_file_that_is_cut_off_in_its_last_section(tmp_path, ending, lost, angle, dose):
    mdoc = read_mdoc(write(tmp_path, WHOLE + "\n" + ending))
    assert mdoc.lost_at_end == lost
    assert len(mdoc.sections) == 5
    assert (mdoc.sections[-1].tilt_angle_deg, mdoc.sections[-1].exposure_dose) == (angle, dose)
    assert f"cut off in its last section, [ZValue = 4] on line 23, which lacks {lost[0]}" in mdoc.cut_off
    (said,) = [f.text for f in validate_mdoc(tmp_path / "a.mdoc") if "cut off" in f.text]
    assert said.endswith("Copy it again.")


@pytest.mark.parametrize("text", [WHOLE, WHOLE.rstrip(), WHOLE + "\n[ZValue = 4]\nTiltAngle = 12.0\nDateTime = x\n"])
def test_a_whole_file_is_not_called_cut_off(tmp_path, text):
    """Also without a last end of line, and where an entry is missing that is not at the end."""
    assert read_mdoc(write(tmp_path, text)).cut_off == ""


@pytest.mark.parametrize("ending", ["[ZVal", "[ZValue = 4]\nTiltAng"])
def test_half_a_line_at_the_end_is_told_as_such(tmp_path, ending):
    with pytest.raises(FormatError, match=r"The file ends there, so it seems to be cut off: copy it again"):
        read_mdoc(write(tmp_path, WHOLE + "\n" + ending))
    with pytest.raises(FormatError, match=r"Correct the line\.$"):
        read_mdoc(write(tmp_path, WHOLE + "\n" + ending + "\n"))
