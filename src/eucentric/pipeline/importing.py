"""From the files of a microscope to a project's first table: finding, checking, saying what is missing or odd.

Kinds of input: movies with one mdoc a series; movies with one mdoc an image; one movie a series; stacks with an angle file or mdoc;
movies alone, by the pattern of their names; a separate exposure before a series; finished tomograms.
"""

import fnmatch
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.warp import ImageWarp
from eucentric.io.atomic import write_text_atomic
from eucentric.io.defects import read_defects
from eucentric.io.findings import Finding
from eucentric.io.given_ctf import GivenCtf
from eucentric.io.movies import MOVIE_ENDINGS, has_ending, read_gain
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import relative_path, write_tilt_series_set
from eucentric.io.warps import write_image_warp
from eucentric.models import Tilt, TiltSeries
from eucentric.pipeline.find_given_ctfs import find_given_ctfs, write_given_ctfs
from eucentric.pipeline.import_alignment import attach_given
from eucentric.pipeline.import_continuous import (
    FrameTable,
    draft_from_continuous,
    draft_from_table,
    read_frame_tables,
    table_of,
)
from eucentric.pipeline.import_drafts import Draft, DraftTilt, ImportOptions, finish_series, read_movie_headers, some_of
from eucentric.pipeline.import_files import (
    NamedMovie,
    bare_name,
    expand_paths,
    parse_movie_names,
    series_name,
)
from eucentric.pipeline.import_mdocs import (
    MdocSeries,
    MovieIndex,
    draft_from_mdoc,
    mend_super_resolution,
    read_mdoc_sets,
)
from eucentric.pipeline.import_stacks import (
    CONVERTED_ENDINGS,
    LIST_ENDINGS,
    STACK_ENDINGS,
    TOMOGRAM_ENDINGS,
    draft_from_projection_list,
    draft_from_stack,
    is_half_map,
    load_stack,
    series_from_tomogram,
)
from eucentric.pipeline.scheme_words import SchemeWords
from eucentric.typing import PathLike


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import would write. Paths in it are absolute; `write_import` makes them relative to the project."""

    series: tuple[TiltSeries, ...]
    gain: Path | None = None
    dark: Path | None = None
    defects: Path | None = None
    findings: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()
    """Names of series that cannot be processed; the findings of severity `error` tell why."""
    warps: Mapping[str, ImageWarp] = field(default_factory=dict)
    """Local deformation by series, of alignments that were given."""
    ctfs: Mapping[str, GivenCtf] = field(default_factory=dict)
    """Contrast transfer by series, of estimates or focus images that were given."""
    pre_exposure_images: tuple[tuple[str, Path, float], ...] = ()
    """(series, image, e/A2): exposures taken before a series; their dose is in the pre-exposure of its tilts."""

    def references(self, root: Path) -> dict[str, str | None]:
        """Gain, dark and defects as paths from the project's folder; None for what was not given."""
        files = {"gain": self.gain, "dark": self.dark, "defects": self.defects}
        return {name: None if path is None else relative_path(path, root) for name, path in files.items()}


_SCALES = (1, 2, 4)
ALIGNMENT_ENDINGS = (".xf", ".aln", ".xml", ".star")
_TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".tlt", ".rawtlt")


