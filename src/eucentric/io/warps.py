"""Local deformation of tilt images: one numpy archive a tilt series, `<stage>/warps/<name>.npz`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError, ShapeError
from eucentric.geometry.warp import ImageWarp
from eucentric.io.atomic import atomic_path
from eucentric.io.guarded import ARCHIVE_DAMAGE
from eucentric.typing import PathLike


def write_image_warp(path: PathLike, warp: ImageWarp, acquisitions: Sequence[int]) -> None:
    """Write displacement fields.

    The archive holds `displacement_angstrom` (tilt, gy, gx, 2), `acquisition` (tilt,), `image_shape` (y, x) and
    `pixel_size_angstrom`; what they mean is said at :class:`eucentric.geometry.ImageWarp`.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of each field, so that each finds its image after tilts have been left out

    Raises
    ------
    ShapeError : not one acquisition index for every field, or one twice
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    if len(acquisitions) != len(warp) or len(set(acquisitions)) != len(warp):
        raise ShapeError(
            f"{len(warp)} displacement fields and the acquisition indices {list(acquisitions)} were given; expected one "
            "of its own for each field."
        )
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            displacement_angstrom=warp.displacement_angstrom,
            acquisition=np.asarray(acquisitions, dtype=np.int64),
            image_shape=np.asarray(warp.image_shape, dtype=np.int64),
            pixel_size_angstrom=np.float64(warp.pixel_size_angstrom),
        )


def read_image_warp(path: PathLike, acquisitions: Sequence[int]) -> ImageWarp:
    """Displacement fields of some tilts, in the order asked for.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of the tilts wanted

    Raises
    ------
    InputError : no such file
    FormatError : not an archive of :func:`write_image_warp`, or it lacks one of the tilts
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` is not a file; expected the displacement fields of a tilt series.")
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            fields = np.asarray(archive["displacement_angstrom"], dtype=np.float64)
            known = [int(a) for a in archive["acquisition"]]
            shape = [int(n) for n in archive["image_shape"]]
            pixel_size = float(archive["pixel_size_angstrom"])
            if len(known) != len(fields) or len(shape) != 2:
                raise ValueError("sizes that do not fit together")
            warp = ImageWarp.build(fields, (shape[0], shape[1]), pixel_size)
    except (*ARCHIVE_DAMAGE, EucentricError) as error:
        raise FormatError(f"`{place}` does not hold displacement fields of tilt images: {error}.") from error
    missing = [a for a in acquisitions if a not in known]
    if missing:
        raise FormatError(
            f"`{place}` has no displacement field for the images taken as number {', '.join(map(str, missing))} (from 0). "
            "Estimate them again, or leave these tilts out."
        )
    return warp[[known.index(a) for a in acquisitions]]
