"""Two states of the 30S put into real tilt images of the practice data, for `averaging_classes.py`."""

import os
from pathlib import Path

import gemmi
import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation as ScipyRotation

from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import phase_ramps, prepare_series
from eucentric.io.atoms import read_atoms
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.io.truth import read_truth
from eucentric.models.particle_projection import project_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.optics.atoms import density_from_atoms
from eucentric.optics.transfer import contrast_transfer
from eucentric.pipeline.images import read_images, read_warp
from eucentric.pipeline.particle_files import in_estimated_frame
from eucentric.pipeline.store import ItemStore
from eucentric.projection.slices import extract_slices, volume_to_grid

KINDS = {"0": ("4v4r_30S.pdb", "C1"), "1": ("3j9i.pdb", "D7")}
_TURN_DEG = 30.0
_APART = 150.0  # A, from particles, beads and membranes, and of the new ones from each other
_WINDOW, _BOX, _VOXEL = 128, 64, 4.0


def known_particles(project: Path, data: Path, name: str) -> ParticleSet:
    """All particles of a series where the estimated geometry has them."""
    truth = read_truth(data / "practice" / f"{name}_truth.json")
    whole = ParticleSet.build(name, truth.positions, rotations=truth.rotations, kinds=[str(k) for k in truth.kinds])
    series = read_tilt_series(project / "ctf" / "tilt_series.star", name, project)
    return in_estimated_frame(whole, truth, series, project)


def two_states(data: Path, moved: float) -> tuple[list[torch.Tensor], float]:
    """Densities of the 30S as it is, and with a part of its mass turned about its hinge; the rms of the move in A.

    The part is what lies farthest along the longest direction, and the hinge the middle of the border; the axis is across.
    """
    atoms = read_atoms(data / "structures" / KINDS["0"][0])
    points = np.asarray(atoms.positions) - np.asarray(atoms.positions).mean(0)
    elements = [gemmi.Element(int(z)).name for z in atoms.atomic_numbers]
    axes = np.linalg.svd(points, full_matrices=False)[2]
    along = points @ axes[0]
    limit = np.quantile(along, 1.0 - moved)
    part = along > limit
    hinge = points[part & (along < limit + 10.0)].mean(0)
    turn = ScipyRotation.from_rotvec(np.deg2rad(_TURN_DEG) * axes[1]).as_matrix()
    other = points.copy()
    other[part] = (points[part] - hinge) @ turn.T + hinge
    size = (_BOX,) * 3
    rms = float(np.sqrt(np.square(other[part] - points[part]).sum(1).mean()))
    return [density_from_atoms(p, elements, size, _VOXEL) for p in (points, other)], rms


def true_contrast(project: Path, data: Path, name: str, density: torch.Tensor) -> float:
    """Of true 30S in the images over that of their density: the median of what fits each best."""
    series, images, warp = _opened(project, name)
    known = known_particles(project, data, name)
    known = known.select(known.kinds == "0")
    params = ExtractParams(box_size=_BOX, pixel_size_angstrom=_VOXEL, min_tilts=20)
    source = prepare_series(images, series, params, warp=warp, pixel_size=_VOXEL)
    known = known.select(source.project(known.positions_angstrom).tilts_seen >= 20)
    grid = volume_to_grid(density, (2 * _BOX,) * 3)
    found = []
    for row in range(len(known)):
        one = known.select(np.array([row]))
        batch = source.particles(one.positions_angstrom)
        copy = extract_slices(grid, batch.slice_matrices(one.rotations), _BOX) * _VOXEL
        fits = float((batch.data.conj() * copy).real.sum() / (batch.weight * copy.abs().square()).sum())
        found.append(fits)
    return float(np.median(found))


def project_with_states(
    project: Path, data: Path, names: list[str], folder: Path, *, moved: float, count: int, seed: int = 0
) -> tuple[Path, ParticleSet, tuple[Path, ...]]:
    """Images with particles of both states put in: their table, the particles with their states, and a map of each state."""
    densities, rms = two_states(data, moved)
    contrast = true_contrast(project, data, "TS_01", densities[0])
    print(f"{moved:.0%} of the mass moved by {rms:.0f} A rms; contrast {contrast:.3g} of the density")
    rng = np.random.default_rng(seed)
    (folder / "ctf").mkdir(parents=True, exist_ok=True)
    (folder / "eucentric.toml").write_text("")
    made, lists = [], []
    for number, name in enumerate(names):
        own = count // len(names) + (number < count % len(names))
        series, images, warp = _opened(project, name)
        places = _free_places(project, data, name, series, own, rng)
        rotations = ScipyRotation.random(own, rng=rng).as_matrix()
        states = rng.permutation(np.arange(own) % 2)
        for k in (0, 1):
            _put(images, series, warp, contrast * densities[k], places[states == k], rotations[states == k])
        write_mrc(folder / f"{name}.mrc", images.numpy(), _VOXEL, "float32", is_volume=False)
        there = {"image_even": None, "image_odd": None, "movie": None, "frame_shifts": None}
        tilts = [_with(t, image=f"{i + 1}@{name}.mrc", **there) for i, t in enumerate(series.tilts)]
        bent = None if series.warp is None else os.path.relpath((project / series.warp).resolve(), folder.resolve())
        made.append(series.with_tilts(tilts).replace(warp=bent))
        lists.append(ParticleSet.build(name, places, rotations=rotations, kinds=[f"state{k}" for k in states]))
    table = folder / "ctf" / "tilt_series.star"
    write_tilt_series_set(table, made, folder)
    maps = []
    for k, density in enumerate(densities):
        maps.append(folder / f"state{k}.mrc")
        write_mrc(maps[-1], density.numpy(), _VOXEL, "float32")
    return table, ParticleSet.concatenate(lists), tuple(maps)


