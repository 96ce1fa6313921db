"""Time and memory of aligning and summing frames in memory, against the floor: one float32 FFT of every frame.

    python benchmarks/motion_speed.py --size 4096 --frames 10 --repeats 3

Wall times are medians of rounds in which the floor is timed beside the work; processor times tell on a busy machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from eucentric.compute import set_threads
from eucentric.motion import MotionParams
from eucentric.motion.band_spectra import FrameSource, transform_frames
from eucentric.motion.estimate_motion import estimate_shifts
from eucentric.motion.local_motion import estimate_local_motion
from eucentric.motion.motion_field import MotionField
from eucentric.motion.sum_frames import DoseWeights, make_sums


def recorded(size: int, frames: int) -> torch.Tensor:
    """uint8 counts of a drifting scene; what it shows does not matter to the time."""
    generator = torch.Generator().manual_seed(1)
    radius2 = torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2
    spectrum = torch.fft.rfft2(torch.randn(size, size, generator=generator)) * torch.exp(-1000.0 * radius2)
    scene = torch.fft.irfft2(spectrum, s=(size, size))
    scene = 1.0 + 0.15 * scene / scene.std()
    out = torch.empty(frames, size, size, dtype=torch.uint8)
    for i in range(frames):
        out[i] = torch.poisson((0.55 * scene.roll((i, -2 * i), (0, 1))).clamp(min=0), generator=generator).to(
            torch.uint8
        )
    return out


class Clock:
    """Wall and processor time of named steps."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[..., Any], *given: Any, **more: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        value = work(*given, **more)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.processor.setdefault(name, []).append(time.process_time() - processor)
        return value

    def median(self, name: str) -> tuple[float, float]:
        return statistics.median(self.wall[name]), statistics.median(self.processor[name])


def floor(image: torch.Tensor, frames: int) -> None:
    for _ in range(frames):
        torch.fft.rfft2(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pixel", type=float, default=1.35)
    parser.add_argument("--keep", type=float, default=1.0, help="GiB of spectra that may be kept")
    parser.add_argument(
        "--global-only", action="store_true", help="leave local motion out, to see the memory without it"
    )
    given = parser.parse_args()
    set_threads(given.threads)
    counts = recorded(given.size, given.frames)
    shape = (given.size, given.size)
    source = FrameSource(
        count=given.frames, image_shape=shape, frame=lambda i: counts[i].float(), device=torch.device("cpu")
    )
    image = torch.rand(shape)
    params = MotionParams()
    doses = torch.full((given.frames,), 0.3, dtype=torch.float64)
    weights = DoseWeights(doses=(0.3,) * given.frames, pre_exposure=30.0)
    half = 0.5 * given.size * given.pixel
    wave = MotionField(
        coefficients=torch.randn(4, 7, 7, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
        times=torch.linspace(0.05, 0.95, given.frames),
        extent_angstrom=(half, half),
    )
    clock = Clock()
    process = psutil.Process()
    for _ in range(given.repeats):
        clock.run("floor", floor, image, given.frames)
        padded, coarse = clock.run(
            "transform", transform_frames, source, given.pixel, keep_bytes=int(given.keep * 2**30)
        )
        result = clock.run("estimate", estimate_shifts, coarse, params)
        clock.run("even and odd sums", make_sums, padded, result.shifts_angstrom)
        if not given.global_only:
            clock.run(
                "local estimate, 5 x 5", estimate_local_motion, coarse, result, params, doses=doses, grid=(4, 4, 1)
            )
            clock.run(
                "local sums, dose weighted too",
                make_sums,
                padded,
                result.shifts_angstrom,
                field=wave,
                dose_weights=weights,
                release=True,
            )
        if given.global_only:
            more = {"dose_weights": weights, "release": True}
            clock.run("the same, dose weighted too", make_sums, padded, result.shifts_angstrom, **more)
        del padded, coarse
    for name in clock.wall:
        wall, processor = clock.median(name)
        print(f"{name:32s} {wall:6.2f} s wall {processor:6.2f} s processor")
    steps = ("transform", "estimate", "even and odd sums")
    local = ("transform", "estimate", "local estimate, 5 x 5", "local sums, dose weighted too")
    roads = [("global", steps)] if given.global_only else [("global", steps), ("local, dose weighted", local)]
    for name, parts in roads:
        wall, processor = (sum(clock.median(p)[k] for p in parts) for k in range(2))
        base = clock.median("floor")
        print(
            f"{name}: {wall:.2f} s, {given.frames / wall:.1f} frames/s; {wall / base[0]:.1f} times the floor by the wall clock, "
            f"{processor / base[1]:.1f} by processor time"
        )
    peak = getattr(process.memory_info(), "peak_wset", None) or _peak()
    print(f"peak memory of the process {peak / 2**30:.2f} GiB, of which frames {counts.numel() / 2**30:.2f}")


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
