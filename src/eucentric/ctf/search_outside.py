"""Rings of a defocus outside the range that was asked for: found only to be said."""

import numpy as np

from eucentric.ctf.fit_defocus import DefocusFit, fit_defocus
from eucentric.ctf.fit_inclination import LEVEL
from eucentric.ctf.noise_chance import LARGEST_CHANCE, noise_chance
from eucentric.ctf.params import CtfParams
from eucentric.ctf.ring_model import log_likelihood
from eucentric.ctf.solve_series import View, best_start, place_rings
from eucentric.ctf.tile_spectra import TileSpectra
from eucentric.models import Optics

_USUAL = CtfParams()


def defocus_outside(
    spectra: TileSpectra, view: View, hand: float, optics: Optics, params: CtfParams, inside: DefocusFit
) -> float | None:
    """Median defocus in A of rings that lie outside the range of the settings and explain the images clearly better.

    Looked for within the usual range. None where there are none, where the settings leave nothing of it out, and where
    what was found inside the range is as good.

    Parameters
    ----------
    inside : the fit within the range
    """
    wide = params.replace(
        minimum_defocus_angstrom=min(params.minimum_defocus_angstrom, _USUAL.minimum_defocus_angstrom),
        maximum_defocus_angstrom=max(params.maximum_defocus_angstrom, _USUAL.maximum_defocus_angstrom),
    )
    if wide == params:
        return None
    start = best_start(spectra, view, hand, optics, wide, None)
    statistics, _ = place_rings(spectra, view, hand, optics, LEVEL)
    found = fit_defocus(statistics, start, view.order, optics, wide)
    middle = float(found.model.defocus.median())
    if params.minimum_defocus_angstrom < middle < params.maximum_defocus_angstrom:
        return None
    if noise_chance(np.asarray(found.evidence.cpu().numpy()), spectra.bins, optics, wide) > LARGEST_CHANCE:
        return None
    scale = min(found.model.calibration, inside.model.calibration)
    there, here = (
        float(log_likelihood(statistics, fit.model.replace(calibration=scale), optics).sum()) for fit in (found, inside)
    )
    return middle if there - here > params.decision_sigmas**2 else None
