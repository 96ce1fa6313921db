"""Contrast transfer taken out of images before they are reconstructed, strip by strip or height by height."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.transfer import CtfCorrection, contrast_transfer, correction_gain
from eucentric.projection.resampling import blend_edges
from eucentric.reconstruction.depth_transfer import check_steepness
from eucentric.reconstruction.signal_to_noise import SpectralRatio
from eucentric.typing import FloatArray

PHASE_STEP = 0.8
"""Largest phase in radians between the heights that an image is corrected for, at the Nyquist frequency."""


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
    signal_to_noise: SpectralRatio | None = None,
    exposures: ArrayLike | None = None,
    b_factor_angstrom2: float = 0.0,
    defocus_tolerance_angstrom: float | None = None,
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
    mode : ``flip`` the phases, ``multiply`` by the transfer T, or divide as ``wiener``, T / (T^2 + noise to signal)
    by_height : False corrects a whole image alike
    depth_angstrom : z in the specimen for which heights are taken
    signal_to_noise : for ``wiener``; 1 at every frequency where None
    exposures : (tilt,) e/A^2 at the middle of each image, whose damage is then part of T, and fades what is flipped
    b_factor_angstrom2 : A^2, of a further envelope, part of T
    defocus_tolerance_angstrom : largest difference between the defocus of a pixel and that of the nearer height it is
        corrected for; where None, 0.4 radian of phase at the Nyquist frequency

    Returns
    -------
    (tilt, y, x); protein stays dark

    Raises
    ------
    ShapeError : images, geometry, fits and exposures that do not match
    InputError : a tolerance that is not positive; tilts beyond 85 degrees

    References
    ----------
    .. [1] Xiong et al., J. Struct. Biol. 168:378 (2009), doi:10.1016/j.jsb.2009.08.016
    .. [2] Turonova et al., J. Struct. Biol. 199:187 (2017), doi:10.1016/j.jsb.2017.07.007
    """
    if images.shape[0] != len(geometry) or len(fits) != len(geometry):
        raise ShapeError(
            f"{images.shape[0]} images, {len(fits)} CTF fits and {len(geometry)} tilts; expected one each."
        )
    given = None if exposures is None else np.asarray(exposures, dtype=np.float64)
    if given is not None and given.shape != (len(geometry),):
        raise ShapeError(f"Exposures of shape {given.shape} for {len(geometry)} tilts; expected one each.")
    if by_height:
        check_steepness(geometry)
    shape = (images.shape[1], images.shape[2])
    step = _step(pixel_size, optics, defocus_tolerance_angstrom)
    out = torch.empty_like(images)
    for t, fit in enumerate(fits):
        padded = _padded(shape, pixel_size, fit, optics)
        transfer = contrast_transfer(
            padded,
            pixel_size,
            fit,
            optics,
            exposure=None if given is None else float(given[t]),
            b_factor_angstrom2=b_factor_angstrom2,
            magnification=float(geometry.magnification[t]),
            device=images.device,
        )
        noise_to_signal: Tensor | float = 1.0
        if mode == "wiener" and signal_to_noise is not None:
            noise_to_signal = 1.0 / signal_to_noise.at(frequency_grid(padded, pixel_size, device=images.device))
        mean = images[t].mean()
        spectrum = torch.fft.rfft2(blend_edges(images[t] - mean, padded, 0))
        height = _heights(geometry, t, shape, pixel_size, depth_angstrom) / step if by_height else np.zeros(shape)
        level = torch.from_numpy(height).to(images)
        total = torch.zeros_like(level)
        first = math.floor(height.min())
        for number in range(first, max(math.ceil(height.max()), first + 1) + 1):
            weight = (1.0 - (level - number).abs()).clamp_(min=0.0)
            rows, columns = _box(weight)
            if rows.stop <= rows.start:
                continue
            gain = correction_gain(
                transfer.at(hand * step * number), mode, envelope=transfer.envelope, noise_to_signal=noise_to_signal
            )
            corrected = torch.fft.irfft2(spectrum * gain, s=padded)
            total[rows, columns] += weight[rows, columns] * corrected[rows, columns]
        out[t] = total + mean
    return out


def _step(pixel_size: float, optics: Optics, tolerance: float | None) -> float:
    """A between neighbouring heights."""
    if tolerance is None:
        nyquist = 0.5 / pixel_size
        return PHASE_STEP / (math.pi * optics.wavelength_angstrom * nyquist**2)
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise InputError(f"The defocus tolerance is {tolerance:g} A; expected a positive number such as 100.")
    return 2.0 * tolerance


def _padded(shape: tuple[int, int], pixel_size: float, fit: CtfFit, optics: Optics) -> tuple[int, int]:
    """Size with room for what the CTF carries over the edges."""
    furthest = max(abs(fit.defocus_u_angstrom), abs(fit.defocus_v_angstrom))
    reach = math.ceil(optics.wavelength_angstrom * (0.5 / pixel_size) * furthest / pixel_size)
    room = min(reach + 8, max(shape) // 2)
    return good_size(shape[0] + room), good_size(shape[1] + room)


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
