"""Lists of particles on their way to a program."""

from eucentric.models.particles import ParticleSet
from eucentric.pipeline.export.files import Exported
from eucentric.pipeline.export.source import ExportSource, ListedParticles


def known_particles(source: ExportSource, listed: ListedParticles, exported: Exported) -> ParticleSet:
    """The particles of tomograms whose grid is known, which lists in voxels need; the others are told as a loss."""
    frames = source.tomogram_frames.by_name
    known = listed.particles.select([str(n) in frames for n in listed.particles.tomograms])
    missing = sorted({n for n in listed.particles.tomogram_names if n not in frames})
    if missing:
        exported.losses.append(
            f"{listed.name}: {len(listed.particles) - len(known)} particles are left out: the tomograms of {', '.join(missing[:5])}"
            f"{' and others' if len(missing) > 5 else ''}, in whose voxels they are counted, are not made yet."
        )
    return known
