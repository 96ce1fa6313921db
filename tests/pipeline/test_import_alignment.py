"""Alignments of other programs and corrected tracks, from the command line."""

import numpy as np
import pytest

from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.imod import write_angles, write_transforms
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.tracks import write_tracks
from eucentric.models.tracks import Tracks
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record

ANGLES = np.arange(-40.0, 41.0, 10.0)
SHAPE = (64, 64)
PIXEL = 10.0
AXIS = 84.0


@pytest.fixture
def stack(tmp_path):
    """Noise: nothing but the files tells of the geometry."""
    images = np.random.default_rng(0).normal(100.0, 10.0, (len(ANGLES), *SHAPE)).astype(np.float32)
    write_mrc(tmp_path / "TS_01.st", images, PIXEL, "float32", is_volume=False)
    write_angles(tmp_path / "TS_01.rawtlt", ANGLES)
    return tmp_path / "TS_01.st"


def write_imod(folder, axis, shifts_px):
    """As IMOD writes them: x' = R(-axis) (x - T), the axis then upright."""
    turn = np.deg2rad(-axis)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrices = np.repeat(matrix[None], len(shifts_px), axis=0)
    write_transforms(folder / "TS_01.xf", matrices, -np.einsum("ij,tj->ti", matrix, shifts_px))
    write_angles(folder / "TS_01.tlt", ANGLES)


def test_an_imported_alignment_is_the_answer_unless_asked_otherwise(program, tmp_path, stack):
    shifts = np.random.default_rng(1).normal(0.0, 3.0, (len(ANGLES), 2))
    write_imod(tmp_path, AXIS, shifts)
    project = tmp_path / "project"
    code = program("import", project, "--stack", stack, "--alignment", tmp_path / "TS_01.xf")[0]
    assert code == 0
    assert Plan.load(project).params("align").method == "none"
    assert program("run", project, "--until", "axis", "--workers", "1")[0] == 0
    poses = read_tilt_series(project / "axis/tilt_series.star", "TS_01", project).poses
    assert [p.z_rot_deg for p in poses] == pytest.approx([AXIS] * len(ANGLES), abs=1e-4)
    # IMOD turns about (n - 1) / 2, half a pixel from ours
    half = 0.5 * PIXEL
    assert [p.x_shift_angstrom + half for p in poses] == pytest.approx(shifts[:, 0] * PIXEL, abs=0.02)
    assert [p.y_shift_angstrom + half for p in poses] == pytest.approx(shifts[:, 1] * PIXEL, abs=0.02)


def test_a_series_without_its_alignment_is_told_of(program, tmp_path, stack):
    (tmp_path / "other").mkdir()
    write_imod(tmp_path, AXIS, np.zeros((len(ANGLES), 2)))
    for ending in ("xf", "tlt"):
        (tmp_path / f"TS_01.{ending}").rename(tmp_path / "other" / f"TS_09.{ending}")
    code, out, _ = program("import", tmp_path / "project", "--stack", stack, "--alignment", tmp_path / "other")
    assert code == 0
    assert "Its alignment was not taken" in out
    assert Plan.load(tmp_path / "project").params("align").method == "auto"


def test_tracks_of_a_person_replace_those_that_would_be_found(program, tmp_path, stack):
    project = tmp_path / "project"
    assert program("import", project, "--stack", stack, "--tilt-axis", str(AXIS), "--pixel-size", "10")[0] == 0
    assert program("motion", project, "--workers", "1")[0] == 0
    generator = np.random.default_rng(5)
    true = TiltGeometry.build(ANGLES, z_rot_deg=AXIS + 0.8, shifts_angstrom=generator.normal(0, 20.0, (len(ANGLES), 2)))
    points = generator.uniform(-200.0, 200.0, (9, 3)) * (1.0, 1.0, 0.5)
    seen = true.project(points)[..., :2]
    tilt, point = (grid.ravel() for grid in np.meshgrid(np.arange(len(ANGLES)), np.arange(9), indexing="ij"))
    series = read_tilt_series(project / "import/tilt_series.star", "TS_01", project)
    tracks = Tracks.build(point, tilt, seen[tilt, point] + generator.normal(0, 0.3, (len(tilt), 2)), sigma_angstrom=0.3)
    edited = tmp_path / "edited"
    write_tracks(edited / "TS_01.star", tracks, [t.acquisition for t in series.tilts])
    command = ["align", project, "--tracks", edited, "--workers", "1"]
    code, _, problem = program(*command)
    assert code == 0, problem
    poses = read_tilt_series(project / "align/tilt_series.star", "TS_01", project).poses
    assert np.median([p.z_rot_deg for p in poses]) == pytest.approx(AXIS + 0.8, abs=0.1)
    record = read_record(project / "align", "TS_01")
    assert any("tracks that were given" in caveat for caveat in record.caveats)
    assert (project / "align/tracks/TS_01.fid").is_file()
    again = program(*command, "--json")[1]
    assert '"processed": 0' in again.replace("'", '"') or "1 unchanged" in again
    write_tracks(edited / "TS_01.star", tracks.take(point != 3), [t.acquisition for t in series.tilts])
    code, _, problem = program(*command)
    assert code == 0, problem
    assert read_record(project / "align", "TS_01").metrics["beads_tracked"] == 8
