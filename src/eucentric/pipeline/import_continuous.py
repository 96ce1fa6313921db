"""Tilt series within one continuous movie: the frames of each tilt, from tables, from the mdoc, or from the movie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError, ProcessingError
from eucentric.io.frame_tables import (
    FrameRange,
    mdoc_frame_series,
    place_in_movie,
    read_frame_table,
    read_saved_frames,
)
from eucentric.io.movies import MovieHeader, movie_header, open_movie
from eucentric.pipeline.import_drafts import Draft, DraftTilt, ImportOptions, some_of
from eucentric.pipeline.import_files import bare_name, series_name
from eucentric.pipeline.import_mdocs import (
    NO_TITLE_AXIS,
    MdocSeries,
    MovieIndex,
    mdoc_axis,
    mdoc_pixel_size,
    mend_super_resolution,
)

_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTable:
    """A frame table that the user gave."""

    path: Path
    ranges: tuple[FrameRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Frames of the tilts, and which frames of the movie the beam was on in."""

    ranges: tuple[FrameRange, ...]
    lit: np.ndarray


def read_frame_tables(paths: Sequence[Path]) -> list[FrameTable]:
    """Read the tables; errors as `eucentric.io.frame_tables.read_frame_table`."""
    return [FrameTable(path=p, ranges=read_frame_table(p)) for p in paths]


def table_of(movie: str, series: str, tables: Sequence[FrameTable], *, alone: bool) -> FrameTable | None:
    """The table of a movie: the one named like it or its series; without one, the only table there is.

    Parameters
    ----------
    alone : whether this is the only movie that tables are for; an only table with frames is of no other then
    """
    names = {bare_name(movie).lower(), series.lower()}
    stems = [(t.path.name.rpartition(".")[0].lower(), t) for t in tables]
    named = [
        (stem, t) for stem, t in stems if any(stem == n or stem.startswith((n + "_", n + "-", n + ".")) for n in names)
    ]
    if named:
        return min(named, key=lambda one: len(one[0]))[1]
    fits_any = len(tables) == 1 and (alone or tables[0].ranges[0].frames is None)
    return tables[0] if fits_any else None


def draft_from_continuous(
    source: MdocSeries,
    movies: MovieIndex,
    options: ImportOptions,
    tables: Sequence[FrameTable] = (),
    *,
    alone: bool = True,
) -> Draft:
    """A draft of a tilt series that shares one movie, from its mdoc.

    Where neither a table nor the mdoc tells the frames of the movie, they are found in it: the whole movie is read.

    Parameters
    ----------
    source : the mdoc, of which `eucentric.io.frame_tables.is_frame_series` holds
    movies : all movies there are
    options : the user's own values
    tables : frame tables given
    alone : as `table_of`

    Raises
    ------
    InputError : no movie, a table that does not suit it, or no steps of the stage that could be told from noise
    """
    mdoc = source.mdoc
    draft = Draft(name=source.name, tilts=[])
    first = next((s for s in mdoc.sections if s.movie_name is not None), mdoc.sections[0])
    name = first.movie_name or source.name
    path = movies.find(name)
    if path is None:
        raise InputError(
            f"The movie `{name}` of {source.name}, named in {some_of([p.name for p in source.paths])}, is not among the "
            "frames. Give its folder with --frames."
        )
    voltages = [s.voltage_kv for s in mdoc.sections if s.voltage_kv]
    draft.voltage_kv = mdoc.voltage_kv or (voltages[0] if voltages else None)
    draft.pixel_size_angstrom = mdoc_pixel_size(draft, mdoc, options.pixel_size_angstrom)
    nominal = mdoc_frame_series(mdoc, source.paths[0])
    header = _header(path)
    pixel = options.pixel_size_angstrom or draft.pixel_size_angstrom or header.pixel_size_angstrom
    if first.frame_count and first.frame_count != header.frame_count:
        draft.say(
            "warning",
            f"The mdoc says that `{path.name}` has {first.frame_count} frames; the file has {header.frame_count}.",
        )
    table = table_of(path.name, source.name, tables, alone=alone)
    if table is not None:
        found = _from_table(draft, table, path, header, nominal, pixel)
    else:
        found = _from_mdoc(draft, path, header, nominal, source.paths[0], pixel)
    per_frame = _dose_per_frame(first.frame_doses, nominal, options, found)
    _add_tilts(draft, path, header, found, per_frame, options)
    if options.tilt_axis_deg is None and mdoc.tilt_axis_angle_deg is None and first.rotation_angle_deg is not None:
        draft.say("note", NO_TITLE_AXIS)
    for tilt in draft.tilts:
        tilt.axis_deg = mdoc_axis(mdoc, first, options.tilt_axis_deg)
        tilt.target_defocus_um = first.target_defocus_um
    _add_times(draft, nominal, first.exposure_time_s)
    if options.pixel_size_angstrom is None:
        mend_super_resolution(draft, mdoc)
    return draft


