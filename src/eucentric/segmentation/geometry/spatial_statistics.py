"""Whether objects cluster or keep apart: nearest neighbours, Ripley's K and L, pair correlation, against random controls. numpy, A."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry.label_surfaces import frame_of
from eucentric.segmentation.geometry.measures import Table
from eucentric.segmentation.geometry.surface_points import random_shares
from eucentric.segmentation.geometry.surfaces import Surface, need_faces, need_voxel_size
from eucentric.typing import FloatArray

_MOST_SAMPLES = 96
_ATTEMPTS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskRegion:
    """Where objects could be: the voxels of a mask (z, y, x), about the specimen centre."""

    mask: NDArray[np.bool_]
    voxel_size_angstrom: float

    def __post_init__(self) -> None:
        need_voxel_size(self.voxel_size_angstrom)
        if self.mask.ndim != 3:
            raise ShapeError(f"A mask of shape {self.mask.shape} was given; expected (z, y, x).")
        if not self.mask.any():
            raise InputError("The mask is empty: no object can lie in it.")

    @property
    def size(self) -> float:
        """A^3."""
        return float(self.mask.sum()) * self.voxel_size_angstrom**3

    def sample(self, count: int, generator: np.random.Generator) -> FloatArray:
        """Places (count, 3) anywhere in the mask, A."""
        voxels = np.flatnonzero(self.mask)
        chosen = voxels[generator.integers(0, len(voxels), count)]
        index = np.stack(np.unravel_index(chosen, self.mask.shape), axis=1) + generator.uniform(-0.5, 0.5, (count, 3))
        return frame_of(self.mask.shape, self.voxel_size_angstrom).to_angstrom(index[:, ::-1])

    def holds(self, positions_angstrom: FloatArray) -> NDArray[np.bool_]:
        """(n,), which places lie in the mask."""
        frame = frame_of(self.mask.shape, self.voxel_size_angstrom)
        index = np.rint(frame.to_index(positions_angstrom)[:, ::-1]).astype(np.int64)
        inside = ((index >= 0) & (index < self.mask.shape)).all(axis=1)
        out = np.zeros(len(index), dtype=bool)
        out[inside] = self.mask[tuple(index[inside].T)]
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceRegion:
    """Where objects could be: on a surface."""

    surface: Surface

    def __post_init__(self) -> None:
        need_faces(self.surface)

    def sample(self, count: int, generator: np.random.Generator) -> FloatArray:
        """Places (count, 3) anywhere on the surface, A."""
        faces, share = random_shares(self.surface, count, generator)
        corners = self.surface.vertices_angstrom[self.surface.faces[faces]]
        return np.asarray(np.einsum("nk,nki->ni", share, corners))


Region = MaskRegion | SurfaceRegion


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeighbourStatistics:
    """Distances to the nearest neighbour, against as many objects placed at random."""

    nearest_angstrom: FloatArray
    """(object,)."""
    mean_angstrom: float
    control_means_angstrom: FloatArray
    """(control,)."""
    ratio: float
    """Mean over that of the controls (Clark & Evans): below 1 clustered, above 1 apart."""
    p_value: float
    """Two-sided: how often random objects are as far from their mean, or farther."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairStatistics:
    """Pairs by distance, against as many objects placed at random."""

    distances_angstrom: FloatArray
    """(distance,), upper ends of the shells."""
    observed: FloatArray
    """(distance,), pairs no farther apart, over the mean of all controls: K(r) over that of chance."""
    control_low: FloatArray
    """(distance,), 2.5% of controls lie below, at each distance on its own."""
    control_high: FloatArray
    """(distance,), 97.5% of controls lie below."""
    pair_correlation: FloatArray
    """(distance,), pairs in the shell over the mean of controls; NaN where controls have none."""
    p_value: float
    """Of the whole curve: how often random objects stray as far, or farther, all distances together."""
    controls: int


