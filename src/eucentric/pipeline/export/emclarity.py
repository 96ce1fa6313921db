"""emClarity: `fixedStacks` with transforms, angles and order, and particles as its tables."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.pipeline.export.files import Exported, for_each
from eucentric.pipeline.export.imod import place_tomograms
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_emclarity(source: ExportSource, exported: Exported) -> None:
    """`fixedStacks/<series>.fixed` with what `emClarity ctf estimate` reads, and lines for the parameter file."""
    stacked = stacked_series(source, exported, "emClarity", lambda name: f"fixedStacks/{name}.fixed")
    exported.written(write_geometry(exported.folder, stacked, "emclarity"))
    place_tomograms(source, exported)
    names = [g.series.name for g in stacked]
    exported.steps += [
        f"# put the lines of param_{names[0]}.m into your parameter file param.m; then, in this folder:",
        for_each(names, "emClarity ctf estimate param.m {}"),
    ]
    if source.lists:
        exported.losses.append(
            "Lists of particles are not written: emClarity makes its own project file by `emClarity init` from its template search."
        )
