"""Advice in words, from the figures of aligned series: what was found, what it costs, and what to do.

Nothing is said of a figure that lies within two standard deviations of nothing, or that is harmless. What is harmless:

- places: 5% of the narrower side of the field, that a tomogram loses at an edge;
- heights: 0.1 um over the series, about the depth of focus (twice the square of the detail over the wavelength) at 3.2 A
  and 300 kV;
- defocus: a tenth of the target, less than what spreads of a session are made of;
- inclination: 3 degrees, a usual step of a scheme; across the tilt axis 5 degrees, which thickens a slab by 0.4%;
- movement in a frame: what keeps 90% of the contrast at twice the pixel size;
- dose order: a tenth of the information at 4 A; tilts left out: none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eucentric.acquisition.fit_eucentric import LEAST_TURNS, Figure
from eucentric.acquisition.judge_series import SeriesJudgement

Topic = Literal[
    "eucentric height", "tilt axis", "off-axis target", "field", "backlash", "settling", "movement", "defocus", "focus slope",
    "focus scatter", "start angle", "tilt range", "inclination across", "dose order", "blocked tilts", "steep tilts",
]  # fmt: skip
_FIELD_PART = 0.05
_HEIGHT = 1000.0
_DEFOCUS_PART = 0.1
_TILT_DEG = 3.0
_ACROSS_DEG = 5.0
_ORDER_PART = 0.9
_KEPT_BY_MOST = 0.95
_LEAST_WAIT_S = 0.5
_SURE_BACKLASH = 3.0  # sd; in dose-symmetric series the side and the direction are nearly one
_ANGLES_NAMED = 4
_TO_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One piece of advice."""

    topic: Topic
    found: str
    """With its numbers; no point at the end."""
    cost: str
    remedy: str
    value: float
    """That stands for it, in `unit`; signed."""
    unit: Literal["A", "s", "degrees", "parts", "A/s", "A/degree", "images"]
    toward: float = math.nan
    """Signed, what the remedy turns on; NaN where the remedy has no direction."""
    varied: str = ""
    """The remedy of a session in which `toward` differs from series to series."""

    @property
    def text(self) -> str:
        return f"{self.found}. {self.cost}. {self.remedy}."


def advise_series(judged: SeriesJudgement) -> tuple[Advice, ...]:
    """What to do otherwise, most important first: what loses images, then what loses quality."""
    every = (
        _field(judged), *_height(judged), *_axis(judged), *_backlash(judged), *_movement(judged), *_defocus(judged),
        _start(judged), _across(judged), _order(judged), _blocked(judged), _steep(judged),
    )  # fmt: skip
    return tuple(one for one in every if one is not None)


def advise_session(advice: Sequence[Sequence[Advice]]) -> tuple[str, ...]:
    """What half of the series or more share, in a sentence each, with median and range.

    Parameters
    ----------
    advice : of each series
    """
    told: list[tuple[int, str]] = []
    topics = dict.fromkeys(one.topic for of_series in advice for one in of_series)
    for topic in topics:
        found = [one for of_series in advice for one in of_series if one.topic == topic]
        if 2 * len(found) < len(advice):
            continue
        typical = min(found, key=lambda one: abs(one.value - float(np.median([o.value for o in found]))))
        if len(advice) == 1:
            told.append((len(found), typical.text))
            continue
        values = [one.value for one in found]
        spread = f"{_amount(float(np.median(values)), typical.unit)}, {_amount(min(values), typical.unit)} to "
        spread += _amount(max(values), typical.unit)
        remedy = typical.remedy
        directed = [one for one in found if math.isfinite(one.toward)]
        if directed and not _agree([one.toward for one in directed], len(advice)):
            signs = {math.copysign(1.0, one.toward) for one in directed}
            why = "It varies from series to series" if len(signs) > 1 else "Not most series share it"
            remedy = f"{why}. {directed[0].varied}"
        words = f"{topic.capitalize()} ({len(found)} of {len(advice)} series; median {spread}): {remedy}."
        told.append((len(found), words))
    return tuple(words for _, words in sorted(told, key=lambda one: -one[0]))


