"""Search and refinement of defocus and astigmatism of all tilts together, for given heights of the tiles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.params import CtfParams
from eucentric.ctf.ring_model import (
    RingModel,
    collapse,
    deviations,
    ring_phases,
    smooth_part,
    start_model,
    update_curves,
)
from eucentric.ctf.ring_statistics import RingStatistics, ring_offset_rates
from eucentric.models import Optics

_COARSE_STEP = 100.0  # A; as in CTFFIND
_FREEDOM = 3.0  # degrees of freedom of the t-distributed scatter of defocus: outliers are expected
_LEAST_SPREAD = 300.0  # A; focusing scatters at least this much
_STARTS = 3  # best separated coarse peaks that are followed up
LEAST_EVIDENCE = 3.0
"""Standard deviations that a tilt's rings must stand out, given where the series expects them."""
_ASTIGMATISM_ANGLES = 8
_ASTIGMATISM_TILTS = 12  # enough to tell the coarse astigmatism of the series


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DefocusFit:
    """The fitted model, how sure each tilt is, and what the series expected of it."""

    model: RingModel
    information: Float[Tensor, "tilt 3 3"]
    """Of defocus and the two astigmatism components, from the data alone, 1/A^2."""
    precision: Float[Tensor, " tilt"]
    """Of the defocus, from the scatter of the series, 1/A^2."""
    spread: float
    """A, scatter of defocus about its neighbours."""
    expected: Float[Tensor, " tilt"]
    """A, what its neighbours say of each tilt's defocus."""
    evidence: Float[Tensor, " tilt"]
    """How many standard deviations of noise the rings of each tilt stand out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Expectation:
    """Student-t belief about each tilt's defocus."""

    centre: Float[Tensor, " tilt"]
    spread: float

    def log_density(self, defocus: Float[Tensor, "tilt trial"]) -> Float[Tensor, "tilt trial"]:
        scaled = (defocus - self.centre[:, None]) / self.spread
        return -0.5 * (_FREEDOM + 1) * torch.log1p(scaled**2 / _FREEDOM)

    def precision(self, defocus: Float[Tensor, " tilt"]) -> Float[Tensor, " tilt"]:
        return (_FREEDOM + 1) / (_FREEDOM * self.spread**2 + (defocus - self.centre) ** 2)


