"""Beads centred to a fraction of a pixel with honest errors, and series aligned by them from places far off."""

import json

import mrcfile
import numpy as np
import pytest
import tifffile
import torch

from eucentric.alignment.align_by_beads import TooFewBeadsError, align_by_beads
from eucentric.alignment.register_beads import register_beads
from eucentric.alignment.track_beads import track_beads
from eucentric.errors import ShapeError
from eucentric.evaluation.alignment_error import alignment_error
from eucentric.fourier import fourier_shift
from eucentric.geometry import ImageWarp, TiltGeometry
from eucentric.io.truth import read_truth
from eucentric.models import Tracks
from eucentric.signal.bead_centres import centre_beads
from eucentric.signal.beads import BeadProfile

PIXEL = 8.0
SHAPE = (246, 281)
CENTRE = np.array([SHAPE[1] // 2, SHAPE[0] // 2])
RADIUS = 6.0


def scene(centres, *, seed, level=28.0, radius=RADIUS, shape=SHAPE):
    """Counts behind dark discs with a bright fringe; where discs lie on each other, both take their part."""
    fine = (np.arange(4) + 0.5) / 4 - 0.5
    y = (np.arange(shape[0])[:, None] + fine).reshape(-1)
    x = (np.arange(shape[1])[:, None] + fine).reshape(-1)
    field = np.ones((len(y), len(x)))
    reach = 1.5 * radius
    for cx, cy in centres:
        rows, columns = (np.flatnonzero(np.abs(axis - at) < reach) for axis, at in ((y, cy), (x, cx)))
        if len(rows) and len(columns):
            box = np.ix_(rows, columns)
            r = np.hypot(x[columns][None] - cx, y[rows][:, None] - cy)
            field[box] = np.where(
                r <= radius, 0.3 * field[box], np.where(r <= 1.4 * radius, 1.2 * field[box], field[box])
            )
    mean = level * field.reshape(shape[0], 4, shape[1], 4).mean(axis=(1, 3))
    return torch.from_numpy(np.random.default_rng(seed).poisson(mean).astype(np.float32))


def disc_profile(radius=RADIUS):
    radii = np.arange(0.0, 2.6 * radius, 0.25)
    edge = np.interp(
        radii, [radius - 0.6, radius + 0.6, 1.4 * radius - 0.6, 1.4 * radius + 0.6], [1.0, -0.28, -0.28, 0.0]
    )
    return BeadProfile(radius_px=radius, halo_px=1.5 * radius, radii_px=radii, darkness=edge)


def test_centres_are_right_within_the_errors_claimed():
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(30.0, 260, 40), np.arange(30.0, 230, 40)), -1).reshape(-1, 2)
    errors, sigmas = [], []
    for seed in range(6):
        true = grid + rng.uniform(-4, 4, grid.shape)
        found = centre_beads(scene(true, seed=seed), disc_profile(), true + rng.uniform(-1.5, 1.5, true.shape))
        assert (found.seen == 1.0).all()
        errors.append(found.positions_px - true)
        sigmas.append(np.sqrt(np.diagonal(found.covariance_px2, axis1=1, axis2=2)))
    error, sigma = np.concatenate(errors), np.concatenate(sigmas)
    assert np.sqrt((error**2).mean()) < 0.1  # of a radius of 6 pixels
    assert np.abs(error.mean(axis=0)).max() < 4 * np.sqrt((error**2).mean() / len(error))  # half a pixel fails
    # 360 values: their mean square is known to 8%; pixels and a disc that is no profile add a little
    assert 0.6 < np.sqrt(((error / sigma) ** 2).mean()) < 1.4


def test_neighbours_and_edges_do_not_draw_a_centre():
    true = np.array([[80.0, 80.3], [80.0 + 2.3 * RADIUS, 80.3], [180.2, 1.0], [200.0, 150.0]])
    plain, alone = [], []
    for seed in range(12):
        image = scene(true, seed=seed)
        plain.append(centre_beads(image, disc_profile(), true + 0.8).positions_px - true)
        alone.append(centre_beads(image, disc_profile(), true[:1] + 0.8).positions_px[0] - true[0])
    bias = np.mean(plain, axis=0)
    assert np.abs(bias).max() < 0.12
    assert abs(np.mean(alone, axis=0)[0]) > 2 * np.abs(bias[0, 0])  # not told of its neighbour, it is drawn
    fit = centre_beads(scene(true, seed=0), disc_profile(), true)
    assert fit.seen[2] == pytest.approx(0.65, abs=0.06)  # 1.5 of 6 pixels lie beyond the middle: a circle's segment
    assert fit.covariance_px2[2, 1, 1] > 1.3 * fit.covariance_px2[3, 1, 1]
    assert np.isnan(centre_beads(scene([], seed=1), disc_profile(), true).scores).all()  # no bead, no centre
    with pytest.raises(ShapeError, match="bead, 2"):
        centre_beads(scene([], seed=1), disc_profile(), np.zeros(4))


