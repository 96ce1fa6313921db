"""Wedge lists of STOPGAP (`wedgelist.star`): a row an image, of any number of tomograms.

Columns and their units, from STOPGAP's own sources [1]_: `tomo_num`; `pixelsize` (A) and `tomo_x`, `tomo_y`, `tomo_z`, `z_shift`
(pixels) of images that are not binned, where x and y are those of the images (IMOD's FULLIMAGE), z the thickness and z_shift the
second number of SHIFT of IMOD's `tilt.com`; `tilt_angle` (degrees, those of the aligned `.tlt`); `defocus`, or `defocus1` and
`defocus2` (um, underfocus positive); `astig_ang` and `pshift` (degrees); `exposure` (e/A^2); `voltage` (kV), `amp_contrast`, `cs`
(mm). A point at z' above the centre after ``Ry(tilt_angle)`` has less underfocus by z' (`calculate_local_defocii.m`): our hand -1.

A wedge list holds no alignment: no axis, no shifts. The exposure is taken to be what the specimen had received *after* the image, as
TOMOMAN writes it, from which most wedge lists come. Numbers of tomograms get their names in a file beside the list, as in motive
lists.

References
----------
.. [1] https://github.com/wan-lab-vanderbilt/STOPGAP: `sg_get_wedgelist_fields.m`, `sg_wedgelist_from_tomolist.m`, `sg_ctf.m`,
   `calculate_local_defocii.m`, `calculate_exposure_filter.m`
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.ctf_estimates import standard_fit
from eucentric.io.exchange.from_views import dose_notes, with_given_dose
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written
from eucentric.io.particle_columns import names_file, numbered_names, write_tomogram_numbers
from eucentric.io.star import read_star_text, write_star
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import FloatArray

_BLOCK = "stopgap_wedgelist"
_FILE = "wedgelist.star"
_UM = 1e4
_NEEDED = ("tomo_num", "tilt_angle")
_MOST = 1e7  # larger numbers are damage: no pixel count, um, kV or dose is near
_Columns = dict[str, FloatArray]


def recognises(place: Path) -> bool:
    """Whether a file, or a file of a folder, has the name of the block in its first lines."""
    try:
        if place.is_dir():
            return any(recognises(p) for p in sorted(place.glob("*wedge*.star"))[:20])
        if place.suffix.lower() != ".star":
            return False
        with place.open("rb") as stream:
            return _BLOCK.encode() in stream.read(4096)
    except OSError:
        return False


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """Every tomogram of a wedge list, or of the only one in a folder.

    Raises
    ------
    InputError : no such file, several lists in the folder, or what the list lacks was not given
    FormatError : not a wedge list, or a value that is no number
    """
    file = _file(Path(place))
    columns = _columns(file)
    numbers = np.unique(columns["tomo_num"])
    names = numbered_names(file, {})
    if given.name is not None and len(numbers) > 1:
        raise InputError(f"`{file}` holds {len(numbers)} tomograms, and one name was given. Leave the name out.")
    found = []
    for number in numbers.tolist():
        rows = columns["tomo_num"] == number
        name = given.name or names.get(int(number), str(int(number)))
        found.append(_series(file, name, {label: column[rows] for label, column in columns.items()}, given))
    return tuple(found)


def _file(place: Path) -> Path:
    if not place.is_dir():
        return place
    files = [p for p in sorted(place.glob("*.star")) if recognises(p)]
    if len(files) != 1:
        raise InputError(f"`{place}` holds {len(files)} wedge lists of STOPGAP; expected one. Give the file itself.")
    return files[0]


def _columns(file: Path) -> _Columns:
    tables = [t for t in read_star_text(file).values() if all(label in t for label in _NEEDED)]
    if not tables:
        raise FormatError(f"`{file}` is not a wedge list of STOPGAP: no table has {' and '.join(_NEEDED)}.")
    table = tables[0]
    columns: _Columns = {}
    for label, values in table.items():
        try:
            column = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
        except ValueError as error:
            raise FormatError(f"`{file}` has a value of {label} that is not a number: {error}.") from error
        if label in _NEEDED and not np.isfinite(column).all():
            raise FormatError(f"`{file}` has a {label} that is not a number. Write the list again.")
        if np.isinf(column).any() or (np.abs(np.nan_to_num(column)) > _MOST).any():
            raise FormatError(f"`{file}` has a value of {label} that cannot be. Write the list again.")
        columns[label] = column
    if not len(columns["tomo_num"]):
        raise FormatError(f"`{file}` is a wedge list without rows.")
    if (np.abs(columns["tilt_angle"]) > 180).any():
        raise FormatError(f"`{file}` has a tilt_angle beyond 180 degrees; expected degrees from -90 to 90.")
    return columns


def _single(columns: _Columns, label: str) -> float | None:
    """The value that belongs to the tomogram, as STOPGAP takes it: that of its first row; None where there is none."""
    value = float(columns[label][0]) if label in columns else np.nan
    return value if np.isfinite(value) else None


def _series(file: Path, name: str, columns: _Columns, given: Given) -> SeriesGeometry:
    pixel = given.need_pixel_size(_single(columns, "pixelsize"), file)
    size = [round(_single(columns, f"tomo_{a}") or 0) for a in "xyz"]
    shape = given.need_image_shape((size[1], size[0]) if min(size[:2]) > 0 else None, file)
    angles = columns["tilt_angle"]
    notes = [
        f"{name}: a wedge list of STOPGAP holds tilt angles only. The tilt axis is taken along y and all shifts are 0: "
        "align again, or take the alignment from the program that made it."
    ]
    order, doses, before = _doses(name, columns, notes)
    fits = _fits(columns, len(angles))
    if fits is None:
        notes.append(f"{name}: `{file.name}` has no defocus.")
    z_shift = _single(columns, "z_shift") or 0.0
    if z_shift:
        notes.append(f"{name}: the shift of the tomogram by {z_shift:g} pixels along z (z_shift) was not taken over.")
    tilts = [
        Tilt(
            nominal_tilt_deg=float(angles[i]),
            acquisition=int(order[i]),
            dose=float(doses[i]),
            pre_exposure=float(before[i]),
            pose=TiltPose(y_tilt_deg=float(angles[i]), z_rot_deg=0.0),
            ctf=None if fits is None else fits[i],
        )
        for i in range(len(angles))
    ]
    series = TiltSeries.sorted(
        tilts,
        name=name,
        pixel_size_angstrom=pixel,
        image_shape=shape,
        optics=given.optics or _optics(columns, file),
        hand=-1.0,
        volume_size_px=given.volume_size_px or ((size[0], size[1], size[2]) if min(size) > 0 else None),
    )
    series = with_given_dose(series, given)
    return SeriesGeometry(series=series, notes=(*notes, *dose_notes(series, file)))


def _optics(columns: _Columns, file: Path) -> Optics:
    voltage, contrast, cs = (_single(columns, label) for label in ("voltage", "amp_contrast", "cs"))
    try:
        optics = Optics()
        if voltage is not None:
            optics = replace(optics, voltage_kv=voltage)
        if contrast is not None:
            optics = replace(optics, amplitude_contrast=contrast)
        return optics if cs is None else replace(optics, spherical_aberration_mm=cs)
    except EucentricError as error:
        raise FormatError(f"`{file}`: {error}") from error


def _doses(name: str, columns: _Columns, notes: list[str]) -> tuple[Sequence[int], FloatArray, FloatArray]:
    """Rank in time, dose and pre-exposure of each image."""
    count = len(columns["tilt_angle"])
    after = columns.get("exposure")
    if after is not None and np.isfinite(after).all() and len(np.unique(after)) == count and (after >= 0).all():
        rank = np.argsort(np.argsort(after, kind="stable"), kind="stable")
        steps = np.diff(np.sort(after), prepend=0.0)
        usual = float(np.median(steps[1:])) if count > 1 else float(after[0])
        if count > 1 and steps[0] == 0.0:
            notes.append(f"{name}: the first exposure is 0; exposures are taken as those before each image.")
            return rank.tolist(), np.full(count, usual), after
        # a larger step is an image between that was left out
        steps = np.where(steps > 1.5 * usual, usual, steps)
        doses: FloatArray = steps[rank]
        before: FloatArray = np.maximum(after - doses, 0.0)
        return rank.tolist(), doses, before
    notes.append(
        f"{name}: the list does not tell in which order the images were taken; that of the angles stands for it."
    )
    rank = np.argsort(np.argsort(columns["tilt_angle"], kind="stable"), kind="stable")
    return rank.tolist(), np.zeros(count), np.zeros(count)


def _fits(columns: _Columns, count: int) -> list[CtfFit | None] | None:
    pair = [columns.get(label) for label in ("defocus1", "defocus2")]
    mean = columns.get("defocus")
    first = mean if pair[0] is None or pair[1] is None else pair[0]
    second = mean if pair[0] is None or pair[1] is None else pair[1]
    if first is None or second is None or np.isnan(first).all():
        return None
    nothing = np.zeros(count)
    angle, phase = columns.get("astig_ang", nothing), columns.get("pshift", nothing)
    return [
        standard_fit(
            first[i] * _UM,
            second[i] * _UM,
            float(np.nan_to_num(angle[i])),
            phase_shift_deg=float(np.nan_to_num(phase[i])),
        )
        if np.isfinite([first[i], second[i]]).all()
        else None
        for i in range(count)
    ]


def write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write one wedge list of all series: `place` where it ends in `.star`, else `place/wedgelist.star`.

    Raises
    ------
    InputError : two series of one name, or the place cannot be written to
    """
    file = Path(place) if Path(place).suffix.lower() == ".star" else Path(place) / _FILE
    names = [g.series.name for g in geometries]
    if len(set(names)) < len(names):
        raise InputError(f"Two tilt series have the same name ({', '.join(names[:6])}); expected each its own.")
    numbers, used = TomogramFrames().numbers_of(np.array(names, dtype=np.str_))
    optical = all(t.ctf is not None for g in geometries for t in g.series.tilts)
    seen = all(g.series.optics is not None for g in geometries)
    phases = any(t.ctf is not None and t.ctf.phase_shift_deg for g in geometries for t in g.series.tilts)
    table: dict[str, list[float | int]] = {}
    losses: list[str] = []
    for geometry, number in zip(geometries, numbers.tolist(), strict=True):
        for label, values in _rows(geometry.series, int(number), optical, phases, seen).items():
            table.setdefault(label, []).extend(values)
        losses += _losses(geometry, with_ctf=optical)
    write_star(file, {_BLOCK: table})
    write_tomogram_numbers(names_file(file), used)
    return Written(files=(file, names_file(file)), losses=tuple(losses))


