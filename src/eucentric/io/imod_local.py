"""IMOD's local alignments: what `tiltalign` writes and `tilt` reads as LOCALFILE.

The first line has the number of areas along x and y, the centre of the first one (x, y), the distances between centres, then
optionally: whether x-tilts follow, the pixel size, whether z factors follow. For each area, x fastest, come the change of
the tilt angle of each view, that of the x-tilt and the z factors where promised, and one linear transform a view, as in `.xf`.

`tilt` projects a point of the reconstruction with the angles of an area, applies its transform about the middle of the
aligned image, and takes the mean of the four areas around, weighted bilinearly by where the point lies in x and y; beyond the
outer centres it takes those at the edge [1]_. Positions count from 1 in the aligned image of the whole stack. What is found
depends on the point's height only through the changed angles, so a pure shift moves a whole column alike.

References
----------
.. [1] IMOD's sources, `flib/tilt/tilt.f90`: LOCALFILE, `local_factors`, `localProjFactors`
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry import rotation_x, rotation_y
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import FloatArray, PathLike

_MOST_AREAS = 10_000
_STEEP = 0.05  # cosine of a tilt: no image is taken beyond


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImodLocal:
    """Local alignments of all views of a stack. Lengths in pixels of the images that were aligned."""

    start_px: tuple[float, float]
    """(x, y) of the centre of the first area, counted from 1."""
    step_px: tuple[float, float]
    tilts_deg: FloatArray
    """(area y, area x, view), added to the tilts of the whole images."""
    x_tilts_deg: FloatArray
    """(area y, area x, view), added to their x-tilts."""
    matrices: FloatArray
    """(area y, area x, view, 2, 2)"""
    shifts_px: FloatArray
    """(area y, area x, view, 2)"""
    pixel_size_angstrom: float | None = None
    has_z_factors: bool = False

    @property
    def areas(self) -> tuple[int, int]:
        """(y, x)"""
        y, x = self.tilts_deg.shape[:2]
        return y, x

    def scaled(self, factor: float) -> "ImodLocal":
        """In pixels that are smaller by a factor."""
        return ImodLocal(
            start_px=(self.start_px[0] * factor, self.start_px[1] * factor),
            step_px=(self.step_px[0] * factor, self.step_px[1] * factor),
            tilts_deg=self.tilts_deg,
            x_tilts_deg=self.x_tilts_deg,
            matrices=self.matrices,
            shifts_px=self.shifts_px * factor,
            pixel_size_angstrom=None if self.pixel_size_angstrom is None else self.pixel_size_angstrom / factor,
            has_z_factors=self.has_z_factors,
        )

    def displacement(
        self, view: int, points_px: FloatArray, tilt_deg: float, x_tilt_deg: float, aligned_size: tuple[float, float]
    ) -> FloatArray:
        """(point, 2): by how much the aligned image of a view shows points elsewhere than without local alignment.

        Parameters
        ----------
        points_px : (point, 3) of the reconstruction from its centre, z up
        tilt_deg, x_tilt_deg : of the whole view
        aligned_size : (x, y) of the aligned images
        """
        gy, gx = self.areas
        whole = points_px @ _rows(tilt_deg, x_tilt_deg).T
        out = np.zeros((len(points_px), 2))
        low, part = [], []
        for axis, count in ((0, gx), (1, gy)):
            place = points_px[:, axis] + aligned_size[axis] / 2 + 0.5 - self.start_px[axis]
            steps: FloatArray = np.clip(place / self.step_px[axis], 0.0, count - 1)
            first = np.minimum(steps.astype(np.int64), count - 2)
            low.append(first)
            part.append(steps - first)
        for j in (0, 1):
            for i in (0, 1):
                weight = np.abs(1 - i - part[0]) * np.abs(1 - j - part[1])
                area = (low[1] + j, low[0] + i)
                rows = _rows(tilt_deg + self.tilts_deg[..., view], x_tilt_deg + self.x_tilts_deg[..., view])[area]
                seen = np.einsum("pij,pj->pi", rows, points_px)
                moved = np.einsum("pij,pj->pi", self.matrices[(*area, view)], seen) + self.shifts_px[(*area, view)]
                out = out + weight[:, None] * (moved - whole)
        return out

    def displacement_in_image(
        self,
        view: int,
        places_px: FloatArray,
        tilt_deg: float,
        x_tilt_deg: float,
        aligned_size: tuple[float, float],
        transform: tuple[FloatArray, FloatArray],
    ) -> FloatArray:
        """(place, 2): the same in the raw image at places from its middle, of points at the height of the tilt axis.

        Parameters
        ----------
        transform : matrix (2, 2) and shift (2,) from the raw to the aligned image
        """
        matrix, shift = transform
        points = points_at_axis_height(places_px @ matrix.T + shift, tilt_deg, x_tilt_deg)
        moved = self.displacement(view, points, tilt_deg, x_tilt_deg, aligned_size)
        return np.asarray(np.linalg.solve(matrix, moved.T).T, dtype=np.float64)


def _rows(tilt_deg: FloatArray | float, x_tilt_deg: FloatArray | float) -> FloatArray:
    """(..., 2, 3): where `tilt` sees points in the aligned image."""
    out: FloatArray = (rotation_y(tilt_deg) @ rotation_x(x_tilt_deg))[..., :2, :]
    return out


def points_at_axis_height(places_px: FloatArray, tilt_deg: float, x_tilt_deg: float) -> FloatArray:
    """(place, 3): points of the reconstruction at height 0 that the aligned image shows at places (place, 2) from its middle."""
    rows = _rows(tilt_deg, x_tilt_deg)
    cosine = max(float(np.cos(np.deg2rad(tilt_deg))), _STEEP)
    y = places_px[:, 1] / max(float(rows[1, 1]), _STEEP)
    x = (places_px[:, 0] - y * rows[0, 1]) / cosine
    return np.column_stack([x, y, np.zeros(len(places_px))])


def read_local(path: PathLike, views: int) -> ImodLocal:
    """A LOCALFILE of a stack of so many views.

    Raises
    ------
    InputError : no such file
    FormatError : another number of values than its first line and the number of views ask for, or values that are no numbers
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist. Copy it there: tilt.com names it as its LOCALFILE.")
    first, _, rest = place.read_text(encoding="latin-1").partition("\n")
    try:
        head = [float(word) for word in first.replace(",", " ").split()]
        values = np.array(rest.replace(",", " ").split(), dtype=np.float64)
    except ValueError as error:
        raise FormatError(f"`{place}` holds words that are no numbers; expected a local alignment of IMOD.") from error
    if len(head) < 6 or not np.isfinite(head).all() or not np.isfinite(values).all():
        raise FormatError(f"`{place}` begins with `{first[:60]}`; expected numbers of areas, their start and spacing.")
    gx, gy = int(head[0]), int(head[1])
    if min(gx, gy) < 2 or gx * gy > _MOST_AREAS or min(head[4:6]) <= 0:
        raise FormatError(
            f"`{place}` has {gx} x {gy} areas; expected two or more along x and y, apart from each other."
        )
    has_x_tilts, has_z = len(head) > 6 and head[6] > 0, len(head) > 8 and head[8] > 0
    per_area = views * (1 + has_x_tilts + 2 * has_z + 6)
    if len(values) != gx * gy * per_area:
        raise FormatError(
            f"`{place}` has {len(values)} values after its first line; expected {gx * gy * per_area} for {gx} x {gy} areas of "
            f"{views} views."
        )
    table = values.reshape(gy, gx, per_area)
    transforms = table[..., per_area - 6 * views :].reshape(gy, gx, views, 6)
    return ImodLocal(
        start_px=(head[2], head[3]),
        step_px=(head[4], head[5]),
        tilts_deg=table[..., :views],
        x_tilts_deg=table[..., views : 2 * views] if has_x_tilts else np.zeros((gy, gx, views)),
        matrices=transforms[..., :4].reshape(gy, gx, views, 2, 2),
        shifts_px=transforms[..., 4:],
        pixel_size_angstrom=head[7] if len(head) > 7 and head[7] > 0 else None,
        has_z_factors=has_z,
    )


def write_local(path: PathLike, local: ImodLocal) -> None:
    """Write a LOCALFILE, without z factors. Starts and spacings are rounded to whole pixels, as `tilt` does.

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    gy, gx = local.areas
    numbers = [gx, gy, *(round(v) for v in (*local.start_px, *local.step_px))]
    has_x_tilts = bool(np.any(local.x_tilts_deg))
    lines = ["".join(f"{n:7d}" for n in numbers) + f"{int(has_x_tilts):4d}{local.pixel_size_angstrom or 0.0:12.5f}   0"]
    for j in range(gy):
        for i in range(gx):
            for angles in (local.tilts_deg, local.x_tilts_deg) if has_x_tilts else (local.tilts_deg,):
                row = [f"{a:9.3f}" for a in angles[j, i]]
                lines += ["".join(row[k : k + 10]) for k in range(0, len(row), 10)]
            for matrix, shift in zip(local.matrices[j, i], local.shifts_px[j, i], strict=True):
                lines.append("".join(f"{a:12.7f}" for a in matrix.ravel()) + "".join(f"{d:12.3f}" for d in shift))
    write_text_atomic(path, "".join(line + "\n" for line in lines))
