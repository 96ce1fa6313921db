"""Wedge lists of STOPGAP: what its own sources make of the text, both ways."""

import math

import numpy as np
import pytest
from exchange_damage import refused_in_words
from exchange_phantom import phantom_series

from eucentric.errors import FormatError, InputError
from eucentric.io.exchange.records import Given
from eucentric.io.exchange.stopgap import FORMAT
from eucentric.io.motive_lists import read_motive_list, read_stopgap, write_motive_list, write_stopgap
from eucentric.io.star import read_star
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

GIVEN = Given()
FRAMES = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=8.0, size_xyz=(120, 100, 50)))
HAND_MADE = """
data_stopgap_wedgelist

loop_
_tomo_num
_pixelsize
_tomo_x
_tomo_y
_tomo_z
_z_shift
_tilt_angle
_defocus
_exposure
_voltage
_amp_contrast
_cs
 7 1.35 3838 3710 1800 0 -57.0 3.25 5.0 200 0.1 2.1
 7 1.35 3838 3710 1800 0   0.0 3.50 2.5 200 0.1 2.1
 7 1.35 3838 3710 1800 0  57.0 3.75 7.5 200 0.1 2.1
11 1.35 3838 3710 1500 12 -30.0 2.0 4.0 300 0.07 2.7
11 1.35 3838 3710 1500 12  30.0 2.5 2.0 300 0.07 2.7
"""


def rows_of(path):
    """Columns of the text, read without the product's reader."""
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    labels = [words[0][1:] for words in lines if words[0].startswith("_")]
    rows = [words for words in lines if len(words) == len(labels)]
    return {label: np.array([float(row[i]) for row in rows]) for i, label in enumerate(labels)}


def test_the_ctf_in_the_text_is_that_of_the_series(tmp_path):
    """STOPGAP's own formula (sg_ctf: um, degrees, mm, kV) against ours, along the two axes of the astigmatism."""
    geometry = phantom_series(phase_shift=True)
    series = geometry.series
    FORMAT.write(tmp_path / "w.star", [geometry])
    columns = rows_of(tmp_path / "w.star")
    assert (tmp_path / "w.star").read_text().split()[0] == "data_stopgap_wedgelist"
    f = np.linspace(0.001, 0.2, 50)
    for i, tilt in enumerate(series.tilts):
        for column, defocus in (("defocus1", tilt.ctf.defocus_u_angstrom), ("defocus2", tilt.ctf.defocus_v_angstrom)):
            df, cs = columns[column][i] * 1.0e4, columns["cs"][i] * 1.0e7
            volts = columns["voltage"][i] * 1000
            wavelength = 6.62606957e-34 * 299792458 / math.sqrt((2 * 511000 * volts + volts**2) * 1.602e-19**2) * 1e10
            shift = columns["pshift"][i] * math.pi / 180
            v = math.pi * wavelength * f**2 * (df - 0.5 * wavelength**2 * f**2 * cs) + shift
            w = columns["amp_contrast"][i]
            theirs = math.sqrt(1 - w**2) * np.sin(v) + w * np.cos(v)
            optics = series.optics
            lam = optics.wavelength_angstrom
            chi = math.pi * lam * f**2 * defocus - math.pi / 2 * lam**3 * f**4 * optics.spherical_aberration_mm * 1e7
            chi += math.radians(tilt.ctf.phase_shift_deg) + math.asin(optics.amplitude_contrast)
            # -CTF of ours; the wavelengths differ in the fourth digit
            np.testing.assert_allclose(theirs, np.sin(chi), atol=0.05)
    np.testing.assert_allclose(columns["tilt_angle"], [p.y_tilt_deg for p in series.poses], atol=1e-9)
    np.testing.assert_allclose(columns["astig_ang"], 31.5, atol=1e-9)
    np.testing.assert_allclose(columns["exposure"], series.pre_exposures + 3.0, atol=1e-9)
    assert (columns["tomo_x"][0], columns["tomo_y"][0], columns["tomo_z"][0]) == (96, 80, 64)


def test_the_defocus_falls_with_height_as_stopgap_has_it(tmp_path):
    """calculate_local_defocii: Ry(tilt) on (x, y, z), defocus - z' / 10000."""
    geometry = phantom_series()
    FORMAT.write(tmp_path / "w.star", [geometry])
    columns = rows_of(tmp_path / "w.star")
    (back,) = FORMAT.read(tmp_path / "w.star", GIVEN)
    point = np.array([40.0, 12.0, 30.0])
    for i, tilt in enumerate(back.series.tilts):
        a = np.deg2rad(columns["tilt_angle"][i])
        z = -np.sin(a) * point[0] + np.cos(a) * point[2]
        theirs = columns["defocus"][i] * 1e4 - z
        pose = tilt.pose
        turned = np.deg2rad(pose.y_tilt_deg)
        ours_z = -np.sin(turned) * point[0] + np.cos(turned) * point[2]
        assert tilt.ctf.defocus_angstrom + back.series.hand * ours_z == pytest.approx(theirs, abs=0.5)


