"""Estimates of other programs: each program's file is written here by its own rules and read into our conventions.

What a fit means is compared in all directions: `ours` is the definition in `CtfFit`, `theirs` each program's own formula.
"""

import math

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.ctf_estimates import (
    read_ctf_estimates,
    read_ctf_star,
    read_ctffind_table,
    read_imod_defocus,
    read_warp_ctf,
    standard_fit,
)
from eucentric.io.focus_tables import read_focus_table
from eucentric.io.labels import FOCUS_POSITION
from eucentric.io.star import write_star
from eucentric.models import Optics

DIRECTIONS = np.deg2rad(np.arange(0, 180, 15))
# first and second defocus (A), angle of the first (degrees): both orders, and angles outside a half circle
CASES = [(31000.0, 29400.0, 25.0), (29400.0, 31000.0, 25.0), (20000.0, 18000.0, -84.0), (20000.0, 21500.0, 164.0)]


def theirs(first, second, angle):
    """Rohou & Grigorieff 2015, equation 5, which all of these programs follow."""
    return 0.5 * (first + second + (first - second) * np.cos(2 * (DIRECTIONS - math.radians(angle))))


def ours(fit):
    half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
    return fit.defocus_angstrom + half * np.cos(2 * (DIRECTIONS - math.radians(fit.astigmatism_angle_deg)))


def is_standard(fit):
    return fit.defocus_u_angstrom >= fit.defocus_v_angstrom and -90.0 < fit.astigmatism_angle_deg <= 90.0


@pytest.mark.parametrize("case", CASES)
def test_larger_defocus_goes_first_and_the_direction_stays(case):
    fit = standard_fit(*case)
    assert is_standard(fit)
    np.testing.assert_allclose(ours(fit), theirs(*case), atol=1e-6)


CTFFIND = """# Output from CTFFind version 5.0.2, run on 2025-02-13 21:14:21
# Input file: /data/TS_1/frames/{input} ; Number of micrographs: {count}
# Pixel size: 0.930 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 2.20 mm ; amplitude contrast: 0.09
# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 3.5 Angstroms ; min. def.: 0.0 um; max. def. 50000.0 um
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; #5 - additional phase shift [radians]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings were fit successfully; #8 - Estimated tilt axis angle; #9 - Estimated tilt angle ; #10 Estimated sample thickness (in Angstroms)
"""  # noqa: E501


def write_ctffind(path, cases, name="stack.mrc", phase=0.0, thickness=1600.0):
    rows = [
        f"{i}.000000 {a:.6f} {b:.6f} {t:.6f} {phase:.6f} 0.1{i}0000 {5 + i}.500000 221.9 12.2 {thickness:.6f}"
        for i, (a, b, t) in enumerate(cases, 1)
    ]
    path.write_text(CTFFIND.format(input=name, count=len(cases)) + "\n".join(rows) + "\n")


def test_ctffind(tmp_path):
    write_ctffind(tmp_path / "a.txt", CASES, phase=math.pi / 3)
    found = read_ctf_estimates(tmp_path / "a.txt")
    assert (found.program, found.place, found.thickness_angstrom) == ("CTFFIND", "image", 1600.0)
    assert found.optics == Optics(voltage_kv=200.0, spherical_aberration_mm=2.2, amplitude_contrast=0.09)
    for i, (estimate, case) in enumerate(zip(found.estimates, CASES, strict=True)):
        assert is_standard(estimate.fit)
        np.testing.assert_allclose(ours(estimate.fit), theirs(*case), atol=1e-3)
        assert estimate.fit.phase_shift_deg == pytest.approx(60.0, abs=1e-4)
        assert estimate.fit.score == pytest.approx(0.1 + 0.01 * (i + 1))
        assert estimate.fit.max_resolution_angstrom == pytest.approx(6.5 + i)
        assert (estimate.section, estimate.names) == (i, ())


def test_ctffind_of_one_image_is_known_by_its_name(tmp_path):
    write_ctffind(tmp_path / "x_diagnostic.txt", CASES[:1], name="TS_1_003_6.0.mrc")
    estimate = read_ctffind_table(tmp_path / "x_diagnostic.txt").estimates[0]
    assert estimate.section is None
    assert "TS_1_003_6.0" in estimate.names


