"""Tables of contrast transfer without any alignment: CTFFIND's `.txt`, Gctf's `.star` and ctfplotter's `.defocus`, both ways.

What their columns mean is told at `eucentric.io.ctf_estimates`. They speak of the middle of each image: where a series that is
written has poses, its defocus is brought there from the specimen centre, along the specimen's plane.

Angles of the tilts are those in a ctfplotter's file, else in an angle file beside the table (`_TLT.txt`, `.rawtlt`, `.tlt`) with
as many lines. Where there is none they are all 0, which is noted. CTFFIND 5 has eight to ten columns, of which the first seven are
those of CTFFIND 4.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.ctf_estimates import ExternalCtf, read_ctf_star, read_ctffind_table, read_imod_defocus
from eucentric.io.ctf_writers import write_ctffind_table, write_gctf_star, write_imod_defocus
from eucentric.io.exchange.from_views import dose_notes
from eucentric.io.exchange.imod_writer import stack_name
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.exchange.whole_stack import fits_at_image_middle, whole_stack
from eucentric.io.imod import read_angle_table, write_angles
from eucentric.io.mrc import read_mrc_header
from eucentric.io.star import read_star_text
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltSeries
from eucentric.typing import FloatArray

_ENDINGS = ("_ctffind4", "_ctffind5", "_ctffind", "_gctf", "_ctf", "_diagnostic")
_ANGLE_FILES = ("_TLT.txt", ".rawtlt", ".tlt")
_Row = tuple[int, Tilt, CtfFit]


def _stem(file: Path) -> Path:
    """The series' files without ending."""
    stem = file.name.rpartition(".")[0]
    ending = next((e for e in _ENDINGS if stem.lower().endswith(e) and len(stem) > len(e)), "")
    return file.with_name(stem[: len(stem) - len(ending)])


def _angles(file: Path, count: int) -> FloatArray | None:
    """(view, columns) of an angle file beside a table."""
    stem = _stem(file)
    for ending in _ANGLE_FILES:
        beside = stem.with_name(stem.name + ending)
        if beside.is_file():
            try:
                table = read_angle_table(beside)
            except (FormatError, InputError):
                continue
            if len(table) == count:
                return table
    return None


def _series(
    file: Path, ctf: ExternalCtf, given: Given, *, pixel_size: float | None, source: str | None
) -> tuple[SeriesGeometry, ...]:
    """The series of a table's images, in order of their angles."""
    estimates = ctf.estimates
    notes = [*ctf.caveats]
    table = _angles(file, len(estimates))
    order = None
    listed = [e.listed_deg for e in estimates]
    if None not in listed:
        angles = np.array(listed, dtype=np.float64)
    elif table is not None:
        angles = table[:, 0]
        order = np.argsort(np.argsort(table[:, 1])) if table.shape[1] > 1 else None
    else:
        angles = np.zeros(len(estimates))
        notes.append(
            f"`{file.name}` does not tell the angles of its {len(estimates)} images, and no angle file of as many lies beside it: "
            "all are 0."
        )
    if order is None:
        notes.append(
            f"`{file.name}` does not tell in which order the images were taken; that of its lines stands for it."
        )
        order = np.arange(len(estimates))
    named = None if source is None else file.with_name(Path(source).name)
    stack = named if named is not None and named.is_file() else None
    shape = None
    if stack is not None and stack.suffix.lower() in (".mrc", ".st", ".mrcs", ".ali"):
        header = read_mrc_header(stack)
        shape, pixel_size = (header.shape[1], header.shape[2]), pixel_size or header.pixel_size_angstrom
    name = source if stack is None else str(stack.resolve())
    dose = given.dose_per_tilt or 0.0
    tilts = []
    for i, estimate in enumerate(estimates):
        section = i if estimate.section is None else estimate.section
        tilts.append(
            Tilt(
                nominal_tilt_deg=float(angles[i]),
                acquisition=int(order[i]),
                dose=dose,
                pre_exposure=dose * int(order[i]),
                image=None if name is None else f"{section + 1}@{name}",
                ctf=estimate.fit,
            )
        )
    series = TiltSeries.sorted(
        tilts,
        name=given.name or _stem(file).name,
        pixel_size_angstrom=given.need_pixel_size(pixel_size, file),
        image_shape=given.need_image_shape(shape, file),
        optics=given.optics or ctf.optics or Optics(),
        volume_size_px=given.volume_size_px,
        thickness_angstrom=ctf.thickness_angstrom,
    )
    notes += dose_notes(series, file)
    notes.append(f"{ctf.source} holds no alignment; its defocus is that of the middle of each image.")
    return (SeriesGeometry(series=series, notes=tuple(dict.fromkeys(notes))),)


def _files(place: Path, looks: Callable[[Path], bool]) -> list[Path]:
    place = Path(place)
    if place.is_dir():
        return sorted(p for p in place.iterdir() if p.is_file() and looks(p))
    return [place]


