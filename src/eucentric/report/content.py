"""What pages are made of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from eucentric.report.figure_data import plotted_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure as a page holds it."""

    title: str
    data: bytes
    caption: str = ""
    media: str = "image/webp"
    plotted: tuple[Mapping[str, Any], ...] = ()
    """Numbers behind it, one record for each set of axes; nothing for what is a picture only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slider:
    """Pictures of one size, one of which is seen; each has its place, such as `z +120 Å`, as title."""

    title: str
    frames: tuple[Picture, ...]
    shown: int
    """Number of the frame that is seen first."""
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One of many small pictures."""

    picture: Picture
    """Its title stands for it where it is not seen."""
    lines: tuple[str, ...]
    """Below it."""
    mark: str = ""
    """What is odd about it, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Small pictures side by side, to be scrolled along."""

    title: str
    tiles: tuple[Tile, ...]
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the page of a tilt series."""

    title: str
    reading: str
    """What good and bad look like, in a sentence."""
    pictures: tuple[Picture, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """A table, as text; nothing where `columns` is empty."""
    sliders: tuple[Slider, ...] = ()
    strips: tuple[Strip, ...] = ()
    """Above the pictures, below the sliders."""
    metrics: tuple[tuple[str, str], ...] = ()
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPage:
    """The page of one tilt series."""

    name: str
    facts: tuple[tuple[str, str], ...] = ()
    failed_stage: str | None = None
    message: str | None = None
    """Why the series failed."""
    left_out: str | None = None
    """Why a person left the series out."""
    outliers: tuple[str, ...] = ()
    """In what it differs from the other series, in words."""
    sections: tuple[Section, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Paths of files beside the page, and words for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    """One tilt series in the table of the project."""

    name: str
    page: str | None
    """File name of its page."""
    stage: str
    """The last stage it came through, or the one it failed in."""
    failed: bool
    message: str
    tilt_count: int | None
    excluded_count: int | None
    seconds: float
    caveat_count: int = 0
    quality: tuple[str, ...] = ()
    """One text for each of the page's `quality_columns`."""
    outliers: tuple[str, ...] = ()
    """In what it differs from the other series, in words."""
    left_out: str | None = None
    """Why a person left the series out."""
    thumbnail: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTable:
    """The metrics of one stage, a row for each series."""

    stage: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One average or refinement in its table of the project."""

    name: str
    page: str
    """File name of its page."""
    facts: tuple[tuple[str, str], ...]
    """The same names for all rows of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPage:
    """The page of the project."""

    title: str
    rows: tuple[SeriesRow, ...]
    quality_columns: tuple[str, ...] = ()
    outlier_note: str = ""
    """How outliers are told, or why none can be."""
    pictures: tuple[Picture, ...] = ()
    """Distributions over the series."""
    tables: tuple[MetricTable, ...] = ()
    acquisition: tuple[str, ...] = ()
    """Advice for the next session, in words."""
    acquisition_note: str = ""
    """What its figures are; nothing where no series was judged."""
    averages: tuple[ResultRow, ...] = ()
    refinements: tuple[ResultRow, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Paths of files beside the page, and words for them."""
    methods: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    bibtex: str = ""
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def failed_count(self) -> int:
        return sum(row.failed for row in self.rows)

    @property
    def has_thumbnails(self) -> bool:
        return any(row.thumbnail is not None for row in self.rows)


_PICTURE_BYTES = 60_000
_QUALITIES = (45, 30, 20)
_SMALLER = (1.0, 0.85, 0.7)
_COLORS = 128
_LARGE_BYTES = 20_000
_EFFORT = 40  # of lossless compression, 0 to 100


def picture(
    title: str, figure: Figure, dots_per_inch: int, caption: str = "", *, most_bytes: int = _PICTURE_BYTES
) -> Picture:
    """A figure as WebP with its numbers. The same figure gives the same bytes.

    Plots keep their lines, in 128 colours where that is smaller. Figures with pictures in them are compressed with some loss where
    that is smaller, then more, then made smaller, until they are no larger than `most_bytes` or 0.7 of their size.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch, pil_kwargs={"compress_level": 1})
    drawn.seek(0)
    with Image.open(drawn) as opened:
        image = opened.convert("RGB")
    few = image.quantize(_COLORS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    data = _webp(few.convert("RGB"), lossless=True, quality=_EFFORT)
    if len(data) > _LARGE_BYTES:
        # grids and shades may be larger in few colours than in all
        data = min(data, _webp(image, lossless=True, quality=_EFFORT), key=len)
    if any(axes.images for axes in figure.axes):
        data = min(data, _lossy(image, most_bytes), key=len)
    return Picture(title=title, data=data, caption=caption, plotted=plotted_data(figure))


def _lossy(image: Image.Image, most_bytes: int) -> bytes:
    data = b""
    for part in _SMALLER:
        size = (round(image.width * part), round(image.height * part))
        smaller = image if part == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            data = _webp(smaller, quality=quality)
            if len(data) <= most_bytes:
                return data
    return data


def slider(title: str, frames: Sequence[bytes], places: Sequence[str], caption: str = "") -> Slider:
    """Frames as WebP with the place of each; the middle one is seen first."""
    shown = tuple(Picture(title=place, data=data) for data, place in zip(frames, places, strict=True))
    return Slider(title=title, frames=shown, shown=len(shown) // 2, caption=caption)


def _webp(image: Image.Image, **settings: Any) -> bytes:
    target = BytesIO()
    image.save(target, format="WEBP", method=4, use_sharp_yuv=True, **settings)
    return target.getvalue()


def format_number(value: float | None) -> str:
    """Four digits, all of a whole part below ten million, or `not known`."""
    if value is None or not math.isfinite(value):
        return "not known"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):d}"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


_UNITS = {"angstrom": "Å", "deg": "°", "um": "µm", "px": "px", "nm": "nm", "percent": "%", "um3": "µm³", "sd": "σ"}


def metric_label(name: str) -> str:
    """A metric's name in words, its unit in brackets: `motion_angstrom` is `motion (Å)`, `density_per_um3` is `density (1/µm³)`.

    What is told of detail between two sizes has them last: `invented_60_40_angstrom` is `invented, 60 to 40 Å`.
    """
    words = name.split("_")
    if len(words) > 3 and words[-1] == "angstrom" and words[-2].isdigit() and words[-3].isdigit():
        return f"{' '.join(words[:-3])}, {words[-3]} to {words[-2]} Å"
    if len(words) > 2 and words[-2] == "per" and words[-1] in _UNITS:
        return f"{' '.join(words[:-2])} (1/{_UNITS[words[-1]]})"
    if len(words) > 1 and words[-1] in _UNITS:
        return f"{' '.join(words[:-1])} ({_UNITS[words[-1]]})"
    return " ".join(words)


def metric_rows(metrics: Mapping[str, float | None]) -> tuple[tuple[str, str], ...]:
    """Metrics in words and numbers."""
    return tuple((metric_label(name), format_number(value)) for name, value in metrics.items())
