"""Template matching on disk: templates and tomograms in, `pick/<name>/particles.star` out."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import torch

from eucentric import __version__
from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.atoms import read_atoms
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.particles import ParticleSet
from eucentric.picking.match_templates import MatchResult
from eucentric.picking.params import MatchParams
from eucentric.picking.search_masks import with_given_mask
from eucentric.picking.templates import Template, sphere_template, template_from_atoms, template_from_map
from eucentric.pipeline.reprojecting import project_of, read_volume, refuse_to_replace
from eucentric.pipeline.search_tomogram import Searched, TomogramJob, search_tomogram

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


def read_template(
    path: str,
    *,
    voxel_size: float,
    symmetry: str = "C1",
    pixel_size: float | None = None,
    resolution_angstrom: float = 0.0,
    mask: str | None = None,
) -> Template:
    """A template from an atomic model, a map, or `sphere:DIAMETER` in A.

    Parameters
    ----------
    voxel_size : of the tomogram, A
    pixel_size : of a map, and of its mask, whose header holds none or a wrong one
    mask : file of a volume, 0 to 1, about the template's origin: the middle of a map's box, which is then not moved, or the
        mean of a model's atoms

    Raises
    ------
    InputError, FormatError : unreadable, of a wrong contrast or size, or a mask that is not where the template is
    """
    template = _read_template(path, voxel_size, symmetry, pixel_size, resolution_angstrom, recentre=mask is None)
    if mask is None:
        return template
    volume, own = read_volume(Path(mask), pixel_size, torch.device("cpu"))
    return with_given_mask(template, volume, own)


def _read_template(
    path: str, voxel_size: float, symmetry: str, pixel_size: float | None, resolution_angstrom: float, *, recentre: bool
) -> Template:
    if path.startswith("sphere:"):
        try:
            diameter = float(path.partition(":")[2])
        except ValueError as error:
            raise InputError(
                f"`{path}` is no sphere; expected sphere: and a diameter in A, such as sphere:120."
            ) from error
        return sphere_template(diameter, voxel_size=voxel_size, name=f"sphere_{diameter:g}")
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
            recentre=recentre,
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
    template_masks: Sequence[str] = (),
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
    template_masks : one for each template, as for `read_template`; or none
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
        searched = search_tomogram(
            job,
            partial(
                read_templates,
                template_files,
                symmetries=symmetries,
                pixel_size=template_pixel_size,
                masks=template_masks,
                resolution_angstrom=resolution_angstrom,
            ),
            params,
            device=device,
            tilts=tilts,
            pixel_size=pixel_size,
            mask=mask,
            seed=seed,
            on_step=None if on_step is None else _named(on_step, job.name),
        )
        result, templates = searched.result, searched.templates
        caveats += searched.caveats
        particles = picked_particles(job.name, result, templates)
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
            "coarse_voxel_angstrom": result.score_voxel_angstrom.tolist(),
        }
        if not len(particles):
            caveats.append(f"Nothing was found in {job.name}: no candidate passes the cut-offs.")
        if score_volumes:
            write_score_volumes(folder / "scores", job.name, searched)
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


def read_templates(
    paths: Sequence[str],
    *,
    voxel_size: float,
    symmetries: Sequence[str] = (),
    pixel_size: float | None = None,
    resolution_angstrom: float = 0.0,
    masks: Sequence[str] = (),
) -> list[Template]:
    """Templates as `read_template` reads them.

    Parameters
    ----------
    symmetries : one for each, or one for all; C1 where none is given
    masks : files of masks of the templates, one for each; or none

    Raises
    ------
    InputError : symmetries or masks that are not one for each, two templates of one name
    """
    if len(masks) not in (0, len(paths)):
        raise InputError(
            f"{len(masks)} template masks were given for {len(paths)} templates; expected one for each, or none at all."
        )
    if len(symmetries) not in (0, 1, len(paths)):
        raise InputError(
            f"{len(symmetries)} symmetries were given for {len(paths)} templates; expected one for all or one for each."
        )
    templates = [
        read_template(
            path,
            voxel_size=voxel_size,
            symmetry=symmetries[number % len(symmetries)] if symmetries else "C1",
            pixel_size=pixel_size,
            resolution_angstrom=resolution_angstrom,
            mask=masks[number] if masks else None,
        )
        for number, path in enumerate(paths)
    ]
    names = [template.name for template in templates]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(
                f"Two templates are called {name}, so that their picks could not be told apart. Rename the file of one."
            )
    return templates


def write_score_volumes(folder: Path, name: str, searched: Searched) -> None:
    """Write the greatest score of each template at each voxel, as TOMOGRAM_TEMPLATE.mrc."""
    result = searched.result
    every = zip(searched.templates, result.score_volumes, result.score_voxel_angstrom, strict=True)
    for template, scores, voxel in every:
        scored = torch.nan_to_num(scores).cpu().numpy()
        file = folder / f"{name}_{template.name.replace(':', '_')}.mrc"
        write_mrc(file, scored, float(voxel), "float32", labels=("Eucentric scores, sd",))


def _jobs(target: Path, only: Sequence[str] | None) -> tuple[list[TomogramJob], Path]:
    if target.suffix.lower() in (".mrc", ".rec"):
        if not target.is_file():
            raise InputError(f"`{target}` does not exist. Give a project or a tomogram.")
        return [TomogramJob(name=target.stem, path=target, series=None)], target.parent
    table = target if target.suffix.lower() == ".star" else target / "reconstruct" / "tilt_series.star"
    if not table.is_file():
        raise InputError(f"`{table}` does not exist. Run `eucentric reconstruct {target}` first, or give a tomogram.")
    root = project_of(table)
    jobs = []
    for series in read_tilt_series_set(table, root):
        if series.tomogram is None or (only and series.name not in only):
            continue
        jobs.append(TomogramJob.of_series(series, root, table.parent))
    if not jobs:
        raise InputError(
            f"`{table}` has no tomogram{' of these names' if only else ''}. Run `eucentric reconstruct` first."
        )
    return jobs, root


def picked_particles(name: str, result: MatchResult, templates: Sequence[Template]) -> ParticleSet:
    """What passed the cut-offs in a tomogram of that name."""
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
