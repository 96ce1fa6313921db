"""`eucentric symmetry`: the point group of half maps on disk; maps and poses turned into its frame."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eucentric import __version__
from eucentric.averaging.map_centre import moved_map
from eucentric.averaging.point_group import PointGroup, detect_point_group
from eucentric.averaging.point_group_params import PointGroupParams
from eucentric.errors import InputError
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.half_maps import HalfMaps, open_half_maps
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace
from eucentric.projection.symmetrise import turned_mean

RECORD = "symmetry.json"
_LABEL = "protein bright"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SymmetryFound:
    """What was found, and written."""

    found: PointGroup
    folder: Path
    written: tuple[str, ...]
    caveats: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As `symmetry.json` holds it."""
        found = self.found
        return {
            "version": __version__,
            "group": found.group,
            "rotation": found.rotation.tolist(),
            "centre_angstrom": found.centre_angstrom.tolist(),
            "evidence": [g.as_json() for g in found.evidence],
            "evidence_needed": found.needed,
            "rivals": list(found.rivals),
            "low_pass_angstrom": found.low_pass_angstrom,
            "caveats": list(self.caveats),
        }


def find_symmetry(
    target: Path,
    output: Path | None,
    params: PointGroupParams,
    *,
    device: torch.device,
    half2: Path | None = None,
    mask: Path | None = None,
    particles: Path | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> SymmetryFound:
    """Find the point group, and write maps and particles in its frame where there is one.

    Parameters
    ----------
    target, half2, mask, voxel_size : as :func:`eucentric.pipeline.half_maps.open_half_maps`
    output : folder; `symmetry` within that of the average, or beside half map 1, where None
    particles : list whose poses refer to the maps; that of the folder where None

    Raises
    ------
    InputError : maps with symmetry imposed already, particles without orientations, files in the way
    """
    maps = open_half_maps(target, half2, device=device, mask=mask, voxel_size=voxel_size)
    if maps.symmetry.upper() != "C1":
        raise InputError(
            f"`{target}` was made with the symmetry {maps.symmetry}; nothing could speak against it any more. Average without "
            "--symmetry first."
        )
    folder = output or (maps.folder or target.parent) / "symmetry"
    if particles is None and maps.folder is not None and (maps.folder / "particles.star").is_file():
        particles = maps.folder / "particles.star"
    listed = _read_posed(particles)
    volumes = _volumes(maps)
    names = [*volumes, *(["particles.star"] if listed is not None else []), RECORD]
    read = [*maps.files, *([] if particles is None else [particles])]
    refuse_to_replace([folder / name for name in names], read, overwrite)
    found = detect_point_group(maps.half1, maps.half2, maps.voxel_size_angstrom, maps.mask, params)
    make_folder(folder)
    written = _write(folder, maps, volumes, listed, found)
    made = SymmetryFound(found=found, folder=folder, written=(*written, RECORD), caveats=_caveats(found))
    write_text_atomic(folder / RECORD, json.dumps(made.as_json(), indent=1, ensure_ascii=False) + "\n")
    return made


def _read_posed(path: Path | None) -> ParticleSet | None:
    if path is None:
        return None
    listed = read_particles(path)
    if not listed.oriented:
        raise InputError(
            f"The particles of `{path}` have no orientations that could be turned. Give those of the average."
        )
    return listed


def _volumes(maps: HalfMaps) -> dict[str, Tensor]:
    """What is turned along, by file name."""
    out = {
        "half1.mrc": maps.half1,
        "half2.mrc": maps.half2,
        "mask.mrc": maps.mask,
        "map.mrc": 0.5 * (maps.half1 + maps.half2),
    }
    if maps.folder is not None and (maps.folder / "map.mrc").is_file():
        volume, _ = read_volume(maps.folder / "map.mrc", maps.voxel_size_angstrom, maps.half1.device)
        if volume.shape == maps.half1.shape:
            out["map.mrc"] = volume
    return out


def _write(
    folder: Path, maps: HalfMaps, volumes: dict[str, Tensor], listed: ParticleSet | None, found: PointGroup
) -> list[str]:
    """Maps V(Q x + c), and particles in poses A Q at p + A c; nothing where no group was found."""
    if found.group == "C1":
        return []
    voxel = maps.voxel_size_angstrom
    for name, volume in volumes.items():
        turned = turned_mean(moved_map(volume, -found.centre_angstrom / voxel), found.rotation[None])
        if name == "mask.mrc":
            turned = turned.clamp(0.0, 1.0)
        write_mrc(folder / name, turned.cpu().numpy().astype(np.float32), voxel, labels=(_LABEL,))
    if listed is None:
        return list(volumes)
    places = listed.positions_angstrom + np.einsum("nij,j->ni", listed.rotations, found.centre_angstrom)
    posed = listed.with_positions(places).with_rotations(listed.rotations @ found.rotation)
    write_particles(folder / "particles.star", posed, "relion5")
    return [*volumes, "particles.star"]


def _caveats(found: PointGroup) -> tuple[str, ...]:
    out = []
    if found.rivals:
        out.append(
            f"The halves do not tell {', '.join(found.rivals)} apart: at {found.low_pass_angstrom:.0f} A the particle looks round. "
            "A finer average may."
        )
    best = found.evidence[0]
    if found.group == "C1" and best.evidence > found.needed:
        out.append(
            f"{best.group} fits better than nothing, but its copies agree by {best.likeness:.2f} of what the halves do: it is "
            "alike all around, not symmetric."
        )
    return tuple(out)
