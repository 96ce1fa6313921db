"""Tilt series of EMAN2: `info/<name>_info.json` of a project.

`tlt_params` has five numbers for each image of the stack `tlt_file`: tx, ty, rotation, y-tilt, x-tilt, in pixels of that stack
(`apix_unbin` A) and degrees. A point p of the tomogram, from its centre, is seen (tx, ty) beside ``Rz(-rotation) Ry(-ytilt)
Rx(-xtilt) p`` from pixel ``n // 2``: our projection with the signs of all angles turned [1]_. Its height is z of
``Ry(-ytilt) Rx(-xtilt) p``, and its defocus is ``defocus - height``: rlnTomoHand is -1, and EMAN2 has no other [2]_. `defocus`
is in um, underfocus positive and without astigmatism; `phase` in degrees holds the amplitude contrast w as asin(w) together
with any phase shift [3]_. Images whose `ali_loss` is 500 or more are left out of reconstructions [1]_.

References
----------
.. [1] EMAN2's sources, `programs/e2tomogram.py` (get_xf_pos, make_tomogram), `libEM/transform.cpp` (set_rotation)
.. [2] EMAN2's sources, `programs/e2spt_extract.py` (make3d)
.. [3] EMAN2's sources, `programs/e2spt_tomoctf.py`, `libEM/ctf.cpp` (EMAN2Ctf::set_phase, compute_1d)
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.eman2_files import (
    eman2_name,
    number_rows,
    one_number,
    read_eman2_json,
    write_eman2_json,
)
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.loss_sizes import astigmatism_loss, dose_loss, hand_loss, pose_loss, warp_loss
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView
from eucentric.io.hdf import read_hdf_header
from eucentric.io.mrc import read_mrc_header
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, ExcludedTilt, Tilt, TiltPose
from eucentric.typing import FloatArray

_INFO = "_info.json"
_UM = 1e4
_LEFT_OUT, _EXCLUDED_LOSS = 500.0, 1000.0
_MOST_AMPLITUDE_DEG = 30.0  # a phase above is one of a phase plate
_SCAN_BYTES = 1 << 20


def _info_files(place: Path) -> list[Path]:
    """Info files of a file, an info folder or a project."""
    if place.is_file():
        return [place]
    return sorted([*place.glob(f"*{_INFO}"), *(place / "info").glob(f"*{_INFO}")])


def _recognises(place: Path) -> bool:
    try:
        return any(_has_geometry(file) for file in _info_files(place) if file.suffix == ".json")
    except OSError:
        return False


def _has_geometry(file: Path) -> bool:
    with file.open("rb") as stream:
        if b'"tlt_params"' in stream.read(_SCAN_BYTES):
            return True
    if file.stat().st_size <= _SCAN_BYTES:
        return False
    try:
        return "tlt_params" in read_eman2_json(file)
    except (EucentricError, UnicodeDecodeError):
        return False


def read_eman2(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """The series of an info file, or of all of an EMAN2 project that are aligned.

    Raises
    ------
    InputError : nothing there, or the size of the images or pixels is not known
    FormatError : a damaged file
    """
    files = _info_files(place)
    chosen = files if place.is_file() else [file for file in files if _has_geometry(file)]
    if not chosen:
        raise InputError(
            f"`{place}` holds no alignment of EMAN2. Give a project with info/NAME{_INFO}, or such a file that has tlt_params."
        )
    if given.name is not None and len(chosen) > 1:
        chosen = [file for file in chosen if eman2_name(file) == given.name] or chosen
    alone = given if len(chosen) == 1 else replace(given, name=None)
    return tuple(_series(file, alone) for file in chosen)


def _series(file: Path, given: Given) -> SeriesGeometry:
    info = read_eman2_json(file)
    if "tlt_params" not in info:
        raise FormatError(
            f"`{file}` has no tlt_params: EMAN2 has not aligned this tilt series. Give the file of one that it has."
        )
    rows = number_rows(info["tlt_params"], 5, "tlt_params", file)
    if not len(rows):
        raise FormatError(f"`{file}` has an empty tlt_params; expected five numbers for each image.")
    lost = _loss(info, len(rows))
    stack = _stack(file, info.get("tlt_file"))
    shape, count = _stack_shape(stack)
    views = tuple(_view(row, i) for i, row in enumerate(rows) if i not in lost)
    gone = tuple(
        LeftOutView(reason=f"its ali_loss is {_LEFT_OUT:g} or more in EMAN2", listed_deg=-float(row[3]), section=i)
        for i, row in enumerate(rows)
        if i in lost
    )
    pixel = given.pixel_size_angstrom or one_number(info.get("apix_unbin"))
    external = ExternalAlignment(
        source=f"EMAN2 ({file.name})",
        views=views,
        left_out=gone,
        unit="pixel",
        centre="floor",
        pixel_size_angstrom=pixel if pixel and pixel > 0 else None,
        section_count=len(rows),
    )
    sections = [*(v.section for v in views), *(v.section for v in gone)]
    geometry = series_of_views(
        external,
        given if shape is None else replace(given, image_shape=given.image_shape or shape),
        file,
        name=eman2_name(file),
        images=[str(s) for s in sections],
        hand=-1.0,
    )
    return _completed(geometry, info, file, rows, stack, count, given)


def _view(row: FloatArray, section: int) -> ExternalView:
    tx, ty, rotation, y_tilt, x_tilt = (float(v) for v in row)
    return ExternalView(
        listed_deg=-y_tilt,
        y_tilt_deg=-y_tilt,
        z_rot_deg=math.remainder(-rotation, 360.0),
        x_tilt_deg=-x_tilt,
        shift=(tx, ty),
        section=section,
    )


def _loss(info: dict[str, Any], count: int) -> set[int]:
    """Rows that EMAN2 leaves out of its reconstructions; never all."""
    given = info.get("ali_loss")
    if not isinstance(given, list) or len(given) != count:
        return set()
    lost = {i for i, v in enumerate(given) if isinstance(v, int | float) and not v < _LEFT_OUT}
    return lost if len(lost) < count else set()


def _stack(file: Path, named: Any) -> str | None:
    """The stack of images: where it lies if it is found, else as named."""
    if not isinstance(named, str) or not named or "\0" in named:
        return None
    project = file.resolve().parent
    for root in (project.parent, project):
        try:
            if (root / named).is_file():
                return str(root / named)
        except OSError:  # a name longer than any file's
            return None
    return named


def _stack_shape(stack: str | None) -> tuple[tuple[int, int] | None, int | None]:
    """(y, x) and the number of images of a stack; None where it cannot be read."""
    if stack is None or not Path(stack).is_file():
        return None, None
    try:
        if Path(stack).suffix.lower() in (".hdf", ".h5", ".hdf5"):
            header = read_hdf_header(stack)
            z, y, x = header.shape
            return (y, x), z if header.count == 1 else header.count
        z, y, x = read_mrc_header(stack).shape
    except (InputError, FormatError):
        return None, None
    return (y, x), z


def _completed(
    geometry: SeriesGeometry,
    info: dict[str, Any],
    file: Path,
    rows: FloatArray,
    stack: str | None,
    count: int | None,
    given: Given,
) -> SeriesGeometry:
    """With the names of images and the CTFs."""
    notes = list(geometry.notes)
    if count is not None and count != len(rows):
        notes.append(
            f"`{stack}` holds {count} images, and `{file.name}` lists {len(rows)}; check that they belong together."
        )
    optics, fits = _ctf(info, file, len(rows), given)
    if optics is not None and given.optics is None:
        notes.append(
            f"EMAN2 keeps amplitude contrast and phase shift as one; a contrast of {optics.amplitude_contrast:.3f} was taken for it."
        )

    def finished(tilt: Tilt) -> Tilt:
        section = int(tilt.image or 0)
        image = None if stack is None else f"{section + 1}@{stack}"
        return replace(tilt, image=image, ctf=None if fits is None else fits[section])

    series = geometry.series
    return replace(
        geometry,
        series=series.replace(
            tilts=tuple(finished(t) for t in series.tilts),
            excluded=tuple(ExcludedTilt(tilt=finished(e.tilt), reason=e.reason) for e in series.excluded),
            optics=given.optics or optics or series.optics,
        ),
        notes=tuple(notes),
    )


def _ctf(info: dict[str, Any], file: Path, count: int, given: Given) -> tuple[Optics | None, list[CtfFit] | None]:
    """Optics and the CTF of every row, where there is one."""
    if "defocus" not in info:
        return None, None
    defocus = number_rows(info["defocus"], 1, "defocus", file)[:, 0] * _UM
    phase = number_rows(info.get("phase", [0.0] * len(defocus)), 1, "phase", file)[:, 0]
    if len(defocus) != count or len(phase) != count:
        raise FormatError(
            f"`{file}` has {len(defocus)} defocus values and {len(phase)} phases for {count} images; expected as many."
        )
    optics = given.optics
    if optics is None:
        common = Optics()
        least, most = float(phase.min()), float(phase.max())
        amplitude = math.sin(math.radians(least)) if least >= 0.0 and most <= _MOST_AMPLITUDE_DEG else None
        voltage, cs = one_number(info.get("voltage")), one_number(info.get("cs"))
        optics = Optics(
            voltage_kv=common.voltage_kv if voltage is None else voltage,
            spherical_aberration_mm=common.spherical_aberration_mm if cs is None else cs,
            amplitude_contrast=common.amplitude_contrast if amplitude is None else round(amplitude, 6),
        )
    shift = phase - math.degrees(math.asin(optics.amplitude_contrast))
    shift = np.where(np.abs(shift) < 1e-3, 0.0, (shift + 180.0) % 360.0 - 180.0)
    return optics, [
        CtfFit(defocus_u_angstrom=float(d), defocus_v_angstrom=float(d), phase_shift_deg=float(s))
        for d, s in zip(defocus, shift, strict=True)
    ]


def write_eman2(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write `info/<name>_info.json` into a project, or one such file; other entries of a file that is there stay.

    Raises
    ------
    InputError : a series that has not been aligned; as `targets` and `write_text_atomic`
    FormatError : the file that is there is damaged
    """
    files, losses = [], []
    whole = place.name.lower().endswith(".json")
    for stem, geometry in targets(place, geometries, (_INFO, ".json")):
        file = place if whole else stem.parent / "info" / f"{stem.name}{_INFO}"
        kept = read_eman2_json(file) if file.is_file() else {}
        project = file.parent.parent if file.parent.name == "info" else file.parent
        entries, lost = _entries(geometry, project)
        write_eman2_json(file, {**{k: v for k, v in kept.items() if k not in _CTF_ENTRIES}, **entries})
        files.append(file)
        losses += lost
    return Written(files=tuple(files), losses=tuple(losses))


