"""Faces of specimens in files: tomograms in; masks, maps of the thickness and a table out."""

from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import InputError, ProcessingError
from eucentric.figures.publication import ONE_COLUMN_MM, publication_figure
from eucentric.figures.slices import slice_picture
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.csv_tables import write_csv_table
from eucentric.io.mrc import write_mrc
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.label_files import write_labels
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.threshold_files import SegmentedFiles, TomogramChoice, each_tomogram
from eucentric.segmentation.params import SpecimenParams
from eucentric.segmentation.specimen_faces import SpecimenFaces, find_faces

_FIGURES = (
    "thickness_angstrom",
    "thinnest_angstrom",
    "thickest_angstrom",
    "bottom_angstrom",
    "top_angstrom",
    "rises_along_x_deg",
    "rises_along_y_deg",
    "quality",
    "volume_percent",
)


def faces_files(
    choice: TomogramChoice,
    output: Path,
    params: SpecimenParams,
    *,
    margin_angstrom: float = 0.0,
    overwrite: bool = False,
) -> SegmentedFiles:
    """Find the faces of the specimen in every tomogram.

    Parameters
    ----------
    output : folder to be made: `masks/NAME.mrc` (1 between the faces), `thickness/NAME.mrc` (A across the specimen, an image), the
        same as `thickness/NAME.png`, and `faces.csv`
    margin_angstrom : A along z by which masks are larger, or smaller where negative; maps and table have none of it

    Raises
    ------
    InputError : no tomogram, files that would be replaced unasked; of the only tomogram also what `find_faces` raises, and a
        margin that leaves nothing
    ProcessingError : no faces in the only tomogram
    """
    files = choice.files()
    table = output / "faces.csv"
    masks = {one.name: output / "masks" / f"{one.name}.mrc" for one in files}
    maps = {one.name: output / "thickness" / f"{one.name}.mrc" for one in files}
    pictures = {name: place.with_suffix(".png") for name, place in maps.items()}
    outputs = [table, *masks.values(), *maps.values(), *pictures.values()]
    refuse_to_replace(outputs, [one.path for one in files], overwrite)

    def work(one: TomogramFile) -> dict[str, Any]:
        volume, voxel = choice.read(one)
        found = find_faces(volume, voxel, params)
        if not found.found:
            raise ProcessingError(
                f"No face of the specimen stands out: its texture is {np.median(found.quality):.1f} deviations above that beyond, and "
                f"{params.min_quality:g} are asked for. Reconstruct a thicker volume, or lower --min-quality."
            )
        mask = found.mask((volume.shape[0], volume.shape[1], volume.shape[2]), voxel, margin_angstrom)
        if not mask.any():
            raise InputError(f"A margin of {margin_angstrom:g} A leaves nothing of the specimen. Give a smaller one.")
        for place in (masks[one.name], maps[one.name]):
            place.parent.mkdir(parents=True, exist_ok=True)
        thickness = found.normal_thickness_angstrom(voxel)
        write_labels(masks[one.name], mask.astype(np.int32), voxel)
        label = "Eucentric thickness of the specimen, A"
        write_mrc(maps[one.name], thickness.astype(np.float32), voxel, labels=(label,), is_volume=False)
        low, high = np.percentile(thickness, [0.5, 99.5])
        title = f"{one.name}, thickness from {low:.0f} Å (black) to {high:.0f} Å (white)"
        figure = slice_picture(thickness, voxel, ("x", "y"), title=title)
        write_bytes_atomic(pictures[one.name], publication_figure(figure, "png", width_mm=ONE_COLUMN_MM))
        figures = _figures(found, thickness, voxel) | {"volume_percent": 100.0 * float(mask.mean())}
        return {"mask": str(masks[one.name]), "thickness": str(maps[one.name]), **figures}

    told = each_tomogram(files, work, many=len(files) > 1)
    output.mkdir(parents=True, exist_ok=True)
    rows = [
        (name, int("error" not in one), *(f"{one[key]:.2f}" if key in one else "" for key in _FIGURES))
        for name, one in told.items()
    ]
    write_csv_table(table, ("tomogram", "found", *_FIGURES), rows)
    return SegmentedFiles(table=table, tomograms=told)


def _figures(found: SpecimenFaces, thickness: np.ndarray, voxel: float) -> dict[str, float]:
    along_x, along_y = found.inclination_deg(voxel)
    thin, middle, thick = np.percentile(thickness, [5.0, 50.0, 95.0])
    return {
        "thickness_angstrom": float(middle),
        "thinnest_angstrom": float(thin),
        "thickest_angstrom": float(thick),
        "bottom_angstrom": float(np.median(found.bottom_angstrom)),
        "top_angstrom": float(np.median(found.top_angstrom)),
        "rises_along_x_deg": along_x,
        "rises_along_y_deg": along_y,
        "quality": float(np.median(found.quality)),
    }
