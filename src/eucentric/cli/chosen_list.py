"""The list of particles that a command works on, told to the user."""

import sys
from pathlib import Path


def chosen_list(target: Path) -> Path:
    """The list that a target means; of a project it is named, with what a person did to it."""
    from eucentric.pipeline.curation_lists import choose_list  # here, so that --help does not load torch

    chosen = choose_list(target)
    for line in chosen.lines:
        sys.stdout.write(f"{line}\n")
    return chosen.path
