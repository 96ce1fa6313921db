"""Groups of unknowns that many images share: how they change the images, how large they are expected to be, how they are kept.

A group is a set of changes of the geometry, the deformation or the contrast transfer of one series. Its columns tell how the
local changes of every image (:data:`eucentric.refinement.image_sums.LOCAL`) depend on its unknowns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.geometry import Deformation, ImageWarp, TiltGeometry, VolumeWarp
from eucentric.geometry.tilt import angles_of_matrices
from eucentric.geometry.volume_warp import combined
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.refinement.image_sums import BANDS, RefinedParticles
from eucentric.refinement.image_views import ImageViews
from eucentric.refinement.params import GroupName
from eucentric.typing import FloatArray

Columns = dict[str, csr_array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesState:
    """All that is refined of one series."""

    series: TiltSeries
    deformation: Deformation
    particles: tuple[RefinedParticles, ...]
    """Of each species."""


class Unknowns(Protocol):
    """A group of unknowns."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str:
        """Groups of a family are alternatives, such as grids of several sizes."""
        ...

    @property
    def unit(self) -> str: ...
    @property
    def sizes(self) -> tuple[float, ...]:
        """Standard deviations expected, of which held-out particles choose."""
        ...

    def columns(self, views: ImageViews) -> Columns:
        """Local change: (image, unknown)."""
        ...

    def precision(self, size: float) -> FloatArray:
        """(unknown, unknown) of the prior."""
        ...

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        """The state changed by the unknowns."""
        ...


def _at_tilts(views: ImageViews, values: dict[str, FloatArray]) -> Columns:
    """Columns of unknowns of each tilt, from (image, unknown of its tilt)."""
    out = {}
    rows = np.arange(len(views))
    for name, value in values.items():
        width = value.shape[1]
        place = views.tilt[:, None] * width + np.arange(width)
        shape = (len(views), views.tilts * width)
        out[name] = csr_array((value.reshape(-1), (np.repeat(rows, width), place.reshape(-1))), shape=shape)
    return out


def _same_for_all(values: dict[str, FloatArray]) -> Columns:
    return {name: csr_array(value) for name, value in values.items()}


def _turned(views: ImageViews) -> dict[str, FloatArray]:
    """Local changes by turns of the camera about x, y and z in degrees."""
    rad = math.pi / 180.0
    x, y, z = views.camera.T
    zero, one, m = np.zeros(len(views)), np.ones(len(views)), views.magnification
    values = {
        "x": [zero, m * z, -y],
        "y": [-m * z, zero, x],
        "turn_x": [one, zero, zero],
        "turn_y": [zero, one, zero],
        "turn_z": [zero, zero, one],
        "defocus": [views.hand * y / m, -views.hand * x / m, zero],
    }
    return {name: rad * np.stack(value, axis=1) for name, value in values.items()}


def _with_poses(state: SeriesState, change: Callable[[int, TiltPose], TiltPose]) -> SeriesState:
    poses = state.series.poses
    tilts = [replace(t, pose=change(i, poses[i])) for i, t in enumerate(state.series.tilts)]
    return replace(state, series=state.series.with_tilts(tilts))


def _with_ctfs(state: SeriesState, change: Callable[[int, CtfFit], CtfFit]) -> SeriesState:
    tilts: list[Tilt] = [
        t if t.ctf is None else replace(t, ctf=change(i, t.ctf)) for i, t in enumerate(state.series.tilts)
    ]
    return replace(state, series=state.series.with_tilts(tilts))


def _with_turns(state: SeriesState, degrees: FloatArray) -> SeriesState:
    """Poses followed by turns (tilt, 3) about the camera's x, y and z, small and at once."""
    geometry = TiltGeometry.from_poses(state.series.poses)
    turned = _ScipyRotation.from_rotvec(np.deg2rad(degrees)).as_matrix() @ geometry.matrices
    z_rot, y_tilt, x_tilt = angles_of_matrices(turned, near_deg=geometry.y_tilt_deg, x_tilt_deg=geometry.x_tilt_deg)
    return _with_poses(
        state,
        lambda i, p: replace(p, z_rot_deg=float(z_rot[i]), y_tilt_deg=float(y_tilt[i]), x_tilt_deg=float(x_tilt[i])),
    )


