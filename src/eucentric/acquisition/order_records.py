"""What is known of the images of a series, and what was made of it."""

from dataclasses import dataclass
from typing import Literal

from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import FloatArray

OrderStatus = Literal["told", "guess", "unknown"]
"""told: what the files say makes it at least 90% sure; guess: likelier than not if the images are one series, or the
likeliest scheme of those that the title allows; unknown: the files do not tell."""
FaultKind = Literal["restart", "interleaved", "double", "missing", "dose", "title", "conflict", "pause", "cut off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is written of one image; None where it is not."""

    angle_deg: float
    label: str = ""
    """What to call it in messages."""
    time_s: float | None = None
    """When it was taken, from any origin common to the series."""
    name_time_s: float | None = None
    """The same from the name of its movie; of an origin of its own."""
    number: int | None = None
    """From the name of its movie."""
    section: int | None = None
    """Number of its section in the file."""
    dose: float | None = None
    """e/A^2; 0 means unknown, as in SerialEM's files, and so do negative values and those above 1e5."""
    frame_dose: float | None = None
    """e/A^2, the sum of the doses of its frames."""
    prior_dose: float | None = None
    """e/A^2 that the microscope counted before it."""
    exposure_s: float | None = None
    dose_rate: float | None = None
    """Electrons per unbinned pixel and second at the camera, behind the specimen."""
    pixel_angstrom: float | None = None
    """Of an unbinned pixel."""
    stage_um: tuple[float, float] | None = None
    shift_um: tuple[float, float] | None = None
    """Image shift."""
    navigator_label: str | None = None
    root: str | None = None
    """Name of its movie up to the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one kind of entry says of the order."""

    source: str
    says: str
    agrees: bool | None
    """Whether it agrees with the order given; None where it tells nothing, or no order is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something odd about a series."""

    kind: FaultKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another scheme that may have been run."""

    scheme: TiltScheme
    words: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPart:
    """Images between two beginnings of a restarted series."""

    images: tuple[int, ...]
    """Indexes, in the order taken."""
    scheme: TiltScheme | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecoveredDose:
    """Dose of every image and before it."""

    doses: FloatArray
    """(n,), e/A^2; NaN where unknown."""
    before: FloatArray
    """(n,), e/A^2 received before each image, those counted that are not used; NaN where unknown."""
    source: str
    """Where `doses` come from; `unknown` where nothing tells them."""
    before_source: str
    confidence: float
    """Probability that `before` is right to a tenth of an image's dose; 0 where it is unknown."""
    at_least: float | None
    """e/A^2 an image, as the camera counted behind the specimen: a lower limit. None where the file does not tell."""
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecoveredOrder:
    """How a series was taken, as far as its files tell."""

    status: OrderStatus
    order: tuple[int, ...] | None
    """Indexes of the images in the order taken; None where unknown."""
    confidence: float
    """Probability that `order` is right; of the likeliest alternative where it is unknown."""
    source: str
    scheme: TiltScheme | None
    """Of the images that are used; its doses are those of `dose` where known, else the defaults of the record."""
    scheme_confidence: float
    words: str
    """The scheme in words, or why there is none."""
    evidence: tuple[Evidence, ...]
    alternatives: tuple[Alternative, ...]
    """Other schemes that fit, likeliest first."""
    parts: tuple[SeriesPart, ...]
    """Of a restarted series, in time; else empty."""
    replaced: tuple[int, ...]
    """Images that were taken again later at their angle: their dose counts, they are not used."""
    missing_deg: tuple[float, ...]
    """Angles of the scheme that the file lacks."""
    faults: tuple[Fault, ...]
    dose: RecoveredDose

    @property
    def ranks(self) -> tuple[int, ...] | None:
        """(n,), the place of every image in the order taken."""
        if self.order is None:
            return None
        ranks = [0] * len(self.order)
        for rank, image in enumerate(self.order):
            ranks[image] = rank
        return tuple(ranks)
