"""A data set of IMOD (etomo) from a tilt series: what `newstack`, `tilt`, `ctfphaseflip` and `mtffilter` need.

Rows are those of the whole stack by ascending angle, left-out views too, which EXCLUDELIST names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.atomic import write_text_atomic
from eucentric.io.ctf_writers import write_imod_defocus
from eucentric.io.exchange.records import SeriesGeometry, Written, targets
from eucentric.io.exchange.whole_stack import StackView, fits_at_image_middle, poses_of_stack, rms, whole_stack
from eucentric.io.external_alignments import is_turned
from eucentric.io.imod import write_angles, write_transforms
from eucentric.io.imod_export import imod_transforms
from eucentric.io.imod_local import ImodLocal, write_local
from eucentric.models.tilt_series import TiltPose, TiltSeries
from eucentric.typing import FloatArray

_NM = 10.0
_ENDINGS = (".xf",)
_VOLTAGES = (200.0, 300.0)  # that mtffilter knows
_MOST_AREAS = 12
_SHEETS = (-0.5, 0.0, 0.5)  # of the thickness: heights at which a local deformation is compared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Set:
    """A series in IMOD's terms."""

    series: TiltSeries
    stem: Path
    stack: tuple[StackView, ...]
    poses: list[TiltPose]
    matrices: FloatArray
    shifts_px: FloatArray
    aligned: tuple[int, int]
    """(x, y) of the aligned images."""
    turned: bool
    stack_name: str
    thickness_px: int

    def file(self, ending: str) -> Path:
        return self.stem.with_name(self.stem.name + ending)


def aligned_size(series: TiltSeries, poses: Sequence[TiltPose]) -> tuple[tuple[int, int], bool]:
    """(x, y) of aligned images as etomo has them, and whether width and height are swapped."""
    ny, nx = series.image_shape
    turned = is_turned(float(np.median([p.z_rot_deg for p in poses])))
    return ((ny, nx) if turned else (nx, ny)), turned


def thickness_of(series: TiltSeries) -> int:
    """Of a reconstruction, in pixels: as told, else half more than the specimen's, else a quarter of the image."""
    if series.volume_size_px is not None:
        return series.volume_size_px[2]
    if series.thickness_angstrom:
        return int(np.ceil(1.5 * series.thickness_angstrom / series.pixel_size_angstrom))
    return max(series.image_shape) // 4


def stack_name(series: TiltSeries, stack: Sequence[StackView]) -> tuple[str, list[str]]:
    """The stack whose sections are the rows, else `<name>.st`; and a word where the images lie otherwise."""
    parts = [(view.tilt.image or "").partition("@") for view in stack]
    named = {path for _, at, path in parts if at}
    if len(named) == 1 and all(at for _, at, _ in parts):
        if [number.lstrip("0") for number, _, _ in parts] == [str(i) for i in range(1, len(stack) + 1)]:
            return Path(named.pop()).name, []
        return f"{series.name}.st", [
            f"{series.name}: the sections of `{named.pop()}` are not all the views by ascending angle, as rows are here; "
            f"sort them into {series.name}.st."
        ]
    return f"{series.name}.st", []


def _prepared(geometry: SeriesGeometry, stem: Path) -> tuple[_Set, list[str]]:
    series = geometry.series
    stack = whole_stack(series)
    poses = poses_of_stack(series, stack, "IMOD")
    matrices, shifts = imod_transforms(
        TiltGeometry.from_poses(poses), series.pixel_size_angstrom, series.image_shape, None
    )
    size, turned = aligned_size(series, poses)
    name, words = stack_name(series, stack)
    return _Set(
        series=series,
        stem=stem,
        stack=stack,
        poses=poses,
        matrices=matrices,
        shifts_px=shifts,
        aligned=size,
        turned=turned,
        stack_name=name,
        thickness_px=thickness_of(series),
    ), words


def _local(made: _Set, warp: ImageWarp) -> tuple[ImodLocal, float]:
    """A local alignment of pure shifts that follows a deformation at the height of the tilt axis, and what it misses in A rms."""
    gy, gx = warp.displacement_angstrom.shape[1:3]
    counts = [min(_MOST_AREAS, max(3, 2 * g + 1)) for g in ((gy, gx) if made.turned else (gx, gy))]
    steps = [max(1, round((n - 1) / (c - 1))) for n, c in zip(made.aligned, counts, strict=True)]
    starts = [round((n + 1 - s * (c - 1)) / 2) for n, c, s in zip(made.aligned, counts, steps, strict=True)]
    axes = [
        start + step * np.arange(count) - (n + 1) / 2
        for start, step, count, n in zip(starts, steps, counts, made.aligned, strict=True)
    ]
    x, y = np.meshgrid(*axes)
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    shape = (counts[1], counts[0], len(made.stack))
    shifts = np.zeros((*shape, 2))
    for row, view in enumerate(made.stack):
        if view.used is not None:
            shifts[:, :, row] = _deformed(made, warp, row, view.used, points).reshape(counts[1], counts[0], 2)
    local = ImodLocal(
        start_px=(float(starts[0]), float(starts[1])),
        step_px=(float(steps[0]), float(steps[1])),
        tilts_deg=np.zeros(shape),
        x_tilts_deg=np.zeros(shape),
        matrices=np.broadcast_to(np.eye(2), (*shape, 2, 2)),
        shifts_px=shifts,
        pixel_size_angstrom=made.series.pixel_size_angstrom,
    )
    return local, _missed(made, warp, local)


