"""`eucentric average`: a map from particles with known poses, on disk."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric import __version__
from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.half_sets import SUBSET, assign_halves
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.results import AverageResult, HalfMapCorrelation, HelixUsed
from eucentric.errors import InputError
from eucentric.io import labels
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.star import write_star
from eucentric.pipeline.align_parts import AlignPart, align_parts
from eucentric.pipeline.average_ctf import note_ctf
from eucentric.pipeline.curation_lists import is_unoriented
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.extract_series import ParticleJob, list_of, open_particles
from eucentric.pipeline.half_maps import RECORD, read_about
from eucentric.pipeline.map_measures import MEASURES, measure_average
from eucentric.pipeline.particle_run import ParticleRun
from eucentric.pipeline.reprojecting import read_volume

FILES = ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "fsc.star", "particles.star", *MEASURES, RECORD)
_BRIGHT = "protein bright"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AverageMade:
    """What was written."""

    folder: Path
    particles: int
    images: int
    resolution_angstrom: float
    """Infinite where the halves do not agree."""
    seconds: float
    about: dict[str, Any]
    """As `average.json` holds it."""
    was_current: bool
    """Whether the folder held it already."""
    caveats: tuple[str, ...]
    """What the user should know of it."""


def average_list(
    target: Path,
    output: Path,
    extract: ExtractParams,
    params: AverageParams,
    *,
    device: torch.device,
    table: Path | None = None,
    mask: Path | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AverageMade:
    """Average particles with the poses of their list, straight from the tilt images; nothing else is stored.

    What the folder holds already of the same particles, series and settings is not made again.

    Parameters
    ----------
    target, table : as :func:`eucentric.pipeline.extract_series.open_particles`
    output : folder for map.mrc, half1.mrc, half2.mrc, mask.mrc, fsc.star, particles.star, average.json and what `map_measures` adds
    mask : volume of the map's size in place of one made
    executor : of workers among which particles are shared; all in this process where None

    Raises
    ------
    InputError : too few particles, poses or halves missing, masks that do not fit, files in the way
    """
    started = time.perf_counter()
    whole = open_particles(target, extract, table=table, device=device)
    job = _with_poses(whole)
    caveats = [*whole.caveats(), *_without_poses(len(whole) - len(job))]
    run = ParticleRun.begin(
        output,
        "average",
        job,
        {"extract": extract.model_dump(mode="json"), "average": params.model_dump(mode="json")},
        inputs=[list_of(target), *([] if mask is None else [mask])],
        outputs=[output / name for name in FILES],
        overwrite=overwrite,
    )
    about = read_about(output)
    if not run.is_current:
        given = None if mask is None else _read_mask(mask, job)
        result = average_job(job, params, mask=given, executor=executor, on_step=on_step)
        about = write_average(output, job, result, params)
        finish_average(run, about, caveats)
    return AverageMade(
        folder=output,
        particles=int(about.get("particles", 0)),
        images=int(about.get("images", 0)),
        resolution_angstrom=float(about.get("resolution_angstrom") or math.inf),
        seconds=time.perf_counter() - started,
        about=about,
        was_current=run.is_current,
        caveats=(*caveats, *caveats_of(about)),
    )


def _without_poses(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"{count} particle{'s' * (count > 1)} without an orientation {'were' if count > 1 else 'was'} left out: `eucentric average "
        "--auto` finds orientations."
    ]


def _with_poses(job: ParticleJob) -> ParticleJob:
    """Less the particles that were added by hand and have no pose; nothing but an alignment can give them one."""
    bare = is_unoriented(job.particles)
    return replace(job, particles=job.particles.select(~bare)) if bare.any() else job


def finish_average(run: ParticleRun, about: Mapping[str, Any], caveats: Sequence[str] = ()) -> None:
    """Record a finished average."""
    local, cones = about.get("local_resolution") or {}, about.get("directions") or {}
    metrics = {
        "particles": float(about["particles"]),
        "images": float(about["images"]),
        "resolution_angstrom": about["resolution_angstrom"],
        "local_resolution_median_angstrom": local.get("median_angstrom"),
        "anisotropy": cones.get("anisotropy"),
        "sampling_efficiency": about["sampling"]["efficiency"],
    }
    run.finish([run.folder / name for name in FILES], metrics, tuple(dict.fromkeys([*caveats, *caveats_of(about)])))


def caveats_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings that the record of an average holds, of its parts."""
    return tuple(c for part in ("sharpened", "ctf") for c in (about.get(part) or {}).get("caveats", ()))


