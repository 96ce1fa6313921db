"""Alignment by gold beads: from a coarse geometry, or none, to a bundle adjustment of their centres."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.bundle_adjustment import BundleResult, adjust_bundle
from eucentric.alignment.bundle_model import BundleModel
from eucentric.alignment.register_beads import match_beads_in_rounds
from eucentric.alignment.track_beads import BeadTracks, track_beads
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Indices, Tracks
from eucentric.signal.bead_series import detect_beads_in_series
from eucentric.typing import FloatArray

FEWEST_BEADS = 4
"""In an image: three fix its shift and rotation, the fourth tells when one of them is wrong."""
_FIRST_TOLERANCE = 1.0  # radii: shifts and axis are right by then, tilt angles and deformation are not yet in
_LAST_TOLERANCE = 0.4  # radii: what is farther from the whole model is something else
_FALSE_RATIO = 4.0  # median error of a false bead against that of a usual one
_FALSE_RADII = 0.05  # and at least this part of the radius, which no good bead of a good model reaches


class TooFewBeadsError(ProcessingError):
    """The images show too few gold beads to be aligned by them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadAlignment:
    """A tilt series aligned by its beads."""

    geometry: TiltGeometry
    warp: ImageWarp | None
    """Local deformation to be used with the geometry; None where the specimen is taken as rigid."""
    tracks: Tracks
    """What the adjustment was given, rejected beads removed."""
    bundle: BundleResult
    scores: FloatArray
    """(observation,), correlation with the mean bead; 1 for tracks that were given."""
    beads_per_tilt: Indices
    """(tilt,), with a part in the answer."""
    rejected_points_angstrom: FloatArray
    """(point, 3): what looked like a bead but does not move like the others: ice, dirt, beads that wander."""
    radius_angstrom: float
    """Of the mean bead; 0 for tracks that were given."""
    caveats: tuple[str, ...]


def align_by_beads(
    images: Float[Tensor, "tilt y x"],
    start: TiltGeometry,
    *,
    pixel_size: float,
    pre_exposures: ArrayLike | None = None,
    diameter_angstrom: float | None = None,
    tracks: Tracks | None = None,
    model: BundleModel | None = None,
    hold_axis: bool = False,
    max_shift_fraction: float = 0.3,
    progress: Callable[[float, str], None] | None = None,
) -> BeadAlignment:
    """Find beads, match them, and solve for geometry and deformation from their centres.

    Beads are detected without a geometry. Matching starts from the shifts given or from those that the beads
    themselves vote for, whichever joins more detections; rounds of triangulation and adjustment follow. Then every bead is
    centred where it should be seen, the model of the series is chosen on held-out beads, and both are repeated under that
    model, with its deformation. Points whose observations no fit to the others predicts are rejected.

    Parameters
    ----------
    images : (tilt, y, x), ascending tilt angle, dark tilts left out, as recorded (beads dark), motion corrected
    start : of the same tilts; the axis right to some ten degrees, shifts to `max_shift_fraction` of the field, or zero
    pixel_size : A
    pre_exposures : (tilt,), e/A^2 before each image; None, or one number for all, leaves the specimen rigid
    diameter_angstrom : of the beads; none searches 40 to 300 A
    tracks : tracked or corrected by hand; they replace detection and tracking, and none of them is rejected
    model : unknowns of the adjustment; None chooses them on held-out beads
    hold_axis : the tilt axis stays where the start has it
    max_shift_fraction : part of the image by which near tilts may be displaced
    progress : called with the part done and what is being done

    Raises
    ------
    ShapeError : images and start of different length
    TooFewBeadsError : fewer than four beads in most tilts
    InputError : as :func:`eucentric.signal.beads.detect_beads` and :func:`adjust_bundle`
    """
    if images.ndim != 3 or len(images) != len(start):
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} and a geometry of {len(start)} tilts were given; expected one each."
        )
    solve = _Solver((images.shape[-2], images.shape[-1]), pixel_size, _known(pre_exposures), hold_axis)
    tell = progress or (lambda _part, _text: None)
    if tracks is not None:
        if not len(tracks):
            raise InputError("The tracks given hold no observation. Mark beads, or let them be tracked.")
        return _answer(solve(tracks, start, model), tracks, np.ones(len(tracks)), np.zeros((0, 3)), 0.0)
    tell(0.05, "beads")
    found = detect_beads_in_series(images, pixel_size=pixel_size, diameter_angstrom=diameter_angstrom)
    _require([len(place) for place in found.positions_px], "detected")
    tell(0.4, "matching of beads")
    matched = match_beads_in_rounds(
        found.positions_px,
        start,
        pixel_size=pixel_size,
        image_shape=solve.shape,
        radius_px=found.radius_px,
        reach_fraction=max_shift_fraction,
        solve=lambda linked, geometry: solve(linked, geometry, BundleModel()),
    )
    tell(0.6, "centres of beads")
    first = track_beads(images, matched, pixel_size=pixel_size, detections=found, tolerance=_FIRST_TOLERANCE)
    _require(np.bincount(first.tracks.tilts, minlength=len(images)), "matched")
    result, _, _ = _solved(solve, first, matched, model)
    tell(0.8, "centres of beads, with deformation")
    last = track_beads(
        images,
        result.geometry,
        pixel_size=pixel_size,
        warp=result.warp,
        detections=found,
        tolerance=_LAST_TOLERANCE,
    )
    tried = result.tried
    result, kept, rejected = _solved(solve, last, _with_angles_of(matched, result.geometry), result.model)
    tell(1.0, "beads aligned")
    return _answer(
        replace(result, tried=tried),
        last.tracks.take(kept),
        last.scores[kept],
        rejected,
        last.radius_angstrom,
    )