def _with(tilt, **changes):
    from dataclasses import fields, replace

    known = {f.name for f in fields(tilt)}
    return replace(tilt, **{k: v for k, v in changes.items() if k in known})


def _opened(project: Path, name: str):
    series = read_tilt_series(project / "ctf" / "tilt_series.star", name, project)
    store = ItemStore(project, "", name)
    return series, read_images(series, store, torch.device("cpu")), read_warp(series, store)


def _free_places(
    project: Path, data: Path, name: str, series: TiltSeries, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(count, 3) A, away from everything and seen untilted, within the heights of the particles."""
    truth = read_truth(data / "practice" / f"{name}_truth.json")
    known = known_particles(project, data, name)
    beads = ParticleSet.build(name, truth.beads.reshape(-1, 3)) if len(truth.beads) else None
    taken = [known.positions_angstrom]
    if beads is not None:
        turned = ParticleSet.build(name, truth.beads, rotations=np.tile(np.eye(3), (len(truth.beads), 1, 1)))
        taken.append(in_estimated_frame(turned, truth, series, project).positions_angstrom)
    centres = np.zeros((0, 3))
    if len(truth.vesicle_centres):
        spheres = ParticleSet.build(
            name, truth.vesicle_centres, rotations=np.tile(np.eye(3), (len(truth.vesicle_centres), 1, 1))
        )
        centres = in_estimated_frame(spheres, truth, series, project).positions_angstrom
    low, high = np.quantile(known.positions_angstrom[:, 2], [0.05, 0.95])
    half = 0.5 * 0.85 * min(series.image_shape) * series.pixel_size_angstrom
    everything = np.concatenate(taken)
    out: list[np.ndarray] = []
    for _ in range(200_000):
        place = np.array([*rng.uniform(-half, half, 2), rng.uniform(low, high)])
        near = np.linalg.norm(everything - place, axis=1).min() < _APART
        shell = np.abs(np.linalg.norm(centres - place, axis=1) - truth.vesicle_radii_angstrom) < _APART
        if near or shell.any() or (out and cKDTree(np.array(out)).query(place)[0] < _APART):
            continue
        out.append(place)
        if len(out) == count:
            return np.array(out)
    raise SystemExit(f"Only {len(out)} free places were found in {name}; expected {count}.")


def _put(
    images: torch.Tensor, series: TiltSeries, warp, density: torch.Tensor, places: np.ndarray, rotations: np.ndarray
) -> None:
    """Take off every image what particles scatter: the images are dark where matter is."""
    from eucentric.geometry.tilt import TiltGeometry

    geometry = TiltGeometry.from_poses(series.poses)
    matrices = geometry.magnification[:, None, None] * geometry.matrices
    padded = torch.zeros((_WINDOW,) * 3)
    low = _WINDOW // 2 - _BOX // 2
    padded[(slice(low, low + _BOX),) * 3] = density
    grid = volume_to_grid(padded, (2 * _WINDOW,) * 3)
    seen = project_particles(places, series, warp, margin_angstrom=0.0)
    size, m = series.image_shape, _WINDOW
    for t, tilt in enumerate(series.tilts):
        transfer = contrast_transfer(
            (m, m),
            series.pixel_size_angstrom,
            tilt.ctf,
            series.optics,
            exposure=tilt.pre_exposure + 0.5 * tilt.dose,
            magnification=float(geometry.magnification[t]),
        )
        mean = float(images[t].mean())
        slices = extract_slices(grid, matrices[t] @ rotations, m) * _VOXEL
        corner = np.rint(seen.pixels[t]).astype(int)
        slices = slices * phase_ramps(-(seen.pixels[t] - corner), m, slices)
        for i, at in enumerate(corner):
            gain = transfer.at(series.hand * float(seen.heights_angstrom[t, i]))
            shown = torch.fft.fftshift(torch.fft.irfft2(slices[i] * gain, s=(m, m)))
            x, y = at - m // 2
            left, top = max(x, 0), max(y, 0)
            right, bottom = min(x + m, size[1]), min(y + m, size[0])
            if right > left and bottom > top:
                images[t, top:bottom, left:right] -= mean * shown[top - y : bottom - y, left - x : right - x]


if __name__ == "__main__":
    raise SystemExit("Run averaging_classes.py.")
