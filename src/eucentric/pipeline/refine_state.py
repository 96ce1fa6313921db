"""One folder for each round of sub-tilt refinement: series, deformation and particles as they were after it.

`state.json` is written last and marks that a round is whole.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eucentric.errors import FormatError
from eucentric.geometry import Deformation
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.tilt_series import read_tilt_series_set, relative_path, write_tilt_series_set
from eucentric.io.warps import read_deformation, write_deformation
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.refinement.results import SeriesMemory

STATE, TABLE = "state.json", "tilt_series.star"
ALL_SERIES, _GROUP = "all series", "optics group "
"""Among what is remembered of series, by their names, which hold no spaces: what all share, or those of one optics group."""


def is_shared(name: str) -> bool:
    """Whether what is remembered by a name is that of several series."""
    return name == ALL_SERIES or name.startswith(_GROUP)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundState:
    """Everything that is refined."""

    number: int
    series: tuple[TiltSeries, ...]
    deformations: Mapping[str, Deformation]
    particles: Mapping[str, ParticleSet]
    """By species."""
    memory: Mapping[str, SeriesMemory]
    """Of each series that was refined, and of what they share: what was kept so far."""
    groups: Mapping[str, str]
    """By series: its optics group, as it was when refinement began."""
    history: tuple[dict[str, Any], ...]
    """Plain numbers of every round up to this one."""

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """Names of the series with particles that share aberrations, by the name that these are remembered by."""
        shown = {name for particles in self.particles.values() for name in particles.tomogram_names}
        found: dict[str, list[str]] = {}
        for one in (s for s in self.series if s.name in shown):
            found.setdefault(_GROUP + self.groups[one.name], []).append(one.name)
        return {name if len(found) > 1 else ALL_SERIES: tuple(own) for name, own in found.items()}

    def write(self, folder: Path, project: Path, fingerprint: str) -> None:
        """Write everything, the mark that it is whole at last."""
        make_folder(folder)
        write_refined_series(folder, self.series, self.deformations, project)
        for name, particles in self.particles.items():
            write_particles(folder / f"particles_{name}.star", particles, "relion5")
        memory = {name: one.as_json() for name, one in self.memory.items()}
        values = {
            "fingerprint": fingerprint,
            "number": self.number,
            "history": list(self.history),
            "memory": memory,
            "groups": dict(self.groups),
        }
        write_text_atomic(folder / STATE, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path, project: Path) -> Self:
        """What was written.

        Raises
        ------
        FormatError : a damaged folder
        """
        try:
            values = json.loads((folder / STATE).read_text(encoding="utf-8"))
            series = tuple(read_tilt_series_set(folder / TABLE, project))
            return cls(
                number=int(values["number"]),
                series=series,
                deformations={
                    s.name: Deformation() if s.warp is None else read_deformation(project / s.warp, s) for s in series
                },
                particles={
                    p.stem.removeprefix("particles_"): read_particles(p)
                    for p in sorted(folder.glob("particles_*.star"))
                },
                memory={name: SeriesMemory.from_json(one) for name, one in values["memory"].items()},
                groups={s.name: str(values["groups"][s.name]) for s in series},
                history=tuple(values["history"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"`{folder}` is damaged ({error}). Remove that folder, and the round is done again."
            ) from error


def write_refined_series(
    folder: Path, series: Sequence[TiltSeries], deformations: Mapping[str, Deformation], project: Path
) -> None:
    """Write the tables of series, and what deforms them."""
    placed = []
    for one in series:
        deformation = deformations[one.name]
        path = None
        if deformation.image is not None or deformation.volume is not None:
            file = folder / "warps" / f"{one.name}.npz"
            write_deformation(file, deformation, one)
            path = relative_path(file, project)
        placed.append(one.replace(warp=path))
    write_tilt_series_set(folder / TABLE, placed, project)
