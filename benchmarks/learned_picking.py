"""A picker trained on one tilt series and tested on another: F1 by kind, claimed and true share of false picks, time.

Run: python benchmarks/learned_picking.py PROJECT DATA [--labels 50] [--steps 900]; DATA is the folder of shared test data. The project
holds tomograms (`eucentric reconstruct PROJECT --for picking --method wbp --ctf-correction flip --pixel-size-angstrom 8`).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from eucentric.io.particles import write_particles
from eucentric.picking.learned.params import PickerParams, PickerUse
from eucentric.pipeline.apply_picker_files import apply_picker_files
from eucentric.pipeline.particle_files import read_list, read_true_particles, score_lists, tilts_seen
from eucentric.pipeline.train_picker_files import train_picker_files

DIAMETERS = {"0": 220.0, "1": 160.0}  # A: 30S, 20S
FEWEST_TILTS = 20


def measure(project: Path, data: Path, given: argparse.Namespace) -> None:
    table = project / "reconstruct" / "tilt_series.star"
    known = read_true_particles(data / "practice" / f"{given.train}_truth.json", table)
    if given.labels:
        seen = np.flatnonzero(tilts_seen(known, table, 0.5 * max(DIAMETERS.values())) >= FEWEST_TILTS)
        known = known.select(np.sort(np.random.default_rng(given.seed).permutation(seen)[: given.labels]))
    with tempfile.TemporaryDirectory() as folder:
        labels, model = Path(folder) / "labels.star", Path(folder) / "picker.model"
        write_particles(labels, known, "relion5")
        params = PickerParams(steps=given.steps, complete=not given.labels)
        began, used = time.perf_counter(), time.process_time()
        made = train_picker_files(
            project,
            [labels],
            model,
            params,
            diameters=list(DIAMETERS.values()),
            device=torch.device("cpu"),
            start=given.start,
            seed=given.seed,
            on_step=lambda step, steps, loss: (
                print(f"  step {step} of {steps}, loss {loss:.3f}", flush=True) if step % 50 == 0 else None
            ),
        )
        print(
            f"trained on {made.labels} labels of {given.train}: {time.perf_counter() - began:.0f} s, "
            f"{time.process_time() - used:.0f} s of the processor; {list(made.caveats)}",
            flush=True,
        )
        for name in given.test:
            began, used = time.perf_counter(), time.process_time()
            picks = Path(folder) / f"{name}.star"
            use = PickerUse(min_probability=0.02)
            apply_picker_files(project, str(model), picks, use, torch.device("cpu"), only=[name])
            print(f"{name}: {time.perf_counter() - began:.0f} s, {time.process_time() - used:.0f} s of the processor")
            found = read_list(picks)
            truth = read_true_particles(data / "practice" / f"{name}_truth.json", table)
            for kind, calibration in zip(made.classes, made.calibrations, strict=True):
                own = found.select(found.kinds == kind.name)
                asked = truth.select(truth.kinds == kind.name)
                for words, kept in (
                    ("own cut-off", own.scores >= calibration.cutoff),
                    ("claimed 5% false", own.columns["eucQValue"] <= 0.05),
                ):
                    row = score_lists(
                        own.select(kept),
                        asked,
                        0.5 * kind.radius_angstrom,
                        table=table,
                        min_tilts=FEWEST_TILTS,
                        radius_angstrom=kind.radius_angstrom,
                    )[0]
                    print(
                        f"  {kind.name}, {words}: {row.truths} known, F1 {row.f1:.3f}, precision {row.precision:.3f}, recall "
                        f"{row.recall:.3f}, place {row.position_rms_angstrom:.1f} A",
                        flush=True,
                    )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", default="TS_01")
    parser.add_argument("--test", nargs="*", default=["TS_02"])
    parser.add_argument("--labels", type=int, default=0, help="so many of the positions; 0 all, as complete")
    parser.add_argument("--steps", type=int, default=PickerParams().steps)
    parser.add_argument("--start", default=None)
    parser.add_argument("--seed", type=int, default=0)
    measure((arguments := parser.parse_args()).project, arguments.data, arguments)
