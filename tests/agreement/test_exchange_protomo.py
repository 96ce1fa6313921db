"""Protomo's geometry puts points where Protomo's own matrices (`TomotiltMat`, `TomogeomLoad`), written out here, put them."""

import re
from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.exchange.protomo import FORMAT
from eucentric.io.exchange.records import Given
from eucentric.io.mrc import write_mrc


def rz(deg: float) -> np.ndarray:
    """Rows are the new axes, as Protomo has its rotations: places are rows, times the matrix."""
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])


def ry(deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def rx(deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def by_protomo(text: str, pixel: float) -> np.ndarray:
    """(image, point, 3) of a file with one axis; places of the specimen are turned so that an axis on y is ours."""

    def found(pattern: str, default: str = "0") -> float:
        match = re.search(pattern, text)
        return float(match[1] if match else default)

    azimuth = found(r"AZIMUTH\s+(\S+)")
    elevation, offset = found(r"ELEVATION\s+(\S+)"), found(r"OFFSET\s+(\S+)")
    origins = {
        int(n): (float(x), float(y)) for n, x, y in re.findall(r"IMAGE (\d+)\s+ORIGIN\s+\[\s*(\S+)\s+(\S+)\s*\]", text)
    }
    tilts = re.findall(r"IMAGE (\d+)\s+TILT ANGLE\s+(\S+)\s+ROTATION\s+(\S+)", text)
    scales = {int(n): float(s) for n, s in re.findall(r"IMAGE (\d+)\s+SCALE\s+(\S+)", text)}
    out = []
    for number, tilt, rotation in tilts:
        q = ry(-elevation) @ rz(azimuth)
        whole = q.T @ rx(float(tilt) + offset) @ q @ rz(float(rotation))
        in_map = points() @ rz(azimuth - 90.0)  # our specimen has the axis on y, Protomo's at the azimuth
        there = in_map @ whole
        there[:, :2] = there[:, :2] * scales.get(int(number), 1.0) / pixel + origins[int(number)]
        out.append(there)
    return np.array(out)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_points_lie_where_protomo_puts_them(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, magnification=True)
    (file,) = FORMAT.write(tmp_path, [geometry]).files
    np.testing.assert_allclose(by_protomo(file.read_text(), 2.5), seen(geometry), atol=0.01)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_a_series_comes_back(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, magnification=True, excluded=True)
    written = FORMAT.write(tmp_path, [geometry])
    assert FORMAT.recognises(tmp_path)
    assert FORMAT.recognises(written.files[0])
    (back,) = FORMAT.read(tmp_path, Given(image_shape=(size_xy[1], size_xy[0])))
    np.testing.assert_allclose(seen(back), seen(geometry), atol=0.01)
    assert back.series.pixel_size_angstrom == pytest.approx(2.5)
    told = " ".join(written.losses)
    for lost in ("2 views are excluded", "contrast transfer (defocus 3", "dose", "order", "split the stack"):
        assert lost in told
    assert "magnification" not in told


VERSION_1 = """
 TILT SERIES ts7

   PARAMETER
     PSI      0.000
     THETA    0.000
     PHI      0.000

   PARAMETER

     TILT AZIMUTH   90.000

   IMAGE 0     FILE one
   IMAGE 1     FILE two

   IMAGE 0     ORIGIN  [   50.000   40.500 ]
   IMAGE 1     ORIGIN  [   52.000   40.000 ]

   IMAGE 0     TILT ANGLE  -30.000   ROTATION    2.000
   IMAGE 1     TILT ANGLE    0.000   ROTATION    0.000

 END
"""

ELEVATED = """
 TILT SERIES s (* a comment IMAGE 7 *)
   PARAMETER
     PIXEL SIZE 0.25 nm
   AXIS
     TILT AZIMUTH   -3.500
     TILT ELEVATION  4.000
     TILT OFFSET     1.500

   IMAGE 1  ORIGIN [ 48.500 41.250 ]
   IMAGE 2  ORIGIN [ 47.000 39.000 ]
   IMAGE 3  ORIGIN [ 45.000 38.000 ]
   IMAGE 1  TILT ANGLE  -48.000 ROTATION 0.300
   IMAGE 2  TILT ANGLE    2.000 ROTATION 0.000
   IMAGE 3  TILT ANGLE   51.000 ROTATION -0.700
   IMAGE 2  SCALE 1.010000
   IMAGE 1  CORRECTION 1.01 0.99 5.0
   REFERENCE IMAGE 2
 END
"""


def test_a_file_of_version_1_is_read_with_its_images(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("one", "two"):
        write_mrc(tmp_path / "raw" / f"{name}.mrc", np.zeros((1, 80, 101), np.float32), 3.0)
    file = tmp_path / "ts7.tlt"
    file.write_text(VERSION_1)
    (back,) = FORMAT.read(file, Given())
    series = back.series
    assert (series.name, series.pixel_size_angstrom, series.image_shape) == ("ts7", pytest.approx(3.0), (80, 101))
    pose = series.tilts[0].pose
    assert (pose.y_tilt_deg, pose.z_rot_deg) == (-30.0, 2.0)
    assert (pose.x_shift_angstrom, pose.y_shift_angstrom) == pytest.approx((0.0, 1.5))
    assert series.tilts[1].image == str((tmp_path / "raw" / "two.mrc").resolve())


def test_axes_that_rise_from_the_image_are_followed(tmp_path: Path) -> None:
    file = tmp_path / "s.tlt"
    file.write_text(ELEVATED)
    (back,) = FORMAT.read(file, Given(image_shape=(80, 96)))
    there = by_protomo(ELEVATED.replace("TILT SERIES s (* a comment IMAGE 7 *)", ""), 2.5)
    np.testing.assert_allclose(seen(back), there, atol=1e-6)
    assert max(abs(t.pose.x_tilt_deg) for t in back.series.tilts) > 1
    assert any("CORRECTION" in note for note in back.notes)


def test_binary_records_are_refused_with_the_way_that_works(tmp_path: Path) -> None:
    file = tmp_path / "ts.i3t"
    file.write_bytes(bytes(range(256)) * 20)
    assert FORMAT.recognises(file)
    for place in (file, tmp_path):
        with pytest.raises(FormatError, match=r"binary record.*geom\(1\)\.write"):
            FORMAT.read(place, Given())


def test_damaged_files_are_told_in_words(tmp_path: Path) -> None:
    (file,) = FORMAT.write(tmp_path, [phantom_series(magnification=True)]).files
    whole = file.read_bytes()
    refused = 0
    for copy in damaged_copies(whole, count=15):
        file.write_bytes(copy)
        try:
            FORMAT.read(file, Given(image_shape=(80, 96), pixel_size_angstrom=2.5))
        except EucentricError:
            refused += 1
    assert refused > 12


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ORIGIN [ 47.000 39.000 ]", "ORIGIN [ 47.000 ]", "ORIGIN of one number"),
        ("ORIGIN [ 47.000 39.000 ]", "ORIGIN [ a b ]", "expected numbers such as"),
        ("TILT ANGLE    2.000", "TILT ANGLE nan", "expected a number"),
        ("IMAGE 2  TILT ANGLE    2.000 ROTATION 0.000", "", "Image 2 of .* has no TILT ANGLE"),
        ("SCALE 1.010000", "SCALE 0", "scale of 0"),
        ("TILT SERIES", "SERIES", "no geometry of Protomo"),
    ],
)
def test_wrong_values_are_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = tmp_path / "s.tlt"
    file.write_text(ELEVATED.replace(old, new))
    with pytest.raises(EucentricError, match=words):
        FORMAT.read(file, Given(image_shape=(80, 96)))


def test_angles_of_imod_are_not_taken_for_protomos(tmp_path: Path) -> None:
    file = tmp_path / "a.tlt"
    file.write_text("-3.00\n0.00\n3.00\n")
    assert not FORMAT.recognises(file)
    assert not FORMAT.recognises(tmp_path)
    with pytest.raises(InputError):
        FORMAT.read(tmp_path, Given())
