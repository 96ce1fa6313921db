"""One-dimensional spectra of each tilt at one defocus, and how well the model meets them."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.results import CtfCurves
from eucentric.ctf.ring_model import RingModel
from eucentric.ctf.tile_spectra import TileSpectra
from eucentric.models import Optics
from eucentric.optics import phase_aberration
from eucentric.typing import FloatArray

_QUALITY_RINGS = 1.5  # to either side


def measure_curves(
    spectra: TileSpectra, offsets: Float[Tensor, "tilt tile"], model: RingModel, optics: Optics
) -> tuple[CtfCurves, FloatArray]:
    """Curves of every tilt, and the samples behind each of their shells (tilt, shell).

    Each bin of each tile is moved to the frequency at which the tilt's mean defocus has the same phase, and shared
    between the two nearest shells.
    """
    frequency = spectra.bins.frequency
    profiles, samples = [], []
    for t in range(len(offsets)):
        profile, weight = _stretched_profile(spectra, offsets[t], model, t, optics)
        profiles.append(profile)
        samples.append(weight)
    spectrum, weight = torch.stack(profiles), torch.stack(samples)
    phase = 2 * (phase_aberration(frequency**2, model.defocus[:, None], optics) + model.phase_shift[:, None])
    fitted = -model.modulation * torch.cos(phase)
    # past a node of the depth the rings are turned over
    quality = _ring_quality(spectrum, -torch.sign(model.modulation) * torch.cos(phase), weight, phase)
    curves = CtfCurves(
        frequency=frequency.cpu().numpy(),
        spectrum=spectrum.cpu().numpy(),
        model=fitted.cpu().numpy(),
        quality=quality.cpu().numpy(),
    )
    return curves, np.asarray(weight.cpu().numpy())


def _stretched_profile(
    spectra: TileSpectra, offset: Float[Tensor, " tile"], model: RingModel, t: int, optics: Optics
) -> tuple[Float[Tensor, " shell"], Float[Tensor, " shell"]]:
    bins = spectra.bins
    shells = len(bins.frequency)
    bend = optics.wavelength_angstrom**2 * optics.spherical_aberration_mm * 1e7
    astigmatic = model.astigmatism[t, 0] * bins.cosine + model.astigmatism[t, 1] * bins.sine
    defocus = float(model.defocus[t])
    path = (defocus + offset[:, None, None] + astigmatic) * bins.squared - 0.5 * bend * bins.squared**2
    # D q - bend q^2 / 2 = path, solved for q in the form that holds without spherical aberration too
    root = torch.sqrt((defocus**2 - 2 * bend * path).clamp(min=0.0))
    target = torch.sqrt((2 * path / (defocus + root)).clamp(min=0.0))
    spacing = (bins.frequency[-1] - bins.frequency[0]) / (shells - 1)
    place = (target - bins.frequency[0]) / spacing
    value = spectra.power[t].double() * torch.exp(-model.log_background[t]) - 1.0
    weight = spectra.weight[t].double()[:, None, None] * bins.count
    below = torch.floor(place)
    total = torch.zeros(shells, dtype=torch.float64, device=offset.device)
    norm = torch.zeros_like(total)
    for shell, share in ((below, 1 - (place - below)), (below + 1, place - below)):
        inside = (shell >= 0) & (shell < shells)
        index = shell.clamp(0, shells - 1).long().reshape(-1)
        part = (weight * share * inside).reshape(-1)
        total.index_add_(0, index, part * value.reshape(-1))
        norm.index_add_(0, index, part)
    return total / norm.clamp(min=1e-9), norm


def _ring_quality(
    spectrum: Float[Tensor, "tilt shell"],
    model: Float[Tensor, "tilt shell"],
    weight: Float[Tensor, "tilt shell"],
    phase: Float[Tensor, "tilt shell"],
) -> Float[Tensor, "tilt shell"]:
    """Weighted correlation within a few rings about each shell."""
    near = (phase[:, :, None] - phase[:, None, :]).abs() <= 2 * math.pi * _QUALITY_RINGS
    share = near * weight[:, None, :]
    share = share / share.sum(-1, keepdim=True).clamp(min=1e-12)

    def mean(value: Tensor) -> Tensor:
        return (share * value[:, None, :]).sum(-1)

    covariance = mean(spectrum * model) - mean(spectrum) * mean(model)
    variances = (mean(spectrum**2) - mean(spectrum) ** 2) * (mean(model**2) - mean(model) ** 2)
    return covariance / torch.sqrt(variances.clamp(min=1e-20))


def ring_score(curves: CtfCurves, samples: FloatArray) -> FloatArray:
    """(tilt,) weighted correlation of spectrum and model over the band."""
    weight = samples / np.maximum(samples.sum(1, keepdims=True), 1e-12)

    def centred(value: FloatArray) -> FloatArray:
        return np.asarray(value - (weight * value).sum(1, keepdims=True))

    a, b = centred(curves.spectrum), centred(curves.model)
    power = (weight * a**2).sum(1) * (weight * b**2).sum(1)
    return np.asarray((weight * a * b).sum(1) / np.sqrt(np.maximum(power, 1e-30)))


def fitted_resolution(curves: CtfCurves) -> FloatArray:
    """(tilt,) finest detail in A up to which the quality stays above one half, as CTFFIND defines it."""
    out = np.full(len(curves.quality), 1.0 / curves.frequency[0])
    for t, quality in enumerate(curves.quality):
        good = quality >= 0.5
        if good.any():
            start = int(np.argmax(good))
            stop = start + int(np.argmin(np.append(good[start:], False))) - 1
            out[t] = 1.0 / curves.frequency[stop]
    return out
