"""Settings of segmentation by networks: how one is trained on labels, and how labels are made by it."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class SegmenterParams(Frozen):
    """How a network is trained on labels. What is not given is chosen from the labels and the tomograms, and told."""

    voxel_size_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A; tomograms are brought to it. Where not given, a third of the thinnest class, or as fine as the tomograms are",
    )
    levels: int | None = Field(
        default=None,
        ge=1,
        le=6,
        description="samplings of the network, each half as fine; where not given, as many as seeing across the largest class takes",
    )
    patch_size: int | None = Field(
        default=None,
        ge=16,
        description="voxels along each edge of a training patch; where not given, by levels, tomograms and memory",
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="patches in a batch; where not given 2, or 4 on a GPU, as memory allows"
    )
    width: int = Field(default=16, ge=2, description="channels of the network at full sampling")
    steps: int = Field(default=800, ge=1, description="batches at most")
    patience: int = Field(
        default=6,
        ge=0,
        description="checkpoints without betterment on what was held out, after which the training ends; 0 never",
    )
    checkpoint_steps: int = Field(
        default=50, ge=1, description="steps between checkpoints, which a stopped training goes on from"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="highest; where not given 0.002, or 0.0005 from a model to start from"
    )
    held_out: float = Field(
        default=0.2, gt=0, lt=0.8, description="share of the labels that are not trained on; they set the thresholds"
    )
    label_share: float = Field(
        default=0.8, ge=0, le=1, description="of the patches that lie on a label, classes in turn; others lie anywhere"
    )


class SegmenterUse(Frozen):
    """How labels are made from scores."""

    threshold: tuple[float, ...] = Field(
        default=(),
        description="score above which a voxel is of a class, 0 to 1: one for all classes or one for each. A score is the network's "
        "logit through a sigmoid, each class on its own; scores of 0.5 are not odds of one half. Where not given, the model's own: "
        "of the greatest Dice on labels held out of its training",
    )
    mirrors: Literal[1, 2, 4, 8] = Field(
        default=4,
        description="mean over so many copies: as it is, mirrored along x, y and z; 8 mirrors along several. 1 is four times as fast",
    )
    instances: bool = Field(
        default=False,
        description="number the connected pieces of each class in place of the classes, the largest first",
    )
    min_volume_angstrom3: float = Field(
        default=0.0, ge=0, description="A^3; connected pieces of a class that are smaller are left out"
    )