@dataclass(frozen=True, slots=True)
class Contrast:
    """Contrast of each species by band of frequency: no unknown that is kept, but none that may pass for another."""

    species: int
    name: str = "contrast"
    family: str = "contrast"
    unit: str = ""
    sizes: tuple[float, ...] = (0.5,)

    def columns(self, views: ImageViews) -> Columns:
        of = views.species[views.particle]
        rows = np.arange(len(views))
        shape = (len(views), BANDS * self.species)
        return {f"band{j}": csr_array((np.ones(len(views)), (rows, of * BANDS + j)), shape=shape) for j in range(BANDS)}

    def precision(self, size: float) -> FloatArray:
        return np.eye(BANDS * self.species) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        del theta
        return state


@dataclass(frozen=True, slots=True)
class TiltShifts:
    """Where each image shows the specimen."""

    tilts: int
    name: str = "shifts"
    family: str = "shifts"
    unit: str = "A"
    sizes: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

    def columns(self, views: ImageViews) -> Columns:
        one, zero = np.ones(len(views)), np.zeros(len(views))
        return _at_tilts(views, {"x": np.stack([one, zero], axis=1), "y": np.stack([zero, one], axis=1)})

    def precision(self, size: float) -> FloatArray:
        return np.eye(2 * self.tilts) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        moves = theta.reshape(-1, 2)
        return _with_poses(
            state,
            lambda i, p: replace(
                p, x_shift_angstrom=p.x_shift_angstrom + moves[i, 0], y_shift_angstrom=p.y_shift_angstrom + moves[i, 1]
            ),
        )


@dataclass(frozen=True, slots=True)
class StageAngles:
    """Three angles of the stage in each image, as turns of the camera's frame."""

    tilts: int
    name: str = "angles"
    family: str = "angles"
    unit: str = "degrees"
    sizes: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2, 0.5, 1.0)

    def columns(self, views: ImageViews) -> Columns:
        return _at_tilts(views, _turned(views))

    def precision(self, size: float) -> FloatArray:
        return np.eye(3 * self.tilts) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_turns(state, theta.reshape(-1, 3))


@dataclass(frozen=True, slots=True)
class CommonAngles:
    """The same turn of the camera's frame in all images: the direction of the tilt axis, the offset of the tilts."""

    name: str = "axis"
    family: str = "axis"
    unit: str = "degrees"
    sizes: tuple[float, ...] = (0.1, 0.5, 2.0)

    def columns(self, views: ImageViews) -> Columns:
        return _same_for_all(_turned(views))

    def precision(self, size: float) -> FloatArray:
        return np.eye(3) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_turns(state, np.broadcast_to(theta, (len(state.series.tilts), 3)))


@dataclass(frozen=True, slots=True)
class TiltMagnification:
    """Magnification of each image, in percent."""

    tilts: int
    name: str = "magnification"
    family: str = "magnification"
    unit: str = "%"
    sizes: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)

    def columns(self, views: ImageViews) -> Columns:
        one = np.ones(len(views))
        values = {"x": views.camera[:, 0], "y": views.camera[:, 1], "magnification": one}
        return _at_tilts(views, {name: 0.01 * value[:, None] for name, value in values.items()})

    def precision(self, size: float) -> FloatArray:
        return np.eye(self.tilts) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        factors = np.exp(0.01 * theta)
        return _with_poses(state, lambda i, p: replace(p, magnification=p.magnification * float(factors[i])))