def nearest_neighbour_statistics(
    positions_angstrom: ArrayLike,
    region: Region,
    generator: np.random.Generator,
    *,
    others_angstrom: ArrayLike | None = None,
    controls: int = 199,
    least_distance_angstrom: float = 0.0,
) -> NeighbourStatistics:
    """Distances to the nearest neighbour, or to the nearest of other objects, which stay where they are.

    Controls have the same number of objects anywhere in the region, so that its edges act alike on both; p is
    (1 + those as extreme) / (1 + controls) [1]_, never 0.

    Parameters
    ----------
    region : where the objects could be: what is not looked at must not be in it
    least_distance_angstrom : no two objects of a control are nearer: the size of the objects, lest it count as keeping apart

    Raises
    ------
    ShapeError : positions that are not (n, 3)
    InputError : too few objects, objects outside of a mask, less than 19 controls, or controls so dense that they cannot be placed

    References
    ----------
    .. [1] Davison & Hinkley, Bootstrap Methods and their Application (1997), 4.2.3
    """
    places = _checked(positions_angstrom, region, controls, 1 if others_angstrom is not None else 2)
    other = None if others_angstrom is None else _shaped(others_angstrom)
    if other is not None and not len(other):
        raise InputError("No other objects were given: no distance to them can be measured.")
    own = _nearest(places, other)
    means = np.array(
        [
            _nearest(c, other).mean()
            for c in _controls(len(places), region, generator, controls, least_distance_angstrom)
        ]
    )
    both = np.append(means, own.mean())
    away = np.abs(both - np.median(both))
    return NeighbourStatistics(
        nearest_angstrom=own,
        mean_angstrom=float(own.mean()),
        control_means_angstrom=means,
        ratio=float(own.mean() / means.mean()),
        p_value=_p_value(away),
    )


def pair_statistics(
    positions_angstrom: ArrayLike,
    region: Region,
    distances_angstrom: ArrayLike,
    generator: np.random.Generator,
    *,
    others_angstrom: ArrayLike | None = None,
    controls: int = 199,
    least_distance_angstrom: float = 0.0,
) -> PairStatistics:
    """Pairs by distance, and one p-value for the whole curve.

    The region's edges take as many pairs from the controls as from the objects; distances on a surface are straight lines. The
    p-value is of the greatest departure over all distances, each in the spread of all curves there, the observed one among
    them: one test and not one for each distance [1]_.

    Parameters
    ----------
    distances_angstrom : rising, upper ends of the shells
    others_angstrom, controls, least_distance_angstrom : as for `nearest_neighbour_statistics`; pairs are then those with the others

    Raises
    ------
    ShapeError, InputError : as there, and distances that do not rise

    References
    ----------
    .. [1] Myllymaki et al., J. R. Stat. Soc. B 79:381 (2017), doi:10.1111/rssb.12172
    """
    places = _checked(positions_angstrom, region, controls, 1 if others_angstrom is not None else 2)
    other = None if others_angstrom is None else _shaped(others_angstrom)
    ends = _rising(distances_angstrom)
    counts = [_pairs_within(places, other, ends)]
    for control in _controls(len(places), region, generator, controls, least_distance_angstrom):
        counts.append(_pairs_within(control, other, ends))
    every = np.array(counts)
    # square roots of counts vary alike at all distances
    curves = np.sqrt(every)
    middle, spread = curves.mean(axis=0), curves.std(axis=0)
    away = np.abs(curves - middle) / np.where(spread > 0, spread, np.inf)
    mean = every[1:].mean(axis=0)
    shells = np.diff(every, axis=1, prepend=0.0)
    shell_mean = shells[1:].mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mean > 0, every / np.where(mean > 0, mean, 1.0), np.nan)
        correlation = np.where(shell_mean > 0, shells[0] / np.where(shell_mean > 0, shell_mean, 1.0), np.nan)
    return PairStatistics(
        distances_angstrom=ends,
        observed=ratio[0],
        control_low=np.quantile(ratio[1:], 0.025, axis=0),
        control_high=np.quantile(ratio[1:], 0.975, axis=0),
        pair_correlation=correlation,
        p_value=_p_value(np.roll(away.max(axis=1), -1)),
        controls=controls,
    )


def ripley_table(positions_angstrom: ArrayLike, region: MaskRegion, distances_angstrom: ArrayLike) -> Table:
    """Ripley's K, L - r and the pair correlation in a mask, corrected for its edges.

    Each pair counts by how much of the mask, moved by the line between the two, still lies in the mask (translation
    correction [1]_). Chance has K = 4/3 pi r^3, L = r, and a pair correlation of 1.

    Raises
    ------
    ShapeError : positions that are not (n, 3)
    InputError : less than two objects, objects outside of the mask, or distances that do not rise

    References
    ----------
    .. [1] Ohser & Stoyan, Biom. J. 23:523 (1981), doi:10.1002/bimj.4710230602
    """
    places = _checked(positions_angstrom, region, 19, 2)
    ends = _rising(distances_angstrom)
    pairs = cKDTree(places).query_pairs(ends[-1], output_type="ndarray")
    apart = places[pairs[:, 1]] - places[pairs[:, 0]]
    common = _common_volume(region, apart)
    n = len(places)
    # pairs that the mask can hold nowhere else weigh no more than one voxel allows
    weight = 2.0 * region.size**2 / (n * (n - 1)) / np.maximum(common, region.voxel_size_angstrom**3)
    shell = np.searchsorted(ends, np.linalg.norm(apart, axis=1), side="left")
    each = np.bincount(shell, weight, minlength=len(ends))[: len(ends)]
    k = np.cumsum(each)
    volume = 4.0 / 3.0 * np.pi * np.diff(ends**3, prepend=0.0)
    return {
        "distance_angstrom": ends,
        "ripley_k_angstrom3": k,
        "ripley_l_minus_r_angstrom": (3.0 * k / (4.0 * np.pi)) ** (1 / 3) - ends,
        "pair_correlation": each / volume,
        "pairs": np.bincount(shell, minlength=len(ends))[: len(ends)],
    }


