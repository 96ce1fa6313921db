"""`eucentric convert`: a file or folder in another program's format, both conventions in words, a check by eye and number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.evaluation.geometry_difference import GeometryDifference, compare_geometry
from eucentric.figures.conversion import TomogramSlices, particles_figure, phantom_figure, volumes_figure
from eucentric.geometry import Rotation
from eucentric.io.atomic import atomic_path
from eucentric.io.exchange.formats import (
    GEOMETRY_FORMATS,
    geometry_format,
    read_geometry,
    recognised_formats,
    write_geometry,
)
from eucentric.io.exchange.records import GeometryWords, Given, SeriesGeometry
from eucentric.io.particle_words import PARTICLE_WORDS
from eucentric.io.particles import PARTICLE_FORMATS, particle_format
from eucentric.io.refused_formats import refusal
from eucentric.io.volumes import VOLUME_ENDINGS, OpenVolume, VolumeInfo, is_volume_file, open_volume
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.convert_volume import convert_volume
from eucentric.pipeline.particle_files import Grids, convert_list, read_list
from eucentric.typing import FloatArray

Kind = Literal["series", "particles", "volume"]
_SERIES_ENDINGS = {
    ".xf": "imod", ".aln": "aretomo", ".xml": "warp", ".tomostar": "warp", ".star": "relion5", ".defocus": "ctfplotter",
}  # fmt: skip
_PARTICLE_ENDINGS = {
    ".star": "relion5", ".tbl": "dynamo", ".em": "em", ".mod": "imod", ".xml": "pytom-xml", ".json": "copick",
}  # fmt: skip
_SAME_PX = 0.1
_SECTIONS, _MOST = 8, 0.95
_MOTIVES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end of a conversion."""

    path: Path
    title: str
    words: GeometryWords


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion did."""

    kind: Kind
    before: Side
    after: Side
    files: tuple[Path, ...]
    what: str
    """In words, such as `3 tilt series with 123 tilts`."""
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    """Results of reading back what was written."""
    check_failed: bool = False
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What the user tells beyond the two names."""

    kind: Kind | None = None
    from_format: str | None = None
    to_format: str | None = None
    given: Given = field(default_factory=Given)
    grids: Grids = field(default_factory=Grids)
    dtype: str | None = None
    check: bool = False


def kind_of(path: Path, format_name: str | None = None) -> Kind:
    """Whether a file or folder holds tilt series, particles or a volume.

    Raises
    ------
    InputError : no such place, none of them, or more than one
    """
    if not path.exists():
        raise InputError(f"`{path}` does not exist. Check the name and the folder.")
    refused = refusal(path)
    if refused is not None:
        raise InputError(refused)
    if format_name is not None:
        of_series, of_particles = format_name in GEOMETRY_FORMATS, format_name in PARTICLE_FORMATS
        if of_series != of_particles:
            return "series" if of_series else "particles"
        if not of_series:
            raise InputError(
                f"There is no format `{format_name}`. Tilt series: {', '.join(GEOMETRY_FORMATS)}. "
                f"Particles: {', '.join(PARTICLE_FORMATS)}."
            )
    kinds: list[Kind] = []
    if recognised_formats(path):
        kinds.append("series")
    # endings such as .xml and .json are shared: what says itself that it is a series is one
    if path.is_file() and (not kinds or path.suffix.lower() == ".star") and _is_list(path):
        kinds.append("particles")
    if is_volume_file(path) and not (kinds == ["particles"] and _is_motive_list(path)):
        kinds = ["volume"]
    if not kinds and path.is_dir() and any(f.suffix.lower() in (".mod", ".json") for f in path.iterdir()):
        kinds.append("particles")
    if len(kinds) != 1:
        held = " and ".join(kinds) if kinds else "neither tilt series, particles nor a volume that is known"
        raise InputError(
            f"`{path}` holds {held}. Say what is meant with --what series, particles or volume, and --from."
        )
    return kinds[0]


