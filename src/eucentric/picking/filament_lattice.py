r"""The lattice of subunits in the wall of a tube, from its unrolled wall; numpy, A, radians inside.

A helical wall is a plane lattice on a cylinder: its density is a sum of waves :math:`\exp i(n\theta + 2\pi q s)` of whole orders n
(Klug, Crick & Wyckoff 1958, doi:10.1107/S0365110X58000517). Two of them make the lattice. The shallow helix of S starts is the
layer line at 1 / (spacing of subunits), order -S or S by its hand: three starts, left-handed, in microtubules. The N protofilaments
are order N near the equator; where they are skewed, off it. Their sums, orders N - S and N + S on the layer line, must be there
too, at the same N. Grooves between protofilaments are deepest outside of the middle of the wall, and the wedge, which weakens
the sides of the wall and draws out its top, spreads each order to those 2, 4, ... away unless the wall is unrolled at the right
radius: so each N is tried at several radii and has its best. The next best N is reported with its score, and the lateral spacing, 51
to 54 A in microtubules, tells whether N and the radius go together.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ProcessingError
from eucentric.picking.centre_lines import CentreLine, centre_line
from eucentric.picking.pick_geometry import OrientedPoints
from eucentric.picking.refine_lines import VolumeSamples
from eucentric.picking.trace_params import TraceParams, WallParams
from eucentric.typing import FloatArray

_SAMPLES_PER_SPACING = 8.0
_AROUND = 128  # samples around: orders up to 63
_PAD = 4
_SHELLS = np.arange(-2, 6) / 6.0  # thicknesses of the wall from its middle
_CHANCE = 1e-3  # that noise alone shows so strong a layer line
_WINDOW_SPACINGS = 24.0  # over which the lattice may stretch and turn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wall:
    """A tube's wall, unrolled."""

    values: FloatArray
    """(s, theta), bright protein, averaged over the thickness of the wall."""
    shells: FloatArray
    """(radius, s, theta), the same over a third of the thickness, from the inside to beyond the outside."""
    step_angstrom: float
    """Along s; theta runs once around, from the frame's x to its y."""
    radius_angstrom: float
    """Where the wall is densest."""
    line: CentreLine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WallLattice:
    """The lattice that a wall shows."""

    protofilaments: int
    starts: int
    """Of the shallow helix; negative where it is left-handed."""
    spacing_angstrom: float
    """Of subunits along the axis."""
    skew_deg: float
    """Of protofilaments to the axis, positive where they turn right-handed."""
    rise_angstrom: float
    """From a subunit to that of the next protofilament, along the axis."""
    twist_deg: float
    """The same about the axis, with the sense of the rise."""
    lateral_angstrom: float
    """Between protofilaments, along the arc."""
    layer_line: float
    """Power of the layer line over that of the background."""
    score: float
    """Geometric mean of such ratios of the two waves that tell the number of protofilaments."""
    runner_up: tuple[int, float]
    """The next best number of protofilaments, and its score."""
    phases: FloatArray
    """(s, 2), of the helix and the protofilaments; both are multiples of 2 pi at a subunit."""


