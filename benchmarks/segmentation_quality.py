"""How near a segmentation of membranes comes to vesicles that are known.

Run: python benchmarks/segmentation_quality.py PROJECT SERIES LABELS.mrc [LABELS2.mrc ...] [--data DATA] [--volume VOLUME.mrc ...]
[--network] [--pictures FOLDER]

PROJECT holds aligned practice series and their tomograms, SERIES is such as TS_01. Label volumes have the tomogram's voxels, 0
outside of membranes. With --volume, tomograms are segmented first, without training or with --network by the model. Vesicles are
carried from the truth into the geometry that the project has estimated. A place is at a pole if its normal lies in the missing wedge
of +-60 degrees about y.
"""

import argparse
import math
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.spatial import cKDTree

from eucentric.evaluation.alignment_error import alignment_error
from eucentric.geometry import TiltGeometry, angstrom_to_pixel
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.truth import read_truth
from eucentric.io.warps import read_image_warp
from eucentric.pipeline.apply_segmenter_files import read_segmenter
from eucentric.segmentation import MembraneParams, Membranes, segment_membranes
from eucentric.segmentation.learned.segmenter import Segmenter
from eucentric.segmentation.membranes.learned_membranes import learned_membranes
from eucentric.segmentation.params import LearnedMembraneParams
from eucentric.simulation.membranes import sphere_surface
from eucentric.simulation.structures import MEMBRANE_HALF_ANGSTROM
from reconstruction_accuracy import shared_data_folder

TOLERANCE_PX = 2.0
MARGIN_PX = 4
FAR_PX = 4.0
"""Voxels from any true mid-surface beyond which a piece of membrane is false."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vesicles:
    """True mid-surfaces in the frame of the tomogram, voxels x, y, z."""

    places: np.ndarray
    normals: np.ndarray
    owner: np.ndarray
    pole: np.ndarray
    radii_px: np.ndarray
    shape: tuple[int, int, int]
    voxel: float


def known_vesicles(project: Path, name: str, data: Path) -> Vesicles:
    series = read_tilt_series(project / "reconstruct" / "tilt_series.star", name, project)
    truth = read_truth(data / "practice" / f"{name}_truth.json")
    assert series.tomogram is not None
    voxel, shape = series.tomogram.voxel_size_angstrom, series.tomogram.shape_zyx
    names = list(truth.movie_names)
    rows = [names.index(Path(t.movie or "").name) for t in series.tilts]
    warp = series.warp and read_image_warp(project / series.warp, [t.acquisition for t in series.tilts])
    motion = alignment_error(truth, rows, TiltGeometry.from_poses(series.poses), warp or None)
    places, normals, owner = [], [], []
    for number, (centre, radius) in enumerate(zip(truth.vesicle_centres, truth.vesicle_radii_angstrom, strict=True)):
        around, _, _ = sphere_surface(float(radius)).even_points(0.8 * voxel, None)
        surface = motion.to_estimate(around + centre)
        outward = surface - motion.to_estimate(centre[None])
        places.append(angstrom_to_pixel(surface, shape, voxel))
        normals.append(outward / np.linalg.norm(outward, axis=1, keepdims=True))
        owner.append(np.full(len(surface), number))
    points, across, which = np.concatenate(places), np.concatenate(normals), np.concatenate(owner)
    inside = ((points >= MARGIN_PX) & (points <= np.array(shape[::-1]) - 1 - MARGIN_PX)).all(1)
    pole = np.abs(across[:, 2]) > math.tan(math.radians(60.0)) * np.abs(across[:, 0])
    return Vesicles(
        places=points[inside],
        normals=across[inside],
        owner=which[inside],
        pole=pole[inside],
        radii_px=truth.vesicle_radii_angstrom / voxel,
        shape=shape,
        voxel=voxel,
    )


def true_mask(known: Vesicles) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of bilayers, and which of them lie at poles."""
    half = MEMBRANE_HALF_ANGSTROM / known.voxel
    near = np.zeros(known.shape, dtype=bool)
    near[tuple(np.rint(known.places[:, ::-1]).astype(int).T)] = True
    voxels = np.argwhere(binary_dilation(near, iterations=math.ceil(half) + 1))
    _, row = cKDTree(known.places).query(voxels[:, ::-1])
    offset = voxels[:, ::-1] - known.places[row]
    along = (offset * known.normals[row]).sum(1)
    inside = (np.abs(along) <= half) & (np.linalg.norm(offset - along[:, None] * known.normals[row], axis=1) <= 1.5)
    mask, pole = np.zeros(known.shape, dtype=bool), np.zeros(known.shape, dtype=bool)
    mask[tuple(voxels[inside].T)] = True
    pole[tuple(voxels[inside].T)] = known.pole[row[inside]]
    return mask, pole


def middles_of(labels: np.ndarray) -> np.ndarray:
    """Places (n, 3; x, y, z) of a label volume that are deepest along some axis: its mid-surface, to half a voxel."""
    depth = distance_transform_edt(labels > 0)
    crest = np.zeros(labels.shape, dtype=bool)
    for axis in range(3):
        before, after = np.roll(depth, 1, axis), np.roll(depth, -1, axis)
        steep = (depth - before > 0.5) | (depth - after > 0.5)
        crest |= (depth > 0) & (depth >= before) & (depth >= after) & steep
    return np.argwhere(crest)[:, ::-1].astype(np.float64)


