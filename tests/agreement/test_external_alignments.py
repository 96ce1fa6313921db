"""Alignments of other programs put points of the specimen where those programs say, hand and half pixels included.

Each program's own formula, from its sources or documents, is written out here apart from the product; `projected` is ours.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry
from eucentric.io import write_angles, write_tilt_series_set, write_transforms
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.import_alignment import AttachedAlignment, attach_alignment, read_external_alignment

ANGLES = np.array([-50.0, -31.0, -12.0, 3.0, 17.0, 39.0, 58.0])
SIZES = [(64, 48), (63, 48), (64, 47), (65, 51)]
POINTS = np.array(
    [[0.0, 0, 0], [11, 3, 7], [-5, 17, 2], [8, -9, -13], [-20, -4, 21]]
)  # no plane, no mirror image alike


def turn(axis: str, degrees: float) -> np.ndarray:
    """Right-handed rotation that makes columns turn about an axis."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def a_series(
    size: tuple[int, int], pixel: float = 2.5, axis: float | None = 84.0, angles: np.ndarray = ANGLES
) -> TiltSeries:
    tilts = [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            movie=f"frames/TS_{i:02d}.eer",
            nominal_axis_deg=axis,
        )
        for i, a in enumerate(angles)
    ]
    return TiltSeries.sorted(tilts, name="TS_1", pixel_size_angstrom=pixel, image_shape=(size[1], size[0]))


def projected(attached: AttachedAlignment, points_px: np.ndarray) -> np.ndarray:
    """(tilt, point, 2): pixels, from 0, where we see points given in pixels of the series from the specimen's centre."""
    series = attached.series
    pixel = series.pixel_size_angstrom
    seen = TiltGeometry.from_poses(series.poses).project(points_px * pixel)[..., :2]
    if attached.warp is not None:
        seen = np.stack([s + attached.warp.at(t, torch.from_numpy(s)).numpy() for t, s in enumerate(seen)])
    return seen / pixel + np.array(series.image_shape[::-1]) // 2


def an_imod_set(
    folder: Path, rng: np.random.Generator, *, com: str = "", x_tilt: bool = False
) -> dict[str, np.ndarray]:
    n = len(ANGLES)
    axis = np.deg2rad(-84.0 + rng.normal(0, 0.5, n))
    scale = 1 + rng.normal(0, 0.01, n)
    matrices = np.array([s * turn("z", np.rad2deg(a))[:2, :2] for s, a in zip(scale, axis, strict=True)])
    values = {
        "A": matrices.round(7),
        "d": rng.normal(0, 6, (n, 2)).round(3),
        "tilt": (ANGLES + rng.normal(0, 0.3, n)).round(2),
        "x": rng.normal(0, 2, n).round(2) if x_tilt else np.zeros(n),
    }
    write_transforms(folder / "TS_1.xf", values["A"], values["d"])
    write_angles(folder / "TS_1.tlt", values["tilt"])
    if x_tilt:
        write_angles(folder / "TS_1.xtilt", values["x"])
    if com:
        (folder / "tilt.com").write_text(
            f"$tilt -StandardInput\nTILTFILE TS_1.tlt\n{com}$if (-e ./savework) ./savework\n"
        )
    return values


