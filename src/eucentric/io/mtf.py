"""Tables of a camera's modulation transfer, as RELION reads them: `rlnResolutionInversePixel` and `rlnMtfValue`."""

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.star import read_star
from eucentric.typing import FloatArray, PathLike

_FREQUENCY, _VALUE = "rlnResolutionInversePixel", "rlnMtfValue"


def read_mtf(path: PathLike) -> tuple[FloatArray, FloatArray]:
    """A table of an MTF.

    Returns
    -------
    frequencies (n,) in 1/pixel, ascending to about 0.5, and values (n,)

    Raises
    ------
    InputError : no such file
    FormatError : no such table, values that are not numbers, or frequencies that do not ascend to Nyquist
    """
    table = next((t for t in read_star(path).values() if {_FREQUENCY, _VALUE} <= set(t.columns)), None)
    if table is None:
        raise FormatError(f"`{path}` holds no table of an MTF: expected the columns {_FREQUENCY} and {_VALUE}.")
    try:
        frequency, value = (np.asarray(table[name], dtype=np.float64) for name in (_FREQUENCY, _VALUE))
    except ValueError as error:
        raise FormatError(f"`{path}` holds values of an MTF that are not numbers. Check the file.") from error
    whole = np.isfinite(frequency).all() and np.isfinite(value).all()
    if not whole or len(frequency) < 2 or (np.diff(frequency) <= 0).any() or not 0.45 <= frequency[-1] <= 0.55:
        raise FormatError(
            f"The MTF in `{path}` has {len(frequency)} frequencies to {frequency[-1] if len(frequency) else 0:g}; expected "
            "numbers that ascend to 0.5 1/pixel."
        )
    if value.min() < 0 or value.max() > 1.2:
        raise FormatError(
            f"The MTF in `{path}` runs from {value.min():g} to {value.max():g}; expected values from 0 to about 1."
        )
    return frequency, value
