r"""From the products of all images to equations for unknowns that many images share, the particles' own eliminated.

Near the present geometry the log-likelihood of the images of particle p is :math:`\gamma_p \cdot q - \frac12 q^T \Gamma_p q` in the
changes q of its images, and these are linear in the shared unknowns and in seven of the particle's own: a move, a turn, the
logarithm of its contrast. Solved for the latter (a Schur complement of seven columns each), every particle says
:math:`r_p \cdot \theta - \frac12 \theta^T S_p \theta` of the shared unknowns :math:`\theta`. Sums over some particles make a fit; the
same expression over others tells what they gain from it, although they had no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Int
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import bsr_array, csr_array

from eucentric.refinement.image_sums import AT, BANDS, ImageSums
from eucentric.refinement.image_views import ImageViews
from eucentric.typing import FloatArray

OWN = 7
"""Unknowns of a particle: moves along x, y, z in A, turns about them in radians, the logarithm of its contrast."""
_OWN_LOCAL = ("x", "y", "turn_x", "turn_y", "turn_z", "defocus")
_MOVE_ANGSTROM, _TURN_RAD, _CONTRAST = 5.0, 0.05, 1.0
_OWN_PRECISION = np.array([_MOVE_ANGSTROM**-2] * 3 + [_TURN_RAD**-2] * 3 + [_CONTRAST**-2])
"""Of a step of a particle: so weak that only what its images hardly tell is held."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalTerms:
    """Gradient and curvature of the log-likelihood of every image by its local changes, with the contrast it has."""

    gradient: FloatArray
    """(image, local)."""
    curvature: FloatArray
    """(image, local, local)."""

    @classmethod
    def of(cls, sums: ImageSums, contrasts: FloatArray) -> Self:
        """
        Parameters
        ----------
        contrasts : (image,), of its particle
        """
        a = contrasts[:, None]
        gradient = a * sums.overlap - a**2 * sums.norm[:, :BANDS].sum(1)
        return cls(gradient=gradient, curvature=a[:, :, None] ** 2 * sums.norm)


