"""Scripts of ChimeraX (`.cxc`) that show a tomogram with its particles and meshes, and markers (`.cmm`) that it opens by itself.

ChimeraX counts A from the middle of the first voxel of a volume whose origin is 0; `volume voxelSize originIndex` makes it so
whatever the header says, and `view matrix models` puts meshes that count from the specimen centre there [1]_. Markers are spheres:
every ChimeraX shows them. Its bundle ArtiaX shows particles with their orientations, and reads lists of RELION 2 to 4 with
coordinates in voxels, which it multiplies by `originScaleFactor`; RELION-5's centred coordinates only where the size of the tomogram
is typed in [2]_. So lists are written as `io.artiax` has them, with the scale in the script.

While ChimeraX runs a script, the script's folder is its working directory [3]_. So files in that folder and below are named from
there, and all may be moved together; others have their full path.

References
----------
.. [1] https://www.cgl.ucsf.edu/chimerax/docs/user/commands/volume.html and view.html, and formats/markers.html
.. [2] https://github.com/FrangakisLab/ArtiaX: `src/io/RELION/RELIONParticleData.py`, `src/io/RELION5`, `src/cmd/cmd.py`
.. [3] https://github.com/RBVI/ChimeraX, chimerax.core.scripting: open_command_script; OpenFileNameArg takes relative names
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from eucentric.errors import InputError
from eucentric.io.artiax import write_artiax_list
from eucentric.io.atomic import write_text_atomic
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.typing import PathLike

_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
_VOLUMES = (".mrc", ".rec", ".map", ".st", ".mrcs", ".hdf", ".h5")
_MESHES = (".glb", ".gltf", ".stl", ".obj", ".ply")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChimeraxMesh:
    """A mesh that is shown with a tomogram."""

    path: Path
    from_centre: bool = True
    """Its coordinates are A from the specimen centre, as meshes of this package are; else from the middle of the first voxel."""
    color: str | None = None
    """As ChimeraX names colours; its own, or one of a list, where None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChimeraxMap:
    """A map that ArtiaX shows at every particle."""

    path: Path
    level: float


def write_chimerax_session_script(
    path: PathLike,
    tomogram: str,
    frame: TomogramFrame,
    *,
    volume: Path | None = None,
    particles: ParticleSet | None = None,
    meshes: Sequence[ChimeraxMesh] = (),
    particle_map: ChimeraxMap | None = None,
    radius_angstrom: float = 50.0,
) -> list[Path]:
    """Write `NAME.cxc`, `NAME_KIND.cmm` for each kind of particle, and for ArtiaX `NAME_artiax.cxc` and `.star`; the files made.

    Parameters
    ----------
    path : of the script, `NAME.cxc`
    tomogram : its name; only its particles are written
    frame : its grid
    volume : the tomogram itself, of a kind that ChimeraX opens (MRC)
    radius_angstrom : of the markers

    Raises
    ------
    InputError : a volume or mesh of a kind that ChimeraX does not open, a path with quotation marks, or nothing to be shown
    """
    script = Path(path)
    if script.suffix.lower() != ".cxc":
        raise InputError(f"`{script.name}` is no name for a script of ChimeraX; expected one that ends in .cxc.")
    if volume is not None and volume.suffix.lower() not in _VOLUMES:
        raise InputError(f"ChimeraX does not open `{volume.name}`. Give the tomogram as MRC.")
    part = None if particles is None else particles.in_tomogram(tomogram)
    if volume is None and not meshes and (part is None or not len(part)):
        raise InputError(f"There is nothing of {tomogram} to be shown: no tomogram, no particle and no mesh.")
    if not (np.isfinite(radius_angstrom) and radius_angstrom > 0):
        raise InputError(f"The radius of the markers is {radius_angstrom}; expected a positive number of A.")
    files = [script]
    lines = ["# ChimeraX: open this file", *_volume_lines(volume, frame, script.parent)]
    number = 2
    if part is not None and len(part):
        for colour, kind in enumerate(sorted({str(k) for k in part.kinds})):
            some = part.select(part.kinds == kind)
            file = script.with_name(f"{script.stem}_{_word(kind)}.cmm")
            if file in files:
                raise InputError(f"Two kinds of particles would be written as `{file.name}`. Rename one.")
            _write_markers(file, kind or "particles", some, frame, radius_angstrom, _COLOURS[colour % len(_COLOURS)])
            files.append(file)
            lines.append(f"open {_quoted(file, script.parent)} id {number}")
            number += 1
    for at, mesh in enumerate(meshes):
        lines += _mesh_lines(mesh, number, at, frame, script.parent)
        number += 1
    write_text_atomic(script, "\n".join([*lines, "view"]) + "\n")
    if part is not None and particles is not None and len(part):
        files += _write_artiax(script, tomogram, frame, volume, particles, particle_map)
    return files


