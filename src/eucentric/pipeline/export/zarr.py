"""Tomograms and segmentations as OME-Zarr images, for napari, neuroglancer and the web."""

import shlex
from pathlib import Path

from eucentric.io.ome_zarr_labels import write_ome_zarr_labels
from eucentric.pipeline.convert_volume import convert_volume
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.label_files import read_labels


def export_zarr(source: ExportSource, exported: Exported) -> None:
    """`<series>.zarr` with its pyramid, and its segmentations as labels in it."""
    source.need_tomograms("an OME-Zarr viewer")
    for series in (g.series for g in source.geometries if g.series.tomogram is not None):
        assert series.tomogram is not None
        target = exported.folder / f"{series.name}.zarr"
        convert_volume(Path(series.tomogram.path), target)
        exported.add(target)
        for name, path in source.labels:
            if name == series.name:
                labels, _ = read_labels(path)
                write_ome_zarr_labels(target / "labels" / "segment", labels, series.tomogram.voxel_size_angstrom)
    first = next(g.series.name for g in source.geometries if g.series.tomogram is not None)
    exported.steps += [
        "# with napari and napari-ome-zarr:",
        f"napari --plugin napari-ome-zarr {shlex.quote(first)}.zarr",
        "# in the browser:",
        f"eucentric view {shlex.quote(str(source.root))}",
    ]
    exported.losses.append("OME-Zarr holds volumes: tilt series, alignments, CTFs and particles are not in it.")
