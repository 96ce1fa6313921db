"""How strongly each image of a tilt series shows the specimen, beyond contrast transfer and damage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.models.tilt_series import Tilt
from eucentric.optics.transfer import b_factor_envelope
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltStrength:
    r"""Image t holds :math:`s_t \exp(-B_t k^2 / 4)` of the specimen's detail at k: signal scale and B factor of its tilt.

    Both are known against the other images only, as what all share is the specimen's: the mean of squared scales is 1, and the
    image with the smallest B has 0. Against white noise of one power an image weighs what it holds, as for damage [1]_ [2]_.

    References
    ----------
    .. [1] Tegunov et al., Nat. Methods 18:186 (2021), doi:10.1038/s41592-020-01054-7
    .. [2] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980
    """

    scale: FloatArray
    """(tilt,), 0 where an image shows nothing."""
    b_factor_angstrom2: FloatArray
    """(tilt,), not below 0."""

    @classmethod
    def of(cls, tilts: Sequence[Tilt]) -> Self | None:
        """Of the tilts of a series; None where all show it alike.

        Raises
        ------
        InputError : scales of 0 alone
        """
        scale = np.array([t.signal_scale for t in tilts], dtype=np.float64)
        fading = np.array([t.b_factor_angstrom2 for t in tilts], dtype=np.float64)
        if not len(tilts) or (np.ptp(scale) == 0.0 < scale[0] and np.ptp(fading) == 0.0):
            return None
        if not scale.any():
            raise InputError(
                "The signal scales of all tilts are 0, so that none would count. Give rlnCtfScalefactor above 0 to those that show "
                "the specimen."
            )
        # a sharpest image that shows nothing is no measure
        shown = scale > 0.0
        return cls(
            scale=scale / np.sqrt(np.mean(np.square(scale))),
            b_factor_angstrom2=np.maximum(fading - fading[shown].min(), 0.0),
        )

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, tilts: slice) -> Self:
        """Of some of the tilts, as measured against all."""
        return replace(self, scale=self.scale[tilts], b_factor_angstrom2=self.b_factor_angstrom2[tilts])

    def check_count(self, tilts: int) -> None:
        """Refuse tilts of another number.

        Raises
        ------
        ShapeError : not one scale and B factor for each
        """
        if len(self) != tilts:
            raise ShapeError(f"{tilts} tilts and the signal of {len(self)} were given; expected one each.")

    def fading(self, frequency: Float[Tensor, "*grid"], tilt: int) -> Float[Tensor, "*grid"]:
        """Part of the detail at frequencies (1/A) that the B factor of a tilt leaves, 0 to 1."""
        return b_factor_envelope(frequency.square(), float(self.b_factor_angstrom2[tilt]))

    def envelope(self, frequency: Float[Tensor, "*grid"], tilt: int) -> Float[Tensor, "*grid"]:
        """Amplitude of the detail at frequencies (1/A) in the image of a tilt."""
        return self.fading(frequency, tilt).mul_(float(self.scale[tilt]))
