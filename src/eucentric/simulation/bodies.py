"""A specimen as bodies: the weighted points that image formation sees."""

import numpy as np

from eucentric.geometry import rotation_z
from eucentric.simulation.body import Body
from eucentric.simulation.specimen import Specimen, bead_points, vesicle_points


def specimen_bodies(specimen: Specimen, pixel_size: float, rng: np.random.Generator) -> tuple[Body, ...]:
    """The specimen as points fine enough for images of `pixel_size` A."""
    bodies = []
    for kind, species in enumerate(specimen.species):
        chosen = specimen.kinds == kind
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
    for vesicle in specimen.vesicles:
        points, weights = vesicle_points(vesicle, max(3.0, pixel_size), rng)
        bodies.append(
            Body(
                points_angstrom=points - vesicle[:3],
                weights=weights,
                rotations=np.eye(3)[None],
                centres_angstrom=vesicle[None, :3],
                fades=True,
            )
        )
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
    return tuple(bodies)
