"""A tilt series from nothing but another program's alignment and CTF estimates."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView
from eucentric.io.external_places import angstrom_per_unit, centre_offset, pose_of, sampled_warp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, ExcludedTilt, Tilt, TiltSeries
from eucentric.typing import FloatArray, PathLike

_SAME_DEG = 0.3  # angles of one view in two lists
_LONG_STEP = 1.5
_NO_DOSE = 0.01  # e/A2: Warp's files without doses hold the order in steps of 0.001
_MOST_IMAGES = 1000  # larger numbers are not those of images of one series


def series_of_views(
    external: ExternalAlignment,
    given: Given,
    place: PathLike,
    *,
    name: str,
    ctf: ExternalCtf | None = None,
    doses: FloatArray | None = None,
    before: FloatArray | None = None,
    order: Sequence[int] | None = None,
    images: Sequence[str | None] | None = None,
    hand: float | None = None,
) -> SeriesGeometry:
    """The series whose views an alignment lists.

    Parameters
    ----------
    place : the file, for messages
    name : of the series where the user gave none
    ctf : estimates of as many images as there are views, or with sections or angles of the same stack
    doses : (view and left-out view,) e/A^2 of each
    before : (view and left-out view,) e/A^2 that the specimen had received before each; from order and doses where None
    order : number of each view and left-out view in time, from 0: where numbers are missing, images were taken that the files do
        not list (`pre_exposures`). That of the listed angles where None, which is noted
    images : of each view and left-out view
    hand : rlnTomoHand where the files tell

    Raises
    ------
    InputError : no pixel size or image size, no view, or images of another shape
    """
    every: list[ExternalView | LeftOutView] = [*external.views, *external.left_out]
    if not external.views:
        raise InputError(f"`{place}` holds no view that is used.")
    pixel = given.need_pixel_size(external.pixel_size_angstrom, place)
    shape = given.need_image_shape(
        None if external.image_size is None else (external.image_size[1], external.image_size[0]), place
    )
    unit = angstrom_per_unit(external, pixel, shape, given.name or name)
    offset = centre_offset(external.centre, pixel, shape)
    notes = list(external.caveats)
    if order is None:
        angles = [np.inf if e.listed_deg is None else e.listed_deg for e in every]
        order = np.argsort(np.argsort(angles, kind="stable"), kind="stable").tolist()
        notes.append(f"`{place}` does not tell in which order the images were taken; that of the angles stands for it.")
    dose = np.zeros(len(every)) if doses is None else doses
    if given.dose_per_tilt is not None:
        usual = float(np.median(dose))
        before = before * (given.dose_per_tilt / usual) if before is not None and usual > 0 else None
        dose = np.full(len(every), given.dose_per_tilt)
    if before is None:
        before = pre_exposures(order, dose)
    fits = _fits(every, ctf)
    tilts = []
    for i, view in enumerate(every):
        posed = view if isinstance(view, ExternalView) else None
        listed = view.listed_deg
        tilts.append(
            Tilt(
                nominal_tilt_deg=0.0 if listed is None else float(listed),
                acquisition=int(order[i]),
                dose=float(dose[i]),
                pre_exposure=float(before[i]),
                image=None if images is None else images[i],
                movie=view.names[0] if view.names else None,
                nominal_axis_deg=None if posed is None else posed.z_rot_deg,
                pose=None if posed is None else pose_of(posed, unit, offset),
                ctf=fits[i],
            )
        )
    count = len(external.views)
    first = sorted(range(count), key=lambda i: (tilts[i].nominal_tilt_deg, tilts[i].acquisition))
    optics = given.optics or (ctf.optics if ctf is not None else None) or Optics()
    series = TiltSeries(
        name=given.name or name,
        pixel_size_angstrom=pixel,
        image_shape=shape,
        tilts=tuple(tilts[i] for i in first),
        excluded=tuple(
            ExcludedTilt(tilt=tilts[count + i], reason=gone.reason) for i, gone in enumerate(external.left_out)
        ),
        optics=optics,
        volume_size_px=given.volume_size_px,
        thickness_angstrom=None if external.thickness is None else external.thickness * unit,
    )
    if hand is not None:
        series = replace(series, hand=hand)
    notes += dose_notes(series, place)
    if ctf is not None:
        notes += ctf.caveats
        missing = sum(t.ctf is None for t in series.tilts)
        if missing:
            notes.append(f"{missing} of {count} views have no CTF estimate in {ctf.source}.")
    return SeriesGeometry(
        series=series, warp=sampled_warp(external, first, unit, offset, pixel, shape), notes=tuple(dict.fromkeys(notes))
    )


def pre_exposures(order: Sequence[int], doses: FloatArray) -> FloatArray:
    """(image,) e/A^2 before each image; an image whose number in time is missing is taken to have had the median dose.

    Parameters
    ----------
    order : (image,) number of each in time, from 0
    doses : (image,) e/A^2
    """
    numbers = np.asarray(order, dtype=np.int64)
    time = np.argsort(numbers, kind="stable")
    missing = np.maximum(np.diff(numbers[time], prepend=-1) - 1, 0).cumsum()
    before = np.zeros(len(numbers))
    before[time] = np.concatenate([[0.0], np.cumsum(doses[time])[:-1]]) + missing * np.median(doses)
    return before


def exposures_of_sums(after: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(image,) dose of each image and before it, from what the specimen had received after it, all different.

    A step far above the usual one has an image in it that was left out: the dose of the next is then the usual one.
    """
    time = np.argsort(after, kind="stable")
    steps = np.diff(after[time], prepend=0.0)
    usual = float(np.median(steps))
    doses = np.empty(len(after))
    doses[time] = np.where(steps > _LONG_STEP * usual, usual, steps)
    return doses, np.maximum(after - doses, 0.0)


