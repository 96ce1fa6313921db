"""Alignment against tilt series of known geometry."""

import numpy as np
import pytest
import torch

from eucentric.alignment import AlignParams, align_tilt_series, coarse_shifts, find_dark_tilts, neighbour_shifts
from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry
from eucentric.io import read_mrc

PIXEL = 16.0
SHAPE = (128, 136)


def specimen(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    extent = np.array([1500.0, 1500.0, 350.0])
    return generator.uniform(-extent, extent, (count, 3)), generator.uniform(0.7, 1.4, count)


def project(geometry: TiltGeometry, *, noise: float, seed: int = 1) -> torch.Tensor:
    """Analytic images of dark Gaussian blobs (sigma 30 A): no projector is involved."""
    positions, weights = specimen(120)
    camera = geometry.project(positions)
    y, x = ((np.arange(n) - n // 2) * PIXEL for n in SHAPE)
    images = np.zeros((len(geometry), *SHAPE))
    for image, at in zip(images, camera, strict=True):
        gx = np.exp(-((x[None] - at[:, :1]) ** 2) / (2 * 30.0**2))
        gy = np.exp(-((y[None] - at[:, 1:2]) ** 2) / (2 * 30.0**2))
        image -= np.einsum("p,py,px->yx", weights, gy, gx)
    images += noise * np.random.default_rng(seed).normal(size=images.shape)
    return torch.from_numpy(images).float()


def residual(found: TiltGeometry, true: TiltGeometry) -> float:
    """Rms distance in A between image positions after the best translation of the specimen."""
    positions, _ = specimen(120)
    positions = positions[np.abs(positions[:, :2]).max(1) < 700]
    difference = (true.project(positions) - found.project(positions))[..., :2]
    design = found.matrices[:, :2].reshape(-1, 3)
    moved = np.linalg.lstsq(design, difference.mean(1).reshape(-1), rcond=None)[0]
    left = difference - (found.matrices[:, :2] @ moved)[:, None]
    return float(np.sqrt((left**2).sum(-1).mean()))


def true_geometry(axis: float) -> TiltGeometry:
    tilts = np.arange(-54.0, 55.0, 3.0)
    shifts = np.random.default_rng(9).normal(0, 90.0, (len(tilts), 2))
    return TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shifts)


def test_coarse_shifts_come_near_and_a_wrong_tilt_sign_does_not_matter_only_to_them():
    true = true_geometry(83.0)
    images = project(true, noise=0.5)
    found = coarse_shifts(images, true.y_tilt_deg, 83.0, PIXEL, low_pass_angstrom=60.0)
    assert residual(found, true) < 45.0  # three pixels; heights are unknown to it
    unshifted = true.replace(shifts_angstrom=np.zeros_like(true.shifts_angstrom))
    assert residual(unshifted, true) > 90.0


@pytest.mark.slow
@pytest.mark.parametrize("axis", [84.0, -7.0])
def test_series_is_aligned_to_a_fraction_of_a_pixel_and_the_axis_found(axis):
    true = true_geometry(axis)
    images = project(true, noise=0.7)
    given = axis + 1.5
    result = align_tilt_series(images, true.y_tilt_deg, pixel_size=PIXEL, axis_deg=given, params=AlignParams())
    assert abs(float(result.geometry.z_rot_deg[0]) - axis) < 0.7  # the finer step of the search
    # half a pixel; an axis wrong by 0.7 degrees alone moves points 600 A from the centre by 7 A
    assert residual(result.geometry, true) < 0.5 * PIXEL
    turned = true.replace(y_tilt_deg=-true.y_tilt_deg)
    assert residual(turned, true) > 30.0  # the measure sees a wrong hand


def test_dark_tilts_are_named_and_thick_ones_are_not():
    angles = np.arange(-60.0, 61.0, 10.0)
    level = 50.0 * np.exp(-0.6 * (1 / np.cos(np.deg2rad(angles)) - 1))
    generator = torch.Generator().manual_seed(0)
    images = torch.poisson(torch.from_numpy(level)[:, None, None].expand(-1, 64, 64).contiguous(), generator=generator)
    assert find_dark_tilts(images, angles, dark_fraction=0.5, dark_area=0.3) == {}
    images[0] *= 0.2
    images[12, :, :40] *= 0.1
    found = find_dark_tilts(images, angles, dark_fraction=0.5, dark_area=0.3)
    assert sorted(found) == [0, 12]
    assert "below 50%" in found[12]


def test_half_the_dose_is_no_darkness():
    angles = np.arange(-60.0, 61.0, 10.0)
    images = torch.full((13, 32, 32), 20.0)
    images[6] *= 0.4
    doses = np.where(np.arange(13) == 6, 0.4, 1.0)
    assert find_dark_tilts(images, angles, doses=doses, dark_fraction=0.5, dark_area=0.3) == {}


def test_too_few_tilts_are_refused():
    with pytest.raises(InputError, match="at least three"):
        align_tilt_series(torch.zeros(2, 64, 64), [0.0, 3.0], pixel_size=4.0, axis_deg=85.0, params=AlignParams())


def test_raw_tilts_of_virus_like_particles_shift_as_published(shared_data):
    """Published row and column shifts of neighbours: (-23, -2), (0, -1), (25, 2); the tilt axis runs along the rows.

    The angles were not published. The particles grow along the columns towards the middle images as from 20 to 10 degrees; 0 to 30
    degrees for the outer images give the same shifts within a pixel.
    """
    stack = read_mrc(shared_data / "real" / "raw_tilts_vlp" / "tilt_stack.mrc")[0]
    images = torch.from_numpy(np.array(stack[:, 4:-4, 4:-8], dtype=np.float32))  # the scan has dark borders
    images = images - images.mean((-2, -1), keepdim=True)
    images = images.clamp(-3 * float(images.std()), 3 * float(images.std()))
    axis = 85.0
    pairs = neighbour_shifts(
        images,
        [-20.0, -10.0, 10.0, 20.0],
        axis,
        1.0,
        low_pass_angstrom=20.0,
        high_pass_angstrom=100.0,
        max_shift_fraction=0.3,
        distances=(1,),
    )
    c, s = np.cos(np.deg2rad(axis)), np.sin(np.deg2rad(axis))
    rows = []
    for pair in pairs:
        sign = 1.0 if pair.low < pair.high else -1.0
        across, along = sign * pair.shift_px[0], sign * pair.shift_px[1]
        rows.append((s * across + c * along, c * across - s * along))
    np.testing.assert_allclose(rows, [(-23, -2), (0, -1), (25, 2)], atol=1.5)


@pytest.mark.slow
def test_an_image_that_matches_nothing_is_left_out_and_harms_no_other():
    true = true_geometry(84.0)
    images = project(true, noise=0.7)
    images[33] = project(true_geometry(20.0), noise=0.7, seed=5)[3]  # of another place
    result = align_tilt_series(
        images, true.y_tilt_deg, pixel_size=PIXEL, axis_deg=84.0, params=AlignParams(method="projection")
    )
    assert list(result.rejected) == [33]
    assert "not aligned" in result.rejected[33]
    keep = [i for i in range(len(images)) if i != 33]
    assert len(result.geometry) == len(result.scores) == len(keep)
    assert residual(result.geometry, true[keep]) < 8.0
