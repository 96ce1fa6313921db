"""The command `boxes`: places in, small volumes out, without a tomogram."""

import json

import numpy as np
import pytest

from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.star import read_star, write_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.boxes import read_positions
from eucentric.simulation import asymmetric_phantom

PIXEL = 6.0
SHAPE = (96, 104)
PHANTOM = asymmetric_phantom(110.0)
PLACES = np.array([[30.0, -24.0, 18.0], [-36.0, 30.0, -12.0]])
BOX = 24


@pytest.fixture
def table(tmp_path):
    """An aligned series of the phantom over half a turn, so that nothing is missing."""
    root = tmp_path / "project"
    (root / "align").mkdir(parents=True)
    (root / "eucentric.toml").write_text("")
    angles = np.arange(-88.0, 89.0, 4.0)
    geometry = TiltGeometry.build(angles, z_rot_deg=25.0, shifts_angstrom=[[13.0, -8.0]] * len(angles))
    write_mrc(root / "stack.mrc", PHANTOM.project(geometry, SHAPE, PIXEL).numpy(), PIXEL, "float32", is_volume=False)
    tilts = [
        Tilt(
            nominal_tilt_deg=float(angle),
            acquisition=i,
            dose=1.0,
            pre_exposure=float(i),
            image=f"{i + 1}@stack.mrc",
            pose=TiltPose(y_tilt_deg=float(angle), z_rot_deg=25.0, x_shift_angstrom=13.0, y_shift_angstrom=-8.0),
        )
        for i, angle in enumerate(angles)
    ]
    series = TiltSeries.sorted(tilts, name="TS_01", pixel_size_angstrom=PIXEL, image_shape=SHAPE)
    write_tilt_series_set(root / "align" / "tilt_series.star", [series], root)
    return root / "align" / "tilt_series.star"


def _truth(place):
    whole = PHANTOM.volume((96, 96, 96), PIXEL).numpy()
    z, y, x = (round(c / PIXEL) + 48 - BOX // 2 for c in place[::-1])
    return whole[z : z + BOX, y : y + BOX, x : x + BOX]


def _correlation(a, b):
    inside = (slice(3, -3),) * 3
    return float(np.corrcoef(a[inside].ravel(), b[inside].ravel())[0, 1])


def test_each_place_gets_what_is_there(program, table, tmp_path):
    output = tmp_path / "boxes"
    at = [word for place in PLACES for word in ("--at", *place)]
    code, out, err = program(
        "boxes", table, *at, "--box-size", BOX, "--output", output, "--no-ctf", "--no-dose-weighting", "--json"
    )
    assert code == 0, err
    made = json.loads(out.splitlines()[-1])["boxes"]
    assert len(made) == 2
    for path, place in zip(made, PLACES, strict=True):
        box, header = read_mrc(path)
        assert header.pixel_size_angstrom == PIXEL
        right = _correlation(box, _truth(place))
        assert right > 0.97
        # a mirrored box, one a voxel off, or that of the mirrored place
        for wrong in (box[::-1], box[:, ::-1], box[:, :, ::-1], np.roll(box, 1, 2), np.roll(box, 1, 0)):
            assert _correlation(wrong, _truth(place)) < right - 0.01
        assert _correlation(box, _truth(-place)) < 0.9
    listed = read_star(output / "boxes.star")["particles"]
    assert np.allclose(listed["rlnCenteredCoordinateZAngst"], PLACES[:, 2])


def test_places_come_from_particles_of_the_series_and_from_text(program, table, tmp_path):
    star, text = tmp_path / "particles.star", tmp_path / "places.txt"
    names = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    rows = np.vstack([PLACES, [[0.0, 0.0, 0.0]]])
    columns = {name: rows[:, i].tolist() for i, name in enumerate(names)}
    write_star(star, {"particles": {"rlnTomoName": ["TS_01", "TS_01", "TS_02"], **columns}})
    np.savetxt(text, PLACES)
    for number, positions in enumerate((star, text)):
        code, _, err = program(
            "boxes", table, "--positions", positions, "--box-size", 16, "--pixel-size", 12, "--no-ctf",
            "--output", tmp_path / f"out{number}",
        )  # fmt: skip
        assert code == 0, err
    first, second = (read_mrc(tmp_path / f"out{n}" / "TS_01_0002.mrc")[0] for n in (0, 1))
    assert np.array_equal(first, second)
    assert not (tmp_path / "out0" / "TS_01_0003.mrc").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "0", "0", "0"], "No contrast transfer"),
        (["--no-ctf"], "either --positions"),
        (["--at", "0", "0", "0", "--positions", "missing.star"], "either --positions"),
        (["--positions", "missing.star", "--no-ctf"], "does not exist"),
        (["--at", "0", "0", "0", "--no-ctf", "--box-size", "2"], "8 or more"),
        (["--at", "0", "0", "0", "--no-ctf", "--series", "TS_09"], "TS_09"),
    ],
)
def test_wrong_input_is_told_in_words(program, table, tmp_path, arguments, words):
    size = [] if "--box-size" in arguments else ["--box-size", "16"]
    code, _, err = program("boxes", table, *arguments, *size, "--output", tmp_path / "out")
    assert code == 2
    assert words in err


