"""The middle of thin segmented sheets, such as membranes, as one surface and not one on either side. numpy, A."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry.label_surfaces import frame_of
from eucentric.segmentation.geometry.marching_cubes import marching_cubes
from eucentric.segmentation.geometry.smooth_surface import smooth_surface
from eucentric.segmentation.geometry.surfaces import (
    Surface,
    edges_of,
    face_areas,
    face_pieces,
    facing,
    need_voxel_size,
    part_of,
    vertex_normals,
)
from eucentric.typing import FloatArray

# all in voxels
_LEAST_SIGMA = 1.0
_REACH = 1.8
_NEAR = 1.25
_BAND = 2.5
_RIM = 0.7
_STEPS = 3
_BORDER_SIGMA = 0.7
_SHEET = 0.5  # of the greatest curvature
_UNLIKE = 0.4  # of the median thickness
_NEIGHBOURS = 16
_LEAST_CURVATURE = 0.25  # of the median
_LIKE = 0.5  # cosine between normals of one sheet at neighbouring points


def middle_surface(
    region: NDArray[np.bool_],
    voxel_size_angstrom: float | None,
    *,
    score: NDArray[np.floating] | None = None,
    rounds: int = 10,
    least_area_angstrom2: float | None = None,
) -> Surface:
    """The middle of a segmented sheet, finer than a voxel: closed where the sheet is, ending at its rims where it is not.

    Voxels near the ridge of the region smoothed by half its thickness (or of the score, smoothed by a voxel) go onto it along the
    direction of greatest curvature, and half-way between the region's borders along it. Their normals are made to agree along
    a spanning tree; the surface is where the mean of their planes is 0 [1]_, and ends where no point is near. Closed pieces face
    outwards, others away from their centre.

    Parameters
    ----------
    region : (z, y, x), True in the sheet
    score : (z, y, x), highest in the middle of the sheet; the region alone is used where None
    rounds : of smoothing (`smooth_surface`)
    least_area_angstrom2 : smaller pieces are left out; 25 squares of a voxel where None

    Raises
    ------
    ShapeError : not a volume, or a score of another shape
    InputError : a region that is empty or full, one without a sheet, or no voxel size

    References
    ----------
    .. [1] Hoppe et al., SIGGRAPH 1992, 71, doi:10.1145/133994.134011
    """
    voxel = need_voxel_size(voxel_size_angstrom)
    if region.ndim != 3 or (score is not None and score.shape != region.shape):
        raise ShapeError(
            f"A region of shape {region.shape}{'' if score is None else f' and a score of {score.shape}'} was given; "
            "expected (z, y, x), the same for both."
        )
    region = np.asarray(region, dtype=bool)
    if not region.any() or region.all():
        raise InputError(f"The region is {'empty' if not region.any() else 'full'}: it has no sheet.")
    low = [max(0, int(np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {a})))[0]) - 4) for a in range(3)]
    high = [int(np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {a})))[-1]) + 5 for a in range(3)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    points, normals = _ridge_points(region[box], None if score is None else score[box])
    if len(points) < 4:
        raise InputError("The region has no sheet: nowhere is it thin along one direction. Label its membrane alone.")
    points, normals = _thinned(points, normals)
    vertices, faces = _planes_surface(points, _agreeing(points, normals), region[box].shape)
    surface = Surface(
        vertices_angstrom=frame_of(region.shape, voxel).to_angstrom((vertices + low)[:, ::-1]), faces=faces[:, ::-1]
    )
    surface = smooth_surface(surface, rounds)
    number, piece = face_pieces(surface)
    areas = np.bincount(piece, face_areas(surface), minlength=number)
    least = 25.0 * voxel**2 if least_area_angstrom2 is None else least_area_angstrom2
    surface = part_of(surface, areas[piece] >= least)
    if not len(surface.faces):
        raise InputError(f"The region has no sheet of {least:g} A^2 or more.")
    return facing(surface)


def _ridge_points(region: NDArray[np.bool_], score: NDArray[np.floating] | None) -> tuple[FloatArray, FloatArray]:
    """(n, 3) z, y, x on the ridge and the directions across."""
    if score is None:
        depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1, 1:-1]
        sigma = max(_LEAST_SIGMA, float(np.percentile(depth[region], 90)))
        smooth = gaussian_filter(region.astype(np.float32), sigma, mode="nearest")
    else:
        smooth = gaussian_filter(score.astype(np.float32), _LEAST_SIGMA, mode="nearest")
    places = np.argwhere(region).astype(np.float64)
    across, typical = np.zeros_like(places), np.inf
    for step in range(_STEPS):
        slope, bend = _derivatives(smooth, places)
        values, vectors = np.linalg.eigh(bend)
        across, sharp = vectors[:, :, 0], -values[:, 0]
        move = np.einsum("ni,ni->n", slope, across) / np.maximum(sharp, 1e-9)
        if step == 0:
            typical = float(np.median(sharp[sharp > 0])) if (sharp > 0).any() else np.inf
        strong = (sharp > _LEAST_CURVATURE * typical) & (np.abs(move) < (_NEAR if step == 0 else 0.5))
        # a sheet bends along one direction alone: edges and lumps along two
        strong &= -values[:, 1] < _SHEET * sharp
        places, across, move = places[strong], across[strong], move[strong]
        places = places + move[:, None] * across
    return (places, across) if score is not None else _between_borders(region, places, across, sigma)


def _between_borders(
    region: NDArray[np.bool_], places: FloatArray, across: FloatArray, half_thickness: float
) -> tuple[FloatArray, FloatArray]:
    """Points half-way between the borders on either side; a ridge lies nearer to the centre of a curved sheet.

    Borders are where the region smoothed by a voxel's half is a half; points without one near on both sides are left out.
    """
    soft = gaussian_filter(region.astype(np.float32), _BORDER_SIGMA, mode="nearest")
    track = np.arange(0.0, 2.0 * half_thickness + 1.0, 0.25)
    borders = np.full((2, len(places)), np.nan)
    for side, sign in enumerate((1.0, -1.0)):
        before = np.full(len(places), np.inf)
        for way in track:
            here = (places + sign * way * across).T
            now = map_coordinates(soft, here, output=np.float64, order=1, mode="constant")
            found = np.isnan(borders[side]) & (before >= 0.5) & (now < 0.5) & (way > 0)
            with np.errstate(invalid="ignore"):
                step = (before[found] - 0.5) / (before[found] - now[found])
            borders[side, found] = way - 0.25 + 0.25 * step
            before = now
    thickness = borders.sum(axis=0)
    good = np.isfinite(thickness)
    if not good.any():
        return places[good], across[good]
    good[good] = np.abs(thickness[good] / np.median(thickness[good]) - 1.0) < _UNLIKE
    shift = 0.5 * (borders[0] - borders[1])[good]
    return places[good] + shift[:, None] * across[good], across[good]


def _derivatives(smooth: NDArray[np.float32], places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slopes (n, 3) and second derivatives (n, 3, 3) by differences over a voxel."""
    on_voxels = bool((places == np.rint(places)).all())

    def at(*offset: int) -> FloatArray:
        spot = places + offset
        if on_voxels:
            index = np.clip(spot.astype(np.int64), 0, np.array(smooth.shape) - 1)
            return np.asarray(smooth[tuple(index.T)], dtype=np.float64)
        return map_coordinates(smooth, spot.T, output=np.float64, order=1, mode="nearest")

    unit = np.eye(3, dtype=np.int64)
    middle = at(0, 0, 0)
    ends = [(at(*unit[a]), at(*(-unit[a]))) for a in range(3)]
    slope = np.stack([0.5 * (p - m) for p, m in ends], axis=1)
    bend = np.empty((len(places), 3, 3))
    for a in range(3):
        bend[:, a, a] = ends[a][0] + ends[a][1] - 2.0 * middle
        for b in range(a):
            u, v = unit[a], unit[b]
            bend[:, a, b] = bend[:, b, a] = 0.25 * (at(*(u + v)) + at(*(-u - v)) - at(*(u - v)) - at(*(v - u)))
    return slope, bend


