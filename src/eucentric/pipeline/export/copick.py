"""copick: a project on disk with runs, tomograms, picks and segmentations.

Labels become a segmentation of 0 and 1 for each object: by the names in `labels.star` beside them where there is one; else all
numbers are pieces of one object, `membrane` where the stage `segment` made them and `segmentation` where another program did.
"""

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
from eucentric.models.tilt_series import Tomogram
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.label_files import read_labels
from eucentric.pipeline.repair_label_files import read_label_names

_PLANES = 16
_BY_STAGE, _BY_OTHERS = "membrane", "segmentation"


def export_copick(source: ExportSource, exported: Exported) -> None:
    """`copick_config.json`, `ExperimentRuns/<series>` with tomograms, picks of every list and segmentations."""
    source.need_tomograms("copick")
    folder = exported.folder
    segmented: list[str] = []
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
                segmented += _write_labels(source, exported, name, path, series.tomogram)
    objects: dict[str, CopickObject] = {}
    frames = source.tomogram_frames
    for listed in source.lists:
        known = listed.particles.select([str(n) in frames.by_name for n in listed.particles.tomograms])
        if not len(known):
            continue
        if not any(str(k) for k in known.kinds):
            known = known.with_kinds(copick_name(listed.name))
        exported.lost_of(listed.name, known, "copick")
        for kind in sorted({copick_name(str(k)) for k in known.kinds}):
            objects.setdefault(kind, CopickObject(name=kind, label=len(objects) + 1))
        exported.add(*write_copick_picks(folder, known, frames, session=copick_name(listed.name)))
    for kind in dict.fromkeys(segmented):
        objects.setdefault(kind, CopickObject(name=kind, label=len(objects) + 1, is_particle=False))
    config = write_copick_config(folder, source.root.name, list(objects.values()))
    exported.add(config)
    exported.steps += ["# with Python's package copick:", f"copick browse -c {config.name}"]
    exported.notes.append(
        f"{config.name} holds the full path of this folder: change overlay_root in it where the folder is moved."
    )
    exported.losses.append(
        "copick holds tomograms, picks and segmentations: tilt series, alignments and CTFs are not in it."
    )


def _write_labels(source: ExportSource, exported: Exported, name: str, path: Path, tomogram: Tomogram) -> list[str]:
    """Write the labels of a series; the names of the objects."""
    labels, _ = read_labels(path)
    called = {n: copick_name(text) for n, text in read_label_names(path.parent).items() if (labels == n).any()}
    if not called:
        outputs = source.outputs_of("segment", name)
        own = _BY_STAGE if path.resolve() in outputs else _BY_OTHERS
        pieces = int((np.unique(labels) > 0).sum())
        if pieces > 1:
            exported.losses.append(f"{name}: the {pieces} numbered pieces of its segmentation are one object, `{own}`.")
        parts = {own: labels > 0}
    else:
        parts = {text: np.isin(labels, [n for n, t in called.items() if t == text]) for text in called.values()}
    for text, inside in parts.items():
        made = write_copick_segmentation(
            exported.folder, name, inside.astype(np.uint8), tomogram.voxel_size_angstrom, text
        )
        exported.add(made)
    return list(parts)
