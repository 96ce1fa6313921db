"""`eucentric convert --check`: what was written is read back, compared, and drawn."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eucentric.errors import FormatError
from eucentric.evaluation.geometry_difference import GeometryDifference, compare_geometry
from eucentric.evaluation.particle_difference import compare_particles
from eucentric.figures.conversion import TomogramSlices, particles_figure, phantom_figure, volumes_figure
from eucentric.io.atomic import atomic_path
from eucentric.io.exchange.formats import geometry_format
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.volumes import VOLUME_ENDINGS, OpenVolume, open_volume
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.typing import FloatArray

_SAME_PX, _SAME_DEG, _SAME_DEFOCUS = 0.1, 0.05, 1.0
_SECTIONS, _MOST = 8, 0.95
_ENDING = "_check.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a comparison found."""

    lines: tuple[str, ...]
    failed: bool
    pictures: tuple[Path, ...] = ()


def picture_of(target: Path, name: str | None = None) -> Path:
    """Where the picture of a check goes: into a folder, or beside a file."""
    folder = target if target.is_dir() and target.suffix.lower() != ".zarr" else target.parent
    return folder / f"{name or target.stem}{_ENDING}"


_Read = dict[Given, tuple[SeriesGeometry, ...]]


def read_back(target: Path, to: str, geometry: SeriesGeometry, read: _Read) -> SeriesGeometry:
    """A series that was just written, read again with its pixel size, image size and optics.

    Parameters
    ----------
    read : what was read so far by what was given, so that a folder of many series alike is read once

    Raises
    ------
    InputError, FormatError : what was written cannot be read
    """
    series = geometry.series
    given = Given(pixel_size_angstrom=series.pixel_size_angstrom, image_shape=series.image_shape, optics=series.optics)
    if given not in read:
        read[given] = geometry_format(to).read(target, given)
    found = read[given]
    own = [g for g in found if g.series.name == series.name] or (list(found) if len(found) == 1 else [])
    if not own:
        raise FormatError(f"{series.name} is not among the series of `{target}`.")
    return own[0]


def check_series(target: Path, to: str, geometries: Sequence[SeriesGeometry], titles: tuple[str, str]) -> Check:
    """Read series back, and draw one phantom through both geometries of each.

    Raises
    ------
    InputError, FormatError : what was written cannot be read
    """
    lines, pictures, failed = [], [], False
    read: _Read = {}
    holds_hand = _holds_hand(geometries[0], to)
    for geometry in geometries:
        name = geometry.series.name
        back = read_back(target, to, geometry, read)
        apart = compare_geometry(geometry.series, back.series, first_warp=geometry.warp, second_warp=back.warp)
        ctfs_lost = sum(t.ctf is not None for t in geometry.series.tilts) - sum(
            t.ctf is not None for t in back.series.tilts
        )
        lines.append(f"{name}: {_words(apart, ctfs_lost, holds_hand)}")
        failed |= (
            not apart.position_px < _SAME_PX
            or not apart.angle_deg < _SAME_DEG
            or apart.tilts_missing > 0
            or ctfs_lost > 0
            or apart.defocus_angstrom > _SAME_DEFOCUS
            or not apart.hand_kept
        )
        if apart.seen is not None:
            path = picture_of(target, name)
            _save(
                phantom_figure(apart.seen, titles[0], titles[1], f"{name}: one phantom through both geometries"), path
            )
            pictures.append(path)
    return Check(lines=tuple(lines), failed=failed, pictures=tuple(pictures))


def _holds_hand(geometry: SeriesGeometry, to: str) -> bool:
    """Whether the other hand comes back from the format as the other hand."""
    turned = replace(geometry, series=geometry.series.replace(hand=-geometry.series.hand))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "turned"
        geometry_format(to).write(folder, [turned])
        return read_back(folder, to, turned, {}).series.hand == turned.series.hand


def _words(apart: GeometryDifference, ctfs_lost: int, holds_hand: bool) -> str:
    parts = []
    if np.isfinite(apart.position_px):
        parts.append(
            f"points of a phantom at most {apart.position_px:.3f} px apart ({apart.position_rms_px:.3f} rms), "
            f"rotations {apart.angle_deg:.3f} degrees"
        )
        if np.isfinite(apart.defocus_angstrom):
            parts.append(f"defocus {apart.defocus_angstrom:.2f} A")
    else:
        parts.append("the format holds no alignment; its defocus is that of the middle of the images")
    if ctfs_lost:
        parts.append(f"{ctfs_lost} CTFs are lost")
    kept = "hand kept" if apart.hand_kept else "HAND TURNED"
    parts.append(kept if holds_hand else "the format holds no hand")
    if apart.tilts_missing:
        parts.append(f"{apart.tilts_missing} tilts are missing")
    return ", ".join(parts) + "."


