"""What denoising does to the 4 nm layer line of real microtubules: `python benchmarks/denoising_layer_line.py [method ...]`.

Two crops of tomograms, one microtubule each, no halves. The axis is traced in the raw crop, and the wall unrolled along it in
the raw and in each denoised crop. The layer line is the power of the three-start helix at its peak over the mean power of all orders
beside it (15 to 45% off in frequency along the axis, orders to 20): so near that no filter in Fourier space changes the ratio much.
In brackets the ratio over that of the raw crop. A denoiser that eats the signal loses it.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from eucentric.cli.main import run
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles
from eucentric.picking.filament_lattice import unroll_wall
from eucentric.picking.refine_lines import VolumeSamples
from eucentric.picking.trace_params import TraceParams
from reconstruction_accuracy import shared_data_folder

VOXEL, SPACING, STARTS = 10.52, 40.9, 3
TUBE = TraceParams(diameter_angstrom=250.0, wall_angstrom=45.0)
NEAR, BESIDE, ORDERS, PAD = 0.03, (0.15, 0.45), 20, 4


def called(*words: object) -> None:
    """A command that must succeed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run([*map(str, words)])
    if code:
        raise SystemExit(f"{' '.join(map(str, words))} failed: {out.getvalue()}")


def layer_line(path: Path, points: np.ndarray) -> float:
    """Power of the helix over that beside it."""
    volume = -np.array(read_mrc(path)[0], dtype=np.float32)
    dense = VolumeSamples(values=volume - np.median(volume), step_angstrom=np.full(3, VOXEL))
    wall = unroll_wall(dense, points, TUBE, SPACING)
    rows, columns = wall.values.shape
    flat = (wall.values - wall.values.mean(0)) * np.hanning(rows)[:, None]
    power = np.abs(np.fft.fft2(flat, s=(PAD * rows, columns))) ** 2
    place = np.abs(np.fft.fftfreq(PAD * rows, wall.step_angstrom)) * SPACING - 1.0
    orders = np.abs(np.fft.fftfreq(columns, 1.0 / columns))
    peak = power[np.abs(place) <= NEAR][:, orders == STARTS].max()
    beside = (np.abs(place) >= BESIDE[0]) & (np.abs(place) <= BESIDE[1])
    return float(peak / power[beside][:, orders <= ORDERS].mean())


def measure(data: Path, name: str, methods: list[str], folder: Path) -> None:
    """A row for each method."""
    volume = -tifffile.imread(data / "real" / "microtubules" / f"{name}_MT.tif").astype(np.float32)
    raw, axis = folder / f"{name}.mrc", folder / f"{name}_axis.star"
    write_mrc(raw, volume, VOXEL)
    tube = ("--diameter", TUBE.diameter_angstrom, "--wall", TUBE.wall_angstrom)
    called("pick-geometry", "trace", raw, *tube, "--output", axis)
    points = read_particles(axis).positions_angstrom
    reference = layer_line(raw, points)
    print(f"{name} raw          {reference:6.1f}", flush=True)
    for method in methods:
        path = folder / f"{name}_{method}.mrc"
        words = ("fill-wedge", raw) if method == "fill-wedge" else ("denoise", raw, "--method", method)
        called(*words, "--output", path)
        found = layer_line(path, points)
        print(f"{name} {method:12s} {found:6.1f} ({found / reference:.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=["network", "fill-wedge", "wavelet", "nad", "nlm", "gaussian"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("13pf", "14pf"):
            measure(shared_data_folder(), name, given.methods, Path(folder))


if __name__ == "__main__":
    main()
