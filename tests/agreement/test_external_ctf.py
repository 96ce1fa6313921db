"""Estimates of the contrast transfer that other programs wrote, against their files read by other means."""

import re

import numpy as np
import pytest
import starfile

from eucentric.io import read_angles, read_mdoc, read_tilt_series
from eucentric.models import Tilt, TiltSeries
from eucentric.pipeline.given_ctf import attach_ctf
from eucentric.pipeline.import_ctf import read_external_ctf, take_over

DIRECTIONS = np.deg2rad(np.arange(0, 180, 20))


def in_directions(first, second, angle_deg):
    """(row, direction): defocus by Rohou & Grigorieff 2015, equation 5."""
    first, second, angle = (np.asarray(v, dtype=float)[:, None] for v in (first, second, np.deg2rad(angle_deg)))
    return 0.5 * (first + second + (first - second) * np.cos(2 * (DIRECTIONS - angle)))


def found_in_directions(fits):
    assert all(f.defocus_u_angstrom >= f.defocus_v_angstrom for f in fits)
    return in_directions(
        [f.defocus_u_angstrom for f in fits],
        [f.defocus_v_angstrom for f in fits],
        [f.astigmatism_angle_deg for f in fits],
    )


def fits_of(external):
    return [e.fit for e in external.estimates]


def attached_to(series, external):
    return attach_ctf(series, take_over(series, external).given)


def a_series(name, angles, movies=None, order=None):
    tilts = [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=i if order is None else int(order[i]),
            dose=2.0,
            pre_exposure=2.0 * i,
            movie=None if movies is None else movies[i],
        )
        for i, a in enumerate(angles)
    ]
    return TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=1.971, image_shape=(4096, 4096))


def test_ctfplotter(shared_data):
    folder = shared_data / "formats/imod"
    found = read_external_ctf(folder / "test_imod.defocus", "x")
    nanometres = np.loadtxt(folder / "test_defocus.txt")  # the same values, listed by another program
    np.testing.assert_allclose(found_in_directions(fits_of(found)), 10 * nanometres[:, None].repeat(9, 1))
    angles = [float(line.split()[2]) for line in (folder / "test_imod.defocus").read_text().splitlines()]
    assert [e.listed_deg for e in found.estimates] == angles
    attached = attached_to(a_series("x", angles[::-1]), found)
    np.testing.assert_allclose([t.ctf.defocus_angstrom for t in attached.series.tilts], 10 * nanometres)


def test_aretomo(shared_data):
    path = shared_data / "formats/aretomo/test_CTF.txt"
    rows = np.loadtxt(path)
    found = read_external_ctf(path, "test")
    np.testing.assert_allclose(found_in_directions(fits_of(found)), in_directions(*rows[:, 1:4].T))
    assert [f.score for f in fits_of(found)] == rows[:, 5].tolist()
    assert [f.max_resolution_angstrom for f in fits_of(found)] == rows[:, 6].tolist()
    assert found.program == "AreTomo"


def test_ctffind(shared_data):
    """The angles beside the table are not those of the mdoc at both ends (-54 and 70, not -52 and 66 degrees)."""
    folder = shared_data / "formats/session_TS_018"
    rows = np.loadtxt(folder / "018_ctffind4.txt")
    found = read_external_ctf(folder / "018_ctffind4.txt", "018")
    np.testing.assert_allclose(found_in_directions(fits_of(found)), in_directions(*rows[:, 1:4].T))
    np.testing.assert_allclose([e.listed_deg for e in found.estimates], read_angles(folder / "018.tlt"))
    assert (found.optics.voltage_kv, found.optics.amplitude_contrast) == (300.0, 0.07)
    sections = read_mdoc(folder / "018.mdoc").sections
    taken = [s.tilt_angle_deg for s in sections if s.tilt_angle_deg is not None]
    movies = [s.movie_name for s in sections if s.tilt_angle_deg is not None]
    attached = attached_to(a_series("018", taken, movies), found)
    assert attached.filled == (0, 59)
    np.testing.assert_allclose([t.ctf.score for t in attached.series.tilts][1:-1], rows[1:-1, 5])


