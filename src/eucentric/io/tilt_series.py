"""Tilt-series tables as RELION-5 keeps them, with the project's own columns beside (`eucentric.io.labels`).

A set is `<stage>/tilt_series.star` (block `global`, one row a series) and, for each series,
`<stage>/tilt_series/<name>.star` (one row a tilt, ascending), with `<name>_excluded.star` for tilts left out and
`<name>_motion.star` for the shifts of single frames where there are any. Paths in tables are relative to the project's
root, with `/`.

RELION's nominal defocus is in micrometres and negative for underfocus; the record's is in A and positive.
"""

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.mrc import read_mrc_header
from eucentric.io.star import read_star_text, write_star
from eucentric.models import (
    CtfFit,
    ExcludedTilt,
    FrameShifts,
    MovieQuality,
    Optics,
    Specimen,
    Tilt,
    TiltPose,
    TiltSeries,
    Tomogram,
    given_group,
    groups_of_optics,
)
from eucentric.typing import PathLike

_NAN, _UM = float("nan"), 1e4


def relative_path(path: PathLike, root: PathLike) -> str:
    """A path as tables hold it: relative to the project's root, with `/`; upwards (`../`) where it lies outside."""
    return Path(os.path.relpath(Path(path).resolve(), Path(root).resolve())).as_posix()


_QUALITY = {
    labels.MOTION_SIGMA: "sigma_angstrom",
    labels.MOTION_RESIDUAL: "residual_angstrom",
    labels.MOTION_BLUR: "blur_angstrom",
    labels.DEFECT_FRACTION: "defect_fraction",
    labels.MEAN_COUNTS: "mean_counts",
}


_OF_SIGNAL = (
    ("rlnCtfScalefactor", "signal_scale", 1.0),
    ("rlnCtfBfactor", "b_factor_angstrom2", 0.0),
)
"""Of what an image shows of the specimen: label, field of `Tilt`, and what is not written."""
_ODD = (
    ("rlnBeamTiltX", "beam_tilt_mrad", 0),
    ("rlnBeamTiltY", "beam_tilt_mrad", 1),
    (labels.TREFOIL_X, "trefoil_rad_angstrom3", 0),
    (labels.TREFOIL_Y, "trefoil_rad_angstrom3", 1),
)
"""Of odd aberrations: label, field of `Optics`, and which of its two numbers."""

_MOST = 1e15  # larger whole numbers are damage


class _Row:
    """One row of a table: typed values by label."""

    def __init__(self, table: dict[str, list[str | None]], index: int, place: Path) -> None:
        self._values = {label: column[index] for label, column in table.items()}
        self._place, self._index = place, index

    def text(self, label: str) -> str | None:
        return self._values.get(label)

    def has(self, label: str) -> bool:
        return self._values.get(label) is not None

    def number(self, label: str, default: float | None = None) -> float:
        value = self._values.get(label)
        if value is None:
            if default is None:
                raise FormatError(
                    f"Row {self._index + 1} of `{self._place}` has no value for `{label}`, which is needed."
                )
            return default
        try:
            return float(value)
        except ValueError as error:
            raise FormatError(
                f"Row {self._index + 1} of `{self._place}` says `{value[:60]}` for `{label}`; expected a number."
            ) from error

    def whole(self, label: str, default: float | None = None) -> int:
        value = self.number(label, default)
        if not abs(value) < _MOST:
            raise FormatError(
                f"Row {self._index + 1} of `{self._place}` says `{value:g}` for `{label}`; expected a whole number."
            )
        return int(value)

    def optional(self, label: str) -> float | None:
        value = self.number(label, _NAN)
        return None if math.isnan(value) else value


def _row_count(table: dict[str, list[str | None]]) -> int:
    return max((len(column) for column in table.values()), default=0)


