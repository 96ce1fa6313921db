r"""Helical symmetry of sums over images and of maps.

Every unit of a filament in the box is one more view of the asymmetric unit, so that sums are added up over the screws
:math:`g^k` of both sides of the middle,

.. math:: B(x) = \sum_{|k| \le K} b(g^k x), \qquad W = \sum_{|k| \le K} \mathrm{turned}^k\, w

(a weight does not know where the box's middle lies), and divided afterwards: where one unit has a missing wedge another one has
data. That is exact about the middle, where all units that are added lie in the box; the map of the whole box is made of this
middle by the same screws.
"""

import math

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.errors import InputError
from eucentric.geometry.helix import Helix, cross_section
from eucentric.projection.cylinder import Cylinders
from eucentric.projection.symmetrise import turned_mean
from eucentric.typing import FloatArray


def units_each_way(helix: Helix, edge_angstrom: float, central_part: float) -> int:
    """K, so that as much of the central part is left on either side for the middle as for the screws.

    Raises
    ------
    InputError : a central part that does not hold two units on either side of its middle
    """
    half = 0.5 * central_part * edge_angstrom
    if half < 2.0 * helix.rise_angstrom:
        raise InputError(
            f"The central {half * 2:.0f} A of a box of {edge_angstrom:.0f} A hold fewer than four rises of {helix.rise_angstrom:g} A. "
            "Give a larger --box-size, or a larger central part."
        )
    return max(1, math.floor(0.5 * half / helix.rise_angstrom))


def helical_sums(
    data: Complex[Tensor, "n n half_n"],
    weight: Float[Tensor, "n n half_n"],
    helix: Helix,
    voxel_size_angstrom: float,
    central_part: float,
) -> tuple[Complex[Tensor, "n n half_n"], Float[Tensor, "n n half_n"]]:
    """Finished sums (:meth:`FourierSums.finished`) added up over the units about the middle."""
    n = data.shape[0]
    count = units_each_way(helix, n * voxel_size_angstrom, central_part)
    rotations, shifts = helix.elements(np.arange(-count, count + 1.0))
    out = []
    for part, moves in ((data, shifts / voxel_size_angstrom), (weight.to(data.dtype), None)):
        volume = torch.fft.fftshift(torch.fft.irfftn(part, s=(n, n, n)))
        out.append(torch.fft.rfftn(torch.fft.ifftshift(turned_mean(volume, rotations, moves) * len(rotations))))
    return out[0], out[1].real.clamp_min(0.0)


def impose_helix(
    volume: Float[Tensor, "n n n"], helix: Helix, voxel_size_angstrom: float, central_part: float
) -> Float[Tensor, "n n n"]:
    """The whole box filled with what the middle of a map shows, averaged over the units that lie there.

    The middle is what :func:`units_each_way` leaves of the central part. What lies beyond the cylinder that fits the box is zero.
    """
    edge = volume.shape[0] * voxel_size_angstrom
    count = units_each_way(helix, edge, central_part)
    reach = 0.5 * central_part * edge - count * helix.rise_angstrom
    cylinders = Cylinders.of(volume, voxel_size_angstrom)
    filled = _filled(cylinders, helix, reach)
    return cylinders.with_values(filled).volume().to(volume)


def _filled(cylinders: Cylinders, helix: Helix, reach_angstrom: float) -> np.ndarray:
    """(z, radius, angle) of every height from those up to `reach_angstrom` from the middle."""
    n, voxel = cylinders.size, cylinders.voxel_size_angstrom
    window = window_of(cylinders.heights_angstrom, reach_angstrom)
    most = math.ceil((0.5 * n * voxel + reach_angstrom) / helix.rise_angstrom)
    steps = np.arange(-most, most + 1.0)
    size = 2 * n  # what is moved out of the box does not come in again
    order, turned_over = cross_section(helix.group)
    angles = cylinders.values.shape[2]
    along = np.fft.fftfreq(size, voxel)
    around = np.fft.rfftfreq(angles, 1.0 / angles)
    phases = np.exp(2j * np.pi * helix.rise_angstrom * np.outer(along, steps))
    turns = np.exp(1j * math.radians(helix.twist_deg) * np.outer(steps, around))
    gain = (phases @ turns) * (np.rint(around) % order == 0)
    summed = _moved(window[:, None, None], gain[:, :1], size)[:, :, 0]
    # heights that the window does not reach are filled by the units of others
    out = np.empty_like(cylinders.values)
    for start in range(0, out.shape[1], 16):  # radii, for memory
        some = cylinders.values[:, start : start + 16] * window[:, None, None]
        out[:, start : start + 16] = _moved(some, gain, size) / summed[:, :, None]
    if turned_over:
        out = 0.5 * (out + _turned_over(out))
    return out


def _moved(values: np.ndarray, gain: np.ndarray, size: int) -> FloatArray:
    """Planes filtered along z and around, amid zeros along z."""
    n, count = values.shape[0], values.shape[2]
    spectrum = np.fft.fft(np.fft.rfft(values, axis=2), n=size, axis=0) * gain[:, None, :]
    return np.asarray(np.fft.irfft(np.fft.ifft(spectrum, axis=0)[:n], n=count, axis=2), dtype=np.float32)


def _turned_over(values: np.ndarray) -> FloatArray:
    """Turned by half a turn about x: heights and angles change sign; the last plane has no partner and stays."""
    turned = np.roll(values[:, :, ::-1], 1, axis=2)
    out = values.copy()
    out[1:] = turned[1:][::-1]
    return out


def window_of(heights_angstrom: FloatArray, reach_angstrom: float) -> FloatArray:
    """(z,) 1 about the middle, falling to 0 at `reach_angstrom` by half a cosine over half of it."""
    part = np.clip(2.0 - 2.0 * np.abs(heights_angstrom) / reach_angstrom, 0.0, 1.0)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * part))
