"""`eucentric segment`: what lies where in tomograms, and below it trainings, other kinds of segmentation, and geometry."""

from cyclopts import App

from eucentric.cli.segment_command import segment

app = App(
    name="segment",
    help="Find membranes and whatever else was learned in tomograms; their surfaces, measures and counts.",
    help_format="plaintext",
)
app.default(segment)
for _module, _name, _help in (
    ("train_segmenter_commands", "train", "Train a network on labels, of a few slices or whole."),
    ("train_segmenter_commands", "apply", "Label tomograms with a trained network."),
    ("segment_classical_commands", "threshold", "Label what is above a level: objects, filtered and split."),
    ("segment_classical_commands", "faces", "Find the faces of the ice or lamella, and map its thickness."),
    ("segment_classical_commands", "filaments", "Trace microtubules, actin or other filaments, and label them."),
    ("segment_geometry_commands", "mesh", "Write meshes, oriented points and measures of labels."),
    ("segment_geometry_commands", "distances", "Measure distances and contacts between labels, and from particles."),
    ("segment_geometry_commands", "count", "Count objects for each parent, and test how they lie in space."),
    ("segment_label_commands", "convert", "Write labels in another format: MRC, TIFF, OME-Zarr, IMOD."),
):
    app.command(f"eucentric.cli.{_module}:{_name}", name=_name, help=_help)
