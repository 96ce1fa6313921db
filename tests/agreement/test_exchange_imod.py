"""Data sets of IMOD, both ways, against the formulas of newstack, tilt and ctfphaseflip written out from their sources."""

import re
from dataclasses import replace
from pathlib import Path

import exchange_phantom as phantom
import numpy as np
import pytest
import torch
from exchange_damage import refused_in_words

from eucentric.errors import FormatError, InputError
from eucentric.geometry import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.exchange.imod import FORMAT
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.imod_local import read_local
from eucentric.io.mrc import write_mrc
from eucentric.models import TiltSeries

PIXEL = 2.5


def entry(text: str, name: str) -> list[float]:
    found = re.search(rf"^{name}\s+(.+)$", text, re.MULTILINE)
    assert found is not None, name
    return [float(word) for word in found[1].replace(",", " ").split()]


def numbers(path: Path) -> np.ndarray:
    return np.array([[float(w) for w in line.split()] for line in path.read_text().splitlines()])


class Imod:
    """What IMOD makes of the files of a data set: pixels and lines counted from 1, as in tilt.f90."""

    def __init__(self, folder: Path, name: str, size: tuple[int, int]) -> None:
        self.size = size
        self.xf = numbers(folder / f"{name}.xf")
        self.tilts = numbers(folder / f"{name}.tlt")[:, 0]
        x_tilts = folder / f"{name}.xtilt"
        self.x_tilts = numbers(x_tilts)[:, 0] if x_tilts.is_file() else np.zeros(len(self.tilts))
        tilt, newst = (folder / "tilt.com").read_text(), (folder / "newst.com").read_text()
        self.aligned = tuple(entry(newst, "SizeToOutputInXandY"))
        assert tuple(entry(tilt, "FULLIMAGE")) == self.aligned
        assert entry(tilt, "OFFSET") == [0.0]
        assert entry(tilt, "SHIFT") == [0.0, 0.0]
        assert ("XTILTFILE" in tilt) == x_tilts.is_file()
        self.excluded = [int(n) - 1 for n in entry(tilt, "EXCLUDELIST")] if "EXCLUDELIST" in tilt else []
        self.thickness = entry(tilt, "THICKNESS")[0]
        self.local = numbers_of_local(folder / f"{name}local.xf", len(self.tilts)) if "LOCALFILE" in tilt else None

    def projected(self, view: int, point: np.ndarray) -> np.ndarray:
        """Pixel of the aligned image, from 1, that shows a point (pixels from the centre of the volume after trimvol -rx)."""
        xcen, ycen = self.aligned[0] / 2 + 0.5, self.aligned[1] / 2 + 0.5
        beta, alpha = np.deg2rad(self.tilts[view]), np.deg2rad(self.x_tilts[view])
        cos_beta, sin_beta, cos_alpha, sin_alpha = np.cos(beta), -np.sin(beta), np.cos(alpha), -np.sin(alpha)
        xx, yy, zz = point[0], point[1], -point[2]
        xp = xx * cos_beta + yy * sin_alpha * sin_beta + zz * cos_alpha * sin_beta + xcen
        yp = yy * cos_alpha - zz * sin_alpha + ycen
        if self.local is None:
            return np.array([xp, yp])
        count, start, step, transforms = self.local
        places, parts = [], []
        for axis, at in ((0, xx + xcen), (1, yy + ycen)):
            t = min(max(at - start[axis], 0), (count[axis] - 1) * step[axis])
            k = min(int(t / step[axis]) + 1, count[axis] - 1)
            places.append(k - 1)
            parts.append((t - (k - 1) * step[axis]) / step[axis])
        out = np.zeros(2)
        for j in (0, 1):
            for i in (0, 1):
                a11, a12, a21, a22, dx, dy = transforms[places[1] + j, places[0] + i, view]
                weight = (parts[0] if i else 1 - parts[0]) * (parts[1] if j else 1 - parts[1])
                x, y = xp - xcen, yp - ycen
                out += weight * np.array([a11 * x + a12 * y + dx + xcen, a21 * x + a22 * y + dy + ycen])
        return out

    def seen(self, points_px: np.ndarray) -> np.ndarray:
        """(view, point, 2): pixels of the raw images, from 0."""
        out = []
        for view, (a11, a12, a21, a22, dx, dy) in enumerate(self.xf):
            matrix = np.array([[a11, a12], [a21, a22]])
            row = []
            for point in points_px:
                # newstack: x' = A (x - nx / 2) + d + nxout / 2, with the edge of the first pixel at 0
                edge = self.projected(view, point) - 0.5
                raw = np.linalg.solve(matrix, edge - np.array(self.aligned) / 2 - [dx, dy]) + np.array(self.size) / 2
                row.append(raw - 0.5)
            out.append(row)
        return np.array(out)


