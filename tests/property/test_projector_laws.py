"""Laws of the projector: exact transpose, fast path equals plain path, parts equal the whole."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.projection import (
    back_project,
    back_project_lines,
    prepare_lines,
    project,
    reference_back_project,
    reference_project,
)

ANGLES = st.lists(st.floats(-180, 180), min_size=1, max_size=9)
SIZES = st.integers(1, 24)
X_TILT = st.one_of(st.none(), st.floats(-12, 12))


def _pair(seed, angles, volume_shape, image_shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(volume_shape, generator=generator), torch.randn((len(angles), *image_shape), generator=generator)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), ANGLES, st.tuples(SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES), X_TILT)
def test_back_projection_is_the_transpose_of_projection(seed, angles, volume_shape, image_shape, x_tilt):
    volume, images = _pair(seed, angles, volume_shape, image_shape)
    x_tilts = None if x_tilt is None else np.full(len(angles), x_tilt)
    forward = project(volume, angles, image_shape, x_tilts_deg=x_tilts)
    back = back_project(images, angles, volume_shape, x_tilts_deg=x_tilts)
    difference = (forward.double() * images.double()).sum() - (volume.double() * back.double()).sum()
    assert abs(float(difference)) <= 1e-5 * float(volume.norm() * images.norm())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), ANGLES, st.tuples(SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES), X_TILT)
def test_the_fast_loops_equal_the_plain_projector(seed, angles, volume_shape, image_shape, x_tilt):
    volume, images = _pair(seed, angles, volume_shape, image_shape)
    x_tilts = None if x_tilt is None else np.linspace(-x_tilt, x_tilt + 1.0, len(angles))
    weights = np.linspace(0.5, 2.0, len(angles))
    back = back_project(images, angles, volume_shape, x_tilts_deg=x_tilts, weights=weights)
    plain = reference_back_project(images.double(), angles, volume_shape, x_tilts_deg=x_tilts, weights=weights)
    # where almost nothing is seen, only the size of the images can set the scale of rounding
    torch.testing.assert_close(back.double(), plain, rtol=0, atol=1e-5 * float(plain.abs().max()) + 1e-6)
    forward = project(volume, angles, image_shape, x_tilts_deg=x_tilts)
    plain = reference_project(volume.double(), angles, image_shape, x_tilts_deg=x_tilts)
    torch.testing.assert_close(forward.double(), plain, rtol=0, atol=1e-5 * float(plain.abs().max()) + 1e-6)


@pytest.mark.parametrize("x_tilt", [0.0, 4.0])
@pytest.mark.parametrize("planes", [1, 5, 16])
def test_slabs_equal_the_whole(x_tilt, planes):
    tilts = np.array([-84.0, -60.0, -13.0, 0.0, 20.0, 77.0])
    geometry = TiltGeometry.build(tilts, z_rot_deg=84.3, x_tilt_deg=x_tilt, shifts_angstrom=[12.0, -31.0])
    images = torch.randn((6, 40, 43), generator=torch.Generator().manual_seed(3))
    prepared = prepare_lines(images, geometry, 7.0, volume_shape=(21, 37, 30), voxel_size=9.0)
    whole = back_project_lines(prepared)
    parts = [back_project_lines(prepared, z_range=(z, min(z + planes, 21))) for z in range(0, 21, planes)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6 * float(whole.abs().max()))
    doubled = prepare_lines(images.double(), geometry, 7.0, volume_shape=(21, 37, 30), voxel_size=9.0)
    torch.testing.assert_close(
        whole.double(), back_project_lines(doubled), rtol=0, atol=2e-5 * float(whole.abs().max())
    )


def test_gradients_flow_through_the_projector():
    volume = torch.randn((5, 6, 7), generator=torch.Generator().manual_seed(1), requires_grad=True)
    images = torch.randn((2, 6, 7), generator=torch.Generator().manual_seed(2))
    (project(volume, [10.0, -40.0], (6, 7)) * images).sum().backward()
    expected = back_project(images, [10.0, -40.0], (5, 6, 7))
    torch.testing.assert_close(volume.grad, expected, rtol=0, atol=1e-5)


def test_a_tilt_about_x_moves_rows_with_height():
    volume = torch.zeros(41, 41, 41)
    volume[35, 20, 20] = 1.0  # 15 voxels above the centre
    image = project(volume, [0.0], (41, 41), x_tilts_deg=[30.0])[0]
    row = (image.sum(1) * torch.arange(41)).sum() / image.sum()
    assert float(row) == pytest.approx(20 - 15 * np.sin(np.deg2rad(30.0)), abs=1e-3)


@pytest.mark.parametrize(("tilt", "column"), [(25.0, 20 + 15 * np.sin(np.deg2rad(25.0))), (-85.0, 20 - 14.943)])
def test_a_high_voxel_is_seen_at_plus_x_in_a_positive_tilt(tilt, column):
    volume = torch.zeros(41, 41, 41)
    volume[35, 23, 20] = 1.0
    image = project(volume, [tilt], (41, 41))[0]
    assert float((image.sum(0) * torch.arange(41)).sum() / image.sum()) == pytest.approx(column, abs=1e-3)
    assert float((image.sum(1) * torch.arange(41)).sum() / image.sum()) == pytest.approx(23.0, abs=1e-3)


@pytest.mark.parametrize("tilt", [0.0, 48.0, 81.0])
def test_the_mass_of_a_volume_is_that_of_its_projection(tilt):
    volume = torch.rand((16, 15, 14), generator=torch.Generator().manual_seed(5))
    # the interpolating spline rings past the voxels, so the field is wide
    assert float(project(volume, [tilt], (15, 60)).sum()) == pytest.approx(float(volume.sum()), rel=1e-5)


def test_many_threads_may_project_at_once():
    images = torch.randn((5, 33, 40), generator=torch.Generator().manual_seed(7))
    angles = [-60.0, -20.0, 0.0, 33.0, 80.0]
    expected = back_project(images, angles, (20, 33, 40))
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(back_project, images, angles, (20, 33, 40)) for _ in range(8)]
        for result in results:
            assert torch.equal(result.result(), expected)


@pytest.mark.slow
def test_many_threads_may_project_at_once_under_the_workqueue_layer():
    code = (
        "import torch; from concurrent.futures import ThreadPoolExecutor as P\n"
        "from eucentric.projection import project\n"
        "torch.set_num_threads(2); v = torch.ones(16, 16, 16)\n"
        "f = [P(4).submit(project, v, [0.0, 30.0, 80.0], (16, 16)) for _ in range(8)]; [x.result() for x in f]\n"
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


def test_sizes_that_do_not_fit_are_refused():
    images = torch.zeros(3, 8, 8)
    with pytest.raises(ShapeError, match="3 images, 2 angles"):
        back_project(images, [0.0, 1.0], (4, 8, 8))
    with pytest.raises(ShapeError, match="three axes"):
        project(images[0], [0.0], (8, 8))
    with pytest.raises(InputError, match="finite"):
        back_project(images, [0.0, 1.0, float("nan")], (4, 8, 8))
    with pytest.raises(InputError, match="weights"):
        back_project(images, [0.0, 1.0, 2.0], (4, 8, 8), weights=[1.0, float("inf"), 1.0])
    with pytest.raises(ShapeError, match="sizes > 0"):
        back_project(images, [0.0, 1.0, 2.0], (0, 8, 8))
    geometry = TiltGeometry.build([0.0, 1.0, 2.0])
    prepared = prepare_lines(images, geometry, 1.0, volume_shape=(4, 8, 8), voxel_size=1.0)
    with pytest.raises(ShapeError, match="Planes"):
        back_project_lines(prepared, z_range=(2, 9))
