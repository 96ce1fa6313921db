"""What a project knows of its specimen, as a scene of the simulator: species and numbers from picks, membranes, beads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.errors import EucentricError
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.records import read_record
from eucentric.pipeline.scene_files import read_map_species, read_species
from eucentric.pipeline.segment_outputs import MEASURES, read_measures
from eucentric.segmentation.threshold import otsu_level
from eucentric.simulation.scene import Range, Scene, SceneBeads, SceneFilm, SceneMembrane, SceneSpecies
from eucentric.simulation.species import Species

_ATOMS = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz", ".mmcif.gz")
_LEAST_KDA = 20.0
_ROUND = 0.25  # rms misfit over radius up to which a membrane counts as part of a ball
_FLATTEST = 4000.0  # A; a ball of a larger radius is a sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinSpecimen:
    """A specimen like that of a tilt series."""

    scene: Scene
    species: tuple[Species, ...]
    """One for each of the scene's, in order."""
    picks: str
    """Name of the list of picks that told the species; empty where none did."""
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickFolder:
    """A list of picks of templates."""

    name: str
    """Of the folder below `pick`."""
    settings: dict[str, Any]
    """With which it was made."""
    particles: Path


def pick_folders(root: Path) -> list[PickFolder]:
    """The lists of template matching in a project, the latest first."""
    found = []
    for run in root.glob("pick/*/run.json"):
        table = run.parent / "particles.star"
        try:
            settings = json.loads(run.read_text(encoding="utf-8")).get("parameters", {})
        except (OSError, ValueError):
            continue
        if table.is_file() and settings.get("templates"):
            found.append((table.stat().st_mtime, PickFolder(name=run.parent.name, settings=settings, particles=table)))
    return [folder for _, folder in sorted(found, key=lambda pair: -pair[0])]


def specimen_of_project(
    root: Path, name: str, field_angstrom: tuple[float, float], thickness_angstrom: float | None
) -> TwinSpecimen | None:
    """The specimen of a series as far as its project knows it; None where nothing was picked by templates.

    Parameters
    ----------
    root : the project's folder
    name : of the series
    field_angstrom : x, y, of an untilted image
    thickness_angstrom : None where it is not known
    """
    told: list[str] = []
    for folder in pick_folders(root):
        entries, species = _picked(root, folder, name, field_angstrom, told)
        if any(entry.count for entry in entries):
            break
        told.append(f"`pick/{folder.name}` has no particles in the field of {name}.")
    else:
        return None
    membranes = _membranes(root, name, told)
    beads = _beads(root, name, told)
    scene = Scene(
        description=f"Like {name}",
        species=tuple(entries),
        membranes=membranes,
        beads=beads,
        film=SceneFilm() if thickness_angstrom is None else SceneFilm(thickness_angstrom=thickness_angstrom),
    )
    return TwinSpecimen(scene=scene, species=tuple(species), picks=folder.name, told=tuple(told))


def _picked(
    root: Path, folder: PickFolder, series: str, field: tuple[float, float], told: list[str]
) -> tuple[list[SceneSpecies], list[Species]]:
    """Species of a list of picks, each as dense as it was found in the field of view of one series."""
    try:
        picks = read_particles(folder.particles, format_name="relion5")
    except EucentricError:
        return [], []
    picks = picks.select(picks.tomograms == series)
    entries, species, words = [], [], []
    searched = _searched(root, series, field)
    for template in folder.settings["templates"]:
        one = _species(root, template)
        if one is None:
            told.append(f"`{template}` is no structure or map that can be read, so its particles are not simulated.")
            continue
        own = picks.select(picks.kinds == one.name)
        count = _in_field(own, field, searched, folder.settings.get("edge_angstrom") or one.radius_angstrom)
        entries.append(SceneSpecies(name=one.name, mass_kda=max(_LEAST_KDA, one.mass_kda), count=count))
        species.append(one)
        words.append(f"{count} {one.name}")
    if words:
        told.append(
            f"In the field of view {', '.join(words)}, as dense as `pick/{folder.name}` has them: false picks count, and what was "
            "missed does not."
        )
    return entries, species


def _species(root: Path, template: str) -> Species | None:
    """What a template shows; of a map the part above its Otsu level. None for balls, and files that are gone or unreadable."""
    if template.startswith("sphere:"):
        return None
    path = root / template
    try:
        if template.lower().endswith(_ATOMS):
            found = read_species(path)
        else:
            found = read_map_species(path, threshold=otsu_level(torch.from_numpy(np.array(read_mrc(path)[0])).float()))
    except (EucentricError, OSError):
        return None
    return found.renamed(Path(template).name.partition(".")[0])


def _in_field(picks: ParticleSet, field: tuple[float, float], searched: tuple[float, float], edge: float) -> int:
    """Number in the field of view at the density of all that was searched: x, y in A, less a margin where nothing is looked for."""
    inner = np.maximum(0.5 * np.array(searched) - edge, 0.25 * np.array(searched))
    inside = int((np.abs(picks.positions_angstrom[:, :2]) <= inner).all(axis=1).sum())
    return round(inside * field[0] * field[1] / float(4.0 * inner.prod()))


def _searched(root: Path, series: str, field: tuple[float, float]) -> tuple[float, float]:
    """x, y in A, of the series' tomogram, which may be wider than the field of view."""
    table = root / "reconstruct" / "tilt_series.star"
    if not table.is_file() or series not in tilt_series_names(table):
        return field
    tomogram = read_tilt_series(table, series, root).tomogram
    if tomogram is None:
        return field
    _, rows, columns = tomogram.shape_zyx
    return columns * tomogram.voxel_size_angstrom, rows * tomogram.voxel_size_angstrom


def _membranes(root: Path, series: str, told: list[str]) -> tuple[SceneMembrane, ...]:
    """Balls of the sizes that segmented membranes have."""
    table = read_measures(root / "segment" / MEASURES / f"{series}.csv")
    if not table:
        told.append("No membranes: they were not segmented (`eucentric segment`), or there are none.")
        return ()
    found, left = [], 0
    for n in range(len(table["area_angstrom2"])):
        radius, misfit = _column(table, "ball_radius_angstrom", n), _column(table, "ball_misfit_angstrom", n)
        if not (np.isfinite(radius) and 0 < radius < _FLATTEST and misfit < _ROUND * radius):
            left += 1
            continue
        limits: Range = (0.98 * radius, 1.02 * radius)
        found.append(SceneMembrane(shape="vesicle", count=1, radius_angstrom=limits))
    if found:
        sizes = ", ".join(f"{np.mean(one.radius_angstrom):.0f}" for one in found)
        told.append(f"{len(found)} vesicles of radius {sizes} A, as segmented.")
    if left:
        told.append(f"{left} segmented membranes are not round; they are left out.")
    return tuple(found)


def _column(table: dict[str, list[float]], name: str, row: int) -> float:
    return table[name][row] if name in table else float("nan")


def _beads(root: Path, series: str, told: list[str]) -> SceneBeads:
    """As many beads as the alignment followed."""
    record = read_record(root / "align", series)
    if record is None or not record.is_done:
        return SceneBeads()
    count = record.metrics.get("beads_tracked")
    if not count or not np.isfinite(count):
        return SceneBeads()
    size = record.parameters.get("bead_diameter_angstrom") or SceneBeads().diameter_angstrom
    told.append(f"{count:.0f} gold beads of {size:.0f} A, as many as the alignment followed.")
    return SceneBeads(count=round(count), diameter_angstrom=float(size))