def numbers_of_local(path: Path, views: int) -> tuple[list[int], list[int], list[int], np.ndarray]:
    lines = path.read_text().splitlines()
    head = [float(w) for w in lines[0].split()]
    nx, ny = int(head[0]), int(head[1])
    assert head[6] == 0  # no x-tilts follow
    assert head[7] == pytest.approx(PIXEL)
    words = iter(" ".join(lines[1:]).split())
    transforms = np.zeros((ny, nx, views, 6))
    for area in range(nx * ny):
        assert [float(next(words)) for _ in range(views)] == [0.0] * views  # changes of tilt
        for view in range(views):
            transforms[area // nx, area % nx, view] = [float(next(words)) for _ in range(6)]
    assert next(words, None) is None
    return [nx, ny], [int(head[2]), int(head[3])], [int(head[4]), int(head[5])], transforms


def written(folder: Path, geometry: SeriesGeometry) -> tuple[str, ...]:
    made = FORMAT.write(folder, [geometry])
    assert all(f.is_file() for f in made.files)
    assert {f.name for f in made.files} == {f.name for f in folder.iterdir()}
    return made.losses


@pytest.mark.parametrize("size", phantom.SIZES_XY)
@pytest.mark.parametrize("axis", [84.0, -12.0, -101.0])
def test_points_lie_where_imod_sees_them(tmp_path: Path, size: tuple[int, int], axis: float) -> None:
    geometry = phantom.phantom_series(size_xy=size, axis_deg=axis, x_tilt=True, magnification=True)
    assert written(tmp_path, geometry) == ()
    imod = Imod(tmp_path, "TS_1", size)
    np.testing.assert_allclose(imod.seen(phantom.points() / PIXEL), phantom.seen(geometry)[..., :2], atol=5e-3)
    assert imod.thickness == 64
    assert imod.aligned == (size if axis == -12.0 else size[::-1])


def test_no_x_tilt_no_file(tmp_path: Path) -> None:
    written(tmp_path, phantom.phantom_series())
    assert not (tmp_path / "TS_1.xtilt").exists()


def test_excluded_views_keep_their_place(tmp_path: Path) -> None:
    geometry = phantom.phantom_series(excluded=True)
    written(tmp_path, geometry)
    imod = Imod(tmp_path, "TS_1", (96, 80))
    assert imod.excluded == [3, 10]
    assert len(imod.xf) == 11
    assert np.all(np.abs(imod.xf[:, 1]) > 0.9)  # never the identity, which stands for none
    rows = [i for i in range(11) if i not in (3, 10)]
    np.testing.assert_allclose(imod.seen(phantom.points() / PIXEL)[rows], phantom.seen(geometry)[..., :2], atol=5e-3)
    assert numbers(tmp_path / "TS_1.rawtlt")[:, 0].tolist() == list(np.arange(-50.0, 51.0, 10.0))
    back = FORMAT.read(tmp_path, Given(pixel_size_angstrom=PIXEL))[0].series
    assert [(e.tilt.nominal_tilt_deg, "EXCLUDELIST" in e.reason) for e in back.excluded] == [
        (-20.0, True),
        (50.0, True),
    ]
    assert [t.acquisition for t in back.tilts] == [t.acquisition for t in geometry.series.tilts]


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_defocus_and_its_hand(tmp_path: Path, hand: float) -> None:
    """ctfphaseflip: D(x) = D - (nx / 2 + xShift - x) tan(angle) in the aligned image, angles negated with InvertTiltAngles."""
    geometry = phantom.phantom_series(hand=hand, phase_shift=True)
    written(tmp_path, geometry)
    imod = Imod(tmp_path, "TS_1", (96, 80))
    lines = (tmp_path / "TS_1.defocus").read_text().splitlines()
    assert lines[0].split() == ["5", "0", "0.0", "0.0", "0.0", "3"]
    correction = (tmp_path / "ctfcorrection.com").read_text()
    sign = -1.0 if "InvertTiltAngles" in correction else 1.0
    assert entry(correction, "PixelSize") == [0.25]
    points = phantom.points() * [1, 1, 0]  # in the specimen's plane, as ctfphaseflip takes all to lie
    heights = TiltGeometry.from_poses(geometry.series.poses).project(points)[..., 2]
    for view, tilt in enumerate(geometry.series.tilts):
        first, last, _, _, d1, d2, angle, phase = (float(w) for w in lines[view + 1].split())
        assert first == last == view + 1
        assert phase == 72.0
        assert (d1 - d2) * 10 == pytest.approx(900.0, abs=0.2)
        assert angle == 31.5
        for point, height in zip(points, heights[view], strict=True):
            strip = imod.projected(view, point / PIXEL)[0] - 1.0
            x_shift = imod.xf[view, 4]
            there = 0.5 * (d1 + d2) - (imod.aligned[0] / 2 + x_shift - strip) * np.tan(
                sign * np.deg2rad(imod.tilts[view])
            ) * (PIXEL / 10)
            assert tilt.ctf is not None
            assert there * 10 == pytest.approx(tilt.ctf.defocus_angstrom + hand * height, abs=1.5)


def test_local_deformation(tmp_path: Path) -> None:
    """Smooth over the image, it is followed at the height of the axis; the loss is that of points above and below."""
    rng = np.random.default_rng(3)
    size = (960, 800)
    geometry = phantom.phantom_series(size_xy=size, x_tilt=True)
    warp = ImageWarp.build(rng.normal(0, 20, (11, 3, 4, 2)), (800, 960), PIXEL)
    geometry = replace(geometry, warp=warp)
    losses = written(tmp_path, geometry)
    assert len(losses) == 1
    imod = Imod(tmp_path, "TS_1", size)
    assert imod.local is not None
    points = rng.uniform(-0.3, 0.3, (20, 3)) * [size[1], size[0], 0]  # pixels of the volume, whose x is the image's y
    found, expected = imod.seen(points), phantom.seen(geometry, points * PIXEL)[..., :2]
    rigid = phantom.seen(replace(geometry, warp=None), points * PIXEL)[..., :2]
    assert np.abs(rigid - expected).max() > 10
    assert np.sqrt(((found - expected) ** 2).sum(2).mean()) < 0.5
    whole = Imod(tmp_path, "TS_1", size)
    whole.local = None
    local = read_local(tmp_path / "TS_1local.xf", 11)
    for view in (0, 5, 9):
        moved = [imod.projected(view, p) - whole.projected(view, p) for p in points]
        angles = float(imod.tilts[view]), float(imod.x_tilts[view])
        found_there = local.displacement(view, points, *angles, (size[1], size[0]))
        np.testing.assert_allclose(found_there, moved, atol=1e-9)
    back = FORMAT.read(tmp_path, Given(pixel_size_angstrom=PIXEL))[0]
    assert back.warp is not None
    again = phantom.seen(back, points * PIXEL)[..., :2]
    assert np.sqrt(((again - expected) ** 2).sum(2).mean()) < 0.7
    off = points + np.array([0, 0, 24])
    missed = np.sqrt(((imod.seen(off) - phantom.seen(geometry, off * PIXEL)[..., :2]) ** 2).sum(2).mean()) * PIXEL
    told = float(re.search(r"are ([\d.]+) A rms", losses[0])[1])  # type: ignore[index]
    assert 0.3 * missed < told < 3 * missed


@pytest.mark.parametrize("size", phantom.SIZES_XY)
@pytest.mark.parametrize("phase", [False, True])
def test_round_trip(tmp_path: Path, size: tuple[int, int], phase: bool) -> None:
    geometry = phantom.phantom_series(
        size_xy=size, x_tilt=True, magnification=True, phase_shift=phase, hand=1.0, excluded=True
    )
    written(tmp_path, geometry)
    back = FORMAT.read(tmp_path, Given())[0]  # the pixel size is in ctfcorrection.com, the images' in FULLIMAGE
    ours, theirs = geometry.series, back.series
    assert theirs.image_shape == ours.image_shape
    assert theirs.pixel_size_angstrom == pytest.approx(PIXEL)
    np.testing.assert_allclose(phantom.seen(back), phantom.seen(geometry), atol=5e-3)
    for a, b in zip(ours.tilts, theirs.tilts, strict=True):
        assert a.pose is not None
        assert b.pose is not None
        assert b.pose.y_tilt_deg == pytest.approx(a.pose.y_tilt_deg, abs=1e-3)
        assert b.pose.magnification == pytest.approx(a.pose.magnification, abs=1e-5)
        assert (b.dose, b.pre_exposure, b.acquisition) == (a.dose, pytest.approx(a.pre_exposure), a.acquisition)
        assert b.image == f"{int((a.image or '').split('@')[0])}@TS_1.mrc"
        assert a.ctf is not None
        assert b.ctf is not None
        assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom, abs=0.2)
        assert b.ctf.defocus_v_angstrom == pytest.approx(a.ctf.defocus_v_angstrom, abs=0.2)
        assert b.ctf.astigmatism_angle_deg == pytest.approx(31.5)
        assert b.ctf.phase_shift_deg == pytest.approx(72.0 if phase else 0.0)
    assert theirs.hand == ours.hand
    assert theirs.optics == ours.optics


