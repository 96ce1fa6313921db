r"""Maps of a half without the part of its particles that a particle is in itself.

A map holds the noise of every particle it was made of, in proportion to one over their number, and a particle's own noise agrees
with itself best where the particle is now and with the transfer that it was made with: it holds back what is to be
refined, and passes for a change of defocus. So each half is summed in parts, and a particle is compared with its own half less its own
part. Halves stay apart all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.iterate_average import filtered_half, joined_halves
from eucentric.averaging.results import AverageResult
from eucentric.averaging.solve_average import solve_average
from eucentric.errors import InputError
from eucentric.geometry.symmetry import symmetry_rotations


def parts_of_halves(halves: Int[np.ndarray, " particle"], parts: int, *, seed: int = 0) -> Int[np.ndarray, " particle"]:
    """(particle,) number of the part of each, those of half 1 first: ``parts`` for each half, all alike in size.

    Raises
    ------
    InputError : a half with fewer particles than two parts need
    """
    generator = np.random.default_rng(seed)
    out = np.full(len(halves), -1, dtype=np.int64)
    for half in (1, 2):
        rows = np.flatnonzero(halves == half)
        if len(rows) < 2:
            raise InputError(
                f"Half {half} has {len(rows)} particle{'s' if len(rows) != 1 else ''}; two at least are needed for one to be compared "
                "with others. Average more particles."
            )
        out[rows] = (half - 1) * parts + generator.permutation(len(rows)) % parts
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartSums:
    """Sums over the images of each part of each half."""

    sums: tuple[FourierSums, ...]
    """Of the parts of half 1, then of those of half 2."""
    part: Int[np.ndarray, " particle"]
    tilts_used: Int[np.ndarray, " particle"]

    @property
    def parts(self) -> int:
        """Of each half."""
        return len(self.sums) // 2

    def halves(self) -> tuple[FourierSums, FourierSums]:
        """Of all parts together."""
        first, second = (_added(self.sums[h * self.parts : (h + 1) * self.parts]) for h in (0, 1))
        return first, second

    def references(
        self, result: AverageResult, symmetry: str, *, finest_angstrom: float, joined_angstrom: float
    ) -> tuple[Float[Tensor, "n n n"], ...]:
        """What the particles of each part are compared with: their half without them, filtered by how the halves agree, masked.

        Parameters
        ----------
        finest_angstrom : A, detail that counts
        joined_angstrom : A; coarser detail is that of both halves, without that part of either
        """
        group = symmetry_rotations(symmetry)
        halves = self.halves()
        voxel = result.voxel_size_angstrom
        out: list[list[Tensor]] = [[], []]
        for j in range(self.parts):
            pair = []
            for h, whole in enumerate(halves):
                rest = whole if self.parts == 1 else _less(whole, self.sums[h * self.parts + j])
                volume = solve_average(*rest.finished(group))
                pair.append(filtered_half(volume, result.mask, result.correlation, finest_angstrom))
            for h, volume in enumerate(joined_halves(pair[0], pair[1], voxel, joined_angstrom)):
                out[h].append(volume)
        return (*out[0], *out[1])


def _added(sums: Sequence[FourierSums]) -> FourierSums:
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total


def _less(whole: FourierSums, part: FourierSums) -> FourierSums:
    return FourierSums(
        data=whole.data - part.data,
        weight=whole.weight - part.weight,
        box_size=whole.box_size,
        voxel_size_angstrom=whole.voxel_size_angstrom,
        images=whole.images - part.images,
    )