def _agree(directions: Sequence[float], series: int) -> bool:
    """Whether most series share a direction, by more than their scatter."""
    values = np.array(directions)
    middle = float(np.median(values))
    scatter = _TO_SIGMA * float(np.median(np.abs(values - middle)))
    shared = int(np.sum(np.sign(values) == np.sign(middle)))
    return 2 * shared > series and (abs(middle) > scatter or float(np.ptp(values)) == 0.0)


def _amount(value: float, unit: str) -> str:
    if unit == "A":
        return length(value)
    if unit == "parts":
        return f"{100 * value:.0f}%"
    if unit == "degrees":
        return f"{value:+.1f} degrees"
    return f"{value:.2g} {unit}"


def length(value_angstrom: float) -> str:
    """Micrometres from a tenth on, else nanometres."""
    if abs(value_angstrom) >= 1000.0:
        return f"{value_angstrom / 1e4:.1f} um"
    return f"{value_angstrom / 10.0:.{0 if abs(value_angstrom) >= 100 else 1}f} nm"


def _signed(value_angstrom: float) -> str:
    return f"{value_angstrom / 1e4:+.2f} um"


def _give(figure: Figure) -> str:
    """The size of a length with its deviation."""
    sigma = f" +- {length(figure.sigma)}" if math.isfinite(figure.sigma) else ""
    return f"{length(abs(figure.value))}{sigma}"


def _narrow(judged: SeriesJudgement) -> float:
    return min(judged.extent_angstrom)


def _reach(judged: SeriesJudgement) -> float:
    """The steepest tilt from zero, radians."""
    return math.radians(float(np.abs(judged.recording.tilts_deg).max()))


def _field(judged: SeriesJudgement) -> Advice | None:
    kept, steps = judged.field, judged.steps
    lost = 1.0 - kept.by_most
    if kept.by_most >= _KEPT_BY_MOST and steps.worst <= 2.0 * _FIELD_PART * _narrow(judged):
        return None
    turns = ""
    if math.isfinite(steps.after_turns) and steps.after_turns > 1.5 * steps.elsewhere:
        turns = f"; after the stage turned back {length(steps.after_turns)}, else {length(steps.elsewhere)}"
    moved = length(math.hypot(steps.across, steps.along))
    return Advice(
        topic="field",
        found=(
            f"Successive images saw the specimen {moved} apart (root mean square{turns}), at worst {length(steps.worst)} from its "
            f"first place, at {steps.worst_tilt_deg:.0f} degrees"
        ),
        cost=f"Every image shows {100 * kept.by_all:.0f}% of the untilted field, nine in ten show {100 * kept.by_most:.0f}%",
        remedy="Track more often, or let `eucentric acquisition predict` say when to",
        value=lost,
        unit="parts",
    )


def _height(judged: SeriesJudgement) -> list[Advice]:
    fit, reach = judged.eucentric, _reach(judged)
    side, deep = math.sin(reach), 1.0 - math.cos(reach)
    real = fit.by_height or judged.measured.tracking in ("corrected", "none")
    limit = _FIELD_PART * _narrow(judged) / max(side, 1e-3)
    if real:
        limit = min(limit, _HEIGHT / max(deep, 1e-3))
    if not fit.height.beyond(limit):
        return []
    size = abs(fit.height.value)
    sideways = f"{length(size * side)} sideways at {math.degrees(reach):.0f} degrees"
    if not real:
        return [
            Advice(
                topic="eucentric height",
                found=f"What the microscope's own tracking left follows a height error of {_give(fit.height)}",
                cost=f"It moves the field by {sideways}; the true error may be larger, for the image shift is not known",
                remedy="Run the eucentric routine before each series, and save image shifts in the mdoc",
                value=fit.height.value,
                unit="A",
            )
        ]
    # less underfocus is nearer to the source, whatever the hand of the series
    above = fit.height.value * judged.recording.hand < 0
    words = "above" if above else "below"
    return [
        Advice(
            topic="eucentric height",
            found=f"Eucentric height off by {_give(fit.height)}: the specimen lay {words} the tilt axis (less underfocus is above)",
            cost=f"Tracking had to follow {sideways}, and defocus {length(size * deep)}",
            remedy=f"{'Lower' if above else 'Raise'} the stage by {length(size)}, or run the eucentric routine at the target itself",
            value=size if above else -size,
            unit="A",
            toward=size if above else -size,
            varied="Run the eucentric routine at each target",
        )
    ]


