"""Dose of every image and dose before it, from what files say in several places."""

from collections.abc import Sequence

import numpy as np

from eucentric.acquisition.order_records import Fault, ImageFacts, RecoveredDose
from eucentric.models.tilt_scheme import MOST_DOSE, TiltScheme
from eucentric.typing import FloatArray

_SAME = 0.1
"""Of the dose of an image: doses that differ by less are the same."""
_MOST_BEGINNINGS = 2
"""The count of a microscope is set to zero now and then; one that falls more often is of another order."""
_HYBRID = 1.5
"""An image that got so many times the dose of the others was boosted on purpose."""


def recover_dose(
    images: Sequence[ImageFacts],
    order: Sequence[int] | None,
    restarts: Sequence[int] = (),
    order_confidence: float = 1.0,
) -> RecoveredDose:
    """Dose of every image and before it.

    The dose of an image is what the file says (ExposureDose), else the sum of its frames, else what the count of the
    microscope (PriorRecordDose) grew by. What the camera counted is no dose, for the specimen took its part: it is given
    as a lower limit. The dose before an image is the count of the microscope where there is one, begun anew or not,
    else, and where the count falls along the order, the sum of the doses in the order recovered.

    Parameters
    ----------
    images : in the order of the file
    order : indexes in the order taken; None where unknown
    restarts : places in that order at which the series begins anew
    order_confidence : probability that the order is right
    """
    doses, source = _image_doses(images, order)
    faults: list[Fault] = []
    before = np.full(len(images), np.nan)
    before_source, confidence = "unknown", 0.0
    counted = _counts(images)
    has_count = bool(np.isfinite(counted).all() and (counted.any() or len(images) == 1))
    if order is None:
        if has_count and len(images) == 1:
            before, before_source, confidence = counted, "PriorRecordDose", 0.95
    else:
        sequence = np.array(order)
        falls = count_falls(counted[sequence], restarts) if has_count else 0
        if has_count and not falls:
            before[sequence] = join_counts(counted[sequence], doses[sequence], restarts, faults)
            before_source, confidence = "PriorRecordDose", 0.95
            if np.isfinite(doses).all() and source != "growth of PriorRecordDose":
                agrees = _check_count(images, sequence, before, doses, faults)
                confidence = 0.99 if agrees else 0.5
            confidence *= order_confidence
        elif np.isfinite(doses).all():
            before[sequence] = np.cumsum(doses[sequence]) - doses[sequence]
            # Exposures that were made before the series are in no file.
            before_source = f"sum of the doses before ({source})"
            confidence = (0.5 if falls else 0.9) * order_confidence
        if falls:
            faults.append(Fault(kind="dose", text=falling_count(falls, summed=bool(np.isfinite(doses).all()))))
    return RecoveredDose(
        doses=doses,
        before=before,
        source=source,
        before_source=before_source,
        confidence=round(float(confidence), 3),
        at_least=None if np.isfinite(doses).all() else _counted_by_camera(images),
        faults=tuple(faults),
    )


