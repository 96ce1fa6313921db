"""One pass over particles, aligned and summed, by one worker or shared among several."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.iterate_average import Aligned, SeriesParticles, align_and_sum
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceMaps:
    """Filtered and masked maps of both halves, on the voxels of the boxes."""

    volumes: tuple[Tensor, Tensor]
    voxel_size_angstrom: float
    low_pass_angstrom: float
    diameter_angstrom: float

    def built(self, device: torch.device) -> tuple[AlignReference, AlignReference]:
        """Their transforms."""
        first, second = (
            AlignReference.build(
                volume.to(device),
                self.voxel_size_angstrom,
                low_pass_angstrom=self.low_pass_angstrom,
                diameter_angstrom=self.diameter_angstrom,
            )
            for volume in self.volumes
        )
        return first, second


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignPart:
    """Particles for one worker, and what to do with them."""

    opened: ParticleJob
    halves: NDArray[np.int64]
    """(particle,), 1 or 2."""
    references: ReferenceMaps | None = None
    """None sums with the poses that the list holds."""
    params: AlignParams = field(default_factory=AlignParams)
    symmetry: str = "C1"
    expected: tuple[FloatArray, FloatArray] | None = None
    """Positions in A and rotations that priors are about."""

    def of(self, rows: NDArray[np.int64]) -> "AlignPart":
        """Some of the particles."""
        particles = self.opened.particles.select(rows)
        series = {name: self.opened.series[name] for name in particles.tomogram_names}
        expected = None if self.expected is None else (self.expected[0][rows], self.expected[1][rows])
        return replace(
            self,
            opened=replace(self.opened, particles=particles, series=series),
            halves=self.halves[rows],
            expected=expected,
        )


def align_parts(
    whole: AlignPart, executor: Executor | None = None, on_step: Callable[[float], None] | None = None
) -> Aligned:
    """All particles aligned and summed.

    Parameters
    ----------
    executor : of the workers; all in this process where None or where it has one only
    on_step : told the part that is done
    """
    if executor is None or executor.slots == 1:
        return _align(whole, on_step)
    rows = _shared(whole.opened.particles.tomograms, executor.slots)
    if on_step is not None:
        on_step(0.0)
    done = executor.map(_align, [whole.of(part) for part in rows])
    if on_step is not None:
        on_step(1.0)
    return Aligned.joined(done, rows)


def _align(part: AlignPart, on_step: Callable[[float], None] | None = None) -> Aligned:
    opened, done = part.opened, 0
    particles = opened.particles

    def step(count: int) -> None:
        nonlocal done
        done += count
        if on_step is not None:
            on_step(done / len(particles))

    return align_and_sum(
        [
            SeriesParticles(rows=np.flatnonzero(particles.tomograms == name), images=partial(opened.open_series, name))
            for name in particles.tomogram_names
        ],
        particles.positions_angstrom,
        particles.rotations,
        part.halves,
        None if part.references is None else part.references.built(opened.device),
        part.params,
        symmetry=part.symmetry,
        expected=part.expected,
        on_step=step,
    )


def _shared(tomograms: NDArray[np.str_], slots: int) -> list[NDArray[np.int64]]:
    """Rows of each part: of one series each, about as many parts as keep all workers busy."""
    most = max(1, math.ceil(len(tomograms) / slots))
    out = []
    for name in dict.fromkeys(tomograms.tolist()):
        rows = np.flatnonzero(tomograms == name)
        out += np.array_split(rows, math.ceil(len(rows) / most))
    return out
