"""Painted labels: `curation/labels/<series>.mrc` from strokes, and the one reader of such volumes.

Voxels are whole numbers, 0 where nothing was painted, on the grid of the tomogram they were painted in; its frame is named in the
header. A volume that is read for a tomogram that was levelled or aligned again since is brought onto the new one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass
from scipy.ndimage import label as connected

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.star import read_star_text, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, tomogram_name
from eucentric.pipeline.label_files import whole_labels
from eucentric.pipeline.repair_frames import DrawingFrame, FrameMotion, current_frame, motion_between, read_frame
from eucentric.pipeline.repair_paths import FOLDER, label_file, label_names_file
from eucentric.signal.painted_labels import Stroke, fill_between, painted_slices
from eucentric.typing import FloatArray

MOST = 127
"""The largest number of a label."""
AXES = "xyz"
_FRAME = "Eucentric painted labels, frame "
_LIMITS = (-127.0, 127.0)  # one number of a file for one of ours
_TOUCHING = np.ones((3, 3, 3), dtype=bool)

LabelVoxels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BrushStroke:
    """One stroke in a slice of a tomogram."""

    label: int
    axis: str
    """The slice is across this one of x, y and z."""
    points_angstrom: FloatArray
    """(point, 3) x, y, z from the specimen centre, all in the slice."""
    radius_angstrom: float
    erase: bool = False
    fill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelVolume:
    """Labels on the grid of a tomogram."""

    tomogram: str
    voxels: LabelVoxels
    """(z, y, x), 0 where nothing was painted."""
    grid: TomogramFrame
    names: Mapping[int, str]
    """Of the numbers that occur."""


def paint(frame: DrawingFrame, strokes: Sequence[BrushStroke], onto: LabelVoxels | None = None) -> LabelVoxels:
    """(z, y, x) labels of strokes in their order, with shapes between painted slices; a later label covers an earlier one.

    Parameters
    ----------
    onto : labels painted in earlier frames, which are changed; erasing in a slice takes of them too
    """
    x, y, z = frame.grid.size_xyz
    volume = np.zeros((z, y, x), dtype=np.uint8) if onto is None else onto
    groups: dict[tuple[int, str], list[BrushStroke]] = {}
    for stroke in strokes:
        groups.setdefault((stroke.label, stroke.axis), []).append(stroke)
    for (number, axis), group in groups.items():
        across = AXES.index(axis)
        view = np.moveaxis(volume, 2 - across, 0)
        shape = (view.shape[1], view.shape[2])
        drawn = [s for one in group if 0 <= (s := _in_slice(one, across, frame.grid)).slice_index < len(view)]
        for brush in drawn:
            if brush.erase and onto is not None:
                _erase(view[brush.slice_index], brush, number)
        for index, mask in fill_between(painted_slices(shape, drawn)).items():
            view[index][mask] = number
    return volume


def _in_slice(stroke: BrushStroke, across: int, grid: TomogramFrame) -> Stroke:
    index = grid.to_index(stroke.points_angstrom)
    columns = [k for k in range(3) if k != across]
    return Stroke(
        slice_index=int(np.floor(index[:, across].mean() + 0.5)),
        places=index[:, columns],
        radius=stroke.radius_angstrom / grid.voxel_size_angstrom,
        erase=stroke.erase,
        fill=stroke.fill,
    )


def _erase(plane: LabelVoxels, stroke: Stroke, number: int) -> None:
    whole = Stroke(slice_index=0, places=stroke.places, radius=stroke.radius, fill=stroke.fill)
    mask = painted_slices((plane.shape[0], plane.shape[1]), [whole])[0]
    plane[mask & (plane == number)] = 0


def carried(voxels: LabelVoxels, old: TomogramFrame, new: TomogramFrame, back: FrameMotion) -> LabelVoxels:
    """Labels on another grid: each voxel takes that of the nearest one.

    Parameters
    ----------
    back : from the frame of `new` to that of `old`
    """
    x, y, z = new.size_xyz
    out = np.zeros((z, y, x), dtype=np.uint8)
    rows, columns = np.meshgrid(np.arange(y), np.arange(x), indexing="ij")
    limits = np.array(old.size_xyz)
    for k in range(z):
        places = np.stack([columns, rows, np.full_like(rows, k)], -1).reshape(-1, 3)
        at = np.rint(old.to_index(back(new.to_angstrom(places)))).astype(np.int64)
        inside = ((at >= 0) & (at < limits)).all(1)
        flat = np.zeros(len(at), dtype=np.uint8)
        flat[inside] = voxels[at[inside, 2], at[inside, 1], at[inside, 0]]
        out[k] = flat.reshape(y, x)
    return out


def write_labels(root: Path, series: str, voxels: LabelVoxels, frame: DrawingFrame) -> Path:
    """Write the volume of a series."""
    path = label_file(root, series)
    write_mrc(path, voxels, frame.grid.voxel_size_angstrom, "int8", labels=[_FRAME + frame.key], limits=_LIMITS)
    return path


def write_label_names(root: Path, names: Mapping[int, str]) -> Path:
    """Write what the numbers mean."""
    path = label_names_file(root)
    table: dict[str, list[object]] = {
        labels.LABEL_NUMBER: [*sorted(names)],
        labels.LABEL_NAME: [names[n] for n in sorted(names)],
    }
    write_star(path, {"labels": table})
    return path


def read_label_names(folder: Path) -> dict[int, str]:
    """Names of labels by number, of a folder of label volumes; empty where none were given.

    Raises
    ------
    FormatError : the table is damaged
    """
    path = folder / "labels.star"
    if not path.is_file():
        return {}
    table = next(iter(read_star_text(path).values()))
    try:
        pairs = zip(table[labels.LABEL_NUMBER], table[labels.LABEL_NAME], strict=True)
        return {int(number or ""): str(name) for number, name in pairs}
    except (KeyError, ValueError) as error:
        raise FormatError(f"`{path}` does not hold names of labels: {error}.") from error


def read_label_volume(path: Path, tomogram: str | None = None, *, root: Path | None = None) -> LabelVolume:
    """Labels of one tomogram, painted here or in another program: whole numbers from 0.

    Parameters
    ----------
    tomogram : its name; that of the file where None
    root : the project. Labels painted in it before its tomogram was made anew are brought onto the new one

    Raises
    ------
    InputError : no such file, no label in it, or numbers that are none
    FormatError : no volume with a voxel size
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist. Paint labels in `eucentric view`, or check the name.")
    stored, header = read_mrc(path)
    if header.pixel_size_angstrom is None:
        raise FormatError(f"`{path}` does not tell its voxel size. Set it in the header.")
    voxels = whole_labels(stored, path, MOST).astype(np.uint8)
    if not voxels.any():
        raise InputError(f"`{path}` holds no label: every voxel is 0.")
    z, y, x = voxels.shape
    name = tomogram or tomogram_name(path.name)
    grid = TomogramFrame(voxel_size_angstrom=header.pixel_size_angstrom, size_xyz=(x, y, z))
    key = frame_key(header.labels)
    if root is not None and key is not None:
        now = current_frame(root, name)
        if now.key != key:
            old = read_frame(root, name, key)
            voxels, grid = carried(voxels, old.grid, now.grid, motion_between(now, old, name)), now.grid
    known = read_label_names(path.parent)
    return LabelVolume(
        tomogram=name,
        voxels=voxels,
        grid=grid,
        names={n: known.get(n, f"label {n}") for n in np.unique(voxels).tolist() if n},
    )


