"""Estimates of the contrast transfer that other programs wrote, in our conventions: A, degrees, underfocus positive, U > V.

All of them put the defocus in the direction phi at ``(d1 + d2) / 2 + (d1 - d2) / 2 cos 2 (phi - angle)``, phi from the
image's x axis towards y as rows are stored, which is our own convention; where d2 is larger, U is d2 and lies at angle + 90.

- CTFFIND 4 and 5 (`.txt`): A, degrees, phase in radians, underfocus positive; CTFFIND 5 adds tilt axis, tilt and thickness (A).
- AreTomo 2 and 3 (`_CTF.txt`): the same columns, the larger defocus first; some versions add the hand.
- ctfplotter, ctfphaseflip (`.defocus`): first and last view (from 1), their angles, defocus in nm. From version 3 on, a first
  line has flags: 1 astigmatism, 2 its angle in radians, 4 phase shift, 8 that in radians, 16 angles of the other sign, 32
  cut-on frequency. A range of views speaks for the view in its middle [1]_.
- AreTomo's `_CTF_Imod.txt` looks like version 3 but has the smaller defocus first with the angle of the larger, a quarter
  turn from what ctfphaseflip makes of it; with a phase shift its angles are not those of the tilts [2]_.
- Warp and M (`.xml`): um, degrees, phase in units of 180 degrees, defocus = mean +- half of its delta. The defocus is that of the
  specimen centre, that of the others the middle of the image.
- Gctf and RELION (`.star`): A, degrees, phase in degrees.

References
----------
.. [1] IMOD, ctfphaseflip manual page, https://bio3d.colorado.edu/imod/doc/man/ctfphaseflip.html
.. [2] AreTomo3's sources, `CSaveCtfResults.cpp` and `GCalcCTF2D.cu`
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.external_alignments import movie_stem
from eucentric.io.guarded import reading
from eucentric.io.star import read_star_text
from eucentric.io.warp_xml import WarpGrid, read_warp_series
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import FloatArray, PathLike

Program = Literal["CTFFIND", "AreTomo", "IMOD", "Warp", "Gctf", "RELION"]
_UM, _NM = 1e4, 10.0
_HAS_ASTIGMATISM, _ASTIGMATISM_RADIANS, _HAS_PHASE, _PHASE_RADIANS, _INVERTED, _HAS_CUT_ON = 1, 2, 4, 8, 16, 32
_NAME_LABELS = ("rlnMicrographMovieName", "rlnMicrographName", "rlnImageName")
_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfEstimate:
    """The estimate of one image."""

    fit: CtfFit
    listed_deg: float | None = None
    """Angle of the stage as far as the file tells."""
    section: int | None = None
    """Position in the stack that was measured, from 0; None where unknown."""
    names: tuple[str, ...] = ()
    """Names of its movie and image without folder and ending; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCtf:
    """What another program found; estimates in the order of the file."""

    program: Program
    source: str
    """Program and file, for messages and reports."""
    estimates: tuple[CtfEstimate, ...]
    place: Literal["image", "specimen"] = "image"
    """Whether the defocus is that of the middle of the image or of the specimen centre."""
    optics: Optics | None = None
    """What the program took them to be, where the file tells."""
    thickness_angstrom: float | None = None
    caveats: tuple[str, ...] = ()


def standard_fit(
    defocus_1_angstrom: float,
    defocus_2_angstrom: float,
    angle_deg: float,
    *,
    phase_shift_deg: float = 0.0,
    score: float = _NAN,
    max_resolution_angstrom: float = _NAN,
) -> CtfFit:
    """A fit with U > V and an angle above -90 up to 90 degrees, from two defocus values of which the first is at `angle_deg`."""
    u, v, angle = defocus_1_angstrom, defocus_2_angstrom, angle_deg
    if v > u:
        u, v, angle = v, u, angle + 90.0
    return CtfFit(
        defocus_u_angstrom=u,
        defocus_v_angstrom=v,
        astigmatism_angle_deg=90.0 - (90.0 - angle) % 180.0,
        phase_shift_deg=phase_shift_deg,
        score=score if math.isfinite(score) else _NAN,
        max_resolution_angstrom=max_resolution_angstrom
        if math.isfinite(max_resolution_angstrom) and max_resolution_angstrom > 0
        else _NAN,
    )


