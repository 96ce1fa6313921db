r"""Filaments: a worm-like chain, and subunits on a helix about it.

A chain of persistence length P turns by angles of standard deviation :math:`\sqrt{s / P}` about each of the two axes
across it on a step s, so that directions a length L apart have a mean cosine of :math:`e^{-L/P}`.

References
----------
.. [1] Dominguez & Holmes, Annu. Rev. Biophys. 40:169 (2011), doi:10.1146/annurev-biophys-042910-155359 (actin: 27.3 A and
   -166.7 degrees for each subunit)
.. [2] Gittes et al., J. Cell Biol. 120:923 (1993), doi:10.1083/jcb.120.4.923 (persistence lengths: 17.7 um and 5.2 mm)
.. [3] Wade & Chretien, J. Struct. Biol. 110:1 (1993), doi:10.1006/jsbi.1993.1001 (microtubules: protofilaments and lattice)
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from eucentric.simulation.species import Species, species_of_lobes
from eucentric.typing import FloatArray

_STEP = 10.0  # A along the backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class Helix:
    """How subunits stand on a filament. Strands are equal helices, turned and moved against each other."""

    rise_angstrom: float
    """Along the axis from one subunit of a strand to the next."""
    twist_deg: float
    """About the axis from one subunit of a strand to the next, right-handed."""
    radius_angstrom: float
    """Of the subunits' origins from the axis."""
    strands: int = 1
    """They stand at equal angles."""
    strand_rise_angstrom: float = 0.0
    """Along the axis from a strand to the next, counter-clockwise seen from the plus end."""
    persistence_angstrom: float
    outer_radius_angstrom: float
    """Of the tube that everything fits into."""


ACTIN = Helix(
    rise_angstrom=27.3,
    twist_deg=-166.7,
    radius_angstrom=17.0,
    persistence_angstrom=177_000.0,
    outer_radius_angstrom=48.0,
)
# 13 protofilaments; going round once along the left-handed helix of monomers climbs three of them, half a dimer's repeat
# each, so that the seam is where alpha meets beta
MICROTUBULE = Helix(
    rise_angstrom=82.0,
    twist_deg=0.0,
    radius_angstrom=112.0,
    strands=13,
    strand_rise_angstrom=-1.5 * 82.0 / 13,
    persistence_angstrom=5.2e7,
    outer_radius_angstrom=140.0,
)


def actin_subunit() -> Species:
    """42 kDa in the outline of an actin subunit: flat, taller than wide; x points outwards and z to the plus end."""
    lobes = [
        (6.0, 8.0, 13.0, 15.0, 17.0, 14.0, 1.0),
        (6.0, -8.0, -13.0, 14.0, 16.0, 14.0, 1.1),
        (-8.0, -2.0, -10.0, 10.0, 10.0, 13.0, 0.95),
        (-7.0, 6.0, 14.0, 9.0, 9.0, 11.0, 1.0),
    ]
    return species_of_lobes("actin_like_42kDa", 42.0, lobes)


def tubulin_dimer() -> Species:
    """110 kDa in the outline of a dimer of tubulin; x points outwards and z to the plus end."""
    lobes = [
        (0.0, 0.0, -19.5, 27.0, 24.0, 18.5, 1.0),
        (-3.0, 2.0, 19.5, 25.0, 25.0, 18.5, 1.08),
        (21.0, 8.0, -14.0, 10.0, 9.0, 14.0, 1.0),
        (19.0, 8.0, 20.0, 10.0, 9.0, 14.0, 1.05),
    ]
    return species_of_lobes("tubulin_like_110kDa", 110.0, lobes)


def worm_like_chain(
    start: FloatArray, direction: FloatArray, length: float, persistence: float, rng: np.random.Generator
) -> FloatArray:
    """Points (n, 3) in A along a chain, 10 A apart, from `start` (3,) into `direction` (3,)."""
    count = max(1, round(length / _STEP))
    angles = rng.normal(scale=np.sqrt(_STEP / persistence), size=(count, 2))
    tangent = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    aside = np.cross(tangent, np.eye(3)[np.argmin(np.abs(tangent))])
    aside /= np.linalg.norm(aside)
    points = np.empty((count + 1, 3))
    points[0] = start
    for step in range(count):
        points[step + 1] = points[step] + _STEP * tangent
        turn = angles[step, 0] * aside + angles[step, 1] * np.cross(tangent, aside)
        tangent = tangent + turn
        tangent /= np.linalg.norm(tangent)
        aside -= (aside @ tangent) * tangent
        aside /= np.linalg.norm(aside)
    return points


def backbone_frames(backbone: FloatArray) -> FloatArray:
    """(n, 3, 3) rotations along a backbone (n, 3): z along it, and no turn about it from one to the next."""
    steps = np.diff(backbone, axis=0)
    tangents = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    frames = np.empty((len(backbone), 3, 3))
    aside = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    for number, tangent in enumerate(tangents):
        aside = aside - (aside @ tangent) * tangent
        aside /= np.linalg.norm(aside)
        frames[number] = np.stack([aside, np.cross(tangent, aside), tangent], axis=1)
    return frames


def subunit_poses(backbone: FloatArray, helix: Helix, *, phase_deg: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Where the subunits of a filament stand.

    Parameters
    ----------
    backbone : (n, 3), A, in even steps from the minus end to the plus end
    phase_deg : angle of the first subunit about the axis

    Returns
    -------
    (subunit, 3) positions in A and (subunit, 3, 3) rotations, which take x outwards and z to the plus end; strand by
    strand, each from the minus end
    """
    reached = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(backbone, axis=0), axis=1))])
    frames = backbone_frames(backbone)
    positions, rotations = [], []
    lowest = min(0.0, (helix.strands - 1) * helix.strand_rise_angstrom)
    for strand in range(helix.strands):
        first = strand * helix.strand_rise_angstrom - lowest
        first -= helix.rise_angstrom * np.floor(first / helix.rise_angstrom)  # both ends are cut straight
        along = np.arange(first, reached[-1], helix.rise_angstrom)
        # the helix of a strand goes on where the cut took subunits away
        turns = round((strand * helix.strand_rise_angstrom - lowest - first) / helix.rise_angstrom)
        angle = phase_deg + 360.0 * strand / helix.strands + helix.twist_deg * (np.arange(len(along)) - turns)
        axis = np.stack([np.interp(along, reached, backbone[:, d]) for d in range(3)], axis=1)
        nearest = np.clip(np.rint(along / reached[-1] * (len(backbone) - 1)).astype(int), 0, len(backbone) - 1)
        turned = frames[nearest] @ Rotation.from_euler("z", angle[:, None], degrees=True).as_matrix()
        positions.append(axis + helix.radius_angstrom * turned[:, :, 0])
        rotations.append(turned)
    return np.concatenate(positions), np.concatenate(rotations)
