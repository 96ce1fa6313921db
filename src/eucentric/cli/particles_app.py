"""The commands under `eucentric particles` and `eucentric pick-geometry`: their names, without loading any of them."""

from cyclopts import App, Group

_MODULE = "eucentric.cli.particles_command"


def particles_app(group: Group) -> App:
    """The commands under `eucentric particles`, each loaded when it is called."""
    app = App(
        name="particles",
        help="Convert, clean, combine, select and score lists of particles.",
        help_format="markdown",
        group=group,
    )
    for name, text in (
        ("convert", "Write a list in another program's format."),
        ("merge", "Put lists together, each particle once."),
        ("dedupe", "Of particles too near to each other, keep the best."),
        ("intersect", "Keep the particles that two lists share."),
        ("subtract", "Keep the particles that another list does not have."),
        ("select", "Keep particles by score, kind, place, neighbours or visibility."),
        ("complete", "Find the lattice of oriented particles, and add those missing in it."),
        ("score", "Compare picks with known particles."),
        ("project", "Write where particles are seen in every tilt image, and their defocus."),
    ):
        app.command(f"{_MODULE}:{name}", name=name, help=text)
    app.command(
        "eucentric.cli.particles_edits_command:take_edits",
        name="take-edits",
        help="Bring what was changed in ArtiaX back into a list.",
    )
    return app


def geometry_app(group: Group) -> App:
    """The commands under `eucentric pick-geometry`, each loaded when it is called."""
    app = App(
        name="pick-geometry",
        help="Trace filaments, and put particles on spheres, surfaces and filaments, with their orientations.",
        help_format="markdown",
        group=group,
    )
    for name, text in (
        ("spheres", "Points on spheres and vesicles."),
        ("surface", "Points on a segmentation or a mesh."),
        ("filaments", "Places along filaments or around them."),
    ):
        app.command(f"eucentric.cli.pick_geometry_command:{name}", name=name, help=text)
    for name, text in (
        ("trace", "Trace the centre lines of filaments in tomograms."),
        ("wall", "Put particles on the subunits of a tube's wall, by its lattice."),
    ):
        app.command(f"eucentric.cli.filament_commands:{name}", name=name, help=text)
    return app
