"""Taking over the contrast transfer that other programs estimated: which file, and which tilt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from eucentric.errors import InputError
from eucentric.io.aretomo import read_aretomo
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf, read_ctf_estimates
from eucentric.io.given_ctf import GivenCtf
from eucentric.io.imod import read_angles
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.import_files import read_own
from eucentric.pipeline.tilt_matching import angles_agree, near_angle, stack_section, tilts_by_name
from eucentric.typing import FloatArray, PathLike

_ENDINGS = (
    *("_CTF.txt", ".mrc_CTF.txt", ".defocus", "_CTF_Imod.txt", ".xml"),
    *("_ctffind5.txt", "_ctffind4.txt", "_ctffind.txt", "_ctf.txt", "_diagnostic.txt"),
    *("_gctf.star", "_ctf.star", ".star", ".txt"),
)
_TABLES = (
    *("tilt_series_ctf.star", "tilt_series.star", "aligned_tilt_series.star", "tomograms.star"),
    "micrographs_ctf.star",
)
_OFFSET_DEG = 0.5  # between two lists of angles; less is not worth a word
_CLEARLY = 3.0  # times nearer are the right angles of two lists
_Pairs = tuple[dict[int, int], float, float]
"""Estimate by tilt, the offset of the angles of the estimates, and the mean distance that is left."""
_OF_ONE_IMAGE = ("_diagnostic", "_ctffind5", "_ctffind4", "_ctffind", "_gctf", "_PS", "_ctf", "_CTF")


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """Estimates brought to the tilts of a series."""

    given: GivenCtf
    caveats: tuple[str, ...]


def read_external_ctf(path: PathLike, name: str, *, project_root: PathLike | None = None) -> ExternalCtf:
    """Estimates for a tilt series by CTFFIND, Gctf, ctfplotter, AreTomo, Warp, M or RELION.

    Parameters
    ----------
    path : a file, or a folder that holds one for the series (or a folder of its name that does), or one for each image
    name : of the tilt series
    project_root : folder that paths in a RELION table start from; found where not given

    Raises
    ------
    InputError : nothing there for this series
    FormatError : a file that cannot be read
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            f"`{place}` does not exist. Give a folder, or a .txt, .defocus, .xml or .star file with estimates."
        )
    if not place.is_dir():
        return _with_angles(read_ctf_estimates(place, name, project_root=project_root), place)
    file = _find(place, name)
    if file is not None:
        return _with_angles(read_ctf_estimates(file, name, project_root=project_root), file)
    return _of_single_images(place, name)


def _find(folder: Path, name: str) -> Path | None:
    """The file for a series in a folder, or in one of its name."""
    for place in (folder, folder / name):
        for ending in _ENDINGS:
            if (file := place / f"{name}{ending}").is_file():
                return file
    return next((folder / table for table in _TABLES if (folder / table).is_file()), None)


def _of_single_images(folder: Path, name: str) -> ExternalCtf:
    """The tables of a folder that hold one image each."""
    found: list[ExternalCtf] = []
    files = [file for ending in ("txt", "star") for file in folder.glob(f"*.{ending}")]
    own = [file for file in files if file.name.startswith(f"{name}_")]
    for file in sorted(own or files):
        if file.stem.endswith("_avrot"):  # CTFFIND's curves
            continue
        try:
            one = read_ctf_estimates(file)
        except InputError:
            continue  # of something else
        if len(one.estimates) == 1:
            estimate = one.estimates[0]
            names = tuple(dict.fromkeys((*estimate.names, *(_bare(n) for n in (*estimate.names, file.stem)))))
            found.append(replace(one, estimates=(replace(estimate, names=names),)))
    if not found:
        raise InputError(
            f"`{folder}` holds no estimates for {name}: neither `{name}.defocus`, `{name}_CTF.txt`, `{name}.xml`, a RELION "
            "table nor tables of single images. Give the file itself."
        )
    first = found[0]
    return replace(
        first,
        source=f"{first.program} ({folder.name})",
        estimates=tuple(e for one in found for e in one.estimates),
        caveats=tuple(dict.fromkeys(c for one in found for c in one.caveats)),
    )


def _bare(stem: str) -> str:
    for ending in _OF_ONE_IMAGE:
        if stem.endswith(ending):
            return stem[: -len(ending)]
    return stem


def _with_angles(external: ExternalCtf, file: Path) -> ExternalCtf:
    """Angles of a list that has none, from the files that programs leave beside it."""
    estimates = external.estimates
    if len(estimates) < 2 or any(e.listed_deg is not None or e.names for e in estimates):
        return external
    stem = next((file.stem[: -len(e)] for e in ("_CTF", *_OF_ONE_IMAGE) if file.stem.endswith(e)), file.stem)
    for angles in (
        _angles_of_aretomo(file.with_name(f"{stem}_CTF_Imod.txt"), file.with_name(f"{stem}.aln"))
        if external.program == "AreTomo"
        else [],
        _angles_of_list(file, stem),
    ):
        if len(angles) == len(estimates):
            listed = [replace(e, listed_deg=float(a)) for e, a in zip(estimates, angles, strict=True)]
            return replace(external, estimates=tuple(listed))
    return external


