r"""Soft classes by the likelihood of their differences from the average of all, without turning particles.

Expectation: :math:`r_{ik} \propto \pi_k \exp L_i(\Delta_k)`. Maximisation:
:math:`\Delta_k = \sum_i r_{ik} d_i / (\sum_i r_{ik} w_i + \lambda)`, inside the mask. Particles are in sets, and each set is only
compared with what the others made of a class: a particle would else recognise its own noise in its class, and the more so the
smaller the class is. The prior :math:`\lambda` is one over the power of the differences in each shell, from products of what
two halves of the sets say of them.

From equal classes with a breath of chance, the iteration at a high temperature turns towards the largest common
difference, as a power iteration does. Then the temperature falls to that of the likelihood.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.special import logsumexp
from torch import Tensor

from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.averaging.classify_data import Differences
from eucentric.averaging.classify_results import Sorted, SortedSeveral, sort_by_size
from eucentric.errors import InputError
from eucentric.typing import FloatArray

_SETS = 8
_TURNING, _COOLING, _SETTLING = 24, 12, 40
"""Iterations: with the spread of log-likelihoods set to one, to the temperature of one, and to the end."""
_STILL = 1e-3
_LEAST_POWER = 4e-4
"""Of a difference over that of the average, in each shell, that is looked for: one of 2%."""
_TOGETHER = 32  # particles whose cubes are held at once
_LEAST_PART = 1e-3  # of the particles in a class


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixtureData:
    """Differences in order of their sets, with what all beginnings share."""

    given: Differences
    order: np.ndarray
    """Row of the list for each row here."""
    bounds: np.ndarray
    """(set + 1,), first rows."""
    mask: Float[Tensor, "z y x"]
    floor: Float[Tensor, " points"]
    """Least power of differences."""
    excess: Float[Tensor, "particle shell"]
    """What data and weights were divided by."""

    @classmethod
    def build(
        cls, given: Differences, mask: Float[Tensor, "z y x"], average: Float[Tensor, "z y x"], *, seed: int
    ) -> "MixtureData":
        """
        Parameters
        ----------
        mask, average : on the voxels of the cube; the average tells how large differences may be

        Raises
        ------
        InputError : fewer particles than two for each set
        """
        count = len(given)
        if count < 2 * _SETS:
            raise InputError(
                f"{count} particles were given; expected {2 * _SETS} or more to sort into classes, as each is compared with "
                "what the others made of a class."
            )
        sets = np.random.default_rng(seed).permutation(np.arange(count) % _SETS)
        order = np.argsort(sets, kind="stable")
        bounds = np.searchsorted(sets[order], np.arange(_SETS + 1))
        index = torch.from_numpy(order).to(given.data.device)
        sorted_ = Differences(grid=given.grid, data=given.data[index], power=given.power[index])
        spectrum = given.grid.spectra((average * mask)[None])[0]
        power = given.grid.shell_sums(spectrum.abs().square()) / given.grid.shell_sums(
            torch.ones_like(given.grid.shares)
        ).clamp_min(1.0)
        floor = (_LEAST_POWER * power[given.grid.shell]).to(mask).clamp_min(1e-12)
        none = torch.ones((count, given.grid.shells), dtype=torch.float64, device=mask.device)
        found = cls(given=sorted_, order=order, bounds=bounds, mask=mask, floor=floor, excess=none)
        return found.calibrated(sorted_.data)

    def calibrated(self, left: Complex[Tensor, "particle points"]) -> "MixtureData":
        """With weights by the noise that is there inside the mask: neighbours, membranes and beads are no white noise.

        Parameters
        ----------
        left : data less what is explained, rows as here, by the weights as they are
        """
        excess = excess_noise(replace(self.given, data=left), self.mask, self.excess)
        factor = (self.excess / excess)[:, self.given.grid.shell].to(self.given.power)
        given = replace(self.given, data=self.given.data * factor, power=self.given.power * factor)
        return replace(self, given=given, excess=excess)

    def explained(
        self, labels: np.ndarray, differences: Complex[Tensor, "class points"]
    ) -> Complex[Tensor, "particle points"]:
        """Data less the difference of the class of each, rows as here."""
        index = torch.from_numpy(labels).to(self.given.data.device)
        return self.given.data - self.given.power * differences[index]

    def of_list(self, values: np.ndarray) -> np.ndarray:
        """Rows as they are here from rows of the list."""
        return np.asarray(values[self.order])

    def to_list(self, values: np.ndarray) -> np.ndarray:
        out = np.empty_like(values)
        out[self.order] = values
        return out

    @property
    def sides(self) -> np.ndarray:
        """(particle,) 0 or 1 in the order of the list: which of every two sets, see `differences`."""
        return self.to_list(np.repeat(np.arange(_SETS) % 2, np.diff(self.bounds)))

    def set_rows(self, number: int) -> slice:
        return slice(int(self.bounds[number]), int(self.bounds[number + 1]))

    def masked(self, spectra: Complex[Tensor, "map points"]) -> Complex[Tensor, "map points"]:
        grid = self.given.grid
        return grid.spectra(grid.maps(spectra) * self.mask)

    def sums(self, shares: Float[Tensor, "particle class"]) -> tuple[Tensor, Tensor]:
        """(set, class, points): data and weights of each set."""
        flat = torch.view_as_real(self.given.data).reshape(len(self.given), -1)
        data, power = [], []
        for number in range(_SETS):
            rows = self.set_rows(number)
            part = shares[rows].T.contiguous()
            data.append(torch.view_as_complex((part @ flat[rows]).reshape(part.shape[0], -1, 2)))
            power.append(part @ self.given.power[rows])
        return torch.stack(data), torch.stack(power)

    def prior(self, data: Tensor, power: Tensor) -> Float[Tensor, " points"]:
        """One over the power of differences, from sums of all sets."""
        grid = self.given.grid
        a, b = data[0::2].sum(0), data[1::2].sum(0)
        both = grid.shell_sums((a.conj() * b).real.sum(0))
        weights = grid.shell_sums((power[0::2].sum(0) * power[1::2].sum(0)).sum(0))
        found = (both / weights.clamp_min(1e-30))[grid.shell].to(self.floor)
        return grid.shares / torch.maximum(found, self.floor)

    def log_likelihoods(self, differences: Complex[Tensor, "class points"], rows: slice) -> Float[Tensor, "some class"]:
        """Of each difference for some particles, against none."""
        flat = torch.view_as_real(self.given.data[rows]).reshape(rows.stop - rows.start, -1)
        against = torch.view_as_real(differences.contiguous()).reshape(len(differences), -1)
        return flat @ against.T - 0.5 * self.given.power[rows] @ differences.abs().square().T

    def held_out(self, shares: FloatArray) -> FloatArray:
        """(particle, class) log-likelihoods, of what the other sets make of each class."""
        given = torch.from_numpy(shares).to(self.given.power)
        data, power = self.sums(given)
        prior = self.prior(data, power)
        all_data, all_power = data.sum(0), power.sum(0)
        out = np.empty(shares.shape)
        for number in range(_SETS):
            solved = (all_data - data[number]) / (all_power - power[number] + prior)
            rows = self.set_rows(number)
            out[rows] = self.log_likelihoods(self.masked(solved), rows).cpu().double().numpy()
        return out

    def differences(self, shares: FloatArray, *, only: int | None = None) -> Complex[Tensor, "class points"]:
        """Of all particles, or of every second set (0 or 1)."""
        data, power = self.sums(torch.from_numpy(shares).to(self.given.power))
        prior = self.prior(data, power)
        some = slice(None) if only is None else slice(only, None, 2)
        return self.masked(data[some].sum(0) / (power[some].sum(0) + prior))


def excess_noise(
    given: Differences, mask: Float[Tensor, "z y x"], applied: Float[Tensor, "particle shell"]
) -> Float[Tensor, "particle shell"]:
    """Power of data inside a mask over that of the noise that the weights stand for, never below one.

    Of a shell: the median over particles, or a particle's own where that is more: one that lies beside a bead would else be a
    class.

    Parameters
    ----------
    applied : what data and weights were divided by before
    """
    grid, count = given.grid, len(given)
    found = torch.empty((count, grid.shells), dtype=torch.float64, device=mask.device)
    held = mask.square().mean()
    for start in range(0, count, _TOGETHER):
        rows = slice(start, start + _TOGETHER)
        inside = grid.spectra(grid.maps(given.data[rows]) * mask)
        power, expected = inside.abs().square(), given.power[rows] * grid.shares * held
        for i in range(len(power)):
            found[start + i] = grid.shell_sums(power[i]) / grid.shell_sums(expected[i]).clamp_min(1e-30)
    found *= applied
    seen = given.power.sum(1) > 0
    typical = found[seen].median(0).values.clamp_min(1.0)
    return torch.maximum(typical, found)


def sort_once(data: MixtureData, shares: FloatArray, *, cool: bool = True) -> Sorted:
    """Classes from a beginning.

    Parameters
    ----------
    shares : (particle, class), rows of `data` that add to one
    cool : begin at a high temperature; False goes on from shares that mean something
    """
    spread_steps = _TURNING if cool else 0
    temperature = 1.0
    for step in range(spread_steps + (_COOLING if cool else 0) + _SETTLING):
        likelihood = data.held_out(shares)
        if step < spread_steps:
            centred = likelihood - likelihood.mean(1, keepdims=True)
            temperature = max(float(centred.std()), 1e-12)
            new = _shares(likelihood, np.full(shares.shape[1], 1.0 / shares.shape[1]), temperature)
        else:
            passed = step - spread_steps
            falling = cool and passed < _COOLING
            now = temperature ** (1.0 - (passed + 1) / _COOLING) if falling else 1.0
            new = _shares(likelihood, _parts(shares), now)
            if not falling and np.abs(new - shares).mean() < _STILL:
                shares = new
                break
        shares = new
    return finished(data, shares)


def finished(data: MixtureData, shares: FloatArray, labels: np.ndarray | None = None) -> Sorted:
    """Probabilities, gain and differences of given shares (rows of `data`); in the order of the list.

    Parameters
    ----------
    labels : of rows of `data`, where other than the likeliest classes
    """
    likelihood = data.held_out(shares)
    parts = _parts(shares)
    probabilities = _shares(likelihood, parts, 1.0)
    gain = float(logsumexp(likelihood + np.log(parts), axis=1).mean())
    chosen = probabilities.argmax(1) if labels is None else labels
    return sort_by_size(
        Sorted(
            probabilities=data.to_list(probabilities),
            gain=gain,
            differences=data.differences(shares),
            labels=data.to_list(chosen),
        )
    )


def sort_several(
    data: MixtureData, classes: int, starts: int, *, seed: int, first: FloatArray | None = None
) -> SortedSeveral:
    """The likeliest of several beginnings.

    Parameters
    ----------
    first : shares (particle, class) in the order of the list that mean something: one more beginning
    """
    count = len(data.given)
    done = [] if first is None else [sort_once(data, data.of_list(first), cool=False)]
    for start in range(starts):
        rng = np.random.default_rng([seed, start])
        done.append(sort_once(data, rng.dirichlet(np.full(classes, 4.0), size=count)))
    return best_of(done)


def sort_mixture(
    data: MixtureData, classes: int, starts: int, *, seed: int, first: FloatArray | None = None
) -> SortedSeveral:
    """Soft classes from several beginnings; noise is then measured again with the classes taken off, and all is sorted again.

    Parameters
    ----------
    first : shares (particle, class) in the order of the list: one more beginning
    """
    found = sort_several(data, classes, starts, seed=seed, first=first)
    best = found.best
    better = data.calibrated(data.explained(data.of_list(best.labels), best.differences))
    return sort_several(better, classes, starts, seed=seed, first=best.probabilities)


def best_of(done: list[Sorted]) -> SortedSeveral:
    """The likeliest, and how far it agrees with the others."""
    ranked = sorted(done, key=lambda one: -one.gain)
    others = [adjusted_rand(ranked[0].labels, one.labels) for one in ranked[1:]]
    return SortedSeveral(
        best=ranked[0],
        gains=tuple(one.gain for one in ranked),
        agreement=float(np.median(others)) if others else math.nan,
    )


def _parts(shares: FloatArray) -> FloatArray:
    parts = np.maximum(shares.mean(0), _LEAST_PART)
    return np.asarray(parts / parts.sum())


def _shares(likelihood: FloatArray, parts: FloatArray, temperature: float) -> FloatArray:
    logs = likelihood / temperature + np.log(parts)
    return np.asarray(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)))
