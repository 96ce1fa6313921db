"""Figures of tomograms and maps in files: slices with picks, and galleries of particles and of averages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from eucentric.errors import InputError
from eucentric.figures.slices import Circles, gallery, slice_picture
from eucentric.io.mrc import read_mrc
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.blob_files import TomogramFile, find_tomograms
from eucentric.pipeline.particle_files import read_list
from eucentric.typing import FloatArray

Axis = Literal["z", "y", "x"]
_AXES = {"z": (0, ("x", "y"), (0, 1), 2), "y": (1, ("x", "z"), (0, 2), 1), "x": (2, ("y", "z"), (1, 2), 0)}
"""Array axis, names across and up, their numbers, and the number of the axis itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceWish:
    """Which slice of a tomogram."""

    axis: Axis = "z"
    at_angstrom: float = 0.0
    """From the specimen centre."""
    thickness_angstrom: float = 0.0
    """So much is averaged; one plane at least."""
    contrast_percentile: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PicksWish:
    """Which particles are drawn."""

    picks: Path
    diameter_angstrom: float
    kinds: tuple[str, ...] = ()


def slice_figure(target: Path, series: str | None, wish: SliceWish, picks: PicksWish | None = None) -> Figure:
    """A slice of a tomogram, the mean of a slab, with circles where it cuts particles.

    Raises
    ------
    InputError : no such tomogram, a slice outside of it, or picks in other tomograms
    """
    one = one_tomogram(target, series)
    volume, frame = _volume(one.path)
    axis, names, plane, number = _AXES[wish.axis]
    count = frame.size_xyz[number]
    middle = wish.at_angstrom / frame.voxel_size_angstrom + count // 2
    if not -0.5 <= middle <= count - 0.5:
        low, high = (frame.voxel_size_angstrom * (end - count // 2) for end in (0, count - 1))
        raise InputError(
            f"No slice lies at {wish.axis} = {wish.at_angstrom:g} A: `{one.path.name}` goes from {low:.0f} to {high:.0f} A."
        )
    planes = max(1, round(wish.thickness_angstrom / frame.voxel_size_angstrom))
    start = min(max(round(middle - (planes - 1) / 2), 0), count - 1)
    stop = min(start + planes, count)
    slab: list[slice] = [slice(None)] * 3
    slab[axis] = slice(start, stop)
    image = np.asarray(volume[tuple(slab)], dtype=np.float32).mean(axis=axis, dtype=np.float64)
    low, high = ((end - count // 2) * frame.voxel_size_angstrom for end in (start, stop - 1))
    circles = None if picks is None else _circles(picks, one.name, plane, number, (low, high))
    shown = 0.5 * (low + high)
    title = f"{one.name}, {wish.axis} {shown:+.0f} Å, {(stop - start) * frame.voxel_size_angstrom:.0f} Å thick"
    return slice_picture(
        image, frame.voxel_size_angstrom, names, percentile=wish.contrast_percentile, circles=circles, title=title
    )


def particle_gallery(
    listed: Path,
    tomograms: Path,
    *,
    box_angstrom: float,
    thickness_angstrom: float,
    count: int,
    columns: int,
    kinds: tuple[str, ...] = (),
    turned: bool = False,
    axis: Axis = "z",
) -> Figure:
    """Slices through the best particles of a list, cut from their tomograms.

    Parameters
    ----------
    box_angstrom : edge of each picture
    thickness_angstrom : so much about the centre is averaged
    turned : in the particle's own axes, instead of those of the tomogram

    Raises
    ------
    InputError : no such particles or tomograms
    """
    _positive("box", box_angstrom)
    particles = _of_kinds(read_list(listed), kinds, listed)
    if turned and not particles.oriented:
        raise InputError(f"The particles of `{listed}` have no orientations. Leave out --turned.")
    files = {one.name: one for one in find_tomograms(tomograms)}
    known = particles.select(np.isin(particles.tomograms, list(files)))
    if not len(known):
        raise InputError(f"`{tomograms}` has no tomogram of {', '.join(particles.tomogram_names[:5])}.")
    best = known.by_score().select(np.arange(min(count, len(known))))
    images: list[FloatArray] = [np.zeros((1, 1))] * len(best)
    voxels: set[float] = set()
    for name in best.tomogram_names:
        volume, frame = _volume(files[name].path)
        voxels.add(round(frame.voxel_size_angstrom, 4))
        if len(voxels) > 1:
            raise InputError("The tomograms have voxels of several sizes. Make a gallery of each: name one tomogram.")
        edge = max(3, round(box_angstrom / frame.voxel_size_angstrom))
        deep = max(1, round(thickness_angstrom / frame.voxel_size_angstrom))
        for row in np.flatnonzero(best.tomograms == name):
            place = frame.to_index(best.positions_angstrom[row])
            turn = best.rotations[row] if turned else np.eye(3)
            images[row] = _cut(volume, place, turn, edge, deep, axis)
    titles = ["" if np.isnan(score) else f"{score:.3g}" for score in best.scores]
    return gallery(images, titles, voxels.pop(), columns=columns)


def map_gallery(targets: Sequence[Path], *, axis: Axis = "z", projected: bool = False, columns: int = 6) -> Figure:
    """Central slices, or projections, of maps: of averages, of the classes of a folder, or of files; protein dark.

    Raises
    ------
    InputError : nothing there, or maps of several voxel sizes
    """
    files = [file for target in targets for file in _maps(target)]
    images, voxels = [], set()
    for _, path in files:
        volume, frame = _volume(path)
        voxels.add(round(frame.voxel_size_angstrom, 4))
        along = _AXES[axis][0]
        values = np.asarray(volume, dtype=np.float64)
        images.append(-(values.sum(axis=along) if projected else values.take(values.shape[along] // 2, axis=along)))
    if len(voxels) > 1 or len({image.shape for image in images}) > 1:
        raise InputError("The maps have several sizes or voxel sizes, and cannot be shown to one scale.")
    return gallery(images, [name for name, _ in files], voxels.pop(), columns=columns)


def one_tomogram(target: Path, series: str | None) -> TomogramFile:
    """The tomogram that is meant; a name is needed where there are several."""
    if not target.exists():
        raise InputError(f"`{target}` does not exist. Name a project, a table of tilt series or a tomogram (.mrc).")
    found = find_tomograms(target)
    names = ", ".join(one.name for one in found[:8])
    if series is None:
        if len(found) > 1:
            raise InputError(f"`{target}` has {len(found)} tomograms. Say which with --series: {names}.")
        return found[0]
    chosen = next((one for one in found if one.name == series), None)
    if chosen is None:
        raise InputError(f"`{target}` has no tomogram `{series}`. It has {names}.")
    return chosen


def _maps(target: Path) -> list[tuple[str, Path]]:
    """Names and files of the maps in a folder, or the file itself."""
    if target.is_file():
        return [(target.stem, target)]
    if (target / "map.mrc").is_file():
        return [(target.name, target / "map.mrc")]
    numbered = sorted(target.glob("class_*.mrc"), key=lambda p: (len(p.stem), p.stem))
    classes = [(p.stem.replace("_", " "), p) for p in numbered if p.stem.removeprefix("class_").isdecimal()]
    if not classes:
        raise InputError(
            f"`{target}` holds neither map.mrc nor class_1.mrc. Name the folder of an average or of classes, or a map."
        )
    return classes


def _volume(path: Path) -> tuple[NDArray[Any], TomogramFrame]:
    array, header = read_mrc(path, as_stored=True)  # grey values need no scale
    voxel = header.pixel_size_angstrom
    if voxel is None:
        raise InputError(
            f"The header of `{path}` holds no voxel size, so that no scale can be drawn. Write it into the header."
        )
    z, y, x = array.shape
    return array, TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))


def _of_kinds(particles: ParticleSet, kinds: tuple[str, ...], listed: Path) -> ParticleSet:
    if not kinds:
        return particles
    chosen = particles.select(np.isin(particles.kinds, list(kinds)))
    if not len(chosen):
        there = ", ".join(sorted({str(k) for k in particles.kinds})) or "none"
        raise InputError(f"`{listed}` holds no particle of kind {', '.join(kinds)}. Its kinds are: {there}.")
    return chosen


def _circles(wish: PicksWish, tomogram: str, plane: tuple[int, int], number: int, slab: tuple[float, float]) -> Circles:
    """The circles that the slab cuts out of balls of the particles' size."""
    _positive("diameter", wish.diameter_angstrom)
    particles = _of_kinds(read_list(wish.picks), wish.kinds, wish.picks)
    here = particles.in_tomogram(tomogram)
    if not len(here):
        raise InputError(
            f"`{wish.picks}` has no particle in {tomogram}, but in {', '.join(particles.tomogram_names[:5])}."
        )
    height = here.positions_angstrom[:, number]
    away = np.maximum(np.maximum(slab[0] - height, height - slab[1]), 0.0)
    radius = 0.5 * wish.diameter_angstrom
    cut = away < radius
    return Circles(
        centres_angstrom=here.positions_angstrom[cut][:, list(plane)],
        diameters_angstrom=2.0 * np.sqrt(radius**2 - away[cut] ** 2),
        kinds=here.kinds[cut],
    )


def _cut(volume: NDArray[Any], place: FloatArray, turn: FloatArray, edge: int, deep: int, axis: Axis) -> FloatArray:
    """The mean of a slab about a place (x, y, z index), in turned axes; NaN outside of the volume."""
    _, _, plane, number = _AXES[axis]
    up, across = np.mgrid[0:edge, 0:edge] - edge // 2
    grid = np.zeros((deep, edge, edge, 3))
    grid[..., plane[0]], grid[..., plane[1]] = across, up
    grid[..., number] = (np.arange(deep) - (deep - 1) / 2)[:, None, None]
    at = (grid @ turn.T + place)[..., ::-1]  # z, y, x
    first = np.maximum(np.floor(at.reshape(-1, 3).min(axis=0)).astype(int) - 1, 0)
    last = np.minimum(np.ceil(at.reshape(-1, 3).max(axis=0)).astype(int) + 2, volume.shape)
    if (last <= first).any():
        return np.full((edge, edge), np.nan)
    part = np.asarray(volume[tuple(slice(a, b) for a, b in zip(first, last, strict=True))], dtype=np.float32)
    values = map_coordinates(part, np.moveaxis(at - first, -1, 0), order=1, cval=np.nan)
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    out: FloatArray = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
    return out


def _positive(what: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"A {what} of {value:g} A was given; expected a positive number.")
