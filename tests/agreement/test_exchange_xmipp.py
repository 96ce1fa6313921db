"""Xmipp's metadata put points where `tomo_extract_particlestacks`, written out here, puts them."""

from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError
from eucentric.io.exchange.records import Given
from eucentric.io.exchange.xmipp import FORMAT


def raw_rows(file: Path) -> list[dict[str, str]]:
    lines = [line.strip() for line in file.read_text().splitlines()]
    labels = [line[1:] for line in lines if line.startswith("_")]
    start = max(i for i, line in enumerate(lines) if line.startswith("_")) + 1
    return [dict(zip(labels, line.split(), strict=True)) for line in lines[start:] if line]


def by_xmipp(file: Path, size_xy: tuple[int, int], pixel: float) -> np.ndarray:
    """getCoordinateOnTiltSeries without its rounding to whole pixels; z as its projection matrix has it before it is dropped."""
    out = []
    for row in raw_rows(file):
        if int(row["enabled"]) < 0:
            continue
        tilt, rot = np.deg2rad(float(row["angleTilt"])), np.deg2rad(float(row["angleRot"]))
        tx, ty = float(row["shiftX"]), float(row["shiftY"])
        ct, st, cr, sr = np.cos(tilt), np.sin(tilt), np.cos(rot), np.sin(rot)
        x, y, z = points().T / pixel
        x_2d, y_2d = x * ct + z * st, y
        there_x = cr * x_2d + sr * y_2d - cr * tx - sr * ty + 0.5 * size_xy[0]
        there_y = -sr * x_2d + cr * y_2d + sr * tx - cr * ty + 0.5 * size_xy[1]
        out.append(np.stack([there_x, there_y, (z * ct - x * st) * pixel], axis=1))
    return np.array(out)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_points_lie_where_xmipp_puts_them(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, excluded=True)
    (file,) = FORMAT.write(tmp_path, [geometry]).files
    np.testing.assert_allclose(by_xmipp(file, size_xy, 2.5), seen(geometry), atol=1e-3)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_a_series_comes_back(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, excluded=True, phase_shift=True, magnification=True)
    written = FORMAT.write(tmp_path, [geometry])
    assert FORMAT.recognises(tmp_path)
    (back,) = FORMAT.read(tmp_path, Given(image_shape=(size_xy[1], size_xy[0])))
    origin = np.zeros((1, 3))
    np.testing.assert_allclose(seen(back, origin), seen(geometry, origin), atol=1e-3)
    for old, new in zip(geometry.series.tilts, back.series.tilts, strict=True):
        assert (new.acquisition, new.dose, new.pre_exposure) == (old.acquisition, 3.0, old.pre_exposure)
        assert new.pose.y_tilt_deg == pytest.approx(old.pose.y_tilt_deg, abs=1e-5)
        assert new.pose.z_rot_deg == pytest.approx(old.pose.z_rot_deg, abs=1e-5)
        assert new.ctf.defocus_u_angstrom == pytest.approx(old.ctf.defocus_u_angstrom, abs=1e-3)
        assert new.ctf.astigmatism_angle_deg == pytest.approx(31.5)
    assert len(back.series.excluded) == 2
    told = " ".join(written.losses)
    for lost in ("magnification", "phase shift", "hand of the defocus", "why views are excluded"):
        assert lost in told


def test_metadata_as_scipions_plugin_writes_them_are_read(tmp_path: Path) -> None:
    """One defocus under one name, no dose, and a tilt series that is named; the axis lies along x."""
    file = tmp_path / "a_ts.xmd"
    file.write_text(
        "# XMIPP_STAR_1 * \n# \ndata_noname\nloop_\n _image\n _ctfDefocusU\n _ctfDefocusAngle\n _tiltSeriesId\n _angleTilt\n"
        " _angleRot\n _shiftX\n _shiftY\n"
        " 1@x/a.mrc 31000.0 12.0 a -3.0 -90.0 2.0 0.0\n 2@x/a.mrc 32000.0 12.0 a 0.0 -90.0 0.0 0.0\n"
    )
    (back,) = FORMAT.read(file, Given(pixel_size_angstrom=2.0, image_shape=(80, 101)))
    pose = back.series.tilts[0].pose
    assert (pose.z_rot_deg, pose.y_tilt_deg) == (pytest.approx(90.0), -3.0)
    # R^-1 = [[0, -1], [1, 0]]: the shift is -R^-1 (2, 0) = (0, -2) px; 101 / 2 is half a pixel beyond pixel 50
    assert (pose.x_shift_angstrom, pose.y_shift_angstrom) == pytest.approx((1.0, -4.0))
    assert back.series.tilts[0].ctf.defocus_u_angstrom == back.series.tilts[0].ctf.defocus_v_angstrom == 31000
    assert any("one defocus" in note for note in back.notes)
    assert any("in which order" in note for note in back.notes)


def test_damaged_metadata_are_told_in_words(tmp_path: Path) -> None:
    (file,) = FORMAT.write(tmp_path, [phantom_series(excluded=True)]).files
    whole = file.read_bytes()
    refused = 0
    for copy in damaged_copies(whole, count=15):
        file.write_bytes(copy)
        try:
            FORMAT.read(file, Given(image_shape=(80, 96)))
        except EucentricError:
            refused += 1
    assert refused > 15
    file.write_text("# XMIPP_STAR_1 *\ndata_\nloop_\n _xcoor\n1\n")
    with pytest.raises(FormatError, match="expected the labels image, angleTilt"):
        FORMAT.read(file, Given())
    file.write_bytes(whole.replace(b" 300.000000", b" nan", 1))
    with pytest.raises(FormatError, match="`nan` for"):
        FORMAT.read(file, Given(image_shape=(80, 96)))
