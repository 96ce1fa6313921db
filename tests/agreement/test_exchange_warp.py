"""Tilt series of Warp and M: Warp's own equations, written out here from the raw files, put points where we do.

`warp_sees` is `GetPositionInAllTilts` of WarpLib (`TiltSeries.cs`, and with the level angles `TiltSeries.TemplateMatchRefinement.cs`),
with the matrices of `Matrix3.cs`, grids of `CubicGrid.cs` (natural cubic splines) and `LinearGrid4D.cs`.
"""

import functools
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.exchange.warp import FORMAT
from eucentric.io.exchange.warp_population import open_warp_species, read_warp_species
from eucentric.models import TomogramFrame, TomogramFrames

PIXEL = 2.5


def euler(rot: float, tilt: float, psi: float) -> np.ndarray:
    """Matrix3.Euler, radians."""
    ca, cb, cg = np.cos([rot, tilt, psi])
    sa, sb, sg = np.sin([rot, tilt, psi])
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def rotate_x(angle: float) -> np.ndarray:
    """Matrix3.RotateX: its constructor takes columns."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T


@functools.cache
def to_second_derivatives(n: int) -> np.ndarray:
    """(n, n): of the natural cubic spline through n points one apart."""
    matrix, right = np.eye(n), np.zeros((n, n))
    for i in range(1, n - 1):
        matrix[i, i - 1 : i + 2] = 1.0, 4.0, 1.0
        right[i, i - 1 : i + 2] = 6.0, -12.0, 6.0
    return np.linalg.solve(matrix, right)


def natural_spline(values: np.ndarray, t: float) -> np.ndarray:
    """Through (n, ...) values at 0 to 1, no curvature at the ends."""
    n = len(values)
    if n == 1:
        return values[0]
    i = int(np.clip(np.floor(t * (n - 1)), 0, n - 2))
    b = t * (n - 1) - i
    a = 1.0 - b
    second = np.tensordot(to_second_derivatives(n)[i : i + 2], values, 1)
    return a * values[i] + b * values[i + 1] + ((a**3 - a) * second[0] + (b**3 - b) * second[1]) / 6.0


@functools.cache
def grid_of(element: ElementTree.Element) -> np.ndarray:
    axes = ("Width", "Height", "Depth", "Duration") if element.get("Duration") else ("Depth", "Height", "Width")
    values = np.zeros([int(element.get(a)) for a in axes])
    for node in element:
        values[tuple(int(node.get(a)) for a in ("XYZW" if len(axes) == 4 else "ZYX"))] = float(node.get("Value"))
    return values


def cubic_grid(root: ElementTree.Element, name: str, at: tuple[float, float, float]) -> float:
    element = root.find(name)
    if element is None:
        return 0.0
    plane = natural_spline(grid_of(element), at[2])
    return float(natural_spline(natural_spline(plane, at[1]), at[0]))


def linear_grid(root: ElementTree.Element, name: str, at: np.ndarray) -> float:
    element = root.find(name)
    if element is None:
        return 0.0
    values = grid_of(element)
    for n, place in zip(values.shape, at, strict=True):  # x first; each step takes the first axis away
        u = place * (n - 1)
        low = int(np.clip(int(u), 0, n - 1))
        high = min(low + 1, n - 1)
        values = values[low] + (u - low) * (values[high] - values[low])
    return float(values)


def column(root: ElementTree.Element, name: str) -> list[str]:
    return root.find(name).text.split("\n")


def warp_sees(path: Path, places: np.ndarray, volume: np.ndarray | None = None) -> np.ndarray:
    """(row, point, 3): x and y in A from the image's corner, z as defocus in um. Points are A from the volume's centre."""
    root = ElementTree.fromstring(path.read_bytes())
    angles, dose, axis, dx, dy = (
        np.array([float(v) for v in column(root, name)])
        for name in ("Angles", "Dose", "AxisAngle", "AxisOffsetX", "AxisOffsetY")
    )
    image = root.get("ImageDimensionsAngstrom") or next(
        p.get("Value") for p in root.find("OptionsCTF") if p.get("Name") == "Dimensions"
    )
    image = np.array([float(v) for v in image.split(",")[:2]])
    if volume is None:
        volume = np.array([float(v) for v in root.get("VolumeDimensionsAngstrom").split(",")])
    level_x, level_y = np.deg2rad(float(root.get("LevelAngleX", 0))), float(root.get("LevelAngleY", 0))
    inverted = root.get("AreAnglesInverted") == "True"
    n = len(angles)
    out = np.zeros((n, len(places), 3))
    for t in range(n):
        tilt, psi, when = np.deg2rad(angles[t] + level_y), -np.deg2rad(axis[t]), t / (n - 1)
        turn = euler(0, tilt, psi) @ rotate_x(level_x)
        flipped = euler(0, -tilt, psi) @ rotate_x(-level_x)
        for k, p in enumerate(places):
            at = np.array([*((p + volume / 2) / volume), (dose[t] - dose.min()) / (dose.max() - dose.min())])
            centred = p + [linear_grid(root, f"GridVolumeWarp{a}", at) for a in "XYZ"]
            q = turn @ centred
            place = q[:2] + [dx[t], dy[t]] + image / 2
            where = (place[0] / image[0], place[1] / image[1], when)
            z = (flipped @ (centred * [1, 1, -1]))[2] if inverted else q[2]
            out[t, k, :2] = place - [cubic_grid(root, f"GridMovement{a}", where) for a in "XY"]
            out[t, k, 2] = cubic_grid(root, "GridCTF", (at[0], at[1], when)) + 1e-4 * z
    return out


def defocus(geometry: SeriesGeometry, places: np.ndarray | None = None) -> np.ndarray:
    """(tilt, point): A, by our convention."""
    series = geometry.series
    middle = np.array([[t.ctf.defocus_angstrom] for t in series.tilts])
    return middle + series.hand * seen(geometry, places)[..., 2]


def used_rows(path: Path) -> np.ndarray:
    return np.array([u == "True" for u in column(ElementTree.fromstring(path.read_bytes()), "UseTilt")])


@pytest.mark.parametrize("size", SIZES_XY)
@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_warp_puts_points_where_we_do(tmp_path: Path, size: tuple[int, int], hand: float) -> None:
    given = phantom_series(size_xy=size, hand=hand)
    FORMAT.write(tmp_path, [given])
    theirs = warp_sees(tmp_path / "TS_1.xml", points())
    np.testing.assert_allclose(theirs[..., :2] / PIXEL, seen(given)[..., :2], atol=1e-5)
    np.testing.assert_allclose(theirs[..., 2] * 1e4, defocus(given), atol=0.01)
    assert np.ptp(theirs[0, :, 2]) * 1e4 > 50  # the gradient is there to be told apart


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_hand_of_warp_and_relion(tmp_path: Path, hand: float) -> None:
    """The defocus-hand sign: RELION's dz = rlnTomoHand z_camera (`Tomogram::getCtf`) against Warp's two branches."""
    given = phantom_series(hand=hand)
    FORMAT.write(tmp_path, [given])
    text = (tmp_path / "TS_1.xml").read_text()
    assert f'AreAnglesInverted="{hand < 0}"' in text
    for inverted, sign in ((False, 1.0), (True, -1.0)):
        (tmp_path / "x.xml").write_text(
            re.sub('AreAnglesInverted="[A-Za-z]*"', f'AreAnglesInverted="{inverted}"', text)
        )
        slope = (
            1e4 * (warp_sees(tmp_path / "x.xml", points()) - warp_sees(tmp_path / "x.xml", np.zeros((1, 3))))[..., 2]
        )
        relion = np.array([[(rz(p.z_rot_deg) @ ry(p.y_tilt_deg) @ q)[2] for q in points()] for p in given.series.poses])
        np.testing.assert_allclose(slope, sign * relion, atol=0.01)


def rz(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def ry(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_defocus_that_warp_wrote_itself() -> None:
    """Two of the positions that Warp 2 exported for a series of EMPIAR-10491 (warpylib, testdata/TS_1.star and .xml).

    AreAnglesInverted is False there and LevelAngleY -5.920115. From (-500, -500, -500) to (0, -500, -500) A defocusU goes from
    28371.7539 to 28652.0020 at Angle 40.01, and from 27729.7422 to 27370.6816 at -39.98: hand +1.
    """
    for angle, change in ((40.01, 28652.0020 - 28371.7539), (-39.98, 27370.6816 - 27729.7422)):
        z_row = (euler(0, np.deg2rad(angle - 5.920115), 0) @ rotate_x(np.deg2rad(1.457031)))[2]
        ours = (ry(-(angle - 5.920115)) @ rotate_x(np.deg2rad(1.457031)))[2]
        np.testing.assert_allclose(z_row, ours, atol=1e-12)
        assert abs(500.0 * z_row[0] - change) < 0.1


@pytest.mark.parametrize("size", SIZES_XY)
def test_local_deformation_and_magnification(tmp_path: Path, size: tuple[int, int]) -> None:
    given = phantom_series(size_xy=size, warp=True, magnification=True, excluded=True)
    written = FORMAT.write(tmp_path, [given])
    rows = used_rows(tmp_path / "TS_1.xml")
    theirs = warp_sees(tmp_path / "TS_1.xml", points())[rows]
    inside = ((theirs[..., :2] > 0) & (theirs[..., :2] < np.array(size) * PIXEL)).all(axis=-1)
    assert inside.sum() > 40
    away = np.linalg.norm(theirs[..., :2] / PIXEL - seen(given)[..., :2], axis=-1)
    assert away[inside].max() < 0.03
    told = next(float(m[1]) for t in written.losses if (m := re.search(r"meets it to [\d.]+ A \(([\d.]+) A", t)))
    assert away[inside].max() * PIXEL < told + 0.02
    assert any("0.78%" in t for t in written.losses)
    (back,) = FORMAT.read(tmp_path, Given())
    np.testing.assert_allclose(seen(back)[inside], seen(given)[inside], atol=0.1)


def test_magnification_alone_is_exact(tmp_path: Path) -> None:
    given = phantom_series(magnification=True, size_xy=(97, 83))
    FORMAT.write(tmp_path, [given])
    theirs = warp_sees(tmp_path / "TS_1.xml", points())
    np.testing.assert_allclose(theirs[..., :2] / PIXEL, seen(given)[..., :2], atol=1e-5)
    (back,) = FORMAT.read(tmp_path, Given())
    np.testing.assert_allclose(seen(back), seen(given), atol=1e-5)


def test_one_x_tilt_is_exact(tmp_path: Path) -> None:
    given = phantom_series(x_tilt=True)
    tilts = [replace(t, pose=replace(t.pose, x_tilt_deg=-6.25)) for t in given.series.tilts]
    given = replace(given, series=given.series.with_tilts(tilts))
    written = FORMAT.write(tmp_path, [given])
    theirs = warp_sees(tmp_path / "TS_1.xml", points())
    np.testing.assert_allclose(theirs[..., :2] / PIXEL, seen(given)[..., :2], atol=1e-5)
    np.testing.assert_allclose(theirs[..., 2] * 1e4, defocus(given), atol=0.01)
    assert not any("x-tilt" in t for t in written.losses)
    (back,) = FORMAT.read(tmp_path, Given())
    assert {p.x_tilt_deg for p in back.series.poses} == {-6.25}
    np.testing.assert_allclose(seen(back), seen(given), atol=1e-5)


def test_different_x_tilts_are_met_as_nearly_as_said(tmp_path: Path) -> None:
    given = phantom_series(x_tilt=True)
    written = FORMAT.write(tmp_path, [given])
    told = next(float(m[1]) for t in written.losses if (m := re.search(r"\(([\d.]+) at most", t)))
    theirs = warp_sees(tmp_path / "TS_1.xml", points())[..., :2]
    away = np.linalg.norm(theirs - seen(given)[..., :2] * PIXEL, axis=-1)
    reach = np.deg2rad(told + 0.01) * np.linalg.norm(points(), axis=1)
    assert (away <= reach + 1e-3).all()
    assert away.max() > 0.3  # and the loss is real
    # a plain choice of one x-tilt, with the other angles left alone, is worse
    x = np.array([p.x_tilt_deg for p in given.series.poses])
    assert told <= np.abs(x - np.mean(x)).max()


def test_files_of_the_writer(tmp_path: Path) -> None:
    """As Warp's reader wants them: no empty line in a list, as many rows in both files, doses that differ."""
    given = phantom_series(excluded=True, phase_shift=True)
    written = FORMAT.write(tmp_path, [given])
    assert [f.name for f in written.files] == ["TS_1.xml", "TS_1.tomostar"]
    root = ElementTree.fromstring((tmp_path / "TS_1.xml").read_bytes())
    lists = ("Angles", "Dose", "UseTilt", "AxisAngle", "AxisOffsetX", "AxisOffsetY", "MoviePath", "FOVFraction")
    assert {len(column(root, name)) for name in lists} == {11}
    assert all(text.strip() == text != "" for name in lists for text in column(root, name))
    assert column(root, "UseTilt").count("False") == 2
    assert len(set(column(root, "Dose"))) == 11
    grids = [e for e in root if e.tag.startswith("Grid")]
    assert len(grids) == 18
    assert [int(root.find(g).get("Depth")) for g in ("GridCTF", "GridCTFPhase")] == [11, 11]
    assert float(root.find("GridCTFPhase")[0].get("Value")) == pytest.approx(0.4)  # 72 degrees in units of 180
    rows = [line.split() for line in (tmp_path / "TS_1.tomostar").read_text().splitlines() if line.count(" ") > 3]
    assert [float(r[1]) for r in rows] == [-a for a in np.arange(-50.0, 51.0, 10.0)]  # turned, as ts_import does
    assert [r[0] for r in rows] == column(root, "MoviePath")
    by_angle = {float(r[1]): float(r[3]) for r in rows}
    assert by_angle[0.0] == 0.0  # nothing before the first
    assert by_angle[-10.0] == 3.0


