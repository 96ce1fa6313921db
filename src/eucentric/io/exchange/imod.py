"""IMOD's data sets (etomo), both ways.

Reads NAME.xf with NAME.tlt, and where they are there NAME.rawtlt, NAME.xtilt, tilt.com (OFFSET, SHIFT, XAXISTILT, EXCLUDELIST,
LOCALFILE), ctfcorrection.com (InvertTiltAngles, optics), NAME.defocus, NAME.edf, NAME_cutviews0.rawtlt, NAME.mdoc and the header
of NAME.st or NAME.mrc. A set without NAME.xf is read from NAME.prexg: etomo's coarse alignment, turned by the axis in its .edf.

What the programs do, from their sources [1]_ and manual pages [2]_:

- `.xf` takes raw images to aligned ones about the middles of both, (n - 1) / 2 counted from 0. `tilt` has its axis there.
- Nearer to 90 degrees than to 0, etomo swaps width and height of the aligned images, of FULLIMAGE with them (`TiltParam.java`).
- ctfphaseflip takes the defocus of a file for that of the middle of the raw image, and underfocus to grow to the right of
  the aligned image at positive tilts: at x it is ``D + x tan(tilt)``. A point at x of the untilted specimen's plane lies at
  z_camera = -x tan(tilt), so this is hand -1; with InvertTiltAngles it is +1 (`ctfphaseflip.cpp`).
- mtffilter's dose files of type 2 have the dose before each image and that of the image (`mtffilter`, TypeOfDoseFile).

References
----------
.. [1] IMOD's sources: flib/tilt/tilt.f90, mrc/ctfphaseflip.cpp, Etomo/src/etomo/comscript
.. [2] https://bio3d.colorado.edu/imod/doc/program_listing.html
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from eucentric.errors import FormatError, InputError
from eucentric.io.ctf_estimates import ExternalCtf, read_imod_defocus
from eucentric.io.exchange.from_views import numbers_in_time, series_of_views
from eucentric.io.exchange.imod_writer import write
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry
from eucentric.io.exchange.whole_stack import with_fits_at_specimen_centre
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView, from_imod, is_turned
from eucentric.io.imod import TiltCommand, read_angle_table, read_angles, read_tilt_command, read_transforms
from eucentric.io.imod_local import read_local
from eucentric.io.mdoc import Mdoc, read_mdoc
from eucentric.io.mrc import read_mrc_header
from eucentric.models.optics import Optics
from eucentric.typing import FloatArray

_NM = 10.0
_CUT = "_cutviews0.rawtlt"
_NOT_THE_ALIGNMENT = ("_fid", "_nonfid", "_local", "local", "rotation")
_OF_A_SET = (".xf", ".prexg", ".edf", ".tlt", ".rawtlt", ".st")
_SAME_DEG = 1.0


def read_imod_alignment(
    file: Path, *, pixel_size_angstrom: float | None = None, raw_angles_do: bool = False
) -> ExternalAlignment:
    """The alignment in an `.xf` and the files beside it.

    Parameters
    ----------
    pixel_size_angstrom : of the stack, which tells whether a local alignment was found on binned images
    raw_angles_do : take the angles of the `.rawtlt` where there is no `.tlt`

    Raises
    ------
    InputError : no angles beside it
    FormatError : a file that cannot be read
    """
    stem = file.with_suffix("")

    def beside(ending: str) -> FloatArray | None:
        other = file.with_name(stem.name + ending)
        return read_angles(other) if other.is_file() else None

    tilts, raw = beside(".tlt"), beside(".rawtlt")
    if tilts is None and raw_angles_do:
        tilts = raw
    if tilts is None:
        raise InputError(
            f"`{stem.name}.tlt` was not found beside `{file}`. Copy it there: IMOD keeps the tilt angles in it."
        )
    matrices, shifts = read_transforms(file)
    command = tilt_command_beside(file)
    cut = next(
        (
            read_angles(p)
            for p in (file.with_name(stem.name + _CUT), file.parent.parent / (stem.name + _CUT))
            if p.is_file()
        ),
        np.zeros(0),
    )
    local = None
    if (
        command is not None
        and command.local_file
        and (found := file.with_name(Path(command.local_file).name)).is_file()
    ):
        local = read_local(found, len(matrices))
        scale = command.local_scale
        if scale is None and local.pixel_size_angstrom and pixel_size_angstrom:
            scale = local.pixel_size_angstrom / pixel_size_angstrom
        local = local if scale is None else local.scaled(scale)
    return from_imod(
        matrices,
        shifts,
        tilts,
        source=f"IMOD ({file.name})",
        x_tilts_deg=beside(".xtilt"),
        listed_deg=raw,
        command=command,
        cut_deg=cut.tolist(),
        local=local,
    )


def _command_file(file: Path, name: str) -> Path | None:
    """`name`.com beside an .xf, where it is of the same data set: of its axis where there are two."""
    axis = file.stem[-1:] if file.stem[-1:] in ("a", "b") else ""
    names = dict.fromkeys((f"{file.stem}_{name}.com", f"{name}{axis}.com", f"{name}.com"))
    only_one = sum(not p.stem.endswith(_NOT_THE_ALIGNMENT) for p in file.parent.glob("*.xf")) <= 1
    for com in (file.with_name(n) for n in names):
        if not com.is_file():
            continue
        if only_one or com.name.startswith(f"{file.stem}_"):
            return com
        words = com.read_text(encoding="latin-1").split()
        if any(Path(word).name in (f"{file.stem}.tlt", f"{file.stem}.xf") for word in words):
            return com
    return None


def tilt_command_beside(file: Path) -> TiltCommand | None:
    """`tilt.com` beside an .xf, where it is of the same series."""
    com = _command_file(file, "tilt")
    return None if com is None else read_tilt_command(com)


def _entries(com: Path | None) -> dict[str, str]:
    """Entries of a command file, names in lower case; empty where there is none."""
    found: dict[str, str] = {}
    if com is not None:
        for raw in com.read_text(encoding="latin-1").splitlines():
            name, value = [*raw.strip().split(None, 1), "", ""][:2]
            if name and not name.startswith(("#", "$")):
                found.setdefault(name.lower(), value.strip())
    return found


def _number(entries: dict[str, str], name: str) -> float | None:
    try:
        value = float(entries.get(name, "").split()[0])
    except (ValueError, IndexError):
        return None
    return value if np.isfinite(value) and value > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the files of a set tell beside the alignment."""

    stack: Path | None
    """NAME.st or NAME.mrc, or what newst.com reads; it may not exist."""
    size: tuple[int, int] | None
    """(x, y)"""
    pixel_size_angstrom: float | None
    axis_deg: float | None
    optics: Optics | None
    hand: float | None
    mdoc: Mdoc | None
    notes: tuple[str, ...]


