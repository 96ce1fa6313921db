"""`eucentric helix`: rise and twist of a filament's map."""

import math
import sys
from pathlib import Path
from typing import Annotated

from eucentric.averaging.helix_params import HelixParams
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json


def helix(
    target: Path,
    /,
    *,
    half2: Path | None = None,
    output: Path | None = None,
    voxel_size: float | None = None,
    settings: Annotated[HelixParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find rise and twist of a filament in its map, or make known ones exact; write the map with the helix imposed.

    The filament runs along z through the middle of the box. Give maps without a helix imposed: an average made without
    --helical-rise-angstrom.

    Parameters
    ----------
    target
        folder of an average, half map 1, or one map
    half2
        half map 2: noise then does not count, and the two halves tell how well rise and twist are known
    output
        map to be made: the mean of the halves with the helix imposed
    voxel_size
        A, of maps whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a file that exists
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.helix_files import helix_of_files

    del debug  # read by the program itself
    made = helix_of_files(
        target,
        half2,
        settings or HelixParams(),
        device=resolve_device(device),
        output=output,
        voxel_size=voxel_size,
        overwrite=overwrite,
    )
    search, best = made.search, made.search.best
    known = math.isfinite(search.sigma_rise_angstrom)
    rise = f" +- {search.sigma_rise_angstrom:.3f}" if known else ""
    twist = f" +- {search.sigma_twist_deg:.3f}" if known else ""
    hand = "right" if best.helix.twist_deg > 0 else "left"
    sys.stdout.write(
        f"Rise {best.helix.rise_angstrom:.3f}{rise} A, twist {best.helix.twist_deg:.3f}{twist} degrees ({hand}-handed): units "
        f"correlate {best.score:.2f}, {search.deviations:.1f} deviations above other twists, detail to "
        f"{search.low_pass_angstrom:.1f} A.\n"
    )
    for other in search.others[:4]:
        sys.stdout.write(
            f"Also: rise {other.helix.rise_angstrom:.2f} A, twist {other.helix.twist_deg:.2f} degrees, {other.score:.2f}.\n"
        )
    if search.deviations < 3.0:
        sys.stdout.write("No helix stands out: other twists agree with the map as well.\n")
    if made.imposed_before:
        sys.stdout.write("A helix was imposed on this average already, and its maps can show no other one.\n")
    if made.output is not None:
        sys.stdout.write(f"Wrote {made.output}.\n")
    if as_json:
        show_json({"exit_code": 0, "map": None if made.output is None else str(made.output), **made.told()})
    return 0
