"""Thresholds in files: tomograms in, label volumes and a table of the objects out. Also what the other searches for objects share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eucentric.errors import EucentricError, InputError
from eucentric.io.csv_tables import write_csv_table
from eucentric.models import TomogramFrame
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.label_files import read_mask, write_labels
from eucentric.pipeline.learned_files import tomograms_to_use
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace
from eucentric.segmentation.objects import Objects
from eucentric.segmentation.segment_by_threshold import ThresholdedObjects, segment_by_threshold
from eucentric.segmentation.threshold_params import ThresholdParams

_LABELS = (".mrc", ".rec", ".map", ".tif", ".tiff", ".zarr", ".mod")
_COLUMNS = (
    "tomogram",
    "label",
    "volume_angstrom3",
    "centre_x_angstrom",
    "centre_y_angstrom",
    "centre_z_angstrom",
    "semi_axis_1_angstrom",
    "semi_axis_2_angstrom",
    "semi_axis_3_angstrom",
    "elongation",
    "flatness",
    "at_faces",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramChoice:
    """Which tomograms are worked on, and where."""

    target: Path
    """Project, table of tilt series or one tomogram."""
    only: Sequence[str] | None = None
    """Names, with wildcards."""
    pixel_size_angstrom: float | None = None
    """Of a tomogram whose header holds none."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def files(self) -> list[TomogramFile]:
        return tomograms_to_use(self.target, self.only)

    def read(self, one: TomogramFile) -> tuple[Tensor, float]:
        """A tomogram and its voxel size, A.

        Raises
        ------
        InputError : no voxel size, in the header or given, or one that is not positive
        """
        if self.pixel_size_angstrom is not None and not self.pixel_size_angstrom > 0:
            raise InputError(f"The pixel size is {self.pixel_size_angstrom:g} A; expected a positive number.")
        return read_volume(one.path, self.pixel_size_angstrom, self.device, option="--pixel-size")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedFiles:
    """What was written."""

    table: Path
    tomograms: dict[str, dict[str, Any]]
    """Of each tomogram its files and figures, or `error` where it failed."""

    @property
    def failed(self) -> list[str]:
        return [name for name, figures in self.tomograms.items() if "error" in figures]


def is_label_file(output: Path) -> bool:
    """Whether a name is that of one volume; else it is that of a folder."""
    return output.suffix.lower() in _LABELS


def each_tomogram(
    files: Iterable[TomogramFile], work: Callable[[TomogramFile], dict[str, Any]], *, many: bool
) -> dict[str, dict[str, Any]]:
    """What `work` tells of each; the failure of one of many is recorded and does not stop the others.

    Raises
    ------
    EucentricError : the failure of the only one
    """
    found: dict[str, dict[str, Any]] = {}
    for one in files:
        try:
            found[one.name] = work(one)
        except EucentricError as error:
            if not many:
                raise
            found[one.name] = {"error": str(error)}
    return found


def threshold_files(
    choice: TomogramChoice,
    output: Path,
    params: ThresholdParams,
    *,
    protect: Path | None = None,
    overwrite: bool = False,
) -> SegmentedFiles:
    """Label what is above a level in every tomogram.

    Parameters
    ----------
    output : label volume of the one tomogram (`.mrc`, `.tif`, `.zarr`), its table beside it with the ending `.csv`; or a folder for
        `labels/NAME.mrc` and `objects.csv`
    protect : volume above 0 where nothing is labelled, or a folder with `NAME.mrc` for each tomogram

    Raises
    ------
    InputError : no tomogram, several and one file, files that would be replaced unasked; of the only tomogram also what
        `segment_by_threshold` raises
    """
    files = choice.files()
    if is_label_file(output) and len(files) > 1:
        raise InputError(
            f"`{output}` is one file, and there are {len(files)} tomograms. Name a folder, or give --only."
        )
    places = {one.name: output if is_label_file(output) else output / "labels" / f"{one.name}.mrc" for one in files}
    table = output.with_suffix(".csv") if is_label_file(output) else output / "objects.csv"
    refuse_to_replace([*places.values(), table], [one.path for one in files], overwrite)
    rows: list[tuple[Any, ...]] = []

    def work(one: TomogramFile) -> dict[str, Any]:
        volume, voxel = choice.read(one)
        guarded = None if protect is None else protected_places(protect, one, volume)
        found = segment_by_threshold(volume, voxel, params, protect=guarded)
        place = places[one.name]
        place.parent.mkdir(parents=True, exist_ok=True)
        write_labels(place, found.objects.labels.cpu().numpy(), voxel)
        z, y, x = volume.shape
        frame = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))
        rows.extend((one.name, *row) for row in _rows(found.objects, frame))
        return {"labels": str(place), **_figures(found, voxel)}

    told = each_tomogram(files, work, many=len(files) > 1)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_csv_table(table, _COLUMNS, rows)
    return SegmentedFiles(table=table, tomograms=told)


def protected_places(protect: Path, one: TomogramFile, volume: Tensor) -> Tensor:
    """Where nothing is labelled."""
    inside = read_mask(protect, one.name, (volume.shape[0], volume.shape[1], volume.shape[2]))
    return torch.from_numpy(inside).to(volume.device)


def _rows(objects: Objects, frame: TomogramFrame) -> Iterable[tuple[Any, ...]]:
    centres = frame.to_angstrom(objects.centres_px)
    shapes = zip(objects.elongation, objects.flatness, objects.at_faces, strict=True)
    for label, (size, centre, axes, (long, flat, cut)) in enumerate(
        zip(objects.volumes_angstrom3, centres, objects.axes_angstrom, shapes, strict=True), 1
    ):
        places = [f"{value:.2f}" for value in (*centre, *axes)]
        yield (label, f"{size:.6g}", *places, f"{long:.3f}", f"{flat:.3f}", int(cut))


def _figures(found: ThresholdedObjects, voxel: float) -> dict[str, Any]:
    sizes = found.objects.volumes_angstrom3
    labelled = float(sizes.sum()) / voxel**3 / found.objects.labels.numel()
    return {
        "objects": len(sizes),
        "level": found.level,
        "low_level": found.low_level,
        "above_percent": 100.0 * found.above,
        "labelled_percent": 100.0 * labelled,
    }