def test_ctffind_without_a_resolution(tmp_path):
    (tmp_path / "a.txt").write_text("# Output from CTFFind version 4.1.8, run\n1.0 20000 19000 10 0 -0.01 inf\n")
    fit = read_ctf_estimates(tmp_path / "a.txt").estimates[0].fit
    assert math.isnan(fit.max_resolution_angstrom)
    assert fit.score == -0.01


ARETOMO = [(-40.0, 30000.0, 31500.0, 70.0), (0.0, 28000.0, 28400.0, -20.0), (39.0, 25000.0, 26000.0, 88.0)]
"""Angle, smaller and larger defocus, azimuth of the larger."""


def write_aretomo(folder, phase_deg=0.0):
    """As AreTomo3's CSaveCtfResults.cpp prints them, with its slip: with a phase shift the angles are defocus values."""
    table = ["# Columns: #1 micrograph number; #2 - defocus 1 [A]; #3 - defocus 2; ..."]
    imod = [f"{5 if phase_deg else 1}  0  0.0  0.0  0.0  3"]
    for i, (tilt, small, large, azimuth) in enumerate(ARETOMO, 1):
        phase = math.radians(phase_deg)
        table.append(f"{i:4d}   {large:8.2f}  {small:8.2f}  {azimuth:8.2f}  {phase:9.4f}    0.0500    9.0000   -1")
        shown = small if phase_deg else tilt
        end = f"  {phase_deg:8.2f}" if phase_deg else ""
        pair = f"{small / 10:8.2f}  {large / 10:8.2f}"
        imod.append(f"{i:4d}  {i:4d}  {shown:7.2f}  {shown:7.2f}  {pair}  {azimuth:7.2f}{end}")
    (folder / "TS_1_CTF.txt").write_text("\n".join(table) + "\n")
    (folder / "TS_1_CTF_Imod.txt").write_text("\n".join(imod) + "\n")


@pytest.mark.parametrize("phase", [0.0, 75.0])
def test_both_tables_of_aretomo_say_the_same(tmp_path, phase):
    write_aretomo(tmp_path, phase)
    table, imod = (read_ctf_estimates(tmp_path / f"TS_1_CTF{end}.txt") for end in ("", "_Imod"))
    assert table.program == imod.program == "AreTomo"
    assert table.thickness_angstrom is None
    for a, b, (tilt, small, large, azimuth) in zip(table.estimates, imod.estimates, ARETOMO, strict=True):
        np.testing.assert_allclose(ours(a.fit), theirs(large, small, azimuth), atol=0.02)
        np.testing.assert_allclose(ours(b.fit), theirs(large, small, azimuth), atol=0.2)
        assert a.fit.phase_shift_deg == pytest.approx(phase, abs=0.01)
        assert b.fit.phase_shift_deg == pytest.approx(phase, abs=0.01)
        assert a.section == b.section
        assert b.listed_deg == (None if phase else tilt)


def test_defocus_version_2(tmp_path):
    (tmp_path / "a.defocus").write_text("1\t1\t-50.00\t-50.00\t3083 2\n2 4 -48.00 -44.00 3100\n5 6 -42 -40 2950\n")
    found = read_ctf_estimates(tmp_path / "a.defocus")
    assert [e.fit.defocus_angstrom for e in found.estimates] == [30830.0, 31000.0, 29500.0]
    assert [e.section for e in found.estimates] == [0, 2, 4]  # of a range, the view in its middle
    assert [e.listed_deg for e in found.estimates] == [-50.0, -46.0, -42.0]
    assert all(e.fit.defocus_u_angstrom == e.fit.defocus_v_angstrom for e in found.estimates)


def test_defocus_of_old_files_may_count_from_0(tmp_path):
    (tmp_path / "a.defocus").write_text("0 0 -50.00 -50.00 3083\n1 1 -48 -48 3000\n")
    assert [e.section for e in read_imod_defocus(tmp_path / "a.defocus").estimates] == [None, None]


