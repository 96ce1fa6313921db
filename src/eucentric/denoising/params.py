"""Settings of denoising, by filters or a network."""

from typing import Literal

from pydantic import Field, field_validator

from eucentric.denoising.learned.params import RestorerUse

Method = Literal["network", "gaussian", "median", "bilateral", "nad", "nlm", "wavelet", "deconvolve"]
Transfer = Literal["auto", "uncorrected", "flipped", "multiplied", "corrected"]


class DenoiseParams(RestorerUse):
    """Everything a user may set, with unit, default and reason."""

    method: Method = Field(
        default="network",
        description="network: what a network expects without the noise; gaussian: smooths all alike; median: drops lone extreme "
        "voxels; bilateral: smooths between voxels of like value; "
        "nad: diffusion along edges and threads, for membranes and filaments; nlm: averages patches that look alike; "
        "wavelet: takes from every scale what its noise explains; deconvolve: fills in the contrast that defocus took",
    )
    model: str = Field(
        default="shipped",
        description="of network: a file that `eucentric denoise train` made; shipped: the general one that comes with the program",
    )
    with_run: bool = Field(
        default=False,
        exclude=True,  # decides when, not what: results do not depend on it
        description="also in `eucentric run`; off: only where `eucentric denoise` asks for it, since no other stage reads "
        "the result",
    )
    strength: float = Field(
        default=1.0,
        gt=0,
        description="of bilateral, nad, nlm and wavelet: times the noise that was measured; below 1 keeps more detail and noise",
    )
    sigma_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A, of gaussian: 1 sd of the smoothing; none takes the one with the least expected error by the halves, "
        "without halves that which halves detail of 30 A, about where noise outweighs the signal of one tomogram",
    )
    median_size: int = Field(
        default=3,
        ge=3,
        le=7,
        description="voxels, odd: edge of the cube whose median is taken; larger cubes eat detail",
    )
    median_passes: int = Field(default=2, ge=1, le=10, description="how often; more passes smooth without larger cubes")
    bilateral_sigma: float = Field(
        default=1.5, gt=0, le=4, description="voxels: 1 sd of the distance over which values are averaged"
    )
    iterations: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="of nad: steps of 0.1; 20 smooth along edges like a Gaussian of 2 voxels, as published for tomograms",
    )
    search_radius: int = Field(
        default=3, ge=1, le=8, description="voxels, of nlm: how far like patches are sought; time grows with its cube"
    )
    patch_radius: int = Field(
        default=1,
        ge=1,
        le=4,
        description="voxels, of nlm: 1 compares cubes of 3; larger ones tell better what is alike",
    )
    scales: int = Field(
        default=4, ge=1, le=6, description="of wavelet: the coarsest detail that is touched is about 2^scales voxels"
    )
    deconvolution_strength: float = Field(
        default=1.0, ge=0, le=3, description="signal over noise near zero frequency is 10^(3 x strength), as in Warp"
    )
    deconvolution_falloff: float = Field(
        default=1.0, ge=0, le=5, description="how fast it falls with frequency, as in Warp; higher ones smooth more"
    )
    high_pass_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A, of deconvolve: coarser shading is weakened; none takes 100 voxels, as in Warp",
    )
    defocus_angstrom: float | None = Field(
        default=None,
        description="A, of deconvolve, underfocus positive; none takes the median of the tilts to 20 degrees in the project",
    )
    phase_shift_deg: float | None = Field(
        default=None, description="degrees, of deconvolve, of a phase plate; none takes that of the project, else 0"
    )
    transfer: Transfer = Field(
        default="auto",
        description="of deconvolve, what was done about contrast transfer: uncorrected; flipped: signs; multiplied: by the CTF; "
        "corrected: undone, only the noise filter is left; auto: as the reconstruction was recorded, else uncorrected",
    )

    @field_validator("median_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("expected an odd number of voxels such as 3")
        return value
