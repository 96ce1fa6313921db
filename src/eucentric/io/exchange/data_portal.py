"""Runs of the CryoET Data Portal: `RUN/Alignments/100/alignment_metadata.json` and the metadata of its tilt series and frames.

`per_section_alignment_parameters`, one a section (`z_index`, from 0) that was aligned: `tilt_angle` and `volume_x_rotation`
(degrees), `in_plane_rotation` (2 x 2, [[cos, -sin], [sin, cos]] of the tilt axis), `x_offset` and `y_offset`. The portal makes them
with cryoet-alignment [1]_: of IMOD, with x' = A x + d from raw to aligned images, the rotation is A^T and the offsets are -A^T d; of
AreTomo, ROT, TX and TY. Both are where the centre of the specimen is seen in the raw image, in pixels (the portal's documentation
says A, but nothing divides by the pixel size), counted from the middle (n - 1) / 2 in IMOD, which AreTomo shares. Older files have
four numbers in a row for the rotation: those of the `.xf` as they are. `tilt_offset` and `x_rotation_offset` are taken to be in the
angles already, as cryoet-alignment takes them.

`tiltseries_metadata.json` [2]_: `pixel_spacing` (A), `size`, `acceleration_voltage` (V), `spherical_aberration_constant` (mm) and
`per_section_parameter` with `raw_angle`, `major_defocus` and `minor_defocus` (A, underfocus positive), `astigmatic_angle` (degrees,
from x), `phase_shift` (radians), `cross_correlation` and `max_resolution`. `frames_metadata.json`: paths, doses and order of movies.

The portal asks further what a tilt series does not know, such as the microscope, the camera, and what the specimen was: those are
to be filled in by who deposits it.

References
----------
.. [1] https://github.com/chanzuckerberg/cryoet-data-portal-backend, `common/alignment_converter.py`, and
   https://github.com/uermel/cryoet-alignment, `io/cryoet_data_portal/alignment.py`
.. [2] the same, `schema/metadata_files/v2.0.0` and `schema/core/v2.0.0`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf, standard_fit
from eucentric.io.exchange.data_portal_write import ALIGNMENT_FILE, FRAMES_FILE, SECTIONS_KEY, SERIES_FILE, write_runs
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import Tilt
from eucentric.typing import FloatArray

_MOST_SECTIONS = 100_000
_MOST_BYTES = 200_000_000
_Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A movie of a run."""

    path: str | None
    dose: float
    before: float


def recognises(place: Path) -> bool:
    """Whether it is a file of an alignment, a run, or a folder of runs."""
    try:
        return bool(_alignments(place))
    except (OSError, InputError):
        return False


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """The alignment that the portal holds for the standard one, or the first, of each run.

    Raises
    ------
    InputError : no alignment there, or what the files lack was not given
    FormatError : a file that is not what its name says
    """
    runs = _alignments(Path(place))
    if not runs:
        raise InputError(f"`{place}` holds no Alignments/*/{ALIGNMENT_FILE}; expected a run of the CryoET Data Portal.")
    if given.name is not None and len(runs) > 1:
        raise InputError(f"`{place}` holds {len(runs)} runs, and one name was given. Leave the name out.")
    return tuple(_read_run(files, given) for files in runs)


