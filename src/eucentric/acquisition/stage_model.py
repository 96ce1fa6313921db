r"""What a tilting stage does to a point, as a sum of known functions times unknown numbers.

.. math::
   x(\theta) &= o_x + \cos\theta\,(X - a) + a + \sin\theta\,h + r_x(\theta) + b_x s + c_x m + d_x + n_x \\
   y(\theta) &= o_y + Y + e_c (\cos\theta - 1) + e_s \sin\theta + r_y(\theta) + b_y s + c_y m + d_y + n_y \\
   z(\theta) &= o_z - \sin\theta\,(X - a) + \cos\theta\,h + r_z(\theta) + b_z s + c_z m + d_z + n_z

with the place (X, Y) and height h of the target, the optical axis off the tilt axis by a, the run-out r, the direction of approach s
(-1 or 1), the angle m moved to come here in units of 60 degrees, drift d and what the stage misses at random, n. Numbers are in A.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.params import PredictionParams
from eucentric.errors import InputError
from eucentric.typing import FloatArray

AXES = 3
MOVE_UNIT_DEG = 60.0
_DATUM_ANGSTROM = 1e5
"""1 sd of the zero of positions and heights: nothing is known of it."""
_AXIS_ERROR_ANGSTROM = 500.0
"""1 sd of what an axis that is drawn a degree wrong on the camera turns into movement along it, at 2 um from the axis."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each unknown stands in the state."""

    harmonics: int

    @property
    def run_out(self) -> slice:
        """Of x, y and z in turn: cosines, then sines."""
        return slice(0, 2 * AXES * self.harmonics)

    @property
    def backlash(self) -> slice:
        return self._after(self.run_out, AXES)

    @property
    def datum(self) -> slice:
        return self._after(self.backlash, AXES)

    @property
    def geometry(self) -> slice:
        """Axis offset, height, slopes of the specimen's plane along x and y, and the two of a wrongly drawn axis."""
        return self._after(self.datum, 6)

    @property
    def relaxation(self) -> slice:
        return self._after(self.geometry, AXES)

    @property
    def drift(self) -> slice:
        return self._after(self.relaxation, AXES)

    @property
    def rate(self) -> slice:
        return self._after(self.drift, AXES)

    @property
    def noise(self) -> slice:
        return self._after(self.rate, AXES)

    @property
    def size(self) -> int:
        return int(self.noise.stop)

    @property
    def shared_size(self) -> int:
        """Of what a goniometer model holds: run-out and backlash."""
        return int(self.backlash.stop)

    @staticmethod
    def _after(before: slice, count: int) -> slice:
        return slice(before.stop, before.stop + count)


def run_out_rows(tilts_deg: FloatArray, harmonics: int) -> FloatArray:
    """(n, 2 harmonics): cos(k t) - 1, then sin(k t), so that run-out is nothing at 0 degrees."""
    angles = np.deg2rad(np.asarray(tilts_deg, dtype=np.float64))[:, None] * np.arange(1, harmonics + 1)
    return np.concatenate([np.cos(angles) - 1.0, np.sin(angles)], axis=1)


def run_out_sigmas(params: PredictionParams) -> FloatArray:
    """(2 harmonics,), A, 1 sd of a coefficient before anything is known: the spectrum of a Matern 5/2 process [1]_.

    References
    ----------
    .. [1] Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), equation 4.15
    """
    orders = np.arange(1, params.harmonics + 1, dtype=np.float64)
    falling = (5.0 / np.deg2rad(params.run_out_length_deg) ** 2 + orders**2) ** -1.5
    return np.tile(params.run_out_angstrom * falling / np.linalg.norm(falling), 2)


def shared_sigmas(params: PredictionParams) -> FloatArray:
    """(6 harmonics + 3,), A, 1 sd of run-out and backlash before anything is known."""
    return np.concatenate([np.tile(run_out_sigmas(params), AXES), np.full(AXES, params.backlash_angstrom)])


def moves(tilts_deg: FloatArray, first_approach: int = 0) -> tuple[FloatArray, FloatArray]:
    """Direction of approach (n,) and angle moved (n,), in units of 60 degrees, of tilts in the order of acquisition.

    An angle that is repeated keeps the direction.
    """
    steps = np.diff(tilts_deg, prepend=tilts_deg[:1])
    directions = np.full(len(tilts_deg), float(first_approach))
    for i in range(1, len(tilts_deg)):
        directions[i] = np.sign(steps[i]) or directions[i - 1]
    return directions, steps / MOVE_UNIT_DEG


