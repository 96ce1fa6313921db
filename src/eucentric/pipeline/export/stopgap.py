"""STOPGAP: wedge list, motive lists and tomograms by number."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import with_numbers, write_particles
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource


def export_stopgap(source: ExportSource, exported: Exported) -> None:
    """`lists/wedgelist.star`, `lists/<list>_motl_1.star`, `tomograms/<number>.mrc`."""
    source.need_tomograms("STOPGAP")
    source.need_alignment("STOPGAP")
    geometries = [g for g in source.geometries if g.series.tomogram is not None]
    made = write_geometry(exported.folder / "lists" / "wedgelist.star", geometries, "stopgap")
    exported.written(made)
    frames = with_numbers(source.tomogram_frames, made.files[1])
    names = {name: number for number, name in frames.numbers.items()}
    for series in (g.series for g in geometries):
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{names[series.name]}.mrc")
    for listed in source.lists:
        known = listed.particles.select([str(n) in names for n in listed.particles.tomograms])
        if len(known):
            path = exported.folder / "lists" / f"{listed.name}_motl_1.star"
            exported.add(*write_particles(path, known, "stopgap", frames))
    lists = [f"{listed.name}_motl_1.star" for listed in source.lists]
    exported.steps += [
        "# in STOPGAP, from this folder (tomograms are called by their numbers):",
        f"stopgap_parser.sh extract param_name params/extract_param.star rootdir {exported.folder.resolve()}/ tomodir tomograms/ "
        f"motl_name {lists[0] if lists else 'LIST_motl_1.star'} wedgelist_name wedgelist.star boxsize 32",
    ]
