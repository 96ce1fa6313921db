"""Before and during collection: tilt schemes, what they will show, where the stage will go, and what past series teach."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "GoniometerModel": "goniometer",
        "learn_goniometer": "goniometer",
        "PositionPredictor": "predict_position",
        "Prediction": "results",
        "PredictionParams": "params",
        "Reception": "results",
        "Replay": "results",
        "replay": "replay_track",
    },
)