def _tilt_columns(tilts: Sequence[Tilt]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}

    def add(label: str, values: list[Any], *, always: bool = False) -> None:
        if always or any(v is not None and not (isinstance(v, float) and math.isnan(v)) for v in values):
            is_text = any(isinstance(v, str) for v in values)
            columns[label] = values if is_text else [_NAN if v is None else v for v in values]

    def attribute(label: str, name: str, *, always: bool = False) -> None:
        values = [getattr(t, name) for t in tilts]
        add(label, [float(v) if isinstance(v, np.floating) else v for v in values], always=always)

    def part(label: str, record: str, name: str) -> None:
        owners = [getattr(t, record) for t in tilts]
        add(label, [None if o is None else float(getattr(o, name)) for o in owners])

    attribute("rlnMicrographMovieName", "movie")
    for label, end in ((labels.FIRST_FRAME, 0), (labels.END_FRAME, 1)):
        add(label, [None if t.frames is None else t.frames[end] for t in tilts])
    attribute("rlnTomoTiltMovieFrameCount", "frame_count", always=True)
    attribute("rlnTomoNominalStageTiltAngle", "nominal_tilt_deg", always=True)
    attribute("rlnTomoNominalTiltAxisAngle", "nominal_axis_deg")
    attribute("rlnMicrographPreExposure", "pre_exposure", always=True)
    defocus = [t.nominal_defocus_angstrom for t in tilts]
    add("rlnTomoNominalDefocus", [None if d is None else -d / _UM for d in defocus])
    attribute(labels.SHOWN_DEFOCUS, "shown_defocus_angstrom")
    for label, axis in ((labels.IMAGE_SHIFT_X, 0), (labels.IMAGE_SHIFT_Y, 1)):
        add(label, [None if t.image_shift_um is None else float(t.image_shift_um[axis]) for t in tilts])
    attribute(labels.TIME, "time_s")
    attribute(labels.EXPOSURE_TIME, "exposure_s")
    attribute(labels.DOSE, "dose", always=True)
    attribute(labels.ACQUISITION, "acquisition", always=True)
    attribute("rlnMicrographName", "image")
    attribute("rlnMicrographNameEven", "image_even")
    attribute("rlnMicrographNameOdd", "image_odd")
    part("rlnAccumMotionTotal", "motion", "total_angstrom")
    parts = [None if t.motion is None else t.motion.early_and_late_angstrom(t.dose, t.pre_exposure) for t in tilts]
    for label, which in (("rlnAccumMotionEarly", 0), ("rlnAccumMotionLate", 1)):
        add(label, [None if p is None else p[which] for p in parts])
    for label, name in _QUALITY.items():
        part(label, "quality", name)
    part("rlnTomoXTilt", "pose", "x_tilt_deg")
    part("rlnTomoYTilt", "pose", "y_tilt_deg")
    part("rlnTomoZRot", "pose", "z_rot_deg")
    part("rlnTomoXShiftAngst", "pose", "x_shift_angstrom")
    part("rlnTomoYShiftAngst", "pose", "y_shift_angstrom")
    if any(t.pose is not None and t.pose.magnification != 1.0 for t in tilts):
        part(labels.MAGNIFICATION, "pose", "magnification")
    part(labels.SHIFT_SIGMA, "pose", "sigma_angstrom")
    part("rlnDefocusU", "ctf", "defocus_u_angstrom")
    part("rlnDefocusV", "ctf", "defocus_v_angstrom")
    fits = [t.ctf for t in tilts]
    add("rlnCtfAstigmatism", [None if f is None else f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits])
    part("rlnDefocusAngle", "ctf", "astigmatism_angle_deg")
    part("rlnPhaseShift", "ctf", "phase_shift_deg")
    part("rlnCtfFigureOfMerit", "ctf", "score")
    part("rlnCtfMaxResolution", "ctf", "max_resolution_angstrom")
    part(labels.DEFOCUS_SIGMA, "ctf", "defocus_sigma_angstrom")
    for label, name, usual in _OF_SIGNAL:
        if any(getattr(t, name) != usual for t in tilts):
            attribute(label, name)
    return columns


def _motion_columns(tilts: Sequence[Tilt]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            labels.ACQUISITION,
            labels.FRAME,
            labels.FRAME_SHIFT_X,
            labels.FRAME_SHIFT_Y,
            labels.FRAME_SHIFT_SIGMA,
        )
    }
    for tilt in tilts:
        if tilt.motion is None:
            continue
        pairs = zip(tilt.motion.shifts_angstrom.tolist(), tilt.motion.sigma_angstrom.tolist(), strict=True)
        for frame, ((x, y), sigma) in enumerate(pairs):
            for column, value in zip(columns.values(), (tilt.acquisition, frame, x, y, sigma), strict=True):
                column.append(value)
    return columns


