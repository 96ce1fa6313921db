"""How near segmentations come to deformed vesicles and tubes of the simulator, bare and in cytosol.

Run: python benchmarks/segmentation_shapes.py [--model MODEL] [--votes] [--boxes N] [--crowded] [--pictures FOLDER]

Each box is a cube of 128 voxels of 10 A with some 4 to 6 membranes, seen through a random tilt series. No seed of it is one of the
training's. Where the normal of a surface lies in the wedge of +-60 degrees about y is a pole.
"""

import argparse
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import torch

from eucentric.pipeline.scene_files import read_preset, scene_species
from eucentric.simulation.build_specimen import build_specimen
from eucentric.simulation.scene import Scene, SceneFilm, SceneMembrane
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams
from segmentation_quality import MARGIN_PX, Vesicles, print_figures, segmented

SIDE, VOXEL = 128, 10.0


def scene(crowded: bool, number: int) -> Scene:
    """Vesicles and tubes, deformed."""
    base = read_preset("crowded" if crowded else "purified-beads")
    if crowded:
        part = 0.6  # of the preset's quarter of the volume: membranes need room
        species = tuple(
            s.model_copy(update={"volume_fraction": part * (s.volume_fraction or 0.0)}) for s in base.species[1:]
        )
        base = base.model_copy(update={"species": species})
    membranes = (
        SceneMembrane(shape="vesicle", count=8, radius_angstrom=(200.0, 450.0), roughness=0.03 + 0.03 * (number % 4)),
        SceneMembrane(
            shape="tube", count=5, radius_angstrom=(130.0, 230.0), length_angstrom=(700.0, 1500.0), tilt_deg=60.0
        ),
    )
    return base.model_copy(update={"membranes": membranes, "film": SceneFilm(thickness_angstrom=1700.0)})


def truth_of(distance: np.ndarray) -> Vesicles:
    """Mid-surfaces out of signed distances (z, y, x; A)."""
    slopes = np.stack(np.gradient(distance, VOXEL))[::-1]  # x, y, z
    steep = np.sqrt((slopes**2).sum(0))
    # not where the sides of two surfaces meet
    near = np.argwhere((np.abs(distance) <= 0.6 * VOXEL) & (steep > 0.7))
    normals = (slopes / np.maximum(steep, 1e-9))[:, near[:, 0], near[:, 1], near[:, 2]].T
    places = near[:, ::-1] - distance[tuple(near.T)][:, None] / VOXEL * normals
    inside = ((places >= MARGIN_PX) & (places <= SIDE - 1 - MARGIN_PX)).all(1)
    places, normals = places[inside], normals[inside]
    return Vesicles(
        places=places,
        normals=normals,
        owner=np.zeros(len(places), dtype=int),
        pole=np.abs(normals[:, 2]) > math.tan(math.radians(60.0)) * np.abs(normals[:, 0]),
        radii_px=np.zeros(0),
        shape=(SIDE, SIDE, SIDE),
        voxel=VOXEL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--votes", action="store_true", help="without training")
    parser.add_argument("--crowded", action="store_true")
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for number in range(given.boxes):
        seed = 5000 + number
        one = scene(given.crowded, number)
        specimen = build_specimen(one, one.params(seed=seed), scene_species(one), np.random.default_rng(seed))
        boxes = SubvolumeDataset(
            [specimen],
            SubvolumeParams(
                box_size=SIDE,
                voxel_size_angstrom=VOXEL,
                turn="in-plane",
                tilt_range_deg=(58.0, 60.0),
                pre_tilt_deg=0.0,
                dose=(100.0, 130.0),
                thickness_angstrom=(1500.0, 1700.0),
            ),
            count=1,
            seed=seed,
        )
        box = boxes[0]
        volume = 0.5 * (box["half1"] + box["half2"])
        got = segmented(volume, VOXEL, None if given.votes else given.model)
        labels = got.labels.numpy()
        word = f"{'crowded' if given.crowded else 'bare'} {number} of {len(specimen.membranes)}"
        print_figures(word, labels, truth_of(box["membrane_distance"].numpy().astype(np.float64)), got.places_px)
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            middle = SIDE // 2
            rows = []
            for axis in (0, 1):
                grey = np.clip(volume.numpy().take(middle, axis) / (6.0 * float(volume.std())) + 0.5, 0, 1)
                true = np.abs(box["membrane_distance"].numpy().take(middle, axis)) <= 26.0
                rows.append(np.concatenate([grey, labels.take(middle, axis) > 0, true], axis=1))
            matplotlib.image.imsave(given.pictures / f"{word}.png", np.concatenate(rows)[::-1], cmap="gray")


if __name__ == "__main__":
    main()
