"""ChimeraX, and its bundle ArtiaX: a script for each tomogram."""

from eucentric.io.chimerax import ChimeraxMesh, write_chimerax_session_script
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.imod import place_tomograms
from eucentric.pipeline.export.source import ExportSource

_MESHES = (".glb", ".stl", ".obj", ".ply")


def export_chimerax(source: ExportSource, exported: Exported) -> None:
    """`<series>.cxc` with tomogram, markers and meshes; `<series>_artiax.cxc` with oriented particles; averages in `maps`."""
    source.need_tomograms("ChimeraX")
    place_tomograms(source, exported)
    maps = [exported.place(path, exported.folder / "maps" / f"{name}.mrc") for name, path in source.maps]
    frames = source.tomogram_frames
    every = ParticleSet.concatenate([one.particles for one in source.lists]) if source.lists else None
    for name in (g.series.name for g in source.geometries if g.series.tomogram is not None):
        own = [path for series, path in source.meshes if series == name and path.suffix.lower() in _MESHES]
        stems = {path.stem: path for path in sorted(own, key=lambda p: _MESHES.index(p.suffix.lower()), reverse=True)}
        meshes = [
            ChimeraxMesh(path=exported.place(path, exported.folder / "meshes" / path.name)) for path in stems.values()
        ]
        particles = None
        if every is not None and name in every.tomogram_names:
            particles = every.in_tomogram(name)
        exported.add(
            *write_chimerax_session_script(
                exported.folder / f"{name}.cxc",
                name,
                frames.of(name),
                volume=exported.folder / "tomograms" / f"{name}.mrc",
                particles=particles,
                meshes=meshes,
            )
        )
    first = next(g.series.name for g in source.geometries if g.series.tomogram is not None)
    exported.steps += [f"chimerax {first}.cxc", "# with the bundle ArtiaX:", f"chimerax {first}_artiax.cxc"]
    exported.steps += [f"chimerax {path.relative_to(exported.folder)}" for path in maps[:2]]
    exported.losses.append(
        "ChimeraX shows volumes, particles and surfaces: tilt series, alignments and CTFs are not in it."
    )
