"""Noise-free volumes and images of a simulated series, and what lies in each voxel, as files."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from eucentric.compute import thread_count
from eucentric.io.mrc import MrcSlabWriter, MrcType
from eucentric.simulation import SimulatedSeries
from eucentric.simulation.bodies import specimen_bodies
from eucentric.simulation.label_volume import SpecimenLabels
from eucentric.simulation.potential_volume import potential_slab

_SLAB_VOXELS = 2**24  # of one piece of a volume; the work on it takes some fifteen times its 64 MB
_DISTANCE_LIMIT = 100.0


def truth_volume_shape(series: SimulatedSeries, voxel_size: float) -> tuple[int, int, int]:
    """(z, y, x) of a volume over the field of view and between the faces of the film, with 50 A to spare."""
    columns, rows = series.params.field_of_view_angstrom
    x, y = (np.linspace(-0.5, 0.5, 33) * length for length in (columns, rows))
    lower, upper = series.specimen.film.faces(*np.meshgrid(x, y))
    depth = 2.0 * (max(abs(float(lower.min())), abs(float(upper.max()))) + 50.0)
    z, y_size, x_size = (max(8, math.ceil(length / voxel_size - 1e-6)) for length in (depth, rows, columns))
    return z, y_size, x_size


def write_truth_volumes(folder: Path, name: str, series: SimulatedSeries, voxel_size: float) -> tuple[Path, ...]:
    """Write the specimen's potential, classes, instances and distance to membranes over the untilted field of view.

    ``<name>_clean.mrc`` (V above the ice, protein bright), ``<name>_labels.mrc``, ``<name>_instances.mrc`` (names of
    numbers are in the truth's JSON) and ``<name>_membrane_distance.mrc`` (A, positive outside, clipped at 100 A).

    Raises
    ------
    BackendError : the disk is full; no file is left half-written
    InputError : a place that may not be written to
    """
    shape = truth_volume_shape(series, voxel_size)
    bodies = specimen_bodies(series.specimen, voxel_size, np.random.default_rng(0))
    labels = SpecimenLabels(series.specimen, shape, voxel_size)
    kinds: dict[str, tuple[MrcType, str]] = {
        "clean": ("float32", "Potential above the ice in V: protein bright"),
        "labels": ("int16", "Classes; names under label_names in the truth"),
        "instances": ("int16" if _most(labels) < 2**15 else "float32", "Instances; label_instances in the truth"),
        "membrane_distance": ("float16", "A from the nearest mid-surface, positive outside, at most 100"),
    }
    paths = {kind: folder / f"{name}_{kind}.mrc" for kind in kinds}
    with contextlib.ExitStack() as stack:
        files = {
            kind: stack.enter_context(MrcSlabWriter(paths[kind], shape, voxel_size, dtype, labels=[text]))
            for kind, (dtype, text) in kinds.items()
        }
        for first, count in _slabs(shape):
            files["clean"].write(potential_slab(bodies, shape, voxel_size, first, count))
            distance, owner = labels.membrane_distance(first, count, _DISTANCE_LIMIT)
            classes, instances = labels.labels(first, count, distance, owner)
            files["labels"].write(classes)
            files["instances"].write(instances)
            files["membrane_distance"].write(distance)
    return tuple(paths.values())


def noise_free(series: SimulatedSeries, sampling: int = 1) -> SimulatedSeries:
    """The same series without motion in an exposure, without grain of the ice and before the camera.

    Parameters
    ----------
    sampling : 2 for pixels half as large over the same field
    """
    params = series.params
    columns, rows = params.image_size_px
    pixel = params.pixel_size_angstrom / sampling
    plain = params.replace(
        frames=1,
        ice_noise=0.0,
        mtf_at_nyquist=1.0,
        dqe_at_zero=1.0,
        local_motion_angstrom=0.0,
        image_size_px=(columns * sampling, rows * sampling),
        pixel_size_angstrom=pixel,
    )
    still = dataclasses.replace(
        series.acquisition,
        motion_angstrom=np.zeros((len(series.acquisition.geometry), 1, 2)),
        local_motion=None,
    )
    bodies = (
        series.bodies if sampling == 1 else specimen_bodies(series.specimen, pixel, np.random.default_rng(params.seed))
    )
    perfect = dataclasses.replace(series.detector, mtf=None)
    return dataclasses.replace(series, params=plain, acquisition=still, bodies=bodies, detector=perfect)


def write_clean_images(path: Path, series: SimulatedSeries, sampling: int) -> None:
    """Write a stack (tilt, y, x) of the electrons expected in each pixel without motion, grain and camera.

    The centre of pixel ``n // 2`` is where that of the recorded images is. Errors as `write_truth_volumes`.
    """
    plain = noise_free(series, sampling)
    columns, rows = plain.params.image_size_px
    count, together = len(plain.acquisition.geometry), thread_count()
    labels = ["Electrons expected in each pixel, without noise, motion and camera"]
    pixel = plain.params.pixel_size_angstrom
    with (
        MrcSlabWriter(path, (count, rows, columns), pixel, "float16", labels=labels, is_volume=False) as stack,
        ThreadPoolExecutor(together, initializer=torch.set_num_threads, initargs=(1,)) as executor,
    ):
        for first in range(0, count, together):
            for image in executor.map(plain.expected_frames, range(first, min(first + together, count))):
                stack.write(image[0].numpy())


def _most(labels: SpecimenLabels) -> int:
    return max((last for _, last in labels.table.instances.values()), default=0)


def _slabs(shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    """First section and number of sections of pieces that fit into memory."""
    thick = max(16, _SLAB_VOXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], thick):
        yield first, min(thick, shape[0] - first)
