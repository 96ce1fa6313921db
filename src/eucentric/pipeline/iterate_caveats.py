"""What an average in turns is told to beware of."""

import math

import numpy as np

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_prior import BORDER, check_prior, expected_at_border
from eucentric.averaging.results import AverageResult
from eucentric.pipeline.iterate_job import IterateJob, own_axis_of
from eucentric.pipeline.iteration_files import Iteration

EVIDENCE = "eucPriorEvidence"
"""Column of a list of particles: log of how much likelier the prior of directions makes a particle's images than any orientation."""
_SURE = 2.0
"""Deviations of its mean that evidence must stand out of zero."""


def iterate_caveats(last: Iteration, result: AverageResult, used: np.ndarray) -> tuple[str, ...]:
    """Of particles and of the resolution."""
    out = []
    if not used.all():
        out.append(f"{int((~used).sum())} of {len(used)} particles lie in no image and were left out.")
    resolution, start = result.correlation.resolution_angstrom, last.history[0].low_pass_angstrom
    if not resolution < 0.95 * start:
        out.append(
            f"The halves agree to {resolution:.1f} A, no finer than the {start:.0f} A of the start map: they may agree on the start "
            "map alone. Nothing here shows that the particles hold it."
        )
    return tuple(out)


def prior_caveats(job: IterateJob, last: Iteration, used: np.ndarray) -> tuple[str, ...]:
    """Of a prior of directions that is wrong, or that nothing speaks for."""
    params, given = job.iterate, job.opened.particles.rotations @ last.turn
    search = AlignParams(prior=params.prior, prior_sigma_deg=params.prior_sigma_deg, own_axis=own_axis_of(last.turn))
    check = check_prior(search, last.particles.rotations[used], given[used], job.average.symmetry)
    if check is None:
        return ()
    what = "normals" if params.prior == "normal" else "axes"
    other = ", may point the other way (--prior axis takes both)" if params.prior == "normal" else ""
    out = []
    if check.wrong:
        out.append(
            f"{check.at_border} of {check.particles} particles lie beyond {BORDER:g} deviations of the prior of {what}, "
            f"{BORDER * params.prior_sigma_deg:.0f} degrees, where a right one leaves {expected_at_border():.0%}. The {what} may be "
            f"known less well (--prior-sigma-deg){other}, or belong to something else."
        )
    told = last.particles.columns.get(EVIDENCE, np.full(len(used), np.nan))[used]
    told = told[np.isfinite(told)]
    if len(told) < 2:
        return tuple(out)
    mean, sigma = float(told.mean()), float(told.std(ddof=1)) / math.sqrt(len(told))
    if mean <= _SURE * sigma:
        says = "speak against" if mean < -_SURE * sigma else "do not speak for"
        out.append(
            f"The images {says} the prior of {what}: at the first search its log-likelihood ratio to any orientation was "
            f"{mean:.2f} +- {sigma:.2f} a particle, where a right one gives more than zero. The {what} may be wrong{other}, z of the "
            "reference may not be the axis meant, or too little is seen of an orientation."
        )
    return tuple(out)
