"""Denoising as a stage: denoised tomograms of a project beside the raw ones."""

from pathlib import Path

import numpy as np
import torch

from eucentric.denoising.choose_filter import Transferred, filter_bytes
from eucentric.denoising.params import DenoiseParams, Transfer
from eucentric.errors import InputError
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.denoise_files import VolumeSource, write_denoised
from eucentric.pipeline.recorded_transfer import recorded_transfer
from eucentric.pipeline.restore_files import denoise_by_network, restore_bytes
from eucentric.pipeline.restore_stage import half_files, model_files, model_path, restore_source, restored_outcome
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

_LOW_TILT_DEG = 20.0


class DenoiseTomograms(ItemStage):
    """Denoise tomograms for the eye. Runs when it is asked for; no other stage reads what it writes unless told to."""

    name, params, version, after = "denoise", DenoiseParams, 2, "reconstruct"

    @classmethod
    def joins_runs(cls, params: DenoiseParams) -> bool:
        """Where the plan says so."""
        return params.with_run

    def reads(self, series: str, params: DenoiseParams, root: Path) -> tuple[Path, ...]:
        """The model, where it is a file."""
        del series
        return model_files(params.model, root) if params.method == "network" else ()

    def peak_bytes(self, series: TiltSeries, params: DenoiseParams) -> int:
        """The volume as float32, and what the filter or network holds beside it."""
        voxels = 0 if series.tomogram is None else int(np.prod(series.tomogram.shape_zyx))
        if params.method == "network":
            return restore_bytes(voxels)
        return 2**29 + 4 * voxels + filter_bytes(params.method, voxels)

    def run(self, series: TiltSeries, params: DenoiseParams, store: ItemStore, device: torch.device) -> Outcome:
        """Denoise the tomogram; the result has its name, and takes its place in the table."""
        tomogram = series.tomogram
        if tomogram is None:
            raise InputError(f"{series.name} has no tomogram to denoise. Run `eucentric reconstruct` first.")
        if params.method == "network":
            made = denoise_by_network(
                restore_source(series, tomogram, store),
                store.output("tomograms", f"{series.name}.mrc"),
                params,
                model_path(params.model, store.root),
                device=device,
                seed=store.seed,
                on_progress=lambda part: store.progress(part, "network"),
            )
            return restored_outcome(series, tomogram, made, store)
        caveats: tuple[str, ...] = ()
        contrast = None
        if params.method == "deconvolve":
            contrast, caveats = _contrast(series, tomogram, params, store.root)
        half1, half2 = half_files(tomogram, store)
        filtered = write_denoised(
            VolumeSource(
                path=store.resolve(tomogram.path),
                half1=half1,
                half2=half2,
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
            path=store.relative(filtered.path),
            voxel_size_angstrom=tomogram.voxel_size_angstrom,
            shape_zyx=tomogram.shape_zyx,
        )
        return Outcome(
            series=series.replace(tomogram=written), metrics=filtered.figures, caveats=(*caveats, *filtered.caveats)
        )


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
        transfer, caveats = recorded_transfer(series, tomogram, root)
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
