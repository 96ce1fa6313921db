"""Sets of rotations that cover SO(3) evenly, all of it or the neighbourhood of one rotation; always the same ones."""

import math

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.errors import InputError
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.typing import FloatArray

_PHI, _PSI = math.sqrt(2.0), 1.533751168755204288118041


def sample_rotations(step_deg: float, symmetry: str = "C1") -> FloatArray:
    """Rotations (n, 3, 3) one of which is near any rotation, up to the symmetry of the particle.

    Super-Fibonacci spirals [1]_ with one rotation for each cube of side `step_deg` of the space of rotations: 14,852 at 10
    degrees, as customary. The nearest one is never much further than the step (:func:`covering_radius_deg`: 0.8 to 1.1 of
    it). Of rotations R and R g, g of the particle's group, the one is kept that turns least.

    Parameters
    ----------
    step_deg : degrees, up to 60
    symmetry : of the particle in its own frame, such as `D7`

    References
    ----------
    .. [1] Alexa, CVPR 2022:8281, doi:10.1109/CVPR52688.2022.00811

    Raises
    ------
    InputError : a step outside 0.5 to 60 degrees, or an unknown symmetry
    """
    if not 0.5 <= step_deg <= 60.0:
        raise InputError(f"The angular step is {step_deg:g} degrees; expected 0.5 to 60.")
    group = symmetry_rotations(symmetry)
    count = math.ceil(8.0 * math.pi**2 / math.radians(step_deg) ** 3)
    place = np.arange(count) + 0.5
    inner, outer = np.sqrt(place / count), np.sqrt(1.0 - place / count)
    alpha, beta = 2.0 * math.pi * place / _PHI, 2.0 * math.pi * place / _PSI
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=1
    )
    rotations = np.asarray(_ScipyRotation.from_quat(quaternions).as_matrix())
    if len(group) == 1:
        return rotations
    cosines = np.einsum("nij,gji->ng", rotations, group)  # trace of R g
    return np.asarray(rotations[cosines[:, 0] >= cosines.max(1) - 1e-9])


def local_rotations(radius_deg: float, step_deg: float) -> FloatArray:
    """Small rotations (n, 3, 3), the identity first: a cubic grid of rotation vectors within a ball.

    Parameters
    ----------
    radius_deg, step_deg : degrees
    """
    reach = math.floor(radius_deg / step_deg + 1e-9)
    line = step_deg * np.arange(-reach, reach + 1)
    vectors = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(vectors, axis=1)
    order = np.argsort(length, kind="stable")
    kept = order[length[order] <= radius_deg * (1.0 + 1e-9)]
    return np.asarray(_ScipyRotation.from_rotvec(np.deg2rad(vectors[kept])).as_matrix())


def covering_radius_deg(
    rotations: FloatArray, generator: np.random.Generator, *, symmetry: str = "C1", probes: int = 20_000
) -> float:
    """Largest angle in degrees from random rotations to the nearest of a set."""
    group = symmetry_rotations(symmetry)
    every = np.einsum("nij,gjk->ngik", rotations, group).reshape(-1, 3, 3)
    known = _ScipyRotation.from_matrix(every).as_quat()
    tree = cKDTree(np.concatenate([known, -known]))
    chord, _ = tree.query(_ScipyRotation.random(probes, rng=generator).as_quat())
    return float(np.rad2deg(4.0 * np.arcsin(0.5 * np.max(chord))))


def symmetric_angle_deg(found: FloatArray, true: FloatArray, symmetry: str = "C1") -> FloatArray:
    """(n,) angles in degrees between orientations (n, 3, 3), the least over the particle's symmetry."""
    group = symmetry_rotations(symmetry)
    trace = np.einsum("nij,gjk,nik->ng", found, group, true)
    return np.asarray(np.rad2deg(np.arccos(np.clip(0.5 * (trace.max(1) - 1.0), -1.0, 1.0))))