def _check_name(name: str) -> None:
    reads_as_nothing = name.lower() in ("", "nan", "none", "<na>")
    if reads_as_nothing or any(c in name for c in "/\\\"' \t\n#") or name.startswith(("_", ".", "data_")):
        raise InputError(
            f"`{name}` cannot be the name of a tilt series: it names files. Use letters, digits, `_`, `-`, `.`."
        )


def _write_series(folder: Path, series: TiltSeries, root: Path) -> dict[str, str | None]:
    """Write the tables of one series; their paths by the label of the global table."""
    _check_name(series.name)
    files: dict[str, str | None] = {}
    every = [*series.tilts, *(e.tilt for e in series.excluded)]
    motion = _motion_columns(every)
    if motion[labels.FRAME] and len({t.acquisition for t in every}) != len(every):
        raise InputError(f"Two tilts of {series.name} have the same acquisition index; expected each its own.")
    excluded = _tilt_columns([e.tilt for e in series.excluded])
    excluded[labels.EXCLUSION_REASON] = [e.reason for e in series.excluded]
    parts = (
        (labels.MOTION_FILE, f"{series.name}_motion.star", motion, bool(motion[labels.FRAME])),
        (labels.EXCLUDED_FILE, f"{series.name}_excluded.star", excluded, bool(series.excluded)),
        ("rlnTomoTiltSeriesStarFile", f"{series.name}.star", _tilt_columns(series.tilts), True),
    )
    for label, file_name, table, wanted in parts:
        path = folder / file_name
        if wanted:
            write_star(path, {series.name: table})
        files[label] = relative_path(path, root) if wanted else None
    return files


def _global_row(series: TiltSeries, files: dict[str, str | None], group: str) -> dict[str, Any]:
    optics, tomogram, size = series.optics, series.tomogram, series.volume_size_px or (None, None, None)
    shape = (None, None, None) if tomogram is None else tomogram.shape_zyx
    voxel = None if tomogram is None else float(tomogram.voxel_size_angstrom)
    return {
        "rlnTomoName": series.name,
        "rlnOpticsGroupName": group,
        "rlnVoltage": None if optics is None else float(optics.voltage_kv),
        "rlnSphericalAberration": None if optics is None else float(optics.spherical_aberration_mm),
        "rlnAmplitudeContrast": None if optics is None else float(optics.amplitude_contrast),
        "rlnMicrographOriginalPixelSize": float(series.original_pixel_size_angstrom or series.pixel_size_angstrom),
        "rlnTomoHand": float(series.hand),
        "rlnTomoTiltSeriesPixelSize": float(series.pixel_size_angstrom),
        "rlnTomoTiltSeriesStarFile": files["rlnTomoTiltSeriesStarFile"],
        "rlnTomoTomogramBinning": None if voxel is None else voxel / float(series.pixel_size_angstrom),
        "rlnTomoSizeX": size[0],
        "rlnTomoSizeY": size[1],
        "rlnTomoSizeZ": size[2],
        "rlnTomoReconstructedTomogram": None if tomogram is None else tomogram.path,
        "rlnTomoReconstructedTomogramHalf1": None if tomogram is None else tomogram.half1,
        "rlnTomoReconstructedTomogramHalf2": None if tomogram is None else tomogram.half2,
        labels.TOMOGRAM_VOXEL_SIZE: voxel,
        labels.TOMOGRAM_SIZE_X: shape[2],
        labels.TOMOGRAM_SIZE_Y: shape[1],
        labels.TOMOGRAM_SIZE_Z: shape[0],
        labels.IMAGE_SIZE_X: series.image_shape[1],
        labels.IMAGE_SIZE_Y: series.image_shape[0],
        labels.THICKNESS: None if series.thickness_angstrom is None else float(series.thickness_angstrom),
        labels.EXCLUDED_FILE: files[labels.EXCLUDED_FILE],
        labels.MOTION_FILE: files[labels.MOTION_FILE],
        labels.WARP_FILE: series.warp,
        **_odd_values(optics),
        **_specimen_values(series.specimen),
    }


