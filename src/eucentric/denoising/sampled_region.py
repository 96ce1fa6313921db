r"""Where in Fourier space a tilt series measured a volume, and where the missing wedge is.

An image taken along the direction d (the third row of the tilt's matrix) measures the plane :math:`d \cdot k = 0`, as thick
as the inverse of the specimen. Between neighbouring tilts the region is closed: k lies between the planes of d and d' where
:math:`(d \cdot k)(d' \cdot k) \le 0`. Frequencies are in cycles per voxel, so that volumes of unequal sizes are right.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier import frequency_vectors
from eucentric.geometry import TiltGeometry
from eucentric.typing import FloatArray

_COPLANAR = 1e-4  # about 20 arcseconds out of one plane: then the outermost tilts bound the region
_SECTIONS = 96  # planes across the tilt axis whose power is summed
_SECTION_SIZE = 512  # columns of a plane at most
_BAND = (0.06, 0.35)  # cycles per voxel: below, planes are thick against angles; above, tomograms hold little
_LEAST_SAMPLES = 24  # voxels along z and x
_BIN_DEG = 0.5
_LEAST_RADIUS = 6.0  # samples along z, below which leakage blurs the edges by more than about 10 degrees
_NEAR_DEG = 20.0  # of an edge: the power beside it
_FLANK_DEG = 6.0  # of an edge that leakage blurs
_CONTRAST = 0.5  # of power outside over inside, beyond which there is no wedge to be seen


def sampled_region(
    shape: Sequence[int], tilts_deg: ArrayLike, *, device: torch.device | str = "cpu"
) -> Float[Tensor, "z y half_x"]:
    """The measured part of the transform of a volume whose tilts are about y.

    Parameters
    ----------
    shape : (z, y, x) voxels
    tilts_deg : (tilt,) any order; only the range from the lowest to the highest counts

    Returns
    -------
    on the samples of an ``rfftn`` of the volume: 1 where tilts measured, zero frequency among it, 0 in the missing wedge, with
    an edge that falls to 0 over one sample along z

    Raises
    ------
    InputError : no tilt, or angles that are no numbers
    ShapeError : no three sizes
    """
    return sampled_region_of(TiltGeometry.build(tilts_deg), shape, device=device)


def sampled_region_of(
    geometry: TiltGeometry,
    shape: Sequence[int],
    *,
    rotation: FloatArray | None = None,
    thickness: float | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "z y half_x"]:
    """:func:`sampled_region` of any geometry: pre-tilt and x-tilts included; the axis in the images plays no part.

    Parameters
    ----------
    shape : (z, y, x) voxels of the volume or of a cube cut from it
    rotation : (3, 3), of a cube that was turned: what was at the point p (x, y, z from the centre) is now at ``rotation @ p``
    thickness : voxels, of which the inverse is the thickness of a measured plane; the size along z where None

    Raises
    ------
    InputError : no tilt, angles that are no numbers, or a matrix that does not turn
    ShapeError : no three sizes
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ShapeError(f"The volume has the sizes {tuple(shape)}; expected three, z, y and x.")
    if not len(geometry) or not np.isfinite(geometry.matrices).all():
        raise InputError("The tilt angles are none, or not numbers. Give one angle in degrees for each image.")
    directions = geometry.matrices[np.argsort(geometry.y_tilt_deg), 2]
    if rotation is not None:
        turn = np.asarray(rotation, dtype=np.float64)
        if turn.shape != (3, 3) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-5):
            raise InputError(f"The rotation is {turn.tolist()}; expected a 3 x 3 rotation matrix.")
        directions = directions @ turn.T
    span = float(np.ptp(geometry.y_tilt_deg))
    if span >= 180.0:
        return torch.ones(shape[0], shape[1], shape[2] // 2 + 1, device=device)
    if np.linalg.svd(directions, compute_uv=False)[-1] < _COPLANAR * math.sqrt(len(directions)):
        directions = directions[[0, -1]]  # planes of all others lie between
    return _between(directions, shape, thickness or float(shape[0]), device)


def _between(
    directions: FloatArray, shape: Sequence[int], thickness: float, device: torch.device | str
) -> Float[Tensor, "z y half_x"]:
    """Samples between the planes of each pair of successive directions, and within the thickness of every plane."""
    kz, ky, kx = frequency_vectors(shape, 1.0, device=device)
    region = torch.zeros(shape[0], shape[1], shape[2] // 2 + 1, device=device)
    before: Tensor | None = None
    for direction in directions:
        distance = (float(direction[0]) * kx + float(direction[2]) * kz) + float(direction[1]) * ky
        # along z the plane's edge is one sample wide where the plane is as thick as the volume
        torch.maximum(region, (1.0 - distance.abs() * thickness).clamp_(min=0.0), out=region)
        if before is not None:
            region[(distance * before) <= 0.0] = 1.0
        before = distance
    for column in {0, shape[2] // 2} if shape[2] % 2 == 0 else {0}:
        # a real volume has one value for k and -k; at Nyquist +k and -k are one sample
        plane = region[:, :, column]
        opposite = plane.flip((0, 1)).roll((1, 1), (0, 1))
        region[:, :, column] = torch.maximum(plane, opposite)
    return region


def find_wedge(volume: Float[Tensor, "z y x"]) -> tuple[float, float]:
    """The lowest and highest tilt about y in degrees, from where the power of a tomogram ends.

    The power of planes across the tilt axis is summed over angles in Fourier space; the range is the one that parts the logarithm
    of the power best in two levels, and each end is moved to where power is half of that beside it.

    Parameters
    ----------
    volume : tomogram, or a half of one, not filtered by a method that fills the wedge; y along the tilt axis

    Raises
    ------
    ShapeError : no volume, or one too small to tell angles
    InputError : values that are no numbers, or a constant volume
    ProcessingError : no missing wedge is to be seen
    """
    if volume.ndim != 3 or min(volume.shape[0], volume.shape[2]) < _LEAST_SAMPLES:
        raise ShapeError(
            f"The volume has the sizes {tuple(volume.shape)}; expected z, y and x, at least {_LEAST_SAMPLES} voxels along z "
            "and x to tell the angles of a wedge. Give the tilt angles."
        )
    angles, power = _power_by_angle(volume)
    low, high = _two_levels(power)
    inside = torch.zeros(len(power), dtype=torch.bool)
    inside[low:high] = True
    contrast = float(power[~inside].mean() / power[inside].mean())
    if not contrast < _CONTRAST:
        raise ProcessingError(
            f"No missing wedge is to be seen: the weakest directions hold {100 * contrast:.0f}% of the power of the others. "
            "Give the tilt angles if there is one."
        )
    edges = [_half_power(angles, power, low, -1), _half_power(angles, power, high, 1)]
    return edges[0], edges[1]


def _power_by_angle(volume: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in degrees from -90 to 90 of the planes of tilts, and the mean power at each, (bin,)."""
    depth, rows, columns = volume.shape
    start = max(0, (columns - _SECTION_SIZE) // 2)
    picked = torch.linspace(0, rows - 1, min(rows, _SECTIONS)).round().long().to(volume.device)
    part = volume[:, picked, start : start + _SECTION_SIZE].float().transpose(0, 1)
    if not bool(torch.isfinite(part).all()):
        raise InputError(
            "The volume holds values that are not numbers. Replace them by the mean, or cut their part away."
        )
    part = part - part.mean((1, 2), keepdim=True)
    if not float(part.abs().max()) > 0:
        raise InputError("The volume is constant: all of its voxels have one value. There is no wedge to find.")
    window = torch.hann_window(depth, periodic=False, device=part.device)[:, None] * torch.hann_window(
        part.shape[2], periodic=False, device=part.device
    )
    total = torch.zeros(depth, part.shape[2] // 2 + 1, device=part.device)
    for section in part:
        total += torch.fft.rfftn(section * window).abs().square()
    kz, kx = frequency_vectors(window.shape, 1.0, device=part.device)
    # the plane of a tilt t holds kz = kx tan(t), as its direction is (-sin t, 0, cos t)
    angle = torch.rad2deg(torch.atan2(kz.expand(total.shape), kx.expand(total.shape)))
    radius = (kz**2 + kx**2).sqrt()
    least = max(_BAND[0], _LEAST_RADIUS / depth)
    kept = (radius > least) & (radius < _BAND[1])
    count = round(180.0 / _BIN_DEG)
    place = ((angle[kept] + 90.0) / _BIN_DEG).long().clamp(0, count - 1)
    # of equal weight at every radius: a tomogram's power falls steeply
    ring = (radius[kept] / _BAND[0] * 4).long()
    level = torch.zeros(int(ring.max()) + 1, device=part.device).index_add_(0, ring, total[kept])
    norm = torch.zeros_like(level).index_add_(0, ring, torch.ones_like(total[kept]))
    value = total[kept] / (level / norm.clamp(min=1.0))[ring].clamp(min=1e-30)
    summed = torch.zeros(count, dtype=torch.float64, device=part.device).index_add_(0, place, value.double())
    number = torch.zeros_like(summed).index_add_(0, place, torch.ones_like(value).double())
    # neighbours fill empty bins of small volumes
    kernel = torch.ones(1, 1, 3, dtype=torch.float64, device=part.device)
    summed, number = (torch.nn.functional.conv1d(_around(s, 1)[None, None], kernel)[0, 0] for s in (summed, number))
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * _BIN_DEG - 90.0
    return angles, (summed / number.clamp(min=1.0)).cpu()


def _around(values: Tensor, by: int) -> Tensor:
    """A line that goes on at its other end: -90 and 90 degrees are one direction."""
    return torch.cat([values[-by:], values, values[:by]])


def _two_levels(power: Tensor) -> tuple[int, int]:
    """First and one past the last bin of the range, around 0 degrees, that parts the logarithm best in two levels."""
    line = power.clamp(min=float(power.max()) * 1e-9).log()
    count = len(line)
    total = torch.cat([line.new_zeros(1), line.cumsum(0)])
    middle = count // 2
    low = torch.arange(1, middle)[:, None]
    high = torch.arange(middle + 1, count)[None, :]
    size = (high - low).double()
    inner = total[high] - total[low]
    outer = total[-1] - inner
    # between-class sum of squares, with power inside
    gain = inner**2 / size + outer**2 / (count - size)
    gain = torch.where(inner / size > outer / (count - size), gain, -math.inf)
    best = int(gain.argmax())
    return 1 + best // gain.shape[1], middle + 1 + best % gain.shape[1]


def _half_power(angles: Tensor, power: Tensor, edge: int, outward: int) -> float:
    """Degrees where power, going outward, falls to the middle between the levels on both sides of an edge."""
    count = len(power)
    near, flank = round(_NEAR_DEG / _BIN_DEG), round(_FLANK_DEG / _BIN_DEG)
    offsets = torch.arange(-near, near)
    line = power[(edge + outward * offsets) % count]
    inside = line[: near - flank].median()
    outside = line[near + flank :].median()
    level = 0.5 * float(inside + outside)
    below = (line < level).float()
    # where a step fits best, then between the two bins that it parts: single streaks of a tilt do not count
    wrong = below.cumsum(0) + (1.0 - below).flip(0).cumsum(0).flip(0)
    at = min(max(int(wrong[:-1].argmin()), 0), len(line) - 2)
    above, under = float(line[at]), float(line[at + 1])
    step = min(max((above - level) / (above - under), 0.0), 1.0) if above > under else 0.5
    return float(angles[0]) + (edge + outward * (int(offsets[at]) + step)) * _BIN_DEG