def average_job(
    job: ParticleJob,
    params: AverageParams,
    *,
    mask: torch.Tensor | None = None,
    executor: Executor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AverageResult:
    """The average of opened particles with the poses that they have; shared among the workers of an executor."""
    distance = params.half_distance_angstrom or 0.5 * job.params.box_size * job.pixel_size_angstrom
    halves = assign_halves(job.particles, distance, seed=params.seed)
    count = len(job)
    made = align_parts(
        AlignPart(opened=job, halves=halves),
        executor,
        None if on_step is None else lambda part: on_step(round(part * count), count),
    )
    return average_halves(made.sums, params, halves=halves, tilts_used=made.tilts_used, mask=mask)


def write_average(output: Path, job: ParticleJob, result: AverageResult, params: AverageParams) -> dict[str, Any]:
    """Write maps, what is made of them, curves and particles; `average.json` with settings, which is returned, comes last."""
    make_folder(output)
    voxel = result.voxel_size_angstrom
    for name, volume in (
        ("map.mrc", result.volume),
        ("half1.mrc", result.half1),
        ("half2.mrc", result.half2),
        ("mask.mrc", result.mask),
    ):
        write_mrc(output / name, volume.cpu().numpy().astype(np.float32), voxel, labels=(_BRIGHT,))
    write_fsc(output / "fsc.star", result.correlation)
    particles = job.particles.with_column(SUBSET, result.halves.astype(np.float64)).with_column(
        labels.TILTS_USED, result.tilts_used.astype(np.float64)
    )
    pixels = {name: s.pixel_size_angstrom for name, s in job.series.items()}
    write_relion_particles(output / "particles.star", particles, pixel_sizes_angstrom=pixels)
    about: dict[str, Any] = {
        "version": __version__,
        "resolution_angstrom": _finite(result.correlation.resolution_angstrom),
        "particles": len(job),
        "images": int(result.tilts_used.sum()),
        "halves": [int((result.halves == half).sum()) for half in (1, 2)],
        "extract": job.params.model_dump(mode="json"),
        "average": params.model_dump(mode="json"),
        "table": str(job.table),
    }
    if result.helix is not None:
        about["helix"] = told_helix(result.helix)
    about |= measure_average(output, result, params.symmetry, particles)
    about["ctf"] = note_ctf(output, job, result)
    write_text_atomic(output / RECORD, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return about


def told_helix(used: HelixUsed) -> dict[str, float | None]:
    """Plain numbers of a helix for a record."""
    return {
        "rise_angstrom": used.helix.rise_angstrom,
        "twist_deg": used.helix.twist_deg,
        "sigma_rise_angstrom": _finite(used.sigma_rise_angstrom),
        "sigma_twist_deg": _finite(used.sigma_twist_deg),
        "score": _finite(used.score),
        "deviations": _finite(used.deviations),
    }


def write_fsc(path: Path, correlation: HalfMapCorrelation) -> None:
    """Curves as RELION's postprocess.star names them, and the resolution."""
    resolution = 1.0 / correlation.frequency
    write_star(
        path,
        {
            "general": {
                "rlnFinalResolution": [_finite(correlation.resolution_angstrom)],
                "rlnRandomiseFrom": [_finite(1.0 / correlation.randomised_from)],
            },
            "fsc": {
                "rlnSpectralIndex": list(range(len(resolution))),
                "rlnResolution": correlation.frequency.tolist(),
                "rlnAngstromResolution": resolution.tolist(),
                "rlnFourierShellCorrelationCorrected": correlation.corrected.tolist(),
                "rlnFourierShellCorrelationUnmaskedMaps": correlation.unmasked.tolist(),
                "rlnFourierShellCorrelationMaskedMaps": correlation.masked.tolist(),
                "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": correlation.randomised.tolist(),
            },
        },
    )


def _read_mask(path: Path, job: ParticleJob) -> torch.Tensor:
    volume, _ = read_volume(path, job.pixel_size_angstrom, job.device)
    n = job.params.box_size
    if tuple(volume.shape) != (n, n, n):
        raise InputError(
            f"The mask `{path}` has {' x '.join(map(str, volume.shape))} voxels, and the boxes {n} along each edge. Give one of the "
            "same size, or boxes of the mask's."
        )
    if float(volume.min()) < -1e-3 or float(volume.max()) > 1.001 or not float(volume.max()) > 0:
        raise InputError(f"The mask `{path}` holds values outside 0 to 1, or is empty.")
    return volume


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
