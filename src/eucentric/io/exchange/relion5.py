"""Tilt series in RELION-5's tables: poses as angles and shifts, one table a series beside a global one.

RELION's ``S(image centre) S(shift / px) Rz Ry Rx S(-specimen centre)`` is our own projection; the image's centre is ``int(n / 2)``,
as ours [1]_. Coordinates of particles are counted from size / 2 of the specimen, which is ``int(size / 2)`` only where the size is
even: sizes are written even. Magnification and local deformation are held together, as RELION's splines (`relion_deformation`).

References
----------
.. [1] RELION-5's sources, `tomogram.cpp` (setProjectionMatrix), `tomogram_set.cpp` (loadTomogram)
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import InputError
from eucentric.io.exchange.from_views import dose_notes, with_given_dose
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written
from eucentric.io.exchange.relion_common import (
    deformation_columns,
    deformations,
    losses_of,
    optics_of,
    read_deformations,
    signal_columns,
    star_tables,
    volume_size,
)
from eucentric.io.exchange.relion_deformation import warp_of_deformation
from eucentric.io.star import read_star_text, write_star
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.io.warps import read_folded_warp
from eucentric.models.optics_group_names import groups_of_optics
from eucentric.models.tilt_series import Tilt, TiltSeries

_TABLES = (
    "tilt_series.star", "aligned_tilt_series.star", "tilt_series_ctf.star", "tomograms.star", "corrected_tilt_series.star",
)  # fmt: skip
_UM = 1e4
_JOB = re.compile(r"\D")


def _recognises(place: Path) -> bool:
    file = _table(place)
    tables = None if file is None else star_tables(file)
    return tables is not None and "rlnTomoTiltSeriesStarFile" in tables.get("global", {})


def _table(place: Path) -> Path | None:
    if place.is_file():
        return place
    here = next((place / name for name in _TABLES if (place / name).is_file()), None)
    return here or _latest_job(place)


def _latest_job(project: Path) -> Path | None:
    """The table of the last job of a RELION project that wrote one."""
    tables = [t for job in project.glob("*/job[0-9]*") for name in _TABLES if (t := job / name).is_file()]
    return max(tables, key=lambda t: (int(_JOB.sub("", t.parent.name) or 0), -_TABLES.index(t.name)), default=None)


def read_relion5(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """All series of a RELION-5 table, or of the table in a job's folder.

    Raises
    ------
    InputError : as `read_tilt_series_set`, or neither the table nor image files tell the size of the images
    FormatError : a damaged table
    """
    file = _table(place)
    if file is None:
        raise InputError(f"`{place}` holds no table of tilt series ({', '.join(_TABLES[:4])}). Give the table itself.")
    series, root = _with_root(file)
    rows = read_star_text(file)["global"]
    out = []
    for i, one in enumerate(series):
        row = {label: values[i] for label, values in rows.items()}
        out.append(_geometry(one, row, file, root, given))
    if place.is_dir() and file.parent != place:
        said = f"Of the jobs in `{place}` the table of the last one was taken: `{file.relative_to(place)}`."
        out = [replace(g, notes=(said, *g.notes)) for g in out]
    return tuple(out)


def _with_root(file: Path) -> tuple[list[TiltSeries], Path]:
    """The series, and the folder from which the paths in the table are found: the nearest above it."""
    listed = read_star_text(file).get("global", {}).get("rlnTomoTiltSeriesStarFile") or []
    above = [*file.resolve().parents][:6]
    root = next((r for r in above if all((r / (name or "")).is_file() for name in listed)), above[0])
    return read_tilt_series_set(file, root), root


def _geometry(series: TiltSeries, row: dict[str, str | None], file: Path, root: Path, given: Given) -> SeriesGeometry:
    named = Path(row["rlnTomoTiltSeriesStarFile"] or "")
    place = next((base / named for base in (root, file.parent) if (base / named).is_file()), file)
    notes: list[str] = []
    coefficients, said = read_deformations(row, next(iter(read_star_text(place).values())), place)
    notes += said
    table_order = _order_in_table(place)
    known = "eucImageSizeX" in row or any(_found(t.image, root) is not None for t in series.tilts)
    shape = given.need_image_shape(series.image_shape if known else None, file)
    series = replace(series, image_shape=shape)
    if given.pixel_size_angstrom is not None:
        series = replace(series, pixel_size_angstrom=given.pixel_size_angstrom)
    if given.optics is not None:
        series = replace(series, optics=given.optics)
    warp = None
    if series.warp is not None and (path := _found(series.warp, root)) is not None:
        warp = read_folded_warp(path, series)
    elif coefficients is not None:
        ascending = coefficients[sorted(range(len(table_order)), key=table_order.__getitem__)]
        warp = warp_of_deformation(ascending, series.image_shape, series.pixel_size_angstrom)
    series = with_given_dose(series, given)
    notes += dose_notes(series, place)
    tilts = [replace(t, image=_absolute(t.image, root), movie=_absolute(t.movie, root)) for t in series.tilts]
    return SeriesGeometry(series=replace(series, tilts=tuple(tilts), warp=None), warp=warp, notes=tuple(notes))


def _order_in_table(place: Path) -> list[tuple[float, float]]:
    table = next(iter(read_star_text(place).values()))
    angles = table.get("rlnTomoNominalStageTiltAngle") or table.get("rlnTomoYTilt") or []
    dose = table.get("rlnMicrographPreExposure") or [None] * len(angles)
    return [(float(a or 0.0), float(d or 0.0)) for a, d in zip(angles, dose, strict=True)]


def _found(name: str | None, root: Path) -> Path | None:
    path = root / (name or "").rpartition("@")[2]
    return path if name and path.is_file() else None


def _absolute(name: str | None, root: Path) -> str | None:
    path = _found(name, root)
    if path is None or name is None:
        return name
    section = name.rpartition("@")[0]
    return f"{section}@{path}" if section else str(path)


def write_relion5(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """`tilt_series.star` (or the file named) with `tilt_series/<name>.star` beside; paths in it start from its folder."""
    if not geometries:
        raise InputError(f"There is no tilt series to write to `{place}`.")
    table = place if place.suffix.lower() == ".star" else place / "tilt_series.star"
    coefficients, losses = deformations(geometries)
    rows, files = [], []
    groups = groups_of_optics([g.series for g in geometries])
    for g, c, group in zip(geometries, coefficients, groups, strict=True):
        own = table.parent / "tilt_series" / f"{g.series.name}.star"
        of_row, of_tilts = deformation_columns(c)
        write_star(own, {g.series.name: _by_dose(g.series, tilt_columns(g.series) | of_tilts)})
        files.append(own)
        rows.append(_global_row(g.series, f"tilt_series/{own.name}", group) | of_row)
    labels = list(dict.fromkeys(label for row in rows for label in row))
    write_star(table, {"global": {label: [row.get(label) for row in rows] for label in labels}})
    return Written(files=(table, *files), losses=(*losses_of(geometries), *losses))


def relion_order(series: TiltSeries) -> list[int]:
    """Tilts as the rows of RELION's tables have them, by the dose before: its own programs sort them so, and trajectories follow."""
    keys = [(t.pre_exposure, t.acquisition) for t in series.tilts]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _by_dose(series: TiltSeries, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    order = relion_order(series)
    return {label: [column[i] for i in order] for label, column in columns.items()}


def _global_row(series: TiltSeries, file: str, group: str) -> dict[str, Any]:
    optics, tomogram = optics_of(series), series.tomogram
    x, y, z = volume_size(series)
    row: dict[str, Any] = {
        "rlnTomoName": series.name,
        "rlnVoltage": optics.voltage_kv,
        "rlnSphericalAberration": optics.spherical_aberration_mm,
        "rlnAmplitudeContrast": optics.amplitude_contrast,
        "rlnMicrographOriginalPixelSize": float(series.original_pixel_size_angstrom or series.pixel_size_angstrom),
        "rlnTomoHand": float(series.hand),
        "rlnOpticsGroupName": group,
        "rlnTomoTiltSeriesPixelSize": float(series.pixel_size_angstrom),
        "rlnTomoTiltSeriesStarFile": file,
        "rlnTomoSizeX": x,
        "rlnTomoSizeY": y,
        "rlnTomoSizeZ": z,
    }
    if tomogram is not None:
        row["rlnTomoTomogramBinning"] = tomogram.voxel_size_angstrom / series.pixel_size_angstrom
        row["rlnTomoReconstructedTomogram"] = tomogram.path
        if tomogram.half1 and tomogram.half2:
            row["rlnTomoReconstructedTomogramHalf1"] = tomogram.half1
            row["rlnTomoReconstructedTomogramHalf2"] = tomogram.half2
    return row


def tilt_columns(series: TiltSeries) -> dict[str, list[Any]]:
    """RELION's own columns of the tilts of a series, without ours."""
    tilts = series.tilts
    columns: dict[str, list[Any]] = {}

    def text(label: str, name: str) -> None:
        values = [getattr(t, name) for t in tilts]
        if all(v is not None for v in values):
            columns[label] = values

    text("rlnMicrographMovieName", "movie")
    columns["rlnTomoTiltMovieFrameCount"] = [t.frame_count for t in tilts]
    columns["rlnTomoNominalStageTiltAngle"] = [t.nominal_tilt_deg for t in tilts]
    columns["rlnTomoNominalTiltAxisAngle"] = [_axis(t) for t in tilts]
    columns["rlnMicrographPreExposure"] = [t.pre_exposure for t in tilts]
    columns["rlnTomoNominalDefocus"] = [_nominal_defocus(t) for t in tilts]
    text("rlnMicrographName", "image")
    text("rlnMicrographNameEven", "image_even")
    text("rlnMicrographNameOdd", "image_odd")
    if series.has_ctf:
        fits = [t.ctf for t in tilts if t.ctf is not None]
        columns["rlnDefocusU"] = [f.defocus_u_angstrom for f in fits]
        columns["rlnDefocusV"] = [f.defocus_v_angstrom for f in fits]
        columns["rlnCtfAstigmatism"] = [f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits]
        columns["rlnDefocusAngle"] = [f.astigmatism_angle_deg for f in fits]
        if any(f.phase_shift_deg for f in fits):
            columns["rlnPhaseShift"] = [f.phase_shift_deg for f in fits]
        columns["rlnCtfFigureOfMerit"] = [f.score if np.isfinite(f.score) else 0.0 for f in fits]
        columns["rlnCtfMaxResolution"] = [
            f.max_resolution_angstrom if np.isfinite(f.max_resolution_angstrom) else 10.0 for f in fits
        ]
    if all(t.pose is not None for t in tilts):
        poses = series.poses
        columns["rlnTomoXTilt"] = [p.x_tilt_deg for p in poses]
        columns["rlnTomoYTilt"] = [p.y_tilt_deg for p in poses]
        columns["rlnTomoZRot"] = [p.z_rot_deg for p in poses]
        columns["rlnTomoXShiftAngst"] = [p.x_shift_angstrom for p in poses]
        columns["rlnTomoYShiftAngst"] = [p.y_shift_angstrom for p in poses]
        columns |= signal_columns(series)
    return columns


def _axis(tilt: Tilt) -> float:
    if tilt.nominal_axis_deg is not None:
        return float(tilt.nominal_axis_deg)
    return 0.0 if tilt.pose is None else float(tilt.pose.z_rot_deg)


def _nominal_defocus(tilt: Tilt) -> float:
    """Micrometres, negative for underfocus."""
    if tilt.nominal_defocus_angstrom is not None:
        return -float(tilt.nominal_defocus_angstrom) / _UM
    return 0.0 if tilt.ctf is None else -tilt.ctf.defocus_angstrom / _UM


FORMAT = GeometryFormat(
    name="relion5",
    title="RELION-5 tilt-series tables (.star)",
    words=GeometryWords(
        origin="the specimen's centre; image pixel int(n / 2), counted from 0",
        unit="shifts in A, angles in degrees, defocus in A, dose in e/A2 before each image",
        hand="right-handed; defocus of a point = defocus of the tilt + rlnTomoHand * height towards the camera's z",
        angles="Rz(rlnTomoZRot) Ry(rlnTomoYTilt) Rx(rlnTomoXTilt), then the shift",
    ),
    recognises=_recognises,
    read=read_relion5,
    write=write_relion5,
)
