"""Defocus of tilt images from focus images that were taken beside the specimen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.errors import InputError
from eucentric.io.focus_tables import FocusImage
from eucentric.io.given_ctf import GivenCtf
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.pipeline.import_ctf import TakenOver
from eucentric.pipeline.tilt_matching import near_angle
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FocusedDefocus:
    """What focus images tell of the tilts between them."""

    defocus_angstrom: FloatArray
    """(tilt,), on the tilt axis at the middle of the tilt images."""
    slope: FloatArray
    """(tilt,), A of defocus for each A along the tilt axis; NaN where no two places tell."""
    caveats: tuple[str, ...]


def interpolate_focus(images: Sequence[FocusImage], tilts_deg: FloatArray, acquisitions: FloatArray) -> FocusedDefocus:
    """Defocus of each tilt from focus images beside the specimen on the tilt axis, where tilting changes no height.

    Images of one time are joined by a straight line along the axis (least squares for more than two), read at the
    middle of the tilt images. In between times the values are interpolated, beyond the first and the last they stay. A time with
    one place takes the slope of the times around it.

    Parameters
    ----------
    images : in any order
    tilts_deg, acquisitions : (tilt,), angle and order of acquisition, from 0, of the tilt images

    Raises
    ------
    InputError : no focus image, or one at an angle that no tilt has
    """
    if not images:
        raise InputError("No focus image was given; expected one or more.")
    times = np.array([_time(image, tilts_deg, acquisitions) for image in images])
    places = np.array([image.position_angstrom for image in images])
    values = np.array([image.defocus_angstrom for image in images])
    moments = np.unique(times)
    slopes = np.full(len(moments), np.nan)
    for n, moment in enumerate(moments):
        x, d = places[times == moment], values[times == moment]
        if np.ptp(x) > 0:
            slopes[n] = float(np.sum((x - x.mean()) * (d - d.mean())) / np.sum((x - x.mean()) ** 2))
    known = np.isfinite(slopes)
    used = np.interp(moments, moments[known], slopes[known]) if known.any() else np.zeros(len(moments))
    level = np.array([np.mean((values - used[n] * places)[times == m]) for n, m in enumerate(moments)])
    caveats = []
    if not known.any() and np.any(places != 0):
        caveats.append(
            "The focus images lie at one place only of the tilt axis: how the specimen slopes along it is not known, and its "
            "defocus was taken as that of the focus images."
        )
    outside = int(((acquisitions < moments[0]) | (acquisitions > moments[-1])).sum())
    if outside and len(moments) > 1:
        caveats.append(
            f"{outside} tilts were taken before the first or after the last focus image and have its defocus."
        )
    slope = (
        np.interp(acquisitions, moments[known], slopes[known]) if known.any() else np.full(len(acquisitions), np.nan)
    )
    return FocusedDefocus(
        defocus_angstrom=np.asarray(np.interp(acquisitions, moments, level)),
        slope=np.asarray(slope),
        caveats=tuple(caveats),
    )


def _time(image: FocusImage, tilts_deg: FloatArray, acquisitions: FloatArray) -> float:
    if image.acquisition is not None:
        return image.acquisition
    wanted = image.tilt_deg if image.tilt_deg is not None else float("nan")
    away = np.abs(tilts_deg - wanted)
    nearest = int(np.argmin(away))
    if not away[nearest] < near_angle(tilts_deg.tolist()):
        raise InputError(f"A focus image is listed at {wanted:g} degrees, where there is no tilt. Correct its angle.")
    return float(acquisitions[nearest])


def ctf_from_focus(
    series: TiltSeries, images: Sequence[FocusImage], *, source: str, offset_angstrom: float = 0.0
) -> TakenOver:
    """The defocus that focus images tell of every tilt of a series, left-out ones included, without astigmatism.

    Parameters
    ----------
    source : for messages and reports
    offset_angstrom : what the tilt images are further underfocus than the focus images by the microscope's settings

    Raises
    ------
    InputError : as `interpolate_focus`, a series without contrast transfer, or a defocus that is not under focus
    """
    if series.optics is None:
        raise InputError(f"The images of {series.name} have no contrast transfer function (scanning transmission).")
    tilts = [*series.tilts, *(e.tilt for e in series.excluded)]
    order = np.array([t.acquisition for t in tilts], dtype=np.float64)
    found = interpolate_focus(images, np.array([t.nominal_tilt_deg for t in tilts]), order)
    defocus = found.defocus_angstrom + offset_angstrom
    if not bool((defocus > 0).all()):
        raise InputError(
            f"The focus images of {series.name} come to a defocus of {float(defocus.min()):.0f} A; expected underfocus, a "
            "positive number. Give what separates tilt from focus images with --focus-offset, in A."
        )
    fits = {
        t.acquisition: CtfFit(defocus_u_angstrom=d, defocus_v_angstrom=d)
        for t, d in zip(tilts, defocus.tolist(), strict=True)
    }
    return TakenOver(given=GivenCtf(source=source, place="image", fits=fits), caveats=found.caveats)