def numbers_in_time(order: ArrayLike, first: int = 0) -> list[int]:
    """Numbers of images in time from 0, with their gaps; ranks where they cannot be such numbers.

    Parameters
    ----------
    order : (image,) any numbers that rise with time
    first : what the first image of a series is counted as; 0 where one is numbered 0
    """
    given = np.asarray(order, dtype=np.float64)
    whole = np.isfinite(given).all() and (given == np.round(given)).all() and len(np.unique(given)) == len(given)
    if whole and len(given):
        numbers = given - (0 if given.min() == 0 else first)
        if numbers.min() >= 0 and numbers.max() < max(_MOST_IMAGES, 3 * len(numbers)):
            return [int(n) for n in numbers]
    return [int(r) for r in np.argsort(np.argsort(given, kind="stable"), kind="stable")]


def with_given_dose(series: TiltSeries, given: Given) -> TiltSeries:
    """The series with the dose of each image that the user gave; doses before images follow: by numbers in time if unknown."""
    dose = given.dose_per_tilt
    every = [*series.tilts, *(e.tilt for e in series.excluded)]
    if dose is None or not every:
        return series
    usual = float(np.median([t.dose for t in every]))
    if usual > 0:
        before = np.array([t.pre_exposure for t in every]) * (dose / usual)
    else:
        before = pre_exposures([t.acquisition for t in every], np.full(len(every), dose))
    told = [replace(t, dose=dose, pre_exposure=float(b)) for t, b in zip(every, before, strict=True)]
    count = len(series.tilts)
    gone = tuple(replace(e, tilt=t) for e, t in zip(series.excluded, told[count:], strict=True))
    return series.replace(tilts=tuple(told[:count]), excluded=gone)


def dose_notes(series: TiltSeries, place: PathLike) -> list[str]:
    """A sentence where no image of a series has a dose, or only what Warp's files have in its place."""
    tilts = [*series.tilts, *(e.tilt for e in series.excluded)]
    if any(t.dose > _NO_DOSE or t.pre_exposure > 1.0 for t in tilts):
        return []
    return [f"`{place}` tells no dose, so exposure weighting is off. Give it with --dose."]


def _fits(every: Sequence[ExternalView | LeftOutView], ctf: ExternalCtf | None) -> list[CtfFit | None]:
    """The estimate of each view: by its name, section or angle, else by its place where there are as many."""
    if ctf is None:
        return [None] * len(every)
    found = [_fit(view, ctf.estimates) for view in every]
    used = [view for view in every if isinstance(view, ExternalView)]
    if any(f is not None for f in found) or len(ctf.estimates) not in (len(every), len(used)):
        return found
    return [*(e.fit for e in ctf.estimates), *[None] * (len(every) - len(ctf.estimates))]


def _fit(view: ExternalView | LeftOutView, estimates: Sequence[CtfEstimate]) -> CtfFit | None:
    for estimate in estimates:
        if set(estimate.names) & set(view.names):
            return estimate.fit
    for estimate in estimates:
        if estimate.section is not None and estimate.section == view.section:
            return estimate.fit
    angles = [abs(e.listed_deg - view.listed_deg) for e in estimates if None not in (e.listed_deg, view.listed_deg)]  # type: ignore[operator]
    if len(angles) == len(estimates) and min(angles, default=np.inf) < _SAME_DEG:
        return estimates[int(np.argmin(angles))].fit
    return None
