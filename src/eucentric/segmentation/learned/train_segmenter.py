"""Train a network on labels, judge it on what was held out, and choose the scores above which a voxel is of a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eucentric.networks.model_file import Model
from eucentric.networks.params import AugmentParams, TrainingParams
from eucentric.networks.prefetch import prefetched
from eucentric.networks.train_network import Batch, TrainingState, half_precision, initialise, train_network
from eucentric.networks.unet import UNet
from eucentric.segmentation.learned.find_classes import mirrored_scores
from eucentric.segmentation.learned.labelled_patches import LabelledPatches, LabelledVolume, held_out_patches
from eucentric.segmentation.learned.losses import mask_loss
from eucentric.segmentation.learned.params import SegmenterParams
from eucentric.segmentation.learned.segmenter import PURPOSE, THRESHOLD, Segmenter
from eucentric.segmentation.learned.training_plan import TrainingPlan

_RATES = (2e-3, 5e-4)  # from nothing, and from a model
_WEAK_HEAD = 0.1
_BACKGROUND_ODDS = -2.0
_JUDGED_PATCHES = 12
_CUTS = 99  # thresholds tried: 0.01 to 0.99
_BINS = _CUTS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQuality:
    """How well a class is found where the network was not trained."""

    name: str
    threshold: float
    """Of the greatest Dice; 0.5 where nothing was held out."""
    dice: float | None
    """At that threshold; None where nothing was held out."""
    voxels: int
    """Of the class, held out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedSegmenter:
    """A model and how well it does."""

    model: Model
    qualities: tuple[ClassQuality, ...]
    losses: tuple[float, ...]
    checks: tuple[tuple[int, float], ...]
    """Step and loss on what was held out."""

    @property
    def bettered(self) -> bool:
        """Whether what was learned holds where it was not learned from; True where nothing was held out."""
        return not self.checks or min(self.checks, key=lambda c: c[1])[0] > 0


