"""Defocus, hand and thickness on twelve simulated series, and the time that images and series take.

python benchmarks/ctf_accuracy.py series --cache /tmp/ctf      # one or two minutes to simulate each, then a few seconds
python benchmarks/ctf_accuracy.py series 4 7 --cache /tmp/ctf  # some of the twelve
python benchmarks/ctf_accuracy.py image                        # one micrograph of 4096 x 4096

The geometry given to the fit does not know the pre-tilt, and the hand given is the wrong one. Fields are some 1400 to
3500 A wide; a dose of 9 e/A2 an image gives them about the rings that a camera's whole field has at 3.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from eucentric.compute import set_threads
from eucentric.ctf import estimate_image_ctf, estimate_series_ctf
from eucentric.fourier import frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics, Specimen
from eucentric.optics import ctf_2d
from eucentric.simulation.image_formation import SimulatedSeries
from eucentric.simulation.params import SimulationParams


class Case(NamedTuple):
    """What differs between the series."""

    defocus: float
    voltage: float
    pixel: float
    thickness: float
    pretilt: float
    size: int


CASES = (
    Case(20000, 300, 1.35, 1700, 0, 1024),
    Case(25000, 300, 1.35, 2000, 10, 1024),
    Case(30000, 200, 1.7, 1600, -15, 896),
    Case(40000, 300, 2.2, 2500, 20, 768),
    Case(20000, 200, 2.2, 2500, 0, 768),
    Case(35000, 300, 1.7, 2200, -20, 896),
    Case(60000, 300, 2.7, 2500, 10, 768),
    Case(45000, 200, 3.4, 2500, 5, 768),
    Case(15000, 300, 3.4, 1200, -10, 768),
    Case(50000, 200, 4.3, 1800, 15, 640),
    Case(35000, 300, 5.4, 800, 0, 640),
    Case(25000, 200, 5.4, 1500, -5, 640),
)


def settings(number: int, seed: int) -> SimulationParams:
    """The simulator's settings of one of the twelve: true tilts stay within 60 degrees."""
    case = CASES[number]
    share = (case.size * case.pixel / 2400) ** 2 * case.thickness / 1100
    return SimulationParams(
        seed=seed + number,
        thickness_angstrom=case.thickness,
        defocus_angstrom=case.defocus,
        voltage_kv=case.voltage,
        pixel_size_angstrom=case.pixel,
        image_size_px=(case.size, case.size),
        tilt_offset_deg=case.pretilt,
        tilt_min_deg=-60 - min(case.pretilt, 0),
        tilt_max_deg=60 - max(case.pretilt, 0),
        tilt_step_deg=5,
        particles_per_species=(max(2, round(28 * share)), max(4, round(40 * share))),
        vesicles=0,
        beads=round(4 * share),
        dose_per_tilt=9.0,
        frames=1,
        drift_angstrom=0,
        doming_angstrom=0,
        stage_jitter_angstrom=40,
        tilt_axis_deg=(84.0, -95.0, 12.0, 178.0)[number % 4],
        hand=1 if number % 3 == 1 else -1,
        depth_step_angstrom=200,
    )


def simulate(number: int, seed: int, cache: Path) -> dict[str, np.ndarray]:
    """Images and truth of one series, kept in a file."""
    path = cache / f"series_{seed}_{number:02d}.npz"
    if not path.exists():
        series = SimulatedSeries.build(settings(number, seed))
        geometry = series.acquisition.geometry
        images = []
        for tilt in range(len(geometry)):
            generator = torch.Generator().manual_seed(tilt + 1000 * (seed + number))
            images.append(torch.poisson(series.expected_frames(tilt).sum(0), generator=generator).numpy())
        np.savez(
            path,
            images=np.stack(images).astype(np.float32),
            y_tilt=geometry.y_tilt_deg,
            z_rot=geometry.z_rot_deg,
            x_tilt=geometry.x_tilt_deg,
            shifts=geometry.shifts_angstrom,
            defocus=0.5 * (series.acquisition.defocus_u_angstrom + series.acquisition.defocus_v_angstrom),
            order=series.acquisition.order,
        )
    with np.load(path) as stored:
        return dict(stored)