def _odd_values(optics: Optics | None) -> dict[str, float | None]:
    """None where both numbers of an aberration are 0: columns of nothing else are not written."""
    pairs = {name: (0.0, 0.0) if optics is None else getattr(optics, name) for _, name, _ in _ODD}
    return {label: float(pairs[name][i]) if any(pairs[name]) else None for label, name, i in _ODD}


def _specimen_values(specimen: Specimen | None) -> dict[str, float | None]:
    values = {name: math.nan if specimen is None else getattr(specimen, name) for name in labels.SPECIMEN}
    return {labels.SPECIMEN[name][0]: float(v) if math.isfinite(v) else None for name, v in values.items()}


def _specimen(row: _Row) -> Specimen | None:
    found = {name: row.optional(label) for name, (label, _) in labels.SPECIMEN.items()}
    known = {name: value for name, value in found.items() if value is not None}
    return Specimen(**known) if known else None


_ALWAYS = {"rlnTomoName", "rlnTomoTiltSeriesStarFile"}
_TEXTS = {
    "rlnTomoName", "rlnOpticsGroupName", "rlnTomoTiltSeriesStarFile", "rlnTomoReconstructedTomogram",
    "rlnTomoReconstructedTomogramHalf1", "rlnTomoReconstructedTomogramHalf2", labels.EXCLUDED_FILE, labels.MOTION_FILE,
    labels.WARP_FILE,
}  # fmt: skip


def write_tilt_series_set(path: PathLike, series: Sequence[TiltSeries], project_root: PathLike) -> None:
    """Write the tables of a stage: those of the series first, the global one last.

    Parameters
    ----------
    path : `<stage>/tilt_series.star`; the tables of the series go to the folder `tilt_series` beside it
    series : in the order of rows; names must differ
    project_root : folder that the paths in tables are relative to

    Raises
    ------
    InputError : a name twice or unfit for a file, or a place that may not be written to
    BackendError : the disk is full
    """
    place, root = Path(path), Path(project_root)
    names = [s.name for s in series]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"Two tilt series are called {twice[0]}; expected each its own name.")
    rows = []
    folder = place.parent / "tilt_series"
    for one, group in zip(series, groups_of_optics(series), strict=True):
        rows.append(_global_row(one, _write_series(folder, one, root), group))
    if not rows:
        raise InputError(f"There is no tilt series to write to `{place}`.")
    table: dict[str, list[Any]] = {}
    for label in rows[0]:
        values = [row[label] for row in rows]
        if label in _ALWAYS or any(v is not None for v in values):
            table[label] = values if label in _TEXTS else [_NAN if v is None else v for v in values]
    write_star(place, {"global": table})
    for row, one in zip(rows, series, strict=True):  # tables of an earlier run that nothing names any more
        for label, ending in ((labels.MOTION_FILE, "motion"), (labels.EXCLUDED_FILE, "excluded")):
            if row[label] is None:
                (folder / f"{one.name}_{ending}.star").unlink(missing_ok=True)


def _pose(row: _Row) -> TiltPose | None:
    if row.optional("rlnTomoYTilt") is None:
        return None
    return TiltPose(
        y_tilt_deg=row.number("rlnTomoYTilt"),
        z_rot_deg=row.number("rlnTomoZRot"),
        x_tilt_deg=row.number("rlnTomoXTilt", 0.0),
        x_shift_angstrom=row.number("rlnTomoXShiftAngst", 0.0),
        y_shift_angstrom=row.number("rlnTomoYShiftAngst", 0.0),
        sigma_angstrom=row.number(labels.SHIFT_SIGMA, _NAN),
        magnification=row.number(labels.MAGNIFICATION, 1.0),
    )


