"""Template matching on disk: templates and tomograms in, `pick/<name>/particles.star` out."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import torch
from torch import Tensor

from eucentric import __version__
from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.atomic import write_text_atomic
from eucentric.io.atoms import read_atoms
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.optics.box_transfer import Correction
from eucentric.picking.match_templates import MatchResult, match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.templates import Template, sphere_template, template_from_atoms, template_from_map
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.pipeline.reprojecting import project_of, read_volume, refuse_to_replace

Q_VALUE = "eucQValue"
_ATOMS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")
_MAPS = (".mrc", ".map", ".rec", ".ccp4", ".mrc.gz", ".map.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class PicksMade:
    """What was written."""

    table: Path
    counts: dict[str, int]
    """Picks of each tomogram."""
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One tomogram to be searched."""

    name: str
    path: Path
    series: TiltSeries | None
    correction: Correction = "none"
    dose_weighting: bool = False


def read_template(
    path: str,
    *,
    voxel_size: float,
    symmetry: str = "C1",
    pixel_size: float | None = None,
    resolution_angstrom: float = 0.0,
) -> Template:
    """A template from an atomic model, a map, or `sphere:DIAMETER` in A.

    Parameters
    ----------
    voxel_size : of the tomogram, A
    pixel_size : of a map whose header holds none or a wrong one

    Raises
    ------
    InputError, FormatError : unreadable, of a wrong contrast or size
    """
    if path.startswith("sphere:"):
        try:
            diameter = float(path.partition(":")[2])
        except ValueError as error:
            raise InputError(
                f"`{path}` is no sphere; expected sphere: and a diameter in A, such as sphere:120."
            ) from error
        return sphere_template(diameter, voxel_size=voxel_size)
    place, lower = Path(path), path.lower()
    if lower.endswith(_ATOMS):
        atoms = read_atoms(place)
        return template_from_atoms(
            atoms.positions,
            [gemmi.Element(int(z)).name for z in atoms.atomic_numbers],
            name=place.name.partition(".")[0],
            voxel_size=voxel_size,
            resolution_angstrom=resolution_angstrom,
            symmetry=symmetry,
        )
    if lower.endswith(_MAPS):
        volume, own = read_volume(place, pixel_size, torch.device("cpu"))
        return template_from_map(
            volume,
            name=place.name.partition(".")[0],
            volume_voxel_size=own,
            voxel_size=voxel_size,
            resolution_angstrom=resolution_angstrom,
            symmetry=symmetry,
        )
    raise FormatError(
        f"`{path}` is no template that is known; expected a PDB or mmCIF file, an MRC map or sphere:DIAMETER."
    )


