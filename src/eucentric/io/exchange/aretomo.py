"""AreTomo 2 and 3, both ways: `.aln`, `_CTF.txt`, `_TLT.txt` and TiltSeries_Metrics.csv.

The alignment and its sections are explained at `eucentric.io.aretomo`. From AreTomo3's sources [1]_:

- `_TLT.txt` has a line for each section of the stack, dark ones too: angle of the stage, order of acquisition from 1, dose of the
  image (`CTsPackage.cpp`). The numbers are those of the microscope's list, with gaps where images are missing, and AreTomo3 takes
  number times dose for what an image's specimen had received (`CTiltSeries::GetAccDose`, `CAreTomoMain.cpp`): so gaps
  are written and read.
- `_CTF.txt` has a line for each image that was aligned. The tiles of an image are placed about its middle; turned back by ROT,
  x is tan(TILT) times their depth: ``deltaZ = -x tan(TILT)`` (`CTiltInducedZ.cpp`), and their defocus is ``D + dfHand deltaZ``
  (`CGenAvgSpectrum.cpp`). deltaZ is our z_camera of the specimen's plane there, so dfHand is rlnTomoHand. Files without the
  column (before 2.0) do not tell it.
- GMAG is always 1 and not used, and there is no tilt about x (BETA is not applied).

References
----------
.. [1] https://github.com/czimaginginstitute/AreTomo3, AreTomo/MrcUtil, AreTomo/FindCtf, DataUtil
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from eucentric.errors import FormatError, InputError
from eucentric.geometry.warp import ImageWarp
from eucentric.io.aretomo import AretomoAlignment, AretomoPatches, patches_of, read_aretomo, write_aretomo
from eucentric.io.atomic import write_text_atomic
from eucentric.io.ctf_estimates import ExternalCtf, read_ctffind_table
from eucentric.io.ctf_writers import write_aretomo_ctf
from eucentric.io.exchange.from_views import numbers_in_time, pre_exposures, series_of_views
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.exchange.whole_stack import (
    StackView,
    fits_at_image_middle,
    image_grid,
    need_poses,
    rank_in_time,
    rms,
    whole_stack,
    with_fits_at_specimen_centre,
    x_tilt_and_magnification_losses,
)
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView, from_aretomo
from eucentric.io.imod import read_angle_table
from eucentric.io.mrc import read_mrc_header
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray

_PATCHES = 8
"""Along each side: their weights fall to 1/e over a tenth of the image."""
_SAMPLES = 25
_METRICS = "TiltSeries_Metrics.csv"
_SAME_DEG = 0.5
_DOSE_DIGIT = 0.05  # e/A2
_MOST_NUMBER = 1000


def _stem(file: Path) -> Path:
    return file.with_name(file.name[: -len(".aln")])


def _metrics(stem: Path) -> dict[str, str]:
    """The row of a series in TiltSeries_Metrics.csv; empty where there is none."""
    file = stem.with_name(_METRICS)
    if not file.is_file():
        return {}
    with file.open(encoding="latin-1", newline="") as lines:
        for row in csv.DictReader(lines, skipinitialspace=True):
            name = (row.get("Tilt_Series") or "").strip()
            if name in (stem.name, f"{stem.name}.mrc", f"{stem.name}.st"):
                return {key: value.strip() for key, value in row.items() if key and isinstance(value, str)}
    return {}


def _metric(row: dict[str, str], name: str) -> float | None:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value != 0 else None


def _optics(row: dict[str, str]) -> Optics | None:
    volts, cs = _metric(row, "Kv"), _metric(row, "Cs(nm)")  # which holds mm
    try:
        return None if volts is None or cs is None else Optics(voltage_kv=volts, spherical_aberration_mm=cs)
    except InputError:
        return None


def _read_ctf(stem: Path, alignment: AretomoAlignment) -> tuple[ExternalCtf | None, float | None]:
    """Estimates with the sections of the images that were aligned, and the hand."""
    file = stem.with_name(f"{stem.name}_CTF.txt")
    if not file.is_file():
        return None, None
    found = read_ctffind_table(file)
    count = len(alignment.tilts_deg)
    if len(found.estimates) != alignment.section_count or count == alignment.section_count:
        sure = alignment.sections_are_sure and len(found.estimates) == count
        rows = [replace(e, section=int(alignment.sections[i]) if sure else None) for i, e in enumerate(found.estimates)]
        found = replace(found, estimates=tuple(rows))
        if len(rows) != count:
            note = f"{file.name} has {len(rows)} estimates for {count} aligned images, and it was not taken over."
            found = replace(found, estimates=(), caveats=(*found.caveats, note))
    hands = set()
    for line in file.read_text(encoding="latin-1").splitlines():
        words = line.split()
        if len(words) == 8 and words[7] in ("1", "-1"):
            hands.add(float(words[7]))
    return found, hands.pop() if len(hands) == 1 else None


def _times(
    stem: Path, external: ExternalAlignment, section_count: int
) -> tuple[ExternalAlignment, list[int] | None, FloatArray | None, list[str]]:
    """Angles of the stage, order and doses from `_TLT.txt`."""
    file = stem.with_name(f"{stem.name}_TLT.txt")
    entries: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    if not file.is_file():
        return external, None, None, []
    table = read_angle_table(file)
    if len(table) != section_count:
        words = f"`{file.name}` has {len(table)} lines for {section_count} images, and it was not taken over."
        return external, None, None, [words]
    places = [e.section for e in entries if e.section is not None]
    if len(places) < len(entries):
        listed = [0.0 if e.listed_deg is None else e.listed_deg for e in entries]
        away = np.abs(np.array(listed)[:, None] - table[:, 0])
        rows, columns = linear_sum_assignment(away)
        if len(rows) < len(entries) or away[rows, columns].max() > _SAME_DEG:
            return external, None, None, [f"`{file.name}` lists other angles, and it was not taken over."]
        places = [int(c) for c in columns]
    own = table[places]
    count = len(external.views)
    external = replace(
        external,
        views=tuple(replace(v, listed_deg=float(a)) for v, a in zip(external.views, own[:count, 0], strict=True)),
        left_out=tuple(replace(v, listed_deg=float(a)) for v, a in zip(external.left_out, own[count:, 0], strict=True)),
    )
    order = numbers_in_time(own[:, 1], first=1) if own.shape[1] > 1 else None
    doses = own[:, 2] if own.shape[1] > 2 and np.all(own[:, 2] >= 0) else None
    return external, order, doses, []


def _read_one(file: Path, given: Given) -> SeriesGeometry:
    stem = _stem(file)
    alignment = read_aretomo(file)
    row = _metrics(stem)
    stack = next((p for e in (".mrc", ".st") if (p := stem.with_name(stem.name + e)).is_file()), None)
    pixel = _metric(row, "Pix_Size(A)")
    notes = []
    if stack is not None:
        try:
            header = read_mrc_header(stack)
            pixel = pixel or header.pixel_size_angstrom
            if header.shape[0] != alignment.section_count:
                stack = None
        except FormatError as error:
            stack = None
            notes.append(str(error))
    external = from_aretomo(alignment, source=f"AreTomo ({file.name})")
    external, order, doses, words = _times(stem, external, alignment.section_count)
    ctf, hand = _read_ctf(stem, alignment)
    if hand is None and (told := _metric(row, "DF_Hand")) is not None:
        hand = math.copysign(1.0, told)
    if hand is None and ctf is not None:
        notes.append("AreTomo did not write the hand of the defocus; -1 was assumed.")
    entries: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    found = series_of_views(
        external,
        replace(given, optics=given.optics or _optics(row), pixel_size_angstrom=given.pixel_size_angstrom or pixel),
        file,
        name=stem.name,
        ctf=ctf if ctf is not None and ctf.estimates else None,
        doses=doses,
        order=order,
        images=None
        if stack is None
        else [None if e.section is None else f"{e.section + 1}@{stack.resolve()}" for e in entries],
        hand=hand,
    )
    if ctf is not None and not ctf.estimates:
        notes += ctf.caveats
    return replace(
        found,
        series=with_fits_at_specimen_centre(found.series),
        notes=tuple(dict.fromkeys((*notes, *words, *found.notes))),
    )


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(p for p in place.iterdir() if p.name.lower().endswith(".aln") and p.is_file())
    return [place] if place.name.lower().endswith(".aln") else []


def recognises(place: Path) -> bool:
    """Whether a file is an `.aln`, or a folder holds one."""
    try:
        return bool(_files(Path(place)))
    except OSError:
        return False


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """An `.aln` with the files beside it, or all of a folder.

    Raises
    ------
    InputError : no `.aln`, or a pixel size that nothing tells
    FormatError : a damaged file
    """
    place = Path(place)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Give an .aln file of AreTomo, or its folder.")
    files = _files(place)
    if not files:
        raise InputError(f"`{place}` holds no .aln file. Give the folder that AreTomo wrote to.")
    if len(files) > 1:
        given = replace(given, name=None)
    return tuple(_read_one(file, given) for file in files)


def _local(series: TiltSeries, warp: ImageWarp, shifts_px: FloatArray) -> tuple[AretomoPatches, float]:
    """Patches that follow a deformation, and what they miss in A rms."""
    pixel, size = series.pixel_size_angstrom, (series.image_shape[1], series.image_shape[0])
    places = image_grid(series.image_shape, pixel, _SAMPLES)
    field = np.stack([warp.at(t, torch.from_numpy(places)).numpy() for t in range(len(warp))]) / pixel
    ours = np.array([n // 2 - (n - 1) / 2 for n in size])  # our centre from the middle
    middle = places / pixel + ours
    patches = patches_of(field, middle, shifts_px, size, (_PATCHES, _PATCHES))
    found = np.stack([patches.at(t, middle - shifts_px[t], size) for t in range(len(warp))])
    return patches, rms(found - field) * pixel


def _alignment(geometry: SeriesGeometry, stack: tuple[StackView, ...]) -> tuple[AretomoAlignment, list[str]]:
    series = geometry.series
    poses = need_poses(series, "AreTomo")
    size = (series.image_shape[1], series.image_shape[0])
    ours = np.array([n // 2 - (n - 1) / 2 for n in size])
    shifts = np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for p in poses]) / series.pixel_size_angstrom + ours
    tilts = np.array([p.y_tilt_deg for p in poses])
    alpha = round(float(np.median(tilts - series.nominal_tilts_deg)), 2)
    rows = {view.used: row for row, view in enumerate(stack) if view.used is not None}
    patches, losses = None, x_tilt_and_magnification_losses(geometry, magnification=True)
    if geometry.warp is not None and np.any(geometry.warp.displacement_angstrom):
        patches, missed = _local(series, geometry.warp, shifts)
        losses.append(
            f"{series.name}: {_PATCHES} x {_PATCHES} patches, as AreTomo weighs them, are {missed:.2f} A rms from the local "
            "deformation."
        )
    thickness = series.thickness_angstrom
    return AretomoAlignment(
        image_size=size,
        section_count=len(stack),
        sections=np.array([rows[i] for i in range(len(poses))], dtype=np.int64),
        sections_are_sure=True,
        axis_deg=np.array([p.z_rot_deg for p in poses]),
        shifts_px=shifts,
        tilts_deg=tilts,
        magnification=np.ones(len(poses)),
        dark_sections=tuple(row for row, view in enumerate(stack) if view.used is None),
        dark_tilts_deg=tuple(view.tilt.nominal_tilt_deg + alpha for view in stack if view.used is None),
        alpha_offset_deg=alpha,
        thickness_px=None if thickness is None else round(thickness / series.pixel_size_angstrom),
        patches=patches,
    ), losses


def _numbers(series: TiltSeries, stack: tuple[StackView, ...]) -> tuple[list[int], list[str]]:
    """Number in time of each image from 0, such that AreTomo counts the dose before it as it was, and what that misses."""
    rank = rank_in_time(stack)
    doses = np.array([v.tilt.dose for v in stack])
    before = np.array([v.tilt.pre_exposure for v in stack])
    taken = numbers_in_time([float(v.tilt.acquisition) for v in stack])
    choices = [taken, rank]
    if not doses.any():
        return taken if np.array_equal(np.argsort(taken), np.argsort(rank)) else rank, []
    counted = np.round(before / np.median(doses)) if np.median(doses) > 0 else before * 0
    counted_in_time = counted[np.argsort(rank)]
    if (np.diff(counted_in_time) > 0).all() and counted_in_time[0] >= 0 and counted_in_time[-1] < _MOST_NUMBER:
        choices.append([int(n) for n in counted])
    missed = [float(np.abs(pre_exposures(numbers, doses) - before).max()) for numbers in choices]
    best = int(np.argmin(np.round(missed, 6)))
    if missed[best] <= _DOSE_DIGIT:
        return choices[best], []
    return choices[best], [
        f"{series.name}: AreTomo counts the dose before an image from its number in time, which is up to {missed[best]:.1f} e/A2 "
        "beside what it was."
    ]


def _write_one(stem: Path, geometry: SeriesGeometry) -> tuple[list[Path], list[str]]:
    series = geometry.series
    stack = whole_stack(series)
    alignment, losses = _alignment(geometry, stack)
    files = [stem.with_name(f"{stem.name}.aln"), stem.with_name(f"{stem.name}_TLT.txt")]
    write_aretomo(files[0], alignment, tuple(row for row, view in enumerate(stack) if view.used is None))
    numbers, words = _numbers(series, stack)
    losses += words
    write_text_atomic(
        files[1],
        "".join(
            f"{v.tilt.nominal_tilt_deg:8.2f}  {n + 1:4d}  {v.tilt.dose:8.2f}\n"
            for n, v in zip(numbers, stack, strict=True)
        ),
    )
    found = fits_at_image_middle(series)
    fits = [f for f in found if f is not None]
    if fits and len(fits) == len(found):
        files.append(stem.with_name(f"{stem.name}_CTF.txt"))
        write_aretomo_ctf(files[-1], fits, hand=series.hand)
    elif fits:
        missing = len(found) - len(fits)
        losses.append(
            f"{series.name}: {missing} tilts have no CTF, and _CTF.txt, which needs all, was not written. Fill them in first."
        )
    if len({round(t.dose, 2) for t in series.tilts} | {round(e.tilt.dose, 2) for e in series.excluded}) > 1 and any(
        round(t.dose, 2) != t.dose for t in series.tilts
    ):
        losses.append(f"{series.name}: doses are rounded to 0.01 e/A2.")
    return files, losses


def write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """`<name>.aln`, `<name>_TLT.txt` and `<name>_CTF.txt` for each series; `place` may be the `.aln` of a single one.

    Raises
    ------
    InputError : a series without alignment, or several to one file
    """
    files: list[Path] = []
    losses: list[str] = []
    for stem, geometry in targets(place, geometries, (".aln",)):
        written, words = _write_one(stem, geometry)
        files += written
        losses += words
    return Written(files=tuple(files), losses=tuple(losses))


FORMAT = GeometryFormat(
    name="aretomo",
    title="AreTomo 2 and 3",
    words=GeometryWords(
        origin="shifts from the middle of the raw image, (n - 1) / 2 counted from 0",
        unit="pixels of the raw stack; defocus in A, of the middle of the image",
        hand="dfHand is rlnTomoHand",
        angles="ROT is the axis, counter-clockwise from y; TILT the tilt, AlphaOffset included; sections from 1 (from 0 in AreTomo2)",
    ),
    recognises=recognises,
    read=read,
    write=write,
)