def _rows(
    series: TiltSeries, number: int, with_ctf: bool, with_phase: bool, with_optics: bool
) -> dict[str, list[float | int]]:
    tilts = series.tilts
    size = series.volume_size_px
    y, x = series.image_shape
    z = size[2] if size is not None else round((series.thickness_angstrom or 0.0) / series.pixel_size_angstrom)
    optics = series.optics or Optics()
    each: dict[str, float | int] = {"tomo_num": number, "pixelsize": series.pixel_size_angstrom}
    if z:
        each |= {"tomo_x": x, "tomo_y": y, "tomo_z": z, "z_shift": 0}
    rows: dict[str, list[float | int]] = {label: [value] * len(tilts) for label, value in each.items()}
    rows["tilt_angle"] = [t.nominal_tilt_deg if t.pose is None else t.pose.y_tilt_deg for t in tilts]
    fits = [t.ctf for t in tilts if t.ctf is not None]
    if with_ctf:
        rows["defocus"] = [f.defocus_angstrom / _UM for f in fits]
        rows["defocus1"] = [f.defocus_u_angstrom / _UM for f in fits]
        rows["defocus2"] = [f.defocus_v_angstrom / _UM for f in fits]
        rows["astig_ang"] = [f.astigmatism_angle_deg for f in fits]
        if with_phase:
            rows["pshift"] = [f.phase_shift_deg for f in fits]
    rows["exposure"] = [t.pre_exposure + t.dose for t in tilts]
    last = (("voltage", optics.voltage_kv), ("amp_contrast", optics.amplitude_contrast))
    for label, value in (*last, ("cs", optics.spherical_aberration_mm)) if with_optics else ():
        rows[label] = [value] * len(tilts)
    return rows


