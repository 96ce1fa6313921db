"""What a project has to give: its tilt series as the furthest stage left them, tomograms, lists of particles, maps, labels."""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from eucentric.errors import EucentricError, InputError
from eucentric.geometry.volume_warp import Deformation
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.io.warps import read_deformation
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.plan import PLAN_FILE, read_exclusions
from eucentric.pipeline.records import excluded_series, read_record

_STAGES = ("reconstruct", "ctf", "align", "motion", "import")
_LISTS = ("average/*/particles.star", "classify/*/particles.star", "pick/*/particles.star", "pick/particles.star")
_MAPS = ("average/*/map.mrc", "initial-model/*/map.mrc")
_SAME_FRAME_DEG = 0.5
"""Specimens that are turned by more against each other were levelled: places in one are not those in the other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ListedParticles:
    """A list of particles of the project."""

    name: str
    """Such as `pick_20S`: the folders it lies in."""
    path: Path
    particles: ParticleSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportSource:
    """A project, read for export. Paths in the series are absolute."""

    root: Path
    geometries: tuple[SeriesGeometry, ...]
    lists: tuple[ListedParticles, ...] = ()
    maps: tuple[tuple[str, Path], ...] = ()
    """Name and file of averages."""
    labels: tuple[tuple[str, Path], ...] = ()
    """Series and file of segmentations."""
    meshes: tuple[tuple[str, Path], ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What was left out, and why."""

    @property
    def tomogram_frames(self) -> TomogramFrames:
        """Grids of the tomograms; of the whole specimen in pixels of the images where a series has none yet."""
        frames = {}
        for one in (g.series for g in self.geometries):
            if one.tomogram is not None:
                z, y, x = one.tomogram.shape_zyx
                frames[one.name] = TomogramFrame(
                    voxel_size_angstrom=one.tomogram.voxel_size_angstrom, size_xyz=(x, y, z)
                )
            elif one.volume_size_px is not None:
                frames[one.name] = TomogramFrame(
                    voxel_size_angstrom=one.pixel_size_angstrom, size_xyz=one.volume_size_px
                )
        return TomogramFrames(by_name=frames)

    def outputs_of(self, stage: str, series: str) -> frozenset[Path]:
        """Files that a stage says to have made of a series."""
        record = read_record(self.root / stage, series)
        return frozenset() if record is None else frozenset((self.root / path).resolve() for path in record.outputs)

    def need_alignment(self, program: str) -> None:
        """Refuse a project that has not come so far.

        Raises
        ------
        InputError : series without poses
        """
        bare = [g.series.name for g in self.geometries if any(t.pose is None for t in g.series.tilts)]
        if bare:
            raise InputError(
                f"{', '.join(bare[:5])} {'have' if len(bare) > 1 else 'has'} not been aligned, and {program} would have nothing to "
                f"go on with. Run `eucentric run {self.root} --until align` first, or leave them out with --only."
            )

    def need_tomograms(self, program: str) -> None:
        """Refuse a project without any tomogram.

        Raises
        ------
        InputError : no series has one
        """
        if all(g.series.tomogram is None for g in self.geometries):
            raise InputError(
                f"`{self.root}` has no tomogram yet, which is what {program} needs. "
                f"Run `eucentric run {self.root} --until reconstruct`."
            )


def read_source(project: Path, only: list[str] | None = None, table: Path | None = None) -> ExportSource:
    """Everything of a project that can be exported.

    Parameters
    ----------
    only : names of series, wildcards allowed
    table : series to take instead of those of the furthest stage, such as `refine/NAME/tilt_series.star`, from where we are or
        from the project; lists of particles and maps are then those in folders beside it, if there are any

    Raises
    ------
    InputError : no project, no such table, or no series of such a name
    """
    root = project.resolve()
    if not (root / PLAN_FILE).is_file():
        raise InputError(f"`{project}` is no project: it has no {PLAN_FILE}. Make one with `eucentric import`.")
    furthest: dict[str, TiltSeries] = {}
    for stage in _STAGES:
        own = root / stage / "tilt_series.star"
        if own.is_file():
            for one in read_tilt_series_set(own, root):
                furthest.setdefault(one.name, one)
    chosen = None if table is None else _found_table(root, table)
    notes: list[str] = []
    if chosen is not None:
        refined = {one.name: one for one in read_tilt_series_set(chosen, root)}
        furthest = {name: _with_volume(one, furthest.get(name), notes) for name, one in refined.items()}
    gone = excluded_series(read_exclusions(root))
    names = [n for n in sorted(furthest) if n not in gone and _wanted(n, only)]
    if not names:
        raise InputError(
            f"`{project}` has no tilt series{' of such a name' if only else ''}. It has {', '.join(sorted(furthest)) or 'none'}."
        )
    notes += [f"{name} was left out by hand: {why}" for name, why in gone.items() if name in furthest]
    beside = None if chosen is None or chosen.parent == root else chosen.parent.relative_to(root).as_posix()
    return ExportSource(
        root=root,
        geometries=tuple(_geometry(furthest[name], root) for name in names),
        lists=tuple(_lists(root, _patterns(root, beside, "particles.star", _LISTS), names, notes)),
        maps=tuple(
            (_name(p.parent, root), p)
            for pattern in _patterns(root, beside, "map.mrc", _MAPS)
            for p in sorted(root.glob(pattern))
        ),
        labels=_by_series(root, "segment/labels/*.mrc", names),
        meshes=_by_series(root, "segment/meshes/*.*", names),
        notes=tuple(notes),
    )


