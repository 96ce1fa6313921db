r"""The model of all Thon rings of a series and its likelihood.

Spectra of noise-like images are exponentially distributed about their mean S, so that
:math:`\log L = -\sum n (\log S + P / S)`.
With :math:`S = B (1 - m \cos 2\chi)` and modulation m well below one, this is to second order in m

.. math:: \log L = -\sum n [\log B + P/B + m (P/B - 1) \cos 2\chi + \tfrac12 m^2 \cos^2 2\chi],

which the sums of :mod:`eucentric.ctf.ring_statistics` give for every defocus. B is smooth in frequency and differs
between tilts; m is one smooth curve of the series times a strength for each tilt, and times what the change of defocus
across a tile and through the depth of the specimen leaves of it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.interpolate import BSpline
from torch import Tensor

from eucentric.ctf.ring_statistics import RingStatistics
from eucentric.models import Optics
from eucentric.optics import phase_aberration

_BACKGROUND_TERMS = 6  # Chebyshev polynomials of the logarithm: too stiff to follow a ring
MODULATION_TERMS = 8
"""Cubic B-splines of the curve of modulation."""
_LARGEST_MODULATION = 0.8
_START_B_FACTOR = 300.0  # A^2, of the power: usual for unprocessed images of ice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingModel:
    """Everything but the heights of the tiles."""

    defocus: Float[Tensor, " tilt"]
    """A, mean of both axes, at the specimen centre."""
    astigmatism: Float[Tensor, "tilt 2"]
    """A, half the difference of the two defocus values times (cos, sin) of twice the angle."""
    phase_shift: Float[Tensor, " tilt"]
    """Radians, of a phase plate."""
    log_background: Float[Tensor, "tilt shell"]
    modulation: Float[Tensor, "tilt shell"]
    """m, the blur of the tiles and of the depth included: negative where the depth has turned the rings over."""
    calibration: float
    """Part of the independent samples that the scatter about the model grants."""

    def replace(self, **changes: Tensor | float) -> "RingModel":
        return replace(self, **changes)  # type: ignore[arg-type]

    def select(self, tilts: list[int]) -> "RingModel":
        """The model of some of the tilts."""
        return self.replace(
            defocus=self.defocus[tilts],
            astigmatism=self.astigmatism[tilts],
            phase_shift=self.phase_shift[tilts],
            log_background=self.log_background[tilts],
            modulation=self.modulation[tilts],
        )


def chebyshev_basis(frequency: Float[Tensor, " shell"], terms: int) -> Float[Tensor, "shell term"]:
    """Chebyshev polynomials over the band."""
    low, high = float(frequency[0]), float(frequency[-1])
    x = ((frequency - low) / (high - low) * 2 - 1).cpu().numpy()
    return torch.from_numpy(np.polynomial.chebyshev.chebvander(x, terms - 1)).to(frequency.device)


def spline_basis(frequency: Float[Tensor, " shell"], terms: int) -> Float[Tensor, "shell term"]:
    """Cubic B-splines over the band."""
    low, high = float(frequency[0]), float(frequency[-1])
    knots = np.concatenate([[low] * 3, np.linspace(low, high, terms - 2), [high] * 3])
    design = BSpline.design_matrix(np.clip(frequency.cpu().numpy(), low, high), knots, 3).toarray()
    return torch.from_numpy(design).to(frequency.device)


def start_model(statistics: RingStatistics, defocus: Float[Tensor, " tilt"]) -> RingModel:
    """A smooth background through each tilt's mean spectrum, and rings that fade with a usual B-factor."""
    bins = statistics.bins
    samples = statistics.tiles[:, None] * bins.count.sum(0)
    mean = statistics.total / samples.clamp(min=1.0)
    basis = chebyshev_basis(bins.frequency, _BACKGROUND_TERMS)
    log_mean = torch.log(mean.clamp(min=1e-12))
    fade = torch.exp(-0.5 * _START_B_FACTOR * (bins.frequency**2 - bins.frequency[0] ** 2))
    return RingModel(
        defocus=defocus,
        astigmatism=torch.zeros(len(defocus), 2, dtype=torch.float64, device=defocus.device),
        phase_shift=torch.zeros(len(defocus), dtype=torch.float64, device=defocus.device),
        log_background=_weighted_fit(basis, log_mean, samples.clamp(min=1e-6)),
        modulation=0.3 * fade * statistics.blur,
        calibration=0.5,
    )


def _weighted_fit(
    basis: Float[Tensor, "shell term"], value: Float[Tensor, "tilt shell"], weight: Float[Tensor, "tilt shell"]
) -> Float[Tensor, "tilt shell"]:
    normal = torch.einsum("sa,ts,sb->tab", basis, weight, basis)
    right = torch.einsum("sa,ts->ta", basis, weight * value)
    fitted: Tensor = torch.linalg.solve(normal, right) @ basis.T
    return fitted


