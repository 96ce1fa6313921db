"""nextPYP's text files of a series put points where nextPYP's own chain of matrices, written out here, puts them."""

from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.exchange.nextpyp import FORMAT
from eucentric.io.exchange.records import Given
from eucentric.io.imod_models import write_imod_model


def given(size_xy: tuple[int, int]) -> Given:
    return Given(pixel_size_angstrom=2.5, image_shape=(size_xy[1], size_xy[0]))


def by_nextpyp(folder: Path, size_xy: tuple[int, int], pixel: float) -> np.ndarray:
    """`get_proj_matrix` of pyp.analysis.geometry: p xf^-1 q tilt to_origin to_imod yzflip, of places in a tomogram of 64 sections."""
    xfs = [[float(w) for w in line.split()] for line in (folder / "TS_1.xf").read_text().splitlines()]
    tilts = [float(line) for line in (folder / "TS_1.tlt").read_text().splitlines()]
    cx, cy, thickness = (size_xy[0] - 1) / 2, (size_xy[1] - 1) / 2, 64
    flip = np.array([[1, 0, 0, 0], [0, 0, -1, thickness - 1], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    to_imod = np.array([[1, 0, 0, -1], [0, 1, 0, -thickness / 2], [0, 0, 1, -1], [0, 0, 0, 1.0]])
    to_origin = np.array([[1, 0, 0, -cx], [0, 1, 0, 0], [0, 0, 1, -cy], [0, 0, 0, 1.0]])
    # the places in that tomogram whose image without tilt is the middle of the aligned stack
    middle = np.array([cx + 1, cy + 1, thickness / 2 - 1])
    places = np.concatenate([points() / pixel + middle, np.ones((len(points()), 1))], axis=1)
    out = []
    for xf, tilt in zip(xfs, tilts, strict=True):
        c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        turn = np.array([[c, -s, 0, cx], [0, 0, 1, cy], [-s, -c, 0, 0], [0, 0, 0, 1.0]])
        image = np.array([[xf[0], xf[1], 0, xf[4]], [xf[2], xf[3], 0, xf[5]], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        away = np.eye(4)
        away[:2, 3] = cx, cy
        back = np.eye(4)
        back[:2, 3] = -cx, -cy
        whole = away @ np.linalg.inv(image) @ back @ turn @ to_origin @ to_imod @ flip
        seen_there = (places @ whole.T)[:, :3]
        seen_there[:, 2] *= pixel
        out.append(seen_there)
    return np.array(out)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_points_lie_where_nextpyp_puts_them(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, magnification=True)
    FORMAT.write(tmp_path, [geometry])
    np.testing.assert_allclose(by_nextpyp(tmp_path, size_xy, 2.5), seen(geometry), atol=0.05)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_a_series_comes_back(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, magnification=True, excluded=True, phase_shift=True)
    written = FORMAT.write(tmp_path, [geometry])
    (back,) = FORMAT.read(tmp_path, given(size_xy))
    np.testing.assert_allclose(seen(back), seen(geometry), atol=0.01)
    for old, new in zip(geometry.series.tilts, back.series.tilts, strict=True):
        assert new.acquisition == old.acquisition
        assert new.nominal_tilt_deg == pytest.approx(old.nominal_tilt_deg, abs=0.01)
        assert new.ctf.defocus_u_angstrom == pytest.approx(old.ctf.defocus_u_angstrom, abs=0.1)
        assert new.ctf.defocus_v_angstrom == pytest.approx(old.ctf.defocus_v_angstrom, abs=0.1)
        assert new.ctf.astigmatism_angle_deg == pytest.approx(31.5, abs=0.01)
    assert {round(e.tilt.nominal_tilt_deg) for e in back.series.excluded} == {-20, 50}
    told = " ".join(written.losses)
    assert "phase shift (up to 72" in told
    assert "csp_ctf_handedness = false" in told
    assert "magnification" not in told
    assert "excluded" not in told


def test_what_is_lost_is_told_with_its_size(tmp_path: Path) -> None:
    geometry = phantom_series(x_tilt=True, warp=True)
    told = " ".join(FORMAT.write(tmp_path, [geometry]).losses)
    size = float(np.sqrt((geometry.warp.displacement_angstrom**2).sum(-1).mean()))
    assert f"({size:.1f} A rms)" in told
    assert f"up to {max(abs(t.pose.x_tilt_deg) for t in geometry.series.tilts):.2f} degrees" in told


def test_a_folder_of_nextpyp_is_read_with_what_its_files_tell(tmp_path: Path) -> None:
    """Three images made by hand: the axis lies at 90 degrees, the second view was taken first and the third left out."""
    (tmp_path / ".pyp_config.toml").write_text(
        "scope_pixel = 1.5\nscope_voltage = 200.0\nscope_cs = 2.0\nscope_wgh = 0.1\nscope_dose_rate = 3.2\n"
        "csp_ctf_handedness = true\n"
    )
    (tmp_path / "a.xf").write_text("0 1 -1 0 4 0\n0 1 -1 0 0 0\n0 1 -1 0 0 6\n")
    (tmp_path / "a.tlt").write_text("-3.5\n0.5\n3.5\n")
    (tmp_path / "a.rawtlt").write_text("-3\n0\n3\n")
    (tmp_path / "a.order").write_text("2.000000\t\n1.000000\t\n3.000000\t\n")
    (tmp_path / "a.def").write_text("-3 30000 31000 10 0.1 5\n0 30500 30500 0 0.2 4\n3 0 0 0 0 0\n")
    numbers = [30000, 0.1, 0, 0, 0, 0, 101, 80, 3, 1.5, 200, 50000, 0, 0]
    (tmp_path / "a.ctf").write_text("".join(f"{n:e}\n" for n in numbers))
    write_imod_model(tmp_path / "a_exclude_views.mod", [[np.array([[5.0, 5.0, 2.0]])]], (101, 80, 3), 1.0)
    assert FORMAT.recognises(tmp_path)
    (back,) = FORMAT.read(tmp_path, Given())
    series = back.series
    assert (series.pixel_size_angstrom, series.image_shape, series.name) == (1.5, (80, 101), "a")
    assert (series.optics.voltage_kv, series.optics.amplitude_contrast) == (200.0, 0.1)
    assert series.hand == 1.0
    assert [t.acquisition for t in series.tilts] == [1, 0]
    assert [t.pre_exposure for t in series.tilts] == [3.2, 0.0]
    assert [e.tilt.nominal_tilt_deg for e in series.excluded] == [3.0]
    pose = series.tilts[0].pose
    assert (pose.y_tilt_deg, pose.z_rot_deg) == (-3.5, pytest.approx(90.0))
    # A^-1 = [[0, -1], [1, 0]], so the shift is -A^-1 (4, 0) = (0, -4) px, and half a pixel along the even side
    assert (pose.x_shift_angstrom, pose.y_shift_angstrom) == pytest.approx((0.0, -4 * 1.5 - 0.75))
    assert series.tilts[0].ctf.defocus_u_angstrom == 31000
    assert series.tilts[0].ctf.astigmatism_angle_deg == pytest.approx(-80.0)


def test_pickles_are_refused_and_never_opened(tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    (tmp_path / "pkl").mkdir()
    code = b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    (tmp_path / "pkl" / "TS_1.pkl").write_bytes(code)
    (tmp_path / ".pyp_config.toml").write_text("scope_pixel = 1.5\n")
    assert FORMAT.recognises(tmp_path)
    for place in (tmp_path, tmp_path / "pkl" / "TS_1.pkl"):
        with pytest.raises(FormatError, match=r"pickles.*export the project to RELION"):
            FORMAT.read(place, Given())
    assert not mark.exists()


@pytest.mark.parametrize("ending", [".xf", ".tlt", ".order", ".def", "_exclude_views.next", ".ctf"])
def test_damaged_files_are_told_in_words(tmp_path: Path, ending: str) -> None:
    FORMAT.write(tmp_path, [phantom_series(excluded=True)])
    place = tmp_path / f"TS_1{ending}"
    whole = place.read_bytes() if place.exists() else b"".join(b"%d.5\n" % n for n in range(14))
    words = []
    for copy in damaged_copies(whole, count=8):
        place.write_bytes(copy)
        try:
            FORMAT.read(tmp_path, given((96, 80)))
        except EucentricError as error:
            words.append(str(error))
    assert words or ending == ".ctf"
    assert all("TS_1" in said for said in words)


def test_lists_that_do_not_fit_together_are_told(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    (tmp_path / "TS_1.order").write_text("1\n2\n")
    with pytest.raises(FormatError, match=r"TS_1.order` has 2 lines, and the series 11 images"):
        FORMAT.read(tmp_path, given((96, 80)))
    (tmp_path / "TS_1.order").unlink()
    with pytest.raises(InputError, match="--pixel-size"):
        FORMAT.read(tmp_path, Given(image_shape=(80, 96)))