def run_series(numbers: list[int], seed: int, cache: Path, plane: bool) -> None:
    """One line a series, then the sums; with `plane`, the specimen's plane is known as well as alignment measures it."""
    cache.mkdir(parents=True, exist_ok=True)
    right, everything = 0, []
    print(
        "  um   kV   A/px  pre-tilt  hand  sigmas  median  90%    max A  thick  node/band A      found          CPU s"
    )
    for number in numbers:
        case, stored = CASES[number], simulate(number, seed, cache)
        params, optics = settings(number, seed), Optics(voltage_kv=CASES[number].voltage)
        geometry = TiltGeometry.build(
            stored["y_tilt"] - case.pretilt,
            z_rot_deg=stored["z_rot"],
            x_tilt_deg=stored["x_tilt"],
            shifts_angstrom=stored["shifts"],
        )
        across, about = np.random.default_rng([seed, number]).normal(0.0, (1.0, 0.3))
        known = Specimen(
            pre_tilt_x_sigma_deg=1.0, pre_tilt_y_sigma_deg=0.3, x_tilt_deg=across, y_tilt_deg=case.pretilt + about
        )
        start = time.process_time()
        result = estimate_series_ctf(
            torch.from_numpy(stored["images"]),
            geometry,
            pixel_size=case.pixel,
            optics=optics,
            hand=-params.hand,
            acquisition=stored["order"],
            specimen=known if plane else None,
        )
        spent = time.process_time() - start
        wrong = np.abs(np.array([f.defocus_angstrom for f in result.fits]) - stored["defocus"])
        everything.append(wrong)
        right += result.hand == params.hand
        said = ("right" if result.hand == params.hand else "wrong") if result.hand_test.decided else " open"
        found = result.thickness
        told = "not determined"
        if found is not None and found.determined:
            told = f"{found.thickness_angstrom:6.0f} +- {found.sigma_angstrom:3.0f}"
        middle, most, worst = np.quantile(wrong, [0.5, 0.9, 1.0])
        node, end = (optics.wavelength_angstrom * case.thickness) ** 0.5, 1 / result.curves.frequency[-1]
        print(
            f"{case.defocus / 1e4:4.1f}  {case.voltage:.0f}  {case.pixel:5.2f}  {case.pretilt:8.0f}  "
            f"{said}  {result.hand_test.sigmas:5.1f}  {middle:6.0f}  "
            f"{most:4.0f}  {worst:6.0f}  {case.thickness:6.0f}  {node:5.1f} / {end:4.1f}  {told:>15}  {spent:6.1f}",
            flush=True,
        )
    print(
        f"hand right in {right} of {len(numbers)}; 90% of defocus errors below {np.quantile(np.concatenate(everything), 0.9):.0f} A"
    )


def run_image(size: int) -> None:
    """Time and error on an easy micrograph."""
    generator = torch.Generator().manual_seed(0)
    shape, pixel = (size, size), 1.1
    filters = ctf_2d(shape, pixel, 20200.0, 19800.0, 35.0, Optics()) * torch.exp(
        -20 * frequency_grid(shape, pixel) ** 2
    )
    image = torch.fft.irfft2(torch.fft.rfft2(torch.randn(shape, generator=generator)) * filters, s=shape)
    image = 10.0 + image + 2.0 * torch.randn(shape, generator=generator)
    start, wall = time.process_time(), time.perf_counter()
    found = estimate_image_ctf(image, pixel_size=pixel, optics=Optics()).fit
    print(
        f"{size} x {size}: {time.process_time() - start:.2f} s of CPU, {time.perf_counter() - wall:.2f} s; defocus "
        f"{found.defocus_angstrom - 20000:+.1f} A, astigmatism {found.defocus_u_angstrom - found.defocus_v_angstrom:.0f} A "
        f"(400) at {found.astigmatism_angle_deg:.1f} degrees (35)"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["series", "image"])
    parser.add_argument("numbers", nargs="*", type=int, help="which of the twelve, 0 to 11")
    parser.add_argument("--seed", type=int, default=300, help="of the first series; the others count on")
    parser.add_argument("--cache", type=Path, default=Path("ctf_accuracy"))
    parser.add_argument("--plane", action="store_true", help="the specimen's plane was measured before")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    set_threads(chosen.threads)
    if chosen.what == "series":
        run_series(chosen.numbers or list(range(len(CASES))), chosen.seed, chosen.cache, chosen.plane)
    else:
        run_image(chosen.size)


if __name__ == "__main__":
    main()
