"""Projects of copick: a folder of runs with their tomograms, picks and segmentations, and a list of what is annotated.

```
copick_config.json
ExperimentRuns/RUN/VoxelSpacing10.000/KIND.zarr
ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json
ExperimentRuns/RUN/Segmentations/10.000_USER_SESSION_NAME[-multilabel].zarr
```

(copick 1.31, `copick/models.py`, `copick/impl/filesystem.py`, `copick/util/segmentation.py`.) Names of objects, users and sessions
hold no underscore and no space. Copick opens Zarr of format 2 only (its dependency is `zarr<3`), so volumes are written as OME-Zarr
0.4 here, not 0.5 as elsewhere. The configuration holds the full path of the project: edit `overlay_root` when it is moved.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from eucentric.errors import EucentricError, FormatError, InputError, ShapeError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.copick import read_copick, write_copick
from eucentric.io.guarded import reading
from eucentric.io.ome_zarr import AXES, read_ome_zarr_header
from eucentric.io.ome_zarr_writer import OmeZarrSlabWriter, _Level, atomic_folder, level_shapes
from eucentric.io.particle_columns import need_file
from eucentric.io.stored_values import checked_voxel_size
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.typing import PathLike

CONFIG = "copick_config.json"
_RUNS, _PICKS, _SEGMENTATIONS, _SPACING = "ExperimentRuns", "Picks", "Segmentations", "VoxelSpacing"
_MULTILABEL = "-multilabel"
_USER, _SESSION = "eucentric", "0"
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]')
_CHUNK = 128
_COLOURS = (
    (230, 159, 0, 255), (86, 180, 233, 255), (0, 158, 115, 255), (240, 228, 66, 255), (0, 114, 178, 255), (213, 94, 0, 255),
    (204, 121, 167, 255), (153, 153, 153, 255),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CopickObject:
    """Something that is picked (a particle) or segmented."""

    name: str
    label: int
    """In segmentations of several objects, from 1; each object its own."""
    is_particle: bool = True
    color: tuple[int, int, int, int] | None = None
    """Red, green, blue, opacity, each to 255; one of a list by label where None."""
    radius_angstrom: float | None = None
    pdb_id: str | None = None
    emdb_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopickPicks:
    """A file of picks in a project."""

    path: Path
    user: str
    session: str
    object_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopickVolume:
    """A tomogram, or a segmentation, in a project."""

    path: Path
    voxel_size_angstrom: float
    name: str
    """Kind of the tomogram, such as `wbp`, or name of the segmentation."""
    user: str = ""
    """Of segmentations."""
    session: str = ""
    multilabel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopickRun:
    """One tomogram's data, at any number of voxel sizes."""

    name: str
    tomograms: tuple[CopickVolume, ...] = ()
    picks: tuple[CopickPicks, ...] = ()
    segmentations: tuple[CopickVolume, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopickProject:
    """What a project holds, none of it loaded."""

    name: str
    objects: tuple[CopickObject, ...]
    runs: tuple[CopickRun, ...]

    def frames(self) -> TomogramFrames:
        """The grid of the finest tomogram of each run that has one.

        Raises
        ------
        FormatError : a tomogram that cannot be read
        """
        found = {}
        for run in self.runs:
            if run.tomograms:
                finest = min(run.tomograms, key=lambda t: t.voxel_size_angstrom)
                z, y, x = read_ome_zarr_header(finest.path).shape
                found[run.name] = TomogramFrame(voxel_size_angstrom=finest.voxel_size_angstrom, size_xyz=(x, y, z))
        return TomogramFrames(by_name=found)

    def particles(self, frames: TomogramFrames | None = None) -> ParticleSet:
        """Every pick of every run; grids of the project's own tomograms where none are given.

        Raises
        ------
        InputError : a run without tomogram whose size is not given
        FormatError : a file that holds no picks
        """
        grids = frames or self.frames()
        return ParticleSet.concatenate([read_copick(p.path, grids) for run in self.runs for p in run.picks])


def copick_name(text: str) -> str:
    """A name as copick takes it: a hyphen for what it does not; `particle` for nothing."""
    return _FORBIDDEN.sub("-", text).strip("-") or "particle"


def write_copick_config(folder: PathLike, name: str, objects: Sequence[CopickObject], description: str = "") -> Path:
    """Write the configuration of a project in `folder`; the file made.

    Raises
    ------
    InputError : names or labels that occur twice or cannot be, or a place that cannot be written to
    """
    root = Path(folder).resolve()
    names, labels = [copick_name(o.name) for o in objects], [o.label for o in objects]
    if len(set(names)) < len(names) or len(set(labels)) < len(labels) or any(label < 1 for label in labels):
        raise InputError(
            f"The objects of a copick project need names and labels of their own, labels from 1; {names} with {labels} were given."
        )
    listed = []
    for item, its_name in zip(objects, names, strict=True):
        colour = item.color or _COLOURS[(item.label - 1) % len(_COLOURS)]
        if not all(0 <= c <= 255 for c in colour):
            raise InputError(f"The colour of {item.name} is {colour}; expected four numbers from 0 to 255.")
        entry: dict[str, object] = {"name": its_name, "is_particle": item.is_particle, "label": item.label}
        entry |= {"color": list(colour), "radius": item.radius_angstrom, "pdb_id": item.pdb_id, "emdb_id": item.emdb_id}
        listed.append({key: value for key, value in entry.items() if value is not None})
    document = {
        "config_type": "filesystem",
        "name": name,
        "description": description or f"Tomograms of {name}",
        "version": "1.0.0",
        "pickable_objects": listed,
        "overlay_root": f"local://{root.as_posix()}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    path = root / CONFIG
    write_text_atomic(path, json.dumps(document, indent=2) + "\n")
    return path


def write_copick_picks(
    folder: PathLike, particles: ParticleSet, frames: TomogramFrames, *, user: str = _USER, session: str = _SESSION
) -> list[Path]:
    """Write the particles of each tomogram and kind into their runs; the files made.

    Raises
    ------
    InputError : a tomogram of unknown size, or two kinds that have one name in copick
    """
    files: dict[Path, str] = {}
    for tomogram in particles.tomogram_names:
        part = particles.in_tomogram(tomogram)
        for kind in sorted({str(k) for k in part.kinds}):
            its_name = copick_name(kind)
            path = run_folder(folder, tomogram) / _PICKS / f"{copick_name(user)}_{copick_name(session)}_{its_name}.json"
            if path in files:
                raise InputError(f"The kinds `{files[path]}` and `{kind}` are both `{its_name}` in copick. Rename one.")
            some = part.select(part.kinds == kind)
            write_copick(path, some, frames, object_name=its_name, user=copick_name(user), session=copick_name(session))
            files[path] = kind
    return list(files)


def run_folder(folder: PathLike, run: str) -> Path:
    """Where the data of a run lie; InputError where its name cannot be that of a folder."""
    if not run or run.startswith(".") or "/" in run or "\\" in run:
        raise InputError(f"`{run}` cannot be the name of a run of copick: it is that of a folder. Rename it.")
    return Path(folder) / _RUNS / run


class CopickTomogramWriter(OmeZarrSlabWriter):
    """Writes a tomogram of a run and its pyramid slab by slab, as `OmeZarrSlabWriter` does, but as OME-Zarr 0.4.

    Parameters
    ----------
    folder : of the project
    run : name of the run
    shape : (z, y, x)
    voxel_size_angstrom : of the tomogram: copick knows its folder by three decimals of it
    kind : of the tomogram, such as `wbp` or `denoised`

    Raises
    ------
    InputError : a voxel size that is not positive, or a name that cannot be
    ShapeError : a size below 1
    """

    def __init__(
        self, folder: PathLike, run: str, shape: tuple[int, int, int], voxel_size_angstrom: float, kind: str = "wbp"
    ) -> None:
        spacing = checked_voxel_size(voxel_size_angstrom)[0]
        if "_" in kind or not kind or kind != copick_name(kind):
            raise InputError(
                f"`{kind}` cannot be the kind of a tomogram in copick; expected letters and hyphens, such as `wbp`."
            )
        self.path = run_folder(folder, run) / f"{_SPACING}{spacing:.3f}" / f"{kind}.zarr"
        super().__init__(self.path, shape, spacing, chunk=_CHUNK)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_folder(self._path))
            self._group = zarr.open_group(temporary, mode="w", zarr_format=2)
            self._levels = [self._make_level(i, s) for i, s in enumerate(level_shapes(self._shape, self._chunk))]
            self._context = stack.pop_all()
        for level, coarser in zip(self._levels, self._levels[1:], strict=False):
            level.coarser = coarser
        return self

    def _make_level(self, index: int, shape: tuple[int, int, int]) -> _Level:
        array = _array(self._group, str(index), shape, self._number)
        return _Level(array, array.chunks[0])

    def _metadata(self) -> dict[str, Any]:
        newer = super()._metadata()
        image = newer.pop("ome")["multiscales"][0]
        return {"multiscales": [{"version": "0.4", **image}], **newer}


def _array(group: zarr.Group, name: str, shape: tuple[int, int, int], number: np.dtype[Any]) -> Any:
    return group.create_array(
        name,
        shape=shape,
        dtype=number,
        chunks=tuple(min(_CHUNK, n) for n in shape),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def write_copick_segmentation(
    folder: PathLike,
    run: str,
    labels: NDArray[np.integer[Any]],
    voxel_size_angstrom: float,
    name: str,
    *,
    multilabel: bool = False,
    user: str = _USER,
    session: str = _SESSION,
) -> Path:
    """Write a segmentation of a run; the folder made.

    Parameters
    ----------
    labels : (z, y, x), an array or memory map: 1 inside, or the labels of the project's objects where `multilabel`
    name : of the object, or of the set of labels

    Raises
    ------
    ShapeError : not (z, y, x)
    InputError : labels below 0 or beyond 65535, or a voxel size that is not positive
    """
    if labels.ndim != 3 or not labels.size:
        raise ShapeError(f"Labels of shape {labels.shape} were given; expected (z, y, x).")
    spacing = checked_voxel_size(voxel_size_angstrom)[0]
    low = min(int(plane.min()) for plane in labels)
    high = max(int(plane.max()) for plane in labels)
    if low < 0 or high > 65535 or (high > 1 and not multilabel):
        raise InputError(
            f"Labels from {low} to {high} were given; copick takes 0 and 1 for one object, 0 to 65535 for several."
        )
    its_name = copick_name(name) + (_MULTILABEL if multilabel else "")
    path = run_folder(folder, run) / _SEGMENTATIONS
    path = path / f"{spacing:.3f}_{copick_name(user)}_{copick_name(session)}_{its_name}.zarr"
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    with atomic_folder(path) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        datasets = []
        for index, size in enumerate(level_shapes(shape, _CHUNK)):
            step = 2**index
            array = _array(group, str(index), size, np.dtype(np.uint8 if high < 256 else np.uint16))
            level = labels[::step, ::step, ::step]
            for start in range(0, size[0], _CHUNK):
                array[start : start + _CHUNK] = level[start : start + _CHUNK].astype(array.dtype)
            scale = [spacing * 2.0 ** min(index, math.ceil(math.log2(n))) for n in shape]
            steps = [{"type": "scale", "scale": scale}]
            datasets.append({"path": str(index), "coordinateTransformations": steps})
        axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in AXES]
        image = {"version": "0.4", "name": its_name, "axes": axes, "datasets": datasets, "type": "nearest"}
        group.update_attributes({"multiscales": [image]})
    return path


def read_copick_project(path: PathLike) -> CopickProject:
    """What a project on this machine holds, from its configuration or its folder.

    Parameters
    ----------
    path : `.json` with `pickable_objects`, or a folder with one

    Raises
    ------
    InputError : no such place, no or several configurations in the folder, or a project that lies elsewhere
    FormatError : not a configuration of copick
    """
    with reading(path):
        return _project(Path(path))


def _project(path: Path) -> CopickProject:
    file = _config(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        objects = tuple(_object(entry) for entry in document["pickable_objects"])
        roots = [str(document[key]) for key in ("overlay_root", "static_root") if document.get(key)]
        name = str(document.get("name") or file.parent.name)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise FormatError(
            f"`{file}` is not a configuration of copick: {type(error).__name__}: {str(error)[:80]}."
        ) from error
    folders = _local_roots(file, roots)
    runs: dict[str, list[Path]] = {}
    for folder in folders:
        for run in sorted((folder / _RUNS).iterdir()) if (folder / _RUNS).is_dir() else ():
            if run.is_dir() and not run.name.startswith("."):
                runs.setdefault(run.name, []).append(run)
    return CopickProject(
        name=name, objects=objects, runs=tuple(_run(run, places) for run, places in sorted(runs.items()))
    )


def _config(place: Path) -> Path:
    if not place.is_dir():
        return need_file(place)
    if (place / CONFIG).is_file():
        return place / CONFIG
    found = [f for f in sorted(place.glob("*.json")) if _looks_like_config(f)]
    if len(found) != 1:
        raise InputError(f"`{place}` holds {len(found)} configurations of copick; expected one. Give the file itself.")
    return found[0]


def _looks_like_config(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return b'"pickable_objects"' in stream.read(100_000)
    except OSError:
        return False


def _object(entry: dict[str, Any]) -> CopickObject:
    colour = entry.get("color")
    radius = entry.get("radius")
    return CopickObject(
        name=str(entry["name"]),
        label=int(entry.get("label") or 0),
        is_particle=bool(entry["is_particle"]),
        color=None
        if not colour
        else (int(colour[0]), int(colour[1]), int(colour[2]), int(colour[3]) if len(colour) > 3 else 255),
        radius_angstrom=None if radius is None else float(radius),
        pdb_id=entry.get("pdb_id"),
        emdb_id=entry.get("emdb_id"),
    )


def _local_roots(file: Path, roots: Iterable[str]) -> list[Path]:
    folders = []
    for root in roots:
        scheme, mark, rest = root.partition("://")
        if mark and scheme not in ("local", "file"):
            continue
        folders.append(Path(rest if mark else root))
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    if not there and (file.parent / _RUNS).is_dir():
        there = [file.parent]  # a project that was moved
    if not there:
        raise InputError(
            f"The project of `{file}` does not lie on this machine ({', '.join(roots)[:120]}). Copy it here, or correct overlay_root."
        )
    return there


def _run(name: str, places: Sequence[Path]) -> CopickRun:
    tomograms, picks, segmentations = [], [], []
    for place in places:
        for folder in sorted(place.glob(f"{_SPACING}*")):
            spacing = _spacing(folder.name[len(_SPACING) :])
            for volume in sorted(folder.glob("*.zarr")):
                if (
                    spacing is not None
                    and not volume.name.startswith(".")
                    and not volume.name.endswith("_features.zarr")
                ):
                    tomograms.append(CopickVolume(path=volume, voxel_size_angstrom=spacing, name=volume.stem))
        for file in sorted((place / _PICKS).glob("*.json")):
            parts = file.stem.split("_")
            if len(parts) >= 3 and not file.name.startswith("."):
                user, session, its_name = parts[0], parts[1], "_".join(parts[2:])
                picks.append(CopickPicks(path=file, user=user, session=session, object_name=its_name))
        for volume in sorted((place / _SEGMENTATIONS).glob("*.zarr")):
            parts = volume.stem.split("_", 3)
            spacing = _spacing(parts[0])
            if len(parts) == 4 and spacing is not None:
                segmentations.append(
                    CopickVolume(
                        path=volume,
                        voxel_size_angstrom=spacing,
                        name=parts[3].removesuffix(_MULTILABEL),
                        user=parts[1],
                        session=parts[2],
                        multilabel=parts[3].endswith(_MULTILABEL),
                    )
                )
    return CopickRun(name=name, tomograms=tuple(tomograms), picks=tuple(picks), segmentations=tuple(segmentations))


def _spacing(text: str) -> float | None:
    try:
        return checked_voxel_size(float(text))[0]
    except (ValueError, EucentricError):
        return None
