"""Speed and memory of template matching: the search against its FFTs' own floor, refinement, and a whole tomogram.

Run: python benchmarks/picking_speed.py search|refine|whole [--threads 2] [--small]. `search` and `refine` take one thread and
processor time. The floor is one inverse real FFT of the padded volume for each orientation, as usual programs need at least.
"""

import argparse
import math
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from eucentric.compute.sizes import good_size
from eucentric.compute.threads import set_threads
from eucentric.geometry.rotations import Rotation
from eucentric.geometry.so3 import sample_rotations, symmetric_angle_deg
from eucentric.picking.match_templates import match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses, refine_poses
from eucentric.picking.rotated_templates import FourierTemplate, RowBasis, TemplateRows
from eucentric.picking.search_masks import SearchMask
from eucentric.picking.search_volume import search_volume
from eucentric.picking.templates import Template
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.simulation.species import procedural_macromolecule

MASS_KDA = 1000.0
COARSE, FINE = 16.0, 4.0


def template_at(voxel: float) -> Template:
    species = procedural_macromolecule(MASS_KDA)
    side = 2 * math.ceil(0.8 * 2.0 * species.radius_angstrom / voxel)
    density = species.volume((side,) * 3, voxel)
    return Template(
        name="it", density=density, voxel_size_angstrom=voxel, diameter_angstrom=2.0 * species.radius_angstrom
    )


def processor_seconds(work: Callable[[], object], times: int = 3) -> float:
    spent = []
    for _ in range(times):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return statistics.median(spent)


def search() -> None:
    """Orientations x voxels a second of both ways, and their ratio to the floor, for 192 x 192 x 64 voxels of 16 A.

    The mixing, which goes voxel by voxel, is timed on a part.
    """
    template = template_at(COARSE)
    mask = SearchMask.build(template, MatchParams(), template.density)
    reader = FourierTemplate.build(template, mask.side)
    gain = TomogramTransfer.of_wedge(-60, 60).gain(mask.side, COARSE)
    rotations = sample_rotations(10.0)
    started = time.process_time()
    rows = TemplateRows.build(reader, rotations, gain, mask.ball)
    basis = RowBasis.build(rows.rows)
    made = time.process_time() - started
    volume = torch.randn((64, 192, 192), generator=torch.Generator().manual_seed(0))
    shape = tuple(good_size(n + mask.side) for n in volume.shape)
    spectrum = torch.fft.rfftn(torch.randn(shape))
    some = rows.of(slice(0, 16))
    floor = processor_seconds(lambda: [torch.fft.irfftn(spectrum, s=shape) for _ in range(16)]) / 16
    plain = processor_seconds(lambda: search_volume(volume, some)) / 16
    # the part of the mixing that is done once, and the part that is done for each orientation
    few, more = basis.of(slice(0, 512)), basis.of(slice(0, 2560))
    part = volume[:, :64, :64].contiguous()
    share = volume.numel() / part.numel()
    once = share * processor_seconds(lambda: search_volume(part, rows, few))
    twice = share * processor_seconds(lambda: search_volume(part, rows, more))
    each = (twice - once) / 2048
    print(
        f"{template.diameter_angstrom:.0f} A, cube of {mask.side}, {len(basis.patterns)} patterns, made in {made:.1f} s"
    )
    for name, seconds in (("floor", floor), ("plain", plain), ("mixing", each)):
        print(
            f"{name}: {volume.numel() / seconds / 1e6:.0f} M orientations x voxels/s, {seconds / floor:.2f} of the floor"
        )
    whole = made + once + each * (len(rotations) - 512)
    print(f"mixing, all of it with {len(rotations)} orientations: {whole / (floor * len(rotations)):.2f} of the floor")


