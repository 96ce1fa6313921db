r"""Do the particles themselves agree with the CTF that was fitted? Where their images meet projections of the average.

An image is :math:`y = -\sin(\chi + \delta p) E\, m + n` with m the projection of the map, E the envelope, :math:`p = \pi \lambda
k^2`, and :math:`\delta` what the defocus is off by. With the transfer as fitted and the one a quarter of a turn later,

.. math:: a = \sum \mathrm{Re}\, \bar y (-\sin \chi) E m / N, \qquad b = \sum \mathrm{Re}\, \bar y (-\cos \chi) E m / N

by shells tell the overlap at any :math:`\delta`, :math:`a \cos \delta p + b \sin \delta p`, and its norm likewise. Each particle is
compared with the map of the other half, which its noise is not in. A map made with a wrong defocus has the wrong amplitudes, but a
factor for each shell drops out. Defocus that changes with height as the hand of the tilt axis says leaves :math:`\delta`
the same at all heights; with the other hand it changes by twice the height.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.particle_images import ParticleImages, SeriesImages
from eucentric.fourier.shells import shell_index
from eucentric.models.optics import Optics
from eucentric.optics.ctf import phase_aberration
from eucentric.projection.slices import extract_slices, volume_to_grid
from eucentric.typing import FloatArray

_GROUPS = 10
"""Of particles, each left out in turn: how far the result scatters (jackknife)."""
_HEIGHTS = 12
_FROM_ZERO = 0.6
"""Of the frequency of the first zero: what is coarser has hardly any contrast transfer, and is full of neighbours."""
_LEAST = 0.02
"""Of the power of the projections, that the norm of their images in a shell is never below."""
_STEP = 25.0  # A
_RANGE = 0.2
"""Of the defocus, how far off it is looked for on both sides."""
_SLOPES = np.linspace(-3.0, 1.0, 41)
"""Changes of the offset over those of the defocus by height: 0 where the hand is right, -2 where it is not."""
_TOGETHER = 64  # images whose windows are held at once
_PER_PI = 12
_LAST_ZERO = 6
"""Zeros of the CTF up to which the curve is kept."""
_SIGNIFICANT = 3.0
_LOSS = 0.05
"""Of the amplitude at the finest detail, that an offset must cost to be worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtfEvidence:
    """Sums over the images of one series, by group of particles."""

    sums: FloatArray
    """(group, height, shell, 5): a, b, and the norms of the transfer as fitted, a quarter of a turn later, and an eighth."""
    heights_angstrom: FloatArray
    """(height,), means."""
    frequency: FloatArray
    """(shell,), 1/A."""
    curve: FloatArray
    """(group, bin of chi, 2): overlap with the projections and its norm."""
    optics: Optics
    hand: float
    defocus_angstrom: float
    """Mean of the tilts."""
    phase_shift_deg: float
    images: int
    particles: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtfCheck:
    """What the particles of a series say of its defocus."""

    offset_angstrom: float
    """To be added to the defocus as fitted."""
    sigma_angstrom: float
    height_factor: float
    """Change of the defocus with height over what the hand says: 1 where it is right, -1 where it is not."""
    height_sigma: float
    defocus_angstrom: float
    """As fitted, mean of the tilts."""
    first_zero_fitted_angstrom: float
    first_zero_angstrom: float
    """Where the particles have it."""
    loss: float
    """Part of the amplitude at the finest detail compared that the offset costs."""
    images: int
    particles: int
    chi_over_pi: FloatArray
    """(bin,), as fitted."""
    transfer: FloatArray
    """(bin,), overlap of images and projections over its norm, scaled to be -sin(chi) at best; NaN without samples."""
    transfer_sigma: FloatArray

    @property
    def disagrees(self) -> bool:
        """The offset is no chance, and matters."""
        return abs(self.offset_angstrom) > _SIGNIFICANT * self.sigma_angstrom and self.loss > _LOSS

    @property
    def other_hand(self) -> bool:
        """Defocus changes with height the other way about."""
        return self.height_factor + _SIGNIFICANT * self.height_sigma < 0.5 and self.height_factor < 0.0