def _edf(stem: Path) -> dict[str, str]:
    names = dict.fromkeys((stem.name, stem.name[:-1] if stem.name[-1:] in ("a", "b") else stem.name))
    for file in (stem.with_name(f"{n}.edf") for n in names):
        if file.is_file():
            pairs = (line.partition("=") for line in file.read_text(encoding="latin-1").splitlines())
            return {key.strip(): value.strip() for key, _, value in pairs}
    return {}


def _facts(stem: Path) -> _Facts:
    xf = stem.with_name(stem.name + ".xf")
    newst, correction = _entries(_command_file(xf, "newst")), _entries(_command_file(xf, "ctfcorrection"))
    plotter = _entries(_command_file(xf, "ctfplotter"))
    edf = _edf(stem)
    axis = "B" if stem.name.endswith("b") and edf.get("Setup.AxisType", "").startswith("Dual") else "A"
    stack = next((p for e in (".st", ".mrc", ".mrcs") if (p := stem.with_name(stem.name + e)).is_file()), None)
    size, pixel, notes = None, None, []
    if stack is not None:
        try:
            header = read_mrc_header(stack)
            size, pixel = (header.shape[2], header.shape[1]), header.pixel_size_angstrom
        except FormatError as error:
            notes.append(f"{error} Its size and pixel size were not taken from it.")
    elif newst.get("inputfile"):
        stack = stem.with_name(newst["inputfile"])
    mdoc_file = next(
        (p for e in (".mdoc", ".st.mdoc", ".mrc.mdoc") if (p := stem.with_name(stem.name + e)).is_file()), None
    )
    mdoc = None if mdoc_file is None else read_mdoc(mdoc_file)
    in_edf = _number(edf, "Setup.PixelSize")
    if pixel is None:
        pixel = None if in_edf is None else in_edf * _NM
    if pixel is None and mdoc is not None:
        pixel = mdoc.pixel_spacing_angstrom or mdoc.sections[0].pixel_spacing_angstrom
    if pixel is None and (told := _number(correction, "pixelsize")) is not None:
        pixel = told * _NM / (_number(newst, "binbyfactor") or 1.0)
    command_files = {**plotter, **correction}
    voltage, cs = _number(command_files, "voltage"), _number(command_files, "sphericalaberration")
    amplitude = _number(command_files, "amplitudecontrast")
    optics = None
    if voltage and cs:
        try:
            optics = Optics(voltage_kv=voltage, spherical_aberration_mm=cs, amplitude_contrast=amplitude or 0.07)
        except InputError as error:
            notes.append(f"The optics in ctfcorrection.com were not taken over: {error}")
    told_axis = edf.get(f"Setup.ImageRotation{axis}", "")
    return _Facts(
        stack=stack,
        size=size,
        pixel_size_angstrom=pixel,
        axis_deg=float(told_axis) if re.fullmatch(r"-?\d+(\.\d+)?", told_axis) else None,
        optics=optics,
        hand=(1.0 if "inverttiltangles" in command_files else -1.0) if command_files else None,
        mdoc=mdoc,
        notes=tuple(notes),
    )


