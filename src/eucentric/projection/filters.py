"""Ramp filter, its fall-off, and the weight of each view."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.fourier.filters import soft_edge
from eucentric.typing import FloatArray

Window = Literal["sharp", "hamming", "hann", "cosine", "gaussian"]
LineGain = Callable[[FloatArray, int], FloatArray]
"""(frequency across the tilt axis in cycles per voxel, tilt index) to a gain."""
_NODES = 512


def window_gain(fraction_of_nyquist: Float[Tensor, "*grid"], window: Window) -> Float[Tensor, "*grid"]:
    """Fall-off that goes on top of the ramp; zero from Nyquist on.

    ``sharp`` keeps everything and ends in a soft edge from 0.9 to 1 Nyquist; ``hamming`` falls to 0.08, ``hann`` and
    ``cosine`` to 0 and ``gaussian`` to exp(-2) = 0.14 at Nyquist.

    Raises
    ------
    InputError : a name that is none of these
    """
    r = fraction_of_nyquist
    match window:
        case "sharp":
            return soft_edge(r, 0.9, 1.0)
        case "hamming":
            gain = 0.54 + 0.46 * torch.cos(math.pi * r)
        case "hann":
            gain = 0.5 + 0.5 * torch.cos(math.pi * r)
        case "cosine":
            gain = torch.cos(0.5 * math.pi * r)
        case "gaussian":
            gain = torch.exp(-2.0 * r * r)
        case _:
            raise InputError(f"The filter `{window}` is unknown; expected sharp, hamming, hann, cosine or gaussian.")
    return torch.where(r <= 1.0, gain, torch.zeros_like(gain))


def ramp_filter(
    n: int, *, spacing: float = 1.0, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, " half_n"]:
    r"""Sampled ramp :math:`|k|` for the rfft of a line of `n` samples [1]_, in 1/unit of `spacing`.

    Made from the band-limited kernel in real space, 1/4, then :math:`-1/\pi^2 j^2` at odd distances j: this gives zero
    frequency its right small value and so leaves no bowl or pedestal, which a ramp set to zero there does. Lines must
    be padded to at least twice their length.

    References
    ----------
    .. [1] Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), section 3.3.3
    """
    j = torch.arange(n, dtype=torch.float64)
    j = torch.minimum(j, n - j)
    odd = j.remainder(2) == 1
    kernel = torch.where(odd, -1.0 / (math.pi * j.clamp(min=1.0)) ** 2, 0.0)
    kernel[0] = 0.25
    # kernel / spacing^2 is the response per unit, times spacing for the sum that stands for the integral
    gain: Tensor = torch.fft.rfft(kernel).real / spacing
    return gain.to(dtype=dtype, device=device)


def ramp_gain(frequency: FloatArray, tilt: int) -> FloatArray:  # noqa: ARG001 (the same for every tilt)
    """The ramp along lines across the tilt axis: the frequency itself, in cycles per voxel."""
    return np.asarray(np.abs(frequency), dtype=np.float64)


def ray_lengths(tilt_angles_deg: ArrayLike, thickness: float, width: float) -> FloatArray:
    """Length of the central ray inside a box of this thickness (z) and width (x), for tilts about y."""
    tilt = np.deg2rad(np.asarray(tilt_angles_deg, dtype=np.float64))
    tiny = 1e-12
    return np.asarray(
        np.minimum(thickness / np.maximum(np.abs(np.cos(tilt)), tiny), width / np.maximum(np.abs(np.sin(tilt)), tiny)),
        dtype=np.float64,
    )


def exact_gain(
    tilt_angles_deg: ArrayLike, thickness: float, width: float, *, weights: ArrayLike | None = None
) -> LineGain:
    r"""Weighting for the actual angles and the extent of the specimen.

    The transform of a view fills a slab of Fourier space whose thickness is one over the length l of the specimen along
    the beam; slabs overlap by :math:`o_{ij}(k) = \max(0, 1 - l_j k |\sin(\theta_i - \theta_j)|)` [1]_. A place that
    several slabs fill is shared among them, in the proportion of the ramp times the angle that a view stands for:

    .. math:: W_i(k) = w_i / \sum_j w_j l_j o_{ij}(k), \quad w_j = k \, \Delta\theta_j

    With equal w this is the formula of [1]_; the angles keep it right where their density changes within the reach of the
    overlap. Near zero the result is the ramp, for any spacing of the angles; past the frequency at which neighbours part
    it stays at ``1 / l`` where the ramp goes on rising.

    It takes the place of the ramp and of :func:`angular_weights` together. Directions that were not recorded count as if
    they had been, so that the views at the ends of the range do not stand for the missing wedge too.

    Parameters
    ----------
    tilt_angles_deg : (tilt,)
    thickness, width : of the specimen along z and x, in voxels
    weights : (tilt,), how much each view counts where views overlap; none means 1

    References
    ----------
    .. [1] Harauz & van Heel, Optik 73:146 (1986)
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    if not (thickness > 0 and width > 0):
        raise InputError(f"A specimen of {thickness:g} x {width:g} voxels was given; expected positive sizes.")
    factor = np.ones_like(angles) if weights is None else np.asarray(weights, dtype=np.float64)
    imagined = _angles_of_the_wedge(angles)
    everything = np.concatenate([angles, imagined])
    share = angular_weights(everything) * np.concatenate([factor, np.full(len(imagined), factor.mean())])
    length = ray_lengths(everything, thickness, width)
    sine = np.abs(np.sin(np.deg2rad(everything[:, None] - everything)))
    nodes = 0.5 * np.linspace(0.0, 1.0, _NODES) ** 2
    table = np.empty((len(angles), _NODES))
    for n, k in enumerate(nodes):
        overlap = np.clip(1.0 - length * sine * k, 0.0, None) * length
        ramp = (k + 1e-9) * share
        table[:, n] = (ramp / np.maximum(overlap @ ramp, 1e-300))[: len(angles)]

    def gain(frequency: FloatArray, tilt: int) -> FloatArray:
        return np.asarray(np.interp(np.abs(frequency), nodes, table[tilt]), dtype=np.float64)

    return gain


