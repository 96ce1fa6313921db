"""What the entries of a file say of the order in which its images were taken, and how far to trust each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.fit_scheme import is_trivial
from eucentric.acquisition.order_records import ImageFacts

Order = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSource:
    """One kind of entry."""

    name: str
    reliability: float
    """Probability that it gives the order taken, before anything else is known."""
    values: tuple[float | None, ...]
    """(n,), rising in time."""
    order: Order | None
    """Indexes of all images by it; None where it misses some, or cannot tell them apart."""
    images: tuple[int, ...]
    """Indexes of the images that have it, by it."""

    @property
    def is_whole(self) -> bool:
        """Whether every image has it."""
        return all(v is not None for v in self.values)

    def agrees(self, order: Order, restarts: Sequence[int] = ()) -> bool:
        """Whether its values rise along an order; at a restart they may fall.

        Parameters
        ----------
        order : indexes of images in the order taken
        restarts : places in it
        """
        before: float | None = None
        for place, image in enumerate(order):
            value = self.values[image]
            if place in restarts:
                before = None
            if value is None:
                continue
            if before is not None and value < before - 1e-9:
                return False
            before = value
        return True


# Reliability, and the same where the order is that of the angles, which every sorted list has. Dates and counts are
# written by the microscope as it goes; numbers in names may have been given later, by angle.
_SOURCES: tuple[tuple[str, float, float], ...] = (
    ("dates", 0.998, 0.998),
    ("doses before (PriorRecordDose)", 0.995, 0.995),
    ("times in the names of movies", 0.98, 0.98),
    ("numbers in the names of movies", 0.95, 0.5),
    ("order in the file", 0.6, 0.3),
)
FILE_ORDER = _SOURCES[-1][0]


def differ_enough(values: Sequence[float]) -> bool:
    """Whether values can tell an order: at least two, and nine in ten of them different."""
    return len(set(values)) >= max(2, 0.9 * len(values))


def order_sources(images: Sequence[ImageFacts]) -> list[OrderSource]:
    """Every kind of entry that at least half of the images have, the most trusted first."""
    sections = [i.section for i in images]
    usable = None not in sections and len(set(sections)) == len(images)
    listed = [float(s) for s in sections if s is not None] if usable else [float(i) for i in range(len(images))]
    columns: tuple[list[float | None], ...] = (
        [i.time_s for i in images],
        [i.prior_dose for i in images],
        [i.name_time_s for i in images],
        [None if i.number is None else float(i.number) for i in images],
        list(listed),
    )
    found = []
    for (name, reliable, by_angle), values in zip(_SOURCES, columns, strict=True):
        known = [v for v in values if v is not None]
        if len(known) < len(images) / 2 or not differ_enough(known):
            continue
        # Seconds may be shared by two images: the dose before them, or else their place in the file, tells which came first.
        ranked = tuple(
            sorted(
                (i for i, v in enumerate(values) if v is not None),
                key=lambda i, values=values: (values[i], images[i].prior_dose or 0.0, listed[i]),  # type: ignore[misc]
            )
        )
        trivial = is_trivial([images[i].angle_deg for i in ranked])
        found.append(
            OrderSource(
                name=name,
                reliability=by_angle if trivial else reliable,
                values=tuple(values),
                order=ranked if len(ranked) == len(images) else None,
                images=ranked,
            )
        )
    return found


def describe_source(source: OrderSource, images: Sequence[ImageFacts]) -> str:
    """What a kind of entry says, in words."""
    angles = [images[i].angle_deg for i in source.images]
    have = "all images" if source.is_whole else f"{len(source.images)} of {len(images)} images"
    first = ", ".join(f"{a:.1f}" for a in angles[:4])
    sorted_by_angle = (
        "; it is the order of the angles themselves, as any sorted list has it" if is_trivial(angles) else ""
    )
    return f"{have}: {first}{', ...' if len(angles) > 4 else ''} degrees{sorted_by_angle}"


def posterior(likelihoods: Sequence[float], other: float) -> list[float]:
    """Probabilities of candidates that exclude each other, given that of none of them."""
    total = sum(likelihoods) + other
    return [float(np.minimum(one / total, 0.999)) for one in likelihoods]
