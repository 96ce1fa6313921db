"""Surfaces of triangles: areas, normals, edges, pieces, enclosed volume. numpy, A from the specimen centre."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

_LEAST = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """Triangles in the specimen; seen from the side of the normals their corners run counter-clockwise. It may have no triangle."""

    vertices_angstrom: FloatArray
    """(vertex, 3) x, y, z from the specimen centre."""
    faces: NDArray[np.int64]
    """(face, 3) numbers of vertices."""

    def __post_init__(self) -> None:
        v, f = self.vertices_angstrom, self.faces
        if v.shape[1:] != (3,) or f.shape[1:] != (3,):
            raise ShapeError(f"Vertices {v.shape} and faces {f.shape} make no surface; expected (n, 3) and (m, 3).")
        if len(f) and (f.min() < 0 or f.max() >= len(v)):
            raise ShapeError(f"A face names vertex {f.max()}, but there are {len(v)}.")
        if not np.isfinite(v).all():
            raise InputError("A vertex of the surface is NaN or infinite. Leave it and its faces out.")

    @classmethod
    def of(cls, vertices_angstrom: ArrayLike, faces: ArrayLike) -> Self:
        """The surface of any arrays of numbers.

        Raises
        ------
        ShapeError : arrays that do not fit together
        InputError : vertices that are NaN or infinite
        """
        return cls(
            vertices_angstrom=np.asarray(vertices_angstrom, dtype=np.float64).reshape(-1, 3),
            faces=np.asarray(faces, dtype=np.int64).reshape(-1, 3),
        )

    def turned_over(self) -> Self:
        """The same triangles with their normals to the other side."""
        return type(self)(vertices_angstrom=self.vertices_angstrom, faces=np.ascontiguousarray(self.faces[:, ::-1]))

    def moved(self, vertices_angstrom: FloatArray) -> Self:
        """The same triangles with their corners elsewhere."""
        return type(self)(vertices_angstrom=vertices_angstrom, faces=self.faces)


def face_vectors(surface: Surface) -> FloatArray:
    """(face, 3), A^2: along the normal of each triangle, as long as its area."""
    a, b, c = (surface.vertices_angstrom[surface.faces[:, k]] for k in range(3))
    return np.asarray(0.5 * np.cross(b - a, c - a))


def face_areas(surface: Surface) -> FloatArray:
    """(face,), A^2."""
    return np.asarray(np.linalg.norm(face_vectors(surface), axis=1))


def surface_area(surface: Surface) -> float:
    """A^2."""
    return float(face_areas(surface).sum())


def vertex_areas(surface: Surface) -> FloatArray:
    """(vertex,), A^2: a third of the triangles around each; they add up to the area."""
    third = np.repeat(face_areas(surface) / 3.0, 3)
    return np.bincount(surface.faces.ravel(), third, minlength=len(surface.vertices_angstrom)).astype(np.float64)


def vertex_normals(surface: Surface) -> FloatArray:
    """(vertex, 3) unit vectors: the mean of the triangles around each, weighted by area; 0 where it has none."""
    vectors = face_vectors(surface)
    count = len(surface.vertices_angstrom)
    total = np.stack(
        [np.bincount(surface.faces.ravel(), np.repeat(vectors[:, k], 3), minlength=count) for k in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(np.where(length > _LEAST, total / np.maximum(length, _LEAST), 0.0))


def edges_of(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every edge once, (edge, 2) with the lower number first, and how many triangles have it."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    if not len(edges):
        return edges, np.zeros(0, dtype=np.int64)
    many = int(edges.max()) + 1
    found, count = np.unique(edges[:, 0] * many + edges[:, 1], return_counts=True)
    return np.stack([found // many, found % many], axis=1), count


def is_closed(surface: Surface) -> bool:
    """Whether every edge is walked once each way, so that the surface has an inside."""
    faces = surface.faces
    if not len(faces):
        return False
    many = len(surface.vertices_angstrom)
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    there, back = np.sort(start * many + end), np.sort(end * many + start)
    return bool((np.diff(there) > 0).all() and (there == back).all())


def enclosed_volume(surface: Surface) -> float:
    """A^3; negative where the normals point inwards, NaN where the surface is not closed."""
    if not is_closed(surface):
        return float("nan")
    a, b, c = _about_middle(surface)
    return float(np.einsum("ni,ni->", a, np.cross(b, c)) / 6.0)


def surface_centre(surface: Surface) -> FloatArray:
    """(3,), A: the mean of the surface by area; NaN where there is none."""
    areas = face_areas(surface)
    if not areas.sum() > 0:
        return np.full(3, np.nan)
    middle = surface.vertices_angstrom[surface.faces].mean(axis=1)
    return np.asarray(areas @ middle / areas.sum())


def neighbours(surface: Surface) -> csr_matrix:
    """(vertex, vertex), 1 where an edge joins them."""
    edges, _ = edges_of(surface.faces)
    n = len(surface.vertices_angstrom)
    both = np.concatenate([edges, edges[:, ::-1]])
    return coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(n, n)).tocsr()


def face_pieces(surface: Surface) -> tuple[int, NDArray[np.int64]]:
    """How many pieces hang together, and (face,) the number of the piece of each triangle, the largest area first."""
    if not len(surface.faces):
        return 0, np.zeros(0, dtype=np.int64)
    _, of_vertex = connected_components(neighbours(surface), directed=False)
    _, piece = np.unique(of_vertex[surface.faces[:, 0]], return_inverse=True)
    areas = np.bincount(piece, face_areas(surface))
    rank = np.empty(len(areas), dtype=np.int64)
    rank[np.argsort(-areas, kind="stable")] = np.arange(len(areas))
    return len(areas), rank[piece]


def part_of(surface: Surface, faces: NDArray[np.bool_]) -> Surface:
    """Some of the triangles, with their vertices only."""
    kept = surface.faces[faces]
    used, index = np.unique(kept, return_inverse=True)
    return Surface(vertices_angstrom=surface.vertices_angstrom[used], faces=index.reshape(-1, 3).astype(np.int64))


def split_pieces(surface: Surface) -> list[Surface]:
    """The pieces that hang together, the largest area first."""
    count, piece = face_pieces(surface)
    return [part_of(surface, piece == k) for k in range(count)]


def joined(surfaces: list[Surface]) -> Surface:
    """All triangles of several surfaces as one."""
    start = np.cumsum([0, *(len(s.vertices_angstrom) for s in surfaces)])
    return Surface.of(
        np.concatenate([np.zeros((0, 3)), *(s.vertices_angstrom for s in surfaces)]),
        np.concatenate(
            [np.zeros((0, 3), dtype=np.int64), *(s.faces + n for s, n in zip(surfaces, start[:-1], strict=True))]
        ),
    )


def facing(
    surface: Surface, *, toward_point: ArrayLike | None = None, toward_direction: ArrayLike | None = None
) -> Surface:
    """Every piece with its normals to one side: outwards where it is closed, else to the side that is asked for.

    Closed pieces that lie in a closed piece of the same surface (the inner wall of a shell) keep pointing out of the matter, which is
    into the lumen: their side is taken from how they come. Open pieces face away from their own centre of mass where no side is
    given.

    Parameters
    ----------
    toward_point : (3,), A: open pieces face it, by the sum over their area
    toward_direction : (3,): open pieces face along it on the whole

    Raises
    ------
    InputError : both sides, or a side that is no place
    """
    if toward_point is not None and toward_direction is not None:
        raise InputError("A point and a direction were given for normals to face. Give one of them.")
    goal = toward_point if toward_direction is None else toward_direction
    side = None if goal is None else np.asarray(goal, dtype=np.float64).reshape(-1)
    if side is not None and (side.shape != (3,) or not np.isfinite(side).all()):
        raise InputError("The side that normals shall face is no x, y, z.")
    count, piece = face_pieces(surface)
    vectors = face_vectors(surface)
    middles = surface.vertices_angstrom[surface.faces].mean(axis=1)
    faces = surface.faces.copy()
    parts = [part_of(surface, piece == k) for k in range(count)]
    closed = [is_closed(part) for part in parts]
    if count and all(closed):
        # one decision for all, by the largest: inner walls stay turned against outer ones
        return surface.turned_over() if enclosed_volume(parts[0]) < 0 else surface
    for k in range(count):
        rows = piece == k
        if closed[k]:
            wrong = enclosed_volume(parts[k]) < 0
        elif toward_direction is not None:
            wrong = bool((vectors[rows] @ side).sum() < 0)
        elif toward_point is not None:
            away = side - middles[rows]
            far = np.maximum(np.linalg.norm(away, axis=1), _LEAST)
            wrong = bool((np.einsum("ni,ni->n", vectors[rows], away) / far).sum() < 0)
        else:
            wrong = bool(np.einsum("ni,ni->", vectors[rows], middles[rows] - surface_centre(parts[k])) < 0)
        if wrong:
            faces[rows] = faces[rows][:, ::-1]
    return Surface(vertices_angstrom=surface.vertices_angstrom, faces=faces)


def need_faces(surface: Surface, what: str = "The surface") -> None:
    """InputError where there is no area."""
    if not len(surface.faces) or not surface_area(surface) > 0:
        raise InputError(f"{what} has no area: it holds no triangle that is more than a line.")


def need_voxel_size(voxel_size_angstrom: float | None) -> float:
    """The voxel size; InputError where it is missing, 0, negative or not a number."""
    if voxel_size_angstrom is None or not (np.isfinite(voxel_size_angstrom) and voxel_size_angstrom > 0):
        raise InputError(
            f"The voxel size is {'missing' if voxel_size_angstrom is None else f'{voxel_size_angstrom:g} A'}; expected a "
            "positive number. No length, area or volume can be given without it: state the pixel size of the volume."
        )
    return float(voxel_size_angstrom)


def _about_middle(surface: Surface) -> list[FloatArray]:
    """Corners of the triangles about a near origin, so that far surfaces lose no digits."""
    near = surface.vertices_angstrom - surface.vertices_angstrom.mean(axis=0)
    return [near[surface.faces[:, k]] for k in range(3)]
