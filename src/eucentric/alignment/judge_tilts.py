"""Which images of a tilt series are fit for use, with numbers and reasons.

Every test compares an image with what the others lead to expect of it, and asks for a clear difference: an image too many
costs little, a good one lost leaves a gap for ever.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.coarse import CoarseAlignment
from eucentric.alignment.find_dark_tilts import IntensityFit, fit_intensity
from eucentric.errors import ShapeError
from eucentric.fourier.filters import taper_edges
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

_SATURATED = 0.05
"""Part of an image at its highest value: a detector in range has a few pixels there."""
_SAME_NOISE = 0.5
"""Correlation of the finest detail of two images: noise of two exposures has none, a leftover of the gain a tenth."""
_SAME_ANGLE_DEG = 0.05
_SHARP_PART = 0.3
_SIDES = 6
_NEIGHBOURS = 3
_CLEAR = 12.0
"""Contrast of the peak between the two neighbours of an image that makes its own missing peaks tell."""
_WEAK = 0.35
_UNMATCHED = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltQuality:
    """Scores of every tilt, and the reason to leave one out."""

    tilt_deg: FloatArray
    level: FloatArray
    """(tilt,) intensity over what Lambert's law and the other images lead to expect; NaN for a normalised stack."""
    dark_area: FloatArray
    """(tilt,) part of the image that is dark; NaN for a normalised stack."""
    sharpness: FloatArray
    """(tilt,) contrast of fine detail, in the direction where it is least, over that of the neighbours."""
    overlap: FloatArray
    """(tilt,) part of the common field that the image shows; NaN where no geometry is known."""
    agreement: FloatArray
    """(tilt,) median contrast of the correlation with the neighbours; NaN where none was made."""
    reasons: dict[int, str]
    """A sentence for each tilt that is not fit for use."""
    caveats: tuple[str, ...]
    intensity: IntensityFit | None

    @property
    def kept(self) -> list[int]:
        """Positions of the tilts without a reason."""
        return [i for i in range(len(self.tilt_deg)) if i not in self.reasons]


