"""All that a search considered, as it is kept beside the picks: enough to judge them, or to cut elsewhere, later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.picking.match_templates import MatchResult
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCount:
    """Of one kind in one tomogram."""

    kind: str
    picks: int
    candidates: int
    decoys: int
    cutoff: float
    """Standard deviations, which chance passes once, or the one that was set."""
    lowest_score: float
    """Of the picks; NaN without any."""
    median_score: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Candidates of all kinds in one tomogram, a row each, best first; and the decoys."""

    kinds: NDArray[np.str_]
    """(kind,), names of the templates."""
    symmetries: NDArray[np.str_]
    """(kind,)."""
    diameter_angstrom: FloatArray
    """(kind,)."""
    symmetry_frame: FloatArray
    """(kind, 3, 3) Q such that Q g Q^T leaves the template as it is."""
    oriented: NDArray[np.bool_]
    """(kind,), False of balls."""
    cutoff: FloatArray
    """(kind,), standard deviations."""
    position_angstrom: NDArray[np.float32]
    """(row, 3), x, y, z from the specimen centre."""
    rotation: NDArray[np.float32]
    """(row, 3, 3), reference to specimen."""
    score: NDArray[np.float32]
    margin: NDArray[np.float32]
    """By how many standard deviations the template fits better than its best decoy; this tells picks from decoys."""
    q_value: NDArray[np.float32]
    """NaN without decoys."""
    template: NDArray[np.int16]
    """(row,), number of the kind."""
    kept: NDArray[np.bool_]
    decoy_score: NDArray[np.float32]
    decoy_margin: NDArray[np.float32]
    decoy_template: NDArray[np.int16]

    @classmethod
    def build(cls, result: MatchResult, templates: Sequence[Template]) -> Self:
        """From a search; numbers are rounded to what a disk need hold."""
        return cls(
            kinds=np.array([t.name for t in templates]),
            symmetries=np.array([t.symmetry for t in templates]),
            diameter_angstrom=np.array([t.diameter_angstrom for t in templates]),
            symmetry_frame=np.stack([symmetry_frame(t) for t in templates]),
            oriented=np.array([not t.isotropic for t in templates]),
            cutoff=np.array(np.broadcast_to(np.asarray(result.cutoff, dtype=np.float64), (len(templates),))),
            position_angstrom=result.positions_angstrom.astype(np.float32),
            rotation=result.rotations.astype(np.float32),
            score=result.scores.astype(np.float32),
            margin=result.margins.astype(np.float32),
            q_value=result.q_values.astype(np.float32),
            template=result.templates.astype(np.int16),
            kept=result.kept,
            decoy_score=result.decoy_scores.astype(np.float32),
            decoy_margin=result.decoy_margins.astype(np.float32),
            decoy_template=result.decoy_templates.astype(np.int16),
        )

    @classmethod
    def without_templates(
        cls,
        kinds: Sequence[str],
        diameters_angstrom: Sequence[float],
        positions_angstrom: FloatArray,
        scores: FloatArray,
        q_values: FloatArray,
        kept: NDArray[np.bool_],
        *,
        numbers: NDArray[np.int64] | None = None,
        false_scores: FloatArray | None = None,
        cutoffs: Sequence[float] | None = None,
    ) -> Self:
        """Of places that no template was fitted to: no orientation, no margin.

        Parameters
        ----------
        positions_angstrom, scores, q_values, kept : (row, 3) and (row,), in any order
        numbers : (row,) of their kinds; all the first where None
        false_scores : of what stands for chance, of the first kind
        cutoffs : (kind,) least scores; NaN where there is none
        """
        count, order = len(kinds), np.argsort(-scores, kind="stable")
        false = np.zeros(0) if false_scores is None else false_scores
        own = np.zeros(len(scores), dtype=np.int64) if numbers is None else numbers
        return cls(
            kinds=np.array(kinds, dtype=np.str_),
            symmetries=np.array(["C1"] * count),
            diameter_angstrom=np.array(diameters_angstrom, dtype=np.float64),
            symmetry_frame=np.tile(np.eye(3), (count, 1, 1)),
            oriented=np.zeros(count, dtype=bool),
            cutoff=np.full(count, np.nan) if cutoffs is None else np.array(cutoffs, dtype=np.float64),
            position_angstrom=positions_angstrom[order].reshape(-1, 3).astype(np.float32),
            rotation=np.tile(np.eye(3, dtype=np.float32), (len(scores), 1, 1)),
            score=scores[order].astype(np.float32),
            margin=np.full(len(scores), np.nan, dtype=np.float32),
            q_value=q_values[order].astype(np.float32),
            template=own[order].astype(np.int16),
            kept=kept[order],
            decoy_score=false.astype(np.float32),
            decoy_margin=np.full(len(false), np.nan, dtype=np.float32),
            decoy_template=np.zeros(len(false), dtype=np.int16),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By name, to be written."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """From arrays that were read; None where one is missing."""
        names = [f.name for f in fields(cls)]
        return cls(**{name: arrays[name] for name in names}) if arrays.keys() >= set(names) else None

    def counts(self) -> list[KindCount]:
        """For each kind."""
        found = []
        for number, kind in enumerate(self.kinds):
            mine = self.template == number
            scores = self.score[mine & self.kept]
            found.append(
                KindCount(
                    kind=str(kind),
                    picks=len(scores),
                    candidates=int(mine.sum()),
                    decoys=int((self.decoy_template == number).sum()),
                    cutoff=float(self.cutoff[number]),
                    lowest_score=float(scores.min()) if len(scores) else float("nan"),
                    median_score=float(np.median(scores)) if len(scores) else float("nan"),
                )
            )
        return found

    def beam_directions(self, number: int) -> FloatArray:
        """(pick * copy, 3) where the beam comes from, seen from each pick of a kind: in the frame of the symmetry's axes.

        A pick of a symmetric particle counts once for each orientation that looks the same.
        """
        rotations = self.rotation[(self.template == number) & self.kept].astype(np.float64)
        own = np.einsum("ja,pj->pa", self.symmetry_frame[number], rotations[:, 2, :])
        group = symmetry_rotations(str(self.symmetries[number]))
        copies: FloatArray = np.einsum("gba,pb->pga", group, own).reshape(-1, 3)
        return copies
