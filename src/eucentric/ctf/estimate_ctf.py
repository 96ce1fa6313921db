"""CTF of a tilt series and of single images: the stage's two entrances."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.fit_defocus import LEAST_EVIDENCE, DefocusFit, coarse_defocus, fit_defocus
from eucentric.ctf.fit_inclination import LEVEL, Inclination, fit_inclination
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfCurves, CtfResult, HandTest, ImageCtf
from eucentric.ctf.ring_model import log_likelihood
from eucentric.ctf.ring_statistics import RingStatistics, gather_rings
from eucentric.ctf.specimen_plane import plane_heights, plane_normal, plane_slopes
from eucentric.ctf.spectrum_curves import fitted_resolution, measure_curves, ring_score
from eucentric.ctf.tile_spectra import TileSpectra, measure_series_spectra, measure_tile_spectra
from eucentric.ctf.votes import agreement_sigmas
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.typing import FloatArray

_LEAST_SHARE = 0.1  # of the tilts must show rings: in pure noise a few seem to
_NOMINAL_TOLERANCE = 10_000.0  # A; a microscope's own defocus is rarely further off


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Solution:
    """A fit for one hand and one plane."""

    statistics: RingStatistics
    offsets: Float[Tensor, "tilt tile"]
    fit: DefocusFit
    inclination: Inclination


def estimate_series_ctf(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    optics: Optics,
    params: CtfParams | None = None,
    hand: float = -1.0,
    nominal_defocus_angstrom: FloatArray | None = None,
) -> CtfResult:
    """Defocus and astigmatism of every tilt, fitted together with the tilt geometry, and the hand.

    Parameters
    ----------
    images : (tilt, y, x) sums of motion-corrected frames, not dose weighted, y up
    geometry : how the specimen projects into each image
    pixel_size : A
    hand : +1 or -1, kept where the images do not tell
    nominal_defocus_angstrom : (tilt,) A, underfocus positive, NaN where unknown: a weak belief about the whole series

    Returns
    -------
    One fit for each tilt, at the height of the specimen centre. A tilt without rings takes the defocus of its
    neighbours and is listed in `failed`.

    Raises
    ------
    ShapeError : images, geometry and nominal defocus of different lengths, or images too small
    InputError : NaN or infinity in an image, a hand other than +1 or -1, a pixel size that is not positive
    ProcessingError : no more than a tenth of the tilts show rings
    """
    params = params or CtfParams()
    _check(images, geometry, pixel_size, hand, nominal_defocus_angstrom)
    spectra = measure_series_spectra(images, pixel_size, params)
    nominal = _nominal_median(nominal_defocus_angstrom)
    start = _best_start(spectra, geometry, hand, optics, params, nominal)
    solutions = {sign: _solve(spectra, geometry, sign, start, optics, params) for sign in (1.0, -1.0)}
    test = _compare_hands(solutions, hand, optics, params)
    chosen = solutions[test.hand]
    failed = _failed(chosen.fit)
    if len(images) - len(failed) <= _LEAST_SHARE * len(images):
        raise ProcessingError(
            f"{len(images) - len(failed)} of {len(images)} tilts show Thon rings between "
            f"{1 / float(spectra.bins.frequency[0]):.0f} and {1 / float(spectra.bins.frequency[-1]):.1f} A. "
            "Check the pixel size and the voltage, and that the images are not dose weighted, filtered or blank."
        )
    fits, curves = _fits(spectra, chosen, failed, optics, params)
    return CtfResult(
        fits=fits,
        failed=failed,
        hand=test.hand,
        hand_test=test,
        inclination_x_deg=chosen.inclination.x_deg if chosen.inclination.significant else 0.0,
        inclination_y_deg=chosen.inclination.y_deg if chosen.inclination.significant else 0.0,
        inclination_x_sigma_deg=chosen.inclination.x_sigma_deg,
        inclination_y_sigma_deg=chosen.inclination.y_sigma_deg,
        evidence=np.asarray(chosen.fit.evidence.cpu().numpy()),
        curves=curves,
        caveats=_caveats(fits, failed, test, hand, chosen.inclination, nominal, params),
    )


def estimate_image_ctf(
    image: Float[Tensor, "y x"] | Float[Tensor, "tile y x"],
    *,
    pixel_size: float,
    optics: Optics,
    params: CtfParams | None = None,
    nominal_defocus_angstrom: float | None = None,
) -> ImageCtf:
    """Defocus and astigmatism of one untilted image, or of square tiles that share them (such as particle images).

    Raises
    ------
    ShapeError : too small, or tiles that are not square
    InputError : NaN or infinity, a pixel size that is not positive
    ProcessingError : no rings
    """
    params = params or CtfParams()
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[1] != image.shape[2]):
        raise ShapeError(
            f"The image has shape {tuple(image.shape)}; expected (y, x), or square tiles (tile, side, side)."
        )
    _check_pixels(image if image.ndim == 3 else image[None], pixel_size, "tile")
    measure = measure_tile_spectra if image.ndim == 3 else measure_series_spectra
    spectra = measure(image if image.ndim == 3 else image[None], pixel_size, params)
    flat = TiltGeometry.build(0.0)
    start = _best_start(spectra, flat, 1.0, optics, params, nominal_defocus_angstrom)
    solution = _solve(spectra, flat, 1.0, start, optics, params.replace(inclination=False))
    if _failed(solution.fit):
        raise ProcessingError(
            "The image shows no Thon rings. "
            "Check the pixel size and the voltage, and that the image is not filtered or blank."
        )
    fits, curves = _fits(spectra, solution, (), optics, params)
    return ImageCtf(
        fit=fits[0],
        evidence=float(solution.fit.evidence[0]),
        curves=curves,
        caveats=tuple(_value_caveats(fits, (), nominal_defocus_angstrom, params)),
    )


def _check(
    images: Tensor, geometry: TiltGeometry, pixel_size: float, hand: float, nominal_defocus_angstrom: FloatArray | None
) -> None:
    if images.ndim != 3 or len(images) != len(geometry) or len(images) == 0:
        raise ShapeError(
            f"The images have shape {tuple(images.shape)} and the geometry has {len(geometry)} tilts; expected "
            "(tilt, y, x) with as many tilts."
        )
    if nominal_defocus_angstrom is not None and np.shape(nominal_defocus_angstrom) != (len(images),):
        raise ShapeError(
            f"The nominal defocus has shape {np.shape(nominal_defocus_angstrom)}; expected one number for each "
            f"of {len(images)} tilts."
        )
    if hand not in (1.0, -1.0):
        raise InputError(f"The hand is {hand:g}; expected 1 or -1.")
    _check_pixels(images, pixel_size, "tilt")


def _check_pixels(images: Tensor, pixel_size: float, word: str) -> None:
    if not (math.isfinite(pixel_size) and pixel_size > 0):
        raise InputError(f"The pixel size is {pixel_size:g} A; expected a positive number.")
    for index, image in enumerate(images):
        if not bool(torch.isfinite(image.sum(dtype=torch.float64))):
            raise InputError(
                f"The image of {word} {index + 1} holds values that are not finite (NaN or infinity). "
                "Replace them, or exclude the image."
            )


def _nominal_median(nominal_defocus_angstrom: FloatArray | None) -> float | None:
    if nominal_defocus_angstrom is None:
        return None
    known = np.asarray(nominal_defocus_angstrom, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    return float(np.median(known)) if len(known) else None


def _place(
    spectra: TileSpectra, geometry: TiltGeometry, hand: float, optics: Optics, inclination: Inclination
) -> tuple[RingStatistics, Tensor]:
    """Ring statistics for one hand and one specimen plane, and the defocus offsets of the tiles."""
    normal = plane_normal(inclination.x_deg, inclination.y_deg)
    device = spectra.power.device
    heights = plane_heights(spectra.positions_angstrom.cpu().numpy(), geometry, normal)
    # a tilt that sees the plane edge-on has no height: it keeps one defocus
    offsets = torch.from_numpy(hand * np.nan_to_num(heights)).to(device)
    slopes = torch.from_numpy(hand * np.nan_to_num(plane_slopes(geometry, normal))).to(device)
    return gather_rings(spectra, offsets, slopes, optics), offsets


def _best_start(
    spectra: TileSpectra, geometry: TiltGeometry, hand: float, optics: Optics, params: CtfParams, nominal: float | None
) -> float:
    """The coarse defocus whose refined model explains the series best; the hand hardly matters to it."""
    statistics, _ = _place(spectra, geometry, hand, optics, LEVEL)
    starts = coarse_defocus(statistics, optics, params, nominal)
    scores = []
    for start in starts:
        fit = fit_defocus(statistics, start, optics, params, rounds=1)
        scores.append(float(log_likelihood(statistics, fit.model.replace(calibration=1.0), optics).sum()))
    return starts[int(np.argmax(scores))]


def _solve(
    spectra: TileSpectra, geometry: TiltGeometry, hand: float, start: float, optics: Optics, params: CtfParams
) -> _Solution:
    statistics, offsets = _place(spectra, geometry, hand, optics, LEVEL)
    fit = fit_defocus(statistics, start, optics, params)
    inclination = LEVEL
    if params.inclination and len(geometry) > 2:
        inclination = fit_inclination(spectra, statistics, fit.model, geometry, hand, optics, params)
        if inclination.significant:
            statistics, offsets = _place(spectra, geometry, hand, optics, inclination)
            fit = fit_defocus(statistics, float(fit.model.defocus.median()), optics, params)
    return _Solution(statistics=statistics, offsets=offsets, fit=fit, inclination=inclination)


def _compare_hands(solutions: dict[float, _Solution], given: float, optics: Optics, params: CtfParams) -> HandTest:
    """The hand that explains the spectra better, unless the tilts disagree about it."""
    calibration = min(s.fit.model.calibration for s in solutions.values())
    plus, minus = (
        log_likelihood(solutions[sign].statistics, solutions[sign].fit.model.replace(calibration=calibration), optics)
        for sign in (1.0, -1.0)
    )
    difference = (plus - minus).cpu().numpy()
    total = float(difference.sum())
    sigmas = agreement_sigmas(difference)
    # twice the ratio that so many standard deviations of pure noise give, as the spectra hold more than noise
    enough = abs(total) >= params.decision_sigmas**2
    decided = enough and sigmas * total > 0 and abs(sigmas) >= params.decision_sigmas
    return HandTest(
        hand=math.copysign(1.0, total) if decided else given,
        decided=decided,
        log_likelihood_ratio=total,
        sigmas=abs(sigmas),
    )


def _failed(fit: DefocusFit) -> tuple[int, ...]:
    return tuple(int(t) for t in torch.nonzero(~(fit.evidence >= LEAST_EVIDENCE)).reshape(-1))


def _fits(
    spectra: TileSpectra, solution: _Solution, failed: tuple[int, ...], optics: Optics, params: CtfParams
) -> tuple[tuple[CtfFit, ...], CtfCurves]:
    fit = solution.fit
    defocus, astigmatism = fit.model.defocus.clone(), fit.model.astigmatism.clone()
    good = [t for t in range(len(defocus)) if t not in failed]
    for t in failed:
        defocus[t], astigmatism[t] = fit.expected[t], astigmatism[good].mean(0)
    curves, samples = measure_curves(
        spectra, solution.offsets, fit.model.replace(defocus=defocus, astigmatism=astigmatism), optics
    )
    scores, resolutions = ring_score(curves, samples), fitted_resolution(curves)
    tie = 4.0 / params.astigmatism_spread_angstrom**2 if len(defocus) > 1 else 0.0
    known = fit.information + torch.diag(fit.information.new_tensor([0.0, tie, tie]))
    known[:, 0, 0] += fit.precision if len(defocus) > 1 else 0.0
    out = []
    for t in range(len(defocus)):
        half = float(torch.linalg.vector_norm(astigmatism[t]))
        lost = t in failed
        variance = fit.spread**2 if lost else float(torch.linalg.inv(known[t])[0, 0])
        out.append(
            CtfFit(
                defocus_u_angstrom=float(defocus[t]) + half,
                defocus_v_angstrom=float(defocus[t]) - half,
                astigmatism_angle_deg=math.degrees(
                    0.5 * math.atan2(float(astigmatism[t, 1]), float(astigmatism[t, 0]))
                ),
                defocus_sigma_angstrom=math.sqrt(variance),
                score=math.nan if lost else float(scores[t]),
                max_resolution_angstrom=math.nan if lost else float(resolutions[t]),
            )
        )
    return tuple(out), curves


def _caveats(
    fits: tuple[CtfFit, ...],
    failed: tuple[int, ...],
    test: HandTest,
    given: float,
    inclination: Inclination,
    nominal: float | None,
    params: CtfParams,
) -> tuple[str, ...]:
    out = _value_caveats(fits, failed, nominal, params)
    if not test.decided:
        out.append(
            f"The images do not tell the hand ({test.sigmas:.1f} standard errors); {given:+.0f} was kept. "
            "Compare with another series of the same microscope."
        )
    elif test.hand != given:
        out.append(
            f"The defocus gradient says hand {test.hand:+.0f} ({test.sigmas:.1f} standard errors), not {given:+.0f} as "
            "given. Either the given hand or the direction of the tilt axis (by 180 degrees) is wrong."
        )
    if inclination.significant:
        out.append(
            f"The specimen plane is inclined to the tilt geometry by {inclination.x_deg:.1f} +- "
            f"{inclination.x_sigma_deg:.1f} degrees about x and {inclination.y_deg:.1f} +- "
            f"{inclination.y_sigma_deg:.1f} about y; the fit accounts for it."
        )
    return tuple(out)


def _value_caveats(
    fits: tuple[CtfFit, ...], failed: tuple[int, ...], nominal: float | None, params: CtfParams
) -> list[str]:
    out = []
    if failed:
        listed = ", ".join(str(t + 1) for t in failed)
        out.append(f"No Thon rings in image {listed} (in order of tilt); the defocus is that of the neighbours.")
    good = np.array([f.defocus_angstrom for t, f in enumerate(fits) if t not in failed])
    edges = (params.minimum_defocus_angstrom, params.maximum_defocus_angstrom)
    if any(abs(d - edge) < 100.0 for d in good for edge in edges):
        out.append(
            f"A defocus lies at the end of the searched range ({edges[0]:.0f} to {edges[1]:.0f} A); widen the range."
        )
    if nominal is not None and abs(float(np.median(good)) - nominal) > _NOMINAL_TOLERANCE:
        out.append(
            f"The fitted defocus ({np.median(good):.0f} A) is far from the nominal one ({nominal:.0f} A). "
            "Check the pixel size, and look at the fits."
        )
    return out
