"""Tilt series and CTFs in Scipion's sets: `SetOfTiltSeries` and `SetOfCTFTomoSeries` (`.sqlite`).

A tilt image's `_transform` is IMOD's: [[A11, A12, DX], [A21, A22, DY], [0, 0, 1]] from raw to aligned in pixels of that series
(`TiltSeries.writeXfFile` copies it into an `.xf` [1]_), so a tilt series read back is what IMOD's `tilt` would reconstruct.
`_tiltAngle` is the refined angle once a series is aligned; that of the stage is not kept. Disabled images are excluded views.
`_acquisition._doseInitial` is what the specimen had received before an image, `_accumDose` after it, `_acqOrder` counts
from 1. CTFs (`CTFTomo`) are in A and degrees, and belong to the image of the same `_acqOrder`.

What is written here opens in Scipion as these sets (checked with scipion-em-tomo 3.12.4). For its import protocols, IMOD's
`.xf` and `.tlt` and a `.defocus` file of each series lie beside them.

References
----------
.. [1] scipion-em/scipion-em-tomo, `tomo/objects.py` (TiltImage, TiltSeries, CTFTomo)
"""

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
    image_label,
    image_stack,
    losses_of,
    resolved,
    series_of_rows,
    stack_name,
    stack_rows,
    without_poses,
)
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written
from eucentric.io.imod import write_angles, write_transforms
from eucentric.io.scipion_sets import (
    Column,
    Row,
    ScipionItem,
    ScipionSet,
    read_scipion_set,
    scipion_set_kind,
    write_scipion_set,
)
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt

_SERIES, _CTFS = "SetOfTiltSeries", "SetOfCTFTomoSeries"
_MOVIES = "SetOfTiltSeriesM"
_FILES = ("tiltseries.sqlite", "ctfs.sqlite")
_REASON = "disabled in Scipion"
_MAX_FILES = 500
_ACQUISITION: tuple[Column, ...] = (
    ("_acquisition", "TomoAcquisition"),
    *(
        (f"_acquisition._{name}", "Float")
        for name in (
            "magnification",
            "voltage",
            "sphericalAberration",
            "amplitudeContrast",
            "doseInitial",
            "dosePerFrame",
        )
    ),
    ("_acquisition.opticsGroupInfo", "String"),
    *((f"_acquisition._{name}", "Float") for name in ("angleMin", "angleMax", "step", "accumDose", "tiltAxisAngle")),
)
_SERIES_COLUMNS: tuple[Column, ...] = (
    ("_size", "Integer"),
    ("_streamState", "Integer"),
    ("_samplingRate", "Float"),
    ("_hasCtf", "Boolean"),
    ("_alignment", "String"),
    ("_isPhaseFlipped", "Boolean"),
    ("_isAmplitudeCorrected", "Boolean"),
    *_ACQUISITION,
    ("_firstDim", "ImageDim"),
    ("_tsId", "String"),
    ("_origin", "Transform"),
    ("_origin._matrix", "Matrix"),
    ("_anglesCount", "Integer"),
    ("_hasAlignment", "Boolean"),
    ("_hasOddEven", "Boolean"),
    ("_interpolated", "Boolean"),
    ("_ctfCorrected", "Boolean"),
)
_IMAGE_COLUMNS: tuple[Column, ...] = (
    ("_index", "Integer"),
    ("_filename", "String"),
    ("_samplingRate", "Float"),
    *_ACQUISITION,
    ("_transform", "Transform"),
    ("_transform._matrix", "Matrix"),
    ("_tiltAngle", "Float"),
    ("_tsId", "String"),
    ("_acqOrder", "Integer"),
    ("_oddEvenFileNames", "CsvList"),
)
_CTF_SERIES_COLUMNS: tuple[Column, ...] = (
    ("_size", "Integer"),
    ("_streamState", "Integer"),
    ("_tsId", "String"),
    ("_isDefocusUDeviationInRange", "Boolean"),
    ("_isDefocusVDeviationInRange", "Boolean"),
)
_CTF_COLUMNS: tuple[Column, ...] = (
    ("_defocusU", "Float"),
    ("_defocusV", "Float"),
    ("_defocusAngle", "Float"),
    ("_defocusRatio", "Float"),
    ("_phaseShift", "Float"),
    ("_psdFile", "String"),
    ("_resolution", "Float"),
    ("_fitQuality", "Float"),
    ("_index", "Integer"),
    ("_acqOrder", "Integer"),
)
_NO_TURN = "[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]"


