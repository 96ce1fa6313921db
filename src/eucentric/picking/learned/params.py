"""Settings of learned picking."""

from typing import Self

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen


class PickerClass(Frozen):
    """One kind of particle that a picker knows."""

    name: str = Field(min_length=1, description="as in the column of classes of the labels")
    diameter_angstrom: float = Field(gt=0, description="A; of the particle")

    @property
    def radius_angstrom(self) -> float:
        """Half the diameter."""
        return 0.5 * self.diameter_angstrom


class PickerParams(Frozen):
    """How a picker is trained, beyond what every network needs. The patch and the network suit voxels of 8 to 16 A."""

    voxel_size_angstrom: float = Field(default=12.0, gt=0, description="A; tomograms are brought to it")
    width: int = Field(default=16, ge=2, description="channels of the network at full sampling")
    levels: int = Field(default=3, ge=1, le=5, description="samplings of the network")
    patch_size: int = Field(default=48, ge=16, description="voxels along each edge of a training patch")
    steps: int = Field(default=1200, ge=1, description="batches")
    batch_size: int = Field(default=2, ge=1, description="patches in a batch")
    learning_rate: float = Field(default=2e-3, gt=0, description="highest of the training")
    complete: bool = Field(
        default=False,
        description="every particle of the classes is labelled; else what looks like one counts less as background",
    )
    spot: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="standard deviation of a particle's spot over its radius: fits one half of it",
    )
    foreground_weight: float = Field(default=10.0, gt=0, description="of a voxel in a spot against one outside")
    label_share: float = Field(
        default=0.6, gt=0, le=1, description="of the patches, that hold a label; classes in turn. Others lie anywhere"
    )
    turned_copies: int = Field(
        default=4, ge=0, description="copies of every tomogram turned about z, beside quarter turns and flips"
    )
    held_out: float = Field(
        default=0.2, gt=0, lt=0.8, description="share of the labels that are not trained on but calibrate the scores"
    )
    checkpoint_steps: int = Field(default=100, ge=1, description="steps between what a stopped training goes on from")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        multiple = 2 ** (self.levels - 1)
        if self.patch_size % multiple:
            raise ValueError(f"patch_size must be a multiple of {multiple} with {self.levels} levels")
        return self


class PickerUse(Frozen):
    """How picks are chosen."""

    max_fdr: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="expected share of false picks; the training's own cut-off where not given",
    )
    min_probability: float | None = Field(
        default=None, ge=0, le=1, description="cut-off of the calibrated probability, in place of the training's own"
    )
    distance: float = Field(
        default=1.2, gt=0, description="least distance of two picks, in radii of the particle (their mean)"
    )
    flips: bool = Field(default=True, description="mean of four flips that keep hand and wedge: four times the work")

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if self.max_fdr is not None and self.min_probability is not None:
            raise ValueError("give either max_fdr or min_probability")
        return self
