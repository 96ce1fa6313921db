"""How the model that comes with the program is made: `python -m eucentric.pipeline.train_shipped_restorer MODEL`.

It was made in three parts, each of which goes on from the one before: `--steps 1300 --of 2000 --voxels 6.5 9 12.5`; with coarser
voxels, so that whole vesicles fit into what the network sees, `--steps 1800 --of 2400`; and with a low rate of learning
`--steps 2000 --of 2100`.

Everything comes from the simulator: cytosol, a lamella, vesicles, tubes, filaments, lattices and free complexes, with gold and ice, at
voxels of 6.5 to 18 A through random tilt series. No measured data and no atomic model has a part in it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from eucentric.denoising.learned.losses import spectral_losses, squared_loss
from eucentric.denoising.learned.restorer import PURPOSE, SHIPPED_SETTINGS
from eucentric.denoising.learned.simulated_pairs import SimulatedPairs
from eucentric.networks.params import TrainingParams, UNetParams
from eucentric.networks.train_network import Batch, initialise
from eucentric.networks.unet import UNet
from eucentric.pipeline.scene_files import preset_names, read_preset, scene_species
from eucentric.pipeline.shipped_training import train_shipped
from eucentric.simulation.build_specimen import build_specimen
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

_SHAPE = UNetParams(out_channels=2, width=16, levels=4, normalise=False)
_BOX = 64
_TRIES = 4  # boxes that are looked at for one that holds something
_TWICE = ("vesicles", "lamella")
"""Built twice: no two membranes are alike."""


def specimens(seed: int) -> list[Specimen]:
    """One of each scene that comes with the program, two of those with many membranes."""
    out = []
    for name in preset_names():
        scene = read_preset(name)
        for number in range(2 if name in _TWICE else 1):
            rng = np.random.default_rng([seed, number, len(name)])
            out.append(build_specimen(scene, scene.params(seed=seed + number), scene_species(scene), rng))
    return out


def sources(seed: int, steps: int, voxels: Sequence[float]) -> list[SubvolumeDataset]:
    """Boxes of all of them at every sampling."""
    built = specimens(seed)
    return [
        SubvolumeDataset(
            built,
            SubvolumeParams(
                box_size=_BOX,
                voxel_size_angstrom=voxel,
                dose=(50.0, 140.0),
                thickness_angstrom=(1000.0, 3000.0),
                series=24,
            ),
            count=steps,
            seed=seed + number,
        )
        for number, voxel in enumerate(voxels)
    ]


def restoration_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Of both outputs: what was measured without its noise, and what would have been, had all directions been measured."""
    found = network(batch["images"]).float()
    wedge = batch["wedge"]
    (inside,) = spectral_losses(found[:, 0], batch["signal"], wedge)
    measured, beyond = spectral_losses(found[:, 1], batch["whole"], wedge, 1.0 - wedge)
    squares = squared_loss(found[:, 0], batch["signal"]) + squared_loss(found[:, 1], batch["whole"])
    return squares + inside + 0.5 * measured + beyond


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=2400, help="after which it ends")
    parser.add_argument("--of", type=int, default=2400, help="steps after which the rate of learning would be 0")
    parser.add_argument("--voxels", type=float, nargs="+", default=[8.0, 18.0, 12.5, 18.0], help="A")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    pairs = SimulatedPairs(sources(given.seed, _TRIES * given.of, given.voxels), batch_size=2, seed=given.seed)
    network = UNet(_SHAPE)
    initialise(network, given.seed)
    train_shipped(
        given.model,
        network,
        pairs.batch,
        restoration_loss,
        TrainingParams(steps=given.of, batch_size=2, learning_rate=1e-3, weight_decay=1e-4),
        purpose=PURPOSE,
        settings=SHIPPED_SETTINGS,
        data=f"simulated: {', '.join(preset_names())}",
        seed=given.seed,
        last_step=given.steps,
    )


if __name__ == "__main__":
    main()
