"""CTF of a tilt series: the stage's entrance."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.check_inputs import check_series, nominal_median
from eucentric.ctf.describe_fit import hand_caveats, inclination_caveats, outside_sentence, value_caveats
from eucentric.ctf.fit_defocus import Start, drift_precision
from eucentric.ctf.noise_chance import LARGEST_CHANCE, noise_chance
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfCurves, CtfResult
from eucentric.ctf.search_outside import defocus_outside
from eucentric.ctf.solve_series import (
    Solution,
    View,
    best_start,
    compare_hands,
    likely_pixel_scale,
    measure_thickness,
    measured_plane,
    solve_series,
    tilts_without_rings,
    used_hand,
)
from eucentric.ctf.spectrum_curves import fitted_resolution, measure_curves, ring_score
from eucentric.ctf.tile_spectra import TileSpectra, measure_series_spectra
from eucentric.errors import ProcessingError
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Specimen
from eucentric.typing import FloatArray

_LEAST_SHARE = 0.1  # of the tilts must show rings: fewer are no series


def estimate_series_ctf(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    optics: Optics,
    params: CtfParams | None = None,
    hand: float = -1.0,
    nominal_defocus_angstrom: FloatArray | None = None,
    acquisition: ArrayLike | None = None,
    specimen_height_angstrom: float = 0.0,
    specimen: Specimen | None = None,
    start: Sequence[CtfFit] | None = None,
) -> CtfResult:
    """Defocus and astigmatism of every tilt, fitted together with the tilt geometry; hand, plane and thickness.

    Parameters
    ----------
    images : (tilt, y, x) sums of motion-corrected frames, not dose weighted, y up
    geometry : how the specimen projects into each image
    pixel_size : A
    hand : +1 or -1, kept where neither `params.hand` nor the images tell
    nominal_defocus_angstrom : (tilt,) A, underfocus positive, NaN where unknown: a weak belief about the whole series
    acquisition : (tilt,) place of each image in the order of acquisition; None for the order of the images
    specimen_height_angstrom : A, middle of the matter above the specimen centre (p = 0) along z. Unless it is told, the
        height goes into the defocus of steep tilts.
    specimen : what was measured of its plane before, joined with what the rings tell
    start : one for each tilt, where the search begins; None searches all that the settings allow

    Returns
    -------
    One fit for each tilt, at the height of the specimen centre. A tilt without rings takes the defocus of its
    neighbours and is listed in `failed`.

    Raises
    ------
    ShapeError : images, geometry, nominal defocus and order of different lengths, or images too small
    InputError : NaN or infinity in an image, a hand other than +1 or -1, a pixel size that is not positive
    ProcessingError : rings no better than noise gives by chance, or in no more than a tenth of the tilts
    """
    params = params or CtfParams()
    order = np.asarray(range(len(images)) if acquisition is None else acquisition, dtype=np.float64)
    check_series(images, geometry, pixel_size, hand, nominal_defocus_angstrom, order)
    spectra = measure_series_spectra(images, pixel_size, params)
    nominal = nominal_median(nominal_defocus_angstrom)
    view = View(
        geometry=geometry,
        order=AcquisitionOrder.build(order, images.device),
        height_angstrom=specimen_height_angstrom,
        plane=measured_plane(specimen, params),
    )
    begin = (
        best_start(spectra, view, hand, optics, params, nominal)
        if start is None
        else Start(
            defocus_angstrom=np.array([f.defocus_angstrom for f in start]),
            phase_shift_deg=np.array([f.phase_shift_deg for f in start]),
        )
    )
    solutions = {sign: solve_series(spectra, view, sign, begin, optics, params) for sign in (1.0, -1.0)}
    test = compare_hands(solutions, view, hand, optics, params)
    used = used_hand(test, params)
    chosen = solutions[used]
    outside = defocus_outside(spectra, view, used, optics, params, chosen.fit)
    _require_rings(chosen, spectra, outside, optics, params)
    scale = likely_pixel_scale(spectra, chosen, view, used, optics, params, decided=test.decided and used == test.hand)
    chosen, thickness = measure_thickness(chosen, view, optics, params)
    failed = tilts_without_rings(chosen.fit)
    fits, curves = describe_tilts(spectra, chosen, view, failed, optics, params)
    inclination = chosen.inclination
    return CtfResult(
        fits=fits,
        failed=failed,
        hand=used,
        hand_test=test,
        inclination_x_deg=inclination.x_deg if inclination.significant else 0.0,
        inclination_y_deg=inclination.y_deg if inclination.significant else 0.0,
        inclination_x_sigma_deg=inclination.x_sigma_deg,
        inclination_y_sigma_deg=inclination.y_sigma_deg,
        thickness=thickness,
        likely_pixel_scale=scale,
        phase_shift_sigma_deg=phase_shift_sigmas(chosen, view, params),
        evidence=np.asarray(chosen.fit.evidence.cpu().numpy()),
        curves=curves,
        caveats=(
            *value_caveats(fits, failed, nominal, scale, params, outside),
            *hand_caveats(test, float(np.median(geometry.z_rot_deg)), params),
            *inclination_caveats(inclination),
        ),
        spectra=spectra,
        model=chosen.fit.model,
    )


def _require_rings(
    solution: Solution, spectra: TileSpectra, outside: float | None, optics: Optics, params: CtfParams
) -> None:
    """Refuse a series whose best fit is no better than noise gives by chance, or of which hardly a tilt shows rings."""
    evidence = solution.fit.evidence.cpu().numpy()
    count, seen = len(evidence), len(evidence) - len(tilts_without_rings(solution.fit))
    by_chance = noise_chance(evidence, spectra.bins, optics, params) > LARGEST_CHANCE
    if not by_chance and seen > _LEAST_SHARE * count:
        return
    first, last = 1 / float(spectra.bins.frequency[0]), 1 / float(spectra.bins.frequency[-1])
    found = "No tilt shows" if seen == 0 or by_chance else f"Only {seen} of {count} tilts show"
    raise ProcessingError(
        f"{found} Thon rings between {first:.0f} and {last:.1f} A that stand out of noise. "
        + (
            f"Check the pixel size, the voltage and the range of defocus ({params.minimum_defocus_angstrom:.0f} to "
            f"{params.maximum_defocus_angstrom:.0f} A), and that the images are not dose weighted, filtered or blank."
            if outside is None
            else outside_sentence(outside, params)
        )
    )


def describe_tilts(
    spectra: TileSpectra,
    solution: Solution,
    view: View,
    failed: tuple[int, ...],
    optics: Optics,
    params: CtfParams,
) -> tuple[tuple[CtfFit, ...], CtfCurves]:
    """One record for each tilt, and the curves behind them; failed tilts take what their neighbours have."""
    fit = solution.fit
    defocus, astigmatism, shift = (
        fit.model.defocus.clone(),
        fit.model.astigmatism.clone(),
        fit.model.phase_shift.clone(),
    )
    good = [t for t in range(len(defocus)) if t not in failed]
    for t in failed:
        defocus[t], astigmatism[t], shift[t] = fit.expected[t], astigmatism[good].mean(0), shift[good].mean()
    model = fit.model.replace(defocus=defocus, astigmatism=astigmatism, phase_shift=shift)
    curves, samples = measure_curves(spectra, solution.offsets, model, optics)
    scores, resolutions = ring_score(curves, samples), fitted_resolution(curves)
    covariance = _covariance(solution, view, params)
    out = []
    for t in range(len(defocus)):
        half = float(torch.linalg.vector_norm(astigmatism[t]))
        lost = t in failed
        out.append(
            CtfFit(
                defocus_u_angstrom=float(defocus[t]) + half,
                defocus_v_angstrom=float(defocus[t]) - half,
                astigmatism_angle_deg=math.degrees(
                    0.5 * math.atan2(float(astigmatism[t, 1]), float(astigmatism[t, 0]))
                ),
                phase_shift_deg=math.degrees(float(shift[t])),
                defocus_sigma_angstrom=fit.spread if lost else math.sqrt(float(covariance[t, 0, 0])),
                score=math.nan if lost else float(scores[t]),
                max_resolution_angstrom=math.nan if lost else float(resolutions[t]),
            )
        )
    return tuple(out), curves


def _covariance(solution: Solution, view: View, params: CtfParams) -> Tensor:
    """(tilt, unknown, unknown) of each tilt's unknowns, what the series knows of them included."""
    fit, count = solution.fit, len(view.geometry)
    known = fit.information.clone()
    width = known.shape[-1]
    known += 1e-12 * torch.eye(width, dtype=known.dtype, device=known.device)
    if count > 1:
        known[:, 0, 0] += fit.precision
        for part, tie in enumerate(drift_precision(params)):
            known[:, part + 1, part + 1] += tie * view.order.persistence.diagonal()
    inverse: Tensor = torch.linalg.inv(known)
    return inverse


def phase_shift_sigmas(solution: Solution, view: View, params: CtfParams) -> FloatArray:
    """(tilt,) one standard deviation of the phase shifts in degrees; zero where they are not fitted."""
    if params.phase_shift == "off":
        return np.zeros(len(view.geometry))
    return np.asarray(np.degrees(_covariance(solution, view, params)[:, 3, 3].sqrt().cpu().numpy()))
