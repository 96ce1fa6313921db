"""ChimeraX, and its bundle ArtiaX: a script for each tomogram."""

import shlex

from eucentric.io.chimerax import ChimeraxMesh, write_chimerax_session_script
from eucentric.io.particle_columns import class_numbers
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
    scripts = [path.name for path in exported.files if path.suffix == ".cxc"]
    oriented = [name for name in scripts if name.endswith("_artiax.cxc")]
    exported.steps.append(f"chimerax {shlex.quote(next(n for n in scripts if n not in oriented))}")
    if oriented:
        exported.steps += ["# with the bundle ArtiaX:", f"chimerax {shlex.quote(oriented[0])}"]
    exported.steps += [f"chimerax {shlex.quote(path.relative_to(exported.folder).as_posix())}" for path in maps[:2]]
    if every is not None:
        exported.losses += _lost_of_lists(every)
    exported.losses.append(
        "ChimeraX shows volumes, particles and surfaces: tilt series, alignments and CTFs are not in it."
    )


def _lost_of_lists(particles: ParticleSet) -> list[str]:
    """What lists for ArtiaX do not hold."""
    kinds = {str(k): int(n) for k, n in zip(particles.kinds, class_numbers(particles.kinds), strict=True) if str(k)}
    told = []
    if not all(kind.isdecimal() for kind in kinds):
        numbered = ", ".join(f"{number} is {kind}" for kind, number in sorted(kinds.items()))
        told.append(f"Lists for ArtiaX have numbers for kinds: {numbered}.")
    texts = [name for name, column in particles.texts.items() if (column != "").any()]
    if texts:
        told.append(f"Texts of particles are left out of lists for ArtiaX: {', '.join(texts)}.")
    return told
