"""The slab in which the specimen lies, from what stands out in a coarse reconstruction."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter, uniform_filter
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.grids import centre_index
from eucentric.geometry.tilt import TiltGeometry
from eucentric.reconstruction.level_geometry import SpecimenSlab, level_geometry
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.reconstruction.slab_posterior import STEEPEST, slab_posterior
from eucentric.typing import FloatArray

_VOXEL = 32.0  # A: the finest detail that is needed spans two voxels
_MOST_VOXELS = 160  # across the field: more only take time
_LEAST_VOXELS = 24
_COARSEST = 12.5  # voxels: coarser detail is ice thickness and shading, smeared along z by the missing wedge
_CLIP = 3.0  # robust standard deviations: gold must not outweigh all else
_CLIPPINGS = 5  # what is clipped is taken out before the filter, whose rings about gold look like bodies
_BODY = 1.5  # voxels: a Gaussian like a macromolecule of some 150 A, which gathers its signal
_ALONE = (9, 5, 5)  # voxels (z, y, x) in which only the strongest counts: the missing wedge draws a body out along z
_PLACE = 0.5  # voxels: one standard deviation of the height of a body
_BIAS = 0.3  # voxels: of all heights alike, as CTFs and the missing wedge draw them
_SEEN_BY = 0.5  # part of the tilts that must see a place: empty space above and below tells the faces of thick ice
_MARGIN = 1.15  # of the field: tilted images show more than that
_BORDER = 2  # voxels at the sides of the volume: what is cut off there looks like a body
_FALSE = 0.03  # part of the bodies that may be noise
_SAMPLES = 8000  # of the space that was looked at
_NEIGHBOURS = 300.0  # A: bodies nearer than that may tell the same, as pieces of one vesicle do
_INCLINED = 2.0  # degrees beyond which a second look from straight above is worth its time
_LEAST_SCORE = 30.0  # noise reaches 20
_LEAST_CONTRAST = 4.0
_DEEPEST = 0.8  # of the searched depth: a thicker specimen has no visible faces
_RADIUS_ERROR = 0.3  # of the radius of a body: bodies are no balls, and of several sizes


def find_specimen(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    voxel_size: float | None = None,
    highest_angstrom: float = 6000.0,
    y_tilt_deg: tuple[float, float] | None = None,
) -> SpecimenSlab:
    """Find tilt, height and thickness of the specimen in a coarse reconstruction.

    The images, band-passed to 2 to 12.5 voxels and clipped at 3 robust standard deviations, are reconstructed as they
    are and with random phases, which spreads the same power over all heights. Smoothed to the size of a macromolecule,
    the extremes of the first that exceed all but a few of the second's are bodies; those of the sign that has more of
    them count. The slab that they fill, and its uncertainty, is that of :func:`slab_posterior`. It holds the middles of
    bodies; their radius, where their mean crosses into its bright fringe, is added at both faces. An inclined slab is
    looked at once more in the frame in which it lies flat.

    Parameters
    ----------
    images : (tilt, y, x), any contrast
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    voxel_size : A; 32, or a coarser pixel, where None
    highest_angstrom : height of the searched volume about the specimen centre
    y_tilt_deg : inclination about the tilt axis that is known from elsewhere, and its standard deviation

    Raises
    ------
    ShapeError : images and geometry of different length
    InputError : a size that is not positive
    """
    if images.ndim != 3 or images.shape[0] != len(geometry):
        raise ShapeError(f"Images {tuple(images.shape)} and {len(geometry)} tilts were given; expected one each.")
    field = [n * pixel_size for n in images.shape[1:]]
    voxel = max(_VOXEL, pixel_size, max(field) / _MOST_VOXELS) if voxel_size is None else voxel_size
    if not (pixel_size > 0 and voxel > 0 and highest_angstrom > 0):
        raise InputError(
            f"A pixel of {pixel_size:g} A, voxel of {voxel:g} A and height of {highest_angstrom:g} A were given; "
            "expected positive numbers."
        )
    planes = 2 * round(highest_angstrom / voxel / 2)
    if min(field) / voxel < _LEAST_VOXELS or planes < _LEAST_VOXELS or len(geometry) < 6:
        return no_slab()
    small, pixel = _features(images, pixel_size, voxel)
    search = _Search(
        images=small,
        noise=_random_phases(small),
        pixel_size=pixel,
        voxel=voxel,
        shape=(planes, *(math.ceil(_MARGIN * n / voxel / 2) * 2 for n in field)),  # type: ignore[arg-type]
        field=(field[0], field[1]),
    )
    slab = search.find(geometry, y_tilt_deg)
    if slab.found and math.hypot(slab.x_tilt_deg, slab.y_tilt_deg) > _INCLINED:
        rest = None if y_tilt_deg is None else (y_tilt_deg[0] - slab.y_tilt_deg, y_tilt_deg[1])
        again = search.find(level_geometry(geometry, slab), rest)
        if again.found:
            slab = _composed(slab, again)
    return slab


def no_slab() -> SpecimenSlab:
    """What is known where nothing stands out."""
    unknown = float("nan")
    return SpecimenSlab(
        found=False,
        x_tilt_deg=0.0,
        y_tilt_deg=0.0,
        z_angstrom=0.0,
        thickness_angstrom=unknown,
        x_tilt_sigma_deg=unknown,
        y_tilt_sigma_deg=unknown,
        z_sigma_angstrom=unknown,
        thickness_sigma_angstrom=unknown,
        score=0.0,
        contrast=unknown,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What every look at a series needs."""

    images: Tensor
    noise: Tensor
    pixel_size: float
    voxel: float
    shape: tuple[int, int, int]
    field: tuple[float, float]

    def find(self, geometry: TiltGeometry, y_tilt_deg: tuple[float, float] | None) -> SpecimenSlab:
        """The slab in the frame of a geometry."""
        z, y, x = axes = [
            np.asarray((np.arange(n) - centre_index(n)) * self.voxel, dtype=np.float64) for n in self.shape
        ]
        seen = _seen(geometry, self.field, z, y, x)
        seen[:, :_BORDER] = seen[:, -_BORDER:] = seen[:, :, :_BORDER] = seen[:, :, -_BORDER:] = False
        if seen.any(0).sum() < _LEAST_VOXELS**2:
            return no_slab()
        density, noise = (self._density(images, geometry) for images in (self.images, self.noise))
        noise_level = np.sqrt(uniform_filter(noise**2, (15, 9, 9))) + 1e-30
        density, noise = density / noise_level, noise / noise_level
        dark, bright = (_bodies(sign * density, sign * noise, seen) for sign in (-1.0, 1.0))
        sign, (places, _) = (-1.0, dark) if dark[1] >= bright[1] else (1.0, bright)
        points = (places - [centre_index(n) for n in self.shape])[:, ::-1] * self.voxel
        slab = self._fit(points, _sample(seen, axes), y_tilt_deg)
        if not slab.found:
            return slab
        inside = np.abs(points @ slab.rotation[:, 2] - slab.z_angstrom * slab.rotation[2, 2])
        radius = _body_radius(sign * density, places[inside < 0.5 * slab.thickness_angstrom]) * self.voxel
        return replace(
            slab,
            thickness_angstrom=slab.thickness_angstrom + 2.0 * radius,
            thickness_sigma_angstrom=math.hypot(slab.thickness_sigma_angstrom, 2.0 * _RADIUS_ERROR * radius),
        )

    def _density(self, images: Tensor, geometry: TiltGeometry) -> FloatArray:
        volume = reconstruct_volume(
            images,
            geometry,
            pixel_size=self.pixel_size,
            volume_shape=self.shape,
            voxel_size=self.voxel,
            params=ReconstructParams(dose_weighting=False),
        )
        return np.asarray(gaussian_filter(volume.double().cpu().numpy(), _BODY))

    def _fit(self, points: FloatArray, space: FloatArray, y_tilt_deg: tuple[float, float] | None) -> SpecimenSlab:
        depth = self.shape[0] * self.voxel
        found = slab_posterior(
            points,
            space,
            sigma_angstrom=_PLACE * self.voxel,
            y_tilt_deg=y_tilt_deg,
            alike=_alike(points, space),
        )
        if found is None:
            return no_slab()
        x_tilt, y_tilt, height, thickness = (float(v) for v in found.mean)
        sigma = found.sigma
        return SpecimenSlab(
            found=bool(
                found.score > _LEAST_SCORE
                and found.contrast > _LEAST_CONTRAST
                and thickness + 2.0 * sigma[3] < _DEEPEST * depth
                and abs(height) + 0.5 * thickness < 0.5 * depth
                and max(abs(x_tilt), abs(y_tilt)) + sigma[:2].max() < STEEPEST
            ),
            x_tilt_deg=x_tilt,
            y_tilt_deg=y_tilt,
            z_angstrom=height,
            thickness_angstrom=thickness,
            x_tilt_sigma_deg=float(sigma[0]),
            y_tilt_sigma_deg=float(sigma[1]),
            z_sigma_angstrom=math.hypot(float(sigma[2]), _BIAS * self.voxel),
            thickness_sigma_angstrom=float(sigma[3]),
            score=found.score,
            contrast=found.contrast,
        )


