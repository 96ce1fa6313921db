"""Template matching on tilt series with known truth: F1, orientations, time and memory.

Run: python benchmarks/picking_accuracy.py PROJECT DATA [--only TS_01 ...] [--tomograms denoise]; DATA is the folder of shared test
data. The project holds tomograms (`eucentric reconstruct PROJECT --method wbp --ctf-correction flip --pixel-size-angstrom 8`).
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.picking.params import MatchParams
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.particle_files import read_list, read_true_particles, score_lists
from eucentric.pipeline.pick_templates import pick_templates, read_template

KINDS = {"0": ("4v4r_30S.pdb", "C1"), "1": ("3j9i.pdb", "D7"), "2": ("1bxn.pdb", "C4")}
FEWEST_TILTS = 20


def measure(project: Path, data: Path, name: str, kinds: list[str], params: MatchParams, folder_name: str) -> None:
    files = [str(data / "structures" / KINDS[kind][0]) for kind in kinds]
    groups = [KINDS[kind][1] for kind in kinds]
    table = project / folder_name / "tilt_series.star"
    series = next(s for s in read_tilt_series_set(table, project) if s.name == name)
    assert series.tomogram is not None
    half = 0.5 * series.tomogram.voxel_size_angstrom * np.array(series.tomogram.shape_zyx[::-1])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = pick_templates(
            table,
            files,
            params,
            device=torch.device("cpu"),
            symmetries=groups,
            only=[name],
            output=Path(folder) / "picks",
        )
        seconds = time.perf_counter() - started
        picks = read_list(made.table)
    truth = read_true_particles(data / "practice" / f"{name}_truth.json", table)
    templates = {k: read_template(f, voxel_size=8.0, symmetry=g) for k, f, g in zip(kinds, files, groups, strict=True)}
    truth = truth.select(np.isin(truth.kinds, kinds))
    truth = truth.with_kinds([templates[str(k)].name for k in truth.kinds])
    symmetries = {}
    for template in templates.values():
        frame = symmetry_frame(template)
        symmetries[template.name] = frame @ symmetry_rotations(template.symmetry) @ frame.T
    print(
        f"{name}: {len(picks)} picks, {seconds:.0f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )
    for template in templates.values():
        own_truth = truth.select(truth.kinds == template.name)
        own_picks = picks.select(picks.kinds == template.name)
        inside = (np.abs(own_truth.positions_angstrom) < half).all(1)
        for words, asked in (
            ("seen whole in 20 tilts", own_truth),
            ("and inside the tomogram", own_truth.select(inside)),
        ):
            rows = score_lists(
                own_picks,
                asked,
                0.25 * template.diameter_angstrom,
                symmetries=symmetries,
                table=table,
                min_tilts=FEWEST_TILTS,
                radius_angstrom=0.5 * template.diameter_angstrom,
            )
            row = rows[0]
            print(
                f"  {template.name}, {words}: {row.truths} known, F1 {row.f1:.3f}, precision {row.precision:.3f}, recall "
                f"{row.recall:.3f}, place {row.position_rms_angstrom:.1f} A, orientation {row.median_angle_deg:.2f} degrees"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=["TS_01", "TS_02", "TS_03"])
    parser.add_argument("--kinds", nargs="*", default=["0", "1"])
    parser.add_argument("--coarse-step-deg", type=float, default=MatchParams().coarse_step_deg)
    parser.add_argument("--most-particles", type=int, default=MatchParams().most_particles)
    parser.add_argument("--tomograms", default="reconstruct", help="folder of the project that they lie in")
    given = parser.parse_args()
    for series_name in given.only:
        settings = MatchParams(most_particles=given.most_particles, coarse_step_deg=given.coarse_step_deg)
        measure(given.project, given.data, series_name, given.kinds, settings, given.tomograms)
