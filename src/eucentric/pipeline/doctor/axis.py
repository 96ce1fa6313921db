"""How a tilt axis that was given stands to the one that images show."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

AxisRelation: TypeAlias = Literal["agrees", "turned by 90", "mirrored", "off"]
_TOLERANCE_DEG = 4.0
"""Axes of a calibration are good to 1 or 2 degrees, those of a rotation-free series to about 3."""
_CLEAR = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisVerdict:
    """What the images say of a given axis."""

    relation: AxisRelation
    apart_deg: float
    """Between the given and the measured axis, from -90 to 90."""
    direction_deg: float
    """The measured axis with the sense that the given one means, -180 to 180."""
    sigmas: float
    """Standard errors by which they are apart."""


def half_turn(degrees: float) -> float:
    """The same axis, which has no sense, from -90 to 90."""
    return (degrees + 90.0) % 180.0 - 90.0


def full_turn(degrees: float) -> float:
    """The same direction from -180 to 180."""
    return (degrees + 180.0) % 360.0 - 180.0


def judge_axis(given_deg: float, measured_deg: float, sigma_deg: float) -> AxisVerdict:
    """Whether an axis is right, up to its sense, and if not, how it is wrong.

    Parameters
    ----------
    measured_deg : of the images, any of its two senses
    """
    sigma = max(sigma_deg, 0.5)
    tolerance = max(_TOLERANCE_DEG, _CLEAR * sigma)
    meant: list[tuple[AxisRelation, float]] = [
        ("agrees", given_deg),
        ("turned by 90", given_deg - 90.0),
        ("mirrored", -given_deg),
    ]
    apart = {name: half_turn(measured_deg - angle) for name, angle in meant}
    relation: AxisRelation = "agrees"
    if abs(apart["agrees"]) > tolerance:
        others = sorted((name for name, _ in meant[1:]), key=lambda name: abs(apart[name]))
        relation = others[0] if abs(apart[others[0]]) <= tolerance else "off"
    angle = dict(meant).get(relation, given_deg)
    return AxisVerdict(
        relation=relation,
        apart_deg=apart["agrees"],
        direction_deg=full_turn(angle + half_turn(measured_deg - angle)),
        sigmas=abs(apart["agrees"]) / sigma,
    )
