"""Batches of simulated tomograms and the membranes in them, to train a general model on."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.networks.params import AugmentParams
from eucentric.networks.prepare_volume import standardise
from eucentric.networks.vary_patch import vary_patch
from eucentric.simulation.structures import MEMBRANE_HALF_ANGSTROM
from eucentric.simulation.subvolumes import SubvolumeDataset

PROFILE_ANGSTROM = 18.0
"""A: standard deviation of the second output across a membrane, whose crest is the mid-surface."""
_CLEANER = 0.35  # of the boxes: as if they had been denoised, by any amount
_FILLED = 0.5  # of these: with the wedge filled
_TRIES = 5  # boxes that are looked at for one with a membrane
_LEAST_MEMBRANE = 500  # voxels
_EMPTY = 0.2  # of the boxes are taken as they come


class SimulatedMembranes:
    """Batches by number: `images` (batch, 1, z, y, x), `mask` and `profile` (batch, z, y, x)."""

    def __init__(
        self, sources: Sequence[SubvolumeDataset], augment: AugmentParams, *, batch_size: int, seed: int
    ) -> None:
        """Boxes of several sources in turn, such as of several voxel sizes."""
        self._sources, self._augment = tuple(sources), augment
        self._batch_size, self._seed = batch_size, seed

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step."""
        items = [self._item(step * self._batch_size + n) for n in range(self._batch_size)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _item(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, index, 41])
        source = self._sources[index % len(self._sources)]
        first = index // len(self._sources) * _TRIES
        tries = 1 if rng.random() < _EMPTY else _TRIES
        for number in range(first, first + tries):
            box = source[number]
            distance = box["membrane_distance"].abs()
            if int((distance <= MEMBRANE_HALF_ANGSTROM).sum()) >= _LEAST_MEMBRANE:
                break
        voxel = source.params.voxel_size_angstrom
        mixed = _seen(box, rng)
        image = standardise(mixed, np.full(3, voxel))
        # the tilt axis of boxes is y
        image = vary_patch(image, voxel, 90.0, self._augment, rng)
        return {
            "images": image[None],
            "mask": (distance <= MEMBRANE_HALF_ANGSTROM).float(),
            "profile": torch.exp(-0.5 * (distance / PROFILE_ANGSTROM) ** 2),
        }


def _seen(box: dict[str, Tensor], rng: np.random.Generator) -> Float[Tensor, "z y x"]:
    """As both halves show it, or with less noise, with the wedge missing or filled."""
    seen = 0.5 * (box["half1"] + box["half2"])
    if rng.random() >= _CLEANER:
        return seen
    clean = -box["clean"]  # matter is dark
    if rng.random() >= _FILLED:
        clean = torch.fft.irfftn(torch.fft.rfftn(clean) * box["wedge"], s=clean.shape)
    spread = clean.std()
    if not float(spread) > 0:
        return seen
    part = float(rng.uniform(0.2, 1.0))
    return (1.0 - part) * seen + part * (clean - clean.mean()) / spread
