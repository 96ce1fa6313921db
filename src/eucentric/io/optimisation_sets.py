"""RELION's optimisation sets: a STAR file that names the particles, tomograms and references that belong together.

rlnTomoParticlesFile and rlnTomoTomogramsFile are paths from the folder in which RELION runs; Warp writes them from the folder of
the set (`ExportParticlesTiltseries.cs`). Both are looked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from eucentric.errors import FormatError, InputError
from eucentric.io.guarded import reading
from eucentric.io.particle_columns import need_file
from eucentric.io.relion_particles import read_relion_particles, write_relion_particles
from eucentric.io.star import Column, read_star_text, write_star
from eucentric.io.tomogram_tables import read_tomogram_frames
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import PathLike

PARTICLES_FILE, TOMOGRAMS_FILE = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisationSet:
    """The files of a set, where they are."""

    particles: Path
    tomograms: Path | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    """Trajectories, manifolds and references as they are named, by STAR label."""


def read_optimisation_set(path: PathLike) -> OptimisationSet:
    """The files that a set names.

    Raises
    ------
    InputError : no such file, or no such list of particles
    FormatError : not an optimisation set
    """
    place = need_file(path)
    values = {label: column[0] for table in read_star_text(place).values() for label, column in table.items() if column}
    named = values.get(PARTICLES_FILE)
    if named is None:
        raise FormatError(f"`{place}` is not an optimisation set: it has no {PARTICLES_FILE}.")
    particles = _find(named, place)
    if particles is None:
        raise InputError(
            f"`{place}` names the particles `{named}`, which lie neither beside it nor in a folder above. Copy them there, or "
            f"mend {PARTICLES_FILE}."
        )
    tomograms = values.get(TOMOGRAMS_FILE)
    return OptimisationSet(
        particles=particles,
        tomograms=None if tomograms is None else _find(tomograms, place),
        others={k: v for k, v in values.items() if v is not None and k not in (PARTICLES_FILE, TOMOGRAMS_FILE)},
    )


def _find(named: str, place: Path) -> Path | None:
    """Beside the set, or from a folder above it, or from where we are."""
    folder, linked = place.absolute().parent, place.resolve().parent
    roots = (folder, *folder.parents, linked, *linked.parents, Path())
    with reading(place):
        return next((root / named for root in roots if (root / named).is_file()), None)


def read_optimisation_particles(path: PathLike, frames: TomogramFrames | None = None) -> ParticleSet:
    """Particles of a set, with the grids of its tomograms in pixels of their images.

    Parameters
    ----------
    frames : grids that go before those of the set

    Raises
    ------
    InputError, FormatError : as `read_optimisation_set` and `read_relion_particles`
    """
    found = read_optimisation_set(path)
    grids = frames or TomogramFrames()
    if found.tomograms is not None:
        try:
            own = read_tomogram_frames(found.tomograms, of_images=True)
            grids = replace(grids, by_name={**own.by_name, **grids.by_name})
        except FormatError:
            pass  # a table without sizes: RELION-5's particles need none, and others are told what is missing
    return read_relion_particles(found.particles, grids)


def write_optimisation_set(
    path: PathLike, particles: ParticleSet, frames: TomogramFrames, tomograms: PathLike | None = None
) -> list[Path]:
    """Write a set with its RELION-5 particles; the files made.

    Parameters
    ----------
    path : `NAME.star`; the particles go to `NAME_particles.star` beside it
    frames : the tomograms in pixels of the tilt images
    tomograms : the table of tomograms or tilt series that the set is to name; without it one of names and sizes is made, which
        tells where particles lie but has no images

    Raises
    ------
    InputError : a tomogram of unknown size
    """
    place = Path(path)
    listed = place.with_name(f"{place.stem}_particles.star")
    sizes = {name: frames.of(name).voxel_size_angstrom for name in particles.tomogram_names}
    write_relion_particles(listed, particles, pixel_sizes_angstrom=sizes)
    made = [listed]
    if tomograms is None:
        table = place.with_name(f"{place.stem}_tomograms.star")
        names = list(particles.tomogram_names)
        columns: dict[str, Column] = {
            "rlnTomoName": names,
            "rlnTomoTiltSeriesPixelSize": [sizes[name] for name in names],
            **{f"rlnTomoSize{a}": [frames.of(n).size_xyz[i] for n in names] for i, a in enumerate("XYZ")},
        }
        write_star(table, {"global": columns})
        made.append(table)
    else:
        table = Path(tomograms)
    write_star(place, {"": {PARTICLES_FILE: [_named(listed)], TOMOGRAMS_FILE: [_named(table)]}})
    return [place, *made]


def _named(path: Path) -> str:
    """As RELION finds it from the folder where it runs, which is the one we are in; the whole path of what lies elsewhere."""
    whole, here = path.resolve(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)
