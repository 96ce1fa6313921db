"""What the stages share that restore a project's tomograms."""

from pathlib import Path

from eucentric.geometry import TiltGeometry
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.recorded_transfer import tomogram_contrast
from eucentric.pipeline.restore_files import RestoredFile, RestoreSource
from eucentric.pipeline.shipped_model import SHIPPED
from eucentric.pipeline.stage import Outcome
from eucentric.pipeline.store import ItemStore

TRUST = "trust"
"""Folder of the curves for the report."""


def model_path(model: str, root: Path) -> str:
    """A model's file relative to the project, or the word for the one that comes with the program."""
    return model if model == SHIPPED else str(root / model)


def model_files(model: str, root: Path) -> tuple[Path, ...]:
    """Files of the user's that a result depends on."""
    return () if model == SHIPPED else (root / model,)


def half_files(tomogram: Tomogram, store: ItemStore) -> tuple[Path | None, Path | None]:
    """Both halves, where both are there."""
    halves = [None if half is None else store.resolve(half) for half in (tomogram.half1, tomogram.half2)]
    if not all(half is not None and half.is_file() for half in halves):
        return None, None
    return halves[0], halves[1]


def restore_source(series: TiltSeries, tomogram: Tomogram, store: ItemStore) -> RestoreSource:
    """A project's tomogram with all that is known of it."""
    half1, half2 = half_files(tomogram, store)
    return RestoreSource(
        name=series.name,
        path=store.resolve(tomogram.path),
        half1=half1,
        half2=half2,
        geometry=TiltGeometry.from_poses(series.poses) if series.tilts else None,
        voxel_size_angstrom=tomogram.voxel_size_angstrom,
        contrast=tomogram_contrast(series, store.root),
    )


def restored_outcome(series: TiltSeries, tomogram: Tomogram, made: RestoredFile, store: ItemStore) -> Outcome:
    """The restored tomogram takes the place of the raw one in the table of this stage."""
    if made.arrays:
        store.write_arrays(TRUST, **made.arrays)
    written = Tomogram(
        path=store.relative(made.path),
        voxel_size_angstrom=tomogram.voxel_size_angstrom,
        shape_zyx=tomogram.shape_zyx,
    )
    return Outcome(series=series.replace(tomogram=written), metrics=made.figures, caveats=made.caveats)
