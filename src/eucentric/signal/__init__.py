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
        "noise_power": "noise",
        "strong_features": "features",
    },
)
