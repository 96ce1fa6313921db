"""Where each image of a particle was taken from: what the unknowns of a series reach it through."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Int

from eucentric.geometry import Deformation, TiltGeometry
from eucentric.models.tilt_series import TiltSeries
from eucentric.refinement.image_sums import ImageSums
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageViews:
    """One row for every image of every particle of a series."""

    particle: Int[np.ndarray, " image"]
    tilt: Int[np.ndarray, " image"]
    particles: int
    tilts: int
    species: Int[np.ndarray, " particle"]
    points: FloatArray
    """(image, 3), A in the specimen, moved by its deformation."""
    matrices: FloatArray
    """(image, 3, 3), specimen to camera."""
    magnification: FloatArray
    """(image,)."""
    camera: FloatArray
    """(image, 3), A from where the image shows the specimen's centre, magnified."""
    rigid: FloatArray
    """(image, 2), A from the image's centre, where image warps are evaluated."""
    doses: FloatArray
    """(image,), e/A^2 at the middle of the image."""
    hand: float

    def __len__(self) -> int:
        return len(self.particle)

    def select(self, keep: np.ndarray) -> Self:
        """Some of the rows; particles are counted as before."""
        rows = {
            name: getattr(self, name)[keep]
            for name in ("particle", "tilt", "points", "matrices", "magnification", "camera", "rigid", "doses")
        }
        return replace(self, **rows)

    @classmethod
    def build(
        cls,
        sums: ImageSums,
        positions_angstrom: FloatArray,
        species: Int[np.ndarray, " particle"],
        series: TiltSeries,
        deformation: Deformation,
    ) -> Self:
        """
        Parameters
        ----------
        positions_angstrom : (particle, 3), in the order in which `sums` count them
        """
        geometry = TiltGeometry.from_poses(series.poses)
        tilt = sums.tilt
        doses = series.middle_doses[tilt]
        points = positions_angstrom[sums.particle]
        if deformation.volume is not None:
            points = points.copy()
            for t in np.unique(tilt):
                here = tilt == t
                points[here] += deformation.volume.at(points[here], float(doses[here][0]))
        matrices, magnification = geometry.matrices[tilt], geometry.magnification[tilt]
        camera = np.einsum("iab,ib->ia", matrices, points)
        camera[:, :2] *= magnification[:, None]
        return cls(
            particle=sums.particle,
            tilt=tilt,
            particles=len(positions_angstrom),
            tilts=len(series.tilts),
            species=species,
            points=points,
            matrices=matrices,
            magnification=magnification,
            camera=camera,
            rigid=camera[:, :2] + geometry.shifts_angstrom[tilt],
            doses=np.asarray(doses),
            hand=series.hand,
        )