def design(
    layout: Layout, tilt_deg: float, direction: float, moved: float, place: Sequence[float] = (0.0, 0.0)
) -> FloatArray:
    """(3, size): what x, y and z are made of, less the known part of :func:`known_part`.

    Parameters
    ----------
    tilt_deg : stage angle
    direction : of approach, -1, 0 or 1
    moved : angle moved to come here, in units of 60 degrees
    place : (X, Y), A, of the target in the untilted plane
    """
    rows = np.zeros((AXES, layout.size))
    count = 2 * layout.harmonics
    run_out = run_out_rows(np.array([tilt_deg]), layout.harmonics)[0]
    for axis in range(AXES):
        rows[axis, axis * count : (axis + 1) * count] = run_out
    each = np.eye(AXES)
    rows[:, layout.backlash] = each * direction
    rows[:, layout.datum] = each
    rows[:, layout.relaxation] = each * moved
    rows[:, layout.drift] = each
    rows[:, layout.noise] = each
    angle = np.deg2rad(tilt_deg)
    sine, cosine = np.sin(angle), np.cos(angle)
    height = np.array([sine, 0.0, cosine])
    first = layout.geometry.start
    rows[:, first] = (1.0 - cosine, 0.0, sine)
    rows[:, first + 1] = height
    rows[:, first + 2] = height * place[0]
    rows[:, first + 3] = height * place[1]
    rows[1, first + 4], rows[1, first + 5] = cosine - 1.0, sine
    return rows


def known_part(tilt_deg: float, place: Sequence[float]) -> FloatArray:
    """(3,), A: what a target does by its place in the plane alone."""
    angle = np.deg2rad(tilt_deg)
    return np.array([np.cos(angle) * place[0], place[1], -np.sin(angle) * place[0]])


def own_target_rows(tilt_deg: float) -> FloatArray:
    """(3, 3): how errors of a target's X, Y and height show in x, y and z."""
    angle = np.deg2rad(tilt_deg)
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def prior(layout: Layout, params: PredictionParams) -> tuple[FloatArray, FloatArray]:
    """Mean and variances (size,) of the state of a stage of which nothing is known."""
    mean, sigma = np.zeros(layout.size), np.zeros(layout.size)
    sigma[: layout.shared_size] = shared_sigmas(params)
    sigma[layout.datum] = _DATUM_ANGSTROM
    # Ry(pre-tilt) of a flat plane: z = -tan(pre-tilt) x
    slope = np.tan(np.deg2rad(params.pretilt_deg))
    slope_sigma = np.deg2rad(params.pretilt_sigma_deg) * (1.0 + slope**2)
    mean[layout.geometry.start + 2] = -slope
    sigma[layout.geometry] = (
        params.axis_sigma_angstrom, params.eucentric_sigma_angstrom, slope_sigma, slope_sigma,
        _AXIS_ERROR_ANGSTROM, _AXIS_ERROR_ANGSTROM,
    )  # fmt: skip
    sigma[layout.relaxation] = params.relaxation_angstrom
    sigma[layout.rate] = params.drift_angstrom_per_s
    sigma[layout.noise] = np.hypot(params.stage_noise_angstrom, first_sigma(params))
    return mean, sigma**2


def first_sigma(params: PredictionParams) -> float:
    """A, 1 sd: backlash in the first image, where nothing tells from which side its angle was reached."""
    return 0.0 if params.first_approach else params.backlash_angstrom


def checked_tilt(tilt_deg: float, params: PredictionParams) -> float:
    """The angle, which the stage can reach.

    Raises
    ------
    InputError : no number, or beyond the stage
    """
    if not np.isfinite(tilt_deg):
        raise InputError(f"The tilt angle is {tilt_deg}, not a number. Give degrees.")
    if abs(tilt_deg) > params.max_tilt_deg:
        raise InputError(
            f"The tilt angle {tilt_deg:g} lies beyond the stage, which goes to {params.max_tilt_deg:g} degrees. "
            "Give another angle, or raise max_tilt_deg if the stage goes there."
        )
    return float(tilt_deg)


def filled_times(times_s: FloatArray, params: PredictionParams) -> FloatArray:
    """(n,), s, since the first; where they are not known or do not rise, the usual time of a tilt."""
    times = np.asarray(times_s, dtype=np.float64)
    if len(times) and np.isfinite(times).all() and (np.diff(times) >= 0).all():
        return np.asarray(times - times[0])
    return np.asarray(np.arange(len(times)) * params.tilt_time_s, dtype=np.float64)
