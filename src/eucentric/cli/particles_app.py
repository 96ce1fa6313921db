"""The commands under `eucentric particles`: their names, without loading any of them."""

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
        ("score", "Compare picks with known particles."),
        ("project", "Write where particles are seen in every tilt image, and their defocus."),
    ):
        app.command(f"{_MODULE}:{name}", name=name, help=text)
    return app
