"""The start of iterations: a structure or map, or the average of the poses given, in the frame of its symmetry."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.iterate_average import average_of, compared_detail, on_voxels
from eucentric.averaging.iterate_schedule import Round, box_for, pixel_size_for
from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.models.particles import ParticleSet
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template
from eucentric.pipeline.iterate_job import IterateJob, OnStep, filtered_references
from eucentric.pipeline.iteration_files import Iteration
from eucentric.pipeline.pick_templates import read_template
from eucentric.projection.symmetrise import turned_mean
from eucentric.typing import FloatArray


def start_map(
    job: IterateJob,
    particles: ParticleSet,
    reference: Path | None,
    reference_pixel_size: float | None,
    on_step: OnStep | None,
) -> Iteration:
    """Round 0: a map, the same for both halves, or the averages of the poses given.

    Axes of symmetry lie in any direction of a structure, or of what poses refer to: the start map is turned so that they lie
    along those of its group, and the poses with it.

    Raises
    ------
    InputError : a reference that does not fit into the box, or that is not symmetric so
    """
    low_pass = job.iterate.start_low_pass_angstrom
    pixel = pixel_size_for(low_pass, job.image_pixel, job.finest_pixel)
    box = box_for(job.edge_angstrom, pixel)
    helical = job.average.helix is not None
    symmetry = "C1" if helical else job.average.symmetry  # the axis of a helix is z, and nothing is turned
    if reference is not None:
        found = read_template(str(reference), voxel_size=pixel, symmetry=symmetry, pixel_size=reference_pixel_size)
        if found.diameter_angstrom > job.edge_angstrom and not helical:
            raise InputError(
                f"`{reference}` is {found.diameter_angstrom:.0f} A wide, and the box {job.edge_angstrom:.0f} A. Give a larger "
                "--box-size."
            )
        turn = symmetry_frame(found)
        density = _turned(on_voxels(found.density, pixel, pixel, box), turn)
        volume = _low_passed(density, pixel, low_pass).to(job.device)
        references = (volume, volume)
        diameter, resolution = min(found.diameter_angstrom, job.edge_angstrom), low_pass
        particles = particles.with_rotations(particles.rotations @ turn)
    else:
        what, none = "averaging the poses given", AlignParams()
        turn = np.eye(3)
        if len(symmetry_rotations(symmetry)) > 1:
            turn = _frame_of_poses(job, particles, pixel, box, low_pass, on_step)
            particles = particles.with_rotations(particles.rotations @ turn)
        result = average_of(job.align(particles, None, pixel, box, none, on_step, what), job.average, job.halves)
        low_pass = max(low_pass, compared_detail(result.correlation))
        diameter, references = filtered_references(result, low_pass, low_pass)
        resolution = result.correlation.resolution_angstrom
    first = Round(
        number=0,
        pixel_size_angstrom=pixel,
        resolution_angstrom=resolution,
        low_pass_angstrom=low_pass,
        change_deg=math.inf,
        change_angstrom=math.inf,
        score=math.inf,
    )
    return Iteration(
        history=(first,),
        particles=particles,
        references=references,
        voxel_size_angstrom=pixel,
        low_pass_angstrom=low_pass,
        diameter_angstrom=diameter,
        turn=turn,
    )


def _frame_of_poses(
    job: IterateJob, particles: ParticleSet, pixel: float, box: int, low_pass: float, on_step: OnStep | None
) -> FloatArray:
    """How the axes lie in the frame that poses refer to, from all detail of their average without symmetry."""
    plain = job.average.replace(symmetry="C1")
    aligned = job.align(particles, None, pixel, box, AlignParams(), on_step, "looking for the axes of symmetry")
    result = average_of(aligned, plain, job.halves)
    diameter, halves = filtered_references(result, compared_detail(result.correlation), low_pass)
    found = Template(
        name="of the poses given",
        density=halves[0] + halves[1],
        voxel_size_angstrom=pixel,
        diameter_angstrom=diameter,
        symmetry=job.average.symmetry,
    )
    return symmetry_frame(found)


def _turned(volume: Tensor, turn: FloatArray) -> Tensor:
    """What lay at Q x, at x."""
    return volume if np.allclose(turn, np.eye(3)) else turned_mean(volume, turn[None])


def _low_passed(volume: Tensor, voxel: float, low_pass: float) -> Tensor:
    shape = tuple(volume.shape)
    grid = frequency_grid(shape, voxel, device=volume.device)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * band_pass(grid, low_pass_angstrom=low_pass), s=shape)
    n = shape[0]
    line = torch.arange(n, dtype=out.dtype, device=out.device) - n // 2
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return out * soft_edge(radius, 0.5 * n - 3.0, 0.5 * n - 1.0)