def _ctf(row: _Row) -> CtfFit | None:
    if row.optional("rlnDefocusU") is None:
        return None
    return CtfFit(
        defocus_u_angstrom=row.number("rlnDefocusU"),
        defocus_v_angstrom=row.number("rlnDefocusV"),
        astigmatism_angle_deg=row.number("rlnDefocusAngle", 0.0),
        phase_shift_deg=row.number("rlnPhaseShift", 0.0),
        defocus_sigma_angstrom=row.number(labels.DEFOCUS_SIGMA, _NAN),
        score=row.number("rlnCtfFigureOfMerit", _NAN),
        max_resolution_angstrom=row.number("rlnCtfMaxResolution", _NAN),
    )


def _tilt(row: _Row, acquisition: int, dose: float, motions: dict[int, FrameShifts]) -> Tilt:
    defocus = row.optional("rlnTomoNominalDefocus")
    index = row.whole(labels.ACQUISITION, acquisition)
    nominal = row.optional("rlnTomoNominalStageTiltAngle")
    shift = row.optional(labels.IMAGE_SHIFT_X), row.optional(labels.IMAGE_SHIFT_Y)
    return Tilt(
        nominal_tilt_deg=row.number("rlnTomoYTilt") if nominal is None else nominal,
        acquisition=index,
        dose=row.number(labels.DOSE, dose),
        pre_exposure=row.number("rlnMicrographPreExposure", 0.0),
        movie=row.text("rlnMicrographMovieName"),
        frames=_frames(row),
        frame_count=row.whole("rlnTomoTiltMovieFrameCount", 1.0),
        nominal_axis_deg=row.optional("rlnTomoNominalTiltAxisAngle"),
        nominal_defocus_angstrom=None if defocus is None else -defocus * _UM,
        shown_defocus_angstrom=row.optional(labels.SHOWN_DEFOCUS),
        image_shift_um=None if None in shift else (shift[0] or 0.0, shift[1] or 0.0),
        time_s=row.optional(labels.TIME),
        exposure_s=row.optional(labels.EXPOSURE_TIME),
        image=row.text("rlnMicrographName"),
        image_even=row.text("rlnMicrographNameEven"),
        image_odd=row.text("rlnMicrographNameOdd"),
        motion=motions.get(index),
        quality=_quality(row),
        pose=_pose(row),
        ctf=_ctf(row),
        **{name: _or(row.optional(label), usual) for label, name, usual in _OF_SIGNAL},
    )


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def _quality(row: _Row) -> MovieQuality | None:
    if row.optional(labels.MEAN_COUNTS) is None:
        return None
    return MovieQuality(**{name: row.number(label, _NAN) for label, name in _QUALITY.items()})


def _frames(row: _Row) -> tuple[int, int] | None:
    if row.optional(labels.FIRST_FRAME) is None:
        return None
    return row.whole(labels.FIRST_FRAME), row.whole(labels.END_FRAME)


def _single_table(path: Path) -> dict[str, list[str | None]]:
    tables = read_star_text(path)
    if len(tables) != 1:
        raise FormatError(f"`{path}` has {len(tables)} tables; expected one with a row for each tilt.")
    table = next(iter(tables.values()))
    if "rlnTomoProjX" in table and "rlnTomoYTilt" not in table:
        raise FormatError(
            f"`{path}` describes its geometry by RELION-4 projection matrices alone (rlnTomoProjX). "
            "Give the table of RELION-4 that holds all its series to `eucentric convert`, or import it into RELION-5 first."
        )
    return table


def _read_tilts(path: Path, motions: dict[int, FrameShifts]) -> tuple[list[Tilt], list[_Row]]:
    table = _single_table(path)
    rows = [_Row(table, i, path) for i in range(_row_count(table))]
    before = [row.number("rlnMicrographPreExposure", 0.0) for row in rows]
    order = np.argsort(np.argsort(before, kind="stable"), kind="stable")
    # RELION keeps no dose of single images: the step of the accumulated one is it.
    steps = np.diff(np.unique(before))
    dose = float(np.median(steps)) if len(steps) else 0.0
    tilts = [_tilt(row, int(o), dose, motions) for row, o in zip(rows, order, strict=True)]
    if labels.ACQUISITION not in table and _cosines(tilts):
        tilts = [replace(t, signal_scale=1.0) for t in tilts]
    return tilts, rows


