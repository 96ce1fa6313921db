r"""Patches of the specimen followed through a tilt series, each image against what all others show.

Near the truth the image of a patch differs from its reference by a small displacement d, and the whitened residual
e is linear in it. The most probable displacement and its covariance follow at once,

.. math:: d = H^{-1} b, \quad H = \frac{1}{S} \sum_u w(u)\, \nabla r\, \nabla r^T, \quad b = -\frac{1}{S} \sum_u w(u)\, \nabla r\, e(u)

with r the whitened reference, scaled in every shell to the part of the image that it predicts (which keeps noise in
the reference from shortening d), w the window of the patch and S the power of e. No summit is looked for, so that noise can
make no false one: a patch that shows nothing has a large covariance, not a wrong place.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.alignment.projection_matching import ProjectionMatcher, ViewReferences
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray

_MARGIN = 0.05
"""Part of the field at each side where no patch is centred: images hold nothing beyond."""
_FEWEST_TILTS = 3
_LARGEST_SIGMA = 0.5
"""Of the finest detail: what is known worse is left out."""
_LARGEST_MOVE = 1.0
"""Of the finest detail: beyond, a displacement is not small and its measure means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchTracks:
    """Where patches were seen."""

    tracks: Tracks
    points_angstrom: FloatArray
    """(point, 3): centre of each patch in the specimen; row n belongs to point n of the tracks."""
    scores: FloatArray
    """(tilt,): correlation of each image with the reference made without it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Evidence:
    """Densities over the turned images whose window sums are b and H."""

    force: Float[Tensor, "tilt y x 2"]
    information: Float[Tensor, "tilt y x 3"]
    """xx, xy and yy."""
    scores: FloatArray


class PatchTracker:
    """Images of one series, prepared for any number of rounds of tracking.

    Parameters
    ----------
    images : (tilt, y, x), features dark
    tilt_angles_deg : (tilt,)
    pixel_size : A
    match_pixel_size : A, sampling of images and reconstruction while tracking
    thickness : A, height in which features are looked for
    low_pass, high_pass : A, band used
    patch_angstrom : A, side of a patch; they lie side by side, so that each is measured with noise of its own

    Raises
    ------
    ShapeError, InputError : images and angles that do not fit together, sizes that are not positive
    """

    def __init__(
        self,
        images: Float[Tensor, "tilt y x"],
        tilt_angles_deg: FloatArray,
        pixel_size: float,
        *,
        match_pixel_size: float,
        thickness: float,
        low_pass: float,
        high_pass: float,
        patch_angstrom: float,
    ) -> None:
        if images.ndim != 3 or len(images) != len(tilt_angles_deg):
            raise ShapeError(
                f"Images of shape {tuple(images.shape)} and {len(tilt_angles_deg)} angles were given; expected one each."
            )
        if min(pixel_size, match_pixel_size, thickness, low_pass, high_pass, patch_angstrom) <= 0:
            raise InputError("Pixel sizes, thickness, band and side of a patch must be positive.")
        self._matcher = ProjectionMatcher(
            images,
            tilt_angles_deg,
            pixel_size,
            match_pixel_size=match_pixel_size,
            thickness=thickness,
            low_pass=low_pass,
            high_pass=high_pass,
        )
        self._half_field = np.array(images.shape[:0:-1]) * pixel_size * (0.5 - _MARGIN)
        self._half_patch = 0.5 * patch_angstrom
        self._low_pass = low_pass

    def track(self, geometry: TiltGeometry, *, warp: ImageWarp | None = None) -> PatchTracks:
        """Follow patches about a geometry that is right to a fraction of the finest detail used.

        Parameters
        ----------
        geometry : of the same tilts
        warp : local deformation that is already known; positions are in the images as recorded all the same

        Raises
        ------
        ProcessingError : no patch is seen in three tilts or more
        """
        seen = self._matcher.references(geometry, warp=warp)
        evidence = _weigh(self._matcher, seen)
        points = self._points(geometry)
        force, information = self._sums(geometry, evidence, points)
        tracks, points = self._tracks(geometry, warp, points, force, information)
        return PatchTracks(tracks=tracks, points_angstrom=points, scores=evidence.scores)

    def _points(self, geometry: TiltGeometry) -> FloatArray:
        """Centres of patches, evenly over the field at height zero.

        A window shows what lies at any height along its beam, so that no height belongs to a patch; a bundle adjustment gives each the
        one that fits its displacements.
        """
        turn = np.deg2rad(geometry.z_rot_deg[np.abs(geometry.y_tilt_deg).argmin()])
        c, s = abs(math.cos(turn)), abs(math.sin(turn))
        side = 2.0 * self._half_patch
        many = np.maximum(1, np.round(2.0 * np.array([[c, s], [s, c]]) @ self._half_field / side)).astype(int)
        x, y = np.meshgrid(*((np.arange(n) - 0.5 * (n - 1)) * side for n in many))
        inside = (np.abs(math.cos(turn) * x - math.sin(turn) * y) <= self._half_field[0]) & (
            np.abs(math.sin(turn) * x + math.cos(turn) * y) <= self._half_field[1]
        )
        return np.stack([x[inside], y[inside], np.zeros(int(inside.sum()))], axis=1)

    def _windows(self, places: FloatArray, centres: FloatArray, narrow: float = 1.0) -> FloatArray:
        """(centre, place): 1 within half a patch of the centre, its edges a pixel wide; patches side by side add up to one."""
        pixel = self._matcher.pixel_size
        within = self._half_patch * narrow - np.abs(places[None] - centres[:, None])
        return np.asarray(np.clip(within / pixel + 0.5, 0.0, 1.0))

    def _sums(self, geometry: TiltGeometry, evidence: _Evidence, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(tilt, point, 2) and (tilt, point, 2, 2): b and H of every patch, windows narrowed as the tilt foreshortens them."""
        upright = TiltGeometry.build(geometry.y_tilt_deg, x_tilt_deg=geometry.x_tilt_deg).project(points)[..., :2]
        rows, columns = (
            (np.arange(n, dtype=np.float64) - n // 2) * self._matcher.pixel_size for n in self._matcher.frame
        )
        parts = []
        for t, at in enumerate(upright):
            narrow = max(0.2, abs(math.cos(math.radians(float(geometry.y_tilt_deg[t])))))
            wy = torch.from_numpy(self._windows(rows, at[:, 1])).to(evidence.force)
            wx = torch.from_numpy(self._windows(columns, at[:, 0], narrow)).to(evidence.force)
            density = torch.cat([evidence.force[t], evidence.information[t]], dim=-1)
            lines = torch.einsum("px,yxc->pyc", wx, density)
            parts.append(torch.einsum("py,pyc->pc", wy, lines).double().cpu().numpy())
        sums = np.stack(parts)
        return sums[..., :2], sums[..., [2, 3, 3, 4]].reshape(*sums.shape[:2], 2, 2)

    def _tracks(
        self,
        geometry: TiltGeometry,
        warp: ImageWarp | None,
        points: FloatArray,
        force: FloatArray,
        information: FloatArray,
    ) -> tuple[Tracks, FloatArray]:
        least = np.linalg.eigvalsh(information)[..., 0]
        enough = least > (_LARGEST_SIGMA * self._low_pass) ** -2
        covariance = np.linalg.inv(np.where(enough[..., None, None], information, np.eye(2)))
        move = np.einsum("tpij,tpj->tpi", covariance, force)
        enough &= np.linalg.norm(move, axis=-1) <= _LARGEST_MOVE * self._low_pass
        enough &= (enough.sum(0) >= _FEWEST_TILTS)[None]
        if not enough.any():
            raise ProcessingError(
                "No part of the images can be followed: they hold too few features, or are not aligned well enough to begin with."
            )
        kept = np.flatnonzero(enough.any(0))
        turn = np.deg2rad(geometry.z_rot_deg)
        rotation = np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], axis=1).reshape(-1, 1, 2, 2)
        to_camera = geometry.magnification[:, None, None, None] * rotation
        places = geometry.project(points)[..., :2]
        if warp is not None:
            places = places + np.stack([warp.at(t, torch.from_numpy(at)).numpy() for t, at in enumerate(places)])
        places = places + np.einsum("tpij,tpj->tpi", np.broadcast_to(to_camera, covariance.shape), move)
        turned = to_camera @ covariance @ np.swapaxes(to_camera, -1, -2)
        tilts, columns = np.nonzero(enough)
        tracks = Tracks(
            points=np.searchsorted(kept, columns).astype(np.int64),
            tilts=tilts.astype(np.int64),
            positions_angstrom=places[tilts, columns],
            covariance=turned[tilts, columns],
        )
        return tracks, points[kept]


