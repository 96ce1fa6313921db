"""The commands under `eucentric acquisition`: their names, without loading any of them."""

from cyclopts import App, Group

_COMMANDS = {
    "learn": "Learn from aligned tilt series how they were taken, and what to do otherwise.",
    "order": "Tell the order, scheme and dose of tilt series from their mdoc files.",
    "predict": "Answer a microscope's script: where targets will be at the next tilt, and whether to track.",
    "targets": "Place targets on a map, with focus and tracking spots, and check beams at every tilt.",
}


def acquisition_app(group: Group) -> App:
    """The commands under `eucentric acquisition`, each loaded when it is called."""
    app = App(
        name="acquisition",
        help="Before, during and after collection: how series were taken, targets, where the stage goes.",
        help_format="markdown",
        group=group,
    )
    for name, text in _COMMANDS.items():
        app.command(f"eucentric.cli.acquisition_{name}_command:{name}", name=name, help=text)
    return app
