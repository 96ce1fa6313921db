"""The plugin for napari: what `napari.yaml` names. napari itself is only imported where a function is called from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eucentric.errors import InputError
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.pipeline.steps import IMPORT_TABLE
from eucentric.viewer.napari_layers import OWN, LayerData, list_layers, project_layers, series_layers, volume_layer
from eucentric.viewer.napari_saving import save_into_project, save_labels, save_new_points, save_points

if TYPE_CHECKING:
    import napari.layers
    import napari.types

_VOLUMES = (".mrc", ".rec", ".ome.zarr", ".zarr")


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """A reader of projects, tomograms and lists of particles; None for anything else."""
    if not isinstance(path, str):
        return None
    place = Path(path)
    if (place / IMPORT_TABLE).is_file():
        return lambda _path: project_layers(place.resolve())
    if place.name.lower().endswith(_VOLUMES):
        return lambda _path: [
            volume_layer(place, place.name, is_labels=place.parent.name == "labels", about=_about(place))
        ]
    if place.suffix.lower() == ".star" and place.is_file():
        return lambda _path: list_layers(place)
    return None


def _about(place: Path) -> dict[str, Any]:
    return {"series": tomogram_name(place.name)}


def write_points(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write points that came from a list of particles, as File > Save Selected Layers does."""
    place = Path(path).with_suffix(".star") if not Path(path).suffix else Path(path)
    save_points(place, data, attributes)
    return [str(place)]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels as MRC, as File > Save Selected Layers does."""
    place = Path(path).with_suffix(".mrc") if not Path(path).suffix else Path(path)
    save_labels(place, data, attributes)
    return [str(place)]


def open_series(project: Path, series: str) -> list[napari.types.LayerDataTuple]:
    """Open one series of a project, such as of one with so many that only the first is opened."""
    from eucentric.pipeline.steps import find_project

    return series_layers(find_project(Path(project)), series.strip())


def save_picks(points: napari.layers.Points) -> str:
    """Keep what was done to picks of a project in its log; `eucentric` uses them from then on, and the edits can be undone."""
    edits = save_into_project(points.data, layer_attributes(points))
    return f"{len(edits)} edits kept." if edits else "Nothing was changed."


def save_points_over(points: napari.layers.Points, tomogram: napari.layers.Image, file: Path) -> str:
    """Save points that were made here as a list of particles of the tomogram that they lie in."""
    about = tomogram.metadata.get(OWN, {})
    if "series" not in about:
        raise InputError(
            f"`{tomogram.name}` was not opened by this plugin, so its series is not known. Open it with Eucentric."
        )
    saved = save_new_points(Path(file), points.data, layer_attributes(points), str(about["series"]))
    return f"{len(saved)} particles saved."


def new_labels(tomogram: napari.layers.Image) -> napari.types.LayerDataTuple:
    """Empty labels that lie exactly over a tomogram, to be drawn in and saved."""
    data, attributes = labels_over(
        np.shape(_finest(tomogram)), tomogram.name, tomogram.scale, tomogram.translate, tomogram.metadata
    )
    return data, attributes, "labels"


def _finest(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def labels_over(
    shape: tuple[int, ...], name: str, scale: Any, translate: Any, metadata: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Data and attributes of empty labels with the place of a volume."""
    attributes = {
        "name": f"{name} labels",
        "scale": tuple(float(v) for v in scale),
        "translate": tuple(float(v) for v in translate),
        "units": ("angstrom",) * 3,
        "axis_labels": ("z", "y", "x"),
        "metadata": {OWN: dict(metadata.get(OWN, {}))},
    }
    return np.zeros(shape, np.int32), attributes


def layer_attributes(layer: Any) -> dict[str, Any]:
    """Of a layer of napari, what saving needs."""
    names = ("scale", "translate", "rotate", "shear", "features", "metadata")
    found = {name: getattr(layer, name) for name in names}
    return found | {"affine": np.asarray(layer.affine.affine_matrix)}
