"""How a surface bends, at each vertex and at a stated scale. numpy, A."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.segmentation.geometry.surfaces import Surface, need_faces, neighbours, vertex_areas, vertex_normals
from eucentric.typing import FloatArray

_CELLS = 6.0  # in the radius: the surface is averaged in cubes of that side
_MOST = 200  # cubes around one
_LEAST_CELLS = 12
_LEAST_SPREAD = 1e-3
_FITS = 3
_NEAREST = 4
_STEADY = 6
_CHUNK = 4096
_SAME_SIDE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curvatures:
    """Positive where the surface bends away from its normals, as a ball's with normals outwards does. NaN where unknown."""

    radius_angstrom: float
    """Of the patch around each vertex that was fitted: the scale. What is smaller is averaged away."""
    principal_1_per_angstrom: FloatArray
    """(vertex,), the greater one."""
    principal_2_per_angstrom: FloatArray
    """(vertex,), the lesser one."""
    direction_1: FloatArray
    """(vertex, 3), unit vectors along which the greater one is; either sign."""

    @property
    def mean_per_angstrom(self) -> FloatArray:
        return np.asarray(0.5 * (self.principal_1_per_angstrom + self.principal_2_per_angstrom))

    @property
    def gaussian_per_angstrom2(self) -> FloatArray:
        return np.asarray(self.principal_1_per_angstrom * self.principal_2_per_angstrom)


def surface_curvatures(surface: Surface, radius_angstrom: float) -> Curvatures:
    """Principal curvatures by fitting a polynomial of second degree over the tangent plane, patch by patch [1]_.

    The surface is averaged in cubes of a sixth of the radius. Around each of them its neighbours within the radius on the same side of
    the sheet count, by area and falling towards the edge of the patch. What a patch of constant curvature adds in the fourth degree,
    ``(p.S^2 p) (p.S p) / 8`` of the shape S found first, is taken off before the second fit; without it a patch of half the radius of
    curvature would be wrong by 6%. Vertices take the mean of the four nearest cubes. NaN where a patch is too narrow for the fit.

    Parameters
    ----------
    radius_angstrom : a third to a half of the radius of curvature that matters, and 6 voxels of a label or more: noise of the surface
        falls with its third power

    Raises
    ------
    InputError : a surface without area, or a radius that is not positive

    References
    ----------
    .. [1] Cazals & Pouget, Comput. Aided Geom. Des. 22:121 (2005), doi:10.1016/j.cagd.2004.09.004
    """
    need_faces(surface)
    if not (math.isfinite(radius_angstrom) and radius_angstrom > 0):
        raise InputError(f"The radius of the patches is {radius_angstrom:g} A; expected a positive number.")
    normals = _steady_normals(surface)
    cells, cell_normals, cell_areas = _cells(surface, normals, radius_angstrom / _CELLS)
    tree = cKDTree(cells)
    shapes = np.full((len(cells), 3, 3), np.nan)
    unit = cell_normals / np.maximum(np.linalg.norm(cell_normals, axis=1, keepdims=True), 1e-300)
    for start in range(0, len(cells), _CHUNK):
        rows = np.arange(start, min(len(cells), start + _CHUNK))
        distance, index = tree.query(cells[rows], k=min(_MOST, len(cells)), distance_upper_bound=radius_angstrom)
        distance = np.asarray(distance, dtype=np.float64).reshape(len(rows), -1)
        index = np.asarray(index).reshape(len(rows), -1)
        there: NDArray[np.bool_] = np.isfinite(distance)
        index = np.where(there, index, 0)
        there &= np.einsum("nki,ni->nk", unit[index], unit[rows]) > _SAME_SIDE
        near = np.where(there, distance, 0.0) / radius_angstrom
        weight = np.where(there, cell_areas[index] * (1.0 - near**2), 0.0)
        shapes[rows] = _fitted((cells[index] - cells[rows][:, None]) / radius_angstrom, weight, unit[rows])
    at_vertices = _spread(shapes / radius_angstrom, cells, unit, surface.vertices_angstrom, normals)
    known = np.isfinite(at_vertices).all(axis=(1, 2))
    x, y = _tangents(normals)
    frame = np.stack([x, y], axis=1)
    n = len(normals)
    values, along = np.full((n, 2), np.nan), np.full((n, 3), np.nan)
    flat = frame[known] @ at_vertices[known] @ frame[known].transpose(0, 2, 1)
    values[known], vectors = np.linalg.eigh(flat)
    along[known] = np.einsum("na,nai->ni", vectors[:, :, 1], frame[known])
    return Curvatures(
        radius_angstrom=radius_angstrom,
        principal_1_per_angstrom=values[:, 1],
        principal_2_per_angstrom=values[:, 0],
        direction_1=along,
    )


def _steady_normals(surface: Surface) -> FloatArray:
    """(vertex, 3) normals averaged over some edges around: those of single vertices are at the mercy of noise."""
    normals, near = vertex_normals(surface), neighbours(surface)
    for _ in range(_STEADY):
        normals = normals + near @ normals
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    return normals


