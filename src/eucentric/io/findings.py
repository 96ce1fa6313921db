"""What a check of a file or of an import noticed."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["note", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation in words a user can act on."""

    severity: Severity
    """`note`: a choice made for the user; `warning`: odd, but used; `error`: not used."""
    text: str
    series: str | None = None
    """Name of the tilt series it concerns; None where it concerns a single file or all of them."""
