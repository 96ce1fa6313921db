"""Volumes in TIFF files: pages are sections, row 0 first, as ImageJ shows MRC files; voxel sizes as ImageJ and OME keep them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import atomic_path
from eucentric.io.fluorescence import tiff_calibration
from eucentric.io.tiff import TIFF_DAMAGE, read_tiff, read_tiff_layout
from eucentric.typing import PathLike

_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_MOST_IMAGEJ = 2**31
_NM = 10.0


def read_tiff_volume(path: PathLike) -> tuple[NDArray[Any], tuple[float, float, float] | None]:
    """Sections (z, y, x) as stored, and the voxel size (x, y, z) in A where ImageJ's or OME's metadata tell it.

    Raises
    ------
    InputError : no such file
    FormatError : damaged, a colour image, or more than one channel or time
    """
    place = Path(path)
    layout = read_tiff_layout(place)
    try:
        with tifffile.TiffFile(place) as tif:
            series = tif.series[0]
            axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
            several = [f"{n} {name}" for name, n in zip(axes, shape, strict=True) if name in "CTS" and n > 1]
            if several:
                raise FormatError(
                    f"`{place}` holds several channels or times ({', '.join(several)}); expected the sections of one volume."
                )
            _, pixel, step = tiff_calibration(tif, 1)
            # ImageJ writes stacks past 4 GB with the header of their first page alone
            one_header = tif.is_imagej and layout.page_count == 1 and math.prod(shape[:-2]) > 1
            data = np.asarray(series.asarray()).reshape(-1, *layout.shape) if one_header else None
    except (InputError, FormatError):
        raise
    except TIFF_DAMAGE as error:
        raise FormatError(f"`{place}` is a damaged TIFF file: {error}. Copy it again.") from error
    array = read_tiff(place)[:, ::-1] if data is None else data
    voxel = None if pixel is None or not math.isfinite(pixel) else (pixel, pixel, step or pixel)
    return np.ascontiguousarray(array), voxel


def write_tiff_volume(path: PathLike, array: NDArray[Any], voxel_size_angstrom: tuple[float, float, float]) -> None:
    """Write sections (z, y, x), row 0 first, for ImageJ, with the voxel size in nm; bytes and 16-bit whole numbers stay.

    Raises
    ------
    InputError : a voxel size that is not positive; as `eucentric.io.atomic.atomic_path`
    BackendError : the disk is full
    """
    x, y, z = voxel_size_angstrom
    if not all(math.isfinite(v) and v > 0 for v in voxel_size_angstrom):
        raise InputError(f"The voxel size is {voxel_size_angstrom}; expected three positive numbers of Angstrom.")
    stored = array if array.dtype.name in _IMAGEJ_TYPES else _as_imagej(array)
    resolution = (_NM / x, _NM / y)
    with atomic_path(path) as temporary:
        if stored.nbytes > _MOST_IMAGEJ:
            # ImageJ's own kind ends at 4 GB: OME's metadata say the size beyond it
            metadata = {
                "axes": "ZYX", "PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeZ": z, "PhysicalSizeXUnit": "Å",
                "PhysicalSizeYUnit": "Å", "PhysicalSizeZUnit": "Å",
            }  # fmt: skip
            tifffile.imwrite(
                temporary,
                stored,
                ome=True,
                bigtiff=True,
                photometric="minisblack",
                compression="zlib",
                metadata=metadata,
            )
            return
        tifffile.imwrite(
            temporary, stored, imagej=True, photometric="minisblack", resolution=resolution,
            metadata={"axes": "ZYX", "unit": "nm", "spacing": z / _NM},
        )  # fmt: skip


def _as_imagej(array: NDArray[Any]) -> NDArray[Any]:
    """The smallest of ImageJ's number types that holds the values: whole numbers from 0 stay whole."""
    if array.dtype.kind in "iu" and array.size and int(array.min()) >= 0 and int(array.max()) < 65536:
        return array.astype(np.uint8 if int(array.max()) < 256 else np.uint16)
    return array.astype(np.float32)
