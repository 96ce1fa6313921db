"""Results of motion correction."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.motion.motion_field import MotionField


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectorCorrection:
    """Frames after gain and defects."""

    frames: Float[Tensor, "frame y x"]
    defects: Bool[Tensor, "y x"]
    """Pixels that were replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedFrame:
    """A frame that is left out of the sums."""

    frame: int
    """Counted from 0."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEvidence:
    """What decided for or against local motion."""

    grid: tuple[int, int, int]
    """Intervals along x and y, and nodes in time, that were tried last."""
    speed_angstrom: float
    """A per e/A^2: standard deviation of the local speed that the data suggest."""
    log_evidence: float
    """Gain over the same motion everywhere, nats; occasional detail paid for."""
    held_out_gain: float
    """Gain of the log-likelihood of frames that took no part in the fit, nats."""
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionResult:
    """Motion of the frames of one movie."""

    shifts_angstrom: Float[Tensor, "frame 2"]
    """(x, y): where the content of each frame was displaced to; zero mean over the frames that were used."""
    sigma_angstrom: Float[Tensor, " frame"]
    """One standard deviation of each component, from the curvature of the likelihood and the prior."""
    frequency: Float[Tensor, " shell"]
    """1/A, of `frame_correlation`."""
    frame_correlation: Float[Tensor, " shell"]
    """Mean correlation between aligned single frames at each frequency."""
    covariance: Float[Tensor, "frame frame"] | None = None
    """A^2, of the shifts of pairs of frames, the mean of both axes."""
    free_shifts_angstrom: Float[Tensor, "frame 2"] | None = None
    """Where the likelihood alone would put the frames, as far as it is normal about the shifts: no prior has drawn on these."""
    free_covariance: Float[Tensor, "frame frame"] | None = None
    """A^2, of `free_shifts_angstrom`, the mean of both axes."""
    residual_angstrom: Float[Tensor, " frame"] | None = None
    """Distance of each frame from where it would fit the sum of the others best, no prior asked."""
    rejected: tuple[RejectedFrame, ...] = ()
    """Frames that are not to be summed; their shifts are those of their neighbours."""
    confidence: float = 1.0
    """Probability that there was motion to correct beyond the prior's mean. Without a prior of the series the shifts carry it
    as a factor, so that they vanish where nothing is known."""
    field: MotionField | None = None
    """What the place in the image adds to the shifts, where local motion was found."""
    local: LocalEvidence | None = None
    """Why there is a field or not, where it was looked for."""

    @property
    def used(self) -> Bool[Tensor, " frame"]:
        """Frames to be summed."""
        used = torch.ones(len(self.shifts_angstrom), dtype=torch.bool)
        for frame in self.rejected:
            used[frame.frame] = False
        return used
