"""Macromolecules as weighted points: from atomic models, or built here, chiral and without symmetry."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.optics.atoms import atom_potentials, density_from_points
from eucentric.typing import FloatArray

CUBIC_ANGSTROM_PER_DALTON = 1.21
"""Volume of protein: 0.73 cm^3 in a gram."""
_DALTON_PER_RESIDUE = 110.0
_VOLT_PER_RESIDUE = 450.0  # V A^3 above the ice: the mean residue's atoms less the water in their place
_HELIX_SPACING, _HELIX_RADIUS, _HELIX_RISE, _HELIX_TURN = 10.5, 2.3, 1.5, np.deg2rad(100.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Species:
    """One kind of particle: points in its own (reference) frame. Where nothing else is said their mean is the origin."""

    name: str
    mass_kda: float
    points_angstrom: FloatArray
    """(point, 3), x, y, z in A."""
    weights: FloatArray
    """(point,), potential above the ice integrated over space, V A^3."""

    @property
    def radius_angstrom(self) -> float:
        """Distance of the outermost point from the origin."""
        return float(np.linalg.norm(self.points_angstrom, axis=1).max())

    def renamed(self, name: str) -> Self:
        """The same under another name."""
        return replace(self, name=name)

    def coarse(self, spacing_angstrom: float) -> Self:
        """The same density with all points in a cube of this edge joined at their centroid."""
        cell = np.floor(self.points_angstrom / spacing_angstrom).astype(np.int64)
        _, index = np.unique(cell, axis=0, return_inverse=True)
        index = index.reshape(-1)
        weights = np.bincount(index, self.weights).astype(np.float64)
        # weights may be negative where water is denser: positions are means by count
        count = np.bincount(index)
        points = np.stack([np.bincount(index, self.points_angstrom[:, d]) / count for d in range(3)], axis=1)
        return type(self)(name=self.name, mass_kda=self.mass_kda, points_angstrom=points, weights=weights)

    def volume(
        self, shape: tuple[int, int, int], voxel_size: float, *, b_factor: float = 0.0
    ) -> Float[Tensor, "z y x"]:
        """Potential in V above the ice, protein positive, at (z, y, x) voxels of `voxel_size` A, origin ``n // 2``."""
        return density_from_points(self.points_angstrom, self.weights, shape, voxel_size, b_factor=b_factor)


def species_from_atoms(
    positions_angstrom: ArrayLike,
    elements: Sequence[str],
    *,
    name: str,
    mass_kda: float | None = None,
    occupancies: ArrayLike = 1.0,
) -> Species:
    """A species from an atomic model, moved so that the mean of its atoms is the origin.

    Parameters
    ----------
    positions_angstrom : (atom, 3), x, y, z in A
    elements : a symbol for each atom
    mass_kda : where it is not given it follows from the potential, at a mean residue's 110 Da
    occupancies : (atom,) or one number, 0 to 1

    Raises
    ------
    ShapeError : no atoms, or positions that do not match the elements
    """
    points = np.asarray(positions_angstrom, dtype=np.float64)
    if points.ndim != 2 or points.shape != (len(elements), 3) or not len(points):
        raise ShapeError(
            f"{name} has {len(elements)} elements and positions of shape {points.shape}; expected (atom, 3)."
        )
    weights = atom_potentials(elements) * np.asarray(occupancies, dtype=np.float64)
    mass = float(weights.sum()) / _VOLT_PER_RESIDUE * _DALTON_PER_RESIDUE / 1e3 if mass_kda is None else mass_kda
    return Species(name=name, mass_kda=mass, points_angstrom=points - points.mean(0), weights=weights)


def procedural_macromolecule(mass_kda: float, *, variant: int = 0) -> Species:
    """A macromolecule that exists nowhere but has the size, density and irregularity of one, always the same.

    Lobes of different sizes, shapes and densities touch each other; each is packed with parallel right-handed alpha
    helices of one pseudo-atom a residue. It has no symmetry, and its mirror image is another molecule.

    Parameters
    ----------
    mass_kda : 20 or more
    variant : another number, another molecule of the same mass

    Raises
    ------
    InputError : a mass below 20 kDa
    """
    if mass_kda < 20.0:
        raise InputError(f"A macromolecule of {mass_kda:g} kDa was asked for; expected at least 20.")
    rng = np.random.default_rng([round(mass_kda * 10), variant, 16])
    residues = mass_kda * 1e3 / _DALTON_PER_RESIDUE
    lobes = _grow_lobes(rng, count=int(np.clip(round(3 + 1.1 * np.log2(mass_kda / 60.0)), 4, 12)))
    scale = (residues * _HELIX_SPACING**2 * np.sqrt(0.75) * _HELIX_RISE / lobes.relative_volume) ** (1 / 3)
    points, lobe = _pack_helices(lobes, scale)
    for _ in range(4):  # the lobes overlap by an amount that only packing tells
        scale *= (residues / len(points)) ** (1 / 3)
        points, lobe = _pack_helices(lobes, scale)
    weights = _VOLT_PER_RESIDUE * lobes.density[lobe]
    return Species(
        name=f"macromolecule_{mass_kda:g}kDa" + (f"_{variant}" if variant else ""),
        mass_kda=mass_kda,
        points_angstrom=points - points.mean(0),
        weights=weights,
    )