def read_ctf_estimates(path: PathLike, name: str = "", *, project_root: PathLike | None = None) -> ExternalCtf:
    """Estimates in a file of any of the programs, told apart by what it holds.

    Parameters
    ----------
    path : `.txt`, `.defocus`, `.xml` or `.star`
    name : of the tilt series, for a RELION table of several
    project_root : folder that paths in a RELION table start from; found where not given

    Raises
    ------
    InputError : no such file, or no estimate in it
    FormatError : of no kind that is known, or damaged; the message names the line
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    if place.suffix.lower() == ".xml":
        with reading(place):
            return read_warp_ctf(place)
    if place.suffix.lower() == ".star":
        return read_ctf_star(place, name, project_root=project_root)
    lines = place.read_text(encoding="latin-1").splitlines()
    if any(line.lstrip().startswith("#") for line in lines[:1]):
        return read_ctffind_table(place)
    return read_imod_defocus(place)


def _number_rows(place: Path) -> list[tuple[int, list[float]]]:
    rows = []
    for number, line in enumerate(place.read_text(encoding="latin-1").splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            rows.append((number, [float(word) for word in words]))
        except ValueError as error:
            raise FormatError(f"Line {number} of `{place}` is `{line.strip()[:60]}`; expected numbers.") from error
    if not rows:
        raise InputError(f"`{place}` holds no estimate of the contrast transfer; expected one line for each image.")
    return rows


def _checked(values: Sequence[float], place: Path, line: int) -> None:
    if not all(math.isfinite(v) for v in values):
        raise FormatError(f"Line {line} of `{place}` holds values that are not numbers. Estimate this image again.")


def _found(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None


_HEADER = {
    "voltage_kv": r"voltage:\s*([\d.]+)",
    "spherical_aberration_mm": r"aberration:\s*([\d.]+)",
    "amplitude_contrast": r"amplitude contrast:\s*([\d.]+)",
}


def _optics(values: dict[str, float | None], place: Path) -> Optics | None:
    """Optics where voltage, spherical aberration and amplitude contrast are all told."""
    known: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if len(known) < 3:
        return None
    try:
        return Optics(**known)
    except InputError as error:
        raise FormatError(f"`{place}`: {error}") from error


def read_ctffind_table(path: PathLike) -> ExternalCtf:
    """A text table of CTFFIND 4 or 5, or AreTomo's `_CTF.txt`: one line an image.

    Errors as `read_ctf_estimates`.
    """
    place = Path(path)
    rows = _number_rows(place)
    header = "\n".join(
        line for line in place.read_text(encoding="latin-1").splitlines() if line.lstrip().startswith("#")
    )
    version = re.search(r"CTFFind version (\S+?),", header, re.IGNORECASE)
    program: Program = "CTFFIND" if version is not None or not place.stem.endswith("_CTF") else "AreTomo"
    source = re.search(r"Input file:\s*(.+?)\s*;", header)
    names = (
        tuple(dict.fromkeys(movie_stem(text) for text in (source[1] if source else "", place.name) if text))
        if len(rows) == 1
        else ()
    )
    estimates = []
    for line, values in rows:
        if len(values) < 5:
            raise FormatError(
                f"Line {line} of `{place}` has {len(values)} numbers; expected number, two defocus values, angle, phase shift, "
                "score and resolution, as CTFFIND writes them."
            )
        _checked(values[:5], place, line)
        number, first, second, angle, phase, *rest = values
        fit = standard_fit(
            first,
            second,
            angle,
            phase_shift_deg=math.degrees(phase),
            score=rest[0] if rest else _NAN,
            max_resolution_angstrom=rest[1] if len(rest) > 1 else _NAN,
        )
        estimates.append(CtfEstimate(fit=fit, section=None if len(rows) == 1 else int(number) - 1, names=names))
    thick = np.array([v[9] for _, v in rows if len(v) > 9 and math.isfinite(v[9]) and v[9] > 0])
    label = f"CTFFIND {version[1]}" if version is not None else program
    return ExternalCtf(
        program=program,
        source=f"{label} ({place.name})",
        estimates=tuple(estimates),
        optics=_optics({key: _found(pattern, header) for key, pattern in _HEADER.items()}, place),
        thickness_angstrom=float(np.median(thick)) if len(thick) and program == "CTFFIND" else None,
    )


def read_imod_defocus(path: PathLike) -> ExternalCtf:
    """A defocus file of ctfplotter, of any version, or AreTomo's `_CTF_Imod.txt`. Errors as `read_ctf_estimates`."""
    place = Path(path)
    rows = _number_rows(place)
    of_aretomo = place.stem.lower().endswith("_ctf_imod")
    first = rows[0][1]
    version = int(first[5]) if len(first) == 6 and math.isfinite(first[5]) else 0
    if version >= 3:
        _checked(first, place, rows[0][0])
    flags = int(first[0]) if version >= 3 else 0
    if version >= 3:
        rows = rows[1:]
    if not rows:
        raise InputError(f"`{place}` holds no defocus; expected a line for each view or range of views.")
    columns = 5 + 2 * bool(flags & _HAS_ASTIGMATISM) + bool(flags & _HAS_PHASE) + bool(flags & _HAS_CUT_ON)
    estimates = []
    for line, values in rows:
        if len(values) < columns:
            raise FormatError(
                f"Line {line} of `{place}` has {len(values)} numbers; expected {columns}: first and last view, their angles, "
                "defocus and what the flags in the first line promise."
            )
        _checked(values[:columns], place, line)
        estimates.append(_imod_estimate(values, flags, version, of_aretomo))
    cut_on = flags & _HAS_CUT_ON and any(values[columns - 1] > 0 for _, values in rows)
    return ExternalCtf(
        program="AreTomo" if of_aretomo else "IMOD",
        source=f"{'AreTomo' if of_aretomo else 'IMOD'} ({place.name})",
        estimates=tuple(estimates),
        caveats=("Cut-on frequencies of the phase plate were not taken over.",) if cut_on else (),
    )


