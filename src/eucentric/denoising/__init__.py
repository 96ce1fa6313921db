"""Filters that make tomograms easier to look at: smoothing, edge-keeping, wavelet and CTF-aware ones."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "DenoiseParams": "params",
        "Noise": "estimate_noise",
        "bilateral_filter": "filter_bilateral",
        "choose_gaussian_sigma": "smooth_gaussian",
        "deconvolve_volume": "deconvolve_volume",
        "diffuse_volume": "diffuse_volume",
        "estimate_noise": "estimate_noise",
        "gaussian_filter": "smooth_gaussian",
        "median_filter": "filter_median",
        "nonlocal_means": "filter_nonlocal",
        "prepare_filter": "choose_filter",
        "shrink_wavelets": "shrink_wavelets",
    },
)
