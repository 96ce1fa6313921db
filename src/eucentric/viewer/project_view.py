"""What there is to see in a project: found anew for every page, so that what a run adds is there. Only reads."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eucentric.errors import EucentricError, InputError
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.curation_pick_table import CURATED, ORIGINAL
from eucentric.pipeline.records import row_path
from eucentric.pipeline.steps import IMPORT_TABLE
from eucentric.viewer.correlative_layers import LIGHT, correlative_folders
from eucentric.viewer.security import inside_path
from eucentric.viewer.volumes import Kind

_STAGES = ("reconstruct", "ctf", "align", "motion")
_VOLUME_STAGES = ("reconstruct", "denoise", "fill-wedge")
_VOLUME_ENDINGS = (".mrc", ".rec", ".ome.zarr", ".zarr")
_LABELS = "segment"
_PAINTED, _DRAWN = "curation/labels", "curation/drawn"
_MESH_ENDINGS = (".ply", ".obj", ".stl")
_PICKS = ("pick", "extract", "average", "refine", "classify")
_KEY = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFile:
    """A volume that lies in the frame of a series."""

    key: str
    """In addresses."""
    title: str
    path: Path
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class PickFile:
    """A list of particles of the project."""

    key: str
    title: str
    path: Path
    average: Path | None
    """The map that was averaged from them, where there is one beside the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFile:
    """A surface in the frame of a series."""

    key: str
    title: str
    path: Path


_File = TypeVar("_File", VolumeFile, PickFile, MeshFile)


def series_names(root: Path) -> list[str]:
    """All series of the project."""
    table = root / IMPORT_TABLE
    return tilt_series_names(table) if table.is_file() else []


def need_series(root: Path, name: str) -> str:
    """The name itself; InputError where the project has no such series."""
    if name not in series_names(root):
        raise InputError("The project has no such tilt series.")
    return name


def neighbours(root: Path, name: str) -> dict[str, str | None]:
    """The series before (`previous`) and after (`next`); InputError where the project has no such series."""
    names = series_names(root)
    place = names.index(need_series(root, name))
    return {
        "previous": names[place - 1] if place else None,
        "next": names[place + 1] if place + 1 < len(names) else None,
    }


def read_series(root: Path, name: str) -> TiltSeries | None:
    """A series as the furthest stage left it; None where no table can be read."""
    tables = [t for stage in _STAGES for t in (row_path(root / stage, name), root / stage / "tilt_series.star")]
    for table in (*tables, root / IMPORT_TABLE):
        try:
            if table.is_file():
                series: TiltSeries = read_tilt_series(table, name, root)
                return series
        except (EucentricError, OSError):
            continue
    return None


def volume_files(root: Path, name: str) -> list[VolumeFile]:
    """Volumes of a series: tomograms first, then labels and maps that were put back.

    Parameters
    ----------
    name : of a series that the project has
    """
    found = list(_tomograms(root, name))
    found += _of_series(root, root / _LABELS / "labels", name, "labels", "Labels")
    found += _of_series(root, root / _PAINTED, name, "labels", "Painted labels")
    for folder in _map_back_folders(root):
        found += _of_series(root, folder, name, "image", f"Mapped back: {folder.relative_to(root).as_posix()}")
    for folder in correlative_folders(root):
        found += _of_series(root, folder, name, "image", f"{LIGHT}{folder.name}")
    return _with_keys(found)


def tomogram_of(root: Path, series: TiltSeries | None) -> Path | None:
    """The file of a series' tomogram, where there is one that may be shown."""
    return None if series is None or series.tomogram is None else _allowed(root, root / series.tomogram.path)


def _tomograms(root: Path, name: str) -> Iterator[VolumeFile]:
    folders = [root / stage for stage in _VOLUME_STAGES]
    folders += sorted(p.parent for p in root.glob("*/tomograms") if p.parent not in folders)
    seen: set[Path] = set()
    series = read_series(root, name)
    if series is not None and series.tomogram is not None:
        record = series.tomogram
        for path, title in ((record.path, "Tomogram"), (record.half1, "Half 1"), (record.half2, "Half 2")):
            place = None if path is None else _allowed(root, root / path)
            if place is not None:
                seen.add(place)
                yield VolumeFile(key=title, title=title, path=place, kind="image")
    for folder in folders:
        shown = folder.name
        for one in _of_series(root, folder / "tomograms", name, "image", shown):
            if one.path not in seen:
                seen.add(one.path)
                yield one


def _of_series(root: Path, folder: Path, name: str, kind: Kind, title: str) -> Iterator[VolumeFile]:
    """Files `NAME.mrc` and `NAME_further.mrc` of a folder."""
    for path, rest in _files_of(root, folder, name, _VOLUME_ENDINGS):
        place = _allowed(root, path)
        if place is not None:
            shown = f"{title}, {rest}" if rest else title
            yield VolumeFile(key=shown, title=shown, path=place, kind=kind)


