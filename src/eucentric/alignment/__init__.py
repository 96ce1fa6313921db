"""Tilt-series alignment; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AlignParams": "params",
        "AlignmentResult": "results",
        "BundleModel": "bundle_model",
        "BundleResult": "bundle_adjustment",
        "TriedModel": "bundle_choice",
        "adjust_bundle": "bundle_adjustment",
        "align_by_beads": "align_by_beads",
        "BeadAlignment": "align_by_beads",
        "TooFewBeadsError": "align_by_beads",
        "track_beads": "track_beads",
        "BeadTracks": "track_beads",
        "align_by_patches": "align_by_patches",
        "PatchAlignment": "align_by_patches",
        "track_patches": "track_patches",
        "PatchTracks": "track_patches",
        "align_by_projection": "align_by_projection",
        "look_first": "align_tilt_series",
        "FirstLook": "align_tilt_series",
        "share_axis": "share_axis",
        "SharedAxis": "share_axis",
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
