"""Tilt series in Xmipp's metadata (`<name>_ts.xmd`).

A row an image: `image` (number@stack), `tiltSeriesId`, `angleTilt`, `angleRot`, `shiftX`, `shiftY`, and perhaps
`ctfDefocusU`, `ctfDefocusV`, `ctfDefocusAngle` (A, degrees) and `dose` (what the specimen had received after it). A point
(x, y, z), in pixels from the middle of the tomogram, is seen at ``R^-1 (q - t) + n / 2``, with ``q = (x cos tilt + z sin tilt, y)``,
``R = [[cos rot, -sin rot], [sin rot, cos rot]]`` and t the shifts [1]_. So rot is minus rlnTomoZRot and tilt is rlnTomoYTilt.

Scipion's plugin writes rot between -90 and 90 degrees only, and the second defocus under the name of the first [2]_; where the
second is missing, the first stands for both.

References
----------
.. [1] I2PC/xmipp, `libraries/tomo/tomo_extract_particlestacks.cpp` (getCoordinateOnTiltSeries)
.. [2] I2PC/scipion-em-xmipptomo, `xmipptomo/utils.py` (writeMdTiltSeries)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.exchange.from_views import exposures_of_sums
from eucentric.io.exchange.imod_like import (
    MAX_VIEWS,
    StackRows,
    checked_fit,
    image_label,
    image_stack,
    losses_of,
    resolved,
    series_of_rows,
    stack_name,
    stack_rows,
    without_poses,
)
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.mrc import read_mrc_header
from eucentric.io.xmipp_metadata import Table, is_xmd, read_xmd, write_xmd, xmd_numbers
from eucentric.models.optics import Optics
from eucentric.typing import FloatArray

_ENDING = "_ts.xmd"
_NEEDED = ("image", "angleTilt")
_MAX_FILES = 500


def _table(place: Path) -> Table | None:
    """The table of images, None where the file has none."""
    return next((t for t in read_xmd(place).values() if all(label in t for label in _NEEDED)), None)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = [f for pattern in ("*.xmd", "*/*.xmd") for f in sorted(place.glob(pattern))[:_MAX_FILES]]
    return [f for f in found if is_xmd(f)]


def _recognises(place: Path) -> bool:
    try:
        for file in _files(place)[:20]:
            head = file.read_bytes()[:4000].decode("latin-1")
            if is_xmd(file) and all(f"_{label}" in head for label in _NEEDED) and "_xcoor" not in head:
                return True
    except OSError:
        return False
    return False


def _read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    made = []
    for file in _files(place):
        table = _table(file)
        if table is None and place.is_file():
            raise FormatError(f"`{place}` is no tilt series of Xmipp: expected the labels {', '.join(_NEEDED)}.")
        if table is not None and "xcoor" not in table:
            made += _series_of(table, file, given)
    if not made:
        raise InputError(f"`{place}` holds no tilt series of Xmipp (`*{_ENDING}`).")
    return tuple(made)


def _series_of(table: Table, file: Path, given: Given) -> list[SeriesGeometry]:
    count = len(table["image"])
    if not 1 <= count <= MAX_VIEWS:
        raise FormatError(f"`{file}` lists {count} images; expected those of tilt series.")
    names = table.get("tiltSeriesId") or [file.name.removesuffix(_ENDING).removesuffix(".xmd")] * count
    series = []
    for name in dict.fromkeys(names):
        rows = [i for i in range(count) if names[i] == name]
        series.append(_series({label: [column[i] for i in rows] for label, column in table.items()}, name, file, given))
    return series


def _series(table: Table, name: str, file: Path, given: Given) -> SeriesGeometry:
    count = len(table["image"])

    def column(label: str) -> FloatArray:
        found = xmd_numbers(table, label, file)
        return np.zeros(count) if found is None else found

    turn = np.deg2rad(column("angleRot"))
    matrices = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
    dose = xmd_numbers(table, "dose", file)
    if dose is not None and (len(np.unique(dose)) < count or not (dose >= 0).all()):
        dose = None
    u, angle, phase = column("ctfDefocusU"), column("ctfDefocusAngle"), column("ctfPhaseShift")
    v = column("ctfDefocusV") if "ctfDefocusV" in table else u
    notes = [
        "Xmipp's metadata do not keep the angles of the stage; those of the alignment stand for them.",
        "Xmipp's metadata do not tell the hand of the defocus; -1 stands for it.",
    ]
    if phase.any():
        notes.append("Phase shifts were not taken over.")
    if "ctfDefocusU" in table and "ctfDefocusV" not in table:
        notes.append(f"`{file.name}` has one defocus for each image; astigmatism was set to none.")
    enabled = column("enabled") if "enabled" in table else np.ones(count)
    images = [_image(text, file) for text in table["image"]]
    size, shape = _size(images)
    given_size = xmd_numbers(table, "ctfSamplingRate", file)
    made = series_of_rows(
        StackRows(
            angles_deg=column("angleTilt"),
            matrices=matrices,
            shifts_px=np.stack([column("shiftX"), column("shiftY")], axis=1),
            order=None if dose is None else np.argsort(np.argsort(dose)).tolist(),
            doses=None if dose is None else exposures_of_sums(dose)[0],
            before=None if dose is None else exposures_of_sums(dose)[1],
            excluded=dict.fromkeys(np.flatnonzero(enabled <= 0).tolist(), "disabled in Xmipp"),
            images=images,
            fits=[checked_fit(float(a), float(b), float(c)) for a, b, c in zip(u, v, angle, strict=True)],
            centre="half",
        ),
        given,
        file,
        name=name,
        source=f"Xmipp ({file.name})",
        pixel_size_angstrom=float(given_size[0]) if given_size is not None and given_size[0] > 0 else size,
        image_shape=shape,
        optics=_optics(table, file),
        notes=notes,
    )
    if "angleRot" in table:
        return made
    return without_poses(made, None, f"{name} is not aligned in `{file.name}`: there is no angleRot.")


def _image(text: str, file: Path) -> str:
    number, at, name = text.partition("@")
    if not at:
        return resolved(text, file.parent)
    return f"{int(number) if number.isdecimal() else number}@{resolved(name, file.parent)}"


def _size(images: Sequence[str]) -> tuple[float | None, tuple[int, int] | None]:
    path = Path(images[0].partition("@")[2] or images[0])
    if path.is_file():
        try:
            header = read_mrc_header(path)
        except InputError:
            return None, None
        voxel = header.voxel_size_angstrom
        return None if voxel is None else voxel[0], header.shape[1:]
    return image_stack(path.parent, path.stem)[1:3]


def _optics(table: Table, file: Path) -> Optics | None:
    found = [xmd_numbers(table, label, file) for label in ("ctfVoltage", "ctfSphericalAberration", "ctfQ0")]
    if found[0] is None or not 20 <= found[0][0] <= 3000:
        return None
    cs, contrast = (None if f is None else float(f[0]) for f in found[1:])
    return Optics(
        voltage_kv=float(found[0][0]),
        spherical_aberration_mm=2.7 if cs is None else cs,
        amplitude_contrast=contrast if contrast is not None and 0 <= contrast < 1 else 0.07,
    )


def _write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    files, losses = list[Path](), list[str]()
    for stem, geometry in targets(place, geometries, (_ENDING, ".xmd")):
        series = geometry.series
        every, rows = stack_rows(geometry)
        plain = rows.matrices / np.sqrt(np.linalg.det(rows.matrices))[:, None, None]
        to_middle = np.einsum("tij,tj->ti", rows.matrices, np.full((len(every), 2), 0.5))  # turn about n / 2 instead
        shifts = np.einsum("tij,tjk,tk->ti", plain, np.linalg.inv(rows.matrices), rows.shifts_px + to_middle)
        labels = [image_label(t, i + 1, stack_name(geometry)) for i, (t, _) in enumerate(every)]
        table: dict[str, list[object]] = {
            "enabled": [1 if reason is None else -1 for _, reason in every],
            "image": [f"{number:06d}@{path}" for number, path in labels],
            "tiltSeriesId": [series.name] * len(every),
            "angleTilt": rows.angles_deg.tolist(),
            "angleRot": np.rad2deg(np.arctan2(plain[:, 1, 0], plain[:, 0, 0])).tolist(),
            "shiftX": shifts[:, 0].tolist(),
            "shiftY": shifts[:, 1].tolist(),
            "dose": [t.pre_exposure + t.dose for t, _ in every],
        }
        fits = [t.ctf for t, _ in every]
        if any(fits):
            optics = series.optics or Optics()
            table |= {
                "ctfDefocusU": [0.0 if f is None else f.defocus_u_angstrom for f in fits],
                "ctfDefocusV": [0.0 if f is None else f.defocus_v_angstrom for f in fits],
                "ctfDefocusAngle": [0.0 if f is None else f.astigmatism_angle_deg for f in fits],
                "ctfVoltage": [optics.voltage_kv] * len(every),
                "ctfSphericalAberration": [optics.spherical_aberration_mm] * len(every),
                "ctfQ0": [optics.amplitude_contrast] * len(every),
            }
        table["ctfSamplingRate"] = [series.pixel_size_angstrom] * len(every)
        file = stem.with_name(stem.name + _ENDING)
        write_xmd(file, table)
        files.append(file)
        losses += losses_of(geometry, "Xmipp", keeps={"excluded", "ctf", "dose", "order"})
        if series.excluded:
            losses.append("Xmipp: why views are excluded is lost; they are disabled.")
    return Written(files=tuple(files), losses=tuple(losses))


FORMAT = GeometryFormat(
    name="xmipp",
    title="Xmipp (tilt series, .xmd)",
    words=GeometryWords(
        origin="transforms about n / 2, counted from 0",
        unit="pixels of the images; defocus in A",
        hand="not told; -1 stands for it",
        angles="degrees: angleTilt as the stage's, angleRot from the image's axis to y",
    ),
    recognises=_recognises,
    read=_read,
    write=_write,
)
