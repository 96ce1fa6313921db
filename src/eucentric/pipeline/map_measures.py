"""What is made of a finished average on disk: sharpened map, resolution by place and by direction."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.directional_fsc import (
    DirectionalCorrelation,
    correlate_directions,
    correlate_measured,
    measure_sampling,
)
from eucentric.averaging.helical_average import impose_helix
from eucentric.averaging.local_resolution import LocalResolution, estimate_local_resolution
from eucentric.averaging.map_params import DirectionParams, LocalResolutionParams, SharpenParams
from eucentric.averaging.params import AverageParams
from eucentric.averaging.results import AverageResult, HalfMapCorrelation
from eucentric.averaging.sharpening import SharpenedMap, sharpen_map
from eucentric.errors import InputError
from eucentric.geometry.helix import Helix
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.atomic import atomic_path
from eucentric.io.curves import read_curves
from eucentric.io.mrc import write_mrc
from eucentric.io.mtf import read_mtf
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.half_maps import HalfMaps, note
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.typing import FloatArray

SHARPENED, LOCAL, FILTERED, CURVES = "map_sharpened.mrc", "local_resolution.mrc", "map_local.mrc", "curves.npz"
MEASURES = (SHARPENED, LOCAL, FILTERED, CURVES)
_BRIGHT = "protein bright"
_LEAST_BOX = 16


def measure_average(folder: Path, result: AverageResult, symmetry: str, particles: ParticleSet) -> dict[str, Any]:
    """Write the sharpened map, the local resolution, the locally filtered map and curves; what to put into the record.

    Where the halves do not agree at all there is nothing to sharpen or to filter, and older files are removed.
    """
    for name in MEASURES:
        (folder / name).unlink(missing_ok=True)
    voxel, mask = result.voxel_size_angstrom, result.mask
    resolution = result.correlation.resolution_angstrom
    about: dict[str, Any] = {}
    curves: dict[str, FloatArray] = {"views": _views(particles, result.halves)}
    params = DirectionParams()
    sampling = measure_sampling(result.weights, voxel, resolution, params)
    about["sampling"] = {"efficiency": sampling.efficiency, "unmeasured": sampling.unmeasured}
    curves |= {"directions": sampling.directions, "sampling": sampling.density}
    curves["measured"] = correlate_measured(result.half1, result.half2, result.weights, mask=mask)
    if math.isfinite(resolution) and result.half1.shape[0] >= _LEAST_BOX:
        cones = correlate_directions(result.half1, result.half2, voxel, params, mask=mask, weights=result.weights)
        about["directions"] = _told_directions(cones)
        curves |= {"direction_angstrom": cones.resolution_angstrom, "cones": cones.correlation}
        sharpened = sharpen_map(result.half1, result.half2, voxel, result.correlation, SharpenParams(), mask=mask)
        write_mrc(folder / SHARPENED, _array(sharpened.volume), voxel, labels=(_BRIGHT,))
        about["sharpened"] = told_sharpening(sharpened, SharpenParams(), None)
        curves |= _guinier(sharpened)
        local = estimate_local_resolution(
            result.half1,
            result.half2,
            mask,
            voxel,
            LocalResolutionParams(),
            symmetry=symmetry_rotations(symmetry),
            impose=None if result.helix is None else partial(_helical, result.helix.helix, voxel),
        )
        about["local_resolution"] = _write_local(folder / LOCAL, folder / FILTERED, local, voxel)
    _write_curves(folder / CURVES, curves)
    return about


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sharpened:
    """A sharpened map on disk."""

    path: Path
    result: SharpenedMap
    correlation: HalfMapCorrelation


def sharpen_files(
    maps: HalfMaps, output: Path | None, params: SharpenParams, *, mtf: Path | None = None, overwrite: bool = False
) -> Sharpened:
    """Sharpen the mean of two half maps; `output`, or `map_sharpened.mrc` in the folder of the average.

    Raises
    ------
    InputError : no output for maps that lie elsewhere, a file in the way, halves that do not agree, an unfit MTF
    """
    path = _output(maps, output, SHARPENED)
    refuse_to_replace([path], list(maps.files), overwrite)
    table = None if mtf is None else read_mtf(mtf)
    correlation = maps.correlate()
    if not math.isfinite(correlation.resolution_angstrom):
        raise InputError(
            "The halves do not agree on anything inside the mask: there is nothing to sharpen. Check the mask."
        )
    made = sharpen_map(maps.half1, maps.half2, maps.voxel_size_angstrom, correlation, params, mask=maps.mask, mtf=table)
    write_mrc(path, _array(made.volume), maps.voxel_size_angstrom, labels=(_BRIGHT,))
    if maps.folder is not None and path.parent.resolve() == maps.folder.resolve():
        note(maps.folder, sharpened=told_sharpening(made, params, mtf))
        known = maps.folder / CURVES
        _write_curves(known, read_curves(known) | _guinier(made))
    return Sharpened(path=path, result=made, correlation=correlation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalMaps:
    """Resolution by place on disk."""

    path: Path
    filtered: Path
    told: dict[str, Any]


def local_resolution_files(
    maps: HalfMaps, output: Path | None, params: LocalResolutionParams, *, overwrite: bool = False
) -> LocalMaps:
    """Write the local resolution and the locally filtered map (`_filtered` beside another output).

    Raises
    ------
    InputError : no output for maps that lie elsewhere, or a file in the way
    """
    path = _output(maps, output, LOCAL)
    filtered = path.with_name(FILTERED) if output is None else path.with_name(f"{path.stem}_filtered{path.suffix}")
    refuse_to_replace([path, filtered], list(maps.files), overwrite)
    made = estimate_local_resolution(
        maps.half1,
        maps.half2,
        maps.mask,
        maps.voxel_size_angstrom,
        params,
        symmetry=symmetry_rotations(maps.symmetry),
        impose=None if maps.helix is None else partial(_helical, maps.helix, maps.voxel_size_angstrom),
    )
    told = _write_local(path, filtered, made, maps.voxel_size_angstrom)
    if maps.folder is not None and path.parent.resolve() == maps.folder.resolve():
        note(maps.folder, local_resolution=told)
    return LocalMaps(path=path, filtered=filtered, told=told)


def told_sharpening(made: SharpenedMap, params: SharpenParams, mtf: Path | None) -> dict[str, Any]:
    """Plain numbers for a record."""
    fit = made.guinier
    return {
        "b_factor": made.b_factor,
        "fitted": made.fitted,
        "fitted_b_factor": _finite(fit.b_factor),
        "fitted_b_factor_sigma": _finite(fit.sigma),
        "low_pass_angstrom": _finite(made.low_pass_angstrom),
        "mtf": None if mtf is None else str(mtf),
        "caveats": list(made.caveats),
        "settings": params.model_dump(mode="json"),
    }


def _helical(helix: Helix, voxel: float, volume: Tensor) -> Tensor:
    return impose_helix(volume, helix, voxel, AverageParams().helical_central_part)


def _told_directions(cones: DirectionalCorrelation) -> dict[str, Any]:
    return {
        "best_angstrom": _finite(cones.best_angstrom),
        "worst_angstrom": _finite(cones.worst_angstrom),
        "anisotropy": _finite(cones.anisotropy),
        "cone_deg": cones.cone_deg,
    }


def _write_local(path: Path, filtered: Path, made: LocalResolution, voxel: float) -> dict[str, Any]:
    write_mrc(path, _array(made.resolution_angstrom), voxel, labels=("local resolution in A",))
    write_mrc(filtered, _array(made.filtered), voxel, labels=(_BRIGHT,))
    low, middle, high = made.percentiles(5.0, 50.0, 95.0)
    return {"p5_angstrom": low, "median_angstrom": middle, "p95_angstrom": high}


def _views(particles: ParticleSet, halves: np.ndarray) -> FloatArray:
    """(particle, 3): where the untilted beam comes from in each particle's own frame; of those that count."""
    out: FloatArray = particles.rotations[halves > 0][:, 2, :].astype(np.float32)
    return out


def _guinier(made: SharpenedMap) -> dict[str, FloatArray]:
    fit = made.guinier
    return {
        "guinier_squared_frequency": fit.squared_frequency,
        "guinier_log_amplitude": fit.log_amplitude,
        "guinier_fitted": fit.fitted,
        "guinier_line": np.array([fit.offset, fit.b_factor, fit.sigma]),
    }


def add_curves(folder: Path, curves: dict[str, FloatArray]) -> None:
    """Put arrays beside those that the folder of an average keeps already."""
    _write_curves(folder / CURVES, read_curves(folder / CURVES) | curves)


def _write_curves(path: Path, curves: dict[str, FloatArray]) -> None:
    with atomic_path(path) as passing, passing.open("wb") as file:
        np.savez_compressed(file, **curves)  # type: ignore[arg-type]


def _output(maps: HalfMaps, output: Path | None, usual: str) -> Path:
    if output is not None:
        return output
    if maps.folder is None:
        raise InputError(
            "Give the file to be made with --output; only in the folder of an average is there a usual place."
        )
    return maps.folder / usual


def _array(volume: Tensor) -> np.ndarray:
    out: np.ndarray = volume.detach().to(torch.float32).cpu().numpy()
    return out


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
