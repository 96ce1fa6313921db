"""A specimen as bodies: the weighted points that image formation sees."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.geometry import rotation_z
from eucentric.simulation.body import Body
from eucentric.simulation.matter import bead_points, bilayer_points, contaminant_points
from eucentric.simulation.specimen import Specimen
from eucentric.typing import FloatArray

_PATCH = 700.0  # A: large things are several bodies, which the deformation of the specimen moves on their own
_DISPLACED = 6.0  # A about the points of a protein that lipids leave free
_COARSE = 8.0
_LIPID = 8.0  # A between neighbours in a leaflet: bilayers are no more even than this, and no less


def specimen_bodies(specimen: Specimen, pixel_size: float, rng: np.random.Generator) -> tuple[Body, ...]:
    """The specimen as points fine enough for images of `pixel_size` A."""
    bodies = []
    for kind, species in enumerate(specimen.species):
        chosen = specimen.kinds == kind
        if not chosen.any():
            continue
        coarse = species.coarse(0.6 * pixel_size)
        bodies.append(
            Body(
                points_angstrom=coarse.points_angstrom,
                weights=coarse.weights,
                rotations=specimen.rotations[chosen],
                centres_angstrom=specimen.positions_angstrom[chosen],
                fades=True,
            )
        )
    for number, membrane in enumerate(specimen.membranes):
        points, weights = bilayer_points(membrane, min(max(3.0, pixel_size), _LIPID), rng)
        lipid = ~_in_protein(specimen, number, points)
        bodies += _patches(points[lipid], weights[lipid], fades=True)
    if len(specimen.beads):
        points, weights = bead_points(specimen.bead_diameter_angstrom, 0.7 * pixel_size)
        bodies.append(
            Body(
                points_angstrom=points,
                weights=weights,
                rotations=rotation_z(rng.uniform(0, 360, len(specimen.beads))),
                centres_angstrom=specimen.beads,
                fades=False,
            )
        )
    for contaminant in specimen.contamination:
        bodies += _patches(*contaminant_points(contaminant, specimen.film, max(5.0, pixel_size), rng), fades=False)
    return tuple(bodies)


def _patches(points: FloatArray, weights: FloatArray, *, fades: bool) -> list[Body]:
    """Points in the specimen as bodies of limited size about their own middles."""
    if not len(points):
        return []
    size = np.ptp(points, axis=0)
    # whole where it is not much larger than a patch
    parts = np.where(size <= 1.6 * _PATCH, 1, np.ceil(size / _PATCH)).astype(np.int64)
    cell = np.minimum(((points - points.min(0)) / np.maximum(size, 1e-9) * parts).astype(np.int64), parts - 1)
    number = (cell[:, 0] * parts[1] + cell[:, 1]) * parts[2] + cell[:, 2]
    order = np.argsort(number, kind="stable")
    bounds = np.flatnonzero(np.diff(number[order])) + 1
    return [_body(points[part], weights[part], fades) for part in np.split(order, bounds)]


def _body(points: FloatArray, weights: FloatArray, fades: bool) -> Body:
    middle = 0.5 * (points.min(0) + points.max(0))
    return Body(
        points_angstrom=points - middle,
        weights=weights,
        rotations=np.eye(3)[None],
        centres_angstrom=middle[None],
        fades=fades,
    )


def _in_protein(specimen: Specimen, membrane: int, points: FloatArray) -> NDArray[np.bool_]:
    """Whether lipids at (n, 3) would stand where a protein of their membrane stands."""
    members = specimen.members("membrane", membrane)
    if not len(members):
        return np.zeros(len(points), dtype=bool)
    coarse = {k: specimen.species[k].coarse(_COARSE).points_angstrom for k in np.unique(specimen.kinds[members])}
    solid = [coarse[specimen.kinds[m]] @ specimen.rotations[m].T + specimen.positions_angstrom[m] for m in members]
    distance, _ = cKDTree(np.concatenate(solid)).query(points, distance_upper_bound=_DISPLACED)
    return np.asarray(np.isfinite(distance))
