"""`eucentric initial-model --classes K`: several maps at once, each in a folder of its own, and what speaks for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric import __version__
from eucentric.averaging.ab_initio import FEWEST
from eucentric.averaging.ab_initio_classes import ClassStarts, find_class_starts
from eucentric.averaging.ab_initio_images import selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import InitialModel, refine_start
from eucentric.averaging.classify_checks import Relation, caveats, relations
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.io import labels
from eucentric.io.atomic import make_folder
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.classify_files import UNSTABLE, nuisances
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.pipeline.initial_model_files import (
    FILES,
    RECORD,
    about_model,
    doubts,
    finite,
    posed,
    starts_alike,
    write_list,
    write_model,
    write_record,
)
from eucentric.pipeline.iterate_job import OnStep

_SURE = 2.0
"""Standard errors by which several maps must tell more than one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Class:
    """One class, after its halves were aligned apart."""

    number: int
    rows: NDArray[np.int64]
    """Of the list."""
    model: InitialModel | None
    """None where a half has too few particles."""


def class_files(classes: int) -> list[str]:
    """What may be written, within the folder."""
    return ["particles.star", RECORD, *(f"{_folder(k)}/{name}" for k in range(classes) for name in FILES)]


def make_class_models(
    output: Path,
    job: ParticleJob,
    images: ParticleImages,
    particles: ParticleSet,
    halves: NDArray[np.int64],
    params: InitialModelParams,
    on_step: OnStep | None,
) -> dict[str, Any]:
    """Write class_1 (the largest), class_2 and so on, and the list of all particles with their classes.

    Parameters
    ----------
    images, particles, halves : of the same particles in the same order

    Returns
    -------
    what the record holds

    Raises
    ------
    InputError : too few particles for so many classes
    """

    def starting(part: float) -> None:
        if on_step is not None:
            on_step("beginnings from chance classes and orientations", part)

    starts = find_class_starts(images, params, on_step=starting)
    found = [_refined(images, starts, number, halves, params, on_step) for number in range(params.classes)]
    listed, tilts = _joined(particles, found, starts, halves, images)
    related = relations(starts.best.labels[starts.best.labels >= 0], nuisances(replace(job, particles=listed), tilts))
    about = _about(job, params, starts, found, tilts, related)
    make_folder(output)
    for one, told in zip(found, about["classes"], strict=True):
        if one.model is not None:
            own = listed.select(listed.kinds == str(one.number + 1))
            write_model(output / _folder(one.number), job, own, one.model, told)
    write_list(output, job, listed)
    write_record(output, about)
    return about


def _refined(
    images: ParticleImages,
    starts: ClassStarts,
    number: int,
    halves: NDArray[np.int64],
    params: InitialModelParams,
    on_step: OnStep | None,
) -> _Class:
    """Halves of one class, aligned apart from its map."""
    rows = np.flatnonzero(starts.best.labels == number)
    if min((halves[rows] == half).sum() for half in (1, 2)) < FEWEST:
        return _Class(number=number, rows=rows, model=None)

    def refining(part: float) -> None:
        if on_step is not None:
            on_step("aligning the halves of each class", (number + part) / params.classes)

    own = selected_particles(images, rows)
    model = refine_start(own, starts.best.start(number), halves[rows], params, on_step=refining)
    return _Class(number=number, rows=rows, model=model)


def _joined(
    particles: ParticleSet,
    found: Sequence[_Class],
    starts: ClassStarts,
    halves: NDArray[np.int64],
    images: ParticleImages,
) -> tuple[ParticleSet, NDArray[np.int64]]:
    """All particles that are seen, in the order of the list, with class, probabilities and pose; and the images of each."""
    parts, order = [], []
    for one in found:
        own = particles.select(one.rows)
        if one.model is not None:
            own = posed(own, one.model, halves[one.rows])
        if any(own.kinds):
            own = replace(own, texts={**own.texts, labels.KIND_BEFORE: own.kinds})
        own = own.with_kinds(str(one.number + 1))
        chances = starts.best.probabilities[one.rows]
        own = own.with_column(labels.CLASS_PROBABILITY, chances[:, one.number])
        for k in range(len(found)):
            own = own.with_column(f"{labels.CLASS_PROBABILITY}{k + 1}", chances[:, k])
        parts.append(own)
        order.append(one.rows)
    rows = np.concatenate(order)
    tilts = np.bincount(images.particle, minlength=images.count)
    return ParticleSet.concatenate(parts).select(np.argsort(rows)), tilts[np.sort(rows)]


