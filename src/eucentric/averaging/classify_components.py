r"""Principal differences of particles, each weighed by what its images say (probabilistic PCA with weights), and groups along them.

Each particle is :math:`V_0 + \sum_a z_a U_a` with normal z of variance one; what a wedge or a zero of the transfer hides has no
weight in it, so that z does not depend on what is missing but in how sure it is. Expectation and maximisation in turns [1]_.

References
----------
.. [1] Tipping & Bishop, J. R. Stat. Soc. B 61:611 (1999), doi:10.1111/1467-9868.00196; Tagare et al., J. Struct. Biol. 191:245
   (2015), doi:10.1016/j.jsb.2015.05.007
"""

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.cluster.vq import kmeans2
from torch import Tensor

from eucentric.averaging.classify_mixture import MixtureData, best_of, finished
from eucentric.averaging.classify_results import SortedSeveral
from eucentric.typing import FloatArray

_ITERATIONS = 30
_GROUPINGS = 10
_LEAST_POWER = 25.0
"""Of the prior's power of differences over the least one that a mixture looks for: 10% of the average's amplitude."""
_ROWS = 256  # particles at once


def principal_differences(
    data: MixtureData, components: int, *, seed: int
) -> tuple[Complex[Tensor, "component points"], FloatArray]:
    """Differences by falling variance, of length one deviation, and where each particle lies along them.

    Returns
    -------
    (component, points); (particle, component), rows of `data`, in the units of the differences' length
    """
    generator = torch.Generator().manual_seed(seed)
    given, grid = data.given, data.given.grid
    noise = torch.randn((components, *data.mask.shape), generator=generator).to(data.mask)
    prior = grid.shares / (_LEAST_POWER * data.floor)
    basis = data.masked(grid.spectra(noise))
    scale = (_LEAST_POWER * data.floor / components).sqrt()
    basis = basis / basis.abs().square().mean().sqrt() * scale
    pairs = torch.triu_indices(components, components, device=data.mask.device)
    for _ in range(_ITERATIONS):
        middle, second = _expected(data, basis, pairs)
        flat = torch.view_as_real(given.data).reshape(len(given), -1)
        right = torch.view_as_complex((middle.T.contiguous() @ flat).reshape(components, -1, 2))
        packed = second[:, pairs[0], pairs[1]].T.contiguous() @ given.power
        left = packed.new_empty((packed.shape[1], components, components))
        left[:, pairs[0], pairs[1]] = packed.T
        left[:, pairs[1], pairs[0]] = packed.T
        left += torch.diag_embed(prior[:, None].expand(-1, components))
        solved = torch.linalg.solve(left.to(right.dtype), right.T[:, :, None])[:, :, 0]
        # a scale of its own for the coordinates, without which convergence is slow
        spread = torch.linalg.cholesky(second.mean(0) + 1e-6 * torch.eye(components).to(second))
        basis = data.masked(spread.T.to(solved.dtype) @ solved.T).contiguous()
    middle, _ = _expected(data, basis, pairs)
    flat = torch.view_as_real(basis * grid.shares.sqrt()).reshape(components, -1).double()
    own, _, turn = torch.linalg.svd(flat @ flat.T)
    del own
    lengths = (turn @ flat).norm(dim=1)
    turned = turn.to(basis.dtype) @ basis
    return turned, (middle.double() @ turn.T * lengths).cpu().numpy()


def _expected(
    data: MixtureData, basis: Tensor, pairs: Tensor
) -> tuple[Float[Tensor, "particle c"], Float[Tensor, "particle c c"]]:
    """Mean and second moment of the coordinates of each particle."""
    given, count = data.given, len(basis)
    products = (basis[pairs[0]].conj() * basis[pairs[1]]).real
    against = torch.view_as_real(basis.contiguous()).reshape(count, -1)
    eye = torch.eye(count).to(given.power)
    middles, seconds = [], []
    for start in range(0, len(given), _ROWS):
        rows = slice(start, start + _ROWS)
        packed = given.power[rows] @ products.T
        inverse = eye.repeat(len(packed), 1, 1)
        inverse[:, pairs[0], pairs[1]] += packed
        lower = pairs[0] != pairs[1]
        inverse[:, pairs[1][lower], pairs[0][lower]] += packed[:, lower]
        flat = torch.view_as_real(given.data[rows]).reshape(len(packed), -1)
        variance = torch.linalg.inv(inverse)
        middle = (variance @ (flat @ against.T)[:, :, None])[:, :, 0]
        middles.append(middle)
        seconds.append(variance + middle[:, :, None] * middle[:, None, :])
    return torch.cat(middles), torch.cat(seconds)


def sort_by_components(data: MixtureData, classes: int, components: int, starts: int, *, seed: int) -> SortedSeveral:
    """Groups along the principal differences (k-means); probabilities and gain from the likelihood of the groups."""
    done, first = [], None
    for start in range(starts):
        basis, coordinates = principal_differences(data, components, seed=seed + start)
        first = first or (basis, coordinates)
        groups = _grouped(coordinates, classes, seed + start)
        done.append(finished(data, np.eye(classes)[groups], groups))
    assert first is not None
    found = best_of(done)
    return SortedSeveral(
        best=found.best,
        gains=found.gains,
        agreement=found.agreement,
        coordinates=data.to_list(first[1]),
        components=data.given.grid.maps(first[0]),
    )


def _grouped(coordinates: FloatArray, classes: int, seed: int) -> np.ndarray:
    """k-means from several beginnings, the tightest."""
    best, least = np.zeros(len(coordinates), dtype=np.int64), np.inf
    for i in range(_GROUPINGS):
        centres, groups = kmeans2(
            coordinates, classes, minit="++", rng=np.random.default_rng([seed, i]), missing="raise"
        )
        spread = float(np.square(coordinates - centres[groups]).sum())
        if spread < least:
            best, least = groups.astype(np.int64), spread
    return best
