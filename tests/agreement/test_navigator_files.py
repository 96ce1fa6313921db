"""SerialEM's own navigator and montage files: what they say of the same thing in two ways must agree."""

from pathlib import Path

import numpy as np
import pytest

from eucentric.io.mdoc import read_mdoc
from eucentric.io.montage import read_montage
from eucentric.io.navigator import read_navigator, write_navigator


def test_corners_of_the_map_are_the_corners_of_its_image(shared_data: Path) -> None:
    the_map = read_navigator(shared_data / "formats" / "mdoc" / "nav.nav").map_of("17-1-A")
    frame = the_map.map_frame()
    # the outline begins at the upper left of the image as it is shown; the file gives it to 1 nm, a pixel is 38 nm
    expected = [[0, 4096], [4096, 4096], [4096, 0], [0, 0], [0, 4096]]
    np.testing.assert_allclose(frame.to_pixels(the_map.points_um), expected, atol=0.05)
    assert np.linalg.det(frame.pixels_per_um) ** -0.5 == pytest.approx(0.0376, abs=1e-4)


def test_pictures_with_y_upwards_are_not_mirrored(shared_data: Path) -> None:
    folder = shared_data / "formats" / "mdoc"
    frames = [read_montage(folder / "montage_section.mdoc").frame]
    frames += [read_montage(folder / "montage_section_multiple.mdoc", number).frame for number in range(10)]
    frames.append(read_navigator(folder / "nav.nav").items[0].map_frame())
    # piece coordinates are right-handed by the documentation: so is a map whose matrix is taken with the right y
    assert all(np.linalg.det(frame.pixels_per_um) > 0 for frame in frames)


def test_a_montage_tells_that_the_stage_tilts_about_its_x(shared_data: Path) -> None:
    path = shared_data / "formats" / "mdoc" / "montage_section.mdoc"
    montage = read_montage(path)
    assert len(montage) == 62
    um_per_pixel = np.linalg.inv(montage.frame.pixels_per_um)
    assert 1e4 * np.linalg.det(um_per_pixel) ** 0.5 == pytest.approx(656.139, rel=0.01)  # what the file itself says
    assert montage.residual_um < 0.03 * 223  # of pieces 223 um apart, by a stage in low magnification
    turn = np.deg2rad(read_mdoc(path).sections[0].rotation_angle_deg or 0.0)  # of the tilt axis from the image's x
    axis = um_per_pixel @ np.array([np.cos(turn), np.sin(turn)])
    angle = np.rad2deg(np.arctan2(axis[1], axis[0]))
    assert abs((angle + 90) % 180 - 90) < 1


def test_the_navigator_comes_back_whole(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats" / "mdoc" / "nav.nav"
    target = tmp_path / "nav.nav"
    write_navigator(target, read_navigator(source))
    kept = [line for line in target.read_text().splitlines() if line and not line.startswith("LastSavedAs")]
    assert kept == [line for line in source.read_text().splitlines() if line and not line.startswith("LastSavedAs")]
