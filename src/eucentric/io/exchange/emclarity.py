"""Projects of emClarity: `fixedStacks/NAME.xf`, `.tlt` and `.order`, and `fixedStacks/ctf/NAME_ali1_ctf.tlt`.

The `.xf` (pixels) and `.tlt` are IMOD's in form: x' = A x + d from raw to aligned images, which IMOD's `tilt` then reconstructs. But
emClarity aligns the images itself [1]_, about pixel n // 2 counted from 0: an even image loses its first row and column, so that the
middle of the odd image that is left is that pixel, and rotation and shift are about it. IMOD's own middle is (n - 1) / 2, half a pixel
away for even sizes.

`_ctf.tlt` has 22 or 23 columns a section: 1 number in the stack from 1; 2-3 d; 4 tilt (degrees); 5, 6 not used; 7-10 A11 A12 A21
A22; 11 dose (e/A^2) that the specimen had received after the image; 12 half the difference of the two defoci (m); 13 angle
(radians) of the larger one, from x towards y of the *aligned* image; 14 magnification, always 1; 15 mean defocus (m), underfocus
negative: only its size is read; 16 pixel size (m); 17 Cs (m); 18 wavelength (m); 19 amplitude contrast, with a phase plate's shift
(radians) added [2]_; 20-22 size of the stack in x, y, z; 23 number in the first stack. A point at z' above the centre has the defocus
-|D| + z' [3]_: less underfocus, our hand -1.

References
----------
.. [1] https://github.com/StochasticAnalytics/emClarity, `ctf/BH_ctf_Estimate.m`
.. [2] the same, `ctf/BH_ctfCalc.m`
.. [3] the same, `ctf/BH_ctf_Correct3d.m` and `coordinates/BH_defineMatrix.m`
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf, standard_fit
from eucentric.io.exchange.from_views import exposures_of_sums, series_of_views
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView, from_imod
from eucentric.io.imod import read_angle_table, read_angles, read_transforms, write_angles, write_transforms
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, TiltPose, TiltSeries
from eucentric.typing import FloatArray

_STACKS, _CTF = "fixedStacks", "ctf"
_NAME = re.compile(r"^(?P<name>.+)_ali(?P<round>\d+)_ctf(?P<refined>_refine)?\.tlt$")
_COLUMNS = 22
_PHASE_PLATE_RAD = 0.5
"""More amplitude contrast than this is a phase shift."""
_SAME_DEG = 1.0
_M = 1e10


def recognises(place: Path) -> bool:
    """Whether it is a `_ctf.tlt`, or a project folder."""
    try:
        if place.is_dir():
            return bool(_files(place))
        return _NAME.match(place.name) is not None
    except OSError:
        return False


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """Every tilt series of a project, as its newest round has it, or that of a `_ctf.tlt` or `.xf`.

    Raises
    ------
    InputError : no such files, or what they lack was not given
    FormatError : a file that is damaged, or lists of unequal length
    """
    whole = Path(place)
    files = _files(whole) if whole.is_dir() else [whole]
    if not files:
        raise InputError(f"`{whole}` holds neither {_STACKS}/{_CTF}/*_ctf.tlt nor {_STACKS}/*.xf of emClarity.")
    if given.name is not None and len(files) > 1:
        raise InputError(f"`{whole}` holds {len(files)} tilt series, and one name was given. Leave the name out.")
    return tuple(_read_ctf(f, given) if f.suffix == ".tlt" else _read_input(f, given) for f in files)


def _files(folder: Path) -> list[Path]:
    """The newest `_ctf.tlt` of each series, and the `.xf` of those that have none."""
    stacks = folder / _STACKS if (folder / _STACKS).is_dir() else folder
    newest: dict[str, tuple[int, bool, Path]] = {}
    for file in sorted((stacks / _CTF).glob("*_ctf*.tlt")):
        match = _NAME.match(file.name)
        if match is not None and len(match["round"]) < 6:
            entry = (int(match["round"]), match["refined"] is not None, file)
            newest[match["name"]] = max(newest.get(match["name"], entry), entry)
    rest = []
    if stacks.name == _STACKS:
        rest = [f for f in sorted(stacks.glob("*.xf")) if f.stem not in newest and f.with_suffix(".tlt").is_file()]
    return [entry[2] for entry in newest.values()] + rest


def _read_input(file: Path, given: Given) -> SeriesGeometry:
    tilts = read_angles(file.with_suffix(".tlt"))
    matrices, shifts = read_transforms(file)
    if not (np.abs(matrices) < 100.0).all() or not (np.abs(shifts) < 1e6).all() or not (np.abs(tilts) < 1e3).all():
        raise FormatError(f"`{file}` or its `.tlt` has numbers that cannot be; expected rotations, pixels and degrees.")
    external = replace(from_imod(matrices, shifts, tilts, source=f"emClarity ({file.name})"), centre="floor")
    every: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    order_file = file.with_suffix(".order")
    order = None
    if order_file.is_file():
        order = _order(read_angles(order_file), [0.0 if e.listed_deg is None else e.listed_deg for e in every])
    stack = file.with_suffix(".fixed")
    geometry = series_of_views(
        external,
        given,
        file,
        name=file.stem,
        order=order,
        images=[f"{(e.section or 0) + 1}@{stack.resolve()}" for e in every] if stack.is_file() else None,
        hand=-1.0,
    )
    return _with_local_note(geometry, file)


def _order(collected: FloatArray, listed: Sequence[float]) -> list[int] | None:
    """Rank in time of each angle, from the angles in the order of time; None where they do not fit."""
    if len(collected) != len(listed):
        return None
    nearest = [int(np.argmin(np.abs(np.array(listed) - angle))) for angle in collected]
    if len(set(nearest)) < len(nearest):
        return None
    rank = np.argsort(nearest)
    return [int(r) for r in rank]


def _with_local_note(geometry: SeriesGeometry, file: Path) -> SeriesGeometry:
    local = (file.parent if file.parent.name == _STACKS else file.parent.parent) / f"{geometry.series.name}.local"
    if not local.is_file():
        return geometry
    note = f"The local alignment (`{local.name}`) was not taken over, only that of whole images."
    return replace(geometry, notes=(*geometry.notes, note))


def _read_ctf(file: Path, given: Given) -> SeriesGeometry:
    match = _NAME.match(file.name)
    name = match["name"] if match is not None else file.stem
    table = read_angle_table(file)
    if table.shape[1] < _COLUMNS:
        raise FormatError(f"`{file}` has {table.shape[1]} columns; a table of emClarity has {_COLUMNS} or 23.")
    place = table[:, 22] if table.shape[1] > _COLUMNS and (table[:, 22] >= 1).all() else table[:, 0]
    if len(np.unique(place)) < len(place) or (place < 1).any() or not (np.abs(table) < 1e6).all():
        raise FormatError(f"`{file}` has two rows for one section, or numbers that cannot be. Write it again.")
    table = table[np.argsort(place)]
    sections = np.sort(place).astype(int) - 1
    pixel, (x, y) = float(table[0, 15]) * _M, (round(float(n)) for n in table[0, 19:21])
    external = from_imod(
        table[:, 6:10].reshape(-1, 2, 2), table[:, 1:3], table[:, 3], source=f"emClarity ({file.name})"
    )
    external = _placed(external, sections, pixel, (x, y))
    notes: list[str] = []
    optics, phase = _optics(table[0], given, file, notes)
    rank, dose, before = _doses(table[:, 10])
    every: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    rows = [e.section for e in every]
    row = {int(section): i for i, section in enumerate(sections)}
    which = [row[r] for r in rows if r is not None]
    stack = file.parent.parent / f"{name}.fixed"
    geometry = series_of_views(
        replace(external, caveats=(*external.caveats, *notes)),
        replace(given, optics=optics),
        file,
        name=name,
        ctf=_estimates(table, sections, external, phase, file),
        order=None if rank is None else [int(rank[i]) for i in which],
        doses=None if rank is None else dose[which],
        before=None if rank is None else before[which],
        images=[f"{(r or 0) + 1}@{stack.resolve()}" for r in rows] if stack.is_file() else None,
        hand=-1.0,
    )
    return _with_local_note(geometry, file)


def _placed(
    external: ExternalAlignment, sections: FloatArray, pixel: float, size: tuple[int, int]
) -> ExternalAlignment:
    """About pixel n // 2, with the numbers of its sections in the stack."""

    def section(at: int | None) -> int | None:
        return None if at is None else int(sections[at])

    return replace(
        external,
        centre="floor",
        views=tuple(replace(v, section=section(v.section)) for v in external.views),
        left_out=tuple(replace(v, section=section(v.section)) for v in external.left_out),
        pixel_size_angstrom=pixel if 0.01 < pixel < 1000.0 else None,
        image_size=size if min(size) > 0 else None,
    )


