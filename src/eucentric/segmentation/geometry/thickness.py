"""Thickness of membranes from the density across them: leaflet to leaflet, finer than a voxel. numpy, A."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry.label_surfaces import frame_of
from eucentric.segmentation.geometry.surfaces import (
    Surface,
    need_faces,
    need_voxel_size,
    vertex_areas,
    vertex_normals,
)
from eucentric.typing import FloatArray

_STEP = 0.25  # voxels
_ITERATIONS = 25
_LEAST_SIGMA = 0.4  # voxels
_RESOLVED = 2.0
"""Least distance of two equal peaks in their standard deviations: nearer than that their sum has one peak."""
_SCALES = 0.5  # of the radius: patches stand that far apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MembraneThickness:
    """Thickness in patches of a membrane."""

    places_angstrom: FloatArray
    """(patch, 3), their centres on the surface."""
    thickness_angstrom: FloatArray
    """(patch,), between the middles of the two leaflets; NaN where they are not told apart."""
    sigma_angstrom: FloatArray
    """(patch,), one standard deviation, from the misfit of the profile; NaN where the thickness is."""
    middle_angstrom: FloatArray
    """(patch,), where the middle of the two lies along the normal from the surface."""
    leaflet_ratio: FloatArray
    """(patch,), amplitude of the leaflet on the side of the normal over that of the other."""
    heights_angstrom: FloatArray
    """(sample,), along the normals."""
    profiles: FloatArray
    """(patch, sample), mean density."""
    at_vertices_angstrom: FloatArray
    """(vertex,), thickness of the nearest patch with one; NaN where none is near."""


def membrane_thickness(
    volume: NDArray[np.floating],
    voxel_size_angstrom: float | None,
    surface: Surface,
    *,
    radius_angstrom: float,
    reach_angstrom: float = 80.0,
    dark: bool = True,
) -> MembraneThickness:
    """Distance of the two leaflets in the mean density across patches of a mid-surface.

    The density is read along the normal of every vertex; profiles within the radius are averaged by area. Two
    Gaussians of one width over a straight line are fitted; peaks of a fit, unlike those of the profile, are not drawn together
    where they overlap. Leaflets nearer than two
    standard deviations of a peak are one to the data: the thickness is NaN then.

    Parameters
    ----------
    volume : (z, y, x), with contrast for low frequencies
    surface : of the middle of the membrane (`middle_surface`), within half of a leaflet
    radius_angstrom : of the patches: larger ones have less noise
    reach_angstrom : how far the profile goes to either side
    dark : whether matter is dark, as recorded; bright in averages and inverted tomograms

    Raises
    ------
    ShapeError : not a volume
    InputError : no voxel size, a volume without contrast, a surface without area, or lengths that are not positive
    """
    voxel = need_voxel_size(voxel_size_angstrom)
    if volume.ndim != 3:
        raise ShapeError(f"A volume of shape {volume.shape} was given; expected (z, y, x).")
    need_faces(surface)
    for name, value in (("radius of the patches", radius_angstrom), ("reach of the profile", reach_angstrom)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"The {name} is {value:g} A; expected a positive number.")
    count = max(8, round(reach_angstrom / (_STEP * voxel)))
    heights = np.asarray(np.arange(-count, count + 1) * (_STEP * voxel), dtype=np.float64)
    normals, areas = vertex_normals(surface), vertex_areas(surface)
    index = frame_of(volume.shape, voxel).to_index(surface.vertices_angstrom)[:, ::-1]
    across = normals[:, ::-1] / voxel
    inside = ((index >= 0) & (index <= np.array(volume.shape) - 1)).all(axis=1) & (areas > 0)
    if not inside.any():
        raise InputError("No part of the surface lies in the volume. Take both from the same tomogram.")
    rows = np.flatnonzero(inside)
    density = np.empty((len(rows), len(heights)), dtype=np.float32)
    for k, height in enumerate(heights):
        spot = (index[rows] + height * across[rows]).T
        density[:, k] = map_coordinates(volume, spot, output=np.float32, order=1, mode="nearest")
    if not np.isfinite(density).all():
        raise InputError("The volume holds values that are NaN or infinite near the surface.")
    if not float(density.std()) > 1e-6 * max(1e-30, float(np.abs(density).max())):
        raise InputError("The volume has no contrast across the surface: every density is the same.")
    centres = _patches(surface.vertices_angstrom[rows], _SCALES * radius_angstrom)
    tree = cKDTree(surface.vertices_angstrom[rows])
    own = normals[rows]
    profiles = np.empty((len(centres), len(heights)))
    for number, near in enumerate(tree.query_ball_point(surface.vertices_angstrom[rows][centres], radius_angstrom)):
        one = np.array(near)
        one = one[own[one] @ own[centres[number]] > 0.5]
        profiles[number] = np.average(density[one], axis=0, weights=areas[rows][one])
    matter = -profiles if dark else profiles
    fit, sigma, good = _two_peaks(np.asarray(heights / voxel), matter)
    distance = np.where(good, 2.0 * fit[:, 1] * voxel, np.nan)
    places = surface.vertices_angstrom[rows][centres]
    at_vertices = np.full(len(normals), np.nan)
    if good.any():
        gap, nearest = cKDTree(places[good]).query(surface.vertices_angstrom)
        at_vertices = np.where(gap <= radius_angstrom, distance[good][nearest], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(good, fit[:, 4] / fit[:, 3], np.nan)
    return MembraneThickness(
        places_angstrom=places,
        thickness_angstrom=distance,
        sigma_angstrom=np.where(good, 2.0 * sigma * voxel, np.nan),
        middle_angstrom=np.where(good, fit[:, 0] * voxel, np.nan),
        leaflet_ratio=ratio,
        heights_angstrom=heights,
        profiles=profiles,
        at_vertices_angstrom=at_vertices,
    )


def _patches(places: FloatArray, spacing: float) -> NDArray[np.int64]:
    """Rows of places some spacing apart: in each cube the one nearest to its middle."""
    cube = np.floor(places / spacing)
    _, index = np.unique(cube, axis=0, return_inverse=True)
    off = ((places / spacing - cube - 0.5) ** 2).sum(axis=1)
    order = np.lexsort((off, index.ravel()))
    first = np.unique(index.ravel()[order], return_index=True)[1]
    return np.asarray(order[first])


def _two_peaks(x: FloatArray, profiles: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Middle, half the distance, width, two amplitudes (lower and upper), offset and slope of each profile, in voxels.

    Levenberg-Marquardt steps for all at once, from several distances; the best of each is kept.
    """
    scale = np.maximum(profiles.max(axis=1) - profiles.min(axis=1), 1e-30)
    level = profiles.min(axis=1)
    data = (profiles - level[:, None]) / scale[:, None]
    best = np.full((len(data), 7), np.nan)
    least = np.full(len(data), np.inf)
    near = np.abs(x) <= 0.75 * x.max()
    middle_mass = (np.clip(data[:, near] - 0.5, 0, None) @ x[near]) / np.maximum(
        np.clip(data[:, near] - 0.5, 0, None).sum(axis=1), 1e-30
    )
    for half in (1.25, 3.0):
        guess = np.tile([0.0, half, 1.0, 0.7, 0.7, 0.1, 0.0], (len(data), 1))
        guess[:, 0] = middle_mass
        found, cost = _refined(x, data, guess)
        better = cost < least
        best[better], least[better] = found[better], cost[better]
    jacobian = _model(x, best)[1]
    freedom = max(len(x) / 4.0 - 7.0, 1.0)  # samples at a quarter voxel are not independent
    noise = least / len(x) * (len(x) / 4.0) / freedom
    curvature = jacobian @ jacobian.transpose(0, 2, 1) / 4.0 + 1e-12 * np.eye(7)
    sigma = np.sqrt(np.maximum(np.linalg.inv(curvature)[:, 1, 1] * noise, 0.0))
    good = (
        (2.0 * best[:, 1] > _RESOLVED * best[:, 2])
        & (best[:, 2] >= _LEAST_SIGMA)
        & (np.abs(best[:, 0]) + best[:, 1] < 0.9 * x.max())
        & (best[:, 3:5].min(axis=1) > 0.2 * best[:, 3:5].max(axis=1))
        & (best[:, 3:5].min(axis=1) > 3.0 * np.sqrt(noise))
        & (sigma < 0.25 * best[:, 1])
    )
    return best, sigma, np.asarray(good)


