"""copick: a project on disk with runs, tomograms, picks and segmentations."""

from pathlib import Path

import numpy as np

from eucentric.io.copick_project import (
    CopickObject,
    CopickTomogramWriter,
    copick_name,
    write_copick_config,
    write_copick_picks,
    write_copick_segmentation,
)
from eucentric.io.mrc import read_mrc
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.label_files import read_labels

_PLANES = 16
_SEGMENTED = "membrane"


def export_copick(source: ExportSource, exported: Exported) -> None:
    """`copick_config.json`, `ExperimentRuns/<series>` with tomograms, picks of every list and segmentations."""
    source.need_tomograms("copick")
    folder = exported.folder
    for series in (g.series for g in source.geometries if g.series.tomogram is not None):
        assert series.tomogram is not None
        volume, _ = read_mrc(series.tomogram.path)
        z, y, x = volume.shape
        writer = CopickTomogramWriter(folder, series.name, (z, y, x), series.tomogram.voxel_size_angstrom)
        with writer:
            for first in range(0, z, _PLANES):
                writer.write(np.asarray(volume[first : first + _PLANES], dtype=np.float32))
        exported.add(Path(writer.path))
        for name, path in source.labels:
            if name == series.name:
                labels, _ = read_labels(path)
                write_copick_segmentation(folder, name, labels, series.tomogram.voxel_size_angstrom, _SEGMENTED)
    objects: dict[str, CopickObject] = {}
    frames = source.tomogram_frames
    for listed in source.lists:
        known = listed.particles.select([str(n) in frames.by_name for n in listed.particles.tomograms])
        if not len(known):
            continue
        if not any(str(k) for k in known.kinds):
            known = known.with_kinds(copick_name(listed.name))
        for kind in sorted({copick_name(str(k)) for k in known.kinds}):
            objects.setdefault(kind, CopickObject(name=kind, label=len(objects) + 1))
        exported.add(*write_copick_picks(folder, known, frames, session=copick_name(listed.name)))
    if source.labels:
        objects.setdefault(_SEGMENTED, CopickObject(name=_SEGMENTED, label=len(objects) + 1, is_particle=False))
    config = write_copick_config(folder, source.root.name, list(objects.values()))
    exported.add(config)
    exported.steps += ["# with Python and `pip install copick`:", f"copick browse -c {config.name}"]
    exported.losses.append(
        "copick holds tomograms, picks and segmentations: tilt series, alignments and CTFs are not in it."
    )
