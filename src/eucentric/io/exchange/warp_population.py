"""What M keeps: a `.population` names `.source` files (tilt series with one pixel size and volume) and `.species` (particles).

A species' particles lie beside it in `<name>_particles.star` [1]_: wrpCoordinateX1, X2, ... in A from the corner of the volume,
wrpAngleRot1, ... in degrees, at times that divide the exposure evenly. Warp's matrix ``Euler(rot, tilt, psi)`` takes the reference to
the specimen, as RELION's [2]_. The specimen's centre is half the size of the volume, which the source tells.

References
----------
.. [1] WarpLib's sources, `Sociology/Species.cs` (ParticlesToStar, ParticlesFromStar), `Particle.cs`, `DataSource.cs`, `Population.cs`
.. [2] WarpLib's sources, `Tools/Matrix3.cs` (Euler), `TiltSeries.cs` (GetParticleRotationMatrixInAllTilts)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.star import read_star_text
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_TABLE = "_particles.star"
_COORDINATES = ("wrpCoordinateX", "wrpCoordinateY", "wrpCoordinateZ")
_ANGLES = ("wrpAngleRot", "wrpAngleTilt", "wrpAnglePsi")
_MOST_TIMES = 1000
_MOST = 1e9  # A or degrees
_FOLDERS_UP = 4  # a species lies in <population>/species/<name>/


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpSource:
    """Tilt series of one pixel size and one size of the volume."""

    path: Path
    name: str
    pixel_size_angstrom: float | None
    volume_size_px: tuple[float, float, float] | None
    """(x, y, z)"""
    files: tuple[str, ...]
    """Names of its `.tomostar` files."""

    @property
    def volume_size_angstrom(self) -> FloatArray | None:
        """(3,), x, y and z."""
        if self.volume_size_px is None or self.pixel_size_angstrom is None:
            return None
        return np.array(self.volume_size_px) * self.pixel_size_angstrom


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpPopulation:
    """Files that a population names."""

    path: Path
    name: str
    sources: tuple[Path, ...]
    species: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarpSpecies:
    """Particles of one kind."""

    name: str
    particles: ParticleSet
    notes: tuple[str, ...] = field(default=())
    """Sentences on what was not taken over."""


def xml_root(path: PathLike, tag: str, what: str) -> ElementTree.Element:
    """The root of an XML file of Warp or M.

    Raises
    ------
    InputError : no such file
    FormatError : not XML, or with another root
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        root = ElementTree.fromstring(place.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"`{place}` is not XML: {error}. Expected {what}.") from error
    if root.tag != tag:
        raise FormatError(f"`{place}` is not {what}: its root is <{root.tag}>; expected <{tag}>.")
    return root


