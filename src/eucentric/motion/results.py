"""Results of motion correction."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectorCorrection:
    """Frames after gain and defects."""

    frames: Float[Tensor, "frame y x"]
    defects: Bool[Tensor, "y x"]
    """Pixels that were replaced."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionResult:
    """Motion of the frames of one movie."""

    shifts_angstrom: Float[Tensor, "frame 2"]
    """(x, y): where the content of each frame was displaced to; zero mean over frames."""
    sigma_angstrom: Float[Tensor, " frame"]
    """One standard deviation of each component, from the curvature of the likelihood."""
    frequency: Float[Tensor, " shell"]
    """1/A, of `frame_correlation`."""
    frame_correlation: Float[Tensor, " shell"]
    """Mean correlation between aligned single frames at each frequency."""
