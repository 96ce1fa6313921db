"""How near restored tomograms come to a specimen that is known, in and out of the missing wedge.

Run: python benchmarks/restoration_quality.py PROJECT SERIES VOLUME.mrc [VOLUME2.mrc ...] [--data DATA] [--json FILE]
[--pictures FOLDER] [--calibrate]

PROJECT holds aligned practice series and their tomograms (`eucentric reconstruct`), SERIES is such as TS_01. The volumes
have the voxels of the project's own tomogram, whose figures come first. Particles, vesicles and gold are carried from the
truth into the geometry that the project has estimated, as `eucentric score` does. Gold and the faces are masked out of all
figures but the elongation. With --calibrate, the row `truth, measured` is the truth itself within the measured part of
Fourier space: what a perfect denoiser would give that fills no wedge.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
import torch.nn.functional as functional
from scipy import ndimage

from eucentric.errors import ShapeError
from eucentric.evaluation.alignment_error import AlignmentError, alignment_error
from eucentric.evaluation.membrane_caps import detect_sheets, found_on, polar_angles
from eucentric.evaluation.restoration import (
    balls_left_out,
    contrast_to_noise,
    correlation_in,
    curve_area,
    curve_at,
    elongation,
    fourier_regions,
    in_band,
    mean_box,
    region_correlation,
)
from eucentric.geometry import TiltGeometry, angstrom_to_pixel
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.io.warps import read_image_warp
from eucentric.models.tilt_series import TiltSeries
from eucentric.optics import density_from_points
from eucentric.pipeline.scene_files import read_species
from eucentric.simulation.matter import bead_points, vesicle_points
from eucentric.simulation.membranes import sphere_surface
from reconstruction_accuracy import STRUCTURES, least_shell_ratio, practice_window, shared_data_folder

SHELLS = 40
WEDGE_DETAIL = (100.0, 60.0, 40.0, 30.0)
CAP_DEG, BELT_DEG = 30.0, 60.0
MARGIN_PX = 4
"""Places of membranes this near to a face are not asked for."""
FEWEST = 3
"""Bodies that an average needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one volume."""

    name: str
    area: float
    """Mean correlation with the truth from 200 A to Nyquist, where it was measured."""
    area_ratio: float
    least_ratio: float
    """Of any shell to the baseline's, where that is 0.1 or more."""
    wedge_area: float
    wedge_at: dict[str, float]
    """By detail, A."""
    correlation: float
    """In real space, 20 to 200 A."""
    correlation_ratio: float
    contrast: float
    """Of matter over the ground, in spreads of the ground."""
    contrast_in_band: float
    caps: float
    belt: float
    chance: float
    """Part of random places of the ground that answer to normals of the caps."""
    elongation: dict[str, float]
    """By kind of body; over that of the truth."""
    seconds: float
    curve: list[float]
    wedge_curve: list[float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bodies:
    """Round on average: gold, or particles that stand alone."""

    kind: str
    places_px: np.ndarray
    radius_px: float
    size: int
    smooth_px: float
    """Gaussian spread that the mean is smoothed by: particles have holes, gold has none."""

    def elongation(self, volume: torch.Tensor) -> float:
        mean = ndimage.gaussian_filter(mean_box(volume, self.places_px, self.size).numpy(), self.smooth_px)
        return elongation(torch.from_numpy(mean), self.radius_px)


class Known:
    """The specimen in the frame of the project's tomogram, and all that is asked of a volume."""

    def __init__(self, project: Path, series: TiltSeries, truth: TiltTruth, structures: Path) -> None:
        assert series.tomogram is not None
        self.series, self.truth, self.project = series, truth, project
        self.voxel, self.shape = series.tomogram.voxel_size_angstrom, series.tomogram.shape_zyx
        self.species = [read_species(structures / f"{name}.pdb").coarse(0.3 * self.voxel) for name in STRUCTURES]
        self.motion = self.aligned()
        self.beads = self.moved(truth.beads)
        self.bead_diameter = float(truth.settings.get("bead_d", 100.0))
        self.matter, self.gold = self.density()
        faces = practice_window(self.shape)
        self.window = faces * balls_left_out(
            self.shape, self.pixels(self.beads), 0.75 * self.bead_diameter / self.voxel
        )
        self.regions = fourier_regions(
            TiltGeometry.from_poses(series.poses),
            self.shape,
            self.voxel,
            depth_angstrom=float(self.window[:, self.shape[1] // 2, self.shape[2] // 2].sum()) * self.voxel,
        )
        self.band = self.detail(self.matter)
        self.counted = self.window > 0.5
        self.dense = self.counted & (self.band > 2.0 * self.band[self.counted].std())
        everything = self.matter + self.gold
        near = functional.max_pool3d((everything > 0.02 * self.matter.max()).float()[None, None], 7, 1, 3)[0, 0]
        self.ground = self.counted & (near == 0)
        self.points, self.normals = self.membranes()
        self.bodies = [
            b
            for b in (self.particles(), self.boxed("gold", self.beads, 0.5 * self.bead_diameter))
            if len(b.places_px) >= FEWEST
        ]
        self.unstretched = {b.kind: b.elongation(self.gold if b.kind == "gold" else self.matter) for b in self.bodies}

    def detail(self, volume: torch.Tensor) -> torch.Tensor:
        """Of 20 to 200 A, within the window."""
        mean = (volume * self.window).sum() / self.window.sum()
        return in_band((volume - mean) * self.window, self.voxel)

    def aligned(self) -> AlignmentError:
        """The motion of the specimen that no image tells, between truth and project."""
        names, tilts = list(self.truth.movie_names), self.series.tilts
        places = [names.index(Path(tilt.movie or "").name) for tilt in tilts]
        warp = self.series.warp and read_image_warp(self.project / self.series.warp, [t.acquisition for t in tilts])
        return alignment_error(self.truth, places, TiltGeometry.from_poses(self.series.poses), warp or None)

    def moved(self, points: np.ndarray) -> np.ndarray:
        """True points where the project's geometry has them."""
        return self.motion.to_estimate(points)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return angstrom_to_pixel(points, self.shape, self.voxel)

    def inside(self, places_px: np.ndarray, margin: float) -> np.ndarray:
        return ((places_px >= margin) & (places_px <= np.array(self.shape[::-1]) - 1 - margin)).all(1)

    def density(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Proteins and bilayers; gold."""
        truth, points, weights = self.truth, [], []
        for place, rotation, kind in zip(truth.positions, truth.rotations, truth.kinds, strict=True):
            points.append(self.moved(self.species[kind].points_angstrom @ rotation.T + place))
            weights.append(self.species[kind].weights)
        generator = np.random.default_rng(0)
        for centre, radius in zip(truth.vesicle_centres, truth.vesicle_radii_angstrom, strict=True):
            lipids, potentials = vesicle_points(np.append(centre, radius), 0.5 * self.voxel, generator)
            points.append(self.moved(lipids))
            weights.append(potentials)
        ball, heavy = bead_points(self.bead_diameter, 0.5 * self.voxel)
        gold = [ball + place for place in self.beads]
        return self.on_voxels(points, weights), self.on_voxels(gold, [heavy] * len(gold))

    def on_voxels(self, points: list[np.ndarray], weights: list[np.ndarray]) -> torch.Tensor:
        if not points:
            return torch.zeros(self.shape)
        places, weight = np.concatenate(points), np.concatenate(weights)
        within = self.inside(self.pixels(places), 1.0)
        return density_from_points(places[within], weight[within], self.shape, self.voxel)

    def membranes(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (n, 3), voxels, two apart or less on the mid-surfaces inside of the tomogram, and normals there."""
        places, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
        for centre, radius in zip(self.truth.vesicle_centres, self.truth.vesicle_radii_angstrom, strict=True):
            around, _, _ = sphere_surface(float(radius)).even_points(2.0 * self.voxel, None)
            surface = self.moved(around + centre)
            outward = surface - self.moved(centre[None])
            places.append(self.pixels(surface))
            normals.append(outward / np.linalg.norm(outward, axis=1, keepdims=True))
        points, across = np.concatenate(places), np.concatenate(normals)
        within = self.inside(points, MARGIN_PX)
        return points[within], across[within]

    def particles(self) -> Bodies:
        """Of all kinds, those with no other body within 2.5 radii, and whole off the membranes."""
        places = self.moved(self.truth.positions)
        spreads = [np.average((s.points_angstrom**2).sum(1), weights=s.weights) for s in self.species]
        radius = math.sqrt(5.0 / 3.0 * np.mean([spreads[kind] for kind in self.truth.kinds]))  # of a ball as wide
        everything = np.concatenate([places, self.beads])
        nearest = np.sort(np.linalg.norm(places[:, None] - everything[None], axis=2), axis=1)[:, 1]
        alone = nearest > 2.5 * radius
        centres = self.moved(self.truth.vesicle_centres)
        for centre, hull in zip(centres, self.truth.vesicle_radii_angstrom, strict=True):
            alone &= np.abs(np.linalg.norm(places - centre, axis=1) - hull) > 2.0 * radius
        return self.boxed("particles", places[alone], radius, smooth=radius / 3.0)

    def boxed(self, kind: str, places: np.ndarray, radius: float, *, smooth: float = 0.0) -> Bodies:
        size = 2 * math.ceil(2.5 * radius / self.voxel) + 4
        pixels = self.pixels(places.reshape(-1, 3))
        return Bodies(
            kind=kind,
            places_px=pixels[self.inside(pixels, size // 2 + 1)],
            radius_px=radius / self.voxel,
            size=size,
            smooth_px=smooth / self.voxel,
        )

    def measured_truth(self) -> torch.Tensor:
        """Matter and gold without what lies in the wedge."""
        spectrum = torch.fft.rfftn(self.matter + self.gold) * self.regions.measured
        return torch.fft.irfftn(spectrum, s=self.shape)

    def figures(self, name: str, volume: torch.Tensor, baseline: Figures | None) -> Figures:
        """All of a volume whose matter is bright."""
        start = time.process_time()
        curve, wedge_curve = region_correlation(
            volume, self.matter, self.window, (self.regions.measured, self.regions.wedge), shells=SHELLS
        ).numpy()
        area = curve_area(curve, self.voxel)
        band = self.detail(volume)
        correlation = correlation_in(band, self.band, self.counted)
        sheets = detect_sheets(volume, self.voxel, self.ground)
        answers, polar = found_on(sheets, self.points, self.normals), polar_angles(self.normals)
        cap, belt = polar <= CAP_DEG, polar >= BELT_DEG
        generator = np.random.default_rng(0)
        places = torch.nonzero(self.ground).flip(1).numpy()
        places = places[generator.integers(len(places), size=4000)]
        normals = self.normals[cap][generator.integers(max(1, cap.sum()), size=4000)] if cap.any() else places[:0]
        chance = found_on(sheets, places[: len(normals)], normals)
        base = np.array(baseline.curve) if baseline else curve
        return Figures(
            name=name,
            area=area,
            area_ratio=area / baseline.area if baseline else 1.0,
            least_ratio=least_shell_ratio(curve, base) if (base >= 0.1).any() else math.nan,
            wedge_area=curve_area(wedge_curve, self.voxel),
            wedge_at={
                f"{d:g}": float(v)
                for d, v in zip(WEDGE_DETAIL, curve_at(wedge_curve, self.voxel, WEDGE_DETAIL), strict=True)
            },
            correlation=correlation,
            correlation_ratio=correlation / baseline.correlation if baseline else 1.0,
            contrast=contrast_to_noise(volume, self.dense, self.ground),
            contrast_in_band=contrast_to_noise(band, self.dense, self.ground),
            caps=float(answers[cap].mean()) if cap.any() else math.nan,
            belt=float(answers[belt].mean()) if belt.any() else math.nan,
            chance=float(chance.mean()) if len(chance) else math.nan,
            elongation={b.kind: b.elongation(volume) / self.unstretched[b.kind] for b in self.bodies},
            seconds=time.process_time() - start,
            curve=curve.tolist(),
            wedge_curve=wedge_curve.tolist(),
        )

    def write_pictures(self, folder: Path, name: str, volume: torch.Tensor) -> None:
        """Middle slices across z and across y, mean of 5 planes; the known matter red."""
        folder.mkdir(parents=True, exist_ok=True)
        centre = self.pixels(self.moved(self.truth.vesicle_centres))
        row = int(centre[0, 1]) if len(centre) else self.shape[1] // 2
        for axis, at, word in ((0, self.shape[0] // 2, "z"), (1, row, "y")):
            grey, known = (v.narrow(axis, max(0, at - 2), 5).mean(axis) for v in (volume, self.matter + self.gold))
            low, high = (float(torch.quantile(grey, q)) for q in (0.005, 0.995))
            plain = 1.0 - ((grey - low) / (high - low)).clamp(0.0, 1.0)
            marked = (known / float(torch.quantile(known, 0.99))).clamp(0.0, 1.0) * 0.6
            shades = torch.stack([torch.maximum(plain, marked), plain * (1 - marked), plain * (1 - marked)], dim=-1)
            both = torch.cat([plain[..., None].expand(-1, -1, 3), shades], dim=1 if axis == 0 else 0)
            matplotlib.image.imsave(folder / f"{name}_{word}.png", both.flip(0).numpy())


def read_volume(path: Path, shape: tuple[int, int, int]) -> torch.Tensor:
    """Dark matter on disk, bright here."""
    volume = -torch.from_numpy(np.array(read_mrc(path)[0], dtype=np.float32))
    if tuple(volume.shape) != tuple(shape):
        raise ShapeError(
            f"`{path}` has {tuple(volume.shape)} voxels; expected {tuple(shape)}, those of the project's tomogram."
        )
    return torch.nan_to_num(volume)


def print_row(figures: Figures) -> None:
    wedge = " ".join(f"{v:6.3f}" for v in figures.wedge_at.values())
    stretch = ", ".join(f"{kind} {value:.2f}" for kind, value in figures.elongation.items())
    print(
        f"{figures.name:28.28s} {figures.area:6.3f} {figures.area_ratio:6.3f} {figures.least_ratio:6.3f} | "
        f"{figures.wedge_area:6.3f} {wedge} | {figures.correlation:6.3f} {figures.correlation_ratio:6.3f} "
        f"{figures.contrast:6.2f} {figures.contrast_in_band:6.2f} | {figures.caps:5.2f} {figures.belt:5.2f} "
        f"{figures.chance:6.3f} | {stretch} | {figures.seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("series")
    parser.add_argument("volumes", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, default=shared_data_folder())
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--pictures", type=Path, default=None, help="folder for slices with the truth over them")
    parser.add_argument("--calibrate", action="store_true", help="rows of the truth, in its measured part and whole")
    given = parser.parse_args()
    torch.set_num_threads(1)
    series = read_tilt_series(given.project / "reconstruct" / "tilt_series.star", given.series, given.project)
    if series.tomogram is None:
        parser.error(f"{given.series} has no tomogram in {given.project}: run `eucentric reconstruct` first.")
    start = time.process_time()
    truth = read_truth(given.data / "practice" / f"{given.series}_truth.json")
    known = Known(given.project, series, truth, given.data / "structures")
    bodies = ", ".join(f"{len(b.places_px)} {b.kind} ({known.unstretched[b.kind]:.2f})" for b in known.bodies)
    polar = polar_angles(known.normals)
    print(
        f"{given.series}, {known.shape} voxels of {known.voxel:g} A; ready in {time.process_time() - start:.0f} s. "
        f"{int((polar <= CAP_DEG).sum())} places on caps, {int((polar >= BELT_DEG).sum())} on belts. "
        f"Bodies for the elongation (of the truth): {bodies}."
    )
    details = " ".join(f"{d:4.0f} A" for d in WEDGE_DETAIL)
    print(
        f"{'volume':28s} {'FSC':>6s} {'ratio':>6s} {'least':>6s} | {'wedge':>6s} {details} | {'corr':>6s} {'ratio':>6s} {'CNR':>6s} "
        f"{'band':>6s} | {'caps':>5s} {'belt':>5s} {'chance':>6s} | half-width along z over that across, over the truth's"
    )
    rows: list[Figures] = []
    for path in (given.project / series.tomogram.path, *given.volumes):
        volume = read_volume(path, known.shape)
        name = path.stem if rows else "baseline"
        rows.append(known.figures(name, volume, rows[0] if rows else None))
        print_row(rows[-1])
        if given.pictures:
            known.write_pictures(given.pictures, f"{given.series}_{name}", volume)
    for name, volume in given.calibrate * (
        ("truth, measured", known.measured_truth()),
        ("truth", known.matter + known.gold),
    ):
        rows.append(known.figures(name, volume, rows[0]))
        print_row(rows[-1])
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