@dataclass(kw_only=True)
class _Collector:
    """Series and findings as they come in."""

    options: ImportOptions
    gain: Path | None
    gain_shape: tuple[int, int] | None
    exclude: Sequence[str]
    dose_before: Callable[[str], float]
    series: list[TiltSeries] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    without_voltage: list[str] = field(default_factory=list)

    def refuse(self, name: str, text: str) -> None:
        self.left_out.append(name)
        self.findings.append(Finding(severity="error", series=name, text=text))

    def is_excluded(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude)

    def add(self, name: str, make: Callable[[], Draft]) -> None:
        """Add one series; whatever makes it unusable becomes a finding and stops no other."""
        if self.is_excluded(name):
            self.findings.append(Finding(severity="note", series=name, text="Left out as asked (--exclude)."))
            return
        if any(s.name == name for s in self.series):
            self.refuse(
                name, f"There are two tilt series called {name}; the first is kept. Rename the files of the other."
            )
            return
        draft: Draft | None = None
        try:
            draft = make()
            one = finish_series(draft, self.options, self.dose_before(name))
            self._check_gain(draft, one)
        except InputError as error:
            self.findings += draft.findings if draft is not None else []
            self.refuse(name, str(error))
            return
        self.findings += draft.findings
        if one.optics is not None and draft.voltage_kv is None and self.options.voltage_kv is None:
            self.without_voltage.append(name)
        self.series.append(one)

    def _check_gain(self, draft: Draft, one: TiltSeries) -> None:
        has_movies = any(t.movie is not None for t in draft.tilts)
        if self.gain is None or self.gain_shape is None or not has_movies or self.gain_shape == one.image_shape:
            return
        (gy, gx), (y, x) = self.gain_shape, one.image_shape
        if any((gy * t, gx * t) in ((y * u, x * u), (x * u, y * u)) for t in _SCALES for u in _SCALES):
            return  # motion correction finds how it lies, and brings it to the pixels of the frames
        raise ShapeError(
            f"The gain reference `{self.gain.name}` is {gx} x {gy} pixels, the frames of {one.name} are {x} x {y}. No turn or flip "
            "makes it fit, nor twice or half its size; give the one recorded with these movies with --gain."
        )


def _check_between_series(collector: _Collector) -> None:
    """Odd differences between series, and the voltage where it was assumed."""
    names = collector.without_voltage
    if names:
        text = f"No file tells the voltage of {', '.join(names)}: 300 kV is assumed. Give --voltage if that is wrong."
        collector.findings.append(Finding(severity="warning", text=text))
    for what, unit, values in (
        ("voltage", "kV", [None if s.optics is None else s.optics.voltage_kv for s in collector.series]),
        ("pixel size", "A", [round(s.pixel_size_angstrom, 4) for s in collector.series]),
        ("image size", "pixels", [s.image_shape[::-1] for s in collector.series]),
    ):
        groups: dict[object, list[str]] = defaultdict(list)
        for one, value in zip(collector.series, values, strict=True):
            groups[value].append(one.name)
        groups.pop(None, None)
        if len(groups) > 1:
            told = "; ".join(f"{v} {unit}: {some_of(members)}" for v, members in groups.items())
            text = f"The {what} differs between series: {told}. Each keeps its own."
            collector.findings.append(Finding(severity="warning", text=text))


def _draft_from_names(name: str, movies: Sequence[NamedMovie]) -> Draft:
    draft = Draft(name=name, tilts=[])
    for position, movie in enumerate(movies):
        draft.tilts.append(
            DraftTilt(
                angle_deg=movie.tilt_deg,
                label=movie.path.name,
                position=position,
                movie=movie.path,
                order=movie.order,
                date_time=movie.date_time,
            )
        )
    read_movie_headers(draft)
    return draft


def _add_by_tables(collector: _Collector, movies: Sequence[Path], tables: Sequence[FrameTable]) -> None:
    """Movies with a frame table of their own and no mdoc."""
    for movie in movies:
        table = table_of(movie.name, series_name(movie), tables, alone=len(movies) == 1)
        if table is None:
            text = f"`{movie.name}` has no frame table of its name, such as `{bare_name(movie)}.csv`, and is not used."
            collector.findings.append(Finding(severity="warning", text=text))
        else:
            collector.add(series_name(movie), partial(draft_from_table, movie, collector.options, table))


def _add_by_names(collector: _Collector, movies: Sequence[Path]) -> None:
    named = parse_movie_names(movies, collector.options.pattern)
    unnamed = sorted(set(movies) - {m.path for m in named})
    if unnamed:
        text = (
            f"{len(unnamed)} of {len(movies)} movies have names that tell no tilt angle and are not used: "
            f"{some_of([p.name for p in unnamed])}. Give their mdoc files, or --pattern such as "
            f"'{{series}}_{{order}}_{{tilt}}'."
        )
        collector.findings.append(Finding(severity="warning" if named else "error", text=text))
    groups: dict[str, list[NamedMovie]] = defaultdict(list)
    for movie in named:
        groups[movie.series].append(movie)
    for name, group in groups.items():
        collector.add(name, partial(_draft_from_names, name, group))


