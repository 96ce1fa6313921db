"""Shapes of membranes, as surfaces about the origin."""

import itertools

import numpy as np
from numpy.typing import NDArray

from eucentric.simulation.surfaces import Surface
from eucentric.typing import FloatArray

_EDGE = 24.0  # A, of the triangles: flat to 0.3 A on a sphere of 250 A


def sphere_surface(radius: float, edge: float = _EDGE) -> Surface:
    """A sphere of triangles with about these edges (A), its normals exact."""
    directions, faces = _icosphere(radius, edge)
    return Surface(vertices_angstrom=radius * directions, faces=faces, normals=directions, closed=True)


def _icosphere(radius: float, edge: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Unit vectors and faces of an icosahedron whose faces are cut into n^2 triangles each."""
    golden = 0.5 * (1.0 + np.sqrt(5.0))
    corners = np.array([np.roll((0.0, a, b * golden), k) for k in range(3) for a in (-1, 1) for b in (-1, 1)])
    near = np.isclose(np.linalg.norm(corners[:, None] - corners, axis=-1), 2.0)  # the length of its edges
    triples = [t for t in itertools.combinations(range(12), 3) if all(near[p] for p in itertools.combinations(t, 2))]
    triangles = np.array([t if np.linalg.det(corners[list(t)]) > 0 else t[::-1] for t in triples])
    parts = max(2, int(np.ceil(1.05 * radius / edge)))
    i, j = (a[np.add.outer(np.arange(parts + 1), np.arange(parts + 1)) <= parts] for a in np.indices([parts + 1] * 2))
    number = np.full((parts + 1, parts + 1), -1)
    number[i, j] = np.arange(len(i))
    up = (i + j) < parts
    down = (i + j) < parts - 1
    cut = np.concatenate(
        [
            np.stack([number[i[up], j[up]], number[i[up] + 1, j[up]], number[i[up], j[up] + 1]], 1),
            np.stack([number[i[down] + 1, j[down]], number[i[down] + 1, j[down] + 1], number[i[down], j[down] + 1]], 1),
        ]
    )
    share = np.stack([parts - i - j, i, j], axis=1) / parts
    points = np.einsum("sk,tkd->tsd", share, corners[triangles]).reshape(-1, 3)
    faces = (cut[None] + len(i) * np.arange(20)[:, None, None]).reshape(-1, 3)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # corners and edges are shared by several triangles of the icosahedron
    _, first, same = np.unique(np.round(points, 7), axis=0, return_index=True, return_inverse=True)
    return points[first], same.reshape(-1)[faces]
