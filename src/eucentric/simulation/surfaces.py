"""Curved surfaces as triangles: areas, normals, points on them and at a distance from them, signed distances to them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """A mesh of triangles with outward normals."""

    vertices_angstrom: FloatArray
    """(vertex, 3)."""
    faces: NDArray[np.int64]
    """(face, 3), indices of vertices, counter-clockwise seen from outside."""
    normals: FloatArray
    """(vertex, 3), of length 1."""
    closed: bool
    """Whether it has an inside."""

    @classmethod
    def from_triangles(cls, vertices: FloatArray, faces: NDArray[np.int64], *, closed: bool) -> Self:
        """A surface whose normals are those of the triangles about each vertex, weighted by area.

        Parameters
        ----------
        vertices : (vertex, 3), A
        faces : (face, 3), counter-clockwise seen from outside
        """
        corners = vertices[faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.stack(
            [np.bincount(faces.reshape(-1), np.repeat(cross[:, d], 3), minlength=len(vertices)) for d in range(3)],
            axis=1,
        )
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        return cls(
            vertices_angstrom=np.asarray(vertices, dtype=np.float64),
            faces=np.asarray(faces, dtype=np.int64),
            normals=normals / np.where(length == 0, 1.0, length),
            closed=closed,
        )

    def areas(self, distance: float = 0.0) -> FloatArray:
        """(face,) areas in A^2, of the surface at a distance (A) along the normals."""
        corners = self._moved(distance)[self.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        return np.asarray(0.5 * np.linalg.norm(cross, axis=1))

    def placed(self, rotation: FloatArray, centre: FloatArray) -> Self:
        """The surface turned by (3, 3) about the origin and then moved by (3,) A."""
        return type(self)(
            vertices_angstrom=self.vertices_angstrom @ rotation.T + centre,
            faces=self.faces,
            normals=self.normals @ rotation.T,
            closed=self.closed,
        )

    def even_points(
        self, spacing: float, rng: np.random.Generator | None, *, distance: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Points spread evenly at a distance from the surface.

        Parameters
        ----------
        spacing : A; a point stands for the square of it or less
        rng : moves each point within what it stands for, so that there is no order; None for a regular pattern
        distance : A along the outward normals

        Returns
        -------
        (n, 3) points in A, (n, 3) normals, (n,) areas in A^2 that they stand for
        """
        areas = self.areas(distance)
        parts = np.maximum(1, np.ceil(np.sqrt(areas) / spacing)).astype(np.int64)
        moved = self._moved(distance)
        points, normals, shares = [], [], []
        for part in np.unique(parts):
            chosen = parts == part
            weights = _cells(int(part), rng, int(chosen.sum()))  # (face, cell, 3)
            faces = self.faces[chosen]
            points.append(np.einsum("fck,fkd->fcd", weights, moved[faces]).reshape(-1, 3))
            normals.append(np.einsum("fck,fkd->fcd", weights, self.normals[faces]).reshape(-1, 3))
            shares.append(np.repeat(areas[chosen] / part**2, part**2))
        if not points:
            return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)
        normal = np.concatenate(normals)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return np.concatenate(points), normal, np.concatenate(shares)

    def random_points(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """(count, 3) points in A at random on the surface, even over its area, and their normals."""
        areas = self.areas()
        face = self.faces[rng.choice(len(areas), size=count, p=areas / areas.sum())]
        root, part = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
        weights = np.stack([1.0 - root, root * (1.0 - part), root * part], axis=1)
        normals = np.einsum("nk,nkd->nd", weights, self.normals[face])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return np.einsum("nk,nkd->nd", weights, self.vertices_angstrom[face]), normals

    def kept(self, faces: NDArray[np.bool_]) -> Self:
        """Some of its triangles, a mask (face,); it is open where any was taken away."""
        if faces.all():
            return self
        used, index = np.unique(self.faces[faces], return_inverse=True)
        return type(self)(
            vertices_angstrom=self.vertices_angstrom[used],
            faces=index.reshape(-1, 3).astype(np.int64),
            normals=self.normals[used],
            closed=False,
        )

    @property
    def middles(self) -> FloatArray:
        """(face, 3), of the triangles, A."""
        return np.asarray(self.vertices_angstrom[self.faces].mean(1))

    def _moved(self, distance: float) -> FloatArray:
        return self.vertices_angstrom if distance == 0 else self.vertices_angstrom + distance * self.normals


class SurfaceDistance:
    """Signed distances to the nearest of several surfaces, from points on them 8 A apart.

    They are exact to about 0.5 A where the surfaces bend with radii above 100 A.
    """

    def __init__(self, surfaces: "tuple[Surface, ...] | list[Surface]", *, spacing_angstrom: float = 8.0) -> None:
        points, normals, owners, edges = [], [], [], []
        for number, surface in enumerate(surfaces):
            where, normal, _ = surface.even_points(spacing_angstrom, None)
            rim, outward = _rim(surface, spacing_angstrom)
            points += [where, rim]
            normals += [normal, outward]
            owners.append(np.full(len(where) + len(rim), number))
            edges.append(np.arange(len(where) + len(rim)) >= len(where))
        self._points = np.concatenate(points) if points else np.zeros((0, 3))
        self._normals = np.concatenate(normals) if normals else np.zeros((0, 3))
        self._owners = np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64)
        self._edges = np.concatenate(edges) if edges else np.zeros(0, dtype=bool)
        self._tree = cKDTree(self._points) if len(self._points) else None

    def __call__(self, points: FloatArray, *, limit_angstrom: float = np.inf) -> tuple[FloatArray, NDArray[np.int64]]:
        """Distances (n,) in A of points (n, 3), positive outside, and the number (n,) of the nearest surface.

        Parameters
        ----------
        limit_angstrom : where nothing is nearer than this the distance is infinite and the number is -1
        """
        places = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        distance = np.full(len(places), np.inf)
        owner = np.full(len(places), -1, dtype=np.int64)
        if self._tree is None or not len(places):
            return distance, owner
        found = self._tree.query(places, distance_upper_bound=limit_angstrom)
        length, index = np.asarray(found[0]), np.asarray(found[1])
        near = np.isfinite(length)
        index = index[near]
        along = np.einsum("nd,nd->n", places[near] - self._points[index], self._normals[index])
        # beside an edge the surface does not go on: there the point on the edge itself is the nearest
        distance[near] = np.where(self._edges[index], np.where(along < 0, -1.0, 1.0) * length[near], along)
        owner[near] = self._owners[index]
        return distance, owner


