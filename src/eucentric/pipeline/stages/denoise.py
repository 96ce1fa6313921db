"""Filters as a stage: denoised tomograms of a project beside the raw ones."""

from pathlib import Path

import numpy as np
import torch

from eucentric.denoising.choose_filter import Transferred, filter_bytes
from eucentric.denoising.params import DenoiseParams, Transfer
from eucentric.errors import InputError
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.denoise_files import VolumeSource, write_denoised
from eucentric.pipeline.records import read_record
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore
from eucentric.reconstruction.params import ReconstructParams

_LOW_TILT_DEG = 20.0
_CORRECTIONS: dict[str, Transfer] = {
    "none": "uncorrected",
    "flip": "flipped",
    "multiply": "multiplied",
    "wiener": "corrected",
}


class DenoiseTomograms(ItemStage):
    """Filter tomograms for the eye. Runs when it is asked for; no other stage reads what it writes unless told to."""

    name, params, version, after = "denoise", DenoiseParams, 1, "reconstruct"

    def peak_bytes(self, series: TiltSeries, params: DenoiseParams) -> int:
        """The volume as float32, and what the filter holds beside it."""
        voxels = 0 if series.tomogram is None else int(np.prod(series.tomogram.shape_zyx))
        return 2**29 + 4 * voxels + filter_bytes(params.method, voxels)

    def run(self, series: TiltSeries, params: DenoiseParams, store: ItemStore, device: torch.device) -> Outcome:
        """Filter the tomogram; the result has its name, and takes its place in the table."""
        tomogram = series.tomogram
        if tomogram is None:
            raise InputError(f"{series.name} has no tomogram to denoise. Run `eucentric reconstruct` first.")
        caveats: tuple[str, ...] = ()
        contrast = None
        if params.method == "deconvolve":
            contrast, caveats = _contrast(series, tomogram, params, store.root)
        halves = [None if half is None else store.resolve(half) for half in (tomogram.half1, tomogram.half2)]
        if not all(half is not None and half.is_file() for half in halves):
            halves = [None, None]
        made = write_denoised(
            VolumeSource(
                path=store.resolve(tomogram.path),
                half1=halves[0],
                half2=halves[1],
                voxel_size_angstrom=tomogram.voxel_size_angstrom,
            ),
            store.output("tomograms", f"{series.name}.mrc"),
            params,
            contrast=contrast,
            device=device,
            seed=store.seed,
            on_progress=lambda part: store.progress(part, params.method),
        )
        written = Tomogram(
            path=store.relative(made.path),
            voxel_size_angstrom=tomogram.voxel_size_angstrom,
            shape_zyx=tomogram.shape_zyx,
        )
        return Outcome(series=series.replace(tomogram=written), metrics=made.figures, caveats=(*caveats, *made.caveats))


def _contrast(
    series: TiltSeries, tomogram: Tomogram, params: DenoiseParams, root: Path
) -> tuple[Transferred, tuple[str, ...]]:
    """Defocus of the images that are tilted least, and what the reconstruction did about it."""
    if series.optics is None:
        raise InputError(
            f"The contrast of {series.name} is no CTF's: deconvolution would harm it. Use --method wavelet."
        )
    fits = [t.ctf for t in series.tilts if t.ctf is not None and abs(t.nominal_tilt_deg) <= _LOW_TILT_DEG]
    fits = fits or [t.ctf for t in series.tilts if t.ctf is not None]
    defocus, phase = params.defocus_angstrom, params.phase_shift_deg
    if defocus is None and not fits:
        raise InputError(
            f"No defocus is known of {series.name}. Run `eucentric ctf` before the reconstruction, or give --defocus-angstrom."
        )
    transfer: Transfer = params.transfer
    caveats: tuple[str, ...] = ()
    if transfer == "auto":
        transfer, caveats = _recorded_transfer(series, tomogram, root)
    if transfer == "corrected":
        caveats = (*caveats, "The contrast transfer is undone already: only the filter against noise was applied.")
    made = Transferred(
        optics=series.optics,
        defocus_angstrom=float(np.median([f.defocus_angstrom for f in fits])) if defocus is None else defocus,
        phase_shift_deg=phase
        if phase is not None
        else float(np.median([f.phase_shift_deg for f in fits]))
        if fits
        else 0.0,
        transfer=transfer,
    )
    return made, caveats


def _recorded_transfer(series: TiltSeries, tomogram: Tomogram, root: Path) -> tuple[Transfer, tuple[str, ...]]:
    """By the record beside the tomogram."""
    folder = (root / tomogram.path).parent.parent
    record = read_record(folder, series.name)
    if record is None or record.stage != "reconstruct":
        return "uncorrected", (
            "How the tomogram was reconstructed is not recorded; its contrast transfer was taken as uncorrected. "
            "Give --transfer where it is not.",
        )
    settings = ReconstructParams.model_validate(record.parameters)
    used = settings.resolved(has_ctf=series.has_ctf, has_halves=series.has_halves)
    return ("corrected" if used.method == "ctf" else _CORRECTIONS[used.ctf_correction]), ()