def _spread(
    shapes: FloatArray, cells: FloatArray, unit: FloatArray, places: FloatArray, normals: FloatArray
) -> FloatArray:
    """(vertex, 3, 3): mean of the shapes of the nearest cubes on the same side, by inverse distance."""
    known = np.asarray(np.isfinite(shapes).all(axis=(1, 2)))
    out = np.full((len(places), 3, 3), np.nan)
    if not known.any():
        return out
    distance, index = cKDTree(cells[known]).query(places, k=min(_NEAREST, int(known.sum())))
    distance = np.asarray(distance, dtype=np.float64).reshape(len(places), -1)
    index = np.asarray(index).reshape(len(places), -1)
    # where the nearest cube of all could not be fitted, its vertices are not known either
    _, own = cKDTree(cells).query(places)
    like = np.einsum("nki,ni->nk", unit[known][index], normals) > _SAME_SIDE
    weight = np.where(like, 1.0 / np.maximum(distance, 1e-9), 0.0)
    total = weight.sum(axis=1)
    good = known[own] & (total > 0)
    out[good] = np.einsum("nk,nkij->nij", weight[good], shapes[known][index[good]]) / total[good, None, None]
    return out


def _tangents(normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    side = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    x = side - np.einsum("ni,ni->n", side, normals)[:, None] * normals
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    return x, np.cross(normals, x)


def _cells(surface: Surface, normals: FloatArray, side: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean places, normals and areas of the vertices in each cube and of one of six directions."""
    areas = vertex_areas(surface)
    used = areas > 0
    places, normals, areas = surface.vertices_angstrom[used], normals[used], areas[used]
    cube = np.floor((places - places.min(axis=0)) / side).astype(np.int64)
    axis = np.abs(normals).argmax(axis=1)
    way = 2 * axis + (normals[np.arange(len(normals)), axis] > 0)
    names = np.ravel_multi_index((*cube.T, way), (*(cube.max(axis=0) + 1), 6))
    _, index = np.unique(names, return_inverse=True)
    total = np.bincount(index, areas)
    means = [
        np.stack([np.bincount(index, areas * v[:, k]) / total for k in range(3)], axis=1) for v in (places, normals)
    ]
    return means[0], means[1], np.asarray(total, dtype=np.float64)


def _fitted(offsets: FloatArray, weight: FloatArray, normals: FloatArray) -> FloatArray:
    """(patch, 3, 3) shapes of patches of radius 1: the curvature along a tangent t is t.S t. NaN where it cannot be told."""
    x, y = _tangents(normals)
    u, v, h = (np.einsum("nki,ni->nk", offsets, axis) for axis in (x, y, normals))
    terms = np.stack([np.ones_like(u), u, v, 0.5 * u * u, u * v, 0.5 * v * v], axis=1)
    total = np.maximum(weight.sum(axis=1), 1e-300)[:, None]
    weighted = terms * (weight / total)[:, None, :]
    matrix = weighted @ terms.transpose(0, 2, 1)
    good = (weight > 0).sum(axis=1) >= _LEAST_CELLS
    least = np.linalg.eigvalsh(matrix)
    # a patch that reaches to one side only leaves the second degree open
    good &= least[:, 0] > _LEAST_SPREAD * least[:, -1]
    out = np.full((len(h), 3, 3), np.nan)
    if not good.any():
        return out
    inverse = np.linalg.inv(matrix[good])
    weighted, u, v, h = weighted[good], u[good], v[good], h[good]
    higher = np.zeros_like(h)
    for _ in range(_FITS):
        _, fu, fv, fuu, fuv, fvv = np.einsum("nab,nb->an", inverse, np.einsum("nak,nk->na", weighted, h - higher))
        p, q = fuu[:, None] * u + fuv[:, None] * v, fuv[:, None] * u + fvv[:, None] * v
        higher = (p * p + q * q) * (u * p + v * q) / 8.0
    slope = np.sqrt(1.0 + fu**2 + fv**2)
    first = np.stack([np.stack([1 + fu**2, fu * fv], 1), np.stack([fu * fv, 1 + fv**2], 1)], 1)
    second = -np.stack([np.stack([fuu, fuv], 1), np.stack([fuv, fvv], 1)], 1) / slope[:, None, None]
    # in orthonormal tangents of the patch as fitted
    inner = np.linalg.inv(first)
    along_u = x[good] + fu[:, None] * normals[good]
    along_v = y[good] + fv[:, None] * normals[good]
    dual = np.einsum("nab,nbi->nai", inner, np.stack([along_u, along_v], axis=1))
    out[good] = np.einsum("nai,nab,nbj->nij", dual, second, dual)
    return out


def bending(surface: Surface, curvatures: Curvatures) -> float:
    """Integral of (c1 + c2)^2 / 2 over the area where curvatures are known: 8 pi for a ball; the bending energy over the rigidity."""
    areas = vertex_areas(surface)
    value = 2.0 * curvatures.mean_per_angstrom**2
    known: NDArray[np.bool_] = np.isfinite(value)
    return float((areas[known] * value[known]).sum())
