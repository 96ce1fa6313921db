"""Aliases shared by every layer. Nothing here imports torch."""

import os
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

PathLike: TypeAlias = str | os.PathLike[str]
FloatArray: TypeAlias = NDArray[np.float64]
"""float64, for geometry and tables: small numbers that must stay exact."""
ImageArray: TypeAlias = NDArray[np.float32]
"""float32, for pixels and voxels: (y, x), (tilt, y, x) or (z, y, x)."""
