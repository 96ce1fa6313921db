"""A volume on its way to disk: MRC, and where wanted OME-Zarr and pictures, from the same slabs."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.io.mrc import MrcSlabWriter, read_mrc
from eucentric.io.ome_zarr_writer import OmeZarrSlabWriter
from eucentric.io.png import ViewCollector, write_views
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.results import VolumeGrid, VolumeSlab

_PICTURE_PLANES = 5
_PLANES_AT_ONCE = 16


@dataclass(slots=True)
class _Spread:
    """Mean and standard deviation, gathered on the way."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, slab: NDArray[np.float32]) -> None:
        for plane in slab:
            self.count += plane.size
            self.total += float(plane.sum(dtype=np.float64))
            self.squares += float(np.einsum("yx,yx->", plane, plane, dtype=np.float64))

    def limits(self, deviations: float) -> tuple[float, float]:
        mean = self.total / self.count
        width = deviations * math.sqrt(max(self.squares / self.count - mean * mean, 1e-30))
        return mean - width, mean + width


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFiles:
    """Where a volume goes, and in which forms."""

    folder: Path
    """Of the tomograms; pictures and OME-Zarr stand beside them."""
    params: ReconstructParams
    labels: tuple[str, ...] = field(default=())

    def write(self, name: str, grid: VolumeGrid, slabs: Iterable[VolumeSlab]) -> Path:
        """Write ``<name>.mrc`` and the other forms; the path of the MRC file.

        Bytes need the spread of all voxels beforehand, so that such a volume passes through a float32 file.
        """
        path = self.folder / f"{name}.mrc"
        arrays: Iterable[NDArray[np.float32]] = (np.asarray(s.density.cpu().numpy(), np.float32) for s in slabs)
        if self.params.volume_type != "int8":
            self._write(path, name, grid, arrays, None)
            return path
        passing, spread = self.folder / f"{name}_passing.mrc", _Spread()
        try:
            with MrcSlabWriter(passing, grid.shape_zyx, grid.voxel_size_angstrom, "float32") as writer:
                for array in arrays:
                    spread.add(array)
                    writer.write(array)
            limits = spread.limits(self.params.int8_deviations)
            self._write(path, name, grid, _planes(passing), limits)
        finally:
            passing.unlink(missing_ok=True)
        return path

    def _write(
        self,
        path: Path,
        name: str,
        grid: VolumeGrid,
        arrays: Iterable[NDArray[np.float32]],
        limits: tuple[float, float] | None,
    ) -> None:
        shape, voxel, kind = grid.shape_zyx, grid.voxel_size_angstrom, self.params.volume_type
        views = ViewCollector(shape, min(_PICTURE_PLANES, shape[0])) if self.params.pictures else None
        with ExitStack() as open_files:
            writers: list[MrcSlabWriter | OmeZarrSlabWriter] = [
                open_files.enter_context(MrcSlabWriter(path, shape, voxel, kind, labels=self.labels, limits=limits))
            ]
            if self.params.zarr:
                place = path.with_suffix(".ome.zarr")
                writers.append(
                    open_files.enter_context(
                        OmeZarrSlabWriter(place, shape, voxel, kind, labels=self.labels, limits=limits)
                    )
                )
            for array in arrays:
                for writer in writers:
                    writer.write(array)
                if views is not None:
                    views.write(array)
        if views is not None:
            write_views(self.folder.parent / "pictures", name, views.views())


def _planes(path: Path) -> Iterator[NDArray[np.float32]]:
    array = read_mrc(path)[0]
    for start in range(0, len(array), _PLANES_AT_ONCE):
        yield np.asarray(array[start : start + _PLANES_AT_ONCE], dtype=np.float32)