def _values(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _positive(dose: float | None) -> float | None:
    return dose if dose is not None and 0 < dose <= MOST_DOSE else None


def _counts(images: Sequence[ImageFacts]) -> FloatArray:
    """(n,), e/A^2 that the microscope counted before each image; NaN where it did not, or more than any specimen gets."""
    counted = _values([i.prior_dose for i in images])
    return np.where(np.abs(counted) <= MOST_DOSE, counted, np.nan)


def _image_doses(images: Sequence[ImageFacts], order: Sequence[int] | None) -> tuple[FloatArray, str]:
    doses = np.full(len(images), np.nan)
    sources = []
    for name, values in (
        ("ExposureDose", _values([_positive(i.dose) for i in images])),
        ("doses of frames", _values([_positive(i.frame_dose) for i in images])),
    ):
        new = np.isnan(doses) & np.isfinite(values)
        if new.any():
            doses[new] = values[new]
            sources.append(name)
    counted = _counts(images)
    if np.isnan(doses).all() and order is not None and np.isfinite(counted).all() and len(images) > 2:
        sequence = np.array(order)
        growth = np.diff(counted[sequence])
        if (growth > 0).all():
            # The count ends before the last image: it is taken to have got what is usual.
            doses[sequence] = np.append(growth, np.median(growth))
            return doses, "growth of PriorRecordDose"
    return doses, " and ".join(sources) or "unknown"


def count_falls(counted: FloatArray, restarts: Sequence[int]) -> int:
    """How often the count falls in a way that no beginning anew explains; 0 where it can be joined.

    It may begin anew with a series that is begun again, or be set to zero.

    Parameters
    ----------
    counted : (n,), e/A^2 before each image, in the order taken
    restarts : places at which the series begins anew
    """
    growth = np.diff(counted)
    falls = np.flatnonzero(growth < -1e-6) + 1
    if not len(falls):
        return 0
    usual = float(np.median(np.abs(growth)))
    explained = [place in restarts or counted[place] <= _SAME * usual for place in falls.tolist()]
    return 0 if all(explained) and len(falls) <= max(_MOST_BEGINNINGS, len(restarts)) else len(falls)


def falling_count(falls: int, *, summed: bool) -> str:
    """Why a count is not used, in words.

    Parameters
    ----------
    summed : whether the doses of the images stand in for it
    """
    times = "once" if falls == 1 else f"{falls} times"
    instead = "the sum of the doses, without what came before the series" if summed else "unknown"
    return (
        f"PriorRecordDose falls {times} along the order in which the images were taken, so it is not used. The dose before "
        f"each image is {instead}."
    )


def join_counts(counted: FloatArray, doses: FloatArray, restarts: Sequence[int], faults: list[Fault]) -> FloatArray:
    """The count in the order taken, with what was received before added where it began anew; that goes to the faults.

    Parameters
    ----------
    counted, doses : (n,), e/A^2 before and in each image, in the order taken
    restarts : places at which the series begins anew
    """
    joined = counted.copy()
    for place in np.flatnonzero(np.diff(counted) < -1e-6) + 1:
        last = doses[place - 1]
        missing = joined[place - 1] - joined[place] + (last if np.isfinite(last) else 0.0)
        joined[place:] += missing
        where = "with the restart" if place in restarts else f"at image {place + 1}"
        text = f"PriorRecordDose begins anew {where}: the {missing:.4g} e/A2 received before are added to the later images."
        faults.append(Fault(kind="dose", text=text))
    return joined


def _check_count(
    images: Sequence[ImageFacts],
    sequence: FloatArray,
    before: FloatArray,
    doses: FloatArray,
    faults: list[Fault],
) -> bool:
    """Whether the count grows by the dose of every image; what it does instead goes to the faults."""
    growth, given = np.diff(before[sequence]), doses[sequence][:-1]
    if not len(growth):
        return True
    usual = float(np.median(doses))
    surplus = growth - given
    wrong = np.abs(surplus) > _SAME * usual
    if not wrong.any():
        return True
    if wrong.mean() > 0.5:
        ratio = float(np.median(growth / given))
        text = (
            f"PriorRecordDose and ExposureDose disagree: the first grows by {ratio:.2f} times the second from image to image. "
            "PriorRecordDose is used for the dose before; check which of the two was calibrated."
        )
        faults.append(Fault(kind="dose", text=text))
        return False
    for place in np.flatnonzero(wrong):
        angle = images[int(sequence[place])].angle_deg
        if surplus[place] > 0:
            text = (
                f"After the image at {angle:.1f} degrees the specimen received {surplus[place]:.4g} e/A2 more than the file "
                f"accounts for, as much as {surplus[place] / usual:.2g} images."
            )
        else:
            text = (
                f"After the image at {angle:.1f} degrees PriorRecordDose grows by {growth[place]:.4g} e/A2 only, the image "
                f"got {given[place]:.4g} by its ExposureDose."
            )
        faults.append(Fault(kind="dose", text=text))
    return bool((surplus[wrong] > 0).all())


def _counted_by_camera(images: Sequence[ImageFacts]) -> float | None:
    """e/A^2 of the image of which most reached the camera: what the specimen got was more."""
    counted = [
        i.dose_rate * i.exposure_s / i.pixel_angstrom**2
        for i in images
        if i.dose_rate and i.exposure_s and i.pixel_angstrom
    ]
    return max(counted) if counted else None


def unaccounted(images: Sequence[ImageFacts], order: Sequence[int], dose: RecoveredDose) -> list[tuple[int, int]]:
    """(place of the image before the gap, images that would explain it) where the count outgrows the images."""
    if dose.before_source != "PriorRecordDose" or not np.isfinite(dose.doses).all() or len(images) < 2:
        return []
    sequence = np.array(order)
    surplus = np.diff(dose.before[sequence]) - dose.doses[sequence][:-1]
    number = surplus / float(np.median(dose.doses))
    whole = (number > 0.5) & (np.abs(number - np.rint(number)) < _SAME)
    return [(int(i), int(np.rint(number[i]))) for i in np.flatnonzero(whole)]


def with_doses(scheme: TiltScheme, angles_deg: Sequence[float], doses: FloatArray) -> TiltScheme:
    """A scheme with the dose of its images: total, that of a first image which got more, and the split.

    Parameters
    ----------
    angles_deg, doses : (n,), degrees and e/A^2 of the images used, in the order taken; NaN where unknown
    """
    if len(doses) < 3 or not np.isfinite(doses).all() or doses.min() <= 0:
        return scheme
    angles = np.asarray(angles_deg, dtype=np.float64)
    wanted = scheme.angles_in_order()
    inverse_cosine = 1.0 / np.cos(np.deg2rad(angles))
    rest, over = doses[1:], doses[1:] / inverse_cosine[1:]
    is_even = float(np.std(rest) / np.mean(rest)) <= float(np.std(over) / np.mean(over)) + 1e-9
    spread = float(np.std(rest) / np.mean(rest)) if is_even else float(np.std(over) / np.mean(over))
    share = float(np.median(rest)) if is_even else float(np.median(over))
    if spread > _SAME:
        return scheme.replace(total_dose=min(float(doses.sum()), MOST_DOSE))
    first = share * (1.0 if is_even else float(inverse_cosine[0]))
    weights = np.ones(len(wanted)) if is_even else 1.0 / np.cos(np.deg2rad(wanted))
    starts_there = abs(angles[0] - scheme.start_deg) < 0.3 * scheme.step_deg
    boosted = bool(starts_there and doses[0] > _HYBRID * first)
    total = share * float(weights.sum())
    if boosted:
        total += float(doses[0]) - share * float(weights[0])
    total = float(f"{total:.8g}")
    if not (doses[0] if boosted else 0.0) < total <= MOST_DOSE:  # nothing that a specimen gets
        return scheme
    return scheme.replace(
        total_dose=total,
        start_dose=float(doses[0]) if boosted else None,
        dose_split="even" if is_even else "inverse-cosine",
    )
