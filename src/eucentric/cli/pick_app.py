"""`eucentric pick`: template matching, and below it the commands of learned picking."""

from cyclopts import App

from eucentric.cli.pick_command import pick

app = App(name="pick", help="Find particles in tomograms by their structure.", help_format="plaintext")
app.default(pick)
for _name, _help in (
    ("train", "Train a network on labelled particles, or on simulated ones of given structures."),
    ("apply", "Find particles with a trained network."),
    ("embed", "Find everything like one example, or sort all objects of a tomogram."),
):
    app.command(f"eucentric.cli.learned_commands:{_name}", name=_name, help=_help)
