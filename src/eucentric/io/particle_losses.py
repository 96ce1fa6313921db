"""What each format of particle lists cannot hold, in sentences, for particles that have it.

`tests/contract/test_particle_losses.py` writes a full set in every format, reads it again and compares: what is not told fails there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.io import labels
from eucentric.io.dynamo import KEPT_COLUMNS
from eucentric.io.plain_particles import PlainWords
from eucentric.io.relion_particles import PARTICLE
from eucentric.models.particles import ParticleSet
from eucentric.typing import PathLike

_SUBSET = "rlnRandomSubset"
_FEW = 6  # names that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holds:
    """What lists of a format hold beside tomograms and positions."""

    orientations: bool = True
    scores: bool = True
    no_score: float | None = None
    """What stands where a particle has no score; None where that can be told."""
    kinds: str = "names"
    """`names`, `numbers` or `none`."""
    no_kind: str = ""
    """What a particle without kind becomes."""
    columns: frozenset[str] | None = frozenset()
    """Further columns that are kept; None: all of them, and all texts."""


_RELION = _Holds(columns=None)
_NUMBERED = _Holds(kinds="numbers", no_score=0.0)
_HOLDS: dict[str, _Holds] = {
    "relion5": _RELION,
    "relion4": _RELION,
    "optimisation-set": _RELION,
    "relion31": _Holds(kinds="numbers", no_kind="0"),
    "relion3": _Holds(kinds="numbers", no_kind="0"),
    "warp": _Holds(kinds="none"),
    "warp-normalized": _Holds(kinds="none"),
    "pytom": _Holds(kinds="none", no_score=0.0, columns=frozenset({"rlnCutOff", "rlnSearchStd"})),
    "pytom-xml": _Holds(),
    "dynamo": _Holds(kinds="numbers", no_score=0.0, columns=frozenset(KEPT_COLUMNS.values())),
    "stopgap": _Holds(kinds="numbers", no_score=0.0, columns=frozenset({labels.INSTANCE, _SUBSET})),
    "em": _Holds(kinds="numbers", no_score=0.0, columns=frozenset({labels.INSTANCE})),
    "imod": _Holds(no_score=0.0),
    "copick": _Holds(no_kind="particle", columns=frozenset({labels.INSTANCE})),
    "peet": _Holds(no_score=0.0),
    "eman2": _Holds(columns=frozenset({_SUBSET})),
    "xmipp": _NUMBERED,
    "scipion": _NUMBERED,
    "emclarity": _Holds(kinds="numbers", no_kind="1", no_score=1.0, columns=frozenset({_SUBSET})),
    "portal": _Holds(scores=False, no_kind="particle", columns=frozenset({labels.INSTANCE})),
    "plain": _Holds(kinds="numbers"),
}


def particle_losses(
    particles: ParticleSet, format_name: str, *, path: PathLike | None = None, words: PlainWords | None = None
) -> tuple[str, ...]:
    """Sentences on what a format cannot hold and these particles have; none where nothing is lost.

    Parameters
    ----------
    format_name : one of `PARTICLE_FORMATS`; of those that are only read nothing is said
    path : where they are written: EMAN2's kinds of files differ
    words : how plain numbers are meant
    """
    if format_name not in _HOLDS or not len(particles):
        return ()
    holds = _holds(format_name, None if path is None else Path(path), words)
    return (
        *_orientations(particles, format_name, holds),
        *_kinds(particles, format_name, holds),
        *_scores(particles, format_name, holds),
        *_columns(particles, format_name, holds),
        *_texts(particles, format_name, holds),
    )


def _holds(name: str, path: Path | None, words: PlainWords | None) -> _Holds:
    if name == "plain" and words is not None and words.euler == "none":
        return _Holds(kinds="numbers", orientations=False)
    if name == "eman2" and path is not None and path.name.lower().endswith("_info.json"):
        return _Holds(orientations=False, no_score=0.0)
    if name == "eman2" and path is not None and path.suffix.lower() == ".json":
        return _Holds()
    return _HOLDS[name]


def _orientations(particles: ParticleSet, name: str, holds: _Holds) -> list[str]:
    if holds.orientations or not particles.oriented:
        return []
    turned = ~np.isclose(particles.rotations, np.eye(3), atol=1e-9).all(axis=(1, 2))
    return [f"The orientations of {_particles(turned.sum())} are left out: this list of {name} holds places alone."]


def _kinds(particles: ParticleSet, name: str, holds: _Holds) -> list[str]:
    kinds = sorted({str(k) for k in particles.kinds} - {""})
    if not kinds:
        return []
    told = []
    numbered = all(kind.isdecimal() for kind in kinds)
    if holds.kinds == "none":
        return [f"The kinds ({_listed(kinds)}) are left out, which {name} cannot hold. Write a list for each of them."]
    if holds.kinds == "numbers" and not numbered:
        as_numbers = _listed([str(n) for n in range(1, len(kinds) + 1)])
        told.append(f"The kinds {_listed(kinds)} became the numbers {as_numbers}: {name} has no names of kinds.")
    without = int((particles.kinds == "").sum())
    stands = "0" if holds.columns is None and numbered else holds.no_kind
    if without and stands:
        told.append(f"{_particles(without)} without a kind became `{stands}`: {name} needs one of each.")
    return told


def _scores(particles: ParticleSet, name: str, holds: _Holds) -> list[str]:
    known = np.isfinite(particles.scores)
    if not holds.scores:
        return (
            [f"The scores of {_particles(known.sum())} are left out, which {name} cannot hold."] if known.any() else []
        )
    if name == "imod":
        plain = [part for t in particles.tomogram_names if not (part := particles.in_tomogram(t)).oriented]
        count = sum(int(np.isfinite(part.scores).sum()) for part in plain)
        if count:
            return [
                f"The scores of {_particles(count)} are left out: models of particles that are not turned have none."
            ]
    if holds.no_score is None:
        return []
    missing = int((~known).sum())
    if missing and (known.any() or holds.no_score):
        return [f"{_particles(missing)} without a score got {holds.no_score:g}: {name} needs one of each."]
    if known.any() and not particles.scores[known].any():
        return [f"All scores are 0, which stands for none in lists of {name}."]
    return []


def _columns(particles: ParticleSet, name: str, holds: _Holds) -> list[str]:
    if holds.columns is None:
        return []
    lost = [label for label, column in particles.columns.items() if not np.isnan(column).all()]
    lost = [label for label in lost if label not in holds.columns or not _kept(label, particles.columns[label], name)]
    if not lost:
        return []
    return [f"Left out, as {name} cannot hold them: {_many(len(lost), 'column')} of numbers ({_listed(lost)})."]


def _kept(label: str, column: np.ndarray, name: str) -> bool:
    """Whether the format takes these values."""
    if label == _SUBSET:
        return bool(np.isin(column, (1.0, 2.0)).all())
    if label == labels.INSTANCE:
        return bool(np.isfinite(column).all() and (column == np.round(column)).all())
    return bool(np.isfinite(column).all()) or name == "pytom"


def _texts(particles: ParticleSet, name: str, holds: _Holds) -> list[str]:
    had = {label: text for label, text in particles.texts.items() if (text != "").any()}
    if holds.columns is None:
        names = had.get(PARTICLE)
        if names is not None and (len(set(names.tolist())) < len(names) or "" in names):
            return [
                f"The particles were named anew: {name} needs another name of each, and some are missing or the same."
            ]
        return []
    told = []
    if PARTICLE in had:
        told.append(f"The names of the particles are left out, which {name} cannot hold.")
    rest = [label for label in had if label != PARTICLE]
    if rest:
        told.append(f"Left out, as {name} cannot hold them: {_many(len(rest), 'column')} of texts ({_listed(rest)}).")
    return told


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _particles(count: int) -> str:
    return _many(int(count), "particle")


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _FEW
    return ", ".join(words[:_FEW]) + (f" and {more} more" if more > 0 else "")