def _doses(after: FloatArray) -> tuple[NDArray[np.int64] | None, FloatArray, FloatArray]:
    """Ranks in time, doses, and what was received before, from that after each image; no ranks where two are the same."""
    nothing = np.zeros(len(after))
    if len(np.unique(after)) < len(after) or (after < 0).any():
        return None, nothing, nothing
    rank = np.argsort(np.argsort(after, kind="stable"), kind="stable").astype(np.int64)
    return rank, *exposures_of_sums(after)


def _optics(row: FloatArray, given: Given, file: Path, notes: list[str]) -> tuple[Optics, float]:
    """Optics and the phase shift in degrees."""
    wavelength, contrast, cs = float(row[17]) * _M, float(row[18]), float(row[16]) * 1e3
    if not 0.001 < wavelength < 0.2 or not 0.0 <= contrast < 10.0 or not 0.0 <= cs < 100.0:
        raise FormatError(
            f"`{file}` has a wavelength, Cs or amplitude contrast that cannot be; expected m, m and a fraction."
        )
    # V (1 + 0.978476e-6 V) = (12.2642596 / wavelength)^2
    square, a = (12.2642596 / wavelength) ** 2, 0.978476e-6
    volts = (math.sqrt(1.0 + 4.0 * a * square) - 1.0) / (2.0 * a)
    optics = given.optics or Optics(
        voltage_kv=round(volts / 1000.0, 1), spherical_aberration_mm=round(cs, 6), amplitude_contrast=0.07
    )
    if contrast <= _PHASE_PLATE_RAD:
        return given.optics or replace(optics, amplitude_contrast=contrast), 0.0
    phase = math.degrees(contrast - math.asin(optics.amplitude_contrast))
    notes.append(
        f"The amplitude contrast {contrast:g} of emClarity is taken as a phase shift of {phase:.1f} degrees besides "
        f"{optics.amplitude_contrast:g}."
    )
    return optics, phase


