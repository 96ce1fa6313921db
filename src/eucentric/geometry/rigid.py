"""Rigid motion that best carries one set of points onto another."""

import numpy as np
from numpy.typing import ArrayLike

from eucentric.typing import FloatArray


def rigid_fit(source: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Rotation R (3, 3) and translation t (3,) that minimise ``|R source + t - target|`` (Kabsch, no mirror).

    Parameters
    ----------
    source, target : (n, 3)
    """
    a, b = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    ca, cb = a.mean(0), b.mean(0)
    u, _, vt = np.linalg.svd((a - ca).T @ (b - cb))
    d = np.sign(np.linalg.det(vt.T @ u.T))
    rotation = vt.T @ np.diag([1.0, 1.0, d]) @ u.T
    return rotation, cb - rotation @ ca
