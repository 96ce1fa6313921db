"""Filaments put into a film."""

import numpy as np

from eucentric.errors import InputError, ProcessingError
from eucentric.simulation.filaments import (
    ACTIN,
    MICROTUBULE,
    Helix,
    actin_subunit,
    backbone_frames,
    subunit_poses,
    tubulin_dimer,
    worm_like_chain,
)
from eucentric.simulation.packing import GAP_ANGSTROM, SOLID
from eucentric.simulation.placing import Placing
from eucentric.simulation.scene import SceneFilament
from eucentric.simulation.structures import Filament
from eucentric.typing import FloatArray

_TRIES = 2000
_DISC_STEP = 8.0
_SHORTEST = 3  # a filament that the film cuts below this many radii is none


def place_filaments(placing: Placing) -> None:
    """Put the filaments of the scene.

    Raises
    ------
    InputError : a filament thicker than the ice
    ProcessingError : no room left
    """
    for entry in placing.scene.filaments:
        helix = ACTIN if entry.kind == "actin" else MICROTUBULE
        builtin = None if entry.species else (actin_subunit() if entry.kind == "actin" else tubulin_dimer())
        kind = placing.kind(entry.species, builtin)
        name = entry.name or entry.kind
        if 2.0 * helix.outer_radius_angstrom > placing.thickest and not placing.scene.film.cut:
            raise InputError(
                f"A filament `{name}` of {2 * helix.outer_radius_angstrom:.0f} A does not fit into ice of "
                f"{placing.thickest:.0f} A. Make the ice thicker."
            )
        count = entry.copies(placing.field_angstrom)
        for number in range(count):
            backbone = _grown(placing, entry, helix)
            if backbone is None:
                raise ProcessingError(
                    f"No room for more than {number} of {count} `{name}` was found. Ask for fewer or shorter "
                    "ones, or make the ice thicker."
                )
            positions, rotations = subunit_poses(backbone, helix, phase_deg=float(placing.rng.uniform(0, 360)))
            inside = placing.in_film(positions)
            placing.add(kind, positions[inside], rotations[inside], "filament", len(placing.filaments))
            placing.filaments.append(
                Filament(name=name, backbone_angstrom=backbone, radius_angstrom=helix.outer_radius_angstrom)
            )


def _grown(placing: Placing, entry: SceneFilament, helix: Helix) -> FloatArray | None:
    """A backbone that fits, its voxels taken; None where none was found."""
    rng, occupancy = placing.rng, placing.occupancy
    persistence = entry.persistence_angstrom or helix.persistence_angstrom
    within = placing.within
    disc, rim = _disc(helix.outer_radius_angstrom), _disc(helix.outer_radius_angstrom + GAP_ANGSTROM + 0.5 * _DISC_STEP)
    for _ in range(_TRIES):
        middle = np.array([*(rng.uniform(-w, w) for w in within), rng.uniform(occupancy.low, occupancy.high)])
        if not occupancy.free(middle[None], placing.blocked).all():
            continue
        azimuth = rng.uniform(0, 2 * np.pi)
        lean = np.arcsin(rng.uniform(-1, 1) * np.sin(np.deg2rad(entry.tilt_deg)))
        direction = np.array([np.cos(azimuth) * np.cos(lean), np.sin(azimuth) * np.cos(lean), np.sin(lean)])
        length = placing.draw(entry.length_angstrom)
        whole = worm_like_chain(np.zeros(3), direction, length, persistence, rng)
        chain = _cut(placing, whole - whole[len(whole) // 2] + middle, entry, helix)
        if chain is None or not occupancy.free(chain, placing.blocked).all():
            continue
        frames = backbone_frames(chain)
        if occupancy.free(_tube(chain, frames, rim), placing.blocked).all():
            occupancy.mark(_tube(chain, frames, disc), SOLID)
            return chain
    return None


def _cut(placing: Placing, chain: FloatArray, entry: SceneFilament, helix: Helix) -> FloatArray | None:
    """The part around the middle that lies in the simulated film; None where too little is left."""
    limit = np.asarray(placing.half[:2]) + 200.0
    inside = (np.abs(chain[:, :2]) <= limit).all(1)
    if placing.scene.film.cut:
        inside &= placing.in_film(chain)
    middle = len(chain) // 2
    out = np.flatnonzero(~inside)
    first = int(out[out < middle].max(initial=-1)) + 1
    last = int(out[out > middle].min(initial=len(chain)))
    kept = chain[first:last]
    length = 10.0 * (len(kept) - 1)
    return kept if length >= min(entry.length_angstrom[0], _SHORTEST * helix.outer_radius_angstrom) else None


def _disc(radius: float) -> FloatArray:
    """Points (n, 2) of a disc."""
    count = int(radius / _DISC_STEP) + 1
    grid = _DISC_STEP * np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    return np.asarray(grid[np.linalg.norm(grid, axis=1) <= radius])


def _tube(chain: FloatArray, frames: FloatArray, disc: FloatArray) -> FloatArray:
    """Points (n, 3) of a tube about a backbone."""
    return np.asarray((chain[:, None] + np.einsum("nij,mj->nmi", frames[:, :, :2], disc)).reshape(-1, 3))
