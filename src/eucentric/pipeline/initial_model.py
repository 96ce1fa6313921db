"""`eucentric initial-model`: a first map from picks without orientations, on disk."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric import __version__
from eucentric.averaging.ab_initio import StartModel, find_starts
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import InitialModel, refine_start
from eucentric.averaging.conical_tilt import find_conical_starts
from eucentric.averaging.half_sets import SUBSET, assign_halves
from eucentric.averaging.iterate_schedule import box_for
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.average_files import write_fsc
from eucentric.pipeline.extract_series import ParticleJob, list_of, open_particles
from eucentric.pipeline.iterate_average import SIGMA_ANGSTROM, SIGMA_DEG
from eucentric.pipeline.iterate_job import OnStep
from eucentric.pipeline.particle_run import ParticleRun

RECORD = "initial_model.json"
FILES = ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star", RECORD)
_EDGE = 1.6
"""Edge of the boxes over the particle's diameter: room for wrong places and for what defocus spreads."""
_SAMPLES = 3.0
"""Pixels to the finest detail."""
_ALIKE = 0.05
"""Part of the best log-likelihood within which another beginning is as good."""
_LABEL = "protein bright"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InitialModelMade:
    """What was written."""

    folder: Path
    about: dict[str, Any]
    """As `initial_model.json` holds it."""
    was_current: bool
    """Whether the folder held it already."""


