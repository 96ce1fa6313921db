"""`eucentric fill-wedge`: by a network or by constraints, and below it the training."""

from cyclopts import App

from eucentric.cli.fill_wedge_command import fill_wedge

app = App(
    name="fill-wedge",
    help="Fill the missing wedge of tomograms; average from the raw data.",
    help_format="plaintext",
)
app.default(fill_wedge)
app.command(
    "eucentric.cli.train_restorer_commands:train_filler",
    name="train",
    help="Train a network to fill the missing wedge, on the tomograms themselves.",
)
app.command("eucentric.cli.fill_wedge_command:fill_wedge", name="apply", help="The same as without this word.")
