"""Tables of CTFFIND, Gctf and ctfplotter, both ways, against their columns read by other means."""

import re
from dataclasses import replace
from pathlib import Path

import exchange_phantom as phantom
import numpy as np
import pytest
import starfile
from exchange_phantom import phantom_series

from eucentric.errors import FormatError, InputError
from eucentric.geometry import TiltGeometry
from eucentric.io.exchange.ctf_tables import CTFFIND, CTFPLOTTER, FORMATS, GCTF
from eucentric.io.exchange.formats import geometry_format
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.mrc import write_mrc

GIVEN = Given(pixel_size_angstrom=2.5, image_shape=(80, 96))
DIRECTIONS = np.deg2rad(np.arange(0, 180, 20))


def without_poses(geometry: SeriesGeometry) -> SeriesGeometry:
    return replace(geometry, series=geometry.series.with_tilts([replace(t, pose=None) for t in geometry.series.tilts]))


def in_directions(first: np.ndarray, second: np.ndarray, angle_deg: np.ndarray) -> np.ndarray:
    """(row, direction): defocus by Rohou & Grigorieff 2015, equation 5."""
    first, second, angle = (np.asarray(v, dtype=float)[:, None] for v in (first, second, np.deg2rad(angle_deg)))
    return 0.5 * (first + second + (first - second) * np.cos(2 * (DIRECTIONS - angle)))


def defocus_of(geometry: SeriesGeometry) -> np.ndarray:
    fits = [t.ctf for t in geometry.series.tilts if t.ctf is not None]
    return in_directions(
        np.array([f.defocus_u_angstrom for f in fits]),
        np.array([f.defocus_v_angstrom for f in fits]),
        np.array([f.astigmatism_angle_deg for f in fits]),
    )