def _sets_in(place: Path) -> dict[Path, str]:
    """The sets of a file, or of a protocol's or project's folder: path -> class."""
    if place.is_file():
        files = [place]
    else:
        patterns = ("*.sqlite", "Runs/*/*.sqlite")
        files = sorted({f for pattern in patterns for f in place.glob(pattern)})[:_MAX_FILES]
    kinds = {}
    for file in files:
        try:
            kinds[file] = scipion_set_kind(file)
        except FormatError:
            if place.is_file():
                raise
    return kinds


def _recognises(place: Path) -> bool:
    try:
        return any(kind in (_SERIES, _MOVIES) for kind in _sets_in(place).values())
    except (OSError, FormatError):
        return False


def _read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    kinds = _sets_in(place)
    found = [f for f, k in kinds.items() if k == _SERIES] or [f for f, k in kinds.items() if k == _MOVIES]
    if not found:
        if place.is_file():
            what = f"a {kinds[place]}" if kinds.get(place) else "no set of Scipion"
            raise FormatError(f"`{place}` is {what}; expected the .sqlite of a set of tilt series.")
        raise InputError(f"`{place}` holds no set of tilt series of Scipion (.sqlite).")
    chosen = _latest(found)
    notes = []
    if len(found) > 1:
        notes.append(f"Of {len(found)} sets of tilt series the newest aligned one was read, `{chosen}`.")
    beside = {f: k for f, k in (kinds if place.is_dir() else _sets_in(chosen.parent)).items() if k == _CTFS}
    ctfs: dict[str, tuple[ScipionItem, ...]] = {}
    if beside:
        newest = max(beside, key=lambda f: f.stat().st_mtime)
        ctfs = _ctfs(read_scipion_set(newest))
        notes.append(f"The contrast transfer is that of `{newest.name}`.")
    whole = read_scipion_set(chosen)
    series = [
        _series(item, whole, chosen, given, ctfs.get(item.text("_tsId"), ()), tuple(notes))
        for item in whole.items
        if item.enabled
    ]
    if not series:
        raise InputError(f"`{chosen}` holds no tilt series that is enabled.")
    return tuple(series)


def _latest(files: Sequence[Path]) -> Path:
    """The newest set that is aligned and not interpolated, else the newest."""

    def rank(file: Path) -> tuple[bool, float]:
        try:
            properties = read_scipion_set(file).properties if len(files) > 1 else {}
        except FormatError:
            return False, -1.0
        good = properties.get("_hasAlignment") == "True" and properties.get("_interpolated") != "True"
        return good, file.stat().st_mtime

    return max(files, key=rank)


def _ctfs(whole: ScipionSet) -> dict[str, tuple[ScipionItem, ...]]:
    return {item.text("_tsId"): whole.within.get(f"id{item.ident}", ()) for item in whole.items}


def _series(
    item: ScipionItem,
    whole: ScipionSet,
    place: Path,
    given: Given,
    ctfs: Sequence[ScipionItem],
    notes: tuple[str, ...],
) -> SeriesGeometry:
    name = item.text("_tsId")
    images = whole.within.get(name) or whole.within.get(f"id{item.ident}") or ()
    if not name or not images:
        raise FormatError(f"`{place}` has no images of series {name or item.ident}; it is damaged.")
    if len(images) > MAX_VIEWS:
        raise FormatError(f"`{place}` has {len(images)} images of {name}; no tilt series has that many.")
    turned = [m if (m := i.matrix("_transform._matrix")) is not None else np.eye(3) for i in images]
    if any(m.shape[0] < 3 for m in turned):
        raise FormatError(f"`{place}` has a transform of {name} that is not 3 x 3.")
    matrices, shifts = np.array([m[:2, :2] for m in turned]), np.array([m[:2, 2] for m in turned])
    angles = np.array([_needed(i, "_tiltAngle", place) for i in images])
    own_notes = [
        *notes,
        "Scipion does not keep the angles of the stage; those of the alignment stand for them.",
        "Scipion does not keep the hand of the defocus; -1 stands for it.",
    ]
    if item.number("_interpolated"):
        own_notes.append(f"The images of {name} were turned and shifted in Scipion already (interpolated).")
    orders = [i.number("_acqOrder") for i in images]
    order = [o for o in orders if o is not None]
    size = item.number("_samplingRate") or images[0].number("_samplingRate")
    made = series_of_rows(
        StackRows(
            angles_deg=angles,
            matrices=matrices,
            shifts_px=shifts,
            order=order if len(order) == len(images) else None,
            first=1,
            doses=_doses(images),
            before=_before(images),
            excluded={i: _REASON for i, image in enumerate(images) if not image.enabled},
            images=[_image(i, place) for i in images],
            fits=_fits(images, ctfs),
        ),
        given,
        place,
        name=name,
        source=f"Scipion ({place.name})",
        pixel_size_angstrom=size if size and size > 0 else None,
        image_shape=_shape(item, images, place),
        optics=_optics(item, images),
        notes=own_notes,
    )
    if whole.kind == _MOVIES:
        made = _of_movies(made)
    if any(i.matrix("_transform._matrix") is not None for i in images):
        return made
    axis = item.number("_acquisition._tiltAxisAngle")
    return without_poses(made, axis, f"{name} is not aligned in `{place.name}`.")


