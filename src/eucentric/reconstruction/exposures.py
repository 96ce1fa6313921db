"""The exposure that an image of a series stands for."""

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray


def mid_exposures(count: int, pre_exposures: ArrayLike | None, doses: ArrayLike | None) -> FloatArray | None:
    """(tilt,) e/A^2 at the middle of each image; None where it is unknown.

    Parameters
    ----------
    count : of tilts
    pre_exposures, doses : (tilt,) e/A^2 before and during each image

    Raises
    ------
    ShapeError, InputError : not one number for each tilt; numbers that are not finite
    """
    if pre_exposures is None:
        return None
    before = np.asarray(pre_exposures, dtype=np.float64)
    during = np.zeros_like(before) if doses is None else np.asarray(doses, dtype=np.float64)
    if before.shape != (count,) or during.shape != (count,):
        raise ShapeError(
            f"{count} tilts, {before.shape} pre-exposures and {during.shape} doses were given; expected one each for "
            "every tilt."
        )
    if not (np.isfinite(before).all() and np.isfinite(during).all()):
        raise InputError(
            "A pre-exposure or dose is not finite. Give the dose with the import, or turn dose weighting off."
        )
    return np.asarray(before + 0.5 * during, dtype=np.float64)