def make_initial_model(
    target: Path,
    output: Path,
    params: InitialModelParams,
    *,
    device: torch.device,
    table: Path | None = None,
    kinds: Sequence[str] = (),
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> InitialModelMade:
    """A map and poses from particles of unknown orientation; what the list says of orientations is not looked at.

    Parameters
    ----------
    target, table : as :func:`eucentric.pipeline.extract_series.open_particles`
    output : folder for map.mrc, half1.mrc, half2.mrc, mask.mrc, fsc.star, particles.star, initial_model.json
    kinds : classes of particles to take; all where empty

    Raises
    ------
    InputError : too few particles, none of the kinds, images too coarse, files in the way
    """
    job = _opened(target, params, table, kinds, device)
    run = ParticleRun.begin(
        output,
        "initial-model",
        job,
        {"initial_model": params.model_dump(mode="json"), "kinds": sorted(kinds)},
        inputs=[list_of(target)],
        outputs=[output / name for name in FILES],
        overwrite=overwrite,
    )
    if run.is_current:
        about = json.loads((output / RECORD).read_text(encoding="utf-8"))
        return InitialModelMade(folder=output, about=about, was_current=True)
    images, particles = _read_images(job, on_step)
    halves = assign_halves(particles, 0.5 * job.params.box_size * job.pixel_size_angstrom, seed=params.seed)

    def starting(part: float) -> None:
        if on_step is not None:
            conical = params.random_conical_tilt
            on_step("sorting untilted images" if conical else "beginnings from chance orientations", part)

    def refining(part: float) -> None:
        if on_step is not None:
            on_step("aligning the halves to the best one", part)

    find = find_conical_starts if params.random_conical_tilt else find_starts
    starts = find(images, params, on_step=starting)
    found = refine_start(images, starts[0], halves, params, on_step=refining)
    evidence = [s.evidence for s in starts]
    about = _about(found, starts, params, job)
    _write(output, job, particles, found, halves, about)
    resolution = about["resolution_angstrom"]
    metrics = {"particles": float(about["particles"]), "evidence": evidence[0], "resolution_angstrom": resolution}
    run.finish([output / name for name in FILES], metrics, about["caveats"])
    return InitialModelMade(folder=output, about=about, was_current=False)


def _opened(
    target: Path, params: InitialModelParams, table: Path | None, kinds: Sequence[str], device: torch.device
) -> ParticleJob:
    """Particles in small boxes of coarse pixels, a random part of them where there are many."""
    pixel = params.low_pass_angstrom / _SAMPLES
    box = box_for(_EDGE * params.diameter_angstrom, pixel)
    extract = ExtractParams(
        box_size=box,
        pixel_size_angstrom=pixel,
        ctf=params.ctf,
        dose_weighting=params.dose_weighting,
        min_tilts=params.min_tilts,
    )
    job = open_particles(target, extract, table=table, device=device)
    finest = max(s.pixel_size_angstrom for s in job.series.values())
    if finest > pixel:
        raise InputError(
            f"Detail of {params.low_pass_angstrom:g} A needs pixels of {pixel:g} A, and the images have {finest:g} A. Give "
            f"--low-pass-angstrom {math.ceil(_SAMPLES * finest)} or more."
        )
    particles = job.particles
    if kinds:
        particles = particles.select(np.isin(particles.kinds, list(kinds)))
        if not len(particles):
            known = ", ".join(sorted(set(job.particles.kinds)))
            raise InputError(f"`{target}` holds no particle of kind {', '.join(kinds)}; it has {known or 'no kinds'}.")
    if len(particles) > params.particles:
        rng = np.random.default_rng(params.seed)
        particles = particles.select(np.sort(rng.choice(len(particles), params.particles, replace=False)))
    return replace(job, particles=particles, series={name: job.series[name] for name in particles.tomogram_names})


def _read_images(job: ParticleJob, on_step: OnStep | None) -> tuple[ParticleImages, ParticleSet]:
    """All images, and the particles in their order."""
    parts, rows = [], []
    for batch, some in job.batches():
        parts.append(batch)
        rows.append(some)
        if on_step is not None:
            on_step("reading images", sum(map(len, rows)) / len(job))
    return ParticleImages.joined(parts), job.particles.select(np.concatenate(rows))


def _about(
    found: InitialModel, starts: list[StartModel], params: InitialModelParams, job: ParticleJob
) -> dict[str, Any]:
    evidence = [s.evidence for s in starts]
    resolution = found.average.correlation.resolution_angstrom
    alike = sum(e >= evidence[0] - _ALIKE * abs(evidence[0]) for e in evidence)
    seen = found.average.tilts_used > 0
    caveats = []
    if not found.goes_beyond_start:
        caveats.append(
            f"The halves agree to no finer detail than the {found.start.detail_angstrom:.0f} A of the map that both began with. "
            "Nothing here shows that the map is right: look at the picks, or give more of them."
        )
    if len(evidence) > 1 and alike == 1 and not params.random_conical_tilt:
        caveats.append(
            "No other beginning came as far as the best one. Give more --starts, and see whether the best one is found again."
        )
    return {
        "version": __version__,
        "particles": int(seen.sum()),
        "images": int(found.average.tilts_used.sum()),
        "pixel_size_angstrom": found.average.voxel_size_angstrom,
        "box_size": job.params.box_size,
        "start_detail_angstrom": found.start.detail_angstrom,
        "held_out_evidence": evidence,
        "starts_alike": alike,
        "start_particles": [s.particles for s in starts],
        "resolution_angstrom": float(resolution) if math.isfinite(resolution) else None,
        "resolutions_angstrom": [float(r) if math.isfinite(r) else None for r in found.resolutions_angstrom],
        "initial_model": params.model_dump(mode="json"),
        "table": str(job.table),
        "caveats": caveats,
    }


def _write(
    output: Path,
    job: ParticleJob,
    particles: ParticleSet,
    found: InitialModel,
    halves: np.ndarray,
    about: dict[str, Any],
) -> None:
    make_folder(output)
    average, poses = found.average, found.poses
    for name, volume in (
        ("map.mrc", found.volume),
        ("half1.mrc", average.half1),
        ("half2.mrc", average.half2),
        ("mask.mrc", average.mask),
    ):
        data = volume.cpu().numpy().astype(np.float32)
        write_mrc(output / name, data, average.voxel_size_angstrom, labels=(_LABEL,))
    write_fsc(output / "fsc.star", average.correlation)
    moved = particles.with_positions(particles.positions_angstrom + poses.shifts_angstrom)
    posed = (
        moved.with_rotations(poses.rotations).with_scores(poses.scores).with_column(SUBSET, halves.astype(np.float64))
    )
    posed = posed.with_column(SIGMA_DEG, poses.sigma_deg).with_column(SIGMA_ANGSTROM, poses.sigma_angstrom)
    seen = posed.select(average.tilts_used > 0)
    pixels = {name: s.pixel_size_angstrom for name, s in job.series.items()}
    write_relion_particles(output / "particles.star", seen, pixel_sizes_angstrom=pixels)
    write_text_atomic(output / RECORD, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
