"""What a project holds as layers of napari: plain tuples (data, attributes, kind), made without napari.

The world is A from the specimen centre, in napari's order z, y, x: voxel ``n // 2`` of every volume lies at 0, 0, 0, so that
tomograms of any voxel size, labels, picks and surfaces lie over each other.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.meshes import read_mesh
from eucentric.io.mrc import read_mrc
from eucentric.io.ome_zarr import read_ome_zarr_header
from eucentric.io.particles import read_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.curation_pick_table import PICKS
from eucentric.pipeline.curation_session import lists_in_use
from eucentric.viewer.annotations import axis_length_angstrom, kind_colours
from eucentric.viewer.project_view import mesh_files, pick_files, read_series, series_names, volume_files

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
OWN = "eucentric"
"""Key of the layers' metadata that tells where they come from."""
ROW = "row"
"""Feature of points: the row of the particle in its list, from 0; -1 of those that were added."""
ADDED = -1
_AXES = ("z", "y", "x")
_PERCENTILES = (0.3, 99.7)
_SAMPLED = 200_000
_MOST_SERIES = 8


def series_layers(root: Path, name: str, *, visible: bool = True) -> list[LayerData]:
    """Layers of one series: volumes, labels, surfaces and picks.

    Parameters
    ----------
    root : the project
    visible : the first tomogram, labels and picks are shown

    Raises
    ------
    InputError : the project has no such series
    """
    if name not in series_names(root):
        raise InputError(f"`{root}` has no tilt series called {name}.")
    layers = []
    for i, file in enumerate(volume_files(root, name)):
        shown = visible and (i == 0 or file.kind == "labels")
        about = {"project": str(root), "series": name, "file": str(file.path)}
        layers.append(volume_layer(file.path, f"{name} {file.title}", file.kind == "labels", about, visible=shown))
    for mesh in mesh_files(root, name):
        layers.append(mesh_layer(mesh.path, f"{name} {mesh.title}", visible=visible))
    for title, path in _pick_lists(root):
        picks = read_particles(path)
        if name in picks.tomogram_names:
            layers += picks_layers(picks, name, title, path, visible=visible, root=root)
    return layers


def _pick_lists(root: Path) -> Iterator[tuple[str, Path]]:
    """Lists of particles, with the edits that were made."""
    edited = lists_in_use(root)
    yield from ((f"pick/{name}", path) for name, path in edited.items())
    for file in pick_files(root):
        if root / PICKS not in file.path.parents:
            yield file.title, file.path


def project_layers(root: Path) -> list[LayerData]:
    """Layers of all series of a project, the first one shown; of the first alone where there are many.

    Raises
    ------
    InputError : nothing in it can be shown
    """
    names = [name for name in series_names(root) if read_series(root, name) is not None]
    layers: list[LayerData] = []
    for name in names if len(names) <= _MOST_SERIES else names[:1]:
        layers += series_layers(root, name, visible=not layers)
    if not layers:
        raise InputError(f"`{root}` holds no tomogram, labels or picks yet. Run `eucentric run {root}` first.")
    return layers