def test_several_series_have_a_folder_each(tmp_path: Path) -> None:
    both = [phantom.phantom_series(name="A"), phantom.phantom_series(name="B", axis_deg=-12.0, seed=4)]
    FORMAT.write(tmp_path, both)
    assert FORMAT.recognises(tmp_path)
    back = FORMAT.read(tmp_path, Given(pixel_size_angstrom=PIXEL, name="C"))
    assert [b.series.name for b in back] == ["A", "B"]
    for ours, theirs in zip(both, back, strict=True):
        np.testing.assert_allclose(phantom.seen(theirs), phantom.seen(ours), atol=5e-3)
    with pytest.raises(InputError, match="one file"):
        FORMAT.write(tmp_path / "x.xf", both)


def test_stack_and_mdoc_tell_size_order_and_dose(tmp_path: Path) -> None:
    geometry = phantom.phantom_series(ctf=False)
    FORMAT.write(tmp_path, [geometry])
    for name in ("tilt.com", "newst.com", "mtffilter.com", "ctfcorrection.com", "TS_1_dose.txt"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="pixel size"):
        FORMAT.read(tmp_path / "TS_1.xf", Given())
    with pytest.raises(InputError, match="size of its images"):
        FORMAT.read(tmp_path / "TS_1.xf", Given(pixel_size_angstrom=PIXEL))
    write_mrc(tmp_path / "TS_1.st", np.zeros((11, 80, 96), np.float32), PIXEL, "float32", is_volume=False)
    without = FORMAT.read(tmp_path / "TS_1.xf", Given())[0]
    assert any("order" in n for n in without.notes)
    assert without.series.tilts[4].image == f"5@{(tmp_path / 'TS_1.st').resolve()}"
    sections = []
    for z, tilt in enumerate(geometry.series.tilts):
        sections.append(
            f"[ZValue = {z}]\nTiltAngle = {tilt.nominal_tilt_deg + 0.01}\nExposureDose = 3\nPriorRecordDose = {tilt.pre_exposure}\n"
            f"SubFramePath = D:\\frames\\m_{tilt.acquisition}.tif\n"
        )
    (tmp_path / "TS_1.st.mdoc").write_text("PixelSpacing = 2.5\n\n" + "\n".join(sections))
    found = FORMAT.read(tmp_path / "TS_1.xf", Given())[0].series
    assert found.image_shape == (80, 96)
    ours = geometry.series
    assert [t.acquisition for t in found.tilts] == [t.acquisition for t in ours.tilts]
    assert [t.movie for t in found.tilts] == [f"m_{t.acquisition}.tif" for t in ours.tilts]
    np.testing.assert_allclose(found.pre_exposures, ours.pre_exposures)


