"""Training boxes on disk: one file a box, and what the numbers in them mean."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.compute import thread_count
from eucentric.io.atomic import atomic_path, make_folder, write_text_atomic
from eucentric.simulation.build_specimen import build_specimen
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.scene import Scene
from eucentric.simulation.species import Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams
from eucentric.typing import PathLike

_HALF_PRECISION = ("half1", "half2", "clean", "wedge", "membrane_distance")
_BOXES_A_SPECIMEN = 500  # turned and shifted at random they are hardly alike


def training_specimens(
    scene: Scene | None, params: SimulationParams, species: Sequence[Species] | None, *, boxes: int
) -> tuple[Specimen, ...]:
    """As many specimens as so many boxes should come from; `params.seed` fixes them.

    Parameters
    ----------
    scene : None for what `params` says
    species : of the scene, in its order; None for the built-in ones of `params`

    Raises
    ------
    InputError, ProcessingError : as :func:`eucentric.simulation.build_specimen.build_specimen`
    """
    kinds = list(species or map(procedural_macromolecule, params.macromolecules_kda))

    def build(number: int) -> Specimen:
        rng = np.random.default_rng([params.seed, number])
        return Specimen.build(params, kinds, rng) if scene is None else build_specimen(scene, params, kinds, rng)

    return tuple(build(number) for number in range(max(1, round(boxes / _BOXES_A_SPECIMEN))))


def write_training_boxes(
    folder: PathLike,
    specimens: Sequence[Specimen],
    params: SubvolumeParams,
    *,
    count: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write `boxes/box_00000.npz` and so on, arrays named as :class:`SubvolumeDataset` names them, and `boxes/boxes.json`.

    Volumes are kept as float16, labels as int16. A box that stands is whole.

    Raises
    ------
    InputError : no box asked for, or a folder that cannot be written to
    BackendError : the disk is full
    """
    dataset = SubvolumeDataset(specimens, params, count=count, seed=seed)
    place = Path(folder) / "boxes"
    make_folder(place)
    about = {"classes": list(dataset.classes), "count": count, "seed": seed, "settings": params.model_dump(mode="json")}
    write_text_atomic(place / "boxes.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")

    def write(index: int) -> Path:
        path = place / f"box_{index:05d}.npz"
        arrays: dict[str, Any] = {name: value.numpy() for name, value in dataset[index].items()}
        for name in _HALF_PRECISION:
            arrays[name] = arrays[name].astype(np.float16)
        arrays["labels"] = arrays["labels"].astype(np.int16)
        arrays["instances"] = arrays["instances"].astype(np.int32)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path

    executor = ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        jobs = [executor.submit(write, index) for index in range(count)]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress(done, count)
        return tuple(job.result() for job in jobs)
    finally:
        executor.shutdown(cancel_futures=True)
