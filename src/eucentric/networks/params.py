"""Settings of networks and of their training."""

from pydantic import Field

from eucentric.models.settings import Frozen


class UNetParams(Frozen):
    """The shape of a U-Net. It is kept in every model file."""

    in_channels: int = Field(default=1, ge=1, description="volumes that go in")
    out_channels: int = Field(default=1, ge=1, description="volumes that come out")
    width: int = Field(default=16, ge=2, description="channels at full sampling; twice as many at each coarser level")
    levels: int = Field(default=3, ge=1, le=6, description="samplings, each half as fine as the one before")
    normalise: bool = Field(
        default=True,
        description="batch normalisation; without it, strengths pass through as they are, as restoring a volume needs",
    )

    @property
    def multiple(self) -> int:
        """Sizes of volumes must be a multiple of this."""
        return 1 << (self.levels - 1)

    @property
    def reach(self) -> int:
        """Voxels away from which nothing reaches the result of a voxel."""
        # two convolutions down and two up at each level, two at the coarsest; steps between levels stay in their cell
        coarsest = self.multiple
        return 4 * (coarsest - 1) + 2 * coarsest + 2 * (coarsest - 1)


class TrainingParams(Frozen):
    """How a network is trained."""

    steps: int = Field(default=1200, ge=1, description="batches")
    batch_size: int = Field(default=2, ge=1, description="patches in a batch")
    learning_rate: float = Field(default=2e-3, gt=0, description="highest; rises over the first tenth, then falls to 0")
    weight_decay: float = Field(default=1e-2, ge=0, description="of AdamW")
    averaging: float = Field(
        default=0.99, ge=0, lt=1, description="weights are averaged over some 1 / (1 - this) last steps"
    )
    checkpoint_steps: int = Field(default=100, ge=1, description="steps between what a stopped training goes on from")
    patience: int = Field(
        default=0,
        ge=0,
        description="where a training is judged on what was held out: checkpoints without betterment after which it ends; 0 never",
    )


class AugmentParams(Frozen):
    """How training patches are varied. Ranges are those between tomograms of one microscope, drawn evenly for each patch."""

    wedge_chance: float = Field(default=0.3, ge=0, le=1, description="part of the patches that lose high tilts")
    wedge_deg: tuple[float, float] = Field(default=(45.0, 60.0), description="degrees; highest tilt that is kept")
    b_factor: tuple[float, float] = Field(
        default=(-600.0, 2500.0), description="A^2; blur or sharpening; 2500 leaves a fifth of the amplitude at 20 A"
    )
    ripple: float = Field(default=0.4, ge=0, lt=1, description="depth of the ripple that another defocus leaves")
    defocus_angstrom: tuple[float, float] = Field(default=(15000.0, 60000.0), description="A; of the ripple")
    noise: float = Field(default=0.4, ge=0, description="rms of added noise at most, over that of the patch")
    contrast: float = Field(default=0.2, ge=0, description="rms of the logarithm of the contrast")
    offset: float = Field(default=0.1, ge=0, description="rms of a constant, over the rms of the patch")
    ball_chance: float = Field(default=0.15, ge=0, le=1, description="part of the patches that get gold or dirt")
