"""The rigid motion that lays one tomogram onto another of the same specimen, judged where both sampled Fourier space."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import BackendError, InputError, ProcessingError, ShapeError
from eucentric.fourier.crop import fourier_crop
from eucentric.fourier.filters import soft_edge
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.fourier.shells import radial_average, shell_index
from eucentric.geometry.tilt import TiltGeometry
from eucentric.reconstruction.fourier_coverage import FourierCoverage
from eucentric.reconstruction.move_volume import RigidMotion, read_spline, spline_coefficients
from eucentric.typing import FloatArray

_SEARCH_VOXELS = 200_000
"""Of the search: 96 x 96 x 22, where a turn by 5 degrees still shows."""
_FINEST_VOXELS = 4_000_000
"""Of the last refinement: 256 x 256 x 64, which fixes 0.05 voxel of a volume four times as fine."""
_TURN_STEP_DEG = 5.0
_TURN_SPAN_DEG = 15.0
_LEAN_DEG = 6.0
_SEARCH_BAND = (0.2, 0.35)
"""Cycles per voxel where the search fades out: 3 voxels across, 5 degrees move the rim of the volume by as much."""
_BAND = (0.35, 0.45)
_BEST_STARTS = 3
_LEANING_STARTS = 2
_STEPS = 25
_SIGNIFICANT = 8.0
"""Standard deviations of a chance correlation; the best of a million chance ones reaches 5."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeRegistration:
    """How the second of two volumes lies in the first."""

    motion: RigidMotion
    """From the frame of the second volume to that of the first."""
    sigma_shift_angstrom: FloatArray
    """(3,), x, y, z: one standard deviation each, from the curvature of the correlation and the noise left in it."""
    sigma_rotation_deg: FloatArray
    """(3,), about x, y and z of the first volume."""
    correlation: float
    """Of the two volumes, whitened and weighted, in the region of Fourier space that both sampled."""
    significance: float
    """The correlation in standard deviations of that of two unrelated volumes."""
    frequency: FloatArray
    """(shell,), 1/A, of `shell_correlation`."""
    shell_correlation: FloatArray
    """(shell,), Fourier shell correlation in the region that both sampled."""
    scale: float
    """The second volume times this has the amplitude of the first in that region."""


