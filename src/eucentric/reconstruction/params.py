"""Settings of the reconstruction."""

from typing import Literal

from pydantic import Field, field_validator

from eucentric.models.settings import Frozen

Purpose = Literal["view", "picking", "averaging", "segmentation"]
PRESETS: dict[Purpose, dict[str, object]] = {
    "view": {"method": "ctf"},
    "picking": {"method": "ctf", "extent": "wide"},
    "averaging": {"method": "wbp", "ctf_correction": "flip", "extent": "wide"},
    "segmentation": {"method": "sirt-like", "ctf_correction": "flip"},
}
"""What each purpose stands for, in settings."""
_WEIGHTED, _SOLVED = ("wbp", "sirt-like"), ("sirt", "cgls", "tv")
METHODS_OF: dict[str, tuple[str, ...]] = {
    "ctf_correction": (*_WEIGHTED, *_SOLVED, "fourier"),
    "ctf_by_height": (*_WEIGHTED, *_SOLVED, "ctf"),
    "ctf_by_depth": _WEIGHTED,
    "iterations": (*_SOLVED, "ctf"),
    "least_change": (*_SOLVED, "ctf"),
    "subsets": ("sirt",),
    "relaxation": ("sirt",),
    "regularisation": ("cgls",),
    "tv_strength": ("tv",),
    "constraint": ("sirt", "tv"),
    "filter": ("wbp",),
    "sirt_like_iterations": ("sirt-like",),
    "cosine_weights": _WEIGHTED,
    "supersampling": _WEIGHTED,
    "fall_off": _WEIGHTED,
    "low_pass_angstrom": _WEIGHTED,
}
"""Settings that count for some methods only, and for which."""