def test_doses_that_are_alike_do_not_break_warp(tmp_path: Path) -> None:
    given = phantom_series()
    tilts = [replace(t, dose=0.0, pre_exposure=0.0) for t in given.series.tilts]
    written = FORMAT.write(tmp_path, [replace(given, series=given.series.with_tilts(tilts))])
    assert np.isfinite(warp_sees(tmp_path / "TS_1.xml", points())).all()
    assert any("doses" in t for t in written.losses)
    (back,) = FORMAT.read(tmp_path, Given())
    assert [t.acquisition for t in back.series.tilts] == [t.acquisition for t in tilts]


@pytest.mark.parametrize("size", SIZES_XY)
@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_there_and_back(tmp_path: Path, size: tuple[int, int], hand: float) -> None:
    given = phantom_series(size_xy=size, hand=hand, phase_shift=True, excluded=True)
    FORMAT.write(tmp_path, [given])
    (back,) = FORMAT.read(tmp_path / "TS_1.xml", Given())
    assert (back.series.name, back.series.image_shape, back.series.hand) == ("TS_1", size[::-1], hand)
    assert back.series.volume_size_px == (96, 80, 64)
    assert back.series.pixel_size_angstrom == PIXEL
    assert back.series.optics == given.series.optics
    np.testing.assert_allclose(seen(back), seen(given), atol=1e-5)
    for ours, theirs in zip(given.series.tilts, back.series.tilts, strict=True):
        assert (theirs.nominal_tilt_deg, theirs.acquisition) == (ours.nominal_tilt_deg, ours.acquisition)
        assert (theirs.dose, theirs.pre_exposure) == pytest.approx((3.0, ours.pre_exposure))
        assert theirs.movie == ours.movie
        for name in ("y_tilt_deg", "z_rot_deg", "x_shift_angstrom", "y_shift_angstrom"):
            assert getattr(theirs.pose, name) == pytest.approx(getattr(ours.pose, name), abs=1e-4)
        for name in ("defocus_u_angstrom", "defocus_v_angstrom", "astigmatism_angle_deg", "phase_shift_deg"):
            assert getattr(theirs.ctf, name) == pytest.approx(getattr(ours.ctf, name), abs=0.01)
    assert [e.tilt.nominal_tilt_deg for e in back.series.excluded] == [-20.0, 50.0]
    assert back.notes == ()


