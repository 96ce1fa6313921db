"""Particles: where they lie in their tomograms, how they are turned, how well they scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

Texts = NDArray[np.str_]
_PROPER = 1e-4
"""How far R R^T may be from one: what four written decimals of an angle or seven of a matrix leave."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleSet:
    """One row a particle, of any number of tomograms. Its arrays cannot be written to; change by copy.

    `rotations` take reference coordinates to specimen coordinates (`eucentric.geometry.Rotation`); the identity where
    nothing is known. `positions_angstrom` are x, y, z from the specimen centre (voxel ``n // 2`` of a tomogram).
    """

    tomograms: Texts
    """(particle,), the name of the tilt series that each lies in."""
    positions_angstrom: FloatArray
    """(particle, 3)."""
    rotations: FloatArray
    """(particle, 3, 3), proper rotations."""
    scores: FloatArray
    """(particle,), higher is better; NaN where none."""
    kinds: Texts
    """(particle,), the name or number of its class; empty where none."""
    columns: Mapping[str, FloatArray] = field(default_factory=dict)
    """Further numbers (particle,), by STAR label without underscore; NaN where missing."""
    texts: Mapping[str, Texts] = field(default_factory=dict)
    """Further texts (particle,), such as names of images; empty where missing."""

    def __post_init__(self) -> None:
        n = len(self.tomograms)
        shapes = {
            "tomograms": (self.tomograms.shape, (n,)),
            "positions_angstrom": (self.positions_angstrom.shape, (n, 3)),
            "rotations": (self.rotations.shape, (n, 3, 3)),
            "scores": (self.scores.shape, (n,)),
            "kinds": (self.kinds.shape, (n,)),
            **{label: (column.shape, (n,)) for label, column in (*self.columns.items(), *self.texts.items())},
        }
        for name, (got, expected) in shapes.items():
            if got != expected:
                raise ShapeError(f"`{name}` of {n} particles has shape {got}; expected {expected}.")
        _check_rows(np.asarray(np.isfinite(self.positions_angstrom).all(axis=1)), "a position that is NaN or infinite")
        _check_rows(np.asarray(np.isfinite(self.rotations).all(axis=(1, 2))), "a rotation that is NaN or infinite")
        _check_rows(~np.isinf(self.scores), "an infinite score")
        _check_rows(np.char.str_len(self.tomograms) > 0, "no name of a tomogram")
        square = self.rotations @ np.swapaxes(self.rotations, 1, 2)
        proper = (np.abs(square - np.eye(3)).max(axis=(1, 2)) < _PROPER) & (np.linalg.det(self.rotations) > 0)
        _check_rows(proper, "a matrix that is not a rotation (stretched, or mirrored)")
        for name in ("tomograms", "positions_angstrom", "rotations", "scores", "kinds"):
            object.__setattr__(self, name, _sealed(getattr(self, name)))
        sealed = {label: _sealed(column) for label, column in self.columns.items()}
        object.__setattr__(self, "columns", MappingProxyType(sealed))
        texts = {label: _sealed(column) for label, column in self.texts.items()}
        object.__setattr__(self, "texts", MappingProxyType(texts))

    def __reduce__(self) -> tuple[partial["ParticleSet"], tuple[()]]:
        """To travel to workers: views of dictionaries cannot be pickled."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain: dict[str, Any] = {name: dict(v) if isinstance(v, MappingProxyType) else v for name, v in values.items()}
        return partial(type(self), **plain), ()

    @classmethod
    def build(
        cls,
        tomograms: str | Sequence[str] | Texts,
        positions_angstrom: ArrayLike,
        *,
        rotations: ArrayLike | None = None,
        scores: ArrayLike = np.nan,
        kinds: str | Sequence[str] | Texts = "",
        columns: Mapping[str, ArrayLike] | None = None,
        texts: Mapping[str, str | Sequence[str] | Texts] | None = None,
    ) -> Self:
        """From arrays of any kind; a single name, score or kind goes to all particles.

        Raises
        ------
        ShapeError : arrays of different lengths
        InputError : NaN positions, matrices that are not rotations, particles without tomogram
        """
        positions = np.asarray(positions_angstrom, dtype=np.float64)
        if positions.size == 0:
            positions = positions.reshape(0, 3)
        n = len(positions)
        turned = np.broadcast_to(np.eye(3), (n, 3, 3)) if rotations is None else np.asarray(rotations, np.float64)
        return cls(
            tomograms=_texts(tomograms, n),
            positions_angstrom=positions,
            rotations=turned.reshape(0, 3, 3) if turned.size == 0 else turned,
            scores=_numbers(scores, n),
            kinds=_texts(kinds, n),
            columns={label: _numbers(column, n) for label, column in (columns or {}).items()},
            texts={label: _texts(column, n) for label, column in (texts or {}).items()},
        )

    @classmethod
    def empty(cls) -> Self:
        return cls.build("", np.zeros((0, 3)))

    def __len__(self) -> int:
        return len(self.tomograms)

    @property
    def tomogram_names(self) -> tuple[str, ...]:
        """Every tomogram that holds a particle, in the order of the first of each."""
        return tuple(dict.fromkeys(str(name) for name in self.tomograms))

    @property
    def oriented(self) -> bool:
        """Whether any particle is turned at all: a set of bare points holds the identity everywhere."""
        return bool(len(self)) and not np.allclose(self.rotations, np.eye(3), atol=1e-9)

    @property
    def directions(self) -> FloatArray:
        """(particle, 3), where the z axis of the reference points to: the normal of particles on a surface."""
        return np.array(self.rotations[:, :, 2])

    def select(self, rows: ArrayLike) -> Self:
        """Some of the particles: a mask (particle,) or row numbers, in the order given."""
        pick = np.asarray(rows)
        if pick.size == 0 and pick.dtype != bool:
            pick = pick.astype(np.int64)
        if pick.dtype == bool and pick.shape != (len(self),):
            raise ShapeError(f"A mask of shape {pick.shape} selects among {len(self)} particles; expected one a row.")
        return replace(
            self,
            tomograms=self.tomograms[pick],
            positions_angstrom=self.positions_angstrom[pick],
            rotations=self.rotations[pick],
            scores=self.scores[pick],
            kinds=self.kinds[pick],
            columns={label: column[pick] for label, column in self.columns.items()},
            texts={label: column[pick] for label, column in self.texts.items()},
        )

    def in_tomogram(self, name: str) -> Self:
        """The particles of one tomogram; an empty set where it holds none."""
        return self.select(self.tomograms == name)

    def by_score(self) -> Self:
        """Best score first; those without a score last, ties in their order."""
        return self.select(np.argsort(-np.where(np.isnan(self.scores), -np.inf, self.scores), kind="stable"))

    def with_positions(self, positions_angstrom: ArrayLike) -> Self:
        return replace(self, positions_angstrom=np.asarray(positions_angstrom, dtype=np.float64))

    def with_rotations(self, rotations: ArrayLike) -> Self:
        return replace(self, rotations=np.asarray(rotations, dtype=np.float64))

    def with_scores(self, scores: ArrayLike) -> Self:
        return replace(self, scores=_numbers(scores, len(self)))

    def with_kinds(self, kinds: str | Sequence[str] | Texts) -> Self:
        return replace(self, kinds=_texts(kinds, len(self)))

    def with_tomograms(self, tomograms: str | Sequence[str] | Texts) -> Self:
        return replace(self, tomograms=_texts(tomograms, len(self)))

    def with_column(self, label: str, values: ArrayLike) -> Self:
        """With further numbers; a column of the same label is replaced."""
        return replace(self, columns={**self.columns, label: _numbers(values, len(self))})

    def without_column(self, label: str) -> Self:
        return replace(self, columns={name: column for name, column in self.columns.items() if name != label})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All particles, in order; a column that a part lacks is NaN, or empty, there."""
        if not parts:
            return cls.empty()
        labels = dict.fromkeys(label for part in parts for label in part.columns)
        written = dict.fromkeys(label for part in parts for label in part.texts)
        return cls(
            tomograms=np.concatenate([p.tomograms for p in parts]),
            positions_angstrom=np.concatenate([p.positions_angstrom for p in parts]),
            rotations=np.concatenate([p.rotations for p in parts]),
            scores=np.concatenate([p.scores for p in parts]),
            kinds=np.concatenate([p.kinds for p in parts]),
            columns={
                label: np.concatenate([p.columns.get(label, np.full(len(p), np.nan)) for p in parts])
                for label in labels
            },
            texts={
                label: np.concatenate([p.texts.get(label, np.full(len(p), "")) for p in parts]) for label in written
            },
        )


def _check_rows(good: NDArray[np.bool_], what: str) -> None:
    if not good.all():
        bad = np.flatnonzero(~good)
        raise InputError(
            f"{len(bad)} of {len(good)} particles have {what}; the first is row {bad[0] + 1}. "
            "Remove these rows, or mend them where the table was made."
        )


def _sealed(array: NDArray) -> NDArray:  # type: ignore[type-arg]
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.setflags(write=False)
    return array


def _texts(values: str | Sequence[str] | Texts, n: int) -> Texts:
    texts = np.asarray(values, dtype=np.str_)
    return np.full(n, texts.item()) if texts.ndim == 0 else texts


def _numbers(values: ArrayLike, n: int) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    return np.full(n, numbers.item()) if numbers.ndim == 0 else numbers