def _axis(judged: SeriesJudgement) -> list[Advice]:
    """The offset of the axis where it is known and large, else the distance of the target."""
    fit, tracking = judged.eucentric, judged.measured.tracking
    if not (fit.by_height or tracking in ("corrected", "none")):
        return []
    side = math.sin(_reach(judged))
    limit = 2.0 * _HEIGHT / max(2.0 * side, 1e-3)
    offset = judged.axis_offset
    if offset.beyond(limit):
        slope = abs(offset.value) * math.radians(1.0)
        sigma = f" +- {length(offset.sigma)}" if math.isfinite(offset.sigma) else ""
        return [
            Advice(
                topic="tilt axis",
                found=(
                    f"The camera sees the tilt axis {_signed(offset.value)}{sigma} from its centre (x across the axis, as in the "
                    "aligned images)"
                ),
                cost=(
                    f"The height of what is at the centre changes by {length(slope)} a degree, "
                    f"{length(2 * abs(offset.value) * side)} over the range"
                ),
                remedy=(
                    f"Set the offset of the tilt axis on the microscope to {_signed(offset.value)}; if the microscope counts x the "
                    "other way, to the opposite"
                ),
                value=offset.value,
                unit="A",
                toward=offset.value,
                varied="Measure the offset of the tilt axis again before it is set",
            )
        ]
    if not fit.distance.beyond(limit):
        return []
    slope = abs(fit.distance.value) * math.radians(1.0)
    return [
        Advice(
            topic="off-axis target",
            found=f"The target lay {_give(fit.distance)} from the tilt axis, across it",
            cost=f"Its height changed by {length(slope)} a degree, {length(2 * abs(fit.distance.value) * side)} over the range",
            remedy="Choose targets nearer to the axis, or let the focus follow the height by `eucentric acquisition predict`",
            value=fit.distance.value,
            unit="A",
        )
    ]


def _backlash(judged: SeriesJudgement) -> list[Advice]:
    fit = judged.eucentric
    out = []
    for name, figure in (("across", fit.backlash_across), ("along", fit.backlash_along)):
        if not figure.beyond(_FIELD_PART * _narrow(judged) / 2.0, _SURE_BACKLASH):
            continue
        out.append(
            Advice(
                topic="backlash",
                found=f"Places reached from lower and from higher angles differ by {_give(figure)} {name} the tilt axis",
                cost=f"Each turn of the stage moves the specimen by {100 * abs(figure.value) / _narrow(judged):.0f}% of the field",
                remedy="Reach every angle from the same side (tilt past it and come back), or take larger groups on a side",
                value=figure.value,
                unit="A",
            )
        )
    return out[:1] if len(out) < 2 else [max(out, key=lambda one: abs(one.value))]


def _movement(judged: SeriesJudgement) -> list[Advice]:
    motion = judged.motion
    if motion is None:
        return []
    if math.isfinite(motion.wait_s) and motion.wait_s >= _LEAST_WAIT_S:
        return [
            Advice(
                topic="settling",
                found=(
                    f"The specimen moved at {motion.start_speed:.0f} A/s as exposures began, falling off within "
                    f"{motion.settling_s.value:.1f} +- {motion.settling_s.sigma:.1f} s"
                ),
                cost=f"Frames keep their contrast below {motion.harmless_speed:.0f} A/s at this frame time",
                remedy=f"Settle {motion.wait_s:.0f} s longer after tilting"
                if motion.wait_s >= 1.5
                else "Settle 1 s longer after tilting",
                value=motion.wait_s,
                unit="s",
            )
        ]
    if motion.late.beyond(motion.harmless_speed):
        return [
            Advice(
                topic="movement",
                found=f"The specimen still moved at {motion.late.value:.0f} +- {motion.late.sigma:.0f} A/s as exposures ended",
                cost=f"Frames keep their contrast below {motion.harmless_speed:.0f} A/s at this frame time",
                remedy="Use shorter frames; if it is the same at all tilts, let the holder come to rest before the series",
                value=motion.late.value,
                unit="A/s",
            )
        ]
    return []


