"""Tilt series that Appion aligned with Protomo, from images taken by Leginon: a run's folder.

Such a run has `series0001.tlt`, and one more for each iteration (`series0001000.tlt`, `series0001001.tlt`, ...), all in Protomo's
format, the images in `raw`, and `ctf_correction/series0001_defocus.txt` in IMOD's (version 2, nm) [1]_. The last iteration is
read. Images of `original_*.tlt`, `initial_*.tlt` or of the first geometry that it lacks were taken out in Appion. Leginon ends
the name of an image with its number in the series, from 1, in the order in which they were taken [2]_. Doses and pixel sizes are
only in Leginon's database.

References
----------
.. [1] leginon-org/leginon, `appionlib/apProTomo2Prep.py` (writeTiltFile, ctfCorrect), `protomo2reconstruction.py`
.. [2] leginon-org/leginon, `leginon/tomography/tiltseries.py` (saveImage)
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.ctf_estimates import ExternalCtf, read_imod_defocus
from eucentric.io.exchange.from_views import numbers_in_time
from eucentric.io.exchange.imod_like import stack_rows
from eucentric.io.exchange.protomo import (
    ProtomoGeometry,
    image_names,
    is_protomo_geometry,
    protomo_losses,
    protomo_series,
    protomo_text,
    read_protomo_geometry,
)
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.external_alignments import LeftOutView
from eucentric.io.imod import write_angles
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt

_ITERATION = re.compile(r"(?P<series>.*?series\d{4})(?P<iteration>\d{2,3})?$")
_TAKEN = re.compile(r"_(\d{3,4})(?:[-.].*)?$")
_FIRST = ("original_", "initial_")
_DEFOCUS = "ctf_correction"
_SAME_DEG = 0.3


def _geometries(place: Path) -> dict[str, list[tuple[int, Path]]]:
    """Of each series of a folder its geometries, the last iteration last; -1 is what the run began with."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in sorted(place.glob("*.tlt")):
        if file.name.startswith(("coarse_", "imod_", "manual_", *_FIRST)) or not is_protomo_geometry(file):
            continue
        match = _ITERATION.match(file.stem)
        name = match["series"] if match else file.stem
        number = int(match["iteration"]) if match and match["iteration"] else -1
        found.setdefault(name, []).append((number, file))
    return {name: sorted(files) for name, files in found.items()}


def _recognises(place: Path) -> bool:
    if not place.is_dir():
        return place.suffix == ".tlt" and bool(_ITERATION.match(place.stem)) and is_protomo_geometry(place)
    found = _geometries(place)
    marked = any((place / mark).is_dir() for mark in (_DEFOCUS, "raw", "coarse_out", "recons"))
    return bool(found) and (marked or any(_ITERATION.match(name) for name in found))


def _read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    if place.is_file():
        return (_series(place, [(-1, place)], place.parent, given),)
    found = _geometries(place)
    if not found:
        raise InputError(
            f"`{place}` holds no geometry of an Appion run with Protomo (series*.tlt). Give the run's folder."
        )
    return tuple(_series(files[-1][1], files, place, given) for files in found.values())


def _series(file: Path, files: Sequence[tuple[int, Path]], folder: Path, given: Given) -> SeriesGeometry:
    last = read_protomo_geometry(file)
    match = _ITERATION.match(file.stem)
    name = match["series"] if match else file.stem
    before = [folder / f"{mark}{name}.tlt" for mark in _FIRST] + [files[0][1]]
    known = next((read_protomo_geometry(f) for f in before if is_protomo_geometry(f)), last)
    gone = [image for number, image in known.images.items() if number not in last.images]
    left_out = [
        (
            LeftOutView(
                reason="taken out in Appion",
                listed_deg=image.tilt_deg,
                names=() if image.file is None else (image.file,),
            ),
            image.file,
        )
        for image in gone
    ]
    order = _order([i.file for i in (*last.images.values(), *gone)])
    notes = ["Doses are only in Leginon's database."] if not given.dose_per_tilt else []
    if len(files) > 1:
        notes.append(f"Of {len(files)} geometries of {name} the last iteration was read, `{file.name}`.")
    made = protomo_series(file, replace(given, name=given.name or name), order=order, left_out=left_out, notes=notes)
    defocus = folder / _DEFOCUS / f"{name}_defocus.txt"
    if not defocus.is_file():
        return made
    return _with_ctf(made, read_imod_defocus(defocus), known)


