"""How the model that comes with the program is made: `python -m eucentric.pipeline.train_shipped_picker MODEL --steps 1500`.

Everything comes from the simulator: built-in macromolecules of 0.15 to 4 MDa, as they are and as rings and shells of several
symmetries, in ice with vesicles and gold, through random tilt series. No measured data and no atomic model has a part in it.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from eucentric import __version__
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.atomic import write_bytes_atomic
from eucentric.networks.model_file import Model, load_plain, model_to_bytes
from eucentric.networks.params import AugmentParams, TrainingParams, UNetParams
from eucentric.networks.train_network import TrainingState, initialise, train_network
from eucentric.networks.unet import UNet
from eucentric.picking.learned.calibrate import Calibration
from eucentric.picking.learned.embedding import DIMENSIONS, EmbeddingTrainer, embedding_loss
from eucentric.picking.learned.params import PickerClass, PickerParams
from eucentric.picking.learned.simulated_patches import SimulatedSource
from eucentric.picking.learned.train_picker import PURPOSE, calibrate_picker, expect_background, spot_loss
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen

OBJECT = PickerClass(name="object", diameter_angstrom=160.0)
"""Any macromolecule: its spot has one size, as nobody knows its diameter."""
_SYMMETRIES = ("C1", "C1", "C3", "C6", "D2", "D7", "O", "C13")
_MASSES = tuple(float(m) for m in np.geomspace(150.0, 3500.0, 10))
_SPECIMENS = 4
_TRIES = 30
_COPIES = 8  # of each species in the field of view of a specimen
_HELD_OUT = 40


def all_species() -> list[Species]:
    """Every mass in every symmetry."""
    return [assembly(mass, group, variant=number) for mass in _MASSES for number, group in enumerate(_SYMMETRIES)]


def assembly(mass_kda: float, group: str, *, variant: int = 0) -> Species:
    """Copies of one built-in macromolecule about the axes of a symmetry, touching each other."""
    turns = symmetry_rotations(group)
    part = procedural_macromolecule(max(20.0, mass_kda / len(turns)), variant=variant)
    part = part.coarse(4.0)
    rng = np.random.default_rng([round(mass_kda), variant, 31])
    away = np.zeros(3)
    others = turns[[not np.allclose(turn, np.eye(3)) for turn in turns]]
    if len(others):
        # the compactest of some places: neighbours are as far apart as the macromolecule is wide
        directions = rng.normal(size=(_TRIES, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        apart = np.linalg.norm(np.einsum("nij,dj->dni", others, directions) - directions[:, None], axis=2).min(1)
        width = 1.7 * float(np.sqrt((part.points_angstrom**2).sum(1).mean()))
        best = int(apart.argmax())
        away = directions[best] * width / apart[best]
    points = np.concatenate([(part.points_angstrom + away) @ turn.T for turn in turns])
    return Species(
        name=f"{group}_{mass_kda:.0f}kDa_{variant}",
        mass_kda=mass_kda,
        points_angstrom=points - points.mean(0),
        weights=np.tile(part.weights, len(turns)),
    )


def specimens(species: list[Species], seed: int) -> list[Specimen]:
    """Crowded ice, the species dealt among several specimens evenly."""
    params = SimulationParams(
        thickness_angstrom=1800.0,
        particles_per_species=(_COPIES,) * len(species),
        vesicles=2,
        beads=6,
        image_size_px=(700, 700),
        pixel_size_angstrom=6.0,
        tilt_max_deg=3.0,
        tilt_min_deg=-3.0,
        seed=seed,
    )
    return [Specimen.build(params, species, np.random.default_rng([seed, n])) for n in range(_SPECIMENS)]


def main() -> None:
    """Train, calibrate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    species = all_species()
    params = PickerParams(steps=given.steps, complete=True)
    shape = UNetParams(out_channels=2 + DIMENSIONS, width=params.width, levels=params.levels)
    count = given.steps * params.batch_size + _HELD_OUT
    source = SimulatedSource(
        specimens(species, given.seed),
        [0] * len(species),
        [OBJECT],
        params,
        AugmentParams(),
        seed=given.seed,
        count=count,
    )
    network = UNet(shape)
    initialise(network, given.seed)
    expect_background(network)
    trainer = EmbeddingTrainer(network, len(species), given.seed)
    stopped = given.model.with_suffix(".state")
    state = None
    if stopped.is_file():
        state = TrainingState.from_dict(load_plain(stopped.read_bytes(), str(stopped), "state of a training"))
    started = time.monotonic()

    def checkpoint(now: TrainingState) -> None:
        torch.save(now.to_dict(), stopped)

    def tell(step: int, steps: int, loss: float) -> None:
        if step % 25 == 0:
            print(f"{step} of {steps}, loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201

    train_network(
        trainer,
        source.batch,
        embedding_loss(spot_loss(params)),
        TrainingParams(
            steps=params.steps,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            checkpoint_steps=params.checkpoint_steps,
        ),
        torch.device("cpu"),
        state=state,
        on_checkpoint=checkpoint,
        on_step=tell,
    )
    calibration = _calibrated(network, source, params)
    model = Model(
        purpose=PURPOSE,
        network=shape,
        weights=dict(network.state_dict()),
        settings={
            "voxel_size_angstrom": params.voxel_size_angstrom,
            "classes": [OBJECT.model_dump()],
            "spot": params.spot,
            "embedding": DIMENSIONS,
            "calibrations": [calibration.to_dict()],
        },
        provenance={
            "eucentric": __version__,
            "data": f"simulated: {len(species)} species in {_SPECIMENS} specimens",
            "seed": given.seed,
            "parameters": params.model_dump(),
        },
    )
    write_bytes_atomic(given.model, model_to_bytes(model))
    print(calibration)  # noqa: T201


def _calibrated(network: UNet, source: SimulatedSource, params: PickerParams) -> Calibration:
    return calibrate_picker(network, source.held_out(_HELD_OUT), [OBJECT], params)[0]


if __name__ == "__main__":
    main()
