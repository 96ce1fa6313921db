"""`eucentric denoise`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from eucentric.cli.options import SETTINGS, RunOptions, run_and_show, show_json, show_summary
from eucentric.cli.restore_one import VOLUMES, OneTomogram, restore_one
from eucentric.denoising.params import DenoiseParams
from eucentric.errors import InputError
from eucentric.pipeline.summary import RunSummary

_DEFAULT = RunOptions()


def denoise(
    target: Path,
    /,
    *,
    output: str | None = None,
    half1: Path | None = None,
    half2: Path | None = None,
    pixel_size: float | None = None,
    voltage: float | None = None,
    spherical_aberration: float | None = None,
    amplitude_contrast: float | None = None,
    tilt_range: tuple[float, float] | None = None,
    settings: Annotated[DenoiseParams | None, SETTINGS] = None,
    options: RunOptions = _DEFAULT,
) -> int:
    """Denoise tomograms by a network or a filter, so that more is seen in them.

    Look at denoised tomograms, but average from the raw data: denoising changes what particles look like.
    The strength follows the noise, which is measured where half volumes are; a project's raw tomograms stay as they are. Beside the
    result of a network lies `NAME_sigma.mrc`, the standard deviation of every voxel.

    Parameters
    ----------
    target
        project, a table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder in the project, `denoise` where not given; or the file to be made of one tomogram
    half1
        first half volume, of one tomogram; a project knows its own
    half2
        second half volume
    pixel_size
        A per voxel of one tomogram whose header holds none
    voltage
        kV, to deconvolve one tomogram; 300 where not given
    spherical_aberration
        mm, for the same; 2.7 where not given
    amplitude_contrast
        part, for the same; 0.07 where not given
    tilt_range
        degrees, lowest and highest tilt of one tomogram, for networks; measured in it where not given
    """
    chosen = settings or DenoiseParams()
    optics = {
        "voltage_kv": voltage,
        "spherical_aberration_mm": spherical_aberration,
        "amplitude_contrast": amplitude_contrast,
    }
    optics = {name: value for name, value in optics.items() if value is not None}
    if target.suffix.lower() in VOLUMES and chosen.method == "network":
        from eucentric.pipeline.restore_files import denoise_by_network

        one = OneTomogram(target, output, half1, half2, pixel_size, tilt_range)
        return restore_one(one, "denoised", options, partial(denoise_by_network, use=chosen, model=chosen.model))
    if target.suffix.lower() in VOLUMES:
        return _one_file(target, output, half1, half2, pixel_size, optics, chosen, options)
    if half1 or half2 or pixel_size is not None or optics or tilt_range:
        raise InputError(
            "--half1, --half2, --pixel-size, --tilt-range and the microscope's options are for one tomogram; a project has its own."
        )
    from eucentric.pipeline.runner import run_stage

    changes = {} if settings is None else {field: getattr(settings, field) for field in settings.model_fields_set}
    work = partial(run_stage, target, "denoise", changes, output)
    return run_and_show(work, options, _show_project)


def _show_project(summary: RunSummary, options: RunOptions) -> int:
    from eucentric.pipeline.denoise_files import AVERAGING_USES_RAW

    sys.stdout.write(AVERAGING_USES_RAW + "\n")
    return show_summary(summary, options)


def _one_file(
    tomogram: Path,
    output: str | None,
    half1: Path | None,
    half2: Path | None,
    pixel_size: float | None,
    optics: dict[str, Any],
    params: DenoiseParams,
    options: RunOptions,
) -> int:
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.denoising.choose_filter import Transferred
    from eucentric.models.optics import Optics
    from eucentric.pipeline.denoise_files import AVERAGING_USES_RAW, VolumeSource, write_denoised
    from eucentric.pipeline.reprojecting import refuse_to_replace

    place = Path(output) if output else tomogram.with_name(f"{tomogram.stem}_{params.method}.mrc")
    for path in (tomogram, half1, half2):
        if path is not None and not path.is_file():
            raise InputError(f"`{path}` does not exist. Give an MRC volume.")
    refuse_to_replace([place], [p for p in (tomogram, half1, half2) if p is not None], options.overwrite)
    contrast = None
    if params.method == "deconvolve":
        if params.defocus_angstrom is None:
            raise InputError(f"The defocus of `{tomogram}` is not known. Give --defocus-angstrom.")
        contrast = Transferred(
            optics=Optics(**optics),
            defocus_angstrom=params.defocus_angstrom,
            phase_shift_deg=params.phase_shift_deg or 0.0,
            transfer="uncorrected" if params.transfer == "auto" else params.transfer,
        )
    made = write_denoised(
        VolumeSource(path=tomogram, half1=half1, half2=half2, voxel_size_angstrom=pixel_size),
        place,
        params,
        contrast=contrast,
        device=resolve_device(options.device),
    )
    for line in (*made.caveats, f"Wrote {made.path}.", AVERAGING_USES_RAW):
        sys.stdout.write(line + "\n")
    if options.as_json:
        show_json({"exit_code": 0, "volume": str(made.path), "figures": made.figures, "caveats": list(made.caveats)})
    return 0
