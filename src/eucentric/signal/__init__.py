"""Measurements in images that several stages share."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BeadDetections": "beads",
        "BeadProfile": "beads",
        "detect_beads": "beads",
        "measure_profile": "beads",
        "match_beads": "beads",
        "BeadSeries": "bead_series",
        "detect_beads_in_series": "bead_series",
        "CorrelationPeak": "correlation",
        "correlation_peak": "correlation",
        "TransmissionFit": "intensity",
        "fit_transmission": "intensity",
        "image_intensities": "intensity",
        "mean_free_path": "intensity",
        "noise_power": "noise",
        "strong_features": "features",
    },
)
