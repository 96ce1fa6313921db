"""`eucentric classify`: particles sorted into classes, on disk."""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric import __version__
from eucentric.averaging.classify_checks import Relation, caveats, relations
from eucentric.averaging.classify_params import ClassifyParams
from eucentric.averaging.classify_results import SortedSeveral
from eucentric.averaging.half_sets import SUBSET, assign_halves
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.results import AverageResult
from eucentric.errors import InputError
from eucentric.io import labels
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.pipeline.classify_job import OnStep, class_averages, sort_by_maps, sort_particles
from eucentric.pipeline.extract_series import ParticleJob, open_particles
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace
from eucentric.typing import FloatArray

_BRIGHT = "protein bright"
UNSTABLE = 0.5
SUMMARY = "classes.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassifyMade:
    """What was written."""

    folder: Path
    labels: np.ndarray
    """(particle,), the class of each, from 1, the largest first."""
    counts: tuple[int, ...]
    """Particles of each class."""
    resolutions_angstrom: tuple[float, ...]
    """Of the class maps; NaN where a class has too few particles for two halves."""
    found: SortedSeveral
    relations: tuple[Relation, ...]
    caveats: tuple[str, ...]
    seconds: float


def classify_list(
    target: Path,
    output: Path,
    extract: ExtractParams,
    params: ClassifyParams,
    *,
    device: torch.device,
    table: Path | None = None,
    mask: Path | None = None,
    references: tuple[Path, ...] = (),
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> ClassifyMade:
    """Sort particles into classes and average each class, straight from the tilt images.

    Parameters
    ----------
    target, table : as :func:`eucentric.pipeline.extract_series.open_particles`
    output : folder for particles.star, class_1.mrc and its halves, and so on, mask.mrc and classes.json
    mask : volume of 0 to 1 on the voxels of the boxes, in which classes may differ
    references : structures or maps, one for each class, for the method multi-reference

    Raises
    ------
    InputError : too few particles, settings that exclude each other, a mask that does not fit, files in the way
    """
    started = time.perf_counter()
    given = params.method == "multi-reference"
    _check(params, references, mask)
    params = params.replace(classes=len(references)) if given else params
    names = ["particles.star", SUMMARY, *(f"class_{k + 1}.mrc" for k in range(params.classes))]
    refuse_to_replace([output / name for name in names], [target, *references], overwrite)
    job = open_particles(target, extract, table=table, device=device)
    left_out = job.caveats()
    if len(job) < 2 * params.classes:
        raise InputError(
            f"{len(job)} particles are seen; expected {2 * params.classes} or more for {params.classes} classes of two halves."
        )
    focus = None if mask is None else _read_focus(mask, job)
    if given:
        job, found = sort_by_maps(job, params, references, on_step)
    else:
        job, found, focus = sort_particles(job, params, focus, on_step)
    averages, tilts = class_averages(job, params, found.best, on_step)
    properties = nuisances(job, tilts)
    related = tuple(relations(found.best.labels, properties))
    counts = tuple(int((found.best.labels == k).sum()) for k in range(params.classes))
    made = ClassifyMade(
        folder=output,
        labels=found.best.labels + 1,
        counts=counts,
        resolutions_angstrom=tuple(
            math.nan if a is None else float(a.correlation.resolution_angstrom) for a in averages
        ),
        found=found,
        relations=related,
        caveats=(*left_out, *caveats(list(related)), *_doubts(found, counts)),
        seconds=time.perf_counter() - started,
    )
    _write(output, job, made, averages, tilts, focus, params)
    return made


def nuisances(job: ParticleJob, tilts: np.ndarray) -> dict[str, np.ndarray]:
    """What classes should not go with, by particle."""
    particles = job.particles
    defocus = np.zeros(len(particles))
    for name, series in job.series.items():
        rows = particles.tomograms == name
        fits = [t.ctf.defocus_angstrom for t in series.tilts if t.ctf is not None]
        mean = float(np.mean(fits)) if fits else 0.0
        defocus[rows] = mean + series.hand * particles.positions_angstrom[rows, 2]
    return {
        "the tomogram": particles.tomograms,
        "the number of images": tilts,
        "the defocus": defocus,
        "the angle to the beam": particles.rotations[:, 2, 2],
    }


def _check(params: ClassifyParams, references: tuple[Path, ...], mask: Path | None) -> None:
    if params.method == "multi-reference":
        if len(references) < 2:
            raise InputError("Multi-reference classification needs two maps or more: --references A.mrc B.mrc.")
        if mask is not None or params.mask_diameter_angstrom:
            raise InputError("Given maps are compared as they are. Mask them yourself, and leave out --mask.")
    elif references:
        raise InputError("--references go with --method multi-reference. Classes of the others begin with chance.")
    if params.align == "global" and params.method != "multi-reference":
        raise InputError(
            "All orientations are tried with --method multi-reference only. Align first (`eucentric average --auto`), or "
            "give --align local."
        )
    if params.align != "none" and params.method == "pca":
        raise InputError("--method pca compares particles in the poses given. Leave out --align, or take --method ml.")


def _read_focus(path: Path, job: ParticleJob) -> Tensor:
    volume, voxel = read_volume(path, None, job.device)
    n = job.params.box_size
    if tuple(volume.shape) != (n, n, n) or abs(voxel / job.pixel_size_angstrom - 1.0) > 1e-2:
        raise InputError(
            f"The mask `{path}` has {' x '.join(map(str, volume.shape))} voxels of {voxel:g} A, and the boxes {n} along each edge of "
            f"{job.pixel_size_angstrom:g} A. Give one of the same size, or --box-size and --pixel-size-angstrom of the mask."
        )
    if not bool(volume.isfinite().all()) or float(volume.min()) < -1e-3 or not 0 < float(volume.max()) <= 1.001:
        raise InputError(f"The mask `{path}` holds values outside 0 to 1, or is empty.")
    return volume


def _doubts(found: SortedSeveral, counts: tuple[int, ...]) -> tuple[str, ...]:
    out = []
    if found.best.gain <= 0.0:
        out.append(
            "Classes say nothing about particles that they were not made of: nothing speaks for more than one class at this "
            "detail and in this mask."
        )
    if found.agreement < UNSTABLE:
        out.append(
            f"Other beginnings end with other classes (adjusted Rand index {found.agreement:.2f}): do not trust them. Try fewer "
            "classes, a mask about what may differ, or --method pca."
        )
    empty = [str(k + 1) for k, count in enumerate(counts) if count == 0]
    if empty:
        out.append(f"Class {', '.join(empty)} stayed empty: there are fewer classes than asked for.")
    return tuple(out)


def _write(
    output: Path,
    job: ParticleJob,
    made: ClassifyMade,
    averages: list[AverageResult | None],
    tilts: np.ndarray,
    focus: Tensor | None,
    params: ClassifyParams,
) -> None:
    make_folder(output)
    voxel = job.pixel_size_angstrom

    def write(name: str, volume: Tensor, size: float = voxel) -> None:
        write_mrc(output / name, volume.cpu().numpy().astype(np.float32), size, labels=(_BRIGHT,))

    for number, one in enumerate(averages, start=1):
        n = job.params.box_size
        write(f"class_{number}.mrc", torch.zeros((n, n, n)) if one is None else one.volume)
        if one is not None:
            write(f"class_{number}_half1.mrc", one.half1)
            write(f"class_{number}_half2.mrc", one.half2)
    if focus is not None:
        write("mask.mrc", focus)
    if made.found.components is not None:
        size = job.params.box_size * voxel / made.found.components.shape[-1]
        for number, component in enumerate(made.found.components, start=1):
            write(f"component_{number}.mrc", component, size)
    _write_particles(output, job, made, tilts)
    about = {
        "version": __version__,
        "particles": len(job),
        "counts": made.counts,
        "resolutions_angstrom": [_finite(r) for r in made.resolutions_angstrom],
        "mean_probability": float(made.found.best.probabilities.max(1).mean()),
        "held_out_gain": _finite(made.found.best.gain),
        "gains_of_starts": [_finite(g) for g in made.found.gains],
        "agreement_of_starts": _finite(made.found.agreement),
        "relations": [r.as_json() for r in made.relations],
        "caveats": made.caveats,
        "extract": job.params.model_dump(mode="json"),
        "classify": params.model_dump(mode="json"),
        "table": str(job.table),
    }
    write_text_atomic(output / SUMMARY, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _write_particles(output: Path, job: ParticleJob, made: ClassifyMade, tilts: np.ndarray) -> None:
    rows, probabilities = np.arange(len(job)), made.found.best.probabilities
    kinds = [str(label) for label in made.labels]
    particles = job.particles.with_kinds(kinds)
    own: FloatArray = probabilities[rows, made.labels - 1]
    particles = particles.with_column(labels.CLASS_PROBABILITY, own)
    for k in range(probabilities.shape[1]):
        particles = particles.with_column(f"{labels.CLASS_PROBABILITY}{k + 1}", probabilities[:, k])
    if made.found.coordinates is not None:
        for a, column in enumerate(made.found.coordinates.T, start=1):
            particles = particles.with_column(f"{labels.COMPONENT}{a}", column)
    if SUBSET not in particles.columns:
        halves = assign_halves(particles, 0.5 * job.params.box_size * job.pixel_size_angstrom)
        particles = particles.with_column(SUBSET, halves.astype(np.float64))
    particles = particles.with_column(labels.TILTS_USED, tilts.astype(np.float64))
    given = job.particles.kinds
    if any(given):
        particles = replace(particles, texts={**particles.texts, labels.KIND_BEFORE: given})
    pixels = {name: s.pixel_size_angstrom for name, s in job.series.items()}
    write_relion_particles(output / "particles.star", particles, pixel_sizes_angstrom=pixels)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
