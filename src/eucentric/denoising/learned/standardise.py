"""Volumes brought to the scale that networks were trained at."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError

_SAMPLES = 2_000_000
_TO_SIGMA = 1.4826  # median deviation to standard deviation, of a normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Middle and spread of a volume, neither moved by gold or ice crystals."""

    middle: float
    spread: float

    def apply(self, volume: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """To middle 0 and spread 1."""
        return (volume - self.middle) / self.spread

    def undo(self, volume: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """Back to the volume's own numbers."""
        return volume * self.spread + self.middle


def measure_scale(volume: Float[Tensor, "*grid"]) -> Scale:
    """Median, and the median deviation from it as that of a normal distribution, of numbers spread evenly over the volume.

    Raises
    ------
    InputError : all voxels are alike, or no numbers
    """
    values = volume.reshape(-1)
    values = values[:: max(1, len(values) // _SAMPLES)].float()
    values = values[values.isfinite()]
    if not len(values):
        raise InputError("The volume holds not one number.")
    middle = values.median()
    spread = _TO_SIGMA * float((values - middle).abs().median())
    if spread <= 0:  # more than half of the voxels are alike, as around a masked volume
        spread = float(values.std())
    if not spread > 0:
        raise InputError("All voxels of the volume are alike: there is nothing to restore.")
    return Scale(middle=float(middle), spread=spread)