def _is_motive_list(path: Path) -> bool:
    """Whether an EM file has the 20 numbers a particle of TOM and AV3; other volumes are no lists."""
    return path.suffix.lower() == ".em" and open_volume(path).info.shape[2] == _MOTIVES


def _is_list(path: Path) -> bool:
    try:
        particle_format(path)
    except EucentricError:
        return False
    return True


def convert(source: Path, target: Path, options: ConvertOptions) -> Converted:
    """Write tilt series, particles or a volume in another format.

    Raises
    ------
    InputError : something that is not known, or cannot be told apart
    FormatError : a source that is damaged
    BackendError : the disk is full
    """
    kind = options.kind or kind_of(source, options.from_format)
    if kind == "series":
        return _convert_series(source, target, options)
    return (
        _convert_particles(source, target, options) if kind == "particles" else _convert_volume(source, target, options)
    )


def _target_format(target: Path, given: str | None, endings: Mapping[str, str], known: Sequence[str]) -> str:
    if given is not None:
        return given
    found = endings.get(target.suffix.lower())
    if found is None:
        raise InputError(f"`{target}` does not tell which format is meant. Give --to: {', '.join(known)}.")
    return found


def _convert_series(source: Path, target: Path, options: ConvertOptions) -> Converted:
    to = _target_format(target, options.to_format, _SERIES_ENDINGS, list(GEOMETRY_FORMATS))
    form = geometry_format(to)
    before, geometries = read_geometry(source, options.given, options.from_format)
    if target.suffix and len(geometries) == 1 and target.suffix.lower() != ".star":
        geometries = (replace(geometries[0], series=geometries[0].series.replace(name=target.stem)),)
    written = write_geometry(target, geometries, to)
    checks: list[str] = []
    pictures: list[Path] = []
    failed = False
    if options.check:
        checks, pictures, failed = _check_series(target, form.name, geometries, (before.title, form.title))
    tilts = sum(len(g.series.tilts) for g in geometries)
    return Converted(
        kind="series",
        before=Side(path=source, title=before.title, words=before.words),
        after=Side(path=target, title=form.title, words=form.words),
        files=written.files,
        what=f"{len(geometries)} tilt series with {tilts} tilts",
        notes=tuple(dict.fromkeys(note for g in geometries for note in g.notes)),
        losses=written.losses,
        checks=tuple(checks),
        check_failed=failed,
        pictures=tuple(pictures),
    )


def read_back(target: Path, to: str, geometry: SeriesGeometry) -> SeriesGeometry:
    """A series that was just written, read again with what the format does not hold.

    Raises
    ------
    InputError, FormatError : what was written cannot be read
    """
    series = geometry.series
    given = Given(
        pixel_size_angstrom=series.pixel_size_angstrom,
        image_shape=series.image_shape,
        optics=series.optics,
        dose_per_tilt=float(np.median(series.doses)) if len(series.tilts) else None,
    )
    found = geometry_format(to).read(target, given)
    own = [g for g in found if g.series.name == series.name] or (list(found) if len(found) == 1 else [])
    if not own:
        raise FormatError(f"{series.name} is not among the series of `{target}`.")
    return own[0]


def _check_series(
    target: Path, to: str, geometries: Sequence[SeriesGeometry], titles: tuple[str, str]
) -> tuple[list[str], list[Path], bool]:
    lines, pictures, failed = [], [], False
    for geometry in geometries:
        name = geometry.series.name
        back = read_back(target, to, geometry)
        apart = compare_geometry(geometry.series, back.series, first_warp=geometry.warp, second_warp=back.warp)
        lines.append(f"{name}: {_words(apart)}")
        failed |= apart.position_px > _SAME_PX or apart.tilts_missing > 0 or not apart.hand_kept
        if apart.seen is not None:
            beside = target if target.is_dir() else target.parent
            path = beside / f"{name}_check.png"
            _save(
                phantom_figure(apart.seen, titles[0], titles[1], f"{name}: one phantom through both geometries"), path
            )
            pictures.append(path)
    return lines, pictures, failed