@dataclass(frozen=True, slots=True)
class AnisotropicMagnification:
    """How much longer one direction of all images is than the other, in percent; kept as deformation of the images."""

    name: str = "anisotropic magnification"
    family: str = "anisotropic magnification"
    unit: str = "%"
    sizes: tuple[float, ...] = (0.05, 0.2, 0.5, 1.0)

    def columns(self, views: ImageViews) -> Columns:
        x, y = 0.01 * views.rigid.T
        return _same_for_all({"x": np.stack([x, y], axis=1), "y": np.stack([-y, x], axis=1)})

    def precision(self, size: float) -> FloatArray:
        return np.eye(2) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        series = state.series
        flat = np.zeros((len(series.tilts), 2, 2, 2))
        places = ImageWarp.build(flat, series.image_shape, series.pixel_size_angstrom).grid_places_angstrom
        return _with_image_warp(state, flat + places @ (0.01 * np.array([[theta[0], theta[1]], [theta[1], -theta[0]]])))


def _with_image_warp(state: SeriesState, field: FloatArray) -> SeriesState:
    series = state.series
    more = ImageWarp.build(field, series.image_shape, series.pixel_size_angstrom)
    warp = combined(state.deformation.image, more)
    return replace(state, deformation=replace(state.deformation, image=warp))


@dataclass(frozen=True, slots=True)
class ImageWarpGrid:
    """A smooth displacement over each image by itself."""

    tilts: int
    grid: tuple[int, int]
    image_shape: tuple[int, int]
    pixel_size_angstrom: float
    family: str = "image warp"
    unit: str = "A"
    sizes: tuple[float, ...] = (0.3, 1.0, 3.0)

    @property
    def name(self) -> str:
        return f"image warp {self.grid[1]} x {self.grid[0]}"

    def columns(self, views: ImageViews) -> Columns:
        flat = ImageWarp.build(np.zeros((1, *self.grid, 2)), self.image_shape, self.pixel_size_angstrom)
        weights = flat.weights(views.rigid)
        zero = np.zeros_like(weights)
        x = np.stack([weights, zero], axis=2).reshape(len(views), -1)
        y = np.stack([zero, weights], axis=2).reshape(len(views), -1)
        return _at_tilts(views, {"x": x, "y": y})

    def precision(self, size: float) -> FloatArray:
        return np.eye(self.tilts * self.grid[0] * self.grid[1] * 2) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_image_warp(state, theta.reshape(self.tilts, *self.grid, 2))


@dataclass(frozen=True, slots=True, eq=False)
class VolumeWarpGrid:
    """A smooth displacement of the specimen itself, smooth in dose."""

    grid: tuple[int, int, int]
    """(z, y, x) points."""
    doses: FloatArray
    """(knot,) e/A^2."""
    extent_angstrom: tuple[float, float, float]
    """(z, y, x) of the specimen."""
    family: str = "volume warp"
    unit: str = "A"
    sizes: tuple[float, ...] = (1.0, 3.0, 10.0)

    @property
    def name(self) -> str:
        z, y, x = self.grid
        return f"volume warp {x} x {y} x {z} x {len(self.doses)}"

    def _warp(self, values: FloatArray) -> VolumeWarp:
        return VolumeWarp.build(values.reshape(len(self.doses), *self.grid, 3), self.doses, self.extent_angstrom)

    def columns(self, views: ImageViews) -> Columns:
        empty = self._warp(np.zeros(len(self.doses) * int(np.prod(self.grid)) * 3))
        space, dose = empty.space_weights(views.points), empty.dose_weights(views.doses)
        both = (dose[:, :, None] * space[:, None, :]).reshape(len(views), -1)
        m, camera = views.magnification[:, None], views.matrices
        rows = {"x": m * camera[:, 0], "y": m * camera[:, 1], "defocus": views.hand * camera[:, 2]}
        return {
            name: csr_array((both[:, :, None] * row[:, None, :]).reshape(len(views), -1)) for name, row in rows.items()
        }

    def precision(self, size: float) -> FloatArray:
        knots = len(self.doses)
        steps = np.diff(np.eye(knots), axis=0)
        # a walk whose whole length has that size, about a mean that particles would take up anyway
        walk = (knots - 1) * steps.T @ steps + 0.1 * np.eye(knots)
        return np.asarray(np.kron(walk, np.eye(int(np.prod(self.grid)) * 3)) / size**2)

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        more = self._warp(theta)
        old = state.deformation.volume
        volume = more if old is None else old.plus(more)
        return replace(state, deformation=replace(state.deformation, volume=volume))


