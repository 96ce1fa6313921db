"""How the series is recorded: angles and their order, geometry with its errors, defocus, motion, deformation."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry, rotation_z
from eucentric.models.tilt_scheme import alternate
from eucentric.simulation.local_motion import LocalMotion
from eucentric.simulation.params import SimulationParams
from eucentric.typing import FloatArray

_DEFORMATION_DOSE = 30.0  # e/A^2 over which the specimen settles
_DEFORMATION_SCALE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisition:
    """The true course of one tilt series; arrays by ascending nominal angle."""

    nominal_tilts_deg: FloatArray
    order: NDArray[np.int64]
    """(tilt,), 0-based order in which the images are taken."""
    geometry: TiltGeometry
    defocus_u_angstrom: FloatArray
    defocus_v_angstrom: FloatArray
    motion_angstrom: FloatArray
    """(tilt, frame, 2), x and y: where the content of each frame is displaced to; the mean over frames is zero."""
    deformation: FloatArray
    """(3, 6), coefficients of 1, u, v, u^2, v^2, uv for the displacement along x, y and z; the first is not used."""
    phase_shift_deg: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(tilt,), of a phase plate; 0 for every tilt where not given."""
    local_motion: LocalMotion | None = None
    """Of single objects beside `motion_angstrom`; None where they only move with the image."""

    def __post_init__(self) -> None:
        if not len(self.phase_shift_deg):
            object.__setattr__(self, "phase_shift_deg", np.zeros(len(self.nominal_tilts_deg)))

    def doses(self, params: SimulationParams) -> FloatArray:
        """(tilt,), e/A^2 of each image."""
        if not params.tilt_doses:
            return np.full(len(self.order), params.dose_per_tilt)
        return np.asarray(params.tilt_doses, dtype=np.float64)[self.order]

    def doses_before(self, params: SimulationParams) -> FloatArray:
        """(tilt,), e/A^2 received before each image."""
        if not params.tilt_doses:
            return np.asarray(self.order * params.dose_per_tilt)
        return np.concatenate([[0.0], np.cumsum(params.tilt_doses)])[self.order]

    def object_motion(self, tilt: int, places: FloatArray) -> FloatArray:
        """Displacement (frame, n, 2), x and y in A, of objects at places (n, 2) of the image, A from its centre.

        The places are those without motion, as :class:`TiltGeometry` projects them. The motion of the image is in it.
        """
        whole = np.broadcast_to(self.motion_angstrom[tilt][:, None], (self.motion_angstrom.shape[1], len(places), 2))
        return np.asarray(whole if self.local_motion is None else whole + self.local_motion.at(tilt, places))

    def deformation_at(self, points: FloatArray, params: SimulationParams) -> FloatArray:
        """Displacement (tilt, n, 3) in A of specimen points (n, 3) at the middle of each exposure.

        ``a_t sum_k c_k b_k(u, v)`` with u, v the position over half the longer side of the field of view and
        ``a_t = deformation (1 - exp(-(dose before + dose / 2) / 30)) / 1.5``.
        """
        half = 0.5 * max(params.field_of_view_angstrom)
        u, v = points[:, 0] / half, points[:, 1] / half
        basis = np.stack([u, v, u**2, v**2, u * v])
        middle = self.doses_before(params) + 0.5 * self.doses(params)
        grown = params.deformation_angstrom * (1.0 - np.exp(-middle / _DEFORMATION_DOSE)) / _DEFORMATION_SCALE
        return np.asarray(grown[:, None, None] * (self.deformation[:, 1:] @ basis).T)


