r"""Sharpening: the fall of amplitudes undone, no further than the halves agree.

Amplitudes F of a map of two halves hold signal and noise; with C the Fourier shell correlation of the halves, the signal in
them is :math:`F \sqrt{2C / (1 + C)}` [1]_. Beyond 10 A the signal of a protein falls about as :math:`\exp(-B k^2 / 4)`, so that
B is a slope in the Guinier plot. Coarser detail follows the particle's shape, and no slope there tells of B.

.. [1] Rosenthal & Henderson, J. Mol. Biol. 333:721 (2003), doi:10.1016/j.jmb.2003.07.013
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.map_params import SharpenParams
from eucentric.averaging.results import HalfMapCorrelation
from eucentric.averaging.solve_average import shell_means, spread_shells
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import soft_edge
from eucentric.typing import FloatArray

_LEAST_SHELLS = 5
_LEAST_SPAN = 0.3
"""Of the squared frequency at the limit, that a fit must span."""
_SURE = 2.0
"""Deviations that a B factor must be from zero to be applied."""
_LEAST_MTF = 0.05
_EDGE_SHELLS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuinierFit:
    """Logarithm of amplitudes against squared frequency, and the line through them."""

    squared_frequency: FloatArray
    """(shell,), 1/A^2."""
    log_amplitude: FloatArray
    """(shell,), of the signal; NaN where the halves do not agree."""
    fitted: FloatArray
    """(shell,) bool, the shells that the line was drawn through; none where the resolution is too low for a fit."""
    b_factor: float
    """A^2, positive where amplitudes fall; NaN without a fit."""
    sigma: float
    """A^2, one deviation, from how far shells lie off the line."""
    offset: float
    """Of the line at zero frequency."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharpenedMap:
    """A map with its fall undone."""

    volume: Float[Tensor, "n n n"]
    b_factor: float
    """A^2, as applied; 0 where none was found."""
    fitted: bool
    """Whether `b_factor` is that of the fit."""
    low_pass_angstrom: float
    guinier: GuinierFit
    caveats: tuple[str, ...]


