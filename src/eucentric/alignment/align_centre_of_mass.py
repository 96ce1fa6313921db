"""Alignment of an isolated specimen by its mass: needles and particles, bright on an even background."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ProcessingError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.resampling import resample_tilts
from eucentric.typing import FloatArray

_BACKGROUND_QUANTILE = 0.05
_ROUNDS = 8
_FINENESS = 16  # samples of a correlation per pixel
_EMPTY_ROW = 0.1  # of the brightest: rows that are fainter in some image tell nothing of the axis


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentreOfMassResult:
    """Geometry and how well the centres of mass follow it."""

    geometry: TiltGeometry
    residuals_px: FloatArray
    """(tilt,) root mean square distance of the centres of mass of its slices from their curves, after alignment."""


def align_centre_of_mass(
    images: Float[Tensor, "tilt y x"], tilts_deg: FloatArray, *, pixel_size: float, axis_deg: float
) -> CentreOfMassResult:
    r"""Shifts and tilt axis of an isolated specimen, from what no tilt can change [1]_.

    Summed across the tilt axis, all images give the same profile along it: that aligns them along the axis. In every
    slice across the axis the centre of mass moves as :math:`c + a \cos t + b \sin t` with the tilt t; the line of the
    c is the axis, in place and direction. What is left of each image's centre of mass is its shift across the axis.

    Parameters
    ----------
    images : (tilt, y, x), bright where the specimen is; nothing else in view, the background even
    tilts_deg : (tilt,), three different ones at least
    pixel_size : A
    axis_deg : rough direction of the tilt axis as rlnTomoZRot, within about 20 degrees

    Raises
    ------
    ProcessingError : images that are empty, or angles that do not fix the axis
    ShapeError : images and tilts of different length

    References
    ----------
    .. [1] Scott et al., Nature 483:444 (2012), doi:10.1038/nature10934
    """
    count = len(tilts_deg)
    if images.shape[0] != count:
        raise ShapeError(f"{images.shape[0]} images and {count} tilt angles were given; expected one each.")
    tilt = np.deg2rad(np.asarray(tilts_deg, dtype=np.float64))
    design = np.stack([np.ones_like(tilt), np.cos(tilt), np.sin(tilt)], axis=1)
    if np.linalg.matrix_rank(design, tol=1e-3) < 3:
        raise ProcessingError("The tilt angles are too few or too close to tell where the tilt axis lies.")
    background = float(np.quantile(images[:, ::2, ::2].cpu().numpy(), _BACKGROUND_QUANTILE))
    specimen = (images - background).float()
    side = min(images.shape[1:])
    axis, shifts = float(axis_deg), np.zeros((count, 2))
    residuals = np.zeros(count)
    for _ in range(_ROUNDS):
        geometry = TiltGeometry.build(tilts_deg, z_rot_deg=axis, shifts_angstrom=shifts)
        turned = resample_tilts(specimen, geometry, pixel_size, out_shape=(side, side), out_pixel_size=pixel_size)
        along = _profile_shifts(turned.sum(2))
        position, slope, missed, residuals = _axis_line(turned, design)
        across = position + missed
        turn = np.deg2rad(axis)
        shifts = shifts + pixel_size * np.stack(
            [np.cos(turn) * across - np.sin(turn) * along, np.sin(turn) * across + np.cos(turn) * along], axis=1
        )
        axis -= float(np.rad2deg(np.arctan(slope)))
    return CentreOfMassResult(
        geometry=TiltGeometry.build(tilts_deg, z_rot_deg=axis, shifts_angstrom=shifts), residuals_px=residuals
    )


def _profile_shifts(profiles: Float[Tensor, "tilt row"]) -> FloatArray:
    """By how many pixels each profile is displaced from the mean of all; their mean is zero."""
    count = profiles.shape[1]
    steps = torch.diff(profiles, dim=1) * torch.hann_window(count - 1, periodic=False, device=profiles.device)
    spectra = torch.fft.rfft(steps, n=2 * count)
    product = spectra * spectra.mean(0).conj()
    fine = torch.fft.irfft(product, n=2 * count * _FINENESS)
    peak = fine.argmax(1).cpu().numpy() / _FINENESS
    shift = np.where(peak > count, peak - 2 * count, peak)
    return np.asarray(shift - shift.mean(), dtype=np.float64)


def _axis_line(
    turned: Float[Tensor, "tilt row column"], design: FloatArray
) -> tuple[float, float, FloatArray, FloatArray]:
    """Where the axis crosses the middle row, its slope in columns per row; shift and misfit of each image, in columns."""
    mass = turned.double().clamp(min=0.0)
    total = mass.sum(2)
    faintest, mean = total.min(0).values, total.mean(0)
    rows = torch.nonzero(faintest > _EMPTY_ROW * mean.max()).flatten()
    if len(rows) < 2:
        raise ProcessingError(
            "No part of the specimen is in view in all images. Exclude empty tilts, or align by projection matching."
        )
    columns = torch.arange(turned.shape[2], device=turned.device, dtype=torch.float64) - turned.shape[2] // 2
    centroid = ((mass[:, rows] * columns).sum(2) / total[:, rows]).cpu().numpy()
    weight = mean[rows].cpu().numpy()
    curves = np.linalg.lstsq(design, centroid, rcond=None)[0]
    place = rows.cpu().numpy() - turned.shape[1] // 2
    slope, position = np.polyfit(place, curves[0], 1, w=np.sqrt(weight))
    misfit = centroid - design @ curves
    missed = misfit @ weight / weight.sum()
    residuals = np.sqrt((misfit - missed[:, None]) ** 2 @ weight / weight.sum())
    return float(position), float(slope), missed, residuals
