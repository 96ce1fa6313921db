"""Particle lists in another program's folder: which files are lists, of which tomograms, and on what grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eucentric.errors import EucentricError, InputError
from eucentric.io.findings import Finding
from eucentric.io.mrc import read_mrc_header
from eucentric.io.particles import IN_PIXELS_OF_IMAGES, ONE_TOMOGRAM, PARTICLE_FORMATS, particle_format, read_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name

_MOST_FILES = 2000
_ENDINGS = frozenset(PARTICLE_FORMATS.values()) | {".csv"}
_VOLUMES = (".mrc", ".rec", ".map")
_INFO = "_info.json"  # of EMAN2, one a tomogram
_SET, _MODELS, _TABLES, _PROJECT = "optimisation-set", ".mod", ".csv", ".prm"
_OWN_PIXELS = ("rlnPixelSize", "rlnDetectorPixelSize", "rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize")
_HALF_SIZES = frozenset({"relion3", "relion31", "warp", "warp-normalized"})
"""Formats that count from half the size of the specimen, which is the same in voxels of any size."""
_PARTS = ("_half", "_even", "_odd", "_EVN", "_ODD", "_mask", "_labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLists:
    """What was read, and what is to be told."""

    lists: tuple[tuple[str, ParticleSet], ...]
    findings: tuple[Finding, ...]


def find_lists(place: Path, series: Sequence[TiltSeries], named: Sequence[Path] = ()) -> FoundLists:
    """The particle lists that were named, or all in a folder; particles of other series are left out.

    Files of one tomogram each, such as IMOD's models, are one list where they lie in one folder.

    Raises
    ------
    InputError : a file that was named is no list
    """
    names = {s.name for s in series}
    candidates = list(named) or _candidates(place)
    grids = {form: _grids(place, series, form) for form in ("images", "tomograms")}
    parts: dict[tuple[str, str], list[ParticleSet]] = {}
    findings: list[Finding] = []
    for path in candidates:
        try:
            form = particle_format(path)
        except EucentricError as error:
            if named:
                raise InputError(str(error)) from error
            continue  # it is no list of particles
        if form == _SET and not named:
            continue  # it names a list that lies here too
        frames = _frames(form, path, grids)
        try:
            particles = read_particles(path, frames, form)
        except EucentricError as error:
            findings.append(_untold(path, error, frames))
            continue
        kept = particles.select([str(n) in names for n in particles.tomograms])
        if len(kept):
            alone = len(candidates) == 1 or not (form in ONE_TOMOGRAM or path.name.endswith(_INFO))
            one = path.stem if alone else path.parent.name
            parts.setdefault((str(path.parent), one), []).append(kept)
        elif len(particles) or named:
            text = f"`{path}` was not taken over: none of its particles is of these series."
            findings.append(Finding(severity="note", text=text))
    found: dict[str, ParticleSet] = {}
    for (_, name), some in parts.items():
        free = next(n for n in (name, *(f"{name}_{k}" for k in range(2, len(parts) + 2))) if n not in found)
        found[free] = ParticleSet.concatenate(some)
    return FoundLists(lists=tuple(found.items()), findings=tuple(findings))


def _candidates(place: Path) -> list[Path]:
    """Files that may be lists, each list once: a table beside a model, and both beside a project of PEET, are parts of it."""
    if not place.is_dir():
        return []
    files = sorted(p for p in place.glob("**/*") if p.suffix.lower() in _ENDINGS and p.is_file())[:_MOST_FILES]
    projects = {p.parent for p in files if p.suffix.lower() == _PROJECT}
    models = {p.with_suffix("") for p in files if p.suffix.lower() == _MODELS}
    return [
        p
        for p in files
        if not (p.suffix.lower() in (_MODELS, _TABLES) and p.parent in projects)
        and not (p.suffix.lower() == _TABLES and p.with_suffix("") in models)
    ]


def _grids(place: Path, series: Sequence[TiltSeries], of: str) -> TomogramFrames:
    """Grids of the images' pixels, or of the tomograms that the tables name or that lie in the folder."""
    frames = {}
    volumes = _volumes(place, series) if of == "tomograms" and place.is_dir() else {}
    for one in series:
        if of == "images" and one.volume_size_px is not None:
            frames[one.name] = TomogramFrame(voxel_size_angstrom=one.pixel_size_angstrom, size_xyz=one.volume_size_px)
        elif of == "tomograms" and one.tomogram is not None:
            z, y, x = one.tomogram.shape_zyx
            frames[one.name] = TomogramFrame(voxel_size_angstrom=one.tomogram.voxel_size_angstrom, size_xyz=(x, y, z))
        elif of == "tomograms" and one.name in volumes:
            frames[one.name] = volumes[one.name]
    return TomogramFrames(by_name=frames)


def _volumes(place: Path, series: Sequence[TiltSeries]) -> dict[str, TomogramFrame]:
    """Grids of volumes that are called after a series; of none where several of them differ."""
    images = {Path((t.image or "").rpartition("@")[2]) for s in series for t in s.tilts}
    found: dict[str, set[TomogramFrame]] = {}
    for path in sorted(p for p in place.glob("**/*") if p.suffix.lower() in _VOLUMES and p.is_file())[:_MOST_FILES]:
        stem = tomogram_name(path.name)
        owners = [
            s for s in series if s.name == stem or s.name in (stem.removeprefix("rec_"), stem.removesuffix("_rec"))
        ]
        if not owners or path.resolve() in images or any(part in path.stem for part in _PARTS):
            continue
        try:
            header = read_mrc_header(path)
        except EucentricError:
            continue
        z, y, x = header.shape
        if header.voxel_size_angstrom is not None and header.is_volume and z > 1:
            frame = TomogramFrame(voxel_size_angstrom=round(header.voxel_size_angstrom[0], 4), size_xyz=(x, y, z))
            found.setdefault(owners[0].name, set()).add(frame)
    return {name: frames.pop() for name, frames in found.items() if len(frames) == 1}


def _frames(form: str, path: Path, grids: dict[str, TomogramFrames]) -> TomogramFrames:
    """The grids that a list is read with: never those of the images for voxels of a tomogram."""
    if form in IN_PIXELS_OF_IMAGES:
        return grids["images"]
    if form in _HALF_SIZES and _tells_pixel_size(path):
        return TomogramFrames(by_name={**grids["images"].by_name, **grids["tomograms"].by_name})
    return grids["tomograms"]


def _tells_pixel_size(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return any(label.encode() in head for label in _OWN_PIXELS)


def _untold(path: Path, error: EucentricError, frames: TomogramFrames) -> Finding:
    text = f"`{path}` was not taken over: {error}"
    if not frames.by_name:
        text = (
            f"`{path}` was not taken over: its positions are voxels of a tomogram that was not found beside it. Convert it: eucentric "
            "particles convert LIST OUTPUT --tomograms TOMOGRAM.mrc."
        )
    return Finding(severity="warning", text=text)