def test_origins_are_taken_off_and_places_that_no_image_shows_are_named(program, table, tmp_path):
    labels = [f"rln{kind}{axis}Angst" for kind in ("CenteredCoordinate", "Origin") for axis in "XYZ"]
    values = [[30.0, 99999.0], [-24.0, 0.0], [18.0, 0.0], [12.0, 0.0], [-6.0, 0.0], [0.0, 0.0]]
    write_star(tmp_path / "p.star", {"particles": dict(zip(labels, values, strict=True))})
    words = ("--box-size", 16, "--no-ctf", "--output")
    code, out, err = program("boxes", table, "--positions", tmp_path / "p.star", *words, tmp_path / "a")
    assert code == 0, err
    assert "Box 2 is empty" in out
    assert program("boxes", table, "--at", 18, -18, 18, *words, tmp_path / "b")[0] == 0
    first, second = (read_mrc(tmp_path / name / "TS_01_0001.mrc")[0] for name in "ab")
    assert np.array_equal(first, second)
    code, _, err = program("boxes", table, "--at", 0, 0, 0, "--pixel-size", -1, *words, tmp_path / "c")
    assert code == 2
    assert "positive" in err


def test_nothing_is_replaced_unasked(program, table, tmp_path):
    arguments = ["boxes", table, "--at", "0", "0", "0", "--no-ctf", "--box-size", "16", "--output", tmp_path / "out"]
    assert program(*arguments)[0] == 0
    code, _, err = program(*arguments)
    assert code == 2
    assert "--overwrite" in err
    assert program(*arguments, "--overwrite")[0] == 0


def test_a_table_of_positions_with_other_columns_is_refused(program, table, tmp_path):
    (tmp_path / "two.txt").write_text("1 2\n3 4\n")
    (tmp_path / "words.txt").write_text("a b c\n")
    for name, words in (("two.txt", "three"), ("words.txt", "table of numbers")):
        code, _, err = program(
            "boxes", table, "--positions", tmp_path / name, "--no-ctf", "--box-size", "16", "--output", tmp_path / "o"
        )
        assert code == 2
        assert words in err


def test_origins_in_turned_frames_are_taken_off_in_them(tmp_path):
    values = {f"rlnCenteredCoordinate{a}Angst": [x] for a, x in zip("XYZ", (10.0, 20.0, 30.0), strict=True)}
    values |= {"rlnTomoName": ["TS_01"], "rlnOriginXAngst": [5.0], "rlnOriginYAngst": [0.0], "rlnOriginZAngst": [0.0]}
    values |= {"rlnTomoSubtomogramRot": [90.0], "rlnTomoSubtomogramTilt": [0.0], "rlnTomoSubtomogramPsi": [0.0]}
    write_star(tmp_path / "p.star", {"particles": values})
    got = read_positions(tmp_path / "p.star", "TS_01")
    # RELION's matrix of rot = 90 degrees takes x to -y: Rz(rot) transposed, reference to specimen
    np.testing.assert_allclose(got, [[10.0, 25.0, 30.0]], atol=1e-9)
