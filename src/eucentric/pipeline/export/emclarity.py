"""emClarity: `fixedStacks` with transforms, angles and order, and particles as its tables."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.imod import place_tomograms
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_emclarity(source: ExportSource, exported: Exported) -> None:
    """`fixedStacks/<series>.fixed` with what `emClarity ctf estimate` reads, and lines for the parameter file."""
    stacked = stacked_series(source, exported, "emClarity", lambda name: f"fixedStacks/{name}.fixed")
    exported.written(write_geometry(exported.folder, stacked, "emclarity"))
    place_tomograms(source, exported)
    first = stacked[0].series.name
    exported.steps += [
        f"# copy the lines of param_{first}.m into your parameter file param.m; then, in this folder:",
        f"emClarity ctf estimate param.m {first}",
    ]
    if source.lists:
        exported.losses.append(
            "Lists of particles are not written: emClarity makes its own project file by `emClarity init` from its template search."
        )
