"""A list of picks with edits: the original table row by row as text, so that every column and digit is kept.

A pick is known by its name (rlnTomoParticleName; tomogram and number where a table has none of its own). An edit also says where
the pick lay, so that a list that was made anew is noticed: the pick at that place is meant then, and where there is none
the edit is passed over and told.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.relion_particles import read_relion_particles
from eucentric.io.star import read_star_text, write_star
from eucentric.typing import FloatArray

ORIGINAL, CURATED = "particles.star", "particles_curated.star"
PICKS = "pick"
COORDINATES = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
_NAME, _TOMOGRAM, _SCORE = "rlnTomoParticleName", "rlnTomoName", "rlnAutopickFigureOfMerit"
_ANGLES = (
    *("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"),
    *("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"),
    *("rlnAngleTiltPrior", "rlnAnglePsiPrior"),
)
_PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
_ORIGINS = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
_SAME_ANGSTROM = 0.05
"""Two places that differ by less are one: what four written decimals leave, and more."""
Origin = Literal["picked", "moved", "added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickChange:
    """One edit of a list, as :func:`fold` takes it."""

    number: int
    """Of its entry in the log."""
    action: Literal["add", "delete", "move"]
    tomogram: str
    pick: str
    position: tuple[float, float, float] | None
    """A, afterwards; None of a pick that was deleted."""
    before: tuple[float, float, float] | None
    """A, where it lay; None of one that was added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One pick of an edited list."""

    name: str
    tomogram: str
    position: tuple[float, float, float]
    """A from the specimen centre."""
    origin: Origin
    row: int | None
    """In the original table; None of one that was added."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PickTable:
    """The original of a list; empty for one that was begun by hand."""

    names: tuple[str, ...] = ()
    tomograms: tuple[str, ...] = ()
    positions: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(pick, 3), A."""
    rotations: FloatArray = field(default_factory=lambda: np.zeros((0, 3, 3)))
    """(pick, 3, 3), from the frame of the reference to that of the specimen."""
    scores: FloatArray = field(default_factory=lambda: np.zeros(0))
    blocks: dict[str, dict[str, list[str | None]]] = field(default_factory=dict)
    """All of the file, as text."""
    block: str = "particles"
    """That of the particles."""


def require_list_name(name: str) -> str:
    """The name of a list of picks, where it can be a folder.

    Raises
    ------
    InputError : it cannot
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
        raise InputError(
            f"`{name}` cannot be the name of a list of picks; expected letters, digits, `_`, `-`, `+` and `.` only."
        )
    return name


def list_names(root: Path) -> list[str]:
    """Lists of picks of a project, those begun by hand too."""
    return sorted({p.parent.name for file in (ORIGINAL, CURATED) for p in (root / PICKS).glob(f"*/{file}")})


def read_pick_table(root: Path, name: str) -> PickTable:
    """The original of a list of picks.

    Raises
    ------
    InputError, FormatError : it cannot be read, or has no coordinates of RELION-5
    """
    path = root / PICKS / require_list_name(name) / ORIGINAL
    if not path.is_file():
        return PickTable()
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, modified: int, size: int) -> PickTable:
    del modified, size  # of the key
    if not path.read_text(encoding="utf-8", errors="replace").strip():
        raise FormatError(f"`{path}` is empty. Pick again, or remove the file.")
    blocks = read_star_text(path)
    block = next((b for b, t in blocks.items() if _TOMOGRAM in t and all(c in t for c in COORDINATES)), None)
    if block is None:
        raise FormatError(
            f"`{path}` has no table with {_TOMOGRAM} and {COORDINATES[0]} and their like. "
            "Convert it first: eucentric particles convert LIST OUTPUT --to relion5."
        )
    table = blocks[block]
    if not table[_TOMOGRAM]:
        return PickTable(blocks=blocks, block=block)
    particles = read_relion_particles(path)
    tomograms = tuple(str(n) for n in particles.tomograms)
    return PickTable(
        names=_names(table, tomograms),
        tomograms=tomograms,
        positions=particles.positions_angstrom,
        rotations=particles.rotations,
        scores=particles.scores,
        blocks=blocks,
        block=block,
    )


