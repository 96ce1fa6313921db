"""Deformation of tilt images and of their specimen: one numpy archive a tilt series, `<stage>/warps/<name>.npz`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import Deformation, VolumeWarp, combined
from eucentric.geometry.warp import ImageWarp
from eucentric.io.atomic import atomic_path
from eucentric.io.guarded import ARCHIVE_DAMAGE
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import PathLike


def write_image_warp(
    path: PathLike, warp: ImageWarp, acquisitions: Sequence[int], *, volume: VolumeWarp | None = None
) -> None:
    """Write displacement fields.

    The archive holds `displacement_angstrom` (tilt, gy, gx, 2), `acquisition` (tilt,), `image_shape` (y, x) and
    `pixel_size_angstrom`; what they mean is said at :class:`eucentric.geometry.ImageWarp`. Where the specimen deforms it also
    holds `volume_displacement_angstrom` (dose, gz, gy, gx, 3), `volume_doses` (dose,) and `volume_extent_angstrom` (z, y, x) as
    :class:`eucentric.geometry.VolumeWarp` has them.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of each field, so that each finds its image after tilts have been left out
    volume : deformation of the specimen

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
    specimen: dict[str, Any] = {}
    if volume is not None:
        specimen = {
            "volume_displacement_angstrom": volume.displacement_angstrom,
            "volume_doses": volume.doses,
            "volume_extent_angstrom": np.array(volume.extent_angstrom),
        }
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            displacement_angstrom=warp.displacement_angstrom,
            acquisition=np.asarray(acquisitions, dtype=np.int64),
            image_shape=np.asarray(warp.image_shape, dtype=np.int64),
            pixel_size_angstrom=np.float64(warp.pixel_size_angstrom),
            **specimen,
        )


def write_deformation(path: PathLike, deformation: Deformation, series: TiltSeries) -> None:
    """Write what departs from the rigid geometry of a series; images that are not deformed get a field of zeros.

    Raises
    ------
    ShapeError : fields of another number of images than the series has
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    blank = ImageWarp.build(np.zeros((len(series.tilts), 1, 1, 2)), series.image_shape, series.pixel_size_angstrom)
    acquisitions = [t.acquisition for t in series.tilts]
    write_image_warp(path, deformation.image or blank, acquisitions, volume=deformation.volume)


def read_image_warp(path: PathLike, acquisitions: Sequence[int]) -> ImageWarp:
    """Displacement fields of some tilts, in the order asked for; deformation of the specimen is not among them.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of the tilts wanted

    Raises
    ------
    InputError : no such file
    FormatError : not an archive of :func:`write_image_warp`, or it lacks one of the tilts
    """
    place = _existing(path)
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


def read_volume_warp(path: PathLike) -> VolumeWarp | None:
    """Deformation of the specimen; None where the file holds none.

    Raises
    ------
    InputError : no such file
    FormatError : not an archive of :func:`write_image_warp`
    """
    place = _existing(path)
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if "volume_displacement_angstrom" not in archive:
                return None
            z, y, x = (float(edge) for edge in archive["volume_extent_angstrom"])
            return VolumeWarp.build(archive["volume_displacement_angstrom"], archive["volume_doses"], (z, y, x))
    except (*ARCHIVE_DAMAGE, EucentricError) as error:
        raise FormatError(f"`{place}` does not hold the deformation of a specimen: {error}.") from error


def read_deformation(path: PathLike, series: TiltSeries) -> Deformation:
    """All that departs from the rigid geometry of the tilts of a series. Errors as :func:`read_image_warp`."""
    image, volume = read_image_warp(path, [t.acquisition for t in series.tilts]), read_volume_warp(path)
    only_volume = volume is not None and not image.displacement_angstrom.any()
    return Deformation(image=None if only_volume else image, volume=volume)


def read_folded_warp(path: PathLike, series: TiltSeries) -> ImageWarp:
    """The same as a deformation of the images alone: that of the specimen is right for what lies at mid-height.

    Raises
    ------
    InputError : no such file, or a deformed specimen in a series that is not aligned or has no doses
    FormatError : as :func:`read_image_warp`
    """
    image, volume = read_image_warp(path, [t.acquisition for t in series.tilts]), read_volume_warp(path)
    if volume is None:
        return image
    geometry = TiltGeometry.from_poses(series.poses)
    folded = volume.folded(geometry, series.middle_doses, series.image_shape, series.pixel_size_angstrom)
    return combined(image, folded)


def _existing(path: PathLike) -> Path:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` is not a file; expected the displacement fields of a tilt series.")
    return place
