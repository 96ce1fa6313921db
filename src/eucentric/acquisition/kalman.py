"""A linear Gaussian state that is moved, measured and asked."""

from dataclasses import dataclass

import numpy as np

from eucentric.typing import FloatArray


@dataclass(slots=True, eq=False)
class Gaussian:
    """Unknown numbers with mean (n,) and covariance (n, n). Changed in place by its methods."""

    mean: FloatArray
    covariance: FloatArray

    def copy(self) -> "Gaussian":
        return Gaussian(self.mean.copy(), self.covariance.copy())

    def grown(self, mean: FloatArray, variance: FloatArray) -> "Gaussian":
        """With more unknowns behind the others, independent of them."""
        old, new = len(self.mean), len(self.mean) + len(mean)
        covariance = np.zeros((new, new))
        covariance[:old, :old] = self.covariance
        covariance[range(old, new), range(old, new)] = variance
        return Gaussian(np.concatenate([self.mean, mean]), covariance)

    def forget(self, where: slice, variance: FloatArray) -> None:
        """Draw some unknowns anew, independent of all: mean 0 and variances."""
        self.mean[where] = 0.0
        self.covariance[where, :] = 0.0
        self.covariance[:, where] = 0.0
        self.add(where, variance)

    def add(self, where: slice, variance: FloatArray | float) -> None:
        """Add a random walk's variance to some unknowns."""
        index = np.arange(where.start, where.stop)
        self.covariance[index, index] += variance

    def integrate(self, where: slice, rate: slice, seconds: float, kept: float) -> None:
        """``where += seconds * rate``, then ``rate *= kept``."""
        self.mean[where] += seconds * self.mean[rate]
        self.covariance[where, :] += seconds * self.covariance[rate, :]
        self.covariance[:, where] += seconds * self.covariance[:, rate]
        self.mean[rate] *= kept
        self.covariance[rate, :] *= kept
        self.covariance[:, rate] *= kept

    def seen(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (m,) and covariance (m, m) of ``rows @ unknowns``."""
        return rows @ self.mean, rows @ self.covariance @ rows.T

    def measure(self, rows: FloatArray, values: FloatArray, variance: FloatArray) -> None:
        """Learn that ``rows @ unknowns`` was found to be `values` (m,), each with a variance of its own."""
        gain_of = self.covariance @ rows.T
        gain = np.linalg.solve(rows @ gain_of + np.diag(variance), gain_of.T).T
        self.mean += gain @ (values - rows @ self.mean)
        # Joseph's form: stays positive where a vague prior meets a fine measurement
        left = np.eye(len(self.mean)) - gain @ rows
        covariance = left @ self.covariance @ left.T + (gain * variance) @ gain.T
        self.covariance = 0.5 * (covariance + covariance.T)