_CTF_ENTRIES = ("defocus", "phase", "cs", "voltage")


def _entries(geometry: SeriesGeometry, project: Path) -> tuple[dict[str, Any], list[str]]:
    """The entries of a series in a project, and what they leave out."""
    series = geometry.series
    poses = series.poses
    name = series.name
    rows, stack = _rows(geometry)
    px = series.pixel_size_angstrom
    table, loss = [], []
    for tilt, used in rows:
        pose = tilt.pose or _nearest(tilt, series.tilts)
        table.append(
            [
                pose.x_shift_angstrom / px,
                pose.y_shift_angstrom / px,
                -pose.z_rot_deg,
                -pose.y_tilt_deg,
                -pose.x_tilt_deg,
            ]
        )
        loss.append(abs(pose.y_tilt_deg) if used else _EXCLUDED_LOSS)
    entries: dict[str, Any] = {
        "apix_unbin": px,
        "tlt_file": f"tiltseries/{name}.hdf" if stack is None else _from_project(stack, project),
        "tlt_params": [[float(f"{v:.9g}") for v in row] for row in table],
        "ali_loss": [float(f"{v:.6g}") for v in loss],
    }
    entries |= _ctf_entries(geometry, [tilt for tilt, _ in rows])
    losses = []
    if stack is None:
        losses.append(
            f"{name}: its images are not those of one stack, which EMAN2 needs. Make `tiltseries/{name}.hdf` of them, in ascending "
            "order of angle."
        )
        if series.excluded:
            losses.append(f"{name}: {len(series.excluded)} excluded tilts are not in the list.")
    elif series.excluded:
        losses.append(
            f"{name}: the {len(series.excluded)} excluded tilts stay in the list with ali_loss {_EXCLUDED_LOSS:g}, which keeps them "
            "out of EMAN2's reconstructions; extraction of particles needs --tltkeep below 1 for that. The reasons are lost."
        )
    if "__" in name or eman2_name(name) != name:
        losses.append(f"{name}: EMAN2 will look for the name `{eman2_name(name)}`; rename the series to be found.")
    if any(p.magnification != 1.0 for p in poses):
        losses += pose_loss(geometry, "the magnification of each image is left out", magnification=1.0)
    losses += warp_loss(geometry) + hand_loss(geometry, "EMAN2")
    losses += astigmatism_loss(geometry) if "defocus" in entries else _missing_ctf(geometry)
    return entries, losses + dose_loss(geometry, "EMAN2's info file")


