"""Tilt series of programs that keep IMOD's transforms: rows of a stack to a series and back, and what a format cannot hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry import TiltGeometry
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf, standard_fit
from eucentric.io.exchange.from_views import numbers_in_time, series_of_views
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.external_alignments import Centre, LeftOutView, from_imod, movie_stem
from eucentric.io.imod import TiltCommand
from eucentric.io.imod_export import imod_transforms
from eucentric.io.mrc import read_mrc_header
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt
from eucentric.typing import FloatArray

MAX_VIEWS = 100_000
"""No tilt series has more images: a larger count in a file is damage."""
_FAR = 1e7  # pixels and degrees beyond which a number is damage
_TURNED, _STRETCHED = 0.005, 5e-5  # degrees and fractions that are told as lost


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackRows:
    """What a program tells about the images of one stack, in their order there."""

    angles_deg: FloatArray
    """(image,), as refined."""
    matrices: FloatArray
    shifts_px: FloatArray
    """(image, 2, 2) and (image, 2): x' = A x + d from raw to aligned, about the middle, in pixels."""
    listed_deg: FloatArray | None = None
    """(image,), of the stage, where told apart."""
    order: Sequence[float] | None = None
    """When each was taken: any numbers that rise."""
    first: int = 0
    """As what the first image that was taken is counted in `order`."""
    doses: FloatArray | None = None
    before: FloatArray | None = None
    """(image,) e/A^2 before each, where told."""
    excluded: dict[int, str] | None = None
    """Image from 0 -> reason."""
    images: Sequence[str | None] | None = None
    fits: Sequence[CtfFit | None] | None = None
    x_tilts_deg: FloatArray | None = None
    centre: Centre = "middle"
    """Which pixel transforms turn about."""


def series_of_rows(
    rows: StackRows,
    given: Given,
    place: Path,
    *,
    name: str,
    source: str,
    pixel_size_angstrom: float | None,
    image_shape: tuple[int, int] | None,
    optics: Optics | None = None,
    notes: Sequence[str] = (),
) -> SeriesGeometry:
    """The series of a stack whose transforms are IMOD's; errors as `series_of_views`."""
    _check(rows, place)
    count = len(rows.angles_deg)
    excluded = rows.excluded or {}
    external = from_imod(
        rows.matrices,
        rows.shifts_px,
        rows.angles_deg,
        source=source,
        x_tilts_deg=rows.x_tilts_deg,
        listed_deg=rows.listed_deg,
        command=TiltCommand(excluded=tuple(sorted(excluded))),
    )
    program = source.split()[0]
    external = replace(
        external,
        left_out=tuple(_with_reason(view, excluded, program) for view in external.left_out),
        caveats=tuple(c.replace("in IMOD", f"in {program}") for c in external.caveats),
        centre=rows.centre,
        pixel_size_angstrom=pixel_size_angstrom,
        image_size=None if image_shape is None else image_shape[::-1],
    )
    sections = [v.section or 0 for v in external.views] + [v.section or 0 for v in external.left_out]
    fits = rows.fits or [None] * count
    found = [CtfEstimate(fit=fit, section=i) for i, fit in enumerate(fits) if fit is not None]
    ctf = None
    if found:
        ctf = ExternalCtf(program="IMOD", source=source, estimates=tuple(found), optics=optics)
    order = None
    if rows.order is not None:
        numbers = numbers_in_time(rows.order, rows.first)
        order = [numbers[s] for s in sections]
    told = replace(given, optics=given.optics or optics)
    made = series_of_views(
        external,
        told,
        place,
        name=name,
        ctf=ctf,
        doses=None if rows.doses is None else rows.doses[sections],
        before=None if rows.before is None else rows.before[sections],
        order=order,
        images=None if rows.images is None else [rows.images[s] for s in sections],
    )
    return replace(made, notes=tuple(dict.fromkeys((*made.notes, *notes))))


def without_poses(made: SeriesGeometry, axis_deg: float | None, note: str) -> SeriesGeometry:
    """The same series where its files hold no alignment: no poses, and the tilt axis as far as they tell."""

    def plain(tilt: Tilt) -> Tilt:
        return replace(tilt, pose=None, nominal_axis_deg=axis_deg)

    series = made.series
    gone = tuple(replace(e, tilt=plain(e.tilt)) for e in series.excluded)
    series = series.replace(tilts=tuple(plain(t) for t in series.tilts), excluded=gone)
    return SeriesGeometry(series=series, warp=None, notes=(*made.notes, note))


