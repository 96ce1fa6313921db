"""`eucentric map-back`: averages where their particles lie."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json


def map_back(
    target: Path,
    /,
    *,
    output: Path,
    density: Annotated[Path | None, Parameter(name="--map")] = None,
    mask: Path | None = None,
    tomograms: Path | None = None,
    tomogram_size: Annotated[tuple[int, int, int] | None, Parameter(negative=())] = None,
    voxel_size: float | None = None,
    form: Literal["density", "labels"] = "density",
    level: Annotated[float | None, Parameter(allow_leading_hyphen=True)] = None,
    kind: Annotated[list[str] | None, SEVERAL] = None,
    surfaces: Switch = False,
    colour_by: str = "class",
    local_resolution: Path | None = None,
    triangles: int = 6000,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Put a map back at the pose of every particle: volumes, surfaces as glTF, scenes for ChimeraX, and lists for ArtiaX.

    The volumes have the voxels and the origin of the tomograms, and lie over them. Copies that overlap add up. What is changed in
    ArtiaX comes back with `eucentric particles take-edits`.

    Parameters
    ----------
    target
        folder of an average, or a list of oriented particles
    output
        folder to be made: TOMOGRAM.mrc, .cxc, .glb, _artiax.star and _artiax.cxc, and legend.csv with what colours mean
    density
        map to be put back, protein bright; map.mrc of the folder where not given
    mask
        volume of 0 to 1, outside of which nothing is put back; that of the folder with its own map
    tomograms
        project, table such as `reconstruct/tilt_series.star`, or one tomogram; the project that the target lies in where not given
    tomogram_size
        voxels along x, y and z, where there is no tomogram; with --voxel-size
    voxel_size
        A, of the volumes; that of the tomograms where not given
    form
        density, or labels: the particle's number where its copy is above the level
    level
        of the surface, in the map's values; found from the map where not given
    kind
        classes of particles to put back; all where not given
    surfaces
        the scene for ChimeraX opens the map once for each particle, in its colour
    colour_by
        class, score, resolution (of the map, from place to place), or the label of a column of numbers; of surfaces
    local_resolution
        volume with the resolution in A, for --colour-by resolution; that of the folder where not given
    triangles
        of the map's surface in glTF, at most
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.map_back import map_back_files

    del debug  # read by the program itself
    target = chosen_list(target)
    made = map_back_files(
        target,
        output,
        device=resolve_device(device),
        density=density,
        mask=mask,
        tomograms=tomograms,
        size_xyz=tomogram_size,
        voxel_size=voxel_size,
        form=form,
        level=level,
        kinds=tuple(kind or ()),
        surfaces=surfaces,
        color_by=colour_by,
        local_resolution=local_resolution,
        most_triangles=triangles,
        overwrite=overwrite,
    )
    for one in made:
        beside = f", {one.outside} of them centred outside of it" if one.outside else ""
        files = ", ".join(path.name for path in (one.scene, one.surfaces, one.artiax))
        sys.stdout.write(f"{one.tomogram}: {one.particles} particles{beside}. Wrote {one.volume}, {files}.\n")
    if as_json:
        rows = [
            {
                "tomogram": m.tomogram,
                "volume": str(m.volume),
                "scene": str(m.scene),
                "gltf": str(m.surfaces),
                "artiax": str(m.artiax),
                "particles": m.particles,
            }
            for m in made
        ]
        show_json({"exit_code": 0, "volumes": rows})
    return 0