def _angles_of_aretomo(defocus: Path, alignment: Path) -> Sequence[float]:
    if defocus.is_file():
        listed = [e.listed_deg for e in read_ctf_estimates(defocus).estimates]
        if None not in listed:
            return [a for a in listed if a is not None]
    if alignment.is_file():
        found = read_aretomo(alignment)
        kept: list[float] = (found.tilts_deg - found.alpha_offset_deg).tolist()
        return kept
    return []


def _angles_of_list(file: Path, stem: str) -> Sequence[float]:
    beside = (file.with_name(f"{stem}{ending}") for ending in ("_TLT.txt", ".rawtlt", ".tlt"))
    found = next((p for p in beside if p.is_file()), None)
    angles: list[float] = [] if found is None else read_angles(found).tolist()
    return angles


def take_over_own(
    series: TiltSeries, paths: Sequence[Path], *, series_count: int, rows_reversed: bool | None = None
) -> TakenOver | None:
    """The estimates that are a series' own among those that the user named; None where none of them is.

    Parameters
    ----------
    paths : files, each of the series that its name begins with (a STAR table of all), and folders
    series_count : of all series: a single file for a single series needs no name
    rows_reversed : as for `take_over`

    Raises
    ------
    InputError, FormatError : its estimates cannot be read, or do not fit
    """
    found = read_own(series.name, paths, series_count, lambda path: read_external_ctf(path, series.name))
    return None if found is None else take_over(series, found, rows_reversed=rows_reversed)


def take_over(series: TiltSeries, external: ExternalCtf, *, rows_reversed: bool | None = None) -> TakenOver:
    """Which tilt of a series each estimate of another program is of.

    Estimates are found by the names of movies, else by sections where the series' images are sections of one stack, else by
    angles, else by their order where there are as many as tilts.

    Parameters
    ----------
    rows_reversed : whether the other program had the rows of the images in the other order, so that its angles turn the
        other way. By itself: for EER movies, whose rows RELION, MotionCor, AreTomo and Warp keep as stored; IMOD turns
        them over as we do

    Raises
    ------
    InputError : the series has no contrast transfer, or the estimates do not belong to it
    """
    if series.optics is None:
        raise InputError(
            f"The images of {series.name} have no contrast transfer function (scanning transmission). "
            "Leave out the estimates."
        )
    pairs, how = _match(series, external)
    caveats = [*external.caveats, *([how] if how else []), *_optics_caveats(series.optics, external)]
    every = [*series.tilts, *(e.tilt for e in series.excluded)]
    if not any(i < len(series.tilts) for i in pairs):
        raise InputError(
            f"No estimate of {external.source} is of a tilt of {series.name}. Check that it belongs to this series."
        )
    fits = {every[i].acquisition: external.estimates[j].fit for i, j in pairs.items()}
    if _rows_reversed(series, external) if rows_reversed is None else rows_reversed:
        fits = {a: replace(f, astigmatism_angle_deg=-f.astigmatism_angle_deg) for a, f in fits.items()}
        if rows_reversed is None and any(f.defocus_u_angstrom > f.defocus_v_angstrom for f in fits.values()):
            caveats.append(
                f"{external.source} leaves the rows of EER movies as stored, here they are turned over: the signs of its "
                "astigmatism angles were turned."
            )
    given = GivenCtf(
        source=external.source, place=external.place, fits=fits, thickness_angstrom=external.thickness_angstrom
    )
    return TakenOver(given=given, caveats=tuple(caveats))


def _optics_caveats(ours: Optics, external: ExternalCtf) -> list[str]:
    theirs = external.optics
    if theirs is None:
        return []
    quantities = {
        "voltage": (theirs.voltage_kv, ours.voltage_kv, 0.5, " kV"),
        "spherical aberration": (theirs.spherical_aberration_mm, ours.spherical_aberration_mm, 0.005, " mm"),
        "amplitude contrast": (theirs.amplitude_contrast, ours.amplitude_contrast, 0.005, ""),
    }
    return [
        f"{external.source} was run with {what} {a:g}{unit}; the series has {b:g}{unit}. Correct the one that is wrong."
        for what, (a, b, tolerance, unit) in quantities.items()
        if abs(a - b) > tolerance
    ]


def _rows_reversed(series: TiltSeries, external: ExternalCtf) -> bool:
    movies = [t.movie for t in series.tilts]
    return external.program != "IMOD" and all(m is not None and m.lower().endswith(".eer") for m in movies)


