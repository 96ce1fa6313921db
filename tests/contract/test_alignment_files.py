"""Files of IMOD, AreTomo and Warp: what they hold is read, and what is wrong with them is said."""

from pathlib import Path

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.aretomo import read_aretomo
from eucentric.io.imod import read_tilt_command
from eucentric.io.warp_xml import WarpGrid, read_warp_series
from eucentric.models import Tilt, TiltSeries
from eucentric.pipeline.import_alignment import attach_alignment, read_external_alignment

HEADER = "# AreTomo Alignment / Priims bprmMn\n# RawSize = 100 80 4\n"
ROW = "{}  -12.6611    1.00000     24.786     -2.677     1.00     1.00     1.00     0.00    {}\n"


def test_aretomo_sample(shared_data: Path) -> None:
    found = read_aretomo(shared_data / "formats" / "aretomo" / "test.aln")
    assert found.image_size == (2032, 2032)
    assert found.section_count == 90
    assert found.axis_deg.tolist() == [-12.6611] * 4
    assert found.shifts_px[1].tolist() == [34.451, -8.599]
    assert found.tilts_deg.tolist() == [-61.5, -60, -58.5, -57]
    assert found.dark_tilts_deg == (-66.0, -64.5, 66.0, 67.5)
    assert found.dark_sections == (None,) * 4  # the file writes 0 for all of them
    assert found.patches is not None
    assert found.patches.good.shape == (4, 16)
    assert found.patches.positions_px[0, 3].tolist() == [233.10, -680.25]
    assert found.patches.shifts_px[0, 3].tolist() == [55.29, -14.05]


@pytest.mark.parametrize(
    ("sections", "dark", "alpha", "expected", "sure"),
    [
        ((0, 1, 2, 3), "", "", [0, 1, 2, 3], True),  # AreTomo2
        ((1, 2, 3, 4), "", "", [0, 1, 2, 3], True),  # AreTomo3
        ((2, 3), "# DarkFrame = 0 1 -6.0\n# DarkFrame = 3 4 3.0\n", "", [1, 2], True),
        ((1, 2), "# DarkFrame = 0 0 -6.0\n# DarkFrame = 3 3 3.0\n", "", [1, 2], True),
        ((1, 2), "", "", [1, 2], False),
        ((1, 2), "", "# AlphaOffset = 0.00\n", [0, 1], False),
    ],
)
def test_aretomo_counts_sections_from_0_or_1(
    tmp_path: Path, sections: tuple[int, ...], dark: str, alpha: str, expected: list[int], sure: bool
) -> None:
    file = tmp_path / "a.aln"
    file.write_text(HEADER + dark + alpha + "".join(ROW.format(s, 3.0 * s) for s in sections))
    found = read_aretomo(file)
    assert found.sections.tolist() == expected
    assert found.sections_are_sure is sure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "no line of an aligned view"),
        (ROW.format(1, 3), "no RawSize"),
        (HEADER + "1 2 3\n", "expected 10 numbers"),
        (HEADER + ROW.format("one", 3), "expected SEC ROT"),
        (HEADER + ROW.format(1, "nan"), "Line 3"),
        (HEADER + ROW.format(7, 3), "sections 7 to 7"),
        (HEADER + ROW.format(1, 3) + ROW.format(1, 3), "twice"),
        (HEADER + ROW.format(1, 3) + "# Local Alignment\n 5 0 1 1 1 1 1\n", "view 5"),
    ],
)
def test_aretomo_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.aln").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_aretomo(tmp_path / "a.aln")


def test_warp_samples(shared_data: Path) -> None:
    new = read_warp_series(shared_data / "formats" / "warp" / "gs04_ts_003.xml")
    assert len(new.angles_deg) == 47
    assert (new.angles_deg[0], new.dose[3], new.axis_deg[0]) == (46.0, 123.85584, 84.500114)
    assert new.shifts_angstrom[1].tolist() == [11.427998, -94.6189]
    assert new.use.all()
    assert new.movies[0].endswith("gs04_ts_003_00000_-46.0_17.14.00.eer")
    assert new.movement_x is None
    assert not new.has_volume_warp
    old = read_warp_series(shared_data / "formats" / "session_TS_018" / "018.xml")  # UTF-16
    assert len(old.angles_deg) == 60
    assert old.movement_x is not None
    assert old.movement_x.values.shape == (60, 3, 3)
    assert old.has_volume_warp
    assert old.image_size_angstrom == (8073.216, 8073.216)
    assert old.magnification_text == ""


def test_warp_grid_passes_through_its_nodes() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 4))
    grid = WarpGrid(values=values)
    for z, y, x in np.ndindex(5, 3, 4):
        np.testing.assert_allclose(grid.at(z / 4, np.array([[x / 3, y / 2]])), values[z, y, x], atol=1e-12)
    # of two points a straight line; of one a constant
    line = WarpGrid(values=np.array([[[1.0, 3.0]]]))
    np.testing.assert_allclose(line.at(0.7, np.array([[0.25, 0.9], [1.5, 0.0]])), [1.5, 4.0], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no xml", "not XML"),
        ("<Movie/>", "root is <Movie>"),
        ("<TiltSeries/>", "no <Angles>"),
        ("<TiltSeries><Angles>1\n2</Angles><AxisAngle>1</AxisAngle></TiltSeries>", "1 values in <AxisAngle>"),
        ("<TiltSeries><Angles>1\nx</Angles></TiltSeries>", "expected a number"),
        ('<TiltSeries><Angles>1</Angles><GridMovementX Width="2" /></TiltSeries>', "0 nodes"),
        (
            '<TiltSeries><Angles>1</Angles><GridMovementX><Node X="3" Value="1" /></GridMovementX></TiltSeries>',
            "outside of its size",
        ),
    ],
)
def test_warp_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_warp_series(tmp_path / "a.xml")