def volume_layer(
    path: Path, title: str, is_labels: bool, about: dict[str, Any] | None = None, *, visible: bool = True
) -> LayerData:
    """An MRC or OME-Zarr volume; nothing of it is read but what is shown.

    Raises
    ------
    FormatError : no volume, or one without voxel size
    """
    levels, voxel = _zarr_levels(path) if path.is_dir() else _mrc_level(path)
    if voxel is None:
        raise FormatError(f"`{path}` does not tell its voxel size, so it has no place. Set it in its header.")
    scale = np.array(voxel[::-1])
    first = -(np.array(levels[0].shape) // 2) * scale
    attributes: dict[str, Any] = {
        "name": title,
        "scale": tuple(scale.tolist()),
        "translate": tuple(first.tolist()),
        "visible": visible,
        "metadata": {OWN: {"file": str(path), **(about or {})}},
        **_units(),
    }
    if is_labels:
        return _as_labels(levels[0]), attributes, "labels"
    attributes["contrast_limits"] = _limits(levels[-1])
    attributes["multiscale"] = len(levels) > 1
    return (list(levels) if len(levels) > 1 else levels[0]), attributes, "image"


def _units() -> dict[str, Any]:
    return {"units": ("angstrom",) * 3, "axis_labels": _AXES}


def _mrc_level(path: Path) -> tuple[list[Any], tuple[float, float, float] | None]:
    stored, header = read_mrc(path, as_stored=True)
    array = stored if (header.scale, header.offset) == (1.0, 0.0) else read_mrc(path)[0]
    if len(array.shape) != 3:
        raise FormatError(f"`{path}` is no volume; it has {len(array.shape)} axes.")
    return [array], header.voxel_size_angstrom


def _zarr_levels(path: Path) -> tuple[list[Any], tuple[float, float, float] | None]:
    header = read_ome_zarr_header(path)
    if (header.scale, header.offset) != (1.0, 0.0):
        raise FormatError(f"`{path}` holds scaled numbers. Write it as MRC to see it in napari.")
    group = zarr.open_group(path, mode="r")
    attributes: Any = group.attrs.asdict()
    image = attributes.get("ome", attributes)["multiscales"][0]
    return [group[d["path"]] for d in image["datasets"]], header.voxel_size_angstrom


def _as_labels(array: Any) -> NDArray[np.int32]:
    """All of it, to be drawn in."""
    return np.clip(np.rint(np.nan_to_num(np.asarray(array, np.float32))), 0, None).astype(np.int32)


def _limits(array: Any) -> tuple[float, float]:
    """Values between which nearly all voxels lie, from some planes across z."""
    step = max(1, array.shape[0] // 8)
    planes = np.asarray(array[step // 2 :: step], dtype=np.float32).ravel()
    planes = planes[:: max(1, planes.size // _SAMPLED)]
    planes = planes[np.isfinite(planes)]
    if not planes.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(planes, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def mesh_layer(path: Path, title: str, *, visible: bool = True) -> LayerData:
    """A surface whose vertices are A from the specimen centre, x, y, z."""
    vertices, faces = read_mesh(path)
    attributes = {
        "name": title,
        "visible": visible,
        "opacity": 0.5,
        "metadata": {OWN: {"file": str(path)}},
        **_units(),
    }
    return (np.asarray(vertices)[:, ::-1].astype(np.float32), faces, np.ones(len(vertices))), attributes, "surface"


def picks_layers(
    picks: ParticleSet, series: str, title: str, path: Path, *, visible: bool = True, root: Path | None = None
) -> list[LayerData]:
    """Particles of one series as points, and their z axes as vectors where they have orientations.

    Parameters
    ----------
    picks : the whole list
    series : whose particles are shown
    path : of the list, remembered for saving
    root : the project that the list is of
    """
    rows = np.flatnonzero(picks.tomograms == series)
    shown = picks.select(rows)
    about = {"list": str(path), "digest": list_digest(path), "series": series}
    about |= {} if root is None else {"project": str(root)}
    places = shown.positions_angstrom[:, ::-1]
    length = axis_length_angstrom(shown)
    common = {"visible": visible, "metadata": {OWN: about}, **_units()}
    points = {
        "name": f"{series} {title}",
        "features": _features(shown, rows),
        "feature_defaults": {ROW: ADDED, "kind": "", "score": np.nan},
        "size": 0.5 * length,
        "face_color": [kind_colours(shown)[kind] for kind in shown.kinds.tolist()] or "white",
        "out_of_slice_display": True,
        "opacity": 0.7,
        **common,
    }
    layers: list[LayerData] = [(places.copy(), points, "points")]
    if shown.oriented:
        axes = length * shown.rotations[:, :, 2][:, ::-1]
        vectors = {
            "name": f"{series} {title} axes",
            "edge_width": 0.06 * length,
            "vector_style": "arrow",
            "features": {"score": shown.scores.copy(), "kind": shown.kinds.astype(object)},
            **common,
        }
        layers.append((np.stack([places, axes], axis=1), vectors, "vectors"))
    return layers


def list_digest(path: Path) -> str:
    """Of the content of a list: tells whether it is the one that was opened."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _features(shown: ParticleSet, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    features: dict[str, NDArray[Any]] = {
        ROW: rows.astype(np.int64),
        "score": shown.scores.copy(),
        "kind": shown.kinds.astype(object),
    }
    return features | {label: column.copy() for label, column in shown.columns.items() if label not in features}


def list_layers(path: Path) -> list[LayerData]:
    """A list of particles by itself, a pair of layers for each series.

    Raises
    ------
    InputError, FormatError : no such list, or places in voxels of tomograms that are not known
    """
    picks = read_particles(path)
    if not len(picks):
        raise InputError(f"`{path}` holds no particle.")
    names: Sequence[str] = picks.tomogram_names
    layers: list[LayerData] = []
    for name in names:
        layers += picks_layers(picks, name, path.stem, path, visible=name == names[0])
    return layers
