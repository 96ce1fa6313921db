"""IMOD: a data set of etomo's files for each series, and particles as models."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import write_particles
from eucentric.pipeline.export.files import Exported, for_each
from eucentric.pipeline.export.lists import known_particles
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_imod(source: ExportSource, exported: Exported) -> None:
    """`<series>/<series>.st` with transforms, angles, defocus and command files; models of particles in `particles`."""
    stacked = stacked_series(source, exported, "IMOD", lambda name: f"{name}/{name}.st")
    for one in stacked:
        name = one.series.name
        exported.written(write_geometry(exported.folder / name / f"{name}.xf", [one], "imod"))
    placed = place_tomograms(source, exported)
    shown = []
    for listed in source.lists:
        known = known_particles(source, listed, exported)
        if not len(known):
            continue
        path = exported.folder / "particles" / listed.name
        exported.add(*write_particles(path, known, "imod", source.tomogram_frames))
        exported.lost_of(listed.name, known, "imod", path)
        shown += [(listed.name, name) for name in known.tomogram_names if name in placed][:1]
    exported.steps += [
        "# aligned stack and reconstruction of each series:",
        for_each([g.series.name for g in stacked], "(cd {} && submfg newst.com tilt.com)"),
    ]
    if shown:
        exported.steps.append("# to look at a tomogram with its particles:")
    exported.steps += [
        for_each([name], f"3dmod tomograms/{{}}.mrc particles/{listed}/{{}}.mod") for listed, name in shown[:2]
    ]


def place_tomograms(source: ExportSource, exported: Exported) -> list[str]:
    """`tomograms/<series>.mrc` of every series that has one; their names."""
    names = []
    for series in (g.series for g in source.geometries):
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{series.name}.mrc")
            names.append(series.name)
    return names
