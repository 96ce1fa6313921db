"""What a stage is: a function from tilt series to tilt series, with settings, a version and a place after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import TiltSeries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from eucentric.pipeline.executors import Executor
    from eucentric.pipeline.store import ItemStore, StageStore

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What an item stage made of one tilt series."""

    series: TiltSeries
    metrics: dict[str, float] = field(default_factory=dict)
    """Quality figures, the unit in the name; numbers that are not finite are kept as missing."""
    caveats: tuple[str, ...] = ()
    """What the user should know about this result, a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectiveOutcome:
    """What a collective stage made of all tilt series together."""

    items: tuple[TiltSeries, ...] | None = None
    """The series with what the stage added; None for a stage that adds nothing to them, such as a report."""
    metrics: dict[str, float] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    item_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """By series: figures of those for which the stage did something."""
    item_caveats: dict[str, tuple[str, ...]] = field(default_factory=dict)


class _Stage:
    """What both kinds of stage declare. Instances hold no state."""

    name: ClassVar[str]
    """Name of the command, of the table in `eucentric.toml` and of the folder."""
    params: ClassVar[type[Frozen]]
    version: ClassVar[int]
    """Raised when the results change: part of the fingerprint."""
    after: ClassVar[str]
    """The stage whose results this one reads; `import` for the first."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Project settings that change the result, such as `gain`: part of the fingerprint."""

    @classmethod
    def folder(cls, params: Any) -> str:
        """Where its results go, relative to the project's folder."""
        del params
        return cls.name

    @classmethod
    def waits_for(cls, params: Any) -> str | None:
        """What a user must choose before a run includes the stage, in words; None where nothing is missing."""
        del params
        return None

    @classmethod
    def joins_runs(cls, params: Any) -> bool:
        """Whether a run of the project includes the stage; else it runs where it is asked for by name, and no other stage reads it."""
        del params
        return True

    def peak_bytes(self, series: TiltSeries, params: Any) -> int:
        """Memory that one item needs at most; bounds how many run at once. Two GiB where a stage knows no better."""
        del series, params
        return 2 * _GIB


class ItemStage(_Stage, ABC):
    """One tilt series in, one out."""

    tilts_are_independent: ClassVar[bool] = False
    """True where a tilt's result does not depend on the others: leaving one out later then keeps what was computed."""

    def reads(self, series: str, params: Any, root: Path) -> tuple[Path, ...]:
        """Files of the user's that the result of one series depends on, besides what the stage before left."""
        del series, params, root
        return ()

    def gather(self, folder: Path, names: Sequence[str]) -> None:
        """Write what is kept of all series together, besides the global table. Only the parent process calls it.

        Parameters
        ----------
        folder : of the stage
        names : of the series that are done
        """
        del folder, names

    @abstractmethod
    def run(self, series: TiltSeries, params: Any, store: ItemStore, device: torch.device) -> Outcome:
        """Process one tilt series.

        Raises
        ------
        EucentricError : this series cannot be processed; recorded as its outcome, the others go on
        """


class CollectiveStage(_Stage, ABC):
    """Sees all tilt series and the executor; iterates as it needs."""

    runs_without_items: ClassVar[bool] = False
    """True where the stage has work even if no tilt series came through, such as a report of what failed."""
    may_be_passed_over: ClassVar[bool] = False
    """True where the stage after it may read what the stage before it left, if this one was never run."""
    shows_variants_of: ClassVar[tuple[str, ...]] = ()
    """Stages whose results in folders of their own (`--output`) it also reads."""

    @classmethod
    def also_reads(cls, root: Path) -> tuple[tuple[str, int, int], ...]:
        """Marks that change when anything else changes that it reads in the project."""
        del root
        return ()

    @abstractmethod
    def run(
        self,
        items: list[TiltSeries],
        params: Any,
        store: StageStore,
        executor: Executor,
        device: torch.device,
    ) -> CollectiveOutcome:
        """Process all tilt series together. Errors as `ItemStage.run`."""


AnyStage: TypeAlias = type[ItemStage] | type[CollectiveStage]