def a_warp_file(
    path: Path,
    *,
    encoding: str,
    inverted: bool,
    level: tuple[float, float],
    volume_warp: bool,
    names: str = "tilt_{i}.eer",
) -> None:
    """By hand: rows in another order than angle and dose, and a CTF that tells the rows apart."""
    rng = np.random.default_rng(5)
    angles = np.array([12.0, -40.0, 55.5, -3.0, 31.0])
    lists = {
        "Angles": angles, "Dose": [6.5, 12.5, 0.5, 3.5, 9.5], "UseTilt": ["True", "True", "True", "False", "True"],
        "AxisAngle": [-85.6] * 5, "AxisOffsetX": rng.normal(0, 20, 5).round(3), "AxisOffsetY": rng.normal(0, 20, 5).round(3),
        "MoviePath": [names.format(i=i, angle=angle) for i, angle in enumerate(angles)],
    }  # fmt: skip
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<TiltSeries AreAnglesInverted="{inverted}" '
    text += f'LevelAngleX="{level[0]}" LevelAngleY="{level[1]}" ImageDimensionsAngstrom="250, 200" '
    text += 'VolumeDimensionsAngstrom="300, 240, 100">\n'
    for name, values in lists.items():
        text += f"<{name}>" + "\n".join(str(v) for v in values) + f"</{name}>\n"
    text += '<OptionsCTF><Param Name="PixelSize" Value="1.25" /><Param Name="BinTimes" Value="1" /></OptionsCTF>\n'
    text += '<CTF><Param Name="Voltage" Value="200" /><Param Name="Cs" Value="1.4" /><Param Name="Amplitude" Value="0.1" /></CTF>\n'
    values = {
        "GridCTF": 3.0 + 0.1 * np.arange(5),
        "GridCTFDefocusDelta": np.full(5, 0.05),
        "GridCTFDefocusAngle": np.full(5, 20.0),
    }
    for name, column_of in values.items():
        nodes = "".join(f'<Node X="0" Y="0" Z="{i}" Value="{v}" />' for i, v in enumerate(column_of))
        text += f'<{name} Width="1" Height="1" Depth="5" MarginX="0" MarginY="0" MarginZ="0">{nodes}</{name}>\n'
    for axis in "XYZ" if volume_warp else "":
        nodes = "".join(
            f'<Node X="{x}" Y="{y}" Z="{z}" W="{w}" Value="{rng.normal(0, 6):.3f}" />'
            for w, z, y, x in np.ndindex(3, 2, 2, 2)
        )
        text += f'<GridVolumeWarp{axis} Width="2" Height="2" Depth="2" Duration="3">{nodes}</GridVolumeWarp{axis}>\n'
    path.write_bytes((text + "</TiltSeries>\n").encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_file_of_warp(tmp_path: Path, encoding: str, inverted: bool) -> None:
    path = tmp_path / "TS_9.xml"
    a_warp_file(path, encoding=encoding, inverted=inverted, level=(4.0, -7.5), volume_warp=False)
    (found,) = FORMAT.read(path, Given())
    series = found.series
    assert (series.pixel_size_angstrom, series.image_shape, series.hand) == (2.5, (80, 100), -1.0 if inverted else 1.0)
    assert series.volume_size_px == (120, 96, 40)
    assert series.optics.voltage_kv == 200.0
    rows = [2, 4, 0, 1]  # of the file, by the stage's angle, which is minus the listed one
    assert [t.nominal_tilt_deg for t in series.tilts] == [-55.5, -31.0, -12.0, 40.0]
    assert [t.movie for t in series.tilts] == [f"tilt_{i}.eer" for i in rows]
    assert [t.acquisition for t in series.tilts] == [0, 3, 2, 4]
    assert [t.pre_exposure for t in series.tilts] == [0.5, 9.5, 6.5, 12.5]
    assert [t.dose for t in series.tilts] == [3.0] * 4
    assert [e.tilt.movie for e in series.excluded] == ["tilt_3.eer"]
    assert series.excluded[0].tilt.pose.y_tilt_deg == 10.5
    theirs = warp_sees(path, points())
    np.testing.assert_allclose(theirs[rows][..., :2] / 2.5, seen(found)[..., :2], atol=1e-6)
    np.testing.assert_allclose(theirs[rows][..., 2] * 1e4, defocus(found), atol=0.01)


def test_specimen_that_deforms(tmp_path: Path) -> None:
    """At half the height exactly, wherever the linear grid has no kink; the rest is told."""
    path = tmp_path / "TS_9.xml"
    a_warp_file(path, encoding="utf-8", inverted=False, level=(4.0, -7.5), volume_warp=True)
    (found,) = FORMAT.read(path, Given())
    flat = np.array([[0.0, 0, 0], [40, 12, 0], [-22, 61, 0], [33, -35, 0], [-80, -17, 0]])
    theirs = warp_sees(path, flat)[[2, 4, 0, 1]]
    np.testing.assert_allclose(theirs[..., :2] / 2.5, seen(found, flat)[..., :2], atol=0.05)
    rigid = seen(replace(found, warp=None), flat)
    assert np.abs(theirs[..., :2] / 2.5 - rigid[..., :2]).max() > 1.0
    assert any("3D" in note and "half the height" in note for note in found.notes)


@pytest.mark.parametrize(
    ("names", "noted"), [("TS_{i}_[{angle:.1f}].eer", True), ("TS_9_00{i}_-{angle:.2f}_x.eer", False)]
)
def test_sign_of_the_stage(tmp_path: Path, names: str, noted: bool) -> None:
    """Names that hold the listed angles tell that they were not turned; the places are Warp's all the same."""
    path = tmp_path / "TS_9.xml"
    a_warp_file(
        path, encoding="utf-8", inverted=False, level=(0.0, 0.0), volume_warp=False, names=names.replace("-{", "{")
    )
    if not noted:
        text = path.read_text()
        path.write_text(re.sub(r"_(-?[\d.]+)_x", lambda m: f"_{-float(m[1]):.2f}_x", text))
    (found,) = FORMAT.read(path, Given())
    assert any("mirror image" in note for note in found.notes) == noted
    np.testing.assert_allclose(warp_sees(path, points())[[2, 4, 0, 1]][..., :2] / 2.5, seen(found)[..., :2], atol=1e-6)


def a_project(folder: Path) -> list[SeriesGeometry]:
    """As WarpTools lays it out, with M beside."""
    both = [phantom_series(name="TS_1"), phantom_series(name="TS_2", seed=3, hand=1.0)]
    FORMAT.write(folder / "warp_tiltseries", both)
    (folder / "tomostar").mkdir()
    for table in (folder / "warp_tiltseries").glob("*.tomostar"):
        table.rename(folder / "tomostar" / table.name)
    for xml in (folder / "warp_tiltseries").glob("*.xml"):
        xml.write_text(re.sub(r"\s*<Param Name=\"PixelSize\" [^>]*>", "", xml.read_text()))
    (folder / "warp_tiltseries" / "movie.xml").write_text("<Movie />")
    (folder / "ts.settings").write_text(
        '<?xml version="1.0" encoding="utf-8"?><Settings><Import><Param Name="PixelSize" Value="1.25" />'
        '<Param Name="BinTimes" Value="1" /><Param Name="ProcessingFolder" Value="warp_tiltseries" />'
        '<Param Name="DataFolder" Value="tomostar" /></Import><Tomo><Param Name="DimensionsX" Value="192" />'
        '<Param Name="DimensionsY" Value="160" /><Param Name="DimensionsZ" Value="128" /></Tomo></Settings>'
    )
    (folder / "warp_tiltseries" / "ts.source").write_text(
        '<DataSource><Param Name="Name" Value="ts" /><Param Name="PixelSize" Value="2.5" /><Param Name="DimensionsX" Value="96" />'
        '<Param Name="DimensionsY" Value="80" /><Param Name="DimensionsZ" Value="64" /><Files><File Hash="a" Name="TS_1.tomostar" />'
        '<File Hash="b" Name="TS_2.tomostar" /></Files></DataSource>'
    )
    (folder / "m").mkdir()
    (folder / "m" / "my.population").write_text(
        '<Population><Sources><Source GUID="x" Path="../warp_tiltseries/ts.source" /></Sources>'
        '<Species><Species GUID="y" Path="species/ribo_1/ribo.species" /></Species></Population>'
    )
    return both


@pytest.mark.parametrize("place", [".", "ts.settings", "warp_tiltseries/ts.source", "m/my.population"])
def test_projects(tmp_path: Path, place: str) -> None:
    given = a_project(tmp_path)
    assert FORMAT.recognises(tmp_path / place)
    found = FORMAT.read(tmp_path / place, Given())
    assert [g.series.name for g in found] == ["TS_1", "TS_2"]
    for ours, theirs in zip(given, found, strict=True):
        np.testing.assert_allclose(seen(theirs), seen(ours), atol=1e-5)
        assert theirs.series.hand == ours.series.hand
        assert theirs.series.volume_size_px == (96, 80, 64)
    (one,) = FORMAT.read(tmp_path / place, Given(name="TS_2"))
    assert one.series.name == "TS_2"


def test_tomostar_alone(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    given = Given(pixel_size_angstrom=PIXEL, image_shape=(80, 96))
    (found,) = FORMAT.read(tmp_path / "TS_1.tomostar", given)
    assert [t.nominal_tilt_deg for t in found.series.tilts] == np.arange(-50.0, 51.0, 10.0).tolist()
    assert all(t.pose is None and t.nominal_axis_deg == 84.0 for t in found.series.tilts)
    assert any("no alignment" in note for note in found.notes)
    assert found.series.hand == -1.0  # a table does not tell it
    with pytest.raises(InputError, match="--pixel-size"):
        FORMAT.read(tmp_path / "TS_1.tomostar", Given())
    with pytest.raises(InputError, match="--image-size"):
        FORMAT.read(tmp_path / "TS_1.tomostar", Given(pixel_size_angstrom=PIXEL))
    # what is not aligned is written as the stage had it
    written = FORMAT.write(tmp_path / "again", [found])
    assert any("not been aligned" in t for t in written.losses)
    (again,) = FORMAT.read(tmp_path / "again", Given())
    assert [p.y_tilt_deg for p in again.series.poses] == np.arange(-50.0, 51.0, 10.0).tolist()
    assert again.series.pixel_size_angstrom == PIXEL


def test_movies_that_are_there(tmp_path: Path) -> None:
    FORMAT.write(tmp_path / "a", [phantom_series()])
    movie = tmp_path / "a" / "frames" / "TS_1_000_0.0.tif"
    movie.parent.mkdir()
    movie.touch()
    (found,) = FORMAT.read(tmp_path / "a", Given())
    assert found.series.tilts[5].movie == str(movie.resolve())
    assert found.series.tilts[4].movie == "frames/TS_1_002_-10.0.tif"


def a_species(folder: Path, times: int) -> tuple[Path, np.ndarray, np.ndarray]:
    a_project(folder)
    place = folder / "m" / "species" / "ribo_1"
    place.mkdir(parents=True)
    (place / "ribo.species").write_text(
        '<Species><Param Name="Name" Value="ribo" /><Param Name="PixelSize" Value="5" /></Species>'
    )
    rng = np.random.default_rng(1)
    coordinates = rng.uniform(30, 150, (4, 1, 3)) + 0.5 * (np.arange(times) - (times - 1) / 2)[None, :, None]
    angles = np.repeat(rng.uniform([-170, 20, -170], [170, 160, 170], (4, 3))[:, None], times, axis=1)
    labels = [f"wrpCoordinate{a}{i + 1}" for i in range(times) for a in "XYZ"]
    labels += [f"wrpAngle{a}{i + 1}" for i in range(times) for a in ("Rot", "Tilt", "Psi")]
    labels += ["wrpRandomSubset", "wrpSourceName", "wrpSourceHash"]
    rows = [
        [*coordinates[k].ravel(), *angles[k].ravel(), k % 2 + 1, f"TS_{k % 2 + 1}.tomostar", "abc"] for k in range(4)
    ]
    lines = ["data_", "", "loop_", *(f"_{name} #{i}" for i, name in enumerate(labels, 1))]
    (place / "ribo_particles.star").write_text("\n".join([*lines, *(" ".join(map(str, r)) for r in rows)]) + "\n")
    return place / "ribo.species", coordinates, angles


@pytest.mark.parametrize("times", [1, 3])
def test_species_of_m(tmp_path: Path, times: int) -> None:
    path, coordinates, angles = a_species(tmp_path, times)
    found = open_warp_species(path)
    particles = found.particles
    assert (found.name, [str(t) for t in particles.tomograms]) == ("ribo", ["TS_1", "TS_2", "TS_1", "TS_2"])
    middle = np.array([96, 80, 64]) * 2.5 / 2
    np.testing.assert_allclose(particles.positions_angstrom, coordinates.mean(axis=1) - middle, atol=1e-6)
    np.testing.assert_allclose(particles.rotations, [euler(*np.deg2rad(a[0])) for a in angles], atol=1e-6)
    assert particles.columns["rlnRandomSubset"].tolist() == [1, 2, 1, 2]
    assert [str(k) for k in particles.kinds] == ["ribo"] * 4
    assert any("move during the exposure" in note and f"{times} times" in note for note in found.notes) == (times > 1)


def test_species_without_its_population(tmp_path: Path) -> None:
    path, coordinates, _ = a_species(tmp_path, 1)
    (tmp_path / "m" / "my.population").unlink()
    with pytest.raises(InputError, match=r"\.population"):
        read_warp_species(path)
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(24, 20, 16)))
    found = read_warp_species(path.with_name("ribo_particles.star"), frames)
    np.testing.assert_allclose(found.positions_angstrom, coordinates[:, 0] - [120, 100, 80], atol=1e-6)
    table = path.with_name("ribo_particles.star")
    table.write_text(table.read_text().replace("TS_2.tomostar abc", "TS_2.tomostar abc extra"))
    with pytest.raises(FormatError):
        read_warp_species(path)


