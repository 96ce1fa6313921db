r"""How thick the specimen is, from the nodes that its depth leaves in the rings [1]_.

Matter spread evenly over a depth t along the beam scatters at all defocus values within t, so that the rings keep
:math:`\mathrm{sinc}(\xi) = \sin\xi / \xi` with :math:`\xi = \pi\lambda k^2 t`: they vanish at the node
:math:`k = 1/\sqrt{\lambda t}` and stand turned over beyond it. At tilts t grows with the path through the specimen.

References
----------
.. [1] Elferich, Kong, Zottig & Grigorieff, eLife 13:RP97227 (2024), doi:10.7554/eLife.97227
"""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import ThicknessFit
from eucentric.ctf.ring_model import RingModel, RingSums
from eucentric.ctf.ring_statistics import RingStatistics
from eucentric.ctf.votes import agreement_sigmas
from eucentric.models import Optics
from eucentric.typing import FloatArray

_COARSE_STEP = 100.0  # A
_FINE_STEP = 25.0
_THINNEST = 200.0
# Some thirty bodies make the rings of a small field: the spread of even depths is known to 0.45 / sqrt(bodies) of itself.
_SCATTER = 0.45 / 30**0.5
_AGREEMENT = 2.0  # standard errors: steep tilts are too blurred to vote, so the sum of the evidence counts for more
_LARGEST_SIGMA = 0.2  # of the thickness; less sure than this is not determined


def through_depth(
    statistics: RingStatistics, depths_angstrom: Float[Tensor, " tilt"], optics: Optics
) -> RingStatistics:
    """The statistics, with rings expected to fade and turn over as the depth along the beam makes them."""
    return replace(statistics, blur=statistics.blur * depth_transfer(statistics, depths_angstrom, optics))


def depth_transfer(
    statistics: RingStatistics, depths_angstrom: Float[Tensor, " tilt"], optics: Optics
) -> Float[Tensor, "tilt shell"]:
    """What the depth along the beam leaves of the rings; negative where they stand turned over."""
    left: Tensor = torch.sinc(optics.wavelength_angstrom * statistics.bins.frequency**2 * depths_angstrom[:, None])
    return left


def fit_thickness(
    statistics: RingStatistics,
    model: RingModel,
    paths: Float[Tensor, " tilt"],
    optics: Optics,
    params: CtfParams,
) -> ThicknessFit:
    """Profile of the log-likelihood over the thickness; background and strength of the rings follow every trial.

    Parameters
    ----------
    paths : length of each tilt's path through the specimen over its thickness, 1 / cos(tilt) for a level specimen

    Returns
    -------
    The most likely thickness. It is determined where its first node lies inside the band at the shortest path, where it
    is not the thickest that is tried, and where the rings beyond the nodes are better explained turned over than missing,
    in agreement between the tilts.
    """
    seen = torch.isfinite(paths) & (statistics.tiles > 0)
    used = seen.cpu().numpy()
    shortest = float(paths[seen].min())
    edge = _thinnest_visible(statistics, optics) / shortest
    least = max(_THINNEST, 0.5 * edge)  # thinner ones are all alike
    trials = np.concatenate([[0.0], np.arange(least, max(params.maximum_thickness_angstrom, edge) + 1, _COARSE_STEP)])
    scores = _scores(statistics, model, paths, trials, optics)
    best = max(least, float(trials[int(np.argmax(scores[:, used].sum(1)))]))
    last = float(trials[-1])
    fine = np.arange(max(least, best - 4 * _COARSE_STEP), min(best + 4 * _COARSE_STEP, last), _FINE_STEP)
    trials, first = np.unique(np.concatenate([trials, fine]), return_index=True)
    scores = np.concatenate([scores, _scores(statistics, model, paths, fine, optics)])[first][:, used]
    profile = scores.sum(1)
    peak, sigma = _peak(trials, profile)
    without = int(np.argmax(np.where(trials <= edge, profile, -np.inf)))
    rise = scores[int(np.argmax(profile))] - scores[without]
    sure = params.decision_sigmas
    sigma = math.hypot(sigma, _SCATTER * peak)
    determined = (
        edge < peak < last - _FINE_STEP
        and float(rise.sum()) > sure**2
        and (len(rise) < 3 or agreement_sigmas(rise) > _AGREEMENT)
        and sigma < _LARGEST_SIGMA * peak
    )
    return ThicknessFit(
        thickness_angstrom=peak if determined else math.nan,
        sigma_angstrom=sigma if determined else math.nan,
        determined=determined,
        likeliest_angstrom=peak,
        smallest_visible_angstrom=edge,
        evidence=float(rise.sum()),
        trials_angstrom=trials,
        log_likelihood=profile - profile.max(),
    )


def _thinnest_visible(statistics: RingStatistics, optics: Optics) -> float:
    """Path in A through the specimen whose first node lies at the end of the band."""
    finest: float = float(statistics.bins.frequency[-1])
    return float(1.0 / (optics.wavelength_angstrom * finest * finest))


def most_likely_plane(
    statistics: RingStatistics,
    model: RingModel,
    planes: dict[float, Float[Tensor, " tilt"]],
    beliefs: dict[float, float],
    optics: Optics,
    params: CtfParams,
) -> float:
    """Which of several planes explains the nodes best, at its own best thickness.

    Parameters
    ----------
    planes : paths of each tilt through the specimen, as for :func:`fit_thickness`, by inclination in degrees
    beliefs : log-probability of each
    """
    edge = _thinnest_visible(statistics, optics)
    trials = np.arange(max(_THINNEST, 0.5 * edge), max(params.maximum_thickness_angstrom, edge) + 1, 2 * _COARSE_STEP)
    total = {
        angle: float(_scores(statistics, model, paths, trials, optics).sum(1).max()) + beliefs[angle]
        for angle, paths in planes.items()
    }
    return max(total, key=lambda angle: total[angle])


def _scores(
    statistics: RingStatistics, model: RingModel, paths: Float[Tensor, " tilt"], trials: FloatArray, optics: Optics
) -> FloatArray:
    """(trial, tilt) log-likelihood."""
    known = torch.nan_to_num(paths, nan=1.0)
    sums = RingSums.build(statistics, model, optics)
    out = []
    for trial in trials:
        blur = statistics.blur * depth_transfer(statistics, float(trial) * known, optics)
        out.append(sums.log_likelihood(sums.fit_curves(model, blur, rounds=2)).cpu().numpy())
    return np.stack(out)


def _peak(trials: FloatArray, profile: FloatArray) -> tuple[float, float]:
    """Place and standard deviation of the maximum, from a parabola through the points a few units below it."""
    best = int(np.argmax(profile))
    near = (profile > profile[best] - 2.0) & (np.abs(trials - trials[best]) < 4 * _COARSE_STEP)
    if near.sum() < 4:
        near[max(0, best - 2) : best + 3] = True
    bend, slope, _ = np.polyfit(trials[near] - trials[best], profile[near], 2)
    if not bend < 0:
        return float(trials[best]), math.inf
    shift = float(np.clip(-slope / (2 * bend), -_COARSE_STEP, _COARSE_STEP))
    return float(trials[best]) + shift, float(math.sqrt(-0.5 / bend))