def _draft_with_movies(source: MdocSeries, index: MovieIndex, options: ImportOptions) -> Draft:
    draft = draft_from_mdoc(source, index, options.pixel_size_angstrom, options.tilt_axis_deg)
    read_movie_headers(draft)
    if options.pixel_size_angstrom is None:
        mend_super_resolution(draft, source.mdoc)
    return draft


def _add_by_mdocs(
    collector: _Collector, movies: Sequence[Path], mdocs: Sequence[Path], tables: Sequence[FrameTable]
) -> None:
    sets = read_mdoc_sets(mdocs, collector.options.pattern)
    collector.findings += sets.findings
    collector.left_out += [f.series for f in sets.findings if f.severity == "error" and f.series is not None]
    index = MovieIndex(movies)
    for source in sets.series:
        collector.add(source.name, partial(_draft_with_movies, source, index, collector.options))
    alone = len(sets.continuous) == 1
    for source in sets.continuous:
        make = partial(draft_from_continuous, source, index, collector.options, tables, alone=alone)
        collector.add(source.name, make)
    doubles = index.doubles()
    if doubles:
        text = f"{some_of(doubles)} stand in more than one folder; of each the first found is used."
        collector.findings.append(Finding(severity="warning", text=text))
    excluded_series = [s for s in (*sets.series, *sets.continuous) if collector.is_excluded(s.name)]
    for source in excluded_series:
        for section in source.mdoc.sections:
            index.find(section.movie_name or "")
    unused = [m.name for m in movies if m not in index.used]
    if unused:
        count = f"{len(unused)} movies are" if len(unused) > 1 else "One movie is"
        text = f"{count} in no mdoc and not used: {some_of(unused)}."
        collector.findings.append(Finding(severity="warning", text=text))


def _add_tomograms(collector: _Collector, paths: Iterable[Path]) -> None:
    for path in paths:
        name = series_name(path)
        if is_half_map(path) or collector.is_excluded(name):
            continue
        if any(s.name == name for s in collector.series):
            collector.refuse(name, f"There are two series called {name}; the first is kept. Rename `{path.name}`.")
            continue
        try:
            collector.series.append(series_from_tomogram(path, collector.options))
        except InputError as error:
            collector.refuse(name, str(error))


def _pre_exposures(images: Sequence[Path], names: Iterable[str], dose: float) -> list[tuple[str, Path, float]]:
    """Which series each image belongs to: the longest series name in its own."""
    known = sorted(names, key=len, reverse=True)
    found = []
    for image in images:
        owner = next((n for n in known if n in image.name), known[0] if len(known) == 1 else None)
        if owner is not None:
            found.append((owner, image, dose))
    return found


def _exposure_findings(
    images: Sequence[Path], exposures: Sequence[tuple[str, Path, float]], dose: float
) -> Iterable[Finding]:
    used = {path for _, path, _ in exposures}
    for image in images:
        if image not in used:
            text = f"`{image.name}` names no series, so its dose of {dose:g} e/A2 was not added to any."
            yield Finding(severity="warning", text=text)
    for name, image, given in exposures:
        text = f"`{image.name}` gave {given:g} e/A2 before the series; they are in the pre-exposure of every tilt."
        yield Finding(severity="note", series=name, text=text)


def _series_names_ahead(
    movies: Sequence[Path], mdocs: Sequence[Path], stacks: Sequence[Path], options: ImportOptions
) -> list[str]:
    names = [series_name(p) for p in (*mdocs, *stacks)]
    if not mdocs:
        names += [m.series for m in parse_movie_names(movies, options.pattern)]
    return list(dict.fromkeys(names))


