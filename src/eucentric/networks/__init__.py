"""The one family of networks: a 3D U-Net, its training, its use on whole volumes, and model files."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Model": "model_file",
        "TrainingParams": "params",
        "TrainingState": "train_network",
        "UNet": "unet",
        "UNetParams": "params",
        "apply_network": "apply_network",
        "model_from_bytes": "model_file",
        "model_to_bytes": "model_file",
        "train_network": "train_network",
    },
)