def unroll_wall(dense: VolumeSamples, points_angstrom: ArrayLike, params: TraceParams, spacing_angstrom: float) -> Wall:
    """The wall along a centre line, sampled finely enough for subunits of some spacing.

    Parameters
    ----------
    dense : volume with bright protein, its background 0
    points_angstrom : (point, 3) centre line
    params : of the tube: diameter and wall

    Raises
    ------
    InputError : voxels too coarse for the spacing, or a line shorter than ten subunits
    """
    if spacing_angstrom < 2.0 * float(dense.step_angstrom.max()):
        raise InputError(
            f"Subunits {spacing_angstrom:g} A apart need voxels of {spacing_angstrom / 2:g} A at most; they measure "
            f"{dense.step_angstrom.max():g} A. Reconstruct with finer voxels."
        )
    line = centre_line(points_angstrom)
    if line.length_angstrom < 10.0 * spacing_angstrom:
        raise InputError(
            f"The filament is {line.length_angstrom:.0f} A long; its lattice needs ten subunits, {10 * spacing_angstrom:.0f} A."
        )
    step = spacing_angstrom / _SAMPLES_PER_SPACING
    track = np.arange(0.0, line.length_angstrom, step)
    angle = 2.0 * math.pi * np.arange(_AROUND) / _AROUND
    places, frames = line.at(track)
    out = np.cos(angle)[:, None] * frames[:, None, :, 0] + np.sin(angle)[:, None] * frames[:, None, :, 1]
    wall = params.wall_angstrom or params.diameter_angstrom / 2.0
    fine = max(float(dense.step_angstrom.min()) / 2.0, wall / 12.0)
    radii = np.arange(params.diameter_angstrom / 8.0, 0.75 * params.diameter_angstrom, fine)
    profile = np.array([dense.at((places[:, None] + r * out).reshape(-1, 3)).mean() for r in radii])
    radius = float(radii[profile.argmax()])

    def shell(middle: float, thickness: float) -> FloatArray:
        near = middle + fine * np.arange(-int(thickness / 2.0 / fine), int(thickness / 2.0 / fine) + 1)
        weights = np.cos(math.pi * (near - middle) / (thickness + 2.0 * fine)) ** 2
        total = np.zeros(len(track) * _AROUND)
        for r, weight in zip(near, weights / weights.sum(), strict=True):
            total += weight * dense.at((places[:, None] + r * out).reshape(-1, 3))
        return total.reshape(len(track), _AROUND)

    shells = np.array([shell(radius + part * wall, wall / 3.0) for part in _SHELLS])
    return Wall(values=shell(radius, wall), shells=shells, step_angstrom=step, radius_angstrom=radius, line=line)


def fit_wall_lattice(wall: Wall, params: WallParams) -> WallLattice:
    """The lattice of a wall.

    Raises
    ------
    ProcessingError : no layer line that stands out of the noise
    """
    layer = 1.0 / params.spacing_angstrom
    power, q = _whitened_power(wall.values, wall.step_angstrom, layer)
    near = np.flatnonzero(np.abs(q * params.spacing_angstrom - 1.0) <= params.spacing_tolerance)
    low, high = params.starts
    orders = [sign * n for n in range(low, high + 1) for sign in (1, -1)]
    line = np.array([power[near, n] for n in orders])
    which, row = np.unravel_index(int(line.argmax()), line.shape)
    order, q_helix, strength = orders[int(which)], float(q[near[row]]), float(line.max())
    if strength < -math.log(_CHANCE / (line.size / _PAD)):
        raise ProcessingError(
            f"The wall shows no layer line near {params.spacing_angstrom:g} A (its best is {strength:.1f} times the noise). The "
            "tomogram lacks that detail, the filament is too short, or spacing, diameter or contrast are wrong."
        )
    scores = _scores(wall, params, order, int(near[row]))
    best, second = sorted(scores, key=lambda n: -scores[n][0])[:2]
    score, q_long, shell = scores[best]
    waves = [(wall.values, order, q_helix), (wall.shells[shell], best, q_long)]
    phases = np.stack([_phase(*wave, wall.step_angstrom, params.spacing_angstrom) for wave in waves], axis=1)
    slopes = [float(np.median(np.gradient(phases[:, k], wall.step_angstrom))) for k in (0, 1)]
    # theta and s from a subunit to that of the next protofilament on the helix
    turn, rise = np.linalg.solve([[order, slopes[0]], [best, slopes[1]]], [0.0, 2.0 * math.pi])
    sense = math.copysign(1.0, rise)
    return WallLattice(
        protofilaments=best,
        starts=-order,
        spacing_angstrom=2.0 * math.pi / (slopes[0] - order * slopes[1] / best),
        skew_deg=math.degrees(math.atan(-slopes[1] * wall.radius_angstrom / best)),
        rise_angstrom=sense * float(rise),
        twist_deg=sense * math.degrees(float(turn)),
        lateral_angstrom=2.0 * math.pi * wall.radius_angstrom / best,
        layer_line=strength,
        score=score,
        runner_up=(second, scores[second][0]),
        phases=phases,
    )


