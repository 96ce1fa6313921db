r"""Thickness and inclination of the specimen from how its images darken as it is tilted.

A beam that passes a slab at the angle :math:`\alpha` to its normal loses, by scattering,

.. math:: \ln I = \ln I_0 - \frac{t}{\lambda \cos\alpha}

of its electrons (Beer and Lambert), whatever the specimen holds [1]_. Over a tilt series the curvature gives
:math:`t / \lambda` and the asymmetry the angle at which the slab lies flat.

References
----------
.. [1] Yan et al., J. Struct. Biol. 192:287 (2015), doi:10.1016/j.jsb.2015.09.019
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import rotation_y
from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

MEAN_FREE_PATH = (
    3000.0  # A, vitreous ice at 300 kV with energy filter and objective aperture: 2800 to 4000 are measured
)
MEAN_FREE_PATH_ERROR = 0.15  # of it: what differs from one microscope, aperture and slit to the next
_ELECTRON_KV = 510.999
_STEEPEST = 35.0  # degrees of inclination that are tried
_LEAST_TILTS = 8
_LEAST_RANGE = 40.0  # degrees between the outermost tilts
_LEAST_COSINE = 0.05
_DRIFT = 0.02  # of the beam's intensity over a series, one standard deviation
_BEAM = 0.005  # of the intensity: expected noise of an image, worth _BELIEF images of evidence
_BELIEF = 2.0
_SPREAD = 0.03  # of the intensity: errors up to that are no reason to take an image for blocked
_TUKEY = 4.685  # standard deviations from which an image says nothing; 95% efficient
_MOST_ALIKE = 5.0
_NO_SLAB = 0.3  # degrees: no specimen is a perfect slab
_SURE = 4.0  # standard deviations by which the darkening must stand out
_BLOCK = 16  # pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransmissionFit:
    """What the intensities of a tilt series say about the slab that the beam passes."""

    found: bool
    """False where the images do not darken as a slab's do: then the other numbers mean nothing."""
    y_tilt_deg: float
    """The slab's normal is ``Ry(y_tilt) z``; of the inclination about the other axis intensities say nothing."""
    y_tilt_sigma_deg: float
    paths: float
    """Thickness over mean free path."""
    paths_sigma: float
    incident: float
    """Intensity without specimen."""
    residuals: FloatArray
    """(tilt,): log of the intensity over that of the model; far below 0 something blocked the beam."""
    sigma: float
    """Of a residual."""


def mean_free_path(voltage_kv: float, at_300_kv: float = MEAN_FREE_PATH) -> float:
    """A, of electrons in vitreous ice: it goes with the square of their speed."""

    def squared_speed(kv: float) -> float:
        return 1.0 - 1.0 / (1.0 + kv / _ELECTRON_KV) ** 2

    if not voltage_kv > 0:
        raise InputError(f"A voltage of {voltage_kv:g} kV was given; expected a positive number.")
    return at_300_kv * squared_speed(voltage_kv) / squared_speed(300.0)