def _add_times(draft: Draft, nominal: Sequence[FrameRange], exposure_s: float | None) -> None:
    """When each tilt began, and for how long it was exposed, where the mdoc gives both frames and exposure time.

    Its frames are in frame times of the whole exposure, those too that were not saved: the last one ends it.
    """
    spans = [r.frames for r in nominal]
    known = [s for s in spans if s is not None]
    if not exposure_s or len(known) < len(spans) or len(spans) != len(draft.tilts) or not spans:
        return
    begin, end = min(s[0] for s in known), max(s[1] for s in known)
    for tilt in draft.tilts:
        first, after = known[tilt.position]
        tilt.time_s = (first - begin) * exposure_s / end
        tilt.exposure_s = (after - first) * exposure_s / end


def draft_from_table(path: Path, options: ImportOptions, table: FrameTable) -> Draft:
    """A draft of a tilt series that shares one movie, from a frame table alone; errors as `draft_from_continuous`."""
    draft = Draft(name=series_name(path), tilts=[])
    header = _header(path)
    draft.header_pixel_size_angstrom = header.pixel_size_angstrom
    pixel = options.pixel_size_angstrom or header.pixel_size_angstrom
    found = _from_table(draft, table, path, header, (), pixel)
    _add_tilts(draft, path, header, found, _dose_per_frame((), (), options, found), options)
    return draft


def _header(path: Path) -> MovieHeader:
    header = movie_header(path)
    if header.eer is not None:
        raise InputError(
            f"`{path.name}` is an EER movie that holds several tilts: its frames are summed only when they are read, so "
            "that none can be named by number. Convert it to TIFF or MRC frames first."
        )
    return header


def _from_table(
    draft: Draft,
    table: FrameTable,
    path: Path,
    header: MovieHeader,
    nominal: Sequence[FrameRange],
    pixel_size: float | None,
) -> _Found:
    if table.ranges[0].frames is None:
        return _detect(draft, path, header, table.ranges, pixel_size)
    last = max(r.frames[1] for r in table.ranges if r.frames is not None)
    if last > header.frame_count:
        raise FormatError(
            f"`{table.path.name}` gives frames up to {last} to tilts, and `{path.name}` has {header.frame_count}. Frames "
            "count from 1; check that the table is of this movie and that the movie was copied whole."
        )
    if nominal and len(nominal) != len(table.ranges):
        draft.say(
            "warning",
            f"`{table.path.name}` has {len(table.ranges)} tilts, the mdoc {len(nominal)}; the table is followed.",
        )
    return _Found(ranges=table.ranges, lit=np.ones(header.frame_count, dtype=bool))


def _from_mdoc(
    draft: Draft,
    path: Path,
    header: MovieHeader,
    nominal: tuple[FrameRange, ...],
    mdoc_path: Path,
    pixel_size: float | None,
) -> _Found:
    """Frames as the mdoc has them, where they can be placed in the movie; else found in it."""
    spans = [r.frames for r in nominal if r.frames is not None]
    lit = np.ones(header.frame_count, dtype=bool)
    if spans:
        saved = _saved_list(path, mdoc_path)
        if saved is not None:
            numbers = read_saved_frames(saved)
            if len(numbers) == header.frame_count:
                return _Found(ranges=place_in_movie(nominal, numbers), lit=lit)
            draft.say(
                "warning",
                f"`{saved.name}` lists {len(numbers)} frames and `{path.name}` has {header.frame_count}; it is not used.",
            )
        if header.frame_count == max(end for _, end in spans):
            for begin, end in zip([0, *(e for _, e in spans)], [b for b, _ in spans], strict=False):
                lit[begin:end] = False
            return _Found(ranges=nominal, lit=lit)
    found = _detect(draft, path, header, nominal, pixel_size)
    if spans:
        odd = [
            f"{r.tilt_deg:.1f} degrees ({b - a} frames found, {e - s} expected)"
            for r, (s, e) in zip(found.ranges, spans, strict=True)
            if r.frames is not None and not 0.5 <= ((b := r.frames[1]) - (a := r.frames[0])) / (e - s) <= 1.5
        ]
        if odd:
            draft.say("warning", f"The frames found do not suit the times in the mdoc at {', '.join(odd[:4])}.")
    return found


def _saved_list(path: Path, mdoc_path: Path) -> Path | None:
    places = [folder / f"{bare_name(path)}_saved.txt" for folder in (path.parent, mdoc_path.parent)]
    return next((p for p in places if p.is_file()), None)


