"""How good the motion correction of one movie is, in a few figures."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.motion.results import MotionResult

_PLACES = 9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionQuality:
    """Figures of one movie; lengths in A."""

    total_angstrom: float
    """Length of the way from frame to frame, as rlnAccumMotionTotal."""
    sigma_angstrom: float
    """One standard deviation of a component of a frame's shift, root mean square over the frames used."""
    residual_angstrom: Float[Tensor, " frame"]
    """Distance of each frame from where it fits the sum of the others best."""
    blur_angstrom: Float[Tensor, " frame"]
    """Standard deviation along its way of the motion within each frame: its speed times the frame over the root of 12."""
    local_angstrom: float
    """Root mean square over places and frames of what the place adds."""
    frame_correlation: Float[Tensor, " shell"]
    correlation_frequency: Float[Tensor, " shell"]
    """1/A."""
    suspicious: tuple[str, ...]
    """What is out of bounds, in words."""


def motion_quality(
    result: MotionResult,
    doses: Float[Tensor, " frame"],
    *,
    largest_sigma_angstrom: float = 2.0,
    largest_blur_angstrom: float = 5.0,
    largest_total_angstrom: float = 100.0,
) -> MotionQuality:
    """Figures of a movie, and what of them is out of bounds.

    Parameters
    ----------
    doses : e/A^2 of every frame
    largest_sigma_angstrom : shifts less sure than this are named
    largest_blur_angstrom : a frame smeared by more, as a standard deviation, is named
    largest_total_angstrom : a longer way is named
    """
    shifts = result.shifts_angstrom.double().cpu()
    if len(doses) != len(shifts):
        raise ShapeError(f"{len(doses)} doses were given for {len(shifts)} frames; expected one for each.")
    given = doses.double().cpu()
    steps = torch.linalg.vector_norm(shifts.diff(dim=0), dim=1)
    used = result.used
    sigma = float(result.sigma_angstrom.double().cpu()[used].square().mean().sqrt())
    blur = _blur(shifts, given)
    residual = result.residual_angstrom
    quality = MotionQuality(
        total_angstrom=float(steps.sum()),
        sigma_angstrom=sigma,
        residual_angstrom=torch.zeros(len(shifts), dtype=torch.float64)
        if residual is None
        else residual.double().cpu(),
        blur_angstrom=blur,
        local_angstrom=_local(result),
        frame_correlation=result.frame_correlation,
        correlation_frequency=result.frequency,
        suspicious=(),
    )
    found = [f"frame {r.frame + 1} was left out: {r.reason}" for r in result.rejected]
    if sigma > largest_sigma_angstrom:
        found.append(f"shifts are known to {sigma:.1f} A only")
    if result.confidence < 0.5 and len(shifts) > 1:
        found.append("no motion was found that the data support; the frames were summed as they are")
    if quality.total_angstrom > largest_total_angstrom:
        found.append(f"the specimen moved by {quality.total_angstrom:.0f} A")
    worst = int((blur * used).argmax())
    if float(blur[worst]) > largest_blur_angstrom:
        found.append(f"frame {worst + 1} is smeared by {float(blur[worst]):.1f} A")
    return MotionQuality(
        **{name: getattr(quality, name) for name in MotionQuality.__slots__ if name != "suspicious"},
        suspicious=tuple(found),
    )


def _blur(shifts: Tensor, doses: Tensor) -> Float[Tensor, " frame"]:
    if len(shifts) < 2:
        return torch.zeros(len(shifts), dtype=torch.float64)
    time = torch.cumsum(doses, 0) - 0.5 * doses
    speed = shifts.diff(dim=0) / time.diff()[:, None].clamp(min=1e-9)
    padded = torch.cat([speed[:1], speed, speed[-1:]])
    at = 0.5 * (padded[1:] + padded[:-1])
    blur: Tensor = torch.linalg.vector_norm(at, dim=1) * doses / math.sqrt(12.0)
    return blur


def _local(result: MotionResult) -> float:
    if result.field is None:
        return 0.0
    half_y, half_x = result.field.extent_angstrom
    y = torch.linspace(-half_y, half_y, _PLACES, dtype=torch.float64)
    x = torch.linspace(-half_x, half_x, _PLACES, dtype=torch.float64)
    parts = [result.field.at(f, y, x).square().sum(-1).mean() for f in result.used.nonzero().flatten().tolist()]
    return float(torch.stack(parts).mean().sqrt())