def test_tilt_command_samples(shared_data: Path) -> None:
    old = read_tilt_command(shared_data / "formats" / "session_TS_018" / "tilt.com")
    assert (old.shift_x_px, old.shift_z_px, old.thickness_px) == (0.0, 100.0, 1800)
    assert old.full_image == (4096, 4096)
    new = read_tilt_command(shared_data / "formats" / "imod" / "tilt.com")
    assert (new.binning, new.tilt_file, new.x_tilt_file) == (2, "mba2012-02-01-1.tlt", "mba2012-02-01-1.xtilt")
    assert new.excluded == ()


def test_tilt_command_entries(tmp_path: Path) -> None:
    text = (
        "# a note\n$tilt -StandardInput\nOFFSET 1.5,-2\nXAXISTILT\t-3\nEXCLUDELIST 1-3,7\nEXCLUDELIST2 9\nLOCALFILE a\n"
    )
    (tmp_path / "tilt.com").write_text(text)
    found = read_tilt_command(tmp_path / "tilt.com")
    assert (found.angle_offset_deg, found.axis_offset_px, found.x_axis_tilt_deg) == (1.5, -2.0, -3.0)
    assert found.excluded == (0, 1, 2, 6, 8)
    assert found.has_local


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$newstack\nOFFSET 1\n", "does not run `tilt`"),
        ("$tilt\nOFFSET one\n", "for OFFSET"),
        ("$tilt\nEXCLUDELIST 0\n", "expected numbers from 1"),
        ("$tilt\nEXCLUDELIST a\n", "lists views"),
    ],
)
def test_tilt_command_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tilt.com").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_tilt_command(tmp_path / "tilt.com")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for reader in (read_aretomo, read_warp_series, read_tilt_command):
        with pytest.raises(InputError, match="does not exist"):
            reader(tmp_path / "none")
    with pytest.raises(InputError, match="holds no alignment of TS_1"):
        read_external_alignment(tmp_path, "TS_1")
    with pytest.raises(InputError, match="does not exist"):
        read_external_alignment(tmp_path / "TS_1.xf", "TS_1")
    (tmp_path / "TS_1.xf").write_text("1 0 0 1 0 0\n")
    with pytest.raises(InputError, match=r"TS_1\.tlt"):
        read_external_alignment(tmp_path, "TS_1")
    (tmp_path / "TS_1.tlt").write_text("0\n1\n")
    with pytest.raises(FormatError, match="1 transforms, 2 tilts"):
        read_external_alignment(tmp_path, "TS_1")
    (tmp_path / "TS_1.txt").write_text("")
    with pytest.raises(InputError, match="no alignment that is known"):
        read_external_alignment(tmp_path / "TS_1.txt", "TS_1")


def test_a_mirroring_transform_is_refused(tmp_path: Path) -> None:
    (tmp_path / "TS_1.xf").write_text("1 0 0 -1 0 0\n")
    (tmp_path / "TS_1.tlt").write_text("0\n")
    with pytest.raises(FormatError, match="mirrors"):
        read_external_alignment(tmp_path, "TS_1")


def test_folders_of_each_series_are_found(tmp_path: Path) -> None:
    for name, ending in (("TS_1", ""), ("TS_2", "_Imod")):
        folder = tmp_path / f"{name}{ending}"
        folder.mkdir()
        (folder / f"{name}_st.xf").write_text("1 0 0 1 2 3\n")
        (folder / f"{name}_st.tlt").write_text("0\n")
        found = read_external_alignment(tmp_path, name)
        assert found.views[0].shift == (-2.0, -3.0)


def test_stretched_images_are_told(tmp_path: Path) -> None:
    (tmp_path / "TS_1.xf").write_text("1.02 0 0 1 2 3\n1 0 0 1 0 0\n")
    (tmp_path / "TS_1.tlt").write_text("0\n3\n")
    (caveat,) = read_external_alignment(tmp_path, "TS_1").caveats
    assert "stretched" in caveat


def test_views_without_a_transform_are_left_out(tmp_path: Path) -> None:
    """AreTomo writes an identity for dark images into the .xf for RELION."""
    turned = "0.0 1.0 -1.0 0.0 2.0 3.0\n"
    (tmp_path / "TS_1.xf").write_text(turned + "1 0 0 1 0 0\n" + turned * 2)
    (tmp_path / "TS_1.tlt").write_text("-3\n0\n3\n6\n")
    tilts = [Tilt(nominal_tilt_deg=a, acquisition=i, dose=1.0, pre_exposure=0.0) for i, a in enumerate((-3.0, 0, 3, 6))]
    series = TiltSeries.sorted(tilts, name="TS_1", pixel_size_angstrom=1.0, image_shape=(9, 9))
    found = attach_alignment(series, read_external_alignment(tmp_path, "TS_1"))
    assert [e.tilt.nominal_tilt_deg for e in found.series.excluded] == [0]
    assert "no transform" in found.series.excluded[0].reason
    assert all(p.z_rot_deg == pytest.approx(90.0) for p in found.series.poses)
