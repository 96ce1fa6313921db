"""From images in arbitrary places to one geometry: neighbours, projection matching, tilt axis."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.coarse import coarse_shifts, in_axis_frame, in_camera_frame, search_axis_coarsely
from eucentric.alignment.params import AlignParams
from eucentric.alignment.projection_matching import MatchRound, ProjectionMatcher
from eucentric.alignment.results import AlignmentResult
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.resampling import resample_tilts
from eucentric.typing import FloatArray

_DONE_PX = 0.05
_FIRST_ROUNDS = 3
_CLEARLY_BETTER = 1.15
_FAR_DEG = 15.0


def align_tilt_series(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    pixel_size: float,
    axis_deg: float | None,
    params: AlignParams,
    progress: Callable[[float, str], None] | None = None,
) -> AlignmentResult:
    """Shifts of all tilts and the direction of the tilt axis.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, dark tilts left out
    tilt_angles_deg : (tilt,), as the stage gave them; a common offset is a rotation of the specimen and stays as given
    pixel_size : A
    axis_deg : rlnTomoZRot as the microscope gave it, or None to search the half circle
    progress : called with the part done and what is being done

    Raises
    ------
    ShapeError, InputError : images and angles that do not fit together, fewer than three tilts, values that are not finite
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    if images.ndim != 3 or len(images) != len(tilts):
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} and {len(tilts)} angles were given; expected one each."
        )
    if len(tilts) < 3:
        raise InputError(f"Only {len(tilts)} tilts are left; expected at least three to align a tilt series.")
    if not bool(torch.isfinite(images).all()):
        raise InputError("An image holds values that are not numbers (NaN or infinity). Make its sum of frames again.")
    tell = progress or (lambda _part, _text: None)
    levels = _Levels(images, pixel_size, params)
    caveats: list[str] = []
    tell(0.02, "tilt axis, first look")
    axis = _starting_axis(levels, tilts, axis_deg, params, caveats)
    tell(0.1, "neighbouring tilts")
    coarse = coarse_shifts(
        levels.coarse,
        tilts,
        axis,
        levels.coarse_pixel,
        low_pass_angstrom=max(40.0, 3.3 * levels.coarse_pixel),
        high_pass_angstrom=min(600.0, levels.high_pass),
        max_shift_fraction=params.max_shift_fraction,
    )
    matcher = levels.matcher(images, tilts, pixel_size, 0)
    focused = _focus(matcher, coarse, levels.low_pass[0])
    current = _rounds(matcher, focused, _FIRST_ROUNDS, levels.low_pass[0], levels.match_pixel)
    tell(0.2, "projection matching")
    matcher = levels.matcher(images, tilts, pixel_size, 1)
    current = _rounds(matcher, current.geometry, params.passes[0], levels.low_pass[1], levels.match_pixel)
    tell(0.4, "tilt axis")
    tried: dict[float, float] = {}
    if params.axis_search_deg > 0:
        matcher = levels.matcher(images, tilts, pixel_size, 2)
        current = _search_axis(matcher, current, params.axis_search_deg, levels, tried, tell)
    tell(0.85, "projection matching")
    matcher = levels.matcher(images, tilts, pixel_size, 3)
    current = _rounds(matcher, current.geometry, params.passes[1], levels.low_pass[2] / 2, levels.match_pixel)
    tell(1.0, "")
    _judge(current, tilts, caveats)
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


class _Levels:
    """Samplings and bands for a pixel size and a field of view."""

    def __init__(self, images: Tensor, pixel_size: float, params: AlignParams) -> None:
        field = min(images.shape[1:]) * pixel_size
        # small fields keep at least 96 pixels; coarse pixels stay as they are
        finest = max(pixel_size, min(field / 96, params.match_pixel_angstrom))
        self.match_pixel = finest
        self.coarse_pixel = max(pixel_size, min(field / 96, params.coarse_pixel_angstrom))
        scale = max(1.0, pixel_size / params.match_pixel_angstrom)
        self.low_pass = tuple(scale * length for length in params.low_pass_angstrom)
        self.high_pass = min(params.high_pass_angstrom * scale, field / 3)
        self.thickness = params.thickness_angstrom * scale
        shape = tuple(max(16, 2 * round(n * pixel_size / self.coarse_pixel / 2)) for n in images.shape[1:])
        still = TiltGeometry.build(np.zeros(len(images)))
        centred = images - images.mean((-2, -1), keepdim=True)
        centred = centred / centred.std((-2, -1), keepdim=True).clamp(min=1e-20)
        self.coarse = resample_tilts(
            centred, still, pixel_size, out_shape=(shape[0], shape[1]), out_pixel_size=self.coarse_pixel
        )

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


def _starting_axis(
    levels: _Levels, tilts: FloatArray, given: float | None, params: AlignParams, caveats: list[str]
) -> float:
    axes, scores = search_axis_coarsely(
        levels.coarse,
        tilts,
        levels.coarse_pixel,
        low_pass_angstrom=max(60.0, 4 * levels.coarse_pixel),
        high_pass_angstrom=min(600.0, levels.high_pass),
        max_shift_fraction=params.max_shift_fraction,
    )
    best = float(axes[int(scores.argmax())])
    if given is None:
        caveats.append(
            f"No tilt axis was given: {best:.0f} degrees was found in the images, and its opposite {best + 180:.0f} fits as well. "
            "If the specimen comes out mirrored, give --tilt-axis."
        )
        return best
    apart = abs((best - given + 90.0) % 180.0 - 90.0)
    nearest = float(scores[int(np.abs((axes - given + 90.0) % 180.0 - 90.0).argmin())])
    if apart > _FAR_DEG and float(scores.max()) > _CLEARLY_BETTER * nearest:
        found = best if np.cos(np.deg2rad(best - given)) >= 0 else best + 180.0
        caveats.append(
            f"The given tilt axis of {given:.1f} degrees does not fit the images, which show {found:.0f} degrees; that was used. "
            "Check the tilt axis in the mdoc."
        )
        return found
    return given


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
) -> MatchRound:
    """Climb the score over the axis, first by steps of 2 degrees, then of 0.7; end on the summit of a parabola."""
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
    for step in (2.0, 0.7):
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
