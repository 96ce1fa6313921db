"""How the specimen of a tilt series lies, and the series in the frame in which it lies flat and in the middle."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import TiltSeries
from eucentric.reconstruction.find_specimen import find_specimen
from eucentric.reconstruction.level_geometry import SpecimenSlab, level_fits, level_geometry
from eucentric.signal.intensity import (
    MEAN_FREE_PATH,
    MEAN_FREE_PATH_ERROR,
    TransmissionFit,
    fit_transmission,
    image_intensities,
    mean_free_path,
)

_SURE = 2.0  # standard deviations: less inclination than that is left as it is
_DISAGREE = 3.0  # standard deviations between two methods from which that is worth a word
_USUAL_VOLTAGE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpecimenFindings:
    """What was found, and in what frame."""

    specimen: Specimen | None
    """In the frame of the poses given, not levelled; None where no method found anything."""
    slab: SpecimenSlab | None
    """What can be levelled: both methods' inclinations, height and thickness; None where nothing stood out."""
    metrics: dict[str, float]
    caveats: tuple[str, ...]


def measure_specimen(
    series: TiltSeries, images: torch.Tensor, *, mean_free_path_angstrom: float = MEAN_FREE_PATH
) -> SpecimenFindings:
    """Thickness, height and inclinations of the specimen from intensities and from a coarse reconstruction.

    The darkening with tilt gives the inclination about the tilt axis, and thickness over mean free path; the bodies in
    the reconstruction are then fitted under what is known of that inclination. Two thicknesses are averaged by their
    variances.

    Parameters
    ----------
    series : aligned
    images : (tilt, y, x) of its tilts, counts
    mean_free_path_angstrom : at 300 kV; scaled to the voltage of the series

    Raises
    ------
    InputError : the series has not been aligned
    """
    geometry = TiltGeometry.from_poses(series.poses)
    light = fit_transmission(
        image_intensities(images), geometry, order=[t.acquisition for t in series.tilts], doses=series.doses
    )
    known = (light.y_tilt_deg, light.y_tilt_sigma_deg) if light.found else None
    slab = find_specimen(images, geometry, pixel_size=series.pixel_size_angstrom, y_tilt_deg=known)
    voltage = series.optics.voltage_kv if series.optics is not None else _USUAL_VOLTAGE
    path = mean_free_path(voltage, mean_free_path_angstrom)
    specimen = _specimen(series, slab, light, path)
    return SpecimenFindings(
        specimen=specimen,
        slab=slab if slab.found else None,
        metrics={} if specimen is None else _metrics(specimen, slab, light),
        caveats=_caveats(specimen, slab, light, path),
    )


def level_series(
    series: TiltSeries, images: Callable[[], torch.Tensor]
) -> tuple[TiltSeries, dict[str, float], tuple[str, ...]]:
    """Find the specimen and turn the frame of poses and defocus; the series, what was found, and caveats.

    No image position changes. Where nothing stands out of the noise the series comes back as it is. A specimen that was
    measured already is not measured again.

    Parameters
    ----------
    images : gives (tilt, y, x), where they are needed
    """
    if series.specimen is None:
        found = measure_specimen(series, images())
    else:
        known = {
            "inclination_x_deg": series.specimen.x_tilt_deg,
            "inclination_y_deg": series.specimen.y_tilt_deg,
            "height_angstrom": series.specimen.z_angstrom,
            "thickness_angstrom": series.specimen.thickness_angstrom,
        }
        found = SpecimenFindings(specimen=series.specimen, slab=None, metrics=known, caveats=())
    return level_by(series, found), found.metrics, found.caveats


def level_by(series: TiltSeries, found: SpecimenFindings, *, as_told: bool = False) -> TiltSeries:
    """Turn the frame of poses and defocus; the series then holds the specimen as it lies in the new frame.

    Inclinations that may be none are left. Where only intensities tell of the specimen, the inclination about the tilt
    axis is levelled; where nothing does the series comes back as it is.

    Parameters
    ----------
    as_told : level every inclination, however small: a person set it
    """
    specimen = found.specimen
    if specimen is None:
        return series
    geometry = TiltGeometry.from_poses(series.poses)
    slab = _slab(specimen) if found.slab is None else found.slab
    slab = slab if as_told else _sure(slab)
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
    specimen = replace(
        specimen,
        x_tilt_deg=specimen.x_tilt_deg - slab.x_tilt_deg,
        y_tilt_deg=specimen.y_tilt_deg - slab.y_tilt_deg,
        z_angstrom=specimen.z_angstrom - slab.z_angstrom,
    )
    thickness = specimen.enclosing_thickness_angstrom
    return series.with_tilts(tilts).replace(thickness_angstrom=thickness, specimen=specimen)