def _scores(wall: Wall, params: WallParams, order: int, at: int) -> dict[int, tuple[float, float, int]]:
    """Of each number of protofilaments: how strong its two waves are, q of its equatorial one, and the shell that shows it best."""
    scores: dict[int, tuple[float, float, int]] = {}
    for row, shell in enumerate(wall.shells):
        power, q = _whitened_power(shell, wall.step_angstrom, 1.0 / params.spacing_angstrom)
        for number in range(params.protofilaments[0], params.protofilaments[1] + 1):
            reach = math.tan(math.radians(params.max_skew_deg)) * number / (2.0 * math.pi * wall.radius_angstrom)
            tried = [o for o in range(-len(q) // 2, len(q) // 2) if abs(q[o]) <= reach]
            # helix less protofilaments where both orders have one sign, their sum otherwise: the lower order of the two
            sign = 1 if order > 0 else -1
            means = [math.sqrt(power[o, number] * power[at - sign * o, order - sign * number]) for o in tried]
            best = int(np.argmax(means))
            if means[best] > scores.get(number, (-1.0,))[0]:
                scores[number] = (means[best], float(q[tried[best]]), row)
    return scores


def _whitened_power(values: FloatArray, step: float, layer: float) -> tuple[FloatArray, FloatArray]:
    """(q, n) power over the noise of each order, and q in 1/A.

    The noise is the median between the equator and twice the layer line, as of an exponential distribution.
    """
    count = len(values)
    power = np.abs(np.fft.fft2(values * np.hanning(count)[:, None], s=(_PAD * count, _AROUND))) ** 2
    q = np.asarray(np.fft.fftfreq(_PAD * count, step), dtype=np.float64)
    noise = (np.abs(q) > 0.15 * layer) & (np.abs(q) < 1.8 * layer) & (np.abs(np.abs(q) / layer - 1.0) > 0.15)
    return np.asarray(power / np.maximum(np.median(power[noise], axis=0) / math.log(2.0), 1e-30)), q


def _phase(values: FloatArray, order: int, q: float, step: float, spacing: float) -> FloatArray:
    """(s,) phase of a wave at theta = 0, followed along s as the lattice stretches and turns."""
    track = step * np.arange(len(values))
    angle = 2.0 * math.pi * np.arange(_AROUND) / _AROUND
    width = min(_WINDOW_SPACINGS * spacing, track[-1]) / step
    window = np.hanning(max(3, 2 * round(width / 2.0) + 1))
    around = (values * np.exp(-1j * order * angle)).mean(axis=1) * np.exp(-2j * math.pi * q * track)
    followed = np.convolve(around, window, mode="full")[len(window) // 2 :][: len(track)]
    return np.asarray(2.0 * math.pi * q * track + np.unwrap(np.angle(followed)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WallPoints:
    """Subunits in a wall."""

    oriented: OrientedPoints
    """z of the reference outwards, x along the centre line."""
    protofilament: FloatArray
    """(point,), from 0."""
    angle_deg: FloatArray
    """(point,), about the line from its frame's x."""
    scores: FloatArray
    """(point,), density of the wall there, in its standard deviations about its mean at that angle."""


def wall_points(wall: Wall, lattice: WallLattice) -> WallPoints:
    """A point for each subunit: where the helix and the protofilaments of a lattice cross."""
    track = wall.step_angstrom * np.arange(len(wall.values))
    order, number = -lattice.starts, lattice.protofilaments
    helix, long = lattice.phases.T
    s_all, angle_all, which = [], [], []
    for j in range(number):
        angle = (2.0 * math.pi * j - long) / number
        phase = helix + order * angle
        wanted = (
            2.0 * math.pi * np.arange(math.ceil(phase[0] / (2 * math.pi)), math.floor(phase[-1] / (2 * math.pi)) + 1)
        )
        s = np.interp(wanted, np.maximum.accumulate(phase), track)
        s_all.append(s)
        angle_all.append(np.interp(s, track, angle))
        which.append(np.full(len(s), float(j)))
    s, angle = np.concatenate(s_all), np.concatenate(angle_all)
    places, frames = wall.line.at(s)
    x, y, z = (frames[:, :, k] for k in range(3))
    out = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y
    oriented = OrientedPoints(
        points=places + wall.radius_angstrom * out,
        rotations=np.stack([z, np.cross(out, z), out], axis=2),
        track_angstrom=s,
    )
    flat = wall.values - wall.values.mean(axis=0)
    rows = np.clip(np.round(s / wall.step_angstrom).astype(int), 0, len(track) - 1)
    columns = np.round(angle / (2.0 * math.pi) * _AROUND).astype(int) % _AROUND
    return WallPoints(
        oriented=oriented,
        protofilament=np.concatenate(which),
        angle_deg=np.rad2deg(angle) % 360.0,
        scores=flat[rows, columns] / max(float(flat.std()), 1e-30),
    )
