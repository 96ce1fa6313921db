"""`eucentric acquisition targets`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.figures.acquisition_targets import MapPicture
from eucentric.io.mrc import write_mrc
from eucentric.io.navigator import new_item, read_navigator, write_navigator
from eucentric.io.plan_files import write_plan
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.target_map import find_map, map_picture

_MAP = """AdocVersion = 2.00
LastSavedAs = in.nav

[Item = M]
Color = 2
StageXYZ = 100 -50 10
NumPts = 5
Regis = 1
Type = 2
MapFile = C:\\somewhere\\map.mrc
MapID = 4711
MapMontage = 0
MapSection = 1
MapScaleMat = 0 -10 -10 0
MapWidthHeight = 300 200
PtsX = 110 110 90 90 110
PtsY = -35 -65 -65 -35 -35

[TSParam = 0]
TiltIncrement = 3
"""
_OPTIONS = ["--map", "M", "--beam", "1.2", "--pixel-size", "1.5", "--axis-in-image", "85"]


@pytest.fixture
def navigator(tmp_path: Path) -> Path:
    path = tmp_path / "in.nav"
    path.write_text(_MAP)
    read = read_navigator(path)
    items = [
        new_item(
            "P1",
            "point",
            np.array([[100, -50.0]]),
            10,
            registration=1,
            map_id=1,
            acquire=True,
            drawn_on=4711,
            note="mine",
        ),
        new_item("P2", "point", np.array([[100.4, -50.2]]), 10, registration=1, map_id=2, acquire=True, drawn_on=4711),
        new_item("P3", "point", np.array([[104, -47.0]]), 10, registration=1, map_id=3),
        new_item("Q", "point", np.array([[104, -47.0]]), 10, registration=2, map_id=4),
        new_item(
            "AREA", "polygon", np.array([[95, -55], [105, -55], [105, -45], [95, -45.0]]), 10, registration=1, map_id=5
        ),
    ]
    write_navigator(path, replace(read, items=(*read.items, *items)))
    return path


def _run(navigator: Path, *more: str) -> int:
    return run(
        ["acquisition", "targets", str(navigator), *_OPTIONS, "--output", str(navigator.with_name("out.nav")), *more]
    )


def test_navigator_comes_back_with_targets_and_spots(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = navigator.read_bytes()
    assert _run(navigator, "--json") == 1  # the first two are too near
    said = capsys.readouterr().out
    record = json.loads(said.splitlines()[-1])
    assert "Move P2 by" in said
    assert record["conflicts"][0]["kind"] == "beam"
    assert navigator.read_bytes() == before
    made = read_navigator(navigator.with_name("out.nav"))
    assert [item.label for item in made.items[:6]] == ["M", "P1", "P2", "P3", "Q", "AREA"]
    assert [other.kind for other in made.others] == ["TSParam"]
    one, two = made.item("P1"), made.item("P2")
    assert one.is_to_acquire
    assert two.is_to_acquire
    assert one.group_id == two.group_id
    assert one.note == "mine"
    assert two.note.startswith("target ")
    assert not made.item("P3").is_to_acquire
    for label in ("P1F", "P1K", "P2F", "P2K"):
        spot, target = made.item(label), made.item(label[:2])
        assert spot.stage_um[1] == pytest.approx(target.stage_um[1])  # the axis is the stage's x
        assert abs(spot.stage_um[0] - target.stage_um[0]) > 0.6
        assert not spot.is_to_acquire
        assert spot.registration == 1
        assert spot.drawn_on == 4711
    beam = made.item("P1B").points_um
    assert np.ptp(beam[:, 0]) == pytest.approx(1.2, abs=2e-3)
    assert np.ptp(beam[:, 1]) == pytest.approx(1.2 / np.cos(np.deg2rad(60)), abs=5e-3)
    ids = [item.map_id for item in made.items]
    assert len(set(ids)) == len(ids)


def test_pixels_are_places_of_the_image_with_y_upwards(navigator: Path) -> None:
    # the map is turned: shown x is minus stage y, shown y (down) is minus stage x, 10 pixels a um
    assert _run(navigator, "--pixels", "180", "120") == 0
    made = read_navigator(navigator.with_name("out.nav"))
    np.testing.assert_allclose(made.item("T01").stage_um, [102, -53, 10], atol=1e-3)


def test_stage_positions_and_groups_for_pacetomo(navigator: Path) -> None:
    places = [word for x, y in ((100, -50), (105, -52), (140, -50)) for word in ("--stage", str(x), str(y))]
    assert _run(navigator, *places, "--pacetomo", "lam") == 0
    folder = navigator.parent
    made = read_navigator(folder / "out.nav")
    targets = [made.item(f"T0{n}") for n in (1, 2, 3)]
    acquired = [t for t in targets if t.is_to_acquire]
    assert sorted(t.note for t in acquired) == ["lam_01_tgts.txt", "lam_02_tgts.txt"]
    texts = [(folder / f"lam_0{n}_tgts.txt").read_text() for n in (1, 2)]
    assert [text.count("_tgt = ") for text in texts] == [2, 1]
    for text, item in zip(texts, sorted(acquired, key=lambda t: t.note), strict=True):
        assert f"stageX = {item.stage_um[0]:.3f}\n" in text.split("_tgt = 002")[0]


def test_a_beam_in_the_margin_is_not_on_the_field(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # half a field of 0.3 um and half a beam of 1.2 um, and of the margin of 0.1 um a half
    camera = ["--camera", "4000", "2000", "--axis-in-image", "0"]
    places = ["--stage", "100", "-50", "--stage", "100.8", "-50"]
    usual = [word for word in _OPTIONS if word not in ("--axis-in-image", "85")]
    output = str(navigator.with_name("out.nav"))
    assert run(["acquisition", "targets", str(navigator), *usual, *camera, *places, "--output", output]) == 1
    said = capsys.readouterr().out
    assert "the beam of T02 is on the margin of the field of T01" in said
    assert "is on the field" not in said
    assert "Move T02 by +0.05, +0.00 um" in said


def _montage(path: Path) -> None:
    # pixels of 0.1 um, the image's x along the stage's -y and its y along x
    lines = ["ImageSize = 100 60", "Montage = 1", ""]
    for n, (x, y) in enumerate([(0, 0), (90, 0), (0, 50), (90, 50)]):
        stage = 95 + 0.1 * (y + 30), -45 - 0.1 * (x + 50)
        lines += [f"[ZValue = {n}]", f"PieceCoordinates = {x} {y} 0", f"StagePosition = {stage[0]} {stage[1]}"]
        lines += ["StageZ = -7.5", "TiltAngle = 4", ""]
    path.write_text("\n".join(lines))


def test_a_montage_serves_as_map(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    montage, output, picture = (navigator.with_name(name) for name in ("m.mdoc", "out.nav", "p.png"))
    _montage(montage)
    start = ["acquisition", "targets", str(navigator), "--map", str(montage), *_OPTIONS[2:], "--output", str(output)]
    assert run([*start, "--pixels", "20", "80"]) == 2
    assert "the registrations 1, 2" in capsys.readouterr().err
    read = read_navigator(navigator)
    write_navigator(navigator, replace(read, items=tuple(item for item in read.items if item.label != "Q")))
    assert run([*start, "--pixels", "20", "80", "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "note: Map m.mdoc was taken at 4 degrees" in said
    assert "are 0.00 um (r.m.s.) from its frame" in said
    made = read_navigator(output).item("T01")
    np.testing.assert_allclose(made.stage_um, [95 + 8, -45 - 2, -7.5], atol=1e-3)
    assert made.drawn_on is None
    assert made.registration == 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    # again on its own output; and points set to be acquired, of which none is drawn on the montage
    again = [word if word != str(navigator) else str(output) for word in start]
    assert run([*again, "--points", "T01", "--overwrite"]) == 0
    assert [item.label for item in read_navigator(output).items][-4:] == ["T01", "T01F", "T01K", "T01B"]
    assert run([*start, "--overwrite"]) == 1
    assert read_navigator(output).item("P2F").note == "focus of P2"
    assert run([*start, "--pixels", "191", "80", "--overwrite"]) == 2
    assert "outside map `m.mdoc`, which is 190 x 110" in capsys.readouterr().err


def test_of_several_montages_the_first_is_named(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    montage, output = navigator.with_name("m.mdoc"), navigator.with_name("out.nav")
    _montage(montage)
    text = montage.read_text()
    _, pieces = text.split("[ZValue", 1)
    montage.write_text(text + "[ZValue" + pieces.replace(" 0\nStagePosition", " 1\nStagePosition"))
    read = read_navigator(navigator)
    write_navigator(navigator, replace(read, items=tuple(item for item in read.items if item.label != "Q")))
    start = ["acquisition", "targets", str(navigator), "--map", str(montage), *_OPTIONS[2:], "--output", str(output)]
    assert run([*start, "--pixels", "20", "80"]) == 0
    assert "note: m.mdoc holds 2 montages; the targets lie on the first." in capsys.readouterr().out


def test_the_axis_in_the_image_is_asked_for(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["acquisition", "targets", str(navigator), *_OPTIONS[:-2], "--points", "P1"]
    start += ["--output", str(navigator.with_name("out.nav"))]
    assert run([*start, "--camera", "5760", "4092"]) == 2
    assert "`--axis-in-image` is missing: on a camera of 5760 x 4092" in capsys.readouterr().err
    assert run(start) == 0
    assert "note: --axis-in-image was not given" in capsys.readouterr().out
    assert run([*start, "--axis-in-image", "0", "--overwrite"]) == 0
    assert "note: " not in capsys.readouterr().out


def test_a_plan_gives_what_no_option_says(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = navigator.with_name("plan.toml")
    scheme = TiltScheme(min_deg=-54, max_deg=42, step_deg=6, start_deg=-6, total_dose=80)
    microscope = PlannedMicroscope(pixel_size_angstrom=2.0, image_size_px=(3000, 1000), tilt_axis_deg=90.0)
    specimen = PlannedSpecimen(pretilt_deg=8.0, thickness_angstrom=1000.0)
    write_plan(plan, AcquisitionPlan(scheme=scheme, microscope=microscope, specimen=specimen))
    start = ["acquisition", "targets", str(navigator), "--map", "M", "--beam", "1.2", "--points", "P1", "--overwrite"]
    start += ["--output", str(navigator.with_name("out.nav")), "--json"]
    usual = ["--min-tilt", "-54", "--max-tilt", "42", "--step", "6", "--start", "-6", "--dose", "80"]
    usual += ["--camera", "3000", "1000", "--pretilt", "8", "--pixel-size", "2", "--axis-in-image", "90"]
    outputs = []
    for options in (["--plan", str(plan)], [*usual, "--thickness", "100"]):
        assert run([*start, *options]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    record = json.loads(outputs[0].splitlines()[-1])
    assert record["tilts_deg"] == scheme.angles_in_order().tolist()
    # turned by 90 degrees the camera's long side, 0.6 um, lies along the axis
    assert abs(record["targets"][0]["focus_um"][0] - 100) == pytest.approx(0.3 + 0.6 + 0.1, abs=0.026)
    assert run([*start, "--plan", str(plan), "--max-tilt", "30", "--axis-in-image", "0"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert max(record["tilts_deg"]) == 30
    assert min(record["tilts_deg"]) == -54
    assert abs(record["targets"][0]["focus_um"][0] - 100) == pytest.approx(0.1 + 0.6 + 0.1, abs=0.026)
    assert run(start) == 2
    assert "`--pixel-size` is missing" in capsys.readouterr().err


def test_an_area_is_filled_and_drawn(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(navigator, "--fill", "AREA", "--picture", str(navigator.with_name("p.png"))) == 0
    assert "No conflicts." in capsys.readouterr().out
    made = read_navigator(navigator.with_name("out.nav"))
    new = [item for item in made.items if item.label.startswith("T") and len(item.label) == 3]
    assert len(new) > 6
    assert all(95 < item.stage_um[0] < 105 and -55 < item.stage_um[1] < -45 for item in new)
    assert navigator.with_name("p.png").read_bytes().startswith(b"\x89PNG")


def test_an_area_is_filled_beside_its_bars(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = read_navigator(navigator)
    bar = new_item(
        "BAR", "polygon", np.array([[90, -51], [110, -51], [110, -49], [90, -49.0]]), 10, registration=1, map_id=6
    )
    write_navigator(navigator, replace(read, items=(*read.items, bar)))
    assert _run(navigator, "--fill", "AREA", "--bars", "BAR") == 0
    assert "No conflicts." in capsys.readouterr().out
    made = read_navigator(navigator.with_name("out.nav"))
    new = [item for item in made.items if item.label.startswith("T") and len(item.label) == 3]
    assert len(new) > 6


def test_the_image_of_the_map_lies_where_its_frame_does(navigator: Path) -> None:
    images = np.zeros((2, 200, 300), dtype=np.float32)
    images[1, 120, 180] = 1.0
    write_mrc(navigator.with_name("map.mrc"), images, 1000.0, is_volume=False)
    picture = map_picture(find_map(read_navigator(navigator), "M", navigator))
    assert isinstance(picture, MapPicture)
    assert picture.image is not None
    row, column = np.unravel_index(int(picture.image.argmax()), picture.image.shape)
    low, right, _, up = picture.corners_um
    rows, columns = picture.image.shape
    place = low + (right - low) * (column + 0.5) / columns + (up - low) * (row + 0.5) / rows
    np.testing.assert_allclose(place, [102.05, -53.05], atol=1e-6)


@pytest.mark.parametrize("more", [[], ["--pacetomo", "lam"]])
def test_running_again_replaces_what_was_made(navigator: Path, more: list[str]) -> None:
    mine = new_item("P9F", "point", np.array([[99, -51.0]]), 10, registration=1, map_id=77, note="focus here")
    read = read_navigator(navigator)
    write_navigator(navigator, replace(read, items=(*read.items, mine)))
    _run(navigator, *more)
    made = navigator.with_name("out.nav")
    first = read_navigator(made)
    moved = {"StageXYZ": "103 -53 10", "PtsX": "103", "PtsY": "-53"}
    items = tuple(item.with_entries(**moved) if item.label == "P2" else item for item in first.items)
    write_navigator(made, replace(first, items=items))
    again = ["acquisition", "targets", str(made), *_OPTIONS, "--output", str(made), "--overwrite", *more]
    assert run(again) == 0
    second = read_navigator(made)
    assert sorted(item.label for item in second.items) == sorted(item.label for item in first.items)
    assert second.item("P2F").stage_um[1] == pytest.approx(-53)
    assert np.ptp(second.item("P2B").points_um[:, 1]) > 2
    assert second.item("P2B").stage_um[0] == pytest.approx(103, abs=1e-3)
    # what no longer has its target goes as well, the spots of another plan stay
    rest = tuple(item for item in second.items if item.label != "P2")
    write_navigator(made, replace(second, items=rest))
    assert run([*again, "--points", "P3"]) == 0
    labels = {item.label for item in read_navigator(made).items}
    assert {"P1F", "P1K", "P1B", "P3F", "P3K", "P3B", "P9F"} <= labels
    assert not {"P2F", "P2K", "P2B"} & labels


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--map", "P1"], "no map of the label `P1`"),
        (["--points", "Q"], "registration 2, the map 1"),
        (["--points", "AREA"], "expected a point"),
        (["--fill", "P1"], "`P1` is a point; expected a polygon"),
        (["--camera", "0", "0"], "`--camera` is 0 in the command; expected a number of at least 1"),
        (["--points", "P1", "--fill", "AREA"], "in several ways"),
        (["--pixels", "301", "5"], "outside map `M`, which is 300 x 200"),
        (["--max-tilt", "75"], "the stage goes to 70"),
        (["--beam", "-1"], "`--beam` is -1 um in the command; expected a number greater than 0 (of the illuminated"),
        (
            ["--thickness", "-5"],
            "`--thickness` is -5 nm in the command; expected a number of at least 0 (of the specimen",
        ),
        (["--margin", "-0.1"], "`--margin` is -0.1 um"),
        (
            ["--pixel-size", "-1.5"],
            "`--pixel-size` is -1.5 in the command; expected a number greater than 0 (A; of the",
        ),
        (["--spots", "all"], "`--spots` is `all`"),
        (["--pacetomo", "my lamella"], "cannot stand in a targets file"),
    ],
)
def test_what_cannot_be_done_is_told(
    navigator: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    usual = [o for pair in zip(_OPTIONS[::2], _OPTIONS[1::2], strict=True) if pair[0] not in options for o in pair]
    output = navigator.with_name("out.nav")
    assert run(["acquisition", "targets", str(navigator), *usual, *options, "--output", str(output)]) == 2
    assert words in capsys.readouterr().err
    assert not output.exists()


def test_items_without_registration_are_told(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = navigator.read_text()
    at = text.index("[Item = P2]")
    navigator.write_text(text[:at] + text[at:].replace("Regis = 1\n", "", 1))
    assert _run(navigator) == 2
    assert "`P2` of the navigator has no registration" in capsys.readouterr().err


def test_nothing_is_overwritten_unasked(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = navigator.read_bytes()
    assert run(["acquisition", "targets", str(navigator), *_OPTIONS, "--output", str(navigator)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert navigator.read_bytes() == before
    assert _run(navigator, "--points", "P1") == 0
    assert _run(navigator, "--points", "P1") == 2
    assert _run(navigator, "--points", "P1", "--overwrite") == 0


def test_a_navigator_without_targets_is_told(navigator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    navigator.write_text(_MAP)
    assert _run(navigator) == 2
    assert "no points set to be acquired on map `M`" in capsys.readouterr().err