def _angles_of_the_wedge(angles: FloatArray) -> FloatArray:
    """Directions that were not recorded, about as far apart as views are."""
    distinct = np.unique(np.round(angles, 6))
    if len(distinct) < 2:
        return np.empty(0)
    missing, usual = 180.0 - (distinct[-1] - distinct[0]), float(np.median(np.diff(distinct)))
    if missing <= 1.5 * usual:
        return np.empty(0)
    return np.asarray(
        distinct[-1] + np.linspace(0.0, missing, max(2, round(missing / usual)) + 1)[1:-1], dtype=np.float64
    )


def _overlap(
    frequency: FloatArray, angle: float, others: FloatArray, height: FloatArray, length: FloatArray
) -> FloatArray:
    """Sum over views of `height` times the overlap of slabs ``1 / length`` thick, at frequencies along one of them."""
    total = np.zeros_like(frequency)
    sine = np.abs(np.sin(np.deg2rad(others - angle)))
    for j in range(len(others)):
        total += height[j] * np.clip(1.0 - length[j] * sine[j] * np.abs(frequency), 0.0, None)
    return np.maximum(total, 1e-12)


def sirt_like_gain(
    tilt_angles_deg: ArrayLike, iterations: int, thickness: float, width: float, *, projector: LineGain | None = None
) -> LineGain:
    r"""Weighting that gives in one back-projection what SIRT has after some iterations.

    SIRT, ``x += C A^T R (b - A x)`` with R one over the length of a ray inside the volume and C one over the number of
    views, starts from zero; after n steps its volume is ``C A^T sum_{m<n} (1 - R A C A^T)^m R b``. In the transform of a
    line :math:`A A^T` is multiplication by :math:`1 / W_i(k)`, W that of :func:`exact_gain` (1 / (k dtheta) for even
    angles: the blur of back-projection), so that the eigenvalue of a step is

    .. math:: \mu_i(k) = g(k)^2 / (M l_i W_i(k))

    with M views, l the length of a ray and g what the projector's own interpolation keeps. The sum over m leaves the
    weighting :math:`W_n = W_i (1 - (1 - \mu_i)^n) / g`: a ramp up to the frequency where n steps have converged, flat
    beyond.

    Parameters
    ----------
    iterations : n, at least 1
    thickness, width : of the volume along z and x, in voxels
    projector : g; none means 1
    """
    if iterations < 1:
        raise InputError(f"{iterations} iterations were asked for; expected at least 1.")
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    length = ray_lengths(angles, thickness, width)

    def gain(frequency: FloatArray, tilt: int) -> FloatArray:
        weight = 1.0 / _overlap(frequency, angles[tilt], angles, length, length)
        kept = np.ones_like(frequency) if projector is None else projector(frequency, tilt)
        step = np.clip(kept**2 / (len(angles) * length[tilt] * weight), 0.0, 1.9)
        return np.asarray(weight * (1.0 - (1.0 - step) ** iterations) / kept, dtype=np.float64)

    return gain


