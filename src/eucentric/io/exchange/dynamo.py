"""Tilt series for Dynamo: lists of tomograms (`.vll`), tilt angles (`.tlt`), transforms (`.xf`), and alignments it made (`.AWF`).

Dynamo works on tomograms; of their tilt series it keeps little. Written are, for every series, IMOD's transforms, with which
`newstack` aligns the stack (tilt axis along y, specimen centre on pixel ``n // 2``), and the tilt angles of that aligned stack;
and for all of them `tomograms.vll`, which makes a catalogue and holds label, index, ftype, range of tilts, voxel size and
defocus [1]_, and the numbers of tomograms for tables (`tomograms.doc`). Tomograms in the folder of the list or below are named from
there, so that the folder may be moved; Dynamo is started in it.

Read are the same files, and the workflow folders of Dynamo's own alignment: `NAME.AWF/align/stackAlignerImod.star` has a row for each
image with used, thetas (tilt), psis (tilt axis), x and y, which are an IMOD transform ``x' = Rz(-psi) x + (x, y)`` to the reader
that is known [2]_. Dynamo's own documents do not tell more.

References
----------
.. [1] Dynamo's wiki, Volume list file
.. [2] Scipion's plugin for Dynamo, `protocol_ts_align.py` (_fillTsAndUpdateTsSet)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.atomic import write_text_atomic
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.loss_sizes import dose_loss, pose_loss, warp_loss
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView, from_imod
from eucentric.io.imod import read_angles, read_transforms, write_transforms
from eucentric.io.imod_export import imod_transforms
from eucentric.io.particle_columns import write_tomogram_numbers
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.typing import FloatArray

_LIST, _NUMBERS = "tomograms.vll", "tomograms.doc"
_FOLDER, _STAR = ".AWF", "stackAlignerImod.star"
_IMAGES = "# images:"
_COLUMNS = ("index", "used", "thetas", "psis", "x", "y")
_UM = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    """A tomogram of a volume list."""

    path: str
    entries: dict[str, str] = field(default_factory=dict)
    images: tuple[float, int, int] | None = None
    """Pixel size in A, and x and y pixels, of the tilt images, as `write_dynamo` notes them."""

    @property
    def name(self) -> str:
        return self.entries.get("label") or tomogram_name(self.path)


def _sources(place: Path) -> list[Path]:
    """Volume lists and alignment workflows of a file or folder."""
    if place.is_file():
        return [place]
    if place.suffix == _FOLDER:
        return [place / "align" / _STAR]
    return [*sorted(place.glob("*.vll")), *(f / "align" / _STAR for f in sorted(place.glob(f"*{_FOLDER}")))]


def _recognises(place: Path) -> bool:
    try:
        return any(s.is_file() and (s.suffix.lower() == ".vll" or s.name == _STAR) for s in _sources(place))
    except OSError:
        return False


def read_dynamo(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """The series of a volume list with angles beside it, of an alignment workflow, or of a folder of those.

    Raises
    ------
    InputError : nothing of that kind; no angles; or the size of pixels or images is not known
    FormatError : a damaged file
    """
    sources = [s for s in _sources(place) if s.is_file()]
    if not sources:
        raise InputError(
            f"`{place}` holds neither a volume list (.vll) nor an alignment of Dynamo (NAME{_FOLDER}/align/{_STAR}). Give one of them."
        )
    found: list[SeriesGeometry] = []
    for source in sources:
        found += [_workflow(source, given)] if source.name == _STAR else _listed(source, given)
    return tuple(found)


def _listed(source: Path, given: Given) -> list[SeriesGeometry]:
    volumes = _read_list(source)
    aligned = [v for v in volumes if _beside(source, v, ".tlt") is not None]
    if not aligned:
        raise InputError(
            f"`{source}` lists {len(volumes)} tomograms, and none has its tilt angles beside it (such as `NAME.tlt`). Put them there."
        )
    alone = given if len(aligned) == 1 else replace(given, name=None)
    return [_series(source, volume, alone) for volume in aligned]


def listed_tomograms(path: Path) -> list[tuple[str, Path]]:
    """Name and file of every tomogram of a volume list; files from its folder where they are not absolute.

    Raises
    ------
    FormatError : a damaged list
    """
    return [(volume.name, path.parent / volume.path) for volume in _read_list(path)]


def _beside(source: Path, volume: _Volume, ending: str) -> Path | None:
    """A file of a tomogram: named like it, beside the list."""
    try:
        names = dict.fromkeys((volume.name, tomogram_name(volume.path)))
        return next((p for p in (source.parent / f"{name}{ending}" for name in names) if p.is_file()), None)
    except (OSError, ValueError):  # no name of a file
        return None


def _read_list(source: Path) -> list[_Volume]:
    volumes: list[_Volume] = []
    for number, raw in enumerate(source.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in ">!" or (line[0] == "#" and not line.startswith(_IMAGES)):
            continue
        if line[0] not in "*#":
            volumes.append(_Volume(path=line))
            continue
        if not volumes:
            raise FormatError(
                f"Line {number} of `{source}` is `{line[:60]}` before any tomogram; expected the file of one first."
            )
        if line[0] == "#":
            volumes[-1] = replace(volumes[-1], images=_image_note(line, source, number))
            continue
        key, equal, value = line[1:].partition("=")
        if not equal:
            raise FormatError(f"Line {number} of `{source}` is `{line[:60]}`; expected * NAME = VALUE.")
        volumes[-1].entries[key.strip()] = value.strip()
    if not volumes:
        raise FormatError(f"`{source}` lists no tomogram; expected the file of one in each line.")
    return volumes


def _image_note(line: str, source: Path, number: int) -> tuple[float, int, int]:
    words = line[len(_IMAGES) :].split()
    try:
        size, x, y = float(words[0]), int(words[2]), int(words[4])
    except (ValueError, IndexError) as error:
        raise FormatError(
            f"Line {number} of `{source}` is `{line[:60]}`; expected {_IMAGES} 2.5 A, 96 x 80 pixels."
        ) from error
    if not (np.isfinite(size) and size > 0 and 0 < x < 2**24 and 0 < y < 2**24):
        raise FormatError(f"Line {number} of `{source}` is `{line[:60]}`; expected positive sizes.")
    return size, x, y


def _series(source: Path, volume: _Volume, given: Given) -> SeriesGeometry:
    angles = read_angles(_beside(source, volume, ".tlt") or source)
    transforms = _beside(source, volume, ".xf")
    notes = []
    pixel: float | None = None
    shape: tuple[int, int] | None = None
    if volume.images is not None:
        pixel, shape = volume.images[0], (volume.images[2], volume.images[1])
    elif given.pixel_size_angstrom is None and "apix" in volume.entries:
        pixel = _positive(volume.entries["apix"], source)
        notes.append(
            f"The voxel size of {volume.name} ({pixel:g} A) was taken for the pixel size of its images (not binned)."
        )
    y, x = given.need_image_shape(shape, source)
    after = np.array([n // 2 - 0.5 * (n - 1) for n in (x, y)])
    if transforms is None:
        matrices, shifts = np.tile(np.eye(2), (len(angles), 1, 1)), np.zeros((len(angles), 2))
        notes.append(f"{volume.name} has no transforms (.xf): its images were taken to be aligned, tilt axis along y.")
    else:
        matrices, shifts = read_transforms(transforms)
    external = from_imod(matrices, shifts - after, angles, source=f"Dynamo ({source.name})")
    geometry = series_of_views(
        replace(external, pixel_size_angstrom=given.pixel_size_angstrom or pixel),
        replace(given, image_shape=(y, x)),
        source,
        name=volume.name,
    )
    return replace(geometry, notes=(*notes, *geometry.notes))


def _positive(text: str, source: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (np.isfinite(value) and value > 0):
        raise FormatError(f"`{source}` has `{text[:40]}` for a voxel size; expected a positive number.")
    return value


def _workflow(source: Path, given: Given) -> SeriesGeometry:
    """From an alignment that Dynamo made."""
    rows = _read_star(source)
    views, gone = [], []
    for section, row in enumerate(rows):
        _, used, theta, psi, x, y = row.tolist()
        if not used:
            gone.append(LeftOutView(reason="left out in Dynamo", listed_deg=theta, section=section))
            continue
        turn = np.deg2rad(psi)
        back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shift = -back @ np.array([x, y])
        views.append(
            ExternalView(
                listed_deg=theta,
                y_tilt_deg=theta,
                z_rot_deg=psi,
                shift=(float(shift[0]), float(shift[1])),
                section=section,
            )
        )
    external = ExternalAlignment(
        source=f"Dynamo ({source.name})",
        views=tuple(views),
        left_out=tuple(gone),
        unit="pixel",
        centre="middle",
        section_count=len(rows),
        caveats=(
            "The signs and the centre of Dynamo's alignment are not documented; they were taken as IMOD's. Look at a tomogram "
            "before going on.",
        ),
    )
    workflow = source.parent.parent
    return series_of_views(external, given, source, name=workflow.name.removesuffix(_FOLDER) or source.stem)


def _read_star(source: Path) -> FloatArray:
    """(image, 6): the columns of `_COLUMNS`."""
    labels: list[str] = []
    rows: list[list[str]] = []
    in_loop = False
    for line in source.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["loop_"]:
            in_loop = True
        elif in_loop and words and words[0].startswith("_") and not rows:
            labels.append(words[0][1:])
        elif in_loop and words and not words[0].startswith("#"):
            rows.append(words)
    if not set(_COLUMNS) <= set(labels) or not rows:
        raise FormatError(
            f"`{source}` has no table with {', '.join(_COLUMNS)}. Expected the one that Dynamo's alignment writes."
        )
    order = [labels.index(c) for c in _COLUMNS]
    try:
        table = np.array([[float(row[i]) for i in order] for row in rows])
    except (ValueError, IndexError) as error:
        raise FormatError(f"`{source}` has a row with a missing value, or one that is no number: {error}.") from error
    if not np.isfinite(table).all():
        raise FormatError(f"`{source}` has values that are not finite numbers.")
    return table


def write_dynamo(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write the angles and transforms of every series, and the list of their tomograms, into a folder; or beside one `.vll`.

    Raises
    ------
    InputError : a series that has not been aligned; as `targets` and `write_text_atomic`
    """
    files: list[Path] = []
    losses: list[str] = []
    blocks, numbers = [], {}
    one_file = place.name.lower().endswith(".vll")
    for number, (stem, geometry) in enumerate(targets(place, geometries, (".vll",)), 1):
        series = geometry.series
        poses = TiltGeometry.from_poses(series.poses)
        angles, transforms = stem.with_name(f"{stem.name}.tlt"), stem.with_name(f"{stem.name}.xf")
        write_text_atomic(angles, "".join(f"{a:.4f}\n" for a in poses.y_tilt_deg))
        shape = series.image_shape
        write_transforms(transforms, *imod_transforms(poses, series.pixel_size_angstrom, shape, shape))
        files += [angles, transforms]
        name = stem.name if one_file else series.name
        path, block = _block(geometry, number, name, place.parent if one_file else place)
        blocks.append(block)
        numbers[number] = path
        losses += _losses(geometry)
    listing = place if one_file else place / _LIST
    document = place.with_suffix(".doc") if one_file else place / _NUMBERS
    write_text_atomic(listing, "\n".join(blocks))
    write_tomogram_numbers(document, numbers)
    return Written(files=(*files, listing, document), losses=tuple(losses))


