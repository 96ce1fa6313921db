"""Lattices of oriented particles, flat or curved, in one, two or three dimensions: where neighbours lie, and which are missing.

Every particle sees its neighbours at the same places of its own frame: those places are the lattice, whatever its shape. They are
the clusters of ``R_i^T (p_j - p_i)`` over all pairs. A site that several particles expect and none occupies is a missing one.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.errors import InputError
from eucentric.models.particle_matching import dedupe_particles
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

VOTES = "eucLatticeVotes"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lattice:
    """Where the neighbours of a particle lie, and how they are turned, in its own frame; the most usual first."""

    offsets_angstrom: FloatArray
    """(neighbour, 3)."""
    turns: FloatArray
    """(neighbour, 3, 3): rotation of the neighbour is that of the particle times this."""
    occupancy: FloatArray
    """(neighbour,), part of the particles that have it."""
    spread_angstrom: FloatArray
    """(neighbour,), root mean square distance of neighbours from the place."""


def fit_lattice(
    particles: ParticleSet,
    distance_angstrom: float,
    *,
    tolerance_angstrom: float | None = None,
    least_occupancy: float = 0.25,
    symmetry: FloatArray | None = None,
) -> Lattice:
    """The places of neighbours that many particles share.

    Parameters
    ----------
    particles : oriented, of one kind
    distance_angstrom : A; neighbours are looked for so far away
    tolerance_angstrom : A; how far a neighbour may be from its place: a sixth of the distance where None
    least_occupancy : part of the particles that must have a neighbour there
    symmetry : (n, 3, 3) rotations that leave a particle as it is; all neighbours are seen from each

    Raises
    ------
    InputError : particles without orientation, or no place that enough of them share
    """
    if not (math.isfinite(distance_angstrom) and distance_angstrom > 0):
        raise InputError(f"A distance of {distance_angstrom:g} A was given; expected a positive number.")
    if not particles.oriented:
        raise InputError(
            "The particles have no orientations: their lattice cannot be seen from them. Align them first."
        )
    tolerance = distance_angstrom / 6.0 if tolerance_angstrom is None else tolerance_angstrom
    group = np.eye(3)[None] if symmetry is None else symmetry
    owner, other = _pairs(particles, distance_angstrom)
    frames = np.einsum("nij,gjk->gnik", particles.rotations[owner], group).reshape(-1, 3, 3)
    gap = np.tile(particles.positions_angstrom[other] - particles.positions_angstrom[owner], (len(group), 1))
    seen = np.einsum("nji,nj->ni", frames, gap)
    turned = np.tile(particles.rotations[other], (len(group), 1, 1))
    left = np.ones(len(seen), dtype=bool)
    places, turns, parts, spreads = [], [], [], []
    chances = len(particles) * len(group)
    while left.any():
        rows = np.flatnonzero(left)
        tree = cKDTree(seen[rows])
        counts = tree.query_ball_point(seen[rows], tolerance, return_length=True)
        centre = seen[rows[int(np.argmax(counts))]]
        for _ in range(5):
            near = rows[tree.query_ball_point(centre, tolerance)]
            centre = seen[near].mean(axis=0)
        left[near] = False
        if len(near) / chances < least_occupancy:
            break
        places.append(centre)
        parts.append(len(near) / chances)
        spreads.append(float(np.sqrt(((seen[near] - centre) ** 2).sum(axis=1).mean())))
        turns.append(_mean_turn(frames[near].transpose(0, 2, 1) @ turned[near], group))
    if not places:
        raise InputError(
            f"No place within {distance_angstrom:g} A has a neighbour for {least_occupancy:.0%} of the particles. "
            "They form no lattice, or the distance, tolerance or symmetry is wrong."
        )
    return Lattice(
        offsets_angstrom=np.array(places),
        turns=np.array(turns),
        occupancy=np.array(parts),
        spread_angstrom=np.array(spreads),
    )


def _pairs(particles: ParticleSet, distance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of all ordered pairs of one tomogram that are not farther apart."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for name in particles.tomogram_names:
        rows = np.flatnonzero(particles.tomograms == name)
        pairs = rows[cKDTree(particles.positions_angstrom[rows]).query_pairs(distance, output_type="ndarray")].reshape(
            -1, 2
        )
        found += [pairs, pairs[:, ::-1]]
    both = np.concatenate(found)
    return both[:, 0], both[:, 1]


def _mean_turn(turns: FloatArray, group: FloatArray) -> FloatArray:
    """Mean of rotations that are known but for a symmetry."""
    mean = np.array(turns[0])
    for _ in range(3):
        alike = turns[:, None] @ group[None]
        best = np.einsum("ngij,ij->ng", alike, mean).argmax(axis=1)
        mean = np.asarray(_ScipyRotation.from_matrix(alike[np.arange(len(turns)), best]).mean().as_matrix())
    return mean


def complete_lattice(
    particles: ParticleSet,
    lattice: Lattice,
    *,
    tolerance_angstrom: float,
    votes: int = 2,
    rounds: int = 3,
    symmetry: FloatArray | None = None,
) -> ParticleSet:
    """Particles, and those that are missing among them at sites that several expect; the new ones carry their votes.

    Parameters
    ----------
    tolerance_angstrom : A within which expectations are one site, and within which a site is occupied
    votes : particles that must expect a site
    rounds : new particles vote in the next round
    symmetry : as in :func:`fit_lattice`

    Returns
    -------
    the particles given (0 votes), then the new ones without scores

    Raises
    ------
    InputError : a tolerance or number that is not positive
    """
    if not tolerance_angstrom > 0 or votes < 1 or rounds < 1:
        raise InputError("The tolerance, votes and rounds of a lattice must be positive.")
    group = np.eye(3)[None] if symmetry is None else symmetry
    whole = particles.with_column(VOTES, 0.0)
    for _ in range(rounds):
        fresh = [
            _missing(whole.in_tomogram(n), lattice, tolerance_angstrom, votes, group) for n in whole.tomogram_names
        ]
        new = ParticleSet.concatenate(fresh)
        if not len(new):
            break
        whole = ParticleSet.concatenate([whole, new])
    return whole


def _missing(part: ParticleSet, lattice: Lattice, tolerance: float, votes: int, group: FloatArray) -> ParticleSet:
    """Sites of one tomogram that are expected and free."""
    frames = np.einsum("nij,gjk->ngik", part.rotations, group).reshape(-1, 3, 3)
    start = np.repeat(part.positions_angstrom, len(group), axis=0)
    sites = (start[:, None] + np.einsum("nij,kj->nki", frames, lattice.offsets_angstrom)).reshape(-1, 3)
    turns = np.einsum("nij,kjl->nkil", frames, lattice.turns).reshape(-1, 3, 3)
    voter = np.repeat(np.arange(len(part)), len(group) * len(lattice.turns))
    free = cKDTree(part.positions_angstrom).query(sites)[0] > tolerance
    sites, turns, voter = sites[free], turns[free], voter[free]
    tree = cKDTree(sites) if len(sites) else None
    taken = np.zeros(len(sites), dtype=bool)
    places, rotations, counts = [], [], []
    if tree is not None:
        near = tree.query_ball_point(sites, tolerance)
        heard = np.array([len(set(voter[n].tolist())) for n in near])
        for row in np.argsort(-heard, kind="stable"):
            if heard[row] < votes:
                break
            mine = [n for n in near[row] if not taken[n]]
            if taken[row] or len(set(voter[mine].tolist())) < votes:
                continue
            taken[near[row]] = True
            places.append(sites[mine].mean(axis=0))
            rotations.append(_mean_turn(turns[mine], group))
            counts.append(float(len(set(voter[mine].tolist()))))
    if not places:
        return ParticleSet.empty()
    kind = str(part.kinds[0])
    new = ParticleSet.build(
        str(part.tomograms[0]),
        np.array(places),
        rotations=np.array(rotations),
        scores=counts,
        kinds=kind,
        columns={VOTES: counts},
    )
    return dedupe_particles(new, tolerance).with_scores(np.nan)
