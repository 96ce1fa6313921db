"""Small grey pictures of a search: the tomogram in slabs, scores seen from above and the side, picks in their own frames."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from eucentric.picking.candidates import Candidates
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_MOST_PX = 360  # of a slab's longer side
_MOST_SLABS = 4
_PERCENTILE = 0.5  # of voxels that are black, and as many white
_SAMPLES = 48  # along a side of a picture of a pick
_SIDE = 1.6  # of that picture, in diameters
_SHOWN = 8  # picks of each group of the gallery
_SLAB = 2.0  # diameters, thickness of the layers that are shown
_PLANES = 5  # averaged for it, over an eighth of the diameter to each side

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slabs:
    """A tomogram as means of thick layers."""

    images: Grey
    """(slab, y, x)."""
    edges_angstrom: FloatArray
    """(slab + 1,), heights of their faces."""
    pixel_angstrom: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """Slices through picks, each in the frame of its template."""

    rows: NDArray[np.int64]
    """(shown,), numbers of the candidates."""
    groups: NDArray[np.int64]
    """(shown,), 0: the best, 1: the worst that were kept, 2: the best that were not."""
    slices: Grey
    """(shown, 3, side, side): xy, xz and yz planes through the middle, first letter to the right."""


def tomogram_slabs(
    volume: Float[Tensor, "z y x"], voxel_size: float, region: Tensor, thickness_angstrom: float
) -> Slabs:
    """Means of layers that cover the heights where it was looked.

    Parameters
    ----------
    region : (z, y, x) bool
    thickness_angstrom : wished for a layer; thicker where the specimen would need too many
    """
    depth = volume.shape[0]
    looked = np.flatnonzero(region.any(dim=2).any(dim=1).cpu().numpy())
    first, last = (int(looked[0]), int(looked[-1]) + 1) if len(looked) else (0, depth)
    count = min(_MOST_SLABS, max(1, round((last - first) * voxel_size / thickness_angstrom)))
    edges = np.unique(np.linspace(first, last, count + 1).round().astype(int))
    bin_px = max(1, math.ceil(max(volume.shape[1:]) / _MOST_PX))
    images = []
    for low, high in itertools.pairwise(edges):
        layer = volume[low:high].mean(dim=0)
        rows, columns = (n // bin_px * bin_px for n in layer.shape)
        small = layer[:rows, :columns].reshape(rows // bin_px, bin_px, columns // bin_px, bin_px).mean(dim=(1, 3))
        images.append(grey(small.cpu().numpy()))
    return Slabs(
        images=np.stack(images),
        edges_angstrom=(edges - depth // 2 - 0.5) * voxel_size,
        pixel_angstrom=bin_px * voxel_size,
    )


def score_views(scores: Float[Tensor, "z y x"]) -> tuple[Grey, Grey, FloatArray]:
    """Greatest scores along z (y, x) and along y (z, x), and the scores (2,) that 1 and 255 stand for; 0: not looked."""
    values = np.where(np.isfinite(found := scores.cpu().numpy()), found, -np.inf)
    top, side = values.max(axis=0), values.max(axis=1)
    seen = np.concatenate([top[np.isfinite(top)], side[np.isfinite(side)]])
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    return _levels(top, low, high), _levels(side, low, high), np.array([low, high])


def _levels(values: FloatArray, low: float, high: float) -> Grey:
    part = np.where(np.isfinite(values), values - low, 0.0) / max(high - low, 1e-12)
    return np.where(np.isfinite(values), 1 + np.round(254 * part.clip(0, 1)), 0).astype(np.uint8)


def grey(values: FloatArray, percentile: float = _PERCENTILE) -> Grey:
    """Grey values from black to white."""
    low, high = np.percentile(values, [percentile, 100.0 - percentile])
    part: FloatArray = (values - low) / max(float(high - low), 1e-12)
    return np.round(255 * part.clip(0, 1)).astype(np.uint8)


def choose_for_gallery(found: Candidates, kind: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates of one kind to be shown and the group of each, as in `Gallery`; no candidate twice."""
    mine = found.template == kind
    order = np.argsort(-found.score, kind="stable")
    kept = order[mine[order] & found.kept[order]]
    other = order[mine[order] & ~found.kept[order]]
    best, rest = kept[:count], kept[count:]
    chosen = [best, rest[-count:] if len(rest) else rest, other[:count]]
    groups = np.concatenate([np.full(len(rows), g) for g, rows in enumerate(chosen)])
    return np.concatenate(chosen).astype(np.int64), groups.astype(np.int64)


