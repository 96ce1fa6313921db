"""From a list of particles and the tilt series they lie in to their images: read when they are needed, a series at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages, SeriesImages, prepare_series
from eucentric.compute.device import batches
from eucentric.errors import InputError
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.curation_lists import only_list, without_left_out
from eucentric.pipeline.images import read_deformation, read_images
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.reprojecting import project_of
from eucentric.pipeline.series_tables import table_of_list
from eucentric.pipeline.store import ItemStore

_MOST_TOGETHER = 64  # particles of a batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleJob:
    """Particles and where their images are."""

    particles: ParticleSet
    table: Path
    series: dict[str, TiltSeries]
    params: ExtractParams
    pixel_size_angstrom: float
    """Of the boxes."""
    device: torch.device
    left_out: int = 0
    """Particles of the list that too few images show."""

    def __len__(self) -> int:
        return len(self.particles)

    def open_series(self, name: str) -> SeriesImages:
        """The images of one series, made ready."""
        series = self.series[name]
        store = ItemStore(project_of(self.table), "", name)
        images = read_images(series, store, self.device)
        bent = read_deformation(series, store)
        return prepare_series(
            images, series, self.params, warp=bent.image, volume=bent.volume, pixel_size=self.pixel_size_angstrom
        )

    def sources(self) -> Iterator[tuple[SeriesImages, NDArray[np.int64]]]:
        """Series by series with the rows of their particles; only one series is held."""
        for name in self.particles.tomogram_names:
            yield self.open_series(name), np.flatnonzero(self.particles.tomograms == name)

    def caveats(self) -> tuple[str, ...]:
        """Told where particles of the list are left out."""
        if not self.left_out:
            return ()
        least, some = self.params.min_tilts, self.left_out > 1
        return (
            f"{self.left_out} particle{'s' * some} of the list {'are' if some else 'is'} seen in "
            f"{f'fewer than {least} images' if least > 1 else 'no image'} and {'were' if some else 'was'} left out.",
        )

    def batches(self) -> Iterator[tuple[ParticleImages, NDArray[np.int64]]]:
        """Images of some particles after others, and their rows."""
        for source, rows in self.sources():
            for some in particle_batches(source, len(rows)):
                picked = rows[some]
                yield source.particles(self.particles.positions_angstrom[picked]), picked


def particle_batches(source: SeriesImages, count: int) -> Iterator[slice]:
    """Particles whose images are held together."""
    n = source.params.box_size
    need = 32 * len(source.series.tilts) * n * (n // 2 + 1)  # data, weights and copies of them while they are inserted
    for part in batches(count, need, source.images.device):
        for start in range(part.start, part.stop, _MOST_TOGETHER):
            yield slice(start, min(start + _MOST_TOGETHER, part.stop))


def open_particles(
    target: Path, params: ExtractParams, *, table: Path | None = None, device: torch.device
) -> ParticleJob:
    """Particles of a list, or of the only picks of a project, with their tilt series; those hardly seen are left out, and those of
    series that are left out by hand.

    Parameters
    ----------
    target : list of particles in any known format, or a project with one folder below `pick`
    table : aligned series; where None those that the list goes with (:func:`eucentric.pipeline.series_tables.table_of_list`)

    Raises
    ------
    InputError : no list or table, series that it lacks, or no particle that is seen
    """
    file = list_of(target)
    series_table = table or table_of_list(file)
    particles = without_left_out(read_list(file), series_table)
    known = {s.name: s for s in read_tilt_series_set(series_table, project_of(series_table))}
    missing = [name for name in particles.tomogram_names if name not in known]
    if missing:
        raise InputError(
            f"`{series_table}` has no series {', '.join(missing[:5])}, of which `{file}` has particles; it has "
            f"{', '.join(sorted(known)[:5])}. Give the right --series, or select particles with `eucentric particles select`."
        )
    series = {name: known[name] for name in particles.tomogram_names}
    pixel = params.pixel_size_angstrom or max(s.pixel_size_angstrom for s in series.values())
    kept = _seen(particles, series, series_table, params, pixel)
    return ParticleJob(
        particles=kept,
        table=series_table,
        series={name: series[name] for name in kept.tomogram_names},
        params=params,
        pixel_size_angstrom=pixel,
        device=device,
        left_out=len(particles) - len(kept),
    )


def _seen(
    particles: ParticleSet, series: dict[str, TiltSeries], table: Path, params: ExtractParams, pixel: float
) -> ParticleSet:
    """Those with their middle in as many images as are asked for."""
    from eucentric.models.particle_projection import project_particles

    margin = 0.5 * params.inside * params.box_size * pixel
    counts = np.zeros(len(particles), dtype=np.int64)
    for name, one in series.items():
        rows = particles.tomograms == name
        bent = read_deformation(one, ItemStore(project_of(table), "", name))
        places = particles.positions_angstrom[rows]
        seen = project_particles(places, one, bent.image, volume=bent.volume, margin_angstrom=margin)
        counts[rows] = seen.tilts_seen
    keep = counts >= params.min_tilts
    if not keep.any():
        raise InputError(
            f"None of {len(particles)} particles is seen in {params.min_tilts} images or more: they lie outside the field. "
            "Check that coordinates are A from the specimen centre, and their --series."
        )
    return particles.select(keep)


def list_of(target: Path) -> Path:
    """The list of particles that is meant.

    Raises
    ------
    InputError : a project without picks, or with several
    """
    return only_list(target) if target.is_dir() else target
