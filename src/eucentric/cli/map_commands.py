"""`eucentric sharpen` and `eucentric local-resolution`: of an average, or of half maps of any program."""

import sys
from pathlib import Path
from typing import Annotated

from eucentric.averaging.map_params import LocalResolutionParams, SharpenParams
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json


def sharpen(
    target: Path,
    /,
    *,
    half2: Path | None = None,
    output: Path | None = None,
    mask: Path | None = None,
    mtf: Path | None = None,
    voxel_size: float | None = None,
    settings: Annotated[SharpenParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Undo the fall of a map's amplitudes, weighted by how far its halves agree.

    The B factor is fitted to detail finer than 10 A; where the resolution is too low for that, none is made up.

    Parameters
    ----------
    target
        folder of an average, or half map 1
    half2
        half map 2, with a file as target
    output
        map to be made; map_sharpened.mrc in the folder of the average where not given
    mask
        volume of 0 to 1; that of the average, or a ball, where not given
    mtf
        table of the detector's MTF (STAR), to be divided out
    voxel_size
        A, of maps whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.half_maps import open_half_maps
    from eucentric.pipeline.map_measures import sharpen_files, told_sharpening

    del debug  # read by the program itself
    params = settings or SharpenParams()
    maps = open_half_maps(target, half2, device=resolve_device(device), mask=mask, voxel_size=voxel_size)
    made = sharpen_files(maps, output, params, mtf=mtf, overwrite=overwrite)
    fit = made.result.guinier
    words = f"B factor {made.result.b_factor:.0f} A^2"
    if made.result.fitted:
        words += f" (fitted, +- {fit.sigma:.0f})"
    sys.stdout.write(
        f"{made.correlation.resolution_angstrom:.1f} A (FSC 0.143 between halves), {words}. Wrote {made.path}.\n"
    )
    for caveat in made.result.caveats:
        sys.stdout.write(f"{caveat}\n")
    if as_json:
        told = told_sharpening(made.result, params, mtf)
        show_json({"exit_code": 0, "map": str(made.path), **told})
    return 0


def local_resolution(
    target: Path,
    /,
    *,
    half2: Path | None = None,
    output: Path | None = None,
    mask: Path | None = None,
    symmetry: str | None = None,
    voxel_size: float | None = None,
    settings: Annotated[LocalResolutionParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Measure the resolution of a map from place to place, and filter the map by it.

    Parameters
    ----------
    target
        folder of an average, or half map 1
    half2
        half map 2, with a file as target
    output
        volume of resolutions in A to be made, and beside it the filtered map; local_resolution.mrc and map_local.mrc in the
        folder of the average where not given
    mask
        volume of 0 to 1; that of the average, or a ball, where not given
    symmetry
        that was imposed on the maps; that of the average, or C1, where not given
    voxel_size
        A, of maps whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.half_maps import open_half_maps
    from eucentric.pipeline.map_measures import local_resolution_files

    del debug  # read by the program itself
    maps = open_half_maps(
        target, half2, device=resolve_device(device), mask=mask, symmetry=symmetry, voxel_size=voxel_size
    )
    made = local_resolution_files(maps, output, settings or LocalResolutionParams(), overwrite=overwrite)
    low, middle, high = (made.told[name] for name in ("p5_angstrom", "median_angstrom", "p95_angstrom"))
    sys.stdout.write(
        f"{middle:.1f} A in the middle, {low:.1f} to {high:.1f} A for nine tenths of the particle. "
        f"Wrote {made.path} and {made.filtered}.\n"
    )
    if as_json:
        show_json({"exit_code": 0, "map": str(made.path), "filtered": str(made.filtered), **made.told})
    return 0
