"""The fit of a whole series for one hand, and the comparison of what else could explain its rings."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.fit_defocus import LEAST_EVIDENCE, DefocusFit, Start, coarse_defocus, fit_defocus
from eucentric.ctf.fit_inclination import LEVEL, Inclination, fit_inclination, known_inclination
from eucentric.ctf.fit_thickness import fit_thickness, most_likely_plane, through_depth
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import HandTest, ThicknessFit
from eucentric.ctf.ring_model import RingModel, log_likelihood
from eucentric.ctf.ring_statistics import RingStatistics, gather_rings
from eucentric.ctf.specimen_plane import path_factors, plane_heights, plane_normal, plane_slopes
from eucentric.ctf.tile_spectra import TileSpectra
from eucentric.ctf.votes import agreement_sigmas
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics, Specimen

_PATH_STEP_DEG = 6.0
_STEEPEST_VOTE = 1.0  # A/A
_USUAL_INCLINATION_DEG = (
    10.0  # standard deviation, where a field too small has no say: grids are bent, lamellae milled aslant
)
_SCALES = (
    0.5,
    2.0,
)  # that a pixel size is wrong by when a camera counts in super-resolution, or a binning is forgotten


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """How a series was taken: what is given before any spectrum is looked at."""

    geometry: TiltGeometry
    order: AcquisitionOrder
    height_angstrom: float
    """Of the middle of the matter above the specimen centre."""
    plane: Inclination | None = None
    """What was measured of the specimen's plane before."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """A fit for one hand and one plane."""

    statistics: RingStatistics
    offsets: Float[Tensor, "tilt tile"]
    fit: DefocusFit
    inclination: Inclination
    testimony: tuple[RingStatistics, RingModel]
    """What speaks for the hand: the most likely plane, even where it is too uncertain to be used."""


def measured_plane(specimen: Specimen | None, params: CtfParams) -> Inclination | None:
    """What was measured of the specimen's plane; across the tilt axis it may be unknown, and then is usual."""
    if specimen is None or not math.isfinite(specimen.pre_tilt_y_sigma_deg):
        return None
    across = specimen.pre_tilt_x_sigma_deg
    return known_inclination(
        specimen.x_tilt_deg,
        specimen.y_tilt_deg,
        across if math.isfinite(across) else _USUAL_INCLINATION_DEG,
        specimen.pre_tilt_y_sigma_deg,
        params.decision_sigmas,
    )


def place_rings(
    spectra: TileSpectra, view: View, hand: float, optics: Optics, inclination: Inclination
) -> tuple[RingStatistics, Tensor]:
    """Ring statistics for one hand and one specimen plane, and the defocus offsets of the tiles."""
    normal = plane_normal(inclination.x_deg, inclination.y_deg)
    device = spectra.power.device
    heights = plane_heights(spectra.positions_angstrom.cpu().numpy(), view.geometry, normal, view.height_angstrom)
    # a tilt that sees the plane edge-on has no height: it keeps one defocus
    offsets = torch.from_numpy(hand * np.nan_to_num(heights)).to(device)
    slopes = torch.from_numpy(hand * np.nan_to_num(plane_slopes(view.geometry, normal))).to(device)
    return gather_rings(spectra, offsets, slopes, optics), offsets


def best_start(
    spectra: TileSpectra, view: View, hand: float, optics: Optics, params: CtfParams, nominal: float | None
) -> Start:
    """The coarse defocus whose refined model explains the series best; the hand hardly matters to it."""
    statistics, _ = place_rings(spectra, view, hand, optics, LEVEL)
    starts = coarse_defocus(statistics, optics, params, nominal)
    scores = []
    for start in starts:
        fit = fit_defocus(statistics, start, view.order, optics, params, rounds=1)
        scores.append(float(log_likelihood(statistics, fit.model.replace(calibration=1.0), optics).sum()))
    return starts[int(np.argmax(scores))]