def imod_sees(
    values: dict[str, np.ndarray],
    size: tuple[int, int],
    *,
    offset: tuple[float, float] = (0, 0),
    x_axis: float = 0,
    shift: tuple[float, float] = (0, 0),
) -> np.ndarray:
    """Where `tilt` and `newstack` take the value of a voxel from, by the formulas of tilt.f90 and cubinterp.c.

    The reconstruction has 40 lines in depth and the width of the images; point (x, y, z) of the specimen is the
    voxel at line 20.5 - z (trimvol -rx turns the depth, counted from 1, into -z).
    """
    nx, ny = size
    out = []
    for a, d, tilt, x_tilt in zip(values["A"], values["d"], values["tilt"], values["x"], strict=True):
        theta, alpha = np.deg2rad(tilt + offset[0]), np.deg2rad(x_tilt - x_axis)
        c_beta, s_beta, c_alpha, s_alpha = np.cos(theta), -np.sin(theta), np.cos(alpha), -np.sin(alpha)
        x_in = nx / 2 + 0.5
        centre_slice = ny / 2 + 0.5
        x_out = nx / 2 + 0.5 + offset[1] + shift[0]
        y_out = 40 / 2 + 0.5 + shift[1]
        rows = []
        for x, y, z in POINTS:
            j, line, slice_ = nx / 2 + 0.5 + x, 20.5 - z, ny / 2 + 0.5 + y
            zz, yy = line - y_out, slice_ - centre_slice
            z_part = yy * s_alpha * s_beta + zz * c_alpha * s_beta + x_in + offset[1]
            x_proj = z_part + (j - x_out) * c_beta
            y_proj = yy * c_alpha - zz * s_alpha + centre_slice
            # Fortran counts pixels from 1; the edge of the first is at 0 in the coordinates of cubinterp.
            aligned = np.array([x_proj - 0.5, y_proj - 0.5])
            raw = np.linalg.solve(a, aligned - np.array([nx, ny]) / 2 - d) + np.array([nx, ny]) / 2
            rows.append(raw - 0.5)
        out.append(rows)
    return np.array(out)


@pytest.mark.parametrize("size", SIZES)
def test_imod(tmp_path: Path, size: tuple[int, int]) -> None:
    values = an_imod_set(tmp_path, np.random.default_rng(1))
    found = attach_alignment(a_series(size), read_external_alignment(tmp_path, "TS_1"))
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, size), atol=2e-3)
    assert found.caveats == ()


def test_imod_with_all_of_tilt_com(tmp_path: Path) -> None:
    com = "OFFSET 1.5 4.0\nXAXISTILT 3.25\nSHIFT -6.0 11.0\nIMAGEBINNED 2\nTHICKNESS 80\n"
    values = an_imod_set(tmp_path, np.random.default_rng(2), com=com, x_tilt=True)
    found = attach_alignment(a_series((64, 47)), read_external_alignment(tmp_path / "TS_1.xf", "TS_1"))
    expected = imod_sees(values, (64, 47), offset=(1.5, 4.0), x_axis=3.25, shift=(-6.0, 11.0))
    np.testing.assert_allclose(projected(found, POINTS), expected, atol=2e-3)


def test_imod_on_binned_images(tmp_path: Path) -> None:
    """The stack that IMOD had was binned four times: positions are the same part of the field of view."""
    values = an_imod_set(tmp_path, np.random.default_rng(3))
    external = read_external_alignment(tmp_path, "TS_1", pixel_size_angstrom=10.0)
    found = attach_alignment(a_series((256, 192)), external)
    in_binned = (imod_sees(values, (64, 48)) + 0.5) * 4 - 0.5
    np.testing.assert_allclose(projected(found, 4 * POINTS), in_binned, atol=8e-3)


def test_imod_views_left_out(tmp_path: Path) -> None:
    an_imod_set(tmp_path, np.random.default_rng(4), com="EXCLUDELIST 1,3-4\n")
    found = attach_alignment(a_series((64, 48)), read_external_alignment(tmp_path, "TS_1"))
    assert [t.nominal_tilt_deg for t in found.series.tilts] == [-31, 17, 39, 58]
    assert [e.tilt.nominal_tilt_deg for e in found.series.excluded] == [-50, -12, 3]
    assert all("EXCLUDELIST" in e.reason for e in found.series.excluded)


def test_imod_views_cut_out(tmp_path: Path) -> None:
    """Etomo cuts views out of the stack: the files then have fewer rows, and a list of the angles that went."""
    values = an_imod_set(tmp_path, np.random.default_rng(5))
    keep = [0, 2, 3, 4, 6]
    write_transforms(tmp_path / "TS_1.xf", values["A"][keep], values["d"][keep])
    write_angles(tmp_path / "TS_1.tlt", values["tilt"][keep])
    write_angles(tmp_path / "TS_1_cutviews0.rawtlt", ANGLES[[1, 5]])
    found = attach_alignment(a_series((64, 48)), read_external_alignment(tmp_path, "TS_1"))
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, (64, 48))[keep], atol=2e-3)
    assert ["cut out" in e.reason for e in found.series.excluded] == [True, True]


