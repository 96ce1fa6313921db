"""Layers of napari back to files, without napari: points to lists of particles or edits of a project's picks, labels to volumes.

Points that stay keep their orientation, score, kind and all columns of their list; those that were moved only lie elsewhere.
Points that were deleted are left out. Added ones have a place and a kind alone: copies that napari made of a point with all its
features count as added too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import InputError
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles
from eucentric.io.relion_particles import write_relion_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.curation_base import Edit
from eucentric.pipeline.curation_pick_table import PICKS
from eucentric.pipeline.curation_picks import AddPick, DeletePick, MovePick, picks_of
from eucentric.pipeline.curation_session import Curation
from eucentric.viewer.napari_layers import OWN, ROW, list_digest

_MOVED_ANGSTROM = 0.05
"""What rounding of written coordinates may shift."""
_MOST_LABEL = 2**15 - 1
_SAME = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditedPoints:
    """What became of the particles of one series."""

    source: ParticleSet
    """The whole list, as it was read anew."""
    series: str
    kept: NDArray[np.int64]
    """(kept,) rows of the list that stay."""
    kept_positions: NDArray[np.float64]
    """(kept, 3) A, x, y, z."""
    added_positions: NDArray[np.float64]
    """(added, 3) A, x, y, z."""
    added_kinds: tuple[str, ...]

    @property
    def is_moved(self) -> NDArray[np.bool_]:
        """(kept,)."""
        way = self.kept_positions - self.source.positions_angstrom[self.kept]
        return np.asarray(np.linalg.norm(way, axis=1) > _MOVED_ANGSTROM)

    @property
    def deleted(self) -> NDArray[np.int64]:
        """Rows of the series that are gone."""
        own = np.flatnonzero(self.source.tomograms == self.series)
        return np.setdiff1d(own, self.kept)

    def particles(self) -> ParticleSet:
        """The whole list with the edits; particles of other series as they were, added ones at the end."""
        places = self.source.positions_angstrom.copy()
        places[self.kept[self.is_moved]] = self.kept_positions[self.is_moved]
        stay = np.setdiff1d(np.arange(len(self.source)), self.deleted)
        new = ParticleSet.build(self.series, self.added_positions, kinds=list(self.added_kinds))
        whole = self.source.with_positions(places).select(stay)
        return ParticleSet.concatenate([whole, new]) if len(new) else whole


def world_of(points: ArrayLike, attributes: Mapping[str, Any]) -> NDArray[np.float64]:
    """(n, 3) A from the specimen centre, x, y, z, of a layer's points.

    Raises
    ------
    InputError : points with other than three coordinates, or a layer that was turned or sheared
    """
    data = np.asarray(points, dtype=np.float64)
    data = data.reshape(0, 3) if data.size == 0 else data
    if data.ndim != 2 or data.shape[1] != 3:
        raise InputError(f"The points have shape {data.shape}; expected three coordinates each (z, y, x).")
    turned = {
        "rotate": np.eye(3),
        "affine": np.eye(4),
        "shear": np.zeros(3),
    }
    for name, plain in turned.items():
        value = attributes.get(name)
        if value is not None and not _is_plain(value, plain):
            raise InputError(f"The layer has `{name}` set, so its points lie elsewhere than in its tomogram. Reset it.")
    scale = _three(attributes.get("scale"), 1.0)
    return np.asarray((data * scale + _three(attributes.get("translate"), 0.0))[:, ::-1])


def _is_plain(value: Any, plain: NDArray[np.float64]) -> bool:
    array = np.asarray(value, dtype=np.float64)
    return bool(np.allclose(array, plain)) if array.shape == plain.shape else not array.any()


def _three(value: Any, otherwise: float) -> NDArray[np.float64]:
    return np.full(3, otherwise) if value is None else np.asarray(value, dtype=np.float64)


def edited_points(points: ArrayLike, attributes: Mapping[str, Any]) -> EditedPoints:
    """What was done to the points of a layer that this plugin made.

    Parameters
    ----------
    points : (n, 3) of the layer
    attributes : its scale, translate, features and metadata

    Raises
    ------
    InputError : a layer of other origin, one that was turned, or a list that changed since
    """
    about = dict((attributes.get("metadata") or {}).get(OWN) or {})
    if "list" not in about:
        raise InputError(
            "These points are from no list of particles. Save them with Plugins > Eucentric > Save points over a tomogram, "
            "which asks for the tomogram that they lie in."
        )
    path, series = Path(about["list"]), str(about["series"])
    source = read_particles(path)
    places = world_of(points, attributes)
    features = attributes.get("features")
    rows = _rows(features, len(places))
    if list_digest(path) != about.get("digest"):
        raise InputError(f"`{path}` was changed since it was opened. Open it again, and repeat the edits.")
    if rows.size and (rows.max() >= len(source) or (source.tomograms[rows[rows >= 0]] != series).any()):
        raise InputError(
            f"The feature `{ROW}` of the points names particles that are not of {series}. Leave it as it is."
        )
    stays = _first_of_each(rows, places, source)
    kinds = _kinds(features, len(places))
    added = np.flatnonzero(~stays)
    return EditedPoints(
        source=source,
        series=series,
        kept=rows[stays],
        kept_positions=places[stays],
        added_positions=places[added],
        added_kinds=tuple(kinds[i] for i in added),
    )


def _rows(features: Any, count: int) -> NDArray[np.int64]:
    if features is None or ROW not in features:
        return np.full(count, -1)
    values = np.asarray(features[ROW], dtype=np.float64)
    whole = np.where(np.isfinite(values), values, -1)
    return np.maximum(np.rint(whole), -1).astype(np.int64)


def _kinds(features: Any, count: int) -> list[str]:
    if features is None or "kind" not in features:
        return [""] * count
    return ["" if value is None or value != value else str(value) for value in np.asarray(features["kind"], object)]


def _first_of_each(rows: NDArray[np.int64], places: NDArray[np.float64], source: ParticleSet) -> NDArray[np.bool_]:
    """Whether each point is the particle of its row: of several with one row, the one that is nearest to where it lay."""
    stays = np.zeros(len(rows), dtype=bool)
    for row in np.unique(rows[rows >= 0]):
        same = np.flatnonzero(rows == row)
        away = np.linalg.norm(places[same] - source.positions_angstrom[row], axis=1)
        stays[same[np.argmin(away)]] = True
    return stays


def save_points(path: Path, points: ArrayLike, attributes: Mapping[str, Any]) -> ParticleSet:
    """Write the points of a layer as a RELION-5 list, those of the list's other series with them; what was written.

    Raises
    ------
    InputError : as :func:`edited_points`, a file that is no STAR, or a place that may not be written to
    """
    if path.suffix.lower() != ".star":
        raise InputError(f"`{path.name}` is no STAR file. Give the list a name that ends in .star.")
    particles = edited_points(points, attributes).particles()
    write_relion_particles(path, particles)
    return particles


def save_new_points(path: Path, points: ArrayLike, attributes: Mapping[str, Any], series: str) -> ParticleSet:
    """Write points that are from no list, which lie in a tomogram whose frame they share; errors as :func:`save_points`."""
    if path.suffix.lower() != ".star":
        raise InputError(f"`{path.name}` is no STAR file. Give the list a name that ends in .star.")
    places = world_of(points, attributes)
    if not len(places):
        raise InputError("The layer holds no point. Add some first.")
    particles = ParticleSet.build(series, places, kinds=_kinds(attributes.get("features"), len(places)))
    write_relion_particles(path, particles)
    return particles


def save_into_project(points: ArrayLike, attributes: Mapping[str, Any]) -> list[Edit]:
    """Keep the edits of a layer of picks in its project's log, from which they can be undone; what was done.

    Raises
    ------
    InputError : as :func:`edited_points`; a list that is not below `pick` of a project; an edit that the project refuses, such
        as a pick outside of its tomogram. Those before it are kept.
    """
    edited = edited_points(points, attributes)
    about = attributes["metadata"][OWN]
    path, root = Path(about["list"]), Path(about.get("project", ""))
    if "project" not in about or path.parent.parent != root / PICKS:
        raise InputError(
            f"`{path}` is not a list of picks of a project. Save it as a file: File > Save Selected Layers."
        )
    curation = Curation(root)
    edits = _edits(edited, root, path.parent.name, curation)
    for edit in edits:
        curation.do(edit)
    return edits


def _edits(edited: EditedPoints, root: Path, name: str, curation: Curation) -> list[Edit]:
    """Deletions first, so that places become free."""
    known = picks_of(root, name, curation.log().done).in_tomogram(edited.series)
    places = np.array([one.position for one in known]).reshape(-1, 3)

    def pick_at(row: int) -> str:
        away = np.linalg.norm(places - edited.source.positions_angstrom[row], axis=1)
        if not len(away) or away.min() > _MOVED_ANGSTROM:
            raise InputError(f"The picks of {name} were changed since they were opened. Open the project again.")
        return known[int(np.argmin(away))].name

    of_series: dict[str, Any] = {"tomogram": edited.series, "picks": name}
    edits: list[Edit] = [DeletePick(**of_series, pick=pick_at(int(row))) for row in edited.deleted]
    for row, place in zip(edited.kept[edited.is_moved], edited.kept_positions[edited.is_moved], strict=True):
        edits.append(MovePick(**of_series, pick=pick_at(int(row)), position=_xyz(place)))
    edits += [AddPick(**of_series, position=_xyz(place)) for place in edited.added_positions]
    return edits


def _xyz(place: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in place)
    return x, y, z


def save_labels(path: Path, labels: ArrayLike, attributes: Mapping[str, Any]) -> None:
    """Write labels as MRC (int16, or float32 above 32767) on the voxels of the tomogram that they were drawn over.

    Raises
    ------
    InputError : labels that are no volume, voxels that are no cubes, or a layer that does not lie about the specimen centre
    """
    if path.suffix.lower() not in (".mrc", ".rec"):
        raise InputError(f"`{path.name}` is no MRC file. Give the labels a name that ends in .mrc.")
    volume = np.asarray(labels)
    if volume.ndim != 3:
        raise InputError(f"The labels have shape {volume.shape}; expected a volume (z, y, x).")
    scale = _three(attributes.get("scale"), 1.0)
    if attributes.get("scale") is None or not np.allclose(scale, scale[0], rtol=_SAME):
        raise InputError(
            f"The labels have voxels of {' x '.join(f'{v:g}' for v in scale)}; expected cubes, in A, as those of the tomogram. "
            "Make the layer with the tomogram selected, and it takes its scale."
        )
    centre = -(np.array(volume.shape) // 2) * scale
    first = _three(attributes.get("translate"), 0.0)
    if not np.allclose(first, centre, atol=0.01 * scale[0]):
        raise InputError(
            "The labels do not lie where a tomogram of their size does, so that their place would be lost in the file. "
            "Make the layer with the tomogram selected, and it takes its place."
        )
    if volume.size and int(volume.max()) <= _MOST_LABEL and int(volume.min()) >= -_MOST_LABEL:
        write_mrc(path, volume.astype(np.int16), float(scale[0]), "int16", labels=["labels drawn in napari"])
    else:
        write_mrc(path, volume.astype(np.float32), float(scale[0]), labels=["labels drawn in napari"])
