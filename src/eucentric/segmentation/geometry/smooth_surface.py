"""Smoothing that does not shrink, and fewer triangles by collapsing edges. numpy, A."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags

from eucentric.errors import InputError
from eucentric.segmentation.geometry.surfaces import Surface, edges_of, face_areas, face_vectors
from eucentric.typing import FloatArray

_FORTH, _PASS = 0.5, 0.05
_BOUNDARY_WEIGHT = 10.0
_PULL = 1e-3  # of the quadrics, towards the middle of the edge where they leave the place open
_MOST_ROUNDS = 200
_SLIVER = 0.02
_TURN = 0.2  # cosine
_SHARE = 0.4  # of the edges, the cheapest, are looked at in a round


def smooth_surface(surface: Surface, rounds: int = 20) -> Surface:
    """Each vertex goes towards the mean of its neighbours, and a little farther back [1]_: waves longer than some 20 edges stay.

    The steps are 0.5 and -1 / (1/0.5 - 0.05). Vertices of a rim move along the rim only.

    Parameters
    ----------
    rounds : pairs of steps; 0 leaves the surface as it is

    Raises
    ------
    InputError : a negative number

    References
    ----------
    .. [1] Taubin, SIGGRAPH 1995, 351, doi:10.1145/218380.218473
    """
    if rounds < 0:
        raise InputError(f"{rounds} rounds of smoothing were asked for; expected 0 or more.")
    if not rounds or not len(surface.faces):
        return surface
    mean = _mean_of_neighbours(surface)
    back = -1.0 / (1.0 / _FORTH - _PASS)
    start = surface.vertices_angstrom.mean(axis=0)
    places = surface.vertices_angstrom - start
    for _ in range(rounds):
        for step in (_FORTH, back):
            places = places + step * (mean @ places - places)
    return surface.moved(places + start)


def _mean_of_neighbours(surface: Surface) -> csr_matrix:
    edges, count = edges_of(surface.faces)
    n = len(surface.vertices_angstrom)
    rim = np.zeros(n, dtype=bool)
    rim[edges[count == 1]] = True
    both = np.concatenate([edges, edges[:, ::-1]])
    # of a vertex on a rim only its neighbours along the rim count
    use = ~rim[both[:, 0]] | np.tile(count == 1, 2)
    matrix = coo_matrix((np.ones(int(use.sum())), (both[use, 0], both[use, 1])), shape=(n, n)).tocsr()
    total = np.asarray(matrix.sum(axis=1)).ravel()
    alone = total == 0
    return csr_matrix(diags(1.0 / np.where(alone, 1.0, total)) @ matrix + diags(alone.astype(np.float64)))


def decimate_surface(surface: Surface, most_faces: int) -> Surface:
    """Fewer triangles, by collapsing the edges that change the surface least [1]_.

    In each round the cheapest edges that do not lie side by side collapse at once. An edge stays where its collapse would join parts
    that do not hang together, or turn a triangle over; rims stay where they are by planes set up along them. Closed
    surfaces stay closed, and the number of their holes stays.

    Parameters
    ----------
    most_faces : triangles to be left, at least 4; more are left where nothing else can collapse

    Raises
    ------
    InputError : less than 4 triangles

    References
    ----------
    .. [1] Garland & Heckbert, SIGGRAPH 1997, 209, doi:10.1145/258734.258849
    """
    if most_faces < 4:
        raise InputError(f"{most_faces} triangles enclose nothing. Ask for 4 at least.")
    if len(surface.faces) <= most_faces:
        return surface
    origin = surface.vertices_angstrom.mean(axis=0)
    places, faces = surface.vertices_angstrom - origin, surface.faces
    quadrics = _quadrics(Surface(vertices_angstrom=places, faces=faces))
    for _ in range(_MOST_ROUNDS):
        surplus = (len(faces) - most_faces + 1) // 2
        if surplus <= 0:
            break
        chosen, target = _cheapest_apart(places, faces, quadrics, surplus)
        if not len(chosen):
            break
        keep, gone = chosen.T
        places = places.copy()
        places[keep] = target
        quadrics[keep] += quadrics[gone]
        name = np.arange(len(places))
        name[gone] = keep
        faces = name[faces]
        whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        used, index = np.unique(faces[whole], return_inverse=True)
        places, quadrics, faces = places[used], quadrics[used], index.reshape(-1, 3).astype(np.int64)
    return Surface(vertices_angstrom=places + origin, faces=faces)


def _quadrics(surface: Surface) -> FloatArray:
    """(vertex, 4, 4): squared distances from the planes of the triangles around each, weighted by area."""
    vectors, areas = face_vectors(surface), face_areas(surface)
    unit = vectors / np.maximum(areas, 1e-300)[:, None]
    corners = surface.vertices_angstrom[surface.faces]
    out = np.zeros((len(surface.vertices_angstrom), 4, 4))
    planes = np.concatenate([unit, -np.einsum("ni,ni->n", unit, corners[:, 0])[:, None]], axis=1)
    each = areas[:, None, None] * planes[:, :, None] * planes[:, None, :]
    for k in range(3):
        np.add.at(out, surface.faces[:, k], each)
    # along a rim a plane upright on the triangle
    edges = np.sort(np.stack([surface.faces, np.roll(surface.faces, -1, axis=1)], axis=2), axis=2).reshape(-1, 2)
    many = len(surface.vertices_angstrom)
    _, index, count = np.unique(edges[:, 0] * many + edges[:, 1], return_index=True, return_counts=True)
    rows = index[count == 1]
    if len(rows):
        pair = edges[rows]
        along = surface.vertices_angstrom[pair[:, 1]] - surface.vertices_angstrom[pair[:, 0]]
        upright = np.cross(along, unit[rows // 3])
        upright /= np.maximum(np.linalg.norm(upright, axis=1, keepdims=True), 1e-300)
        plane = np.concatenate(
            [upright, -np.einsum("ni,ni->n", upright, surface.vertices_angstrom[pair[:, 0]])[:, None]], axis=1
        )
        weight = _BOUNDARY_WEIGHT * (along**2).sum(axis=1)
        each = weight[:, None, None] * plane[:, :, None] * plane[:, None, :]
        for k in range(2):
            np.add.at(out, pair[:, k], each)
    return out


def _cheapest_apart(
    places: FloatArray, faces: NDArray[np.int64], quadrics: FloatArray, most: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """Edges (kept, given up) that can collapse at once, and where to."""
    edges, count = edges_of(faces)
    both = quadrics[edges[:, 0]] + quadrics[edges[:, 1]]
    middle = places[edges].mean(axis=1)
    matrix, right = both[:, :3, :3], -both[:, :3, 3]
    pull = _PULL * np.trace(matrix, axis1=1, axis2=2)[:, None, None] / 3.0 + 1e-12
    target = np.linalg.solve(matrix + pull * np.eye(3), (right + pull[:, 0] * middle)[..., None])[..., 0]
    # never farther than the edge is long
    away = target - middle
    length = np.linalg.norm(places[edges[:, 1]] - places[edges[:, 0]], axis=1)
    target = middle + away * np.minimum(1.0, length / np.maximum(np.linalg.norm(away, axis=1), 1e-300))[:, None]
    one = np.concatenate([target, np.ones((len(target), 1))], axis=1)
    # a share of the length squared as area keeps flat parts even
    cost = np.einsum("ni,nij,nj->n", one, both, one) + 1e-4 * length**4
    cost = cost * (1.0 + 1e-9 * np.arange(len(cost)) / len(cost))
    rim = np.zeros(len(places), dtype=np.bool_)
    rim[edges[count == 1]] = True
    cost[count > 2] = np.inf
    order = np.argsort(cost, kind="stable")[: max(16, int(_SHARE * len(cost)))]
    around = np.argsort(faces.ravel(), kind="stable") // 3
    start = np.searchsorted(np.sort(faces.ravel()), np.arange(len(places) + 1))
    chosen = _collapses(order[np.isfinite(cost[order])], edges, count, target, places, faces, around, start, rim, most)
    return edges[chosen], target[chosen]


@njit(cache=True)
def _collapses(
    order: NDArray[np.int64],
    edges: NDArray[np.int64],
    count: NDArray[np.int64],
    target: FloatArray,
    places: FloatArray,
    faces: NDArray[np.int64],
    around: NDArray[np.int64],
    start: NDArray[np.int64],
    rim: NDArray[np.bool_],
    most: int,
) -> NDArray[np.int64]:  # pragma: no cover
    """Edges in order of cost whose collapse leaves the topology and turns no triangle, none near one chosen before."""
    touched = np.zeros(len(places), dtype=np.bool_)
    stamp = np.full(len(places), -1, dtype=np.int64)
    out = np.empty(min(most, len(order)), dtype=np.int64)
    found = 0
    for edge in order:
        a, b = edges[edge, 0], edges[edge, 1]
        if touched[a] or touched[b] or (count[edge] == 2 and rim[a] and rim[b]):
            continue
        good = True
        for row in around[start[a] : start[a + 1]]:
            for k in range(3):
                stamp[faces[row, k]] = 2 * edge
        # the link condition: the ends share as many neighbours as the edge has triangles
        common = 0
        for row in around[start[b] : start[b + 1]]:
            for k in range(3):
                v = faces[row, k]
                if v != a and v != b and stamp[v] == 2 * edge:
                    common += 1
                    stamp[v] = 2 * edge + 1
        if common != count[edge]:
            continue
        for end in range(2):
            me, other = edges[edge, end], edges[edge, 1 - end]
            for row in around[start[me] : start[me + 1]]:
                p, q, r = faces[row, 0], faces[row, 1], faces[row, 2]
                if touched[p] or touched[q] or touched[r]:
                    good = False
                    break
                if other in (p, q, r):
                    continue
                while p != me:
                    p, q, r = q, r, p
                # the normals before and after, and the longest side after, number by number: arrays would be made here
                o0, o1, o2 = places[me, 0], places[me, 1], places[me, 2]
                t0, t1, t2 = target[edge, 0], target[edge, 1], target[edge, 2]
                q0, q1, q2 = places[q, 0], places[q, 1], places[q, 2]
                r0, r1, r2 = places[r, 0], places[r, 1], places[r, 2]
                before0 = (q1 - o1) * (r2 - o2) - (q2 - o2) * (r1 - o1)
                before1 = (q2 - o2) * (r0 - o0) - (q0 - o0) * (r2 - o2)
                before2 = (q0 - o0) * (r1 - o1) - (q1 - o1) * (r0 - o0)
                after0 = (q1 - t1) * (r2 - t2) - (q2 - t2) * (r1 - t1)
                after1 = (q2 - t2) * (r0 - t0) - (q0 - t0) * (r2 - t2)
                after2 = (q0 - t0) * (r1 - t1) - (q1 - t1) * (r0 - t0)
                was = np.sqrt(before0**2 + before1**2 + before2**2)
                size = np.sqrt(after0**2 + after1**2 + after2**2)
                longest = max(
                    (q0 - r0) ** 2 + (q1 - r1) ** 2 + (q2 - r2) ** 2,
                    (q0 - t0) ** 2 + (q1 - t1) ** 2 + (q2 - t2) ** 2,
                    (r0 - t0) ** 2 + (r1 - t1) ** 2 + (r2 - t2) ** 2,
                )
                likeness = before0 * after0 + before1 * after1 + before2 * after2
                if likeness < _TURN * was * size or size < _SLIVER * longest:
                    good = False
                    break
            if not good:
                break
        if not good:
            continue
        for end in range(2):
            me = edges[edge, end]
            for row in around[start[me] : start[me + 1]]:
                for k in range(3):
                    touched[faces[row, k]] = True
        out[found] = edge
        found += 1
        if found >= most:
            break
    return out[:found]
