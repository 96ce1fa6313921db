"""Contrast transfer of single images in files: what is read, what is found, what is written."""

import math

import numpy as np
import pytest

from eucentric.cli import main
from eucentric.ctf import CtfParams
from eucentric.errors import InputError
from eucentric.io import read_star, write_mrc
from eucentric.io.tiff import write_tiff
from eucentric.pipeline.measure_images import draw_image, measure_images, write_images

PIXEL, SHAPE = 2.2, (620, 680)
DEFOCUS, ASTIGMATISM, ANGLE = 24000.0, 1600.0, 35.0


def contrast_transfer(shape, pixel_size, defocus=DEFOCUS, astigmatism=ASTIGMATISM, angle=ANGLE, kv=300.0):
    """-sin chi with numpy, in volts and metres, rows upwards."""
    volts, electron, mass, light = kv * 1e3, 1.602176634e-19, 9.1093837015e-31, 2.99792458e8
    momentum = math.sqrt(2 * mass * electron * volts * (1 + electron * volts / (2 * mass * light**2)))
    wavelength = 6.62607015e-34 / momentum
    fy = np.fft.fftfreq(shape[0], pixel_size * 1e-10)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_size * 1e-10)[None]
    squared = fx**2 + fy**2
    local = (defocus + 0.5 * astigmatism * np.cos(2 * (np.arctan2(fy, fx) - np.deg2rad(angle)))) * 1e-10
    chi = np.pi * wavelength * squared * local - 0.5 * np.pi * 2.7e-3 * wavelength**3 * squared**2 + np.arcsin(0.07)
    return -np.sin(chi) * np.exp(-20.0 * squared * 1e-20)


def micrograph(shape=SHAPE, *, noise=1.0, seed=1, **changes):
    """White noise through a known contrast transfer, y up."""
    rng = np.random.default_rng(seed)
    seen = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * contrast_transfer(shape, PIXEL, **changes), s=shape)
    return (100.0 + seen + noise * rng.normal(size=shape)).astype(np.float32)


@pytest.fixture(scope="module")
def image():
    return micrograph()


def measure(path, **changes):
    return measure_images([path], **{"voltage_kv": 300.0, "pixel_size_angstrom": PIXEL, **changes})


def check(row, *, angle=ANGLE):
    """Within five of the standard deviations the fit states itself, 20 A at least; the axis within 3 degrees."""
    assert row.verdict == "good", row.message
    assert abs(row.fit.defocus_angstrom - DEFOCUS) < max(20.0, 5 * row.fit.defocus_sigma_angstrom)
    assert row.fit.defocus_u_angstrom - row.fit.defocus_v_angstrom == pytest.approx(ASTIGMATISM, abs=100.0)
    away = (row.fit.astigmatism_angle_deg - angle + 90.0) % 180.0 - 90.0
    assert abs(away) < 3.0


def test_rows_are_upwards_in_every_format(tmp_path, image):
    """MRC as stored; TIFF files hold the top row first. An MRC file with the rows of a TIFF file is a mirror image."""
    write_mrc(tmp_path / "a.mrc", image, PIXEL)
    write_tiff(tmp_path / "b.tif", image)
    write_mrc(tmp_path / "c.mrc", np.ascontiguousarray(image[::-1]), PIXEL)
    paths = [tmp_path / f for f in ("a.mrc", "b.tif", "c.mrc")]
    rows = measure_images(paths, pixel_size_angstrom=PIXEL, voltage_kv=300.0)
    check(rows[0])
    check(rows[1])
    check(rows[2], angle=-ANGLE)
    assert rows[0].caveats == ()
    assert rows[0].evidence > 10
    assert math.isfinite(rows[0].seconds)


def test_movies_are_summed(tmp_path, image):
    rng = np.random.default_rng(2)
    frames = rng.poisson(np.maximum(20.0 + 4.0 * (image - 100.0), 0.0), size=(5, *SHAPE)).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", frames)
    gain = rng.uniform(0.5, 2.0, SHAPE).astype(np.float32)
    write_tiff(tmp_path / "b.tif", (frames / gain).astype(np.float32))
    write_tiff(tmp_path / "gain.tif", gain)
    plain = measure(tmp_path / "a.tif")[0]
    check(plain)
    assert plain.images == 5
    assert plain.caveats == ("5 frames were summed without correction of motion.",)
    corrected = measure(tmp_path / "b.tif", gain=tmp_path / "gain.tif")[0]
    check(corrected)
    assert corrected.fit.defocus_angstrom == pytest.approx(plain.fit.defocus_angstrom, abs=1.0)
    write_tiff(tmp_path / "small.tif", gain[:100, :100])
    assert "expected the same" in measure(tmp_path / "b.tif", gain=tmp_path / "small.tif")[0].message


