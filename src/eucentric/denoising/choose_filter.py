"""From settings and a measured noise to a filter that can be applied."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from eucentric.denoising.deconvolve_volume import deconvolve_volume
from eucentric.denoising.diffuse_volume import diffuse_volume
from eucentric.denoising.estimate_noise import Noise
from eucentric.denoising.filter_bilateral import bilateral_filter, bilateral_halo, guide_of
from eucentric.denoising.filter_median import median_filter
from eucentric.denoising.filter_nonlocal import nonlocal_means, patch_noise
from eucentric.denoising.params import DenoiseParams, Method
from eucentric.denoising.shrink_wavelets import detail_limits, shrink_wavelets, wavelet_halo
from eucentric.denoising.smooth_gaussian import choose_gaussian_sigma, fallback_sigma, gaussian_filter
from eucentric.errors import InputError
from eucentric.models.optics import Optics

WHOLE: tuple[Method, ...] = ("gaussian", "nad", "deconvolve")
"""Methods that need the whole volume in memory."""
NEEDS_NOISE: tuple[Method, ...] = ("bilateral", "nad", "nlm", "wavelet")
_VALUES = 2.0  # spreads of smoothed noise: two places of one density differ by less in 84% of pairs
_PATCHES = 2.0  # spreads of patch differences of noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter with its strength fixed."""

    kernel: Callable[[Tensor], Tensor] | None = None
    """A block with `halo` voxels more on every side in, without them out."""
    halo: int = 0
    whole: Callable[[Tensor], Tensor] | None = None
    """Of filters that need all of the volume."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was chosen, the unit in the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """Contrast transfer of a volume."""

    optics: Optics
    defocus_angstrom: float
    phase_shift_deg: float
    transfer: str


def prepare_filter(
    params: DenoiseParams,
    voxel_size: float,
    noise: Noise | None,
    contrast: Transferred | None = None,
    on_step: Callable[[float], None] | None = None,
) -> Filter:
    """The filter of some settings.

    Parameters
    ----------
    voxel_size : A
    noise : needed by bilateral, nad, nlm, wavelet; chooses the sigma of gaussian where it is from halves
    contrast : needed by deconvolve
    on_step : told the part that is done, of iterative filters

    Raises
    ------
    InputError : something needed is not given
    """
    if params.method == "network":
        raise InputError("A network is no filter. It is applied by `eucentric denoise --method network`.")
    if params.method in NEEDS_NOISE and noise is None:
        raise InputError(f"The method {params.method} needs to know the noise.")
    if params.method == "gaussian":
        return _gaussian(params, voxel_size, noise)
    if params.method == "deconvolve":
        return _deconvolution(params, voxel_size, contrast)
    if params.method == "median":
        size, passes = params.median_size, params.median_passes
        return Filter(kernel=lambda block: _repeated_median(block, size, passes), halo=passes * (size // 2))
    assert noise is not None
    return _by_noise(params, noise, on_step)


def _repeated_median(block: Tensor, size: int, passes: int) -> Tensor:
    for _ in range(passes):
        block = median_filter(block, size)
    return block


def _gaussian(params: DenoiseParams, voxel_size: float, noise: Noise | None) -> Filter:
    sigma = params.sigma_angstrom
    if sigma is None and noise is not None and noise.from_halves:
        sigma = choose_gaussian_sigma(noise.block, noise.sample, voxel_size)
    chosen = fallback_sigma() if sigma is None else sigma
    return Filter(whole=lambda volume: gaussian_filter(volume, chosen, voxel_size), figures={"sigma_angstrom": chosen})


def _deconvolution(params: DenoiseParams, voxel_size: float, contrast: Transferred | None) -> Filter:
    if contrast is None:
        raise InputError("Deconvolution needs the defocus. Give it with --defocus-angstrom.")

    def whole(volume: Tensor) -> Tensor:
        return deconvolve_volume(
            volume,
            voxel_size,
            contrast.optics,
            contrast.defocus_angstrom,
            phase_shift_deg=contrast.phase_shift_deg,
            transfer=contrast.transfer,  # type: ignore[arg-type]  # one of Transfer
            strength=params.deconvolution_strength,
            falloff=params.deconvolution_falloff,
            high_pass_angstrom=params.high_pass_angstrom,
        )

    return Filter(whole=whole, figures={"defocus_angstrom": contrast.defocus_angstrom})


def _by_noise(params: DenoiseParams, noise: Noise, on_step: Callable[[float], None] | None) -> Filter:
    if params.method == "nad":
        return Filter(
            whole=lambda volume: diffuse_volume(
                volume, noise.sample, iterations=params.iterations, strength=params.strength, on_step=on_step
            )
        )
    if params.method == "bilateral":
        spread = params.strength * _VALUES * float(guide_of(noise.sample).double().std())
        sigma = params.bilateral_sigma
        return Filter(
            kernel=lambda block: bilateral_filter(block, sigma, spread),
            halo=bilateral_halo(sigma),
            figures={"value_sigma": spread},
        )
    if params.method == "nlm":
        decay = (params.strength * _PATCHES * patch_noise(noise.sample, params.patch_radius)) ** 0.5
        search, patch = params.search_radius, params.patch_radius
        return Filter(
            kernel=lambda block: nonlocal_means(block, noise.sigma, decay, search_radius=search, patch_radius=patch),
            halo=search + patch,
            figures={"decay": decay},
        )
    limits = [params.strength * s for s in detail_limits(noise.sample, params.scales)]
    return Filter(
        kernel=lambda block: shrink_wavelets(block, limits),
        halo=wavelet_halo(params.scales),
        figures={f"noise_of_scale_{n + 1}": s for n, s in enumerate(limits)},
    )


def filter_bytes(method: Method, voxels: int) -> int:
    """Memory that a filter needs at most beside the volume it reads."""
    if method in ("gaussian", "deconvolve"):
        return 28 * voxels  # padded copy, transform, frequencies, gain
    return (12 if method == "nad" else 4) * voxels + 2**29
