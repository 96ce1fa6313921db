"""Points with normals on a surface, evenly spaced, for picking. numpy, A."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.segmentation.geometry.surfaces import Surface, face_areas, need_faces, vertex_normals
from eucentric.typing import FloatArray

_DARTS = 12.0  # candidates for each point that fits
_HEXAGON = math.sqrt(3.0) / 2.0
_MOST_DARTS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfacePoints:
    """Places on a surface."""

    positions_angstrom: FloatArray
    """(point, 3)."""
    normals: FloatArray
    """(point, 3) unit vectors."""
    faces: NDArray[np.int64]
    """(point,), the triangle that each lies on."""


def random_points(surface: Surface, count: int, generator: np.random.Generator) -> SurfacePoints:
    """Points anywhere on a surface, each place as likely as any other by area; normals smooth between vertices.

    Raises
    ------
    InputError : a surface without area, or a negative number
    """
    need_faces(surface)
    if count < 0:
        raise InputError(f"{count} points were asked for; expected 0 or more.")
    chosen, share = random_shares(surface, count, generator)
    corners = surface.faces[chosen]
    normals = np.einsum("nk,nki->ni", share, vertex_normals(surface)[corners])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return SurfacePoints(
        positions_angstrom=np.einsum("nk,nki->ni", share, surface.vertices_angstrom[corners]),
        normals=normals / np.maximum(length, 1e-300),
        faces=chosen,
    )


def random_shares(surface: Surface, count: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], FloatArray]:
    """Triangles (count,) and the shares (count, 3) of their corners in places that are anywhere on a surface."""
    areas = face_areas(surface)
    chosen = generator.choice(len(areas), size=count, p=areas / areas.sum())
    u, v = generator.uniform(size=(2, count))
    fold = u + v > 1.0
    u, v = np.where(fold, 1.0 - u, u), np.where(fold, 1.0 - v, v)
    return chosen.astype(np.int64), np.stack([1.0 - u - v, u, v], axis=1)


def spaced_points(
    surface: Surface, spacing_angstrom: float, generator: np.random.Generator, *, offset_angstrom: float = 0.0
) -> SurfacePoints:
    """Points none nearer than the spacing to another, dense enough that none could be added in many places.

    The side of the normals is that of the surface (`facing`).

    Parameters
    ----------
    spacing_angstrom : least distance, in a straight line
    offset_angstrom : how far along its normal each goes, afterwards

    Raises
    ------
    InputError : a surface without area, or a spacing that is not positive, or so fine that more than a million points would come
    """
    need_faces(surface)
    if not (math.isfinite(spacing_angstrom) and spacing_angstrom > 0 and math.isfinite(offset_angstrom)):
        raise InputError(f"The spacing is {spacing_angstrom:g} A; expected a positive number, and an offset in A.")
    fits = float(face_areas(surface).sum()) / (_HEXAGON * spacing_angstrom**2)
    count = max(16, math.ceil(_DARTS * fits))
    if count > _MOST_DARTS:
        raise InputError(f"A spacing of {spacing_angstrom:g} A makes {fits:,.0f} points. Ask for a wider one.")
    found = random_points(surface, count, generator)
    pairs = cKDTree(found.positions_angstrom).query_pairs(spacing_angstrom * (1 - 1e-9), output_type="ndarray")
    kept = np.flatnonzero(_first_come(count, pairs))
    normals = found.normals[kept]
    return SurfacePoints(
        positions_angstrom=found.positions_angstrom[kept] + offset_angstrom * normals,
        normals=normals,
        faces=found.faces[kept],
    )


def _first_come(count: int, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of points in order those with none of the kept before them too near.

    Round by round: what has no undecided point before it is kept, and what is near it falls. As good as one after the other.
    """
    kept, open_ = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    first, second = pairs.min(axis=1), pairs.max(axis=1)
    while open_.any():
        waits = np.zeros(count, dtype=bool)
        waits[second] = True
        now = open_ & ~waits
        kept |= now
        open_ &= ~now
        fallen = second[now[first]]
        open_[fallen] = False
        live = open_[first] & open_[second]
        first, second = first[live], second[live]
    return kept