def _imod_estimate(values: Sequence[float], flags: int, version: int, of_aretomo: bool) -> CtfEstimate:
    start, end, low, high, first, *rest = values
    second, angle, phase = first, 0.0, 0.0
    if flags & _HAS_ASTIGMATISM:
        second, angle, *rest = rest
        angle = math.degrees(angle) if flags & _ASTIGMATISM_RADIANS else angle
        if second == 0.0:  # astigmatism was not fitted here
            second = first
    if of_aretomo:
        first, second = second, first
    if flags & _HAS_PHASE:
        phase = abs(math.degrees(rest[0]) if flags & _PHASE_RADIANS else rest[0])
    middle = (int(start) + int(end)) // 2
    share = (middle - start) / (end - start) if end > start else 0.0
    listed = (low + share * (high - low)) * (-1.0 if flags & _INVERTED else 1.0)
    return CtfEstimate(
        fit=standard_fit(first * _NM, second * _NM, angle, phase_shift_deg=phase),
        listed_deg=None if abs(listed) > 90.0 else listed,
        section=middle - 1 if version >= 2 else None,  # older files may count from 0
    )


def _warp_parameters(root: ElementTree.Element, tag: str) -> dict[str, str]:
    element = root.find(tag)
    found = [] if element is None else element.findall("Param")
    return {p.get("Name", ""): p.get("Value", "") for p in found}


