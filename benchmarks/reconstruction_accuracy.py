"""How well each method reconstructs specimens that are known: `python benchmarks/reconstruction_accuracy.py [part ...]`.

The parts are `practice` (a noisy series of an independent simulator, true geometry given), `depth` (contrast transfer that
follows the height, on the product's own simulator), `real` (two series with references) and `speed`. Data are read from
EUCENTRIC_SHARED_DATA, or ../shared/data beside the project.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from eucentric.alignment import align_centre_of_mass
from eucentric.compute import seeded_generator
from eucentric.fourier import frequency_vectors, radial_average
from eucentric.geometry import TiltGeometry
from eucentric.io import read_dm, read_em, read_gain, read_movie, read_projection_list
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.models import CtfFit, Optics
from eucentric.motion import MotionParams, correct_movie, sum_frames
from eucentric.optics import density_from_points
from eucentric.pipeline.scene_files import read_species
from eucentric.reconstruction import (
    ReconstructParams,
    SeriesOptics,
    SpectralRatio,
    correct_ctf,
    estimate_signal_to_noise,
    volume_slabs,
)
from eucentric.simulation import Acquisition, Body, SimulationParams, Species, form_frames, procedural_macromolecule
from eucentric.simulation.matter import vesicle_points

STRUCTURES = ("4v4r_30S", "3j9i", "1bxn")
"""By the number of their kind in the practice series."""
METHODS: dict[str, ReconstructParams] = {
    "ramp, no weights, no CTF": ReconstructParams(method="wbp", dose_weighting=False),
    "ramp, dose, strip flip": ReconstructParams(method="wbp", ctf_correction="flip"),
    "ramp, dose, 3D-CTF flip": ReconstructParams(method="wbp", ctf_correction="flip", ctf_by_depth=True),
    "exact, dose, strip flip": ReconstructParams(method="wbp", ctf_correction="flip", filter="exact"),
    "SIRT 20, strip flip": ReconstructParams(method="sirt", ctf_correction="flip", iterations=20, least_change=0),
    "CTF-aware inverse": ReconstructParams(method="ctf"),
}
PLAIN, FLIPPED, INVERSE = "ramp, no weights, no CTF", "ramp, dose, strip flip", "CTF-aware inverse"


def shared_data_folder() -> Path:
    """Where the shared test data lie."""
    return Path(os.environ.get("EUCENTRIC_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Images with everything that is known of them, and the density they show."""

    images: torch.Tensor
    geometry: TiltGeometry
    pixel_size: float
    optics: SeriesOptics
    ratio: SpectralRatio
    truth: torch.Tensor
    """(z, y, x), protein bright."""
    voxel_size: float
    halves: tuple[torch.Tensor, torch.Tensor] | None = None
    """Images of the even and of the odd frames, whose sum `images` are."""

    def reconstruct(self, params: ReconstructParams, **keywords: Any) -> torch.Tensor:
        """The volume of a method, on the voxels of the truth."""
        slabs = volume_slabs(
            self.images,
            self.geometry,
            pixel_size=self.pixel_size,
            volume_shape=tuple(self.truth.shape),
            voxel_size=self.voxel_size,
            params=params,
            optics=self.optics,
            signal_to_noise=self.ratio,
            **keywords,
        )
        return torch.cat([slab.density for slab in slabs])


def edge_window(shape: Sequence[int], edges: Sequence[int]) -> torch.Tensor:
    """1 in the middle of a box, falling as a cosine to 0 over `edges` voxels at either end of every axis."""
    window = torch.ones(tuple(shape))
    for axis, (count, edge) in enumerate(zip(shape, edges, strict=True)):
        rise = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(edge) + 0.5) / edge)
        profile = torch.ones(count)
        profile[:edge], profile[count - edge :] = rise, rise.flip(0)
        window *= profile.reshape([-1 if a == axis else 1 for a in range(3)])
    return window


