"""`eucentric denoise`: by a network or a filter, and below it the training."""

from cyclopts import App

from eucentric.cli.denoise_command import denoise

app = App(
    name="denoise",
    help="Denoise tomograms for the eye, by networks or filters; average from the raw data.",
    help_format="plaintext",
)
app.default(denoise)
app.command(
    "eucentric.cli.train_restorer_commands:train_denoiser",
    name="train",
    help="Train a network to denoise, from one half of tomograms to the other.",
)
app.command("eucentric.cli.denoise_command:denoise", name="apply", help="The same as without this word.")