def species_of_lobes(name: str, mass_kda: float, lobes: Sequence[Sequence[float]]) -> Species:
    """A macromolecule of given outline, packed with right-handed helices along z, in the frame that the lobes stand in.

    Parameters
    ----------
    mass_kda : all lobes grow or shrink alike until they hold it
    lobes : for each x, y, z of its middle, its three half axes along x, y and z, all in A, and its relative density
    """
    table = np.asarray(lobes, dtype=np.float64)
    shape = _Lobes(
        centres=table[:, :3],
        axes=table[:, 3:6],
        frames=np.broadcast_to(np.eye(3), (len(table), 3, 3)),
        density=table[:, 6],
        phases=np.arange(len(table), dtype=np.float64),
    )
    residues, scale = mass_kda * 1e3 / _DALTON_PER_RESIDUE, 1.0
    points, lobe = _pack_helices(shape, scale)
    for _ in range(6):
        scale *= (residues / len(points)) ** (1 / 3)
        points, lobe = _pack_helices(shape, scale)
    return Species(
        name=name, mass_kda=mass_kda, points_angstrom=points, weights=_VOLT_PER_RESIDUE * shape.density[lobe]
    )


def species_from_volume(
    volume: ArrayLike,
    voxel_size: float,
    *,
    name: str,
    mass_kda: float | None = None,
    threshold: float | None = None,
    dark: bool = False,
) -> Species:
    """A species from a density map, whose origin is the middle of its density.

    Parameters
    ----------
    volume : (z, y, x), of any unit
    voxel_size : A
    mass_kda : of what lies above the threshold; None for the mass of protein of that volume
    threshold : what lies above belongs to the species; None for the one that encloses the volume of `mass_kda`
    dark : whether density is low where the species is, as in tomograms

    Raises
    ------
    ShapeError : not a volume
    InputError : neither mass nor threshold, a mass that is not positive, values that are no numbers, nothing above the
        threshold, or a map that is dark where the species is
    """
    density = np.asarray(volume, dtype=np.float64)
    if density.ndim != 3 or not density.size:
        raise ShapeError(f"The map {name} has shape {density.shape}; expected (z, y, x).")
    if not np.isfinite(density).all():
        raise InputError(f"The map {name} holds values that are not numbers. Write it again without them.")
    if mass_kda is None and threshold is None:
        raise InputError(f"How much of the map {name} is the species is not known. Give its mass_kda or a threshold.")
    if mass_kda is not None and not mass_kda > 0:
        raise InputError(f"The map {name} was given {mass_kda:g} kDa; expected a positive mass.")
    solvent = float(np.median(density))
    density = (solvent - density) if dark else (density - solvent)
    level = None if threshold is None else (solvent - threshold if dark else threshold - solvent)
    if level is None and mass_kda is not None:
        wanted = mass_kda * 1e3 * CUBIC_ANGSTROM_PER_DALTON / voxel_size**3
        if wanted >= 0.5 * density.size:
            raise InputError(
                f"{mass_kda:g} kDa take {wanted:.0f} voxels, more than half of the map {name}. Check its mass and voxels."
            )
        level = float(np.partition(density.reshape(-1), -max(1, round(wanted)))[-max(1, round(wanted))])
    inside = density >= max(level or 0.0, np.finfo(np.float64).tiny)
    if not inside.any():
        raise InputError(f"The map {name} has nothing above {threshold}. Give a lower threshold.")
    rest = density[~inside]
    if len(rest) and -rest.min() > 1.5 * density.max():
        raise InputError(
            f"The map {name} seems to be dark where the species is: its lowest values stand out more than its highest. "
            "Expected bright density; set dark = true for a map in the contrast of tomograms."
        )
    weights = density[inside]
    index = np.argwhere(inside)[:, ::-1]
    points = (index - (weights[:, None] * index).sum(0) / weights.sum()) * voxel_size
    mass = inside.sum() * voxel_size**3 / CUBIC_ANGSTROM_PER_DALTON / 1e3 if mass_kda is None else mass_kda
    whole = mass * 1e3 / _DALTON_PER_RESIDUE * _VOLT_PER_RESIDUE
    return Species(name=name, mass_kda=float(mass), points_angstrom=points, weights=weights * (whole / weights.sum()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lobes:
    centres: FloatArray  # (lobe, 3)
    axes: FloatArray  # (lobe, 3), half axes
    frames: FloatArray  # (lobe, 3, 3), rows are the half axes' directions
    density: FloatArray  # (lobe,), relative: nucleic acid is denser than protein
    phases: FloatArray  # (lobe,), first angle of the helices

    @property
    def relative_volume(self) -> float:
        return float(4 / 3 * np.pi * self.axes.prod(1).sum())


def _grow_lobes(rng: np.random.Generator, count: int) -> _Lobes:
    radius = np.sort(rng.uniform(0.45, 1.0, count))[::-1]
    centres = np.zeros((count, 3))
    for i in range(1, count):
        # of several places the most remote from the others: irregular outlines, not a ball
        parents = rng.integers(0, i, 4)
        directions = rng.normal(size=(4, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        places = centres[parents] + 0.8 * (radius[parents] + radius[i])[:, None] * directions
        gaps = (np.linalg.norm(places[:, None] - centres[:i], axis=-1) - radius[:i]).min(1)
        centres[i] = places[np.argsort(gaps)[2]]
    frames = np.asarray(_ScipyRotation.random(count, rng=rng).as_matrix(), dtype=np.float64)
    stretch = rng.uniform(0.75, 1.3, (count, 3))
    return _Lobes(
        centres=centres,
        axes=radius[:, None] * stretch / stretch.prod(1, keepdims=True) ** (1 / 3),
        frames=frames,
        density=rng.choice([0.9, 1.0, 1.45], size=count, p=[0.35, 0.35, 0.3]),
        phases=rng.uniform(0, 2 * np.pi, count),
    )


def _pack_helices(lobes: _Lobes, scale: float) -> tuple[FloatArray, FloatArray]:
    """Residues (n, 3) of the helices that fill all lobes, and the lobe (n,) of each."""
    kept = []
    for number in range(len(lobes.centres)):
        half = lobes.axes[number] * scale
        local = _helix_lattice(half, lobes.phases[number])
        local = local[((local / half) ** 2).sum(1) <= 1.0]
        points = local @ lobes.frames[number] + lobes.centres[number] * scale
        # where lobes overlap a residue belongs to the lobe in which it lies deepest
        inside = np.stack([_depth(points, lobes, other, scale) for other in range(len(lobes.centres))])
        kept.append(points[inside.argmin(0) == number])
    owner = np.concatenate([np.full(len(points), number) for number, points in enumerate(kept)])
    return np.concatenate(kept), owner


def _depth(points: FloatArray, lobes: _Lobes, number: int, scale: float) -> FloatArray:
    local = (points - lobes.centres[number] * scale) @ lobes.frames[number].T / (lobes.axes[number] * scale)
    return np.asarray((local**2).sum(1))


def _helix_lattice(half: FloatArray, phase: float) -> FloatArray:
    """Residues of parallel helices along z, on a hexagonal lattice that covers a box of half axes `half`."""
    rows, columns = (int(np.ceil(h / _HELIX_SPACING / np.sqrt(0.75))) + 1 for h in half[:2])
    i, j = np.meshgrid(np.arange(-2 * columns, 2 * columns + 1), np.arange(-2 * rows, 2 * rows + 1), indexing="ij")
    x = _HELIX_SPACING * (i + 0.5 * (j % 2)).reshape(-1)
    y = _HELIX_SPACING * np.sqrt(0.75) * j.reshape(-1)
    near = (np.abs(x) <= half[0] + _HELIX_RADIUS) & (np.abs(y) <= half[1] + _HELIX_RADIUS)
    x, y = x[near], y[near]
    step = np.arange(-int(half[2] / _HELIX_RISE), int(half[2] / _HELIX_RISE) + 1)
    angle = phase + step[None, :] * _HELIX_TURN + 0.7 * np.arange(len(x))[:, None]
    return np.stack(
        [
            x[:, None] + _HELIX_RADIUS * np.cos(angle),
            y[:, None] + _HELIX_RADIUS * np.sin(angle),
            np.broadcast_to(step * _HELIX_RISE, angle.shape),
        ],
        axis=-1,
    ).reshape(-1, 3)
