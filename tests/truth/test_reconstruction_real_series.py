"""Real tilt series: another program's reconstruction, and a needle seen from all sides."""

import re

import emfile
import numpy as np
import pytest
import torch

from eucentric.geometry import TiltGeometry
from eucentric.io.dm import read_dm
from eucentric.projection import back_project, resample_tilts
from eucentric.reconstruction import ReconstructParams, reconstruct_volume


@pytest.fixture(scope="module")
def projections(shared_data):
    folder = shared_data / "real" / "projections_41"
    pattern = r'OffsetX="([-\d.e]+)" OffsetY="([-\d.e]+)" Filename="[^"]*/([^"/]+)"[^>]*TiltAngle="([-\d.]+)"'
    rows = re.findall(pattern, (folder / "projectionList.xml").read_text())
    images = np.stack([emfile.read(folder / row[2])[1].reshape(100, 100) for row in rows]).astype(np.float32)
    offsets = np.array([[float(row[0]), float(row[1])] for row in rows])
    angles = np.array([float(row[3]) for row in rows])
    return torch.from_numpy(images), offsets, angles, emfile.read(folder / "p1.em")[1]


def _correlation(projections, *, tilt_sign, offset_sign, extra=0.0, soft=False):
    images, offsets, angles, expected = projections
    shifts = offset_sign * offsets + np.array([extra, 0.0])
    frame = resample_tilts(
        images,
        TiltGeometry.build(tilt_sign * angles, shifts_angstrom=shifts),
        1.0,
        out_shape=(100, 100),
        out_pixel_size=1.0,
    )
    volume = back_project(frame, tilt_sign * angles, (100, 100, 100))
    if soft:
        k = torch.fft.fftfreq(100)
        keep = k[:, None, None] ** 2 + k[:, None] ** 2 + torch.fft.rfftfreq(100) ** 2 < 0.3**2
        volume = torch.fft.irfftn(torch.fft.rfftn(volume) * keep, s=(100, 100, 100))
    centre = (slice(25, 75),) * 3
    return np.corrcoef(volume.numpy()[centre].ravel(), expected[centre].ravel())[0, 1]


def test_plain_back_projection_agrees_with_another_program(projections):
    """Our y_tilt is minus TiltAngle; our shift is plus (OffsetX, OffsetY), in pixels, from n // 2.

    That program reads its lines linearly and half a pixel off: taking its half pixel along raises the agreement
    to 0.96; without it, a low-pass that stands for the linear reads raises it to 0.87.
    """
    assert _correlation(projections, tilt_sign=-1, offset_sign=1, soft=True) > 0.86
    assert _correlation(projections, tilt_sign=-1, offset_sign=1, extra=-0.5) > 0.95


def test_other_signs_disagree_with_the_other_program(projections):
    right = _correlation(projections, tilt_sign=-1, offset_sign=1)
    assert right > 0.85
    assert _correlation(projections, tilt_sign=-1, offset_sign=0) < 0.72  # offsets ignored
    assert _correlation(projections, tilt_sign=-1, offset_sign=-1) < 0.6
    assert _correlation(projections, tilt_sign=1, offset_sign=1) < 0.35
    assert _correlation(projections, tilt_sign=1, offset_sign=-1) < 0.35


def _needle_geometry(images, tilts):
    """The axis lies along the image's x; its height is where the centre of mass stays: y = c + a cos + b sin."""
    y = torch.arange(images.shape[1], dtype=torch.float32) - images.shape[1] // 2
    mass = (images.sum(2) * y).sum(1) / images.sum((1, 2))
    angle = np.deg2rad(tilts)
    design = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    height = np.linalg.lstsq(design, mass.double().numpy(), rcond=None)[0][0]
    return TiltGeometry.build(tilts, z_rot_deg=90.0, shifts_angstrom=[0.0, height * 180.0])


def test_leaving_out_steep_tilts_of_a_needle_empties_the_wedge(shared_data):
    stack, header = read_dm(shared_data / "real" / "needle_haadf" / "HAADF.dm3")
    images = torch.from_numpy(np.asarray(stack, dtype=np.float32))
    tilts = np.array(header.section_values)
    geometry = _needle_geometry(images, tilts)
    power = []
    for kept in (np.abs(tilts) <= 90.0, np.abs(tilts) <= 60.0):
        volume = reconstruct_volume(
            images[torch.from_numpy(kept)],
            geometry[np.flatnonzero(kept)],
            pixel_size=180.0,
            volume_shape=(64, 64, 64),
            voxel_size=180.0,
            params=ReconstructParams(),
        )
        power.append(torch.fft.fftn(volume).abs().square().numpy())
    kz, ky, kx = np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")
    ring = (np.hypot(kx, kz) > 0.06) & (np.sqrt(kx**2 + ky**2 + kz**2) < 0.35)
    angle = np.rad2deg(np.arctan2(np.abs(kz), np.abs(kx)))
    wedge, sampled = ring & (angle > 63.0), ring & (angle < 57.0)
    assert power[1][wedge].sum() < 0.03 * power[0][wedge].sum()
    assert power[1][sampled].sum() == pytest.approx(power[0][sampled].sum(), rel=0.05)
