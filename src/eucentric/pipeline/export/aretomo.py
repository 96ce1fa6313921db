"""AreTomo 2 and 3: stacks with their alignment and CTF, from which tomograms are made again.

AreTomo3's `-Cmd 2` reconstructs from `<series>.aln` and `_CTF.txt` beside the stack, `-Cmd 1` would align again [1]_. AreTomo2 loads
the file of `-AlnFile` where `-Align 0` is given; it takes SEC for an index from 0 [2]_, and AreTomo3 writes it from 1.

References
----------
.. [1] https://github.com/czimaginginstitute/AreTomo3, `AreTomo/CAreTomoMain.cpp` (DoIt, mSkipAlign), issue 59
.. [2] https://github.com/czimaginginstitute/AreTomo2, `CInput.cpp`, `MrcUtil/CLoadMain.cpp` (mLoadAlnFile)
"""

import math

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.exchange.relion_common import volume_size
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.export.files import Exported, for_each
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series

_BINNING = 4.0


def export_aretomo(source: ExportSource, exported: Exported) -> None:
    """`<series>.mrc` with `.aln`, `_TLT.txt` and `_CTF.txt` beside."""
    stacked = stacked_series(source, exported, "AreTomo", lambda name: f"{name}.mrc")
    for one in stacked:
        exported.written(write_geometry(exported.folder / f"{one.series.name}.aln", [one], "aretomo"))
    three: dict[str, list[str]] = {}
    two: dict[str, list[str]] = {}
    for series in (g.series for g in source.geometries):
        for words, options in ((three, _options3(series)), (two, _options2(series))):
            words.setdefault(options, []).append(series.name)
    exported.steps.append("# tomograms by AreTomo3, with the alignments and CTFs that are here:")
    exported.steps += [
        for_each(names, f"AreTomo3 -InPrefix ./{{}}.mrc -OutDir ./ -Cmd 2 {options}")
        for options, names in three.items()
    ]
    exported.steps.append("# or by AreTomo2, which counts the sections of .aln from 0:")
    exported.steps += [
        for_each(
            names,
            "awk '!/^#/ && NF == 10 {$1 -= 1} 1' {}.aln > {}_from0.aln && "
            f"AreTomo2 -InMrc {{}}.mrc -OutMrc {{}}_rec.mrc -AlnFile {{}}_from0.aln -Align 0 {options}",
        )
        for options, names in two.items()
    ]


def _sizes(series: TiltSeries) -> tuple[int, float]:
    """Thickness in pixels, and binning of the tomogram."""
    made = series.tomogram
    binning = _BINNING if made is None else made.voxel_size_angstrom / series.pixel_size_angstrom
    return 2 * math.ceil(volume_size(series)[2] / 2), binning


def _options3(series: TiltSeries) -> str:
    optics = series.optics or Optics()
    thick, binning = _sizes(series)
    return (
        f"-PixSize {series.pixel_size_angstrom:g} -kV {optics.voltage_kv:.0f} -Cs {optics.spherical_aberration_mm:g} "
        f"-VolZ {thick} -AtBin {binning:g} -FlipVol 1 -Wbp 1"
    )


def _options2(series: TiltSeries) -> str:
    thick, binning = _sizes(series)
    return f"-PixSize {series.pixel_size_angstrom:g} -VolZ {thick} -OutBin {binning:g} -FlipVol 1 -Wbp 1"
