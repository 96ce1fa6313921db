"""Arrays that a stage kept to be plotted (`.npz`)."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError


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
    except (
        zipfile.BadZipFile, zlib.error, struct.error, KeyError, ValueError, TypeError, EOFError, OSError, AttributeError,
        NotImplementedError, MemoryError, SyntaxError, ArithmeticError,
    ) as error:  # fmt: skip
        raise FormatError(f"`{path}` cannot be read ({error}).") from error
