"""Do classes agree, and do they sort by something else than the particle?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb
from scipy.stats import chi2_contingency

from eucentric.errors import ShapeError
from eucentric.typing import FloatArray

_GROUPS = 4  # into which a number is cut
_CHANCE = 1e-3
_STRONG = 0.3
"""Cramer's V from which a relation is worth a warning (Cohen 1988: medium)."""


def adjusted_rand(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Adjusted Rand index of two ways to sort the same things [1]_: 1 the same, 0 chance.

    References
    ----------
    .. [1] Hubert & Arabie, J. Classif. 2:193 (1985), doi:10.1007/BF01908075

    Raises
    ------
    ShapeError : of different lengths
    """
    if len(a) != len(b):
        raise ShapeError(f"{len(a)} and {len(b)} labels cannot be compared.")
    table = _table(a, b)
    both, rows, columns = comb(table, 2).sum(), comb(table.sum(1), 2).sum(), comb(table.sum(0), 2).sum()
    expected = rows * columns / max(comb(len(a), 2), 1.0)
    most = 0.5 * (rows + columns)
    return 1.0 if most == expected else float((both - expected) / (most - expected))


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How far classes go with something else."""

    name: str
    cramers_v: float
    """0 none, 1 one tells the other; corrected for chance."""
    information: float
    """Mutual information over the entropy of the classes, 0 to 1."""
    p_value: float
    """Of chance, by chi squared."""

    @property
    def suspicious(self) -> bool:
        return self.p_value < _CHANCE and self.cramers_v > _STRONG

    def as_json(self) -> dict[str, float | str]:
        return {
            "name": self.name,
            "cramers_v": self.cramers_v,
            "information": self.information,
            "p_value": self.p_value,
        }


def relations(labels: NDArray[np.int64], properties: Mapping[str, NDArray[np.generic]]) -> list[Relation]:
    """Of classes with texts, or with numbers, cut into four groups of like size; those that are the same for all are left out."""
    out = []
    for name, values in properties.items():
        groups = values if values.dtype.kind in "US" else _cut(np.asarray(values, dtype=np.float64))
        table = _table(labels, groups)
        if min(table.shape) < 2:
            continue
        out.append(_relation(name, table))
    return out


def caveats(found: list[Relation]) -> tuple[str, ...]:
    """Warnings in words."""
    return tuple(
        f"Classes go with {one.name} (Cramer's V {one.cramers_v:.2f}, chance {one.p_value:.1g}): they may sort by it and not by "
        "the particle. Compare their maps in what they should share, or sort within one of its groups."
        for one in found
        if one.suspicious
    )


def _relation(name: str, table: FloatArray) -> Relation:
    total = table.sum()
    found = chi2_contingency(table, correction=False)
    rows, columns = table.shape
    # bias correction of Bergsma 2013, doi:10.1016/j.jkss.2012.10.002
    phi = max(0.0, found.statistic / total - (rows - 1) * (columns - 1) / (total - 1))
    r, c = rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)
    part = table / total
    outer = part.sum(1, keepdims=True) * part.sum(0, keepdims=True)
    seen = part > 0
    shared = float((part[seen] * np.log(part[seen] / outer[seen])).sum())
    own = part.sum(1)
    entropy = float(-(own * np.log(own)).sum())
    return Relation(
        name=name,
        cramers_v=float(np.sqrt(phi / max(min(r, c) - 1.0, 1e-12))),
        information=shared / max(entropy, 1e-12),
        p_value=float(found.pvalue),
    )


def _cut(values: FloatArray) -> NDArray[np.int64]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _GROUPS + 1)[1:-1]))
    return np.asarray(np.searchsorted(edges, values, side="right"), dtype=np.int64)


def _table(a: NDArray[np.generic], b: NDArray[np.generic]) -> FloatArray:
    first, second = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
    out = np.zeros((int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1))
    np.add.at(out, (first, second), 1.0)
    return out