def _with_reason(view: LeftOutView, excluded: dict[int, str], program: str) -> LeftOutView:
    reason = excluded.get(-1 if view.section is None else view.section)
    return replace(view, reason=reason or view.reason.replace("IMOD", program))


def _check(rows: StackRows, place: Path) -> None:
    count = len(rows.angles_deg)
    if not count:
        raise InputError(f"`{place}` lists no image.")
    parts: dict[str, FloatArray | None] = {
        "angles": rows.angles_deg,
        "transforms": rows.matrices,
        "shifts": rows.shifts_px,
        "stage angles": rows.listed_deg,
        "doses": rows.doses,
        "doses before": rows.before,
        "acquisition orders": None if rows.order is None else np.asarray(rows.order, dtype=np.float64),
    }
    for what, values in parts.items():
        if values is None:
            continue
        if len(values) != count:
            raise FormatError(f"`{place}` has {count} angles and {len(values)} {what}; expected as many.")
        if not np.isfinite(values).all() or np.abs(values).max() > _FAR:
            raise FormatError(f"`{place}` has {what} that are no numbers, or far too large. Export it again.")


def checked_fit(
    defocus_u: float,
    defocus_v: float,
    angle_deg: float,
    *,
    phase: float = 0.0,
    score: float = np.nan,
    limit: float = np.nan,
) -> CtfFit | None:
    """A fit from values in A and degrees; None where one of them is not a number, or both defoci are 0."""
    values = np.array([defocus_u, defocus_v, angle_deg, phase])
    if not np.isfinite(values).all() or np.abs(values).max() > _FAR or not (defocus_u or defocus_v):
        return None
    return standard_fit(
        defocus_u, defocus_v, angle_deg, phase_shift_deg=phase, score=score, max_resolution_angstrom=limit
    )


def stack_rows(geometry: SeriesGeometry) -> tuple[list[tuple[Tilt, str | None]], StackRows]:
    """All images of a series in the order of their stack, and where IMOD's programs would put them.

    The order is that of the stack where all images are in one, else that of the stage's angles. Excluded images are among
    them, with their reason.

    Raises
    ------
    InputError : the series has not been aligned
    """
    series = geometry.series
    every: list[tuple[Tilt, str | None]] = [(t, None) for t in series.tilts]
    every += [(e.tilt, e.reason) for e in series.excluded]
    places = [_place_in_stack(t.image) for t, _ in every]
    known = [p for p in places if p is not None]
    if len(known) == len(every) and len({p[1] for p in known}) == 1 and len({p[0] for p in known}) == len(known):
        every = [every[i] for i in sorted(range(len(every)), key=lambda i: known[i][0])]
    else:
        every.sort(key=lambda e: (e[0].nominal_tilt_deg, e[0].acquisition))
    series.poses  # noqa: B018 - complains where there are none
    posed = [i for i, (t, _) in enumerate(every) if t.pose is not None]
    count = len(every)
    matrices, shifts = np.tile(np.eye(2), (count, 1, 1)), np.zeros((count, 2))
    angles = np.array([t.nominal_tilt_deg for t, _ in every])
    if posed:
        poses = [pose for t, _ in every if (pose := t.pose) is not None]
        tilted = TiltGeometry.from_poses(poses)
        matrices[posed], shifts[posed] = imod_transforms(
            tilted,
            series.pixel_size_angstrom,
            series.image_shape,
            (1, 1),  # about the middle: odd sizes have it at n // 2
        )
        angles[posed] = tilted.y_tilt_deg
    rows = StackRows(
        angles_deg=angles,
        matrices=matrices,
        shifts_px=shifts,
        listed_deg=np.array([t.nominal_tilt_deg for t, _ in every]),
        order=[t.acquisition for t, _ in every],
        doses=np.array([t.dose for t, _ in every]),
        excluded={i: reason for i, (_, reason) in enumerate(every) if reason is not None},
        images=[t.image for t, _ in every],
        fits=[t.ctf for t, _ in every],
    )
    return every, rows


def _place_in_stack(image: str | None) -> tuple[int, str] | None:
    number, at, name = (image or "").partition("@")
    return (int(number), name) if at and number.isdecimal() else None


def stack_name(geometry: SeriesGeometry) -> str:
    """The stack that holds all images, or `<name>.mrc`."""
    series = geometry.series
    tilts = [*series.tilts, *(e.tilt for e in series.excluded)]
    stacks = {place[1] for t in tilts if (place := _place_in_stack(t.image)) is not None}
    return stacks.pop() if len(stacks) == 1 else f"{series.name}.mrc"


