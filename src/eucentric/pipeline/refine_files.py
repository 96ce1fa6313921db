"""What `eucentric refine` leaves: series, maps and lists as they are at last, and the record of how they came to be."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eucentric import __version__
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.io.atomic import atomic_path, write_text_atomic
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.average_files import caveats_of, write_average, write_fsc
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.pipeline.refine_maps import SummedSpecies
from eucentric.pipeline.refine_species import Species
from eucentric.pipeline.refine_state import RoundState, is_shared, write_refined_series
from eucentric.pipeline.refine_work import SeriesDone
from eucentric.refinement.params import RefineParams

RECORD = "refine.json"


def write_round_curves(folder: Path, maps: Mapping[str, SummedSpecies]) -> None:
    """FSC of all species after a round."""
    for name, made in maps.items():
        write_fsc(folder / f"fsc_{name}.star", made.result.correlation)


def write_signals(output: Path, state: RoundState, done: Sequence[SeriesDone]) -> None:
    """`signal/NAME.npz`: how much of the particles each image of a series shows."""
    series = {s.name: s for s in state.series}
    for one in done:
        if one.refinement is None:
            continue
        signal, of = one.refinement.signal, series[one.name]
        with atomic_path(output / "signal" / f"{one.name}.npz") as temporary:
            np.savez_compressed(
                temporary,
                frequency=signal.frequency,
                contrast=signal.contrast,
                sigma=signal.sigma,
                tilt_deg=of.nominal_tilts_deg,
                middle_dose=of.middle_doses,
            )


def write_refined(
    output: Path,
    project: Path,
    state: RoundState,
    jobs: Mapping[str, ParticleJob],
    species: Sequence[Species],
    maps: Mapping[str, SummedSpecies],
    params: RefineParams,
    table: Path,
    caveats: Sequence[str],
) -> tuple[str, ...]:
    """Write everything, `refine.json` last; what the user should know of it is returned."""
    write_refined_series(output, state.series, state.deformations, project)
    told = list(caveats)
    summary: dict[str, Any] = {}
    first = state.history[0]["species"]
    areas = [h["areas"] for h in state.history if h["accepted"] and "areas" in h]
    for one in species:
        result, job = maps[one.name].result, jobs[one.name]
        about = write_average(output / one.name, job, result, one.average)
        told += [f"{one.name}: {c}" for c in caveats_of(about)]
        moved, turned = _changes(one.particles, job.particles, one.average.symmetry)
        summary[one.name] = {
            "folder": one.name,
            "particles": len(job),
            "resolution_before": first[one.name]["resolution_angstrom"],
            "resolution_after": about["resolution_angstrom"],
            "area_before": areas[0][one.name][0] if areas else None,
            # each round is compared with the one before in the mask of that
            "area_after": areas[0][one.name][0] * math.prod(a[one.name][1] / a[one.name][0] for a in areas)
            if areas
            else None,
            "moved_angstrom": moved,
            "turned_deg": turned,
        }
    values = {
        "version": __version__,
        "parameters": params.model_dump(mode="json"),
        "table": str(table),
        "history": list(state.history),
        "caveats": told,
        "species": summary,
        "series": _series(state),
    }
    write_text_atomic(output / RECORD, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    return tuple(told)


def _series(state: RoundState) -> dict[str, Any]:
    """Of each series, and of all together, what was tried and kept; the last round that it took part in tells of failures."""
    out: dict[str, Any] = {}
    for entry in state.history:
        for name, figures in entry.get("series", {}).items():
            taken_back = [
                {**g, "accepted": False, "reason": g["reason"] or "the round was taken back"}
                for g in figures.get("groups", [])
            ]
            out[name] = {
                "failure": figures.get("failure"),
                "images": figures.get("images", 0),
                "kept": [],
                "groups": taken_back,
            }
    names = [*out, *(name for name in state.memory if is_shared(name))]
    for name in names:
        if name not in state.memory:
            continue
        memory = state.memory[name]
        units = {t.family: t.unit for t in memory.trials}
        kept = [{**k.as_json(), "unit": units.get(k.family, "")} for k in memory.kept]
        out.setdefault(name, {}).update(kept=kept, groups=[t.as_json() for t in memory.trials])
    return out


def _changes(before: ParticleSet, after: ParticleSet, symmetry: str) -> tuple[float, float]:
    """Medians of how far particles moved in A and turned in degrees."""
    moved = np.linalg.norm(after.positions_angstrom - before.positions_angstrom, axis=1)
    turned = symmetric_angle_deg(after.rotations, before.rotations, symmetry)
    return float(np.median(moved)), float(np.median(turned))
