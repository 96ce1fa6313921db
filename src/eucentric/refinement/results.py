"""What sub-tilt refinement returns."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTrial:
    """A group of unknowns that was tried, and what those images said that had no part in the fit."""

    family: str
    name: str
    unit: str
    size: float
    """Expected standard deviation of its unknowns, as held-out images chose it."""
    gain: float
    """Of the log-likelihood of all held-out images, each given what the others say."""
    sigma: float
    """One deviation of it, from how it differs between the sets held out."""
    accepted: bool
    rms: float = math.nan
    """Of the changes, in its unit."""
    median_sigma: float = math.nan
    """Of the deviations of the changes."""
    reason: str = ""
    """Why it was not tried, in words."""

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, those that are not finite as null."""
        return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`as_json`."""
        known: dict[str, Any] = {
            k: math.nan if v is None and k in ("size", "gain", "sigma", "rms", "median_sigma") else v
            for k, v in values.items()
        }
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptChange:
    """What a group that was kept has changed since refinement began."""

    family: str
    name: str
    size: float
    """Standard deviation expected of its unknowns."""
    total: FloatArray
    """(unknown,)."""
    sigma: FloatArray
    """(unknown,), one deviation of each."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "total": self.total.tolist(), "sigma": self.sigma.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`as_json`."""
        arrays = {name: np.array(values[name], dtype=np.float64) for name in ("total", "sigma")}
        return cls(family=values["family"], name=values["name"], size=values["size"], **arrays)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltSignal:
    """How much of the particles each image shows."""

    frequency: FloatArray
    """(band,), 1/A, summit of each."""
    contrast: FloatArray
    """(tilt, band), over what the maps, the contrast transfer and the damage expected make of it; 1 where all is as expected."""
    sigma: FloatArray
    """(tilt, band), one deviation of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesMemory:
    """What rounds tell the next of a series."""

    kept: tuple[KeptChange, ...] = ()
    trials: tuple[GroupTrial, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kept": [k.as_json() for k in self.kept], "trials": [t.as_json() for t in self.trials]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`as_json`."""
        return cls(
            kept=tuple(KeptChange.from_json(k) for k in values["kept"]),
            trials=tuple(GroupTrial.from_json(t) for t in values["trials"]),
        )
