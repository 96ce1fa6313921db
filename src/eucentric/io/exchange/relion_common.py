"""What tables of tilt series of RELION-4 and RELION-5 share."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.exchange.relion_deformation import fitted_deformation
from eucentric.io.star import read_star_text
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray, PathLike

Texts = dict[str, list[str | None]]
DEFORMATION = "rlnTomoDeformationCoefficients"
GRID = ("rlnTomoDeformationGridSizeX", "rlnTomoDeformationGridSizeY")
DEFORMATION_TYPE = "rlnTomoDeformationType"
_MOST_NODES = 1 << 20


def star_tables(path: PathLike) -> dict[str, Texts] | None:
    """Tables of a STAR file; None where it is none. For asking what a file is."""
    if not str(path).lower().endswith(".star"):
        return None
    try:
        return read_star_text(path)
    except (FormatError, InputError):
        return None


def vector(text: str | None, count: int | None, place: PathLike, label: str) -> FloatArray:
    """Numbers of `[a,b,c]`.

    Raises
    ------
    FormatError : other than `count` finite numbers
    """
    words = (text or "").strip().strip("[]").replace(",", " ").split()
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        values = np.zeros(0)
    if not len(values) or not np.isfinite(values).all() or (count is not None and len(values) != count):
        expected = "numbers" if count is None else f"{count} numbers"
        raise FormatError(f"`{place}` has `{(text or 'nothing')[:60]}` for {label}; expected {expected} in brackets.")
    return values


def written_vector(values: FloatArray) -> str:
    """The text that :func:`vector` reads."""
    return "[" + ",".join(f"{v:.10g}" for v in np.ravel(values)) + "]"


def even(size: int) -> int:
    """RELION counts positions from size / 2 and turns about int(size / 2): only of even sizes are they the same."""
    return size + size % 2


def volume_size(series: TiltSeries) -> tuple[int, int, int]:
    """(x, y, z) in pixels of the images, even; where none is known the image's width and height and the specimen's thickness."""
    if series.volume_size_px is not None:
        x, y, z = series.volume_size_px
    else:
        thickness = series.thickness_angstrom or 0.0
        y, x = series.image_shape
        z = math.ceil(1.5 * thickness / series.pixel_size_angstrom) or max(x, y) // 4
    return even(x), even(y), even(z)


def optics_of(series: TiltSeries) -> Optics:
    """The optics of a series; InputError where it has no contrast transfer."""
    if series.optics is None:
        raise InputError(
            f"{series.name} was taken by scanning transmission and has no contrast transfer, which RELION needs. Write another format."
        )
    return series.optics


def signal_columns(series: TiltSeries) -> dict[str, list[Any]]:
    """What images show of the specimen; cosines of the tilt where it was not measured, as RELION weighs thicker ice."""
    scales = [float(t.signal_scale) for t in series.tilts]
    if all(s == 1.0 for s in scales):
        scales = [float(np.cos(np.deg2rad(p.y_tilt_deg))) for p in series.poses]
    fading = [float(t.b_factor_angstrom2) for t in series.tilts]
    return {"rlnCtfScalefactor": scales} | ({"rlnCtfBfactor": fading} if any(fading) else {})


def deformations(geometries: Sequence[SeriesGeometry]) -> tuple[list[FloatArray | None], list[str]]:
    """Coefficients by series, and what they miss in words. Where one series has some, all get some."""
    found = [fitted_deformation(g.series, g.warp) for g in geometries]
    losses = [
        f"{g.series.name}: RELION's spline of the local deformation is {f[1]:.2f} A rms from ours."
        for g, f in zip(geometries, found, strict=True)
        if f is not None and f[1] > 0.05
    ]
    if all(f is None for f in found):
        return [None] * len(found), losses
    return [
        np.zeros((len(g.series.tilts), 2, 2, 2, 4)) if f is None else f[0]
        for g, f in zip(geometries, found, strict=True)
    ], losses


def deformation_columns(coefficients: FloatArray | None) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Values of the row of a series in the global table, and the column of its tilts."""
    if coefficients is None:
        return {}, {}
    gy, gx = coefficients.shape[2:4]
    return (
        {GRID[0]: gx, GRID[1]: gy, DEFORMATION_TYPE: "spline"},
        {DEFORMATION: [written_vector(c) for c in coefficients]},
    )


def read_deformations(
    row: Mapping[str, str | None], table: Texts, place: Path
) -> tuple[FloatArray | None, tuple[str, ...]]:
    """Coefficients (tilt, 2, gy, gx, 4) in the order of the table, and a note where they are of a kind that is not read."""
    if row.get(GRID[0]) is None or DEFORMATION not in table:
        return None, ()
    kind = row.get(DEFORMATION_TYPE) or "spline"
    if kind != "spline":
        return None, (f"The local deformation of type {kind} was not taken over; RELION's splines are.",)
    try:
        gx, gy = (int(float(row.get(label) or "")) for label in GRID)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"`{place}` has no whole numbers for {' and '.join(GRID)}.") from error
    if min(gx, gy) < 2 or gx * gy > _MOST_NODES:
        raise FormatError(f"`{place}` has a deformation grid of {gx} x {gy}; expected 2 points or more along each.")
    values = [vector(text, 8 * gx * gy, place, DEFORMATION) for text in table[DEFORMATION]]
    out = np.array(values).reshape(-1, 2, gy, gx, 4)
    return (out if np.any(out) else None), ()


def losses_of(geometries: Sequence[SeriesGeometry]) -> list[str]:
    """What RELION's tables cannot hold of these series."""
    losses = []
    for g in geometries:
        if g.series.excluded:
            losses.append(
                f"{g.series.name}: {len(g.series.excluded)} excluded tilts are absent, and with them the reasons."
            )
        size = g.series.volume_size_px
        if size is not None and any(n % 2 for n in size):
            losses.append(
                f"{g.series.name}: the tomogram's size {' x '.join(map(str, size))} was made even: RELION has two centres in odd ones."
            )
    return losses
