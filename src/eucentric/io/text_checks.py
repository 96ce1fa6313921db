"""Checks of small files: what their readers say, and what those take without a word."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.aretomo import read_aretomo
from eucentric.io.copick import read_copick
from eucentric.io.ctf_estimates import read_ctf_estimates, read_warp_ctf
from eucentric.io.dynamo import read_dynamo_table
from eucentric.io.findings import Finding, Severity
from eucentric.io.guarded import reading
from eucentric.io.imod import read_angle_table, read_tilt_command, read_transforms
from eucentric.io.imod_models import read_imod_model
from eucentric.io.mdoc import read_mdoc, validate_mdoc
from eucentric.io.particles import read_particles
from eucentric.io.pytom import read_projection_list
from eucentric.io.pytom_particles import read_pytom_xml
from eucentric.io.warp_xml import read_warp_series
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

_ANY = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=1.0, size_xyz=(1000, 1000, 1000)))
"""Stands in for the grids of tomograms, which a file of particles alone does not tell."""
_LARGEST_TILT = 90.0


def _finding(path: Path, severity: Severity, text: str) -> Finding:
    return Finding(severity=severity, text=f"`{path}` {text}")


def check_angles(path: Path) -> list[Finding]:
    """`.tlt`, `.rawtlt`, `.xtilt`."""
    angles = read_angle_table(path)[:, 0]
    out = []
    if np.abs(angles).max() > _LARGEST_TILT:
        out.append(
            _finding(
                path, "warning", f"holds an angle of {angles[np.abs(angles).argmax()]:g} degrees; tilts end at 90."
            )
        )
    twice = len(angles) - len(np.unique(angles))
    if twice and path.suffix.lower() != ".xtilt" and np.ptp(angles) > 0:
        out.append(_finding(path, "note", f"lists {twice} angles twice. Check that no image was taken double."))
    steps = np.diff(angles)
    if len(steps) and not ((steps >= 0).all() or (steps <= 0).all()):
        out.append(_finding(path, "note", "is not in the order of angles, but perhaps in that of acquisition."))
    return out


def check_transforms(path: Path) -> list[Finding]:
    """`.xf` and its like."""
    matrices, shifts = read_transforms(path)
    determinants = np.linalg.det(matrices)
    out = []
    if (determinants <= 0).any():
        out.append(
            _finding(path, "error", f"mirrors or flattens {int((determinants <= 0).sum())} images. Align them again.")
        )
    elif (np.abs(np.sqrt(determinants) - 1.0) > 0.2).any():
        out.append(_finding(path, "warning", "magnifies an image by more than 20%. Check the binning of the stack."))
    alone = (np.abs(matrices - np.eye(2)) < 1e-6).all(axis=(1, 2)) & (np.abs(shifts) < 1e-6).all(axis=1)
    if 0 < alone.sum() < len(matrices):
        out.append(
            _finding(path, "note", f"leaves {int(alone.sum())} of {len(matrices)} images as they are: not aligned?")
        )
    return out


def check_aretomo(path: Path) -> list[Finding]:
    """`.aln`."""
    found = read_aretomo(path)
    out = []
    if not found.sections_are_sure:
        out.append(
            _finding(
                path, "note", "does not tell whether it counts sections from 0 or 1; 0 or 1 is taken by its header."
            )
        )
    if None in found.dark_sections:
        out.append(_finding(path, "note", "does not tell which sections its dark frames are; they are found by angle."))
    return out


def check_warp_xml(path: Path) -> list[Finding]:
    """A tilt series of Warp or M, a list of particles or of projections of PyTom."""
    try:
        root = ElementTree.fromstring(path.read_bytes()).tag
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"`{path}` is not XML: {error}.") from error
    if root == "ParticleList":
        read_pytom_xml(path, _ANY)
        return []
    if root == "ProjectionList":
        read_projection_list(path)
        return []
    if root != "TiltSeries":
        return [_finding(path, "note", f"is XML of a kind that is not checked: <{root}>.")]
    series = read_warp_series(path)
    out = []
    if not series.use.any():
        out.append(_finding(path, "warning", "uses none of its tilts (UseTilt is False for all)."))
    try:
        read_warp_ctf(path)
    except InputError as error:
        if isinstance(error, FormatError):
            raise
        out.append(Finding(severity="note", text=str(error)))
    return out


def check_ctf(path: Path) -> list[Finding]:
    """Tables of CTFFIND, `.defocus` and their like."""
    estimates = read_ctf_estimates(path).estimates
    low = [e for e in estimates if e.fit.defocus_v_angstrom <= 0]
    if low:
        return [
            _finding(path, "warning", f"gives {len(low)} of {len(estimates)} images no underfocus. Check the signs.")
        ]
    return []


def check_command(path: Path) -> list[Finding]:
    """`tilt.com`; command files of other programs are passed over."""
    text = path.read_text(encoding="latin-1")
    if not any(line.strip()[1:].split()[:1] == ["tilt"] for line in text.splitlines() if line.startswith("$")):
        return [_finding(path, "note", "runs no `tilt`; command files of other programs are not checked.")]
    read_tilt_command(path)
    return []


def check_particles(path: Path) -> list[Finding]:
    """Lists of particles of any format, with grids that stand in for those of their tomograms."""
    try:
        return _some(path, len(read_particles(path, _ANY)))
    except FormatError:
        raise
    except InputError as error:
        return [Finding(severity="note", text=str(error))]


def check_dynamo(path: Path) -> list[Finding]:
    """`.tbl`."""
    return _some(path, len(read_dynamo_table(path, _ANY)))


def check_model(path: Path) -> list[Finding]:
    """IMOD models."""
    model = read_imod_model(path)
    out = _some(path, sum(len(contour) for contours in model.objects for contour in contours), "point")
    if model.pixel_size_angstrom is None:
        out.append(_finding(path, "note", "does not tell the pixel size of its image."))
    return out


def _some(path: Path, count: int, what: str = "particle") -> list[Finding]:
    return [] if count else [_finding(path, "warning", f"holds no {what}.")]


def check_json(path: Path) -> list[Finding]:
    """Picks of copick; other JSON must be JSON."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{path}` is not JSON: {str(error)[:120]}. Copy it again.") from error
    if isinstance(document, dict) and {"run_name", "pickable_object_name"} <= document.keys():
        return _some(path, len(read_copick(path, _ANY)))
    return []