def solve_series(
    spectra: TileSpectra, view: View, hand: float, start: Start, optics: Optics, params: CtfParams
) -> Solution:
    """Defocus, astigmatism and plane for one hand."""
    statistics, offsets = place_rings(spectra, view, hand, optics, LEVEL)
    fit = fit_defocus(statistics, start, view.order, optics, params)
    inclination, testimony = LEVEL, (statistics, fit.model)
    if params.inclination and len(view.geometry) > 2:
        inclination = fit_inclination(
            spectra, statistics, fit.model, view.geometry, hand, view.height_angstrom, optics, params, view.plane
        )
        if inclination.significant:
            statistics, offsets = place_rings(spectra, view, hand, optics, inclination)
            fit = fit_defocus(statistics, _again(fit), view.order, optics, params)
            testimony = (statistics, fit.model)
        elif math.isfinite(inclination.y_sigma_deg):
            tilted, _ = place_rings(spectra, view, hand, optics, _with_usual(inclination))
            testimony = (tilted, fit_defocus(tilted, _again(fit), view.order, optics, params, rounds=2).model)
    return Solution(statistics=statistics, offsets=offsets, fit=fit, inclination=inclination, testimony=testimony)


def _with_usual(inclination: Inclination) -> Inclination:
    """What an uncertain inclination most likely is, grids being mostly near level: drawn to zero by its uncertainty."""
    usual = _USUAL_INCLINATION_DEG**2
    return replace(
        inclination,
        x_deg=inclination.x_deg * usual / (usual + inclination.x_sigma_deg**2),
        y_deg=inclination.y_deg * usual / (usual + inclination.y_sigma_deg**2),
    )


def _again(fit: DefocusFit) -> Start:
    return Start(
        defocus_angstrom=float(fit.model.defocus.median()),
        phase_shift_deg=math.degrees(float(fit.model.phase_shift.median())),
    )


def measure_thickness(
    solution: Solution, view: View, optics: Optics, params: CtfParams
) -> tuple[Solution, ThicknessFit | None]:
    """The thickness, and the solution with the nodes in its rings where it is determined."""
    if not params.thickness:
        return solution, None
    paths = _paths(solution, view, optics, params)
    if not bool(torch.isfinite(paths).any()):
        return solution, None
    found = fit_thickness(solution.statistics, solution.fit.model, paths, optics, params)
    if not found.determined:
        return solution, found
    for _ in range(2):  # rings beyond the node sharpen defocus and phase shift, and these the node
        depths = found.thickness_angstrom * torch.nan_to_num(paths, nan=1.0)
        seen = through_depth(solution.statistics, depths, optics)
        fit = fit_defocus(seen, _again(solution.fit), view.order, optics, params)
        again = fit_thickness(solution.statistics, fit.model, paths, optics, params)
        if not again.determined:
            return solution, found
        found = again
    return replace(solution, statistics=seen, fit=fit), found


def _paths(solution: Solution, view: View, optics: Optics, params: CtfParams) -> Float[Tensor, " tilt"]:
    """Path of each tilt through the specimen over its thickness; NaN for tilts without rings.

    An inclination about y too uncertain to be used for the defocus still lengthens the paths: the one that suits the
    nodes is taken.
    """
    plane = solution.inclination

    def paths(x_deg: float, y_deg: float) -> Tensor:
        out = torch.from_numpy(path_factors(view.geometry, plane_normal(x_deg, y_deg))).to(solution.offsets.device)
        out[solution.fit.evidence < LEAST_EVIDENCE] = math.nan
        return out

    if plane.significant:
        return paths(plane.x_deg, plane.y_deg)
    if not params.inclination or len(view.geometry) < 3:
        return paths(0.0, 0.0)
    known = math.isfinite(plane.y_sigma_deg)
    middle, sigma = (plane.y_deg, plane.y_sigma_deg) if known else (0.0, _USUAL_INCLINATION_DEG)
    best, step, width = 0.0, _PATH_STEP_DEG, params.maximum_inclination_deg
    for _ in range(2):
        angles = best + np.arange(-math.floor(width / step), math.floor(width / step) + 1) * step
        planes = {float(a): paths(0.0, float(a)) for a in angles}
        beliefs = {a: -0.5 * ((a - middle) / sigma) ** 2 for a in planes}
        best = most_likely_plane(solution.statistics, solution.fit.model, planes, beliefs, optics, params)
        step, width = step / 3, step
    return paths(0.0, best)