def _losses(geometry: SeriesGeometry, *, with_ctf: bool) -> list[str]:
    series = geometry.series
    poses = [t.pose for t in series.tilts if t.pose is not None]
    out = []
    if poses:
        shifts = np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for p in poses])
        size = float(np.sqrt((shifts**2).sum(axis=1).mean()))
        axis = float(np.median([p.z_rot_deg for p in poses]))
        out.append(
            f"the tilt axis ({axis:.2f} degrees) and the shifts (rms {size:.1f} A): a wedge list holds tilt angles only"
        )
        x_tilt = max(abs(p.x_tilt_deg) for p in poses)
        if x_tilt > 0:
            out.append(f"rotation about x, up to {x_tilt:.2f} degrees")
        magnified = max(abs(p.magnification - 1.0) for p in poses)
        if magnified > 0:
            out.append(f"magnification of images, up to {100 * magnified:.2f}%")
    if geometry.warp is not None:
        rms = float(np.sqrt((geometry.warp.displacement_angstrom**2).sum(axis=-1).mean()))
        out.append(f"the local deformation of the images (rms {rms:.1f} A)")
    if series.excluded:
        out.append(f"{len(series.excluded)} left-out images, which a wedge list does not name")
    if series.hand != -1.0:
        out.append(
            "the hand: STOPGAP always takes points higher up to have less underfocus (hand -1), and this series has +1"
        )
    if not with_ctf and any(t.ctf is not None for t in series.tilts):
        out.append("the defocus: not every image of every series has one")
    if series.volume_size_px is None and not series.thickness_angstrom:
        out.append("sizes of the tomogram, which are not known; STOPGAP then takes no defocus of single particles")
    return [f"{series.name}: {text}." for text in out]


FORMAT = GeometryFormat(
    name="stopgap",
    title="STOPGAP (wedge list)",
    words=GeometryWords(
        origin="none: a wedge list has no shifts",
        unit="pixels of images that are not binned; defocus um",
        hand="a point higher up after the tilt has less underfocus (-1)",
        angles="tilt as IMOD's aligned .tlt, turning z towards x; astigmatism from x towards y",
    ),
    recognises=recognises,
    read=read,
    write=write,
)
