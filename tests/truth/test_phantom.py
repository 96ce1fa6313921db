"""The phantom is the ruler of all other tests, so it is held against sums over voxels and its own mirror images."""

import itertools
import math

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry, angstrom_to_pixel, rigid_fit
from eucentric.simulation import Phantom, asymmetric_phantom

GEOMETRY = TiltGeometry.build(
    [-57.0, -12.0, 0.0, 33.0],
    z_rot_deg=[85.0, 84.0, -20.0, 100.0],
    x_tilt_deg=[0.0, 3.0, -4.0, 8.0],
    shifts_angstrom=[(10.0, -25.0), (-7.5, 3.0), (0.0, 0.0), (21.0, 14.0)],
)


@pytest.mark.parametrize("shape", [(96, 128), (97, 121), (128, 63)])
def test_one_blob_lands_where_the_geometry_projects_it(shape):
    blob = Phantom(
        positions_angstrom=np.array([[31.0, -17.0, 42.0]]), weights=np.array([2.0]), sigmas_angstrom=np.array([9.0])
    )
    images = blob.project(GEOMETRY, shape, 3.0, dtype=torch.float64).numpy()
    expected = angstrom_to_pixel(GEOMETRY.project(blob.positions_angstrom)[:, 0, :2], shape, 3.0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for image, (px, py) in zip(images, expected, strict=True):
        found = np.array([(image * x).sum(), (image * y).sum()]) / image.sum()
        # sigma is 3 pixels: a sampled Gaussian's centroid is exact far below 1e-6, and so are its tails at the edge
        np.testing.assert_allclose(found, (px, py), atol=1e-6)
    # a blob's integral is weight (2 pi)^(3/2) sigma^3, whichever way it is projected
    np.testing.assert_allclose(images.sum((1, 2)) * 9.0, 2.0 * (2 * math.pi) ** 1.5 * 9.0**3, rtol=1e-8)


@pytest.mark.parametrize("shape", [(80, 84, 90), (81, 90, 75)])
def test_projection_at_zero_tilt_is_the_sum_over_z(shape):
    phantom, voxel = asymmetric_phantom(100.0), 4.0
    volume = phantom.volume(shape, voxel, dtype=torch.float64)
    projected = phantom.project(TiltGeometry.build(0.0), shape[1:], voxel, dtype=torch.float64)[0]
    torch.testing.assert_close(volume.sum(0) * voxel, projected, atol=1e-4 * float(projected.max()), rtol=0)


@pytest.mark.parametrize(("tilt", "axis", "flip"), [(90.0, 2, True), (-90.0, 2, False)])
def test_a_quarter_turn_about_y_looks_along_x(tilt, axis, flip):
    # Ry(90) takes z to x and x to -z: the image's x axis is the specimen's z axis, seen from +x
    phantom, voxel, size = asymmetric_phantom(100.0), 4.0, 81
    volume = phantom.volume((size, size, size), voxel, dtype=torch.float64)
    seen = volume.sum(axis).T * voxel
    expected = seen if flip else seen.flip(1)
    projected = phantom.project(TiltGeometry.build(tilt), (size, size), voxel, dtype=torch.float64)[0]
    torch.testing.assert_close(projected, expected, atol=1e-4 * float(projected.max()), rtol=0)


def test_no_mirror_or_swap_of_axes_maps_the_phantom_onto_itself():
    phantom = asymmetric_phantom(100.0)
    original = phantom.volume((41, 41, 41), 6.0)
    norm = float((original**2).sum())
    for order in itertools.permutations(range(3)):
        for axes in itertools.chain.from_iterable(itertools.combinations(range(3), k) for k in range(4)):
            if order == (0, 1, 2) and not axes:
                continue
            other = original.permute(*order).flip(axes) if axes else original.permute(*order)
            assert float((original * other).sum()) / norm < 0.75


def test_the_mirrored_phantom_is_no_rotation_of_the_phantom():
    phantom = asymmetric_phantom(100.0)
    other = phantom.mirrored()
    rotation, translation = rigid_fit(other.positions_angstrom, phantom.positions_angstrom)
    fitted = other.transformed(rotation, translation)
    rms = np.sqrt(((fitted.positions_angstrom - phantom.positions_angstrom) ** 2).sum(1).mean())
    assert rms > 30.0  # blobs are 6 to 10 A wide


def test_rotating_the_phantom_equals_tilting_the_stage():
    phantom = asymmetric_phantom(80.0)
    moves = zip(GEOMETRY.matrices, GEOMETRY.shifts_angstrom, strict=True)
    turned = [phantom.transformed(matrix, (*shift, 0.0)) for matrix, shift in moves]
    straight = torch.cat([p.project(TiltGeometry.build(0.0), (70, 77), 4.0) for p in turned])
    torch.testing.assert_close(phantom.project(GEOMETRY, (70, 77), 4.0), straight, atol=1e-4, rtol=0)


def test_a_bad_phantom_is_refused():
    with pytest.raises(InputError, match="radius"):
        asymmetric_phantom(0.0)
    with pytest.raises(ShapeError, match="positions"):
        Phantom(positions_angstrom=np.zeros((2, 2)), weights=np.ones(2), sigmas_angstrom=np.ones(2))
    with pytest.raises(InputError, match="width"):
        Phantom(positions_angstrom=np.zeros((1, 3)), weights=np.ones(1), sigmas_angstrom=np.zeros(1))