def _of_movies(made: SeriesGeometry) -> SeriesGeometry:
    """The same series whose files are movies, not images."""
    series = made.series
    tilts = tuple(replace(t, movie=t.image, image=None) for t in series.tilts)
    gone = tuple(replace(e, tilt=replace(e.tilt, movie=e.tilt.image, image=None)) for e in series.excluded)
    return replace(made, series=series.replace(tilts=tilts, excluded=gone))


def _needed(item: ScipionItem, name: str, place: Path) -> float:
    value = item.number(name)
    if value is None:
        raise FormatError(f"`{place}` has an image without {name.lstrip('_')}; expected a number.")
    return value


def _doses(images: Sequence[ScipionItem]) -> np.ndarray | None:
    """(image,) dose of each: what it adds to the dose before it, else the dose of a frame."""
    found = []
    for image in images:
        before, after = image.number("_acquisition._doseInitial"), image.number("_acquisition._accumDose")
        each = image.number("_acquisition._dosePerFrame")
        added = after - before if before is not None and after is not None and after > before else each
        if added is None or added < 0:
            return None
        found.append(added)
    return np.array(found)


def _before(images: Sequence[ScipionItem]) -> np.ndarray | None:
    """(image,) dose before each; None where one is missing or two have the same."""
    found = [image.number("_acquisition._doseInitial") for image in images]
    known = [value for value in found if value is not None and value >= 0]
    return np.array(known) if len(known) == len(images) == len(set(known)) else None


def _image(item: ScipionItem, place: Path) -> str | None:
    name, index = item.text("_filename").removesuffix(":mrc").removesuffix(":mrcs"), item.number("_index")
    if not name:
        return None
    path = resolved(name, place.parent)
    return f"{int(index)}@{path}" if index else path


def _shape(item: ScipionItem, images: Sequence[ScipionItem], place: Path) -> tuple[int, int] | None:
    words = item.text("_firstDim").split(",")
    if len(words) >= 2 and all(w.strip().isdecimal() and len(w) < 7 for w in words[:2]):
        x, y = int(words[0]), int(words[1])
        if min(x, y) > 0:
            return y, x
    file = Path(resolved(images[0].text("_filename").split(":")[0], place.parent))
    return image_stack(file.parent, file.stem)[2] if file.is_file() else None


def _optics(item: ScipionItem, images: Sequence[ScipionItem]) -> Optics | None:
    for source in (item, images[0]):
        voltage = source.number("_acquisition._voltage")
        cs = source.number("_acquisition._sphericalAberration")
        contrast = source.number("_acquisition._amplitudeContrast")
        if voltage and 20 <= voltage <= 3000 and contrast is not None and 0 <= contrast < 1:
            return Optics(voltage_kv=voltage, spherical_aberration_mm=cs or 0.0, amplitude_contrast=contrast)
    return None


def _fits(images: Sequence[ScipionItem], ctfs: Sequence[ScipionItem]) -> list[CtfFit | None]:
    """Fits of images, by their order in time, else by their place in the stack."""
    by_order = {c.number("_acqOrder"): c for c in ctfs if c.enabled and c.number("_acqOrder") is not None}
    by_index = {c.number("_index"): c for c in ctfs if c.enabled} if not by_order else {}
    fits: list[CtfFit | None] = []
    for image in images:
        found = by_order.get(image.number("_acqOrder")) or by_index.get(image.number("_index"))
        fits.append(None if found is None else _fit(found))
    return fits


