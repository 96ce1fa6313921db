"""Time and memory of simulating tilt series, image by image, with weak-phase and multislice image formation.

    python benchmarks/simulator_speed.py --size 1024 --tilts 41 --frames 4 --particles 300 --workers 2

Some of the tilts are timed, spread over the range, on as many threads as the writing of movies uses; the rest follows from
the mean. Wall and processor time both are told, since a busy machine stretches the first.
"""

import argparse
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from eucentric.simulation import SimulatedSeries, SimulationParams


def settings(given: argparse.Namespace, formation: str) -> SimulationParams:
    """A field of view with particles of 2.6 and 0.9 MDa, gold and no vesicles."""
    large = given.particles // 3
    return SimulationParams.model_validate(
        {
            "image_size_px": (given.size, given.size),
            "pixel_size_angstrom": given.pixel,
            "frames": given.frames,
            "thickness_angstrom": given.thickness,
            "particles_per_species": (large, given.particles - large),
            "vesicles": 0,
            "beads": 5,
            "tilt_step_deg": 120.0 / (given.tilts - 1),
            "formation": formation,
            "slice_angstrom": given.slice,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--pixel", type=float, default=4.0, help="A")
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--timed", type=int, default=10, help="of these tilts, spread over the range")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--thickness", type=float, default=2000.0, help="A")
    parser.add_argument("--slice", type=float, default=50.0, help="A, of multislice")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--formations", nargs="+", default=["weak-phase", "multislice"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("formation      build  wall/tilt  cpu/tilt  series wall  series cpu/workers  peak GiB")
    for formation in given.formations:
        started = time.perf_counter()
        series = SimulatedSeries.build(settings(given, formation))
        built = time.perf_counter() - started
        count = len(series.acquisition.geometry)
        chosen = [int(t) for t in np.linspace(0, count - 1, min(given.timed, count)).round()]
        series.movie(count // 2)  # kernels compiled
        wall, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(given.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(series.movie, chosen))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        share = count / len(chosen)
        print(
            f"{formation:12s} {built:7.1f} {wall / len(chosen):10.2f} {processor / len(chosen):9.2f} "
            f"{built + wall * share:12.0f} {built + processor * share / given.workers:19.0f} {peak:9.2f}"
        )


if __name__ == "__main__":
    main()
