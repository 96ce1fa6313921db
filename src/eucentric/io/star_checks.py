"""What is odd about STAR tables of particles, tilt series and tomograms, beyond whether they can be read.

Which labels RELION needs: RELION's `src/metadata_label.h` and its documentation of 3.1 (optics groups) and 5 (tomography),
https://relion.readthedocs.io/en/release-5.0/Reference/STA/Datatypes/.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from eucentric.errors import EucentricError
from eucentric.io.findings import Finding, Severity
from eucentric.io.star import read_star_text
from eucentric.typing import PathLike

Table = Mapping[str, Sequence[str | None]]

_GROUP = "rlnOpticsGroup"
_COORDINATES = (
    ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst"),
    ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"),
)
_ANGLES = (
    "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi",
)  # fmt: skip
_ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst", "rlnOriginX", "rlnOriginY", "rlnOriginZ")
_POSES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
_MATRICES = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW")
_OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
_PIXELS = (
    "rlnTomoTiltSeriesPixelSize",
    "rlnImagePixelSize",
    "rlnMicrographPixelSize",
    "rlnMicrographOriginalPixelSize",
)
_SERIES_FILE = "rlnTomoTiltSeriesStarFile"
_FILES = (
    "rlnMicrographName", "rlnMicrographMovieName", "rlnImageName", "rlnTomoReconstructedTomogram", "rlnTomoParticlesFile",
    "rlnTomoTomogramsFile", "rlnMicrographNameEven", "rlnMicrographNameOdd", "wrpMovieName", "rlnMtfFileName",
)  # fmt: skip
_OWN_NAMES = ("rlnTomoParticleName",)
_MOST_PATHS = 2000
_LEVELS = 6  # of folders above a table that its paths may start from


@dataclass(slots=True)
class _Found:
    path: Path
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, text: str) -> None:
        self.findings.append(Finding(severity=severity, text=f"`{self.path}`: {text}"))


def check_star(path: PathLike) -> list[Finding]:
    """Everything odd about a file; one that cannot be read gives one `error`."""
    place = Path(path)
    try:
        tables = read_star_text(place)
    except EucentricError as error:
        return [Finding(severity="error", text=str(error))]
    found = _Found(place)
    for name, table in tables.items():
        if not any(table.values()):
            found.add("warning", f"the table `{name}` has no row.")
            continue
        _check_table(found, name or "unnamed", table, tables)
    return found.findings


def _check_table(found: _Found, name: str, table: Table, tables: Mapping[str, Table]) -> None:
    coordinates = next((three for three in _COORDINATES if three[0] in table), None)
    if coordinates is not None:
        _check_particles(found, name, table, coordinates, tables)
    elif any(c in table for c in (*_POSES, *_MATRICES, "rlnTomoNominalStageTiltAngle")):
        _check_tilts(found, name, table)
    elif "rlnTomoName" in table and (_SERIES_FILE in table or "rlnTomoSizeX" in table):
        _check_tomograms(found, name, table)
    elif "wrpMovieName" in table:
        _check_tomostar(found, name, table)
    elif _GROUP in table and ("rlnVoltage" in table or name == "optics"):
        _check_optics(found, name, table)
    _check_files(found, table)


def _check_numbers(
    found: _Found, name: str, table: Table, labels: Sequence[str], severity: Severity, *, optional: bool = False
) -> None:
    """Values of known labels that are no numbers; missing ones where they are needed."""
    for label in labels:
        if label not in table:
            continue
        values = [_number(value) for value in table[label]]
        absent = [math.isnan(v) for v in values]
        bad = [i for i, v in enumerate(values) if math.isinf(v) or (math.isnan(v) and not (optional and all(absent)))]
        if bad:
            first = table[label][bad[0]]
            found.add(
                severity,
                f"{len(bad)} of {len(values)} rows of `{name}` have no number under {label} (the first in row {bad[0] + 1}: "
                f"`{str(first)[:40]}`). Correct or remove them.",
            )


def _number(value: str | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        return math.inf


def _check_particles(
    found: _Found, name: str, table: Table, coordinates: Sequence[str], tables: Mapping[str, Table]
) -> None:
    missing = [c for c in coordinates if c not in table]
    if missing:
        found.add(
            "error", f"the particles in `{name}` lack {', '.join(missing)}. Write the table again with all three."
        )
    _check_numbers(found, name, table, [*coordinates, *_ANGLES, *_ORIGINS], "error")
    if "rlnTomoName" not in table and "rlnMicrographName" not in table:
        found.add(
            "error",
            f"the particles in `{name}` do not say which tomogram they are in (rlnTomoName, rlnMicrographName).",
        )
    _check_groups(found, name, table, tables)
    place = next((label for label in ("rlnTomoName", "rlnMicrographName") if label in table), None)
    where = [table[label] for label in ((place,) if place else ()) + tuple(c for c in coordinates if c in table)]
    _check_twice(found, name, list(zip(*where, strict=True)), "particles stand at one place twice")
    for label in _OWN_NAMES:
        if label in table:
            _check_twice(found, name, list(table[label]), f"names under {label} occur twice")


def _check_twice(found: _Found, name: str, values: Sequence[object], words: str) -> None:
    twice = len(values) - len(set(values))
    if twice:
        found.add("warning", f"{twice} {words} in `{name}`. Remove the copies: `eucentric particles` can.")


def _check_groups(found: _Found, name: str, table: Table, tables: Mapping[str, Table]) -> None:
    optics = next((t for t in tables.values() if t is not table and _GROUP in t and len(t) > 1 and _is_optics(t)), None)
    if _GROUP in table and optics is None:
        found.add(
            "warning",
            f"`{name}` names optics groups, and there is no table of them. RELION from 3.1 on needs it: copy `data_optics` from "
            "the table that this one was made of.",
        )
    elif optics is not None and _GROUP not in table:
        found.add("warning", f"there are optics groups, and `{name}` does not say to which its particles belong.")
    elif optics is not None:
        known = set(optics[_GROUP])
        unknown = sorted({str(g) for g in table[_GROUP] if g not in known})
        if unknown:
            found.add(
                "warning",
                f"`{name}` has particles of the optics groups {', '.join(unknown[:6])}, which the table of groups does not list. "
                "RELION stops at them.",
            )


def _is_optics(table: Table) -> bool:
    return any(label in table for label in (*_OPTICS, *_PIXELS, "rlnOpticsGroupName"))


def _check_optics(found: _Found, name: str, table: Table) -> None:
    missing = [label for label in _OPTICS if label not in table]
    if missing:
        found.add("warning", f"the optics groups in `{name}` lack {', '.join(missing)}. RELION needs them for the CTF.")
    if not any(label in table for label in _PIXELS):
        found.add("warning", f"the optics groups in `{name}` hold no pixel size.")
    _check_numbers(found, name, table, [*_OPTICS, *_PIXELS], "warning")
    _check_twice(found, name, list(table[_GROUP]), "optics groups have one number twice")


def _check_tilts(found: _Found, name: str, table: Table) -> None:
    posed = [label for label in _POSES if label in table]
    matrices = [label for label in _MATRICES if label in table]
    if posed and matrices:
        found.add(
            "note",
            f"`{name}` gives both matrices ({_MATRICES[0]} ...) and angles ({posed[0]} ...). The angles are used; "
            "programs may differ where they disagree.",
        )
    if matrices and len(matrices) < len(_MATRICES):
        found.add("error", f"`{name}` has {', '.join(matrices)} and not the others of {', '.join(_MATRICES)}.")
    if "rlnTomoYTilt" in table and "rlnTomoZRot" not in table:
        found.add("warning", f"`{name}` has rlnTomoYTilt and no rlnTomoZRot: the tilt axis is not known.")
    _check_numbers(found, name, table, posed, "warning", optional=True)
    _check_numbers(found, name, table, ["rlnTomoNominalStageTiltAngle"], "warning")
    for label in ("rlnMicrographMovieName", "rlnMicrographName"):
        if label in table and not all(value is None for value in table[label]):
            _check_twice(found, name, list(table[label]), f"images under {label} occur twice")


def _check_tomograms(found: _Found, name: str, table: Table) -> None:
    _check_twice(found, name, list(table["rlnTomoName"]), "tilt series have one name twice")
    if not any(label in table for label in _PIXELS):
        found.add("warning", f"the tilt series in `{name}` have no pixel size ({_PIXELS[0]}).")
    lacking = [label for label in ("rlnVoltage", "rlnSphericalAberration") if label not in table]
    if lacking:
        found.add("note", f"the tilt series in `{name}` lack {', '.join(lacking)}.")
    if _SERIES_FILE in table:
        absent = [value for value in table[_SERIES_FILE] if value and not _is_there(value, found.path)]
        if absent:
            found.add(
                "warning",
                f"{len(absent)} of {len(table[_SERIES_FILE])} tables of tilt series are not there (the first: `{absent[0][:120]}`). "
                "Copy the whole folder.",
            )


def _check_tomostar(found: _Found, name: str, table: Table) -> None:
    needed = ("wrpAngleTilt", "wrpDose")
    missing = [label for label in needed if label not in table]
    if missing:
        found.add("error", f"the tilt series of Warp in `{name}` lacks {', '.join(missing)}. Make it again in Warp.")
    _check_numbers(found, name, table, [*needed, "wrpAxisAngle"], "error")
    _check_twice(found, name, list(table["wrpMovieName"]), "images occur twice")


def _check_files(found: _Found, table: Table) -> None:
    absent: dict[str, list[str]] = {}
    count = 0
    for label in _FILES:
        names = list(dict.fromkeys(v.rpartition("@")[2] for v in table.get(label, ()) if v))
        # a name that stands for a tomogram alone is no path; a table of millions has few files
        paths = [n for n in names if "/" in n or "\\" in n or "." in n][:_MOST_PATHS]
        missing = [n for n in paths if not _is_there(n, found.path)]
        count += len(paths)
        if missing:
            absent[label] = missing
    if absent:
        first = next(iter(absent.values()))[0]
        found.add(
            "note",
            f"{sum(map(len, absent.values()))} of {count} files that it names are not here ({', '.join(absent)}; the first: "
            f"`{first[:120]}`). They are looked for from its folder and those above it, and from the working folder.",
        )


def _is_there(name: str, table: Path) -> bool:
    plain = PureWindowsPath(name).as_posix() if "\\" in name else name
    try:
        if Path(plain).exists():
            return True
        return any((base / plain).exists() for base in [*table.resolve().parents][:_LEVELS])
    except (OSError, ValueError):
        return False
