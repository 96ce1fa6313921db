"""One FFT convention: real to complex, zero frequency at the corner, frequencies in 1/A."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "frequency_vectors": "grid",
        "frequency_grid": "grid",
        "fourier_crop": "crop",
        "fourier_pad": "crop",
        "rescaled_shape": "crop",
        "fourier_shift": "shift",
        "shift_phases": "shift",
        "band_pass": "filters",
        "soft_edge": "filters",
        "taper_edges": "filters",
        "shell_index": "shells",
        "radial_average": "shells",
        "fourier_shell_correlation": "shells",
        "critical_exposure": "exposure",
        "exposure_weights": "exposure",
    },
)
