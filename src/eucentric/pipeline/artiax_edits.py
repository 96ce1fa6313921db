"""What was changed in ArtiaX comes back into a list of particles, with the columns that ArtiaX does not know."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.geometry import Rotation
from eucentric.io.artiax import ArtiaxList, read_artiax_list
from eucentric.io.particle_columns import class_numbers
from eucentric.models.particles import ParticleSet

_SAME_ANGSTROM, _SAME_DEG = 0.02, 0.02
"""What rounding of angles and coordinates in ArtiaX (float32) leaves is no edit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edited:
    """A list with edits."""

    particles: ParticleSet
    """In the order of the original, added ones last."""
    deleted: int
    moved: int
    turned: int
    added: int


def take_edits(original: ParticleSet, paths: Sequence[Path]) -> Edited:
    """The original with what was deleted, moved, turned and added in lists that ArtiaX saved.

    Particles that were not given to ArtiaX, and all columns of those that were, stay as they are. Of a particle that is there
    twice the copy nearest to its old place stays, and the others are new. New ones have a class where ArtiaX gives a number that
    is known, and nothing else.

    Raises
    ------
    InputError, FormatError : a list that was not made from this original, or that is there twice
    """
    positions, rotations = np.array(original.positions_angstrom), np.array(original.rotations)
    kept = np.ones(len(original), dtype=bool)
    numbers = {int(n): str(kind) for n, kind in zip(class_numbers(original.kinds), original.kinds, strict=True)}
    fresh: list[ParticleSet] = []
    taken: dict[int, Path] = {}
    deleted = moved = turned = 0
    for path in paths:
        edited = read_artiax_list(path)
        _check(original, edited, path)
        twice = next((taken[row] for row in edited.listed_rows.tolist() if row in taken), None)
        if twice is not None:
            raise InputError(f"`{twice}` and `{path}` hold the same particles. Give one list for each tomogram.")
        taken |= dict.fromkeys(edited.listed_rows.tolist(), path)
        own = _own(edited, positions)
        listed, rows = edited.listed_rows - 1, edited.rows[own] - 1
        kept[listed] = False
        kept[rows] = True
        deleted += len(listed) - len(rows)
        far = np.linalg.norm(edited.positions_angstrom[own] - positions[rows], axis=1) > _SAME_ANGSTROM
        turns = Rotation(edited.rotations[own]).angle_to_deg(Rotation(rotations[rows])) > _SAME_DEG
        positions[rows[far]] = edited.positions_angstrom[own][far]
        rotations[rows[turns]] = edited.rotations[own][turns]
        moved, turned = moved + int(far.sum()), turned + int(turns.sum())
        new = np.setdiff1d(np.arange(len(edited.rows)), own)
        if len(new):
            kinds = [numbers.get(int(n), "") for n in edited.classes[new]]
            fresh.append(
                ParticleSet.build(
                    edited.tomogram, edited.positions_angstrom[new], rotations=edited.rotations[new], kinds=kinds
                )
            )
    changed = original.with_positions(positions).with_rotations(rotations).select(kept)
    whole = ParticleSet.concatenate([changed, *fresh]) if fresh else changed
    return Edited(particles=whole, deleted=deleted, moved=moved, turned=turned, added=len(whole) - len(changed))


def _check(original: ParticleSet, edited: ArtiaxList, path: Path) -> None:
    """Whether the rows are those of this list."""
    rows = edited.listed_rows - 1
    words = f"`{path}` was made from another list, or the list changed since. Give the list that map-back was given."
    if len(rows) and (rows.min() < 0 or rows.max() >= len(original)):
        raise InputError(words)
    same = np.linalg.norm(original.positions_angstrom[rows] - edited.listed_angstrom, axis=1) < _SAME_ANGSTROM
    if not (same.all() and (original.tomograms[rows] == edited.tomogram).all()):
        raise InputError(words)
    if not np.isin(edited.rows[edited.rows > 0], edited.listed_rows).all():
        raise InputError(f"`{path}` names particles that were not given to ArtiaX. Give the file that ArtiaX saved.")


def _own(edited: ArtiaxList, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of the particles in the list that are those of the original: one for each row."""
    out = []
    for row in np.unique(edited.rows[edited.rows > 0]):
        same = np.flatnonzero(edited.rows == row)
        away = np.linalg.norm(edited.positions_angstrom[same] - positions[row - 1], axis=1)
        out.append(int(same[np.argmin(away)]))
    return np.array(sorted(out), dtype=np.int64)
