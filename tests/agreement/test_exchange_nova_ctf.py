"""novaCTF's inputs, both ways, against microscopeGeometry.cpp written out on the raw text."""

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
from eucentric.io.exchange.imod import FORMAT as IMOD
from eucentric.io.exchange.nova_ctf import FORMAT
from eucentric.io.exchange.records import Given, SeriesGeometry

PIXEL = 2.5


def entry(text: str, name: str) -> str:
    found = re.search(rf"^{name} (.+)$", text, re.MULTILINE)
    assert found is not None, name
    return found[1]


class Nova:
    """`Geometry` of novaCTF, from the setup of its defocus step."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        setup = (folder / "setup_defocus_TS_1.com").read_text()
        assert entry(setup, "Algorithm") == "defocus"
        assert entry(setup, "SHIFT") == "0.0 0.0"
        self.pixel_nm = float(entry(setup, "PixelSize"))
        self.aligned = np.array([float(w) for w in entry(setup, "FULLIMAGE").split()])
        self.tilts = np.loadtxt(folder / entry(setup, "TILTFILE"))
        self.xf = np.loadtxt(folder / "TS_1.xf")
        assert entry(setup, "DefocusFileFormat") == "ctffind4"
        self.defocus = np.loadtxt(folder / entry(setup, "DefocusFile"))
        self.size = np.array(size)

    def seen(self, points_px: np.ndarray) -> np.ndarray:
        """(view, point, 3): pixels of the raw image from 0, and by how many nm the defocus is larger than at the centre."""
        out = []
        for tilt, (a11, a12, a21, a22, dx, dy) in zip(self.tilts, self.xf, strict=True):
            a = -np.deg2rad(tilt)  # setProjectionGeometry

            def rotate(p: np.ndarray, a: float = a) -> np.ndarray:
                return np.array([p[0] * np.cos(a) - p[2] * np.sin(a), p[1], p[0] * np.sin(a) + p[2] * np.cos(a)])

            pitch, ray = rotate(np.array([1.0, 0, 0])), rotate(np.array([0.0, 0, -1]))
            rows = []
            for x, y, z in points_px:
                p = np.array([x, y, -z])  # trimvol turns the volume's depth
                edge = np.array([pitch @ p, y]) + self.aligned / 2  # the detector's corner lies at -half its size
                raw = np.linalg.solve([[a11, a12], [a21, a22]], edge - self.aligned / 2 - [dx, dy]) + self.size / 2
                # part 0 is that farthest up the ray, and its file, the last, has the largest defocus
                rows.append([*(raw - 0.5), -(ray @ p) * self.pixel_nm])
            out.append(rows)
        return np.array(out)


def written(folder: Path, geometry: SeriesGeometry) -> tuple[str, ...]:
    made = FORMAT.write(folder, [geometry])
    assert {f.name for f in made.files} == {f.name for f in folder.iterdir()}
    return made.losses


@pytest.mark.parametrize("size", phantom.SIZES_XY)
@pytest.mark.parametrize("axis", [84.0, -12.0])
def test_points_and_defocus_are_where_nova_has_them(tmp_path: Path, size: tuple[int, int], axis: float) -> None:
    geometry = phantom.phantom_series(size_xy=size, axis_deg=axis, magnification=True)
    (loss,) = written(tmp_path, geometry)
    assert "33.0 e/A2" in loss
    nova = Nova(tmp_path, size)
    found, ours = nova.seen(phantom.points() / PIXEL), phantom.seen(geometry)
    np.testing.assert_allclose(found[..., :2], ours[..., :2], atol=5e-3)
    for t, tilt in enumerate(geometry.series.tilts):
        assert tilt.ctf is not None
        assert nova.defocus[t, 1] == pytest.approx(tilt.ctf.defocus_u_angstrom, abs=0.01)
        there = nova.defocus[t, 1:3].mean() + 10 * found[t, :, 2]
        np.testing.assert_allclose(there, tilt.ctf.defocus_angstrom - ours[t, :, 2], atol=0.1)


def test_losses(tmp_path: Path) -> None:
    geometry = phantom.phantom_series(x_tilt=True, hand=1.0, excluded=True)
    geometry = replace(geometry, warp=ImageWarp.build(np.full((9, 2, 2, 2), 3.0), (80, 96), PIXEL))
    losses = written(tmp_path, geometry)
    words = ("about x", "-20, 50", "4.2 A rms", "underfocus", "dose")
    assert all(any(word in loss for loss in losses) for word in words)
    assert len(losses) == 5
    assert len(np.loadtxt(tmp_path / "TS_1.tlt")) == len(np.loadtxt(tmp_path / "TS_1_ctffind4.txt")) == 9
    assert "SectionsToRead\t0,1,2,4,5,6,7,8,9\n" in (tmp_path / "select_views_TS_1.com").read_text()


@pytest.mark.parametrize("size", phantom.SIZES_XY)
def test_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    geometry = phantom.phantom_series(size_xy=size, magnification=True, phase_shift=True)
    written(tmp_path, geometry)
    assert FORMAT.recognises(tmp_path)
    assert not IMOD.recognises(tmp_path)
    back = FORMAT.read(tmp_path, Given())[0]
    assert back.series.image_shape == geometry.series.image_shape
    assert back.series.pixel_size_angstrom == pytest.approx(PIXEL)
    assert back.series.optics == geometry.series.optics
    assert back.series.volume_size_px is not None
    assert back.series.volume_size_px[2] == 64
    np.testing.assert_allclose(phantom.seen(back), phantom.seen(geometry), atol=5e-3)
    for a, b in zip(geometry.series.tilts, back.series.tilts, strict=True):
        assert a.ctf is not None
        assert b.ctf is not None
        assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom, abs=0.1)
        assert b.ctf.phase_shift_deg == pytest.approx(72.0, abs=1e-3)
        assert b.nominal_tilt_deg == a.nominal_tilt_deg


def test_shift_and_other_defocus_files(tmp_path: Path) -> None:
    """SHIFT z lowers the defocus of the volume's centre by so much (calculateGridCenters); imod files are in nm."""
    geometry = phantom.phantom_series()
    written(tmp_path, geometry)
    setup = tmp_path / "setup_defocus_TS_1.com"
    text = setup.read_text().replace("SHIFT 0.0 0.0", "SHIFT 0.0 20.0")
    text = text.replace("ctffind4\n", "imod\n").replace("TS_1_ctffind4.txt", "x.defocus")
    setup.write_text(text)
    (tmp_path / "x.defocus").write_text("".join(f"1 1 0 0 {3000 + i}\n" for i in range(11)))
    found = FORMAT.read(setup, Given())[0].series
    assert [t.ctf.defocus_angstrom for t in found.tilts if t.ctf] == pytest.approx(
        [30000 + 10 * i - 20 * PIXEL for i in range(11)]
    )
    moved = TiltGeometry.from_poses(found.poses).project(np.zeros(3))
    still = TiltGeometry.from_poses(geometry.series.poses).project([0.0, 0.0, 20 * PIXEL])
    np.testing.assert_allclose(moved[:, :2], still[:, :2], atol=0.02)


