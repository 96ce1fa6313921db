"""Projection, back-projection and reconstruction on sizes users have. Updates are tilts x voxels."""

import time
from typing import Any

import numpy as np
import torch
from numba import njit, prange, set_num_threads
from skimage.transform import iradon

from eucentric.geometry import TiltGeometry
from eucentric.projection import (
    LineLayout,
    back_project,
    line_layout,
    project,
    reference_back_project,
)
from eucentric.projection.cpu import add_lines_cpu
from eucentric.reconstruction import ReconstructParams, reconstruct_volume
from eucentric.simulation import asymmetric_phantom

TILTS = np.linspace(-60.0, 60.0, 41)
SHAPE = (256, 1024, 1024)
UPDATES = len(TILTS) * SHAPE[0] * SHAPE[1] * SHAPE[2]
THREADS = 2


class _Blank:
    """Line source that costs nothing: what is left is the inner loop."""

    def __init__(self, layout: LineLayout) -> None:
        self.lines = np.random.default_rng(0).standard_normal((len(layout), 2, 2, layout.length // 2), dtype=np.float32)

    def __call__(self, start: int, stop: int, out: np.ndarray) -> None:
        out[:] = self.lines[:, : stop - start]


def seconds(work: Any, repeats: int = 3) -> float:
    """Median time of `work`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def grid_sample_back_projection(images: torch.Tensor, tilts: np.ndarray, planes: int, width: int) -> torch.Tensor:
    """The usual way with torch alone: bilinear `grid_sample` of every line, one tilt at a time."""
    rows = images.shape[1]
    volume = torch.zeros(rows, planes, width)
    x, z = torch.arange(width) - width // 2, (torch.arange(planes) - planes // 2)[:, None]
    for t, tilt in enumerate(np.deg2rad(tilts)):
        u = ((np.cos(tilt) * x + np.sin(tilt) * z) * 2.0 + 1.0) / width
        grid = torch.stack([u, torch.zeros_like(u)], dim=-1).float()[None]
        lines = images[t][None, :, None, :]
        volume += torch.nn.functional.grid_sample(lines, grid, mode="bilinear", align_corners=False)[0]
    return volume


@njit(parallel=True, fastmath=True)
def gather(volume: np.ndarray, images: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> None:
    """The naive loop: every voxel reads every line with two taps, where it lies."""
    planes, rows, width = volume.shape
    wide = images.shape[2]
    for y in prange(rows):
        for z in range(planes):
            for x in range(width):
                total = np.float32(0.0)
                for t in range(len(cosines)):
                    u = cosines[t] * (x - width // 2) + sines[t] * (z - planes // 2) + wide // 2
                    if u >= 0 and u < wide - 1:
                        first = int(u)
                        part = np.float32(u - first)
                        total += images[t, y, first] * (np.float32(1.0) - part) + images[t, y, first + 1] * part
                volume[z, y, x] += total


class WeightedBackProjection:
    """From 41 images of 1024 x 1024 to 1024 x 1024 x 256, everything included: transforms, weights, reads, loop."""

    timeout = 900.0
    size, planes = 1024, 256

    def setup(self) -> None:
        torch.set_num_threads(THREADS)
        set_num_threads(THREADS)
        shape = (len(TILTS), self.size, self.size)
        self.geometry = TiltGeometry.build(TILTS, z_rot_deg=84.3, shifts_angstrom=[12.0, -31.0])
        self.images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        small = TiltGeometry.build(TILTS[:2], z_rot_deg=84.3)
        keywords = {"pixel_size": 8.0, "voxel_size": 8.0, "volume_shape": (8, 32, 32), "params": ReconstructParams()}
        reconstruct_volume(self.images[:2, :64, :64], small, **keywords)

    def run(self) -> torch.Tensor:
        return reconstruct_volume(
            self.images,
            self.geometry,
            pixel_size=8.0,
            voxel_size=8.0,
            volume_shape=(self.planes, self.size, self.size),
            params=ReconstructParams(),
        )

    def time_reconstruct(self) -> None:
        self.run()

    def peakmem_reconstruct(self) -> None:
        self.run()

    def _ratio(self, other: Any, share: float) -> float:
        """Median over runs side by side of the time of `other` over a share of the rows to that of the whole."""
        ratios = []
        for _ in range(3):
            plain = seconds(other, 1) / share
            ratios.append(plain / seconds(self.run, 1))
        return float(np.median(ratios))

    def track_ratio_of_a_gather_loop(self) -> float:
        """Time of the naive loop over lines that are ready, to that of the whole reconstruction."""
        rows = 16
        volume, lines = np.zeros((self.planes, rows, self.size), np.float32), self.images.numpy()[:, :rows]
        angles = np.deg2rad(TILTS)
        gather(volume[:, :1], lines, np.cos(angles), np.sin(angles))
        return self._ratio(lambda: gather(volume, lines, np.cos(angles), np.sin(angles)), rows / self.size)

    def track_ratio_of_iradon(self) -> float:
        """Time of scikit-image's `iradon`, slice by slice and scaled to the planes made here, to that of the whole."""
        rows = 2
        lines = self.images.numpy()[:, :rows]

        def slices() -> None:
            for y in range(rows):
                iradon(lines[:, y].T, theta=TILTS, filter_name="ramp", circle=False, output_size=self.size)

        return self._ratio(slices, rows / self.size * self.size / self.planes)


class WeightedBackProjectionSmall(WeightedBackProjection):
    """The same for 41 images of 512 x 512 into 512 x 512 x 128."""

    size, planes = 512, 128


class BackProjectionLoop:
    """41 images of 1024 x 1024 into 1024 x 1024 x 256: the loop over voxels alone, and against `grid_sample`."""

    timeout = 600.0

    def setup(self) -> None:
        torch.set_num_threads(THREADS)
        self.layout = line_layout(TILTS, SHAPE, SHAPE[1])
        self.volume = torch.zeros(SHAPE)
        self.fill = _Blank(self.layout)
        self.time_inner_loop()

    def time_inner_loop(self) -> None:
        add_lines_cpu(self.volume, self.layout, self.fill)

    def peakmem_inner_loop(self) -> None:
        self.time_inner_loop()

    def track_billion_updates_per_second(self) -> float:
        return UPDATES / seconds(self.time_inner_loop) / 1e9

    def track_ratio_to_grid_sample(self) -> float:
        """Updates per second of the inner loop over those of `grid_sample` on part of the work, in the same run."""
        rows, some = 64, TILTS[::5]
        images = torch.zeros(len(some), rows, SHAPE[2])
        share = len(some) * rows * SHAPE[0] * SHAPE[2]
        ratios = []
        for _ in range(3):
            plain = share / seconds(lambda: grid_sample_back_projection(images, some, SHAPE[0], SHAPE[2]), 1)
            ratios.append(UPDATES / seconds(self.time_inner_loop, 1) / plain)
        return float(np.median(ratios))


class Projectors:
    """Whole calls, the interpolation of the lines included."""

    timeout = 600.0

    def setup(self) -> None:
        torch.set_num_threads(THREADS)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn((len(TILTS), *SHAPE[1:]), generator=generator)
        self.volume = torch.zeros(SHAPE)
        small = torch.zeros(8, 8, 8)
        back_project(project(small, TILTS, (8, 8)), TILTS, (8, 8, 8))

    def time_back_project(self) -> None:
        back_project(self.images, TILTS, SHAPE)

    def time_project(self) -> None:
        project(self.volume, TILTS, SHAPE[1:])

    def peakmem_back_project(self) -> None:
        back_project(self.images, TILTS, SHAPE)

    def track_error_against_plain_torch(self) -> float:
        images = self.images[:, :16, :200].contiguous()
        got = back_project(images, TILTS, (64, 16, 200)).double()
        plain = reference_back_project(images.double(), TILTS, (64, 16, 200))
        return float((got - plain).norm() / plain.norm())

    def track_error_of_transpose(self) -> float:
        generator = torch.Generator().manual_seed(1)
        volume = torch.randn((60, 50, 70), generator=generator)
        images = torch.randn((len(TILTS), 50, 90), generator=generator)
        forward, back = project(volume, TILTS, (50, 90)), back_project(images, TILTS, (60, 50, 70))
        difference = (forward.double() * images).sum() - (volume.double() * back).sum()
        return float(difference.abs() / (volume.norm() * images.norm()))


class Reconstruction:
    """From images to a volume: 41 images of 384 x 384, voxels twice the pixels, axis at 84.3 degrees."""

    timeout = 600.0
    size = 384

    def setup(self) -> None:
        size = self.size
        torch.set_num_threads(THREADS)
        self.geometry = TiltGeometry.build(TILTS, z_rot_deg=84.3, shifts_angstrom=[12.0, -31.0])
        self.phantom = asymmetric_phantom(1.2 * size)
        self.images = self.phantom.project(self.geometry, (size, size), 4.0)
        self.shape = (size // 4, size // 2, size // 2)
        self.run()

    def run(self) -> torch.Tensor:
        return reconstruct_volume(
            self.images,
            self.geometry,
            pixel_size=4.0,
            volume_shape=self.shape,
            voxel_size=8.0,
            params=ReconstructParams(),
        )

    def time_reconstruct(self) -> None:
        self.run()

    def peakmem_reconstruct(self) -> None:
        self.run()

    def track_error_of_amplitude(self) -> float:
        """Relative error of the amplitude of Fourier samples inside the tilt range (8 to 40 voxels)."""
        got = torch.fft.rfftn(self.run())
        truth = torch.fft.rfftn(self.phantom.volume(self.shape, 8.0))
        axes = [np.fft.fftfreq(self.shape[0]), np.fft.fftfreq(self.shape[1]), np.fft.rfftfreq(self.shape[2])]
        kz, ky, kx = np.meshgrid(*axes, indexing="ij")
        radius = np.sqrt(kx**2 + ky**2 + kz**2)
        inside = torch.from_numpy((np.abs(kz) < kx) & (radius > 1 / 40) & (radius < 1 / 8))
        gain = (got * truth.conj()).real[inside].sum() / truth.abs()[inside].square().sum()
        return float((gain - 1.0).abs())


class ReconstructionOfLargeImages(Reconstruction):
    """The same for 41 images of 1024 x 1024."""

    size = 1024
