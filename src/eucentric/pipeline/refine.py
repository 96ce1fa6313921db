"""`eucentric refine`: maps and sub-tilt refinement in turns, on disk, from averages to better ones and a better geometry."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.averaging.correlate_maps import correlate_halves
from eucentric.averaging.half_sets import SUBSET
from eucentric.averaging.iterate_average import compared_detail, diameter_of, on_voxels
from eucentric.averaging.iterate_schedule import box_for, pixel_size_for
from eucentric.averaging.results import AverageResult
from eucentric.errors import InputError, ProcessingError
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.optics_group_names import groups_of_optics
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.executors import Executor, InProcess
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.pipeline.images import read_deformation
from eucentric.pipeline.iteration_files import UNFINISHED, last_iteration, remove_iterations
from eucentric.pipeline.refine_files import RECORD, write_refined, write_round_curves, write_signals
from eucentric.pipeline.refine_hand import check_given_maps
from eucentric.pipeline.refine_maps import SummedSpecies, sum_species
from eucentric.pipeline.refine_optics import optics_apart, with_optics
from eucentric.pipeline.refine_species import Species, open_species
from eucentric.pipeline.refine_state import TABLE, RoundState, is_shared
from eucentric.pipeline.refine_work import SeriesDone, SeriesTask, SpeciesMaps, refine_task
from eucentric.pipeline.reprojecting import project_of
from eucentric.pipeline.series_tables import series_mark
from eucentric.pipeline.store import ItemStore
from eucentric.refinement.leave_out import parts_of_halves
from eucentric.refinement.params import RefineParams
from eucentric.refinement.results import SeriesMemory

OnStep = Callable[[str, float], None]
_JOINED = 40.0
"""A; coarser detail of references is that of both halves."""
_WORSE = 0.01
"""Part of the area under the FSC that a round may lose, as the mean of all particles, before it is taken back."""
_MUCH_WORSE = 0.05
"""The same of any one species: of few particles it scatters by per cents."""
_WIDER = 1.4
"""Box over the particle's diameter, of what is compared: what defocus spreads further lies in the windows about it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refined:
    """What was made."""

    folder: Path
    state: RoundState
    results: Mapping[str, AverageResult]
    caveats: tuple[str, ...]
    failed: Mapping[str, str]
    """Series that could not be refined, and why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefineJob:
    """What all rounds share."""

    species: tuple[Species, ...]
    table: Path
    project: Path
    output: Path
    params: RefineParams
    device: torch.device
    executor: Executor
    fingerprint: str
    on_step: OnStep | None = None

    @property
    def rounds(self) -> Path:
        return self.output / "rounds"

    def tell(self, what: str, part: float) -> None:
        if self.on_step is not None:
            self.on_step(what, part)

    def particle_job(self, species: Species, state: RoundState, folder: Path) -> ParticleJob:
        """The particles of a species as a round left them."""
        particles = state.particles[species.name]
        series = {s.name: s for s in state.series if s.name in set(particles.tomogram_names)}
        pixel = species.extract.pixel_size_angstrom or max(s.pixel_size_angstrom for s in series.values())
        return ParticleJob(
            particles=particles,
            table=folder / TABLE,
            series=series,
            params=species.extract,
            pixel_size_angstrom=pixel,
            device=self.device,
        )

    def maps(self, state: RoundState, folder: Path, what: str) -> dict[str, SummedSpecies]:
        """Maps of all species from the poses and the geometry of a round."""
        out = {}
        for number, species in enumerate(self.species):
            self.tell(what, number / len(self.species))
            job = self.particle_job(species, state, folder)
            parts = parts_of_halves(species.halves, self.params.parts, seed=self.params.seed)
            out[species.name] = sum_species(job, species.average, parts, self.params.parts, self.executor)
        self.tell(what, 1.0)
        return out


def refine(
    folders: Sequence[Path],
    output: Path,
    params: RefineParams,
    *,
    device: torch.device,
    executor: Executor,
    table: Path | None = None,
    only: Sequence[str] = (),
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Refined:
    """Refine tilt series by the particles in them, and the particles, in rounds, until the maps get no better.

    What was done before with the same settings is gone on with: every round has a folder, whole or not there.

    Parameters
    ----------
    folders : of `eucentric average` or of an earlier refinement, one for each species
    output : folder to be filled, in the project
    table : tilt series in place of those that the averages name
    only : names of series to refine; all where empty
    executor : series are shared among its workers

    Raises
    ------
    InputError : wrong input, or results made with other settings that would be replaced unasked
    """
    species, table = open_species(folders, table)
    _check_names(only, species)
    project, output = project_of(table), output.resolve()
    if not output.is_relative_to(project.resolve()):
        raise InputError(
            f"`{output}` lies outside of `{project}`, the project that the images are in, and its tables could not name them. Give an "
            "--output in it, such as refine/all."
        )
    mark = _fingerprint(species, table, project, params, only)
    job = RefineJob(
        species=species,
        table=table,
        project=project,
        output=output,
        params=params,
        device=device,
        executor=executor,
        fingerprint=mark,
        on_step=on_step,
    )
    last, others = last_iteration(job.rounds, mark)
    if others and not overwrite:
        raise InputError(
            f"`{output}` holds results made with other settings or particles. Give another --output, or replace them with "
            "--overwrite."
        )
    if overwrite and others:
        remove_iterations(job.rounds)
        (output / RECORD).unlink(missing_ok=True)
        shutil.rmtree(output / "signal", ignore_errors=True)
        last = -1
    if last < 0:
        _start(job).write(job.rounds / "000", project, mark)
        last = 0
    return _rounds(job, last, only)


def _check_names(only: Sequence[str], species: Sequence[Species]) -> None:
    known = sorted({name for one in species for name in one.particles.tomogram_names})
    missing = [name for name in only if name not in known]
    if missing:
        raise InputError(
            f"--only names {', '.join(missing)}, where the averages have no particles; they have some in {', '.join(known[:10])}."
        )


def _rounds(job: RefineJob, last: int, only: Sequence[str]) -> Refined:
    here = job.rounds / f"{last:03d}"
    state = RoundState.read(here, job.project)
    maps: Mapping[str, SummedSpecies] = job.maps(
        state, here, "maps to begin with" if last == 0 else f"maps of round {last}"
    )
    if last == 0:
        for species in job.species:
            check_given_maps(species, maps[species.name])
        state = replace(state, history=({"number": 0, "species": _figures(maps), "accepted": True},))
        write_round_curves(here, maps)
    while not _settled(job.params, state):
        number = int(state.history[-1]["number"]) + 1
        done = _refine_all(job, state, maps, number, only)
        if all(d.refinement is None for d in done):
            raise ProcessingError(f"No series could be refined. {done[0].failure}")
        place = job.rounds / f"{number:03d}"
        state, maps = _judged(job, state, maps, done, place)
        write_round_curves(place, maps)
        if state.history[-1]["accepted"]:
            write_signals(job.output, state, done)
        state.write(place, job.project, job.fingerprint)
    last_figures = state.history[-1].get("series", {})
    failed = {name: str(of["failure"]) for name, of in last_figures.items() if of.get("failure")}
    caveats = [f"{name} could not be refined and is as it was: {why}" for name, why in failed.items()]
    if not state.history[-1]["accepted"]:
        caveats.append(
            f"Round {state.history[-1]['number']} was taken back: the halves of a map agreed less than before it."
        )
    caveats += optics_apart(job.params, state)
    jobs = {s.name: job.particle_job(s, state, job.output) for s in job.species}
    told = write_refined(job.output, job.project, state, jobs, job.species, maps, job.params, job.table, caveats)
    results = {name: m.result for name, m in maps.items()}
    return Refined(folder=job.output, state=state, results=results, caveats=told, failed=failed)


def _judged(
    job: RefineJob,
    state: RoundState,
    maps: Mapping[str, SummedSpecies],
    done: Sequence[SeriesDone],
    place: Path,
) -> tuple[RoundState, Mapping[str, SummedSpecies]]:
    """The state and the maps after a round, or those before it where the halves then agree less."""
    number = int(state.history[-1]["number"]) + 1
    after = with_optics(_merged(state, done, number), done, job.params)
    after.write(place, job.project, UNFINISHED)
    after = RoundState.read(place, job.project)  # as it will be gone on with, paths and rounding too
    made = job.maps(after, place, f"maps of round {number}")
    areas = _areas(maps, made)
    ratios = {name: new / max(old, 1e-9) for name, (old, new) in areas.items()}
    counts = {s.name: len(s.particles) for s in job.species}
    mean = sum(counts[name] * ratio for name, ratio in ratios.items()) / sum(counts.values())
    accepted = mean >= 1.0 - _WORSE and min(ratios.values()) >= 1.0 - _MUCH_WORSE
    figures = {
        "number": number,
        "species": _figures(made),
        "areas": {name: list(pair) for name, pair in areas.items()},
        "accepted": accepted,
        "series": {d.name: _series_figures(d) for d in done},
        "optics": {
            name: [t.as_json() for t in memory.trials] for name, memory in after.memory.items() if is_shared(name)
        },
    }
    history = (*state.history, figures)
    if accepted:
        return replace(after, history=history), made
    return replace(state, number=number, history=history), maps


def _start(job: RefineJob) -> RoundState:
    series = read_tilt_series_set(job.table, job.project)
    known = {s.name for s in series}
    for species in job.species:
        missing = [n for n in species.particles.tomogram_names if n not in known]
        if missing:
            raise InputError(
                f"`{job.table}` has no series {', '.join(missing[:5])}, of which `{species.folder}` has particles."
            )
    stores = {s.name: ItemStore(job.project, "", s.name) for s in series}
    return RoundState(
        number=0,
        series=tuple(series),
        deformations={s.name: read_deformation(s, stores[s.name]) for s in series},
        particles={s.name: s.particles for s in job.species},
        memory={},
        groups=dict(zip((s.name for s in series), groups_of_optics(series), strict=True)),
        history=(),
    )


def _refine_all(
    job: RefineJob, state: RoundState, results: Mapping[str, SummedSpecies], number: int, only: Sequence[str]
) -> list[SeriesDone]:
    maps = _maps(job, state, results)
    tasks = []
    for series in state.series:
        rows = [np.flatnonzero(state.particles[s.name].tomograms == series.name) for s in job.species]
        own = [state.particles[s.name].select(r) for s, r in zip(job.species, rows, strict=True)]
        if not sum(len(p) for p in own) or (only and series.name not in only):
            continue
        held = [i for i, p in enumerate(own) if len(p)]
        tasks.append(
            SeriesTask(
                series=series,
                table=job.rounds / f"{state.number:03d}" / TABLE,
                species=tuple(maps[i] for i in held),
                particles=tuple(own[i] for i in held),
                compared=tuple(results[job.species[i].name].sums.part[rows[i]] for i in held),
                params=job.params,
                memory=state.memory.get(series.name, SeriesMemory()),
                device=str(job.device),
            )
        )
    what = f"round {number}, {len(tasks)} series"
    if not isinstance(job.executor, InProcess):
        job.tell(what, 0.0)
        done = job.executor.map(refine_task, tasks)
        job.tell(what, 1.0)
        return done
    done = []
    for task in tasks:
        job.tell(what, len(done) / len(tasks))
        done.append(refine_task(task))
    job.tell(what, 1.0)
    return done


def _maps(job: RefineJob, state: RoundState, results: Mapping[str, SummedSpecies]) -> list[SpeciesMaps]:
    """References of all species on the same pixels, which hold the finest of their detail."""
    prepared = []
    for species in job.species:
        made = results[species.name]
        detail = max(compared_detail(made.result.correlation), job.params.finest_angstrom)
        volumes = made.sums.references(
            made.result, species.average.symmetry, finest_angstrom=detail, joined_angstrom=max(_JOINED, detail)
        )
        diameter = diameter_of(made.result.volume * made.result.mask, made.result.voxel_size_angstrom)
        prepared.append((species, made.result, detail, diameter, volumes))
    image = max(s.pixel_size_angstrom for s in state.series)
    pixel = pixel_size_for(min(p[2] for p in prepared), image, image)
    out = []
    for species, result, detail, diameter, volumes in prepared:
        edge = min(_WIDER * diameter, len(result.half1) * result.voxel_size_angstrom)
        box = box_for(edge, pixel)
        sampled = species.extract.replace(
            box_size=box, pixel_size_angstrom=pixel, max_tilt_deg=90.0, max_dose=0.0, padding=2
        )
        out.append(
            SpeciesMaps(
                name=species.name,
                extract=sampled,
                references=tuple(on_voxels(v, result.voxel_size_angstrom, pixel, box).cpu() for v in volumes),
                finest_angstrom=detail,
                resolution_angstrom=result.correlation.resolution_angstrom,
            )
        )
    return out


def _merged(state: RoundState, done: Sequence[SeriesDone], number: int) -> RoundState:
    """The state with what the series that were refined say."""
    series = {s.name: s for s in state.series}
    deformations, memory = dict(state.deformations), dict(state.memory)
    particles = dict(state.particles)
    for one in done:
        if one.refinement is None:
            continue
        new = one.refinement.state
        series[one.name] = new.series
        deformations[one.name] = new.deformation
        memory[one.name] = one.refinement.memory
        for name, part in zip(one.species, new.particles, strict=True):
            particles[name] = _replaced(particles[name], one.name, part.positions_angstrom, part.rotations)
    return replace(
        state,
        number=number,
        series=tuple(series[s.name] for s in state.series),
        deformations=deformations,
        particles=particles,
        memory=memory,
    )


def _replaced(particles: ParticleSet, tomogram: str, positions: np.ndarray, rotations: np.ndarray) -> ParticleSet:
    rows = particles.tomograms == tomogram
    places, turns = particles.positions_angstrom.copy(), particles.rotations.copy()
    places[rows], turns[rows] = positions, rotations
    return particles.with_positions(places).with_rotations(turns)


def _areas(before: Mapping[str, SummedSpecies], after: Mapping[str, SummedSpecies]) -> dict[str, tuple[float, float]]:
    """Area under the FSC of both, in the same mask."""
    out = {}
    for name, old in before.items():
        curves = [
            correlate_halves(r.half1, r.half2, r.voxel_size_angstrom, old.result.mask, seed=0).corrected
            for r in (old.result, after[name].result)
        ]
        out[name] = float(curves[0][1:].clip(0.0).mean()), float(curves[1][1:].clip(0.0).mean())
    return out


def _settled(params: RefineParams, state: RoundState) -> bool:
    rounds = state.history
    if not rounds[-1]["accepted"] or len(rounds) - 1 >= params.rounds:
        return True
    if len(rounds) < 2:
        return False
    gains = [new / old - 1.0 for old, new in rounds[-1]["areas"].values()]
    return bool(max(gains) < params.gain)


def _figures(results: Mapping[str, SummedSpecies]) -> dict[str, Any]:
    return {
        name: {
            "resolution_angstrom": _finite(m.result.correlation.resolution_angstrom),
            "particles": int((m.result.halves > 0).sum()),
        }
        for name, m in results.items()
    }


def _series_figures(done: SeriesDone) -> dict[str, Any]:
    if done.refinement is None:
        return {"failure": done.failure}
    return {
        "images": done.refinement.images,
        "log_likelihood": list(done.refinement.log_likelihood),
        "groups": [t.as_json() for t in done.refinement.memory.trials],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _fingerprint(
    species: Sequence[Species], table: Path, project: Path, params: RefineParams, only: Sequence[str]
) -> str:
    """Of everything that decides the result."""
    digest = hashlib.sha256(json.dumps([params.model_dump(mode="json"), sorted(only)], sort_keys=True).encode())
    for series in read_tilt_series_set(table, project):
        digest.update(series_mark(series, project))
    for one in species:
        settings = [
            one.name,
            one.particles.tomograms.tolist(),
            one.extract.model_dump(mode="json"),
            one.average.model_dump(mode="json"),
        ]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        for values in (one.particles.positions_angstrom, one.particles.rotations, one.particles.columns[SUBSET]):
            digest.update(values.tobytes())
    return digest.hexdigest()[:32]
