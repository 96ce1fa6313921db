"""Several initial models at once from picks whose kinds and orientations are not looked at, with false picks put among them.

Run: python benchmarks/averaging_ab_initio_classes.py PROJECT DATA PICKS OUTPUT [--kinds 0 1] [--false 0.3] [--classes 2] [--seeds 3];
PICKS is a list in the estimated geometry, kind 0 the 30S and kind 1 the 20S; a pick is of the kind of the true particle within
40 A. False picks, a part of all, are put where no true particle lies within 220 A, between the outermost true ones. For each seed: the
adjusted Rand index between classes and what picks truly are, and for each class map the correlation with each known map low-passed
to 30 A and that of the shell at 30 A, after turning it onto it; before, what averages in chance orientations come to.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from averaging_ab_initio import DIAMETER, VOXEL, OntoTruth, plain_average
from averaging_accuracy import known_map
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.compute.threads import set_threads
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.extract_series import open_particles
from eucentric.pipeline.initial_model import make_initial_model
from eucentric.pipeline.particle_files import read_true_particles

NEAR, AWAY, APART = 40.0, 220.0, 150.0  # A: of a true pick; of a false one from true particles, and from others
FALSE = "false"


def true_kinds(picks: ParticleSet, truth: ParticleSet) -> np.ndarray:
    """(pick,) the kind of the true particle at each place."""
    out = np.full(len(picks), FALSE, dtype="<U8")
    for i, (name, place) in enumerate(zip(picks.tomograms, picks.positions_angstrom, strict=True)):
        own = truth.select(truth.tomograms == name)
        distance = np.linalg.norm(own.positions_angstrom - place, axis=1)
        if distance.min() < NEAR:
            out[i] = own.kinds[int(distance.argmin())]
    return out


def false_picks(truth: ParticleSet, count: int, rng: np.random.Generator) -> ParticleSet:
    """Places without particle, as many in each tomogram."""
    parts = []
    for number, name in enumerate(truth.tomogram_names):
        places = truth.positions_angstrom[truth.tomograms == name]
        low, high = places.min(0), places.max(0)
        found: list[np.ndarray] = []
        wanted = (count + number) // len(truth.tomogram_names)
        for place in rng.uniform(low, high, (100000, 3)):
            if len(found) == wanted:
                break
            apart = not found or np.linalg.norm(np.array(found) - place, axis=1).min() > APART
            if apart and np.linalg.norm(places - place, axis=1).min() > AWAY:
                found.append(place)
        parts.append(ParticleSet.build(name, np.array(found), kinds=FALSE))
    return ParticleSet.concatenate(parts)


def chance_level(file: Path, table: Path, box: int, truth: OntoTruth) -> str:
    """What the average of a list comes to in chance orientations."""
    job = open_particles(
        file, ExtractParams(box_size=box, pixel_size_angstrom=VOXEL), table=table, device=torch.device("cpu")
    )
    images = ParticleImages.joined([batch for batch, _ in job.batches()])
    turns = ScipyRotation.random(images.count, rng=np.random.default_rng(0)).as_matrix()
    whole, shell, _ = truth.compare(plain_average(images, turns))
    return f"{whole:.3f} / {shell:.3f}"


def one_seed(
    folder: Path, file: Path, table: Path, params: InitialModelParams, kinds: dict[str, OntoTruth], truth: ParticleSet
) -> None:
    """Make maps, and compare."""
    busy = time.process_time()
    made = make_initial_model(file, folder, params, device=torch.device("cpu"), table=table, overwrite=True)
    spent, about = time.process_time() - busy, made.about
    picks = read_particles(folder / "particles.star")
    known = true_kinds(picks, truth)
    labels = picks.kinds if params.classes > 1 else np.full(len(picks), "1")
    print(
        f"seed {params.seed}, {params.classes} classes: adjusted Rand index {adjusted_rand(known, labels):.3f}; "
        f"gain {about.get('held_out_gain', 0.0):+.1f} +- {about.get('held_out_gain_error', 0.0):.1f}, "
        f"starts agree {about.get('agreement_of_starts')}, likeness {about.get('likeness')}; {spent:.0f} s"
    )
    for one in about.get("classes", [{**about, "folder": ".", "class": 1}]):
        rows = labels == str(one["class"])
        counts = {kind: int((known[rows] == kind).sum()) for kind in np.unique(known)}
        shown = "no map"
        if one["folder"] is not None:
            volume = torch.from_numpy(np.array(read_mrc(folder / one["folder"] / "map.mrc")[0]))
            found = {kind: onto.compare(volume) for kind, onto in kinds.items()}
            values = ", ".join(f"kind {kind}: {whole:.3f} / {shell:.3f}" for kind, (whole, shell, _) in found.items())
            shown = f"halves {one['resolution_angstrom']:.1f} A, {values}"
        print(f"  class {one['class']}: {counts}; {shown}", flush=True)
    for words in about["caveats"]:
        print(f"  {words}")
    for one in about.get("relations", []):
        print(f"  {one['name']}: V {one['cramers_v']:.2f}, chance {one['p_value']:.1g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("picks", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kinds", nargs="*", default=["0", "1"])
    parser.add_argument("--false", type=float, default=0.0)
    parser.add_argument("--classes", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_threads(options.threads)
    table = options.project / "ctf" / "tilt_series.star"
    given = read_particles(options.picks)
    names = given.tomogram_names
    files = [options.data / "practice" / f"{name}_truth.json" for name in names]
    truth = ParticleSet.concatenate([read_true_particles(file, table) for file in files])
    picks = ParticleSet.concatenate(
        [ParticleSet.build(n, given.positions_angstrom[given.tomograms == n], kinds="pick") for n in names]
    )
    picks = picks.select(np.isin(true_kinds(picks, truth), options.kinds))
    options.output.mkdir(parents=True, exist_ok=True)
    diameter = max((DIAMETER[k] for k in options.kinds), default=DIAMETER["1"])
    box = 40 if diameter > 200.0 else 32  # as the command takes it
    kinds = {}
    for kind in options.kinds or ["1"]:
        kinds[kind] = OntoTruth(known_map(options.data, kind, box, VOXEL), DIAMETER[kind])
        own, file = picks.select(true_kinds(picks, truth) == kind), options.output / f"kind_{kind}.star"
        if len(own):
            write_particles(file, own, "relion5")
            print(
                f"kind {kind}: {len(own)} picks; in chance orientations {chance_level(file, table, box, kinds[kind])}"
            )
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        count = round(len(picks) * options.false / (1.0 - options.false)) if len(picks) else 120
        mixed = ParticleSet.concatenate([picks, false_picks(truth, count, rng)]) if options.false else picks
        file = options.output / f"picks_{seed}.star"
        write_particles(file, mixed, "relion5")
        for classes in options.classes:
            params = InitialModelParams(diameter_angstrom=diameter, classes=classes, starts=options.starts, seed=seed)
            one_seed(options.output / f"seed_{seed}_{classes}", file, table, params, kinds, truth)


if __name__ == "__main__":
    main()
