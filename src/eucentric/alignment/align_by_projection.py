"""From a first geometry to the best rigid one: smooth errors, projection matching, tilt axis."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.alignment.coarse import in_axis_frame, in_camera_frame
from eucentric.alignment.params import AlignParams
from eucentric.alignment.projection_matching import MatchRound, ProjectionMatcher
from eucentric.alignment.results import AlignmentResult
from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

_DONE_PX = 0.05
_FIRST_ROUNDS = 3
_AXIS_STEPS = (2.0, 0.7)


def align_by_projection(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: FloatArray,
    coarse: TiltGeometry,
    *,
    pixel_size: float,
    params: AlignParams,
    near: bool = False,
    fine_axis: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> AlignmentResult:
    """Shifts of all tilts and the direction of the tilt axis, from a first geometry.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, dark tilts left out
    tilt_angles_deg : (tilt,), as the stage gave them; a common offset is a rotation of the specimen and stays as given
    coarse : of the same tilts, from their neighbours
    pixel_size : A
    near : the geometry is right within some tens of A, as an imported one is: smooth errors along the series are not
        looked for
    fine_axis : search the axis to a tenth of a degree; else to half a degree, where something finer follows
    progress : called with the part done and what is being done
    """
    tell = progress or (lambda _part, _text: None)
    levels = _Levels(images, pixel_size, params)
    caveats: list[str] = []
    begun = coarse
    if not near:
        tell(0.0, "smooth errors")
        matcher = levels.matcher(images, tilt_angles_deg, pixel_size, 0)
        focused = _focus(matcher, coarse, levels.low_pass[0])
        begun = _rounds(matcher, focused, _FIRST_ROUNDS, levels.low_pass[0], levels.match_pixel).geometry
    tell(0.2, "projection matching")
    matcher = levels.matcher(images, tilt_angles_deg, pixel_size, 1)
    current = _rounds(matcher, begun, params.passes[0], levels.low_pass[1], levels.match_pixel)
    tell(0.4, "tilt axis")
    tried: dict[float, float] = {}
    if params.axis_search_deg > 0:
        matcher = levels.matcher(images, tilt_angles_deg, pixel_size, 2)
        current = _search_axis(
            matcher, current, params.axis_search_deg, levels, tried, tell, _AXIS_STEPS if fine_axis else _AXIS_STEPS[:1]
        )
    tell(0.85, "projection matching")
    matcher = levels.matcher(images, tilt_angles_deg, pixel_size, 3)
    current = _rounds(matcher, current.geometry, params.passes[1], levels.low_pass[2] / 2, levels.match_pixel)
    tell(1.0, "")
    _judge(current, tilt_angles_deg, caveats)
    axes = np.array(sorted(tried), dtype=np.float64)
    return AlignmentResult(
        geometry=current.geometry,
        coarse_geometry=coarse,
        sigma_angstrom=current.sigma_angstrom,
        scores=current.scores,
        axis_angles_deg=axes,
        axis_scores=np.array([tried[a] for a in axes], dtype=np.float64),
        last_change_angstrom=current.largest_move_angstrom,
        caveats=tuple(caveats),
    )


def score_geometry(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: FloatArray,
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    params: AlignParams,
) -> FloatArray:
    """(tilt,) correlation of each image with the projection of the others' features; arguments as `align_by_projection`."""
    levels = _Levels(images, pixel_size, params)
    matcher = levels.matcher(images, tilt_angles_deg, pixel_size, 3)
    return matcher.run_round(geometry, reach_angstrom=levels.match_pixel).scores


class _Levels:
    """Samplings and bands for a pixel size and a field of view."""

    def __init__(self, images: Tensor, pixel_size: float, params: AlignParams) -> None:
        field = min(images.shape[1:]) * pixel_size
        # small fields keep at least 96 pixels; coarse pixels stay as they are
        finest = max(pixel_size, min(field / 96, params.match_pixel_angstrom))
        self.match_pixel = finest
        scale = max(1.0, pixel_size / params.match_pixel_angstrom)
        self.low_pass = tuple(scale * length for length in params.low_pass_angstrom)
        self.high_pass = min(params.high_pass_angstrom * scale, field / 3)
        self.thickness = params.thickness_angstrom * scale

    def matcher(self, images: Tensor, tilts: FloatArray, pixel_size: float, stage: int) -> ProjectionMatcher:
        return ProjectionMatcher(
            images,
            tilts,
            pixel_size,
            match_pixel_size=self.match_pixel,
            thickness=self.thickness,
            low_pass=max(self.low_pass[stage], 2.2 * self.match_pixel),
            high_pass=self.high_pass,
        )


