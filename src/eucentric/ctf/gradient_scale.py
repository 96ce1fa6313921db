r"""How steeply the defocus changes across tilted images, over what their tilt angles lead to expect.

With a pixel size that is f times too large a ring of defocus D is read as :math:`f^2 D` at a place f times too far from the
axis: the gradient comes out f times :math:`\tan\alpha`. The defocus itself is as sure as the focus of a microscope, some tenths
of a micrometre; the gradient needs nothing but the stage angles. A wrong wavelength acts alike.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.fit_defocus import Start, fit_defocus
from eucentric.ctf.fit_inclination import LEVEL
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfResult
from eucentric.ctf.ring_model import log_likelihood
from eucentric.ctf.solve_series import View, place_rings
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics
from eucentric.typing import FloatArray

_FACTORS = np.exp(np.linspace(math.log(0.6), math.log(1.7), 15))
_FEWEST = 5
_MODEL_ERROR = 0.02
"""Of the factor: what specimens that are no planes, and tiles of finite size, leave (simulated series come out 0 to 2% low)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientScale:
    """Measured gradient of the defocus over the expected one."""

    factor: float
    """1 where pixel size, voltage and tilt angles are right; NaN where the images do not tell."""
    sigma: float
    """One standard deviation of the factor, from the scatter between tilts and what the model leaves out."""

    @property
    def pixel_factor(self) -> float:
        """By what the given pixel size is to be multiplied, should that be what is wrong."""
        return 1.0 / self.factor


def measure_gradient_scale(
    result: CtfResult,
    geometry: TiltGeometry,
    *,
    optics: Optics,
    params: CtfParams,
    acquisition: ArrayLike,
    specimen_height_angstrom: float = 0.0,
) -> GradientScale:
    """The factor by which the defocus changes across the images, by likelihood, with its error from leaving each tilt out.

    Parameters
    ----------
    result : of :func:`eucentric.ctf.estimate_series_ctf`, with the hand that the images speak for
    geometry : with which it was made, with the inclination of the specimen about the axis in its tilts
    optics, params, acquisition, specimen_height_angstrom : as given to that
    """
    if len(geometry) < _FEWEST:
        return GradientScale(factor=math.nan, sigma=math.nan)
    order = AcquisitionOrder.build(np.asarray(acquisition, dtype=np.float64), result.spectra.power.device)
    view = View(geometry=geometry, order=order, height_angstrom=specimen_height_angstrom)
    model = result.model
    start = Start(
        defocus_angstrom=float(model.defocus.median()), phase_shift_deg=math.degrees(float(model.phase_shift.median()))
    )
    rows = []
    for factor in _FACTORS:
        statistics, _ = place_rings(result.spectra, view, result.hand * float(factor), optics, LEVEL)
        fit = fit_defocus(statistics, start, order, optics, params, rounds=2)
        fixed = fit.model.replace(calibration=model.calibration)
        rows.append(log_likelihood(statistics, fixed, optics).cpu().numpy())
    return _summit(np.array(rows, dtype=np.float64))


def _summit(rows: FloatArray) -> GradientScale:
    """The likeliest factor of (factor, tilt) log-likelihoods; NaN where the best lies at an end."""
    total = rows.sum(1)
    if int(total.argmax()) in (0, len(total) - 1):
        return GradientScale(factor=math.nan, sigma=math.nan)
    best = _vertex(total)
    count = rows.shape[1]
    left_out = np.array([_vertex(total - rows[:, i]) for i in range(count)])
    scatter = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    factor = math.exp(best)
    return GradientScale(factor=factor, sigma=factor * math.hypot(scatter, _MODEL_ERROR))


def _vertex(values: FloatArray) -> float:
    """Logarithm of the factor at the top of the parabola through the three highest neighbours."""
    i = int(np.clip(values.argmax(), 1, len(values) - 2))
    left, middle, right = (float(v) for v in values[i - 1 : i + 2])
    bend = 2 * middle - left - right
    step = math.log(float(_FACTORS[1] / _FACTORS[0]))
    return math.log(float(_FACTORS[i])) + (step * 0.5 * (right - left) / bend if bend > 0 else 0.0)