def _fit(item: ScipionItem) -> CtfFit | None:
    u, v, angle = (item.number(name) for name in ("_defocusU", "_defocusV", "_defocusAngle"))
    if u is None or v is None:
        return None
    score, limit = item.number("_fitQuality"), item.number("_resolution")
    return checked_fit(
        u,
        v,
        angle or 0.0,
        phase=item.number("_phaseShift") or 0.0,
        score=np.nan if score is None else score,
        limit=np.nan if limit is None else limit,
    )


def _write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    folder = place.parent if place.suffix == ".sqlite" else place
    series_file = place if place.suffix == ".sqlite" else folder / _FILES[0]
    names = [g.series.name for g in geometries]
    if len(set(names)) < len(names):
        raise InputError(f"Two tilt series have the same name ({', '.join(names[:6])}); expected each its own.")
    prefixes = [_prefix(name) for name in names]
    rows: list[Row] = []
    within: dict[str, tuple[str, Sequence[Column], Sequence[Row]]] = {}
    ctf_rows: list[Row] = []
    ctf_within: dict[str, tuple[str, Sequence[Column], Sequence[Row]]] = {}
    files, losses = [series_file], list[str]()
    for ident, (prefix, geometry) in enumerate(zip(prefixes, geometries, strict=True), 1):
        every, stack = stack_rows(geometry)
        rows.append((ident, True, _series_values(geometry, every, prefix)))
        within[prefix] = ("TiltImage", _IMAGE_COLUMNS, _image_rows(geometry, every, stack, prefix))
        fits = [t.ctf for t, _ in every]
        if any(fits):
            ctf_rows.append((ident, True, (sum(f is not None for f in fits), 2, prefix, 1, 1)))
            ctf_within[f"id{ident}"] = ("CTFTomo", _CTF_COLUMNS, _ctf_rows(every))
        files += _import_files(folder / geometry.series.name, every, stack)
        losses += losses_of(
            geometry, "Scipion", keeps={"magnification", "excluded", "ctf", "phase shift", "dose", "order"}
        )
        if geometry.series.excluded:
            losses.append("Scipion: why views are excluded is lost; they are disabled.")
        if prefix != geometry.series.name:
            losses.append(f"Scipion: {geometry.series.name} is called {prefix}, as Scipion's names allow.")
    properties = _series_properties(geometries, rows)
    write_scipion_set(series_file, properties, "TiltSeries", _SERIES_COLUMNS, rows, within)
    if ctf_rows:
        ctf_file = series_file.with_name(
            _FILES[1] if series_file.name == _FILES[0] else f"{series_file.stem}_{_FILES[1]}"
        )
        held: dict[str, str | float | int | None] = {"self": _CTFS, "_size": len(ctf_rows), "_streamState": 2}
        write_scipion_set(ctf_file, held, "CTFTomoSeries", _CTF_SERIES_COLUMNS, ctf_rows, ctf_within)
        files.insert(1, ctf_file)
    return Written(files=tuple(files), losses=tuple(losses))


def _prefix(name: str) -> str:
    """A name that Scipion can call a table: letters, digits and underscores, with a letter first."""
    clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return clean if clean[:1].isalpha() else f"TS_{clean}"


def _acquisition(geometry: SeriesGeometry, before: float, after: float, each: float) -> tuple[float | str | None, ...]:
    series = geometry.series
    optics = series.optics or Optics()
    angles = [t.nominal_tilt_deg for t in series.tilts]
    step = (angles[-1] - angles[0]) / max(1, len(angles) - 1)
    axis = float(np.median([t.pose.z_rot_deg for t in series.tilts if t.pose is not None]))
    lenses = (optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast)
    return (None, 50000.0, *lenses, before, each, None, angles[0], angles[-1], step, after, axis)


def _series_values(
    geometry: SeriesGeometry, every: Sequence[tuple[Tilt, str | None]], name: str
) -> tuple[str | float | int | None, ...]:
    series = geometry.series
    y, x = series.image_shape
    total = max(t.pre_exposure + t.dose for t, _ in every)
    each = float(np.mean([t.dose for t, _ in every]))
    head = (len(every), 2, series.pixel_size_angstrom, 0, "None", 0, 0)
    tail = (f"{x},{y},{len(every)}", name, None, _NO_TURN, len(every), 1, 0, 0, 0)
    return (*head, *_acquisition(geometry, 0.0, total, each), *tail)