def _conclude(collector: _Collector) -> None:
    """Refuse an import of which nothing is left."""
    if collector.series:
        return
    errors = [f.text for f in collector.findings if f.severity == "error"]
    if not errors:
        raise InputError("Nothing was found to import. Give --frames and --mdoc, --stack or --tomogram.")
    more = f" {len(errors) - 1} more were refused for their own reasons." if len(errors) > 1 else ""
    raise InputError(errors[0] + more)


def plan_import(
    frames: Sequence[str | Path] = (),
    mdocs: Sequence[str | Path] = (),
    *,
    stacks: Sequence[str | Path] = (),
    tomograms: Sequence[str | Path] = (),
    angle_files: Sequence[str | Path] = (),
    tilt_steps: tuple[float, float] | None = None,
    frame_tables: Sequence[str | Path] = (),
    gain: PathLike | None = None,
    dark: PathLike | None = None,
    defects: PathLike | None = None,
    voltage_kv: float | None = None,
    pixel_size: float | None = None,
    dose_per_tilt: float | None = None,
    tilt_axis_deg: float | None = None,
    spherical_aberration: float | None = None,
    amplitude_contrast: float | None = None,
    pattern: str | None = None,
    scanning: bool | None = None,
    scheme: str | None = None,
    pre_exposure_images: Sequence[str | Path] = (),
    pre_exposure_dose: float = 0.0,
    alignments: Sequence[str | Path] = (),
    alignment_pixel_size: float | None = None,
    ctfs: Sequence[str | Path] = (),
    focus_tables: Sequence[str | Path] = (),
    focus_offset_angstrom: float = 0.0,
    exclude: Sequence[str] = (),
) -> ImportPlan:
    """Find the files of tilt series, check them against each other, and say what is missing or odd. Nothing is written.

    Parameters
    ----------
    frames, mdocs, stacks, tomograms, angle_files, pre_exposure_images : folders, files or wildcards
    tilt_steps : first angle and step of stacks without an angle file, degrees
    frame_tables : tables of the frames of each tilt, for movies that hold a whole tilt series; named like the movie, where
        there are several (:func:`eucentric.io.frame_tables.read_frame_table`)
    gain : gain reference, turned or flipped in any way, of the movies' size or 2 or 4 times more or less
    dark : image without a beam, in counts per frame
    defects : map or list of defective pixels (:func:`eucentric.io.defects.read_defects`)
    voltage_kv, pixel_size, dose_per_tilt, tilt_axis_deg, spherical_aberration, amplitude_contrast : kV, A, e/A2,
        degrees, mm, fraction; they go before what files say
    pattern : how movie names are made, such as `{series}_{order}_{tilt}`; None tries those of the usual programs
    scanning : True where contrast transfer does not apply; None asks the files
    scheme : the order in which the images were taken, such as `dose-symmetric start=0 group=2`; None asks the files
    pre_exposure_dose : e/A2 received before each series; with `pre_exposure_images`, only by the series named in theirs
    alignments : files or folders with alignments of other programs (:mod:`eucentric.pipeline.import_alignment`)
    alignment_pixel_size : A, of the images that were aligned, where they were binned and the files do not tell
    ctfs : files or folders with estimates of the contrast transfer (:func:`eucentric.pipeline.import_ctf.read_external_ctf`)
    focus_tables : tables of focus images (:mod:`eucentric.io.focus_tables`), used where no estimates are given
    focus_offset_angstrom : what tilt images are further underfocus than focus images
    exclude : names of series to leave out, wildcards allowed

    Returns
    -------
    ImportPlan : series in the order found, with every observation

    Raises
    ------
    InputError : a place that holds nothing, an unusable option, or no series left that could be processed
    """
    options = ImportOptions(
        voltage_kv=voltage_kv,
        pixel_size_angstrom=pixel_size,
        dose_per_tilt=dose_per_tilt,
        tilt_axis_deg=tilt_axis_deg,
        spherical_aberration_mm=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        pattern=pattern,
        scanning=scanning,
        scheme=None if scheme is None else SchemeWords.parse(scheme),
    )
    if pre_exposure_images and not pre_exposure_dose > 0:
        raise InputError(
            "Images taken before the series were given without their dose. Give it with --pre-dose, in e/A2."
        )
    before = expand_paths(pre_exposure_images, (*MOVIE_ENDINGS, *CONVERTED_ENDINGS), "pre-exposure image")
    gain_path, dark_path, defects_path = (None if p is None else Path(p).resolve() for p in (gain, dark, defects))
    references = (gain_path, dark_path, defects_path)
    movies = [p for p in expand_paths(frames, MOVIE_ENDINGS, "movie") if p not in before and p not in references]
    mdoc_paths = expand_paths(mdocs, (".mdoc",), "mdoc file")
    stack_paths = expand_paths(stacks, STACK_ENDINGS, "stack")
    tables = read_frame_tables(expand_paths(frame_tables, _TABLE_ENDINGS, "frame table"))
    if before and not pre_exposure_dose > 0:
        raise InputError(
            "Images taken before the series were given without their dose. Give it with --pre-dose, in e/A2."
        )
    names = _series_names_ahead(movies, mdoc_paths, stack_paths, options)
    exposures = _pre_exposures(before, names, pre_exposure_dose)
    owners = {name for name, _, _ in exposures}
    collector = _Collector(
        options=options,
        gain=gain_path,
        gain_shape=None if gain_path is None else read_gain(gain_path).shape,
        exclude=exclude,
        dose_before=lambda name: pre_exposure_dose if name in owners or not before else 0.0,
    )
    collector.findings += _exposure_findings(before, exposures, pre_exposure_dose)
    if movies and mdoc_paths:
        _add_by_mdocs(collector, movies, mdoc_paths, tables)
    elif movies and tables:
        _add_by_tables(collector, movies, tables)
    elif movies:
        _add_by_names(collector, movies)
    angle_paths = expand_paths(angle_files, (".tlt", ".rawtlt", ".txt"), "angle file")
    for path in stack_paths:
        listed = has_ending(path, LIST_ENDINGS)
        make = (
            partial(draft_from_projection_list, path)
            if listed
            else partial(draft_from_stack, path, mdoc_paths, angle_paths, tilt_steps)
        )
        collector.add(series_name(path), make)
    _add_tomograms(collector, expand_paths(tomograms, TOMOGRAM_ENDINGS, "tomogram"))
    warps = _add_alignments(collector, alignments, alignment_pixel_size)
    found_ctfs, told = find_given_ctfs(collector.series, ctfs, focus_tables, focus_offset_angstrom)
    collector.findings += told
    _check_between_series(collector)
    _conclude(collector)
    for kind, file in (("dark reference", dark_path), ("list of defects", defects_path)):
        if file is not None and not file.is_file():
            raise InputError(f"The {kind} `{file}` does not exist, or is not a file. Check the name and the folder.")
    if dark_path is not None:
        read_gain(dark_path)
    if defects_path is not None and collector.series:
        read_defects(defects_path, collector.series[0].image_shape)
    return ImportPlan(
        series=tuple(collector.series),
        gain=gain_path,
        dark=dark_path,
        defects=defects_path,
        findings=tuple(collector.findings),
        left_out=tuple(dict.fromkeys(collector.left_out)),
        warps=warps,
        ctfs=found_ctfs,
        pre_exposure_images=tuple(exposures),
    )


