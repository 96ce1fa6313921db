"""Every way of keeping tilt series that is known: which one a file or folder has, reading and writing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eucentric.errors import FormatError, InputError
from eucentric.io.exchange.aretomo import FORMAT as ARETOMO
from eucentric.io.exchange.ctf_tables import FORMATS as CTF_TABLES
from eucentric.io.exchange.data_portal import FORMAT as DATA_PORTAL
from eucentric.io.exchange.dynamo import FORMAT as DYNAMO
from eucentric.io.exchange.eman2 import FORMAT as EMAN2
from eucentric.io.exchange.emclarity import FORMAT as EMCLARITY
from eucentric.io.exchange.folded_volume import folded
from eucentric.io.exchange.imod import FORMAT as IMOD
from eucentric.io.exchange.leginon import FORMAT as LEGINON
from eucentric.io.exchange.nextpyp import FORMAT as NEXTPYP
from eucentric.io.exchange.nova_ctf import FORMAT as NOVACTF
from eucentric.io.exchange.protomo import FORMAT as PROTOMO
from eucentric.io.exchange.records import GeometryFormat, Given, SeriesGeometry, Written
from eucentric.io.exchange.relion4 import FORMAT as RELION4
from eucentric.io.exchange.relion5 import FORMAT as RELION5
from eucentric.io.exchange.scipion import FORMAT as SCIPION
from eucentric.io.exchange.stopgap import FORMAT as STOPGAP
from eucentric.io.exchange.warp import FORMAT as WARP
from eucentric.io.exchange.xmipp import FORMAT as XMIPP
from eucentric.io.guarded import reading
from eucentric.typing import PathLike

_MOST = 1e9  # A or degrees: larger ones are damage
GEOMETRY_FORMATS: dict[str, GeometryFormat] = {
    f.name: f
    for f in (
        RELION5,
        RELION4,
        WARP,
        IMOD,
        ARETOMO,
        EMAN2,
        DYNAMO,
        STOPGAP,
        EMCLARITY,
        NOVACTF,
        DATA_PORTAL,
        NEXTPYP,
        SCIPION,
        XMIPP,
        PROTOMO,
        LEGINON,
        *CTF_TABLES,
    )
}
"""By name, in the order in which a file is tried."""

_USED_BY = {
    "imod": ("dynamo", "emclarity", "nextpyp", "scipion", "novactf"),
    "nextpyp": ("emclarity",),
    "protomo": ("leginon",),
    "ctfplotter": ("imod", "scipion", "novactf", "nextpyp", "emclarity", "dynamo"),
    "ctffind": ("novactf", "aretomo"),
}
"""Formats whose files are a part of others'."""


def geometry_format(name: str) -> GeometryFormat:
    """The format called so; InputError where none is."""
    if name not in GEOMETRY_FORMATS:
        raise InputError(
            f"There is no format of tilt series called `{name}`. Expected one of {', '.join(GEOMETRY_FORMATS)}."
        )
    return GEOMETRY_FORMATS[name]


def recognised_formats(path: PathLike) -> list[str]:
    """Names of the formats that a file or folder looks like; of those that use another's files only themselves."""
    place = Path(path)
    found = [name for name, form in GEOMETRY_FORMATS.items() if place.exists() and form.recognises(place)]
    return [name for name in found if not set(_USED_BY.get(name, ())) & set(found)]


def read_geometry(
    path: PathLike, given: Given | None = None, format_name: str | None = None
) -> tuple[GeometryFormat, tuple[SeriesGeometry, ...]]:
    """Tilt series in the files of another program, and which format they are in.

    Parameters
    ----------
    path : file or folder
    given : what the user tells beyond the files
    format_name : one of `GEOMETRY_FORMATS`; found from the files where None

    Raises
    ------
    InputError : no such place, no or several formats that fit, or something that the files do not tell and the user did not
    FormatError : a file that is not of the format, or damaged
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Check the name and the folder.")
    name = format_name
    if name is None:
        found = recognised_formats(place)
        if not found:
            raise InputError(
                f"`{place}` is no tilt series in a format that is known. Say which with --from: {', '.join(GEOMETRY_FORMATS)}."
            )
        if len(found) > 1 and place.is_dir():
            raise InputError(f"`{place}` holds tilt series as {' and '.join(found)}. Say which is meant with --from.")
        name = found[0]
    form = geometry_format(name)
    with reading(place):
        series = form.read(place, given or Given())
    if not series:
        raise FormatError(f"`{place}` holds no tilt series.")
    for one in series:
        _need_numbers(one, place)
    return form, series


def _need_numbers(geometry: SeriesGeometry, place: Path) -> None:
    """FormatError where an angle, a shift or a defocus is not a number of a usual size."""
    for tilt in geometry.series.tilts:
        pose, fit = tilt.pose, tilt.ctf
        values = [tilt.nominal_tilt_deg]
        if pose is not None:
            values += [pose.y_tilt_deg, pose.z_rot_deg, pose.x_tilt_deg, pose.x_shift_angstrom, pose.y_shift_angstrom]
        if fit is not None:
            values += [fit.defocus_u_angstrom, fit.defocus_v_angstrom, fit.astigmatism_angle_deg]
        if not all(abs(value) < _MOST for value in values):
            raise FormatError(
                f"`{place}` gives the tilt at {tilt.nominal_tilt_deg:g} degrees of {geometry.series.name} an angle, a shift or a "
                "defocus that is not a number of a usual size. Check the files."
            )


def write_geometry(path: PathLike, geometries: Sequence[SeriesGeometry], format_name: str) -> Written:
    """Write tilt series for another program.

    Raises
    ------
    InputError : no such format, nothing to write, or a series that lacks what the format needs
    BackendError : the disk is full
    """
    if not geometries:
        raise InputError(f"There is no tilt series to write to `{path}`.")
    form, losses = geometry_format(format_name), []
    given = list(geometries)
    if not form.holds_volume:
        pairs = [folded(g) for g in given]
        given, losses = [g for g, _ in pairs], [text for _, said in pairs for text in said]
    written = form.write(Path(path), given)
    return replace(written, losses=tuple(dict.fromkeys([*losses, *written.losses])))