def _warp_number(text: str, place: Path, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = _NAN
    if not math.isfinite(value):
        raise FormatError(f"`{place}` has `{text[:60]}` for {what}; expected a number.")
    return value


def _warp_grid(root: ElementTree.Element, place: Path, name: str) -> WarpGrid | None:
    element = root.find(name)
    if element is None:
        return None
    size = [int(_warp_number(element.get(axis, "1"), place, f"{name} {axis}")) for axis in ("Depth", "Height", "Width")]
    nodes = element.findall("Node")
    if min(size) < 1 or math.prod(size) > len(nodes):
        raise FormatError(f"`{place}` lacks nodes in <{name}>; expected {size[0]} x {size[1]} x {size[2]}.")
    values = np.full(size, np.nan)
    for node in nodes:
        at = tuple(int(_warp_number(node.get(axis, "0"), place, f"{name} {axis}")) for axis in "ZYX")
        if any(not 0 <= i < n for i, n in zip(at, size, strict=True)):
            raise FormatError(f"`{place}` has a node at {at} in <{name}>, outside of its size {tuple(size)}.")
        values[at] = _warp_number(node.get("Value", ""), place, name)
    if np.isnan(values).any():
        raise FormatError(f"`{place}` lacks nodes in <{name}>; expected {size[0]} x {size[1]} x {size[2]}.")
    return WarpGrid(values=values)


def read_warp_ctf(path: PathLike) -> ExternalCtf:
    """The contrast transfer of the used tilts in a tilt series' XML of Warp or M; a grid counts at the image's middle.

    Errors as `read_ctf_estimates`.
    """
    place = Path(path)
    series = read_warp_series(place)
    root = ElementTree.fromstring(place.read_bytes())
    general = _warp_parameters(root, "CTF")
    count = len(series.angles_deg)
    middle = np.array([[0.5, 0.5]])

    def column(grid_name: str, name: str) -> FloatArray:
        grid = _warp_grid(root, place, grid_name)
        if grid is None or (grid.values.size == 1 and count > 1 and name in general):
            return np.full(count, _warp_number(general.get(name, "0"), place, name))
        return np.array([grid.at(i / max(1, count - 1), middle)[0] for i in range(count)])

    defocus = column("GridCTF", "Defocus") * _UM
    half = 0.5 * column("GridCTFDefocusDelta", "DefocusDelta") * _UM
    angles = column("GridCTFDefocusAngle", "DefocusAngle")
    phases = column("GridCTFPhase", "PhaseShift") * 180.0
    if root.find("GridCTF") is None or not np.any(defocus):
        raise InputError(f"`{place}` holds no defocus. Run Warp's ts_ctf first, or give another file.")
    resolution = root.get("CTFResolutionEstimate", "0")
    names: list[tuple[str, ...]] = [(movie_stem(movie),) for movie in series.movies] or [()] * count
    thickness = _warp_number(general.get("Thickness", "0"), place, "Thickness") * _NM
    keys = {"voltage_kv": "Voltage", "spherical_aberration_mm": "Cs", "amplitude_contrast": "Amplitude"}
    return ExternalCtf(
        program="Warp",
        source=f"Warp ({place.name})",
        estimates=tuple(
            CtfEstimate(
                fit=standard_fit(
                    float(defocus[i] + half[i]),
                    float(defocus[i] - half[i]),
                    float(angles[i]),
                    phase_shift_deg=float(phases[i]),
                    max_resolution_angstrom=_warp_number(resolution, place, "CTFResolutionEstimate"),
                ),
                listed_deg=float(-series.angles_deg[i]),
                names=names[i],
            )
            for i in np.flatnonzero(series.use)
        ),
        place="specimen",
        optics=_optics(
            {key: _warp_number(general[n], place, n) if n in general else None for key, n in keys.items()}, place
        ),
        thickness_angstrom=thickness if thickness > 0 else None,
    )


_StarTable = dict[str, list[str | None]]


def read_ctf_star(path: PathLike, name: str = "", *, project_root: PathLike | None = None) -> ExternalCtf:
    """Estimates in a STAR table of Gctf, of RELION's images, of a RELION tilt series, or of one named in a table of several.

    Parameters and errors as `read_ctf_estimates`.
    """
    place = Path(path)
    tables = read_star_text(place)
    listing = next((t for t in tables.values() if "rlnTomoTiltSeriesStarFile" in t), None)
    shared = next((t for t in tables.values() if "rlnVoltage" in t and "rlnDefocusU" not in t), None)
    if listing is not None:
        row = _series_row(listing, name, place)
        own = {label: [column[row]] for label, column in listing.items()}
        where = own["rlnTomoTiltSeriesStarFile"][0] or ""
        place = _beside(where, place, project_root)
        tables = read_star_text(place)
        shared = own if "rlnVoltage" in own else None
    table = next((t for t in tables.values() if "rlnDefocusU" in t), None)
    if table is None or not table["rlnDefocusU"]:
        raise InputError(f"`{place}` has no column rlnDefocusU. Give a table with estimates of the contrast transfer.")
    has_tilts = any(label in table for label in ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle"))
    program: Program = "Gctf" if "gctf" in place.stem.lower() and not has_tilts else "RELION"
    return ExternalCtf(
        program=program,
        source=f"{program} ({place.name})",
        estimates=tuple(_star_estimate(table, i, place) for i in range(len(table["rlnDefocusU"]))),
        # RELION counts the defocus of an aligned tilt from its specimen centre
        place="specimen" if "rlnTomoYTilt" in table else "image",
        optics=_star_optics({**(shared or {}), **table}, place),
    )


def _series_row(listing: _StarTable, name: str, place: Path) -> int:
    names = [text or "" for text in listing.get("rlnTomoName", [])]
    if name in names:
        return names.index(name)
    if len(names) == 1:
        return 0
    raise InputError(f"`{place}` has no tilt series called {name}. It has {', '.join(names[:6])}.")


def _beside(where: str, table: Path, project_root: PathLike | None) -> Path:
    roots = [Path(project_root)] if project_root is not None else [*table.resolve().parents][:6]
    places = [*(root / where for root in roots), table.parent / "tilt_series" / Path(where).name]
    try:
        found = next((p for p in places if p.is_file()), None)
    except (OSError, ValueError):  # a name that no file can have
        found = None
    if found is None:
        raise FormatError(f"`{table}` names `{where[:200]}`, which is not there. Copy the whole folder of the job.")
    return found


def _star_number(table: _StarTable, label: str, row: int, place: Path, default: float) -> float:
    text = table[label][row] if label in table else None
    if text is None:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise FormatError(f"Row {row + 1} of `{place}` says `{text[:60]}` for `{label}`; expected a number.") from error


def _star_optics(table: _StarTable, place: Path) -> Optics | None:
    labels = {
        "voltage_kv": "rlnVoltage",
        "spherical_aberration_mm": "rlnSphericalAberration",
        "amplitude_contrast": "rlnAmplitudeContrast",
    }
    known = {
        key: _star_number(table, label, 0, place, _NAN) if label in table else _NAN for key, label in labels.items()
    }
    return _optics({key: value if math.isfinite(value) else None for key, value in known.items()}, place)


def _star_estimate(table: _StarTable, row: int, place: Path) -> CtfEstimate:
    def number(label: str, default: float) -> float:
        return _star_number(table, label, row, place, default)

    first = number("rlnDefocusU", _NAN)
    values = (first, number("rlnDefocusV", first), number("rlnDefocusAngle", 0.0), number("rlnPhaseShift", 0.0))
    if not all(math.isfinite(v) for v in values):
        raise FormatError(f"Row {row + 1} of `{place}` has no defocus, or no angle. Estimate this image again.")
    texts = [text for label in _NAME_LABELS if label in table and (text := table[label][row])]
    numbers = (re.match(r"(\d+)@", t) or re.search(r"\.(?:mrcs?|st)\.(\d+)$", t) for t in texts)  # or of a split stack
    tilt = number("rlnTomoNominalStageTiltAngle", number("rlnTomoYTilt", _NAN))
    return CtfEstimate(
        fit=standard_fit(
            *values[:3],
            phase_shift_deg=values[3],
            score=number("rlnCtfFigureOfMerit", _NAN),
            max_resolution_angstrom=number("rlnCtfMaxResolution", number("rlnFinalResolution", _NAN)),
        ),
        listed_deg=tilt if math.isfinite(tilt) else None,
        section=next((int(m[1]) - 1 for m in numbers if m is not None), None),
        names=tuple(dict.fromkeys(movie_stem(t) for t in texts if "@" not in t)),
    )