def _about(
    job: ParticleJob,
    params: InitialModelParams,
    starts: ClassStarts,
    found: Sequence[_Class],
    tilts: NDArray[np.int64],
    related: Sequence[Relation],
) -> dict[str, Any]:
    total = sum(len(one.rows) for one in found)
    classes = [_about_class(one, starts, params, job, total) for one in found]
    return {
        "version": __version__,
        "particles": total,
        "images": int(tilts.sum()),
        "pixel_size_angstrom": job.pixel_size_angstrom,
        "box_size": job.params.box_size,
        "start_detail_angstrom": starts.best.detail_angstrom,
        "held_out_evidence": list(starts.evidence),
        "starts_alike": starts_alike(starts.evidence),
        "start_particles": [starts.best.particles] * len(starts.evidence),
        "classes": classes,
        "held_out_gain": starts.gain,
        "held_out_gain_error": starts.gain_error,
        "agreement_of_starts": finite(starts.agreement),
        "likeness": _likeness(found, params),
        "relations": [r.as_json() for r in related],
        "initial_model": params.model_dump(mode="json"),
        "table": str(job.table),
        "caveats": [
            *job.caveats(),
            *_doubts(starts),
            *caveats(list(related)),
            *(f"Class {told['class']}: {words}" for told in classes for words in told["caveats"]),
        ],
    }


def _about_class(
    one: _Class, starts: ClassStarts, params: InitialModelParams, job: ParticleJob, total: int
) -> dict[str, Any]:
    count = len(one.rows)
    sure = starts.best.probabilities[one.rows, one.number]
    told: dict[str, Any] = {
        "class": one.number + 1,
        "folder": None if one.model is None else _folder(one.number),
        "particles": count,
        "share": count / total,
        "mean_probability": float(sure.mean()) if count else None,
    }
    if one.model is None:
        words = f"{count or 'no'} particle{'s' * (count != 1)}; a map needs {FEWEST} in each half, and none was made."
        return {**told, "resolution_angstrom": None, "goes_beyond_start": False, "caveats": [words]}
    return {
        **about_model(one.model, params, job),
        **told,
        "goes_beyond_start": one.model.goes_beyond_start,
        "caveats": doubts(one.model),
    }


def _doubts(starts: ClassStarts) -> list[str]:
    out = []
    if not starts.gain > _SURE * starts.gain_error:
        out.append(
            f"Several maps tell no more of particles that they were not made of than one does ({starts.gain:+.1f} +- "
            f"{starts.gain_error:.1f} nats a particle): nothing speaks for more than one class."
        )
    if starts.agreement < UNSTABLE:
        out.append(
            f"Other beginnings end with other classes (adjusted Rand index {starts.agreement:.2f}): do not trust them. Try fewer "
            "--classes, or more --starts."
        )
    return out


def _likeness(found: Sequence[_Class], params: InitialModelParams) -> list[dict[str, float]]:
    """Correlation of the maps of each two classes in the detail that both show, turned onto each other."""
    out = []
    for a in found:
        for b in found[a.number + 1 :]:
            if a.model is None or b.model is None:
                continue
            shown = [one.average.correlation.resolution_angstrom for one in (a.model, b.model)]
            detail = max(params.low_pass_angstrom, *(s if math.isfinite(s) else 0.0 for s in shown))
            turned = superpose_maps(
                a.model.volume,
                b.model.volume,
                a.model.average.voxel_size_angstrom,
                detail_angstrom=detail,
                diameter_angstrom=params.diameter_angstrom,
            )
            out.append(
                {"a": a.number + 1, "b": b.number + 1, "detail_angstrom": detail, "correlation": float(turned.likeness)}
            )
    return out


def _folder(number: int) -> str:
    return f"class_{number + 1}"
