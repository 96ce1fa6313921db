"""How far tilts agree on which of two explanations is better."""

import numpy as np

from eucentric.typing import FloatArray


def agreement_sigmas(log_ratios: FloatArray) -> float:
    """Mean vote over its standard error, positive where the tilts favour the first explanation.

    A log-likelihood ratio of s^2 / 2 is what s standard deviations of normal noise come to: s is a tilt's vote.
    Its scatter over the tilts also holds what the model leaves out.

    Parameters
    ----------
    log_ratios : (tilt,) log-likelihood of the first explanation less that of the second
    """
    if len(log_ratios) < 2:
        return 0.0
    votes = np.sign(log_ratios) * np.sqrt(2 * np.abs(log_ratios))
    error = float(np.std(votes, ddof=1)) / len(votes) ** 0.5
    return float(votes.mean()) / error if error > 0 else 0.0
