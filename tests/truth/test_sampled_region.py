"""Where tilts measured: against planes, against the transfer of a series, and found again from noise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eucentric.denoising.sampled_region import find_wedge, sampled_region, sampled_region_of
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.geometry.rotations import rotation_x, rotation_y
from eucentric.models import Optics
from eucentric.optics.box_transfer import BoxTransfer

SHAPES = [(32, 32, 32), (20, 31, 48), (33, 16, 27)]


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value_at(region, shape, frequency):
    """The nearest sample to a frequency (x, y, z) in cycles per voxel."""
    f = frequency if frequency[0] >= 0 else -frequency
    z, y, x = (round(float(f[2 - axis]) * n) for axis, n in enumerate(shape))
    return float(region[z % shape[0], y % shape[1], x])


@pytest.mark.parametrize("shape", SHAPES)
@given(tilt=st.floats(-50, 60), along=st.floats(-0.45, 0.45), axis=st.floats(-0.45, 0.45))
def test_planes_of_single_tilts_lie_in_the_region_of_all(shape, tilt, along, axis):
    region = sampled_region(shape, [-50.0, 10.0, 60.0])
    matrix = TiltGeometry.build([tilt]).matrices[0]
    # what an image sees: frequencies with no component along the beam; the nearest sample is half a sample off at most
    frequency = matrix.T @ np.array([along, axis, 0.0])
    if np.abs(frequency).max() < 0.45:
        assert value_at(region, shape, frequency) >= 0.25


@pytest.mark.parametrize("shape", SHAPES)
def test_an_asymmetric_wedge_is_on_the_right_side(shape):
    region = sampled_region(shape, [-50.0, 60.0])
    for tilt, measured in ((55.0, 1.0), (-60.0, 0.0), (-45.0, 1.0), (72.0, 0.0), (-72.0, 0.0)):
        frequency = TiltGeometry.build([tilt]).matrices[0].T @ np.array([0.43, 0.2, 0.0])
        assert value_at(region, shape, frequency) == measured, tilt
    assert region[0, 0, 0] == 1.0
    assert (region[0] == 1.0).all()  # kz = 0 is the untilted image
    assert region[shape[0] // 3, :, 0].max() == 0.0  # along the beam
    assert 0.0 <= float(region.min()) < float(region.max()) <= 1.0


def test_the_part_of_fourier_space_is_that_of_the_angles():
    measured = sampled_region((96, 8, 96), [-60.0, 60.0])[:, 0]
    kz, kx = torch.fft.fftfreq(96)[:, None], torch.fft.rfftfreq(96)[None]
    disc = (kz**2 + kx**2).sqrt() < 0.5
    # the thickness of planes adds half a sample on four flanks
    assert float(measured[disc].mean()) == pytest.approx(120 / 180, abs=0.03)


@pytest.mark.parametrize("x_tilt", [0.0, 9.0])
def test_it_covers_what_the_transfer_of_a_dense_series_covers(x_tilt):
    tilts = np.arange(-50.0, 61.0, 0.5)
    geometry = TiltGeometry.build(tilts, z_rot_deg=85.0, x_tilt_deg=x_tilt)
    ones = np.ones(len(tilts))
    transfer = BoxTransfer.build(
        geometry,
        side=32,
        voxel_size=10.0,
        optics=Optics(),
        defocus_angstrom=3e4 * ones,
        doses=ones,
        pre_exposures=ones,
        depths=ones,
    )
    region = sampled_region_of(geometry, (32, 32, 32))
    kz, ky, kx = torch.fft.fftfreq(32)[:, None, None], torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32)
    within = ((kz**2 + ky**2 + kx**2).sqrt() < 0.5) & (kx > 0) & (kx < 0.5)
    # planes half a degree apart add up to 1 at least; beyond the outermost one the series has what that one has, or more
    assert float((region - transfer.coverage)[within].max()) < 1e-4
    assert ((region > 1e-4) == (transfer.coverage > 1e-4))[within].double().mean() > 0.999
    assert float((transfer.coverage - region)[within].mean()) < 0.03


def test_x_tilts_that_change_close_the_region_between_neighbours():
    tilts = np.linspace(-60, 60, 13)
    geometry = TiltGeometry.build(tilts, x_tilt_deg=2.0 * np.sin(tilts / 20.0))
    region = sampled_region_of(geometry, (24, 24, 24))
    plain = sampled_region((24, 24, 24), tilts)
    assert float((region - plain).abs().mean()) < 0.03
    middle = geometry.matrices[3]
    assert value_at(region, (24, 24, 24), middle.T @ np.array([0.3, 0.2, 0.0])) > 0.25


def test_a_turned_cube_has_the_turned_region():
    turn = rotation_x(25.0) @ rotation_y(20.0)
    geometry = TiltGeometry.build([-50.0, 0.0, 60.0])
    turned = sampled_region_of(geometry, (40, 40, 40), rotation=turn)
    plain = sampled_region((40, 40, 40), [-50.0, 60.0])
    generator = np.random.default_rng(1)
    same = 0
    for _ in range(200):
        frequency = generator.uniform(-0.25, 0.25, 3)
        same += (value_at(plain, (40,) * 3, frequency) > 0.5) == (value_at(turned, (40,) * 3, turn @ frequency) > 0.5)
    assert same >= 190  # samples beside the edge round to its other side


@pytest.mark.parametrize("shape", [(12, 14, 16), (13, 15, 17), (12, 15, 16)])
def test_filtering_twice_is_filtering_once_where_the_region_is_whole(shape):
    region = (sampled_region(shape, [-40.0, 55.0]) > 0.5).float()
    once = torch.fft.irfftn(torch.fft.rfftn(noise(shape)) * region, s=shape)
    twice = torch.fft.irfftn(torch.fft.rfftn(once) * region, s=shape)
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=0)


def test_a_half_turn_of_tilts_measures_all():
    assert (sampled_region((8, 9, 10), np.arange(-90, 91, 2)) == 1.0).all()


def test_wrong_input_is_told():
    with pytest.raises(InputError, match="angle"):
        sampled_region((8, 8, 8), [])
    with pytest.raises(InputError, match="angle"):
        sampled_region((8, 8, 8), [math.nan, 3.0])
    with pytest.raises(ShapeError, match="three"):
        sampled_region((8, 8), [0.0])
    with pytest.raises(InputError, match="rotation matrix"):
        sampled_region_of(TiltGeometry.build([0.0]), (8, 8, 8), rotation=2.0 * np.eye(3))


@pytest.mark.parametrize("shape", [(64, 40, 96), (48, 64, 160), (128, 24, 128)])
@pytest.mark.parametrize("ends", [(-50.0, 60.0), (-60.0, 50.0), (-60.0, 60.0), (-42.0, 66.0)])
def test_the_wedge_of_noise_is_found(shape, ends):
    wide = (2 * shape[0], shape[1], 2 * shape[2])  # cut out, so that nothing is periodic
    volume = torch.fft.irfftn(torch.fft.rfftn(noise(wide)) * sampled_region(wide, ends), s=wide)
    found = find_wedge(volume[: shape[0], :, : shape[2]])
    assert found == pytest.approx(ends, abs=3.0)


def test_the_wedge_of_a_falling_spectrum_is_found_too():
    shape = (64, 48, 96)
    k = torch.fft.fftfreq(64)[:, None, None] ** 2 + torch.fft.fftfreq(48)[:, None] ** 2 + torch.fft.rfftfreq(96) ** 2
    spectrum = torch.fft.rfftn(noise(shape)) * torch.exp(-80.0 * k) * sampled_region(shape, [-50.0, 60.0])
    assert find_wedge(torch.fft.irfftn(spectrum, s=shape)) == pytest.approx((-50.0, 60.0), abs=3.0)


def test_without_a_wedge_none_is_found():
    with pytest.raises(ProcessingError, match="No missing wedge"):
        find_wedge(noise((48, 32, 64)))
    with pytest.raises(InputError, match="constant"):
        find_wedge(torch.zeros(48, 32, 64))
    with pytest.raises(InputError, match="not numbers"):
        find_wedge(torch.full((48, 32, 64), math.nan))
    with pytest.raises(ShapeError, match="sizes"):
        find_wedge(noise((8, 32, 64)))