def _read_all(
    place: Path,
    given: Given,
    looks: Callable[[Path], bool],
    one: Callable[[Path, Given], tuple[SeriesGeometry, ...]],
    what: str,
) -> tuple[SeriesGeometry, ...]:
    if not Path(place).exists():
        raise InputError(f"`{place}` does not exist. Give {what}, or a folder of them.")
    files = _files(place, looks)
    if not files:
        raise InputError(f"`{place}` holds no {what}. Give the file itself.")
    if len(files) > 1:
        given = replace(given, name=None)
    return tuple(found for file in files for found in one(file, given))


def _recognises(place: Path, looks: Callable[[Path], bool]) -> bool:
    try:
        return bool(_files(place, looks)) if Path(place).is_dir() else looks(Path(place))
    except OSError:
        return False


def _first_lines(file: Path) -> str:
    with file.open("rb") as raw:
        return raw.read(4096).decode("latin-1")


def _is_ctffind(file: Path) -> bool:
    if file.suffix.lower() != ".txt":
        return False
    text = _first_lines(file)
    return text.lstrip().startswith("#") and "CTFFind" in text


def _is_gctf(file: Path) -> bool:
    if file.suffix.lower() != ".star":
        return False
    text = _first_lines(file)
    others = ("_rlnTomo", "_rlnCoordinateX", "_rlnImageName", "_rlnOpticsGroup")
    return all(label in text for label in ("_rlnDefocusU", "_rlnDetectorPixelSize")) and not any(
        o in text for o in others
    )


def _is_ctfplotter(file: Path) -> bool:
    return file.suffix.lower() == ".defocus"