def test_imod_angles_with_an_offset(tmp_path: Path) -> None:
    """IMOD's offset for a pre-tilt, here of nine degrees, moves every angle; as many views tell which is which."""
    values = an_imod_set(tmp_path, np.random.default_rng(6))
    write_angles(tmp_path / "TS_1.tlt", values["tilt"] + 9.0)
    values["tilt"] = values["tilt"] + 9.0
    found = attach_alignment(a_series((64, 48)), read_external_alignment(tmp_path, "TS_1"))
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, (64, 48)), atol=2e-3)
    assert len(found.series.tilts) == len(ANGLES)
    assert any("+9" in c or "+8.9" in c or "+9.0" in c for c in found.caveats)


def test_imod_order_of_the_stack_does_not_matter(tmp_path: Path) -> None:
    values = an_imod_set(tmp_path, np.random.default_rng(7))
    order = np.array([3, 4, 2, 5, 1, 6, 0])
    write_transforms(tmp_path / "TS_1.xf", values["A"][order], values["d"][order])
    write_angles(tmp_path / "TS_1.tlt", values["tilt"][order])
    found = attach_alignment(a_series((64, 48)), read_external_alignment(tmp_path, "TS_1"))
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, (64, 48)), atol=2e-3)


@pytest.mark.parametrize(("axis", "sign"), [(84.0, -1.0), (-96.0, 1.0)])
def test_opposite_hand_is_turned_and_told(tmp_path: Path, axis: float, sign: float) -> None:
    """Angles of the wrong sign, or an axis half a circle off, describe the mirror image: the images cannot tell."""
    values = an_imod_set(tmp_path, np.random.default_rng(8))
    write_angles(tmp_path / "TS_1.tlt", sign * values["tilt"])
    series = a_series((64, 48), axis=axis)
    angles = ANGLES if sign > 0 else -ANGLES
    write_angles(tmp_path / "TS_1.rawtlt", angles * sign)
    external = read_external_alignment(tmp_path, "TS_1")
    found = attach_alignment(series, external)
    values["tilt"] = sign * values["tilt"]
    mirrored = POINTS * [1, 1, -1]
    np.testing.assert_allclose(projected(found, mirrored), imod_sees(values, (64, 48)), atol=2e-3)
    assert any("mirror" in c for c in found.caveats)


def test_axis_and_angles_both_turned_are_the_same_hand(tmp_path: Path) -> None:
    values = an_imod_set(tmp_path, np.random.default_rng(9))
    write_angles(tmp_path / "TS_1.tlt", -values["tilt"])
    write_angles(tmp_path / "TS_1.rawtlt", ANGLES)
    found = attach_alignment(a_series((64, 48), axis=-96.0), read_external_alignment(tmp_path, "TS_1"))
    values["tilt"] = -values["tilt"]
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, (64, 48)), atol=2e-3)
    assert not any("mirror" in c for c in found.caveats)


