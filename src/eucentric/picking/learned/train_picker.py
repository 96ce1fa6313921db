"""Train a picker on labelled volumes and calibrate it on what was held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.networks.model_file import Model
from eucentric.networks.params import TrainingParams, UNetParams
from eucentric.networks.train_network import Batch, TrainingState, initialise, train_network
from eucentric.networks.unet import UNet
from eucentric.picking.learned.calibrate import Calibration, calibrate, match_labels
from eucentric.picking.learned.find_objects import find_peaks, heat_maps
from eucentric.picking.learned.params import PickerClass, PickerParams, PickerUse
from eucentric.picking.learned.training_patches import LabelledVolume, spot_sigma
from eucentric.typing import FloatArray

PURPOSE = "picking"
_WEAK_HEAD = 0.1
_BACKGROUND_ODDS = 4.0  # logarithm
_UNLABELLED_DOUBT = 2.0  # power of the doubt about an unlabelled voxel that looks like a particle
_CODE_WEIGHTS = (0.0, 1.0, 1.0, 5.0)  # not judged, unlabelled, known, a given negative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What a picker found of one class where it was not trained."""

    scores: FloatArray
    """(candidate,)."""
    true: NDArray[np.bool_]
    """(candidate,) which lie on a label."""
    truths: int
    """Labels there, found or not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedPicker:
    """What came out."""

    model: Model
    calibrations: tuple[Calibration, ...]
    held_out: tuple[HeldOut, ...]
    """Of each class, what its calibration rests on."""
    losses: tuple[float, ...]


class Source(Protocol):
    """Where patches come from."""

    def batch(self, step: int) -> Batch:
        """`images`, `targets` and `weights` of a step."""


def spot_loss(params: PickerParams) -> Callable[[Tensor, Batch], Tensor]:
    """Cross-entropy of logits against spots, and soft Dice of each class; voxels weighted by what is known of them."""

    def loss_of(logits: Tensor, batch: Batch) -> Tensor:
        spots, codes = batch["targets"], batch["weights"].long()
        background = (1.0 - spots.sum(1, keepdim=True)).clamp_min(0.0)
        wanted = torch.cat([background, spots], dim=1)
        wanted = wanted / wanted.sum(1, keepdim=True)
        logs = logits.log_softmax(1)
        weight = logits.new_tensor(_CODE_WEIGHTS)[codes]
        found = logs[:, 1:].exp()
        if not params.complete:
            doubt = (1.0 - found.detach().sum(1)).clamp_min(0.0) ** _UNLABELLED_DOUBT
            weight = torch.where(codes == 1, weight * doubt, weight)
        strong = 1.0 + (params.foreground_weight - 1.0) * spots.amax(1)
        entropy = -(wanted * logs).sum(1)
        cross = (weight * strong * entropy).sum() / weight.sum().clamp_min(1.0)
        inside = weight.clamp_max(1.0)[:, None]
        both = (found * spots * inside).sum((0, 2, 3, 4))
        total = ((found**2 + spots**2) * inside).sum((0, 2, 3, 4))
        dice = 1.0 - (2.0 * both + 1.0) / (total + 1.0)
        return cross + dice.mean()

    return loss_of


def expect_background(network: UNet) -> None:
    """Let an untrained network call nearly everything background, as nearly everything is."""
    with torch.no_grad():
        network.head.weight.mul_(_WEAK_HEAD)
        network.head.bias[0] = _BACKGROUND_ODDS  # type: ignore[index]


def hold_out(positions: FloatArray, kinds: NDArray[np.int64], rows: int, share: float) -> NDArray[np.bool_]:
    """(row,) rows of y that are trained on: the end of the volume that holds the wanted share of the labels is not.

    Parameters
    ----------
    positions : (label, 3) z, y, x in voxels
    rows : of the volume
    share : of all labels that should be held out; classes of one label are trained on
    """
    trained = np.ones(rows, dtype=bool)
    several = [positions[kinds == kind, 1] for kind in np.unique(kinds) if (kinds == kind).sum() > 1]
    if not several:
        return trained
    border = float(np.quantile(np.concatenate(several), 1.0 - share))
    border = min([border, *(float(rows_of.max()) for rows_of in several)])  # one of each class at least
    border = max([border, *(float(np.median(rows_of)) for rows_of in several)])  # and no more than half of any
    trained[np.arange(rows) >= border] = False
    return trained


def train_picker(
    source: Source,
    classes: Sequence[PickerClass],
    params: PickerParams,
    device: torch.device,
    *,
    seed: int = 0,
    calibrate_on: Sequence[LabelledVolume] = (),
    start: Model | None = None,
    provenance: dict[str, Any] | None = None,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> TrainedPicker:
    """Train, then calibrate on the rows of volumes that are not trained on.

    Parameters
    ----------
    start : model whose weights are the first ones, but for the last layer; its shape goes before that of `params`
    state : of a training of the same source that was stopped

    Raises
    ------
    InputError : a state of another training
    """
    shape = UNetParams(out_channels=1 + len(classes), width=params.width, levels=params.levels)
    if start is not None:
        shape = start.network.replace(out_channels=1 + len(classes))
    network = UNet(shape)
    initialise(network, seed)
    expect_background(network)
    if start is not None:
        known = {name: value for name, value in start.build().state_dict().items() if not name.startswith("head.")}
        network.load_state_dict(known, strict=False)
    loss = spot_loss(params)
    training = TrainingParams(
        steps=params.steps,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        checkpoint_steps=params.checkpoint_steps,
    )
    final = train_network(
        network,
        source.batch,
        lambda module, batch: loss(module(batch["images"]).float(), batch),
        training,
        device,
        state=state,
        on_checkpoint=on_checkpoint,
        on_step=on_step,
    )
    held_out = held_out_scores(network, calibrate_on, classes, params)
    calibrations = calibrate_classes(held_out, params)
    settings = {
        "voxel_size_angstrom": params.voxel_size_angstrom,
        "classes": [kind.model_dump() for kind in classes],
        "spot": params.spot,
        "calibrations": [c.to_dict() for c in calibrations],
    }
    model = Model(
        purpose=PURPOSE,
        network=shape,
        weights=final.averaged,
        settings=settings,
        provenance={**(provenance or {}), "seed": seed, "parameters": params.model_dump()},
    )
    return TrainedPicker(model=model, calibrations=calibrations, held_out=held_out, losses=tuple(final.losses))


def calibrate_picker(
    network: UNet, volumes: Sequence[LabelledVolume], classes: Sequence[PickerClass], params: PickerParams
) -> tuple[Calibration, ...]:
    """One calibration a class, from the rows of the volumes that were not trained on."""
    return calibrate_classes(held_out_scores(network, volumes, classes, params), params)


def calibrate_classes(found: Sequence[HeldOut], params: PickerParams) -> tuple[Calibration, ...]:
    """One calibration a class; of a class without candidates the one that nothing was held out for."""
    return tuple(calibrate(one.scores, one.true, one.truths, complete=params.complete) for one in found)


def held_out_scores(
    network: UNet, volumes: Sequence[LabelledVolume], classes: Sequence[PickerClass], params: PickerParams
) -> tuple[HeldOut, ...]:
    """Candidates of each class in the rows of the volumes that were not trained on."""
    scores: list[list[FloatArray]] = [[] for _ in classes]
    true: list[list[NDArray[np.bool_]]] = [[] for _ in classes]
    truths = np.zeros(len(classes), dtype=np.int64)
    for labelled in volumes:
        prepared = labelled.volume
        if labelled.trained.all():
            continue
        voxel = float(np.mean(prepared.voxel_xyz))
        sigmas = [spot_sigma(kind, params, voxel) for kind in classes]
        device = next(network.parameters()).device
        outside = ~labelled.trained
        rows = np.flatnonzero(outside)
        low, high = max(0, int(rows.min()) - network.params.reach), int(rows.max()) + 1 + network.params.reach
        part = replace(prepared, image=prepared.image[:, low:high], region=prepared.region[:, low:high])
        found = find_peaks(
            heat_maps(network, part.image.to(device), len(classes)),
            part,
            classes,
            sigmas,
            distance=PickerUse().distance,
        )
        found = replace(found, positions=found.positions + np.array([0.0, low, 0.0]))
        found = found.select(outside[np.clip(np.rint(found.positions[:, 1]).astype(int), 0, len(outside) - 1)])
        places = np.clip(np.rint(labelled.positions), 0, np.array(prepared.image.shape) - 1).astype(int)
        own = outside[places[:, 1]] & prepared.region.numpy()[tuple(places.T)]
        reach = [0.5 * kind.radius_angstrom / voxel for kind in classes]
        matched, _ = match_labels(found.positions, found.kinds, labelled.positions[own], labelled.kinds[own], reach)
        for number in range(len(classes)):
            of_kind = found.kinds == number
            scores[number].append(found.scores[of_kind])
            true[number].append(matched[of_kind])
            truths[number] += int((labelled.kinds[own] == number).sum())
    return tuple(
        HeldOut(
            scores=np.concatenate([np.zeros(0), *s]),
            true=np.concatenate([np.zeros(0, dtype=bool), *t]),
            truths=int(n),
        )
        for s, t, n in zip(scores, true, truths, strict=True)
    )
