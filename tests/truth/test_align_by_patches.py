"""The loop of patch tracking and bundle adjustment against truth."""

import numpy as np
import pytest
import torch

from eucentric.alignment.align_by_patches import align_by_patches
from eucentric.errors import InputError
from eucentric.geometry import ImageWarp, TiltGeometry

PIXEL = 16.0
SHAPE = (112, 120)
DOSES = np.argsort(np.argsort(np.abs(np.arange(-52.0, 53.0, 4.0) + 0.1))) * 4.0 + 2.0
SIZES = {"patch_angstrom": 500.0, "thickness": 900.0, "low_pass": 45.0}


def specimen(count: int = 110) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    extent = np.array([1400.0, 1400.0, 250.0])
    return generator.uniform(-extent, extent, (count, 3)), generator.uniform(0.7, 1.4, count)


def bent(points: np.ndarray, tilts: int, size: float) -> np.ndarray:
    """(tilt, point, 3): a dome that rises, and sheds outwards, as the exposure grows."""
    u, v = points[:, 0] / 900.0, points[:, 1] / 900.0
    shape = size * np.stack([0.5 * u * v, 0.6 * u**2, u**2 + 0.7 * v**2], axis=1)
    assert len(DOSES) == tilts
    return points + (1.0 - np.exp(-DOSES / 30.0))[:, None, None] * shape


def camera(geometry: TiltGeometry, points: np.ndarray, size: float) -> np.ndarray:
    placed = bent(points, len(geometry), size)
    return np.einsum("tij,tpj->tpi", geometry.image_matrices, placed) + geometry.shifts_angstrom[:, None]


def project(geometry: TiltGeometry, size: float, noise: float = 0.5) -> torch.Tensor:
    positions, weights = specimen()
    y, x = ((np.arange(n) - n // 2) * PIXEL for n in SHAPE)
    images = np.zeros((len(geometry), *SHAPE))
    for image, at in zip(images, camera(geometry, positions, size), strict=True):
        gx = np.exp(-((x[None] - at[:, :1]) ** 2) / (2 * 30.0**2))
        gy = np.exp(-((y[None] - at[:, 1:]) ** 2) / (2 * 30.0**2))
        image -= np.einsum("p,py,px->yx", weights, gy, gx)
    images += noise * np.random.default_rng(2).normal(size=images.shape)
    return torch.from_numpy(images).float()


def error(found: TiltGeometry, warp: ImageWarp | None, true: TiltGeometry, size: float) -> float:
    """Rms distance in A of image positions after the best static quadratic displacement of the specimen."""
    points = specimen()[0]
    points = points[np.abs(points[:, :2]).max(1) < 650]
    seen = found.project(points)[..., :2]
    if warp is not None:
        seen = seen + np.stack([warp.at(t, torch.from_numpy(at)).numpy() for t, at in enumerate(seen)])
    left = camera(true, points, size) - seen
    u, v, z = (points / 650.0).T
    terms = np.stack([np.ones_like(u), u, v, z, u * u, u * v, v * v], axis=1)
    design = np.einsum("tij,pk->tpijk", found.image_matrices, terms).reshape(left.size, -1)
    left = left.ravel() - design @ np.linalg.lstsq(design, left.ravel(), rcond=None)[0]
    return float(np.sqrt(2.0 * (left**2).mean()))


def series(axis: float) -> tuple[TiltGeometry, TiltGeometry]:
    """True geometry, and a start that is wrong by 5 A rms in each shift and by 0.6 degrees in the axis."""
    tilts = np.arange(-52.0, 53.0, 4.0)
    generator = np.random.default_rng(9)
    true = TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=generator.normal(0, 40.0, (len(tilts), 2)))
    off = generator.normal(0, 5.0, (len(tilts), 2))
    start = true.replace(z_rot_deg=true.z_rot_deg + 0.6, shifts_angstrom=true.shifts_angstrom + off)
    return true, start


def test_rigid_series_comes_right_and_no_deformation_is_claimed():
    true, start = series(84.0)
    found = align_by_patches(project(true, 0.0), start, pixel_size=PIXEL, doses=DOSES, **SIZES)
    assert found.improved
    assert error(start, None, true, 0.0) > 6.0
    assert error(found.geometry, found.warp, true, 0.0) < 0.12 * PIXEL
    assert abs(float(found.geometry.z_rot_deg[0]) - 84.0) < 0.25
    assert found.warp is None or float(np.abs(found.warp.displacement_angstrom).max()) < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("axis", [84.0, -20.0])
def test_deformation_is_found_kept_and_helps(axis):
    true, start = series(axis)
    images = project(true, 60.0, noise=0.2)
    found = align_by_patches(images, start, pixel_size=PIXEL, doses=DOSES, **SIZES)
    rigid = align_by_patches(images, start, pixel_size=PIXEL, **SIZES)
    assert found.warp is not None
    assert found.gain_by_local is not None
    assert found.error_of_gain is not None
    assert found.gain_by_local > 2 * found.error_of_gain
    with_bend = error(found.geometry, found.warp, true, 60.0)
    without = error(rigid.geometry, None, true, 60.0)
    assert with_bend < 0.8 * without
    mirrored = ImageWarp.build(-found.warp.displacement_angstrom, SHAPE, PIXEL)
    assert error(found.geometry, mirrored, true, 60.0) > without


def test_axis_that_is_held_stays():
    true, start = series(84.0)
    found = align_by_patches(project(true, 0.0), start, pixel_size=PIXEL, hold_axis=True, most_rounds=1, **SIZES)
    np.testing.assert_allclose(found.geometry.z_rot_deg, start.z_rot_deg)


def test_no_rounds_are_refused():
    true, start = series(84.0)
    with pytest.raises(InputError, match="at least one"):
        align_by_patches(project(true, 0.0), start, pixel_size=PIXEL, most_rounds=0, **SIZES)
