"""Particles without symmetry of two tomograms and two kinds, at the poles of the angles too, and the grids they lie in."""

import numpy as np

from eucentric.geometry import Rotation
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

FRAMES = TomogramFrames(
    by_name={
        "TS_01": TomogramFrame(voxel_size_angstrom=8.0, size_xyz=(120, 100, 50)),
        "TS_02": TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(101, 97, 33)),
    }
)
ANGLES = np.array(
    [[20.0, 35.0, -110.0], [0.0, 0.0, 0.0], [-170.0, 180.0, 50.0], [5.0, 90.0, 0.0], [77.0, 144.0, 178.0]]
)


def asymmetric() -> ParticleSet:
    return ParticleSet.build(
        ["TS_01", "TS_01", "TS_02", "TS_01", "TS_02"],
        [[123.4, -321.07, 55.5], [0, 0, 0], [-400.25, 17.5, -99.9], [8.0, 16.0, -24.0], [1.0, -2.0, 3.0]],
        rotations=Rotation.from_relion(*ANGLES.T).matrices,
        scores=[0.5, 0.25, 0.75, 0.125, 0.625],
        kinds=["2", "1", "2", "1", "2"],
    )
