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
    """Spacing is cos(tilt) / PHASES: every row of voxels reads at unit stride."""
    length: int
    """Fine samples of a line: a multiple of PHASES, enough for every voxel of the volume, for every tilt."""
    rows: int
    """Rows of an image."""

    @property
    def sheared(self) -> bool:
        """Some voxels read between two image rows: there is a tilt about x."""
        return bool(np.any(self.rz != 0.0) or np.any(self.ry != 1.0))

    def __len__(self) -> int:
        return len(self.q0)

    def select(self, index: np.ndarray) -> "LineLayout":
        """The layout of some of the tilts."""
        per_tilt = ("qx", "qy", "qz", "q0", "ry", "rz", "r0", "step", "stretched")
        return LineLayout(**{k: getattr(self, k)[index] for k in per_tilt}, length=self.length, rows=self.rows)


def line_layout(
    tilt_angles_deg: ArrayLike,
    volume_shape: tuple[int, int, int],
    rows: int,
    *,
    x_tilts_deg: ArrayLike | None = None,
    rows_per_voxel: int = 1,
) -> LineLayout:
    """Lay out the fine lines that a volume needs.

    Parameters
    ----------
    tilt_angles_deg : (tilt,) about y: u = cos(tilt) x + sin(tilt) z
    volume_shape : (z, y, x), the whole volume even where only a part of it is made
    rows : of an image
    x_tilts_deg : (tilt,) about x, applied before the tilt about y; none means zero
    rows_per_voxel : image rows per voxel, from the row `rows // 2` that holds the centre

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
    step = np.where(stretched, c, 1.0) / PHASES
    # u = c x + s (sx y + cx z) of Ry Rx, row = cx y - sx z; a stretched line runs backwards where |tilt| > 90
    qx = np.where(stretched, PHASES, c / step)
    qy, qz = s * sx / step, s * cx / step
    reach = np.array([max(n // 2, n - 1 - n // 2) for n in volume_shape])
    extent = np.abs(qz) * reach[0] + np.abs(qy) * reach[1] + np.abs(qx) * reach[2]
    half = int(np.ceil(extent.max() / PHASES)) + _SLACK
    return LineLayout(
        qx=qx,
        qy=qy,
        qz=qz,
        q0=np.full_like(tilt, PHASES * half),
        ry=rows_per_voxel * cx,
        rz=-rows_per_voxel * sx,
        r0=np.full_like(tilt, rows // 2),
        step=step,
        stretched=stretched,
        length=PHASES * (2 * half + 1),
        rows=rows,
    )
