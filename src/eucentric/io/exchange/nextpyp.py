"""Tilt series of nextPYP: the text files of one series, as it keeps them while it runs and as its import reads them.

nextPYP aligns with IMOD's programs, so `<name>.xf` and `<name>.tlt` are IMOD's, for the composed stack at full size. Beside
them lie `.order` (when each image was taken), `.def` (angle, two defoci in A, angle of astigmatism, score, resolution), and
`_exclude_views.next` (x, y and the number of the view, from 0) or the same as an IMOD model [1]_. `.ctf` holds the size of the
images, their pixel size and the voltage as its values 7, 8, 10 and 11. The project's `.pyp_config.toml` has the optics, the dose
of an image and `csp_ctf_handedness`, which nextPYP exports to RELION as rlnTomoHand 1 where true, else -1.

With the method `import`, nextPYP's alignment takes `<name>.tlt` and `<name>.xf` from a folder [2]_.

Between runs all of this is in `pkl/<name>.pkl`. A pickle can run any code when it is opened, so these are never opened.

References
----------
.. [1] nextpyp/pyp, `src/pyp/inout/metadata/pyp_metadata.py` (FILES_TOMO, LocalMetadata.meta2PYP)
.. [2] nextpyp/pyp, `tomo_ali_method` and `tomo_ali_import`
"""

import itertools
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.exchange.imod_like import (
    MAX_VIEWS,
    StackRows,
    checked_fit,
    image_stack,
    losses_of,
    series_of_rows,
    stack_rows,
)
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.imod import read_angle_table, read_angles, read_transforms, write_angles, write_transforms
from eucentric.io.imod_models import read_imod_model
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import FloatArray

_TITLE = "nextPYP (.xf, .tlt, .order, .def)"
_REASON = "left out in nextPYP"
_MARKS = (".order", ".def", "_exclude_views.next", "_exclude_views.mod")
_CONFIG = ".pyp_config.toml"
_LARGEST_CONFIG = 4_000_000
_DEEP = 2000  # files of a project that are looked at


def _stems(place: Path) -> list[Path]:
    """The series of a folder, each as its path without ending: those with a transform and angles."""
    found = itertools.islice((f for pattern in ("*.xf", "*/*.xf") for f in place.glob(pattern)), _DEEP)
    return sorted(f.with_suffix("") for f in found if f.with_suffix(".tlt").is_file())


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _recognises(place: Path) -> bool:
    try:
        if place.is_dir():
            if (place / _CONFIG).is_file() and (_stems(place) or any(place.glob("pkl/*.pkl"))):
                return True
            return any(_beside(s, mark).is_file() for s in _stems(place)[:20] for mark in _MARKS[:3])
        stem = place.with_suffix("")
        return place.suffix in (".xf", ".tlt", ".order", ".def") and any(
            _beside(stem, mark).is_file() for mark in _MARKS[:3]
        )
    except OSError:
        return False


def _read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    if place.suffix == ".pkl":
        raise FormatError(_pickled(place))
    stems = _stems(place) if place.is_dir() else [place.with_suffix("")]
    if not stems:
        if any(place.glob("*.pkl")) or any(place.glob("pkl/*.pkl")):
            raise FormatError(_pickled(place))
        raise InputError(f"`{place}` holds no series of nextPYP: expected `<name>.xf` and `<name>.tlt` of each.")
    return tuple(_series(stem, given) for stem in stems)


def _pickled(place: Path) -> str:
    return (
        f"`{place}` holds nextPYP's metadata only as pickles, which can run any code and are not opened. In nextPYP, export the "
        "project to RELION (block Export) and give those .star files, or give the folder with the .xf and .tlt of the series."
    )