def image_intensities(images: Float[Tensor, "tilt y x"]) -> FloatArray:
    """(tilt,): median over an image of the means of 16 x 16 pixels, which gold and a shaded corner leave as it is."""
    rows, columns = (max(1, n // _BLOCK) for n in images.shape[1:])
    size = [min(_BLOCK, n) for n in images.shape[1:]]
    cut = images[:, : rows * size[0], : columns * size[1]]
    means = cut.reshape(len(images), rows, size[0], columns, size[1]).double().mean((2, 4)).flatten(1)
    return np.asarray(means.quantile(0.5, dim=1).cpu().numpy(), dtype=np.float64)


def fit_transmission(
    intensities: ArrayLike, geometry: TiltGeometry, *, order: ArrayLike | None = None, doses: ArrayLike | None = None
) -> TransmissionFit:
    """Thickness over mean free path, and inclination about the tilt axis.

    Every inclination to 35 degrees is tried with a fit that no blocked image moves; the best is refined. A steady drift
    of the beam in the order of acquisition is fitted along, held to 2% over the series: where tilts were taken in order
    of angle it looks like an inclination, and its uncertainty goes into that of the angle.

    Parameters
    ----------
    intensities : (tilt,), of :func:`image_intensities`; counts, not normalised
    geometry : of the same tilts
    order : (tilt,), place of each tilt in the order of acquisition; that of their angles where unknown
    doses : (tilt,), e/A^2; where they differ, and the images follow them, intensities are taken relative to them

    Raises
    ------
    ShapeError : arrays of different length
    """
    values = np.asarray(intensities, dtype=np.float64)
    given = [np.asarray(a, dtype=np.float64) for a in (order, doses) if a is not None]
    if any(a.shape != (len(geometry),) for a in (values, *given)):
        raise ShapeError(f"{len(geometry)} tilts were given; expected one intensity, place and dose for each of them.")
    place = np.arange(len(values), dtype=np.float64) if order is None else np.argsort(np.argsort(order)).astype(float)
    tilts = geometry.y_tilt_deg
    if len(values) < _LEAST_TILTS or np.ptp(tilts) < _LEAST_RANGE or not (np.isfinite(values) & (values > 0)).all():
        return _unknown(len(values))
    late = place / max(len(values) - 1, 1) - 0.5
    logs = [np.log(values)]
    dose = None if doses is None else np.asarray(doses, dtype=np.float64)
    if dose is not None and (dose > 0).all() and np.ptp(dose) > 0.01 * dose.mean():
        logs.append(np.log(values / dose))
    fits = [_fit(log, geometry, late) for log in logs]
    return min(fits, key=lambda fit: (not fit.found, fit.sigma))


def _fit(log: FloatArray, geometry: TiltGeometry, late: FloatArray) -> TransmissionFit:
    grid = np.arange(-_STEEPEST, _STEEPEST + 0.5, 2.5)
    tried = [_robust(log, _columns(geometry, angle, late)) for angle in grid]
    k = int(np.argmin([cost for _, cost in tried]))
    if not np.isfinite(tried[k][1]):
        return _unknown(len(log))
    unknowns = np.array([*tried[k][0], grid[k]])
    scale, weight, residual = _SPREAD, np.ones(len(log)), np.zeros(len(log))
    prior = np.array([0.0, 0.0, 1.0 / _DRIFT**2, 0.0])
    normal = np.eye(4)
    for number in range(30):
        columns = _columns(geometry, unknowns[3], late)
        residual = log - columns @ unknowns[:3]
        scale = _scale(residual[weight > 0]) if number else _SPREAD
        weight = np.clip(1.0 - (residual / (_TUKEY * scale)) ** 2, 0.0, None) ** 2
        slope = (_columns(geometry, unknowns[3] + 0.01, late) - _columns(geometry, unknowns[3] - 0.01, late)) / 0.02
        jacobian = np.column_stack([columns, slope @ unknowns[:3]])
        normal = (jacobian * weight[:, None]).T @ jacobian / scale**2 + np.diag(prior)
        right = jacobian.T @ (weight * residual) / scale**2 - prior * unknowns
        # inclination and drift change places slowly where the specimen is thin
        step = np.linalg.solve(normal + 1e-9 * np.diag(np.diag(normal)), right)
        step[3] = np.clip(step[3], -2.0, 2.0)
        unknowns = unknowns + step
        unknowns[3] = np.clip(unknowns[3], -_STEEPEST, _STEEPEST)
        if number > 2 and np.abs(step[3]) < 1e-5 and np.abs(step[:3]).max() < 1e-7:
            break
    alike = _alike(residual, weight)
    covariance = np.linalg.inv(normal + 1e-12 * np.diag(np.diag(normal))) * alike
    sigma = np.sqrt(np.diag(covariance))
    paths, angle = -float(unknowns[1]), float(unknowns[3])
    return TransmissionFit(
        found=bool(paths > _SURE * sigma[1] and abs(angle) < _STEEPEST - 1.0 and (weight > 0).mean() > 0.5),
        y_tilt_deg=angle,
        y_tilt_sigma_deg=float(np.hypot(sigma[3], _NO_SLAB)),
        paths=paths,
        paths_sigma=float(sigma[1]),
        incident=float(np.exp(unknowns[0])),
        residuals=residual,
        sigma=float(scale),
    )


def _columns(geometry: TiltGeometry, y_tilt_deg: float, late: FloatArray) -> FloatArray:
    """(tilt, 3): a constant, minus what it is to be multiplied with for thickness over path, and the drift."""
    cosine = np.abs((geometry.matrices @ rotation_y(float(y_tilt_deg)))[:, 2, 2])
    return np.column_stack([np.ones(len(late)), 1.0 / np.maximum(cosine, _LEAST_COSINE), late])


def _robust(log: FloatArray, columns: FloatArray) -> tuple[FloatArray, float]:
    """Unknowns and cost of a fit that ignores blocked images, and does not start from them: ends have most leverage."""
    best, lowest = np.zeros(columns.shape[1]), float("inf")
    ends = max(1, len(log) // 10)
    for left, right in ((0, 0), (ends, 0), (0, ends), (ends, ends)):
        weight = np.ones(len(log))
        weight[:left], weight[len(log) - right :] = 0.0, 0.0
        trusted = weight > 0
        for number in range(16):
            unknowns = _weighted(log, columns, weight)
            residual = np.abs(log - columns @ unknowns) / _SPREAD
            weight = trusted / np.maximum(residual, 1.0) if number < 8 else 1.0 / (1.0 + residual**2) ** 2
        cost = float((residual**2 / (1.0 + residual**2)).sum())
        # a slab darkens; it does not brighten
        if cost < lowest and unknowns[1] < 0:
            best, lowest = unknowns, cost
    return best, lowest


def _weighted(log: FloatArray, columns: FloatArray, weight: FloatArray) -> FloatArray:
    bound = np.diag([0.0, 0.0, _SPREAD**2 / _DRIFT**2])
    normal = (columns * weight[:, None]).T @ columns + bound + 1e-12 * np.eye(3)
    return np.asarray(np.linalg.solve(normal, columns.T @ (weight * log)))


def _scale(residual: FloatArray) -> float:
    """Standard deviation of most residuals, drawn towards that of a usual beam."""
    middle = 1.4826 * float(np.median(np.abs(residual)))
    count = len(residual)
    return float(np.sqrt((count * middle**2 + _BELIEF * _BEAM**2) / (count + _BELIEF)))


def _alike(residual: FloatArray, weight: FloatArray) -> float:
    """Images that tell the same as one, since neighbours in angle err alike."""
    good = residual * (weight > 0)
    power = float(good @ good)
    share = float(good[1:] @ good[:-1]) / power if power > 0 else 0.0
    return float(np.clip((1.0 + share) / max(1.0 - share, 0.1), 1.0, _MOST_ALIKE))


def _unknown(count: int) -> TransmissionFit:
    unknown = float("nan")
    return TransmissionFit(
        found=False,
        y_tilt_deg=0.0,
        y_tilt_sigma_deg=unknown,
        paths=unknown,
        paths_sigma=unknown,
        incident=unknown,
        residuals=np.full(count, unknown),
        sigma=unknown,
    )
