"""`eucentric pick train` on files: labels and tomograms, or structures alone, in; a model out."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric import __version__
from eucentric.errors import InputError
from eucentric.figures.training import training_figure
from eucentric.io.atomic import write_bytes_atomic, write_text_atomic
from eucentric.models.particles import ParticleSet
from eucentric.networks.model_file import Model, model_to_bytes
from eucentric.networks.params import AugmentParams
from eucentric.picking.learned.calibrate import Calibration
from eucentric.picking.learned.params import PickerClass, PickerParams
from eucentric.picking.learned.simulated_patches import SimulatedSource
from eucentric.picking.learned.train_picker import TrainedPicker, hold_out, train_picker
from eucentric.picking.learned.training_patches import LabelledVolume, PatchSource
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.learned_files import grids_of, read_model, read_prepared, tomograms_to_use
from eucentric.pipeline.particle_files import read_list, read_true_particles
from eucentric.pipeline.repair_label_files import (
    label_particles,
    label_volume_files,
    project_of_labels,
    read_label_volume,
)
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.scene_files import read_species
from eucentric.pipeline.training_file import TrainingFile, figure_png, stamp
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen

_FEWEST_INSIDE = 0.2  # part of the labels; fewer mean another origin or voxel size
_UNNAMED = "particle"
_SIMULATED_SPECIMENS = 3
_OTHERS_KDA = (200.0, 450.0, 1200.0, 2500.0)
_MOST_IN_FIELD = 12
_CALIBRATING_BOXES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMade:
    """What was written."""

    model: Path
    classes: tuple[PickerClass, ...]
    calibrations: tuple[Calibration, ...]
    labels: int
    """Used."""
    caveats: tuple[str, ...]


def read_labels(path: Path, target: Path) -> ParticleSet:
    """Labelled particles: any list, those in voxels on the tomograms of the target; painted volumes or a folder of them, a
    particle for each piece; or the truth of a simulated series in the frame of the project's own geometry.

    Raises
    ------
    InputError : no such file, or no particle in it
    """
    if path.suffix.lower() == ".json":
        table = target if target.suffix.lower() == ".star" else target / "reconstruct" / "tilt_series.star"
        found = read_true_particles(path, table if table.is_file() else None)
    elif path.suffix.lower() == ".mrc" or (path.is_dir() and any(path.glob("*.mrc"))):
        volumes = [read_label_volume(p, root=project_of_labels(p)) for p in label_volume_files(path)]
        found = ParticleSet.concatenate([label_particles(volume) for volume in volumes])
    else:
        found = read_list(path, grids_of(target))
    unnamed = np.array([not str(kind) for kind in found.kinds])
    return found.with_kinds(np.where(unnamed, _UNNAMED, found.kinds)) if unnamed.any() else found


def picker_classes(names: Sequence[str], diameters: Sequence[float]) -> tuple[PickerClass, ...]:
    """Classes in the order of their names.

    Raises
    ------
    InputError : diameters that are missing, not positive or not one for each
    """
    if len(diameters) not in (1, len(names)):
        raise InputError(
            f"{len(diameters)} diameters were given for {len(names)} classes ({', '.join(names)}). Give --diameter with one for all, "
            "or one for each in this order, in A."
        )
    if min(diameters) <= 0:
        raise InputError("A diameter is not positive. Give --diameter in A.")
    each = list(diameters) * (len(names) if len(diameters) == 1 else 1)
    return tuple(PickerClass(name=n, diameter_angstrom=d) for n, d in zip(names, each, strict=True))


def train_picker_files(
    target: Path,
    labels: Sequence[Path],
    output: Path,
    params: PickerParams,
    *,
    diameters: Sequence[float],
    device: torch.device,
    negatives: Sequence[Path] = (),
    held_out: Sequence[str] = (),
    start: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_step: Callable[[int, int, float], None] | None = None,
) -> ModelMade:
    """Train on the tomograms that labels lie in.

    Parameters
    ----------
    held_out : names of tomograms whose labels calibrate the scores and are not trained on; where none is named, the end of each
        tomogram that holds `params.held_out` of its labels
    start : model whose weights are the first ones

    Raises
    ------
    InputError : no labels, labels outside of their tomograms, classes without diameter, files that would be replaced unasked
    """
    refuse_to_replace([output], [*labels, *negatives], overwrite)
    if not labels:
        raise InputError(
            "Nothing to train on was given. Give --labels with particles, or --structure with atomic models."
        )
    known = ParticleSet.concatenate([read_labels(path, target) for path in labels])
    wrong = ParticleSet.concatenate([read_labels(path, target) for path in negatives])
    classes = picker_classes(sorted({str(kind) for kind in known.kinds}), diameters)
    tomograms = [one for one in tomograms_to_use(target, None) if one.name in known.tomogram_names]
    if not tomograms:
        raise InputError(
            f"None of the tomograms of `{target}` holds a label: these are of {', '.join(known.tomogram_names[:5])}. "
            "The names of tomograms must agree."
        )
    unknown = set(held_out) - {one.name for one in tomograms}
    if unknown:
        raise InputError(f"{sorted(unknown)[0]} is to be held out, but it is no tomogram with labels.")
    if len(held_out) >= len(tomograms):
        raise InputError("All tomograms are held out, so that none is left to train on.")
    caveats: list[str] = []
    volumes = [_labelled(one, known, wrong, classes, params, held_out, caveats) for one in tomograms]
    trained_on = [v for v in volumes if v.trained.any()]
    first = None if start is None else read_model(start)
    source = PatchSource(trained_on, classes, params, AugmentParams(), seed=seed)
    provenance = {
        "labels": [str(path) for path in labels],
        "negatives": [str(path) for path in negatives],
        "tomograms": [one.name for one in tomograms],
        "held_out": list(held_out),
        "start": start,
    }
    about = {
        **provenance,
        "files": [stamp(p) for p in (*_single(labels), *negatives, *(one.path for one in tomograms))],
        "start": None if first is None else hashlib.sha256(model_to_bytes(first)).hexdigest(),
    }
    trained = _train(source, volumes, classes, params, output, about, provenance, seed, device, first, on_step)
    return _written(trained, classes, output, sum(len(v.kinds) for v in volumes), caveats)


def _labelled(
    one: TomogramFile,
    known: ParticleSet,
    wrong: ParticleSet,
    classes: Sequence[PickerClass],
    params: PickerParams,
    held_out: Sequence[str],
    caveats: list[str],
) -> LabelledVolume:
    prepared = read_prepared(one, params.voxel_size_angstrom, torch.device("cpu"))
    own = known.in_tomogram(one.name)
    places = prepared.to_voxels(own.positions_angstrom)
    nearest = np.rint(places).astype(np.int64)
    held = np.clip(nearest, 0, np.array(prepared.image.shape) - 1)
    inside = np.asarray((held == nearest).all(1) & prepared.region.numpy()[tuple(held.T)])
    if inside.sum() < max(1.0, _FEWEST_INSIDE * len(own)):
        raise InputError(
            f"{len(own) - int(inside.sum())} of {len(own)} labels of {one.name} lie outside of the specimen in its "
            "tomogram. Check the voxel size and the origin of the labels: they are read in A from the middle."
        )
    if not inside.all():
        caveats.append(
            f"{int((~inside).sum())} of {len(own)} labels of {one.name} lie outside of the specimen and are left out."
        )
    names = [kind.name for kind in classes]
    kinds = np.array([names.index(str(kind)) for kind in own.kinds], dtype=np.int64)[inside]
    rows = prepared.image.shape[1]
    whole = np.full(rows, one.name not in held_out)
    trained = whole if held_out else hold_out(places[inside], kinds, rows, params.held_out)
    return LabelledVolume(
        volume=prepared,
        positions=places[inside],
        kinds=kinds,
        negatives=prepared.to_voxels(wrong.in_tomogram(one.name).positions_angstrom),
        trained=trained,
    )


def train_on_structures(
    structures: Sequence[Path],
    output: Path,
    params: PickerParams,
    *,
    device: torch.device,
    start: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_step: Callable[[int, int, float], None] | None = None,
) -> ModelMade:
    """Train on simulated specimens of given structures among other macromolecules, vesicles and gold.

    Raises
    ------
    InputError : files that hold no structure, or that would be replaced unasked
    """
    refuse_to_replace([output], list(structures), overwrite)
    species = [read_species(path) for path in structures]
    names = [one.name for one in species]
    if len(set(names)) < len(names):
        raise InputError(f"Two structures have one name: {', '.join(names)}. Rename a file.")
    classes = tuple(PickerClass(name=one.name, diameter_angstrom=_diameter(one)) for one in species)
    others = [procedural_macromolecule(mass, variant=seed + 1) for mass in _OTHERS_KDA]
    params = params.replace(complete=True)
    about = SimulationParams(
        thickness_angstrom=1500.0,
        particles_per_species=(_MOST_IN_FIELD * 3,) * len(species) + (_MOST_IN_FIELD,) * len(others),
        vesicles=2,
        beads=6,
        image_size_px=(700, 700),
        pixel_size_angstrom=6.0,
        tilt_min_deg=-3.0,
        tilt_max_deg=3.0,
        seed=seed,
    )
    kinds = [one.coarse(4.0) for one in [*species, *others]]
    specimens = [
        Specimen.build(about, kinds, np.random.default_rng([seed, n, 41])) for n in range(_SIMULATED_SPECIMENS)
    ]
    class_of = [*range(len(species)), *(-1 for _ in others)]
    count = params.steps * params.batch_size + _CALIBRATING_BOXES
    source = SimulatedSource(specimens, class_of, classes, params, AugmentParams(), seed=seed, count=count)
    first = None if start is None else read_model(start)
    provenance = {"structures": [str(path) for path in structures], "start": start}
    stamps = {**provenance, "files": [stamp(p) for p in structures]}
    held = source.held_out(_CALIBRATING_BOXES)
    trained = _train(source, held, classes, params, output, stamps, provenance, seed, device, first, on_step)
    caveats = ["The scores are calibrated on simulated boxes: real tomograms may hold more, or less, that looks alike."]
    return _written(trained, classes, output, 0, caveats)


def _diameter(one: Species) -> float:
    """Of a solid ball with the radius of gyration of the structure."""
    squared = (one.points_angstrom**2).sum(1).mean()
    return float(2.0 * np.sqrt(5.0 / 3.0 * squared))


def _train(
    source: Any,
    volumes: Sequence[LabelledVolume],
    classes: Sequence[PickerClass],
    params: PickerParams,
    output: Path,
    about: dict[str, Any],
    provenance: dict[str, Any],
    seed: int,
    device: torch.device,
    first: Model | None,
    on_step: Callable[[int, int, float], None] | None,
) -> TrainedPicker:
    """Train, or go on where the same training was stopped."""
    kept = TrainingFile(output, [about, params.model_dump(), [c.model_dump() for c in classes], seed, __version__])
    trained = train_picker(
        source,
        classes,
        params,
        device,
        seed=seed,
        calibrate_on=volumes,
        start=first,
        provenance={"eucentric": __version__, **provenance},
        state=kept.load(),
        on_checkpoint=kept.save,
        on_step=on_step,
    )
    kept.done()
    return trained


def _written(
    trained: TrainedPicker, classes: Sequence[PickerClass], output: Path, labels: int, caveats: list[str]
) -> ModelMade:
    write_bytes_atomic(output, model_to_bytes(trained.model))
    values = {"settings": trained.model.settings, "provenance": trained.model.provenance, "losses": trained.losses}
    write_text_atomic(output.with_name(output.name + ".json"), json.dumps(values, indent=1) + "\n")
    write_bytes_atomic(output.with_name(output.name + ".png"), _drawn(trained, classes))
    for kind, calibration in zip(classes, trained.calibrations, strict=True):
        if not calibration.true_count:
            caveats.append(f"The scores of {kind.name} are not calibrated: no label of it was held out.")
        elif calibration.true_count < 10:
            caveats.append(f"The scores of {kind.name} are calibrated on {calibration.true_count} labels only.")
    return ModelMade(
        model=output, classes=tuple(classes), calibrations=trained.calibrations, labels=labels, caveats=tuple(caveats)
    )


def _drawn(trained: TrainedPicker, classes: Sequence[PickerClass]) -> bytes:
    figure = training_figure(
        np.array(trained.losses),
        [kind.name for kind in classes],
        [c.probabilities(h.scores) for c, h in zip(trained.calibrations, trained.held_out, strict=True)],
        [held.true for held in trained.held_out],
        [calibration.cutoff for calibration in trained.calibrations],
    )
    return figure_png(figure)


def _single(paths: Sequence[Path]) -> list[Path]:
    """Files, those of folders one by one."""
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
