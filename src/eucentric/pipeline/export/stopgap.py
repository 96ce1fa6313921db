"""STOPGAP: wedge list, motive lists and tomograms by number.

`stopgap_parser.sh extract` needs rootdir, motl_name, subtomo_name, boxsize, and tomodir or a list of tomograms; in tomodir each is
called by its number in the motive list, `1.mrc` [1]_.

References
----------
.. [1] https://github.com/wan-lab-vanderbilt/STOPGAP, `exec/bash/stopgap_extract_parser.sh`, `src/extract/parser/extract_parser.m`,
   `src/extract/func/extract_initialize_tomolist.m`, `sg_get_extract_settings.m`
"""

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import with_numbers, write_particles
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource

_FOLDERS = "params temp comm raw ref masks fsc subtomograms meta"


def export_stopgap(source: ExportSource, exported: Exported) -> None:
    """`lists/wedgelist.star`, `lists/<list>_motl_1.star`, `tomograms/<number>.mrc`."""
    source.need_tomograms("STOPGAP")
    source.need_alignment("STOPGAP")
    made = write_geometry(exported.folder / "lists" / "wedgelist.star", source.geometries, "stopgap")
    exported.written(made)
    frames = with_numbers(source.tomogram_frames, made.files[1])
    names = {name: number for number, name in frames.numbers.items()}
    for series in (g.series for g in source.geometries):
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{names[series.name]}.mrc")
    exported.steps += ["# in this folder, where tomograms are called by their numbers:", f"mkdir -p {_FOLDERS}"]
    for listed in source.lists:
        path = exported.folder / "lists" / f"{listed.name}_motl_1.star"
        exported.add(*write_particles(path, listed.particles, "stopgap", frames))
        exported.lost_of(listed.name, listed.particles, "stopgap")
        voxel = frames.of(listed.particles.tomogram_names[0]).voxel_size_angstrom
        exported.steps += [
            "# 32 voxels are an example of a box; then set rootdir and paramfilename in run_stopgap.sh and run it",
            f'$STOPGAPHOME/bin/stopgap_parser.sh extract param_name params/{listed.name}_extract.star rootdir "$PWD/" '
            f'tomodir "$PWD/tomograms/" motl_name {path.name} wedgelist_name wedgelist.star subtomo_name {listed.name} boxsize 32 '
            f"pixelsize {voxel:g} output_format mrc8",
        ]
    if not source.lists:
        exported.steps.append("# wedge list and tomograms are ready for a template search (stopgap_tm_parser.sh)")
    exported.notes.append(
        "STOPGAP reads no `_tomograms.doc`: each tells Eucentric the names of the numbered tomograms, where the list that it is "
        "called after is read alone."
    )
