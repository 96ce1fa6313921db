"""How the model of membranes that comes with the program is made: `python -m eucentric.pipeline.train_shipped_segmenter MODEL`.

Everything comes from the simulator: vesicles, tubes, sheets, sacs and nested membranes of several thicknesses, bare, in cytosol and in
a lamella, beside filaments, lattices, gold and ice, through random tilt series. No measured data and no atomic model has a part in it.
"""

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from eucentric.networks.params import AugmentParams, TrainingParams, UNetParams
from eucentric.networks.train_network import Batch, initialise
from eucentric.networks.unet import UNet
from eucentric.pipeline.scene_files import read_preset, scene_species
from eucentric.pipeline.shipped_training import train_shipped
from eucentric.segmentation.learned.losses import mask_loss
from eucentric.segmentation.learned.segmenter import PURPOSE
from eucentric.segmentation.learned.simulated_membranes import SimulatedMembranes
from eucentric.segmentation.membranes.learned_membranes import MEMBRANE
from eucentric.simulation.build_specimen import build_specimen
from eucentric.simulation.scene import Scene, SceneFilm, SceneMembrane
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

_SHAPE = UNetParams(out_channels=2, width=16, levels=4)
_BOX = 64
_VOXELS = (12.0, 11.0, 12.0, 13.5)
"""A; each is shown as if it were 12, as membranes are not all equally thick."""
_PRESETS = ("vesicles", "lamella", "vesicles", "crowded", "filaments", "hiv-like", "purified-beads")


def scenes() -> list[Scene]:
    """Those that come with the program, and membranes of more shapes in cytosol and without."""
    crowd = read_preset("crowded")
    thinner = tuple(
        s.model_copy(update={"volume_fraction": 0.5 * (s.volume_fraction or 0.0)}) for s in crowd.species[1:]
    )
    bare = read_preset("purified-beads")
    bent = tuple(
        SceneMembrane(
            shape="vesicle",
            name=f"vesicle {number}",
            count=3,
            radius_angstrom=(180.0, 620.0),
            roughness=roughness,
            thickness_angstrom=thick,
        )
        for number, (thick, roughness) in enumerate([(33.0, 0.15), (37.0, 0.08), (43.0, 0.2)])
    )
    flat = (
        SceneMembrane(shape="sheet", count=1, roughness=0.15, tilt_deg=70.0),
        SceneMembrane(shape="cisterna", count=2, radius_angstrom=(400.0, 700.0), roughness=0.2),
        SceneMembrane(shape="tube", count=3, radius_angstrom=(120.0, 220.0), length_angstrom=(800.0, 1800.0)),
        SceneMembrane(shape="double", count=1, radius_angstrom=(450.0, 600.0), lumen_angstrom=(120.0, 220.0)),
    )
    thick = SceneFilm(thickness_angstrom=2000.0)
    own = [
        crowd.model_copy(update={"species": thinner, "membranes": bent, "film": thick}),
        crowd.model_copy(update={"species": thinner, "membranes": flat, "film": thick}),
        bare.model_copy(update={"membranes": bent, "film": thick}),
        bare.model_copy(update={"membranes": flat, "film": thick}),
    ]
    return [*(read_preset(name) for name in _PRESETS), *own]


def specimens(seed: int) -> list[Specimen]:
    """One of each scene."""
    return [
        build_specimen(
            scene, scene.params(seed=seed + number), scene_species(scene), np.random.default_rng([seed, number])
        )
        for number, scene in enumerate(scenes())
    ]


def membrane_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Of the mask, and of how far from the mid-surface each place is."""
    found = network(batch["images"]).float()
    profile = functional.mse_loss(found[:, 1], batch["profile"]) / batch["profile"].square().mean().clamp_min(0.01)
    return mask_loss(found[:, :1], batch["mask"][:, None]) + 0.5 * profile


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    built = specimens(given.seed)
    sources = [
        SubvolumeDataset(
            built,
            SubvolumeParams(
                box_size=_BOX,
                voxel_size_angstrom=voxel,
                dose=(50.0, 140.0),
                thickness_angstrom=(1000.0, 3000.0),
                series=24,
            ),
            count=100 * given.steps,
            seed=given.seed + number,
        )
        for number, voxel in enumerate(_VOXELS)
    ]
    boxes = SimulatedMembranes(sources, AugmentParams(), batch_size=2, seed=given.seed)
    network = UNet(_SHAPE)
    initialise(network, given.seed)
    train_shipped(
        given.model,
        network,
        boxes.batch,
        membrane_loss,
        TrainingParams(steps=given.steps, batch_size=2, learning_rate=2e-3),
        purpose=PURPOSE,
        settings={"classes": [MEMBRANE], "profile": True, "voxel_size_angstrom": _VOXELS[0]},
        data="simulated membranes",
        seed=given.seed,
    )


if __name__ == "__main__":
    main()
