"""`eucentric export`: which programs there are, and a project's folder for one of them."""

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.atomic import make_folder
from eucentric.io.exchange.formats import GEOMETRY_FORMATS
from eucentric.optics.odd_aberrations import has_odd_aberrations
from eucentric.pipeline.export.checks import Needs, checked
from eucentric.pipeline.export.files import Exported, How, begin_readme, is_incomplete, write_readme
from eucentric.pipeline.export.source import ExportSource, read_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One that projects are exported to."""

    title: str
    target: str
    """`module:function` in this package: (source, exported) -> None."""
    about: str
    needs: Needs


PROGRAMS: dict[str, Program] = {
    "relion5": Program(
        title="RELION-5",
        target="relion:export_relion5",
        about="A RELION-5 project: tilt_series.star and tomograms.star with tilt_images and tomograms, lists of particles.",
        needs=Needs(tomograms="extra", halves=True),
    ),
    "relion4": Program(
        title="RELION-4",
        target="relion:export_relion4",
        about="tomograms.star with projection matrices, whole stacks in tilt_series, lists of particles.",
        needs=Needs(),
    ),
    "warp": Program(
        title="WarpTools and M",
        target="warp:export_warp",
        about="Tilt series in tomostar and warp_tiltseries, averages of movies in warp_frameseries, lists of particles.",
        needs=Needs(),
    ),
    "imod": Program(
        title="IMOD",
        target="imod:export_imod",
        about="A folder for each series with its stack, transforms, angles, defocus and commands; tomograms; models of particles.",
        needs=Needs(tomograms="extra"),
    ),
    "aretomo": Program(
        title="AreTomo 2 and 3",
        target="aretomo:export_aretomo",
        about="Stacks with .aln, _TLT.txt and _CTF.txt beside.",
        needs=Needs(),
    ),
    "dynamo": Program(
        title="Dynamo",
        target="dynamo:export_dynamo",
        about="Tomograms with a volume list and a map of their numbers, tables of particles, stacks with angles.",
        needs=Needs(tomograms="needed"),
    ),
    "stopgap": Program(
        title="STOPGAP",
        target="stopgap:export_stopgap",
        about="Wedge list and motive lists, tomograms by number.",
        needs=Needs(images=False, tomograms="needed"),
    ),
    "emclarity": Program(
        title="emClarity",
        target="emclarity:export_emclarity",
        about="fixedStacks with transforms, angles, order and CTF; lines for the parameter file.",
        needs=Needs(tomograms="extra"),
    ),
    "eman2": Program(
        title="EMAN2",
        target="eman2:export_eman2",
        about="A project of EMAN2: stacks in tiltseries, geometry and boxes in info, tomograms.",
        needs=Needs(tomograms="extra"),
    ),
    "copick": Program(
        title="copick",
        target="copick:export_copick",
        about="A copick project: picks, tomograms and segmentations as OME-Zarr.",
        needs=Needs(images=False, poses=False, tomograms="needed"),
    ),
    "zarr": Program(
        title="OME-Zarr",
        target="zarr:export_zarr",
        about="Tomograms as images with pyramids, segmentations as labels.",
        needs=Needs(images=False, poses=False, tomograms="needed"),
    ),
    "chimerax": Program(
        title="ChimeraX and ArtiaX",
        target="chimerax:export_chimerax",
        about="Tomograms, lists for ArtiaX, markers, meshes and maps, with a script that opens them.",
        needs=Needs(images=False, poses=False, tomograms="needed"),
    ),
}


_HOLD_SIGNAL = ("relion5", "relion4", "warp")
_TELL_ABERRATIONS = ("relion5", "warp")
"""Programs whose writers hold them, or tell what they lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """What was made, and what could not be."""

    exported: Exported
    series: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """Name and reason of series that were left out."""
    notes: tuple[str, ...]


