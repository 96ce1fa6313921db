"""Whether the share of false picks that template matching claims is true: ten crowded series of the simulator.

Run: python benchmarks/picking_calibration.py DATA [NUMBER ...] [--coarse-step-deg 10] [--cache FOLDER]; DATA is the folder of
shared test data, whose structures lie among molecules that the program makes itself. Some series give templates of all kinds,
some of a few, so that the others are strangers. Tomograms are made with the true geometry: what is judged is the search.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import gemmi
import numpy as np
import torch
from scipy.spatial import cKDTree

from eucentric.compute.sizes import good_size
from eucentric.io.atoms import read_atoms
from eucentric.models import CtfFit, Optics
from eucentric.picking.match_templates import MatchResult, match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.templates import Template, template_from_atoms
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.reconstruction.correct_ctf import correct_ctf
from eucentric.reconstruction.invert_ctf import normalise_intensity
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.simulation.image_formation import SimulatedSeries
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species, procedural_macromolecule, species_from_atoms

PIXEL, SIDE, EDGE = 10.0, 300, 80.0  # A, pixels, A beside which it is not looked
SYMMETRY = {"3j9i": "D7", "1bxn": "C4"}
RATES = (0.01, 0.05, 0.1)
MARGIN = 50.0  # A above and below the film


class Case(NamedTuple):
    """Contents with their numbers in the field of view, and for which of them there are templates.

    `700/4` is the fourth built-in macromolecule of 700 kDa.
    """

    contents: dict[str, int]
    targets: tuple[str, ...]
    dose: float
    thickness: float = 1200.0
    vesicles: int = 1
    beads: int = 3


CASES = (
    Case({"3j9i": 110, "1bxn": 120, "400/1": 90, "1500/2": 40}, ("3j9i", "1bxn"), 2.0),
    Case({"1bxn": 130, "3j9i": 100, "3cf3": 80, "900/3": 60}, ("1bxn", "3j9i"), 1.0),
    Case({"3j9i": 110, "700/4": 110, "1bxn": 100, "2000/5": 30}, ("3j9i", "700/4"), 1.5, 1400.0),
    Case({"1bxn": 120, "1000/6": 100, "3j9i": 80, "500/7": 80}, ("1bxn", "1000/6"), 1.0, 1000.0),
    Case({"3j9i": 220, "4v4r_30S": 50, "1bxn": 120, "300/8": 80}, ("3j9i",), 1.5, 1500.0, 0, 8),
    Case({"1bxn": 230, "5gjv": 100, "600/9": 100}, ("1bxn",), 0.8),
    Case({"3j9i": 110, "1bxn": 110, "3cf3": 100}, ("3j9i", "1bxn", "3cf3"), 1.2),
    Case({"1bxn": 150, "3j9i": 90, "1200/10": 60, "250/11": 120}, ("1bxn", "3j9i"), 0.7, 1400.0, 2, 3),
    Case({"3j9i": 240, "800/12": 120, "450/13": 120}, ("3j9i",), 0.7, 1300.0, 2, 0),
    Case({"1bxn": 240, "3j9i": 100, "5gjv": 90, "1800/14": 30}, ("1bxn",), 1.0, 1500.0, 0, 6),
)


def species_of(name: str, data: Path) -> Species:
    if "/" in name:
        mass, _, variant = name.partition("/")
        return procedural_macromolecule(float(mass), variant=int(variant))
    atoms = read_atoms(data / "structures" / f"{name}.pdb")
    return species_from_atoms(atoms.positions, _elements(atoms), name=name)


def template_of(name: str, data: Path) -> Template:
    if "/" not in name:
        atoms = read_atoms(data / "structures" / f"{name}.pdb")
        symmetry = SYMMETRY.get(name, "C1")
        return template_from_atoms(atoms.positions, _elements(atoms), name=name, voxel_size=PIXEL, symmetry=symmetry)
    species = species_of(name, data)
    diameter = 2.0 * (species.radius_angstrom + 2.0)
    side = good_size(math.ceil(1.6 * diameter / PIXEL))
    side += side % 2
    return Template(
        name=name, density=species.volume((side,) * 3, PIXEL), voxel_size_angstrom=PIXEL, diameter_angstrom=diameter
    )


def _elements(atoms: Any) -> list[str]:
    return [gemmi.Element(int(z)).name for z in atoms.atomic_numbers]


def tomogram(number: int, data: Path) -> dict[str, Any]:
    """A series recorded and reconstructed."""
    case = CASES[number]
    params = SimulationParams(
        seed=5000 + number,
        thickness_angstrom=case.thickness,
        particles_per_species=tuple(case.contents.values()),
        vesicles=case.vesicles,
        beads=case.beads,
        dose_per_tilt=case.dose,
        defocus_angstrom=(35000.0, 28000.0, 45000.0)[number % 3],
        hand=1 if number % 4 == 1 else -1,
        pixel_size_angstrom=PIXEL,
        image_size_px=(SIDE, SIDE),
        frames=1,
        drift_angstrom=0.0,
        doming_angstrom=0.0,
        stage_jitter_angstrom=30.0,
        deformation_angstrom=4.0,
        gain_variation=0.0,
        hot_pixels=0,
        dead_pixels=0,
        data_type="uint16",
    )
    series = SimulatedSeries.build(params, [species_of(name, data) for name in case.contents])
    made = series.acquisition
    images = torch.stack(
        [torch.from_numpy(series.movie(t).astype(np.float32).sum(0)) for t in range(len(made.geometry))]
    )
    fits = [
        CtfFit(
            defocus_u_angstrom=float(u),
            defocus_v_angstrom=float(v),
            astigmatism_angle_deg=params.astigmatism_angle_deg,
        )
        for u, v in zip(made.defocus_u_angstrom, made.defocus_v_angstrom, strict=True)
    ]
    optics = Optics(
        voltage_kv=params.voltage_kv,
        spherical_aberration_mm=params.spherical_aberration_mm,
        amplitude_contrast=params.amplitude_contrast,
    )
    flipped = correct_ctf(
        normalise_intensity(images)[0],
        made.geometry,
        pixel_size=PIXEL,
        fits=fits,
        optics=optics,
        hand=float(params.hand),
        mode="flip",
    )
    doses, before = np.full(len(fits), case.dose), made.order * case.dose
    planes = 2 * math.ceil(0.5 * (case.thickness + 300.0) / PIXEL)
    volume = reconstruct_volume(
        flipped,
        made.geometry,
        pixel_size=PIXEL,
        volume_shape=(planes, SIDE, SIDE),
        voxel_size=PIXEL,
        params=ReconstructParams(method="wbp"),
        pre_exposures=before,
        doses=doses,
    )
    transfer = TomogramTransfer.of_series(
        made.geometry,
        doses=doses,
        pre_exposures=before,
        fits=fits,
        optics=optics,
        hand=float(params.hand),
        correction="flip",
        dose_weighting=True,
    )
    specimen = series.specimen
    kinds = np.array(list(case.contents))[specimen.kinds]
    return {"volume": volume, "transfer": transfer, "positions": specimen.positions_angstrom, "kinds": kinds}


def true_picks(result: MatchResult, number: int, positions: np.ndarray, diameter: float) -> np.ndarray:
    """(pick,) which of the picks of a template are particles of its kind: the best one within half the radius of each."""
    mine = np.flatnonzero(result.templates == number)
    distance, nearest = cKDTree(positions).query(result.positions_angstrom[mine])
    out, taken = np.zeros(len(mine), dtype=bool), set()
    for row in np.argsort(-result.scores[mine], kind="stable"):
        if distance[row] < 0.25 * diameter and nearest[row] not in taken:
            out[row] = True
            taken.add(nearest[row])
    return out


def measure(number: int, data: Path, params: MatchParams, cache: Path | None) -> np.ndarray:
    """(rate, 2): picks that claim at most each rate, and the false ones among them."""
    case = CASES[number]
    file = None if cache is None else cache / f"picking_{number}.pt"
    if file is not None and file.is_file():
        made = torch.load(file, weights_only=False)
    else:
        made = tomogram(number, data)
        if file is not None:
            torch.save(made, file)
    volume = made["volume"]
    z, y, x = ((torch.arange(n) - n // 2) * PIXEL for n in volume.shape)
    reach = np.array([0.5 * SIDE * PIXEL - EDGE] * 2 + [0.5 * case.thickness + MARGIN])
    look = (z.abs() <= reach[2])[:, None, None] & (y.abs() <= reach[1])[:, None] & (x.abs() <= reach[0])
    templates = [template_of(name, data) for name in case.targets]
    started = time.process_time()
    result = match_templates(volume, PIXEL, templates, made["transfer"], params, region=look, seed=number)
    seconds = time.process_time() - started
    print(f"series {number}, {case.dose:g} e/A^2 an image, {seconds:.0f} s of processor time")
    total = np.zeros((len(RATES), 2), dtype=int)
    for n, (name, template) in enumerate(zip(case.targets, templates, strict=True)):
        places = made["positions"][made["kinds"] == name]
        inside = int((np.abs(places) <= reach).all(1).sum())
        true = true_picks(result, n, places, template.diameter_angstrom)
        mine = result.templates == n
        kept, values = result.kept[mine], result.q_values[mine]
        counts = np.array([[(values <= r).sum(), (~true & (values <= r)).sum()] for r in RATES])
        total += counts
        shares = ", ".join(f"{100 * r:g}%: {b} of {a}" for r, (a, b) in zip(RATES, counts, strict=True))
        print(
            f"  {name}: {inside} known; kept {kept.sum()}, precision {true[kept].mean() if kept.any() else math.nan:.3f}, "
            f"recall {(true & kept).sum() / inside:.3f}; false at {shares}",
            flush=True,
        )
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("numbers", type=int, nargs="*", default=list(range(len(CASES))))
    parser.add_argument("--coarse-step-deg", type=float, default=MatchParams().coarse_step_deg)
    parser.add_argument("--most-particles", type=int, default=MatchParams().most_particles)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    settings = MatchParams(coarse_step_deg=given.coarse_step_deg, most_particles=given.most_particles)
    every = np.zeros((len(RATES), 2), dtype=int)
    for one in given.numbers:
        every += measure(one, given.data, settings, given.cache)
    for rate, (picks, false) in zip(RATES, every, strict=True):
        print(f"claimed {100 * rate:g}%: {picks} picks, {100 * false / max(1, picks):.1f}% false")
