"""Before and during collection: tilt schemes, what they will show, where the stage will go, and what past series teach."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "TargetParams": "target_params",
        "TargetPlan": "target_results",
        "fill_area": "place_targets",
        "place_targets": "place_targets",
    },
)
