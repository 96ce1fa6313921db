"""EMAN2: a project with `tiltseries`, `info`, `tomograms`, and particles as boxes and as lists."""

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.particles import write_particles
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_eman2(source: ExportSource, exported: Exported) -> None:
    """Stacks in `tiltseries`, geometry and CTF in `info/<series>_info.json`, tomograms beside."""
    stacked = stacked_series(source, exported, "EMAN2", lambda name: f"tiltseries/{name}.mrc")
    exported.written(write_geometry(exported.folder, stacked, "eman2"))
    for series in (g.series for g in source.geometries):
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{series.name}__bin.mrc")
    frames = source.tomogram_frames
    for listed in source.lists:
        known = listed.particles.select([str(n) in frames.by_name for n in listed.particles.tomograms])
        for name in known.tomogram_names:
            part = known.in_tomogram(name)
            kind = next((str(k) for k in part.kinds if str(k)), listed.name)
            named = part if any(str(k) for k in part.kinds) else part.with_kinds(kind)
            exported.add(*write_particles(exported.folder / "info" / f"{name}_info.json", named, "eman2", frames))
    first = stacked[0].series
    exported.steps += [
        "# in this folder, with the alignments that are here:",
        f"e2tomogram.py tiltseries/{first.name}.mrc --load --noali --tltkeep 1.0 --outsize 1k --clipz 256",
        "e2projectmanager.py &",
    ]
