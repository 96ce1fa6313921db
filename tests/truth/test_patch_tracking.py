"""Patch tracking against analytic images of known displacement."""

import numpy as np
import pytest
import torch

from eucentric.alignment.projection_matching import ProjectionMatcher
from eucentric.alignment.track_patches import PatchTracks, track_patches
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import ImageWarp, TiltGeometry

PIXEL = 16.0
SHAPE = (112, 120)
SIZES = {"patch_angstrom": 600.0, "thickness": 900.0, "low_pass": 45.0}


def specimen() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    extent = np.array([1400.0, 1400.0, 250.0])
    return generator.uniform(-extent, extent, (110, 3)), generator.uniform(0.7, 1.4, 110)


def project(geometry: TiltGeometry, *, noise: float, moved: np.ndarray | None = None, seed: int = 1) -> torch.Tensor:
    """Analytic images of dark Gaussian blobs (sigma 30 A): no projector is involved. `moved` (tilt, 2) in A is added for x > 0."""
    positions, weights = specimen()
    camera = geometry.project(positions)[..., :2]
    if moved is not None:
        camera = camera + np.where(positions[None, :, :1] > 0, moved[:, None], 0.0)
    y, x = ((np.arange(n) - n // 2) * PIXEL for n in SHAPE)
    images = np.zeros((len(geometry), *SHAPE))
    for image, at in zip(images, camera, strict=True):
        gx = np.exp(-((x[None] - at[:, :1]) ** 2) / (2 * 30.0**2))
        gy = np.exp(-((y[None] - at[:, 1:]) ** 2) / (2 * 30.0**2))
        image -= np.einsum("p,py,px->yx", weights, gy, gx)
    images += noise * np.random.default_rng(seed).normal(size=images.shape)
    return torch.from_numpy(images).float()


def geometry(axis: float = 84.0, step: float = 4.0) -> TiltGeometry:
    tilts = np.arange(-52.0, 53.0, step)
    shifts = np.random.default_rng(9).normal(0, 40.0, (len(tilts), 2))
    return TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shifts)


def displacements(found: PatchTracks, near: TiltGeometry) -> np.ndarray:
    """(observation, 2): where patches were seen less where `near` has them."""
    tracks = found.tracks
    expected = near.project(found.points_angstrom)[tracks.tilts, tracks.points, :2]
    return np.asarray(tracks.positions_angstrom - expected)


@pytest.mark.parametrize("axis", [84.0, -20.0])
def test_one_displaced_image_is_seen_displaced_in_every_patch_with_its_signs(axis):
    true = geometry(axis)
    images = project(true, noise=0.2)
    wrong = true.shifts_angstrom.copy()
    wrong[8] -= (12.0, -7.0)
    start = true.replace(shifts_angstrom=wrong)
    found = track_patches(images, start, pixel_size=PIXEL, **SIZES)
    of_it = found.tracks.tilts == 8
    precision = np.linalg.inv(found.tracks.covariance[of_it])
    weighted = np.einsum("nij,nj->ni", precision, displacements(found, start)[of_it]).sum(0)
    covariance = np.linalg.inv(precision.sum(0))
    # five standard deviations, and a tenth for features that the neighbours show elsewhere
    allowed = 5.0 * np.sqrt(np.diag(covariance)) + 1.4
    assert np.all(np.abs(covariance @ weighted - (12.0, -7.0)) < allowed)
    assert np.all(allowed < 7.0)  # a swapped or mirrored axis would be missed by 14 or more


def test_covariance_says_how_far_measurements_scatter():
    true = geometry()
    found = track_patches(project(true, noise=0.8), true, pixel_size=PIXEL, **SIZES)
    moves = displacements(found, true)
    whitened = np.einsum("nij,nj->ni", np.linalg.inv(np.linalg.cholesky(found.tracks.covariance)), moves)
    # noise of the reference adds to that of the image, and features differ within a patch
    assert 0.75 < float(np.sqrt(np.median(whitened**2)) / 0.6745) < 1.5


def test_a_side_that_moves_is_seen_to_move_alone():
    true = geometry(axis=0.0)
    moved = np.zeros((len(true), 2))
    moved[5] = (0.0, 8.0)
    found = track_patches(project(true, noise=0.4, moved=moved), true, pixel_size=PIXEL, **SIZES)
    move = displacements(found, true)[:, 1]
    x = found.points_angstrom[found.tracks.points, 0]
    at = found.tracks.tilts == 5
    assert np.median(move[at & (x > 250)]) == pytest.approx(8.0, abs=2.5)
    assert np.median(move[at & (x < -250)]) == pytest.approx(0.0, abs=2.5)


def test_positions_are_in_the_recorded_images_whatever_warp_is_known():
    true = geometry()
    images = project(true, noise=0.4)
    bend = np.zeros((len(true), 3, 3, 2))
    bend[:, :, 2] = (5.0, -3.0)
    warp = ImageWarp.build(bend, SHAPE, PIXEL)
    plain = track_patches(images, true, pixel_size=PIXEL, **SIZES).tracks
    bent = track_patches(images, true, pixel_size=PIXEL, warp=warp, **SIZES).tracks
    rows = {key: n for n, key in enumerate(zip(plain.points, plain.tilts, strict=True))}
    both = [(rows[key], n) for n, key in enumerate(zip(bent.points, bent.tilts, strict=True)) if key in rows]
    one, other = np.array(both).T
    at = plain.positions_angstrom[one]
    difference = bent.positions_angstrom[other] - at
    field = np.stack([warp.at(0, torch.from_numpy(at[None, n])).numpy()[0] for n in range(len(at))])
    # a bend common to all images moves the reconstruction: it stays in the positions that images are expected at
    np.testing.assert_allclose(difference.mean(0), field.mean(0), atol=1.5)


def test_own_image_is_no_part_of_its_reference():
    true = geometry()
    noise = torch.randn((len(true), *SHAPE), generator=torch.Generator().manual_seed(5))
    matcher = ProjectionMatcher(
        noise,
        true.y_tilt_deg,
        PIXEL,
        match_pixel_size=PIXEL,
        thickness=900.0,
        low_pass=45.0,
        high_pass=1000.0,
        threshold=1.0,
    )
    seen = matcher.references(true)
    shared = (seen.turned * seen.expected).sum((1, 2)) / (seen.turned.norm(dim=(1, 2)) * seen.expected.norm(dim=(1, 2)))
    # images of noise share nothing, and correlate by 0.31 with a reference that holds themselves; a tenth of it may stay
    assert abs(float(shared.mean())) < 0.031


def test_images_of_noise_and_sizes_that_do_not_fit_are_refused():
    true = geometry()
    with pytest.raises(ShapeError, match="one each"):
        track_patches(torch.zeros(3, 32, 32), true, pixel_size=PIXEL)
    with pytest.raises(InputError, match="positive"):
        track_patches(torch.zeros(len(true), 32, 32), true, pixel_size=PIXEL, patch_angstrom=0.0)
    with pytest.raises(ProcessingError, match="few features"):
        track_patches(torch.zeros(len(true), *SHAPE), true, pixel_size=PIXEL, **SIZES)