@pytest.mark.parametrize("radians", [False, True])
@pytest.mark.parametrize("phase", [False, True])
@pytest.mark.parametrize("cut_on", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_defocus_version_3(tmp_path, radians, phase, cut_on, inverted):
    """ctfphaseflip's manual page: the flags, and defocus 1 at the angle (`ctfphaseflip.cpp`, after Rohou & Grigorieff)."""
    flags = 1 + 2 * radians + 4 * phase + 8 * (phase and radians) + 16 * inverted + 32 * cut_on
    lines = [f"{flags} 0 0. 0. 0 3"]
    for i, (first, second, angle) in enumerate(CASES):
        words = [i + 1, i + 1, 10.0 * i, 10.0 * i, first / 10, second / 10, math.radians(angle) if radians else angle]
        words += [math.radians(-50.0) if radians else -50.0] if phase else []
        words += [0.02] if cut_on else []
        lines.append(" ".join(f"{w:.6g}" if w != int(w) else str(int(w)) for w in words))
    lines.append(
        " ".join(["5 5 40 40 2500 0 30", *(["0.5" if radians else "30"] if phase else []), *(["0"] if cut_on else [])])
    )
    (tmp_path / "a.defocus").write_text("\n".join(lines) + "\n")
    found = read_imod_defocus(tmp_path / "a.defocus")
    assert bool(found.caveats) == cut_on
    for i, (estimate, case) in enumerate(zip(found.estimates, CASES, strict=False)):
        assert is_standard(estimate.fit)
        np.testing.assert_allclose(ours(estimate.fit), theirs(*case), atol=0.02)
        assert estimate.fit.phase_shift_deg == pytest.approx(50.0 if phase else 0.0, abs=1e-3)
        assert (estimate.section, estimate.listed_deg) == (i, (-10.0 if inverted else 10.0) * i)
    last = found.estimates[4].fit  # its astigmatism was not fitted
    assert last.defocus_u_angstrom == last.defocus_v_angstrom == 25000.0


def write_warp(path, *, encoding="utf-8", grids=True, use=("True", "True", "False")):
    def grid(name, values):
        nodes = "".join(f'<Node X="0" Y="0" Z="{z}" Value="{v}" />' for z, v in enumerate(values))
        return f'<{name} Width="1" Height="1" Depth="{len(values)}">{nodes}</{name}>'

    body = (
        "<Angles>50\n0\n-48</Angles><UseTilt>{}</UseTilt><MoviePath>../frames/a.tif\nb.eer\nc.mrc</MoviePath>".format(
            "\n".join(use)
        )
    )
    params = {
        "Defocus": 3.1,
        "DefocusDelta": 0.2,
        "DefocusAngle": 40,
        "PhaseShift": 0.25,
        "Voltage": 200,
        "Cs": 2.7,
        "Amplitude": 0.08,
        "Thickness": 120,
    }
    body += "<CTF>" + "".join(f'<Param Name="{k}" Value="{v}" />' for k, v in params.items()) + "</CTF>"
    body += grid("GridCTF", [3.0, 3.2, 3.5])
    if grids:
        body += grid("GridCTFDefocusDelta", [0.1, -0.1, 0.3]) + grid("GridCTFDefocusAngle", [10, 100, 20])
        body += grid("GridCTFPhase", [0.5, 0.5, 0.5])
    text = f'<?xml version="1.0" encoding="{encoding}"?><TiltSeries CTFResolutionEstimate="6.5">{body}</TiltSeries>'
    path.write_bytes(text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_warp(tmp_path, encoding):
    """CTF.cs: defocus and its delta in um, cos 2 (angle - DefocusAngle) times half the delta, phase in units of pi."""
    write_warp(tmp_path / "TS_1.xml", encoding=encoding)
    found = read_ctf_estimates(tmp_path / "TS_1.xml")
    assert (found.place, found.thickness_angstrom, found.optics.voltage_kv) == ("specimen", 1200.0, 200.0)
    assert [e.names for e in found.estimates] == [("a",), ("b",)]  # the third is not used
    assert [e.listed_deg for e in found.estimates] == [-50.0, 0.0]
    np.testing.assert_allclose(ours(found.estimates[0].fit), theirs(30500, 29500, 10), atol=1e-6)
    np.testing.assert_allclose(ours(found.estimates[1].fit), theirs(31500, 32500, 100), atol=1e-6)
    assert all(is_standard(e.fit) and e.fit.phase_shift_deg == 90.0 for e in found.estimates)
    assert all(e.fit.max_resolution_angstrom == 6.5 for e in found.estimates)


def test_warp_with_one_astigmatism_for_all(tmp_path):
    write_warp(tmp_path / "TS_1.xml", grids=False, use=("True",) * 3)
    fits = [e.fit for e in read_warp_ctf(tmp_path / "TS_1.xml").estimates]
    assert [f.defocus_angstrom for f in fits] == pytest.approx([30000.0, 32000.0, 35000.0])
    assert [f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits] == pytest.approx([2000.0] * 3)
    assert [(f.astigmatism_angle_deg, f.phase_shift_deg) for f in fits] == [(40.0, 45.0)] * 3


def test_relion_table_of_images(tmp_path):
    optics = {
        "rlnOpticsGroupName": ["g"],
        "rlnVoltage": [200.0],
        "rlnSphericalAberration": [2.7],
        "rlnAmplitudeContrast": [0.1],
    }
    images = {
        "rlnMicrographName": ["MotionCorr/TS_1_000.mrc", "MotionCorr/TS_1_001.mrc"],
        "rlnDefocusU": [31000.0, 20000.0],
        "rlnDefocusV": [29400.0, 21500.0],
        "rlnDefocusAngle": [25.0, 164.0],
        "rlnPhaseShift": [30.0, 40.0],
        "rlnCtfFigureOfMerit": [0.1, 0.2],
        "rlnCtfMaxResolution": [7.0, 8.0],
    }
    write_star(tmp_path / "micrographs_ctf.star", {"optics": optics, "micrographs": images})
    found = read_ctf_estimates(tmp_path / "micrographs_ctf.star")
    assert (found.program, found.place, found.optics.voltage_kv) == ("RELION", "image", 200.0)
    for estimate, case, phase in zip(found.estimates, (CASES[0], CASES[3]), (30.0, 40.0), strict=True):
        assert is_standard(estimate.fit)
        np.testing.assert_allclose(ours(estimate.fit), theirs(*case), atol=1e-6)
        assert estimate.fit.phase_shift_deg == phase
    assert [e.names for e in found.estimates] == [("TS_1_000",), ("TS_1_001",)]
    assert [e.fit.max_resolution_angstrom for e in found.estimates] == [7.0, 8.0]


def test_relion_project_names_the_table_of_each_series(tmp_path):
    tilts = {
        "rlnTomoNominalStageTiltAngle": [-3.0, 3.0],
        "rlnTomoYTilt": [-2.9, 3.1],
        "rlnDefocusU": [30000.0, 31000.0],
        "rlnDefocusV": [29000.0, 30000.0],
        "rlnDefocusAngle": [10.0, 11.0],
    }
    (tmp_path / "job" / "tilt_series").mkdir(parents=True)
    write_star(tmp_path / "job" / "tilt_series" / "TS_2.star", {"TS_2": tilts})
    table = {
        "rlnTomoName": ["TS_1", "TS_2"],
        "rlnTomoTiltSeriesStarFile": ["job/tilt_series/TS_1.star", "job/tilt_series/TS_2.star"],
        "rlnVoltage": [300.0] * 2,
        "rlnSphericalAberration": [2.7] * 2,
        "rlnAmplitudeContrast": [0.1] * 2,
    }
    write_star(tmp_path / "job" / "tomograms.star", {"global": table})
    found = read_ctf_estimates(tmp_path / "job" / "tomograms.star", "TS_2")
    assert [e.listed_deg for e in found.estimates] == [-3.0, 3.0]
    assert (found.place, found.optics.amplitude_contrast) == ("specimen", 0.1)
    with pytest.raises(InputError, match="no tilt series called TS_7"):
        read_ctf_estimates(tmp_path / "job" / "tomograms.star", "TS_7")
    with pytest.raises(FormatError, match="which is not there"):
        read_ctf_estimates(tmp_path / "job" / "tomograms.star", "TS_1")


def test_sections_of_stacks_in_star_tables(tmp_path):
    columns = {"rlnDefocusU": [3e4, 3e4], "rlnDefocusV": [3e4, 3e4], "rlnDefocusAngle": [0.0, 0.0]}
    write_star(tmp_path / "x_gctf.star", {"": {"rlnMicrographName": ["split.mrc.07", "split.mrc.08"], **columns}})
    write_star(tmp_path / "y.star", {"x": {"rlnImageName": ["000007@s.mrcs", "8@s.mrcs"], **columns}})
    assert [e.section for e in read_ctf_star(tmp_path / "x_gctf.star").estimates] == [6, 7]
    assert [e.section for e in read_ctf_star(tmp_path / "y.star").estimates] == [6, 7]
    assert read_ctf_star(tmp_path / "x_gctf.star").program == "Gctf"


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("a.txt", "# CTFFind version 4, x\n1 20000 19000 ten 0 0 5\n", FormatError, "Line 2"),
        ("a.txt", "# CTFFind version 4, x\n1 20000\n", FormatError, "2 numbers"),
        ("a.txt", "# CTFFind version 4, x\n1 nan 19000 10 0 0 5\n", FormatError, "not numbers"),
        ("a.txt", "# CTFFind version 4, x\n", InputError, "no estimate"),
        ("a.defocus", "1 0 0 0 0 3\n", InputError, "no defocus"),
        ("a.defocus", "1 0 0 0 0 3\n1 1 0 0 3000\n", FormatError, "expected 7"),
        ("a.defocus", "first view\n", FormatError, "Line 1"),
        ("a.star", "data_\nloop_\n_rlnMicrographName #1\nx.mrc\n", InputError, "rlnDefocusU"),
        ("a.star", "data_\nloop_\n_rlnDefocusU #1\n_rlnDefocusV #2\nmany few\n", FormatError, "Row 1"),
        ("a.xml", "<TiltSeries><Angles>1\n2</Angles></TiltSeries>", InputError, "no defocus"),
        ("a.xml", "<Movie />", FormatError, "not a tilt series"),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path, name, text, error, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=words):
        read_ctf_estimates(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_ctf_estimates(tmp_path / "a.txt")


def test_focus_tables(tmp_path):
    (tmp_path / "plain.txt").write_text("# focus\n1 -20000 30000\n1, 20000, 31000\n3.5 0 32000\n")
    (tmp_path / "named.txt").write_text("tilt defocus position\n-3.0 30000 -20000\n6.0 31000 20000\n")
    plain, named = (read_focus_table(tmp_path / f"{name}.txt") for name in ("plain", "named"))
    assert [(f.acquisition, f.position_angstrom, f.defocus_angstrom) for f in plain] == [
        (0.0, -20000.0, 30000.0),
        (0.0, 20000.0, 31000.0),
        (2.5, 0.0, 32000.0),
    ]
    assert [(f.tilt_deg, f.acquisition, f.position_angstrom, f.defocus_angstrom) for f in named] == [
        (-3.0, None, -20000.0, 30000.0),
        (6.0, None, 20000.0, 31000.0),
    ]
    columns = {
        labels.ACQUISITION: [0, 2],
        FOCUS_POSITION: [-5.0, 5.0],
        "rlnDefocusU": [3e4, 4e4],
        "rlnDefocusV": [2e4, 3e4],
    }
    write_star(tmp_path / "a.star", {"focus": columns})
    assert [
        (f.acquisition, f.position_angstrom, f.defocus_angstrom) for f in read_focus_table(tmp_path / "a.star")
    ] == [
        (0.0, -5.0, 25000.0),
        (2.0, 5.0, 35000.0),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n", "Line 1"),
        ("1 2 inf\n", "Line 1"),
        ("tilt position\n1 2\n", "heading"),
        ("tilt position defocus angle\n", "heading"),
        ("# nothing\n", "no line"),
    ],
)
def test_focus_tables_that_cannot_be_read(tmp_path, text, words):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_focus_table(tmp_path / "a.txt")
    write_star(tmp_path / "a.star", {"focus": {"rlnDefocusU": [1.0]}})
    with pytest.raises(FormatError, match=FOCUS_POSITION):
        read_focus_table(tmp_path / "a.star")
