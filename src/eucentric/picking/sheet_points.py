"""Points on the middle of a thin segmented sheet, such as a membrane: one layer of them, not one on either side. numpy, A."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.picking.pick_geometry import OrientedPoints, thinned_points
from eucentric.typing import FloatArray

_DARTS = 12.0  # candidates for each point that fits
_STEPS = 8
_LEAST_SIGMA = 1.0  # voxels
_LEAST_CURVATURE = 0.4  # of the median


def sheet_points(
    volume: ArrayLike,
    frame: TomogramFrame,
    spacing_angstrom: float,
    generator: np.random.Generator,
    *,
    threshold: float = 0.5,
) -> OrientedPoints:
    """Points on the middle of a segmented sheet, none nearer than the spacing; z across it.

    The middle is the ridge of the region smoothed by half its thickness: the slope along the direction of greatest curvature is 0.
    Normals of one connected sheet agree from neighbour to neighbour, and point away from its centre of mass on the whole.

    Raises
    ------
    ShapeError : a volume that is not of the frame's size
    InputError : an empty or full segmentation, or a spacing that is not positive
    """
    region = np.asarray(volume) > threshold
    if region.shape != frame.size_xyz[::-1]:
        raise ShapeError(
            f"A volume of shape {region.shape} was given for a tomogram of {frame.size_xyz[::-1]} (z, y, x)."
        )
    if not region.any() or region.all():
        raise InputError(
            f"The segmentation is {'full' if region.all() else 'empty'} above {threshold:g}: it has no sheet."
        )
    if not spacing_angstrom > 0:
        raise InputError(f"The spacing is {spacing_angstrom:g} A; expected a positive number.")
    depth = distance_transform_edt(region)
    sigma = max(_LEAST_SIGMA, float(np.percentile(depth[region], 90)))
    smooth = np.asarray(gaussian_filter(region.astype(np.float64), sigma, mode="nearest"))
    start = np.argwhere(region).astype(np.float64)
    count = max(16, round(_DARTS * len(start) * (frame.voxel_size_angstrom / spacing_angstrom) ** 2))
    places = start[generator.integers(0, len(start), count)] + generator.uniform(-0.5, 0.5, (count, 3))
    places, normals, good = _onto_ridge(smooth, places)
    inside = ((places >= 0) & (places <= np.array(region.shape) - 1)).all(axis=1)
    near = map_coordinates(region.astype(np.float32), places.T, order=1, mode="nearest") > 0.25
    keep = good & inside & near
    points = frame.to_angstrom(places[keep][:, ::-1])
    return thinned_points(
        points, _agreeing(points, normals[keep][:, ::-1], spacing_angstrom), spacing_angstrom, generator
    )


def _onto_ridge(smooth: FloatArray, places: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Places moved along the direction of greatest curvature to where the slope is 0; these directions; which got there."""
    slope = [np.asarray(np.gradient(smooth, axis=axis)) for axis in range(3)]
    bend = [[np.asarray(np.gradient(part, axis=axis)) for axis in range(3)] for part in slope]
    move = np.zeros(len(places))
    for _ in range(_STEPS):
        g = np.stack([map_coordinates(part, places.T, order=1, mode="nearest") for part in slope], axis=1)
        h = np.stack(
            [
                np.stack([map_coordinates(part, places.T, order=1, mode="nearest") for part in row], axis=1)
                for row in bend
            ],
            axis=1,
        )
        values, vectors = np.linalg.eigh(0.5 * (h + h.transpose(0, 2, 1)))
        across, sharp = vectors[:, :, 0], values[:, 0]
        move = np.clip(np.einsum("ni,ni->n", g, across) / np.maximum(-sharp, 1e-6), -1.0, 1.0)
        places = places + move[:, None] * across
    # beside the sheet, too, a slope can vanish along some direction: there the curvature is weak
    strong = -sharp > _LEAST_CURVATURE * np.median(-sharp)
    return places, across, (np.abs(move) < 0.1) & strong


def _agreeing(points: FloatArray, normals: FloatArray, spacing: float) -> FloatArray:
    """Normals with signs carried from neighbour to neighbour, outwards on the whole."""
    if len(points) < 2:
        return normals
    near = cKDTree(points).query_pairs(spacing, output_type="ndarray")
    graph = coo_matrix((np.ones(len(near)), near.T), shape=(len(points), len(points))).tocsr()
    graph = graph + graph.T
    out = normals.copy()
    number, label = connected_components(graph, directed=False)
    for part in range(number):
        rows = np.flatnonzero(label == part)
        order, before = breadth_first_order(graph, int(rows[0]), directed=False)
        for row in order[1:]:
            if out[row] @ out[before[row]] < 0:
                out[row] = -out[row]
        away = points[rows] - points[rows].mean(axis=0)
        if np.einsum("ni,ni->n", out[rows], away).sum() < 0:
            out[rows] = -out[rows]
    return out
