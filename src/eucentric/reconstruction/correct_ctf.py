"""Contrast transfer taken out of images before they are reconstructed, strip by strip or height by height."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import ShapeError
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.ctf import phase_aberration_2d
from eucentric.reconstruction.depth_transfer import check_steepness
from eucentric.typing import FloatArray

CtfCorrection = Literal["flip", "wiener", "multiply"]


def correct_ctf(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    fits: Sequence[CtfFit],
    optics: Optics,
    hand: float,
    mode: CtfCorrection,
    by_height: bool = True,
    depth_angstrom: float = 0.0,
    noise_to_signal: float = 1.0,
    phase_step: float = 0.8,
) -> Float[Tensor, "tilt y x"]:
    r"""Correct images of tilted specimens for their contrast transfer.

    The height of what a pixel shows changes across the tilt axis, :math:`h = -u \tan\theta + z / \cos\theta`. The image is corrected
    for a few heights, and every pixel takes its value between the two nearest: strips that pass into each other, as
    in [1]_. With `depth_angstrom` the correction is right for one depth z of the specimen: the step of a 3D-CTF [2]_.

    Parameters
    ----------
    images : (tilt, y, x)
    geometry : of the same tilts
    pixel_size : A
    fits : CTF of every tilt at the height of the specimen centre
    hand : defocus of a point = defocus + hand * height
    mode : ``flip`` the phases, ``multiply`` by the CTF, or divide as ``wiener``, CTF / (CTF^2 + noise to signal)
    by_height : False corrects a whole image alike
    depth_angstrom : z in the specimen for which heights are taken
    noise_to_signal : for ``wiener``
    phase_step : largest phase in radians between neighbouring heights, at the Nyquist frequency

    Returns
    -------
    (tilt, y, x); protein stays dark

    References
    ----------
    .. [1] Xiong et al., J. Struct. Biol. 168:378 (2009), doi:10.1016/j.jsb.2009.08.016
    .. [2] Turonova et al., J. Struct. Biol. 199:187 (2017), doi:10.1016/j.jsb.2017.07.007
    """
    if images.shape[0] != len(geometry) or len(fits) != len(geometry):
        raise ShapeError(
            f"{images.shape[0]} images, {len(fits)} CTF fits and {len(geometry)} tilts; expected one each."
        )
    if by_height:
        check_steepness(geometry)
    shape = (images.shape[1], images.shape[2])
    nyquist = 0.5 / pixel_size
    step = phase_step / (math.pi * optics.wavelength_angstrom * nyquist**2)
    furthest = max(abs(f.defocus_angstrom) for f in fits)
    reach = math.ceil(optics.wavelength_angstrom * nyquist * furthest / pixel_size)
    room = min(reach + 8, max(shape) // 2)
    padded = (good_size(shape[0] + room), good_size(shape[1] + room))
    fy, fx = frequency_vectors(padded, pixel_size, device=images.device, dtype=torch.float32)
    squared = fy**2 + fx**2
    slope = math.pi * optics.wavelength_angstrom * hand * step * squared
    out = torch.empty_like(images)
    for t, fit in enumerate(fits):
        mean = images[t].mean()
        spectrum = torch.fft.rfft2(images[t] - mean, s=padded)
        chi = phase_aberration_2d(
            fy,
            fx,
            fit.defocus_u_angstrom,
            fit.defocus_v_angstrom,
            fit.astigmatism_angle_deg,
            optics,
            fit.phase_shift_deg,
        )
        height = _heights(geometry, t, shape, pixel_size, depth_angstrom) / step if by_height else np.zeros(shape)
        first, last = math.floor(height.min()), math.ceil(height.max())
        if first == last:
            last += 1
        total = torch.zeros(shape, dtype=images.dtype, device=images.device)
        level = torch.from_numpy(height).to(images)
        for number in range(first, last + 1):
            weight = (1.0 - (level - number).abs()).clamp_(min=0.0)
            rows, columns = _box(weight)
            if rows.stop <= rows.start:
                continue
            gain = _gain(torch.sin(chi + number * slope), mode, noise_to_signal)
            corrected = torch.fft.irfft2(spectrum * gain, s=padded)
            total[rows, columns] += weight[rows, columns] * corrected[rows, columns]
        out[t] = total + mean
    return out


def _gain(transfer: Tensor, mode: CtfCorrection, noise_to_signal: float) -> Tensor:
    """From sin(chi), which is positive near zero frequency: dark stays dark."""
    if mode == "flip":
        return torch.sign(transfer)
    if mode == "multiply":
        return transfer
    return transfer / (transfer.square() + noise_to_signal)


def _heights(geometry: TiltGeometry, tilt: int, shape: tuple[int, int], pixel_size: float, depth: float) -> FloatArray:
    """(y, x) height in A of what each pixel shows, for a depth in the specimen."""
    turn = math.radians(geometry.z_rot_deg[tilt])
    y_tilt, x_tilt = math.radians(geometry.y_tilt_deg[tilt]), math.radians(geometry.x_tilt_deg[tilt])
    shift = geometry.shifts_angstrom[tilt]
    magnification = geometry.magnification[tilt]
    x = ((np.arange(shape[1]) - shape[1] // 2) * pixel_size - shift[0]) / magnification
    y = ((np.arange(shape[0]) - shape[0] // 2) * pixel_size - shift[1])[:, None] / magnification
    across, along = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    height = (along * math.tan(x_tilt) + depth / math.cos(x_tilt)) / math.cos(y_tilt) - across * math.tan(y_tilt)
    return np.asarray(height, dtype=np.float64)


def _box(weight: Tensor) -> tuple[slice, slice]:
    """Rows and columns that hold all positive weights."""
    rows, columns = (torch.nonzero(weight.amax(axis) > 0).flatten() for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