def test_several_series(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom.phantom_series(name="A"), phantom.phantom_series(name="B", seed=2)])
    assert [g.series.name for g in FORMAT.read(tmp_path, Given())] == ["A", "B"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("TILTFILE TS_1.tlt\n", "", "TILTFILE|no setup"),
        ("FULLIMAGE 80 96", "FULLIMAGE 80 many", "fullimage"),
        ("FULLIMAGE 80 96", "FULLIMAGE nan inf", "fullimage"),
        ("PixelSize 0.250000", "PixelSize small", "pixelsize"),
        ("DefocusFileFormat ctffind4", "DefocusFileFormat other", "DefocusFileFormat"),
    ],
)
def test_damage_is_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    written(tmp_path, phantom.phantom_series())
    (tmp_path / "setup_ctfCorrection_TS_1.com").unlink()  # it would tell some of it too
    setup = tmp_path / "setup_defocus_TS_1.com"
    assert old in setup.read_text()
    setup.write_text(setup.read_text().replace(old, new))
    with pytest.raises((FormatError, InputError), match=words):
        FORMAT.read(setup, Given())


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        FORMAT.read(tmp_path / "none", Given())
    with pytest.raises(InputError, match="no setup file"):
        FORMAT.read(tmp_path, Given())
    written(tmp_path, phantom.phantom_series())
    (tmp_path / "TS_1.xf").unlink()
    with pytest.raises(InputError, match=r"TS_1\.xf"):
        FORMAT.read(tmp_path, Given())


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    written(tmp_path, phantom.phantom_series())
    for file in [f for f in tmp_path.iterdir() if f.suffix in (".xf", ".tlt", ".txt", ".com")]:
        refused_in_words(file, lambda: FORMAT.read(tmp_path / "setup_defocus_TS_1.com", Given()), count=12)
