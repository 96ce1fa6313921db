"""Settings of networks that restore tomograms."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

Task = Literal["denoise", "fill"]


class RestorerTraining(Frozen):
    """How a network is trained on half volumes."""

    steps: int = Field(
        default=1000,
        ge=1,
        description="batches at most; a start from the general model is done after some hundreds, from nothing after some thousands",
    )
    batch_size: int = Field(default=2, ge=1, le=64, description="patches in a batch")
    patch_size: int = Field(
        default=64,
        ge=16,
        le=256,
        multiple_of=8,
        description="voxels along each edge of what is learned from; less along an axis on which the tomogram is thinner",
    )
    learning_rate: float = Field(default=4e-4, gt=0, description="highest")
    held_out: float = Field(
        default=0.15, gt=0, lt=0.6, description="part of each tomogram, at the end of y, that judges the training"
    )
    checkpoint_steps: int = Field(
        default=50, ge=1, description="steps between judgements, and between what a stopped training goes on from"
    )
    patience: int = Field(
        default=6, ge=0, description="judgements without betterment after which the training ends; 0 takes all steps"
    )
    averaging: float = Field(
        default=0.98, ge=0, lt=1, description="weights are averaged over some 1 / (1 - this) last steps"
    )


class WedgeTraining(RestorerTraining):
    """How a network is trained to fill the missing wedge."""

    patch_size: int = Field(
        default=56,
        ge=16,
        le=256,
        multiple_of=8,
        description="voxels along each edge; tomograms are read in cubes 1.73 times as wide, so that any turn of it fits",
    )
    wedge_weight: float = Field(
        default=20.0,
        ge=0,
        description="of what the turned tomogram measured where the wedge was put again, over what it measured elsewhere; "
        "20 to 200 are usual, more fills more boldly",
    )
    steps: int = Field(default=400, ge=1, description="batches at most")


class RestorerUse(Frozen):
    """How a network is applied."""

    halo: int = Field(
        default=32, ge=0, le=128, description="voxels that tiles overlap by; fewer are faster and may leave seams"
    )
    mirrors: bool = Field(
        default=False,
        description="also restore mirror images and average: four times the time, a little better, and tells more of the uncertainty",
    )
    weigh_shells: bool = Field(
        default=True,
        description="where there is matter, weigh network and raw tomogram in every shell as the halves support (without halves, "
        "keep a third of the raw one there); else the network's output alone",
    )