def _thinned(points: FloatArray, normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One point in each voxel: the mean of those in it."""
    cell = np.rint(points).astype(np.int64)
    cell -= cell.min(axis=0)
    names = np.ravel_multi_index(tuple(cell.T), tuple(cell.max(axis=0) + 1))
    _, first, index, count = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    sign = np.where(np.einsum("ni,ni->n", normals, normals[first][index]) < 0, -1.0, 1.0)
    mean = np.stack([np.bincount(index, points[:, k]) / count for k in range(3)], axis=1)
    along = np.stack([np.bincount(index, sign * normals[:, k]) / count for k in range(3)], axis=1)
    return mean, np.asarray(along / np.linalg.norm(along, axis=1, keepdims=True))


def _agreeing(points: FloatArray, normals: FloatArray) -> FloatArray:
    """Normals with signs carried from neighbour to neighbour, first between those that are most alike."""
    pairs = cKDTree(points).query_pairs(_REACH, output_type="ndarray")
    like = np.abs(np.einsum("ni,ni->n", normals[pairs[:, 0]], normals[pairs[:, 1]]))
    pairs, like = pairs[like > _LIKE], like[like > _LIKE]
    n = len(points)
    graph = coo_matrix((1.0 - like + 1e-3, (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    tree = minimum_spanning_tree(graph)
    tree = (tree + tree.T).tocsr()
    out = normals.copy()
    number, label = connected_components(tree, directed=False)
    firsts = np.unique(label, return_index=True)[1]
    for part in range(number):
        order, before = breadth_first_order(tree, int(firsts[part]), directed=False)
        later = order[1:]
        turned = np.einsum("ni,ni->n", normals[later], normals[before[later]]) < 0
        sign = {int(order[0]): 1.0}
        for row, parent, turn in zip(later.tolist(), before[later].tolist(), turned.tolist(), strict=True):
            sign[row] = -sign[parent] if turn else sign[parent]
        out[list(sign)] *= np.array(list(sign.values()))[:, None]
    return out


def _planes_surface(
    points: FloatArray, normals: FloatArray, shape: tuple[int, ...]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vertices (n, 3) z, y, x and faces where the mean of the planes of near points is 0."""
    near = np.zeros(shape, dtype=bool)
    base = np.floor(points).astype(np.int64)
    for offset in np.ndindex(4, 4, 4):
        spot = base + np.array(offset) - 1
        inside = ((spot >= 0) & (spot < shape)).all(axis=1)
        near[tuple(spot[inside].T)] = True
    grid = np.argwhere(near)
    tree = cKDTree(points)
    value = np.full(shape, np.nan, dtype=np.float64)
    valid = np.zeros(shape, dtype=bool)
    for part in np.array_split(grid, max(1, len(grid) // 100_000)):
        distance, index = tree.query(part, k=min(_NEIGHBOURS, len(points)), distance_upper_bound=_BAND)
        there = np.isfinite(distance)
        index = np.where(there, index, 0)
        same = np.einsum("nki,ni->nk", normals[index], normals[index[:, 0]]) > 0
        weight = np.where(there & same, np.exp(-(distance**2) / 2.0, where=there, out=np.zeros_like(distance)), 0.0)
        height = np.einsum("nki,nki->nk", part[:, None] - points[index], normals[index])
        total = weight.sum(axis=1)
        good = total > 1e-3
        spot = tuple(part[good].T)
        value[spot] = (weight * height).sum(axis=1)[good] / total[good]
        valid[spot] = True
    vertices, faces = marching_cubes(value, 0.0, valid=valid)
    vertices = vertices[:, ::-1]
    if len(faces):
        gap, index = tree.query(vertices[faces].mean(axis=1))
        distance = np.asarray(gap, dtype=np.float64)
        # not across where normals do not agree; triangles may be too small for a normal of their own
        upright = vertex_normals(Surface(vertices_angstrom=vertices, faces=faces))[faces].sum(axis=1)
        upright /= np.maximum(np.linalg.norm(upright, axis=1, keepdims=True), 1e-12)
        like = np.abs(np.einsum("ni,ni->n", upright, normals[index])) > _LIKE
        faces, distance = faces[like], distance[like]
        faces = faces[~_beyond_rims(faces, distance > _RIM)]
    return vertices, faces


def _beyond_rims(faces: NDArray[np.int64], far: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of triangles far from any point, those that hang together with the rim of the mesh; others bridge a gap of few points."""
    edges, count = edges_of(faces)
    n = int(faces.max()) + 1 if len(faces) else 0
    rim = np.zeros(n, dtype=bool)
    rim[edges[count == 1]] = True
    some = faces[far]
    if not len(some):
        return far
    pairs = np.concatenate([some[:, [0, 1]], some[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    number, label = connected_components(graph, directed=False)
    touches = np.zeros(number, dtype=bool)
    touches[label[some[rim[some].any(axis=1)].ravel()]] = True
    out = far.copy()
    out[far] = touches[label[some[:, 0]]]
    return out