def image_stack(place: Path, stem: str) -> tuple[Path | None, float | None, tuple[int, int] | None, int]:
    """The stack `<stem>.mrc` (or .st, .mrcs) beside a file or in `mrc`: its path, pixel size in A, (y, x) and number of images."""
    folders = (place, place / "mrc", place.parent / "mrc", place.parent)
    for folder in folders:
        for ending in (".mrc", ".st", ".mrcs"):
            found = folder / f"{stem}{ending}"
            if not found.is_file():
                continue
            try:
                header = read_mrc_header(found)
            except InputError:
                continue
            count, y, x = header.shape
            size = header.voxel_size_angstrom
            return found, None if size is None else size[0], (y, x), count
    return None, None, None, 0


def resolved(name: str, place: Path) -> str:
    """A file that another file names: absolute where it is found from that file or a folder above, else as named."""
    path = Path(name)
    if path.is_absolute():
        return name
    for folder in [place, *place.resolve().parents][:6]:
        if (folder / path).is_file():
            return str((folder / path).resolve())
    return name


def losses_of(geometry: SeriesGeometry, title: str, *, keeps: Collection[str] = ()) -> tuple[str, ...]:
    """What a series has and a format cannot hold.

    Parameters
    ----------
    title : of the format
    keeps : of `warp`, `magnification`, `x-tilt`, `excluded`, `ctf`, `phase shift`, `hand`, `dose`, `order`, `stage angles`
    """
    series = geometry.series
    poses = [t.pose for t in series.tilts if t.pose is not None]
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    told: dict[str, str] = {}
    if geometry.warp is not None:
        size = float(np.sqrt((geometry.warp.displacement_angstrom**2).sum(-1).mean()))
        told["warp"] = f"The local deformation of the images ({size:.1f} A rms) is lost."
    stretch = max((abs(p.magnification - 1.0) for p in poses), default=0.0)
    if stretch > _STRETCHED:
        told["magnification"] = f"The magnification of the images (up to {100 * stretch:.2f}% from 1) is lost."
    tilt = max((abs(p.x_tilt_deg) for p in poses), default=0.0)
    if tilt > _TURNED:
        told["x-tilt"] = f"The tilt about x (up to {tilt:.2f} degrees) is lost."
    if series.excluded:
        told["excluded"] = f"That {len(series.excluded)} views are excluded, and why, is lost."
    if fits:
        low = min(f.defocus_angstrom for f in fits)
        high = max(f.defocus_angstrom for f in fits)
        told["ctf"] = f"The contrast transfer (defocus {low:.0f} to {high:.0f} A) is lost."
        sign = "less" if series.hand < 0 else "more"
        told["hand"] = f"The hand of the defocus is lost: points higher in the camera's frame have {sign} underfocus."
    phase = max((abs(f.phase_shift_deg) for f in fits), default=0.0)
    if phase:
        told["phase shift"] = f"The phase shift (up to {phase:.0f} degrees) is lost."
    if any(t.dose for t in series.tilts):
        told["dose"] = f"The dose of the images (up to {max(t.dose for t in series.tilts):g} e/A2) is lost."
    order = [t.acquisition for t in sorted(series.tilts, key=lambda t: t.nominal_tilt_deg)]
    if order != sorted(order):
        told["order"] = "The order in which the images were taken is lost."
    apart = max((abs(t.pose.y_tilt_deg - t.nominal_tilt_deg) for t in series.tilts if t.pose is not None), default=0.0)
    if apart > 0.05:
        told["stage angles"] = (
            f"The angles of the stage are lost: refined ones, up to {apart:.1f} degrees from them, stand for them."
        )
    if "ctf" not in keeps:
        told.pop("hand", None)
        told.pop("phase shift", None)
    return tuple(f"{title}: {text}" for what, text in told.items() if what not in keeps)


def image_label(tilt: Tilt, number: int, stack: str) -> tuple[int, str]:
    """(number from 1, file) of an image: its own where it is in a stack or a file, else that of `stack`."""
    own = _place_in_stack(tilt.image)
    if own is not None:
        return own
    return (1, tilt.image) if tilt.image else (number, stack)


def bare_name(name: str) -> str:
    """A file's name without folder and ending, as series are called."""
    return movie_stem(name) or "series"
