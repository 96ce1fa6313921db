"""Twelve simulated series of all kinds, from movies to alignment: does any fail?

    python benchmarks/alignment_robustness.py
    python benchmarks/alignment_robustness.py --only 1 5 --keep /scratch/twelve --method projection

Thin and thick specimens, with gold beads and without, flat or pre-tilted by up to 20 degrees, stages that miss by up to 15% of the
field (two standard deviations), two blocked views in each, and three orders of recording. The tilt axis is given 0.8 degrees wrong.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from eucentric.cli.import_command import write_project
from eucentric.compute import set_threads
from eucentric.pipeline.importing import plan_import
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.scoring import score_project
from eucentric.pipeline.simulate_project import simulate
from eucentric.simulation import SimulationParams

SERIES = 12
FAILED = 30.0
_FIELD = 2400.0
_SCHEMES = ("dose-symmetric", "bidirectional", "continuous")


def settings(number: int) -> SimulationParams:
    """Series `number`, from 0: the kinds are mixed so that no two go together throughout."""
    fine = thick = number % 2 == 1
    return SimulationParams(
        seed=100 + number,
        thickness_angstrom=2600.0 if thick else 800.0,
        beads=10 if (number // 2) % 2 else 0,
        tilt_offset_deg=(0.0, 20.0, -20.0, 10.0)[number % 4] if number % 3 else 0.0,
        x_tilt_deg=(0.0, 5.0, -4.0)[number % 3],
        stage_jitter_angstrom=(0.015, 0.04, 0.075)[number % 3] * _FIELD,
        blocked_tilts=tuple(sorted(int(t) for t in np.random.default_rng(number).choice(41, 2, replace=False))),
        scheme=_SCHEMES[(number // 4) % 3] if number % 5 else "continuous",
        pixel_size_angstrom=4.0 if fine else 5.0,
        image_size_px=(600, 600) if fine else (480, 480),
        tilt_axis_deg=(84.0, -95.0, 12.0, 178.0)[number % 4],
        particles_per_species=(60, 90) if thick else (28, 40),
    )


def aligned(folder: Path, number: int, method: str | None) -> dict[str, float]:
    """Figures of one series, made, imported, motion-corrected and aligned below `folder`; what is there is used again."""
    data, project = folder / f"data_{number:02d}", folder / f"project_{number:02d}"
    if not any(data.glob("*_truth.json")):
        simulate(data, settings(number))
    if not (project / PLAN_FILE).is_file():
        write_project(project, plan_import([str(data / "frames")], [str(data)], gain=data / "gain.mrc"))
    if not (project / "motion" / "tilt_series.star").is_file():
        run_project(project, until="motion", workers=1)
    start = time.perf_counter()
    summary = run_stage(project, "align", {"method": method} if method else None, workers=1)
    spent = time.perf_counter() - start
    out = {row.metric: row.value for row in score_project(project, sorted(data.glob("*_truth.json")))}
    return out | {"seconds": spent, "done": float(not summary.failures)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", default=list(range(SERIES)))
    parser.add_argument("--keep", type=Path, help="folder for data and projects; a temporary one if not given")
    parser.add_argument("--method", help="of alignment; the default chooses")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    set_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        errors = []
        for number in given.only:
            one = aligned(folder, number, given.method)
            error = one.get("alignment rms", float("inf")) if one["done"] else float("inf")
            errors.append(error)
            kind = settings(number)
            print(
                f"{number:2d} {kind.thickness_angstrom:5.0f} A, {kind.beads:2d} beads, {kind.scheme:14s} "
                f"pre-tilt {kind.tilt_offset_deg:4.0f}, stage {kind.stage_jitter_angstrom:3.0f} A: rms {error:7.2f} A, "
                f"axis {one.get('tilt axis error', float('nan')):5.2f} degrees, "
                f"good tilts lost {one['good tilts lost']:.0f}, bad kept {one['bad tilts kept']:.0f}, "
                f"{one['seconds']:.0f} s",
                flush=True,
            )
    print(
        f"median {statistics.median(errors):.2f} A, worst {max(errors):.2f} A, "
        f"{sum(e > FAILED for e in errors)} of {len(errors)} failed (above {FAILED:g} A)"
    )


if __name__ == "__main__":
    main()
