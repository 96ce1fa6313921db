"""Motion correction of movie frames; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "MotionParams": "params",
        "MotionResult": "results",
        "DetectorCorrection": "results",
        "correct_frames": "correct_frames",
        "estimate_motion": "estimate_motion",
        "sum_frames": "sum_frames",
        "dose_weighted_sum": "sum_frames",
    },
)
