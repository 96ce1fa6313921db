"""One volume from two tomograms of one specimen, tilted about two axes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.compute.sizes import good_size
from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.reconstruction.fourier_coverage import FourierCoverage
from eucentric.reconstruction.move_volume import RigidMotion, read_spline, spline_coefficients
from eucentric.typing import FloatArray

_LEAST = 0.25
"""Squares of the coverages together below which a sample is faded, not divided: beyond, noise would be amplified."""
_FADE_VOXELS = 4.0
_PLANES_AT_ONCE = 8
_BYTES_PER_VOXEL = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoverageSections:
    """Central sections of the coverage of Fourier space, frequencies ascending; 0 not sampled, 1 sampled."""

    frequency: FloatArray
    """(n,), 1/A, along either axis of every section."""
    first: dict[str, FloatArray]
    """Of the first series: `zx` (kz, kx) at ky = 0, `zy` (kz, ky) at kx = 0, and `yx` (ky, kx) at kz = `height`."""
    second: dict[str, FloatArray]
    """Of the second series, in the frame of the first."""
    height: float
    """1/A, of the section `yx`: half the highest frequency."""
    missing: float
    """Part of the sphere up to Nyquist that neither sampled: the missing pyramid."""
    missing_of_each: tuple[float, float]
    """Part of the sphere that the first and the second alone did not sample: their missing wedges."""


def combine_dual_axis(
    first: Float[Tensor, "z y x"],
    second: Float[Tensor, "z y x"],
    motion: RigidMotion,
    first_geometry: TiltGeometry,
    second_geometry: TiltGeometry,
    *,
    voxel_size: float,
    scale: float = 1.0,
) -> Float[Tensor, "z y x"]:
    r"""Combine two registered tomograms in Fourier space, each where it sampled it.

    With :math:`F_i = c_i F` plus noise in each volume and the coverages c of either series (see
    :class:`FourierCoverage`), the estimate is that of least squares,

    .. math:: F = \frac{c_1 F_1 + c_2 F_2}{\max(c_1^2 + c_2^2,\ 1/4)}

    the mean where both sampled, either alone where it alone did, and nothing in the missing pyramid. The second volume
    is interpolated once, with a cubic B-spline; where it does not reach, the first stands alone.

    Parameters
    ----------
    first, second : (z, y, x), weighted back-projections with the same voxel size
    motion : from the frame of `second` to that of `first`
    first_geometry, second_geometry : tilts of either series
    voxel_size : A per voxel
    scale : factor that gives the second volume the amplitude of the first

    Returns
    -------
    (z, y, x) on the grid of `first`

    Raises
    ------
    ShapeError : not two volumes
    InputError : a voxel size or scale that is not positive
    BackendError : memory
    """
    if first.ndim != 3 or second.ndim != 3:
        raise ShapeError(
            f"Volumes of shape {tuple(first.shape)} and {tuple(second.shape)} were given; expected (z, y, x)."
        )
    if not (voxel_size > 0 and scale > 0):
        raise InputError(
            f"A voxel size of {voxel_size:g} A and a scale of {scale:g} were given; expected positive ones."
        )
    shape = (first.shape[0], first.shape[1], first.shape[2])
    # the weights, as soft as 1 / depth, reach as far as half the depth: what leaves at one face must not enter opposite
    padded = (
        good_size(shape[0] + shape[0] // 2),
        good_size(shape[1] + shape[0] // 2),
        good_size(shape[2] + shape[0] // 2),
    )
    need = _BYTES_PER_VOXEL * int(np.prod(padded))
    if need > free_bytes(first.device):
        raise BackendError(
            f"Combining volumes of {shape[2]} x {shape[1]} x {shape[0]} voxels needs {need / 2**30:.1f} GiB, but only "
            f"{free_bytes(first.device) / 2**30:.1f} GiB may be used on {first.device}. Use larger voxels."
        )
    mean = first.mean()
    base = first - mean
    moved = read_spline(spline_coefficients((second - second.mean()) * scale), motion, voxel_size, shape)
    there = _reach(motion, (second.shape[0], second.shape[1], second.shape[2]), voxel_size, moved)
    moved = base + there * (moved - base)
    highest = 0.5 * np.sqrt(3.0) / voxel_size
    coverages = [
        FourierCoverage(g, depth_angstrom=v.shape[0] * voxel_size, highest_frequency=highest)
        for g, v in ((first_geometry, first), (second_geometry, second))
    ]
    spectrum, other = torch.fft.rfftn(base, s=padded), torch.fft.rfftn(moved, s=padded)
    del base, moved, there
    kz, ky, kx = frequency_vectors(padded, voxel_size, device=first.device)
    for start in range(0, padded[0], _PLANES_AT_ONCE):
        z = slice(start, start + _PLANES_AT_ONCE)
        ours = coverages[0].at(kx, ky, kz[z])
        theirs = coverages[1].at(kx, ky, kz[z], motion.rotation)
        total = (ours**2 + theirs**2).clamp(min=_LEAST)
        spectrum[z] = (spectrum[z] * ours + other[z] * theirs) / total
    del other
    whole: Tensor = torch.fft.irfftn(spectrum, s=padded)
    return whole[: shape[0], : shape[1], : shape[2]] + mean


def coverage_sections(
    first_geometry: TiltGeometry,
    second_geometry: TiltGeometry,
    motion: RigidMotion,
    *,
    depth_angstrom: float,
    voxel_size: float,
    size: int = 200,
) -> CoverageSections:
    """Central sections of both coverages, in the frame of the first series, and how much of Fourier space is missing.

    Parameters
    ----------
    depth_angstrom : depth of the volumes
    voxel_size : A per voxel; sections reach to its Nyquist frequency
    size : samples along each axis; odd numbers hold zero frequency
    """
    nyquist = 0.5 / voxel_size
    line = torch.linspace(-nyquist, nyquist, 2 * (size // 2) + 1, dtype=torch.float64)
    across, up, zero = line, line[:, None], torch.zeros(1, dtype=torch.float64)
    height = 0.5 * nyquist
    made = [
        FourierCoverage(g, depth_angstrom=depth_angstrom, highest_frequency=np.sqrt(3.0) * nyquist)
        for g in (first_geometry, second_geometry)
    ]
    rotations = (None, motion.rotation)
    sections = [
        {
            "zx": c.at(across, zero, up, r).double().numpy(),
            "zy": c.at(zero, across, up, r).double().numpy(),
            "yx": c.at(across, up, zero + height, r).double().numpy(),
        }
        for c, r in zip(made, rotations, strict=True)
    ]
    coarse = torch.linspace(-nyquist, nyquist, 65, dtype=torch.float64)
    kz, ky, kx = torch.meshgrid(coarse, coarse, coarse, indexing="ij")
    inside = kx**2 + ky**2 + kz**2 <= nyquist**2
    each = [c.at(kx[inside], ky[inside], kz[inside], r) for c, r in zip(made, rotations, strict=True)]
    lost = [float((c < 0.5).double().mean()) for c in each]
    return CoverageSections(
        frequency=line.numpy(),
        first=sections[0],
        second=sections[1],
        height=height,
        missing=float(((each[0] < 0.5) & (each[1] < 0.5)).double().mean()),
        missing_of_each=(lost[0], lost[1]),
    )


def _reach(motion: RigidMotion, shape: tuple[int, int, int], voxel_size: float, like: Tensor) -> Tensor:
    """1 where the moved volume is, fading out over a few voxels inside its faces."""
    axes = [
        (torch.arange(n, device=like.device, dtype=torch.float32) - n // 2).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        for axis, n in enumerate(like.shape)
    ]
    back = motion.inverse
    matrix, shift = back.rotation[::-1, ::-1], back.shift_angstrom[::-1] / voxel_size
    out = torch.ones_like(like)
    for axis, n in enumerate(shape):
        place = axes[0] * float(matrix[axis, 0]) + (float(shift[axis]) + n // 2)
        place = place + axes[1] * float(matrix[axis, 1]) + axes[2] * float(matrix[axis, 2])
        depth = torch.minimum(place, n - 1 - place)
        out *= torch.sin(0.5 * torch.pi * (depth / _FADE_VOXELS).clamp(0.0, 1.0)) ** 2
    return out
