"""What there is to be examined: the tilt series of a project, or of files, with their metadata and results."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from eucentric.errors import EucentricError, InputError
from eucentric.io.findings import Finding
from eucentric.io.mdoc import Mdoc, read_mdoc
from eucentric.io.movies import EER_ENDINGS, TIFF_ENDINGS, has_ending
from eucentric.io.tilt_series import read_tilt_series, read_tilt_series_set, tilt_series_names
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline import records
from eucentric.pipeline.doctor.commands import NEW_PROJECT, ImportCommand, pattern_of
from eucentric.pipeline.import_files import expand_paths, series_name
from eucentric.pipeline.import_mdocs import MdocSeries, read_mdoc_sets
from eucentric.pipeline.import_stacks import STACK_ENDINGS
from eucentric.pipeline.importing import plan_import
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import Record
from eucentric.pipeline.settings import ProjectSettings
from eucentric.pipeline.steps import IMPORT_TABLE

STAGES = ("motion", "align", "axis", "ctf", "reconstruct")
"""Whose results are looked at, in order."""
_KNOWN_ENDINGS = (*STACK_ENDINGS, *TIFF_ENDINGS, *EER_ENDINGS, ".mdoc", ".star", ".gz", ".bz2")
_SAME_AXIS_DEG = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesCase:
    """One tilt series, and all that is known of it."""

    name: str
    series: TiltSeries | None
    """As imported; None where only an mdoc was given."""
    root: Path
    """What paths in the series are relative to."""
    project: Path | None = None
    shown: str = NEW_PROJECT
    """The project as commands name it."""
    settings: ProjectSettings = field(default_factory=ProjectSettings)
    mdoc: Mdoc | None = None
    mdoc_path: Path | None = None
    stages: dict[str, TiltSeries] = field(default_factory=dict)
    """By stage: the series as the stage left it."""
    records: dict[str, Record] = field(default_factory=dict)
    """By stage, of those that are done."""
    importing: ImportCommand = field(default_factory=lambda: ImportCommand(project=NEW_PROJECT))
    """Imports the series anew."""
    from_table: bool = False
    """Whether it comes from a table that was given, not from raw files."""

    @property
    def latest(self) -> TiltSeries | None:
        """As the last stage left it."""
        for stage in reversed(STAGES):
            if stage in self.stages:
                return self.stages[stage]
        return self.series

    @property
    def aligned(self) -> TiltSeries | None:
        """With poses, where some stage or table gives them."""
        for stage in ("reconstruct", "ctf", "axis", "align"):
            found = self.stages.get(stage)
            if found is not None and found.tilts and all(t.pose for t in found.tilts):
                return found
        if self.from_table and self.series is not None and all(t.pose for t in self.series.tilts):
            return self.series
        return None

    @property
    def summed(self) -> TiltSeries | None:
        """With an image on disk for every tilt; None where movies have not been summed."""
        for stage in ("ctf", "axis", "align", "motion"):
            found = self.stages.get(stage)
            if found is not None and found.tilts and all(t.image for t in found.tilts):
                return found
        if self.series is not None and self.series.tilts and all(t.image for t in self.series.tilts):
            return self.series
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cases:
    """All that is to be examined."""

    cases: tuple[SeriesCase, ...]
    project: Path | None = None
    shown: str = NEW_PROJECT
    plan: Plan | None = None
    noticed: tuple[Finding, ...] = ()
    """By the import, of files that were given."""
    gain: Path | None = None


def gather(places: Sequence[Path], gain: Path | None = None) -> Cases:
    """A project with perhaps its mdocs, or files.

    Raises
    ------
    InputError : nothing that could be examined
    """
    if not places:
        return Cases(cases=())
    projects = [p for p in places if (p / IMPORT_TABLE).is_file()]
    rest = [p for p in places if p not in projects]
    if len(projects) > 1:
        raise InputError(f"{len(projects)} projects were given; expected one. Examine them one after the other.")
    if projects:
        return _project(projects[0], rest, gain)
    if len(places) == 1 and places[0].is_dir() and not any(p.is_file() for p in places[0].iterdir()):
        raise InputError(
            f"`{places[0]}` is neither a project (it has no `{IMPORT_TABLE}`) nor a folder with files. "
            "Give a project, or mdoc, movie, stack or STAR files."
        )
    return _files(places, gain)


def all_tilts(series: TiltSeries) -> list[Tilt]:
    """Those that are used and those left out."""
    return [*series.tilts, *(e.tilt for e in series.excluded)]


def _project(root: Path, files: Sequence[Path], gain: Path | None) -> Cases:
    place = root.resolve()
    plan = Plan.load(place)
    if gain is not None:
        plan = replace(plan, project=plan.project.replace(gain=str(gain.resolve())))
    names = tilt_series_names(place / IMPORT_TABLE)
    away = records.excluded_series(plan.exclusions)
    given = _mdocs_by_name([p for p in files if has_ending(p, (".mdoc",))])
    imported = {n: read_tilt_series(place / IMPORT_TABLE, n, place) for n in names if n not in away}
    mdocs = {n: given.get(n) or _mdoc_of(one, place) for n, one in imported.items()}
    base = _import_command(str(root), list(imported.values()), place, mdocs, plan.project.gain)
    cases = []
    for name, series in imported.items():
        stages: dict[str, TiltSeries] = {}
        kept: dict[str, Record] = {}
        for stage in STAGES:
            record = records.read_record(place / stage, name)
            if record is None or not record.is_done:
                continue
            with contextlib.suppress(EucentricError, OSError):
                stages[stage] = read_tilt_series(records.row_path(place / stage, name), name, place)
                kept[stage] = record
        found = mdocs[name]
        cases.append(
            SeriesCase(
                name=name,
                series=series,
                root=place,
                project=place,
                shown=str(root),
                settings=plan.project,
                mdoc=None if found is None else found[1],
                mdoc_path=None if found is None else found[0],
                stages=stages,
                records=kept,
                importing=base if _one_axis(imported.values()) else _alone(root, series, place, found, plan),
            )
        )
    return Cases(cases=tuple(cases), project=place, shown=str(root), plan=plan)


def _one_axis(every: Iterable[TiltSeries]) -> bool:
    """Whether one `--tilt-axis` suits all series."""
    axes = [t.nominal_axis_deg for s in every for t in s.tilts if t.nominal_axis_deg is not None]
    return not axes or max(axes) - min(axes) <= _SAME_AXIS_DEG


def _alone(root: Path, series: TiltSeries, place: Path, mdoc: tuple[Path, Mdoc] | None, plan: Plan) -> ImportCommand:
    """Imports one series into a project of its own: its axis is not that of the others."""
    return _import_command(f"{root}_{series.name}", [series], place, {series.name: mdoc}, plan.project.gain, own=True)


def _import_command(
    project: str,
    every: Sequence[TiltSeries],
    root: Path,
    mdocs: dict[str, tuple[Path, Mdoc] | None],
    gain: str | None,
    *,
    own: bool = False,
) -> ImportCommand:
    """What makes a project of these series again."""
    movies = [root / t.movie for s in every for t in all_tilts(s) if t.movie is not None]
    stacks = [root / t.image.rpartition("@")[2] for s in every for t in all_tilts(s) if t.image and not t.movie]
    found = [m[0] for m in mdocs.values() if m is not None]
    made = ImportCommand(
        project=project,
        frames=pattern_of(list(dict.fromkeys(_tidy(p) for p in movies)), own=own),
        mdocs=tuple(str(p) for p in found) if len(found) <= 3 else pattern_of([_tidy(p) for p in found]),
        stacks=tuple(str(p) for p in dict.fromkeys(_tidy(p) for p in stacks)),
        gain=None if gain is None else str(_tidy(root / gain)),
    )
    voltages = {s.optics.voltage_kv for s in every if s.optics is not None}
    if len(voltages) == 1:
        made = made.having(voltage=voltages.pop())
    for option, wanted, said in (
        ("pixel_size", [s.original_pixel_size_angstrom or s.pixel_size_angstrom for s in every], _mdoc_pixels(mdocs)),
        ("dose", [t.dose for s in every for t in s.tilts], _mdoc_doses(mdocs)),
    ):
        alike = wanted and max(wanted) - min(wanted) < 1e-4 * max(max(wanted), 1e-9) and wanted[0] > 0
        if alike and not any(abs(v - wanted[0]) < 1e-3 * wanted[0] for v in said):
            made = made.having(**{option: float(wanted[0])})
    axes = [t.nominal_axis_deg for s in every for t in s.tilts if t.nominal_axis_deg is not None]
    said_axes = [m[1].tilt_axis_angle_deg for m in mdocs.values() if m is not None]
    if axes and _one_axis(every) and not any(a is not None and abs(a - axes[0]) < 0.01 for a in said_axes):
        made = made.having(tilt_axis=axes[0])  # given at import, or by a part of the mdoc that import reads by itself
    return made


def _tidy(path: Path) -> Path:
    """Without `..`, and from the current folder where that is above it."""
    full = Path(path).resolve()
    with contextlib.suppress(ValueError):
        return full.relative_to(Path.cwd())
    return full


def _mdoc_pixels(mdocs: dict[str, tuple[Path, Mdoc] | None]) -> list[float]:
    return [
        s.pixel_spacing_angstrom
        for m in mdocs.values()
        if m is not None
        for s in m[1].sections
        if s.pixel_spacing_angstrom
    ]


def _mdoc_doses(mdocs: dict[str, tuple[Path, Mdoc] | None]) -> list[float]:
    return [s.exposure_dose for m in mdocs.values() if m is not None for s in m[1].sections if s.exposure_dose]


def _mdocs_by_name(paths: Sequence[Path]) -> dict[str, tuple[Path, Mdoc]]:
    """Of files that were given: by series; those that cannot be read are an error."""
    sets = read_mdoc_sets([p.resolve() for p in paths])
    errors = [f for f in sets.findings if f.severity == "error"]
    if errors:
        raise InputError(errors[0].text)
    return {one.name: (one.paths[0], one.mdoc) for one in sets.series}


def _mdoc_of(series: TiltSeries, root: Path) -> tuple[Path, Mdoc] | None:
    """The mdoc beside the movies or stack of a series, or a folder above."""
    names = {Path(t.movie).name for t in all_tilts(series) if t.movie is not None}
    first = next((t.movie or (t.image or "").rpartition("@")[2] for t in series.tilts), None)
    if not first:
        return None
    folder = (root / first).resolve().parent
    for place in (folder, folder.parent):
        with contextlib.suppress(OSError):
            for path in sorted(place.glob(f"{series.name}*.mdoc")):
                with contextlib.suppress(EucentricError):
                    mdoc = read_mdoc(path)
                    own = series_name(path) == series.name and len(mdoc.sections) > 1
                    if own and (not names or any(s.movie_name in names for s in mdoc.sections)):
                        return path, mdoc
    return None


def _files(places: Sequence[Path], gain: Path | None) -> Cases:
    """Cases of files without a project."""
    paths = expand_paths(places, _KNOWN_ENDINGS, "mdoc, movie, stack or STAR file")
    references = [p for p in paths if "gain" in p.stem.lower()] if gain is None else [gain.resolve()]
    if gain is None and len(references) == 1:
        gain = references[0]
    paths = [p for p in paths if p not in references]
    mdocs = [p for p in paths if has_ending(p, (".mdoc",))]
    tables = [p for p in paths if has_ending(p, (".star",))]
    images = [p for p in paths if p not in mdocs and p not in tables]
    cases = [case for table in tables for case in _of_table(table)]
    sets = read_mdoc_sets(mdocs)
    sources = [*sets.series, *sets.continuous]
    named = {s.movie_name.lower() for one in sources for s in one.mdoc.sections if s.movie_name}
    movies = [p for p in images if p.name.lower() in named or has_ending(p, (*TIFF_ENDINGS, *EER_ENDINGS))]
    stacks = [p for p in images if p not in movies]
    noticed = tuple(f for f in sets.findings if f.severity == "error")
    found: tuple[TiltSeries, ...] = ()
    if movies or stacks:
        plan = plan_import(movies, mdocs, stacks=stacks, gain=gain)
        found, noticed = plan.series, plan.findings
    settings = ProjectSettings(gain=None if gain is None else str(gain.resolve()))
    by_name = {one.name: one for one in sources}
    for series in found:
        source = by_name.pop(series.name, None)
        cases.append(_of_files(series, source, mdocs, gain, settings))
    cases += [
        SeriesCase(name=one.name, series=None, root=Path("/"), mdoc=one.mdoc, mdoc_path=one.paths[0])
        for one in by_name.values()
    ]
    if not cases and not noticed:
        raise InputError("No tilt series was found in these files. Give its mdoc too, or a project.")
    return Cases(cases=tuple(cases), noticed=noticed, gain=gain)


def _of_files(
    series: TiltSeries,
    source: MdocSeries | None,
    mdocs: Sequence[Path],
    gain: Path | None,
    settings: ProjectSettings,
) -> SeriesCase:
    known = None if source is None else (source.paths[0], source.mdoc)
    if source is None:
        own = [p for p in mdocs if series_name(p) == series.name]
        known = (own[0], read_mdoc(own[0])) if own else _mdoc_of(series, Path("/"))
    made = _import_command(
        NEW_PROJECT, [series], Path("/"), {series.name: known}, None if gain is None else str(gain.resolve()), own=True
    )
    return SeriesCase(
        name=series.name,
        series=series,
        root=Path("/"),
        settings=settings,
        mdoc=None if known is None else known[1],
        mdoc_path=None if known is None else known[0],
        importing=made,
    )


def _of_table(path: Path) -> list[SeriesCase]:
    """Series of a table: of a project where it lies in one, else with paths from where it lies."""
    root = next((p for p in path.parents if (p / IMPORT_TABLE).is_file()), None)
    tried = [root] if root is not None else [path.parent, path.parent.parent, Path.cwd()]
    error: EucentricError | None = None
    for place in tried:
        try:
            every = read_tilt_series_set(path, place)
        except EucentricError as problem:
            error = error or problem
            continue
        return [SeriesCase(name=s.name, series=s, root=place, from_table=True) for s in every]
    raise error or InputError(f"`{path}` holds no tilt series.")