def collect_evidence(
    source: SeriesImages,
    batches: Sequence[np.ndarray],
    positions_angstrom: FloatArray,
    rotations: FloatArray,
    halves: np.ndarray,
    references: tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]],
    finest_angstrom: float,
) -> CtfEvidence | None:
    """Compare particles of a series with projections; None where no image shows one, or no CTF is known.

    Parameters
    ----------
    batches : rows of particles whose images are held together
    positions_angstrom, rotations, halves : of all particles; half 1 or 2
    references : maps of half 1 and 2, masked, on the voxels of the boxes
    finest_angstrom : A; the halves agree up to here
    """
    optics = source.series.optics
    if source.phase is None or optics is None:
        return None
    n, device = source.params.box_size, source.images.device
    source = replace(source, params=source.params.model_copy(update={"image_weights": False}))
    grids = [volume_to_grid(r, (2 * n,) * 3) * source.pixel_size_angstrom for r in references]
    bins = n // 2
    shell = shell_index((n, n), bins, device=device)
    frequency: FloatArray = (np.arange(bins, dtype=np.float64) + 0.5) / (n * source.pixel_size_angstrom)
    fits = [t.ctf for t in source.series.tilts if t.ctf is not None]
    defocus, shift = (float(np.mean([getattr(f, of) for f in fits])) for of in ("defocus_angstrom", "phase_shift_deg"))
    zero = first_zero_angstrom(defocus, optics, shift)
    known = np.flatnonzero((frequency > _FROM_ZERO / zero) & (frequency < 1.0 / finest_angstrom))
    if not len(known):
        return None
    used = torch.isin(shell, torch.from_numpy(known).to(device))
    heights = source.project(positions_angstrom).heights_angstrom
    edges = np.linspace(heights.min(), heights.max() + 1e-6, _HEIGHTS + 1)
    sums = torch.zeros((_GROUPS * _HEIGHTS, bins + 1, 5), dtype=torch.float64, device=device)
    curve = torch.zeros((_GROUPS, _LAST_ZERO * _PER_PI + 1, 2), dtype=torch.float64, device=device)
    counted = np.zeros((_HEIGHTS, 2))
    for rows in batches:
        batch, terms = _terms(source, positions_angstrom[rows], rotations[rows], halves[rows], grids)
        own = heights[batch.tilt, rows[batch.particle]]
        place = np.clip(np.searchsorted(edges, own, side="right") - 1, 0, _HEIGHTS - 1)
        group = rows[batch.particle] % _GROUPS
        by_shell = torch.stack([_by_shell(t, shell, bins) for t in terms], dim=-1)
        sums.index_add_(0, torch.from_numpy(group * _HEIGHTS + place).to(device), by_shell)
        _add_curve(curve, source, batch, own, group, terms, used)
        np.add.at(counted, place, np.stack([np.ones(len(place)), own], axis=1))
    if not counted[:, 0].any():
        return None
    return CtfEvidence(
        sums=sums.reshape(_GROUPS, _HEIGHTS, bins + 1, 5)[:, :, known].cpu().numpy(),
        heights_angstrom=counted[:, 1] / np.maximum(counted[:, 0], 1.0),
        frequency=frequency[known],
        curve=curve.cpu().numpy(),
        optics=optics,
        hand=source.series.hand,
        defocus_angstrom=defocus,
        phase_shift_deg=shift,
        images=int(counted[:, 0].sum()),
        particles=sum(len(rows) for rows in batches),
    )


