"""Gold-standard halves: two sets of particles that never see each other."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

SUBSET = "rlnRandomSubset"
TUBE = "rlnHelicalTubeID"
_LARGEST = 0.25
"""Largest part of a tomogram's particles that stays together; a lattice would else be one piece."""
_FEWEST = 8


def assign_halves(particles: ParticleSet, distance_angstrom: float, *, seed: int = 0) -> NDArray[np.int64]:
    """(particle,) 1 or 2: as the column rlnRandomSubset says, or anew.

    Anew, particles of a tomogram that are linked by distances up to `distance_angstrom` share a half, as their boxes hold
    the same pixels; pieces that are too large are cut across their longest direction. Filaments (rlnHelicalTubeID) are pieces of
    their own and stay whole: all along, they show the same units. Largest pieces first, each goes to the half that has fewer
    particles.

    Raises
    ------
    InputError : fewer than two particles, a half that is neither 1 nor 2, or known of some particles only
    """
    count = len(particles)
    if count < 2:
        raise InputError(
            f"{count} particle{'s were' if count != 1 else ' was'} given; two halves need two at least. Without halves no "
            "resolution can be told."
        )
    given = particles.columns.get(SUBSET)
    if given is not None:
        missing = ~np.isin(given, (1.0, 2.0))
        if missing.any():
            raise InputError(
                f"{int(missing.sum())} of {count} particles have no half in {SUBSET} (1 or 2); the first is row "
                f"{int(np.flatnonzero(missing)[0]) + 1}. Fill it in for all, or take the column out and halves are made anew."
            )
        if len(np.unique(given)) < 2:
            raise InputError(f"All particles are in half {given[0]:g} ({SUBSET}). Take the column out, or fill both.")
        return given.astype(np.int64)
    tubes = particles.columns.get(TUBE, np.full(count, np.nan))
    pieces = []
    for name in particles.tomogram_names:
        here = particles.tomograms == name
        alone = np.flatnonzero(here & np.isnan(tubes))
        if len(alone):
            pieces += [np.asarray(p) for p in _pieces(alone, particles.positions_angstrom, distance_angstrom)]
        pieces += [np.flatnonzero(here & (tubes == tube)) for tube in np.unique(tubes[here & ~np.isnan(tubes)])]
    rng = np.random.default_rng(seed)
    order = sorted(range(len(pieces)), key=lambda i: (-len(pieces[i]), rng.random()))
    if len(pieces) == 1:
        pieces, order = _cut(pieces[0], particles.positions_angstrom), [0, 1]
    halves = np.zeros(count, dtype=np.int64)
    filled = [0, 0]
    for i in order:
        half = int(rng.integers(2)) if filled[0] == filled[1] else int(filled[0] > filled[1])
        halves[pieces[i]] = half + 1
        filled[half] += len(pieces[i])
    return halves


def _pieces(rows: NDArray[np.int64], positions: FloatArray, distance: float) -> list[NDArray[np.int64]]:
    pairs = cKDTree(positions[rows]).query_pairs(distance, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
    _, owner = connected_components(links, directed=False)
    most = max(_FEWEST, int(_LARGEST * len(rows)))
    waiting = [rows[owner == i] for i in range(owner.max() + 1)]
    done = []
    while waiting:
        piece = waiting.pop()
        if len(piece) <= most:
            done.append(piece)
        else:
            waiting.extend(_cut(piece, positions))
    return done


def _cut(piece: NDArray[np.int64], positions: FloatArray) -> list[NDArray[np.int64]]:
    """Two halves of a piece, parted across its longest direction."""
    centred = positions[piece] - positions[piece].mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    order = np.argsort(along, kind="stable")
    return [piece[order[: len(piece) // 2]], piece[order[len(piece) // 2 :]]]
