"""Bundle adjustment: the geometry of a series, and the deformation of its specimen, from tracks of points."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.alignment.bundle_choice import TriedModel, choose_model, fitted
from eucentric.alignment.bundle_model import BundleModel, BundlePriors
from eucentric.alignment.bundle_points import find_moved, inflated
from eucentric.alignment.bundle_problem import Fit, TrackSet
from eucentric.errors import InputError
from eucentric.fitting.held_out import leave_one_out
from eucentric.fitting.losses import Biweight
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Indices, Tracks
from eucentric.typing import FloatArray

_GRID = (7, 7)
_FEW = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleResult:
    """What tracks say about a tilt series."""

    geometry: TiltGeometry
    """Every tilt that was given; one without observations stays where the start had it."""
    warp: ImageWarp | None
    """Deformation of the specimen as fields over the images, to be used with `geometry`; None where the specimen is taken as rigid."""
    rigid_geometry: TiltGeometry
    """The best geometry without deformation, for programs that know none; `geometry` itself where `warp` is None."""
    model: BundleModel
    tried: tuple[TriedModel, ...]
    """Models compared on held-out points, in the order tried; empty where the model was given."""
    points: Indices
    """(point,), names, ascending."""
    points_angstrom: FloatArray
    """(point, 3), in the specimen's frame, undeformed."""
    residuals_angstrom: FloatArray
    """(observation, 2), measured less predicted."""
    leave_one_out_angstrom: FloatArray
    """(observation, 2), measured less predicted by the fit to all other observations (for kept weights)."""
    weights: FloatArray
    """(observation,), 0 to 1, of the robust loss; those of points that move are lowered."""
    outliers: Indices
    """Rows of the observations that carry no weight."""
    moved: Indices
    """Names of points that move against the others; their observations count less."""
    variance_factor: float
    """By how much residuals vary more than the covariances given say."""
    shift_sigma_angstrom: FloatArray
    """(tilt, 2), one standard deviation."""
    axis_sigma_deg: FloatArray
    """(tilt,); 0 where held."""
    tilt_sigma_deg: FloatArray
    """(tilt,); 0 where held."""
    caveats: tuple[str, ...]

    @property
    def leave_one_out_rms_angstrom(self) -> float:
        """Root mean square length of the leave-one-out errors of all observations but outliers."""
        kept = np.setdiff1d(np.arange(len(self.weights)), self.outliers)
        lengths = np.linalg.norm(self.leave_one_out_angstrom[kept], axis=1)
        return float(np.sqrt((lengths**2).mean())) if len(kept) else 0.0


def adjust_bundle(
    tracks: Tracks,
    start: TiltGeometry,
    *,
    image_shape: tuple[int, int],
    pixel_size: float,
    model: BundleModel | None = None,
    doses: ArrayLike | None = None,
    tilt_prior_deg: float = 0.1,
    x_tilt_prior_deg: float = 0.2,
    deformation_prior_angstrom: float = 30.0,
    down_weight_moved: bool = True,
    hold_axis: bool = False,
) -> BundleResult:
    """Most probable geometry, points and deformation for tracks of points.

    Each observation counts by its covariance, times one variance factor found from the residuals, times a robust
    weight. Translation, rotation and size of the specimen are no property of the series: the answer is the one nearest to the start.

    Parameters
    ----------
    tracks : observations; `tracks.tilts` are rows of `start`
    start : geometry of every tilt, within tens of pixels of the truth
    image_shape, pixel_size : (y, x), and A
    model : which unknowns; None starts from what is expected and compares simpler and richer models on held-out points
    doses : (tilt,), e/A^2 accumulated when each image was taken; None leaves the specimen rigid unless `model` says
        otherwise, and the order of tilts then stands for dose
    tilt_prior_deg, x_tilt_prior_deg : standard deviation of single tilt angles and x-tilts about the start
    deformation_prior_angstrom : expected displacement by each term of the deformation at the edge of the field
    down_weight_moved : points that move against the others count less; False only names them
    hold_axis : the tilt axis stays where the start has it, whatever the model says

    Raises
    ------
    InputError : no observations, tilts outside `start`, a prior that is not positive, or doses of another number
    ProcessingError : unknowns that nothing fixes
    """
    _check(tracks, start, doses, (pixel_size, tilt_prior_deg, x_tilt_prior_deg, deformation_prior_angstrom))
    field = float(max(image_shape)) * pixel_size
    priors = BundlePriors(
        tilt_deg=tilt_prior_deg,
        x_tilt_deg=x_tilt_prior_deg,
        shift_angstrom=0.5 * field,
        deformation_angstrom=deformation_prior_angstrom,
    )
    dose = np.arange(len(start), dtype=np.float64) if doses is None else np.asarray(doses, dtype=np.float64)
    data = TrackSet.build(tracks, start, dose, priors, half_field=0.5 * field, floor_angstrom=0.01 * pixel_size)
    tried: tuple[TriedModel, ...] = ()
    if model is None:
        model, tried = choose_model(data, deformable=doses is not None, hold_axis=hold_axis)
    chosen = model.replace(axis="fixed") if hold_axis else model
    fit = fitted(data, chosen)
    moved = find_moved(data, fit)
    if len(moved) and down_weight_moved:
        data = inflated(data, fit, moved)
        fit = fitted(data, chosen, near=fit)
    rigid = fit
    if chosen.deformation_order:
        rigid = fitted(data, chosen.replace(deformation_order=0), near=fit)
    return _result(data, fit, rigid, tried, moved, image_shape, pixel_size)


