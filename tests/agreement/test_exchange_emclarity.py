"""Projects of emClarity: points where its own alignment of images and IMOD's tilt put them, defocus, and lists of particles."""

import math
from dataclasses import replace

import numpy as np
import pytest
from exchange_damage import refused_in_words
from exchange_phantom import SIZES_XY, phantom_series, points, seen
from scipy.spatial.transform import Rotation as Scipy

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.emclarity_particles import read_emclarity_particles, write_emclarity_particles
from eucentric.io.exchange.emclarity import FORMAT
from eucentric.io.exchange.records import Given
from eucentric.io.imod_models import read_imod_model
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

GIVEN = Given()
KNOWN = Given(pixel_size_angstrom=2.5, image_shape=(80, 96))


def aligned_by_emclarity(row, size_xy, places_px):
    """Where points are in the raw image, in pixels from 0, from six numbers of IMOD's form.

    BH_ctf_Estimate reads pixels [1 + os, n] (from 1) with os = 1 - mod(n, 2), so an odd image is left, turns it about its middle,
    and shifts it; IMOD's tilt then sees a point (x, y, z) at x cos a + z sin a, y from the middle of the aligned image.
    """
    a, d = np.array(row[:4]).reshape(2, 2), np.array(row[4:6])
    tilt = np.deg2rad(row[6])
    aligned = np.stack([places_px[:, 0] * np.cos(tilt) + places_px[:, 2] * np.sin(tilt), places_px[:, 1]], axis=1)
    in_odd = np.linalg.solve(a, (aligned - d).T).T  # from the middle of the odd image
    n = np.array(size_xy)
    os = 1 - n % 2
    odd = n - os
    from_one = in_odd + (odd + 1) / 2 + os  # in the whole image, first pixel 1
    return from_one - 1


@pytest.mark.parametrize("size", SIZES_XY)
def test_points_lie_where_emclarity_puts_them(tmp_path, size):
    geometry = phantom_series(size_xy=size, magnification=True)
    FORMAT.write(tmp_path, [geometry])
    expected = seen(geometry)[..., :2]
    transforms = np.loadtxt(tmp_path / "fixedStacks/TS_1.xf")
    tilts = np.loadtxt(tmp_path / "fixedStacks/TS_1.tlt")
    for i, row in enumerate(np.column_stack([transforms, tilts])):
        np.testing.assert_allclose(aligned_by_emclarity(row, size, points() / 2.5), expected[i], atol=0.02)
    table = np.loadtxt(tmp_path / "fixedStacks/ctf/TS_1_ali1_ctf.tlt")
    assert table.shape == (11, 23)
    assert (np.diff(np.abs(table[:, 3])) <= 1e-9).all()
    for row in table:
        six = [*row[6:10], *row[1:3], row[3]]
        got = aligned_by_emclarity(six, size, points() / 2.5)
        np.testing.assert_allclose(got, expected[int(row[0]) - 1], atol=0.02)


def test_defocus_falls_with_height_and_astigmatism_turns_with_the_image(tmp_path):
    """defVect = [D - ddF, D + ddF, dPhi], of which the first is larger in size and lies at dPhi of the aligned image; D + z'."""
    geometry = phantom_series()
    FORMAT.write(tmp_path, [geometry])
    table = np.loadtxt(tmp_path / "fixedStacks/ctf/TS_1_ali1_ctf.tlt")
    heights = seen(geometry)[..., 2]
    for row in table:
        tilt = geometry.series.tilts[int(row[0]) - 1]
        larger, smaller = abs(row[14] - row[11]) * 1e10, abs(row[14] + row[11]) * 1e10
        assert larger == pytest.approx(tilt.ctf.defocus_u_angstrom, abs=1.0)
        assert smaller == pytest.approx(tilt.ctf.defocus_v_angstrom, abs=1.0)
        # a direction phi of the aligned image is A^-1 of it in the raw one
        direction = np.linalg.solve(row[6:10].reshape(2, 2), [math.cos(row[12]), math.sin(row[12])])
        raw = math.degrees(math.atan2(direction[1], direction[0]))
        assert (raw - 31.5 + 90) % 180 - 90 == pytest.approx(0.0, abs=0.01)
        a = np.deg2rad(row[3])  # Ry(tilt), SPIDER convention, direction inv
        z = -math.sin(a) * points()[:, 0] + math.cos(a) * points()[:, 2]
        theirs = -(row[14] * 1e10 + z)
        ours = tilt.ctf.defocus_angstrom - heights[int(row[0]) - 1]
        np.testing.assert_allclose(theirs, ours, atol=1.0)
        assert row[15] == pytest.approx(2.5e-10)
        assert row[16] == pytest.approx(2.7e-3)
        volts = 300e3
        assert row[17] == pytest.approx(1e-12 * 1226.39 / math.sqrt(volts + 0.97845e-6 * volts**2), rel=1e-4)
        assert row[10] == pytest.approx(tilt.pre_exposure + 3.0)