def smooth_part(
    frequency: Float[Tensor, " shell"], value: Float[Tensor, "tilt shell"], weight: Float[Tensor, "tilt shell"]
) -> Float[Tensor, "tilt shell"]:
    """What the background's polynomials can follow of curves over the band."""
    return _weighted_fit(chebyshev_basis(frequency, _BACKGROUND_TERMS), value, weight)


def ring_phases(statistics: RingStatistics, model: RingModel, optics: Optics) -> Float[Tensor, "tilt sector shell"]:
    """Twice chi at the specimen centre."""
    bins = statistics.bins
    defocus = (
        model.defocus[:, None, None]
        + model.astigmatism[:, 0, None, None] * bins.cosine
        + model.astigmatism[:, 1, None, None] * bins.sine
    )
    chi: Tensor = phase_aberration(bins.squared, defocus, optics) + model.phase_shift[:, None, None]
    return 2 * chi


def deviations(statistics: RingStatistics, model: RingModel) -> Complex[Tensor, "tilt sector shell"]:
    """Sum of (P/B - 1) exp(i phase of the offset) over the tiles, in samples."""
    scale = torch.exp(-model.log_background)[:, None, :]
    return statistics.rings * scale - statistics.bins.count * statistics.once[:, None, :]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollapsedRings:
    """Deviations summed over the sectors after undoing the astigmatism: all that a search over defocus needs."""

    ring: Complex[Tensor, "tilt shell"]
    twice: Complex[Tensor, "tilt shell"]
    samples: Float[Tensor, "tilt shell"]
    modulation: Float[Tensor, "tilt shell"]
    squared: Float[Tensor, " shell"]
    factor: float

    def gain(self, defocus: Float[Tensor, "tilt trial"], optics: Optics) -> Float[Tensor, "tilt trial"]:
        """Log-likelihood over that of no rings, at trial defocus values of each tilt."""
        # single precision is ample for the turn itself: 2 chi stays below a thousand radians
        phase = (2 * phase_aberration(self.squared, defocus[..., None], optics)).to(torch.float32)
        cosine, sine = torch.cos(phase), torch.sin(phase)
        linear, quarter = (
            (self.modulation * self.ring).to(torch.complex64),
            (self.modulation**2 * self.twice).to(torch.complex64),
        )
        # m Re(turn ring) + m^2/4 Re(turn^2 twice), the constant part of the square apart
        score = (
            torch.einsum("tds,ts->td", cosine, linear.real)
            - torch.einsum("tds,ts->td", sine, linear.imag)
            + 0.25 * torch.einsum("tds,ts->td", cosine**2 - sine**2, quarter.real)
            - 0.5 * torch.einsum("tds,ts->td", cosine * sine, quarter.imag)
        )
        constant = 0.25 * (self.modulation**2 * self.samples).sum(-1)
        return -self.factor * (score.double() + constant[:, None])


