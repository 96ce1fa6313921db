"""`eucentric import --from`: the tilt series, alignments, CTFs and particles of another program's project as a project of ours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.exchange.formats import read_geometry
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.findings import Finding
from eucentric.io.given_ctf import GivenCtf
from eucentric.io.movies import movie_header
from eucentric.io.mrc import read_mrc_header
from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.import_lists import find_lists
from eucentric.pipeline.importing import ImportPlan

_PIXEL_AGREES = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignProject:
    """What another program's folder gives."""

    title: str
    plan: ImportPlan
    particles: tuple[tuple[str, ParticleSet], ...]
    """Name for a folder below `pick`, and the list."""


def plan_foreign(
    place: Path, format_name: str, given: Given, *, exclude: Sequence[str] = (), lists: Sequence[Path] = ()
) -> ForeignProject:
    """Read a folder or file of another program.

    Parameters
    ----------
    given : what the user tells beyond the files
    exclude : names of series to leave out
    lists : particle lists; those in the folder where none is named

    Raises
    ------
    InputError : no such place, or no series whose images or movies are there
    FormatError : damaged files
    """
    form, geometries = read_geometry(place, given, format_name)
    findings: list[Finding] = []
    kept: list[SeriesGeometry] = []
    left_out: list[str] = []
    for geometry in geometries:
        name = geometry.series.name
        if any(fnmatchcase(name, pattern) for pattern in exclude):
            findings.append(Finding(severity="note", series=name, text="Left out as asked (--exclude)."))
            continue
        findings += [Finding(severity="note", series=name, text=note) for note in geometry.notes]
        try:
            kept.append(_with_images(geometry, place))
        except InputError as error:
            left_out.append(name)
            findings.append(Finding(severity="error", series=name, text=str(error)))
    if not kept:
        why = next((f.text for f in findings if f.severity == "error"), "All were left out as asked.")
        raise InputError(f"No tilt series of `{place}` can be imported. {why}")
    plan = ImportPlan(
        series=tuple(_bare(g.series) for g in kept),
        findings=tuple(findings),
        left_out=tuple(left_out),
        warps={g.series.name: g.warp for g in kept if g.warp is not None},
        ctfs={g.series.name: ctf for g in kept if (ctf := _given_ctf(g.series, form.program)) is not None},
    )
    own = find_lists(place, [g.series for g in kept], lists)
    return ForeignProject(
        title=form.program, plan=replace(plan, findings=(*findings, *own.findings)), particles=own.lists
    )


def _with_images(geometry: SeriesGeometry, place: Path) -> SeriesGeometry:
    """The series, its images or movies looked at.

    Raises
    ------
    InputError : neither is there, or they are of another size than the tables say
    """
    series = geometry.series
    base = place if place.is_dir() else place.parent
    every = [*series.tilts, *(e.tilt for e in series.excluded)]
    found = [_found(t, base) for t in every]
    used = found[: len(series.tilts)]
    lost = next((t for t, f in zip(series.tilts, used, strict=True) if f is None), None)
    if lost is not None:
        named = lost.image or lost.movie or "none is named"
        raise InputError(
            f"The image of its tilt at {lost.nominal_tilt_deg:g} degrees was not found ({named}). Put images beside the tables, "
            "or import movies or stacks with --frames or --stack, and this folder with --alignment and --ctf."
        )
    shape, pixel = _shape(used[0])
    if shape != series.image_shape:
        raise InputError(
            f"Its images have {shape[1]} x {shape[0]} pixels; its tables speak of {series.image_shape[1]} x {series.image_shape[0]}. "
            "Give --image-size where the tables were not sure, or the images that belong to them."
        )
    if (
        pixel is not None
        and abs(pixel / series.pixel_size_angstrom - 1.0) > _PIXEL_AGREES
        and shape == series.image_shape
    ):
        said = "its tables, or --pixel-size, say"
        raise InputError(
            f"The headers of its images have pixels of {pixel:g} A; {said} {series.pixel_size_angstrom:g} A. "
            "Leave --pixel-size out, or give the right one, and mend the headers where they are wrong."
        )
    kept = tuple(f for f in used if f is not None)
    gone = found[len(series.tilts) :]
    excluded = tuple(replace(e, tilt=f) for e, f in zip(series.excluded, gone, strict=True) if f is not None)
    return replace(geometry, series=series.replace(tilts=kept, excluded=excluded, image_shape=shape))


def _found(tilt: Tilt, base: Path) -> Tilt | None:
    """The tilt with absolute paths of what is there: its image, else its movie."""
    image = _path(tilt.image, base)
    if image is not None:
        return replace(
            tilt,
            image=image,
            movie=None,
            image_even=_path(tilt.image_even, base),
            image_odd=_path(tilt.image_odd, base),
        )
    movie = _path(tilt.movie, base)
    if movie is None:
        return None
    return replace(
        tilt,
        image=None,
        image_even=None,
        image_odd=None,
        movie=movie,
        frame_count=movie_header(Path(movie)).frame_count,
    )


def _path(name: str | None, base: Path) -> str | None:
    if not name:
        return None
    section, at, path = name.rpartition("@")
    for root in (base, *base.resolve().parents[:3]):
        file = root / path
        if file.is_file():
            return f"{section}{at}{file.resolve()}"
    return None


def _shape(tilt: Tilt | None) -> tuple[tuple[int, int], float | None]:
    assert tilt is not None
    if tilt.image is not None:
        header = read_mrc_header(Path(tilt.image.rpartition("@")[2]))
        return header.shape[1:], header.pixel_size_angstrom
    about = movie_header(Path(tilt.movie or ""))
    return about.shape, None


def _bare(series: TiltSeries) -> TiltSeries:
    """Without CTFs, which go to a table of their own, and without another program's tomogram."""
    return series.replace(
        tilts=tuple(replace(t, ctf=None) for t in series.tilts),
        excluded=tuple(replace(e, tilt=replace(e.tilt, ctf=None)) for e in series.excluded),
        tomogram=None,
        warp=None,
    )


def _given_ctf(series: TiltSeries, title: str) -> GivenCtf | None:
    fits = {t.acquisition: t.ctf for t in series.tilts if t.ctf is not None}
    return GivenCtf(source=title, place="specimen", fits=fits) if fits else None


def write_foreign_particles(root: Path, foreign: ForeignProject) -> list[Path]:
    """`pick/<name>/particles.star` of every list; the files."""
    made = []
    for name, particles in foreign.particles:
        made += write_particles(root / "pick" / name / "particles.star", particles, "relion5")
    return made
