"""Where particles are seen in every image of their tilt series, and how far from focus."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eucentric.geometry import ImageWarp, TiltGeometry, VolumeWarp
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleProjections:
    """Of each tilt and particle; pixels count from 0 at the centre of the first one, y up."""

    pixels: FloatArray
    """(tilt, particle, 2), x and y in the images."""
    visible: NDArray[np.bool_]
    """(tilt, particle), whether it lies in the image with its margin."""
    heights_angstrom: FloatArray
    """(tilt, particle), z in the camera's frame."""
    defocus_u_angstrom: FloatArray
    """(tilt, particle), underfocus positive; NaN where the CTF of a tilt is not known."""
    defocus_v_angstrom: FloatArray

    @property
    def tilts_seen(self) -> NDArray[np.int64]:
        """(particle,), in how many images each is visible."""
        return np.asarray(self.visible.sum(axis=0), dtype=np.int64)


def project_particles(
    positions_angstrom: FloatArray,
    series: TiltSeries,
    warp: ImageWarp | None = None,
    *,
    volume: VolumeWarp | None = None,
    margin_angstrom: float = 0.0,
) -> ParticleProjections:
    """Particles of one series in its images.

    Parameters
    ----------
    positions_angstrom : (particle, 3), from the specimen centre
    series : aligned
    warp : local deformation of the same tilts
    volume : deformation of the specimen; particles are where it has moved them by the middle of each image, heights too
    margin_angstrom : a particle is visible whose centre is at least that far inside the image: its radius, to be seen whole

    Raises
    ------
    InputError : a series that is not aligned, or a deformed specimen in images of unknown dose
    """
    geometry = TiltGeometry.from_poses(series.poses)
    camera = geometry.project(positions_angstrom)
    if volume is not None:
        moved = np.einsum("tij,tnj->tni", geometry.matrices, volume.along(positions_angstrom, series.middle_doses))
        moved[..., :2] *= geometry.magnification[:, None, None]
        camera += moved
    seen = camera[..., :2].copy()
    if warp is not None:
        for tilt, places in enumerate(seen):
            seen[tilt] += warp.at(tilt, torch.from_numpy(places)).numpy()
    rows, columns = series.image_shape
    size = np.array([columns, rows])
    pixels = seen / series.pixel_size_angstrom + size // 2
    margin = margin_angstrom / series.pixel_size_angstrom
    visible = ((pixels >= margin - 0.5) & (pixels <= size - 0.5 - margin)).all(axis=-1)
    heights = camera[..., 2]
    unknown = float("nan")
    u = np.array([unknown if t.ctf is None else t.ctf.defocus_u_angstrom for t in series.tilts])
    v = np.array([unknown if t.ctf is None else t.ctf.defocus_v_angstrom for t in series.tilts])
    return ParticleProjections(
        pixels=pixels,
        visible=visible,
        heights_angstrom=heights,
        defocus_u_angstrom=u[:, None] + series.hand * heights,
        defocus_v_angstrom=v[:, None] + series.hand * heights,
    )
