"""Models that restore tomograms: what they say of themselves, and the network of one of their outputs."""

from dataclasses import dataclass

import torch

from eucentric.denoising.learned.params import Task
from eucentric.errors import FormatError
from eucentric.networks.model_file import Model
from eucentric.networks.unet import UNet

PURPOSE = "restoring tomograms"
OUTPUTS: dict[Task, str] = {"denoise": "denoised", "fill": "filled"}
_COARSE = 0.9  # of the coarsest voxels that a model knows
_LEAST_FACTOR = 1.4
SHIPPED_SETTINGS = {"outputs": list(OUTPUTS.values()), "voxel_size_angstrom": [6.0, 20.0]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restorer:
    """A network with one output."""

    network: UNet
    voxel_range_angstrom: tuple[float, float]
    """Of the tomograms it was trained on."""


def restorer_of(model: Model, task: Task, name: str, device: torch.device | str = "cpu") -> Restorer:
    """The part of a model that does a task.

    Parameters
    ----------
    name : of the model, for messages

    Raises
    ------
    FormatError : a model for the other task, or one without settings
    """
    try:
        outputs = list(model.settings["outputs"])
        low, high = (float(v) for v in model.settings["voxel_size_angstrom"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"`{name}` does not say what it restores. Train it again.") from error
    if OUTPUTS[task] not in outputs:
        command = {"denoise": "denoise", "fill": "fill-wedge"}[task]
        raise FormatError(
            f"`{name}` gives {' and '.join(outputs)} tomograms, not {OUTPUTS[task]} ones. Train one with `eucentric {command} train`."
        )
    number = outputs.index(OUTPUTS[task])
    params = model.network.model_copy(update={"out_channels": 1})
    weights = dict(model.weights)
    for end in ("weight", "bias"):
        weights[f"head.{end}"] = weights[f"head.{end}"][number : number + 1]
    network = UNet(params)
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Restorer(network=network.eval(), voxel_range_angstrom=(low, high))


def coarse_factor(voxel_size: float, voxel_range: tuple[float, float]) -> float | None:
    """How much coarser voxels the wedge is filled with besides; None where a model knows none that are much coarser."""
    factor = _COARSE * voxel_range[1] / voxel_size
    return factor if factor >= _LEAST_FACTOR else None


def coarse_shape(shape: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    """Even sizes of the same volume with voxels coarser by a factor."""
    z, y, x = (min(n, max(8, 2 * round(0.5 * n / factor))) for n in shape)
    return z, y, x