def _found_table(root: Path, table: Path) -> Path:
    places = (table.resolve(), (root / table).resolve())
    found = next((p for p in places if p.is_file() and p.is_relative_to(root)), None)
    if found is None:
        raise InputError(
            f"`{table}` is no table of tilt series in the project `{root}`. Give one such as `refine/NAME/tilt_series.star`."
        )
    return found


def _with_volume(series: TiltSeries, known: TiltSeries | None, notes: list[str]) -> TiltSeries:
    """The series with the tomogram and size that a later stage gave it, where its table has none and the specimen lies the same."""
    if series.tomogram is not None or known is None or known.volume_size_px is None:
        return series
    if not _same_frame(series, known):
        notes.append(f"{series.name} goes without the project's tomogram, whose specimen lies otherwise.")
        return series
    if known.tomogram is not None:
        notes.append(f"{series.name}: the tomogram was made with the earlier geometry.")
    return series.replace(tomogram=known.tomogram, volume_size_px=series.volume_size_px or known.volume_size_px)


def _same_frame(one: TiltSeries, other: TiltSeries) -> bool:
    poses = {t.acquisition: t.pose for t in other.tilts if t.pose is not None}
    pairs = [(t.pose, poses[t.acquisition]) for t in one.tilts if t.pose is not None and t.acquisition in poses]
    if not pairs:
        return False
    turned = np.array([(a.y_tilt_deg - b.y_tilt_deg, a.x_tilt_deg - b.x_tilt_deg) for a, b in pairs])
    return bool((np.abs(np.median(turned, axis=0)) < _SAME_FRAME_DEG).all())


def _patterns(root: Path, beside: str | None, file: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    """Where lists or maps are: in folders beside the table that was chosen, if there are any."""
    own = f"{beside}/*/{file}"
    return (own,) if beside is not None and any(root.glob(own)) else usual


def _wanted(name: str, only: list[str] | None) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def _geometry(series: TiltSeries, root: Path) -> SeriesGeometry:
    deformed = Deformation() if series.warp is None else read_deformation(root / series.warp, series)
    tomogram = series.tomogram
    if tomogram is not None:
        tomogram = replace(
            tomogram,
            path=_absolute(tomogram.path, root) or "",
            half1=_absolute(tomogram.half1, root),
            half2=_absolute(tomogram.half2, root),
        )
    return SeriesGeometry(
        series=series.replace(
            tilts=tuple(_moved(t, root) for t in series.tilts),
            excluded=tuple(replace(e, tilt=_moved(e.tilt, root)) for e in series.excluded),
            tomogram=tomogram,
            warp=None,
        ),
        warp=deformed.image,
        volume=deformed.volume,
    )


def _moved(tilt: Tilt, root: Path) -> Tilt:
    return replace(
        tilt,
        movie=_absolute(tilt.movie, root),
        image=_absolute(tilt.image, root),
        image_even=_absolute(tilt.image_even, root),
        image_odd=_absolute(tilt.image_odd, root),
    )


def _absolute(name: str | None, root: Path) -> str | None:
    if name is None:
        return None
    section, at, path = name.rpartition("@")
    return f"{section}{at}{(root / path).resolve()}"


def _name(folder: Path, root: Path) -> str:
    return "_".join(folder.relative_to(root).parts)


def _lists(root: Path, patterns: tuple[str, ...], names: list[str], notes: list[str]) -> list[ListedParticles]:
    found = []
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            try:
                particles = read_particles(path)
            except EucentricError as error:
                notes.append(f"`{path.relative_to(root)}` was left out: {error}")
                continue
            kept = particles.select([str(n) in names for n in particles.tomograms])
            if len(kept):
                found.append(ListedParticles(name=_name(path.parent, root), path=path, particles=kept))
    return found


def _by_series(root: Path, pattern: str, names: list[str]) -> tuple[tuple[str, Path], ...]:
    """Files of series by the longest name that theirs begins with."""
    found = []
    for path in sorted(root.glob(pattern)):
        own = [n for n in names if path.name.startswith((f"{n}.", f"{n}_"))]
        if own and path.is_file():
            found.append((max(own, key=len), path))
    return tuple(found)