def test_images_of_a_stack_each_on_its_own(tmp_path, image):
    images = np.stack([image[:600, :600], micrograph((600, 600), defocus=15000.0, astigmatism=0.0, seed=4)])
    write_mrc(tmp_path / "a.st", images, PIXEL)
    seen = []
    rows = measure_images([tmp_path / "a.st"], voltage_kv=300.0, report=seen.append)
    assert [r.name for r in rows] == [f"1@{tmp_path / 'a.st'}", f"2@{tmp_path / 'a.st'}"]
    assert seen == rows
    assert [r.fit.defocus_angstrom for r in rows] == pytest.approx([DEFOCUS, 15000.0], abs=80.0)
    one = measure_images([tmp_path / "a.st"], voltage_kv=300.0, sections="sum")
    assert [r.images for r in one] == [2]


def test_published_defocus_of_particles(shared_data):
    """17 particles of one micrograph: 21,187 and 21,363 A; the field's height varies by some hundred A."""
    path = shared_data / "real/ctf_particles/sample.mrcs"
    row = measure_images([path], pixel_size_angstrom=1.338, voltage_kv=300.0, amplitude_contrast=0.1)[0]
    assert row.images == 17
    assert row.fit.defocus_angstrom == pytest.approx(21275.0, abs=150.0)
    assert row.fit.max_resolution_angstrom < 8.0


def test_optics_matter_and_a_voltage_that_is_assumed_is_told(tmp_path):
    """Rings of a defocus D at 200 kV look like those of D times the ratio of wavelengths at 300 kV."""
    write_mrc(tmp_path / "a.mrc", micrograph((560, 560), kv=200.0, astigmatism=0.0), PIXEL)
    right = measure(tmp_path / "a.mrc", voltage_kv=200.0)[0]
    assert right.fit.defocus_angstrom == pytest.approx(DEFOCUS, abs=40.0)
    wrong = measure(tmp_path / "a.mrc", voltage_kv=None)[0]
    assert wrong.fit.defocus_angstrom == pytest.approx(DEFOCUS * 0.02508 / 0.01969, rel=0.01)
    assert any("300 kV was assumed" in c and "--voltage" in c for c in wrong.caveats)


@pytest.mark.parametrize("end", [13.0, 8.0])
def test_fit_resolution_is_where_the_rings_end(tmp_path, end):
    """No ring beyond a frequency: agreement is told within three rings, so that it ends within one and a half."""
    rng = np.random.default_rng(4)
    fy, fx = np.fft.fftfreq(SHAPE[0], PIXEL)[:, None], np.fft.rfftfreq(SHAPE[1], PIXEL)[None]
    seen = contrast_transfer(SHAPE, PIXEL, astigmatism=0.0) * (np.hypot(fy, fx) < 1 / end)
    image = np.fft.irfft2(np.fft.rfft2(rng.normal(size=SHAPE)) * seen, s=SHAPE) + 0.4 * rng.normal(size=SHAPE)
    write_mrc(tmp_path / "a.mrc", (50.0 + image).astype(np.float32), PIXEL)
    found = measure(tmp_path / "a.mrc")[0].fit.max_resolution_angstrom
    rings = 0.0197 * DEFOCUS * (found**-2 - end**-2)
    assert -1.5 < rings < 1.5


def test_the_command_tells_what_was_assumed_and_refuses_options_that_would_change_nothing(tmp_path, capsys):
    write_mrc(tmp_path / "a.mrc", np.full((300, 300), 7.0, dtype=np.float32), PIXEL)
    code = main.run(["ctf", str(tmp_path / "a.mrc"), "--device", "cpu"])
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    assert "note: No voltage was given; 300 kV was assumed." in told.out
    assert main.run(["ctf", str(tmp_path / "a.mrc"), "--output", "other"]) == 2
    assert "--table or --pictures" in capsys.readouterr().err
    assert main.run(["ctf", str(tmp_path / "a.mrc"), "--hand", "1", "--method", "fit"]) == 2
    assert "--method and --hand are for tilt series" in capsys.readouterr().err
    assert main.run(["ctf", str(tmp_path), "--pixel-size", "3", "--spherical-aberration", "2.7"]) == 2
    assert "--pixel-size and --spherical-aberration are for single images." in capsys.readouterr().err


def test_rings_outside_the_searched_range_are_named(tmp_path, image):
    write_mrc(tmp_path / "a.mrc", image, PIXEL)
    row = measure(tmp_path / "a.mrc", params=CtfParams(minimum_defocus_angstrom=2 * DEFOCUS))[0]
    assert row.verdict == "no rings"
    assert "outside the searched range" in row.message
    assert "--minimum-defocus-angstrom" in row.message


