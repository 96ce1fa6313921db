"""A network that tells what lies where, and what its model file says of it."""

import math
from dataclasses import dataclass

import torch

from eucentric.errors import FormatError
from eucentric.networks.model_file import Model
from eucentric.networks.unet import UNet

PURPOSE = "segmenting tomograms"
"""Of the model files."""
THRESHOLD = 0.5
"""Score above which a voxel is of a class, of models that hold no better one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmenter:
    """A network ready for use. Its first channels are logits of the classes, each on its own: a voxel may be of several or none."""

    network: UNet
    classes: tuple[str, ...]
    voxel_size_angstrom: float
    """That tomograms are brought to."""
    profile: bool
    """Whether a last channel beyond the classes is highest on mid-surfaces."""
    thresholds: tuple[float, ...]
    """Of each class: of the greatest Dice on what was held out of the training."""

    @classmethod
    def of_model(cls, model: Model, device: torch.device | str = "cpu") -> "Segmenter":
        """Build the network of a model for :data:`PURPOSE`.

        Raises
        ------
        FormatError : settings that are missing or do not fit the network
        """
        try:
            classes = tuple(str(name) for name in model.settings["classes"])
            voxel = float(model.settings["voxel_size_angstrom"])
            profile = bool(model.settings["profile"])
            thresholds = tuple(float(t) for t in model.settings.get("thresholds", (THRESHOLD,) * len(classes)))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError("The model lacks its classes or its voxel size. Train it again.") from error
        channels = len(classes) + profile
        fits = len(classes) > 0 and len(thresholds) == len(classes) and model.network.out_channels == channels
        if not fits or not (math.isfinite(voxel) and voxel > 0) or not all(0 < t < 1 for t in thresholds):
            raise FormatError("The classes, thresholds or voxel size of the model do not fit. Train it again.")
        return cls(
            network=model.build(device),
            classes=classes,
            voxel_size_angstrom=voxel,
            profile=profile,
            thresholds=thresholds,
        )