def planted(
    shape: tuple[int, int, int], voxel: float, count: int, template: Template, noise: float
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Dark particles in white noise, their places in A and rotations."""
    rng = np.random.default_rng(1)
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(shape, generator=generator)
    side = template.density.shape[0]
    reader = FourierTemplate.build(template, side)
    rotations = Rotation.random(count, rng).matrices
    grid = int(1.3 * template.diameter_angstrom / voxel)
    cells = [
        (z, y, x) for z in _middles(shape[0], grid) for y in _middles(shape[1], grid) for x in _middles(shape[2], grid)
    ]
    chosen = rng.permutation(len(cells))[:count]
    places = []
    for rotation, cell in zip(rotations, chosen, strict=False):
        middle = np.array(cells[cell])
        moved = rng.uniform(-0.5, 0.5, 3)
        copy = reader.boxes(reader.rotated(rotation[None]), torch.from_numpy(moved[None]).float())[0]
        low = middle - side // 2
        volume[tuple(slice(int(v), int(v) + side) for v in low)] -= copy / (noise * copy.std())
        places.append((middle[::-1] - np.array(shape[::-1]) // 2 + moved) * voxel)
    return volume, np.array(places), rotations[: len(places)]


def _middles(n: int, grid: int) -> range:
    return range(grid, n - grid, grid)


def refine() -> None:
    """Processor time a candidate, from starts 5 degrees and 5 A off, at 8 A per voxel."""
    template = template_at(8.0)
    volume, places, rotations = planted((96, 256, 256), 8.0, 40, template, 3.0)
    mask = SearchMask.build(template, MatchParams(), volume)
    reader = FourierTemplate.build(template, mask.side)
    gain = -torch.ones(mask.side, mask.side, mask.side // 2 + 1)
    rng = np.random.default_rng(0)
    turns = ScipyRotation.from_rotvec(np.deg2rad(rng.normal(0, 3, places.shape))).as_matrix()
    start = Poses(
        positions_angstrom=places + rng.normal(0, 3, places.shape),
        rotations=turns @ rotations,
        scores=np.zeros(len(places)),
    )
    found: list[Poses] = []
    seconds = processor_seconds(
        lambda: found.append(
            refine_poses(
                volume,
                8.0,
                reader,
                lambda _: gain,
                mask.one,
                start,
                diameter_angstrom=template.diameter_angstrom,
                step_deg=10.0,
                shift_angstrom=COARSE,
                fine_step_deg=3.0,
            )
        )
    )
    angles = symmetric_angle_deg(found[-1].rotations, rotations)
    off = np.linalg.norm(found[-1].positions_angstrom - places, axis=1)
    print(
        f"{1e3 * seconds / len(places):.1f} ms a candidate in a cube of {mask.side}; median error {np.median(angles):.2f} degrees, "
        f"{np.median(off):.2f} A"
    )


def whole(small: bool) -> None:
    """768 x 768 x 256 voxels of 4 A, 10 degrees everywhere, refined to 3, one decoy."""
    shape = (128, 256, 256) if small else (256, 768, 768)
    template = template_at(FINE)
    volume, places, rotations = planted(shape, FINE, 40, template, 4.0)
    params = MatchParams(scrambled_decoys=1)
    started = time.perf_counter()
    result = match_templates(volume, FINE, [template], TomogramTransfer.of_wedge(-60, 60), params)
    seconds = time.perf_counter() - started
    kept = result.positions_angstrom[result.kept]
    found = np.array(
        [np.linalg.norm(kept - p, axis=1).min(initial=np.inf) < 0.25 * template.diameter_angstrom for p in places]
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    speed = result.rotation_voxels / seconds / 1e6
    print(f"{seconds:.0f} s ({time.process_time():.0f} s of processor time), {speed:.0f} M orientations x voxels/s")
    print(f"peak {peak:.1f} GiB; coarse voxel {result.score_voxel_angstrom[0]:.1f} A; {len(result.scores)} candidates")
    print(f"{len(kept)} picks, {int(found.sum())} of {len(places)} found")
    near = [int(np.linalg.norm(kept - p, axis=1).argmin()) for p in places[found]]
    angles = symmetric_angle_deg(result.rotations[result.kept][near], rotations[found])
    print(f"median error of orientation {np.median(angles):.2f} degrees")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("search", "refine", "whole"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    set_threads(given.threads)
    if given.what == "search":
        search()
    elif given.what == "refine":
        refine()
    else:
        whole(given.small)
