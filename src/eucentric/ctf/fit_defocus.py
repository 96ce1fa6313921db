"""Search and refinement of defocus and astigmatism of all tilts together, for given heights of the tiles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
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
from eucentric.typing import FloatArray

_COARSE_STEP = 100.0  # A; as in CTFFIND
_FREEDOM = 3.0  # degrees of freedom of the t-distributed scatter of defocus: outliers are expected
_LEAST_SPREAD = 300.0  # A; focusing scatters at least this much
_STARTS = 3  # best separated coarse peaks that are followed up
LEAST_EVIDENCE = 3.0
"""Standard deviations that a tilt's rings must stand out, given where the series expects them."""
SEARCH_REACH = 3.0
"""Spreads to either side of what is expected of a tilt that are searched for its defocus."""
_PHASE_SHIFT_STEP = 15.0  # degrees
_PHASE_SHIFT_SPREAD = math.radians(20.0)  # of one tilt about the series: a phase plate charges as it is used
_ASTIGMATISM_ANGLES = 8
_ASTIGMATISM_TILTS = 12  # enough to tell the coarse astigmatism of the series


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DefocusFit:
    """The fitted model, how sure each tilt is, and what the series expected of it."""

    model: RingModel
    information: Float[Tensor, "tilt unknown unknown"]
    """Of defocus and the two astigmatism components (1/A^2) and, where it is fitted, the phase shift (radians), from the
    data alone."""
    precision: Float[Tensor, " tilt"]
    """Of the defocus, from the scatter of the series, 1/A^2."""
    spread: float
    """A, scatter of defocus about its neighbours."""
    expected: Float[Tensor, " tilt"]
    """A, what its neighbours say of each tilt's defocus."""
    evidence: Float[Tensor, " tilt"]
    """How many standard deviations of noise the rings of each tilt stand out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the refinement of a whole series begins; numbers for all tilts, or arrays (tilt,)."""

    defocus_angstrom: float | FloatArray
    phase_shift_deg: float | FloatArray = 0.0


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
) -> list[Start]:
    """Best separated defocus values for the series as a whole, best first, each with its best phase shift.

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
    model = start_model(statistics, middle)
    shifts = [0.0]
    if params.phase_shift == "fit":
        low, high = params.phase_shift_range_deg
        shifts = list(np.linspace(low, high, 1 + math.ceil((high - low) / _PHASE_SHIFT_STEP)))
    reach = round(params.defocus_spread_angstrom / _COARSE_STEP)
    totals = []
    for shift in shifts:
        rings = collapse(statistics, model.replace(phase_shift=torch.full_like(middle, math.radians(shift))), optics)
        gains = torch.cat([rings.gain(part.expand(count, -1), optics) for part in torch.split(trials, 64)], dim=1)
        near = torch.nn.functional.max_pool1d(gains[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
        # the mean with the gain at the trial itself puts the peak at the middle of the tilts' own peaks
        totals.append(0.5 * (near + gains).sum(0))
    total, which = torch.stack(totals).max(0)
    if nominal_defocus_angstrom is not None and math.isfinite(nominal_defocus_angstrom):
        total = total - torch.log1p(((trials - nominal_defocus_angstrom) / 10_000.0) ** 2)
    out: list[Start] = []
    for _ in range(_STARTS):
        best = int(total.argmax())
        out.append(Start(defocus_angstrom=float(trials[best]), phase_shift_deg=float(shifts[int(which[best])])))
        total = torch.where((trials - trials[best]).abs() < 2500.0, torch.full_like(total, -torch.inf), total)
    return out


def fit_defocus(
    statistics: RingStatistics,
    start: Start,
    order: AcquisitionOrder,
    optics: Optics,
    params: CtfParams,
    *,
    rounds: int = 4,
) -> DefocusFit:
    """Fit every tilt from one common start, alternating between curves, defocus and astigmatism.

    The first of several rounds searches the astigmatism on a grid; a single round starts it from zero.
    """
    count = len(statistics.total)
    device = statistics.total.device
    centre = _for_all(start.defocus_angstrom, count, device)
    model = start_model(statistics, centre).replace(
        phase_shift=_for_all(np.radians(start.phase_shift_deg), count, device)
    )
    expectation = _Expectation(centre=centre, spread=params.defocus_spread_angstrom)
    for step in range(rounds):
        model = search_defocus(statistics, model, expectation, optics, params)
        model = update_curves(statistics, model, optics)
        if step == 0 and rounds > 1:
            model = _search_astigmatism(statistics, model, expectation, optics, params)
            model = update_curves(statistics, model, optics)
        for _ in range(2):
            model = _newton_step(statistics, model, expectation, order, optics, params)
        evidence = ring_evidence(statistics, model, optics)
        information = fisher_information(statistics, model, optics, params)
        expectation = _expect(model.defocus, information[:, 0, 0], evidence, order, params)
    return DefocusFit(
        model=model,
        information=information,
        precision=expectation.precision(model.defocus),
        spread=expectation.spread,
        expected=expectation.centre,
        evidence=evidence,
    )


def _for_all(value: float | FloatArray, count: int, device: torch.device) -> Float[Tensor, " tilt"]:
    return torch.from_numpy(np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)).copy()).to(device)


def search_defocus(
    statistics: RingStatistics, model: RingModel, expectation: _Expectation, optics: Optics, params: CtfParams
) -> RingModel:
    """Most probable defocus of each tilt on a fine grid about the expectation, to a fraction of the grid."""
    reach = SEARCH_REACH * params.defocus_spread_angstrom
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
    statistics: RingStatistics, model: RingModel, optics: Optics, params: CtfParams
) -> tuple[Float[Tensor, "tilt unknown"], Float[Tensor, "tilt unknown unknown"]]:
    """Gradient and expected curvature of each tilt's log-likelihood in defocus, astigmatism and phase shift."""
    bins = statistics.bins
    factor = model.calibration * statistics.independence
    phase = ring_phases(statistics, model, optics)
    turn = torch.polar(torch.ones_like(phase), phase)
    m = model.modulation[:, None, :]
    double = turn * turn * statistics.twice[:, None, :] * bins.count
    slope = factor * (m * (turn * deviations(statistics, model)).imag + 0.5 * m**2 * double.imag)
    samples = statistics.tiles[:, None, None] * bins.count
    bend = factor * m**2 * 0.5 * (samples - double.real)
    rate = ring_offset_rates(bins.squared, optics)
    directions = [rate, rate * bins.cosine, rate * bins.sine]
    if params.phase_shift == "fit":
        directions.append(torch.full_like(rate, 2.0))
    change = torch.stack(directions)
    gradient = torch.einsum("tas,das->td", slope, change)
    return gradient, torch.einsum("tas,das,eas->tde", bend, change, change)