@dataclass(frozen=True, slots=True)
class TiltDefocus:
    """Defocus of each image."""

    tilts: int
    name: str = "defocus by tilt"
    family: str = "defocus by tilt"
    unit: str = "A"
    sizes: tuple[float, ...] = (50.0, 150.0, 500.0, 1500.0)

    def columns(self, views: ImageViews) -> Columns:
        return _at_tilts(views, {"defocus": np.ones((len(views), 1))})

    def precision(self, size: float) -> FloatArray:
        return np.eye(self.tilts) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_ctfs(state, lambda i, f: _defocused(f, float(theta[i])))


@dataclass(frozen=True, slots=True)
class SeriesDefocus:
    """One change of defocus for all images of a series."""

    name: str = "defocus"
    family: str = "defocus"
    unit: str = "A"
    sizes: tuple[float, ...] = (100.0, 300.0, 1000.0, 3000.0)

    def columns(self, views: ImageViews) -> Columns:
        return _same_for_all({"defocus": np.ones((len(views), 1))})

    def precision(self, size: float) -> FloatArray:
        return np.eye(1) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_ctfs(state, lambda _, f: _defocused(f, float(theta[0])))


def _defocused(fit: CtfFit, change: float) -> CtfFit:
    return replace(
        fit, defocus_u_angstrom=fit.defocus_u_angstrom + change, defocus_v_angstrom=fit.defocus_v_angstrom + change
    )


@dataclass(frozen=True, slots=True)
class Astigmatism:
    """One change of astigmatism for all images of a series, half the difference of both defoci along x and at 45 degrees."""

    name: str = "astigmatism"
    family: str = "astigmatism"
    unit: str = "A"
    sizes: tuple[float, ...] = (30.0, 100.0, 300.0)

    def columns(self, views: ImageViews) -> Columns:
        one, zero = np.ones(len(views)), np.zeros(len(views))
        return _same_for_all(
            {"astigmatism_x": np.stack([one, zero], axis=1), "astigmatism_y": np.stack([zero, one], axis=1)}
        )

    def precision(self, size: float) -> FloatArray:
        return np.eye(2) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        def changed(_: int, fit: CtfFit) -> CtfFit:
            half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
            angle = math.radians(2.0 * fit.astigmatism_angle_deg)
            x, y = half * math.cos(angle) + theta[0], half * math.sin(angle) + theta[1]
            size = math.hypot(x, y)
            return replace(
                fit,
                defocus_u_angstrom=fit.defocus_angstrom + size,
                defocus_v_angstrom=fit.defocus_angstrom - size,
                astigmatism_angle_deg=0.5 * math.degrees(math.atan2(y, x)),
            )

        return _with_ctfs(state, changed)


@dataclass(frozen=True, slots=True)
class PhaseShift:
    """One change of the phase shift of all images of a series, degrees."""

    name: str = "phase shift"
    family: str = "phase shift"
    unit: str = "degrees"
    sizes: tuple[float, ...] = (2.0, 10.0)

    def columns(self, views: ImageViews) -> Columns:
        return _same_for_all({"phase": np.full((len(views), 1), math.pi / 180.0)})

    def precision(self, size: float) -> FloatArray:
        return np.eye(1) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return _with_ctfs(state, lambda _, f: replace(f, phase_shift_deg=f.phase_shift_deg + float(theta[0])))


