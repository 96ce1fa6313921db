"""Estimates of the contrast transfer in the tables of other programs; see `eucentric.io.ctf_estimates` for what they mean.

- CTFFIND 4 (`.txt`): five lines of header, then a line an image: number, defocus 1 and 2 (A), angle (degrees), phase shift
  (radians), score, resolution (A).
- AreTomo 3 (`_CTF.txt`): one line of header, the same columns and the hand of the defocus [1]_.
- ctfplotter (`.defocus`): version 3 where there is astigmatism or a phase shift, else version 2 [2]_.
- Gctf (`.star`): one table with RELION's labels.

References
----------
.. [1] AreTomo3's sources, `CSaveCtfResults.cpp`
.. [2] IMOD, ctfphaseflip manual page, https://bio3d.colorado.edu/imod/doc/man/ctfphaseflip.html
"""

import math
from collections.abc import Sequence

from eucentric.io.atomic import write_text_atomic
from eucentric.io.star import write_star
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import PathLike

_CTFFIND_COLUMNS = (
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; #5 - additional "
    "phase shift [radians]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings were fit successfully"
)
_ARETOMO_COLUMNS = (
    "# Columns: #1 micrograph number; #2 - defocus 1 [A]; #3 - defocus 2; #4 - azimuth of astigmatism; #5 - additional phase shift "
    "[radian]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings were fit successfully; #8 - dfHand"
)
_NM = 10.0
_HAS_ASTIGMATISM, _HAS_PHASE = 1, 4


def _known(value: float, otherwise: float = 0.0) -> float:
    return value if math.isfinite(value) else otherwise


def write_ctffind_table(
    path: PathLike, rows: Sequence[tuple[int, CtfFit]], *, source: str, pixel_size_angstrom: float, optics: Optics
) -> None:
    """Write a text table as CTFFIND 4 does.

    Parameters
    ----------
    rows : number of the image in the stack, from 1, and its estimate
    source : name of the stack

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    lines = [
        "# Output from CTFFind version 4.1.14, written by Eucentric",
        f"# Input file: {source} ; Number of micrographs: {len(rows)}",
        f"# Pixel size: {pixel_size_angstrom:.4f} Angstroms ; acceleration voltage: {optics.voltage_kv:.1f} keV ; spherical "
        f"aberration: {optics.spherical_aberration_mm:.2f} mm ; amplitude contrast: {optics.amplitude_contrast:.4f}",
        "# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 5.0 Angstroms ; min. def.: 5000.0 um; max. def. 100000.0 um",
        _CTFFIND_COLUMNS,
    ]
    for number, fit in rows:
        lines.append(
            f"{number:.6f} {fit.defocus_u_angstrom:.6f} {fit.defocus_v_angstrom:.6f} {fit.astigmatism_angle_deg:.6f} "
            f"{math.radians(fit.phase_shift_deg):.6f} {_known(fit.score):.6f} {_known(fit.max_resolution_angstrom):.6f}"
        )
    write_text_atomic(path, "\n".join(lines) + "\n")


def write_aretomo_ctf(path: PathLike, fits: Sequence[CtfFit], *, hand: float) -> None:
    """Write AreTomo 3's `_CTF.txt` of the images that were aligned. Errors as `write_ctffind_table`."""
    lines = [_ARETOMO_COLUMNS]
    for number, fit in enumerate(fits, 1):
        lines.append(
            f"{number:4d}   {fit.defocus_u_angstrom:8.2f}  {fit.defocus_v_angstrom:8.2f}  {fit.astigmatism_angle_deg:8.2f}  "
            f"{math.radians(fit.phase_shift_deg):9.4f}  {_known(fit.score):8.4f}  {_known(fit.max_resolution_angstrom):8.4f}  "
            f"{1 if hand > 0 else -1:3d}"
        )
    write_text_atomic(path, "\n".join(lines) + "\n")


def write_imod_defocus(path: PathLike, rows: Sequence[tuple[int, float, CtfFit]]) -> None:
    """Write a defocus file as ctfplotter does, of views one by one.

    Parameters
    ----------
    rows : view from 1, its tilt angle in degrees, its estimate

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    fits = [fit for _, _, fit in rows]
    flags = _HAS_ASTIGMATISM * any(f.defocus_u_angstrom != f.defocus_v_angstrom for f in fits)
    flags += _HAS_PHASE * any(f.phase_shift_deg != 0.0 for f in fits)
    lines = [f"{flags} 0 0.0 0.0 0.0 3"] if flags else []
    for number, (view, angle, fit) in enumerate(rows):
        words = [f"{view:d}", f"{view:d}", f"{angle:.2f}", f"{angle:.2f}"]
        if flags & _HAS_ASTIGMATISM:
            words += [f"{fit.defocus_u_angstrom / _NM:.2f}", f"{fit.defocus_v_angstrom / _NM:.2f}"]
            words.append(f"{fit.astigmatism_angle_deg:.2f}")
        else:
            words.append(f"{fit.defocus_angstrom / _NM:.2f}")
        if flags & _HAS_PHASE:
            words.append(f"{fit.phase_shift_deg:.2f}")
        if number == 0 and not flags:
            words.append("2")
        lines.append(" ".join(words))
    write_text_atomic(path, "\n".join(lines) + "\n")


def write_gctf_star(
    path: PathLike, rows: Sequence[tuple[int, CtfFit]], *, source: str, pixel_size_angstrom: float, optics: Optics
) -> None:
    """Write a table as Gctf does of the split images of a stack: `source` with a number at its end.

    Parameters and errors as `write_ctffind_table`.
    """
    fits = [fit for _, fit in rows]
    digits = max(2, *(len(str(number)) for number, _ in rows))
    names = [f"{source}.{number:0{digits}d}" for number, _ in rows]
    detector = 5.0  # um, as any: only its ratio with the magnification counts
    table: dict[str, list[object]] = {
        "rlnMicrographName": [*names],
        "rlnCtfImage": [f"{name}.ctf:mrc" for name in names],
        "rlnDefocusU": [f.defocus_u_angstrom for f in fits],
        "rlnDefocusV": [f.defocus_v_angstrom for f in fits],
        "rlnDefocusAngle": [f.astigmatism_angle_deg for f in fits],
        "rlnVoltage": [optics.voltage_kv] * len(fits),
        "rlnSphericalAberration": [optics.spherical_aberration_mm] * len(fits),
        "rlnAmplitudeContrast": [optics.amplitude_contrast] * len(fits),
        "rlnMagnification": [detector * 1e4 / pixel_size_angstrom] * len(fits),
        "rlnDetectorPixelSize": [detector] * len(fits),
        "rlnCtfFigureOfMerit": [_known(f.score) for f in fits],
        "rlnFinalResolution": [_known(f.max_resolution_angstrom) for f in fits],
    }
    if any(f.phase_shift_deg for f in fits):
        table["rlnPhaseShift"] = [f.phase_shift_deg for f in fits]
    write_star(path, {"": table})
