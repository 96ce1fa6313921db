"""Which tilt series a list of particles belongs to, and whether they are still what they were."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray

_TABLE = "tilt_series.star"
_CTF_TABLE = Path("ctf") / _TABLE
_REFINEMENT, _RUN = "refine.json", "run.json"
_SAME = 1e-6
"""Degrees and A that are lost when tables are written."""


def series_content(series: TiltSeries) -> str:
    """All that is known of a series, as text."""
    values = asdict(series)
    if series.optics_group is None:  # as before groups had names, so that results stand
        del values["optics_group"]
    return json.dumps(values, sort_keys=True, default=_listed)


def deformation_mark(series: TiltSeries, root: Path) -> str:
    """A digest of the file that holds the deformation of a series; empty where there is none.

    Parameters
    ----------
    root : folder that the paths of the series start from
    """
    path = None if series.warp is None else root / series.warp
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32] if path is not None and path.is_file() else ""


def series_mark(series: TiltSeries, root: Path) -> bytes:
    """A digest of all that is known of a series, its deformation too; not of its images."""
    return hashlib.sha256((series_content(series) + deformation_mark(series, root)).encode()).digest()


def table_of_list(file: Path) -> Path:
    """The table of tilt series that a list of particles goes with.

    That of the refinement that the list lies in; that behind the tomograms that it was picked in where specimens lie otherwise
    there (levelled, or of a refined geometry); else `ctf/tilt_series.star` of the project.

    Raises
    ------
    InputError : no such table
    """
    place = file.resolve()
    for folder in place.parents:
        if (folder / _REFINEMENT).is_file() and (folder / _TABLE).is_file():
            return folder / _TABLE
        if (folder / _CTF_TABLE).is_file():
            usual = folder / _CTF_TABLE
            picked = _source_of(place.parent, folder)
            return usual if picked is None or _are_alike(picked, usual, folder) else _origin_of(picked, folder)
    raise InputError(
        f"`{file}` lies in no project with `{_CTF_TABLE.as_posix()}`. Say where its tilt series are: --series TABLE."
    )


def _source_of(folder: Path, root: Path) -> Path | None:
    """The table that a folder's results were made from, by the record in it."""
    try:
        values = json.loads((folder / _RUN).read_text(encoding="utf-8"))
        source = root / str(values["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    table = source if source.suffix == ".star" else source / _TABLE
    return table if table.is_file() else None


def _origin_of(table: Path, root: Path) -> Path:
    """The first of the tables that a table was made from in which its series lie as in itself, with as much of their CTF."""
    seen = {table}
    while (above := _source_of(table.parent, root)) is not None and above not in seen:
        if not _are_alike(table, above, root, transfer=True):
            break
        seen.add(above)
        table = above
    return table


def _are_alike(table: Path, other: Path, root: Path, *, transfer: bool = False) -> bool:
    """Whether all series of a table lie alike in another, with as much of their CTF where `transfer` counts.

    Tables that cannot be read or tell no geometry are no reason to leave the usual one: alike, but where `transfer` counts.
    """
    try:
        known = {s.name: s for s in read_tilt_series_set(other, root)}
        every = read_tilt_series_set(table, root)
        return all(
            s.name in known and _lie_alike(s, known[s.name]) and (not transfer or s.has_ctf == known[s.name].has_ctf)
            for s in every
        )
    except EucentricError:
        return not transfer


def _lie_alike(first: TiltSeries, second: TiltSeries) -> bool:
    if (first.warp, len(first.tilts)) != (second.warp, len(second.tilts)):
        return False
    return np.allclose(_numbers(first), _numbers(second), rtol=0.0, atol=_SAME, equal_nan=True)


def _numbers(series: TiltSeries) -> FloatArray:
    """(tilt, 6): angles in degrees and shifts in A."""
    return np.array(
        [
            [p.y_tilt_deg, p.z_rot_deg, p.x_tilt_deg, p.x_shift_angstrom, p.y_shift_angstrom, p.magnification]
            for p in series.poses
        ]
    )


def _listed(value: Any) -> Any:
    return value.tolist()
