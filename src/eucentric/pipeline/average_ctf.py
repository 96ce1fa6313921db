"""What the particles of an average say of the CTF of each of their series, for its record and its report."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.averaging.ctf_check import CtfCheck, check_ctf, collect_evidence
from eucentric.averaging.iterate_average import filtered_half
from eucentric.averaging.results import AverageResult
from eucentric.pipeline.extract_series import ParticleJob, particle_batches
from eucentric.pipeline.map_measures import add_curves
from eucentric.typing import FloatArray

_MOST = 200
"""Particles of a series that are asked, evenly along the list: the deviation is then far below that of a fit."""
_FEWEST = 10
_COARSEST = 40.0
"""A; an average that is no finer holds no zero of the CTF at usual defocus."""


def check_series_ctf(job: ParticleJob, result: AverageResult) -> dict[str, CtfCheck]:
    """By the name of the series; those with too few particles are left out, and all where the map is too coarse."""
    finest = result.correlation.resolution_angstrom
    if not (job.params.ctf and finest < _COARSEST):
        return {}
    voxel, box = result.voxel_size_angstrom, int(result.volume.shape[0])
    job = replace(job, params=job.params.replace(box_size=box), pixel_size_angstrom=voxel)
    references = tuple(filtered_half(h, result.mask, result.correlation, finest) for h in (result.half1, result.half2))
    out = {}
    for name in job.particles.tomogram_names:
        rows = np.flatnonzero((job.particles.tomograms == name) & (result.halves > 0) & (result.tilts_used > 0))
        if len(rows) < _FEWEST:
            continue
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).round().astype(np.int64))]
        source = job.open_series(name)
        parts = [np.arange(len(rows))[some] for some in particle_batches(source, 3 * len(rows))]
        evidence = collect_evidence(
            source,
            [p for p in parts if len(p)],
            job.particles.positions_angstrom[rows],
            job.particles.rotations[rows],
            result.halves[rows],
            (references[0], references[1]),
            finest,
        )
        if evidence is not None:
            out[name] = check_ctf(evidence)
    return out


def note_ctf(folder: Path, job: ParticleJob, result: AverageResult) -> dict[str, Any]:
    """Keep the curves of all series in the folder of an average; what to put into its record."""
    checks = check_series_ctf(job, result)
    if checks:
        add_curves(folder, ctf_curves(checks))
    return {"series": told_ctf(checks), "caveats": list(ctf_caveats(checks))}


def told_ctf(checks: dict[str, CtfCheck]) -> dict[str, dict[str, Any]]:
    """Plain numbers for a record."""
    return {
        name: {
            "defocus_angstrom": one.defocus_angstrom,
            "offset_angstrom": one.offset_angstrom,
            "offset_sigma_angstrom": _finite(one.sigma_angstrom),
            "first_zero_fitted_angstrom": _finite(one.first_zero_fitted_angstrom),
            "first_zero_angstrom": _finite(one.first_zero_angstrom),
            "height_factor": one.height_factor,
            "height_factor_sigma": _finite(one.height_sigma),
            "particles": one.particles,
            "images": one.images,
        }
        for name, one in checks.items()
    }


def ctf_curves(checks: dict[str, CtfCheck]) -> dict[str, FloatArray]:
    """Arrays for `curves.npz`, series one below another in the order of the record."""
    if not checks:
        return {}
    every = list(checks.values())
    return {
        "ctf_chi": every[0].chi_over_pi,
        "ctf_transfer": np.stack([c.transfer for c in every]),
        "ctf_transfer_sigma": np.stack([c.transfer_sigma for c in every]),
    }


def ctf_caveats(checks: dict[str, CtfCheck]) -> tuple[str, ...]:
    """Warnings in words."""
    out = []
    for name, one in checks.items():
        if one.other_hand:
            out.append(
                f"{name}: defocus changes with the height of particles the other way about ({one.height_factor:+.1f} "
                f"+- {one.height_sigma:.1f} of what rlnTomoHand says). Turn the hand over (`eucentric ctf` finds it) and "
                "average again."
            )
        elif one.disagrees:
            out.append(
                f"{name}: its particles say a defocus of {one.defocus_angstrom + one.offset_angstrom:.0f} A "
                f"(+- {one.sigma_angstrom:.0f}), and the fit {one.defocus_angstrom:.0f} A; the first zero lies at "
                f"{one.first_zero_angstrom:.1f} A, not {one.first_zero_fitted_angstrom:.1f} A. That costs "
                f"{100.0 * one.loss:.0f}% of the finest detail. Look at the CTF fit of this series, or leave it out."
            )
    return tuple(out)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