def own_slopes(views: ImageViews) -> FloatArray:
    """(image, local, 7): how the changes of an image depend on its particle's unknowns."""
    out = np.zeros((len(views), len(AT), OWN))
    camera = views.matrices
    out[:, [AT["x"], AT["y"]], :3] = views.magnification[:, None, None] * camera[:, :2]
    out[:, AT["defocus"], :3] = views.hand * camera[:, 2]
    out[:, [AT["turn_x"], AT["turn_y"], AT["turn_z"]], 3:6] = camera
    out[:, :BANDS, 6] = 1.0
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnEquations:
    """Of each particle alone."""

    matrix: FloatArray
    """(particle, 7, 7), with the prior."""
    right: FloatArray
    """(particle, 7)."""

    @classmethod
    def build(cls, terms: LocalTerms, views: ImageViews) -> Self:
        """From all images."""
        slopes = own_slopes(views)
        turned = np.einsum("ikl,ilc->ikc", terms.curvature, slopes)
        matrix = np.zeros((views.particles, OWN, OWN))
        right = np.zeros((views.particles, OWN))
        np.add.at(matrix, views.particle, np.einsum("ikc,ikd->icd", slopes, turned))
        np.add.at(right, views.particle, np.einsum("ikc,ik->ic", slopes, terms.gradient))
        return cls(matrix=matrix + np.diag(_OWN_PRECISION), right=right)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldedEquations:
    """What sets of particles say of some unknowns, without any prior."""

    matrices: FloatArray
    """(fold, unknown, unknown)."""
    rights: FloatArray
    """(fold, unknown)."""

    def solve(self, precision: FloatArray, totals: FloatArray) -> FloatArray:
        """(unknown,) the most probable changes from all particles.

        Parameters
        ----------
        precision : (unknown, unknown), of the prior, which is about the state that refinement began with
        totals : (unknown,), what the unknowns have changed since
        """
        return _solved(self.matrices.sum(0), self.rights.sum(0), precision, totals)

    def deviations(self, precision: FloatArray) -> FloatArray:
        """(unknown,) one standard deviation of each."""
        both = np.linalg.pinv(self.matrices.sum(0) + precision, hermitian=True)
        return np.asarray(np.sqrt(np.clip(np.diag(both), 0.0, None)))

    def held_out(self, precision: FloatArray, totals: FloatArray) -> FloatArray:
        """(fold,) what the log-likelihood of each set gains over the state that refinement began with, from the unknowns that the
        other sets give.

        Near a quadratic log-likelihood it does not matter that the present state knows the set held out.
        """
        whole, right = self.matrices.sum(0), self.rights.sum(0)
        out = np.empty(len(self.matrices))
        for f, (matrix, own) in enumerate(zip(self.matrices, self.rights, strict=True)):
            change = _solved(whole - matrix, right - own, precision, totals)
            out[f] = own @ (change + totals) - 0.5 * (change @ matrix @ change - totals @ matrix @ totals)
        return out

    def along(self, unknowns: slice) -> "FoldedEquations":
        """Of some unknowns alone, all others following them as all sets together say."""
        count = self.rights.shape[1]
        inside = np.zeros(count, dtype=bool)
        inside[unknowns] = True
        whole = self.matrices.sum(0)
        basis = np.zeros((count, int(inside.sum())))
        basis[inside] = np.eye(int(inside.sum()))
        basis[~inside] = (
            -np.linalg.pinv(whole[np.ix_(~inside, ~inside)], hermitian=True) @ whole[np.ix_(~inside, inside)]
        )
        return FoldedEquations(matrices=basis.T @ self.matrices @ basis, rights=self.rights @ basis)

    def __add__(self, other: "FoldedEquations") -> "FoldedEquations":
        """Of other particles too, set by set."""
        return FoldedEquations(matrices=self.matrices + other.matrices, rights=self.rights + other.rights)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedEquations(FoldedEquations):
    """With what the particles' own unknowns follow from."""

    cross: FloatArray
    """(unknown, particle * 7), of all particles."""
    own: OwnEquations

    @classmethod
    def build(
        cls,
        terms: LocalTerms,
        views: ImageViews,
        columns: dict[str, csr_array],
        folds: Int[np.ndarray, " particle"],
        sets: int,
    ) -> Self:
        """
        Parameters
        ----------
        columns : local change: (image, unknown), how it depends on the shared unknowns
        folds : (particle,), the set of each, from 0
        sets : how many there are; some may be empty
        """
        used = sorted({*(AT[name] for name in columns), *(AT[name] for name in _OWN_LOCAL), *range(BANDS)})
        count, width = len(views), len(used)
        unknowns = next(iter(columns.values())).shape[1]
        shared = _interleaved(columns, used, count, unknowns)
        own_dense = own_slopes(views)[:, used]
        own = _own_matrix(own_dense, views)
        curvature = bsr_array(
            (np.ascontiguousarray(terms.curvature[:, used][:, :, used]), np.arange(count), np.arange(count + 1)),
            shape=(count * width, count * width),
        )
        weighted = csr_array(curvature @ shared)
        gradient = terms.gradient[:, used].reshape(-1)
        own_equations = OwnEquations.build(terms, views)
        inverse = np.linalg.inv(own_equations.matrix)
        cross = np.asarray((weighted.T @ own).toarray())
        matrices, rights = np.empty((sets, unknowns, unknowns)), np.empty((sets, unknowns))
        by_particle = cross.reshape(unknowns, views.particles, OWN)
        of_row = np.repeat(folds[views.particle], width)
        for f in range(sets):
            rows = np.flatnonzero(of_row == f)
            here = np.flatnonzero(folds == f)
            part = by_particle[:, here]
            solved = np.einsum("upc,pcd->upd", part, inverse[here])
            matrices[f] = (shared[rows].T @ weighted[rows]).toarray() - solved.reshape(unknowns, -1) @ part.reshape(
                unknowns, -1
            ).T
            rights[f] = shared[rows].T @ gradient[rows] - np.einsum("upc,pc->u", solved, own_equations.right[here])
        return cls(matrices=matrices, rights=rights, cross=cross, own=own_equations)

    def own_changes(self, theta: FloatArray) -> FloatArray:
        """(particle, 7) of all particles, given the shared unknowns."""
        count = len(self.own.right)
        right = self.own.right - (theta @ self.cross).reshape(count, OWN)
        return np.asarray(np.linalg.solve(self.own.matrix, right[..., None])[..., 0])


def _solved(matrix: FloatArray, right: FloatArray, precision: FloatArray, totals: FloatArray) -> FloatArray:
    return np.asarray(cho_solve(cho_factor(matrix + precision, lower=True), right - precision @ totals))


def _interleaved(columns: dict[str, csr_array], used: Sequence[int], count: int, unknowns: int) -> csr_array:
    """(image * local, unknown) from one matrix for each local change."""
    width = len(used)
    rows, places, values = [], [], []
    for name, matrix in columns.items():
        part = matrix.tocoo()
        rows.append(part.row.astype(np.int64) * width + used.index(AT[name]))
        places.append(part.col)
        values.append(part.data)
    return csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(places))), shape=(count * width, unknowns)
    )


def _own_matrix(slopes: FloatArray, views: ImageViews) -> csr_array:
    """(image * local, particle * 7) from (image, local, 7)."""
    count, width, _ = slopes.shape
    image, local, own = np.nonzero(slopes)
    return csr_array(
        (slopes[image, local, own], (image * width + local, views.particle[image] * OWN + own)),
        shape=(count * width, views.particles * OWN),
    )
