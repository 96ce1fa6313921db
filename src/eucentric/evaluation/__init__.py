"""Scores against truth: the same metrics for every data set, real truth or simulated."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AlignmentError": "alignment_error",
        "alignment_error": "alignment_error",
        "motion_error": "stage_errors",
        "defocus_error": "stage_errors",
        "particle_contrast": "stage_errors",
    },
)
