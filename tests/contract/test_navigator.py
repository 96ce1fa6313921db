"""Navigator files of SerialEM: read, kept whole, written back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.navigator import MapFrame, new_item, read_navigator, write_navigator
from eucentric.io.pacetomo import write_targets_file

_NAV = """AdocVersion = 2.00
LastSavedAs = C:\\data\\grid.nav
LastUsedHoleISVecs = 0 0 0 0 0 0

[Item = 1-A]
Color = 2
StageXYZ = 5 -3 44.5
NumPts = 5
Regis = 1
Type = 2
Note = Sec 0 - map.mrc with = and ]
NewKeyOfTomorrow = a b  c
MapFile = D:\\maps\\map.mrc
MapID = 4711
MapSection = 3
MapMontage = 0
MapScaleMat = 10 0 0 -10
MapWidthHeight = 200 100
MapTiltAngle = -0.1
PtsX = -5 15 15 -5 -5
PtsY = 2 2 -8 -8 2

[Item = 7]
Color = 0
StageXYZ = 6 -2.5 44.5
NumPts = 1
Regis = 1
Type = 0
GroupID = 10000
DrawnID = 4711
Acquire = 1
MapID = 12
PtsX = 6
PtsY = -2.5

[TSParam = 0]
TiltIncrement = 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "grid.nav"
    place.write_text(_NAV)
    return place


def test_items_say_what_the_file_says(path: Path) -> None:
    navigator = read_navigator(path)
    the_map, point = navigator.items
    assert (the_map.kind, the_map.label, the_map.note) == ("map", "1-A", "Sec 0 - map.mrc with = and ]")
    assert (the_map.map_section, the_map.is_montage, the_map.map_tilt_deg, the_map.color) == (3, False, -0.1, 2)
    assert (point.kind, point.registration, point.group_id, point.drawn_on, point.map_id) == (
        "point",
        1,
        10000,
        4711,
        12,
    )
    assert point.is_to_acquire
    assert not the_map.is_to_acquire
    assert point.stage_um.tolist() == [6.0, -2.5, 44.5]
    assert the_map.points_um[1].tolist() == [15.0, 2.0]
    assert [(s.kind, dict(s.entries)) for s in navigator.others] == [("TSParam", {"TiltIncrement": "3"})]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_comes_back_line_by_line(path: Path, newline: str) -> None:
    path.write_bytes(_NAV.replace("\n", newline).encode())
    target = path.with_name("copy.nav")
    write_navigator(target, read_navigator(path))
    expected = _NAV.replace("C:\\data\\grid.nav", str(target)) + "\n"
    assert target.read_bytes() == expected.replace("\n", newline).encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "cp932"])
def test_letters_come_back_as_they_were_written(path: Path, encoding: str) -> None:
    """A program on Windows names maps in its own code page: other bytes would name no file."""
    name = "\u30de\u30c3\u30d7" if encoding == "cp932" else "M\u00fcller\u2026"
    text = _NAV.replace("C:\\data\\grid.nav", "x").replace("Sec 0", name)
    path.write_bytes(text.encode(encoding))
    target = path.with_name("copy.nav")
    write_navigator(target, read_navigator(path))
    assert target.read_bytes() == (text.replace("= x\n", f"= {target}\n") + "\n").encode(encoding)


def test_xml_holds_the_same(path: Path, tmp_path: Path) -> None:
    # the form as SerialEM's source writes it: navigator, PreData, sections with a name
    navigator = read_navigator(path)
    target = tmp_path / "x.nav"
    write_navigator(target, replace(navigator, form="xml"))
    text = target.read_text()
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<navigator>\n  <PreData>\n    <AdocVersion>2.00<')
    assert '<Item name="1-A">\n    <Color>2</Color>' in text
    again = read_navigator(target)
    assert again.form == "xml"
    assert [(i.label, list(i.entries.items())) for i in again.items] == [
        (i.label, list(i.entries.items())) for i in navigator.items
    ]
    assert [dict(o.entries) for o in again.others] == [{"TiltIncrement": "3"}]


def test_pixels_of_a_map_run_upwards(path: Path) -> None:
    frame = read_navigator(path).map_of("1-A").map_frame()
    # the shown image has y downwards: 1 um up the stage is 10 pixels less from its top, so 10 more from the bottom
    np.testing.assert_allclose(
        frame.to_pixels(np.array([[5, -3], [6, -3], [5, -2]])), [[100, 50], [110, 50], [100, 60]]
    )
    np.testing.assert_allclose(frame.to_stage(np.array([0.0, 0.0])), [-5, -8])
    np.testing.assert_allclose(frame.corners_um, [[-5, -8], [15, -8], [15, 2], [-5, 2]])