def train_segmenter(
    volumes: Sequence[LabelledVolume],
    classes: Sequence[str],
    plan: TrainingPlan,
    params: SegmenterParams,
    device: torch.device,
    *,
    seed: int = 0,
    start: Model | None = None,
    provenance: dict[str, Any] | None = None,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> TrainedSegmenter:
    """Train on the labels of volumes that are not held out, then choose thresholds by those that are.

    Parameters
    ----------
    start : model whose weights are the first ones; of its last layer those of classes with the same name
    state : of the same training that was stopped

    Raises
    ------
    InputError : a class without labels, or one that fills all that is labelled; a state of another training
    """
    network = _first_network(plan, classes, start, seed)
    patches = LabelledPatches(
        volumes,
        classes,
        AugmentParams(),
        patch_size=plan.patch_size,
        batch_size=plan.batch_size,
        label_share=params.label_share,
        seed=seed,
    )
    judged = held_out_patches(volumes, plan.patch_size, _JUDGED_PATCHES, seed)
    training = TrainingParams(
        steps=params.steps,
        batch_size=plan.batch_size,
        learning_rate=params.learning_rate or _RATES[start is not None],
        checkpoint_steps=params.checkpoint_steps,
        patience=params.patience,
    )
    final = train_network(
        network,
        prefetched(patches.batch),
        _loss_of,
        training,
        device,
        state=state,
        on_checkpoint=on_checkpoint,
        on_step=on_step,
        judge=_judge(judged, device) if judged else None,
    )
    segmenter = Segmenter(
        network=network,
        classes=tuple(classes),
        voxel_size_angstrom=plan.voxel_size_angstrom,
        profile=False,
        thresholds=(THRESHOLD,) * len(classes),
    )
    qualities = choose_thresholds(segmenter, volumes)
    settings = {
        "classes": list(classes),
        "profile": False,
        "voxel_size_angstrom": plan.voxel_size_angstrom,
        "thresholds": [one.threshold for one in qualities],
        "held_out_dice": [one.dice for one in qualities],
    }
    model = Model(
        purpose=PURPOSE,
        network=plan.network,
        weights={name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
        settings=settings,
        provenance={**(provenance or {}), "seed": seed, "parameters": params.model_dump()},
    )
    return TrainedSegmenter(
        model=model,
        qualities=qualities,
        losses=tuple(final.losses),
        checks=tuple((int(n), float(v)) for n, v in final.checks),
    )


def _first_network(plan: TrainingPlan, classes: Sequence[str], start: Model | None, seed: int) -> UNet:
    network = UNet(plan.network)
    initialise(network, seed)
    with torch.no_grad():  # most voxels are of no class
        network.head.weight.mul_(_WEAK_HEAD)
        network.head.bias.fill_(_BACKGROUND_ODDS)  # type: ignore[union-attr]
    if start is None:
        return network
    known = start.build().state_dict()
    network.load_state_dict({n: v for n, v in known.items() if not n.startswith("head.")}, strict=False)
    before = list(start.settings["classes"])
    with torch.no_grad():
        for number, name in enumerate(classes):
            if name in before:
                network.head.weight[number] = known["head.weight"][before.index(name)]
                network.head.bias[number] = known["head.bias"][before.index(name)]  # type: ignore[index]
    return network


def _loss_of(network: nn.Module, batch: Batch) -> Tensor:
    return mask_loss(network(batch["images"]), batch["targets"], batch["known"])


def _judge(batches: Sequence[Batch], device: torch.device) -> Callable[[nn.Module], float]:
    def judge(network: nn.Module) -> float:
        total = 0.0
        for batch in batches:
            with half_precision(device):
                total += float(_loss_of(network, {name: value.to(device) for name, value in batch.items()}))
        return total / len(batches)

    return judge


def choose_thresholds(segmenter: Segmenter, volumes: Sequence[LabelledVolume]) -> tuple[ClassQuality, ...]:
    """Of each class the score with the greatest Dice on what was held out, all volumes together.

    Scores are those of :func:`class_scores` with its usual mirrors, at the network's sampling.
    """
    of_class = torch.zeros(len(segmenter.classes), _BINS, dtype=torch.float64)
    others = torch.zeros_like(of_class)
    for one in volumes:
        if not bool(one.held_out.any()):
            continue
        window = _window(one.held_out, segmenter.network.params.reach)
        image = one.volume.image[window].to(next(segmenter.network.parameters()).device)
        found = mirrored_scores(segmenter, image).cpu()
        held = one.held_out[window]
        for number, scores in enumerate(found):
            true = one.classes[number][window] & held
            of_class[number] += _histogram(scores, true)
            others[number] += _histogram(scores, held & ~true)
    return tuple(_quality(name, *counts) for name, *counts in zip(segmenter.classes, of_class, others, strict=True))


def _window(mask: Bool[Tensor, "z y x"], halo: int) -> tuple[slice, ...]:
    out = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        rows = mask.any(others[1]).any(others[0]).nonzero()
        out.append(slice(max(0, int(rows.min()) - halo), int(rows.max()) + 1 + halo))
    return tuple(out)


def _histogram(scores: Float[Tensor, "z y x"], mask: Bool[Tensor, "z y x"]) -> Tensor:
    """(bin,) voxels of a mask by their scores."""
    return torch.bincount((scores[mask] * _BINS).long().clamp(0, _BINS - 1), minlength=_BINS).double()


def _quality(name: str, of_class: Tensor, others: Tensor) -> ClassQuality:
    total = int(of_class.sum())
    if not total:
        return ClassQuality(name=name, threshold=THRESHOLD, dice=None, voxels=0)
    hit = of_class.flip(0).cumsum(0).flip(0)[1:]  # at or above each cut between bins
    wrong = others.flip(0).cumsum(0).flip(0)[1:]
    dice = 2.0 * hit / (hit + wrong + total)
    best = float(dice.max())
    # among thresholds that do as well within a hundredth the one nearest to one half, as held-out labels are few
    near = (dice >= best - 0.01).nonzero().flatten() + 1
    cut = int(near[(near - _BINS // 2).abs().argmin()])
    return ClassQuality(name=name, threshold=cut / _BINS, dice=float(dice[cut - 1]), voxels=total)