def _order(names: Sequence[str | None]) -> list[int] | None:
    """Numbers in time that Leginon gave the names of images, from 0; None where they have none or share them."""
    numbers = [int(m[1]) if name and (m := _TAKEN.search(name)) else None for name in names]
    if None in numbers or len(set(numbers)) < len(numbers):
        return None
    return numbers_in_time(np.array(numbers, dtype=np.float64), first=1)


def _with_ctf(made: SeriesGeometry, ctf: ExternalCtf, known: ProtomoGeometry) -> SeriesGeometry:
    """Fits by the angle that stands beside them, which is that of the image in the run's first geometry."""
    angles = {image.file: image.tilt_deg for image in known.images.values()}

    def fitted(tilt: Tilt) -> Tilt:
        stem = Path(tilt.image or "").stem
        angle = angles.get(tilt.image) if tilt.image in angles else angles.get(stem)
        wanted = tilt.nominal_tilt_deg if angle is None else angle
        fits: list[tuple[float, CtfFit]] = [
            (abs(e.listed_deg - wanted), e.fit) for e in ctf.estimates if e.listed_deg is not None
        ]
        nearest = min(fits, key=lambda f: f[0], default=None)
        return replace(tilt, ctf=nearest[1]) if nearest is not None and nearest[0] < _SAME_DEG else tilt

    series = made.series.with_tilts([fitted(t) for t in made.series.tilts])
    notes = (*made.notes, "The defocus is the mean of each image, without astigmatism, as Appion wrote it for IMOD.")
    if series.optics is None:
        series = series.replace(optics=Optics())
    return SeriesGeometry(series=series, warp=None, notes=notes)


def _write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    files, losses = list[Path](), list[str]()
    for stem, geometry in targets(place, geometries, (".tlt",)):
        file = stem.with_name(stem.name + ".tlt")
        write_text_atomic(file, protomo_text(geometry))
        files.append(file)
        every, rows = stack_rows(geometry)
        kept = [(i, t) for i, (t, reason) in enumerate(every) if reason is None]
        fits = [(i, t.ctf) for i, t in kept if t.ctf is not None]
        numbers = _order(image_names(geometry))
        known = numbers is not None and np.array_equal(
            np.argsort(numbers), np.argsort([t.acquisition for t, _ in every])
        )
        dropped = ("contrast transfer", "hand of the defocus") if fits else ()
        told = [text for text in protomo_losses(geometry, "Appion") if not any(d in text for d in dropped)]
        losses += [text for text in told if not (known and "order in which" in text)]
        if not fits:
            continue
        folder = stem.parent / _DEFOCUS
        lines = [
            f"{n}\t{n}\t{rows.angles_deg[i]:.2f}\t{rows.angles_deg[i]:.2f}\t{fit.defocus_angstrom / 10:.1f}{mark}\n"
            for n, ((i, fit), mark) in enumerate(zip(fits, ["\t2", *[""] * len(fits)], strict=False), 1)
        ]
        write_text_atomic(folder / f"{stem.name}_defocus.txt", "".join(lines))
        write_angles(folder / f"{stem.name}_tilts.txt", rows.angles_deg[[i for i, _ in fits]])
        files += [folder / f"{stem.name}_defocus.txt", folder / f"{stem.name}_tilts.txt"]
        apart = max(fit.defocus_u_angstrom - fit.defocus_v_angstrom for _, fit in fits)
        if apart > 1:
            losses.append(f"Appion: astigmatism (up to {apart:.0f} A) is lost; the mean defocus stands for both.")
        sign = "less" if geometry.series.hand < 0 else "more"
        losses.append(
            f"Appion: The hand of the defocus is lost: points higher in the camera's frame have {sign} underfocus."
        )
    return Written(files=tuple(files), losses=tuple(losses))


FORMAT = GeometryFormat(
    name="leginon",
    title="Leginon and Appion (runs of Protomo: series*.tlt, ctf_correction)",
    words=GeometryWords(
        origin="where the specimen's origin is seen, in pixels counted from 0",
        unit="pixels; defocus in nm",
        hand="not told; -1 stands for it",
        angles="degrees: tilt about the axis, azimuth counter-clockwise from x, rotation of each image after it",
    ),
    recognises=_recognises,
    read=_read,
    write=_write,
)