def test_coarse_alignment_only(tmp_path: Path) -> None:
    """.prexg shifts raw images onto each other; with the axis in the .edf that is an alignment, and the note says which."""
    rng = np.random.default_rng(5)
    shifts = rng.normal(0, 8, (5, 2)).round(3)
    (tmp_path / "x.prexg").write_text("".join(f"1.0 0.0 0.0 1.0 {a} {b}\n" for a, b in shifts))
    (tmp_path / "x.rawtlt").write_text("-20\n-10\n0\n10\n20\n")
    given = Given(pixel_size_angstrom=PIXEL, image_shape=(80, 96))
    with pytest.raises(InputError, match="axis"):
        FORMAT.read(tmp_path, given)
    (tmp_path / "x.edf").write_text("Setup.DatasetName=x\nSetup.ImageRotationA=84.0\nSetup.PixelSize=0.25\n")
    found = FORMAT.read(tmp_path / "x.edf", Given(image_shape=(80, 96)))[0]
    assert any("coarse" in n for n in found.notes)
    assert [t.pose.z_rot_deg for t in found.series.tilts if t.pose] == pytest.approx([84.0] * 5)
    # x' = x + d: the centre of the prealigned images, 0, was at -d
    seen = TiltGeometry.from_poses(found.series.poses).project(np.zeros(3))[:, :2] / PIXEL
    np.testing.assert_allclose(seen, -shifts - 0.5, atol=1e-6)