def _specimen(series: TiltSeries, slab: SpecimenSlab, light: TransmissionFit, path: float) -> Specimen | None:
    if not (slab.found or light.found):
        return None
    offset = float(
        np.median([p.y_tilt_deg - t.nominal_tilt_deg for p, t in zip(series.poses, series.tilts, strict=True)])
    )
    across = float(np.median([p.x_tilt_deg for p in series.poses]))
    estimates = []
    fields: dict[str, float] = {}
    if light.found:
        thickness = light.paths * path
        sigma = math.hypot(light.paths_sigma * path, MEAN_FREE_PATH_ERROR * thickness)
        estimates.append((thickness, sigma))
        fields |= {
            "intensity_thickness_angstrom": thickness,
            "intensity_thickness_sigma_angstrom": sigma,
            "mean_free_paths": light.paths,
            "pre_tilt_y_deg": light.y_tilt_deg + offset,
            "pre_tilt_y_sigma_deg": light.y_tilt_sigma_deg,
            "y_tilt_deg": light.y_tilt_deg,
        }
    if slab.found:
        estimates.append((slab.thickness_angstrom, slab.thickness_sigma_angstrom))
        fields |= {
            "features_thickness_angstrom": slab.thickness_angstrom,
            "features_thickness_sigma_angstrom": slab.thickness_sigma_angstrom,
            "pre_tilt_x_deg": slab.x_tilt_deg + across,
            "pre_tilt_x_sigma_deg": slab.x_tilt_sigma_deg,
            "pre_tilt_y_deg": slab.y_tilt_deg + offset,
            "pre_tilt_y_sigma_deg": slab.y_tilt_sigma_deg,
            "x_tilt_deg": slab.x_tilt_deg,
            "y_tilt_deg": slab.y_tilt_deg,
            "z_angstrom": slab.z_angstrom,
            "z_sigma_angstrom": slab.z_sigma_angstrom,
        }
    weights = np.array([1.0 / sigma**2 for _, sigma in estimates])
    mean = float(np.average([t for t, _ in estimates], weights=weights))
    return Specimen(thickness_angstrom=mean, thickness_sigma_angstrom=float(weights.sum() ** -0.5), **fields)


def _metrics(specimen: Specimen, slab: SpecimenSlab, light: TransmissionFit) -> dict[str, float]:
    found = {"thickness_angstrom": specimen.thickness_angstrom, "inclination_y_deg": specimen.y_tilt_deg}
    found |= {"thickness_sigma_angstrom": specimen.thickness_sigma_angstrom}
    if slab.found:
        found |= {"inclination_x_deg": slab.x_tilt_deg, "height_angstrom": slab.z_angstrom}
        found |= {"features_thickness_angstrom": slab.thickness_angstrom}
    if light.found:
        found |= {"intensity_thickness_angstrom": specimen.intensity_thickness_angstrom, "mean_free_paths": light.paths}
    return found


def _caveats(specimen: Specimen | None, slab: SpecimenSlab, light: TransmissionFit, path: float) -> tuple[str, ...]:
    if specimen is None:
        return ("No specimen stood out clearly enough to be levelled; the volume is as the stage gave it.",)
    said = []
    if not slab.found:
        said.append(
            "Nothing stood out in a coarse reconstruction: thickness and inclination about the tilt axis come from the "
            "intensities alone, and height and inclination across the axis are unknown."
        )
    elif not light.found:
        said.append(
            "The images do not darken with tilt as a slab does, as when each was normalised: thickness and inclination "
            "come from the reconstruction alone."
        )
    else:
        one, other = specimen.features_thickness_angstrom, specimen.intensity_thickness_angstrom
        spread = math.hypot(specimen.features_thickness_sigma_angstrom, specimen.intensity_thickness_sigma_angstrom)
        if abs(one - other) > _DISAGREE * spread:
            said.append(
                f"The specimen is {one:.0f} A thick by what it holds and {other:.0f} A by how images darken with tilt "
                f"(mean free path {path:.0f} A): "
                + ("much of the ice may be empty." if other > one else "the mean free path may be longer than that.")
            )
    return tuple(said)


def _slab(specimen: Specimen) -> SpecimenSlab:
    """The slab of a record; where only intensities tell of it, its inclination across the axis and its height are zero."""
    unknown = float("nan")
    return SpecimenSlab(
        found=True,
        x_tilt_deg=specimen.x_tilt_deg,
        y_tilt_deg=specimen.y_tilt_deg,
        z_angstrom=specimen.z_angstrom,
        thickness_angstrom=specimen.thickness_angstrom,
        x_tilt_sigma_deg=specimen.pre_tilt_x_sigma_deg,
        y_tilt_sigma_deg=specimen.pre_tilt_y_sigma_deg,
        z_sigma_angstrom=specimen.z_sigma_angstrom,
        thickness_sigma_angstrom=specimen.thickness_sigma_angstrom,
        score=0.0,
        contrast=unknown,
    )


def _sure(slab: SpecimenSlab) -> SpecimenSlab:
    """The slab without inclinations that may be none: each costs an interpolation between rows."""
    if abs(slab.x_tilt_deg) < _SURE * slab.x_tilt_sigma_deg:
        slab = replace(slab, x_tilt_deg=0.0)
    if abs(slab.y_tilt_deg) < _SURE * slab.y_tilt_sigma_deg:
        slab = replace(slab, y_tilt_deg=0.0)
    return slab
