"""Which part of Fourier space a tilt series has sampled."""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.rotations import rotation_x
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.filters import angular_weights
from eucentric.typing import FloatArray

_SAMPLES_PER_WIDTH = 4  # of the table; a bilinear read of a Gaussian is then true to 1%


class FourierCoverage:
    r"""Coverage of Fourier space by one tilt series, from 0 (no tilt came near) to 1 (sampled as the ramp expects).

    An image holds the central plane of Fourier space across its beam; a specimen of depth D gives the plane a thickness
    of 1/D, and between neighbouring tilts the ramp filter spreads each over the gap. Around the tilt axis, at distance r
    and angle phi from it, the coverage is

    .. math:: \sum_t w_t\, r\, \mathcal{N}(r \sin(\varphi - \theta_t);\ \sigma_t),
              \qquad \sigma_t^2 = (w_t r / 2)^2 + (1 / 2 D)^2

    with :math:`w_t` the angle that tilt t stands for; at most 1. At frequencies that the thickness of the planes brings
    together all of them count, so that the axis itself is covered. A tilt left out in the middle shows as the gap that
    it is only where its neighbours do not reach; the edges of the missing wedge are as soft as the tilts are dense.

    Parameters
    ----------
    geometry : tilts of the series; in-plane rotation and shifts do not matter. A varying tilt about x counts as its mean
    depth_angstrom : depth of the reconstruction
    highest_frequency : 1/A; asked for up to here
    """

    def __init__(self, geometry: TiltGeometry, *, depth_angstrom: float, highest_frequency: float) -> None:
        if not (depth_angstrom > 0 and highest_frequency > 0):
            raise InputError(
                f"A depth of {depth_angstrom:g} A and frequencies to {highest_frequency:g} 1/A were given; expected "
                "positive numbers."
            )
        if not len(geometry):
            raise ShapeError("A geometry without tilts was given; expected at least one.")
        # thinner than a 500th of the range nobody sees, and the table would grow without end
        plane = max(0.5 / depth_angstrom, highest_frequency / 500.0)
        self._step = 2.0 * plane / _SAMPLES_PER_WIDTH
        self._half = math.ceil(highest_frequency / self._step) + 2
        self._frame = rotation_x(float(np.mean(geometry.x_tilt_deg)))
        tilts = np.deg2rad(geometry.y_tilt_deg)
        u = np.arange(self._half + 1)[None, :] * self._step
        w = np.arange(-self._half, self._half + 1)[:, None] * self._step
        # where the planes overlap anyway, r stands for the width that all of them fill together
        weights = angular_weights(geometry.y_tilt_deg)
        r = np.hypot(np.hypot(u, w), math.sqrt(2.0 * math.pi) * plane / min(float(weights.sum()), math.pi))
        total = np.zeros(r.shape)
        for tilt, weight in zip(tilts, weights, strict=True):
            distance = w * math.cos(tilt) - u * math.sin(tilt)
            width = np.hypot(0.5 * weight * r, plane)
            total += weight * r * np.exp(-0.5 * (distance / width) ** 2) / (math.sqrt(2.0 * math.pi) * width)
        self._table = torch.from_numpy(np.minimum(total, 1.0)).float()

    def at(self, kx: Tensor, ky: Tensor, kz: Tensor, rotation: ArrayLike | None = None) -> Float[Tensor, "*grid"]:
        """Coverage at frequencies (1/A) that broadcast against each other.

        Parameters
        ----------
        kx, ky, kz : components in the frame of the volume
        rotation : (3, 3), from the specimen's frame of this series to the volume's; none where they are one
        """
        to_series: FloatArray = self._frame if rotation is None else self._frame @ np.asarray(rotation).T
        u, _, w = (float(row[0]) * kx + float(row[1]) * ky + float(row[2]) * kz for row in to_series)
        u, w = u / self._step, w / self._step
        w = torch.where(u < 0, -w, w) + self._half  # a real volume: k and -k are one
        u = u.abs()
        table = self._table.to(u.device)
        most = self._half - 1
        u0, w0 = u.floor().clamp(0, most - 1), w.floor().clamp(0, 2 * most)
        fu, fw = (u - u0).clamp(0, 1).to(table.dtype), (w - w0).clamp(0, 1).to(table.dtype)
        start = w0.long() * table.shape[1] + u0.long()
        flat = table.reshape(-1)
        low = flat[start] * (1 - fu) + flat[start + 1] * fu
        start += table.shape[1]
        high = flat[start] * (1 - fu) + flat[start + 1] * fu
        return low * (1 - fw) + high * fw

    def on_grid(
        self,
        shape: tuple[int, int, int],
        voxel_size: float,
        *,
        rotation: ArrayLike | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "z y half_x"]:
        """Coverage on the rfftn of a volume of `shape`."""
        kz, ky, kx = frequency_vectors(shape, voxel_size, device=device)
        return self.at(kx, ky, kz, rotation)
