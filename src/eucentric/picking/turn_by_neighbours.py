r"""The turn of particles about their normals, from where their neighbours lie: lattices of which places and normals are known.

In a sheet of symmetry :math:`C_m` the neighbours of a particle lie at m equal angles in its tangent plane. The angle of the sheet
there is that of :math:`\psi_m = \sum_j \exp(i m \varphi_j)`, the bond-orientational order of Nelson & Halperin, Phys. Rev. B 19:2457
(1979), doi:10.1103/PhysRevB.19.2457; its length over the number of neighbours says how ordered they are.
"""

import math

import numpy as np
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

ORDER = "eucLatticeOrder"


def turn_by_neighbours(particles: ParticleSet, distance_angstrom: float, fold: int) -> ParticleSet:
    """Particles turned about their z axes so that x points at a neighbour; z stays. Which of the neighbours is left open.

    Parameters
    ----------
    particles : with z along the normals of their surface
    distance_angstrom : A; the nearest neighbours lie within, the next ones beyond
    fold : of the sheet: 6, 4, 3 or 2

    Returns
    -------
    the same particles with the column eucLatticeOrder: 1 in a perfect lattice, 0 without neighbours or order

    Raises
    ------
    InputError : no normals, a fold below 2, or a distance within which hardly any particle has a neighbour
    """
    if not (math.isfinite(distance_angstrom) and distance_angstrom > 0) or fold < 2:
        raise InputError(
            f"Neighbours within {distance_angstrom:g} A of a lattice of {fold} folds were asked for; expected a positive distance and "
            "2 folds or more."
        )
    if not particles.oriented:
        raise InputError("The particles have no normals: their z axes all point along z. Pick them on a surface.")
    turn, order = np.zeros(len(particles)), np.zeros(len(particles))
    for name in particles.tomogram_names:
        rows = np.flatnonzero(particles.tomograms == name)
        turn[rows], order[rows] = _turns(
            particles.positions_angstrom[rows], particles.rotations[rows], distance_angstrom, fold
        )
    if (order > 0).mean() < 0.5:
        raise InputError(
            f"Only {(order > 0).mean():.0%} of the particles have a neighbour within {distance_angstrom:g} A. Give a larger distance."
        )
    c, s = np.cos(turn), np.sin(turn)
    about = np.zeros((len(particles), 3, 3))
    about[:, 0, 0] = about[:, 1, 1] = c
    about[:, 0, 1], about[:, 1, 0], about[:, 2, 2] = -s, s, 1.0
    return particles.with_rotations(particles.rotations @ about).with_column(ORDER, order)


def _turns(places: FloatArray, rotations: FloatArray, distance: float, fold: int) -> tuple[FloatArray, FloatArray]:
    """(particle,) angles of the sheet from x, radians, and its order."""
    tree = cKDTree(places)
    pairs = tree.query_pairs(distance, output_type="ndarray").reshape(-1, 2)
    here, there = np.concatenate([pairs, pairs[:, ::-1]]).T
    seen = np.einsum("nji,nj->ni", rotations[here], places[there] - places[here])
    angle = np.arctan2(seen[:, 1], seen[:, 0])
    total = np.zeros(len(places), dtype=np.complex128)
    np.add.at(total, here, np.exp(1j * fold * angle))
    count = np.bincount(here, minlength=len(places))
    order = np.abs(total) / np.maximum(count, 1)
    return np.angle(total) / fold, order