def test_shared_file_with_angles_turned(shared_data: Path) -> None:
    """gs04_ts_003: ts_import turned the stage's angles, which the movies' names hold; our tilts have the stage's sign again."""
    path = shared_data / "formats" / "warp" / "gs04_ts_003.xml"
    with pytest.raises(InputError, match="--image-size"):
        FORMAT.read(path, Given())
    (found,) = FORMAT.read(path, Given(image_shape=(4096, 4096)))
    series = found.series
    assert (len(series.tilts), series.pixel_size_angstrom, series.hand) == (47, 0.7303, 1.0)
    assert all(f"_{t.pose.y_tilt_deg:.1f}_" in t.movie for t in series.tilts)
    assert not any("mirror" in note for note in found.notes)
    first = min(series.tilts, key=lambda t: t.acquisition)
    assert (first.nominal_tilt_deg, first.pre_exposure) == (0.0, 15.4122)
    assert series.tilts[0].dose == pytest.approx(2.85378, abs=1e-4)
    by_hand = 5.207778 * 1e4  # the mean; each image has its own
    assert abs(np.mean([t.ctf.defocus_angstrom for t in series.tilts]) - by_hand) < 3000


def test_shared_file_with_angles_as_imod_has_them(shared_data: Path) -> None:
    """018.xml holds the angles of 018.tlt as they stand: so Warp's y-tilt is minus IMOD's, and its specimen the mirror image."""
    folder = shared_data / "formats" / "session_TS_018"
    imod = np.array([float(line) for line in (folder / "018.tlt").read_text().split()])
    (found,) = FORMAT.read(folder / "018.xml", Given())
    listed = np.array([float(a) for a in column(ElementTree.fromstring((folder / "018.xml").read_bytes()), "Angles")])
    assert np.abs(listed - imod).max() < 1.0
    series = found.series
    assert (series.pixel_size_angstrom, series.image_shape, series.hand) == (1.971, (4096, 4096), 1.0)
    y_tilts = np.array([p.y_tilt_deg for p in series.poses])
    assert np.abs(np.sort(-imod) - y_tilts).max() < 1.0
    assert any("mirror image" in note for note in found.notes)
    assert any("3D" in note for note in found.notes)
    assert found.warp is not None


