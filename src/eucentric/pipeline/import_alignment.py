"""Taking over the alignment that another program made: finding its files, and which tilt each of its views is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eucentric.errors import InputError
from eucentric.geometry.warp import ImageWarp
from eucentric.io.aretomo import read_aretomo
from eucentric.io.exchange.imod import read_imod_alignment
from eucentric.io.external_alignments import (
    ExternalAlignment,
    ExternalView,
    LeftOutView,
    from_aretomo,
    from_relion,
    from_warp,
)
from eucentric.io.external_places import angstrom_per_unit, centre_offset, pose_of, sampled_warp
from eucentric.io.warp_xml import read_warp_series
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.import_files import read_own
from eucentric.pipeline.tilt_matching import angles_agree, near_angle, stack_section, tilts_by_name
from eucentric.typing import FloatArray, PathLike

_SCATTER = 0.5
"""Of that distance: angles of one series scatter less about those of the other, half of them."""
_TELLS_DEG = 0.5  # angles of the stage that differ by less are no proof
_RELION_TABLES = ("aligned_tilt_series.star", "tilt_series.star", "tomograms.star")
_Entries: TypeAlias = list[ExternalView | LeftOutView]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttachedAlignment:
    """A series with the poses of an external alignment."""

    series: TiltSeries
    warp: ImageWarp | None
    """Local deformation of `series.tilts`, where the other program found one."""
    caveats: tuple[str, ...]


def read_external_alignment(
    path: PathLike, name: str, *, pixel_size_angstrom: float | None = None, project_root: PathLike | None = None
) -> ExternalAlignment:
    """The alignment of a tilt series that IMOD, AreTomo, Warp, M or RELION-5 made.

    Parameters
    ----------
    path : an `.xf`, `.aln`, `.xml` or RELION `.star` file, or a folder that holds one for the series (or a folder of its
        name that does). Beside an `.xf`, the `.tlt`, and if there `.xtilt`, `.rawtlt` and `tilt.com`, are read
    name : of the tilt series
    pixel_size_angstrom : of the images that were aligned, where they were binned and the files do not tell
    project_root : folder that paths in a RELION table start from; found where not given

    Raises
    ------
    InputError : nothing there for this series
    FormatError : a file that cannot be read
    """
    place = Path(path)
    file = _find(place, name) if place.is_dir() else place
    if not file.is_file():
        raise InputError(
            f"`{file}` does not exist. Give a folder, or an .xf, .aln, .xml or .star file with an alignment."
        )
    match file.suffix.lower():
        case ".aln":
            found = from_aretomo(read_aretomo(file), source=f"AreTomo ({file.name})")
        case ".xml":
            found = from_warp(read_warp_series(file), source=f"Warp ({file.name})")
        case ".star":
            found = from_relion(file, name, project_root)
        case ".xf":
            found = read_imod_alignment(file, pixel_size_angstrom=pixel_size_angstrom)
        case _:
            raise InputError(
                f"`{file.name}` is no alignment that is known. Expected .xf (IMOD), .aln, .xml (Warp) or .star."
            )
    return found if pixel_size_angstrom is None else replace(found, pixel_size_angstrom=pixel_size_angstrom)


def _find(folder: Path, name: str) -> Path:
    """The file for a series in a folder, or in folders in it that bear its name."""
    places = [folder, *(folder / sub for sub in (name, f"{name}_Imod", f"{name}_aligned_Imod"))]
    stems = (name, f"{name}_st", f"{name}.mrc", f"{name}.st")
    for place in places:
        for ending in (".aln", ".xf", ".xml"):
            for stem in stems:
                if (file := place / f"{stem}{ending}").is_file():
                    return file
    for table in _RELION_TABLES:
        if (file := folder / table).is_file():
            return file
    raise InputError(
        f"`{folder}` holds no alignment of {name}: neither `{name}.aln`, `{name}.xf`, `{name}.xml` nor a RELION table, nor a "
        f"folder `{name}` with one. Give the file itself."
    )


def attach_given(
    series: TiltSeries, paths: Sequence[Path], *, series_count: int, pixel_size_angstrom: float | None = None
) -> AttachedAlignment | None:
    """The series with the alignment that is its own among those that the user named; None where none of them is.

    Parameters
    ----------
    paths : files, each of the series that its name begins with (a RELION table of all), and folders
    series_count : of all series: a single file for a single series needs no name
    pixel_size_angstrom : as for `read_external_alignment`

    Raises
    ------
    InputError, FormatError : its alignment cannot be read, or does not fit
    """
    found = read_own(
        series.name,
        paths,
        series_count,
        lambda path: read_external_alignment(path, series.name, pixel_size_angstrom=pixel_size_angstrom),
    )
    return None if found is None else attach_alignment(series, found)


def attach_alignment(series: TiltSeries, external: ExternalAlignment) -> AttachedAlignment:
    """Give the tilts of a series the poses of an external alignment.

    Views are found by the names of their movies, else by their sections where the series' images are sections of a
    stack of as many, else by their angles. Tilts that the other program left out, or does not have, are excluded with the
    reason.

    Raises
    ------
    InputError : the views cannot be told apart, or do not belong to this series; images of another shape
    """
    caveats = list(external.caveats)
    chosen, reasons, how = _match(series, external)
    if not chosen:
        raise InputError(
            f"No view of {external.source} is a tilt of {series.name}. Check that it belongs to this series."
        )
    if how:
        caveats.append(how)
    pixel, shape = series.pixel_size_angstrom, series.image_shape
    unit = angstrom_per_unit(external, pixel, shape, series.name)
    offset = centre_offset(external.centre, pixel, shape)
    kept = sorted(chosen)
    views = [external.views[chosen[i]] for i in kept]
    turned = _hand(series, kept, views)
    if turned:
        caveats.append(
            f"The tilt angles of {external.source} turn the other way than those of the series. Their signs were turned: "
            "positions in the images are the same, the specimen is the mirror image of the other program's."
        )
    sign = -1.0 if turned else 1.0
    tilts = list(series.tilts)
    for i, view in zip(kept, views, strict=True):
        tilts[i] = replace(tilts[i], pose=pose_of(view, unit, offset, sign))
    gone = {i: reasons.get(i, f"{external.source} has no such view") for i in range(len(tilts)) if i not in chosen}
    aligned = series.with_tilts(tilts).without(gone).replace(warp=None)
    if external.thickness is not None:
        aligned = aligned.replace(thickness_angstrom=external.thickness * unit)
    warp = sampled_warp(external, [chosen[i] for i in kept], unit, offset, pixel, shape)
    return AttachedAlignment(series=aligned, warp=warp, caveats=tuple(caveats))


def _hand(series: TiltSeries, kept: list[int], views: list[ExternalView]) -> bool:
    """Whether the external angles describe the mirror image of what the series' own angles and axis do.

    No image tells: (tilt, z) and (-tilt, -z) project alike. An axis turned by half a circle turns the sign too.
    """
    ours = series.nominal_tilts_deg[kept]
    theirs = np.array([v.y_tilt_deg for v in views])
    if len(kept) < 2 or np.ptp(ours) == 0:
        return False
    sign = float(np.dot(ours - ours.mean(), theirs - theirs.mean()))
    axes = [t.nominal_axis_deg for t in series.tilts if t.nominal_axis_deg is not None]
    if axes:
        away = np.deg2rad(np.median([v.z_rot_deg for v in views]) - np.median(axes))
        sign *= float(np.cos(away))
    return sign < 0


def _match(series: TiltSeries, external: ExternalAlignment) -> tuple[dict[int, int], dict[int, str], str]:
    """View number by position in `series.tilts`, reasons of the others by position, and a word on how they were found."""
    every = [*series.tilts, *(e.tilt for e in series.excluded)]  # those left out here may be views there
    entries: _Entries = [*external.views, *external.left_out]
    pairs, how = _by_name(every, entries), ""
    if pairs is None:
        pairs = _by_section(every, entries, external.section_count)
    if pairs is None:
        pairs, how = _by_angle(series, every, entries, external)
    chosen, reasons = {}, {}
    for tilt, entry in pairs.items():
        if tilt >= len(series.tilts):
            continue
        if entry < len(external.views):
            chosen[tilt] = entry
        else:
            reasons[tilt] = external.left_out[entry - len(external.views)].reason
    return chosen, reasons, how


def _by_name(tilts: list[Tilt], entries: _Entries) -> dict[int, int] | None:
    """Every view by the name of its movie; None where one has no name that a tilt has."""
    where = tilts_by_name(tilts)
    pairs: dict[int, int] = {}
    for j, entry in enumerate(entries):
        found = next((where[name] for name in entry.names if name in where), None)
        if found is None or found in pairs:
            return None
        pairs[found] = j
    return pairs or None


def _by_section(tilts: list[Tilt], entries: _Entries, count: int | None) -> dict[int, int] | None:
    """Every view by its section, where the series is a stack of as many images and the angles agree."""
    sections = [stack_section(tilt) for tilt in tilts]
    if count is None or None in sections or len(sections) != count or any(e.section is None for e in entries):
        return None
    where = {s: i for i, s in enumerate(sections) if s is not None}
    pairs = {where[e.section]: j for j, e in enumerate(entries) if e.section is not None and e.section in where}
    if len(pairs) != len(entries):
        return None
    return pairs if angles_agree(tilts, [e.listed_deg for e in entries], pairs) else None


def _pair(ours: FloatArray, theirs: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    away = theirs[None, :] - ours[:, None]
    rows, columns = linear_sum_assignment(np.abs(away))
    return rows, columns, away[rows, columns]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _AnglePairs:
    """One way to bring angles together."""

    sign: float
    offset: float
    """Degrees that theirs lie above ours."""
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    away: FloatArray
    """(pair,), degrees, the offset aside."""
    good: int
    """Pairs that are near enough to be of the same view."""

    @property
    def change(self) -> float:
        """By how many degrees angles differ, in common and one by one."""
        return abs(self.offset) + float(np.median(np.abs(self.away)))

    @property
    def rank(self) -> tuple[int, float]:
        """More views found, and of two ways the one that changes the angles less."""
        return self.good, -self.change


def _angle_pairs(ours: FloatArray, theirs: FloatArray, starts: list[float], sign: float, near: float) -> _AnglePairs:
    """The best way from some offsets to start with."""
    ways = []
    for start in starts:
        _, _, away = _pair(ours, sign * theirs - start)
        offset = start + float(np.median(away))
        rows, columns, away = _pair(ours, sign * theirs - offset)
        good = int((np.abs(away) < near).sum())
        ways.append(_AnglePairs(sign=sign, offset=offset, rows=rows, columns=columns, away=away, good=good))
    return max(ways, key=lambda way: way.rank)


def _by_angle(
    series: TiltSeries, tilts: list[Tilt], entries: _Entries, external: ExternalAlignment
) -> tuple[dict[int, int], str]:
    """Views by their angles, which may all be off by the same, and turned in sign where that is not known."""
    source = external.source
    places = [j for j, e in enumerate(entries) if e.listed_deg is not None]
    theirs = np.array([entries[j].listed_deg for j in places], dtype=np.float64)
    ours = np.array([t.nominal_tilt_deg for t in tilts])
    if not len(theirs):
        raise InputError(
            f"{source} lists no angle and no name that {series.name} has. Check that it belongs to this series."
        )
    near = near_angle(ours.tolist())
    as_many = len(theirs) in (len(ours), len(series.tilts))
    ways = []
    for sign in (1.0,) if external.signs_known else (1.0, -1.0):
        starts = [0.0]
        if as_many:
            own = ours if len(theirs) == len(ours) else series.nominal_tilts_deg
            starts.append(float(np.median(np.sort(sign * theirs) - np.sort(own))))
        ways.append(_angle_pairs(ours, theirs, starts, sign, near))
    best = max(ways, key=lambda way: way.rank)
    unsure = len(ways) > 1 and ways[0].good == ways[1].good and abs(ways[0].change - ways[1].change) < _TELLS_DEG
    best = ways[0] if unsure else best
    if best.good == 0 or float(np.median(np.abs(best.away))) > _SCATTER * near:
        raise InputError(f"{source} lists other angles than {series.name} has. Check that it belongs to this series.")
    if abs(best.offset) > near and not as_many:
        raise InputError(
            f"{source} lists {len(theirs)} views and {series.name} has {len(series.tilts)} tilts, and their angles differ by "
            f"{best.offset:.1f} degrees or so: which is which cannot be told. Put the .rawtlt of the aligned stack beside its files."
        )
    fits = np.abs(best.away) < near
    if best.good < len(theirs) and best.good < len(series.tilts):
        strange = theirs[np.setdiff1d(np.arange(len(theirs)), best.columns[fits])]
        raise InputError(
            f"{source} has views that are no tilt of {series.name} (at {', '.join(f'{a:g}' for a in strange[:4])} degrees), and "
            "lacks others. Expected the alignment of the same images."
        )
    pairs = {int(r): places[int(c)] for r, c, ok in zip(best.rows, best.columns, fits, strict=True) if ok}
    words = []
    if unsure:
        words.append(
            f"Views of {source} were found by angles whose sign it may have turned; names of movies would tell."
        )
    if abs(best.offset) > 0.5:
        words.append(f"The angles of {source} lie {best.offset:+.2f} degrees from those of the series.")
    return pairs, " ".join(words)
