"""How far two lists of the same particles lie apart, whatever their order."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from eucentric.geometry import Rotation
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

_NEIGHBOURS = 4  # particles at one place are told apart by their rotations


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleDifference:
    """Of every particle of the first list and the one of the second that it is."""

    distances_angstrom: FloatArray
    """(particle,); infinite in tomograms that the second list lacks."""
    angles_deg: FloatArray


def compare_particles(first: ParticleSet, second: ParticleSet) -> ParticleDifference:
    """Distances and angles to the nearest particle of the same tomogram, of those at the same place the one turned least."""
    distances, angles = np.full(len(first), np.inf), np.full(len(first), 180.0)
    for name in first.tomogram_names:
        rows = np.flatnonzero(first.tomograms == name)
        others = np.flatnonzero(second.tomograms == name)
        if not len(others):
            continue
        count = min(_NEIGHBOURS, len(others))
        found = cKDTree(second.positions_angstrom[others]).query(
            first.positions_angstrom[rows], k=list(range(1, count + 1))
        )
        away, near = np.asarray(found[0]), np.asarray(found[1])
        turned = np.stack(
            [
                Rotation(first.rotations[rows]).angle_to_deg(Rotation(second.rotations[others[near[:, k]]]))
                for k in range(count)
            ],
            axis=1,
        )
        same = away <= away[:, :1] + 1e-3
        best = np.where(same, turned, np.inf).argmin(axis=1)
        distances[rows] = away[np.arange(len(rows)), best]
        angles[rows] = turned[np.arange(len(rows)), best]
    return ParticleDifference(distances_angstrom=distances, angles_deg=angles)
