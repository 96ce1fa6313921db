"""`eucentric average --auto`: alignment and averaging in turns, on disk, from a list of particles to a map."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_results import FoundPoses
from eucentric.averaging.half_sets import SUBSET, assign_halves
from eucentric.averaging.iterate_average import average_of, compared_detail, on_voxels
from eucentric.averaging.iterate_schedule import Round, box_for, is_settled, next_search, pixel_size_for
from eucentric.averaging.params import AverageParams
from eucentric.averaging.results import AverageResult
from eucentric.errors import InputError
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.io.atomic import write_text_atomic
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.align_parts import ReferenceMaps
from eucentric.pipeline.average_files import FILES, caveats_of, finish_average, write_average
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.extract_series import ParticleJob, list_of, open_particles
from eucentric.pipeline.iterate_caveats import EVIDENCE, iterate_caveats, prior_caveats
from eucentric.pipeline.iterate_job import IterateJob, IterateSettings, OnStep, filtered_references
from eucentric.pipeline.iterate_start import start_map
from eucentric.pipeline.iteration_files import Iteration, last_iteration, remove_iterations
from eucentric.pipeline.particle_run import ParticleRun
from eucentric.pipeline.reprojecting import project_of
from eucentric.pipeline.series_tables import series_mark

SIGMA_DEG, SIGMA_ANGSTROM = "eucPoseSigmaDeg", "eucPoseSigmaAngst"
RECORD = "iterations.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IteratedAverage:
    """What was made."""

    folder: Path
    result: AverageResult
    particles: int
    rounds: tuple[Round, ...]
    caveats: tuple[str, ...]


def iterate_average(
    target: Path,
    output: Path,
    settings: IterateSettings,
    *,
    device: torch.device,
    table: Path | None = None,
    reference: Path | None = None,
    reference_pixel_size: float | None = None,
    kinds: Sequence[str] = (),
    overwrite: bool = False,
    executor: Executor | None = None,
    on_step: OnStep | None = None,
) -> IteratedAverage:
    """Align and average particles in turns until nothing gets better.

    What was done before with the same settings is gone on with: every iteration has a folder, whole or not there.

    Parameters
    ----------
    target, table : as :func:`eucentric.pipeline.extract_series.open_particles`
    output : folder to be filled
    reference : structure or map as start; the average of the poses given where None
    reference_pixel_size : A, of a map whose header holds none
    kinds : classes of particles to take; all where empty
    executor : of workers among which particles are shared; all in this process where None
    on_step : told what is being done and which part of it is done

    Raises
    ------
    InputError : wrong input, or results made with other settings that would be replaced unasked
    """
    opened = _opened(target, settings, table, kinds, device)
    _check_start(opened.particles, settings, reference)
    mark = _fingerprint(opened, settings, reference)
    folder = output / "iterations"
    last, others = last_iteration(folder, mark)
    finished = (output / FILES[-1]).exists()
    if (others or (finished and last < 0)) and not overwrite:
        raise InputError(
            f"`{output}` holds results made with other settings or particles. Give another --output, or replace them with "
            "--overwrite."
        )
    if overwrite and (others or finished):
        remove_iterations(folder)
        last = -1
    distance = settings.average.half_distance_angstrom or 0.5 * opened.params.box_size * opened.pixel_size_angstrom
    halves = assign_halves(opened.particles, distance, seed=settings.average.seed)
    job = IterateJob(
        opened=opened, average=settings.average, iterate=settings.iterate, halves=halves, executor=executor
    )
    if last < 0:
        # what an earlier search said of another prior is not this one's
        listed = opened.particles.without_column(EVIDENCE).with_column(SUBSET, halves.astype(np.float64))
        start_map(job, listed, reference, reference_pixel_size, on_step).write(folder / "000", mark, None)
        last = 0
    run = ParticleRun.begin(
        output,
        "average",
        opened,
        {key: getattr(settings, key).model_dump(mode="json") for key in ("extract", "average", "iterate")},
        inputs=[list_of(target), *([] if reference is None else [reference])],
        outputs=(),
        overwrite=True,
    )
    while True:
        before = Iteration.read(folder / f"{last:03d}")
        if is_settled(settings.iterate, before.history, job.finest_pixel):
            return _finish(job, before, run, on_step)
        after, result = _iterate(job, before, on_step)
        last += 1
        after.write(folder / f"{last:03d}", mark, result.correlation)


def _opened(
    target: Path, settings: IterateSettings, table: Path | None, kinds: Sequence[str], device: torch.device
) -> ParticleJob:
    opened = open_particles(target, settings.extract, table=table, device=device)
    if not kinds:
        return opened
    chosen = opened.particles.select(np.isin(opened.particles.kinds, list(kinds)))
    if not len(chosen):
        known = ", ".join(sorted(set(opened.particles.kinds)))
        raise InputError(f"`{target}` holds no particle of kind {', '.join(kinds)}; it has {known or 'no kinds'}.")
    return replace(opened, particles=chosen)


def _check_start(particles: ParticleSet, settings: IterateSettings, reference: Path | None) -> None:
    if particles.oriented:
        return
    if settings.iterate.prior != "none":
        raise InputError(
            f"The particles have no orientations for --prior {settings.iterate.prior} to be about. Pick with `eucentric "
            "pick-geometry`, or leave --prior out."
        )
    if reference is None:
        raise InputError(
            "The particles have no orientations to make a start map from. Give a structure or map with --reference, and "
            "--search global."
        )
    if settings.iterate.search != "global":
        raise InputError("The particles have no orientations to search about. Give --search global.")


def _fingerprint(opened: ParticleJob, settings: IterateSettings, reference: Path | None) -> str:
    """Of everything that decides the result."""
    particles = opened.particles
    values = [s.model_dump(mode="json") for s in (settings.extract, settings.average, settings.iterate)]
    digest = hashlib.sha256(json.dumps([values, particles.tomograms.tolist()], sort_keys=True).encode())
    digest.update(particles.positions_angstrom.tobytes())
    digest.update(particles.rotations.tobytes())
    for series in opened.series.values():
        digest.update(series_mark(series, project_of(opened.table)))
    digest.update(b"" if reference is None else reference.read_bytes())
    return digest.hexdigest()[:32]


def _iterate(job: IterateJob, before: Iteration, on_step: OnStep | None) -> tuple[Iteration, AverageResult]:
    """One iteration from what the one before left on disk."""
    pixel = pixel_size_for(before.low_pass_angstrom, job.image_pixel, job.finest_pixel)
    box = box_for(job.edge_angstrom, pixel)
    first, second = (on_voxels(volume, before.voxel_size_angstrom, pixel, box) for volume in before.references)
    references = ReferenceMaps(
        volumes=(first, second),
        voxel_size_angstrom=pixel,
        low_pass_angstrom=before.low_pass_angstrom,
        diameter_angstrom=min(before.diameter_angstrom, box * pixel),
    )
    params = _within_half_a_rise(next_search(job.iterate, before.history, pixel), job, before)
    number = before.history[-1].number + 1
    aligned = job.align(
        before.particles, references, pixel, box, params, on_step, f"iteration {number}", turn=before.turn
    )
    result = average_of(aligned, _with_helix(job.average, before), job.halves)
    low_pass = compared_detail(result.correlation)
    diameter, filtered = filtered_references(result, low_pass, job.iterate.start_low_pass_angstrom)
    poses = _within_a_rise(aligned.poses, job, before, result)
    seen = aligned.tilts_used > 0
    turned = symmetric_angle_deg(poses.rotations, before.particles.rotations, job.average.symmetry)
    moved = before.particles.with_positions(before.particles.positions_angstrom + poses.shifts_angstrom)
    done = moved.with_rotations(poses.rotations).with_scores(poses.scores)
    done = done.with_column(SIGMA_DEG, poses.sigma_deg).with_column(SIGMA_ANGSTROM, poses.sigma_angstrom)
    if poses.evidence is not None and EVIDENCE not in done.columns:  # later references were made under the prior
        done = done.with_column(EVIDENCE, poses.evidence)
    this = Round(
        number=number,
        pixel_size_angstrom=pixel,
        resolution_angstrom=result.correlation.resolution_angstrom,
        low_pass_angstrom=before.low_pass_angstrom,
        change_deg=float(np.median(turned[seen])),
        change_angstrom=float(np.median(np.linalg.norm(poses.shifts_angstrom[seen], axis=1))),
        score=float(np.median(poses.scores[seen])),
    )
    after = replace(
        before,
        history=(*before.history, this),
        particles=done,
        references=filtered,
        voxel_size_angstrom=result.voxel_size_angstrom,
        low_pass_angstrom=low_pass,
        diameter_angstrom=diameter,
        helix=_known(result),
    )
    return after, result


def _within_half_a_rise(params: AlignParams, job: IterateJob, before: Iteration) -> AlignParams:
    """The settings of a search along filaments: a unit further on all is the same."""
    helix = _with_helix(job.average, before).helix
    if helix is None or params.shift_along_angstrom or not params.of_axes:
        return params
    return params.replace(shift_along_angstrom=0.5 * helix.rise_angstrom)


def _known(result: AverageResult) -> tuple[float, float] | None:
    return None if result.helix is None else (result.helix.helix.rise_angstrom, result.helix.helix.twist_deg)


def _with_helix(params: AverageParams, known: Iteration) -> AverageParams:
    """The settings with rise and twist as an iteration left them."""
    helix = params.helix
    if helix is None or known.helix is None:
        return params
    return params.with_helix(replace(helix, rise_angstrom=known.helix[0], twist_deg=known.helix[1]))


def _within_a_rise(poses: FoundPoses, job: IterateJob, before: Iteration, result: AverageResult) -> FoundPoses:
    """Poses as found, moved along a helix by whole units to be near the places that were given."""
    if result.helix is None:
        return poses
    places = before.particles.positions_angstrom
    moved, turned = result.helix.helix.brought_back(
        places + poses.shifts_angstrom, poses.rotations, job.opened.particles.positions_angstrom
    )
    return replace(poses, rotations=turned, shifts_angstrom=moved - places)


def _finish(job: IterateJob, last: Iteration, run: ParticleRun, on_step: OnStep | None) -> IteratedAverage:
    """The map at full sampling from the poses of the last iteration."""
    output, pixel, box = run.folder, job.finest_pixel, job.opened.params.box_size
    aligned = job.align(last.particles, None, pixel, box, AlignParams(), on_step, "the last average")
    params = _with_helix(job.average, last)
    result = average_of(aligned, params, job.halves)
    used = aligned.tilts_used > 0
    caveats = job.opened.caveats() + iterate_caveats(last, result, used) + prior_caveats(job, last, used)
    about = write_average(output, replace(job.opened, particles=last.particles), result, params)
    caveats += caveats_of(about)
    values = {
        "iterate": job.iterate.model_dump(mode="json"),
        "turn_of_reference": last.turn.tolist(),
        "rounds": [r.as_json() for r in last.history],
        "caveats": list(caveats),
    }
    write_text_atomic(output / RECORD, json.dumps(values, indent=1) + "\n")
    finish_average(run, about, caveats)
    return IteratedAverage(
        folder=output, result=result, particles=int(used.sum()), rounds=last.history, caveats=caveats
    )