def _match(series: TiltSeries, external: ExternalCtf) -> tuple[dict[int, int], str]:
    """Estimate by position among all tilts, excluded ones last, and a word on how they were found."""
    every = [*series.tilts, *(e.tilt for e in series.excluded)]  # those left out here may be estimated there
    estimates = external.estimates
    if pairs := _by_name(every, estimates):
        return pairs, ""
    if (found := _by_section(every, estimates)) is not None:
        return found, ""
    if all(e.listed_deg is not None for e in estimates):
        return _by_angle(every, len(series.tilts), external, series.name)
    for tilts in (every, list(series.tilts)):
        if len(tilts) == len(estimates):
            order = sorted(range(len(tilts)), key=lambda i: (tilts[i].nominal_tilt_deg, tilts[i].acquisition))
            return {i: j for j, i in enumerate(order)}, (
                f"{external.source} lists neither names nor angles; its rows were taken to be in ascending order of tilt angle. "
                "A list of angles (.rawtlt) beside it makes sure."
            )
    raise InputError(
        f"{external.source} has {len(estimates)} estimates and {series.name} {len(series.tilts)} tilts, and it lists neither "
        "names nor angles: which is which cannot be told. Put a list of the angles (.rawtlt) beside it."
    )


def _by_name(tilts: Sequence[Tilt], estimates: Sequence[CtfEstimate]) -> dict[int, int]:
    """Estimates that bear the name of a tilt's movie or image; a table may hold other series too."""
    where = tilts_by_name(tilts)
    pairs: dict[int, int] = {}
    for j, estimate in enumerate(estimates):
        found = next((where[name] for name in estimate.names if name in where), None)
        if found is not None:
            pairs.setdefault(found, j)
    return pairs


def _by_section(tilts: Sequence[Tilt], estimates: Sequence[CtfEstimate]) -> dict[int, int] | None:
    """Estimates by their sections of the stack, where the angles (if listed) agree."""
    where = {s: i for i, t in enumerate(tilts) if (s := stack_section(t)) is not None}
    wanted = [e.section for e in estimates]
    if len(where) < len(tilts) or None in wanted or any(s not in where for s in wanted):
        return None
    pairs = {where[s]: j for j, s in enumerate(wanted) if s is not None}
    if not any(e.listed_deg is not None for e in estimates) and len(estimates) != len(tilts):
        return None
    return pairs if angles_agree(tilts, [e.listed_deg for e in estimates], pairs) else None


def _by_angle(tilts: Sequence[Tilt], kept: int, external: ExternalCtf, name: str) -> tuple[dict[int, int], str]:
    """Estimates by their angles, which may all be off by the same where there are as many as tilts.

    Warp lists the angles of the stage or, by default at its import today, those of the other sign.
    """
    listed = np.array([e.listed_deg for e in external.estimates], dtype=np.float64)
    ours = np.array([t.nominal_tilt_deg for t in tilts])
    usual = _pair_angles(listed, ours, kept)
    ways = [usual] if external.program != "Warp" else _likelier(usual, _pair_angles(-listed, ours, kept))
    pairs, offset, _ = ways[0]
    count = len(pairs)
    if 2 * count < min(len(listed), kept):
        raise InputError(
            f"{external.source} lists {len(listed)} angles, of which {count} are near one of the {len(tilts)} tilts of {name}. "
            "Check that it belongs to this series."
        )
    how = []
    if abs(offset) > _OFFSET_DEG:
        how.append(f"The angles of {external.source} lie {offset:+.2f} degrees from those of the series.")
    if count < len(listed):
        how.append(
            f"{len(listed) - count} of the {len(listed)} estimates of {external.source} are of no tilt of {name}."
        )
    if len(ways) > 1:
        how.append(
            f"{external.source} names none of the images, and its angles fit those of the series with either sign. They were "
            "taken to be of the other sign, as Warp writes them by default; if they are not, each tilt has the estimate of the "
            "opposite one. Import from the movies, whose names tell."
        )
    return pairs, " ".join(how)


def _likelier(usual: _Pairs, turned: _Pairs) -> list[_Pairs]:
    """The one that pairs more angles, else that without an offset, else that which is clearly nearer; else both."""

    def rank(way: _Pairs) -> tuple[int, bool]:
        return len(way[0]), abs(way[1]) <= _OFFSET_DEG

    if rank(usual) != rank(turned):
        return [max(usual, turned, key=rank)]
    for one, other in ((usual, turned), (turned, usual)):
        if _CLEARLY * one[2] < other[2]:
            return [one]
    return [usual, turned]


def _pair_angles(theirs: FloatArray, ours: FloatArray, kept: int) -> _Pairs:
    """Pairs of angles near each other by position, the offset of theirs, and the mean distance that is left."""
    near = near_angle(ours.tolist())
    starts = [0.0]
    if len(theirs) in (len(ours), kept):
        own = ours if len(theirs) == len(ours) else ours[:kept]
        starts.append(float(np.median(np.sort(theirs) - np.sort(own))))
    best: _Pairs = ({}, 0.0, math.inf)
    for start in starts:
        away = np.abs(theirs[None, :] - start - ours[:, None])
        rows, columns = linear_sum_assignment(away)
        pairs = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if away[r, c] < near}
        if len(pairs) > len(best[0]):  # of two ways the one that finds more, else the one without an offset
            best = (pairs, start, float(np.mean([away[r, c] for r, c in pairs.items()])))
    return best
