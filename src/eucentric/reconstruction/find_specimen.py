"""The plane in which the specimen lies, and a geometry in which it lies flat in the middle of the volume."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import maximum_filter, uniform_filter, uniform_filter1d
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.grids import centre_index
from eucentric.geometry.rotations import rotation_x, rotation_y
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tilt_series import CtfFit
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.typing import FloatArray

_VOXEL = 32.0  # A: the finest detail that is needed spans two voxels
_COARSEST = 12.5  # voxels: coarser detail is ice thickness and shading, smeared along z by the missing wedge
_CLIP = 3.0  # robust standard deviations: gold must not outweigh all else
_BLOCK = 128.0  # A: about a macromolecule
_MOST_BLOCKS = 32  # across the field: more only take time
_LEAST_BLOCKS = 6
_SEEN_BY = 0.8  # part of the tilts that must see a block
_FALSE_ALARMS = 0.0003  # part of the blocks of noise of the same power that exceed the threshold
_ALONE = (7, 3, 3)  # blocks (z, y, x) in which only the strongest counts: the missing wedge draws a protein out along z
_INCLINED = 2.0  # degrees beyond which a second look from straight above is worth its time
_STEEPEST = 30.0  # degrees: lamellae are milled at 8 to 25
_LEAST_SCORE = 20.0
_LEAST_CONTRAST = 3.0
_BALL_HALF = 0.6946  # radii at which the autocorrelation of a ball, 1 - 3 u / 4 + u^3 / 16, is one half
_DEEPEST = 0.8  # of the searched depth: a thicker specimen has no visible faces


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenSlab:
    """A slab with two parallel faces: its middle plane holds (0, 0, z), its normal is ``Ry(y_tilt) Rx(x_tilt) z``."""

    found: bool
    """False where nothing stands out, or no face lies within the searched depth: then the numbers mean nothing."""
    x_tilt_deg: float
    y_tilt_deg: float
    z_angstrom: float
    """Height of the middle plane above the specimen centre, along z."""
    thickness_angstrom: float
    """Between the faces, along the normal."""
    x_tilt_sigma_deg: float
    y_tilt_sigma_deg: float
    z_sigma_angstrom: float
    thickness_sigma_angstrom: float
    score: float
    """Log-likelihood of the slab above that of no slab, for each independent piece of evidence counted once."""
    contrast: float
    """How many times as often something stands out inside the slab as outside."""

    @property
    def rotation(self) -> FloatArray:
        """(3, 3), from the frame in which the slab lies flat to that of the specimen."""
        return rotation_y(self.y_tilt_deg) @ rotation_x(self.x_tilt_deg)

    @property
    def centre_angstrom(self) -> FloatArray:
        """(3,) the middle of the slab, straight above the specimen centre."""
        return np.array([0.0, 0.0, self.z_angstrom])


def find_specimen(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    voxel_size: float | None = None,
    highest_angstrom: float = 6000.0,
) -> SpecimenSlab:
    r"""Find tilt, height and thickness of the specimen in a coarse reconstruction.

    The images, band-passed to 2 to 12.5 voxels and clipped at 3 robust standard deviations, are reconstructed as they
    are and with random phases, which spreads the same power over all heights. Blocks of 128 A (3 voxels high) that are
    the strongest of their neighbours, and stronger than all but 0.03% of the second's blocks, are occupied. A slab
    with k of n blocks occupied inside (p) and outside (q) has the likelihood

    .. math:: L = n_p\,h(k_p / n_p) + n_q\,h(k_q / n_q), \qquad h(p) = p \ln p + (1 - p) \ln(1 - p)

    divided by the number of blocks in the correlation volume of the occupied ones. Numbers and standard deviations are the
    means and deviations over :math:`\exp L` on a grid of all slabs up to 30 degrees. Counts, unlike energies, let no vesicle
    or bead weigh more than a protein. Such a slab holds the middles of features; their radius, from the correlation
    between reconstructions of every other tilt, is added at both faces. An inclined slab is looked at once more in the
    frame in which it lies flat.

    Parameters
    ----------
    images : (tilt, y, x), any contrast
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    voxel_size : A; 32, or a coarser pixel, where None
    highest_angstrom : height of the searched volume about the specimen centre

    Raises
    ------
    ShapeError : images and geometry of different length
    InputError : a size that is not positive
    """
    if images.ndim != 3 or images.shape[0] != len(geometry):
        raise ShapeError(f"Images {tuple(images.shape)} and {len(geometry)} tilts were given; expected one each.")
    voxel = max(_VOXEL, pixel_size) if voxel_size is None else voxel_size
    if not (pixel_size > 0 and voxel > 0 and highest_angstrom > 0):
        raise InputError(
            f"A pixel of {pixel_size:g} A, voxel of {voxel:g} A and height of {highest_angstrom:g} A were given; "
            "expected positive numbers."
        )
    field = [n * pixel_size for n in images.shape[1:]]
    block = max(round(_BLOCK / voxel), math.ceil(max(field) / voxel / _MOST_BLOCKS), 1)
    planes = 2 * round(highest_angstrom / voxel / 2)
    if min(field) / voxel < _LEAST_BLOCKS * block or planes < 4 * _LEAST_BLOCKS or len(geometry) < 6:
        return _nothing()
    small, pixel = _features(images, pixel_size, voxel)
    search = _Search(
        images=small,
        noise=_random_phases(small),
        pixel_size=pixel,
        voxel=voxel,
        shape=(planes, *rescaled_shape(small.shape[1:], pixel, voxel)),  # type: ignore[arg-type]
        block=block,
        field=(field[0], field[1]),
    )
    slab = search.find(geometry)
    if slab.found and math.hypot(slab.x_tilt_deg, slab.y_tilt_deg) > _INCLINED:
        again = search.find(level_geometry(geometry, slab))
        if again.found:
            slab = _composed(slab, again)
    return slab


def level_geometry(geometry: TiltGeometry, slab: SpecimenSlab) -> TiltGeometry:
    """The same images in a frame in which the slab lies flat, its middle at the specimen centre.

    A point p of the new frame is ``slab.rotation p + slab.centre_angstrom`` of the old one; every camera position but the height
    stays as it was, and the height changes by that of the new centre (:func:`level_fits`). With tilts about y alone,
    the slab's two tilts are added to y_tilt and x_tilt and the axis stays.

    Raises
    ------
    InputError : the slab was not found
    """
    _check_found(slab)
    new = geometry.matrices @ slab.rotation
    shifts = geometry.project(slab.centre_angstrom)[:, :2]
    z_rot, y_tilt, x_tilt = _angles(new, near_deg=geometry.y_tilt_deg + slab.y_tilt_deg, x_tilt_deg=geometry.x_tilt_deg)
    return geometry.replace(y_tilt_deg=y_tilt, z_rot_deg=z_rot, x_tilt_deg=x_tilt, shifts_angstrom=shifts)


def level_fits(
    fits: Sequence[CtfFit], geometry: TiltGeometry, slab: SpecimenSlab, *, hand: float
) -> tuple[CtfFit, ...]:
    """The CTF at the height of the new specimen centre, for :func:`level_geometry`.

    Parameters
    ----------
    fits : of every tilt, at the height of the old specimen centre
    geometry : before levelling
    hand : defocus of a point = defocus + hand * height

    Raises
    ------
    ShapeError : fits and geometry of different length
    InputError : the slab was not found
    """
    _check_found(slab)
    if len(fits) != len(geometry):
        raise ShapeError(f"{len(fits)} CTF fits and {len(geometry)} tilts were given; expected one each.")
    rise = hand * geometry.project(slab.centre_angstrom)[:, 2]
    return tuple(
        replace(
            fit,
            defocus_u_angstrom=fit.defocus_u_angstrom + float(change),
            defocus_v_angstrom=fit.defocus_v_angstrom + float(change),
        )
        for fit, change in zip(fits, rise, strict=True)
    )


def _check_found(slab: SpecimenSlab) -> None:
    if not slab.found:
        raise InputError("No specimen plane was found, so there is nothing to level. Leave the geometry as it is.")


def _angles(
    matrices: FloatArray, *, near_deg: FloatArray, x_tilt_deg: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """z_rot, y_tilt, x_tilt of Rz Ry Rx, of both solutions that with y_tilt nearest to `near_deg`."""
    sine, cosine = -matrices[:, 2, 0], np.hypot(matrices[:, 2, 1], matrices[:, 2, 2])
    one = np.rad2deg(np.arctan2(sine, cosine))
    other = np.rad2deg(np.arctan2(sine, -cosine))

    def away(angle: FloatArray) -> FloatArray:
        return np.asarray(np.abs((angle - near_deg + 180.0) % 360.0 - 180.0))

    side = np.where(away(one) <= away(other), 1.0, -1.0)
    y_tilt = np.where(side > 0, one, other)
    # edge-on only the sum or difference of the other two is known: leave the tilt about x as it was
    edge_on = cosine < 1e-9
    x_tilt = np.where(edge_on, x_tilt_deg, np.rad2deg(np.arctan2(side * matrices[:, 2, 1], side * matrices[:, 2, 2])))
    about_z = matrices @ np.swapaxes(rotation_y(y_tilt) @ rotation_x(x_tilt), -1, -2)
    return np.rad2deg(np.arctan2(about_z[:, 1, 0], about_z[:, 1, 1])), y_tilt, x_tilt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What every look at a series needs."""

    images: Tensor
    noise: Tensor
    pixel_size: float
    voxel: float
    shape: tuple[int, int, int]
    block: int
    field: tuple[float, float]

    def find(self, geometry: TiltGeometry) -> SpecimenSlab:
        """The slab in the frame of a geometry."""
        z = self._axis(0)
        y, x = _block_means(self._axis(1), self.block), _block_means(self._axis(2), self.block)
        seen = _seen(geometry, self.field, z, y, x)
        if seen.any(0).sum() < _LEAST_BLOCKS**2:
            return _nothing()
        even, odd = self._halves(self.images, geometry)
        energy = _block_energies(0.5 * (even + odd), self.block)
        first, second = self._halves(self.noise, geometry)
        occupied = _occupied(energy, _block_energies(0.5 * (first + second), self.block), seen)
        slab = _fit(_Evidence.build(occupied, seen, z, y, x), depth=self.shape[0] * self.voxel)
        if not slab.found:
            return slab
        radius = _feature_radius(even, odd, z, slab) * self.voxel
        return replace(slab, thickness_angstrom=slab.thickness_angstrom + 2.0 * radius)

    def _axis(self, axis: int) -> FloatArray:
        n = self.shape[axis]
        return np.asarray((np.arange(n) - centre_index(n)) * self.voxel, dtype=np.float64)

    def _halves(self, images: Tensor, geometry: TiltGeometry) -> tuple[Tensor, Tensor]:
        """Reconstructions from every other tilt."""

        def half(tilts: slice) -> Tensor:
            return reconstruct_volume(
                images[tilts],
                geometry[tilts],
                pixel_size=self.pixel_size,
                volume_shape=self.shape,
                voxel_size=self.voxel,
                params=ReconstructParams(dose_weighting=False),
            )

        return half(slice(0, None, 2)), half(slice(1, None, 2))


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
    """Band-passed images of variance about 1 at half the voxel's size or coarser, clipped; and their pixel size."""
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
    out = images.new_empty((images.shape[0], *shape))
    for t, image in enumerate(images):
        coarse = taper_edges(fourier_crop(image - image.mean(), shape), max(8, min(shape) // 25))
        filtered = torch.fft.irfft2(torch.fft.rfft2(coarse) * keep, s=shape)
        spread = 1.4826 * float(filtered.abs().median())
        out[t] = (filtered / spread).clamp(-_CLIP, _CLIP) if spread > 0 else 0.0
    return out, pixel


def _random_phases(images: Tensor) -> Tensor:
    """Noise with the power spectrum of each image."""
    generator = seeded_generator(0, images.device)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    phases = torch.fft.rfft2(noise)
    phases /= phases.abs().clamp(min=1e-20)
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(images).abs() * phases, s=images.shape[-2:])
    return out


def _block_energies(volume: Tensor, block: int) -> FloatArray:
    """(z, block y, block x) mean squares over `block` x `block` x 3 voxels."""
    planes, rows, columns = volume.shape
    y, x = ((n - n // block * block) // 2 for n in (rows, columns))
    cut = volume[:, y : y + rows // block * block, x : x + columns // block * block].double() ** 2
    means = cut.reshape(planes, rows // block, block, columns // block, block).mean((2, 4)).cpu().numpy()
    return np.asarray(uniform_filter1d(means, 3, axis=0))


def _block_means(axis: FloatArray, block: int) -> FloatArray:
    count = len(axis) // block
    start = (len(axis) - count * block) // 2
    return np.asarray(axis[start : start + count * block].reshape(count, block).mean(1))


def _seen(
    geometry: TiltGeometry, field: tuple[float, float], z: FloatArray, y: FloatArray, x: FloatArray
) -> np.ndarray:
    """(z, y, x) blocks that enough of the tilts see, inside of the tapered edges."""
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).transpose(2, 1, 0, 3)
    half = 0.46 * np.array([field[1], field[0]])
    count = np.zeros(points.shape[:3])
    for t in range(len(geometry)):
        place = geometry[t].project(points)[0, ..., :2]
        count += (np.abs(place) <= half).all(-1)
    return np.asarray(count >= _SEEN_BY * len(geometry))


def _occupied(energy: FloatArray, noise: FloatArray, seen: np.ndarray) -> np.ndarray:
    """Blocks that stand out from noise of the same power, spread over all heights, and from their neighbours."""
    even = uniform_filter(noise, (15, 5, 5)) + 1e-30
    threshold = float(np.quantile((noise / even)[seen], 1.0 - _FALSE_ALARMS))
    ratio = np.where(seen, energy / even, 0.0)
    return np.asarray((ratio > threshold) & (ratio >= maximum_filter(ratio, size=_ALONE)))


def _feature_radius(even: Tensor, odd: Tensor, z: FloatArray, slab: SpecimenSlab) -> float:
    """Radius in voxels of balls whose correlation within planes falls to one half where that of the features does.

    Correlated between the reconstructions of every other tilt, whose noise is independent.
    """
    inside = torch.from_numpy(np.abs(z - slab.z_angstrom) < 0.4 * slab.thickness_angstrom)
    shape = (even.shape[1], even.shape[2])
    first, second = (torch.fft.rfft2(taper_edges(v[inside], max(2, min(shape) // 8))) for v in (even, odd))
    together = torch.fft.irfft2((first * second.conj()).real.mean(0), s=shape).double().cpu().numpy()
    line = 0.5 * (together[0, : min(shape) // 2] + together[: min(shape) // 2, 0])
    if not line[0] > 0:
        return 0.0
    below = int(np.argmax(line < 0.5 * line[0]))
    half = below - 1 + (line[below - 1] - 0.5 * line[0]) / (line[below - 1] - line[below]) if below else 0.0
    return float(half / _BALL_HALF)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Evidence:
    """The occupied blocks among those that were looked at."""

    points: FloatArray
    """(block, 3), x, y, z in A."""
    occupied: FloatArray
    correlated: float
    """Blocks that tell the same."""
    step: float

    @classmethod
    def build(cls, occupied: np.ndarray, seen: np.ndarray, z: FloatArray, y: FloatArray, x: FloatArray) -> "_Evidence":
        points = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).transpose(2, 1, 0, 3)
        return cls(
            points=points[seen],
            occupied=occupied[seen].astype(np.float64),
            correlated=_correlated(occupied, seen),
            step=float(z[1] - z[0]),
        )

    def counts(self, slope_x: float, slope_y: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Edges of layers parallel to a plane, at distances along its normal, and running counts (all, occupied)."""
        x, y, z = self.points.T
        distance = (z - slope_x * x - slope_y * y) / math.sqrt(1.0 + slope_x**2 + slope_y**2)
        low = math.floor(distance.min() / self.step)
        layer = np.floor(distance / self.step).astype(np.int64) - low
        edges = (low + np.arange(layer.max() + 2)) * self.step
        every = np.bincount(layer, minlength=len(edges) - 1)
        some = np.bincount(layer, self.occupied, minlength=len(edges) - 1)
        return edges, np.r_[0.0, np.cumsum(every)], np.r_[0.0, np.cumsum(some)]

    def likelihood(self, slope_x: float, slope_y: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(edge, edge) log-likelihood of slabs from a lower to an upper edge, above that of none; edges; contrast."""
        edges, every, some = self.counts(slope_x, slope_y)
        inside, hits = every[None] - every[:, None], some[None] - some[:, None]
        outside, others = every[-1] - inside, some[-1] - hits
        gain = (_entropy(hits, inside) + _entropy(others, outside) - _entropy(some[-1:], every[-1:])) / self.correlated
        with np.errstate(divide="ignore", invalid="ignore"):
            contrast = (hits / inside) / (np.maximum(others, 0.5) / outside)
        gain[~((inside > 0) & (outside > 0) & (contrast > 1.0))] = -np.inf
        return gain, edges, contrast


def _entropy(hits: FloatArray, count: FloatArray) -> FloatArray:
    """Log-likelihood of `hits` of `count` at their own rate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        yes, no = hits * np.log(hits / count), (count - hits) * np.log(1.0 - hits / count)
    return np.asarray(np.nan_to_num(yes, nan=0.0) + np.nan_to_num(no, nan=0.0))


def _correlated(occupied: np.ndarray, seen: np.ndarray) -> float:
    """Blocks in the correlation volume of the occupied ones, counted from what differs within a plane."""
    rate = occupied.sum((1, 2), keepdims=True) / np.maximum(seen.sum((1, 2), keepdims=True), 1)
    field = np.where(seen, occupied - rate, 0.0)
    padded = [2 * n for n in field.shape]
    axes = (0, 1, 2)
    together = np.fft.irfftn(np.abs(np.fft.rfftn(field, padded, axes)) ** 2, padded, axes)
    if not together[0, 0, 0] > 0:
        return 1.0
    near = together / together[0, 0, 0]
    reach = [min(n - 1, limit) for n, limit in zip(field.shape, (16, 3, 3), strict=True)]
    cut = near[np.ix_(*[np.r_[0 : r + 1, -r:0] for r in reach])]
    return max(1.0, float(cut[cut > 0.1].sum()))


def _fit(evidence: _Evidence, *, depth: float) -> SpecimenSlab:
    """Means over all slabs, first over all inclinations, then over a finer grid about the best."""
    middle, spread = np.zeros(2), np.full(2, _STEEPEST / 3.0)
    post = _Posterior(mean=np.zeros(4), deviation=np.zeros(4), best=0.0, contrast=0.0)
    for _ in range(3):
        axes = [
            np.linspace(max(m - 3.0 * s, -_STEEPEST), min(m + 3.0 * s, _STEEPEST), 17)
            for m, s in zip(middle, spread, strict=True)
        ]
        looked = _posterior(evidence, axes[0], axes[1])
        if looked is None:
            return _nothing()
        post = looked
        middle = post.mean[:2]
        spread = np.clip(post.deviation[:2], 0.25 * np.array([a[1] - a[0] for a in axes]), _STEEPEST / 3.0)
    x_tilt, y_tilt, height, thickness = post.mean
    sigma = post.deviation
    found = (
        post.best > _LEAST_SCORE
        and post.contrast > _LEAST_CONTRAST
        and thickness + 2.0 * sigma[3] < _DEEPEST * depth
        and abs(height) + 0.5 * thickness < 0.5 * depth
        and max(abs(x_tilt), abs(y_tilt)) + sigma[:2].max() < _STEEPEST
    )
    return SpecimenSlab(
        found=bool(found),
        x_tilt_deg=float(x_tilt),
        y_tilt_deg=float(y_tilt),
        z_angstrom=float(height),
        thickness_angstrom=float(thickness),
        x_tilt_sigma_deg=float(sigma[0]),
        y_tilt_sigma_deg=float(sigma[1]),
        z_sigma_angstrom=float(sigma[2]),
        thickness_sigma_angstrom=float(sigma[3]),
        score=float(post.best),
        contrast=float(post.contrast),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Posterior:
    mean: FloatArray
    """x_tilt, y_tilt (degrees), height and thickness (A)."""
    deviation: FloatArray
    best: float
    contrast: float


def _posterior(evidence: _Evidence, x_tilts: FloatArray, y_tilts: FloatArray) -> _Posterior | None:
    parts: list[tuple[float, float, FloatArray, FloatArray]] = []
    best, contrast = -np.inf, 0.0
    for x_tilt in x_tilts:
        for y_tilt in y_tilts:
            normal = (rotation_y(y_tilt) @ rotation_x(x_tilt))[:, 2]
            gain, edges, ratio = evidence.likelihood(-normal[0] / normal[2], -normal[1] / normal[2])
            parts.append((float(gain.max()), float(normal[2]), gain, edges))
            if gain.max() > best:
                best, contrast = float(gain.max()), float(ratio.flat[int(gain.argmax())])
    if not np.isfinite(best):
        return None
    total, first, second = 0.0, np.zeros(4), np.zeros(4)
    grid = [(a, b) for a in x_tilts for b in y_tilts]
    for (x_tilt, y_tilt), (highest, upright, gain, edges) in zip(grid, parts, strict=True):
        if highest < best - 30.0:
            continue
        low, high = np.nonzero(gain > best - 30.0)
        weight = np.exp(gain[low, high] - best)
        centre, thickness = 0.5 * (edges[low] + edges[high]) / upright, edges[high] - edges[low]
        values = np.stack([np.full_like(centre, x_tilt), np.full_like(centre, y_tilt), centre, thickness])
        total += float(weight.sum())
        first += values @ weight
        second += values**2 @ weight
    mean = first / total
    return _Posterior(
        mean=mean, deviation=np.sqrt(np.maximum(second / total - mean**2, 0.0)), best=best, contrast=contrast
    )


def _nothing() -> SpecimenSlab:
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