def columns(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(row, direction) of defocus in A, and phase shifts in degrees, of a written table."""
    if name == "ctffind":
        table = np.loadtxt(folder / "TS_1_ctffind4.txt")
        assert table[:, 0].tolist() == list(range(1, 12))
        return in_directions(*table[:, 1:4].T), np.degrees(table[:, 4])
    if name == "gctf":
        star = starfile.read(folder / "TS_1_gctf.star")
        pixel = star["rlnDetectorPixelSize"] * 1e4 / star["rlnMagnification"]
        np.testing.assert_allclose(pixel, 2.5)
        return in_directions(star["rlnDefocusU"], star["rlnDefocusV"], star["rlnDefocusAngle"]), np.array(
            star.get("rlnPhaseShift", np.zeros(len(star)))
        )
    lines = (folder / "TS_1.defocus").read_text().splitlines()
    table = np.array([[float(w) for w in line.split()] for line in lines[1:]])
    assert int(lines[0].split()[0]) == (5 if table.shape[1] == 8 else 1)
    assert lines[0].split()[5] == "3"
    return in_directions(*(10 * table[:, 4:6].T), table[:, 6]), table[:, 7] if table.shape[1] == 8 else np.zeros(11)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("phase", [False, True])
def test_columns_and_round_trip(tmp_path: Path, kind, phase: bool) -> None:
    geometry = without_poses(phantom.phantom_series(phase_shift=phase))
    made = kind.write(tmp_path, [geometry])
    assert {f.name for f in made.files} == {f.name for f in tmp_path.iterdir()}
    assert not any("alignment" in loss for loss in made.losses)
    found, phases = columns(tmp_path, kind.name)
    np.testing.assert_allclose(found, defocus_of(geometry), atol=0.1)
    np.testing.assert_allclose(phases, 72.0 if phase else 0.0, atol=1e-3)
    assert kind.recognises(tmp_path)
    assert [f.name for f in FORMATS if f.recognises(tmp_path)] == [kind.name]
    back = kind.read(tmp_path, GIVEN)[0]
    np.testing.assert_allclose(defocus_of(back), defocus_of(geometry), atol=0.1)
    for a, b in zip(geometry.series.tilts, back.series.tilts, strict=True):
        assert b.pose is None
        assert b.nominal_tilt_deg == a.nominal_tilt_deg
        assert a.ctf is not None
        assert b.ctf is not None
        assert b.ctf.phase_shift_deg == pytest.approx(a.ctf.phase_shift_deg, abs=1e-3)
        if kind is not CTFPLOTTER:
            assert (b.ctf.score, b.ctf.max_resolution_angstrom) == (0.2, 6.5)
            assert b.image is not None
            assert b.image.endswith("@TS_1.mrc")
    if kind is not CTFPLOTTER:
        assert back.series.optics == geometry.series.optics
        assert kind.read(tmp_path, Given(image_shape=(80, 96)))[0].series.pixel_size_angstrom == pytest.approx(2.5)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_defocus_is_that_of_the_middle_of_the_image(tmp_path: Path, kind, hand: float) -> None:
    """The specimen's plane under the middle of the image lies at a height z; the defocus there is D + hand z."""
    geometry = phantom.phantom_series(hand=hand, x_tilt=True, magnification=True)
    made = kind.write(tmp_path, [geometry])
    assert any("alignment" in loss for loss in made.losses)
    found, _ = columns(tmp_path, kind.name)
    projection = TiltGeometry.from_poses(geometry.series.poses)
    for t, tilt in enumerate(geometry.series.tilts):
        # points of the plane z = 0, moved until the image's middle shows them
        place = np.zeros(3)
        for _ in range(2):  # the projection is affine
            camera = projection.project(place)[t]
            steps = np.stack([projection.project(place + e)[t] - camera for e in np.eye(3)[:2]])[:, :2]
            place[:2] -= np.linalg.solve(steps.T, camera[:2])
        assert tilt.ctf is not None
        height = projection.project(place)[t, 2]
        assert found[t].mean() == pytest.approx(tilt.ctf.defocus_angstrom + hand * height, abs=0.2)


def test_excluded_images_keep_their_numbers(tmp_path: Path) -> None:
    geometry = phantom.phantom_series(excluded=True)
    gone = [replace(e, tilt=replace(e.tilt, ctf=None)) for e in geometry.series.excluded]
    geometry = replace(geometry, series=geometry.series.replace(excluded=tuple(gone)))
    losses = CTFFIND.write(tmp_path, [geometry]).losses
    assert any("-20, 50" in loss for loss in losses)
    assert np.loadtxt(tmp_path / "TS_1_ctffind4.txt")[:, 0].tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    back = CTFFIND.read(tmp_path / "TS_1_ctffind4.txt", GIVEN)[0].series
    assert [t.nominal_tilt_deg for t in back.tilts] == [t.nominal_tilt_deg for t in geometry.series.tilts]
    assert back.tilts[3].image == "5@TS_1.mrc"


def test_a_table_without_astigmatism_is_of_version_2(tmp_path: Path) -> None:
    geometry = without_poses(phantom.phantom_series())
    tilts = [
        replace(t, ctf=replace(t.ctf, defocus_v_angstrom=t.ctf.defocus_u_angstrom))
        for t in geometry.series.tilts
        if t.ctf
    ]
    CTFPLOTTER.write(tmp_path, [replace(geometry, series=geometry.series.with_tilts(tilts))])
    lines = (tmp_path / "TS_1.defocus").read_text().splitlines()
    assert len(lines[0].split()) == 6
    assert lines[0].split()[5] == "2"
    assert all(len(line.split()) == 5 for line in lines[1:])
    back = CTFPLOTTER.read(tmp_path, GIVEN)[0].series
    assert [t.ctf.defocus_u_angstrom for t in back.tilts if t.ctf] == pytest.approx(
        [t.ctf.defocus_u_angstrom for t in tilts if t.ctf], abs=0.1
    )


def test_angles_size_and_order_beside_the_table(tmp_path: Path) -> None:
    geometry = without_poses(phantom.phantom_series())
    CTFFIND.write(tmp_path, [geometry])
    (tmp_path / "TS_1.rawtlt").unlink()
    unknown = CTFFIND.read(tmp_path, GIVEN)[0]
    assert {t.nominal_tilt_deg for t in unknown.series.tilts} == {0.0}
    assert any("angles" in n for n in unknown.notes)
    with pytest.raises(InputError, match="angle file"):
        CTFPLOTTER.write(tmp_path / "out", [unknown])
    ours = geometry.series.tilts
    (tmp_path / "TS_1_TLT.txt").write_text("".join(f"{t.nominal_tilt_deg} {t.acquisition + 1} 3\n" for t in ours))
    with pytest.raises(InputError, match="size of its images"):
        CTFFIND.read(tmp_path, Given())
    write_mrc(tmp_path / "TS_1.mrc", np.zeros((11, 80, 96), np.float32), 2.5, "float32", is_volume=False)
    found = CTFFIND.read(tmp_path, Given())[0].series
    assert found.image_shape == (80, 96)
    assert [t.acquisition for t in found.tilts] == [t.acquisition for t in ours]
    assert found.tilts[0].image == f"1@{(tmp_path / 'TS_1.mrc').resolve()}"


def test_real_tables(shared_data: Path) -> None:
    folder = shared_data / "formats" / "session_TS_018"
    given = Given(image_shape=(3838, 3710))
    ctffind = CTFFIND.read(folder / "018_ctffind4.txt", given)[0]
    rows = np.loadtxt(folder / "018_ctffind4.txt")
    assert ctffind.series.pixel_size_angstrom == 1.327
    np.testing.assert_allclose(defocus_of(ctffind), in_directions(*rows[:, 1:4].T))
    gctf = GCTF.read(folder / "018_gctf.star", given)[0]
    star = starfile.read(folder / "018_gctf.star")
    np.testing.assert_allclose(
        defocus_of(gctf), in_directions(star["rlnDefocusU"], star["rlnDefocusV"], star["rlnDefocusAngle"])
    )
    assert gctf.series.pixel_size_angstrom == pytest.approx(14e4 / 71029.9375)
    assert gctf.series.tilts[1].image == "2@split.mrc"
    imod = shared_data / "formats" / "imod"
    plotter = CTFPLOTTER.read(imod / "test_imod.defocus", replace(given, pixel_size_angstrom=2.0))[0]
    nanometres = np.loadtxt(imod / "test_defocus.txt")
    np.testing.assert_allclose(defocus_of(plotter), 10 * nanometres[:, None].repeat(9, 1))
    assert plotter.series.tilts[0].nominal_tilt_deg == -50.99
    assert [f.name for f in FORMATS if f.recognises(folder / "018_gctf.star")] == ["gctf"]
    assert [f.name for f in FORMATS if f.recognises(folder / "018_ctffind4.txt")] == ["ctffind"]
    assert not any(f.recognises(shared_data / "formats" / "relion" / "relion_3.0.star") for f in FORMATS)


@pytest.mark.parametrize(
    ("kind", "name", "text", "words"),
    [
        (CTFFIND, "x.txt", "# CTFFind version 4.1, \n1 2 3\n", "3 numbers"),
        (CTFFIND, "x.txt", "# CTFFind version 4.1, \n1 nan 3 4 5 6 7\n", "not numbers"),
        (CTFFIND, "x.txt", "# CTFFind version 4.1, \n1e400 2 3 4 5 6 7\n", "not numbers"),
        (CTFFIND, "x.txt", "# CTFFind\n", "no estimate"),
        (GCTF, "x.star", "data_\nloop_\n_rlnDefocusU #1\nabc\n", "expected a number"),
        (GCTF, "x.star", "data_\nloop_\n_rlnVoltage #1\n300\n", "no column rlnDefocusU"),
        (CTFPLOTTER, "x.defocus", "1 0 0 0 0 3\n1 1 0 0 3 3\n", "expected 7"),
        (CTFPLOTTER, "x.defocus", "words\n", "expected numbers"),
        (CTFPLOTTER, "x.defocus", "nan 0 0 0 0 3\n1 1 0 0 3 3\n", "not numbers"),
    ],
)
def test_damage_is_told(tmp_path: Path, kind, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((FormatError, InputError), match=words):
        kind.read(tmp_path / name, GIVEN)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    bare = phantom.phantom_series(ctf=False)
    for kind in FORMATS:
        with pytest.raises(InputError, match="no CTF"):
            kind.write(tmp_path, [bare])
        with pytest.raises(InputError, match="does not exist"):
            kind.read(tmp_path / "none", GIVEN)
        stem = replace(phantom.phantom_series(), series=phantom.phantom_series().series.replace(optics=None))
        with pytest.raises(InputError, match="scanning"):
            kind.write(tmp_path, [stem])
        assert re.fullmatch(r"[a-z]+", kind.name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "file"), [("gctf", "mine.star"), ("ctffind", "mine.txt"), ("ctfplotter", "mine.defocus")]
)
def test_a_table_has_the_name_that_was_given(form, file, tmp_path):
    written = geometry_format(form).write(tmp_path / file, [phantom_series()])
    assert written.files[0] == tmp_path / file
    assert written.files[0].is_file()
    (back,) = geometry_format(form).read(tmp_path / file, Given(pixel_size_angstrom=2.5, image_shape=(80, 96)))
    assert len(back.series.tilts) == 11