def _words(apart: GeometryDifference) -> str:
    parts = []
    if np.isfinite(apart.position_px):
        parts.append(
            f"points of a phantom at most {apart.position_px:.3f} px apart ({apart.position_rms_px:.3f} rms), "
            f"rotations {apart.angle_deg:.3f} degrees"
        )
    if np.isfinite(apart.defocus_angstrom):
        parts.append(f"defocus {apart.defocus_angstrom:.2f} A")
    parts.append("hand kept" if apart.hand_kept else "HAND TURNED")
    if apart.tilts_missing:
        parts.append(f"{apart.tilts_missing} tilts are missing")
    return ", ".join(parts) + "."


def _convert_particles(source: Path, target: Path, options: ConvertOptions) -> Converted:
    to = _target_format(target, options.to_format, _PARTICLE_ENDINGS, list(PARTICLE_FORMATS))
    name = options.from_format or ("imod" if source.is_dir() else particle_format(source))
    particles, made = convert_list(source, target, to, options.grids, options.from_format)
    checks: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    failed = False
    if options.check:
        back = read_list(target, options.grids, to)
        checks, failed = _compare_particles(particles, back, options.grids)
        beside = target if target.is_dir() else target.parent
        picture = beside / f"{target.stem}_check.png"
        _save(_particle_picture(particles, back, (name, to), options.grids), picture)
        pictures = (picture,)
    return Converted(
        kind="particles",
        before=Side(path=source, title=name, words=PARTICLE_WORDS[name]),
        after=Side(path=target, title=to, words=PARTICLE_WORDS[to]),
        files=tuple(made),
        what=f"{len(particles)} particles of {len(particles.tomogram_names)} tomograms",
        checks=checks,
        check_failed=failed,
        pictures=pictures,
    )


def _sorted(particles: ParticleSet) -> ParticleSet:
    return particles.select(np.argsort(particles.tomograms, kind="stable"))


def _compare_particles(first: ParticleSet, second: ParticleSet, grids: Grids) -> tuple[tuple[str, ...], bool]:
    if len(first) != len(second):
        return (f"{len(first)} particles were written and {len(second)} are read back.",), True
    a, b = _sorted(first), _sorted(second)
    away = np.linalg.norm(a.positions_angstrom - b.positions_angstrom, axis=1)
    angle = Rotation(a.rotations).angle_to_deg(Rotation(b.rotations))
    pixel = grids.pixel_size_angstrom or 1.0
    words = f"read back: positions at most {away.max():.3f} A apart, rotations {angle.max():.3f} degrees."
    return (words,), bool(away.max() > _SAME_PX * pixel or angle.max() > 0.05)


def _particle_picture(first: ParticleSet, second: ParticleSet, names: tuple[str, str], grids: Grids) -> Figure:
    """Of the tomogram with most particles; over its slices where --tomograms names a volume."""
    tomogram = max(first.tomogram_names, key=lambda n: int(np.sum(first.tomograms == n)))
    parts = [p.in_tomogram(tomogram) for p in (first, second)]
    slices = None
    if grids.tomograms is not None and grids.tomograms.suffix.lower() in VOLUME_ENDINGS:
        slices = _slices(grids.tomograms, parts[0].positions_angstrom)
    return particles_figure(
        [p.positions_angstrom for p in parts],
        [p.rotations[:, :, 2] for p in parts],
        names,
        slices=slices,
        title=f"{tomogram}: particles before and after, with their z axes",
    )


def _slices(path: Path, positions: FloatArray) -> TomogramSlices | None:
    """Through the middle of the particles that lie in the tomogram."""
    volume = open_volume(path)
    if volume.info.voxel_size_angstrom is None:
        return None
    nz, ny, nx = volume.info.shape
    frame = TomogramFrame(voxel_size_angstrom=volume.info.voxel_size_angstrom[0], size_xyz=(nx, ny, nz))
    low, high = frame.to_angstrom([[-0.5] * 3, [nx - 0.5, ny - 0.5, nz - 0.5]])
    inside = positions[((positions > low) & (positions < high)).all(axis=1)]
    at = np.median(inside, axis=0) if len(inside) else np.zeros(3)
    _, y, z = np.clip(np.round(frame.to_index(at)).astype(int), 0, np.array([nx, ny, nz]) - 1)
    cuts = _cuts(volume, int(z), int(y))
    return TomogramSlices(pictures=(cuts[0], cuts[1]), extent_angstrom=np.stack([low, high], axis=1), at_angstrom=at)