class ReconstructParams(Frozen):
    """Everything a user may set, with unit, default and reason."""

    purpose: Purpose | None = Field(
        default=None,
        description="what the volume is for; sets what is `auto`: view and picking take the method ctf, averaging wbp and "
        "segmentation sirt-like, both with the phases flipped; picking and averaging make the volume wide",
    )
    method: Literal["auto", "wbp", "sirt-like", "sirt", "cgls", "tv", "fourier", "ctf"] = Field(
        default="auto",
        description="wbp: weighted back-projection; sirt-like: the same with the weights of SIRT, smooth; sirt, cgls, "
        "tv: iterative, slower, for few or noisy tilts and hard edges; fourier: sections into Fourier space, box by box; "
        "ctf: undoes contrast transfer at every height, the most detail; auto: ctf where the CTF is known and the images "
        "have halves, else wbp",
    )
    ctf_correction: Literal["auto", "none", "flip", "wiener", "multiply"] = Field(
        default="auto",
        description="of the images, for all methods but ctf: flip corrects the signs, wiener the strengths too, multiply "
        "suits averaging programs that divide by CTF squared; auto: as the purpose asks, else none",
    )
    ctf_by_height: bool = Field(
        default=True, description="follow the defocus across tilted images; off corrects each image as a whole"
    )
    ctf_by_depth: bool = Field(
        default=False,
        description="correct for every depth of the specimen (3D-CTF), with wbp and sirt-like; ctf does it where the detail needs it",
    )
    iterations: int | None = Field(
        default=None,
        ge=1,
        description="of sirt, cgls, tv and ctf; none takes 20, 12, 60 and 5: more sharpen noise; of scanning images, which "
        "hold little, 100 of sirt",
    )
    least_change: float = Field(
        default=0.002, ge=0, lt=1, description="stop once an iteration lowers the residual by less than this part of it"
    )
    subsets: int = Field(
        default=1,
        ge=1,
        description="groups of tilts after each of which sirt corrects the volume: faster, noisier (SART)",
    )
    relaxation: float = Field(default=1.0, gt=0, lt=2, description="part of each correction that sirt makes")
    regularisation: float | None = Field(
        default=None,
        ge=0,
        description="of cgls, as a part of the largest eigenvalue: 0.001 to 0.1 smooth, 0 is off; none takes 0.02, one over "
        "tilts times signal over noise of a usual series, and of scanning images 0.001",
    )
    tv_strength: float = Field(
        default=0.01, gt=0, description="of tv: 0.001 keeps texture, 0.1 leaves flat patches with sharp edges"
    )
    constraint: Literal["none", "bright", "dark"] = Field(
        default="none",
        description="density of sirt and tv on one side of the background only: bright for scanning images, dark as recorded",
    )
    pixel_size_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A per voxel; none takes the whole multiple of the image pixel nearest to 10 A: enough to see and "
        "pick macromolecules, in a volume of about 1 GB",
    )
    thickness_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A, height of the volume; none takes the known thickness of the specimen, else 3000 A: most "
        "lamellae and plunge-frozen films fit with room to spare; scanning images: as deep as they are wide",
    )
    extent: Literal["auto", "field", "wide"] = Field(
        default="auto",
        description="across the tilt axis: field is what the untilted image shows, wide also what half of the tilts show "
        "beside it, where particles are seen well enough; auto: wide for picking and averaging, else field",
    )
    auto_level: bool = Field(
        default=False,
        description="find the specimen's plane and lay it flat into the middle of a volume of its thickness, which later "
        "steps then share; nothing changes where no plane stands out",
    )
    max_tilt_deg: float = Field(
        default=90.0,
        gt=0,
        le=90,
        description="degrees; images tilted further are left out of the volume: to see what the steepest bring or spoil",
    )
    filter: Literal["ramp", "exact", "none"] = Field(
        default="ramp",
        description="weighting of the images: the ramp restores the density; exact does so for the very angles and the "
        "thickness of the volume, better where angles are uneven or few; none smears the images back as they are (the "
        "mean of all), blurred, to compare with other programs",
    )
    sirt_like_iterations: int = Field(
        default=0,
        ge=0,
        description="iterations of SIRT whose weights the method sirt-like gives in one pass, in place of the filter: 10 "
        "to 30 are usual, few are smooth; 0 takes 15",
    )
    cosine_weights: bool = Field(
        default=False,
        description="weigh images by the cosine of their tilt, as some programs do: steep ones show a thicker, darker specimen",
    )
    supersampling: Literal[1, 2, 4] = Field(
        default=2,
        description="fineness of the lines that voxels read: 2 leaves aliases of 1% of the finest detail, 1 "
        "of 5% and 4 of 0.2%; each doubling costs a tenth of the time",
    )
    fall_off: Literal["sharp", "hamming", "hann", "cosine", "gaussian"] = Field(
        default="sharp",
        description="fall-off on top of the filter, in the image plane up to Nyquist; sharp keeps what was recorded for "
        "denoising and picking, hamming looks smoother",
    )
    low_pass_angstrom: float = Field(
        default=0.0, ge=0, description="A; removes finer detail with a soft edge; 0 keeps all that the voxels can hold"
    )
    dose_weighting: bool = Field(
        default=True,
        description="fade the detail that radiation had destroyed when each image was taken: there late tilts hold "
        "only noise; and count images by the signal scale and B factor that `refine` measured, where it did",
    )
    half_volumes: bool = Field(
        default=True, description="also reconstruct two halves of the data: denoising and resolution need them"
    )
    halves: Literal["frames", "tilts"] = Field(
        default="frames",
        description="what the halves are: even and odd frames, which show the same; or, for images without frames, every "
        "other tilt, which sample different sections",
    )
    erase_beads: bool = Field(
        default=False,
        description="find gold beads and fill them with background and noise before reconstruction: removes their streaks",
    )
    bead_diameter_angstrom: float | None = Field(
        default=None, gt=0, description="A, of gold beads; none searches from 40 to 300 A"
    )
    more_pixel_sizes_angstrom: tuple[float, ...] = Field(
        default=(), description="A per voxel; further volumes, named by their pixel size, such as TS_01_20.00A.mrc"
    )
    volume_type: Literal["float16", "float32", "int8"] = Field(
        default="float16",
        description="of stored voxels: float16 (MRC mode 12) halves the disk, rounding far below the noise; int8 quarters "
        "it for programs that read nothing else, values far from the mean cut",
    )
    int8_deviations: float = Field(
        default=4.0, gt=0, description="standard deviations from the mean that int8 reaches; beyond, values are cut"
    )
    zarr: bool = Field(
        default=False, description="also write OME-Zarr with all magnifications, for viewers that load what they show"
    )
    pictures: bool = Field(
        default=False, description="also write central slices and projections along x, y and z as PNG"
    )

    @field_validator("more_pixel_sizes_angstrom")
    @classmethod
    def _positive(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if not all(size > 0 for size in sizes):
            raise ValueError("pixel sizes must be greater than 0")
        return sizes

    def resolved(self, *, has_ctf: bool, has_halves: bool) -> "ReconstructParams":
        """The settings with the purpose and `auto` spelt out; what was set goes before the purpose."""
        preset = PRESETS[self.purpose] if self.purpose else {}
        changes: dict[str, object] = {}
        if self.method == "auto":
            method = preset.get("method", "ctf" if has_halves else "wbp")
            changes["method"] = "wbp" if method == "ctf" and not has_ctf else method
        if self.ctf_correction == "auto":
            correction = preset.get("ctf_correction", "none") if has_ctf else "none"
            # the Fourier inversion divides by the CTF or leaves it alone
            by_fourier = changes.get("method", self.method) == "fourier" and correction != "none"
            changes["ctf_correction"] = "wiener" if by_fourier else correction
        if self.extent == "auto":
            changes["extent"] = preset.get("extent", "field")
        return self.model_copy(update=changes)

    def idle(self, method: str) -> dict[str, str]:
        """Settings that were changed from their default and do nothing, with the reason in words."""
        why = {name: f"with the method {method}" for name, methods in METHODS_OF.items() if method not in methods}
        if not self.erase_beads:
            why["bead_diameter_angstrom"] = "unless beads are erased"
        if self.volume_type != "int8":
            why["int8_deviations"] = "for volumes that are not int8"
        if not self.half_volumes:
            why["halves"] = "where no halves are made"
        return {n: w for n, w in why.items() if getattr(self, n) != type(self).model_fields[n].default}