def _cosines(tilts: Sequence[Tilt]) -> bool:
    """Whether scales are those that RELION gives all images before anything of the signal was measured."""
    scales = [t.signal_scale for t in tilts]
    nominal = np.array([t.nominal_tilt_deg for t in tilts])
    posed = np.array([_NAN if t.pose is None else t.pose.y_tilt_deg for t in tilts])
    return any(bool(np.allclose(scales, np.cos(np.deg2rad(angles)), atol=1e-3)) for angles in (nominal, posed))


def _read_motions(path: Path) -> dict[int, FrameShifts]:
    table = _single_table(path)
    rows = [_Row(table, i, path) for i in range(_row_count(table))]
    grouped: dict[int, list[tuple[int, float, float, float]]] = {}
    for row in rows:
        entry = (
            row.whole(labels.FRAME),
            row.number(labels.FRAME_SHIFT_X),
            row.number(labels.FRAME_SHIFT_Y),
            row.number(labels.FRAME_SHIFT_SIGMA, _NAN),
        )
        grouped.setdefault(row.whole(labels.ACQUISITION), []).append(entry)
    motions = {}
    for acquisition, entries in grouped.items():
        values = np.array(sorted(entries), dtype=np.float64)
        motions[acquisition] = FrameShifts(shifts_angstrom=values[:, 1:3].copy(), sigma_angstrom=values[:, 3].copy())
    return motions


def _find(name: str, root: Path, beside: Path) -> Path:
    """A file named in a table: from the project's root, or else from the folder of the table."""
    for base in (root, beside):
        with contextlib.suppress(OSError, ValueError):  # names that no file can have
            if (base / name).is_file():
                return base / name
    raise FormatError(
        f"`{name[:200]}`, named in a table, was found neither from the project's root `{root}` nor from `{beside}`. "
        "Give the folder that the paths in the table start from."
    )


def _image_shape(row: _Row, tilts: Iterable[Tilt], root: Path) -> tuple[int, int]:
    if row.has(labels.IMAGE_SIZE_X):
        return row.whole(labels.IMAGE_SIZE_Y), row.whole(labels.IMAGE_SIZE_X)
    for tilt in tilts:
        image = root / (tilt.image or "").rpartition("@")[2]
        if tilt.image and image.is_file():
            return read_mrc_header(image).shape[1:]
    # RELION's tables hold no image size; without the images the size of the specimen is the nearest there is.
    return row.whole("rlnTomoSizeY"), row.whole("rlnTomoSizeX")


def _tomogram(row: _Row, pixel_size: float, root: Path) -> Tomogram | None:
    halves = row.text("rlnTomoReconstructedTomogramHalf1"), row.text("rlnTomoReconstructedTomogramHalf2")
    path = row.text("rlnTomoReconstructedTomogram") or halves[0]
    if path is None:
        return None
    voxel_size = row.number(labels.TOMOGRAM_VOXEL_SIZE, pixel_size * row.number("rlnTomoTomogramBinning", 1.0))
    if row.has(labels.TOMOGRAM_SIZE_X):
        names = (labels.TOMOGRAM_SIZE_Z, labels.TOMOGRAM_SIZE_Y, labels.TOMOGRAM_SIZE_X)
        z, y, x = (row.whole(name) for name in names)
    elif (root / path).is_file():
        z, y, x = read_mrc_header(root / path).shape
    else:
        sizes = (row.number(f"rlnTomoSize{axis}") for axis in "ZYX")
        z, y, x = (math.floor(size * pixel_size / voxel_size + 0.5) for size in sizes)
    return Tomogram(path=path, voxel_size_angstrom=voxel_size, shape_zyx=(z, y, x), half1=halves[0], half2=halves[1])


def _optics(row: _Row) -> Optics | None:
    voltage = row.optional("rlnVoltage")
    if voltage is None:
        return None
    odd = {label: row.optional(label) or 0.0 for label, _, _ in _ODD}
    return Optics(
        voltage_kv=voltage,
        spherical_aberration_mm=row.number("rlnSphericalAberration", 2.7),
        amplitude_contrast=row.number("rlnAmplitudeContrast", 0.07),
        beam_tilt_mrad=(odd["rlnBeamTiltX"], odd["rlnBeamTiltY"]),
        trefoil_rad_angstrom3=(odd[labels.TREFOIL_X], odd[labels.TREFOIL_Y]),
    )