@pytest.mark.parametrize("size", SIZES_XY)
def test_what_is_written_comes_back(tmp_path, size):
    given = [
        phantom_series(size_xy=size, magnification=True),
        phantom_series(name="TS_2", size_xy=size, phase_shift=True),
    ]
    made = FORMAT.write(tmp_path, given)
    assert all(f.is_file() for f in made.files)
    assert made.losses == ()
    assert FORMAT.recognises(tmp_path)
    back = FORMAT.read(tmp_path, GIVEN)
    for old, new in zip(given, back, strict=True):
        np.testing.assert_allclose(seen(new), seen(old), atol=0.05)
        assert new.series.name == old.series.name
        assert new.series.hand == -1.0
        assert new.series.optics.voltage_kv == pytest.approx(300.0, abs=0.1)
        for a, b in zip(old.series.tilts, new.series.tilts, strict=True):
            assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom, abs=1.0)
            assert b.ctf.defocus_v_angstrom == pytest.approx(a.ctf.defocus_v_angstrom, abs=1.0)
            assert b.ctf.astigmatism_angle_deg == pytest.approx(31.5, abs=0.05)
            assert b.ctf.phase_shift_deg == pytest.approx(a.ctf.phase_shift_deg, abs=0.05)
            assert (b.dose, b.pre_exposure, b.acquisition) == pytest.approx(
                (3.0, a.pre_exposure, a.acquisition), abs=1e-4
            )


def test_the_input_alone_comes_back(tmp_path):
    given = phantom_series(ctf=False)
    FORMAT.write(tmp_path, [given])
    assert not (tmp_path / "fixedStacks/ctf").exists()
    (back,) = FORMAT.read(tmp_path, KNOWN)
    np.testing.assert_allclose(seen(back), seen(given), atol=0.05)
    assert [t.acquisition for t in back.series.tilts] == [t.acquisition for t in given.series.tilts]
    (one,) = FORMAT.read(tmp_path / "fixedStacks/TS_1.xf", KNOWN)
    np.testing.assert_allclose(seen(one), seen(back), atol=1e-9)


def test_parameters_images_and_the_region(tmp_path):
    FORMAT.write(tmp_path, [phantom_series(size_xy=(97, 83))])
    lines = dict(
        line.split("=") for line in (tmp_path / "param_TS_1.m").read_text().splitlines() if not line.startswith("%")
    )
    assert float(lines["PIXEL_SIZE"]) == pytest.approx(2.5e-10)
    assert float(lines["VOLTAGE"]) == 300e3
    assert float(lines["Cs"]) == pytest.approx(2.7e-3)
    assert float(lines["CUM_e_DOSE"]) == 33.0
    assert float(lines["defEstimate"]) == pytest.approx(3.25e-6, abs=0.1e-6)
    images = (tmp_path / "fixedStacks/TS_1_images.txt").read_text().split()
    assert images[:5] == ["11", "stacks/TS_1.mrc", "0", "stacks/TS_1.mrc", "1"]
    name, count, *numbers = (tmp_path / "recon/TS_1_recon.coords").read_text().split()
    assert (name, count) == ("TS_1", "1")
    width, first, last, thickness, x, z = map(int, numbers)
    assert (width, last - first + 1, thickness, x, z) == (96, 80, 64, 0, 0)
    # calcAvgZ: the middle of the region in y, from the middle of the image
    assert first + math.ceil((last - first) / 2) - math.ceil((83 + 1) / 2) == 0


