"""Lists of particles in every format that is known: which one a file has, reading and writing, and grids of tomograms."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.copick import read_copick, write_copick
from eucentric.io.dynamo import read_dynamo_table, write_dynamo_table
from eucentric.io.eman2_particles import read_eman2_particles, write_eman2_particles
from eucentric.io.emclarity_particles import read_emclarity_particles, write_emclarity_particles
from eucentric.io.exchange.warp_population import read_warp_species
from eucentric.io.guarded import reading
from eucentric.io.imod_particles import read_imod_particles, write_imod_particles
from eucentric.io.motive_lists import read_motive_list, read_stopgap, write_motive_list, write_stopgap
from eucentric.io.optimisation_sets import PARTICLES_FILE, read_optimisation_particles, write_optimisation_set
from eucentric.io.particle_columns import class_names, class_numbers, need_file, read_tomogram_numbers
from eucentric.io.particle_losses import particle_losses
from eucentric.io.peet import read_peet, write_peet
from eucentric.io.plain_particles import (
    PlainWords,
    need_words,
    read_plain_particles,
    says_how_it_is_meant,
    write_plain_particles,
)
from eucentric.io.portal_annotations import read_portal_annotations, write_portal_annotations
from eucentric.io.pytom_particles import read_pytom_star, read_pytom_xml, write_pytom_star, write_pytom_xml
from eucentric.io.relion_particles import PIXEL, WARP_ENDING, read_relion_particles, write_relion_particles
from eucentric.io.relion_pixel_particles import (
    read_warp_normalized_particles,
    write_relion3_particles,
    write_relion4_particles,
    write_relion31_particles,
    write_warp_normalized_particles,
    write_warp_particles,
)
from eucentric.io.scipion_particles import read_scipion_particles, write_scipion_particles
from eucentric.io.star import read_star_columns
from eucentric.io.tomogram_tables import read_tomogram_frames
from eucentric.io.xmipp_particles import read_xmipp_particles, write_xmipp_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import PathLike

__all__ = [
    "IN_PIXELS_OF_IMAGES",
    "ONE_TOMOGRAM",
    "PARTICLE_FORMATS",
    "known_format",
    "particle_format",
    "particle_losses",
    "read_particles",
    "read_tomogram_frames",
    "with_numbers",
    "write_particles",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """A kind of particle lists."""

    ending: str
    """Of its files as they are written."""
    read: Callable[[PathLike, TomogramFrames], ParticleSet]
    write: Callable[[PathLike, ParticleSet, TomogramFrames], object] | None = None
    """None of formats that are only read."""
    others: tuple[str, ...] = ()
    """Further endings that it has elsewhere."""
    of_images: bool = False
    """Its pixels are those of the tilt images, not voxels of a tomogram."""
    in_folder: bool = False
    """Its writer needs the ending: a name without one becomes a folder with a list of its name."""
    one: str = ""
    """`tomogram`, or `kind` of a tomogram, of which a file holds one; `all` where a folder is written as a whole."""


def _write_relion5(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    sizes = {n: f.voxel_size_angstrom for n, f in frames.by_name.items()}
    write_relion_particles(path, particles, pixel_sizes_angstrom=sizes or None)


def _write_emclarity(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> list[Path]:
    """With the binning of the voxels against the pixels of the images, where the particles know these."""
    pixel = particles.columns.get(PIXEL, np.zeros(0))
    ratio = np.unique(np.round(frames.voxel_sizes(particles.tomograms) / pixel, 3)) if len(pixel) else np.zeros(0)
    if len(ratio) != 1 or not np.isfinite(ratio[0]):
        raise InputError(
            "A table of emClarity has the binning of its volumes, and the pixel size of the tilt images is not known of these "
            "particles. Give --tomograms TABLE with rlnTomoTiltSeriesPixelSize."
        )
    if abs(ratio[0] - round(ratio[0])) > _WHOLE_BINNING:
        raise InputError(f"emClarity's volumes are binned by whole numbers, and these by {ratio[0]:g}. Bin them anew.")
    return write_emclarity_particles(path, particles, frames, round(float(ratio[0])))


_FORMATS: dict[str, _Format] = {
    "relion5": _Format(ending=".star", read=read_relion_particles, write=_write_relion5, of_images=True),
    "relion4": _Format(ending=".star", read=read_relion_particles, write=write_relion4_particles, of_images=True),
    "relion31": _Format(ending=".star", read=read_relion_particles, write=write_relion31_particles),
    "relion3": _Format(ending=".star", read=read_relion_particles, write=write_relion3_particles),
    "optimisation-set": _Format(
        ending=".star", read=read_optimisation_particles, write=write_optimisation_set, of_images=True
    ),
    "warp": _Format(ending=".star", read=read_relion_particles, write=write_warp_particles),
    "warp-normalized": _Format(
        ending=".star", read=read_warp_normalized_particles, write=write_warp_normalized_particles
    ),
    "pytom": _Format(ending=".star", read=read_pytom_star, write=write_pytom_star),
    "pytom-xml": _Format(ending=".xml", read=read_pytom_xml, write=write_pytom_xml),
    "dynamo": _Format(ending=".tbl", read=read_dynamo_table, write=write_dynamo_table),
    "stopgap": _Format(ending=".star", read=read_stopgap, write=write_stopgap),
    "em": _Format(ending=".em", read=read_motive_list, write=write_motive_list),
    "imod": _Format(ending=".mod", read=read_imod_particles, write=write_imod_particles, one="tomogram"),
    "copick": _Format(ending=".json", read=read_copick, write=write_copick, one="kind"),
    "peet": _Format(ending=".prm", read=read_peet, write=write_peet, in_folder=True),
    "eman2": _Format(
        ending=".lst", read=read_eman2_particles, write=write_eman2_particles, others=(".json", ".hdf"), in_folder=True
    ),
    "xmipp": _Format(ending=".xmd", read=read_xmipp_particles, write=write_xmipp_particles),
    "scipion": _Format(ending=".sqlite", read=read_scipion_particles, write=write_scipion_particles),
    "emclarity": _Format(ending=".csv", read=read_emclarity_particles, write=_write_emclarity, one="all"),
    "portal": _Format(ending=".ndjson", read=read_portal_annotations, write=write_portal_annotations, one="all"),
    "warp-species": _Format(ending=".species", read=read_warp_species),
    "plain": _Format(
        ending=".txt",
        read=read_plain_particles,
        write=write_plain_particles,
        others=(".csv", ".coords"),
        one="tomogram",
    ),
}
PARTICLE_FORMATS: Mapping[str, str] = MappingProxyType({name: form.ending for name, form in _FORMATS.items()})
"""Name -> the ending of its files."""
_WHOLE_BINNING = 0.02
PLAIN_ENDINGS = frozenset({_FORMATS["plain"].ending, *_FORMATS["plain"].others})
"""Of texts with plain numbers."""
READ_ONLY = frozenset(name for name, form in _FORMATS.items() if form.write is None)
"""Formats that nothing is written in."""
IN_PIXELS_OF_IMAGES = frozenset(name for name, form in _FORMATS.items() if form.of_images)
"""Formats whose pixels are those of the tilt images, not voxels of a tomogram."""
ONE_TOMOGRAM = frozenset(name for name, form in _FORMATS.items() if form.one)
"""Formats whose files hold one tomogram: several files go into a folder."""
_FEW_FOR_A_GUESS = 3
_EMCLARITY_COLUMNS = 26


def particle_format(path: PathLike) -> str:
    """The format of a file, from its ending and, of STAR files, its columns.

    Raises
    ------
    InputError : no such file
    FormatError : none that is known
    """
    place = need_file(path)
    ending = place.suffix.lower()
    if ending == ".star":
        return _star_format(place)
    if ending == ".csv" and (other := _csv_format(place)) is not None:
        return other
    if ending in PLAIN_ENDINGS:
        if not says_how_it_is_meant(place):
            need_words(PlainWords(), place)
        return "plain"
    if ending == ".xml":
        return _xml_format(place)
    if ending == ".json":
        return "eman2" if _json_of_eman2(place) else "copick"
    found = [name for name, form in _FORMATS.items() if ending in (form.ending, *form.others)]
    if not found:
        endings = sorted({e for form in _FORMATS.values() for e in (form.ending, *form.others)})
        raise FormatError(f"`{place.name}` is of no kind that is known. Expected one of {', '.join(endings)}.")
    return found[0]


def _star_format(place: Path) -> str:
    blocks = read_star_columns(place)
    columns = {label for table in blocks.values() for label in table}
    if PARTICLES_FILE in columns:
        return "optimisation-set"
    if {"tomo_num", "orig_x", "the"} <= columns:
        return "stopgap"
    if "rlnCenteredCoordinateXAngst" in columns:
        return "relion5"
    if {"wrpSourceName", "wrpCoordinateX1"} <= columns:
        return "warp-species"
    if "rlnCoordinateX" not in columns:
        raise FormatError(
            f"`{place}` is a STAR file without particles: none of its tables has coordinates that are known."
        )
    if {"rlnLCCmax", "rlnDetectorPixelSize", "rlnMicrographName"} <= columns:
        return "pytom"
    if "rlnTomoName" in columns:
        return "relion4"
    table = next(t for t in blocks.values() if "rlnCoordinateX" in t)
    names = table.texts("rlnMicrographName") if "rlnMicrographName" in table else np.zeros(0, dtype=np.str_)
    if len(names) and not np.char.endswith(names, WARP_ENDING).all():
        return "relion31" if "optics" in blocks else "relion3"
    places = [table.numbers(f"rlnCoordinate{a}") for a in "XYZ" if f"rlnCoordinate{a}" in table]
    if len(names) >= _FEW_FOR_A_GUESS and all(((p >= 0) & (p <= 1)).all() for p in places):
        raise FormatError(
            f"All coordinates of `{place}` are between 0 and 1. Are they parts of the tomogram, as Warp takes them with "
            "--normalized_coords? Then give --from warp-normalized, and for voxels --from warp."
        )
    return "warp"


def _xml_format(place: Path) -> str:
    """By the root element."""
    try:
        root = next(ElementTree.iterparse(place, events=("start",)))[1].tag
    except (ElementTree.ParseError, StopIteration) as error:
        raise FormatError(
            f"`{place}` is not XML that can be read: {str(error) or 'it is empty'}. It is damaged; copy it again."
        ) from error
    if root == "ParticleList":
        return "pytom-xml"
    if root == "TiltSeries":
        raise FormatError(f"`{place}` is a tilt series of Warp or M, not a list of particles. Give the list instead.")
    raise FormatError(
        f"`{place}` is not a list of particles: it holds <{str(root)[:60]}>; expected PyTom's <ParticleList>."
    )


def _csv_format(place: Path) -> str | None:
    """PEET's lists begin with names, emClarity's have 26 numbers a peak with blanks between; others are plain."""
    with place.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip() and not line.startswith("#")), "")
    if first.startswith("CCC"):
        return "peet"
    return "emclarity" if len(first.split()) >= _EMCLARITY_COLUMNS and "," not in first else None


def _json_of_eman2(place: Path) -> bool:
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and bool(document) and not {"pickable_object_name", "run_name"} & set(document)


def known_format(name: str) -> str:
    """The name itself; InputError where no format is called so."""
    if name not in _FORMATS:
        raise InputError(f"There is no format `{name}`. Expected one of {', '.join(PARTICLE_FORMATS)}.")
    return name


def read_particles(
    path: PathLike,
    frames: TomogramFrames | None = None,
    format_name: str | None = None,
    *,
    words: PlainWords | None = None,
) -> ParticleSet:
    """Particles of a file, or of all files of a folder, of any known format.

    Parameters
    ----------
    path : file, or folder of files with one ending
    frames : grids of the tomograms; not needed for RELION-5's tables
    format_name : one of `PARTICLE_FORMATS`; found from the file where None
    words : how plain numbers are meant

    Raises
    ------
    InputError : no such file, an unknown format, or a tomogram of unknown size
    FormatError : a file that is not of the format
    """
    place, grids = Path(path), frames or TomogramFrames()
    if place.is_dir() and format_name != "portal":
        if format_name:
            form = _FORMATS[known_format(format_name)]
            endings = {form.ending, *form.others}
        else:
            endings = {".mod", ".json"}
        files = sorted(f for f in place.iterdir() if f.suffix.lower() in endings)
        if not files:
            raise InputError(f"`{place}` holds no file of particles ({', '.join(sorted(endings))}).")
        return ParticleSet.concatenate([read_particles(f, grids, format_name, words=words) for f in files])
    told = words is not None and words.told and place.suffix.lower() in PLAIN_ENDINGS
    name = known_format(format_name) if format_name else "plain" if told else particle_format(place)
    with reading(place):
        if name == "plain":
            return read_plain_particles(place, grids, words)
        return _FORMATS[name].read(place, grids)


def write_particles(
    path: PathLike,
    particles: ParticleSet,
    format_name: str,
    frames: TomogramFrames | None = None,
    *,
    words: PlainWords | None = None,
    tomograms: PathLike | None = None,
) -> list[Path]:
    """Write particles; the files made.

    A format of one tomogram a file gets a folder with a file for each (copick: and each kind), unless `path` has the ending of
    the format and the particles are of one. Of PEET and EMAN2 a name without any ending becomes a folder with the list in it.

    Parameters
    ----------
    words : how plain numbers are meant; A from the centre and RELION's angles where None
    tomograms : the table that an optimisation set names; one of sizes is made where None

    Raises
    ------
    InputError : an unknown format, one that is only read, or a tomogram of unknown size
    BackendError : the disk is full
    """
    place, grids, name = Path(path), frames or TomogramFrames(), known_format(format_name)
    form = _FORMATS[name]
    if form.in_folder and not place.suffix:
        place = place / f"{place.name}{form.ending}"
    if form.write is None:
        raise InputError(f"Lists of {name} are read, not written. Give another format: relion5, dynamo, or see --help.")
    if form.one in ("tomogram", "kind") and place.suffix.lower() not in (form.ending, *form.others):
        numbered = _numbered(particles) if name == "plain" else particles
        return [
            file
            for target, part in _parts(place, numbered, form)
            for file in write_particles(target, part, name, grids, words=words)
        ]
    if name == "plain":
        write_plain_particles(place, particles, grids, words)
        return [place]
    if name == "optimisation-set":
        return write_optimisation_set(place, particles, grids, tomograms)
    made = form.write(place, particles, grids)
    return [Path(one) for one in made] if isinstance(made, list | tuple) else [place]


def _numbered(particles: ParticleSet) -> ParticleSet:
    """With kinds as numbers that are the same in every file."""
    return particles.with_kinds(class_names(class_numbers(particles.kinds)))


def _parts(folder: Path, particles: ParticleSet, form: _Format) -> list[tuple[Path, ParticleSet]]:
    """Files of a folder, with the particles of one tomogram, or one kind of it, each."""
    out = []
    for tomogram in particles.tomogram_names:
        part = particles.in_tomogram(tomogram)
        if form.one == "tomogram":
            out.append((folder / f"{tomogram}{form.ending}", part))
            continue
        out += [
            (folder / f"{tomogram}_{kind or 'particle'}{form.ending}", part.select(part.kinds == kind))
            for kind in sorted({str(k) for k in part.kinds})
        ]
    return out


def with_numbers(frames: TomogramFrames, path: PathLike) -> TomogramFrames:
    """The same grids, with the numbers of tomograms in a file of two columns: number, name."""
    return TomogramFrames(by_name=frames.by_name, default=frames.default, numbers=read_tomogram_numbers(path))