def _add_alignments(
    collector: _Collector, places: Sequence[str | Path], pixel_size: float | None
) -> dict[str, ImageWarp]:
    """Give every series its alignment among those that were named; a series without one is told of."""
    paths = [p for p in (Path(place) for place in places) if p.is_dir()]
    paths += expand_paths([p for p in places if not Path(p).is_dir()], ALIGNMENT_ENDINGS, "alignment") if places else []
    warps: dict[str, ImageWarp] = {}
    if not paths:
        return warps
    for i, series in enumerate(collector.series):
        try:
            found = attach_given(series, paths, series_count=len(collector.series), pixel_size_angstrom=pixel_size)
        except InputError as error:
            collector.findings.append(
                Finding(severity="warning", series=series.name, text=f"Its alignment was not taken: {error}")
            )
            continue
        if found is None:
            words = "None of the alignments given is of this series; it will be aligned from its images."
            collector.findings.append(Finding(severity="warning", series=series.name, text=words))
            continue
        collector.series[i] = found.series
        collector.findings += [Finding(severity="note", series=series.name, text=text) for text in found.caveats]
        if found.warp is not None:
            warps[series.name] = found.warp
    return warps


def _convert(series: TiltSeries, folder: Path) -> TiltSeries:
    """Copy images that are not MRC into one MRC stack, values as recorded; the series that names them there."""
    named = [t.image.partition("@") for t in _all_tilts(series) if t.image is not None]
    sources = list(dict.fromkeys(place for _, _, place in named if has_ending(place, CONVERTED_ENDINGS)))
    if not sources:
        return series
    stacks = [load_stack(Path(source)) for source in sources]
    first = dict(zip(sources, np.cumsum([0, *(len(s) for s in stacks[:-1])]).tolist(), strict=True))
    target = folder / "stacks" / f"{series.name}.mrc"
    origin = Path(sources[0]).name + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")
    write_mrc(
        target,
        np.concatenate(stacks) if len(stacks) > 1 else stacks[0],
        series.pixel_size_angstrom,
        labels=[f"Tilt images of {origin}, as recorded"],
        is_volume=False,
    )

    def moved(tilt: Tilt) -> Tilt:
        number, _, place = (tilt.image or "").partition("@")
        return replace(tilt, image=f"{first[place] + int(number)}@{target}") if place in first else tilt

    return _map_tilts(series, moved)


