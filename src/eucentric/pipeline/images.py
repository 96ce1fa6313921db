"""Images of a tilt series from disk to tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.volume_warp import Deformation
from eucentric.geometry.warp import ImageWarp
from eucentric.io.movies import read_movie
from eucentric.io.mrc import read_mrc
from eucentric.io.warps import read_deformation as read_deformation_file
from eucentric.io.warps import read_folded_warp
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.store import ItemStore


def read_images(series: TiltSeries, store: ItemStore, device: torch.device, *, part: str = "image") -> Tensor:
    """Images (tilt, y, x) of all tilts as float32.

    Parameters
    ----------
    part : `image`, `image_even` or `image_odd`

    Raises
    ------
    InputError : a tilt has no image yet, or an image holds NaN
    ShapeError : images of different sizes
    """
    images = torch.empty((len(series.tilts), *series.image_shape), dtype=torch.float32, device=device)
    for i, tilt in enumerate(series.tilts):
        image = read_image(series, tilt, store, part=part)
        if image.shape != series.image_shape:
            raise ShapeError(
                f"The image of {series.name} at {tilt.nominal_tilt_deg:.1f} degrees is {image.shape[1]} x {image.shape[0]} "
                f"pixels; expected {series.image_shape[1]} x {series.image_shape[0]}."
            )
        images[i] = torch.from_numpy(image)
    return images


def read_image(series: TiltSeries, tilt: Tilt, store: ItemStore, *, part: str = "image") -> np.ndarray:
    """One image (y, x) as float32; a movie of a tilt that was never summed is an error."""
    where = getattr(tilt, part)
    if where is None:
        raise InputError(
            f"{series.name} has no image at {tilt.nominal_tilt_deg:.1f} degrees yet. Run `eucentric motion` first."
        )
    path = store.resolve(where)
    number, at, _ = where.partition("@")
    section = int(number) - 1 if at and number.isdigit() else 0
    data = _stack(path)
    if section >= len(data):
        raise InputError(f"`{path}` holds {len(data)} images; image {section + 1} was asked for.")
    image = np.array(data[section], dtype=np.float32)  # a copy: the file stays as it is
    if not np.isfinite(image).all():
        raise InputError(
            f"The image of {series.name} at {tilt.nominal_tilt_deg:.1f} degrees holds values that are not numbers (NaN). "
            f"Make it again, or leave it out: eucentric exclude PROJECT {series.name} {tilt.nominal_tilt_deg:.1f}"
        )
    return image


def _stack(path: Path) -> np.ndarray:
    if path.suffix.lower() in {".tif", ".tiff"}:
        return read_movie(path)[0]
    return read_mrc(path)[0]


def read_warp(series: TiltSeries, store: ItemStore) -> ImageWarp | None:
    """Local deformation of the images of all tilts; None where there is none.

    A deformed specimen is folded into it, which is right at mid-height: :func:`read_deformation` has it apart.
    """
    return None if series.warp is None else read_folded_warp(store.resolve(series.warp), series)


def read_deformation(series: TiltSeries, store: ItemStore) -> Deformation:
    """Deformation of the specimen and of the images of all tilts."""
    return Deformation() if series.warp is None else read_deformation_file(store.resolve(series.warp), series)
