"""Training patches varied as tomograms vary: wedge, blur, defocus, noise, contrast, gold."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.networks.params import AugmentParams

_WAVELENGTH = 0.0197  # A at 300 kV: the ripple is a made-up one
_BALL_RADII = (35.0, 120.0)  # A, of gold beads and of specks of ice
_BALL_DEPTH = (4.0, 15.0)  # standard deviations of the patch


def turn_patch(patch: Tensor, quarter: int, flip: bool) -> Tensor:
    """A patch (..., z, y, x) by quarter turns about z, and by half a turn about x: its hand stays."""
    turned = torch.rot90(patch, quarter, dims=(-1, -2))
    return turned.flip((-3, -2)) if flip else turned


def vary_patch(
    patch: Float[Tensor, "z y x"],
    voxel_size: float,
    tilt_axis_deg: float,
    params: AugmentParams,
    rng: np.random.Generator,
) -> Float[Tensor, "z y x"]:
    """Another tomogram's version of a cubic patch.

    Parameters
    ----------
    voxel_size : A
    tilt_axis_deg : direction of the tilt axis in the patch, from x towards y
    """
    side = patch.shape[-1]
    kx = torch.fft.rfftfreq(side, voxel_size)[None, None, :]
    ky = torch.fft.fftfreq(side, voxel_size)[None, :, None]
    kz = torch.fft.fftfreq(side, voxel_size)[:, None, None]
    squared = kx**2 + ky**2 + kz**2
    angle = math.radians(tilt_axis_deg)
    across = -math.sin(angle) * kx + math.cos(angle) * ky  # the direction that a wedge is missing in
    gain = torch.exp(-0.25 * float(rng.uniform(*params.b_factor)) * squared)
    depth = float(rng.uniform(0.0, params.ripple))
    phase = math.pi * _WAVELENGTH * float(rng.uniform(*params.defocus_angstrom)) * squared
    gain = gain * (1.0 + depth * torch.cos(2.0 * phase + float(rng.uniform(0.0, 2.0 * math.pi))))
    if rng.random() < params.wedge_chance:
        gain = gain * _wedge(across, kz, float(rng.uniform(*params.wedge_deg)), side * voxel_size)
    image = patch
    if rng.random() < params.ball_chance:
        image = image + _balls(side, voxel_size, across, kz, rng)
    noise = torch.from_numpy(rng.standard_normal((side, side, side), dtype=np.float32))
    image = image + float(rng.uniform(0.0, params.noise)) * noise
    varied = torch.fft.irfftn(torch.fft.rfftn(image) * gain, s=(side, side, side))
    scale = math.exp(params.contrast * float(rng.standard_normal())) / float(
        (varied.std() / patch.std().clamp_min(1e-6)).clamp_min(1e-6)
    )
    out: Tensor = varied * scale + params.offset * float(rng.standard_normal())
    return out


def _wedge(across: Tensor, kz: Tensor, highest_deg: float, length: float) -> Tensor:
    """1 at tilts up to the highest, 0 beyond, with an edge as soft as a patch's own sampling."""
    beyond = kz.abs() - across.abs() * math.tan(math.radians(highest_deg))
    return (0.5 - beyond * length * 0.5).clamp(0.0, 1.0)


def _balls(side: int, voxel_size: float, across: Tensor, kz: Tensor, rng: np.random.Generator) -> Tensor:
    """Dark balls with the streaks that missing tilts give them."""
    axis = torch.arange(side, dtype=torch.float32)
    found = torch.zeros(side, side, side)
    for _ in range(int(rng.integers(1, 4))):
        z, y, x = (float(v) for v in rng.uniform(-2, side + 2, 3))
        radius = float(rng.uniform(*_BALL_RADII)) / voxel_size
        squared = (axis - z)[:, None, None] ** 2 + (axis - y)[None, :, None] ** 2 + (axis - x)[None, None, :] ** 2
        inside = ((radius - squared.sqrt()) + 0.5).clamp(0.0, 1.0)
        found = found - float(rng.uniform(*_BALL_DEPTH)) * inside
    spectrum = torch.fft.rfftn(found) * _wedge(across, kz, 60.0, side * voxel_size)
    out: Tensor = torch.fft.irfftn(spectrum, s=(side, side, side))
    return out
