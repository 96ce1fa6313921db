"""Whether the maps that an average holds are what its particles give, or their mirror images."""

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.io.mrc import read_mrc
from eucentric.pipeline.refine_maps import SummedSpecies
from eucentric.pipeline.refine_species import Species

_ALIKE = 0.7
"""Correlation above which maps are taken for the same."""
_BETTER = 0.1


def check_given_maps(species: Species, made: SummedSpecies) -> None:
    """Compare the maps in the folder of an average with what its particles give, and with its mirror image.

    Raises
    ------
    InputError : other maps, or maps of the other hand
    """
    first, second = (torch.from_numpy(np.array(read_mrc(species.folder / f"half{n}.mrc")[0])) for n in (1, 2))
    volume = 0.5 * (first + second)
    result = made.result
    if volume.shape != result.volume.shape:
        raise InputError(
            f"The half maps in `{species.folder}` have {volume.shape[0]} voxels along an edge, and its particles give "
            f"{len(result.volume)}. Average them again."
        )
    detail = max(
        20.0, result.correlation.resolution_angstrom if np.isfinite(result.correlation.resolution_angstrom) else 40.0
    )
    voxel, mask = result.voxel_size_angstrom, result.mask.cpu()
    ours = _low_passed(0.5 * (result.half1 + result.half2).cpu() * mask, voxel, detail)
    theirs = _low_passed(volume * mask, voxel, detail)
    direct = _likeness(ours, theirs)
    if direct >= _ALIKE:
        return
    mirrored = superpose_maps(
        ours, _low_passed(volume.flip(0).roll(1, 0) * mask, voxel, detail), voxel, detail_angstrom=detail,
        diameter_angstrom=0.6 * len(volume) * voxel,
    ).likeness  # fmt: skip
    if mirrored > direct + _BETTER:
        raise InputError(
            f"The half maps in `{species.folder}` are mirror images of what its particles give (correlation {mirrored:.2f} after "
            f"mirroring, {direct:.2f} as they are): they have the wrong hand. Average the particles again, and check rlnTomoHand and "
            "the sign of the tilt angles."
        )
    raise InputError(
        f"The half maps in `{species.folder}` are not what its particles give (correlation {direct:.2f}): the list, the series or the "
        "maps were changed. Average the particles again."
    )


def _low_passed(volume: Tensor, voxel: float, detail: float) -> Tensor:
    shape = tuple(volume.shape)
    gain = band_pass(frequency_grid(shape, voxel), low_pass_angstrom=detail)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=shape)
    return out


def _likeness(first: Tensor, second: Tensor) -> float:
    a, b = first - first.mean(), second - second.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-30))
