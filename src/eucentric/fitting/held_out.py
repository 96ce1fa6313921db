"""Errors of observations that the fit has not seen: by observation, and by whole points."""

from dataclasses import replace

import numpy as np

from eucentric.fitting.robust_bundle import (
    BundleSolution,
    BundleStructure,
    Indices,
    Linearised,
    assemble,
    hat_blocks,
    solve_positive,
)
from eucentric.typing import FloatArray


def leave_one_out(structure: BundleStructure, linearised: Linearised, solution: BundleSolution) -> FloatArray:
    """Residual of every observation about the fit without it.

    e_i becomes (1 - w_i H_i)^-1 e_i, H the covariance of the prediction: exact for a linear model and kept weights.

    Parameters
    ----------
    structure, linearised : at the solution
    solution : of the fit to all observations

    Returns
    -------
    (observation, 2), whitened
    """
    weights = solution.weights / solution.variance_factor
    structure = replace(structure, prior_sigma=solution.prior_sigma)
    normal = assemble(structure, linearised, weights, solution.common, solution.points)
    covariance = solve_positive(normal.reduced, np.eye(len(solution.common)))
    hat = hat_blocks(structure, linearised, normal, covariance)
    return _without_itself(linearised.residuals, weights, hat)


def leave_points_out(
    structure: BundleStructure, linearised: Linearised, solution: BundleSolution, folds: Indices
) -> FloatArray:
    """Residuals of points that had no part in the common unknowns, each observation predicted from the point's others.

    For every fold the common unknowns are found without its points (one Gauss-Newton step with kept weights, exact for
    a linear model); then each observation of its points is predicted from the other observations of that point.

    Parameters
    ----------
    structure, linearised : at the solution
    solution : of the fit to all observations
    folds : (point,), the fold of each point

    Returns
    -------
    (observation, 2), whitened
    """
    weights = solution.weights / solution.variance_factor
    structure = replace(structure, prior_sigma=solution.prior_sigma)
    of_row = folds[structure.points]
    out = np.zeros_like(linearised.residuals)
    for fold in np.unique(of_row):
        held = np.flatnonzero(of_row == fold)
        kept = np.where(of_row == fold, 0.0, weights)
        normal = assemble(structure, linearised, kept, solution.common, solution.points)
        change = solve_positive(normal.reduced, normal.gradient)
        local = (structure.spread @ change)[structure.groups[held]]
        moved = np.einsum("oik,ok->oi", linearised.by_group[held], local)
        out[held] = _own_point_only(structure, linearised, linearised.residuals[held] - moved, weights, held, solution)
    return out


def _own_point_only(
    structure: BundleStructure,
    linearised: Linearised,
    residuals: FloatArray,
    weights: FloatArray,
    rows: Indices,
    solution: BundleSolution,
) -> FloatArray:
    """Residuals of `rows` when each point is placed from its other observations, all else held."""
    point, w, b = structure.points[rows], weights[rows], linearised.by_point[rows]
    n = len(solution.points)
    own = np.zeros((n, 3, 3))
    np.add.at(own, point, np.einsum("o,oic,oid->ocd", w, b, b))
    own += structure.point_precision * np.eye(3)
    gradient = structure.point_precision * (structure.point_mean - solution.points)
    np.add.at(gradient, point, np.einsum("o,oic,oi->oc", w, b, residuals))
    inverse = np.linalg.inv(own)
    left = residuals - np.einsum("oic,ocd,od->oi", b, inverse[point], gradient[point])
    return _without_itself(left, w, np.einsum("oic,ocd,ojd->oij", b, inverse[point], b))


def _without_itself(residuals: FloatArray, weights: FloatArray, hat: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.solve(np.eye(2) - weights[:, None, None] * hat, residuals[..., None])[..., 0])
