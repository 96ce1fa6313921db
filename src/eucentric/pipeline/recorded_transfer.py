"""The contrast transfer of a tomogram: what a reconstruction did about it, by the record beside it, and what is left of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric.denoising.params import Transfer
from eucentric.fourier import frequency_vectors
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.optics.ctf import ctf_1d, without_zeros
from eucentric.pipeline.records import read_record
from eucentric.reconstruction.params import ReconstructParams

_LOW_TILT_DEG = 20.0
_CURVE = 2048
_WEAKEST = 1e-3
_CORRECTIONS: dict[str, Transfer] = {
    "none": "uncorrected",
    "flip": "flipped",
    "multiply": "multiplied",
    "wiener": "corrected",
}


def recorded_transfer(series: TiltSeries, tomogram: Tomogram, root: Path) -> tuple[Transfer, tuple[str, ...]]:
    """What was done, and a caveat where no record tells it."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramContrast:
    """How a tomogram shows its specimen, by the median defocus of the tilts to 20 degrees."""

    optics: Optics
    defocus_angstrom: float
    phase_shift_deg: float
    transfer: Transfer

    def strength(self, frequency: Tensor) -> Tensor:
        """Of frequencies in 1/A: positive where matter is dark."""
        seen = ctf_1d(frequency, self.defocus_angstrom, self.optics, self.phase_shift_deg)
        return {"uncorrected": -seen, "flipped": seen.abs(), "multiplied": seen.square()}[self.transfer]

    def relative(self, voxel_size_angstrom: float) -> Callable[[tuple[int, int, int]], Tensor]:
        """Strength over that of a transfer without zeros, on the samples of an rfftn of any shape."""
        highest = np.sqrt(3.0) * 0.5 / voxel_size_angstrom
        frequency = torch.linspace(0.0, float(highest), _CURVE)
        flat = without_zeros(ctf_1d(frequency, self.defocus_angstrom, self.optics, self.phase_shift_deg))
        curve = self.strength(frequency) / flat.clamp_min(_WEAKEST)

        def on(shape: tuple[int, int, int]) -> Tensor:
            z, y, x = frequency_vectors(shape, voxel_size_angstrom)
            radius = (z**2 + y**2 + x**2).sqrt()
            return curve[(radius / highest * (_CURVE - 1)).round().long().clamp_max(_CURVE - 1)]

        return on


def tomogram_contrast(series: TiltSeries, root: Path) -> TomogramContrast | None:
    """Of a project's tomogram; None where it is undone, no CTF's, or not known."""
    fits = [t.ctf for t in series.tilts if t.ctf is not None and abs(t.nominal_tilt_deg) <= _LOW_TILT_DEG]
    if series.optics is None or series.tomogram is None or not fits:
        return None
    transfer, unsure = recorded_transfer(series, series.tomogram, root)
    if transfer == "corrected" or unsure:
        return None
    return TomogramContrast(
        optics=series.optics,
        defocus_angstrom=float(np.median([f.defocus_angstrom for f in fits])),
        phase_shift_deg=float(np.median([f.phase_shift_deg for f in fits])),
        transfer=transfer,
    )