def _check(tracks: Tracks, start: TiltGeometry, doses: ArrayLike | None, positive: tuple[float, ...]) -> None:
    if not len(tracks):
        raise InputError("A bundle adjustment was given no observations. Find or mark points in the images first.")
    if tracks.tilts.min() < 0 or tracks.tilts.max() >= len(start):
        raise InputError(
            f"The tracks name tilts {tracks.tilts.min()} to {tracks.tilts.max()}, but the geometry has {len(start)}. "
            "Number the tilts from 0 in the order of the geometry."
        )
    if doses is not None and np.shape(doses) != (len(start),):
        raise InputError(f"Doses of shape {np.shape(doses)} were given for {len(start)} tilts; expected one a tilt.")
    if not all(np.isfinite(value) and value > 0 for value in positive):
        raise InputError(f"Pixel size and standard deviations must be positive; got {positive}.")


def _result(
    data: TrackSet,
    fit: Fit,
    rigid: Fit,
    tried: tuple[TriedModel, ...],
    moved: Indices,
    image_shape: tuple[int, int],
    pixel_size: float,
) -> BundleResult:
    problem, solution = fit.problem, fit.solution
    linearised = problem.linearise(solution.common, solution.points)
    back = np.linalg.inv(problem.whitening)
    left_out = np.einsum("oij,oj->oi", back, leave_one_out(problem.structure, linearised, solution))
    sigma = fit.local_sigma()
    answer = fit.answer(image_shape, pixel_size, _GRID)
    alone = answer if rigid is fit else rigid.answer(image_shape, pixel_size, _GRID)
    reach = Biweight().reach * np.sqrt(solution.variance_factor)
    lengths = np.linalg.norm(solution.residuals, axis=1)
    return BundleResult(
        geometry=answer.geometry,
        warp=answer.warp,
        rigid_geometry=alone.geometry,
        model=fit.model,
        tried=tried,
        points=data.names,
        points_angstrom=answer.points,
        residuals_angstrom=np.einsum("oij,oj->oi", back, solution.residuals),
        leave_one_out_angstrom=left_out,
        weights=solution.weights * data.reliability,
        outliers=np.flatnonzero((solution.weights <= 0.0) | (lengths > reach)).astype(np.int64),
        moved=moved,
        variance_factor=solution.variance_factor,
        shift_sigma_angstrom=sigma[:, :2],
        axis_sigma_deg=sigma[:, 2],
        tilt_sigma_deg=sigma[:, 3],
        caveats=_caveats(data, fit, moved),
    )


def _caveats(data: TrackSet, fit: Fit, moved: Indices) -> tuple[str, ...]:
    out = []
    seen = np.bincount(data.tracks.tilts[fit.solution.weights > 0], minlength=len(data.start))
    few = np.flatnonzero(seen < _FEW)
    if len(few):
        angles = ", ".join(f"{data.start.y_tilt_deg[t]:.1f}" for t in few)
        out.append(
            f"Fewer than {_FEW} points are seen at the tilts {angles} degrees; they stay near the geometry given."
        )
    if len(data.names) < 4:
        out.append(f"Only {len(data.names)} points carry the alignment; a wrong one would go unnoticed.")
    if len(moved):
        out.append(f"Points {', '.join(str(name) for name in moved)} move against the others and count less.")
    if not fit.solution.settled:
        out.append("The adjustment had not settled after its last round.")
    return tuple(out)