def _block(geometry: SeriesGeometry, number: int, name: str, folder: Path) -> tuple[str, str]:
    """The file of a tomogram, and what a volume list in the folder says about it."""
    series = geometry.series
    tilts = [p.y_tilt_deg for p in series.poses]
    made = series.tomogram
    path = f"{name}.mrc" if made is None else made.path
    if made is not None and Path(path).is_file():
        there, here = Path(path).absolute(), folder.absolute()  # links are not followed
        path = there.relative_to(here).as_posix() if there.is_relative_to(here) else str(there)
    y, x = series.image_shape
    lines = [
        path,
        f"{_IMAGES} {series.pixel_size_angstrom:.6g} A, {x} x {y} pixels",
        f"* label = {name}",
        f"* index = {number}",
        "* ftype = 1",
        f"* ytilt = {min(tilts):.2f} {max(tilts):.2f}",
        f"* apix = {series.pixel_size_angstrom if made is None else made.voxel_size_angstrom:.6g}",
    ]
    flattest = min(series.tilts, key=lambda t: abs(t.pose.y_tilt_deg) if t.pose else np.inf)
    if flattest.ctf is not None:
        lines.append(f"* defocus = {flattest.ctf.defocus_angstrom / _UM:.4f}")
    return path, "\n".join(lines) + "\n"