def points_and_geometry(*, axis=-72.0, seed=5, count=11):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1.0, 1.0, (count, 3)) * (700.0, 700.0, 400.0)
    tilts = np.arange(-50.0, 51.0, 5.0)
    shifts = rng.normal(scale=120.0, size=(len(tilts), 2))
    return points, TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shifts)


def images_of(camera):
    return torch.stack([scene(at / PIXEL + CENTRE, seed=k) for k, at in enumerate(camera[..., :2])])


def error_of(found, true, warp=None):
    """Largest rms over tilts of reprojected points, A, after one shift and rotation of the specimen."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.0, 1.0, (60, 3)) * (600.0, 600.0, 300.0)
    seen = true.project(points)[..., :2]
    design = np.concatenate([*found.image_matrices])
    moved = np.stack(
        [
            np.linalg.lstsq(design, (seen[:, k] - found.shifts_angstrom).reshape(-1), rcond=None)[0]
            for k in range(len(points))
        ]
    )
    # only a rotation is free, no shear: a mirrored or stretched answer must not pass
    u, _, vt = np.linalg.svd((moved - moved.mean(0)).T @ (points - points.mean(0)))
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    placed = (points - points.mean(0)) @ turn.T + moved.mean(0)
    return float(np.sqrt(((found.project(placed)[..., :2] - seen) ** 2).sum(-1).mean(1)).max())


@pytest.fixture(scope="module")
def series():
    points, geometry = points_and_geometry()
    return points, geometry, images_of(geometry.project(points))


def test_a_series_is_aligned_from_no_shifts_and_an_axis_five_degrees_off(series):
    points, true, images = series
    start = TiltGeometry.build(true.y_tilt_deg, z_rot_deg=-67.0)
    assert error_of(start, true) > 150.0
    result = align_by_beads(images, start, pixel_size=PIXEL, diameter_angstrom=100.0)
    assert error_of(result.geometry, true) < 1.5  # A, a fifth of a pixel
    assert abs(float(result.geometry.z_rot_deg.mean()) + 72.0) < 0.1
    assert len(result.bundle.points) == len(points)
    assert len(result.rejected_points_angstrom) == 0
    at = true.project(points)[..., :2] / PIXEL + CENTRE
    inside = ((at > 0) & (at < np.array(SHAPE[::-1]) - 1)).all(-1).sum()
    assert len(result.tracks) > 0.95 * inside  # gaps are filled
    assert (result.beads_per_tilt >= 4).all()
    sigma = np.sqrt(np.trace(result.tracks.covariance, axis1=1, axis2=2))
    assert 0.5 < result.bundle.leave_one_out_rms_angstrom / np.sqrt((sigma**2).mean()) < 1.8


def test_tracks_follow_a_known_deformation(series):
    points, whole, _ = series
    true = whole[list(range(2, 20, 2))]
    field = np.zeros((len(true), 2, 2, 2))
    field[:, :, 0, 0], field[:, :, 1, 0] = -30.0, 30.0  # a stretch along x by 60 A over the image
    warp = ImageWarp.build(field, SHAPE, PIXEL)
    flat = true.project(points)[..., :2]
    bent = flat + np.stack([warp.at(t, torch.from_numpy(flat[t])).numpy() for t in range(len(true))])
    images = images_of(bent)
    found = track_beads(images, true, pixel_size=PIXEL, diameter_angstrom=100.0, warp=warp, tolerance=0.3)
    order = [int(np.linalg.norm(points - p, axis=1).argmin()) for p in found.points_angstrom]
    assert sorted(order) == list(range(len(points)))
    error = found.tracks.positions_angstrom - bent[found.tracks.tilts, np.array(order)[found.tracks.points]]
    assert np.sqrt((error**2).sum(1).mean()) < 1.0
    far = np.linalg.norm(points[order] - found.points_angstrom, axis=1)
    assert np.median(far) < 0.5  # those seen in few images may be off along the beam
    with pytest.raises(ShapeError, match="warp"):
        track_beads(images, true, pixel_size=PIXEL, warp=warp[[0, 1]])


@pytest.mark.slow
def test_a_bead_that_wanders_is_left_out_or_flagged(series):
    points, true, _ = series
    camera = true.project(points)[..., :2].copy()
    camera[:, 3] += 40.0 * np.sin(np.linspace(0, 7, len(true)))[:, None] * np.array([0.6, 0.8])
    result = align_by_beads(
        images_of(camera), true.replace(z_rot_deg=true.z_rot_deg + 1.0), pixel_size=PIXEL, diameter_angstrom=100.0
    )
    assert error_of(result.geometry, true) < 1.5
    assert len(result.rejected_points_angstrom) + len(result.bundle.moved) >= 1
    assert len(result.caveats) >= 1


def test_given_tracks_replace_tracking_and_too_few_beads_are_said(series):
    points, true, images = series
    camera = true.project(points)[..., :2]
    tilts, names = np.meshgrid(np.arange(len(true)), np.arange(len(points)), indexing="ij")
    tracks = Tracks.build(names.ravel(), tilts.ravel(), camera.reshape(-1, 2), sigma_angstrom=1.0)
    start = true.replace(shifts_angstrom=np.zeros_like(true.shifts_angstrom), z_rot_deg=true.z_rot_deg + 3.0)
    blank = torch.zeros(len(true), 16, 16)
    result = align_by_beads(blank, start, pixel_size=PIXEL, tracks=tracks)
    assert error_of(result.geometry, true) < 0.1
    empty = torch.stack([scene([], seed=k) for k in range(5)])
    with pytest.raises(TooFewBeadsError, match="0 of 5"):
        align_by_beads(empty, true[[0, 1, 2, 3, 4]], pixel_size=PIXEL, diameter_angstrom=100.0)
    pair = [0, 1]
    some = torch.stack([scene(camera[k, pair] / PIXEL + CENTRE, seed=k) for k in range(8)])
    with pytest.raises(TooFewBeadsError, match="4 or more"):
        align_by_beads(some, true[list(range(8))], pixel_size=PIXEL, diameter_angstrom=100.0)
    with pytest.raises(ShapeError, match="one each"):
        align_by_beads(images[:4], true, pixel_size=PIXEL)


def test_votes_find_shifts_without_correspondences():
    points, true = points_and_geometry(seed=8, count=14)
    rng = np.random.default_rng(3)
    places = []
    for at in true.project(points)[..., :2]:
        seen = at[rng.uniform(size=len(at)) < 0.8]
        places.append(np.concatenate([seen, rng.uniform(-900, 900, (3, 2))])[rng.permutation(len(seen) + 3)])
    start = true.replace(shifts_angstrom=np.zeros_like(true.shifts_angstrom))
    found = register_beads(places, start, width_angstrom=50.0, reach_angstrom=600.0)
    assert error_of(start, true) > 200.0
    assert error_of(found, true) < 50.0  # one radius, from where triangulation goes on


@pytest.mark.slow
def test_practice_series_with_beads(shared_data):
    folder = shared_data / "practice"
    truth = read_truth(folder / "TS_02_truth.json")
    raw = json.loads((folder / "TS_02_truth.json").read_text())
    gain = np.asarray(mrcfile.read(folder / "gain.mrc"), dtype=np.float32)
    tilts = list(range(1, 40))  # the first and last image are blocked
    images = []
    for tilt in tilts:
        frames = tifffile.imread(folder / "frames" / raw["names"][tilt])[:, ::-1].astype(np.float32) * gain
        frames = np.where(frames > np.median(frames) + 8.0 * frames.std(), np.median(frames), frames)  # hot pixels
        back = torch.tensor(-np.array(raw["motion"][tilt]) / truth.pixel_size_angstrom)
        images.append(fourier_shift(torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)), back).sum(0))
    start = TiltGeometry.build(truth.nominal_tilts_deg[tilts], z_rot_deg=truth.nominal_axis_deg)
    result = align_by_beads(
        torch.stack(images),
        start,
        pixel_size=truth.pixel_size_angstrom,
        pre_exposures=(truth.acquisition * truth.dose)[tilts],
    )
    assert alignment_error(truth, tilts, result.bundle.rigid_geometry).rms_angstrom < 2.0  # 1.57 was measured
    assert alignment_error(truth, tilts, result.geometry, warp=result.warp).rms_angstrom < 0.6  # 0.37 was measured
    assert abs(float(result.geometry.z_rot_deg.mean()) - truth.tilt_axis_deg) < 0.05