def test_shared_file_of_m_with_grids(shared_data: Path) -> None:
    """GridMovement (3 x 3 x 60) and GridVolumeWarp (3 x 3 x 4, 10 doses) of M, at half the height of the volume."""
    path = shared_data / "formats" / "session_TS_018" / "018.xml"
    (found,) = FORMAT.read(path, Given())
    flat = np.array([[0.0, 0, 0], [2100, -900, 0], [-1500, 2600, 0]])
    theirs = warp_sees(path, flat, np.array([8073.216, 8073.216, 3000.0]))[::-1]
    away = np.linalg.norm(theirs[..., :2] / 1.971 - seen(found, flat)[..., :2], axis=-1)
    assert away[:, 0].max() < 0.4  # it lies on a kink of the linear grid, which our spline rounds off
    assert away[:, 1:].max() < 0.02
    rigid = np.linalg.norm(theirs[..., :2] / 1.971 - seen(replace(found, warp=None), flat)[..., :2], axis=-1)
    assert np.median(rigid) > 1.0


def test_recognises(tmp_path: Path, shared_data: Path) -> None:
    assert FORMAT.recognises(shared_data / "formats" / "warp")
    assert FORMAT.recognises(shared_data / "formats" / "session_TS_018" / "018.xml")
    assert not FORMAT.recognises(shared_data / "formats" / "imod")
    assert not FORMAT.recognises(shared_data / "formats" / "imod" / "TS_001.xf")
    (tmp_path / "a.xml").write_text("<Movie />")
    (tmp_path / "b.xml").write_bytes(b"\xff\xfe\x00")
    assert not FORMAT.recognises(tmp_path / "a.xml")
    assert not FORMAT.recognises(tmp_path / "b.xml")
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "absent.xml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<Angles>", "<Angles>x\n", "expected a number"),
        ("<Angles>", "<Angles>nan\n", "expected a number"),
        ("<Angles>", "<Angles>1e999\n", "expected a number"),
        ("<Dose>", "<Dose>1\n", "12 values in <Dose>"),
        ('<GridCTF Width="1"', '<GridCTF Width="999999999"', "expected 999999999|expected 1e"),
        ('<GridMovementX Width="1"', '<GridMovementX Width="-1"', "expected -1"),
        ('<GridVolumeWarpX Width="1"', '<GridVolumeWarpX Width="1e300"', "1 nodes"),
        ('Depth="1" Duration="1"', 'Depth="1" Duration="7"', "1 nodes"),
        ('Value="3.05', 'Value="oops3.05', "expected a number"),
        ('ImageDimensionsAngstrom="', 'ImageDimensionsAngstrom="a, ', "size of the images"),
        ('LevelAngleX="', 'LevelAngleX="q', "LevelAngleX"),
        ("</TiltSeries>", "", "not XML"),
        ("<TiltSeries", "<Movie", "not XML"),
    ],
)
def test_damaged_xml(tmp_path: Path, old: str, new: str, words: str) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    path = tmp_path / "TS_1.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=words):
        FORMAT.read(path, Given())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("_wrpAngleTilt", "_wrpAngle", "wrpAngleTilt"),
        (" 84.0 ", " 84.0 7 ", "STAR"),
        (" 50.0 ", " fifty ", "not a number"),
        (" 50.0 ", " nan ", "without a number"),
        (" 50.0 ", " inf ", "without a number"),
    ],
)
def test_damaged_tomostar(tmp_path: Path, old: str, new: str, words: str) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    path = tmp_path / "TS_1.tomostar"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FormatError, match=words):
        FORMAT.read(path, Given(pixel_size_angstrom=PIXEL, image_shape=(80, 96)))


def test_every_truncation_is_an_error_in_words(tmp_path: Path) -> None:
    a_project(tmp_path)
    for name in ("warp_tiltseries/TS_1.xml", "warp_tiltseries/ts.source", "m/my.population", "ts.settings"):
        whole = (tmp_path / name).read_bytes()
        for part in np.linspace(0, len(whole) - 3, 9).astype(int):
            (tmp_path / name).write_bytes(whole[:part])
            with pytest.raises(EucentricError):
                FORMAT.read(tmp_path / name, Given())
        (tmp_path / name).write_bytes(whole)
    with pytest.raises(InputError, match="holds no tilt series of Warp"):
        FORMAT.read(tmp_path / "m", Given())
    with pytest.raises(InputError, match="does not exist"):
        FORMAT.read(tmp_path / "nothing.xml", Given())
    with pytest.raises(InputError, match="one file"):
        FORMAT.write(tmp_path / "x.xml", [phantom_series(name="a"), phantom_series(name="b")])
