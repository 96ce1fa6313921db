"""What any reader may meet in a damaged file, told in words at one place: names that no file has, numbers past all measure."""

import contextlib
import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eucentric.errors import BackendError, FormatError
from eucentric.typing import PathLike

ARCHIVE_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, KeyError, ValueError, TypeError, EOFError, OSError, AttributeError,
    NotImplementedError, MemoryError, SyntaxError, ArithmeticError,
)  # fmt: skip
"""What numpy raises on damaged archives (`.npz`)."""


@contextlib.contextmanager
def reading(path: PathLike) -> Iterator[None]:
    """While a file of another program is read.

    Numbers that overflow become infinite without a warning: records refuse those.

    Raises
    ------
    FormatError : the file names another one by a text that cannot be a name, or is nested beyond measure
    BackendError : it does not fit into memory
    """
    place = Path(path)
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise FormatError(
            f"`{place}` names a file `{str(error.filename)[:60]}...`, which cannot be a name. It is damaged; copy it again."
        ) from error
    except RecursionError as error:
        raise FormatError(f"`{place}` is nested too deeply to be read. It is damaged; copy it again.") from error
    except MemoryError as error:
        raise BackendError(f"`{place}` does not fit into memory.") from error
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise FormatError(
            f"`{place}` names a file by a text with a null byte. It is damaged; copy it again."
        ) from error