def _losses(geometry: SeriesGeometry) -> list[str]:
    series = geometry.series
    name = series.name
    losses = pose_loss(geometry, "the tilt about x is left out", x_tilt_deg=0.0) + warp_loss(geometry)
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if fits:
        values = [f.defocus_angstrom for f in fits]
        shift = max(abs(f.phase_shift_deg) for f in fits)
        phase = f", phase shifts (up to {shift:.0f} degrees)" if shift else ""
        losses.append(
            f"{name}: of {len(fits)} CTFs only the defocus of the flattest image is kept. The means run from {min(values):.0f} "
            f"to {max(values):.0f} A; astigmatism{phase} and the hand are lost."
        )
    losses += dose_loss(geometry, "Dynamo's files")
    if series.excluded:
        sections = [t.image.partition("@")[0] for t in series.tilts if t.image and "@" in t.image]
        kept = (
            f" Take the sections {','.join(str(int(s) - 1) for s in sections)} (newstack -secs, from 0)."
            if (len(sections) == len(series.tilts) and all(s.isdecimal() for s in sections))
            else ""
        )
        losses.append(
            f"{name}: the {len(series.excluded)} excluded tilts are in no list, so the stack to align must not hold them.{kept}"
        )
    return losses


FORMAT = GeometryFormat(
    name="dynamo",
    title="Dynamo (.vll with .tlt and .xf, .AWF)",
    words=GeometryWords(
        origin="voxel n // 2 of the tomogram, which is pixel n // 2 of the aligned images",
        unit="pixels of the images; voxel size in A, defocus in um",
        hand="none is kept",
        angles="tilt about y as RELION's; tilt axis and shifts in IMOD's transforms; no tilt about x",
    ),
    recognises=_recognises,
    read=read_dynamo,
    write=write_dynamo,
)
