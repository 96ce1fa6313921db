"""What sub-tilt refinement finds of errors that were planted: a table of planted, left, and what it says of its own deviation.

Run: python benchmarks/refinement_planted.py [--particles 100] [--step 3] [--seed 3] [--rows NAME...]. Tilt series of blob particles
are made with a model of their own (`tests/refinement_scene.py`: contrast transfer, damage, 3 e/A^2 of shot noise in each image,
0.7 MDa at 5 A/px); the geometry they start from is wrong, and they are refined against the map without noise. Rows:

everything   angles of the stage 0.3 degrees and shifts 3 A rms in every tilt, every other tilt 0.5% larger, defocus 500 A off in all
             and 300 A rms in each, astigmatism, and particles 2 A and 1 degree off
scale        all tilts of the series 0.5% too large
bent         a film that domes by 25 A and moves
nothing      nothing planted: what is found, by chance
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from eucentric.geometry import Deformation
from eucentric.models import TiltSeries
from eucentric.refinement.params import RefineParams
from eucentric.refinement.refine_series import SeriesRefinement
from refinement_scene import (
    Scene,
    angle_errors_deg,
    astigmatism_of,
    bending,
    blob_places,
    imaged,
    perturbed,
    place_errors,
    refined,
    rms,
    scattered,
    tilt_series,
    with_defocus,
    with_poses,
)


def line(what: str, unit: str, planted: float, left: float, sigma: float = float("nan")) -> None:
    """One row of the table."""
    print(f"  {what:28s} {planted:9.3f} {left:9.3f} {sigma:9.3f}  {unit}", flush=True)


def told(done: SeriesRefinement, family: str) -> float:
    """Root mean square of the deviations that refinement claims for a group; NaN where it was not kept."""
    return next((rms(k.sigma) for k in done.memory.kept if k.family == family), float("nan"))


def show(
    name: str, scene: Scene, start: TiltSeries, particles: tuple[np.ndarray, np.ndarray], params: RefineParams
) -> None:
    """Refine and print what was planted and what is left."""
    began = time.perf_counter()
    done = refined(scene, start, particles, params)
    wall = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    end, truth = done.state.series, scene.series
    print(f"\n{name}: {done.images} images, {wall:.0f} s, {peak:.1f} GiB; planted, left, one deviation as told")
    found = end, done.state.deformation, done.state.particles[0].positions_angstrom
    places = [rms(place_errors(f, scene)) for f in ((start, Deformation(), particles[0]), found)]
    line("places in images", "A rms", *places)
    before, after = angle_errors_deg(start, truth), angle_errors_deg(end, truth)
    for axis, word in enumerate("xyz"):
        line(
            f"turns about camera {word}", "degrees rms", rms(before[:, axis]), rms(after[:, axis]), told(done, "angles")
        )
    scale = [100.0 * np.array([a.magnification / b.magnification - 1.0 for a, b in zip(s.poses, truth.poses, strict=True)])
             for s in (start, end)]  # fmt: skip
    line("scale, mean", "%", *(float(s.mean()) for s in scale))
    line("scale, of each about it", "% rms", *(float(s.std()) for s in scale), told(done, "magnification"))
    focus = [np.array([a.ctf.defocus_angstrom - b.ctf.defocus_angstrom for a, b in zip(s.tilts, truth.tilts, strict=True)])
             for s in (start, end)]  # fmt: skip
    line("defocus, mean", "A", *(float(f.mean()) for f in focus), told(done, "defocus"))
    line("defocus, of each about it", "A rms", *(float(f.std()) for f in focus), told(done, "defocus by tilt"))
    oval = [np.mean([astigmatism_of(a.ctf) - astigmatism_of(b.ctf) for a, b in zip(s.tilts, truth.tilts, strict=True)], axis=0)
            for s in (start, end)]  # fmt: skip
    line("astigmatism", "A", *(float(np.hypot(*a)) for a in oval), told(done, "astigmatism"))
    for trial in done.memory.trials:
        state = "kept" if trial.accepted else "not kept"
        print(f"    {trial.name:24s} {state:8s} gain {trial.gain:9.1f} +- {trial.sigma:.1f}  {trial.reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=100)
    parser.add_argument("--step", type=float, default=3.0, help="degrees")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=["everything", "scale", "bent", "nothing"])
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    series = tilt_series(step=given.step)
    n = len(series.tilts)
    places, turns = scattered(given.particles)
    scene = imaged(series, places, turns, blob_places())
    plain = RefineParams(volume_grids=(2,), image_grids=(2,))
    if "everything" in given.rows:
        angles = {name: rng.uniform(-0.52, 0.52, n) for name in ("y_tilt_deg", "z_rot_deg", "x_tilt_deg")}
        shifts = {name: rng.uniform(-5.2, 5.2, n) for name in ("x_shift_angstrom", "y_shift_angstrom")}
        start = with_poses(series, **angles, **shifts, magnification=0.005 * (np.arange(n) % 2 - 0.5))
        start = with_defocus(start, 500.0 + rng.normal(0.0, 300.0, n), (250.0, -180.0))
        show("everything", scene, start, perturbed(scene, 2.0, 1.0), plain)
    if "scale" in given.rows:
        larger = with_poses(series, magnification=np.full(n, 0.005))
        at, turned = perturbed(scene, 2.0, 1.0)
        show("scale", scene, larger, (at / 1.005, turned), plain)
    if "bent" in given.rows:
        bent = imaged(series, places, turns, scene.blobs, moved=bending)
        at, turned = perturbed(bent, 2.0, 1.0)
        at = at + np.mean([bending(places, d) for d in series.middle_doses], axis=0)
        show("bent", bent, series, (at, turned), plain.replace(volume_grids=(2, 3)))
    if "nothing" in given.rows:
        show("nothing", scene, series, perturbed(scene, 0.5, 0.3), plain)


if __name__ == "__main__":
    main()