def _series(stem: Path, given: Given) -> SeriesGeometry:
    xf, tlt = _beside(stem, ".xf"), _beside(stem, ".tlt")
    matrices, shifts = read_transforms(xf)
    angles = read_angles(tlt)
    count = len(angles)
    if count > MAX_VIEWS:
        raise FormatError(f"`{tlt}` lists {count} images; no tilt series has that many.")
    raw = _beside(stem, ".rawtlt")
    listed = read_angles(raw) if raw.is_file() else None
    notes = []
    if listed is None:
        notes.append(f"The angles of the stage are those of `{tlt.name}`, which nextPYP may have refined.")
    order = _column(_beside(stem, ".order"), count)
    fits, fit_note = _fits(_beside(stem, ".def"), angles if listed is None else listed)
    notes += fit_note
    size, shape, optics, dose, hand = _configured(stem)
    stack, own_size, own_shape, images = image_stack(stem.parent, stem.name)
    doses = None if dose is None else np.full(count, dose)
    made = series_of_rows(
        StackRows(
            angles_deg=angles,
            matrices=matrices,
            shifts_px=shifts,
            listed_deg=listed,
            order=order,
            first=1,
            doses=doses,
            excluded=_excluded(stem, count),
            images=[f"{i + 1}@{stack}" for i in range(count)] if stack is not None and images == count else None,
            fits=fits,
        ),
        given,
        xf,
        name=stem.name,
        source=f"nextPYP ({xf.name})",
        pixel_size_angstrom=size or own_size,
        image_shape=own_shape or shape,
        optics=optics,
        notes=notes,
    )
    if hand is None:
        return replace(made, notes=(*made.notes, "The files do not tell the hand of the defocus; -1 stands for it."))
    note = f"The hand of the defocus, {hand:g}, is that of csp_ctf_handedness in {_CONFIG}."
    return replace(made, series=made.series.replace(hand=hand), notes=(*made.notes, note))


def _column(path: Path, count: int) -> list[float] | None:
    if not path.is_file():
        return None
    values = read_angles(path)
    if len(values) != count:
        raise FormatError(f"`{path}` has {len(values)} lines, and the series {count} images; expected as many.")
    return [float(v) for v in values]


def _fits(path: Path, angles: FloatArray) -> tuple[list[CtfFit | None] | None, list[str]]:
    if not path.is_file():
        return None, []
    table = read_angle_table(path)
    if table.shape[1] < 4:
        raise FormatError(f"`{path}` has {table.shape[1]} columns; expected angle, two defoci and the angle between.")
    if len(table) != len(angles):
        raise FormatError(f"`{path}` has {len(table)} lines, and the series {len(angles)} images; expected as many.")
    more = np.full((len(table), 2), np.nan)
    more[:, : max(0, min(2, table.shape[1] - 4))] = table[:, 4:6]
    fits = [
        checked_fit(float(r[1]), float(r[2]), float(r[3]), score=float(m[0]), limit=float(m[1]))
        for r, m in zip(table, more, strict=True)
    ]
    return fits, []


def _excluded(stem: Path, count: int) -> dict[int, str]:
    listed, model = _beside(stem, "_exclude_views.next"), _beside(stem, "_exclude_views.mod")
    views: FloatArray = np.zeros(0)
    if listed.is_file():
        if listed.read_text(encoding="latin-1").strip():
            table = read_angle_table(listed)
            if table.shape[1] < 3:
                raise FormatError(f"`{listed}` has {table.shape[1]} columns; expected x, y and the number of the view.")
            views = table[:, 2]
    elif model.is_file():
        points = [c for contours in read_imod_model(model).objects for c in contours]
        views = np.concatenate([p[:, 2] for p in points]) if points else views
    good = views[np.isfinite(views)]
    return {round(v): _REASON for v in good.tolist() if 0 <= round(v) < count}