def _convert_volume(source: Path, target: Path, options: ConvertOptions) -> Converted:
    made = convert_volume(source, target, dtype=options.dtype, voxel_size_angstrom=options.given.pixel_size_angstrom)
    checks: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    failed = False
    before, after = open_volume(source), open_volume(target)
    if options.check:
        checks, failed = _compare_volumes(before, after, made.dtype)
        picture = target.with_name(f"{target.stem}_check.png")
        cuts = [_cuts(v) for v in (before, after)]
        _save(volumes_figure(cuts[0], cuts[1], (source.name, target.name), "Central slices before and after"), picture)
        pictures = (picture,)
    return Converted(
        kind="volume",
        before=Side(path=source, title=before.info.format, words=_volume_words(before.info)),
        after=Side(path=target, title=after.info.format, words=_volume_words(after.info)),
        files=(target,),
        what=f"a volume of {' x '.join(map(str, before.info.shape[::-1]))} voxels as {made.dtype}",
        notes=made.notes,
        checks=checks,
        check_failed=failed,
        pictures=pictures,
    )


def _true_section(volume: OpenVolume, section: int) -> FloatArray:
    info = volume.info
    stored = volume.read_stored(section, section + 1)[0]
    return np.asarray(stored, dtype=np.float64) * info.scale + info.offset


def _compare_volumes(before: OpenVolume, after: OpenVolume, dtype: str) -> tuple[tuple[str, ...], bool]:
    """Some sections of both, but for the twentieth of the voxels that differ most: int8 clips what is far from the mean."""
    if before.info.shape != after.info.shape:
        return (f"{before.info.shape[::-1]} voxels were read and {after.info.shape[::-1]} are there.",), True
    sections = np.unique(np.linspace(0, before.info.shape[0] - 1, _SECTIONS).astype(int))
    pairs = [(_true_section(before, int(s)), _true_section(after, int(s))) for s in sections]
    spread = float(np.sqrt(np.mean([np.var(a) for a, _ in pairs]))) or 1.0
    away = float(np.quantile(np.concatenate([np.abs(a - b).ravel() for a, b in pairs]), _MOST)) / spread
    words = (
        f"read back: in {len(sections)} sections 95% of the values differ by less than {100 * away:.2g}% of the standard "
        "deviation."
    )
    return (words,), away > (0.05 if dtype == "int8" else 0.005)


def _cuts(volume: OpenVolume, z: int | None = None, y: int | None = None) -> list[FloatArray]:
    """Slices across z, y and x, read slab by slab; central ones where no index is given."""
    nz, ny, nx = volume.info.shape
    z, y = nz // 2 if z is None else z, ny // 2 if y is None else y
    across_y, across_x = np.empty((nz, nx), dtype=np.float32), np.empty((nz, ny), dtype=np.float32)
    row = 0
    for slab in volume.true_slabs():
        across_y[row : row + len(slab)], across_x[row : row + len(slab)] = slab[:, y], slab[:, :, nx // 2]
        row += len(slab)
    return [
        _true_section(volume, nz // 2),
        np.asarray(across_y, dtype=np.float64),
        np.asarray(across_x, dtype=np.float64),
    ]


def _volume_words(about: VolumeInfo) -> GeometryWords:
    size, origin = about.voxel_size_angstrom, about.origin_angstrom
    return GeometryWords(
        origin=f"the middle of the first voxel lies at {', '.join(f'{v:g}' for v in origin)} A (x, y, z)",
        unit="voxels of unknown size" if size is None else f"voxels of {' x '.join(f'{v:g}' for v in size)} A",
        hand="as stored: x fastest, then y, then z",
        angles="none",
    )


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
