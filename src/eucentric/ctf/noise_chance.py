r"""How likely noise alone is to look as much like Thon rings as a fit does, all that was tried being counted.

Rings at one fixed place stand E standard deviations out of noise with the probability of a normal distribution. The
search takes the best of many places: a band :math:`W = \lambda (k_2^2 - k_1^2)` resolves :math:`2 W \Delta D` of them in
a range :math:`\Delta D` of defocus, and the shape of the rings is fitted as well. The sum over the trials of the
chance of each is an upper bound of the chance of the best (Bonferroni's inequality).
"""

import math

import numpy as np
from scipy.stats import chi2

from eucentric.ctf.fit_defocus import SEARCH_REACH
from eucentric.ctf.params import CtfParams
from eucentric.ctf.ring_model import MODULATION_TERMS
from eucentric.ctf.tile_spectra import SpectrumBins
from eucentric.models import Optics
from eucentric.typing import FloatArray

LARGEST_CHANCE = 1e-4
"""Fits that noise beats more often than this show no rings: one image of noise in ten thousand would pass."""
_HANDS = 2


def noise_chance(evidence: FloatArray, bins: SpectrumBins, optics: Optics, params: CtfParams) -> float:
    """Upper bound of the chance that noise gives the k most evident images at least their evidence, for the best k.

    Parameters
    ----------
    evidence : (image,) standard deviations of :func:`eucentric.ctf.fit_defocus.ring_evidence`

    Returns
    -------
    Probability, 1 at most. Images of a series share their region of defocus, astigmatism, phase shift and hand, and the
    shape of their rings, whose non-negative terms count as half a degree of freedom each.
    """
    count = len(evidence)
    band = optics.wavelength_angstrom * float(bins.frequency[-1] ** 2 - bins.frequency[0] ** 2)
    whole = params.maximum_defocus_angstrom - params.minimum_defocus_angstrom
    near = min(whole, 2 * SEARCH_REACH * params.defocus_spread_angstrom)
    own = _resolved(band, near)
    shared = whole / near * _resolved(band / math.sqrt(2), params.maximum_astigmatism_angstrom) ** 2
    if params.phase_shift == "fit":
        low, high = params.phase_shift_range_deg
        shared *= 1 + (high - low) / 45.0  # quarter turns of the rings
    if count > 1:
        shared *= _HANDS
    strongest = np.sort(np.clip(np.asarray(evidence, dtype=np.float64), 0.0, None))[::-1]
    number = np.arange(1, count + 1)
    choices = np.array([math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in number])
    alone = chi2.logsf(np.cumsum(strongest**2), number + (MODULATION_TERMS - 1) / 2)
    logs = math.log(count) + math.log(shared) + choices + number * math.log(own) + alone
    return float(np.exp(min(0.0, logs.min())))


def _resolved(band: float, width: float) -> float:
    """Trials that a band of ring rates (1/A) tells apart in `width` A of defocus."""
    return max(1.0, 2 * band * width)