def _deformed(made: _Set, warp: ImageWarp, row: int, used: int, points: FloatArray) -> FloatArray:
    """(point, 2): pixels by which the aligned image of a view shows points (point, 3) elsewhere."""
    pose, pixel = made.poses[row], made.series.pixel_size_angstrom
    geometry = TiltGeometry.from_poses([pose])
    places = torch.from_numpy(np.ascontiguousarray(geometry.project(points * pixel)[0, :, :2]))
    out: FloatArray = warp.at(used, places).numpy() @ made.matrices[row].T / pixel
    return out


def _missed(made: _Set, warp: ImageWarp, local: ImodLocal) -> float:
    """Distance in A, rms over the specimen as images show it, of a local alignment from the deformation that it stands for."""
    pixel = made.series.pixel_size_angstrom
    grid = np.stack(np.meshgrid(*(np.linspace(-0.5, 0.5, 9) * n for n in made.aligned)), axis=-1).reshape(-1, 2)
    thickness = made.series.thickness_angstrom
    depth = made.thickness_px if thickness is None else thickness / pixel
    points = np.concatenate([np.column_stack([grid, np.full(len(grid), h * depth)]) for h in _SHEETS])
    half = 0.5 * np.array(made.series.image_shape[::-1]) * pixel
    away = []
    for row, view in enumerate(made.stack):
        if view.used is None:
            continue
        pose = made.poses[row]
        places = TiltGeometry.from_poses([pose]).project(points * pixel)[0, :, :2]
        shown = points[np.all(np.abs(places) < half, axis=1)]
        found = local.displacement(row, shown, pose.y_tilt_deg, pose.x_tilt_deg, made.aligned)
        away.append((found - _deformed(made, warp, row, view.used, shown)) * pixel)
    missed = np.concatenate(away)
    return rms(missed) if len(missed) else 0.0


def _newst(made: _Set) -> str:
    name = made.stem.name
    return (
        "$setenv IMOD_OUTPUT_FORMAT MRC\n$newstack -StandardInput\nAntialiasFilter\t-1\n"
        f"InputFile\t{made.stack_name}\nOutputFile\t{name}_ali.mrc\nTransformFile\t{name}.xf\nTaperAtFill\t1,1\nAdjustOrigin\n"
        f"SizeToOutputInXandY\t{made.aligned[0]},{made.aligned[1]}\nOffsetsInXandY\t0.0,0.0\nImagesAreBinned\t1.0\nBinByFactor\t1\n"
        "$if (-e ./savework) ./savework\n"
    )


def _tilt(made: _Set, *, has_x_tilt: bool, has_local: bool) -> str:
    name = made.stem.name
    gone = [str(row + 1) for row, view in enumerate(made.stack) if view.used is None]
    lines = [
        "$setenv IMOD_OUTPUT_FORMAT MRC",
        "$tilt -StandardInput",
        f"InputProjections {name}_ali.mrc",
        f"OutputFile {name}_full_rec.mrc",
        "IMAGEBINNED 1",
        f"TILTFILE {name}.tlt",
        *([f"XTILTFILE {name}.xtilt"] if has_x_tilt else []),
        *([f"LOCALFILE {name}local.xf"] if has_local else []),
        f"THICKNESS {made.thickness_px}",
        "RADIAL 0.35 0.035",
        "FalloffIsTrueSigma 1",
        "XAXISTILT 0.0",
        "SCALE 0.0 0.1",
        "PERPENDICULAR",
        "MODE 2",
        f"FULLIMAGE {made.aligned[0]} {made.aligned[1]}",
        "SUBSETSTART 0 0",
        "AdjustOrigin",
        "ActionIfGPUFails 1,2",
        "OFFSET 0.0",
        "SHIFT 0.0 0.0",
        *([f"EXCLUDELIST {','.join(gone)}"] if gone else []),
        "$if (-e ./savework) ./savework",
    ]
    return "\n".join(lines) + "\n"