def _known(pre_exposures: ArrayLike | None) -> FloatArray | None:
    """Exposures that tell one image from another."""
    if pre_exposures is None:
        return None
    values = np.asarray(pre_exposures, dtype=np.float64)
    return values if values.size and float(np.ptp(values)) > 0 else None


@dataclass(frozen=True, slots=True)
class _Solver:
    shape: tuple[int, int]
    pixel_size: float
    doses: FloatArray | None
    hold_axis: bool

    def __call__(self, tracks: Tracks, start: TiltGeometry, model: BundleModel | None) -> BundleResult:
        return adjust_bundle(
            tracks,
            start,
            image_shape=self.shape,
            pixel_size=self.pixel_size,
            model=model,
            doses=self.doses,
            hold_axis=self.hold_axis,
        )


def _require(counts: ArrayLike, verb: str) -> None:
    number = np.asarray(counts)
    enough = int((number >= FEWEST_BEADS).sum())
    if 2 * enough <= len(number):
        raise TooFewBeadsError(
            f"Only {enough} of {len(number)} tilts have {FEWEST_BEADS} or more gold beads that could be {verb} "
            f"(median {np.median(number):.0f}). Align without beads, or give the diameter of the beads if there are any."
        )


def _solved(
    solve: _Solver, found: BeadTracks, start: TiltGeometry, model: BundleModel | None
) -> tuple[BundleResult, Indices, FloatArray]:
    """Adjustment, the observations it was made from, and the points (n, 3) that were rejected."""
    result = solve(found.tracks, start, model)
    false = _false_points(found.tracks, result, found.radius_angstrom)
    kept = np.flatnonzero(~np.isin(found.tracks.points, false))
    rejected = found.points_angstrom[false]
    if len(false):
        tried = result.tried
        again = solve(found.tracks.take(kept), _with_angles_of(start, result.geometry), result.model)
        result = replace(again, tried=tried)
    return result, kept, rejected


def _with_angles_of(given: TiltGeometry, found: TiltGeometry) -> TiltGeometry:
    """Shifts and axis as found; what the adjustment expects near its start, as given."""
    return found.replace(y_tilt_deg=given.y_tilt_deg, x_tilt_deg=given.x_tilt_deg, magnification=given.magnification)


def _false_points(tracks: Tracks, result: BundleResult, radius_angstrom: float) -> Indices:
    """Names of points whose median held-out error is far beyond that of the others."""
    error = np.linalg.norm(result.leave_one_out_angstrom, axis=1)
    medians = np.array([np.median(error[tracks.points == name]) for name in result.points])
    limit = max(_FALSE_RATIO * float(np.median(medians)), _FALSE_RADII * radius_angstrom)
    bad = medians > limit
    # where most are bad there is nothing to measure them by
    return result.points[bad] if 2 * bad.sum() < len(bad) else result.points[:0]


def _answer(
    result: BundleResult, tracks: Tracks, scores: FloatArray, rejected: FloatArray, radius: float
) -> BeadAlignment:
    weighty = result.weights > 0
    beads = np.bincount(tracks.tilts[weighty], minlength=len(result.geometry)).astype(np.int64)
    caveats = list(result.caveats)
    few = np.flatnonzero(beads < FEWEST_BEADS)
    if len(few):
        angles = ", ".join(f"{result.geometry.y_tilt_deg[t]:.1f}" for t in few)
        caveats.append(f"Fewer than {FEWEST_BEADS} beads hold the tilts at {angles} degrees; look at them.")
    if len(rejected):
        caveats.append(f"{len(rejected)} points that look like beads do not move with the others and were left out.")
    return BeadAlignment(
        geometry=result.geometry,
        warp=result.warp,
        tracks=tracks,
        bundle=result,
        scores=scores,
        beads_per_tilt=beads,
        rejected_points_angstrom=rejected,
        radius_angstrom=radius,
        caveats=tuple(caveats),
    )
