"""Before and during collection: tilt schemes, what they will show, where the stage will go, and what past series teach."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "TargetParams": "target_params",
        "TargetPlan": "target_results",
        "fill_area": "place_targets",
        "place_targets": "place_targets",
        "GoniometerModel": "goniometer",
        "learn_goniometer": "goniometer",
        "PositionPredictor": "predict_position",
        "Prediction": "results",
        "PredictionParams": "params",
        "Reception": "results",
        "Replay": "results",
        "replay": "replay_track",
        "AngleLattice": "fit_scheme",
        "SchemeFit": "fit_scheme",
        "compatible_schemes": "fit_scheme",
        "describe_scheme": "fit_scheme",
        "find_lattice": "fit_scheme",
        "fit_schemes": "fit_scheme",
        "order_by_scheme": "fit_scheme",
        "ImageFacts": "order_records",
        "RecoveredDose": "order_records",
        "RecoveredOrder": "order_records",
        "recover_dose": "recover_dose",
        "recover_order": "recover_order",
        "SeriesSplit": "split_series",
        "split_series": "split_series",
    },
)
