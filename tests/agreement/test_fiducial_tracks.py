"""Eight gold markers over 59 tilts, with the solution another program made of them."""

from pathlib import Path

import numpy as np
import pytest

from eucentric.alignment.bundle_adjustment import BundleResult, adjust_bundle
from eucentric.geometry import TiltGeometry
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray

CENTRE = np.array([1855.0, 1919.0])  # of a 3710 x 3838 detector


@pytest.fixture(scope="module")
def markers(shared_data: Path) -> tuple[Tracks, FloatArray]:
    table = np.loadtxt(shared_data / "real" / "fiducial_tracks" / "markerfile.txt")
    tilts = np.unique(table[:, 1])
    return Tracks.build(table[:, 0], np.searchsorted(tilts, table[:, 1]), table[:, 2:] - CENTRE), tilts


@pytest.fixture(scope="module")
def theirs(shared_data: Path) -> TiltGeometry:
    """Positions are centre - translation + Rz(-rotation) Ry(tilt) p / magnification."""
    table = np.loadtxt(shared_data / "real" / "fiducial_tracks" / "alignmentResultsFullRange.txt", usecols=range(5))
    return TiltGeometry.build(
        table[:, 2], z_rot_deg=-360.0 - table[:, 3], shifts_angstrom=-table[:, :2], magnification=1.0 / table[:, 4]
    )


@pytest.fixture(scope="module")
def ours(markers) -> BundleResult:
    tracks, tilts = markers
    return adjust_bundle(tracks, TiltGeometry.build(tilts), image_shape=(3838, 3710), pixel_size=1.0)


def left_out_of_points(tracks: Tracks, geometry: TiltGeometry) -> FloatArray:
    """Length in pixels of each observation's error about its point placed from the others, by least distances."""
    matrices = geometry.image_matrices[tracks.tilts]
    away = tracks.positions_angstrom - geometry.shifts_angstrom[tracks.tilts]
    out = np.zeros(len(tracks))
    for row in range(len(tracks)):
        others = np.flatnonzero((tracks.points == tracks.points[row]) & (np.arange(len(tracks)) != row))
        weight = np.ones(len(others))
        for _ in range(12):
            root = np.sqrt(weight)[:, None]
            left = (root[..., None] * matrices[others]).reshape(-1, 3)
            place = np.linalg.lstsq(left, (root * away[others]).ravel(), rcond=None)[0]
            weight = 1.0 / np.maximum(np.linalg.norm(away[others] - matrices[others] @ place, axis=1), 0.3)
        out[row] = np.linalg.norm(away[row] - matrices[row] @ place)
    return out


def test_gross_errors_are_named(markers, ours):
    tracks, tilts = markers
    size = np.linalg.norm(ours.residuals_angstrom, axis=1)
    assert size.max() > 35.0
    assert set(np.flatnonzero(size > 8.0)) <= set(ours.outliers)
    # three markers were followed astray from 6 to 16 degrees and found again at 18
    for marker in (2, 6, 7):
        for tilt in (10.0, 12.0, 14.0, 16.0):
            assert np.flatnonzero((tracks.points == marker) & (tilts[tracks.tilts] == tilt))[0] in ours.outliers
    assert len(ours.outliers) < 0.12 * len(tracks)


def test_rotations_agree(ours, theirs):
    difference = np.abs(ours.geometry.z_rot_deg - theirs.z_rot_deg)
    # at 16 degrees five of their eight markers are astray by up to 42 pixels, and their axis jumps there
    assert np.delete(difference, np.flatnonzero(theirs.y_tilt_deg == 16.0)).max() < 0.3
    assert difference.max() < 0.4
    assert np.median(difference) < 0.1
    assert np.median(ours.geometry.z_rot_deg) == pytest.approx(-4.5, abs=0.2)


def test_observations_left_out_are_predicted_better(markers, ours, theirs):
    tracks, _ = markers
    own = np.linalg.norm(ours.leave_one_out_angstrom, axis=1)
    # their centre is not known: this place, found by a search, is the most favourable one for them
    best_centre = theirs.replace(shifts_angstrom=theirs.shifts_angstrom + np.array([0.45, -74.0]))
    # the same for both: geometry held, only the point placed anew
    same = np.median(left_out_of_points(tracks, ours.geometry))
    assert same < 0.95 * np.median(left_out_of_points(tracks, best_centre))
    shipped = left_out_of_points(tracks, theirs)
    assert same < 0.7 * np.median(shipped)
    # the observation itself has shaped their shifts and rotations, but none of ours
    assert np.median(own) < 0.9
    assert np.median(own) < 0.85 * np.median(shipped)