def xml_number(root: ElementTree.Element, name: str, path: PathLike, within: str = ".") -> float | None:
    """A positive number among the parameters of an element; None where there is none."""
    text = next((p.get("Value", "") for p in root.iterfind(f"{within}/Param") if p.get("Name") == name), "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FormatError(f"`{path}` has `{text[:60]}` for {name}; expected a number.")
    return value if value > 0 else None


def _text(root: ElementTree.Element, name: str) -> str:
    return next((p.get("Value", "") for p in root.iterfind("Param") if p.get("Name") == name), "")


def _beside(path: Path, text: str) -> Path:
    return path.parent / text.replace("\\", "/")


def read_warp_source(path: PathLike) -> WarpSource:
    """A `.source` of M; errors as `xml_root`, or a size that is no number."""
    place = Path(path)
    root = xml_root(place, "DataSource", "a source of M")
    size = [xml_number(root, f"Dimensions{axis}", place) for axis in "XYZ"]
    known = [n for n in size if n is not None]
    return WarpSource(
        path=place,
        name=_text(root, "Name") or place.stem,
        pixel_size_angstrom=xml_number(root, "PixelSize", place) or xml_number(root, "PixelSizeX", place),
        volume_size_px=(known[0], known[1], known[2]) if len(known) == 3 else None,
        files=tuple(name for f in root.iterfind("Files/File") if (name := f.get("Name", "").strip())),
    )


def read_warp_population(path: PathLike) -> WarpPopulation:
    """A `.population` of M; errors as `xml_root`."""
    place = Path(path)
    root = xml_root(place, "Population", "a population of M")
    return WarpPopulation(
        path=place,
        name=_text(root, "Name") or place.stem,
        sources=tuple(_beside(place, p) for e in root.iterfind("Sources/Source") if (p := e.get("Path", ""))),
        species=tuple(_beside(place, p) for e in root.iterfind("Species/Species") if (p := e.get("Path", ""))),
    )


def read_warp_species(path: PathLike, frames: TomogramFrames | None = None) -> ParticleSet:
    """Particles of a species of M; see `open_warp_species`."""
    return open_warp_species(path, frames).particles


def open_warp_species(path: PathLike, frames: TomogramFrames | None = None) -> WarpSpecies:
    """Particles of a species of M: where they lie and how they are turned on the average over the exposure.

    Parameters
    ----------
    path : `.species`, or its `_particles.star`
    frames : grids of tomograms, where no source tells the size of the volume; their size in A counts

    Raises
    ------
    InputError : no such file, or nothing tells the size of a volume
    FormatError : not of M, or damaged
    """
    place = Path(path)
    table_place, name = place, place.name.removesuffix(_TABLE)
    notes: list[str] = []
    if place.suffix.lower() != ".star":
        root = xml_root(place, "Species", "a species of M")
        name = _text(root, "Name") or place.stem
        table_place = place.with_name(place.stem + _TABLE)
        if not table_place.is_file():
            table_place = place.with_name(name + _TABLE)
    blocks = read_star_text(table_place)
    table = next((t for t in blocks.values() if all(f"{c}1" in t for c in _COORDINATES)), None)
    if table is None or "wrpSourceName" not in table:
        raise FormatError(
            f"`{table_place}` has no table with wrpCoordinateX1, Y1, Z1 and wrpSourceName. Expected particles of M."
        )
    sources = [text or "" for text in table["wrpSourceName"]]
    if not all(sources):
        raise FormatError(f"`{table_place}` has particles without wrpSourceName.")
    coordinates = _times(table, _COORDINATES, table_place)
    angles = _times(table, _ANGLES, table_place) if all(f"{c}1" in table for c in _ANGLES) else None
    halves = _halves(sources, table_place, frames)
    positions, notes_motion = _mean_positions(coordinates)
    rotations, notes_turns = _mean_rotations(angles, len(sources))
    subset = table.get("wrpRandomSubset")
    columns = {} if subset is None else {"rlnRandomSubset": _column(subset, "wrpRandomSubset", table_place)}
    particles = ParticleSet.build(
        [tomogram_name(s) for s in sources], positions - halves, rotations=rotations, kinds=name, columns=columns
    )
    return WarpSpecies(name=name, particles=particles, notes=(*notes, *notes_motion, *notes_turns))


def _column(values: Sequence[str | None], label: str, path: Path) -> FloatArray:
    try:
        column = np.array([float("nan") if v is None else float(v) for v in values], dtype=np.float64)
    except ValueError as error:
        raise FormatError(f"`{path}` has a value under {label} that is not a number: {error}.") from error
    good = np.abs(column) < _MOST
    if not good.all():
        raise FormatError(f"Row {int(np.argmin(good)) + 1} of `{path}` has no number for {label} that could be meant.")
    return column


def _times(table: dict[str, list[str | None]], labels: Sequence[str], path: Path) -> FloatArray:
    """(particle, time, 3)."""
    count = 1
    while count < _MOST_TIMES and all(f"{label}{count + 1}" in table for label in labels):
        count += 1
    columns = [[_column(table[f"{c}{i}"], f"{c}{i}", path) for c in labels] for i in range(1, count + 1)]
    return np.moveaxis(np.array(columns), 2, 0)


def _mean_positions(coordinates: FloatArray) -> tuple[FloatArray, list[str]]:
    mean: FloatArray = coordinates.mean(axis=1)
    away = np.linalg.norm(coordinates - mean[:, None], axis=2)
    if coordinates.shape[1] == 1 or not away.size or away.max() < 1e-6:
        return mean, []
    return mean, [
        f"Particles move during the exposure in M ({coordinates.shape[1]} times, {np.sqrt(np.mean(away**2)):.2f} A root mean "
        f"square about their mean, {away.max():.2f} A at most); the mean place was taken."
    ]


def _mean_rotations(angles: FloatArray | None, count: int) -> tuple[FloatArray | None, list[str]]:
    if angles is None or not count:
        return None, []
    n, times = angles.shape[:2]
    matrices = np.asarray(Rotation.from_relion(*angles.reshape(-1, 3).T).matrices).reshape(n, times, 3, 3)
    if times == 1:
        return matrices[:, 0], []
    u, _, vt = np.linalg.svd(matrices.mean(axis=1))  # the nearest rotation to the mean of the matrices
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    mean: FloatArray = u @ vt
    relative = np.swapaxes(np.repeat(mean[:, None], times, axis=1), 2, 3) @ matrices
    away = np.rad2deg(_ScipyRotation.from_matrix(relative.reshape(-1, 3, 3)).magnitude())
    if away.max() < 1e-4:
        return mean, []
    return mean, [
        f"Particles turn during the exposure in M ({times} times, by {away.max():.2f} degrees from their mean at most); the "
        "mean was taken."
    ]


def _halves(sources: Sequence[str], table: Path, frames: TomogramFrames | None) -> FloatArray:
    """(particle, 3) A: half the size of the volume that each lies in."""
    sizes = _volume_sizes(table)
    known: dict[str, FloatArray] = {}
    for source in dict.fromkeys(sources):
        name = tomogram_name(source)
        if frames is not None and (name in frames.by_name or frames.default is not None):
            frame = frames.of(name)
            known[source] = np.array(frame.size_xyz) * frame.voxel_size_angstrom / 2.0
        elif name in sizes:
            known[source] = sizes[name] / 2.0
        else:
            raise InputError(
                f"Nothing tells the size of the volume of {name}, which the particles of `{table}` lie in. Keep the species in "
                "the folder of its .population with its .source files, or give --tomograms TABLE."
            )
    return np.array([known[s] for s in sources]).reshape(-1, 3)


def _volume_sizes(table: Path) -> dict[str, FloatArray]:
    """Sizes of volumes in A by the name of the series, of the population in whose folder a table lies."""
    for folder in [*table.resolve().parents][: _FOLDERS_UP + 1]:
        populations = sorted(folder.glob("*.population"))
        if not populations:
            continue
        sizes: dict[str, FloatArray] = {}
        for population in populations:
            for path in read_warp_population(population).sources:
                if not path.is_file():
                    continue
                source = read_warp_source(path)
                if source.volume_size_angstrom is not None:
                    sizes |= {tomogram_name(file): source.volume_size_angstrom for file in source.files}
        return sizes
    return {}