def _cells(parts: int, rng: np.random.Generator | None, faces: int) -> FloatArray:
    """Barycentric weights (face, parts^2, 3) of one point in each of the equal cells of triangles."""
    i, j = np.meshgrid(np.arange(parts), np.arange(parts), indexing="ij")
    upright, turned = i + j < parts, i + j < parts - 1
    corner = np.concatenate([np.stack([i[upright], j[upright]], 1), np.stack([i[turned] + 1, j[turned] + 1], 1)])
    sign = np.concatenate([np.ones(upright.sum()), -np.ones(turned.sum())])
    if rng is None:
        root, part = np.full((faces, len(sign)), 2 / 3), np.full((faces, len(sign)), 0.5)  # their middles
    else:
        root, part = np.sqrt(rng.uniform(size=(faces, len(sign)))), rng.uniform(size=(faces, len(sign)))
    first = (corner[:, 0] + sign * root * (1.0 - part)) / parts
    second = (corner[:, 1] + sign * root * part) / parts
    return np.stack([1.0 - first - second, first, second], axis=-1)


def _rim(surface: Surface, spacing: float) -> tuple[FloatArray, FloatArray]:
    """Points on the edges that only one triangle has, and their normals."""
    edges = np.concatenate([surface.faces[:, [0, 1]], surface.faces[:, [1, 2]], surface.faces[:, [2, 0]]])
    kinds, count = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    single = kinds[count == 1]
    if not len(single):
        return np.zeros((0, 3)), np.zeros((0, 3))
    ends = surface.vertices_angstrom[single]
    parts = max(1, int(np.ceil(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).max() / spacing)))
    share = (np.arange(parts) / parts)[None, :, None]
    points = (1.0 - share) * ends[:, :1] + share * ends[:, 1:]
    normal = surface.normals[single]
    normals = (1.0 - share) * normal[:, :1] + share * normal[:, 1:]
    return points.reshape(-1, 3), normals.reshape(-1, 3)