def _alignments(place: Path) -> list[list[Path]]:
    """The alignment files of each run under a place, which may be one of them."""
    if place.is_file():
        return [[place]] if place.name == ALIGNMENT_FILE else []
    if not place.is_dir():
        return []
    if (place / ALIGNMENT_FILE).is_file():
        return [[place / ALIGNMENT_FILE]]
    for inner in ("*", "Alignments/*", "*/Alignments/*"):
        files = sorted(place.glob(f"{inner}/{ALIGNMENT_FILE}"))
        if inner == "*" and place.name != "Alignments":
            continue
        if files:
            runs: dict[Path, list[Path]] = {}
            for file in files:
                runs.setdefault(file.parents[2], []).append(file)
            return list(runs.values())
    return []


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    InputError : no such file
    FormatError : no JSON
    """
    if not file.is_file():
        raise InputError(f"`{file}` does not exist, or is not a file. Check the name and the folder.")
    if file.stat().st_size > _MOST_BYTES:
        raise FormatError(f"`{file}` has {file.stat().st_size:,} bytes; no file of metadata is so large.")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{file}` is not JSON: {str(error)[:120]}. Copy it again.") from error


def _object(file: Path) -> _Json:
    found = read_json(file)
    if not isinstance(found, dict):
        raise FormatError(f"`{file}` holds no JSON object; expected the metadata that its name tells.")
    return found


def number(value: Any, file: Path, what: str, *, default: float | None = None) -> float:
    """A finite number of a JSON file; FormatError where it is none, or is missing and there is no default."""
    if value is None and default is not None:
        return default
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not np.isfinite(found) or abs(found) > 1e12 or isinstance(value, bool):
        raise FormatError(f"`{file}` has `{str(value)[:40]}` for {what}; expected a number.")
    return found


def _records(document: _Json, key: str, file: Path) -> list[_Json]:
    found = document.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise FormatError(f"`{file}` has no list of objects for {key}.")
    if len(found) > _MOST_SECTIONS:
        raise FormatError(f"`{file}` has {len(found):,} entries of {key}; no tilt series has so many.")
    return found


def _read_run(files: Sequence[Path], given: Given) -> SeriesGeometry:
    documents = [_object(file) for file in files]
    standard = [i for i, d in enumerate(documents) if d.get("is_portal_standard") is True and d.get(SECTIONS_KEY)]
    filled = [i for i, d in enumerate(documents) if d.get(SECTIONS_KEY)]
    pick = (standard or filled or [0])[0]
    file, document = files[pick], documents[pick]
    run = file.parents[2] if file.parents[1].name == "Alignments" else file.parent
    series_file = next(iter(sorted(run.glob(f"TiltSeries/*/{SERIES_FILE}"))), None)
    about: _Json = {} if series_file is None else _object(series_file)
    where = series_file or file
    sections = _records(about, "per_section_parameter", where)
    views, left_out = _views(document, sections, file, where)
    if not views:
        raise FormatError(f"`{file}` has no {SECTIONS_KEY}: it says nothing of how the tilt series was aligned.")
    notes = _notes(document, file)
    if len(files) > 1:
        notes.append(f"The run has {len(files)} alignments; that of `{file.parent.name}` was read.")
    orders, frames = _orders(sections, run, where)
    every: list[ExternalView | LeftOutView] = [*views, *left_out]
    placed = [orders.get(-1 if e.section is None else e.section) for e in every]
    order = _ranks(placed)
    optics = given.optics or _optics(about, where, notes)
    geometry = series_of_views(
        ExternalAlignment(
            source=f"the CryoET Data Portal ({file.name})",
            views=tuple(views),
            left_out=tuple(left_out),
            unit="pixel",
            centre="floor" if document.get("format") == "RELION" else "middle",
            pixel_size_angstrom=_positive(about.get("pixel_spacing"), where, "pixel_spacing"),
            image_size=_image_size(about, where),
            caveats=tuple(notes),
        ),
        replace(given, optics=optics),
        file,
        name=str(about.get("run_name") or run.name),
        ctf=_estimates(sections, where),
        doses=None if not frames else np.array([frames[p].dose if p in frames else 0.0 for p in placed]),
        before=_before(placed, frames),
        order=order,
        images=[_image(about, run, e.section) for e in every],
    )
    by_rank = dict(zip(order, placed, strict=True)) if order is not None else {}
    return _finished(geometry, document, file, given, frames, by_rank)


def _views(
    document: _Json, sections: Sequence[_Json], file: Path, where: Path
) -> tuple[list[ExternalView], list[LeftOutView]]:
    raw = {
        round(number(s.get("z_index"), where, "z_index")): number(
            s.get("raw_angle"), where, "raw_angle", default=np.inf
        )
        for s in sections
        if s.get("z_index") is not None
    }
    views = []
    for entry in _records(document, SECTIONS_KEY, file):
        index = round(number(entry.get("z_index"), file, "z_index"))
        tilt = number(entry.get("tilt_angle"), file, "tilt_angle")
        matrix, offset = _in_plane(entry, file)
        determinant = float(np.linalg.det(matrix))
        if not 0.01 < determinant < 100.0 or abs(tilt) > 360:
            raise FormatError(
                f"`{file}` has a rotation of section {index} that mirrors or flattens the image, or no angle."
            )
        magnification = 1.0 / float(np.sqrt(determinant))
        axis = np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
        # A^T and -A^T d where A^-1 and -A^-1 d are meant: they differ by the magnification squared
        seen = offset * magnification**2
        listed = raw.get(index, tilt)
        views.append(
            ExternalView(
                listed_deg=listed if np.isfinite(listed) else tilt,
                y_tilt_deg=tilt,
                z_rot_deg=float(axis),
                x_tilt_deg=number(entry.get("volume_x_rotation"), file, "volume_x_rotation", default=0.0),
                shift=(float(seen[0]), float(seen[1])),
                magnification=magnification,
                section=index,
            )
        )
    used = [view.section for view in views]
    if len(set(used)) < len(used):
        raise FormatError(f"`{file}` has two alignments of one section; expected each z_index once.")
    left = [
        LeftOutView(reason="it has no alignment in the data portal", listed_deg=angle, section=index)
        for index, angle in sorted(raw.items())
        if index not in used and np.isfinite(angle)
    ]
    return views, left


def _in_plane(entry: _Json, file: Path) -> tuple[FloatArray, FloatArray]:
    """The rotation (2, 2) and the offsets (2,) of a section."""
    found = entry.get("in_plane_rotation")
    try:
        values = np.array(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if values.shape not in ((2, 2), (4,)) or not (np.abs(values) < 1e3).all():
        raise FormatError(f"`{file}` has `{str(found)[:60]}` for in_plane_rotation; expected 2 x 2 numbers.")
    offset = np.array([number(entry.get(f"{a}_offset"), file, f"{a}_offset", default=0.0) for a in "xy"])
    if values.shape == (4,):  # of the .xf, as it is
        matrix = values.reshape(2, 2).T
        return matrix, -matrix @ offset
    return values, offset


def _notes(document: _Json, file: Path) -> list[str]:
    notes = []
    affine = document.get("affine_transformation_matrix")
    try:
        plain = affine is None or np.allclose(np.array(affine, dtype=np.float64), np.eye(4))
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"`{file}` has no 4 x 4 numbers for affine_transformation_matrix.") from error
    if not plain:
        notes.append("The affine transformation of the volume (affine_transformation_matrix) was not taken over.")
    shift = document.get("volume_offset")
    if isinstance(shift, dict) and any(number(shift.get(a), file, "volume_offset", default=0.0) for a in "xyz"):
        notes.append("The shift of the volume (volume_offset) was not taken over.")
    for key in ("tilt_offset", "x_rotation_offset"):
        value = number(document.get(key), file, key, default=0.0)
        if value:
            notes.append(f"{key} is {value:g} degrees; it is taken to be in the angles of the sections already.")
    if document.get("alignment_type") == "LOCAL":
        notes.append("The local alignment is not in the portal's metadata; only that of whole images was read.")
    return notes


def _positive(value: Any, file: Path, what: str) -> float | None:
    found = number(value, file, what, default=0.0)
    return found if found > 0 else None


def _image_size(about: _Json, file: Path) -> tuple[int, int] | None:
    size = about.get("size")
    if not isinstance(size, dict):
        return None
    x, y = (round(number(size.get(a), file, f"size of {a}", default=0.0)) for a in "xy")
    return (x, y) if 0 < x < 10**6 and 0 < y < 10**6 else None


def _optics(about: _Json, file: Path, notes: list[str]) -> Optics | None:
    volts = number(about.get("acceleration_voltage"), file, "acceleration_voltage", default=0.0)
    if volts <= 0:
        return None
    cs = number(about.get("spherical_aberration_constant"), file, "spherical_aberration_constant", default=2.7)
    notes.append("The data portal keeps no amplitude contrast; 0.07 is taken.")
    try:
        return Optics(voltage_kv=volts / 1000.0, spherical_aberration_mm=cs)
    except InputError as error:
        raise FormatError(f"`{file}`: {error}") from error


def _estimates(sections: Sequence[_Json], file: Path) -> ExternalCtf | None:
    found = []
    for entry in sections:
        if entry.get("z_index") is None or entry.get("major_defocus") is None:
            continue
        value = {
            key: number(entry.get(key), file, key, default=0.0)
            for key in (
                "z_index",
                "major_defocus",
                "astigmatic_angle",
                "phase_shift",
                "cross_correlation",
                "max_resolution",
            )
        }
        fit = standard_fit(
            value["major_defocus"],
            number(entry.get("minor_defocus"), file, "minor_defocus", default=value["major_defocus"]),
            value["astigmatic_angle"],
            phase_shift_deg=float(np.degrees(value["phase_shift"])),
            score=value["cross_correlation"] or float("nan"),
            max_resolution_angstrom=value["max_resolution"],
        )
        found.append(CtfEstimate(fit=fit, section=round(value["z_index"])))
    return ExternalCtf(program="CTFFIND", source=f"`{file.name}`", estimates=tuple(found)) if found else None


def _orders(sections: Sequence[_Json], run: Path, where: Path) -> tuple[dict[int, int], dict[int | None, _Frame]]:
    """Number in time of each section, and the movie of each such number."""
    orders = {
        round(number(s["z_index"], where, "z_index")): round(
            number(s["frame_acquisition_order"], where, "frame_acquisition_order")
        )
        for s in sections
        if s.get("z_index") is not None and s.get("frame_acquisition_order") is not None
    }
    file = run / "Frames" / FRAMES_FILE
    frames: dict[int | None, _Frame] = {}
    if orders and file.is_file():
        for entry in _records(_object(file), "frames", file):
            if entry.get("acquisition_order") is None:
                continue
            frames[round(number(entry["acquisition_order"], file, "acquisition_order"))] = _Frame(
                path=_found(entry.get("path"), run / "Frames"),
                dose=number(entry.get("exposure_dose"), file, "exposure_dose", default=0.0),
                before=number(entry.get("accumulated_dose"), file, "accumulated_dose", default=0.0),
            )
    return orders, frames


def _ranks(placed: Sequence[int | None]) -> list[int] | None:
    """Ranks from 0 of numbers in time; None where one is missing or comes twice."""
    known = [p for p in placed if p is not None]
    if len(known) < len(placed) or len(set(known)) < len(known):
        return None
    ranks: list[int] = np.argsort(np.argsort(known, kind="stable"), kind="stable").tolist()
    return ranks


def _before(placed: Sequence[int | None], frames: Mapping[int | None, _Frame]) -> FloatArray | None:
    """(image,) dose before each; None where one is missing or nothing is told."""
    found = np.array([frames[p].before for p in placed if p in frames])
    return found if len(found) == len(placed) and found.any() else None


def _found(path: Any, folder: Path) -> str | None:
    """The file itself where it lies in the folder, else the path as it stands in the metadata."""
    if not isinstance(path, str) or not path:
        return None
    here = folder / Path(path).name
    return str(here.resolve()) if here.is_file() else path


def _image(about: _Json, run: Path, section: int | None) -> str | None:
    path = about.get("mrc_file")
    stack = _found(path, next(iter(sorted(run.glob("TiltSeries/*"))), run))
    return None if stack is None or section is None else f"{section + 1}@{stack}"


def _finished(
    geometry: SeriesGeometry,
    document: _Json,
    file: Path,
    given: Given,
    frames: Mapping[int | None, _Frame],
    by_rank: Mapping[int, int | None],
) -> SeriesGeometry:
    """With movies and the size of the volume."""
    series = geometry.series

    def with_movie(tilt: Tilt) -> Tilt:
        frame = frames.get(by_rank.get(tilt.acquisition))
        return tilt if frame is None else replace(tilt, movie=frame.path)

    series = series.with_tilts([with_movie(t) for t in series.tilts]).replace(
        excluded=tuple(replace(e, tilt=with_movie(e.tilt)) for e in series.excluded)
    )
    size = document.get("volume_dimension")
    if given.volume_size_px is None and isinstance(size, dict):
        lengths = [number(size.get(a), file, "volume_dimension", default=0.0) for a in "xyz"]
        if min(lengths) > 0 and max(lengths) / series.pixel_size_angstrom < 10**6:
            x, y, z = (max(1, round(n / series.pixel_size_angstrom)) for n in lengths)
            series = series.replace(volume_size_px=(x, y, z))
    return replace(geometry, series=series)


FORMAT = GeometryFormat(
    name="data-portal",
    title="CryoET Data Portal",
    words=GeometryWords(
        origin="middle of the image, (n - 1) / 2",
        unit="pixels; defocus A",
        hand="not kept; -1 is taken",
        angles="tilt axis from y, counter-clockwise; tilt turning z towards x; astigmatism from x towards y; phase shift in radians",
    ),
    recognises=recognises,
    read=read,
    write=write_runs,
)