def _estimates(
    table: FloatArray, sections: FloatArray, external: ExternalAlignment, phase_deg: float, file: Path
) -> ExternalCtf | None:
    axis = {v.section: v.z_rot_deg for v in external.views}
    found = []
    for row, section in zip(table, sections.tolist(), strict=True):
        mean, half = abs(float(row[14])) * _M, float(row[11]) * _M
        if mean > 0:
            angle = float(np.degrees(row[12])) + axis.get(section, 0.0)
            fit = standard_fit(mean + half, mean - half, angle, phase_shift_deg=phase_deg)
            found.append(CtfEstimate(fit=fit, section=section))
    return ExternalCtf(program="CTFFIND", source=f"`{file.name}`", estimates=tuple(found)) if found else None


def write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write what `emClarity ctf estimate` needs in the project folder `place`, but for the stacks themselves.

    `fixedStacks/NAME.xf`, `.tlt` and `.order`; `fixedStacks/NAME_images.txt`, with which IMOD makes the stack
    (`newstack -filei NAME_images.txt -ou NAME.fixed`); `param_NAME.m`, lines for the parameter file;
    `fixedStacks/ctf/NAME_ali1_ctf.tlt` where every image has a CTF; `recon/NAME_recon.coords` where the size of the specimen is known.

    Raises
    ------
    InputError : a file instead of a folder, two series of one name, a series without poses, or a place that cannot be written to
    """
    folder = Path(place)
    if folder.is_file():
        raise InputError(f"`{folder}` is a file; a project of emClarity is a folder. Give a folder.")
    names = [g.series.name for g in geometries]
    if len(set(names)) < len(names):
        raise InputError(f"Two tilt series have the same name ({', '.join(names[:6])}); expected each its own.")
    files: list[Path] = []
    losses: list[str] = []
    for geometry in geometries:
        files += _write_series(folder, geometry.series)
        losses += [f"{geometry.series.name}: {text}." for text in _losses(geometry)]
    return Written(files=tuple(files), losses=tuple(losses))


def _transforms(series: TiltSeries) -> tuple[FloatArray, FloatArray]:
    """A (tilt, 2, 2) and d (tilt, 2) in pixels about pixel n // 2 of both images."""
    poses: tuple[TiltPose, ...] = series.poses
    turn = np.deg2rad([p.z_rot_deg for p in poses])
    c, s = np.cos(turn), np.sin(turn)
    matrices = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], -2)
    matrices /= np.array([p.magnification for p in poses])[:, None, None]
    seen = np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for p in poses]) / series.pixel_size_angstrom
    return matrices, -np.einsum("tij,tj->ti", matrices, seen)


