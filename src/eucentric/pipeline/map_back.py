"""`eucentric map-back`: volumes of tomograms with averages at the poses of their particles, and scenes that show them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.iterate_average import on_voxels
from eucentric.averaging.place_maps import place_copies
from eucentric.averaging.surface_mesh import surface_mesh
from eucentric.errors import InputError
from eucentric.figures.averaging import surface_level
from eucentric.io.artiax import write_artiax_list
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import read_mrc_header, write_mrc
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.back_scenes import (
    MapSurface,
    artiax_script,
    density_script,
    legend_table,
    surfaces_script,
    write_surface_scene,
)
from eucentric.pipeline.blob_files import find_tomograms
from eucentric.pipeline.curation_lists import is_unoriented
from eucentric.pipeline.map_measures import LOCAL
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.pipeline.reprojecting import read_volume, refuse_to_replace
from eucentric.pipeline.scene_colors import CLASS, RESOLUTION, SceneColors, particle_colors
from eucentric.typing import FloatArray

Form = Literal["density", "labels"]
_ENDINGS = (".mrc", ".cxc", ".glb", "_artiax.star", "_artiax.cxc")
_LEGEND = "legend.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedBack:
    """What was written for one tomogram."""

    tomogram: str
    volume: Path
    scene: Path
    surfaces: Path
    """The same as glTF."""
    artiax: Path
    """List for ArtiaX."""
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
    color_by: str = CLASS,
    local_resolution: Path | None = None,
    most_triangles: int = 6000,
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
    color_by : `class`, `score`, `resolution`, or the label of a column
    local_resolution : volume in A with the map's voxels, for `resolution`; that of the folder where None
    most_triangles : of the map's surface in glTF

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
    whole = read_list(listed)
    wanted = np.isin(whole.kinds, list(kinds)) if kinds else np.ones(len(whole), dtype=bool)
    wanted &= ~is_unoriented(whole)  # added by hand: no orientation to be put back in
    particles = whole.select(wanted)
    if not len(particles):
        raise InputError(
            f"`{listed}` holds no particle{' of kind ' + ', '.join(kinds) if kinds else ''} to be put back."
        )
    if not particles.oriented:
        raise InputError(
            f"The particles of `{listed}` have no orientations: a map cannot be turned to where it belongs. `eucentric average "
            "--auto` finds them where a map is known, `eucentric initial-model` where none is."
        )
    volume, voxel = _masked(source, mask, device)
    array = volume.cpu().numpy().astype(np.float64)
    top = surface_level(array) if level is None else level
    colors = particle_colors(particles, color_by)
    if color_by == RESOLUTION and local_resolution is None:
        if folder is None:
            raise InputError(
                "The surface is to be coloured by resolution. Say where the volume of local resolution is: --local-resolution FILE."
            )
        local_resolution = folder / LOCAL
    surface = _surface(source, array, voxel, top, most_triangles, local_resolution if color_by == RESOLUTION else None)
    known = {name: np.flatnonzero(wanted & (whole.tomograms == name)) for name in particles.tomogram_names}
    frames = _frames(target, tomograms, size_xyz, voxel_size, tuple(known))
    outputs = [output / f"{name}{ending}" for name in frames for ending in _ENDINGS]
    refuse_to_replace([*outputs, output / _LEGEND], [source, listed], overwrite)
    make_folder(output)
    shades = np.full(len(whole), "", dtype="<U7")
    shades[wanted] = colors.colors
    back = _Back(
        output=output,
        particles=whole,
        colors=tuple(str(shade) for shade in shades),
        legend=surface.legend(colors),
        volume=volume,
        surface=surface,
        form=form,
        surfaces=surfaces,
    )
    out = [back.write(name, frame, path, known[name]) for name, (frame, path) in frames.items()]
    write_text_atomic(output / _LEGEND, legend_table(back.legend))
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Back:
    """What all tomograms share."""

    output: Path
    particles: ParticleSet
    """The whole list."""
    colors: tuple[str, ...]
    """Of the whole list."""
    legend: SceneColors
    volume: Tensor
    surface: MapSurface
    form: Form
    surfaces: bool

    def write(self, name: str, frame: TomogramFrame, tomogram: Path | None, rows: NDArray[np.int64]) -> MappedBack:
        """Write volume, scenes and list of one tomogram; `rows` are its particles, from 0."""
        part, top = self.particles.select(rows), self.surface.level
        made, scene, surfaces, listed, opens = (self.output / f"{name}{ending}" for ending in _ENDINGS)
        self._write_volume(made, frame, part)
        shades = [self.colors[row] for row in rows]
        if self.surfaces:
            text = surfaces_script(self.surface, tomogram, part, shades, self.legend, frame)
        else:
            text = density_script(made, tomogram, 0.5 if self.form == "labels" else top)
        write_text_atomic(scene, text)
        write_surface_scene(surfaces, self.surface, part, (rows + 1).tolist(), shades, self.legend, frame, name)
        write_artiax_list(listed, self.particles, rows, name, frame)
        write_text_atomic(opens, artiax_script(listed, tomogram, self.surface, frame))
        index = frame.to_index(part.positions_angstrom)
        inside = ((index >= 0) & (index <= np.array(frame.size_xyz) - 1)).all(axis=1)
        return MappedBack(
            tomogram=name,
            volume=made,
            scene=scene,
            surfaces=surfaces,
            artiax=listed,
            particles=len(part),
            outside=int((~inside).sum()),
            level=top,
        )

    def _write_volume(self, path: Path, frame: TomogramFrame, part: ParticleSet) -> None:
        voxel = self.surface.voxel_size_angstrom
        size = max(16, 2 * int(np.ceil(0.5 * self.volume.shape[0] * voxel / frame.voxel_size_angstrom)))
        resampled = on_voxels(self.volume, voxel, frame.voxel_size_angstrom, size)
        level = self.surface.level if self.form == "labels" else None
        placed = place_copies(resampled, frame, part.positions_angstrom, part.rotations, level=level)
        told = (
            "labels: the particle's number in the list of this tomogram, from 1"
            if level is not None
            else "protein bright"
        )
        write_mrc(path, placed, frame.voxel_size_angstrom, "float32" if level is None else "int16", labels=(told,))


def _surface(
    source: Path, volume: FloatArray, voxel: float, level: float, most_triangles: int, local: Path | None
) -> MapSurface:
    """The surface of the map, with the colours of a volume of local resolution where there is one."""
    mesh = surface_mesh(volume, voxel, level, most_triangles=most_triangles)
    surface = MapSurface(source=source, voxel_size_angstrom=voxel, edge=volume.shape[0], level=level, mesh=mesh)
    return surface if local is None else surface.with_resolution(local, _local(local, voxel, volume.shape))


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
    left = volume * held
    if float(left.std()) == 0.0:
        raise InputError(f"The mask `{mask}` leaves nothing of the map `{source}`. Give another --mask.")
    return left, voxel


def _local(path: Path, voxel: float, shape: tuple[int, ...]) -> FloatArray:
    if not path.is_file():
        raise InputError(
            f"`{path}` does not exist: the local resolution was not measured. Run `eucentric local-resolution` on the average first."
        )
    volume, _ = read_volume(path, voxel, torch.device("cpu"))
    if tuple(volume.shape) != tuple(shape):
        raise InputError(f"The local resolution `{path}` has another size than the map. Give one of the same size.")
    return volume.numpy().astype(np.float64)


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
