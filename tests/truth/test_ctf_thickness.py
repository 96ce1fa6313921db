"""Thickness from the nodes that depth leaves in the rings: layers of noise, each seen at its own defocus."""

import math

import numpy as np
import pytest
import torch

from eucentric.ctf import CtfParams, estimate_image_ctf, estimate_series_ctf
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics

SHAPE, PIXEL, DEFOCUS = (512, 512), 2.0, 22000.0


def transfer(defocus, voltage_kv):
    """-sin chi in metres and volts, with numpy, for Cs 2.7 mm and 7% amplitude contrast."""
    volts = voltage_kv * 1e3
    energy = 1.602176634e-19 * volts
    mass, light = 9.1093837015e-31, 2.99792458e8
    wavelength = 6.62607015e-34 / math.sqrt(2 * mass * energy * (1 + energy / (2 * mass * light**2)))
    fy = np.fft.fftfreq(SHAPE[0], PIXEL * 1e-10)[:, None]
    fx = np.fft.rfftfreq(SHAPE[1], PIXEL * 1e-10)
    squared = fy**2 + fx**2
    chi = np.pi * wavelength * squared * (defocus * 1e-10 - 0.5 * wavelength**2 * squared * 2.7e-3) + np.arcsin(0.07)
    return -np.sin(chi) * np.exp(-8.0 * squared * 1e-20)


def thick_series(tilts, thickness, *, voltage_kv=300.0, noise=0.3, pretilt=0.0, hand=-1.0, axis=30.0, seed=3):
    """Independent white noise in every layer of a slab that fills `thickness` along its own normal."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    across = (x - 256) * PIXEL * math.cos(math.radians(axis)) + (y - 256) * PIXEL * math.sin(math.radians(axis))
    images = []
    for tilt in tilts:
        angle = math.radians(tilt + pretilt)
        middle, half = -math.tan(angle) * across, 0.5 * thickness / math.cos(angle)
        image = np.zeros(SHAPE)
        for depth in np.arange(middle.min() - half, middle.max() + half, 100.0):
            inside = np.abs(depth - middle) <= half
            layer = np.fft.rfft2(rng.normal(size=SHAPE)) * transfer(DEFOCUS + hand * depth, voltage_kv)
            image += inside * np.fft.irfft2(layer, s=SHAPE)
        images.append(50.0 + image + noise * math.sqrt(thickness / 100.0) * rng.normal(size=SHAPE))
    return torch.from_numpy(np.stack(images).astype(np.float32)), TiltGeometry.build(tilts, z_rot_deg=axis)


@pytest.mark.parametrize(("thickness", "voltage"), [(2000.0, 300.0), (1500.0, 200.0)])
def test_thickness_of_an_untilted_slab(thickness, voltage):
    images, _ = thick_series([0.0], thickness, voltage_kv=voltage)
    got = estimate_image_ctf(images[0], pixel_size=PIXEL, optics=Optics(voltage_kv=voltage))
    assert got.thickness is not None
    assert got.thickness.determined
    assert got.thickness.thickness_angstrom == pytest.approx(thickness, rel=0.1)
    assert got.fit.defocus_angstrom == pytest.approx(DEFOCUS, abs=150.0)
    # past the node the rings are turned over: the model follows them to the end of the band
    beyond = got.curves.frequency**2 * 1.15 * 0.0197 * thickness > 1.0
    assert np.corrcoef(got.curves.spectrum[0, beyond], got.curves.model[0, beyond])[0, 1] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("pretilt", [0.0, 18.0])
def test_paths_through_a_tilted_slab_are_longer(pretilt):
    """Without the cosine the mean path at these tilts would make the slab a quarter thicker."""
    tilts = np.array([-50.0, -35.0, -15.0, 0.0, 15.0, 35.0, 50.0]) - (16.0 if pretilt else 0.0)
    images, geometry = thick_series(tilts, 1800.0, pretilt=pretilt)
    got = estimate_series_ctf(images, geometry, pixel_size=PIXEL, optics=Optics())
    assert got.hand == -1.0
    assert got.thickness is not None
    assert got.thickness.determined
    assert got.thickness.thickness_angstrom == pytest.approx(1800.0, rel=0.1)
    assert abs(got.thickness.thickness_angstrom - 1800.0) < 3 * got.thickness.sigma_angstrom


def test_a_node_outside_the_band_is_not_determined():
    """600 A at 300 kV: the node lies at 3.4 A, the band ends at 5."""
    images, geometry = thick_series([-20.0, 0.0, 20.0], 600.0)
    got = estimate_series_ctf(images, geometry, pixel_size=PIXEL, optics=Optics())
    assert got.thickness is not None
    assert not got.thickness.determined
    assert math.isnan(got.thickness.thickness_angstrom)
    assert got.thickness.smallest_visible_angstrom == pytest.approx(25.0 / Optics().wavelength_angstrom, rel=0.03)


def test_a_thickness_at_the_end_of_what_is_tried_is_not_determined():
    images, _ = thick_series([0.0], 2000.0)
    params = CtfParams(maximum_thickness_angstrom=1600.0)
    got = estimate_image_ctf(images[0], pixel_size=PIXEL, optics=Optics(), params=params).thickness
    assert got is not None
    assert not got.determined
    assert got.trials_angstrom.max() <= 1700.0


def test_thickness_is_left_out_where_not_asked_for():
    images, geometry = thick_series([0.0], 600.0)
    params = CtfParams(thickness=False)
    assert estimate_series_ctf(images, geometry, pixel_size=PIXEL, optics=Optics(), params=params).thickness is None