def _ctf_correction(made: _Set) -> str | None:
    series, name = made.series, made.stem.name
    if series.optics is None:
        return None
    return (
        "$setenv IMOD_OUTPUT_FORMAT MRC\n$ctfphaseflip -StandardInput\n"
        f"InputStack\t{name}_ali.mrc\nAngleFile\t{name}.tlt\nOutputFileName\t{name}_ctfcorr_ali.mrc\n"
        f"TransformFile\t{name}.xf\nDefocusFile\t{name}.defocus\nVoltage\t{series.optics.voltage_kv:.0f}\n"
        f"SphericalAberration\t{series.optics.spherical_aberration_mm:g}\nDefocusTol\t200\n"
        f"PixelSize\t{series.pixel_size_angstrom / _NM:.6f}\nAmplitudeContrast\t{series.optics.amplitude_contrast:g}\n"
        + ("InvertTiltAngles\t1\n" if series.hand > 0 else "")
        + "InterpolationWidth\t20\n$if (-e ./savework) ./savework\n"
    )


def _write_doses(made: _Set) -> list[Path]:
    """The dose before each image and that of the image, and mtffilter.com that weights by them."""
    tilts = [view.tilt for view in made.stack]
    if not any(t.dose > 0 for t in tilts):
        return []
    table = made.file("_dose.txt")
    write_text_atomic(table, "".join(f"{t.pre_exposure:10.4f} {t.dose:10.4f}\n" for t in tilts))
    optics = made.series.optics
    volts = f"Voltage\t{optics.voltage_kv:.0f}\n" if optics is not None and optics.voltage_kv in _VOLTAGES else ""
    com = made.stem.with_name("mtffilter.com")
    write_text_atomic(
        com,
        "$setenv IMOD_OUTPUT_FORMAT MRC\n$mtffilter -StandardInput\n"
        f"# of the data set with {made.stem.name}.xf\n"
        f"InputFile\t{made.stem.name}_ali.mrc\nOutputFile\t{made.stem.name}_filt_ali.mrc\n"
        f"PixelSize\t{made.series.pixel_size_angstrom / _NM:.6f}\n{volts}TypeOfDoseFile\t2\n"
        f"DoseWeightingFile\t{table.name}\n$if (-e ./savework) ./savework\n",
    )
    return [table, com]


def _write_set(geometry: SeriesGeometry, stem: Path) -> tuple[list[Path], list[str]]:
    made, losses = _prepared(geometry, stem)
    series = geometry.series
    y_tilt = np.array([p.y_tilt_deg for p in made.poses])
    x_tilt = np.array([p.x_tilt_deg for p in made.poses])
    files = [made.file(".xf"), made.file(".tlt"), made.file(".rawtlt")]
    write_transforms(files[0], made.matrices, made.shifts_px)
    write_angles(files[1], y_tilt, decimals=4)
    write_angles(files[2], np.array([v.tilt.nominal_tilt_deg for v in made.stack]))
    has_x_tilt = bool(np.any(x_tilt))
    if has_x_tilt:
        files.append(made.file(".xtilt"))
        write_angles(files[-1], x_tilt, decimals=4)
    has_local = geometry.warp is not None and bool(np.any(geometry.warp.displacement_angstrom))
    if geometry.warp is not None and has_local:
        local, missed = _local(made, geometry.warp)
        files.append(made.file("local.xf"))
        write_local(files[-1], local)
        losses.append(
            f"{series.name}: shifts of local areas (LOCALFILE) are {missed:.2f} A rms from the local deformation, as they are the "
            "same at all heights. tilt cannot make SIRT volumes with them; take LOCALFILE out of tilt.com for that."
        )
    commands = {
        "newst.com": _newst(made),
        "tilt.com": _tilt(made, has_x_tilt=has_x_tilt, has_local=has_local),
        "ctfcorrection.com": _ctf_correction(made),
    }
    for name, text in commands.items():
        if text is not None:
            files.append(made.stem.with_name(name))
            write_text_atomic(files[-1], text)
    fits = fits_at_image_middle(series)
    rows = []
    for row, view in enumerate(made.stack):
        fit = None if view.used is None else fits[view.used]
        if fit is not None:
            rows.append((row + 1, float(y_tilt[row]), fit))
    if rows:
        files.append(made.file(".defocus"))
        write_imod_defocus(files[-1], rows)
    return files + _write_doses(made), losses


def write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """A data set in a folder, or one for each series in folders of their names; `place` may be the `.xf` of a single series.

    Raises
    ------
    InputError : a series without alignment, or several to one file
    """
    place = Path(place)
    made = targets(place, geometries, _ENDINGS)
    if len(made) > 1:
        made = [(stem / stem.name, geometry) for stem, geometry in made]
    files: list[Path] = []
    losses: list[str] = []
    for stem, geometry in made:
        written, words = _write_set(geometry, stem)
        files += written
        losses += words
    return Written(files=tuple(files), losses=tuple(losses))