def shell_correlation(
    volume: torch.Tensor, truth: torch.Tensor, window: torch.Tensor, *, shells: int = 40, max_tilt_deg: float = 90.0
) -> np.ndarray:
    """Correlation in shells up to Nyquist, in the wedges about x that tilts up to `max_tilt_deg` about y sample."""
    spectra = [torch.fft.rfftn((v - (v * window).sum() / window.sum()) * window) for v in (volume, truth)]
    kz, _, kx = frequency_vectors(tuple(volume.shape), 1.0)
    inside = (torch.atan2(kz.abs(), kx.abs()) <= np.deg2rad(max_tilt_deg)).to(torch.float32)

    def total(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return radial_average(((a * b.conj()).real * inside).double(), tuple(volume.shape), shells)

    first, second = spectra
    norm = torch.sqrt(total(first, first) * total(second, second)).clamp(min=1e-300)
    return (total(first, second) / norm).numpy()


# ---- a practice series, its geometry, motion and defocus given


def practice_series(name: str = "TS_01", *, voxel_size: float = 8.0, planes: int = 180) -> Series:
    """Sums of the movies along their true motion, halves for the noise, and the density at the mean of its bending."""
    folder = shared_data_folder()
    truth = read_truth(folder / "practice" / f"{name}_truth.json")
    gain = torch.from_numpy(np.array(read_gain(folder / "practice" / "gain.mrc"), dtype=np.float32))
    pixel, sums = truth.pixel_size_angstrom, []
    for tilt, movie in enumerate(truth.movie_names):
        frames = torch.from_numpy(np.array(read_movie(folder / "practice" / "frames" / movie)[0], dtype=np.float32))
        corrected = correct_movie(
            frames, gain, defect_sigma=MotionParams().defect_sigma, generator=seeded_generator(tilt)
        ).frames
        shifts = torch.from_numpy(truth.motion_angstrom[tilt]).float()
        sums.append(
            [sum_frames(corrected[part], shifts[part], pixel) for part in (slice(0, None, 2), slice(1, None, 2))]
        )
    even, odd = (torch.stack([halves[i] for halves in sums]) for i in (0, 1))
    optics = series_optics(truth)
    ratio = estimate_signal_to_noise(
        even, odd, pixel_size=pixel, fits=optics.fits or (), optics=optics.optics, exposures=optics.exposures
    )
    side = round(truth.image_shape[0] * pixel / voxel_size)
    return Series(
        images=even + odd,
        geometry=TiltGeometry.build(
            truth.true_tilts_deg, z_rot_deg=truth.tilt_axis_deg, shifts_angstrom=truth.shifts_angstrom
        ),
        pixel_size=pixel,
        optics=optics,
        ratio=ratio,
        truth=true_density(truth, folder / "structures", (planes, side, side), voxel_size),
        voxel_size=voxel_size,
        halves=(even, odd),
    )


def series_optics(truth: TiltTruth) -> SeriesOptics:
    """Contrast transfer and exposure as they were."""
    return SeriesOptics(
        optics=truth.optics,
        fits=tuple(
            CtfFit(
                defocus_u_angstrom=float(u),
                defocus_v_angstrom=float(v),
                astigmatism_angle_deg=truth.astigmatism_angle_deg,
            )
            for u, v in zip(truth.defocus_u_angstrom, truth.defocus_v_angstrom, strict=True)
        ),
        hand=truth.hand,
        pre_exposures=truth.acquisition * truth.dose,
        doses=np.full(len(truth.acquisition), truth.dose),
    )


def true_density(truth: TiltTruth, structures: Path, shape: tuple[int, int, int], voxel_size: float) -> torch.Tensor:
    """Atomic models at their true poses and bilayers around the true vesicles, bent as they are on average.

    The mean over the tilts is weighted by what damage leaves. Vesicles hold most of the power beyond 200 A: without them
    the coarsest shells tell nothing.
    """
    kinds = [read_species(structures / f"{name}.pdb").coarse(0.3 * voxel_size) for name in STRUCTURES]
    left = np.exp(-truth.acquisition * truth.dose / 40.0)

    def bent(places: np.ndarray) -> np.ndarray:
        moved: np.ndarray = places + np.einsum("t,tpi->pi", left / left.sum(), truth.deformation(places))
        return moved

    reach = np.array(shape[::-1]) * voxel_size / 2 - voxel_size
    points, weights = [], []
    for place, rotation, kind in zip(bent(truth.positions), truth.rotations, truth.kinds, strict=True):
        points.append(kinds[kind].points_angstrom @ rotation.T + place)
        weights.append(kinds[kind].weights)
    generator = np.random.default_rng(0)
    for centre, radius in zip(truth.vesicle_centres, truth.vesicle_radii_angstrom, strict=True):
        lipids, potentials = vesicle_points(np.append(centre, radius), 0.5 * voxel_size, generator)
        points.append(bent(lipids))
        weights.append(potentials)
    everything, weight = np.concatenate(points), np.concatenate(weights)
    inside = (np.abs(everything) < reach).all(1)
    return density_from_points(everything[inside], weight[inside], shape, voxel_size)


def practice_window(shape: Sequence[int]) -> torch.Tensor:
    """The volume without its faces."""
    return edge_window(shape, [max(1, n // 6) if axis == 0 else max(1, n // 10) for axis, n in enumerate(shape)])


def score(series: Series, methods: Mapping[str, ReconstructParams] = METHODS) -> dict[str, np.ndarray]:
    """Correlation with the truth (shell,) of every method, inside of the tilt range."""
    window = practice_window(series.truth.shape)
    steepest = float(np.abs(series.geometry.y_tilt_deg).max())
    return {
        name: -shell_correlation(series.reconstruct(params), series.truth, window, max_tilt_deg=steepest)
        for name, params in methods.items()
    }


def least_shell_ratio(curve: np.ndarray, other: np.ndarray, *, least: float = 0.1) -> float:
    """The lowest ratio of two curves over the shells where the second one is `least` or more."""
    counted = other >= least
    return float((curve[counted] / other[counted]).min())


def print_practice() -> None:
    """Areas of all methods."""
    start = time.perf_counter()
    series = practice_series()
    print(f"practice TS_01, {tuple(series.truth.shape)} voxels of 8 A; ready in {time.perf_counter() - start:.0f} s")
    print(
        f"{'method':30s} {'FSC area':>9s} {'to flip':>8s} {'to plain':>9s} {'least shell to flip':>20s} {'time / s':>9s}"
    )
    curves: dict[str, np.ndarray] = {}
    for name, params in METHODS.items():
        start = time.perf_counter()
        curves.update(score(series, {name: params}))
        spent = time.perf_counter() - start
        area, plain = curves[name].mean(), curves[PLAIN].mean()
        flip = curves[FLIPPED] if FLIPPED in curves else np.full(len(curves[name]), np.nan)
        ratio = least_shell_ratio(curves[name], flip) if FLIPPED in curves else np.nan
        print(f"{name:30s} {area:9.4f} {area / flip.mean():8.3f} {area / plain:9.3f} {ratio:20.3f} {spent:9.1f}")
    for name in (FLIPPED, INVERSE):
        print(f"{name}, shells:", np.array2string(curves[name], precision=3, max_line_width=110))


# ---- the product's own simulator: particles far above and below the middle of a thick specimen


LAYERS = (-900.0, 0.0, 900.0)
"""A, heights of the particles."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayeredSpecimen:
    """Particles in layers, and images of them without damage."""

    series: Series
    centres: np.ndarray
    """(particle, 3), x, y, z in A."""
    rotations: np.ndarray
    species: Species

    def box_truth(self, particle: int, size: int, voxel_size: float) -> tuple[tuple[int, int, int], torch.Tensor]:
        """Voxel in the middle of a box around a particle (x, y, z from the volume's centre), and its density there."""
        middle = np.rint(self.centres[particle] / voxel_size).astype(int)
        points = (
            self.species.points_angstrom @ self.rotations[particle].T + self.centres[particle] - middle * voxel_size
        )
        density = density_from_points(points, self.species.weights, (size, size, size), voxel_size)
        return (int(middle[0]), int(middle[1]), int(middle[2])), density

    def correlation(
        self, volume: torch.Tensor, voxel_size: float, *, size: int, heights: Sequence[float]
    ) -> np.ndarray:
        """Correlation with the truth (shell,) over the boxes around all particles at some heights, in the tilt range."""
        ball = ball_window(size, 15.0 / voxel_size, 45.0 / voxel_size)
        kz, _, kx = frequency_vectors((size, size, size), 1.0)
        steepest = float(np.abs(self.series.geometry.y_tilt_deg).max())
        inside = (torch.atan2(kz.abs(), kx.abs()) <= np.deg2rad(steepest)).double()
        sums = torch.zeros(3, size // 2, dtype=torch.float64)
        for particle in np.flatnonzero(np.isin(self.centres[:, 2], heights)):
            (x, y, z), density = self.box_truth(int(particle), size, voxel_size)
            cut = tuple(
                slice(n // 2 + c - size // 2, n // 2 + c - size // 2 + size)
                for n, c in zip(volume.shape, (z, y, x), strict=True)
            )
            spectra = [torch.fft.rfftn((v - (v * ball).sum() / ball.sum()) * ball) for v in (volume[cut], density)]
            for number, (a, b) in enumerate(((0, 1), (0, 0), (1, 1))):
                product = (spectra[a] * spectra[b].conj()).real.double() * inside
                sums[number] += radial_average(product, (size, size, size), size // 2)
        return (-sums[0] / torch.sqrt(sums[1] * sums[2]).clamp(min=1e-300)).numpy()


def ball_window(size: int, radius: float, soft: float) -> torch.Tensor:
    """1 inside of a ball in the middle of a cube, with a cosine edge; wide edges keep coarse detail from leaking."""
    axis = (torch.arange(size) - size // 2).float().square()
    distance = torch.sqrt(axis[:, None, None] + axis[:, None] + axis)
    return 0.5 + 0.5 * torch.cos(torch.pi * ((distance - radius) / soft).clamp(0.0, 1.0))


def layered_specimen(
    heights: Sequence[float] = LAYERS,
    *,
    thickness_angstrom: float = 2000.0,
    voxel_size: float = 2.0,
    volume_shape: tuple[int, int, int] = (1000, 128, 640),
) -> LayeredSpecimen:
    """Six particles of 80 kDa in each layer, 21 tilts to 30 degrees at 2 A a pixel, 40 e/A^2 each and no damage."""
    params = SimulationParams(
        thickness_angstrom=thickness_angstrom,
        ice_noise=0.0,
        deformation_angstrom=0.0,
        drift_angstrom=0.0,
        doming_angstrom=0.0,
        dose_per_tilt=40.0,
        defocus_angstrom=15000.0,
        astigmatism_angstrom=400.0,
        b_factor=20.0,
        depth_step_angstrom=100.0,
        image_size_px=(640, 176),
        pixel_size_angstrom=2.0,
        frames=2,
    )
    generator = np.random.default_rng(7)
    tilts = np.linspace(-30.0, 30.0, 21)
    count = len(tilts)
    geometry = TiltGeometry.build(tilts, z_rot_deg=4.0, shifts_angstrom=generator.normal(scale=8.0, size=(count, 2)))
    middle = params.defocus_angstrom + generator.normal(scale=300.0, size=count)
    acquisition = Acquisition(
        nominal_tilts_deg=tilts,
        order=np.arange(count),
        geometry=geometry,
        defocus_u_angstrom=middle + 200.0,
        defocus_v_angstrom=middle - 200.0,
        motion_angstrom=np.zeros((count, 2, 2)),
        deformation=np.zeros((3, 6)),
    )
    species = procedural_macromolecule(80.0)
    centres = np.array([(x, y, z) for z in heights for x in (-105.0, 0.0, 105.0) for y in (-55.0, 55.0)])
    centres[:, :2] += generator.uniform(-4.0, 4.0, (len(centres), 2))
    rotations = np.asarray(Rotation.random(len(centres), rng=generator).as_matrix())
    body = Body(
        points_angstrom=species.points_angstrom,
        weights=species.weights,
        rotations=rotations,
        centres_angstrom=centres,
        fades=False,
    )
    noise = seeded_generator(3)
    frames = torch.stack(
        [torch.poisson(form_frames([body], acquisition, params, t, noise), generator=noise) for t in range(count)]
    )
    optics = SeriesOptics(
        optics=Optics(
            voltage_kv=params.voltage_kv,
            spherical_aberration_mm=params.spherical_aberration_mm,
            amplitude_contrast=params.amplitude_contrast,
        ),
        fits=tuple(
            CtfFit(
                defocus_u_angstrom=float(d) + 200.0,
                defocus_v_angstrom=float(d) - 200.0,
                astigmatism_angle_deg=params.astigmatism_angle_deg,
            )
            for d in middle
        ),
        hand=float(params.hand),
        pre_exposures=np.zeros(count),
        doses=np.zeros(count),
    )
    ratio = estimate_signal_to_noise(
        frames[:, 0], frames[:, 1], pixel_size=2.0, fits=optics.fits or (), optics=optics.optics
    )
    series = Series(
        images=frames.sum(1),
        geometry=geometry,
        pixel_size=2.0,
        optics=optics,
        ratio=ratio,
        truth=torch.empty(volume_shape, device="meta"),
        voxel_size=voxel_size,
    )
    return LayeredSpecimen(series=series, centres=centres, rotations=rotations, species=species)


DEPTH_METHODS: dict[str, ReconstructParams] = {
    "WBP, flip, whole image": ReconstructParams(
        method="wbp", ctf_correction="flip", ctf_by_height=False, dose_weighting=False
    ),
    "WBP, flip, strips": ReconstructParams(method="wbp", ctf_correction="flip", dose_weighting=False),
    "WBP, flip, strips and depth": ReconstructParams(
        method="wbp", ctf_correction="flip", ctf_by_depth=True, dose_weighting=False
    ),
    "inverse, one CTF an image": ReconstructParams(method="ctf", ctf_by_height=False, dose_weighting=False),
    "inverse, by height": ReconstructParams(method="ctf", dose_weighting=False),
}


def score_depth(
    specimen: LayeredSpecimen, methods: Mapping[str, ReconstructParams], *, hand: float | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Correlation (shell,) of every method, at the middle (`inner`) and in the outer layers (`outer`)."""
    series, out = specimen.series, {}
    if hand is not None:
        series = replace(series, optics=replace(series.optics, hand=hand))
    size = 64 if series.voxel_size < 5.0 else 16
    far = [z for z in np.unique(specimen.centres[:, 2]) if abs(z) > 50.0]
    near = [z for z in np.unique(specimen.centres[:, 2]) if abs(z) <= 50.0]
    for name, params in methods.items():
        volume = series.reconstruct(params)
        out[name] = {
            where: specimen.correlation(volume, series.voxel_size, size=size, heights=heights)
            for where, heights in (("inner", near), ("outer", far))
            if heights
        }
    return out


def near_resolution(curve: np.ndarray, voxel_size: float, angstrom: float) -> float:
    """Mean of a curve over the shells within a tenth of a resolution."""
    frequency = (np.arange(len(curve)) + 0.5) / (2 * len(curve) * voxel_size)
    return float(curve[np.abs(frequency * angstrom - 1.0) < 0.1].mean())


def print_depth() -> None:
    """What following height and depth brings, and where it brings nothing."""
    start = time.perf_counter()
    specimen = layered_specimen()
    print(f"layers at -90, 0 and 90 nm, 2 A voxels; simulated in {time.perf_counter() - start:.0f} s")
    _print_depth(specimen, (20.0, 10.0, 7.0, 5.0))
    series = specimen.series
    coarse = replace(series, voxel_size=10.0, truth=torch.empty((200, 32, 128), device="meta"))
    print("the same images, 10 A voxels")
    _print_depth(replace(specimen, series=coarse), (64.0, 36.0, 25.0))
    thin = layered_specimen((0.0,), thickness_angstrom=200.0, volume_shape=(100, 128, 320))
    print("a layer in a film of 20 nm, 2 A voxels")
    _print_depth(thin, (20.0, 10.0, 7.0, 5.0))


def _print_depth(specimen: LayeredSpecimen, resolutions: Sequence[float]) -> None:
    voxel = specimen.series.voxel_size
    names = " ".join(f"{r:5.0f} A" for r in resolutions)
    print(f"{'FSC in boxes around particles':30s} {'layers':7s} {names} {'area':>7s} {'time / s':>9s}")
    for name, params in DEPTH_METHODS.items():
        start = time.perf_counter()
        curves = score_depth(specimen, {name: params})[name]
        spent = time.perf_counter() - start
        for where, curve in curves.items():
            at = " ".join(f"{near_resolution(curve, voxel, r):7.3f}" for r in resolutions)
            print(f"{name:30s} {where:7s} {at} {curve[1:].mean():7.4f} {spent:9.1f}")


# ---- real series with references


NEEDLE_METHODS: dict[str, ReconstructParams] = {
    "WBP": ReconstructParams(method="wbp"),
    "SIRT, positive, 20": ReconstructParams(method="sirt", constraint="bright", iterations=20, least_change=0),
    "SIRT, positive, 100": ReconstructParams(method="sirt", constraint="bright", iterations=100, least_change=0),
    "SART, positive, 20": ReconstructParams(
        method="sirt", constraint="bright", iterations=20, subsets=10, least_change=0
    ),
    "TV, positive": ReconstructParams(method="tv", constraint="bright"),
}
PARTICLE_METHODS: dict[str, ReconstructParams] = {
    "back-projection, no filter": ReconstructParams(method="wbp", filter="none", fall_off="gaussian"),
    "WBP, ramp": ReconstructParams(method="wbp"),
    "SIRT": ReconstructParams(method="sirt"),
    "CGLS": ReconstructParams(method="cgls"),
    "TV": ReconstructParams(method="tv"),
}


def plain_volume(
    images: torch.Tensor, geometry: TiltGeometry, pixel_size: float, side: int, params: ReconstructParams
) -> torch.Tensor:
    """A cube of voxels as large as the pixels, without contrast transfer."""
    slabs = volume_slabs(
        images, geometry, pixel_size=pixel_size, volume_shape=(side,) * 3, voxel_size=pixel_size, params=params
    )
    return torch.cat([slab.density for slab in slabs])


def needle() -> tuple[torch.Tensor, TiltGeometry]:
    """A needle seen from all sides, aligned by its centre of mass; 180 A a pixel."""
    stack, header = read_dm(shared_data_folder() / "real" / "needle_haadf" / "HAADF.dm3")
    images = torch.from_numpy(np.array(stack, dtype=np.float32))
    tilts = np.array(header.section_values, dtype=np.float64)
    return images, align_centre_of_mass(images, tilts, pixel_size=180.0, axis_deg=90.0).geometry


def score_needle(
    methods: Mapping[str, ReconstructParams] = NEEDLE_METHODS, *, max_tilt_deg: float = 60.0
) -> dict[str, np.ndarray]:
    """Correlation (shell,) over all of Fourier space between volumes of the lower tilts and the WBP of all tilts."""
    images, geometry = needle()
    whole = plain_volume(images, geometry, 180.0, 64, ReconstructParams(method="wbp"))
    kept = np.flatnonzero(np.abs(geometry.y_tilt_deg) <= max_tilt_deg + 1e-3)
    window = edge_window((64, 64, 64), (4, 4, 4))
    return {
        name: shell_correlation(
            plain_volume(images[torch.from_numpy(kept)], geometry[kept], 180.0, 64, params), whole, window, shells=16
        )
        for name, params in methods.items()
    }


def score_particle() -> dict[str, float]:
    """Correlation with another program's unfiltered reconstruction over the middle 50 voxels."""
    folder = shared_data_folder() / "real" / "projections_41"
    listed = read_projection_list(folder / "projectionList.xml")
    images = torch.from_numpy(
        np.stack([np.array(read_em(folder / Path(p.path).name)[0], dtype=np.float32).reshape(100, 100) for p in listed])
    )
    geometry = TiltGeometry.build([-p.tilt_deg for p in listed], shifts_angstrom=[p.offset_px for p in listed])
    expected = np.array(read_em(folder / "p1.em")[0], dtype=np.float64)
    middle = (slice(25, 75),) * 3
    return {
        name: float(
            np.corrcoef(
                plain_volume(images, geometry, 1.0, 100, params).double().numpy()[middle].ravel(),
                expected[middle].ravel(),
            )[0, 1]
        )
        for name, params in PARTICLE_METHODS.items()
    }


def print_real() -> None:
    """The needle with a missing wedge, and aligned projections of one particle."""
    curves = score_needle()
    print("needle, tilts to 60 degrees against WBP of all 180 degrees, whole Fourier space")
    print(f"{'method':30s} {'FSC area':>9s} {'to WBP':>7s}")
    for name, curve in curves.items():
        print(f"{name:30s} {curve.mean():9.4f} {curve.mean() / curves['WBP'].mean():7.3f}")
    print("projections_41, correlation with p1.em")
    for name, correlation in score_particle().items():
        print(f"{name:30s} {correlation:9.3f}")


# ---- time


def print_speed() -> None:
    """41 images of 1024 x 1024 into 1024 x 1024 x 256 voxels of 8 A, on two threads."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((41, 1024, 1024), generator=generator) + 20.0
    tilts = np.linspace(-60.0, 60.0, 41)
    geometry = TiltGeometry.build(tilts, z_rot_deg=84.3)
    fits = tuple(
        CtfFit(defocus_u_angstrom=35200.0, defocus_v_angstrom=34800.0, astigmatism_angle_deg=30.0) for _ in tilts
    )
    optics = SeriesOptics(
        optics=Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.07),
        fits=fits,
        hand=-1.0,
        pre_exposures=3.0 * np.arange(41),
        doses=np.full(41, 3.0),
    )

    def volume(**settings: Any) -> None:
        for _ in volume_slabs(
            images,
            geometry,
            pixel_size=8.0,
            volume_shape=(256, 1024, 1024),
            voxel_size=8.0,
            params=ReconstructParams(**settings),
            optics=optics,
        ):
            pass

    def flip() -> None:
        correct_ctf(
            images, geometry, pixel_size=8.0, fits=fits, optics=optics.optics, hand=-1.0, mode="flip", by_height=True
        )

    works: dict[str, Callable[[], None]] = {
        "strip phase flip": flip,
        "WBP": lambda: volume(method="wbp"),
        "SIRT, 10 iterations": lambda: volume(method="sirt", iterations=10, least_change=0),
        "CTF-aware inverse, 5 iterations": lambda: volume(method="ctf", iterations=5, least_change=0),
    }
    for name, work in works.items():
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        spent, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(
            f"{name:32s} {spent:7.1f} s, {cpu:7.1f} s of CPU, load of the machine {os.getloadavg()[0]:.1f}", flush=True
        )


PARTS: dict[str, Callable[[], None]] = {
    "practice": print_practice,
    "depth": print_depth,
    "real": print_real,
    "speed": print_speed,
}


def main() -> None:
    """Run the parts named on the command line, or all."""
    torch.set_num_threads(2)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main()
