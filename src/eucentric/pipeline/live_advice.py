"""What an operator should know of the series just processed, in words, from their recorded figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from eucentric.errors import EucentricError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.pipeline import records
from eucentric.pipeline.live_params import LiveParams
from eucentric.pipeline.steps import IMPORT_TABLE

_FEWEST_FOR_A_TREND = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFigures:
    """Figures of one series; None where no stage has measured it."""

    series: str
    images: int = 0
    dose: float | None = None
    """e/A2 in all."""
    motion_angstrom: float | None = None
    """Median over the tilts of the way between first and last frame."""
    blur_angstrom: float | None = None
    """Median over the tilts of the rms motion within a frame."""
    defocus_angstrom: float | None = None
    target_defocus_angstrom: float | None = None
    shift_percent: float | None = None
    """Largest shift of an image, of the field's shorter side."""
    thickness_angstrom: float | None = None
    tilts_left_out: int = 0
    tilts_without_rings: int = 0

    @property
    def defocus_error_angstrom(self) -> float | None:
        """Positive: further underfocus than asked."""
        if self.defocus_angstrom is None or not self.target_defocus_angstrom:
            return None
        return self.defocus_angstrom - self.target_defocus_angstrom


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One sentence or two for the operator."""

    kind: str
    """Drift, focus, tracking, thickness, dose or pace."""
    text: str
    series: str | None = None
    """None for the whole session."""


def read_figures(root: Path, name: str) -> SeriesFigures:
    """The figures of a series, from the imported tables and the records of the stages."""
    values: dict[str, float] = {}
    left_out = 0.0
    for stage in ("motion", "align", "axis", "ctf"):
        record = records.read_record(root / stage, name)
        if record is not None and record.is_done:
            known = {k: float(v) for k, v in record.metrics.items() if v is not None and math.isfinite(v)}
            left_out += known.get("tilts_left_out", 0.0)
            values.update(known)
    try:
        series = read_tilt_series(root / IMPORT_TABLE, name, root)
    except (EucentricError, OSError):
        return SeriesFigures(series=name)
    targets = [t.nominal_defocus_angstrom for t in series.tilts if t.nominal_defocus_angstrom]
    doses = [t.dose for t in (*series.tilts, *(e.tilt for e in series.excluded))]
    field = min(series.image_shape) * series.pixel_size_angstrom
    shift = values.get("shift_max_angstrom")
    return SeriesFigures(
        series=name,
        images=len(series.tilts),
        dose=sum(doses) or None,
        motion_angstrom=values.get("total_motion_median_angstrom"),
        blur_angstrom=values.get("blur_median_angstrom"),
        defocus_angstrom=values.get("defocus_median_angstrom"),
        target_defocus_angstrom=median(targets) if targets else None,
        shift_percent=None if shift is None else 100.0 * shift / field,
        thickness_angstrom=values.get("thickness_angstrom"),
        tilts_left_out=int(left_out),
        tilts_without_rings=int(values.get("tilts_without_rings", 0.0)),
    )


def advise_on_series(figures: SeriesFigures, params: LiveParams) -> list[Advice]:
    """What is out of the ordinary in one series."""
    told = [
        ("drift", _drift(figures.motion_angstrom, figures.blur_angstrom, params)),
        ("focus", _focus(figures.defocus_error_angstrom, figures, params)),
        ("tracking", _tracking(figures, params)),
        ("thickness", _thickness(figures.thickness_angstrom, params)),
        ("dose", _dose(figures.dose, params)),
    ]
    found = [Advice(kind=kind, series=figures.series, text=text) for kind, text in told if text]
    if figures.images and 2 * figures.tilts_without_rings > figures.images:
        text = (
            f"{figures.tilts_without_rings} of {figures.images} images show no rings of the contrast transfer, so their defocus is "
            "not measured. Ice that is too thick, a dose that is too low, or a focus near zero are the usual causes."
        )
        found.append(Advice(kind="focus", series=figures.series, text=text))
    return found


def advise_on_session(recent: Sequence[SeriesFigures], params: LiveParams) -> list[Advice]:
    """What the last series have in common: medians, so that no single one of them decides.

    Parameters
    ----------
    recent : of the series last processed
    """
    if len(recent) < _FEWEST_FOR_A_TREND:
        return []
    head = f"The last {len(recent)} series:"
    error = _middle([f.defocus_error_angstrom for f in recent])
    thickness = _middle([f.thickness_angstrom for f in recent])
    told = [
        (
            "drift",
            _drift(_middle([f.motion_angstrom for f in recent]), _middle([f.blur_angstrom for f in recent]), params),
        ),
        ("thickness", _thickness(thickness, params)),
        ("dose", _dose(_middle([f.dose for f in recent]), params)),
    ]
    if error is not None and abs(error) > params.defocus_error_angstrom:
        way = "further underfocus than" if error > 0 else "nearer focus than"
        text = f"their median defocus is {abs(error) * 1e-4:.1f} um {way} asked. Check the offset of the autofocus and its beam tilt."
        told.append(("focus", text))
    shift = _middle([f.shift_percent for f in recent])
    if shift is not None and shift > params.tracking_limit_percent:
        text = f"their images wander by {shift:.0f}% of the field. Set the eucentric height again, and track at more of the angles."
        told.append(("tracking", text))
    return [Advice(kind=kind, text=f"{head} {text[0].lower()}{text[1:]}") for kind, text in told if text]


def _middle(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if len(known) >= _FEWEST_FOR_A_TREND else None


def _drift(motion: float | None, blur: float | None, params: LiveParams) -> str | None:
    if blur is not None and blur > params.blur_limit_angstrom:
        return (
            f"The specimen moves by {blur:.1f} A (rms) within a frame, which blurs it for good. Let the stage rest longer "
            "before each image, or record more frames."
        )
    if motion is not None and motion > params.motion_limit_angstrom:
        return (
            f"The specimen drifts by {motion:.0f} A in an image (median). Let the stage rest longer before each image, and check "
            "the temperature of the holder and charging."
        )
    return None


def _focus(error: float | None, figures: SeriesFigures, params: LiveParams) -> str | None:
    if error is None or abs(error) <= params.defocus_error_angstrom:
        return None
    measured, target = (figures.defocus_angstrom or 0.0) * 1e-4, (figures.target_defocus_angstrom or 0.0) * 1e-4
    return f"Defocus is {measured:.1f} um where {target:.1f} um was asked. Check the autofocus and its place."


def _tracking(figures: SeriesFigures, params: LiveParams) -> str | None:
    shift = figures.shift_percent
    if shift is not None and shift > params.tracking_limit_percent:
        return (
            f"An image is shifted by {shift:.0f}% of the field, so that much of the target is out of view there. Check tracking "
            "and the eucentric height."
        )
    if figures.images and 5 * figures.tilts_left_out > figures.images:
        return (
            f"{figures.tilts_left_out} of {figures.images} images were of no use (dark, empty or off the target). Check tracking, and "
            "what shades the beam at high tilt."
        )
    return None


def _thickness(thickness: float | None, params: LiveParams) -> str | None:
    if thickness is None or thickness <= params.thickness_limit_angstrom:
        return None
    return (
        f"The specimen is about {thickness / 10:.0f} nm thick: few electrons pass it unscattered at high tilt. Choose thinner "
        "places, or mill further."
    )


def _dose(dose: float | None, params: LiveParams) -> str | None:
    if dose is None or dose <= params.dose_limit:
        return None
    return (
        f"A series takes {dose:.0f} e/A2 in all: the last images show a damaged specimen. Lower the dose of an image, or take "
        "fewer."
    )
