"""Filling the missing wedge as a stage."""

from pathlib import Path

import numpy as np
import torch

from eucentric.denoising.restoring_params import FillWedgeParams
from eucentric.errors import InputError
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.restore_files import fill_wedge, restore_bytes
from eucentric.pipeline.restore_stage import model_files, model_path, restore_source, restored_outcome
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore


class FillWedge(ItemStage):
    """Fill the missing wedge of tomograms, for the eye and for segmentation."""

    name, params, version, after = "fill-wedge", FillWedgeParams, 1, "reconstruct"

    @classmethod
    def joins_runs(cls, params: FillWedgeParams) -> bool:
        """Where the plan says so."""
        return params.with_run

    def reads(self, series: str, params: FillWedgeParams, root: Path) -> tuple[Path, ...]:
        """The model, where it is a file."""
        del series
        return model_files(params.model, root) if params.method == "network" else ()

    def peak_bytes(self, series: TiltSeries, params: FillWedgeParams) -> int:
        """Several volumes and their transforms."""
        del params
        return restore_bytes(0 if series.tomogram is None else int(np.prod(series.tomogram.shape_zyx)))

    def run(self, series: TiltSeries, params: FillWedgeParams, store: ItemStore, device: torch.device) -> Outcome:
        """Fill it; the result has the tomogram's name, and takes its place in the table."""
        tomogram = series.tomogram
        if tomogram is None:
            raise InputError(f"{series.name} has no tomogram to fill. Run `eucentric reconstruct` first.")
        made = fill_wedge(
            restore_source(series, tomogram, store),
            store.output("tomograms", f"{series.name}.mrc"),
            params.model_copy(update={"model": model_path(params.model, store.root)}),
            device=device,
            seed=store.seed,
            on_progress=lambda part: store.progress(part, params.method),
        )
        return restored_outcome(series, tomogram, made, store)
