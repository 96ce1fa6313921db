"""Lines in volumes: how much every place looks like the axis of a straight rod or tube, and which way it runs."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.typing import FloatArray

_SD_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineResponse:
    """The best of all directions at each voxel."""

    score: Float[Tensor, "z y x"]
    """Standard deviations of the response in that direction."""
    index: Tensor
    """(z, y, x), row of `directions`."""
    directions: FloatArray
    """(direction, 3), x y z, of unit length; a line has no sense, so one half of the sphere."""


def half_sphere(step_deg: float) -> FloatArray:
    """(n, 3) directions with z >= 0, even, about a step apart: half of a Fibonacci lattice."""
    if not 0 < step_deg <= 90:
        raise InputError(f"A step of {step_deg:g} degrees was given; expected more than 0, at most 90.")
    step = math.radians(step_deg)
    count = max(3, math.ceil(2.0 * math.pi / (step**2 * math.sqrt(3.0) / 2.0)))
    i = np.arange(count) + 0.5
    z = 1.0 - i / count
    flat, turn = np.sqrt(1.0 - z**2), math.pi * (1.0 + math.sqrt(5.0)) * i
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def line_response(
    dense: Float[Tensor, "z y x"],
    voxel_size: float,
    diameter_angstrom: float,
    *,
    wall_angstrom: float | None = None,
    length_diameters: float = 1.0,
    step_deg: float = 15.0,
) -> LineResponse:
    r"""Correlation with a straight rod, or a tube, in many directions; its curvature across, so that slow changes do not count.

    The filter is :math:`k_\perp^2 C(k_\perp) \exp(-2\pi^2 \ell^2 k_\parallel^2)`. For a rod C is a Gaussian of
    :math:`\sigma = R/\sqrt 2`, which makes the Laplacian that is greatest for a disc of radius R; for a tube it is the transform
    of a ring, :math:`J_0(2\pi k_\perp r) \exp(-2\pi^2 k_\perp^2 w^2/12)`, of the middle radius r and thickness w of its wall.

    Parameters
    ----------
    dense : volume whose filaments are bright, its background 0
    voxel_size : A
    diameter_angstrom : of the filament, outside
    wall_angstrom : thickness of the wall of a tube; solid where None
    length_diameters : standard deviation of the Gaussian along the line
    step_deg : between directions

    Raises
    ------
    InputError : a diameter of less than three voxels, or a wall of less than one
    """
    if diameter_angstrom < 3.0 * voxel_size or (wall_angstrom is not None and wall_angstrom < voxel_size):
        raise InputError(
            f"A filament of {diameter_angstrom:g} A needs three voxels across, and its wall one; they measure {voxel_size:g} A. "
            "Reconstruct with finer voxels."
        )
    radius, length = diameter_angstrom / 2.0, length_diameters * diameter_angstrom
    reach = math.ceil(2.5 * length / voxel_size)
    shape = tuple(good_size(n + min(n, reach)) for n in dense.shape)
    transform = torch.fft.rfftn(dense.float(), s=shape)
    z, y, x = torch.meshgrid(
        *(torch.fft.fftfreq(n, voxel_size, device=dense.device) for n in shape[:2]),
        torch.fft.rfftfreq(shape[2], voxel_size, device=dense.device),
        indexing="ij",
    )
    square = x**2 + y**2 + z**2
    directions = half_sphere(step_deg)
    best = torch.full(tuple(dense.shape), -math.inf, device=dense.device)
    index = torch.zeros(tuple(dense.shape), dtype=torch.int64, device=dense.device)
    for row, (u, v, w) in enumerate(directions.tolist()):
        along = (u * x + v * y + w * z).square()
        across = (square - along).clamp_min(0.0)
        gain = across * _section(across, radius, wall_angstrom) * torch.exp(-2.0 * math.pi**2 * length**2 * along)
        response = torch.fft.irfftn(transform * gain, s=shape)[tuple(slice(0, n) for n in dense.shape)]
        middle = response.median()
        response = (response - middle) / max(_SD_OF_MAD * float((response - middle).abs().median()), 1e-30)
        better = response > best
        best = torch.where(better, response, best)
        index = torch.where(better, row, index)
    return LineResponse(score=best, index=index, directions=directions)


def _section(square: Tensor, radius: float, wall: float | None) -> Tensor:
    """Transform of a rod's or tube's cross-section at squared frequencies across it."""
    if wall is None:
        return (-(math.pi**2) * radius**2 * square).exp()
    ring: Tensor = torch.special.bessel_j0(2.0 * math.pi * (radius - wall / 2.0) * square.sqrt())
    return ring * (-2.0 * math.pi**2 * wall**2 / 12.0 * square).exp()
