"""How the specimen plane lies to the geometry's z = 0, from the defocus gradient in every tilt."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.optimize import minimize
from torch import Tensor

from eucentric.ctf.params import CtfParams
from eucentric.ctf.ring_model import CollapsedRings, RingModel, ring_phases
from eucentric.ctf.ring_statistics import RingStatistics, ring_offset_rates
from eucentric.ctf.specimen_plane import plane_heights, plane_normal
from eucentric.ctf.tile_spectra import TileSpectra
from eucentric.ctf.votes import agreement_sigmas
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics
from eucentric.optics import phase_aberration
from eucentric.typing import FloatArray

_COARSE_STEP_DEG = 5.0
_COARSE_TILTS = 15
_DIFFERENCE_DEG = 1.0
# What makes the rings is not a plane: bodies lie through the ice and their spectra differ, so that the plane found for
# some thirty of them in a field of 300 nm and 150 nm of ice is itself uncertain, more so in a smaller field. Their heights
# shrink with the cosine of the tilt, where the effect of an inclination about y grows with its inverse square: about half of
# the scatter reaches that angle.
_SCATTER_ANGSTROM = 1500.0 / 12**0.5
_BODIES_IN_AREA = 30 / 3000.0**2  # in A^2
_SHARE_Y = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclination:
    """Angles of the specimen plane; see :class:`eucentric.ctf.results.CtfResult`."""

    x_deg: float
    y_deg: float
    x_sigma_deg: float
    y_sigma_deg: float
    significant: bool


LEVEL = Inclination(x_deg=0.0, y_deg=0.0, x_sigma_deg=float("nan"), y_sigma_deg=float("nan"), significant=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileRings:
    """Each tile's rings with astigmatism undone: what a trial plane needs to be scored."""

    ring: Complex[Tensor, "tilt tile shell"]
    weight: Float[Tensor, "tilt tile"]
    background: Float[Tensor, "tilt shell"]
    modulation: Float[Tensor, "tilt shell"]
    turned_count: Complex[Tensor, "tilt shell"]
    turned_twice: Complex[Tensor, "tilt shell"]
    count: Float[Tensor, " shell"]
    squared: Float[Tensor, " shell"]
    rate: Float[Tensor, " shell"]
    defocus: Float[Tensor, " tilt"]
    factor: float

    def at(self, offsets: Float[Tensor, "tilt tile"], tilts: list[int]) -> CollapsedRings:
        """The rings of some tilts at the defocus of the specimen centre, for trial offsets of their tiles."""
        phase = offsets[:, :, None].to(torch.float32) * self.rate.to(torch.float32)
        turn = torch.polar(self.weight[tilts][:, :, None].expand_as(phase).contiguous(), phase)
        once, twice = turn.sum(1), (turn * turn).sum(1)
        ring = (self.ring[tilts] * turn).sum(1) * self.background[tilts] - self.turned_count[tilts] * once
        return CollapsedRings(
            ring=ring.to(torch.complex128),
            twice=(self.turned_twice[tilts] * twice).to(torch.complex128),
            samples=self.weight[tilts].double().sum(1)[:, None] * self.count,
            modulation=self.modulation[tilts],
            squared=self.squared,
            factor=self.factor,
        )

    def at_tilt(self, offsets: Float[Tensor, "trial tile"], tilt: int) -> CollapsedRings:
        """The rings of one tilt for several trials of the offsets of its tiles, one row each."""
        return self.at(offsets, [tilt] * len(offsets))

    def only(self, tiles: Tensor) -> "TileRings":
        """Some of the tiles."""
        return replace(self, ring=self.ring[:, tiles], weight=self.weight[:, tiles])


def tile_rings(spectra: TileSpectra, statistics: RingStatistics, model: RingModel, optics: Optics) -> TileRings:
    """Rings of single tiles, at the astigmatism and phase shift of a fit."""
    bins = spectra.bins
    plain = 2 * phase_aberration(bins.frequency**2, model.defocus[:, None], optics)[:, None, :]
    phase = ring_phases(statistics, model, optics) - plain
    turn = torch.polar(bins.count.expand_as(phase).contiguous(), phase)
    single = turn.to(torch.complex64)
    ring = torch.stack([(power * part).sum(1) for power, part in zip(spectra.power, single, strict=True)])
    return TileRings(
        ring=ring,
        weight=spectra.weight.to(torch.float32),
        background=torch.exp(-model.log_background).to(torch.float32),
        modulation=model.modulation,
        turned_count=single.sum(1),
        turned_twice=torch.polar(bins.count.expand_as(phase).contiguous(), 2 * phase).sum(1).to(torch.complex64),
        count=bins.count.sum(0),
        squared=bins.frequency**2,
        rate=ring_offset_rates(bins.frequency**2, optics),
        defocus=model.defocus,
        factor=model.calibration * statistics.independence,
    )