def test_pixels_and_stage_are_inverse() -> None:
    frame = MapFrame(
        stage_um=np.array([7.0, -90.0]), pixels_per_um=np.array([[3.0, -26.0], [24.0, 5.0]]), size=(511.0, 300.0)
    )
    pixels = np.random.default_rng(3).uniform(0, 300, (20, 2))
    np.testing.assert_allclose(frame.to_pixels(frame.to_stage(pixels)), pixels, atol=1e-9)


def test_new_items_are_read_as_they_were_made(path: Path) -> None:
    navigator = read_navigator(path)
    ids = navigator.free_ids(2)
    assert len(set(ids)) == 2
    assert not {4711, 12, 10000} & set(ids)
    square = np.array([[0, 0], [4, 0], [4, 2], [0, 2.0]])
    made = new_item("B", "polygon", square, 1.25, registration=2, map_id=ids[0], color=4, note="beam", drawn_on=4711)
    write_navigator(path, replace(navigator, items=(*navigator.items, made)))
    item = read_navigator(path).item("B")
    assert (item.kind, item.registration, item.map_id, item.color, item.note) == ("polygon", 2, ids[0], 4, "beam")
    np.testing.assert_allclose(item.stage_um, [2, 1, 1.25])
    np.testing.assert_allclose(item.points_um, [*square, square[0]])


def test_entries_are_changed_in_their_place(path: Path) -> None:
    item = read_navigator(path).item("7").with_entries(Acquire="0", Note="x", GroupID=None)
    assert list(item.entries)[-1] == "Note"
    assert "GroupID" not in item.entries
    assert list(item.entries).index("Acquire") == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AdocVersion = 2.00\n", "without items"),
        ("", "no AdocVersion"),
        (_NAV.replace("2.00", "3.00", 1), "AdocVersion = 3.00"),
        (_NAV.replace("AdocVersion = 2.00\n", ""), "no AdocVersion"),
        ("Version\t1.52\nLabel\tColor\n", "old form with tabs"),
        (_NAV.replace("Regis = 1\n", "Regis = 1\nRegis = 2\n", 1), "`Regis` a second time"),
        (_NAV.replace("Type = 0\n", "Type = 0\nnonsense\n"), "Line 29"),
        ("<?xml version='1.0'?><navigator><Item>", "is not XML"),
        ("<?xml version='1.0'?><session/>", "expected SerialEM's `navigator`"),
        ("<?xml version='1.0'?><navigator><Item/></navigator>", "has no name"),
    ],
)
def test_other_files_are_told(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(FormatError, match=words):
        read_navigator(path)


def test_damaged_entries_are_told(path: Path) -> None:
    item = read_navigator(path).items[0]
    with pytest.raises(FormatError, match="3 numbers"):
        _ = item.with_entries(StageXYZ="1 2").stage_um
    with pytest.raises(FormatError, match="whole number"):
        _ = item.with_entries(Regis="1.5").registration
    with pytest.raises(FormatError, match="no `MapScaleMat`"):
        item.with_entries(MapScaleMat=None).map_frame()
    with pytest.raises(FormatError, match="no map's"):
        item.with_entries(MapScaleMat="1 2 2 4").map_frame()
    with pytest.raises(FormatError, match="5 numbers"):
        _ = item.with_entries(PtsX="1 2").points_um
    with pytest.raises(InputError, match="does not exist"):
        read_navigator(path.with_name("none.nav"))


def test_labels_that_are_not_there_are_told(path: Path) -> None:
    navigator = read_navigator(path)
    with pytest.raises(InputError, match=r"no map of the label `7`; its maps: 1-A"):
        navigator.map_of("7")
    with pytest.raises(InputError, match="no item of the label `x`"):
        navigator.item("x")
    with pytest.raises(InputError, match="2 items of the label `7`"):
        replace(navigator, items=(*navigator.items, navigator.item("7"))).item("7")


def test_targets_file_is_read_word_by_word(tmp_path: Path) -> None:
    path = write_targets_file(tmp_path, "lam_1", np.array([[1.0, -2.0004], [3.5, 4.0]]))
    assert path.name == "lam_1_tgts.txt"
    targets: list[dict[str, str]] = []
    for line in path.read_text().splitlines():
        words = line.split(" ")
        if words[0] == "_tgt":
            targets.append({})
        elif words[0]:
            targets[-1][words[0]] = words[2]
    assert targets == [
        {"tsfile": "lam_1_ts_001.mrc", "stageX": "1.000", "stageY": "-2.000", "skip": "False"},
        {"tsfile": "lam_1_ts_002.mrc", "stageX": "3.500", "stageY": "4.000", "skip": "False"},
    ]
    with pytest.raises(InputError, match="cannot stand in a targets file"):
        write_targets_file(tmp_path, "my lamella", np.zeros((1, 2)))