def _defocus(judged: SeriesJudgement) -> list[Advice]:
    error = judged.defocus
    if error is None:
        return []
    harmless = _DEFOCUS_PART * abs(error.target)
    span = float(np.ptp(judged.recording.tilts_deg))
    out = []
    if error.mean.beyond(harmless):
        more = "more" if error.mean.value > 0 else "less"
        too_far = error.mean.value * error.target > 0
        out.append(
            Advice(
                topic="defocus",
                found=f"Underfocus was {_give(error.mean)} {more} than the {length(error.target)} asked for",
                cost="Contrast and the first zero of the CTF are not those planned",
                remedy=f"Focus {length(abs(error.mean.value))} {'nearer to' if too_far else 'farther from'} focus",
                value=error.mean.value,
                unit="A",
                toward=error.mean.value,
                varied="Focus anew before each series",
            )
        )
    if error.slope_per_deg.beyond(max(harmless, _HEIGHT) / max(span, 1.0)):
        slope = error.slope_per_deg
        out.append(
            Advice(
                topic="focus slope",
                found=f"Defocus changed with tilt by {abs(slope.value) / 10:.1f} +- {slope.sigma / 10:.1f} nm a degree",
                cost=f"That is {length(abs(slope.value) * span)} over the range",
                remedy="Focus on the tilt axis, and set the offset of the axis; or focus at more tilts",
                value=slope.value,
                unit="A/degree",
            )
        )
    if error.scatter > max(harmless, _HEIGHT) and judged.tilt_count > 5:
        out.append(
            Advice(
                topic="focus scatter",
                found=f"Defocus scattered by {length(error.scatter)} about its course",
                cost="Each tilt's CTF must be found by itself, and weak images cannot lean on their neighbours",
                remedy="Focus at more tilts, or let `eucentric acquisition predict` set the focus",
                value=error.scatter,
                unit="A",
            )
        )
    return out


def _start(judged: SeriesJudgement) -> Advice | None:
    """Of series that go to and fro, where they start; of others, where the middle of their range lies."""
    tilts, start = judged.recording.tilts_deg, judged.start_tilt_deg
    direction = judged.recording.direction
    every = np.array([*tilts, *(angle for angle, _ in judged.blocked)])
    low, high = float(every.min()), float(every.max())
    symmetric = int(np.sum(direction[1:] * direction[:-1] < 0)) >= LEAST_TURNS
    taken = float(tilts[0]) if symmetric else 0.5 * (low + high)
    if not judged.pre_tilt.beyond(_TILT_DEG) or abs(taken - start) <= max(_TILT_DEG, 2 * judged.pre_tilt.sigma):
        return None
    off, half = float(np.abs(tilts - start).max()), 0.5 * (high - low)
    if off > half + 1.0:
        cost = f"The steepest image lies {off:.0f} degrees from level"
        if off < 90.0 > half:
            thick = [1 / math.cos(math.radians(angle)) for angle in (off, half)]
            cost += f" and is seen through {thick[0]:.1f} thicknesses, not {thick[1]:.1f}"
    else:
        cost = f"The first dose is spent {abs(taken - start):.0f} degrees from level, where images show less"
    ran = f"{low:.0f} to {high:.0f}"
    wanted = f"{start - half:.0f} to {start + half:.0f} as far as the stage goes"
    return Advice(
        topic="start angle" if symmetric else "tilt range",
        found=(
            # in the sense of the stage, as the angles beside it
            f"The specimen is inclined by {-start:+.1f} +- {judged.pre_tilt.sigma:.1f} degrees about the tilt axis; "
            f"the series {f'started at {taken:.0f}' if symmetric else f'ran over {ran}'}"
        ),
        cost=cost,
        remedy=f"Start at {start:.0f} degrees, and tilt from {wanted}" if symmetric else f"Tilt from {wanted}",
        value=start,
        unit="degrees",
        toward=start,
        varied=f"Choose a {'start' if symmetric else 'range'} for each target",
    )