def _read_ctffind(file: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    ctf = read_ctffind_table(file)
    text = _first_lines(file)
    pixel = re.search(r"Pixel size:\s*([\d.]+)", text)
    source = re.search(r"Input file:\s*(.+?)\s*;", text)
    try:
        size = None if pixel is None else float(pixel[1])
    except ValueError:
        size = None
    return _series(file, ctf, given, pixel_size=size, source=None if source is None else source[1])


def _read_gctf(file: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    ctf = read_ctf_star(file)
    table = next((t for t in read_star_text(file).values() if "rlnDefocusU" in t), {})
    size = None
    try:
        size = (
            float((table.get("rlnDetectorPixelSize") or ["nan"])[0] or "nan")
            * 1e4
            / float((table.get("rlnMagnification") or ["nan"])[0] or "nan")
        )
    except (ValueError, ZeroDivisionError):
        size = None
    first = (table.get("rlnMicrographName") or [None])[0]
    split = None if first is None else re.fullmatch(r"(?:\d+@)?(.+?)(?:\.\d+)?", first)
    named = len(ctf.estimates) > 1 and all(e.section is not None for e in ctf.estimates)
    source = split[1] if split is not None and named else None
    return _series(file, ctf, given, pixel_size=size if size is not None and 0 < size < 1e4 else None, source=source)


def _read_ctfplotter(file: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    stem = _stem(file)
    stack = next((p for e in (".st", ".mrc") if (p := stem.with_name(stem.name + e)).is_file()), None)
    return _series(file, read_imod_defocus(file), given, pixel_size=None, source=None if stack is None else stack.name)


def _rows(geometry: SeriesGeometry, program: str) -> tuple[list[_Row], str, list[str]]:
    """(number in the stack, tilt, fit) of the images with a CTF, the stack's name, and what is lost."""
    series = geometry.series
    if series.optics is None:
        raise InputError(
            f"{series.name} was taken by scanning transmission and has no contrast transfer. Write another format than {program}."
        )
    stack = whole_stack(series)
    fits = fits_at_image_middle(series)
    own = [view.tilt.ctf if view.used is None else fits[view.used] for view in stack]
    rows = [(i + 1, view.tilt, fit) for i, (view, fit) in enumerate(zip(stack, own, strict=True)) if fit is not None]
    if not rows:
        raise InputError(f"{series.name} has no CTF, and a table of {program} holds nothing else. Estimate it first.")
    name, losses = stack_name(series, stack)
    if any(t.pose is not None for t in series.tilts):
        losses.append(f"{series.name}: a table of {program} does not hold its alignment.")
    if any(t.dose > 0 for t in series.tilts):
        losses.append(
            f"{series.name}: a table of {program} does not hold doses and the order in which images were taken."
        )
    if len(rows) < len(stack):
        gone = [f"{v.tilt.nominal_tilt_deg:g}" for v, fit in zip(stack, own, strict=True) if fit is None]
        losses.append(
            f"{series.name}: {len(gone)} images without a CTF (at {', '.join(gone[:6])} degrees) have no line; numbers are those of "
            "the whole stack."
        )
    return rows, name, losses


def _write_angles(stem: Path, rows: Sequence[_Row]) -> Path:
    """Angles of the table's lines beside it, as it holds none."""
    file = stem.with_name(f"{stem.name}.rawtlt")
    write_angles(file, np.array([tilt.nominal_tilt_deg for _, tilt, _ in rows]))
    return file


def _write_ctffind_one(stem: Path, geometry: SeriesGeometry) -> tuple[list[Path], list[str]]:
    rows, source, losses = _rows(geometry, "CTFFIND")
    series = geometry.series
    file = stem.with_name(f"{stem.name}_ctffind4.txt")
    write_ctffind_table(
        file,
        [(number, fit) for number, _, fit in rows],
        source=source,
        pixel_size_angstrom=series.pixel_size_angstrom,
        optics=series.optics or Optics(),
    )
    return [file, _write_angles(stem, rows)], losses


def _write_gctf_one(stem: Path, geometry: SeriesGeometry) -> tuple[list[Path], list[str]]:
    rows, source, losses = _rows(geometry, "Gctf")
    series = geometry.series
    file = stem.with_name(f"{stem.name}_gctf.star")
    write_gctf_star(
        file,
        [(number, fit) for number, _, fit in rows],
        source=source,
        pixel_size_angstrom=series.pixel_size_angstrom,
        optics=series.optics or Optics(),
    )
    return [file, _write_angles(stem, rows)], losses


def _write_ctfplotter_one(stem: Path, geometry: SeriesGeometry) -> tuple[list[Path], list[str]]:
    rows, _, losses = _rows(geometry, "ctfplotter")
    series = geometry.series
    nominal = series.nominal_tilts_deg
    if len(nominal) > 1 and not np.any(nominal != nominal[0]):
        raise InputError(
            f"All tilts of {series.name} are at {nominal[0]:g} degrees, and ctfplotter's table needs their angles. "
            "Put an angle file (.rawtlt) beside what was read."
        )
    file = stem.with_name(f"{stem.name}.defocus")
    write_imod_defocus(
        file,
        [
            (number, tilt.nominal_tilt_deg if tilt.pose is None else tilt.pose.y_tilt_deg, fit)
            for number, tilt, fit in rows
        ],
    )
    optics = series.optics or Optics()
    losses.append(
        f"{series.name}: a table of ctfplotter does not hold the optics ({optics.voltage_kv:g} kV, "
        f"{optics.spherical_aberration_mm:g} mm) and the pixel size ({series.pixel_size_angstrom:g} A)."
    )
    return [file], losses


def _write_all(
    place: Path,
    geometries: Sequence[SeriesGeometry],
    ending: str,
    one: Callable[[Path, SeriesGeometry], tuple[list[Path], list[str]]],
) -> Written:
    files: list[Path] = []
    losses: list[str] = []
    name = place.name.lower()
    kind = ending[ending.rindex(".") :]
    plain = (
        name.endswith(kind) and not name.endswith(ending) and not place.is_dir()
    )  # such as `ctf.star` for `_gctf.star`
    base = place.with_name(f"{place.stem}{ending}") if plain else place
    for stem, geometry in targets(base, geometries, (ending,)):
        written, words = one(stem, geometry)
        if plain:
            written = [written[0].replace(place), *written[1:]]
        files += written
        losses += words
    return Written(files=tuple(files), losses=tuple(losses))


def _words(unit: str, angles: str) -> GeometryWords:
    return GeometryWords(
        origin="no alignment; defocus of the middle of each image",
        unit=unit,
        hand="none",
        angles=angles,
    )


CTFFIND = GeometryFormat(
    name="ctffind",
    title="CTFFIND 4 and 5",
    words=_words(
        "defocus in A, underfocus positive; phase shift in radians",
        "defocus 1 lies at the azimuth, in degrees from x towards y; tilt angles are in an angle file beside it",
    ),
    recognises=lambda place: _recognises(place, _is_ctffind),
    read=lambda place, given: _read_all(place, given, _is_ctffind, _read_ctffind, "table of CTFFIND"),
    write=lambda place, geometries: _write_all(place, geometries, "_ctffind4.txt", _write_ctffind_one),
)
GCTF = GeometryFormat(
    name="gctf",
    title="Gctf",
    words=_words(
        "defocus in A, underfocus positive; phase shift in degrees",
        "rlnDefocusU lies at rlnDefocusAngle, in degrees from x towards y; tilt angles are in an angle file beside it",
    ),
    recognises=lambda place: _recognises(place, _is_gctf),
    read=lambda place, given: _read_all(place, given, _is_gctf, _read_gctf, "table of Gctf"),
    write=lambda place, geometries: _write_all(place, geometries, "_gctf.star", _write_gctf_one),
)
CTFPLOTTER = GeometryFormat(
    name="ctfplotter",
    title="ctfplotter (IMOD)",
    words=_words(
        "defocus in nm, underfocus positive; phase shift in degrees",
        "the first defocus lies at the angle, in degrees from x towards y; tilt angles are in the table",
    ),
    recognises=lambda place: _recognises(place, _is_ctfplotter),
    read=lambda place, given: _read_all(place, given, _is_ctfplotter, _read_ctfplotter, "defocus file of ctfplotter"),
    write=lambda place, geometries: _write_all(place, geometries, ".defocus", _write_ctfplotter_one),
)
FORMATS = (CTFFIND, GCTF, CTFPLOTTER)
