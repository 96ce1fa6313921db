"""Hexagonal lattices on spheres, with the defects that a sphere enforces and gaps, as in immature retroviruses.

References
----------
.. [1] Briggs et al., PNAS 106:11090 (2009), doi:10.1073/pnas.0903535106 (immature HIV-1: hexamers 80 A apart, gaps)
.. [2] Wright et al., EMBO J. 26:2218 (2007), doi:10.1038/sj.emboj.7601664 (radii; two thirds of the sphere covered)
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from eucentric.errors import InputError
from eucentric.simulation.membranes import smooth_field
from eucentric.simulation.species import Species, species_of_lobes
from eucentric.typing import FloatArray

_ROUNDS = 400


def gag_hexamer() -> Species:
    """A ring of six 37 kDa subunits, 220 kDa, as under the membrane of immature retroviruses; z points outwards.

    The origin lies where the two layers of each subunit meet; the outer end reaches 60 A towards the membrane.
    """
    parts = np.array(
        [
            (14.5, 0.0, -18.0, 11.0, 12.0, 17.0, 1.0),
            (20.0, 5.0, 14.0, 12.0, 12.0, 18.0, 1.05),
            (22.0, -7.0, 46.0, 9.0, 9.0, 15.0, 0.9),
        ]
    )
    lobes = []
    for turn in np.deg2rad(60.0) * np.arange(6):
        turned = parts.copy()
        turned[:, 0] = np.cos(turn) * parts[:, 0] - np.sin(turn) * parts[:, 1]
        turned[:, 1] = np.sin(turn) * parts[:, 0] + np.cos(turn) * parts[:, 1]
        lobes += [tuple(row) for row in turned]
    return species_of_lobes("gag_like_hexamer_220kDa", 220.0, lobes)


def sphere_lattice(radius: float, spacing: float, rng: np.random.Generator) -> FloatArray:
    """Directions (n, 3) of points that repel each other on a sphere: hexagonal order with scattered defects.

    Parameters
    ----------
    radius : A
    spacing : A, wanted between next neighbours

    Raises
    ------
    InputError : a sphere too small for 20 points
    """
    count = round(4.0 * np.pi * radius**2 / (np.sqrt(0.75) * spacing**2))
    if count < 20:
        raise InputError(f"A sphere of radius {radius:.0f} A holds no lattice of {spacing:.0f} A. Make it larger.")
    step = np.arange(count) + 0.5
    z, angle = 1.0 - 2.0 * step / count, step * np.pi * (1.0 + np.sqrt(5.0))
    ring = np.sqrt(1.0 - z**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    points = points @ np.asarray(Rotation.random(rng=rng).as_matrix()).T
    distance = spacing / radius
    points += rng.normal(scale=0.35 * distance, size=points.shape)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    for number in range(_ROUNDS):
        pairs = cKDTree(points).query_pairs(1.7 * distance, output_type="ndarray")
        apart = points[pairs[:, 0]] - points[pairs[:, 1]]
        length = np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-3 * distance)
        force = apart / length * ((distance / length) ** 4 - (1 / 1.7) ** 4)
        push = np.stack(
            [
                np.bincount(pairs[:, 0], force[:, d], minlength=count)
                - np.bincount(pairs[:, 1], force[:, d], minlength=count)
                for d in range(3)
            ],
            axis=1,
        )
        strength = np.linalg.norm(push, axis=1, keepdims=True)
        longest = (0.15 * (1.0 - number / _ROUNDS) + 0.01) * distance
        points += push * np.minimum(0.08 * distance, longest / np.maximum(strength, 1e-12))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def lattice_poses(
    radius: float, spacing: float, rng: np.random.Generator, *, coverage: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Poses of the particles of a lattice about the origin.

    Parameters
    ----------
    radius, spacing : A, of the sphere and between next neighbours
    coverage : part of the sphere that is covered; the rest are a few connected gaps

    Returns
    -------
    (n, 3) positions in A and (n, 3, 3) rotations, which take z outwards and x towards a neighbour

    Raises
    ------
    InputError : a sphere too small
    """
    directions = sphere_lattice(radius, spacing, rng)
    rotations = _along_neighbours(directions, spacing / radius, rng)
    field = smooth_field(directions, rng, degrees=(1, 2, 3, 4, 5))
    kept = np.sort(np.argsort(field)[: max(1, round(coverage * len(directions)))])
    return radius * directions[kept], rotations[kept]


def outward_frames(normals: FloatArray, azimuths_deg: FloatArray) -> FloatArray:
    """(n, 3, 3) rotations that take z to unit vectors (n, 3), turned about them by (n,) degrees from any start."""
    other = np.eye(3)[np.abs(normals).argmin(1)]
    first = np.cross(other, normals)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frames = np.stack([first, np.cross(normals, first), normals], axis=2)
    return np.asarray(frames @ Rotation.from_euler("z", azimuths_deg[:, None], degrees=True).as_matrix())


def _along_neighbours(directions: FloatArray, distance: float, rng: np.random.Generator) -> FloatArray:
    """Frames with z outwards and x towards a neighbour, as the six around agree on it."""
    frames = outward_frames(directions, np.zeros(len(directions)))
    pairs = cKDTree(directions).query_pairs(1.4 * distance, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    local = np.einsum("nij,ni->nj", frames[both[:, 0]], directions[both[:, 1]] - directions[both[:, 0]])
    phase = np.exp(6j * np.arctan2(local[:, 1], local[:, 0]))
    total = np.bincount(both[:, 0], phase.real, minlength=len(directions)) + 1j * np.bincount(
        both[:, 0], phase.imag, minlength=len(directions)
    )
    sixth = 60.0 * rng.integers(0, 6, len(directions))
    return outward_frames(directions, np.rad2deg(np.angle(total)) / 6.0 + sixth)
