"""`eucentric particles`: tools on lists of particles."""

import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from eucentric.cli.list_options import (
    ListTableOptions,
    ReadOptions,
    grids_of,
    read_given,
    refuse_to_replace,
    write_list,
)
from eucentric.cli.options import SEVERAL, Switch, show_json
from eucentric.errors import InputError

_WIDTH = 160
_DEFAULT = ReadOptions()
Signed = Parameter(allow_leading_hyphen=True, negative=())


def convert(
    source: Path,
    target: Path,
    /,
    *,
    to: str = "relion5",
    overwrite: Switch = False,
    options: ReadOptions = _DEFAULT,
) -> int:
    """Write a list in another program's format. Positions and rotations stay what they are in the specimen.

    Parameters
    ----------
    source
        list of particles, an optimisation set of RELION, or a folder of IMOD models or copick files
    target
        file to be made; a folder for several tomograms as IMOD models, copick files, annotations of the data portal,
        emClarity's tables or plain numbers
    to
        relion5, relion4, relion31, relion3, optimisation-set, warp, warp-normalized, pytom, pytom-xml, dynamo, stopgap, em, imod,
        peet, copick, portal, eman2, xmipp, scipion, emclarity or plain
    overwrite
        replace a file that exists
    """
    from eucentric.pipeline.particle_files import prepare_list

    refuse_to_replace(target, overwrite)
    ready = prepare_list(source, to, grids_of(options), options.from_format)
    particles, made = ready.particles, ready.write(target)
    for loss in ready.losses(target):
        sys.stdout.write(f"loss: {loss}\n")
    sys.stdout.write(
        f"Wrote {len(particles)} particles of {len(particles.tomogram_names)} tomograms to {', '.join(map(str, made[:5]))}"
        f"{' and others' * (len(made) > 5)}.\n"
    )
    if options.as_json:
        show_json({"exit_code": 0, "particles": len(particles), "files": [str(p) for p in made]})
    return 0


def merge(
    *sources: Path,
    distance: float | None = None,
    keep: str = "best",
    same_kind: Switch = False,
    options: ListTableOptions,
) -> int:
    """Put lists together. With a distance, particles nearer than that are one.

    Parameters
    ----------
    sources
        two lists or more
    distance
        A; all particles are kept where not given
    keep
        of the same particle, best (by score) or first (the list named first, where scores cannot be compared)
    same_kind
        only particles of one kind can be the same
    """
    from eucentric.models.particle_matching import merge_particles

    if len(sources) < 2:
        raise InputError("Name two lists or more to be merged.")
    parts = [read_given(path, options) for path in sources]
    merged = merge_particles(parts, distance, keep=keep, same_kind=same_kind)
    return write_list(merged, sum(map(len, parts)), options)


def dedupe(
    source: Path,
    /,
    *,
    distance: float,
    keep: str = "best",
    same_kind: Switch = False,
    options: ListTableOptions,
) -> int:
    """Of particles too near to each other keep the one of the best score.

    Parameters
    ----------
    source
        list of particles
    distance
        A between particles at least; half to a whole diameter is usual
    keep
        best (by score) or first
    same_kind
        particles of different kinds do not compete
    """
    from eucentric.models.particle_matching import dedupe_particles

    particles = read_given(source, options)
    kept = dedupe_particles(particles, distance, keep=keep, same_kind=same_kind)
    return write_list(kept, len(particles), options)


def intersect(
    first: Path,
    second: Path,
    /,
    *,
    distance: float,
    keep: str = "first",
    same_kind: Switch = False,
    options: ListTableOptions,
) -> int:
    """Keep the particles that two lists share, one to one.

    Parameters
    ----------
    first
        list of particles
    second
        another
    distance
        A between the two places of a particle, at most
    keep
        first, second, or best (of the two, by score)
    same_kind
        only particles of one kind can be the same
    """
    from eucentric.models.particle_matching import intersect_particles

    a, b = read_given(first, options), read_given(second, options)
    kept = intersect_particles(a, b, distance, keep=keep, same_kind=same_kind)
    return write_list(kept, len(b if keep == "second" else a), options)


