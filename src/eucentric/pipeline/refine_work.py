"""One tilt series of a round of sub-tilt refinement, as a worker takes it and gives it back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.errors import EucentricError
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.images import read_deformation, read_images
from eucentric.pipeline.reprojecting import project_of
from eucentric.pipeline.store import ItemStore
from eucentric.refinement.image_sums import References, RefinedParticles
from eucentric.refinement.params import RefineParams
from eucentric.refinement.refine_series import SeriesRefinement, SeriesRefiner, SpeciesImages
from eucentric.refinement.results import SeriesMemory
from eucentric.refinement.unknowns import SeriesState


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpeciesMaps:
    """What the particles of a species are compared with."""

    name: str
    extract: ExtractParams
    """Box and pixel size of the round."""
    references: tuple[Tensor, ...]
    """Maps that particles name by number, filtered and masked, on the voxels of the boxes."""
    finest_angstrom: float
    resolution_angstrom: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesTask:
    """A series and its particles."""

    series: TiltSeries
    table: Path
    species: tuple[SpeciesMaps, ...]
    particles: tuple[ParticleSet, ...]
    compared: tuple[NDArray[np.int64], ...]
    """(particle,) of each species: the number of the reference."""
    params: RefineParams
    memory: SeriesMemory
    device: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesDone:
    """What came of it."""

    name: str
    species: tuple[str, ...]
    """Names, in the order of the state's particles."""
    refinement: SeriesRefinement | None
    """None where it failed."""
    failure: str | None = None


def refine_task(task: SeriesTask) -> SeriesDone:
    """Refine one series; an error that its data caused is told and stops no other series."""
    names = tuple(s.name for s in task.species)
    try:
        done = _refined(task)
    except EucentricError as error:
        return SeriesDone(name=task.series.name, species=names, refinement=None, failure=str(error))
    except np.linalg.LinAlgError as error:
        why = f"Its equations could not be solved ({error}): its images or its geometry hold values that make no sense."
        return SeriesDone(name=task.series.name, species=names, refinement=None, failure=why)
    except torch.OutOfMemoryError:
        why = "The device has too little memory for it. Give --device cpu, or average with larger pixels."
        return SeriesDone(name=task.series.name, species=names, refinement=None, failure=why)
    return SeriesDone(name=task.series.name, species=names, refinement=done)


def _refined(task: SeriesTask) -> SeriesRefinement:
    device = torch.device(task.device)
    store = ItemStore(project_of(task.table), "", task.series.name)
    images = read_images(task.series, store, device)
    deformation = read_deformation(task.series, store)
    species, particles = [], []
    for maps, own, compared in zip(task.species, task.particles, task.compared, strict=True):
        source = prepare_series(images, task.series, maps.extract, warp=deformation.image, volume=deformation.volume)
        species.append(
            SpeciesImages(
                name=maps.name,
                source=source,
                references=References([v.to(device) for v in maps.references], source.pixel_size_angstrom),
                finest_angstrom=maps.finest_angstrom,
                resolution_angstrom=maps.resolution_angstrom,
            )
        )
        particles.append(
            RefinedParticles(
                positions_angstrom=own.positions_angstrom,
                rotations=own.rotations,
                references=compared,
                contrasts=np.ones(len(own)),
            )
        )
    state = SeriesState(series=task.series, deformation=deformation, particles=tuple(particles))
    return SeriesRefiner(species, task.params, task.memory).refine(state)
