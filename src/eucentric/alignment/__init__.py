"""Tilt-series alignment without markers; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AlignParams": "params",
        "AlignmentResult": "results",
        "CentreOfMassResult": "align_centre_of_mass",
        "align_centre_of_mass": "align_centre_of_mass",
        "align_tilt_series": "align_tilt_series",
        "find_dark_tilts": "find_dark_tilts",
        "coarse_shifts": "coarse",
        "neighbour_shifts": "coarse",
        "search_axis_coarsely": "coarse",
        "ProjectionMatcher": "projection_matching",
    },
)
