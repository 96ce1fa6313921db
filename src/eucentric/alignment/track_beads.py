"""Gold beads followed through a tilt series under a known geometry, each centre with its covariance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Indices, Tracks
from eucentric.signal.bead_centres import centre_beads
from eucentric.signal.bead_links import BeadLinker
from eucentric.signal.bead_series import BeadSeries, detect_beads_in_series
from eucentric.signal.beads import BeadProfile
from eucentric.typing import FloatArray

_SCORE = 0.6  # correlation with the mean bead that a bead needs where one is expected
_SEEN = 0.5  # share of the disc: with less in sight its centre hangs on one side of its edge


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadTracks:
    """Where each bead is seen."""

    tracks: Tracks
    """A point is a row of `points_angstrom`."""
    scores: FloatArray
    """(observation,), correlation with the mean bead."""
    points_angstrom: FloatArray
    """(point, 3), triangulated under the geometry given."""
    radius_angstrom: float
    """Where the mean bead is half as dark as in its middle; 0 where there are no beads."""
    expected: Indices
    """(tilt,): points that the geometry puts into each image."""


def track_beads(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    diameter_angstrom: float | None = None,
    warp: ImageWarp | None = None,
    detections: BeadSeries | None = None,
    tolerance: float = 1.0,
) -> BeadTracks:
    """Detect beads, join them to points of the specimen, and centre each wherever it should be seen.

    Beads are looked for in each image, joined where most tilts agree on a point, and then centred at the projections
    of all points, also where none was detected; beads beside each other are fitted together (see
    :func:`eucentric.signal.bead_centres.centre_beads`). A centre farther from its projection than the tolerance is no
    observation, nor is a disc of which less than half is in sight.

    Parameters
    ----------
    images : (tilt, y, x), ascending tilt angle, as recorded (beads dark), motion corrected
    geometry : of the same tilts
    pixel_size : A
    diameter_angstrom : of the beads; none searches 40 to 300 A
    warp : local deformation that goes with the geometry
    detections : of these images, where they were made already
    tolerance : in radii of a bead; the geometry's errors must be smaller

    Raises
    ------
    ShapeError : images, geometry, warp or detections of different length
    InputError : as :func:`eucentric.signal.beads.detect_beads`
    """
    if len(geometry) != len(images) or (warp is not None and len(warp) != len(images)):
        raise ShapeError(
            f"There are {len(images)} images, but the geometry has {len(geometry)} tilts"
            f"{'' if warp is None else f' and the warp {len(warp)}'}. Give one of each for every tilt."
        )
    found = detections or detect_beads_in_series(images, pixel_size=pixel_size, diameter_angstrom=diameter_angstrom)
    if len(found.positions_px) != len(images):
        raise ShapeError(f"There are {len(images)} images, but beads were detected in {len(found.positions_px)}.")
    if found.profile is None:
        return _none(len(images))
    shape = (images.shape[-2], images.shape[-1])
    view = _View(geometry, warp, pixel_size, shape)
    points, owners = link_detections(found, view, tolerance)
    if len(points) == 0:
        return _none(len(images))
    return _centred(images, found, found.profile, points, owners, view, tolerance)


@dataclass(frozen=True, slots=True)
class _View:
    """How points come into the images."""

    geometry: TiltGeometry
    warp: ImageWarp | None
    pixel_size: float
    shape: tuple[int, int]

    @property
    def centre(self) -> FloatArray:
        return np.array([self.shape[1] // 2, self.shape[0] // 2], dtype=np.float64)

    def linker(self, tolerance_px: float) -> BeadLinker:
        return BeadLinker(self.geometry, self.pixel_size, self.shape, tolerance_px)

    def displacement(self, tilt: int, places: FloatArray) -> FloatArray:
        """(n, 2), pixels, at undistorted places in pixels."""
        if self.warp is None or len(places) == 0:
            return np.zeros_like(places)
        at = torch.from_numpy((places - self.centre) * self.pixel_size)
        return np.asarray(self.warp.at(tilt, at).numpy() / self.pixel_size)

    def straightened(self, tilt: int, places: FloatArray) -> FloatArray:
        """Places in pixels with the deformation taken out."""
        plain = places.copy()
        for _ in range(3):  # the field changes by far less than itself over its own length
            plain = places - self.displacement(tilt, plain)
        return plain


def link_detections(found: BeadSeries, view: _View, tolerance: float) -> tuple[FloatArray, list[Indices]]:
    """Points (n, 3) and, for each tilt, the point of each detection or -1."""
    plain = [view.straightened(tilt, place) for tilt, place in enumerate(found.positions_px)]
    return view.linker(tolerance * found.radius_px).link(plain)


def _centred(
    images: Tensor,
    found: BeadSeries,
    profile: BeadProfile,
    points: FloatArray,
    owners: Sequence[Indices],
    view: _View,
    tolerance: float,
) -> BeadTracks:
    linker = view.linker(tolerance * profile.radius_px)
    projected = linker.project(points)
    names, tilts, places, covariances, scores = [], [], [], [], []
    expected = np.zeros(len(images), dtype=np.int64)
    for tilt, image in enumerate(images):
        due = projected[tilt] + view.displacement(tilt, projected[tilt])
        starts = due.copy()
        linked = owners[tilt] >= 0
        starts[owners[tilt][linked]] = found.positions_px[tilt][linked]
        inside = linker.visible(starts, profile.radius_px)
        expected[tilt] = int(linker.visible(starts, 0.0).sum())
        rows = np.flatnonzero(inside)
        # beads that belong to no point still spoil what lies beside them
        others = found.positions_px[tilt][~linked]
        fit = centre_beads(image, profile, np.concatenate([starts[rows], others]), threshold=_SCORE)
        own = slice(0, len(rows))
        apart = np.hypot(*(fit.positions_px[own] - due[rows]).T)
        good = np.isfinite(apart) & (apart <= linker.tolerance) & (fit.seen[own] >= _SEEN)
        good &= _apart_from_each_other(fit.positions_px[own], fit.scores[own], profile.radius_px)
        names.append(rows[good])
        tilts.append(np.full(int(good.sum()), tilt))
        places.append((fit.positions_px[own][good] - view.centre) * view.pixel_size)
        covariances.append(fit.covariance_px2[own][good] * view.pixel_size**2)
        scores.append(fit.scores[own][good])
    tracks = Tracks.build(
        np.concatenate(names),
        np.concatenate(tilts),
        np.concatenate(places),
        covariance=np.concatenate(covariances),
    )
    return BeadTracks(
        tracks=tracks,
        scores=np.concatenate(scores),
        points_angstrom=points,
        radius_angstrom=profile.radius_px * view.pixel_size,
        expected=expected,
    )


def _apart_from_each_other(places: FloatArray, scores: FloatArray, radius: float) -> FloatArray:
    """(n,): False for the worse of two fits that ended on one bead."""
    good = np.isfinite(scores)
    for row in np.argsort(-np.nan_to_num(scores)):
        if good[row]:
            near = np.hypot(*(places - places[row]).T) < 0.5 * radius
            near[row] = False
            good &= ~near
    return good


def _none(tilts: int) -> BeadTracks:
    return BeadTracks(
        tracks=Tracks.build([], [], np.zeros((0, 2))),
        scores=np.zeros(0),
        points_angstrom=np.zeros((0, 3)),
        radius_angstrom=0.0,
        expected=np.zeros(tilts, dtype=np.int64),
    )