def _across(judged: SeriesJudgement) -> Advice | None:
    figure = judged.pre_tilt_across
    if not figure.beyond(_ACROSS_DEG):
        return None
    rise = length(_narrow(judged) * math.tan(math.radians(abs(figure.value))))
    return Advice(
        topic="inclination across",
        found=f"The specimen is inclined by {figure.value:+.1f} +- {figure.sigma:.1f} degrees across the tilt axis",
        cost=f"No tilt levels that: height changes by {rise} along the axis",
        remedy="Load the grid so that its milling direction is at right angles to the tilt axis",
        value=figure.value,
        unit="degrees",
    )


def _order(judged: SeriesJudgement) -> Advice | None:
    order = judged.dose_order
    if order is None or not order.part_left < _ORDER_PART:
        return None
    return Advice(
        topic="dose order",
        found=(
            f"The image nearest to level came after {order.level_dose:.0f} of {order.total_dose:.0f} e/A^2, those within 20 degrees "
            f"of it after {order.low_tilt_dose:.0f} on average"
        ),
        cost=f"The order left {100 * order.part_left:.0f}% of the information at 4 A that the same images could hold",
        remedy=f"Take a dose-symmetric series from {judged.start_tilt_deg:.0f} degrees",
        value=1.0 - order.part_left,
        unit="parts",
        toward=judged.start_tilt_deg,
        varied="Take dose-symmetric series, each from where its specimen lies level",
    )


def _blocked(judged: SeriesJudgement) -> Advice | None:
    gone = judged.blocked
    if not gone:
        return None
    kept = judged.recording.tilts_deg
    angles = [f"{angle:.0f}" for angle, _ in gone]
    named = ", ".join(angles[:_ANGLES_NAMED]) + (
        f" and {len(angles) - _ANGLES_NAMED} more" if len(angles) > _ANGLES_NAMED else ""
    )
    outside = all(angle < kept.min() or angle > kept.max() for angle, _ in gone)
    remedy = "Look at these images: a hidden target wants a place farther from bars and ice"
    if outside:
        remedy = f"End at {kept.min():.0f} and {kept.max():.0f} degrees here, or choose targets farther from bars"
    reason = gone[0][1].rstrip(".")
    if len({why for _, why in gone}) > 1:
        reason = f"at {angles[0]}: {reason}"
    spent = f"{100 * judged.blocked_dose_part:.0f}% of the dose" if judged.blocked_dose_part > 0 else "Their dose"
    return Advice(
        topic="blocked tilts",
        found=f"{len(gone)} image{'s' * (len(gone) != 1)} left out, at {named} degrees ({reason})",
        cost=f"{spent} showed nothing of use",
        remedy=remedy,
        value=float(len(gone)),
        unit="images",
    )


def _steep(judged: SeriesJudgement) -> Advice | None:
    low, high = judged.steepest_deg
    tilts = judged.recording.tilts_deg
    if not math.isfinite(low):
        return None
    beyond = tilts[(tilts < low) | (tilts > high)]
    if beyond.size == 0:
        return None
    return Advice(
        topic="steep tilts",
        found=f"{beyond.size} image{'s' * (beyond.size != 1)} lie beyond {low:.0f} to {high:.0f} degrees, two mean free paths of ice",
        cost="Fewer than 1 electron in 7 comes through them unscattered",
        remedy=f"End at {max(low, tilts.min()):.0f} and {min(high, tilts.max()):.0f} degrees, or mill thinner",
        value=float(beyond.size),
        unit="images",
        toward=0.5 * (low + high),
        varied="End each series where its own specimen becomes too thick, or mill thinner",
    )
