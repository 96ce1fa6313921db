"""Models as bytes: weights, the network's shape, what the model is for, and where it comes from.

The bytes are those of `torch.save` with plain containers, numbers, words and tensors alone, and are read with
``weights_only``: a model file can hold no program.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from eucentric.errors import FormatError
from eucentric.networks.params import UNetParams
from eucentric.networks.unet import UNet

_MARK = "eucentric model"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A trained network and all that its use needs."""

    purpose: str
    """What it is for, such as `picking`."""
    network: UNetParams
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    """Numbers and words that its use needs: voxel size, classes and so on."""
    provenance: dict[str, Any]
    """Versions, data, seed, settings of the training, date."""

    def build(self, device: torch.device | str = "cpu") -> UNet:
        """The network, ready for use."""
        network = UNet(self.network)
        network.load_state_dict({name: _single(value) for name, value in self.weights.items()})
        network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return network.eval()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def model_to_bytes(model: Model) -> bytes:
    """For a file; weights are kept as float16, which changes results less than computing in bfloat16 does."""
    weights = {
        name: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for name, value in model.weights.items()
    }
    values = {
        "mark": _MARK,
        "version": _VERSION,
        "purpose": model.purpose,
        "network": model.network.model_dump(),
        "weights": weights,
        "settings": model.settings,
        "provenance": model.provenance,
    }
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def model_from_bytes(raw: bytes, name: str, *, purpose: str) -> Model:
    """What :func:`model_to_bytes` made.

    Parameters
    ----------
    name : of the file, for messages
    purpose : what the model must be for

    Raises
    ------
    FormatError : no model file, one of a later version, or one for another purpose
    """
    values = load_plain(raw, name, "a model of Eucentric")
    if values.get("mark") != _MARK:
        raise FormatError(f"`{name}` is no model of Eucentric.")
    if values["version"] > _VERSION:
        raise FormatError(f"`{name}` was written by a later version of Eucentric. Update the program.")
    if values["purpose"] != purpose:
        raise FormatError(f"`{name}` is a model for {values['purpose']}; expected one for {purpose}.")
    try:
        model = Model(
            purpose=values["purpose"],
            network=UNetParams.model_validate(values["network"]),
            weights=values["weights"],
            settings=values["settings"],
            provenance=values["provenance"],
        )
        model.build()
    except (KeyError, ValidationError, RuntimeError, AttributeError) as error:
        raise FormatError(
            f"`{name}` is damaged: its weights do not fit its network. Train or copy it again."
        ) from error
    return model


def load_plain(raw: bytes, name: str, expected: str) -> Mapping[str, Any]:
    """Plain containers and tensors that `torch.save` wrote.

    Raises
    ------
    FormatError : anything else
    """
    try:
        values = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise FormatError(f"`{name}` is no {expected.removeprefix('a ')}, or it is damaged.") from error
    if not isinstance(values, dict):
        raise FormatError(f"`{name}` is no {expected.removeprefix('a ')}.")
    return values
