"""Over-picking, cleaning and completing a lattice on a sphere by commands alone, as with immature HIV."""

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from eucentric.cli.main import run
from eucentric.io.particles import read_particles, write_particles
from eucentric.models import ParticleSet
from eucentric.picking.pick_geometry import rotations_along

RADIUS = 600.0
CENTRE = np.array([50.0, -80.0, 20.0])


def geodesic(level: int) -> np.ndarray:
    """Directions of an icosahedron's faces, divided: all but twelve have six neighbours."""
    gold = (1 + 5**0.5) / 2
    ico = np.array([[s, t * gold, 0] for s in (-1, 1) for t in (-1, 1)])
    ico = np.concatenate([np.roll(ico, k, axis=1) for k in range(3)])
    points = []
    for a, b, c in ico[ConvexHull(ico).simplices]:
        for i in range(level + 1):
            for j in range(level + 1 - i):
                points.append((i * a + j * b + (level - i - j) * c) / level)
    points = np.array(points)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points[np.unique(np.round(points, 6), axis=0, return_index=True)[1]]


def test_a_spherical_lattice_from_over_picking_to_completion(tmp_path):
    """Points picked too densely move to the subunit nearby, as an alignment moves them; some find nothing and stay."""
    out = {name: str(tmp_path / f"{name}.star") for name in ("dense", "aligned", "once", "clean", "whole")}
    rng = np.random.default_rng(0)
    true = CENTRE + RADIUS * geodesic(8)
    near = cKDTree(true).query(true, k=2)[0][:, 1]
    (tmp_path / "v.txt").write_text(f"{CENTRE[0]} {CENTRE[1]} {CENTRE[2]} {RADIUS}\n")
    dense = ["pick-geometry", "spheres", str(tmp_path / "v.txt"), "--tomogram", "TS_01", "--spacing", "40"]
    assert run([*dense, "--output", out["dense"]]) == 0
    picks = read_particles(out["dense"])
    assert len(picks) > 2 * len(true)
    there = true[rng.uniform(size=len(true)) > 0.08]  # an alignment misses some subunits
    gap, row = cKDTree(there).query(picks.positions_angstrom)
    found = gap < 40.0
    moved = np.where(found[:, None], there[row] + rng.normal(0, 3, (len(picks), 3)), picks.positions_angstrom)
    scores = np.where(found, rng.normal(0.6, 0.05, len(picks)), rng.normal(0.3, 0.05, len(picks)))
    turns = rotations_along(moved - CENTRE, rng)
    aligned = ParticleSet.build("TS_01", moved, rotations=turns, scores=scores)
    write_particles(out["aligned"], aligned, "relion5")
    near_two = float(np.median(near))
    assert run(["particles", "dedupe", out["aligned"], "--distance", "45", "--output", out["once"]]) == 0
    clean = ["--min-score", "0.45", "--neighbours", "3", "--neighbour-distance", "115", "--neighbour-angle", "25"]
    assert run(["particles", "select", out["once"], *clean, "--output", out["clean"]]) == 0
    kept = read_particles(out["clean"]).positions_angstrom
    assert (cKDTree(true).query(kept)[0] < 15.0).mean() > 0.99
    assert len(kept) < len(true)
    complete = ["--distance", "115", "--symmetry", "C6", "--normals-only", "--votes", "3", "--tolerance", "30"]
    assert run(["particles", "complete", out["clean"], *complete, "--output", out["whole"]]) == 0
    whole = read_particles(out["whole"]).positions_angstrom
    before, after = ((cKDTree(part).query(true)[0] < near_two / 3).mean() for part in (kept, whole))
    assert after > before + 0.03
    assert after > 0.97
    assert (cKDTree(true).query(whole)[0] < near_two / 3).mean() > 0.97  # and hardly any in wrong places
    assert run(["particles", "complete", out["clean"], "--distance", "115", "--symmetry", "I", "--normals-only",
                "--output", out["whole"], "--overwrite"]) == 2  # fmt: skip