def test_a_list_made_by_hand(tmp_path):
    file = tmp_path / "wedgelist.star"
    file.write_text(HAND_MADE)
    assert FORMAT.recognises(file)
    assert FORMAT.recognises(tmp_path)
    first, second = FORMAT.read(tmp_path, GIVEN)
    assert first.series.name == "7"
    assert first.series.image_shape == (3710, 3838)
    assert first.series.volume_size_px == (3838, 3710, 1800)
    assert first.series.optics.voltage_kv == 200.0
    assert first.series.optics.spherical_aberration_mm == 2.1
    assert [t.ctf.defocus_u_angstrom for t in first.series.tilts] == [32500.0, 35000.0, 37500.0]
    assert [t.acquisition for t in first.series.tilts] == [1, 0, 2]
    assert [t.pre_exposure for t in first.series.tilts] == [2.5, 0.0, 5.0]
    assert [p.y_tilt_deg for p in first.series.poses] == [-57.0, 0.0, 57.0]
    assert any("shifts are 0" in note for note in first.notes)
    assert second.series.pixel_size_angstrom == 1.35
    assert any("z_shift" in note for note in second.notes)


def test_what_is_written_comes_back_and_losses_are_told(tmp_path):
    given = [
        phantom_series(name="TS_1", x_tilt=True, magnification=True, warp=True, excluded=True, phase_shift=True),
        phantom_series(name="TS_2", hand=1.0),
    ]
    made = FORMAT.write(tmp_path, given)
    assert all(f.is_file() for f in made.files)
    words = " ".join(made.losses)
    for text in ("TS_1", "TS_2", "rms", "about x", "magnification", "deformation", "2 left-out", "hand"):
        assert text in words
    plain = FORMAT.write(tmp_path / "plain", [phantom_series()])
    assert len(plain.losses) == 1  # axis and shifts
    back = FORMAT.read(tmp_path, GIVEN)
    for old, new in zip(given, back, strict=True):
        assert new.series.name == old.series.name
        assert new.series.image_shape == old.series.image_shape
        assert new.series.pixel_size_angstrom == old.series.pixel_size_angstrom
        for a, b in zip(old.series.tilts, new.series.tilts, strict=True):
            assert b.pose.y_tilt_deg == pytest.approx(a.pose.y_tilt_deg, abs=1e-6)
            assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom, abs=0.1)
            assert b.ctf.defocus_v_angstrom == pytest.approx(a.ctf.defocus_v_angstrom, abs=0.1)
            assert b.ctf.phase_shift_deg == pytest.approx(a.ctf.phase_shift_deg)
            assert (b.dose, b.pre_exposure) == pytest.approx((a.dose, a.pre_exposure))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("_tilt_angle", "_angle", "is not a wedge list"),
        ("-57.0", "1e300", "cannot be"),
        ("-57.0", "nan", "not a number"),
        ("-57.0", "900", "beyond 180"),
        ("3.25", "x", "not a number"),
        (" 200 0.1 2.1", " 200 0.1", "STAR file"),
        ("200 0.1", "2e6 0.1", "kilovolts"),
        ("7 1.35", "7 -1.35", "pixel size"),
    ],
)
def test_damaged_lists_are_refused_in_words(tmp_path, old, new, words):
    file = tmp_path / "w.star"
    file.write_text(HAND_MADE.replace(old, new))
    with pytest.raises((FormatError, InputError), match=words):
        FORMAT.read(file, GIVEN)


def test_places_without_a_list_are_refused(tmp_path):
    assert not FORMAT.recognises(tmp_path)
    with pytest.raises(InputError, match="0 wedge lists"):
        FORMAT.read(tmp_path, GIVEN)
    with pytest.raises(InputError, match="same name"):
        FORMAT.write(tmp_path, [phantom_series(), phantom_series()])


def particles():
    return ParticleSet.build(
        ["1", "1", "2"],
        [[10.0, 20, 30], [-40, 5, 6], [1, 2, 3]],
        columns={"rlnRandomSubset": [2.0, 2.0, 1.0], "eucInstance": [4.0, 5.0, 4.0]},
    )


def test_half_sets_and_objects_of_motive_lists_are_kept(tmp_path):
    write_stopgap(tmp_path / "m.star", particles(), FRAMES)
    table = read_star(tmp_path / "m.star")["stopgap_motivelist"]
    assert table["halfset"].tolist() == ["B", "B", "A"]
    assert table["object"].tolist() == [4, 5, 4]
    back = read_stopgap(tmp_path / "m.star", FRAMES)
    assert back.columns["rlnRandomSubset"].tolist() == [2.0, 2.0, 1.0]
    assert back.columns["eucInstance"].tolist() == [4.0, 5.0, 4.0]
    write_motive_list(tmp_path / "m.em", particles(), FRAMES)
    assert read_motive_list(tmp_path / "m.em", FRAMES).columns["eucInstance"].tolist() == [4.0, 5.0, 4.0]


def test_a_list_without_half_sets_has_none_made_up(tmp_path):
    write_stopgap(tmp_path / "m.star", particles(), FRAMES)
    text = (tmp_path / "m.star").read_text().replace(" B ", " ? ").replace(" A ", " ? ")
    (tmp_path / "m.star").write_text(text)
    assert "rlnRandomSubset" not in read_stopgap(tmp_path / "m.star", FRAMES).columns


def test_no_damage_gives_a_traceback(tmp_path):
    made = FORMAT.write(tmp_path, [phantom_series(excluded=True, phase_shift=True)])
    for file in made.files:
        assert refused_in_words(file, lambda: FORMAT.read(tmp_path, GIVEN)) > 10
    write_stopgap(tmp_path / "m.star", particles(), FRAMES)
    assert refused_in_words(tmp_path / "m.star", lambda: read_stopgap(tmp_path / "m.star", FRAMES)) > 10