def _series(row: _Row, place: Path, root: Path) -> TiltSeries:
    name = row.text("rlnTomoName")
    file_name = row.text("rlnTomoTiltSeriesStarFile")
    if name is None or file_name is None:
        raise FormatError(
            f"`{place}` does not name a table for every tilt series (rlnTomoName and rlnTomoTiltSeriesStarFile). "
            "Expected a RELION-5 tilt-series set."
        )
    motion_file, excluded_file = row.text(labels.MOTION_FILE), row.text(labels.EXCLUDED_FILE)
    motions = {} if motion_file is None else _read_motions(_find(motion_file, root, place.parent))
    tilts, _ = _read_tilts(_find(file_name, root, place.parent), motions)
    excluded: list[ExcludedTilt] = []
    if excluded_file is not None:
        gone, rows = _read_tilts(_find(excluded_file, root, place.parent), motions)
        reasons = [r.text(labels.EXCLUSION_REASON) or "no reason was recorded" for r in rows]
        excluded = [ExcludedTilt(tilt=t, reason=r) for t, r in zip(gone, reasons, strict=True)]
    original = row.number("rlnMicrographOriginalPixelSize", _NAN)
    pixel_size = row.number("rlnTomoTiltSeriesPixelSize", original)
    size = [row.optional(f"rlnTomoSize{axis}") for axis in "XYZ"]
    x, y, z = (int(n) if n is not None and abs(n) < _MOST else 0 for n in size)
    return TiltSeries.sorted(
        tilts,
        name=name,
        pixel_size_angstrom=pixel_size,
        original_pixel_size_angstrom=None if math.isnan(original) or original == pixel_size else original,
        image_shape=_image_shape(row, tilts, root),
        excluded=tuple(excluded),
        optics=_optics(row),
        optics_group=given_group(row.text("rlnOpticsGroupName")),
        hand=row.number("rlnTomoHand", -1.0),
        volume_size_px=(x, y, z) if min(x, y, z) > 0 else None,
        thickness_angstrom=row.optional(labels.THICKNESS),
        tomogram=_tomogram(row, pixel_size, root),
        warp=row.text(labels.WARP_FILE),
        specimen=_specimen(row),
    )


def _global_rows(path: Path) -> list[_Row]:
    tables = read_star_text(path)
    table = tables.get("global")
    if table is None:
        raise FormatError(
            f"`{path}` has no `data_global` table but {', '.join(f'`data_{n}`' for n in tables)}. "
            "Expected a RELION-5 tilt-series set."
        )
    return [_Row(table, i, path) for i in range(_row_count(table))]


def read_tilt_series_set(path: PathLike, project_root: PathLike) -> list[TiltSeries]:
    """Every tilt series of a stage's table, or of a RELION-5 job's.

    Parameters
    ----------
    path : `<stage>/tilt_series.star` or RELION's `tomograms.star`
    project_root : folder that the paths in tables are relative to

    Raises
    ------
    InputError : no such file
    FormatError : unreadable, of another kind, RELION-4 geometry, or naming a table that is not there
    """
    place = Path(path)
    return [_series(row, place, Path(project_root)) for row in _global_rows(place)]


def tilt_series_names(path: PathLike) -> list[str]:
    """Names of the series in a table, without reading their tilts. Errors as `read_tilt_series_set`."""
    return [name for row in _global_rows(Path(path)) if (name := row.text("rlnTomoName")) is not None]


def read_tilt_series(path: PathLike, name: str, project_root: PathLike) -> TiltSeries:
    """One tilt series of a set; arguments and errors as `read_tilt_series_set`.

    Raises
    ------
    InputError : no series of that name
    """
    place = Path(path)
    rows = _global_rows(place)
    for row in rows:
        if row.text("rlnTomoName") == name:
            return _series(row, place, Path(project_root))
    known = ", ".join(str(row.text("rlnTomoName")) for row in rows)
    raise InputError(f"`{place}` has no tilt series called {name}. It has {known}.")
