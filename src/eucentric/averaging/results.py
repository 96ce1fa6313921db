"""What averaging returns."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.geometry.helix import Helix
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalfMapCorrelation:
    """Agreement of two half maps by shell."""

    frequency: FloatArray
    """(shell,), 1/A, middle of each."""
    unmasked: FloatArray
    """(shell,), within the ball that fits the box."""
    masked: FloatArray
    randomised: FloatArray
    """(shell,), masked, with the phases beyond `randomised_from` made random: what the mask alone adds."""
    corrected: FloatArray
    """(shell,), (masked - randomised) / (1 - randomised) beyond `randomised_from`."""
    randomised_from: float
    """1/A; infinite where no shell was randomised."""
    resolution_angstrom: float
    """Where `corrected` first falls below 0.143; the finest shell's where it never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelixUsed:
    """The helix of an average, and how its rise and twist were found."""

    helix: Helix
    score: float = math.nan
    """Mean correlation of units of both halves before it was imposed, over that of each with itself; NaN where not refined."""
    sigma_rise_angstrom: float = math.nan
    """Half the difference of both halves."""
    sigma_twist_deg: float = math.nan
    deviations: float = math.nan
    """By which the score stands out among those of other twists."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AverageResult:
    """An average, protein bright, in contrast per A; the particle's centre at voxel ``n // 2``."""

    volume: Float[Tensor, "z y x"]
    """Both halves together, filtered by their agreement."""
    half1: Float[Tensor, "z y x"]
    """Unfiltered."""
    half2: Float[Tensor, "z y x"]
    mask: Float[Tensor, "z y x"]
    correlation: HalfMapCorrelation
    voxel_size_angstrom: float
    halves: Int[np.ndarray, " particle"]
    """1 or 2 for every particle; 0 where it did not count."""
    tilts_used: Int[np.ndarray, " particle"]
    """Images of each particle."""
    weights: Float[Tensor, "z y half_x"]
    """Squared transfer over noise, summed, on the samples of the map's rfftn: what is measured how well."""
    helix: HelixUsed | None = None
    """That was imposed."""