def check_particles(
    target: Path,
    first: ParticleSet,
    second: ParticleSet,
    names: tuple[str, str],
    frames: TomogramFrames,
    tomogram: Path | None,
) -> Check:
    """Compare a list with what is read back of it, and draw both.

    Parameters
    ----------
    names : of the formats
    frames : grids of the tomograms, as far as they are known
    tomogram : a volume to draw the particles over
    """
    picture = picture_of(target)
    _save(_particle_picture(first, second, names, tomogram), picture)
    if len(first) != len(second):
        line = f"{len(first)} particles were written and {len(second)} are read back."
        return Check(lines=(line,), failed=True, pictures=(picture,))
    apart = compare_particles(first, second)
    known = {n: f.voxel_size_angstrom for n, f in frames.by_name.items()}
    other = frames.default.voxel_size_angstrom if frames.default is not None else 1.0
    voxels = np.array([known.get(str(n), other) for n in first.tomograms])
    line = (
        f"read back: positions at most {apart.distances_angstrom.max():.3f} A apart, rotations "
        f"{apart.angles_deg.max():.3f} degrees."
    )
    failed = bool((apart.distances_angstrom > _SAME_PX * voxels).any() or apart.angles_deg.max() > _SAME_DEG)
    return Check(lines=(line,), failed=failed, pictures=(picture,))


def _particle_picture(first: ParticleSet, second: ParticleSet, names: tuple[str, str], volume: Path | None) -> Figure:
    """Of the tomogram with most particles."""
    tomogram = max(first.tomogram_names, key=lambda n: int(np.sum(first.tomograms == n)))
    parts = [p.in_tomogram(tomogram) for p in (first, second)]
    slices = None
    if volume is not None and volume.suffix.lower() in VOLUME_ENDINGS:
        slices = tomogram_slices(volume, parts[0].positions_angstrom)
    return particles_figure(
        [p.positions_angstrom for p in parts],
        [p.rotations[:, :, 2] for p in parts],
        names,
        slices=slices,
        title=f"{tomogram}: particles before and after, with their z axes",
    )


def tomogram_slices(path: Path, positions: FloatArray) -> TomogramSlices | None:
    """Slices through the middle of those particles that lie in the tomogram; None where its voxel size is not known."""
    volume = open_volume(path)
    if volume.info.voxel_size_angstrom is None:
        return None
    nz, ny, nx = volume.info.shape
    frame = TomogramFrame(voxel_size_angstrom=volume.info.voxel_size_angstrom[0], size_xyz=(nx, ny, nz))
    low, high = frame.to_angstrom([[-0.5] * 3, [nx - 0.5, ny - 0.5, nz - 0.5]])
    inside = positions[((positions > low) & (positions < high)).all(axis=1)]
    at = np.median(inside, axis=0) if len(inside) else np.zeros(3)
    _, y, z = np.clip(np.round(frame.to_index(at)).astype(int), 0, np.array([nx, ny, nz]) - 1)
    cuts = _cuts(volume, int(z), int(y))
    return TomogramSlices(pictures=(cuts[0], cuts[1]), extent_angstrom=np.stack([low, high], axis=1), at_angstrom=at)


def check_volume(source: Path, target: Path, dtype: str) -> Check:
    """Compare some sections of both files, and draw central slices."""
    before, after = open_volume(source), open_volume(target)
    picture = picture_of(target)
    cuts = [_cuts(v) for v in (before, after)]
    _save(volumes_figure(cuts[0], cuts[1], (source.name, target.name), "Central slices before and after"), picture)
    lines, failed = _compare_volumes(before, after, dtype)
    return Check(lines=lines, failed=failed, pictures=(picture,))


def _true_section(volume: OpenVolume, section: int) -> FloatArray:
    info = volume.info
    stored = volume.read_stored(section, section + 1)[0]
    return np.asarray(stored, dtype=np.float64) * info.scale + info.offset


def _compare_volumes(before: OpenVolume, after: OpenVolume, dtype: str) -> tuple[tuple[str, ...], bool]:
    """Some sections of both, but for the twentieth of the voxels that differ most: int8 clips what is far from the mean."""
    if before.info.shape != after.info.shape:
        return (f"{before.info.shape[::-1]} voxels were read and {after.info.shape[::-1]} are there.",), True
    sections = np.unique(np.linspace(0, before.info.shape[0] - 1, _SECTIONS).astype(int))
    pairs = [(_true_section(before, int(s)), _true_section(after, int(s))) for s in sections]
    spread = float(np.sqrt(np.mean([np.var(a) for a, _ in pairs]))) or 1.0
    away = float(np.quantile(np.concatenate([np.abs(a - b).ravel() for a, b in pairs]), _MOST)) / spread
    words = (
        f"read back: in {len(sections)} sections 95% of the values differ by less than {100 * away:.2g}% of the standard "
        "deviation."
    )
    return (words,), away > (0.05 if dtype == "int8" else 0.005)


def _cuts(volume: OpenVolume, z: int | None = None, y: int | None = None) -> list[FloatArray]:
    """Slices across z, y and x, read slab by slab; central ones where no index is given."""
    nz, ny, nx = volume.info.shape
    z, y = nz // 2 if z is None else z, ny // 2 if y is None else y
    across_y, across_x = np.empty((nz, nx), dtype=np.float32), np.empty((nz, ny), dtype=np.float32)
    row = 0
    for slab in volume.true_slabs():
        across_y[row : row + len(slab)], across_x[row : row + len(slab)] = slab[:, y], slab[:, :, nx // 2]
        row += len(slab)
    return [_true_section(volume, z), np.asarray(across_y, dtype=np.float64), np.asarray(across_x, dtype=np.float64)]


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
