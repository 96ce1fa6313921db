"""Figures: arrays in, a matplotlib `Figure` out. No files and no pyplot, so any thread and any backend will do."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "axis_search": "alignment",
        "central_slices": "volume",
        "correlation_curve": "curves",
        "defocus_against_tilt": "ctf",
        "defocus_and_astigmatism": "ctf",
        "equiphase_average": "ctf",
        "half_spectra": "ctf",
        "joined_halves": "ctf",
        "local_defocus_map": "ctf",
        "fourier_coverage": "volume",
        "frame_correlations": "motion",
        "frame_trajectories": "motion",
        "intensities": "alignment",
        "scores_against_tilt": "alignment",
        "shifts_against_tilt": "alignment",
        "spectra_with_models": "ctf",
        "counts_over_tilts": "motion",
        "local_motion": "motion",
        "motion_certainty": "motion",
        "power_gained": "motion",
        "total_motion": "motion",
        "wedge_spectrum": "volume",
        "deformation_fields": "alignment",
        "excluded_views": "alignment",
        "models_tried": "alignment",
        "residual_vectors": "alignment",
        "residuals_against_tilt": "alignment",
        "residuals_by_point": "alignment",
        "tracks_over_image": "alignment",
        "stack_movie": "movie",
    },
)
