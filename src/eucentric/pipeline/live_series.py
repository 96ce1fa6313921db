"""From files to tilt series that are whole: which mdocs and movies belong together, and what is still awaited."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eucentric.io.findings import Finding
from eucentric.pipeline.import_drafts import some_of
from eucentric.pipeline.import_files import series_name
from eucentric.pipeline.import_mdocs import MdocSeries, MovieIndex, read_mdoc_sets
from eucentric.pipeline.live_files import FolderWatch
from eucentric.pipeline.live_params import LiveParams
from eucentric.pipeline.progress import duration


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFiles:
    """The files of one tilt series, as far as they are there."""

    name: str
    mdocs: tuple[Path, ...]
    movies: tuple[Path, ...]
    """Those that are there."""
    frame_counts: Mapping[Path, int | None]
    """Frames of each movie as the mdoc tells."""
    missing: tuple[str, ...]
    """Names of those that are not."""
    image_count: int
    longest_pause: float
    """s between two images, by the dates of the mdoc; 0 where it has none."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.mdocs, *self.movies)


class SeriesFinder:
    """Reads mdocs, anew only when one of them changed."""

    def __init__(self) -> None:
        self._marks: list[tuple[Path, int, int]] = []
        self._series: list[MdocSeries] = []
        self._findings: list[Finding] = []

    def find(self, watch: FolderWatch) -> tuple[list[SeriesFiles], list[Finding], int]:
        """Tilt series; what cannot be read, though it has settled; and how many movies are in no mdoc."""
        mdocs = watch.mdocs
        marks = [(p, watch.files[p].size, watch.files[p].mtime_ns) for p in mdocs]
        if marks != self._marks:
            faults = {p: fault for p in mdocs if (fault := _fault(p)) is not None}
            sets = read_mdoc_sets([p for p in mdocs if p not in faults])
            self._marks = marks
            self._findings = [f for f in sets.findings if f.severity == "error"]
            self._findings += [Finding(severity="error", series=series_name(p), text=t) for p, t in faults.items()]
            self._series = [*sets.series, *sets.continuous]
        index = MovieIndex(watch.movies)
        found: dict[str, SeriesFiles] = {}
        growing = {series_name(p) for p in mdocs if not watch.is_settled(p)}
        findings = [f for f in self._findings if f.series not in growing]
        for source in self._series:
            if source.name in found:
                text = (
                    f"There are two mdocs of a series {source.name}: `{source.paths[0]}` is not used. Rename its files."
                )
                findings.append(Finding(severity="error", series=None, text=text))
                continue
            found[source.name] = _series_files(source, index)
        return list(found.values()), findings, len(watch.movies) - len(index.used)


def _fault(mdoc: Path) -> str | None:
    """Why a file may not be opened, in words."""
    try:
        with mdoc.open("rb"):
            return None
    except OSError as error:
        return f"`{mdoc.name}` cannot be opened: {error.strerror or error}. Change its permissions."


def _series_files(source: MdocSeries, index: MovieIndex) -> SeriesFiles:
    counts: dict[Path, int | None] = {}
    missing: dict[str, None] = {}
    sections = [s for s in source.mdoc.sections if s.movie_name is not None]
    shared = len({s.movie_name for s in sections}) < len(sections)  # one movie for all tilts
    for section in sections:
        path = index.find(section.movie_name or "")
        if path is None:
            missing[section.movie_name or ""] = None
        else:
            counts[path] = None if shared else section.frame_count
    dates = sorted(s.date_time for s in source.mdoc.sections if s.date_time is not None)
    pauses = [(b - a).total_seconds() for a, b in itertools.pairwise(dates)]
    return SeriesFiles(
        name=source.name,
        mdocs=tuple(source.paths),
        movies=tuple(counts),
        frame_counts=counts,
        missing=tuple(missing),
        image_count=sum(s.tilt_angle_deg is not None for s in source.mdoc.sections),
        longest_pause=max(pauses, default=0.0),
    )


def awaited(series: SeriesFiles, watch: FolderWatch, params: LiveParams, now: float) -> tuple[str | None, list[str]]:
    """What a series waits for, in words, or None where it is to be processed; and the movies it is then without.

    Parameters
    ----------
    series : with its files as `watch` shows them
    now : s since the epoch
    """
    moving = [p.name for p in series.files if not watch.is_settled(p)]
    if moving:
        return f"Still being written: {some_of(moving, 2)}.", []
    rested = now - max(watch.files[p].changed for p in series.files)
    pause = min(params.pause_factor * series.longest_pause, 60.0 * params.patience_minutes)
    end = max(params.series_end_seconds, pause)
    is_full = params.images is not None and series.image_count >= params.images
    if not is_full and rested < end:
        of = f" of {params.images}" if params.images is not None else ""
        return f"{series.image_count}{of} images so far; taken as ended after {duration(end)} without another.", []
    faults = {p: f for p in series.movies if (f := watch.fault_of(p, series.frame_counts[p])) is not None}
    without = [*series.missing, *(p.name for p in faults)]
    if not without or rested >= 60.0 * params.patience_minutes:
        return None, without
    return _lacks(series, list(faults.values()), params), without


def _lacks(series: SeriesFiles, faults: Sequence[str], params: LiveParams) -> str:
    words = []
    if series.missing:
        there = len(series.movies)
        words.append(
            f"{there} of {there + len(series.missing)} movies are there; missing {some_of(series.missing, 2)}."
        )
    if faults:
        more = f" And {len(faults) - 1} more like it." if len(faults) > 1 else ""
        words.append(f"{faults[0]}{more}")
    words.append(f"After {duration(60.0 * params.patience_minutes)} without a change it is processed without.")
    return " ".join(words)
