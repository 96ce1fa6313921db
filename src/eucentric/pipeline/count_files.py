"""Counting in files: particles and the labels of their parents in, stoichiometry and spatial statistics out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError, ShapeError
from eucentric.figures.spatial import pair_figure
from eucentric.io.atomic import write_bytes_atomic
from eucentric.models import ParticleSet
from eucentric.pipeline.count_params import CountParams
from eucentric.pipeline.label_files import need_labels, read_labels
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.surface_files import (
    GivenLabels,
    concatenated,
    given_labels,
    particles_of_tomogram,
    sides,
    surfaces_of_labels,
    with_names,
    write_table,
)
from eucentric.pipeline.training_file import figure_png
from eucentric.segmentation.geometry.count_objects import Parents, assign_parents, stoichiometry_table
from eucentric.segmentation.geometry.distances import nearest_places
from eucentric.segmentation.geometry.measures import Table
from eucentric.segmentation.geometry.spatial_statistics import (
    MaskRegion,
    PairStatistics,
    Region,
    SurfaceRegion,
    nearest_neighbour_statistics,
    pair_statistics,
    ripley_table,
)
from eucentric.segmentation.geometry.surfaces import Surface, joined
from eucentric.typing import FloatArray

_FEWEST = 3
"""Objects of a kind that have statistics of space."""
_SHELLS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountFiles:
    """What was written."""

    files: dict[str, Path]
    objects: Table
    """One row a particle: its parent."""
    counts: Table
    """One row a parent and kind."""
    statistics: Table
    """One row a tomogram and kind: nearest neighbours and pairs against chance."""
    left_out: tuple[str, ...]
    """Kinds without statistics of space, and why."""


def count_files(
    particles: Path,
    parents: Path,
    output: Path,
    params: CountParams,
    *,
    mask: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> CountFiles:
    """Count particles for each parent, and test whether they cluster or keep apart.

    Written are `objects.csv`, `counts.csv`, `statistics.csv`, `pairs.csv` and `pairs.png`.

    Parameters
    ----------
    parents : label volume, or a folder with `NAME.mrc` for every tomogram of the list that has one
    mask : label volume, above 0 where objects could be, for controls in the volume
    name : of the tomogram, where the labels' file is not named after it

    Raises
    ------
    InputError : files that would be replaced unasked, no labels for any particle, a mask for controls on surfaces, objects outside of
        the mask; otherwise as `given_labels` and the kernels
    ShapeError : a mask of another shape
    """
    if mask is not None and params.region == "surface":
        raise InputError("A mask was given, but controls lie on surfaces. Add --region volume, or leave the mask out.")
    files = {n: output / f"{n}.csv" for n in ("objects", "counts", "statistics", "pairs")}
    figure = output / "pairs.png"
    refuse_to_replace([*files.values(), figure], [particles, parents, *((mask,) if mask else ())], overwrite)
    generator = np.random.default_rng(params.seed)
    tables: dict[str, list[Table]] = {n: [] for n in files}
    curves: list[tuple[str, PairStatistics]] = []
    left_out: list[str] = []
    for given in _parents_of(particles, parents, pixel_size, name):
        found, rows = particles_of_tomogram(particles, given.name)
        kinds = np.where(found.kinds == "", "object", found.kinds)
        surfaces, _ = surfaces_of_labels(given.labels, given.voxel_size_angstrom, params.kind)
        assigned = assign_parents(
            found.positions_angstrom, surfaces, params.limit_angstrom, outside_only=params.outside_only
        )
        tables["objects"].append(with_names(given.name, _object_table(rows, kinds, assigned, surfaces)))
        counts = stoichiometry_table(assigned, surfaces, kinds=kinds, confidence=params.confidence)
        tables["counts"].append(with_names(given.name, counts))
        places, used, region = _where(found, assigned, surfaces, given, params, mask)
        for kind in np.unique(kinds).tolist():
            own = places[kinds[used] == kind]
            title = f"{given.name}, {kind}"
            if len(own) < _FEWEST:
                left_out.append(f"{title}: {len(own)} objects in the region, fewer than {_FEWEST}")
                continue
            row, pairs, curve = _statistics(own, region, params, generator)
            tables["statistics"].append(with_names(given.name, {"kind": np.array([kind]), **row}))
            tables["pairs"].append(
                with_names(given.name, {"kind": np.full(len(curve.distances_angstrom), kind), **pairs})
            )
            curves.append((title, curve))
    output.mkdir(parents=True, exist_ok=True)
    made = {n: concatenated(parts) for n, parts in tables.items()}
    written = {n: path for n, path in files.items() if made[n]}
    for n, path in written.items():
        write_table(path, made[n])
    if curves:
        write_bytes_atomic(figure, figure_png(pair_figure(curves)))
        written["figure"] = figure
    return CountFiles(
        files=written,
        objects=made["objects"],
        counts=made["counts"],
        statistics=made["statistics"],
        left_out=tuple(left_out),
    )


def _parents_of(particles: Path, parents: Path, pixel_size: float | None, name: str | None) -> list[GivenLabels]:
    if not parents.is_dir() or parents.suffix.lower() == ".zarr" or parents.parent.name == "labels":
        return [given_labels(parents, pixel_size=pixel_size, name=name)]
    names = read_list(particles).tomogram_names
    found = [parents / f"{one}.mrc" for one in names if (parents / f"{one}.mrc").is_file()]
    if not found:
        raise InputError(
            f"`{parents}` holds no labels for the tomograms of `{particles}`: expected {names[0]}.mrc"
            f"{' and so on' if len(names) > 1 else ''}."
        )
    return [given_labels(path, pixel_size=pixel_size, name=path.stem) for path in found]


def _object_table(
    rows: NDArray[np.int64], kinds: NDArray[Any], assigned: Parents, surfaces: dict[int, Surface]
) -> Table:
    parent = np.where(assigned.labels == 0, min(surfaces), assigned.labels)
    words = np.where(assigned.labels == 0, "", sides(surfaces, parent, assigned.distance_angstrom))
    return {
        "particle": rows,
        "kind": kinds,
        "parent": assigned.labels,
        "side": words,
        "signed_distance_angstrom": assigned.distance_angstrom,
        "second_distance_angstrom": assigned.second_distance_angstrom,
        "doubtful": assigned.doubtful.astype(np.int64),
    }


def _where(
    found: ParticleSet,
    assigned: Parents,
    surfaces: dict[int, Surface],
    given: GivenLabels,
    params: CountParams,
    mask: Path | None,
) -> tuple[FloatArray, NDArray[np.int64], Region]:
    """Places that are tested, the particles that they are of, and where controls lie."""
    if params.region == "surface":
        used = np.flatnonzero(assigned.labels)
        every = joined(list(surfaces.values()))
        places = found.positions_angstrom[used]
        # down onto the surface, where controls lie too
        return (
            (nearest_places(every, places).positions_angstrom if len(used) else places),
            used,
            SurfaceRegion(surface=every),
        )
    inside = np.ones(given.labels.shape, dtype=bool)
    if mask is not None:
        allowed, _ = read_labels(mask)
        need_labels(allowed, mask)
        if allowed.shape != given.labels.shape:
            raise ShapeError(
                f"The mask `{mask}` has shape {allowed.shape} and the labels {given.labels.shape}; expected the same."
            )
        inside = allowed > 0
    return (
        found.positions_angstrom,
        np.arange(len(found)),
        MaskRegion(mask=inside, voxel_size_angstrom=given.voxel_size_angstrom),
    )


def _statistics(
    places: FloatArray, region: Region, params: CountParams, generator: np.random.Generator
) -> tuple[Table, Table, PairStatistics]:
    near = nearest_neighbour_statistics(
        places,
        region,
        generator,
        controls=params.controls,
        least_distance_angstrom=params.least_distance_angstrom,
    )
    farthest = params.farthest_angstrom or 6.0 * float(near.control_means_angstrom.mean())
    ends = np.linspace(0.0, farthest, _SHELLS + 1)[1:]
    curve = pair_statistics(
        places,
        region,
        ends,
        generator,
        controls=params.controls,
        least_distance_angstrom=params.least_distance_angstrom,
    )
    low, high = np.quantile(near.control_means_angstrom, [0.025, 0.975])
    row: dict[str, float] = {
        "objects": len(places),
        "nearest_angstrom": near.mean_angstrom,
        "nearest_by_chance_angstrom": float(near.control_means_angstrom.mean()),
        "chance_low_angstrom": float(low),
        "chance_high_angstrom": float(high),
        "nearest_ratio": near.ratio,
        "nearest_p_value": near.p_value,
        "pairs_p_value": curve.p_value,
        "controls": curve.controls,
    }
    whole = {"objects", "controls"}
    pairs: Table = {
        "distance_angstrom": ends,
        "pairs_over_chance": curve.observed,
        "chance_low": curve.control_low,
        "chance_high": curve.control_high,
        "pair_correlation": curve.pair_correlation,
    }
    if isinstance(region, MaskRegion):
        ripley = ripley_table(places, region, ends)
        pairs |= {n: ripley[n] for n in ("ripley_k_angstrom3", "ripley_l_minus_r_angstrom")}
    return {n: np.array([v], dtype=np.int64 if n in whole else np.float64) for n, v in row.items()}, pairs, curve


def told_statistics(statistics: Table) -> Sequence[str]:
    """One line a kind: clustered, apart, or not told from chance at 5%."""
    lines = []
    for k in range(len(statistics["kind"]) if statistics else 0):
        ratio, p = float(statistics["nearest_ratio"][k]), float(statistics["nearest_p_value"][k])
        what = "not told from chance" if p > 0.05 else "clustered" if ratio < 1 else "kept apart"
        lines.append(
            f"{statistics['tomogram'][k]}, {statistics['kind'][k]}: {statistics['objects'][k]} objects, nearest neighbour at "
            f"{statistics['nearest_angstrom'][k]:.0f} A, by chance {statistics['nearest_by_chance_angstrom'][k]:.0f} A: {what} "
            f"(p = {p:.3g}; of pairs at all distances {statistics['pairs_p_value'][k]:.3g})."
        )
    return lines
