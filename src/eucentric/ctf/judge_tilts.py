"""Which tilts of a series have a contrast transfer that a user should look at, and why."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from eucentric.models import CtfFit
from eucentric.typing import FloatArray

_NEIGHBOURS = 6  # a median of so many stands two outliers among them
_FAR_ANGSTROM = 3000.0  # focusing is good to 0.1-0.3 um
_FAR_SIGMAS = 4.0  # of the tilt's own uncertainty, and of the scatter of the series
_WORSE = 2.0  # times the neighbours' fit resolution
_STIGMA_ANGSTROM = 500.0  # a lens drifts by some 100 A over a series
_LARGE_STIGMA_ANGSTROM = 1500.0  # an aligned microscope stays below some hundred A


def judge_tilts(
    fits: Sequence[CtfFit],
    tilts_deg: ArrayLike,
    acquisition: ArrayLike,
    without_rings: Sequence[int] = (),
) -> tuple[tuple[str, ...], ...]:
    """What is odd about each tilt, in words; nothing for good ones.

    Defocus is compared with that of neighbours in tilt angle and in time, and is odd only where it is far from both: a
    series taken to both sides in turn may drift with either.

    Parameters
    ----------
    fits : one for each tilt
    tilts_deg, acquisition : (tilt,) degrees; place in the order of acquisition
    without_rings : tilts whose fit is that of their neighbours
    """
    good = np.ones(len(fits), dtype=np.bool_)
    good[list(without_rings)] = False
    defocus = np.array([f.defocus_angstrom for f in fits])
    sigma = np.nan_to_num(np.array([f.defocus_sigma_angstrom for f in fits]))
    resolution = np.array([f.max_resolution_angstrom for f in fits])
    stigma = _stigma(fits)
    by_tilt, by_time = (_neighbours(place, good) for place in (tilts_deg, acquisition))
    away = np.minimum(*(np.abs(defocus - _medians(defocus, near)) for near in (by_tilt, by_time)))
    limit = np.maximum(_FAR_ANGSTROM, _FAR_SIGMAS * np.hypot(sigma, _spread(away[good])))
    usual = _medians(resolution, by_tilt)
    turned = np.linalg.norm(stigma - np.stack([_medians(s, by_time) for s in stigma.T], axis=1), axis=1)
    stigma_limit = max(_STIGMA_ANGSTROM, _FAR_SIGMAS * _spread(turned[good]))
    out: list[tuple[str, ...]] = []
    for t, fit in enumerate(fits):
        if not good[t]:
            out.append(("no Thon rings stand out of its noise",))
            continue
        words = []
        if resolution[t] > _WORSE * usual[t]:
            words.append(f"its rings fit to {resolution[t]:.0f} Å only, those of its neighbours to {usual[t]:.0f} Å")
        if away[t] > limit[t]:
            words.append(f"its defocus of {defocus[t] / 1e4:.2f} µm is {away[t] / 1e4:.2f} µm from its neighbours'")
        if turned[t] > stigma_limit:
            words.append(
                f"its astigmatism of {_size(fit):.0f} Å at {fit.astigmatism_angle_deg:.0f}° is not that of its neighbours"
            )
        out.append(tuple(words))
    return tuple(out)


def large_astigmatism(fits: Sequence[CtfFit]) -> float | None:
    """Median astigmatism in A of a series, where it is larger than that of a well-aligned microscope; else None."""
    median = float(np.median([_size(f) for f in fits])) if fits else 0.0
    return median if median > _LARGE_STIGMA_ANGSTROM else None


def _size(fit: CtfFit) -> float:
    size: float = abs(fit.defocus_u_angstrom - fit.defocus_v_angstrom)
    return size


def _stigma(fits: Sequence[CtfFit]) -> FloatArray:
    """(tilt, 2) astigmatism as a vector at twice its angle, A."""
    size = np.array([f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits])
    angle = np.radians([2.0 * f.astigmatism_angle_deg for f in fits])
    return np.stack([size * np.cos(angle), size * np.sin(angle)], axis=1)


def _neighbours(place: ArrayLike, good: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[list[int]]:
    """The nearest tilts with rings of each tilt, itself left out."""
    at = np.asarray(place, dtype=np.float64)
    out = []
    for t in range(len(at)):
        nearest = np.argsort(np.abs(at - at[t]), kind="stable")
        out.append([int(n) for n in nearest if n != t and good[n]][:_NEIGHBOURS])
    return out


def _medians(values: FloatArray, near: list[list[int]]) -> FloatArray:
    """(tilt,) median over the neighbours whose value is known; NaN where there is none, which flags nothing."""
    known = [values[n][np.isfinite(values[n])] for n in near]
    return np.array([np.median(v) if len(v) else np.nan for v in known])


def _spread(distances: FloatArray) -> float:
    """Robust standard deviation of what has these distances from its middle."""
    known = distances[np.isfinite(distances)]
    return 1.4826 * float(np.median(known)) if len(known) else 0.0
