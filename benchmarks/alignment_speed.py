"""Time and error of aligning a synthetic slab, beside a chained aligner.

    python benchmarks/alignment_speed.py --size 1024 --repeats 3

The slab is dense and has no flat layer: blobs of several sizes at all heights, in counting noise, wider than the field at
every tilt. Errors are rms distances between true and found shifts, in pixels, less the translation of the specimen, which no
series shows. The chained aligner correlates every stretched image with the next one inwards, takes the summit of a parabola
and adds up.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from eucentric.alignment.coarse import align_coarsely, coarse_shifts
from eucentric.compute import set_threads
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.projection.resampling import resample_tilts

PIXEL = 10.0


def slab_series(
    size: int,
    *,
    thickness: float = 1500.0,
    axis_deg: float = 84.0,
    stage: float = 0.03,
    noise: float = 6.0,
    crowding: float = 1.0,
    seed: int = 1,
) -> tuple[torch.Tensor, TiltGeometry]:
    """41 images (tilt, y, x) of a slab of random blobs, and their geometry.

    Parameters
    ----------
    size : pixels along the image, of 10 A
    stage : rms error of the stage, in fields
    noise : standard deviation, in that of the specimen's contrast in an untilted image
    crowding : blobs in a cube of 20 nm
    """
    generator = np.random.default_rng(seed)
    field = size * PIXEL
    tilts = np.linspace(-60.0, 60.0, 41)
    geometry = TiltGeometry.build(
        tilts, z_rot_deg=axis_deg, shifts_angstrom=generator.normal(0.0, stage * field, (len(tilts), 2))
    )
    half = np.array([1.4 * field, 0.85 * field, 0.5 * thickness])
    count = int(crowding * 8.0 * half.prod() / 200.0**3)
    images = torch.zeros(len(tilts), size, size)
    frequency = frequency_grid((size, size), PIXEL, dtype=torch.float64)
    for sigma in (25.0, 50.0, 90.0):
        points = generator.uniform(-half, half, (count // 3, 3))
        weights = generator.uniform(0.5, 1.5, count // 3) * sigma**1.5
        shape = torch.exp(-2.0 * (np.pi * sigma * frequency) ** 2)
        for t, places in enumerate(geometry.project(points)[..., :2]):
            spread = torch.from_numpy(_splat(places / PIXEL + size // 2, weights, size))
            images[t] -= torch.fft.irfft2(torch.fft.rfft2(spread) * shape, s=(size, size)).float()
    level = noise * float(images[len(tilts) // 2].std())
    images += level * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images, geometry


def _splat(at: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Points shared out among their four pixels."""
    out = np.zeros(size * size)
    base = np.floor(at).astype(np.int64)
    part = at - base
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = base[:, 0] + dx, base[:, 1] + dy
            share = weights * np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            out += np.bincount(y[inside] * size + x[inside], share[inside], size * size)
    return out.reshape(size, size)


def chained_shifts(images: torch.Tensor, tilts: np.ndarray, axis_deg: float) -> TiltGeometry:
    """The usual way: from the lowest tilt outwards, each image against the one before, stretched; sums of shifts."""
    shape = (images.shape[1], images.shape[2])
    centred = images - images.mean((-2, -1), keepdim=True)
    turned = resample_tilts(
        centred, TiltGeometry.build(tilts, z_rot_deg=axis_deg), PIXEL, out_shape=shape, out_pixel_size=PIXEL
    )
    frequency = frequency_grid(shape, PIXEL)
    band = band_pass(frequency, low_pass_angstrom=4.0 * PIXEL, high_pass_angstrom=0.25 * shape[0] * PIXEL)
    still = int(np.abs(tilts).argmin())
    found = np.zeros((len(tilts), 2))
    cosine = np.cos(np.deg2rad(tilts))
    for step in (1, -1):
        for i in range(still + step, len(tilts) if step > 0 else -1, step):
            before = i - step
            ratio = cosine[i] / cosine[before]
            x = (torch.arange(shape[1], dtype=torch.float32) - shape[1] // 2) * ratio + shape[1] // 2
            low = x.floor().clamp(0, shape[1] - 2).long()
            part = (x - low).clamp(0, 1)
            stretched = turned[i][:, low] * (1 - part) + turned[i][:, low + 1] * part
            one, two = (torch.fft.rfft2(taper_edges(v, shape[0] // 10)) for v in (turned[before], stretched))
            surface = torch.fft.irfft2(one * two.conj() * band, s=shape)
            moved = np.array(_parabola(surface))
            found[i] = (found[before] - moved) * (ratio, 1.0)
    c, s = np.cos(np.deg2rad(axis_deg)), np.sin(np.deg2rad(axis_deg))
    return TiltGeometry.build(tilts, z_rot_deg=axis_deg, shifts_angstrom=PIXEL * found @ np.array([[c, s], [-s, c]]))


def _parabola(surface: torch.Tensor) -> tuple[float, float]:
    height, width = surface.shape
    row, column = divmod(int(surface.argmax()), width)
    out = []
    for size, at, line in ((width, column, surface[row]), (height, row, surface[:, column])):
        left, middle, right = float(line[at - 1]), float(line[at]), float(line[(at + 1) % size])
        bend = left - 2 * middle + right
        out.append((at + size // 2) % size - size // 2 + (0.5 * (left - right) / bend if bend < 0 else 0.0))
    return out[0], out[1]


def shift_error(found: TiltGeometry, true: TiltGeometry) -> float:
    """Rms distance of the shifts in pixels, less the best translation of the specimen."""
    difference = (true.shifts_angstrom - found.shifts_angstrom).reshape(-1)
    design = true.matrices[:, :2].reshape(-1, 3)
    left = difference - design @ np.linalg.lstsq(design, difference, rcond=None)[0]
    return float(np.sqrt((left.reshape(-1, 2) ** 2).sum(1).mean())) / PIXEL


def searched(images: torch.Tensor, tilts: np.ndarray, axis_deg: float) -> TiltGeometry:
    """Axis, slope and shifts from scratch."""
    return align_coarsely(images, tilts, PIXEL, axis_deg=axis_deg).geometry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--noise", type=float, default=6.0)
    parser.add_argument("--thickness", type=float, nargs="+", default=[1000.0, 1500.0, 2000.0])
    given = parser.parse_args()
    set_threads(given.threads)
    print(f"41 images of {given.size} x {given.size} pixels of {PIXEL:g} A, noise {given.noise:g} times the contrast")
    for thickness in given.thickness:
        images, true = slab_series(given.size, thickness=thickness, noise=given.noise)
        tilts, axis = true.y_tilt_deg, float(true.z_rot_deg[0])
        ways: dict[str, Callable[[], TiltGeometry]] = {
            "chain": partial(chained_shifts, images, tilts, axis),
            "graph, axis known": partial(coarse_shifts, images, tilts, axis, PIXEL),
            "graph, axis searched": partial(searched, images, tilts, axis + 2.0),
        }
        for name, way in ways.items():
            wall, processor = [], []
            found = way()
            for _ in range(given.repeats):
                start, start_processor = time.perf_counter(), time.process_time()
                found = way()
                wall.append(time.perf_counter() - start)
                processor.append(time.process_time() - start_processor)
            spent = (
                f"{statistics.median(wall):5.2f} s, {statistics.median(processor):5.2f} s of processor" if wall else ""
            )
            print(f"{thickness:6.0f} A thick, {name:22s} {shift_error(found, true):6.2f} px  {spent}", flush=True)


if __name__ == "__main__":
    main()
