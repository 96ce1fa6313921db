"""How near a restored volume comes to a known one: in and out of the measured part of Fourier space, and in real space.

Volumes and truths have one contrast: turn a tomogram of dark matter over before it meets a bright truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.fourier.shells import radial_average
from eucentric.geometry.tilt import TiltGeometry
from eucentric.reconstruction.fourier_coverage import FourierCoverage
from eucentric.typing import FloatArray

_MEASURED = 0.5
_UNMEASURED = 0.01
_CONE_DEG = 15.0
_STEP = 0.25
"""Voxels between the radii of a profile."""
_ROUNDING = 1e-9  # of the strongest shell: weaker ones, such as the mean that was taken away, hold rounding alone


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FourierRegions:
    """Parts of the rfftn of a volume, 1 inside and 0 outside; what lies between them belongs to neither."""

    measured: Float[Tensor, "z y half_x"]
    wedge: Float[Tensor, "z y half_x"]


def fourier_regions(
    geometry: TiltGeometry, shape: tuple[int, int, int], voxel_size: float, *, depth_angstrom: float
) -> FourierRegions:
    """What a tilt series has measured by half or more, and what it has not by 99%.

    A window in real space carries measured detail into the wedge, about the inverse of its depth far. The planes are as
    thick as that here, so that a strip of three spreads along the edge is left out of the wedge.

    Parameters
    ----------
    geometry : tilts of the reconstruction, in the frame of the volume
    shape : (z, y, x) of the volume
    voxel_size : A
    depth_angstrom : of what the window leaves of the volume along z
    """
    highest = math.sqrt(3.0) / (2.0 * voxel_size)
    coverage = FourierCoverage(geometry, depth_angstrom=depth_angstrom, highest_frequency=highest)
    part = coverage.on_grid(shape, voxel_size)
    return FourierRegions(measured=(part >= _MEASURED).float(), wedge=(part < _UNMEASURED).float())


def region_correlation(
    volume: Float[Tensor, "z y x"],
    truth: Float[Tensor, "z y x"],
    window: Float[Tensor, "z y x"],
    regions: Sequence[Float[Tensor, "z y half_x"]],
    *,
    shells: int = 40,
) -> Float[Tensor, "region shell"]:
    """Fourier shell correlation with the truth over parts of Fourier space, in equal shells from zero to Nyquist.

    Parameters
    ----------
    volume, truth : of one contrast
    window : 0 to 1; both lose their mean inside of it and are multiplied by it
    regions : weight of each sample of the rfftn

    Returns
    -------
    -1 to 1; NaN for shells of which the region, or one of the volumes, holds nothing

    Raises
    ------
    ShapeError : volumes of different shapes
    """
    _check_alike(volume, truth, window)
    shape = tuple(volume.shape)
    first, second = (torch.fft.rfftn((v - (v * window).sum() / window.sum()) * window) for v in (volume, truth))
    products = [(a * b.conj()).real.double() for a, b in ((first, second), (first, first), (second, second))]
    rows = []
    for region in regions:
        cross, power, true_power = (radial_average(product * region, shape, shells) for product in products)
        norm = torch.sqrt(power * true_power)
        told = norm > _ROUNDING * norm.nan_to_num().max()
        rows.append(torch.where(told, cross / norm.clamp(min=1e-300), torch.full_like(norm, math.nan)))
    return torch.stack(rows)


def shell_frequencies(shells: int, voxel_size: float) -> FloatArray:
    """(shell,), 1/A: middles of equal shells from zero to Nyquist."""
    return np.asarray((np.arange(shells) + 0.5) / (2.0 * shells * voxel_size))


def curve_area(curve: ArrayLike, voxel_size: float, *, coarsest_angstrom: float = 200.0) -> float:
    """Mean of a shell correlation (shell,) from a coarsest detail to Nyquist; empty shells (NaN) do not count."""
    values = np.asarray(curve, dtype=np.float64)
    counted = (shell_frequencies(len(values), voxel_size) >= 1.0 / coarsest_angstrom) & np.isfinite(values)
    return float(values[counted].mean()) if counted.any() else math.nan


def curve_at(curve: ArrayLike, voxel_size: float, detail_angstrom: Sequence[float]) -> FloatArray:
    """A shell correlation (shell,) at details, on straight lines between shells; NaN outside of them."""
    values = np.asarray(curve, dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(detail_angstrom), math.nan)
    wanted = 1.0 / np.asarray(detail_angstrom, dtype=np.float64)
    return np.interp(
        wanted, shell_frequencies(len(values), voxel_size)[known], values[known], left=math.nan, right=math.nan
    )


def in_band(
    volume: Float[Tensor, "z y x"], voxel_size: float, band_angstrom: tuple[float, float] = (20.0, 200.0)
) -> Float[Tensor, "z y x"]:
    """Detail between a finest and a coarsest length, A."""
    grid = frequency_grid(tuple(volume.shape), voxel_size)
    keep = band_pass(grid, low_pass_angstrom=band_angstrom[0], high_pass_angstrom=band_angstrom[1])
    detail: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume - volume.mean()) * keep, s=volume.shape)
    return detail


def correlation_in(
    volume: Float[Tensor, "z y x"], truth: Float[Tensor, "z y x"], counted: Bool[Tensor, "z y x"]
) -> float:
    """Pearson correlation over some voxels; NaN where one of the volumes is constant there."""
    _check_alike(volume, truth, counted)
    a, b = volume[counted].double(), truth[counted].double()
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 0 else math.nan


def contrast_to_noise(
    volume: Float[Tensor, "z y x"], matter: Bool[Tensor, "z y x"], ground: Bool[Tensor, "z y x"]
) -> float:
    """How far matter stands above the ground, in standard deviations of the ground; NaN where that is constant."""
    _check_alike(volume, matter, ground)
    empty = volume[ground].double()
    spread = float(empty.std())
    return float(volume[matter].double().mean() - empty.mean()) / spread if spread > 0 else math.nan


def mean_box(volume: Float[Tensor, "z y x"], places_px: ArrayLike, size: int) -> Float[Tensor, "size size size"]:
    """Mean of the cubes around places, whose middle (voxel ``size // 2``) is the place itself.

    Values between voxels are read on straight lines along each axis, which blurs all directions alike.

    Parameters
    ----------
    places_px : (place, 3), fractional indices x, y, z
    size : voxels along each axis of the cube

    Raises
    ------
    InputError : no place, or one whose cube leaves the volume
    """
    places = np.asarray(places_px, dtype=np.float64).reshape(-1, 3)[:, ::-1]
    first = np.floor(places).astype(np.int64) - size // 2
    if not len(places) or (first < 0).any() or (first + size + 1 > np.array(volume.shape)).any():
        raise InputError(
            f"{len(places)} places were given for cubes of {size} voxels in a volume of {tuple(volume.shape)}; expected one "
            "or more whose cubes lie inside. Leave out those near the faces."
        )
    total = torch.zeros(size, size, size, dtype=torch.float64)
    for start, part in zip(first, places - np.floor(places), strict=True):
        cube = volume[tuple(slice(int(s), int(s) + size + 1) for s in start)].double()
        for axis, fraction in enumerate(part):
            low, high = cube.narrow(axis, 0, size), cube.narrow(axis, 1, size)
            cube = (1.0 - float(fraction)) * low + float(fraction) * high
        total += cube
    return (total / len(places)).to(volume.dtype)


def half_width(average: Float[Tensor, "n n n"], direction: ArrayLike, radius_px: float) -> float:
    """How far from its middle a body reaches along a direction and against it, at half its height; voxels.

    The height is the mean within half of the radius, over that of the shell from 2 to 2.5 radii. The profile is the mean
    over the cone of 15 degrees about the direction.

    Parameters
    ----------
    average : a bright body in the middle, voxel ``n // 2``
    direction : (3,), x, y, z
    radius_px : about that of the body

    Returns
    -------
    voxels; NaN where the profile does not fall to half the height within 2.5 radii, or there is no bright body

    Raises
    ------
    InputError : a box that does not hold 2.5 radii
    """
    distance, along = _from_middle(average, direction, radius_px)
    return _width_within(average, distance, along >= math.cos(math.radians(_CONE_DEG)), radius_px)


def elongation(average: Float[Tensor, "n n n"], radius_px: float, *, axis: ArrayLike = (0.0, 0.0, 1.0)) -> float:
    """Half-width along an axis over that across it, whose profile is the mean within 15 degrees of the plane.

    A ball that tilts to 60 degrees have sampled comes to 1.35.

    Parameters
    ----------
    average : a bright body, round on average, in the middle; see `half_width`
    radius_px : about that of the body
    axis : (3,), x, y, z; that of the beam
    """
    distance, along = _from_middle(average, axis, radius_px)
    across = _width_within(average, distance, along <= math.sin(math.radians(_CONE_DEG)), radius_px)
    return half_width(average, axis, radius_px) / across


def _from_middle(average: Tensor, direction: ArrayLike, radius_px: float) -> tuple[Tensor, Tensor]:
    """Distance of each voxel from the middle, and the cosine of its angle to a line."""
    n = average.shape[0]
    if 2.5 * radius_px > n // 2 - 1:
        raise InputError(
            f"A box of {n} voxels was given for a radius of {radius_px:g}; expected 5 radii and 3 voxels more."
        )
    offset = torch.arange(n, dtype=torch.float64) - n // 2
    z, y, x = torch.meshgrid(offset, offset, offset, indexing="ij")
    distance = torch.sqrt(x**2 + y**2 + z**2)
    unit = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    along = (x * float(unit[0]) + y * float(unit[1]) + z * float(unit[2])).abs()
    return distance, along / distance.clamp(min=1e-9)


def _width_within(average: Tensor, distance: Tensor, chosen: Tensor, radius_px: float) -> float:
    """Where the mean profile of chosen voxels falls to half the height of the body."""
    values = average.double()
    body = float(values[distance <= 0.5 * radius_px].mean())
    ground = float(values[(distance >= 2.0 * radius_px) & (distance <= 2.5 * radius_px)].mean())
    used = chosen & (distance > 0.25 * radius_px) & (distance < 2.5 * radius_px + 1.0)
    radii = torch.arange(0.5 * radius_px, 2.5 * radius_px, _STEP, dtype=torch.float64)
    weight = (1.0 - (distance[used][None] - radii[:, None]).abs()).clamp(min=0.0)
    profile = ((weight @ values[used]) / weight.sum(1).clamp(min=1e-9)).numpy()
    half = 0.5 * (body + ground)
    below = np.flatnonzero(profile < half)
    if not body > ground or not len(below):
        return math.nan
    stop = int(below[0])
    if stop == 0:
        return float(radii[0])
    share = (profile[stop - 1] - half) / (profile[stop - 1] - profile[stop])
    return float(radii[stop - 1]) + _STEP * float(share)


def balls_left_out(
    shape: tuple[int, int, int], places_px: ArrayLike, radius_px: float, *, edge_px: float = 4.0
) -> Float[Tensor, "z y x"]:
    """0 inside of balls (place, 3; x, y, z), 1 away from them, with soft edges: what gold beads cover."""
    window = torch.ones(shape)
    reach = math.ceil(radius_px + edge_px)
    for place in np.asarray(places_px, dtype=np.float64).reshape(-1, 3)[:, ::-1]:
        spans = [(max(0, int(c) - reach), min(n, int(c) + reach + 2)) for c, n in zip(place, shape, strict=True)]
        if any(low >= high for low, high in spans):
            continue
        z, y, x = ((torch.arange(low, high) - float(c)).square() for (low, high), c in zip(spans, place, strict=True))
        distance = torch.sqrt(z[:, None, None] + y[:, None] + x)
        cut = tuple(slice(low, high) for low, high in spans)
        window[cut] *= 1.0 - soft_edge(distance, radius_px, radius_px + edge_px)
    return window


def _check_alike(*volumes: Tensor) -> None:
    shapes = {tuple(v.shape) for v in volumes}
    if len(shapes) > 1:
        raise ShapeError(
            f"Volumes of {', '.join(map(str, sorted(shapes)))} voxels were given; expected the same shape."
        )
