"""A tilt series from nothing but another program's alignment and CTF estimates."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eucentric.errors import InputError
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView
from eucentric.io.external_places import angstrom_per_unit, centre_offset, pose_of, sampled_warp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, ExcludedTilt, Tilt, TiltSeries
from eucentric.typing import FloatArray, PathLike

_SAME_DEG = 0.3  # angles of one view in two lists


def series_of_views(
    external: ExternalAlignment,
    given: Given,
    place: PathLike,
    *,
    name: str,
    ctf: ExternalCtf | None = None,
    doses: FloatArray | None = None,
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
    order : rank of each view and left-out view in time, from 0; that of the listed angles where None, which is noted
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
    dose = np.full(len(every), given.dose_per_tilt or 0.0) if doses is None else doses
    time = np.argsort(order, kind="stable")
    before = np.zeros(len(every))
    before[time] = np.concatenate([[0.0], np.cumsum(dose[time])[:-1]])
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
    if ctf is not None:
        notes += ctf.caveats
        missing = sum(t.ctf is None for t in series.tilts)
        if missing:
            notes.append(f"{missing} of {count} views have no CTF estimate in {ctf.source}.")
    return SeriesGeometry(
        series=series, warp=sampled_warp(external, first, unit, offset, pixel, shape), notes=tuple(dict.fromkeys(notes))
    )


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
