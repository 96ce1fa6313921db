"""The species of a refinement: averages that `eucentric average` made, of the same tilt series."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.averaging.half_sets import SUBSET
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.errors import InputError
from eucentric.io.particles import read_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.half_maps import RECORD, read_about

_FEWEST = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Species:
    """One kind of particle."""

    name: str
    folder: Path
    particles: ParticleSet
    """With the half of each."""
    extract: ExtractParams
    average: AverageParams

    @property
    def halves(self) -> np.ndarray:
        """(particle,), 1 or 2."""
        return self.particles.columns[SUBSET].astype(np.int64)


def open_species(folders: Sequence[Path], table: Path | None) -> tuple[tuple[Species, ...], Path]:
    """Averages and the table of tilt series that all of them are of.

    Parameters
    ----------
    table : in place of the one that the averages name

    Raises
    ------
    InputError : a folder without an average, averages of different series, the same name twice, or too few particles
    """
    if not folders:
        raise InputError("No average was given. Name one folder of `eucentric average` at least.")
    found = [_one(folder) for folder in folders]
    names = [species.name for species, _ in found]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise InputError(f"Two averages are called {twice.pop()}: their folders name the species. Rename one of them.")
    tables = {t for _, t in found}
    if table is None and len(tables) > 1:
        listed = ", ".join(f"`{t}`" for t in sorted(tables))
        raise InputError(
            f"The averages are of different tables of tilt series: {listed}. Average them from the same, or say which one with "
            "--series."
        )
    every = sum(len(species.particles) for species, _ in found)
    if every < _FEWEST:
        raise InputError(
            f"{every} particles were given; nothing can be held out of fewer than {_FEWEST}, so no change of the geometry could be "
            "told from chance. Pick more particles."
        )
    return tuple(species for species, _ in found), table or tables.pop()


def _one(folder: Path) -> tuple[Species, Path]:
    about = read_about(folder)
    missing = [n for n in (RECORD, "particles.star", "half1.mrc", "half2.mrc") if not (folder / n).is_file()]
    if missing or "table" not in about:
        lacking = f"has no {', '.join(missing)}" if missing else f"has a {RECORD} that names no tilt series"
        raise InputError(
            f"`{folder}` {lacking}: it is no folder that `eucentric average` made, or the average did not end."
        )
    particles = read_particles(folder / "particles.star")
    if SUBSET not in particles.columns:
        raise InputError(f"`{folder / 'particles.star'}` does not say which half each particle is in ({SUBSET}).")
    used = particles.select(np.isin(particles.columns[SUBSET], (1.0, 2.0)))
    average = AverageParams(**about["average"])
    if average.helix is not None:
        raise InputError(f"`{folder}` is the average of a helix. Sub-tilt refinement works on single particles only.")
    species = Species(
        name=folder.resolve().name,
        folder=folder,
        particles=used,
        extract=ExtractParams(**about["extract"]),
        average=average,
    )
    return species, Path(about["table"]).resolve()
