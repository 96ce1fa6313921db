"""What readers and writers of other programs' tilt series take and give."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eucentric.errors import InputError
from eucentric.geometry.volume_warp import VolumeWarp
from eucentric.geometry.warp import ImageWarp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import PathLike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesGeometry:
    """One tilt series in our conventions, whatever program it comes from or goes to."""

    series: TiltSeries
    """Tilts ascending; poses and CTFs where the files have them; movies and images by the paths that the files name."""
    warp: ImageWarp | None = None
    """Local deformation of `series.tilts`."""
    volume: VolumeWarp | None = None
    """Deformation of the specimen, beside `warp`; folded into it for formats that cannot hold it."""
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed, or could not be taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user tells beyond the files; it goes before what they say.

    Raises
    ------
    InputError : a size or dose that cannot be
    """

    name: str | None = None
    """Of the series, where a file holds one."""
    pixel_size_angstrom: float | None = None
    """Of the images."""
    image_shape: tuple[int, int] | None = None
    """(y, x) of the images."""
    optics: Optics | None = None
    dose_per_tilt: float | None = None
    volume_size_px: tuple[int, int, int] | None = None
    """(x, y, z) in pixels of the images."""

    def __post_init__(self) -> None:
        size, shape, dose = self.pixel_size_angstrom, self.image_shape, self.dose_per_tilt
        if size is not None and not (math.isfinite(size) and size > 0):
            raise InputError(f"The pixel size given is {size:g} A; expected a number above 0. Mend --pixel-size.")
        if shape is not None and not all(math.isfinite(n) and n >= 1 and n == int(n) for n in shape):
            given = " ".join(f"{n:g}" for n in reversed(shape))
            raise InputError(
                f"The size of the images given is {given} pixels; expected a width and a height of 1 or more. "
                "Mend --image-size X Y."
            )
        if dose is not None and not (math.isfinite(dose) and dose >= 0):
            raise InputError(f"The dose given is {dose:g} e/A2 for each image; expected 0 or more. Mend --dose.")

    def need_pixel_size(self, found: float | None, place: PathLike) -> float:
        """The pixel size in A that was given, else `found`; InputError where neither is known."""
        size = self.pixel_size_angstrom or found
        if size is None or not (math.isfinite(size) and size > 0):
            raise InputError(f"`{place}` does not tell the pixel size of its images. Give it with --pixel-size.")
        return float(size)

    def need_image_shape(self, found: tuple[int, int] | None, place: PathLike) -> tuple[int, int]:
        """(y, x) that was given, else `found`; InputError where neither is known."""
        shape = self.image_shape or found
        if shape is None:
            raise InputError(f"`{place}` does not tell the size of its images. Give it with --image-size X Y.")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer made."""

    files: tuple[Path, ...]
    losses: tuple[str, ...] = ()
    """Sentences on what the format cannot hold, each with the size of the loss in A or degrees where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryWords:
    """A format's conventions in words, as `eucentric convert` prints them and the documentation lists them."""

    origin: str
    unit: str
    hand: str
    angles: str


Reader = Callable[[Path, Given], tuple[SeriesGeometry, ...]]
Writer = Callable[[Path, Sequence[SeriesGeometry]], Written]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryFormat:
    """One program's way to keep tilt series."""

    name: str
    """As on the command line."""
    title: str
    """As its users call it."""
    words: GeometryWords
    recognises: Callable[[Path], bool]
    """Whether a file or folder that exists looks like it; never raises."""
    read: Reader
    """Of a file, or of a folder with those of one or several series."""
    write: Writer
    """To a folder, `<name>.*` for each series; or to the format's main file, of one series."""
    holds_volume: bool = False
    """Whether it has a place for the deformation of a specimen; its writer then gets it as it is."""

    @property
    def program(self) -> str:
        """The title without its files."""
        return self.title.partition(" (")[0]


def single(geometries: Sequence[SeriesGeometry], place: PathLike) -> SeriesGeometry:
    """The only one; InputError where several series are to be written to one file."""
    if len(geometries) != 1:
        raise InputError(
            f"`{place}` is one file, and {len(geometries)} tilt series are to be written. Give a folder instead."
        )
    return geometries[0]


def targets(
    place: PathLike, geometries: Sequence[SeriesGeometry], endings: Sequence[str]
) -> list[tuple[Path, SeriesGeometry]]:
    """Where the files of each series go, as a path without ending: `place/<name>`, or `place` itself where it ends as such a file.

    `x.with_name(x.name + ".tlt")` then gives a file of the series.
    """
    whole = Path(place)
    ending = next((e for e in endings if whole.name.lower().endswith(e)), None)
    if ending is not None:
        return [(whole.with_name(whole.name[: -len(ending)]), single(geometries, whole))]
    names = [g.series.name for g in geometries]
    if len(set(names)) < len(names):
        raise InputError(f"Two tilt series have the same name ({', '.join(names[:6])}); expected each its own.")
    return [(whole / g.series.name, g) for g in geometries]
