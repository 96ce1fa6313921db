"""How well particles of the practice data are sorted into classes.

Run: python benchmarks/averaging_classes.py PROJECT DATA kinds|states [--only TS_01 TS_02] [--method ml] [--align none]
[--wrong-deg 1] [--wrong-angstrom 1] [--moved 0.2] ...

PROJECT has `ctf/tilt_series.star` of the practice data, DATA is the folder with `practice` and `structures`. Poses are those of the
truth carried into the estimated geometry and made wrong; the medians of the errors are given.

`kinds`: 20S and 30S in one list. `states`: 300 particles of the 30S, half of them with a part of the mass turned by 30 degrees about
its hinge, are put into the images at places away from everything, with the transfer of each image and the contrast of the
true 30S: noise and background are those of the images.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from averaging_states import KINDS, known_particles, project_with_states
from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.averaging.classify_params import ClassifyParams
from eucentric.averaging.params import ExtractParams
from eucentric.compute.threads import set_threads
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.particle_projection import project_particles
from eucentric.models.particles import ParticleSet
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.classify_files import classify_list
from eucentric.pipeline.images import read_warp
from eucentric.pipeline.pick_templates import read_template
from eucentric.pipeline.store import ItemStore

_MEDIAN = 1.538  # of the length of three normal numbers of deviation one


def made_wrong(known: ParticleSet, degrees: float, angstrom: float, seed: int) -> ParticleSet:
    """Particles with errors of these medians."""
    rng = np.random.default_rng(seed)
    turn = ScipyRotation.from_rotvec(np.deg2rad(degrees / _MEDIAN) * rng.normal(size=(len(known), 3))).as_matrix()
    away = angstrom / _MEDIAN * rng.normal(size=(len(known), 3))
    return known.with_rotations(turn @ known.rotations).with_positions(known.positions_angstrom + away)


def mixed_list(project: Path, data: Path, names: list[str], params: ExtractParams) -> ParticleSet:
    """20S and 30S that are seen often enough, with true poses."""
    parts = []
    for name in names:
        known = known_particles(project, data, name)
        known = known.select(np.isin(known.kinds, list(KINDS)))
        series = read_tilt_series(project / "ctf" / "tilt_series.star", name, project)
        warp = read_warp(series, ItemStore(project, "", name))
        margin = 0.5 * params.inside * params.box_size * params.pixel_size_angstrom
        seen = project_particles(known.positions_angstrom, series, warp, margin_angstrom=margin)
        parts.append(known.select(seen.tilts_seen >= params.min_tilts))
    return ParticleSet.concatenate(parts)


def pose_errors(
    found: ParticleSet, known: ParticleSet, frames: dict[str, tuple[np.ndarray, str]]
) -> dict[str, tuple[float, float]]:
    """Median errors of angle (degrees) and place (A) of each kind, less what is common to all of them; rows alike.

    The map of a class has a frame of its own, off by a turn and a move from that of the structure.

    Parameters
    ----------
    frames : of each kind, the frame of its symmetry and the symmetry
    """
    out = {}
    for kind, (frame, symmetry) in frames.items():
        rows = known.kinds == kind
        here, true = found.rotations[rows] @ frame, known.rotations[rows] @ frame
        group = symmetry_rotations(symmetry)
        # elements of the group times true^T found: the one that turns least
        near = np.einsum("gij,nkj,nkl->ngil", group, true, here)
        best = near[np.arange(len(true)), np.einsum("ngii->ng", near).argmax(1)]
        common = ScipyRotation.from_matrix(best).mean().as_matrix()
        off = symmetric_angle_deg(here @ common.T, true, symmetry)
        moved = found.positions_angstrom[rows] - known.positions_angstrom[rows]
        own = np.einsum("nji,nj->ni", here, moved)
        away = np.linalg.norm(own - np.median(own, axis=0), axis=1)
        out[kind] = (float(np.median(off)), float(np.median(away)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=["kinds", "states"])
    parser.add_argument("--only", nargs="+", default=["TS_01", "TS_02"])
    parser.add_argument("--method", default="ml", choices=["ml", "pca", "multi-reference"])
    parser.add_argument("--align", default="none", choices=["none", "local", "global"])
    parser.add_argument("--wrong-deg", type=float, default=1.0)
    parser.add_argument("--wrong-angstrom", type=float, default=1.0)
    parser.add_argument("--moved", type=float, default=0.2, help="part of the mass that moves (states)")
    parser.add_argument("--count", type=int, default=300, help="particles put into the images (states)")
    parser.add_argument("--detail", type=float, default=24.0)
    parser.add_argument("--reach", type=float, default=None)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--box-size", type=int, default=48)
    parser.add_argument("--pixel-size", type=float, default=8.0)
    parser.add_argument("--min-tilts", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="kept; a temporary one where not given")
    options = parser.parse_args()
    set_threads(1)
    extract = ExtractParams(
        box_size=options.box_size, pixel_size_angstrom=options.pixel_size, min_tilts=options.min_tilts
    )
    params = ClassifyParams(
        method=options.method,
        align=options.align,
        low_pass_angstrom=options.detail,
        starts=options.starts,
        seed=options.seed,
    )
    if options.reach is not None:
        params = params.replace(reach_deg=options.reach)
    if options.rounds is not None:
        params = params.replace(rounds=options.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(options, extract, params, folder)


def measure(options: argparse.Namespace, extract: ExtractParams, params: ClassifyParams, folder: Path) -> None:
    """Make the list, sort it, print what came of it."""
    references: tuple[Path, ...] = ()
    if options.what == "kinds":
        table = options.project / "ctf" / "tilt_series.star"
        known = mixed_list(options.project, options.data, options.only, extract)
        truth = known.kinds
        references = tuple(options.data / "structures" / file for file, _ in KINDS.values())
    else:
        table, known, references = project_with_states(
            options.project, options.data, options.only, folder, moved=options.moved, count=options.count
        )
        truth = known.kinds
    wrong = made_wrong(known, options.wrong_deg, options.wrong_angstrom, options.seed)
    write_particles(folder / "wrong.star", wrong, "relion5")
    started, busy = time.perf_counter(), time.process_time()
    made = classify_list(
        folder / "wrong.star",
        folder / "classes",
        extract,
        params,
        device=torch.device("cpu"),
        table=table,
        references=references if params.method == "multi-reference" else (),
        overwrite=True,
    )
    seconds, spent = time.perf_counter() - started, time.process_time() - busy
    found = read_particles(folder / "classes" / "particles.star")
    if len(found) != len(known):
        raise SystemExit(f"{len(known)} particles went in and {len(found)} came out: choose --min-tilts alike.")
    print(
        f"{options.what} {params.method} align {params.align}, wrong by {options.wrong_deg:g} degrees and "
        f"{options.wrong_angstrom:g} A: "
        f"{len(found)} particles, classes {made.counts}, adjusted Rand index {adjusted_rand(made.labels, truth):.3f}, "
        f"held-out gain {made.found.best.gain:.2f}, beginnings agree {made.found.agreement:.2f}; "
        f"{seconds:.0f} s ({spent:.0f} s of processor)"
    )
    frames = {str(kind): (np.eye(3), "C1") for kind in np.unique(truth)}
    if options.what == "kinds":
        for kind, (file, symmetry) in KINDS.items():
            template = read_template(str(options.data / "structures" / file), voxel_size=4.0, symmetry=symmetry)
            frames[kind] = (symmetry_frame(template), symmetry)
    for which, one in (("given", wrong), ("found", found)):
        errors = pose_errors(one, known, frames)
        words = "; ".join(f"{kind}: {angle:.1f} degrees, {place:.1f} A" for kind, (angle, place) in errors.items())
        print(f"    poses {which}, medians: {words}")
    for caveat in made.caveats:
        print(f"    {caveat}")


if __name__ == "__main__":
    main()
