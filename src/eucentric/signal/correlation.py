"""Where two images match best, to a fraction of a pixel."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrelationPeaks:
    """Summits of a batch of correlations, one a pair of images."""

    shift_px: Float[Tensor, "n 2"]
    """(x, y) by which the first image's content is displaced against the second's; float64."""
    value: Float[Tensor, " n"]
    """Correlation there, in the units of the cross spectrum."""
    curvature: Float[Tensor, "n 2 2"]
    """Minus the matrix of second derivatives, per squared pixel."""


def climb_to_peaks(
    cross: Complex[Tensor, "n y half_x"], shape: tuple[int, int], start_px: Float[Tensor, "n 2"], *, rounds: int = 8
) -> CorrelationPeaks:
    """Summits of band-limited correlations near given samples, all at once, by Newton steps.

    A shift is a product of two phase factors, so that value, gradient and curvature are sums over rows and then over
    columns: no array of phases is made. A start from which no summit is found within a sample stays where it is.

    Parameters
    ----------
    cross : rfft of the first images times the conjugates of the second ones, weighted as wished
    shape : (y, x) of the images
    start_px : x, y
    """
    fy, fx = frequency_vectors(shape, 1.0, device=cross.device, dtype=torch.float64)
    ky, kx = (2.0 * math.pi * f.reshape(-1) for f in (fy, fx))
    twice = torch.full_like(kx, 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    terms = cross / (shape[0] * shape[1])
    powers_x = torch.stack([kx**a * twice for a in range(3)], dim=-1)
    powers_y = torch.stack([ky**a for a in range(3)], dim=0)

    def moments(at: Tensor) -> Tensor:
        """(n, b, a): sum of ky^b kx^a times the cross spectrum moved to `at`."""
        phase_x = torch.polar(torch.ones_like(at[:, :1] * kx), at[:, :1] * kx)
        phase_y = torch.polar(torch.ones_like(at[:, 1:] * ky), at[:, 1:] * ky)
        rows = terms @ (phase_x[:, :, None] * powers_x).to(terms.dtype)
        return (phase_y[:, None, :] * powers_y) @ rows.to(torch.complex128)

    start = start_px.to(torch.float64)
    at = start.clone()
    going = torch.ones(len(at), dtype=torch.bool, device=at.device)
    for _ in range(rounds):
        found = moments(at)
        gradient = torch.stack([-found[:, 0, 1].imag, -found[:, 1, 0].imag], dim=-1)
        bend = _bend(found)
        rising = (bend[:, 0, 0] > 0) & (torch.linalg.det(bend) > 0)
        safe = torch.where(rising[:, None, None], bend, torch.eye(2, dtype=bend.dtype, device=bend.device))
        step = torch.linalg.solve(safe, gradient)
        going &= rising & ((at + step - start).abs().amax(-1) <= 1.0)
        at = torch.where(going[:, None], at + step, at)
        if not bool(going.any()) or float(step[going].abs().max()) < 1e-4:
            break
    at = torch.where(going[:, None], at, start)
    found = moments(at)
    return CorrelationPeaks(shift_px=at, value=found[:, 0, 0].real, curvature=_bend(found))


def _bend(moments: Tensor) -> Tensor:
    xx, yy, xy = moments[:, 0, 2].real, moments[:, 2, 0].real, moments[:, 1, 1].real
    return torch.stack([torch.stack([xx, xy], dim=-1), torch.stack([xy, yy], dim=-1)], dim=-2)


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
