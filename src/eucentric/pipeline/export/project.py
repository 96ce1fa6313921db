"""`eucentric export`: which programs there are, and a project's folder for one of them."""

import importlib
from dataclasses import dataclass, replace
from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.atomic import make_folder
from eucentric.io.exchange.formats import GEOMETRY_FORMATS
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.pipeline.export.files import Exported, How, write_readme
from eucentric.pipeline.export.source import ExportSource, read_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One that projects are exported to."""

    title: str
    target: str
    """`module:function` in this package: (source, exported) -> None."""
    about: str
    needs_images: bool = True


PROGRAMS: dict[str, Program] = {
    "relion5": Program(
        title="RELION-5",
        target="relion:export_relion5",
        about="A RELION-5 project: tilt_series.star and tomograms.star with tilt_images and tomograms, lists of particles.",
    ),
    "relion4": Program(
        title="RELION-4",
        target="relion:export_relion4",
        about="tomograms.star with projection matrices, whole stacks in tilt_series, lists of particles.",
    ),
    "warp": Program(
        title="WarpTools and M",
        target="warp:export_warp",
        about="Tilt series in tomostar and warp_tiltseries, averages of movies in warp_frameseries, lists of particles.",
    ),
    "imod": Program(
        title="IMOD",
        target="imod:export_imod",
        about="A folder for each series with its stack, transforms, angles, defocus and commands; tomograms; models of particles.",
    ),
    "aretomo": Program(
        title="AreTomo 2 and 3",
        target="aretomo:export_aretomo",
        about="Stacks with .aln, _TLT.txt and _CTF.txt beside.",
    ),
    "dynamo": Program(
        title="Dynamo",
        target="dynamo:export_dynamo",
        about="Tomograms with a volume list and a map of their numbers, tables of particles, stacks with angles.",
    ),
    "stopgap": Program(
        title="STOPGAP",
        target="stopgap:export_stopgap",
        about="Wedge list and motive lists, tomograms by number.",
        needs_images=False,
    ),
    "emclarity": Program(
        title="emClarity",
        target="emclarity:export_emclarity",
        about="fixedStacks with transforms, angles, order and CTF; lines for the parameter file.",
    ),
    "eman2": Program(
        title="EMAN2",
        target="eman2:export_eman2",
        about="A project of EMAN2: stacks in tiltseries, geometry and boxes in info, tomograms.",
    ),
    "copick": Program(
        title="copick",
        target="copick:export_copick",
        about="A copick project: picks, tomograms and segmentations as OME-Zarr.",
        needs_images=False,
    ),
    "zarr": Program(
        title="OME-Zarr",
        target="zarr:export_zarr",
        about="Tomograms as images with pyramids, segmentations as labels.",
        needs_images=False,
    ),
    "chimerax": Program(
        title="ChimeraX and ArtiaX",
        target="chimerax:export_chimerax",
        about="Tomograms, lists for ArtiaX, markers, meshes and maps, with a script that opens them.",
        needs_images=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """What was made, and what could not be."""

    exported: Exported
    series: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """Name and reason of series that were left out."""
    notes: tuple[str, ...]


def export_project(
    project: Path, to: str, folder: Path, *, only: list[str] | None = None, how: How = "link", overwrite: bool = False
) -> ExportOutcome:
    """Write a project as a folder that another program opens.

    Parameters
    ----------
    to : one of `PROGRAMS`
    folder : to be made
    only : names of series, wildcards allowed
    how : `link` images and tomograms to those of the project, or `copy` them

    Raises
    ------
    InputError : no such program or project, a folder with other things in it, or nothing that can be exported
    BackendError : the disk is full
    """
    if to not in PROGRAMS:
        raise InputError(f"There is no program `{to}` to export to. Expected one of {', '.join(PROGRAMS)}.")
    program = PROGRAMS[to]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (overwrite and folder.is_dir()):
        raise InputError(f"`{folder}` exists and is not empty. Give another folder, or --overwrite to write into it.")
    source = read_source(project, only)
    usable, failed = _usable(source, program)
    make_folder(folder)
    exported = Exported(folder=folder, how=how)
    module, _, function = program.target.partition(":")
    getattr(importlib.import_module(f"eucentric.pipeline.export.{module}"), function)(usable, exported)
    form = GEOMETRY_FORMATS.get(to)
    about = [program.about]
    if form is not None:
        words = form.words
        about += [
            "",
            f"Origin: {words.origin}.",
            f"Units: {words.unit}.",
            f"Hand: {words.hand}.",
            f"Angles: {words.angles}.",
        ]
    notes = [*source.notes, *(f"{name} was left out: {why}" for name, why in failed)]
    write_readme(exported, f"{program.title} files of {project.resolve().name}", project.resolve(), about, notes)
    return ExportOutcome(
        exported=replace(exported, losses=list(dict.fromkeys(exported.losses))),
        series=tuple(g.series.name for g in usable.geometries),
        failed=tuple(failed),
        notes=tuple(notes),
    )


def _usable(source: ExportSource, program: Program) -> tuple[ExportSource, list[tuple[str, str]]]:
    """The series that the program can work with; one bad series stops no other."""
    good, bad = [], []
    for geometry in source.geometries:
        why = _fault(geometry, program)
        if why is None:
            good.append(geometry)
        else:
            bad.append((geometry.series.name, why))
    if not good:
        raise InputError(f"No series of `{source.root}` can be exported to {program.title}. {bad[0][0]}: {bad[0][1]}")
    names = {g.series.name for g in good}
    lists = [
        replace(one, particles=one.particles.select([str(n) in names for n in one.particles.tomograms]))
        for one in source.lists
    ]
    return replace(source, geometries=tuple(good), lists=tuple(one for one in lists if len(one.particles))), bad


def _fault(geometry: SeriesGeometry, program: Program) -> str | None:
    series = geometry.series
    if not series.tilts:
        return "it has no tilts left."
    if not program.needs_images:
        return None if series.tomogram is not None else "it has no tomogram yet. Run `eucentric reconstruct`."
    if any(t.pose is None for t in series.tilts):
        return "it has not been aligned. Run `eucentric align`."
    if any(t.image is None for t in series.tilts):
        return "it has movies and no images yet. Run `eucentric motion`."
    missing = next((path for t in series.tilts if not Path(path := (t.image or "").rpartition("@")[2]).is_file()), None)
    return (
        None
        if missing is None
        else f"its image `{missing}` is not there. Put it back, or run `eucentric motion` again."
    )
