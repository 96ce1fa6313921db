"""Where two images match best, to a fraction of a pixel."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex
from torch import Tensor

from eucentric.fourier.grid import frequency_vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationPeak:
    """The highest point of a correlation."""

    shift_px: tuple[float, float]
    """(x, y) by which the first image's content is displaced against the second's."""
    value: float
    """Correlation there, in the units of the cross spectrum."""
    contrast: float
    """Height over the standard deviation of the whole correlation."""
    curvature: tuple[float, float]
    """Minus the second derivatives along x and y, per squared pixel."""


def correlation_peak(
    cross: Complex[Tensor, "y half_x"],
    shape: tuple[int, int],
    *,
    reach_px: float,
    around_px: tuple[float, float] = (0.0, 0.0),
) -> CorrelationPeak:
    """Highest correlation within `reach_px` of a guess.

    The best sample is found first and moved onto the summit of the band-limited correlation by Newton steps: no
    parabola through samples, whose error depends on where the summit lies between them.

    Parameters
    ----------
    cross : rfft of the first image times the conjugate of the second's, weighted as wished
    shape : (y, x) of the images
    reach_px : radius of the search
    around_px : centre of the search (x, y)
    """
    surface = torch.fft.irfft2(cross, s=shape)
    y = torch.fft.fftfreq(shape[0], d=1.0 / shape[0], device=cross.device)[:, None]
    x = torch.fft.fftfreq(shape[1], d=1.0 / shape[1], device=cross.device)[None, :]
    allowed = (x - around_px[0]) ** 2 + (y - around_px[1]) ** 2 <= max(reach_px, 1.0) ** 2
    best = int(torch.where(allowed, surface, torch.full_like(surface, -torch.inf)).argmax())
    row, column = divmod(best, shape[1])
    point, value, curvature = _climb(cross, shape, (float(x[0, column]), float(y[row, 0])))
    spread = float(surface.std())
    return CorrelationPeak(
        shift_px=point, value=value, contrast=value / spread if spread > 0 else 0.0, curvature=curvature
    )


def _climb(
    cross: Tensor, shape: tuple[int, int], start: tuple[float, float]
) -> tuple[tuple[float, float], float, tuple[float, float]]:
    used = (cross.abs() > 0).reshape(-1).nonzero().flatten()
    fy, fx = frequency_vectors(shape, 1.0, device=cross.device, dtype=torch.float64)
    grid = (shape[0], shape[1] // 2 + 1)
    kx = 2 * math.pi * fx.expand(grid).reshape(-1)[used]
    ky = 2 * math.pi * fy.expand(grid).reshape(-1)[used]
    weight = torch.full((grid[1],), 2.0, dtype=torch.float64, device=cross.device)
    weight[0] = 1.0
    if shape[1] % 2 == 0:
        weight[-1] = 1.0
    terms = cross.reshape(-1)[used].to(torch.complex128) * weight.expand(grid).reshape(-1)[used] / (shape[0] * shape[1])
    x, y = start
    for _ in range(12):
        angle = kx * x + ky * y
        turned = terms * torch.polar(torch.ones_like(angle), angle)
        gx, gy = float((-kx * turned.imag).sum()), float((-ky * turned.imag).sum())
        hxx, hyy = float((kx**2 * turned.real).sum()), float((ky**2 * turned.real).sum())
        hxy = float((kx * ky * turned.real).sum())
        determinant = hxx * hyy - hxy**2
        if hxx <= 0 or hyy <= 0 or determinant <= 0:
            break  # not a summit: the best sample stands
        dx, dy = (hyy * gx - hxy * gy) / determinant, (hxx * gy - hxy * gx) / determinant
        x, y = x + dx, y + dy
        if max(abs(x - start[0]), abs(y - start[1])) > 1.0:
            x, y = start
            break
        if max(abs(dx), abs(dy)) < 1e-4:
            break
    angle = kx * x + ky * y
    turned = terms * torch.polar(torch.ones_like(angle), angle)
    curvature = (float((kx**2 * turned.real).sum()), float((ky**2 * turned.real).sum()))
    return (x, y), float(turned.real.sum()), curvature