def track_patches(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    patch_angstrom: float = 400.0,
    warp: ImageWarp | None = None,
    match_pixel_size: float = 16.0,
    thickness: float = 2400.0,
    low_pass: float = 40.0,
    high_pass: float = 1000.0,
) -> PatchTracks:
    """One round of tracking; see :class:`PatchTracker`, which spares preparing the images for every round.

    Parameters
    ----------
    images : (tilt, y, x), features dark
    geometry : right to a fraction of `low_pass`
    pixel_size : A
    patch_angstrom : side of a patch
    warp : local deformation that is already known
    match_pixel_size, thickness, low_pass, high_pass : A
    """
    tracker = PatchTracker(
        images,
        geometry.y_tilt_deg,
        pixel_size,
        match_pixel_size=max(pixel_size, match_pixel_size),
        thickness=thickness,
        low_pass=max(low_pass, 2.2 * max(pixel_size, match_pixel_size)),
        high_pass=high_pass,
        patch_angstrom=patch_angstrom,
    )
    return tracker.track(geometry, warp=warp)


def _weigh(matcher: ProjectionMatcher, seen: ViewReferences) -> _Evidence:
    """Densities of the gradient and curvature of the log-likelihood of a displacement, everywhere in every image."""
    image = torch.fft.rfft2(seen.turned * seen.inside) * matcher.whitening
    reference = torch.fft.rfft2(seen.expected * seen.inside) * matcher.whitening
    reference = _predicted_part(image, reference, matcher.shells)
    double = torch.full((image.shape[-1],), 2.0, dtype=seen.turned.dtype, device=image.device)
    double[0] = 1.0
    if matcher.frame[1] % 2 == 0:
        double[-1] = 1.0
    norm = (double * image.abs() ** 2).sum((1, 2)) * (double * reference.abs() ** 2).sum((1, 2))
    scores = (double * (image * reference.conj()).real).sum((1, 2)) / norm.sqrt().clamp(min=1e-30)
    fy, fx = frequency_vectors(matcher.frame, matcher.pixel_size, device=image.device, dtype=seen.turned.dtype)
    independent = float((double * matcher.band).sum()) / math.prod(matcher.frame)
    force, information = [], []
    for shown, expected, inside in zip(image, reference, seen.inside, strict=True):
        residual = torch.fft.irfft2(shown - expected, s=matcher.frame)
        slope_x = torch.fft.irfft2(expected * (2j * math.pi * fx), s=matcher.frame)
        slope_y = torch.fft.irfft2(expected * (2j * math.pi * fy), s=matcher.frame)
        power = (residual**2).sum() / ((inside**2).sum() * independent).clamp(min=1e-30)
        scale = 1.0 / power.clamp(min=1e-30)
        force.append(torch.stack([-slope_x * residual, -slope_y * residual], dim=-1) * scale)
        information.append(torch.stack([slope_x**2, slope_x * slope_y, slope_y**2], dim=-1) * scale)
    return _Evidence(
        force=torch.stack(force), information=torch.stack(information), scores=scores.double().cpu().numpy()
    )


def _predicted_part(image: Tensor, reference: Tensor, shells: Tensor) -> Tensor:
    """References times the regression of image on reference: one course over the shells, one factor for every image."""
    count = int(shells.max()) + 1
    place = shells.reshape(-1)

    def by_shell(values: Tensor) -> Tensor:
        total = values.new_zeros(count)
        return total.index_add_(0, place, values.reshape(-1))

    cross, own = (image * reference.conj()).real, reference.abs() ** 2
    course = by_shell(cross.sum(0)).clamp(min=0.0) / by_shell(own.sum(0)).clamp(min=1e-30)
    gain = course[shells]
    factor = (cross * gain).sum((1, 2)) / (own * gain**2).sum((1, 2)).clamp(min=1e-30)
    return reference * gain * factor.clamp(min=0.0)[:, None, None]
