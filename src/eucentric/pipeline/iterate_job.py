"""What all iterations of an average share: particles, settings, halves; and one pass over all particles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.iterate_average import Aligned, diameter_of, filtered_half, joined_halves
from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.results import AverageResult
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.align_parts import AlignPart, ReferenceMaps, align_parts
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.typing import FloatArray

OnStep = Callable[[str, float], None]
"""Told what is being done and which part of it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterateSettings:
    """Everything that decides the result."""

    extract: ExtractParams
    average: AverageParams
    iterate: IterateParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IterateJob:
    """Particles at the sampling of the last map, and how they are aligned and averaged."""

    opened: ParticleJob
    average: AverageParams
    iterate: IterateParams
    halves: NDArray[np.int64]
    """(particle,), 1 or 2."""
    executor: Executor | None = None
    """None, or one with a single slot, for all in this process."""

    @property
    def image_pixel(self) -> float:
        """A, the coarsest of the images."""
        return max(s.pixel_size_angstrom for s in self.opened.series.values())

    @property
    def finest_pixel(self) -> float:
        """A, of the last map."""
        return self.opened.pixel_size_angstrom

    @property
    def edge_angstrom(self) -> float:
        """Of the box, the same in every iteration."""
        return self.opened.params.box_size * self.finest_pixel

    @property
    def device(self) -> torch.device:
        return self.opened.device

    def align(
        self,
        particles: ParticleSet,
        references: ReferenceMaps | None,
        pixel: float,
        box: int,
        params: AlignParams,
        on_step: OnStep | None,
        what: str,
        *,
        turn: FloatArray | None = None,
    ) -> Aligned:
        """All particles aligned to the reference of their half and summed; summed as they are where there is none.

        Priors are about the poses of the list that was opened, turned by `turn` (3, 3).
        """
        given = self.opened.particles
        if turn is not None:
            params = params.replace(own_axis=own_axis_of(turn))
        sampled = self.opened.params.replace(box_size=box, pixel_size_angstrom=pixel)
        whole = AlignPart(
            opened=replace(self.opened, params=sampled, pixel_size_angstrom=pixel, particles=particles),
            halves=self.halves,
            references=references,
            params=params,
            symmetry=self.average.symmetry,
            expected=None if turn is None else (given.positions_angstrom, given.rotations @ turn),
        )
        return align_parts(whole, self.executor, None if on_step is None else partial(on_step, what))


def own_axis_of(turn: FloatArray) -> tuple[float, float, float]:
    """Where z of the poses given points to in a reference that was turned by Q (3, 3): what lay at Q x lies at x."""
    x, y, z = turn[2].tolist()
    return x, y, z


def filtered_references(
    result: AverageResult, low_pass: float, joined_angstrom: float
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Diameter of the particle in A, and both halves as the next iteration aligns to them.

    Parameters
    ----------
    low_pass : A, the finest detail that counts
    joined_angstrom : coarser detail is that of both halves together
    """
    halves = [filtered_half(h, result.mask, result.correlation, low_pass) for h in (result.half1, result.half2)]
    pair = joined_halves(halves[0], halves[1], result.voxel_size_angstrom, joined_angstrom)
    return diameter_of(pair[0] + pair[1], result.voxel_size_angstrom), pair
