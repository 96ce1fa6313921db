"""Tracks that a person corrected: the next run aligns that series by them, tells of a bad correction, and leaves the others."""

import numpy as np
import pytest

from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.imod import write_angles
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.tracks import write_tracks
from eucentric.models.tracks import Tracks
from eucentric.pipeline.curation_kinds import edit_of
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.records import read_record

ANGLES = np.arange(-40.0, 41.0, 8.0)
SHAPE = (64, 64)
PIXEL = 10.0
AXIS = 84.0
BEADS = 5
JUMPED = range(6, 11)
"""Tilts in which the tracks of beads 0 and 2 are those of beads 1 and 3."""


@pytest.fixture
def spoiled(program, tmp_path):
    """A project of two series of noise with tracks that a tracker left, one bead's jumping to another; true places and poses."""
    generator = np.random.default_rng(5)
    true = TiltGeometry.build(ANGLES, z_rot_deg=AXIS + 0.8, shifts_angstrom=generator.normal(0, 20.0, (len(ANGLES), 2)))
    points = generator.uniform(-200.0, 200.0, (BEADS, 3)) * (1.0, 1.0, 0.5)
    seen = true.project(points)[..., :2] + generator.normal(0.0, 0.5, (len(ANGLES), BEADS, 2))
    tracked = seen.copy()
    tracked[JUMPED, 0] = seen[JUMPED, 1] + 12.0
    tracked[JUMPED, 2] = seen[JUMPED, 3] + 12.0
    tilt, point = (grid.ravel() for grid in np.meshgrid(np.arange(len(ANGLES)), np.arange(BEADS), indexing="ij"))
    tracks = Tracks.build(point, tilt, tracked[tilt, point], sigma_angstrom=0.5)
    for name in ("TS_01", "TS_02"):
        images = generator.normal(100.0, 10.0, (len(ANGLES), *SHAPE)).astype(np.float32)
        write_mrc(tmp_path / f"{name}.st", images, PIXEL, "float32", is_volume=False)
        write_angles(tmp_path / f"{name}.rawtlt", ANGLES)
    project = tmp_path / "project"
    stacks = ["--stack", tmp_path / "*.st"]
    assert program("import", project, *stacks, "--tilt-axis", str(AXIS), "--pixel-size", "10")[0] == 0
    assert program("motion", project, "--workers", "1")[0] == 0
    acquisitions = [
        t.acquisition for t in read_tilt_series(project / "import/tilt_series.star", "TS_01", project).tilts
    ]
    for name in ("TS_01", "TS_02"):
        write_tracks(tmp_path / "left" / f"{name}.star", tracks, acquisitions)
    code, _, problem = program("align", project, "--tracks", tmp_path / "left", "--workers", "1")
    assert code == 0, problem
    return project, seen, true, acquisitions


def off(project, true):
    """rms error of the shifts, A; a common move of the specimen taken out."""
    poses = read_tilt_series(project / "align/tilt_series.star", "TS_01", project).poses
    geometry = TiltGeometry.from_poses(poses)
    left = (geometry.shifts_angstrom - true.shifts_angstrom).reshape(-1)
    left = (
        left
        - true.image_matrices.reshape(-1, 3) @ np.linalg.lstsq(true.image_matrices.reshape(-1, 3), left, rcond=None)[0]
    )
    return float(np.sqrt((left**2).mean()))


@pytest.mark.slow
def test_a_track_that_jumped_is_mended_and_the_next_run_aligns_by_it(program, spoiled):
    project, seen, true, acquisitions = spoiled
    before, other = (read_record(project / "align", name) for name in ("TS_01", "TS_02"))
    spoiled_error = off(project, true)
    curation = Curation(project, "me")
    for tilt, bead in ((t, b) for t in JUMPED for b in (0, 2)):
        edit = {
            "kind": "set-track-point",
            "series": "TS_01",
            "point": bead,
            "acquisition": acquisitions[tilt],
            "sigma": 0.5,
        }
        curation.do(edit_of({**edit, "position": seen[tilt, bead].tolist()}))
    code, _, problem = program("run", project, "--until", "align", "--workers", "1")
    assert code == 0, problem
    after = read_record(project / "align", "TS_01")
    assert read_record(project / "align", "TS_02").ended == other.ended  # of the other series nothing is done again
    assert after.metrics["tracks_by_hand"] == 2 * len(JUMPED)
    assert after.metrics["tracks_by_hand_that_disagree"] == 0
    assert before.metrics["leave_one_out_rms_angstrom"] > 4.0 * after.metrics["leave_one_out_rms_angstrom"]
    assert after.metrics["residual_rms_angstrom"] < 1.0  # 0.5 A in x and y was put on the places
    assert off(project, true) < 0.5 < spoiled_error
    # a place that is wrong by 60 A is told of
    worse = {"kind": "set-track-point", "series": "TS_01", "point": 2, "acquisition": acquisitions[3], "sigma": 0.5}
    curation.do(edit_of({**worse, "position": (seen[3, 2] + [60.0, 0.0]).tolist()}))
    assert program("run", project, "--until", "align", "--workers", "1")[0] == 0
    told = read_record(project / "align", "TS_01")
    assert told.metrics["tracks_by_hand_that_disagree"] == 1
    words = [c for c in told.caveats if "set by hand lie elsewhere" in c]
    assert len(words) == 1
    assert f"point 2 at {ANGLES[3]:.1f} degrees" in words[0]
    # and without corrections all is as it was
    for _ in range(2 * len(JUMPED) + 1):
        curation.undo()
    assert program("run", project, "--until", "align", "--workers", "1")[0] == 0
    again = read_record(project / "align", "TS_01")
    assert again.fingerprint == before.fingerprint
    assert again.metrics["residual_rms_angstrom"] == pytest.approx(before.metrics["residual_rms_angstrom"])
