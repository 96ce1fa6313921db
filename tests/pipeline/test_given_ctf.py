"""Contrast transfer of other programs and of focus images, from the command line to the results of the CTF stage."""

import numpy as np
import pytest

from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models import Optics
from eucentric.optics import ctf_2d
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record

PIXEL, SIDE = 3.0, 384
TILTS = np.arange(-12.0, 12.1, 4.0)
TRUE = 22000.0 + 150.0 * np.sin(np.arange(len(TILTS)))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """White noise through the CTF of every tilt, plus noise of half its strength, of a specimen without depth."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("stack")
    images = []
    for defocus in TRUE:
        signal = np.fft.rfft2(rng.normal(size=(SIDE, SIDE)))
        transfer = ctf_2d((SIDE, SIDE), PIXEL, defocus, defocus, 0.0, Optics()).numpy()
        images.append(np.fft.irfft2(signal * transfer, s=(SIDE, SIDE)) + rng.normal(0, 0.5, (SIDE, SIDE)) + 20.0)
    write_mrc(folder / "TS_1.mrc", np.stack(images).astype(np.float32), PIXEL, "float32", is_volume=False)
    (folder / "TS_1.rawtlt").write_text("\n".join(f"{a:.1f}" for a in TILTS))
    return folder


def estimates(path, defocus):
    rows = [f"{i}.0 {d + 10} {d - 10} 20.0 0.0 0.1 8.0" for i, d in enumerate(defocus, 1)]
    head = "# Output from CTFFind version 4.1.14, run\n# Input file: TS_1.mrc ; Number of micrographs: 7\n"
    optics = (
        "# acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude contrast: 0.07\n# Columns: #1\n"
    )
    path.write_text(head + optics + "\n".join(rows) + "\n")


@pytest.fixture
def project(stack, tmp_path, program):
    place = tmp_path / "project"
    angles = ("--angles", stack / "TS_1.rawtlt", "--tilt-axis", "85", "--pixel-size", PIXEL, "--dose", "3")
    code, _, errors = program("import", place, "--stack", stack / "TS_1.mrc", *angles)
    assert code == 0, errors
    assert program("motion", place, "--device", "cpu")[0] == 0
    assert program("align", place, "--method", "none", "--device", "cpu")[0] == 0
    return place


def defocus(project):
    return np.array([t.ctf.defocus_angstrom for t in results(project).tilts])


def results(project):
    return read_tilt_series(project / "ctf/tilt_series.star", "TS_1", project)


def caveats(project):
    return " ".join(read_record(project / "ctf", "TS_1").caveats)


def run_ctf(project, program, *words):
    code, _, errors = program("ctf", project, "--device", "cpu", "--workers", "1", *words)
    assert code == 0, errors


def test_estimates_are_kept_refined_or_passed_over(project, tmp_path, program):
    estimates(tmp_path / "TS_1_ctffind4.txt", TRUE + 60.0)
    code, said, errors = program("import", project, "--ctf", tmp_path / "TS_1_ctffind4.txt")
    assert code == 0, errors
    assert "CTFs of 1 of 1 tilt series taken over" in said
    assert Plan.load(project).params("ctf").method == "imported"
    run_ctf(project, program)
    np.testing.assert_allclose(defocus(project), TRUE + 60.0)
    fits = [t.ctf for t in results(project).tilts]
    assert all(f.score > 0.5 and f.max_resolution_angstrom < 15.0 for f in fits)
    assert "rings speak" not in caveats(project)
    run_ctf(project, program, "--method", "refine")
    assert np.abs(defocus(project) - TRUE).max() < 45.0
    before = defocus(project)
    run_ctf(project, program, "--method", "fit")
    np.testing.assert_allclose(defocus(project), before, atol=10.0)


def test_estimates_that_the_images_contradict(project, tmp_path, program):
    """Half a ring or more away at the end of the band: the images say by how much."""
    estimates(tmp_path / "TS_1.txt", TRUE + 700.0)
    assert program("import", project, "--ctf", tmp_path)[0] == 0
    run_ctf(project, program)
    np.testing.assert_allclose(defocus(project), TRUE + 700.0)
    found = caveats(project)
    assert "rings speak for a defocus -7" in found or "no rings stand where CTFFIND" in found
    assert "--method refine" in found
    run_ctf(project, program, "--method", "refine")
    assert np.abs(defocus(project) - TRUE).max() < 45.0


def test_other_estimates_are_another_result(project, tmp_path, program):
    """What was imported counts: the stage runs again when it changes, and only then."""
    for shift in (0.0, 50.0):
        estimates(tmp_path / "TS_1.txt", TRUE + shift)
        assert program("import", project, "--ctf", tmp_path / "TS_1.txt")[0] == 0
        run_ctf(project, program)
        np.testing.assert_allclose(defocus(project), TRUE + shift)
    code, said, _ = program("ctf", project, "--device", "cpu")
    assert code == 0
    assert "1 unchanged" in said


def test_focus_images(project, tmp_path, program):
    rows = ["acquisition position defocus"]
    rows += [f"{t} {p} {17000.0 + 0.05 * p}" for t in (1, 7) for p in (-2e4, 1e4)]
    (tmp_path / "TS_1_focus.txt").write_text("\n".join(rows))
    code, _, errors = program("import", project, "--focus", tmp_path / "TS_1_focus.txt", "--focus-offset", "5000")
    assert code == 0, errors
    run_ctf(project, program)
    np.testing.assert_allclose(defocus(project), 22000.0)
    code, _, errors = program("import", project, "--focus", tmp_path / "TS_1_focus.txt", "--focus-offset", "-90000")
    assert code == 2
    assert "No estimate was taken over" in errors


def test_a_series_without_estimates_is_fitted(project, program):
    run_ctf(project, program, "--method", "imported")
    assert "No estimates were imported" in caveats(project)
    assert np.abs(defocus(project) - TRUE).max() < 45.0


def test_estimates_of_another_series(project, tmp_path, program):
    estimates(tmp_path / "TS_2_ctf.txt", TRUE)
    estimates(tmp_path / "TS_3_ctf.txt", TRUE)
    code, said, errors = program(
        "import", project, "--ctf", tmp_path / "TS_2_ctf.txt", "--ctf", tmp_path / "TS_3_ctf.txt"
    )
    assert code == 2
    assert "None of the estimates given is of this series" in said
    assert "No estimate was taken over" in errors