def coarse_defocus(
    statistics: RingStatistics, optics: Optics, params: CtfParams, nominal_defocus_angstrom: float | None
) -> list[float]:
    """Best separated defocus values for the series as a whole, best first.

    Each tilt gives its best value within `defocus_spread_angstrom` of the trial: scatter of focus costs nothing.
    A nominal defocus counts as a broad belief (half width 1 um) that decides only where the data hardly do.
    """
    trials = torch.arange(
        params.minimum_defocus_angstrom,
        params.maximum_defocus_angstrom + _COARSE_STEP,
        _COARSE_STEP,
        dtype=torch.float64,
        device=statistics.total.device,
    )
    count = len(statistics.total)
    middle = torch.full((count,), float(trials.mean()), dtype=torch.float64, device=trials.device)
    rings = collapse(statistics, start_model(statistics, middle), optics)
    gains = torch.cat([rings.gain(part.expand(count, -1), optics) for part in torch.split(trials, 64)], dim=1)
    reach = round(params.defocus_spread_angstrom / _COARSE_STEP)
    near = torch.nn.functional.max_pool1d(gains[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    # the mean with the gain at the trial itself puts the peak at the middle of the tilts' own peaks
    total = 0.5 * (near + gains).sum(0)
    if nominal_defocus_angstrom is not None and math.isfinite(nominal_defocus_angstrom):
        total = total - torch.log1p(((trials - nominal_defocus_angstrom) / 10_000.0) ** 2)
    out: list[float] = []
    for _ in range(_STARTS):
        best = int(total.argmax())
        out.append(float(trials[best]))
        total = torch.where((trials - trials[best]).abs() < 2500.0, torch.full_like(total, -torch.inf), total)
    return out


def fit_defocus(
    statistics: RingStatistics, start_angstrom: float, optics: Optics, params: CtfParams, *, rounds: int = 4
) -> DefocusFit:
    """Fit every tilt from one common start, alternating between curves, defocus and astigmatism.

    The first of several rounds searches the astigmatism on a grid; a single round starts it from zero.
    """
    count = len(statistics.total)
    device = statistics.total.device
    start = torch.full((count,), start_angstrom, dtype=torch.float64, device=device)
    model = start_model(statistics, start)
    expectation = _Expectation(centre=start, spread=params.defocus_spread_angstrom)
    for step in range(rounds):
        model = search_defocus(statistics, model, expectation, optics, params)
        model = update_curves(statistics, model, optics)
        if step == 0 and rounds > 1:
            model = _search_astigmatism(statistics, model, expectation, optics, params)
            model = update_curves(statistics, model, optics)
        for _ in range(2):
            model = _newton_step(statistics, model, expectation, optics, params)
        evidence = ring_evidence(statistics, model, optics)
        information = fisher_information(statistics, model, optics)
        expectation = _expect(model.defocus, information[:, 0, 0], evidence, params)
    return DefocusFit(
        model=model,
        information=information,
        precision=expectation.precision(model.defocus),
        spread=expectation.spread,
        expected=expectation.centre,
        evidence=evidence,
    )


def search_defocus(
    statistics: RingStatistics, model: RingModel, expectation: _Expectation, optics: Optics, params: CtfParams
) -> RingModel:
    """Most probable defocus of each tilt on a fine grid about the expectation, to a fraction of the grid."""
    reach = 3.0 * params.defocus_spread_angstrom
    grid = torch.arange(-reach, reach + 1, _COARSE_STEP, dtype=torch.float64, device=model.defocus.device)
    trials = (expectation.centre[:, None] + grid).clamp(
        params.minimum_defocus_angstrom, params.maximum_defocus_angstrom
    )
    score = collapse(statistics, model, optics).gain(trials, optics) + expectation.log_density(trials)
    best = score.argmax(1).clamp(1, len(grid) - 2)
    rows = torch.arange(len(best), device=best.device)
    left, mid, right = (score[rows, best + i] for i in (-1, 0, 1))
    bend = 2 * mid - left - right
    shift = torch.where(bend > 0, (right - left) / (2 * bend.clamp(min=1e-30)), torch.zeros_like(bend)).clamp(-1, 1)
    found = (trials[rows, best] + shift * _COARSE_STEP).clamp(
        params.minimum_defocus_angstrom, params.maximum_defocus_angstrom
    )
    return model.replace(defocus=found)


def _search_astigmatism(
    statistics: RingStatistics, model: RingModel, expectation: _Expectation, optics: Optics, params: CtfParams
) -> RingModel:
    """The best astigmatism of the series on a coarse polar grid, each tilt's defocus following it."""
    largest = params.maximum_astigmatism_angstrom / 2
    sizes = largest * np.array([0.1, 0.25, 0.5, 1.0])
    best, best_score = model, -math.inf
    grid = torch.arange(-600.0, 601.0, 100.0, dtype=torch.float64, device=model.defocus.device)
    pairs = [(0.0, 0.0)] + [
        (float(size * math.cos(angle)), float(size * math.sin(angle)))
        for size in sizes
        for angle in (2 * math.pi * i / _ASTIGMATISM_ANGLES for i in range(_ASTIGMATISM_ANGLES))
    ]
    few = list(range(0, len(model.defocus), max(1, len(model.defocus) // _ASTIGMATISM_TILTS)))
    some, part = statistics.select(few), model.select(few)
    for pair in pairs:
        trial = part.replace(astigmatism=model.astigmatism.new_tensor(pair).expand(len(few), 2))
        score = collapse(some, trial, optics).gain(part.defocus[:, None] + grid, optics)
        total = float(score.max(1).values.sum())
        if total > best_score:
            best, best_score = (
                model.replace(astigmatism=model.astigmatism.new_tensor(pair).expand(len(model.defocus), 2)),
                total,
            )
    return search_defocus(statistics, best, expectation, optics, params)


def _derivatives(
    statistics: RingStatistics, model: RingModel, optics: Optics
) -> tuple[Float[Tensor, "tilt 3"], Float[Tensor, "tilt 3 3"]]:
    """Gradient and expected curvature of each tilt's log-likelihood in defocus and the two astigmatism components."""
    bins = statistics.bins
    factor = model.calibration * statistics.independence
    phase = ring_phases(statistics, model, optics)
    turn = torch.polar(torch.ones_like(phase), phase)
    m = model.modulation[:, None, :]
    rate = ring_offset_rates(bins.squared, optics)
    double = turn * turn * statistics.twice[:, None, :] * bins.count
    slope = factor * rate * (m * (turn * deviations(statistics, model)).imag + 0.5 * m**2 * double.imag)
    samples = statistics.tiles[:, None, None] * bins.count
    bend = factor * rate**2 * m**2 * 0.5 * (samples - double.real)
    directions = torch.stack([torch.ones_like(bins.cosine), bins.cosine, bins.sine])
    gradient = torch.einsum("tas,das->td", slope, directions)
    return gradient, torch.einsum("tas,das,eas->tde", bend, directions, directions)


def fisher_information(statistics: RingStatistics, model: RingModel, optics: Optics) -> Float[Tensor, "tilt 3 3"]:
    """What the data alone know of each tilt's defocus and astigmatism, 1/A^2."""
    return _derivatives(statistics, model, optics)[1]


def _newton_step(
    statistics: RingStatistics, model: RingModel, expectation: _Expectation, optics: Optics, params: CtfParams
) -> RingModel:
    """One Gauss-Newton step for all tilts and the astigmatism they share."""
    gradient, information = _derivatives(statistics, model, optics)
    count = len(gradient)
    tie = 4.0 / params.astigmatism_spread_angstrom**2  # of half the difference of the two defocus values
    shared = model.astigmatism.mean(0)
    pull = expectation.precision(model.defocus)
    size = 3 * count + 2
    normal = torch.zeros(size, size, dtype=torch.float64, device=gradient.device)
    right = torch.zeros(size, dtype=torch.float64, device=gradient.device)
    tied = torch.diag(information.new_tensor([0.0, tie, tie]))
    for t in range(count):
        at = slice(3 * t, 3 * t + 3)
        normal[at, at] = information[t] + tied
        normal[3 * t, 3 * t] += pull[t]
        right[at] = gradient[t]
        right[3 * t] += pull[t] * (expectation.centre[t] - model.defocus[t])
        right[3 * t + 1 : 3 * t + 3] += tie * (shared - model.astigmatism[t])
        for axis in range(2):
            normal[3 * t + 1 + axis, 3 * count + axis] = normal[3 * count + axis, 3 * t + 1 + axis] = -tie
            right[3 * count + axis] += tie * (model.astigmatism[t, axis] - shared[axis])
    weak = 1.0 / params.maximum_astigmatism_angstrom**2
    for axis in range(2):
        normal[3 * count + axis, 3 * count + axis] = count * tie + weak
        right[3 * count + axis] -= weak * shared[axis]
    step = torch.linalg.solve(normal, right)[: 3 * count].reshape(count, 3).clamp(-300.0, 300.0)
    low, high = params.minimum_defocus_angstrom, params.maximum_defocus_angstrom
    return model.replace(
        defocus=(model.defocus + step[:, 0]).clamp(low, high), astigmatism=model.astigmatism + step[:, 1:]
    )


def ring_evidence(statistics: RingStatistics, model: RingModel, optics: Optics) -> Float[Tensor, " tilt"]:
    """Matched-filter sum of each tilt's rings over its standard deviation in pure noise.

    The part of the rings that a smooth background could stand for is taken out of them first: it is no evidence.
    """
    bins = statistics.bins
    phase = ring_phases(statistics, model, optics)
    turn = torch.polar(torch.ones_like(phase), phase)
    m = model.modulation
    samples = (statistics.tiles[:, None] * bins.count.sum(0)).clamp(min=1e-6)
    cosine = ((turn * bins.count).sum(1) * statistics.once).real
    square = 0.5 * (samples + ((turn * turn * bins.count).sum(1) * statistics.twice).real)
    smooth = smooth_part(bins.frequency, m * cosine / samples, samples)
    excess = statistics.total * torch.exp(-model.log_background) - samples
    found = (smooth * excess - m * (turn * deviations(statistics, model)).sum(1).real).sum(1)
    variance = (m**2 * square - samples * smooth**2).sum(1)
    known = (statistics.tiles > 0) & (variance > 0)
    factor = math.sqrt(model.calibration * statistics.independence)
    return torch.where(known, found * factor / torch.sqrt(variance.clamp(min=1e-12)), torch.zeros_like(found))


def _expect(
    defocus: Float[Tensor, " tilt"],
    information: Float[Tensor, " tilt"],
    evidence: Float[Tensor, " tilt"],
    params: CtfParams,
) -> _Expectation:
    """What its neighbours say of each tilt: their median within five tilts, each counting by what it knows."""
    count = len(defocus)
    known = torch.where(
        evidence > LEAST_EVIDENCE,
        1.0 / (1.0 / information.clamp(min=1e-12) + _LEAST_SPREAD**2),
        torch.zeros_like(defocus),
    )
    if count < 3 or int((known > 0).sum()) < 3:
        return _Expectation(centre=defocus.clone(), spread=params.defocus_spread_angstrom)
    index = torch.arange(count, device=defocus.device)
    distance = (index[:, None] - index).abs()
    weight = known * torch.exp(-0.5 * (distance / 5.0) ** 2) * (distance > 0)
    order = defocus.argsort()
    climb = torch.cumsum(weight[:, order], dim=1)
    centre = defocus[order][(climb >= 0.5 * climb[:, -1:]).to(torch.int8).argmax(1)]
    sure = known > 0
    spread = 1.4826 * float((defocus - centre)[sure].abs().median())
    return _Expectation(centre=centre, spread=min(max(spread, _LEAST_SPREAD), params.defocus_spread_angstrom))