def an_aretomo_file(
    path: Path, *, size: tuple[int, int], first: int, dark: tuple[int, ...], alpha: float | None, local: bool
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(10)
    rows = [i for i in range(len(ANGLES)) if i not in dark]
    n = len(rows)
    tilts = (ANGLES[rows] + (alpha or 0.0)).round(2)
    values = {"rows": np.array(rows), "tilt": tilts, "rot": np.full(n, 83.6), "T": rng.normal(0, 7, (n, 2)).round(3)}
    if local:  # far enough that the patches of another place would be read if it were not taken off
        values["T"] = (rng.uniform(-0.2, 0.2, (n, 2)) * size).round(3)
    lines = ["# AreTomo Alignment / Priims bprmMn", f"# RawSize = {size[0]} {size[1]} {len(ANGLES)}"]
    lines += ["# NumPatches = 4" if local else "# NumPatches = 0"]
    lines += [f"# DarkFrame =  {i:4d} {i + first:4d} {ANGLES[i]:8.2f}" for i in dark]
    if alpha is not None:
        lines += [f"# AlphaOffset = {alpha:8.2f}", "# BetaOffset =     0.00", "# Thickness = 120"]
    lines.append("# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT")
    for k, i in enumerate(rows):
        tx, ty = values["T"][k]
        lines.append(
            f"{i + first:5d}  {83.6:9.4f}  {1:9.5f}  {tx:9.3f}  {ty:9.3f}     1.00     1.00     1.00     0.00  {tilts[k]:8.2f}"
        )
    if local:
        lines.append("# Local Alignment")
        xy = np.array([[-0.17, -0.16], [0.16, -0.18], [-0.18, 0.17], [0.15, 0.18]]) * size
        patches = np.concatenate(
            [np.broadcast_to(xy, (n, 4, 2)), rng.normal(0, 1.0, (n, 4, 2)).round(2), np.ones((n, 4, 1))], 2
        )
        patches[2, 1, 4] = 0.0  # a bad one
        values["local"] = patches
        lines += [f"{t:4d} {p:3d} " + " ".join(f"{v:8.2f}" for v in patches[t, p]) for t in range(n) for p in range(4)]
    path.write_text("\n".join(lines) + "\n")
    return values


def aretomo_sees(values: dict[str, np.ndarray], size: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """GBackProj.cu (x cos + z sin), then GCorrPatchShift.cu (turn, local shift, shift; pixel k is at k + 0.5)."""
    out = []
    for k, (tilt, rot, t) in enumerate(zip(values["tilt"], values["rot"], values["T"], strict=True)):
        c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        cr, sr = np.cos(np.deg2rad(rot)), np.sin(np.deg2rad(rot))
        rows = []
        for x, y, z in points:
            xp = x * c + z * s
            place = np.array([xp * cr - y * sr, xp * sr + y * cr])
            if "local" in values:
                total, weight = np.zeros(2), 0.0
                for px, py, dx, dy, good in values["local"][k]:
                    if good > 0.9:
                        w = np.exp(-100 * (((place[0] - px) / size[0]) ** 2 + ((place[1] - py) / size[1]) ** 2))
                        total, weight = total + w * np.array([dx, dy]), weight + w
                place = place + total / weight
            rows.append(place + t + np.array(size) / 2 - 0.5)
        out.append(rows)
    return np.array(out)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("first", "alpha"), [(0, None), (1, -2.0)])
def test_aretomo(tmp_path: Path, size: tuple[int, int], first: int, alpha: float | None) -> None:
    values = an_aretomo_file(tmp_path / "TS_1.aln", size=size, first=first, dark=(0, 5), alpha=alpha, local=False)
    external = read_external_alignment(tmp_path, "TS_1")
    found = attach_alignment(a_series(size), external)
    np.testing.assert_allclose(projected(found, POINTS), aretomo_sees(values, size, POINTS), atol=2e-3)
    assert [v.section for v in external.views] == [1, 2, 3, 4, 6]
    assert [e.tilt.nominal_tilt_deg for e in found.series.excluded] == [-50, 39]
    assert all("dark" in e.reason for e in found.series.excluded)
    assert found.series.thickness_angstrom == (None if alpha is None else 120 * 2.5)


def test_aretomo_local_shifts(tmp_path: Path) -> None:
    """AreTomo's weights make steps half way between patches, which a smooth field rounds off; at the patches both agree."""
    size = (640, 480)
    values = an_aretomo_file(tmp_path / "TS_1.aln", size=size, first=1, dark=(), alpha=0.0, local=True)
    found = attach_alignment(a_series(size), read_external_alignment(tmp_path, "TS_1"))
    assert found.warp is not None
    for t, patches in enumerate(values["local"]):
        rotated = np.deg2rad(values["rot"][t])
        back = np.array([[np.cos(rotated), np.sin(rotated)], [-np.sin(rotated), np.cos(rotated)]])
        # points of the specimen at height 0 that lie at the patches' centres in this view
        plane = patches[:, :2] @ back.T
        points = np.column_stack([plane[:, 0] / np.cos(np.deg2rad(values["tilt"][t])), plane[:, 1], np.zeros(4)])
        ours, theirs = projected(found, points)[t], aretomo_sees(values, size, points)[t]
        good = patches[:, 4] > 0.9
        assert np.abs(ours - theirs)[good].max() < 0.1
        if good.all():
            np.testing.assert_allclose(
                theirs, patches[:, :2] + patches[:, 2:4] + values["T"][t] + np.array(size) / 2 - 0.5, atol=1e-3
            )


def test_aretomo_on_binned_images(tmp_path: Path) -> None:
    """RawSize tells the binning; sizes that are rounded on binning are no error."""
    values = an_aretomo_file(tmp_path / "TS_1.aln", size=(64, 48), first=1, dark=(), alpha=0.0, local=False)
    found = attach_alignment(a_series((256, 192)), read_external_alignment(tmp_path, "TS_1"))
    expected = (aretomo_sees(values, (64, 48), POINTS) + 0.5) * 4 - 0.5
    np.testing.assert_allclose(projected(found, 4 * POINTS), expected, atol=8e-3)
    with pytest.raises(InputError, match="another shape"):
        attach_alignment(a_series((64, 64)), read_external_alignment(tmp_path, "TS_1"))


def warp_euler(rot: float, tilt: float, psi: float) -> np.ndarray:
    """Matrix3.Euler of WarpLib (radians): the ZYZ matrix of SPIDER."""
    cr, sr, ct, st, cp, sp = np.cos(rot), np.sin(rot), np.cos(tilt), np.sin(tilt), np.cos(psi), np.sin(psi)
    return np.array(
        [
            [cp * ct * cr - sp * sr, cp * ct * sr + sp * cr, -cp * st],
            [-sp * ct * cr - cp * sr, -sp * ct * sr + cp * cr, sp * st],
            [st * cr, st * sr, ct],
        ]
    )


def a_warp_file(
    path: Path,
    *,
    encoding: str,
    grid: np.ndarray | None,
    size_angstrom: tuple[float, float],
    level: tuple[float, float],
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    n = len(ANGLES)
    values = {"angle": -ANGLES, "axis": np.full(n, 84.4), "offset": rng.normal(0, 15, (n, 2)).round(4)}
    lines = {
        "Angles": -ANGLES, "Dose": 3.0 * np.arange(n), "UseTilt": ["True"] * (n - 1) + ["False"], "AxisAngle": values["axis"],
        "AxisOffsetX": values["offset"][:, 0], "AxisOffsetY": values["offset"][:, 1],
        "MoviePath": [f"../frames/TS_{i:02d}.eer" for i in range(n)],
    }  # fmt: skip
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<TiltSeries AreAnglesInverted="True" '
    text += f'LevelAngleX="{level[0]}" LevelAngleY="{level[1]}" '
    text += f'ImageDimensionsAngstrom="{size_angstrom[0]}, {size_angstrom[1]}">\n'
    for name, column in lines.items():
        text += f"<{name}>" + "\n".join(str(v) for v in column) + f"</{name}>\n"
    for axis in range(2 if grid is not None else 0):
        z, y, x = grid.shape[:3]
        text += f'<GridMovement{"XY"[axis]} Width="{x}" Height="{y}" Depth="{z}">\n'
        for i, j, k in np.ndindex(z, y, x):
            text += f'<Node X="{k}" Y="{j}" Z="{i}" Value="{grid[i, j, k, axis]}" />\n'
        text += f"</GridMovement{'XY'[axis]}>\n"
    path.write_bytes((text + "</TiltSeries>\n").encode(encoding))
    return values


def warp_sees(
    values: dict[str, np.ndarray], points_angstrom: np.ndarray, size: tuple[float, float], level: tuple[float, float]
) -> np.ndarray:
    """GetPositionInAllTilts of WarpLib, A from the corner, without GridMovement."""
    out = []
    for angle, axis, offset in zip(values["angle"], values["axis"], values["offset"], strict=True):
        turned = warp_euler(0, np.deg2rad(angle + level[1]), -np.deg2rad(axis)) @ turn("x", level[0])
        out.append((points_angstrom @ turned.T)[:, :2] + offset + np.array(size) / 2)
    return np.array(out)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("size", [(64, 48), (63, 48)])
def test_warp(tmp_path: Path, encoding: str, size: tuple[int, int]) -> None:
    field = (size[0] * 2.5, size[1] * 2.5)
    values = a_warp_file(tmp_path / "TS_1.xml", encoding=encoding, grid=None, size_angstrom=field, level=(1.5, -4.0))
    found = attach_alignment(a_series(size), read_external_alignment(tmp_path, "TS_1"))
    expected = warp_sees(values, POINTS * 2.5, field, (1.5, -4.0))[:-1] / 2.5
    np.testing.assert_allclose(projected(found, POINTS), expected, atol=1e-6)
    assert [e.reason for e in found.series.excluded] == ["left out in Warp"]


@pytest.mark.parametrize(("turned", "symmetric"), [(True, False), (False, False), (True, True)])
def test_warp_without_names_of_movies(tmp_path: Path, turned: bool, symmetric: bool) -> None:
    """Warp most often has the stage's angles negated, but not always; a lopsided range tells, a symmetric one does not."""
    size, field = (64, 48), (160.0, 120.0)
    angles = np.linspace(-60.0, 60.0, len(ANGLES)) if symmetric else ANGLES
    values = a_warp_file(tmp_path / "TS_1.xml", encoding="utf-8", grid=None, size_angstrom=field, level=(0, 0))
    values["angle"] = -angles if turned else angles
    text = (tmp_path / "TS_1.xml").read_text()
    start, rest = text.split("<Angles>")
    rest = "\n".join(str(a) for a in values["angle"]) + rest[rest.index("</Angles>") :]
    (tmp_path / "TS_1.xml").write_text((start + "<Angles>" + rest).replace("../frames/TS_", "other/x_"))
    found = attach_alignment(a_series(size, angles=angles), read_external_alignment(tmp_path, "TS_1"))
    points = POINTS if turned else POINTS * [1, 1, -1]
    expected = warp_sees(values, POINTS * 2.5, field, (0, 0))[:-1] / 2.5
    np.testing.assert_allclose(projected(found, points), expected, atol=1e-6)
    assert any("sign" in c for c in found.caveats) == (symmetric or not turned)


def test_warp_local_movement(tmp_path: Path) -> None:
    """A grid of 2 x 2 x all views is bilinear: GridMovement is taken off, read at the place that the rigid part gives."""
    rng = np.random.default_rng(12)
    grid = rng.normal(0, 4, (len(ANGLES), 2, 2, 2)).round(3)
    field = (160.0, 120.0)
    values = a_warp_file(tmp_path / "TS_1.xml", encoding="utf-8", grid=grid, size_angstrom=field, level=(0, 0))
    found = attach_alignment(a_series((64, 48)), read_external_alignment(tmp_path, "TS_1"))
    seen = warp_sees(values, POINTS * 2.5, field, (0, 0))
    u, v = (seen / np.array(field))[..., :1], (seen / np.array(field))[..., 1:]
    g = grid[:, None]
    moved = (1 - v) * ((1 - u) * g[..., 0, 0, :] + u * g[..., 0, 1, :]) + v * (
        (1 - u) * g[..., 1, 0, :] + u * g[..., 1, 1, :]
    )
    np.testing.assert_allclose(projected(found, POINTS), ((seen - moved) / 2.5)[:-1], atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_relion(tmp_path: Path, size: tuple[int, int]) -> None:
    """setProjectionMatrix of RELION-5: S(int(n / 2)) S(shift / px) Rz Ry Rx."""
    rng = np.random.default_rng(13)
    poses = [
        TiltPose(
            y_tilt_deg=float(a),
            z_rot_deg=84.5,
            x_tilt_deg=1.25,
            x_shift_angstrom=float(rng.normal(0, 9)),
            y_shift_angstrom=float(rng.normal(0, 9)),
        )
        for a in ANGLES
    ]
    series = a_series(size)
    aligned = series.with_tilts([replace(t, pose=p) for t, p in zip(series.tilts, poses, strict=True)])
    write_tilt_series_set(tmp_path / "align" / "tilt_series.star", [aligned.without({1: "blocked"})], tmp_path)
    found = attach_alignment(series, read_external_alignment(tmp_path / "align", "TS_1"))
    expected = []
    for i, p in enumerate(poses):
        if i == 1:
            continue
        seen = POINTS @ (turn("z", p.z_rot_deg) @ turn("y", p.y_tilt_deg) @ turn("x", p.x_tilt_deg)).T
        shift = np.array([p.x_shift_angstrom, p.y_shift_angstrom]) / 2.5
        expected.append(seen[:, :2] + shift + [int(size[0] / 2), int(size[1] / 2)])
    np.testing.assert_allclose(projected(found, POINTS), expected, atol=1e-9)
    assert [e.reason for e in found.series.excluded] == ["blocked"]


def test_views_of_another_series_are_refused(tmp_path: Path) -> None:
    an_imod_set(tmp_path, np.random.default_rng(14))
    with pytest.raises(InputError, match=r"cannot be told|no tilt of|other angles"):
        attach_alignment(
            a_series((64, 48), angles=np.arange(-60.0, 61.0, 3.0) + 1.4), read_external_alignment(tmp_path, "TS_1")
        )


def test_sections_are_followed_where_the_series_is_a_stack(tmp_path: Path) -> None:
    """Two images at one angle cannot be told apart by it, but by their place in the stack."""
    values = an_imod_set(tmp_path, np.random.default_rng(15))
    write_angles(tmp_path / "TS_1.tlt", np.where(np.arange(7) == 4, values["tilt"][3], values["tilt"]))
    angles = ANGLES.copy()
    angles[4] = angles[3]
    tilts = [
        Tilt(nominal_tilt_deg=float(a), acquisition=i, dose=1.0, pre_exposure=float(i), image=f"{i + 1}@stack.mrc")
        for i, a in enumerate(angles)
    ]
    series = TiltSeries.sorted(tilts, name="TS_1", pixel_size_angstrom=2.5, image_shape=(48, 64))
    found = attach_alignment(series, read_external_alignment(tmp_path, "TS_1"))
    values["tilt"][4] = values["tilt"][3]
    np.testing.assert_allclose(projected(found, POINTS), imod_sees(values, (64, 48)), atol=2e-3)


def test_shared_files_of_other_programs(shared_data: Path) -> None:
    """Files that the programs wrote are read whole; numbers as they stand in them."""
    formats = shared_data / "formats"
    imod = read_external_alignment(formats / "imod" / "TS_001.xf", "TS_001")
    assert len(imod.views) == 40
    assert np.ptp([v.y_tilt_deg - v.listed_deg for v in imod.views]) < 0.5  # tiltalign's AngleOffset = 2.85
    assert abs(np.mean([v.y_tilt_deg - v.listed_deg for v in imod.views]) - 2.85) < 0.2
    assert all(abs(v.z_rot_deg - 84.15) < 0.1 for v in imod.views)
    pair = read_external_alignment(formats / "imod" / "convert_pair" / "imod_1" / "tilt_1.xf", "tilt_1")
    assert len(pair.views) == 59
    assert all(-101 < v.z_rot_deg < -99.5 for v in pair.views)
    warp = read_external_alignment(formats / "warp" / "gs04_ts_003.xml", "gs04_ts_003")
    assert len(warp.views) == 47
    assert all(f"_{v.y_tilt_deg:.1f}_" in v.names[0] for v in warp.views)  # the movies' names hold the stage's angle
    old = read_external_alignment(formats / "session_TS_018" / "018.xml", "018")
    assert len(old.views) == 60
    assert old.local is not None
    assert any("3D" in c for c in old.caveats)
    relion = read_external_alignment(
        formats / "relion" / "relion5_project" / "Tomograms" / "job009" / "tomograms.star", "tomo200528_107"
    )
    assert len(relion.views) == 35
    assert relion.views[0].y_tilt_deg == -50.99
    assert relion.views[0].shift == (9.537168, -19.87772)