def cosine_weights(tilt_angles_deg: ArrayLike) -> FloatArray:
    """cos(tilt), mean 1: steep views go through more ice and count less."""
    cosine = np.abs(np.cos(np.deg2rad(np.asarray(tilt_angles_deg, dtype=np.float64))))
    return np.asarray(cosine / cosine.mean(), dtype=np.float64)


def angular_weights(tilt_angles_deg: ArrayLike) -> FloatArray:
    """Angle in radians that each view stands for: half the gap to either neighbour; one gap at the ends of the range.

    Views at the same angle share its weight. Views that span half a turn, such as -90 to 90 degrees, are periodic: -90
    and 90 are then one direction. One view alone weighs 1.
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    distinct, inverse, counts = np.unique(np.round(angles, 6), return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return np.full(angles.shape, 1.0 / len(angles))
    gaps = np.diff(distinct)
    closing = 180.0 - (distinct[-1] - distinct[0])
    if closing <= 1.5 * float(np.median(gaps)):
        closing = max(closing, 0.0)
        before = np.concatenate([[closing], gaps])
        after = np.concatenate([gaps, [closing]])
        if closing < 1e-6:
            # the two ends are the same direction and share one gap on either side
            before[0] = after[-1] = 0.0
        weights = 0.5 * (before + after)
    else:
        weights = 0.5 * (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]]))
    return np.asarray(np.deg2rad(weights / counts)[inverse], dtype=np.float64)


def filter_lines(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    window: Window = "sharp",
    weights: ArrayLike | None = None,
) -> Float[Tensor, "tilt y x"]:
    """Weight images for back-projection: ramp across the tilt axis, fall-off, and the angle that each view stands for.

    ``back_project(filter_lines(project(v, ...), ...), ...)`` has the amplitude of `v` in the sampled part of Fourier
    space.

    Parameters
    ----------
    images : (tilt, y, x) with the tilt axis on +y, mean subtracted, edges tapered
    tilt_angles_deg : (tilt,)
    window : fall-off, applied across the axis
    weights : (tilt,), instead of :func:`angular_weights`
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    factor = angular_weights(angles) if weights is None else np.asarray(weights, dtype=np.float64)
    if factor.shape != (images.shape[0],):
        raise InputError(
            f"{images.shape[0]} images and {factor.shape} weights were given; expected one weight for each image."
        )
    width = images.shape[-1]
    n = good_size(2 * width)
    gain = ramp_filter(n, dtype=images.dtype, device=images.device)
    gain = gain * window_gain(2.0 * torch.fft.rfftfreq(n, device=images.device, dtype=images.dtype), window)
    out = torch.empty_like(images)
    for t in range(images.shape[0]):
        out[t] = torch.fft.irfft(torch.fft.rfft(images[t], n=n) * (gain * factor[t]), n=n)[..., :width]
    return out