def test_two_axes_and_views_cut_out(tmp_path: Path) -> None:
    """Etomo's data set of two axes has a, b behind the name; views cut from a stack are listed apart, and rows miss them."""
    for letter, axis in (("a", 84.0), ("b", -6.0)):
        geometry = phantom.phantom_series(name=f"x{letter}", axis_deg=axis, x_tilt=True)
        FORMAT.write(tmp_path / letter, [geometry])
        for file in (tmp_path / letter).iterdir():
            named = file.name if file.suffix != ".com" else f"{file.stem}{letter}.com"
            file.rename(tmp_path / named)
        (tmp_path / letter).rmdir()
    (tmp_path / "x.edf").write_text("Setup.DatasetName=x\nSetup.AxisType=Dual Axis\nSetup.PixelSize=0.25\n")
    for name in ("xa.xf", "xa.tlt", "xa.xtilt", "xa.rawtlt"):
        lines = (tmp_path / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(line for i, line in enumerate(lines) if i not in (0, 7)))
    (tmp_path / "xa_cutviews0.rawtlt").write_text("-50\n20\n")
    (tmp_path / "xa.defocus").unlink()
    (tmp_path / "mtffiltera.com").unlink()
    first, second = FORMAT.read(tmp_path / "x.edf", Given())
    assert (first.series.name, second.series.name) == ("xa", "xb")
    assert first.series.image_shape == second.series.image_shape == (80, 96)
    assert [e.tilt.nominal_tilt_deg for e in first.series.excluded] == [-50.0, 20.0]
    assert all("cut out" in e.reason for e in first.series.excluded)
    kept = [i for i in range(11) if i not in (0, 7)]
    ours = phantom.seen(phantom.phantom_series(name="xa", x_tilt=True))
    np.testing.assert_allclose(phantom.seen(first), ours[kept], atol=5e-3)
    again = FORMAT.read(tmp_path / "tiltb.com", Given())
    assert [g.series.name for g in again] == ["xb"]


def test_shift_identity_of_real_transforms(shared_data: Path) -> None:
    """Without tilt.com, the shift is -A^-1 d and the axis that of A^-1: the numbers in the file, taken apart here."""
    folder = shared_data / "formats" / "imod"
    given = Given(pixel_size_angstrom=2.0, image_shape=(4092, 5760))
    found = FORMAT.read(folder / "TS_001.xf", given)[0].series
    xf = np.loadtxt(folder / "TS_001.xf")
    assert len(found.tilts) == len(xf) == 40
    for tilt, (a11, a12, a21, a22, dx, dy) in zip(found.tilts, xf, strict=True):
        assert tilt.pose is not None
        shift = -np.linalg.inv([[a11, a12], [a21, a22]]) @ [dx, dy]
        assert tilt.pose.x_shift_angstrom == pytest.approx((shift[0] - 0.5) * 2.0, abs=1e-6)
        assert tilt.pose.y_shift_angstrom == pytest.approx((shift[1] - 0.5) * 2.0, abs=1e-6)
        assert tilt.pose.z_rot_deg == pytest.approx(np.degrees(np.arctan2(a12, a11)), abs=1e-3)
    np.testing.assert_allclose([t.pose.y_tilt_deg for t in found.tilts if t.pose], np.loadtxt(folder / "TS_001.tlt"))
    edf = FORMAT.read(folder / "TS_001.edf", Given(image_shape=(4092, 5760)))[0].series
    assert edf.pixel_size_angstrom == pytest.approx(6.192)
    assert [s.series.name for s in FORMAT.read(folder, given)] == ["TS_001", "test"]