def _write_series(folder: Path, series: TiltSeries) -> list[Path]:
    stacks, name = folder / _STACKS, series.name
    matrices, shifts = _transforms(series)
    tilts = np.array([p.y_tilt_deg for p in series.poses])
    files = [stacks / f"{name}.xf", stacks / f"{name}.tlt", stacks / f"{name}.order"]
    write_transforms(files[0], matrices, shifts)
    write_angles(files[1], tilts)
    write_angles(files[2], tilts[np.argsort([t.acquisition for t in series.tilts])])
    if all(t.image is not None for t in series.tilts):
        files.append(stacks / f"{name}_images.txt")
        write_text_atomic(files[-1], _image_list([t.image or "" for t in series.tilts]))
    files.append(folder / f"param_{name}.m")
    write_text_atomic(files[-1], _parameters(series))
    if series.has_ctf:
        files.append(stacks / _CTF / f"{name}_ali1_ctf.tlt")
        write_text_atomic(files[-1], _ctf_table(series, matrices, shifts))
    if series.volume_size_px is not None:
        files.append(folder / "recon" / f"{name}_recon.coords")
        write_text_atomic(files[-1], _region(series))
    return files


def _image_list(images: Sequence[str]) -> str:
    """A list of IMOD's `newstack -filei`: how many files, then each and its section, from 0."""
    lines = [str(len(images))]
    for image in images:
        number, at, path = image.partition("@")
        known = bool(at) and number.isdecimal()
        lines += [path if known else image, str(int(number) - 1) if known else "0"]
    return "\n".join(lines) + "\n"


def _parameters(series: TiltSeries) -> str:
    optics = series.optics or Optics()
    doses = series.doses
    lines = [
        f"% {series.name}: lines for the parameter file of emClarity; lengths in m",
        f"PIXEL_SIZE={series.pixel_size_angstrom:.6g}e-10",
        "SuperResolution=0",
        f"Cs={optics.spherical_aberration_mm:.6g}e-3",
        f"VOLTAGE={optics.voltage_kv:.6g}e3",
        f"AMPCONT={optics.amplitude_contrast:.6g}",
        f"% dose of all images, e/A^2; the order of the images is in fixedStacks/{series.name}.order, which is read where",
        "% startingAngle, startingDirection, doseSymmetricIncrement and doseAtMinTilt are not given",
        f"CUM_e_DOSE={float(doses.sum()):.6g}",
    ]
    fits = [t.ctf.defocus_angstrom for t in series.tilts if t.ctf is not None]
    if fits:
        lines.append(f"defEstimate={float(np.median(fits)) * 1e-4:.4g}e-6")
    return "\n".join(lines) + "\n"


