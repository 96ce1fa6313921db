"""Points with even spacing, and orientation priors, on spheres, surfaces and filaments. numpy, A, x y z from the specimen centre."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.picking.centre_lines import centre_line
from eucentric.typing import FloatArray

_HEXAGON = math.sqrt(3.0) / 2.0
_DARTS = 12.0  # candidates for each point that fits
_SMOOTH_VOXELS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrientedPoints:
    """Places and rotations (reference to specimen); z of the reference goes along the normal, or along a filament."""

    points: FloatArray
    """(point, 3), A."""
    rotations: FloatArray
    """(point, 3, 3)."""
    track_angstrom: FloatArray
    """(point,), how far along its filament each lies; 0 on surfaces."""


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"The {name} is {value:g} A; expected a positive number.")
    return value


def rotations_along(directions: ArrayLike, generator: np.random.Generator | None = None) -> FloatArray:
    """(n, 3, 3) rotations that take z to some directions.

    Parameters
    ----------
    directions : (n, 3), of any length but 0
    generator : the turn about the direction is random, so that averages have no preferred one; the least rotation of z where None

    Raises
    ------
    InputError : a direction of length 0
    """
    z = np.asarray(directions, dtype=np.float64).reshape(-1, 3)
    length = np.linalg.norm(z, axis=1, keepdims=True)
    if not (length > 0).all():
        raise InputError("A direction has no length. Leave that point out.")
    z = z / length
    side = np.where(np.abs(z[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    x = side - np.einsum("ni,ni->n", side, z)[:, None] * z
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if generator is not None:
        angle = generator.uniform(0.0, 2.0 * math.pi, len(z))[:, None]
        x = np.cos(angle) * x + np.sin(angle) * np.cross(z, x)
    return np.stack([x, np.cross(z, x), z], axis=2)


def sphere_points(
    centre_angstrom: ArrayLike, radius_angstrom: float, spacing_angstrom: float, generator: np.random.Generator
) -> OrientedPoints:
    """Points on a sphere, a Fibonacci lattice with as many as a hexagonal lattice of that spacing has; z outwards.

    Raises
    ------
    InputError : a radius or spacing that is not positive
    """
    radius, spacing = _positive("radius", radius_angstrom), _positive("spacing", spacing_angstrom)
    count = max(1, round(4.0 * math.pi * radius**2 / (_HEXAGON * spacing**2)))
    i = np.arange(count) + 0.5
    height = 1.0 - 2.0 * i / count
    turn = math.pi * (1.0 + math.sqrt(5.0)) * i
    flat = np.sqrt(1.0 - height**2)
    normals = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    return OrientedPoints(
        points=np.asarray(centre_angstrom, dtype=np.float64) + radius * normals,
        rotations=rotations_along(normals, generator),
        track_angstrom=np.zeros(count),
    )


def mesh_points(
    vertices_angstrom: FloatArray, faces: NDArray[np.int64], spacing_angstrom: float, generator: np.random.Generator
) -> OrientedPoints:
    """Points on a mesh of triangles, none nearer than the spacing to another; z along the normals, outwards of closed meshes.

    Parameters
    ----------
    vertices_angstrom : (vertex, 3)
    faces : (face, 3), counter-clockwise seen from outside; a closed mesh that is turned inside out is turned back

    Raises
    ------
    ShapeError : faces that name vertices that are not there
    InputError : no area, or a spacing that is not positive
    """
    spacing = _positive("spacing", spacing_angstrom)
    if (
        faces.ndim != 2
        or faces.shape[1:] != (3,)
        or (len(faces) and (faces.min() < 0 or faces.max() >= len(vertices_angstrom)))
    ):
        raise ShapeError(
            f"A mesh of {len(vertices_angstrom)} vertices has faces of shape {faces.shape} that do not fit them."
        )
    a, b, c = (vertices_angstrom[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    area = 0.5 * np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        raise InputError("The mesh has no area: it holds no triangle that is more than a line.")
    if np.einsum("ni,ni->", a, np.cross(b, c)) < 0 and _closed(faces):
        cross = -cross
    count = max(16, round(_DARTS * area.sum() / (_HEXAGON * spacing**2)))
    chosen = generator.choice(len(faces), size=count, p=area / area.sum())
    u, v = generator.uniform(size=(2, count))
    fold = u + v > 1.0
    u, v = np.where(fold, 1.0 - u, u)[:, None], np.where(fold, 1.0 - v, v)[:, None]
    places = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    return thinned_points(places, cross[chosen], spacing, generator)


def _closed(faces: NDArray[np.int64]) -> bool:
    """Whether every edge is walked once each way."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {tuple(e) for e in edges.tolist()}
    return len(there) == len(edges) and all((j, i) in there for i, j in there)