def _composed(first: SpecimenSlab, second: SpecimenSlab) -> SpecimenSlab:
    """The second slab, found in the frame of the first one, in the frame in which the first was found."""
    normal = first.rotation @ second.rotation[:, 2]
    inside = first.centre_angstrom + first.rotation @ second.centre_angstrom
    return replace(
        second,
        x_tilt_deg=float(np.rad2deg(np.arcsin(-normal[1]))),
        y_tilt_deg=float(np.rad2deg(np.arctan2(normal[0], normal[2]))),
        z_angstrom=float(normal @ inside / normal[2]),
    )


def _features(images: Tensor, pixel_size: float, voxel: float) -> tuple[Tensor, float]:
    """Band-passed images at half the voxel's size or coarser, clipped, and their pixel size.

    Each has the variance that its electrons make worth: in counts, signal and variance of the noise both go with the
    mean, so that a thinly lit image says less. Where means are no counts all weigh the same.
    """
    shape = (images.shape[1], images.shape[2])
    if pixel_size < 0.4 * voxel:
        rows, columns = rescaled_shape(shape, pixel_size, 0.5 * voxel)
        shape = (rows, columns)
    pixel = pixel_size * math.sqrt(images.shape[1] * images.shape[2] / (shape[0] * shape[1]))
    keep = band_pass(
        frequency_grid(shape, pixel, device=images.device, dtype=images.dtype),
        low_pass_angstrom=2.0 * voxel,
        high_pass_angstrom=_COARSEST * voxel,
    )
    means = images.double().mean((1, 2))
    lit = (means / means.max()).sqrt() if bool((means > 0).all()) else torch.ones_like(means)
    out = images.new_empty((images.shape[0], *shape))
    for t, image in enumerate(images):
        coarse = taper_edges(fourier_crop(image - image.mean(), shape), max(6, min(shape) // 50))
        for _ in range(_CLIPPINGS):
            filtered = torch.fft.irfft2(torch.fft.rfft2(coarse) * keep, s=shape)
            limit = _CLIP * 1.4826 * float(filtered.abs().median())
            clipped = filtered.clamp(-limit, limit)
            coarse = coarse - (filtered - clipped)
        out[t] = clipped * (float(lit[t]) * _CLIP / limit) if limit > 0 else 0.0
    return out, pixel


def _random_phases(images: Tensor) -> Tensor:
    """Noise with the power spectrum of each image."""
    generator = seeded_generator(0, images.device)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    phases = torch.fft.rfft2(noise)
    phases /= phases.abs().clamp(min=1e-20)
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(images).abs() * phases, s=images.shape[-2:])
    return out


def _seen(
    geometry: TiltGeometry, field: tuple[float, float], z: FloatArray, y: FloatArray, x: FloatArray
) -> NDArray[np.bool_]:
    """(z, y, x) places that enough of the tilts see, inside of the tapered edges."""
    half = 0.48 * np.array([field[1], field[0]])
    count = np.zeros((len(z), len(y), len(x)), dtype=np.int32)
    for matrix, shift in zip(geometry.image_matrices, geometry.shifts_angstrom, strict=True):
        within = np.ones(count.shape, dtype=bool)
        for row, offset, limit in zip(matrix, shift, half, strict=True):
            place = row[0] * x + (row[1] * y)[:, None] + (row[2] * z)[:, None, None] + offset
            within &= np.abs(place) <= limit
        count += within
    return np.asarray(count >= _SEEN_BY * len(geometry))


def _sample(seen: NDArray[np.bool_], axes: list[FloatArray]) -> FloatArray:
    """(sample, 3), x, y, z: an even sample of the places that were looked at."""
    places = np.argwhere(seen)
    picked = places[:: max(1, len(places) // _SAMPLES)]
    return np.stack([axes[k][picked[:, k]] for k in (2, 1, 0)], axis=1)


def _bodies(density: FloatArray, noise: FloatArray, seen: NDArray[np.bool_]) -> tuple[FloatArray, float]:
    """(body, 3), z, y, x in voxels: maxima beyond what noise of the same power reaches; the sum of their squares.

    Bright fringes are many, but weaker than the dark bodies that they go round.
    """

    def maxima(field: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
        places = np.argwhere((field == maximum_filter(field, size=_ALONE)) & seen & (field > 1.0))
        return places, field[tuple(places.T)]

    places, heights = maxima(density)
    _, chance = maxima(noise)
    order = np.argsort(heights)[::-1]
    false = np.searchsorted(np.sort(-chance), -heights[order], side="right")
    good = np.flatnonzero(false <= _FALSE * np.arange(1, len(order) + 1))
    picked = places[order[: good[-1] + 1 if len(good) else 0]].astype(np.float64)
    inner = picked[(picked[:, 0] > 0) & (picked[:, 0] < density.shape[0] - 1)]
    z, y, x = inner.astype(np.int64).T
    left, top, right = density[z - 1, y, x], density[z, y, x], density[z + 1, y, x]
    inner[:, 0] += 0.5 * (right - left) / np.maximum(2.0 * top - left - right, 1e-12)
    return inner, float((top**2).sum())


def _alike(points: FloatArray, space: FloatArray) -> float:
    """Bodies that tell the same as one: 1, and how many more neighbours each has than an even spread in the slab."""
    if len(points) < 8:
        return 1.0
    low, high = np.quantile(points[:, 2], (0.05, 0.95))
    even = space[(space[:, 2] >= low) & (space[:, 2] <= high)]
    core = points[(points[:, 2] >= low) & (points[:, 2] <= high)]
    if len(even) < 8 or len(core) < 8:
        return 1.0
    tree = cKDTree(core)
    near = tree.count_neighbors(tree, _NEIGHBOURS) / len(core) - 1.0
    by_chance = tree.count_neighbors(cKDTree(even), _NEIGHBOURS) / len(even)
    return float(max(1.0, 1.0 + near - by_chance))


def _body_radius(density: FloatArray, places: FloatArray) -> float:
    """Radius in voxels at which the mean of the bodies, as seen from above, has fallen to nothing."""
    if not len(places):
        return 0.0
    radii = np.arange(0.0, 8.0, 0.25)
    angles = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    ring = np.stack([np.zeros_like(angles), np.sin(angles), np.cos(angles)], axis=1)
    around = places[:, None, None] + radii[None, :, None, None] * ring
    profile = map_coordinates(density, around.reshape(-1, 3).T, order=1, mode="nearest")
    mean = profile.reshape(len(places), len(radii), len(angles)).mean((0, 2))
    negative = int(np.argmax(mean < 0.0))
    if not negative:
        return 0.0
    crossing = radii[negative] - 0.25 * mean[negative] / (mean[negative] - mean[negative - 1])
    return float(crossing)
