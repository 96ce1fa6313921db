"""Measurements in images that several stages share."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CorrelationPeak": "correlation",
        "correlation_peak": "correlation",
        "noise_power": "noise",
        "strong_features": "features",
    },
)
