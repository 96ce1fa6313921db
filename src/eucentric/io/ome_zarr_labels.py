"""Labels in OME-Zarr 0.5: a pyramid of whole numbers that viewers show as labels, alone or in the `labels` group of an image.

Reference: OME-NGFF specification 0.5, "labels" metadata, https://ngff.openmicroscopy.org/0.5/. Coarser levels take every second voxel,
never a mean; a label thinner than that may vanish in them.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.io.ome_zarr import AXES, ZARR_DAMAGE, read_ome_zarr_header
from eucentric.io.ome_zarr_writer import atomic_folder, level_shapes
from eucentric.io.stored_values import checked_voxel_size
from eucentric.typing import PathLike

_CHUNK = 64
_GROUP = "labels"


def write_ome_zarr_labels(path: PathLike, labels: NDArray[np.integer], voxel_size_angstrom: float) -> None:
    """Write labels as a folder of their own, or into an image: `IMAGE.zarr/labels/NAME`, where the image then lists them.

    Raises
    ------
    ShapeError : not (z, y, x), or another shape than that of the image
    FormatError : an image of an older version
    InputError : a voxel size that is not positive, or a place that may not be written to
    BackendError : the disk is full
    """
    place = Path(path)
    if labels.ndim != 3 or not labels.size:
        raise ShapeError(f"Labels of shape {labels.shape} were given; expected (z, y, x).")
    sizes = checked_voxel_size(voxel_size_angstrom)[::-1]
    image = image_of_labels(place)
    if image is not None:
        of_image = read_ome_zarr_header(image)
        if of_image.shape != labels.shape:
            raise ShapeError(
                f"The labels have shape {labels.shape} and the image `{image}` {of_image.shape}; expected the same."
            )
        if of_image.version != "0.5":
            raise FormatError(
                f"`{image}` is an OME-Zarr of version {of_image.version}; labels can be added to 0.5. Write them beside it."
            )
    with atomic_folder(place) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        datasets = []
        shapes = level_shapes((labels.shape[0], labels.shape[1], labels.shape[2]), _CHUNK)
        level: NDArray[Any] = labels
        for index, shape in enumerate(shapes):
            if index:
                level = level[::2, ::2, ::2]
            array = group.create_array(
                str(index), shape=shape, dtype=labels.dtype, chunks=tuple(min(_CHUNK, n) for n in shape), fill_value=0,
                dimension_names=AXES,
            )  # fmt: skip
            array[...] = level
            factors = [2.0 ** min(index, math.ceil(math.log2(n))) for n in labels.shape]
            scale = [v * f for v, f in zip(sizes, factors, strict=True)]
            steps = [{"type": "scale", "scale": scale}]
            datasets.append({"path": str(index), "coordinateTransformations": steps})
        axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in AXES]
        name = place.name.removesuffix(".zarr").removesuffix(".ome")
        kind: dict[str, Any] = {} if image is None else {"source": {"image": "../../"}}
        group.update_attributes(
            {
                "ome": {
                    "version": "0.5",
                    "multiscales": [{"name": name, "axes": axes, "datasets": datasets, "type": "nearest"}],
                    "image-label": kind,
                }
            }
        )
    if image is not None:
        _list_labels(image, place.name)


def label_names_of_image(path: PathLike) -> tuple[str, ...]:
    """Names in the `labels` group of an OME-Zarr image; none where it has none. FormatError where it is damaged."""
    place = Path(path) / _GROUP
    if not any((place / name).is_file() for name in ("zarr.json", ".zgroup")):
        return ()
    try:
        attributes = zarr.open_group(place, mode="r").attrs.asdict()
        ome = attributes.get("ome", attributes)
        names = ome.get(_GROUP, []) if isinstance(ome, dict) else []
        return tuple(str(name) for name in names)
    except ZARR_DAMAGE as error:
        raise FormatError(
            f"`{place}` is damaged: {type(error).__name__} {str(error)[:100]}. Copy it again from where it was made."
        ) from error


def is_label_image(path: PathLike) -> bool:
    """Whether the folder itself says that it holds labels and no densities."""
    try:
        attributes = zarr.open_group(Path(path), mode="r").attrs.asdict()
    except ZARR_DAMAGE:
        return False
    ome = attributes.get("ome", attributes)
    return isinstance(ome, dict) and "image-label" in ome


def image_of_labels(path: PathLike) -> Path | None:
    """The image that `IMAGE/labels/NAME` belongs to; None for any other place."""
    place = Path(path)
    image = place.parent.parent
    return image if place.parent.name == _GROUP and _is_image(image) else None


def _is_image(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zattrs"))


def _list_labels(image: Path, name: str) -> None:
    names = label_names_of_image(image)
    group = zarr.open_group(image / _GROUP, mode="a", zarr_format=3)
    group.update_attributes({"ome": {"version": "0.5", _GROUP: [*names, *(() if name in names else (name,))]}})
