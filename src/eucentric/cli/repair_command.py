"""`eucentric repair`: what people set by hand between stages."""

import sys
from pathlib import Path

from eucentric.cli.options import AsJson, Debug, show_json


def repair(project: Path, /, *, edits: Path | None = None, as_json: AsJson = False, debug: Debug = False) -> int:
    """Show what is set by hand between stages: tracks, faces of the specimen, drawings and labels. Set it from a file with --edits.

    The pages Tracks and Draw of `eucentric view` make the same edits; `eucentric curate PROJECT --undo` takes the latest one back.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    edits
        edits to be made, as JSON: one on each line, as `curation/log.jsonl` has them, or a list
    """
    from eucentric.pipeline.repair_summary import do_edits_of_file, refresh_repairs, repairs_in_words
    from eucentric.pipeline.steps import find_project

    del debug  # read by the program itself
    root = find_project(project)
    done = [] if edits is None else do_edits_of_file(root, edits)
    refresh_repairs(root)
    found = repairs_in_words(root)
    for words in done:
        sys.stdout.write(f"{words[0].upper()}{words[1:]}.\n")
    for name, sentences in found.items():
        sys.stdout.write(f"{name}: {' '.join(sentences)}\n")
    if not found:
        sys.stdout.write("Nothing is set by hand. Open the pages Tracks and Draw of `eucentric view`.\n")
    if done:
        sys.stdout.write(f"Next: eucentric run {project}\n")
    if as_json:
        show_json({"exit_code": 0, "done": done, "by_hand": found})
    return 0