def test_what_cannot_be_measured_is_a_row_that_says_why(tmp_path, image):
    rng = np.random.default_rng(3)
    write_mrc(tmp_path / "blank.mrc", np.full((600, 600), 7.0, dtype=np.float32), PIXEL)
    write_mrc(tmp_path / "noise.mrc", rng.normal(100, 5, (600, 600)).astype(np.float32), PIXEL)
    write_mrc(tmp_path / "nan.mrc", image[:600, :600], PIXEL)
    np.memmap(tmp_path / "nan.mrc", dtype="<f4", mode="r+", offset=1024)[77] = np.nan
    write_mrc(tmp_path / "tiny.mrc", image[:40, :40], PIXEL)
    write_tiff(tmp_path / "bare.tif", image[:64, :64])
    (tmp_path / "notes.txt").write_text("hello")
    names = ("blank.mrc", "noise.mrc", "nan.mrc", "tiny.mrc", "bare.tif", "notes.txt", "none.mrc")
    rows = measure_images([tmp_path / n for n in names], voltage_kv=300.0)
    said = {n: (r.verdict, r.message) for n, r in zip(names, rows, strict=True)}
    assert all(r.fit is None and math.isnan(r.evidence) for r in rows)
    assert said["blank.mrc"][0] == "no rings"
    assert "blank" in said["blank.mrc"][1]
    assert said["noise.mrc"][0] == "no rings"
    assert said["nan.mrc"][0] == "unreadable"
    assert said["nan.mrc"][1].startswith("The image holds values that are not finite")
    assert "-3 A; expected a positive number" in measure(tmp_path / "blank.mrc", pixel_size_angstrom=-3.0)[0].message
    assert "pixels" in said["tiny.mrc"][1]
    assert "--pixel-size" in said["bare.tif"][1]
    assert "of a kind" in said["notes.txt"][1]
    assert "does not exist" in said["none.mrc"][1]
    with pytest.raises(InputError, match="No image"):
        measure_images([])
    with pytest.raises(InputError, match="to draw"):
        draw_image(rows[0])


def test_table_and_pictures(tmp_path, image):
    write_mrc(tmp_path / "TS_1_6.0.mrc", image, PIXEL)
    write_mrc(tmp_path / "blank.mrc", np.zeros((300, 300), dtype=np.float32), PIXEL)
    (tmp_path / "sub").mkdir()
    write_mrc(tmp_path / "sub" / "TS_1_6.0.mrc", image[:560, :560], PIXEL)
    paths = [tmp_path / "TS_1_6.0.mrc", tmp_path / "blank.mrc", tmp_path / "sub" / "TS_1_6.0.mrc"]
    rows = measure_images(paths, voltage_kv=300.0, pictures=True)
    written = write_images(rows, table=tmp_path / "ctf.star", folder=tmp_path / "png")
    pictures = [f"TS_1_6.0{number}_{kind}.png" for number in ("", "-2") for kind in ("spectrum", "curve")]
    assert [p.name for p in written] == ["ctf.star", *pictures]
    assert all(p.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for p in written[1:])
    table = read_star(tmp_path / "ctf.star")["micrographs"]
    assert table["rlnDefocusU"][0] == pytest.approx(rows[0].fit.defocus_u_angstrom)
    assert math.isnan(float(table["rlnDefocusU"][1]))
    assert table["eucVerdict"].tolist() == ["good", "no rings", "good"]
    assert table["rlnMicrographName"].tolist() == [str(p) for p in paths]


def test_ice_is_told(tmp_path):
    """Noise in a ring at 3.67 A, the strongest of cubic and hexagonal ice, over an image with rings."""
    pixel, shape = 1.4, (800, 800)
    rng = np.random.default_rng(6)
    fy, fx = np.fft.fftfreq(shape[0], pixel)[:, None], np.fft.rfftfreq(shape[1], pixel)[None]
    ring = np.exp(-0.5 * ((np.hypot(fy, fx) - 1 / 3.67) / 0.002) ** 2)
    seen = np.fft.rfft2(rng.normal(size=shape)) * contrast_transfer(shape, pixel, astigmatism=0.0)
    icy = np.fft.irfft2(seen + 3.0 * np.fft.rfft2(rng.normal(size=shape)) * ring, s=shape) + rng.normal(size=shape)
    write_mrc(tmp_path / "a.mrc", icy.astype(np.float32), pixel)
    row = measure(tmp_path / "a.mrc", pixel_size_angstrom=None)[0]
    assert row.faults == ("icy",)
    assert row.verdict == "doubtful"
    assert "crystalline ice" in row.message
    assert row.fit.defocus_angstrom == pytest.approx(DEFOCUS, abs=60.0)
