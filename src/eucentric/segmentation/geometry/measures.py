"""Tables of what surfaces measure: one row an object, columns with their units in their names, ready for CSV. numpy, A."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import InputError
from eucentric.segmentation.geometry.curvatures import Curvatures, bending, surface_curvatures
from eucentric.segmentation.geometry.distances import contact_sites, distances_within, nearest_places, vertex_distances
from eucentric.segmentation.geometry.surfaces import (
    Surface,
    edges_of,
    enclosed_volume,
    face_pieces,
    is_closed,
    need_faces,
    surface_area,
    surface_centre,
    vertex_areas,
    vertex_normals,
)
from eucentric.typing import FloatArray

Table: TypeAlias = dict[str, NDArray[Any]]
"""Columns of one length, in order, by name."""
_GREATEST = 0.01  # of the area: the greatest curvature of all is that of noise


def surface_table(
    surfaces: Mapping[int, Surface],
    *,
    curvature_radius_angstrom: float | None = None,
    curvatures: Mapping[int, Curvatures] | None = None,
) -> Table:
    """One row a surface, such as the membrane of a vesicle.

    Columns: label, area, enclosed volume (NaN where open), closed, pieces, handles (of closed ones; -1 where open), centre, radius
    of the ball of that volume, sphericity (1 for a ball), the radius and rms misfit of the ball fitted to its vertices; with a
    radius of patches also mean curvatures by area, the mean curvature that 1% of the area exceeds in size, and the bending energy
    over the rigidity.

    Parameters
    ----------
    curvatures : by label, where they are known already

    Raises
    ------
    InputError : a surface without area
    """
    rows: list[dict[str, float]] = []
    for label, surface in surfaces.items():
        need_faces(surface, f"Surface {label}")
        closed = is_closed(surface)
        area, volume = surface_area(surface), abs(enclosed_volume(surface))
        pieces = face_pieces(surface)[0]
        used = len(np.unique(surface.faces))
        euler = used - len(edges_of(surface.faces)[0]) + len(surface.faces)
        centre = surface_centre(surface)
        fit = fit_ball(surface)
        row: dict[str, float] = {
            "label": label,
            "area_angstrom2": area,
            "enclosed_volume_angstrom3": volume,
            "closed": int(closed),
            "pieces": pieces,
            "handles": (2 * pieces - euler) // 2 if closed else -1,
            "centre_x_angstrom": centre[0],
            "centre_y_angstrom": centre[1],
            "centre_z_angstrom": centre[2],
            "equivalent_radius_angstrom": (3.0 * volume / (4.0 * np.pi)) ** (1 / 3),
            "sphericity": np.pi ** (1 / 3) * (6.0 * volume) ** (2 / 3) / area,
            "ball_radius_angstrom": fit[1],
            "ball_misfit_angstrom": fit[2],
        }
        if curvatures is not None:
            row |= _mean_curvatures(surface, curvatures[label])
        elif curvature_radius_angstrom is not None:
            row |= _mean_curvatures(surface, surface_curvatures(surface, curvature_radius_angstrom))
        rows.append(row)
    whole = {"label", "closed", "pieces", "handles"}
    names = list(rows[0]) if rows else []
    return {n: np.array([r[n] for r in rows], dtype=np.int64 if n in whole else np.float64) for n in names}


def vertex_table(surface: Surface, *, curvatures: Curvatures | None = None, **columns: FloatArray) -> Table:
    """One row a vertex: place, normal, area, curvatures where given, and further columns (vertex,), such as distances.

    Raises
    ------
    InputError : a column of another length
    """
    v, n = surface.vertices_angstrom, vertex_normals(surface)
    out: Table = {f"{a}_angstrom": v[:, k] for k, a in enumerate("xyz")}
    out |= {f"normal_{a}": n[:, k] for k, a in enumerate("xyz")}
    out["area_angstrom2"] = vertex_areas(surface)
    if curvatures is not None:
        out |= {
            "principal_curvature_1_per_angstrom": curvatures.principal_1_per_angstrom,
            "principal_curvature_2_per_angstrom": curvatures.principal_2_per_angstrom,
            "mean_curvature_per_angstrom": curvatures.mean_per_angstrom,
            "gaussian_curvature_per_angstrom2": curvatures.gaussian_per_angstrom2,
        }
    for name, values in columns.items():
        if np.shape(values) != (len(v),):
            raise InputError(
                f"Column `{name}` has shape {np.shape(values)}; expected ({len(v)},), one for each vertex."
            )
        out[name] = values
    return out


def surface_distance_table(surfaces: Mapping[int, Surface]) -> Table:
    """One row an ordered pair of surfaces: least, mean (by area) and greatest distance from each place of one to the other."""
    rows = []
    for a, one in surfaces.items():
        for b, other in surfaces.items():
            if a != b:
                gap, weight = vertex_distances(one, other), vertex_areas(one)
                rows.append((a, b, gap.min(), float(gap @ weight / weight.sum()), gap[weight > 0].max()))
    columns = list(zip(*rows, strict=True)) or [()] * 5
    names = ("label", "other_label", "least_distance_angstrom", "mean_distance_angstrom", "greatest_distance_angstrom")
    return {
        n: np.array(c, dtype=np.int64 if k < 2 else np.float64)
        for k, (n, c) in enumerate(zip(names, columns, strict=True))
    }


def near_distance_table(
    surfaces: Mapping[int, Surface], limit_angstrom: float, *, others: Mapping[int, Surface] | None = None
) -> Table:
    """One row an ordered pair of surfaces nearer than a limit somewhere: the least distance and where it is, the area that is nearer
    than the limit, and the mean distance over that area.

    Parameters
    ----------
    others : surfaces of another set, to which distances are taken; those of the same set where None

    Raises
    ------
    InputError : a surface without area, or a limit that is not positive
    """
    parts: list[list[float]] = []
    for a, b, one, other in _near_pairs(surfaces, others, limit_angstrom):
        found = contact_sites(one, other, limit_angstrom)
        area = float(found.area_angstrom2.sum())
        if not area > 0:
            continue
        gap = distances_within(one, other, limit_angstrom)
        nearest = int(gap.argmin())
        mean = float(found.area_angstrom2 @ found.mean_distance_angstrom) / area
        parts.append([a, b, gap[nearest], mean, area, *one.vertices_angstrom[nearest]])
    names = [
        "label", "other_label", "least_distance_angstrom", "mean_distance_angstrom", "area_angstrom2",
        "nearest_x_angstrom", "nearest_y_angstrom", "nearest_z_angstrom",
    ]  # fmt: skip
    return _numbered(parts, names, 2)


def contact_table(
    surfaces: Mapping[int, Surface],
    limit_angstrom: float,
    *,
    others: Mapping[int, Surface] | None = None,
    least_area_angstrom2: float = 0.0,
) -> Table:
    """One row a site of contact of one surface with another (`contact_sites`), of all ordered pairs.

    Parameters
    ----------
    others : surfaces of another set that are touched; those of the same set where None

    Raises
    ------
    InputError : a surface without area, or a limit that is not positive
    """
    parts: list[list[float]] = []
    for a, b, one, other in _near_pairs(surfaces, others, limit_angstrom):
        found = contact_sites(one, other, limit_angstrom, least_area_angstrom2=least_area_angstrom2)
        for k, centre in enumerate(found.centres_angstrom):
            means = (found.area_angstrom2[k], found.mean_distance_angstrom[k], found.least_distance_angstrom[k])
            parts.append([a, b, k + 1, *means, *centre])
    names = [
        "label", "other_label", "site", "area_angstrom2", "mean_distance_angstrom", "least_distance_angstrom",
        "centre_x_angstrom", "centre_y_angstrom", "centre_z_angstrom",
    ]  # fmt: skip
    return _numbered(parts, names, 3)


def _near_pairs(
    surfaces: Mapping[int, Surface], others: Mapping[int, Surface] | None, limit: float
) -> Iterator[tuple[int, int, Surface, Surface]]:
    """Ordered pairs whose boxes come nearer than a limit."""
    if not (np.isfinite(limit) and limit > 0):
        raise InputError(f"The limit of distances is {limit:g} A; expected a positive number.")
    for name, surface in [*surfaces.items(), *(others or {}).items()]:
        need_faces(surface, f"Surface {name}")
    for a, one in surfaces.items():
        low, high = one.vertices_angstrom.min(axis=0), one.vertices_angstrom.max(axis=0)
        for b, other in (surfaces if others is None else others).items():
            apart = np.maximum(
                other.vertices_angstrom.min(axis=0) - high, low - other.vertices_angstrom.max(axis=0)
            ).max()
            if (others is not None or a != b) and apart < limit:
                yield a, b, one, other


def _numbered(parts: list[list[float]], names: list[str], whole: int) -> Table:
    """Rows as columns, the first of them whole numbers."""
    rows = np.array(parts, dtype=np.float64).reshape(-1, len(names))
    return {n: rows[:, k].astype(np.int64) if k < whole else rows[:, k] for k, n in enumerate(names)}


def particle_distance_table(
    surfaces: Mapping[int, Surface], positions_angstrom: ArrayLike, directions: ArrayLike | None = None
) -> Table:
    """One row a particle: the nearest surface, its distance, with a sign too (positive on the side of its normals), and the angle.

    Parameters
    ----------
    directions : (particle, 3), such as the particles' z axes: the angle to the normal is given where they are

    Raises
    ------
    ShapeError : positions that are not (n, 3)
    InputError : no surfaces, a surface without area, or positions that are NaN
    """
    if not surfaces:
        raise InputError("No surface was given: there is nothing to measure distances to.")
    places = np.asarray(positions_angstrom, dtype=np.float64)
    found = [nearest_places(s, places) for s in surfaces.values()]
    best = np.argmin([f.distance_angstrom for f in found], axis=0)
    row = np.arange(len(places))
    spots, normals = (
        np.stack([getattr(f, name) for f in found])[best, row] for name in ("positions_angstrom", "normals")
    )
    distance = np.stack([f.distance_angstrom for f in found])[best, row]
    out: Table = {
        "particle": row + 1,
        "label": np.array(list(surfaces), dtype=np.int64)[best],
        "distance_angstrom": distance,
        "signed_distance_angstrom": distance * np.stack([f.side for f in found])[best, row],
        **{f"nearest_{a}_angstrom": spots[:, k] for k, a in enumerate("xyz")},
    }
    if directions is not None:
        z = np.asarray(directions, dtype=np.float64).reshape(len(places), 3)
        cosine = np.einsum("ni,ni->n", z, normals) / np.maximum(np.linalg.norm(z, axis=1), 1e-300)
        out["angle_to_normal_deg"] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return out


def fit_ball(surface: Surface) -> tuple[FloatArray, float, float]:
    """Centre (3,), radius and rms misfit in A of the ball that fits the vertices best, by area; patches of one fit too."""
    weight = vertex_areas(surface)
    origin = surface_centre(surface)
    places = surface.vertices_angstrom[weight > 0] - origin
    weight = weight[weight > 0]
    scale = float(np.sqrt((places**2).sum(axis=1).mean()))
    root = np.sqrt(weight)
    design = np.concatenate([2.0 * places / scale, np.ones((len(places), 1))], axis=1)
    found = np.linalg.lstsq(design * root[:, None], root * ((places / scale) ** 2).sum(axis=1), rcond=1e-12)[0]
    centre = found[:3] * scale
    radius = float(np.sqrt(max(found[3] + found[:3] @ found[:3], 0.0)) * scale)
    for _ in range(10):  # of distances, not of their squares
        away = places - centre
        gap = np.linalg.norm(away, axis=1)
        design = np.concatenate([away / np.maximum(gap, 1e-300)[:, None], np.ones((len(gap), 1))], axis=1)
        step = np.linalg.lstsq(design * root[:, None], root * (gap - radius), rcond=1e-9)[0]
        centre, radius = centre + step[:3], radius + float(step[3])
    misfit = np.linalg.norm(places - centre, axis=1) - radius
    return centre + origin, radius, float(np.sqrt(weight @ misfit**2 / weight.sum()))


def _exceeded(values: FloatArray, weight: FloatArray, share: float) -> float:
    """The value that this share of the weight exceeds; NaN where nothing weighs."""
    known = weight > 0
    if not known.any():
        return float("nan")
    order = np.argsort(-values[known], kind="stable")
    above = np.cumsum(weight[known][order])
    return float(values[known][order][np.searchsorted(above, share * above[-1])])


def _mean_curvatures(surface: Surface, found: Curvatures) -> dict[str, float]:
    weight = np.where(np.isfinite(found.mean_per_angstrom), vertex_areas(surface), 0.0)
    total = weight.sum()

    def mean(values: FloatArray) -> float:
        return float(np.nan_to_num(values) @ weight / total) if total > 0 else float("nan")

    return {
        "curvature_radius_angstrom": found.radius_angstrom,
        "mean_curvature_per_angstrom": mean(found.mean_per_angstrom),
        "greatest_mean_curvature_per_angstrom": _exceeded(np.abs(found.mean_per_angstrom), weight, _GREATEST),
        "gaussian_curvature_per_angstrom2": mean(found.gaussian_per_angstrom2),
        "bending_energy_over_rigidity": bending(surface, found),
    }