def gallery(volume: Float[Tensor, "z y x"], voxel_size: float, found: Candidates, kind: int, count: int) -> Gallery:
    """Slices through the best, the worst and the best rejected candidates of one kind, so many of each."""
    rows, groups = choose_for_gallery(found, kind, count)
    places, turns = found.position_angstrom.astype(np.float64), found.rotation.astype(np.float64)
    side = float(found.diameter_angstrom[kind])
    slices = [slices_in_frame(volume, voxel_size, places[row], turns[row], side) for row in rows]
    shown = np.stack([grey(s) for s in slices]) if slices else np.zeros((0, 3, _SAMPLES, _SAMPLES), dtype=np.uint8)
    return Gallery(rows=rows, groups=groups, slices=shown)


def pictures_of_picks(
    volume: Float[Tensor, "z y x"], voxel_size: float, region: Tensor, found: Candidates
) -> dict[str, Any]:
    """Grey values by name, as they are kept: layers of the tomogram, and the gallery of each kind.

    Parameters
    ----------
    region : (z, y, x) bool, where it was looked
    """
    slabs = tomogram_slabs(volume, voxel_size, region, _SLAB * float(found.diameter_angstrom.max()))
    arrays: dict[str, Any] = {
        "slabs": slabs.images,
        "slab_edges_angstrom": slabs.edges_angstrom,
        "slab_pixel_angstrom": np.array(slabs.pixel_angstrom),
    }
    for number in range(len(found.kinds)):
        shown = gallery(volume, voxel_size, found, number, _SHOWN)
        arrays |= {
            f"gallery_row_{number}": shown.rows,
            f"gallery_group_{number}": shown.groups,
            f"gallery_slices_{number}": shown.slices,
        }
    return arrays


def template_slices(template: Template) -> Grey:
    """(3, side, side) as of the picks of a gallery, protein dark as in tomograms."""
    planes = slices_in_frame(
        template.density, template.voxel_size_angstrom, np.zeros(3), np.eye(3), template.diameter_angstrom
    )
    return grey(-planes)


def slices_in_frame(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    position_angstrom: FloatArray,
    rotation: FloatArray,
    diameter_angstrom: float,
) -> FloatArray:
    """(3, side, side) xy, xz and yz planes about a position in the frame of the reference; first letter to the right.

    A few planes are averaged. Voxels are interpolated once, by cubic splines; outside of the volume lies its mean there.

    Parameters
    ----------
    position_angstrom : (3,) x, y, z from the centre
    rotation : (3, 3) reference to specimen
    """
    line = (np.arange(_SAMPLES) - _SAMPLES // 2) * (_SIDE * diameter_angstrom / _SAMPLES)
    deep = np.linspace(-1.0, 1.0, _PLANES) * diameter_angstrom / 8.0
    up, across, away = np.meshgrid(line, line, deep, indexing="ij")
    places = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        points = np.empty((*up.shape, 3))
        points[..., first], points[..., second], points[..., 3 - first - second] = across, up, away
        places.append(points)
    points = np.stack(places) @ rotation.T + position_angstrom
    centre = np.array([n // 2 for n in volume.shape])
    voxels = points[..., ::-1] / voxel_size + centre
    # splines of the neighbourhood alone
    low = np.maximum(np.floor(voxels.reshape(-1, 3).min(0)).astype(int) - 4, 0)
    high = np.minimum(np.ceil(voxels.reshape(-1, 3).max(0)).astype(int) + 5, volume.shape)
    box = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].cpu().numpy().astype(np.float64)
    read = map_coordinates(box, np.moveaxis(voxels - low, -1, 0), order=3, mode="constant", cval=float(box.mean()))
    out: FloatArray = read.mean(axis=-1)
    return out