def subtract(
    first: Path,
    second: Path,
    /,
    *,
    distance: float,
    same_kind: Switch = False,
    options: ListTableOptions,
) -> int:
    """Keep the particles of the first list that the second does not have.

    Parameters
    ----------
    first
        list of particles
    second
        another
    distance
        A between the two places of a particle, at most
    same_kind
        only particles of one kind can be the same
    """
    from eucentric.models.particle_matching import subtract_particles

    a, b = read_given(first, options), read_given(second, options)
    return write_list(subtract_particles(a, b, distance, same_kind=same_kind), len(a), options)


def select(
    source: Path,
    /,
    *,
    tomogram: Annotated[list[str] | None, SEVERAL] = None,
    kind: Annotated[list[str] | None, SEVERAL] = None,
    min_score: Annotated[float | None, Signed] = None,
    max_q_value: float | None = None,
    best: int | None = None,
    mask: Path | None = None,
    mask_distance: Annotated[tuple[float, float] | None, Signed] = None,
    slab: Annotated[tuple[float, float] | None, Signed] = None,
    series: Path | None = None,
    min_tilts: int | None = None,
    radius: float = 0.0,
    neighbours: int | None = None,
    neighbour_distance: float | None = None,
    neighbour_angle: float | None = None,
    min_rating: int | None = None,
    ratings: Path | None = None,
    options: ListTableOptions,
) -> int:
    """Keep the particles that fulfil every wish given.

    Parameters
    ----------
    source
        list of particles
    tomogram
        names of tomograms; wildcards allowed
    kind
        names or numbers of kinds
    min_score
        lowest score
    max_q_value
        highest q-value: the part of false picks among those at least as good
    best
        so many of each tomogram and kind, by score
    mask
        volume (`.mrc`) that is above 0.5 where particles may be, or a folder with TOMOGRAM.mrc for each
    mask_distance
        A: lowest and highest distance to the border of the mask, negative inside; such as 20 120 from a membrane
    slab
        A: lowest and highest place along z; above the specimen's middle plane with --series
    series
        aligned tilt series such as `ctf/tilt_series.star`
    min_tilts
        seen whole in so many images
    radius
        A: of the particle, for --min-tilts
    neighbours
        so many particles nearby at least, as in a lattice
    neighbour_distance
        A: how far away a neighbour may be
    neighbour_angle
        degrees: how much the z axis of a neighbour may differ
    min_rating
        0 to 5: of the tomograms, as a person rated them; those without rating are passed over
    ratings
        table of ratings; `curation/tomograms.star` of the list's project where not given
    """
    from eucentric.pipeline.curation_ratings import ratings_beside
    from eucentric.pipeline.particle_files import Selection, select_particles

    particles = read_given(source, options)
    wanted = Selection(
        tomograms=tomogram or (),
        kinds=kind or (),
        min_score=min_score,
        max_q_value=max_q_value,
        best=best,
        mask=mask,
        mask_distance_angstrom=mask_distance,
        slab_angstrom=slab,
        series=series,
        min_tilts=min_tilts,
        radius_angstrom=radius,
        neighbours=neighbours,
        neighbour_distance_angstrom=neighbour_distance,
        neighbour_angle_deg=neighbour_angle,
        min_rating=min_rating,
        ratings=ratings or (None if min_rating is None else ratings_beside(source)),
    )
    return write_list(select_particles(particles, wanted), len(particles), options)


def complete(
    source: Path,
    /,
    *,
    distance: float,
    tolerance: float | None = None,
    votes: int = 2,
    rounds: int = 3,
    symmetry: str = "C1",
    normals_only: Switch = False,
    options: ListTableOptions,
) -> int:
    """Find the lattice that oriented particles form, flat or curved, and add those missing in it.

    eucLatticeVotes is 0 for particles given, and for new ones the number of neighbours that expect them.

    Parameters
    ----------
    source
        list of oriented particles of one kind
    distance
        A: how far away neighbours lie, at most
    tolerance
        A: how far a particle may be from its site; a sixth of the distance where not given
    votes
        particles that must expect a site; 3 in a sheet leaves its edges alone
    rounds
        new particles vote in the next round
    symmetry
        group of a particle, such as C6
    normals_only
        only the z axes are known, as of picks on a surface: the turns about them are found from the neighbours, by --symmetry Cn
    """
    from eucentric.geometry.symmetry import symmetry_rotations
    from eucentric.picking.complete_lattice import complete_lattice, fit_lattice
    from eucentric.picking.turn_by_neighbours import turn_by_neighbours

    particles, group = read_given(source, options), symmetry_rotations(symmetry)
    reach = distance / 6.0 if tolerance is None else tolerance
    if normals_only:
        if not re.fullmatch(r"[Cc]([2346])", symmetry):
            raise InputError(
                f"Turns are found in sheets of C2, C3, C4 or C6, not of {symmetry}. Give one as --symmetry."
            )
        particles = turn_by_neighbours(particles, distance, int(symmetry[1:]))
    lattice = fit_lattice(particles, distance, tolerance_angstrom=reach, symmetry=group)
    for offset, part, spread in zip(lattice.offsets_angstrom, lattice.occupancy, lattice.spread_angstrom, strict=True):
        x, y, z = offset
        sys.stdout.write(f"neighbour at {x:.0f} {y:.0f} {z:.0f} A: of {part:.0%} of the particles, to {spread:.1f} A\n")
    whole = complete_lattice(particles, lattice, tolerance_angstrom=reach, votes=votes, rounds=rounds, symmetry=group)
    refuse_to_replace(options.output, options.overwrite)
    sys.stdout.write(f"{len(whole) - len(particles)} were missing.\n")
    return write_list(whole, len(whole), options)


