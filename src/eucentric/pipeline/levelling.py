"""A tilt series in the frame in which its specimen lies flat and in the middle."""

from dataclasses import replace

import torch

from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tilt_series import TiltSeries
from eucentric.reconstruction.find_specimen import SpecimenSlab, find_specimen, level_fits, level_geometry

_SURE = 2.0  # standard deviations: less inclination than that is left as it is


def level_series(series: TiltSeries, images: torch.Tensor) -> tuple[TiltSeries, dict[str, float], tuple[str, ...]]:
    """Find the specimen and turn the frame of poses and defocus; the series, what was found, and caveats.

    No image position changes. Where nothing stands out of the noise the series comes back as it is.
    """
    geometry = TiltGeometry.from_poses(series.poses)
    slab = find_specimen(images, geometry, pixel_size=series.pixel_size_angstrom)
    if not slab.found:
        return series, {}, ("No specimen stood out clearly enough to be levelled; the volume is as the stage gave it.",)
    metrics = {
        "inclination_x_deg": slab.x_tilt_deg,
        "inclination_y_deg": slab.y_tilt_deg,
        "height_angstrom": slab.z_angstrom,
        "thickness_angstrom": slab.thickness_angstrom,
    }
    slab = _sure(slab)
    level = level_geometry(geometry, slab)
    fits = [t.ctf for t in series.tilts]
    if series.has_ctf:
        fits = list(level_fits([f for f in fits if f is not None], geometry, slab, hand=series.hand))
    tilts = [
        replace(
            tilt,
            ctf=fits[i],
            pose=replace(
                pose,
                x_tilt_deg=float(level.x_tilt_deg[i]),
                y_tilt_deg=float(level.y_tilt_deg[i]),
                z_rot_deg=float(level.z_rot_deg[i]),
                x_shift_angstrom=float(level.shifts_angstrom[i, 0]),
                y_shift_angstrom=float(level.shifts_angstrom[i, 1]),
            ),
        )
        for i, (tilt, pose) in enumerate(zip(series.tilts, series.poses, strict=True))
    ]
    thickness = slab.thickness_angstrom + _SURE * slab.thickness_sigma_angstrom
    return series.with_tilts(tilts).replace(thickness_angstrom=thickness), metrics, ()


def _sure(slab: SpecimenSlab) -> SpecimenSlab:
    """The slab without inclinations that may be none: each costs an interpolation between rows."""
    if abs(slab.x_tilt_deg) < _SURE * slab.x_tilt_sigma_deg:
        slab = replace(slab, x_tilt_deg=0.0)
    if abs(slab.y_tilt_deg) < _SURE * slab.y_tilt_sigma_deg:
        slab = replace(slab, y_tilt_deg=0.0)
    return slab
