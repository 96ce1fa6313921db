r"""Train a network on half volumes: to denoise them, or to fill their missing wedge besides.

**Denoising** is noise to noise [1]_ [2]_: from one half to the other, whose noise nothing can foretell.

**Filling** [3]_ [4]_: the network fills the wedge of one half; this is turned at random, its wedge cut out anew, and the network
learns to make of it the turned *other* half, where that was measured. With the wedge W of the lab and R W turned with the specimen,
the loss is

.. math:: \lVert W\,RW\,F(C f(x) - y) \rVert^2 + w\,\lVert (1 - W)\,RW\,F(C f(x) - y) \rVert^2,

the second term about what the network must fill and the turned tomogram knows. C is the contrast transfer relative to one without
zeros, where it is known: the network then learns to give the specimen without them.

References
----------
.. [1] Lehtinen et al., ICML 2018, arXiv:1803.04189
.. [2] Buchholz et al., ISBI 2019, doi:10.1109/ISBI.2019.8759519: cryoCARE
.. [3] Liu et al., Nat. Commun. 13:6482 (2022): IsoNet
.. [4] Wiedemann & Heckel, Nat. Commun. 15:8255 (2024): DeepDeWedge
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor, nn

from eucentric.denoising.learned.half_volumes import HalfVolumes, Place, Places
from eucentric.denoising.learned.losses import spectral_losses, squared_loss
from eucentric.denoising.learned.params import RestorerTraining, Task, WedgeTraining
from eucentric.denoising.learned.restorer import OUTPUTS, PURPOSE, Restorer
from eucentric.denoising.learned.weigh_shells import shell_index
from eucentric.denoising.sampled_region import sampled_region_of
from eucentric.geometry import Rotation
from eucentric.networks.model_file import Model
from eucentric.networks.params import TrainingParams, UNetParams
from eucentric.networks.prefetch import prefetched
from eucentric.networks.train_network import Batch, TrainingState, half_precision, initialise, train_network
from eucentric.networks.unet import UNet

Contrast = Callable[[tuple[int, int, int]], Tensor]
"""Gives the contrast transfer, relative to one without zeros, on the samples of an rfftn of a shape."""
NEW_NETWORK = UNetParams(width=16, levels=4, normalise=False)
"""Where a training starts from nothing."""
_JUDGED = 12  # patches
_TOLERANCE = 1.25  # of voxel sizes: how far from those trained on a model is applied
_SQRT3 = math.sqrt(3.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedRestorer:
    """What came out of a training."""

    model: Model
    losses: tuple[float, ...]
    checks: tuple[tuple[int, float], ...]
    """Step and loss on what was held out, from the start on; the model is that of the least."""

    @property
    def bettered(self) -> bool:
        """Whether anything was learned that holds where it was not learned from."""
        return min(value for _, value in self.checks) < self.checks[0][1]


def train_restorer(
    volumes: Sequence[HalfVolumes],
    params: RestorerTraining,
    device: torch.device,
    *,
    start: Restorer | None = None,
    contrasts: Sequence[Contrast | None] = (),
    seed: int = 0,
    provenance: dict[str, object] | None = None,
    state: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> TrainedRestorer:
    """Train on one or many tomograms.

    Parameters
    ----------
    params : `WedgeTraining` to fill the wedge, else to denoise
    start : whose weights are the first ones; from nothing where None
    contrasts : of each volume what gives C on the samples of an rfftn of a patch's shape; only to fill
    state, on_checkpoint, on_step : as :func:`train_network`

    Raises
    ------
    InputError : volumes too thin, or nothing measured in them; a state of another network
    ProcessingError : the loss is no number any more
    """
    shape = NEW_NETWORK if start is None else start.network.params
    network = UNet(shape)
    if start is None:
        initialise(network, seed)
    else:
        network.load_state_dict(start.network.state_dict())
    lesson: _Denoising | _Filling
    if isinstance(params, WedgeTraining):
        lesson = _Filling(volumes, params, tuple(contrasts) or (None,) * len(volumes), shape.multiple, seed)
    else:
        lesson = _Denoising(Places(volumes, params.patch_size, params.held_out, shape.multiple), params, seed)
    judged = [{k: v.to(device) for k, v in batch.items()} for batch in lesson.judged()]

    def judge(asked: nn.Module) -> float:
        with half_precision(device):
            return float(sum(float(lesson.loss(asked, batch)) for batch in judged) / len(judged))

    final = train_network(
        network,
        prefetched(lesson.batch),
        lesson.loss,
        TrainingParams(
            steps=params.steps,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            weight_decay=1e-4,
            averaging=params.averaging,
            checkpoint_steps=params.checkpoint_steps,
            patience=params.patience,
        ),
        device,
        state=state,
        on_checkpoint=on_checkpoint,
        on_step=on_step,
        judge=judge,
    )
    task: Task = "fill" if isinstance(params, WedgeTraining) else "denoise"
    sizes = [v.voxel_size_angstrom for v in volumes]
    model = Model(
        purpose=PURPOSE,
        network=shape,
        weights={name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
        settings={
            "outputs": [OUTPUTS[task]],
            "voxel_size_angstrom": [min(sizes) / _TOLERANCE, max(sizes) * _TOLERANCE],
        },
        provenance={**(provenance or {}), "seed": seed, "steps": final.step, "parameters": params.model_dump()},
    )
    return TrainedRestorer(model=model, losses=tuple(final.losses), checks=tuple(final.checks))


def _mirrored(patches: Sequence[Tensor], rng: np.random.Generator) -> list[Tensor]:
    axes = [axis for axis in range(3) if rng.random() < 0.5]
    return [patch.flip(axes) if axes else patch for patch in patches]


class _Denoising:
    """From one half to the other."""

    def __init__(self, places: Places, params: RestorerTraining, seed: int) -> None:
        self._places, self._params, self._seed = places, params, seed

    def batch(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, step, 41])
        return self._pairs(
            [
                _mirrored(self._places.cut(place)[:: 1 if rng.random() < 0.5 else -1], rng)
                for place in self._places.draw(rng, self._params.batch_size)
            ]
        )

    def judged(self) -> list[dict[str, Tensor]]:
        """Each place held out, both ways."""
        found = []
        for place in self._places.judging(_JUDGED):
            one, two = self._places.cut(place)
            found.append(self._pairs([[one, two], [two, one]]))
        return found

    @staticmethod
    def _pairs(pairs: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        return {
            "images": torch.stack([pair[0] for pair in pairs])[:, None],
            "targets": torch.stack([pair[1] for pair in pairs]),
        }

    @staticmethod
    def loss(network: nn.Module, batch: Batch) -> Tensor:
        found, target = network(batch["images"]).float()[:, 0], batch["targets"]
        everywhere = torch.ones(1, *target.shape[1:3], target.shape[3] // 2 + 1, device=target.device)
        (spectral,) = spectral_losses(found, target, everywhere)
        return squared_loss(found, target) + spectral


class _Filling:
    """From one half, filled, turned and cut anew, to the other half turned."""

    def __init__(
        self,
        volumes: Sequence[HalfVolumes],
        params: WedgeTraining,
        contrasts: Sequence[Contrast | None],
        multiple: int,
        seed: int,
    ) -> None:
        self._params, self._contrasts, self._seed = params, contrasts, seed
        # cubes to be turned are as wide as the volumes allow, patches as fit into them however they lie
        wide = math.ceil(params.patch_size * _SQRT3 / multiple) * multiple
        self._places = Places(volumes, wide, params.held_out, multiple)
        narrow = int(min(self._places.size) / _SQRT3) // multiple * multiple
        self._size = max(multiple, min(params.patch_size, narrow))

    def batch(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, step, 43])
        return self._lesson(self._places.draw(rng, 1)[0], rng, self._params.batch_size)

    def judged(self) -> list[dict[str, Tensor]]:
        rng = np.random.default_rng([self._seed, 44])
        return [self._lesson(place, rng, 2) for place in self._places.judging(_JUDGED)]

    def _lesson(self, place: Place, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
        """One cube, some turns of it."""
        cubes = self._places.cut(place)
        one, two = cubes[:: 1 if rng.random() < 0.5 else -1]
        geometry = self._places.geometry(place)
        turns = Rotation.random(count, rng).matrices
        small = (self._size,) * 3
        contrast = self._contrasts[place.volume]
        relative = torch.ones(self._size, self._size, self._size // 2 + 1) if contrast is None else contrast(small)
        return {
            "cube": one[None],
            "other": two[None],
            "turns": torch.from_numpy(np.asarray(turns)).float(),
            "measured": sampled_region_of(geometry, tuple(one.shape)),
            "wedge": sampled_region_of(geometry, small)[None],
            "turned": torch.stack(
                [sampled_region_of(geometry, small, rotation=turn, thickness=float(one.shape[0])) for turn in turns]
            ),
            "contrast": relative[None],
            "wide_contrast": torch.ones(1) if contrast is None else contrast(_three(one)),
            "seed": torch.tensor(int(rng.integers(2**62))),
        }

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            filled = self._filled(network, batch)
            size = batch["wedge"].shape[1]
            images = turned(filled, batch["turns"], size)
            images = _through(images, batch["wedge"])
            targets = turned(batch["other"], batch["turns"], size)
        found = network(images[:, None]).float()[:, 0]
        found = _through(found, batch["contrast"])
        both, beyond = batch["wedge"] * batch["turned"], (1.0 - batch["wedge"]) * batch["turned"]
        error = torch.fft.rfftn(found - targets, dim=(1, 2, 3)).abs().square()
        norm = (torch.fft.rfftn(targets, dim=(1, 2, 3)).abs().square() * batch["turned"].square()).mean()
        weight = self._params.wedge_weight
        squares = ((both.square() + weight * beyond.square()) * error).mean() / norm.clamp_min(1e-12)
        spectral = spectral_losses(found, targets, both, beyond)
        total: Tensor = squares + 0.5 * spectral[0] + spectral[1]
        return total

    @staticmethod
    def _filled(network: nn.Module, batch: Batch) -> Tensor:
        """(1, z, y, x) what was measured, and in the wedge what the network says, with noise like that around it."""
        cube = batch["cube"]
        guess = network(cube[:, None]).float()[:, 0]
        measured = batch["measured"]
        waves = torch.fft.rfftn(cube, dim=(1, 2, 3)) * measured
        generator = torch.Generator(device=cube.device).manual_seed(int(batch["seed"]))
        noise = noise_like(cube - batch["other"], measured, generator) / math.sqrt(2.0)
        inside = torch.fft.rfftn(guess, dim=(1, 2, 3)) * batch["wide_contrast"] + noise
        out: Tensor = torch.fft.irfftn(waves + (1.0 - measured) * inside, s=cube.shape[1:], dim=(1, 2, 3))
        return out


def noise_like(
    sample: Float[Tensor, "1 z y x"], measured: Float[Tensor, "z y half_x"], generator: torch.Generator
) -> Tensor:
    """The transform of other noise with the power that a sample has in the measured region, by frequency."""
    index = shell_index(_three(sample[0]), sample.device)
    power = (torch.fft.rfftn(sample[0]).abs().square() * measured).reshape(-1)
    sums = sample.new_zeros(int(index.max()) + 1).index_add(0, index, power)
    counts = sample.new_zeros(len(sums)).index_add(0, index, measured.reshape(-1))
    level = (sums / counts.clamp_min(1e-6) / sample[0].numel()).sqrt()[index].reshape(measured.shape)
    white = torch.randn(sample.shape[1:], generator=generator, device=sample.device)
    out: Tensor = torch.fft.rfftn(white)[None] * level
    return out


def _three(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[-3], volume.shape[-2], volume.shape[-1]


def _through(volumes: Tensor, transfer: Tensor) -> Tensor:
    waves = torch.fft.rfftn(volumes.float(), dim=(1, 2, 3)) * transfer
    out: Tensor = torch.fft.irfftn(waves, s=volumes.shape[1:], dim=(1, 2, 3))
    return out


def turned(
    cube: Float[Tensor, "1 z y x"], turns: Float[Tensor, "turn 3 3"], size: int
) -> Float[Tensor, "turn size size size"]:
    """The middle of a cube under several turns, linear between voxels: what was at p is at ``turn @ p``.

    Points are x, y, z from voxel n // 2 along each axis.
    """
    axis = torch.arange(size, device=cube.device, dtype=torch.float32) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    sizes = torch.tensor([cube.shape[3], cube.shape[2], cube.shape[1]], device=cube.device, dtype=torch.float32)
    out = []
    for turn in turns:
        source = points @ turn  # the inverse of a rotation is its transpose
        places = (source + torch.div(sizes, 2, rounding_mode="floor")) * (2.0 / (sizes - 1)) - 1.0
        grid = places.reshape(1, size, size, size, 3)
        out.append(functional.grid_sample(cube[None], grid, padding_mode="border", align_corners=True)[0, 0])
    return torch.stack(out)