def test_losses_are_told(tmp_path):
    given = phantom_series(x_tilt=True, warp=True, excluded=True, hand=1.0)
    words = " ".join(FORMAT.write(tmp_path, [given]).losses)
    for text in ("about x", "deformation", "rms", "2 left-out", "hand"):
        assert text in words
    no_images = replace(given, series=given.series.with_tilts([replace(t, image=None) for t in given.series.tilts]))
    assert "where the images are" in " ".join(FORMAT.write(tmp_path, [no_images]).losses)
    with pytest.raises(InputError, match="same name"):
        FORMAT.write(tmp_path, [given, given])


ROW = (
    "{n}\t00001.01\t-0011.12\t{tilt}\t000.000\t090.000\t1.0156990\t-0.0144186\t0.0144186\t1.0156990\t{dose}\t4.125000e-08\t"
    "-1.055924e+00\t1.000000e+00\t-2.912984e-06\t2.170000e-10\t2.700000e-03\t1.968697e-12\t8.500000e-02\t3838\t3710\t2\n"
)


def table_of_its_own(folder):
    file = folder / "fixedStacks/ctf/ribo_ali1_ctf.tlt"
    file.parent.mkdir(parents=True)
    file.write_text(ROW.format(n=2, tilt="-60.450", dose="2.0") + ROW.format(n=1, tilt="059.300", dose="4.0"))
    return file


def test_a_table_of_an_older_version(tmp_path):
    """22 columns, underfocus negative, as in the project's tutorial."""
    file = table_of_its_own(tmp_path)
    (file.parent / "ribo_ali2_ctf.tlt").write_text(file.read_text().replace("-2.912984e-06", "3.5e-06"))
    (first,) = FORMAT.read(file, GIVEN)
    assert first.series.image_shape == (3710, 3838)
    assert first.series.pixel_size_angstrom == pytest.approx(2.17)
    assert first.series.optics.voltage_kv == pytest.approx(300.0, abs=0.1)
    assert first.series.optics.amplitude_contrast == pytest.approx(0.085)
    assert [t.nominal_tilt_deg for t in first.series.tilts] == [-60.45, 59.3]
    assert [t.acquisition for t in first.series.tilts] == [0, 1]
    fit = first.series.tilts[0].ctf
    assert fit.defocus_u_angstrom == pytest.approx(29129.84 + 412.5)
    assert fit.defocus_v_angstrom == pytest.approx(29129.84 - 412.5)
    axis = math.degrees(math.atan2(0.0144186, -0.0144186 * 0 + 1.0156990))  # of A^-1: turned by -(-0.0144186)
    assert first.series.tilts[0].pose.z_rot_deg == pytest.approx(-axis, abs=1e-3)
    assert fit.astigmatism_angle_deg == pytest.approx(math.degrees(-1.055924) - axis, abs=1e-3)
    assert first.series.tilts[0].pose.magnification == pytest.approx(1 / math.hypot(1.0156990, 0.0144186))
    (newest,) = FORMAT.read(tmp_path, GIVEN)
    assert newest.series.tilts[0].ctf.defocus_u_angstrom == pytest.approx(35412.5)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\t2\n", "\n", "columns"),
        ("1.0156990", "x", "expected numbers"),
        ("1.0156990", "nan", "finite numbers"),
        ("-2.912984e-06", "1e300", "cannot be"),
        ("1.968697e-12", "5", "wavelength"),
        ("2\t00001.01", "1\t00001.01", "two rows"),
        ("2.170000e-10", "0", "--pixel-size"),
        ("3838", "0", "--image-size"),
        ("0.0144186\t1.0156990", "0.0144186\t-1.0156990", "mirrors"),
    ],
)
def test_damaged_tables_are_refused_in_words(tmp_path, old, new, words):
    file = table_of_its_own(tmp_path)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises((FormatError, InputError), match=words):
        FORMAT.read(file, GIVEN)


FRAMES = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(120, 101, 50)))


def some():
    return ParticleSet.build(
        ["TS_01_1", "TS_01_1", "TS_01_2"],
        [[100.0, -200, 55], [0, 0, 0], [8, 16, -24]],
        rotations=Rotation.from_relion([20.0, 5, 77], [35.0, 90, 144], [-110.0, 0, 178]).matrices,
        scores=[5.0, 4.0, 3.0],
        kinds=["1", "2", "1"],
        columns={"rlnRandomSubset": [1.0, 2.0, 1.0]},
    )


