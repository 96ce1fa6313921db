"""Montages from mdoc files: pieces in the picture and on the stage."""

from pathlib import Path

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.montage import read_montage

_TURN = np.deg2rad(25.0)
_UM_PER_PIXEL = 0.08 * np.array([[np.cos(_TURN), -np.sin(_TURN)], [np.sin(_TURN), np.cos(_TURN)]])
_SIZE = np.array([1000.0, 600.0])


def _write(path: Path, corners: np.ndarray, *, moved: bool = True, z: int = 0) -> None:
    lines = ["PixelSpacing = 800", "ImageSize = 1000 600", "Montage = 1", ""]
    for number, (x, y) in enumerate(corners):
        stage = np.array([100.0, -40.0]) + (_UM_PER_PIXEL @ (np.array([x, y]) + 0.5 * _SIZE) if moved else 0.0)
        lines += [
            f"[ZValue = {number}]",
            f"PieceCoordinates = {round(x / 900) * 900} {round(y / 540) * 540} {z}",
            f"StagePosition = {stage[0]:.6f} {stage[1]:.6f}",
            f"AlignedPieceCoords = {x} {y} {z}",
            "StageZ = 12.5",
            "TiltAngle = -2",
            "",
        ]
    path.write_text("\n".join(lines))


_GRID = np.array([[0, 0], [5, 545], [896, -3], [903, 541], [1790, 4], [1801, 533]])


def test_pixels_of_a_montage_lie_where_the_stage_was(tmp_path: Path) -> None:
    path = tmp_path / "m.mrc.mdoc"
    _write(path, _GRID)
    montage = read_montage(path)
    assert len(montage) == 6
    assert (montage.stage_z_um, montage.tilt_deg, montage.in_file) == (12.5, -2.0, 1)
    np.testing.assert_allclose(montage.aligned_px, _GRID)
    assert montage.residual_um < 1e-5
    pixel = np.array([1234.0, 87.0])
    place = np.array([100.0, -40.0]) + _UM_PER_PIXEL @ pixel
    np.testing.assert_allclose(montage.frame.to_stage(pixel), place, atol=1e-5)


def test_one_row_of_pieces_is_taken_as_not_mirrored(tmp_path: Path) -> None:
    path = tmp_path / "m.mdoc"
    _write(path, _GRID[::2])
    found = np.linalg.inv(read_montage(path).frame.pixels_per_um)
    np.testing.assert_allclose(found, _UM_PER_PIXEL, atol=3e-4)


def test_montages_that_tell_no_place_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.mdoc"
    _write(path, _GRID, moved=False)
    with pytest.raises(InputError, match="share one stage position"):
        read_montage(path)
    _write(path, _GRID, z=2)
    with pytest.raises(InputError, match="no montage 0; it has 2"):
        read_montage(path)
    path.write_text("ImageSize = 10 10\n[ZValue = 0]\nTiltAngle = 3\n")
    with pytest.raises(FormatError, match="no PieceCoordinates"):
        read_montage(path)
    _write(path, _GRID)
    path.write_text(path.read_text().replace("StagePosition = ", "StagePosition = x ", 1))
    with pytest.raises(FormatError, match="2 numbers as StagePosition"):
        read_montage(path)