def _files_of(root: Path, folder: Path, name: str, endings: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Files of a series, and what their names say further; not those of a series with a longer name."""
    if not folder.is_dir():
        return
    longer: list[str] | None = None
    others = set()
    for path in sorted(folder.iterdir()):
        ending = next((e for e in endings if path.name.endswith(e)), None)
        if ending is None or path.name.startswith("."):
            continue
        stem = path.name.removesuffix(ending)
        if stem != name:
            if not stem.startswith(f"{name}_"):
                continue
            if longer is None:  # the table of all series is read for files alone that may be another's
                longer = [other for other in series_names(root) if other.startswith(f"{name}_")]
            if any(stem == other or stem.startswith(f"{other}_") for other in longer):
                continue
        rest = stem[len(name) + 1 :]
        if rest not in others:  # the same as MRC and as OME-Zarr
            others.add(rest)
            yield path, rest


def _map_back_folders(root: Path) -> list[Path]:
    """Folders with scenes that show maps where their particles lie."""
    return sorted({p.parent for pattern in ("*/*.cxc", "*/*/*.cxc", "*/*/*/*.cxc") for p in root.glob(pattern)})


def _allowed(root: Path, path: Path) -> Path | None:
    """The file where it lies in the project, also after links were followed; else None."""
    try:
        return inside_path(root, path)
    except InputError:
        return None


def _with_keys(files: list[VolumeFile]) -> list[VolumeFile]:
    keys = _unique_keys([f.title for f in files])
    return [VolumeFile(key=k, title=f.title, path=f.path, kind=f.kind) for k, f in zip(keys, files, strict=True)]


def _unique_keys(titles: list[str]) -> list[str]:
    """Of titles: letters, digits and hyphens, no two the same."""
    keys: list[str] = []
    for title in titles:
        key = base = _KEY.sub("-", title).strip("-.").lower() or "one"
        number = 2
        while key in keys:
            key, number = f"{base}-{number}", number + 1
        keys.append(key)
    return keys


def pick_files(root: Path) -> list[PickFile]:
    """Lists of particles of the project, `particles.star` of its folders; with the edits of a person first."""
    found = []
    for stage in _PICKS:
        lists = (p for file in (CURATED, ORIGINAL) for p in (root / stage).glob(f"*/{file}"))
        for path in sorted(lists, key=lambda p: (p.parent, p.name != CURATED)):
            place = _allowed(root, path)
            if place is not None and not any(p.startswith(".") for p in path.relative_to(root).parts):
                beside = _allowed(root, path.with_name("map.mrc"))
                title = path.parent.relative_to(root).as_posix() + (" (edited)" if path.name == CURATED else "")
                found.append(PickFile(key=title, title=title, path=place, average=beside))
    keys = _unique_keys([f.title for f in found])
    return [PickFile(key=k, title=f.title, path=f.path, average=f.average) for k, f in zip(keys, found, strict=True)]


def mesh_files(root: Path, name: str) -> list[MeshFile]:
    """Surfaces of a series."""
    found = []
    drawn = _files_of(root, root / _DRAWN, name, _MESH_ENDINGS)
    for path, rest in (*_files_of(root, root / _LABELS / "meshes", name, _MESH_ENDINGS), *drawn):
        place = _allowed(root, path)
        if place is not None:
            found.append(MeshFile(key="", title=f"Surface, {rest}" if rest else "Surface", path=place))
    keys = _unique_keys([f.title for f in found])
    return [MeshFile(key=k, title=f.title, path=f.path) for k, f in zip(keys, found, strict=True)]


def find_volume(root: Path, name: str, key: str) -> VolumeFile:
    """The volume of an address.

    Raises
    ------
    InputError : the series has none of that name
    """
    return _one(volume_files(root, need_series(root, name)), key)


def find_picks(root: Path, key: str) -> PickFile:
    """The list of an address; errors as :func:`find_volume`."""
    return _one(pick_files(root), key)


def find_mesh(root: Path, name: str, key: str) -> MeshFile:
    """The surface of an address; errors as :func:`find_volume`."""
    return _one(mesh_files(root, need_series(root, name)), key)


def _one(files: Sequence[_File], key: str) -> _File:
    for file in files:
        if file.key == key:
            return file
    raise InputError("The project has nothing of that name to show.")


def picks_in(file: PickFile, name: str) -> ParticleSet:
    """The particles of a list that lie in a series, in the order of the list."""
    return read_particles(file.path).in_tomogram(name)