def test_real_pair(shared_data: Path) -> None:
    """Sizes are those of tilt.com, swapped as the axis lies at -100 degrees; THICKNESS becomes the volume's."""
    folder = shared_data / "formats" / "imod" / "convert_pair" / "imod_1"
    assert FORMAT.recognises(folder)
    found = FORMAT.read(folder, Given(pixel_size_angstrom=1.7))[0]
    assert found.series.image_shape == (3708, 3832)
    assert found.series.volume_size_px == (3708, 3832, 2000)
    assert len(found.series.tilts) == 59
    assert found.series.poses[0].z_rot_deg == pytest.approx(np.degrees(np.arctan2(-0.9834202, -0.1813379)), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("TS_1.xf", "1 0 0 1 0\n", "six|A11"),
        ("TS_1.xf", "1 0 0 1 0 nan\n", "finite"),
        ("TS_1.xf", "0 0 0 0 0 0\n" * 11, "flattens"),
        ("TS_1.xf", "1 0 0 1 0 0\n" * 4, "expected as many"),
        ("TS_1.xf", "", "empty"),
        ("TS_1.tlt", "a\n" * 11, "expected numbers"),
        ("tilt.com", "$tilt\nEXCLUDELIST 1-99999999999\n", "lists views"),
        ("tilt.com", "$tilt\nTHICKNESS 1e300\n", "THICKNESS"),
        ("tilt.com", "$tilt\nFULLIMAGE nan nan\n", "FULLIMAGE"),
        ("tilt.com", "$tilt\nLOCALFILE TS_1local.xf\n", "areas"),
        ("TS_1.defocus", "inf 0 0 0 0 3\n1 1 0 0 3000\n", "Line 1|not numbers|flags"),
        ("TS_1.defocus", "1 0 0 0 0 3\n1 1 0 0 3000\n", "expected 7"),
        ("TS_1.defocus", "", "no estimate|no defocus"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, text: str, words: str) -> None:
    FORMAT.write(tmp_path, [phantom.phantom_series()])
    (tmp_path / "TS_1local.xf").write_text("999999 999999 1 1 10 10 0\n0 0\n")
    (tmp_path / name).write_text(text)
    with pytest.raises((InputError, FormatError), match=words):
        FORMAT.read(tmp_path, Given(pixel_size_angstrom=PIXEL, image_shape=(80, 96)))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        FORMAT.read(tmp_path / "none", Given())
    with pytest.raises(InputError, match="no data set"):
        FORMAT.read(tmp_path, Given())
    assert not FORMAT.recognises(tmp_path)
    geometry = phantom.phantom_series()
    bare: TiltSeries = geometry.series.with_tilts([replace(t, pose=None) for t in geometry.series.tilts])
    with pytest.raises(InputError, match="no alignment"):
        FORMAT.write(tmp_path, [replace(geometry, series=bare)])


def test_warp_is_read_at_places_of_the_image(tmp_path: Path) -> None:
    """A constant deformation is a shift of every area, turned into the aligned image."""
    geometry = phantom.phantom_series()
    field = np.broadcast_to([7.5, -5.0], (11, 1, 1, 2))
    FORMAT.write(tmp_path, [replace(geometry, warp=ImageWarp.build(field, (80, 96), PIXEL))])
    back = FORMAT.read(tmp_path, Given())[0]
    assert back.warp is not None
    places = torch.tensor([[0.0, 0.0], [60.0, -40.0]], dtype=torch.float64)
    np.testing.assert_allclose(back.warp.at(5, places).numpy(), [[7.5, -5.0]] * 2, atol=0.01)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    given = Given(pixel_size_angstrom=PIXEL, image_shape=(80, 96))
    FORMAT.write(tmp_path, [phantom.phantom_series(x_tilt=True, warp=True, phase_shift=True)])
    for file in [f for f in tmp_path.iterdir() if f.suffix in (".xf", ".tlt", ".com", ".defocus", ".txt")]:
        refused_in_words(file, lambda: FORMAT.read(tmp_path / "TS_1.xf", given), count=12)