def _model(x: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values (n, sample) and derivatives (n, 7, sample)."""
    middle, half, width, low, high, offset, slope = (p[:, k, None] for k in range(7))
    lower, upper = (x - middle + half) / width, (x - middle - half) / width
    one, two = np.exp(-0.5 * lower**2), np.exp(-0.5 * upper**2)
    value = low * one + high * two + offset + slope * x
    by_low, by_high = low * one * lower / width, high * two * upper / width
    rows = [
        by_low + by_high,
        by_high - by_low,
        by_low * lower + by_high * upper,
        one,
        two,
        np.ones_like(one),
        np.broadcast_to(x, one.shape),
    ]
    return value, np.stack(rows, axis=1)


def _refined(x: FloatArray, data: FloatArray, guess: FloatArray) -> tuple[FloatArray, FloatArray]:
    p = guess
    value, jacobian = _model(x, p)
    cost = ((data - value) ** 2).sum(axis=1)
    damping = np.full(len(p), 1e-2)
    lowest = np.array([-x.max(), 0.2, 0.5 * _LEAST_SIGMA, 0.0, 0.0, -np.inf, -np.inf])
    highest = np.array([x.max(), x.max(), 0.5 * x.max(), np.inf, np.inf, np.inf, np.inf])
    for _ in range(_ITERATIONS):
        normal = jacobian @ jacobian.transpose(0, 2, 1)
        right = np.einsum("nak,nk->na", jacobian, data - value)
        diagonal = np.einsum("naa->na", normal)
        damped = normal + (damping[:, None] * diagonal + 1e-9)[:, :, None] * np.eye(7)
        new = np.clip(p + np.linalg.solve(damped, right[..., None])[..., 0], lowest, highest)
        new_value, new_jacobian = _model(x, new)
        new_cost = ((data - new_value) ** 2).sum(axis=1)
        better = new_cost < cost
        damping = np.clip(np.where(better, damping / 3.0, damping * 4.0), 1e-9, 1e9)
        p = np.where(better[:, None], new, p)
        value = np.where(better[:, None], new_value, value)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        done = np.abs(cost - new_cost).max() < 1e-12
        cost = np.where(better, new_cost, cost)
        if done:
            break
    return p, cost
