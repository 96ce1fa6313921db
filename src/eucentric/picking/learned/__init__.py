"""Finding particles with a network that was shown some."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Calibration": "calibrate",
        "LabelledVolume": "training_patches",
        "PickerClass": "params",
        "PickerParams": "params",
        "PickerUse": "params",
        "PreparedVolume": "prepare_volume",
        "find_peaks": "find_objects",
        "prepare_volume": "prepare_volume",
        "train_picker": "train_picker",
    },
)