def sharpen_map(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    voxel_size: float,
    correlation: HalfMapCorrelation,
    params: SharpenParams,
    *,
    mask: Float[Tensor, "n n n"] | None = None,
    mtf: tuple[FloatArray, FloatArray] | None = None,
) -> SharpenedMap:
    """Sharpen the mean of two half maps by the B factor of their amplitudes, weighted by how far the halves agree.

    Parameters
    ----------
    half1, half2 : unfiltered
    voxel_size : A
    correlation : of the halves inside the mask, one value a shell
    mask : 0 to 1; amplitudes are fitted inside it, the map is not masked
    mtf : frequencies in 1/pixel and values, divided out; pixels of `params.mtf_pixel_size_angstrom`, of the map where that is 0

    Raises
    ------
    ShapeError : maps, mask and curve that do not belong together
    InputError : an MTF that does not reach the map's detail
    """
    n = half1.shape[0]
    fits = half1.shape == half2.shape == (n, n, n) and (mask is None or mask.shape == half1.shape)
    if not fits or len(correlation.frequency) != n // 2:
        raise ShapeError(
            f"Half maps of {tuple(half1.shape)} and {tuple(half2.shape)} voxels and a curve of {len(correlation.frequency)} shells do "
            "not belong together."
        )
    frequency: FloatArray = (np.arange(n // 2, dtype=np.float64) + 0.5) / (n * voxel_size)
    resolution = correlation.resolution_angstrom
    limit = params.low_pass_angstrom or resolution
    gain = detector_gain(frequency, mtf, params.mtf_pixel_size_angstrom or voxel_size, limit)
    weight = signal_part(correlation)
    mean = 0.5 * (half1 + half2)
    inside = mean if mask is None else mean * mask
    power = shell_means(torch.fft.rfftn(inside).abs() ** 2).cpu().double().numpy()
    amplitude = np.sqrt(power) * weight * gain
    guinier = fit_guinier(frequency, amplitude, params.fit_from_angstrom, params.fit_to_angstrom or resolution)
    caveats: list[str] = []
    b_factor, fitted = _choose(guinier, params, resolution, caveats)
    if not math.isfinite(limit):
        caveats.append("The halves do not agree on anything: the map was not sharpened.")
        return SharpenedMap(
            volume=torch.zeros_like(mean), b_factor=0.0, fitted=False, low_pass_angstrom=limit, guinier=guinier, caveats=tuple(caveats)
        )  # fmt: skip
    step = frequency[1] - frequency[0]
    place = torch.from_numpy(frequency)
    cut = soft_edge(place, 1.0 / limit, 1.0 / limit + _EDGE_SHELLS * step).numpy()
    raised = np.exp(np.minimum(0.25 * b_factor * frequency**2, 50.0))
    curve = torch.from_numpy(weight * gain * raised * cut).to(mean)
    volume: Tensor = torch.fft.irfftn(torch.fft.rfftn(mean) * spread_shells(curve, n), s=(n, n, n))
    return SharpenedMap(
        volume=volume,
        b_factor=b_factor,
        fitted=fitted,
        low_pass_angstrom=limit,
        guinier=guinier,
        caveats=tuple(caveats),
    )


def _choose(guinier: GuinierFit, params: SharpenParams, resolution: float, caveats: list[str]) -> tuple[float, bool]:
    """The B factor to be applied, and whether it was fitted."""
    if params.b_factor is not None:
        return params.b_factor, False
    if not math.isfinite(guinier.b_factor):
        shown = f"{resolution:.1f} A" if math.isfinite(resolution) else "none"
        caveats.append(
            f"The resolution ({shown}) is too low to fit a B factor to detail finer than {params.fit_from_angstrom:g} A. The map was "
            "weighted by the agreement of its halves and not sharpened; --b-factor sets a value."
        )
        return 0.0, False
    if guinier.b_factor < _SURE * guinier.sigma:
        caveats.append(
            f"The B factor of the fit, {guinier.b_factor:.0f} +- {guinier.sigma:.0f} A^2, cannot be told from zero. The map was not "
            "sharpened; --b-factor sets a value."
        )
        return 0.0, False
    return guinier.b_factor, True


def signal_part(correlation: HalfMapCorrelation) -> FloatArray:
    """Amplitude that is signal, sqrt(2 C / (1 + C)), by shell; 0 beyond the first shell without agreement."""
    curve = np.clip(correlation.corrected, 0.0, 1.0)
    gone = np.flatnonzero(correlation.corrected[1:] <= 0.0)
    if len(gone):
        curve[int(gone[0]) + 1 :] = 0.0
    curve[0] = max(curve[0], curve[1])
    out: FloatArray = np.sqrt(2.0 * curve / (1.0 + curve))
    return out


def fit_guinier(
    frequency: FloatArray, amplitude: FloatArray, coarse_angstrom: float, fine_angstrom: float
) -> GuinierFit:
    """A line through the logarithm of amplitudes between two lengths.

    Parameters
    ----------
    frequency : (shell,), 1/A
    amplitude : (shell,), of the signal
    coarse_angstrom, fine_angstrom : A; no fit where fewer than five shells, or too short a stretch, lie between them
    """
    squared = frequency**2
    log = np.full(len(frequency), np.nan)
    np.log(amplitude, out=log, where=amplitude > 0)
    inside = (frequency >= 1.0 / coarse_angstrom) & (frequency <= 1.0 / fine_angstrom) & np.isfinite(log)
    b_factor = sigma = offset = math.nan
    spans = 1.0 / fine_angstrom**2 - 1.0 / coarse_angstrom**2 >= _LEAST_SPAN / fine_angstrom**2
    if inside.sum() >= _LEAST_SHELLS and spans:
        # shells hold as many samples as their area
        weights = frequency[inside]
        line, spread = np.polyfit(squared[inside], log[inside], 1, w=weights, cov=True)
        b_factor, offset, sigma = -4.0 * float(line[0]), float(line[1]), 4.0 * math.sqrt(float(spread[0, 0]))
    else:
        inside = np.zeros(len(frequency), dtype=bool)
    return GuinierFit(
        squared_frequency=squared, log_amplitude=log, fitted=inside, b_factor=b_factor, sigma=sigma, offset=offset
    )


def detector_gain(
    frequency: FloatArray, mtf: tuple[FloatArray, FloatArray] | None, pixel_size: float, limit_angstrom: float
) -> FloatArray:
    """What amplitudes are multiplied by to divide a detector's MTF out; ones without an MTF.

    Parameters
    ----------
    frequency : (shell,), 1/A
    mtf : frequencies in 1/pixel and values
    pixel_size : A, of the detector
    limit_angstrom : A, the finest detail that matters

    Raises
    ------
    InputError : the MTF ends, or falls to nothing, before that detail
    """
    if mtf is None:
        return np.ones(len(frequency))
    place = frequency * pixel_size
    value = np.interp(place, mtf[0], mtf[1])
    matters = frequency <= 1.0 / limit_angstrom
    if matters.any() and (place[matters].max() > mtf[0][-1] + 0.01 or value[matters].min() < _LEAST_MTF):
        raise InputError(
            f"The MTF ends, or falls to nothing, before detail of {limit_angstrom:.1f} A with detector pixels of {pixel_size:g} A. "
            "Give the size of the detector's pixels with --mtf-pixel-size-angstrom."
        )
    out: FloatArray = 1.0 / np.maximum(value, _LEAST_MTF)
    return out
