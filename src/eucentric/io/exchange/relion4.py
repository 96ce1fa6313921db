"""Tilt series in RELION-4's one table: projection matrices of pixels, a global block and one block a series.

``pixel = P X`` with X in pixels of the images from the corner of the specimen, whose centre is size / 2; P is ours with the
magnification in its first two rows. RELION-5 reads such a table too, and Warp 2 writes one for its particles that holds rotations
only: its fourth column is empty [1]_.

References
----------
.. [1] RELION's sources, `tomogram_set.cpp` (loadTomogram), `tomogram.cpp` (getCtf); Warp's `ExportParticlesTiltseries.cs`
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.exchange.from_views import dose_notes, with_given_dose
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written
from eucentric.io.exchange.relion_common import (
    Texts,
    deformation_columns,
    deformations,
    losses_of,
    optics_of,
    read_deformations,
    signal_columns,
    star_tables,
    vector,
    volume_size,
    written_vector,
)
from eucentric.io.exchange.relion_deformation import warp_of_deformation
from eucentric.io.mrc import read_mrc_header
from eucentric.io.star import read_star_text, write_star
from eucentric.models.optics import Optics
from eucentric.models.optics_group_names import given_group, groups_of_optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.typing import FloatArray

_PROJECTIONS = tuple(f"rlnTomoProj{row}" for row in "XYZW")
_TABLES = ("tomograms.star", "tomograms_rln4.star")
_NO_ROTATION = 1e-3


def _table(place: Path) -> Path | None:
    if place.is_file():
        return place
    return next((place / name for name in _TABLES if (place / name).is_file()), None)


def _recognises(place: Path) -> bool:
    file = _table(place)
    tables = None if file is None else star_tables(file)
    return (
        tables is not None
        and "rlnTomoTiltSeriesStarFile" not in tables.get("global", {})
        and any(_PROJECTIONS[0] in table for table in tables.values())
    )


def read_relion4(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """All series of a RELION-4 table with projection matrices.

    Raises
    ------
    InputError : no such file, or neither the stack nor the user tells the size of the images
    FormatError : no matrices, or ones that are no projections
    """
    file = _table(place)
    if file is None:
        raise InputError(f"`{place}` holds no {_TABLES[0]}. Give the table itself.")
    tables = read_star_text(file)
    listing = tables.get("global")
    if listing is None:
        raise FormatError(f"`{file}` has no `data_global` table; expected a RELION-4 table of tomograms.")
    names = listing.get("rlnTomoName") or []
    out = []
    for i, name in enumerate(names):
        if name is None or name not in tables or _PROJECTIONS[0] not in tables[name]:
            raise FormatError(
                f"`{file}` lists {name}, but has no table `data_{name}` with {_PROJECTIONS[0]}. Expected a RELION-4 table."
            )
        out.append(_series(name, {label: c[i] for label, c in listing.items()}, tables[name], file, given))
    if not out:
        raise FormatError(f"`{file}` lists no tilt series.")
    return tuple(out)


def _value(row: Mapping[str, str | None], label: str, file: Path, default: float | None = None) -> float:
    text = row.get(label)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"`{file}` has `{(text or 'nothing')[:60]}` for {label}; expected a number.")
    return value


def _series(name: str, row: Mapping[str, str | None], table: Texts, file: Path, given: Given) -> SeriesGeometry:
    pixel = given.need_pixel_size(_value(row, "rlnTomoTiltSeriesPixelSize", file, 0.0) or None, file)
    stack, found = _stack(row.get("rlnTomoTiltSeriesName"), file)
    size = np.array([_value(row, f"rlnTomoSize{axis}", file) for axis in "XYZ"])
    missing = [label for label in _PROJECTIONS if not table.get(label)]
    if missing:
        raise FormatError(
            f"`{file}` has no {', '.join(missing)} for {name}; expected four rows of each projection matrix."
        )
    matrices = np.stack([[vector(v, 4, file, label) for v in table[label]] for label in _PROJECTIONS], axis=1)
    notes = []
    rotations_only = not np.any(matrices[:, :2, 3])
    shape = given.image_shape or found
    if rotations_only:
        notes.append(
            f"{name}: the matrices hold rotations only, as Warp writes them: shifts are unknown and were left at 0. "
            "Take them from Warp's own .xml."
        )
        shape = shape or (int(size[1]), int(size[0]))
    shape = given.need_image_shape(shape, file)
    poses = _poses(matrices, size, shape, pixel, rotations_only, file)
    before = np.array([_number(table, "rlnMicrographPreExposure", i, file, 0.0) for i in range(len(matrices))])
    order = np.argsort(np.argsort(before, kind="stable"), kind="stable")
    steps = np.diff(np.unique(before))
    dose = _value(row, "rlnTomoImportFractionalDose", file, float(np.median(steps)) if len(steps) else 0.0)
    tilts = [
        Tilt(
            nominal_tilt_deg=pose.y_tilt_deg,
            acquisition=int(order[i]),
            dose=dose,
            pre_exposure=float(before[i]),
            image=None if stack is None else f"{i + 1}@{stack}",
            nominal_axis_deg=pose.z_rot_deg,
            pose=pose,
            ctf=_ctf(table, i, file),
        )
        for i, pose in enumerate(poses)
    ]
    ascending = sorted(range(len(tilts)), key=lambda i: (tilts[i].nominal_tilt_deg, tilts[i].acquisition))
    optics = given.optics or Optics(
        voltage_kv=_value(row, "rlnVoltage", file, 300.0),
        spherical_aberration_mm=_value(row, "rlnSphericalAberration", file, 2.7),
        amplitude_contrast=_value(row, "rlnAmplitudeContrast", file, 0.07),
    )
    coefficients, said = read_deformations(row, table, file)
    warp: ImageWarp | None = None
    if coefficients is not None:
        warp = warp_of_deformation(coefficients[ascending], shape, pixel)
    series = TiltSeries(
        name=given.name or tomogram_name(name),
        pixel_size_angstrom=pixel,
        image_shape=shape,
        tilts=tuple(tilts[i] for i in ascending),
        optics=optics,
        optics_group=given_group(row.get("rlnOpticsGroupName")),
        hand=_value(row, "rlnTomoHand", file, -1.0),
        volume_size_px=(int(size[0]), int(size[1]), int(size[2])),
    )
    series = with_given_dose(series, given)
    return SeriesGeometry(series=series, warp=warp, notes=(*notes, *said, *dose_notes(series, file)))


def _stack(name: str | None, file: Path) -> tuple[Path | None, tuple[int, int] | None]:
    """The stack that a table names, and the size (y, x) of its images; of a place-holder neither."""
    bare = (name or "").partition(":")[0]
    for root in [*file.resolve().parents][:6]:
        if bare and (root / bare).is_file():
            shape = read_mrc_header(root / bare).shape
            return (root / bare, shape[1:]) if min(shape[1:]) > 2 else (None, None)
    return None, None


def _poses(
    matrices: FloatArray, size: FloatArray, shape: tuple[int, int], pixel: float, rotations_only: bool, file: Path
) -> list[TiltPose]:
    centre = matrices[:, :3, :3] @ (size / 2.0) + matrices[:, :3, 3]
    shifts = (centre[:, :2] - np.array(shape[::-1]) // 2) * pixel * (not rotations_only)
    lengths = np.linalg.norm(matrices[:, :3, :3], axis=2)
    if not (lengths > 0.1).all() or not (lengths < 10).all():
        raise FormatError(f"`{file}` has a matrix that is no projection of pixels. Expected rotations in its rows.")
    turned = matrices[:, :3, :3] / lengths[..., None]
    away = float(np.abs(turned @ np.swapaxes(turned, 1, 2) - np.eye(3)).max())
    if away > _NO_ROTATION or (np.linalg.det(turned) < 0).any():
        raise FormatError(
            f"`{file}` has a matrix that mirrors or shears the specimen by {away:.2g}. Expected rotations."
        )
    magnification = lengths[:, :2].mean(axis=1) / lengths[:, 2]
    y = np.degrees(np.arctan2(-turned[:, 2, 0], np.hypot(turned[:, 2, 1], turned[:, 2, 2])))
    x = np.degrees(np.arctan2(turned[:, 2, 1], turned[:, 2, 2]))
    z = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    return [
        TiltPose(
            y_tilt_deg=float(y[i]),
            z_rot_deg=float(z[i]),
            x_tilt_deg=float(x[i]),
            x_shift_angstrom=float(shifts[i, 0]),
            y_shift_angstrom=float(shifts[i, 1]),
            magnification=float(m) if abs(m - 1.0) > 1e-6 else 1.0,
        )
        for i, m in enumerate(magnification)
    ]


def _number(table: Texts, label: str, row: int, file: Path, default: float) -> float:
    return _value({label: table[label][row]} if label in table else {}, label, file, default)


def _ctf(table: Texts, row: int, file: Path) -> CtfFit | None:
    if "rlnDefocusU" not in table or table["rlnDefocusU"][row] is None:
        return None
    u = _number(table, "rlnDefocusU", row, file, math.nan)
    return CtfFit(
        defocus_u_angstrom=u,
        defocus_v_angstrom=_number(table, "rlnDefocusV", row, file, u),
        astigmatism_angle_deg=_number(table, "rlnDefocusAngle", row, file, 0.0),
        phase_shift_deg=_number(table, "rlnPhaseShift", row, file, 0.0),
    )


def projection_matrices(series: TiltSeries, size_xyz: tuple[int, int, int]) -> FloatArray:
    """(tilt, 4, 4): pixels (x, y from 0; z) of the images from pixels of a specimen of a size, from its corner."""
    geometry = TiltGeometry.from_poses(series.poses)
    out = np.tile(np.eye(4), (len(geometry), 1, 1))
    out[:, :3, :3] = geometry.matrices
    out[:, :2, :3] *= geometry.magnification[:, None, None]
    out[:, :3, 3] = -out[:, :3, :3] @ (np.array(size_xyz) / 2.0)
    out[:, :2, 3] += geometry.shifts_angstrom / series.pixel_size_angstrom + np.array(series.image_shape[::-1]) // 2
    return out


def write_relion4(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """`tomograms.star`, or the file named; stacks are named as the tilts name them."""
    if not geometries:
        raise InputError(f"There is no tilt series to write to `{place}`.")
    file = place if place.suffix.lower() == ".star" else place / _TABLES[0]
    rigid = [replace(g, series=_unmagnified(g.series)) for g in geometries]
    coefficients, losses = deformations(rigid)
    losses = [*losses_of(geometries), *losses]
    rows, blocks = [], {}
    groups = groups_of_optics([g.series for g in geometries])
    for g, c, group in zip(geometries, coefficients, groups, strict=True):
        of_row, of_tilts = deformation_columns(c)
        stack = _one_stack(g.series)
        if stack is None:
            losses.append(
                f"{g.series.name}: its images are not the sections of one stack, in order; the table names none."
            )
        rows.append(_row(g.series, stack, group) | of_row)
        blocks[g.series.name] = _tilt_columns(g.series) | of_tilts
    labels = list(dict.fromkeys(label for row in rows for label in row))
    write_star(file, {"global": {label: [row.get(label) for row in rows] for label in labels}} | blocks)
    return Written(files=(file,), losses=tuple(losses))


def _unmagnified(series: TiltSeries) -> TiltSeries:
    return series.with_tilts(
        [replace(t, pose=replace(p, magnification=1.0)) for t, p in zip(series.tilts, series.poses, strict=True)]
    )


def _one_stack(series: TiltSeries) -> str | None:
    """The stack of which the images are sections 1, 2, ... in order: RELION-4 takes whole stacks."""
    names = {(t.image or "").rpartition("@")[2] for t in series.tilts}
    sections = [(t.image or "").rpartition("@")[0] for t in series.tilts]
    if len(names) != 1 or sections != [str(i) for i in range(1, len(sections) + 1)]:
        return None
    return names.pop() or None


def _row(series: TiltSeries, stack: str | None, group: str) -> dict[str, Any]:
    optics = optics_of(series)
    x, y, z = volume_size(series)
    return {
        "rlnTomoName": series.name,
        "rlnTomoTiltSeriesName": stack or f"{series.name}.mrc",
        "rlnTomoFrameCount": len(series.tilts),
        "rlnTomoSizeX": x,
        "rlnTomoSizeY": y,
        "rlnTomoSizeZ": z,
        "rlnTomoHand": float(series.hand),
        "rlnOpticsGroupName": group,
        "rlnTomoTiltSeriesPixelSize": float(series.pixel_size_angstrom),
        "rlnVoltage": optics.voltage_kv,
        "rlnSphericalAberration": optics.spherical_aberration_mm,
        "rlnAmplitudeContrast": optics.amplitude_contrast,
        "rlnTomoImportFractionalDose": float(np.median(series.doses)),
    }


def _tilt_columns(series: TiltSeries) -> dict[str, list[Any]]:
    matrices = projection_matrices(series, volume_size(series))
    columns: dict[str, list[Any]] = {
        label: [written_vector(m[i]) for m in matrices] for i, label in enumerate(_PROJECTIONS)
    }
    if series.has_ctf:
        fits = [t.ctf for t in series.tilts if t.ctf is not None]
        columns["rlnDefocusU"] = [f.defocus_u_angstrom for f in fits]
        columns["rlnDefocusV"] = [f.defocus_v_angstrom for f in fits]
        columns["rlnDefocusAngle"] = [f.astigmatism_angle_deg for f in fits]
        if any(f.phase_shift_deg for f in fits):
            columns["rlnPhaseShift"] = [f.phase_shift_deg for f in fits]
    columns |= signal_columns(series)
    columns["rlnMicrographPreExposure"] = [t.pre_exposure for t in series.tilts]
    return columns


FORMAT = GeometryFormat(
    name="relion4",
    title="RELION-4 table of tomograms with projection matrices (.star)",
    words=GeometryWords(
        origin="the specimen's corner, its centre at size / 2; image pixels counted from 0",
        unit="pixels of the images; defocus in A, dose in e/A2 before each image",
        hand="right-handed; defocus of a point = defocus of the tilt + rlnTomoHand * height towards the camera's z",
        angles="none: rows of a 4 x 4 matrix, rlnTomoProjX, Y, Z, W",
    ),
    recognises=_recognises,
    read=read_relion4,
    write=write_relion4,
)