def _rows(geometry: SeriesGeometry) -> tuple[list[tuple[Tilt, bool]], str | None]:
    """The tilts in the order of EMAN2's stack, and whether each is used; with the stack where all images are its sections."""
    series = geometry.series
    tilts = [*((t, True) for t in series.tilts), *((e.tilt, False) for e in series.excluded)]
    placed: dict[int, tuple[Tilt, bool]] = {}
    stacks = set()
    for tilt, used in tilts:
        section, at, stack = (tilt.image or "").partition("@")
        if not at or not section.isdecimal():
            return tilts[: len(series.tilts)], None
        placed[int(section)] = (tilt, used)
        stacks.add(stack)
    if len(stacks) != 1 or sorted(placed) != list(range(1, len(tilts) + 1)):
        return tilts[: len(series.tilts)], None
    return [placed[k] for k in sorted(placed)], stacks.pop()


def _from_project(stack: str, project: Path) -> str:
    """A stack as EMAN2 calls it: from the project's folder where it lies in it; whole where it is found elsewhere; else as named."""
    for place in (project / stack, Path(stack)):
        if place.is_file():
            whole, root = place.resolve(), project.resolve()
            return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)
    return stack


def _nearest(tilt: Tilt, tilts: Sequence[Tilt]) -> TiltPose:
    """A pose for an excluded tilt: that of its neighbour, turned on by the difference of their nominal angles."""
    near = min((t for t in tilts if t.pose), key=lambda t: abs(t.nominal_tilt_deg - tilt.nominal_tilt_deg))
    pose = near.pose or TiltPose(y_tilt_deg=0.0, z_rot_deg=0.0)
    return replace(pose, y_tilt_deg=pose.y_tilt_deg + tilt.nominal_tilt_deg - near.nominal_tilt_deg)


