"""Correction of tilted images for their contrast transfer against truth, and the time it takes.

python benchmarks/ctf_correction.py accuracy [--picture seams.png]
python benchmarks/ctf_correction.py speed      # 41 images of 1024 x 1024, each mode

Points on a plane are written into the image one by one, each with the CTF of its own height. The best that any correction
can do is to correct each point with just that CTF. A correction by strips is compared with it: by its Fourier ring
correlation with the image without any CTF, and by how much detail it brings back to its place.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch

from eucentric.compute import set_threads
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import CtfCorrection, correction_gain
from eucentric.optics.ctf import phase_aberration_2d
from eucentric.reconstruction import correct_ctf

PIXEL, SIZE, HAND = 2.0, 768, -1.0
OPTICS = Optics(voltage_kv=300.0, amplitude_contrast=0.08)
FIT = CtfFit(defocus_u_angstrom=30400.0, defocus_v_angstrom=29600.0, astigmatism_angle_deg=30.0)
BANDS = ((0.02, 0.1), (0.1, 0.17), (0.17, 0.225))
MODES: tuple[CtfCorrection, ...] = ("flip", "multiply", "wiener")


def scene(tilt: float, modes: tuple[CtfCorrection, ...] = MODES, points: int = 400) -> dict[str, torch.Tensor]:
    """A tilted plane of points: without CTF (``clean``), as recorded (``seen``), and with each point corrected exactly."""
    rng = np.random.default_rng(3)
    geometry = geometry_of(tilt)
    reach = 0.42 * SIZE * PIXEL
    places = np.zeros((points, 3))
    places[:, 0] = rng.uniform(-reach, reach, points) / np.cos(np.deg2rad(tilt))
    places[:, 1] = rng.uniform(-reach, reach, points)
    camera = geometry.project(places)[0]
    camera = camera[np.abs(camera[:, :2]).max(axis=1) < 0.46 * SIZE * PIXEL]
    fy = torch.fft.fftfreq(SIZE, PIXEL)[:, None]
    fx = torch.fft.rfftfreq(SIZE, PIXEL)[None]
    spectra = {name: torch.zeros(SIZE, SIZE // 2 + 1, dtype=torch.complex64) for name in ("clean", "seen", *modes)}
    middle = PIXEL * (SIZE // 2)
    for x, y, z in camera:
        change = HAND * z
        chi = phase_aberration_2d(
            fy, fx, FIT.defocus_u_angstrom + change, FIT.defocus_v_angstrom + change, FIT.astigmatism_angle_deg, OPTICS
        )
        ctf = torch.sin(chi)
        ramp_y = torch.exp(-2j * torch.pi * fy.double() * (y + middle)).to(torch.complex64)
        ramp_x = torch.exp(-2j * torch.pi * fx.double() * (x + middle)).to(torch.complex64)
        ramp = ramp_y * ramp_x
        spectra["clean"] += ramp
        spectra["seen"] += ramp * ctf
        for mode in modes:
            spectra[mode] += ramp * (ctf * correction_gain(ctf, mode))
    return {name: torch.fft.irfft2(s, s=(SIZE, SIZE)) for name, s in spectra.items()}


def geometry_of(tilt: float) -> TiltGeometry:
    """One tilt about an axis that lies along no edge."""
    return TiltGeometry.build([tilt], z_rot_deg=84.0, shifts_angstrom=[[40.0, -25.0]])


def corrected(seen: torch.Tensor, tilt: float, mode: CtfCorrection, **changes: float | bool) -> torch.Tensor:
    """The image corrected by the product."""
    hand = float(changes.pop("hand", HAND))
    options = {"pixel_size": PIXEL, "fits": [FIT], "optics": OPTICS, "hand": hand, "mode": mode, **changes}
    return correct_ctf(seen[None], geometry_of(tilt), **options)[0]  # type: ignore[arg-type]


def ring_agreement(image: torch.Tensor, clean: torch.Tensor, low: float, high: float) -> tuple[float, float]:
    """Fourier ring correlation with the clean image between two resolutions (1/A), and how much of its detail came back.

    The first is the mean over rings. The second is the slope of the image's spectrum on the clean one, so what lies in its
    right place; fringes that the correction leaves elsewhere lower the first alone. Edges are left out by a window.
    """
    window = torch.outer(torch.hann_window(SIZE), torch.hann_window(SIZE))
    one, two = (torch.fft.rfft2((x - x.mean()) * window) for x in (image, clean))
    k = torch.sqrt(torch.fft.fftfreq(SIZE, PIXEL)[:, None] ** 2 + torch.fft.rfftfreq(SIZE, PIXEL)[None] ** 2)
    ring = (k * SIZE * PIXEL).round().long().flatten()

    def sums(values: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(int(ring.max()) + 1).index_add_(0, ring, values.flatten())
        return total[round(low * SIZE * PIXEL) : round(high * SIZE * PIXEL)]

    shared, first, second = sums((one * two.conj()).real), sums(one.abs() ** 2), sums(two.abs() ** 2)
    return float((shared / torch.sqrt(first * second)).mean()), float(shared.sum() / second.sum())


def accuracy(picture: Path | None) -> None:
    """Correlation with the clean image, and the detail brought back, of that of the exact correction; by bands of 1/A."""
    cases: dict[str, dict[str, float | bool]] = {
        "strips": {},
        "tolerance 50 A": {"defocus_tolerance_angstrom": 50.0},
        "tolerance 250 A": {"defocus_tolerance_angstrom": 250.0},
        "tolerance 1000 A": {"defocus_tolerance_angstrom": 1000.0},
        "whole image": {"by_height": False},
        "wrong hand": {"hand": -HAND},
    }
    print("                             correlation in           detail brought back, of the exact")
    print("                             " + 2 * "  ".join(f"{low:g}-{high:g}".ljust(9) for low, high in BANDS))
    for tilt in (0.0, 45.0, 60.0):
        images = scene(tilt)
        for mode in MODES:
            best = images[mode]
            rows = {"exact": best, "uncorrected": images["seen"]}
            rows |= {name: corrected(images["seen"], tilt, mode, **changes) for name, changes in cases.items()}
            ideal = [ring_agreement(best, images["clean"], *band)[1] for band in BANDS]
            for name, image in rows.items():
                found = [ring_agreement(image, images["clean"], *band) for band in BANDS]
                correlation = "  ".join(f"{c:6.3f}" for c, _ in found)
                detail = "  ".join(f"{slope / most:6.3f}" for (_, slope), most in zip(found, ideal, strict=True))
                print(f"tilt {tilt:3.0f}  {mode:8s} {name:17s} {correlation}     {detail}", flush=True)
            if picture is not None and tilt == 60.0 and mode == "flip":
                _draw(picture, [images["seen"], best, rows["strips"], rows["tolerance 1000 A"]])


def _draw(path: Path, images: list[torch.Tensor]) -> None:
    from eucentric.io.png import write_png

    shown = torch.cat([x[100:-100, 100:-100] for x in images], dim=1)
    low, high = (float(np.quantile(shown.numpy(), q)) for q in (0.005, 0.995))
    write_png(path, (255 * ((shown - low) / (high - low)).clamp(0, 1)).to(torch.uint8).numpy())


def speed() -> None:
    """One thread, images in memory."""
    set_threads(1)
    tilts = np.linspace(-60.0, 60.0, 41)
    images = torch.randn(len(tilts), 1024, 1024, generator=torch.Generator().manual_seed(0))
    geometry = TiltGeometry.build(tilts, z_rot_deg=84.0)
    fits = [FIT] * len(tilts)
    correct_ctf(images[:1], geometry[:1], pixel_size=PIXEL, fits=fits[:1], optics=OPTICS, hand=HAND, mode="flip")
    for mode in MODES:
        wall, used = time.perf_counter(), time.process_time()
        correct_ctf(images, geometry, pixel_size=PIXEL, fits=fits, optics=OPTICS, hand=HAND, mode=mode)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{mode:8s} {time.perf_counter() - wall:5.1f} s wall, {time.process_time() - used:5.1f} s processor, "
            f"peak {peak:.2f} GiB with both stacks",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("--picture", type=Path, default=None)
    chosen = parser.parse_args()
    if chosen.what == "speed":
        speed()
    else:
        accuracy(chosen.picture)
