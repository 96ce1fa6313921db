"""`eucentric correct-stack`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json

if TYPE_CHECKING:
    from eucentric.pipeline.corrected_series import CorrectedStack


def correct_stack(
    source: Path,
    /,
    *,
    output: Path,
    only: Annotated[list[str] | None, SEVERAL] = None,
    mode: Literal["flip", "wiener", "multiply"] = "flip",
    aligned: Switch = False,
    dose_weighting: Switch = False,
    defocus_tolerance_angstrom: float | None = None,
    b_factor: Annotated[float, Parameter(allow_leading_hyphen=True)] = 0.0,
    pixel_size: float | None = None,
    halves: Switch = False,
    float32: Switch = False,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write tilt stacks that are corrected for their contrast transfer, with the defocus of every strip of a tilted image.

    For other programs, and for a look. `reconstruct` does this by itself and starts from the images as they are. Beside
    each stack stand its angles (`.tlt` aligned, `.rawtlt` of the stage) and IMOD's transforms (`.xf`); `tilt_series.star`
    lists all. Tilts ascend, protein is dark.

    Parameters
    ----------
    source
        project, or a table such as `ctf/tilt_series.star`
    output
        folder to be made: `NAME.mrc` for each series
    only
        names of tilt series; wildcards allowed
    mode
        flip corrects the signs and leaves noise as it is; wiener the strengths too, as far as the noise allows;
        multiply weighs detail by what was recorded of it, for programs that divide by CTF squared
    aligned
        turn the tilt axis onto y and take out shifts and local deformation, in one interpolation
    dose_weighting
        fade the detail that radiation had destroyed; with wiener, restore what is left of it. Leave it out where the next
        program weighs for dose
    defocus_tolerance_angstrom
        A of defocus that a pixel may be away from the strip it is corrected with; chosen by the pixel size where not
        given, so that the phase at the Nyquist frequency is right to 0.4
    b_factor
        A2, of a fall-off exp(-B k^2 / 4) that wiener undoes and multiply weighs by; 0 takes the images for what they are
    pixel_size
        A, of the stack, from that of the images upwards
    halves
        also write `NAME_half1.mrc` and `NAME_half2.mrc`, of even and odd frames
    float32
        store float32 instead of float16
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace stacks that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.corrected_series import StackSettings
    from eucentric.pipeline.correcting import correct_stack_files

    del debug  # read by the program itself
    done = correct_stack_files(
        source,
        output,
        settings=StackSettings(
            mode=mode,
            aligned=aligned,
            dose_weighting=dose_weighting,
            defocus_tolerance_angstrom=defocus_tolerance_angstrom,
            b_factor_angstrom2=b_factor,
            pixel_size_angstrom=pixel_size,
            halves=halves,
            float16=not float32,
        ),
        device=resolve_device(device),
        only=only,
        overwrite=overwrite,
        on_series=_show,
    )
    code = 1 if done.failed else 0
    if done.table is not None:
        sys.stdout.write(f"Listed in {done.table}.\n")
    if as_json:
        show_json(
            {
                "exit_code": code,
                "stacks": [str(p) for one in done.made for p in one.stacks],
                "table": None if done.table is None else str(done.table),
                "failed": done.failed,
            }
        )
    return code


def _show(made: "CorrectedStack | None", name: str, words: str) -> None:
    """A line as each series is done."""
    if made is None:
        sys.stderr.write(f"{name} failed. {words}\n")
        return
    y, x = made.image_shape
    sys.stdout.write(
        f"{name}: {made.tilts} images of {x} x {y} pixels of {made.pixel_size_angstrom:g} A, "
        f"{', '.join(str(p) for p in made.stacks)}.\n"
    )
    sys.stdout.flush()
