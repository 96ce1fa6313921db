"""What the images of one series say of its geometry, before or after it was aligned."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from eucentric.alignment.coarse import find_axis
from eucentric.alignment.judge_tilts import judge_tilts
from eucentric.compute.threads import threads_for
from eucentric.ctf.estimate_ctf import estimate_series_ctf
from eucentric.ctf.gradient_scale import GradientScale, measure_gradient_scale
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import HandTest
from eucentric.errors import EucentricError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.pipeline.aligning import median_axis, nominal_axis
from eucentric.pipeline.doctor.axis import judge_axis
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.doctor.sketches import Sketch, ring_images, sketch_series
from eucentric.signal.intensity import TransmissionFit, fit_transmission, image_intensities
from eucentric.typing import FloatArray

_SURE_DEG = 5.0
_FAR = ("drifted", "blurred")
"""Reasons that sums of frames as recorded give, and motion correction mends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAxis:
    """The tilt axis as the images show it; it and its opposite explain the same."""

    axis_deg: float
    sigma_deg: float

    @property
    def known(self) -> bool:
        """Whether the images show enough."""
        return self.sigma_deg <= _SURE_DEG


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRings:
    """What the rings of tilted images say."""

    axis_deg: float
    """Direction of the tilt axis with which they were looked at."""
    test: HandTest
    gradient: GradientScale
    defocus_angstrom: float
    """Median."""
    likely_pixel_scale: float


@dataclass(slots=True, kw_only=True)
class Measured:
    """Of one series."""

    sketch: Sketch
    axis: MeasuredAxis | None = None
    light: TransmissionFit | None = None
    intensities: FloatArray | None = None
    """(tilt,) counts a recorded pixel."""
    bad: dict[int, str] = field(default_factory=dict)
    """By position in the series of the sketch: tilts that are not fit for use, and why."""
    rings: MeasuredRings | None = None
    why_not: dict[str, str] = field(default_factory=dict)
    """By part that could not be measured."""


def measure_series(
    case: SeriesCase, tell: Callable[[str], None] = lambda _: None, *, ring_movies: int = 14
) -> Measured:
    """Axis, intensities, tilts that are no use, and what rings tell of hand and pixel size.

    Parameters
    ----------
    ring_movies : movies whose frames are aligned to look at their rings

    Raises
    ------
    EucentricError : the images cannot be read
    """
    with threads_for(0):
        sketch = sketch_series(case, tell)
        found = Measured(sketch=sketch, bad={i: f"unreadable: {why}" for i, why in sketch.unreadable.items()})
        tell(f"judging the tilts of {case.name}")
        _judge(found)
        _light(found)
        tell(f"looking for the tilt axis of {case.name}")
        _axis(found)
        tell(f"looking at the rings of {case.name}")
        _rings(case, found, ring_movies)
    return found


def _kept(found: Measured) -> list[int]:
    return [i for i in range(len(found.sketch.series.tilts)) if i not in found.bad]


def _judge(found: Measured) -> None:
    sketch = found.sketch
    kept = _kept(found)
    if len(kept) < 3:
        found.why_not["tilts"] = f"only {len(kept)} images can be read"
        return
    series = sketch.series
    quality = judge_tilts(
        sketch.small[kept],
        series.nominal_tilts_deg[kept],
        pixel_size=sketch.small_pixel_angstrom,
        doses=series.doses[kept],
    )
    recorded = sketch.source != "sums of frames"
    for place, why in quality.reasons.items():
        if not (recorded and why.startswith(_FAR)):
            found.bad[kept[place]] = why


def _light(found: Measured) -> None:
    """Darkening with tilt, about the axis of the stage: inclinations count from its level."""
    sketch, series = found.sketch, found.sketch.series
    found.intensities = np.asarray(image_intensities(sketch.small), dtype=np.float64)
    kept = _kept(found)
    if len(kept) < 8:
        found.why_not["light"] = f"{len(kept)} tilts are too few"
        return
    found.light = fit_transmission(
        found.intensities[kept],
        TiltGeometry.build(series.nominal_tilts_deg[kept]),
        order=[series.tilts[i].acquisition for i in kept],
        doses=series.doses[kept],
    )


def _axis(found: Measured) -> None:
    kept = _kept(found)
    if len(kept) < 5:
        found.why_not["axis"] = f"{len(kept)} tilts are too few"
        return
    sketch = found.sketch
    bright = sketch.small[kept] if sketch.series.optics is not None else -sketch.small[kept]
    search = find_axis(bright, sketch.series.nominal_tilts_deg[kept], sketch.small_pixel_angstrom)
    if not math.isfinite(search.sigma_deg) or search.sigma_deg > _SURE_DEG:
        found.why_not["axis"] = "the images show too little to follow"
        return
    found.axis = MeasuredAxis(axis_deg=search.best_deg, sigma_deg=search.sigma_deg)


def _direction(case: SeriesCase, found: Measured) -> float | None:
    """The direction of the axis to look at rings with: of the alignment, else the measured one next to the given."""
    aligned = case.aligned
    if aligned is not None:
        return median_axis(aligned)
    given = nominal_axis(found.sketch.series)
    if found.axis is None:
        return given
    if given is None:
        return found.axis.axis_deg
    return judge_axis(given, found.axis.axis_deg, found.axis.sigma_deg).direction_deg


def _rings(case: SeriesCase, found: Measured, movies: int) -> None:
    series = found.sketch.series
    axis = _direction(case, found)
    if series.optics is None:
        found.why_not["rings"] = "scanning images have no contrast transfer"
        return
    if axis is None:
        found.why_not["rings"] = "the tilt axis is not known"
        return
    light = found.light
    slope = light.y_tilt_deg if light is not None and light.found else 0.0
    params = CtfParams(thickness=False)
    try:
        seen = ring_images(case, found.sketch, list(found.bad), movies)
        geometry = TiltGeometry.build(series.nominal_tilts_deg[seen.positions] + slope, z_rot_deg=axis)
        order = [series.tilts[i].acquisition for i in seen.positions]
        nominal = [series.tilts[i].nominal_defocus_angstrom for i in seen.positions]
        result = estimate_series_ctf(
            seen.images,
            geometry,
            pixel_size=seen.pixel_angstrom,
            optics=series.optics,
            params=params,
            hand=series.hand,
            acquisition=order,
            nominal_defocus_angstrom=None if None in nominal else np.array(nominal, dtype=np.float64),
        )
        gradient = GradientScale(factor=math.nan, sigma=math.nan)
        if result.hand_test.decided:
            gradient = measure_gradient_scale(result, geometry, optics=series.optics, params=params, acquisition=order)
    except EucentricError as error:
        found.why_not["rings"] = str(error)
        return
    found.rings = MeasuredRings(
        axis_deg=axis,
        test=result.hand_test,
        gradient=gradient,
        defocus_angstrom=float(np.median([f.defocus_angstrom for f in result.fits])),
        likely_pixel_scale=result.likely_pixel_scale,
    )
