"""Which particles of a project are meant after curation, and what to say about them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from eucentric.errors import InputError
from eucentric.io import labels
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.curation_pick_table import CURATED, ORIGINAL, read_pick_table
from eucentric.pipeline.curation_session import lists_in_use
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.plan import PLAN_FILE, read_exclusions
from eucentric.pipeline.records import excluded_series
from eucentric.pipeline.steps import IMPORT_TABLE


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


_Named = TypeVar("_Named", bound=_HasName)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenList:
    """A list of particles, and what a person did to it."""

    path: Path
    lines: tuple[str, ...]
    """For the user; none for a list without edits."""


def only_list(project: Path) -> Path:
    """The only list of picks of a project; with the edits where there are some.

    Raises
    ------
    InputError : a project without picks, or with several
    """
    found = lists_in_use(project)
    if len(found) != 1:
        words = ", ".join(found) or "none"
        raise InputError(
            f"`{project}` has {len(found)} lists of picks ({words}); expected one. Give the list itself, such as "
            "PROJECT/pick/NAME/particles.star."
        )
    return next(iter(found.values()))


def choose_list(target: Path) -> ChosenList:
    """The list that a target means: itself, or the only picks of a project; errors as `only_list`."""
    is_project = target.is_dir() and (target / IMPORT_TABLE).is_file()
    if not is_project:
        return ChosenList(path=target, lines=())
    path = only_list(target)
    lines = [f"Particles of `{path}`{_edits(target, path)}."]
    if path.name == CURATED and (bare := int(is_unoriented(read_list(path)).sum())):
        lines.append(f"{bare} of those added have no orientation yet; only an alignment can give them one.")
    left_out = excluded_series(read_exclusions(target))
    if left_out:
        counts = Counter(str(n) for n in read_list(path).tomograms)
        lines += [
            f"{counts[name]} particles of {name} are left out with their series: {why}."
            for name, why in left_out.items()
            if counts[name]
        ]
    return ChosenList(path=path, lines=tuple(lines))


def _edits(project: Path, path: Path) -> str:
    if path.name != CURATED:
        return ""
    particles = read_list(path)
    kinds = Counter(str(t) for t in particles.texts.get(labels.CURATED, ()))
    kept = len(particles) - kinds["added"]
    deleted = len(read_pick_table(project, path.parent.name).names) - kept
    return (
        f" ({kinds['added']} added, {kinds['moved']} moved and {deleted} deleted by hand; {ORIGINAL} stays as it was)"
    )


def not_left_out(found: Sequence[_Named], target: Path) -> list[_Named]:
    """Tomograms of a project less those of tilt series that are left out by hand; of a table or file that is named itself, all.

    Raises
    ------
    InputError : none is left
    """
    left_out = excluded_series(read_exclusions(target)) if target.is_dir() else {}
    kept = [one for one in found if one.name not in left_out]
    if not kept:
        raise InputError(f"All tomograms of `{target}` are of tilt series that are left out by hand.")
    return kept


def without_left_out(particles: ParticleSet, table: Path) -> ParticleSet:
    """Particles less those of tilt series that the project of a table leaves out.

    Raises
    ------
    InputError : none is left
    """
    root = next((p for p in table.resolve().parents if (p / PLAN_FILE).is_file()), None)
    left_out = [] if root is None else list(excluded_series(read_exclusions(root)))
    keep = ~np.isin(particles.tomograms, left_out)
    if keep.all():
        return particles
    if not keep.any():
        raise InputError(
            f"All particles lie in tilt series that are left out by hand ({', '.join(left_out[:5])}). Take one back: "
            f"eucentric curate {root} --include NAME."
        )
    return particles.select(keep)


def is_unoriented(particles: ParticleSet) -> np.ndarray:
    """(particle,) which were added by hand to a list with orientations, and have none."""
    edits = particles.texts.get(labels.CURATED)
    if edits is None or not particles.oriented:
        return np.zeros(len(particles), dtype=bool)
    plain = np.abs(particles.rotations - np.eye(3)).max(axis=(1, 2)) < 1e-9
    return np.asarray((edits == "added") & plain)
