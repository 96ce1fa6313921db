"""Reprojection against projections that were written down, and against an independent simulator's images."""

import json

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.reconstruction.reproject_volume import reproject_volume
from eucentric.simulation import asymmetric_phantom

PHANTOM = asymmetric_phantom(300.0)
VOXEL = 10.0


def _geometry(x_tilt=0.0):
    generator = np.random.default_rng(4)
    tilts = np.array([-80.0, -60.0, -31.0, 0.0, 12.3, 60.0, 100.0])
    return TiltGeometry.build(
        tilts,
        z_rot_deg=84.3 + generator.normal(0.0, 1.0, len(tilts)),
        x_tilt_deg=x_tilt,
        shifts_angstrom=generator.normal(0.0, 30.0, (len(tilts), 2)),
    )


def _errors(got, expected):
    return ((got - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).numpy()


@pytest.mark.parametrize("pixel", [10.0, 13.0, 7.0])
@pytest.mark.parametrize(("x_tilt", "most"), [(0.0, 0.002), (7.0, 0.008)])
@pytest.mark.parametrize("shape", [(91, 96, 101), (90, 97, 100)])
def test_a_written_down_phantom_gives_its_written_down_projections(shape, x_tilt, most, pixel):
    # place, hand and amplitude at once: line integrals in A
    geometry = _geometry(x_tilt)
    volume = PHANTOM.volume(shape, VOXEL)
    got = reproject_volume(volume, geometry, voxel_size=VOXEL, image_shape=(110, 121), pixel_size=pixel)
    assert _errors(got, PHANTOM.project(geometry, (110, 121), pixel)).max() < most  # 0.0008 and 0.0063 were measured


@pytest.mark.parametrize("field", ["y_tilt_deg", "z_rot_deg", "shifts_angstrom", "x_tilt_deg"])
def test_every_sign_is_seen(field):
    geometry = _geometry(7.0)
    volume = PHANTOM.volume((91, 96, 101), VOXEL)
    wrong = geometry.replace(**{field: -getattr(geometry, field)})
    got = reproject_volume(volume, wrong, voxel_size=VOXEL, image_shape=(110, 121))
    tilted = geometry.y_tilt_deg != 0.0
    assert _errors(got, PHANTOM.project(geometry, (110, 121), VOXEL))[tilted].min() > 0.2


def test_without_a_shape_images_have_the_field_of_the_volume():
    volume = PHANTOM.volume((40, 50, 60), 15.0)
    geometry = TiltGeometry.build([0.0, 20.0])
    assert reproject_volume(volume, geometry, voxel_size=15.0).shape == (2, 50, 60)
    assert reproject_volume(volume, geometry, voxel_size=15.0, pixel_size=30.0).shape == (2, 24, 30)


def test_double_precision_takes_the_plain_projector_to_the_same_images():
    geometry = _geometry(3.0)
    volume = PHANTOM.volume((31, 32, 33), 30.0, dtype=torch.float64)
    exact = reproject_volume(volume, geometry, voxel_size=30.0)
    assert exact.dtype == torch.float64
    fast = reproject_volume(volume.float(), geometry, voxel_size=30.0)
    torch.testing.assert_close(fast.double(), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


def test_bad_input_is_refused():
    geometry = TiltGeometry.build([0.0])
    with pytest.raises(ShapeError, match="shape"):
        reproject_volume(torch.zeros(4, 4), geometry, voxel_size=1.0)
    with pytest.raises(InputError, match="positive"):
        reproject_volume(torch.zeros(4, 4, 4), geometry, voxel_size=0.0)
    with pytest.raises(InputError, match="NaN"):
        reproject_volume(torch.full((4, 4, 4), float("nan")), geometry, voxel_size=1.0)
    with pytest.raises(ShapeError, match="image shape"):
        reproject_volume(torch.zeros(4, 4, 4), geometry, voxel_size=1.0, image_shape=(0, 4))


def _inner_correlations(a, b):
    """Per tilt, of the middle of each image: what all images and the volume cover."""
    a, b = (x[:, 70:-70, 70:-70].flatten(1) for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy(), ((a * b).sum(1) / (a * a).sum(1)).numpy()


def test_a_reconstruction_reprojected_gives_its_images_back(shared_data):
    folder = shared_data / "practice"
    truth = json.loads((folder / "TS_01_truth.json").read_text())
    matrices = np.array(truth["R"])
    axis = np.rad2deg(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    images = torch.from_numpy(np.load(folder / "TS_01_clean.npz")["clean"].astype(np.float32))
    # 2 x 2 means: the image centre is at 191.75 px of 8 A, a quarter of a pixel before n // 2
    geometry = TiltGeometry.build(
        truth["true_tilt"], z_rot_deg=axis, shifts_angstrom=np.array(truth["shifts"]) - 0.25 * 8.0
    )
    volume = reconstruct_volume(
        images,
        geometry,
        pixel_size=8.0,
        volume_shape=(100, 192, 192),
        voxel_size=16.0,
        params=ReconstructParams(dose_weighting=False),
    )
    shape = (images.shape[1], images.shape[2])
    frequency = frequency_grid(shape, 8.0)
    # coarser than the gaps between tilts matter for, finer than what the mean and the field's edge hold
    band = band_pass(frequency, low_pass_angstrom=60.0, high_pass_angstrom=500.0)

    def banded(stack):
        flat = taper_edges(stack - stack.mean((1, 2), keepdim=True), 20)
        return torch.fft.irfft2(torch.fft.rfft2(flat) * band, s=shape)

    def again(g):
        return banded(reproject_volume(volume, g, voxel_size=16.0, image_shape=shape, pixel_size=8.0))

    expected = banded(images)
    match, gain = _inner_correlations(expected, again(geometry))
    assert np.median(match) > 0.9  # 0.98 was measured; 0.85 at the steepest
    assert match.min() > 0.8
    assert np.median(gain) == pytest.approx(1.0, abs=0.1)
    for field in ("y_tilt_deg", "z_rot_deg", "shifts_angstrom"):
        wrong, _ = _inner_correlations(expected, again(geometry.replace(**{field: -getattr(geometry, field)})))
        assert np.median(wrong) < 0.4, field
