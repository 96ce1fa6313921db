"""Subtomogram averaging: particles cut from tilt images, their averages, and what resolution these have."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AverageParams": "params",
        "ExtractParams": "params",
        "AverageResult": "results",
        "HalfMapCorrelation": "results",
        "SeriesImages": "particle_images",
        "ParticleImages": "particle_images",
        "prepare_series": "particle_images",
        "FourierSums": "fourier_sums",
        "assign_halves": "half_sets",
        "average_halves": "average_particles",
        "correlate_halves": "correlate_maps",
        "resolution_against_truth": "correlate_maps",
        "soft_mask": "soft_mask",
        "solve_average": "solve_average",
        "AlignParams": "align_params",
        "AlignReference": "align_reference",
        "FoundPoses": "align_results",
        "IterateParams": "iterate_params",
        "search_poses": "search_poses",
        "SharpenParams": "map_params",
        "LocalResolutionParams": "map_params",
        "DirectionParams": "map_params",
        "sharpen_map": "sharpening",
        "correlate_directions": "directional_fsc",
        "correlate_measured": "directional_fsc",
        "measure_sampling": "directional_fsc",
        "estimate_local_resolution": "local_resolution",
    },
)
