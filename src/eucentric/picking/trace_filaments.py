r"""Centre lines of filaments in a tomogram, from two ends or from nothing.

1. Every voxel's score as the axis of a rod or tube, in the best of many directions (`signal/lines.py`), on voxels as coarse as the
   filament allows; beads and hot voxels clipped.
2. A line is followed from the best place both ways, a step at a time, to the best place ahead; between two given ends, the path of
   least cost is taken.
3. The filament is straightened along that line. Cross-sections, each the mean of a piece a diameter long, are registered to their
   common mean, and a smoothing spline goes through them, a few times over. Its stiffness is that of the filament: with a place's
   uncertainty s, measured between its odd and even slices, the likeliest worm-like chain of persistence length P minimises
   :math:`\\sum |r|^2 + s^2 P \\int \\kappa^2`.
4. The common mean is brought to its own centre of inversion, the maximum of its convolution with itself: a round filament looks
   the same after half a turn, under the wedge of any tilt scheme.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.ndimage import maximum_filter
from torch import Tensor

from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.crop import fourier_crop
from eucentric.picking.refine_lines import VolumeSamples, cheapest_path, refine_line
from eucentric.picking.trace_params import TraceParams
from eucentric.signal.lines import half_sphere, line_response
from eucentric.typing import FloatArray

_SD_OF_MAD = 1.4826
_CLIP_SD = 3.0
_LEAST_SCORE = 3.0  # half of the voxels of noise reach it: no line is followed below
_BESIDE = 0.8  # diameters from a line within which no other one is looked for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TracedFilament:
    """One filament."""

    points_angstrom: FloatArray
    """(point, 3), x y z from voxel n // 2, evenly along the centre line."""
    scores: FloatArray
    """(point,), standard deviations of the line response there."""
    residual_angstrom: float
    """Root mean square distance of the cross-sections, each placed alone, from the smooth line."""
    sigma_angstrom: float
    """1 sd of such a place along x or y, from its odd and even slices."""

    @property
    def length_angstrom(self) -> float:
        return float(np.linalg.norm(np.diff(self.points_angstrom, axis=0), axis=1).sum())


def trace_filaments(volume: Float[Tensor, "z y x"], voxel_size: float, params: TraceParams) -> list[TracedFilament]:
    """All filaments of a tomogram, the best first.

    Parameters
    ----------
    volume : tomogram
    voxel_size : A

    Raises
    ------
    InputError : a filament that voxels of this size do not show, or thicker than the tomogram
    """
    dense, found = _searched(volume, voxel_size, params)
    least = params.min_length_angstrom or 4.0 * params.diameter_angstrom
    rough = [line for line in _followed(found, params) if _length(line) >= 0.5 * least]
    lines = [_refined(dense, found, line, params, cut=True) for line in rough]
    whole = [line for line in lines if line is not None and line.length_angstrom >= least]
    return sorted(whole, key=lambda line: -float(np.median(line.scores)))


def trace_between(
    volume: Float[Tensor, "z y x"], voxel_size: float, ends_angstrom: ArrayLike, params: TraceParams
) -> TracedFilament:
    """The filament between two places, x y z in A from voxel n // 2; the line begins and ends beside them.

    Raises
    ------
    InputError : as :func:`trace_filaments`; a place outside of the volume, or both too near to each other
    ProcessingError : no filament between them
    """
    ends = np.asarray(ends_angstrom, dtype=np.float64).reshape(2, 3)
    dense, found = _searched(volume, voxel_size, params)
    if not dense.inside(ends).all():
        raise InputError("An end of the filament lies outside of the tomogram. Give places in A from its centre.")
    if np.linalg.norm(ends[1] - ends[0]) < 2.0 * params.diameter_angstrom:
        raise InputError("The two ends are less than two diameters apart: there is no line to be traced between them.")
    line = _refined(dense, found, cheapest_path(found, ends, params.diameter_angstrom), params, cut=False)
    if line is None or np.median(line.scores) < _LEAST_SCORE:
        raise ProcessingError(
            "No filament of this diameter runs between the two ends. Check the ends, the diameter, the wall and the contrast."
        )
    return line


def bright_and_clipped(volume: Float[Tensor, "z y x"], contrast: str) -> Float[Tensor, "z y x"]:
    """Protein bright, in standard deviations of the bulk of voxels, gold and hot voxels cut off at three.

    Raises
    ------
    InputError : a volume of one value
    """
    dense = -volume.float() if contrast == "dark" else volume.float()
    dense = dense - dense.median()
    spread = _SD_OF_MAD * float(dense.abs().median())
    if not spread > 0:
        raise InputError("The tomogram is empty: most of its voxels have one value.")
    return (dense / spread).clamp(-_CLIP_SD, _CLIP_SD)