def register_volumes(
    first: Float[Tensor, "z y x"],
    second: Float[Tensor, "z y x"],
    first_geometry: TiltGeometry,
    second_geometry: TiltGeometry,
    *,
    voxel_size: float,
    turn_deg: float | None = None,
) -> VolumeRegistration:
    r"""Find ``p_first = R p_second + t`` for two tomograms of one specimen tilted about two axes.

    Both are whitened in shells and correlated with weights :math:`c_1(k)\,c_2(R^T k)\,\gamma / (1 - \gamma^2)`: the
    product of the coverages leaves out what only one of them sampled, and gamma, the shell correlation found so far,
    gives each shell the weight of maximum likelihood [1]_. On a coarse grid all turns about z are tried 5 degrees apart,
    each with every shift at once, the best ones also leaning by 6 degrees; the best start is then refined on finer and
    finer grids by Gauss-Newton steps in all six parameters.

    Parameters
    ----------
    first, second : (z, y, x), perhaps of different sizes, with the same voxel size
    first_geometry, second_geometry : tilts behind each volume, whose coverage of Fourier space they tell
    voxel_size : A per voxel
    turn_deg : turn about z of the second volume where it is known to 15 degrees; all turns are searched where None

    Raises
    ------
    ShapeError : not two volumes
    InputError : a voxel size that is not positive; a volume without contrast, or with NaN
    ProcessingError : the volumes do not match more than chance makes them, or are of different hands
    BackendError : memory

    References
    ----------
    .. [1] Knapp & Carter, IEEE Trans. Acoust. Speech Signal Process. 24:320 (1976), doi:10.1109/TASSP.1976.1162830
    """
    if first.ndim != 3 or second.ndim != 3:
        raise ShapeError(
            f"Volumes of shape {tuple(first.shape)} and {tuple(second.shape)} were given; expected (z, y, x)."
        )
    if not voxel_size > 0:
        raise InputError(f"The voxel size is {voxel_size:g} A; expected a positive number.")
    for name, volume in (("first", first), ("second", second)):
        spread = float(volume.std())
        if not spread > 0:  # also NaN
            raise InputError(f"The {name} volume holds no contrast, or NaN. Reconstruct it again.")
    pair = [np.array(v.shape) for v in (first, second)]
    size = (max(s[0] for s in pair), max(max(s[1:]) for s in pair))
    need = int(24 * size[0] * size[1] ** 2)
    if need > free_bytes(first.device):
        raise BackendError(
            f"Registering volumes of up to {size[0]} x {size[1]} x {size[1]} voxels needs {need / 2**30:.1f} GiB, but "
            f"only {free_bytes(first.device) / 2**30:.1f} GiB may be used on {first.device}. Use larger voxels."
        )
    geometries = (first_geometry, second_geometry)
    factors = sorted({_factor(size, _SEARCH_VOXELS), _factor(size, _FINEST_VOXELS)}, reverse=True)
    best: RigidMotion | None = None
    for factor in factors:
        level = _Level((first, second), geometries, size, voxel_size, factor)
        if best is None:
            rough = _ranked(level, [_improve(level, m, _SEARCH_BAND) for m in _search(level, turn_deg)], _SEARCH_BAND)
            _check_hand((first, second), geometries, size, voxel_size, level, rough[0])
            starts = [rough[0], *_others(rough)[:1]]
        else:
            starts = [best]
        best = _ranked(level, [_improve(level, m, _BAND) for m in starts], _BAND)[0]
    if best is None:
        raise ProcessingError("No grid was made for the registration.")
    return _describe(level, best)


def _check_hand(
    volumes: tuple[Tensor, Tensor],
    geometries: tuple[TiltGeometry, TiltGeometry],
    size: tuple[int, int],
    voxel_size: float,
    level: "_Level",
    found: RigidMotion,
) -> None:
    """Refuse a pair whose mirror image matches better: seen along z both hands look alike, and match somewhat.

    Raises
    ------
    ProcessingError : the volumes are of different hands
    """
    seen = geometries[1]
    mirror = seen.replace(y_tilt_deg=-seen.y_tilt_deg, x_tilt_deg=-seen.x_tilt_deg)
    other = _Level((volumes[0], volumes[1].flip(0)), (geometries[0], mirror), size, voxel_size, level.factor)
    start = _improve(other, _search(other, found.angles_deg[2])[0], _SEARCH_BAND)
    right = level.significance(level.compare(found, _SEARCH_BAND))
    wrong = other.significance(other.compare(start, _SEARCH_BAND))
    if wrong > max(right, _SIGNIFICANT):
        raise ProcessingError(
            f"The second tomogram turned inside out in z matches the first better ({wrong:.1f} standard deviations of "
            f"chance) than as it is ({right:.1f}): one of the two has the wrong hand. Check the signs of their tilts."
        )


def _ranked(level: "_Level", motions: list[RigidMotion], band: tuple[float, float]) -> list[RigidMotion]:
    """The most significant first."""
    values = [level.significance(level.compare(m, band)) for m in motions]
    return [motions[i] for i in np.argsort(values)[::-1]]


def _others(starts: list[RigidMotion]) -> list[RigidMotion]:
    """Starts that did not run into the first one."""
    kept: list[RigidMotion] = []
    for motion in starts[1:]:
        apart = [_angle_between(motion, other) > 1.0 for other in (starts[0], *kept)]
        if all(apart):
            kept.append(motion)
    return kept


def _angle_between(a: RigidMotion, b: RigidMotion) -> float:
    return float(np.rad2deg(np.arccos(np.clip((np.trace(a.rotation.T @ b.rotation) - 1.0) / 2.0, -1.0, 1.0))))


