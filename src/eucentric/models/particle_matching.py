"""Particles that are too near to each other, and those that two lists share. One tomogram is never compared with another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

MATCH_DISTANCE = "eucMatchDistanceAngst"
"""Column with the distance to a particle's match in another list."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matches:
    """Pairs of rows of two lists, each row in one pair at most."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distances_angstrom: FloatArray


def _checked(distance_angstrom: float) -> float:
    if not (np.isfinite(distance_angstrom) and distance_angstrom > 0):
        raise InputError(f"A distance of {distance_angstrom:g} A was given; expected a positive number.")
    return distance_angstrom


def match_particles(
    first: ParticleSet, second: ParticleSet, distance_angstrom: float, *, same_kind: bool = False
) -> Matches:
    """One-to-one pairs not farther apart than a distance, the nearest pairs first.

    Parameters
    ----------
    distance_angstrom : A, > 0
    same_kind : only particles of one kind can be pairs

    Raises
    ------
    InputError : a distance that is not positive
    """
    reach = _checked(distance_angstrom)
    rows_a: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    rows_b: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    gaps: list[FloatArray] = [np.zeros(0)]
    for name in first.tomogram_names:
        a, b = np.flatnonzero(first.tomograms == name), np.flatnonzero(second.tomograms == name)
        if not len(b):
            continue
        near = cKDTree(first.positions_angstrom[a]).sparse_distance_matrix(
            cKDTree(second.positions_angstrom[b]), reach, output_type="ndarray"
        )
        rows_a.append(a[near["i"]])
        rows_b.append(b[near["j"]])
        gaps.append(np.asarray(near["v"], dtype=np.float64))
    i, j, gap = np.concatenate(rows_a), np.concatenate(rows_b), np.concatenate(gaps)
    if same_kind:
        alike = first.kinds[i] == second.kinds[j]
        i, j, gap = i[alike], j[alike], gap[alike]
    taken_a, taken_b = np.zeros(len(first), dtype=bool), np.zeros(len(second), dtype=bool)
    chosen = []
    for pair in np.lexsort((j, i, gap)):
        if not taken_a[i[pair]] and not taken_b[j[pair]]:
            taken_a[i[pair]] = taken_b[j[pair]] = True
            chosen.append(pair)
    kept = np.array(chosen, dtype=np.int64)
    return Matches(first=i[kept], second=j[kept], distances_angstrom=gap[kept])


def dedupe_particles(
    particles: ParticleSet, distance_angstrom: float, *, same_kind: bool = False, keep: str = "best"
) -> ParticleSet:
    """Without particles nearer than a distance to one that is kept; the order of the rest stays.

    Parameters
    ----------
    distance_angstrom : A, > 0
    same_kind : particles of different kinds do not compete
    keep : of particles too near to each other, `best` keeps the one of the highest score, `first` the one listed first

    Raises
    ------
    InputError : a distance that is not positive, or another word for `keep`
    """
    reach = _checked(distance_angstrom)
    if keep not in ("best", "first"):
        raise InputError(f"Of particles too near to each other, keep `best` or `first`; got `{keep}`.")
    rank = np.where(np.isnan(particles.scores), -np.inf, particles.scores)
    alive = np.ones(len(particles), dtype=bool)
    for name in particles.tomogram_names:
        rows = np.flatnonzero(particles.tomograms == name)
        order = rows[np.argsort(-rank[rows], kind="stable")] if keep == "best" else rows
        tree = cKDTree(particles.positions_angstrom[order])
        for place, neighbours in enumerate(tree.query_ball_tree(tree, float(np.nextafter(reach, 0.0)))):
            row = order[place]
            if not alive[row]:
                continue
            later = order[[n for n in neighbours if n > place]]
            rivals = later[particles.kinds[later] == particles.kinds[row]] if same_kind else later
            alive[rivals] = False
    return particles.select(alive)


def merge_particles(
    parts: Sequence[ParticleSet], distance_angstrom: float | None = None, *, keep: str = "best", same_kind: bool = False
) -> ParticleSet:
    """All particles of several lists, once each where a distance is given.

    Parameters
    ----------
    distance_angstrom : A; particles nearer than this are one
    keep, same_kind : as :func:`dedupe_particles`; `first` suits lists whose scores cannot be compared
    """
    whole = ParticleSet.concatenate(list(parts))
    return (
        whole
        if distance_angstrom is None
        else dedupe_particles(whole, distance_angstrom, keep=keep, same_kind=same_kind)
    )


def intersect_particles(
    first: ParticleSet, second: ParticleSet, distance_angstrom: float, *, keep: str = "first", same_kind: bool = False
) -> ParticleSet:
    """Particles that both lists have, with the distance between the two.

    Parameters
    ----------
    distance_angstrom : A between the two places of one particle, at most
    keep : `first`, `second`, or `best` for the one of the higher score

    Raises
    ------
    InputError : a distance that is not positive, or another word for `keep`
    """
    if keep not in ("first", "second", "best"):
        raise InputError(f"Of each pair, keep `first`, `second` or `best`; got `{keep}`.")
    pairs = match_particles(first, second, distance_angstrom, same_kind=same_kind)
    a, b = first.select(pairs.first), second.select(pairs.second)
    if keep == "best":
        better = np.nan_to_num(b.scores, nan=-np.inf) > np.nan_to_num(a.scores, nan=-np.inf)
        rows = np.arange(len(a)) + np.where(better, len(a), 0)
        out = ParticleSet.concatenate([a, b]).select(rows)
    else:
        out = a if keep == "first" else b
    out = out.with_column(MATCH_DISTANCE, pairs.distances_angstrom)
    return out.select(np.argsort(pairs.second if keep == "second" else pairs.first, kind="stable"))


def subtract_particles(
    first: ParticleSet, second: ParticleSet, distance_angstrom: float, *, same_kind: bool = False
) -> ParticleSet:
    """Particles of the first list that have no match in the second."""
    alone = np.ones(len(first), dtype=bool)
    alone[match_particles(first, second, distance_angstrom, same_kind=same_kind).first] = False
    return first.select(alone)
