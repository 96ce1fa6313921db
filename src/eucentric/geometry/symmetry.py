"""Point groups of particles: Cn, Dn, T, O and I, by their rotations."""

import itertools
import re

import numpy as np

from eucentric.errors import InputError
from eucentric.geometry.rotations import rotation_x, rotation_z
from eucentric.typing import FloatArray

_GOLDEN = 0.5 * (1.0 + 5.0**0.5)


def symmetry_rotations(group: str) -> FloatArray:
    """(n, 3, 3) rotations that leave a particle as it is, the identity first.

    The axis of Cn is z; Dn has two-fold axes across it, one along x. T, O and I have two-fold axes along x, y and z (O
    four-fold ones); of the two such settings of I this is RELION's I1: a five-fold axis lies in the x-z plane, nearer x
    than z, at (golden ratio, 0, 1).

    Parameters
    ----------
    group : `C1`, `C7`, `D2`, `T`, `O`, `I` and so on, in any case

    Raises
    ------
    InputError : another name
    """
    name = group.strip().upper()
    match = re.fullmatch(r"([CD])([1-9]\d*)", name)
    if match:
        order = int(match[2])
        turns = rotation_z(360.0 / order * np.arange(order))
        return turns if match[1] == "C" else np.concatenate([turns, turns @ rotation_x(180.0)])
    third = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # about (1, 1, 1)
    seeds = {
        "T": [third, rotation_z(180.0)],
        "O": [third, rotation_z(90.0)],
        "I": [third, rotation_z(180.0), _about(np.array([_GOLDEN, 0.0, 1.0]), 72.0)],
    }
    if name not in seeds:
        raise InputError(
            f"The symmetry `{group}` is unknown; expected C or D with a number (C1, D7), T, O or I (tetrahedral, "
            "octahedral, icosahedral)."
        )
    return _closed(seeds[name])


def symmetry_generators(elements: FloatArray) -> FloatArray:
    """(1 or 2, 3, 3) elements of a group that tell where its axes lie: the smallest turn, and the one least like its powers."""
    angles = np.arccos(np.clip(0.5 * (np.einsum("gii->g", elements) - 1.0), -1.0, 1.0))
    first = int(np.argmin(np.where(angles > 1e-6, angles, np.inf)))
    axis = turn_axis(elements[first])
    tilted = np.array([np.linalg.norm(g @ axis - axis) for g in elements])
    second = int(tilted.argmax())
    return elements[[first, second]] if tilted[second] > 1e-6 else elements[[first]]


def turn_axis(turn: FloatArray) -> FloatArray:
    """(3,) direction that a rotation leaves as it is."""
    values, vectors = np.linalg.eig(turn)
    return np.asarray(np.real(vectors[:, int(np.abs(values - 1.0).argmin())]))


def _about(axis: FloatArray, angle_deg: float) -> FloatArray:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(angle_deg)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


def _closed(seeds: list[FloatArray]) -> FloatArray:
    """All products of some rotations."""
    found = [np.eye(3)]
    for known in found:  # grows while it is walked through
        for seed in seeds:
            product = known @ seed
            if all(np.abs(product - other).max() > 1e-6 for other in found):
                found.append(product)
    return np.stack(list(itertools.chain(found)))