def _factor(size: tuple[int, int], most: int) -> int:
    return max(1, math.ceil(float(np.cbrt(size[0] * size[1] ** 2 / most)) - 1e-9))


@dataclass(slots=True)
class _Match:
    """Both volumes under one window, the second in place, and what their comparison needs."""

    moved: Tensor
    """The second volume in place, without the window."""
    window: Tensor
    """What both volumes cover, fading out at the edges of either."""
    first: Tensor
    spectrum: Tensor
    """Spectra of the first and of the moved second volume under the window."""
    weight: Tensor
    """Whitening, coverage and shell weights together, for products of the two spectra."""
    value: float
    gamma: Tensor
    independent: float
    """Part of the Fourier samples that are independent under the window."""


class _Level:
    """Both volumes on one grid, `factor` times coarser than they were given."""

    def __init__(
        self,
        volumes: tuple[Tensor, Tensor],
        geometries: tuple[TiltGeometry, TiltGeometry],
        size: tuple[int, int],
        voxel_size: float,
        factor: int,
    ) -> None:
        self.voxel = voxel_size * factor
        self.factor = factor
        z, side = (max(8, 2 * math.ceil(n / (2 * factor))) for n in size)
        self.shape = (z, side, side)
        whole = (z * factor, side * factor, side * factor)
        # a ring at the corners, where nothing is compared, costs less than what fading would hide
        self.volume, second = (fourier_crop(_centred(v, whole), self.shape) for v in volumes)
        self.coefficients = spline_coefficients(second)
        self.extents = [tuple(n / factor for n in v.shape) for v in volumes]
        device = self.volume.device
        highest = 0.5 * math.sqrt(3.0) / self.voxel
        self.coverages = [
            FourierCoverage(g, depth_angstrom=v.shape[0] * voxel_size, highest_frequency=highest)
            for v, g in zip(volumes, geometries, strict=True)
        ]
        self.first_coverage = self.coverages[0].on_grid(self.shape, self.voxel, device=device)
        self.radius = frequency_grid(self.shape, 1.0, device=device)
        self.count = max(self.shape) // 2
        self.shells = shell_index(self.shape, self.count, device=device)
        self.half = torch.full((self.shape[2] // 2 + 1,), 2.0, device=device)
        self.half[0] = self.half[-1] = 1.0  # the side is even
        kz, ky, kx = frequency_vectors(self.shape, 1.0, device=device)
        self.k = (kx, ky, kz)

    def place(self, motion: RigidMotion) -> Tensor:
        return read_spline(self.coefficients, motion, self.voxel, self.shape)

    def window(self, motion: RigidMotion) -> Tensor:
        """1 where both volumes are, fading out towards the edges of either."""
        axes = [
            (torch.arange(n, device=self.radius.device, dtype=torch.float32) - n // 2).reshape(
                [-1 if a == axis else 1 for a in range(3)]
            )
            for axis, n in enumerate(self.shape)
        ]
        out = torch.ones(self.shape, device=self.radius.device)
        for axis in range(3):
            out *= _fade(axes[axis], self.extents[0][axis])
        back = motion.inverse
        matrix, shift = back.rotation[::-1, ::-1], back.shift_angstrom[::-1] / self.voxel
        for axis in range(3):
            place = sum(float(matrix[axis, i]) * axes[i] for i in range(3)) + float(shift[axis])
            out *= _fade(torch.as_tensor(place), self.extents[1][axis])
        return out

    def coverage(self, motion: RigidMotion) -> Tensor:
        """Of both."""
        turned = self.coverages[1].on_grid(
            self.shape, self.voxel, rotation=motion.rotation, device=self.first_coverage.device
        )
        return self.first_coverage * turned

    def shell_mean(self, values: Tensor, coverage: Tensor) -> Tensor:
        norm = radial_average(coverage, self.shape, self.count).clamp(min=1e-12)
        return radial_average(values * coverage, self.shape, self.count) / norm

    def compare(self, motion: RigidMotion, band: tuple[float, float], gamma: Tensor | None = None) -> _Match:
        """Correlation at a motion; shells weigh by `gamma`, or by what is found here."""
        moved, window = self.place(motion), self.window(motion)
        first, spectrum = torch.fft.rfftn(self.volume * window), torch.fft.rfftn(moved * window)
        square = window.double() ** 2
        independent = float(square.mean()) ** 2 / max(float((square**2).mean()), 1e-12)
        coverage = self.coverage(motion)
        powers = [self.shell_mean(s.abs() ** 2, coverage) for s in (first, spectrum)]
        norm = torch.sqrt(powers[0] * powers[1])
        floor = 1e-10 * float(norm.max())
        cross = self.shell_mean((first * spectrum.conj()).real, coverage)
        found = torch.where(norm > floor, cross / norm.clamp(min=max(floor, 1e-30)), torch.zeros_like(norm))
        if gamma is None:
            gamma = self._trusted(found, coverage, independent)
        shell_weight = gamma / (1.0 - gamma**2) / norm.clamp(min=max(floor, 1e-30)) * (norm > floor)
        padded = torch.cat([shell_weight, shell_weight.new_zeros(1)])
        weight = padded[self.shells] * coverage * soft_edge(self.radius, *band)
        weight[0, 0, 0] = 0.0
        return _Match(moved, window, first, spectrum, weight, self._value(first, spectrum, weight), gamma, independent)

    def significance(self, match: _Match) -> float:
        """The correlation in standard deviations of chance."""
        power = (match.first.abs() * match.spectrum.abs() * match.weight) ** 2
        # Re of a product of independent complex numbers has half of its power; k and -k are one
        chance = math.sqrt(float((power * self.half**2).double().sum()) / 2.0 / max(match.independent, 1e-6))
        cross = (match.first * match.spectrum.conj()).real * match.weight
        return float((cross * self.half).double().sum()) / chance if chance > 0 else 0.0

    def _trusted(self, found: Tensor, coverage: Tensor, independent: float) -> Tensor:
        """Shell correlations, smoothed over three shells, without those that chance explains."""
        line = torch.nn.functional.pad(found[None, None], (1, 1), mode="replicate")
        smooth = torch.nn.functional.avg_pool1d(line, 3, 1)[0, 0]
        samples = radial_average(coverage, self.shape, self.count) * self._shell_sizes() / 2.0 * independent
        chance = 1.0 / torch.sqrt(3.0 * samples.clamp(min=1.0))
        return torch.where(smooth > 2.0 * chance, smooth, torch.zeros_like(smooth)).clamp(0.0, 0.95)

    def _shell_sizes(self) -> Tensor:
        sizes = torch.zeros(self.count + 1, device=self.radius.device)
        sizes.index_add_(0, self.shells.reshape(-1), self.half.expand(self.shells.shape).reshape(-1))
        return sizes[: self.count]

    def _value(self, first: Tensor, spectrum: Tensor, weight: Tensor) -> float:
        def total(values: Tensor) -> float:
            return float((values * weight * self.half).double().sum())

        cross = total((first * spectrum.conj()).real)
        norm = math.sqrt(total(first.abs() ** 2) * total(spectrum.abs() ** 2))
        return cross / norm if norm > 0 else 0.0


def _centred(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Without its mean, in a larger box about the same centre."""
    pads: list[int] = []
    for n, m in zip(volume.shape, shape, strict=True):
        before = m // 2 - n // 2
        pads = [before, m - n - before, *pads]
    return torch.nn.functional.pad(volume - volume.mean(), pads)


def _fade(place: Tensor, extent: float) -> Tensor:
    """1 in the middle of an axis of `extent` voxels, half a cosine over an eighth of it towards either end, then 0."""
    depth = (0.5 * extent - 1.0 - place.abs()) * (
        8.0 / extent
    )  # the last voxels of an edge were interpolated with zero
    return torch.sin(0.5 * math.pi * depth.clamp(0.0, 1.0)) ** 2


def _search(level: _Level, turn_deg: float | None) -> list[RigidMotion]:
    """The best starts on a grid of turns and leans; every shift is seen in one correlation."""
    turns = (
        np.arange(-180.0, 180.0, _TURN_STEP_DEG)
        if turn_deg is None
        else turn_deg + np.arange(-_TURN_SPAN_DEG, _TURN_SPAN_DEG + 0.1, _TURN_STEP_DEG)
    )
    upright = sorted((_shifted(level, z, 0.0, 0.0) for z in turns), key=lambda r: -r[0])[:_BEST_STARTS]
    tried = list(upright)
    for _, motion in upright[:_LEANING_STARTS]:
        turn = motion.angles_deg[2]
        tried += [_shifted(level, turn, x, y) for x, y in _leans()]
    tried.sort(key=lambda r: -r[0])
    return [motion for _, motion in tried[:_BEST_STARTS]]


def _leans() -> Iterator[tuple[float, float]]:
    for x in (-_LEAN_DEG, 0.0, _LEAN_DEG):
        for y in (-_LEAN_DEG, 0.0, _LEAN_DEG):
            if x or y:
                yield x, y


def _shifted(level: _Level, z_deg: float, x_deg: float, y_deg: float) -> tuple[float, RigidMotion]:
    """The best shift for a rotation, and the correlation there."""
    still = RigidMotion.build(x_deg=x_deg, y_deg=y_deg, z_deg=z_deg, shift=np.zeros(3))
    match = level.compare(still, _SEARCH_BAND, gamma=torch.full((level.count,), 0.5, device=level.radius.device))
    surface = torch.fft.irfftn(match.first * match.spectrum.conj() * match.weight, s=level.shape)
    best = int(surface.argmax())
    index = np.unravel_index(best, level.shape)
    shift = [(int(i) + n // 2) % n - n // 2 for i, n in zip(index, level.shape, strict=True)]
    norms = [float((s.abs() ** 2 * match.weight * level.half).double().sum()) for s in (match.first, match.spectrum)]
    value = float(surface.reshape(-1)[best]) * surface.numel() / math.sqrt(max(norms[0] * norms[1], 1e-300))
    moved = np.array(shift[::-1], dtype=np.float64) * level.voxel
    return value, RigidMotion(rotation=still.rotation, shift_angstrom=moved)


def _improve(level: _Level, motion: RigidMotion, band: tuple[float, float]) -> RigidMotion:
    """Gauss-Newton steps to the summit of the correlation, shells weighing by what each step finds."""
    reach = 0.5 * max(level.shape)
    match = level.compare(motion, band)
    for _ in range(_STEPS):
        gradient, curvature = _slopes(level, motion, match, reach)
        if not np.isfinite(curvature).all() or np.trace(curvature) <= 0:
            break
        step = np.linalg.solve(curvature + 1e-9 * np.trace(curvature) * np.eye(6), gradient)
        step /= max(1.0, float(np.abs(step).max()) / 2.0)  # the weights hold for a voxel or two
        for _ in range(4):
            candidate = _stepped(motion, step, reach, level.voxel)
            trial = level.compare(candidate, band, gamma=match.gamma)
            if trial.value > match.value:
                break
            step *= 0.4
        else:
            break
        motion = candidate
        match = level.compare(motion, band)
        if np.abs(step).max() < 0.003:
            break
    return motion


def _stepped(motion: RigidMotion, step: FloatArray, reach: float, voxel: float) -> RigidMotion:
    """Shift by ``step[:3]`` voxels and turn about the volume's centre so that the rim moves by ``step[3:]`` voxels."""
    turn = np.asarray(_ScipyRotation.from_rotvec(step[3:] / reach).as_matrix(), dtype=np.float64)
    return RigidMotion(
        rotation=_orthogonal(turn @ motion.rotation), shift_angstrom=motion.shift_angstrom + step[:3] * voxel
    )


def _orthogonal(matrix: FloatArray) -> FloatArray:
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ vt, dtype=np.float64)


def _slopes(level: _Level, motion: RigidMotion, match: _Match, reach: float) -> tuple[FloatArray, FloatArray]:
    """Gradient of the correlation and the curvature that the signal gives it, in voxels and voxels at the rim."""
    derivatives = _derivatives(level, motion, match, reach)
    weight = match.weight * level.half
    cross = float(((match.first * match.spectrum.conj()).real * weight).double().sum())
    power = float((match.spectrum.abs() ** 2 * weight).double().sum())
    rest = match.first - (cross / max(power, 1e-300)) * match.spectrum
    gradient = np.array([float(((rest.conj() * d).real * weight).double().sum()) for d in derivatives])
    curvature = np.empty((6, 6))
    for i in range(6):
        for j in range(i + 1):
            product = float(((derivatives[i].conj() * derivatives[j]).real * weight).double().sum())
            curvature[i, j] = curvature[j, i] = product
    return gradient, curvature * max(cross / max(power, 1e-300), 1e-3)


def _derivatives(level: _Level, motion: RigidMotion, match: _Match, reach: float) -> list[Tensor]:
    """Spectra of the change of the placed volume with each parameter, under the window as it is."""
    device = level.radius.device
    window = torch.fft.rfftn(match.window)
    slopes = []
    for k in level.k:  # x, y, z
        # window times slope of the volume: of the product, less the slope of the window, both free of steps
        product = torch.fft.irfftn(2j * math.pi * k * match.spectrum, s=level.shape)
        edge = torch.fft.irfftn(2j * math.pi * k * window, s=level.shape)
        slopes.append(product - match.moved * edge)
    axes = [
        (torch.arange(n, device=device, dtype=torch.float32) - n // 2 - float(t)).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        / reach
        for axis, (n, t) in enumerate(zip(level.shape, motion.shift_angstrom[::-1] / level.voxel, strict=True))
    ]
    z, y, x = axes
    # out(p) = B(exp(-w) (p - t)): the change with w is -(w x (p - t)) . grad
    turns = [z * slopes[1] - y * slopes[2], x * slopes[2] - z * slopes[0], y * slopes[0] - x * slopes[1]]
    return [torch.fft.rfftn(change) for change in (*(-s for s in slopes), *turns)]


def _describe(level: _Level, motion: RigidMotion) -> VolumeRegistration:
    match = level.compare(motion, _BAND)
    significance = level.significance(match)
    if not significance > _SIGNIFICANT:
        raise ProcessingError(
            f"The two tomograms match by {significance:.1f} standard deviations of chance; expected more than "
            f"{_SIGNIFICANT:g} of two views of one specimen. Check that they show the same place, and their geometries."
        )
    coverage = level.coverage(motion)
    powers = [level.shell_mean(s.abs() ** 2, coverage) for s in (match.first, match.spectrum)]
    cross = level.shell_mean((match.first * match.spectrum.conj()).real, coverage)
    norm = torch.sqrt(powers[0] * powers[1])
    curve = torch.where(norm > 0, cross / norm.clamp(min=1e-30), torch.zeros_like(norm))
    weight = match.weight * level.half
    totals = [float((s.abs() ** 2 * weight).double().sum()) for s in (match.first, match.spectrum)]
    reach = 0.5 * max(level.shape)
    _, curvature = _slopes(level, motion, match, reach)
    # the weights are those of the likelihood, so that its curvature is the inverse of the covariance
    variance = np.abs(np.diag(np.linalg.pinv(curvature))) / max(match.independent, 1e-6)
    sigma = np.sqrt(variance)
    frequency = (torch.arange(level.count, dtype=torch.float64) + 0.5) / (2 * level.count * level.voxel)
    return VolumeRegistration(
        motion=motion,
        sigma_shift_angstrom=sigma[:3] * level.voxel,
        sigma_rotation_deg=np.rad2deg(sigma[3:] / reach),
        correlation=match.value,
        significance=significance,
        frequency=frequency.numpy(),
        shell_correlation=curve.double().cpu().numpy(),
        scale=math.sqrt(totals[0] / max(totals[1], 1e-300)),
    )