def fitted_radius(points: np.ndarray) -> float:
    """Of the sphere of least squares, voxels."""
    middle = points.mean(0)
    design = np.concatenate([2.0 * (points - middle), np.ones((len(points), 1))], axis=1)
    solution = np.linalg.lstsq(design, ((points - middle) ** 2).sum(1), rcond=None)[0]
    return math.sqrt(solution[3] + (solution[:3] ** 2).sum())


def print_figures(name: str, labels: np.ndarray, known: Vesicles, places: np.ndarray | None = None) -> None:
    """One line of goals and one of radii; places (n, 3) between voxels where the method has them."""
    found = labels > 0
    truth, pole = true_mask(known)
    # what is predicted at poles belongs to the nearest true place
    voxels = np.argwhere(found)
    points = middles_of(labels) if places is None else places
    if not len(points):
        print(f"{name:28.28s} no membrane")
        return
    tree = cKDTree(known.places)
    _, row = tree.query(voxels[:, ::-1])
    at_pole = known.pole[row]
    hit = truth[tuple(voxels.T)]
    both = int((hit & ~at_pole).sum())
    dice = 2.0 * both / max(1, int((~at_pole).sum()) + int((truth & ~pole).sum()))
    far, near = tree.query(points)
    reached, _ = cKDTree(points).query(known.places)
    scores = []
    for chosen_points, chosen_truth in ((~known.pole[near], ~known.pole), (known.pole[near], known.pole)):
        precision = (far[chosen_points] <= TOLERANCE_PX).mean() if chosen_points.any() else 0.0
        recall = (reached[chosen_truth] <= TOLERANCE_PX).mean()
        scores.append(2.0 * precision * recall / max(precision + recall, 1e-9))
    across = ((points - known.places[near]) * known.normals[near]).sum(1)
    own = far <= FAR_PX
    clear = own & ~known.pole[near]
    error = math.sqrt((across[clear] ** 2).mean()) if clear.any() else math.nan
    print(
        f"{name:28.28s} Dice {dice:.3f} | surface Dice {scores[0]:.3f}, poles {scores[1]:.3f} | error {error:.2f} voxels "
        f"(all {math.sqrt((across[own] ** 2).mean()) if own.any() else math.nan:.2f}) | false {100 * (~own).mean():.1f}% of area",
        flush=True,
    )
    for number, radius in enumerate(known.radii_px):
        mine = clear & (known.owner[near] == number)
        if mine.sum() > 10:
            got = fitted_radius(points[mine])
            print(
                f"{'':28s} vesicle {number}: radius {got:.2f} of {radius:.2f} voxels, {100 * (got / radius - 1):+.2f}%"
            )


def segmented(volume: torch.Tensor, voxel: float, model: str | None) -> Membranes:
    """By the network of a model, or without training where it is None."""
    if model is None:
        return segment_membranes(volume, voxel, MembraneParams())
    return learned_membranes(volume, voxel, Segmenter.of_model(read_segmenter(model)), LearnedMembraneParams())


def write_pictures(folder: Path, name: str, volume: np.ndarray | None, labels: np.ndarray, known: Vesicles) -> None:
    """Slices across z and y through the first vesicle: labels red, truth blue."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, _ = true_mask(known)
    middle = known.places[known.owner == 0].mean(0)
    for axis, at, word in ((0, round(middle[2]), "z"), (1, round(middle[1]), "y")):
        grey = np.zeros_like(labels.take(at, axis), dtype=float)
        if volume is not None:
            grey = volume.take(range(max(0, at - 1), at + 2), axis).mean(axis)
            low, high = np.quantile(grey, (0.01, 0.99))
            grey = np.clip((grey - low) / (high - low), 0.0, 1.0)
        red, blue = labels.take(at, axis) > 0, truth.take(at, axis)
        shade = np.stack(
            [np.where(blue, 0.5, 1.0) * grey, np.where(red | blue, 0.5, 1.0) * grey, np.where(red, 0.5, 1.0) * grey], -1
        )
        shade[..., 0] += 0.5 * red
        shade[..., 2] += 0.5 * blue
        picture = np.concatenate([np.repeat(grey[..., None], 3, -1), shade], axis=1 if axis == 0 else 0)
        matplotlib.image.imsave(folder / f"{name}_{word}.png", np.clip(picture, 0, 1)[::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("series")
    parser.add_argument("labels", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, default=shared_data_folder())
    parser.add_argument("--volume", type=Path, nargs="*", default=[], help="tomograms to segment")
    parser.add_argument("--network", action="store_true", help="by the network, in place of votes")
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    known = known_vesicles(given.project, given.series, given.data)
    print(f"{given.series}: {len(known.radii_px)} vesicles, {100 * known.pole.mean():.0f}% of their area in the wedge")
    for path in given.labels:
        labels = np.asarray(read_mrc(path)[0])
        print_figures(path.stem, labels, known)
        if given.pictures:
            write_pictures(given.pictures, path.stem, None, labels, known)
    for path in given.volume:
        volume = np.array(read_mrc(path)[0], dtype=np.float32)
        start, busy = time.perf_counter(), time.process_time()
        got = segmented(torch.nan_to_num(torch.from_numpy(volume)), known.voxel, given.model if given.network else None)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{path.stem}: {len(got.areas_angstrom2)} sheets in {time.perf_counter() - start:.0f} s, "
            f"{time.process_time() - busy:.0f} s of processors, at most {peak:.1f} GiB"
        )
        labels = got.labels.numpy()
        print_figures(path.stem, labels, known, got.places_px)
        if given.pictures:
            write_pictures(given.pictures, path.stem, volume, labels, known)


if __name__ == "__main__":
    main()