def _focus(matcher: ProjectionMatcher, geometry: TiltGeometry, low_pass: float) -> TiltGeometry:
    """Shifts across the axis with their smooth errors taken out, by the sharpness of the reconstruction.

    Neighbours leave an error free that changes slowly from tilt to tilt: each step of it is small, their sum is not. Its
    even and its odd part beyond what a displacement of the specimen explains, which go with the square and the cube of
    the angle, are tried in turn.
    """
    angle = np.deg2rad(geometry.y_tilt_deg)
    free = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    best = geometry
    top = matcher.sharpness(geometry)
    for power, step, reach in ((2, 0.2, 1.6), (3, 0.2, 1.6), (2, 0.1, 0.3), (3, 0.1, 0.3)):
        mode = angle**power
        mode = mode - free @ np.linalg.lstsq(free, mode, rcond=None)[0]
        if float(np.abs(mode).max()) < 1e-9:
            continue
        mode = mode / np.abs(mode).max()
        start = in_axis_frame(best)
        for amount in np.arange(-reach, reach + step / 2, step) * low_pass:
            shifts = start.copy()
            shifts[:, 0] += amount * mode
            tried = in_camera_frame(geometry.y_tilt_deg, float(geometry.z_rot_deg[0]), shifts)
            sharp = matcher.sharpness(tried)
            if sharp > top:
                best, top = tried, sharp
    return best


def _rounds(matcher: ProjectionMatcher, geometry: TiltGeometry, rounds: int, reach: float, pixel: float) -> MatchRound:
    current = matcher.run_round(geometry, reach_angstrom=reach)
    for _ in range(rounds - 1):
        if current.largest_move_angstrom < _DONE_PX * pixel:
            break
        current = matcher.run_round(current.geometry, reach_angstrom=reach)
    return current


def _search_axis(
    matcher: ProjectionMatcher,
    start: MatchRound,
    reach_deg: float,
    levels: _Levels,
    tried: dict[float, float],
    tell: Callable[[float, str], None],
    steps: tuple[float, ...],
) -> MatchRound:
    """Climb the score over the axis by steps in degrees, each finer than the last; end on the summit of a parabola."""
    centre = float(start.geometry.z_rot_deg[0])
    kept: dict[float, MatchRound] = {}

    def score(axis: float) -> float:
        axis = round(axis, 4)
        if axis not in kept:
            near = min(kept.values(), key=lambda m: abs(float(m.geometry.z_rot_deg[0]) - axis), default=start)
            kept[axis] = _rounds(matcher, _turn(near.geometry, axis), 2, levels.low_pass[2] / 2, levels.match_pixel)
            tried[axis] = float(kept[axis].scores.mean())
            tell(min(0.8, 0.4 + 0.04 * len(kept)), f"tilt axis {axis:.2f} degrees")
        return tried[axis]

    best = centre
    for step in steps:
        while True:
            values = [score(best - step), score(best), score(best + step)]
            winner = int(np.argmax(values))
            if winner == 1 or abs(best + (winner - 1) * step - centre) > reach_deg:
                break
            best += (winner - 1) * step
        bend = values[0] - 2 * values[1] + values[2]
        best = round(best + (0.5 * step * (values[0] - values[2]) / bend if bend < 0 else 0.0), 4)
        best = float(np.clip(best, centre - reach_deg, centre + reach_deg))
    score(best)
    return kept[round(best, 4)]


def _turn(geometry: TiltGeometry, axis_deg: float) -> TiltGeometry:
    """The same shifts on the camera with another tilt axis."""
    return geometry.replace(z_rot_deg=np.full(len(geometry), axis_deg))


def _judge(current: MatchRound, tilts: FloatArray, caveats: list[str]) -> None:
    middle = float(np.median(current.scores))
    poor = [i for i in range(len(tilts)) if current.scores[i] < 0.35 * middle]
    if poor:
        names = ", ".join(f"{tilts[i]:.1f}" for i in poor)
        caveats.append(f"The images at {names} degrees match the others poorly; look at them, or exclude them.")
    if middle < 0.1:
        caveats.append(
            f"The images match weakly (median score {middle:.2f}): the specimen shows few features, and shifts may be wrong."
        )
