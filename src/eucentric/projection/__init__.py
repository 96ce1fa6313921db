"""Projection and back-projection of tilt series: one operator, its exact adjoint, and the filters between them."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "resample_tilts": "resampling",
        "coverage_of_tilts": "resampling",
        "project": "operators",
        "back_project": "operators",
        "reference_project": "reference",
        "reference_back_project": "reference",
        "ramp_filter": "filters",
        "filter_lines": "filters",
        "angular_weights": "filters",
        "cosine_weights": "filters",
        "SharedSamples": "slice_weights",
        "extract_slices": "slices",
        "grid_to_volume": "slices",
        "insert_slices": "slices",
        "share_samples": "slice_weights",
        "volume_to_grid": "slices",
        "turned_mean": "symmetrise",
        "ramp_gain": "filters",
        "exact_gain": "filters",
        "sirt_like_gain": "filters",
        "ray_lengths": "filters",
        "prepare_lines": "lines",
        "PreparedLines": "lines",
        "back_project_lines": "lines",
        "window_gain": "filters",
        "LineLayout": "layout",
        "line_layout": "layout",
    },
)