def score(
    picks: Path,
    /,
    *,
    truth: Annotated[list[Path], SEVERAL],
    distance: float,
    series: Path | None = None,
    min_tilts: int | None = None,
    radius: float = 0.0,
    symmetry: Annotated[list[str] | None, SEVERAL] = None,
    any_kind: Switch = False,
    truth_kinds: Annotated[list[str] | None, SEVERAL] = None,
    options: ReadOptions = _DEFAULT,
) -> int:
    """Compare picks with known particles: precision, recall, F1 and angular error by one-to-one matches.

    Parameters
    ----------
    picks
        list of particles
    truth
        lists of known particles, or truth files of simulated series (`TS_01_truth.json`)
    distance
        A between a pick and its particle, at most; half the radius is usual
    series
        aligned tilt series; truth files are brought into their frame
    min_tilts
        ask only for particles seen whole in so many images
    radius
        A: of the particle, for --min-tilts
    symmetry
        of kinds, as KIND=D7; one group without KIND= goes for all
    any_kind
        do not tell kinds apart
    truth_kinds
        what the picks call the kinds of the truth, as 0=30S 1=20S
    """
    from eucentric.geometry.symmetry import symmetry_rotations
    from eucentric.models import ParticleSet
    from eucentric.pipeline.particle_files import check_kinds, read_true_particles, rename_kinds, score_lists

    found = read_given(picks, options)
    known = ParticleSet.concatenate([read_true_particles(path, series) for path in truth])
    known = rename_kinds(known, truth_kinds or ())
    groups = {}
    for entry in symmetry or ():
        name, _, group = entry.rpartition("=")
        groups[name] = symmetry_rotations(group)
    check_kinds(found, known, groups, by_kind=not any_kind)
    rows = score_lists(
        found,
        known,
        distance,
        symmetries=groups,
        table=series,
        min_tilts=min_tilts,
        radius_angstrom=radius,
        by_kind=not any_kind,
    )
    columns = ("truths", "picks", "matched", "precision", "recall", "f1", "position_rms_angstrom", "median_angle_deg")
    table = Table("kind", *(c.replace("_", " ") for c in columns), box=None)
    for row in rows:
        table.add_row(row.kind or "all", *(f"{getattr(row, c):.4g}" for c in columns))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH).print(table)
    if options.as_json:
        entries: list[dict[str, Any]] = [{"kind": r.kind} | {c: _finite(getattr(r, c)) for c in columns} for r in rows]
        show_json({"exit_code": 0, "scores": entries})
    return 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def project(
    source: Path,
    /,
    *,
    series: Path,
    margin: float = 0.0,
    options: ListTableOptions,
) -> int:
    """Write where each particle is seen in every tilt image, with local deformation, and its defocus there.

    The table has a row for each particle and tilt.

    Parameters
    ----------
    source
        list of particles
    series
        aligned tilt series such as `ctf/tilt_series.star`
    margin
        A: visible is what lies so far inside the image
    """
    from eucentric.pipeline.particle_files import write_projections

    refuse_to_replace(options.output, options.overwrite)
    rows = write_projections(options.output, read_given(source, options), series, margin)
    sys.stdout.write(f"Wrote {rows} rows to {options.output}.\n")
    if options.as_json:
        show_json({"exit_code": 0, "rows": rows, "output": str(options.output)})
    return 0
