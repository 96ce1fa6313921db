"""Arrays that a stage kept to be plotted (`.npz`)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError
from eucentric.io.guarded import ARCHIVE_DAMAGE


def read_curves(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name; none where there is no file.

    Raises
    ------
    FormatError : a damaged file, or one that holds more than plain arrays
    """
    if not path.is_file():
        return {}
    try:
        # numpy leaves a file of its own opening open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: np.asarray(stored[key]) for key in stored.files}
    except ARCHIVE_DAMAGE as error:
        raise FormatError(f"`{path}` cannot be read ({error}).") from error
