"""One tomogram restored by a network or by constraints, from the command line."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eucentric.cli.options import RunOptions, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.restore_files import RestoredFile

VOLUMES = (".mrc", ".rec", ".map")
"""Endings of what is one tomogram and no project or table."""


@dataclass(frozen=True, slots=True)
class OneTomogram:
    """A tomogram that belongs to no project."""

    path: Path
    output: str | None
    half1: Path | None
    half2: Path | None
    pixel_size: float | None
    tilt_range: tuple[float, float] | None


def check_tilt_range(given: tuple[float, float] | None) -> None:
    """The lowest tilt comes first.

    Raises
    ------
    InputError : it does not, or they are no tilts
    """
    if given is not None and not -90.0 < given[0] < given[1] < 90.0:
        raise InputError(
            f"--tilt-range is {given[0]:g} to {given[1]:g}; expected the lowest and the highest tilt in degrees."
        )


def restore_one(one: OneTomogram, word: str, options: RunOptions, restore: "Callable[..., RestoredFile]") -> int:
    """Restore it, and tell what came out.

    Parameters
    ----------
    word : what it then is, for its name
    restore : source, output, and by name `device` and `on_progress`
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.geometry import TiltGeometry
    from eucentric.models.tomogram_frames import tomogram_name
    from eucentric.pipeline.denoise_files import AVERAGING_USES_RAW
    from eucentric.pipeline.reprojecting import refuse_to_replace
    from eucentric.pipeline.restore_files import RestoreSource

    if (one.half1 is None) != (one.half2 is None):
        raise InputError("Only one half was given. Give both, --half1 and --half2, or none.")
    given = [path for path in (one.path, one.half1, one.half2) if path is not None]
    for path in given:
        if not path.is_file():
            raise InputError(f"`{path}` does not exist. Give an MRC volume.")
    check_tilt_range(one.tilt_range)
    place = Path(one.output) if one.output else one.path.with_name(f"{one.path.stem}_{word}.mrc")
    outputs = [place] if one.half1 is None else [place, place.with_name(f"{place.stem}_sigma{place.suffix}")]
    refuse_to_replace(outputs, given, options.overwrite)
    made = restore(
        RestoreSource(
            name=tomogram_name(one.path.name),
            path=one.path,
            half1=one.half1,
            half2=one.half2,
            geometry=None if one.tilt_range is None else TiltGeometry.build(one.tilt_range),
            voxel_size_angstrom=one.pixel_size,
        ),
        place,
        device=resolve_device(options.device),
    )
    written = [made.path] if made.sigma is None else [made.path, made.sigma]
    for line in (*made.caveats, *(f"Wrote {path}." for path in written), AVERAGING_USES_RAW):
        sys.stdout.write(line + "\n")
    if options.as_json:
        values = {"volume": str(made.path), "sigma": None if made.sigma is None else str(made.sigma)}
        show_json({"exit_code": 0, **values, "figures": made.figures, "caveats": list(made.caveats)})
    return 0