def _detect(
    draft: Draft, path: Path, header: MovieHeader, nominal: Sequence[FrameRange], pixel_size: float | None
) -> _Found:
    """Read the movie and find the dwells of the stage in it."""
    # the numbers are heavy to import, and few imports need them
    import torch

    from eucentric.motion.assign_frames import assign_frames

    if not pixel_size:
        raise InputError(f"The pixel size of `{path.name}` is not known. Give it with --pixel-size, in Angstrom.")
    block: list[np.ndarray] = [np.empty(0)]
    start = [-1]
    with open_movie(path) as movie:

        def frame(i: int) -> torch.Tensor:
            if not start[0] <= i < start[0] + len(block[0]) or start[0] < 0:
                start[0], block[0] = i, movie.read(i, min(i + _READ_AT_ONCE, header.frame_count))
            return torch.from_numpy(np.asarray(block[0][i - start[0]], dtype=np.float32))

        try:
            found = assign_frames(frame, header.frame_count, pixel_size, tilt_count=len(nominal))
        except ProcessingError as error:
            raise InputError(
                f"Neither the mdoc nor a table tells which frames of `{path.name}` belong to which tilt, and they could "
                f"not be found in the movie. {error}"
            ) from error
    ranges = tuple(replace(r, frames=span) for r, span in zip(nominal, found.ranges, strict=True))
    kept = sum(b - a for a, b in found.ranges)
    draft.say(
        "warning",
        f"The frames of each tilt were found in `{path.name}` itself: {kept} of {header.frame_count} belong to "
        f"{len(ranges)} tilts; the rest, of the moving stage or dark, are not used. Give --frame-table if that is wrong.",
    )
    return _Found(ranges=ranges, lit=~found.dark)


def _dose_per_frame(
    frame_doses: Sequence[tuple[float, int]], nominal: Sequence[FrameRange], options: ImportOptions, found: _Found
) -> float | None:
    """e/A^2 of a lit frame, as the user says of a tilt, as the mdoc says of frames or tilts, or as the table says."""
    lengths = [r.frames[1] - r.frames[0] for r in found.ranges if r.frames is not None]
    if options.dose_per_tilt is not None:
        return options.dose_per_tilt / float(np.median(lengths)) if lengths else None
    number = sum(count for _, count in frame_doses)
    if number and sum(dose for dose, _ in frame_doses) > 0:
        return sum(dose * count for dose, count in frame_doses) / number
    for ranges in (nominal, found.ranges):
        each = [r.dose / (r.frames[1] - r.frames[0]) for r in ranges if r.dose and r.frames is not None]
        if each:
            return float(np.median(each))
    whole = [r.dose for r in nominal if r.dose]
    return float(np.median(whole) / np.median(lengths)) if whole and lengths else None


def _add_tilts(
    draft: Draft, path: Path, header: MovieHeader, found: _Found, per_frame: float | None, options: ImportOptions
) -> None:
    """Tilts with their frames; all lit frames before a tilt expose the specimen, whether they are used or not."""
    doses = np.where(found.lit, per_frame or 0.0, 0.0)
    if options.dose_per_tilt is None:
        for one in found.ranges:
            if one.dose and one.frames is not None and per_frame is None:
                doses[slice(*one.frames)] = one.dose / (one.frames[1] - one.frames[0])
    before = np.concatenate([[0.0], np.cumsum(doses)])
    order = sorted(range(len(found.ranges)), key=lambda i: (found.ranges[i].frames or (header.frame_count, 0))[0])
    lost = []
    for rank, i in enumerate(order):
        one = found.ranges[i]
        label = f"the tilt at {one.tilt_deg:.1f} degrees"
        tilt = DraftTilt(angle_deg=one.tilt_deg, label=label, position=i, movie=path, order=rank, shape=header.shape)
        if one.frames is None:
            tilt.problem = "no frame of it was saved"
            tilt.dose, tilt.prior_dose = 0.0, float(before[-1])
            lost.append(f"{one.tilt_deg:.1f}")
        else:
            start, stop = one.frames
            tilt.frames, tilt.frame_count = one.frames, stop - start
            tilt.dose, tilt.prior_dose = round(float(before[stop] - before[start]), 6), round(float(before[start]), 6)
        draft.tilts.append(tilt)
    if lost:
        draft.say("warning", f"No frame was saved of the tilts at {', '.join(lost)} degrees; they are left out.")
    used = np.zeros(header.frame_count, dtype=bool)
    for one in found.ranges:
        if one.frames is not None:
            used[slice(*one.frames)] = True
    idle = int((found.lit & ~used).sum())
    if idle:
        told = f"; their dose, {idle * per_frame:.3g} e/A2, counts" if per_frame else ""
        draft.say("note", f"{idle} of {header.frame_count} frames of `{path.name}` belong to no tilt{told}.")