def _word(kind: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", kind).strip("-") or "particles"


def _quoted(path: Path, folder: Path) -> str:
    """The file as a script in the folder names it."""
    there, here = path.absolute(), folder.absolute()  # links are not followed
    text = there.relative_to(here).as_posix() if there.is_relative_to(here) else str(there)
    if '"' in text or "\n" in text or "\r" in text:
        raise InputError(f"`{path}` has a quotation mark in its name, with which ChimeraX cannot open it. Rename it.")
    return f'"{text}"'


def _volume_lines(volume: Path | None, frame: TomogramFrame, folder: Path) -> list[str]:
    if volume is None:
        return []
    return [
        f"open {_quoted(volume, folder)} id 1",
        f"volume #1 voxelSize {frame.voxel_size_angstrom:.8g} originIndex 0,0,0",
        f"volume #1 style image plane z,{frame.size_xyz[2] // 2} step 1",
    ]


def _mesh_lines(mesh: ChimeraxMesh, number: int, at: int, frame: TomogramFrame, folder: Path) -> list[str]:
    if mesh.path.suffix.lower() not in _MESHES:
        raise InputError(f"ChimeraX does not open `{mesh.path.name}` as a mesh. Expected {', '.join(_MESHES)}.")
    x, y, z = np.array(frame.size_xyz) // 2 * frame.voxel_size_angstrom if mesh.from_centre else np.zeros(3)
    lines = [
        f"open {_quoted(mesh.path, folder)} id {number}",
        f"view matrix models #{number},1,0,0,{x:.8g},0,1,0,{y:.8g},0,0,1,{z:.8g}",
    ]
    if mesh.color is not None or mesh.path.suffix.lower() not in (".glb", ".gltf"):
        lines.append(f"color #{number} {mesh.color or _COLOURS[-1 - at % len(_COLOURS)]}")
    return lines


def _write_markers(
    file: Path, name: str, particles: ParticleSet, frame: TomogramFrame, radius: float, colour: str
) -> None:
    places = frame.to_index(particles.positions_angstrom) * frame.voxel_size_angstrom
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    rows = [
        f'<marker id="{i}" x="{x:.3f}" y="{y:.3f}" z="{z:.3f}" r="{red:.3f}" g="{green:.3f}" b="{blue:.3f}" radius="{radius:g}"/>'
        for i, (x, y, z) in enumerate(places, 1)
    ]
    write_text_atomic(file, "\n".join([f"<marker_set name={quoteattr(name)}>", *rows, "</marker_set>"]) + "\n")


def _write_artiax(
    script: Path,
    tomogram: str,
    frame: TomogramFrame,
    volume: Path | None,
    particles: ParticleSet,
    particle_map: ChimeraxMap | None,
) -> list[Path]:
    listed = script.with_name(f"{script.stem}_artiax.star")
    write_artiax_list(listed, particles, np.flatnonzero(particles.tomograms == tomogram), tomogram, frame)
    voxel = frame.voxel_size_angstrom
    # ArtiaX is model 1; its tomograms are 1.1 and its lists 1.2
    lines = ["# ChimeraX with its bundle ArtiaX: open this file", "artiax start"]
    if volume is not None:
        lines += [f"artiax open tomo {_quoted(volume, script.parent)}", f"artiax tomo #1.1.1 pixelSize {voxel:.8g}"]
    lines += [
        f"open {_quoted(listed, script.parent)} format relion",
        f"artiax particles #1.2.1 originScaleFactor {voxel:.8g} transScaleFactor {voxel:.8g}",
    ]
    if particle_map is not None:
        lines += [
            f"open {_quoted(particle_map.path, script.parent)} id 50",
            "artiax attach #50 toParticleList #1.2.1",
            f"artiax particles #1.2.1 surfaceLevel {particle_map.level:.6g}",
        ]
    out = script.with_name(f"{script.stem}_artiax.cxc")
    write_text_atomic(out, "\n".join(lines) + "\n")
    return [out, listed]
