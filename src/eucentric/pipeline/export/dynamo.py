"""Dynamo: tomograms with a volume list, tables of particles, and stacks with what aligns them.

`dcm -create NAME -fromvll LIST` makes a catalogue; `dtcrop MAP TABLE FOLDER SIDE` cuts particles out of the tomograms that a text of
two columns names by the numbers of the table's column 20 [1]_.

References
----------
.. [1] Dynamo's wiki, Volume list file, Cropping table, Particle extraction
"""

from dataclasses import replace

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import with_numbers, write_particles
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_dynamo(source: ExportSource, exported: Exported) -> None:
    """`tomograms.vll` and `tomograms.doc`, `<list>.tbl`, stacks with `.tlt` and `.xf`."""
    source.need_tomograms("Dynamo")
    stacked = stacked_series(source, exported, "Dynamo", lambda name: f"{name}.st")
    placed = []
    for geometry in stacked:
        tomogram = geometry.series.tomogram
        if tomogram is not None:
            target = exported.place(tomogram.path, exported.folder / "tomograms" / f"{geometry.series.name}.mrc")
            tomogram = replace(tomogram, path=str(target))
        placed.append(replace(geometry, series=geometry.series.replace(tomogram=tomogram)))
    made = write_geometry(exported.folder, placed, "dynamo")
    exported.written(made)
    frames = with_numbers(source.tomogram_frames, exported.folder / "tomograms.doc")
    for listed in source.lists:
        path = exported.folder / f"{listed.name}.tbl"
        exported.add(*write_particles(path, listed.particles, "dynamo", frames))
        exported.lost_of(listed.name, listed.particles, "dynamo")
    exported.steps += [
        "% in MATLAB or the Dynamo console, in this folder (paths in the lists start from it):",
        "dcm -create catalogue -fromvll tomograms.vll",
    ]
    if source.lists:
        exported.steps.append("% 32 voxels are an example of a box:")
        exported.notes.append(
            "tomograms.doc is Dynamo's. LIST_tomograms.doc beside LIST.tbl tells Eucentric the names of the numbered tomograms, where "
            "the table is read alone."
        )
    exported.steps += [f"dtcrop tomograms.doc {listed.name}.tbl particles_{listed.name} 32" for listed in source.lists]
