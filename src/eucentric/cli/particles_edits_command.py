"""`eucentric particles take-edits`: what was changed in ArtiaX."""

import sys
from pathlib import Path

from eucentric.cli.list_options import TableOptions, refuse_to_replace
from eucentric.cli.options import show_json
from eucentric.errors import InputError


def take_edits(original: Path, /, *edited: Path, options: TableOptions) -> int:
    """Bring particles deleted, moved, turned or added in ArtiaX back into their list.

    All columns of the list stay, also those that ArtiaX leaves out; particles of tomograms that were not edited too.

    Parameters
    ----------
    original
        list of particles, or folder of an average, that `eucentric map-back` was given
    edited
        lists that ArtiaX saved as RELION STAR files from TOMOGRAM_artiax.star, one for each tomogram
    """
    from eucentric.io.particles import write_particles
    from eucentric.pipeline.artiax_edits import take_edits as taken
    from eucentric.pipeline.particle_files import read_list

    if not edited:
        raise InputError("Name the lists that ArtiaX saved, after the list they came from.")
    refuse_to_replace(options.output, options.overwrite)
    particles = read_list(original / "particles.star" if original.is_dir() else original)
    result = taken(particles, list(edited))
    counts = {n: getattr(result, n) for n in ("deleted", "moved", "turned", "added")}
    write_particles(options.output, result.particles, "relion5")
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    sys.stdout.write(f"Of {len(particles)} particles: {told}. Wrote {len(result.particles)} to {options.output}.\n")
    if options.as_json:
        show_json({"exit_code": 0, "particles": len(result.particles), **counts, "output": str(options.output)})
    return 0