def judge_tilts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    pixel_size: float,
    doses: ArrayLike | None = None,
    coarse: CoarseAlignment | None = None,
    dark_fraction: float = 0.5,
    dark_area: float = 0.3,
    least_overlap: float = 0.3,
) -> TiltQuality:
    """Scores and reasons; call it before alignment and, for field and agreement, again with a first geometry.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, not normalised
    pixel_size : A
    doses : (tilt,), e/A^2 of each image; equal where None
    coarse : first geometry of the same tilts
    dark_fraction : a place is dark below this part of the expected intensity
    dark_area : an image is dark when more than this part of it is
    least_overlap : part of the common field that an image has to show

    Raises
    ------
    ShapeError : images, angles, doses or geometry of different number
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    count = len(images)
    if images.ndim != 3 or tilts.shape != (count,) or (coarse is not None and len(coarse.geometry) != count):
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} and {tilts.size} angles were given; expected one of each, and a "
            "geometry of the same tilts."
        )
    reasons: dict[int, str] = {}
    caveats: list[str] = []
    _find_broken(images, reasons)
    whole = torch.nan_to_num(images.float(), nan=0.0, posinf=0.0, neginf=0.0)
    sound = np.array([i for i in range(count) if i not in reasons], dtype=np.int64)
    dose = None if doses is None else np.asarray(doses, dtype=np.float64)[sound]
    light = fit_intensity(whole[sound], tilts[sound], doses=dose, dark_fraction=dark_fraction) if len(sound) else None
    level, dark = np.full(count, np.nan), np.full(count, np.nan)
    if light is not None:
        level[sound], dark[sound] = light.level, light.dark_area
        reasons |= {int(sound[i]): why for i, why in light.dark_tilts(dark_fraction, dark_area).items()}
    _find_copies(whole, tilts, reasons, caveats)
    sharp = _sharpness(whole, pixel_size, reasons)
    overlap, agreement = np.full(count, np.nan), np.full(count, np.nan)
    if coarse is not None:
        overlap = field_overlap(coarse.geometry, (images.shape[1] * pixel_size, images.shape[2] * pixel_size))
        _find_off_field(overlap, least_overlap, reasons)
        agreement = _agreement(coarse, tilts, reasons)
    if len(reasons) == count:
        caveats.append("No image is fit for use.")
    return TiltQuality(
        tilt_deg=tilts,
        level=level,
        dark_area=dark,
        sharpness=sharp,
        overlap=overlap,
        agreement=agreement,
        reasons=dict(sorted(reasons.items())),
        caveats=tuple(caveats),
        intensity=light,
    )


def find_unmatched(scores: ArrayLike, tilt_angles_deg: ArrayLike) -> dict[int, str]:
    """Tilts that an alignment did not bring to match the others, by the scores it ended with.

    Scores fall smoothly towards high tilts; an image far below the next ones of lower tilt is in the wrong place.

    Parameters
    ----------
    scores : (tilt,) correlation with what the other images show
    tilt_angles_deg : (tilt,), ascending
    """
    values, tilts = np.asarray(scores, dtype=np.float64), np.asarray(tilt_angles_deg, dtype=np.float64)
    out: dict[int, str] = {}
    for i in np.argsort(np.abs(tilts), kind="stable"):
        # the two images next to it on the side of lower tilt, those that match
        inner = [
            float(values[j])
            for j in np.argsort(np.abs(tilts - tilts[i]), kind="stable")
            if abs(tilts[j]) < abs(tilts[i]) and j not in out
        ][:2]
        expected = float(np.median(inner)) if inner else float(np.median(values))
        if expected > 0 and values[i] < _UNMATCHED * expected:
            out[int(i)] = (
                f"not aligned: its correlation with the others is {values[i]:.2f}, "
                f"while the next images of lower tilt reach {expected:.2f}"
            )
    return dict(sorted(out.items()))


def field_overlap(geometry: TiltGeometry, field_angstrom: tuple[float, float]) -> FloatArray:
    """(tilt,) part of the common field, what at least half of the images show, that each image shows.

    Parameters
    ----------
    geometry : of a flat specimen
    field_angstrom : y, x size of the images in A
    """
    y, x = (np.linspace(-0.75, 0.75, 61) * n for n in field_angstrom)
    # the field may lie anywhere: look around where the images of small tilt show the specimen's centre
    low = np.argsort(np.abs(geometry.y_tilt_deg))[: max(3, len(geometry) // 3)]
    middle = np.median(geometry.shifts_angstrom[low], axis=0)
    turn = np.median(geometry.z_rot_deg)
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    camera = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - middle
    points = np.stack([c * camera[:, 0] + s * camera[:, 1], -s * camera[:, 0] + c * camera[:, 1], 0 * camera[:, 0]], -1)
    seen = geometry.project(points)[..., :2]
    half = 0.5 * np.array(field_angstrom[::-1])
    inside = np.asarray((np.abs(seen) <= half).all(-1))
    common = np.asarray(inside.mean(0) >= 0.5)
    if not common.any():
        return np.zeros(len(geometry))
    return np.asarray(inside[:, common].mean(1))


def _find_broken(images: Tensor, reasons: dict[int, str]) -> None:
    for i, image in enumerate(images):
        wrong = int((~torch.isfinite(image)).sum()) if image.is_floating_point() else 0
        if wrong:
            reasons[i] = f"broken: {wrong} of its {image.numel()} values are not numbers"
            continue
        top, bottom = float(image.max()), float(image.min())
        if top == bottom:
            reasons[i] = f"empty: all its values are {top:g}"
            continue
        share = float((image == top).float().mean())
        if share > _SATURATED:
            reasons[i] = f"saturated: {share:.0%} of its values are the highest, {top:g}"


def _find_copies(images: Tensor, tilts: FloatArray, reasons: dict[int, str], caveats: list[str]) -> None:
    """The same exposure twice, by its noise; and angles that were recorded twice."""
    height, width = images.shape[1:]
    rows, columns = min(height, 384), min(width, 384)
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = images[:, top : top + rows, left : left + columns]
    fine = cut[:, :, 1:] - cut[:, :, :-1]
    fine = (fine[:, 1:] - fine[:, :-1]).flatten(1)
    spread = 5.0 * fine.std(1, keepdim=True)
    fine = fine.clamp(min=-spread, max=spread)
    fine = fine / fine.norm(dim=1, keepdim=True).clamp(min=1e-20)
    same = (fine @ fine.T).cpu().numpy()
    for i in range(len(tilts)):
        for j in range(i):
            if same[i, j] > _SAME_NOISE and i not in reasons and j not in reasons:
                # the copy most likely carries the wrong angle at the end of the series
                away = i if abs(tilts[i]) >= abs(tilts[j]) else j
                other = j if away == i else i
                reasons[away] = (
                    f"copy: its noise is that of the image at {tilts[other]:.1f} degrees (correlation {same[i, j]:.2f})"
                )
            elif abs(tilts[i] - tilts[j]) < _SAME_ANGLE_DEG and i not in reasons and j not in reasons:
                caveats.append(f"Two images were recorded at {tilts[i]:.1f} degrees; both are used.")


def _sharpness(images: Tensor, pixel_size: float, reasons: dict[int, str]) -> FloatArray:
    """Contrast of detail from 10 to 3 nm, in the direction where it is least, over that of the next images."""
    count = len(images)
    good = [i for i in range(count) if i not in reasons]
    out = np.full(count, np.nan)
    contrast = np.full((count, _SIDES), np.nan)
    for i in good:
        contrast[i] = _directional_contrast(images[i], pixel_size)
    for place, i in enumerate(good):
        near = [
            good[p] for p in range(max(0, place - _NEIGHBOURS), min(len(good), place + _NEIGHBOURS + 1)) if p != place
        ]
        if len(near) < 3:
            continue
        # expected from the next images alone: contrast falls with tilt, so the least of the two sides is asked for
        sides = [[n for n in near if n < i], [n for n in near if n > i]]
        means = [np.median(contrast[s], axis=0) for s in sides if s]
        expected = np.minimum.reduce(means)
        if float(expected.min()) <= 0.1:
            continue  # what is fine in the neighbours is mostly noise as well
        ratio = contrast[i] / expected
        out[i] = float(ratio.min())
        if out[i] < _SHARP_PART and len(means) == 2:
            sharpest = float(ratio.max())
            way = (int(ratio.argmin()) + 0.5) * 180.0 / _SIDES
            word = f"drifted: along {way:.0f} degrees" if sharpest > 2.0 * _SHARP_PART else "blurred:"
            reasons[i] = (
                f"{word} its fine detail has {out[i]:.0%} of the contrast of its neighbours', {sharpest:.0%} at best"
            )
    return out


def _directional_contrast(image: Tensor, pixel_size: float) -> FloatArray:
    """(direction,) power of detail from 100 to 33 A over that of noise, less one; half circle from x towards y."""
    shape = (image.shape[0], image.shape[1])
    width = max(4, min(shape) // 12)
    level = taper_edges(image - image.mean(), width)
    spread = 5.0 * level.std()
    power = torch.fft.rfft2(level.clamp(min=-spread, max=spread)).abs() ** 2
    fy, fx = frequency_vectors(shape, pixel_size, device=image.device)
    radius = torch.sqrt(fx**2 + fy**2)
    nyquist = 0.5 / pixel_size
    coarse, fine = min(1.0 / 100.0, 0.25 * nyquist), min(1.0 / 33.0, 0.5 * nyquist)
    noise = float(power[(radius > 0.8 * nyquist) & (radius < nyquist)].median()) / math.log(2.0)
    if not noise > 0:
        return np.zeros(_SIDES)
    angle = torch.rad2deg(torch.atan2(fy.expand_as(radius), fx.expand_as(radius))) % 180.0
    band = (radius >= coarse) & (radius < fine)
    sector = (angle * _SIDES / 180.0).long().clamp(max=_SIDES - 1)
    means = [float(power[band & (sector == s)].mean()) for s in range(_SIDES)]
    return np.array(means) / noise - 1.0


def _find_off_field(overlap: FloatArray, least: float, reasons: dict[int, str]) -> None:
    for i, part in enumerate(overlap):
        if part < least and i not in reasons:
            reasons[i] = f"off target: it shows {part:.0%} of the field that the others share"


def _agreement(coarse: CoarseAlignment, tilts: FloatArray, reasons: dict[int, str]) -> FloatArray:
    """Contrast with the neighbours; an image that matches none, between neighbours that match each other well, is no use."""
    pairs, trust = coarse.neighbours.pairs, coarse.neighbours.believed
    table: dict[tuple[int, int], tuple[float, bool]] = {}
    for low, high, contrast, believed in zip(pairs.low, pairs.high, pairs.contrast, trust, strict=True):
        table[min(int(low), int(high)), max(int(low), int(high))] = float(contrast), bool(believed)
    out = np.full(len(tilts), np.nan)
    for i in range(len(tilts)):
        own = [table[pair] for pair in ((i - 1, i), (i, i + 1)) if pair in table]
        out[i] = float(np.median([contrast for contrast, _ in own])) if own else math.nan
        across, sure = table.get((i - 1, i + 1), (0.0, False))
        if i in reasons or not sure or across < _CLEAR:
            continue
        if not any(believed for _, believed in own) or out[i] < _WEAK * across:
            reasons[i] = (
                f"no match: its contrast with its neighbours is {out[i]:.1f}, while they reach {across:.0f} with each other"
            )
    return out