def collapse(statistics: RingStatistics, model: RingModel, optics: Optics) -> CollapsedRings:
    """Undo the model's astigmatism and phase shift, and sum over sectors."""
    bins = statistics.bins
    # each bin's phase at its own frequency and with astigmatism, less the ring's own phase without it
    plain = 2 * phase_aberration(bins.frequency**2, model.defocus[:, None], optics)[:, None, :]
    phase = ring_phases(statistics, model, optics) - plain
    turn = torch.polar(torch.ones_like(phase), phase)
    samples = statistics.tiles[:, None] * bins.count.sum(0)
    return CollapsedRings(
        ring=(deviations(statistics, model) * turn).sum(1),
        twice=statistics.twice * (bins.count * turn * turn).sum(1),
        samples=samples,
        modulation=model.modulation,
        squared=bins.frequency**2,
        factor=model.calibration * statistics.independence,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingSums:
    """Spectra summed over the sectors at one defocus, astigmatism and phase shift: all that the curves are fitted to."""

    total: Float[Tensor, "tilt shell"]
    ring: Float[Tensor, "tilt shell"]
    """Sum of P cos 2 chi."""
    cosine: Float[Tensor, "tilt shell"]
    """Sum of cos 2 chi."""
    square: Float[Tensor, "tilt shell"]
    """Sum of its square."""
    samples: Float[Tensor, "tilt shell"]
    used: Tensor
    background_basis: Float[Tensor, "shell term"]
    modulation_basis: Float[Tensor, "shell term"]
    independence: float

    @classmethod
    def build(cls, statistics: RingStatistics, model: RingModel, optics: Optics) -> "RingSums":
        """At the model's defocus, astigmatism and phase shift; its curves do not enter."""
        bins = statistics.bins
        phase = ring_phases(statistics, model, optics)
        turn = torch.polar(torch.ones_like(phase), phase)
        samples = statistics.tiles[:, None] * bins.count.sum(0)
        return cls(
            total=statistics.total,
            ring=(turn * statistics.rings).sum(1).real,
            cosine=((turn * bins.count).sum(1) * statistics.once).real,
            square=0.5 * (samples + ((turn * turn * bins.count).sum(1) * statistics.twice).real),
            samples=samples,
            used=statistics.tiles > 0,
            background_basis=chebyshev_basis(bins.frequency, _BACKGROUND_TERMS),
            modulation_basis=spline_basis(bins.frequency, MODULATION_TERMS),
            independence=statistics.independence,
        )

    def fit_curves(self, model: RingModel, blur: Float[Tensor, "tilt shell"], *, rounds: int) -> RingModel:
        """Background and modulation of a model; the modulation is a smooth curve times `blur`."""
        weight = self.samples.clamp(min=1e-6)
        for _ in range(rounds):
            excess = self._excess(model)
            shift = _weighted_fit(
                self.background_basis, torch.where(self.used[:, None], excess, torch.zeros_like(excess)), weight
            )
            model = model.replace(log_background=model.log_background + shift.clamp(-0.5, 0.5))
            scale = torch.exp(-model.log_background)
            modulation = _fit_modulation(-(self.ring * scale - self.cosine), self.square, blur, self.modulation_basis)
            model = model.replace(modulation=modulation)
        return model

    def calibrate(self, model: RingModel) -> RingModel:
        """The model with the share of independent samples that the scatter of the spectra about it grants."""
        standard = self._excess(model) * torch.sqrt(self.samples * self.independence)
        variance = float((1.4826 * standard[self.used].abs().median()) ** 2) if bool(self.used.any()) else 1.0
        return model.replace(calibration=1.0 / max(1.0, variance))

    def log_likelihood(self, model: RingModel) -> Float[Tensor, " tilt"]:
        """Log-likelihood of each tilt, background included."""
        scale = torch.exp(-model.log_background)
        m = model.modulation
        terms = self.samples * model.log_background + self.total * scale
        terms = terms + m * (self.ring * scale - self.cosine) + 0.5 * m**2 * self.square
        return -model.calibration * self.independence * terms.sum(1)

    def _excess(self, model: RingModel) -> Float[Tensor, "tilt shell"]:
        """Mean power over its background, the rings taken out, less one."""
        scale = torch.exp(-model.log_background)
        return (self.total * scale + model.modulation * self.cosine) / self.samples.clamp(min=1e-6) - 1.0


def update_curves(statistics: RingStatistics, model: RingModel, optics: Optics, *, rounds: int = 3) -> RingModel:
    """Refit background, modulation and calibration with defocus and astigmatism held."""
    sums = RingSums.build(statistics, model, optics)
    return sums.calibrate(sums.fit_curves(model, statistics.blur, rounds=rounds))


def _fit_modulation(
    ring: Float[Tensor, "tilt shell"],
    square: Float[Tensor, "tilt shell"],
    blur: Float[Tensor, "tilt shell"],
    basis: Float[Tensor, "shell term"],
) -> Float[Tensor, "tilt shell"]:
    """One non-negative curve for the series and a strength for each tilt, by alternating least squares."""
    strength = torch.ones(len(ring), dtype=torch.float64, device=ring.device)
    curve = torch.zeros(ring.shape[1], dtype=torch.float64, device=ring.device)
    ridge = 1e-6 * float(square.sum())
    for _ in range(4):
        gain = strength[:, None] * blur
        curvature, slope = (gain**2 * square).sum(0), (gain * ring).sum(0)
        normal = torch.einsum("sa,s,sb->ab", basis, curvature, basis)
        normal = normal + (ridge + 1e-9) * torch.eye(len(normal), dtype=torch.float64, device=ring.device)
        curve = (basis @ torch.linalg.solve(normal, basis.T @ slope)).clamp(0.0, _LARGEST_MODULATION)
        shape = curve * blur
        power = (shape**2 * square).sum(1)
        # a strength that the data do not know is drawn to the series' own
        prior = 0.02 * power.median() + 1e-9
        strength = (((shape * ring).sum(1) + prior) / (power + prior)).clamp(0.02, 3.0)
    return (strength[:, None] * curve * blur).clamp(-_LARGEST_MODULATION, _LARGEST_MODULATION)


def log_likelihood(statistics: RingStatistics, model: RingModel, optics: Optics) -> Float[Tensor, " tilt"]:
    """Log-likelihood of each tilt, background included."""
    return RingSums.build(statistics, model, optics).log_likelihood(model)