def _common_volume(region: MaskRegion, apart: FloatArray) -> FloatArray:
    """(pair,), A^3: what the mask has in common with itself moved by each vector; averaged to a hundred samples a side."""
    step = max(1, int(np.ceil(max(region.mask.shape) / _MOST_SAMPLES)))
    shape = [-(-n // step) for n in region.mask.shape]
    padded = np.pad(region.mask, [(0, m * step - n) for m, n in zip(shape, region.mask.shape, strict=True)])
    coarse = padded.reshape(shape[0], step, shape[1], step, shape[2], step).mean(axis=(1, 3, 5), dtype=np.float64)
    size = [next_fast_len(2 * n, real=True) for n in shape]
    spectrum = rfftn(coarse, size)
    overlap = np.asarray(irfftn(np.abs(spectrum) ** 2, size))
    where = apart[:, ::-1] / (region.voxel_size_angstrom * step)
    found = map_coordinates(overlap, where.T, order=1, mode="grid-wrap")
    return np.asarray(found * (region.voxel_size_angstrom * step) ** 3)


def _pairs_within(places: FloatArray, other: FloatArray | None, ends: FloatArray) -> FloatArray:
    tree = cKDTree(places)
    if other is not None:
        return np.asarray(tree.count_neighbors(cKDTree(other), ends), dtype=np.float64)
    return np.asarray((tree.count_neighbors(tree, ends) - len(places)) / 2.0, dtype=np.float64)


def _nearest(places: FloatArray, other: FloatArray | None) -> FloatArray:
    if other is not None:
        return np.asarray(cKDTree(other).query(places)[0])
    return np.asarray(np.asarray(cKDTree(places).query(places, k=2)[0])[:, 1])


def _controls(
    count: int, region: Region, generator: np.random.Generator, controls: int, least: float
) -> Iterator[FloatArray]:
    for _ in range(controls):
        places = region.sample(count, generator)
        for _ in range(_ATTEMPTS):
            if not least > 0:
                break
            pairs = cKDTree(places).query_pairs(least, output_type="ndarray")
            if not len(pairs):
                break
            # the later of two goes elsewhere
            again = np.unique(pairs.max(axis=1))
            places[again] = region.sample(len(again), generator)
        else:
            raise InputError(
                f"{count} objects {least:g} A apart could not be placed at random in the region. Give a smaller distance."
            )
        yield places


def _p_value(away: FloatArray) -> float:
    """Of the last of some departures among all."""
    return float((away >= away[-1] * (1.0 - 1e-12)).sum() / len(away))


def _shaped(positions_angstrom: ArrayLike) -> FloatArray:
    places = np.asarray(positions_angstrom, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 3:
        raise ShapeError(f"Positions of shape {places.shape} were given; expected (n, 3).")
    if not np.isfinite(places).all():
        raise InputError("A position is NaN or infinite. Leave it out.")
    return places


def _checked(positions_angstrom: ArrayLike, region: Region, controls: int, least: int) -> FloatArray:
    places = _shaped(positions_angstrom)
    if len(places) < least:
        raise InputError(f"{len(places)} objects were given; {least} or more have neighbours.")
    if controls < 19:
        raise InputError(f"{controls} controls can give no p-value of 0.05. Ask for 19 or more; 199 are better.")
    if isinstance(region, MaskRegion):
        out = int((~region.holds(places)).sum())
        if out:
            raise InputError(
                f"{out} of {len(places)} objects lie outside of the mask, where controls never are. Leave them out, or widen the mask."
            )
    return places


def _rising(distances_angstrom: ArrayLike) -> FloatArray:
    ends = np.asarray(distances_angstrom, dtype=np.float64).reshape(-1)
    if not len(ends) or not ends[0] > 0 or not (np.diff(ends) > 0).all() or not np.isfinite(ends).all():
        raise InputError("Distances must be positive and rise. Give the upper ends of shells, such as 20 40 60.")
    return ends