def _names(table: dict[str, list[str | None]], tomograms: Sequence[str]) -> tuple[str, ...]:
    own = table.get(_NAME, [])
    if own and None not in own and len(set(own)) == len(own):
        return tuple(str(n) for n in own)
    counts: dict[str, int] = {}
    names = []
    for tomogram in tomograms:
        counts[tomogram] = counts.get(tomogram, 0) + 1
        names.append(f"{tomogram}/{counts[tomogram]}")
    return tuple(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A list with its edits."""

    picks: tuple[Pick, ...]
    """In the order of the original, then those that were added."""
    lost: tuple[PickChange, ...]
    """Edits of picks that the list, made anew since, no longer has."""

    def in_tomogram(self, name: str) -> list[Pick]:
        """Picks of one tomogram."""
        return [p for p in self.picks if p.tomogram == name]


def fold(table: PickTable, changes: Iterable[PickChange]) -> Folded:
    """The original with its edits, one after another."""
    picks: dict[str, Pick] = {
        name: Pick(name=name, tomogram=table.tomograms[i], position=_xyz(table.positions[i]), origin="picked", row=i)
        for i, name in enumerate(table.names)
    }
    meant: dict[str, str | None] = {}
    lost = []
    for change in changes:
        if change.action == "add":
            assert change.position is not None
            picks[change.pick] = Pick(
                name=change.pick, tomogram=change.tomogram, position=change.position, origin="added", row=None
            )
            meant[change.pick] = change.pick
            continue
        if change.pick not in meant:
            meant[change.pick] = _meant(picks, change)
        name = meant[change.pick]
        if name is None or name not in picks:
            lost.append(change)
        elif change.action == "delete":
            del picks[name]
        else:
            assert change.position is not None
            before = picks[name]
            origin: Origin = "added" if before.origin == "added" else "moved"
            picks[name] = dataclasses.replace(before, position=change.position, origin=origin)
    return Folded(picks=tuple(picks.values()), lost=tuple(lost))


def _meant(picks: dict[str, Pick], change: PickChange) -> str | None:
    """The pick that an edit is about: that of its name where it lies where it lay, or else the one that does."""
    assert change.before is not None
    named = picks.get(change.pick)
    if named is not None and named.tomogram == change.tomogram and _near(named.position, change.before):
        return named.name
    here = (p for p in picks.values() if p.tomogram == change.tomogram and p.origin == "picked")
    return next((p.name for p in here if _near(p.position, change.before)), None)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return math.dist(one, other) < _SAME_ANGSTROM


def _xyz(row: Any) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in row)
    return x, y, z


def write_curated(root: Path, name: str, table: PickTable, folded: Folded) -> Path:
    """Write a list with its edits beside the original.

    Rows keep all columns. Of one that was moved, the coordinates change by as much as it was moved. One that was added has what
    belongs to its tomogram (such as the optics group), no score and no orientation; in lists with orientations that follow a
    surface or filament (with priors) it has that of the nearest pick of the original.
    """
    source = table.blocks.get(table.block) or {key: [] for key in (_TOMOGRAM, _NAME, *COORDINATES)}
    columns = list(dict.fromkeys([*source, _NAME, *COORDINATES, labels.CURATED]))
    out: dict[str, list[Any]] = {label: [] for label in columns}
    for pick in folded.picks:
        row = _row(table, source, pick)
        for label in columns:
            out[label].append(row.get(label))
    blocks: dict[str, dict[str, list[Any]]] = {b: dict(t) for b, t in table.blocks.items()}
    blocks[table.block] = {label: _whole(values) for label, values in out.items()}
    path = root / PICKS / name / CURATED
    write_star(path, blocks)
    return path


def _row(table: PickTable, source: dict[str, list[str | None]], pick: Pick) -> dict[str, Any]:
    if pick.row is not None:
        row: dict[str, Any] = {label: values[pick.row] for label, values in source.items()}
        if pick.origin == "moved":
            moved = np.subtract(pick.position, table.positions[pick.row])
            for label, step in zip(COORDINATES, moved, strict=True):
                row[label] = float(row[label]) + float(step)
        return row | {_NAME: pick.name, labels.CURATED: pick.origin}
    row = {_TOMOGRAM: pick.tomogram, **dict(zip(COORDINATES, pick.position, strict=True))}
    row |= {_NAME: pick.name, labels.CURATED: pick.origin}
    row |= {label: 0.0 for label in (*_ANGLES, *_ORIGINS) if label in source}
    here = np.flatnonzero(np.array(table.tomograms, dtype=object) == pick.tomogram)
    like = here if len(here) else np.arange(len(table.names))
    for label, values in source.items():
        same = {values[i] for i in like}
        if label not in row and label != _SCORE and len(same) == 1:
            row[label] = same.pop()
    if len(here) and all(label in source for label in _PRIORS):
        near = here[np.argmin(np.linalg.norm(table.positions[here] - np.array(pick.position), axis=1))]
        row |= {label: source[label][near] for label in _ANGLES if label in source}
    return row


def _whole(values: list[Any]) -> list[Any]:
    """A column where a missing number is `nan`, which readers of numbers take."""
    present = [v for v in values if v is not None]
    numbers = bool(present) and all(_is_number(v) for v in present)
    return [float("nan") if v is None and numbers else v for v in values]


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
