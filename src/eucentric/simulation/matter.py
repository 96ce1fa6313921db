"""Membranes, gold and contamination as weighted points: potential above the ice, or above the vacuum outside it.

A bilayer has the atoms and volumes of fluid DOPC, 1303 A^3 and 72.5 A^2 a lipid, 319 A^3 of it the head [1]_, 54 A^3 each CH3
and free atoms in place of ice, as those of proteins: heads stand 4.2 V above the ice, CH2 1.7 V, CH3 0.9 V below. Its
heads are 36.9 A apart; other thicknesses stretch it.

References
----------
.. [1] Nagle & Tristram-Nagle, Biochim. Biophys. Acta 1469:159 (2000), doi:10.1016/S0304-4157(00)00016-2
"""

import numpy as np

from eucentric.optics.atoms import ICE_VOLTS
from eucentric.simulation.film import Film
from eucentric.simulation.membranes import sphere_surface
from eucentric.simulation.structures import BILAYER_ANGSTROM, Contaminant, Membrane
from eucentric.typing import FloatArray

# layers: nearest and farthest distance from the mid-surface (A), the standard deviation of a lipid's own place (A), and the
# potential above the ice integrated across the layer (V A): heads, CH2 and CH3
_BILAYER = (
    (18.45, 18.45, 2.0, 18.5),
    (-18.45, -18.45, 2.0, 18.5),
    (2.0, 13.6, 0.5, 19.2),
    (-13.6, -2.0, 0.5, 19.2),
    (0.0, 0.0, 1.5, -2.7),
)
_GOLD_VOLTS = 29.9


def bilayer_points(membrane: Membrane, spacing: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) and weights (n,), V A^3, of a membrane: dense heads, lighter tails, `spacing` A apart or less."""
    points, weights = [], []
    scale = membrane.thickness_angstrom / BILAYER_ANGSTROM
    for low, high, width, areal in _BILAYER:
        place, normal, area = membrane.surface.even_points(spacing, rng, distance=0.5 * scale * (low + high))
        away = rng.uniform(-0.5, 0.5, len(place)) * (high - low) + width * rng.normal(size=len(place))
        points.append(place + scale * away[:, None] * normal)
        weights.append(areal * area)
    return np.concatenate(points), np.concatenate(weights)


def vesicle_points(vesicle: FloatArray, spacing: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) and weights (n,), V A^3, of a bilayer sphere (x, y, z, radius)."""
    surface = sphere_surface(float(vesicle[3])).placed(np.eye(3), np.asarray(vesicle[:3], dtype=np.float64))
    return bilayer_points(Membrane(name="vesicle", surface=surface), spacing, rng)


def bead_points(diameter: float, spacing: float) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) about the origin and weights (n,), V A^3, of a gold ball."""
    radius = 0.5 * diameter
    spacing = min(spacing, diameter / 6)
    n = int(np.ceil(radius / spacing)) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) * spacing] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = grid[np.linalg.norm(grid, axis=1) <= radius]
    return inside, np.full(len(inside), (_GOLD_VOLTS - ICE_VOLTS) * np.pi / 6 * diameter**3 / len(inside))


def contaminant_points(
    body: Contaminant, film: Film, spacing: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) in the specimen and weights (n,), V A^3, of what lies on the film, and not in it."""
    low = (body.balls_angstrom[:, :3] - body.balls_angstrom[:, 3:]).min(0)
    high = (body.balls_angstrom[:, :3] + body.balls_angstrom[:, 3:]).max(0)
    axes = [np.arange(a, b, spacing) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid += rng.uniform(0.0, spacing, grid.shape)
    inside = np.zeros(len(grid), dtype=bool)
    for ball in body.balls_angstrom:
        inside |= np.linalg.norm(grid - ball[:3], axis=1) <= ball[3]
    lower, upper = film.faces(grid[:, 0], grid[:, 1])
    points = grid[inside & ((grid[:, 2] < lower) | (grid[:, 2] > upper))]
    return points, np.full(len(points), body.volts * spacing**3)