def _image_rows(
    geometry: SeriesGeometry, every: Sequence[tuple[Tilt, str | None]], stack: StackRows, name: str
) -> list[Row]:
    file = stack_name(geometry)
    rows: list[Row] = []
    for i, (tilt, reason) in enumerate(every):
        number, path = image_label(tilt, i + 1, file)
        a, d = stack.matrices[i], stack.shifts_px[i]
        matrix = [[*map(float, a[0]), float(d[0])], [*map(float, a[1]), float(d[1])], [0.0, 0.0, 1.0]]
        dose = _acquisition(geometry, tilt.pre_exposure, tilt.pre_exposure + tilt.dose, tilt.dose)
        head = (number, path, geometry.series.pixel_size_angstrom)
        tail = (None, str(matrix), float(stack.angles_deg[i]), name, tilt.acquisition + 1, "")
        rows.append((i + 1, reason is None, (*head, *dose, *tail)))
    return rows


def _ctf_rows(every: Sequence[tuple[Tilt, str | None]]) -> list[Row]:
    rows: list[Row] = []
    for i, (tilt, reason) in enumerate(every):
        fit = tilt.ctf
        if fit is None:
            continue
        u, v = fit.defocus_u_angstrom, fit.defocus_v_angstrom
        score, limit = (n if np.isfinite(n) else None for n in (fit.score, fit.max_resolution_angstrom))
        values = (u, v, fit.astigmatism_angle_deg, u / v if v else None, fit.phase_shift_deg, None, limit, score)
        rows.append((len(rows) + 1, reason is None, (*values, i + 1, tilt.acquisition + 1)))
    return rows


def _series_properties(
    geometries: Sequence[SeriesGeometry], rows: Sequence[Row]
) -> dict[str, str | float | int | None]:
    names = [name for name, _ in _SERIES_COLUMNS]
    first = dict(zip(names, rows[0][2], strict=True))
    held: dict[str, str | float | int | None] = {
        "self": _SERIES,
        "_size": len(rows),
        "_streamState": 2,
        "_samplingRate": geometries[0].series.pixel_size_angstrom,
        "_hasCtf": "False",
        "_alignment": "None",
        "_isPhaseFlipped": "False",
        "_isAmplitudeCorrected": "False",
    }
    held |= {name: value for name, value in first.items() if name.startswith("_acquisition")}
    counts = {len(g.series.tilts) + len(g.series.excluded) for g in geometries}
    return held | {
        "_firstDim": first["_firstDim"],
        "_anglesCount": first["_anglesCount"],
        "_hasAlignment": "True",
        "_hasOddEven": "False",
        "_ctfCorrected": "False",
        "_interpolated": "False",
        "_isHeterogeneous": str(len(counts) > 1),
    }


def _import_files(stem: Path, every: Sequence[tuple[Tilt, str | None]], stack: StackRows) -> list[Path]:
    """IMOD's `.xf`, `.tlt` and `.defocus` (version 3: nm, degrees), which Scipion's import protocols read."""
    xf, tlt, defocus = (stem.with_name(stem.name + ending) for ending in (".xf", ".tlt", ".defocus"))
    write_transforms(xf, stack.matrices, stack.shifts_px)
    write_angles(tlt, stack.angles_deg)
    fits = [t.ctf for t, _ in every]
    if not any(fits):
        return [xf, tlt]
    phase = any(f.phase_shift_deg for f in fits if f is not None)
    lines = [f"{1 + 4 * phase} 0 0. 0. 0 3"]
    for i, fit in enumerate(fits):
        if fit is None:
            continue
        angle = float(stack.angles_deg[i])
        line = (
            f"{i + 1} {i + 1} {angle:.2f} {angle:.2f} {fit.defocus_u_angstrom / 10:.2f} {fit.defocus_v_angstrom / 10:.2f} "
            f"{fit.astigmatism_angle_deg:.2f}"
        )
        lines.append(f"{line} {fit.phase_shift_deg:.2f}" if phase else line)
    write_text_atomic(defocus, "".join(line + "\n" for line in lines))
    return [xf, tlt, defocus]


FORMAT = GeometryFormat(
    name="scipion",
    title="Scipion (sets of tilt series and CTFs, .sqlite, with .xf, .tlt and .defocus for its import protocols)",
    words=GeometryWords(
        origin="transforms about the middle of the image, (n - 1) / 2 counted from 0",
        unit="pixels of the series; defocus in A",
        hand="not told; -1 stands for it",
        angles="degrees, as IMOD's: the stage's sign",
    ),
    recognises=_recognises,
    read=_read,
    write=_write,
)