@dataclass(frozen=True, slots=True)
class OpticsTerm:
    """An aberration of the optics of all series of a group: spherical aberration, beam tilt or trefoil."""

    name: str
    option: GroupName
    changed: tuple[str, ...]
    """Names of local changes, one an unknown."""
    unit: str
    sizes: tuple[float, ...]

    @property
    def family(self) -> str:
        return self.name

    def columns(self, views: ImageViews) -> Columns:
        one = np.ones(len(views))
        width = len(self.changed)
        return _same_for_all(
            {name: np.stack([one * (i == j) for j in range(width)], axis=1) for i, name in enumerate(self.changed)}
        )

    def precision(self, size: float) -> FloatArray:
        return np.eye(len(self.changed)) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        return replace(state, series=self.changed_series(state.series, theta))

    def changed_series(self, series: TiltSeries, theta: FloatArray) -> TiltSeries:
        """A series seen through the changed lens."""
        optics = series.optics
        if optics is None:
            return series
        if self.option == "spherical-aberration":
            new = replace(optics, spherical_aberration_mm=optics.spherical_aberration_mm + float(theta[0]))
        elif self.option == "beam-tilt":
            x, y = optics.beam_tilt_mrad
            new = replace(optics, beam_tilt_mrad=(x + float(theta[0]), y + float(theta[1])))
        else:
            x, y = optics.trefoil_rad_angstrom3
            new = replace(optics, trefoil_rad_angstrom3=(x + float(theta[0]), y + float(theta[1])))
        return series.replace(optics=new)


OPTICS_TERMS = (
    OpticsTerm("spherical aberration", "spherical-aberration", ("spherical",), "mm", (0.05, 0.3)),
    OpticsTerm("beam tilt", "beam-tilt", ("coma_x", "coma_y"), "mrad", (0.1, 0.5, 2.0)),
    OpticsTerm("trefoil", "trefoil", ("trefoil_x", "trefoil_y"), "rad A^3", (3.0, 30.0)),
)


@dataclass(frozen=True, slots=True, eq=False)
class TiltContrast:
    """How strong the signal of each image is, and a B factor of its own; both about the mean of the series."""

    tilts: int
    band_squares: FloatArray
    """(band,) squared frequency at each band's summit, 1/A^2."""
    name: str = "weights"
    family: str = "weights"
    unit: str = "of the contrast"
    sizes: tuple[float, ...] = (0.1, 0.3)
    b_factor_angstrom2: float = 200.0
    """Expected for a size of one."""

    def columns(self, views: ImageViews) -> Columns:
        one = np.ones(len(views))
        values = {
            f"band{j}": np.stack([one, -0.25 * self.b_factor_angstrom2 * square * one], axis=1)
            for j, square in enumerate(self.band_squares)
        }
        return _at_tilts(views, values)

    def precision(self, size: float) -> FloatArray:
        return np.eye(2 * self.tilts) / size**2

    def applied(self, state: SeriesState, theta: FloatArray) -> SeriesState:
        scale, b_factor = theta.reshape(-1, 2).T
        factors = np.exp(scale - scale.mean())
        more = self.b_factor_angstrom2 * (b_factor - b_factor.mean())
        tilts = [
            replace(
                t,
                signal_scale=t.signal_scale * float(factors[i]),
                b_factor_angstrom2=t.b_factor_angstrom2 + float(more[i]),
            )
            for i, t in enumerate(state.series.tilts)
        ]
        return replace(state, series=state.series.with_tilts(tilts))


def moved_particles(particles: RefinedParticles, changes: FloatArray) -> RefinedParticles:
    """Particles moved and turned by their own changes (particle, 7)."""
    if not len(particles):
        return particles
    return replace(
        particles,
        positions_angstrom=particles.positions_angstrom + changes[:, :3],
        rotations=_ScipyRotation.from_rotvec(changes[:, 3:6]).as_matrix() @ particles.rotations,
    )