def test_particles_are_written_as_a_template_search_does(tmp_path):
    """BH_templateSearch3d_2: 11-13 binning times the index from 1; 17-25 Rz(e1) Rx(e2) Rz(e3), column after column."""
    files = write_emclarity_particles(tmp_path, some(), FRAMES, 4)
    table = np.loadtxt(tmp_path / "TS_01_1_bin4.csv")
    assert table.shape == (2, 26)
    np.testing.assert_allclose(table[0, 10:13], [4 * 71, 4 * 31, 4 * 31.5])
    assert (table[:, 1] == 4).all()
    assert table[:, 6].tolist() == [1, 2]
    for row, expected in zip(table, some().rotations, strict=False):
        euler = Scipy.from_euler("ZXZ", row[13:16], degrees=True).as_matrix()  # Rz(e1) Rx(e2) Rz(e3)
        stored = row[16:25].reshape(3, 3, order="F")
        np.testing.assert_allclose(euler, expected, atol=1e-6)
        np.testing.assert_allclose(stored, expected, atol=1e-6)
    model = read_imod_model(tmp_path / "TS_01_1_bin4.mod")
    np.testing.assert_allclose(model.objects[0][0][0], [71, 31, 31.5], atol=1e-4)
    assert len(files) == 4
    back = read_emclarity_particles(tmp_path / "TS_01_1_bin4.csv", FRAMES)
    one = some().in_tomogram("TS_01_1")
    np.testing.assert_allclose(back.positions_angstrom, one.positions_angstrom, atol=1e-4)
    np.testing.assert_allclose(back.rotations, one.rotations, atol=1e-6)
    assert back.kinds.tolist() == ["1", "2"]
    assert back.scores.tolist() == [5.0, 4.0]
    assert back.columns["rlnRandomSubset"].tolist() == [1.0, 2.0]


def test_particles_thrown_away_and_further_peaks_are_passed_over(tmp_path):
    row = "3.5 5 0 {n} 1 1 1 1 1 0 {x} 20 30 0 0 0 1 0 0 0 1 0 0 0 1 {kind} "
    file = tmp_path / "TS_3_bin5.csv"
    file.write_text((row.format(n=1, x=50, kind=1) * 2 + "\n") + (row.format(n=2, x=60, kind=-9999) * 2 + "\n"))
    got = read_emclarity_particles(file, FRAMES)
    assert len(got) == 1
    assert got.tomogram_names == ("TS_3",)
    np.testing.assert_allclose(
        got.positions_angstrom[0], [(50 / 5 - 1 - 60) * 10, (4 - 1 - 50) * 10, (6 - 1 - 25) * 10]
    )


@pytest.mark.parametrize(
    "text",
    ["1 2 3\n", "a b\n", " ".join(["1"] * 27) + "\n", " ".join(["1"] * 26) + "\n", " ".join(["nan"] * 26) + "\n"],
)
def test_damaged_particles_are_refused(tmp_path, text):
    (tmp_path / "TS_1_1_bin5.csv").write_text(text)
    with pytest.raises(FormatError):
        read_emclarity_particles(tmp_path / "TS_1_1_bin5.csv", FRAMES)


def test_names_without_a_region_are_refused(tmp_path):
    with pytest.raises(InputError, match="NAME_REGION"):
        write_emclarity_particles(tmp_path, some().with_tomograms("plain"), FRAMES, 4)
    with pytest.raises(InputError, match="binning"):
        write_emclarity_particles(tmp_path, some(), FRAMES, 0)


@pytest.mark.parametrize("name", ["ctf/TS_1_ali1_ctf.tlt", "TS_1.xf", "TS_1.tlt", "TS_1.order"])
def test_no_damage_gives_a_traceback(tmp_path, name):
    FORMAT.write(tmp_path, [phantom_series(phase_shift=True)])
    place = tmp_path if name.startswith("ctf") else tmp_path / "fixedStacks/TS_1.xf"
    assert refused_in_words(tmp_path / "fixedStacks" / name, lambda: FORMAT.read(place, KNOWN)) > 10


def test_no_damage_to_particles_gives_a_traceback(tmp_path):
    file = write_emclarity_particles(tmp_path, some(), FRAMES, 4)[0]
    assert refused_in_words(file, lambda: read_emclarity_particles(file, FRAMES)) > 10