def _coarse(stem: Path, axis_deg: float | None) -> ExternalAlignment:
    """NAME.prexg as an alignment: etomo turns it by the axis where no fiducials are used."""
    matrices, shifts = read_transforms(stem.with_name(stem.name + ".prexg"))
    if axis_deg is None:
        raise InputError(
            f"`{stem.name}.prexg` is a coarse alignment, which says nothing of the tilt axis, and no .edf beside it does. "
            f"Copy the .edf there, or finish the alignment so that there is a {stem.name}.xf."
        )
    turn = np.deg2rad(-axis_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    angles = read_angles(stem.with_name(stem.name + ".rawtlt"))
    found = from_imod(rotation @ matrices, shifts @ rotation.T, angles, source=f"IMOD ({stem.name}.prexg)")
    word = (
        f"There is no {stem.name}.xf: the coarse alignment {stem.name}.prexg was taken, with the axis {axis_deg:g} degrees of "
        "the .edf."
    )
    return replace(found, caveats=(word, *found.caveats))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    order: list[int] | None = None
    doses: FloatArray | None = None
    before: FloatArray | None = None
    """Dose before each view, where told."""
    movies: list[str | None] | None = None
    notes: tuple[str, ...] = ()


def _ranks(values: FloatArray) -> list[int]:
    return [int(r) for r in np.argsort(np.argsort(values, kind="stable"), kind="stable")]


def _times(stem: Path, entries: list[ExternalView | LeftOutView], mdoc: Mdoc | None) -> _Times:
    """Order, dose and movies of the views, from the mdoc, from mtffilter.com's dose file, or further columns of the `.rawtlt`."""
    rows = [e.section for e in entries]
    dose_file = _entries(_command_file(stem.with_name(stem.name + ".xf"), "mtffilter"))
    named = stem.parent / Path(dose_file.get("doseweightingfile", "")).name
    kind = _number(dose_file, "typeofdosefile")
    known = [r for r in rows if r is not None]
    if named.is_file() and kind in (2.0, 3.0) and len(known) == len(rows):
        table = read_angle_table(named)
        if table.shape[1] >= 2 and len(table) > max(known):
            prior, second = table[known, 0], table[known, 1]
            return _Times(order=_ranks(prior), doses=second - prior if kind == 3.0 else second, before=prior)
    if mdoc is not None:
        return _times_of_mdoc(entries, mdoc)
    raw = stem.with_name(stem.name + ".rawtlt")
    if raw.is_file() and len(known) == len(rows):
        try:
            table = read_angle_table(raw)
        except FormatError:
            return _Times()
        if table.shape[1] >= 2 and len(table) > max(known, default=-1):
            doses = table[known, 2] if table.shape[1] > 2 else None
            return _Times(order=numbers_in_time(table[known, 1], first=1), doses=doses)
    return _Times()


def _times_of_mdoc(entries: list[ExternalView | LeftOutView], mdoc: Mdoc) -> _Times:
    sections = [s for s in mdoc.sections if s.tilt_angle_deg is not None]
    listed = [e.listed_deg for e in entries]
    if len(sections) < len(entries) or None in listed:
        return _Times(notes=("The mdoc has fewer images than the stack; order and dose were not taken from it.",))
    away = np.abs(np.array(listed, dtype=np.float64)[:, None] - np.array([s.tilt_angle_deg for s in sections]))
    row, column = linear_sum_assignment(away)
    if away[row, column].max() > _SAME_DEG:
        return _Times(notes=("The mdoc lists other angles than the stack; order and dose were not taken from it.",))
    own = [sections[c] for c in column]
    when = [s.date_time for s in own]
    prior = [s.prior_record_dose for s in own]
    order = before = None
    if None not in prior and len(set(prior)) == len(prior):
        before = np.array(prior, dtype=np.float64)
        order = _ranks(before)
    elif None not in when and len(set(when)) == len(when):
        order = _ranks(np.array([w.timestamp() for w in when if w is not None]))
    told = [s.exposure_dose for s in own]
    doses = None if None in told or not any(told) else np.array(told, dtype=np.float64)
    if doses is None and before is not None and len(before) > 1:
        doses = np.full(len(before), np.median(np.diff(np.sort(before))))
    return _Times(
        order=order,
        doses=doses,
        before=before,
        movies=[s.movie_name for s in own],
    )


def _full_size(external: ExternalAlignment, command: TiltCommand | None) -> tuple[int, int] | None:
    """(x, y) of the raw images from FULLIMAGE."""
    if command is None or command.full_image is None or not external.views:
        return None
    x, y = command.full_image
    return (y, x) if is_turned(float(np.median([v.z_rot_deg for v in external.views]))) else (x, y)


def _read_set(stem: Path, given: Given) -> SeriesGeometry:
    facts = _facts(stem)
    xf = stem.with_name(stem.name + ".xf")
    notes = list(facts.notes)
    pixel = given.pixel_size_angstrom or facts.pixel_size_angstrom
    command = None
    if xf.is_file():
        external = read_imod_alignment(xf, pixel_size_angstrom=pixel, raw_angles_do=True)
        command = tilt_command_beside(xf)
        if not stem.with_name(stem.name + ".tlt").is_file():
            notes.append(f"There is no {stem.name}.tlt: the angles of {stem.name}.rawtlt stand for it.")
    else:
        external = _coarse(stem, facts.axis_deg)
    size = facts.size
    if size is None and (size := _full_size(external, command)) is not None and given.image_shape is None:
        notes.append(f"The size of the images, {size[0]} x {size[1]} pixels, is that of FULLIMAGE in tilt.com.")
    external = replace(external, image_size=size, pixel_size_angstrom=pixel)
    entries: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    times = _times(stem, entries, facts.mdoc)
    images: list[str | None] | None = None
    if facts.stack is not None:
        name = str(facts.stack.resolve()) if facts.stack.is_file() else facts.stack.name
        images = [None if e.section is None else f"{e.section + 1}@{name}" for e in entries]
    defocus = stem.with_name(stem.name + ".defocus")
    ctf: ExternalCtf | None = read_imod_defocus(defocus) if defocus.is_file() else None
    found = series_of_views(
        external,
        replace(given, optics=given.optics or facts.optics),
        stem.with_name(stem.name + ".xf") if xf.is_file() else stem.with_name(stem.name + ".prexg"),
        name=stem.name,
        ctf=ctf,
        doses=times.doses,
        before=times.before,
        order=times.order,
        images=images,
        hand=facts.hand,
    )
    series = with_fits_at_specimen_centre(found.series)
    if times.movies is not None and times.order is not None:
        names = dict(zip(times.order, times.movies, strict=True))
        series = series.replace(
            tilts=tuple(replace(t, movie=names.get(t.acquisition)) for t in series.tilts),
            excluded=tuple(
                replace(e, tilt=replace(e.tilt, movie=names.get(e.tilt.acquisition))) for e in series.excluded
            ),
        )
    if command is not None and command.full_image and command.thickness_px and given.volume_size_px is None:
        series = series.replace(volume_size_px=(*command.full_image, command.thickness_px))
    return replace(found, series=series, notes=tuple(dict.fromkeys((*notes, *found.notes, *times.notes))))


def _stems_in(folder: Path) -> list[Path]:
    """Data sets of a folder, as paths without ending."""
    try:
        names = {p.name for p in folder.iterdir()}
    except OSError:
        return []
    stems = []
    for name in sorted(names):
        stem = name.rpartition(".")[0]
        if not stem or stem.endswith(_NOT_THE_ALIGNMENT):
            continue
        angles = f"{stem}.tlt" in names or f"{stem}.rawtlt" in names
        if (name.endswith(".xf") and angles) or (
            name.endswith(".prexg") and f"{stem}.rawtlt" in names and f"{stem}.xf" not in names
        ):
            stems.append(folder / stem)
    return stems


def _sets(place: Path) -> list[Path]:
    """The data sets that a file or folder stands for, as paths without ending."""
    if place.is_dir():
        own = _stems_in(place)
        try:
            folders = sorted(p for p in place.iterdir() if p.is_dir())
        except OSError:
            folders = []
        return own or [stem for folder in folders for stem in _stems_in(folder)]
    if place.suffix.lower() == ".xf":
        return [place.with_suffix("")]
    if place.suffix.lower() == ".edf":
        name = _edf(place.with_suffix("")).get("Setup.DatasetName") or place.stem
        return [s for s in _stems_in(place.parent) if s.name in (name, f"{name}a", f"{name}b")]
    if place.name.lower() in ("tilt.com", "tilta.com", "tiltb.com"):
        named = Path(read_tilt_command(place).tilt_file or "").stem
        stems = _stems_in(place.parent)
        return [s for s in stems if s.name == named] or (stems if len(stems) == 1 else [])
    return [s for s in _stems_in(place.parent) if s.name == place.stem]


def recognises(place: Path) -> bool:
    """Whether a file or folder looks like a data set of IMOD."""
    try:
        if place.is_dir():
            if any(place.glob("*.aln")) or any(place.glob("setup_*.com")):
                return False
            return bool(_sets(place))
        known = place.suffix.lower() in _OF_A_SET or place.name.lower() in ("tilt.com", "tilta.com", "tiltb.com")
        return known and bool(_sets(place))
    except (OSError, InputError):
        return False


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """The data sets of IMOD in a folder (or its subfolders), or the one that a file of it belongs to.

    Raises
    ------
    InputError : no data set there, or a size that nothing tells
    FormatError : a damaged file
    """
    place = Path(place)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Give an .xf, or the folder of a data set of IMOD.")
    stems = _sets(place)
    if not stems:
        raise InputError(
            f"`{place}` holds no data set of IMOD: expected an .xf (or .prexg) with a .tlt or .rawtlt of its name beside it."
        )
    if len(stems) > 1:
        given = replace(given, name=None)
    return tuple(_read_set(stem, given) for stem in stems)


FORMAT = GeometryFormat(
    name="imod",
    title="IMOD",
    words=GeometryWords(
        origin="transforms and tilt axis about the middle of the images, (n - 1) / 2 counted from 0",
        unit="pixels of the stack; defocus in nm, of the middle of the raw image",
        hand="-1: more underfocus on the right of the aligned image at positive tilts; +1 with InvertTiltAngles",
        angles=".tlt is the tilt; the axis, clockwise, and the magnification are in .xf; views in the order of the stack",
    ),
    recognises=recognises,
    read=read,
    write=write,
)