def _terms(
    source: SeriesImages, places: FloatArray, rotations: FloatArray, halves: np.ndarray, grids: list[Tensor]
) -> tuple[ParticleImages, list[Tensor]]:
    """Images of a batch, and what each of their samples adds to the five sums."""
    assert source.phase is not None
    quarter, eighth = (replace(source, phase=source.phase + turn) for turn in (0.5 * math.pi, 0.25 * math.pi))
    batch, later = source.particles(places), quarter.particles(places)
    copies = _of_other_half(batch, rotations, halves, grids)
    heights = source.project(places).heights_angstrom[batch.tilt, batch.particle]
    terms = [(one.data.conj() * copies).real for one in (batch, later)]
    # norms are those of images of the copies, cut to boxes as the data were, which mixes neighbouring frequencies
    for one in (source, quarter, eighth):
        parts = [
            (one.expected(copies[rows], batch.tilt[rows], heights[rows]).conj() * copies[rows]).real
            for rows in np.array_split(np.arange(len(copies)), max(1, len(copies) // _TOGETHER))
        ]
        terms.append(torch.cat(parts))
    return batch, terms


def _of_other_half(batch: ParticleImages, rotations: FloatArray, halves: np.ndarray, grids: list[Tensor]) -> Tensor:
    """Projections of the map that each particle has no part in."""
    matrices, own = batch.slice_matrices(rotations), halves[batch.particle]
    out = torch.zeros_like(batch.data)
    for half in (1, 2):
        rows = np.flatnonzero(own == half)
        if len(rows):
            index = torch.from_numpy(rows).to(out.device)
            out[index] = extract_slices(grids[2 - half], matrices[rows], batch.box_size)
    return out


def _by_shell(values: Float[Tensor, "image n half_n"], shell: Tensor, count: int) -> Float[Tensor, "image shell"]:
    flat = (values * _stands_for(values)).flatten(1).double()
    return flat.new_zeros((len(values), count + 1)).index_add_(1, shell.reshape(-1), flat)


def _stands_for(values: Tensor) -> Float[Tensor, " half_n"]:
    """Samples of the whole transform for each column of the half one."""
    twice = torch.full((values.shape[-1],), 2.0, device=values.device)
    twice[0] = 1.0
    return twice


def _add_curve(
    curve: Tensor,
    source: SeriesImages,
    batch: ParticleImages,
    heights: FloatArray,
    group: np.ndarray,
    terms: list[Tensor],
    used: Tensor,
) -> None:
    """Add the overlaps by chi: what of both transfers lies along the contrast itself."""
    assert source.phase is not None
    step = source.params.padding
    index = torch.from_numpy(batch.tilt).to(used.device)
    change = torch.from_numpy(source.series.hand * heights).to(source.phase)[:, None, None]
    chi = source.phase[index][:, ::step, ::step] + change * source.per_angstrom[::step, ::step]
    shown = -(terms[0] * chi.sin() + terms[1] * chi.cos()) * _stands_for(chi)
    norm = (terms[2] + terms[3]) * _stands_for(chi)
    last = curve.shape[1] - 1
    place = (chi * (_PER_PI / math.pi)).floor().long().clamp(0, last)
    place += torch.from_numpy(group).to(place)[:, None, None] * (last + 1)
    flat = curve.view(-1, 2)
    for column, values in enumerate((shown, norm)):
        flat[:, column].index_add_(0, place[:, used].reshape(-1), values[:, used].reshape(-1).double())


def check_ctf(evidence: CtfEvidence) -> CtfCheck:
    """The likeliest offset and change with height, with deviations by leaving out groups of particles in turn."""
    whole = evidence.sums.sum(0)
    offset, slope = _likeliest(evidence, whole)
    filled = [g for g in range(len(evidence.sums)) if evidence.sums[g, :, :, 2:].any()]
    left = np.array([_likeliest(evidence, whole - evidence.sums[g]) for g in filled])
    spread = np.sqrt((len(left) - 1) * left.var(axis=0)) if len(left) > 2 else np.full(2, math.inf)
    # at the end of what is looked through nothing is known
    limit = _RANGE * abs(evidence.defocus_angstrom)
    spread[[abs(offset) >= limit, slope <= _SLOPES[0] or slope >= _SLOPES[-1]]] = math.inf
    zeros = [
        first_zero_angstrom(evidence.defocus_angstrom + change, evidence.optics, evidence.phase_shift_deg)
        for change in (0.0, offset)
    ]
    shown, deviation = _curve(evidence.curve)
    phase = math.pi * evidence.optics.wavelength_angstrom * float(np.square(evidence.frequency).max(initial=0.0))
    return CtfCheck(
        offset_angstrom=offset,
        sigma_angstrom=float(spread[0]),
        height_factor=1.0 + slope,
        height_sigma=float(spread[1]),
        defocus_angstrom=evidence.defocus_angstrom,
        first_zero_fitted_angstrom=zeros[0],
        first_zero_angstrom=zeros[1],
        loss=1.0 - math.cos(min(abs(offset) * phase, math.pi)),
        images=evidence.images,
        particles=evidence.particles,
        chi_over_pi=(np.arange(len(shown)) + 0.5) / _PER_PI,
        transfer=shown,
        transfer_sigma=deviation,
    )


def first_zero_angstrom(defocus_angstrom: float, optics: Optics, phase_shift_deg: float = 0.0) -> float:
    """Detail at which the CTF is zero for the first time; NaN within 1 A for none."""
    k = np.linspace(0.0, 1.0, 20001)[1:]
    chi = phase_aberration(torch.from_numpy(k**2), defocus_angstrom, optics, phase_shift_deg).numpy()
    beyond = np.flatnonzero(np.abs(chi) >= math.pi)
    return float(1.0 / k[beyond[0]]) if len(beyond) else math.nan


def _likeliest(evidence: CtfEvidence, sums: FloatArray) -> tuple[float, float]:
    """Offset in A where the hand is as it is given, and the change with height, with an offset of its own."""
    limit = _RANGE * abs(evidence.defocus_angstrom)
    offsets = np.arange(-limit, limit + _STEP, _STEP)
    values = _log_likelihood(evidence, sums.sum(0)[None], offsets[:, None])
    best = _summit(offsets, values)
    near = best + np.arange(-15, 16) * 4.0 * _STEP
    by_slope = np.array(
        [
            _log_likelihood(evidence, sums, near[:, None] + s * evidence.hand * evidence.heights_angstrom).max()
            for s in _SLOPES
        ]
    )
    return best, _summit(_SLOPES, by_slope)


def _log_likelihood(evidence: CtfEvidence, sums: FloatArray, offsets: FloatArray) -> FloatArray:
    """(trial,), the scale of each shell left free.

    Parameters
    ----------
    sums : (height, shell, 5)
    offsets : (trial, height), A
    """
    phase = math.pi * evidence.optics.wavelength_angstrom * np.square(evidence.frequency)
    turn = offsets[:, :, None] * phase
    c, s = np.cos(turn), np.sin(turn)
    a, b, first, later, eighth = np.moveaxis(sums, -1, 0)
    overlap = (a * c + b * s).sum(1)
    norm = (first * c**2 + later * s**2 + (2.0 * eighth - first - later) * c * s).sum(1)
    # at a zero of the CTF what leaks from beside it is all there is
    least = np.maximum(_LEAST * (first + later).sum(0), 1e-300)
    value = np.square(np.clip(overlap, 0.0, None)) / np.maximum(norm, least)
    return np.asarray(0.5 * value.sum(1))


def _summit(places: FloatArray, values: FloatArray) -> float:
    """Place of the largest value, between places by a parabola."""
    i = int(values.argmax())
    if i in (0, len(values) - 1):
        return float(places[i])
    bend = values[i - 1] - 2.0 * values[i] + values[i + 1]
    step = 0.0 if bend >= 0 else 0.5 * (values[i - 1] - values[i + 1]) / bend
    return float(places[i] + step * (places[1] - places[0]))


def _curve(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Overlap over norm by chi, scaled, and its deviation from leaving out groups; the last bin holds all beyond."""
    whole = sums.sum(0)[:-1]
    filled = sums[sums[:, :, 1].any(1)]
    norm = np.where(whole[:, 1] > 0, whole[:, 1], np.nan)
    expected = -np.sin((np.arange(len(whole)) + 0.5) * math.pi / _PER_PI)
    scale = float(np.nansum(whole[:, 0] * expected) / max(float(np.nansum(norm * expected**2)), 1e-300))
    scale = scale if scale > 0 else 1.0
    shown = whole[:, 0] / norm
    left = whole[None] - filled[:, :-1]
    each = left[..., 0] / np.where(left[..., 1] > 0, left[..., 1], np.nan)
    deviation = np.sqrt(max(len(filled) - 1, 0) * each.var(axis=0))
    return shown / scale, deviation / scale
