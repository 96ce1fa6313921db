"""Surfaces of labels in files: meshes, oriented points, tables of measures; distances and contacts between them."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as connected

from eucentric import __version__
from eucentric.compute import thread_count
from eucentric.errors import InputError, ShapeError
from eucentric.io.csv_tables import write_csv_table
from eucentric.io.gltf import GltfCopy, GltfMesh, write_gltf
from eucentric.io.meshes import write_mesh
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import write_particles
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.picking.pick_geometry import OrientedPoints, rotations_along
from eucentric.pipeline.geometry_files import oriented_particles
from eucentric.pipeline.label_files import LabelArray, need_labels, read_labels
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.scene_colors import OKABE_ITO
from eucentric.pipeline.surface_params import SurfaceKind, SurfaceParams
from eucentric.segmentation.geometry.curvatures import Curvatures, surface_curvatures
from eucentric.segmentation.geometry.label_surfaces import label_surface
from eucentric.segmentation.geometry.measures import (
    Table,
    contact_table,
    near_distance_table,
    particle_distance_table,
    surface_table,
    vertex_table,
)
from eucentric.segmentation.geometry.middle_surface import middle_surface
from eucentric.segmentation.geometry.surface_points import spaced_points
from eucentric.segmentation.geometry.surfaces import Surface, is_closed, need_voxel_size, surface_area, vertex_normals
from eucentric.segmentation.geometry.thickness import MembraneThickness, membrane_thickness
from eucentric.typing import FloatArray

_MARGIN = 6  # voxels around an object: smoothing looks no farther
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_KEEP_COLUMNS = ("ply", "vtk")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceFiles:
    """What was written of the labels of one tomogram, and what is in it."""

    meshes: tuple[Path, ...]
    points: ParticleSet
    """z along the normals; `eucInstance` is the label."""
    table: Table
    """One row an object: `surface_table`, with thickness where a tomogram was given."""
    surfaces: dict[int, Surface]
    vertices: dict[int, Table]
    """Of each object one row a vertex: `vertex_table`."""
    passed_over: dict[int, str] = field(default_factory=dict)
    """Labels without a surface, and why."""


def write_surface_files(
    labels: NDArray[np.integer],
    voxel_size_angstrom: float,
    folder: Path,
    name: str,
    params: SurfaceParams,
    *,
    tomogram: NDArray[np.floating] | None = None,
    only: Collection[int] | None = None,
) -> SurfaceFiles:
    """Write the meshes `NAME_<label>.ply` of every object of a label volume, and measure them.

    Points and tables are returned, for the caller to write with those of other tomograms.

    Parameters
    ----------
    labels : (z, y, x), 0 for nothing
    folder : of the meshes, made where it is not there
    name : of the tomogram
    tomogram : (z, y, x), in which the thickness of sheets is measured
    only : labels; all where None

    Raises
    ------
    ShapeError : not a volume, or a tomogram of another shape
    InputError : no voxel size, no label, a label that is not there, or none that has a surface
    BackendError : the disk is full
    """
    if tomogram is not None and tomogram.shape != labels.shape:
        raise ShapeError(
            f"The labels have shape {labels.shape} and the tomogram {tomogram.shape}; expected the same (z, y, x)."
        )
    surfaces, passed_over = surfaces_of_labels(
        labels,
        voxel_size_angstrom,
        params.kind,
        only=only,
        separate=params.separate,
        min_area_angstrom2=params.min_area_angstrom2,
    )
    radius = params.curvature_radius_angstrom or max(100.0, 6.0 * voxel_size_angstrom)
    across = tomogram if params.kind == "sheets" else None

    def measured(surface: Surface) -> tuple[Curvatures, MembraneThickness | None]:
        bends = surface_curvatures(surface, radius)
        if across is None:
            return bends, None
        return bends, membrane_thickness(
            across,
            voxel_size_angstrom,
            surface,
            radius_angstrom=params.thickness_radius_angstrom,
            dark=params.contrast == "dark",
        )

    with ThreadPoolExecutor(thread_count()) as pool:
        found = dict(zip(surfaces, pool.map(measured, surfaces.values()), strict=True))
    table = surface_table(surfaces, curvatures={k: bends for k, (bends, _) in found.items()})
    thick = {k: thickness for k, (_, thickness) in found.items() if thickness is not None}
    if thick:
        table |= _thickness_columns([thick[k] for k in surfaces])
    vertices = {
        k: vertex_table(
            surface,
            curvatures=found[k][0],
            **({"thickness_angstrom": thick[k].at_vertices_angstrom} if thick else {}),
        )
        for k, surface in surfaces.items()
    }
    generator = np.random.default_rng(params.seed)
    return SurfaceFiles(
        meshes=_write_meshes(folder, name, surfaces, vertices, params.format),
        points=ParticleSet.concatenate(
            [_points(name, k, surface, params.spacing_angstrom, generator) for k, surface in surfaces.items()]
        ),
        table=table,
        surfaces=surfaces,
        vertices=vertices,
        passed_over=passed_over,
    )


def surfaces_of_labels(
    labels: NDArray[np.integer],
    voxel_size_angstrom: float,
    kind: SurfaceKind,
    *,
    only: Collection[int] | None = None,
    separate: bool = False,
    min_area_angstrom2: float = 0.0,
) -> tuple[dict[int, Surface], dict[int, str]]:
    """Surfaces of labels by number, and why others have none; parameters and errors as :func:`write_surface_files`."""
    voxel = need_voxel_size(voxel_size_angstrom)
    if labels.ndim != 3:
        raise ShapeError(f"Labels of shape {labels.shape} were given; expected (z, y, x).")
    there = [int(n) for n in np.unique(labels) if n > 0]
    if not there:
        raise InputError("The volume holds no label: every voxel is 0. Check that it is the right file.")
    missing = sorted(set(only or ()) - set(there))
    if missing:
        raise InputError(
            f"No voxel has label {missing[0]}. There are: {', '.join(map(str, there[:20]))}{' ...' if len(there) > 20 else ''}."
        )
    chosen = [n for n in there if only is None or n in only]
    if separate:
        labels, chosen = _separated(labels, chosen)
    boxes = _boxes(labels, chosen)

    def one(number: int) -> Surface | str:
        try:
            return _surface(labels, number, boxes[number], voxel, kind, min_area_angstrom2)
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(thread_count()) as pool:
        made = dict(zip(chosen, pool.map(one, chosen), strict=True))
    surfaces = {n: s for n, s in made.items() if isinstance(s, Surface)}
    passed_over = {n: s for n, s in made.items() if isinstance(s, str)}
    if not surfaces:
        first = next(iter(passed_over))
        raise InputError(f"No label has a surface. Label {first}: {passed_over[first]}")
    return surfaces, passed_over


def _boxes(labels: NDArray[np.integer], numbers: Sequence[int]) -> dict[int, tuple[slice, ...]]:
    """Where each label is, with some room around it."""
    rank = np.searchsorted(np.array(numbers), labels).clip(0, len(numbers) - 1)
    ranked = np.where(np.array(numbers)[rank] == labels, rank + 1, 0)
    return {
        number: tuple(
            slice(max(0, s.start - _MARGIN), min(n, s.stop + _MARGIN)) for s, n in zip(box, labels.shape, strict=True)
        )
        for number, box in zip(numbers, find_objects(ranked), strict=True)
    }


def _surface(
    labels: NDArray[np.integer], number: int, box: tuple[slice, ...], voxel: float, kind: SurfaceKind, least: float
) -> Surface:
    region = np.asarray(labels[box] == number)
    found = middle_surface(region, voxel) if kind == "sheets" else label_surface(region, voxel)
    area = surface_area(found)
    if area < least:
        raise InputError(f"Its surface of {area:.4g} A^2 is smaller than the {least:.4g} A^2 that were asked for.")
    # from the middle of the box to that of the volume
    off = [s.start + m // 2 - n // 2 for s, m, n in zip(box, region.shape, labels.shape, strict=True)]
    return found.moved(found.vertices_angstrom + voxel * np.array(off[::-1], dtype=np.float64))


def _separated(labels: NDArray[np.integer], numbers: Sequence[int]) -> tuple[LabelArray, list[int]]:
    """Pieces that do not touch with numbers of their own, the largest first."""
    out = np.zeros(labels.shape, dtype=np.int64)
    count = 0
    for number in numbers:
        pieces, more = connected(labels == number, _TOUCHING)
        out[pieces > 0] = pieces[pieces > 0] + count
        count += more
    order = np.argsort(-np.bincount(out.ravel(), minlength=count + 1)[1:], kind="stable")
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[order + 1] = np.arange(1, count + 1)
    return rank[out], list(range(1, count + 1))


def _thickness_columns(found: Sequence[MembraneThickness]) -> Table:
    known = [t.thickness_angstrom[np.isfinite(t.thickness_angstrom)] for t in found]
    return {
        "thickness_angstrom": np.array([np.median(t) if len(t) else np.nan for t in known]),
        "thickness_spread_angstrom": np.array(
            [1.4826 * np.median(np.abs(t - np.median(t))) if len(t) else np.nan for t in known]
        ),
        "thickness_patches": np.array([len(t) for t in known], dtype=np.int64),
        "patches": np.array([len(t.thickness_angstrom) for t in found], dtype=np.int64),
    }


def _points(name: str, number: int, surface: Surface, spacing: float, generator: np.random.Generator) -> ParticleSet:
    found = spaced_points(surface, spacing, generator)
    oriented = OrientedPoints(
        points=found.positions_angstrom,
        rotations=rotations_along(found.normals, generator),
        track_angstrom=np.zeros(len(found.faces)),
    )
    return oriented_particles(name, oriented, number, tube=False)


def _write_meshes(
    folder: Path, name: str, surfaces: Mapping[int, Surface], vertices: Mapping[int, Table], ending: str
) -> tuple[Path, ...]:
    if ending == "glb":
        path = folder / f"{name}.glb"
        meshes, copies = [], []
        for k, (number, surface) in enumerate(surfaces.items()):
            meshes.append(
                GltfMesh(vertices=surface.vertices_angstrom, normals=vertex_normals(surface), triangles=surface.faces)
            )
            r, g, b = to_rgb(OKABE_ITO[k % len(OKABE_ITO)])
            copies.append(
                GltfCopy(mesh=k, rotation=np.eye(3), position=np.zeros(3), color=(r, g, b), name=f"label {number}")
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_gltf(path, meshes, copies, name=name, generator=f"Eucentric {__version__}")
        return (path,)
    folder.mkdir(parents=True, exist_ok=True)
    digits = max(2, len(str(max(surfaces))))
    paths = []
    for number, surface in surfaces.items():
        path = folder / f"{name}_{number:0{digits}}.{ending}"
        kept: dict[str, FloatArray] = {
            label: column
            for label, column in vertices[number].items()
            if ending in _KEEP_COLUMNS and ("curvature" in label or "thickness" in label)
        }
        write_mesh(
            path,
            surface.vertices_angstrom,
            surface.faces,
            normals=vertex_normals(surface),
            columns=kept,
            comment=f"{name}, label {number}",
        )
        paths.append(path)
    return tuple(paths)


def write_table(path: Path, table: Table) -> None:
    """Write columns as CSV, six digits of each number; errors as `write_csv_table`."""
    columns = [c.tolist() if c.dtype.kind != "f" else [f"{v:.6g}" for v in c.tolist()] for c in table.values()]
    write_csv_table(path, list(table), zip(*columns, strict=True))


def with_names(name: str, table: Table) -> Table:
    """The table with the name of its tomogram in the first column."""
    count = len(next(iter(table.values()))) if table else 0
    return {"tomogram": np.full(count, name), **table}


def concatenated(tables: Sequence[Table]) -> Table:
    """Rows of several tables with the same columns."""
    return {label: np.concatenate([t[label] for t in tables]) for label in tables[0]} if tables else {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenLabels:
    """A label volume that a user named."""

    name: str
    """Of its tomogram."""
    labels: LabelArray
    voxel_size_angstrom: float


def given_labels(
    path: Path, *, tomogram: Path | None = None, pixel_size: float | None = None, name: str | None = None
) -> GivenLabels:
    """Labels to be measured, with their voxel size.

    Raises
    ------
    InputError, ShapeError, FormatError : as `read_labels` and `need_labels`; no voxel size in any of the files and none given
    """
    labels, voxel = read_labels(path, like=tomogram)
    need_labels(labels, path)
    if pixel_size is not None:
        voxel = need_voxel_size(pixel_size)
    if voxel is None:
        raise InputError(f"`{path}` does not tell its voxel size. Give it with --pixel-size.")
    return GivenLabels(name=name or tomogram_name((tomogram or path).name), labels=labels, voxel_size_angstrom=voxel)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshFiles:
    """What `mesh_label_files` wrote."""

    made: SurfaceFiles
    points: Path
    measures: Path
    vertices: Path | None


def mesh_label_files(
    path: Path,
    output: Path,
    params: SurfaceParams,
    *,
    tomogram: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    only: Collection[int] | None = None,
    vertices: bool = False,
    overwrite: bool = False,
) -> MeshFiles:
    """Meshes, oriented points and measures of a label volume: `meshes/`, `points.star`, `measures.csv` in a folder.

    Parameters
    ----------
    tomogram : that the labels are of: gives the voxel size, and the thickness of sheets
    pixel_size : A per voxel, where no file tells it
    vertices : also `vertices.csv`, one row a vertex

    Raises
    ------
    InputError : files that would be replaced unasked; otherwise as `given_labels` and `write_surface_files`
    """
    points, measures, by_vertex = output / "points.star", output / "measures.csv", output / "vertices.csv"
    inputs = [path, *(() if tomogram is None else (tomogram,))]
    refuse_to_replace([points, measures, *((by_vertex,) if vertices else ())], inputs, overwrite)
    given = given_labels(path, tomogram=tomogram, pixel_size=pixel_size, name=name)
    density = None if tomogram is None else _density(tomogram)
    made = write_surface_files(
        given.labels, given.voxel_size_angstrom, output / "meshes", given.name, params, tomogram=density, only=only
    )
    write_particles(points, made.points, "relion5")
    write_table(measures, with_names(given.name, made.table))
    if vertices:
        rows = [{"label": np.full(len(t["area_angstrom2"]), k), **t} for k, t in made.vertices.items()]
        write_table(by_vertex, concatenated(rows))
    return MeshFiles(made=made, points=points, measures=measures, vertices=by_vertex if vertices else None)


def _density(path: Path) -> NDArray[np.float32]:
    return np.array(read_mrc(path)[0], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistanceFiles:
    """What `distance_files` wrote, and the tables in it."""

    files: dict[str, Path]
    distances: Table
    contacts: Table
    particles: Table | None


def distance_files(
    path: Path,
    output: Path,
    *,
    kind: SurfaceKind = "sheets",
    other: Path | None = None,
    other_kind: SurfaceKind = "sheets",
    particles: Path | None = None,
    within_angstrom: float = 500.0,
    contact_angstrom: float = 100.0,
    tomogram: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> DistanceFiles:
    """Distances and contacts between the objects of labels, or with those of other labels; and of particles to them.

    Written are `distances.csv` and `contacts.csv` where there are two objects or more, `particles.csv` where particles are given.

    Raises
    ------
    InputError : one object and nothing to measure its distance to, files that would be replaced unasked, particles of other
        tomograms, limits that are not positive
    ShapeError : other labels of another shape
    """
    for what, value in (("--within", within_angstrom), ("--contact-angstrom", contact_angstrom)):
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{what} is {value:g} A; expected a positive number.")
    files = {n: output / f"{n}.csv" for n in ("distances", "contacts", *(("particles",) if particles else ()))}
    inputs = [p for p in (path, other, particles, tomogram) if p is not None]
    refuse_to_replace([*files.values()], inputs, overwrite)
    given = given_labels(path, tomogram=tomogram, pixel_size=pixel_size, name=name)
    surfaces, _ = surfaces_of_labels(given.labels, given.voxel_size_angstrom, kind)
    others: dict[int, Surface] | None = None
    if other is not None:
        more = given_labels(other, tomogram=tomogram, pixel_size=given.voxel_size_angstrom, name=name)
        if more.labels.shape != given.labels.shape:
            raise ShapeError(
                f"`{path}` has shape {given.labels.shape} and `{other}` {more.labels.shape}; expected labels of one tomogram."
            )
        others, _ = surfaces_of_labels(more.labels, given.voxel_size_angstrom, other_kind)
    if others is None and len(surfaces) < 2 and particles is None:
        raise InputError(
            f"`{path}` holds one object: there is no distance to another. Give --with LABELS or --particles STAR."
        )
    distances = with_names(given.name, near_distance_table(surfaces, within_angstrom, others=others))
    contacts = with_names(given.name, contact_table(surfaces, contact_angstrom, others=others))
    near = None if particles is None else _particle_table(particles, given.name, surfaces)
    output.mkdir(parents=True, exist_ok=True)
    for label, table in (("distances", distances), ("contacts", contacts), ("particles", near)):
        if table is not None:
            write_table(files[label], table)
    return DistanceFiles(files=files, distances=distances, contacts=contacts, particles=near)


def particles_of_tomogram(path: Path, name: str) -> tuple[ParticleSet, NDArray[np.int64]]:
    """Particles of a list in one tomogram, and their rows in the list, from 1.

    Raises
    ------
    InputError : none of the tomogram
    """
    every = read_list(path)
    rows = np.flatnonzero(every.tomograms == name)
    if not len(rows):
        raise InputError(
            f"No particle of `{path}` is in tomogram {name}; there are {', '.join(every.tomogram_names[:5])}. "
            "Give --name with the one that the labels are of."
        )
    return every.select(rows), rows + 1


def _particle_table(path: Path, name: str, surfaces: Mapping[int, Surface]) -> Table:
    found, rows = particles_of_tomogram(path, name)
    table = particle_distance_table(surfaces, found.positions_angstrom, found.directions if found.oriented else None)
    table |= {"particle": rows, "side": sides(surfaces, table["label"], table["signed_distance_angstrom"])}
    named = bool((found.kinds != "").any())
    return with_names(name, {**({"kind": found.kinds} if named else {}), **table})


def sides(surfaces: Mapping[int, Surface], labels: NDArray[Any], signed: NDArray[Any]) -> NDArray[np.str_]:
    """Words for the side of a surface: outside and inside where it is closed, else along or against its normals."""
    closed = {number: is_closed(surface) for number, surface in surfaces.items()}
    words = {True: ("outside", "inside"), False: ("along normal", "against normal")}
    return np.array(
        [words[closed[int(n)]][0 if s >= 0 else 1] for n, s in zip(labels, signed, strict=True)], dtype=np.str_
    )