def plan_acquisition(params: SimulationParams, rng: np.random.Generator) -> Acquisition:
    """Draw the course of a series.

    Raises
    ------
    InputError : a blocked or dead tilt that does not exist
    """
    nominal, order = tilt_scheme(params)
    count = len(nominal)
    missing = [t for t in (*params.blocked_tilts, *params.dead_tilts) if not 0 <= t < count]
    if missing:
        raise InputError(f"Tilt {missing[0]} is to be blocked or dead, but there are only tilts 0 to {count - 1}.")
    # errors that come on top, drawn apart: without them all else is as it was
    extra = rng.spawn(1)[0]
    elapsed = order / max(count - 1, 1)  # 0 at the first exposure, 1 at the last
    true_tilt = nominal + params.tilt_offset_deg + rng.normal(scale=params.tilt_error_deg, size=count)
    # the stage walks slowly in the order of acquisition, and is tracked back
    jitter = rng.normal(size=(count, 2))
    walk = np.zeros((count, 2))
    for step in range(1, count):
        walk[step] = 0.85 * walk[step - 1] + np.sqrt(1 - 0.85**2) * rng.normal(size=2)
    shifts = params.stage_jitter_angstrom * (0.6 * jitter + 0.8 * walk[order])
    run_out = np.cumsum(extra.normal(scale=params.stage_walk_angstrom, size=(count, 2)), axis=0)
    shifts = shifts + (run_out - run_out[0])[order]
    axis = params.tilt_axis_deg + params.tilt_axis_drift_deg * elapsed
    larger = 1.0 + params.magnification_drift * elapsed
    geometry = TiltGeometry.build(
        true_tilt,
        z_rot_deg=axis + extra.normal(scale=params.tilt_axis_jitter_deg, size=count),
        x_tilt_deg=params.x_tilt_deg,
        shifts_angstrom=shifts,
        magnification=larger + np.clip(extra.normal(scale=params.magnification_jitter, size=count), -0.2, 0.2),
    )
    defocus = params.defocus_angstrom + rng.normal(scale=params.defocus_jitter_angstrom, size=count)
    defocus = defocus + params.defocus_drift_angstrom * elapsed
    coefficients = rng.normal(size=(3, 6))
    coefficients[:, 0] = 0.0
    return Acquisition(
        nominal_tilts_deg=nominal,
        order=order,
        geometry=geometry,
        defocus_u_angstrom=defocus + 0.5 * params.astigmatism_angstrom,
        defocus_v_angstrom=defocus - 0.5 * params.astigmatism_angstrom,
        motion_angstrom=_motion(params, geometry, rng),
        deformation=coefficients,
        phase_shift_deg=params.phase_shift_deg + params.phase_shift_drift_deg * elapsed,
        local_motion=(
            LocalMotion.draw(
                count, params.frames, params.local_motion_angstrom, params.local_motion_length_angstrom, extra
            )
            if params.local_motion_angstrom > 0
            else None
        ),
    )


def tilt_scheme(params: SimulationParams) -> tuple[FloatArray, NDArray[np.int64]]:
    """Nominal angles (tilt,) ascending, in degrees, and the acquisition index (tilt,) of each.

    Dose-symmetric and bidirectional schemes start at the angle next to `tilt_start_deg` and go up first. Where angles
    are given, they are taken in their order.
    """
    if params.tilt_angles_deg:
        given = np.asarray(params.tilt_angles_deg, dtype=np.float64)
        ascending = np.argsort(given)
        return given[ascending], ascending.astype(np.int64)
    steps = int(np.floor((params.tilt_max_deg - params.tilt_min_deg) / params.tilt_step_deg + 1e-6))
    nominal = params.tilt_min_deg + params.tilt_step_deg * np.arange(steps + 1, dtype=np.float64)
    start = int(np.argmin(np.abs(nominal - params.tilt_start_deg)))
    up, down = list(range(start + 1, steps + 1)), list(range(start - 1, -1, -1))
    if params.scheme == "continuous":
        order = list(range(steps + 1))
    elif params.scheme == "bidirectional":
        order = [start, *up, *down]
    else:
        order = [start, *(int(i) for i in alternate((up, down), lambda _: params.tilt_group))]
    acquisition = np.empty(steps + 1, dtype=np.int64)
    acquisition[order] = np.arange(steps + 1)
    return nominal, acquisition


def _motion(params: SimulationParams, geometry: TiltGeometry, rng: np.random.Generator) -> FloatArray:
    """Drift that dies away, a small random walk, and the specimen's rise along its normal as the image shows it."""
    count, frames = len(geometry), params.frames
    time = (np.arange(frames) + 0.5) / frames
    settled = 1.0 - np.exp(-3.0 * time)
    length = params.drift_angstrom * rng.gamma(4.0, 0.25, size=count)
    direction = rotation_z(rng.uniform(0.0, 360.0, size=count))[:, :2, 0]
    drift = length[:, None, None] * direction[:, None] * settled[:, None]
    walk = 0.08 * params.drift_angstrom * np.cumsum(rng.normal(size=(count, frames, 2)), axis=1) / np.sqrt(frames)
    rise = params.doming_angstrom * rng.gamma(4.0, 0.25, size=count)
    doming = rise[:, None, None] * geometry.matrices[:, None, :2, 2] * settled[:, None]
    total = drift + walk + doming
    return np.asarray(total - total.mean(axis=1, keepdims=True))
