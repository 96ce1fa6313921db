"""`eucentric map-back`: volumes of tomograms with averages at the poses of their particles, and scenes that show them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.iterate_average import on_voxels
from eucentric.averaging.place_maps import place_copies
from eucentric.errors import InputError
from eucentric.figures.averaging import surface_level
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import read_mrc_header, write_mrc
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.blob_files import find_tomograms
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace

Form = Literal["density", "labels"]
_MOST_SURFACES = 500
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")  # Okabe and Ito


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedBack:
    """What was written for one tomogram."""

    tomogram: str
    volume: Path
    scene: Path
    particles: int
    outside: int
    """Particles whose centre lies outside of the tomogram."""
    level: float


def map_back_files(
    target: Path,
    output: Path,
    *,
    device: torch.device,
    density: Path | None = None,
    mask: Path | None = None,
    tomograms: Path | None = None,
    size_xyz: tuple[int, int, int] | None = None,
    voxel_size: float | None = None,
    form: Form = "density",
    level: float | None = None,
    kinds: tuple[str, ...] = (),
    surfaces: bool = False,
    overwrite: bool = False,
) -> list[MappedBack]:
    """Put a map back at every particle of a list.

    Parameters
    ----------
    target : folder of an average (its map, mask and particles), or a list of particles
    density : map, protein bright; that of the folder where None
    mask : 0 to 1, outside of which nothing is put back; that of the folder where None and the map is the folder's
    tomograms : project, table or volume that tells the size; the project that the target lies in where None
    size_xyz, voxel_size : of volumes without tomogram
    level : of the surface, in the map's values; between what the map's mask holds and its surroundings where None
    kinds : classes to be put back; all where empty
    surfaces : the scene opens the map once for each particle

    Raises
    ------
    InputError : files missing, particles without orientations, or in no tomogram that is known
    """
    folder = target if target.is_dir() else None
    listed = target if folder is None else folder / "particles.star"
    source = density or (None if folder is None else folder / "map.mrc")
    if source is None:
        raise InputError(f"`{target}` is a list of particles. Say which map belongs at their places: --map FILE.")
    if mask is None and folder is not None and density is None and (folder / "mask.mrc").is_file():
        mask = folder / "mask.mrc"
    particles = read_list(listed)
    if kinds:
        particles = particles.select(np.isin(particles.kinds, list(kinds)))
    if not len(particles):
        raise InputError(
            f"`{listed}` holds no particle{' of kind ' + ', '.join(kinds) if kinds else ''} to be put back."
        )
    if not particles.oriented:
        raise InputError(
            f"The particles of `{listed}` have no orientations: a map cannot be turned to where it belongs."
        )
    volume, voxel = _masked(source, mask, device)
    top = surface_level(volume.cpu().numpy().astype(np.float64)) if level is None else level
    known = {name: p for name in particles.tomogram_names if len(p := particles.in_tomogram(name))}
    frames = _frames(target, tomograms, size_xyz, voxel_size, tuple(known))
    outputs = [output / f"{name}{ending}" for name in frames for ending in (".mrc", ".cxc")]
    refuse_to_replace(outputs, [source, listed], overwrite)
    make_folder(output)
    out = []
    for name, (frame, path) in frames.items():
        part = known[name]
        size = max(16, 2 * int(np.ceil(0.5 * volume.shape[0] * voxel / frame.voxel_size_angstrom)))
        resampled = on_voxels(volume, voxel, frame.voxel_size_angstrom, size)
        placed = place_copies(
            resampled,
            frame,
            part.positions_angstrom,
            part.rotations,
            level=top if form == "labels" else None,
        )
        made = output / f"{name}.mrc"
        told = (
            "protein bright"
            if form == "density"
            else "labels: the particle's number in the list of this tomogram, from 1"
        )
        write_mrc(made, placed, frame.voxel_size_angstrom, "float32" if form == "density" else "int16", labels=(told,))
        scene = made.with_suffix(".cxc")
        shown = 0.5 if form == "labels" else top
        text = _scene(made, path, shown, part, frame, (source, voxel, volume.shape[0], top) if surfaces else None)
        write_text_atomic(scene, text)
        index = frame.to_index(part.positions_angstrom)
        outside = int((~((index >= 0) & (index <= np.array(frame.size_xyz) - 1)).all(axis=1)).sum())
        out.append(MappedBack(tomogram=name, volume=made, scene=scene, particles=len(part), outside=outside, level=top))
    return out


def _masked(source: Path, mask: Path | None, device: torch.device) -> tuple[Tensor, float]:
    volume, voxel = read_volume(source, None, device)
    if len(set(volume.shape)) != 1:
        size = " x ".join(map(str, volume.shape))
        raise InputError(f"The map `{source}` has {size} voxels; expected a cube with the particle in its middle.")
    if not bool(torch.isfinite(volume).all()) or float(volume.std()) == 0.0:
        raise InputError(f"The map `{source}` is empty, or holds values that are no numbers.")
    if mask is None:
        return volume, voxel
    held, _ = read_volume(mask, voxel, device)
    if held.shape != volume.shape:
        raise InputError(f"The mask `{mask}` has another size than the map `{source}`. Give one of the same size.")
    return volume * held, voxel


def _frames(
    target: Path,
    tomograms: Path | None,
    size_xyz: tuple[int, int, int] | None,
    voxel_size: float | None,
    names: tuple[str, ...],
) -> dict[str, tuple[TomogramFrame, Path | None]]:
    """The grid of each tomogram with particles, and where the tomogram is."""
    if size_xyz is not None:
        if voxel_size is None:
            raise InputError("A size was given without --voxel-size, which says how large its voxels are.")
        return {name: (TomogramFrame(voxel_size_angstrom=voxel_size, size_xyz=size_xyz), None) for name in names}
    place = tomograms or next((p for p in target.resolve().parents if (p / PLAN_FILE).is_file()), None)
    if place is None:
        raise InputError(
            f"`{target}` lies in no project. Say which tomograms its particles lie in: --tomograms, or --tomogram-size X Y Z with "
            "--voxel-size."
        )
    out: dict[str, tuple[TomogramFrame, Path | None]] = {}
    for one in find_tomograms(place):
        if one.name not in names:
            continue
        header = read_mrc_header(one.path)
        own = header.pixel_size_angstrom
        if own is None:
            raise InputError(f"The header of `{one.path}` holds no voxel size. Give --tomogram-size and --voxel-size.")
        z, y, x = header.shape
        # other voxels, the same field
        voxel = voxel_size or own
        size = [max(1, 2 * round(0.5 * n * own / voxel)) if voxel != own else n for n in (x, y, z)]
        frame = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(size[0], size[1], size[2]))
        out[one.name] = (frame, one.path)
    if not out:
        raise InputError(f"`{place}` has no tomogram of {', '.join(names[:5])}, in which the particles lie.")
    return out


def _scene(
    made: Path,
    tomogram: Path | None,
    level: float,
    particles: ParticleSet,
    frame: TomogramFrame,
    copies: tuple[Path, float, int, float] | None,
) -> str:
    """Commands of ChimeraX; positions there are A from the middle of the first voxel."""
    lines = ["# ChimeraX: open this file", "set bgColor white"]
    number = 1
    if tomogram is not None:
        lines += [f'open "{tomogram.resolve()}" id {number}', f"volume #{number} style image region all"]
        number += 1
    if copies is None:
        lines += [
            f'open "{made.resolve()}" id {number}',
            f"volume #{number} style surface level {level:.6g} step 1 color {_COLOURS[1]}",
        ]
        return "\n".join([*lines, "view", ""])
    source, voxel, edge, top = copies
    if len(particles) > _MOST_SURFACES:
        raise InputError(
            f"{len(particles)} surfaces are more than a scene should hold ({_MOST_SURFACES}). Leave out "
            "--surfaces: one volume shows all."
        )
    middle = np.full(3, (edge // 2) * voxel)
    kinds = sorted(set(particles.kinds.tolist()))
    places = frame.to_index(particles.positions_angstrom) * frame.voxel_size_angstrom
    for i, (place, turn, kind) in enumerate(zip(places, particles.rotations, particles.kinds, strict=True), 1):
        moved = np.column_stack([turn, place - turn @ middle])
        colour = _COLOURS[kinds.index(str(kind)) % len(_COLOURS)]
        model = f"#{number}.{i}"
        lines += [
            f'open "{source.resolve()}" id {model[1:]}',
            f"volume {model} style surface level {top:.6g} step 1 color {colour}",
            f"view matrix models {model}," + ",".join(f"{v:.6f}" for v in moved.ravel()),
        ]
    return "\n".join([*lines, "view", ""])