def _searched(volume: Tensor, voxel_size: float, params: TraceParams) -> tuple[VolumeSamples, VolumeSamples]:
    """The volume bright and clipped, and the scores of lines on voxels that may be coarser."""
    if params.diameter_angstrom > min(volume.shape) * voxel_size:
        raise InputError(
            f"A filament of {params.diameter_angstrom:g} A is thicker than the tomogram, which measures "
            f"{min(volume.shape) * voxel_size:g} A. Check the diameter and the voxel size."
        )
    dense = bright_and_clipped(volume, params.contrast)
    finest = params.diameter_angstrom / 6.0 if params.wall_angstrom is None else params.wall_angstrom / 3.0
    shape = tuple(min(n, max(8, math.ceil(n * voxel_size / finest))) for n in dense.shape)
    coarse = fourier_crop(dense, shape)
    score = line_response(
        coarse,
        voxel_size * dense.shape[2] / shape[2],
        params.diameter_angstrom,
        wall_angstrom=params.wall_angstrom,
    ).score
    step = voxel_size * np.array(dense.shape, dtype=np.float64)[::-1] / np.array(shape)[::-1]
    return (
        VolumeSamples(values=dense.cpu().numpy(), step_angstrom=np.full(3, voxel_size)),
        VolumeSamples(values=score.cpu().numpy(), step_angstrom=step),
    )


def _followed(found: VolumeSamples, params: TraceParams) -> list[FloatArray]:
    """Rough lines, (point, 3) A, from the best places on; no place belongs to two."""
    top = np.argwhere((maximum_filter(found.values, 3) == found.values) & (found.values >= params.min_score))
    seeds = found.to_angstrom(top[:, ::-1])[np.argsort(-found.values[tuple(top.T)], kind="stable")]
    lines: list[FloatArray] = []
    taken = np.zeros((0, 3))
    for seed in seeds:
        if _near(seed, taken, params):
            continue
        start = _best_direction(found, seed, params)
        ahead, behind = (_walked(found, seed, way, taken, params) for way in (start, -start))
        line = np.concatenate([behind[::-1], seed[None], ahead])
        taken = np.concatenate([taken, line])
        lines.append(line)
    return lines


def _near(place: FloatArray, taken: FloatArray, params: TraceParams) -> bool:
    return bool(len(taken)) and bool(np.linalg.norm(taken - place, axis=1).min() < _BESIDE * params.diameter_angstrom)


def _best_direction(found: VolumeSamples, seed: FloatArray, params: TraceParams) -> FloatArray:
    """Where both sides of a place score most, a diameter away."""
    ways = half_sphere(6.0)
    reach = params.diameter_angstrom * np.array([-1.0, -0.5, 0.5, 1.0])
    scores = found.at(seed + (ways[:, None] * reach[:, None]).reshape(-1, 3)).reshape(len(ways), -1)
    return np.asarray(ways[scores.mean(axis=1).argmax()])


def _walked(
    found: VolumeSamples, seed: FloatArray, way: FloatArray, taken: FloatArray, params: TraceParams
) -> FloatArray:
    """Points half a diameter apart from a place on, without it, until the line fades or leaves the tomogram."""
    step = 0.5 * params.diameter_angstrom
    reach = step * math.tan(math.radians(params.max_bend_deg))
    grid = np.linspace(-reach, reach, 7)
    u, v = (part.ravel() for part in np.meshgrid(grid, grid))
    u, v = u[np.hypot(u, v) <= reach], v[np.hypot(u, v) <= reach]
    place, scores = seed, [float(found.at(seed[None])[0])]
    points: list[FloatArray] = []
    while True:
        side = np.cross(way, np.eye(3)[np.abs(way).argmin()])
        side /= np.linalg.norm(side)
        ahead = place + step * way + u[:, None] * side + v[:, None] * np.cross(way, side)
        values = found.at(ahead)
        best = int(values.argmax())
        least = max(_LEAST_SCORE, params.ends_at * float(np.median(scores)))
        if values[best] < least or not found.inside(ahead[best : best + 1])[0] or _near(ahead[best], taken, params):
            break
        moved = (ahead[best] - place) / np.linalg.norm(ahead[best] - place)
        way = (way + moved) / np.linalg.norm(way + moved)
        place = ahead[best]
        points.append(place)
        scores.append(float(values[best]))
    return np.array(points).reshape(-1, 3)


def _length(line: FloatArray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _refined(
    dense: VolumeSamples, found: VolumeSamples, rough: FloatArray, params: TraceParams, *, cut: bool
) -> TracedFilament | None:
    """The smooth line, its ends cut where it fades; None where nothing is left."""
    spacing = params.spacing_angstrom or params.diameter_angstrom / 2.0
    line, residual, sigma = refine_line(dense, rough, params.diameter_angstrom, params.stiffness)
    count = max(2, 1 + math.floor(line.length_angstrom / spacing + 1e-9))
    rest = line.length_angstrom - (count - 1) * spacing
    points = line.at(rest / 2.0 + spacing * np.arange(count))[0]
    scores = found.at(points)
    if cut:
        good = np.flatnonzero(scores >= max(_LEAST_SCORE, params.ends_at * float(np.median(scores))))
        if not len(good):
            return None
        points, scores = points[good[0] : good[-1] + 1], scores[good[0] : good[-1] + 1]
    if len(points) < 2 or float(scores.max()) < (params.min_score if cut else _LEAST_SCORE):
        return None
    return TracedFilament(points_angstrom=points, scores=scores, residual_angstrom=residual, sigma_angstrom=sigma)
