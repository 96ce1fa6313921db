"""Settings of what restores tomograms by networks or constraints."""

from typing import Literal

from pydantic import Field

from eucentric.denoising.constrained.params import ConstrainedParams
from eucentric.denoising.learned.params import RestorerUse


class FillWedgeParams(RestorerUse, ConstrainedParams):
    """Everything a user may set, with unit, default and reason."""

    method: Literal["network", "constrained"] = Field(
        default="network",
        description="network: what a trained network expects there; constrained: the smoothest volume of one contrast that agrees "
        "with the data, without anything learned",
    )
    model: str = Field(
        default="shipped",
        description="of network: a file that `eucentric fill-wedge train` made; shipped: the general one that comes with the program",
    )
    hard_data: bool = Field(
        default=False,
        description="keep the measured part of Fourier space as it is, noise included, and take only the wedge from the method; "
        "else it is denoised, too",
    )
    with_run: bool = Field(
        default=False,
        exclude=True,  # decides when, not what: results do not depend on it
        description="also in `eucentric run`; off: only where `eucentric fill-wedge` asks for it, since no other stage reads "
        "the result",
    )