def _ctf_table(series: TiltSeries, matrices: FloatArray, shifts: FloatArray) -> str:
    optics = series.optics or Optics()
    y, x = series.image_shape
    count = len(series.tilts)
    lines = []
    for i, tilt in enumerate(series.tilts):
        fit: CtfFit | None = tilt.ctf
        pose = tilt.pose
        if fit is None or pose is None:
            continue
        half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom) / _M
        angle = np.deg2rad((fit.astigmatism_angle_deg - pose.z_rot_deg + 90.0) % 180.0 - 90.0)
        contrast = optics.amplitude_contrast
        if fit.phase_shift_deg:
            contrast = math.asin(contrast) + math.radians(fit.phase_shift_deg)
        a = matrices[i].ravel()
        lines.append(
            f"{i + 1}\t{shifts[i, 0]:08.2f}\t{shifts[i, 1]:08.2f}\t{pose.y_tilt_deg:07.3f}\t000.000\t090.000\t"
            f"{a[0]:.7f}\t{a[1]:.7f}\t{a[2]:.7f}\t{a[3]:.7f}\t{tilt.pre_exposure + tilt.dose:e}\t{half:e}\t{angle:e}\t"
            f"{1.0:e}\t{-fit.defocus_angstrom / _M:e}\t{series.pixel_size_angstrom / _M:e}\t"
            f"{optics.spherical_aberration_mm * 1e-3:e}\t{optics.wavelength_angstrom / _M:e}\t{contrast:e}\t{x}\t{y}\t{count}\t"
            f"{i + 1:8.2f}"
        )
    # by the size of the tilt, as emClarity has it
    order = sorted(range(len(lines)), key=lambda i: -abs(series.poses[i].y_tilt_deg))
    return "\n".join(lines[i] for i in order) + "\n"


def _region(series: TiltSeries) -> str:
    """One region that is the whole specimen: name, count, width, first and last slice in y, thickness, shifts in x and z."""
    size = series.volume_size_px
    if size is None:
        return ""
    height = series.image_shape[0] - (1 - series.image_shape[0] % 2)
    width = series.image_shape[1] - (1 - series.image_shape[1] % 2)
    y = min(size[1], height - 1)
    centre = height // 2 + 1  # from 1, as emc_get_origin_index
    first = max(1, centre - y // 2)
    values = [min(size[0], width), first, min(height, first + y - 1), size[2], 0, 0]
    return "\n".join([series.name, "1", *(str(v) for v in values)]) + "\n"


def _losses(geometry: SeriesGeometry) -> list[str]:
    series = geometry.series
    out = []
    x_tilt = max(abs(p.x_tilt_deg) for p in series.poses)
    if x_tilt > 0:
        away = np.deg2rad(x_tilt) * 0.5 * series.pixel_size_angstrom * max(series.image_shape)
        out.append(f"rotation about x, up to {x_tilt:.2f} degrees ({away:.0f} A in height at the edge of the image)")
    if geometry.warp is not None:
        rms = float(np.sqrt((geometry.warp.displacement_angstrom**2).sum(axis=-1).mean()))
        out.append(f"the local deformation of the images (rms {rms:.1f} A)")
    if series.excluded:
        out.append(f"{len(series.excluded)} left-out images: they must not be in {series.name}.fixed")
    if series.hand != -1.0:
        out.append(
            "the hand: emClarity takes points higher up to have less underfocus (hand -1), and this series has +1"
        )
    if any(t.ctf is not None for t in series.tilts) and not series.has_ctf:
        out.append("the defocus: not every image has one")
    phases = {round(t.ctf.phase_shift_deg, 6) for t in series.tilts if t.ctf is not None}
    if len(phases) > 1:
        out.append("phase shifts that differ between images: emClarity takes that of the first")
    if not all(t.image is not None for t in series.tilts):
        out.append(f"where the images are: {series.name}.fixed is to be made of them, in ascending order of angle")
    return out


FORMAT = GeometryFormat(
    name="emclarity",
    title="emClarity",
    words=GeometryWords(
        origin="pixel n // 2 of the image, from 0",
        unit="pixels; defocus m",
        hand="a point higher up after the tilt has less underfocus (-1)",
        angles="as IMOD's .xf and .tlt; astigmatism in the aligned image, from x towards y",
    ),
    recognises=recognises,
    read=read,
    write=write,
)
