"""IMOD: a data set of etomo's files for each series, and particles as models."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import write_particles
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_imod(source: ExportSource, exported: Exported) -> None:
    """`<series>/<series>.st` with transforms, angles, defocus and command files; models of particles in `particles`."""
    for one in stacked_series(source, exported, "IMOD", lambda name: f"{name}/{name}.st"):
        name = one.series.name
        exported.written(write_geometry(exported.folder / name / f"{name}.xf", [one], "imod"))
    place_tomograms(source, exported)
    for listed in source.lists:
        known = listed.particles.select([str(n) in source.tomogram_frames.by_name for n in listed.particles.tomograms])
        if len(known):
            exported.add(
                *write_particles(exported.folder / "particles" / listed.name, known, "imod", source.tomogram_frames)
            )
    first = source.geometries[0].series.name
    exported.steps += [
        "# aligned stack and reconstruction, for each series:",
        f"cd {first} && submfg newst.com tilt.com",
    ]
    shown = [(listed.name, listed.particles.tomogram_names[0]) for listed in source.lists[:2]]
    if shown:
        exported.steps.append("# to look at a tomogram with its particles:")
    exported.steps += [f"3dmod tomograms/{name}.mrc particles/{listed}/{name}.mod" for listed, name in shown]


def place_tomograms(source: ExportSource, exported: Exported) -> None:
    """`tomograms/<series>.mrc` of every series that has one."""
    for series in (g.series for g in source.geometries):
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{series.name}.mrc")
