"""The frame in which something was drawn, kept with it: the poses of the tomogram's tilts and its grid.

When a series is aligned or levelled again its frame moves. The images do not: the rigid motion under which the poses of both frames
project points to the same places carries what was drawn along.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io import labels
from eucentric.io.star import read_star_text, write_star
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.tilt_series import TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.repair_paths import frame_file
from eucentric.typing import FloatArray

TABLE = "reconstruct/tilt_series.star"
_COLUMNS = ("rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXTilt", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
_GRID = (labels.TOMOGRAM_SIZE_X, labels.TOMOGRAM_SIZE_Y, labels.TOMOGRAM_SIZE_Z)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawingFrame:
    """Poses by acquisition, and the grid of the tomogram."""

    acquisitions: tuple[int, ...]
    geometry: TiltGeometry
    grid: TomogramFrame

    @property
    def key(self) -> str:
        """Of this frame among those of its series; the same numbers, the same key."""
        text = repr([self.acquisitions, np.round(_rows(self.geometry), 6).tolist(), self.grid])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameMotion:
    """From one frame to another: ``rotation p + shift``."""

    rotation: FloatArray
    """(3, 3)."""
    shift_angstrom: FloatArray
    """(3,)."""
    rms_angstrom: float
    """By how much images of the specimen centre disagree after it."""

    def __call__(self, points_angstrom: ArrayLike) -> FloatArray:
        """Points (..., 3) in the other frame."""
        return np.asarray(np.asarray(points_angstrom, dtype=np.float64) @ self.rotation.T + self.shift_angstrom)


def _rows(geometry: TiltGeometry) -> FloatArray:
    return np.column_stack([geometry.y_tilt_deg, geometry.z_rot_deg, geometry.x_tilt_deg, geometry.shifts_angstrom])


def frame_of(series: TiltSeries) -> DrawingFrame:
    """The frame of the tomogram of a series.

    Raises
    ------
    InputError : it has no tomogram
    """
    if series.tomogram is None:
        raise InputError(f"{series.name} has no tomogram to draw in. Run `eucentric run` until reconstruct first.")
    z, y, x = series.tomogram.shape_zyx
    return poses_frame(
        series, TomogramFrame(voxel_size_angstrom=series.tomogram.voxel_size_angstrom, size_xyz=(x, y, z))
    )


def poses_frame(series: TiltSeries, grid: TomogramFrame) -> DrawingFrame:
    """The frame of the poses of a series, with a grid."""
    posed = [t for t in series.tilts if t.pose is not None]
    return DrawingFrame(
        acquisitions=tuple(t.acquisition for t in posed),
        geometry=TiltGeometry.from_poses([t.pose for t in posed if t.pose is not None]),
        grid=grid,
    )


def current_frame(root: Path, series: str) -> DrawingFrame:
    """The frame of the tomogram that a project has now; errors as :func:`frame_of`."""
    table = root / TABLE
    if not table.is_file():
        raise InputError(f"{series} has no tomogram to draw in. Run `eucentric run` until reconstruct first.")
    return frame_of(read_tilt_series(table, series, root))


def frame_blocks(frame: DrawingFrame) -> dict[str, dict[str, list[object]]]:
    """A frame as tables `poses` and `grid`."""
    rows = _rows(frame.geometry)
    poses: dict[str, list[object]] = {labels.ACQUISITION: list(frame.acquisitions)}
    poses |= {name: rows[:, i].tolist() for i, name in enumerate(_COLUMNS)}
    poses[labels.MAGNIFICATION] = frame.geometry.magnification.tolist()
    grid: dict[str, list[object]] = {name: [n] for name, n in zip(_GRID, frame.grid.size_xyz, strict=True)}
    grid[labels.TOMOGRAM_VOXEL_SIZE] = [frame.grid.voxel_size_angstrom]
    return {"poses": poses, "grid": grid}


def frame_from_blocks(tables: dict[str, dict[str, list[str | None]]], place: Path) -> DrawingFrame:
    """The frame of tables as :func:`frame_blocks` makes them.

    Raises
    ------
    FormatError : tables or columns that are missing, or no numbers
    """
    try:
        poses, grid = tables["poses"], tables["grid"]
        numbers = {name: np.array([float(v or "") for v in poses[name]]) for name in (*_COLUMNS, labels.MAGNIFICATION)}
        geometry = TiltGeometry.build(
            numbers["rlnTomoYTilt"],
            z_rot_deg=numbers["rlnTomoZRot"],
            x_tilt_deg=numbers["rlnTomoXTilt"],
            shifts_angstrom=np.column_stack([numbers["rlnTomoXShiftAngst"], numbers["rlnTomoYShiftAngst"]]),
            magnification=numbers[labels.MAGNIFICATION],
        )
        x, y, z = (int(grid[name][0] or "") for name in _GRID)
        voxel = float(grid[labels.TOMOGRAM_VOXEL_SIZE][0] or "")
        acquisitions = tuple(int(v or "") for v in poses[labels.ACQUISITION])
    except (KeyError, ValueError, IndexError) as error:
        raise FormatError(f"`{place}` does not hold the frame of a tomogram: {error}. Draw again.") from error
    grid_of = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))
    return DrawingFrame(acquisitions=acquisitions, geometry=geometry, grid=grid_of)


def keep_frame(root: Path, series: str, frame: DrawingFrame) -> str:
    """Write a frame where it is not kept yet; its key."""
    path = frame_file(root, series, frame.key)
    if not path.is_file():
        write_star(path, frame_blocks(frame))
    return frame.key


def read_frame(root: Path, series: str, key: str) -> DrawingFrame:
    """A frame that was kept.

    Raises
    ------
    InputError, FormatError : it is gone, or damaged
    """
    path = frame_file(root, series, key)
    if not path.is_file():
        raise InputError(f"`{path}` is gone, and what was drawn in that frame cannot be placed. Put the file back.")
    return frame_from_blocks(read_star_text(path), path)


def motion_between(old: DrawingFrame, new: DrawingFrame, series: str) -> FrameMotion:
    """The rigid motion that carries points of one frame of a series to the other.

    Raises
    ------
    InputError : frames without a common tilt
    """
    if old.key == new.key:
        return FrameMotion(rotation=np.eye(3), shift_angstrom=np.zeros(3), rms_angstrom=0.0)
    common = [a for a in old.acquisitions if a in set(new.acquisitions)]
    if not common:
        raise InputError(f"What was drawn in {series} has no tilt in common with its tomogram now. Draw it again.")
    a, b = (_part(frame, common) for frame in (old, new))
    u, _, vt = np.linalg.svd((np.swapaxes(b.matrices, 1, 2) @ a.matrices).mean(0))
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    design = b.image_matrices.reshape(-1, 3)
    wanted = (a.shifts_angstrom - b.shifts_angstrom).reshape(-1)
    shift = np.linalg.lstsq(design, wanted, rcond=1e-6)[0]
    left = (design @ shift - wanted).reshape(-1, 2)
    return FrameMotion(
        rotation=np.asarray(rotation),
        shift_angstrom=np.asarray(shift),
        rms_angstrom=float(np.sqrt((left**2).sum(1).mean())),
    )


def _part(frame: DrawingFrame, acquisitions: Sequence[int]) -> TiltGeometry:
    where = {a: i for i, a in enumerate(frame.acquisitions)}
    return frame.geometry[[where[a] for a in acquisitions]]