def pick_templates(
    target: Path,
    template_files: Sequence[str],
    params: MatchParams,
    *,
    device: torch.device,
    name: str | None = None,
    symmetries: Sequence[str] = (),
    template_pixel_size: float | None = None,
    resolution_angstrom: float = 0.0,
    tilts: tuple[float, float] | None = None,
    pixel_size: float | None = None,
    only: Sequence[str] | None = None,
    mask: Path | None = None,
    output: Path | None = None,
    score_volumes: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    on_step: Callable[[str, float], None] | None = None,
) -> PicksMade:
    """Look for templates in all tomograms of a project, or in one file, and write what was found.

    Parameters
    ----------
    target : project, table of tilt series with tomograms, or one tomogram
    name : of the folder below `pick`; that of the first template where None
    symmetries : one for each template, or one for all
    tilts : degrees, the lowest and the highest, of a tomogram without its series
    mask : volume of the tomogram's shape, above 0 where particles may lie
    on_step : told the tomogram and the part of it that is done

    Raises
    ------
    InputError : wrong input, or results that would be replaced unasked
    """
    if not template_files:
        raise InputError("No template was given. Give one with --template, such as --template 4v4r.pdb.")
    jobs, root = _jobs(target, only)
    caveats: list[str] = []
    folder = output or root / "pick" / (name or Path(template_files[0]).name.partition(".")[0].replace(":", "_"))
    table, record = folder / "particles.star", folder / "run.json"
    refuse_to_replace([table], [job.path for job in jobs], overwrite)
    found: list[ParticleSet] = []
    counts: dict[str, int] = {}
    details: dict[str, Any] = {}
    for job in jobs:
        started = time.monotonic()
        volume, voxel = read_volume(job.path, pixel_size, device)
        transfer = _transfer(job, tilts, caveats)
        templates = [
            read_template(
                path,
                voxel_size=voxel,
                symmetry=_symmetry(symmetries, number, len(template_files)),
                pixel_size=template_pixel_size,
                resolution_angstrom=resolution_angstrom,
            )
            for number, path in enumerate(template_files)
        ]
        result = match_templates(
            volume,
            voxel,
            templates,
            transfer,
            params,
            region=_region(volume, voxel, job.series, templates, params, mask),
            seed=seed,
            on_step=None if on_step is None else _named(on_step, job.name),
        )
        particles = _particles(job.name, result, templates)
        found.append(particles)
        counts[job.name] = len(particles)
        seconds = time.monotonic() - started
        details[job.name] = {
            "picks": len(particles),
            "candidates": len(result.scores),
            "decoys": len(result.decoy_scores),
            "cutoff": result.cutoff,
            "seconds": seconds,
            "rotations_times_voxels_per_second": result.rotation_voxels / max(seconds, 1e-9),
            "coarse_voxel_angstrom": result.score_voxel_angstrom,
        }
        if not len(particles):
            caveats.append(f"Nothing was found in {job.name}: no candidate passes the cut-offs.")
        if score_volumes:
            for template, scores in zip(templates, result.score_volumes, strict=True):
                scored = torch.nan_to_num(scores).cpu().numpy()
                file = folder / "scores" / f"{job.name}_{template.name.replace(':', '_')}.mrc"
                write_mrc(file, scored, result.score_voxel_angstrom, "float32", labels=("Eucentric scores, sd",))
    write_particles(table, ParticleSet.concatenate(found), "relion5")
    values = {
        "version": __version__,
        "templates": list(template_files),
        "symmetries": list(symmetries),
        "parameters": params.model_dump(),
        "seed": seed,
        "tomograms": details,
        "caveats": caveats,
    }
    write_text_atomic(record, json.dumps(values, indent=1) + "\n")
    return PicksMade(table=table, counts=counts, caveats=tuple(caveats))


def _named(on_step: Callable[[str, float], None], name: str) -> Callable[[float], None]:
    return lambda part: on_step(name, part)


def _symmetry(given: Sequence[str], number: int, count: int) -> str:
    if not given:
        return "C1"
    if len(given) not in (1, count):
        raise InputError(
            f"{len(given)} symmetries were given for {count} templates; expected one for all or one for each."
        )
    return given[number % len(given)]


def _jobs(target: Path, only: Sequence[str] | None) -> tuple[list[_Job], Path]:
    if target.suffix.lower() in (".mrc", ".rec"):
        if not target.is_file():
            raise InputError(f"`{target}` does not exist. Give a project or a tomogram.")
        return [_Job(name=target.stem, path=target, series=None)], target.parent
    table = target if target.suffix.lower() == ".star" else target / "reconstruct" / "tilt_series.star"
    if not table.is_file():
        raise InputError(f"`{table}` does not exist. Run `eucentric reconstruct {target}` first, or give a tomogram.")
    root = project_of(table)
    jobs = []
    for series in read_tilt_series_set(table, root):
        if series.tomogram is None or (only and series.name not in only):
            continue
        correction, weighted = _how_made(table.parent, series)
        path = root / series.tomogram.path
        jobs.append(_Job(name=series.name, path=path, series=series, correction=correction, dose_weighting=weighted))
    if not jobs:
        raise InputError(
            f"`{table}` has no tomogram{' of these names' if only else ''}. Run `eucentric reconstruct` first."
        )
    return jobs, root


