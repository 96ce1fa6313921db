"""`eucentric convert`: a file or folder in another program's format, both conventions in words, a check by eye and number."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from eucentric.errors import EucentricError, InputError
from eucentric.io.exchange.formats import (
    GEOMETRY_FORMATS,
    geometry_format,
    read_geometry,
    recognised_formats,
    write_geometry,
)
from eucentric.io.exchange.records import GeometryWords, Given
from eucentric.io.particle_words import PARTICLE_WORDS
from eucentric.io.particles import PARTICLE_FORMATS, particle_format
from eucentric.io.refused_formats import refusal
from eucentric.io.volumes import VolumeInfo, is_volume_file, open_volume
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.convert_checks import Check, check_particles, check_series, check_volume, picture_of
from eucentric.pipeline.convert_volume import convert_volume
from eucentric.pipeline.particle_files import Grids, prepare_list, read_list

Kind = Literal["series", "particles", "volume"]
_SERIES_ENDINGS = {
    ".xf": "imod", ".aln": "aretomo", ".xml": "warp", ".tomostar": "warp", ".star": "relion5", ".defocus": "ctfplotter",
}  # fmt: skip
_PARTICLE_ENDINGS = {
    ".star": "relion5", ".tbl": "dynamo", ".em": "em", ".mod": "imod", ".xml": "pytom-xml", ".json": "copick",
}  # fmt: skip
_MOTIVES = 20


_NOT_CHECKED = Check(lines=(), failed=False)


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
    check: Check = _NOT_CHECKED


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
    overwrite: bool = False


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
    if options.dtype is not None and kind != "volume":
        raise InputError(f"--dtype is of volumes, and `{source}` holds {kind}. Leave it out.")
    if kind == "series":
        return _convert_series(source, target, options)
    return (
        _convert_particles(source, target, options) if kind == "particles" else _convert_volume(source, target, options)
    )


def _target_format(target: Path, given: str | None, endings: Mapping[str, str], known: Sequence[str], what: str) -> str:
    name = given or endings.get(target.suffix.lower())
    if name is None:
        raise InputError(
            f"The source holds {what}, and `{target.name}` does not tell a format of those. Give --to: {', '.join(known)}."
        )
    if name not in known:
        raise InputError(f"The source holds {what}, and `{name}` is no format of those. Give --to: {', '.join(known)}.")
    return name


def _convert_series(source: Path, target: Path, options: ConvertOptions) -> Converted:
    to = _target_format(target, options.to_format, _SERIES_ENDINGS, list(GEOMETRY_FORMATS), "tilt series")
    form = geometry_format(to)
    before, geometries = read_geometry(source, options.given, options.from_format)
    if target.suffix and len(geometries) == 1 and target.suffix.lower() != ".star":
        geometries = (replace(geometries[0], series=geometries[0].series.replace(name=target.stem)),)
    if not options.overwrite:
        _refuse_to_replace(target, lambda place: write_geometry(place, geometries, to).files)
        _refuse_pictures(target, [g.series.name for g in geometries] if options.check else [])
    written = write_geometry(target, geometries, to)
    check = (
        check_series(target, form.name, geometries, (before.program, form.program)) if options.check else _NOT_CHECKED
    )
    tilts = sum(len(g.series.tilts) for g in geometries)
    return Converted(
        kind="series",
        before=Side(path=source, title=before.title, words=before.words),
        after=Side(path=target, title=form.title, words=form.words),
        files=written.files,
        what=f"{len(geometries)} tilt series with {tilts} tilts",
        notes=tuple(dict.fromkeys(note for g in geometries for note in g.notes)),
        losses=written.losses,
        check=check,
    )


def _refuse_to_replace(target: Path, write: Callable[[Path], Sequence[Path]]) -> None:
    """Stop before files that are there are lost: what would be written is written elsewhere first.

    Raises
    ------
    InputError : one of the files exists
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / target.name
        made = [Path(os.path.relpath(file, place.parent)) for file in write(place)]
    there = [str(file) for part in made if (file := target.parent / part).exists()]
    if there:
        shown = ", ".join(f"`{file}`" for file in there[:4]) + " and others" * (len(there) > 4)
        raise InputError(f"{shown} would be replaced. Give another name or folder, or --overwrite.")


def _refuse_pictures(target: Path, names: Sequence[str | None]) -> None:
    there = [path for name in names if (path := picture_of(target, name)).exists()]
    if there:
        raise InputError(f"`{there[0]}` would be replaced by the picture of --check. Move it, or give --overwrite.")


def _convert_particles(source: Path, target: Path, options: ConvertOptions) -> Converted:
    to = _target_format(target, options.to_format, _PARTICLE_ENDINGS, list(PARTICLE_FORMATS), "particles")
    name = options.from_format or ("imod" if source.is_dir() else particle_format(source))
    ready = prepare_list(source, to, options.grids, options.from_format)
    particles = ready.particles
    if not options.overwrite:
        few = _one_of_each(particles)
        _refuse_to_replace(target, lambda place: ready.write(place, few))
        _refuse_pictures(target, [None] if options.check else [])
    made = ready.write(target)
    check = _NOT_CHECKED
    if options.check:
        back = read_list(target, options.grids, to)
        check = check_particles(target, particles, back, (name, to), ready.frames, options.grids.tomograms)
    return Converted(
        kind="particles",
        before=Side(path=source, title=name, words=PARTICLE_WORDS[name]),
        after=Side(path=target, title=to, words=PARTICLE_WORDS[to]),
        files=tuple(made),
        what=f"{len(particles)} particles of {len(particles.tomogram_names)} tomograms",
        losses=ready.losses(target),
        check=check,
    )


def _one_of_each(particles: ParticleSet) -> list[int]:
    """A particle of every tomogram and kind: enough to know which files a list becomes."""
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(particles.tomograms.tolist(), particles.kinds.tolist(), strict=True)):
        first.setdefault(key, row)
    return sorted(first.values())


def _convert_volume(source: Path, target: Path, options: ConvertOptions) -> Converted:
    if options.to_format is not None:
        raise InputError("Volumes have the format of their ending: leave --to out, and give the target another ending.")
    if not options.overwrite:
        if target.exists():
            raise InputError(f"`{target}` would be replaced. Give another name, or --overwrite.")
        _refuse_pictures(target, [None] if options.check else [])
    made = convert_volume(source, target, dtype=options.dtype, voxel_size_angstrom=options.given.pixel_size_angstrom)
    before, after = open_volume(source).info, open_volume(target).info
    return Converted(
        kind="volume",
        before=Side(path=source, title=before.format, words=_volume_words(before)),
        after=Side(path=target, title=after.format, words=_volume_words(after)),
        files=(target,),
        what=f"a volume of {' x '.join(map(str, before.shape[::-1]))} voxels as {made.dtype}",
        notes=made.notes,
        check=check_volume(source, target, made.dtype) if options.check else _NOT_CHECKED,
    )


def _volume_words(about: VolumeInfo) -> GeometryWords:
    size, origin = about.voxel_size_angstrom, about.origin_angstrom
    return GeometryWords(
        origin=f"the middle of the first voxel lies at {', '.join(f'{v:g}' for v in origin)} A (x, y, z)",
        unit="voxels of unknown size" if size is None else f"voxels of {' x '.join(f'{v:g}' for v in size)} A",
        hand="as stored: x fastest, then y, then z",
        angles="none",
    )
