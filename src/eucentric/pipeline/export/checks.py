"""What a program needs of a series, and whether its files are there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from eucentric.errors import EucentricError
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.mrc import read_mrc_header
from eucentric.models.tilt_series import TiltSeries


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a program works with."""

    images: bool = True
    poses: bool = True
    """Tilts, and an alignment of them."""
    tomograms: Literal["needed", "extra", "unused"] = "unused"
    halves: bool = False
    """It takes even and odd halves of images and tomograms."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checked:
    """A series whose files were looked at."""

    geometry: SeriesGeometry | None
    """None where it cannot be used; without what is missing and not needed."""
    words: tuple[str, ...] = ()
    """Why it cannot be used; or what it goes without, to be read behind its name."""


def checked(geometry: SeriesGeometry, needs: Needs) -> Checked:
    """Look for all that the program needs of a series; only headers of files are read."""
    series = geometry.series
    why = _poses_fault(series) if needs.poses else None
    if why is None and needs.images:
        why = _images_fault(series)
    if why is not None:
        return Checked(geometry=None, words=(why,))
    words: list[str] = []
    if needs.tomograms != "unused":
        fault = _tomogram_fault(series)
        if fault is not None and needs.tomograms == "needed":
            return Checked(geometry=None, words=(fault,))
        if fault is not None and series.tomogram is not None:
            words.append(f"goes without its tomogram: {fault}")
            series = series.replace(tomogram=None)
    if needs.halves:
        series, more = _halves_there(series)
        words += more
    return Checked(geometry=replace(geometry, series=series), words=tuple(words))


def _poses_fault(series: TiltSeries) -> str | None:
    if not series.tilts:
        return "it has no tilts left."
    if any(t.pose is None for t in series.tilts):
        return "it has not been aligned. Run `eucentric align`."
    return None


def _images_fault(series: TiltSeries) -> str | None:
    if any(t.image is None for t in series.tilts):
        return "it has movies and no images yet. Run `eucentric motion`."
    for path in dict.fromkeys((t.image or "").rpartition("@")[2] for t in series.tilts):
        shape, fault = _header(path)
        if fault is not None:
            return f"its image {fault} Put it back, or run `eucentric motion` again."
        if shape is not None and shape[1:] != series.image_shape:
            (y, x), (ny, nx) = shape[1:], series.image_shape
            return f"its image `{path}` has {x} x {y} pixels; expected {nx} x {ny}. Run `eucentric motion` again."
    return None


def _tomogram_fault(series: TiltSeries) -> str | None:
    if series.tomogram is None:
        return "it has no tomogram yet. Run `eucentric reconstruct`."
    _, fault = _header(series.tomogram.path)
    return None if fault is None else f"its tomogram {fault} Put it back, or run `eucentric reconstruct` again."


def _halves_there(series: TiltSeries) -> tuple[TiltSeries, list[str]]:
    """The series without halves that are not there, and words on them."""
    words = []
    halves = [half for t in series.tilts for half in (t.image_even, t.image_odd) if half is not None]
    lost = next((path for h in halves if not Path(path := h.rpartition("@")[2]).is_file()), None)
    if lost is not None:
        series = series.with_tilts([replace(t, image_even=None, image_odd=None) for t in series.tilts])
        words.append(f"goes without the even and odd halves of its images: `{lost}` is not there.")
    tomogram = series.tomogram
    if tomogram is not None:
        lost = next((h for h in (tomogram.half1, tomogram.half2) if h is not None and not Path(h).is_file()), None)
        if lost is not None:
            series = series.replace(tomogram=replace(tomogram, half1=None, half2=None))
            words.append(f"goes without the halves of its tomogram: `{lost}` is not there.")
    return series, words


def _header(path: str) -> tuple[tuple[int, int, int] | None, str | None]:
    """Shape of an MRC file; or what is wrong with it, as the rest of a sentence and with a full stop."""
    if not Path(path).is_file():
        return None, f"`{path}` is not there."
    try:
        return read_mrc_header(path).shape, None
    except (EucentricError, OSError) as error:
        return None, f"cannot be read: {error}"
