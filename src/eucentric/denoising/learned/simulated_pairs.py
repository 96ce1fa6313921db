"""Batches of simulated tomograms with what they show, to train a general model on."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eucentric.denoising.learned.standardise import measure_scale
from eucentric.simulation.subvolumes import SubvolumeDataset

_JITTER = 0.15  # logarithm, of the scale: a box tells it less well than a tomogram
_BLUR = 10.0  # voxels squared: B factor by which reconstructions sharpen or blur noise and matter alike, over the squared voxel
_LEAST_MATTER = 0.01  # of the variance of a half: emptier boxes teach nothing
_TRIES = 4


class SimulatedPairs:
    """Batches by number: `images` (batch, 1, z, y, x), `signal`, `whole` (batch, z, y, x) and `wedge` (batch, z, y, half x)."""

    def __init__(self, sources: Sequence[SubvolumeDataset], *, batch_size: int, seed: int) -> None:
        """Boxes of several sources in turn, such as of several voxel sizes; each place is seen by a whole batch."""
        self._sources, self._batch_size, self._seed = tuple(sources), batch_size, seed

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step."""
        source = self._sources[step % len(self._sources)]
        first = step // len(self._sources) * _TRIES
        for index in range(first, first + _TRIES):
            found = source.restorations(index, self._batch_size)
            if float(found[0]["signal"].var()) > _LEAST_MATTER * float(found[0]["half1"].var()):
                break
        items = [self._item(view, np.random.default_rng([self._seed, step, n, 15])) for n, view in enumerate(found)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _item(self, view: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """As one half shows it or both together, at the scale of its noise, somewhat blurred with all it shows."""
        image = view["half1"] if rng.random() < 0.5 else 0.5 * (view["half1"] + view["half2"])
        volumes = torch.stack([image, view["signal"], view["whole"]])
        volumes = _blurred(volumes, float(rng.uniform(-_BLUR, _BLUR)))
        scale = measure_scale(volumes[0])
        factor = float(np.exp(rng.normal(0.0, _JITTER))) / scale.spread
        ground = volumes[0].mean()
        middle = scale.middle - ground
        return {
            "images": factor * (volumes[0] - scale.middle)[None],
            "signal": factor * (volumes[1] - volumes[1].mean() - middle),
            "whole": factor * (volumes[2] - volumes[2].mean() - middle),
            "wedge": view["wedge"],
        }


def _blurred(volumes: Tensor, b_factor: float) -> Tensor:
    """By exp(-B k^2 / 4), k in cycles per voxel and no more than Nyquist."""
    side = volumes.shape[-1]
    full, half = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2
    squared = squared.clamp_max(0.25)
    waves = torch.fft.rfftn(volumes, dim=(1, 2, 3)) * torch.exp(-0.25 * b_factor * squared)
    out: Tensor = torch.fft.irfftn(waves, s=volumes.shape[1:], dim=(1, 2, 3))
    return out
