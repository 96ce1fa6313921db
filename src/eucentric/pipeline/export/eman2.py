"""EMAN2: a project with `tiltseries`, `info`, `tomograms`, and particles as boxes and as lists.

`e2tomogram.py --load` takes `tlt_params` from the info file and goes on refining them as often as `--niter` says for each size of the
images; with zeros, and without `--patchtrack`, they stay as they are. `--noali` counts without `--load` only. Images of 512 pixels or
less are refused; `1k` is the stack binned until it has 1024 pixels or less, `2k` twice as large [1]_. Several stacks are given one
at a time: of many it passes only words that begin with a hyphen on to the single runs.

References
----------
.. [1] EMAN2's sources, `programs/e2tomogram.py` (main)
"""

import math

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.exchange.relion_common import volume_size
from eucentric.io.particles import write_particles
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.export.files import Exported, for_each
from eucentric.pipeline.export.lists import known_particles
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series

_LEAST = 513
"""Pixels of the shorter side that `e2tomogram.py` takes."""
_SIZES = {1024: (1, 1), 2048: (2, 1), 4096: (4, 2)}
"""Binning of 1k and 2k tomograms, by the longest of the images' shorter sides."""


def export_eman2(source: ExportSource, exported: Exported) -> None:
    """Stacks in `tiltseries`, geometry and CTF in `info/<series>_info.json`, tomograms beside."""
    stacked = stacked_series(source, exported, "EMAN2", lambda name: f"tiltseries/{name}.mrc")
    exported.written(write_geometry(exported.folder, stacked, "eman2"))
    every = [g.series for g in source.geometries]
    for series in every:
        if series.tomogram is not None:
            exported.place(series.tomogram.path, exported.folder / "tomograms" / f"{series.name}__bin.mrc")
    _write_boxes(source, exported)
    large = [s for s in every if min(s.image_shape) >= _LEAST]
    small = [s for s in every if min(s.image_shape) < _LEAST]
    same: dict[str, list[str]] = {}
    for series in large:
        same.setdefault(_sizes(series), []).append(series.name)
    if large:
        exported.steps.append("# tomograms from the alignments that are here, which stay as they are:")
    exported.steps += [
        for_each(
            names,
            f"e2tomogram.py tiltseries/{{}}.mrc --load --niter=0,0,0,0 --patchtrack=0 --tltkeep=1.0 {sizes}",
        )
        for sizes, names in same.items()
    ]
    if small:
        y, x = small[0].image_shape
        exported.steps.append(
            f"# e2tomogram.py takes no images of {_LEAST - 1} pixels or less, as those of {', '.join(s.name for s in small)} "
            f"({x} x {y}): use the tomograms that are here."
        )
    exported.steps.append("e2projectmanager.py &")


def _write_boxes(source: ExportSource, exported: Exported) -> None:
    """Particles of every list in the info files of their tomograms."""
    frames = source.tomogram_frames
    for listed in source.lists:
        known = known_particles(source, listed, exported)
        path = exported.folder / "info"
        for name in known.tomogram_names:
            part = known.in_tomogram(name)
            kind = next((str(k) for k in part.kinds if str(k)), listed.name)
            named = part if any(str(k) for k in part.kinds) else part.with_kinds(kind)
            path = exported.folder / "info" / f"{name}_info.json"
            exported.add(*write_particles(path, named, "eman2", frames))
        exported.lost_of(listed.name, known, "eman2", path)


def _sizes(series: TiltSeries) -> str:
    """`--outsize`, the nearer to the tomogram of the project, and the thickness in its voxels."""
    side = min(series.image_shape)
    shrunk = 1 if side <= 4096 else side // 4096 + 1
    one, two = next((b for most, b in _SIZES.items() if side <= most), (4 * shrunk, 2 * shrunk))
    made = series.tomogram
    wanted = one if made is None else made.voxel_size_angstrom / series.pixel_size_angstrom
    name, binning = min((("1k", one), ("2k", two)), key=lambda size: abs(math.log(size[1] / wanted)))
    return f"--outsize={name} --clipz={2 * math.ceil(volume_size(series)[2] / binning / 2)}"