def _ctf_entries(geometry: SeriesGeometry, tilts: Sequence[Tilt]) -> dict[str, Any]:
    """Defocus and phase of every row; nothing where a used tilt has none. An excluded tilt may take that of the nearest."""
    series = geometry.series
    optics = series.optics
    if optics is None or not series.has_ctf:
        return {}
    amplitude = math.degrees(math.asin(optics.amplitude_contrast))
    fits = []
    for tilt in tilts:
        near = min(series.tilts, key=lambda t: abs(t.nominal_tilt_deg - tilt.nominal_tilt_deg))
        fit = tilt.ctf or near.ctf
        if fit is None:
            return {}
        fits.append(fit)
    return {
        "defocus": [float(f"{f.defocus_angstrom / _UM:.9g}") for f in fits],
        "phase": [float(f"{math.remainder(f.phase_shift_deg + amplitude, 360.0):.9g}") for f in fits],
        "voltage": optics.voltage_kv,
        "cs": optics.spherical_aberration_mm,
    }


def _missing_ctf(geometry: SeriesGeometry) -> list[str]:
    """A sentence if only some tilts have a CTF: EMAN2 takes all or none."""
    series = geometry.series
    known = sum(t.ctf is not None for t in series.tilts)
    if not known or series.optics is None:
        return []
    return [
        f"{series.name}: the CTF is left out, because {len(series.tilts) - known} tilts have none and EMAN2 needs all."
    ]


FORMAT = GeometryFormat(
    name="eman2",
    title="EMAN2 (info/*_info.json)",
    words=GeometryWords(
        origin="centre of the tomogram, pixel n // 2 of the images",
        unit="pixels of the stack (apix_unbin); defocus in um",
        hand="underfocus falls with height, always (rlnTomoHand -1)",
        angles="rotation, y-tilt and x-tilt with the sign opposite to RELION's; no magnification, no astigmatism",
    ),
    recognises=_recognises,
    read=read_eman2,
    write=write_eman2,
)