def _map_tilts(series: TiltSeries, change: Callable[[Tilt], Tilt]) -> TiltSeries:
    """The series with every tilt changed, those left out too."""
    return series.replace(
        tilts=tuple(change(t) for t in series.tilts),
        excluded=tuple(replace(e, tilt=change(e.tilt)) for e in series.excluded),
    )


def _all_tilts(series: TiltSeries) -> list[Tilt]:
    return [*series.tilts, *(e.tilt for e in series.excluded)]


def _relative(series: TiltSeries, root: Path) -> TiltSeries:
    def path(text: str | None) -> str | None:
        if text is None:
            return None
        number, at, place = text.rpartition("@")
        return f"{number}{at}{relative_path(place, root)}"

    tomogram = series.tomogram
    if tomogram is not None:
        whole = path(tomogram.path) or ""
        tomogram = replace(tomogram, path=whole, half1=path(tomogram.half1), half2=path(tomogram.half2))
    named = ("movie", "image", "image_even", "image_odd")
    moved = _map_tilts(series, lambda tilt: replace(tilt, **{name: path(getattr(tilt, name)) for name in named}))
    return moved.replace(tomogram=tomogram)


def write_import(project_root: PathLike, plan: ImportPlan) -> Path:
    """Write `import/tilt_series.star` and its tables, `import/findings.json`, and stacks that had to be converted.

    Parameters
    ----------
    project_root : the project's folder, made where missing; paths in tables are relative to it
    plan : from `plan_import`

    Returns
    -------
    Path : `import/tilt_series.star`

    Raises
    ------
    InputError : the place may not be written to
    BackendError : the disk is full
    """
    root = Path(project_root)
    folder = root / "import"
    series = [_relative(_convert(one, folder), root) for one in plan.series]
    for i, one in enumerate(series):
        if one.name in plan.warps:
            path = folder / "warps" / f"{one.name}.npz"
            write_image_warp(path, plan.warps[one.name], [t.acquisition for t in one.tilts])
            series[i] = one.replace(warp=relative_path(path, root))
    write_given_ctfs(root, plan.ctfs)
    report = {
        **plan.references(root),
        "left_out": list(plan.left_out),
        "pre_exposure_images": [
            {"series": name, "image": relative_path(path, root), "dose": dose}
            for name, path, dose in plan.pre_exposure_images
        ],
        "findings": [{"severity": f.severity, "series": f.series, "text": f.text} for f in plan.findings],
    }
    write_text_atomic(folder / "findings.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    table = folder / "tilt_series.star"
    write_tilt_series_set(table, series, root)
    return table
