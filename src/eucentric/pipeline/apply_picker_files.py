"""`eucentric pick apply` and `eucentric pick embed` on files: a model and tomograms in, lists of particles out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.errors import InputError
from eucentric.io import labels
from eucentric.io.atomic import atomic_path
from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.networks.model_file import Model
from eucentric.networks.prepare_volume import PreparedVolume
from eucentric.networks.unet import UNet
from eucentric.picking.candidates import Candidates
from eucentric.picking.learned.calibrate import q_values_of
from eucentric.picking.learned.embedding import cluster_objects, embed_places, similarities
from eucentric.picking.learned.find_objects import Objects, find_peaks, heat_maps
from eucentric.picking.learned.params import PickerParams, PickerUse
from eucentric.picking.learned.training_patches import spot_sigma
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.kept_picks import folder_to_keep, keep_pictures, write_picks_record
from eucentric.pipeline.learned_files import classes_of, read_model, read_prepared, specimen_region, tomograms_to_use
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPicks:
    """What was written."""

    table: Path
    counts: dict[str, dict[str, int]]
    """Of each tomogram, picks of each class."""
    caveats: tuple[str, ...]


def apply_picker_files(
    target: Path,
    model_name: str,
    output: Path,
    use: PickerUse,
    device: torch.device,
    *,
    only: Sequence[str] | None = None,
    mask: Path | None = None,
    pixel_size: float | None = None,
    overwrite: bool = False,
    on_tomogram: Callable[[str], None] | None = None,
) -> LearnedPicks:
    """Pick in every tomogram and write one RELION-5 table, its scores the probabilities of being true.

    Raises
    ------
    InputError : no tomogram, tomograms too coarse for the model, files that would be replaced unasked
    FormatError : no model
    """
    model = read_model(model_name)
    refuse_to_replace([output], [], overwrite)
    folder = folder_to_keep(target, output)
    classes, _ = classes_of(model)
    network = model.build(device)
    parts, counts, details, caveats = [], {}, {}, []
    for one in tomograms_to_use(target, only):
        if on_tomogram is not None:
            on_tomogram(one.name)
        started = time.monotonic()
        prepared, found, probability = _find(one, model, network, use, device, mask, pixel_size)
        kept = _chosen(found, probability, model, use)
        part = _particles(one, prepared, found.select(kept), probability[kept], [c.name for c in classes])
        parts.append(part)
        if folder is not None:
            _keep(folder, one, model, use, (prepared, found, probability), kept, pixel_size)
        counts[one.name] = {c.name: int((part.kinds == c.name).sum()) for c in classes}
        expected = float((1.0 - probability[kept]).sum())
        details[one.name] = {
            "picks": counts[one.name],
            "candidates": len(found.scores),
            "expected_false": expected,
            "seconds": time.monotonic() - started,
        }
        if not len(part):
            caveats.append(f"Nothing was found in {one.name}: no candidate passes the cut-off.")
    write_particles(output, ParticleSet.concatenate(parts), "relion5")
    _record(output, model_name, model, {"parameters": use.model_dump(), "tomograms": details, "caveats": caveats})
    return LearnedPicks(table=output, counts=counts, caveats=tuple(caveats))


def _find(
    one: TomogramFile,
    model: Model,
    network: UNet,
    use: PickerUse,
    device: torch.device,
    mask: Path | None,
    pixel_size: float | None,
) -> tuple[PreparedVolume, Objects, FloatArray]:
    """Candidates of a tomogram and their probabilities."""
    classes, calibrations = classes_of(model)
    voxel = float(model.settings["voxel_size_angstrom"])
    prepared = read_prepared(one, voxel, device, mask=mask, pixel_size=pixel_size)
    shape = PickerParams(voxel_size_angstrom=voxel, spot=float(model.settings["spot"]))
    sigmas = [spot_sigma(kind, shape, voxel) for kind in classes]
    maps = heat_maps(network, prepared.image, len(classes), flips=use.flips)
    found = find_peaks(maps, prepared, classes, sigmas, distance=use.distance)
    probability = np.zeros(len(found.scores))
    for number, calibration in enumerate(calibrations):
        rows = found.kinds == number
        probability[rows] = calibration.probabilities(found.scores[rows])
    return prepared, found, probability


def _chosen(found: Objects, probability: FloatArray, model: Model, use: PickerUse) -> np.ndarray:
    """(candidate,) which are picks."""
    _, calibrations = classes_of(model)
    if use.min_probability is not None:
        return np.asarray(probability >= use.min_probability)
    if use.max_fdr is not None:
        keep = np.zeros(len(probability), dtype=bool)
        for number in range(len(calibrations)):
            rows = np.flatnonzero(found.kinds == number)
            keep[rows] = q_values_of(probability[rows]) <= use.max_fdr
        return keep
    cut = np.array([c.cutoff for c in calibrations])
    return np.asarray(probability >= cut[found.kinds])


def _keep(
    folder: Path,
    one: TomogramFile,
    model: Model,
    use: PickerUse,
    searched: tuple[PreparedVolume, Objects, FloatArray],
    kept: np.ndarray,
    pixel_size: float | None,
) -> None:
    """What the report shows, on the tomogram as it was reconstructed."""
    prepared, found, probability = searched
    classes, calibrations = classes_of(model)
    volume, voxel = read_volume(one.path, pixel_size, torch.device("cpu"))
    region = specimen_region(one, (volume.shape[0], volume.shape[1], volume.shape[2]), voxel)
    given = np.nan if use.max_fdr is not None else use.min_probability
    candidates = Candidates.without_templates(
        [c.name for c in classes],
        [c.diameter_angstrom for c in classes],
        prepared.to_angstrom(found.positions),
        probability,
        _q_values(found, probability),
        kept,
        numbers=found.kinds,
        cutoffs=[c.cutoff if given is None else given for c in calibrations],
    )
    keep_pictures(folder, one.name, "network", candidates, volume, voxel, region)


def _q_values(found: Objects, probability: FloatArray) -> FloatArray:
    """(candidate,) in its class."""
    q_values = np.zeros(len(probability))
    for number in np.unique(found.kinds):
        rows = np.flatnonzero(found.kinds == number)
        q_values[rows] = q_values_of(probability[rows])
    return q_values


def _particles(
    one: TomogramFile, prepared: PreparedVolume, found: Objects, probability: FloatArray, names: Sequence[str]
) -> ParticleSet:
    part = ParticleSet.build(
        one.name,
        prepared.to_angstrom(found.positions),
        scores=probability,
        kinds=np.array([names[kind] for kind in found.kinds], dtype=np.str_) if len(found.kinds) else "",
        columns={labels.Q_VALUE: _q_values(found, probability)},
    )
    if one.pixel_size_angstrom is not None:
        part = part.with_column("rlnTomoTiltSeriesPixelSize", one.pixel_size_angstrom)
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedObjects:
    """What was written."""

    table: Path
    vectors: Path
    objects: int
    kept: int
    """Like the examples; all where none were given."""
    clusters: dict[str, int]
    """Objects of each cluster."""


def embed_files(
    target: Path,
    model_name: str,
    output: Path,
    device: torch.device,
    *,
    examples: ParticleSet | None = None,
    min_likeness: float = 0.7,
    clusters: int | None = None,
    min_probability: float | None = None,
    only: Sequence[str] | None = None,
    mask: Path | None = None,
    pixel_size: float | None = None,
    overwrite: bool = False,
    on_tomogram: Callable[[str], None] | None = None,
) -> EmbeddedObjects:
    """Find all objects and tell which are alike: each other (`cluster 1`, `cluster 2` and so on), or some examples.

    Parameters
    ----------
    examples : places of objects; what is less like their mean than `min_likeness` is left out
    clusters : how many; where None objects stay apart that are less alike than `min_likeness`
    min_probability : of being an object at all; the model's own cut-off where None

    Raises
    ------
    InputError : a model without embedding, examples in no tomogram or outside of theirs, nothing found
    """
    model = read_model(model_name)
    if "embedding" not in model.settings:
        raise InputError(f"The model `{model_name}` tells no kinds apart: it has no embedding. Give --model shipped.")
    vectors_file = output.with_name("embedding.npz")
    refuse_to_replace([output, vectors_file], [], overwrite)
    network = model.build(device)
    use = PickerUse(min_probability=min_probability)
    parts, vectors, wanted = [], [], []
    chosen = tomograms_to_use(target, only)
    if examples is not None and not set(examples.tomogram_names) & {one.name for one in chosen}:
        raise InputError(
            f"The examples are of {', '.join(examples.tomogram_names)}, which is none of the tomograms: "
            f"{', '.join(one.name for one in chosen)}."
        )
    for one in chosen:
        if on_tomogram is not None:
            on_tomogram(one.name)
        prepared, found, probability = _find(one, model, network, use, device, mask, pixel_size)
        kept = _chosen(found, probability, model, use)
        found, probability = found.select(kept), probability[kept]
        parts.append(_particles(one, prepared, found, probability, ["object"]))
        own = ParticleSet.empty() if examples is None else examples.in_tomogram(one.name)
        places = np.concatenate([found.positions, prepared.to_voxels(own.positions_angstrom).reshape(-1, 3)])
        both = embed_places(network, prepared.image, places)
        vectors.append(both[: len(found.positions)])
        wanted.append(both[len(found.positions) :])
    whole, points = ParticleSet.concatenate(parts), np.concatenate(vectors)
    if not len(whole):
        raise InputError("No object was found. Lower --min-probability, or look at the tomogram.")
    if examples is not None:
        likeness = similarities(points, np.concatenate(wanted))
        like = likeness >= min_likeness
        table = whole.with_column(labels.LIKENESS, likeness).with_scores(likeness).select(like).by_score()
        table = table.with_kinds("like the examples")
        sizes = {}
    else:
        groups = cluster_objects(points, count=clusters, likeness=min_likeness)
        table = whole.with_kinds(np.array([f"cluster {n}" for n in groups.numbers]))
        sizes = {f"cluster {n + 1}": int((groups.numbers == n + 1).sum()) for n in range(len(groups.tightness))}
    write_particles(output, table, "relion5")
    with atomic_path(vectors_file) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            tomograms=whole.tomograms,
            positions_angstrom=whole.positions_angstrom,
            vectors=points.astype(np.float32),
        )
    _record(output, model_name, model, {"objects": len(whole), "kept": len(table), "clusters": sizes})
    return EmbeddedObjects(table=output, vectors=vectors_file, objects=len(whole), kept=len(table), clusters=sizes)


def _record(output: Path, model_name: str, model: Model, values: dict[str, Any]) -> None:
    about = {"model": model_name, "settings": model.settings, "provenance": model.provenance, **values}
    write_picks_record(output, "network", about)