def frame_key(header_labels: Iterable[str]) -> str | None:
    """The frame that a volume was painted in, by the labels of its header; None where they do not say."""
    found = (re.search(re.escape(_FRAME) + r"([0-9a-f]{12})", text) for text in header_labels)
    return next((match.group(1) for match in found if match), None)


def label_volume_files(path: Path) -> list[Path]:
    """One file, or the volumes of a folder.

    Raises
    ------
    InputError : a folder without volumes
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.mrc"))
    if not found:
        raise InputError(f"`{path}` holds no label volume (.mrc). Paint labels in `eucentric view` first.")
    return found


def project_of_labels(path: Path) -> Path | None:
    """The project whose `curation/labels` a file lies in; None where it lies elsewhere."""
    folder = path.resolve().parent
    return folder.parent.parent if (folder.parent.name, folder.name) == (FOLDER, "labels") else None


def label_particles(volume: LabelVolume) -> ParticleSet:
    """One particle for each piece of a label that hangs together: its middle, with the label's name as its kind."""
    parts = []
    for number, name in volume.names.items():
        pieces, count = connected(volume.voxels == number, _TOUCHING)
        middles = np.array(center_of_mass(pieces > 0, pieces, np.arange(1, count + 1))).reshape(-1, 3)
        parts.append(ParticleSet.build(volume.tomogram, volume.grid.to_angstrom(middles[:, ::-1]), kinds=name))
    return ParticleSet.concatenate(parts)
