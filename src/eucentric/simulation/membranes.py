"""Shapes of membranes, as surfaces about the origin."""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from eucentric.errors import InputError
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


def vesicle_surface(radius: float, rng: np.random.Generator, *, roughness: float = 0.0) -> Surface:
    """A sphere, or one deformed by smooth bulges and dents.

    Parameters
    ----------
    radius : A, of the sphere
    roughness : rms of the radius's deviations over the radius
    """
    if roughness == 0:
        return sphere_surface(radius)
    directions, faces = _icosphere(radius, _EDGE)
    relative = 1.0 + roughness * smooth_field(directions, rng)
    vertices = radius * np.maximum(relative, 0.4)[:, None] * directions
    return Surface.from_triangles(vertices, faces, closed=True)


def smooth_field(
    directions: FloatArray, rng: np.random.Generator, *, degrees: tuple[int, ...] = (2, 3, 4)
) -> FloatArray:
    """A random function (n,) of unit vectors (n, 3), made of spherical harmonics of these degrees, of mean square 1.

    Its components weaken as those of a fluid membrane that only bending holds: by ``1 / l^2`` in amplitude.
    """
    polar, azimuth = np.arccos(np.clip(directions[:, 2], -1, 1)), np.arctan2(directions[:, 1], directions[:, 0])
    field, power = np.zeros(len(directions)), 0.0
    for degree in degrees:
        for order in range(-degree, degree + 1):
            harmonic = sph_harm_y(degree, abs(order), polar, azimuth)
            part = harmonic.imag if order < 0 else harmonic.real
            amplitude = rng.normal() / degree**2
            field += amplitude * part * (1.0 if order == 0 else np.sqrt(2.0))
            power += amplitude**2 / (4.0 * np.pi)
    return np.asarray(field / np.sqrt(power))


def tube_surface(radius: float, length: float) -> Surface:
    """A tube along z with round ends; `length` (A) is the whole.

    Raises
    ------
    InputError : shorter than wide
    """
    if length < 2.0 * radius:
        raise InputError(f"A tube of radius {radius:.0f} A was asked to be {length:.0f} A long; expected more.")
    straight = 0.5 * length - radius
    angle = np.linspace(-0.5 * np.pi, 0.0, max(4, int(np.ceil(0.5 * np.pi * radius / _EDGE))))
    cap = np.stack([radius * np.cos(angle), radius * np.sin(angle) - straight], axis=1)
    side = np.linspace(-straight, straight, max(2, int(np.ceil(2 * straight / _EDGE))))[1:-1]
    profile = np.concatenate([cap, np.stack([np.full(len(side), radius), side], 1), cap[::-1] * (1, -1)])
    return _revolved(profile)


def cisterna_surface(radius: float, lumen: float, *, rim: float, bowl: float = 0.0) -> Surface:
    """A flattened sac about the xy plane.

    Parameters
    ----------
    radius : A, of its outline
    lumen : A between the mid-surfaces of its two sides
    rim : A, the same at its widest, near the rim; at least `lumen`
    bowl : A by which the rim stands above the middle

    Raises
    ------
    InputError : a rim that is narrower than the lumen or wider than the sac
    """
    if not lumen <= rim <= radius:
        raise InputError(
            f"A cisterna of radius {radius:.0f} A and lumen {lumen:.0f} A cannot have a rim of {rim:.0f} A."
        )
    # a circle of the rim's width at the end, joined smoothly to the flat part
    centre, half, end = radius - 0.5 * rim, 0.5 * rim, 0.5 * lumen
    flat = np.linspace(0.0, centre, max(8, int(np.ceil(centre / _EDGE))))
    joint = 0.5 - 0.5 * np.cos(np.pi * np.clip((flat - (centre - 1.5 * rim)) / (1.5 * rim), 0.0, 1.0))
    side = np.stack([flat, -(end + (half - end) * joint)], axis=1)
    angle = np.linspace(-0.5 * np.pi, 0.0, max(4, int(np.ceil(0.5 * np.pi * half / (0.5 * _EDGE)))))[1:]
    round_end = np.stack([centre + half * np.cos(angle), half * np.sin(angle)], axis=1)
    lower = np.concatenate([side, round_end])
    profile = np.concatenate([lower, lower[-2::-1] * (1, -1)])
    profile[0, 0] = profile[-1, 0] = 0.0
    profile[:, 1] += bowl * (profile[:, 0] / radius) ** 2
    return _revolved(profile)


def sheet_surface(
    half_x: float, half_y: float, rng: np.random.Generator, *, rise: float = 0.0, wavelength: float = 1500.0
) -> Surface:
    """An open sheet about the xy plane with waves.

    Parameters
    ----------
    half_x, half_y : A, half its lengths
    rise : A rms of its height
    wavelength : A, of the shortest waves; they go up to three times as long
    """
    x, y = (np.linspace(-h, h, max(2, int(np.ceil(2 * h / (2 * _EDGE))) + 1)) for h in (half_x, half_y))
    across, up = np.meshgrid(x, y, indexing="xy")
    height = np.zeros_like(across)
    waves = 6
    for length in wavelength * rng.uniform(1.0, 3.0, waves):
        direction, phase = rng.uniform(0, 2 * np.pi, 2)
        height += np.sin(2 * np.pi / length * (np.cos(direction) * across + np.sin(direction) * up) + phase)
    vertices = np.stack([across, up, rise * np.sqrt(2.0 / waves) * height], axis=-1).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(across.shape)
    a, b, c, d = (n.reshape(-1) for n in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Surface.from_triangles(vertices, faces, closed=False)


def _revolved(profile: FloatArray) -> Surface:
    """A closed surface: (distance from z, z) from the lower pole to the upper one, turned about z."""
    inner = profile[1:-1]
    count = max(12, int(np.ceil(2 * np.pi * profile[:, 0].max() / _EDGE)))
    angle = 2 * np.pi * np.arange(count) / count
    rings = np.stack(
        [
            inner[:, :1] * np.cos(angle),
            inner[:, :1] * np.sin(angle),
            np.broadcast_to(inner[:, 1:], (len(inner), count)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([[(0.0, 0.0, profile[0, 1])], rings, [(0.0, 0.0, profile[-1, 1])]])
    ring = 1 + np.arange(len(inner))[:, None] * count + np.arange(count)
    here, there = ring, np.roll(ring, -1, axis=1)
    a, b, c, d = (r.reshape(-1) for r in (here[:-1], there[:-1], there[1:], here[1:]))
    top = len(vertices) - 1
    faces = np.concatenate(
        [
            np.stack([np.zeros(count, dtype=np.int64), there[0], here[0]], 1),
            np.stack([a, b, c], 1),
            np.stack([a, c, d], 1),
            np.stack([here[-1], there[-1], np.full(count, top)], 1),
        ]
    )
    return Surface.from_triangles(vertices, faces, closed=True)
