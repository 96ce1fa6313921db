"""Where the specimen begins and ends in z, from the strength of its texture: faces of ice or of a lamella, and its thickness."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.segmentation.params import SpecimenParams
from eucentric.typing import FloatArray

_CLIP_SD = 3.0
_ROUNDS = 2
_LEAST_PLANES = 12
_SD_OF_MAD = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpecimenFaces:
    """Two smooth surfaces; heights in A above voxel n // 2 of the volume."""

    bottom_angstrom: FloatArray
    """(y, x) of the volume."""
    top_angstrom: FloatArray
    """(y, x)."""
    quality: FloatArray
    """(node_y, node_x): standard deviations by which the texture within stands out from that beyond the faces."""
    found: bool
    """Whether the median of that is what the settings ask for; if not, the faces are those of the volume."""

    @property
    def thickness_angstrom(self) -> FloatArray:
        """(y, x), along z."""
        return np.asarray(self.top_angstrom - self.bottom_angstrom)

    def inclination_deg(self, voxel_size: float) -> tuple[float, float]:
        """By how many degrees the plane midway between the faces rises along x and along y."""
        middle = 0.5 * (self.bottom_angstrom + self.top_angstrom)
        rows, columns = middle.shape
        y, x = np.meshgrid(np.arange(rows) * voxel_size, np.arange(columns) * voxel_size, indexing="ij")
        plane = np.stack([np.ones(middle.size), y.ravel(), x.ravel()], axis=1)
        _, along_y, along_x = np.linalg.lstsq(plane, middle.ravel(), rcond=None)[0]
        return math.degrees(math.atan(along_x)), math.degrees(math.atan(along_y))

    def normal_thickness_angstrom(self, voxel_size: float) -> FloatArray:
        """(y, x), across the plane midway between the faces: what is measured along z of an inclined slab is too much."""
        slopes = [math.tan(math.radians(angle)) for angle in self.inclination_deg(voxel_size)]
        return np.asarray(self.thickness_angstrom / math.sqrt(1.0 + slopes[0] ** 2 + slopes[1] ** 2))

    def mask(self, shape: tuple[int, int, int], voxel_size: float, margin_angstrom: float = 0.0) -> NDArray[np.bool_]:
        """(z, y, x) voxels between the faces, grown by a margin."""
        if shape[1:] != self.top_angstrom.shape:
            raise ShapeError(
                f"A volume of {shape} was given for faces of {self.top_angstrom.shape}; expected the same y, x."
            )
        z = ((np.arange(shape[0]) - shape[0] // 2) * voxel_size)[:, None, None]
        return np.asarray((z >= self.bottom_angstrom - margin_angstrom) & (z <= self.top_angstrom + margin_angstrom))


def find_faces(volume: Float[Tensor, "z y x"], voxel_size: float, params: SpecimenParams) -> SpecimenFaces:
    """Faces of the specimen by the local variance of a band of detail.

    The volume is band-passed, clipped at three standard deviations and squared. For columns a node spacing wide, the logarithm of the
    variance along z is fitted by a box between two flat stretches: the split into three with the least square error, twice more
    in columns that follow the inclination. A
    median over neighbouring nodes and a Gaussian between them make the surfaces smooth. Where a stretch beyond a face is not
    seen, the face is that of the volume.

    Raises
    ------
    ShapeError : not a volume
    InputError : too thin, no contrast, or a voxel size that is not positive
    """
    if volume.ndim != 3:
        raise ShapeError(f"An array of shape {tuple(volume.shape)} was given; expected a volume (z, y, x).")
    if not voxel_size > 0 or volume.shape[0] < _LEAST_PLANES:
        raise InputError(
            f"{volume.shape[0]} planes of {voxel_size:g} A were given; expected at least {_LEAST_PLANES} of a positive size."
        )
    detail, step = _detail(volume, voxel_size, params)
    columns = [max(1, round(n * s / params.spacing_angstrom)) for n, s in zip(detail.shape[1:], step[1:], strict=True)]
    low, high, quality = _fitted(detail, columns)
    # a column as wide as a node spacing blurs the faces of an inclined slab: again along its inclination, and once more
    slopes = np.zeros(2)
    for _ in range(_ROUNDS):
        if np.median(quality) < params.min_quality:
            break
        slopes = slopes + _inclination(0.5 * (low + high), quality)
        offsets = np.rint(_plane(slopes, (detail.shape[1], detail.shape[2]))).astype(np.int64)
        index = np.clip(np.arange(len(detail))[:, None, None] + offsets, 0, len(detail) - 1)
        low, high, quality = _fitted(np.take_along_axis(detail, index, axis=0), columns)
    planes, half = detail.shape[0], volume.shape[0] // 2 * voxel_size
    found = bool(np.median(quality) >= params.min_quality)
    if not found:
        low, high, slopes = np.zeros_like(low), np.full_like(high, planes), np.zeros(2)
    shape = (volume.shape[1], volume.shape[2])
    plane = _plane(slopes, shape)
    bottom, top = (
        np.clip(_spread(_smooth(edge.astype(np.float64)), shape) + plane, 0.0, planes) * step[0]
        - 0.5 * voxel_size
        - half
        for edge in (low, high)
    )
    return SpecimenFaces(bottom_angstrom=bottom, top_angstrom=top, quality=quality, found=found)


def _detail(volume: Tensor, voxel_size: float, params: SpecimenParams) -> tuple[FloatArray, tuple[float, ...]]:
    """Squares of the band of detail, and the size of its voxels."""
    finest, coarsest = params.texture_angstrom
    shape = tuple(volume.shape)
    new = tuple(min(a, b) for a, b in zip(shape, rescaled_shape(shape, voxel_size, 0.5 * finest), strict=True))
    coarse = fourier_crop(volume.float() - volume.float().mean(), new if 0.5 * finest > voxel_size else shape)
    step = tuple(n * voxel_size / m for n, m in zip(shape, coarse.shape, strict=True))
    keep = band_pass(
        frequency_grid(tuple(coarse.shape), step[1], device=coarse.device),
        low_pass_angstrom=finest,
        high_pass_angstrom=coarsest,
    )
    band = torch.fft.irfftn(torch.fft.rfftn(coarse) * keep, s=tuple(coarse.shape))
    spread = float(band.std())
    if not (math.isfinite(spread) and spread > 0):
        raise InputError("The volume has no contrast, or values that are not numbers: its specimen cannot be told.")
    return np.asarray((band / spread).clamp(-_CLIP_SD, _CLIP_SD).square().double().cpu().numpy()), step


def _of_columns(values: FloatArray, columns: list[int]) -> FloatArray:
    """(plane, node_y, node_x) means over the columns of nodes."""
    return np.stack(
        [
            np.stack([block.mean((1, 2)) for block in np.array_split(rows, columns[1], axis=2)], axis=-1)
            for rows in np.array_split(values, columns[0], axis=1)
        ],
        axis=-2,
    )


def _fitted(detail: FloatArray, columns: list[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    power = _of_columns(detail, columns)
    return _box_fits(np.log(np.maximum(power, 1e-6 * power.max())))


def _inclination(middle: FloatArray, quality: FloatArray) -> FloatArray:
    """(2,) planes by which the middles of nodes rise from one face of the volume to the other, along y and x."""
    y, x = (place.ravel() for place in np.meshgrid(*(_places(m) for m in middle.shape), indexing="ij"))
    weights = np.sqrt(quality.ravel())
    terms = np.stack([np.ones(middle.size), y, x], axis=1)
    return np.asarray(np.linalg.lstsq(terms * weights[:, None], middle.ravel() * weights, rcond=None)[0][1:])


def _plane(slopes: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """(y, x) planes above the middle."""
    y, x = (_places(n) for n in shape)
    return np.asarray(slopes[0] * y[:, None] + slopes[1] * x)


def _places(count: int) -> FloatArray:
    return np.asarray((np.arange(count) + 0.5) / count - 0.5)


def _box_fits(logs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """First plane within, first beyond, and by how many standard deviations the box stands out; (node_y, node_x) each."""
    planes, rows, columns = logs.shape
    sums = np.concatenate([np.zeros((1, rows, columns)), np.cumsum(logs, 0)])
    low, high, quality = (np.zeros((rows, columns)) for _ in range(3))
    first, last = np.triu_indices(planes + 1, max(3, planes // 20))
    outside = planes - (last - first)
    usable = outside >= 2
    first, last, outside = first[usable], last[usable], outside[usable]
    for r in range(rows):
        for c in range(columns):
            line = sums[:, r, c]
            within = line[last] - line[first]
            beyond = line[-1] - within
            rise = within / (last - first) - beyond / outside
            gain = np.where(rise > 0, rise**2 * (last - first) * outside / planes, -1.0)
            best = int(gain.argmax())
            rest = logs[:, r, c].copy()
            rest[first[best] : last[best]] -= max(rise[best], 0.0)
            noise = _SD_OF_MAD * np.median(np.abs(rest - np.median(rest)))
            low[r, c], high[r, c] = first[best], last[best]
            quality[r, c] = max(rise[best], 0.0) / max(noise, 1e-9)
    return low, high, quality


def _smooth(nodes: FloatArray) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(ndimage.median_filter(nodes, 3, mode="nearest"), 0.7, mode="nearest"))


def _spread(nodes: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Node heights, each in the middle of its column, on every voxel: cubic between nodes, level beyond the outermost."""
    places = [
        np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0.0, m - 1.0) for n, m in zip(shape, nodes.shape, strict=True)
    ]
    grid = np.meshgrid(*places, indexing="ij")
    return np.asarray(ndimage.map_coordinates(nodes, grid, order=3 if min(nodes.shape) > 3 else 1, mode="nearest"))
