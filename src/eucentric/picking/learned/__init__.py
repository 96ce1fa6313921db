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
        "find_peaks": "find_objects",
        "train_picker": "train_picker",
    },
)
