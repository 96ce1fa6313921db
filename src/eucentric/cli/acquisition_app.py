"""The commands under `eucentric acquisition`: their names, without loading any of them."""

from cyclopts import App, Group


def acquisition_app(group: Group) -> App:
    """The commands under `eucentric acquisition`, each loaded when it is called."""
    app = App(
        name="acquisition",
        help="Before, during and after collection: how series were taken, targets, where the stage goes.",
        help_format="markdown",
        group=group,
    )
    app.command(
        "eucentric.cli.acquisition_learn_command:learn",
        name="learn",
        help="Learn from aligned tilt series how they were taken, and what to do otherwise.",
    )
    app.command(
        "eucentric.cli.acquisition_predict_command:predict",
        name="predict",
        help="Answer a microscope's script: where targets will be at the next tilt, and whether to track.",
    )
    return app
