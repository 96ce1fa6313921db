"""Series without cryo metadata on the command line: a needle seen from all sides, and aligned projections in EM files."""

import numpy as np
import pytest

from eucentric.cli.main import run as run_command
from eucentric.io import read_em, read_mrc, read_tilt_series_set


def run(*words) -> int:
    return run_command([str(word) for word in words])


def volume_of(folder):
    path = next(p for p in sorted((folder / "tomograms").glob("*.mrc")) if "_half" not in p.name)
    return np.array(read_mrc(path)[0], dtype=np.float64)


def test_a_needle_from_all_sides_and_with_a_missing_wedge(shared_data, tmp_path):
    project = tmp_path / "needle"
    stack = shared_data / "real" / "needle_haadf" / "HAADF.dm3"
    assert run("import", project, "--stack", stack, "--tilts", -90, 2, "--scanning", "--tilt-axis", 90) == 0
    assert run("run", project, "--workers", 1) == 0
    assert run("reconstruct", project, "--output", "to60", "--max-tilt-deg", 60, "--workers", 1) == 0
    assert run("report", project) == 0
    (series,) = read_tilt_series_set(project / "align" / "tilt_series.star", project)
    assert abs(series.poses[0].z_rot_deg - 79.3) < 0.5  # the given 90 degrees are wrong: seen in two-legged slices
    whole, cut = volume_of(project / "reconstruct"), volume_of(project / "to60")
    # round in every slice across the axis: as wide along z as along x, and in one place at either end
    middle = whole[:, 26:34].mean(1)
    assert abs((middle.max(0) > 0.5 * middle.max()).sum() - (middle.max(1) > 0.5 * middle.max()).sum()) <= 2
    tip = whole[:, 11:15].mean(1)
    assert np.sum(tip > 0.5 * tip.max()) < 90  # one spot; a wrong axis spreads it over two legs
    power = [np.abs(np.fft.fftn(v)) ** 2 for v in (whole, cut)]
    kz, ky, kx = np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")
    ring = (np.hypot(kx, kz) > 0.06) & (np.sqrt(kx**2 + ky**2 + kz**2) < 0.35)
    angle = np.rad2deg(np.arctan2(np.abs(kz), np.abs(kx)))
    assert power[1][ring & (angle > 63)].sum() < 0.03 * power[0][ring & (angle > 63)].sum()
    assert power[1][ring & (angle < 57)].sum() == pytest.approx(power[0][ring & (angle < 57)].sum(), rel=0.05)
    page = (project / "report" / "HAADF.html").read_text()
    assert page.count("The dark wedge along z is what no tilt angle reached") == 2
    assert "Tomogram in to60 (max tilt (°) 60.0)" in page
    index = (project / "report" / "index.html").read_text()
    assert "centre of mass of the specimen" in index
    assert "projection matching" not in index


def test_aligned_projections_agree_with_another_program(shared_data, tmp_path):
    folder, project = shared_data / "real" / "projections_41", tmp_path / "particle"
    assert run("import", project, "--stack", folder / "projectionList.xml", "--pixel-size", 10, "--scanning") == 0
    (series,) = read_tilt_series_set(project / "import" / "tilt_series.star", project)
    assert [t.nominal_tilt_deg for t in series.tilts] == pytest.approx(np.linspace(-60, 60, 41), abs=0.1)
    steepest = series.tilts[-1]  # projection_0: listed at -59.986 with an offset of -0.886 pixels
    assert steepest.pose is not None
    assert steepest.pose.y_tilt_deg == 59.986
    assert steepest.pose.x_shift_angstrom == pytest.approx(-8.86, abs=0.01)
    assert run("run", project, "--workers", 1) == 0
    plain = ("--filter", "none", "--fall-off", "gaussian", "--thickness-angstrom", 1000, "--pixel-size-angstrom", 10)
    assert run("reconstruct", project, "--output", "plain", *plain, "--workers", 1) == 0
    expected = np.array(read_em(folder / "p1.em")[0], dtype=np.float64)
    centre = (slice(25, 75),) * 3
    correlation = np.corrcoef(volume_of(project / "plain")[centre].ravel(), expected[centre].ravel())[0, 1]
    assert correlation > 0.86
