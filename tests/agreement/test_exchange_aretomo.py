"""AreTomo's files, both ways, against the formulas of AreTomo3's sources on the raw text."""

import re
from dataclasses import replace
from pathlib import Path

import exchange_phantom as phantom
import numpy as np
import pytest
from exchange_damage import refused_in_words

from eucentric.errors import FormatError, InputError
from eucentric.geometry import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.exchange.aretomo import FORMAT
from eucentric.io.exchange.imod import FORMAT as IMOD
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.mrc import write_mrc

PIXEL = 2.5
GIVEN = Given(pixel_size_angstrom=PIXEL)


class Aln:
    """An `.aln` as CLoadAlignFile.cpp reads it."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        self.header = {
            k.strip(): v.split() for k, _, v in (line[1:].partition("=") for line in lines if line[0] == "#")
        }
        self.dark = [[float(w) for w in line.split("=")[1].split()] for line in lines if "DarkFrame" in line]
        data = [[float(w) for w in line.split()] for line in lines if line[0] != "#"]
        count = int(self.header["RawSize"][2]) - len(self.dark)
        self.rows = np.array(data[:count])
        self.size = np.array([int(n) for n in self.header["RawSize"][:2]])
        self.patches = int(self.header["NumPatches"][0])
        self.local = np.array(data[count:]).reshape(count, self.patches, 7) if self.patches else None

    def seen(self, points_px: np.ndarray) -> np.ndarray:
        """(view, point, 2): GBackProj.cu (x cos + z sin), then GCorrPatchShift.cu: turn, local shift, shift, from the edge at 0."""
        out = []
        for t, (_, rot, _, tx, ty, *_, tilt) in enumerate(self.rows):
            c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
            cr, sr = np.cos(np.deg2rad(rot)), np.sin(np.deg2rad(rot))
            row = []
            for x, y, z in points_px:
                u = x * c + z * s
                place = np.array([u * cr - y * sr, u * sr + y * cr])
                if self.local is not None:
                    _, _, px, py, dx, dy, good = self.local[t].T
                    assert np.all(good == 1)
                    w = np.exp(-100 * (((place[0] - px) / self.size[0]) ** 2 + ((place[1] - py) / self.size[1]) ** 2))
                    place = place + np.array([(w * dx).sum(), (w * dy).sum()]) / w.sum()
                row.append(place + [tx, ty] + self.size / 2 - 0.5)
            out.append(row)
        return np.array(out)


def written(folder: Path, geometry: SeriesGeometry) -> tuple[str, ...]:
    made = FORMAT.write(folder, [geometry])
    assert {f.name for f in made.files} == {f.name for f in folder.iterdir()}
    return made.losses


@pytest.mark.parametrize("size", phantom.SIZES_XY)
@pytest.mark.parametrize("axis", [84.0, -101.0])
def test_points_lie_where_aretomo_sees_them(tmp_path: Path, size: tuple[int, int], axis: float) -> None:
    geometry = phantom.phantom_series(size_xy=size, axis_deg=axis)
    assert written(tmp_path, geometry) == ()
    aln = Aln(tmp_path / "TS_1.aln")
    np.testing.assert_allclose(aln.seen(phantom.points() / PIXEL), phantom.seen(geometry)[..., :2], atol=5e-3)
    assert aln.rows[:, 0].tolist() == list(range(1, 12))
    assert aln.header["AlphaOffset"] == [
        f"{np.median([p.y_tilt_deg for p in geometry.series.poses] - np.arange(-50, 51, 10)):.2f}"
    ]


def test_excluded_views_are_dark(tmp_path: Path) -> None:
    geometry = phantom.phantom_series(excluded=True)
    written(tmp_path, geometry)
    aln = Aln(tmp_path / "TS_1.aln")
    assert aln.header["RawSize"] == ["96", "80", "11"]
    assert [d[:2] for d in aln.dark] == [[3, 4], [10, 11]]  # index from 0, section from 1
    alpha = float(aln.header["AlphaOffset"][0])
    assert [d[2] for d in aln.dark] == pytest.approx([-20 + alpha, 50 + alpha])
    assert aln.rows[:, 0].tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    table = np.loadtxt(tmp_path / "TS_1_TLT.txt")
    assert table[:, 0].tolist() == list(np.arange(-50.0, 51.0, 10.0))
    every = [*geometry.series.tilts, *(e.tilt for e in geometry.series.excluded)]
    order = {t.nominal_tilt_deg: t.acquisition + 1 for t in every}
    assert table[:, 1].tolist() == [order[a] for a in table[:, 0]]
    assert set(table[:, 2]) == {3.0}
    assert len(np.loadtxt(tmp_path / "TS_1_CTF.txt")) == 9
    back = FORMAT.read(tmp_path, GIVEN)[0].series
    assert [(e.tilt.nominal_tilt_deg, e.tilt.acquisition) for e in back.excluded] == [
        (e.tilt.nominal_tilt_deg, e.tilt.acquisition) for e in geometry.series.excluded
    ]


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_hand(tmp_path: Path, hand: float) -> None:
    """CTiltInducedZ and CGenAvgSpectrum: the tile at (x, y) has D + dfHand dz, dz = -(x cos ROT + y sin ROT) tan TILT."""
    geometry = phantom.phantom_series(hand=hand, phase_shift=True, axis_deg=30.0)
    written(tmp_path, geometry)
    aln, ctf = Aln(tmp_path / "TS_1.aln"), np.loadtxt(tmp_path / "TS_1_CTF.txt")
    assert set(ctf[:, 7]) == {hand}
    np.testing.assert_allclose(ctf[:, 4], np.deg2rad(72.0), atol=1e-4)
    np.testing.assert_allclose(ctf[:, 3], 31.5)
    points = phantom.points() * [1, 1, 0]
    seen = TiltGeometry.from_poses(geometry.series.poses).project(points)
    for t, tilt in enumerate(geometry.series.tilts):
        rot, incline = np.deg2rad(aln.rows[t, 1]), np.deg2rad(aln.rows[t, 9])
        tile = seen[t, :, :2]  # A from the image's middle, to half a pixel
        dz = -(tile[:, 0] * np.cos(rot) + tile[:, 1] * np.sin(rot)) * np.tan(incline)
        assert tilt.ctf is not None
        np.testing.assert_allclose(
            ctf[t, 1:3].mean() + ctf[t, 7] * dz, tilt.ctf.defocus_angstrom + hand * seen[t, :, 2], atol=0.1
        )


@pytest.mark.parametrize("size", phantom.SIZES_XY)
def test_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    geometry = phantom.phantom_series(size_xy=size, phase_shift=True, hand=1.0, excluded=True)
    geometry = replace(geometry, series=geometry.series.replace(thickness_angstrom=500.0))
    assert written(tmp_path, geometry) == ()
    back = FORMAT.read(tmp_path / "TS_1.aln", GIVEN)[0]
    ours, theirs = geometry.series, back.series
    assert theirs.image_shape == ours.image_shape
    assert theirs.hand == 1.0
    assert theirs.thickness_angstrom == 500.0
    np.testing.assert_allclose(phantom.seen(back), phantom.seen(geometry), atol=5e-3)
    for a, b in zip(ours.tilts, theirs.tilts, strict=True):
        assert a.pose is not None
        assert b.pose is not None
        assert b.pose.y_tilt_deg == pytest.approx(a.pose.y_tilt_deg, abs=1e-3)
        assert b.nominal_tilt_deg == a.nominal_tilt_deg
        assert (b.dose, b.pre_exposure, b.acquisition) == (a.dose, pytest.approx(a.pre_exposure), a.acquisition)
        assert a.ctf is not None
        assert b.ctf is not None
        assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom, abs=0.1)
        assert b.ctf.defocus_v_angstrom == pytest.approx(a.ctf.defocus_v_angstrom, abs=0.1)
        assert b.ctf.phase_shift_deg == pytest.approx(72.0, abs=0.01)
        assert b.ctf.max_resolution_angstrom == 6.5


def test_local_deformation(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    size = (480, 400)
    geometry = phantom.phantom_series(size_xy=size)
    warp = ImageWarp.build(rng.normal(0, 10, (11, 3, 4, 2)), (400, 480), PIXEL)
    geometry = replace(geometry, warp=warp)
    (loss,) = written(tmp_path, geometry)
    told = float(re.search(r"are ([\d.]+) A rms", loss)[1])  # type: ignore[index]
    assert 0.01 < told < 1.5
    aln = Aln(tmp_path / "TS_1.aln")
    points = rng.uniform(-0.4, 0.4, (30, 3)) * [size[1], size[0], 60]
    expected = phantom.seen(geometry, points * PIXEL)[..., :2]
    inside = np.all((expected > 0) & (expected < np.array(size)), axis=2)
    away = np.linalg.norm(aln.seen(points) - expected, axis=2)[inside] * PIXEL
    assert np.sqrt((away**2).mean()) < 1.5 * told
    assert np.abs(phantom.seen(replace(geometry, warp=None), points * PIXEL)[..., :2] - expected).max() > 5
    back = FORMAT.read(tmp_path, GIVEN)[0]
    away = np.linalg.norm(phantom.seen(back, points * PIXEL)[..., :2] - expected, axis=2)[inside] * PIXEL
    assert np.sqrt((away**2).mean()) < 2 * told + 0.2


def test_what_it_cannot_hold_is_told_with_its_size(tmp_path: Path) -> None:
    losses = written(tmp_path, phantom.phantom_series(x_tilt=True, magnification=True))
    assert len(losses) == 2
    worst = max(abs(p.x_tilt_deg) for p in phantom.phantom_series(x_tilt=True, magnification=True).series.poses)
    assert f"up to {worst:.2f} degrees" in losses[0]
    assert all(re.search(r"up to [\d.]+ A \([\d.]+ A rms\)", loss) for loss in losses)
    assert "magnification" in losses[1]


def test_imod_shifts_are_aretomo_shifts(tmp_path: Path, shared_data: Path) -> None:
    """CSaveXF.cpp: A = R(-ROT), d = A (-TX, -TY). So TX, TY are -A^-1 d of the numbers in a real .xf, and ROT its axis."""
    source = shared_data / "formats" / "imod" / "convert_pair" / "imod_1"
    geometry = IMOD.read(source, Given(pixel_size_angstrom=1.7))
    FORMAT.write(tmp_path, geometry)
    xf, aln = np.loadtxt(source / "tilt_1.xf"), Aln(tmp_path / "tilt_1.aln")
    for (a11, a12, a21, a22, dx, dy), row in zip(xf, aln.rows, strict=True):
        rotation = np.deg2rad(-row[1])
        turned = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
        np.testing.assert_allclose(turned, [[a11, a12], [a21, a22]], atol=1e-5)
        np.testing.assert_allclose(turned @ -row[3:5], [dx, dy], atol=2e-3)
    np.testing.assert_allclose(aln.rows[:, 9], np.loadtxt(source / "tilt_1.tlt"), atol=1e-4)


def test_real_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats" / "aretomo"
    assert FORMAT.recognises(folder)
    found = FORMAT.read(folder, Given(pixel_size_angstrom=1.69))[0]
    assert found.series.image_shape == (2032, 2032)
    assert [e.tilt.nominal_tilt_deg for e in found.series.excluded] == [-66.0, -64.5, 66.0, 67.5]
    assert [t.nominal_tilt_deg for t in found.series.tilts] == [-61.5, -60.0, -58.5, -57.0]
    assert found.series.poses[0].z_rot_deg == -12.6611
    assert found.series.poses[0].x_shift_angstrom == pytest.approx((24.786 - 0.5) * 1.69)
    assert found.warp is not None
    assert any("3 estimates for 4" in n or "no CTF" in n for n in found.notes)
    # the metrics of a series of that name tell its pixel size
    (tmp_path / "pda2021-01-12-2.aln").write_text((folder / "test.aln").read_text())
    (tmp_path / "TiltSeries_Metrics.csv").write_text((folder / "TiltSeries_Metrics.csv").read_text())
    assert FORMAT.read(tmp_path, Given())[0].series.pixel_size_angstrom == 1.62


def test_metrics_and_stack(tmp_path: Path) -> None:
    geometry = phantom.phantom_series()
    FORMAT.write(tmp_path, [geometry])
    with pytest.raises(InputError, match="pixel size"):
        FORMAT.read(tmp_path, Given())
    table = np.loadtxt(tmp_path / "TS_1_CTF.txt")[:, :7]
    np.savetxt(tmp_path / "TS_1_CTF.txt", table, header="Columns", fmt="%.4f")
    (tmp_path / "TiltSeries_Metrics.csv").write_text(
        "Tilt_Series,Thickness(Pix),Tilt_Axis,CTF_Score,DF_Hand,Pix_Size(A),Cs(nm),Kv,Alpha0,Beta0\n"
        "TS_1.mrc,   100,  84.00,  0.1,  1,  2.50, 2.7, 200, 0.0, 0.0\n"
    )
    write_mrc(tmp_path / "TS_1.mrc", np.zeros((11, 80, 96), np.float32), 9.0, "float32", is_volume=False)
    found = FORMAT.read(tmp_path, Given())[0].series
    assert (found.pixel_size_angstrom, found.hand) == (2.5, 1.0)
    assert found.optics is not None
    assert (found.optics.voltage_kv, found.optics.spherical_aberration_mm) == (200.0, 2.7)
    assert found.tilts[2].image == f"3@{(tmp_path / 'TS_1.mrc').resolve()}"
    (tmp_path / "TiltSeries_Metrics.csv").unlink()
    assert any("hand" in n for n in FORMAT.read(tmp_path, GIVEN)[0].notes)


@pytest.mark.parametrize(("first", "alpha", "dark_section"), [(0, False, 0), (1, True, 1), (1, True, None)])
def test_sections_from_0_or_1(tmp_path: Path, first: int, alpha: bool, dark_section: int | None) -> None:
    """AreTomo2 counts from 0, AreTomo3 from 1; some files of AreTomo3 have 0 for all dark images."""
    angles = [-20, -10, 0, 10, 20]
    used = [1, 2, 3]
    lines = ["# AreTomo Alignment / Priims bprmMn", "# RawSize = 96 80 5", "# NumPatches = 0"]
    lines += [f"# DarkFrame =  {i:4d} {0 if dark_section is None else i + first:4d} {angles[i]:8.2f}" for i in (0, 4)]
    lines += ["# AlphaOffset = 0.00"] if alpha else []
    lines += [f"{i + first} 84.0 1.0 {i} 0 1 1 1 0 {angles[i]}" for i in used]
    (tmp_path / "x.aln").write_text("\n".join(lines))
    (tmp_path / "x_TLT.txt").write_text("".join(f"{a} {i + 1} 2.5\n" for i, a in enumerate(angles)))
    found = FORMAT.read(tmp_path, GIVEN)[0].series
    assert [t.nominal_tilt_deg for t in found.tilts] == [-10, 0, 10]
    assert [t.acquisition for t in found.tilts] == used
    assert [e.tilt.acquisition for e in found.excluded] == [0, 4]
    assert [t.pre_exposure for t in found.tilts] == [2.5, 5.0, 7.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "RawSize"),
        ("# RawSize = 96 80 5\n", "aligned view"),
        ("# RawSize = 96 80\n1 84 1 0 0 1 1 1 0 0\n", "width, height"),
        ("# RawSize = 96 80 5\n1 84 1 0 0 1 1 1 0\n", "Line 2"),
        ("# RawSize = 96 80 5\n1 84 1 0 0 1 1 1 0 nan\n", "Line 2"),
        ("# RawSize = 96 80 5\n9 84 1 0 0 1 1 1 0 0\n", "sections"),
        (
            "# RawSize = 96 80 5\n# NumPatches = 999999999\n1 84 1 0 0 1 1 1 0 0\n# Local Alignment\n0 0 1 1 1 1 1\n",
            "patches",
        ),
        ("# RawSize = 0 80 5\n1 84 1 0 0 1 1 1 0 0\n", "positive"),
        ("# RawSize = 96 80 999999999999\n1 84 1 0 0 1 1 1 0 0\n1 84 1 0 0 1 1 1 0 0\n", "twice|Line 1"),
    ],
)
def test_damage_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.aln").write_text(text)
    with pytest.raises((FormatError, InputError), match=words):
        FORMAT.read(tmp_path, GIVEN)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        FORMAT.read(tmp_path / "none", Given())
    with pytest.raises(InputError, match=r"no \.aln"):
        FORMAT.read(tmp_path, Given())
    geometry = phantom.phantom_series()
    bare = geometry.series.with_tilts([replace(t, pose=None) for t in geometry.series.tilts])
    with pytest.raises(InputError, match="no alignment"):
        FORMAT.write(tmp_path, [replace(geometry, series=bare)])


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom.phantom_series(warp=True, excluded=True)])
    for file in [f for f in tmp_path.iterdir() if f.suffix in (".aln", ".txt")]:
        refused_in_words(file, lambda: FORMAT.read(tmp_path / "TS_1.aln", GIVEN), count=12)