def compare_hands(
    solutions: dict[float, Solution], view: View, given: float, optics: Optics, params: CtfParams
) -> HandTest:
    """The hand that explains the spectra better, unless the tilts disagree about it."""
    calibration = min(s.fit.model.calibration for s in solutions.values())
    plus, minus = (
        log_likelihood(statistics, model.replace(calibration=calibration), optics)
        for statistics, model in (solutions[sign].testimony for sign in (1.0, -1.0))
    )
    difference = (plus - minus).cpu().numpy()
    total = float(difference.sum())
    # the gradient grows with the tilt, until it blurs the rings inside the tiles
    plane = view.plane or LEVEL
    slopes = plane_slopes(view.geometry, plane_normal(plane.x_deg, plane.y_deg))
    steepness = np.linalg.norm(np.nan_to_num(slopes), axis=1)
    sigmas = agreement_sigmas(difference, np.minimum(steepness, _STEEPEST_VOTE))
    # twice the ratio that so many standard deviations of pure noise give, as the spectra hold more than noise
    enough = abs(total) >= params.decision_sigmas**2
    decided = enough and sigmas * total > 0 and abs(sigmas) >= params.decision_sigmas
    return HandTest(
        hand=math.copysign(1.0, total) if decided else given,
        given=given,
        decided=decided,
        log_likelihood_ratio=total,
        sigmas=abs(sigmas),
    )


def used_hand(test: HandTest, params: CtfParams) -> float:
    """The hand that is set, else the one that the test chose."""
    return test.hand if params.hand == "auto" else float(params.hand)


def likely_pixel_scale(
    spectra: TileSpectra,
    solution: Solution,
    view: View,
    hand: float,
    optics: Optics,
    params: CtfParams,
    *,
    decided: bool = True,
) -> float:
    """By what the given pixel size must be multiplied to explain the rings: 1/2, 1 or 2.

    A pixel size that is s times too small makes frequencies s times too high. Rings of defocus D then fit D / s^2 with
    the spherical aberration over s^4, and change over the tiles of a tilt by 1 / s of what the geometry expects.
    """
    count = len(view.geometry)
    if count > 2 and not decided:  # a gradient that tells no hand tells no scale
        return 1.0
    found = solution.inclination
    plane = found if found.significant else _with_usual(found) if math.isfinite(found.y_sigma_deg) else LEVEL

    def explained(scale: float) -> Float[Tensor, " tilt"]:
        other = replace(optics, spherical_aberration_mm=optics.spherical_aberration_mm / scale**4)
        statistics, _ = place_rings(spectra, view, hand / scale, other, plane)
        fit = fit_defocus(statistics, _again(solution.fit), view.order, other, params, rounds=2)
        model = fit.model.replace(calibration=solution.testimony[1].calibration)
        return log_likelihood(statistics, model, other)

    # fitted again in the same way: what another plane or another fit explains better is no matter of the scale
    base = explained(1.0)
    best, best_total = 1.0, 0.0
    for scale in _SCALES:
        rise = (explained(scale) - base).cpu().numpy()
        sure = params.decision_sigmas
        agreed = agreement_sigmas(rise) >= sure if count > 2 else float(rise.sum()) >= 2 * sure**2
        if agreed and float(rise.sum()) >= max(sure**2, best_total):
            best, best_total = scale, float(rise.sum())
    return best


def tilts_without_rings(fit: DefocusFit) -> tuple[int, ...]:
    """Those whose rings do not stand out of noise."""
    return tuple(int(t) for t in torch.nonzero(~(fit.evidence >= LEAST_EVIDENCE)).reshape(-1))
