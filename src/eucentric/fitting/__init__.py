"""Robust least squares for problems of many points and few common unknowns, and registration by landmarks; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Biweight": "losses",
        "LandmarkFit": "landmarks",
        "BundleProblem": "robust_bundle",
        "BundleSolution": "robust_bundle",
        "BundleStructure": "robust_bundle",
        "Huber": "losses",
        "Linearised": "robust_bundle",
        "fit_landmarks": "landmarks",
        "leave_one_out": "held_out",
        "leave_points_out": "held_out",
        "match_points": "match_points",
        "solve_bundle": "robust_bundle",
    },
)
