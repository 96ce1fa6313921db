"""How well frames are aligned on simulated movies whose every displacement is known.

python benchmarks/motion_accuracy.py sums --movies 1000      # aligned against unaligned sums of short, faint movies
python benchmarks/motion_accuracy.py local --size 2048       # global and local motion at 3 and 15 e/A2
python benchmarks/motion_accuracy.py series --movies 2       # what the other tilts of a series tell
"""

import argparse
import time

import numpy as np
import torch

from eucentric.motion import MotionParams
from eucentric.motion.band_spectra import transform_frames
from eucentric.motion.estimate_motion import estimate_shifts
from eucentric.motion.local_motion import estimate_local_motion
from eucentric.motion.results import MotionResult
from eucentric.motion.series_prior import series_prior
from eucentric.motion.sum_frames import make_sums
from eucentric.simulation.moving_frames import MovingMovie, MovingScene, record_moving_frames


def displacement_at(result: MotionResult, movie: MovingMovie) -> np.ndarray:
    """(frame, y, x, 2) of a result at the places of the truth, mean over frames removed."""
    places = torch.from_numpy(movie.places)
    frames = []
    for f, shift in enumerate(result.shifts_angstrom):
        here = torch.zeros(places.shape, dtype=torch.float64) + shift
        frames.append(here if result.field is None else here + result.field.at_places(f, places))
    moved = torch.stack(frames)
    return (moved - moved.mean(0)).numpy()


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square length of the differences of vectors on the last axis."""
    return float(np.sqrt(((a - b) ** 2).sum(-1).mean()))


def likeness(image: torch.Tensor, clean: torch.Tensor) -> float:
    """Correlation away from the border."""
    a, b = (v[20:-20, 20:-20].double().reshape(-1) for v in (image, clean))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def compare_sums(movies: int, first: int) -> None:
    """Aligned against unaligned sums: movies of 0.5 to 5 e/A2, 2 to 10 frames, all kinds of motion."""
    worse: dict[str, list[float]] = {"recorded": [], "noise-free": []}
    gains, true_gains = [], []
    for seed in range(first, first + movies):
        rng = np.random.default_rng(10_000 + seed)
        scene = MovingScene(
            image_shape=(256, 320) if seed % 2 else (320, 256),
            pixel_size=float(rng.choice([1.5, 3.0, 4.0])),
            frames=int(rng.integers(2, 11)),
            dose=float(rng.uniform(0.5, 5.0)),
            defocus=float(rng.uniform(20_000, 50_000)),
            coverage=float(rng.choice([0.1, 0.3, 0.6])),
            drift=float(rng.choice([0.0, 3.0, 10.0, 30.0])),
            doming=2.0,
            local=2.0,
        )
        movie = record_moving_frames(scene, seed)
        padded, coarse = transform_frames(movie.frames, scene.pixel_size)
        result = estimate_shifts(coarse, MotionParams())
        used = result.used.tolist()
        pure, _ = transform_frames(movie.expected, scene.pixel_size)
        true = torch.from_numpy(movie.displacement.mean((1, 2)))
        true_gains.append(likeness(make_sums(padded, true).total, movie.clean))
        true_gains[-1] -= likeness(movie.frames.sum(0), movie.clean)
        for name, frames, area in (("recorded", movie.frames, padded), ("noise-free", movie.expected, pure)):
            before = likeness(frames.sum(0), movie.clean)
            after = likeness(make_sums(area, result.shifts_angstrom, used=used).total, movie.clean)
            loss = (before - after) / abs(before)
            worse[name].append(loss)
            if name == "recorded":
                gains.append(after - before)
            if loss > 0.001:
                print(
                    f"seed {seed}, {name}: {before:.4f} unaligned, {after:.4f} aligned; {scene.dose:.2f} e/A2, "
                    f"{scene.frames} frames, {scene.pixel_size} A, drift {scene.drift} A, coverage {scene.coverage}, "
                    f"rejected {len(result.rejected)}",
                    flush=True,
                )
    for name, losses in worse.items():
        parts = ", ".join(
            f"by more than {limit:g}%: {100 * np.mean(np.array(losses) > limit / 100):.1f}%" for limit in (0.01, 0.1, 1)
        )
        print(f"{movies} movies, {name} frames: aligned sum worse than the unaligned one {parts}")
    print(f"mean gain of the correlation {np.mean(gains):.4f}; with the true shifts {np.mean(true_gains):.4f}")


def compare_local(size: int, movies: int, pixel: float, coverage: float) -> None:
    """Error of the displacement over places and frames, global alone and with the local field."""
    for dose, frames in ((3.0, 10), (15.0, 10), (15.0, 40)):
        table = []
        for seed in range(movies):
            scene = MovingScene(image_shape=(size, size), pixel_size=pixel, dose=dose, frames=frames, coverage=coverage)
            movie = record_moving_frames(scene, seed)
            _, coarse = transform_frames(movie.frames, pixel, keep_bytes=0)
            start = time.process_time()
            whole = estimate_shifts(coarse, MotionParams())
            middle = time.process_time()
            local = estimate_local_motion(coarse, whole, MotionParams(), doses=torch.from_numpy(movie.doses))
            end = time.process_time()
            errors = [rms(displacement_at(r, movie), movie.displacement) for r in (whole, local)]
            sigma = float(local.sigma_angstrom.mean()) * 2**0.5
            table.append([*errors, sigma, local.field is not None, middle - start, end - middle])
        mean = np.sqrt(np.mean(np.square(np.array(table, dtype=float)[:, :3]), axis=0))
        rest = np.mean(np.array(table, dtype=float)[:, 3:], axis=0)
        print(
            f"{dose:g} e/A2, {frames} frames, {size}^2 at {pixel} A: rms error {mean[0]:.2f} A global, {mean[1]:.2f} A with local "
            f"motion (claimed {mean[2]:.2f}, taken in {100 * rest[0]:.0f}%); CPU {rest[1]:.2f} + {rest[2]:.2f} s",
            flush=True,
        )


def compare_series(count: int, tilts: int = 16) -> None:
    """Error of the common motion of faint movies that settle alike, each alone and with what the others tell."""
    for dose in (0.6, 1.2, 2.4):
        alone, together, claimed = [], [], []
        for number in range(count):
            coarse, true = [], []
            for tilt in range(tilts):
                scene = MovingScene(
                    image_shape=(512, 512),
                    pixel_size=2.0,
                    frames=8,
                    dose=dose,
                    coverage=0.6,
                    drift=8.0,
                    doming=1.0,
                    local=1.0,
                )
                movie = record_moving_frames(scene, 1000 * number + tilt)
                coarse.append(transform_frames(movie.frames, scene.pixel_size, keep_bytes=0)[1])
                true.append(movie.displacement.mean((1, 2)))
            first = [estimate_shifts(c, MotionParams()) for c in coarse]
            for tilt in range(tilts):
                prior = series_prior(first[:tilt] + first[tilt + 1 :])
                again = estimate_shifts(coarse[tilt], MotionParams(), prior=prior)
                alone.append(rms(first[tilt].shifts_angstrom.numpy(), true[tilt]))
                together.append(rms(again.shifts_angstrom.numpy(), true[tilt]))
                claimed.append(float(again.sigma_angstrom.mean()) * 2**0.5)
        figures = [float(np.sqrt(np.mean(np.square(v)))) for v in (alone, together, claimed)]
        still = float(np.sqrt(np.mean([np.sum(t**2, -1).mean() for t in true])))
        print(
            f"{dose} e/A2 in 8 frames, {count} series of {tilts}: rms motion {still:.2f} A; rms error {figures[0]:.2f} A alone, "
            f"{figures[1]:.2f} A with the series (claimed {figures[2]:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sums", "local", "series"])
    parser.add_argument("--movies", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--pixel", type=float, default=2.0)
    parser.add_argument("--coverage", type=float, default=0.25)
    given = parser.parse_args()
    if given.what == "sums":
        compare_sums(given.movies, given.first)
    elif given.what == "series":
        compare_series(given.movies)
    else:
        compare_local(given.size, given.movies, given.pixel, given.coverage)


if __name__ == "__main__":
    main()
