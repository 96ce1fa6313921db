"""How far tilts agree on which of two explanations is better."""

import numpy as np

from eucentric.typing import FloatArray


def agreement_sigmas(log_ratios: FloatArray, weights: FloatArray | None = None) -> float:
    """Mean vote over its standard error, positive where the tilts favour the first explanation.

    A log-likelihood ratio of s^2 / 2 is what s standard deviations of normal noise come to: s is a tilt's vote.
    Its scatter over the tilts also holds what the model leaves out.

    Parameters
    ----------
    log_ratios : (tilt,) log-likelihood of the first explanation less that of the second
    weights : (tilt,) size of the vote to be expected of each tilt, up to a factor; None for equal ones
    """
    if len(log_ratios) < 2:
        return 0.0
    votes = np.sign(log_ratios) * np.sqrt(2 * np.abs(log_ratios))
    expected = np.ones(len(votes)) if weights is None else np.asarray(weights, dtype=np.float64)
    power = float((expected**2).sum())
    if not power > 0:
        return 0.0
    size = float((expected * votes).sum()) / power
    error = float(np.sqrt(((votes - size * expected) ** 2).sum() / (len(votes) - 1) / power))
    return size / error if error > 0 else 0.0