def fisher_information(
    statistics: RingStatistics, model: RingModel, optics: Optics, params: CtfParams
) -> Float[Tensor, "tilt unknown unknown"]:
    """What the data alone know of each tilt's defocus (A), astigmatism (A) and, if fitted, phase shift (radians)."""
    return _derivatives(statistics, model, optics, params)[1]


def drift_precision(params: CtfParams) -> list[float]:
    """1 over the variances of a tilt's two astigmatism components and, if fitted, its phase shift about the series'."""
    tie = 4.0 / params.astigmatism_spread_angstrom**2  # of half the difference of the two defocus values
    return [tie, tie] + ([_PHASE_SHIFT_SPREAD**-2] if params.phase_shift == "fit" else [])


def _newton_step(
    statistics: RingStatistics,
    model: RingModel,
    expectation: _Expectation,
    order: AcquisitionOrder,
    optics: Optics,
    params: CtfParams,
) -> RingModel:
    """One Gauss-Newton step for all tilts; what drifts in time is tied to its neighbours in time and to the series."""
    gradient, information = _derivatives(statistics, model, optics, params)
    count, unknowns = gradient.shape
    drifting = torch.cat([model.astigmatism, model.phase_shift[:, None]], dim=1)
    ties = drift_precision(params)
    pull = expectation.precision(model.defocus)
    size = unknowns * count
    normal = torch.zeros(size + len(ties), size + len(ties), dtype=torch.float64, device=gradient.device)
    right = torch.zeros(size + len(ties), dtype=torch.float64, device=gradient.device)
    for t in range(count):
        at = slice(unknowns * t, unknowns * (t + 1))
        normal[at, at] = information[t]
    right[:size] = gradient.reshape(-1)
    normal[:size:unknowns, :size:unknowns] += torch.diag(pull)
    right[:size:unknowns] += pull * (expectation.centre - model.defocus)
    weak = 1.0 / params.maximum_astigmatism_angstrom**2
    total = order.persistence.sum(1)
    for part, tie in enumerate(ties):
        own, shared = slice(part + 1, size, unknowns), size + part
        mean = (total @ drifting[:, part]) / total.sum()
        normal[own, own] += tie * order.persistence
        normal[own, shared] -= tie * total
        normal[shared, own] -= tie * total
        normal[shared, shared] += tie * total.sum() + weak
        right[own] += tie * (order.persistence @ (mean - drifting[:, part]))
        right[shared] -= weak * mean if part < 2 else 0.0
    step = torch.linalg.solve(normal, right)[:size].reshape(count, unknowns)
    low, high = params.minimum_defocus_angstrom, params.maximum_defocus_angstrom
    model = model.replace(
        defocus=(model.defocus + step[:, 0].clamp(-300.0, 300.0)).clamp(low, high),
        astigmatism=model.astigmatism + step[:, 1:3].clamp(-300.0, 300.0),
    )
    if params.phase_shift == "off":
        return model
    first, last = (math.radians(a) for a in params.phase_shift_range_deg)
    return model.replace(phase_shift=(model.phase_shift + step[:, 3].clamp(-0.3, 0.3)).clamp(first, last))


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
    order: AcquisitionOrder,
    params: CtfParams,
) -> _Expectation:
    """What its neighbours in time say of each tilt: their median within five images, each counting by what it knows."""
    count = len(defocus)
    known = torch.where(
        evidence > LEAST_EVIDENCE,
        1.0 / (1.0 / information.clamp(min=1e-12) + _LEAST_SPREAD**2),
        torch.zeros_like(defocus),
    )
    if count < 3 or int((known > 0).sum()) < 3:
        return _Expectation(centre=defocus.clone(), spread=params.defocus_spread_angstrom)
    weight = known * torch.exp(-0.5 * (order.distance / 5.0) ** 2) * (order.distance > 0)
    ascending = defocus.argsort()
    climb = torch.cumsum(weight[:, ascending], dim=1)
    centre = defocus[ascending][(climb >= 0.5 * climb[:, -1:]).to(torch.int8).argmax(1)]
    sure = known > 0
    spread = 1.4826 * float((defocus - centre)[sure].abs().median())
    return _Expectation(centre=centre, spread=min(max(spread, _LEAST_SPREAD), params.defocus_spread_angstrom))
