"""`eucentric helix`: rise and twist from maps on disk, and maps with the helix imposed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eucentric.averaging.correlate_maps import HALF_MAPS, crossing_angstrom
from eucentric.averaging.find_helix import FoundHelix, HelixSearch, find_helix
from eucentric.averaging.helical_average import impose_helix, units_each_way
from eucentric.averaging.helix_params import HelixParams
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.io.mrc import write_mrc
from eucentric.pipeline.half_maps import open_half_maps
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace


@dataclass(frozen=True, slots=True, kw_only=True)
class HelixMade:
    """What was found and written."""

    search: HelixSearch
    output: Path | None
    imposed_before: bool
    """The maps had a helix imposed already: they can only tell that one."""

    def told(self) -> dict[str, Any]:
        """Plain numbers."""
        search = self.search
        return {
            **_told(search.best),
            "sigma_rise_angstrom": _finite(search.sigma_rise_angstrom),
            "sigma_twist_deg": _finite(search.sigma_twist_deg),
            "deviations": search.deviations,
            "low_pass_angstrom": search.low_pass_angstrom,
            "others": [_told(one) for one in search.others],
        }


def helix_of_files(
    target: Path,
    half2: Path | None,
    params: HelixParams,
    *,
    device: torch.device,
    output: Path | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> HelixMade:
    """Find a helix in the folder of an average, in half maps, or in one map; write the map with it imposed where wanted.

    Raises
    ------
    InputError : no such maps, maps that are no cubes, or a file in the way
    """
    if output is not None:
        refuse_to_replace([output], [target, *([] if half2 is None else [half2])], overwrite)
    imposed = False
    maps: tuple[Tensor, Tensor | None]
    if target.is_dir() or half2 is not None:
        opened = open_half_maps(target, half2, device=device, voxel_size=voxel_size)
        maps, voxel, imposed = (opened.half1, opened.half2), opened.voxel_size_angstrom, opened.helix is not None
    else:
        volume, voxel = read_volume(target, voxel_size, device)
        maps = (volume, None)
    if len(set(maps[0].shape)) != 1 or maps[0].shape[0] % 2:
        size = " x ".join(map(str, maps[0].shape))
        raise ShapeError(
            f"`{target}` has {size} voxels; expected a cube of even size, the filament along z through its middle."
        )
    if not bool(torch.isfinite(maps[0]).all()):
        raise InputError(f"`{target}` holds values that are no numbers. Make the map again.")
    search = find_helix(maps[0], maps[1], voxel, params, low_pass_angstrom=_detail(maps, voxel))
    if output is not None:
        helix, edge = search.best.helix, maps[0].shape[0] * voxel
        units_each_way(helix, edge, params.central_part)
        mean = maps[0] if maps[1] is None else 0.5 * (maps[0] + maps[1])
        made = impose_helix(mean, helix, voxel, params.central_part)
        label = f"helix: rise {helix.rise_angstrom:.4f} A, twist {helix.twist_deg:.4f} degrees, {helix.group}"
        write_mrc(output, made.cpu().numpy(), voxel, labels=("protein as in the map it is of", label))
    return HelixMade(search=search, output=output, imposed_before=imposed)


def _detail(maps: tuple[Tensor, Tensor | None], voxel: float) -> float:
    """A; as fine as the halves agree, 0 where that cannot be told."""
    if maps[1] is None:
        return 0.0
    frequency, curve = fourier_shell_correlation(maps[0], maps[1], voxel)
    seen = crossing_angstrom(frequency.cpu().double().numpy(), curve.cpu().double().numpy(), HALF_MAPS)
    return max(seen, 2.5 * voxel) if math.isfinite(seen) else 0.0


def _told(one: FoundHelix) -> dict[str, Any]:
    return {
        "rise_angstrom": one.helix.rise_angstrom,
        "twist_deg": one.helix.twist_deg,
        "symmetry": one.helix.group,
        "score": one.score,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
