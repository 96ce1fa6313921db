"""Decoys: molecules that are not there, but to which noise and other molecules answer as they answer to a template."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.picking.params import MatchParams
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_OUTLINE = (
    3.0  # over the diameter: the frequency below which a decoy has the phases of its template; pores and arms too
)
_ROUNDS, _EVERY = 20, 7


def decoy_count(template: Template, params: MatchParams) -> int:
    """How many decoys a template gets; a ball none, which scrambled or mirrored is a ball again."""
    if template.isotropic:
        return 0
    scrambled = params.scrambled_decoys if params.decoys in ("scrambled", "both") else 0
    return scrambled + (params.decoys in ("mirrored", "both"))


def decoys_of(
    template: Template, frame: FloatArray, params: MatchParams, seed: int
) -> list[tuple[Template, FloatArray]]:
    """As many as :func:`decoy_count` tells, and the axes of each.

    Parameters
    ----------
    frame : (3, 3) rotation to the axes of the template's symmetry
    """
    out: list[tuple[Template, FloatArray]] = []
    if not decoy_count(template, params):
        return out
    if params.decoys in ("scrambled", "both"):
        generator = seeded_generator(seed)
        out += [(scrambled_template(template, frame, generator), frame) for _ in range(params.scrambled_decoys)]
    if params.decoys in ("mirrored", "both"):
        mirror = np.diag([-1.0, 1.0, 1.0])
        out.append((template.mirrored(), mirror @ frame @ mirror))
    return out


def scrambled_template(template: Template, frame: FloatArray, generator: torch.Generator) -> Template:
    """A molecule of the same power spectrum, densities, rough outline and symmetry, whose inner order is chance.

    Phases of detail finer than a third of the diameter begin random; then, in turn, the amplitudes of each shell are put right and
    the densities in the ball of the template get the values that its own have, rank by rank, so that the decoy is as
    solid as a molecule. Noise and other molecules of about its size fit such a decoy as well as the template; the molecule
    itself fits the template alone.

    Parameters
    ----------
    frame : (3, 3) rotation Q such that ``Q g Q^T`` leaves the template as it is for every g of its group
    """
    n, side = template.density.shape[0], template.voxel_size_angstrom
    device = template.density.device
    own = torch.fft.rfftn(template.density)
    frequency = frequency_grid((n, n, n), side, device=device)
    shell = (frequency * (n * side)).round().long()
    count = torch.bincount(shell.reshape(-1))
    coarse = frequency < _OUTLINE / template.diameter_angstrom
    power = _shell_means(own, shell, count)
    axis = (torch.arange(n, device=device) - n // 2) * side
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    ball = distance <= 0.5 * template.diameter_angstrom + side
    values = template.density[ball].sort().values
    turns = frame @ symmetry_rotations(template.symmetry) @ frame.T
    box = _averaged(torch.randn((n, n, n), generator=generator).to(own.real) * ball, turns)
    for number in range(1, _ROUNDS + 1):
        spectrum = torch.fft.rfftn(box)
        spectrum = torch.where(coarse, own, spectrum * (power / _shell_means(spectrum, shell, count))[shell])
        box = torch.fft.irfftn(spectrum, s=(n, n, n))
        if number % _EVERY == 0:
            box = _averaged(box, turns)
        if number < _ROUNDS:
            ranked = torch.zeros_like(box)
            ranked[ball] = values[box[ball].argsort().argsort()]
            box = ranked
    return replace(template, name=f"{template.name}, scrambled", density=box * ball)


def _shell_means(spectrum: Tensor, shell: Tensor, count: Tensor) -> Tensor:
    """(shell,) root of the mean power."""
    total = torch.bincount(shell.reshape(-1), weights=spectrum.abs().square().reshape(-1).double())
    return (total / count.clamp_min(1)).clamp_min(1e-30).sqrt().to(spectrum.real.dtype)


def _averaged(box: Float[Tensor, "z y x"], turns: FloatArray) -> Float[Tensor, "z y x"]:
    """Mean of the copies turned about the middle voxel, linear between voxels."""
    if len(turns) == 1:
        return box
    n = box.shape[0]
    line = torch.arange(n, device=box.device, dtype=box.dtype) - n // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
    total = torch.zeros_like(box)
    for turn in turns:
        # the copy holds at p what the box holds at R^-1 p
        at = points @ torch.from_numpy(np.ascontiguousarray(turn)).to(points) + n // 2
        grid = (2.0 * at / (n - 1) - 1.0).reshape(1, n, n, n, 3)
        total += torch.nn.functional.grid_sample(box[None, None], grid, align_corners=True)[0, 0]
    return total / len(turns)
