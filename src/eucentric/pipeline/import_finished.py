"""`eucentric import --from` of programs that keep finished tomograms and particles, and no tilt images."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.artiax import read_artiax_list
from eucentric.io.copick_project import read_copick_project
from eucentric.io.exchange.dynamo import listed_tomograms
from eucentric.io.exchange.records import Given
from eucentric.io.findings import Finding
from eucentric.io.particle_columns import read_tomogram_numbers
from eucentric.io.particles import particle_format, read_particles, with_numbers
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.convert_volume import convert_volume
from eucentric.pipeline.import_drafts import ImportOptions
from eucentric.pipeline.import_files import series_name
from eucentric.pipeline.import_foreign import ForeignProject
from eucentric.pipeline.import_stacks import TOMOGRAM_ENDINGS, series_from_tomogram
from eucentric.pipeline.importing import ImportPlan

_Found = tuple[list[tuple[str, Path]], Callable[[TomogramFrames], list[tuple[str, ParticleSet]]]]
"""Name and file of every tomogram; and the particle lists, once the grids are known."""
_ARTIAX = "_artiax.star"


def _copick(place: Path) -> _Found:
    project = read_copick_project(place)
    finest = [(r.name, min(r.tomograms, key=lambda t: t.voxel_size_angstrom).path) for r in project.runs if r.tomograms]

    def lists(frames: TomogramFrames) -> list[tuple[str, ParticleSet]]:
        known = {name for name, _ in finest}
        by_session: dict[str, list[ParticleSet]] = {}
        for run in project.runs:
            for picks in run.picks if run.name in known else ():
                by_session.setdefault(picks.session, []).append(read_particles(picks.path, frames, "copick"))
        return [(name, ParticleSet.concatenate(parts)) for name, parts in by_session.items()]

    return finest, lists


def _zarr(place: Path) -> _Found:
    folders = [place] if place.suffix.lower() == ".zarr" else sorted(place.glob("*.zarr"))
    return [(series_name(f.name.removesuffix(".zarr").removesuffix(".ome")), f) for f in folders], lambda _: []


def _chimerax(place: Path) -> _Found:
    folder = place / "tomograms" if (place / "tomograms").is_dir() else place
    volumes = sorted(f for f in folder.iterdir() if f.suffix.lower() in TOMOGRAM_ENDINGS)

    def lists(_: TomogramFrames) -> list[tuple[str, ParticleSet]]:
        parts = []
        for path in sorted(place.glob(f"*{_ARTIAX}")):
            one = read_artiax_list(path)
            kinds = [str(c) if c else "" for c in one.classes.tolist()]
            parts.append(ParticleSet.build(one.tomogram, one.positions_angstrom, rotations=one.rotations, kinds=kinds))
        return [("artiax", ParticleSet.concatenate(parts))] if parts else []

    return [(series_name(f), f) for f in volumes], lists


def _dynamo(place: Path) -> _Found:
    files = [place] if place.is_file() else sorted(place.glob("*.vll"))
    if not files:
        raise InputError(f"`{place}` holds no volume list of Dynamo (.vll). Give the list itself.")
    volumes = [one for file in files for one in listed_tomograms(file)]
    numbers = {i: name for i, (name, _) in enumerate(volumes, 1)}
    return volumes, lambda frames: _tables(files[0].parent, "dynamo", frames, numbers)


def _stopgap(place: Path) -> _Found:
    names: dict[int, str] = {}
    for file in sorted(place.glob("**/*_tomograms.doc")):
        with suppress(FormatError):
            names |= read_tomogram_numbers(file)
    files = sorted(f for f in (place / "tomograms").glob("*") if f.suffix.lower() in TOMOGRAM_ENDINGS)
    volumes = [(names.get(int(f.stem), f.stem) if f.stem.isdecimal() else f.stem, f) for f in files]
    return volumes, lambda frames: _tables(place, "stopgap", frames, names)


def _tables(folder: Path, form: str, frames: TomogramFrames, numbers: dict[int, str]) -> list[tuple[str, ParticleSet]]:
    """Every list of a format in a folder and below it."""
    grids = TomogramFrames(by_name=frames.by_name, numbers=numbers)
    found = []
    for path in sorted(folder.glob("**/*.tbl" if form == "dynamo" else "**/*.star")):
        try:
            if particle_format(path) != form:
                continue
        except EucentricError:
            continue  # another table
        document = path.parent / "tomograms.doc"
        own = with_numbers(grids, document) if not numbers and document.is_file() else grids
        found.append((path.stem, read_particles(path, own, form)))
    return found


_READERS: dict[str, Callable[[Path], _Found]] = {
    "copick": _copick,
    "zarr": _zarr,
    "chimerax": _chimerax,
    "dynamo": _dynamo,
    "stopgap": _stopgap,
}
FINISHED = frozenset(_READERS)
"""Programs whose folders give tomograms and particles."""


def plan_finished(
    root: Path, place: Path, program: str, given: Given, *, exclude: Sequence[str] = ()
) -> ForeignProject:
    """Read the tomograms and particles of a folder; volumes that are no MRC are copied into `import/tomograms` of the project.

    Raises
    ------
    InputError : no such place, or no tomogram in it
    FormatError : damaged files
    """
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Check the name and the folder.")
    volumes, lists = _READERS[program](place)
    optics = given.optics
    options = ImportOptions(
        pixel_size_angstrom=given.pixel_size_angstrom,
        voltage_kv=None if optics is None else optics.voltage_kv,
        spherical_aberration_mm=None if optics is None else optics.spherical_aberration_mm,
        amplitude_contrast=None if optics is None else optics.amplitude_contrast,
    )
    series: list[TiltSeries] = []
    findings: list[Finding] = []
    left_out: list[str] = []
    for name, path in volumes:
        if any(fnmatchcase(name, pattern) for pattern in exclude):
            findings.append(Finding(severity="note", series=name, text="Left out as asked (--exclude)."))
            continue
        try:
            series.append(series_from_tomogram(_as_mrc(path, name, root), options).replace(name=name))
        except EucentricError as error:
            left_out.append(name)
            findings.append(Finding(severity="error", series=name, text=str(error)))
    if not series:
        why = next((f.text for f in findings if f.severity == "error"), "There is none in it.")
        raise InputError(f"No tomogram of `{place}` can be imported. {why}")
    frames = TomogramFrames(
        by_name={
            s.name: TomogramFrame(voxel_size_angstrom=s.pixel_size_angstrom, size_xyz=s.volume_size_px)
            for s in series
            if s.volume_size_px is not None
        }
    )
    names = {s.name for s in series}
    found = [(n, p.select([str(t) in names for t in p.tomograms])) for n, p in lists(frames)]
    text = f"Of {program} finished tomograms and particles are taken over, without tilt images: nothing can be aligned or averaged."
    findings.append(Finding(severity="note", text=text))
    return ForeignProject(
        title=f"{program} (finished tomograms)",
        plan=ImportPlan(series=tuple(series), findings=tuple(findings), left_out=tuple(left_out)),
        particles=tuple((n, p) for n, p in found if len(p)),
    )


def _as_mrc(path: Path, name: str, root: Path) -> Path:
    if path.suffix.lower() in TOMOGRAM_ENDINGS:
        if not path.is_file():
            raise InputError(f"`{path}` is not there. Put the tomogram where the list says it is.")
        return path.resolve()
    target = root.resolve() / "import" / "tomograms" / f"{name}.mrc"
    convert_volume(path, target)
    return target
