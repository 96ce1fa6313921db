"""Where every voxel reads its projection line: the affine index map shared by all back ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

PHASES = 2
"""Samples of a fine line per voxel: with lines twice as fine, two taps are as good as four."""
STRETCH_LIMIT_DEG = 75.0
"""Beyond this tilt the stretched lines grow too long, and lines of plain spacing are used."""
_SLACK = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineLayout:
    """Affine map from centred voxel indices (X, Y, Z) to a sample of each tilt's fine lines.

    sample = ``qx X + qy Y + qz Z + q0``, row = ``ry Y + rz Z + r0``; every field but the sizes is (tilt,). Fine sample
    q lies at ``u = (q - q0) * step`` voxels from the tilt axis.
    """

    qx: FloatArray
    qy: FloatArray
    qz: FloatArray
    q0: FloatArray
    ry: FloatArray
    rz: FloatArray
    r0: FloatArray
    step: FloatArray
    """Spacing of the fine samples in voxels, across the tilt axis."""
    stretched: np.ndarray
    """Spacing is cos(tilt) / phases: every row of voxels reads at unit stride."""
    length: int
    """Fine samples of a line: a multiple of `phases`, enough for every voxel of the volume, for every tilt."""
    rows: int
    """Rows of an image."""
    needed: np.ndarray
    """(tilt, 2), the first fine sample that any voxel reads, and the one after the last."""
    phases: int = PHASES
    """Samples of a stretched line per voxel."""

    @property
    def sheared(self) -> bool:
        """Some voxels read between two image rows: there is a tilt about x."""
        return bool(np.any(self.rz != 0.0) or np.any(self.ry != 1.0))

    def __len__(self) -> int:
        return len(self.q0)

    def select(self, index: np.ndarray) -> "LineLayout":
        """The layout of some of the tilts."""
        per_tilt = ("qx", "qy", "qz", "q0", "ry", "rz", "r0", "step", "stretched", "needed")
        arrays = {k: getattr(self, k)[index] for k in per_tilt}
        return LineLayout(**arrays, length=self.length, rows=self.rows, phases=self.phases)


def line_layout(
    tilt_angles_deg: ArrayLike,
    volume_shape: tuple[int, int, int],
    rows: int,
    *,
    x_tilts_deg: ArrayLike | None = None,
    rows_per_voxel: int = 1,
    phases: int = PHASES,
) -> LineLayout:
    """Lay out the fine lines that a volume needs.

    Parameters
    ----------
    tilt_angles_deg : (tilt,) about y: u = cos(tilt) x + sin(tilt) z
    volume_shape : (z, y, x), the whole volume even where only a part of it is made
    rows : of an image
    x_tilts_deg : (tilt,) about x, applied before the tilt about y; none means zero
    rows_per_voxel : image rows per voxel, from the row `rows // 2` that holds the centre
    phases : samples of a line per voxel: more of them leave less of the aliases that two-tap reads make

    Raises
    ------
    InputError : an angle that is not finite, or no angle
    ShapeError : an empty volume, or angles that do not match each other
    """
    tilt = np.atleast_1d(np.asarray(tilt_angles_deg, dtype=np.float64))
    x_tilt = np.zeros_like(tilt) if x_tilts_deg is None else np.atleast_1d(np.asarray(x_tilts_deg, dtype=np.float64))
    if x_tilt.shape != tilt.shape or len(tilt.shape) > 1:
        raise ShapeError(
            f"Tilts of shape {tilt.shape} and x tilts of shape {x_tilt.shape} were given; expected one each."
        )
    if not len(tilt) or not (np.isfinite(tilt).all() and np.isfinite(x_tilt).all()):
        raise InputError(f"The tilt angles are {tilt.tolist()}; expected at least one, all finite.")
    if min(volume_shape) < 1 or rows < 1:
        raise ShapeError(
            f"A volume of shape {tuple(volume_shape)} and images of {rows} rows were given; expected sizes > 0."
        )
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    cx, sx = np.cos(np.deg2rad(x_tilt)), np.sin(np.deg2rad(x_tilt))
    stretched = np.abs(c) >= np.cos(np.deg2rad(STRETCH_LIMIT_DEG))
    step = np.where(stretched, c, 1.0) / phases
    # u = c x + s (sx y + cx z) of Ry Rx, row = cx y - sx z; a stretched line runs backwards where |tilt| > 90
    qx = np.where(stretched, phases, c / step)
    qy, qz = s * sx / step, s * cx / step
    reach = np.array([max(n // 2, n - 1 - n // 2) for n in volume_shape])
    extent = np.abs(qz) * reach[0] + np.abs(qy) * reach[1] + np.abs(qx) * reach[2]
    half = int(np.ceil(extent.max() / phases)) + _SLACK
    first = np.floor(phases * half - extent).astype(np.int64) - 1
    last = np.ceil(phases * half + extent).astype(np.int64) + 3
    return LineLayout(
        qx=qx,
        qy=qy,
        qz=qz,
        q0=np.full_like(tilt, phases * half),
        ry=rows_per_voxel * cx,
        rz=-rows_per_voxel * sx,
        r0=np.full_like(tilt, rows // 2),
        step=step,
        stretched=stretched,
        length=phases * (2 * half + 1),
        rows=rows,
        needed=np.stack([np.maximum(first, 0), np.minimum(last, phases * (2 * half + 1))], axis=1),
        phases=phases,
    )


def read_gain(layout: LineLayout, tilt: int, planes: int, frequency: FloatArray) -> FloatArray:
    """Mean gain of the two-tap reads of a tilt, over all planes, at frequencies across the axis in cycles per voxel."""
    cycles = np.minimum(np.abs(frequency) * abs(layout.step[tilt]), 0.25)
    if not layout.stretched[tilt] or layout.sheared:
        return np.asarray(np.sinc(cycles) ** 2, dtype=np.float64)
    # all voxels of a row read at one fraction, which depends on the plane alone
    part = (layout.qz[tilt] * (np.arange(planes) - planes // 2)) % 1.0
    omega = np.linspace(0.0, 0.5 * np.pi, 129)
    gain = (1.0 - part[:, None]) * np.cos(part[:, None] * omega) + part[:, None] * np.cos((1.0 - part[:, None]) * omega)
    return np.asarray(np.interp(2.0 * np.pi * cycles, omega, gain.mean(0)), dtype=np.float64)


def projector_gain(layout: LineLayout, tilt: int, planes: int, frequency: FloatArray) -> FloatArray:
    """Mean gain of :func:`eucentric.projection.project` at frequencies across the axis in cycles per voxel.

    Its lines are read through the interpolating cubic B-spline, whose response is ``sinc^4`` over that of the sampled
    B-spline, ``(2 + cos) / 3``, and then with two taps.
    """
    spline = np.sinc(frequency) ** 4 * 3.0 / (2.0 + np.cos(2.0 * np.pi * frequency))
    return np.asarray(spline * read_gain(layout, tilt, planes, frequency), dtype=np.float64)
