"""Scenes of maps put back: glTF, and scripts for ChimeraX and its bundle ArtiaX. Places are A from the middle of the first voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric import __version__
from eucentric.averaging.surface_mesh import SurfaceMesh, sample_at
from eucentric.errors import InputError
from eucentric.io.gltf import GltfCopy, GltfMesh, write_gltf
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.scene_colors import PLAIN, SceneColors, resolution_colors, rgb
from eucentric.typing import FloatArray

_MOST_SURFACES = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapSurface:
    """The surface of the map that is put back."""

    source: Path
    voxel_size_angstrom: float
    edge: int
    """Voxels along an edge of the map."""
    level: float
    mesh: SurfaceMesh
    resolution: tuple[Path, FloatArray, SceneColors] | None = None
    """Volume of the local resolution, colours of the corners, and what they mean."""

    def with_resolution(self, path: Path, volume: FloatArray) -> "MapSurface":
        """Coloured by a volume of local resolution with the map's voxels."""
        values = sample_at(volume, self.voxel_size_angstrom, self.mesh.vertices_angstrom)
        colors, about = resolution_colors(values)
        return MapSurface(
            source=self.source,
            voxel_size_angstrom=self.voxel_size_angstrom,
            edge=self.edge,
            level=self.level,
            mesh=self.mesh,
            resolution=(path, colors, about),
        )

    def legend(self, colors: SceneColors) -> SceneColors:
        """What colours mean in scenes of this surface."""
        return colors if self.resolution is None else self.resolution[2]


def write_surface_scene(
    path: Path,
    surface: MapSurface,
    particles: ParticleSet,
    rows: Sequence[int],
    colors: Sequence[str],
    legend: SceneColors,
    frame: TomogramFrame,
    name: str,
) -> None:
    """Write the surface at every particle of a tomogram as glTF.

    Parameters
    ----------
    rows : of the particles in their list, counted from 1
    colors : of the particles
    """
    corners = None if surface.resolution is None else surface.resolution[1]
    mesh = GltfMesh(
        vertices=surface.mesh.vertices_angstrom,
        normals=surface.mesh.normals,
        triangles=surface.mesh.triangles,
        colors=corners,
    )
    places = _places(particles, frame)
    copies = []
    for i, row in enumerate(rows):
        kind, score = str(particles.kinds[i]), float(particles.scores[i])
        about = {"row": int(row)} | ({"class": kind} if kind else {}) | ({"score": score} if np.isfinite(score) else {})
        copies.append(
            GltfCopy(
                mesh=0,
                rotation=particles.rotations[i],
                position=places[i],
                color=rgb(colors[i]),
                name=f"{kind or 'particle'} {row}",
                about=about,
            )
        )
    told = {"colouredBy": legend.quantity, "legend": [list(entry) for entry in legend.legend]}
    write_gltf(path, [mesh], copies, name=name, generator=f"Eucentric {__version__}", about=told)


def density_script(made: Path, tomogram: Path | None, level: float) -> str:
    """Commands of ChimeraX that show one volume with all copies."""
    lines, number = _opening(tomogram)
    lines += [
        f'open "{made.resolve()}" id {number}',
        f"volume #{number} style surface level {level:.6g} step 1 color {PLAIN}",
    ]
    return "\n".join([*lines, "view", ""])


def surfaces_script(
    surface: MapSurface,
    tomogram: Path | None,
    particles: ParticleSet,
    colors: Sequence[str],
    legend: SceneColors,
    frame: TomogramFrame,
) -> str:
    """Commands of ChimeraX that open the map once for each particle, with a key of the colours."""
    if len(particles) > _MOST_SURFACES:
        raise InputError(
            f"{len(particles)} surfaces are more than a scene should hold ({_MOST_SURFACES}). Leave out --surfaces: one volume "
            "shows all."
        )
    lines, number = _opening(tomogram)
    middle = np.full(3, (surface.edge // 2) * surface.voxel_size_angstrom)
    places = _places(particles, frame)
    if surface.resolution is not None:
        lines += [f'open "{surface.resolution[0].resolve()}" id {number + 1}', f"hide #{number + 1} models"]
    for i, (place, turn, color) in enumerate(zip(places, particles.rotations, colors, strict=True), 1):
        moved = np.column_stack([turn, place - turn @ middle])
        model = f"#{number}.{i}"
        lines += [
            f'open "{surface.source.resolve()}" id {model[1:]}',
            f"volume {model} style surface level {surface.level:.6g} step 1 color {color}",
        ]
        matrix = ",".join(f"{v:.6f}" for v in moved.ravel())
        lines.append(f"view matrix models {model},{matrix}")
        if surface.resolution is not None and legend.scale is not None:
            # the volume of local resolution goes to each copy in turn, whose colours then stay
            low, high = legend.scale
            palette = ":".join(color for _, color in legend.legend)
            lines += [
                f"view matrix models #{number + 1},{matrix}",
                f"color sample {model} map #{number + 1} palette {palette} range {low:.4g},{high:.4g} update false",
            ]
    return "\n".join([*lines, *_key(legend), "view", ""])


def artiax_script(listed: Path, tomogram: Path | None, surface: MapSurface, frame: TomogramFrame) -> str:
    """Commands that open tomogram, list and map in ArtiaX, which has the list as #1.2.1."""
    voxel = frame.voxel_size_angstrom
    lines = ["# ChimeraX with the bundle ArtiaX: open this file", "artiax start"]
    if tomogram is not None:
        lines.append(f'artiax open tomo "{tomogram.resolve()}"')
    lines += [
        f'open "{listed.resolve()}" format relion',
        f"artiax particles #1.2.1 originScaleFactor {voxel:.6g} transScaleFactor {voxel:.6g}",
        f'open "{surface.source.resolve()}" id 50',
        "artiax attach #50 toParticleList #1.2.1",
        f"artiax particles #1.2.1 surfaceLevel {surface.level:.6g}",
    ]
    return "\n".join([*lines, ""])


def legend_table(legend: SceneColors) -> str:
    """Values and colours as CSV."""
    rows = [f'"{legend.quantity}",colour', *(f'"{_plain(value)}",{color}' for value, color in legend.legend)]
    return "\n".join([*rows, ""])


def _places(particles: ParticleSet, frame: TomogramFrame) -> FloatArray:
    return frame.to_index(particles.positions_angstrom) * frame.voxel_size_angstrom


def _opening(tomogram: Path | None) -> tuple[list[str], int]:
    """First lines, and the number of the next model."""
    lines = ["# ChimeraX: open this file", "set bgColor white"]
    if tomogram is None:
        return lines, 1
    return [*lines, f'open "{tomogram.resolve()}" id 1', "volume #1 style image region all"], 2


def _key(legend: SceneColors) -> list[str]:
    """A key of the colours; names that a command could not hold lose those characters."""
    if len(legend.legend) < 2:
        return []
    # a label ends at a space
    entries = " ".join(f"{color}:{_plain(value).replace(' ', '_')}" for value, color in legend.legend)
    return [
        f"# colours: {_plain(legend.quantity)}",
        f"key {entries} colorTreatment {'distinct' if legend.scale is None else 'blended'}",
    ]


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c not in "\";#\n'").strip()
