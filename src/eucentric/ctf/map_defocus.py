"""Where the specimen departs from its plane, and how each image alone says it is tilted: checks of the geometry."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.explain_maps import CELLS, axis_offset, common_bend, describe_maps, off_plane
from eucentric.ctf.fit_defocus import LEAST_EVIDENCE
from eucentric.ctf.fit_inclination import LEVEL, Inclination, TileRings, tile_rings
from eucentric.ctf.results import CtfResult, GeometryDiagnosis
from eucentric.ctf.solve_series import View, place_rings
from eucentric.ctf.specimen_plane import plane_normal, plane_slopes
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics
from eucentric.typing import FloatArray

_REACH = 3000.0  # A of residual that is searched
_STEP = 100.0
_MAP_TILT = 40.0  # degrees; at steeper tilts a cell is a strip of very different depth
_SLOPE_REACH = 0.8  # A/A to either side of the expected gradient
_SLOPE_STEPS = (0.1, 0.2)  # finest and coarsest
_SLOPE_STEP_ANGSTROM = 200.0  # a step's change of defocus where tiles usually lie: less than a radian up to 6 A
_SLOPES_AT_ONCE = 32
_NEAR_ZERO = 10.0  # degrees; below, the direction of a tilt means little


def diagnose_geometry(
    geometry: TiltGeometry, result: CtfResult, *, optics: Optics, specimen_height_angstrom: float = 0.0
) -> GeometryDiagnosis:
    """Map of the defocus over the fitted plane, and tilt angle and axis of each image from its own rings alone.

    A bent specimen shows in the map, at all tilts alike; a wrong tilt axis, angle or sign in the second.

    Parameters
    ----------
    geometry, optics, specimen_height_angstrom : as given to :func:`eucentric.ctf.estimate_series_ctf`
    result : what that returned
    """
    spectra, model = result.spectra, result.model
    plane = Inclination(
        x_deg=result.inclination_x_deg,
        y_deg=result.inclination_y_deg,
        x_sigma_deg=LEVEL.x_sigma_deg,
        y_sigma_deg=LEVEL.y_sigma_deg,
        significant=True,
    )
    view = View(
        geometry=geometry,
        order=AcquisitionOrder.build(np.arange(len(geometry)), spectra.power.device),
        height_angstrom=specimen_height_angstrom,
    )
    statistics, offsets = place_rings(spectra, view, result.hand, optics, plane)
    rings = tile_rings(spectra, statistics, model, optics)
    lit = [t for t in range(len(geometry)) if result.evidence[t] >= LEAST_EVIDENCE]
    residual, sigma, places = _map(rings, spectra.positions_angstrom, offsets, lit, optics)
    slopes = plane_slopes(geometry, plane_normal(plane.x_deg, plane.y_deg))
    found, covariance = _free_slopes(rings, spectra.positions_angstrom, offsets, lit, optics)
    free = np.nan_to_num(slopes) + result.hand * found
    expected_angle, expected_axis = _tilt_of(slopes, geometry)
    angle, axis = _tilt_of(free, geometry)
    angle_sigma, axis_sigma = _tilt_sigmas(free, covariance)
    offset, offset_sigma = axis_offset(residual, sigma, places, geometry, plane, result.hand)
    bend, bend_sigma = common_bend(residual, sigma, np.abs(expected_angle) <= _MAP_TILT, result.hand)
    bend = off_plane(bend, bend_sigma, places)
    return GeometryDiagnosis(
        places_angstrom=places,
        defocus_residual_angstrom=residual,
        defocus_residual_sigma_angstrom=sigma,
        bend_angstrom=bend,
        bend_sigma_angstrom=bend_sigma,
        tilt_angle_deg=angle,
        tilt_axis_deg=axis,
        expected_angle_deg=expected_angle,
        expected_axis_deg=expected_axis,
        tilt_angle_sigma_deg=angle_sigma,
        tilt_axis_sigma_deg=axis_sigma,
        axis_offset_deg=offset,
        axis_offset_sigma_deg=offset_sigma,
        findings=describe_maps(bend, bend_sigma, places, offset, offset_sigma),
    )


def _peak(score: Float[Tensor, "row trial"], step: float) -> tuple[FloatArray, FloatArray]:
    """(row,) place from the middle of the trials, and standard deviation; NaN where the maximum is at an end."""
    values = score.cpu().numpy()
    best = values.argmax(1)
    inside = (best > 0) & (best < values.shape[1] - 1)
    at = np.clip(best, 1, values.shape[1] - 2)
    row = np.arange(len(values))
    left, mid, right = (values[row, at + i] for i in (-1, 0, 1))
    bend = 2 * mid - left - right
    good = inside & (bend > 0)
    safe = np.where(good, bend, 1.0)
    place = (at + 0.5 * (right - left) / safe - (values.shape[1] - 1) / 2) * step
    return np.where(good, place, np.nan), np.where(good, step / np.sqrt(safe), np.nan)


def _map(
    rings: TileRings,
    positions: Float[Tensor, "tile 2"],
    offsets: Float[Tensor, "tilt tile"],
    tilts: list[int],
    optics: Optics,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Residual defocus of each cell of each tilt, its standard deviation, and the middles of the cells."""
    cell, places = _cells(positions)
    grid = torch.arange(-_REACH, _REACH + 1, _STEP, dtype=torch.float64, device=offsets.device)
    residual = np.full((len(offsets), len(places)), np.nan)
    sigma = np.full_like(residual, np.nan)
    for number in range(len(places)):
        inside = torch.nonzero(cell == number).reshape(-1)
        part = rings.only(inside)
        seen = [t for t in tilts if float(part.weight[t].sum()) > 0]
        if seen:
            score = part.at(offsets[seen][:, inside], seen).gain(rings.defocus[seen][:, None] + grid, optics)
            residual[seen, number], sigma[seen, number] = _peak(score, _STEP)
    return residual, sigma, places


