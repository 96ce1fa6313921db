"""What `eucentric initial-model` writes of a map, and says of it."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric import __version__
from eucentric.averaging.ab_initio import StartModel
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import InitialModel
from eucentric.averaging.half_sets import SUBSET
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.average_files import write_fsc
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.pipeline.iterate_average import SIGMA_ANGSTROM, SIGMA_DEG

RECORD = "initial_model.json"
FILES = ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star", RECORD)
_ALIKE = 0.05
"""Part of the best log-likelihood within which another beginning is as good."""
_LABEL = "protein bright"


def about_model(found: InitialModel, params: InitialModelParams, job: ParticleJob) -> dict[str, Any]:
    """A map in numbers."""
    return {
        "version": __version__,
        "particles": int((found.average.tilts_used > 0).sum()),
        "images": int(found.average.tilts_used.sum()),
        "pixel_size_angstrom": found.average.voxel_size_angstrom,
        "box_size": job.params.box_size,
        "start_detail_angstrom": found.start.detail_angstrom,
        "resolution_angstrom": finite(found.average.correlation.resolution_angstrom),
        "resolutions_angstrom": [finite(r) for r in found.resolutions_angstrom],
        "initial_model": params.model_dump(mode="json"),
        "table": str(job.table),
    }


def about_starts(starts: Sequence[StartModel]) -> dict[str, Any]:
    """Beginnings with one map, the best first."""
    evidence = [s.evidence for s in starts]
    return {
        "held_out_evidence": evidence,
        "starts_alike": starts_alike(evidence),
        "start_particles": [s.particles for s in starts],
    }


def starts_alike(evidence: Sequence[float]) -> int:
    """How many beginnings are as good as the best, which comes first."""
    return sum(e >= evidence[0] - _ALIKE * abs(evidence[0]) for e in evidence)


def doubts(found: InitialModel) -> list[str]:
    """What speaks against a map."""
    if found.goes_beyond_start:
        return []
    return [
        f"The halves agree to no finer detail than the {found.start.detail_angstrom:.0f} A of the map that both began with. "
        "Nothing here shows that the map is right: look at the picks, or give more of them."
    ]


def lone_start(evidence: Sequence[float], params: InitialModelParams) -> list[str]:
    """A warning where the best beginning stands alone."""
    if len(evidence) < 2 or starts_alike(evidence) > 1 or params.random_conical_tilt:
        return []
    return [
        "No other beginning came as far as the best one. Give more --starts, and see whether the best one is found again."
    ]


def posed(particles: ParticleSet, found: InitialModel, halves: NDArray[np.int64]) -> ParticleSet:
    """Particles in their poses, those without an image left out."""
    poses = found.poses
    moved = particles.with_positions(particles.positions_angstrom + poses.shifts_angstrom)
    out = moved.with_rotations(poses.rotations).with_scores(poses.scores).with_column(SUBSET, halves.astype(np.float64))
    out = out.with_column(SIGMA_DEG, poses.sigma_deg).with_column(SIGMA_ANGSTROM, poses.sigma_angstrom)
    return out.select(found.average.tilts_used > 0)


def write_model(
    output: Path, job: ParticleJob, particles: ParticleSet, found: InitialModel, about: dict[str, Any]
) -> None:
    """Maps, their agreement, posed particles and the record."""
    make_folder(output)
    average = found.average
    for name, volume in (
        ("map.mrc", found.volume),
        ("half1.mrc", average.half1),
        ("half2.mrc", average.half2),
        ("mask.mrc", average.mask),
    ):
        data = volume.cpu().numpy().astype(np.float32)
        write_mrc(output / name, data, average.voxel_size_angstrom, labels=(_LABEL,))
    write_fsc(output / "fsc.star", average.correlation)
    write_list(output, job, particles)
    write_record(output, about)


def write_list(output: Path, job: ParticleJob, particles: ParticleSet) -> None:
    """`particles.star`."""
    pixels = {name: s.pixel_size_angstrom for name, s in job.series.items()}
    write_relion_particles(output / "particles.star", particles, pixel_sizes_angstrom=pixels)


def write_record(output: Path, about: dict[str, Any]) -> None:
    """`initial_model.json`."""
    write_text_atomic(output / RECORD, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def remove_stale(output: Path, kept: Collection[Path]) -> None:
    """Take away maps and lists of an earlier run, as of classes that there are no more; all but those kept."""
    stay = {path.resolve() for path in kept}
    for folder in (output, *output.glob("class_*")):
        for path in (folder / name for name in FILES):
            if path.is_file() and path.resolve() not in stay:
                path.unlink()


def finite(value: float) -> float | None:
    """For records, which hold no NaN."""
    return float(value) if math.isfinite(value) else None