def check_csv(path: Path) -> list[Finding]:
    """Any table with commas: a heading, and rows of its length."""
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"`{path}` is not a table of text with commas: {str(error)[:120]}.") from error
    if len(rows) < 2:
        return [_finding(path, "warning", f"has {len(rows)} line; expected a heading and rows below it.")]
    lengths = Counter(len(row) for row in rows)
    usual = lengths.most_common(1)[0][0]
    odd = [i for i, row in enumerate(rows, 1) if len(row) != usual]
    out = []
    if odd:
        out.append(
            _finding(
                path,
                "warning",
                f"has {len(odd)} rows with another number of columns than the {usual} of the rest (row {odd[0]}).",
            )
        )
    twice = [name for name, count in Counter(rows[0]).items() if count > 1 and name.strip()]
    if twice and not _is_number(rows[0][0]):
        out.append(_finding(path, "warning", f"has the column {twice[0]} twice."))
    return out


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def check_mdoc(path: Path) -> list[Finding]:
    """What :func:`validate_mdoc` finds, and images listed double or without dose."""
    out = validate_mdoc(path)
    if any(f.severity == "error" for f in out):
        return out
    sections = [s for s in read_mdoc(path).sections if s.kind in ("ZValue", "FrameSet")]
    names = Counter(s.movie_name for s in sections if s.movie_name)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        out.append(_finding(path, "warning", f"names the movie {twice[0]} {names[twice[0]]} times."))
    if sections and not any(s.exposure_dose for s in sections):
        out.append(_finding(path, "note", "holds no dose. Give it with --dose."))
    return out


def check_read(read: Callable[[Path], object]) -> Callable[[Path], list[Finding]]:
    """A check that only reads."""

    def check(path: Path) -> list[Finding]:
        read(path)
        return []

    return check


def told(check: Callable[[Path], list[Finding]], path: Path) -> list[Finding]:
    """The findings of a check; an error of the reader is one."""
    try:
        with reading(path):
            return list(check(path))
    except EucentricError as error:
        return [Finding(severity="error", text=str(error))]
    except OSError as error:
        return [Finding(severity="error", text=f"`{path}` cannot be read: {error.strerror or error}.")]