def test_gctf(shared_data):
    path = shared_data / "formats/session_TS_018/018_gctf.star"
    table = starfile.read(path)
    found = read_external_ctf(path, "018")
    assert found.program == "Gctf"
    assert (table["rlnDefocusV"] > table["rlnDefocusU"]).any()  # Gctf does not sort them
    expected = in_directions(table["rlnDefocusU"], table["rlnDefocusV"], table["rlnDefocusAngle"])
    np.testing.assert_allclose(found_in_directions(fits_of(found)), expected)
    assert [f.max_resolution_angstrom for f in fits_of(found)] == table["rlnFinalResolution"].tolist()
    assert [e.section for e in found.estimates] == list(range(60))


def nodes(text, name):
    block = re.search(rf"<{name} .*?</{name}>", text, re.DOTALL)[0]
    return np.array([float(v) for v in re.findall(r'Value="(.*?)"', block)])


@pytest.mark.parametrize("name", ["session_TS_018/018.xml", "warp/gs04_ts_003.xml"])
def test_warp(shared_data, name):
    path = shared_data / "formats" / name
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    found = read_external_ctf(path, path.stem)
    mean, delta = 1e4 * nodes(text, "GridCTF"), 1e4 * nodes(text, "GridCTFDefocusDelta")
    angle = nodes(text, "GridCTFDefocusAngle")
    expected = in_directions(mean + delta / 2, mean - delta / 2, angle)
    np.testing.assert_allclose(found_in_directions(fits_of(found)), expected, rtol=1e-6)
    assert found.place == "specimen"
    movies = re.search(r"<MoviePath>(.*?)</MoviePath>", text, re.DOTALL)[1].split()
    angles = [float(v) for v in re.search(r"<Angles>(.*?)</Angles>", text, re.DOTALL)[1].split()]
    dose = [float(v) for v in re.search(r"<Dose>(.*?)</Dose>", text, re.DOTALL)[1].split()]
    # the sign of Warp's angles is a choice of its user: names tell which view is which either way
    for sign in (1.0, -1.0):
        series = a_series(path.stem, sign * np.array(angles), movies, np.argsort(np.argsort(dose)))
        attached = attached_to(series, found)
        at = {t.movie: t.ctf.defocus_angstrom for t in attached.series.tilts}
        np.testing.assert_allclose([at[m] for m in movies], mean, rtol=1e-6)


@pytest.mark.parametrize(
    ("folder", "table", "name"),
    [
        ("relion5_project", "Tomograms/job009/tomograms.star", "tomo200528_107"),
        ("relion4_project", "tilt_series_metadata/tilt_series.star", "220728_TS_43"),
    ],
)
def test_relion(shared_data, folder, table, name):
    root = shared_data / "formats/relion" / folder
    found = read_external_ctf(root / table, name)
    own = next(root.rglob(f"{name}.star"))
    rows = starfile.read(own)
    expected = in_directions(rows["rlnDefocusU"], rows["rlnDefocusV"], rows["rlnDefocusAngle"])
    np.testing.assert_allclose(found_in_directions(fits_of(found)), expected)
    difference = [f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits_of(found)]
    np.testing.assert_allclose(difference, np.abs(rows["rlnCtfAstigmatism"]), atol=1e-3)
    assert [f.max_resolution_angstrom for f in fits_of(found)] == rows["rlnCtfMaxResolution"].tolist()
    angles, movies = rows["rlnTomoNominalStageTiltAngle"], rows["rlnMicrographMovieName"].tolist()
    attached = attached_to(a_series(name, angles, movies), found).series
    by_movie = dict(zip(movies, rows["rlnDefocusU"], strict=True))
    assert all(t.ctf.defocus_u_angstrom == by_movie[t.movie] for t in attached.tilts)


def test_relion_agrees_with_the_reader_of_whole_series(shared_data):
    root = shared_data / "formats/relion/relion5_project"
    table = root / "Tomograms/job009/tomograms.star"
    series = read_tilt_series(table, "tomo200528_107", root)
    found = attached_to(series, read_external_ctf(table, "tomo200528_107"))
    for ours, theirs in zip(found.series.tilts, series.tilts, strict=True):
        assert ours.ctf.defocus_u_angstrom == theirs.ctf.defocus_u_angstrom
        assert ours.ctf.defocus_v_angstrom == theirs.ctf.defocus_v_angstrom
        assert ours.ctf.astigmatism_angle_deg == pytest.approx(theirs.ctf.astigmatism_angle_deg)
    assert found.filled == ()