def _configured(
    stem: Path,
) -> tuple[float | None, tuple[int, int] | None, Optics | None, float | None, float | None]:
    """Pixel size, (y, x), optics, dose of an image and hand, from the project's settings and from `.ctf`."""
    size = shape = optics = dose = hand = None
    for folder in (stem.parent, stem.parent.parent):
        config = folder / _CONFIG
        if config.is_file() and config.stat().st_size < _LARGEST_CONFIG:
            try:
                values = tomllib.loads(config.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise FormatError(f"`{config}` is not a settings file that can be read ({error}).") from error
            size, dose = _positive(values.get("scope_pixel")), _positive(values.get("scope_dose_rate"))
            voltage, turned = _positive(values.get("scope_voltage")), values.get("csp_ctf_handedness")
            if isinstance(turned, bool):
                hand = 1.0 if turned else -1.0
            if voltage is not None and 20 <= voltage <= 3000:
                optics = Optics(
                    voltage_kv=voltage,
                    spherical_aberration_mm=_positive(values.get("scope_cs")) or 2.7,
                    amplitude_contrast=min(0.99, _positive(values.get("scope_wgh")) or 0.07),
                )
            break
    ctf = _beside(stem, ".ctf")
    if ctf.is_file():
        numbers = read_angles(ctf)
        if len(numbers) >= 11 and min(numbers[6:8]) >= 1 and max(numbers[6:8]) < 1e6:
            shape = (round(numbers[7]), round(numbers[6]))
            size = size or _positive(float(numbers[9]))
    return size, shape, optics, dose, hand


def _positive(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if good and isinstance(value, int | float) else None


def _write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    files: list[Path] = []
    losses: list[str] = []
    for stem, geometry in targets(place, geometries, (".xf", ".tlt")):
        every, rows = stack_rows(geometry)
        write_transforms(_beside(stem, ".xf"), rows.matrices, rows.shifts_px)
        write_angles(_beside(stem, ".tlt"), rows.angles_deg)
        write_angles(_beside(stem, ".rawtlt"), np.array([t.nominal_tilt_deg for t, _ in every]))
        write_text_atomic(_beside(stem, ".order"), "".join(f"{t.acquisition:f}\n" for t, _ in every))
        files += [_beside(stem, ending) for ending in (".xf", ".tlt", ".rawtlt", ".order")]
        fits = [t.ctf for t, _ in every]
        if any(fits):
            write_text_atomic(_beside(stem, ".def"), "".join(_line(t.nominal_tilt_deg, t.ctf) for t, _ in every))
            files.append(_beside(stem, ".def"))
        if rows.excluded:
            text = "".join(f"0 0 {i}\n" for i in sorted(rows.excluded))
            write_text_atomic(_beside(stem, "_exclude_views.next"), text)
            files.append(_beside(stem, "_exclude_views.next"))
        kept = {"magnification", "excluded", "ctf", "order", "stage angles", "hand"}
        losses += losses_of(geometry, "nextPYP", keeps=kept)
        if any(fits):
            turned = "true" if geometry.series.hand > 0 else "false"
            losses.append(
                f"nextPYP: The hand of the defocus is a setting of the project: csp_ctf_handedness = {turned}."
            )
    return Written(files=tuple(files), losses=tuple(losses))


def _line(angle: float, fit: CtfFit | None) -> str:
    if fit is None:
        return f"{angle:f}\t0.000000\t0.000000\t0.000000\t0.000000\t0.000000\n"
    score, limit = (value if np.isfinite(value) else 0.0 for value in (fit.score, fit.max_resolution_angstrom))
    values = (angle, fit.defocus_u_angstrom, fit.defocus_v_angstrom, fit.astigmatism_angle_deg, score, limit)
    return "\t".join(f"{value:f}" for value in values) + "\n"


FORMAT = GeometryFormat(
    name="nextpyp",
    title=_TITLE,
    words=GeometryWords(
        origin="transforms about the middle of the image, (n - 1) / 2 counted from 0",
        unit="pixels of the composed stack; defocus in A",
        hand="csp_ctf_handedness of the project: true is +1; -1 where it is not told",
        angles="degrees, as IMOD's: the stage's sign",
    ),
    recognises=_recognises,
    read=_read,
    write=_write,
)