def export_project(
    project: Path,
    to: str,
    folder: Path,
    *,
    only: list[str] | None = None,
    table: Path | None = None,
    how: How = "link",
    overwrite: bool = False,
) -> ExportOutcome:
    """Write a project as a folder that another program opens.

    A folder whose export was stopped on the way, as its README says, may be written into again.

    Parameters
    ----------
    to : one of `PROGRAMS`
    folder : to be made
    only : names of series, wildcards allowed
    table : as :func:`eucentric.pipeline.export.source.read_source`
    how : `link` images and tomograms to those of the project, or `copy` them

    Raises
    ------
    InputError : no such program or project, a folder with other things in it, or nothing that can be exported
    BackendError : the disk is full
    """
    if to not in PROGRAMS:
        raise InputError(f"There is no program `{to}` to export to. Expected one of {', '.join(PROGRAMS)}.")
    program = PROGRAMS[to]
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (folder.is_dir() and (overwrite or is_incomplete(folder))):
        raise InputError(f"`{folder}` exists and is not empty. Give another folder, or --overwrite to write into it.")
    source = read_source(project, only, table)
    usable, failed = _usable(source, program)
    exported = Exported(folder=folder, how=how)
    with _begun(folder):
        module, _, function = program.target.partition(":")
        getattr(importlib.import_module(f"eucentric.pipeline.export.{module}"), function)(usable, exported)
        if not program.needs.halves:
            exported.losses += _halves_lost(usable, program)
        exported.losses += _refined_lost(usable, to)
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
        notes = [*usable.notes, *(f"{name} was left out: {why}" for name, why in failed), *exported.notes]
        write_readme(exported, f"{program.title} files of {project.resolve().name}", project.resolve(), about, notes)
    return ExportOutcome(
        exported=replace(exported, losses=list(dict.fromkeys(exported.losses))),
        series=tuple(g.series.name for g in usable.geometries),
        failed=tuple(failed),
        notes=tuple(notes),
    )


@contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """A folder that says to be incomplete until its README is written; one that was empty is left empty by a failure."""
    there = folder.exists()
    empty = not there or not any(folder.iterdir())
    make_folder(folder)
    begin_readme(folder)
    try:
        yield
    except BaseException:
        if empty:
            shutil.rmtree(folder, ignore_errors=True)
            if there:
                make_folder(folder)
        raise


def _usable(source: ExportSource, program: Program) -> tuple[ExportSource, list[tuple[str, str]]]:
    """The series that the program can work with; one bad series stops no other."""
    good, bad, notes = [], [], list(source.notes)
    for geometry in source.geometries:
        found = checked(geometry, program.needs)
        name = geometry.series.name
        if found.geometry is None:
            bad.append((name, found.words[0]))
        else:
            good.append(found.geometry)
            notes += [f"{name} {words}" for words in found.words]
    if not good:
        raise InputError(f"No series of `{source.root}` can be exported to {program.title}. {bad[0][0]}: {bad[0][1]}")
    names = {g.series.name for g in good}
    lists = [
        replace(one, particles=one.particles.select([str(n) in names for n in one.particles.tomograms]))
        for one in source.lists
    ]
    kept = tuple(one for one in lists if len(one.particles))
    return replace(source, geometries=tuple(good), lists=kept, notes=tuple(notes)), bad


def _refined_lost(source: ExportSource, to: str) -> list[str]:
    """What refinement found of single images and of the microscope, and the program has no place for."""
    every = [g.series for g in source.geometries]
    words = []
    measured = any(t.signal_scale != 1.0 or t.b_factor_angstrom2 != 0.0 for s in every for t in s.tilts)
    if measured and to not in _HOLD_SIGNAL:
        words.append("Signal and B factor of single images are left out.")
    if any(s.optics is not None and has_odd_aberrations(s.optics) for s in every) and to not in _TELL_ABERRATIONS:
        words.append("Beam tilt and trefoil are left out.")
    return words


def _halves_lost(source: ExportSource, program: Program) -> list[str]:
    """What is not told of the even and odd halves of images and tomograms."""
    every = [g.series for g in source.geometries]
    images = program.needs.images and any(t.image_even or t.image_odd for s in every for t in s.tilts)
    tomograms = any(s.tomogram is not None and (s.tomogram.half1 or s.tomogram.half2) for s in every)
    kinds = " and ".join(kind for kind, has in (("images", images), ("tomograms", tomograms)) if has)
    return [f"The even and odd halves of {kinds} are not in the folder; `--to relion5` has them."] if kinds else []
