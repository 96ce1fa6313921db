"""What a check found: what was compared, how sure it is, what follows, and what mends it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]
"""`error`: results are wrong until it is mended; `warning`: they are worse than they could be; `note`: worth knowing."""
Confidence: TypeAlias = Literal["certain", "likely", "possible"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
CONFIDENCES: tuple[Confidence, ...] = ("certain", "likely", "possible")
CERTAIN_SIGMAS = 5.0
LIKELY_SIGMAS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A command to copy, and when it is the right one."""

    command: str
    when: str = ""
    """In which case; empty where there is one remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    check: str
    """Name of the check, such as `tilt-axis`."""
    severity: Severity
    confidence: Confidence
    title: str
    """What is wrong, in one sentence."""
    compared: str
    """What was compared with what: numbers with their errors."""
    consequence: str
    remedies: tuple[Remedy, ...] = ()
    series: str | None = None
    """None where it concerns all of them, or the machine."""
    sigmas: float | None = None
    """Standard errors by which the evidence stands out, where there is such a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A check that found nothing wrong."""

    check: str
    text: str
    """What was compared, with numbers."""
    series: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotChecked:
    """A check that could not be made, and why."""

    check: str
    text: str
    series: str | None = None


@dataclass(slots=True, kw_only=True)
class Checkup:
    """Everything that was looked at."""

    faults: list[Fault] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)

    def add(self, results: Iterable["Fault | Passed | NotChecked"]) -> None:
        """Sort results into their lists."""
        for one in results:
            if isinstance(one, Fault):
                self.faults.append(one)
            elif isinstance(one, Passed):
                self.passed.append(one)
            else:
                self.not_checked.append(one)

    @property
    def by_severity(self) -> list[Fault]:
        """The worst first, the surest of them first, then by series."""
        return sorted(
            self.faults,
            key=lambda f: (SEVERITIES.index(f.severity), CONFIDENCES.index(f.confidence), f.series or "", f.check),
        )

    @property
    def exit_code(self) -> int:
        """1 where something is wrong enough to spoil results."""
        return 1 if any(f.severity == "error" for f in self.faults) else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "exit_code": self.exit_code,
            "findings": [_plain(asdict(f)) for f in self.by_severity],
            "passed": [asdict(p) for p in self.passed],
            "not_checked": [asdict(n) for n in self.not_checked],
        }


Result: TypeAlias = Fault | Passed | NotChecked


def confidence_of(sigmas: float) -> Confidence:
    """The word for so many standard errors."""
    if sigmas >= CERTAIN_SIGMAS:
        return "certain"
    return "likely" if sigmas >= LIKELY_SIGMAS else "possible"


def listed(values: Sequence[Any], most: int = 6) -> str:
    """Values with commas, cut where the list grows long."""
    shown = ", ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    if (sigmas := values["sigmas"]) is not None:
        values["sigmas"] = round(float(sigmas), 2) if math.isfinite(sigmas) else None
    return values
