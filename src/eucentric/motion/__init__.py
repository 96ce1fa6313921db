"""Motion correction of movie frames; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "MotionParams": "params",
        "MotionResult": "results",
        "DetectorCorrection": "results",
        "Defects": "find_defects",
        "Detector": "detector",
        "FrameTotals": "find_defects",
        "GainOrientation": "orient_gain",
        "Orientation": "detector",
        "FrameAssignment": "assign_frames",
        "assign_frames": "assign_frames",
        "correct_frames": "correct_frames",
        "correct_movie": "correct_frames",
        "find_defects": "find_defects",
        "magnification_from_relion": "detector",
        "magnification_matrix": "detector",
        "orient_gain": "orient_gain",
        "prepare_dark": "detector",
        "prepare_gain": "detector",
        "estimate_motion": "estimate_motion",
        "sum_frames": "sum_frames",
        "dose_weighted_sum": "sum_frames",
    },
)
