"""What a deforming specimen does to each particle, as RELION holds it: a table of trajectories beside the list of particles.

A trajectory has a row for each tilt image in the order of the rows of the series' own table, and RELION adds it (A, in the frame
of the specimen) to the particle's position before projecting (`ParticleSet::getTrajectoryInPixels`); the tables are by the dose
before each image here, so that it is the order of acquisition too. RELION's own trajectories are 0 in the first image. These are
not: they are counted from where the list has the particle, and the sum is what counts [1]_.

References
----------
.. [1] RELION-5's sources, `motion/trajectory.cpp`, `motion/motion_fit.cpp` (getTrajectory), `particle_set.cpp`; documentation,
   Reference/STA/Datatypes/trajectory_set
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.exchange.relion5 import relion_order
from eucentric.io.relion_particles import particle_names
from eucentric.io.star import Table, write_star
from eucentric.models.optics import Optics
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

_ORIGINS = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")


def trajectories(particles: ParticleSet, geometries: Mapping[str, SeriesGeometry]) -> list[FloatArray]:
    """Of each particle (image, 3) A, rows as RELION's; zeros where the specimen does not deform."""
    out: list[FloatArray] = [np.zeros((0, 3))] * len(particles)
    for name in particles.tomogram_names:
        geometry = geometries[name]
        series, volume = geometry.series, geometry.volume
        rows = np.flatnonzero(particles.tomograms == name)
        moved = np.zeros((len(series.tilts), len(rows), 3))
        if volume is not None:
            moved = volume.along(particles.positions_angstrom[rows], series.middle_doses)
        for column, row in enumerate(rows):
            out[row] = moved[relion_order(series), column]
    return out


def write_trajectories(path: Path, particles: ParticleSet, geometries: Mapping[str, SeriesGeometry]) -> None:
    """RELION's `motion.star` of a list, by the names that `write_relion_particles` gives its particles.

    Raises
    ------
    InputError : a deformed specimen in images of unknown dose, or the place cannot be written to
    """
    blocks: dict[str, Table] = {"general": {"rlnParticleNumber": [len(particles)]}}
    for name, moved in zip(particle_names(particles), trajectories(particles, geometries), strict=True):
        blocks[str(name)] = {label: moved[:, i] for i, label in enumerate(_ORIGINS)}
    write_star(path, blocks)


def odd_zernike(optics: Optics) -> str:
    r"""RELION's rlnOddZernike: beam tilt and trefoil as :mod:`eucentric.optics.odd_aberrations` has them.

    Coefficients of :math:`R_n^m(k) \cos m\varphi` (and sin for negative m), k in 1/A, for (n, m) = (1, -1), (1, 1), (3, -3),
    (3, -1), (3, 1), (3, 3). Of :math:`c\,k^2 k_x` a third is :math:`R_3^1 = 3 k^3 - 2 k`, and two thirds of :math:`k` are put back.
    """
    coma = -2e-3 * math.pi * optics.spherical_aberration_mm * 1e7 * optics.wavelength_angstrom**2 / 3.0
    x, y = (coma * tilt for tilt in optics.beam_tilt_mrad)
    real, imaginary = optics.trefoil_rad_angstrom3
    return "[" + ",".join(f"{v:.9g}" for v in (2.0 * y, 2.0 * x, imaginary, y, x, real)) + "]"
