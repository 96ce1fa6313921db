"""The gold beads of a tilt series: one size, found in every image, joined across tilts where the geometry is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.signal.bead_links import RECURRING, BeadLinker, Indices
from eucentric.signal.beads import (
    BeadDetections,
    BeadProfile,
    above,
    decoy_scores,
    match_beads,
    measure_profile,
    no_beads,
    trusted_score,
)
from eucentric.typing import FloatArray

_PROFILE_TILTS = 7  # images that set the common size; more change the mean bead little
_WEAK = 0.6  # score that a bead needs in a tilt where its place is known
_NEAR = 0.3  # of the radius: how far from there it may lie


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadSeries:
    """The beads of a tilt series; every tuple has one entry for each tilt."""

    positions_px: tuple[FloatArray, ...]
    """(bead, 2), x and y; of predicted beads too, some of them just outside the image."""
    scores: tuple[FloatArray, ...]
    """(bead,); NaN for beads that were only predicted."""
    labels: tuple[Indices, ...]
    """(bead,): row of `points_angstrom`; -1 for a bead that was joined to none of them."""
    points_angstrom: FloatArray
    """(point, 3) in the specimen; empty without a geometry."""
    residuals_px: FloatArray
    """(point,): root mean square distance between the detections of a bead and the projections of its point."""
    radius_px: float
    halo_px: float
    profile: BeadProfile | None = None
    """The mean bead; none where there are no beads."""


def detect_beads_in_series(
    images: Float[Tensor, "tilt y x"],
    *,
    pixel_size: float,
    diameter_angstrom: float | None = None,
    geometry: TiltGeometry | None = None,
    threshold: float = 0.75,
) -> BeadSeries:
    """Find the gold beads of a tilt series.

    Size and mean bead come from a few tilts over the whole range and are common to all; so is the least score, from
    the inverted images. Fewer than three tilts in ten with a bead mean that there are none. With a geometry,
    detections are joined to points of the specimen by the triangulations that most tilts agree with; each point is then
    looked for again wherever it should be seen, and predicted (projection plus the residual of the neighbouring
    tilts) where it is not recognised. Detections that belong to no point stay if they look as good as those that do.

    Parameters
    ----------
    images : (tilt, y, x), ascending tilt angle
    pixel_size : A
    diameter_angstrom : none searches 40 to 300 A
    geometry : of the same tilts; errors up to the radius of a bead are tolerated
    threshold : least correlation with the mean bead, see :func:`detect_beads`

    Raises
    ------
    ShapeError : images and geometry of different length
    InputError : as :func:`detect_beads`
    """
    if geometry is not None and len(geometry) != len(images):
        raise ShapeError(f"There are {len(images)} images, but the geometry has {len(geometry)} tilts.")
    count = len(images)
    chosen = np.unique(
        np.linspace(0.1 * (count - 1), 0.9 * (count - 1), min(count, _PROFILE_TILTS)).round().astype(int)
    )
    profile = measure_profile(images[chosen.tolist()], pixel_size=pixel_size, diameter_angstrom=diameter_angstrom)
    if profile is None:
        return _series([no_beads()] * count, None)
    found = [match_beads(image, profile, threshold=threshold) for image in images]
    decoys = [
        decoy_scores(image, profile, one.positions_px, threshold=threshold)
        for image, one in zip(images, found, strict=True)
    ]
    least = trusted_score(np.concatenate([one.scores for one in found]), np.concatenate(decoys))
    found = [above(one, least) for one in found]
    if sum(len(one.scores) > 0 for one in found) < RECURRING * count:
        return _series([no_beads()] * count, None)
    if geometry is None:
        return _series(found, profile)
    shape = (images.shape[-2], images.shape[-1])
    linker = BeadLinker(geometry, pixel_size, shape, tolerance=profile.radius_px)
    points, owners = linker.link([one.positions_px for one in found])
    if len(points) == 0:
        return _series([no_beads()] * count, None)

    positions, scores, labels = [], [], []
    common = np.concatenate([one.scores[owner >= 0] for one, owner in zip(found, owners, strict=True)])
    residual = linker.residuals([one.positions_px for one in found], owners, points)
    expected = linker.project(points) + _filled(residual)
    for tilt, (one, owner) in enumerate(zip(found, owners, strict=True)):
        keep = (owner >= 0) | (one.scores >= np.quantile(common, 0.05))
        places, marks, names = [one.positions_px[keep]], [one.scores[keep]], [owner[keep]]
        missed = np.setdiff1d(np.arange(len(points)), owner)
        missed = missed[linker.visible(expected[tilt, missed], profile.halo_px)]
        for point in missed:
            place, score = expected[tilt, point], math.nan
            again = match_beads(images[tilt], profile, threshold=_WEAK, near_px=place[None])
            taken = np.concatenate(places)
            close = len(again.scores) > 0 and _distance(place, again.positions_px) < _NEAR * profile.radius_px
            if close and _distance(again.positions_px[0], taken) > profile.radius_px:
                place, score = again.positions_px[0], float(again.scores[0])
            places.append(place[None])
            marks.append(np.array([score]))
            names.append(np.array([point]))
        positions.append(np.concatenate(places))
        scores.append(np.concatenate(marks))
        labels.append(np.concatenate(names))
    return BeadSeries(
        positions_px=tuple(positions),
        scores=tuple(scores),
        labels=tuple(labels),
        points_angstrom=points,
        residuals_px=np.sqrt(np.nanmean((residual**2).sum(axis=-1), axis=0)),
        radius_px=profile.radius_px,
        halo_px=profile.halo_px,
        profile=profile,
    )


def _series(found: Sequence[BeadDetections], profile: BeadProfile | None) -> BeadSeries:
    return BeadSeries(
        positions_px=tuple(one.positions_px for one in found),
        scores=tuple(one.scores for one in found),
        labels=tuple(np.full(len(one.scores), -1, dtype=np.int64) for one in found),
        points_angstrom=np.zeros((0, 3)),
        residuals_px=np.zeros(0),
        radius_px=profile.radius_px if profile else 0.0,
        halo_px=profile.halo_px if profile else 0.0,
        profile=profile,
    )


def _distance(place: FloatArray, others: FloatArray) -> float:
    return float(np.hypot(*(others - place).T).min()) if len(others) else math.inf


def _filled(residual: FloatArray) -> FloatArray:
    """(tilt, point, 2) without gaps: linear between tilts, constant beyond the first and last."""
    out = residual.copy()
    tilts = np.arange(len(residual))
    for point in range(residual.shape[1]):
        seen = np.isfinite(residual[:, point, 0])
        for axis in range(2):
            out[:, point, axis] = np.interp(tilts, tilts[seen], residual[seen, point, axis])
    return out
