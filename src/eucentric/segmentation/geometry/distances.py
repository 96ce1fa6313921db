"""Distances from places to surfaces and between surfaces, and sites of contact. numpy, A."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry.surfaces import Surface, face_areas, need_faces, vertex_normals
from eucentric.typing import FloatArray

_FIRST, _MOST = 12, 96
_FAR = 8.0  # reaches of a triangle: from there on the choice of the triangle matters less than a hundredth of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearestPlaces:
    """What of a surface lies nearest to each of some places."""

    distance_angstrom: FloatArray
    """(place,), 0 or more."""
    side: NDArray[np.int64]
    """(place,), 1 on the side of the normals (outside a closed surface), -1 on the other."""
    positions_angstrom: FloatArray
    """(place, 3), on the surface."""
    normals: FloatArray
    """(place, 3) of the surface there, smooth between vertices."""
    faces: NDArray[np.int64]
    """(place,), the triangle."""

    @property
    def signed_angstrom(self) -> FloatArray:
        return np.asarray(self.distance_angstrom * self.side)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContactSites:
    """Patches of a surface that lie near to another, the largest first."""

    limit_angstrom: float
    area_angstrom2: FloatArray
    """(site,)."""
    mean_distance_angstrom: FloatArray
    """(site,), by area."""
    least_distance_angstrom: FloatArray
    """(site,)."""
    centres_angstrom: FloatArray
    """(site, 3), means by area."""
    site_of_face: NDArray[np.int64]
    """(face,) of the surface, the site it belongs to, -1 for none."""


def nearest_places(surface: Surface, positions_angstrom: ArrayLike) -> NearestPlaces:
    """The nearest place on the triangles of a surface: exact where its triangles are of like size, as those of this package.

    Near triangles are looked for by their middles: 12 of them, and 96 where others could be nearer still. Seen from farther away than
    some sides of a triangle that may miss the nearest place by the square of a side over twice the distance, at most.

    Raises
    ------
    ShapeError : positions that are not (n, 3)
    InputError : a surface without area, or positions that are NaN or infinite
    """
    need_faces(surface)
    places = np.asarray(positions_angstrom, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 3:
        raise ShapeError(f"Positions of shape {places.shape} were given; expected (n, 3).")
    if not np.isfinite(places).all():
        raise InputError("A position is NaN or infinite. Leave it out.")
    corners = surface.vertices_angstrom[surface.faces]
    middles = corners.mean(axis=1)
    reach = float(np.linalg.norm(corners - middles[:, None], axis=2).max())
    tree = cKDTree(middles)
    face = np.zeros(len(places), dtype=np.int64)
    share = np.zeros((len(places), 3))
    left = np.arange(len(places))
    best = np.full(len(places), np.inf)
    many = _FIRST
    while len(left):
        k = min(many, len(middles))
        again = []
        for part in np.array_split(left, max(1, len(left) * k // 2_000_000)):
            distance, index = tree.query(places[part], k=k)
            distance = np.asarray(distance, dtype=np.float64).reshape(len(part), k)
            index = np.asarray(index).reshape(len(part), k)
            found = _on_triangles(np.repeat(places[part], k, axis=0), corners[index.ravel()]).reshape(len(part), k, 3)
            spot = np.einsum("nkc,nkci->nki", found, corners[index])
            gap = np.linalg.norm(spot - places[part][:, None], axis=2)
            row, at = np.arange(len(part)), gap.argmin(axis=1)
            best[part], face[part], share[part] = gap[row, at], index[row, at], found[row, at]
            open_ = (best[part] > distance[:, -1] - reach) & (best[part] < _FAR * reach)
            again.append(part[open_ & (k < len(middles))])
        left = np.concatenate(again) if many < _MOST else np.zeros(0, dtype=np.int64)
        many *= 8
    spots = np.einsum("nc,nci->ni", share, corners[face])
    normals = np.einsum("nc,nci->ni", share, vertex_normals(surface)[surface.faces[face]])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    outside = np.einsum("ni,ni->n", places - spots, normals) >= 0
    return NearestPlaces(
        distance_angstrom=best,
        side=np.where(outside, 1, -1).astype(np.int64),
        positions_angstrom=spots,
        normals=normals,
        faces=face,
    )


def vertex_distances(surface: Surface, other: Surface) -> FloatArray:
    """(vertex,), A: from each vertex of a surface to the nearest place of another.

    Exact where it is near; from 8 sides of a triangle on to the nearest vertex, which is farther by a sixteenth of a side at most.

    Raises
    ------
    InputError : a surface without area
    """
    return distances_within(surface, other, np.inf)


def distances_within(surface: Surface, other: Surface, most: float) -> FloatArray:
    """(vertex,), A, as `vertex_distances`; `most` where it is more than that, which saves time."""
    need_faces(surface)
    need_faces(other)
    used = np.unique(other.faces)
    side = _longest_side(other)
    found, _ = cKDTree(other.vertices_angstrom[used]).query(surface.vertices_angstrom, distance_upper_bound=most + side)
    gap = np.asarray(found, dtype=np.float64)
    near = gap < _FAR * side
    gap[near] = nearest_places(other, surface.vertices_angstrom[near]).distance_angstrom
    return np.minimum(gap, most)


def _longest_side(surface: Surface) -> float:
    corners = surface.vertices_angstrom[surface.faces]
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max())


def contact_sites(
    surface: Surface, other: Surface, limit_angstrom: float, *, least_area_angstrom2: float = 0.0
) -> ContactSites:
    """Patches of a surface nearer than a limit to another, triangles at their edge counted by the part that is near.

    Parameters
    ----------
    least_area_angstrom2 : smaller patches are left out

    Raises
    ------
    InputError : a surface without area, or a limit that is not positive
    """
    if not (math.isfinite(limit_angstrom) and limit_angstrom > 0):
        raise InputError(f"The limit of contact is {limit_angstrom:g} A; expected a positive number.")
    need_faces(surface)
    # all corners of a triangle that is near in part lie nearer than that
    distance = distances_within(surface, other, limit_angstrom + 2.0 * _longest_side(surface))
    corner = distance[surface.faces]
    part = _part_below(corner, limit_angstrom)
    areas = part * face_areas(surface)
    near = np.flatnonzero(areas > 0)
    site = np.full(len(surface.faces), -1, dtype=np.int64)
    if len(near):
        faces = surface.faces[near]
        # joined over edges of which a part is near, not over single corners
        ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        edge = np.sort(ends, axis=1)
        below = distance[edge].min(axis=1) < limit_angstrom
        names = np.unique(edge[:, 0] * len(distance) + edge[:, 1], return_inverse=True)[1] + len(near)
        rows = np.tile(np.arange(len(near)), 3)[below]
        size = len(near) + len(edge)
        graph = coo_matrix((np.ones(len(rows)), (rows, names[below])), shape=(size, size))
        label = connected_components(graph, directed=False)[1][: len(near)]
        site[near] = np.unique(label, return_inverse=True)[1]
    count = int(site.max()) + 1 if len(site) else 0
    weights, numbers = areas[near], site[near]
    total = np.bincount(numbers, weights, minlength=count).astype(np.float64)
    # of triangles at the edge of a patch the limit stands for the corners beyond it
    middle = np.minimum(corner[near], limit_angstrom).mean(axis=1)
    means = np.bincount(numbers, weights * middle, minlength=count) / np.maximum(total, 1e-300)
    places = surface.vertices_angstrom[surface.faces[near]].mean(axis=1)
    centres = np.stack([np.bincount(numbers, weights * places[:, k], minlength=count) for k in range(3)], axis=1)
    least = np.full(count, np.inf)
    np.minimum.at(least, numbers, corner[near].min(axis=1))
    order = np.argsort(-total, kind="stable")
    order = order[total[order] >= max(least_area_angstrom2, 1e-12)]
    new = np.full(count + 1, -1, dtype=np.int64)
    new[order] = np.arange(len(order))
    return ContactSites(
        limit_angstrom=limit_angstrom,
        area_angstrom2=total[order],
        mean_distance_angstrom=means[order],
        least_distance_angstrom=least[order],
        centres_angstrom=(centres / np.maximum(total, 1e-300)[:, None])[order],
        site_of_face=new[site],
    )


def _part_below(corner: FloatArray, limit: float) -> FloatArray:
    """(face,) part of a triangle where a value linear between its corners lies below a limit."""
    a, b, c = np.sort(corner, axis=1).T
    with np.errstate(divide="ignore", invalid="ignore"):
        one = (limit - a) ** 2 / ((b - a) * (c - a))
        two = 1.0 - (c - limit) ** 2 / ((c - a) * (c - b))
    return np.asarray(np.select([limit <= a, limit < b, limit < c], [0.0, one, two], 1.0))


def _on_triangles(places: FloatArray, corners: FloatArray) -> FloatArray:
    """(n, 3) shares of the corners in the nearest place of each triangle (n, 3, 3)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    u, v, w = b - a, c - a, places - a
    uu, uv, vv, wu, wv = (np.einsum("ni,ni->n", p, q) for p, q in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    scale = np.maximum(uu * vv - uv * uv, 1e-300)
    s, t = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    inside = (s >= 0) & (t >= 0) & (s + t <= 1)
    shares = np.stack([1.0 - s - t, s, t], axis=1)
    # else on one of the sides
    best = np.full(len(places), np.inf)
    sides = np.zeros_like(shares)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        way = corners[:, second] - corners[:, first]
        from_first = places - corners[:, first]
        part = np.einsum("ni,ni->n", from_first, way) / np.maximum(np.einsum("ni,ni->n", way, way), 1e-300)
        part = np.clip(part, 0.0, 1.0)
        gap = ((from_first - part[:, None] * way) ** 2).sum(axis=1)
        closer = gap < best
        best = np.where(closer, gap, best)
        sides[closer] = 0.0
        sides[closer, first], sides[closer, second] = 1.0 - part[closer], part[closer]
    return np.where(inside[:, None], shares, sides)