def _how_made(folder: Path, series: TiltSeries) -> tuple[Correction, bool]:
    """What the reconstruction did about the CTF, and whether it faded what radiation destroyed."""
    record = folder / "records" / f"{series.name}.json"
    try:
        made = json.loads(record.read_text(encoding="utf-8"))["parameters"]
    except (OSError, ValueError, KeyError):
        return "none", False
    weighted = bool(made.get("dose_weighting", True))
    method, corrected, purpose = made.get("method"), made.get("ctf_correction"), made.get("purpose")
    if method == "auto" and purpose in (None, "view", "picking") and series.has_ctf and series.has_halves:
        method = "ctf"
    if method == "ctf":
        return "wiener", weighted
    if corrected == "auto":
        corrected = "flip" if purpose in ("averaging", "segmentation") and series.has_ctf else "none"
    return ("wiener" if corrected == "wiener" else "flip" if corrected in ("flip", "multiply") else "none"), weighted


def _transfer(job: _Job, tilts: tuple[float, float] | None, caveats: list[str]) -> TomogramTransfer:
    series = job.series
    if series is None:
        if tilts is None:
            raise InputError(
                f"Nothing is known of the tilts of {job.name}. Give a project, or the lowest and highest tilt: --tilts -60 60."
            )
        caveats.append(
            f"The tilts of {job.name} were given by hand ({tilts[0]:g} to {tilts[1]:g} degrees about y): templates are "
            "weighted by this wedge alone, without CTF and dose."
        )
        return TomogramTransfer.of_wedge(*tilts)
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if not series.has_ctf:
        caveats.append(f"No CTF is known of {job.name}: templates are weighted by tilts and dose alone.")
    return TomogramTransfer.of_series(
        TiltGeometry.from_poses(series.poses),
        doses=series.doses,
        pre_exposures=series.pre_exposures,
        fits=fits if series.has_ctf else None,
        optics=series.optics if series.has_ctf else None,
        hand=series.hand,
        correction=job.correction,
        dose_weighting=job.dose_weighting,
    )


def _region(
    volume: Tensor,
    voxel: float,
    series: TiltSeries | None,
    templates: Sequence[Template],
    params: MatchParams,
    mask: Path | None,
) -> Tensor:
    """Where centres may lie: inside the specimen where it is known, away from the edges, inside the mask."""
    shape = tuple(volume.shape)
    z, y, x = ((torch.arange(n, device=volume.device) - n // 2) * voxel for n in shape)
    edge = 0.5 * min(t.diameter_angstrom for t in templates) if params.edge_angstrom is None else params.edge_angstrom
    inside = (y.abs() <= 0.5 * shape[1] * voxel - edge)[:, None] & (x.abs() <= 0.5 * shape[2] * voxel - edge)
    look = inside.expand(shape).clone()
    specimen = None if series is None else series.specimen
    if specimen is not None and np.isfinite(specimen.thickness_angstrom):
        sigma = specimen.thickness_sigma_angstrom
        half = (
            0.5 * specimen.thickness_angstrom + (sigma if np.isfinite(sigma) else 0.0) + params.specimen_margin_angstrom
        )
        slope_x, slope_y = np.tan(np.deg2rad(specimen.y_tilt_deg)), -np.tan(np.deg2rad(specimen.x_tilt_deg))
        middle = specimen.z_angstrom + slope_x * x + (slope_y * y)[:, None]
        look &= (z[:, None, None] - middle).abs() <= half
    if mask is not None:
        given = np.array(read_mrc(mask)[0])
        if given.shape != shape:
            raise InputError(f"The mask `{mask}` has shape {given.shape} and the tomogram {shape}; expected the same.")
        if not (given > 0).any():
            raise InputError(f"The mask `{mask}` is empty: no voxel is above 0. Check its threshold.")
        look &= torch.from_numpy(given > 0).to(look.device)
    return look


def _particles(name: str, result: MatchResult, templates: Sequence[Template]) -> ParticleSet:
    kept = result.kept
    names = np.array([t.name for t in templates])
    columns = {Q_VALUE: result.q_values[kept]} if np.isfinite(result.q_values[kept]).any() else {}
    return ParticleSet.build(
        np.full(int(kept.sum()), name),
        result.positions_angstrom[kept],
        rotations=result.rotations[kept],
        scores=result.scores[kept],
        kinds=names[result.templates[kept]],
        columns=columns,
    )


def describe(made: PicksMade) -> dict[str, Any]:
    """For machines."""
    return {**dataclasses.asdict(made), "table": str(made.table)}
