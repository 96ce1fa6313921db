"""Targets files of PACEtomo (`NAME_tgts.txt`): the targets of one beam-image-shift group, the first the one that is tracked.

A target is a line `_tgt = 001` and lines `key = value` below it, words without blanks [1]_. Written are `tsfile`, the stack
to be made, `stageX` and `stageY` in um, and `skip`. Not written are `SSX` and `SSY`, specimen shifts that the acquisition
script works out from the stage positions where they are absent (only the microscope has the matrix), and `tgtfile`, an image
of the target, which only the microscope can take.

References
----------
.. [1] Eisenstein et al., Nat. Methods 20 (2023) 131, doi:10.1038/s41592-022-01690-1; form as read by version 1.8 of the scripts.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import FloatArray, PathLike

_NAME = re.compile(r"[A-Za-z0-9._+-]+")


def targets_file_name(name: str) -> str:
    """Name of the file of a group; the note of its first target must say it.

    Raises
    ------
    InputError : a name with blanks or other letters that the scripts would cut
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"The name `{name}` cannot stand in a targets file of PACEtomo. Expected letters, digits, and any of . _ + - alone."
        )
    return f"{name}_tgts.txt"


def write_targets_file(folder: PathLike, name: str, stage_um: FloatArray) -> Path:
    """Write the targets of a group.

    Parameters
    ----------
    folder : where the scripts look, with the frames
    name : root of all file names
    stage_um : (target, 2), the one to be tracked first

    Raises
    ------
    InputError : a name that cannot stand in the file, or no targets
    """
    places = np.atleast_2d(np.asarray(stage_um, dtype=np.float64))
    if places.shape[1:] != (2,) or not len(places):
        raise InputError(f"Stage positions of shape {places.shape} are no targets; expected x and y of each.")
    path = Path(folder) / targets_file_name(name)
    write_text_atomic(path, "\n".join(_block(name, number, place) for number, place in enumerate(places, 1)))
    return path


def _block(name: str, number: int, place: Sequence[float] | FloatArray) -> str:
    return (
        f"_tgt = {number:03d}\ntsfile = {name}_ts_{number:03d}.mrc\n"
        f"stageX = {place[0]:.3f}\nstageY = {place[1]:.3f}\nskip = False\n"
    )