def fit_inclination(
    spectra: TileSpectra,
    statistics: RingStatistics,
    model: RingModel,
    geometry: TiltGeometry,
    hand: float,
    height_angstrom: float,
    optics: Optics,
    params: CtfParams,
    known: Inclination | None = None,
) -> Inclination:
    """The two angles that bring the rings of all tiles of all tilts into step; each tilt's defocus follows them.

    What is known of them beforehand is joined with what the rings tell, each as sure as it is.
    """
    rings = tile_rings(spectra, statistics, model, optics)
    positions = spectra.positions_angstrom.cpu().numpy()
    used = [t for t in range(len(geometry)) if float(spectra.weight[t].sum()) > 0]
    limit = params.maximum_inclination_deg

    def gains(angles: FloatArray, tilts: list[int]) -> FloatArray:
        """(tilt,) best log-likelihood gain near the fitted defocus."""
        heights = np.nan_to_num(
            plane_heights(positions, geometry[tilts], plane_normal(float(angles[0]), float(angles[1])), height_angstrom)
        )
        offsets = torch.from_numpy(hand * heights).to(rings.defocus.device)
        # the plane turns about the specimen centre: where that lies off the image centre, defocus and angle are linked
        grid = torch.arange(-1500.0, 1501.0, 150.0, dtype=torch.float64, device=rings.defocus.device)
        score = rings.at(offsets, tilts).gain(rings.defocus[tilts][:, None] + grid, optics)
        best = score.argmax(1).clamp(1, len(grid) - 2)
        row = torch.arange(len(best), device=best.device)
        left, mid, right = (score[row, best + i] for i in (-1, 0, 1))
        bend = (2 * mid - left - right).clamp(min=1e-12)
        return np.asarray((mid + ((right - left) ** 2 / (8 * bend)).clamp(max=(mid.abs() + 1.0))).cpu().numpy())

    def cost(angles: FloatArray, tilts: list[int]) -> float:
        if max(abs(float(a)) for a in angles) > limit:
            return 1e30
        return -float(gains(angles, tilts).sum())

    few = used[:: max(1, len(used) // _COARSE_TILTS)]
    steps = np.arange(-np.floor(limit / _COARSE_STEP_DEG), np.floor(limit / _COARSE_STEP_DEG) + 1) * _COARSE_STEP_DEG
    coarse = [(cost(np.array([x, y]), few), float(x), float(y)) for x in steps for y in steps]
    _, x0, y0 = min(coarse)
    simplex = np.array([[x0, y0], [x0 + 2.0, y0], [x0, y0 + 2.0]])
    found = minimize(
        cost,
        [x0, y0],
        args=(used,),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.05, "fatol": 0.05, "maxfev": 80},
    )
    angles = np.asarray(found.x, dtype=np.float64)
    curvature = _curvature(lambda a: cost(a, used), angles)
    level = gains(np.zeros(2), used)
    rise = gains(angles, used) - level
    if not np.all(np.linalg.eigvalsh(curvature) > 0):
        return LEVEL if known is None else known
    lever = float(np.std(positions, axis=0).mean())
    area = float(np.prod(np.ptp(positions, axis=0) + params.tile_angstrom))
    bodies = max(1.0, _BODIES_IN_AREA * area)
    scatter = float(np.degrees(np.arctan(_SCATTER_ANGSTROM / (max(lever, 1.0) * bodies**0.5))))
    covariance = np.linalg.inv(curvature) + np.diag([scatter, _SHARE_Y * scatter]) ** 2
    sure = params.decision_sigmas
    if known is not None:
        return _joined(angles, covariance, known, sure)
    significant = bool(angles @ np.linalg.solve(covariance, angles) > sure**2 and agreement_sigmas(rise) > sure)
    return Inclination(
        x_deg=float(angles[0]),
        y_deg=float(angles[1]),
        x_sigma_deg=float(np.sqrt(covariance[0, 0])),
        y_sigma_deg=float(np.sqrt(covariance[1, 1])),
        significant=significant,
    )


def known_inclination(x_deg: float, y_deg: float, x_sigma_deg: float, y_sigma_deg: float, sure: float) -> Inclination:
    """An inclination that was measured before; it counts where it stands out of its own uncertainty."""
    return Inclination(
        x_deg=x_deg,
        y_deg=y_deg,
        x_sigma_deg=x_sigma_deg,
        y_sigma_deg=y_sigma_deg,
        significant=(x_deg / x_sigma_deg) ** 2 + (y_deg / y_sigma_deg) ** 2 > sure**2,
    )


def _joined(angles: FloatArray, covariance: FloatArray, known: Inclination, sure: float) -> Inclination:
    """The product of two normal distributions."""
    own = np.linalg.inv(covariance)
    other = np.diag([known.x_sigma_deg**-2, known.y_sigma_deg**-2])
    together = np.linalg.inv(own + other)
    x, y = together @ (own @ angles + other @ np.array([known.x_deg, known.y_deg]))
    x_sigma, y_sigma = np.sqrt(np.diag(together))
    return known_inclination(float(x), float(y), float(x_sigma), float(y_sigma), sure)


def _curvature(cost: Callable[[FloatArray], float], at: FloatArray) -> FloatArray:
    """(2, 2) second derivatives by differences of a degree."""
    step = _DIFFERENCE_DEG * np.eye(2)
    out = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            a, b = step[i], step[j]
            out[i, j] = (cost(at + a + b) - cost(at + a - b) - cost(at - a + b) + cost(at - a - b)) / (
                4 * _DIFFERENCE_DEG**2
            )
    return out