def _cells(positions: Float[Tensor, "tile 2"]) -> tuple[Tensor, FloatArray]:
    """Cell of each tile, and the mean place of the tiles of each cell."""
    index = []
    for axis in range(2):
        values = positions[:, axis]
        low, span = float(values.min()), float(values.max() - values.min())
        share = (values - low) / span if span > 0 else torch.zeros_like(values)
        index.append((share * CELLS).long().clamp(max=CELLS - 1))
    label = index[1] * CELLS + index[0]
    names = torch.unique(label)
    cell = torch.searchsorted(names, label)
    places = torch.stack([positions[cell == c].mean(0) for c in range(len(names))])
    return cell, places.cpu().numpy()


def _free_slopes(
    rings: TileRings,
    positions: Float[Tensor, "tile 2"],
    offsets: Float[Tensor, "tilt tile"],
    tilts: list[int],
    optics: Optics,
) -> tuple[FloatArray, FloatArray]:
    """(tilt, 2) gradient of defocus (A/A) over the plane's along x and y, and its covariance (tilt, 2, 2)."""
    found = np.full((len(offsets), 2), np.nan)
    covariance = np.full((len(offsets), 2, 2), np.nan)
    defocus = torch.arange(-1000.0, 1001.0, 200.0, dtype=torch.float64, device=offsets.device)
    lever = max(float(positions.std(0, correction=0).mean()), 1.0)
    width = float(np.clip(_SLOPE_STEP_ANGSTROM / lever, *_SLOPE_STEPS))
    steps = np.arange(-math.floor(_SLOPE_REACH / width), math.floor(_SLOPE_REACH / width) + 1) * width
    pairs = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    for t in tilts:

        def score(slopes: FloatArray, tilt: int = t) -> FloatArray:
            out = []
            for part in torch.split(torch.from_numpy(slopes).to(offsets.device), _SLOPES_AT_ONCE):
                seen = rings.at_tilt(offsets[tilt] + part @ positions.T, tilt)
                out.append(seen.gain((rings.defocus[tilt] + defocus).expand(len(part), -1), optics).max(1).values)
            return np.asarray(torch.cat(out).cpu().numpy())

        best = pairs[int(np.argmax(score(pairs)))]
        for near_by in (width / 2, width / 4):
            near = near_by * np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
            u, v = near.T / near_by
            terms = np.stack([np.ones_like(u), u, v, 0.5 * u * u, u * v, 0.5 * v * v], axis=1)
            fitted = np.linalg.lstsq(terms, score(best + near), rcond=None)[0]
            hessian = -np.array([[fitted[3], fitted[4]], [fitted[4], fitted[5]]]) / near_by**2
            if not bool(np.all(np.linalg.eigvalsh(hessian) > 0)):
                break
            step = np.linalg.solve(hessian, fitted[1:3] / near_by)
            best = best + np.clip(step, -2 * near_by, 2 * near_by)
            found[t], covariance[t] = best, np.linalg.inv(hessian)
    return found, covariance


def _tilt_of(slopes: FloatArray, geometry: TiltGeometry) -> tuple[FloatArray, FloatArray]:
    """Tilt angle (>= 0) and axis of planes rising by `slopes` (tilt, 2) along x and y, nearest to the given axis.

    Under Rz(z_rot) Ry(y_tilt) the plane falls by tan(y_tilt) along the direction z_rot.
    """
    steepness = np.hypot(slopes[:, 0], slopes[:, 1])
    angle = np.degrees(np.arctan(steepness))
    sign = np.where(geometry.y_tilt_deg < 0, 1.0, -1.0)
    direction = np.degrees(np.arctan2(sign * slopes[:, 1], sign * slopes[:, 0]))
    nearest = geometry.z_rot_deg + (direction - geometry.z_rot_deg + 180.0) % 360.0 - 180.0
    return angle, np.where(angle >= _NEAR_ZERO, nearest, np.nan)


def _tilt_sigmas(slopes: FloatArray, covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    steepness = np.maximum(np.hypot(slopes[:, 0], slopes[:, 1]), 1e-6)
    along = slopes / steepness[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    along_variance = np.einsum("ti,tij,tj->t", along, covariance, along)
    across_variance = np.einsum("ti,tij,tj->t", across, covariance, across)
    return (
        np.degrees(np.sqrt(along_variance) / (1 + steepness**2)),
        np.degrees(np.sqrt(across_variance) / steepness),
    )
