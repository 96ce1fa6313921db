"""How far what a format cannot hold moves points or defocus: sentences with A, for series that have it."""

from dataclasses import replace

import numpy as np

from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.models.tilt_series import TiltPose
from eucentric.typing import FloatArray

_UNTOLD = 0.05  # A; rounding of text files moves points by less
_THIN = 0.25  # height of a specimen of unknown size, in parts of the image


def specimen_corners(geometry: SeriesGeometry) -> FloatArray:
    """(8, 3) corners of the specimen's box in A from its centre; of the images and the thickness where no size is known."""
    series = geometry.series
    y, x = series.image_shape
    size = np.array(series.volume_size_px or (x, y, _THIN * min(x, y)), dtype=np.float64) * series.pixel_size_angstrom
    if series.volume_size_px is None and series.thickness_angstrom is not None:
        size[2] = series.thickness_angstrom
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    return 0.5 * signs * size


def _moved(geometry: SeriesGeometry, poses: list[TiltPose]) -> FloatArray:
    """(tilt, corner) A that the images of the specimen's corners move with other poses."""
    corners = specimen_corners(geometry)
    true, other = (TiltGeometry.from_poses(p).project(corners) for p in (geometry.series.poses, poses))
    return np.asarray(np.linalg.norm((true - other)[..., :2], axis=-1))


def pose_loss(geometry: SeriesGeometry, what: str, **kept: float) -> list[str]:
    """A sentence if poses with some fields set to the values given show the specimen's corners elsewhere."""
    poses = [replace(p, **kept) for p in geometry.series.poses]
    moved = _moved(geometry, poses)
    if not moved.max() > _UNTOLD:
        return []
    return [
        f"{geometry.series.name}: {what}; it moves the corners of the specimen by up to {moved.max():.1f} A "
        f"({np.sqrt((moved**2).mean()):.1f} A rms) in the images."
    ]


def warp_loss(geometry: SeriesGeometry) -> list[str]:
    """A sentence if there is a local deformation."""
    if geometry.warp is None:
        return []
    size = np.linalg.norm(geometry.warp.displacement_angstrom, axis=-1)
    return [
        f"{geometry.series.name}: the local deformation of the images is left out ({np.sqrt((size**2).mean()):.1f} A rms, "
        f"up to {size.max():.1f} A)."
    ]


def hand_loss(geometry: SeriesGeometry, program: str) -> list[str]:
    """A sentence if a higher point has more underfocus, for programs that take it to have less."""
    series = geometry.series
    if series.hand < 0 or not any(t.ctf for t in series.tilts):
        return []
    height = np.abs(TiltGeometry.from_poses(series.poses).project(specimen_corners(geometry))[..., 2]).max()
    return [
        f"{series.name}: {program} takes the underfocus to fall with height, and here it rises (hand +1). The defocus away from the "
        f"specimen centre will be wrong by up to {2 * height:.0f} A; check the hand."
    ]


def astigmatism_loss(geometry: SeriesGeometry) -> list[str]:
    """A sentence if a defocus depends on the direction."""
    fits = [t.ctf for t in geometry.series.tilts if t.ctf is not None]
    most = max((abs(f.defocus_u_angstrom - f.defocus_v_angstrom) for f in fits), default=0.0)
    if most < 1e-3:
        return []
    return [
        f"{geometry.series.name}: only the mean defocus is kept; U and V differ by up to {most:.0f} A (astigmatism)."
    ]


def dose_loss(geometry: SeriesGeometry, where: str) -> list[str]:
    """A sentence if doses are known."""
    total = sum(t.dose for t in geometry.series.tilts)
    return (
        [f"{geometry.series.name}: the dose of each image ({total:.1f} e/A2 in all) has no place in {where}."]
        if total
        else []
    )
