"""Surfaces for neuroglancer: meshes of the project, and maps at the places of their particles.

The format is its legacy mesh: the number of vertices, their x, y, z (float32) in nanometres, and the corners of triangles, all
little-endian.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.averaging.surface_mesh import surface_mesh
from eucentric.errors import InputError
from eucentric.figures.averaging import surface_level
from eucentric.io.mrc import read_mrc
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

_MOST_TRIANGLES = 400_000
"""Of all copies together: what software drawing bears."""
_ONE_COPY = 6000


def encode_mesh(vertices_angstrom: FloatArray, triangles: NDArray[np.int64]) -> bytes:
    """A fragment of a mesh."""
    points = np.ascontiguousarray(vertices_angstrom / 10.0, "<f4")
    return len(points).to_bytes(4, "little") + points.tobytes() + np.ascontiguousarray(triangles, "<u4").tobytes()


def map_surface(path: Path, copies: int) -> tuple[FloatArray, NDArray[np.int64], float]:
    """The surface of an average: vertices (n, 3) in A from its centre, triangles, and the level it has.

    Parameters
    ----------
    path : map, protein bright; a mask beside it leaves out what is not the particle
    copies : how often it will be shown; the more, the coarser

    Raises
    ------
    InputError : no cube, or nothing in it
    FormatError : not a map
    """
    array, header = read_mrc(path)
    volume = np.asarray(array, np.float64)
    voxel = header.pixel_size_angstrom
    if voxel is None or len(set(volume.shape)) != 1:
        raise InputError(f"`{path.name}` is no cube with a voxel size.")
    mask = path.with_name("mask.mrc")
    if mask.is_file() and not mask.is_symlink():
        held, _ = read_mrc(mask)
        if held.shape == volume.shape:
            volume = volume * np.asarray(held, np.float64)
    level = surface_level(volume)
    most = int(np.clip(_MOST_TRIANGLES // max(copies, 1), 200, _ONE_COPY))
    found = surface_mesh(volume, voxel, level, most_triangles=most)
    return found.vertices_angstrom, found.triangles, level


def copies_mesh(vertices: FloatArray, triangles: NDArray[np.int64], particles: ParticleSet) -> bytes:
    """One mesh of all copies of a surface, each turned and moved to its particle."""
    placed = np.einsum("pij,vj->pvi", particles.rotations, vertices) + particles.positions_angstrom[:, None]
    corners = triangles[None] + (np.arange(len(particles)) * len(vertices))[:, None, None]
    return encode_mesh(placed.reshape(-1, 3), corners.reshape(-1, 3))


def segment_names(names: list[str]) -> dict[str, Any]:
    """Properties of segments 1, 2...: what each is called."""
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": [str(i + 1) for i in range(len(names))],
            "properties": [{"id": "label", "type": "label", "values": names}],
        },
    }
