"""What a reconstruction did about the contrast transfer, by the record beside its tomogram."""

from pathlib import Path

from eucentric.denoising.params import Transfer
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.records import read_record
from eucentric.reconstruction.params import ReconstructParams

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
