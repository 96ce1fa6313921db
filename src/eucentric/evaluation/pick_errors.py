"""How good picks are, against particles that are known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eucentric.geometry import Rotation
from eucentric.models.particle_matching import Matches, match_particles
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PickScore:
    """Of one kind of particle, or of all (`kind` is empty)."""

    kind: str
    truths: int
    picks: int
    matched: int
    precision: float
    """Part of the picks that are true; NaN without picks."""
    recall: float
    """Part of the particles that were found; NaN without any."""
    f1: float
    position_rms_angstrom: float
    """Of matched picks; NaN without any."""
    median_angle_deg: float
    """Between matched picks and true orientations, the smallest of the particle's symmetry; NaN without orientations."""


def score_picks(
    picks: ParticleSet,
    truth: ParticleSet,
    distance_angstrom: float,
    *,
    symmetries: Mapping[str, FloatArray] | None = None,
    required: NDArray[np.bool_] | None = None,
    by_kind: bool = True,
) -> list[PickScore]:
    """Precision, recall and angular error by one-to-one matches within a distance, of each kind and of all.

    Parameters
    ----------
    picks, truth : in one frame; those of tomograms without truth are not judged
    distance_angstrom : A; half the radius of the particle is usual
    symmetries : kind -> (n, 3, 3) rotations that leave it as it is; "" for kinds not named
    required : (truth,) of those that can be asked for; picks of others count neither for nor against
    by_kind : a pick of the wrong kind is a false one; else kinds do not matter

    Returns
    -------
    one figure a kind of the truth, in order, and one for all at the end
    """
    known = picks.select(np.isin(picks.tomograms, np.unique(truth.tomograms)))
    asked = np.ones(len(truth), dtype=bool) if required is None else np.asarray(required, dtype=bool)
    pairs = match_particles(known, truth, distance_angstrom, same_kind=by_kind)
    counted = asked[pairs.second]
    ignored = np.zeros(len(known), dtype=bool)
    ignored[pairs.first[~counted]] = True
    pairs = Matches(
        first=pairs.first[counted],
        second=pairs.second[counted],
        distances_angstrom=pairs.distances_angstrom[counted],
    )
    angles = _angles(known, truth, pairs, symmetries or {})
    kinds = sorted({str(k) for k in truth.kinds}) if by_kind else []
    rows = [
        _score(
            kind,
            known.kinds[~ignored] == kind,
            truth.kinds[asked] == kind,
            truth.kinds[pairs.second] == kind,
            pairs,
            angles,
        )
        for kind in kinds
    ]
    everything = _score(
        "",
        np.ones(int((~ignored).sum()), bool),
        np.ones(int(asked.sum()), bool),
        np.ones(len(pairs.first), bool),
        pairs,
        angles,
    )
    return [*rows, everything]


def _score(
    kind: str,
    picked: NDArray[np.bool_],
    true: NDArray[np.bool_],
    matched: NDArray[np.bool_],
    pairs: Matches,
    angles: FloatArray,
) -> PickScore:
    picks, truths, found = int(picked.sum()), int(true.sum()), int(matched.sum())
    turned = angles[matched & np.isfinite(angles)]
    return PickScore(
        kind=kind,
        truths=truths,
        picks=picks,
        matched=found,
        precision=found / picks if picks else float("nan"),
        recall=found / truths if truths else float("nan"),
        f1=2.0 * found / (picks + truths) if picks + truths else float("nan"),
        position_rms_angstrom=float(np.sqrt(np.mean(pairs.distances_angstrom[matched] ** 2)))
        if found
        else float("nan"),
        median_angle_deg=float(np.median(turned)) if len(turned) else float("nan"),
    )


def _angles(picks: ParticleSet, truth: ParticleSet, pairs: Matches, symmetries: Mapping[str, FloatArray]) -> FloatArray:
    """(pair,) degrees; NaN where the picks have no orientation."""
    out = np.full(len(pairs.first), np.nan)
    if not picks.oriented:
        return out
    found, true = picks.rotations[pairs.first], truth.rotations[pairs.second]
    for kind in np.unique(truth.kinds[pairs.second]):
        rows = np.flatnonzero(truth.kinds[pairs.second] == kind)
        group = symmetries.get(str(kind), symmetries.get("", np.eye(3)[None]))
        alike = true[rows, None] @ group[None]
        out[rows] = Rotation(found[rows, None]).angle_to_deg(Rotation(alike)).min(axis=1)
    return out