def segmentation_points(
    volume: ArrayLike,
    frame: TomogramFrame,
    spacing_angstrom: float,
    generator: np.random.Generator,
    *,
    threshold: float = 0.5,
) -> OrientedPoints:
    """Points on the surface of a segmented region, none nearer than the spacing; z along the normal out of the region.

    The surface is where the smoothed signed distance to the region is 0, found by Newton steps from the voxels next to it.

    Raises
    ------
    ShapeError : a volume that is not of the frame's size
    InputError : a segmentation that is empty, or full
    """
    spacing = _positive("spacing", spacing_angstrom)
    region = np.asarray(volume) > threshold
    if region.shape != frame.size_xyz[::-1]:
        raise ShapeError(
            f"A volume of shape {region.shape} was given for a tomogram of {frame.size_xyz[::-1]} (z, y, x)."
        )
    if not region.any() or region.all():
        raise InputError(
            f"The segmentation is {'full' if region.all() else 'empty'} above {threshold:g}: it has no surface."
        )
    signed = np.where(region, 0.5 - distance_transform_edt(region), distance_transform_edt(~region) - 0.5)
    smooth = gaussian_filter(signed, _SMOOTH_VOXELS, mode="nearest")
    slope = [np.gradient(smooth, axis=axis) for axis in range(3)]
    start = np.argwhere(np.abs(smooth) < 1.0).astype(np.float64)
    if not len(start):
        raise InputError("The segmentation has no surface: its parts are too small for voxels of this size.")
    darts = round(_DARTS * len(start) * frame.voxel_size_angstrom**2 / (_HEXAGON * spacing**2))
    places = start[generator.integers(0, len(start), max(darts, 16))] + generator.uniform(
        -0.5, 0.5, (max(darts, 16), 3)
    )
    for _ in range(6):
        value = map_coordinates(smooth, places.T, order=1, mode="nearest")
        direction = np.stack([map_coordinates(part, places.T, order=1, mode="nearest") for part in slope], axis=1)
        places = places - (value / np.maximum((direction**2).sum(axis=1), 0.1))[:, None] * direction
    inside = ((places >= 0) & (places <= np.array(region.shape) - 1)).all(axis=1)
    # a surface ends at the faces of the volume
    edge = ((places > 0.5) & (places < np.array(region.shape) - 1.5)).all(axis=1)
    good = inside & edge & (np.abs(value) < 0.1) & (np.linalg.norm(direction, axis=1) > 0.1)
    return thinned_points(frame.to_angstrom(places[good][:, ::-1]), direction[good][:, ::-1], spacing, generator)


def thinned_points(
    places: FloatArray, normals: FloatArray, spacing: float, generator: np.random.Generator
) -> OrientedPoints:
    """Of darts in random order, those that are not too near to one before."""
    alive = np.ones(len(places), dtype=bool)
    if len(places):
        tree = cKDTree(places)
        for row, place in enumerate(places):
            if alive[row]:
                near = [n for n in tree.query_ball_point(place, spacing) if n > row]
                alive[near] = False
    return OrientedPoints(
        points=places[alive],
        rotations=rotations_along(normals[alive], generator),
        track_angstrom=np.zeros(int(alive.sum())),
    )


def filament_points(
    backbone_angstrom: ArrayLike,
    spacing_angstrom: float,
    *,
    twist_deg: float = 0.0,
    radius_angstrom: float = 0.0,
    around: int = 1,
    reverse: bool = False,
    phase_deg: float = 0.0,
) -> OrientedPoints:
    """Places along a filament, evenly by arc length on a cubic spline through its points.

    Without radius z goes along the filament, from its first point to its last, and x turns by the twist from place to place
    about a frame that is carried along without turning. With a radius the places lie around the filament, z goes outwards and x
    along it: `around` of them at each rise, the first turned by the twist.

    Parameters
    ----------
    backbone_angstrom : (point, 3), two or more, in order
    spacing_angstrom : A along the filament: the rise
    twist_deg : from one rise to the next, right-handed about the direction of the filament
    around : places at each rise
    reverse : of the other polarity
    phase_deg : of the first place

    Raises
    ------
    InputError : less than two different points, or a spacing or number that is not positive
    """
    spacing = _positive("spacing", spacing_angstrom)
    if around < 1 or radius_angstrom < 0:
        raise InputError(
            f"{around} places around a radius of {radius_angstrom:g} A were asked for; expected positive numbers."
        )
    line = np.asarray(backbone_angstrom, dtype=np.float64).reshape(-1, 3)
    path = centre_line(line[::-1] if reverse else line)
    at = np.arange(0.0, path.length_angstrom + 1e-9, spacing)
    centre, frames = path.at(at)
    x, y, z = (frames[:, :, k] for k in range(3))
    step = phase_deg + twist_deg * np.arange(len(at))
    angle = np.deg2rad(step[:, None] + 360.0 / around * np.arange(around)).reshape(-1, 1)
    z, x, y, centre, at = (np.repeat(part, around, axis=0) for part in (z, x, y, centre, at))
    out = np.cos(angle) * x + np.sin(angle) * y
    axes = [out, np.cross(z, out), z] if radius_angstrom == 0 else [z, np.cross(out, z), out]
    return OrientedPoints(
        points=centre + radius_angstrom * out, rotations=np.stack(axes, axis=2), track_angstrom=np.asarray(at)
    )
