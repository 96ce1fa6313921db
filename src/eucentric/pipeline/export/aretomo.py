"""AreTomo 2 and 3: stacks with their alignment and CTF, from which tomograms are made again."""

import math

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.exchange.relion_common import volume_size
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series


def export_aretomo(source: ExportSource, exported: Exported) -> None:
    """`<series>.mrc` with `.aln`, `_TLT.txt` and `_CTF.txt` beside."""
    stacked = stacked_series(source, exported, "AreTomo", lambda name: f"{name}.mrc")
    for one in stacked:
        exported.written(write_geometry(exported.folder / f"{one.series.name}.aln", [one], "aretomo"))
    first = stacked[0].series
    pixel, dose = first.pixel_size_angstrom, float(first.doses.mean())
    tomogram = source.geometries[0].series.tomogram
    binning = 4.0 if tomogram is None else tomogram.voxel_size_angstrom / pixel
    kilovolt = first.optics.voltage_kv if first.optics is not None else 300
    exported.steps += [
        "# tomograms from the alignments that are here, a series at a time (AreTomo3; AreTomo2 takes -AlnFile instead of -Cmd 1):",
        f"AreTomo3 -Cmd 1 -InMrc {first.name}.mrc -OutDir . -PixSize {pixel:g} -Kv {kilovolt:g} -FmDose {dose:g} "
        f"-VolZ {2 * math.ceil(volume_size(first)[2] / 2)} -AtBin {binning:g} -FlipVol 1 -Wbp 1",
    ]
