"""Points, filaments and surfaces that people drew, in the formats that picking takes.

`curation/drawn/points.star` is a list of particles, `filaments.star` one with rlnHelicalTubeID and z along each line, and every
surface a mesh, `<series>_surface_<number>.ply`, in A from the specimen centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from eucentric.io import labels
from eucentric.io.meshes import write_ply
from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.picking.centre_lines import centre_line
from eucentric.picking.drawn_surfaces import Surface, surface_through_contours
from eucentric.picking.pick_geometry import filament_points
from eucentric.pipeline.geometry_files import oriented_particles
from eucentric.pipeline.repair_paths import drawn_folder
from eucentric.typing import FloatArray

Shape: TypeAlias = Literal["point", "filament", "surface"]
_STEP_VOXELS = 4.0
"""Between points of a filament and vertices of a surface: finer than anyone draws."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """One thing that was drawn, in the frame of the tomogram as it is."""

    series: str
    number: int
    shape: Shape
    label: str
    lines_angstrom: tuple[FloatArray, ...]
    """(point, 3) each: one for points and filaments, a contour in each slice for surfaces."""
    closed: bool
    voxel_angstrom: float

    @property
    def whole(self) -> bool:
        """Whether there is enough of it to be used."""
        return self.shape != "surface" or len(self.lines_angstrom) > 1

    @property
    def mesh_name(self) -> str:
        """Of a surface: its file."""
        return f"{self.series}_surface_{self.number}.ply"


def surface_of(drawn: Drawn) -> Surface:
    """The mesh of a surface; errors as `surface_through_contours`."""
    return surface_through_contours(drawn.lines_angstrom, _STEP_VOXELS * drawn.voxel_angstrom, closed=drawn.closed)


def filament_of(drawn: Drawn, tube: int) -> ParticleSet:
    """Points along a filament, z along it, with its number; errors as `filament_points`."""
    line = drawn.lines_angstrom[0]
    length = centre_line(line).length_angstrom
    # whole steps, so that the last point drawn is the last of the list
    step = length / max(1, round(length / (_STEP_VOXELS * drawn.voxel_angstrom)))
    found = oriented_particles(drawn.series, filament_points(line, step * (1.0 - 1e-9)), tube, tube=True)
    return ParticleSet.concatenate([found.with_kinds(drawn.label)])


def write_drawn(root: Path, every: Sequence[Drawn]) -> list[Path]:
    """Write all that was drawn in a project, and remove what is drawn no more."""
    folder = drawn_folder(root)
    whole = [d for d in every if d.whole]
    points = [
        ParticleSet.build(d.series, d.lines_angstrom[0], kinds=d.label, columns={labels.INSTANCE: float(d.number)})
        for d in whole
        if d.shape == "point"
    ]
    filaments = [filament_of(d, tube) for tube, d in enumerate((d for d in whole if d.shape == "filament"), 1)]
    meshes = {folder / d.mesh_name: d for d in whole if d.shape == "surface"}
    written = []
    for name, parts in (("points.star", points), ("filaments.star", filaments)):
        path = folder / name
        if parts:
            folder.mkdir(parents=True, exist_ok=True)
            write_particles(path, ParticleSet.concatenate(parts), "relion5")
            written.append(path)
        else:
            path.unlink(missing_ok=True)
    for path, drawn in meshes.items():
        found = surface_of(drawn)
        note = f"{drawn.series} {drawn.label}".strip()
        write_ply(path, found.vertices_angstrom, found.faces, comment=f"A from the specimen centre of {note}")
        written.append(path)
    for path in folder.glob("*_surface_*.ply"):
        if path not in meshes:
            path.unlink()
    return written
