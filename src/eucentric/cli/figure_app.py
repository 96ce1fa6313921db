"""The commands under `eucentric figure`: their names, without loading any of them."""

from cyclopts import App, Group

_MODULE = "eucentric.cli.figure_commands"


def figure_app(group: Group) -> App:
    """The commands under `eucentric figure`, each loaded when it is called."""
    app = App(
        name="figure",
        help="Draw figures for papers: PNG, PDF or SVG of a column's width.",
        help_format="markdown",
        group=group,
    )
    for name, text in (
        ("slice", "A slice of a tomogram, with picks."),
        ("gallery", "Particles, averages or classes side by side."),
        ("surface", "The surface of an average from three sides."),
        ("local-resolution", "Slices of an average coloured by local resolution."),
        ("fsc", "Fourier shell correlations of averages."),
        ("orientation", "From where particles are seen."),
        ("tilt-series", "Images of a tilt series."),
        ("alignment", "Shifts, angles and residuals of a tilt series."),
        ("ctf", "Power spectra of tilts with their fits."),
        ("defocus", "Defocus and astigmatism of a tilt series."),
    ):
        app.command(f"{_MODULE}:{name.replace('-', '_')}_command", name=name, help=text)
    return app
