"""Points that move against the others."""

from dataclasses import replace

import numpy as np

from eucentric.alignment.bundle_problem import Fit, TrackSet
from eucentric.fitting.held_out import leave_one_out
from eucentric.fitting.losses import RAYLEIGH_MEDIAN
from eucentric.models.tracks import Indices
from eucentric.typing import FloatArray

_ENOUGH = 5
_FOLD = 2.0
_STRANGE = 4.0


def point_scales(data: TrackSet, fit: Fit) -> FloatArray:
    """(point,): leave-one-out error of each point's observations in standard deviations of all, by the median length."""
    linearised = fit.problem.linearise(fit.solution.common, fit.solution.points)
    left_out = np.linalg.norm(leave_one_out(fit.problem.structure, linearised, fit.solution), axis=1)
    length = left_out / np.sqrt(fit.solution.variance_factor)
    out = np.ones(len(data.names))
    for p in range(len(out)):
        mine = length[data.rows == p]
        if len(mine) >= _ENOUGH:
            out[p] = float(np.median(mine)) / RAYLEIGH_MEDIAN
    return out


def find_moved(data: TrackSet, fit: Fit) -> Indices:
    """Names of points whose errors as a whole stand out: twice those of the median point, and far outside the spread.

    A bead that slides or a patch that shows several depths has large errors about any fixed place, in most tilts: the
    median over its observations, each left out of the fit, tells.
    """
    scales = point_scales(data, fit)
    middle = float(np.median(scales))
    logs = np.log(np.maximum(scales, 1e-3) / max(middle, 1e-3))
    spread = max(1.4826 * float(np.median(np.abs(logs))), 0.1)
    return np.asarray(data.names[(scales > _FOLD * middle) & (logs > _STRANGE * spread)], dtype=np.int64)


def inflated(data: TrackSet, fit: Fit, moved: Indices) -> TrackSet:
    """The tracks with the observations of moved points counted by their own larger variance."""
    scales = point_scales(data, fit)
    factor = np.where(np.isin(data.names, moved), (float(np.median(scales)) / np.maximum(scales, 1e-3)) ** 2, 1.0)
    return replace(data, reliability=data.reliability * factor[data.rows])
